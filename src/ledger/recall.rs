//! What this process recalls of settled records, so that a retry that it has told before needs no
//! store.
//!
//! It holds what a claim has read, and nothing that this process has only written: so what is told
//! from it was found on record in the store at most [`RECALLED_MAX`] ago. An entry ends then, well
//! before its record's retention does ([`recalled_for`]); when the store's fence turns (another
//! store, lost writes, another generation); and when a caller of its operation leaves unanswered.
//!
//! [`RECALLED_MAX`]: crate::protocol::claim::RECALLED_MAX

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::BuildHasherDefault;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderMap;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use super::{Ledger, Settled, View};
use crate::protocol::attempt::Held;
use crate::protocol::claim::recalled_for;
use crate::protocol::fingerprint::{Fingerprint, Fingerprints, Matched};
use crate::protocol::id::RecordKey;

/// What an entry takes in memory beside its answer, about.
const ENTRY_BYTES: usize = 400;
/// What one takes with a usual answer. Only a guess at how many there will be.
const ENTRY_BYTES_USUAL: usize = 1024;
/// What a header takes in memory beside its text, in the record and as it is told.
const HEADER_BYTES: usize = 256;
/// In how many parts it is kept, each under a lock of its own, if it has room for more than a
/// few. No entry is larger than a part.
const PARTS: usize = 4;

/// Settled records by their keys, within so many bytes; `None`: none.
pub(super) struct Recall(Option<Entries>);

// A record's key is a keyed digest: whoever sends requests cannot choose where it falls.
type Entries = Cache<RecordKey, Arc<Recalled>, Weight, BuildHasherDefault<DefaultHasher>>;

/// What is recalled of a settled operation.
#[derive(Debug)]
pub struct Recollection {
    /// What is known.
    pub settled: Settled,
    /// Its answer's headers as they are told, made by whoever tells them first.
    pub headers: Arc<OnceLock<HeaderMap>>,
}

/// A settled record as it was read.
#[derive(Debug)]
struct Recalled {
    settled: Settled,
    headers: Arc<OnceLock<HeaderMap>>,
    fingerprint: Fingerprint,
    /// When it was asked for, and until when it may be told, on this process's monotonic clock.
    asked: Duration,
    until: Duration,
    /// How often the store's fence had turned.
    turns: u64,
    bytes: usize,
}

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<RecordKey, Arc<Recalled>> for Weight {
    fn weight(&self, _: &RecordKey, entry: &Arc<Recalled>) -> u64 {
        u64::try_from(entry.bytes).unwrap_or(u64::MAX)
    }
}

/// What an entry is good for.
#[derive(Debug, PartialEq, Eq)]
enum Use {
    /// It answers the request.
    Tell,
    /// Another request's: the store must say so.
    Ask,
    /// Nothing any more.
    Forget,
}

/// Decides. `turns`: of the fence, as of now.
fn weigh(entry: &Recalled, now: Duration, turns: u64, fingerprints: &Fingerprints) -> Use {
    if now >= entry.until || entry.turns != turns {
        return Use::Forget;
    }
    match fingerprints.matches(&entry.fingerprint) {
        Matched::Same => Use::Tell,
        Matched::Other | Matched::UnknownSecret => Use::Ask,
    }
}

impl Recall {
    pub(super) fn new(bytes: usize) -> Self {
        let mut options = OptionsBuilder::new();
        let capacity = u64::try_from(bytes).unwrap_or(u64::MAX);
        let entries = (bytes / ENTRY_BYTES_USUAL).max(1);
        options.shards(PARTS).estimated_items_capacity(entries).weight_capacity(capacity);
        let options = options.build().ok().filter(|_| bytes > 0);
        Self(options.map(|options| {
            let hasher = BuildHasherDefault::default();
            Cache::with_options(options, Weight, hasher, DefaultLifecycle::default())
        }))
    }
}

impl fmt::Debug for Recall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recall").field(&self.0.as_ref().map(Cache::weight)).finish()
    }
}

impl Ledger {
    /// What is recalled of the operation under a request's own key, if it is that very request's.
    pub fn recall(&self, key: RecordKey, fingerprints: &Fingerprints) -> Option<Recollection> {
        let entries = self.recall.0.as_ref()?;
        let (entry, now) = (entries.get(&key)?, self.now());
        match weigh(&entry, now, self.store.fence().turns(), fingerprints) {
            Use::Tell => {
                let since = entry.settled.since + now.saturating_sub(entry.asked);
                let settled = Settled { since, ..entry.settled.clone() };
                Some(Recollection { settled, headers: Arc::clone(&entry.headers) })
            }
            Use::Ask => None,
            Use::Forget => {
                entries.remove(&key);
                None
            }
        }
    }

    /// Keeps what was read of a settled record, if it may be told again. `turns`: of the fence, when it
    /// was asked for.
    pub(super) fn recall_later(&self, held: &Held, view: &View, turns: u64) {
        let (Some(entries), View::Settled(settled)) = (&self.recall.0, view) else { return };
        let recalled_for = recalled_for(&held.record);
        let Some(reply) = settled.reply().filter(|_| !recalled_for.is_zero()) else { return };
        // Kept twice: as they were read, and as they are told.
        let texts = reply.headers.iter().map(|(name, value)| 2 * (name.len() + value.len()));
        let headers = HEADER_BYTES * reply.headers.len() + texts.sum::<usize>();
        let entry = Recalled {
            settled: settled.clone(),
            headers: Arc::default(),
            fingerprint: held.record.fingerprint,
            asked: held.as_of,
            until: held.as_of + recalled_for,
            turns,
            bytes: ENTRY_BYTES + reply.body.len() + headers,
        };
        entries.insert(held.key, Arc::new(entry));
    }

    /// Reads a record again before it is told the next time.
    pub fn recall_no_more(&self, key: RecordKey) {
        if let Some(entries) = &self.recall.0 {
            entries.remove(&key);
        }
    }
}
