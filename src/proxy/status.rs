//! What callers can ask under `/.well-known/semel/`: the state of an operation, the contract.
//!
//! An operation's id tells its state and times and nothing else, so it may be handed to a browser.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::Proxy;
use super::asking::{self, Asked};
use super::problem::{Problem, Slug};
use super::respond::{self, Body};
use super::route::{Duplicates, Missing, Mode, Orphans, Policy, Route, Table};
use crate::protocol::attempt::Held;
use crate::protocol::claim::ORPHANED_FOR;
use crate::protocol::key::{KeySource, ScopeRule};
use crate::protocol::record::{Happening, Looked, Record, Release, SettledBy, Settlement, State};
use crate::protocol::reference::Place;

/// What is reserved on the data port.
pub const PREFIX: &str = "/.well-known/semel/";

/// Where callers ask by key.
const BY_KEY: &str = "/.well-known/semel/operations";

impl Proxy {
    /// Answers what is asked under [`PREFIX`].
    pub(super) async fn tell_about(&self, head: &Parts) -> Response<Body> {
        if !matches!(head.method, Method::GET | Method::HEAD) {
            let mut response = Response::new(respond::full(Bytes::new()));
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let path = head.uri.path();
        if path == "/.well-known/semel/contract" {
            return as_json(&contract(&self.table));
        }
        let asked = if path == BY_KEY { self.asked_by_key(head) } else { by_id(path) };
        match asked.and_then(|asked| Ok((asked, asking::wait(head)?))) {
            Ok((asked, wait)) => self.tell_state(asked, wait).await,
            Err(problem) => respond::from_problem(&problem),
        }
    }
}

fn by_id(path: &str) -> Result<Asked, Box<Problem>> {
    let mut problem = Problem::new(Slug::NotFound);
    let Some(id) = path.strip_prefix(respond::OPERATIONS) else {
        problem.detail =
            "under this prefix there are operations?path=…, operations/{id} and contract".into();
        return Err(Box::new(problem));
    };
    id.parse().map(Asked::Operation).map_err(|_| Box::new(problem))
}

/// State and times, nothing of request or answer but the latter's status.
pub(super) fn describe(held: &Held) -> Value {
    let record = &held.record;
    let (sent, retry, status) = known(record);
    json!({
        "operation": held.operation().to_string(),
        "state": record.state.name(),
        "sent": sent,
        "retry": retry,
        "upstream_status": status,
        "claimed_seconds_ago": record.claimed.age().as_secs_f64(),
        "in_this_state_for_seconds": record.entered.age().as_secs_f64(),
    })
}

/// Whether it was sent, what to do next, and the upstream's status, if it is the upstream's.
fn known(record: &Record) -> (&'static str, &'static str, Option<u16>) {
    match &record.state {
        State::InFlight | State::InDoubt { .. } => ("unknown", "same-key", None),
        State::Accepted { .. } => ("yes", "same-key", None),
        State::Released { why, .. } => match why {
            Release::NotSent | Release::TakenBack => ("no", "same-key", None),
            Release::NotApplied => ("yes", "same-key", None),
            // It was, or may have been; that it took no effect is believed, not known.
            Release::Operator | Release::Absent => ("unknown", "same-key", None),
        },
        // As the recorded answer of what was never applied says.
        State::Settled(settlement) if was_never_applied(record, settlement) => {
            ("unknown", "new-key", None)
        }
        State::Settled(settlement) => match settlement.by {
            SettledBy::Answer | SettledBy::LookUp => ("yes", "no", Some(settlement.status)),
            // The status is what the person chose for the callers.
            SettledBy::Operator => ("yes", "no", None),
        },
    }
}

/// Whether absence, or a person, settled it as never applied.
fn was_never_applied(record: &Record, settlement: &Settlement) -> bool {
    match settlement.by {
        SettledBy::Answer => false,
        SettledBy::LookUp => {
            // The last look-up is the one that settled it.
            let looked = record.timeline.iter().rev().find_map(|event| {
                let Happening::LookedUp(looked) = event.what else { return None };
                Some(looked)
            });
            looked == Some(Looked::Absent)
        }
        // A person settles as applied with 2xx, and as not applied with 4xx.
        SettledBy::Operator => !(200..=299).contains(&settlement.status),
    }
}

/// The published idempotency contract: what a client may rely on, per route.
fn contract(table: &Table) -> Value {
    let routes: Vec<Value> =
        table.routes().filter(|route| route.mode != Mode::Off).map(|route| terms(route)).collect();
    json!({
        "routes": routes,
        "replay_marker": "Idempotent-Replayed: true",
        "key": {
            "length": "1 to 255 bytes, no control characters",
            "quoted_and_bare_are_equal": true,
        },
        "asking": {
            "by_id": format!("GET {}{{id}}", respond::OPERATIONS),
            "by_key": format!("GET {BY_KEY}?method={{method}}&path={{path}}"),
            "by_key_with": "the request's credentials as headers, and its key as `ask_with` says",
            "wait": format!("&wait=N: up to N seconds for another state, {} at most", asking::WAIT_MAX.as_secs()),
        },
        "preferences": ["respond-async", "wait"],
        "statuses": {
            "key-missing": 400,
            "key-invalid": 400,
            "operation-in-flight": 409,
            "reply-not-kept": 409,
            "key-reused": 422,
            "business-key-reused": 422,
            "upstream-unreachable": 502,
            "store-unavailable": 503,
            "outcome-unknown": 504,
        },
    })
}

fn terms(route: &Route) -> Value {
    let policy = &route.policy;
    let sources: Vec<Value> = policy
        .sources
        .iter()
        .map(|source| match source {
            KeySource::Header(name) => json!({ "header": name.as_str() }),
            KeySource::Json(pointer) => json!({ "json": pointer }),
            KeySource::Form(field) => json!({ "form": field }),
            KeySource::Query(name) => json!({ "query": name }),
        })
        .collect();
    let scope = match &policy.scope {
        ScopeRule::Credentials(names) => {
            json!({ "method": true, "path": true,
                    "headers": names.iter().map(http::HeaderName::as_str).collect::<Vec<_>>() })
        }
        ScopeRule::Fixed(name) => json!({ "method": true, "path": true, "fixed": name }),
    };
    let missing = match policy.missing {
        Missing::Fingerprint { window } => {
            json!({ "identified_by": "content", "window_seconds": window.as_secs() })
        }
        Missing::Reject => json!({ "refused_with": 400 }),
        Missing::Pass => json!({ "identified_by": null }),
    };
    json!({
        "route": route.name,
        "methods": route.methods.iter().map(Method::as_str).collect::<Vec<_>>(),
        "path": route.path.to_string(),
        "keys": sources,
        "ask_with": ask_with(policy),
        "reference": policy.reference.as_ref().map(|rule| match &rule.into {
            Place::Form(name) => json!({ "form": name, "length": rule.length }),
            Place::Json(pointer) => json!({ "json": pointer.to_string(), "length": rule.length }),
        }),
        "scope": scope,
        "without_key": missing,
        "business_key": policy.business.as_ref().map(|business| {
            json!({ "fields": business.fields.len(), "bound_seconds": business.window.as_secs() })
        }),
        "retries_under_another_key": match policy.orphans {
            Orphans::Match => json!({ "recognised_seconds": ORPHANED_FOR.as_secs() }),
            Orphans::Ignore => json!(null),
        },
        "in_flight_duplicates": match policy.duplicates {
            Duplicates::Wait => json!({ "wait_seconds": policy.max_wait.as_secs() }),
            Duplicates::Conflict => json!({ "status": 409 }),
        },
        "statuses": policy.errors.statuses().collect::<BTreeMap<_, _>>(),
        "answers_kept_seconds": policy.retention.as_secs(),
        "keys_remembered_seconds": (policy.retention + policy.remember).as_secs(),
    })
}

/// Where whoever asks by key gives it: for each place where requests have one, in their order.
fn ask_with(policy: &Policy) -> Vec<Value> {
    let place = |source: &KeySource| match source {
        KeySource::Header(name) => json!({ "header": name.as_str() }),
        KeySource::Json(_) | KeySource::Form(_) | KeySource::Query(_) => json!({ "query": "key" }),
    };
    let mut places: Vec<_> = policy.sources.iter().map(place).collect();
    places.dedup();
    places
}

/// A document that is not to be kept.
pub(super) fn as_json(value: &Value) -> Response<Body> {
    let mut response = Response::new(respond::full(value.to_string().into()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::fingerprint::Fingerprint;
    use crate::protocol::id::{AttemptId, ProcessId};
    use crate::protocol::key::SecretId;
    use crate::protocol::record::{Ago, Delivery, Identity, Terms};

    fn settled(by: SettledBy, status: u16, looked: &[Looked]) -> Record {
        let mut record = Record {
            attempt: AttemptId::new([1; 16]),
            process: ProcessId::new([2; 8]),
            route: String::new(),
            fingerprint: Fingerprint { secret: SecretId::new([3; 4]), digest: [4; 32] },
            identity: Identity::Key,
            business: None,
            terms: Terms {
                lease: Duration::ZERO,
                upstream_timeout: Duration::ZERO,
                retention: Duration::ZERO,
                remember: Duration::ZERO,
                window: Duration::ZERO,
                bound: Duration::ZERO,
            },
            key_tag: None,
            inputs: None,
            claimed: Ago::NOW,
            first_claimed: Ago::NOW,
            renewed: Ago::NOW,
            entered: Ago::NOW,
            state: State::Settled(Settlement { by, status, reply: None }),
            delivery: Delivery::default(),
            timeline: vec![],
        };
        for looked in looked {
            record.note(Happening::LookedUp(*looked));
        }
        record.note(Happening::Settled(by));
        record
    }

    #[test]
    fn what_was_never_applied_was_not_certainly_sent_and_has_no_status_of_the_upstream() {
        let (absent, found) = (Looked::Absent, Looked::Final);
        let never = ("unknown", "new-key", None);
        let over = |status| ("yes", "no", status);
        for (by, status, looked, told) in [
            (SettledBy::LookUp, 424, &[absent, absent][..], never),
            (SettledBy::LookUp, 402, &[absent, found], over(Some(402))),
            (SettledBy::Answer, 424, &[absent], over(Some(424))),
            (SettledBy::Operator, 402, &[absent], never),
            (SettledBy::Operator, 200, &[absent], over(None)),
        ] {
            assert_eq!(known(&settled(by, status, looked)), told, "{by:?} {status}");
        }
    }

    #[test]
    fn what_was_released_was_sent_as_far_as_is_known() {
        for (why, sent) in [
            (Release::NotSent, "no"),
            (Release::TakenBack, "no"),
            (Release::NotApplied, "yes"),
            (Release::Operator, "unknown"),
            (Release::Absent, "unknown"),
        ] {
            let mut record = settled(SettledBy::Answer, 200, &[]);
            record.state = State::Released { why, reply: None };

            assert_eq!(known(&record), (sent, "same-key", None), "{why:?}");
        }
    }
}
