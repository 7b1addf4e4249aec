//! The part of the config file about what is not there, and about asking by sending again, as it is
//! written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::text::SpanText;

/// What it means that the operation is not there.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Absent {
    /// Statuses that say so.
    pub statuses: Vec<u16>,
    /// What follows.
    pub then: Then,
    /// `then: fail | reopen`: how long after the owner's connection was closed, at the earliest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<SpanText>,
    /// `then: fail | reopen`: after being absent how often in a row since then, at the earliest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// `then: fail`: what is recorded as the answer. Default: 424 and the problem `never-applied`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<NeverApplied>,
}

impl Default for Absent {
    fn default() -> Self {
        Self { statuses: vec![404], then: Then::Hold, after: None, times: None, reply: None }
    }
}

/// What follows from an operation that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// It stays in doubt, and is looked up again.
    Hold,
    /// It is settled as never applied.
    Fail,
    /// Its key is freed: the next request with it is sent.
    Reopen,
}

/// What is recorded as the answer of an operation that was never applied.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NeverApplied {
    /// Its status: from 400 to 499.
    pub status: u16,
    /// Its headers. Its content type is JSON unless it stands here.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
}

impl Default for NeverApplied {
    fn default() -> Self {
        Self { status: 424, headers: BTreeMap::new(), body: String::new() }
    }
}

/// Asking by sending the same request again under the same key, so that a provider that knows the
/// key answers as it did before. A provider that has forgotten it makes a second payment.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resend {
    /// How long after the first claim of its key at the latest: well within the time for which the
    /// provider keeps keys.
    pub within: SpanText,
    /// Statuses beside 2xx that are the operation's own outcome, like 402 for a declined card.
    #[serde(default)]
    pub conclusive: Vec<u16>,
}
