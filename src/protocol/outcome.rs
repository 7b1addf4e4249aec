//! What an answer means (the outcome table), and what a look-up's finding allows.
//!
//! The rule behind all of it: an outcome is final only on proof, "not applied" only on proof, and
//! everything else is unknown.

use serde::{Deserialize, Serialize};

use super::record::Reply;

mod absent;
mod retry_after;
mod table;

pub use absent::{ACCEPTED_ABSENT_MAX, AbsentPolicy, Advice, Enough, Finding, interpret};
pub use retry_after::retry_after;
pub use table::{Answered, BodyMatch, HeaderMatch, Meaning, OutcomeTable, Rule, StatusMatch};

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
        /// Its headers.
        headers: Vec<(String, Vec<u8>)>,
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
        Observation::Answer(reply) => match table.meaning(&Answered::of(&reply)) {
            Meaning::Final => Outcome::Final { status: reply.status, reply: Some(reply) },
            Meaning::NotApplied => Outcome::NotApplied(NotApplied::Said(reply)),
            Meaning::Accepted => Outcome::Accepted(reply),
            Meaning::Unknown => {
                Outcome::Unknown { why: UnknownReason::Status(reply.status), reply: Some(reply) }
            }
        },
        Observation::TooLarge { status, headers } => {
            match table.meaning(&Answered { status, headers: &headers, body: None }) {
                Meaning::Final => Outcome::Final { status, reply: None },
                // Without its body it is no answer to hand to those who wait; and what cannot be
                // handed on cannot free the key either.
                Meaning::NotApplied | Meaning::Accepted | Meaning::Unknown => {
                    Outcome::Unknown { why: UnknownReason::Status(status), reply: None }
                }
            }
        }
        Observation::NotSent(proof) => Outcome::NotApplied(NotApplied::NotSent(proof)),
        Observation::Broken(why) => Outcome::Unknown { why, reply: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

        let outcome = classify(&table, Observation::TooLarge { status: 429, headers: vec![] });

        assert_eq!(outcome, Outcome::Unknown { why: UnknownReason::Status(429), reply: None });
    }
}
