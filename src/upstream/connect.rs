//! New connections: name, address, TLS handshake, HTTP. Nothing of a request is written here, so
//! every failure is proof that nothing was sent.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::StreamingBody;
use super::line::{Line, Stream, Watched};
use super::settings::{Settings, SettingsInvalid, Tls, UpstreamUrl};
use crate::task::Tasks;

/// How many of a name's addresses are tried.
const ADDRESSES_MAX: usize = 8;

/// How many headers an answer may have.
const HEADERS_MAX: usize = 128;

/// An open connection, driven in the background, that nobody uses.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<StreamingBody>,
    pub(super) line: Arc<Line>,
}

/// Opens connections to one upstream.
pub(super) struct Connector {
    url: UpstreamUrl,
    tls: Option<Tls>,
    connect_timeout: Duration,
    head_max: usize,
    tasks: Tasks,
}

impl Connector {
    pub(super) fn new(settings: &Settings, tasks: Tasks) -> Result<Self, SettingsInvalid> {
        let url = settings.url.clone();
        let tls = match url.is_encrypted() {
            true => Some(settings.tls.load(url.host())?),
            false => None,
        };
        let (connect_timeout, head_max) = (settings.connect_timeout, settings.head_max);
        Ok(Self { url, tls, connect_timeout, head_max, tasks })
    }

    /// Opens one that is closed when it has rested for `rest_max`.
    pub(super) async fn connect(&self, rest_max: Duration) -> io::Result<Connection> {
        let stream = self.stream().await?;
        let line = Arc::new(Line::new(rest_max));
        let watched = Watched::new(stream, Arc::clone(&line));
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(self.head_max)
            .max_header_size(self.head_max)
            .max_headers(HEADERS_MAX)
            .handshake(TokioIo::new(watched))
            .await
            .map_err(io::Error::other)?;
        let ours = Arc::clone(&line);
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                // What went wrong is told to the request; without one, closing is all there is.
                _ = driver => {}
                () = ours.must_close() => {}
            }
            ours.cut();
        });
        Ok(Connection { sender, line })
    }

    /// A stream that is ready for HTTP.
    pub(super) async fn stream(&self) -> io::Result<Stream> {
        let until = Instant::now() + self.connect_timeout;
        let tcp = timeout_at(until, self.tcp(until)).await??;
        tcp.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Stream::Plain(tcp)) };
        let handshake = TlsConnector::from(Arc::clone(&tls.client)).connect(tls.name.clone(), tcp);
        Ok(Stream::Encrypted(Box::new(timeout_at(until, handshake).await??)))
    }

    async fn tcp(&self, until: Instant) -> io::Result<TcpStream> {
        let found = lookup_host((self.url.host(), self.url.port())).await?;
        let addresses: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for (tried, address) in addresses.iter().enumerate() {
            // Each gets its share of what is left, so that one that is silent leaves time for the next.
            let left = until.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure = error,
                Err(elapsed) => failure = elapsed.into(),
            }
        }
        Err(failure)
    }
}
