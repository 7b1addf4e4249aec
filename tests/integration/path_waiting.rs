//! Duplicates that wait: they wake at once, in other processes soon, and never wait for ever.

use std::sync::Arc;
use std::time::{Duration, Instant};

use semel::store::SharedStore;
use semel::store::memory::MemoryStore;

use crate::support::client::{Ask, Call};
use crate::support::scripted::{Scripted, with_length};
use crate::support::sidecar::{Sidecar, config};

/// How often it is measured how late followers are, before it is believed: whatever else the
/// machine does makes them later, and never earlier.
const MEASURED_MAX: usize = 10;

/// When an answer was there.
async fn at(call: Call) -> (Instant, String) {
    let answer = call.answer().await;
    (Instant::now(), answer.kind().to_owned())
}

/// Measures until followers are this early behind their owner.
async fn until_lag_below(most: Duration, owner: &Sidecar, follower: &Sidecar, upstream: &Scripted) {
    let mut lags = vec![];
    for _ in 0..MEASURED_MAX {
        lags.push(median_lag(owner, follower, upstream).await);
        if lags.last().is_some_and(|lag| *lag < most) {
            return;
        }
    }
    panic!("not once below {most:?}: {lags:?}");
}

/// How long after the owner a follower had its answer, in the middle of some tries.
async fn median_lag(owner: &Sidecar, follower: &Sidecar, upstream: &Scripted) -> Duration {
    let mut lags = vec![];
    let before = upstream.executions();
    for i in before..before + 7 {
        let ask = Ask::post("/pay").key(&format!("k{i}"));
        let first = ask.send(owner.addr).await;
        upstream.until_executions(i + 1).await;
        let second = ask.send(follower.addr).await;
        follower.until_waiting(1).await;
        upstream.let_go(1);
        let ((first, fresh), (second, followed)) = tokio::join!(at(first), at(second));
        assert_eq!((&*fresh, &*followed), ("fresh", "followed"));
        lags.push(second.saturating_duration_since(first));
    }
    lags.sort();
    lags[lags.len() / 2]
}

#[tokio::test]
async fn followers_of_this_process_wake_with_its_owner() {
    let upstream = Scripted::gated(with_length("200 OK", b"")).await;
    let sidecar = Sidecar::start(config(upstream.addr(), "")).await;

    until_lag_below(Duration::from_millis(50), &sidecar, &sidecar, &upstream).await;
}

#[tokio::test]
async fn followers_of_another_process_wake_soon_after() {
    let upstream = Scripted::gated(with_length("200 OK", b"")).await;
    let store: SharedStore = Arc::new(MemoryStore::default());
    let owner = Sidecar::start_on(Arc::clone(&store), config(upstream.addr(), "")).await;
    let follower = Sidecar::start_on(store, config(upstream.addr(), "")).await;

    until_lag_below(Duration::from_millis(150), &owner, &follower, &upstream).await;
}

#[tokio::test]
async fn duplicates_of_an_attempt_at_work_here_ask_no_store() {
    let upstream = Scripted::gated(with_length("200 OK", b"the one")).await;
    // No renewal of the lease comes between.
    let sidecar = Sidecar::start(config(upstream.addr(), "lease: 10m")).await;
    let swap = "operation=\"swap\"";
    let asked = || sidecar.metric("semel_store_duration_seconds_count", swap);
    let ask = Ask::pay("a").key("k");
    let first = ask.send(sidecar.addr).await;
    upstream.until_executions(1).await;
    let before = asked().await;

    let second = ask.send(sidecar.addr).await;
    sidecar.until_waiting(1).await;
    assert_eq!(asked().await, before);
    Ask::pay("b").key("k").ask(sidecar.addr).await.problem(422, "key-reused");
    assert_eq!(asked().await, before + 1.0);

    upstream.let_go(1);
    assert_eq!((first.answer().await.kind(), second.answer().await.kind()), ("fresh", "followed"));
    assert_eq!(sidecar.metric("semel_claims_total", "verdict=\"in-flight\"").await, 1.0);
}

#[tokio::test]
async fn five_hundred_followers_get_the_one_answer() {
    let upstream = Scripted::gated(with_length("200 OK", b"the one")).await;
    let sidecar = Sidecar::start(config(upstream.addr(), "")).await;
    let ask = Ask::post("/pay").key("k");
    let mut calls = vec![ask.send(sidecar.addr).await];
    upstream.until_executions(1).await;
    for _ in 0..500 {
        calls.push(ask.send(sidecar.addr).await);
    }
    sidecar.until_waiting(500).await;
    upstream.let_go(9);

    let began = Instant::now();
    for call in calls {
        assert_eq!(call.answer().await.text(), "the one");
    }

    // Less than any one's wait, and they are told together.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(upstream.executions(), 1);
    sidecar.until_waiting(0).await;
}

#[tokio::test]
async fn a_wait_ends_in_time_and_says_what_is_known() {
    let upstream = Scripted::gated(with_length("200 OK", b"")).await;
    let sidecar = Sidecar::start(config(upstream.addr(), "max_wait: 200ms")).await;
    let ask = Ask::post("/pay").key("k");
    let owner = ask.send(sidecar.addr).await;
    upstream.until_executions(1).await;

    let began = Instant::now();
    let duplicate = ask.ask(sidecar.addr).await;
    let waited = began.elapsed();

    let problem = duplicate.problem(504, "outcome-unknown");
    assert_eq!((&problem["state"], duplicate.kind()), (&"in-flight".into(), "unknown"));
    assert!((180..5_000).contains(&waited.as_millis()), "{waited:?}");
    // The first caller waits as long as its call lasts.
    upstream.let_go(1);
    assert_eq!(owner.answer().await.kind(), "fresh");
}

#[tokio::test]
async fn more_waiters_than_allowed_are_refused() {
    let upstream = Scripted::gated(with_length("200 OK", b"")).await;
    let sidecar = Sidecar::start(config(upstream.addr(), "limits: { waiters: 2 }")).await;
    let ask = Ask::post("/pay").key("k");
    let mut calls = vec![ask.send(sidecar.addr).await];
    upstream.until_executions(1).await;
    for _ in 0..2 {
        calls.push(ask.send(sidecar.addr).await);
    }
    sidecar.until_waiting(2).await;

    let refused = ask.ask(sidecar.addr).await;
    refused.problem(503, "overloaded");
    assert_eq!(refused.header("retry-after"), Some("1"));

    // Who leaves makes room, and changes nothing.
    drop(calls.pop());
    sidecar.until_waiting(1).await;
    calls.push(ask.send(sidecar.addr).await);
    sidecar.until_waiting(2).await;
    upstream.let_go(1);
    let mut kinds = vec![];
    for call in calls {
        kinds.push(call.answer().await.kind().to_owned());
    }
    assert_eq!(kinds, ["fresh", "followed", "followed"]);
    assert_eq!(upstream.executions(), 1);
}
