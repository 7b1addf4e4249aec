//! Whether an answer reached its caller is told truly, and told once.
#![expect(clippy::unwrap_used, reason = "helpers beside tests")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use semel::server::{Body, Caller, Delivered, Settings};
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::support::listener::{Listener, settings};
use crate::support::raw::{PATIENCE, read_until};

type AnswerBody = BoxBody<Bytes, std::io::Error>;

/// More than all socket buffers on the way hold.
const LARGE: usize = 64 * 1024 * 1024;

fn full(bytes: impl Into<Bytes>) -> AnswerBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

fn parts(parts: Vec<std::io::Result<&'static str>>) -> AnswerBody {
    let frames = parts.into_iter().map(|part| part.map(|text| Frame::data(Bytes::from(text))));
    BoxBody::new(StreamBody::new(stream::iter(frames)))
}

/// The answer that a path asks for.
async fn answer(path: &str, answer_now: &Notify) -> Response<AnswerBody> {
    let announced = |length: &str, body| {
        Response::builder().header("content-length", length).body(body).unwrap()
    };
    match path {
        "/later" => {
            answer_now.notified().await;
            Response::new(full("ok"))
        }
        "/empty" => Response::new(Empty::new().map_err(|never| match never {}).boxed()),
        "/none" => Response::builder().status(StatusCode::NO_CONTENT).body(full("")).unwrap(),
        "/chunks" => Response::new(parts(vec![Ok("o"), Ok("k")])),
        "/announced" => announced("2", parts(vec![Ok("o"), Ok("k")])),
        "/too-short" => announced("9", parts(vec![Ok("o"), Ok("k")])),
        "/broken" => Response::new(parts(vec![Ok("o"), Err(std::io::Error::other("broken"))])),
        "/large" => Response::new(full(vec![0; LARGE])),
        _ => Response::new(full("ok")),
    }
}

/// A listener whose answers' fates can be waited for.
struct Told {
    listener: Listener,
    fates: mpsc::UnboundedReceiver<Delivered>,
    answer_now: Arc<Notify>,
    arrived: mpsc::UnboundedReceiver<()>,
}

impl Told {
    async fn start(settings: Settings) -> Self {
        let (tell, fates) = mpsc::unbounded_channel();
        let (arrive, arrived) = mpsc::unbounded_channel();
        let answer_now = Arc::new(Notify::new());
        let now = Arc::clone(&answer_now);
        let listener = Listener::start(settings, move |mut request: Request<Body>| {
            let (tell, arrive, now) = (tell.clone(), arrive.clone(), Arc::clone(&now));
            async move {
                let caller: Caller = request.extensions_mut().remove().unwrap();
                let receipt = caller.receipt(move |delivered| tell.send(delivered).unwrap());
                arrive.send(()).unwrap();
                receipt.attach(answer(request.uri().path(), &now).await)
            }
        })
        .await;
        Self { listener, fates, answer_now, arrived }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.listener.addr).await.unwrap()
    }

    async fn fate(&mut self) -> Delivered {
        timeout(PATIENCE, self.fates.recv()).await.unwrap().unwrap()
    }

    async fn has_arrived(&mut self) {
        timeout(PATIENCE, self.arrived.recv()).await.unwrap().unwrap();
    }

    /// No answer is told twice.
    async fn stop(mut self) {
        self.listener.stop().await;
        assert_eq!(self.fates.recv().await, None);
    }
}

async fn ask(stream: &mut TcpStream, line: &str) {
    let request = format!("{line} HTTP/1.1\r\nHost: semel\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_was_read_was_delivered_whole_however_it_was_framed() {
    let mut told = Told::start(settings()).await;
    let mut stream = told.connect().await;

    for (line, end) in [
        ("GET /full", "\r\n\r\nok"),
        ("HEAD /full", "\r\n\r\n"),
        ("GET /empty", "\r\n\r\n"),
        ("GET /none", "\r\n\r\n"),
        ("GET /chunks", "0\r\n\r\n"),
        ("GET /announced", "\r\n\r\nok"),
        ("HEAD /announced", "\r\n\r\n"),
        ("POST /full", "\r\n\r\nok"),
    ] {
        ask(&mut stream, line).await;
        let mut read = Vec::new();
        timeout(PATIENCE, read_until(&mut stream, &mut read, end)).await.unwrap();

        assert_eq!(told.fate().await, Delivered::Whole, "{line}");
    }
    told.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_reads_and_closes_at_once_had_its_answer() {
    let mut told = Told::start(settings()).await;

    for _ in 0..300 {
        let mut stream = told.connect().await;
        ask(&mut stream, "POST /full").await;
        let mut read = Vec::new();
        timeout(PATIENCE, read_until(&mut stream, &mut read, "\r\n\r\nok")).await.unwrap();
        drop(stream);

        assert_eq!(told.fate().await, Delivered::Whole);
    }
    told.stop().await;
}

#[tokio::test]
async fn a_large_answer_that_was_read_to_its_end_was_delivered_whole() {
    let mut told = Told::start(settings()).await;
    let mut stream = told.connect().await;
    ask(&mut stream, "GET /large").await;

    let mut read = 0;
    let mut part = vec![0; 64 * 1024];
    while read < LARGE {
        read += timeout(PATIENCE, stream.read(&mut part)).await.unwrap().unwrap();
    }

    assert_eq!(told.fate().await, Delivered::Whole);
    told.stop().await;
}

#[tokio::test]
async fn a_caller_that_closes_while_it_waits_has_left() {
    let mut told = Told::start(settings()).await;
    let mut stream = told.connect().await;
    ask(&mut stream, "POST /later").await;
    told.has_arrived().await;

    drop(stream);

    assert_eq!(told.fate().await, Delivered::Left);
    told.stop().await;
}

#[tokio::test]
async fn a_caller_that_half_closes_while_it_waits_has_left() {
    let mut told = Told::start(settings()).await;
    let mut stream = told.connect().await;
    ask(&mut stream, "POST /later").await;
    told.has_arrived().await;

    stream.shutdown().await.unwrap();

    assert_eq!(told.fate().await, Delivered::Left);
    told.stop().await;
}

#[tokio::test]
async fn a_caller_that_closes_just_before_the_answer_has_left() {
    let mut told = Told::start(settings()).await;

    for half in [true, false].repeat(100) {
        let mut stream = told.connect().await;
        ask(&mut stream, "POST /later").await;
        told.has_arrived().await;

        // Both before the listener's task has a turn: its event loop has not heard of the close.
        if half {
            stream.shutdown().await.unwrap();
        } else {
            drop(stream);
        }
        told.answer_now.notify_one();

        assert_eq!(told.fate().await, Delivered::Left, "half: {half}");
        // If the close was heard first, the permission is still there.
        let _ = timeout(Duration::ZERO, told.answer_now.notified()).await;
    }
    told.stop().await;
}

#[tokio::test]
async fn a_reader_that_leaves_in_the_middle_has_left() {
    let mut told = Told::start(settings()).await;
    let mut stream = told.connect().await;
    ask(&mut stream, "GET /large").await;
    stream.read_exact(&mut [0; 1024]).await.unwrap();

    drop(stream);

    assert_eq!(told.fate().await, Delivered::Left);
    told.stop().await;
}

#[tokio::test]
async fn a_reader_that_stops_reading_has_left_after_the_write_timeout() {
    let settings = Settings { write_timeout: Duration::from_millis(200), ..settings() };
    let mut told = Told::start(settings).await;
    let mut stream = told.connect().await;

    ask(&mut stream, "GET /large").await;

    assert_eq!(told.fate().await, Delivered::Left);
    drop(stream);
    told.stop().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_was_not_delivered() {
    let mut told = Told::start(settings()).await;

    for line in ["GET /broken", "GET /too-short"] {
        let mut stream = told.connect().await;
        ask(&mut stream, line).await;

        assert_eq!(told.fate().await, Delivered::Left, "{line}");
    }
    told.stop().await;
}

#[tokio::test]
async fn who_asks_again_before_its_answer_cannot_be_seen_to_be_there() {
    let mut told = Told::start(settings()).await;
    let mut stream = told.connect().await;
    ask(&mut stream, "POST /later").await;
    ask(&mut stream, "GET /full").await;
    told.has_arrived().await;

    told.answer_now.notify_one();

    assert_eq!(told.fate().await, Delivered::Left);
    assert_eq!(told.fate().await, Delivered::Whole);
    told.stop().await;
}
