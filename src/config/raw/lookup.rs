//! The part of the config file about look-ups, as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Absent, Resend, SecretSource};
use crate::config::text::SpanText;

/// How the provider is asked what became of an operation.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LookUp {
    /// The question. May be missing where `resend` stands, or where the answer "accepted" says where
    /// to ask (`location`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<LookUpRequest>,
    /// Headers of the question with secrets, like Authorization.
    #[serde(default)]
    pub credentials: BTreeMap<String, SecretSource>,
    /// JSONPath (RFC 9535). If something is there, neither null nor empty, the question was not
    /// answered, whatever the status (GraphQL).
    #[serde(default)]
    pub errors: Option<String>,
    /// JSONPath (RFC 9535) of the operation in the answer. Default: the whole body.
    #[serde(default)]
    pub item: Option<String>,
    /// How a list goes on over pages. All are read before anything is believed.
    #[serde(default)]
    pub next: Option<NextPage>,
    /// A second question about what the first one found; its templates may use `item`.
    #[serde(default)]
    pub then: Option<ThenStep>,
    /// Operations that were accepted with a `Location` of the same origin are asked for there.
    #[serde(default)]
    pub location: Option<Location>,
    /// How the operation's state is read. Without it, that it exists settles it.
    #[serde(default)]
    pub state: Option<State>,
    /// How the time at which it was made is read. What is older than the claim does not count.
    #[serde(default)]
    pub created: Option<Created>,
    /// What is recorded as the answer.
    #[serde(default)]
    pub reply: Replies,
    /// What it means that the operation is not there.
    #[serde(default)]
    pub absent: Absent,
    /// Sends the same request again under the same key. Only for providers that answer it as the
    /// first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resend: Option<Resend>,
    /// How long one question may take.
    #[serde(default = "lookup_timeout")]
    pub timeout: SpanText,
}

impl LookUp {
    /// Whether there is somebody to ask, and not only a request to send again.
    pub const fn asks(&self) -> bool {
        self.request.is_some() || self.location.is_some()
    }
}

fn lookup_timeout() -> SpanText {
    SpanText::new("5s")
}

/// The question. Path, query, header values and body are templates.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LookUpRequest {
    /// Its method.
    #[serde(default)]
    pub method: LookUpMethod,
    /// Its path, like /v1/payments/{{ path.id }}.
    pub path: String,
    /// Its query parameters.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Its headers, like Accept.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The JSON document that a POST asks with. Each value in it becomes JSON.
    #[serde(default)]
    pub body: Option<String>,
}

/// The method of a question, which must change nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum LookUpMethod {
    /// GET.
    #[default]
    #[serde(rename = "GET")]
    Get,
    /// POST: a search, with a body.
    #[serde(rename = "POST")]
    Post,
}

/// How a list goes on over pages.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NextPage {
    /// The query parameter that names the next page.
    pub query: String,
    /// JSONPath of its value, in the page: a text or a number. Of a URL, only the parameter of
    /// that name is taken. Without a value the page is the last.
    pub from: String,
    /// JSONPath of whether there is a next page. Missing, null, false: the page is the last.
    #[serde(default, rename = "while")]
    pub while_: Option<String>,
    /// How many pages are read at most. A list that is longer settles nothing.
    #[serde(default = "pages")]
    pub pages: u32,
    /// The newest come first: reading ends at what is older than the claim. Needs `created`.
    #[serde(default)]
    pub newest_first: bool,
}

fn pages() -> u32 {
    10
}

/// The second question.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ThenStep {
    /// What is asked.
    pub request: LookUpRequest,
    /// JSONPath of the operation in its answer. Default: the whole body.
    #[serde(default)]
    pub item: Option<String>,
}

/// How an operation is asked for where it was said to be.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Location {
    /// JSONPath of the operation in the answer. Default: the whole body.
    pub item: Option<String>,
}

/// How the operation's state is read.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// JSONPath of the state, in the item.
    #[serde(default)]
    pub path: Option<String>,
    /// JSONPath, in the item. If something is there that is not null, it failed, whatever the
    /// state is.
    #[serde(default)]
    pub failed_if: Option<String>,
    /// Values that mean: over, and well.
    #[serde(default)]
    pub succeeded: Vec<String>,
    /// Values that mean: still working.
    #[serde(default)]
    pub accepted: Vec<String>,
    /// Values that mean: over, and badly.
    #[serde(default)]
    pub failed: Vec<String>,
    /// Values that may still change soon after the claim.
    #[serde(default)]
    pub provisional: Option<Provisional>,
}

/// Values that say too little for some time, because the request may still be at work.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provisional {
    /// Which.
    pub values: Vec<String>,
    /// How long after the claim they settle nothing. Afterwards they mean: over, and well.
    #[serde(rename = "for")]
    pub for_: SpanText,
}

/// How the time at which an operation was made is read.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Created {
    /// JSONPath of the time, in the item.
    pub path: String,
    /// How it is written.
    #[serde(default)]
    pub unit: TimeUnit,
    /// By how much the clocks of semel and of the provider may differ.
    #[serde(default = "skew")]
    pub skew: SpanText,
}

fn skew() -> SpanText {
    SpanText::new("2m")
}

/// How a time is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// Seconds since 1970.
    #[default]
    Unix,
    /// Like 2026-01-31T12:00:00Z.
    Rfc3339,
}

/// What is recorded as the answer of an operation that was looked up.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Replies {
    /// Its status.
    pub status: u16,
    /// Its headers. Its content type is JSON unless it stands here.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: ReplyBody,
    /// What is other for operations that failed: a declined card is a 402.
    pub failed: FailedReply,
}

impl Default for Replies {
    fn default() -> Self {
        Self {
            status: 200,
            headers: BTreeMap::new(),
            body: ReplyBody::Item,
            failed: FailedReply::default(),
        }
    }
}

/// What is recorded as the answer of an operation that failed, where it is other.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FailedReply {
    /// Its status.
    pub status: Option<u16>,
    /// Its headers.
    pub headers: Option<BTreeMap<String, String>>,
    /// Its body.
    pub body: Option<ReplyBody>,
}

/// The body of a recorded answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(title = "item, or { template: … }")]
pub enum ReplyBody {
    /// The operation as the provider shows it.
    Item,
    /// A template of a JSON document, which may use `item`.
    Template(String),
}
