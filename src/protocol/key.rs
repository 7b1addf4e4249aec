//! Idempotency keys and where they come from, scopes, and the record keys made of them.

use std::fmt;
use std::sync::OnceLock;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, Method};
use serde::{Deserialize, Serialize};

use super::form;
use super::id::RecordKey;
use super::json::{self, Found, NotJson, Pointer, Value};
use super::secret::Framed;
pub use super::secret::{Secret, SecretId};

/// Room for most scopes.
const SCOPE_BYTES_USUAL: usize = 256;

/// The longest idempotency key that is taken, in bytes.
pub const KEY_BYTES_MAX: usize = 255;

/// What key sources, scopes and fingerprints may look at. The body is whole.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path, percent-encoded as it came.
    pub path: &'a str,
    /// Its query without the question mark, as it came.
    pub query: Option<&'a str>,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: &'a Bytes,
}

impl RequestView<'_> {
    /// The type of its body in lower case and without parameters, if exactly one is given.
    pub fn media_type(&self) -> Option<String> {
        let mut values = self.headers.get_all(CONTENT_TYPE).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let essence = value.to_str().ok()?.split(';').next()?.trim();
        Some(essence.to_ascii_lowercase())
    }

    /// Whether its body is said to be a form.
    pub fn is_form(&self) -> bool {
        self.media_type().is_some_and(|essence| essence == "application/x-www-form-urlencoded")
    }

    /// Whether its body is said to be JSON.
    pub fn is_json(&self) -> bool {
        let is_json = |essence: &str| essence == "application/json" || essence.ends_with("+json");
        self.media_type().is_some_and(|essence| is_json(&essence))
    }
}

/// A place where an idempotency key may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A request header; `"k"` (a structured-field string) and bare `k` are the same key.
    Header(HeaderName),
    /// An RFC 6901 pointer into a JSON body.
    Json(String),
    /// A field of a form body.
    Form(String),
    /// A query parameter.
    Query(String),
}

/// What a caller named its operation. Does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey(Vec<u8>);

impl IdempotencyKey {
    /// Checks length and characters.
    ///
    /// # Errors
    /// [`KeyInvalid`], which says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyInvalid> {
        if bytes.is_empty() {
            return Err(KeyInvalid::Empty);
        }
        if bytes.len() > KEY_BYTES_MAX {
            return Err(KeyInvalid::TooLong);
        }
        if bytes.iter().any(u8::is_ascii_control) {
            return Err(KeyInvalid::Control);
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdempotencyKey(…)")
    }
}

/// Why a key is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyInvalid {
    /// It has no characters.
    #[error("it is empty")]
    Empty,
    /// It has too many.
    #[error("it is longer than 255 bytes")]
    TooLong,
    /// It has control characters.
    #[error("it contains control characters")]
    Control,
    /// The header occurs more than once, or the structured field does not parse.
    #[error("it is given more than once or is malformed")]
    Malformed,
}

/// A short keyed digest of an idempotency key alone, whatever its scope: by it an operator who has
/// the key finds the operation. It is no name: keys of other scopes may have the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyTag([u8; 8]);

impl KeyTag {
    /// Takes bytes as they are.
    pub const fn new(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The tag of this key.
    pub fn of(index: &Secret, key: &IdempotencyKey) -> Self {
        let digest = index.digest("semel key tag", &[key.as_bytes()]);
        let mut tag = [0; 8];
        tag.copy_from_slice(&digest[..8]);
        Self(tag)
    }
}

/// Who shares a key space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScopeRule {
    /// Those who send the same values in these headers.
    Credentials(Vec<HeaderName>),
    /// All who use routes with this name; for credentials that expire (OAuth).
    Fixed(String),
}

/// A key space: the parts that the record key is made of beside the idempotency key. Does not show
/// itself: credentials are among them.
#[derive(Clone, PartialEq, Eq)]
pub struct Scope(Framed);

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scope(…)")
    }
}

impl ScopeRule {
    /// The scope of a request to an upstream: upstream, method, path, and who asks.
    pub fn scope(&self, upstream: &str, request: &RequestView<'_>) -> Scope {
        let mut scope = Framed::with_capacity(SCOPE_BYTES_USUAL);
        scope.part(upstream.as_bytes());
        scope.part(request.method.as_str().as_bytes());
        scope.part(request.path.as_bytes());
        match self {
            Self::Credentials(headers) => {
                scope.part(b"credentials");
                for name in headers {
                    let values = request.headers.get_all(name);
                    scope.part(name.as_str().as_bytes());
                    scope.part(&(values.iter().count() as u64).to_be_bytes());
                    values.iter().for_each(|value| scope.part(value.as_bytes()));
                }
            }
            Self::Fixed(name) => {
                scope.part(b"fixed");
                scope.part(name.as_bytes());
            }
        }
        Scope(scope)
    }
}

/// Where the record of (scope, key) is.
pub fn record_key(index: &Secret, scope: &Scope, key: &IdempotencyKey) -> RecordKey {
    derived(index, "semel record", scope, [key.as_bytes()])
}

/// A request's content within its scope. Where its pointer is, most requests need not know.
#[derive(Debug)]
pub struct ContentName {
    scope: Scope,
    content: [u8; 32],
    key: OnceLock<RecordKey>,
}

impl ContentName {
    /// Takes them. `content` is the digest of the canonical request.
    pub const fn new(scope: Scope, content: [u8; 32]) -> Self {
        Self { scope, content, key: OnceLock::new() }
    }

    /// Where its pointer is; always of the same secret.
    pub fn key(&self, index: &Secret) -> RecordKey {
        *self.key.get_or_init(|| content_key(index, &self.scope, &self.content))
    }
}

/// Where the pointer of (scope, content) is. `content` is the digest of the canonical request.
pub fn content_key(index: &Secret, scope: &Scope, content: &[u8; 32]) -> RecordKey {
    derived(index, "semel content", scope, [&content[..]])
}

/// Where the pointer of (scope, business key) is.
pub fn business_key(index: &Secret, scope: &Scope, business: &BusinessKey) -> RecordKey {
    derived(index, "semel business", scope, business.0.iter().map(Vec::as_slice))
}

/// The digest of a domain, the scope's parts and these.
fn derived<'a>(
    index: &Secret,
    domain: &str,
    scope: &Scope,
    last: impl IntoIterator<Item = &'a [u8]>,
) -> RecordKey {
    shortened(index.digest_after(domain, &scope.0, last))
}

fn shortened(digest: [u8; 32]) -> RecordKey {
    let mut key = [0; RecordKey::LEN];
    key.copy_from_slice(&digest[..RecordKey::LEN]);
    RecordKey::new(key)
}

/// A part of a request that names the business operation, together with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusinessField {
    /// A request header.
    Header(HeaderName),
    /// An RFC 6901 pointer into a JSON body.
    Json(String),
    /// A field of a form body.
    Form(String),
    /// A query parameter.
    Query(String),
    /// A named segment of the path.
    Path(String),
    /// The whole request, as its fingerprint sees it.
    Content,
}

/// What names the business operation of a request, field by field. Does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct BusinessKey(Vec<Vec<u8>>);

impl fmt::Debug for BusinessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BusinessKey(…)")
    }
}

impl BusinessKey {
    /// Takes the fields' values out of a request. `captures` are the path's named segments,
    /// `content` is its canonical digest.
    ///
    /// # Errors
    /// The first field of which the request does not have exactly one value: it then has no business
    /// key.
    pub fn of<'a>(
        fields: &'a [BusinessField],
        request: &RequestView<'_>,
        captures: &[(&str, &str)],
        content: &[u8; 32],
    ) -> Result<Self, &'a BusinessField> {
        let value = |field: &'a BusinessField| field.value(request, captures, content).ok_or(field);
        fields.iter().map(value).collect::<Result<_, _>>().map(Self)
    }
}

impl BusinessField {
    fn value(
        &self,
        request: &RequestView<'_>,
        captures: &[(&str, &str)],
        content: &[u8; 32],
    ) -> Option<Vec<u8>> {
        let value = match self {
            Self::Header(name) => {
                let values = request.headers.get_all(name).iter();
                only(values).ok()??.as_bytes().trim_ascii().to_vec()
            }
            Self::Json(pointer) => json_scalar(pointer, request.body)?,
            Self::Form(name) if request.is_form() => {
                only(form::values(request.body, name)).ok()??
            }
            Self::Form(_) => return None,
            Self::Query(name) => {
                only(form::values(request.query.unwrap_or_default().as_bytes(), name)).ok()??
            }
            Self::Path(name) => {
                let (_, value) = captures.iter().find(|(capture, _)| capture == name)?;
                value.as_bytes().to_vec()
            }
            Self::Content => content.to_vec(),
        };
        (!value.is_empty()).then_some(value)
    }
}

/// A string's content, or anything else that is one value, as it is written.
fn json_scalar(pointer: &str, body: &[u8]) -> Option<Vec<u8>> {
    let root = json::parse(body).ok()?;
    let Found::One(node) = pointer.parse::<Pointer>().ok()?.find(&root) else { return None };
    match &node.value {
        Value::String(text) => Some(text.as_str()?.as_bytes().to_vec()),
        Value::Number(lexeme) => Some(lexeme.as_bytes().to_vec()),
        Value::Bool(value) => Some(value.to_string().into_bytes()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Looks for a key in each place, in order; the first place that has one counts, and is returned.
///
/// # Errors
/// [`KeyInvalid`] if the first place that has one has a bad one. A bad key is never passed over in
/// favour of a later place, or of none.
pub fn find_key<'a>(
    sources: &'a [KeySource],
    request: &RequestView<'_>,
) -> Result<Option<(IdempotencyKey, &'a KeySource)>, KeyInvalid> {
    for source in sources {
        if let Some(key) = key_at(source, request)? {
            return Ok(Some((key, source)));
        }
    }
    Ok(None)
}

fn key_at(
    source: &KeySource,
    request: &RequestView<'_>,
) -> Result<Option<IdempotencyKey>, KeyInvalid> {
    let key = match source {
        KeySource::Header(name) => {
            let values = request.headers.get_all(name).iter();
            only(values)?.map(|value| header_key(value.as_bytes())).transpose()?
        }
        KeySource::Json(pointer) => json_key(pointer, request.body)?,
        KeySource::Form(name) if request.is_form() => only(form::values(request.body, name))?,
        KeySource::Form(_) => None,
        KeySource::Query(name) => {
            only(form::values(request.query.unwrap_or_default().as_bytes(), name))?
        }
    };
    key.map(|key| IdempotencyKey::parse(&key)).transpose()
}

fn only<T>(values: impl IntoIterator<Item = T>) -> Result<Option<T>, KeyInvalid> {
    let mut values = values.into_iter();
    let first = values.next();
    if values.next().is_some() { Err(KeyInvalid::Malformed) } else { Ok(first) }
}

/// Bare text as it is, or the content of an RFC 9651 string. Parameters after the string are
/// refused: whoever sends them means something by them that we do not know.
fn header_key(value: &[u8]) -> Result<Vec<u8>, KeyInvalid> {
    let value = value.trim_ascii();
    let Some(quoted) = value.strip_prefix(b"\"") else { return Ok(value.to_vec()) };
    let mut key = vec![];
    let mut bytes = quoted.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' if bytes.as_slice().is_empty() => return Ok(key),
            b'\\' => match bytes.next() {
                Some(&escaped @ (b'"' | b'\\')) => key.push(escaped),
                Some(_) | None => return Err(KeyInvalid::Malformed),
            },
            b'"' => return Err(KeyInvalid::Malformed),
            b' '..=b'~' => key.push(byte),
            _ => return Err(KeyInvalid::Malformed),
        }
    }
    Err(KeyInvalid::Malformed)
}

/// A string's content, or a number as it is written. The body is read whatever its type is said to
/// be: where a key stands, it counts.
fn json_key(pointer: &str, body: &[u8]) -> Result<Option<Vec<u8>>, KeyInvalid> {
    let root = match json::parse(body) {
        Ok(root) => root,
        Err(NotJson::Invalid) => return Ok(None),
        // It may well have a key; nobody can say that it has none.
        Err(NotJson::TooMuch) => return Err(KeyInvalid::Malformed),
    };
    let Ok(pointer) = pointer.parse::<Pointer>() else { return Ok(None) };
    match pointer.find(&root) {
        Found::Nothing => Ok(None),
        Found::Many => Err(KeyInvalid::Malformed),
        Found::One(node) => match &node.value {
            Value::Null => Ok(None),
            Value::String(text) => {
                let text = text.as_str().ok_or(KeyInvalid::Malformed)?;
                Ok(Some(text.as_bytes().to_vec()))
            }
            Value::Number(lexeme) => Ok(Some(lexeme.as_bytes().to_vec())),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(KeyInvalid::Malformed),
        },
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    /// Looks in a header, then in JSON, a form, the query: what was found, or why not.
    fn find(
        headers: &[(&str, &[u8])],
        query: &str,
        body: &str,
    ) -> Result<Option<String>, KeyInvalid> {
        let sources = [
            KeySource::Header(HeaderName::from_static("idempotency-key")),
            KeySource::Json("/meta/key".to_owned()),
            KeySource::Form("meta[key]".to_owned()),
            KeySource::Query("key".to_owned()),
        ];
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("a header name");
            map.append(name, HeaderValue::from_bytes(value).expect("a header value"));
        }
        let request = RequestView {
            method: &Method::POST,
            path: "/v1/payments",
            query: Some(query),
            headers: &map,
            body: &Bytes::copy_from_slice(body.as_bytes()),
        };
        let found = find_key(&sources, &request)?;
        Ok(found.map(|(key, _)| String::from_utf8_lossy(key.as_bytes()).into_owned()))
    }

    fn header(value: &[u8]) -> Result<Option<String>, KeyInvalid> {
        find(&[("idempotency-key", value)], "key=later", "")
    }

    const FORM: (&str, &[u8]) =
        ("content-type", b"Application/X-WWW-Form-Urlencoded; charset=utf-8");

    #[test]
    fn a_quoted_and_a_bare_key_are_the_same() {
        let found = |key: &str| Ok(Some(key.to_owned()));
        assert_eq!(header(b"k-1"), found("k-1"));
        assert_eq!(header(b"\"k-1\""), found("k-1"));
        assert_eq!(header(b"  \"k-1\"\t"), found("k-1"));
        assert_eq!(header(br#""a\"b\\c""#), found(r#"a"b\c"#));
        assert_eq!(header(br#"a"b\c"#), found(r#"a"b\c"#));
        assert_eq!(header("ключ".as_bytes()), found("ключ"));
    }

    #[test]
    fn a_bad_header_is_never_passed_over() {
        for (value, why) in [
            (&b""[..], KeyInvalid::Empty),
            (b"\"\"", KeyInvalid::Empty),
            (b"  ", KeyInvalid::Empty),
            (b"\"", KeyInvalid::Malformed),
            (b"\"a", KeyInvalid::Malformed),
            (b"\"a\\\"", KeyInvalid::Malformed),
            (b"\"a\\n\"", KeyInvalid::Malformed),
            (b"\"a\"b", KeyInvalid::Malformed),
            (b"\"a\";v=1", KeyInvalid::Malformed),
            (b"\"a\", \"a\"", KeyInvalid::Malformed),
            (b"\"\xc3\xa9\"", KeyInvalid::Malformed),
            (b"a\tb", KeyInvalid::Control),
            (&[b'k'; 256], KeyInvalid::TooLong),
        ] {
            assert_eq!(header(value), Err(why), "{:?}", String::from_utf8_lossy(value));
        }
        let twice = [("idempotency-key", &b"k"[..]), ("idempotency-key", b"k")];
        assert_eq!(find(&twice, "", ""), Err(KeyInvalid::Malformed));
        assert!(header(&[b'k'; 255]).is_ok());
    }

    #[test]
    fn json_keys_are_strings_or_numbers_as_written() {
        for (body, found) in [
            (r#"{"meta":{"key":"k\u002d1"}}"#, Ok(Some("k-1"))),
            (r#"{"meta":{"key":1e400}}"#, Ok(Some("1e400"))),
            (r#"{"meta":{"key":12345678901234567890123}}"#, Ok(Some("12345678901234567890123"))),
            (r#"{"meta":{"key":null}}"#, Ok(Some("later"))),
            (r#"{"meta":{}}"#, Ok(Some("later"))),
            ("not json", Ok(Some("later"))),
            (r#"{"meta":{"key":""}}"#, Err(KeyInvalid::Empty)),
            (r#"{"meta":{"key":"a\nb"}}"#, Err(KeyInvalid::Control)),
            (r#"{"meta":{"key":true}}"#, Err(KeyInvalid::Malformed)),
            (r#"{"meta":{"key":["k"]}}"#, Err(KeyInvalid::Malformed)),
            (r#"{"meta":{"key":"\ud800"}}"#, Err(KeyInvalid::Malformed)),
            (r#"{"meta":{"key":"a","key":"a"}}"#, Err(KeyInvalid::Malformed)),
            (r#"{"meta":{"key":"a"},"meta":{}}"#, Err(KeyInvalid::Malformed)),
        ] {
            let found = found.map(|key| key.map(str::to_owned));
            assert_eq!(find(&[], "key=later", body), found, "{body}");
        }
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert_eq!(find(&[], "key=later", &deep), Err(KeyInvalid::Malformed));
    }

    #[test]
    fn form_and_query_keys_are_decoded_and_stand_once() {
        for (headers, query, body, found) in [
            (&[FORM][..], "", "a=1&meta%5Bkey%5D=k+1", Ok(Some("k 1"))),
            (&[FORM], "key=q", "meta[key]=", Err(KeyInvalid::Empty)),
            (&[FORM], "key=q", "meta[key]=a&meta%5bkey%5d=a", Err(KeyInvalid::Malformed)),
            (&[FORM], "key=q", "other=a", Ok(Some("q"))),
            (&[], "key=q", "meta[key]=a", Ok(Some("q"))),
            (&[], "key=%71%2F", "", Ok(Some("q/"))),
            (&[], "key=%00", "", Err(KeyInvalid::Control)),
            (&[], "key=a&key=a", "", Err(KeyInvalid::Malformed)),
            (&[], "key", "", Err(KeyInvalid::Empty)),
            (&[], "keys=a", "", Ok(None)),
        ] {
            let found = found.map(|key| key.map(str::to_owned));
            assert_eq!(find(headers, query, body), found, "{query} {body}");
        }
    }

    #[test]
    fn a_record_key_is_the_digest_of_its_scope_part_by_part() {
        let mut headers = HeaderMap::new();
        for value in ["Bearer a", "Bearer b"] {
            headers.append("authorization", HeaderValue::from_static(value));
        }
        let (method, path, query) = (&Method::POST, "/v1/payments", None);
        let request = RequestView { method, path, query, headers: &headers, body: &Bytes::new() };
        let names = ["authorization", "x-api-key"].map(HeaderName::from_static);
        let scope = ScopeRule::Credentials(names.to_vec()).scope("payments", &request);
        let (index, key) = (Secret::new([1; 32]), IdempotencyKey::parse(b"k-1").unwrap());

        let (two, none) = (2u64.to_be_bytes(), 0u64.to_be_bytes());
        let (bearers, no_key) = ([&b"Bearer a"[..], b"Bearer b"], &b"x-api-key"[..]);
        let who = [&b"credentials"[..], b"authorization", &two, bearers[0], bearers[1], no_key];
        let before = [&b"payments"[..], b"POST", b"/v1/payments"];
        let parts = [&before[..], &who, &[&none, b"k-1"]].concat();
        assert_eq!(
            record_key(&index, &scope, &key),
            shortened(index.digest("semel record", &parts))
        );
    }

    proptest! {
        #[test]
        fn a_structured_string_and_its_content_are_the_same_key(key in "[ -~]{1,60}") {
            let quoted = format!("\"{}\"", key.replace('\\', r"\\").replace('"', "\\\""));
            let bare = key.trim();
            prop_assume!(!bare.is_empty() && !bare.starts_with('"') && bare == key);
            prop_assert_eq!(header(quoted.as_bytes()), header(bare.as_bytes()));
        }

        #[test]
        fn no_header_makes_it_panic(value in proptest::collection::vec(0x20..=0xffu8, 0..40)) {
            let value: Vec<_> = value.into_iter().filter(|&byte| byte != 0x7f).collect();
            let _ = header(&value);
        }
    }
}
