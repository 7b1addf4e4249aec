//! Whether what a caller is told is true, and what everybody else is told.

use bytes::Bytes;
use http::Response;
use semel::protocol::id::OperationId;
use semel::protocol::record::SettledBy;
use serde_json::Value;
use tokio::time::Instant;

use crate::absence::NEVER;
use crate::book::{Book, Fate, Send, TryId, short};
use crate::provider::Provider;

/// An answer, as a caller can read it.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) answer: String,
    pub(crate) status: u16,
    operation: Option<OperationId>,
    body: Value,
    whole: bool,
}

impl Told {
    pub(crate) fn read(response: &Response<Bytes>, whole: bool) -> Self {
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        Self {
            answer: text("semel-answer").unwrap_or("none").to_owned(),
            status: response.status().as_u16(),
            operation: text("semel-operation").and_then(|text| text.parse().ok()),
            body: serde_json::from_slice(response.body()).unwrap_or(Value::Null),
            whole,
        }
    }

    /// Whether it says the outcome for good.
    pub(crate) fn is_final(&self) -> bool {
        let names = ["fresh", "replayed", "followed", "looked-up", "unrecorded"];
        names.contains(&self.answer.as_str())
    }

    /// Whether it says nothing that ends the operation, so that its retry may come under another
    /// key.
    pub(crate) fn leaves_unanswered(&self) -> bool {
        ["unknown", "accepted"].contains(&self.answer.as_str())
    }

    pub(crate) fn is_declined(&self) -> bool {
        self.is_final() && self.status == 402
    }

    /// Whether a caller that trusts it may ask again with the same key.
    pub(crate) fn is_over(&self) -> bool {
        self.is_final()
            || self.slug().is_some_and(|slug| {
                ["reply-not-kept", "key-reused", "business-key-reused"].contains(&slug)
            })
    }

    fn payment(&self) -> Option<usize> {
        self.body["id"].as_str().and_then(|id| id.strip_prefix("pay_")?.parse().ok())
    }

    pub(crate) fn slug(&self) -> Option<&str> {
        self.body["type"].as_str().and_then(|uri| uri.rsplit(['/', '#']).next())
    }

    /// The operation that it is about, whatever its place in the answer.
    fn operation(&self) -> Option<OperationId> {
        self.operation
            .or_else(|| self.body["operation"].as_str().and_then(|text| text.parse().ok()))
    }
}

/// Holds an answer against what really happened.
pub(crate) fn judge(book: &Book, provider: &Provider, this_try: TryId, told: &Told) {
    let operation = told.operation();
    let about = operation.map(|operation| short(operation.key)).unwrap_or_default();
    let slug = told.slug().unwrap_or_default().to_owned();
    book.line(format!("try {this_try} is told {} {} {slug} {about}", told.status, told.answer));
    own(book, this_try, told);
    match told.answer.as_str() {
        "fresh" | "replayed" | "followed" | "looked-up" | "unrecorded" => {
            outcome(book, provider, this_try, told);
        }
        "released" => released(book, this_try, told),
        "accepted" => accepted(book, this_try, told),
        "refused" => refused(book, this_try, told),
        "unknown" => {}
        other => book.violation(format!("try {this_try} was answered {other:?}")),
    }
    match slug.as_str() {
        "reply-not-kept" => book.sometimes("told: reply not kept"),
        "key-reused" => book.sometimes("told: key reused"),
        "business-key-reused" => book.sometimes("told: business key reused"),
        "store-unavailable" => book.sometimes("told: store unavailable"),
        "overloaded" => book.sometimes("told: overloaded"),
        "draining" => book.sometimes("told: draining"),
        "operation-in-flight" => book.sometimes("told: in flight"),
        "outcome-unknown" => book.sometimes("told: outcome unknown"),
        "upstream-unreachable" => book.sometimes("told: upstream unreachable"),
        "" => {}
        other => book.violation(format!("try {this_try} was told {other}")),
    }
}

/// Nobody gets another caller's answer.
fn own(book: &Book, this_try: TryId, told: &Told) {
    let Some(order) = told.body["order"].as_str() else { return };
    let (own, amount) = {
        let pages = book.pages();
        (pages.tries[this_try].order.clone(), pages.tries[this_try].amount)
    };
    book.check(order == own && told.body["amount"].as_u64() == Some(amount), || {
        format!("try {this_try} for {own} got the answer of another: {}", told.body)
    });
}

fn outcome(book: &Book, provider: &Provider, this_try: TryId, told: &Told) {
    book.sometimes(match told.answer.as_str() {
        "fresh" => "told: fresh",
        "replayed" => "told: replayed",
        "followed" => "told: followed",
        "looked-up" => "told: looked up",
        _ => "told: unrecorded",
    });
    let Some(operation) = told.operation() else {
        return book.violation(format!("try {this_try} got an outcome of no operation"));
    };
    let payment = told.payment();
    let mut pages = book.pages();
    if pages.lost.contains(&operation.key) || pages.lost.contains(&pages.tries[this_try].key) {
        return;
    }
    let Some(claim) = pages.claims.get_mut(&operation.attempt) else {
        drop(pages);
        return book.violation(format!("try {this_try} got the outcome of an unknown claim"));
    };
    claim.told_unrecorded |= told.answer == "unrecorded";
    let sent = claim.send;
    let transient = sent.is_some_and(|send| pages.sends[send].fate.is_transient());
    let settles = !(matches!(told.status, 202 | 429 | 500) || transient && told.status == 409);
    if told.answer == "unrecorded" && !settles {
        // Too large to keep: handed through as it came, whatever it says.
        let send = sent.map(|send| pages.sends[send].clone());
        if told.whole && told.status == 202 {
            pages.tries[this_try].handed = Some((operation, Instant::now()));
        }
        drop(pages);
        return book.check(send.is_some_and(|send| send.answered == Some(told.status)), || {
            format!("try {this_try} was handed a {} that nobody sent", told.status)
        });
    }
    let said = (told.status, payment);
    let Some(claim) = pages.claims.get_mut(&operation.attempt) else { return };
    // Who is cut off in the middle of a streamed answer knows that it was.
    if told.whole {
        let before = *claim.told.get_or_insert(said);
        if before.0 != said.0 || before.1 != said.1 {
            drop(pages);
            return book.violation(format!("try {this_try} was told {said:?}, others {before:?}"));
        }
    }
    let (send, settled) = (claim.send, claim.settled);
    let by_operator = settled.is_some_and(|(by, ..)| by == SettledBy::Operator);
    if told.whole {
        pages.tries[this_try].answered = Some((operation, Instant::now()));
        let own = pages.tries[this_try].clone();
        let later_left = pages.tries.iter().any(|other| {
            let later = other.key == own.key && other.arrived > own.arrived;
            own.by_content && later && other.left.is_some() && !other.orphaned
        });
        if later_left {
            *pages
                .seen
                .entry("a later caller had left when an earlier one was answered")
                .or_default() += 1;
        }
    }
    let Some(send) = send.map(|send| pages.sends[send].clone()) else {
        drop(pages);
        return book
            .check(by_operator, || format!("try {this_try} got an outcome, nothing was sent"));
    };
    drop(pages);
    is_true(book, provider, this_try, told, &send, by_operator);
}

/// Holds an outcome against what the provider did.
fn is_true(
    book: &Book,
    provider: &Provider,
    this_try: TryId,
    told: &Told,
    send: &Send,
    by_operator: bool,
) {
    let payment = told.payment();
    let exists = send.payment.and_then(|index| provider.payment(index));
    let is_true = match told.status {
        201 => exists.is_some_and(|payment| payment.status == "succeeded"),
        202 => exists.is_some(),
        402 => exists.is_none_or(|payment| payment.status == "failed"),
        400 => send.fate == Fate::Rejected,
        409 => send.fate == Fate::Conflict,
        NEVER => exists.is_none(),
        _ => false,
    };
    let same = payment.is_none() || payment == send.payment;
    // An order that a paused process carries out late says what was true when it was given.
    let is_true = is_true || (by_operator && told.status == 402);
    book.check(is_true && same, || {
        format!("try {this_try} was told {} {}, but: {send:?}", told.status, told.body)
    });
}

fn released(book: &Book, this_try: TryId, told: &Told) {
    book.sometimes("told: released");
    let Some(operation) = told.operation() else {
        return book.violation(format!("try {this_try} got the release of no operation"));
    };
    let mut pages = book.pages();
    if pages.lost.contains(&operation.key) {
        return;
    }
    let Some(claim) = pages.claims.get_mut(&operation.attempt) else { return };
    if claim.is_waived {
        return;
    }
    claim.not_applied.get_or_insert("a caller was told that it was not applied");
    let send = claim.send.map(|send| pages.sends[send].clone());
    drop(pages);
    book.check(send.as_ref().is_none_or(|send| send.fate == Fate::Busy), || {
        format!("try {this_try} was told that nothing was applied, but: {send:?}")
    });
}

fn accepted(book: &Book, this_try: TryId, told: &Told) {
    book.sometimes("told: accepted");
    let Some(operation) = told.operation() else { return };
    let pages = book.pages();
    let Some(claim) = pages.claims.get(&operation.attempt) else { return };
    let send = claim.send.map(|send| pages.sends[send].clone());
    let lost = pages.lost.contains(&operation.key);
    drop(pages);
    book.check(lost || send.as_ref().is_some_and(|send| send.payment.is_some()), || {
        format!("try {this_try} was told that it is accepted, but: {send:?}")
    });
}

/// Who is told that this request was not sent can rely on it, for good.
fn refused(book: &Book, this_try: TryId, told: &Told) {
    if told.body["sent"] != "no" {
        return;
    }
    let mut pages = book.pages();
    pages.tries[this_try].told_unsent = true;
    let sent = pages.tries[this_try].send;
    drop(pages);
    book.check(sent.is_none(), || {
        format!("try {this_try} was told {:?}, but it was sent", told.slug())
    });
}
