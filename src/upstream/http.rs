//! [`Upstream`] over HTTP/1.1: one request, one answer, and the truth about whether it was sent.
//!
//! Nothing is ever sent twice. Another connection is taken only while the wire says that no write
//! was tried on the last one, and that one has been closed before the wire is read.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, Version, header, request};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::answer::{Answer, Patience, broken_head};
use super::connect::Connector;
use super::framing::{self, EndByClosing};
use super::headers;
use super::pool::{Held, Pool, Source};
use super::settings::{
    Connections, Forwarding, PassTimeouts, Settings, SettingsInvalid, UpstreamUrl,
};
use super::{AnswerBody, AskError, Forwarded, PassError, StreamingBody, Upstream, Wire, lookup};
use crate::protocol::outcome::{NotSent, UnknownReason};
use crate::task::Tasks;

/// On how many connections a request may turn out to be too late for a write; the last one is new.
const CONNECTIONS_TRIED_MAX: usize = 3;

/// How many look-up questions may be under way at the same time.
const QUESTIONS_MAX: usize = 32;

/// A service reached by HTTP/1.1, plain or over TLS.
pub struct HttpUpstream {
    url: UpstreamUrl,
    forwarding: Forwarding,
    patience: PassTimeouts,
    connector: Arc<Connector>,
    // Kinds of traffic share no connection, and none can use up another's.
    guarded: Arc<Pool>,
    unguarded: Arc<Pool>,
    questions: Arc<Pool>,
}

/// Why there is no answer.
enum Failure {
    NotSent(NotSent),
    Broken(UnknownReason),
}

/// The head of a well-framed answer, and what its body needs.
type Headed = (Response<Incoming>, Held);

impl fmt::Debug for HttpUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpUpstream").field("url", &self.url).finish_non_exhaustive()
    }
}

impl HttpUpstream {
    /// Gets ready. Reads certificates, but opens no connection yet.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn new(settings: &Settings, tasks: &Tasks) -> Result<Self, SettingsInvalid> {
        settings.check_bounds()?;
        let connector = Arc::new(Connector::new(settings, tasks.clone())?);
        let pool = |connections, exchanges_max| {
            Pool::new(Arc::clone(&connector), tasks.clone(), connections, exchanges_max)
        };
        let unguarded = match settings.connections {
            Connections::Pooled { .. } => settings.connections,
            Connections::SingleUse { .. } => Connections::default(),
        };
        let exchanges_max = settings.connections_max.get();
        Ok(Self {
            url: settings.url.clone(),
            forwarding: settings.forwarding,
            patience: settings.pass,
            guarded: pool(settings.connections, exchanges_max),
            unguarded: pool(unguarded, exchanges_max),
            questions: pool(Connections::SingleUse { spares: 0 }, QUESTIONS_MAX),
            connector,
        })
    }

    /// Connects, shakes hands and hangs up, for a check of the configuration.
    ///
    /// # Errors
    /// Why that is not possible.
    pub async fn reach(&self) -> std::io::Result<()> {
        self.connector.stream().await.map(drop)
    }

    /// Makes a head fit for the upstream, unless it is none that could be forwarded.
    fn address(&self, parts: &mut request::Parts, length: Option<u64>) -> Result<(), Failure> {
        let target = self.url.target(&parts.uri).filter(|_| parts.method != Method::CONNECT);
        parts.uri = target.ok_or(Failure::NotSent(NotSent::NeverWritten))?;
        parts.version = Version::HTTP_11;
        parts.extensions = http::Extensions::new();
        headers::toward_upstream(&mut parts.headers, self.forwarding);
        framing::frame_request(&parts.method, &mut parts.headers, length);
        parts.headers.insert(header::HOST, self.url.authority().clone());
        Ok(())
    }

    /// Sends a request with a body that is in hand.
    fn send_whole(
        &self,
        pool: &Arc<Pool>,
        request: Request<Bytes>,
        wire: &Arc<Wire>,
    ) -> impl Future<Output = Result<Headed, Failure>> + Send {
        // Not in the block: it would hold the request as well as its parts.
        let (mut parts, body) = request.into_parts();
        async move {
            self.address(&mut parts, u64::try_from(body.len()).ok())?;
            let message = || Some(Request::from_parts(parts.clone(), whole(body.clone())));
            exchange(pool, wire, (&parts.method, EndByClosing::Refuse), message).await
        }
    }

    /// Sends a request whose body may be on its way. Once a connection has taken the body, there is
    /// no other to hand it to.
    fn send_streaming(
        &self,
        request: Request<StreamingBody>,
        wire: &Arc<Wire>,
    ) -> impl Future<Output = Result<Headed, Failure>> + Send {
        let (mut parts, body) = request.into_parts();
        async move {
            self.address(&mut parts, body.size_hint().exact())?;
            let is_empty = body.is_end_stream();
            let mut body = Some(body);
            let message = || {
                let body = body.take().or_else(|| is_empty.then(|| whole(Bytes::new())))?;
                Some(Request::from_parts(parts.clone(), body))
            };
            exchange(&self.unguarded, wire, (&parts.method, EndByClosing::Accept), message).await
        }
    }
}

/// Finds a connection, sends the message on it, and checks how the answer is framed. Ends when
/// `wire.until()` passes.
async fn exchange(
    pool: &Arc<Pool>,
    wire: &Arc<Wire>,
    framing: (&Method, EndByClosing),
    message: impl FnMut() -> Option<Request<StreamingBody>>,
) -> Result<Headed, Failure> {
    let ended = timeout_at(wire.until(), first_answer(pool, wire, message)).await;
    // What was under way has been dropped, so the wire says now what will always be true.
    let (answer, held) = match ended {
        Ok(ended) => ended?,
        Err(_) if wire.begun().is_none() => return Err(Failure::NotSent(NotSent::TooLate)),
        Err(_) => return Err(Failure::Broken(UnknownReason::TimedOut)),
    };
    let (method, end_by_closing) = framing;
    framing::check(method, answer.status(), answer.headers(), end_by_closing)
        .map_err(Failure::Broken)?;
    Ok((answer, held))
}

async fn first_answer(
    pool: &Arc<Pool>,
    wire: &Arc<Wire>,
    mut message: impl FnMut() -> Option<Request<StreamingBody>>,
) -> Result<Headed, Failure> {
    for tried in 1..=CONNECTIONS_TRIED_MAX {
        let from = if tried < CONNECTIONS_TRIED_MAX { Source::Any } else { Source::New };
        let held = pool.hold(wire, from).await;
        let held = held.map_err(|_| Failure::NotSent(NotSent::NotConnected))?;
        let Some(message) = message() else { break };
        match held.send(message).await {
            Ok(headed) => return Ok(headed),
            Err(error) if wire.begun().is_some() => {
                return Err(Failure::Broken(broken_head(&error)));
            }
            // Closed before the write: nothing was offered, so this is not sending again.
            Err(_) => {}
        }
    }
    let too_late = Instant::now() >= wire.until();
    Err(Failure::NotSent(if too_late { NotSent::TooLate } else { NotSent::NeverWritten }))
}

fn whole(body: Bytes) -> StreamingBody {
    Full::new(body).map_err(|never| match never {}).boxed()
}

/// The answer as it goes on, its body still coming in.
fn onward((answer, held): Headed, patience: Patience) -> Response<AnswerBody> {
    let (mut parts, incoming) = answer.into_parts();
    parts.version = Version::HTTP_11;
    parts.extensions = http::Extensions::new();
    headers::toward_caller(&mut parts.headers);
    framing::one_length(&mut parts.headers);
    Response::from_parts(parts, Answer::new(incoming, held, patience).boxed())
}

#[async_trait]
impl Upstream for HttpUpstream {
    async fn forward(&self, request: Request<Bytes>, wire: &Arc<Wire>) -> Forwarded {
        match self.send_whole(&self.guarded, request, wire).await {
            Ok(headed) => Forwarded::Answered(onward(headed, Patience::Until(wire.until()))),
            Err(Failure::NotSent(proof)) => Forwarded::NotSent(proof),
            Err(Failure::Broken(why)) => Forwarded::Broken(why),
        }
    }

    async fn pass(
        &self,
        request: Request<StreamingBody>,
    ) -> Result<Response<AnswerBody>, PassError> {
        let wire = Arc::new(Wire::new(Instant::now() + self.patience.head));
        match self.send_streaming(request, &wire).await {
            Ok(headed) => Ok(onward(headed, Patience::Between(self.patience.idle))),
            Err(Failure::NotSent(_)) => Err(PassError::NotSent),
            Err(Failure::Broken(UnknownReason::TimedOut)) => Err(PassError::TimedOut),
            Err(Failure::Broken(_)) => Err(PassError::Broken),
        }
    }

    async fn ask(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
        body_max: usize,
    ) -> Result<Response<Bytes>, AskError> {
        let wire = Arc::new(Wire::new(Instant::now() + timeout));
        let headed = self.send_whole(&self.questions, request, &wire).await;
        let headed = headed.map_err(|failure| AskError(failure.words().to_owned()))?;
        let (parts, body) = onward(headed, Patience::Until(wire.until())).into_parts();
        let body = bounded(body, body_max).await?;
        Ok(Response::from_parts(parts, body))
    }

    fn within(&self, location: &[u8]) -> Result<String, String> {
        lookup::location::within(&self.url, location)
    }
}

/// Reads a body to its end, if it is not too long.
async fn bounded(mut body: AnswerBody, max: usize) -> Result<Bytes, AskError> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|why| AskError(Failure::Broken(why).words().to_owned()))?;
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.len() > max {
            return Err(AskError(format!("the answer is longer than {max} bytes")));
        }
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}

impl Failure {
    const fn words(&self) -> &'static str {
        match self {
            Self::NotSent(NotSent::NotConnected) => "the provider could not be connected to",
            Self::NotSent(NotSent::NeverWritten) => "the question could not be sent",
            Self::NotSent(NotSent::TooLate) => "no connection within the look-up's timeout",
            Self::Broken(why) => match why {
                UnknownReason::TimedOut => "no whole answer within the look-up's timeout",
                UnknownReason::ConnectionLost => "the connection ended before an answer",
                UnknownReason::Truncated => "the answer ended early",
                UnknownReason::IllFramed => "the answer's end cannot be told",
                UnknownReason::UnexpectedUpgrade => "the provider switched protocols unasked",
                UnknownReason::Status(_) | UnknownReason::Aborted => "there is no answer",
            },
        }
    }
}
