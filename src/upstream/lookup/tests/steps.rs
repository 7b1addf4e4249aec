//! Claims about searches, nested answers and second questions.

use super::super::spec::{AskMethod, NextSpec, ThenSpec};
use super::*;

fn search(body: &str) -> Spec {
    let request =
        AskSpec { method: AskMethod::Post, body: Some(body.to_owned()), ..AskSpec::get("/search") };
    Spec { request: Some(request), ..Spec::default() }
}

#[test]
fn a_search_asks_with_a_document_in_which_values_are_only_values() {
    let spec = search(r#"{"q": {{ key }}, "from": {{ sent_at_unix | rfc3339 }}, "n": 1}"#);
    let evil = "k\", \"admin\": true, \"x\": \"é\r\n{{ key }}";

    let question = question(&compile(spec), &subject(&[("key", evil)])).unwrap();

    assert_eq!(question.method(), Method::POST);
    assert_eq!(question.headers()["content-type"], "application/json");
    let body: serde_json::Value = serde_json::from_slice(question.body()).unwrap();
    let expected = serde_json::json!({"q": evil, "from": "2027-01-15T07:58:20Z", "n": 1});
    assert_eq!(body, expected);
}

#[test]
fn errors_in_an_answer_of_200_are_no_answer() {
    let spec = || Spec {
        errors: Some("$.errors".to_owned()),
        item: Some("$.data.payments[?@.r == {{ key }}]".to_owned()),
        ..search(r#"{"query": "q", "variables": {"r": {{ key }}}}"#)
    };
    let read = |errors: &str, payments: &str| {
        let body = format!(r#"{{"data":{{"payments":[{payments}]}}{errors}}}"#);
        play(spec(), &[(200, &body)]).1
    };
    let mine = r#"{"r":"k-1"}"#;

    for errors in [r#","errors":[{"message":"no"}]"#, r#","errors":"no""#, r#","errors":{"a":1}"#] {
        let failed = Finding::Failed("the answer tells of errors".to_owned());
        assert_eq!(read(errors, ""), failed, "{errors}");
        assert_eq!(read(errors, mine), failed, "{errors}");
    }
    for errors in ["", r#","errors":null"#, r#","errors":[]"#, r#","errors":"""#] {
        assert_eq!(read(errors, ""), Finding::Absent, "{errors}");
        assert_eq!(read(errors, mine), reply(200, mine), "{errors}");
    }
}

#[test]
fn a_nested_operation_is_found_by_the_id_in_the_path() {
    let spec = || Spec {
        item: Some("$.purchase_units[*].payments.captures[?@.custom_id == {{ key }}]".to_owned()),
        state: Some(StateSpec {
            path: Some("$.status".to_owned()),
            succeeded: strings(["COMPLETED"]),
            ..StateSpec::default()
        }),
        ..Spec::new("/v2/checkout/orders/{{ path.id }}")
    };
    let mine = r#"{"id":"c2","custom_id":"k-1","status":"COMPLETED"}"#;
    let order = |captures: &str| {
        format!(
            r#"{{"purchase_units":[{{"payments":{{"captures":[{{"id":"c1"}}]}}}},
            {{"payments":{{"captures":[{captures}]}}}},{{"payments":{{}}}}]}}"#
        )
    };

    let (asked, finding) = play(spec(), &[(200, &order(mine))]);
    assert_eq!((asked, finding), (vec!["/v2/checkout/orders/p%201".to_owned()], reply(200, mine)));
    assert_eq!(play(spec(), &[(200, &order(""))]).1, Finding::Absent);
    let twice = order(&format!("{mine},{mine}"));
    assert_eq!(play(spec(), &[(200, &twice)]).1, unclear("two matches"));
}

/// Finds an order by its receipt, and then its payment.
fn chained() -> Spec {
    let query = vec![("for".to_owned(), "{{ item.id }}-{{ key }}".to_owned())];
    Spec {
        item: Some("$.items[?@.receipt == {{ key }}]".to_owned()),
        then: Some(ThenSpec {
            request: AskSpec { query, ..AskSpec::get("/orders/{{ item.id }}/payments") },
            item: Some("$.items[?@.order == {{ item.id }}]".to_owned()),
        }),
        state: Some(state()),
        ..Spec::new("/orders")
    }
}

const ORDER: &str = r#"{"items":[{"id":"o/../1","receipt":"k-1"}]}"#;

#[test]
fn the_second_question_is_about_what_the_first_one_found() {
    let payment = r#"{"order":"o/../1","status":"succeeded","amount":1.0}"#;
    let payments = format!(r#"{{"items":[{{"order":"2","status":"declined"}},{payment}]}}"#);

    let (asked, finding) = play(chained(), &[(200, ORDER), (200, &payments)]);

    assert_eq!(asked, ["/orders", "/orders/o%2F..%2F1/payments?for=o%2F..%2F1-k-1"]);
    assert_eq!(finding, reply(200, payment));
}

#[test]
fn what_the_first_question_does_not_find_is_absent_and_the_second_is_never_asked() {
    let (asked, finding) = play(chained(), &[(200, r#"{"items":[]}"#)]);

    assert_eq!((asked.len(), finding), (1, Finding::Absent));
}

#[test]
fn what_was_found_once_is_never_absent() {
    for (status, body, finding) in [
        (404, "", unclear("found, but not by the second question")),
        (200, r#"{"items":[]}"#, unclear("it exists, but not where it is looked for")),
        (200, r#"{"items":[{"order":"o/../1"},{"order":"o/../1"}]}"#, unclear("two matches")),
        (200, "<", unclear("it is not JSON")),
        (500, "", Finding::Failed("status 500".to_owned())),
        (401, "", Finding::Failed("status 401".to_owned())),
    ] {
        assert_eq!(play(chained(), &[(200, ORDER), (status, body)]).1, finding, "{status} {body}");
    }
}

#[test]
fn a_value_that_leads_nowhere_is_not_asked_with() {
    for id in ["\"\"", "\".\"", "\"..\"", "null", "{}", "[1]"] {
        let order = format!(r#"{{"items":[{{"id":{id},"receipt":"k-1"}}]}}"#);
        let spec = Spec {
            then: Some(ThenSpec { request: AskSpec::get("/o/{{ item.id }}"), item: None }),
            ..chained()
        };
        let (asked, finding) = play(spec, &[(200, &order)]);
        assert_eq!(asked.len(), 1, "{id}");
        assert!(matches!(finding, Finding::Unclear(_)), "{id}: {finding:?}");
    }
}

#[test]
fn true_and_false_are_written_as_json_spells_them() {
    let query = vec![("live".to_owned(), "{{ item.live }}".to_owned())];
    let request = AskSpec { query, ..AskSpec::get("/o/{{ item.test }}") };
    let spec = Spec { then: Some(ThenSpec { request, item: None }), ..chained() };
    let order = r#"{"items":[{"live":true,"test":false,"receipt":"k-1"}]}"#;

    let (asked, _) = play(spec, &[(200, order), (404, "")]);

    assert_eq!(asked, ["/orders", "/o/false?live=true"]);
}

#[test]
fn the_second_question_comes_after_all_pages() {
    let next = NextSpec {
        query: "after".to_owned(),
        from: "$.next".to_owned(),
        more: None,
        pages: 3,
        newest_first: false,
    };
    let spec = Spec { next: Some(next), ..chained() };
    let first = r#"{"items":[{"id":"1","receipt":"k-1"}],"next":"b"}"#;
    let payments = r#"{"items":[{"order":"1","status":"processing"}]}"#;

    let (asked, finding) = play(spec, &[(200, first), (200, r#"{"items":[]}"#), (200, payments)]);

    assert_eq!(asked, ["/orders", "/orders?after=b", "/orders/1/payments?for=1-k-1"]);
    assert_eq!(finding, Finding::Accepted);
}

#[test]
fn age_is_judged_where_it_shows_first() {
    let spec = || {
        let skew = Duration::from_secs(120);
        let created = CreatedSpec { path: "$.made".to_owned(), unit: TimeUnit::Unix, skew };
        let then = ThenSpec { request: AskSpec::get("/o/{{ item.id }}"), item: None };
        Spec { created: Some(created), then: Some(then), ..chained() }
    };
    let (old, young) = (NOW - 1000, NOW - 90);
    let order = |made: &str| format!(r#"{{"items":[{{"id":1,"receipt":"k-1"{made}}}]}}"#);
    let shown = |at: u64| order(&format!(",\"made\":{at}"));
    let payment = |made: &str| format!(r#"{{"status":"processing"{made}}}"#);
    let played = |order: &str, payment: &str| {
        let (asked, finding) = play(spec(), &[(200, order), (200, payment)]);
        (asked.len(), finding)
    };

    assert_eq!(played(&shown(old), ""), (1, Finding::Absent));
    // In the first answer it was young: what the second says of its own making does not count.
    let payment_of = |at: u64| payment(&format!(",\"made\":{at}"));
    assert_eq!(played(&shown(young), &payment_of(old)), (2, Finding::Accepted));
    assert_eq!(played(&shown(young), &payment("")), (2, Finding::Accepted));
    assert_eq!(played(&order(""), &payment_of(young)), (2, Finding::Accepted));
    assert_eq!(played(&order(""), &payment_of(old)), (2, Finding::Absent));
    let unreadable = unclear("the time of creation cannot be read");
    assert_eq!(played(&order(""), &payment("")), (2, unreadable));
}

#[test]
fn an_error_beside_the_state_means_that_it_failed() {
    let spec = |path: Option<&str>| {
        let state = StateSpec {
            path: path.map(str::to_owned),
            failed_if: Some("$.last_payment_error".to_owned()),
            succeeded: path.map(|_| "succeeded".to_owned()).into_iter().collect(),
            ..StateSpec::default()
        };
        let failed = Some(ReplySpec { status: 402, ..ReplySpec::default() });
        Spec { state: Some(state), failed, ..Spec::new("/p") }
    };
    let body = |error: &str, state: &str| {
        format!(r#"{{"last_payment_error":{error},"status":"{state}"}}"#)
    };

    for state in ["succeeded", "requires_payment_method"] {
        let failed = body(r#"{"code":"card_declined"}"#, state);
        assert_eq!(read(spec(Some("$.status")), 200, &failed), reply(402, &failed));
        assert_eq!(read(spec(None), 200, &failed), reply(402, &failed));
    }
    for none in ["null", "false", "{}", "\"\""] {
        let well = body(none, "succeeded");
        assert_eq!(read(spec(Some("$.status")), 200, &well), reply(200, &well), "{none}");
        assert_eq!(read(spec(None), 200, &well), reply(200, &well), "{none}");
        let open = body(none, "requires_action");
        let finding = read(spec(Some("$.status")), 200, &open);
        assert!(matches!(finding, Finding::Unclear(_)), "{finding:?}");
    }
}

#[test]
fn every_secret_is_shown_to_the_provider_at_every_step_and_to_nobody_else() {
    let secret = SecretText::new("Bearer canary".to_owned());
    let spec = Spec { credentials: vec![("Authorization".to_owned(), secret)], ..chained() };
    let look_up = compile(spec);
    let subject = subject(&[("key", "k-1")]);

    let Step::Ask(first) = look_up.interview(&subject) else { panic!("no question") };
    assert_eq!(first.question().headers()["authorization"], "Bearer canary");
    let (matched, step) = first.answer(Ok(answer(200, ORDER)), NOW);
    assert_eq!(matched, Some(1));
    assert_eq!(step.words(), "one match: the second question is next");
    let Step::Ask(second) = step else { panic!("no second question") };

    assert_eq!(second.question().headers()["authorization"], "Bearer canary");
    let shown = format!("{look_up:?} {:?}", second.question());
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn a_look_up_says_in_words_what_it_asks() {
    let words = compile(chained()).words();
    assert_eq!(words, "GET /orders, then GET /orders/{{ item.id }}/payments");
    assert_eq!(compile(search("{}")).words(), "POST /search");
}
