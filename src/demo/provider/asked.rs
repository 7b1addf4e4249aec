//! What a request says, however it says it: path, query, and a JSON or form body. Pure.
//!
//! Must not know payments. Read by `speaks`.

use http::Method;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::request::Request;

/// How deep the names of form fields nest.
const DEPTH_MAX: usize = 8;

/// A request, read.
pub(super) struct Asked<'a> {
    request: &'a Request,
    segments: Vec<String>,
    /// The fields of the query; `created[gte]=1` is `{"created": {"gte": "1"}}`.
    pub(super) query: Value,
    /// The JSON body, or the fields of a form; null for anything else.
    pub(super) body: Value,
}

impl<'a> Asked<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// If it says that its body is JSON, and it is not.
    pub(super) fn read(request: &'a Request) -> Result<Self, &'static str> {
        let segments = request.uri.path().split('/').filter(|segment| !segment.is_empty());
        let segments = segments.map(decoded).collect();
        let query = nested(request.uri.query().unwrap_or_default().as_bytes());
        Ok(Self { request, segments, query, body: body(request)? })
    }

    pub(super) fn method(&self) -> &str {
        match self.request.method {
            Method::HEAD => "GET",
            ref method => method.as_str(),
        }
    }

    pub(super) fn path(&self) -> &str {
        self.request.uri.path()
    }

    pub(super) fn segments(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    pub(super) fn last_segment(&self) -> &str {
        self.segments.last().map_or("", String::as_str)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.request.header(name)
    }

    /// A text in the query.
    pub(super) fn in_query(&self, pointer: &str) -> Option<&str> {
        self.query.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
    }

    /// A number in the query.
    pub(super) fn number_in_query(&self, pointer: &str) -> Option<u64> {
        self.in_query(pointer)?.parse().ok()
    }

    /// A text in the body.
    pub(super) fn in_body(&self, pointer: &str) -> Option<&str> {
        self.body.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
    }

    /// Anything in the body, or null.
    pub(super) fn value(&self, pointer: &str) -> Value {
        self.body.pointer(pointer).cloned().unwrap_or_default()
    }

    /// A number in the body, which a form writes as text.
    pub(super) fn number(&self, pointer: &str) -> Value {
        let value = self.value(pointer);
        let digits = value.as_str().filter(|_| is_form(self.request));
        digits.and_then(|digits| digits.parse::<i64>().ok()).map_or(value.clone(), Value::from)
    }

    /// An object in the body; an empty one if there is none.
    pub(super) fn object(&self, pointer: &str) -> Map<String, Value> {
        match self.value(pointer) {
            Value::Object(fields) => fields,
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => Map::new(),
        }
    }

    /// Those of these fields of the body that are there.
    pub(super) fn fields(&self, names: &[&str]) -> Map<String, Value> {
        let there = names.iter().filter_map(|name| Some((*name, self.body.get(*name)?.clone())));
        there.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// A segment of a path, without percent signs.
pub(super) fn decoded(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

fn is_form(request: &Request) -> bool {
    request.header("content-type").is_some_and(|its| its.contains("form-urlencoded"))
}

fn body(request: &Request) -> Result<Value, &'static str> {
    if is_form(request) {
        return Ok(nested(&request.body));
    }
    let is_json = request.header("content-type").is_some_and(|its| its.contains("json"));
    if request.body.is_empty() || !is_json {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&request.body).map_err(|_| "the body is not JSON")
}

/// Form fields; `metadata[order]=7` becomes `{"metadata": {"order": "7"}}`, `a[]=7` an array.
fn nested(form: &[u8]) -> Value {
    let mut fields = Value::Object(Map::new());
    for (name, value) in form_urlencoded::parse(form) {
        put(&mut fields, &name, Value::String(value.into_owned()));
    }
    fields
}

fn put(fields: &mut Value, name: &str, value: Value) {
    let (first, rest) = name.split_once('[').map_or((name, None), |(f, r)| (f, Some(r)));
    let inner = rest.and_then(|rest| rest.strip_suffix(']'));
    let path: Vec<&str> = match inner {
        Some(inner) => std::iter::once(first).chain(inner.split("][")).take(DEPTH_MAX).collect(),
        None => vec![name],
    };
    let mut place = fields;
    for segment in path {
        if segment.is_empty() {
            if !place.is_array() {
                *place = Value::Array(Vec::new());
            }
            let Value::Array(items) = place else { return };
            items.push(Value::Null);
            let Some(last) = items.last_mut() else { return };
            place = last;
        } else {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            let Value::Object(inner) = place else { return };
            place = inner.entry(segment).or_insert(Value::Null);
        }
    }
    *place = value;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_of_form_fields_nest() {
        let form =
            b"amount=7&metadata[a]=1&metadata[b][c]=x%20y&methods[]=card&methods[]=ideal&m[=1";

        let fields = nested(form);

        let metadata = json!({"a": "1", "b": {"c": "x y"}});
        let methods = json!(["card", "ideal"]);
        assert_eq!(
            fields,
            json!({"amount": "7", "metadata": metadata, "methods": methods, "m[": "1"})
        );
    }

    #[test]
    fn what_nests_deeper_than_anybody_needs_is_cut() {
        let name = format!("a{}", "[b]".repeat(1000));

        let fields = nested(format!("{name}=1").as_bytes());

        assert_eq!(fields.to_string().matches("\"b\"").count(), DEPTH_MAX - 1);
    }
}
