//! Every problem's answer, and that the docs explain each.
#![expect(clippy::unwrap_used, reason = "helpers beside tests")]

use std::fmt::Write as _;
use std::time::Duration;

use semel::proxy::problem::{Problem, Slug};

use crate::support::assert_golden;

/// An answer as it is on the wire, with its body spread out for people.
fn shown(problem: &Problem) -> String {
    let response = problem.response();
    let mut text = format!("{}\n", response.status());
    for (name, value) in response.headers() {
        writeln!(text, "{name}: {}", value.to_str().unwrap()).unwrap();
    }
    let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    write!(text, "{}\n\n", serde_json::to_string_pretty(&body).unwrap()).unwrap();
    text
}

#[test]
fn problems_say_what_they_said_before() {
    let plain: String = Slug::ALL.into_iter().map(|slug| shown(&Problem::new(slug))).collect();
    let full = Problem {
        operation: Some("op_AAAA".into()),
        state: Some("in-doubt"),
        upstream_status: Some(502),
        retry_after: Some(Duration::from_millis(1500)),
        close: true,
        ..Problem::new(Slug::OutcomeUnknown)
    };

    assert_golden("tests/golden/problems.txt", &(plain + &shown(&full)));
}

#[test]
fn the_docs_explain_each_problem_with_its_status_and_nothing_else() {
    let docs = include_str!("../../docs/problems.md");
    let explained: Vec<_> = docs.lines().filter_map(|line| line.strip_prefix("## ")).collect();

    let expected: Vec<_> = Slug::ALL
        .into_iter()
        .map(|slug| format!("`{}` ({})", slug.as_str(), Problem::new(slug).status.as_u16()))
        .collect();

    assert_eq!(explained, expected);
}

#[test]
fn a_canned_answer_is_a_whole_http_response() {
    let canned = Problem::new(Slug::Overloaded).canned();

    let text = std::str::from_utf8(&canned).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();

    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
    assert!(head.contains("connection: close"), "{head}");
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{body}");
}
