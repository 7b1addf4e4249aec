//! The only place where outcomes become HTTP.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue, LOCATION};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};

use super::prefer::Arrival;
use super::problem::{Problem, Retry, Sent, Slug};
use super::shape::Shape;
use crate::attempt::{Chunk, Streamed};
use crate::ledger::{Accepted, InDoubt, Recollection, Released, Settled, View};
use crate::protocol::id::OperationId;
use crate::protocol::outcome::Meaning;
use crate::protocol::record::{Release, Reply, SettledBy};
use crate::upstream::headers;

/// Any answer's body.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Why an answer's body broke off.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Where callers ask for the state of an operation.
pub const OPERATIONS: &str = "/.well-known/semel/operations/";

const SEMEL_ANSWER: HeaderName = HeaderName::from_static("semel-answer");
const SEMEL_OPERATION: HeaderName = HeaderName::from_static("semel-operation");
const APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// After how long asking again about an unknown outcome makes sense.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// After how long asking again makes sense when nothing was sent.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// How the caller stands to the operation it is told about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its request was the one that was sent.
    Owner,
    /// It waited while another one's was.
    Follower,
    /// It came when the outcome was known.
    Late,
}

/// What `Semel-Answer` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The upstream's answer to this very request.
    Fresh,
    /// From the record.
    Replayed,
    /// The answer that this duplicate waited for.
    Followed,
    /// Found out by asking the provider.
    LookedUp,
    /// The provider is working on it.
    Accepted,
    /// Certainly not applied; the key is free.
    Released,
    /// The upstream's answer, not yet on record.
    Unrecorded,
    /// Nobody knows.
    Unknown,
    /// Sent without a guard.
    Unguarded,
    /// Not sent.
    Refused,
}

impl Answer {
    /// As the header spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Replayed => "replayed",
            Self::Followed => "followed",
            Self::LookedUp => "looked-up",
            Self::Accepted => "accepted",
            Self::Released => "released",
            Self::Unrecorded => "unrecorded",
            Self::Unknown => "unknown",
            Self::Unguarded => "unguarded",
            Self::Refused => "refused",
        }
    }

    const fn of(settled: &Settled, role: Role) -> Self {
        match (settled.recorded(), settled.by(), role) {
            (false, _, _) => Self::Unrecorded,
            (true, SettledBy::Answer, Role::Owner) => Self::Fresh,
            (true, SettledBy::LookUp, Role::Owner | Role::Follower) => Self::LookedUp,
            (true, SettledBy::Answer | SettledBy::Operator, Role::Follower) => Self::Followed,
            (true, SettledBy::Operator, Role::Owner) | (true, _, Role::Late) => Self::Replayed,
        }
    }
}

/// Tells what is known of an operation.
pub fn tell(view: &View, unproven: Option<&Arc<Reply>>, role: Role) -> Response<Body> {
    match view {
        View::Settled(settled) => tell_settled(settled, role),
        View::Released(released) => tell_released(released, role),
        View::Accepted(accepted) => tell_accepted(accepted, role),
        View::InDoubt(doubt) => match unproven {
            Some(reply) => from_reply(reply, doubt.operation(), Answer::Unknown, role),
            None => tell_doubt(doubt),
        },
        View::InFlight(flying) => not_known_yet(flying.operation(), "in-flight"),
    }
}

fn tell_settled(settled: &Settled, role: Role) -> Response<Body> {
    let operation = settled.operation();
    let Some(reply) = settled.reply() else {
        let mut problem = Problem::new(Slug::ReplyNotKept);
        problem.operation = Some(operation.to_string());
        problem.state = Some("settled");
        problem.upstream_status = Some(settled.status());
        problem.detail = format!(
            "the operation was settled with status {} {} s ago; its answer was too large to keep \
             or is no longer kept",
            settled.status(),
            settled.since().as_secs()
        )
        .into();
        let mut response = from_problem(&problem);
        response.extensions_mut().insert(Over);
        return response;
    };
    from_reply(reply, operation, Answer::of(settled, role), role)
}

/// Tells what is recalled, as whoever came late was told it before.
pub fn tell_again(recollection: &Recollection) -> Response<Body> {
    let Recollection { settled, headers } = recollection;
    let tell = || tell_settled(settled, Role::Late);
    let Some(reply) = settled.reply() else { return tell() };
    let mut response = Response::new(full(reply.body.clone()));
    *response.status_mut() = status_of(reply);
    *response.headers_mut() = headers.get_or_init(|| tell().into_parts().0.headers).clone();
    response
}

fn tell_released(released: &Released, role: Role) -> Response<Body> {
    if let Some(reply) = released.reply() {
        return from_reply(reply, released.operation(), Answer::Released, role);
    }
    let mut problem = Problem::new(match released.why() {
        Release::NotSent | Release::NotApplied => Slug::UpstreamUnreachable,
        Release::TakenBack | Release::Operator | Release::Absent => Slug::OperationInFlight,
    });
    match released.why() {
        Release::TakenBack => {
            problem.detail = Cow::Borrowed(
                "the earlier request with this key was not applied, and the key is free; ask again \
                 with the same key",
            );
            problem.sent = Sent::No;
        }
        Release::Operator => {
            problem.detail = Cow::Borrowed(
                "the earlier request with this key was given up, and the key is free; ask again \
                 with the same key",
            );
            problem.sent = Sent::Unknown;
        }
        Release::Absent => {
            problem.detail = Cow::Borrowed(
                "the payment API does not know the earlier request with this key, and the key is \
                 free; ask again with the same key",
            );
            problem.sent = Sent::Unknown;
        }
        Release::NotSent | Release::NotApplied => {}
    }
    problem.operation = Some(released.operation().to_string());
    problem.state = Some("released");
    problem.retry_after = Some(TRY_AGAIN);
    from_problem(&problem)
}

fn tell_accepted(accepted: &Accepted, role: Role) -> Response<Body> {
    match accepted.reply() {
        Some(reply) => from_reply(reply, accepted.operation(), Answer::Accepted, role),
        // A look-up said so; there is no answer of the upstream's to hand on.
        None => not_known_yet(accepted.operation(), "accepted"),
    }
}

fn tell_doubt(doubt: &InDoubt) -> Response<Body> {
    let mut problem = unknown(doubt.operation(), "in-doubt");
    problem.upstream_status = doubt.unproven_status();
    not_known(problem, doubt.operation())
}

/// The wait ended, and nothing is known.
pub fn not_known_yet(operation: OperationId, state: &'static str) -> Response<Body> {
    not_known(unknown(operation, state), operation)
}

fn not_known(problem: Problem, operation: OperationId) -> Response<Body> {
    let mut response = with_location(from_problem(&problem), operation);
    response.extensions_mut().insert(NotKnown(problem, operation));
    response
}

fn unknown(operation: OperationId, state: &'static str) -> Problem {
    let mut problem = Problem::new(Slug::OutcomeUnknown);
    problem.operation = Some(operation.to_string());
    problem.state = Some(state);
    problem.retry_after = Some(ASK_AGAIN);
    problem
}

/// The operation is under way, and the route's duplicates do not wait.
pub fn in_flight(operation: OperationId) -> Response<Body> {
    let mut problem = Problem::new(Slug::OperationInFlight);
    problem.operation = Some(operation.to_string());
    problem.state = Some("in-flight");
    problem.retry_after = Some(TRY_AGAIN);
    with_location(from_problem(&problem), operation)
}

/// The key stands for another request.
pub fn mismatch(operation: OperationId) -> Response<Body> {
    let mut problem = Problem::new(Slug::KeyReused);
    problem.operation = Some(operation.to_string());
    from_problem(&problem)
}

/// The business key is bound to another request.
pub fn bound(operation: OperationId) -> Response<Body> {
    let mut problem = Problem::new(Slug::BusinessKeyReused);
    problem.operation = Some(operation.to_string());
    from_problem(&problem)
}

/// Nothing was sent, for this reason.
pub fn refused(slug: Slug, detail: Option<String>) -> Response<Body> {
    let mut problem = Problem::new(slug);
    if let Some(detail) = detail {
        problem.detail = detail.into();
    }
    problem.retry_after = match problem.retry {
        Retry::SameKey => Some(TRY_AGAIN),
        Retry::NewKey | Retry::No => None,
    };
    from_problem(&problem)
}

/// The upstream's answer in place of which there is a failure, to a request that nobody guards.
pub fn unguarded_failure(error: crate::upstream::PassError) -> Response<Body> {
    use crate::upstream::PassError;
    match error {
        PassError::NotSent => refused(Slug::UpstreamUnreachable, None),
        PassError::Broken | PassError::TimedOut => {
            let mut problem = Problem::new(Slug::OutcomeUnknown);
            problem.detail = format!("{error}; semel does not guard this request").into();
            problem.retry = Retry::No;
            from_problem(&problem)
        }
    }
}

/// An answer that is too large to keep, while it comes in.
pub fn streamed(streamed: Streamed, operation: OperationId) -> Response<Body> {
    let Streamed { head, meaning, body } = streamed;
    let frames = futures_util::stream::unfold(body, |mut body| async move {
        let frame: Result<_, BodyError> = match body.recv().await {
            Some(Chunk::Data(data)) => Ok(http_body::Frame::data(data)),
            Some(Chunk::End) => return None,
            Some(Chunk::Broken(why)) => {
                Err(format!("the upstream's answer broke off: {why:?}").into())
            }
            None => Err("the upstream's answer was not handed on to its end".into()),
        };
        Some((frame, body))
    });
    let body = StreamBody::new(Box::pin(frames)).boxed_unsync();
    let answer = match meaning {
        Meaning::Final => Answer::Unrecorded,
        // Too large to be believed for what it says, so nothing is known.
        Meaning::NotApplied | Meaning::Accepted | Meaning::Unknown => Answer::Unknown,
    };
    mark(Response::from_parts(head, body), operation, answer)
}

/// A stored or collected answer, byte for byte.
fn from_reply(reply: &Reply, operation: OperationId, answer: Answer, role: Role) -> Response<Body> {
    let mut response = Response::new(full(reply.body.clone()));
    *response.status_mut() = status_of(reply);
    for (name, value) in &reply.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) else { continue };
        if name != CONTENT_LENGTH {
            response.headers_mut().append(name, value);
        }
    }
    if role != Role::Owner {
        // What was meant for the first caller's session is not another one's.
        headers::for_record(response.headers_mut());
    }
    if matches!(answer, Answer::Replayed | Answer::Followed) {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    mark(response, operation, answer)
}

fn status_of(reply: &Reply) -> StatusCode {
    StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// An answer of semel's own.
pub fn from_problem(problem: &Problem) -> Response<Body> {
    let mut response = problem.response().map(full);
    response.extensions_mut().insert(Own(problem.clone()));
    response
}

/// Marks an answer of semel's own, and says what it tells.
#[derive(Debug, Clone)]
struct Own(Problem);

/// Gives an answer of semel's own the route's shape; any other one stays as it is.
pub fn in_shape(shape: &Shape, mut response: Response<Body>) -> Response<Body> {
    match response.extensions_mut().remove() {
        Some(Own(problem)) if !shape.is_plain() => shape.give(&problem, response, full),
        Some(Own(_)) | None => response,
    }
}

/// A whole body.
pub fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn mark(mut response: Response<Body>, operation: OperationId, answer: Answer) -> Response<Body> {
    if let Ok(value) = HeaderValue::from_str(&operation.to_string()) {
        response.headers_mut().insert(SEMEL_OPERATION, value);
    }
    mark_answer(&mut response, answer);
    response
}

/// Says what kind of answer it is.
pub fn mark_answer(response: &mut Response<Body>, answer: Answer) {
    response.headers_mut().insert(SEMEL_ANSWER, HeaderValue::from_static(answer.as_str()));
}

/// Gives a caller that would rather not wait, or not for long, what it asked for.
pub fn as_preferred(arrival: &Arrival, mut response: Response<Body>) -> Response<Body> {
    let Some(NotKnown(mut problem, operation)) = response.extensions_mut().remove() else {
        return response;
    };
    let mut response = if arrival.wishes.respond_async {
        problem.status = StatusCode::ACCEPTED;
        with_location(from_problem(&problem), operation)
    } else {
        response
    };
    let applied = arrival.applied().join(", ");
    if !applied.is_empty()
        && let Ok(applied) = HeaderValue::from_str(&applied)
    {
        response.headers_mut().insert(APPLIED, applied);
    }
    response
}

/// Marks an answer that says that the operation is settled, and not what was answered.
#[derive(Debug, Clone, Copy)]
pub struct Over;

/// Marks an answer that says "not known yet".
#[derive(Debug, Clone)]
struct NotKnown(Problem, OperationId);

fn with_location(mut response: Response<Body>, operation: OperationId) -> Response<Body> {
    if let Ok(value) = HeaderValue::from_str(&format!("{OPERATIONS}{operation}")) {
        response.headers_mut().insert(LOCATION, value);
    }
    response
}

/// What `Semel-Answer` says of a response, for logs and metrics.
pub fn answer_of<B>(response: &Response<B>) -> &str {
    let value = response.headers().get(&SEMEL_ANSWER);
    value.and_then(|value| value.to_str().ok()).unwrap_or("passed")
}

/// Which operation a response is about, for logs.
pub fn operation_of<B>(response: &Response<B>) -> &str {
    let value = response.headers().get(&SEMEL_OPERATION);
    value.and_then(|value| value.to_str().ok()).unwrap_or("-")
}
