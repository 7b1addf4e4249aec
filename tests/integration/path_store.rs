//! A store that fails, at any moment, lets nothing through unguarded and loses no answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use semel::store::SharedStore;
use semel::store::memory::MemoryStore;

use crate::support::client::Ask;
use crate::support::moody::{Mood, MoodyStore};
use crate::support::raw::PATIENCE;
use crate::support::redis::RedisServer;
use crate::support::scripted::{Scripted, with_length};
use crate::support::sidecar::{Sidecar, config, until};

async fn started(upstream: &Scripted, route: &str) -> (Arc<MoodyStore>, Sidecar) {
    let store = Arc::new(MoodyStore::default());
    let shared: SharedStore = Arc::<MoodyStore>::clone(&store);
    (store, Sidecar::start_on(shared, config(upstream.addr(), route)).await)
}

async fn until_nothing_flies(sidecar: &Sidecar) {
    let began = Instant::now();
    loop {
        let records = sidecar.records().await.to_string();
        if !records.contains("\"in-flight\"") {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "still in flight: {records}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn without_a_store_nothing_is_sent() {
    for mood in [Mood::Gone, Mood::SilentOnClaims] {
        let upstream = Scripted::answering(with_length("200 OK", b"")).await;
        let (store, sidecar) = started(&upstream, "").await;
        store.set(mood);

        for ask in [Ask::post("/pay").key("k"), Ask::post("/pay")] {
            let refused = ask.ask(sidecar.addr).await;
            refused.problem(503, "store-unavailable");
            assert_eq!((refused.kind(), refused.header("retry-after")), ("refused", Some("1")));
        }

        assert_eq!(upstream.executions(), 0, "{mood:?}");
        // What may have been claimed was taken back: the key is free.
        store.set(Mood::Well);
        until_nothing_flies(&sidecar).await;
        assert_eq!(Ask::post("/pay").key("k").ask(sidecar.addr).await.kind(), "fresh", "{mood:?}");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_recorded_is_told_marked_and_recorded_later() {
    let upstream = Scripted::gated(with_length("201 Created", b"paid")).await;
    let (store, sidecar) = started(&upstream, "").await;
    let ask = Ask::post("/pay").key("k").body("1");
    let owner = ask.send(sidecar.addr).await;
    upstream.until_executions(1).await;
    store.set(Mood::Gone);
    upstream.let_go(9);

    let owner = owner.answer().await;
    let duplicate = ask.ask(sidecar.addr).await;
    let other = Ask::post("/pay").key("k").body("2").ask(sidecar.addr).await;
    let stranger = Ask::post("/pay").key("l").ask(sidecar.addr).await;

    for answer in [&owner, &duplicate] {
        let told = (answer.status, answer.kind(), answer.text());
        assert_eq!(told, (201, "unrecorded", "paid".to_owned()));
        assert_eq!(answer.operation(), owner.operation());
    }
    other.problem(422, "key-reused");
    stranger.problem(503, "store-unavailable");
    store.set(Mood::Well);
    sidecar.until_state(owner.operation(), "settled").await;
    assert_eq!(ask.ask(sidecar.addr).await.kind(), "replayed");
    assert_eq!(upstream.executions(), 1);
}

#[tokio::test]
async fn duplicates_of_what_is_in_flight_here_need_no_store() {
    let upstream = Scripted::gated(with_length("201 Created", b"paid")).await;
    for route in ["", "on_store_failure: pass"] {
        for keyed in [true, false] {
            let (store, sidecar) = started(&upstream, route).await;
            let before = upstream.executions();
            let ask = if keyed { Ask::pay("a").key("k") } else { Ask::pay("a") };
            let owner = ask.send(sidecar.addr).await;
            upstream.until_executions(before + 1).await;
            store.set(Mood::Gone);
            let duplicate = ask.send(sidecar.addr).await;
            sidecar.until_waiting(1).await;
            upstream.let_go(1);

            assert_eq!(owner.answer().await.kind(), "unrecorded");
            assert_eq!(duplicate.answer().await.text(), "paid", "{route} {keyed}");
            assert_eq!(upstream.executions(), before + 1, "{route} {keyed}");
        }
    }
}

#[tokio::test]
async fn a_route_may_go_on_without_a_store_and_says_so() {
    let upstream = Scripted::answering(with_length("200 OK", b"paid")).await;
    let (store, sidecar) = started(&upstream, "on_store_failure: pass").await;
    store.set(Mood::Gone);

    let passed = Ask::post("/pay").key("a").ask(sidecar.addr).await;
    store.set(Mood::SilentOnClaims);
    let assumed = Ask::post("/pay").key("b").ask(sidecar.addr).await;
    store.set(Mood::Well);
    let retry = Ask::post("/pay").key("b").ask(sidecar.addr).await;

    assert_eq!((passed.kind(), passed.text()), ("unguarded", "paid".to_owned()));
    // An unconfirmed claim is this process's own: it goes on as its owner.
    assert_eq!((assumed.kind(), retry.kind()), ("fresh", "replayed"));
    assert_eq!(upstream.executions(), 2);
}

#[tokio::test]
async fn a_store_that_hangs_keeps_no_follower_beyond_its_time() {
    let upstream = Scripted::gated(with_length("200 OK", b"")).await;
    let store = Arc::new(MoodyStore::default());
    let (one, two): (SharedStore, SharedStore) =
        (Arc::<MoodyStore>::clone(&store), Arc::<MoodyStore>::clone(&store));
    let route = "max_wait: 2s";
    let owner = Sidecar::start_on(one, config(upstream.addr(), route)).await;
    let follower = Sidecar::start_on(two, config(upstream.addr(), route)).await;
    let ask = Ask::post("/pay").key("k");
    let call = ask.send(owner.addr).await;
    upstream.until_executions(1).await;
    let began = Instant::now();
    let duplicate = ask.send(follower.addr).await;
    follower.until_waiting(1).await;
    store.set(Mood::Hanging);

    duplicate.answer().await.problem(504, "outcome-unknown");

    // Its wait, the bound of the note that it was left unanswered, and what a slow machine adds.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    store.set(Mood::Well);
    upstream.let_go(1);
    assert_eq!(call.answer().await.kind(), "fresh");
}

#[tokio::test]
async fn who_panics_takes_nobody_along() {
    let upstream = Scripted::gated(with_length("200 OK", b"paid")).await;
    let route = "lease: 3s\nmax_wait: 15s";
    let (store, sidecar) = started(&upstream, route).await;
    store.set(Mood::PanicOnClaim);
    let claiming = Ask::post("/pay").key("a").ask(sidecar.addr).await;
    store.set(Mood::Well);
    let ask = Ask::post("/pay").key("b");
    let owner = ask.send(sidecar.addr).await;
    upstream.until_executions(1).await;
    let follower = ask.send(sidecar.addr).await;
    sidecar.until_waiting(1).await;
    // Its next sign of life is its last.
    let panicked = store.panicked();
    store.set(Mood::PanicOnRecord);
    until("its sign of life", || store.panicked() > panicked).await;
    store.set(Mood::Well);

    let (owner, follower) = (owner.answer().await, follower.answer().await);
    upstream.let_go(9);
    let next = Ask::post("/pay").key("c").body("another").ask(sidecar.addr).await;

    claiming.problem(500, "internal");
    for answer in [&owner, &follower] {
        answer.problem(504, "outcome-unknown");
    }
    sidecar.until_state(owner.operation(), "in-doubt").await;
    assert_eq!((next.kind(), upstream.executions()), ("fresh", 2));
}

#[tokio::test]
async fn that_others_doubt_it_does_not_end_a_call_that_is_open() {
    let upstream = Scripted::gated(with_length("201 Created", b"paid")).await;
    let shared: SharedStore = Arc::new(MemoryStore::default());
    let flaky = Arc::new(MoodyStore::before(Arc::clone(&shared)));
    let route = "lease: 1s";
    let owning: SharedStore = Arc::<MoodyStore>::clone(&flaky);
    let owning = Sidecar::start_on(owning, config(upstream.addr(), route)).await;
    let doubting = Sidecar::start_on(shared, config(upstream.addr(), route)).await;
    let ask = Ask::post("/pay").key("k");
    let mut owner = ask.send(owning.addr).await;
    upstream.until_executions(1).await;
    // The owner cannot renew its lease.
    flaky.set(Mood::Gone);
    let records = doubting.records().await;
    let id = records["records"][0]["operation"].as_str().unwrap();
    doubting.until_state(id, "in-doubt").await;
    flaky.set(Mood::Well);

    let elsewhere = ask.ask(doubting.addr).await;
    let here = ask.send(owning.addr).await;
    owning.until_waiting(1).await;
    assert!(owner.is_silent().await);
    upstream.let_go(1);

    elsewhere.problem(504, "outcome-unknown");
    assert_eq!((owner.answer().await.kind(), here.answer().await.kind()), ("fresh", "followed"));
    assert_eq!(ask.ask(doubting.addr).await.kind(), "replayed");
    assert_eq!(upstream.executions(), 1);
}

/// A process on a real Redis, with a connection of its own.
#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_redis_are_one_and_survive_its_restart() {
    let mut redis = RedisServer::start();
    let upstream = Scripted::gated(with_length("201 Created", b"paid")).await;
    let (one, two) = (
        Sidecar::on_redis(&redis, upstream.addr(), "").await,
        Sidecar::on_redis(&redis, upstream.addr(), "").await,
    );
    for (i, ask) in [Ask::pay("a").key("k"), Ask::pay("b")].iter().enumerate() {
        let owner = ask.send(one.addr).await;
        upstream.until_executions(i + 1).await;
        let follower = ask.send(two.addr).await;
        two.until_waiting(1).await;
        upstream.let_go(1);
        assert_eq!(owner.answer().await.kind(), "fresh");
        assert_eq!(follower.answer().await.kind(), "followed");
    }

    let ask = Ask::pay("c").key("c");
    let owner = ask.send(one.addr).await;
    upstream.until_executions(3).await;
    redis.kill();
    upstream.let_go(1);
    let owner = owner.answer().await;
    let here = ask.ask(one.addr).await;
    let elsewhere = ask.ask(two.addr).await;
    redis.restart();
    one.until_state(owner.operation(), "settled").await;

    assert_eq!(
        (owner.kind(), here.kind(), here.text()),
        ("unrecorded", "unrecorded", "paid".into())
    );
    elsewhere.problem(503, "store-unavailable");
    assert_eq!(ask.ask(two.addr).await.kind(), "replayed");
    assert_eq!(upstream.executions(), 3);
}
