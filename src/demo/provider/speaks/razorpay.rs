//! Razorpay's API v1: orders, payments, their captures and refunds, and payouts.
//!
//! Orders know no idempotency key, only a receipt. `method: declined` makes a payment that fails.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Call, Language, Made, Page, Refusal, Said, first_text, name, number, page_size, sum};
use crate::demo::provider::asked::Asked;
use crate::demo::provider::charge::{Charge, Order, Seen, Status};
use crate::demo::provider::ledger::{Find, Sought};

const ORDERS: &str = "/v1/orders";
const PAYMENTS: &str = "/v1/payments";
const REFUNDS: &str = "/v1/refunds";
const PAYOUTS: &str = "/v1/payouts";
const DECLINED: &str = "declined";
const DIGITS: usize = 14;
const PAGE: usize = 10;
const PAGE_MAX: usize = 100;
/// What of a request is shown again.
const ECHOED: [&str; 14] = [
    "account_number",
    "contact",
    "customer_id",
    "description",
    "email",
    "fund_account_id",
    "method",
    "mode",
    "narration",
    "notes",
    "order_id",
    "purpose",
    "receipt",
    "reference_id",
];

pub(super) struct Razorpay;

impl Language for Razorpay {
    fn call<'a>(&self, asked: &'a Asked<'_>) -> Result<Call<'a>, Refusal> {
        let one = |prefix, id, path| Call::One(Find::one(Sought::Number(number(prefix, id)), path));
        let on = |id| Some(number("pay_", id));
        let key = |name| asked.header(name).map(str::to_owned);
        Ok(match (asked.method(), asked.segments().as_slice()) {
            ("POST", ["v1", "orders"]) => Call::Commit(order(asked, ORDERS)),
            ("POST", ["v1", "payments", "create", "json" | "recurring"]) => {
                let on = asked.in_body("/order_id").map(|id| number("order_", id));
                let mut order = Order { on, ..order(asked, PAYMENTS) };
                if asked.path().ends_with("recurring") {
                    order.fields.insert("recurring".to_owned(), json!(true));
                }
                Call::Commit(order)
            }
            ("POST", ["v1", "payments", id, "capture"]) => {
                Call::Commit(Order { on: on(id), ..order(asked, asked.path()) })
            }
            ("POST", ["v1", "payments", id, "refund"]) => {
                let key = key("x-refund-idempotency");
                Call::Commit(Order { on: on(id), key, ..order(asked, REFUNDS) })
            }
            ("POST", ["v1", "payouts"]) => {
                let key = key("x-payout-idempotency");
                Call::Commit(Order { key, ..order(asked, PAYOUTS) })
            }
            ("GET", ["v1", "orders", id, "payments"]) => {
                Call::List(Find::all(Sought::On(number("order_", id)), Some(PAYMENTS)))
            }
            ("GET", ["v1", "payments", id, "refunds"]) => {
                Call::List(Find::all(Sought::On(number("pay_", id)), Some(REFUNDS)))
            }
            ("GET", ["v1", "orders"]) => Call::List(list(asked, ORDERS)),
            ("GET", ["v1", "payments"]) => Call::List(list(asked, PAYMENTS)),
            ("GET", ["v1", "refunds"]) => Call::List(list(asked, REFUNDS)),
            ("GET", ["v1", "payouts"]) => Call::List(list(asked, PAYOUTS)),
            ("GET", ["v1", "orders", id]) => one("order_", id, Some(ORDERS)),
            ("GET", ["v1", "payments", id]) => one("pay_", id, Some(PAYMENTS)),
            ("GET", ["v1", "refunds", id]) => one("rfnd_", id, Some(REFUNDS)),
            ("GET", ["v1", "payouts", id]) => one("pout_", id, Some(PAYOUTS)),
            _ => return Err(Refusal::NoEndpoint),
        })
    }

    fn made(&self, made: &Made) -> Said {
        let charge = &made.seen.charge;
        match (charge.object.as_str(), made.seen.status) {
            ("capture" | "payment", Status::Failed) => {
                let bad = StatusCode::BAD_REQUEST;
                error(bad, "BAD_REQUEST_ERROR", "Payment failed.", Some("payment_failed"))
            }
            ("capture", _) => Said::ok(&self.one(made.subject())),
            ("payment", _) => Said::ok(&json!({
                "razorpay_payment_id": self.id(charge),
                "razorpay_order_id": charge.order.fields.get("order_id"),
            })),
            _ => Said::ok(&self.one(&made.seen)),
        }
    }

    fn one(&self, seen: &Seen) -> Value {
        let Seen { charge, .. } = seen;
        let mut shown = json!({
            "id": self.id(charge),
            "entity": charge.object,
            "amount": charge.order.amount,
            "currency": charge.order.currency,
        });
        match charge.object.as_str() {
            "order" => show_order(&mut shown, seen),
            "payment" => show_payment(&mut shown, seen),
            "refund" => show_refund(&mut shown, seen),
            _ => shown["status"] = json!(payout_status(seen.status)),
        }
        shown["notes"] = json!([]);
        for (name, value) in &charge.order.fields {
            shown[name] = value.clone();
        }
        shown["created_at"] = json!(charge.created_ms / 1000);
        shown
    }

    fn list(&self, page: &Page<'_>) -> Value {
        let mut items = page.items(self);
        let expands = page.asked.query.get("expand").and_then(Value::as_array);
        if expands.is_some_and(|all| all.iter().any(|one| one == "payments")) {
            for (item, seen) in items.iter_mut().zip(&page.found.seen) {
                let payments: Vec<Value> = seen.all("payment").map(|its| self.one(its)).collect();
                item["payments"] = collection(&payments);
            }
        }
        collection(&items)
    }

    fn refused(&self, why: &Refusal) -> Said {
        let bad = "BAD_REQUEST_ERROR";
        let (status, code, description) = match why {
            Refusal::Status(status) if status.is_server_error() => {
                (*status, "SERVER_ERROR", "The server encountered an error.")
            }
            Refusal::Status(status) => (*status, bad, "The request was refused."),
            Refusal::NotFound => (StatusCode::BAD_REQUEST, bad, "The id provided does not exist"),
            Refusal::NoEndpoint => {
                (StatusCode::NOT_FOUND, bad, "The requested URL was not found on the server.")
            }
            Refusal::Malformed(why) => (StatusCode::BAD_REQUEST, bad, *why),
            Refusal::InProgress => (StatusCode::CONFLICT, bad, "The same key is in progress."),
            Refusal::KeyReused => (
                StatusCode::BAD_REQUEST,
                bad,
                "Different request with the same idempotency key has already been processed.",
            ),
        };
        error(status, code, description, None)
    }

    fn id(&self, charge: &Charge) -> String {
        let prefix = match charge.object.as_str() {
            "order" => "order_",
            "refund" => "rfnd_",
            "payout" => "pout_",
            _ => "pay_",
        };
        name(prefix, DIGITS, charge.number())
    }
}

fn error(status: StatusCode, code: &str, description: &str, reason: Option<&str>) -> Said {
    let error = json!({"code": code, "description": description, "reason": reason});
    Said::new(status, &json!({"error": error}))
}

fn order(asked: &Asked<'_>, path: &str) -> Order {
    Order {
        path: path.to_owned(),
        amount: asked.number("/amount"),
        currency: asked.value("/currency"),
        reference: first_text(&asked.body, &["/receipt", "/reference_id"]),
        metadata: asked.object("/notes"),
        fields: asked.fields(&ECHOED),
        fails: asked.in_body("/method") == Some(DECLINED),
        ..Order::default()
    }
}

fn list<'a>(asked: &'a Asked<'_>, path: &'static str) -> Find<'a> {
    let seconds = |name: &str| asked.number_in_query(name).map(|s| s.saturating_mul(1000));
    let reference = asked.in_query("/receipt").or_else(|| asked.in_query("/reference_id"));
    let skip = asked.number_in_query("/skip").and_then(|skip| usize::try_from(skip).ok());
    Find {
        since_ms: seconds("/from").unwrap_or_default(),
        until_ms: seconds("/to").map_or(u64::MAX, |ms| ms.saturating_add(999)),
        skip: skip.unwrap_or_default(),
        limit: page_size(asked, "/count", PAGE, PAGE_MAX),
        ..Find::all(reference.map_or(Sought::All, Sought::Reference), Some(path))
    }
}

fn collection(items: &[Value]) -> Value {
    json!({"entity": "collection", "count": items.len(), "items": items})
}

fn show_order(shown: &mut Value, seen: &Seen) {
    let amount = seen.charge.order.amount.as_i64().unwrap_or_default();
    let captured = seen.all("payment").filter(|payment| payment_status(payment) == "captured");
    let paid = sum(captured.map(|payment| &payment.charge.order.amount));
    let attempts = seen.all("payment").count();
    shown["amount_paid"] = json!(paid);
    shown["amount_due"] = json!(amount - paid);
    shown["receipt"] = Value::Null;
    shown["attempts"] = json!(attempts);
    shown["status"] = match (paid, attempts) {
        (0, 0) => json!("created"),
        (0, _) => json!("attempted"),
        (_, _) => json!("paid"),
    };
}

fn show_payment(shown: &mut Value, seen: &Seen) {
    let refunds = seen.all("refund").filter(|refund| refund.status == Status::Succeeded);
    let failed = seen.status == Status::Failed;
    shown["status"] = json!(payment_status(seen));
    shown["captured"] = json!(payment_status(seen) == "captured");
    shown["amount_refunded"] = json!(sum(refunds.map(|refund| &refund.charge.order.amount)));
    shown["order_id"] = Value::Null;
    shown["error_code"] = if failed { json!("BAD_REQUEST_ERROR") } else { Value::Null };
    shown["error_reason"] = if failed { json!("payment_failed") } else { Value::Null };
}

fn show_refund(shown: &mut Value, seen: &Seen) {
    shown["payment_id"] = json!(seen.charge.order.on.map(|on| name("pay_", DIGITS, on)));
    shown["status"] = json!(payout_status(seen.status));
}

fn payment_status(seen: &Seen) -> &'static str {
    let at_once = seen.charge.order.fields.contains_key("recurring");
    match seen.status {
        Status::Failed => "failed",
        Status::Processing => "created",
        Status::Succeeded if at_once || seen.has("capture") => "captured",
        Status::Succeeded => "authorized",
    }
}

const fn payout_status(status: Status) -> &'static str {
    match status {
        Status::Processing => "pending",
        Status::Succeeded => "processed",
        Status::Failed => "failed",
    }
}
