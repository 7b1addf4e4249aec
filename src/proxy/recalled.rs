//! Duplicates whose answer this process recalls: told at once, before anything is claimed.
//!
//! Such a duplicate would find its record settled, and leave it as it is: nothing is decided here.
//! That it was told matters only if another caller had left its operation unanswered, at another
//! process and since the record was read. Whether one had is asked behind the answer, for many
//! operations together and for each once per round.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use http::Response;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::identify::Identified;
use super::respond::{self, Body};
use super::route::Mode;
use super::witness::Witness;
use super::{Lane, Proxy};
use crate::ledger::{Ledger, Recollection};
use crate::protocol::id::OperationId;
use crate::protocol::record::{Ago, Delivery, Identity};

/// How long who was told waits for being noted.
const ROUND: Duration = Duration::from_secs(10);
/// How many operations wait for that, and how many may be being noted meanwhile; at the bound the store
/// is asked before anybody is told, and who could not be noted is forgotten.
const TOLD_MAX: usize = 16_384;
/// How many are noted at the same time.
const NOTED_AT_ONCE: usize = 32;

/// Who was told what is recalled, until that is noted.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// When the one arrived who arrived last, and when it was answered. In an order of its own, so
    /// that a simulation plays the same world twice.
    told: BTreeMap<OperationId, (Instant, Instant)>,
    /// Somebody is about to note them.
    is_due: bool,
}

impl Told {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_full(&self) -> bool {
        self.waiting().told.len() >= TOLD_MAX
    }

    /// Adds one; whether nobody is about to note it.
    fn add(&self, operation: OperationId, arrived: Instant) -> bool {
        let mut waiting = self.waiting();
        let told = waiting.told.entry(operation).or_insert((arrived, arrived));
        if told.0 <= arrived {
            *told = (arrived, Instant::now());
        }
        !std::mem::replace(&mut waiting.is_due, true)
    }

    /// Notes all of them; those that could not be noted wait on.
    async fn note(&self, ledger: &Ledger, stopping: &CancellationToken) {
        let told = std::mem::take(&mut self.waiting().told);
        let told: Vec<_> = told.into_iter().collect();
        for some in told.chunks(NOTED_AT_ONCE) {
            let noting = some.iter().map(|&(operation, (arrived, answered))| {
                let delivery = Delivery {
                    left: None,
                    answered: Some(Ago::new(arrived.elapsed())),
                    completed: Some(Ago::new(answered.elapsed())),
                };
                ledger.note_answered(operation, delivery)
            });
            let noted = join_all(noting).await;
            // A store that does not answer would use up the drain's grace, some at a time.
            let is_in_vain = stopping.is_cancelled() && noted.iter().all(Result::is_err);
            for (noted, &(operation, told)) in noted.into_iter().zip(some) {
                if let Err(error) = noted {
                    tracing::debug!(%error, %operation, "who was told is not noted yet");
                    let mut waiting = self.waiting();
                    if waiting.told.len() < TOLD_MAX {
                        waiting.told.entry(operation).or_insert(told);
                    }
                }
            }
            if is_in_vain {
                return;
            }
        }
    }

    /// Whether there is nothing more to note; who is told then needs another one to note it.
    fn is_over(&self, stopping: bool) -> bool {
        let mut waiting = self.waiting();
        let is_over = stopping || waiting.told.is_empty();
        waiting.is_due = !is_over;
        is_over
    }
}

/// Whoever is about to note. After its panic somebody else must.
struct Noting(Arc<Told>);

impl Drop for Noting {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.waiting().is_due = false;
        }
    }
}

impl Proxy {
    /// What is recalled of a request's operation, if it may be told without asking.
    pub(super) fn recalled(&self, lane: &Lane, identified: &Identified) -> Option<Recollection> {
        let may = match (lane.route.mode, identified.identity) {
            (Mode::Enforce, Identity::Key) => !self.told.is_full(),
            // A pointer's meaning changes with time and with who was told.
            (Mode::Enforce, Identity::Content(_) | Identity::Further(_)) => false,
            // Whoever only watches counts what the store would say.
            (Mode::Observe | Mode::Off, _) => false,
        };
        if may { self.ledger().recall(identified.key, &identified.fingerprints) } else { None }
    }

    /// Tells it.
    pub(super) fn tell_recalled(
        &self,
        lane: &Lane,
        recollection: &Recollection,
        witness: &Witness,
    ) -> Response<Body> {
        let route = lane.route.name.as_str();
        self.metrics.claimed(route, "recalled");
        self.metrics.prevented.with_label_values(&[route, "record"]).inc();
        witness.recalls();
        witness.belongs_to(recollection.settled.operation(), true, self);
        respond::tell_again(recollection)
    }

    /// Notes that a caller of this operation was told, soon.
    pub(super) fn note_told_later(&self, operation: OperationId, arrived: Instant) {
        if !self.told.add(operation, arrived) {
            return;
        }
        let (told, ledger) = (Arc::clone(&self.told), Arc::clone(self.ledger()));
        let (stopping, cut) = (self.tasks.stopping().clone(), self.tasks.cut().clone());
        self.tasks.detach(async move {
            let noting = Noting(told);
            let Noting(told) = &noting;
            loop {
                // A drain does not wait for the round, nor at its end for the store.
                let _ = tokio::time::timeout(ROUND, stopping.cancelled()).await;
                let in_time = cut.run_until_cancelled(told.note(&ledger, &stopping)).await;
                if in_time.is_none() || told.is_over(stopping.is_cancelled()) {
                    return;
                }
            }
        });
    }
}
