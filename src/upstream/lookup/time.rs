//! Times in a provider's answers: when an operation was made, and what the provider's clock shows.
//!
//! Dates are compared here and nowhere else in the code, because a provider has no other way to say
//! what is older than the claim. They are believed only as far as its clock agrees with ours.

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, header};
use serde_json::Value;
use serde_json_path::JsonPath;

/// Where an item says when it was made; those made before the claim are other operations.
#[derive(Debug)]
pub(super) struct Created {
    pub(super) path: JsonPath,
    pub(super) unit: TimeUnit,
    pub(super) skew: Duration,
}

/// How a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds since 1970.
    Unix,
    /// `2026-03-01T12:00:00Z`, or with an offset.
    Rfc3339,
}

/// What a provider's answers show of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// Every answer so far had a `Date` within the skew of ours.
    Agrees,
    /// One had none, or none that can be read.
    Unsaid,
    /// One was further off.
    Differs,
}

impl Created {
    /// When the item was made, in seconds since 1970; `None` if it has nothing at the path.
    ///
    /// # Errors
    /// What is there is no one time.
    pub(super) fn of(&self, item: &Value) -> Result<Option<i128>, String> {
        let found = self.path.query(item);
        let value = match found.all().as_slice() {
            [] | [Value::Null] => return Ok(None),
            [value] => self.unit.seconds(value),
            [_, _, ..] => None,
        };
        value.map(Some).ok_or_else(unreadable)
    }

    /// The earliest time that is not older than a claim at this time.
    pub(super) fn since(&self, sent_at_unix: u64) -> i128 {
        i128::from(sent_at_unix.saturating_sub(self.skew.as_secs()))
    }

    /// Whether the items come newest first and the last one is older than this. What cannot be
    /// read, or is in another order, says nothing.
    pub(super) fn ends_before(&self, items: &[&Value], since: i128) -> bool {
        let times: Option<Vec<_>> = items.iter().map(|item| self.of(item).ok()?).collect();
        times.is_some_and(|times| {
            times.is_sorted_by(|newer, older| newer >= older)
                && times.last().is_some_and(|&last| last < since)
        })
    }
}

pub(super) fn unreadable() -> String {
    "the time of creation cannot be read".to_owned()
}

impl Clock {
    /// What is known when one more answer has come.
    pub(super) fn and(self, headers: &HeaderMap, now_unix: u64, skew: Duration) -> Self {
        let date = headers.get(header::DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let date = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok());
        match (self, date) {
            (Self::Differs, _) => Self::Differs,
            (Self::Agrees | Self::Unsaid, None) => Self::Unsaid,
            (Self::Agrees | Self::Unsaid, Some(date))
                if date.as_secs().abs_diff(now_unix) > skew.as_secs() =>
            {
                Self::Differs
            }
            (clock @ (Self::Agrees | Self::Unsaid), Some(_)) => clock,
        }
    }
}

impl TimeUnit {
    /// Whole seconds since 1970, rounded down.
    fn seconds(self, value: &Value) -> Option<i128> {
        match self {
            Self::Unix => {
                let text = match value {
                    Value::Number(number) => number.to_string(),
                    Value::String(text) => text.clone(),
                    Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                        return None;
                    }
                };
                let whole = text.split_once('.').map_or(text.as_str(), |(whole, _)| whole);
                whole.parse().ok()
            }
            Self::Rfc3339 => rfc3339(value.as_str()?),
        }
    }
}

fn rfc3339(text: &str) -> Option<i128> {
    let (local, offset) = match text.strip_suffix(['Z', 'z']) {
        Some(local) => (local, 0),
        None => {
            let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
            let sign = match offset.as_bytes()[0] {
                b'+' => 1,
                b'-' => -1,
                _ => return None,
            };
            let (hours, minutes) = offset[1..].split_once(':')?;
            let (hours, minutes): (u8, u8) = (hours.parse().ok()?, minutes.parse().ok()?);
            (local, sign * (i128::from(hours) * 3600 + i128::from(minutes) * 60))
        }
    };
    let time = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let seconds = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(i128::from(seconds) - offset)
}
