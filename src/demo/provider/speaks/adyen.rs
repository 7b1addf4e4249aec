//! Adyen's Checkout API: payments, captures, refunds and cancels. It has no look-ups.
//!
//! `paymentMethod.holderName: DECLINED` is refused.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Call, Language, Made, Page, Refusal, Said, name, number};
use crate::demo::provider::asked::Asked;
use crate::demo::provider::charge::{Charge, Order, Seen, Status};

const PAYMENTS: &str = "/payments";
/// What a payment is called in the ledger.
const PAYMENT: &str = "payment";
const DECLINED: &str = "DECLINED";
/// With its digits the sixteen characters of a PSP reference.
const PREFIX: &str = "PRACTICE";
const DIGITS: usize = 8;
/// The code for a key that is under way.
const IN_PROGRESS: &str = "704";

pub(super) struct Adyen;

impl Language for Adyen {
    fn call<'a>(&self, asked: &'a Asked<'_>) -> Result<Call<'a>, Refusal> {
        let segments = asked.segments();
        // Before it stand, or not, `checkout` and a version.
        let start = segments.iter().position(|segment| segment.starts_with("payment"));
        Ok(match (asked.method(), &segments[start.unwrap_or_default()..]) {
            ("POST", ["payments"]) => Call::Commit(order(asked, PAYMENTS.to_owned())),
            (
                "POST",
                ["payments", id, kind @ ("captures" | "refunds" | "cancels" | "reversals")],
            ) => {
                let on = Some(number(PREFIX, id));
                Call::Commit(Order { on, ..order(asked, format!("{PAYMENTS}/{id}/{kind}")) })
            }
            ("POST", ["paymentMethods"]) => {
                let card = json!({"name": "Cards", "type": "scheme", "brands": ["visa", "mc"]});
                Call::Aside(Said::ok(&json!({"paymentMethods": [card]})))
            }
            _ => return Err(Refusal::NoEndpoint),
        })
    }

    fn made(&self, made: &Made) -> Said {
        let is_payment = made.seen.charge.object == PAYMENT;
        let status = if is_payment { StatusCode::OK } else { StatusCode::CREATED };
        let said = Said::new(status, &self.one(&made.seen));
        match &made.seen.charge.order.key {
            Some(key) => said.with("Idempotency-Key", key),
            None => said,
        }
    }

    fn one(&self, seen: &Seen) -> Value {
        let Seen { charge, status, .. } = seen;
        let order = &charge.order;
        let amount = json!({"currency": order.currency, "value": order.amount});
        if charge.object == PAYMENT {
            let mut shown = json!({
                "pspReference": self.id(charge),
                "resultCode": match status {
                    Status::Processing => "Received",
                    Status::Succeeded => "Authorised",
                    Status::Failed => "Refused",
                },
                "amount": amount,
                "merchantReference": order.reference,
            });
            if *status == Status::Failed {
                shown["refusalReason"] = json!("Refused");
                shown["refusalReasonCode"] = json!("2");
            }
            return shown;
        }
        json!({
            "merchantAccount": order.fields.get("merchantAccount"),
            "paymentPspReference": order.on.map(|on| name(PREFIX, DIGITS, on)),
            "pspReference": self.id(charge),
            "reference": order.reference,
            "status": "received",
            "amount": amount,
        })
    }

    fn list(&self, page: &Page<'_>) -> Value {
        json!(page.items(self))
    }

    fn refused(&self, why: &Refusal) -> Said {
        let (status, code, kind, message) = match why {
            Refusal::Status(StatusCode::UNAUTHORIZED) => {
                (StatusCode::UNAUTHORIZED, "000", "security", "HTTP Status Response - Unauthorized")
            }
            Refusal::Status(status) if status.is_server_error() => {
                (*status, "905", "internal", "An internal error occurred.")
            }
            Refusal::Status(status) => (*status, "000", "validation", "The request was refused."),
            Refusal::NotFound => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "167",
                "validation",
                "Original pspReference required for this operation",
            ),
            Refusal::NoEndpoint => {
                (StatusCode::NOT_FOUND, "000", "validation", "No such endpoint.")
            }
            Refusal::Malformed(why) => (StatusCode::BAD_REQUEST, "702", "validation", *why),
            Refusal::InProgress => (
                StatusCode::UNPROCESSABLE_ENTITY,
                IN_PROGRESS,
                "validation",
                "request already processed or in progress",
            ),
            Refusal::KeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "000",
                "validation",
                "The key came before with another request.",
            ),
        };
        let number = status.as_u16();
        let error = json!({
            "status": number, "errorCode": code, "message": message, "errorType": kind,
        });
        let said = Said::new(status, &error);
        if code == IN_PROGRESS { said.with("transient-error", "true") } else { said }
    }

    fn id(&self, charge: &Charge) -> String {
        name(PREFIX, DIGITS, charge.number())
    }
}

fn order(asked: &Asked<'_>, path: String) -> Order {
    Order {
        path,
        amount: asked.value("/amount/value"),
        currency: asked.value("/amount/currency"),
        reference: asked.in_body("/reference").map(str::to_owned),
        metadata: asked.object("/metadata"),
        key: asked.header("idempotency-key").map(str::to_owned),
        fields: asked.fields(&["merchantAccount"]),
        fails: asked.in_body("/paymentMethod/holderName") == Some(DECLINED),
        ..Order::default()
    }
}
