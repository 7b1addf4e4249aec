//! What answers mean by header and body field, and what follows from an operation that is not there.

use semel::demo::provider::Sought;

use crate::support::client::Ask;
use crate::support::scripted::{Scripted, with_length};
use crate::support::sidecar::{Sidecar, config, provider};

const RULES: &str = "\
max_wait: 100ms
outcomes:
  - { header: { name: transient-error, values: [\"true\"] }, is: unknown }
  - { status: 4xx, body: { json: /error/code, values: [\"704\"] }, is: not_applied }";

#[tokio::test]
async fn a_header_and_a_body_field_say_what_a_status_does_not() {
    for (head, body, kind) in [
        ("422 No\r\nTransient-Error: true", "{}", "unknown"),
        ("422 No\r\ntransient-error: false", "{}", "fresh"),
        ("422 No", "{\"error\":{\"code\":704}}", "released"),
        ("422 No", "{\"error\":{\"code\":\"705\"}}", "fresh"),
        ("200 Yes", "{\"error\":{\"code\":704}}", "fresh"),
    ] {
        let upstream = Scripted::answering(with_length(head, body.as_bytes())).await;
        let sidecar = Sidecar::start(config(upstream.addr(), RULES)).await;

        let answer =
            Ask::pay("a").key("k").header("Accept-Encoding", "gzip").ask(sidecar.addr).await;

        assert_eq!((answer.kind(), answer.text().as_str()), (kind, body), "{head}");
        let sent = upstream.requests()[0].head.to_lowercase();
        assert!(sent.contains("accept-encoding: identity\r\n"), "{sent}");
    }
}

fn absent(then: &str) -> String {
    format!(
        "lookup:\n  request: {{ path: \"/v1/payments/by-reference/{{{{ body.reference }}}}\" }}\n  \
         absent: {{ then: {then}, after: 300ms, times: 2 }}"
    )
}

#[tokio::test]
async fn what_is_absent_for_long_and_often_enough_is_settled_as_never_applied() {
    let provider = provider();
    let sidecar = Sidecar::start(config(provider.addr(), &absent("fail"))).await;
    let ask = Ask::pay("a").key("k").header("X-Practice", "drop-before");

    let first = ask.ask(sidecar.addr).await;
    let second = ask.ask(sidecar.addr).await;

    assert_eq!((first.status, first.kind()), (424, "looked-up"), "{}", first.text());
    assert_eq!((second.status, second.kind()), (424, "replayed"));
    assert!(second.text().contains("/never-applied\""), "{}", second.text());
    assert_eq!(second.json()["retry"], "new-key");
    assert_eq!(provider.practice().requests_with_reference("a"), 1);
    let timeline = sidecar.record(first.operation()).await["timeline"].to_string();
    assert!(timeline.matches("absent").count() >= 2, "{timeline}");
    let asked = format!("/.well-known/semel/operations/{}", first.operation());
    let told = Ask::new("GET", &asked).ask(sidecar.addr).await.json();
    assert_eq!((&told["state"], &told["sent"]), (&"settled".into(), &"unknown".into()), "{told}");
    assert_eq!((&told["retry"], told["upstream_status"].is_null()), (&"new-key".into(), true));
}

#[tokio::test]
async fn what_is_absent_for_long_and_often_enough_frees_its_key() {
    let provider = provider();
    let sidecar = Sidecar::start(config(provider.addr(), &absent("reopen"))).await;
    let ask = Ask::pay("a").key("k");

    let first = ask.clone().header("X-Practice", "drop-before").ask(sidecar.addr).await;
    let state = sidecar.state(first.operation()).await;
    let second = ask.ask(sidecar.addr).await;

    let problem = first.problem(409, "operation-in-flight");
    assert_eq!((&*state, problem["retry"].as_str()), ("released", Some("same-key")));
    assert_eq!((second.status, second.kind()), (201, "fresh"));
    assert_ne!(first.operation(), second.operation());
    assert_eq!(provider.ledger().count(Sought::Reference("a")), 1);
}
