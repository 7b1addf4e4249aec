//! Looks at a folder without making, taking or changing anything in it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

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
    /// One whose last writes are still in its log.
    Unfolded,
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
    let Looked { warning, lock, has_database, has_log, was_in_use } = match looked {
        Some(looked) => looked,
        None => return Ok(Probed { state: Probe::Missing, warnings: Vec::new() }),
    };
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
        (true, true) => Probe::Unfolded,
        (true, false) => Probe::Idle(charter(&folder::database(path)).map_err(failed)?),
    };
    Ok(Probed { state, warnings })
}

/// Reads the charter from a database that nobody writes to, as a file that cannot change: so that
/// no log or index is made beside it.
fn charter(database: &Path) -> io::Result<Option<Charter>> {
    let database: PathBuf = std::path::absolute(database)?;
    let encoded = percent_encoding::utf8_percent_encode(
        database.to_str().ok_or(io::ErrorKind::InvalidFilename)?,
        URI_PATH,
    );
    let uri = format!("file:{encoded}?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri, flags).map_err(io::Error::other)?;
    Meta::read(&connection).map(|meta| meta.charter).map_err(io::Error::other)
}

/// What a path in a URI has encoded.
const URI_PATH: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.');
