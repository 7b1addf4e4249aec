//! A store that goes away, hangs or panics when the test says so, and comes back.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use async_trait::async_trait;
use semel::protocol::id::RecordKey;
use semel::store::memory::MemoryStore;
use semel::store::{
    Agenda, Charter, Examination, Fence, Listing, Page, Purpose, SharedStore, Store, StoreError,
    Stored, Swap, Swapped,
};

/// What it does from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mood {
    /// All that it is asked.
    Well,
    /// It cannot be reached.
    Gone,
    /// Claims are done; what became of them is not said.
    SilentOnClaims,
    /// It hangs.
    Hanging,
    /// Whoever records something panics.
    PanicOnRecord,
    /// Whoever claims panics.
    PanicOnClaim,
}

#[derive(Debug)]
pub(crate) struct MoodyStore {
    inner: SharedStore,
    mood: AtomicU8,
    panicked: AtomicUsize,
}

impl Default for MoodyStore {
    fn default() -> Self {
        Self::before(Arc::new(MemoryStore::default()))
    }
}

const MOODS: [Mood; 6] = [
    Mood::Well,
    Mood::Gone,
    Mood::SilentOnClaims,
    Mood::Hanging,
    Mood::PanicOnRecord,
    Mood::PanicOnClaim,
];

impl MoodyStore {
    /// Stands before a store that others may use too.
    pub(crate) fn before(inner: SharedStore) -> Self {
        Self { inner, mood: AtomicU8::new(Mood::Well as u8), panicked: AtomicUsize::new(0) }
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::SeqCst);
    }

    /// How often somebody panicked here.
    pub(crate) fn panicked(&self) -> usize {
        self.panicked.load(Ordering::SeqCst)
    }

    fn mood(&self) -> Mood {
        MOODS[usize::from(self.mood.load(Ordering::SeqCst))]
    }

    /// What becomes of a swap's answer in this mood.
    fn spoil<T>(&self, swap: &Swap, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        match (self.mood(), swap.purpose) {
            (Mood::PanicOnRecord, Purpose::Record) | (Mood::PanicOnClaim, Purpose::Claim) => {
                self.panicked.fetch_add(1, Ordering::SeqCst);
                panic!("as the test wants it")
            }
            (Mood::SilentOnClaims, Purpose::Claim) => {
                Err(StoreError::Unconfirmed("silent".to_owned()))
            }
            (_, Purpose::Record | Purpose::Claim) => answer,
        }
    }

    async fn reach(&self) -> Result<(), StoreError> {
        match self.mood() {
            Mood::Gone => Err(StoreError::Unreachable("gone".to_owned())),
            Mood::Hanging => std::future::pending().await,
            Mood::Well | Mood::SilentOnClaims | Mood::PanicOnRecord | Mood::PanicOnClaim => Ok(()),
        }
    }
}

#[async_trait]
impl Store for MoodyStore {
    async fn swap(&self, swap: &Swap) -> Result<Swapped, StoreError> {
        self.reach().await?;
        let swapped = self.inner.swap(swap).await;
        self.spoil(swap, swapped)
    }

    async fn swap_and_load(
        &self,
        swap: &Swap,
        beside: RecordKey,
    ) -> Result<(Swapped, Option<Stored>), StoreError> {
        self.reach().await?;
        let swapped = self.inner.swap_and_load(swap, beside).await;
        self.spoil(swap, swapped)
    }

    async fn load(&self, key: RecordKey) -> Result<Option<Stored>, StoreError> {
        self.reach().await?;
        self.inner.load(key).await
    }

    async fn due(&self, limit: usize) -> Result<Agenda, StoreError> {
        self.reach().await?;
        self.inner.due(limit).await
    }

    async fn list(&self, listing: &Listing) -> Result<Page, StoreError> {
        self.reach().await?;
        self.inner.list(listing).await
    }

    async fn charter(&self) -> Result<Option<Charter>, StoreError> {
        self.reach().await?;
        self.inner.charter().await
    }

    async fn found(&self, charter: &Charter) -> Result<(), StoreError> {
        self.inner.found(charter).await
    }

    async fn amend(&self, from: Option<&Charter>, to: &Charter) -> Result<(), StoreError> {
        self.inner.amend(from, to).await
    }

    fn fence(&self) -> &Fence {
        self.inner.fence()
    }

    async fn examine(&self) -> Result<Examination, StoreError> {
        self.reach().await?;
        self.inner.examine().await
    }
}
