//! A store in memory, for tests and demos. It forgets everything when the process ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Agenda, Charter, Examination, Fence, Listing, Page, Refusal, Store, StoreError, Stored, Swap,
    Swapped, Tag, Write, fence,
};
use crate::protocol::id::{RecordKey, Token};

/// A store in memory, as one process sees it.
#[derive(Debug)]
pub struct MemoryStore {
    fence: Fence,
    content: Arc<Mutex<Content>>,
}

/// What a memory store holds. Cloning it is taking a snapshot, for tests that restore one.
#[derive(Debug, Clone)]
pub struct Content {
    epoch: Instant,
    /// How far its clock was put forward, and back, since then.
    steps: (Duration, Duration),
    charter: Option<Charter>,
    count: u64,
    slots: BTreeMap<RecordKey, Slot>,
}

#[derive(Debug, Clone)]
struct Slot {
    token: Token,
    bytes: Bytes,
    written: Duration,
    due: Option<Duration>,
    tag: Tag,
}

impl Default for MemoryStore {
    fn default() -> Self {
        let content = Content {
            epoch: Instant::now(),
            steps: (Duration::ZERO, Duration::ZERO),
            charter: None,
            count: 0,
            slots: BTreeMap::new(),
        };
        Self { fence: Fence::default(), content: Arc::new(Mutex::new(content)) }
    }
}

impl MemoryStore {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same content for another process: what that one has seen is its own.
    #[must_use]
    pub fn sharing(other: &Self) -> Self {
        Self { fence: Fence::default(), content: Arc::clone(&other.content) }
    }

    /// Puts its clock forward, for tests.
    pub fn put_clock_forward(&self, by: Duration) {
        self.content().steps.0 += by;
    }

    /// Puts its clock back, for tests.
    pub fn put_clock_back(&self, by: Duration) {
        self.content().steps.1 += by;
    }

    /// What it holds now.
    pub fn snapshot(&self) -> Content {
        self.content().clone()
    }

    /// What is under a key, whatever the fence says.
    pub fn peek(&self, key: RecordKey) -> Option<Stored> {
        let content = self.content();
        content.slots.get(&key).map(|slot| content.stored(slot))
    }

    /// Puts back what it held once; its clock is the present one.
    pub fn restore(&self, content: Content) {
        let mut current = self.content();
        let steps = current.steps;
        *current = content;
        current.steps = steps;
    }

    /// Loses everything, charter and all.
    pub fn flush(&self) {
        let mut content = self.content();
        content.charter = None;
        content.count = 0;
        content.slots.clear();
    }
}

impl Content {
    fn now(&self) -> Duration {
        (self.epoch.elapsed() + self.steps.0).saturating_sub(self.steps.1)
    }

    /// How many swaps there were, as processes see it.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Everything in it, in the order of the keys.
    pub fn entries(&self) -> impl Iterator<Item = (RecordKey, Stored)> {
        self.slots.iter().map(|(key, slot)| (*key, self.stored(slot)))
    }

    fn stored(&self, slot: &Slot) -> Stored {
        let age = self.now().saturating_sub(slot.written);
        Stored { token: slot.token, bytes: slot.bytes.clone(), age }
    }

    /// The swap itself, at one instant.
    fn swap(&mut self, swap: &Swap) -> Swapped {
        let current = self.slots.get(&swap.key);
        let token = current.map(|slot| slot.token);
        if token == Some(swap.token) {
            return Swapped::Done;
        }
        if token != swap.expected {
            return Swapped::Lost(current.map(|slot| self.stored(slot)));
        }
        let now = self.now();
        match &swap.write {
            Write::Put { bytes, due, tag } => {
                let slot = Slot {
                    token: swap.token,
                    bytes: bytes.clone(),
                    written: now,
                    due: due.map(|due| now + due),
                    tag: *tag,
                };
                self.slots.insert(swap.key, slot);
            }
            Write::Purge => {
                self.slots.remove(&swap.key);
            }
        }
        self.count += 1;
        Swapped::Done
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn swap(&self, swap: &Swap) -> Result<Swapped, StoreError> {
        let mut content = self.content();
        self.fence.admit(Some(swap.purpose), content.charter.as_ref(), content.count)?;
        let swapped = content.swap(swap);
        self.fence.saw(content.count);
        Ok(swapped)
    }

    async fn swap_and_load(
        &self,
        swap: &Swap,
        beside: RecordKey,
    ) -> Result<(Swapped, Option<Stored>), StoreError> {
        let mut content = self.content();
        self.fence.admit(Some(swap.purpose), content.charter.as_ref(), content.count)?;
        let swapped = content.swap(swap);
        self.fence.saw(content.count);
        let slot = content.slots.get(&beside).filter(|_| swapped == Swapped::Done);
        let stored = slot.map(|slot| content.stored(slot));
        Ok((swapped, stored))
    }

    async fn load(&self, key: RecordKey) -> Result<Option<Stored>, StoreError> {
        let content = self.content();
        self.fence.admit(None, content.charter.as_ref(), content.count)?;
        Ok(content.slots.get(&key).map(|slot| content.stored(slot)))
    }

    async fn due(&self, limit: usize) -> Result<Agenda, StoreError> {
        let content = self.content();
        self.fence.admit(None, content.charter.as_ref(), content.count)?;
        let clock = content.now();
        let mut due: Vec<_> = content
            .slots
            .iter()
            .filter_map(|(key, slot)| Some((slot.due.filter(|due| *due <= clock)?, *key, slot)))
            .collect();
        due.sort_by_key(|(due, key, _)| (*due, *key));
        let due =
            due.into_iter().take(limit).map(|(_, key, slot)| (key, content.stored(slot))).collect();
        Ok(Agenda { clock, due })
    }

    async fn list(&self, listing: &Listing) -> Result<Page, StoreError> {
        let content = self.content();
        self.fence.admit(None, content.charter.as_ref(), content.count)?;
        let after = listing.after.as_deref().and_then(RecordKey::from_hex);
        let mut entries: Vec<_> = content
            .slots
            .iter()
            .filter(|(key, _)| after.is_none_or(|after| **key > after))
            .filter(|(_, slot)| listing.tag.is_none_or(|tag| slot.tag == tag))
            .take(listing.limit + 1)
            .map(|(key, slot)| (*key, content.stored(slot)))
            .collect();
        let more = entries.len() > listing.limit;
        entries.truncate(listing.limit);
        let next = entries.last().filter(|_| more).map(|(key, _)| key.to_string());
        Ok(Page { entries, next })
    }

    async fn charter(&self) -> Result<Option<Charter>, StoreError> {
        Ok(self.content().charter)
    }

    async fn found(&self, charter: &Charter) -> Result<(), StoreError> {
        let mut content = self.content();
        if content.charter.is_some() {
            return Err(Refusal::AlreadyFounded.into());
        }
        content.charter = Some(*charter);
        Ok(())
    }

    async fn amend(&self, from: Option<&Charter>, to: &Charter) -> Result<(), StoreError> {
        let mut content = self.content();
        if content.charter.as_ref() != from {
            return Err(Refusal::OtherIdentity.into());
        }
        content.charter = Some(*to);
        content.count += fence::COUNT_LEAP;
        Ok(())
    }

    fn fence(&self) -> &Fence {
        &self.fence
    }

    async fn examine(&self) -> Result<Examination, StoreError> {
        Ok(Examination {
            what: "memory; everything is forgotten when the process ends".to_owned(),
            entries: Some(self.content().slots.len() as u64),
            headroom: None,
            warnings: vec!["a restart forgets every payment".to_owned()],
            refusals: Vec::new(),
        })
    }
}
