//! A server that does on its connections exactly what a test says, byte by byte. Knows just enough
//! HTTP to see where a request ends.

#![expect(clippy::unwrap_used, reason = "a test's server may panic")]
#![expect(clippy::disallowed_methods, reason = "tests spawn their own servers")]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What a connection's bytes go through.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Io for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Io for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// A listening server; it stops when dropped.
#[derive(Debug)]
pub(crate) struct RawServer {
    pub(crate) address: SocketAddr,
    /// How many connections came.
    pub(crate) connections: Arc<AtomicUsize>,
    /// How many requests were read whole.
    pub(crate) executions: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

/// One connection of it.
pub(crate) struct Peer {
    io: Box<dyn Io>,
    read: Vec<u8>,
    executions: Arc<AtomicUsize>,
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawRequest {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl RawServer {
    /// Runs the script on every connection.
    pub(crate) async fn start<F>(script: impl Fn(Peer) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        Self::start_with(None, script).await
    }

    /// The same after a TLS handshake, if there is an acceptor.
    pub(crate) async fn start_with<F>(
        tls: Option<TlsAcceptor>,
        script: impl Fn(Peer) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, executions) = (Arc::default(), Arc::default());
        let script = Arc::new(script);
        let (came, ran) = (Arc::clone(&connections), Arc::clone(&executions));
        let accepting = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                tcp.set_nodelay(true).unwrap();
                AtomicUsize::fetch_add(&came, 1, Ordering::SeqCst);
                let (tls, script, executions) =
                    (tls.clone(), Arc::clone(&script), Arc::clone(&ran));
                tokio::spawn(async move {
                    let Some(io) = secured(tls, tcp).await else { return };
                    let _ = script(Peer { io, read: Vec::new(), executions }).await;
                });
            }
        });
        Self { address, connections, executions, accepting }
    }

    pub(crate) fn executions(&self) -> usize {
        self.executions.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn secured(tls: Option<TlsAcceptor>, tcp: TcpStream) -> Option<Box<dyn Io>> {
    match tls {
        None => Some(Box::new(tcp)),
        Some(acceptor) => Some(Box::new(acceptor.accept(tcp).await.ok()?)),
    }
}

impl Peer {
    /// Reads one whole request and counts it; `None` if the connection ended before its first byte.
    pub(crate) async fn request(&mut self) -> io::Result<Option<RawRequest>> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more().await? {
                return Ok(None);
            }
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap().to_lowercase();
        let body = if head.contains("transfer-encoding: chunked") {
            self.chunks().await?
        } else {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            self.exactly(length.map_or(0, |length| length.parse().unwrap())).await?
        };
        self.executions.fetch_add(1, Ordering::SeqCst);
        Ok(Some(RawRequest { head, body }))
    }

    /// Reads until this has come; what has come stays unread.
    pub(crate) async fn until(&mut self, text: &str) -> io::Result<()> {
        while !self.read.windows(text.len()).any(|window| window == text.as_bytes()) {
            if !self.more().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let at = loop {
                if let Some(at) = self.read.windows(2).position(|two| two == b"\r\n") {
                    break at;
                }
                self.more().await?;
            };
            let line: Vec<u8> = self.read.drain(..at + 2).collect();
            let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16);
            let size = size.unwrap();
            body.extend(self.exactly(size).await?);
            self.exactly(2).await?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    async fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.read.len() < length {
            if !self.more().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.read.drain(..length).collect())
    }

    async fn more(&mut self) -> io::Result<bool> {
        Ok(self.io.read_buf(&mut self.read).await? > 0)
    }

    /// Waits for the other side to close (or reset), for so long; whether it did.
    pub(crate) async fn is_closed_within(&mut self, wait: Duration) -> bool {
        let closed = async { while self.more().await.unwrap_or(false) {} };
        tokio::time::timeout(wait, closed).await.is_ok()
    }

    pub(crate) async fn write(&mut self, text: &str) -> io::Result<()> {
        self.write_bytes(text.as_bytes()).await
    }

    pub(crate) async fn write_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await
    }

    /// Answers 200 with a length.
    pub(crate) async fn ok(&mut self, body: &str) -> io::Result<()> {
        let length = body.len();
        self.write(&format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")).await
    }

    /// Ends the connection with a reset instead of a close.
    pub(crate) fn reset(self) {
        SockRef::from(self.io.tcp()).set_linger(Some(Duration::ZERO)).unwrap();
    }
}
