//! Asking what became of an operation: which one is meant, and waiting for another state of it.
//!
//! Nothing here sends, claims or changes anything, and who asks is none of the operation's callers:
//! it is not noted whether the answer reaches it.

use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response};
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep_until};

use super::problem::{Problem, Retry, Slug};
use super::respond::{self, Body};
use super::route::{Route, Routed};
use super::{Proxy, follow, status};
use crate::ledger::{ReadError, Traced};
use crate::protocol::attempt::Held;
use crate::protocol::form;
use crate::protocol::id::{OperationId, RecordKey};
use crate::protocol::key::{IdempotencyKey, KeySource, RequestView, find_key, record_key};
use crate::protocol::record::State;

/// How long somebody may wait for another state; whoever wants to wait longer asks again.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// How long after a look at the store that brought nothing new the next one is made.
const LOOK_PAUSE: Duration = Duration::from_millis(60);

/// Which operation is meant.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    /// The one of this name.
    Operation(OperationId),
    /// The one that a request with this key is about.
    Key(RecordKey),
}

/// What is wrong with a question.
type Refused = Box<Problem>;

/// How long the asker wants to wait.
pub(super) fn wait(head: &Parts) -> Result<Duration, Refused> {
    let Some(text) = parameter(head, "wait")? else { return Ok(Duration::ZERO) };
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        return Err(malformed("`wait` is a number of seconds, like 30"));
    }
    Ok(text.parse().map_or(WAIT_MAX, Duration::from_secs).min(WAIT_MAX))
}

impl Proxy {
    /// Which operation a request with this key and these credentials is about.
    pub(super) fn asked_by_key(&self, head: &Parts) -> Result<Asked, Refused> {
        let method = parameter(head, "method")?.map_or(Ok(Method::POST), |text| text.parse());
        let method = method.map_err(|_| malformed("`method` is a method like POST"))?;
        let path = parameter(head, "path")?.filter(|path| is_path(path)).ok_or_else(|| {
            malformed("`path` is the operation's path as it was sent, like /v1/payments, no query")
        })?;
        let Routed::Guarded(route) = self.table.route(&method, &path) else {
            let mut problem = Problem::new(Slug::NotFound);
            problem.detail = "such requests are not guarded, and none is remembered".into();
            return Err(Box::new(problem));
        };
        let (headers, body) = (&head.headers, &Bytes::new());
        let view = RequestView { method: &method, path: &path, query: None, headers, body };
        let key = key(&route, head, &view)?;
        let scope = route.policy.scope.scope(&route.upstream, &view);
        Ok(Asked::Key(record_key(&self.ledger().secrets().index, &scope, &key)))
    }

    /// Tells the state of an operation: at once if it is over, else when it is another one or the
    /// wait is.
    pub(super) async fn tell_state(&self, asked: Asked, wait: Duration) -> Response<Body> {
        let until = Instant::now() + wait;
        let found = self.find(asked).await;
        let held = match &found {
            Ok(Some(held)) if !wait.is_zero() && !is_over(held) => held,
            Ok(_) | Err(_) => return told(found),
        };
        let Some(_place) = self.place(&held.record.route) else {
            return respond::refused(
                Slug::Overloaded,
                Some("too many wait for a state; ask without `wait`, or later".to_owned()),
            );
        };
        told(self.until_other(asked, held, until).await)
    }

    async fn find(&self, asked: Asked) -> Result<Option<Held>, ReadError> {
        match asked {
            Asked::Operation(id) => Ok(match self.ledger().trace(id).await? {
                Traced::There(held) => Some(held),
                Traced::Replaced | Traced::Absent => None,
            }),
            Asked::Key(key) => self.ledger().find(key).await,
        }
    }

    /// A place to wait at. A route that is configured no more, or on another port, lends the default
    /// one's.
    fn place(&self, route: &str) -> Option<SemaphorePermit<'_>> {
        let lane = self.lanes.get(route).or_else(|| self.lanes.get(&self.table.fallback().name));
        lane.and_then(|lane| lane.asker())
    }

    /// What is there once it is something else than it was, or at the end of the wait.
    async fn until_other(
        &self,
        asked: Asked,
        was: &Held,
        until: Instant,
    ) -> Result<Option<Held>, ReadError> {
        let flight = self.attempts.flights().join(was.operation());
        let (ledger, stopping) = (self.ledger(), self.tasks.stopping());
        let mut pause = Instant::now();
        loop {
            let news = async {
                sleep_until(pause).await;
                follow::until_other(&flight, ledger, was.record.state.name()).await;
            };
            let is_over = tokio::select! {
                biased;
                () = stopping.cancelled() => true,
                () = sleep_until(until) => true,
                () = news => false,
            };
            let found = self.find(asked).await;
            match &found {
                // Not on record yet, or not to be read now.
                Ok(Some(held)) if !is_over && is_same(held, was) => {}
                Err(_) if !is_over => {}
                Ok(_) | Err(_) => return found,
            }
            pause = Instant::now() + LOOK_PAUSE;
        }
    }
}

const fn is_over(held: &Held) -> bool {
    match held.record.state {
        State::Settled(_) | State::Released { .. } => true,
        State::InFlight | State::Accepted { .. } | State::InDoubt { .. } => false,
    }
}

fn is_same(held: &Held, was: &Held) -> bool {
    held.operation() == was.operation() && held.record.state.name() == was.record.state.name()
}

fn told(found: Result<Option<Held>, ReadError>) -> Response<Body> {
    match found {
        Ok(Some(held)) => status::as_json(&status::describe(&held)),
        Ok(None) => respond::refused(Slug::NotFound, None),
        Err(error) => {
            tracing::warn!(%error, "could not read an operation that was asked for");
            let detail = "the state cannot be read now; ask again".to_owned();
            respond::refused(Slug::StoreUnavailable, Some(detail))
        }
    }
}

/// The key, where the route has it: in a header, or, where requests have it in their body or query,
/// as `key`. Of several places the first that has one counts, as it does for requests.
fn key(route: &Route, head: &Parts, view: &RequestView<'_>) -> Result<IdempotencyKey, Refused> {
    let given = parameter(head, "key")?;
    for source in &route.policy.sources {
        let found = match source {
            KeySource::Header(_) => {
                let found = find_key(std::slice::from_ref(source), view);
                found.map(|found| found.map(|(key, _)| key))
            }
            KeySource::Json(_) | KeySource::Form(_) | KeySource::Query(_) => {
                given.as_ref().map(|key| IdempotencyKey::parse(key.as_bytes())).transpose()
            }
        };
        match found {
            Ok(Some(key)) => return Ok(key),
            Ok(None) => {}
            Err(invalid) => {
                let mut problem = Problem::new(Slug::KeyInvalid);
                problem.detail = format!("the idempotency key is not usable: {invalid}").into();
                problem.retry = Retry::No;
                return Err(Box::new(problem));
            }
        }
    }
    let mut problem = Problem::new(Slug::KeyMissing);
    problem.detail = "whoever asks by key gives it in the same header as its request, or, where that \
                      had it in its body or query, as `key`; an operation without a key is asked for \
                      by its id"
        .into();
    problem.retry = Retry::No;
    Err(Box::new(problem))
}

/// The one value of a query parameter.
fn parameter(head: &Parts, name: &str) -> Result<Option<String>, Refused> {
    let mut values =
        form::values(head.uri.query().unwrap_or_default().as_bytes(), name).into_iter();
    let (first, second) = (values.next(), values.next());
    match (first.map(String::from_utf8).transpose(), second) {
        (Ok(value), None) => Ok(value),
        (Ok(_), Some(_)) => Err(malformed(&format!("`{name}` is given more than once"))),
        (Err(_), _) => Err(malformed(&format!("`{name}` is not UTF-8"))),
    }
}

/// Whether a text could have been a request's path.
fn is_path(text: &str) -> bool {
    let parsed = text.parse::<http::uri::PathAndQuery>();
    text.starts_with('/') && parsed.is_ok_and(|parsed| parsed.path() == text)
}

fn malformed(detail: &str) -> Refused {
    let mut problem = Problem::new(Slug::MalformedRequest);
    problem.title = "not a question that can be answered";
    problem.detail = detail.to_owned().into();
    Box::new(problem)
}
