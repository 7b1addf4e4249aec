//! A caller that leaves, at any moment, changes neither what is sent nor what is recorded.

use std::time::Duration;

use crate::support::client::Ask;
use crate::support::scripted::{Scripted, with_length};
use crate::support::sidecar::{Sidecar, config, until};

#[tokio::test]
async fn who_leaves_while_sending_has_claimed_nothing() {
    let upstream = Scripted::answering(with_length("200 OK", b"")).await;
    let sidecar = Sidecar::start(config(upstream.addr(), "")).await;
    let ask = Ask::post("/pay").key("k").body("0123456789");

    drop(ask.send_part(sidecar.addr, 9).await);

    // The key is not taken: another body may have it.
    let other = Ask::post("/pay").key("k").body("x").ask(sidecar.addr).await;
    assert_eq!((other.kind(), upstream.executions()), ("fresh", 1));
}

#[tokio::test]
async fn who_leaves_while_it_is_in_flight_finds_the_outcome_on_record() {
    let upstream = Scripted::gated(with_length("201 Created", b"paid")).await;
    let sidecar = Sidecar::start(config(upstream.addr(), "")).await;
    let ask = Ask::post("/pay").key("k");
    let owner = ask.send(sidecar.addr).await;
    upstream.until_executions(1).await;

    drop(owner);
    let follower = ask.send(sidecar.addr).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    upstream.let_go(1);

    let followed = follower.answer().await;
    assert_eq!(
        (followed.status, followed.kind(), followed.text()),
        (201, "followed", "paid".into())
    );
    assert_eq!(ask.ask(sidecar.addr).await.kind(), "replayed");
    assert_eq!(upstream.executions(), 1);
}

#[tokio::test]
async fn who_leaves_right_after_sending_is_still_served_once() {
    let upstream = Scripted::answering(with_length("201 Created", b"paid")).await;
    let sidecar = Sidecar::start(config(upstream.addr(), "")).await;

    // Whether the claim was under way, won or not yet begun when it left: at most once each.
    for i in 0..30 {
        let ask = Ask::post("/pay").key(&format!("k{i}")).body(i.to_string());
        let call = ask.send(sidecar.addr).await;
        for _ in 0..i {
            tokio::task::yield_now().await;
        }
        drop(call);
        let retry = ask.ask(sidecar.addr).await;
        assert_eq!((retry.status, retry.text()), (201, "paid".to_owned()), "{i}: {retry:?}");
    }
    until("all of them", || upstream.executions() >= 30).await;
    assert_eq!(upstream.executions(), 30);
}

#[tokio::test]
async fn who_leaves_during_the_answer_was_not_answered() {
    // More than the sockets between them can hold, and so more than is kept.
    let body = vec![b'x'; 15 << 20];
    let upstream = Scripted::answering(with_length("200 OK", &body)).await;
    let sidecar = Sidecar::start(config(upstream.addr(), "")).await;
    // Without a key: it was not written whole to anybody.
    let ask = Ask::pay("coffee");
    let mut call = ask.send_narrow(sidecar.addr).await;
    call.begun().await;

    drop(call);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let again = ask.ask(sidecar.addr).await;

    again.problem(409, "reply-not-kept");
    assert_eq!(upstream.executions(), 1);
}
