//! The charges that were made: an append-only list, kept in a file if one is named.
//!
//! Must not know HTTP or idempotency: every commit is one more charge. A charge is seen by
//! look-ups only once it is on disk (`disk`), so nothing that was ever found can be lost.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};

use super::charge::{Charge, Order, Seen, id_of, now_ms, number_in, object};
use super::disk::Disk;

/// How many charges a ledger holds; then payments are refused, uncommitted.
pub(super) const CHARGES_MAX: usize = 2_000_000;

/// How deep a charge is shown: it, its payments, and their captures.
const DEPTH: usize = 2;

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
    /// The one with this name in the ledger.
    Id(&'a str),
    /// The one with this number, from 1.
    Number(usize),
    /// What was done to the one with this number.
    On(usize),
    /// Those with this reference.
    Reference(&'a str),
    /// Those whose request carried this idempotency key.
    Key(&'a str),
    /// All.
    All,
}

/// The charges, and how to find them.
#[derive(Default)]
pub(super) struct Book {
    entries: Vec<Entry>,
    paths: HashSet<Arc<str>>,
    by_reference: HashMap<String, Vec<usize>>,
    by_key: HashMap<String, Vec<usize>>,
    /// Places of what was done to a charge, by that one's place.
    on: HashMap<usize, Vec<usize>>,
}

/// A charge as its line in the file, which takes a third of the room.
struct Entry {
    path: Arc<str>,
    line: Box<[u8]>,
    created_ms: u64,
    fails: bool,
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
        let Order { path, reference, key, on, fails, .. } = &charge.order;
        let index = self.entries.len();
        if let Some(reference) = reference {
            self.by_reference.entry(reference.clone()).or_default().push(index);
        }
        if let Some(key) = key {
            self.by_key.entry(key.clone()).or_default().push(index);
        }
        if let Some(on) = on.and_then(|number| number.checked_sub(1)) {
            self.on.entry(on).or_default().push(index);
        }
        let path = self.path(path);
        let (line, created_ms, fails) = (line.into(), charge.created_ms, *fails);
        self.entries.push(Entry { path, line, created_ms, fails, looks: 0 });
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
            Sought::Number(number) => {
                let place = number.checked_sub(1).filter(|place| *place < self.entries.len());
                Box::new(place.into_iter())
            }
            Sought::On(number) => {
                let place = number.wrapping_sub(1);
                Box::new(self.on.get(&place).into_iter().flatten().copied())
            }
            Sought::Reference(name) => {
                Box::new(self.by_reference.get(name).into_iter().flatten().copied())
            }
            Sought::Key(key) => Box::new(self.by_key.get(key).into_iter().flatten().copied()),
            Sought::All => Box::new(0..self.entries.len()),
        }
    }

    fn place(&self, id: &str) -> Option<usize> {
        let index = number_in(id)?.checked_sub(1)?;
        (id_of(&object(&self.entries.get(index)?.path), index) == id).then_some(index)
    }

    /// The charge at a place, with what was done to it, as this look-up sees it: each one that
    /// could be seen counts the look-up, and may still be absent.
    fn see(&mut self, place: usize, now_ms: u64, depth: usize) -> Option<Seen> {
        let done = self.done_to(place, depth);
        let entry = self.entries.get_mut(place)?;
        let before = entry.looks;
        entry.looks = before.saturating_add(1);
        let charge = entry.charge();
        let status = charge.status(before.checked_sub(charge.order.absent)?, now_ms);
        let see = |at| self.see(at, now_ms, depth - 1);
        Some(Seen { charge, status, operations: done.into_iter().filter_map(see).collect() })
    }

    /// The same without counting: what the provider itself knows.
    fn know(&self, place: usize, now_ms: u64, depth: usize) -> Option<Seen> {
        let entry = self.entries.get(place)?;
        let charge = entry.charge();
        let status = charge.status(entry.looks.saturating_sub(charge.order.absent), now_ms);
        let know = |at| self.know(at, now_ms, depth - 1);
        let done = self.done_to(place, depth);
        Some(Seen { charge, status, operations: done.into_iter().filter_map(know).collect() })
    }

    fn done_to(&self, place: usize, depth: usize) -> Vec<usize> {
        if depth == 0 {
            return Vec::new();
        }
        self.on.get(&place).cloned().unwrap_or_default()
    }
}

/// What a look-up is after.
#[derive(Debug, Clone, Copy)]
pub(super) struct Find<'a> {
    pub(super) sought: Sought<'a>,
    /// Of this collection only.
    pub(super) path: Option<&'a str>,
    /// With this value of the caller's metadata.
    pub(super) metadata: Option<(&'a str, &'a str)>,
    /// With this value of what else was sent.
    pub(super) field: Option<(&'a str, &'a str)>,
    /// Not created before, and not after.
    pub(super) since_ms: u64,
    pub(super) until_ms: u64,
    /// Beyond the one with this number, in the order of the list.
    pub(super) after: Option<usize>,
    pub(super) skip: usize,
    pub(super) limit: usize,
    pub(super) oldest_first: bool,
}

impl<'a> Find<'a> {
    /// One charge, the newest of its name.
    pub(super) const fn one(sought: Sought<'a>, path: Option<&'a str>) -> Self {
        Self { limit: 1, ..Self::all(sought, path) }
    }

    /// All that fit.
    pub(super) const fn all(sought: Sought<'a>, path: Option<&'a str>) -> Self {
        Self {
            sought,
            path,
            metadata: None,
            field: None,
            since_ms: 0,
            until_ms: u64::MAX,
            after: None,
            skip: 0,
            limit: CHARGES_MAX,
            oldest_first: false,
        }
    }

    fn fits(&self, entry: &Entry) -> bool {
        self.path.is_none_or(|path| &*entry.path == path)
            && (self.since_ms..=self.until_ms).contains(&entry.created_ms)
            && (self.metadata.or(self.field).is_none() || self.fits_fields(&entry.charge().order))
    }

    fn fits_fields(&self, order: &Order) -> bool {
        let fits = |fields: &Map<String, Value>, sought: Option<(&str, &str)>| {
            sought.is_none_or(|(name, value)| {
                fields.get(name).is_some_and(|its| its.as_str() == Some(value))
            })
        };
        fits(&order.metadata, self.metadata) && fits(&order.fields, self.field)
    }

    fn is_beyond(&self, place: usize) -> bool {
        match (self.after, self.oldest_first) {
            (None, _) => true,
            (Some(number), true) => place >= number,
            (Some(number), false) => place + 1 < number,
        }
    }
}

/// What a look-up found.
pub(super) struct Found {
    pub(super) seen: Vec<Seen>,
    /// Further ones fit too.
    pub(super) more: bool,
    /// How many fit in all, on this page and on others; 0 if all charges were sought, which would
    /// take too long to count.
    pub(super) total: usize,
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

    /// Looks charges up as the API does. Each one that could be found counts the look-up, and may
    /// still be absent or processing.
    pub(super) fn look_up(&self, find: &Find<'_>) -> Found {
        let mut book = self.book();
        let named = (find.sought != Sought::All).then(|| book.places(find.sought));
        let fits = |at: &usize| find.fits(&book.entries[*at]);
        let total = named.map_or(0, |places| places.filter(fits).count());
        let places = book.places(find.sought);
        let places: Box<dyn Iterator<Item = usize> + '_> =
            if find.oldest_first { places } else { Box::new(places.rev()) };
        let mut places: Vec<usize> = places
            .filter(|place| find.is_beyond(*place) && find.fits(&book.entries[*place]))
            .skip(find.skip)
            .take(find.limit.saturating_add(1))
            .collect();
        let more = places.len() > find.limit;
        places.truncate(find.limit);
        let now = now_ms();
        let seen = places.into_iter().filter_map(|place| book.see(place, now, DEPTH)).collect();
        Found { seen, more, total }
    }

    /// A charge with what was done to it. Not a look-up: counts nothing, hides nothing.
    pub(super) fn known(&self, number: usize) -> Option<Seen> {
        self.book().know(number.checked_sub(1)?, now_ms(), DEPTH)
    }

    /// How many of those sought took effect. Not a look-up: counts nothing, hides nothing.
    pub fn count(&self, sought: Sought<'_>) -> usize {
        let book = self.book();
        book.places(sought).filter(|place| !book.entries[*place].fails).count()
    }

    /// The charges sought that took effect, oldest first. Not a look-up: counts nothing, hides
    /// nothing.
    pub fn charges(&self, sought: Sought<'_>) -> Vec<Charge> {
        let book = self.book();
        let entries = book.places(sought).map(|place| &book.entries[place]);
        entries.filter(|entry| !entry.fails).map(Entry::charge).collect()
    }

    /// The first request that carried a key to this collection, whatever came of it.
    pub(super) fn first_with_key(&self, key: &str, path: &str) -> Option<Charge> {
        let book = self.book();
        let place = book.places(Sought::Key(key)).find(|at| &*book.entries[*at].path == path)?;
        Some(book.entries[place].charge())
    }

    /// The `limit` newest charges that took effect, oldest first.
    pub(super) fn newest(&self, limit: usize) -> Vec<Charge> {
        let book = self.book();
        let entries = book.entries.iter().rev().filter(|entry| !entry.fails).take(limit);
        let mut newest: Vec<Charge> = entries.map(Entry::charge).collect();
        newest.reverse();
        newest
    }

    /// How many were tried and fail: declined cards, and what was accepted and then failed.
    pub(super) fn failed(&self) -> usize {
        self.book().entries.iter().filter(|entry| entry.fails).count()
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

#[cfg(test)]
mod tests {
    use super::super::charge::Status;
    use super::super::modes::Settling;
    use super::*;

    fn order(reference: &str) -> Order {
        Order {
            path: "/v1/payments".to_owned(),
            reference: Some(reference.to_owned()),
            ..Order::default()
        }
    }

    #[tokio::test]
    async fn a_charge_can_be_absent_first_and_processing_next() {
        let ledger = Ledger::open(None).unwrap();
        let mut slow = order("o-1");
        slow.absent = 2;
        slow.settles(Some(Settling::LookUps(1)));
        ledger.commit(slow).await.unwrap();

        let seen: Vec<Option<Status>> = (0..5)
            .map(|_| ledger.look_up(&Find::one(Sought::Reference("o-1"), None)).seen.pop())
            .map(|found| found.map(|seen| seen.status))
            .collect();

        let (absent, processing, done) = (None, Some(Status::Processing), Some(Status::Succeeded));
        assert_eq!(seen, [absent, absent, processing, done, done]);
    }
}
