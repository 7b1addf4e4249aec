//! Stripe's API v1: payment intents and refunds. Forms in, JSON out.
//!
//! `payment_method: pm_card_chargeDeclined` (or `…_chargeDeclined`) is declined.

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    Call, Language, Made, Page, Refusal, Said, first_text, name, number, object_list, page_size,
};
use crate::demo::provider::asked::Asked;
use crate::demo::provider::charge::{Charge, Order, Seen, Status};
use crate::demo::provider::ledger::{Find, Sought};

const INTENTS: &str = "/v1/payment_intents";
const REFUNDS: &str = "/v1/refunds";
/// What a refund is called in the ledger.
const REFUND: &str = "refund";
const DIGITS: usize = 24;
/// How many objects a list shows if not told, and at most.
const PAGE: usize = 10;
const PAGE_MAX: usize = 100;
/// What of a request is shown again.
const ECHOED: [&str; 10] = [
    "capture_method",
    "confirm",
    "customer",
    "description",
    "off_session",
    "payment_intent",
    "payment_method",
    "reason",
    "statement_descriptor",
    "transfer_group",
];

pub(super) struct Stripe;

impl Language for Stripe {
    fn call<'a>(&self, asked: &'a Asked<'_>) -> Result<Call<'a>, Refusal> {
        let one = |prefix, id, path| Call::One(Find::one(Sought::Number(number(prefix, id)), path));
        Ok(match (asked.method(), asked.segments().as_slice()) {
            ("POST", ["v1", "payment_intents"]) => Call::Commit(intent(asked)),
            ("POST", ["v1", "payment_intents", id, "confirm" | "capture" | "cancel"]) => {
                Call::Commit(Order { on: Some(number("pi_", id)), ..order(asked, asked.path()) })
            }
            ("POST", ["v1", "refunds"]) => {
                let on = asked.in_body("/payment_intent").map(|id| number("pi_", id));
                Call::Commit(Order { on, ..order(asked, REFUNDS) })
            }
            ("GET", ["v1", "payment_intents", "search"]) => search(asked)?,
            ("GET", ["v1", "payment_intents", id]) => one("pi_", id, Some(INTENTS)),
            ("GET", ["v1", "refunds", id]) => one("re_", id, Some(REFUNDS)),
            ("GET", ["v1", "payment_intents"]) => Call::List(list(asked, "pi_", INTENTS)),
            ("GET", ["v1", "refunds"]) => {
                let of = asked.in_query("/payment_intent").map(|id| number("pi_", id));
                let sought = of.map_or(Sought::All, Sought::On);
                Call::List(Find { sought, ..list(asked, "re_", REFUNDS) })
            }
            _ => return Err(Refusal::NoEndpoint),
        })
    }

    fn made(&self, made: &Made) -> Said {
        let is_refund = made.seen.charge.object == REFUND;
        let shown = self.one(if is_refund { &made.seen } else { made.subject() });
        let said = if made.seen.status == Status::Failed {
            let error = json!({
                "type": "card_error",
                "code": "card_declined",
                "decline_code": "generic_decline",
                "message": "Your card was declined.",
                "payment_intent": shown,
            });
            Said::new(StatusCode::PAYMENT_REQUIRED, &json!({"error": error}))
        } else {
            Said::ok(&shown)
        };
        said.replayed_if(made.replayed)
    }

    fn one(&self, seen: &Seen) -> Value {
        if seen.charge.object == REFUND { refund(seen) } else { intent_shown(seen) }
    }

    fn list(&self, page: &Page<'_>) -> Value {
        let items = page.items(self);
        if page.asked.path().ends_with("/search") {
            let next = page.cursor().map(|charge| self.id(charge));
            return json!({
                "object": "search_result",
                "url": page.asked.path(),
                "data": items,
                "has_more": page.found.more,
                "next_page": next,
            });
        }
        let mut list = object_list(&items, page.found.more);
        list["url"] = json!(page.asked.path());
        list
    }

    fn refused(&self, why: &Refusal) -> Said {
        let invalid = "invalid_request_error";
        let (status, kind, code, message) = match why {
            Refusal::Status(StatusCode::PAYMENT_REQUIRED) => (
                StatusCode::PAYMENT_REQUIRED,
                "card_error",
                Some("card_declined"),
                "Your card was declined.",
            ),
            Refusal::Status(StatusCode::TOO_MANY_REQUESTS) => {
                (StatusCode::TOO_MANY_REQUESTS, invalid, Some("rate_limit"), "Too many requests.")
            }
            Refusal::Status(status) if status.is_server_error() => {
                (*status, "api_error", None, "An unknown error occurred.")
            }
            Refusal::Status(status) => (*status, invalid, None, "The request was refused."),
            Refusal::NotFound => {
                (StatusCode::NOT_FOUND, invalid, Some("resource_missing"), "No such object.")
            }
            Refusal::NoEndpoint => {
                (StatusCode::NOT_FOUND, invalid, None, "Unrecognized request URL.")
            }
            Refusal::Malformed(why) => (StatusCode::BAD_REQUEST, invalid, None, *why),
            Refusal::InProgress => (
                StatusCode::CONFLICT,
                "idempotency_error",
                Some("idempotency_key_in_use"),
                "There is another request in progress with this Idempotent Key.",
            ),
            Refusal::KeyReused => (
                StatusCode::BAD_REQUEST,
                "idempotency_error",
                None,
                "This key was first used with other parameters.",
            ),
        };
        Said::new(status, &json!({"error": {"type": kind, "code": code, "message": message}}))
    }

    fn id(&self, charge: &Charge) -> String {
        let prefix = if charge.object == REFUND { "re_" } else { "pi_" };
        name(prefix, DIGITS, charge.number())
    }
}

fn order(asked: &Asked<'_>, path: &str) -> Order {
    let names = ["reference", "order_id", "order", "semel"].map(|name| format!("/metadata/{name}"));
    Order {
        path: path.to_owned(),
        amount: asked.number("/amount"),
        currency: asked.value("/currency"),
        reference: first_text(&asked.body, &names.each_ref().map(String::as_str)),
        metadata: asked.object("/metadata"),
        key: asked.header("idempotency-key").map(str::to_owned),
        fields: asked.fields(&ECHOED),
        fails: asked.in_body("/payment_method").is_some_and(|card| card.ends_with("Declined")),
        ..Order::default()
    }
}

/// A new intent; only one that is confirmed at once can be declined.
fn intent(asked: &Asked<'_>) -> Order {
    let order = order(asked, INTENTS);
    let fails = order.fails && is_confirmed(&order);
    Order { fails, ..order }
}

fn is_confirmed(order: &Order) -> bool {
    let confirm = order.fields.get("confirm");
    confirm.is_some_and(|its| its.as_bool().unwrap_or(its.as_str() == Some("true")))
}

fn list<'a>(asked: &'a Asked<'_>, prefix: &str, path: &'static str) -> Find<'a> {
    let seconds = |name: &str| asked.number_in_query(name).map(|s| s.saturating_mul(1000));
    Find {
        since_ms: seconds("/created/gte").or_else(|| seconds("/created/gt")).unwrap_or(0),
        until_ms: seconds("/created/lte").map_or(u64::MAX, |ms| ms.saturating_add(999)),
        field: asked.in_query("/customer").map(|customer| ("customer", customer)),
        after: asked.in_query("/starting_after").map(|id| number(prefix, id)),
        limit: page_size(asked, "/limit", PAGE, PAGE_MAX),
        ..Find::all(Sought::All, Some(path))
    }
}

/// Understands `metadata['name']:'value'`, in either kind of quotes, and nothing else.
fn search<'a>(asked: &'a Asked<'_>) -> Result<Call<'a>, Refusal> {
    let refused = Refusal::Malformed("this practice understands metadata['name']:'value' only");
    let query = asked.in_query("/query").ok_or(refused)?;
    let parts: Vec<&str> = query.split(['\'', '"']).collect();
    let ["metadata[", name, "]:", value, ""] = parts[..] else { return Err(refused) };
    let after = asked.in_query("/page").map(|id| number("pi_", id));
    let find = Find { metadata: Some((name, value)), after, ..list(asked, "pi_", INTENTS) };
    Ok(Call::List(find))
}

fn intent_shown(seen: &Seen) -> Value {
    let Seen { charge, status, .. } = seen;
    let order = &charge.order;
    let echoed = |name: &str| order.fields.get(name).cloned().unwrap_or_default();
    let manual = echoed("capture_method") == "manual";
    let received = if intent_status(seen) == "succeeded" { order.amount.clone() } else { json!(0) };
    let capturable =
        if intent_status(seen) == "requires_capture" { order.amount.clone() } else { json!(0) };
    let declined = *status == Status::Failed
        || seen.operations.iter().any(|operation| operation.status == Status::Failed);
    let error = json!({
        "type": "card_error",
        "code": "card_declined",
        "decline_code": "generic_decline",
        "message": "Your card was declined.",
    });
    json!({
        "id": Stripe.id(charge),
        "object": "payment_intent",
        "amount": order.amount,
        "amount_capturable": capturable,
        "amount_received": received,
        "capture_method": if manual { "manual" } else { "automatic" },
        "client_secret": format!("{}_secret_practice", Stripe.id(charge)),
        "confirmation_method": "automatic",
        "created": charge.created_ms / 1000,
        "currency": order.currency,
        "customer": echoed("customer"),
        "description": echoed("description"),
        "last_payment_error": if declined { error } else { Value::Null },
        "livemode": false,
        "metadata": order.metadata,
        "payment_method": if declined { Value::Null } else { echoed("payment_method") },
        "payment_method_types": ["card"],
        "status": intent_status(seen),
    })
}

fn intent_status(seen: &Seen) -> &'static str {
    let order = &seen.charge.order;
    let manual = order.fields.get("capture_method").is_some_and(|method| method == "manual");
    let confirmed = is_confirmed(order) || seen.all("confirm").next().is_some();
    let processing = seen.status == Status::Processing
        || seen.operations.iter().any(|operation| operation.status == Status::Processing);
    let declined = seen.status == Status::Failed
        || seen.all("confirm").last().is_some_and(|confirm| confirm.status == Status::Failed);
    if seen.has("cancel") {
        "canceled"
    } else if seen.has("capture") {
        "succeeded"
    } else if declined {
        "requires_payment_method"
    } else if processing {
        "processing"
    } else if confirmed && manual {
        "requires_capture"
    } else if confirmed {
        "succeeded"
    } else if order.fields.contains_key("payment_method") {
        "requires_confirmation"
    } else {
        "requires_payment_method"
    }
}

fn refund(seen: &Seen) -> Value {
    let Seen { charge, status, .. } = seen;
    let order = &charge.order;
    json!({
        "id": Stripe.id(charge),
        "object": "refund",
        "amount": order.amount,
        "created": charge.created_ms / 1000,
        "currency": order.currency,
        "metadata": order.metadata,
        "payment_intent": order.fields.get("payment_intent"),
        "reason": order.fields.get("reason"),
        "status": match status {
            Status::Processing => "pending",
            Status::Succeeded => "succeeded",
            Status::Failed => "failed",
        },
    })
}
