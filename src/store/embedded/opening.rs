//! Opens a folder as a store, or says why that would not be safe.
//!
//! The rule: a folder that was in use and does not hold what it held is a failure to start, never
//! a new store. `semel store accept` alone may open it in spite of that.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::clock::Clock;
use super::copier::Copier;
use super::folder::Folder;
use super::table::{self, Meta};
use super::writer::{Reserve, Writer, pragma};
use super::{Health, OpenError, Settings};
use crate::protocol::id::StoreId;
use crate::store::Fence;

/// The oldest SQLite without the WAL-reset bug, as `sqlite3_libversion_number` says it.
const SQLITE_MIN: i32 = 3_051_003;
/// SQLite's locking that keeps other processes out, and lets this process's connections in.
const EXCLUSIVE: &str = "unix-excl";
/// Kibibytes of page cache, negative as SQLite wants it. Enough for the inner pages of the index of many
/// millions of records. More would cost: SQLite walks all of it in a commit that splits a page.
const CACHE: i32 = -4_096;

impl Writer {
    /// Opens the folder and the database in it.
    pub(super) fn open(
        settings: &Settings,
        fence: Arc<Fence>,
        health: Arc<Health>,
    ) -> Result<Self, OpenError> {
        if rusqlite::version_number() < SQLITE_MIN {
            return Err(OpenError::TooOld(rusqlite::version()));
        }
        let failed = |error| OpenError::Folder { folder: settings.path.clone(), error };
        let damaged = |what: String| OpenError::Database { folder: settings.path.clone(), what };
        let folder = Folder::enter(&settings.path, settings.reserve)?;
        let marker = marker(&folder, settings)?;
        let had_log = folder.has_log().map_err(failed)?;
        folder.prepare().map_err(failed)?;
        let database = folder.database();
        let connection = connect(&database).map_err(damaged)?;
        set_up(&connection).map_err(damaged)?;
        let meta = Meta::read(&connection).map_err(|error| damaged(error.to_string()))?;
        if !settings.accept {
            compare(&meta, &marker, had_log)
                .map_err(|what| OpenError::Lost { folder: settings.path.clone(), what })?;
        }
        if !meta.closed {
            check(&connection).map_err(damaged)?;
        }
        take(&connection, &folder, &meta).map_err(|error| damaged(error.to_string()))?;
        if let Some(charter) = meta.charter.filter(|charter| marker != [charter.identity]) {
            folder.mark(&[charter.identity]).map_err(failed)?;
        }
        // After it was taken: before that there need not be a log.
        let files = folder.files().map_err(failed)?;
        let pages_max = settings
            .size_max
            .map(|size_max| limit(&connection, size_max, settings.reserve))
            .transpose()
            .map_err(|error| damaged(error.to_string()))?;
        // A disk that is full already is no reason not to start: settlements must flow.
        let reserve = Reserve::set_aside(&folder);
        let clock = Clock::start(meta.clock);
        let copier = Some(Copier::start(&database, Arc::clone(&health)).map_err(damaged)?);
        Ok(Self { copier, connection, files, pages_max, reserve, clock, fence, health, folder })
    }
}

/// Reads to which stores the folder belongs, and refuses one whose database is gone.
fn marker(folder: &Folder, settings: &Settings) -> Result<Vec<StoreId>, OpenError> {
    let marker = match folder.marker() {
        Err(OpenError::Marker { .. }) if settings.accept => Vec::new(),
        marker => marker?,
    };
    let has_database = folder
        .has_database()
        .map_err(|error| OpenError::Folder { folder: settings.path.clone(), error })?;
    if !marker.is_empty() && !has_database && !settings.accept {
        return Err(OpenError::Lost {
            folder: settings.path.clone(),
            what: "its database (semel.db) is missing or empty".to_owned(),
        });
    }
    Ok(marker)
}

/// Connects, so that no other process can, and so that the log's index is in our own memory.
pub(super) fn connect(database: &Path) -> Result<Connection, String> {
    let text = |error: rusqlite::Error| error.to_string();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection =
        Connection::open_with_flags_and_vfs(database, flags, EXCLUSIVE).map_err(text)?;
    connection.set_transaction_behavior(TransactionBehavior::Immediate);
    connection.pragma_update(None, "synchronous", "FULL").map_err(text)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0).map_err(text)?;
    Ok(connection)
}

/// Sets the database up, and creates the tables in an empty one.
fn set_up(connection: &Connection) -> Result<(), String> {
    let text = |error: rusqlite::Error| error.to_string();
    let tables = pragma(connection, "SELECT count(*) FROM sqlite_schema").map_err(text)?;
    if tables > 0 {
        recognise(connection)?;
    }
    let mode = connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))
        .map_err(text)?;
    if mode != "wal" {
        return Err(format!("it stays in journal mode {mode}, and only wal is safe"));
    }
    connection.pragma_update(None, "cache_size", CACHE).map_err(text)?;
    if tables == 0 {
        table::create(connection).map_err(text)?;
    }
    Ok(())
}

/// Refuses a database of somebody else's, or of another version's.
fn recognise(connection: &Connection) -> Result<(), String> {
    let number = |query| pragma(connection, query).map_err(|error| error.to_string());
    if number("PRAGMA application_id")? != u64::from(table::APPLICATION) {
        return Err("it is not a store of semel's".to_owned());
    }
    let form = number("PRAGMA user_version")?;
    if form != u64::from(table::FORM) {
        return Err(format!("it has form {form}, and this version reads form {}", table::FORM));
    }
    Ok(())
}

/// Compares what the folder was with what it holds.
fn compare(meta: &Meta, marker: &[StoreId], had_log: bool) -> Result<(), String> {
    let identity = meta.charter.map(|charter| charter.identity);
    // Without a marker: founding was cut short, or the folder is new.
    if !marker.is_empty() && !identity.is_some_and(|found| marker.contains(&found)) {
        return Err("its database (semel.db) is another one".to_owned());
    }
    if !meta.closed && !had_log {
        return Err("the log of its last writes (semel.db-wal) is missing".to_owned());
    }
    Ok(())
}

/// Checks a database that was not closed in an orderly way.
fn check(connection: &Connection) -> Result<(), String> {
    let found = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
        .map_err(|error| error.to_string())?;
    if found == "ok" { Ok(()) } else { Err(format!("it is damaged: {found}")) }
}

/// Notes in the database itself, not only in its log, that it is open: if the log then goes
/// missing, the next start notices.
fn take(connection: &Connection, folder: &Folder, meta: &Meta) -> rusqlite::Result<()> {
    let open = Meta { closed: false, ..*meta };
    let note = || {
        open.write(connection)?;
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    };
    note().or_else(|_| {
        // The disk may be full. That is what the reserve is for.
        drop(folder.spend());
        note()
    })
}

/// Bounds the size of the database. Returns how many pages claims may use, which leaves the rest
/// for settlements.
fn limit(connection: &Connection, size_max: u64, reserve: u64) -> rusqlite::Result<u64> {
    let page = pragma(connection, "PRAGMA page_size")?;
    let max = size_max / page;
    connection.pragma_update(None, "max_page_count", max.cast_signed())?;
    Ok(max - (reserve / page).min(max / 2))
}
