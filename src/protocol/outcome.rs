//! What an answer means (the outcome table), and what a look-up's finding allows.
//!
//! The rule behind all of it: an outcome is final only on proof, "not applied" only on proof, and
//! everything else is unknown.

use serde::{Deserialize, Serialize};

use super::record::{Looked, Reply};

/// What an answer says of the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Meaning {
    /// It is over, well or badly.
    Final,
    /// Nothing was done.
    NotApplied,
    /// The provider has it and is still working.
    Accepted,
    /// It proves nothing.
    Unknown,
}

/// Which statuses a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatusMatch {
    /// This one.
    Exactly(u16),
    /// All with this first digit: `Class(5)` is 500 to 599.
    Class(u16),
}

impl StatusMatch {
    /// Whether the status is meant.
    pub const fn matches(self, status: u16) -> bool {
        match self {
            Self::Exactly(exactly) => status == exactly,
            Self::Class(class) => status / 100 == class,
        }
    }
}

/// One row of an outcome table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rule {
    /// For these statuses,
    pub status: StatusMatch,
    /// this is what the answer means.
    pub is: Meaning,
}

/// What answers mean, by status: a route's own rules first, then the defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutcomeTable {
    rules: Vec<Rule>,
    accepts: bool,
}

impl OutcomeTable {
    /// Puts a route's own rules before the defaults. `accepts`: a 202 means accepted, because a
    /// look-up exists that can follow it to its end; else it is final.
    pub const fn new(rules: Vec<Rule>, accepts: bool) -> Self {
        Self { rules, accepts }
    }

    /// What a complete answer of this status means.
    pub fn meaning(&self, status: u16) -> Meaning {
        let own = self.rules.iter().find(|rule| rule.status.matches(status));
        own.map_or_else(|| self.default_meaning(status), |rule| rule.is)
    }

    const fn default_meaning(&self, status: u16) -> Meaning {
        match status {
            202 if self.accepts => Meaning::Accepted,
            // Refused before anything was done: not authorised, too early, too many.
            401 | 403 | 407 | 425 | 429 => Meaning::NotApplied,
            408 => Meaning::Unknown,
            200..=499 => Meaning::Final,
            // 5xx, and what is no final status at all.
            _ => Meaning::Unknown,
        }
    }
}

/// Why nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UnknownReason {
    /// A complete answer that proves nothing.
    Status(u16),
    /// No answer within the upstream timeout.
    TimedOut,
    /// The connection ended after the first byte and before a whole answer.
    ConnectionLost,
    /// The answer's body ended early.
    Truncated,
    /// The answer's framing cannot be trusted: length and chunked both, or ended by closing.
    IllFramed,
    /// The upstream switched protocols unasked.
    UnexpectedUpgrade,
    /// The attempt ended in a way that was not foreseen.
    Aborted,
}

/// The proof that nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NotSent {
    /// The name did not resolve, the connection or its TLS handshake failed.
    NotConnected,
    /// A connection was there, but no write was ever tried.
    NeverWritten,
    /// The upstream timeout passed before the first byte was offered.
    TooLate,
}

/// What an owner saw of its one upstream request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// A complete, well-framed answer.
    Answer(Reply),
    /// A complete, well-framed answer that was too large to keep; its caller had it streamed.
    TooLarge {
        /// Its status.
        status: u16,
    },
    /// Proof that nothing was sent.
    NotSent(NotSent),
    /// Something went wrong after the first byte was offered.
    Broken(UnknownReason),
}

/// What that means for the operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Over.
    Final {
        /// Its status.
        status: u16,
        /// The answer, unless it was too large to keep.
        reply: Option<Reply>,
    },
    /// Certainly not applied.
    NotApplied(NotApplied),
    /// The provider is working on it.
    Accepted(Reply),
    /// Nobody knows.
    Unknown {
        /// Why.
        why: UnknownReason,
        /// The complete answer that proved nothing, if there was one.
        reply: Option<Reply>,
    },
}

impl Outcome {
    /// In a word, for metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Final { .. } => "final",
            Self::NotApplied(_) => "not-applied",
            Self::Accepted(_) => "accepted",
            Self::Unknown { .. } => "unknown",
        }
    }
}

/// Two proofs of "not applied".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotApplied {
    /// Nothing was sent.
    NotSent(NotSent),
    /// The upstream said so.
    Said(Reply),
}

/// Reads an observation by a route's table.
pub fn classify(table: &OutcomeTable, observation: Observation) -> Outcome {
    match observation {
        Observation::Answer(reply) => match table.meaning(reply.status) {
            Meaning::Final => Outcome::Final { status: reply.status, reply: Some(reply) },
            Meaning::NotApplied => Outcome::NotApplied(NotApplied::Said(reply)),
            Meaning::Accepted => Outcome::Accepted(reply),
            Meaning::Unknown => {
                Outcome::Unknown { why: UnknownReason::Status(reply.status), reply: Some(reply) }
            }
        },
        Observation::TooLarge { status } => match table.meaning(status) {
            Meaning::Final => Outcome::Final { status, reply: None },
            // Without its body it is no answer to hand to those who wait; and what cannot be
            // handed on cannot free the key either.
            Meaning::NotApplied | Meaning::Accepted | Meaning::Unknown => {
                Outcome::Unknown { why: UnknownReason::Status(status), reply: None }
            }
        },
        Observation::NotSent(proof) => Outcome::NotApplied(NotApplied::NotSent(proof)),
        Observation::Broken(why) => Outcome::Unknown { why, reply: None },
    }
}

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AbsentPolicy {
    /// The key stays in doubt, and is looked up again.
    #[default]
    Hold,
}

/// What a finding allows to be done with an operation that is not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advice {
    /// Record this answer for good.
    Settle(Reply),
    /// Record that the provider has it.
    Accept,
    /// Leave it in doubt and ask again later.
    Hold,
}

/// Reads a finding. Nothing but the thing itself settles; "absent" never does by itself.
pub fn interpret(finding: Finding, absent: AbsentPolicy) -> Advice {
    match finding {
        Finding::Final(reply) => Advice::Settle(reply),
        Finding::Accepted => Advice::Accept,
        Finding::Absent => match absent {
            AbsentPolicy::Hold => Advice::Hold,
        },
        Finding::Unclear(_) | Finding::Failed(_) => Advice::Hold,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn reply(status: u16) -> Reply {
        Reply { status, headers: vec![], body: Bytes::from_static(b"{}") }
    }

    #[test]
    fn the_default_table_is_the_published_one() {
        let table = OutcomeTable::new(vec![], true);
        for (statuses, meaning) in [
            (&[200, 201, 204, 400, 402, 404, 409, 422, 301, 303][..], Meaning::Final),
            (&[202], Meaning::Accepted),
            (&[401, 403, 407, 425, 429], Meaning::NotApplied),
            (&[408, 500, 502, 503, 504, 599, 199, 600, 999], Meaning::Unknown),
        ] {
            for &status in statuses {
                assert_eq!(table.meaning(status), meaning, "{status}");
            }
        }
        assert_eq!(OutcomeTable::new(vec![], false).meaning(202), Meaning::Final);
    }

    #[test]
    fn a_routes_own_rules_come_first_in_their_order() {
        let table = OutcomeTable::new(
            vec![
                Rule { status: StatusMatch::Exactly(503), is: Meaning::NotApplied },
                Rule { status: StatusMatch::Class(5), is: Meaning::Final },
            ],
            false,
        );

        assert_eq!(table.meaning(503), Meaning::NotApplied);
        assert_eq!(table.meaning(500), Meaning::Final);
        assert_eq!(table.meaning(429), Meaning::NotApplied);
    }

    #[test]
    fn what_broke_after_the_first_byte_is_never_not_applied() {
        let table = OutcomeTable::default();
        for why in [
            UnknownReason::TimedOut,
            UnknownReason::ConnectionLost,
            UnknownReason::Truncated,
            UnknownReason::IllFramed,
            UnknownReason::UnexpectedUpgrade,
            UnknownReason::Aborted,
        ] {
            assert_eq!(
                classify(&table, Observation::Broken(why)),
                Outcome::Unknown { why, reply: None }
            );
        }
    }

    #[test]
    fn an_answer_too_large_to_keep_frees_nothing() {
        let table = OutcomeTable::default();

        let outcome = classify(&table, Observation::TooLarge { status: 429 });

        assert_eq!(outcome, Outcome::Unknown { why: UnknownReason::Status(429), reply: None });
    }

    #[test]
    fn absent_alone_settles_and_frees_nothing() {
        assert_eq!(interpret(Finding::Absent, AbsentPolicy::Hold), Advice::Hold);
        assert_eq!(
            interpret(Finding::Final(reply(200)), AbsentPolicy::Hold),
            Advice::Settle(reply(200))
        );
    }
}
