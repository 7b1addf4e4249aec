//! A store whose calls are timed and whose failures are counted.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{
    Agenda, Charter, Examination, Fence, Listing, Page, SharedStore, Store, StoreError, Stored,
    Swap, Swapped,
};
use crate::metrics::Metrics;
use crate::protocol::id::RecordKey;

/// A store with a stop-watch.
#[derive(Debug)]
pub struct MeteredStore {
    inner: SharedStore,
    metrics: Arc<Metrics>,
}

impl MeteredStore {
    /// Watches another store.
    pub const fn new(inner: SharedStore, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }

    fn note<T>(&self, operation: &str, began: Instant, result: &Result<T, StoreError>) {
        let took = began.elapsed().as_secs_f64();
        self.metrics.store_duration.with_label_values(&[operation]).observe(took);
        if let Err(error) = result {
            self.metrics.store_errors.with_label_values(&[kind(error)]).inc();
        }
    }
}

const fn kind(error: &StoreError) -> &'static str {
    match error {
        StoreError::Unreachable(_) => "unreachable",
        StoreError::Unconfirmed(_) => "unconfirmed",
        StoreError::Refused(_) => "refused",
        StoreError::Broken(_) => "broken",
    }
}

#[async_trait]
impl Store for MeteredStore {
    async fn swap(&self, swap: &Swap) -> Result<Swapped, StoreError> {
        let began = Instant::now();
        let result = self.inner.swap(swap).await;
        self.note("swap", began, &result);
        result
    }

    async fn swap_and_load(
        &self,
        swap: &Swap,
        beside: RecordKey,
    ) -> Result<(Swapped, Option<Stored>), StoreError> {
        let began = Instant::now();
        let result = self.inner.swap_and_load(swap, beside).await;
        self.note("swap", began, &result);
        result
    }

    async fn load(&self, key: RecordKey) -> Result<Option<Stored>, StoreError> {
        let began = Instant::now();
        let result = self.inner.load(key).await;
        self.note("load", began, &result);
        result
    }

    async fn due(&self, limit: usize) -> Result<Agenda, StoreError> {
        let began = Instant::now();
        let result = self.inner.due(limit).await;
        self.note("due", began, &result);
        result
    }

    async fn list(&self, listing: &Listing) -> Result<Page, StoreError> {
        let began = Instant::now();
        let result = self.inner.list(listing).await;
        self.note("list", began, &result);
        result
    }

    async fn charter(&self) -> Result<Option<Charter>, StoreError> {
        self.inner.charter().await
    }

    async fn found(&self, charter: &Charter) -> Result<(), StoreError> {
        self.inner.found(charter).await
    }

    async fn amend(&self, from: Option<&Charter>, to: &Charter) -> Result<(), StoreError> {
        self.inner.amend(from, to).await
    }

    fn is_exclusive(&self) -> bool {
        self.inner.is_exclusive()
    }

    fn fence(&self) -> &Fence {
        self.inner.fence()
    }

    async fn examine(&self) -> Result<Examination, StoreError> {
        let examined = self.inner.examine().await;
        if let Ok(Examination { headroom: Some(headroom), .. }) = &examined {
            self.metrics.store_headroom.with_label_values::<&str>(&[]).set(*headroom);
        }
        examined
    }
}
