//! Requests, read by hand off a connection: whatever could be read in two ways is refused.
//!
//! By hand because `answer` needs the bare socket. Must not know payments.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, StatusCode, Uri};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How large a request's head may be.
const HEAD_MAX: usize = 16 * 1024;
/// How many headers it may have.
const HEADERS_MAX: usize = 64;
/// How large a request's body may be.
const BODY_MAX: usize = 1 << 20;
/// How long a connection may be idle.
const IDLE_MAX: Duration = Duration::from_secs(75);
/// How long a request may take to come in once it has begun.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// A whole request.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) uri: Uri,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
    pub(super) keep_alive: bool,
}

impl Request {
    /// The first header of that name, which is in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(its, _)| its == name).map(|(_, value)| value.as_str())
    }
}

/// Why no further request comes.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The connection ended, or nothing came for too long.
    Ended,
    /// The request is malformed or too large, and may be told so.
    Refused(StatusCode),
}

impl From<io::Error> for ReadError {
    fn from(_: io::Error) -> Self {
        Self::Ended
    }
}

const BAD_REQUEST: ReadError = ReadError::Refused(StatusCode::BAD_REQUEST);

/// What a head says of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyLength {
    Known(usize),
    Chunked,
}

struct Head {
    request: Request,
    size: usize,
    body: BodyLength,
    expects_continue: bool,
}

/// Reads requests off one connection.
#[derive(Default)]
pub(super) struct Reader {
    buffer: BytesMut,
}

impl Reader {
    /// The next request, whole.
    pub(super) async fn next(&mut self, stream: &mut TcpStream) -> Result<Request, ReadError> {
        if self.buffer.is_empty() {
            timeout(IDLE_MAX, self.fill(stream)).await.map_err(|_| ReadError::Ended)??;
        }
        timeout(REQUEST_TIME_MAX, self.whole(stream)).await.map_err(|_| ReadError::Ended)?
    }

    async fn whole(&mut self, stream: &mut TcpStream) -> Result<Request, ReadError> {
        let mut head = loop {
            if let Some(head) = parse_head(&self.buffer)? {
                break head;
            }
            if self.buffer.len() >= HEAD_MAX {
                return Err(ReadError::Refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
            }
            self.fill(stream).await?;
        };
        self.buffer.advance(head.size);
        if head.expects_continue && self.buffer.is_empty() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        head.request.body = match head.body {
            BodyLength::Known(length) => self.take(stream, length).await?,
            BodyLength::Chunked => self.chunks(stream).await?,
        };
        Ok(head.request)
    }

    async fn take(&mut self, stream: &mut TcpStream, length: usize) -> Result<Bytes, ReadError> {
        if length > BODY_MAX {
            return Err(ReadError::Refused(StatusCode::PAYLOAD_TOO_LARGE));
        }
        while self.buffer.len() < length {
            self.fill(stream).await?;
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn chunks(&mut self, stream: &mut TcpStream) -> Result<Bytes, ReadError> {
        let mut body = BytesMut::new();
        loop {
            let size = self.chunk_size(stream).await?;
            if size == 0 {
                break;
            }
            if size > BODY_MAX - body.len() {
                return Err(ReadError::Refused(StatusCode::PAYLOAD_TOO_LARGE));
            }
            body.extend_from_slice(&self.take(stream, size).await?);
            if self.take(stream, 2).await?.as_ref() != b"\r\n" {
                return Err(BAD_REQUEST);
            }
        }
        // Trailers, which nobody sends a payment API, are refused.
        if self.take(stream, 2).await?.as_ref() != b"\r\n" {
            return Err(BAD_REQUEST);
        }
        Ok(body.freeze())
    }

    async fn chunk_size(&mut self, stream: &mut TcpStream) -> Result<usize, ReadError> {
        loop {
            match httparse::parse_chunk_size(&self.buffer).map_err(|_| BAD_REQUEST)? {
                httparse::Status::Complete((used, size)) => {
                    self.buffer.advance(used);
                    return Ok(usize::try_from(size).unwrap_or(usize::MAX));
                }
                httparse::Status::Partial if self.buffer.len() > HEAD_MAX => {
                    return Err(BAD_REQUEST);
                }
                httparse::Status::Partial => self.fill(stream).await?,
            }
        }
    }

    async fn fill(&mut self, stream: &mut TcpStream) -> Result<(), ReadError> {
        const READ_SIZE: usize = 8 * 1024;
        self.buffer.reserve(READ_SIZE);
        match stream.read_buf(&mut self.buffer).await? {
            0 => Err(ReadError::Ended),
            _ => Ok(()),
        }
    }
}

fn parse_head(bytes: &[u8]) -> Result<Option<Head>, ReadError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let size = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(ReadError::Refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
        }
        Err(_) => return Err(BAD_REQUEST),
    };
    let method = parsed.method.and_then(|m| m.parse().ok()).ok_or(BAD_REQUEST)?;
    let uri = parsed.path.and_then(|path| path.parse().ok()).ok_or(BAD_REQUEST)?;
    let request = Request {
        method,
        uri,
        headers: parsed.headers.iter().map(named).collect(),
        body: Bytes::new(),
        keep_alive: parsed.version == Some(1)
            && !header(parsed.headers, "connection").is_some_and(|options| {
                options.split(',').any(|option| option.trim().eq_ignore_ascii_case("close"))
            }),
    };
    let body = body_length(parsed.headers)?;
    let expects_continue = header(parsed.headers, "expect").is_some();
    Ok(Some(Head { request, size, body, expects_continue }))
}

fn named(header: &httparse::Header<'_>) -> (String, String) {
    (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).into_owned())
}

fn header(headers: &[httparse::Header<'_>], name: &str) -> Option<String> {
    let found = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
    Some(String::from_utf8_lossy(found.value).into_owned())
}

/// Takes one way to say it, once; whatever could be read in two ways is refused.
fn body_length(headers: &[httparse::Header<'_>]) -> Result<BodyLength, ReadError> {
    let all = |name: &'static str| {
        headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name))
    };
    let mut lengths = all("content-length");
    let mut encodings = all("transfer-encoding");
    match (lengths.next(), encodings.next(), lengths.next(), encodings.next()) {
        (None, None, ..) => Ok(BodyLength::Known(0)),
        (Some(length), None, None, _) if length.value.iter().all(u8::is_ascii_digit) => {
            let length = str::from_utf8(length.value).ok().and_then(|length| length.parse().ok());
            length.map(BodyLength::Known).ok_or(BAD_REQUEST)
        }
        (None, Some(encoding), _, None) if encoding.value.eq_ignore_ascii_case(b"chunked") => {
            Ok(BodyLength::Chunked)
        }
        _ => Err(BAD_REQUEST),
    }
}
