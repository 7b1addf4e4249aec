//! Claims about look-ups as a whole: what is asked, and how answers are read.

use http::{HeaderMap, Method, StatusCode};
use proptest::prelude::*;

use super::spec::{BodySpec, CreatedSpec, ReplySpec, SecretText, Spec, StateSpec, TimeUnit};
use super::*;
use crate::protocol::record::Reply;

const NOW: u64 = 1_800_000_000;

fn subject(inputs: &[(&str, &str)]) -> Subject {
    let inputs = inputs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    Subject { inputs: inputs.collect(), claimed: Duration::from_secs(100), now_unix: NOW }
}

fn compile(spec: Spec) -> LookUp {
    LookUp::compile(spec, &["id"]).unwrap()
}

fn problems(spec: Spec) -> Vec<(String, String)> {
    let problems = LookUp::compile(spec, &["id"]).err().unwrap_or_default();
    problems.into_iter().map(|problem| (problem.at, problem.message)).collect()
}

fn strings<const N: usize>(values: [&str; N]) -> Vec<String> {
    values.map(str::to_owned).to_vec()
}

fn state() -> StateSpec {
    StateSpec {
        path: "$.status".to_owned(),
        succeeded: strings(["succeeded", "requires_capture"]),
        accepted: strings(["processing"]),
        failed: strings(["declined"]),
    }
}

/// Finds a payment in a list by the reference that the request had.
fn by_reference() -> Spec {
    Spec {
        query: vec![("reference".to_owned(), "{{ body.reference }}".to_owned())],
        item: Some("$.data[?@.reference == {{ body.reference | json }}]".to_owned()),
        state: Some(state()),
        failed: Some(ReplySpec { status: 402, ..ReplySpec::default() }),
        ..Spec::new("/v1/payments")
    }
}

fn answer(status: u16, body: &str) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::copy_from_slice(body.as_bytes()));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}

fn read(spec: Spec, status: u16, body: &str) -> Finding {
    compile(spec)
        .read(&subject(&[("body/reference", "r-1"), ("key", "k-1")]), &answer(status, body))
}

fn reply(status: u16, body: &str) -> Finding {
    Finding::Final(Reply {
        status,
        headers: vec![("content-type".to_owned(), b"application/json".to_vec())],
        body: Bytes::copy_from_slice(body.as_bytes()),
    })
}

fn unclear(why: &str) -> Finding {
    Finding::Unclear(why.to_owned())
}

fn asked(spec: Spec, inputs: &[(&str, &str)]) -> Result<String, String> {
    compile(spec).question(&subject(inputs)).map(|question| question.uri().to_string())
}

#[test]
fn an_answer_is_read_by_its_state() {
    let list = |payment: &str| format!(r#"{{"data":[{{"reference":"other"}},{payment}]}}"#);
    let payment =
        |state: &str| format!(r#"{{ "reference":"r-1","amount":10.00,"status":{state}}}"#);
    for (state, status) in
        [("\"succeeded\"", 200), ("\"requires_capture\"", 200), ("\"declined\"", 402)]
    {
        let finding = read(by_reference(), 200, &list(&payment(state)));
        // Byte for byte: 10.00 does not become 10.0.
        assert_eq!(finding, reply(status, &payment(state)), "{state}");
    }
    for (state, finding) in [
        ("\"processing\"", Finding::Accepted),
        ("\"requires_action\"", unclear("no rule names the state \"requires_action\"")),
        ("\"Card 4111 1111\"", unclear("no rule names the state, a text")),
        ("7", unclear("no rule names the state, which is not a text")),
        ("null", unclear("the state is null")),
        ("[\"succeeded\"]", unclear("the state is an array")),
        ("{}", unclear("the state is an object")),
        ("\"succeeded\",\"status\":\"declined\"", unclear("a name is repeated in an object")),
    ] {
        assert_eq!(read(by_reference(), 200, &list(&payment(state))), finding, "{state}");
    }
    let stateless = list(r#"{"reference":"r-1"}"#);
    assert_eq!(read(by_reference(), 200, &stateless), unclear("the state is not one value"));
}

#[test]
fn what_is_not_there_is_absent_and_what_is_no_answer_has_failed() {
    let two = r#"{"data":[{"reference":"r-1"},{"reference":"r-1"}]}"#;
    for (status, body, finding) in [
        (200, r#"{"data":[]}"#, Finding::Absent),
        (200, r#"{"data":[{"reference":"r-10"}]}"#, Finding::Absent),
        (404, "not found", Finding::Absent),
        (200, two, unclear("two matches")),
        (200, "<html>", unclear("it is not JSON")),
        (200, "", unclear("it is not JSON")),
        (200, r#"{"data":[]"#, unclear("it is not JSON")),
        (500, r#"{"data":[]}"#, Finding::Failed("status 500".to_owned())),
        (401, "", Finding::Failed("status 401".to_owned())),
        (302, "", Finding::Failed("status 302".to_owned())),
    ] {
        assert_eq!(read(by_reference(), status, body), finding, "{status} {body}");
    }
}

#[test]
fn absent_statuses_can_be_chosen() {
    let spec = || Spec { absent_statuses: vec![410], ..by_reference() };

    assert_eq!(read(spec(), 410, ""), Finding::Absent);
    assert_eq!(read(spec(), 404, ""), Finding::Failed("status 404".to_owned()));
}

#[test]
fn without_paths_the_answer_is_the_operation_and_its_existence_settles() {
    let body = " {\"id\" : 12345678901234567890123, \"at\":1e2}\n";

    assert_eq!(read(Spec::new("/p"), 200, body), reply(200, body.trim()));
}

#[test]
fn what_is_older_than_the_claim_never_matches() {
    let created = |unit| {
        let skew = Duration::from_secs(120);
        let created = CreatedSpec { path: "$.made".to_owned(), unit, skew };
        Spec { created: Some(created), item: Some("$[*]".to_owned()), ..Spec::new("/p") }
    };
    let earliest = NOW - 100 - 120;
    let young = format!("{{\"made\":{earliest}}}");
    let old = format!("{{\"made\":{}}}", earliest - 1);
    let unix = |items: &str| read(created(TimeUnit::Unix), 200, &format!("[{items}]"));

    assert_eq!(unix(&young), reply(200, &young));
    assert_eq!(unix(&old), Finding::Absent);
    // An older namesake does not make the match ambiguous.
    assert_eq!(unix(&format!("{old},{young}")), reply(200, &young));
    assert_eq!(unix(r#"{"made":"soon"}"#), unclear("the time of creation cannot be read"));
    assert_eq!(unix("{}"), unclear("the time of creation cannot be read"));

    let written = |text: &str| {
        let body = format!("[{{\"made\":\"{text}\"}}]");
        read(created(TimeUnit::Rfc3339), 200, &body)
    };
    // `earliest` is 2027-01-15T07:56:20Z.
    for text in ["2027-01-15T07:56:20Z", "2027-01-15T09:56:20+02:00", "2027-01-15T02:26:20.5-05:30"]
    {
        assert!(matches!(written(text), Finding::Final(_)), "{text}");
    }
    for text in ["2027-01-15T07:56:19Z", "2027-01-15T09:56:19.999+02:00"] {
        assert_eq!(written(text), Finding::Absent, "{text}");
    }
    for text in ["2027-01-15", "2027-01-15T07:56:20", "", "é2:00", "2027-01-15T07:56:20+02"] {
        assert_eq!(written(text), unclear("the time of creation cannot be read"), "{text}");
    }
}

#[test]
fn a_reply_can_be_made_of_the_item() {
    let template = r#"{"id":{{ item.id }},"key":{{ key }},"nested":{{ item.a }}}"#;
    let succeeded = ReplySpec {
        status: 201,
        headers: vec![("X-Source".to_owned(), "lookup".to_owned())],
        body: BodySpec::Template(template.to_owned()),
    };
    let spec = Spec { succeeded, ..Spec::new("/p") };

    let Finding::Final(made) = read(spec.clone(), 200, r#"{"id":"a\"b","a":{"z":1,"b":[]}}"#)
    else {
        panic!("not final")
    };
    assert_eq!(made.status, 201);
    assert_eq!(made.headers[1], ("x-source".to_owned(), b"lookup".to_vec()));
    let body: serde_json::Value = serde_json::from_slice(&made.body).unwrap();
    assert_eq!(body, serde_json::json!({"id": "a\"b", "key": "k-1", "nested": {"z": 1, "b": []}}));

    let Finding::Unclear(why) = read(spec, 200, r#"{"id":"only"}"#) else { panic!("not unclear") };
    assert!(why.starts_with("reply: undefined"), "{why}");
}

#[test]
fn an_item_of_awkward_place_keeps_its_bytes() {
    let spec = Spec { item: Some("$['a/b']['~'][1]".to_owned()), ..Spec::new("/p") };

    assert_eq!(read(spec, 200, r#"{"a/b":{"~":[0, 1.50 ]}}"#), reply(200, "1.50"));
}

#[test]
fn the_question_takes_each_value_from_where_its_name_says() {
    let spec = Spec {
        query: vec![
            ("created[gte]".to_owned(), "{{ sent_at_unix - 120 }}".to_owned()),
            (
                "order".to_owned(),
                "{{ body.metadata.order }}/{{ body[\"/items/0/id\"] }}".to_owned(),
            ),
            ("of".to_owned(), "{{ query.of }}".to_owned()),
        ],
        headers: vec![("X-Account".to_owned(), "{{ header[\"X-Account\"] }}".to_owned())],
        credentials: vec![(
            "Authorization".to_owned(),
            SecretText::new("Bearer sk_secret".to_owned()),
        )],
        item: Some("$.data[?@.key == {{ key }}]".to_owned()),
        ..Spec::new("/v1/payments/{{ path.id }}/events")
    };
    let look_up = compile(spec);
    let mut headers = HeaderMap::new();
    headers.insert("x-account", "acct_1".parse().unwrap());
    let body = br#"{"metadata":{"order":10.50},"items":[{"id":"i & j"}],"card":"4111"}"#;
    let request = RequestView {
        method: &Method::POST,
        path: "/v1/payments/a%2Fb/capture",
        query: Some("of=caf%C3%A9&x=1"),
        headers: &headers,
        body: &Bytes::from_static(body),
    };
    let key = IdempotencyKey::parse(b"k-1").unwrap();
    let known = Known { key: Some(&key), captures: vec![("id", "a%2Fb")], ..Known::default() };

    let inputs = look_up.inputs(&request, &known).unwrap();
    let subject = Subject { inputs, ..subject(&[]) };
    let question = look_up.question(&subject).unwrap();

    assert_eq!(question.method(), Method::GET);
    assert_eq!(
        question.uri().to_string(),
        "/v1/payments/a%2Fb/events?created%5Bgte%5D=1799999780&order=10.50%2Fi%20%26%20j&of=caf%C3%A9"
    );
    assert_eq!(question.headers()["x-account"], "acct_1");
    assert_eq!(question.headers()["authorization"], "Bearer sk_secret");
    let names: Vec<_> = subject.inputs.keys().map(String::as_str).collect();
    let expected = [
        "body/items/0/id",
        "body/metadata/order",
        "header/X-Account",
        "key",
        "path/id",
        "query/of",
    ];
    assert_eq!(names, expected);
    for shown in [format!("{look_up:?}"), format!("{question:?}")] {
        assert!(!shown.contains("sk_secret"), "{shown}");
    }
    for shown in [format!("{subject:?}"), format!("{known:?}")] {
        assert!(!shown.contains("k-1") && !shown.contains("acct_1"), "{shown}");
    }

    let unnamed = RequestView { query: Some("of=1&of=2"), ..request };
    assert_eq!(look_up.inputs(&unnamed, &known), Err("query/of".to_owned()));
    let keyless = Known { key: None, ..known };
    assert_eq!(look_up.inputs(&request, &keyless), Err("key".to_owned()));
}

#[test]
fn form_fields_with_brackets_have_names_too() {
    let spec = Spec {
        query: vec![("ref".to_owned(), "{{ form['metadata[order]'] | upper }}".to_owned())],
        ..Spec::new("/p/{{ form.id }}")
    };
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
    let request = |body: &'static [u8]| (headers.clone(), Bytes::from_static(body));
    let look_up = compile(spec);
    let inputs = |(headers, body): (HeaderMap, Bytes)| {
        let (method, headers, body) = (&Method::POST, &headers, &body);
        let view = RequestView { method, path: "/", query: None, headers, body };
        look_up.inputs(&view, &Known::default())
    };

    let inputs_there = inputs(request(b"id=7&metadata%5Border%5D=o-1")).unwrap();

    let subject = Subject { inputs: inputs_there, ..subject(&[]) };
    assert_eq!(look_up.question(&subject).unwrap().uri().to_string(), "/p/7?ref=O-1");
    let missing = inputs(request(b"id=7"));
    assert_eq!(missing, Err("form/metadata[order]".to_owned()));
}

#[test]
fn a_value_too_long_to_keep_is_missed() {
    let look_up = compile(Spec::new("/p/{{ path.id }}"));
    let long = "x".repeat(1025);
    let view = RequestView {
        method: &Method::POST,
        path: "/",
        query: None,
        headers: &HeaderMap::new(),
        body: &Bytes::new(),
    };
    let known = |id| Known { captures: vec![("id", id)], ..Known::default() };

    assert!(look_up.inputs(&view, &known(&long[1..])).is_ok());
    assert_eq!(look_up.inputs(&view, &known(&long)), Err("path/id".to_owned()));
}

#[test]
fn values_stay_where_they_stand() {
    let path = || Spec::new("/v1/{{ path.id }}");
    for (value, uri) in [
        ("../refunds", "/v1/..%2Frefunds"),
        ("a/b", "/v1/a%2Fb"),
        ("x?y=1#z", "/v1/x%3Fy%3D1%23z"),
        ("a\r\nHost: b", "/v1/a%0D%0AHost%3A%20b"),
        ("{{ key }}", "/v1/%7B%7B%20key%20%7D%7D"),
        ("%2e%2e", "/v1/%252e%252e"),
        ("@evil", "/v1/%40evil"),
    ] {
        assert_eq!(asked(path(), &[("path/id", value)]), Ok(uri.to_owned()), "{value}");
    }
    for value in [".", "..", ""] {
        assert!(asked(path(), &[("path/id", value)]).is_err(), "{value:?}");
    }

    let query = Spec { query: vec![("q".to_owned(), "{{ key }}".to_owned())], ..Spec::new("/p") };
    let uri = asked(query, &[("key", "a&admin=1#é+ {{")]);
    assert_eq!(uri, Ok("/p?q=a%26admin%3D1%23%C3%A9%2B%20%7B%7B".to_owned()));

    let header =
        Spec { headers: vec![("x".to_owned(), "{{ key }}".to_owned())], ..Spec::new("/p") };
    assert!(asked(header.clone(), &[("key", "a\r\nHost: b")]).is_err());
    assert!(asked(header, &[("key", "plain")]).is_ok());
}

#[test]
fn a_value_in_a_path_expression_is_only_a_literal() {
    let attack = r#"" || true || "" == ""#;
    for template in ["{{ key | json }}", "{{ key }}"] {
        let item = Some(format!("$[?@.r == {template}]"));
        let look_up = compile(Spec { item, ..Spec::new("/p") });
        let body = serde_json::json!([{"r": "x"}, {"r": attack, "is": "it"}]).to_string();
        let found = look_up.read(&subject(&[("key", attack)]), &answer(200, &body));
        let Finding::Final(reply) = found else { panic!("{template}: {found:?}") };
        assert!(String::from_utf8_lossy(&reply.body).contains("\"it\""), "{template}");
    }
}

#[test]
fn a_number_that_cannot_be_compared_exactly_is_not_compared() {
    let spec = || Spec { item: Some("$[?@.r == {{ key | int }}]".to_owned()), ..Spec::new("/p") };
    let found =
        |key: &str, body: &str| compile(spec()).read(&subject(&[("key", key)]), &answer(200, body));

    assert_eq!(found("7", r#"[{"r":8}, {"r":7}]"#), reply(200, r#"{"r":7}"#));
    // As floating point, these two are equal.
    let why = "a number cannot be compared exactly; compare it as text";
    assert_eq!(found("9007199254740993", r#"[{"r":9007199254740992}]"#), unclear(why));
}

#[test]
fn every_fault_is_told_at_once() {
    let spec = Spec {
        query: vec![
            ("a".to_owned(), "{{ nope.x }}".to_owned()),
            ("b".to_owned(), "{{ key".to_owned()),
            ("c".to_owned(), "{% if key %}1{% endif %}".to_owned()),
            ("d".to_owned(), "{{ item.id }}".to_owned()),
            ("e".to_owned(), "{{ key | tojson }}".to_owned()),
            ("f".to_owned(), "{{ body }}".to_owned()),
            ("g".to_owned(), "{{ form.a.b }}".to_owned()),
        ],
        headers: vec![
            ("Host".to_owned(), "evil".to_owned()),
            ("no name".to_owned(), "x".to_owned()),
            ("x".to_owned(), "a\nb".to_owned()),
        ],
        credentials: vec![("X-Key".to_owned(), SecretText::new("s3\ncret".to_owned()))],
        item: Some("$[?@.r == {{ key }}".to_owned()),
        state: Some(StateSpec {
            path: "status".to_owned(),
            succeeded: strings(["paid"]),
            failed: strings(["paid"]),
            ..StateSpec::default()
        }),
        created: Some(CreatedSpec {
            path: "$[".to_owned(),
            unit: TimeUnit::Unix,
            skew: Duration::ZERO,
        }),
        succeeded: ReplySpec {
            status: 204,
            headers: vec![("Content-Length".to_owned(), "1".to_owned())],
            body: BodySpec::Template("{{".to_owned()),
        },
        failed: Some(ReplySpec { status: 99, ..ReplySpec::default() }),
        absent_statuses: vec![200, 404],
        timeout: Duration::ZERO,
        body_max: 0,
        ..Spec::new("v1/{{ path.other }}?x=1")
    };

    let problems = problems(spec);

    let places: Vec<_> = problems.iter().map(|(at, _)| at.as_str()).collect();
    let expected = [
        "timeout",
        "body_max",
        "request.path",
        "request.path",
        "request.query.a",
        "request.query.b",
        "request.query.c",
        "request.query.d",
        "request.query.e",
        "request.query.f",
        "request.query.g",
        "request.headers.Host",
        "request.headers.no name",
        "request.headers.x",
        "credentials.X-Key",
        "absent.statuses",
        "item",
        "state",
        "state.path",
        "created.path",
        "reply.succeeded.status",
        "reply.succeeded.headers.Content-Length",
        "reply.succeeded.body",
        "reply.failed.status",
    ];
    assert_eq!(places, expected, "{problems:#?}");
    assert!(problems.iter().all(|(_, message)| !message.contains("s3")), "{problems:#?}");
}

#[test]
fn states_that_name_nothing_are_a_fault() {
    let state = StateSpec { path: "$.a".to_owned(), ..StateSpec::default() };

    let problems = problems(Spec { state: Some(state), ..Spec::new("/p") });

    assert_eq!(problems[0].0, "state");
}

proptest! {
    #[test]
    fn no_value_leaves_its_segment_or_its_parameter(value in "\\PC{1,20}|[./?#&%=\r\n@\\\\]{1,8}") {
        let spec = Spec {
            query: vec![("q".to_owned(), "{{ key }}".to_owned())],
            ..Spec::new("/v1/{{ key }}/x")
        };
        let asked = asked(spec, &[("key", &value)]);
        if value == "." || value == ".." {
            prop_assert!(asked.is_err());
        } else {
            let uri: http::Uri = asked.unwrap().parse().unwrap();
            let segments: Vec<_> = uri.path().split('/').collect();
            prop_assert_eq!(segments.len(), 4);
            let decoded = percent_decode_str(segments[2]).decode_utf8().unwrap();
            prop_assert_eq!(decoded.as_ref(), value.as_str());
            let pairs: Vec<_> =
                form_urlencoded::parse(uri.query().unwrap().as_bytes()).into_owned().collect();
            prop_assert_eq!(pairs, [("q".to_owned(), value)]);
        }
    }

    #[test]
    fn any_text_is_found_by_a_path_expression_and_no_other(
        text in "\\PC{0,12}|[\"'\\\\\\]\\[@$. u\u{0}-\u{1f}\u{7f}]{0,12}",
        other in "\\PC{0,12}",
    ) {
        let look_up = compile(Spec {
            item: Some("$[?@.r == {{ key }}]".to_owned()),
            ..Spec::new("/p")
        });
        let body = serde_json::json!([{"r": text}]).to_string();
        let subject = |key: &str| subject(&[("key", key)]);
        let found = look_up.read(&subject(&text), &answer(200, &body));
        prop_assert!(matches!(found, Finding::Final(_)), "{found:?}");
        if other != text {
            prop_assert_eq!(look_up.read(&subject(&other), &answer(200, &body)), Finding::Absent);
        }
    }

    #[test]
    fn no_answer_makes_it_panic(body: Vec<u8>, status in 100..1000u16) {
        let mut answer = Response::new(Bytes::from(body));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        let finding = compile(by_reference()).read(&subject(&[("body/reference", "r")]), &answer);
        prop_assert!(!matches!(finding, Finding::Final(_)));
    }
}
