//! What may be done about a request, given what is remembered of its key.

use std::time::Duration;

use super::fingerprint::{Fingerprints, Matched};
use super::record::{Identity, Record, Settlement, State};

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing is remembered, or only that nothing was applied: try to become the owner.
    Claim,
    /// The owner is alive: wait for it.
    Follow,
    /// The owner has been silent for longer than its lease: put the operation in doubt, then as
    /// [`Self::Doubt`].
    Overdue,
    /// Nobody knows the outcome: wait for a look-up, if there is one.
    Doubt,
    /// The provider is working on it: tell what it said.
    Accepted,
    /// The outcome is on record: tell it.
    Replay,
    /// The outcome is on record, its answer is not.
    NotKept,
    /// The key stands for another request. Nothing is changed.
    Mismatch,
    /// The record was made with a secret that is not configured here: as good as unreadable.
    Unverifiable,
}

/// Decides. `record` is as of now: its ages were brought up by the store's clock.
pub fn decide(record: Option<&Record>, fingerprints: &Fingerprints) -> Decision {
    let Some(record) = record else { return Decision::Claim };
    // A released key was never applied, so it does not matter what it stood for.
    if matches!(record.state, State::Released { .. }) {
        return Decision::Claim;
    }
    match fingerprints.matches(&record.fingerprint) {
        Matched::Same => decide_same(record),
        Matched::Other => Decision::Mismatch,
        Matched::UnknownSecret => Decision::Unverifiable,
    }
}

/// Decides for a request that is known to be the record's own.
pub fn decide_same(record: &Record) -> Decision {
    match &record.state {
        State::Released { .. } => Decision::Claim,
        // An expired lease is not a free key: its owner may have been heard upstream.
        State::InFlight if record.renewed.age() > record.terms.lease => Decision::Overdue,
        State::InFlight => Decision::Follow,
        State::InDoubt { .. } => Decision::Doubt,
        State::Accepted { .. } => Decision::Accepted,
        State::Settled(settlement) => decide_settled(record, settlement),
    }
}

fn decide_settled(record: &Record, settlement: &Settlement) -> Decision {
    let kept = record.entered.age() <= record.terms.retention;
    if kept && settlement.reply.is_some() { Decision::Replay } else { Decision::NotKept }
}

/// How long a settled record is recalled at the longest without being read again: what a person
/// does to a store by hand shows by then.
pub const RECALLED_MAX: Duration = Duration::from_secs(600);

/// How long a process that has just read this record may tell its answer without reading it again;
/// zero: not at all. `record` is as of when it was asked for.
///
/// An outcome on record never changes. What ends is its retention: half of what is left is far from
/// that, whatever two clocks make of it. A record that somebody left unanswered is read each time,
/// because who is told then must be noted on it at once.
pub fn recalled_for(record: &Record) -> Duration {
    let by_key = match record.identity {
        Identity::Key | Identity::Further(_) => true,
        // Nobody comes by such a record's own key.
        Identity::Content(_) => false,
    };
    match &record.state {
        State::Settled(Settlement { reply: Some(_), .. })
            if by_key && record.delivery.left.is_none() =>
        {
            let left = record.terms.retention.saturating_sub(record.entered.age());
            (left / 2).min(RECALLED_MAX)
        }
        State::Settled(_)
        | State::InFlight
        | State::Accepted { .. }
        | State::InDoubt { .. }
        | State::Released { .. } => Duration::ZERO,
    }
}

/// Whether the pointer that a business key left behind may now lead to a new operation: its
/// operation has failed for good, was never applied, or succeeded longer ago than the key binds.
pub fn business_is_free(record: &Record) -> bool {
    match &record.state {
        State::Settled(settlement) if settlement.status >= FAILED => true,
        State::Settled(_) => record.entered.age() > record.terms.bound,
        State::Released { .. } => true,
        // However old: nobody knows yet, so it binds (I5).
        State::InFlight | State::Accepted { .. } | State::InDoubt { .. } => false,
    }
}

/// A final answer from this status on says that the operation failed: a declined card.
const FAILED: u16 = 400;

/// How long after its last caller left unanswered an operation is found by its content under
/// another key.
pub const ORPHANED_FOR: Duration = Duration::from_secs(600);

/// Whether the same content under another key is a retry of this operation: the last of its callers
/// has left unanswered, and not long ago. Once somebody got the answer it is another payment.
pub fn is_orphan(record: &Record) -> bool {
    let left = record.delivery.left.is_some_and(|left| left.age() <= ORPHANED_FOR);
    match &record.state {
        State::InFlight | State::Accepted { .. } | State::InDoubt { .. } | State::Settled(_) => {
            left && record.delivery.done().is_none()
        }
        // It was certainly not applied: nothing to be recognised.
        State::Released { .. } => false,
    }
}

/// Whether the pointer that identical content left behind may now lead to a new operation.
pub fn content_is_free(record: &Record) -> bool {
    let over = record.entered.age() > record.terms.retention;
    match &record.state {
        State::Settled(_) => {
            over || record.delivery.done().is_some_and(|since| since >= record.terms.window)
        }
        // A doubt known by content alone stops matching after retention; it stays on the list.
        State::InDoubt { .. } => over,
        // A released record is claimed again under its own key.
        State::InFlight | State::Accepted { .. } | State::Released { .. } => false,
    }
}
