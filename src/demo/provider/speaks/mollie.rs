//! Mollie's API v2: payments, their captures and refunds.
//!
//! What the customer need not approve (`sequenceType: recurring`, or a `cardToken`) is paid at once,
//! and anything else stays open. `cardToken: tkn_declined` is declined.

use http::StatusCode;
use serde_json::{Value, json};

use super::time::rfc3339_with_offset;
use super::{Call, Language, Made, Page, Refusal, Said, first_text, name, number, page_size};
use crate::demo::provider::asked::Asked;
use crate::demo::provider::charge::{Charge, Order, Seen, Status};
use crate::demo::provider::ledger::{Find, Sought};

const PAYMENTS: &str = "/v2/payments";
const REFUND: &str = "refund";
const CAPTURE: &str = "capture";
const DECLINED: &str = "tkn_declined";
const DIGITS: usize = 10;
const PAGE: usize = 50;
const PAGE_MAX: usize = 250;
/// What of a request is shown again.
const ECHOED: [&str; 10] = [
    "captureMode",
    "customerId",
    "description",
    "locale",
    "mandateId",
    "metadata",
    "method",
    "redirectUrl",
    "sequenceType",
    "webhookUrl",
];

pub(super) struct Mollie;

impl Language for Mollie {
    fn call<'a>(&self, asked: &'a Asked<'_>) -> Result<Call<'a>, Refusal> {
        let payment = |id| number("tr_", id);
        Ok(match (asked.method(), asked.segments().as_slice()) {
            ("POST", ["v2", "payments"]) => Call::Commit(order(asked, PAYMENTS.to_owned())),
            ("POST", ["v2", "payments", id, "captures" | "refunds"]) => {
                let on = Some(payment(id));
                Call::Commit(Order { on, ..order(asked, asked.path().to_owned()) })
            }
            ("DELETE", ["v2", "payments", id]) => {
                let order = order(asked, format!("{PAYMENTS}/{id}/cancel"));
                Call::Commit(Order { on: Some(payment(id)), ..order })
            }
            ("GET", ["v2", "payments"]) => Call::List(list(asked, Sought::All, "tr_")),
            ("GET", ["v2", "payments", id]) => {
                Call::One(Find::one(Sought::Number(payment(id)), Some(PAYMENTS)))
            }
            ("GET", ["v2", "payments", id, "captures" | "refunds"]) => {
                let prefix = prefix_of(asked.last_segment());
                Call::List(list(asked, Sought::On(payment(id)), prefix))
            }
            ("GET", ["v2", "payments", _, kind @ ("captures" | "refunds"), id]) => {
                let collection = asked.path().rsplit_once('/').map(|(collection, _)| collection);
                Call::One(Find::one(Sought::Number(number(prefix_of(kind), id)), collection))
            }
            _ => return Err(Refusal::NoEndpoint),
        })
    }

    fn made(&self, made: &Made) -> Said {
        let is_cancel = made.seen.charge.object == "cancel";
        let (status, seen) = match is_cancel {
            true => (StatusCode::OK, made.subject()),
            false => (StatusCode::CREATED, &made.seen),
        };
        Said::new(status, &self.one(seen)).replayed_if(made.replayed)
    }

    fn one(&self, seen: &Seen) -> Value {
        let Seen { charge, .. } = seen;
        let order = &charge.order;
        let resource = match charge.object.as_str() {
            REFUND => "refund",
            CAPTURE => "capture",
            _ => "payment",
        };
        let mut shown = json!({
            "resource": resource,
            "id": self.id(charge),
            "mode": "test",
            "createdAt": rfc3339_with_offset(charge.created_ms),
            "amount": {"value": order.amount, "currency": order.currency},
            "status": status(seen),
            "_links": {"self": link(&format!("{}/{}", order.path, self.id(charge)))},
        });
        match order.on {
            Some(number) => shown["paymentId"] = json!(name("tr_", DIGITS, number)),
            None => {
                shown["profileId"] = json!("pfl_practice");
                shown["sequenceType"] = json!("oneoff");
                shown["_links"]["checkout"] = link("/checkout");
                // Mollie's generated SDKs take no payment without it.
                shown["_links"]["dashboard"] = link("/dashboard");
            }
        }
        for (name, value) in &order.fields {
            shown[name] = value.clone();
        }
        shown
    }

    fn list(&self, page: &Page<'_>) -> Value {
        let items = page.items(self);
        let kind = page.asked.path().rsplit('/').next().unwrap_or_default();
        // The cursor names the first object of a page; whether there is one of that very number
        // does not matter.
        let next = page.cursor().map(|last| {
            let beyond = match page.find.oldest_first {
                true => last.number().saturating_add(1),
                false => last.number().saturating_sub(1),
            };
            let from = name(prefix_of(kind), DIGITS, beyond);
            link(&format!("{}?from={from}&limit={}", page.asked.path(), page.find.limit))
        });
        json!({
            "count": items.len(),
            "_embedded": {kind: items},
            "_links": {"self": link(page.asked.path()), "previous": null, "next": next},
        })
    }

    fn refused(&self, why: &Refusal) -> Said {
        let (status, detail) = match why {
            Refusal::Status(status) => (*status, "It was refused, or it went wrong."),
            Refusal::NotFound => (StatusCode::NOT_FOUND, "No payment exists with this token."),
            Refusal::NoEndpoint => (StatusCode::NOT_FOUND, "No such endpoint."),
            Refusal::Malformed(why) => (StatusCode::BAD_REQUEST, *why),
            Refusal::InProgress => (StatusCode::CONFLICT, "The same key is in progress."),
            Refusal::KeyReused => {
                (StatusCode::BAD_REQUEST, "The key came before with other parameters.")
            }
        };
        let title = status.canonical_reason().unwrap_or("Refused");
        let links = json!({"documentation": link("/errors")});
        let code = status.as_u16();
        let error = json!({"status": code, "title": title, "detail": detail, "_links": links});
        Said::new(status, &error)
    }

    fn content_type(&self) -> &'static str {
        "application/hal+json"
    }

    fn id(&self, charge: &Charge) -> String {
        name(prefix_of(&charge.object), DIGITS, charge.number())
    }
}

/// How the names begin of the objects of a kind, or of a collection.
fn prefix_of(kind: &str) -> &'static str {
    match kind.trim_end_matches('s') {
        REFUND => "re_",
        CAPTURE => "cpt_",
        _ => "tr_",
    }
}

fn order(asked: &Asked<'_>, path: String) -> Order {
    let names = ["reference", "order_id", "order", "semel"].map(|name| format!("/metadata/{name}"));
    let reference = first_text(&asked.body, &names.each_ref().map(String::as_str));
    let token = asked.in_body("/cardToken");
    let mut fields = asked.fields(&ECHOED);
    if token.is_some() {
        fields.insert("method".to_owned(), json!("creditcard"));
    }
    Order {
        path,
        amount: asked.value("/amount/value"),
        currency: asked.value("/amount/currency"),
        reference: reference.or_else(|| asked.in_body("/description").map(str::to_owned)),
        metadata: asked.object("/metadata"),
        key: asked.header("idempotency-key").map(str::to_owned),
        fields,
        fails: token == Some(DECLINED),
        ..Order::default()
    }
}

/// The cursor names the first object of the page.
fn list<'a>(asked: &'a Asked<'_>, sought: Sought<'a>, prefix: &str) -> Find<'a> {
    let oldest_first = asked.in_query("/sort") == Some("asc");
    let from = asked.in_query("/from").map(|id| number(prefix, id));
    Find {
        after: from.map(|n| if oldest_first { n.saturating_sub(1) } else { n.saturating_add(1) }),
        limit: page_size(asked, "/limit", PAGE, PAGE_MAX),
        oldest_first,
        ..Find::all(sought, Some(asked.path()))
    }
}

fn status(seen: &Seen) -> &'static str {
    let fields = &seen.charge.order.fields;
    let says = |name: &str, value: &str| fields.get(name).is_some_and(|its| its == value);
    match (seen.charge.object.as_str(), seen.status) {
        (CAPTURE, Status::Succeeded) => "succeeded",
        (REFUND, Status::Succeeded) => "refunded",
        (_, Status::Failed) => "failed",
        (_, Status::Processing) => "pending",
        (_, Status::Succeeded) if seen.has("cancel") => "canceled",
        (_, Status::Succeeded) if seen.has(CAPTURE) => "paid",
        (_, Status::Succeeded)
            if !says("sequenceType", "recurring") && !says("method", "creditcard") =>
        {
            "open"
        }
        (_, Status::Succeeded) if says("captureMode", "manual") => "authorized",
        (_, Status::Succeeded) => "paid",
    }
}

fn link(path: &str) -> Value {
    json!({"href": format!("https://practice.example{path}"), "type": "application/hal+json"})
}
