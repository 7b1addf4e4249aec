//! What the book holds: tries of callers, requests that were sent, claims.

use std::time::Duration;

use semel::protocol::id::{AttemptId, OperationId, RecordKey};
use semel::protocol::record::SettledBy;
use tokio::time::Instant;

pub(crate) type TryId = usize;
pub(crate) type SendId = usize;

/// What the provider does about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It never arrives.
    Lost,
    /// 429, nothing done.
    Busy,
    /// 400, nothing done, for good.
    Rejected,
    /// 402: a failed payment exists.
    Declined,
    /// 201.
    Charged,
    /// 202, then either.
    Accepted,
    /// 500, nothing done.
    ErrorBefore,
    /// 500, and the payment was made.
    ErrorAfter,
    /// 409 with a header by which it proves nothing, nothing done.
    TransientBefore,
    /// The same, and the payment was made.
    TransientAfter,
    /// 409 without that header, nothing done, for good.
    Conflict,
}

impl Fate {
    pub(crate) const fn status(self) -> Option<u16> {
        match self {
            Self::Lost => None,
            Self::Busy => Some(429),
            Self::Rejected => Some(400),
            Self::Declined => Some(402),
            Self::Charged => Some(201),
            Self::Accepted => Some(202),
            Self::ErrorBefore | Self::ErrorAfter => Some(500),
            Self::TransientBefore | Self::TransientAfter | Self::Conflict => Some(409),
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Busy => "busy",
            Self::Rejected => "rejected",
            Self::Declined => "declined",
            Self::Charged => "charged",
            Self::Accepted => "accepted",
            Self::ErrorBefore | Self::ErrorAfter => "error",
            Self::TransientBefore | Self::TransientAfter => "transient",
            Self::Conflict => "conflict",
        }
    }

    /// Whether its answer carries the header by which it proves nothing.
    pub(crate) const fn is_transient(self) -> bool {
        matches!(self, Self::TransientBefore | Self::TransientAfter)
    }

    /// Whether its answer may end the operation: a 202 does where there is no look-up.
    pub(crate) const fn may_settle(self) -> bool {
        match self {
            Self::Rejected | Self::Declined | Self::Charged | Self::Accepted | Self::Conflict => {
                true
            }
            Self::Lost
            | Self::Busy
            | Self::ErrorBefore
            | Self::ErrorAfter
            | Self::TransientBefore
            | Self::TransientAfter => false,
        }
    }
}

/// One request of one caller.
#[derive(Debug, Clone)]
pub(crate) struct Try {
    pub(crate) order: String,
    pub(crate) amount: u64,
    /// The record's key, or the content pointer's.
    pub(crate) key: RecordKey,
    pub(crate) by_content: bool,
    /// The business pointer's key.
    pub(crate) business: Option<RecordKey>,
    /// Where its content would be looked for under another key.
    pub(crate) content: Option<RecordKey>,
    /// It was told nothing that ends its operation.
    pub(crate) unanswered: bool,
    pub(crate) process: String,
    pub(crate) arrived: Instant,
    pub(crate) left: Option<Instant>,
    /// Its process died under it.
    pub(crate) orphaned: bool,
    /// The outcome of this claim was written whole to it.
    pub(crate) answered: Option<(OperationId, Instant)>,
    /// A 202 of this claim, too large to keep, was handed through whole to it.
    pub(crate) handed: Option<(OperationId, Instant)>,
    pub(crate) send: Option<SendId>,
    pub(crate) told_unsent: bool,
}

/// One request that began to leave a process.
#[derive(Debug, Clone)]
pub(crate) struct Send {
    pub(crate) attempt: Option<AttemptId>,
    pub(crate) fate: Fate,
    pub(crate) payment: Option<usize>,
    pub(crate) answered: Option<u16>,
    /// Nothing of it is under way any more.
    pub(crate) at_rest: bool,
}

/// The owner's mark that its connection is closed, on record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) at: Instant,
    /// How far the store's clock had been put forward by then.
    pub(crate) stepped: Duration,
}

/// One claim that the store confirmed or will have.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) key: RecordKey,
    pub(crate) send: Option<SendId>,
    /// Somebody was told, or the record says, that it did not and will not take effect.
    pub(crate) not_applied: Option<&'static str>,
    /// It was let go without proof, by an operator or by a clock that stepped: no promise covers it.
    pub(crate) is_waived: bool,
    /// When its connection was known to be closed.
    pub(crate) mark: Option<Mark>,
    pub(crate) told: Option<(u16, Option<usize>)>,
    pub(crate) told_unrecorded: bool,
    pub(crate) settled: Option<(SettledBy, u16, Instant)>,
    /// Since when its record is in its present state.
    pub(crate) entered: Instant,
    pub(crate) retention: Duration,
    pub(crate) claimed: Instant,
    /// Who made it.
    pub(crate) by: String,
}
