//! One operation under several names: business keys, and retries under another key or none; in two
//! processes on one store.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use semel::store::embedded::{self, EmbeddedStore};
use semel::store::redis::RedisStore;
use semel::store::{Listing, SharedStore};

use crate::support::client::{Answer, Ask};
use crate::support::raw::PATIENCE;
use crate::support::redis::RedisServer;
use crate::support::scripted::{Scripted, with_length};
use crate::support::sidecar::{Sidecar, config};
use crate::support::swaps::patient;

const PAID: &str = "201 Created";
const BUSINESS: &str = "business_key: { fields: [{ json: /order }], window: 10m }";
/// How long an answer may keep its client for a note on record; as `proxy` has it.
const NOTED_FIRST_MAX: Duration = Duration::from_millis(800);

/// How coarse stores' clocks are.
const COARSE: Duration = Duration::from_millis(5);

/// Two processes on one store, whatever keeps that.
struct Two {
    first: Sidecar,
    second: Sidecar,
    /// What both keep, seen by the test itself.
    store: SharedStore,
    _kept: Kept,
}

enum Kept {
    Folder { _folder: tempfile::TempDir },
    Redis { _server: RedisServer },
}

impl Two {
    async fn embedded(upstream: SocketAddr, route: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: SharedStore = Arc::new(EmbeddedStore::open(&embedded_in(&folder)).unwrap());
        let first = Sidecar::start_on(Arc::clone(&store), config(upstream, route)).await;
        let second = Sidecar::start_on(Arc::clone(&store), config(upstream, route)).await;
        Self { first, second, store, _kept: Kept::Folder { _folder: folder } }
    }

    async fn redis(upstream: SocketAddr, route: &str) -> Self {
        let server = RedisServer::start();
        let first = Sidecar::on_redis(&server, upstream, route).await;
        let second = Sidecar::on_redis(&server, upstream, route).await;
        let store: SharedStore = Arc::new(RedisStore::connect(&patient(server.url())).unwrap());
        store.fence().bind(store.charter().await.unwrap().unwrap());
        Self { first, second, store, _kept: Kept::Redis { _server: server } }
    }

    /// How many records and pointers to them are kept.
    async fn entries(&self) -> usize {
        let listing = Listing { tag: None, after: None, limit: 1_000 };
        self.store.list(&listing).await.unwrap().entries.len()
    }

    /// Waits until the one record can be found by its content too: that a caller of it left is then
    /// on record, and every process knows its retry.
    async fn until_orphaned(&self) {
        let began = Instant::now();
        while self.entries().await < 2 {
            assert!(began.elapsed() < PATIENCE, "that a caller left is not noted");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.first.until_left().await;
    }

    async fn each(upstream: SocketAddr, route: &str) -> [Self; 2] {
        [Self::embedded(upstream, route).await, Self::redis(upstream, route).await]
    }
}

/// A payment for an order, with this card.
fn order(key: &str, number: usize, card: &str) -> Ask {
    let body = serde_json::json!({ "order": number, "card": card });
    let json = "application/json";
    Ask::post("/v1/payments").key(key).header("Content-Type", json).body(body.to_string())
}

fn keyless(number: usize) -> Ask {
    let body = serde_json::json!({ "order": number, "card": "blue" });
    let ask = Ask::post("/v1/payments").header("Content-Type", "application/json");
    ask.body(body.to_string())
}

/// Asks until it is a new payment: the note that somebody was answered comes a moment later, and
/// windows end.
async fn until_fresh(mut ask: impl FnMut() -> Ask, sidecar: &Sidecar) -> Answer {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let answer = ask().ask(sidecar.addr).await;
        if answer.kind() == "fresh" {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the same content under a new key never became a new payment");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_double_press_under_two_keys_of_one_order_is_one_payment() {
    let upstream = Scripted::gated(with_length(PAID, b"paid")).await;
    for (number, two) in Two::each(upstream.addr(), BUSINESS).await.into_iter().enumerate() {
        let first = order("a", number, "blue").send(two.first.addr).await;
        let second = order("b", number, "blue").send(two.second.addr).await;
        upstream.until_executions(number + 1).await;
        upstream.let_go(1);

        let answers = [first.answer().await, second.answer().await];
        let retries =
            [order("a", number, "blue"), order("b", number, "blue"), order("c", number, "blue")];
        for answer in &answers {
            assert_eq!((answer.status, answer.text()), (201, "paid".to_owned()));
        }
        assert_eq!(answers[0].operation(), answers[1].operation());
        for retry in retries {
            let retry = retry.ask(two.second.addr).await;
            assert_eq!((retry.kind(), retry.operation()), ("replayed", answers[0].operation()));
        }
        assert_eq!(upstream.executions(), number + 1);
        let by = "by=\"business-key\"";
        let prevented = two.first.metric("semel_duplicates_prevented_total", by).await
            + two.second.metric("semel_duplicates_prevented_total", by).await;
        assert!(prevented >= 2.0, "{prevented}");
        let record = two.first.record(answers[0].operation()).await.to_string();
        assert!(record.contains("recognised under another key"), "{record}");
        assert!(!two.first.records().await.to_string().contains("error"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_card_frees_the_order_for_another_card() {
    let upstream = Scripted::answering(with_length("402 Payment Required", b"declined")).await;
    for (number, two) in Two::each(upstream.addr(), BUSINESS).await.into_iter().enumerate() {
        let declined = order("a", number, "red").ask(two.first.addr).await;
        let other = order("b", number, "blue").ask(two.second.addr).await;
        let again = order("a", number, "red").ask(two.second.addr).await;

        assert_eq!((declined.status, declined.kind()), (402, "fresh"));
        assert_eq!((other.status, other.kind()), (402, "fresh"));
        assert_eq!((again.kind(), again.operation()), ("replayed", declined.operation()));
        assert_eq!(upstream.executions(), 2 * (number + 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_content_under_a_bound_order_is_refused_until_its_window_is_over() {
    let upstream = Scripted::answering(with_length(PAID, b"paid")).await;
    // Longer than the first refusal takes on a slow disk.
    let window = Duration::from_secs(4);
    let route = "business_key: { fields: [{ json: /order }], window: 4s }";
    for (number, two) in Two::each(upstream.addr(), route).await.into_iter().enumerate() {
        let began = Instant::now();
        let paid = order("a", number, "blue").ask(two.first.addr).await;
        assert_eq!(paid.kind(), "fresh");

        let refused = order("b", number, "red").ask(two.second.addr).await;
        let problem = refused.problem(422, "business-key-reused");
        assert_eq!((&problem["sent"], &problem["retry"]), (&"no".into(), &"no".into()));
        assert_eq!(two.first.state(paid.operation()).await, "settled");
        assert_eq!(upstream.executions(), 2 * number + 1);

        until_fresh(|| order("b", number, "red"), &two.second).await;
        assert!(began.elapsed() + COARSE > window, "after {:?}", began.elapsed());
        assert_eq!(upstream.executions(), 2 * (number + 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gave_up_and_asks_under_another_key_gets_the_first_ones_answer() {
    let upstream = Scripted::gated(with_length(PAID, b"paid")).await;
    for (number, two) in Two::each(upstream.addr(), "").await.into_iter().enumerate() {
        let first = order("a", number, "blue").send(two.first.addr).await;
        upstream.until_executions(2 * number + 1).await;
        drop(first);
        two.until_orphaned().await;

        // Still in flight, and nobody is answered: each is told so before it asks again.
        let second = order("b", number, "blue").header("Prefer", "wait=0");
        let second = second.ask(two.second.addr).await;
        second.problem(504, "outcome-unknown");
        let third = order("c", number, "blue").send(two.second.addr).await;
        upstream.let_go(1);
        let third = third.answer().await;

        assert_eq!((third.status, third.text()), (201, "paid".to_owned()));
        assert_eq!(upstream.executions(), 2 * number + 1);
        upstream.let_go(1);
        let mut tries = 0;
        until_fresh(
            || {
                tries += 1;
                order(&format!("new{tries}"), number, "blue")
            },
            &two.first,
        )
        .await;
        assert_eq!(upstream.executions(), 2 * (number + 1));
        let late = order("b", number, "blue").ask(two.first.addr).await;
        assert_eq!((late.kind(), late.text()), ("replayed", "paid".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_posts_with_five_keys_and_one_body_are_one_payment() {
    let upstream = Scripted::answering(with_length("500 Internal Server Error", b"oh")).await;
    let route = "max_wait: 200ms";
    for (number, two) in Two::each(upstream.addr(), route).await.into_iter().enumerate() {
        let began = Instant::now();
        let first = order("a", number, "blue").ask(two.first.addr).await;
        assert_eq!((first.status, first.kind()), (500, "unknown"));
        // Its retry finds it by its content at once, unless the store took too long for that.
        if began.elapsed() < NOTED_FIRST_MAX {
            assert_eq!(two.entries().await, 2, "answered before it was noted");
        }
        two.until_orphaned().await;
        for key in ["a", "b", "c", "d", "e"] {
            for sidecar in [&two.first, &two.second] {
                let answer = order(key, number, "blue").ask(sidecar.addr).await;
                assert!([500, 504].contains(&answer.status), "{}", answer.status);
                assert_eq!(answer.kind(), "unknown");
            }
        }
        // And by one that has lost its key altogether.
        assert_eq!(keyless(number).ask(two.second.addr).await.kind(), "unknown");

        assert_eq!(upstream.executions(), number + 1);
        let by = "by=\"orphan\"";
        let prevented = two.first.metric("semel_duplicates_prevented_total", by).await;
        assert!(prevented >= 4.0, "{prevented}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_answered_pays_again_under_another_key_and_where_orphans_are_ignored_everybody() {
    let upstream = Scripted::answering(with_length(PAID, b"paid")).await;
    let two = Two::embedded(upstream.addr(), "").await;
    for key in ["a", "b", "c"] {
        assert_eq!(order(key, 1, "blue").ask(two.first.addr).await.kind(), "fresh");
    }
    assert_eq!(upstream.executions(), 3);
    let failing = Scripted::answering(with_length("500 Internal Server Error", b"oh")).await;
    let two = Two::embedded(failing.addr(), "orphans: ignore").await;
    for key in ["a", "b"] {
        assert_eq!(order(key, 1, "blue").ask(two.first.addr).await.status, 500);
    }
    assert_eq!(failing.executions(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_without_a_key_after_a_keyed_give_up_gets_the_answer() {
    let upstream = Scripted::gated(with_length(PAID, b"paid")).await;
    let two = Two::embedded(upstream.addr(), "").await;
    let first = order("a", 1, "blue").send(two.first.addr).await;
    upstream.until_executions(1).await;
    drop(first);
    two.until_orphaned().await;

    let retry = keyless(1).send(two.second.addr).await;
    upstream.let_go(9);
    let retry = retry.answer().await;

    assert_eq!((retry.status, retry.text()), (201, "paid".to_owned()));
    assert_eq!(upstream.executions(), 1);
}

fn embedded_in(folder: &tempfile::TempDir) -> embedded::Settings {
    embedded::Settings::at(folder.path())
}
