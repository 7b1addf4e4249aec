//! What follows from an operation that is not there, and whether it is sent again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};

use super::{count, header, some_span, under};
use crate::config::problems::Problems;
use crate::config::raw;
use crate::protocol::outcome::{AbsentPolicy, Enough};
use crate::protocol::record::Reply;
use crate::proxy::problem::{Problem, Slug};

/// Checks `lookup.absent`.
pub(super) fn check(at: &str, raw: &raw::Absent, problems: &mut Problems) -> Option<AbsentPolicy> {
    if raw.then != raw::Then::Fail && raw.reply.is_some() {
        problems.fault(&under(at, "reply"), "is for `then: fail` only");
    }
    match raw.then {
        raw::Then::Hold => {
            if raw.after.is_some() || raw.times.is_some() {
                problems.fault(at, "`after` and `times` are for `then: fail` and `then: reopen`");
            }
            Some(AbsentPolicy::Hold)
        }
        raw::Then::Fail => {
            let enough = enough(at, raw, problems);
            let reply = reply(&under(at, "reply"), raw.reply.as_ref(), problems);
            Some(AbsentPolicy::Fail(enough?, Arc::new(reply?)))
        }
        raw::Then::Reopen => enough(at, raw, problems).map(AbsentPolicy::Reopen),
    }
}

fn enough(at: &str, raw: &raw::Absent, problems: &mut Problems) -> Option<Enough> {
    let after = match &raw.after {
        Some(after) => some_span(&under(at, "after"), after, problems),
        None => {
            let message = "is needed: absence proves nothing before all that was sent has arrived";
            problems.fault(&under(at, "after"), message);
            None
        }
    };
    let times = match raw.times {
        Some(times) => count(&under(at, "times"), times, problems).map(|_| times),
        None => {
            let message = "is needed: how often in a row it must be absent";
            problems.fault(&under(at, "times"), message);
            None
        }
    };
    Some(Enough { after: after?, times: times? })
}

fn reply(at: &str, raw: Option<&raw::NeverApplied>, problems: &mut Problems) -> Option<Reply> {
    let Some(raw) = raw else { return Some(never_applied()) };
    let is_failure = (400..=499).contains(&raw.status);
    let expected = "expected a status from 400 to 499: it was not applied";
    let status =
        problems.note(&under(at, "status"), is_failure.then_some(raw.status).ok_or(expected));
    let pairs = raw.headers.iter().map(|(name, value)| {
        let at = under(&under(at, "headers"), name);
        let name: Option<HeaderName> = header(&at, name, problems);
        let value = HeaderValue::from_str(value).map_err(|_| "has characters no header may have");
        Some((name?.as_str().to_owned(), problems.note(&at, value)?.as_bytes().to_vec()))
    });
    let pairs: Vec<_> = pairs.collect();
    let mut headers: Vec<_> = pairs.into_iter().collect::<Option<_>>()?;
    if !headers.iter().any(|(name, _)| name == CONTENT_TYPE.as_str()) {
        headers.push((CONTENT_TYPE.as_str().to_owned(), b"application/json".to_vec()));
    }
    Some(Reply { status: status?, headers, body: Bytes::from(raw.body.clone()) })
}

/// semel's own answer, as it is recorded and replayed.
fn never_applied() -> Reply {
    let (head, body) = Problem::new(Slug::NeverApplied).response().into_parts();
    // What is said of each answer anew is not recorded with it.
    let kept = head.headers.iter().filter(|(name, _)| !name.as_str().starts_with("semel-"));
    let headers =
        kept.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    Reply { status: head.status.as_u16(), headers, body }
}

/// Checks `lookup.resend`: within how long, and which statuses then are an outcome.
pub(super) fn resend(
    at: &str,
    raw: &raw::Route,
    problems: &mut Problems,
) -> Option<Option<(Duration, Vec<u16>)>> {
    let Some(resend) = raw.lookup.as_ref().and_then(|lookup| lookup.resend.as_ref()) else {
        return Some(None);
    };
    let lookup = &under(at, "lookup");
    let at = under(lookup, "resend");
    if raw.key.sources.is_empty() {
        problems.fault(&at, "only requests with a key are sent again; give `key.sources`");
    }
    let within = some_span(&under(&at, "within"), &resend.within, problems);
    let timeout: Option<Duration> = raw.upstream_timeout.parse().ok();
    if let (Some(within), Some(timeout)) = (within, timeout)
        && within <= timeout
    {
        problems.fault(&under(&at, "within"), "must be longer than `upstream_timeout`");
    }
    let absent = raw.lookup.as_ref().map(|lookup| &lookup.absent);
    let acts = absent.filter(|absent| absent.then != raw::Then::Hold);
    let after = acts.and_then(|absent| absent.after.as_ref()?.parse().ok());
    if let (Some(after), Some(timeout)) = (after, timeout)
        && after < timeout
    {
        let message = "with `resend` it must be `upstream_timeout` at least: what another process \
                       sent again may still be on its way";
        problems.fault(&under(lookup, "absent.after"), message);
    }
    for (i, status) in resend.conclusive.iter().enumerate() {
        if !(300..=499).contains(status) || ABOUT_THE_SECOND.contains(status) {
            let message = "says nothing of the first request; expected one like 402";
            problems.fault(&format!("{at}.conclusive[{i}]"), message);
        }
    }
    problems.warn(&at, "a provider that has forgotten the key makes a second payment");
    Some(Some((within?, resend.conclusive.clone())))
}

/// Refusals of a request that was sent again, whatever became of the first: no right, no time, a
/// conflict with the first, too early, too many.
const ABOUT_THE_SECOND: [u16; 7] = [401, 403, 407, 408, 409, 425, 429];
