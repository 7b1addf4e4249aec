//! What a look-up's finding allows, "absent" above all.
//!
//! A look-up can overtake the request, and an owner may be paused with its right to send unspent. So
//! "absent" proves something only once the owner's connection is known to be closed, a while has
//! passed since, and the provider has said so again and again meanwhile.

use std::sync::Arc;
use std::time::Duration;

use crate::protocol::record::{Doubt, Looked, Reply, State};

/// How often in a row an operation that was accepted may be absent before its track is lost. Never
/// more than that follows from it: the provider had it.
pub const ACCEPTED_ABSENT_MAX: u32 = 5;

/// What the provider said when it was asked what became of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It is there and over: this is the answer to record.
    Final(Reply),
    /// It is there, still working.
    Accepted,
    /// It is not there. Alone this proves nothing: a look-up can overtake the request.
    Absent,
    /// An answer that no rule explains: a value no rule names, two matches, an unread page.
    Unclear(String),
    /// The question was not answered: an error status, a time-out, no connection.
    Failed(String),
}

impl Finding {
    /// In a word, for timeline and metrics.
    pub const fn looked(&self) -> Looked {
        match self {
            Self::Final(_) => Looked::Final,
            Self::Accepted => Looked::Accepted,
            Self::Absent => Looked::Absent,
            Self::Unclear(_) => Looked::Unclear,
            Self::Failed(_) => Looked::Failed,
        }
    }
}

/// What "absent" leads to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AbsentPolicy {
    /// The key stays in doubt, and is looked up again.
    #[default]
    Hold,
    /// It is settled as never applied, with this answer.
    Fail(Enough, Arc<Reply>),
    /// The key is freed.
    Reopen(Enough),
}

/// How much absence is enough to act upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enough {
    /// So long after the owner's connection was known to be closed,
    pub after: Duration,
    /// and found absent so often in a row since then.
    pub times: u32,
}

/// What a finding allows to be done with an operation that is not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advice {
    /// Record this answer for good.
    Settle(Arc<Reply>),
    /// Free the key.
    Reopen,
    /// Record that the provider has it.
    Accept,
    /// The provider had it and shows it no more: put it in doubt again.
    LoseTrack,
    /// Leave it as it is and ask again later.
    Hold,
}

/// Reads a finding. `state` is what the record said when the question was put, so that whatever has
/// to have passed had passed by then.
pub fn interpret(finding: Finding, state: &State, policy: &AbsentPolicy) -> Advice {
    match finding {
        Finding::Final(reply) => Advice::Settle(Arc::new(reply)),
        Finding::Accepted => Advice::Accept,
        Finding::Absent => absent(state, policy),
        Finding::Unclear(_) | Finding::Failed(_) => Advice::Hold,
    }
}

fn absent(state: &State, policy: &AbsentPolicy) -> Advice {
    match state {
        State::Accepted { absent, .. } if absent + 1 >= ACCEPTED_ABSENT_MAX => Advice::LoseTrack,
        State::InDoubt { .. } => match policy {
            AbsentPolicy::Hold => Advice::Hold,
            AbsentPolicy::Fail(enough, reply) if enough.is_met_by(state) => {
                Advice::Settle(Arc::clone(reply))
            }
            AbsentPolicy::Reopen(enough) if enough.is_met_by(state) => Advice::Reopen,
            AbsentPolicy::Fail(..) | AbsentPolicy::Reopen(_) => Advice::Hold,
        },
        State::InFlight | State::Accepted { .. } | State::Settled(_) | State::Released { .. } => {
            Advice::Hold
        }
    }
}

impl Enough {
    /// Whether one more "absent" is enough.
    fn is_met_by(self, state: &State) -> bool {
        let State::InDoubt { why, closed: Some(closed), absent, .. } = state else { return false };
        // What the provider once said it had is not undone by its not being shown.
        *why != Doubt::TrackLost
            && closed.age() >= self.after
            && absent.saturating_add(1) >= self.times
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::outcome::UnknownReason;
    use crate::protocol::record::Ago;

    const ENOUGH: Enough = Enough { after: Duration::from_secs(60), times: 3 };
    const TIMED_OUT: Doubt = Doubt::Unknown(UnknownReason::TimedOut);

    fn reply(status: u16) -> Reply {
        Reply { status, headers: vec![], body: Bytes::from_static(b"{}") }
    }

    fn never() -> Arc<Reply> {
        Arc::new(reply(424))
    }

    fn in_doubt(why: Doubt, closed: Option<u64>, absent: u32) -> State {
        let closed = closed.map(|seconds| Ago::new(Duration::from_secs(seconds)));
        State::InDoubt { why, closed, looked: 9, absent }
    }

    fn accepted(absent: u32) -> State {
        State::Accepted { reply: None, looked: 9, absent, after: None }
    }

    #[test]
    fn absent_alone_settles_and_frees_nothing() {
        let doubt = in_doubt(TIMED_OUT, Some(1_000_000), 1_000);

        assert_eq!(interpret(Finding::Absent, &doubt, &AbsentPolicy::Hold), Advice::Hold);
        assert_eq!(
            interpret(Finding::Final(reply(200)), &doubt, &AbsentPolicy::Hold),
            Advice::Settle(Arc::new(reply(200)))
        );
    }

    #[test]
    fn absence_acts_only_under_the_mark_after_a_while_and_found_so_often() {
        for (state, acts) in [
            (in_doubt(TIMED_OUT, Some(60), 2), true),
            (in_doubt(Doubt::OwnerSilent, Some(60), 2), true),
            (in_doubt(TIMED_OUT, Some(3_600), 7), true),
            (in_doubt(TIMED_OUT, None, 7), false),
            (in_doubt(TIMED_OUT, Some(59), 7), false),
            (in_doubt(TIMED_OUT, Some(3_600), 1), false),
            (in_doubt(Doubt::TrackLost, Some(3_600), 7), false),
            (accepted(0), false),
            (State::InFlight, false),
        ] {
            let fail = AbsentPolicy::Fail(ENOUGH, never());
            let failed = if acts { Advice::Settle(never()) } else { Advice::Hold };
            assert_eq!(interpret(Finding::Absent, &state, &fail), failed, "{state:?}");
            let reopen = AbsentPolicy::Reopen(ENOUGH);
            let reopened = if acts { Advice::Reopen } else { Advice::Hold };
            assert_eq!(interpret(Finding::Absent, &state, &reopen), reopened, "{state:?}");
        }
    }

    #[test]
    fn nothing_but_absent_is_taken_for_absent() {
        let doubt = in_doubt(TIMED_OUT, Some(3_600), 7);
        let reopen = AbsentPolicy::Reopen(ENOUGH);
        for finding in [Finding::Unclear(String::new()), Finding::Failed(String::new())] {
            assert_eq!(interpret(finding, &doubt, &reopen), Advice::Hold);
        }
        assert_eq!(interpret(Finding::Accepted, &doubt, &reopen), Advice::Accept);
    }

    #[test]
    fn what_was_accepted_is_lost_track_of_only_when_often_absent_and_never_settled_by_that() {
        for policy in
            [AbsentPolicy::Hold, AbsentPolicy::Fail(ENOUGH, never()), AbsentPolicy::Reopen(ENOUGH)]
        {
            let often = interpret(Finding::Absent, &accepted(ACCEPTED_ABSENT_MAX - 1), &policy);
            assert_eq!(often, Advice::LoseTrack);
            let seldom = interpret(Finding::Absent, &accepted(ACCEPTED_ABSENT_MAX - 2), &policy);
            assert_eq!(seldom, Advice::Hold);
        }
    }
}
