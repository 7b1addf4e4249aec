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
    /// Made by the first wait: most answers are here with their head.
    timer: Option<Pin<Box<Sleep>>>,
    /// The wait for the next piece has begun.
    waiting: bool,
}

impl Answer {
    pub(super) fn new(incoming: Incoming, held: Held, patience: Patience) -> Self {
        let mut answer = Self { incoming, held: Some(held), patience, timer: None, waiting: false };
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

    /// Whether the time is up, now that there is nothing to read.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now())));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(match self.patience {
                Patience::Until(then) => then,
                Patience::Between(gap) => Instant::now() + gap,
            });
        }
        timer.as_mut().poll(cx)
    }

    fn fail(&mut self, why: UnknownReason) -> Poll<Option<Result<Frame<Bytes>, UnknownReason>>> {
        drop(self.held.take());
        Poll::Ready(Some(Err(why)))
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
        // Also while there is always something to read: a trickle must not outlast its time.
        if let Patience::Until(then) = self.patience
            && Instant::now() >= then
        {
            return self.fail(UnknownReason::TimedOut);
        }
        let Poll::Ready(next) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            ready!(self.poll_time(cx));
            return self.fail(UnknownReason::TimedOut);
        };
        self.waiting = false;
        match next {
            Some(Ok(frame)) if frame.is_data() => {
                self.release_at_end();
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
