//! The upstream over real sockets: every way an exchange can go wrong, and what is known then.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use semel::protocol::outcome::{NotSent, UnknownReason};
use semel::task::Tasks;
use semel::upstream::settings::{Connections, Settings};
use semel::upstream::{Forwarded, HttpUpstream, Upstream, Wire};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::rawserver::{Peer, RawServer};
use crate::support::sidecar::until;

/// Long enough for anything on loopback.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// How soon a connection that is to be closed must be.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// How old a spare gets; as `upstream` has it.
const SPARE_AGE_MAX: Duration = Duration::from_secs(2);

const SINGLE_USE: Connections = Connections::SingleUse { spares: 0 };

pub(crate) fn pooled() -> Connections {
    Connections::default()
}

pub(crate) fn settings(url: &str) -> Settings {
    Settings::new(url.parse().unwrap())
}

pub(crate) fn upstream(server: &RawServer, connections: Connections) -> HttpUpstream {
    let settings = settings(&format!("http://{}", server.address));
    HttpUpstream::new(&Settings { connections, ..settings }, &Tasks::default()).unwrap()
}

pub(crate) fn wire(patience: Duration) -> Arc<Wire> {
    Arc::new(Wire::new(Instant::now() + patience))
}

pub(crate) fn post(body: &'static str) -> Request<Bytes> {
    Request::post("/v1/payments").body(Bytes::from_static(body.as_bytes())).unwrap()
}

/// What an owner sees in the end: the whole answer, or what went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Answer(StatusCode, Bytes),
    NotSent(NotSent),
    Broken(UnknownReason),
}

pub(crate) fn answer(body: &str) -> Seen {
    Seen::Answer(StatusCode::OK, Bytes::copy_from_slice(body.as_bytes()))
}

/// Forwards, reads the body to its end, and checks that wire and verdict agree.
pub(crate) async fn forward(
    upstream: &HttpUpstream,
    request: Request<Bytes>,
    wire: &Arc<Wire>,
) -> Seen {
    let seen = match upstream.forward(request, wire).await {
        Forwarded::Answered(answer) => {
            let status = answer.status();
            match answer.into_body().collect().await {
                Ok(body) => {
                    assert!(body.trailers().is_none(), "trailers are never passed on");
                    Seen::Answer(status, body.to_bytes())
                }
                Err(why) => Seen::Broken(why),
            }
        }
        Forwarded::NotSent(proof) => Seen::NotSent(proof),
        Forwarded::Broken(why) => Seen::Broken(why),
    };
    let claims_sent = !matches!(seen, Seen::NotSent(_));
    assert_eq!(wire.begun().is_some(), claims_sent, "{seen:?}");
    seen
}

/// What becomes of one request whose answer is this text, the connection staying open after it.
async fn seen_after(text: &'static str) -> Seen {
    let server = RawServer::start(move |mut peer| async move {
        peer.request().await?;
        peer.write(text).await?;
        peer.is_closed_within(LONG).await;
        Ok(())
    })
    .await;
    forward(&upstream(&server, pooled()), post("x"), &wire(Duration::from_secs(2))).await
}

/// The same, the connection closing after it.
async fn seen_before_close(text: &'static str) -> Seen {
    let server = RawServer::start(move |mut peer| async move {
        peer.request().await?;
        peer.write(text).await
    })
    .await;
    forward(&upstream(&server, pooled()), post("x"), &wire(LONG)).await
}

/// Answers every request on the connection.
pub(crate) async fn echo(mut peer: Peer) -> io::Result<()> {
    while let Some(request) = peer.request().await? {
        peer.ok(&String::from_utf8(request.body).unwrap()).await?;
    }
    Ok(())
}

// ---- not sent, with proof

#[tokio::test]
async fn a_refused_connection_proves_that_nothing_was_sent() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let upstream =
        HttpUpstream::new(&settings(&format!("http://{free}")), &Tasks::default()).unwrap();

    let seen = forward(&upstream, post("x"), &wire(LONG)).await;

    assert_eq!(seen, Seen::NotSent(NotSent::NotConnected));
    assert!(upstream.reach().await.is_err());
}

#[tokio::test]
async fn no_first_byte_goes_out_after_the_upstream_timeout() {
    let server = RawServer::start(echo).await;
    let upstream = upstream(&server, pooled());

    let seen = forward(&upstream, post("x"), &wire(Duration::ZERO)).await;

    assert_eq!(seen, Seen::NotSent(NotSent::TooLate));
    assert_eq!(server.executions(), 0);
}

#[tokio::test]
async fn a_handshake_that_outlasts_the_upstream_timeout_sends_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let upstream =
        HttpUpstream::new(&settings(&format!("https://127.0.0.1:{port}")), &Tasks::default());

    let seen = forward(&upstream.unwrap(), post("x"), &wire(Duration::from_millis(50))).await;

    assert_eq!(seen, Seen::NotSent(NotSent::TooLate));
}

#[tokio::test]
async fn a_target_that_is_no_path_is_not_sent() {
    let server = RawServer::start(echo).await;
    let request = Request::options("*").body(Bytes::new()).unwrap();

    let seen = forward(&upstream(&server, pooled()), request, &wire(LONG)).await;

    assert_eq!(seen, Seen::NotSent(NotSent::NeverWritten));
}

// ---- sent, and nobody knows

#[tokio::test]
async fn a_close_after_a_whole_request_proves_nothing() {
    assert_eq!(seen_before_close("").await, Seen::Broken(UnknownReason::ConnectionLost));
    let half = "HTTP/1.1 200 OK\r\ncontent-le";
    assert_eq!(seen_before_close(half).await, Seen::Broken(UnknownReason::ConnectionLost));
}

#[tokio::test]
async fn a_reset_after_the_first_byte_proves_nothing() {
    let server = RawServer::start(|mut peer| async move {
        peer.request().await?;
        peer.reset();
        Ok(())
    })
    .await;

    let seen = forward(&upstream(&server, pooled()), post("x"), &wire(LONG)).await;

    assert_eq!(seen, Seen::Broken(UnknownReason::ConnectionLost));
    assert_eq!((server.connections(), server.executions()), (1, 1), "never sent again");
}

#[tokio::test]
async fn a_timeout_proves_nothing_and_closes_the_connection() {
    let (tell, closed) = oneshot::channel();
    let tell = Mutex::new(Some(tell));
    let server = RawServer::start(move |mut peer| {
        let tell = tell.lock().unwrap().take();
        async move {
            peer.request().await?;
            let is_closed = peer.is_closed_within(SOON).await;
            tell.unwrap().send(is_closed).unwrap();
            Ok(())
        }
    })
    .await;
    let upstream = upstream(&server, pooled());

    let seen = forward(&upstream, post("x"), &wire(Duration::from_millis(100))).await;

    assert_eq!(seen, Seen::Broken(UnknownReason::TimedOut));
    assert!(closed.await.unwrap());
}

#[tokio::test]
async fn an_answer_that_stops_in_its_body_times_out() {
    let stops = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    assert_eq!(seen_after(stops).await, Seen::Broken(UnknownReason::TimedOut));
}

#[tokio::test]
async fn a_caller_that_leaves_closes_the_connection() {
    let (tell, closed) = oneshot::channel();
    let tell = Mutex::new(Some(tell));
    let (arrived, request_came) = oneshot::channel();
    let arrived = Mutex::new(Some(arrived));
    let server = RawServer::start(move |mut peer| {
        let (tell, arrived) = (tell.lock().unwrap().take(), arrived.lock().unwrap().take());
        async move {
            peer.request().await?;
            arrived.unwrap().send(()).unwrap();
            let is_closed = peer.is_closed_within(SOON).await;
            tell.unwrap().send(is_closed).unwrap();
            Ok(())
        }
    })
    .await;
    let upstream = upstream(&server, pooled());
    let wire = wire(LONG);

    tokio::select! {
        _ = upstream.forward(post("x"), &wire) => panic!("there was no answer"),
        came = request_came => came.unwrap(),
    }

    assert!(closed.await.unwrap());
    assert!(wire.begun().is_some());
}

// ---- framing

#[tokio::test]
async fn a_cut_answer_is_never_a_whole_one() {
    for cut in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ] {
        assert_eq!(seen_before_close(cut).await, Seen::Broken(UnknownReason::Truncated), "{cut}");
    }
}

#[tokio::test]
async fn an_answer_whose_end_is_uncertain_is_refused() {
    for odd in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2, 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nended by closing",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n",
        "not http at all\r\n\r\n",
    ] {
        assert_eq!(seen_before_close(odd).await, Seen::Broken(UnknownReason::IllFramed), "{odd}");
        assert_eq!(seen_after(odd).await, Seen::Broken(UnknownReason::IllFramed), "{odd}");
    }
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let server = RawServer::start(|mut peer| async move {
        peer.request().await?;
        peer.write("HTTP/1.1 200 OK\r\n").await?;
        for _ in 0..100_000 {
            peer.write("x: 0123456789012345678901234567890123456789\r\n").await?;
        }
        Ok(())
    })
    .await;

    let seen = forward(&upstream(&server, pooled()), post("x"), &wire(LONG)).await;

    assert_eq!(seen, Seen::Broken(UnknownReason::IllFramed));
}

#[tokio::test]
async fn an_answer_of_128_header_fields_is_whole() {
    let server = RawServer::start(|mut peer| async move {
        peer.request().await?;
        let fields = "x: 1\r\n".repeat(127);
        peer.write(&format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{fields}\r\nok")).await?;
        Ok(())
    })
    .await;

    let seen = forward(&upstream(&server, pooled()), post("x"), &wire(LONG)).await;

    assert_eq!(seen, answer("ok"));
}

#[tokio::test]
async fn an_unasked_switch_of_protocols_is_no_answer() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n";

    assert_eq!(seen_after(switch).await, Seen::Broken(UnknownReason::UnexpectedUpgrade));
}

#[tokio::test]
async fn interim_answers_and_trailers_are_left_out() {
    let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n\
                HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n\
                2\r\nok\r\n0\r\nx: 1\r\n\r\n";

    assert_eq!(seen_after(text).await, answer("ok"));
}

#[tokio::test]
async fn an_answer_without_a_body_is_whole() {
    let text = "HTTP/1.1 204 No Content\r\n\r\n";

    assert_eq!(seen_after(text).await, Seen::Answer(StatusCode::NO_CONTENT, Bytes::new()));
}

// ---- connections

#[tokio::test]
async fn a_pooled_connection_is_used_again_and_a_single_use_one_is_not() {
    for (connections, opened) in [(pooled(), 1), (SINGLE_USE, 5)] {
        let server = RawServer::start(echo).await;
        let upstream = upstream(&server, connections);

        for _ in 0..5 {
            assert_eq!(forward(&upstream, post("x"), &wire(LONG)).await, answer("x"));
            // The connection notices on its own task that it is free.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }

        assert_eq!(server.connections(), opened, "{connections:?}");
    }
}

#[tokio::test]
async fn spares_are_bounded_and_used() {
    for _ in 0..5 {
        let server = RawServer::start(echo).await;
        let upstream = upstream(&server, Connections::SingleUse { spares: 2 });
        let began = Instant::now();
        for n in 0..20 {
            assert_eq!(forward(&upstream, post("x"), &wire(LONG)).await, answer("x"));
            // From the second request on there is a spare for the next one.
            let spare = || n == 0 || server.connections() > n + 1;
            until("a spare is opened", spare).await;
        }

        assert_eq!(server.executions(), 20);
        let opened = server.connections();
        if began.elapsed() < SPARE_AGE_MAX {
            assert!((21..=22).contains(&opened), "{opened}");
            return;
        }
        eprintln!("so slow that spares grew old");
    }
    panic!("this machine is too slow to tell whether spares are used");
}

#[tokio::test]
async fn a_connection_that_rests_too_long_is_closed() {
    let (tell, closed) = oneshot::channel();
    let tell = Mutex::new(Some(tell));
    let server = RawServer::start(move |mut peer| {
        let tell = tell.lock().unwrap().take();
        async move {
            peer.request().await?;
            peer.ok("x").await?;
            let is_closed = peer.is_closed_within(SOON).await;
            tell.unwrap().send(is_closed).unwrap();
            Ok(())
        }
    })
    .await;
    let idle_max = Duration::from_millis(50);
    let upstream = upstream(&server, Connections::Pooled { idle_max, size_max: 1 });

    assert_eq!(forward(&upstream, post("x"), &wire(LONG)).await, answer("x"));

    assert!(closed.await.unwrap());
}

#[tokio::test]
async fn the_next_request_never_gets_an_extra_answer() {
    // Directly behind the answer, and after that was read.
    for behind in [true, false] {
        let (read, closed) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
        let (told, tell) = (Arc::clone(&read), Arc::clone(&closed));
        let server = RawServer::start(move |mut peer| {
            let (read, closed) = (Arc::clone(&told), Arc::clone(&tell));
            async move {
                let Some(request) = peer.request().await? else { return Ok(()) };
                peer.ok(&String::from_utf8(request.body).unwrap()).await?;
                if !behind {
                    read.notified().await;
                }
                peer.ok("EVIL").await?;
                if peer.is_closed_within(LONG).await {
                    closed.add_permits(1);
                }
                Ok(())
            }
        })
        .await;
        let upstream = upstream(&server, pooled());

        assert_eq!(forward(&upstream, post("1"), &wire(LONG)).await, answer("1"));
        read.notify_one();
        // Whoever has seen the extra answer closes.
        let closed = tokio::time::timeout(LONG, closed.acquire()).await;
        assert!(closed.is_ok(), "a connection with an extra answer on it stays open");
        assert_eq!(forward(&upstream, post("2"), &wire(LONG)).await, answer("2"));

        assert_eq!(server.connections(), 2, "the poisoned connection is not used again");
    }
}

#[tokio::test]
async fn single_use_never_gets_an_extra_answer_even_at_once() {
    let server = RawServer::start(|mut peer| async move {
        let request = peer.request().await?.unwrap();
        peer.ok(&String::from_utf8(request.body).unwrap()).await?;
        peer.ok("EVIL").await
    })
    .await;
    let upstream = upstream(&server, SINGLE_USE);

    for body in ["1", "2", "3", "4", "5"] {
        assert_eq!(forward(&upstream, post(body), &wire(LONG)).await, answer(body));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_closes_idle_connections_executes_nothing_twice() {
    const IDLE: Duration = Duration::from_millis(20);
    let server = RawServer::start(|mut peer| async move {
        loop {
            let Ok(request) = tokio::time::timeout(IDLE, peer.request()).await else { break };
            let Some(request) = request? else { break };
            peer.ok(&String::from_utf8(request.body).unwrap()).await?;
        }
        Ok(())
    })
    .await;
    let upstream = upstream(&server, pooled());

    let (mut ok, mut broken, mut not_sent) = (0, 0, 0);
    for n in 0..200_u64 {
        match forward(&upstream, post("x"), &wire(LONG)).await {
            Seen::Answer(..) => ok += 1,
            Seen::Broken(_) => broken += 1,
            Seen::NotSent(_) => not_sent += 1,
        }
        // Around the moment at which the server closes.
        tokio::time::sleep(Duration::from_micros(18_500 + n % 40 * 100)).await;
    }

    let executed = server.executions();
    eprintln!("ok {ok}, broken {broken}, not sent {not_sent}; executed {executed}");
    assert!((ok..=ok + broken).contains(&executed), "executed {executed}, ok {ok}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_wire_says_after_a_drop_stays_true() {
    let bodies = Arc::new(Mutex::new(HashSet::new()));
    let ours = Arc::clone(&bodies);
    let server = RawServer::start(move |mut peer| {
        let bodies = Arc::clone(&ours);
        async move {
            while let Some(request) = peer.request().await? {
                bodies.lock().unwrap().insert(request.body);
                peer.ok("").await?;
            }
            Ok(())
        }
    })
    .await;
    let upstream = upstream(&server, pooled());
    let seed = rand::random();
    eprintln!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);

    let mut never_begun = Vec::new();
    for n in 0..1_000 {
        let (body, wire) = (format!("request {n}"), wire(LONG));
        let request = post("").map(|_| Bytes::from(body.clone()));
        let mut forward = Box::pin(upstream.forward(request, &wire));
        for _ in 0..random.random_range(1..20) {
            if futures_util::poll!(&mut forward).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(forward);
        if wire.begun().is_none() {
            never_begun.push(body.into_bytes());
        }
    }
    // One that goes through to its end, so that everything before it has had its time.
    assert!(matches!(forward(&upstream, post("last"), &wire(LONG)).await, Seen::Answer(..)));
    tokio::time::sleep(Duration::from_millis(100)).await;

    let executed = bodies.lock().unwrap();
    eprintln!("{} never begun, {} executed", never_begun.len(), executed.len());
    assert!(never_begun.iter().all(|body| !executed.contains(body)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_each_get_their_own_answer() {
    for connections in [pooled(), SINGLE_USE, Connections::SingleUse { spares: 4 }] {
        let server = RawServer::start(echo).await;
        let upstream = Arc::new(upstream(&server, connections));
        let mut running = JoinSet::new();
        for n in 0..64 {
            let upstream = Arc::clone(&upstream);
            running.spawn(async move {
                for round in 0..5 {
                    let body = format!("{n}-{round}");
                    let request = post("x").map(|_| Bytes::from(body.clone()));
                    assert_eq!(forward(&upstream, request, &wire(LONG)).await, answer(&body));
                }
            });
        }
        while let Some(ended) = running.join_next().await {
            ended.unwrap();
        }
        assert_eq!(server.executions(), 64 * 5);
    }
}

#[tokio::test]
async fn no_more_than_so_many_are_under_way_at_once() {
    let under_way = Arc::new(AtomicUsize::new(0));
    let server = RawServer::start(move |mut peer| {
        let under_way = Arc::clone(&under_way);
        async move {
            while peer.request().await?.is_some() {
                let now = under_way.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
                under_way.fetch_sub(1, Ordering::SeqCst);
                peer.ok(&now.to_string()).await?;
            }
            Ok(())
        }
    })
    .await;
    let settings = Settings {
        connections_max: 2.try_into().unwrap(),
        ..settings(&format!("http://{}", server.address))
    };
    let upstream = HttpUpstream::new(&settings, &Tasks::default()).unwrap();

    let wires: Vec<_> = (0..10).map(|_| wire(LONG)).collect();
    let all = wires.iter().map(|wire| forward(&upstream, post("x"), wire));
    let all = futures_util::future::join_all(all).await;

    assert!(all.iter().all(|seen| [answer("1"), answer("2")].contains(seen)), "{all:?}");
}
