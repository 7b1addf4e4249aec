//! Look-ups that a person asks for: the same question as the reconciler's, whether or not it is due.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{RESERVED_BEYOND, Reconciler, act_upon};
use crate::attempt::{Flights, Inquiry};
use crate::ledger::{Ledger, ReadError, View};
use crate::metrics::Metrics;
use crate::protocol::attempt::Held;
use crate::protocol::claim::{Decision, decide_same};
use crate::protocol::id::OperationId;
use crate::protocol::outcome::Finding;
use crate::protocol::record::Looked;
use crate::store::Swapped;

/// How long a look-up waits for a place among those that are under way.
const PLACE_WAIT: Duration = Duration::from_secs(10);

/// Asks providers when a person wants to know.
#[derive(Debug, Clone)]
pub struct LookUps {
    ledger: Arc<Ledger>,
    flights: Arc<Flights>,
    inquiries: Arc<HashMap<String, Inquiry>>,
    metrics: Arc<Metrics>,
    places: Arc<Semaphore>,
}

/// What a look-up came to.
#[derive(Debug)]
pub struct Asked {
    /// In a word.
    pub finding: Looked,
    /// Why it is not clear, or failed.
    pub why: Option<String>,
    /// The operation's state by now.
    pub state: &'static str,
}

/// Why nobody was asked.
#[derive(Debug, thiserror::Error)]
pub enum NotAsked {
    /// There is no such operation (any more).
    #[error("no such operation is remembered")]
    Gone,
    /// Its state is not one that a look-up is for.
    #[error("{0}")]
    NotNeeded(&'static str),
    /// Nobody can be asked.
    #[error("its route ({0}) has no look-up here; ask the provider by other means, then settle it")]
    NoLookUp(String),
    /// Others are looked up at the moment.
    #[error("too many look-ups are under way; try again later")]
    Busy,
    /// Somebody else has just worked on it.
    #[error("the record has just changed; look again")]
    Changed,
    /// The store.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Reconciler {
    /// The same look-ups, for people.
    pub fn look_ups(&self) -> LookUps {
        LookUps {
            ledger: Arc::clone(&self.ledger),
            flights: Arc::clone(&self.flights),
            inquiries: Arc::new(self.inquiries.clone()),
            metrics: Arc::clone(&self.metrics),
            places: Arc::clone(&self.look_ups),
        }
    }
}

impl LookUps {
    /// Asks once about an operation, and puts on record what that allows.
    ///
    /// # Errors
    /// [`NotAsked`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves open whether the finding is on record; it is looked up again.
    pub async fn ask(&self, operation: OperationId) -> Result<Asked, NotAsked> {
        let found = self.ledger.read(operation.key).await?;
        let mut held = found.filter(|held| held.operation() == operation).ok_or(NotAsked::Gone)?;
        needs_asking(&held)?;
        let inquiry = self.inquiries.get(&held.record.route);
        let inquiry = inquiry.ok_or_else(|| NotAsked::NoLookUp(held.record.route.clone()))?;
        let place = timeout(PLACE_WAIT, self.places.acquire()).await;
        let Ok(Ok(_place)) = place else { return Err(NotAsked::Busy) };
        // The reconcilers of all processes leave it alone meanwhile.
        let reserved = inquiry.lookup.patience() + RESERVED_BEYOND;
        let put_off = self.ledger.put_off(&mut held, reserved).await;
        if put_off.map_err(ReadError::from)? != Swapped::Done {
            return Err(NotAsked::Changed);
        }
        let finding = inquiry.ask(&self.ledger, &held).await;
        let (looked, why) = (finding.looked(), reason(&finding));
        self.metrics.looked_up(&inquiry.upstream_name, looked.name());
        let view = act_upon(&self.ledger, &self.flights, inquiry, finding, held).await;
        let state = view.as_ref().map_or("unknown", View::state);
        Ok(Asked { finding: looked, why, state })
    }
}

fn needs_asking(held: &Held) -> Result<(), NotAsked> {
    match decide_same(&held.record) {
        Decision::Doubt | Decision::Accepted => Ok(()),
        Decision::Overdue => {
            Err(NotAsked::NotNeeded("its lease has ended; it will be in doubt in a moment"))
        }
        Decision::Follow => Err(NotAsked::NotNeeded("its owner is at work, and looks it up")),
        Decision::Replay | Decision::NotKept => Err(NotAsked::NotNeeded("it is settled")),
        Decision::Claim => Err(NotAsked::NotNeeded("it is released; its key is free")),
        Decision::Mismatch | Decision::Unverifiable => {
            Err(NotAsked::NotNeeded("it cannot be told what state it is in"))
        }
    }
}

fn reason(finding: &Finding) -> Option<String> {
    match finding {
        Finding::Unclear(why) | Finding::Failed(why) => Some(why.clone()),
        Finding::Final(_) | Finding::Accepted | Finding::Absent => None,
    }
}
