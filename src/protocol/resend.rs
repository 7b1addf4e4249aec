//! Whether a request may be sent again under its key, to hear its answer from a provider that knows
//! the key.

use std::time::Duration;

use super::record::{Happening, Identity, Record, State};

/// How long the first byte may still go out, if the operation may be sent again at all: only one that
/// was sent with a key of its own, is in doubt, whose earlier request can come to nothing new any
/// more, and whose key the provider still knows (`within` its claim).
pub fn resend_window(record: &Record, within: Duration) -> Option<Duration> {
    let State::InDoubt { closed, .. } = &record.state else { return None };
    if record.identity != Identity::Key {
        return None;
    }
    let sent = last_resent(record).unwrap_or(record.claimed.age());
    let is_over = closed.is_some() || sent > record.terms.upstream_timeout;
    let left = within.checked_sub(record.claimed.age()).filter(|left| !left.is_zero())?;
    is_over.then_some(left)
}

/// How long ago it was last sent again, if it was.
pub fn last_resent(record: &Record) -> Option<Duration> {
    let resent = |event: &&super::record::Event| event.what == Happening::Resent;
    record.timeline.iter().rev().find(resent).map(|event| event.at.age())
}
