//! The payment API: from a request to an answer, and the control API under `/practice/`.
//!
//! Must not know sockets. Idempotency keys are remembered to be looked up by, never to tell a
//! retry from a new payment: that is the caller's business, or semel's.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use super::answer::Answer;
use super::ledger::{Charge, Ledger, LedgerError, Order, Sought, Status};
use super::modes::{Commit, MODES, ModeError, Modes, OnTheWire, Target, Wrongs};
use super::practice::Practice;
use super::request::Request;

const PAYMENTS: &str = "/v1/payments";
const BY_REFERENCE: &str = "/by-reference/";
/// How many objects a list shows if not told, and at most.
const PAGE: usize = 10;
const PAGE_MAX: usize = 100;
/// How many charges `/practice/ledger` shows: the newest.
const SHOWN_MAX: usize = 10_000;

/// The payment API.
pub(super) struct Api {
    pub(super) ledger: Ledger,
    pub(super) practice: Practice,
    answers: AtomicU64,
}

type Said = (StatusCode, Vec<u8>);

/// What a request turned out to be.
enum Kind {
    Control,
    Payment,
    LookUp,
    Other,
}

impl Api {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self { ledger, practice: Practice::default(), answers: AtomicU64::default() }
    }

    /// Answers a request, having done what it asks for, in the way that was asked for.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not leave a payment committed.
    pub(super) async fn answer(&self, request: &Request) -> (Answer, OnTheWire) {
        let (said, wrongs) = match kind(request) {
            Kind::Control => (self.control(request), OnTheWire::default()),
            Kind::Payment => self.payment(request).await,
            Kind::LookUp => self.look_up(request).await,
            Kind::Other => {
                (error(StatusCode::METHOD_NOT_ALLOWED, "no such method"), OnTheWire::default())
            }
        };
        let request_id = self.answers.fetch_add(1, Ordering::Relaxed) + 1;
        let (status, body) = said;
        (Answer { status, request_id, body }, wrongs)
    }

    async fn payment(&self, request: &Request) -> (Said, OnTheWire) {
        let path = request.uri.path();
        self.practice.count_request(&format!("{} {}", request.method, without_names(path)));
        let (own, order) = match (own_modes(request, Target::Payments), order(request)) {
            (Ok(own), Ok(order)) => (own, order),
            (Err(mode), _) => return (no_such_mode(&mode), OnTheWire::default()),
            (Ok(_), Err(why)) => {
                return (error(StatusCode::BAD_REQUEST, why), OnTheWire::default());
            }
        };
        self.practice.count_names(order.reference.as_deref(), order.key());
        let wrongs = self.practice.wrongs(Target::Payments, own.as_ref());

        pause(wrongs.stall).await;
        let said = match wrongs.commit {
            Commit::Yes => self.commit(order, &wrongs).await,
            Commit::No => refusal(wrongs.status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE)),
        };
        pause(wrongs.slow).await;
        (said, wrongs.on_the_wire)
    }

    async fn commit(&self, mut order: Order, wrongs: &Wrongs) -> Said {
        order.absent = wrongs.absent;
        order.settles(wrongs.settling);
        let charge = match self.ledger.commit(order).await {
            Ok(charge) => charge,
            Err(why @ LedgerError::Full) => {
                return error(StatusCode::SERVICE_UNAVAILABLE, &why.to_string());
            }
            Err(why @ LedgerError::Broken) => {
                return error(StatusCode::INTERNAL_SERVER_ERROR, &why.to_string());
            }
        };
        let status = charge.first_status();
        let object = || to_json(&Shown::new(&charge, status));
        match (wrongs.status, status) {
            (Some(wrong), _) if !wrong.is_success() => refusal(wrong),
            (Some(other), _) => (other, object()),
            (None, Status::Processing) => (StatusCode::ACCEPTED, object()),
            (None, Status::Succeeded) => (StatusCode::CREATED, object()),
        }
    }

    async fn look_up(&self, request: &Request) -> (Said, OnTheWire) {
        let path = request.uri.path();
        self.practice.count_request(&format!("{} {}", request.method, without_names(path)));
        let own = match own_modes(request, Target::LookUps) {
            Ok(own) => own,
            Err(mode) => return (no_such_mode(&mode), OnTheWire::default()),
        };
        let wrongs = self.practice.wrongs(Target::LookUps, own.as_ref());
        pause(wrongs.stall + wrongs.slow).await;
        let said = match wrongs.status {
            Some(status) => refusal(status),
            None => self.found(request, wrongs.absent > 0),
        };
        (said, wrongs.on_the_wire)
    }

    fn found(&self, request: &Request, absent: bool) -> Said {
        let path = request.uri.path();
        if let Some((collection, reference)) = path.split_once(BY_REFERENCE) {
            return self.one(Sought::Reference(&decoded(reference)), Some(collection), absent);
        }
        if let Some(id) = id_in(path) {
            return self.one(Sought::Id(&decoded(id)), None, absent);
        }
        let fields = match list_fields(request) {
            Ok(fields) => fields,
            Err(why) => return error(StatusCode::BAD_REQUEST, why),
        };
        let text = |name| fields.get(name).and_then(Value::as_str);
        let sought = match (text("reference"), text("idempotency_key")) {
            (Some(reference), _) => Sought::Reference(reference),
            (None, Some(key)) => Sought::Key(key),
            (None, None) => Sought::All,
        };
        let limit = match fields.get("limit").map(as_number) {
            None => PAGE,
            Some(Some(limit @ 1..=PAGE_MAX)) => limit,
            Some(_) => return error(StatusCode::BAD_REQUEST, "limit is 1 to 100"),
        };
        if absent {
            return ok(&json!({"object": "list", "data": [], "has_more": false}));
        }
        let collection = path.strip_suffix("/search").unwrap_or(path);
        let found = self.ledger.look_up(sought, Some(collection), text("starting_after"), limit);
        let data: Vec<Shown<'_>> =
            found.charges.iter().map(|(charge, status)| Shown::new(charge, *status)).collect();
        ok(&json!({"object": "list", "data": data, "has_more": found.more}))
    }

    fn one(&self, sought: Sought<'_>, path: Option<&str>, absent: bool) -> Said {
        let none = || error(StatusCode::NOT_FOUND, "no such object");
        if absent {
            return none();
        }
        match self.ledger.look_up(sought, path, None, 1).charges.first() {
            Some((charge, status)) => ok(&Shown::new(charge, *status)),
            None => none(),
        }
    }

    fn control(&self, request: &Request) -> Said {
        let query = pairs(request.uri.query().unwrap_or_default().as_bytes());
        let text = |name| query.get(name).and_then(Value::as_str);
        match (request.method.as_str(), request.uri.path()) {
            ("POST", "/practice/next") => noted(&request.body, |asked: Next| {
                self.practice.next(&asked.mode, asked.count).map_err(|why| why.to_string())
            }),
            ("POST", "/practice/spell") => noted(&request.body, |asked: Spell| {
                let duration = Duration::try_from_secs_f64(asked.seconds);
                let duration = duration.map_err(|why| why.to_string())?;
                self.practice.spell(&asked.mode, duration).map_err(|why| why.to_string())
            }),
            ("POST", "/practice/reset") => {
                self.practice.reset();
                ok(&json!({}))
            }
            ("GET", "/practice/ledger") => {
                let charges = self.ledger.newest(SHOWN_MAX);
                ok(&json!({"charges": charges, "count": self.ledger.count(Sought::All)}))
            }
            ("GET", "/practice/charges") => {
                let sought = match (text("reference"), text("key")) {
                    (Some(reference), _) => Sought::Reference(reference),
                    (None, Some(key)) => Sought::Key(key),
                    (None, None) => Sought::All,
                };
                ok(&json!({"count": self.ledger.count(sought)}))
            }
            ("GET", "/practice/requests") => self.requests(text("reference"), text("key")),
            _ => error(StatusCode::NOT_FOUND, "no such control; see semel demo provider --help"),
        }
    }

    fn requests(&self, reference: Option<&str>, key: Option<&str>) -> Said {
        let count = match (reference, key) {
            (Some(reference), _) => self.practice.requests_with_reference(reference),
            (None, Some(key)) => self.practice.requests_with_key(key),
            (None, None) => {
                let paths = self.practice.requests();
                let count: u64 = paths.values().sum();
                let connections = self.practice.connections();
                return ok(&json!({"count": count, "connections": connections, "paths": paths}));
            }
        };
        ok(&json!({"count": count}))
    }
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

/// A charge as the API shows it.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    id: &'a str,
    object: &'a str,
    status: Status,
    amount: &'a Value,
    currency: &'a Value,
    reference: Option<&'a str>,
    metadata: &'a Map<String, Value>,
    created: u64,
}

impl<'a> Shown<'a> {
    fn new(charge: &'a Charge, status: Status) -> Self {
        let Charge { id, object, created_ms, order } = charge;
        let Order { amount, currency, reference, metadata, .. } = order;
        let (reference, created) = (reference.as_deref(), created_ms / 1000);
        Self { id, object, status, amount, currency, reference, metadata, created }
    }
}

fn kind(request: &Request) -> Kind {
    let path = request.uri.path();
    let method = &request.method;
    if path.starts_with("/practice/") {
        Kind::Control
    } else if matches!(*method, Method::GET | Method::HEAD)
        || (*method == Method::POST && path.ends_with("/search"))
    {
        Kind::LookUp
    } else if matches!(*method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE) {
        Kind::Payment
    } else {
        Kind::Other
    }
}

/// The modes that the request names itself, in `X-Practice` or `?practice=`.
fn own_modes(request: &Request, target: Target) -> Result<Option<Modes>, ModeError> {
    let query = request.uri.query().filter(|query| query.contains("practice="));
    let in_query = query.and_then(|query| {
        form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "practice")
    });
    let Some(list) = request.practice.as_deref().or(in_query.as_ref().map(|(_, list)| &**list))
    else {
        return Ok(None);
    };
    Modes::parse_for(list, target).map(Some)
}

/// Reads what is to be committed from a JSON or form body; any other body says nothing.
fn order(request: &Request) -> Result<Order, &'static str> {
    let mut fields = fields(request)?;
    let mut metadata = match fields.remove("metadata") {
        Some(Value::Object(metadata)) => metadata,
        Some(_) | None => Map::new(),
    };
    if let Some(key) = &request.idempotency_key {
        metadata.insert("idempotency_key".to_owned(), Value::String(key.clone()));
    }
    let reference = fields.remove("reference").or_else(|| metadata.get("reference").cloned());
    Ok(Order {
        path: request.uri.path().to_owned(),
        amount: fields.remove("amount").unwrap_or_default(),
        currency: fields.remove("currency").unwrap_or_default(),
        reference: reference.and_then(|reference| match reference {
            Value::String(text) => Some(text),
            Value::Number(number) => Some(number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }),
        metadata,
        ..Order::default()
    })
}

/// What a list is asked for, in the query or in the body of a search.
fn list_fields(request: &Request) -> Result<Map<String, Value>, &'static str> {
    let mut fields = fields(request)?;
    fields.extend(pairs(request.uri.query().unwrap_or_default().as_bytes()));
    Ok(fields)
}

fn fields(request: &Request) -> Result<Map<String, Value>, &'static str> {
    let content_type = request.content_type.as_deref().unwrap_or_default();
    if content_type.contains("form-urlencoded") {
        return Ok(pairs(&request.body));
    }
    if request.body.is_empty() || !content_type.contains("json") {
        return Ok(Map::new());
    }
    match serde_json::from_slice(&request.body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Ok(Map::new()),
        Err(_) => Err("the body is not JSON"),
    }
}

/// Form fields; `metadata[order]=7` becomes `{"metadata": {"order": "7"}}`.
fn pairs(form: &[u8]) -> Map<String, Value> {
    let mut fields = Map::new();
    for (name, value) in form_urlencoded::parse(form) {
        let value = match value.parse::<u64>() {
            Ok(amount) if name == "amount" => Value::from(amount),
            Ok(_) | Err(_) => Value::String(value.into_owned()),
        };
        match name.strip_prefix("metadata[").and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => {
                let metadata = fields.entry("metadata").or_insert_with(|| Map::new().into());
                if let Value::Object(metadata) = metadata {
                    metadata.insert(inner.to_owned(), value);
                }
            }
            None => drop(fields.insert(name.into_owned(), value)),
        }
    }
    fields
}

fn as_number(value: &Value) -> Option<usize> {
    match value.as_str() {
        Some(text) => text.parse().ok(),
        None => value.as_u64().and_then(|number| usize::try_from(number).ok()),
    }
}

/// The last segment of a path that names one object.
fn id_in(path: &str) -> Option<&str> {
    let (collection, last) = path.rsplit_once('/')?;
    let (_, number) = last.rsplit_once('_').unwrap_or_default();
    let looks_like_an_id = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    (looks_like_an_id || (collection == PAYMENTS && last != "search")).then_some(last)
}

/// A path to count by, in which ids and references do not count apart.
fn without_names(path: &str) -> Cow<'_, str> {
    if let Some((collection, _)) = path.split_once(BY_REFERENCE) {
        return format!("{collection}{BY_REFERENCE}{{reference}}").into();
    }
    match id_in(path) {
        Some(id) => format!("{}{{id}}", &path[..path.len() - id.len()]).into(),
        None => path.into(),
    }
}

fn decoded(segment: &str) -> Cow<'_, str> {
    percent_decode_str(segment).decode_utf8_lossy()
}

async fn pause(delay: Duration) {
    if !delay.is_zero() {
        sleep(delay).await;
    }
}

/// Notes what a control request asks for, or says why not.
fn noted<A: for<'a> Deserialize<'a>>(
    body: &[u8],
    note: impl FnOnce(A) -> Result<(), String>,
) -> Said {
    let asked = serde_json::from_slice(body).map_err(|why| why.to_string());
    match asked.and_then(note) {
        Ok(()) => ok(&json!({})),
        Err(why) => with_modes(&why),
    }
}

fn no_such_mode(why: &ModeError) -> Said {
    with_modes(&why.to_string())
}

/// A 400 that says what could have been asked for.
fn with_modes(why: &str) -> Said {
    let modes: Map<String, Value> =
        MODES.iter().map(|(name, meaning)| ((*name).to_owned(), Value::from(*meaning))).collect();
    let error = json!({"error": {"code": "no_such_practice", "message": why, "modes": modes}});
    (StatusCode::BAD_REQUEST, to_json(&error))
}

/// The answer of a provider that refuses, or fails.
fn refusal(status: StatusCode) -> Said {
    error(status, status.canonical_reason().unwrap_or("refused"))
}

fn error(status: StatusCode, message: &str) -> Said {
    let code = match status {
        StatusCode::PAYMENT_REQUIRED => "card_declined",
        StatusCode::TOO_MANY_REQUESTS => "rate_limited",
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::NOT_FOUND => "not_found",
        status if status.is_server_error() => "provider_error",
        _ => "refused",
    };
    (status, to_json(&json!({"error": {"code": code, "message": message}})))
}

fn ok(body: &impl Serialize) -> Said {
    (StatusCode::OK, to_json(body))
}

fn to_json(body: &impl Serialize) -> Vec<u8> {
    // Only maps with names that are no strings cannot be written, and there are none.
    serde_json::to_vec(body).unwrap_or_default()
}
