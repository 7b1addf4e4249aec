//! The admin port: health, metrics, and the operator's hand on the records.
//!
//! What there is, is [`Target`]; who may have it, `access`; what it does, `records`; how it reads,
//! `telling`.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use serde_json::{Value, json};
use tower::service_fn;

use crate::attempt::Flights;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::reconcile::LookUps;
use crate::server::Body;
use crate::store::{Refusal, StoreError};
use crate::task::Tasks;
use access::{Denied, Needs};
use change::Action;
use records::Desk;

mod access;
mod asking;
mod change;
mod filter;
mod records;
mod telling;

/// The largest request body, in bytes: an answer that an operator settles with.
const BODY_MAX: usize = 2 << 20;

/// The admin port's service.
#[derive(Debug)]
pub struct Admin {
    ledger: Arc<Ledger>,
    flights: Arc<Flights>,
    look_ups: LookUps,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    token: String,
}

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target<'a> {
    Health,
    Ready,
    Metrics,
    List,
    Show(&'a str),
    Change(&'a str, Action),
    SettleMany,
    LookUp(&'a str),
    LookUpMany,
}

impl<'a> Target<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let path = path.strip_suffix('/').unwrap_or(path);
        Some(match path {
            "/healthz" => Self::Health,
            "/readyz" => Self::Ready,
            "/metrics" => Self::Metrics,
            "/api/v1/records" => Self::List,
            path => Self::of_record(path.strip_prefix("/api/v1/records/")?)?,
        })
    }

    fn of_record(path: &'a str) -> Option<Self> {
        match path.split_once('/') {
            None if path == "settle" => Some(Self::SettleMany),
            None if path == "lookup" => Some(Self::LookUpMany),
            None => Some(Self::Show(path)),
            Some((id, "lookup")) => Some(Self::LookUp(id)),
            Some((id, "settle")) => Some(Self::Change(id, Action::Settle)),
            Some((id, "reopen")) => Some(Self::Change(id, Action::Reopen)),
            Some(_) => None,
        }
    }

    const fn needs(self) -> Needs {
        match self {
            Self::Health | Self::Ready | Self::Metrics => Needs::Nothing,
            Self::List | Self::Show(_) => Needs::ToRead,
            Self::Change(..) | Self::SettleMany | Self::LookUp(_) | Self::LookUpMany => {
                Needs::ToChange
            }
        }
    }
}

type Answer = Result<Response<Full<Bytes>>, Infallible>;

/// The service in the form that the server takes.
pub trait AdminService:
    tower::Service<
        Request<Body>,
        Response = Response<Full<Bytes>>,
        Error = Infallible,
        Future = Pin<Box<dyn Future<Output = Answer> + Send>>,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> AdminService for S where
    S: tower::Service<
            Request<Body>,
            Response = Response<Full<Bytes>>,
            Error = Infallible,
            Future = Pin<Box<dyn Future<Output = Answer> + Send>>,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

impl Admin {
    /// Watches and changes what this ledger keeps.
    pub const fn new(
        ledger: Arc<Ledger>,
        flights: Arc<Flights>,
        look_ups: LookUps,
        metrics: Arc<Metrics>,
        tasks: Tasks,
        token: String,
    ) -> Self {
        Self { ledger, flights, look_ups, metrics, tasks, token }
    }

    /// The service.
    pub fn service(self: Arc<Self>) -> impl AdminService {
        service_fn(move |request| {
            let this = Arc::clone(&self);
            let answer: Pin<Box<dyn Future<Output = Answer> + Send>> =
                Box::pin(async move { Ok(this.answer(request).await) });
            answer
        })
    }

    async fn answer(&self, request: Request<Body>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let Some(target) = Target::of(head.uri.path()) else {
            return fault(
                StatusCode::NOT_FOUND,
                "there are /healthz, /readyz, /metrics, /api/v1/records, /api/v1/records/ID, its \
                 lookup, settle and reopen, and lookup and settle of several",
            );
        };
        let needs = target.needs();
        if !needs.takes(&head.method) {
            let mut response = fault(StatusCode::METHOD_NOT_ALLOWED, "not with this method");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(needs.methods()));
            return response;
        }
        if let Err(denied) = access::judge(needs, &head, &self.token) {
            return deny(denied, target, &head);
        }
        match target {
            Target::Health => text(StatusCode::OK, "ok\n"),
            Target::Ready => self.ready(head.uri.query()).await,
            Target::Metrics => self.metrics(),
            Target::List => self.desk(&head).list(head.uri.query(), &head.headers).await,
            Target::Show(id) => self.desk(&head).show(id).await,
            Target::Change(..) | Target::SettleMany | Target::LookUp(_) | Target::LookUpMany => {
                match Limited::new(body, BODY_MAX).collect().await {
                    Ok(order) => self.order(target, &head, &order.to_bytes()).await,
                    Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                        fault(StatusCode::PAYLOAD_TOO_LARGE, "the body is over 2 MiB")
                    }
                    Err(_) => fault(StatusCode::BAD_REQUEST, "the body did not come whole"),
                }
            }
        }
    }

    /// What an operator orders.
    async fn order(&self, target: Target<'_>, head: &Parts, order: &[u8]) -> Response<Full<Bytes>> {
        let desk = self.desk(head);
        match target {
            Target::Change(id, action) => desk.change(id, action, order).await,
            Target::SettleMany => desk.settle_many(order).await,
            Target::LookUp(id) => desk.look_up(id).await,
            Target::LookUpMany => desk.look_up_many(order).await,
            Target::Health | Target::Ready | Target::Metrics | Target::List | Target::Show(_) => {
                fault(StatusCode::METHOD_NOT_ALLOWED, "this is no order")
            }
        }
    }

    fn desk(&self, head: &Parts) -> Desk<'_> {
        Desk {
            ledger: &self.ledger,
            flights: &self.flights,
            look_ups: &self.look_ups,
            peer: access::peer(head),
        }
    }

    /// Ready: listening, and not on the way out. With `?store=1` the store must answer as well.
    async fn ready(&self, query: Option<&str>) -> Response<Full<Bytes>> {
        if self.tasks.stopping().is_cancelled() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
        }
        let asks_store = query.is_some_and(|query| query.split('&').any(|pair| pair == "store=1"));
        if !asks_store {
            return text(StatusCode::OK, "ready\n");
        }
        if let Some(why) = self.ledger.unfit() {
            return text(StatusCode::SERVICE_UNAVAILABLE, &format!("store: {why}\n"));
        }
        match self.store_ready().await {
            Ok(()) => text(StatusCode::OK, "ready, store included\n"),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("store: {why}\n")),
        }
    }

    /// Whether the store would let this process claim.
    async fn store_ready(&self) -> Result<(), StoreError> {
        let store = self.ledger.store();
        // A read passes the fence, so a store that was flushed or restored is not ready.
        store.due(1).await?;
        let (ours, theirs) = (store.fence().charter(), store.charter().await?);
        // Another generation alone is adopted by the next claim.
        if ours.map(|ours| ours.rules) == theirs.map(|theirs| theirs.rules) {
            Ok(())
        } else {
            Err(Refusal::OtherRules.into())
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.metrics.render())));
        let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }
}

/// Refuses; a change that was tried is on the audit log.
fn deny(denied: Denied, target: Target<'_>, head: &Parts) -> Response<Full<Bytes>> {
    let tried = match target {
        Target::Change(id, action) => Some((id, action)),
        Target::SettleMany => Some(("", Action::Settle)),
        Target::Health
        | Target::Ready
        | Target::Metrics
        | Target::List
        | Target::Show(_)
        | Target::LookUp(_)
        | Target::LookUpMany => None,
    };
    if let Some((id, action)) = tried {
        change::audit_denial(id, action, access::peer(head), denied.message());
    }
    let mut response = fault(denied.status(), denied.message());
    if denied == Denied::Token {
        let scheme = HeaderValue::from_static("Bearer realm=\"semel admin\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    }
    response
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn as_json(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut response = text(status, &format!("{value}\n"));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// What is wrong, and what to do.
fn fault(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    as_json(status, &json!({ "error": message }))
}
