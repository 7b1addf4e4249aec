//! The charges that were made: an append-only list, kept in a file if one is named.
//!
//! Must not know HTTP or idempotency: every commit is one more charge. A charge is seen by
//! look-ups only once it is on disk (`disk`), so nothing that was ever found can be lost.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::disk::Disk;
use super::modes::Settling;

/// How many charges a ledger holds; then payments are refused, uncommitted.
pub(super) const CHARGES_MAX: usize = 2_000_000;

/// What is asked to be committed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The path it was posted to.
    pub path: String,
    /// The amount as it was sent.
    pub amount: Value,
    /// The currency as it was sent.
    pub currency: Value,
    /// The caller's name for it.
    pub reference: Option<String>,
    /// Further fields of the caller's; an idempotency key is kept here too.
    pub metadata: Map<String, Value>,
    /// How long it stays `processing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) processing_ms: Option<u64>,
    /// How many look-ups see it `processing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) processing_gets: Option<u32>,
    /// How many look-ups do not see it at all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) absent: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// One payment, or other operation, that took effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Charge {
    /// Its public name, `payment_1`.
    pub id: String,
    /// The kind of operation: the last word of the path it was posted to, in the singular.
    pub object: String,
    /// When it was committed, in milliseconds since 1970.
    pub created_ms: u64,
    /// What was asked for.
    #[serde(flatten)]
    pub order: Order,
}

/// Where a charge stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Committed, not yet final.
    Processing,
    /// Final.
    Succeeded,
}

/// Why nothing was committed, or nobody knows whether it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum LedgerError {
    /// There is no room for another charge.
    #[error("the ledger is full; nothing was committed")]
    Full,
    /// The ledger's file could not be written.
    #[error("the ledger could not be written; it is not known whether this was committed")]
    Broken,
}

/// Which charges a look-up is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sought<'a> {
    /// The one with this id.
    Id(&'a str),
    /// Those with this reference.
    Reference(&'a str),
    /// Those whose request carried this idempotency key.
    Key(&'a str),
    /// All.
    All,
}

impl Order {
    /// The idempotency key of the request, remembered to be looked up by, and for nothing else.
    pub fn key(&self) -> Option<&str> {
        self.metadata.get("idempotency_key").and_then(Value::as_str)
    }

    pub(super) fn settles(&mut self, settling: Option<Settling>) {
        match settling {
            Some(Settling::After(delay)) => self.processing_ms = Some(millis(delay)),
            Some(Settling::LookUps(gets)) => self.processing_gets = Some(gets),
            None => {}
        }
    }

    const fn is_accepted_only(&self) -> bool {
        self.processing_ms.is_some() || self.processing_gets.is_some()
    }
}

impl Charge {
    pub(super) fn new(order: Order, index: usize) -> Self {
        let object = object(&order.path);
        Self { id: id_of(&object, index), object, created_ms: now_ms(), order }
    }

    /// Where the charge stands when it has just been made.
    pub const fn first_status(&self) -> Status {
        if self.order.is_accepted_only() { Status::Processing } else { Status::Succeeded }
    }

    fn status(&self, seen: u32, now_ms: u64) -> Status {
        let by_time = self.order.processing_ms.is_none_or(|ms| self.created_ms + ms <= now_ms);
        let by_gets = self.order.processing_gets.is_none_or(|gets| seen >= gets);
        if by_time && by_gets { Status::Succeeded } else { Status::Processing }
    }
}

fn id_of(object: &str, index: usize) -> String {
    format!("{object}_{}", index + 1)
}

/// `/v1/refunds` makes a `refund`.
fn object(path: &str) -> String {
    const OBJECT_MAX: usize = 32;
    let last = path.rsplit('/').find(|segment| !segment.is_empty()).unwrap_or_default();
    let word: String =
        last.chars().filter(char::is_ascii_alphabetic).take(OBJECT_MAX).collect::<String>();
    match word.to_ascii_lowercase().trim_end_matches('s') {
        "" => "operation".to_owned(),
        singular => singular.to_owned(),
    }
}

/// The charges, and how to find them.
#[derive(Default)]
pub(super) struct Book {
    entries: Vec<Entry>,
    paths: HashSet<Arc<str>>,
    by_reference: HashMap<String, Vec<usize>>,
    by_key: HashMap<String, Vec<usize>>,
}

/// A charge as its line in the file, which takes a third of the room.
struct Entry {
    path: Arc<str>,
    line: Box<[u8]>,
    /// Look-ups that could have seen it; begins anew with the process.
    looks: u32,
}

impl Entry {
    fn charge(&self) -> Charge {
        serde_json::from_slice(&self.line).expect("a line that was written from a charge")
    }
}

impl Book {
    pub(super) const fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) const fn is_full(&self) -> bool {
        self.entries.len() >= CHARGES_MAX
    }

    /// Takes a charge and its line.
    pub(super) fn append(&mut self, charge: &Charge, line: &[u8]) {
        let Order { path, reference, .. } = &charge.order;
        let index = self.entries.len();
        if let Some(reference) = reference {
            self.by_reference.entry(reference.clone()).or_default().push(index);
        }
        if let Some(key) = charge.order.key() {
            self.by_key.entry(key.to_owned()).or_default().push(index);
        }
        let path = self.path(path);
        self.entries.push(Entry { path, line: line.into(), looks: 0 });
    }

    /// The path, kept once for all charges.
    fn path(&mut self, path: &str) -> Arc<str> {
        if let Some(path) = self.paths.get(path) {
            return Arc::clone(path);
        }
        let path: Arc<str> = path.into();
        self.paths.insert(Arc::clone(&path));
        path
    }

    /// Places of the charges sought, oldest first, at least all that fit.
    fn places(&self, sought: Sought<'_>) -> Box<dyn DoubleEndedIterator<Item = usize> + '_> {
        match sought {
            Sought::Id(id) => Box::new(self.place(id).into_iter()),
            Sought::Reference(name) => {
                Box::new(self.by_reference.get(name).into_iter().flatten().copied())
            }
            Sought::Key(key) => Box::new(self.by_key.get(key).into_iter().flatten().copied()),
            Sought::All => Box::new(0..self.entries.len()),
        }
    }

    fn place(&self, id: &str) -> Option<usize> {
        let index = id.rsplit_once('_')?.1.parse::<usize>().ok()?.checked_sub(1)?;
        (id_of(&object(&self.entries.get(index)?.path), index) == id).then_some(index)
    }
}

/// What a look-up found.
pub(super) struct Found {
    pub(super) charges: Vec<(Charge, Status)>,
    /// Older ones fit too.
    pub(super) more: bool,
}

/// The list of all charges.
pub struct Ledger {
    book: Arc<Mutex<Book>>,
    disk: Option<Disk>,
}

impl Ledger {
    /// Opens the ledger in `file`, with all that is in it, or an empty one in memory.
    ///
    /// # Errors
    /// If the file cannot be read, belongs to another process, or is no ledger.
    pub(super) fn open(file: Option<&Path>) -> io::Result<Self> {
        let book = Arc::default();
        let disk = file.map(|file| Disk::open(file, &book)).transpose()?;
        Ok(Self { book, disk })
    }

    /// Makes a charge. Twice the same order is two charges.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not leave the charge made, as with any payment API.
    pub(super) async fn commit(&self, order: Order) -> Result<Charge, LedgerError> {
        let Some(disk) = &self.disk else {
            let mut book = self.book();
            if book.is_full() {
                return Err(LedgerError::Full);
            }
            let charge = Charge::new(order, book.len());
            book.append(&charge, &line(&charge));
            return Ok(charge);
        };
        disk.commit(order).await
    }

    /// Looks charges up as the API does: up to `limit`, newest first, older than `before`. Each
    /// one that could be found counts the look-up, and may still be absent or processing.
    pub(super) fn look_up(
        &self,
        sought: Sought<'_>,
        path: Option<&str>,
        before: Option<&str>,
        limit: usize,
    ) -> Found {
        let mut book = self.book();
        let end = before.map_or(usize::MAX, |id| book.place(id).unwrap_or(0));
        let mut places: Vec<usize> = book
            .places(sought)
            .rev()
            .filter(|place| *place < end)
            .filter(|at| path.is_none_or(|path| &*book.entries[*at].path == path))
            .take(limit + 1)
            .collect();
        let more = places.len() > limit;
        places.truncate(limit);
        let now = now_ms();
        let mut charges = Vec::with_capacity(places.len());
        for place in places {
            let entry = &mut book.entries[place];
            let before = entry.looks;
            entry.looks = before.saturating_add(1);
            let charge = entry.charge();
            if let Some(seen) = before.checked_sub(charge.order.absent) {
                let status = charge.status(seen, now);
                charges.push((charge, status));
            }
        }
        Found { charges, more }
    }

    /// How many charges there are of those sought. Not a look-up: counts nothing, hides nothing.
    pub fn count(&self, sought: Sought<'_>) -> usize {
        self.book().places(sought).count()
    }

    /// The charges sought, oldest first. Not a look-up: counts nothing, hides nothing.
    pub fn charges(&self, sought: Sought<'_>) -> Vec<Charge> {
        let book = self.book();
        book.places(sought).map(|place| book.entries[place].charge()).collect()
    }

    /// The `limit` newest charges, oldest first.
    pub(super) fn newest(&self, limit: usize) -> Vec<Charge> {
        let book = self.book();
        let from = book.entries.len().saturating_sub(limit);
        book.entries[from..].iter().map(Entry::charge).collect()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

/// A commit cannot panic half-way, so that a poisoned book is still a good one.
pub(super) fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A charge's line in the file.
pub(super) fn line(charge: &Charge) -> Vec<u8> {
    let mut line = serde_json::to_vec(charge).expect("a charge has only names that are strings");
    line.push(b'\n');
    line
}

#[expect(clippy::disallowed_methods, reason = "a payment API outside of semel, with its own clock")]
fn now_ms() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(reference: &str) -> Order {
        Order {
            path: "/v1/payments".to_owned(),
            reference: Some(reference.to_owned()),
            ..Order::default()
        }
    }

    #[test]
    fn the_kind_of_operation_is_read_off_the_path() {
        assert_eq!(object("/v1/payments"), "payment");
        assert_eq!(object("/v1/payments/payment_1/capture/"), "capture");
        assert_eq!(object("/"), "operation");
        assert_eq!(object("/\"\r\n"), "operation");
    }

    #[tokio::test]
    async fn a_charge_can_be_absent_first_and_processing_next() {
        let ledger = Ledger::open(None).unwrap();
        let mut slow = order("o-1");
        slow.absent = 2;
        slow.settles(Some(Settling::LookUps(1)));
        ledger.commit(slow).await.unwrap();

        let seen: Vec<Option<Status>> = (0..5)
            .map(|_| ledger.look_up(Sought::Reference("o-1"), None, None, 1).charges.pop())
            .map(|found| found.map(|(_, status)| status))
            .collect();

        let (absent, processing, done) = (None, Some(Status::Processing), Some(Status::Succeeded));
        assert_eq!(seen, [absent, absent, processing, done, done]);
    }
}
