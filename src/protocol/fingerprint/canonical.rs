//! What of a request counts, written down so that two requests yield the same bytes exactly if they
//! mean the same.

use http::HeaderName;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use sha2::{Digest as _, Sha256};

use super::{FingerprintRules, Ignore};
use crate::protocol::form;
use crate::protocol::json::{self, Node, Pointer, Text, Value};
use crate::protocol::key::{KeySource, RequestView};

/// The digest of what a request means, without the place where its key stood: equal for two
/// requests exactly if they mean the same.
///
/// In doubt two requests differ: that is refused, where a false match would answer a payment with
/// the result of another. So JSON is compared by structure, but numbers as they are written,
/// repeated names each for itself and strings without Unicode normalisation; forms and queries by
/// their decoded pairs, in any order but that of equal names; and everything else, all that is not
/// well-formed or is compressed, and JSON beyond [`json::DEPTH_MAX`] or [`json::VALUES_MAX`], by
/// its bytes.
pub fn canonical_digest(
    rules: &FingerprintRules,
    place: Option<&KeySource>,
    request: &RequestView<'_>,
) -> [u8; 32] {
    let sources = place.map(std::slice::from_ref).unwrap_or_default();
    let mut stream = Stream::new();
    stream.part(request.method.as_str().as_bytes());
    stream.part(request.path.as_bytes());
    let key_parameters = sources.iter().filter_map(|source| match source {
        KeySource::Query(name) => Some(name.as_str()),
        KeySource::Header(_) | KeySource::Json(_) | KeySource::Form(_) => None,
    });
    match request.query.map(str::as_bytes) {
        None => stream.tag("no query"),
        Some(query) if form::is_well_formed(query) => {
            stream.tag("query");
            pairs(&mut stream, query, &key_parameters.collect::<Vec<_>>());
        }
        Some(query) => {
            stream.tag("query as it came");
            stream.part(query);
        }
    }
    for name in &rules.headers {
        header(&mut stream, request, name);
    }
    body(&mut stream, rules, sources, request);
    stream.digest()
}

fn header(stream: &mut Stream, request: &RequestView<'_>, name: &HeaderName) {
    let values: Vec<_> = request.headers.get_all(name).iter().collect();
    stream.tag("header");
    stream.part(name.as_str().as_bytes());
    stream.count(values.len());
    for value in values {
        stream.part(value.as_bytes());
    }
}

fn body(
    stream: &mut Stream,
    rules: &FingerprintRules,
    sources: &[KeySource],
    request: &RequestView<'_>,
) {
    header(stream, request, &CONTENT_ENCODING);
    let media_type = request.media_type();
    match &media_type {
        Some(media_type) => {
            stream.tag("type");
            stream.part(media_type.as_bytes());
        }
        None => header(stream, request, &CONTENT_TYPE),
    }
    let media_type = media_type.unwrap_or_default();
    let plain = !request.headers.contains_key(CONTENT_ENCODING);
    if plain && (media_type == "application/json" || media_type.ends_with("+json")) {
        if let Ok(root) = json::parse(request.body) {
            let left_out = pointers(rules, sources);
            stream.tag("json");
            structure(stream, &root, &left_out.iter().map(Pointer::tokens).collect::<Vec<_>>());
            return;
        }
    } else if plain && request.is_form() && form::is_well_formed(request.body) {
        stream.tag("form");
        pairs(stream, request.body, &fields(rules, sources));
        return;
    }
    stream.tag("bytes");
    stream.part(request.body);
}

/// The JSON pointers that do not count.
fn pointers(rules: &FingerprintRules, sources: &[KeySource]) -> Vec<Pointer> {
    let ignored = rules.ignore.iter().filter_map(|ignore| match ignore {
        Ignore::Json(pointer) => Some(pointer),
        Ignore::Form(_) => None,
    });
    let keys = sources.iter().filter_map(|source| match source {
        KeySource::Json(pointer) => Some(pointer),
        KeySource::Header(_) | KeySource::Form(_) | KeySource::Query(_) => None,
    });
    ignored.chain(keys).filter_map(|pointer| pointer.parse().ok()).collect()
}

/// The form fields that do not count.
fn fields<'a>(rules: &'a FingerprintRules, sources: &'a [KeySource]) -> Vec<&'a str> {
    let ignored = rules.ignore.iter().filter_map(|ignore| match ignore {
        Ignore::Form(name) => Some(name.as_str()),
        Ignore::Json(_) => None,
    });
    let keys = sources.iter().filter_map(|source| match source {
        KeySource::Form(name) => Some(name.as_str()),
        KeySource::Header(_) | KeySource::Json(_) | KeySource::Query(_) => None,
    });
    ignored.chain(keys).collect()
}

fn pairs(stream: &mut Stream, raw: &[u8], left_out: &[&str]) {
    let mut pairs: Vec<_> = form::pairs(raw)
        .filter(|(name, _)| !left_out.iter().any(|left_out| left_out.as_bytes() == name))
        .collect();
    // Stable: values of one name keep their order, which lists rely on.
    pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
    stream.count(pairs.len());
    for (name, value) in pairs {
        stream.part(&name);
        stream.part(&value);
    }
}

/// A JSON value, without what the pointers lead to. No deeper than the reader went.
fn structure(stream: &mut Stream, node: &Node<'_>, left_out: &[&[String]]) {
    match &node.value {
        Value::Null => stream.tag("null"),
        Value::Bool(true) => stream.tag("true"),
        Value::Bool(false) => stream.tag("false"),
        Value::Number(lexeme) => {
            stream.tag("number");
            stream.part(lexeme.as_bytes());
        }
        Value::String(text) => {
            stream.tag("string");
            stream.part(text.as_bytes());
        }
        Value::Array(items) => {
            let kept = |(index, item)| match left_out {
                [] => Some((item, vec![])),
                _ => Some((item, below(left_out, usize::to_string(&index).as_bytes())?)),
            };
            let kept: Vec<_> = items.iter().enumerate().filter_map(kept).collect();
            stream.tag("array");
            stream.count(kept.len());
            for (item, left_out) in kept {
                structure(stream, item, &left_out);
            }
        }
        Value::Object(members) => {
            let kept = |(name, value)| {
                let name = Text::as_bytes(name);
                Some((name, value, below(left_out, name)?))
            };
            let mut kept: Vec<_> = members.iter().map(|(n, v)| (n, v)).filter_map(kept).collect();
            // Stable: repeated names keep their order, since one reader takes the first of them
            // and another the last.
            kept.sort_by_key(|(name, ..)| *name);
            stream.tag("object");
            stream.count(kept.len());
            for (name, value, left_out) in kept {
                stream.part(name);
                structure(stream, value, &left_out);
            }
        }
    }
}

/// What is left out below a step; `None` if the step itself is.
fn below<'p>(left_out: &[&'p [String]], step: &[u8]) -> Option<Vec<&'p [String]>> {
    let mut rest = vec![];
    for pointer in left_out {
        match pointer.split_first() {
            Some((first, [])) if first.as_bytes() == step => return None,
            Some((first, after)) if first.as_bytes() == step => rest.push(after),
            Some(_) | None => {}
        }
    }
    Some(rest)
}

/// A stream of parts in which no two lists of parts look the same: each has its length in front.
struct Stream(Sha256);

impl Stream {
    fn new() -> Self {
        let mut stream = Self(Sha256::new());
        stream.tag("semel canonical request 1");
        stream
    }

    fn tag(&mut self, tag: &'static str) {
        self.part(tag.as_bytes());
    }

    fn part(&mut self, part: &[u8]) {
        self.count(part.len());
        self.0.update(part);
    }

    fn count(&mut self, count: usize) {
        self.0.update((count as u64).to_be_bytes());
    }

    fn digest(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Method};
    use proptest::prelude::*;

    use super::*;

    const JSON: &str = "application/json";
    const FORM: &str = "application/x-www-form-urlencoded";

    /// A payment, but for what a test changes.
    struct Sent {
        method: Method,
        path: &'static str,
        query: Option<&'static str>,
        headers: Vec<(&'static str, &'static str)>,
        body: Vec<u8>,
    }

    fn sent(content_type: &'static str, body: impl AsRef<[u8]>) -> Sent {
        Sent {
            method: Method::POST,
            path: "/v1/payments",
            query: None,
            headers: vec![("content-type", content_type)],
            body: body.as_ref().to_vec(),
        }
    }

    impl Sent {
        /// Digests it as if its key had stood in the first of these places.
        fn digest(&self, rules: &FingerprintRules, sources: &[KeySource]) -> [u8; 32] {
            let mut headers = HeaderMap::new();
            for (name, value) in &self.headers {
                headers.append(*name, HeaderValue::from_static(value));
            }
            let body = Bytes::from(self.body.clone());
            let (method, path, query) = (&self.method, self.path, self.query);
            let request = RequestView { method, path, query, headers: &headers, body: &body };
            canonical_digest(rules, sources.first(), &request)
        }

        fn plain(&self) -> [u8; 32] {
            self.digest(&FingerprintRules::default(), &[])
        }
    }

    fn ignoring(ignore: Vec<Ignore>) -> FingerprintRules {
        FingerprintRules { headers: vec![], ignore }
    }

    fn pointer(text: &str) -> Ignore {
        Ignore::Json(text.to_owned())
    }

    #[test]
    fn json_that_means_the_same_is_the_same() {
        for (one, other) in [
            (r#"{"a":1,"b":[true,null]}"#, " {\"b\" : [ true,\tnull ],\r\n\"a\":1 } "),
            (r#"{"a":"é/"}"#, r#"{"\u0061":"\u00e9\/"}"#),
            (r#"{"a":"😀"}"#, r#"{"a":"\uD83D\uDE00"}"#),
            (r#"{"a":1,"a":2}"#, r#"{ "a":1, "a":2 }"#),
        ] {
            assert_eq!(sent(JSON, one).plain(), sent(JSON, other).plain(), "{one}");
        }
    }

    #[test]
    fn what_other_canonical_forms_confuse_differs() {
        for (one, other) in [
            ("9007199254740993", "9007199254740992"),
            ("18446744073709551615", "18446744073709551614"),
            ("123456789012345678901", "123456789012345678902"),
            ("100", "100.0"),
            ("100", "1e2"),
            ("1E2", "1e2"),
            ("0", "-0"),
            ("0.1", "0.1000000000000000055"),
            ("1e400", "1e401"),
            (r#"{"amount":1,"amount":2}"#, r#"{"amount":2}"#),
            (r#"{"amount":1,"amount":2}"#, r#"{"amount":2,"amount":1}"#),
            (r#""\u00e9""#, r#""e\u0301""#),
            (r#""\ud800""#, r#""\udbff""#),
            ("1", r#""1""#),
            ("null", r#""null""#),
            ("[]", "{}"),
            ("[[1],2]", "[[1,2]]"),
            (r#"["a","b"]"#, r#"["b","a"]"#),
            (r#"["ab"]"#, r#"["a","b"]"#),
            (r#"{"a":{"b":1}}"#, r#"{"a":{},"b":1}"#),
            (r#"{"a":null}"#, "{}"),
            (r#"{"a":1}"#, r#"{"b":1}"#),
            (r#"{"a":1,"b":2}"#, r#"{"a":2,"b":1}"#),
        ] {
            assert_ne!(sent(JSON, one).plain(), sent(JSON, other).plain(), "{one} {other}");
        }
    }

    #[test]
    fn what_is_no_json_is_compared_by_bytes() {
        let deep = |inner: &str| format!("{}{inner}{}", "[".repeat(200), "]".repeat(200));
        assert_eq!(sent(JSON, deep("1")).plain(), sent(JSON, deep("1")).plain());
        assert_ne!(sent(JSON, deep("1")).plain(), sent(JSON, deep(" 1")).plain());
        assert_ne!(sent(JSON, "{a:1}").plain(), sent(JSON, "{a: 1}").plain());
        assert_ne!(sent("text/plain", "[1]").plain(), sent("text/plain", "[ 1]").plain());
        // By its type's suffix it is JSON all the same.
        let problem = "application/problem+json";
        assert_eq!(sent(problem, "[1]").plain(), sent(problem, "[ 1]").plain());
    }

    #[test]
    fn a_compressed_body_is_never_read() {
        let mut one = sent(JSON, "[1]");
        one.headers.push(("content-encoding", "gzip"));
        let mut other = sent(JSON, "[ 1]");
        other.headers.push(("content-encoding", "gzip"));

        assert_ne!(one.plain(), other.plain());
        assert_ne!(one.plain(), sent(JSON, "[1]").plain());
    }

    #[test]
    fn forms_are_compared_by_name_and_equal_names_by_order() {
        for (one, other) in [("a=1&b=2", "b=2&a=1"), ("a=x%20y&b=%5B", "b=[&a=x+y"), ("a", "&a=")] {
            assert_eq!(sent(FORM, one).plain(), sent(FORM, other).plain(), "{one}");
        }
        for (one, other) in [
            ("a=1&a=2", "a=2&a=1"),
            ("a=1&a=1", "a=1"),
            ("a=%FF", "a=%FE"),
            ("a=%zz", "a=%25zz"),
            ("a=1%26b=2", "a=1&b=2"),
            ("a=1", "A=1"),
            ("ab=c", "a=bc"),
        ] {
            assert_ne!(sent(FORM, one).plain(), sent(FORM, other).plain(), "{one} {other}");
        }
    }

    #[test]
    fn the_kinds_of_bodies_never_collide() {
        let kinds = [JSON, FORM, "text/plain", "application/octet-stream"];
        let digests: Vec<_> = kinds.iter().map(|kind| sent(kind, "1").plain()).collect();

        for (index, digest) in digests.iter().enumerate() {
            assert!(!digests[index + 1..].contains(digest), "{}", kinds[index]);
        }
    }

    #[test]
    fn method_path_query_and_chosen_headers_count() {
        let base = || sent(JSON, "{}");
        let rules = FingerprintRules {
            headers: vec![HeaderName::from_static("stripe-version")],
            ignore: vec![],
        };
        let mut variants = vec![base()];
        variants.push(Sent { method: Method::PUT, ..base() });
        variants.push(Sent { path: "/v1/refunds", ..base() });
        for query in ["", "a=1", "a=1&a=2", "a=2&a=1", "a=%zz", "a=%25zz", "a=%FF", "a=%FE"] {
            variants.push(Sent { query: Some(query), ..base() });
        }
        for values in [&["1"][..], &["1", "2"], &["2", "1"], &["12"]] {
            let headers = values.iter().map(|value| ("stripe-version", *value));
            let headers = std::iter::once(("content-type", JSON)).chain(headers).collect();
            variants.push(Sent { headers, ..base() });
        }
        let digests: Vec<_> = variants.iter().map(|sent| sent.digest(&rules, &[])).collect();

        for (index, digest) in digests.iter().enumerate() {
            assert!(!digests[index + 1..].contains(digest), "variant {index}");
        }
        let one = Sent { query: Some("b=2&a=1"), ..base() };
        let other = Sent { query: Some("a=%31&b=2"), ..base() };
        assert_eq!(one.plain(), other.plain());
        let unchosen = Sent { headers: vec![("content-type", JSON), ("date", "x")], ..base() };
        assert_eq!(unchosen.digest(&rules, &[]), base().digest(&rules, &[]));
        let charset = sent("Application/JSON; charset=utf-8", "{}");
        assert_eq!(charset.plain(), base().plain());
    }

    #[test]
    fn ignored_places_do_not_count_and_their_neighbours_do() {
        let rules = ignoring(vec![pointer("/meta/at"), pointer("/items/1/seen"), pointer("/a~1b")]);
        let digest = |body: &str| sent(JSON, body).digest(&rules, &[]);
        let base = digest(r#"{"meta":{"at":1,"by":2},"items":[{"seen":1},{"seen":1}]}"#);

        for same in [
            r#"{"meta":{"at":[7],"by":2},"items":[{"seen":1},{"seen":2}]}"#,
            r#"{"meta":{"by":2},"items":[{"seen":1},{}],"a/b":{"c":1}}"#,
            r#"{"meta":{"at":1,"by":2,"at":2},"items":[{"seen":1},{"seen":1}]}"#,
        ] {
            assert_eq!(digest(same), base, "{same}");
        }
        for other in [
            r#"{"meta":{"at":1,"by":3},"items":[{"seen":1},{"seen":1}]}"#,
            r#"{"meta":{"at":1,"by":2},"items":[{"seen":2},{"seen":1}]}"#,
            r#"{"meta":{"at":1,"by":2},"items":[{"seen":1},{"seen":1},{}]}"#,
            r#"{"meta":{"at":1,"by":2},"items":[{"seen":1},{"seen":1}],"at":1}"#,
        ] {
            assert_ne!(digest(other), base, "{other}");
        }
        let rules = ignoring(vec![Ignore::Form("metadata[at]".to_owned())]);
        let digest = |body: &str| sent(FORM, body).digest(&rules, &[]);
        assert_eq!(digest("a=1&metadata%5Bat%5D=5"), digest("a=1"));
        assert_ne!(digest("a=1&metadata%5Bby%5D=5"), digest("a=1"));
    }

    #[test]
    fn the_place_where_the_key_stood_does_not_count() {
        let json = KeySource::Json("/key".to_owned());
        let form = KeySource::Form("key".to_owned());
        let parameter = KeySource::Query("key".to_owned());
        let digest = |sent: Sent, place: &KeySource| {
            sent.digest(&FingerprintRules::default(), std::slice::from_ref(place))
        };

        assert_eq!(
            digest(sent(JSON, r#"{"key":"a","n":1}"#), &json),
            digest(sent(JSON, r#"{"n":1,"key":"b"}"#), &json)
        );
        assert_eq!(digest(sent(FORM, "key=a&n=1"), &form), digest(sent(FORM, "n=1&key=b"), &form));
        let query = |query| Sent { query: Some(query), ..sent(JSON, "{}") };
        let same = digest(query("n=1&key=a"), &parameter);
        assert_eq!(same, digest(query("key=b&n=1"), &parameter));
        assert_ne!(same, digest(query("n=2&key=a"), &parameter));
        // Where the key stood elsewhere, what stands here is content.
        assert_ne!(digest(query("n=1&key=a"), &json), digest(query("n=1&key=b"), &json));
    }

    /// A document without a form yet: numbers and words as they are to be written.
    #[derive(Debug, Clone)]
    enum Tree {
        Word(&'static str),
        Text(String),
        List(Vec<Self>),
        Members(std::collections::BTreeMap<String, Self>),
    }

    fn tree() -> impl Strategy<Value = Tree> {
        let words = prop::sample::select(vec!["0", "-1", "1.0", "1e2", "true", "null", "1e400"]);
        let leaf = prop_oneof![words.prop_map(Tree::Word), any::<String>().prop_map(Tree::Text)];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Tree::List),
                prop::collection::btree_map("[a-cé\"]{0,2}", inner, 0..5).prop_map(Tree::Members),
            ]
        })
    }

    /// Writes a tree in one of many ways; `style` says which.
    fn write(tree: &Tree, style: &mut impl Iterator<Item = u8>, out: &mut String) {
        let spaces = ["", " ", "\n", "\t\r"];
        let mut next = || style.next().unwrap_or_default();
        out.push_str(spaces[usize::from(next() % 4)]);
        match tree {
            Tree::Word(word) => out.push_str(word),
            Tree::Text(text) => write_text(text, next(), out),
            Tree::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    write(item, style, out);
                }
                out.push(']');
            }
            Tree::Members(members) => {
                let mut members: Vec<_> = members.iter().collect();
                let turn = usize::from(next()) % members.len().max(1);
                members.rotate_left(turn);
                out.push('{');
                for (index, (name, value)) in members.into_iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    write_text(name, style.next().unwrap_or_default(), out);
                    out.push_str(" :");
                    write(value, style, out);
                }
                out.push('}');
            }
        }
        out.push_str(spaces[usize::from(style.next().unwrap_or_default() % 4)]);
    }

    fn write_text(text: &str, style: u8, out: &mut String) {
        out.push('"');
        for (index, unit) in text.char_indices() {
            let escaped = (index + usize::from(style)) % 3 == 0;
            if escaped || unit < ' ' || unit == '"' || unit == '\\' {
                for unit in unit.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            } else {
                out.push(unit);
            }
        }
        out.push('"');
    }

    proptest! {
        #[test]
        fn the_way_a_document_is_written_does_not_count(tree in tree(), style: Vec<u8>) {
            let (mut plain, mut styled) = (String::new(), String::new());
            write(&tree, &mut std::iter::empty(), &mut plain);
            write(&tree, &mut style.into_iter().cycle().take(10_000), &mut styled);
            prop_assert_eq!(sent(JSON, plain).plain(), sent(JSON, styled).plain());
        }

        #[test]
        fn documents_that_differ_differ(one in tree(), other in tree()) {
            let (mut left, mut right) = (String::new(), String::new());
            write(&one, &mut std::iter::empty(), &mut left);
            write(&other, &mut std::iter::empty(), &mut right);
            prop_assert_eq!(left == right, sent(JSON, left).plain() == sent(JSON, right).plain());
        }

        #[test]
        fn no_body_makes_it_panic(body: Vec<u8>, kind in prop::sample::select(vec![JSON, FORM, ""])) {
            let rules = ignoring(vec![pointer("/a/0"), pointer(""), pointer("no pointer")]);
            let digest = sent(kind, &body).digest(&rules, &[]);
            prop_assert_eq!(digest, sent(kind, &body).digest(&rules, &[]));
        }

        #[test]
        fn a_cut_through_a_form_elsewhere_differs(one in "[a-c=&%+]{0,12}", other in "[a-c=&%+]{0,12}") {
            let meaning = |raw: &str| {
                let mut pairs: Vec<_> = form::pairs(raw.as_bytes()).collect();
                pairs.sort_by(|one, other| one.0.cmp(&other.0));
                pairs
            };
            if meaning(&one) != meaning(&other) {
                prop_assert_ne!(sent(FORM, &one).plain(), sent(FORM, &other).plain());
            }
        }
    }
}
