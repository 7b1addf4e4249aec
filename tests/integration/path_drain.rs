//! A process that is told to stop: nothing is lost, and everybody is told.

#![expect(clippy::disallowed_methods, reason = "tests spawn what they await")]

use std::time::Duration;

use semel::app::Ended;
use semel::task::Drained;

use crate::support::client::Ask;
use crate::support::moody::{Mood, MoodyStore};
use crate::support::scripted::{Scripted, with_length};
use crate::support::sidecar::{Sidecar, config, config_of};

#[tokio::test]
async fn who_waits_when_the_process_is_told_to_stop_gets_the_answer() {
    let upstream = Scripted::gated(with_length("201 Created", b"paid")).await;
    let mut sidecar = Sidecar::start(config(upstream.addr(), "")).await;
    let ask = Ask::post("/pay").key("k");
    let owner = ask.send(sidecar.addr).await;
    upstream.until_executions(1).await;
    let follower = ask.send(sidecar.addr).await;
    let uploading = Ask::post("/pay").key("l").body("12");
    let mut uploading = uploading.send_part(sidecar.addr, 1).await;
    assert!(uploading.is_silent().await);

    sidecar.tell_to_stop();
    assert!(uploading.is_silent().await);
    uploading.more(b"2").await;
    let late = uploading.answer().await;
    upstream.let_go(9);

    late.problem(503, "draining");
    assert_eq!(
        (owner.answer().await.kind(), follower.answer().await.kind()),
        ("fresh", "followed")
    );
    assert_eq!(sidecar.ended().await, Ended::Stopped(Drained::Clean));
    assert_eq!(upstream.executions(), 1);
}

#[tokio::test]
async fn an_answer_is_written_before_the_process_ends() {
    // More than the sockets between them can hold.
    let body = vec![b'x'; 15 << 20];
    for _ in 0..2 {
        let upstream = Scripted::gated(with_length("200 OK", &body)).await;
        let mut sidecar = Sidecar::start(config(upstream.addr(), "")).await;
        let owner = Ask::post("/pay").key("k").send_narrow(sidecar.addr).await;
        upstream.until_executions(1).await;
        sidecar.tell_to_stop();
        upstream.let_go(1);

        // The process ends only when the answer is out, however slowly it is taken.
        let running = tokio::spawn(sidecar.ended());
        tokio::time::sleep(Duration::from_millis(500)).await;
        let has_ended = running.is_finished();
        let answer = owner.answer().await;

        assert_eq!((answer.whole, answer.body.len(), has_ended), (true, body.len(), false));
        assert_eq!(running.await.unwrap(), Ended::Stopped(Drained::Clean));
    }
}

#[tokio::test]
async fn who_was_told_from_memory_does_not_hold_a_drain_up_when_the_store_hangs() {
    let upstream = Scripted::answering(with_length("201 Created", b"paid")).await;
    let store = std::sync::Arc::new(MoodyStore::default());
    let shared: semel::store::SharedStore = store.clone();
    let rest = "drain: 300ms\nroutes: [{ match: { path: /** } }]";
    let mut sidecar = Sidecar::start_on(shared, config_of(upstream.addr(), rest)).await;
    for _ in 0..3 {
        assert_eq!(Ask::pay("a").key("k").ask(sidecar.addr).await.status, 201);
    }
    assert_eq!(sidecar.metric("semel_claims_total", "verdict=\"recalled\"").await, 1.0);

    store.set(Mood::Hanging);
    sidecar.tell_to_stop();

    // Cut with everything else, and nothing that was left behind.
    assert_eq!(sidecar.ended().await, Ended::Stopped(Drained::Cut(1)));
}

#[tokio::test]
async fn what_is_left_when_the_grace_ends_is_in_doubt_with_the_owners_mark() {
    let upstream = Scripted::gated("").await;
    let lookup = "lookup: { request: { method: GET, path: /never } }";
    for lookup in ["", lookup] {
        let before = upstream.executions();
        let rest = format!("drain: 300ms\nroutes: [{{ match: {{ path: /** }}, {lookup} }}]");
        let store = std::sync::Arc::new(semel::store::memory::MemoryStore::default());
        let shared: semel::store::SharedStore = store.clone();
        let mut sidecar = Sidecar::start_on(shared, config_of(upstream.addr(), &rest)).await;
        let ask = Ask::post("/pay").key("k");
        let owner = ask.send(sidecar.addr).await;
        upstream.until_executions(before + 1).await;

        sidecar.tell_to_stop();
        let told = owner.answer().await;

        let problem = told.problem(504, "outcome-unknown");
        assert_eq!(problem["state"], "in-doubt");
        assert_eq!(sidecar.ended().await, Ended::Stopped(Drained::Cut(1)));
        // The next process finds it, with the mark.
        let next = Sidecar::start_on(store, config_of(upstream.addr(), &rest)).await;
        assert_eq!(next.state(told.operation()).await, "in-doubt");
        let record = next.record(told.operation()).await;
        assert_eq!(record["detail"]["owners_connection_closed"], true, "{record}");
        assert_eq!(upstream.executions(), before + 1);
    }
}
