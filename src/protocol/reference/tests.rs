//! Edited bodies mean what they meant, and have one value more.

use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;

use super::*;

const REFERENCE: &str = "0123456789abcdef";

fn rule(into: Place) -> ReferenceRule {
    let unless = SIGNING_HEADERS.iter().map(|name| HeaderName::from_static(name)).collect();
    ReferenceRule { into, length: 16, unless }
}

fn slot_of(into: Place, headers: &[(&'static str, &'static str)], body: &Bytes) -> Slot {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_static(value));
    }
    let (method, path, query) = (&Method::POST, "/pay", None);
    rule(into).slot(&RequestView { method, path, query, headers: &map, body })
}

fn json_slot(pointer: &str, body: &str) -> Slot {
    let into = Place::Json(pointer.parse().unwrap());
    slot_of(into, &[("content-type", "application/json; charset=utf-8")], &body.to_owned().into())
}

fn form_slot(name: &str, body: &str) -> Slot {
    let into = Place::Form(name.to_owned());
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    slot_of(into, &headers, &body.to_owned().into())
}

/// The body with the reference in it; nothing if it has one, or is left alone.
fn filled(slot: &Slot, body: &str) -> Option<String> {
    let Slot::Open(gap) = slot else { return None };
    let bytes = gap.fill(&Bytes::from(body.to_owned()), REFERENCE);
    Some(String::from_utf8(bytes.to_vec()).unwrap())
}

#[test]
fn a_json_body_gets_one_value_and_keeps_every_other_byte() {
    for (pointer, before, after) in [
        ("/r", "{}", r#"{"r":"R"}"#),
        ("/r", " { \n} ", " {\"r\":\"R\" \n} "),
        ("/r", r#"{ "a" : 1.50 , "b":[ ] }"#, r#"{ "a" : 1.50 , "b":[ ],"r":"R" }"#),
        ("/m/r", r#"{"m":{},"z":1e400}"#, r#"{"m":{"r":"R"},"z":1e400}"#),
        ("/m/r", r#"{"m": {"a": "x"} }"#, r#"{"m": {"a": "x","r":"R"} }"#),
        ("/m/n/r", r#"{"a":"ü"}"#, r#"{"a":"ü","m":{"n":{"r":"R"}}}"#),
        ("/m/n/r", r#"{"m":{"a":0}}"#, r#"{"m":{"a":0,"n":{"r":"R"}}}"#),
        ("/a~1b~0\"", "{}", r#"{"a/b~\"":"R"}"#),
        ("/0", r#"{"1":[]}"#, r#"{"1":[],"0":"R"}"#),
    ] {
        let after = after.replace("\"R\"", &format!("\"{REFERENCE}\""));
        assert_eq!(filled(&json_slot(pointer, before), before), Some(after), "{before}");
    }
}

#[test]
fn a_form_gets_one_field_at_its_end() {
    for (name, before, after) in [
        ("r", "", "r="),
        ("r", "a=1", "a=1&r="),
        ("r", "a=1&", "a=1&r="),
        ("m[r]", "m[a]=1&b=%5B+", "m[a]=1&b=%5B+&m%5Br%5D="),
        ("m[r]", "ma=1&m[rr]=2", "ma=1&m[rr]=2&m%5Br%5D="),
        ("a b&=", "x", "x&a+b%26%3D="),
    ] {
        let after = format!("{after}{REFERENCE}");
        assert_eq!(filled(&form_slot(name, before), before), Some(after), "{before}");
    }
}

#[test]
fn what_the_caller_set_is_the_reference() {
    let given = |text: &str| Slot::Given(text.to_owned());
    assert_eq!(json_slot("/m/r", r#"{"m":{"r":"mi\u006ee"}}"#), given("mine"));
    assert_eq!(json_slot("/m/r", r#"{"m":{"r":17.0}}"#), given("17.0"));
    assert_eq!(form_slot("m[r]", "a=1&m%5Br%5D=mi+ne"), given("mi ne"));
    assert!(!format!("{:?}", given("secret")).contains("secret"));
}

#[test]
fn in_doubt_a_body_is_left_alone() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(500), "]".repeat(500));
    for body in [
        "",
        " ",
        "null",
        "[]",
        "\"\"",
        "{",
        "{}{}",
        "a=1",
        "\u{feff}{}",
        r#"{"m":{},"m":{}}"#,
        r#"{"a":{"b":1,"b":1}}"#,
        r#"{"m":null}"#,
        r#"{"m":[]}"#,
        r#"{"m":[{}]}"#,
        r#"{"m":"r"}"#,
        r#"{"m":{"r":null}}"#,
        r#"{"m":{"r":""}}"#,
        r#"{"m":{"r":true}}"#,
        r#"{"m":{"r":{}}}"#,
        r#"{"m":{"r":"\ud800"}}"#,
        &deep,
    ] {
        assert!(matches!(json_slot("/m/r", body), Slot::Closed(_)), "{body}");
    }
    assert!(matches!(json_slot("/0/r", "[{}]"), Slot::Closed(_)));
    for body in [
        "m[r]=a&m[r]=a",
        "m[r]=",
        "m[r]",
        "m[r]=%ff",
        "m[r]=%zz",
        "m=",
        "a=1&m=x",
        "m[]=1",
        "m[r][]=1",
        "m%5Br%5D%5Bx%5D=1",
    ] {
        assert!(matches!(form_slot("m[r]", body), Slot::Closed(_)), "{body}");
    }
}

#[test]
fn what_is_signed_encoded_or_of_another_type_is_left_alone() {
    let json = ("content-type", "application/json");
    let closed = |headers: &[(&'static str, &'static str)]| {
        let into = Place::Json("/r".parse().unwrap());
        match slot_of(into, headers, &Bytes::from_static(b"{}")) {
            Slot::Closed(why) => Some(why),
            Slot::Open(_) | Slot::Given(_) => None,
        }
    };
    let signed = |name| Some(LeftAlone::Signed(HeaderName::from_static(name)));

    assert_eq!(closed(&[json]), None);
    assert_eq!(closed(&[("content-type", "application/vnd.api+json")]), None);
    assert_eq!(closed(&[json, ("authorization", "Bearer a-signature-hmac")]), None);
    for name in SIGNING_HEADERS {
        assert_eq!(closed(&[json, (name, "")]), signed(name));
    }
    for value in
        ["Signature keyId=\"a\"", "HMAC x", "AWS4-HMAC-SHA256 x", "OAuth oauth_signature=x"]
    {
        assert_eq!(closed(&[json, ("authorization", value)]), signed("authorization"), "{value}");
    }
    assert_eq!(closed(&[json, ("content-encoding", "gzip")]), Some(LeftAlone::Encoded));
    assert_eq!(closed(&[]), Some(LeftAlone::OtherType("JSON")));
    assert_eq!(closed(&[json, json]), Some(LeftAlone::OtherType("JSON")));
    assert_eq!(closed(&[("content-type", "text/plain")]), Some(LeftAlone::OtherType("JSON")));
}

#[test]
fn a_reference_belongs_to_its_record_and_to_the_secret() {
    let [one, other] = [[1; 32], [2; 32]].map(Secret::new);
    let [key, another] = [[1; 16], [2; 16]].map(RecordKey::new);

    let text = drawn(&one, key, 40);

    assert_eq!(text, drawn(&one, key, 40));
    assert!(text.len() == 40 && text.starts_with(&drawn(&one, key, 16)));
    assert_ne!(text, drawn(&one, another, 40));
    assert_ne!(text, drawn(&other, key, 40));
    assert_eq!([drawn(&one, key, 0).len(), drawn(&one, key, 99).len()], [LENGTH_MIN, LENGTH_MAX]);
}

/// JSON documents whose numbers are written in ways that a serialiser would change.
fn documents() -> impl Strategy<Value = String> {
    let space = prop::sample::select(vec!["", " ", "\n\t"]);
    let leaf = prop_oneof![
        prop::sample::select(vec!["null", "true", "1.50", "-0", "1E+2", "12345678901234567890"])
            .prop_map(str::to_owned),
        "[a-z\u{e9}/]{0,4}".prop_map(|text| format!("\"{text}\"")),
    ];
    let value = leaf.prop_recursive(4, 24, 4, |inner| {
        let member = ("[mra-c]", inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..3).prop_map(|items| format!("[{}]", items.join(" ,"))),
            prop::collection::vec(member, 0..4).prop_map(object),
        ]
    });
    let members = prop::collection::vec(("[mra-c]", value), 0..4).prop_map(object);
    (space.clone(), members, space).prop_map(|(a, text, b)| format!("{a}{text}{b}"))
}

fn object(members: Vec<(String, String)>) -> String {
    let members: Vec<_> =
        members.into_iter().map(|(name, value)| format!("\"{name}\" : {value}\n")).collect();
    format!("{{{}}}", members.join(","))
}

/// What a document says, with numbers as they are written and members in their order, but without
/// what the pointer leads to and without objects that this leaves empty.
fn meaning(node: &Node<'_>, without: &[&str]) -> Option<String> {
    Some(match &node.value {
        Value::Object(members) => {
            let kept: Vec<_> = members
                .iter()
                .filter_map(|(name, value)| {
                    let name = name.as_str().unwrap();
                    let (is_on_the_way, below) = match without.split_first() {
                        Some((first, [])) if *first == name => return None,
                        Some((first, below)) if *first == name => (true, below),
                        Some(_) | None => (false, &[][..]),
                    };
                    let text = meaning(value, below)?;
                    let is_made = is_on_the_way && text == "{}";
                    (!is_made).then(|| format!("{name:?}:{text}"))
                })
                .collect();
            format!("{{{}}}", kept.join(","))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().filter_map(|item| meaning(item, &[])).collect();
            format!("[{}]", items.join(","))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            String::from_utf8(node.raw.to_vec()).unwrap()
        }
    })
}

proptest! {
    #[test]
    fn an_edited_document_says_the_same_but_for_one_value(
        body in documents(),
        pointer in prop::sample::select(vec!["/r", "/m/r", "/m/a/r"]),
    ) {
        let Some(edited) = filled(&json_slot(pointer, &body), &body) else { return Ok(()) };
        let (before, after) = (json::parse(body.as_bytes()).unwrap(), json::parse(edited.as_bytes()));
        let after = after.expect("an edited document is one");
        let steps: Vec<_> = pointer.split('/').skip(1).collect();

        prop_assert_eq!(meaning(&before, &steps), meaning(&after, &steps));
        prop_assert_eq!(json_slot(pointer, &edited), Slot::Given(REFERENCE.to_owned()));
        prop_assert!(!after.repeats_a_name());
    }

    #[test]
    fn an_edited_form_says_the_same_and_one_thing_more(
        body in "([amr\\[\\]+%=&]|%41|%5B){0,24}",
        name in prop::sample::select(vec!["r", "m[r]", "m[a][r]"]),
    ) {
        let Some(edited) = filled(&form_slot(name, &body), &body) else { return Ok(()) };
        let mut expected: Vec<_> = form::pairs(body.as_bytes()).collect();
        expected.push((name.into(), REFERENCE.into()));

        prop_assert_eq!(form::pairs(edited.as_bytes()).collect::<Vec<_>>(), expected);
        prop_assert!(edited.starts_with(&body));
        prop_assert_eq!(form_slot(name, &edited), Slot::Given(REFERENCE.to_owned()));
    }

    #[test]
    fn no_body_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..60)) {
        let body = Bytes::from(body);
        for (into, kind) in [
            (Place::Json("/m/r".parse().unwrap()), "application/json"),
            (Place::Form("m[r]".to_owned()), "application/x-www-form-urlencoded"),
        ] {
            if let Slot::Open(gap) = slot_of(into, &[("content-type", kind)], &body) {
                let _ = gap.fill(&body, REFERENCE);
            }
        }
    }
}
