//! Claims about what is refused before anything is asked.

use super::super::spec::{AskMethod, LocationSpec, NextSpec, ThenSpec};
use super::*;

fn faulty_question() -> AskSpec {
    AskSpec {
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
        ..AskSpec::get("v1/{{ path.other }}?x=1")
    }
}

#[test]
fn every_fault_is_told_at_once() {
    let spec = Spec {
        request: Some(faulty_question()),
        credentials: vec![("X-Key".to_owned(), SecretText::new("s3\ncret".to_owned()))],
        item: Some("$[?@.r == {{ key }}".to_owned()),
        state: Some(StateSpec {
            path: Some("status".to_owned()),
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
        ..Spec::default()
    };

    let problems = problems(spec);

    let places: Vec<_> = problems.iter().map(|(at, _)| at.as_str()).collect();
    let expected = [
        "timeout",
        "body_max",
        "absent.statuses",
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
        "item",
        "created.path",
        "state",
        "state.path",
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
    let state = StateSpec { path: Some("$.a".to_owned()), ..StateSpec::default() };

    let problems = problems(Spec { state: Some(state), ..Spec::new("/p") });

    assert_eq!(problems[0].0, "state");
}

#[test]
fn values_without_a_path_and_a_state_that_says_nothing_are_faults() {
    for state in [
        StateSpec::default(),
        StateSpec { succeeded: strings(["paid"]), ..StateSpec::default() },
        StateSpec {
            failed_if: Some("$.error".to_owned()),
            accepted: strings(["pending"]),
            ..StateSpec::default()
        },
    ] {
        let problems = problems(Spec { state: Some(state), ..Spec::new("/p") });
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].0, "state");
    }
}

#[test]
fn a_look_up_that_asks_nothing_is_a_fault() {
    let places = |spec: Spec| problems(spec).into_iter().map(|(at, _)| at).collect::<Vec<_>>();
    let then = || ThenSpec { request: AskSpec::get("/b"), item: None };
    let next = || NextSpec {
        query: "after".to_owned(),
        from: "$.next".to_owned(),
        more: None,
        pages: 10,
        newest_first: false,
    };
    let location = || Some(LocationSpec::default());

    assert_eq!(places(Spec::default()), ["request"]);
    assert_eq!(places(Spec { location: location(), ..Spec::default() }), [] as [&str; 0]);
    let orphaned =
        Spec { location: location(), next: Some(next()), then: Some(then()), ..Spec::default() };
    assert_eq!(places(orphaned), ["next", "then"]);
    for (spec, at) in [
        (NextSpec { query: String::new(), ..next() }, "next.query"),
        (NextSpec { from: "next".to_owned(), ..next() }, "next.from"),
        (NextSpec { more: Some("$[".to_owned()), ..next() }, "next.while"),
        (NextSpec { pages: 0, ..next() }, "next.pages"),
        (NextSpec { pages: 101, ..next() }, "next.pages"),
    ] {
        assert_eq!(places(Spec { next: Some(spec), ..Spec::new("/p") }), [at]);
    }
}

#[test]
fn newest_first_needs_to_know_what_is_older() {
    let created = || {
        let path = "$.made".to_owned();
        Some(CreatedSpec { path, unit: TimeUnit::Unix, skew: Duration::ZERO })
    };
    let found = |item: Option<&str>, created| {
        let next = NextSpec {
            query: "after".to_owned(),
            from: "$.next".to_owned(),
            more: None,
            pages: 10,
            newest_first: true,
        };
        let item = item.map(str::to_owned);
        problems(Spec { next: Some(next), item, created, ..Spec::new("/p") })
    };

    for item in ["$.data[*]", "$.a.data[?@.r == {{ key }}]", "$[?@.tags[0] == 'x']"] {
        assert_eq!(found(Some(item), created()), [], "{item}");
        assert_eq!(found(Some(item), None).len(), 1, "{item}");
    }
    for item in [None, Some("$.data"), Some("$.data[?@.a == 1].parts[0]"), Some("$.data[0]")] {
        let problems = found(item, created());
        assert_eq!(problems.len(), 1, "{item:?}: {problems:?}");
        assert_eq!(problems[0].0, "next.newest_first");
    }
}

#[test]
fn a_search_has_a_body_and_nothing_else_has() {
    let found = |method, body: Option<&str>| {
        let request = AskSpec { method, body: body.map(str::to_owned), ..AskSpec::get("/p") };
        problems(Spec { request: Some(request), ..Spec::default() })
    };

    assert_eq!(found(AskMethod::Post, Some(r#"{"r": {{ key }}, "n": [1]}"#)), []);
    for (method, body) in [
        (AskMethod::Post, None),
        (AskMethod::Get, Some("{}")),
        (AskMethod::Post, Some("r={{ key }}")),
        (AskMethod::Post, Some(r#"{"r": "{{ key }}"}"#)),
        (AskMethod::Post, Some(r#"{"r": {{ item.id }}}"#)),
        (AskMethod::Post, Some("")),
    ] {
        let problems = found(method, body);
        assert_eq!(problems.len(), 1, "{body:?}: {problems:?}");
        assert_eq!(problems[0].0, "request.body");
    }
}

#[test]
fn a_callers_secrets_are_never_asked_for() {
    for name in [
        "authorization",
        "Authorization",
        "proxy-authorization",
        "cookie",
        "x-api-key",
        "X_Api_Key",
        "x-auth-token",
        "client-secret",
    ] {
        let template = format!("{{{{ header[\"{name}\"] }}}}");
        let headers = vec![("x".to_owned(), template)];
        let request = Some(AskSpec { headers, ..AskSpec::get("/p") });
        let problems = problems(Spec { request, ..Spec::default() });
        assert_eq!(problems.len(), 1, "{name}: {problems:?}");
        assert!(problems[0].1.contains("`credentials`"), "{problems:?}");
    }
    let dotted = Spec::new("/p/{{ header.authorization }}");
    assert_eq!(problems(dotted).len(), 1);
    assert_eq!(problems(Spec::new("/p/{{ header['stripe-account'] }}")), []);
}
