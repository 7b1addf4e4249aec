//! The folder around the database: its lock, the marker that says it was in use, the reserve.
//!
//! Knows no SQL. Everything here exists so that a process notices, before it makes a claim, that
//! the database is shared, missing, exchanged, or about to run out of disk.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::OpenError;
use crate::protocol::id::StoreId;

const DATABASE: &str = "semel.db";
const LOG: &str = "semel.db-wal";
const LOCK: &str = "semel.lock";
const MARKER: &str = "semel.store";
const RESERVE: &str = "semel.reserve";

/// How long a marker may be: two identities and what surrounds them.
const MARKER_BYTES_MAX: u64 = 1024;
/// How much of the reserve is written at once.
const RESERVE_CHUNK: usize = 64 * 1024;
/// How many times the reserve must be free before it is set aside.
const RESERVE_MARGIN: u64 = 2;

/// A folder that this process, and no other, uses as a store.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    medium: Medium,
    reserve: u64,
    // Held for its lock; released after the database is closed, because it is dropped last.
    _lock: File,
}

/// What the folder's file system is to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Medium {
    /// Nothing known against it.
    Disk,
    /// Gone with the machine.
    Memory,
    /// Gone with the container.
    Overlay,
    /// A host folder shared into a virtual machine; what a sync means there is the host's affair.
    HostShare,
    /// On another machine, by this protocol: locks and syncs cannot be relied on.
    Network(&'static str),
}

/// Which file an open database is, to notice that it was moved or deleted under us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Files {
    database: (u64, u64),
    log: (u64, u64),
}

/// What a folder looks like from outside.
#[derive(Debug)]
pub(super) struct Looked {
    /// What a restart may cost on this medium.
    pub(super) warning: Option<String>,
    /// The file that processes lock, if it is there.
    pub(super) lock: Option<File>,
    pub(super) has_database: bool,
    pub(super) has_log: bool,
    pub(super) was_in_use: bool,
}

/// Looks at a folder and makes nothing. `None`: it is not there.
pub(super) fn look(path: &Path) -> Result<Option<Looked>, OpenError> {
    let failed = |error| OpenError::Folder { folder: path.to_owned(), error };
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(failed(io::ErrorKind::NotADirectory.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    }
    let medium = medium(path).map_err(failed)?;
    if let Medium::Network(kind) = medium {
        return Err(OpenError::Network { folder: path.to_owned(), kind });
    }
    let lock = match File::open(path.join(LOCK)) {
        Ok(lock) => Some(lock),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    Ok(Some(Looked {
        warning: warning(medium, path),
        lock,
        has_database: has_content(&database(path)).map_err(failed)?,
        has_log: has_content(&path.join(LOG)).map_err(failed)?,
        was_in_use: has_content(&path.join(MARKER)).map_err(failed)?,
    }))
}

/// Where the database of a folder is.
pub(super) fn database(path: &Path) -> PathBuf {
    path.join(DATABASE)
}

fn warning(medium: Medium, path: &Path) -> Option<String> {
    let warning = match medium {
        Medium::Disk | Medium::Network(_) => return None,
        Medium::Memory => "is in memory; a restart of the machine forgets every payment",
        Medium::Overlay => "is inside the container's own file system and goes with it",
        Medium::HostShare => "is shared from a host, which may not keep what it was told to",
    };
    Some(format!("the folder {} {warning}", path.display()))
}

impl Folder {
    /// Creates the folder if need be, and locks it.
    pub(super) fn enter(path: &Path, reserve: u64) -> Result<Self, OpenError> {
        let failed = |error| OpenError::Folder { folder: path.to_owned(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let medium = medium(path).map_err(failed)?;
        if let Medium::Network(kind) = medium {
            return Err(OpenError::Network { folder: path.to_owned(), kind });
        }
        let lock = private().write(true).open(path.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse { folder: path.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        Ok(Self { path: path.to_owned(), medium, reserve, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What a restart may cost on this medium.
    pub(super) fn warning(&self) -> Option<String> {
        warning(self.medium, &self.path)
    }

    pub(super) fn database(&self) -> PathBuf {
        database(&self.path)
    }

    /// Whether there is a database with anything in it.
    pub(super) fn has_database(&self) -> io::Result<bool> {
        has_content(&self.database())
    }

    /// Whether there is a write-ahead log with anything in it.
    pub(super) fn has_log(&self) -> io::Result<bool> {
        has_content(&self.path.join(LOG))
    }

    /// Makes an empty database file that nobody else can read, if there is none.
    pub(super) fn prepare(&self) -> io::Result<()> {
        private().write(true).open(self.database())?;
        self.sync()
    }

    /// The files behind the open database.
    pub(super) fn files(&self) -> io::Result<Files> {
        let of = |path: PathBuf| fs::metadata(path).map(|found| (found.dev(), found.ino()));
        Ok(Files { database: of(self.database())?, log: of(self.path.join(LOG))? })
    }

    /// Which stores this folder belongs to: one, two while a charter is being exchanged, or none
    /// if it was never in use.
    pub(super) fn marker(&self) -> Result<Vec<StoreId>, OpenError> {
        let failed = |error| OpenError::Folder { folder: self.path.clone(), error };
        let mut text = String::new();
        match File::open(self.path.join(MARKER)) {
            Ok(file) => file.take(MARKER_BYTES_MAX).read_to_string(&mut text).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let identities: Option<Vec<_>> = text.lines().map(StoreId::from_hex).collect();
        // An unreadable marker is still a sign that the folder was in use.
        identities
            .filter(|identities| !identities.is_empty())
            .ok_or_else(|| OpenError::Marker { folder: self.path.clone(), name: MARKER })
    }

    /// Says, durably, that this folder belongs to these stores.
    pub(super) fn mark(&self, identities: &[StoreId]) -> io::Result<()> {
        let text: String = identities.iter().map(|identity| format!("{identity}\n")).collect();
        let draft = self.path.join(format!("{MARKER}.new"));
        let mut file = private().write(true).truncate(true).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(draft, self.path.join(MARKER))?;
        self.sync()
    }

    /// Sets disk space aside, unless it is already or the disk is nearly full. It is given up when
    /// the disk is full, so that what was claimed can still be recorded.
    pub(super) fn set_aside(&self) -> io::Result<()> {
        let path = self.path.join(RESERVE);
        if fs::metadata(&path).is_ok_and(|found| found.len() == self.reserve) {
            return Ok(());
        }
        self.spend()?;
        if self.free()? < self.reserve.saturating_mul(RESERVE_MARGIN) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let filled = self.fill(&path);
        if filled.is_err() {
            self.spend()?;
        }
        filled
    }

    fn fill(&self, path: &Path) -> io::Result<()> {
        let mut file = private().write(true).truncate(true).open(path)?;
        let chunk = [0; RESERVE_CHUNK];
        let mut left = self.reserve;
        while left > 0 {
            let part = usize::try_from(left).map_or(RESERVE_CHUNK, |left| left.min(RESERVE_CHUNK));
            file.write_all(&chunk[..part])?;
            left -= part as u64;
        }
        file.sync_all()
    }

    /// Gives up what was set aside.
    pub(super) fn spend(&self) -> io::Result<()> {
        match fs::remove_file(self.path.join(RESERVE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// How many bytes of disk are free.
    pub(super) fn free(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.path)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600);
    options
}

fn has_content(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.len() > 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(target_os = "linux")]
fn medium(path: &Path) -> io::Result<Medium> {
    // The numbers of statfs(2).
    Ok(match u32::try_from(rustix::fs::statfs(path)?.f_type & 0xffff_ffff) {
        Ok(0x6969) => Medium::Network("NFS"),
        Ok(0x517b | 0xff53_4d42 | 0xfe53_4d42) => Medium::Network("SMB"),
        Ok(0x5346_414f) => Medium::Network("AFS"),
        Ok(0x00c3_6400) => Medium::Network("Ceph"),
        Ok(0x0102_1997) => Medium::HostShare,
        Ok(0x0102_1994 | 0x8584_58f6) => Medium::Memory,
        Ok(0x794c_7630) => Medium::Overlay,
        Ok(_) | Err(_) => Medium::Disk,
    })
}

#[cfg(not(target_os = "linux"))]
fn medium(_: &Path) -> io::Result<Medium> {
    Ok(Medium::Disk)
}
