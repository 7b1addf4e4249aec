//! An answer's body on its way: it ends in time, fails rather than end early, has no trailers, and
//! decides whether its connection can be used again.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::pool::Held;
use crate::protocol::outcome::UnknownReason;

/// How long a body may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// To its end, until then.
    Until(Instant),
    /// From one piece to the next.
    Between(Duration),
}

/// A body that is still coming in. Dropped before its end, it closes the connection.
pub(super) struct Answer {
    incoming: Incoming,
    /// Gone when the body has ended, well or badly.
    held: Option<Held>,
    patience: Patience,
    timer: Pin<Box<Sleep>>,
}

impl Answer {
    pub(super) fn new(incoming: Incoming, held: Held, patience: Patience) -> Self {
        let timer = Box::pin(sleep_until(patience.until()));
        let mut answer = Self { incoming, held: Some(held), patience, timer };
        answer.release_at_end();
        answer
    }

    /// After the last byte the connection is free, even if nobody asks for what comes after it.
    fn release_at_end(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(held) = self.held.take()
        {
            held.release();
        }
    }

    fn fail(&mut self, why: UnknownReason) -> Poll<Option<Result<Frame<Bytes>, UnknownReason>>> {
        drop(self.held.take());
        Poll::Ready(Some(Err(why)))
    }
}

impl Patience {
    fn until(self) -> Instant {
        match self {
            Self::Until(then) => then,
            Self::Between(gap) => Instant::now() + gap,
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = UnknownReason;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UnknownReason>>> {
        if self.held.is_none() {
            return Poll::Ready(None);
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            return self.fail(UnknownReason::TimedOut);
        }
        match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            Some(Ok(frame)) if frame.is_data() => {
                self.release_at_end();
                if let Patience::Between(_) = self.patience {
                    let until = self.patience.until();
                    self.timer.as_mut().reset(until);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            // Trailers end a body and say nothing that we pass on.
            Some(Ok(_)) | None => {
                if let Some(held) = self.held.take() {
                    held.release();
                }
                Poll::Ready(None)
            }
            Some(Err(error)) => self.fail(broken_body(&error)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// What an error before the head of an answer means.
pub(super) fn broken_head(error: &hyper::Error) -> UnknownReason {
    if error.is_parse() { UnknownReason::IllFramed } else { UnknownReason::ConnectionLost }
}

/// What an error in the body of an answer means.
fn broken_body(error: &hyper::Error) -> UnknownReason {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    match source.map(io::Error::kind) {
        Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => UnknownReason::IllFramed,
        Some(_) | None => UnknownReason::Truncated,
    }
}
