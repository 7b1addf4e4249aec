//! What the front door refuses, byte by byte, and that nothing of it reaches what is behind.
//!
//! [`run_table`] asks any port that has the door in it. Its time limits for heads and bodies must be
//! well under [`crate::support::raw::PATIENCE`].
#![expect(clippy::print_stdout, reason = "the table is shown")]

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use semel::proxy::door;
use semel::proxy::problem::{Problem, Slug};
use semel::proxy::route::is_safe;
use semel::server::{Body, BodyError, Settings};

use crate::support::listener::{Listener, settings};
use crate::support::raw::{Back, Then, exchange};

/// In a list of expected answers: the connection is closed without one.
const CLOSED: u16 = 0;

/// One conversation.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    then: Then,
    /// Any of these comes first.
    expected: &'static [u16],
    /// How many requests get through.
    through: usize,
}

fn refused(name: &'static str, expected: &'static [u16], bytes: impl Into<Vec<u8>>) -> Case {
    Case { name, bytes: bytes.into(), then: Then::Wait, expected, through: 0 }
}

fn let_in(name: &'static str, bytes: impl Into<Vec<u8>>) -> Case {
    Case { name, bytes: bytes.into(), then: Then::Wait, expected: &[200], through: 1 }
}

/// A POST with these header lines and this body; nothing is added but the request line and `Host`.
fn post(lines: &str, body: &str) -> String {
    format!("POST /front-door HTTP/1.1\r\nHost: semel\r\n{lines}\r\n{body}")
}

/// A GET with this request line and these header lines.
fn request(line: &str, lines: &str) -> String {
    format!("{line}\r\n{lines}Connection: close\r\n\r\n")
}

const HOST: &str = "Host: semel\r\n";
const SMUGGLED: &str =
    "0\r\n\r\nPOST /smuggled HTTP/1.1\r\nHost: semel\r\nContent-Length: 0\r\n\r\n";

fn framing() -> Vec<Case> {
    let te = "Transfer-Encoding: chunked\r\n";
    let both = format!("Content-Length: 5\r\n{te}");
    let other_way = format!("{te}Content-Length: 5\r\n");
    vec![
        refused("Content-Length, then Transfer-Encoding", &[400], post(&both, "0\r\n\r\n")),
        refused("Transfer-Encoding, then Content-Length", &[400], post(&other_way, "0\r\n\r\n")),
        refused("CL.TE with a request smuggled behind", &[400], post(&both, SMUGGLED)),
        refused("TE.CL with a request smuggled behind", &[400], post(&other_way, SMUGGLED)),
        refused(
            "Transfer-Encoding: gzip, chunked",
            &[400],
            post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        ),
        refused(
            "Transfer-Encoding: chunked, identity",
            &[400],
            post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
        ),
        refused(
            "Transfer-Encoding: identity",
            &[400],
            post("Transfer-Encoding: identity\r\n", "0\r\n\r\n"),
        ),
        refused(
            "Transfer-Encoding: xchunked",
            &[400],
            post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        ),
        refused(
            "Transfer-Encoding: chunked, chunked",
            &[400],
            post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
        ),
        refused(
            "Transfer-Encoding: \"chunked\"",
            &[400],
            post("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"),
        ),
        refused("two Transfer-Encoding lines", &[400], post(&format!("{te}{te}"), "0\r\n\r\n")),
        refused(
            "Transfer-Encoding with HTTP/1.0",
            &[400],
            format!("POST / HTTP/1.0\r\n{HOST}{te}\r\n0\r\n\r\n"),
        ),
        refused(
            "two equal Content-Length lines",
            &[400],
            post("Content-Length: 2\r\nContent-Length: 2\r\n", "{}"),
        ),
        refused(
            "two different Content-Length lines",
            &[400],
            post("Content-Length: 2\r\nContent-Length: 3\r\n", "{}"),
        ),
        refused("Content-Length: 2, 2", &[400], post("Content-Length: 2, 2\r\n", "{}")),
        refused("Content-Length: +2", &[400], post("Content-Length: +2\r\n", "{}")),
        refused("Content-Length: -2", &[400], post("Content-Length: -2\r\n", "{}")),
        refused("Content-Length: 0x2", &[400], post("Content-Length: 0x2\r\n", "{}")),
        refused("an empty Content-Length", &[400], post("Content-Length:\r\n", "{}")),
        refused(
            "a Content-Length over 64 bits",
            &[400],
            post("Content-Length: 18446744073709551617\r\n", "{}"),
        ),
        refused(
            "the largest Content-Length, and no such body",
            &[400, 408, 413, 431, CLOSED],
            post("Content-Length: 18446744073709551615\r\n", "{}"),
        ),
    ]
}

fn bodies() -> Vec<Case> {
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    let broken: &[u16] = &[400, CLOSED];
    vec![
        refused("chunk size 0x2", broken, chunked("0x2\r\n{}\r\n0\r\n\r\n")),
        refused("chunk size -2", broken, chunked("-2\r\n{}\r\n0\r\n\r\n")),
        refused("chunk size of 17 digits", broken, chunked("10000000000000002\r\n{}\r\n0\r\n\r\n")),
        refused("a line feed in a chunk extension", broken, chunked("2;a\n\r\n{}\r\n0\r\n\r\n")),
        refused("chunk size ended by a line feed", broken, chunked("2\n{}\r\n0\r\n\r\n")),
        refused("a chunk longer than its size", broken, chunked("2\r\n{}}}\r\n0\r\n\r\n")),
        refused("a chunk that does not come", &[408, CLOSED], chunked("2\r\n{")),
        refused("a body that does not come", &[408, CLOSED], post("Content-Length: 9\r\n", "{}")),
        Case {
            then: Then::HalfClose,
            ..refused("a body cut short", broken, post("Content-Length: 9\r\n", "{}"))
        },
        let_in(
            "chunks, and a Content-Length as a trailer",
            post("Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\nContent-Length: 99\r\n\r\n"),
        ),
    ]
}

fn targets() -> Vec<Case> {
    let get = |target: &str, lines: &str| request(&format!("GET {target} HTTP/1.1"), lines);
    let two = "Host: semel\r\nHost: semel\r\n";
    vec![
        refused("no Host", &[400], get("/", "")),
        refused("no Host, HTTP/1.0", &[400], request("GET / HTTP/1.0", "")),
        refused("two Hosts", &[400], get("/", two)),
        refused("two different Hosts", &[400], get("/", "Host: semel\r\nHost: evil\r\n")),
        refused("an empty Host", &[400], get("/", "Host:\r\n")),
        refused("Host with a user", &[400], get("/", "Host: semel@evil\r\n")),
        refused("Host with a path", &[400], get("/", "Host: semel/evil\r\n")),
        refused("Host with two names", &[400], get("/", "Host: semel, evil\r\n")),
        refused("absolute form, another host", &[400], get("http://evil/", HOST)),
        refused("absolute form, another port", &[400], get("http://semel:81/", HOST)),
        refused("absolute form, user in it", &[400], get("http://semel@evil/", HOST)),
        refused("absolute form, not HTTP", &[400], get("ftp://semel/", HOST)),
        refused("authority form", &[400], get("semel:80", HOST)),
        refused("a path that looks like a host", &[400], get("//evil/x", HOST)),
        refused("a fragment", &[400], get("/a#b", HOST)),
        refused("no slash", &[400], get("a", HOST)),
        refused("OPTIONS *", &[400], request("OPTIONS * HTTP/1.1", HOST)),
        let_in("absolute form, the same host", get("http://semel/front-door", HOST)),
    ]
}

fn methods() -> Vec<Case> {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n";
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
               HTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 2\r\n";
    vec![
        refused("CONNECT", &[405], request("CONNECT semel:443 HTTP/1.1", HOST)),
        refused("TRACE", &[405], request("TRACE / HTTP/1.1", HOST)),
        refused("a method in lower case", &[501], request("post / HTTP/1.1", HOST)),
        refused("an unknown method", &[501], request("PAY / HTTP/1.1", HOST)),
        refused("PRI, the preface of HTTP/2", &[400, CLOSED], "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        refused("upgrade to websocket on POST", &[400], post(upgrade, "{}")),
        refused("upgrade to h2c on POST", &[400], post(h2c, "{}")),
        refused(
            "an unknown expectation",
            &[417],
            post("Expect: 200-ok\r\nContent-Length: 2\r\n", "{}"),
        ),
        refused("HTTP/0.9", &[400, CLOSED], "GET /\r\n\r\n"),
        refused("HTTP/1.9", &[400], request("GET / HTTP/1.9", HOST)),
        refused("HTTP/2.0 as text", &[400], request("GET / HTTP/2.0", HOST)),
        refused("spaces in the request line", &[400], request("GET  /  HTTP/1.1", HOST)),
        refused(
            "not HTTP at all",
            &[400, CLOSED],
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n"[..],
        ),
    ]
}

fn heads() -> Vec<Case> {
    let get = |lines: &str| request("GET /front-door HTTP/1.1", &format!("{HOST}{lines}"));
    let many = (0..101).fold(String::new(), |mut lines, at| {
        let _ = write!(lines, "X-{at}: 1\r\n");
        lines
    });
    let large = format!("X-Large: {}\r\n", "a".repeat(40 * 1024));
    let long = format!("GET /{} HTTP/1.1", "a".repeat(70 * 1024));
    vec![
        refused("NUL in a header", &[400], get("X: a\0b\r\n")),
        refused("a bare carriage return in a header", &[400], get("X: a\rb\r\n")),
        refused("a folded header", &[400], get("X: a\r\n b\r\n")),
        refused("a space before the colon", &[400], get("X : a\r\n")),
        refused("a header without a name", &[400], get(": a\r\n")),
        refused("a header without a colon", &[400], get("X\r\n")),
        refused("line feeds alone", &[400], "GET / HTTP/1.1\nHost: semel\n\n"),
        refused("one line feed alone", &[400], get("X: a\n")),
        refused("too many headers", &[431], get(&many)),
        refused("a header too large", &[431], get(&large)),
        refused("a target too long", &[414, 431], request(&long, HOST)),
        refused("a head that does not come", &[408, CLOSED], "GET / HTTP/1.1\r\nHost: se"),
        refused("nothing at all", &[CLOSED], ""),
    ]
}

fn good_ones() -> Vec<Case> {
    let close = "Connection: close\r\n";
    vec![
        let_in("GET", request("GET /front-door HTTP/1.1", HOST)),
        let_in("GET with a body", {
            format!("GET /front-door HTTP/1.1\r\n{HOST}{close}Content-Length: 2\r\n\r\n{{}}")
        }),
        let_in("GET, HTTP/1.0", request("GET /front-door HTTP/1.0", HOST)),
        let_in("POST", post(&format!("{close}Content-Length: 2\r\n"), "{}")),
        let_in("POST without a body", post(&format!("{close}Content-Length: 0\r\n"), "")),
        let_in("POST in chunks", post("Transfer-Encoding: Chunked\r\n", "2\r\n{}\r\n0\r\n\r\n")),
        Case {
            expected: &[100],
            ..let_in(
                "Expect: 100-continue",
                post(&format!("{close}Expect: 100-continue\r\nContent-Length: 2\r\n"), "{}"),
            )
        },
        Case {
            through: 2,
            ..let_in("two, one after the other", {
                let second = request("GET /front-door HTTP/1.1", HOST);
                post("Content-Length: 2\r\n", &format!("{{}}{second}"))
            })
        },
    ]
}

/// Has every conversation with the port; `counted` says how many requests have got through so far.
pub(crate) async fn run_table(addr: SocketAddr, counted: impl Fn() -> usize) {
    let table: Vec<Case> = [framing(), bodies(), targets(), methods(), heads(), good_ones()]
        .into_iter()
        .flatten()
        .collect();
    let mut wrong = Vec::new();
    for case in &table {
        let before = counted();
        let (back, text) = exchange(addr, &case.bytes, case.then).await;
        let through = counted() - before;

        let first = match &back {
            Back::Statuses(statuses) => Some(statuses[0]),
            Back::Closed => Some(CLOSED),
            Back::Nothing => None,
        };
        let fits = first.is_some_and(|first| case.expected.contains(&first));
        let mark = if fits && through == case.through { "  " } else { "! " };
        println!("{mark}{:<46} {through} through  {back:?}", case.name);
        if mark == "! " {
            wrong.push(format!("{}: {back:?}, {through} through\n{text}", case.name));
        }
    }
    println!("{} conversations", table.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Behind the door: reads the body, counts, answers.
async fn behind_the_door(
    request: Request<Body>,
    through: Arc<AtomicUsize>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    if let Err(refused) = door::admit(&head, !is_safe(&head.method)) {
        return refused.problem().response().map(Full::new);
    }
    match body.collect().await {
        Ok(_) => {
            through.fetch_add(1, Ordering::SeqCst);
            Response::new(Full::new(Bytes::from_static(b"ok")))
        }
        Err(BodyError::TooSlow) => {
            Problem { close: true, ..Problem::new(Slug::RequestTimeout) }.response().map(Full::new)
        }
        Err(BodyError::Broken(_)) => {
            Problem { close: true, ..Problem::new(Slug::MalformedRequest) }
                .response()
                .map(Full::new)
        }
    }
}

#[tokio::test]
async fn the_front_door_refuses_what_makes_proxies_dangerous() {
    let through = Arc::new(AtomicUsize::new(0));
    let quick = Duration::from_millis(300);
    let settings = Settings {
        header_timeout: quick,
        idle_timeout: quick,
        body_timeout: quick,
        too_slow: Problem::new(Slug::RequestTimeout).canned(),
        ..settings()
    };
    let counter = Arc::clone(&through);
    let listener =
        Listener::start(settings, move |request| behind_the_door(request, Arc::clone(&counter)))
            .await;

    run_table(listener.addr, || through.load(Ordering::SeqCst)).await;

    listener.stop().await;
}
