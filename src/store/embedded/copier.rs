//! The thread that copies the log into the database, so that commits do not wait for that.
//!
//! It has a connection of its own, and writes only what the log holds already. The writer says when, and
//! is never in the way: a passive checkpoint copies up to the newest commit and waits for nobody.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvError, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::Health;
use super::opening::connect;
use super::writer::{Alarm, Failure, pragma};

/// Copies on demand. Dropping it waits until a copying that was begun is over.
pub(super) struct Copier {
    // `None` only while it is being dropped.
    begin: Option<SyncSender<()>>,
    ended: Receiver<Result<(), Failure>>,
    thread: Option<JoinHandle<()>>,
    copying: bool,
}

impl Copier {
    /// Opens a second connection to a database that is open already.
    pub(super) fn start(database: &Path, health: Arc<Health>) -> Result<Self, String> {
        let connection = connect(database)?;
        // A connection finds out at its first read that there is a log.
        pragma(&connection, "PRAGMA schema_version").map_err(|error| error.to_string())?;
        // The writer's connection is the last to close, and does so in an orderly way.
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .map_err(|error| error.to_string())?;
        let (begin, begun) = sync_channel(1);
        let (end, ended) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("semel-copier".to_owned())
            .spawn(move || {
                let _alarm = Alarm::new(Arc::clone(&health), "its copier thread panicked");
                while let Ok(()) = begun.recv() {
                    let copied = copy(&connection);
                    if let Err(Failure::Broken(reason)) = &copied {
                        // At once: the writer answers nothing any more that it commits from here on.
                        health.fail(reason.clone());
                    }
                    if end.send(copied).is_err() {
                        return;
                    }
                }
            })
            .map_err(|error| error.to_string())?;
        Ok(Self { begin: Some(begin), ended, thread: Some(thread), copying: false })
    }

    /// Begins to copy, unless it is copying.
    pub(super) fn begin(&mut self) {
        if let Some(begin) = self.begin.as_ref().filter(|_| !self.copying) {
            // A thread that is gone has said why in `Health`.
            self.copying = begin.send(()).is_ok();
        }
    }

    pub(super) fn is_copying(&self) -> bool {
        self.copying
    }

    /// How a copying that was begun has ended, if it has.
    pub(super) fn ended(&mut self) -> Option<Result<(), Failure>> {
        match self.ended.try_recv() {
            Ok(copied) => Some(self.note(copied)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(gone())),
        }
    }

    /// Waits until nothing is being copied.
    pub(super) fn wait(&mut self) -> Result<(), Failure> {
        if !self.copying {
            return Ok(());
        }
        match self.ended.recv() {
            Ok(copied) => self.note(copied),
            Err(RecvError) => Err(gone()),
        }
    }

    fn note(&mut self, copied: Result<(), Failure>) -> Result<(), Failure> {
        self.copying = false;
        copied
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        drop(self.begin.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has been noted in `health` already.
            drop(thread.join());
        }
    }
}

fn gone() -> Failure {
    Failure::Broken("its copier thread has ended".to_owned())
}

/// Copies what is committed from the log into the database; once all is copied, the next write begins
/// the log anew.
pub(super) fn copy(connection: &Connection) -> Result<(), Failure> {
    let mut checkpoint = connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?;
    Ok(checkpoint.query_row([], |_| Ok(()))?)
}
