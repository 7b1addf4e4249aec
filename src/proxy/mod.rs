//! The way of a guarded request, one file per stage, in the order of the path:
//! [`door`] → [`route`] → [`identify`] → `claim` → `attempt` (detached) → [`follow`] → [`respond`].
//!
//! Panics are caught around it in `stack`, and `account` counts and logs; from the claim on, order is
//! the promise, and [`Proxy::guard`] spells it out.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::attempt::{Attempts, Course, Inquiry, Resend, Seat, Stage};
use crate::ledger::Ledger;
use crate::metrics::{During, Metrics};
use crate::protocol::key::Secret;
use crate::server::{self, Caller};
use crate::task::Tasks;
use crate::upstream::{StreamingBody, Upstream};

mod account;
pub mod asking;
pub mod claim;
pub mod door;
pub mod follow;
pub mod identify;
pub mod prefer;
pub mod problem;
mod recalled;
pub mod respond;
pub mod route;
pub mod shape;
pub mod stack;
pub mod status;
mod witness;

use account::Account;
use claim::Standing;
use follow::{LookedUp, Patience, Waited};
use identify::{ReadBody, Unidentified};
use prefer::{Arrival, Wishes};
use problem::Slug;
use recalled::Told;
use respond::{Answer, Body, Role};
use route::{Duplicates, Mode, Route, Routed, Table};
use witness::Witness;

/// How many guarded requests may be under way here, whatever their route.
pub const REQUESTS_MAX: usize = 16_384;

/// A route with what it needs at run time.
#[derive(Debug)]
pub struct Lane {
    /// What was configured.
    pub route: Arc<Route>,
    /// How its requests are sent and judged.
    pub course: Arc<Course>,
    waiters: Semaphore,
    askers: Semaphore,
}

impl Lane {
    /// A place for somebody who waits for another state; those who do take none from duplicates.
    fn asker(&self) -> Option<SemaphorePermit<'_>> {
        self.askers.try_acquire().ok()
    }
}

/// The data port's service.
#[derive(Debug)]
pub struct Proxy {
    table: Table,
    lanes: HashMap<String, Arc<Lane>>,
    upstreams: HashMap<String, Arc<dyn Upstream>>,
    attempts: Attempts,
    tasks: Tasks,
    metrics: Arc<Metrics>,
    requests: Semaphore,
    told: Arc<Told>,
    well_known: WellKnown,
}

/// Whether `/.well-known/semel/` is served here, or forwarded like any other path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WellKnown {
    /// Served.
    Served,
    /// Forwarded.
    Forwarded,
}

/// A route's upstream that is not configured: our own mistake, or the configuration's.
#[derive(Debug, thiserror::Error)]
#[error("route {route} names the upstream {upstream}, which is not configured")]
pub struct UnknownUpstream {
    route: String,
    upstream: String,
}

impl Proxy {
    /// Puts the path together.
    ///
    /// # Errors
    /// [`UnknownUpstream`].
    pub fn new(
        table: Table,
        upstreams: HashMap<String, Arc<dyn Upstream>>,
        attempts: Attempts,
        tasks: Tasks,
        metrics: Arc<Metrics>,
        well_known: WellKnown,
        wall: crate::attempt::WallClock,
    ) -> Result<Self, UnknownUpstream> {
        let mut lanes = HashMap::new();
        for route in table.routes() {
            let upstream = upstreams.get(&route.upstream).ok_or_else(|| UnknownUpstream {
                route: route.name.clone(),
                upstream: route.upstream.clone(),
            })?;
            let inquiry = route.policy.lookup.as_ref().map(|lookup| Inquiry {
                lookup: Arc::clone(lookup),
                upstream: Arc::clone(upstream),
                upstream_name: route.upstream.clone(),
                wall,
            });
            let resend = route.policy.resend.as_ref().filter(|_| route.mode == Mode::Enforce);
            let resend = resend.map(|(within, conclusive)| {
                Arc::new(Resend {
                    upstream: Arc::clone(upstream),
                    upstream_name: route.upstream.clone(),
                    within: *within,
                    conclusive: conclusive.clone(),
                    outcomes: route.policy.outcomes.clone(),
                    timeout: route.policy.upstream_timeout,
                    response_max: route.policy.limits.response_body,
                })
            });
            let lane = Lane {
                route: Arc::clone(route),
                course: Arc::new(Course {
                    upstream: Arc::clone(upstream),
                    upstream_name: route.upstream.clone(),
                    outcomes: route.policy.outcomes.clone(),
                    inquiry,
                    resend,
                    lookup_after: route.policy.lookup_after,
                    response_max: route.policy.limits.response_body,
                }),
                waiters: Semaphore::new(route.policy.limits.waiters.get()),
                askers: Semaphore::new(route.policy.limits.waiters.get()),
            };
            lanes.insert(route.name.clone(), Arc::new(lane));
        }
        let (requests, told) = (Semaphore::new(REQUESTS_MAX), Arc::default());
        Ok(Self { table, lanes, upstreams, attempts, tasks, metrics, requests, told, well_known })
    }

    /// How each route's operations are looked up, for the reconciler.
    pub fn inquiries(&self) -> HashMap<String, Inquiry> {
        let inquiry = |(name, lane): (&String, &Arc<Lane>)| {
            Some((name.clone(), lane.course.inquiry.clone()?))
        };
        self.lanes.iter().filter_map(inquiry).collect()
    }

    /// How each route's requests are sent again, for the reconciler.
    pub fn resends(&self) -> HashMap<String, Arc<Resend>> {
        let resend =
            |(name, lane): (&String, &Arc<Lane>)| Some((name.clone(), lane.course.resend.clone()?));
        self.lanes.iter().filter_map(resend).collect()
    }

    fn ledger(&self) -> &Arc<Ledger> {
        self.attempts.ledger()
    }

    /// What names are made with.
    fn index(&self) -> &Secret {
        &self.ledger().secrets().index
    }

    /// Answers one request.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the caller, not the operation.
    pub fn answer(
        self: Arc<Self>,
        request: Request<server::Body>,
    ) -> impl Future<Output = Response<Body>> + Send {
        // Not in the block: it would hold the request as well as its parts.
        let (mut head, body) = request.into_parts();
        async move {
            let routed = self.table.route(&head.method, head.uri.path());
            let guarded = matches!(routed, Routed::Guarded(_));
            if let Err(refused) = door::admit(&head, guarded) {
                return respond::from_problem(&refused.problem());
            }
            let path = head.uri.path();
            if self.well_known == WellKnown::Served && path.starts_with(status::PREFIX) {
                return Box::pin(self.tell_about(&head)).await;
            }
            let caller = head.extensions.remove::<Caller>();
            match routed {
                Routed::Pass { upstream } => self.pass(&upstream, head, body).await,
                // In a box of its own: what a guard may need is large, and would be moved about with
                // every request that is only let through.
                Routed::Guarded(route) => Box::pin(self.count(&route, caller, head, body)).await,
            }
        }
    }

    /// Streams a request through that nobody guards.
    async fn pass(&self, upstream: &str, head: Parts, body: server::Body) -> Response<Body> {
        let Some(upstream) = self.upstreams.get(upstream) else {
            return respond::refused(Slug::Internal, None);
        };
        let body = body.map_err(Into::into).boxed();
        forward_unguarded(&**upstream, head, body).await
    }

    /// Guards a request, and counts and logs how that went.
    async fn count(
        self: Arc<Self>,
        route: &Arc<Route>,
        caller: Option<Caller>,
        head: Parts,
        body: server::Body,
    ) -> Response<Body> {
        let arrived = caller.as_ref().map_or_else(Instant::now, Caller::arrived);
        // In memory of its own: as the parser made it, it would hold the connection's read buffer.
        let traceparent = head.headers.get("traceparent");
        let traceparent = traceparent.and_then(|it| HeaderValue::from_bytes(it.as_bytes()).ok());
        let metrics = Arc::clone(&self.metrics);
        let route_of = Arc::clone(route);
        let account = Account::open(route_of, metrics, head.method.clone(), traceparent, arrived);
        let response = self.guard(route, caller, head, body).await;
        let response = respond::in_shape(&route.policy.errors, response);
        account.close(&response);
        response
    }

    /// The promise, in order.
    async fn guard(
        self: Arc<Self>,
        route: &Arc<Route>,
        caller: Option<Caller>,
        head: Parts,
        body: server::Body,
    ) -> Response<Body> {
        let Some(lane) = self.lanes.get(&route.name) else {
            return respond::refused(Slug::Internal, None);
        };
        if self.tasks.stopping().is_cancelled() {
            return respond::refused(Slug::Draining, None);
        }
        let Ok(_permit) = self.requests.try_acquire() else {
            return respond::refused(Slug::Overloaded, None);
        };
        let arrived = caller.as_ref().map_or_else(Instant::now, Caller::arrived);
        let body = match identify::read_body(body, route.policy.limits.request_body).await {
            Ok(body) => body,
            Err(failed) => return Box::pin(self.unreadable(lane, head, failed)).await,
        };
        let identified = match identify::identify(route, self.ledger().secrets(), &head, &body) {
            Ok(identified) => identified,
            Err(Unidentified::Refused(problem)) if route.mode == Mode::Enforce => {
                return respond::from_problem(&problem);
            }
            Err(Unidentified::Refused(_) | Unidentified::Keyless) => {
                return Box::pin(self.unguarded(lane, head, body)).await;
            }
        };
        let witness = Witness::new(&identified, arrived);
        let receipt = witness.receipt(caller, &self);
        if let Some(recollection) = self.recalled(lane, &identified) {
            let response = self.tell_recalled(lane, &recollection, &witness);
            return witness::attach(&self, receipt, response).await;
        }
        let wishes = match route.mode {
            Mode::Enforce => Wishes::of(&head.headers),
            // Who only watches neither hurries nor answers for anybody.
            Mode::Observe | Mode::Off => Wishes::default(),
        };
        let arrival = Arrival { at: arrived, wishes };
        let spare = route.mode == Mode::Observe;
        let spare = spare.then(|| Box::new((clone_head(&head), body.clone())));
        let request = Request::from_parts(head, body);
        let stood = self.claim(lane, identified, request, &witness).await;
        let by = stood.name();
        let response = match (stood.standing, spare) {
            (Standing::Owner(seat), _) => self.wait_as_owner(lane, seat, arrival).await,
            (Standing::Unguarded(request), _) => {
                let (head, body) = request.into_parts();
                Box::pin(self.unguarded(lane, head, body)).await
            }
            (_, Some(spare)) => {
                let (head, body) = *spare;
                self.metrics.prevented.with_label_values(&[route.name.as_str(), by]).inc();
                Box::pin(self.unguarded(lane, head, body)).await
            }
            // In a box: whoever is the one, as most are, waits with less.
            (other, None) => Box::pin(self.tell(lane, other, by, arrival)).await,
        };
        let response = respond::as_preferred(&arrival, response);
        witness::attach(&self, receipt, response).await
    }

    /// Tells a caller whose request was not the one.
    async fn tell(
        &self,
        lane: &Lane,
        standing: Standing,
        by: &str,
        arrival: Arrival,
    ) -> Response<Body> {
        let route = &lane.route;
        if standing.is_known() {
            self.metrics.prevented.with_label_values(&[route.name.as_str(), by]).inc();
        }
        match standing {
            Standing::Owner(seat) => self.wait_as_owner(lane, seat, arrival).await,
            Standing::Unguarded(_) => respond::refused(Slug::Internal, None),
            Standing::Refused(slug, detail) => respond::refused(slug, detail),
            Standing::Mismatch(operation) => respond::mismatch(operation),
            Standing::Bound(operation) => respond::bound(operation),
            Standing::Known(view) => respond::tell(&view, None, Role::Late),
            Standing::Follower(flight) | Standing::Doubt(flight)
                if route.policy.duplicates == Duplicates::Conflict =>
            {
                match flight.stage() {
                    Stage::Flying | Stage::Streaming => respond::in_flight(flight.operation()),
                    Stage::Known { view, unproven, .. } => {
                        respond::tell(&view, unproven.as_ref(), Role::Follower)
                    }
                }
            }
            Standing::Follower(flight) | Standing::Doubt(flight) => {
                let Ok(_place) = lane.waiters.try_acquire() else {
                    return respond::refused(Slug::Overloaded, None);
                };
                let _waiting = During::begin(&self.metrics.waiters);
                let patience = Patience::Duplicate { until: arrival.at + route.policy.max_wait };
                let waited = self.wait(lane, &flight, patience, arrival.cut()).await;
                told(waited, &flight, Role::Follower)
            }
        }
    }

    async fn wait_as_owner(&self, lane: &Lane, seat: Seat, arrival: Arrival) -> Response<Body> {
        let policy = &lane.route.policy;
        let max_wait = policy.max_wait;
        // Even if the attempt's end is never heard of, its lease has been over for long by then.
        let until = Instant::now() + policy.upstream_timeout + policy.lease + max_wait;
        let patience = Patience::Owner { until, max_wait };
        let waited = self.wait(lane, seat.flight(), patience, arrival.cut()).await;
        told(waited, seat.flight(), Role::Owner)
    }

    async fn wait(
        &self,
        lane: &Lane,
        flight: &Arc<crate::attempt::Flight>,
        patience: Patience,
        cut: Option<Instant>,
    ) -> Waited {
        let flights = self.attempts.flights();
        let looked_up = LookedUp {
            looked_up: lane.course.inquiry.is_some() || lane.course.resend.is_some(),
            stopping: self.tasks.stopping(),
        };
        let waiting = follow::wait(flight, flights, self.ledger(), patience, looked_up);
        match cut {
            // What is there by then is told, even if the wait was over before it began.
            Some(cut) => timeout_at(cut, waiting).await.unwrap_or_else(|_| follow::known(flight)),
            None => waiting.await,
        }
    }

    /// Forwards a request whose body is in hand, without a guard, and says so.
    async fn unguarded(&self, lane: &Lane, head: Parts, body: Bytes) -> Response<Body> {
        let body = Full::new(body).map_err(|never| match never {}).boxed();
        let mut response = forward_unguarded(&*lane.course.upstream, head, body).await;
        respond::mark_answer(&mut response, Answer::Unguarded);
        response
    }

    /// A body that could not be read whole.
    async fn unreadable(&self, lane: &Lane, head: Parts, failed: ReadBody) -> Response<Body> {
        match failed {
            ReadBody::TooLarge(read, rest) if lane.route.mode == Mode::Observe => {
                self.metrics
                    .prevented
                    .with_label_values(&[lane.route.name.as_str(), "body-too-large"])
                    .inc();
                let mut response =
                    forward_unguarded(&*lane.course.upstream, head, rejoin(read, *rest)).await;
                respond::mark_answer(&mut response, Answer::Unguarded);
                response
            }
            ReadBody::TooLarge(..) => respond::refused(Slug::BodyTooLarge, None),
            ReadBody::Broken(server::BodyError::TooSlow) => {
                respond::refused(Slug::RequestTimeout, None)
            }
            ReadBody::Broken(server::BodyError::Broken(_)) => respond::refused(
                Slug::MalformedRequest,
                Some("the request's body broke off or was ill-framed; nothing was sent".to_owned()),
            ),
        }
    }
}

fn told(waited: Waited, flight: &crate::attempt::Flight, role: Role) -> Response<Body> {
    match waited {
        Waited::Told(view, unproven) => respond::tell(&view, unproven.as_ref(), role),
        Waited::Streamed(streamed) => respond::streamed(streamed, flight.operation()),
        Waited::NotYet => respond::not_known_yet(flight.operation(), "in-flight"),
    }
}

async fn forward_unguarded(
    upstream: &dyn Upstream,
    head: Parts,
    body: StreamingBody,
) -> Response<Body> {
    match upstream.pass(Request::from_parts(head, body)).await {
        Ok(response) => response.map(|body| {
            body.map_err(|why| format!("the upstream's answer broke off: {why:?}").into())
                .boxed_unsync()
        }),
        Err(error) => respond::unguarded_failure(error),
    }
}

/// A body as it was before its first part was read.
fn rejoin(read: Bytes, rest: server::Body) -> StreamingBody {
    let first = futures_util::stream::once(async { Ok(http_body::Frame::data(read)) });
    let rest = futures_util::stream::unfold(rest, |mut rest| async move {
        let frame = rest.frame().await?;
        Some((frame.map_err(Into::into), rest))
    });
    let frames = futures_util::StreamExt::chain(first, rest);
    StreamBody::new(Box::pin(frames)).boxed()
}

fn clone_head(head: &Parts) -> Parts {
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.version_mut() = head.version;
    *request.headers_mut() = head.headers.clone();
    request.into_parts().0
}

/// The data port's service, as the server takes it.
pub type Answered = Result<Response<Body>, Infallible>;
