//! Claims about look-ups as a whole: what is asked, and how answers are read.

use std::time::UNIX_EPOCH;

use bytes::Bytes;
use http::header::DATE;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use proptest::prelude::*;

use super::spec::{
    AskSpec, BodySpec, CreatedSpec, ProvisionalSpec, ReplySpec, SecretText, Spec, StateSpec,
    TimeUnit,
};
use super::*;
use crate::protocol::outcome::Finding;
use crate::protocol::record::Reply;

mod dates;
mod faults;
mod locations;
mod pages;
mod steps;

const NOW: u64 = 1_800_000_000;

fn subject(inputs: &[(&str, &str)]) -> Subject {
    let inputs = inputs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    Subject::new(inputs.collect(), Duration::from_secs(100), NOW)
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
        path: Some("$.status".to_owned()),
        failed_if: None,
        succeeded: strings(["succeeded", "requires_capture"]),
        accepted: strings(["processing"]),
        failed: strings(["declined"]),
        provisional: None,
    }
}

/// Finds a payment in a list by the reference that the request had.
fn by_reference() -> Spec {
    let query = vec![("reference".to_owned(), "{{ body.reference }}".to_owned())];
    Spec {
        request: Some(AskSpec { query, ..AskSpec::get("/v1/payments") }),
        item: Some("$.data[?@.reference == {{ body.reference | json }}]".to_owned()),
        state: Some(state()),
        failed: Some(ReplySpec { status: 402, ..ReplySpec::default() }),
        ..Spec::default()
    }
}

fn answer(status: u16, body: &str) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::copy_from_slice(body.as_bytes()));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer.headers_mut().insert(DATE, date(NOW));
    answer
}

fn date(unix: u64) -> http::HeaderValue {
    let time = UNIX_EPOCH + Duration::from_secs(unix);
    httpdate::fmt_http_date(time).parse().unwrap()
}

/// The question that a look-up begins with.
fn question(look_up: &LookUp, subject: &Subject) -> Result<Request<Bytes>, String> {
    match look_up.interview(subject) {
        Step::Ask(interview) => Ok(interview.question().clone()),
        Step::Found(Finding::Failed(why)) => Err(why),
        Step::Found(finding) => panic!("{finding:?}"),
    }
}

/// What a look-up of one question makes of the answer.
fn heard(look_up: &LookUp, subject: &Subject, answer: Response<Bytes>) -> Finding {
    let Step::Ask(interview) = look_up.interview(subject) else { panic!("no question") };
    match interview.answer(Ok(answer), NOW) {
        (_, Step::Found(finding)) => finding,
        (_, Step::Ask(more)) => panic!("one more question: {more:?}"),
    }
}

/// Plays a look-up: what was asked, in order, and what was found.
fn play(spec: Spec, answers: &[(u16, &str)]) -> (Vec<String>, Finding) {
    let (look_up, subject) = (compile(spec), subject(&[("key", "k-1"), ("path/id", "p 1")]));
    let mut answers = answers.iter();
    let mut asked = vec![];
    let mut step = look_up.interview(&subject);
    loop {
        let interview = match step {
            Step::Ask(interview) => interview,
            Step::Found(finding) => return (asked, finding),
        };
        asked.push(interview.question().uri().to_string());
        let &(status, body) = answers.next().unwrap_or_else(|| panic!("one more: {asked:?}"));
        step = match status {
            0 => interview.answer(Err(body.to_owned()), NOW).1,
            status => interview.answer(Ok(answer(status, body)), NOW).1,
        };
    }
}

fn read(spec: Spec, status: u16, body: &str) -> Finding {
    let subject = subject(&[("body/reference", "r-1"), ("key", "k-1")]);
    heard(&compile(spec), &subject, answer(status, body))
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
    question(&compile(spec), &subject(inputs)).map(|question| question.uri().to_string())
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
        request: Some(AskSpec {
            query: vec![
                ("created[gte]".to_owned(), "{{ sent_at_unix - 120 }}".to_owned()),
                (
                    "order".to_owned(),
                    "{{ body.metadata.order }}/{{ body[\"/items/0/id\"] }}".to_owned(),
                ),
                ("of".to_owned(), "{{ query.of }}".to_owned()),
            ],
            headers: vec![("X-Account".to_owned(), "{{ header[\"X-Account\"] }}".to_owned())],
            ..AskSpec::get("/v1/payments/{{ path.id }}/events")
        }),
        credentials: vec![(
            "Authorization".to_owned(),
            SecretText::new("Bearer sk_secret".to_owned()),
        )],
        item: Some("$.data[?@.key == {{ key }}]".to_owned()),
        ..Spec::default()
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
    let question = question(&look_up, &subject).unwrap();

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
    let query = vec![("ref".to_owned(), "{{ form['metadata[order]'] | upper }}".to_owned())];
    let request = Some(AskSpec { query, ..AskSpec::get("/p/{{ form.id }}") });
    let spec = Spec { request, ..Spec::default() };
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
    assert_eq!(question(&look_up, &subject).unwrap().uri().to_string(), "/p/7?ref=O-1");
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

    let query = vec![("q".to_owned(), "{{ key }}".to_owned())];
    let request = Some(AskSpec { query, ..AskSpec::get("/p") });
    let query = Spec { request, ..Spec::default() };
    let uri = asked(query, &[("key", "a&admin=1#é+ {{")]);
    assert_eq!(uri, Ok("/p?q=a%26admin%3D1%23%C3%A9%2B%20%7B%7B".to_owned()));

    let headers = vec![("x".to_owned(), "{{ key }}".to_owned())];
    let request = Some(AskSpec { headers, ..AskSpec::get("/p") });
    let header = Spec { request, ..Spec::default() };
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
        let found = heard(&look_up, &subject(&[("key", attack)]), answer(200, &body));
        let Finding::Final(reply) = found else { panic!("{template}: {found:?}") };
        assert!(String::from_utf8_lossy(&reply.body).contains("\"it\""), "{template}");
    }
}

#[test]
fn a_number_that_cannot_be_compared_exactly_is_not_compared() {
    let spec = || Spec { item: Some("$[?@.r == {{ key | int }}]".to_owned()), ..Spec::new("/p") };
    let found = |key: &str, body: &str| {
        heard(&compile(spec()), &subject(&[("key", key)]), answer(200, body))
    };

    assert_eq!(found("7", r#"[{"r":8}, {"r":7}]"#), reply(200, r#"{"r":7}"#));
    // As floating point, these two are equal.
    let why = "a number cannot be compared exactly; compare it as text";
    assert_eq!(found("9007199254740993", r#"[{"r":9007199254740992}]"#), unclear(why));
}

proptest! {
    #[test]
    fn no_value_leaves_its_segment_or_its_parameter(value in "\\PC{1,20}|[./?#&%=\r\n@\\\\]{1,8}") {
        let query = vec![("q".to_owned(), "{{ key }}".to_owned())];
        let request = Some(AskSpec { query, ..AskSpec::get("/v1/{{ key }}/x") });
        let spec = Spec { request, ..Spec::default() };
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
        let found = heard(&look_up, &subject(&text), answer(200, &body));
        prop_assert!(matches!(found, Finding::Final(_)), "{found:?}");
        if other != text {
            prop_assert_eq!(heard(&look_up, &subject(&other), answer(200, &body)), Finding::Absent);
        }
    }

    #[test]
    fn no_answer_makes_it_panic(body: Vec<u8>, status in 100..1000u16) {
        let mut answer = Response::new(Bytes::from(body));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        let finding = heard(&compile(by_reference()), &subject(&[("body/reference", "r")]), answer);
        prop_assert!(!matches!(finding, Finding::Final(_)));
    }
}
