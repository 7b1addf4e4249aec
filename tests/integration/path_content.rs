//! Requests without a key: one operation until somebody has the answer, and a new one after that,
//! in one process and in two that share a store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use semel::demo::provider::Sought;
use semel::store::SharedStore;
use semel::store::memory::MemoryStore;

use crate::support::client::{Answer, Ask, Call};
use crate::support::raw::PATIENCE;
use crate::support::scripted::{Scripted, with_length};
use crate::support::sidecar::{Sidecar, config, provider};

/// Two processes on one store; or the same one twice, to try what must not depend on it.
async fn two(upstream: std::net::SocketAddr, route: &str, processes: usize) -> [Sidecar; 2] {
    let store: SharedStore = Arc::new(MemoryStore::default());
    let first = Sidecar::start_on(Arc::clone(&store), config(upstream, route)).await;
    // One more port of the first would do as well, but this is simpler.
    let store = if processes == 2 { store } else { Arc::new(MemoryStore::default()) };
    [first, Sidecar::start_on(store, config(upstream, route)).await]
}

fn other(sidecars: &[Sidecar; 2], processes: usize) -> &Sidecar {
    &sidecars[processes - 1]
}

/// What was delivered is on record a moment after it was read.
async fn until_new(ask: &Ask, sidecar: &Sidecar) -> Answer {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let answer = ask.ask(sidecar.addr).await;
        if answer.kind() == "fresh" {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the same content never became a new operation");
}

async fn swaps(sidecar: &Sidecar) -> f64 {
    sidecar.metric("semel_store_duration_seconds_count", "operation=\"swap\"").await
}

/// Lets the owner here be answered, until it is on record that it was.
async fn answered(upstream: &Scripted, owner: &Sidecar, first: Call) {
    let before = swaps(owner).await;
    upstream.let_go(9);
    assert_eq!(first.answer().await.kind(), "fresh");
    // The settlement, and behind it the note.
    let began = Instant::now();
    while swaps(owner).await < before + 2.0 {
        assert!(began.elapsed() < PATIENCE, "that it was answered is not noted");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_double_press_is_one_payment() {
    for processes in [1, 2] {
        let upstream = Scripted::gated(with_length("201 Created", b"paid")).await;
        let sidecars = two(upstream.addr(), "", processes).await;
        let ask = Ask::pay("coffee");
        let presses = [
            ask.send(sidecars[0].addr).await,
            ask.send(other(&sidecars, processes).addr).await,
            ask.send(sidecars[0].addr).await,
        ];
        upstream.until_executions(1).await;
        upstream.let_go(9);

        let mut kinds = vec![];
        for press in presses {
            let answer = press.answer().await;
            assert_eq!(answer.text(), "paid");
            kinds.push(answer.kind().to_owned());
        }

        kinds.sort();
        // One that reads its answer late may come after the record is there.
        assert_eq!((&*kinds[0], kinds.len()), ("followed", 3), "{kinds:?}");
        assert_eq!(upstream.executions(), 1);
    }
}

#[tokio::test]
async fn a_retry_after_the_caller_left_gets_the_first_ones_answer_and_then_a_coffee_is_new() {
    for processes in [1, 2] {
        let upstream = Scripted::gated(with_length("201 Created", b"paid")).await;
        let sidecars = two(upstream.addr(), "", processes).await;
        let ask = Ask::pay("coffee");
        drop(ask.send(sidecars[0].addr).await);
        upstream.until_executions(1).await;
        upstream.let_go(9);
        // Until it is settled, nobody is there to be told.
        let records = sidecars[0].records().await;
        let id = records["records"][0]["operation"].as_str().unwrap();
        sidecars[0].until_state(id, "settled").await;

        let retry = ask.ask(other(&sidecars, processes).addr).await;
        let new = until_new(&ask, other(&sidecars, processes)).await;

        assert_eq!((retry.kind(), retry.text()), ("replayed", "paid".to_owned()));
        assert_ne!(new.operation(), retry.operation());
        assert_eq!(upstream.executions(), 2);
    }
}

#[tokio::test]
async fn the_same_coffee_can_be_bought_again_a_minute_later() {
    let provider = provider();
    let sidecars = two(provider.addr(), "", 2).await;
    let ask = Ask::pay("coffee");

    let first = ask.ask(sidecars[0].addr).await;
    assert_eq!(first.kind(), "fresh");
    until_new(&ask, &sidecars[1]).await;

    assert_eq!(provider.ledger().count(Sought::Reference("coffee")), 2);
}

#[tokio::test]
async fn within_the_window_it_is_the_same_coffee_still() {
    let provider = provider();
    let route = "key: { missing: fingerprint, window: 3s }";
    let sidecars = two(provider.addr(), route, 2).await;
    let ask = Ask::pay("coffee");
    ask.ask(sidecars[0].addr).await;

    for sidecar in &sidecars {
        assert_eq!(ask.ask(sidecar.addr).await.kind(), "replayed");
    }
    // Every delivery begins the window anew.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(ask.ask(sidecars[1].addr).await.kind(), "fresh");

    assert_eq!(provider.ledger().count(Sought::Reference("coffee")), 2);
}

#[tokio::test]
async fn who_came_later_and_left_unanswered_keeps_the_operation() {
    for processes in [1, 2] {
        let upstream = Scripted::gated(with_length("201 Created", b"paid")).await;
        let sidecars = two(upstream.addr(), "", processes).await;
        let ask = Ask::pay("coffee");
        let first = ask.send(sidecars[0].addr).await;
        upstream.until_executions(1).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let second = ask.send(other(&sidecars, processes).addr).await;
        other(&sidecars, processes).until_waiting(1).await;
        drop(second);
        sidecars[0].until_left().await;
        answered(&upstream, &sidecars[0], first).await;

        let retry = ask.ask(other(&sidecars, processes).addr).await;

        assert_eq!((retry.kind(), retry.text()), ("replayed", "paid".to_owned()), "{processes}");
        assert_eq!(upstream.executions(), 1);
        until_new(&ask, &sidecars[0]).await;
    }
}

#[tokio::test]
async fn who_was_put_off_finds_the_same_operation_again() {
    for route in ["max_wait: 100ms", "duplicates: conflict"] {
        let upstream = Scripted::gated(with_length("201 Created", b"paid")).await;
        let sidecars = two(upstream.addr(), route, 2).await;
        let ask = Ask::pay("coffee");
        let first = ask.send(sidecars[0].addr).await;
        upstream.until_executions(1).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let second = ask.ask(sidecars[1].addr).await;
        assert!([504, 409].contains(&second.status), "{}", second.status);
        sidecars[0].until_left().await;
        answered(&upstream, &sidecars[0], first).await;

        let retry = ask.ask(sidecars[0].addr).await;

        assert_eq!((retry.kind(), retry.operation()), ("replayed", second.operation()), "{route}");
        assert_eq!(upstream.executions(), 1);
    }
}

#[tokio::test]
async fn content_is_told_apart_by_everything_that_was_not_ignored() {
    let upstream = Scripted::gated(with_length("200 OK", b"")).await;
    let route = "fingerprint: { ignore: [{ json: /sent_at }] }";
    let sidecar = Sidecar::start(config(upstream.addr(), route)).await;
    let json = |body: &str| Ask::post("/pay").header("Content-Type", "application/json").body(body);
    let first = json("{\"a\":1,\"sent_at\":1}").send(sidecar.addr).await;
    upstream.until_executions(1).await;

    let mut same = vec![];
    for body in ["{\"sent_at\":2,\"a\":1}", "{ \"a\" : 1 , \"sent_at\":3 }"] {
        same.push(json(body).send(sidecar.addr).await);
    }
    let mut others = vec![];
    for body in ["{\"a\":1.0,\"sent_at\":1}", "{\"a\":\"1\"}", "{\"a\":1,\"a\":1}", "{\"a\":2}"] {
        others.push(json(body).send(sidecar.addr).await);
    }
    upstream.until_executions(5).await;
    upstream.let_go(9);

    assert_eq!(first.answer().await.kind(), "fresh");
    for call in same {
        assert_eq!(call.answer().await.kind(), "followed");
    }
    for call in others {
        assert_eq!(call.answer().await.kind(), "fresh");
    }
    assert_eq!(upstream.executions(), 5);
}

#[tokio::test]
async fn many_callers_of_one_content_leave_a_record_that_is_free_again() {
    let upstream = Scripted::gated(with_length("200 OK", b"paid")).await;
    let sidecars = two(upstream.addr(), "", 2).await;
    let ask = Ask::pay("coffee");
    let first = ask.send(sidecars[0].addr).await;
    upstream.until_executions(1).await;
    let mut calls = vec![first];
    for i in 0..100 {
        calls.push(ask.send(sidecars[i % 2].addr).await);
    }
    for sidecar in &sidecars {
        sidecar.until_waiting(50).await;
    }
    upstream.let_go(9);

    for call in calls {
        assert_eq!(call.answer().await.text(), "paid");
    }

    assert_eq!(upstream.executions(), 1);
    until_new(&ask, &sidecars[1]).await;
}
