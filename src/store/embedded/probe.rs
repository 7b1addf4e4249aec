//! Looks at a folder without making, taking or changing anything in it.

use std::fs::File;
use std::io;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::OpenError;
use super::folder::{self, Looked};
use super::table::Meta;
use crate::store::Charter;

/// What a folder is to a process that would start on it.
#[derive(Debug)]
pub struct Probed {
    /// What is in it.
    pub state: Probe,
    /// What a restart may cost on its medium.
    pub warnings: Vec<String>,
}

/// What is in a folder.
#[derive(Debug)]
pub enum Probe {
    /// No store.
    Missing,
    /// One that a process runs on.
    InUse,
    /// One that can be read, and its charter.
    Idle(Option<Charter>),
}

/// Looks. For that moment no process can start on the folder.
///
/// # Errors
/// [`OpenError`], if a process could not use it.
pub fn probe(path: &Path) -> Result<Probed, OpenError> {
    let failed = |error| OpenError::Folder { folder: path.to_owned(), error };
    let looked = folder::look(path)?;
    let Some(looked) = looked else {
        return Ok(Probed { state: Probe::Missing, warnings: Vec::new() });
    };
    let Looked { warning, lock, has_database, has_log, was_in_use } = looked;
    let warnings = warning.into_iter().collect();
    let _lock: Option<File> = match lock {
        Some(lock) => match lock.try_lock_shared() {
            Ok(()) => Some(lock),
            Err(std::fs::TryLockError::WouldBlock) => {
                return Ok(Probed { state: Probe::InUse, warnings });
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
        },
        None => None,
    };
    if !has_database && was_in_use {
        let what = "its database (semel.db) is missing or empty".to_owned();
        return Err(OpenError::Lost { folder: path.to_owned(), what });
    }
    let state = match (has_database, has_log) {
        (false, _) => Probe::Missing,
        (true, true) => Probe::Idle(charter(&with_log(path)).map_err(failed)?),
        (true, false) => Probe::Idle(charter(&alone(path)).map_err(failed)?),
    };
    Ok(Probed { state, warnings })
}

fn charter(opened: &rusqlite::Result<Connection>) -> io::Result<Option<Charter>> {
    let meta = opened.as_ref().map(Meta::read);
    match meta {
        Ok(Ok(meta)) => Ok(meta.charter),
        Ok(Err(error)) => Err(io::Error::other(error)),
        Err(error) => Err(io::Error::other(error.to_string())),
    }
}

/// Opens a database that was closed in an orderly way, as a file that cannot change: so that no log
/// or index is made beside it.
fn alone(path: &Path) -> rusqlite::Result<Connection> {
    let database = std::path::absolute(folder::database(path)).unwrap_or_default();
    let encoded =
        percent_encoding::percent_encode(database.as_os_str().as_encoded_bytes(), URI_PATH);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(format!("file:{encoded}?immutable=1"), flags)
}

/// Opens one whose last writes are in its log, and leaves both as they are: the log's index is made
/// in memory, and nothing is folded in at the end.
fn with_log(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(folder::database(path), flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// What a path in a URI has encoded.
const URI_PATH: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.');
