//! Sending again under the same key, before a provider that answers a key it knows as it did before.
#![expect(clippy::unwrap_used, reason = "locks of tests")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use semel::store::memory::MemoryStore;

use crate::support::client::Ask;
use crate::support::rawserver::RawServer;
use crate::support::scripted::with_length;
use crate::support::sidecar::{Sidecar, config};

/// Charges once per key. The first `losses` answers are lost after the charge.
struct Keyed {
    server: RawServer,
    charges: Arc<Mutex<HashMap<String, usize>>>,
}

const RESEND: &str = "lookup: { resend: { within: 1h } }";

impl Keyed {
    async fn losing(losses: usize) -> Self {
        let charges = Arc::new(Mutex::new(HashMap::new()));
        let (ledger, lost) = (Arc::clone(&charges), Arc::new(Mutex::new(losses)));
        let server = RawServer::start(move |mut peer| {
            let (ledger, lost) = (Arc::clone(&ledger), Arc::clone(&lost));
            async move {
                while let Some(request) = peer.request().await? {
                    let key = request.head.lines().find_map(|line| {
                        line.to_lowercase().strip_prefix("idempotency-key: ").map(str::to_owned)
                    });
                    let named =
                        key.unwrap_or_else(|| format!("none {}", ledger.lock().unwrap().len()));
                    let known = ledger.lock().unwrap().insert(named, 1).is_some();
                    {
                        let mut lost = lost.lock().unwrap();
                        if *lost > 0 {
                            *lost -= 1;
                            return Ok(());
                        }
                    }
                    let replayed = if known { "\r\nIdempotent-Replayed: true" } else { "" };
                    let head = format!("201 Created{replayed}");
                    peer.write_bytes(&with_length(&head, b"{\"id\":1}")).await?;
                }
                Ok(())
            }
        })
        .await;
        Self { server, charges }
    }

    fn charges(&self) -> usize {
        self.charges.lock().unwrap().values().sum()
    }
}

#[tokio::test]
async fn a_lost_answer_is_heard_by_sending_again_and_charged_once() {
    let provider = Keyed::losing(1).await;
    let sidecar = Sidecar::start(config(provider.server.address, RESEND)).await;
    let ask = Ask::pay("a").key("k");

    let first = ask.ask(sidecar.addr).await;
    let second = ask.ask(sidecar.addr).await;

    assert_eq!((first.status, first.kind()), (201, "looked-up"), "{}", first.text());
    assert_eq!((second.status, second.kind()), (201, "replayed"));
    // What the provider says of the second request is not said of the first.
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    assert_eq!((provider.server.executions(), provider.charges()), (2, 1));
    let timeline = sidecar.record(first.operation()).await["timeline"].to_string();
    assert!(timeline.contains("sent again under the same key"), "{timeline}");
}

#[tokio::test]
async fn sending_again_that_is_lost_too_is_tried_again_later() {
    let provider = Keyed::losing(3).await;
    let sidecar = Sidecar::start(config(provider.server.address, RESEND)).await;

    let first = Ask::pay("a").key("k").ask(sidecar.addr).await;

    assert_eq!((first.status, first.kind()), (201, "looked-up"), "{}", first.text());
    assert_eq!((provider.server.executions(), provider.charges()), (4, 1));
}

#[tokio::test]
async fn a_look_up_that_only_follows_locations_does_not_keep_from_sending_again() {
    let provider = Keyed::losing(1).await;
    let route = "lookup: { location: { item: \"$\" }, resend: { within: 1h } }\nmax_wait: 5s";
    let sidecar = Sidecar::start(config(provider.server.address, route)).await;

    let first = Ask::pay("a").key("k").ask(sidecar.addr).await;

    assert_eq!((first.status, first.kind()), (201, "looked-up"), "{}", first.text());
    assert_eq!((provider.server.executions(), provider.charges()), (2, 1));
}

#[tokio::test]
async fn a_request_without_a_key_is_never_sent_again() {
    let provider = Keyed::losing(1).await;
    let route = format!("{RESEND}\nmax_wait: 700ms");
    let sidecar = Sidecar::start(config(provider.server.address, &route)).await;
    let ask = Ask::pay("a");

    let first = ask.ask(sidecar.addr).await;
    let second = ask.ask(sidecar.addr).await;

    first.problem(504, "outcome-unknown");
    second.problem(504, "outcome-unknown");
    assert_eq!(provider.server.executions(), 1);
}

#[tokio::test]
async fn another_process_sends_again_only_what_a_duplicate_brings() {
    let provider = Keyed::losing(1).await;
    let store = Arc::new(MemoryStore::default());
    let owners = Sidecar::start_on(store.clone(), config(provider.server.address, "")).await;
    let other = Sidecar::start_on(store, config(provider.server.address, RESEND)).await;
    let first = Ask::pay("a").key("k").ask(owners.addr).await;
    first.problem(504, "outcome-unknown");
    // Its reconciler has had its turn, and nothing to send.
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(provider.server.executions(), 1);

    let second = Ask::pay("a").key("k").ask(other.addr).await;

    assert_eq!((second.status, second.kind()), (201, "looked-up"), "{}", second.text());
    assert_eq!((provider.server.executions(), provider.charges()), (2, 1));
}

#[tokio::test]
async fn a_refusal_of_what_is_sent_again_says_nothing_unless_it_is_named() {
    for (route, status, kind) in [
        ("lookup: { resend: { within: 1h } }", 504, "unknown"),
        ("lookup: { resend: { within: 1h, conclusive: [402] } }", 402, "looked-up"),
    ] {
        let lost = Arc::new(Mutex::new(true));
        let server = RawServer::start(move |mut peer| {
            let lost = Arc::clone(&lost);
            async move {
                while peer.request().await?.is_some() {
                    if std::mem::take(&mut *lost.lock().unwrap()) {
                        return Ok(());
                    }
                    peer.write_bytes(&with_length("402 Payment Required", b"{}")).await?;
                }
                Ok(())
            }
        })
        .await;
        let route = format!("{route}\nmax_wait: 1s");
        let sidecar = Sidecar::start(config(server.address, &route)).await;

        let answer = Ask::pay("a").key("k").ask(sidecar.addr).await;

        assert_eq!((answer.status, answer.kind()), (status, kind), "{route}");
        assert!(server.executions() >= 2);
    }
}
