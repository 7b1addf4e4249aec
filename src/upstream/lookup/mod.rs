//! Look-ups: how a provider is asked what became of an operation, and how its answer is read.
//!
//! [`spec`] is what may be said about a look-up and how it is checked; `template` renders texts,
//! each encoded for the place where it stands; `names` takes the values that they name from the
//! request; `read` reads answers. One strategy exists: GET by reference. Nothing here does I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderName, HeaderValue, Request, Response};
use percent_encoding::{percent_decode_str, utf8_percent_encode};

use self::names::Name;
use self::read::Reading;
use self::template::{Template, UNRESERVED, Values};
use crate::protocol::key::{IdempotencyKey, RequestView};
use crate::protocol::outcome::{AbsentPolicy, Finding};

mod names;
mod read;
pub mod spec;
mod template;

/// The values that a route's templates name, by name: taken from the request at the claim.
pub type Inputs = BTreeMap<String, String>;

/// What the inputs say in place of a reference that is drawn from the record's key: its length. No
/// template can have this name.
const DRAWN: &str = "reference drawn";

/// Leaves the reference, if the inputs have one, to be drawn from the record's key: while they are
/// taken nobody knows it yet.
pub fn draw_reference_later(inputs: &mut Inputs, length: usize) {
    if inputs.remove(&Name::Reference.to_string()).is_some() {
        inputs.insert(DRAWN.to_owned(), length.to_string());
    }
}

/// Draws the reference that was left to be drawn.
pub fn draw_reference(inputs: &mut Inputs, draw: impl FnOnce(usize) -> String) {
    if let Some(length) = inputs.remove(DRAWN).and_then(|length| length.parse().ok()) {
        inputs.insert(Name::Reference.to_string(), draw(length));
    }
}

/// What is known of an operation when a look-up is rendered. Shows no values.
#[derive(Clone)]
pub struct Subject {
    /// The sealed values, opened.
    pub inputs: Inputs,
    /// How long ago the operation was claimed.
    pub claimed: Duration,
    /// The wall clock, in seconds since 1970.
    pub now_unix: u64,
}

/// What is known of a request beside what it says itself. Shows no values.
#[derive(Clone, Default)]
pub struct Known<'a> {
    /// Its idempotency key.
    pub key: Option<&'a IdempotencyKey>,
    /// The reference that the provider echoes.
    pub reference: Option<&'a str>,
    /// What its path has in the places that the route's pattern names, percent-encoded as it came.
    pub captures: Vec<(&'a str, &'a str)>,
}

/// A route's look-up, checked: templates compiled, paths parsed, every name resolvable.
#[derive(Debug)]
pub struct LookUp {
    /// What "absent" leads to.
    pub absent: AbsentPolicy,
    /// How long one question may take.
    pub timeout: Duration,
    /// How large its answer may be, in bytes.
    pub body_max: usize,
    asking: Asking,
    reading: Reading,
}

/// How the question is put.
#[derive(Debug)]
struct Asking {
    path: Template,
    query: Vec<(String, Template)>,
    headers: Vec<(HeaderName, Template)>,
    credentials: Vec<(HeaderName, HeaderValue)>,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("inputs", &self.inputs.keys())
            .field("claimed", &self.claimed)
            .field("now_unix", &self.now_unix)
            .finish()
    }
}

impl fmt::Debug for Known<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").finish_non_exhaustive()
    }
}

impl Subject {
    /// An operation that was claimed this long ago, asked about at this time.
    pub const fn new(inputs: Inputs, claimed: Duration, now_unix: u64) -> Self {
        Self { inputs, claimed, now_unix }
    }

    /// When the operation was claimed, in seconds since 1970 by the clock of who asks.
    const fn sent_at_unix(&self) -> u64 {
        self.now_unix.saturating_sub(self.claimed.as_secs())
    }

    const fn values(&self) -> Values<'_> {
        Values { inputs: &self.inputs, sent_at_unix: self.sent_at_unix(), item: None }
    }
}

impl LookUp {
    /// Takes from a request what the templates will need, and nothing else.
    ///
    /// # Errors
    /// The name of the first value that the request does not have, or has more than once, or that
    /// is too long.
    pub fn inputs(&self, request: &RequestView<'_>, known: &Known<'_>) -> Result<Inputs, String> {
        let mut inputs = Inputs::new();
        for name in self.names() {
            let value = name.value(request, known).ok_or_else(|| name.to_string())?;
            inputs.insert(name.to_string(), value);
        }
        Ok(inputs)
    }

    /// The names of the values that it needs of a request, as they stand in [`Inputs`]: `key`,
    /// `reference`, `body/a/b`, `path/id`.
    pub fn input_names(&self) -> BTreeSet<String> {
        self.names().map(Name::to_string).collect()
    }

    /// The question: path and query only, since where the provider is comes from the upstream's
    /// settings and from nowhere else.
    ///
    /// # Errors
    /// Why it cannot be asked; the operation then waits for an operator.
    pub fn question(&self, subject: &Subject) -> Result<Request<Bytes>, String> {
        self.asking.question(&subject.values())
    }

    /// What the answer says.
    pub fn read(&self, subject: &Subject, answer: &Response<Bytes>) -> Finding {
        self.reading.read(subject, answer)
    }

    /// Whether a template names the reference that the provider echoes.
    pub fn names_the_reference(&self) -> bool {
        self.names().any(|name| *name == Name::Reference)
    }

    fn names(&self) -> impl Iterator<Item = &Name> {
        self.asking.templates().chain(self.reading.templates()).flat_map(Template::names)
    }
}

impl Asking {
    fn templates(&self) -> impl Iterator<Item = &Template> {
        let query = self.query.iter().map(|(_, template)| template);
        let headers = self.headers.iter().map(|(_, template)| template);
        std::iter::once(&self.path).chain(query).chain(headers)
    }

    fn question(&self, values: &Values<'_>) -> Result<Request<Bytes>, String> {
        let mut target = self.path.render(values).map_err(|why| format!("path: {why}"))?;
        check_path(&target)?;
        for (index, (name, template)) in self.query.iter().enumerate() {
            let value = template.render(values).map_err(|why| format!("query {name}: {why}"))?;
            target.push(if index == 0 { '?' } else { '&' });
            target.extend(utf8_percent_encode(name, UNRESERVED));
            target.push('=');
            target.extend(utf8_percent_encode(&value, UNRESERVED));
        }
        let mut request = Request::get(target).header(ACCEPT, "application/json");
        // From here on it is either there or has failed; a failed builder has no headers.
        if let Some(headers) = request.headers_mut() {
            for (name, template) in &self.headers {
                let value = template.render(values).map_err(|why| format!("{name}: {why}"))?;
                let value = HeaderValue::from_str(&value)
                    .map_err(|_| format!("header {name}: it has characters no header may have"))?;
                headers.insert(name, value);
            }
            for (name, value) in &self.credentials {
                headers.insert(name, value.clone());
            }
        }
        request.body(Bytes::new()).map_err(|_| "the path and query make no URI".to_owned())
    }
}

/// Whether a rendered path stays where its author meant it to.
fn check_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') || path.starts_with("//") || path.contains(['?', '#', '\\']) {
        return Err("path: expected /a/b without ?, # and \\".to_owned());
    }
    let leads_away = |segment: &str| {
        let decoded = percent_decode_str(segment).decode_utf8_lossy();
        decoded == "." || decoded == ".."
    };
    if path.split('/').any(leads_away) {
        return Err("path: a segment is . or ..".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
