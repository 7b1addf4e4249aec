//! The listener's bounds: connections, time, drain.
#![expect(clippy::unwrap_used, reason = "helpers beside tests")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use semel::proxy::problem::{Problem, Slug};
use semel::server::Settings;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use crate::support::listener::{Listener, settings};
use crate::support::raw::{PATIENCE, Then, exchange, read_until};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: semel\r\n\r\n";

/// Long enough that it is never reached.
const LONG: Duration = Duration::from_secs(60);

async fn ok(settings: Settings) -> Listener {
    Listener::start(settings, |_| async { Response::new(Full::new(Bytes::from_static(b"ok"))) })
        .await
}

/// A listener that answers once it is allowed to, and says when it has been asked.
async fn held(settings: Settings) -> (Listener, Arc<Semaphore>, Arc<Notify>) {
    let (allowed, asked) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let (allow, ask) = (Arc::clone(&allowed), Arc::clone(&asked));
    let listener = Listener::start(settings, move |_| {
        let (allowed, asked) = (Arc::clone(&allow), Arc::clone(&ask));
        async move {
            asked.notify_one();
            allowed.acquire().await.unwrap().forget();
            Response::new(Full::new(Bytes::from_static(b"ok")))
        }
    })
    .await;
    (listener, allowed, asked)
}

async fn read(stream: &mut TcpStream, until: &str) -> String {
    let mut read = Vec::new();
    timeout(PATIENCE, read_until(stream, &mut read, until)).await.unwrap();
    String::from_utf8(read).unwrap()
}

#[tokio::test]
async fn a_connection_too_many_is_told_so_and_the_others_go_on() {
    let overloaded =
        Problem { retry_after: Some(Duration::from_secs(1)), ..Problem::new(Slug::Overloaded) };
    let settings = Settings { connections_max: 1, overloaded: overloaded.canned(), ..settings() };
    let listener = ok(settings).await;
    let mut first = TcpStream::connect(listener.addr).await.unwrap();
    first.write_all(GET).await.unwrap();
    read(&mut first, "\r\n\r\nok").await;

    let (_, refusal) = exchange(listener.addr, GET, Then::Wait).await;

    assert!(refusal.starts_with("HTTP/1.1 503 "), "{refusal}");
    assert!(refusal.contains("retry-after: 1\r\n"), "{refusal}");
    assert!(refusal.contains("/problems/overloaded"), "{refusal}");
    first.write_all(GET).await.unwrap();
    read(&mut first, "\r\n\r\nok").await;
    listener.stop().await;
}

#[tokio::test]
async fn an_idle_connection_has_more_time_than_half_a_head() {
    let (short, long) = (Duration::from_millis(50), Duration::from_millis(500));
    let listener = ok(Settings { header_timeout: short, idle_timeout: long, ..settings() }).await;
    let mut idle = TcpStream::connect(listener.addr).await.unwrap();
    idle.write_all(GET).await.unwrap();
    read(&mut idle, "\r\n\r\nok").await;

    let since = Instant::now();
    let end = read(&mut idle, "").await;

    assert!(since.elapsed() >= long - short, "{:?}", since.elapsed());
    assert_eq!(end, "");
    listener.stop().await;
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_does_not_hold_a_connection() {
    let quick = Duration::from_millis(200);
    let listener = ok(Settings { header_timeout: quick, idle_timeout: LONG, ..settings() }).await;
    let mut slow = TcpStream::connect(listener.addr).await.unwrap();
    slow.write_all(GET).await.unwrap();
    read(&mut slow, "\r\n\r\nok").await;

    let since = Instant::now();
    let (mut reader, mut writer) = slow.into_split();
    let drip = async {
        // The slow caller's pace.
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        while since.elapsed() < PATIENCE && writer.write_all(b"G").await.is_ok() {
            pace.tick().await;
        }
    };
    let answer = async {
        let mut read = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut read).await;
        String::from_utf8(read).unwrap()
    };
    let ((), answer) = tokio::join!(drip, answer);

    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(since.elapsed() < PATIENCE);
    listener.stop().await;
}

#[tokio::test]
async fn a_caller_may_wait_longer_for_its_answer_than_for_anything_else() {
    let quick = Duration::from_millis(20);
    let settings =
        Settings { header_timeout: quick, idle_timeout: quick, body_timeout: quick, ..settings() };
    let (listener, allowed, asked) = held(settings).await;
    let mut stream = TcpStream::connect(listener.addr).await.unwrap();
    stream.write_all(GET).await.unwrap();
    asked.notified().await;

    // What is claimed is about time passing.
    tokio::time::sleep(quick * 10).await;
    allowed.add_permits(1);

    assert!(read(&mut stream, "").await.starts_with("HTTP/1.1 200 "));
    listener.stop().await;
}

#[tokio::test]
async fn drain_ends_what_is_idle_and_lets_what_is_under_way_finish() {
    let (listener, allowed, asked) = held(Settings { grace: LONG, ..settings() }).await;
    let mut idle = TcpStream::connect(listener.addr).await.unwrap();
    allowed.add_permits(1);
    idle.write_all(GET).await.unwrap();
    read(&mut idle, "\r\n\r\nok").await;
    asked.notified().await;
    let mut under_way = TcpStream::connect(listener.addr).await.unwrap();
    under_way.write_all(GET).await.unwrap();
    asked.notified().await;

    listener.drain.cancel();

    assert_eq!(read(&mut idle, "").await, "");
    // Refused, or, if it came just before the listener went, reset.
    if let Ok(mut late) = TcpStream::connect(listener.addr).await {
        assert_eq!(read(&mut late, "").await, "");
    }
    assert!(!listener.served.is_finished());
    allowed.add_permits(1);
    let last = read(&mut under_way, "").await;
    assert!(last.starts_with("HTTP/1.1 200 ") && last.contains("connection: close\r\n"), "{last}");
    timeout(PATIENCE, listener.stop()).await.unwrap();
}

#[tokio::test]
async fn drain_ends_with_its_grace_whatever_is_under_way() {
    let (listener, _allowed, asked) =
        held(Settings { grace: Duration::from_millis(50), ..settings() }).await;
    let mut under_way = TcpStream::connect(listener.addr).await.unwrap();
    under_way.write_all(GET).await.unwrap();
    asked.notified().await;

    timeout(PATIENCE, listener.stop()).await.unwrap();

    assert_eq!(read(&mut under_way, "").await, "");
}

#[tokio::test]
async fn an_answer_given_before_the_body_has_come_is_not_reset_away() {
    let listener = ok(settings()).await;
    let mut request = b"POST / HTTP/1.1\r\nHost: semel\r\nContent-Length: 8000000\r\n\r\n".to_vec();
    request.resize(request.len() + 8_000_000, b'a');

    for _ in 0..10 {
        let mut stream = TcpStream::connect(listener.addr).await.unwrap();

        // Many clients look for an answer only if they could send everything.
        stream.write_all(&request).await.unwrap();

        assert!(read(&mut stream, "").await.starts_with("HTTP/1.1 200 "));
    }
    listener.stop().await;
}

#[test]
fn a_listener_out_of_file_descriptors_goes_on_when_there_are_some() {
    let run = "ulimit -n 64; exec \"$0\" --exact server::with_few_file_descriptors --ignored";

    let output = std::process::Command::new("sh")
        .args(["-c", run])
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();

    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "takes all file descriptors; run by the test above, in a process of its own"]
async fn with_few_file_descriptors() {
    let listener = ok(settings()).await;
    let mut taken: Vec<_> =
        std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).take(4096).collect();
    assert!(taken.len() < 4096, "there are more than a few");
    taken.pop();
    let mut stream = TcpStream::connect(listener.addr).await.unwrap();
    stream.write_all(GET).await.unwrap();
    let early = timeout(Duration::from_millis(300), read(&mut stream, "ok")).await;
    assert!(early.is_err(), "a connection was accepted without a file descriptor");

    taken.clear();

    assert!(read(&mut stream, "\r\n\r\nok").await.starts_with("HTTP/1.1 200 "));
    listener.stop().await;
}

#[tokio::test]
async fn a_request_whose_end_only_one_of_two_parsers_would_see_is_a_connections_last() {
    let listener = ok(settings()).await;
    let chunked = b"POST / HTTP/1.1\r\nHost: semel\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";

    let (_, answer) = exchange(listener.addr, chunked, Then::Wait).await;

    assert!(answer.contains("connection: close\r\n"), "{answer}");
    listener.stop().await;
}
