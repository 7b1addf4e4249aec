//! Walks what is due: dead owners, doubts, accepted operations, what is past its time.
//!
//! The agenda is shared by all processes on a store. Whoever is first puts an entry off before
//! working on it, so that the others leave it alone; nothing goes wrong if two do the same.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::attempt::{Flights, Inquiry, Resend};
use crate::ledger::{
    Change, Concluded, Found, Ledger, RELEASED_KEPT, ReadError, TAG_IN_DOUBT, View,
};
use crate::metrics::Metrics;
use crate::protocol::attempt::Held;
use crate::protocol::claim::{Decision, decide_same};
use crate::protocol::id::{OperationId, RecordKey, Token};
use crate::protocol::invariants;
use crate::protocol::outcome::{Advice, Finding, interpret};
use crate::protocol::record::{Doubt, Happening, Pointer, Release, SettledBy, State};
use crate::store::{Agenda, Listing, Swapped};
use crate::task::Tasks;

mod asking;
mod resending;

pub use asking::{Asked, LookUps, NotAsked};
use resending::Resent;

/// How often the agenda is asked.
const TICK: Duration = Duration::from_millis(200);
/// How many entries are taken from the agenda at a time.
const BATCH_MAX: usize = 64;
/// How many look-ups may be under way.
const LOOK_UPS_MAX: usize = 32;
/// When a look-up is due again that found no place.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// How much longer than a look-up can take others leave its operation alone.
const RESERVED_BEYOND: Duration = Duration::from_secs(1);
/// A look-up that was wished for is not made sooner than this after the last one.
const WISHED_PAUSE: Duration = Duration::from_millis(500);
/// When a doubt that cannot be looked up is reviewed: its route may have got a look-up meanwhile.
const REVIEW: Duration = Duration::from_secs(3600);
/// How far the store's clock may depart from ours before nothing is purged any more.
const DEPARTURE_MAX: Duration = Duration::from_secs(5);
/// How often doubts are counted for the metrics.
const COUNT_EVERY: Duration = Duration::from_secs(10);
/// How many doubts are counted at the most.
const COUNTED_MAX: usize = 10_000;

/// The reconciler of one process.
#[derive(Debug)]
pub struct Reconciler {
    ledger: Arc<Ledger>,
    flights: Arc<Flights>,
    inquiries: HashMap<String, Inquiry>,
    resends: HashMap<String, Arc<Resend>>,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    look_ups: Arc<Semaphore>,
    pace: Pace,
}

/// Whether an entry was brought further, or has to wait where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worked {
    Yes,
    No,
}

/// Whether the clocks can be trusted enough to let anything go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purging {
    Allowed,
    Suspended,
}

/// Whether the store's clock keeps pace with ours.
#[derive(Debug, Default)]
struct Pace {
    first: Option<(Duration, Instant)>,
    departed: bool,
}

impl Pace {
    /// Compares how far both have come since the first look. Once departed it stays so: ages that
    /// were written before the step are wrong by it for as long as their records live.
    fn keeps(&mut self, clock: Duration) -> bool {
        let (first, at) = *self.first.get_or_insert_with(|| (clock, Instant::now()));
        let (theirs, ours) = (clock.saturating_sub(first), at.elapsed());
        let stepped_back = first > clock;
        if !self.departed && (stepped_back || theirs.abs_diff(ours) > DEPARTURE_MAX) {
            self.departed = true;
            tracing::error!(
                "the store's clock does not keep pace with this process's; nothing is purged any \
                 more; set the clock right, then restart semel"
            );
        }
        !self.departed
    }
}

impl Reconciler {
    /// Works for these routes.
    pub fn new(
        ledger: Arc<Ledger>,
        flights: Arc<Flights>,
        inquiries: HashMap<String, Inquiry>,
        metrics: Arc<Metrics>,
        tasks: Tasks,
    ) -> Self {
        let look_ups = Arc::new(Semaphore::new(LOOK_UPS_MAX));
        let (resends, pace) = (HashMap::new(), Pace::default());
        Self { ledger, flights, inquiries, resends, metrics, tasks, look_ups, pace }
    }

    /// The same, which also sends again what these routes allow.
    #[must_use]
    pub fn with_resends(self, resends: HashMap<String, Arc<Resend>>) -> Self {
        Self { resends, ..self }
    }

    /// Runs until the process is to stop.
    pub async fn run(mut self, mut wishes: mpsc::Receiver<OperationId>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut count_at = Instant::now();
        let stopping = self.tasks.stopping().clone();
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                Some(operation) = wishes.recv() => {
                    if AssertUnwindSafe(self.grant(operation)).catch_unwind().await.is_err() {
                        tracing::error!(%operation, "panicked over what somebody waits for");
                    }
                }
                _ = tick.tick() => {
                    let counts = Instant::now() >= count_at;
                    let round = AssertUnwindSafe(self.round(&stopping, counts));
                    if round.catch_unwind().await.is_err() {
                        tracing::error!("panicked over the agenda; going on");
                    }
                    if counts {
                        count_at = Instant::now() + COUNT_EVERY;
                    }
                }
            }
        }
    }

    async fn round(&mut self, stopping: &CancellationToken, counts: bool) {
        while self.pass().await == BATCH_MAX && !stopping.is_cancelled() {}
        if counts {
            self.count().await;
        }
    }

    /// Takes one batch from the agenda. Says how many entries it brought further: what it leaves
    /// as it is must not be asked for again at once.
    pub async fn pass(&mut self) -> usize {
        let asked = self.ledger.now();
        let Agenda { clock, due } = match self.ledger.store().due(BATCH_MAX).await {
            Ok(agenda) => agenda,
            Err(error) => {
                tracing::debug!(%error, "the agenda cannot be read now");
                return 0;
            }
        };
        let purging = if self.pace.keeps(clock) { Purging::Allowed } else { Purging::Suspended };
        let mut worked = 0;
        for (key, stored) in due {
            let done = match self.ledger.hold(key, &stored, asked) {
                Ok(Found::Record(held)) => {
                    // One record that brings out a mistake of ours must not keep all others waiting.
                    let handled = AssertUnwindSafe(self.handle(held, purging));
                    handled.catch_unwind().await.unwrap_or_else(|_| Err(panicked()))
                }
                Ok(Found::Pointer(token, pointer)) => {
                    self.review_pointer(key, token, pointer, purging).await
                }
                Err(error) => Err(error),
            };
            match done {
                Ok(Worked::Yes) => worked += 1,
                Ok(Worked::No) => {}
                // It must not stand before what can be worked on; people find it on the list.
                Err(error @ ReadError::Unreadable(_)) => {
                    tracing::error!(%error, record = %key, "put off: cannot be reconciled here");
                    if self.ledger.put_off_unread(key, &stored, REVIEW).await.is_ok() {
                        worked += 1;
                    }
                }
                Err(error) => tracing::warn!(%error, record = %key, "could not reconcile"),
            }
        }
        worked
    }

    async fn handle(&self, mut held: Held, purging: Purging) -> Result<Worked, ReadError> {
        match (decide_same(&held.record), purging) {
            (Decision::Overdue, _) => {
                self.doubt(held).await;
                Ok(Worked::Yes)
            }
            (Decision::Doubt | Decision::Accepted, _) => self.look_up(held).await,
            (Decision::Replay | Decision::NotKept | Decision::Claim, Purging::Allowed) => {
                self.let_go(held).await
            }
            // Out of the way of what can be worked on.
            (Decision::Replay | Decision::NotKept | Decision::Claim, Purging::Suspended) => {
                self.ledger.put_off(&mut held, REVIEW).await?;
                Ok(Worked::Yes)
            }
            // Not due after all: its owner has just renewed.
            (Decision::Follow, _) => Ok(Worked::No),
            (Decision::Mismatch | Decision::Unverifiable, _) => Ok(Worked::No),
        }
    }

    async fn review_pointer(
        &self,
        key: RecordKey,
        token: Token,
        pointer: Pointer,
        purging: Purging,
    ) -> Result<Worked, ReadError> {
        match purging {
            Purging::Allowed => self.ledger.review_pointer(key, token, pointer).await?,
            Purging::Suspended => self.ledger.put_off_pointer(key, token, pointer).await?,
        }
        Ok(Worked::Yes)
    }

    async fn doubt(&self, held: Held) {
        let operation = held.operation();
        let change = Change::Doubt { why: Doubt::OwnerSilent, closed: false };
        if let Concluded::Recorded(view) = self.ledger.conclude(held, change).await {
            tracing::warn!(%operation, "its owner is silent: in doubt");
            self.metrics.reconciled.with_label_values(&["owner-silent"]).inc();
            self.flights.publish(view);
        }
    }

    /// Drops what is past its time: the answer first, the tombstone later.
    async fn let_go(&self, held: Held) -> Result<Worked, ReadError> {
        if invariants::may_purge(&held.record, RELEASED_KEPT) {
            self.ledger.purge(held).await?;
            self.metrics.reconciled.with_label_values(&["purged"]).inc();
            return Ok(Worked::Yes);
        }
        let over = held.record.entered.age() > held.record.terms.retention;
        if over && matches!(&held.record.state, State::Settled(s) if s.reply.is_some()) {
            self.ledger.bury(held).await?;
            self.metrics.reconciled.with_label_values(&["buried"]).inc();
            return Ok(Worked::Yes);
        }
        Ok(Worked::No)
    }

    /// Looks an operation up that somebody waits for, unless that was done just now.
    async fn grant(&self, operation: OperationId) {
        match self.ledger.read(operation.key).await {
            Ok(Some(held)) if held.operation() == operation => {
                let recent = held.record.timeline.iter().rev().any(|event| {
                    matches!(event.what, Happening::LookedUp(_)) && event.at.age() < WISHED_PAUSE
                });
                let waits = match (decide_same(&held.record), &held.record.state) {
                    // The provider said when it wants to be asked first.
                    (_, State::Accepted { looked: 0, after: Some(after), .. }) => {
                        held.record.entered.age() >= *after
                    }
                    (decision, _) => matches!(decision, Decision::Doubt | Decision::Accepted),
                };
                if waits
                    && !recent
                    && let Err(error) = self.look_up(held).await
                {
                    tracing::debug!(%error, "could not look up what somebody waits for");
                }
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// Asks the provider, in a task of its own.
    async fn look_up(&self, mut held: Held) -> Result<Worked, ReadError> {
        let inquiry = self.inquiries.get(&held.record.route).cloned();
        let resend = self.resends.get(&held.record.route).cloned();
        let resend = resend.filter(|resend| resending::is_due(&self.flights, resend, &held));
        // A look-up that can only follow a `Location` says nothing of a doubt, which would keep the
        // request from being sent again.
        let inquiry = inquiry.filter(|inquiry| resend.is_none() || inquiry.lookup.has_question());
        if inquiry.is_none() && resend.is_none() {
            // A request that may be sent later is not worth more than a look now and then.
            let pause = if self.flights.spares().get(held.operation()).is_some() {
                held.record.terms.upstream_timeout.min(REVIEW)
            } else {
                REVIEW
            };
            self.ledger.put_off(&mut held, pause).await?;
            return Ok(Worked::Yes);
        }
        let Ok(place) = Arc::clone(&self.look_ups).try_acquire_owned() else {
            // What waits for a place must not stand before owners that died.
            self.ledger.put_off(&mut held, BUSY_PAUSE).await?;
            return Ok(Worked::Yes);
        };
        // Others leave it alone for as long as this look-up can take.
        let asking = inquiry.as_ref().map_or(Duration::ZERO, |inquiry| inquiry.lookup.patience());
        let reserved = asking + RESERVED_BEYOND;
        if self.ledger.put_off(&mut held, reserved).await? != Swapped::Done {
            return Ok(Worked::Yes);
        }
        let (ledger, flights) = (Arc::clone(&self.ledger), Arc::clone(&self.flights));
        let metrics = Arc::clone(&self.metrics);
        self.tasks.detach(async move {
            let _place = place;
            find_out(&ledger, &flights, &metrics, (inquiry.as_ref(), resend.as_deref()), held)
                .await;
        });
        Ok(Worked::Yes)
    }

    /// Counts what is in doubt, for the metrics and the alarm that watches them.
    pub async fn count(&self) {
        let mut by_route: HashMap<String, i64> =
            self.inquiries.keys().map(|route| (route.clone(), 0)).collect();
        let mut oldest = Duration::ZERO;
        let mut after = None;
        let mut counted = 0;
        while counted < COUNTED_MAX {
            let listing = Listing { tag: Some(TAG_IN_DOUBT), after, limit: 500 };
            let asked = self.ledger.now();
            let Ok(page) = self.ledger.store().list(&listing).await else { return };
            counted += page.entries.len();
            for (key, stored) in &page.entries {
                let Ok(Found::Record(held)) = self.ledger.hold(*key, stored, asked) else {
                    continue;
                };
                oldest = oldest.max(held.record.entered.age());
                *by_route.entry(held.record.route).or_default() += 1;
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        self.metrics.in_doubt.reset();
        for (route, count) in by_route {
            self.metrics.in_doubt.with_label_values(&[&route]).set(count);
        }
        self.metrics.in_doubt_oldest.set(oldest.as_secs_f64());
    }
}

fn panicked() -> ReadError {
    ReadError::Unreadable("reconciling it panicked".to_owned())
}

/// Asks, and where that finds nothing, or nobody can be asked, sends again if that may be.
async fn find_out(
    ledger: &Ledger,
    flights: &Flights,
    metrics: &Metrics,
    (inquiry, resend): (Option<&Inquiry>, Option<&Resend>),
    held: Held,
) -> Option<View> {
    let Some(inquiry) = inquiry else {
        return match resending::resend(ledger, flights, metrics, resend?, held).await {
            Resent::Told(view) => view,
            Resent::NotNow(_) => None,
        };
    };
    let finding = inquiry.ask(ledger, &held).await;
    metrics.looked_up(&inquiry.upstream_name, finding.looked().name());
    let held = match resend {
        Some(resend) if finding == Finding::Absent => {
            match resending::resend(ledger, flights, metrics, resend, held).await {
                Resent::Told(view) => return view,
                Resent::NotNow(held) => held,
            }
        }
        Some(_) | None => held,
    };
    act_upon(ledger, flights, inquiry, finding, held).await
}

/// Puts on record what a finding allows.
async fn act_upon(
    ledger: &Ledger,
    flights: &Flights,
    inquiry: &Inquiry,
    finding: Finding,
    held: Held,
) -> Option<View> {
    let operation = held.operation();
    let looked = finding.looked();
    let was_accepted = matches!(held.record.state, State::Accepted { .. });
    // The record as it was when the question was put: what had to have passed had passed by then.
    let advice = interpret(finding, &held.record.state, inquiry.absent());
    let stays = advice == Advice::Hold || was_accepted && advice == Advice::Accept;
    // Of what stays as it was, the ledger notes and counts it.
    let note = (!stays).then_some(Happening::LookedUp(looked));
    let change = match advice {
        Advice::Settle(reply) => Change::Settle {
            by: SettledBy::LookUp,
            status: reply.status,
            reply: Some(reply),
            delivery: crate::protocol::record::Delivery::default(),
        },
        Advice::Reopen => Change::Release { why: Release::Absent, reply: None },
        Advice::Accept if was_accepted => Change::Looked(looked),
        Advice::Accept => Change::Accept { reply: None },
        Advice::LoseTrack => Change::Doubt { why: Doubt::TrackLost, closed: false },
        Advice::Hold => Change::Looked(looked),
    };
    tracing::info!(%operation, finding = looked.name(), "looked up");
    match ledger.conclude_noting(held, note, change).await {
        Concluded::Recorded(view) => {
            flights.publish(view.clone());
            Some(view)
        }
        // Whoever was first has told it; what could not be written is due again soon.
        Concluded::Overtaken(view) | Concluded::NotYet(view, _) => Some(view),
    }
}
