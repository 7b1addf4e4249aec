//! How long this process has watched operations whose owner may still begin to send.
//!
//! An owner lets no first byte out once its upstream timeout has passed on its own monotonic clock.
//! The ages of a record say when that is, but they come from the store's clock, which somebody may
//! set. So nobody else concludes from them alone that an owner can do nothing more: this process
//! must itself have seen the claim in the store for as long. A restart watches anew, which only
//! delays.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Ledger;
use crate::protocol::attempt::Held;
use crate::protocol::id::OperationId;
use crate::protocol::record::{Record, State};
use crate::protocol::resend::last_resent;

/// How many operations are watched.
const WATCHED_MAX: usize = 100_000;
/// After how long without a sight an operation is forgotten; between one and two of these. Every
/// doubt comes up more often than that.
const TURN: Duration = Duration::from_secs(2 * 3600);

/// When operations were first seen, by this process's clock.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<Sights>);

#[derive(Debug, Default)]
struct Sights {
    turned: Duration,
    /// Seen since the last turn, or between the last two.
    recent: HashMap<OperationId, Sight>,
    earlier: HashMap<OperationId, Sight>,
}

/// When a right to send was first seen: that of the claim, or of its last resend.
#[derive(Debug, Clone, Copy)]
struct Sight {
    first: Duration,
    resend: u64,
}

impl Watch {
    fn sights(&self) -> MutexGuard<'_, Sights> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the claim, sent again as often, is in the store at the latest now.
    pub(super) fn saw(&self, operation: OperationId, resend: u64, now: Duration) {
        let mut sights = self.sights();
        if now.saturating_sub(sights.turned) > TURN {
            sights.turned = now;
            sights.earlier = std::mem::take(&mut sights.recent);
        }
        let known = sights.recent.get(&operation).copied();
        let known = known.or_else(|| sights.earlier.remove(&operation));
        let has_room = sights.recent.len() + sights.earlier.len() < WATCHED_MAX;
        if known.is_some() || has_room {
            let new = Sight { first: now, resend };
            let sight = known.filter(|known| known.resend == resend).unwrap_or(new);
            sights.recent.insert(operation, sight);
        }
    }

    /// How long the operation has been watched; `None`: it is not.
    fn watched(&self, operation: OperationId, now: Duration) -> Option<Duration> {
        let sights = self.sights();
        let sight = sights.recent.get(&operation).or_else(|| sights.earlier.get(&operation))?;
        Some(now.saturating_sub(sight.first))
    }
}

/// Whether an owner that nobody hears of may still begin to send, for all the state tells.
pub(super) fn needs_watching(record: &Record) -> bool {
    match &record.state {
        State::InFlight => record.renewed.age() > record.terms.lease,
        State::InDoubt { closed, .. } => closed.is_none(),
        State::Accepted { .. } | State::Settled(_) | State::Released { .. } => false,
    }
}

/// Why it is not certain yet that an owner can send nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MaySend {
    /// It has not been long enough.
    #[error(
        "its owner may still be heard upstream for {} s; wait that long (this process has watched \
         it for {} s of {} s)",
        left.as_secs() + 1, watched.as_secs(), of.as_secs_f64()
    )]
    For {
        /// How much longer.
        left: Duration,
        /// How long this process has watched it.
        watched: Duration,
        /// How long it must.
        of: Duration,
    },
    /// There is no place to note when it was first seen.
    #[error(
        "its owner may still be heard upstream, and this process watches as many doubts as it can; \
         settle others first, or ask another process"
    )]
    Unwatched,
}

impl Ledger {
    /// Whether an owner that is not heard of can send nothing any more: by its own mark, because its
    /// process is gone, or because its upstream timeout has passed by the store's clock and by this
    /// process's.
    ///
    /// # Errors
    /// [`MaySend`], if it may.
    pub fn is_spent(&self, held: &Held) -> Result<(), MaySend> {
        let record = &held.record;
        let may = matches!(record.state, State::InFlight | State::InDoubt { closed: None, .. });
        if !may || self.is_successor_of(record) {
            return Ok(());
        }
        let of = record.terms.upstream_timeout;
        let watched = self.watch.watched(held.operation(), self.now());
        let watched = watched.ok_or(MaySend::Unwatched)?;
        let sent = last_resent(record).unwrap_or(record.claimed.age());
        let least = watched.min(sent);
        if least > of { Ok(()) } else { Err(MaySend::For { left: of - least, watched, of }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::id::{AttemptId, RecordKey};

    const fn operation(number: u128) -> OperationId {
        let number = number.to_be_bytes();
        OperationId { key: RecordKey::new(number), attempt: AttemptId::new(number) }
    }

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn what_is_seen_again_and_again_is_watched_from_its_first_sight() {
        let watch = Watch::default();
        for hour in 0..10 {
            watch.saw(operation(1), 0, secs(10 + hour * 3600));
        }

        assert_eq!(watch.watched(operation(1), secs(40_010)), Some(secs(40_000)));
        assert_eq!(watch.watched(operation(2), secs(40_010)), None);
    }

    #[test]
    fn what_is_sent_again_is_watched_anew() {
        let watch = Watch::default();
        watch.saw(operation(1), 0, secs(0));
        watch.saw(operation(1), 4, secs(100));
        watch.saw(operation(1), 4, secs(150));

        assert_eq!(watch.watched(operation(1), secs(160)), Some(secs(60)));
    }

    #[test]
    fn what_is_not_seen_any_more_is_forgotten() {
        let watch = Watch::default();
        watch.saw(operation(1), 0, secs(0));
        watch.saw(operation(2), 0, TURN + secs(1));
        watch.saw(operation(2), 0, TURN * 2 + secs(2));

        assert_eq!(watch.watched(operation(1), TURN * 2 + secs(2)), None);
        assert_eq!(watch.watched(operation(2), TURN * 2 + secs(2)), Some(TURN + secs(1)));
    }

    #[test]
    fn at_the_bound_nothing_new_is_watched_and_nothing_old_is_lost() {
        let watch = Watch::default();
        let max = WATCHED_MAX as u128;
        (0..max).for_each(|number| watch.saw(operation(number), 0, secs(0)));
        watch.saw(operation(max), 0, secs(1));
        watch.saw(operation(7), 0, TURN + secs(1));
        watch.saw(operation(max), 0, TURN + secs(1));

        assert_eq!(watch.watched(operation(max), TURN + secs(1)), None);
        assert_eq!(watch.watched(operation(7), TURN + secs(1)), Some(TURN + secs(1)));
        let sights = watch.sights();
        assert_eq!(sights.recent.len() + sights.earlier.len(), WATCHED_MAX);
    }
}
