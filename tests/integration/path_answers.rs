//! What a guarded request gets, row by row: status, headers, body byte for byte, and how often the
//! upstream was asked.

use semel::demo::provider::Sought;

use crate::support::client::Ask;
use crate::support::rawserver::RawServer;
use crate::support::redis::free_port;
use crate::support::scripted::{Scripted, with_length};
use crate::support::sidecar::{Sidecar, config, provider};

/// What semel itself puts into an answer, and what its server does.
fn upstreams_own(headers: &[(String, String)]) -> Vec<(String, String)> {
    let ours = ["semel-operation", "semel-answer", "idempotent-replayed", "date", "content-length"];
    headers.iter().filter(|(name, _)| !ours.contains(&name.as_str())).cloned().collect()
}

#[tokio::test]
async fn a_first_answer_and_its_replay_are_the_upstreams_byte_for_byte() {
    let every_byte: Vec<u8> = (0..=255).collect();
    let answers: [(&str, &[u8]); 5] = [
        (
            "201 Created\r\nx-b: 2\r\nx-a: 1\r\nx-b: 3\r\ncontent-type: application/x-bytes",
            &every_byte,
        ),
        ("200 OK", b""),
        ("402 Payment Required\r\ncontent-type: application/json", b"{ \"a\":1.0 }\n"),
        ("303 See Other\r\nlocation: http://elsewhere.example/", b"gone there"),
        ("299 Odd\r\nvary: a, b\r\nvary: c\r\nproxy-status: cdn; error=none", b"\r\n\r\n"),
    ];
    for (head, body) in answers {
        let upstream = Scripted::answering(with_length(head, body)).await;
        let sidecar = Sidecar::start(config(upstream.addr(), "")).await;
        let ask = Ask::post("/pay").key("k").body("{}");

        let first = ask.ask(sidecar.addr).await;
        let second = ask.ask(sidecar.addr).await;

        assert_eq!((first.kind(), second.kind()), ("fresh", "replayed"), "{head}");
        assert_eq!(first.header("idempotent-replayed"), None);
        assert_eq!(second.header("idempotent-replayed"), Some("true"));
        assert_eq!(first.operation(), second.operation());
        let lines: Vec<_> = head.lines().skip(1).filter_map(|line| line.split_once(": ")).collect();
        for answer in [&first, &second] {
            assert_eq!(answer.status.to_string(), head[..3], "{head}");
            assert_eq!(answer.body, body, "{head}");
            let mut own = upstreams_own(&answer.headers);
            let mut expected: Vec<_> =
                lines.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
            // Lines of one name keep their order; names among each other need not.
            own.sort_by(|a, b| a.0.cmp(&b.0));
            expected.sort_by(|a, b| a.0.cmp(&b.0));
            assert_eq!(own, expected, "{head}");
        }
        assert_eq!(upstream.executions(), 1);
    }
}

#[tokio::test]
async fn an_answer_without_a_body_stays_without_one() {
    let upstream = Scripted::answering("HTTP/1.1 204 No Content\r\nx: 1\r\n\r\n").await;
    let sidecar = Sidecar::start(config(upstream.addr(), "")).await;
    let ask = Ask::new("DELETE", "/v1/subscriptions/7").key("k");

    for kind in ["fresh", "replayed"] {
        let answer = ask.ask(sidecar.addr).await;

        assert_eq!((answer.status, answer.kind()), (204, kind));
        assert_eq!((answer.header("content-length"), answer.header("x")), (None, Some("1")));
    }
    assert_eq!(upstream.executions(), 1);
}

#[tokio::test]
async fn cookies_go_to_the_first_caller_only() {
    for status in ["200 OK", "202 Accepted", "429 Too Many", "500 Oops"] {
        let head = format!("{status}\r\nset-cookie: session=1");
        let upstream = Scripted::gated(with_length(&head, b"x")).await;
        let outcomes = "outcomes: [{ status: 202, is: accepted }]";
        let sidecar = Sidecar::start(config(upstream.addr(), outcomes)).await;
        let ask = Ask::post("/pay").key("k");

        let owner = ask.send(sidecar.addr).await;
        upstream.until_executions(1).await;
        let follower = ask.send(sidecar.addr).await;
        sidecar.until_waiting(1).await;
        upstream.let_go(1);

        assert_eq!(owner.answer().await.header("set-cookie"), Some("session=1"), "{status}");
        assert_eq!(follower.answer().await.header("set-cookie"), None, "{status}");
        assert_eq!(upstream.executions(), 1);
    }
}

#[tokio::test]
async fn what_was_not_applied_frees_the_key_and_followers_never_dispatch() {
    let answer = with_length("429 Too Many Requests\r\nretry-after: 7", b"slow down");
    let upstream = Scripted::gated(answer).await;
    let sidecar = Sidecar::start(config(upstream.addr(), "")).await;
    let ask = Ask::post("/pay").key("k");

    let owner = ask.send(sidecar.addr).await;
    upstream.until_executions(1).await;
    let follower = ask.send(sidecar.addr).await;
    sidecar.until_waiting(1).await;
    upstream.let_go(1);
    let (owner, follower) = (owner.answer().await, follower.answer().await);

    for answer in [&owner, &follower] {
        assert_eq!((answer.status, answer.kind()), (429, "released"));
        assert_eq!((answer.header("retry-after"), answer.text()), (Some("7"), "slow down".into()));
    }
    assert_eq!(upstream.executions(), 1);
    upstream.let_go(1);
    let again = ask.ask(sidecar.addr).await;
    assert_eq!((again.kind(), upstream.executions()), ("released", 2));
    assert_ne!(again.operation(), owner.operation());
}

#[tokio::test]
async fn an_upstream_that_was_not_reached_is_no_doubt() {
    let nobody = ([127, 0, 0, 1], free_port()).into();
    let sidecar = Sidecar::start(config(nobody, "")).await;

    let answer = Ask::post("/pay").key("k").ask(sidecar.addr).await;

    let problem = answer.problem(502, "upstream-unreachable");
    assert_eq!((&problem["sent"], &problem["retry"]), (&"no".into(), &"same-key".into()));
    assert_eq!((answer.kind(), answer.header("retry-after")), ("released", Some("1")));
    assert_eq!(sidecar.state(answer.operation()).await, "released");
}

#[tokio::test]
async fn an_answer_that_proves_nothing_is_told_and_never_sent_again() {
    let upstream = Scripted::answering(with_length("500 Oops\r\nx: 1", b"\x00oops")).await;
    let sidecar = Sidecar::start(config(upstream.addr(), "")).await;
    let ask = Ask::post("/pay").key("k");

    let first = ask.ask(sidecar.addr).await;
    let retry = ask.ask(sidecar.addr).await;

    assert_eq!((first.status, first.kind(), first.header("x")), (500, "unknown", Some("1")));
    assert_eq!(first.body, b"\x00oops");
    let problem = retry.problem(504, "outcome-unknown");
    assert_eq!((&problem["state"], &problem["upstream_status"]), (&"in-doubt".into(), &500.into()));
    assert_eq!(retry.kind(), "unknown");
    assert_eq!(upstream.executions(), 1);
    assert_eq!(sidecar.state(first.operation()).await, "in-doubt");
}

#[tokio::test]
async fn a_lost_connection_is_not_a_failure_but_not_known() {
    let upstream = RawServer::start(|mut peer| async move {
        peer.request().await?;
        peer.write("HTTP/1.1 201 Created\r\ncontent-length: 9\r\n\r\nhalf").await
    })
    .await;
    let sidecar = Sidecar::start(config(upstream.address, "")).await;
    let ask = Ask::post("/pay").key("k");

    let plain = ask.ask(sidecar.addr).await;
    let preferred = ask.clone().header("Prefer", "wait=1, respond-async").ask(sidecar.addr).await;

    let problem = plain.problem(504, "outcome-unknown");
    assert_eq!((&problem["sent"], &problem["retry"]), (&"unknown".into(), &"same-key".into()));
    assert_eq!(plain.header("retry-after"), Some("5"));
    let location = format!("/.well-known/semel/operations/{}", plain.operation());
    for answer in [&plain, &preferred] {
        assert_eq!((answer.kind(), answer.header("location")), ("unknown", Some(&*location)));
    }
    assert_eq!(preferred.status, 202);
    assert_eq!(preferred.header("preference-applied"), Some("respond-async"));
    assert_eq!(preferred.json()["status"], 202);
    assert_eq!(upstream.executions(), 1);
    assert_eq!(Ask::new("GET", &location).ask(sidecar.addr).await.json()["state"], "in-doubt");
}

#[tokio::test]
async fn a_silent_upstream_is_waited_for_as_long_as_was_agreed() {
    let upstream = Scripted::gated("").await;
    let route = "upstream_timeout: 300ms\nlookup_after: 100ms";
    let sidecar = Sidecar::start(config(upstream.addr(), route)).await;
    let began = std::time::Instant::now();

    let answer = Ask::post("/pay").key("k").ask(sidecar.addr).await;

    answer.problem(504, "outcome-unknown");
    assert!((300..10_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!(sidecar.state(answer.operation()).await, "in-doubt");
}

#[tokio::test]
async fn conflict_says_so_at_once_and_only_while_it_is_true() {
    let upstream = Scripted::gated(with_length("500 Oops", b"")).await;
    let sidecar = Sidecar::start(config(upstream.addr(), "duplicates: conflict")).await;
    let ask = Ask::post("/pay").key("k");
    let owner = ask.send(sidecar.addr).await;
    upstream.until_executions(1).await;

    let duplicate = ask.ask(sidecar.addr).await;
    upstream.let_go(1);
    let owner = owner.answer().await;
    let late = ask.ask(sidecar.addr).await;

    let problem = duplicate.problem(409, "operation-in-flight");
    assert_eq!(problem["state"], "in-flight");
    assert_eq!((duplicate.kind(), duplicate.header("retry-after")), ("refused", Some("1")));
    assert_eq!((owner.status, owner.operation()), (500, duplicate.operation()));
    late.problem(504, "outcome-unknown");
}

#[tokio::test]
async fn refusals_send_nothing_and_say_so() {
    let upstream = Scripted::answering(with_length("200 OK", b"")).await;
    let route = "key: { missing: reject }\nlimits: { request_body: 8B }";
    let sidecar = Sidecar::start(config(upstream.addr(), route)).await;

    let missing = Ask::post("/pay").ask(sidecar.addr).await;
    let large = Ask::post("/pay").key("k").body("123456789").ask(sidecar.addr).await;
    let fits = Ask::post("/pay").key("k").body("12345678").ask(sidecar.addr).await;

    missing.problem(400, "key-missing");
    assert!(missing.header("link").is_some_and(|link| link.ends_with("; rel=\"describedby\"")));
    large.problem(413, "body-too-large");
    for refused in [&missing, &large] {
        assert_eq!((refused.kind(), &refused.json()["sent"]), ("refused", &"no".into()));
    }
    // Nothing was claimed either: the key is not taken by what was too large.
    assert_eq!(fits.kind(), "fresh");
    assert_eq!(upstream.executions(), 1);
}

#[tokio::test]
async fn a_payment_is_charged_once_whatever_goes_wrong_behind_it() {
    let provider = provider();
    let sidecar = Sidecar::start(config(provider.addr(), "")).await;
    let wrongs = [
        "drop-after",
        "reset-after",
        "500-after",
        "truncate",
        "truncate-chunked",
        "close-delimited",
        "both-lengths",
        "upgrade",
        "extra",
        "trickle=1",
        "503-after",
        "202",
    ];
    for wrong in wrongs {
        let ask = Ask::pay(wrong).key(wrong).header("X-Practice", wrong);

        let first = ask.ask(sidecar.addr).await;
        let second = ask.ask(sidecar.addr).await;

        assert_eq!(provider.ledger().count(Sought::Reference(wrong)), 1, "{wrong}");
        assert_eq!(provider.practice().requests_with_reference(wrong), 1, "{wrong}");
        let known = ["fresh", "unknown"].contains(&first.kind());
        assert!(known && ["replayed", "unknown"].contains(&second.kind()), "{wrong}: {first:?}");
        assert_eq!(first.operation(), second.operation(), "{wrong}");
    }
    assert_eq!(sidecar.metric("semel_in_flight", "").await, 0.0);
}
