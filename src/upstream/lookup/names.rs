//! The names that templates may use for a request's values, and how their values are found.

use std::fmt;

use percent_encoding::percent_decode_str;

use super::Known;
use crate::protocol::form;
use crate::protocol::json::{self, Found, Pointer, Value};
use crate::protocol::key::RequestView;

/// The longest value that is taken from a request, in bytes.
pub(super) const INPUT_BYTES_MAX: usize = 1024;

/// A value of a request, by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    /// `key`: the idempotency key.
    Key,
    /// `reference`: what the provider echoes.
    Reference,
    /// `body.a.b`, `form.a`, `form["a[b]"]` and so on.
    In(Space, String),
}

/// A part of a request that has named values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Space {
    /// A JSON body; its names are RFC 6901 pointers.
    Body,
    /// A form body.
    Form,
    /// The query.
    Query,
    /// What the path has where the route's pattern says `{name}`.
    Path,
    /// A header.
    Header,
}

impl Space {
    pub(super) const ALL: [Self; 5] =
        [Self::Body, Self::Form, Self::Query, Self::Path, Self::Header];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Form => "form",
            Self::Query => "query",
            Self::Path => "path",
            Self::Header => "header",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|space| space.name() == name)
    }

    /// What stands in brackets: `body["/a/0"]`, `form["a[b]"]`.
    pub(super) fn item(self, key: &str) -> Option<Name> {
        match self {
            Self::Body if !key.starts_with('/') => None,
            Self::Body => key.parse::<Pointer>().ok().map(|_| Name::In(self, key.to_owned())),
            Self::Form | Self::Query | Self::Path | Self::Header => {
                Some(Name::In(self, key.to_owned()))
            }
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("key"),
            Self::Reference => f.write_str("reference"),
            Self::In(Space::Body, pointer) => write!(f, "body{pointer}"),
            Self::In(space, name) => write!(f, "{}/{name}", space.name()),
        }
    }
}

impl Name {
    /// Its value, if the request has exactly one, of a length that can be kept.
    pub(super) fn value(&self, request: &RequestView<'_>, known: &Known<'_>) -> Option<String> {
        let value = match self {
            Self::Key => utf8(known.key?.as_bytes().to_vec()),
            Self::Reference => known.reference.map(str::to_owned),
            Self::In(Space::Body, pointer) => body_value(request.body, pointer),
            Self::In(Space::Form, name) if request.is_form() => {
                only(form::values(request.body, name)).and_then(utf8)
            }
            Self::In(Space::Form, _) => None,
            Self::In(Space::Query, name) => {
                only(form::values(request.query?.as_bytes(), name)).and_then(utf8)
            }
            Self::In(Space::Path, name) => {
                let (_, value) = known.captures.iter().find(|(capture, _)| capture == name)?;
                percent_decode_str(value).decode_utf8().ok().map(Into::into)
            }
            Self::In(Space::Header, name) => {
                let value = only(request.headers.get_all(name).iter().collect())?;
                value.to_str().ok().map(str::to_owned)
            }
        };
        value.filter(|value| value.len() <= INPUT_BYTES_MAX)
    }
}

/// Whether a header's name says that its value is a secret. Those are never kept; a look-up has
/// credentials of its own.
pub(super) fn is_secret_header(name: &str) -> bool {
    const EXACTLY: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];
    const PARTS: [&str; 5] = ["api-key", "apikey", "secret", "token", "password"];
    let name = name.to_ascii_lowercase().replace('_', "-");
    EXACTLY.contains(&&*name) || PARTS.iter().any(|part| name.contains(part))
}

fn only<T>(values: Vec<T>) -> Option<T> {
    let [value] = <[T; 1]>::try_from(values).ok()?;
    Some(value)
}

fn utf8(bytes: Vec<u8>) -> Option<String> {
    String::from_utf8(bytes).ok()
}

/// A string's content, a number as it is written, `true` or `false`.
fn body_value(body: &[u8], pointer: &str) -> Option<String> {
    let root = json::parse(body).ok()?;
    let Found::One(node) = pointer.parse::<Pointer>().ok()?.find(&root) else { return None };
    match &node.value {
        Value::String(text) => text.as_str().map(str::to_owned),
        Value::Number(lexeme) => Some((*lexeme).to_owned()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
