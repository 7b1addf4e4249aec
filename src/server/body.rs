//! A request's body as it comes in, with time limits: hyper has none of its own.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

/// A request's body. It ends, fails, or runs into one of its two time limits; trailers are dropped.
#[derive(Debug)]
pub struct Body {
    source: Source,
    /// The longest silence between two parts.
    silence: Duration,
    until: Instant,
    /// Made by the first wait: most bodies are here with their head.
    silent_until: Option<Pin<Box<Sleep>>>,
    /// The wait for the next part has begun.
    waiting: bool,
}

/// Where a body comes from.
#[derive(Debug)]
enum Source {
    /// A connection.
    Connection(Incoming),
    /// Memory.
    Memory(Full<Bytes>),
}

impl Source {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self {
            Self::Connection(incoming) => Pin::new(incoming).poll_frame(cx),
            Self::Memory(full) => Pin::new(full).poll_frame(cx).map_err(|never| match never {}),
        }
    }
}

/// Why a body did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The caller was too slow.
    #[error("the request's body did not come in time")]
    TooSlow,
    /// The connection broke, or the framing was wrong.
    #[error("the request's body broke off")]
    Broken(#[source] hyper::Error),
}

impl Body {
    pub(super) fn new(incoming: Incoming, silence: Duration, until: Instant) -> Self {
        let source = Source::Connection(incoming);
        Self { source, silence, until, silent_until: None, waiting: false }
    }

    /// A body that is here already, for requests that come without a connection (a simulation's).
    pub fn whole(bytes: Bytes) -> Self {
        let until = Instant::now();
        let source = Source::Memory(Full::new(bytes));
        Self { source, silence: Duration::ZERO, until, silent_until: None, waiting: false }
    }

    /// Whether the time is up, now that there is nothing to read.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = self.until;
        let timer =
            self.silent_until.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(until.min(Instant::now() + self.silence));
        }
        timer.as_mut().poll(cx)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let Poll::Ready(next) = self.source.poll_frame(cx) else {
                ready!(self.poll_time(cx));
                return Poll::Ready(Some(Err(BodyError::TooSlow)));
            };
            self.waiting = false;
            return Poll::Ready(match next {
                // A trailer must not become a header of anything.
                Some(Ok(frame)) if frame.is_trailers() => continue,
                Some(Ok(frame)) => Some(Ok(frame)),
                Some(Err(error)) => Some(Err(BodyError::Broken(error))),
                None => None,
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Connection(incoming) => incoming.is_end_stream(),
            Source::Memory(full) => full.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Connection(incoming) => incoming.size_hint(),
            Source::Memory(full) => full.size_hint(),
        }
    }
}
