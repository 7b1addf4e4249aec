//! A retry that this process has told before is told again without the store, and nothing else is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use semel::store::SharedStore;
use semel::store::memory::MemoryStore;

use crate::support::client::{Answer, Ask};
use crate::support::moody::{Mood, MoodyStore};
use crate::support::redis::RedisServer;
use crate::support::scripted::{Scripted, with_length};
use crate::support::sidecar::{Sidecar, config};

/// How long who was told waits for being noted; as `proxy` has it.
const ROUND: Duration = Duration::from_secs(10);

async fn recalled(sidecar: &Sidecar) -> f64 {
    sidecar.metric("semel_claims_total", "verdict=\"recalled\"").await
}

/// How often the store was asked about a record.
async fn asked(sidecar: &Sidecar) -> (f64, f64) {
    let count = |operation| sidecar.metric("semel_store_duration_seconds_count", operation);
    (count("operation=\"swap\"").await, count("operation=\"load\"").await)
}

fn told(answer: &Answer) -> (u16, String, Vec<(String, String)>) {
    let lines = answer.headers.iter().filter(|(name, _)| name != "date");
    (answer.status, answer.text(), lines.cloned().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_replayed_once_needs_no_store_and_elsewhere_one_claim() {
    let redis = RedisServer::start();
    let head =
        "HTTP/1.1 201 Created\r\nSet-Cookie: mine\r\nX-Id: 7\r\nContent-Length: 4\r\n\r\npaid";
    let upstream = Scripted::answering(head.as_bytes().to_vec()).await;
    let (one, two) = (
        Sidecar::on_redis(&redis, upstream.addr(), "").await,
        Sidecar::on_redis(&redis, upstream.addr(), "").await,
    );
    let ask = Ask::pay("a").key("k");
    let fresh = ask.ask(one.addr).await;
    let read = ask.ask(one.addr).await;
    let (before, began) = (asked(&one).await, Instant::now());

    for _ in 0..20 {
        let again = ask.ask(one.addr).await;
        assert_eq!(told(&again), told(&read));
    }

    let (swaps, loads) = asked(&one).await;
    // Once per round it is asked behind the answers whether anybody left: a slow machine's round
    // may be over.
    let rounds = (began.elapsed().as_secs() / ROUND.as_secs()) as f64;
    assert_eq!(swaps, before.0);
    assert!(loads <= before.1 + rounds, "{loads} loads, {before:?} before, {rounds} rounds");
    assert_eq!(recalled(&one).await, 20.0);
    assert_eq!((read.kind(), read.header("idempotent-replayed")), ("replayed", Some("true")));
    assert_eq!(read.operation(), fresh.operation());
    assert_eq!((read.header("set-cookie"), read.header("x-id")), (None, Some("7")));
    let by = "by=\"record\"";
    assert_eq!(one.metric("semel_duplicates_prevented_total", by).await, 21.0);
    let answers = one.metric("semel_requests_total", "answer=\"replayed\"").await;
    assert_eq!(answers, 21.0);

    let before = asked(&two).await;
    let elsewhere = ask.ask(two.addr).await;
    assert_eq!(told(&elsewhere), told(&read));
    assert_eq!(asked(&two).await.0, before.0 + 1.0);
    assert_eq!(upstream.executions(), 1);
}

#[tokio::test]
async fn what_is_recalled_is_told_while_the_store_is_away_and_nothing_else_is() {
    let upstream = Scripted::answering(with_length("201 Created", b"paid")).await;
    let store = Arc::new(MoodyStore::default());
    let shared: SharedStore = Arc::<MoodyStore>::clone(&store);
    let sidecar = Sidecar::start_on(shared, config(upstream.addr(), "")).await;
    let (ask, once) = (Ask::pay("a").key("k"), Ask::pay("b").key("once"));
    for ask in [&ask, &once, &ask] {
        ask.ask(sidecar.addr).await;
    }
    store.set(Mood::Gone);

    let again = ask.ask(sidecar.addr).await;

    assert_eq!((again.status, again.kind(), again.text()), (201, "replayed", "paid".to_owned()));
    // What this process only wrote it has not read; and another body's refusal is the store's word.
    once.ask(sidecar.addr).await.problem(503, "store-unavailable");
    Ask::pay("c").key("k").ask(sidecar.addr).await.problem(503, "store-unavailable");
    store.set(Mood::Well);
    Ask::pay("c").key("k").ask(sidecar.addr).await.problem(422, "key-reused");
    assert_eq!(ask.ask(sidecar.addr).await.kind(), "replayed");
    assert_eq!(upstream.executions(), 2);
}

#[tokio::test]
async fn requests_without_a_key_always_ask_the_store_and_so_does_a_new_process() {
    let upstream = Scripted::answering(with_length("201 Created", b"paid")).await;
    let memory = MemoryStore::default();
    let on = async |route| {
        let store = Arc::new(MemoryStore::sharing(&memory));
        Sidecar::start_on(store, config(upstream.addr(), route)).await
    };
    let route = "key: { missing: fingerprint, window: 1h }";
    let (one, two) = (on(route).await, on(route).await);
    let (keyless, keyed) = (Ask::pay("a"), Ask::pay("b").key("k"));

    for _ in 0..4 {
        assert_eq!(keyless.ask(one.addr).await.status, 201);
    }
    assert_eq!(recalled(&one).await, 0.0);

    for sidecar in [&one, &one, &one, &two] {
        assert_eq!(keyed.ask(sidecar.addr).await.status, 201);
    }
    assert_eq!((recalled(&one).await, recalled(&two).await), (1.0, 0.0));
    assert_eq!(upstream.executions(), 2);
}

#[tokio::test]
async fn who_leaves_what_was_recalled_unanswered_is_recognised_under_another_key() {
    // More than the sockets between them can hold.
    let body = vec![b'x'; 6 << 20];
    let upstream = Scripted::answering(with_length("200 OK", &body)).await;
    let mut config = config(upstream.addr(), "limits: { response_body: 16MiB }");
    config.store.recall = 64 << 20;
    let sidecar = Sidecar::start(config).await;
    let ask = Ask::pay("a").key("k");
    let first = ask.ask(sidecar.addr).await;
    for _ in 0..2 {
        assert_eq!(ask.ask(sidecar.addr).await.kind(), "replayed");
    }
    assert_eq!(recalled(&sidecar).await, 1.0);

    let mut call = ask.send_narrow(sidecar.addr).await;
    call.begun().await;
    assert_eq!(recalled(&sidecar).await, 2.0);
    drop(call);
    sidecar.until_left().await;

    // The retry's answer ends that: the same under one more key is another payment.
    let retry = Ask::pay("a").key("renamed").ask(sidecar.addr).await;
    assert_eq!((retry.kind(), retry.operation()), ("replayed", first.operation()));
    assert_eq!((retry.body.len(), upstream.executions()), (body.len(), 1));
    let mut keys = 0;
    while upstream.executions() == 1 {
        keys += 1;
        assert!(keys < 500, "whoever was told then is not noted");
        Ask::pay("a").key(&format!("other-{keys}")).ask(sidecar.addr).await;
    }
}
