//! The ledger's file: charges as JSON lines, appended and synced by one thread.
//!
//! Must not know look-ups. A charge enters the book only after its line is on disk.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::charge::{Charge, Order};
use super::ledger::{Book, CHARGES_MAX, LedgerError, line, lock};

/// How many commits wait for the disk; then further ones wait for a place.
const COMMITS_MAX: usize = 4096;

/// How every line of the file begins, so that nothing else is taken for a torn one.
const LINE_START: &[u8] = b"{\"id\":\"";

/// The ledger's file and the thread that writes it: all commits that wait share one sync.
pub(super) struct Disk {
    commits: Option<mpsc::Sender<Commit>>,
    writer: Option<JoinHandle<()>>,
}

struct Commit {
    order: Order,
    done: oneshot::Sender<Result<Charge, LedgerError>>,
}

impl Disk {
    /// Opens the file, reads all that is in it into `book`, and keeps both in step from then on.
    pub(super) fn open(path: &Path, book: &Arc<Mutex<Book>>) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        file.try_lock().map_err(|_| {
            io::Error::new(io::ErrorKind::WouldBlock, "the ledger is another provider's")
        })?;
        sync_folder_of(path)?;
        read_back(&file, &mut lock(book))?;

        let (commits, queue) = mpsc::channel(COMMITS_MAX);
        let book = Arc::clone(book);
        let writer = std::thread::Builder::new()
            .name("practice-ledger".to_owned())
            .spawn(move || write_all(file, &book, queue))?;
        Ok(Self { commits: Some(commits), writer: Some(writer) })
    }

    /// Makes a charge, once it is on disk.
    pub(super) async fn commit(&self, order: Order) -> Result<Charge, LedgerError> {
        let (done, committed) = oneshot::channel();
        let commits = self.commits.as_ref().ok_or(LedgerError::Broken)?;
        commits.send(Commit { order, done }).await.map_err(|_| LedgerError::Broken)?;
        committed.await.unwrap_or(Err(LedgerError::Broken))
    }
}

impl Drop for Disk {
    /// Waits for what is being written, so that whoever opens the file next finds it whole.
    fn drop(&mut self) {
        self.commits = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// A new file is only durable once its folder is.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

/// Reads all charges; a last line that was torn by a crash was never answered, and is cut off.
fn read_back(file: &File, book: &mut Book) -> io::Result<()> {
    let mut lines = BufReader::new(file);
    lines.rewind()?;
    let mut whole = 0;
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        if line.last() != Some(&b'\n') {
            if !line.starts_with(LINE_START) && !LINE_START.starts_with(&line) {
                return Err(no_ledger(book));
            }
            tracing::warn!(bytes = line.len(), "dropped the torn last line of the ledger");
            file.set_len(whole)?;
            file.sync_all()?;
            break;
        }
        let charge: Charge = serde_json::from_slice(&line).map_err(|_| no_ledger(book))?;
        if book.is_full() || !is_next(&charge, book) {
            return Err(no_ledger(book));
        }
        book.append(&charge, &line);
        whole += line.len() as u64;
        line.clear();
    }
    Ok(())
}

fn is_next(charge: &Charge, book: &Book) -> bool {
    let number = charge.id.rsplit_once('_').and_then(|(_, number)| number.parse().ok());
    number == Some(book.len() + 1)
}

fn no_ledger(book: &Book) -> io::Error {
    let line = book.len() + 1;
    io::Error::new(io::ErrorKind::InvalidData, format!("line {line} of the ledger is no charge"))
}

/// The writer's life: one sync for all that wait, then the book, then the answers.
fn write_all(mut file: File, book: &Mutex<Book>, mut queue: mpsc::Receiver<Commit>) {
    let mut waiting = Vec::new();
    while let Some(first) = queue.blocking_recv() {
        waiting.push(first);
        while waiting.len() < COMMITS_MAX
            && let Ok(next) = queue.try_recv()
        {
            waiting.push(next);
        }
        if let Err(error) = write_some(&mut file, book, &mut waiting) {
            // What the file holds now is not known; only a restart, which reads it, can tell.
            tracing::error!(%error, "the ledger could not be written; no more is committed");
            return;
        }
    }
}

/// On an error, dropping `waiting` tells everybody in it that the ledger is broken.
fn write_some(file: &mut File, book: &Mutex<Book>, waiting: &mut Vec<Commit>) -> io::Result<()> {
    let first = lock(book).len();
    let mut committed = Vec::with_capacity(waiting.len());
    for Commit { order, done } in waiting.drain(..) {
        let index = first + committed.len();
        if index >= CHARGES_MAX {
            let _ = done.send(Err(LedgerError::Full));
            continue;
        }
        let charge = Charge::new(order, index);
        committed.push((line(&charge), charge, done));
    }
    let lines: Vec<&[u8]> = committed.iter().map(|(line, ..)| line.as_slice()).collect();
    file.write_all(&lines.concat())?;
    file.sync_data()?;
    for (line, charge, done) in committed {
        lock(book).append(&charge, &line);
        // Whoever asked may have left; the charge stays.
        let _ = done.send(Ok(charge));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::demo::provider::ledger::{Ledger, Sought};

    fn order(reference: &str) -> Order {
        Order {
            path: "/v1/payments".to_owned(),
            reference: Some(reference.to_owned()),
            ..Order::default()
        }
    }

    #[tokio::test]
    async fn a_charge_that_was_acknowledged_survives_a_torn_line_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let kept = Ledger::open(Some(&path)).unwrap().commit(order("o-1")).await.unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"id\":\"pay").unwrap();

        let ledger = Ledger::open(Some(&path)).unwrap();
        let next = ledger.commit(order("o-2")).await.unwrap();
        drop(ledger);

        assert_eq!(
            Ledger::open(Some(&path)).unwrap().charges(Sought::All),
            vec![kept, next],
            "in {}",
            fs::read_to_string(&path).unwrap()
        );
    }

    #[tokio::test]
    async fn a_file_that_is_no_ledger_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        fs::write(&path, "a page of a diary").unwrap();

        let error = Ledger::open(Some(&path)).unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(fs::read_to_string(&path).unwrap(), "a page of a diary");
    }

    #[test]
    fn two_providers_never_share_a_ledger() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let _first = Ledger::open(Some(&path)).unwrap();

        let second = Ledger::open(Some(&path)).unwrap_err();

        assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
    }
}
