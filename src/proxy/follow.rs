//! Waiting for what becomes of an operation, whoever owns it.
//!
//! Owners of this process publish on the flight, so their followers wake at once. Owners elsewhere
//! are watched through the store: one of those who wait polls on behalf of all.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::attempt::{Flight, Flights, Stage};
use crate::ledger::{Ledger, View};
use crate::protocol::record::Reply;

/// How often the store is asked about an operation that somebody waits for.
const POLL: Duration = Duration::from_millis(60);

/// How long after the wish for a look-up the next one is made, while nothing is found: doubling, up
/// to the latter.
const WISH_PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(4));

/// How long somebody waits.
#[derive(Debug, Clone, Copy)]
pub enum Patience {
    /// The first caller: as long as the upstream call lasts, then so long for a look-up.
    Owner {
        /// When the call must have come to an end, whatever has become of its attempt.
        until: Instant,
        /// The longest wait for a look-up.
        max_wait: Duration,
    },
    /// A duplicate: until then.
    Duplicate {
        /// The end of its wait.
        until: Instant,
    },
}

/// Whether anybody asks the provider about what is in doubt.
#[derive(Debug, Clone, Copy)]
pub struct LookedUp<'a> {
    /// The route has a look-up.
    pub looked_up: bool,
    /// From then on this process makes no more.
    pub stopping: &'a CancellationToken,
}

/// What the wait came to.
#[derive(Debug)]
pub enum Waited {
    /// This can be told.
    Told(View, Option<Arc<Reply>>),
    /// The answer is streamed, and this caller is the one to get it.
    Streamed(crate::attempt::Streamed),
    /// Nothing is known yet.
    NotYet,
}

/// Waits on a flight.
///
/// # Cancel safety
/// Dropping the future abandons the wait and nothing else.
pub async fn wait(
    flight: &Arc<Flight>,
    flights: &Flights,
    ledger: &Ledger,
    patience: Patience,
    LookedUp { looked_up, stopping }: LookedUp<'_>,
) -> Waited {
    let mut stages = flight.watch();
    let (mut wish_at, mut wish_pause) = (Instant::now(), WISH_PAUSES.0);
    let mut poll_at = Instant::now() + POLL;
    loop {
        let stage = stages.borrow_and_update().clone();
        let mut in_doubt = false;
        // It may have come to its end, and on record, before its caller could take it.
        if matches!(patience, Patience::Owner { .. })
            && let Some(streamed) = flight.take_stream()
        {
            return Waited::Streamed(streamed);
        }
        let until = match stage {
            Stage::Flying | Stage::Streaming => patience.while_flying(),
            Stage::Known { view: View::InDoubt(view), unproven, at } => {
                let until = patience.in_doubt(at);
                // Without a look-up nothing will be known before a person acts.
                if !looked_up || stopping.is_cancelled() || Instant::now() >= until {
                    return Waited::Told(View::InDoubt(view), unproven);
                }
                // The agenda's own pauses grow to minutes; whoever waits here will not wait so long.
                if Instant::now() >= wish_at {
                    flights.wish(flight.operation());
                    wish_at = Instant::now() + wish_pause;
                    wish_pause = (wish_pause * 2).min(WISH_PAUSES.1);
                }
                in_doubt = true;
                until
            }
            Stage::Known { view, unproven, .. } => return Waited::Told(view, unproven),
        };
        if Instant::now() >= until {
            return Waited::NotYet;
        }
        tokio::select! {
            biased;
            changed = stages.changed() => if changed.is_err() { return Waited::NotYet },
            () = sleep_until(until) => {}
            () = sleep_until(wish_at), if in_doubt => {}
            // Nobody here looks anything up any more.
            () = stopping.cancelled(), if in_doubt && !stopping.is_cancelled() => {}
            // Rare, and large: in a box, made when it is first polled, so that every wait is the smaller.
            () = async { Box::pin(poll(flight, ledger, poll_at)).await }, if !flight.is_owned() => {
                poll_at = Instant::now() + POLL;
            }
        }
    }
}

/// What is known now, for those who wait no longer.
pub fn known(flight: &Flight) -> Waited {
    match flight.stage() {
        Stage::Flying | Stage::Streaming => Waited::NotYet,
        Stage::Known { view, unproven, .. } => Waited::Told(view, unproven),
    }
}

/// Waits until another state than this is known to be on record.
///
/// # Cancel safety
/// Dropping the future abandons the wait and nothing else.
pub async fn until_other(flight: &Flight, ledger: &Ledger, was: &str) {
    let mut stages = flight.watch();
    let mut poll_at = Instant::now() + POLL;
    loop {
        let is_other = match &*stages.borrow_and_update() {
            Stage::Flying | Stage::Streaming => false,
            // Its record does not say so yet.
            Stage::Known { view: View::Settled(settled), .. } if !settled.recorded() => false,
            Stage::Known { view, .. } => view.state() != was,
        };
        if is_other {
            return;
        }
        tokio::select! {
            biased;
            // It changes for as long as the flight is there, and we hold that.
            _ = stages.changed() => {}
            // Rare, and large: in a box, made when it is first polled, so that every wait is the smaller.
            () = async { Box::pin(poll(flight, ledger, poll_at)).await }, if !flight.is_owned() => {
                poll_at = Instant::now() + POLL;
            }
        }
    }
}

/// Asks the store, unless somebody else who waits here is doing so. A store that is slow to answer
/// holds up nobody: whoever has something better to do drops this.
async fn poll(flight: &Flight, ledger: &Ledger, at: Instant) {
    sleep_until(at).await;
    let Ok(_turn) = flight.polling.try_lock() else { return };
    match ledger.look(flight.operation()).await {
        Ok(Some(view)) => flight.publish(view),
        // Not there: lost, or purged. Whoever waits will be told that nothing is known.
        Ok(None) => {}
        Err(error) => tracing::debug!(%error, "could not ask the store for a follower"),
    }
}

impl Patience {
    const fn while_flying(self) -> Instant {
        match self {
            Self::Owner { until, .. } | Self::Duplicate { until } => until,
        }
    }

    fn in_doubt(self, since: Instant) -> Instant {
        match self {
            Self::Owner { max_wait, .. } => since + max_wait,
            Self::Duplicate { until } => until,
        }
    }
}
