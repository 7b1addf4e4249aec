//! PayPal's APIs: orders v2, and captures, authorizations and refunds of payments v2.
//!
//! The payer has always approved. `PayPal-Mock-Response` with `INSTRUMENT_DECLINED` is declined.

use http::StatusCode;
use serde_json::{Value, json};

use super::time::rfc3339;
use super::{Call, Language, Made, Page, Refusal, Said, first_text, name, number};
use crate::demo::provider::asked::Asked;
use crate::demo::provider::charge::{Charge, Order, Seen, Status};
use crate::demo::provider::ledger::{Find, Sought};

const ORDERS: &str = "/v2/checkout/orders";
const CAPTURES: &str = "/v2/payments/captures";
const AUTHORIZATIONS: &str = "/v2/payments/authorizations";
const REFUNDS: &str = "/v2/payments/refunds";
const VOIDS: &str = "/v2/payments/voids";
const DECLINED: &str = "INSTRUMENT_DECLINED";
/// With its digits the seventeen characters of an id.
const PREFIX: &str = "PRACTICE";
const DIGITS: usize = 9;
/// What of a request is shown again.
const ECHOED: [&str; 6] =
    ["intent", "purchase_units", "custom_id", "invoice_id", "note_to_payer", "final_capture"];

pub(super) struct Paypal;

impl Language for Paypal {
    fn call<'a>(&self, asked: &'a Asked<'_>) -> Result<Call<'a>, Refusal> {
        let done = |id, path| Ok(Call::Commit(Order { on: Some(at(id)), ..order(asked, path) }));
        let one = |id, path| Ok(Call::One(Find::one(Sought::Number(at(id)), Some(path))));
        match (asked.method(), asked.segments().as_slice()) {
            ("POST", ["v1", "oauth2", "token"]) => Ok(Call::Aside(Said::ok(&json!({
                "scope": "https://uri.paypal.com/services/payments/payment",
                "access_token": "practice", "token_type": "Bearer", "app_id": "APP-PRACTICE",
                "expires_in": 32400, "nonce": "practice",
            })))),
            ("POST", ["v2", "checkout", "orders"]) => Ok(Call::Commit(order(asked, ORDERS))),
            ("POST", ["v2", "checkout", "orders", id, "capture"]) => done(id, CAPTURES),
            ("POST", ["v2", "checkout", "orders", id, "authorize"]) => done(id, AUTHORIZATIONS),
            ("POST", ["v2", "payments", "authorizations", id, "capture"]) => done(id, CAPTURES),
            ("POST", ["v2", "payments", "authorizations", id, "void"]) => done(id, VOIDS),
            ("POST", ["v2", "payments", "captures", id, "refund"]) => done(id, REFUNDS),
            ("GET", ["v2", "checkout", "orders", id]) => one(id, ORDERS),
            ("GET", ["v2", "payments", "captures", id]) => one(id, CAPTURES),
            ("GET", ["v2", "payments", "authorizations", id]) => one(id, AUTHORIZATIONS),
            ("GET", ["v2", "payments", "refunds", id]) => one(id, REFUNDS),
            _ => Err(Refusal::NoEndpoint),
        }
    }

    fn made(&self, made: &Made) -> Said {
        let charge = &made.seen.charge;
        if made.seen.status == Status::Failed {
            return declined();
        }
        if charge.order.path == VOIDS {
            return Said::new(StatusCode::NO_CONTENT, &json!({}));
        }
        let of_order =
            made.parent.as_ref().is_some_and(|parent| parent.charge.order.path == ORDERS);
        let shown = if of_order { made.subject() } else { &made.seen };
        let status = if made.replayed { StatusCode::OK } else { StatusCode::CREATED };
        Said::new(status, &self.one(shown))
    }

    fn one(&self, seen: &Seen) -> Value {
        if seen.charge.order.path == ORDERS { order_shown(seen) } else { payment(seen) }
    }

    fn list(&self, page: &Page<'_>) -> Value {
        json!({"items": page.items(self)})
    }

    fn refused(&self, why: &Refusal) -> Said {
        let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
        let (status, issue) = match why {
            Refusal::Status(StatusCode::PAYMENT_REQUIRED) => {
                (StatusCode::PAYMENT_REQUIRED, DECLINED)
            }
            Refusal::Status(StatusCode::TOO_MANY_REQUESTS) => {
                (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT_REACHED")
            }
            Refusal::Status(status) => (*status, "PRACTICE"),
            Refusal::NotFound => (StatusCode::NOT_FOUND, "INVALID_RESOURCE_ID"),
            Refusal::NoEndpoint => (StatusCode::NOT_FOUND, "NO_SUCH_ENDPOINT"),
            Refusal::Malformed(_) => (StatusCode::BAD_REQUEST, "MALFORMED_REQUEST_JSON"),
            Refusal::InProgress => (unprocessable, "PREVIOUS_REQUEST_IN_PROGRESS"),
            Refusal::KeyReused => (unprocessable, "DUPLICATE_REQUEST_ID"),
        };
        error(status, issue)
    }

    fn id(&self, charge: &Charge) -> String {
        name(PREFIX, DIGITS, charge.number())
    }
}

fn at(id: &str) -> usize {
    number(PREFIX, id)
}

fn order(asked: &Asked<'_>, path: &str) -> Order {
    let unit = ["custom_id", "invoice_id", "reference_id"];
    let names = unit.map(|name| format!("/purchase_units/0/{name}"));
    let reference = first_text(&asked.body, &names.each_ref().map(String::as_str));
    let amount = |name: &str| {
        let of_order = asked.body.pointer(&format!("/purchase_units/0/amount/{name}"));
        of_order.cloned().unwrap_or_else(|| asked.value(&format!("/amount/{name}")))
    };
    let mut fields = asked.fields(&ECHOED);
    // What it is paid with is not kept, only that it is.
    if ["card", "token"].iter().any(|kind| asked.body["payment_source"].get(kind).is_some()) {
        fields.insert("paid_at_once".to_owned(), json!(true));
    }
    Order {
        path: path.to_owned(),
        amount: amount("value"),
        currency: amount("currency_code"),
        reference: reference.or_else(|| first_text(&asked.body, &["/custom_id", "/invoice_id"])),
        key: asked.header("paypal-request-id").map(str::to_owned),
        fields,
        fails: asked.header("paypal-mock-response").is_some_and(|mock| mock.contains(DECLINED)),
        ..Order::default()
    }
}

fn order_shown(seen: &Seen) -> Value {
    let Seen { charge, status, .. } = seen;
    let fields = &charge.order.fields;
    let at_once = fields.contains_key("paid_at_once");
    let captures = seen.all("capture").map(payment);
    let mut captures: Vec<Value> = captures.collect();
    if at_once {
        captures.insert(0, payment(seen));
    }
    let authorizations: Vec<Value> = seen.all("authorization").map(payment).collect();
    let mut units = fields.get("purchase_units").cloned().unwrap_or_else(|| json!([{}]));
    if !(captures.is_empty() && authorizations.is_empty()) && units.get(0).is_some() {
        let payments = json!({"captures": captures, "authorizations": authorizations});
        units[0]["payments"] = payments;
    }
    let done = at_once || seen.has("capture") || seen.has("authorization");
    let id = Paypal.id(charge);
    json!({
        "id": id,
        "intent": fields.get("intent"),
        "status": match status {
            Status::Succeeded if done => "COMPLETED",
            Status::Succeeded | Status::Processing | Status::Failed => "CREATED",
        },
        "purchase_units": units,
        "create_time": rfc3339(charge.created_ms),
        "links": [link(&format!("{ORDERS}/{id}"), "self")],
    })
}

/// A capture, an authorization, or a refund.
fn payment(seen: &Seen) -> Value {
    let Seen { charge, status, .. } = seen;
    let order = &charge.order;
    let refunded = seen.has("refund");
    let status = match (order.path.as_str(), status) {
        (_, Status::Processing) => "PENDING",
        (AUTHORIZATIONS, Status::Failed) => "DENIED",
        (REFUNDS, Status::Failed) => "FAILED",
        (_, Status::Failed) => "DECLINED",
        (AUTHORIZATIONS, Status::Succeeded) if seen.has("void") => "VOIDED",
        (AUTHORIZATIONS, Status::Succeeded) if seen.has("capture") => "CAPTURED",
        (AUTHORIZATIONS, Status::Succeeded) => "CREATED",
        (CAPTURES, Status::Succeeded) if refunded => "REFUNDED",
        (_, Status::Succeeded) => "COMPLETED",
    };
    let collection = if order.path == ORDERS { CAPTURES } else { &order.path };
    let id = Paypal.id(charge);
    let mut shown = json!({
        "id": id,
        "status": status,
        "amount": {"currency_code": order.currency, "value": order.amount},
        "create_time": rfc3339(charge.created_ms),
        "update_time": rfc3339(charge.created_ms),
        "links": [link(&format!("{collection}/{id}"), "self")],
    });
    for name in ["custom_id", "invoice_id", "final_capture"] {
        if let Some(value) = order.fields.get(name) {
            shown[name] = value.clone();
        }
    }
    shown
}

fn declined() -> Said {
    error(StatusCode::UNPROCESSABLE_ENTITY, DECLINED)
}

fn error(status: StatusCode, issue: &str) -> Said {
    let name = match status {
        StatusCode::NOT_FOUND => "RESOURCE_NOT_FOUND",
        StatusCode::BAD_REQUEST => "INVALID_REQUEST",
        StatusCode::UNAUTHORIZED => "AUTHENTICATION_FAILURE",
        StatusCode::TOO_MANY_REQUESTS => "RATE_LIMIT_REACHED",
        status if status.is_server_error() => "INTERNAL_SERVER_ERROR",
        _ => "UNPROCESSABLE_ENTITY",
    };
    let details = json!([{"issue": issue, "description": "It went wrong as it was asked to."}]);
    let message = "The requested action could not be performed.";
    Said::new(
        status,
        &json!({"name": name, "message": message, "debug_id": "practice", "details": details}),
    )
}

fn link(path: &str, rel: &str) -> Value {
    json!({"href": format!("https://practice.example{path}"), "rel": rel, "method": "GET"})
}
