//! The owner's states, one type each. Sending twice does not compile.
//!
//! `Claimed` (may send) → `Sent` (the right is spent) → `Seen` (there is something to conclude
//! from). What comes after is on record and belongs to `ledger`.

use std::time::Duration;

use super::id::{AttemptId, OperationId, RecordKey, Token};
use super::outcome::Observation;
use super::record::Record;

/// A record in hand: as it was last read or written, and under which token.
#[derive(Debug)]
pub struct Held {
    /// Where it is.
    pub key: RecordKey,
    /// The write that is believed to be the current one.
    pub token: Token,
    /// Whose hand: the owner's own attempt, or an id drawn by somebody else who writes into it.
    pub writer: AttemptId,
    /// How many writes have been tried. Every try that says something new gets a token of its
    /// own: a late write must never be taken for another one.
    pub tries: u32,
    /// When the ages in it were right, on the holder's monotonic clock.
    pub as_of: Duration,
    /// What it said. In a box: a hand goes through many states, and each would hold it anew.
    pub record: Box<Record>,
}

impl Held {
    /// Draws the token of the next write.
    pub fn next_token(&mut self) -> Token {
        self.tries += 1;
        Token { attempt: self.writer, write: self.tries }
    }

    /// Brings the ages up to `now` on the holder's monotonic clock.
    pub fn catch_up(&mut self, now: Duration) {
        self.record.advance(now.saturating_sub(self.as_of));
        self.as_of = now;
    }

    /// Whether this is the owner's hand, which may insist; anybody else gives way.
    pub fn is_owner(&self) -> bool {
        self.writer == self.record.attempt
    }

    /// The operation's public name.
    pub fn operation(&self) -> OperationId {
        self.record.operation(self.key)
    }
}

/// The right to send a claimed operation. It is moved, used once, and never written down.
#[derive(Debug)]
#[must_use = "a claim that is neither sent nor taken back leaves its operation in doubt"]
pub struct Claimed(Held);

impl Claimed {
    /// Only for the ledger, after the store has confirmed the claim.
    pub(crate) const fn confirmed(held: Held) -> Self {
        Self(held)
    }

    /// Spends the right.
    pub fn send(self) -> Sent {
        Sent(self.0)
    }

    /// Gives the right up unused; what is left can only be released.
    pub fn forgo(self) -> Unspent {
        Unspent(self.0)
    }

    /// The record.
    pub const fn held(&self) -> &Held {
        &self.0
    }
}

/// A claim whose right to send was given up: the proof that nothing was and will be sent.
#[derive(Debug)]
#[must_use = "an unused claim must be taken back"]
pub struct Unspent(Held);

impl Unspent {
    /// The record.
    pub fn into_held(self) -> Held {
        self.0
    }
}

/// An operation that may have been sent.
#[derive(Debug)]
#[must_use = "what was sent must be concluded"]
pub struct Sent(Held);

impl Sent {
    /// What was seen of it.
    pub fn seen(self, observation: Observation) -> Seen {
        Seen { held: self.0, observation }
    }

    /// The record, to renew.
    pub const fn held_mut(&mut self) -> &mut Held {
        &mut self.0
    }

    /// The record.
    pub const fn held(&self) -> &Held {
        &self.0
    }
}

/// An operation whose one request has ended, one way or another.
#[derive(Debug)]
#[must_use = "what was seen must be put on record"]
pub struct Seen {
    /// The record.
    pub held: Held,
    /// What its owner saw.
    pub observation: Observation,
}
