//! What must hold, as functions: asserted where records are written, and by tests and simulator.

use super::record::{Record, State};

/// An edge that the state diagram does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an operation may not go from {from} to {to}")]
pub struct NoSuchEdge {
    /// The state it was in; `none` if there was no record.
    pub from: &'static str,
    /// The state it was to enter.
    pub to: &'static str,
}

/// I4: only the edges of the diagram exist. Staying in a state is writing more into it (a renewal,
/// a look-up's result, a delivery mark), which every state allows.
///
/// # Errors
/// The edge that does not exist.
pub fn edge(from: Option<&Record>, to: &Record) -> Result<(), NoSuchEdge> {
    let same_claim = from.is_some_and(|from| from.attempt == to.attempt);
    let fine = match (from.map(|from| &from.state), &to.state) {
        // A claim, on nothing or on a released key, by a new attempt.
        (None | Some(State::Released { .. }), State::InFlight) => !same_claim,
        // Its owner puts back what the store has lost.
        (None, State::Settled(_) | State::InDoubt { .. } | State::Released { .. }) => true,
        (None, State::Accepted { .. }) => true,
        (Some(State::InFlight), _) => same_claim,
        (
            Some(State::InDoubt { .. } | State::Accepted { .. }),
            State::InDoubt { .. }
            | State::Accepted { .. }
            | State::Settled(_)
            | State::Released { .. },
        ) => same_claim,
        (Some(State::InDoubt { .. } | State::Accepted { .. }), State::InFlight) => false,
        (Some(State::Settled(before)), State::Settled(after)) => {
            // The outcome never changes; its answer may go, delivery marks may come.
            same_claim
                && before.status == after.status
                && before.by == after.by
                && (after.reply == before.reply || after.reply.is_none())
        }
        (Some(State::Settled(_)), _) => false,
        (Some(State::Released { .. }), State::Released { .. }) => same_claim,
        (Some(State::Released { .. }), _) => false,
    };
    if fine {
        return Ok(());
    }
    Err(NoSuchEdge { from: from.map_or("none", |from| from.state.name()), to: to.state.name() })
}

/// I17: which claim may become a pointer to another operation's record: one that was never sent.
/// That it was not is for its owner to know, who still has the right to send in hand.
pub const fn may_become_a_name(record: &Record) -> bool {
    matches!(record.state, State::InFlight)
}

/// I5: what may be purged, by the store's own reckoning of ages. Never what is unsettled.
pub fn may_purge(record: &Record, released_kept: std::time::Duration) -> bool {
    match &record.state {
        State::InFlight | State::Accepted { .. } | State::InDoubt { .. } => false,
        State::Settled(_) => record.entered.age() > record.terms.retention + record.terms.remember,
        State::Released { .. } => record.entered.age() > released_kept,
    }
}
