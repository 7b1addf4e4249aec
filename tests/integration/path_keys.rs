//! Where keys come from, who shares them, and what a retry must have in common.

use crate::support::client::Ask;
use crate::support::scripted::{Scripted, with_length};
use crate::support::sidecar::{Sidecar, config};

async fn started(route: &str) -> (Scripted, Sidecar) {
    let upstream = Scripted::answering(with_length("200 OK", b"done")).await;
    let sidecar = Sidecar::start(config(upstream.addr(), route)).await;
    (upstream, sidecar)
}

#[tokio::test]
async fn a_quoted_key_and_a_bare_one_are_the_same() {
    let (upstream, sidecar) = started("").await;

    let bare = Ask::post("/pay").key("order-7").ask(sidecar.addr).await;
    let quoted = Ask::post("/pay").key("\"order-7\"").ask(sidecar.addr).await;

    assert_eq!((bare.kind(), quoted.kind()), ("fresh", "replayed"));
    assert_eq!(bare.operation(), quoted.operation());
    // It goes on as it came.
    assert!(upstream.requests()[0].head.contains("idempotency-key: order-7\r\n"));
    assert_eq!(upstream.executions(), 1);
}

#[tokio::test]
async fn keys_are_found_where_the_route_says() {
    let sources = "key: { sources: [{ header: X-Key }, { json: /meta/id }, { form: \"meta[id]\" }, \
                   { query: id }], missing: reject }";
    let (upstream, sidecar) = started(sources).await;
    let json = |body: &str| Ask::post("/pay").header("Content-Type", "application/json").body(body);
    let form = |body: &str| {
        Ask::post("/pay").header("Content-Type", "application/x-www-form-urlencoded").body(body)
    };
    let asks = [
        (Ask::post("/pay").header("X-Key", "k1"), Ask::post("/pay").header("X-Key", "\"k1\"")),
        (json("{\"meta\":{\"id\":\"k2\"},\"a\":1}"), json("{ \"a\":1, \"meta\":{\"id\":\"k2\"} }")),
        (form("a=1&meta%5Bid%5D=k3"), form("meta[id]=k3&a=1")),
        (Ask::post("/pay?id=k4"), Ask::post("/pay?id=%6b4")),
    ];

    for (first, second) in asks {
        assert_eq!(first.ask(sidecar.addr).await.kind(), "fresh", "{first:?}");
        assert_eq!(second.ask(sidecar.addr).await.kind(), "replayed", "{second:?}");
    }
    Ask::post("/pay").ask(sidecar.addr).await.problem(400, "key-missing");
    assert_eq!(upstream.executions(), 4);
}

#[tokio::test]
async fn malformed_keys_are_refused() {
    let (upstream, sidecar) = started("").await;
    let long = "k".repeat(256);

    for key in ["", "\"\"", &long, "a\tb"] {
        let answer = Ask::post("/pay").key(key).ask(sidecar.addr).await;
        answer.problem(400, "key-invalid");
        assert_eq!(answer.kind(), "refused");
    }
    let two = Ask::post("/pay").key("a").key("b").ask(sidecar.addr).await;
    two.problem(400, "key-invalid");

    let longest = "k".repeat(255);
    assert_eq!(Ask::post("/pay").key(&longest).ask(sidecar.addr).await.kind(), "fresh");
    assert_eq!(upstream.executions(), 1);
}

#[tokio::test]
async fn a_missing_key_passes_where_that_is_wanted() {
    let (upstream, sidecar) = started("key: { missing: pass }").await;

    for _ in 0..2 {
        let answer = Ask::post("/pay").ask(sidecar.addr).await;
        assert_eq!((answer.kind(), answer.text()), ("unguarded", "done".to_owned()));
        assert_eq!(answer.header("semel-operation"), None);
    }
    assert_eq!(upstream.executions(), 2);
    assert_eq!(sidecar.records().await["records"].as_array().map(Vec::len), Some(0));
}

#[tokio::test]
async fn nobody_gets_another_callers_answer() {
    let (upstream, sidecar) = started("").await;
    let ask = |target: &str| Ask::post(target).key("k").body("{}");
    let strangers = [
        ask("/pay").header("Authorization", "Bearer a"),
        ask("/pay").header("Authorization", "Bearer b"),
        ask("/pay").header("X-Api-Key", "a"),
        ask("/pay"),
        ask("/pay/7").header("Authorization", "Bearer a"),
        Ask::new("PUT", "/pay").key("k").body("{}").header("Authorization", "Bearer a"),
    ];

    for stranger in &strangers {
        assert_eq!(stranger.ask(sidecar.addr).await.kind(), "fresh", "{stranger:?}");
    }
    for stranger in &strangers {
        assert_eq!(stranger.ask(sidecar.addr).await.kind(), "replayed", "{stranger:?}");
    }
    assert_eq!(upstream.executions(), strangers.len());
}

#[tokio::test]
async fn a_fixed_scope_is_shared_across_credentials() {
    let (upstream, sidecar) = started("scope: { fixed: shop }").await;

    let ask = |token| Ask::post("/pay").key("k").header("Authorization", token);
    assert_eq!(ask("Bearer old").ask(sidecar.addr).await.kind(), "fresh");
    assert_eq!(ask("Bearer new").ask(sidecar.addr).await.kind(), "replayed");

    assert_eq!(upstream.executions(), 1);
}

#[tokio::test]
async fn a_mismatch_sends_nothing_and_changes_nothing() {
    let ignore = "fingerprint: { ignore: [{ json: /sent_at }] }";
    let (upstream, sidecar) = started(ignore).await;
    let json = |target: &str, body: &str| {
        Ask::post(target).key("k").header("Content-Type", "application/json").body(body)
    };
    let first = json("/pay", "{\"a\":1,\"sent_at\":1}").ask(sidecar.addr).await;
    let before = sidecar.records().await;

    for other in [json("/pay", "{\"a\":2}"), json("/pay?x=1", "{\"a\":1}"), json("/pay", "")] {
        let answer = other.ask(sidecar.addr).await;
        let problem = answer.problem(422, "key-reused");
        assert_eq!((&problem["sent"], &problem["retry"]), (&"no".into(), &"new-key".into()));
        assert_eq!(answer.kind(), "refused");
    }

    let after = sidecar.records().await;
    let states = |records: &serde_json::Value| records["records"][0]["state"].clone();
    assert_eq!(after["records"].as_array().map(Vec::len), Some(1));
    assert_eq!((states(&before), states(&after)), ("settled".into(), "settled".into()));
    let retry = json("/pay", "{\"sent_at\":2,\"a\":1}").ask(sidecar.addr).await;
    assert_eq!((retry.kind(), retry.operation()), ("replayed", first.operation()));
    assert_eq!(upstream.executions(), 1);
}
