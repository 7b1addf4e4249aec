//! What nobody guards (streamed through), what a look-up asks, and which headers go on.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use semel::protocol::outcome::UnknownReason;
use semel::task::Tasks;
use semel::upstream::settings::{PassTimeouts, Settings};
use semel::upstream::{Forwarded, HttpUpstream, PassError, StreamingBody, Upstream};
use tokio::sync::{mpsc, oneshot};

use crate::support::rawserver::{RawRequest, RawServer};
use crate::upstream::{LONG, SOON, echo, pooled, post, settings, upstream, wire};

fn empty() -> StreamingBody {
    Empty::new().map_err(|never| match never {}).boxed()
}

fn full(body: &'static str) -> StreamingBody {
    Full::from(body).map_err(|never| match never {}).boxed()
}

fn get() -> Request<StreamingBody> {
    Request::get("/things?all").body(empty()).unwrap()
}

async fn whole(upstream: &HttpUpstream, request: Request<StreamingBody>) -> Bytes {
    let answer = upstream.pass(request).await.unwrap();
    answer.into_body().collect().await.unwrap().to_bytes()
}

/// A server that answers everything with this text and closes.
async fn saying(text: &'static str) -> RawServer {
    RawServer::start(move |mut peer| async move {
        peer.request().await?;
        peer.write(text).await
    })
    .await
}

/// A server that says what it got.
async fn recording() -> (RawServer, mpsc::UnboundedReceiver<RawRequest>) {
    let (tell, told) = mpsc::unbounded_channel();
    let server = RawServer::start(move |mut peer| {
        let tell = tell.clone();
        async move {
            while let Some(request) = peer.request().await? {
                tell.send(request).unwrap();
                peer.ok("").await?;
            }
            Ok(())
        }
    })
    .await;
    (server, told)
}

// ---- pass

#[tokio::test]
async fn bodies_stream_through_both_ways() {
    let server = RawServer::start(|mut peer| async move {
        peer.until("one").await?;
        peer.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nearly\r\n").await?;
        let request = peer.request().await?.unwrap();
        assert_eq!(request.body, b"one two");
        peer.write("4\r\nlate\r\n0\r\n\r\n").await
    })
    .await;
    let (pieces, body) = mpsc::unbounded_channel();
    let send = |piece| pieces.send(Ok(Frame::data(Bytes::from_static(piece)))).unwrap();
    let body = stream::unfold(body, |mut body| async move { Some((body.recv().await?, body)) });
    let body = BodyExt::boxed(StreamBody::new(body));

    send(b"one ");
    let answer = upstream(&server, pooled()).pass(Request::put("/").body(body).unwrap()).await;
    let mut answer = answer.unwrap().into_body();
    assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "early");

    send(b"two");
    drop(pieces);
    assert_eq!(answer.collect().await.unwrap().to_bytes(), "late");
}

#[tokio::test]
async fn an_answer_that_ends_by_closing_may_pass() {
    let server = saying("HTTP/1.1 200 OK\r\n\r\nuntil the end").await;

    assert_eq!(whole(&upstream(&server, pooled()), get()).await, "until the end");
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_does_not_pass() {
    for odd in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nok",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    ] {
        let server = saying(odd).await;
        let passed = upstream(&server, pooled()).pass(get()).await;
        assert_eq!(passed.err(), Some(PassError::Broken), "{odd}");
    }
}

#[tokio::test]
async fn a_passed_body_that_is_cut_fails() {
    let server = saying("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;

    let answer = upstream(&server, pooled()).pass(get()).await.unwrap();

    assert_eq!(answer.into_body().collect().await.err(), Some(UnknownReason::Truncated));
}

#[tokio::test]
async fn an_upstream_that_is_not_there_was_not_reached() {
    let server = RawServer::start(echo).await;
    let upstream = upstream(&server, pooled());
    drop(server);
    tokio::task::yield_now().await;

    assert_eq!(upstream.pass(get()).await.err(), Some(PassError::NotSent));
}

#[tokio::test]
async fn an_upstream_that_is_silent_is_not_waited_for_forever() {
    let server = RawServer::start(|mut peer| async move {
        peer.request().await?;
        peer.is_closed_within(LONG).await;
        Ok(())
    })
    .await;
    let head = Duration::from_millis(100);
    let pass = PassTimeouts { head, ..PassTimeouts::default() };
    let settings = Settings { pass, ..settings(&format!("http://{}", server.address)) };
    let upstream = HttpUpstream::new(&settings, &Tasks::default()).unwrap();

    assert_eq!(upstream.pass(get()).await.err(), Some(PassError::TimedOut));
}

#[tokio::test]
async fn a_body_that_is_not_read_to_its_end_closes_the_connection() {
    let (tell, closed) = oneshot::channel();
    let tell = std::sync::Mutex::new(Some(tell));
    let server = RawServer::start(move |mut peer| {
        let tell = tell.lock().unwrap().take();
        async move {
            peer.request().await?;
            peer.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await?;
            tell.unwrap().send(peer.is_closed_within(SOON).await).unwrap();
            Ok(())
        }
    })
    .await;
    let upstream = upstream(&server, pooled());

    drop(upstream.pass(get()).await.unwrap());

    assert!(closed.await.unwrap());
}

// ---- headers and targets

#[tokio::test]
async fn the_upstream_sees_its_own_name_and_only_end_to_end_headers() {
    let (server, mut told) = recording().await;
    let settings = settings(&format!("http://{}/base", server.address));
    let upstream = HttpUpstream::new(&settings, &Tasks::default()).unwrap();
    let request = Request::post("http://evil.example/v1/x%2Fy?q=1")
        .header("host", "evil.example")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("x-envoy-retry-on", "5xx")
        .header("content-length", "99")
        .header("idempotency-key", "k")
        .body(Bytes::from_static(b"body"))
        .unwrap();

    let forwarded = upstream.forward(request, &wire(LONG)).await;

    assert!(matches!(forwarded, Forwarded::Answered(_)));
    let got = told.recv().await.unwrap();
    let mut lines: Vec<_> = got.head.trim_end().lines().collect();
    assert_eq!(lines.remove(0), "post /base/v1/x%2fy?q=1 http/1.1");
    lines.sort_unstable();
    let host = format!("host: {}", server.address);
    assert_eq!(lines, ["content-length: 4", &host, "idempotency-key: k", "via: 1.1 semel"]);
    assert_eq!(got.body, b"body");
}

#[tokio::test]
async fn an_empty_post_says_so_and_a_get_says_nothing() {
    let (server, mut told) = recording().await;
    let upstream = upstream(&server, pooled());

    upstream.forward(post(""), &wire(LONG)).await;
    assert!(told.recv().await.unwrap().head.contains("content-length: 0"));

    upstream.pass(get()).await.unwrap();
    let head = told.recv().await.unwrap().head;
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");

    let request = Request::patch("/").body(full("four")).unwrap();
    upstream.pass(request).await.unwrap();
    assert!(told.recv().await.unwrap().head.contains("content-length: 4"));
}

#[tokio::test]
async fn the_answer_keeps_its_own_headers_and_loses_those_of_its_connection() {
    let server = saying(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: x-hop\r\nx-hop: 1\r\n\
         semel-answer: replayed\r\nset-cookie: a=b\r\nx-request-id: 7\r\n\r\nok",
    )
    .await;

    let Forwarded::Answered(answer) =
        upstream(&server, pooled()).forward(post("x"), &wire(LONG)).await
    else {
        panic!("there was an answer")
    };

    let mut names: Vec<_> = answer.headers().keys().map(ToString::to_string).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "set-cookie", "x-request-id"]);
}

// ---- ask

fn question() -> Request<Bytes> {
    Request::get("/v1/payments?key=k").body(Bytes::new()).unwrap()
}

#[tokio::test]
async fn a_question_gets_the_whole_answer() {
    let server = saying("HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 2\r\n\r\nok").await;

    let answer = upstream(&server, pooled()).ask(question(), LONG, 10).await.unwrap();

    assert_eq!((answer.status(), answer.body().as_ref()), (StatusCode::FOUND, b"ok".as_ref()));
    assert_eq!(server.executions(), 1, "a redirect is not followed");
}

#[tokio::test]
async fn a_question_without_a_whole_answer_says_why() {
    for (text, words) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n12345678901", "longer than 10 bytes"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", "ended early"),
        ("HTTP/1.1 200 OK\r\n\r\nok", "end cannot be told"),
        ("", "the connection ended"),
    ] {
        let server = saying(text).await;
        let error = upstream(&server, pooled()).ask(question(), LONG, 10).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_question_is_not_asked_forever() {
    let server = RawServer::start(|mut peer| async move {
        peer.request().await?;
        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await?;
        peer.is_closed_within(LONG).await;
        Ok(())
    })
    .await;
    let timeout = Duration::from_millis(100);

    let error = upstream(&server, pooled()).ask(question(), timeout, 10).await.unwrap_err();

    assert!(error.to_string().contains("timeout"), "{error}");
}

#[tokio::test]
async fn questions_are_asked_while_every_connection_is_busy() {
    let server = RawServer::start(|mut peer| async move {
        let request = peer.request().await?.unwrap();
        if request.head.starts_with("get") {
            return peer.ok("found").await;
        }
        peer.is_closed_within(LONG).await;
        Ok(())
    })
    .await;
    let one = settings(&format!("http://{}", server.address));
    let one = Settings { connections_max: 1.try_into().unwrap(), ..one };
    let upstream = Arc::new(HttpUpstream::new(&one, &Tasks::default()).unwrap());
    let wire = wire(LONG);

    let busy = upstream.forward(post("x"), &wire);
    let asked = upstream.ask(question(), LONG, 10);

    tokio::select! {
        _ = busy => panic!("there was no answer"),
        answer = asked => assert_eq!(answer.unwrap().body().as_ref(), b"found"),
    }
}
