//! The languages that the provider speaks: its own, and those of payment APIs that exist.
//!
//! A language reads requests into what the ledger understands ([`Call`]) and writes what the
//! ledger knows as that API would ([`Said`]). Pure: must not know the ledger, sockets or time.

use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use super::asked::Asked;
use super::charge::{Charge, Order, Seen};
use super::ledger::{Find, Found};

mod adyen;
mod checkout;
mod mollie;
mod own;
mod paypal;
mod razorpay;
mod square;
mod stripe;
mod time;

/// How many objects a list may show.
const PAGE_MAX: usize = 250;

/// Whose API the provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Speaks {
    /// Its own: see `--help`.
    #[default]
    Practice,
    /// Stripe v1: payment intents and refunds.
    Stripe,
    /// Adyen Checkout: payments, captures, refunds, cancels. No look-ups, as there.
    Adyen,
    /// PayPal: orders v2; captures, authorizations and refunds.
    Paypal,
    /// Square: payments and refunds.
    Square,
    /// Checkout.com: payments, captures, refunds, voids.
    Checkout,
    /// Mollie v2: payments, captures and refunds.
    Mollie,
    /// Razorpay: orders, payments and refunds.
    Razorpay,
}

impl Speaks {
    pub(super) fn language(self) -> &'static dyn Language {
        match self {
            Self::Practice => &own::Own,
            Self::Stripe => &stripe::Stripe,
            Self::Adyen => &adyen::Adyen,
            Self::Paypal => &paypal::Paypal,
            Self::Square => &square::Square,
            Self::Checkout => &checkout::Checkout,
            Self::Mollie => &mollie::Mollie,
            Self::Razorpay => &razorpay::Razorpay,
        }
    }
}

/// How one API is spoken.
pub(super) trait Language: Send + Sync {
    /// What a request asks for.
    fn call<'a>(&self, asked: &'a Asked<'_>) -> Result<Call<'a>, Refusal>;

    /// The answer to what was just made.
    fn made(&self, made: &Made) -> Said;

    /// One object, to somebody who asked for it.
    fn one(&self, seen: &Seen) -> Value;

    /// A list, to somebody who asked for it.
    fn list(&self, page: &Page<'_>) -> Value;

    /// The answer to somebody who gets nothing.
    fn refused(&self, why: &Refusal) -> Said;

    /// What its answers say they are.
    fn content_type(&self) -> &'static str {
        "application/json"
    }

    /// The public name of a charge.
    fn id(&self, charge: &Charge) -> String;
}

/// What a request asks for.
pub(super) enum Call<'a> {
    /// That something takes effect.
    Commit(Order),
    /// One object.
    One(Find<'a>),
    /// Some objects.
    List(Find<'a>),
    /// What needs no ledger, such as an access token.
    Aside(Said),
}

/// Why a request gets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It went wrong as it was asked to, or the ledger did.
    Status(StatusCode),
    /// There is no such object.
    NotFound,
    /// There is no such endpoint.
    NoEndpoint,
    /// It makes no sense.
    Malformed(&'static str),
    /// The same key is under way.
    InProgress,
    /// The key came before, with something else.
    KeyReused,
}

/// What was just made.
pub(super) struct Made {
    pub(super) seen: Seen,
    /// What it was done to, as it stands now.
    pub(super) parent: Option<Seen>,
    /// It was made before, for the same key.
    pub(super) replayed: bool,
}

impl Made {
    /// What an API shows that answers an operation with the object it was done to.
    pub(super) fn subject(&self) -> &Seen {
        self.parent.as_ref().unwrap_or(&self.seen)
    }
}

/// A page of a list.
pub(super) struct Page<'a> {
    pub(super) found: &'a Found,
    pub(super) find: &'a Find<'a>,
    /// Where the request came in, to link back to.
    pub(super) asked: &'a Asked<'a>,
}

impl Page<'_> {
    /// What is on it, as the language shows one.
    pub(super) fn items(&self, language: &dyn Language) -> Vec<Value> {
        self.found.seen.iter().map(|seen| language.one(seen)).collect()
    }

    /// The last one on it, if more follow.
    pub(super) fn cursor(&self) -> Option<&Charge> {
        self.found.seen.last().filter(|_| self.found.more).map(|seen| &seen.charge)
    }
}

/// An answer before it is put on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

impl Said {
    pub(super) fn new(status: StatusCode, body: &impl Serialize) -> Self {
        // Only maps with names that are no strings cannot be written, and there are none.
        Self { status, headers: Vec::new(), body: serde_json::to_vec(body).unwrap_or_default() }
    }

    pub(super) fn ok(body: &impl Serialize) -> Self {
        Self::new(StatusCode::OK, body)
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Marks what a key that came before gets, as several APIs do.
    fn replayed_if(self, replayed: bool) -> Self {
        if replayed { self.with("Idempotent-Replayed", "true") } else { self }
    }
}

/// A public name: a prefix, and the charge's number with zeroes before it.
fn name(prefix: &str, width: usize, number: usize) -> String {
    format!("{prefix}{number:0width$}")
}

/// The number in a public name; 0, which no charge has, if it is none of that kind.
fn number(prefix: &str, id: &str) -> usize {
    id.strip_prefix(prefix).and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

/// How many objects a page shows, between 1 and a most.
fn page_size(asked: &Asked<'_>, pointer: &str, default: usize, max: usize) -> usize {
    match asked.number_in_query(pointer).map(usize::try_from) {
        Some(Ok(size)) => size.clamp(1, max.min(PAGE_MAX)),
        Some(Err(_)) => max,
        None => default,
    }
}

/// The first of these fields that is a text or a number.
fn first_text(body: &Value, pointers: &[&str]) -> Option<String> {
    pointers.iter().filter_map(|pointer| body.pointer(pointer)).find_map(|value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    })
}

/// Adds up amounts that are numbers.
fn sum<'a>(amounts: impl Iterator<Item = &'a Value>) -> i64 {
    amounts.filter_map(Value::as_i64).sum()
}

/// `{"object": "list"}`, as Stripe and the provider's own API write it.
fn object_list(data: &[Value], more: bool) -> Value {
    json!({"object": "list", "data": data, "has_more": more})
}
