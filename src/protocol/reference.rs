//! A reference that is put into the first request, in a place that the provider echoes, so that a
//! look-up can find the operation by it: where it goes, how the body is edited, what it is.
//!
//! A body is edited by putting text between two of its bytes. All the others stay as they came:
//! numbers, order, white space. In doubt a body is left alone, and its operation has no reference.

use std::fmt;

use bytes::Bytes;
use http::HeaderName;
use http::header::{AUTHORIZATION, CONTENT_ENCODING};

use super::form;
use super::id::RecordKey;
use super::json::{self, Node, Pointer, Text, Value};
use super::key::{RequestView, Secret};

/// How short a reference may be told to be: 64 bits, which no two operations share by chance.
pub const LENGTH_MIN: usize = 16;

/// How long one can be: a whole digest in hexadecimal.
pub const LENGTH_MAX: usize = 64;

/// How many steps a pointer to a reference may have.
pub const STEPS_MAX: usize = 16;

/// Headers that sign a body, or digest it: such a body must arrive as it was signed.
pub const SIGNING_HEADERS: [&str; 11] = [
    "signature",
    "signature-input",
    "x-signature",
    "x-client-signature",
    "x-jws-signature",
    "tl-signature",
    "digest",
    "content-digest",
    "repr-digest",
    "content-md5",
    "x-amz-content-sha256",
];

/// Where a reference belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A field of a form body.
    Form(String),
    /// A string in a JSON body.
    Json(Pointer),
}

/// What is configured about references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceRule {
    /// Where they belong.
    pub into: Place,
    /// How long one is, in characters.
    pub length: usize,
    /// Requests with one of these headers are left alone.
    pub unless: Vec<HeaderName>,
}

/// What a request has in the place of the reference.
#[derive(Clone, PartialEq, Eq)]
pub enum Slot {
    /// The caller's own.
    Given(String),
    /// Nothing: one belongs here.
    Open(Gap),
    /// The request is left alone, and has none.
    Closed(LeftAlone),
}

/// Where text goes between two bytes of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    at: usize,
    before: String,
    after: String,
    length: usize,
}

/// Why a request is left alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeftAlone {
    /// Somebody has signed it, or may have.
    #[error("header {0} may sign its body")]
    Signed(HeaderName),
    /// It is compressed.
    #[error("its body has a content encoding")]
    Encoded,
    /// Its body is said to be something else.
    #[error("its body is not said to be {0}")]
    OtherType(&'static str),
    /// Its body is not what it is said to be, or can be read in two ways.
    #[error("its body is malformed, or has a name twice")]
    Malformed,
    /// Its route only watches.
    #[error("the route only watches")]
    Watched,
    /// Something else stands where the reference belongs, or on the way to it.
    #[error("something else stands in the place")]
    Taken,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given(…)"),
            Self::Open(gap) => f.debug_tuple("Open").field(gap).finish(),
            Self::Closed(why) => f.debug_tuple("Closed").field(why).finish(),
        }
    }
}

impl ReferenceRule {
    /// Looks at the place in a request.
    pub fn slot(&self, request: &RequestView<'_>) -> Slot {
        let signing = self.unless.iter().find(|name| request.headers.contains_key(*name));
        if let Some(name) = signing {
            return Slot::Closed(LeftAlone::Signed(name.clone()));
        }
        if request.headers.get_all(AUTHORIZATION).iter().any(|value| signs(value.as_bytes())) {
            return Slot::Closed(LeftAlone::Signed(AUTHORIZATION));
        }
        if request.headers.contains_key(CONTENT_ENCODING) {
            return Slot::Closed(LeftAlone::Encoded);
        }
        match &self.into {
            Place::Form(_) if !request.is_form() => Slot::Closed(LeftAlone::OtherType("a form")),
            Place::Form(name) => self.in_form(name, request.body),
            Place::Json(_) if !request.is_json() => Slot::Closed(LeftAlone::OtherType("JSON")),
            Place::Json(pointer) => self.in_json(pointer, request.body),
        }
    }

    fn in_form(&self, name: &str, body: &[u8]) -> Slot {
        if !form::is_well_formed(body) {
            return Slot::Closed(LeftAlone::Malformed);
        }
        let mut given = vec![];
        for (other, value) in form::pairs(body) {
            if other == name.as_bytes() {
                given.push(value);
            } else if excludes(&other, name) {
                return Slot::Closed(LeftAlone::Taken);
            }
        }
        let [value] = given.as_slice() else {
            return if given.is_empty() {
                let joint = if body.is_empty() || body.ends_with(b"&") { "" } else { "&" };
                let name: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
                self.gap(body.len(), format!("{joint}{name}="), String::new())
            } else {
                Slot::Closed(LeftAlone::Malformed)
            };
        };
        given_text(Some(value))
    }

    fn in_json(&self, pointer: &Pointer, body: &[u8]) -> Slot {
        let Ok(root) = json::parse(body) else { return Slot::Closed(LeftAlone::Malformed) };
        if root.repeats_a_name() {
            return Slot::Closed(LeftAlone::Malformed);
        }
        let mut node = &root;
        for (depth, token) in pointer.tokens().iter().enumerate() {
            let Value::Object(members) = &node.value else {
                return Slot::Closed(LeftAlone::Taken);
            };
            let mut named = members.iter().filter(|(name, _)| name.as_bytes() == token.as_bytes());
            match named.next() {
                Some((_, below)) => node = below,
                None => return self.in_object(body, node, members, &pointer.tokens()[depth..]),
            }
        }
        match &node.value {
            Value::String(text) => given_text(Some(text.as_bytes())),
            Value::Number(lexeme) => given_text(Some(lexeme.as_bytes())),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => given_text(None),
        }
    }

    /// Behind the last member of an object, or between its braces; the objects that are missing on
    /// the way are made.
    fn in_object(
        &self,
        body: &[u8],
        object: &Node<'_>,
        members: &[(Text<'_>, Node<'_>)],
        steps: &[String],
    ) -> Slot {
        let (at, joint) = match members.last() {
            Some((_, last)) => (last.range_in(body).end, ","),
            None => (object.range_in(body).start + 1, ""),
        };
        let names: Vec<_> =
            steps.iter().map(|step| serde_json::Value::from(step.as_str()).to_string()).collect();
        let before = format!("{joint}{}:\"", names.join(":{"));
        self.gap(at, before, format!("\"{}", "}".repeat(steps.len() - 1)))
    }

    const fn gap(&self, at: usize, before: String, after: String) -> Slot {
        Slot::Open(Gap { at, before, after, length: self.length })
    }
}

/// The caller's own value, if it is one.
fn given_text(value: Option<&[u8]>) -> Slot {
    let text = value.and_then(|value| std::str::from_utf8(value).ok());
    match text.filter(|text| !text.is_empty()) {
        Some(text) => Slot::Given(text.to_owned()),
        None => Slot::Closed(LeftAlone::Taken),
    }
}

/// Whether a form that has one name cannot have the other: `a` and `a[]` beside `a[b]`, and
/// `a[b][c]` too.
fn excludes(other: &[u8], name: &str) -> bool {
    let below = |outer: &[u8]| other.strip_prefix(outer);
    let outer = name.match_indices('[').map(|(at, _)| &name.as_bytes()[..at]);
    let taken =
        |rest: Option<&[u8]>| rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"[]"));
    outer.into_iter().any(|outer| taken(below(outer)))
        || below(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"["))
}

/// Whether credentials look like a signature of the request rather than a secret that goes with it.
fn signs(authorization: &[u8]) -> bool {
    let text = String::from_utf8_lossy(authorization).to_ascii_lowercase();
    let plain = ["basic ", "bearer "].iter().any(|scheme| text.starts_with(scheme));
    !plain && ["signature", "hmac", "body_hash"].iter().any(|word| text.contains(word))
}

impl Gap {
    /// How long the reference is.
    pub const fn length(&self) -> usize {
        self.length
    }

    /// Puts the reference of a record into the body that was looked at.
    pub fn fill(&self, body: &Bytes, reference: &str) -> Bytes {
        // It needs no encoding, whatever it is put into.
        debug_assert!(reference.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let (front, back) = body.split_at(self.at.min(body.len()));
        let parts =
            [front, self.before.as_bytes(), reference.as_bytes(), self.after.as_bytes(), back];
        parts.concat().into()
    }
}

/// The reference of a record: the same in every process, and for every claim on that record.
pub fn drawn(index: &Secret, key: RecordKey, length: usize) -> String {
    let digest = index.digest("semel reference", &[key.as_bytes()]);
    let mut text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(length.clamp(LENGTH_MIN, LENGTH_MAX));
    text
}

#[cfg(test)]
mod tests;
