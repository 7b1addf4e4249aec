//! Checkout.com's API: payments, their captures, refunds and voids.
//!
//! `source.token: tok_declined` is declined: a 201 that says so.

use http::StatusCode;
use serde_json::{Value, json};

use super::time::rfc3339;
use super::{Call, Language, Made, Page, Refusal, Said, name, number, page_size};
use crate::demo::provider::asked::Asked;
use crate::demo::provider::charge::{Charge, Order, Seen, Status};
use crate::demo::provider::ledger::{Find, Sought};

const PAYMENTS: &str = "/payments";
/// What a payment is called in the ledger.
const PAYMENT: &str = "payment";
const DECLINED: &str = "tok_declined";
const DIGITS: usize = 26;
const PAGE: usize = 10;
const PAGE_MAX: usize = 100;
/// What of a request is shown again.
const ECHOED: [&str; 5] = ["capture", "customer", "description", "metadata", "payment_type"];

pub(super) struct Checkout;

impl Language for Checkout {
    fn call<'a>(&self, asked: &'a Asked<'_>) -> Result<Call<'a>, Refusal> {
        let number = |id| number("pay_", id);
        Ok(match (asked.method(), asked.segments().as_slice()) {
            ("POST", ["payments"]) => Call::Commit(order(asked, PAYMENTS)),
            ("POST", ["payments", "search"]) => search(asked)?,
            ("POST", ["payments", id, "captures" | "refunds" | "voids"]) => {
                Call::Commit(Order { on: Some(number(id)), ..order(asked, asked.path()) })
            }
            ("POST", ["connect", "token"]) => Call::Aside(Said::ok(&json!({
                "access_token": "practice", "expires_in": 3600, "token_type": "Bearer",
                "scope": "gateway",
            }))),
            ("GET", ["payments"]) => list(asked)?,
            ("GET", ["payments", id]) => {
                Call::One(Find::one(Sought::Number(number(id)), Some(PAYMENTS)))
            }
            ("GET", ["payments", id, "actions"]) => {
                Call::List(Find::one(Sought::Number(number(id)), Some(PAYMENTS)))
            }
            _ => return Err(Refusal::NoEndpoint),
        })
    }

    fn made(&self, made: &Made) -> Said {
        let charge = &made.seen.charge;
        if charge.object != PAYMENT {
            let payment = charge.order.on.map(|number| name("pay_", DIGITS, number));
            return Said::new(
                StatusCode::ACCEPTED,
                &json!({
                    "action_id": self.id(charge),
                    "reference": charge.order.reference,
                    "_links": {"payment": link(&payment.unwrap_or_default())},
                }),
            );
        }
        let status = match made.seen.status {
            Status::Processing => StatusCode::ACCEPTED,
            Status::Succeeded | Status::Failed => StatusCode::CREATED,
        };
        let mut shown = self.one(&made.seen);
        // It is captured in the time till somebody looks.
        if made.seen.status == Status::Succeeded {
            shown["status"] = json!("Authorized");
        }
        Said::new(status, &shown)
    }

    fn one(&self, seen: &Seen) -> Value {
        let Seen { charge, status, .. } = seen;
        let order = &charge.order;
        let (code, summary) = match status {
            Status::Failed => ("20005", "Declined - Do Not Honour"),
            Status::Processing | Status::Succeeded => ("10000", "Approved"),
        };
        let mut shown = json!({
            "id": self.id(charge),
            "action_id": name("act_", DIGITS, charge.number()),
            "requested_on": rfc3339(charge.created_ms),
            "processed_on": rfc3339(charge.created_ms),
            "amount": order.amount,
            "currency": order.currency,
            "approved": *status == Status::Succeeded,
            "status": payment_status(seen),
            "response_code": code,
            "response_summary": summary,
            "reference": order.reference,
            "source": {"type": "card", "last4": "4242"},
            "_links": {"self": link(&self.id(charge))},
        });
        for (name, value) in order.fields.iter().filter(|(name, _)| *name != "capture") {
            shown[name] = value.clone();
        }
        shown
    }

    fn list(&self, page: &Page<'_>) -> Value {
        if page.asked.path().ends_with("/actions") {
            return page.found.seen.first().map(actions).unwrap_or_default();
        }
        json!({
            "limit": page.find.limit,
            "skip": page.find.skip,
            "total_count": page.found.total,
            "data": page.items(self),
        })
    }

    fn refused(&self, why: &Refusal) -> Said {
        let (status, kind, code) = match why {
            Refusal::Status(StatusCode::TOO_MANY_REQUESTS) => {
                (StatusCode::TOO_MANY_REQUESTS, "request_invalid", "too_many_requests")
            }
            Refusal::Status(status) => (*status, "processing_error", "practice"),
            Refusal::NotFound | Refusal::NoEndpoint => {
                (StatusCode::NOT_FOUND, "request_invalid", "not_found")
            }
            Refusal::Malformed(why) => (StatusCode::UNPROCESSABLE_ENTITY, "request_invalid", *why),
            Refusal::InProgress => {
                (StatusCode::CONFLICT, "request_invalid", "conflict_with_another_request")
            }
            Refusal::KeyReused => (StatusCode::CONFLICT, "request_invalid", "key_reused"),
        };
        let error = json!({"request_id": "practice", "error_type": kind, "error_codes": [code]});
        Said::new(status, &error)
    }

    fn id(&self, charge: &Charge) -> String {
        let prefix = if charge.object == PAYMENT { "pay_" } else { "act_" };
        name(prefix, DIGITS, charge.number())
    }
}

fn order(asked: &Asked<'_>, path: &str) -> Order {
    Order {
        path: path.to_owned(),
        amount: asked.value("/amount"),
        currency: asked.value("/currency"),
        reference: asked.in_body("/reference").map(str::to_owned),
        metadata: asked.object("/metadata"),
        key: asked.header("cko-idempotency-key").map(str::to_owned),
        fields: asked.fields(&ECHOED),
        fails: asked.in_body("/source/token") == Some(DECLINED),
        ..Order::default()
    }
}

fn list<'a>(asked: &'a Asked<'_>) -> Result<Call<'a>, Refusal> {
    let reference = asked.in_query("/reference").ok_or(Refusal::Malformed("reference_required"))?;
    let skip = asked.number_in_query("/skip").and_then(|skip| usize::try_from(skip).ok());
    Ok(Call::List(Find {
        skip: skip.unwrap_or_default(),
        limit: page_size(asked, "/limit", PAGE, PAGE_MAX),
        ..Find::all(Sought::Reference(reference), Some(PAYMENTS))
    }))
}

/// Understands `reference:'R'`, in either kind of quotes or in none, and nothing else.
fn search<'a>(asked: &'a Asked<'_>) -> Result<Call<'a>, Refusal> {
    let query = asked.in_body("/query").and_then(|query| query.strip_prefix("reference:"));
    let query = query.ok_or(Refusal::Malformed("query_not_understood"))?;
    let reference = query.trim_matches(['\'', '"']);
    let limit = asked.body.get("limit").and_then(Value::as_u64);
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(PAGE);
    let all = Find::all(Sought::Reference(reference), Some(PAYMENTS));
    Ok(Call::List(Find { limit: limit.clamp(1, PAGE_MAX), ..all }))
}

fn payment_status(seen: &Seen) -> &'static str {
    let manual = seen.charge.order.fields.get("capture") == Some(&Value::Bool(false));
    match seen.status {
        Status::Processing => "Pending",
        Status::Failed => "Declined",
        Status::Succeeded if seen.has("void") => "Voided",
        Status::Succeeded if seen.has("refund") => "Refunded",
        Status::Succeeded if !manual || seen.has("capture") => "Captured",
        Status::Succeeded => "Authorized",
    }
}

/// What was done to a payment, the newest first, and its authorisation last.
fn actions(payment: &Seen) -> Value {
    let action = |seen: &Seen| {
        let kind = match seen.charge.object.as_str() {
            "capture" => "Capture",
            "refund" => "Refund",
            "void" => "Void",
            _ => "Authorization",
        };
        json!({
            "id": name("act_", DIGITS, seen.charge.number()),
            "type": kind,
            "processed_on": rfc3339(seen.charge.created_ms),
            "amount": seen.charge.order.amount,
            "approved": seen.status == Status::Succeeded,
            "reference": seen.charge.order.reference,
        })
    };
    let all = payment.operations.iter().rev().chain([payment]);
    Value::Array(all.map(action).collect())
}

fn link(id: &str) -> Value {
    json!({"href": format!("https://practice.example{PAYMENTS}/{id}")})
}
