//! Semel's own answers in the form that a provider's SDK reads, and that they still say whose they are.

use std::net::SocketAddr;

use crate::support::client::Ask;
use crate::support::rawserver::RawServer;
use crate::support::scripted::{Scripted, with_length};
use crate::support::sidecar::{Sidecar, config};

const SHAPE: &str = "\
max_wait: 100ms
limits: { request_body: 100B }
errors:
  statuses: { outcome-unknown: 409, key-reused: 400 }
  headers: { X-Should-Retry: '{{ retry == \"same-key\" }}' }
  body: '{ \"error\": { \"code\": {{ slug }}, \"message\": {{ detail }}, \"status\": {{ status }} } }'";

/// An address where nobody listens.
fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], crate::support::redis::free_port()))
}

#[tokio::test]
async fn answers_of_semels_own_have_the_routes_shape_and_all_others_their_own() {
    let upstream = Scripted::answering(with_length("200 OK", b"paid")).await;
    let sidecar = Sidecar::start(config(upstream.addr(), SHAPE)).await;
    let ask = Ask::post("/pay").key("k").body("{}");

    let (first, replay) = (ask.ask(sidecar.addr).await, ask.ask(sidecar.addr).await);
    let reused = Ask::post("/pay").key("k").body("[]").ask(sidecar.addr).await;
    let large = Ask::post("/pay").key("l").body(vec![b'x'; 101]).ask(sidecar.addr).await;

    for answer in [first, replay] {
        assert_eq!((answer.status, answer.text().as_str()), (200, "paid"));
        assert_eq!(answer.header("x-should-retry"), None);
    }
    for (answer, status, slug) in [(reused, 400, "key-reused"), (large, 413, "body-too-large")] {
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        assert_eq!(answer.kind(), "refused");
        assert!(answer.header("proxy-status").is_some_and(|value| value.starts_with("semel; ")));
        let error = &answer.json()["error"];
        assert_eq!((&error["code"], &error["status"]), (&slug.into(), &status.into()));
    }
}

#[tokio::test]
async fn an_unknown_outcome_keeps_its_headers_in_any_shape() {
    let unreachable = Sidecar::start(config(nowhere(), SHAPE)).await;

    let released = Ask::post("/pay").key("k").ask(unreachable.addr).await;
    assert_eq!((released.status, released.kind()), (502, "released"));
    assert_eq!(released.json()["error"]["code"], "upstream-unreachable");
    assert_eq!(released.header("x-should-retry"), Some("true"));

    let silent = RawServer::start(|mut peer| async move { peer.request().await.map(drop) }).await;
    let sidecar = Sidecar::start(config(silent.address, SHAPE)).await;
    let unknown = Ask::post("/pay").key("k").ask(sidecar.addr).await;
    assert_eq!((unknown.status, unknown.kind()), (409, "unknown"));
    assert_eq!(unknown.json()["error"]["code"], "outcome-unknown");
    assert_eq!(unknown.json()["error"]["status"], 409);
    for name in ["location", "retry-after", "semel-operation", "proxy-status"] {
        assert!(unknown.header(name).is_some(), "{name}");
    }

    let asked =
        Ask::post("/pay").key("k").header("Prefer", "respond-async").ask(sidecar.addr).await;
    assert_eq!((asked.status, asked.kind()), (202, "unknown"), "{}", asked.text());
    assert_eq!(asked.header("preference-applied"), Some("respond-async"));
}

#[tokio::test]
async fn before_there_is_a_route_problems_are_plain_and_the_contract_tells_the_statuses() {
    let upstream = Scripted::answering("").await;
    let sidecar = Sidecar::start(config(upstream.addr(), SHAPE)).await;

    let refused = Ask::post("/pay").header("Upgrade", "h2c").ask(sidecar.addr).await;
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    let contract = Ask::new("GET", "/.well-known/semel/contract").ask(sidecar.addr).await.json();
    let statuses = serde_json::json!({ "key-reused": 400, "outcome-unknown": 409 });
    assert_eq!(contract["routes"][0]["statuses"], statuses);
    assert_eq!(contract["routes"][1]["statuses"], serde_json::json!({}));
}
