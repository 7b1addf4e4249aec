//! The thread that owns the database: it commits in groups, and answers only what is on the disk.
//!
//! What fails for lack of room is undone and tried again one by one, so that one question does not
//! take its neighbours down. Any other failure is for good: after a sync that failed, nobody knows
//! what the disk holds, so nothing more is answered but that.

use std::io;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use super::Health;
use super::clock::Clock;
use super::copier::{Copier, copy};
use super::folder::{Files, Folder};
use super::table::{Group, Meta, Room, Trouble};
use crate::protocol::id::StoreId;
use crate::store::{Charter, Examination, Fence, Refusal, StoreError};

/// How many questions are committed together.
const GROUP_MAX: usize = 256;
/// How long the queue is empty before the log is copied into the database, however little there is.
const IDLE_GAP: Duration = Duration::from_millis(100);
/// How many pages are in the log that are not yet in the database before copying begins.
const COPY_PAGES: u64 = 1024;
/// How many pages the log has before the writer copies the last of it, so that it begins anew.
const RENEW_PAGES: u64 = 16 * 1024;
/// How many pages the writer copies then: about as much as it commits in a few groups.
const RENEW_LEFT_MAX: u64 = 64;
/// How many pages the log may have. Beyond, the writer waits for the copier: the disk cannot keep pace.
const LOG_PAGES_MAX: u64 = 64 * 1024;
/// How long to wait before setting disk aside anew.
const RESERVE_PAUSE: Duration = Duration::from_secs(5);
/// How far the wall clock may be behind the newest write before it is worth a warning.
const BEHIND_MAX: Duration = Duration::from_secs(60);

/// A question to the writer, with the place for its answer.
pub(super) trait Asked: Send {
    /// Does it inside the open transaction and keeps the answer. May be called again if the
    /// transaction was undone.
    fn perform(&mut self, group: &mut Group<'_>) -> rusqlite::Result<()>;
    /// Drops the answer: the transaction was undone.
    fn undo(&mut self);
    /// Answers that there is no room.
    fn refuse(&mut self, refusal: Refusal);
    /// Sends the answer. Without one, whoever asked reads in [`Health`] why.
    fn answer(self: Box<Self>);
}

/// The one kind of [`Asked`].
pub(super) struct Ask<T, F> {
    work: F,
    answer: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Ask<T, F> {
    pub(super) fn new(work: F, reply: oneshot::Sender<Result<T, StoreError>>) -> Self {
        Self { work, answer: None, reply }
    }
}

impl<T, F> Asked for Ask<T, F>
where
    T: Send,
    F: FnMut(&mut Group<'_>) -> Result<T, Trouble> + Send,
{
    fn perform(&mut self, group: &mut Group<'_>) -> rusqlite::Result<()> {
        self.answer = Some(match (self.work)(group) {
            Ok(answer) => Ok(answer),
            Err(Trouble::Refused(refusal)) => Err(refusal.into()),
            Err(Trouble::Database(error)) => return Err(error),
        });
        Ok(())
    }

    fn undo(&mut self) {
        self.answer = None;
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.answer = Some(Err(refusal.into()));
    }

    fn answer(self: Box<Self>) {
        if let Some(answer) = self.answer {
            // Whoever asked may have left; what was done is done.
            drop(self.reply.send(answer));
        }
    }
}

/// Why a group was not committed.
#[derive(Debug)]
pub(super) enum Failure {
    /// For lack of room. Undone; nothing of it happened.
    Full,
    /// The medium cannot be relied on any more.
    Broken(String),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(_) | None => Self::Broken(error.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// The owner of the database. [`Writer::open`] is in [`super::opening`].
pub(super) struct Writer {
    // These two are dropped before the folder, whose lock must outlive the open database. `None` once the
    // database is about to be closed.
    pub(super) copier: Option<Copier>,
    pub(super) connection: Connection,
    pub(super) files: Files,
    /// How many pages may be in use while claims are taken; the rest is for what became of them.
    pub(super) pages_max: Option<u64>,
    pub(super) reserve: Reserve,
    pub(super) clock: Clock,
    pub(super) fence: Arc<Fence>,
    pub(super) health: Arc<Health>,
    pub(super) folder: Folder,
}

/// Disk space set aside.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reserve {
    /// It is there.
    Kept,
    /// It was given up, or could not be had, at this moment.
    Spent(Instant),
}

/// Notes a panic of the thread that it lives on.
pub(super) struct Alarm {
    health: Arc<Health>,
    what: &'static str,
}

impl Alarm {
    pub(super) fn new(health: Arc<Health>, what: &'static str) -> Self {
        Self { health, what }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.health.fail(self.what.to_owned());
        }
    }
}

/// How long the log is.
#[derive(Debug, Clone, Copy)]
struct Log {
    pages: u64,
    /// How many of them are not in the database yet.
    left: u64,
}

impl Writer {
    /// Answers questions until nobody can ask any more, or the medium fails.
    pub(super) fn run(mut self, mut asked: mpsc::Receiver<Box<dyn Asked>>) {
        let _alarm = Alarm::new(Arc::clone(&self.health), "its writer thread panicked");
        if let Err(failure) = self.serve(&mut asked).and_then(|()| self.close()) {
            self.health.fail(match failure {
                Failure::Full => "there is no room to close the database".to_owned(),
                Failure::Broken(reason) => reason,
            });
            // Closing must not touch a medium that failed. If this fails too, nothing is lost:
            // only what was committed can be copied.
            let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
    }

    fn serve(&mut self, asked: &mut mpsc::Receiver<Box<dyn Asked>>) -> Result<(), Failure> {
        // Only for its timer: no other wait on a channel that async code fills has an end.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let mut group = Vec::with_capacity(GROUP_MAX);
        let mut tidy = true;
        loop {
            let next = asked.recv_many(&mut group, GROUP_MAX);
            let received = runtime.block_on(async {
                if tidy { Ok(next.await) } else { tokio::time::timeout(IDLE_GAP, next).await }
            });
            match received {
                Ok(0) => return Ok(()),
                Ok(_) => {
                    self.answer(&mut group)?;
                    self.shorten_log()?;
                    tidy = false;
                }
                Err(_) => tidy = self.tidy_up()?,
            }
        }
    }

    /// Commits what was asked, and answers it.
    fn answer(&mut self, group: &mut Vec<Box<dyn Asked>>) -> Result<(), Failure> {
        let done = match self.commit(group) {
            Err(Failure::Full) => self.commit_each(group),
            Ok(()) => Ok(()),
            Err(Failure::Broken(reason)) => Err(Failure::Broken(reason)),
        };
        if let Err(Failure::Broken(reason)) = &done {
            // Before the answers: who gets none reads it there.
            self.health.fail(reason.clone());
        }
        group.drain(..).for_each(Asked::answer);
        done
    }

    /// Gives the reserve up and tries one by one, so that only what does not fit is refused.
    fn commit_each(&mut self, group: &mut [Box<dyn Asked>]) -> Result<(), Failure> {
        self.spend()?;
        for ask in group {
            match self.commit(slice::from_mut(ask)) {
                Ok(()) => {}
                Err(Failure::Full) => ask.refuse(Refusal::Full),
                Err(Failure::Broken(reason)) => return Err(Failure::Broken(reason)),
            }
        }
        Ok(())
    }

    /// Does everything in one transaction, or nothing.
    fn commit(&mut self, asks: &mut [Box<dyn Asked>]) -> Result<(), Failure> {
        let done = self.transact(asks);
        if done.is_err() {
            asks.iter_mut().for_each(|ask| ask.undo());
            if !self.connection.is_autocommit() {
                let undone = self.connection.execute_batch("ROLLBACK");
                undone.map_err(|error| Failure::Broken(error.to_string()))?;
            }
        }
        done
    }

    fn transact(&mut self, asks: &mut [Box<dyn Asked>]) -> Result<(), Failure> {
        if self.folder.files().ok() != Some(self.files) {
            return Err(Failure::Broken("its files were moved or deleted in use".to_owned()));
        }
        let room = self.room()?;
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let before = Meta::read(&self.connection)?;
        let mut group = Group {
            connection: &self.connection,
            meta: before,
            fence: &self.fence,
            now: self.clock.now(),
            room,
            examine: &|meta| self.examine(meta, room),
        };
        for ask in asks {
            ask.perform(&mut group)?;
        }
        let after = group.meta;
        if after != before {
            after.write(&self.connection)?;
        }
        let exchanged = exchanged(before.charter, after.charter);
        if let Some((Some(from), to)) = exchanged {
            self.folder.mark(&[from, to])?;
        }
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        if self.health.broken.is_cancelled() {
            // The copier has met a failure meanwhile. What is committed may be on the disk or not.
            return Err(Failure::Broken(self.health.error().to_string()));
        }
        if let Some((_, to)) = exchanged {
            // After the charter, never before: a marker without its database refuses to start.
            self.folder.mark(&[to])?;
        }
        // Only what is on the disk has been seen.
        self.fence.saw(after.count);
        Ok(())
    }

    /// Notes an orderly end, and leaves one file.
    fn close(&mut self) -> Result<(), Failure> {
        if let Some(mut copier) = self.copier.take() {
            let waited = copier.wait();
            self.copied(waited)?;
            // Its connection is closed here: only the last one can do away with the log.
        }
        let meta = Meta { closed: true, ..Meta::read(&self.connection)? };
        meta.write(&self.connection)?;
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }

    /// Has the log copied while commits go on, and begins it anew when next to nothing is left to copy.
    ///
    /// Under load new commits are always ahead of the copier; so the last bit is the writer's, between two
    /// groups. Until then the log grows: copying all of it here would stall everyone.
    fn shorten_log(&mut self) -> Result<(), Failure> {
        let ended = self.copier()?.ended();
        ended.map_or(Ok(()), |copied| self.copied(copied))?;
        let log = self.log()?;
        if log.pages > LOG_PAGES_MAX {
            let waited = self.copier()?.wait();
            self.copied(waited)?;
            return self.checkpoint();
        }
        if log.left == 0 || self.copier()?.is_copying() {
            return Ok(());
        }
        let long = log.pages > RENEW_PAGES;
        if long && log.left <= RENEW_LEFT_MAX {
            return self.checkpoint();
        }
        if long || log.left > COPY_PAGES {
            self.copier()?.begin();
        }
        Ok(())
    }

    /// Has what is left of the log copied; says whether nothing was.
    fn tidy_up(&mut self) -> Result<bool, Failure> {
        let ended = self.copier()?.ended();
        ended.map_or(Ok(()), |copied| self.copied(copied))?;
        let is_tidy = self.log()?.left == 0;
        if !is_tidy {
            self.copier()?.begin();
        }
        Ok(is_tidy)
    }

    fn copier(&mut self) -> Result<&mut Copier, Failure> {
        self.copier.as_mut().ok_or_else(|| Failure::Broken("it is being closed".to_owned()))
    }

    fn log(&self) -> Result<Log, Failure> {
        let mut query = self.connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?;
        let count = |number: i64| u64::try_from(number).unwrap_or_default();
        Ok(query.query_row([], |row| {
            let (pages, copied) = (count(row.get(1)?), count(row.get(2)?));
            Ok(Log { pages, left: pages.saturating_sub(copied) })
        })?)
    }

    /// Copies the log into the database; the next write then begins it anew.
    fn checkpoint(&mut self) -> Result<(), Failure> {
        let done = copy(&self.connection);
        self.copied(done)
    }

    fn copied(&mut self, copied: Result<(), Failure>) -> Result<(), Failure> {
        match copied {
            // The log still holds everything. It can be copied when there is room.
            Err(Failure::Full) => self.spend(),
            Err(Failure::Broken(reason)) => Err(Failure::Broken(reason)),
            Ok(()) => Ok(()),
        }
    }

    /// Gives up the disk that was set aside.
    fn spend(&mut self) -> Result<(), Failure> {
        self.folder.spend()?;
        self.reserve = Reserve::Spent(Instant::now());
        Ok(())
    }

    /// Whether claims are taken.
    fn room(&mut self) -> Result<Room, Failure> {
        if let Reserve::Spent(since) = self.reserve {
            if since.elapsed() < RESERVE_PAUSE {
                return Ok(Room::Reserve);
            }
            self.reserve = Reserve::set_aside(&self.folder);
            if let Reserve::Spent(_) = self.reserve {
                return Ok(Room::Reserve);
            }
        }
        let Some(pages_max) = self.pages_max else { return Ok(Room::Ample) };
        let full = self.pages_used()? > pages_max;
        Ok(if full { Room::Reserve } else { Room::Ample })
    }

    fn pages_used(&self) -> rusqlite::Result<u64> {
        let count = pragma(&self.connection, "PRAGMA page_count")?;
        Ok(count.saturating_sub(pragma(&self.connection, "PRAGMA freelist_count")?))
    }

    fn examine(&self, meta: &Meta, room: Room) -> Examination {
        let mut warnings = Vec::from_iter(self.folder.warning());
        if self.clock.behind() > BEHIND_MAX {
            warnings.push(format!(
                "the clock was {} s behind the newest record when the store was opened; \
                 records seem younger by as much",
                self.clock.behind().as_secs()
            ));
        }
        if let Reserve::Spent(_) = self.reserve {
            warnings.push("the disk is full; no disk is set aside for settlements".to_owned());
        }
        Examination {
            what: format!("SQLite {} in {}", rusqlite::version(), self.folder.path().display()),
            entries: Some(meta.entries),
            headroom: if room == Room::Ample { self.headroom() } else { Some(0.0) },
            warnings,
            refusals: Vec::new(),
        }
    }

    /// Share of the capacity that claims may still use.
    fn headroom(&self) -> Option<f64> {
        let used = self.pages_used().ok()?;
        let free = match self.pages_max {
            Some(pages_max) => pages_max.saturating_sub(used),
            None => self.folder.free().ok()? / pragma(&self.connection, "PRAGMA page_size").ok()?,
        };
        Some(free as f64 / (free + used).max(1) as f64)
    }
}

impl Reserve {
    /// Sets disk aside, if it is there already or there is plenty.
    pub(super) fn set_aside(folder: &Folder) -> Self {
        match folder.set_aside() {
            Ok(()) => Self::Kept,
            Err(_) => Self::Spent(Instant::now()),
        }
    }
}

/// Asks for a number that is never negative.
pub(super) fn pragma(connection: &Connection, query: &'static str) -> rusqlite::Result<u64> {
    connection
        .prepare_cached(query)?
        .query_row([], |row| row.get::<_, i64>(0))
        .map(i64::cast_unsigned)
}

/// From which identity to which the charter went, if it did.
fn exchanged(
    before: Option<Charter>,
    after: Option<Charter>,
) -> Option<(Option<StoreId>, StoreId)> {
    let (from, to) = (before.map(|charter| charter.identity), after?.identity);
    (from != Some(to)).then_some((from, to))
}
