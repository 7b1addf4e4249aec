//! The service behind us: connections, "was a byte sent?", strict framing, look-ups.
//!
//! [`Upstream`] is the door through which the world comes in, so that a simulation can stand in.

use std::fmt::Debug;
use std::sync::OnceLock;
use std::time::Duration;

use ::http::{Request, Response};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use tokio::time::Instant;

use crate::protocol::outcome::{NotSent, UnknownReason};

mod answer;
mod connect;
mod framing;
pub mod headers;
mod http;
mod line;
pub mod lookup;
mod pool;
pub mod settings;

pub use self::http::HttpUpstream;

/// A request body that may still be streaming in; its errors end the request.
pub type StreamingBody = BoxBody<Bytes, BodyError>;

/// An answer's body. It fails rather than end early.
pub type AnswerBody = BoxBody<Bytes, UnknownReason>;

/// Why a streamed body ended before its end.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// What an owner and its connection share: may a first byte still go out, and has one?
///
/// The connection asks [`Wire::begin`] before it tries the first write of the request above TLS.
#[derive(Debug)]
pub struct Wire {
    until: Instant,
    /// When the first write was tried; `None` inside: it was given up before there was one.
    begun: OnceLock<Option<Instant>>,
}

/// Nothing may be sent any more: the upstream timeout has passed, or the owner gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLate;

impl Wire {
    /// No first byte after `until`, no answer either.
    pub const fn new(until: Instant) -> Self {
        Self { until, begun: OnceLock::new() }
    }

    /// Marks the request as begun; to be called before every write that is tried.
    ///
    /// # Errors
    /// [`TooLate`] if nothing was sent yet and nothing may be sent any more.
    pub fn begin(&self) -> Result<(), TooLate> {
        let now = Instant::now();
        let begun = self.begun.get_or_init(|| (now < self.until).then_some(now));
        begun.map(|_| ()).ok_or(TooLate)
    }

    /// When the first write was tried, if one was.
    pub fn begun(&self) -> Option<Instant> {
        self.begun.get().copied().flatten()
    }

    /// Lets no first byte out from now on. Says when one went out before.
    ///
    /// `None` is proof that nothing was and will be sent, whatever a connection still holds.
    pub fn abandon(&self) -> Option<Instant> {
        *self.begun.get_or_init(|| None)
    }

    /// When the attempt's upstream timeout passes.
    pub const fn until(&self) -> Instant {
        self.until
    }
}

/// How a forwarded request went, as far as the head of its answer.
#[derive(Debug)]
pub enum Forwarded {
    /// A well-framed head; the body follows.
    Answered(Response<AnswerBody>),
    /// Proof that nothing was sent.
    NotSent(NotSent),
    /// Something went wrong after the first byte was offered.
    Broken(UnknownReason),
}

/// How a request that nobody guards went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PassError {
    /// The upstream was certainly not reached.
    #[error("the upstream could not be reached; nothing was sent")]
    NotSent,
    /// It was reached, and no answer came.
    #[error("the upstream ended the connection before it answered")]
    Broken,
    /// It took too long.
    #[error("the upstream did not answer in time")]
    TimedOut,
}

/// A question to a provider that went without an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AskError(pub String);

/// The service behind us.
#[async_trait]
pub trait Upstream: Debug + Send + Sync + 'static {
    /// Sends a guarded request, once. Its headers are end-to-end already; `Host` and framing are
    /// the upstream's business. Ends by itself when `wire.until()` has passed, having closed the
    /// connection if it was used.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection; whether a byte went out is on the wire.
    async fn forward(&self, request: Request<Bytes>, wire: &std::sync::Arc<Wire>) -> Forwarded;

    /// Streams an unguarded request through, both ways.
    async fn pass(
        &self,
        request: Request<StreamingBody>,
    ) -> Result<Response<AnswerBody>, PassError>;

    /// Asks a look-up question on a connection of its own, and reads the whole answer.
    ///
    /// # Errors
    /// [`AskError`] if there is no whole, well-framed answer within `timeout` and `body_max` bytes.
    async fn ask(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
        body_max: usize,
    ) -> Result<Response<Bytes>, AskError>;

    /// The path and query, as [`ask`](Self::ask) takes them, of a `Location` that this upstream
    /// gave, if that is a place of its own.
    ///
    /// # Errors
    /// Why it is not followed.
    fn within(&self, location: &[u8]) -> Result<String, String>;
}
