//! Answers, written by hand onto a connection: as they should be, or cut, doubled and malformed.
//!
//! By hand because no server library lets an answer be wrong. Must not know payments.

use std::io;
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::modes::{Framing, OnTheWire, Silence};
use super::request::Request;

/// How long an answer may take to be taken.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// How long, and how much, is still read after a refusal, so that it is not lost to a reset.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);
const DRAIN_MAX: u64 = 4 << 20;

/// An answer to nothing.
const UNASKED: &str = r#"{"id":"payment_0","object":"payment","status":"unasked"}"#;
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

/// An answer as it should be.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) request_id: u64,
    pub(super) content_type: &'static str,
    /// Besides those that every answer has.
    pub(super) headers: Vec<(&'static str, String)>,
    /// A JSON object.
    pub(super) body: Vec<u8>,
}

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    KeepAlive,
    Close,
    Reset,
}

/// Writes the answer to `request`, wrong in the ways that `wrongs` says.
pub(super) async fn write(
    stream: &mut TcpStream,
    mut answer: Answer,
    request: &Request,
    wrongs: &OnTheWire,
) -> io::Result<Next> {
    match wrongs.silence {
        Some(Silence::Drop) => return Ok(Next::Close),
        Some(Silence::Reset) => return Ok(Next::Reset),
        None => {}
    }
    pad(&mut answer.body, wrongs.large);
    let further = further_headers(&answer, wrongs);
    let next = match (wrongs.framing, request.keep_alive) {
        (Framing::Whole | Framing::BothLengths, true) => Next::KeepAlive,
        (Framing::Whole | Framing::BothLengths, false)
        | (
            Framing::Truncated
            | Framing::TruncatedChunked
            | Framing::CloseDelimited
            | Framing::Upgrade,
            _,
        ) => Next::Close,
    };
    let mut bytes = render(&answer, request, wrongs.framing, &further);
    if wrongs.extra.is_some_and(|delay| delay.is_zero()) {
        bytes.extend_from_slice(unasked().as_bytes());
    }
    if wrongs.trickle.is_zero() {
        timeout(ANSWER_TIME_MAX, stream.write_all(&bytes)).await??;
    } else {
        trickle(stream, &bytes, wrongs.trickle).await?;
    }
    if let Some(delay) = wrongs.extra.filter(|delay| !delay.is_zero()) {
        sleep(delay).await;
        stream.write_all(unasked().as_bytes()).await?;
    }
    Ok(next)
}

/// Tells a client that its request was not understood, and reads what it may still be sending.
pub(super) async fn refuse(stream: &mut TcpStream, status: StatusCode) -> io::Result<()> {
    let body = format!("{{\"error\":{{\"code\":\"{}\"}}}}", status.as_u16());
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    timeout(ANSWER_TIME_MAX, stream.write_all(head.as_bytes())).await??;
    stream.shutdown().await?;
    let mut rest = stream.take(DRAIN_MAX);
    let _ = timeout(DRAIN_TIME_MAX, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    Ok(())
}

async fn trickle(stream: &mut TcpStream, bytes: &[u8], pace: Duration) -> io::Result<()> {
    for byte in bytes {
        stream.write_all(&[*byte]).await?;
        sleep(pace).await;
    }
    Ok(())
}

/// Grows a JSON object to at least `size` bytes by a further field.
fn pad(body: &mut Vec<u8>, size: usize) {
    if body.len() < size && body.last() == Some(&b'}') {
        let missing = size - body.len();
        body.pop();
        body.extend_from_slice(b",\"padding\":\"");
        body.resize(body.len() + missing, b'x');
        body.extend_from_slice(b"\"}");
    }
}

fn render(answer: &Answer, request: &Request, framing: Framing, further: &str) -> Vec<u8> {
    let body: &[u8] = if request.method == Method::HEAD { b"" } else { &answer.body };
    let half = &body[..body.len() / 2];
    let length = format!("Content-Length: {}\r\n", answer.body.len());
    let head = |framing: &str| {
        head(answer, request.keep_alive, &format!("{framing}{further}")).into_bytes()
    };
    if [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&answer.status) {
        return head("");
    }
    match framing {
        Framing::Whole => [head(&length).as_slice(), body].concat(),
        Framing::Truncated => [head(&length).as_slice(), half].concat(),
        Framing::TruncatedChunked => [head(CHUNKED), chunk(half)].concat(),
        Framing::CloseDelimited => [head("Connection: close\r\n").as_slice(), body].concat(),
        Framing::BothLengths => {
            [head(&(length + CHUNKED)), chunk(body), b"0\r\n\r\n".to_vec()].concat()
        }
        Framing::Upgrade => {
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: practice\r\n\r\n"
                .to_vec()
        }
    }
}

fn chunk(part: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat()
}

fn head(answer: &Answer, keep_alive: bool, framing: &str) -> String {
    let Answer { status, request_id, content_type, .. } = answer;
    let date = httpdate::fmt_http_date(now());
    let busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(status);
    let retry_after = if busy && !framing.to_ascii_lowercase().contains("retry-after:") {
        "Retry-After: 1\r\n"
    } else {
        ""
    };
    let closes = !keep_alive && !framing.starts_with("Connection");
    let connection = if closes { "Connection: close\r\n" } else { "" };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nDate: {date}\r\n\
         Request-Id: req_{request_id}\r\n{retry_after}{connection}{framing}\r\n"
    )
}

/// What the answer says besides, and what it was asked to.
fn further_headers(answer: &Answer, wrongs: &OnTheWire) -> String {
    let own = answer.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    let asked = wrongs
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes())));
    own.chain(asked).collect()
}

fn unasked() -> String {
    let length = UNASKED.len();
    format!(
        "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{UNASKED}"
    )
}

#[expect(clippy::disallowed_methods, reason = "a payment API outside of semel, with its own clock")]
fn now() -> SystemTime {
    SystemTime::now()
}
