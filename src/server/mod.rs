//! The ground floor of both ports: accepts connections, speaks HTTP/1.1 on them, keeps the bounds.
//!
//! It knows nothing of payments. What it adds to every request's extensions: [`Caller`] (who, since
//! when, and how to learn whether the answer reached them) and [`Framing`] (what the parser hides of
//! the head). Way of a request: here → `connection` → `socket` and `head` below the parser → the
//! service → `receipt`.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::task::Tasks;

mod body;
mod connection;
mod head;
mod receipt;
mod socket;

pub use body::{Body, BodyError};
pub use head::Framing;
pub use receipt::{Caller, Delivered, Receipt};

/// How many connections may be told at the same time that there are too many of them. What comes
/// beyond that is closed without a word.
const REFUSALS_MAX: usize = 64;

/// How long a caller whose request was not read to its end has to take the answer.
const LINGER: Duration = Duration::from_secs(1);

/// How much of what it still sends meanwhile is thrown away.
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The pause after a failed accept: what fails it (no file descriptors) takes time to pass.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The parser's buffers are never smaller.
const BUFFER_MIN: usize = 64 * 1024;

/// How a port behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How many connections it serves at the same time.
    pub connections_max: usize,
    /// How many header fields a request may have.
    pub headers_max: usize,
    /// How long a request's head may be, in bytes.
    pub header_bytes_max: usize,
    /// How long a head may take, from its first byte.
    pub header_timeout: Duration,
    /// How long a connection may wait for the first byte of a request.
    pub idle_timeout: Duration,
    /// How long the next part of a body may take.
    pub body_timeout: Duration,
    /// How long a whole body may take.
    pub whole_body_timeout: Duration,
    /// How long a caller may take nothing of its answer.
    pub write_timeout: Duration,
    /// How long connections may go on after the call to drain.
    pub grace: Duration,
    /// The whole HTTP response for a connection too many, ready to be written.
    pub overloaded: Bytes,
    /// The whole HTTP response for a head that does not come, ready to be written.
    pub too_slow: Bytes,
}

impl Settings {
    /// The defaults. The two canned responses have no body; whoever speaks for the port sets them.
    pub const fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            connections_max: 4096,
            headers_max: 100,
            header_bytes_max: 32 * 1024,
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            whole_body_timeout: Duration::from_secs(300),
            write_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(5),
            overloaded: Bytes::from_static(
                b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\
                connection: close\r\n\r\n",
            ),
            too_slow: Bytes::from_static(
                b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            ),
        }
    }
}

/// A port that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    addr: SocketAddr,
    settings: Arc<Settings>,
}

impl Server {
    /// Starts to listen; connections queue until [`Self::serve`].
    ///
    /// # Errors
    /// If the address is taken or not ours.
    pub async fn bind(settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind(settings.listen).await?;
        let addr = listener.local_addr()?;
        Ok(Self { listener, addr, settings: Arc::new(settings) })
    }

    /// Where it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `drain` is cancelled and the last connection has ended, or the grace has.
    ///
    /// # Cancel safety
    /// Dropping the future stops accepting; connections go on in `tasks`, until `drain` and grace.
    pub async fn serve<S, B>(self, service: S, tasks: &Tasks, drain: CancellationToken)
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let slots = Arc::new(Semaphore::new(self.settings.connections_max));
        let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
        while let Some((stream, peer)) = self.accept(&drain).await {
            let settings = Arc::clone(&self.settings);
            if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
                let (service, drain) = (service.clone(), drain.clone());
                tasks.spawn(async move {
                    connection::converse(stream, peer, &settings, service, drain).await;
                    drop(slot);
                });
            } else if let Ok(refusal) = Arc::clone(&refusals).try_acquire_owned() {
                tasks.spawn(async move {
                    let told = timeout(LINGER, refuse(stream, &settings.overloaded)).await;
                    tracing::debug!(%peer, told = told.is_ok(), "refused a connection too many");
                    drop(refusal);
                });
            }
        }
        // Callers that come now are refused by the system, at once.
        drop(self.listener);
        let all = u32::try_from(self.settings.connections_max).unwrap_or(u32::MAX);
        let ended = slots.acquire_many(all).await;
        drop(ended);
    }

    /// The next connection, or none once draining.
    async fn accept(&self, drain: &CancellationToken) -> Option<(TcpStream, SocketAddr)> {
        loop {
            let accepted = drain.run_until_cancelled(self.listener.accept()).await?;
            match accepted {
                Ok((stream, peer)) => {
                    // An answer must not wait for the acknowledgement of what went before it.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%peer, %error, "no TCP_NODELAY");
                    }
                    return Some((stream, peer));
                }
                // The caller's own doing; the next one may be well.
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    drain.run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE)).await?;
                }
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// Writes a canned response and closes.
async fn refuse(mut stream: TcpStream, response: &[u8]) -> io::Result<()> {
    stream.write_all(response).await?;
    stream.shutdown().await?;
    linger(stream).await
}

/// Takes what still comes after the last answer: bytes that meet a closed socket would reset the
/// connection, and the answer with it, before it is read.
async fn linger(mut stream: TcpStream) -> io::Result<()> {
    let mut left = LINGER_BYTES_MAX;
    let mut sink = vec![0; 16 * 1024];
    while left > 0 {
        let read = stream.read(&mut sink).await?;
        if read == 0 {
            break;
        }
        left = left.saturating_sub(read);
    }
    Ok(())
}
