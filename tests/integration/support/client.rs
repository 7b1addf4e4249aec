//! A caller: sends one request over a connection of its own, and reads the answer as it came, or
//! leaves.
#![expect(clippy::unwrap_used, reason = "a helper of tests")]

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::raw::PATIENCE;

/// A request in the making.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    line: String,
    headers: Vec<String>,
    body: Vec<u8>,
}

/// A request that was sent; dropped, its caller has left.
#[derive(Debug)]
pub(crate) struct Call {
    stream: TcpStream,
    read: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In their order, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its announced end.
    pub(crate) whole: bool,
}

impl Ask {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self { line: format!("{method} {target} HTTP/1.1"), headers: vec![], body: vec![] }
    }

    pub(crate) fn post(target: &str) -> Self {
        Self::new("POST", target)
    }

    /// A payment under this reference (by which the practice provider knows it).
    pub(crate) fn pay(reference: &str) -> Self {
        let body = serde_json::json!({"amount": 700, "currency": "eur", "reference": reference});
        Self::post("/v1/payments").header("Content-Type", "application/json").body(body.to_string())
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(format!("{name}: {value}"));
        self
    }

    pub(crate) fn key(self, key: &str) -> Self {
        self.header("Idempotency-Key", key)
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// What is written: head, and so many bytes of the body.
    fn bytes(&self, of_body: usize) -> Vec<u8> {
        let mut text = format!("{}\r\nHost: shop.example\r\n", self.line);
        for header in &self.headers {
            text += header;
            text += "\r\n";
        }
        text += &format!("Content-Length: {}\r\n\r\n", self.body.len());
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body[..of_body]);
        bytes
    }

    pub(crate) async fn send(&self, addr: SocketAddr) -> Call {
        self.send_part(addr, self.body.len()).await
    }

    /// Sends the head and only so many bytes of the body.
    pub(crate) async fn send_part(&self, addr: SocketAddr, of_body: usize) -> Call {
        let socket = TcpSocket::new_v4().unwrap();
        self.send_over(socket, addr, of_body).await
    }

    /// Sends from a place that takes only a little of the answer before it is read.
    pub(crate) async fn send_narrow(&self, addr: SocketAddr) -> Call {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        self.send_over(socket, addr, self.body.len()).await
    }

    async fn send_over(&self, socket: TcpSocket, addr: SocketAddr, of_body: usize) -> Call {
        let mut stream = socket.connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(&self.bytes(of_body)).await.unwrap();
        Call { stream, read: Vec::new() }
    }

    /// Sends and waits for the whole answer.
    pub(crate) async fn ask(&self, addr: SocketAddr) -> Answer {
        self.send(addr).await.answer().await
    }
}

impl Call {
    pub(crate) async fn more(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Waits for the first bytes of an answer, and takes no more than those.
    pub(crate) async fn begun(&mut self) {
        timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await.unwrap().unwrap();
    }

    /// Whether nothing has come so far.
    pub(crate) async fn is_silent(&mut self) -> bool {
        let wait = std::time::Duration::from_millis(20);
        timeout(wait, self.stream.read_buf(&mut self.read)).await.is_err()
    }

    /// Reads the answer to its end.
    pub(crate) async fn answer(mut self) -> Answer {
        let answer = timeout(PATIENCE, self.read_answer()).await;
        let read = self.read.len();
        answer.unwrap_or_else(|_| panic!("no whole answer, and {read} bytes of it"))
    }

    async fn read_answer(&mut self) -> Answer {
        let end = loop {
            if let Some(at) = find(&self.read, b"\r\n\r\n") {
                break at + 4;
            }
            assert!(
                self.some().await,
                "ended in the head: {:?}",
                String::from_utf8_lossy(&self.read)
            );
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
        let status = head[9..12].parse().unwrap();
        let headers: Vec<_> = head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let value = |name| headers.iter().find(|(its, _)| its == name).map(|(_, value)| value);
        let (body, whole) = match value("content-length") {
            Some(length) => self.exactly(length.parse().unwrap()).await,
            None if value("transfer-encoding").is_some() => self.chunks().await,
            None => (vec![], true),
        };
        Answer { status, headers, body, whole }
    }

    async fn some(&mut self) -> bool {
        self.stream.read_buf(&mut self.read).await.is_ok_and(|read| read > 0)
    }

    async fn exactly(&mut self, length: usize) -> (Vec<u8>, bool) {
        while self.read.len() < length {
            if !self.some().await {
                return (std::mem::take(&mut self.read), false);
            }
        }
        (self.read.drain(..length).collect(), true)
    }

    async fn chunks(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let at = loop {
                if let Some(at) = find(&self.read, b"\r\n") {
                    break at;
                }
                if !self.some().await {
                    return (body, false);
                }
            };
            let line: Vec<u8> = self.read.drain(..at + 2).collect();
            let size = std::str::from_utf8(&line[..at]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            let (chunk, whole) = self.exactly(size).await;
            body.extend(chunk);
            if !whole || !self.exactly(2).await.1 {
                return (body, false);
            }
            if size == 0 {
                return (body, true);
            }
        }
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

impl Answer {
    /// The one value of a header; `None` if there is none.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.values(name);
        let value = values.next();
        assert!(values.next().is_none(), "more than one {name}");
        value
    }

    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(its, _)| its == name).map(|(_, value)| value.as_str())
    }

    /// What `Semel-Answer` says.
    pub(crate) fn kind(&self) -> &str {
        self.header("semel-answer").unwrap_or("none")
    }

    pub(crate) fn operation(&self) -> &str {
        self.header("semel-operation").unwrap_or_else(|| panic!("no operation: {self:?}"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    /// Asserts that it is semel's own, of this kind, and returns its body.
    pub(crate) fn problem(&self, status: u16, slug: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert!(self.header("proxy-status").unwrap().starts_with("semel; error="), "{self:?}");
        let body = self.json();
        assert!(body["type"].as_str().unwrap().ends_with(slug), "{body}");
        body
    }
}
