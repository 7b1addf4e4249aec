//! The upstream of the bench: answers at once, or as late and as large as a request asks for.
//!
//! `POST /anything?delay_ms=50&size=65536&count` waits 50 ms, answers with 64 KiB of JSON, and
//! counts the request under its idempotency key; `GET /counted` tells what was counted,
//! `DELETE /counted` forgets it. It shares a core with the load generator, so it does as little as an HTTP/1.1 server
//! can: one thread, one write per answer, answers made once per size.

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use clap::Parser;
use httparse::Status;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::{LocalSet, spawn_local};
use tokio_rustls::TlsAcceptor;

/// How large an answer is that no request said anything about.
const SIZE: usize = 300;
/// How large an answer may be.
const SIZE_MAX: usize = 16 << 20;
/// How large the head of a request may be.
const HEAD_MAX: usize = 64 << 10;
/// How many header fields a request may have.
const FIELDS_MAX: usize = 64;
/// How much is read at once, at most.
const READ_MAX: usize = 64 << 10;
/// How many connections may wait to be accepted: thousands come at once where a proxy is filled.
const BACKLOG: u32 = 4096;
/// How many keys are counted.
const KEYS_MAX: usize = 1 << 20;

/// The fast upstream of the bench.
#[derive(Parser)]
struct Options {
    /// Where it listens.
    #[arg(long)]
    listen: SocketAddr,
    /// Its certificate, in PEM: then it speaks TLS.
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    /// The certificate's key, in PEM.
    #[arg(long)]
    key: Option<PathBuf>,
}

/// What all connections share; there is one thread.
#[derive(Default)]
struct Shared {
    answers: RefCell<HashMap<usize, Bytes>>,
    counts: RefCell<HashMap<Vec<u8>, u64>>,
}

/// What follows a head.
enum Rest {
    Length(usize),
    Chunks,
}

/// What a request wants.
enum Wish {
    Answer { size: usize, counted_as: Option<Vec<u8>> },
    Counted,
    Forget,
}

struct Request {
    wish: Wish,
    delay: Duration,
    rest: Rest,
    is_last: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let acceptor = acceptor(&options)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(options.listen, acceptor))?;
    Ok(())
}

fn acceptor(options: &Options) -> Result<Option<TlsAcceptor>, Box<dyn Error>> {
    let (Some(certificate), Some(key)) = (&options.certificate, &options.key) else {
        return Ok(None);
    };
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

async fn serve(listen: SocketAddr, acceptor: Option<TlsAcceptor>) -> io::Result<()> {
    let socket = if listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    let listener = socket.listen(BACKLOG)?;
    let shared = Rc::new(Shared::default());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (shared, acceptor) = (shared.clone(), acceptor.clone());
        // How a connection ends is the load generator's to see.
        spawn_local(async move {
            match acceptor {
                Some(acceptor) => converse(acceptor.accept(stream).await?, &shared).await,
                None => converse(stream, &shared).await,
            }
        });
    }
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    shared: &Shared,
) -> io::Result<()> {
    let mut read = BytesMut::with_capacity(READ_MAX);
    while let Some(request) = next(&mut stream, &mut read).await? {
        skip(&mut stream, &mut read, &request.rest).await?;
        if !request.delay.is_zero() {
            tokio::time::sleep(request.delay).await;
        }
        let answer = match request.wish {
            Wish::Answer { size, counted_as } => {
                if let Some(key) = counted_as {
                    shared.count(key)?;
                }
                shared.answer(size)
            }
            Wish::Counted => shared.counted(),
            Wish::Forget => {
                shared.counts.borrow_mut().clear();
                shared.answer(SIZE)
            }
        };
        stream.write_all(&answer).await?;
        stream.flush().await?;
        if request.is_last {
            return stream.shutdown().await;
        }
    }
    Ok(())
}

impl Shared {
    fn answer(&self, size: usize) -> Bytes {
        self.answers.borrow_mut().entry(size).or_insert_with(|| answer(&document(size))).clone()
    }

    fn count(&self, key: Vec<u8>) -> io::Result<()> {
        let mut counts = self.counts.borrow_mut();
        if counts.len() >= KEYS_MAX {
            return Err(io::Error::other("too many keys to count"));
        }
        *counts.entry(key).or_default() += 1;
        Ok(())
    }

    fn counted(&self) -> Bytes {
        let counts = self.counts.borrow();
        let (keys, sum) = (counts.len(), counts.values().sum::<u64>());
        let most = counts.values().max().copied().unwrap_or(0);
        answer(&format!(r#"{{"keys":{keys},"executions":{sum},"most":{most}}}"#))
    }
}

/// A payment in JSON, this many bytes long or as short as it can be.
fn document(size: usize) -> String {
    let (start, end) = (r#"{"id":"payment","status":"succeeded","note":""#, r#""}"#);
    format!("{start}{}{end}", "n".repeat(size.saturating_sub(start.len() + end.len())))
}

fn answer(body: &str) -> Bytes {
    let length = body.len();
    Bytes::from(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
}

/// The next request's head, or nothing if there is none to come.
async fn next(
    stream: &mut (impl AsyncRead + Unpin),
    read: &mut BytesMut,
) -> io::Result<Option<Request>> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut head = httparse::Request::new(&mut fields);
        match head.parse(read).map_err(io::Error::other)? {
            Status::Complete(length) => {
                let request = understood(&head)?;
                read.advance(length);
                return Ok(Some(request));
            }
            Status::Partial if read.len() > HEAD_MAX => {
                return Err(io::Error::other("a head without end"));
            }
            Status::Partial => {}
        }
        if more(stream, read).await? == 0 {
            return Ok(None);
        }
    }
}

async fn more(stream: &mut (impl AsyncRead + Unpin), read: &mut BytesMut) -> io::Result<usize> {
    read.reserve(READ_MAX);
    stream.read_buf(read).await
}

fn understood(head: &httparse::Request<'_, '_>) -> io::Result<Request> {
    let field = |name: &str| {
        let found = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        found.map(|field| field.value)
    };
    let (path, query) = head.path.and_then(|path| path.split_once('?')).unwrap_or_default();
    let path = if query.is_empty() { head.path.unwrap_or_default() } else { path };
    let asked = |name: &str| {
        let found = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
        found.map(|(_, value)| value)
    };
    let number = |name: &str, default: usize| {
        asked(name).map_or(Ok(default), |value| value.parse().map_err(io::Error::other))
    };
    let wish = match (head.method, path) {
        (Some("GET"), "/counted") => Wish::Counted,
        (Some("DELETE"), "/counted") => Wish::Forget,
        (_, _) => Wish::Answer {
            size: number("size", SIZE)?.min(SIZE_MAX),
            counted_as: asked("count").map(|_| field("idempotency-key").unwrap_or(b"").to_vec()),
        },
    };
    let rest = match (field("transfer-encoding"), field("content-length")) {
        (Some(_), _) => Rest::Chunks,
        (None, Some(length)) => {
            let length = str::from_utf8(length).map_err(io::Error::other)?;
            Rest::Length(length.parse().map_err(io::Error::other)?)
        }
        (None, None) => Rest::Length(0),
    };
    let delay = Duration::from_millis(number("delay_ms", 0)? as u64);
    let is_last = field("connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
    Ok(Request { wish, delay, rest, is_last })
}

/// Reads what follows a head, and forgets it.
async fn skip(
    stream: &mut (impl AsyncRead + Unpin),
    read: &mut BytesMut,
    rest: &Rest,
) -> io::Result<()> {
    match rest {
        Rest::Length(length) => drop_bytes(stream, read, *length).await,
        Rest::Chunks => loop {
            let parsed = httparse::parse_chunk_size(read)
                .map_err(|_| io::Error::other("not the size of a chunk"))?;
            let Status::Complete((line, size)) = parsed else {
                fill(stream, read).await?;
                continue;
            };
            // Nobody here sends trailers, so every chunk ends with an empty line.
            let size = usize::try_from(size).map_err(io::Error::other)?;
            drop_bytes(stream, read, line + size + 2).await?;
            if size == 0 {
                return Ok(());
            }
        },
    }
}

async fn drop_bytes(
    stream: &mut (impl AsyncRead + Unpin),
    read: &mut BytesMut,
    mut length: usize,
) -> io::Result<()> {
    while length > read.len() {
        length -= read.len();
        read.clear();
        fill(stream, read).await?;
    }
    read.advance(length);
    Ok(())
}

async fn fill(stream: &mut (impl AsyncRead + Unpin), read: &mut BytesMut) -> io::Result<()> {
    match more(stream, read).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
