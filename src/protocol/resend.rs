//! Whether a request may be sent again under its key, to hear its answer from a provider that knows
//! the key.

use std::time::Duration;

use super::record::{Happening, Identity, Record, State};

/// How long the first byte may still go out, if the operation may be sent again at all: only one that
/// was sent with a key of its own, is in doubt, whose earlier request can come to nothing new any
/// more, and whose key the provider still knows (`within` its first claim).
pub fn resend_window(record: &Record, within: Duration) -> Option<Duration> {
    let State::InDoubt { closed, .. } = &record.state else { return None };
    if record.identity != Identity::Key {
        return None;
    }
    let sent = last_resent(record).unwrap_or(record.claimed.age());
    let is_over = closed.is_some() || sent > record.terms.upstream_timeout;
    let left = within.checked_sub(record.first_claimed.age()).filter(|left| !left.is_zero())?;
    is_over.then_some(left)
}

/// How long ago it was last sent again, if it was.
pub fn last_resent(record: &Record) -> Option<Duration> {
    let resent = |event: &&super::record::Event| event.what == Happening::Resent;
    record.timeline.iter().rev().find(resent).map(|event| event.at.age())
}

/// Whether it may have been sent again: its timeline says so, or does not go back far enough to tell.
pub fn may_have_been_resent(record: &Record) -> bool {
    let resent = |event: &super::record::Event| {
        matches!(event.what, Happening::Resent | Happening::Elided(_))
    };
    record.timeline.iter().any(resent)
}

/// Which of the operation's events the last time was that it was sent again; none: 0. Another number
/// means another time, or that it was too long ago to be kept.
pub fn last_resend(record: &Record) -> u64 {
    let elided = record.timeline.iter().find_map(|event| {
        // It stands in one place itself.
        let Happening::Elided(count) = event.what else { return None };
        Some(u64::from(count).saturating_sub(1))
    });
    let at = record.timeline.iter().rposition(|event| event.what == Happening::Resent);
    at.map_or(0, |at| at as u64 + elided.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::fingerprint::Fingerprint;
    use crate::protocol::id::{AttemptId, ProcessId, RecordKey};
    use crate::protocol::key::SecretId;
    use crate::protocol::record::{Ago, Delivery, Doubt, Terms};

    const SECOND: Duration = Duration::from_secs(1);
    const WITHIN: Duration = Duration::from_secs(3600);

    fn record(claimed: u32, closed: bool) -> Record {
        let closed = closed.then_some(Ago::NOW);
        Record {
            attempt: AttemptId::new([1; 16]),
            process: ProcessId::new([2; 8]),
            route: String::new(),
            fingerprint: Fingerprint { secret: SecretId::new([3; 4]), digest: [4; 32] },
            identity: Identity::Key,
            business: None,
            terms: Terms {
                lease: SECOND,
                upstream_timeout: 90 * SECOND,
                retention: WITHIN,
                remember: WITHIN,
                window: Duration::ZERO,
                bound: Duration::ZERO,
            },
            key_tag: None,
            inputs: None,
            claimed: Ago::new(claimed * SECOND),
            first_claimed: Ago::new(claimed * SECOND),
            renewed: Ago::NOW,
            entered: Ago::NOW,
            state: State::InDoubt { why: Doubt::OwnerSilent, closed, looked: 0, absent: 0 },
            delivery: Delivery::default(),
            timeline: vec![],
        }
    }

    #[test]
    fn only_a_doubt_whose_request_is_over_is_sent_again_and_only_within_its_time() {
        for (claimed, closed, window) in [
            (5, true, Some(3595)),
            (5, false, None),
            (90, false, None),
            (91, false, Some(3509)),
            (3599, true, Some(1)),
            (3600, true, None),
            (9999, true, None),
        ] {
            let found = resend_window(&record(claimed, closed), WITHIN);
            assert_eq!(found, window.map(|left| left * SECOND), "{claimed} {closed}");
        }
    }

    #[test]
    fn what_was_claimed_anew_is_sent_again_only_while_the_provider_knows_its_key() {
        let mut anew = record(91, true);
        anew.first_claimed = Ago::new(3500 * SECOND);
        assert_eq!(resend_window(&anew, WITHIN), Some(100 * SECOND));
        anew.advance(100 * SECOND);
        assert_eq!(resend_window(&anew, WITHIN), None);
    }

    #[test]
    fn what_is_known_by_content_alone_is_never_sent_again() {
        let mut content = record(91, true);
        content.identity = Identity::Content(RecordKey::new([5; 16]));
        assert_eq!(resend_window(&content, WITHIN), None);
    }

    #[test]
    fn what_is_no_doubt_is_never_sent_again() {
        let mut accepted = record(91, true);
        accepted.state = State::Accepted { reply: None, looked: 0, absent: 0, after: None };
        assert_eq!(resend_window(&accepted, WITHIN), None);
        accepted.state = State::InFlight;
        assert_eq!(resend_window(&accepted, WITHIN), None);
    }

    #[test]
    fn what_was_sent_again_and_not_heard_of_is_left_alone_for_as_long_as_the_first() {
        let mut resent = record(500, false);
        resent.note(Happening::Resent);
        assert_eq!(resend_window(&resent, WITHIN), None);
        resent.advance(91 * SECOND);
        assert_eq!(resend_window(&resent, WITHIN), Some(3009 * SECOND));
    }
}
