//! The part of the config file about routes, as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LookUp;
use crate::config::text::{SizeText, SpanText};
use crate::protocol::reference::SIGNING_HEADERS;

/// What is done with which requests.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["match"]))]
pub struct Route {
    /// Its name in metrics, logs and records. Default: its methods and path.
    pub name: Option<String>,
    /// Which requests.
    #[serde(rename = "match", skip_serializing_if = "Match::is_unset")]
    pub matches: Match,
    /// Which upstream they go to. Default: the default upstream.
    pub upstream: Option<String>,
    /// What is done with them.
    pub mode: Mode,
    /// Where idempotency keys are found.
    pub key: Key,
    /// Who shares a key space: the headers whose values tell callers apart, or a fixed name where
    /// credentials expire.
    pub scope: Scope,
    /// What a retry must have in common with the first request.
    pub fingerprint: Fingerprint,
    /// What names the business operation, whatever the key: the same customer, the same order.
    pub business_key: Option<BusinessKey>,
    /// Whether a retry under another key is recognised by its content, for 10 minutes after its
    /// caller was left unanswered.
    pub orphans: Orphans,
    /// What a duplicate does while its operation is in flight.
    pub duplicates: Duplicates,
    /// How long a duplicate waits from its arrival, and the first caller from the end of the
    /// upstream call.
    pub max_wait: SpanText,
    /// Silence after which the provider is asked.
    pub lookup_after: SpanText,
    /// How long the upstream call may last.
    pub upstream_timeout: SpanText,
    /// How long an owner may be silent; renewed while it lives. Shorter means doubts are noticed
    /// sooner.
    pub lease: SpanText,
    /// How long a settled answer is kept.
    pub retention: SpanText,
    /// How long it is remembered, after that, that there was one.
    pub remember: SpanText,
    /// Bounds.
    pub limits: Limits,
    /// What answers mean, before the default table; the first match wins.
    pub outcomes: Vec<Outcome>,
    /// What becomes of a request while the store cannot be reached.
    pub on_store_failure: OnStoreFailure,
    /// A reference that is put into requests where the provider echoes it, so that a look-up finds
    /// them by it. A caller's own value stays and is taken for it.
    pub reference: Option<Reference>,
    /// The shape of semel's own answers, so that an SDK can read them.
    pub errors: Errors,
    /// How the provider is asked what became of an operation. Without it, operators must settle
    /// unknown outcomes.
    pub lookup: Option<LookUp>,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            name: None,
            matches: Match::default(),
            upstream: None,
            mode: Mode::Enforce,
            key: Key::default(),
            scope: Scope::Headers(vec!["authorization".to_owned(), "x-api-key".to_owned()]),
            fingerprint: Fingerprint::default(),
            business_key: None,
            orphans: Orphans::Match,
            duplicates: Duplicates::Wait,
            max_wait: SpanText::new("25s"),
            lookup_after: SpanText::new("10s"),
            upstream_timeout: SpanText::new("90s"),
            lease: SpanText::new("15s"),
            retention: SpanText::new("24h"),
            remember: SpanText::new("7d"),
            limits: Limits::default(),
            outcomes: Vec::new(),
            on_store_failure: OnStoreFailure::Reject,
            reference: None,
            errors: Errors::default(),
            lookup: None,
        }
    }
}

/// Which requests a route is about.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["path"]))]
pub struct Match {
    /// Which methods. Default: every one but GET, HEAD, OPTIONS and TRACE.
    pub methods: Vec<String>,
    /// Which path: exact, with {name} for a segment, or with /** for the rest.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
}

impl Match {
    fn is_unset(&self) -> bool {
        self.path.is_empty()
    }
}

/// What is done with a route's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// They are guarded.
    Enforce,
    /// They are claimed and recorded; what would wait or be refused is forwarded and counted.
    Observe,
    /// They are only routed.
    Off,
}

/// Where idempotency keys are found.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Key {
    /// Places, in order; the first that has one counts.
    pub sources: Vec<KeySource>,
    /// What becomes of a request without a key.
    pub missing: Missing,
    /// `missing: fingerprint`: how long after its answer was delivered an operation is still found
    /// by identical content.
    pub window: SpanText,
}

impl Default for Key {
    fn default() -> Self {
        let header = Some("Idempotency-Key".to_owned());
        Self {
            sources: vec![KeySource { header, ..KeySource::default() }],
            missing: Missing::Fingerprint,
            window: SpanText::new("0s"),
        }
    }
}

/// A reference that is put into requests.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Where it belongs.
    pub into: ReferencePlace,
    /// How many characters it has: as many as the provider takes, 16 to 64.
    #[serde(default = "reference_max")]
    pub max: usize,
    /// Requests with one of these headers are left alone: they sign the body.
    #[serde(default = "signing_headers")]
    pub unless: Vec<String>,
}

const fn reference_max() -> usize {
    40
}

fn signing_headers() -> Vec<String> {
    SIGNING_HEADERS.iter().map(|&name| name.to_owned()).collect()
}

/// A place in the body.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "one of { json: … }, { form: … }")]
pub struct ReferencePlace {
    /// A pointer into a JSON body, like /metadata/semel. Objects that are missing on the way are
    /// made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<String>,
    /// A field of a form body, like `metadata[semel]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<String>,
}

/// A place where an idempotency key may stand.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "one of { header: … }, { json: … }, { form: … }, { query: … }")]
pub struct KeySource {
    /// A request header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// A pointer into a JSON body, like /order/id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<String>,
    /// A field of a form body, like `metadata[order]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<String>,
    /// A query parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

/// What becomes of a request without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// Its content identifies it.
    Fingerprint,
    /// It is refused with 400.
    Reject,
    /// It goes through unguarded.
    Pass,
}

/// Who shares a key space.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(title = "a list of header names, or { fixed: NAME }")]
pub enum Scope {
    /// Those who send the same values in these headers.
    Headers(Vec<String>),
    /// All callers of routes with this name.
    Fixed(FixedScope),
}

/// A key space with a name.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FixedScope {
    /// Its name.
    pub fixed: String,
}

/// What a retry must have in common with the first request, beside method, path, query and body.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fingerprint {
    /// Headers that must be the same, beside Content-Type.
    pub headers: Vec<String>,
    /// Parts of the body that may differ.
    pub ignore: Vec<Ignore>,
}

/// A part of the body that may differ.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "one of { json: … }, { form: … }")]
pub struct Ignore {
    /// A pointer into a JSON body, like /sent_at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<String>,
    /// A field of a form body, like `metadata[sent_at]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<String>,
}

/// What names the business operation of a request.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BusinessKey {
    /// Its parts; a request that lacks one of them has no business key.
    pub fields: Vec<BusinessField>,
    /// How long it is bound to an operation that succeeded. One that is under way binds it, one that
    /// failed frees it.
    #[serde(default = "bound")]
    pub window: SpanText,
}

fn bound() -> SpanText {
    SpanText::new("10m")
}

/// A part of a business key.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(
    title = "content, or one of { header: … }, { json: … }, { form: … }, { query: … }, { path: … }"
)]
pub enum BusinessField {
    /// `content`: the whole request, as its fingerprint sees it.
    Whole(String),
    /// A place in it.
    Place(BusinessPlace),
}

/// A place where a part of a business key stands.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "one of { header: … }, { json: … }, { form: … }, { query: … }, { path: … }")]
pub struct BusinessPlace {
    /// A request header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// A pointer into a JSON body, like /order/id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<String>,
    /// A field of a form body, like `metadata[order]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<String>,
    /// A query parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// A named segment of the route's path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Whether a retry under another key is recognised by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Orphans {
    /// It is, once a caller was left unanswered.
    Match,
    /// Another key is another payment.
    Ignore,
}

/// What a duplicate does while its operation is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Duplicates {
    /// It waits for the answer.
    Wait,
    /// It gets 409 at once.
    Conflict,
}

/// What becomes of a request while the store cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnStoreFailure {
    /// It is refused with 503.
    Reject,
    /// It goes through unguarded, and marked so.
    Pass,
}

/// Bounds of a route.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How large a request body may be.
    pub request_body: SizeText,
    /// How large an answer may be that is kept.
    pub response_body: SizeText,
    /// How many duplicates may wait at the same time.
    pub waiters: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_body: SizeText::new("1MiB"),
            response_body: SizeText::new("1MiB"),
            waiters: 1000,
        }
    }
}

/// What answers mean that meet all of these conditions; there must be one at least.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Which status, like 429, or which class, like 5xx.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Statuses>,
    /// A header that must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<OutcomeHeader>,
    /// A field that a JSON body must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<OutcomeBody>,
    /// What the answer means.
    pub is: Meaning,
}

/// A header that must be there with one of these values.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutcomeHeader {
    /// Its name.
    pub name: String,
    /// The values that are meant, to the letter.
    pub values: Vec<String>,
}

/// A field of a JSON body that must have one of these values.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutcomeBody {
    /// A pointer to it, like /error/code.
    pub json: String,
    /// The values that are meant, as text: "704" is the number 704 and the string too.
    pub values: Vec<String>,
}

/// A status or a class of them.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(title = "a status like 429, or a class like 5xx")]
pub enum Statuses {
    /// This one.
    One(u16),
    /// All of a class.
    Class(String),
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Meaning {
    /// The operation is over, well or badly.
    Final,
    /// Nothing was done; the key is free again.
    NotApplied,
    /// The provider has it and is still working.
    Accepted,
    /// It proves nothing.
    Unknown,
}

/// The shape of semel's own answers on a route. What it leaves out stays as it is.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Errors {
    /// Other statuses, by the names that docs/problems.md explains: 400 to 599.
    pub statuses: BTreeMap<String, u16>,
    /// Further headers. Their values are templates, like the body.
    pub headers: BTreeMap<String, String>,
    /// Type of the body. Default: application/json if there is a template, else
    /// application/problem+json.
    pub content_type: Option<String>,
    /// Template of a JSON document, in which each value becomes JSON: slug, type, title, status,
    /// detail, operation, state, sent, retry, `upstream_status`. Default: problem details.
    pub body: Option<String>,
}
