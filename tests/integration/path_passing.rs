//! What passes through, with and without a guard: headers, streams, modes, the well-known paths,
//! and the front door before all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::front_door::run_table;
use crate::support::client::Ask;
use crate::support::rawserver::RawServer;
use crate::support::scripted::{Scripted, with_length};
use crate::support::sidecar::{Sidecar, config, config_of};

#[tokio::test]
async fn headers_are_stripped_both_ways_and_the_host_is_the_upstreams() {
    let head = "200 OK\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
                semel-answer: forged\r\nsemel-operation: forged\r\nx-kept: 1";
    let upstream = Scripted::answering(with_length(head, b"ok")).await;
    let sidecar = Sidecar::start(config(upstream.addr(), "")).await;
    let dressed = |ask: Ask| {
        ask.header("Connection", "x-private, keep-alive")
            .header("X-Private", "1")
            .header("X-Envoy-Retry-On", "5xx")
            .header("TE", "trailers")
            .header("X-Kept", "1")
            .header("Proxy-Authorization", "Basic eA==")
            .header("Semel-Answer", "forged")
    };

    let guarded = dressed(Ask::post("/pay?a=%20b&c").key("\"k\"")).ask(sidecar.addr).await;
    let passed = dressed(Ask::new("GET", "/pay?a=%20b&c")).ask(sidecar.addr).await;

    for request in upstream.requests() {
        let head = request.head;
        assert!(head.contains(&format!("host: {}\r\n", upstream.addr())), "{head}");
        assert!(
            head.contains(" /pay?a=%20b&c http/1.1\r\n") && head.contains("x-kept: 1"),
            "{head}"
        );
        for gone in ["x-private", "x-envoy", "te: ", "proxy-auth", "semel-answer", "shop.example"] {
            assert!(!head.contains(gone), "{gone} in {head}");
        }
    }
    assert!(upstream.requests()[0].head.contains("idempotency-key: \"k\"\r\n"));
    for answer in [&guarded, &passed] {
        assert_eq!((answer.header("x-hop"), answer.header("keep-alive")), (None, None));
        assert_eq!(answer.header("x-kept"), Some("1"));
    }
    assert_eq!((guarded.kind(), passed.kind()), ("fresh", "none"));
    assert_ne!(guarded.operation(), "forged");
}

#[tokio::test]
async fn a_redirect_is_the_callers_business() {
    let elsewhere = Scripted::answering(with_length("200 OK", b"")).await;
    let head = format!("307 Temporary Redirect\r\nlocation: http://{}/", elsewhere.addr());
    let upstream = Scripted::answering(with_length(&head, b"")).await;
    let sidecar = Sidecar::start(config(upstream.addr(), "")).await;

    for ask in [Ask::post("/pay").key("k"), Ask::new("GET", "/pay")] {
        assert_eq!(ask.ask(sidecar.addr).await.status, 307);
    }
    assert_eq!((upstream.executions(), elsewhere.executions()), (2, 0));
}

#[tokio::test]
async fn safe_requests_stream_through_with_bounded_memory() {
    const CHUNK: usize = 1 << 20;
    const CHUNKS: usize = 50;
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    let upstream = RawServer::start(move |mut peer| {
        let counter = Arc::clone(&counter);
        async move {
            peer.request().await?;
            peer.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n")
                .await?;
            let chunk = format!("{CHUNK:x}\r\n{}\r\n", "x".repeat(CHUNK));
            for _ in 0..CHUNKS {
                peer.write(&chunk).await?;
                counter.fetch_add(1, Ordering::SeqCst);
            }
            peer.write("0\r\nx-sum: 1\r\n\r\n").await
        }
    })
    .await;
    let sidecar = Sidecar::start(config(upstream.address, "")).await;

    let mut call = Ask::new("GET", "/export").send(sidecar.addr).await;
    call.begun().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let ahead = written.load(Ordering::SeqCst);
    let answer = call.answer().await;

    // Nobody read: what lies in between is bounded by sockets and a few buffers.
    assert!(ahead < 20, "{ahead} MiB are under way");
    assert_eq!((answer.status, answer.whole, answer.body.len()), (200, true, CHUNK * CHUNKS));
    assert_eq!(answer.header("x-sum"), None);
}

#[tokio::test]
async fn what_no_route_matches_is_guarded_all_the_same() {
    let upstream = Scripted::answering(with_length("200 OK", b"")).await;
    let rest = "routes: [{ match: { path: /only/this, methods: [POST] }, mode: off }]";
    let sidecar = Sidecar::start(config_of(upstream.addr(), rest)).await;

    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let ask = Ask::new(method, "/other").key("k");
        assert_eq!(ask.ask(sidecar.addr).await.kind(), "fresh", "{method}");
        assert_eq!(ask.ask(sidecar.addr).await.kind(), "replayed", "{method}");
    }
    let off = Ask::post("/only/this").key("k");
    for _ in 0..2 {
        assert_eq!(off.ask(sidecar.addr).await.kind(), "none");
    }
    assert_eq!(upstream.executions(), 6);
}

#[tokio::test]
async fn observing_forwards_what_it_would_have_stopped() {
    let upstream = Scripted::answering(with_length("200 OK", b"x")).await;
    let route = "mode: observe\nkey: { missing: reject }\nlimits: { request_body: 4B }";
    let sidecar = Sidecar::start(config(upstream.addr(), route)).await;
    let ask = Ask::post("/pay").key("k").body("1");

    let won = ask.ask(sidecar.addr).await;
    let rest = [
        ask.clone(),
        ask.clone().body("2"),
        Ask::post("/pay"),
        Ask::post("/pay").key(""),
        Ask::post("/pay").key("l").body("too long"),
    ];
    for ask in rest {
        let answer = ask.ask(sidecar.addr).await;
        assert_eq!((answer.status, answer.kind()), (200, "unguarded"), "{ask:?}");
    }

    assert_eq!((won.kind(), upstream.executions()), ("fresh", 6));
    assert_eq!(upstream.requests()[5].body, b"too long");
    assert_eq!(sidecar.state(won.operation()).await, "settled");
    for by in ["record", "mismatch", "body-too-large"] {
        assert_eq!(sidecar.metric("semel_duplicates_prevented_total", by).await, 1.0, "{by}");
    }
}

#[tokio::test]
async fn an_operation_tells_its_state_and_never_its_answer() {
    let upstream = Scripted::gated(with_length("201 Created\r\nx-secret: 1", b"CANARY")).await;
    let sidecar = Sidecar::start(config(upstream.addr(), "")).await;
    let ask = Ask::post("/pay")
        .key("CANARY-KEY")
        .body("CANARY-BODY")
        .header("Authorization", "Bearer CANARY-TOKEN");
    let owner = ask.send(sidecar.addr).await;
    upstream.until_executions(1).await;
    let conflict = Ask::post("/pay")
        .key("CANARY-KEY")
        .body("other")
        .header("Authorization", "Bearer CANARY-TOKEN")
        .ask(sidecar.addr)
        .await;
    let id = conflict.operation().to_owned();

    let flying = sidecar.operation(&id).await;
    upstream.let_go(1);
    owner.answer().await;
    let settled = sidecar.operation(&id).await;

    assert_eq!(
        (&flying.json()["state"], &settled.json()["state"]),
        (&"in-flight".into(), &"settled".into())
    );
    assert_eq!(settled.json()["upstream_status"], 201);
    for answer in [&flying, &settled] {
        assert!(!answer.text().contains("CANARY") && answer.header("x-secret").is_none());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    // Any other id, well made or not, is none.
    let mut forged = id.clone().into_bytes();
    let last = forged.len() - 1;
    forged[last] = if forged[last] == b'A' { b'E' } else { b'A' };
    for id in [String::from_utf8(forged).unwrap(), "x".to_owned(), String::new()] {
        sidecar.operation(&id).await.problem(404, "not-found");
    }
    assert_eq!(Ask::post("/.well-known/semel/operations/x").ask(sidecar.addr).await.status, 405);
    assert_eq!(upstream.executions(), 1);
}

#[tokio::test]
async fn the_contract_says_what_is_configured() {
    let upstream = Scripted::answering("").await;
    let route = "key: { sources: [{ header: X-Key }, { json: /id }], missing: reject }\n\
                 scope: { fixed: shop }\nduplicates: conflict\nretention: 2h\nremember: 1h";
    let sidecar = Sidecar::start(config(upstream.addr(), route)).await;

    let contract = Ask::new("GET", "/.well-known/semel/contract").ask(sidecar.addr).await.json();

    let route = &contract["routes"][0];
    assert_eq!(route["keys"], serde_json::json!([{"header": "x-key"}, {"json": "/id"}]));
    assert_eq!(route["scope"]["fixed"], "shop");
    assert_eq!(route["without_key"]["refused_with"], 400);
    assert_eq!(route["in_flight_duplicates"]["status"], 409);
    assert_eq!(
        (&route["answers_kept_seconds"], &route["keys_remembered_seconds"]),
        (&7200.into(), &10800.into())
    );
    assert_eq!(contract["statuses"]["key-reused"], 422);
}

#[tokio::test]
async fn the_front_door_stands_before_the_whole_proxy() {
    let upstream = Scripted::answering(with_length("200 OK", b"ok")).await;
    let rest = "server: { header_timeout: 300ms, idle_timeout: 300ms, body_timeout: 300ms }";
    let sidecar = Sidecar::start(config_of(upstream.addr(), rest)).await;

    run_table(sidecar.addr, || upstream.executions()).await;
}
