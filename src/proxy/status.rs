//! What callers can ask under `/.well-known/semel/`: the state of an operation, the contract.
//!
//! An operation's id tells its state and times and nothing else, so it may be handed to a browser.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::problem::Slug;
use super::respond::{self, Body};
use super::route::{Duplicates, Missing, Mode, Route, Table};
use crate::ledger::Ledger;
use crate::protocol::attempt::Held;
use crate::protocol::id::OperationId;
use crate::protocol::key::{KeySource, ScopeRule};
use crate::protocol::record::State;

/// What is reserved on the data port.
pub const PREFIX: &str = "/.well-known/semel/";

/// Answers what is asked under [`PREFIX`].
pub async fn answer(ledger: &Ledger, table: &Table, head: &Parts) -> Response<Body> {
    if !matches!(head.method, Method::GET | Method::HEAD) {
        let mut response = Response::new(respond::full(Bytes::new()));
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let path = head.uri.path();
    if path == "/.well-known/semel/contract" {
        return as_json(&contract(table));
    }
    if let Some(id) = path.strip_prefix(respond::OPERATIONS) {
        return operation(ledger, id).await;
    }
    respond::refused(
        Slug::NotFound,
        Some("under this prefix there are operations/{id} and contract".to_owned()),
    )
}

async fn operation(ledger: &Ledger, id: &str) -> Response<Body> {
    let Ok(id) = id.parse::<OperationId>() else {
        return respond::refused(Slug::NotFound, None);
    };
    match ledger.read(id.key).await {
        Ok(Some(held)) if held.operation() == id => as_json(&describe(&held)),
        Ok(Some(_) | None) => respond::refused(Slug::NotFound, None),
        Err(error) => {
            tracing::warn!(%error, "could not read an operation that was asked for");
            let detail = "the state cannot be read now; ask again".to_owned();
            respond::refused(Slug::StoreUnavailable, Some(detail))
        }
    }
}

/// State and times, nothing of request or answer but the latter's status.
fn describe(held: &Held) -> Value {
    let record = &held.record;
    let (sent, retry) = match &record.state {
        State::InFlight | State::InDoubt { .. } => ("unknown", "same-key"),
        State::Accepted { .. } => ("yes", "same-key"),
        State::Settled(_) => ("yes", "no"),
        State::Released { .. } => ("no", "same-key"),
    };
    let status = match &record.state {
        State::Settled(settlement) => Some(settlement.status),
        State::InFlight
        | State::InDoubt { .. }
        | State::Accepted { .. }
        | State::Released { .. } => None,
    };
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
        "statuses": {
            "key-missing": 400,
            "key-invalid": 400,
            "operation-in-flight": 409,
            "reply-not-kept": 409,
            "key-reused": 422,
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
        "scope": scope,
        "without_key": missing,
        "in_flight_duplicates": match policy.duplicates {
            Duplicates::Wait => json!({ "wait_seconds": policy.max_wait.as_secs() }),
            Duplicates::Conflict => json!({ "status": 409 }),
        },
        "answers_kept_seconds": policy.retention.as_secs(),
        "keys_remembered_seconds": (policy.retention + policy.remember).as_secs(),
    })
}

fn as_json(value: &Value) -> Response<Body> {
    let mut response = Response::new(respond::full(value.to_string().into()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
