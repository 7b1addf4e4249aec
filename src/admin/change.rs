//! Settling and reopening by hand: compare-and-swap, audited, and refused while an owner may still
//! act. Several are settled one by one, each for itself.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Value, json};

use super::as_json;
use super::records::{Desk, Refused, operations};
use crate::ledger::{Change, Concluded, Ledger};
use crate::protocol::attempt::Held;
use crate::protocol::id::OperationId;
use crate::protocol::record::{Delivery, Happening, Release, Reply, SettledBy, State};

/// The longest reason that is kept, in characters.
const REASON_MAX: usize = 200;
/// How many operations one order may settle.
const OPERATIONS_MAX: usize = 100;
/// How many of them are settled at the same time.
const AT_ONCE_MAX: usize = 8;

/// What an operator may do to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Settle,
    Reopen,
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
#[derive(Debug, Clone)]
struct Trial {
    action: &'static str,
    operation: Option<OperationId>,
    reason: String,
    before: Option<&'static str>,
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
    /// Carries an order out, or says why not. Either is on the audit log.
    pub(super) async fn change(
        &self,
        id: &str,
        action: Action,
        order: &[u8],
    ) -> Response<Full<Bytes>> {
        let mut trial = Trial { operation: id.parse().ok(), ..Trial::new(action) };
        let change = match action {
            Action::Settle => settlement(order, &mut trial),
            Action::Reopen => reopening(order, &mut trial),
        };
        let done = match change {
            Ok(change) => self.perform(id, change, None, &mut trial).await,
            Err(refused) => Err(refused),
        };
        trial.audit(self.peer, done.as_ref().copied().map_err(|refused| &*refused.1));
        match done {
            Ok(_) => self.show(id).await,
            Err(refused) => refused.response(),
        }
    }

    /// Settles several operations the same way, each for itself and each on the audit log. What
    /// became of each stands beside it.
    pub(super) async fn settle_many(&self, order: &[u8]) -> Response<Full<Bytes>> {
        let mut trial = Trial::new(Action::Settle);
        let (ids, only, change) = match many(order, &mut trial) {
            Ok(order) => order,
            Err(refused) => {
                trial.audit(self.peer, Err(&refused.1));
                return refused.response();
            }
        };
        let mut results = Vec::with_capacity(ids.len());
        for some in ids.chunks(AT_ONCE_MAX) {
            let each = some.iter().map(|id| self.settle_one(id, &change, only.as_deref(), &trial));
            results.extend(join_all(each).await);
        }
        as_json(StatusCode::OK, &json!({ "results": results }))
    }

    async fn settle_one(
        &self,
        id: &str,
        change: &Change,
        only: Option<&str>,
        trial: &Trial,
    ) -> Value {
        let mut trial = Trial { operation: id.parse().ok(), ..trial.clone() };
        let done = self.perform(id, change.clone(), only, &mut trial).await;
        trial.audit(self.peer, done.as_ref().copied().map_err(|refused| &*refused.1));
        match done {
            Ok(state) => json!({ "operation": id, "state": state }),
            Err(refused) => json!({ "operation": id, "error": refused.1 }),
        }
    }

    /// Makes the change, if nobody else may still act on the operation, and it is in the state
    /// that was asked for. Returns the new state.
    async fn perform(
        &self,
        id: &str,
        change: Change,
        only: Option<&str>,
        trial: &mut Trial,
    ) -> Result<&'static str, Refused> {
        let held = self.find(id).await?;
        let before = held.record.state.name();
        trial.before = Some(before);
        may_change(self.ledger, &held).map_err(Refused::conflict)?;
        if only.is_some_and(|only| only != before) {
            return Err(Refused::conflict(format!("it is {before} by now")));
        }
        let (action, reason) = (trial.action.to_owned(), trial.reason.clone());
        let note = Some(Happening::Operator { action, reason });
        match self.ledger.conclude_noting(held, note, change).await {
            Concluded::Recorded(view) => {
                let after = view.state();
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
}

/// Reads the order to settle several.
fn many(order: &[u8], trial: &mut Trial) -> Result<(Vec<String>, Option<String>, Change), Refused> {
    let (ids, mut order) = operations(order, OPERATIONS_MAX)?;
    let only = match order.remove("state") {
        None => None,
        Some(Value::String(state)) if state == "in-doubt" || state == "accepted" => Some(state),
        Some(_) => return Err(Refused::order("state is in-doubt or accepted")),
    };
    let change = settlement(Value::Object(order).to_string().as_bytes(), trial)?;
    Ok((ids, only, change))
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
