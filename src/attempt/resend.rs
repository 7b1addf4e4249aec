//! Sending the same request again under the same key, to hear from a provider that knows the key
//! what it answered. The route must have asked for it: a provider that has forgotten the key, or never
//! looked at it, makes a second payment.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::{readable, reply};
use crate::protocol::outcome::{Answered, Meaning, OutcomeTable};
use crate::protocol::record::{Looked, Reply};
use crate::upstream::{Forwarded, Upstream, Wire};

/// How providers, and semel, mark an answer that they gave before.
const REPLAYED: &str = "idempotent-replayed";

/// How a route's requests are sent again.
#[derive(Debug, Clone)]
pub struct Resend {
    /// Where to.
    pub upstream: Arc<dyn Upstream>,
    /// Its name, for metrics.
    pub upstream_name: String,
    /// How long after the key's first claim at the latest.
    pub within: Duration,
    /// Statuses beside 2xx that are the operation's own outcome.
    pub conclusive: Vec<u16>,
    /// What answers mean.
    pub outcomes: OutcomeTable,
    /// How long the call may last.
    pub timeout: Duration,
    /// Largest answer to keep, in bytes.
    pub response_max: usize,
}

/// What was heard.
#[derive(Debug)]
pub enum Heard {
    /// The operation's outcome.
    Final(Reply),
    /// The provider is working on it.
    Accepted(Reply),
    /// Nothing that says anything of the operation.
    Nothing(Looked),
}

impl Heard {
    /// In a word, for timeline and metrics.
    pub const fn looked(&self) -> Looked {
        match self {
            Self::Final(_) => Looked::Final,
            Self::Accepted(_) => Looked::Accepted,
            Self::Nothing(looked) => *looked,
        }
    }
}

impl Resend {
    /// Sends it; `until` is when its first byte may go out, and its answer may come, at the latest.
    /// When this returns, the connection is closed or was never used, and nothing more is sent.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection; the request may have been sent.
    pub async fn send(&self, mut request: Request<Bytes>, until: Instant) -> Heard {
        if self.outcomes.reads_bodies() {
            readable(&mut request);
        }
        let wire = Arc::new(Wire::new(until));
        let heard = match self.upstream.forward(request, &wire).await {
            Forwarded::NotSent(_) | Forwarded::Broken(_) => Heard::Nothing(Looked::Failed),
            Forwarded::Answered(answer) => {
                let (head, mut body) = answer.into_parts();
                let mut kept = BytesMut::new();
                loop {
                    match body.frame().await {
                        None => break self.read(reply(&head, kept.freeze())),
                        Some(Err(_)) => break Heard::Nothing(Looked::Failed),
                        Some(Ok(frame)) => kept.extend(frame.into_data()),
                    }
                    if kept.len() > self.response_max {
                        break Heard::Nothing(Looked::Unclear);
                    }
                }
            }
        };
        wire.abandon();
        heard
    }

    /// What an answer to a request that was sent again says of the first one. A refusal is about the
    /// second: too many requests, still in progress, a key that means something else by now.
    fn read(&self, mut reply: Reply) -> Heard {
        // So the provider says of the second request. Whoever sent the first hears it for the first
        // time, and semel says itself what it replays.
        reply.headers.retain(|(name, _)| name != REPLAYED);
        let is_own = (200..=299).contains(&reply.status) || self.conclusive.contains(&reply.status);
        match self.outcomes.meaning(&Answered::of(&reply)) {
            Meaning::Final if is_own => Heard::Final(reply),
            Meaning::Accepted => Heard::Accepted(reply),
            Meaning::Final | Meaning::NotApplied | Meaning::Unknown => {
                Heard::Nothing(Looked::Unclear)
            }
        }
    }
}
