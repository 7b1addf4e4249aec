//! One caller's connection: request after request, until somebody is through with it.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

use super::body::Body;
use super::head::Framing;
use super::receipt::{Caller, Watched};
use super::socket::{SharedTalk, Socket, Talk, Waiting, lock};
use super::{LINGER, Settings, linger, refuse};

/// How many header fields the parser takes if it is told nothing.
const PARSER_HEADERS_MAX: usize = 100;

/// Why a connection came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// As HTTP has it, or because the caller left.
    Over,
    /// The caller kept us waiting.
    TooSlow(Waiting),
    /// The grace after the call to drain is over.
    Cut,
}

/// Serves one connection to its end.
///
/// # Cancel safety
/// Dropping the future closes the connection; receipts are told `Left`.
pub(super) async fn converse<S, B>(
    stream: TcpStream,
    peer: SocketAddr,
    settings: &Settings,
    service: S,
    drain: CancellationToken,
) where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone,
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let shared = Talk::shared();
    let talk = &shared;
    let serve = service_fn(move |request: Request<Incoming>| {
        answer(request, peer, settings, service.clone(), talk)
    });
    let io = TokioIo::new(Socket::new(stream, talk.clone()));
    let mut connection = http(settings).serve_connection(io, serve);

    let ended = run(&mut connection, talk, settings, drain).await;

    let stream = connection.into_parts().io.into_inner().into_stream();
    match ended {
        Ended::Over if lock(talk).scan.is_between_requests() => {}
        Ended::Over => drop(timeout(LINGER, linger(stream)).await),
        Ended::TooSlow(Waiting::RestOfHead(_)) => {
            let told = timeout(LINGER, refuse(stream, &settings.too_slow)).await;
            tracing::debug!(%peer, told = told.is_ok(), "a request's head did not come in time");
        }
        Ended::TooSlow(waiting) => tracing::debug!(%peer, ?waiting, "closed a silent connection"),
        Ended::Cut => tracing::warn!(%peer, "cut a connection at the end of the grace"),
    }
}

fn http(settings: &Settings) -> http1::Builder {
    let mut http = http1::Builder::new();
    // Its one timer cannot tell an idle connection from half a head; `run` keeps the time.
    http.timer(TokioTimer::new())
        .header_read_timeout(None)
        .half_close(false)
        .pipeline_flush(false)
        .max_header_size(settings.header_bytes_max)
        .max_buf_size(settings.header_bytes_max.max(super::BUFFER_MIN));
    // Asked for what it does anyway, the parser would take slower ways.
    if settings.headers_max != PARSER_HEADERS_MAX {
        http.max_headers(settings.headers_max);
    }
    http
}

/// Hands one request to the service, and its answer back.
async fn answer<S, B>(
    request: Request<Incoming>,
    peer: SocketAddr,
    settings: &Settings,
    mut service: S,
    talk: &SharedTalk,
) -> Result<Response<Watched<B>>, Infallible>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = Bytes>,
{
    let (framing, delivery) = {
        let mut talk = lock(talk);
        (talk.scan.take().unwrap_or(Framing::UNSEEN), talk.delivery.clone())
    };
    delivery.begin();
    let method = request.method().clone();
    let arrived = Instant::now();
    let whole_until = arrived + settings.whole_body_timeout;
    let mut request =
        request.map(|incoming| Body::new(incoming, settings.body_timeout, whole_until));
    request.extensions_mut().insert(framing);
    request.extensions_mut().insert(Caller::new(peer, arrived));

    let mut response = service.ready().await?.call(request).await?;

    if !framing.reusable {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(delivery.watch(&method, response))
}

/// Drives a connection until it ends by itself, its caller is too slow, or drain's grace is over.
async fn run<S, B>(
    connection: &mut http1::Connection<TokioIo<Socket>, S>,
    talk: &SharedTalk,
    settings: &Settings,
    drain: CancellationToken,
) -> Ended
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut patience = Patience::new();
    let mut cut = pin!(sleep_until(Instant::now()));
    let mut draining = false;
    loop {
        tokio::select! {
            // The connection first: only after it has done what it could is it known who waits.
            biased;
            ended = &mut *connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke off");
                }
                return Ended::Over;
            }
            () = drain.cancelled(), if !draining => {
                draining = true;
                Pin::new(&mut *connection).graceful_shutdown();
                cut.as_mut().reset(Instant::now() + settings.grace);
            }
            () = &mut cut, if draining => return Ended::Cut,
            waiting = poll_fn(|cx| patience.poll_over(cx, talk, settings)) => {
                return Ended::TooSlow(waiting);
            }
        }
    }
}

/// How long a caller may keep us waiting, started afresh with every step it makes.
struct Patience {
    waiting: Waiting,
    until: Instant,
    /// Set to `until` or earlier: waits that begin and end with each request need not move it.
    over: Pin<Box<Sleep>>,
}

impl Patience {
    fn new() -> Self {
        let now = Instant::now();
        Self { waiting: Waiting::No, until: now, over: Box::pin(sleep_until(now)) }
    }

    fn poll_over(
        &mut self,
        cx: &mut Context<'_>,
        talk: &SharedTalk,
        settings: &Settings,
    ) -> Poll<Waiting> {
        let waiting = lock(talk).waiting();
        let patience = match waiting {
            Waiting::Request(_) => Some(settings.idle_timeout),
            Waiting::RestOfHead(_) => Some(settings.header_timeout),
            Waiting::Reader(_) => Some(settings.write_timeout),
            Waiting::No => None,
        };
        let changed = std::mem::replace(&mut self.waiting, waiting) != waiting;
        let Some(patience) = patience else { return Poll::Pending };
        if changed {
            self.until = Instant::now() + patience;
            if self.over.is_elapsed() || self.over.deadline() > self.until {
                self.over.as_mut().reset(self.until);
            }
        }
        loop {
            ready!(self.over.as_mut().poll(cx));
            if self.over.deadline() >= self.until {
                return Poll::Ready(waiting);
            }
            self.over.as_mut().reset(self.until);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);
    const HEAD: Duration = Duration::from_secs(5);

    fn settings() -> Settings {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Settings { idle_timeout: IDLE, header_timeout: HEAD, ..Settings::new(listen) }
    }

    /// After how long it is over, if nothing happens any more.
    async fn lasts(patience: &mut Patience, talk: &SharedTalk) -> Duration {
        let since = Instant::now();
        poll_fn(|cx| patience.poll_over(cx, talk, &settings())).await;
        since.elapsed()
    }

    /// Looks at what is waited for, as a connection does with every step.
    async fn look(patience: &mut Patience, talk: &SharedTalk) {
        let over = poll_fn(|cx| Poll::Ready(patience.poll_over(cx, talk, &settings()))).await;
        assert_eq!(over, Poll::Pending);
    }

    #[tokio::test(start_paused = true)]
    async fn every_wait_has_its_whole_time_and_no_more() {
        let (mut patience, talk) = (Patience::new(), Talk::shared());
        look(&mut patience, &talk).await;
        tokio::time::advance(IDLE - HEAD / 2).await;
        lock(&talk).scan.push(b"GET / HTTP/1.1\r\n\r\n");
        let after_a_request = lasts(&mut patience, &talk).await;

        let (mut patience, talk) = (Patience::new(), Talk::shared());
        look(&mut patience, &talk).await;
        lock(&talk).scan.push(b"GET");
        let within_a_head = lasts(&mut patience, &talk).await;

        assert!(after_a_request.abs_diff(IDLE) < Duration::from_millis(10), "{after_a_request:?}");
        assert!(within_a_head.abs_diff(HEAD) < Duration::from_millis(10), "{within_a_head:?}");
    }
}
