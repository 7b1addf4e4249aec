//! Accepted, in doubt, silent: the provider is asked, and whoever waits is told what it said.

use std::time::{Duration, Instant};

use semel::demo::provider::Sought;

use crate::support::client::Ask;
use crate::support::sidecar::{Sidecar, config, provider};

/// Looks payments up by their reference.
const LOOKUP: &str = "\
lookup:
  request: { method: GET, path: \"/v1/payments/by-reference/{{ body.reference }}\" }
  timeout: 2s
  state: { path: \"$.status\", succeeded: [succeeded], accepted: [processing], failed: [declined] }
  reply: { status: 201, body: item, failed: { status: 402, body: item } }
  absent: { statuses: [404], then: hold }";

fn route(more: &str) -> String {
    format!("{LOOKUP}\n{more}")
}

#[tokio::test]
async fn what_was_accepted_is_followed_to_its_end() {
    let provider = provider();
    let sidecar = Sidecar::start(config(provider.addr(), &route(""))).await;
    let ask = Ask::pay("a").key("k").header("X-Practice", "202=1500");

    let first = ask.ask(sidecar.addr).await;
    let second = ask.ask(sidecar.addr).await;

    for answer in [&first, &second] {
        assert_eq!((answer.status, answer.kind()), (202, "accepted"));
        assert_eq!(answer.body, first.body);
        assert_eq!(answer.json()["status"], "processing");
    }
    assert_eq!(sidecar.state(first.operation()).await, "accepted");
    sidecar.until_state(first.operation(), "settled").await;
    let third = ask.ask(sidecar.addr).await;
    assert_eq!((third.status, third.kind()), (201, "replayed"));
    assert_eq!(third.json()["status"], "succeeded");
    assert_eq!(third.operation(), first.operation());
    assert_eq!(provider.ledger().count(Sought::All), 1);
}

#[tokio::test]
async fn an_outcome_that_was_lost_is_looked_up_while_the_caller_waits() {
    for wrong in ["drop-after", "500-after", "truncate"] {
        let provider = provider();
        let sidecar = Sidecar::start(config(provider.addr(), &route(""))).await;
        let ask = Ask::pay("a").key("k").header("X-Practice", wrong);

        let first = ask.ask(sidecar.addr).await;
        let second = ask.ask(sidecar.addr).await;

        assert_eq!((first.status, first.kind()), (201, "looked-up"), "{wrong}: {}", first.text());
        assert_eq!((second.status, second.kind()), (201, "replayed"), "{wrong}");
        assert_eq!(second.json()["reference"], "a");
        assert_eq!(provider.ledger().count(Sought::All), 1);
    }
}

#[tokio::test]
async fn a_call_that_stays_silent_is_looked_up_while_it_is_open() {
    let provider = provider();
    let sidecar = Sidecar::start(config(provider.addr(), &route("lookup_after: 200ms"))).await;
    let ask = Ask::pay("a").key("k").header("X-Practice", "slow=8000");
    let began = Instant::now();

    let (first, second) = tokio::join!(ask.ask(sidecar.addr), ask.ask(sidecar.addr));

    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    for answer in [&first, &second] {
        assert_eq!((answer.status, answer.kind()), (201, "looked-up"));
    }
    assert_eq!(provider.ledger().count(Sought::All), 1);
}

#[tokio::test]
async fn absent_alone_frees_nothing() {
    let provider = provider();
    let sidecar = Sidecar::start(config(provider.addr(), &route("max_wait: 300ms"))).await;
    // Not committed, and nobody knows that.
    let ask = Ask::pay("a").key("k").header("X-Practice", "drop-before");

    let first = ask.ask(sidecar.addr).await;
    let second = ask.ask(sidecar.addr).await;

    first.problem(504, "outcome-unknown");
    second.problem(504, "outcome-unknown");
    assert_eq!(sidecar.state(first.operation()).await, "in-doubt");
    assert!(sidecar.metric("semel_lookups_total", "absent").await >= 1.0);
    assert_eq!(provider.practice().requests_with_reference("a"), 1);
}

#[tokio::test]
async fn a_look_up_that_fails_settles_nothing_and_is_tried_again() {
    let provider = provider();
    let sidecar = Sidecar::start(config(provider.addr(), &route("max_wait: 8s"))).await;
    for (i, wrong) in ["lookup-500", "lookup-absent", "lookup-drop-after"].iter().enumerate() {
        let reference = format!("r{i}");
        provider.practice().next(wrong, 1).unwrap();
        let ask = Ask::pay(&reference).key(&reference).header("X-Practice", "drop-after");

        let answer = ask.ask(sidecar.addr).await;

        assert_eq!(
            (answer.status, answer.kind()),
            (201, "looked-up"),
            "{wrong}: {}",
            answer.text()
        );
        assert_eq!(provider.ledger().count(Sought::Reference(&reference)), 1);
    }
}

#[tokio::test]
async fn a_slow_look_up_does_not_cost_the_owner_its_lease() {
    let provider = provider();
    // The look-up and the call last for longer than a lease, and a lease for longer than a
    // machine stalls.
    let route = route("lookup_after: 100ms\nlease: 3s\nduplicates: conflict")
        .replace("timeout: 2s", "timeout: 12s");
    let sidecar = Sidecar::start(config(provider.addr(), &route)).await;
    provider.practice().next("lookup-slow=11000", 9).unwrap();
    let ask = Ask::pay("a").key("k").header("X-Practice", "slow=8000");

    let owner = ask.send(sidecar.addr).await;
    tokio::time::sleep(Duration::from_millis(4500)).await;
    let duplicate = ask.ask(sidecar.addr).await;
    let state = sidecar.state(duplicate.operation()).await;
    let owner = owner.answer().await;

    duplicate.problem(409, "operation-in-flight");
    assert_eq!((&*state, owner.status, owner.kind()), ("in-flight", 201, "fresh"));
}
