//! Square's API v2: payments and refunds.
//!
//! `source_id: cnon:card-nonce-declined` is declined. The idempotency key stands in the body.

use http::StatusCode;
use serde_json::{Value, json};

use super::time::{from_rfc3339, rfc3339};
use super::{Call, Language, Made, Page, Refusal, Said, name, number, page_size, sum};
use crate::demo::provider::asked::Asked;
use crate::demo::provider::charge::{Charge, Order, Seen, Status};
use crate::demo::provider::ledger::{Find, Sought};

const PAYMENTS: &str = "/v2/payments";
const REFUNDS: &str = "/v2/refunds";
const REFUND: &str = "refund";
const PAYMENT_PREFIX: &str = "practicePayment";
const REFUND_PREFIX: &str = "practiceRefund";
const DECLINED: &str = "cnon:card-nonce-declined";
const DIGITS: usize = 9;
const PAGE: usize = 100;
/// What of a request is shown again.
const ECHOED: [&str; 8] = [
    "autocomplete",
    "buyer_email_address",
    "customer_id",
    "location_id",
    "note",
    "order_id",
    "payment_id",
    "reason",
];

pub(super) struct Square;

impl Language for Square {
    fn call<'a>(&self, asked: &'a Asked<'_>) -> Result<Call<'a>, Refusal> {
        let one = |prefix, id, path| Call::One(Find::one(Sought::Number(number(prefix, id)), path));
        Ok(match (asked.method(), asked.segments().as_slice()) {
            ("POST", ["v2", "payments"]) => Call::Commit(order(asked, PAYMENTS)),
            ("POST", ["v2", "payments", id, "complete" | "cancel"]) => {
                let on = Some(number(PAYMENT_PREFIX, id));
                Call::Commit(Order { on, ..order(asked, asked.path()) })
            }
            ("POST", ["v2", "refunds"]) => {
                let on = asked.in_body("/payment_id").map(|id| number(PAYMENT_PREFIX, id));
                Call::Commit(Order { on, ..order(asked, REFUNDS) })
            }
            ("GET", ["v2", "payments"]) => Call::List(list(asked, PAYMENTS)?),
            ("GET", ["v2", "refunds"]) => Call::List(list(asked, REFUNDS)?),
            ("GET", ["v2", "payments", id]) => one(PAYMENT_PREFIX, id, Some(PAYMENTS)),
            ("GET", ["v2", "refunds", id]) => one(REFUND_PREFIX, id, Some(REFUNDS)),
            _ => return Err(Refusal::NoEndpoint),
        })
    }

    fn made(&self, made: &Made) -> Said {
        let is_refund = made.seen.charge.object == REFUND;
        let shown = self.one(if is_refund { &made.seen } else { made.subject() });
        if made.seen.status != Status::Failed {
            return Said::ok(&shown);
        }
        let (code, category) = ("GENERIC_DECLINE", "PAYMENT_METHOD_ERROR");
        let detail = "Authorization error: 'GENERIC_DECLINE'";
        let mut declined = shown;
        declined["errors"] = json!([{"code": code, "detail": detail, "category": category}]);
        Said::new(StatusCode::PAYMENT_REQUIRED, &declined)
    }

    fn one(&self, seen: &Seen) -> Value {
        if seen.charge.object == REFUND {
            json!({"refund": refund(seen)})
        } else {
            json!({"payment": payment(seen)})
        }
    }

    fn list(&self, page: &Page<'_>) -> Value {
        let is_refunds = page.find.path == Some(REFUNDS);
        let show = |seen| if is_refunds { refund(seen) } else { payment(seen) };
        let items: Vec<Value> = page.found.seen.iter().map(show).collect();
        let mut list = match (items.is_empty(), is_refunds) {
            (true, _) => json!({}),
            (false, true) => json!({"refunds": items}),
            (false, false) => json!({"payments": items}),
        };
        if let Some(last) = page.cursor() {
            list["cursor"] = json!(last.number().to_string());
        }
        list
    }

    fn refused(&self, why: &Refusal) -> Said {
        let invalid = "INVALID_REQUEST_ERROR";
        let (status, category, code, detail) = match why {
            Refusal::Status(StatusCode::PAYMENT_REQUIRED) => (
                StatusCode::PAYMENT_REQUIRED,
                "PAYMENT_METHOD_ERROR",
                "GENERIC_DECLINE",
                "Authorization error: 'GENERIC_DECLINE'",
            ),
            Refusal::Status(StatusCode::TOO_MANY_REQUESTS) => (
                StatusCode::TOO_MANY_REQUESTS,
                "RATE_LIMIT_ERROR",
                "RATE_LIMITED",
                "Too many requests.",
            ),
            Refusal::Status(StatusCode::UNAUTHORIZED) => {
                (StatusCode::UNAUTHORIZED, "AUTHENTICATION_ERROR", "UNAUTHORIZED", "Unauthorized.")
            }
            Refusal::Status(StatusCode::SERVICE_UNAVAILABLE) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "API_ERROR",
                "SERVICE_UNAVAILABLE",
                "Service unavailable.",
            ),
            Refusal::Status(status) if status.is_server_error() => {
                (*status, "API_ERROR", "INTERNAL_SERVER_ERROR", "An internal error occurred.")
            }
            Refusal::Status(status) => (*status, invalid, "BAD_REQUEST", "Refused."),
            Refusal::NotFound => (StatusCode::NOT_FOUND, invalid, "NOT_FOUND", "Not found."),
            Refusal::NoEndpoint => {
                (StatusCode::NOT_FOUND, invalid, "NOT_FOUND", "No such endpoint.")
            }
            Refusal::Malformed(why) => (StatusCode::BAD_REQUEST, invalid, "BAD_REQUEST", *why),
            Refusal::InProgress => {
                (StatusCode::CONFLICT, invalid, "CONFLICT", "The same key is in progress.")
            }
            Refusal::KeyReused => (
                StatusCode::BAD_REQUEST,
                invalid,
                "IDEMPOTENCY_KEY_REUSED",
                "The key came before with other parameters.",
            ),
        };
        let error = json!({"category": category, "code": code, "detail": detail});
        Said::new(status, &json!({"errors": [error]}))
    }

    fn id(&self, charge: &Charge) -> String {
        let prefix = if charge.object == REFUND { REFUND_PREFIX } else { PAYMENT_PREFIX };
        name(prefix, DIGITS, charge.number())
    }
}

fn order(asked: &Asked<'_>, path: &str) -> Order {
    Order {
        path: path.to_owned(),
        amount: asked.value("/amount_money/amount"),
        currency: asked.value("/amount_money/currency"),
        reference: asked.in_body("/reference_id").map(str::to_owned),
        key: asked.in_body("/idempotency_key").map(str::to_owned),
        fields: asked.fields(&ECHOED),
        fails: asked.in_body("/source_id") == Some(DECLINED),
        ..Order::default()
    }
}

fn list<'a>(asked: &'a Asked<'_>, path: &'static str) -> Result<Find<'a>, Refusal> {
    let time = |name: &str| match asked.in_query(name) {
        Some(text) => from_rfc3339(text).map(Some).ok_or(Refusal::Malformed("a time is RFC 3339")),
        None => Ok(None),
    };
    Ok(Find {
        since_ms: time("/begin_time")?.unwrap_or_default(),
        until_ms: time("/end_time")?.unwrap_or(u64::MAX),
        field: asked.in_query("/location_id").map(|location| ("location_id", location)),
        after: asked.in_query("/cursor").map(|cursor| number("", cursor)),
        limit: page_size(asked, "/limit", PAGE, PAGE),
        oldest_first: asked.in_query("/sort_order") == Some("ASC"),
        ..Find::all(Sought::All, Some(path))
    })
}

fn payment(seen: &Seen) -> Value {
    let Seen { charge, status, .. } = seen;
    let order = &charge.order;
    let is_final = order.fields.get("autocomplete") != Some(&Value::Bool(false));
    let money = |amount: &Value| json!({"amount": amount, "currency": order.currency});
    let status = match status {
        Status::Processing => "PENDING",
        Status::Failed => "FAILED",
        Status::Succeeded if seen.has("cancel") => "CANCELED",
        Status::Succeeded if is_final || seen.has("complete") => "COMPLETED",
        Status::Succeeded => "APPROVED",
    };
    let refunded = seen.all(REFUND).filter(|refund| refund.status == Status::Succeeded);
    let refunded = sum(refunded.map(|refund| &refund.charge.order.amount));
    let mut shown = json!({
        "id": Square.id(charge),
        "created_at": rfc3339(charge.created_ms),
        "updated_at": rfc3339(charge.created_ms),
        "amount_money": money(&order.amount),
        "total_money": money(&order.amount),
        "status": status,
        "source_type": "CARD",
        "version_token": "practice",
    });
    if refunded > 0 {
        shown["refunded_money"] = money(&json!(refunded));
    }
    with_echo(shown, order)
}

fn refund(seen: &Seen) -> Value {
    let Seen { charge, status, .. } = seen;
    let order = &charge.order;
    let shown = json!({
        "id": Square.id(charge),
        "created_at": rfc3339(charge.created_ms),
        "updated_at": rfc3339(charge.created_ms),
        "amount_money": {"amount": order.amount, "currency": order.currency},
        "status": match status {
            Status::Processing => "PENDING",
            Status::Succeeded => "COMPLETED",
            Status::Failed => "FAILED",
        },
    });
    with_echo(shown, order)
}

/// Shows what was sent, as far as it was.
fn with_echo(mut shown: Value, order: &Order) -> Value {
    if let Some(reference) = &order.reference {
        shown["reference_id"] = json!(reference);
    }
    for (name, value) in order.fields.iter().filter(|(name, _)| *name != "autocomplete") {
        shown[name] = value.clone();
    }
    shown
}
