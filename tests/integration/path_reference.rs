//! A reference that semel puts into the first request: the provider echoes it, and a lost answer is
//! found by it. What the caller sent stays as it was, and so does what a retry must match.

use std::sync::{Arc, Mutex};

use semel::demo::provider::Sought;
use semel::store::SharedStore;
use semel::store::memory::MemoryStore;

use crate::support::client::Ask;
use crate::support::rawserver::RawServer;
use crate::support::scripted::{Scripted, with_length};
use crate::support::sidecar::{Sidecar, config, provider};

/// Payments are known by `reference`, which the caller does not set.
const ROUTE: &str = "\
reference: { into: { json: /reference } }
lookup:
  request: { path: \"/v1/payments/by-reference/{{ reference }}\" }
  reply: { status: 201, body: item }";

fn plain() -> Ask {
    Ask::post("/v1/payments")
        .header("Content-Type", "application/json")
        .body(r#"{"amount": 700, "currency": "eur" }"#)
}

fn form(body: &str) -> Ask {
    Ask::post("/pay").header("Content-Type", "application/x-www-form-urlencoded").body(body)
}

/// What the upstream got of one request under this route.
async fn received(route: &str, ask: &Ask) -> String {
    let upstream = Scripted::answering(with_length("200 OK", b"")).await;
    let sidecar = Sidecar::start(config(upstream.addr(), route)).await;
    assert_eq!(ask.ask(sidecar.addr).await.kind(), "fresh");
    String::from_utf8_lossy(&upstream.requests()[0].body).into_owned()
}

#[tokio::test]
async fn a_lost_answer_is_found_by_a_reference_that_the_caller_did_not_set() {
    for key in [Some("k"), None] {
        let provider = provider();
        let sidecar = Sidecar::start(config(provider.addr(), ROUTE)).await;
        let ask = plain().header("X-Practice", "drop-after");
        let ask = key.iter().fold(ask, |ask, key| ask.key(key));

        let first = ask.ask(sidecar.addr).await;

        assert_eq!((first.status, first.kind()), (201, "looked-up"), "{}", first.text());
        let reference = first.json()["reference"].as_str().unwrap().to_owned();
        assert_eq!(reference.len(), 40);
        assert_eq!(provider.ledger().count(Sought::Reference(&reference)), 1);
        if key.is_some() {
            // By the caller's own bytes it is the same request.
            let second = ask.ask(sidecar.addr).await;
            assert_eq!((second.kind(), &second.body), ("replayed", &first.body));
        }
        assert_eq!(provider.ledger().count(Sought::All), 1);
    }
}

#[tokio::test]
async fn what_was_agreed_at_the_claim_finds_it_under_another_config() {
    let provider = provider();
    let store: SharedStore = Arc::new(MemoryStore::default());
    // The first one asks in the wrong place, and finds nothing.
    let lost = ROUTE.replace("by-reference/", "by-reference/not-") + "\nmax_wait: 200ms";
    let first = Sidecar::start_on(Arc::clone(&store), config(provider.addr(), &lost)).await;
    let answer = plain().key("k").header("X-Practice", "drop-after").ask(first.addr).await;
    answer.problem(504, "outcome-unknown");

    let shorter = ROUTE.replace("/reference }", "/reference }, max: 20");
    let second = Sidecar::start_on(store, config(provider.addr(), &shorter)).await;
    second.until_state(answer.operation(), "settled").await;

    let found = plain().key("k").header("X-Practice", "drop-after").ask(second.addr).await;
    assert_eq!((found.status, found.kind()), (201, "replayed"));
    assert_eq!(found.json()["reference"].as_str().map(str::len), Some(40));
    assert_eq!(provider.ledger().count(Sought::All), 1);
}

#[tokio::test]
async fn a_key_that_is_claimed_again_has_the_same_reference_in_every_process() {
    let upstream = Scripted::answering(with_length("429 Too Many Requests", b"")).await;
    let store: SharedStore = Arc::new(MemoryStore::default());
    let route = "reference: { into: { form: \"m[ref]\" }, max: 24 }";
    for key in ["a", "a", "b"] {
        let config = config(upstream.addr(), route);
        let sidecar = Sidecar::start_on(Arc::clone(&store), config).await;
        assert_eq!(form("x=1").key(key).ask(sidecar.addr).await.kind(), "released");
    }

    let bodies: Vec<_> = upstream.requests().into_iter().map(|request| request.body).collect();

    assert_eq!(bodies[0], bodies[1]);
    assert_ne!(bodies[0], bodies[2]);
    let body = String::from_utf8(bodies[0].clone()).unwrap();
    assert_eq!(body.strip_prefix("x=1&m%5Bref%5D=").map(str::len), Some(24), "{body}");
}

#[tokio::test]
async fn every_other_byte_goes_on_as_it_came() {
    let route = "reference: { into: { json: /metadata/semel }, max: 16 }";
    let body = "{ \"amount\": 1.50,\n  \"metadata\" : {\"order\":\"\\u0037\"} , \"big\":1e400 }";
    let ask = Ask::post("/pay").header("Content-Type", "application/json").body(body).key("k");

    let received = received(route, &ask).await;

    let (front, back) = body.split_at(body.find("} ,").unwrap());
    let put = received.strip_prefix(front).and_then(|rest| rest.strip_suffix(back)).unwrap();
    let reference = put.strip_prefix(",\"semel\":\"").and_then(|rest| rest.strip_suffix('"'));
    assert_eq!(reference.map(str::len), Some(16), "{put}");
}

#[tokio::test]
async fn a_value_of_the_callers_own_is_the_reference() {
    let provider = provider();
    let sidecar = Sidecar::start(config(provider.addr(), ROUTE)).await;
    let ask = Ask::pay("mine").key("k").header("X-Practice", "drop-after");

    let answer = ask.ask(sidecar.addr).await;

    assert_eq!((answer.kind(), &answer.json()["reference"]), ("looked-up", &"mine".into()));
}

#[tokio::test]
async fn a_body_that_is_signed_or_compressed_goes_on_untouched() {
    let route = "reference: { into: { form: ref } }";
    let with = |name, value| form("a=1").header(name, value).key("k");
    assert_eq!(received(route, &with("Signature", "x")).await, "a=1");
    assert_eq!(received(route, &with("Content-Encoding", "gzip")).await, "a=1");
    for odd in ["ref=", "a=%zz", "ref=1&ref=2"] {
        assert_eq!(received(route, &form(odd).key("k")).await, odd);
    }
    // A list of one's own is the whole list.
    let route = "reference: { into: { form: ref }, unless: [X-Seal] }";
    assert!(received(route, &with("Signature", "x")).await.starts_with("a=1&ref="));
    assert_eq!(received(route, &with("X-Seal", "x")).await, "a=1");
}

#[tokio::test]
async fn what_is_only_watched_is_forwarded_as_it_came() {
    let upstream = Scripted::answering(with_length("200 OK", b"")).await;
    let route = "mode: observe\nreference: { into: { json: /ref } }";
    let sidecar = Sidecar::start(config(upstream.addr(), route)).await;
    for kind in ["fresh", "unguarded"] {
        assert_eq!(plain().key("k").ask(sidecar.addr).await.kind(), kind);
    }

    let bodies: Vec<_> = upstream.requests().into_iter().map(|request| request.body).collect();

    let came: &[u8] = br#"{"amount": 700, "currency": "eur" }"#;
    assert_eq!(bodies, [came, came]);
}

#[tokio::test]
async fn what_is_sent_again_from_a_duplicate_has_the_reference_of_the_first() {
    let bodies: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let seen = Arc::clone(&bodies);
    let upstream = RawServer::start(move |mut peer| {
        let seen = Arc::clone(&seen);
        async move {
            while let Some(request) = peer.request().await? {
                let count = {
                    let mut seen = seen.lock().expect("no test panics with it");
                    seen.push(request.body);
                    seen.len()
                };
                // The first answer is lost.
                if count == 1 {
                    return Ok(());
                }
                peer.ok("paid").await?;
            }
            Ok(())
        }
    })
    .await;
    let store: SharedStore = Arc::new(MemoryStore::default());
    let plain_route = "reference: { into: { json: /ref } }";
    let first = config(upstream.address, plain_route);
    let first = Sidecar::start_on(Arc::clone(&store), first).await;
    plain().key("k").ask(first.addr).await.problem(504, "outcome-unknown");
    let resending = format!("{plain_route}\nlookup: {{ resend: {{ within: 1h }} }}");
    let second = Sidecar::start_on(store, config(upstream.address, &resending)).await;

    let answer = plain().key("k").ask(second.addr).await;

    assert_eq!((answer.status, answer.text()), (200, "paid".to_owned()));
    let bodies = bodies.lock().expect("no test panics with it");
    assert!(String::from_utf8_lossy(&bodies[0]).contains("\"ref\":\""));
    assert_eq!((bodies.len(), &bodies[0]), (2, &bodies[1]));
}
