//! The callers: what they send, and exactly what they are told. Knows no row.
#![expect(clippy::unwrap_used, reason = "a drill whose client cannot speak has failed")]
#![expect(clippy::disallowed_methods, reason = "callers come at the same time")]

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// Nobody waits longer than this for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request of the backend's that has not been sent yet.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    addr: SocketAddr,
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

/// A caller that waits for its answer.
#[derive(Debug)]
pub(crate) struct Waiting(JoinHandle<Said>);

/// What one caller was told.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    /// This.
    Answer(Box<Answer>),
    /// It left before it could be told anything.
    Left,
    /// The connection was refused, or ended without an answer.
    Nothing,
    /// No caller: something else that must be so, in words, and whether it is.
    Fact(String, bool),
}

/// An answer as it came.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether it broke off.
    pub(crate) cut: bool,
    pub(crate) took: Duration,
    pub(crate) at: Instant,
}

impl Order {
    /// A payment of 19.00, without a key, under this reference of the shop's.
    pub(crate) fn new(addr: SocketAddr, reference: &str) -> Self {
        let headers = vec![
            ("content-type", "application/json".to_owned()),
            ("authorization", "Bearer shop".to_owned()),
        ];
        let path = super::config::PLAIN.to_owned();
        let order = Self { addr, method: Method::POST, path, headers, body: String::new() };
        order.reference(reference)
    }

    /// A question.
    pub(crate) fn get(addr: SocketAddr, path: &str) -> Self {
        let path = path.to_owned();
        Self { addr, method: Method::GET, path, headers: vec![], body: String::new() }
    }

    pub(crate) fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    pub(crate) fn at(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// Under this reference of the shop's, whatever the key.
    pub(crate) fn reference(self, reference: &str) -> Self {
        let body = format!(r#"{{"amount":1900,"currency":"eur","reference":"{reference}"}}"#);
        self.body(body)
    }

    /// As [`Order::reference`], with a card that is declined.
    pub(crate) fn declined(self, reference: &str) -> Self {
        let body = format!(r#"{{"amount":1900,"source":"declined","reference":"{reference}"}}"#);
        self.body(body)
    }

    /// What is to go wrong with this request, upstream.
    pub(crate) fn wrong(self, modes: &str) -> Self {
        self.header("x-practice", modes)
    }

    /// On behalf of another caller.
    pub(crate) fn by(self, who: &str) -> Self {
        self.header("authorization", who)
    }

    pub(crate) fn body(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(had, _)| *had != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Sends it and waits for what the caller is told.
    pub(crate) async fn send(self) -> Said {
        let began = Instant::now();
        match timeout(PATIENCE, self.exchange()).await {
            Ok(Ok((head, body, cut))) => Said::Answer(Box::new(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body,
                cut,
                took: began.elapsed(),
                at: Instant::now(),
            })),
            Ok(Err(_)) | Err(_) => Said::Nothing,
        }
    }

    /// Sends its head and half of its body, then leaves.
    pub(crate) async fn leave_halfway(self) -> Said {
        let mut text = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", self.method, self.path, self.addr);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let (half, length) = (&self.body[..self.body.len() / 2], self.body.len());
        text.push_str(&format!("content-length: {length}\r\n\r\n{half}"));
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        // The other side has seen it when it closes, too.
        let _ = stream.read_to_end(&mut Vec::new()).await;
        Said::Left
    }

    /// Sends it in the background.
    pub(crate) fn press(self) -> Waiting {
        Waiting(tokio::spawn(self.send()))
    }

    async fn exchange(self) -> io::Result<(http::response::Parts, Bytes, bool)> {
        let stream = TcpStream::connect(self.addr).await?;
        let _ = stream.set_nodelay(true);
        let mut request = Request::builder().method(self.method).uri(&self.path);
        request = request.header("host", self.addr.to_string()).header("connection", "close");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(Bytes::from(self.body))).unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        // In one future with the request: a caller that is dropped closes its connection.
        let (answer, _) = tokio::join!(
            async move {
                let answer: Response<_> = sender.send_request(request).await?;
                let (head, mut body) = answer.into_parts();
                let mut whole = Vec::new();
                while let Some(frame) = body.frame().await {
                    let Ok(frame) = frame else { return Ok((head, whole.into(), true)) };
                    whole.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
                }
                Ok((head, whole.into(), false))
            },
            connection
        );
        answer.map_err(|error: hyper::Error| io::Error::other(error))
    }
}

impl Waiting {
    /// What it is told in the end.
    pub(crate) async fn told(self) -> Said {
        self.0.await.unwrap()
    }

    /// Whether it has been told.
    pub(crate) fn is_told(&self) -> bool {
        self.0.is_finished()
    }

    /// It closes its connection and goes.
    pub(crate) async fn leaves(self) -> Said {
        self.0.abort();
        match self.0.await {
            Ok(said) => said,
            Err(_) => Said::Left,
        }
    }
}

impl Said {
    pub(crate) fn fact(what: impl Into<String>, holds: bool) -> Self {
        Self::Fact(what.into(), holds)
    }

    /// Status, `Semel-Answer` and the problem's slug: as much as a table has room for.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Answer(answer) => answer.words(),
            Self::Left => "left".to_owned(),
            Self::Nothing => "no answer".to_owned(),
            Self::Fact(what, true) => what.clone(),
            Self::Fact(what, false) => format!("NOT: {what}"),
        }
    }

    /// The answer; for rows that go on with what is in it.
    pub(crate) fn answer(&self) -> &Answer {
        match self {
            Self::Answer(answer) => answer,
            Self::Left | Self::Nothing | Self::Fact(..) => panic!("no answer, but {self:?}"),
        }
    }
}

impl Answer {
    fn words(&self) -> String {
        let mut words = vec![self.status.to_string(), self.kind().to_owned()];
        words.extend(self.slug());
        words.extend(self.cut.then(|| "cut".to_owned()));
        words.join(" ")
    }

    /// What `Semel-Answer` says.
    pub(crate) fn kind(&self) -> &str {
        self.header("semel-answer").unwrap_or("passed")
    }

    /// The operation's public id.
    pub(crate) fn operation(&self) -> Option<&str> {
        self.header("semel-operation")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(crate) fn slug(&self) -> Option<String> {
        let problem = self.header("content-type") == Some("application/problem+json");
        let kind = problem.then(|| self.json()["type"].as_str().unwrap_or_default().to_owned())?;
        Some(kind.rsplit('/').next().unwrap_or_default().to_owned())
    }
}

/// Waits for all of them; in the order of what they were told, as nobody knows who came first.
pub(crate) async fn all(waiting: Vec<Waiting>) -> Vec<Said> {
    let mut said = Vec::new();
    for one in waiting {
        said.push(one.told().await);
    }
    said.sort_by_key(Said::words);
    said
}
