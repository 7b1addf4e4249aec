//! The control API under `/practice/`: what is to go wrong, and what became of it.
//!
//! The same whatever language the provider speaks. Must not know sockets.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::api::Api;
use super::charge::Charge;
use super::ledger::Sought;
use super::modes::MODES;
use super::request::Request;
use super::speaks::Said;

/// How many charges `/practice/ledger` shows: the newest.
const SHOWN_MAX: usize = 10_000;

/// Answers a request to the control API.
pub(super) fn answer(api: &Api, request: &Request) -> Said {
    let query = request.uri.query().unwrap_or_default();
    let text = |name: &str| {
        let mut fields = form_urlencoded::parse(query.as_bytes());
        fields.find(|(its, _)| its == name).map(|(_, value)| value.into_owned())
    };
    let (reference, key) = (text("reference"), text("key"));
    match (request.method.as_str(), request.uri.path()) {
        ("POST", "/practice/next") => noted(&request.body, |asked: Next| {
            api.practice.next(&asked.mode, asked.count).map_err(|why| why.to_string())
        }),
        ("POST", "/practice/spell") => noted(&request.body, |asked: Spell| {
            let duration = Duration::try_from_secs_f64(asked.seconds);
            let duration = duration.map_err(|why| why.to_string())?;
            api.practice.spell(&asked.mode, duration).map_err(|why| why.to_string())
        }),
        ("POST", "/practice/reset") => {
            api.practice.reset();
            Said::ok(&json!({}))
        }
        ("GET", "/practice/ledger") => {
            let charges: Vec<Charge> = api.ledger.newest(SHOWN_MAX);
            let charges: Vec<Charge> = charges
                .into_iter()
                .map(|charge| Charge { id: api.language.id(&charge), ..charge })
                .collect();
            let (count, failed) = (api.ledger.count(Sought::All), api.ledger.failed());
            Said::ok(&json!({"charges": charges, "count": count, "failed": failed}))
        }
        ("GET", "/practice/charges") => {
            let sought = match (&reference, &key) {
                (Some(reference), _) => Sought::Reference(reference),
                (None, Some(key)) => Sought::Key(key),
                (None, None) => Sought::All,
            };
            Said::ok(&json!({"count": api.ledger.count(sought)}))
        }
        ("GET", "/practice/requests") => requests(api, reference.as_deref(), key.as_deref()),
        _ => {
            let message = "no such control; see semel demo provider --help";
            let error = json!({"error": {"code": "not_found", "message": message}});
            Said::new(StatusCode::NOT_FOUND, &error)
        }
    }
}

fn requests(api: &Api, reference: Option<&str>, key: Option<&str>) -> Said {
    let count = match (reference, key) {
        (Some(reference), _) => api.practice.requests_with_reference(reference),
        (None, Some(key)) => api.practice.requests_with_key(key),
        (None, None) => {
            let paths = api.practice.requests();
            let count: u64 = paths.values().sum();
            let connections = api.practice.connections();
            return Said::ok(&json!({"count": count, "connections": connections, "paths": paths}));
        }
    };
    Said::ok(&json!({"count": count}))
}

/// The body of `POST /practice/next`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Next {
    mode: String,
    #[serde(default = "one")]
    count: u64,
}

const fn one() -> u64 {
    1
}

/// The body of `POST /practice/spell`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spell {
    mode: String,
    seconds: f64,
}

/// Notes what a control request asks for, or says why not.
fn noted<A: for<'a> Deserialize<'a>>(
    body: &[u8],
    note: impl FnOnce(A) -> Result<(), String>,
) -> Said {
    let asked = serde_json::from_slice(body).map_err(|why| why.to_string());
    match asked.and_then(note) {
        Ok(()) => Said::ok(&json!({})),
        Err(why) => with_modes(&why),
    }
}

/// A 400 that says what could have been asked for.
pub(super) fn with_modes(why: &str) -> Said {
    let modes: Map<String, Value> =
        MODES.iter().map(|(name, meaning)| ((*name).to_owned(), Value::from(*meaning))).collect();
    let error = json!({"error": {"code": "no_such_practice", "message": why, "modes": modes}});
    Said::new(StatusCode::BAD_REQUEST, &error)
}
