//! Answers that are too large to keep, and what is told when an answer is no longer kept.

use std::time::{Duration, Instant};

use crate::support::client::Ask;
use crate::support::raw::PATIENCE;
use crate::support::rawserver::RawServer;
use crate::support::scripted::{Scripted, with_length};
use crate::support::sidecar::{Sidecar, config, config_of};

const SMALL: &str = "limits: { response_body: 1KiB }";

#[tokio::test]
async fn a_large_answer_is_streamed_to_its_caller_and_settled_without_its_body() {
    for size in [1025, 5000, 3 << 20] {
        let body: Vec<u8> = (0..size).map(|i: usize| i.to_le_bytes()[0]).collect();
        let upstream = Scripted::answering(with_length("201 Created\r\nx: 1", &body)).await;
        let sidecar = Sidecar::start(config(upstream.addr(), SMALL)).await;
        for key in ["a", "b", "c"] {
            let ask = Ask::post("/pay").key(key);

            let first = ask.ask(sidecar.addr).await;
            sidecar.until_state(first.operation(), "settled").await;
            let second = ask.ask(sidecar.addr).await;

            assert_eq!((first.status, first.kind(), first.whole), (201, "unrecorded", true));
            assert_eq!((first.body.len(), first.body == body), (size, true));
            let problem = second.problem(409, "reply-not-kept");
            assert_eq!(
                (&problem["upstream_status"], second.operation()),
                (&201.into(), first.operation())
            );
        }
        assert_eq!(upstream.executions(), 3);
    }
}

#[tokio::test]
async fn the_largest_answer_that_is_kept_is_kept() {
    let upstream = Scripted::answering(with_length("200 OK", &[7; 1024])).await;
    let sidecar = Sidecar::start(config(upstream.addr(), SMALL)).await;
    let ask = Ask::post("/pay").key("k");

    assert_eq!(ask.ask(sidecar.addr).await.kind(), "fresh");
    assert_eq!(ask.ask(sidecar.addr).await.body, [7; 1024]);
}

#[tokio::test]
async fn a_large_answer_that_is_cut_is_in_doubt() {
    let upstream = RawServer::start(|mut peer| async move {
        peer.request().await?;
        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n").await?;
        peer.write(&"x".repeat(5000)).await
    })
    .await;
    let sidecar = Sidecar::start(config(upstream.address, SMALL)).await;
    let ask = Ask::post("/pay").key("k");

    let first = ask.ask(sidecar.addr).await;

    assert_eq!((first.status, first.kind(), first.whole), (200, "unrecorded", false));
    sidecar.until_state(first.operation(), "in-doubt").await;
    ask.ask(sidecar.addr).await.problem(504, "outcome-unknown");
    assert_eq!(upstream.executions(), 1);
}

#[tokio::test]
async fn a_large_answer_that_a_stop_cuts_does_not_look_whole() {
    let upstream = RawServer::start(|mut peer| async move {
        peer.request().await?;
        peer.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1388\r\n").await?;
        peer.write(&format!("{}\r\n", "x".repeat(5000))).await?;
        std::future::pending().await
    })
    .await;
    let rest = format!("routes:\n- match: {{ path: /** }}\n  {SMALL}\ndrain: 300ms\n");
    let mut sidecar = Sidecar::start(config_of(upstream.address, &rest)).await;
    let mut call = Ask::post("/pay").key("k").send(sidecar.addr).await;
    call.begun().await;

    sidecar.tell_to_stop();

    assert!(!call.answer().await.whole);
}

#[tokio::test]
async fn a_large_answer_that_proves_nothing_is_no_outcome_for_who_sent_no_key() {
    let answer = with_length("500 Internal Server Error", &[1; 5000]);
    let upstream = Scripted::answering(answer).await;
    let sidecar = Sidecar::start(config(upstream.addr(), SMALL)).await;
    let ask = Ask::post("/pay");

    let first = ask.ask(sidecar.addr).await;
    sidecar.until_state(first.operation(), "in-doubt").await;
    let record = sidecar.record(first.operation()).await;

    assert_eq!((first.status, first.kind(), first.whole), (500, "unknown", true));
    assert!(record.get("answer_delivered_seconds_ago").is_none(), "{record}");
    ask.ask(sidecar.addr).await.problem(504, "outcome-unknown");
    assert_eq!(upstream.executions(), 1);
}

#[tokio::test]
async fn a_large_answer_whose_caller_left_is_read_to_its_end() {
    let upstream = Scripted::gated(with_length("200 OK", &vec![1; 2 << 20])).await;
    let sidecar = Sidecar::start(config(upstream.addr(), SMALL)).await;
    let ask = Ask::post("/pay").key("k");
    let call = ask.send(sidecar.addr).await;
    upstream.until_executions(1).await;
    let follower = ask.send(sidecar.addr).await;
    sidecar.until_waiting(1).await;
    drop(call);
    sidecar.until_left().await;
    upstream.let_go(1);

    let told = follower.answer().await;

    told.problem(409, "reply-not-kept");
    assert_eq!(upstream.executions(), 1);
}

#[tokio::test]
async fn an_answer_goes_after_retention_and_the_key_is_free_after_remembrance() {
    let upstream = Scripted::answering(with_length("200 OK", b"paid")).await;
    // Longer than three questions may take; what is kept goes at this pace and not later.
    let route = "retention: 3s\nremember: 6s";
    let sidecar = Sidecar::start(config(upstream.addr(), route)).await;
    let ask = Ask::post("/pay").key("k");

    let first = ask.ask(sidecar.addr).await;
    let replay = ask.ask(sidecar.addr).await;
    let began = Instant::now();
    let mut late = ask.ask(sidecar.addr).await;
    while late.kind() == "replayed" {
        assert!(began.elapsed() < PATIENCE, "kept for ever");
        tokio::time::sleep(Duration::from_millis(50)).await;
        late = ask.ask(sidecar.addr).await;
    }
    let executions = upstream.executions();
    let mut very_late = ask.ask(sidecar.addr).await;
    while very_late.kind() != "fresh" {
        assert!(began.elapsed() < PATIENCE, "never purged");
        tokio::time::sleep(Duration::from_millis(50)).await;
        very_late = ask.ask(sidecar.addr).await;
    }

    assert_eq!((first.kind(), replay.kind()), ("fresh", "replayed"));
    let problem = late.problem(409, "reply-not-kept");
    assert_eq!((&problem["upstream_status"], &problem["sent"]), (&200.into(), &"yes".into()));
    assert_eq!(executions, 1);
    // Counted from a moment after it was settled, until a moment after it was purged.
    assert!(began.elapsed() > Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(upstream.executions(), 2);
    assert_eq!(sidecar.operation(first.operation()).await.status, 404);
}
