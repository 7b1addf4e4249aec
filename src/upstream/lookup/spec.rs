//! What may be said about a look-up, in plain words. `compile` makes a [`LookUp`](super::LookUp) of it.

use std::fmt;
use std::time::Duration;

use zeroize::Zeroizing;

pub use super::time::TimeUnit;
use crate::protocol::outcome::AbsentPolicy;

/// How long one question may take, unless said otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// How large an answer may be, in bytes, unless said otherwise.
pub const BODY_MAX: usize = 1 << 20;

/// By how much the clocks of semel and of a provider may differ, unless said otherwise.
pub const SKEW: Duration = Duration::from_secs(120);

/// A header's value that never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

/// A look-up: what is asked, and how the answers are read.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The (first) question; without one, only what was accepted with a `Location` is asked about.
    pub request: Option<AskSpec>,
    /// Headers whose values are secret.
    pub credentials: Vec<(String, SecretText)>,
    /// RFC 9535 path: if something is there, the question was not answered, whatever the status.
    pub errors: Option<String>,
    /// RFC 9535 path, or its template, that leads to the operation in the answer; without one the
    /// answer is the operation.
    pub item: Option<String>,
    /// How a list goes on.
    pub next: Option<NextSpec>,
    /// A second question, about what the first one found. State and reply are then read from its
    /// answer. How many matched is counted in the first one's; their age is judged there too if
    /// they show it, else in the second's.
    pub then: Option<ThenSpec>,
    /// Where a `Location` leads, the operation's path in the answer; `None` follows none.
    pub location: Option<LocationSpec>,
    /// Which value says how the operation is; without one its existence settles it.
    pub state: Option<StateSpec>,
    /// Which value says when the operation was made; older ones than the claim do not count.
    pub created: Option<CreatedSpec>,
    /// What is recorded when it succeeded.
    pub succeeded: ReplySpec,
    /// What is recorded when it failed; without one the same.
    pub failed: Option<ReplySpec>,
    /// Statuses that say "not there".
    pub absent_statuses: Vec<u16>,
    /// What "absent" leads to.
    pub absent: AbsentPolicy,
    /// How long one question may take.
    pub timeout: Duration,
    /// How large its answer may be, in bytes.
    pub body_max: usize,
}

/// A question.
#[derive(Debug, Clone, Default)]
pub struct AskSpec {
    /// How.
    pub method: AskMethod,
    /// Template of the path.
    pub path: String,
    /// Names and templates of the query's values.
    pub query: Vec<(String, String)>,
    /// Names and templates of headers.
    pub headers: Vec<(String, String)>,
    /// Template of the JSON document that a search asks with; each value becomes JSON.
    pub body: Option<String>,
}

/// How a question is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AskMethod {
    /// By GET.
    #[default]
    Get,
    /// By POST, a search that changes nothing.
    Post,
}

/// How a list goes on over pages.
#[derive(Debug, Clone)]
pub struct NextSpec {
    /// The query parameter that names the next page.
    pub query: String,
    /// RFC 9535 path of its value, in a page.
    pub from: String,
    /// RFC 9535 path of whether there is a next page.
    pub more: Option<String>,
    /// How many pages are read at most.
    pub pages: u32,
    /// Whether reading ends at what is older than the claim.
    pub newest_first: bool,
}

/// A second question. Its templates may use `item`.
#[derive(Debug, Clone)]
pub struct ThenSpec {
    /// The question.
    pub request: AskSpec,
    /// RFC 9535 path, or its template, of the operation in the answer.
    pub item: Option<String>,
}

/// How an operation is read at its `Location`.
#[derive(Debug, Clone, Default)]
pub struct LocationSpec {
    /// RFC 9535 path, or its template, of the operation in the answer.
    pub item: Option<String>,
}

/// How an operation's state is read.
#[derive(Debug, Clone, Default)]
pub struct StateSpec {
    /// RFC 9535 path, from the item. It may be missing if `failed_if` is there: what did not fail
    /// has then succeeded.
    pub path: Option<String>,
    /// RFC 9535 path, from the item: if something is there, not null, false or empty, the operation
    /// failed, whatever its state.
    pub failed_if: Option<String>,
    /// Values that say that it is over, well.
    pub succeeded: Vec<String>,
    /// Values that say that the provider is working on it.
    pub accepted: Vec<String>,
    /// Values that say that it is over, badly.
    pub failed: Vec<String>,
    /// Values that may still change soon after the claim.
    pub provisional: Option<ProvisionalSpec>,
}

/// Values that an operation has while it is at work, too.
#[derive(Debug, Clone)]
pub struct ProvisionalSpec {
    /// Which.
    pub values: Vec<String>,
    /// How long after the claim they say nothing; afterwards they say that it is over, well.
    pub time: Duration,
}

/// How the time of an operation is read.
#[derive(Debug, Clone)]
pub struct CreatedSpec {
    /// RFC 9535 path, from the item.
    pub path: String,
    /// How it is written.
    pub unit: TimeUnit,
    /// By how much the clocks may differ.
    pub skew: Duration,
}

/// What is recorded as an operation's answer.
#[derive(Debug, Clone)]
pub struct ReplySpec {
    /// Its status.
    pub status: u16,
    /// Its headers, beside the content type, which is JSON unless it stands here.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: BodySpec,
}

/// What the body of a recorded answer is.
#[derive(Debug, Clone)]
pub enum BodySpec {
    /// The item, byte for byte.
    Item,
    /// A template of a JSON document, in which each value becomes JSON; it may use `item`, whose
    /// fractions and integers beyond 64 bits have the precision of floating point here.
    Template(String),
}

/// A fault of a [`Spec`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {message}")]
pub struct SpecProblem {
    /// Where, from the look-up: `state.path`.
    pub at: String,
    /// What.
    pub message: String,
}

impl SecretText {
    /// Takes a secret.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Hands it out.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

impl Default for ReplySpec {
    fn default() -> Self {
        Self { status: 200, headers: vec![], body: BodySpec::Item }
    }
}

impl AskSpec {
    /// A GET of this path.
    pub fn get(path: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }
}

impl Spec {
    /// A look-up at this path, and defaults: the answer is the operation, its existence settles.
    pub fn new(path: impl Into<String>) -> Self {
        Self { request: Some(AskSpec::get(path)), ..Self::default() }
    }
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            request: None,
            credentials: vec![],
            errors: None,
            item: None,
            next: None,
            then: None,
            location: None,
            state: None,
            created: None,
            succeeded: ReplySpec::default(),
            failed: None,
            absent_statuses: vec![404],
            absent: AbsentPolicy::default(),
            timeout: TIMEOUT,
            body_max: BODY_MAX,
        }
    }
}
