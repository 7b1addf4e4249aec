//! Decisions about one key, and nothing else: no I/O, no clock, no randomness, no environment.
//!
//! Read in this order: [`id`] (names), [`key`] and [`fingerprint`] (who is this?), [`record`] (what
//! is remembered), [`claim`] (what may be done about it), [`attempt`] (the owner's states as
//! types), [`outcome`] (what an answer or a look-up proves), [`resend`] (what may be sent again),
//! [`invariants`] (what must hold). Beside them [`json`] and [`form`] read bodies without losing
//! anything, and [`mod@reference`] puts a value into them.
//! The module imports nothing of ours; `tests/tidy.rs` sees to that.

pub mod attempt;
pub mod claim;
pub mod fingerprint;
pub mod form;
pub mod id;
pub mod invariants;
pub mod json;
pub mod key;
pub mod outcome;
pub mod record;
pub mod reference;
pub mod resend;
pub mod seal;
mod secret;

#[cfg(test)]
mod tests;
