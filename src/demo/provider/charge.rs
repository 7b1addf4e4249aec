//! What took effect: one charge, what was asked for, and where it stands.
//!
//! Must not know HTTP. Kept by `ledger`, shown by `speaks`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::modes::Settling;

/// What is asked to be committed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The collection that it belongs to; if nothing else is known, the path it was posted to.
    pub path: String,
    /// The amount as it was sent.
    pub amount: Value,
    /// The currency as it was sent.
    pub currency: Value,
    /// The caller's name for it.
    pub reference: Option<String>,
    /// Further fields of the caller's.
    pub metadata: Map<String, Value>,
    /// The idempotency key of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The number of the charge that it was done to: what a capture captures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) on: Option<usize>,
    /// What else was sent and is shown again.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(super) fields: Map<String, Value>,
    /// Whether it ends in failure, such as a declined card, and charges nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) fails: bool,
    /// How long it stays `processing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) processing_ms: Option<u64>,
    /// How many look-ups see it `processing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) processing_gets: Option<u32>,
    /// How many look-ups do not see it at all.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) absent: u32,
    /// How much older it says it is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) aged_ms: u64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// One payment, or other operation, that took effect, or was tried and failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Charge {
    /// Its name in the ledger, `payment_1`.
    pub id: String,
    /// The kind of operation: the last word of its path, in the singular.
    pub object: String,
    /// When it was committed, in milliseconds since 1970.
    pub created_ms: u64,
    /// What was asked for.
    #[serde(flatten)]
    pub order: Order,
}

/// Where a charge stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// Committed, not yet final.
    Processing,
    /// Final.
    Succeeded,
    /// Final: nothing was charged.
    Failed,
}

/// A charge as a look-up sees it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) charge: Charge,
    pub(super) status: Status,
    /// What was done to it since, oldest first.
    pub(super) operations: Vec<Self>,
}

impl Seen {
    /// The operations of one kind that were done to it, such as its captures.
    pub(super) fn all<'a>(&'a self, object: &'a str) -> impl Iterator<Item = &'a Self> {
        self.operations.iter().filter(move |operation| operation.charge.object == object)
    }

    /// Whether an operation of that kind was done to it and succeeded.
    pub(super) fn has(&self, object: &str) -> bool {
        self.all(object).any(|operation| operation.status == Status::Succeeded)
    }
}

impl Order {
    pub(super) fn settles(&mut self, settling: Option<Settling>) {
        match settling {
            Some(Settling::After(delay)) => self.processing_ms = Some(millis(delay)),
            Some(Settling::LookUps(gets)) => self.processing_gets = Some(gets),
            None => {}
        }
    }

    /// Whether two requests ask for the same, whatever went wrong with either.
    pub(super) fn asks_for_the_same_as(&self, other: &Self) -> bool {
        let asked = |order: &Self| Self {
            fails: false,
            processing_ms: None,
            processing_gets: None,
            absent: 0,
            aged_ms: 0,
            ..order.clone()
        };
        asked(self) == asked(other)
    }

    /// Takes from what it is done to the amount that it does not name itself.
    pub(super) fn inherit(&mut self, parent: &Self) {
        if self.amount.is_null() {
            self.amount = parent.amount.clone();
        }
        if self.currency.is_null() {
            self.currency = parent.currency.clone();
        }
    }

    const fn is_accepted_only(&self) -> bool {
        self.processing_ms.is_some() || self.processing_gets.is_some()
    }

    const fn last_status(&self) -> Status {
        if self.fails { Status::Failed } else { Status::Succeeded }
    }
}

impl Charge {
    pub(super) fn new(order: Order, index: usize) -> Self {
        let object = object(&order.path);
        let created_ms = now_ms().saturating_sub(order.aged_ms);
        Self { id: id_of(&object, index), object, created_ms, order }
    }

    /// Its place in the ledger, from 1.
    pub(super) fn number(&self) -> usize {
        number_in(&self.id).unwrap_or_default()
    }

    /// Where the charge stands when it has just been made.
    pub(super) const fn first_status(&self) -> Status {
        if self.order.is_accepted_only() { Status::Processing } else { self.order.last_status() }
    }

    /// Where it stands for a look-up that `seen` others came before.
    pub(super) fn status(&self, seen: u32, now_ms: u64) -> Status {
        let made_ms = self.created_ms + self.order.aged_ms;
        let by_time = self.order.processing_ms.is_none_or(|ms| made_ms + ms <= now_ms);
        let by_gets = self.order.processing_gets.is_none_or(|gets| seen >= gets);
        if by_time && by_gets { self.order.last_status() } else { Status::Processing }
    }
}

/// The name in the ledger of the charge at a place.
pub(super) fn id_of(object: &str, index: usize) -> String {
    format!("{object}_{}", index + 1)
}

/// The number in a name such as `payment_12`.
pub(super) fn number_in(id: &str) -> Option<usize> {
    id.rsplit_once('_')?.1.parse().ok()
}

/// `/v1/refunds` makes a `refund`.
pub(super) fn object(path: &str) -> String {
    const OBJECT_MAX: usize = 32;
    let last = path.rsplit('/').find(|segment| !segment.is_empty()).unwrap_or_default();
    let word: String =
        last.chars().filter(char::is_ascii_alphabetic).take(OBJECT_MAX).collect::<String>();
    match word.to_ascii_lowercase().trim_end_matches('s') {
        "" => "operation".to_owned(),
        singular => singular.to_owned(),
    }
}

#[expect(clippy::disallowed_methods, reason = "a payment API outside of semel, with its own clock")]
pub(super) fn now_ms() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_operation_is_read_off_the_path() {
        assert_eq!(object("/v1/payments"), "payment");
        assert_eq!(object("/v1/payments/payment_1/capture/"), "capture");
        assert_eq!(object("/"), "operation");
        assert_eq!(object("/\"\r\n"), "operation");
    }
}
