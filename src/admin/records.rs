//! The records API: list, show, settle, reopen. Changes are compare-and-swap, audited, and refused
//! while an owner may still act.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Value, json};

use super::telling::{details, summary};
use super::{as_json, fault};
use crate::attempt::Flights;
use crate::ledger::{Change, Concluded, Found, Ledger, TAG_ACCEPTED, TAG_IN_DOUBT};
use crate::protocol::attempt::Held;
use crate::protocol::id::OperationId;
use crate::protocol::record::{Delivery, Happening, Release, Reply, SettledBy, State};
use crate::store::{Listing, Tag};

/// How many records a page has if nothing is said, and at the most.
const PAGE: (usize, usize) = (100, 1000);
/// How many pages of the store are looked through for one page of records that fit.
const PAGES_MAX: usize = 1000;
/// The longest reason that is kept, in characters.
const REASON_MAX: usize = 200;
/// The longest cursor of any store, in characters.
const CURSOR_MAX: usize = 64;

/// The operator's desk, with somebody at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Desk<'a> {
    pub(super) ledger: &'a Arc<Ledger>,
    pub(super) flights: &'a Arc<Flights>,
    pub(super) peer: Option<SocketAddr>,
}

/// What an operator may do to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Settle,
    Reopen,
}

/// What is to be listed.
#[derive(Debug, Default)]
struct Filter {
    state: Option<String>,
    older_than: Duration,
    limit: Option<usize>,
    after: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SettleOrder {
    r#as: How,
    status: u16,
    body: Option<String>,
    body_base64: Option<String>,
    content_type: Option<String>,
    reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum How {
    Applied,
    NotApplied,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReopenOrder {
    #[serde(default)]
    allow_resend: bool,
    reason: String,
}

/// A change that is tried, as far as it is known: what the audit log has of it.
#[derive(Debug)]
struct Trial {
    action: &'static str,
    operation: Option<OperationId>,
    reason: String,
    before: Option<&'static str>,
}

/// Why a change is not made.
#[derive(Debug)]
struct Refused(StatusCode, String);

impl Refused {
    fn order(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, message.into())
    }

    fn conflict(message: impl Into<String>) -> Self {
        Self(StatusCode::CONFLICT, message.into())
    }

    fn store(message: impl Into<String>) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, message.into())
    }

    fn response(&self) -> Response<Full<Bytes>> {
        fault(self.0, &self.1)
    }
}

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Self::Settle => "settle",
            Self::Reopen => "reopen",
        }
    }
}

impl Trial {
    const fn new(action: Action) -> Self {
        Self { action: action.name(), operation: None, reason: String::new(), before: None }
    }

    fn audit(&self, peer: Option<SocketAddr>, after: Result<&'static str, &str>) {
        let operation = self.operation.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let peer = peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string());
        let (action, reason, before) = (self.action, &*self.reason, self.before.unwrap_or("-"));
        match after {
            Ok(after) => tracing::warn!(
                target: "semel::audit",
                operation, action, reason, before, after, peer, "an operator changed a record"
            ),
            Err(refusal) => tracing::warn!(
                target: "semel::audit",
                operation, action, reason, before, refusal, peer, "a change was refused"
            ),
        }
    }
}

/// Notes a change that was tried by somebody who was not let in.
pub(super) fn audit_denial(id: &str, action: Action, peer: Option<SocketAddr>, refusal: &str) {
    let trial = Trial { operation: id.parse().ok(), ..Trial::new(action) };
    trial.audit(peer, Err(refusal));
}

impl Desk<'_> {
    pub(super) async fn list(&self, query: Option<&str>) -> Response<Full<Bytes>> {
        let filter = match filter(query.unwrap_or_default()) {
            Ok(filter) => filter,
            Err(message) => return fault(StatusCode::BAD_REQUEST, &message),
        };
        match self.gather(&filter).await {
            Ok((records, next)) => {
                as_json(StatusCode::OK, &json!({ "records": records, "next": next }))
            }
            Err(error) => fault(StatusCode::SERVICE_UNAVAILABLE, &error),
        }
    }

    async fn gather(&self, filter: &Filter) -> Result<(Vec<Value>, Option<String>), String> {
        let wanted = filter.limit.unwrap_or(PAGE.0);
        let mut after = filter.after.clone();
        let mut records = Vec::new();
        for _ in 0..PAGES_MAX {
            // Never more than there is still room for: a cursor stands behind a whole page.
            let limit = wanted - records.len();
            let listing = Listing { tag: filter.tag(), after, limit };
            let asked = self.ledger.now();
            let page =
                self.ledger.store().list(&listing).await.map_err(|error| error.to_string())?;
            for (key, stored) in &page.entries {
                match self.ledger.hold(*key, stored, asked) {
                    Ok(Found::Record(held)) if filter.fits(&held) => records.push(summary(&held)),
                    Ok(Found::Record(_) | Found::Pointer(..)) => {}
                    Err(error) => {
                        let record = key.to_string();
                        records.push(json!({ "record": record, "error": error.to_string() }));
                    }
                }
            }
            after = page.next;
            if after.is_none() || records.len() >= wanted {
                break;
            }
        }
        Ok((records, after))
    }

    pub(super) async fn show(&self, id: &str) -> Response<Full<Bytes>> {
        match self.find(id).await {
            Ok(held) => as_json(StatusCode::OK, &details(&held)),
            Err(refused) => refused.response(),
        }
    }

    /// Carries an order out, or says why not. Either is on the audit log.
    pub(super) async fn change(
        &self,
        id: &str,
        action: Action,
        order: &[u8],
    ) -> Response<Full<Bytes>> {
        let mut trial = Trial { operation: id.parse().ok(), ..Trial::new(action) };
        match self.perform(id, action, order, &mut trial).await {
            Ok(after) => {
                trial.audit(self.peer, Ok(after));
                self.show(id).await
            }
            Err(refused) => {
                trial.audit(self.peer, Err(&refused.1));
                refused.response()
            }
        }
    }

    /// Makes the change, if nobody else may still act on the operation. Returns the new state.
    async fn perform(
        &self,
        id: &str,
        action: Action,
        order: &[u8],
        trial: &mut Trial,
    ) -> Result<&'static str, Refused> {
        let change = match action {
            Action::Settle => settlement(order, trial)?,
            Action::Reopen => reopening(order, trial)?,
        };
        let after = match action {
            Action::Settle => "settled",
            Action::Reopen => "released",
        };
        let mut held = self.find(id).await?;
        trial.before = Some(held.record.state.name());
        may_change(self.ledger, &held).map_err(Refused::conflict)?;
        held.record.note(Happening::Operator {
            action: trial.action.to_owned(),
            reason: trial.reason.clone(),
        });
        match self.ledger.conclude(held, change).await {
            Concluded::Recorded(view) => {
                self.flights.publish(view);
                Ok(after)
            }
            Concluded::Overtaken(_) => {
                Err(Refused::conflict("the record has just changed; look again"))
            }
            Concluded::NotYet(..) => Err(Refused::store(
                "the store did not take the change, or did not confirm it; look again",
            )),
        }
    }

    async fn find(&self, id: &str) -> Result<Held, Refused> {
        let operation: OperationId =
            id.parse().map_err(|error| Refused::order(format!("{error}")))?;
        let gone = |message: &str| Refused(StatusCode::NOT_FOUND, message.to_owned());
        match self.ledger.read(operation.key).await {
            Ok(Some(held)) if held.operation() == operation => Ok(held),
            Ok(Some(_)) => {
                Err(gone("that claim was released; its key has been claimed anew since"))
            }
            Ok(None) => Err(gone("no such operation is remembered")),
            Err(error) => Err(Refused::store(error.to_string())),
        }
    }
}

/// Reads the order to settle.
fn settlement(order: &[u8], trial: &mut Trial) -> Result<Change, Refused> {
    let order: SettleOrder = serde_json::from_slice(order).map_err(|error| unfit(&error))?;
    trial.reason = reason(&order.reason)?;
    let (action, fits) = match order.r#as {
        How::Applied => ("settle as applied", 200..=299),
        How::NotApplied => ("settle as not-applied", 400..=499),
    };
    trial.action = action;
    if !fits.contains(&order.status) {
        return Err(Refused::order(
            "applied goes with a status of 200 to 299, not-applied with 400 to 499: it is what \
             every caller will be answered",
        ));
    }
    let body = match (order.body, order.body_base64) {
        (Some(_), Some(_)) => {
            return Err(Refused::order("give body or body_base64, not both"));
        }
        (Some(text), None) => Bytes::from(text),
        (None, Some(text)) => {
            STANDARD.decode(text).map_err(|_| Refused::order("body_base64 is not base64"))?.into()
        }
        (None, None) => Bytes::new(),
    };
    if order.status == 204 && !body.is_empty() {
        return Err(Refused::order("an answer with status 204 has no body"));
    }
    let reply =
        Reply { status: order.status, headers: content_type(order.content_type, &body)?, body };
    Ok(Change::Settle {
        by: SettledBy::Operator,
        status: order.status,
        reply: Some(Arc::new(reply)),
        delivery: Delivery::default(),
    })
}

fn content_type(given: Option<String>, body: &Bytes) -> Result<Vec<(String, Vec<u8>)>, Refused> {
    let kind = match given {
        Some(kind) => kind,
        None if body.is_empty() => return Ok(Vec::new()),
        None if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() => {
            "application/json".to_owned()
        }
        None if std::str::from_utf8(body).is_ok() => "text/plain; charset=utf-8".to_owned(),
        None => "application/octet-stream".to_owned(),
    };
    let value = HeaderValue::from_str(&kind);
    let value = value.map_err(|_| Refused::order("content_type cannot be a header"))?;
    Ok(vec![("content-type".to_owned(), value.as_bytes().to_vec())])
}

/// Reads the order to reopen.
fn reopening(order: &[u8], trial: &mut Trial) -> Result<Change, Refused> {
    let order: ReopenOrder = serde_json::from_slice(order).map_err(|error| unfit(&error))?;
    trial.reason = reason(&order.reason)?;
    if !order.allow_resend {
        return Err(Refused::order(
            "reopening frees the key: the next request with it is sent. Ask the provider first, \
             then say allow_resend",
        ));
    }
    Ok(Change::Release { why: Release::Operator, reply: None })
}

/// Where an order cannot be read. What is there is not repeated: it may be a caller's answer.
fn unfit(error: &serde_json::Error) -> Refused {
    let what = match error.classify() {
        serde_json::error::Category::Data => {
            "settle takes as, status, reason, and body or body_base64, content_type; reopen takes \
             allow_resend and reason"
        }
        serde_json::error::Category::Syntax
        | serde_json::error::Category::Eof
        | serde_json::error::Category::Io => "it is not JSON",
    };
    let (line, column) = (error.line(), error.column());
    Refused::order(format!("the order cannot be read at {line}:{column}: {what}"))
}

fn reason(text: &str) -> Result<String, Refused> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > REASON_MAX {
        return Err(Refused::order("a change needs a reason of 1 to 200 characters"));
    }
    Ok(text.to_owned())
}

impl Filter {
    /// What the store can look for itself.
    fn tag(&self) -> Option<Tag> {
        match self.state.as_deref() {
            Some("in-doubt") => Some(TAG_IN_DOUBT),
            Some("accepted") => Some(TAG_ACCEPTED),
            _ => None,
        }
    }

    fn fits(&self, held: &Held) -> bool {
        let state = self.state.as_deref().is_none_or(|state| state == held.record.state.name());
        state && held.record.entered.age() >= self.older_than
    }
}

fn filter(query: &str) -> Result<Filter, String> {
    const STATES: [&str; 5] = ["in-flight", "accepted", "in-doubt", "settled", "released"];
    let mut filter = Filter::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "state" if STATES.contains(&&*value) => filter.state = Some(value.into_owned()),
            "state" => return Err(format!("state is one of {}", STATES.join(", "))),
            "older_than" => {
                filter.older_than = humantime::parse_duration(&value)
                    .map_err(|error| format!("older_than is a duration like 10m: {error}"))?;
            }
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=PAGE.1).contains(limit));
                filter.limit = Some(limit.ok_or("limit is a number from 1 to 1000")?);
            }
            "after" => {
                let hex = value.bytes().all(|byte| byte.is_ascii_hexdigit());
                if !hex || value.is_empty() || value.len() > CURSOR_MAX {
                    return Err("after is what the page before said as next".to_owned());
                }
                filter.after = Some(value.into_owned());
            }
            _ => return Err("there are state, older_than, limit and after".to_owned()),
        }
    }
    Ok(filter)
}

/// Whether a person may act: nobody else can, any more.
fn may_change(ledger: &Ledger, held: &Held) -> Result<(), String> {
    let record = &held.record;
    match &record.state {
        State::Settled(_) => Err("it is settled; an outcome never changes".to_owned()),
        State::Released { .. } => Err("it is released; its key is free".to_owned()),
        State::InFlight if record.renewed.age() <= record.terms.lease => {
            Err("its owner is alive; wait for its answer or for its lease to end".to_owned())
        }
        State::InFlight => {
            spent(ledger, held)?;
            Err("its lease has ended; it will be in doubt in a moment".to_owned())
        }
        State::InDoubt { .. } | State::Accepted { .. } => spent(ledger, held),
    }
}

fn spent(ledger: &Ledger, held: &Held) -> Result<(), String> {
    ledger.is_spent(held).map_err(|may_send| may_send.to_string())
}
