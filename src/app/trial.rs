//! Performs a route's look-up once, for somebody who wants to see whether it is right. Nothing is
//! read from a store or written into one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, Request, Response};

use super::{StartError, wall_clock};
use crate::attempt::{Exchange, Inquiry, WallClock};
use crate::config::Config;
use crate::protocol::outcome::Finding;
use crate::proxy::route::Route;
use crate::task::Tasks;
use crate::upstream::lookup::{Inputs, LookUp, Subject};
use crate::upstream::{
    AnswerBody, AskError, Forwarded, HttpUpstream, PassError, StreamingBody, Upstream, Wire,
};

/// What a look-up is tried with.
#[derive(Clone)]
pub struct Trial {
    /// The values that it needs, by name.
    pub inputs: Inputs,
    /// How long ago the operation was claimed.
    pub claimed: Duration,
}

/// What a trial showed.
#[derive(Debug)]
pub struct Tried {
    /// Each question, with what came of it.
    pub exchanges: Vec<(Exchange, Seen)>,
    /// What the whole of it came to.
    pub finding: Finding,
}

/// What went over the wire for one question. Shows no bodies.
#[derive(Clone, Default)]
pub struct Seen {
    /// The names of the question's headers.
    pub headers: Vec<HeaderName>,
    /// The question's body.
    pub sent: Bytes,
    /// The date of the answer, as the provider wrote it.
    pub date: Option<String>,
    /// The answer's body.
    pub body: Bytes,
}

/// Why a look-up cannot be tried.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// No such route.
    #[error("there is no route {0:?}; there are: {1}")]
    NoRoute(String, String),
    /// Nothing to try.
    #[error("route {0:?} has no look-up")]
    NoLookUp(String),
    /// Values are missing, or are not of this look-up.
    #[error("{0}")]
    Values(String),
    /// The upstream cannot be used.
    #[error(transparent)]
    Upstream(#[from] StartError),
}

impl std::fmt::Debug for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.inputs.keys();
        f.debug_struct("Trial").field("inputs", &names).field("claimed", &self.claimed).finish()
    }
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seen").field("headers", &self.headers).finish_non_exhaustive()
    }
}

/// Finds a route and its look-up.
///
/// # Errors
/// [`TrialError`], which names the routes that there are.
pub fn look_up_of<'c>(
    config: &'c Config,
    name: &str,
) -> Result<(&'c Arc<Route>, &'c Arc<LookUp>), TrialError> {
    let names = || config.routes.routes().map(|route| &*route.name).collect::<Vec<_>>().join(", ");
    let route = config.routes.named(name);
    let route = route.ok_or_else(|| TrialError::NoRoute(name.to_owned(), names()))?;
    let lookup = route.policy.lookup.as_ref();
    Ok((route, lookup.ok_or_else(|| TrialError::NoLookUp(name.to_owned()))?))
}

/// Asks the provider, by the config's address and credentials. Changes nothing.
///
/// # Errors
/// [`TrialError`], if the upstream's settings cannot be used.
pub async fn try_out(
    config: &Config,
    route: &Route,
    lookup: &Arc<LookUp>,
    trial: Trial,
) -> Result<Tried, TrialError> {
    let tasks = Tasks::default();
    let upstream = config.upstream(&route.upstream);
    let upstream = upstream
        .ok_or_else(|| TrialError::Values(format!("there is no upstream {:?}", route.upstream)))?;
    let http = HttpUpstream::new(&upstream.settings, &tasks)
        .map_err(|error| StartError::Upstream(upstream.name.clone(), error))?;
    Ok(ask(Arc::new(http), &upstream.name, lookup, trial).await)
}

/// Asks an upstream.
pub(super) async fn ask(
    upstream: Arc<dyn Upstream>,
    name: &str,
    lookup: &Arc<LookUp>,
    trial: Trial,
) -> Tried {
    let overheard = Arc::new(Overheard { upstream, seen: Mutex::default() });
    let inquiry = Inquiry {
        lookup: Arc::clone(lookup),
        upstream: Arc::clone(&overheard) as Arc<dyn Upstream>,
        upstream_name: name.to_owned(),
        wall: wall_clock as WallClock,
    };
    let subject = Subject::new(trial.inputs, trial.claimed, wall_clock());
    let (exchanges, finding) = inquiry.try_out(&subject).await;
    let mut seen = overheard.seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.resize_with(exchanges.len(), Seen::default);
    Tried { exchanges: exchanges.into_iter().zip(seen.drain(..)).collect(), finding }
}

/// An upstream that keeps what it was asked and what it answered.
#[derive(Debug)]
struct Overheard {
    upstream: Arc<dyn Upstream>,
    seen: Mutex<Vec<Seen>>,
}

#[async_trait]
impl Upstream for Overheard {
    async fn forward(&self, request: Request<Bytes>, wire: &Arc<Wire>) -> Forwarded {
        self.upstream.forward(request, wire).await
    }

    async fn pass(
        &self,
        request: Request<StreamingBody>,
    ) -> Result<Response<AnswerBody>, PassError> {
        self.upstream.pass(request).await
    }

    async fn ask(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
        body_max: usize,
    ) -> Result<Response<Bytes>, AskError> {
        let headers = request.headers().keys().cloned().collect();
        let sent = request.body().clone();
        let answer = self.upstream.ask(request, timeout, body_max).await;
        let (date, body) = match &answer {
            Ok(answer) => {
                let date = answer.headers().get(http::header::DATE);
                let date = date.and_then(|date| date.to_str().ok()).map(str::to_owned);
                (date, answer.body().clone())
            }
            Err(_) => (None, Bytes::new()),
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(Seen { headers, sent, date, body });
        answer
    }

    fn within(&self, location: &[u8]) -> Result<String, String> {
        self.upstream.within(location)
    }
}
