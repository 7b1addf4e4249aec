//! What may be said about a look-up, in plain words, and how it becomes a [`LookUp`].

use std::fmt;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde_json_path::JsonPath;
use zeroize::Zeroizing;

use super::names::{Name, Space};
pub use super::read::TimeUnit;
use super::read::{Answer, AnswerBody, Created, ItemPath, Reading, States};
use super::template::{Position, Template};
use super::{Asking, LookUp, check_path};
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

/// A look-up by GET: the request, and how its answer is read.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Template of the path.
    pub path: String,
    /// Names and templates of the query's values.
    pub query: Vec<(String, String)>,
    /// Names and templates of headers.
    pub headers: Vec<(String, String)>,
    /// Headers whose values are secret.
    pub credentials: Vec<(String, SecretText)>,
    /// RFC 9535 path, or its template, that leads to the operation in the answer; without one the
    /// answer is the operation.
    pub item: Option<String>,
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

/// How an operation's state is read.
#[derive(Debug, Clone, Default)]
pub struct StateSpec {
    /// RFC 9535 path, from the item.
    pub path: String,
    /// Values that say that it is over, well.
    pub succeeded: Vec<String>,
    /// Values that say that the provider is working on it.
    pub accepted: Vec<String>,
    /// Values that say that it is over, badly.
    pub failed: Vec<String>,
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

impl Spec {
    /// A look-up at this path, and defaults: the answer is the operation, its existence settles.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            query: vec![],
            headers: vec![],
            credentials: vec![],
            item: None,
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

impl LookUp {
    /// Checks a specification. `captures` are the names in the route's path pattern.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(spec: Spec, captures: &[&str]) -> Result<Self, Vec<SpecProblem>> {
        let mut problems = Problems { found: vec![], captures };
        problems.check("timeout", !spec.timeout.is_zero(), "expected more than nothing");
        problems.check("body_max", spec.body_max > 0, "expected more than nothing");
        let asking = problems.asking(&spec);
        let reading = problems.reading(&spec);
        match (asking, reading, problems.found.is_empty()) {
            (Some(asking), Some(reading), true) => Ok(Self {
                absent: spec.absent,
                timeout: spec.timeout,
                body_max: spec.body_max,
                asking,
                reading,
            }),
            _ => Err(problems.found),
        }
    }
}

/// Collects what is wrong, so that all of it is told at once.
struct Problems<'a> {
    found: Vec<SpecProblem>,
    captures: &'a [&'a str],
}

impl Problems<'_> {
    fn add(&mut self, at: &str, message: impl Into<String>) {
        self.found.push(SpecProblem { at: at.to_owned(), message: message.into() });
    }

    fn check(&mut self, at: &str, holds: bool, message: &str) {
        if !holds {
            self.add(at, message);
        }
    }

    fn note<T, E: fmt::Display>(&mut self, at: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|why| self.add(at, why.to_string())).ok()
    }

    fn asking(&mut self, spec: &Spec) -> Option<Asking> {
        let path = self.template("request.path", &spec.path, Position::Path);
        if let Some(path) = &path {
            let tried = path.try_out().and_then(|path| check_path(&path));
            self.note("request.path", tried);
        }
        let query = spec.query.iter().map(|(name, source)| {
            let at = format!("request.query.{name}");
            Some((name.clone(), self.template(&at, source, Position::Text)?))
        });
        let query: Vec<_> = query.collect();
        let headers = spec.headers.iter().map(|(name, source)| {
            let at = format!("request.headers.{name}");
            let header = self.header(&at, name);
            let template = self.template(&at, source, Position::Text);
            if let Some(text) = template.as_ref().and_then(|template| template.try_out().ok()) {
                self.value(&at, &text);
            }
            Some((header?, template?))
        });
        let headers: Vec<_> = headers.collect();
        let credentials = spec.credentials.iter().map(|(name, secret)| {
            let at = format!("credentials.{name}");
            let header = self.header(&at, name);
            let mut value = self.value(&at, &secret.0)?;
            value.set_sensitive(true);
            Some((header?, value))
        });
        let credentials: Vec<_> = credentials.collect();
        Some(Asking {
            path: path?,
            query: query.into_iter().collect::<Option<_>>()?,
            headers: headers.into_iter().collect::<Option<_>>()?,
            credentials: credentials.into_iter().collect::<Option<_>>()?,
        })
    }

    fn reading(&mut self, spec: &Spec) -> Option<Reading> {
        for &status in &spec.absent_statuses {
            let holds = (300..=499).contains(&status);
            self.check("absent.statuses", holds, "expected statuses from 300 to 499");
        }
        let item = match &spec.item {
            None => Some(ItemPath::Whole),
            Some(text) => self.item(text),
        };
        let state = spec.state.as_ref().map(|state| self.states(state));
        let created = spec.created.as_ref().map(|created| {
            let path = self.json_path("created.path", &created.path)?;
            Some(Created { path, unit: created.unit, skew: created.skew })
        });
        let succeeded = self.answer("reply.succeeded", &spec.succeeded);
        let failed = match &spec.failed {
            Some(failed) => self.answer("reply.failed", failed),
            // What is wrong with it was told just now.
            None if succeeded.is_none() => None,
            None => self.answer("reply.failed", &spec.succeeded),
        };
        Some(Reading {
            absent_statuses: spec.absent_statuses.clone(),
            item: item?,
            state: state.map_or(Some(None), |state| state.map(Some))?,
            created: created.map_or(Some(None), |created| created.map(Some))?,
            succeeded: succeeded?,
            failed: failed?,
        })
    }

    fn item(&mut self, text: &str) -> Option<ItemPath> {
        if !text.contains("{{") {
            return self.json_path("item", text).map(ItemPath::Fixed);
        }
        let template = self.template("item", text, Position::JsonPath)?;
        let tried = self.note("item", template.try_out())?;
        self.json_path("item", &tried)?;
        Some(ItemPath::Rendered(Box::new(template)))
    }

    fn states(&mut self, spec: &StateSpec) -> Option<States> {
        let lists = [&spec.succeeded, &spec.accepted, &spec.failed];
        let mut values: Vec<_> = lists.into_iter().flatten().collect();
        self.check("state", !values.is_empty(), "no value is named: nothing could ever settle");
        values.sort_unstable();
        for pair in values.windows(2).filter(|pair| pair[0] == pair[1]) {
            self.add("state", format!("{:?} stands twice", pair[0]));
        }
        Some(States {
            path: self.json_path("state.path", &spec.path)?,
            succeeded: spec.succeeded.clone(),
            accepted: spec.accepted.clone(),
            failed: spec.failed.clone(),
        })
    }

    fn answer(&mut self, at: &str, spec: &ReplySpec) -> Option<Answer> {
        let has_body =
            (200..=599).contains(&spec.status) && !matches!(spec.status, 204 | 205 | 304);
        let status_at = format!("{at}.status");
        self.check(&status_at, has_body, "expected a status from 200 to 599 that has a body");
        let mut headers = vec![];
        for (name, value) in &spec.headers {
            let at = format!("{at}.headers.{name}");
            let (name, value) = (self.header(&at, name), self.value(&at, value));
            if let (Some(name), Some(value)) = (name, value) {
                headers.push((name.as_str().to_owned(), value.as_bytes().to_vec()));
            }
        }
        if !headers.iter().any(|(name, _)| name == CONTENT_TYPE.as_str()) {
            headers.insert(0, (CONTENT_TYPE.as_str().to_owned(), b"application/json".to_vec()));
        }
        let body = match &spec.body {
            BodySpec::Item => AnswerBody::Item,
            BodySpec::Template(source) => {
                let template = self.template(&format!("{at}.body"), source, Position::Json)?;
                AnswerBody::Rendered(Box::new(template))
            }
        };
        Some(Answer { status: spec.status, headers, body })
    }

    fn template(&mut self, at: &str, source: &str, position: Position) -> Option<Template> {
        let template = self.note(at, Template::compile(source, position))?;
        for name in template.names() {
            match name {
                Name::In(Space::Path, name) if !self.captures.contains(&name.as_str()) => {
                    self.add(at, format!("the route's path has no {{{name}}}"));
                }
                Name::In(..) | Name::Key | Name::Reference => {}
            }
        }
        Some(template)
    }

    fn json_path(&mut self, at: &str, text: &str) -> Option<JsonPath> {
        let path = JsonPath::parse(text);
        self.note(at, path.map_err(|why| format!("not an RFC 9535 path: {why}")))
    }

    /// A header's name, unless it belongs to the connection or its framing.
    fn header(&mut self, at: &str, name: &str) -> Option<HeaderName> {
        const RESERVED: [&str; 9] = [
            "connection",
            "content-length",
            "host",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ];
        let name = self.note(at, name.parse::<HeaderName>())?;
        let free = !RESERVED.contains(&name.as_str());
        self.check(at, free, "this header is not for configuring");
        free.then_some(name)
    }

    fn value(&mut self, at: &str, value: &str) -> Option<HeaderValue> {
        // The library's error does not quote the value.
        self.note(at, HeaderValue::from_str(value))
    }
}
