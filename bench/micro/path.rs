//! The whole path over a memory store, from a request's head and body to the last byte of its
//! answer, with neither sockets nor a provider that takes time.
#![expect(clippy::unwrap_used, reason = "a bench that cannot be put together has failed")]

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use criterion::{BatchSize, Criterion};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use semel::attempt::{Attempts, Flights};
use semel::config::secrets::{Outside, Purpose};
use semel::config::{Overrides, load_with};
use semel::entropy::OsEntropy;
use semel::ledger::Ledger;
use semel::metrics::Metrics;
use semel::protocol::outcome::NotSent;
use semel::proxy::stack::{ProxyService, stack};
use semel::proxy::{Proxy, WellKnown};
use semel::server::{Body, Caller, Delivered, Receipt};
use semel::store::memory::MemoryStore;
use semel::task::Tasks;
use semel::upstream::{AnswerBody, AskError, Forwarded, PassError, StreamingBody, Upstream, Wire};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;
use tower::ServiceExt as _;

const BODY: &[u8] = br#"{"amount":4200,"currency":"eur","reference":"a bench of payments","customer":"cus_0123456789","description":"what was bought, and that it was bought to see how long it takes","metadata":{"order":"order-0123456789","shop":"shop-01","channel":"web"},"capture":true,"statement":"A BENCH","locale":"en"}"#;
const ANSWER: &[u8] = br#"{"id":"payment_1","status":"succeeded","amount":4200,"currency":"eur","reference":"a bench of payments","customer":"cus_0123456789","description":"what was bought, and that it was bought to see how long it takes","metadata":{"order":"order-0123456789","shop":"shop-01"},"captured":true}"#;

/// Answers everything at once.
#[derive(Debug)]
struct Prompt;

#[async_trait]
impl Upstream for Prompt {
    async fn forward(&self, _: Request<Bytes>, wire: &Arc<Wire>) -> Forwarded {
        match wire.begin() {
            Ok(()) => Forwarded::Answered(answer()),
            Err(_) => Forwarded::NotSent(NotSent::TooLate),
        }
    }

    async fn pass(&self, _: Request<StreamingBody>) -> Result<Response<AnswerBody>, PassError> {
        Ok(answer())
    }

    async fn ask(
        &self,
        _: Request<Bytes>,
        _: Duration,
        _: usize,
    ) -> Result<Response<Bytes>, AskError> {
        Err(AskError("nobody asks here".to_owned()))
    }

    fn within(&self, _: &[u8]) -> Result<String, String> {
        Err("nothing here has a place of its own".to_owned())
    }
}

fn answer() -> Response<AnswerBody> {
    let body = Full::new(Bytes::from_static(ANSWER)).map_err(|never| match never {}).boxed();
    let response = Response::builder()
        .header("content-type", "application/json")
        .header("request-id", "req_0123456789");
    response.body(body).unwrap()
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let service = runtime.block_on(service());
    let ask = |request| runtime.block_on(ask(service.clone(), request));
    let number = Cell::new(0_u64);
    let fresh = || {
        number.set(number.get() + 1);
        pay(&runtime, &format!("order-{:012}", number.get()))
    };
    assert_eq!(ask(fresh()), "fresh", "a new key is forwarded");
    let settled = || pay(&runtime, "order-000000000001");
    assert_eq!(ask(settled()), "replayed", "a settled key is replayed");

    let mut group = criterion.benchmark_group("path");
    group.bench_function("passed through", |b| {
        b.iter_batched(|| look(&runtime), ask, BatchSize::SmallInput);
    });
    group.bench_function("guarded, new key", |b| {
        b.iter_batched(fresh, ask, BatchSize::SmallInput);
    });
    group.bench_function("guarded, replay", |b| {
        b.iter_batched(settled, ask, BatchSize::SmallInput);
    });
}

/// Everything of a semel process but its sockets.
async fn service() -> impl ProxyService {
    let overrides = Overrides {
        upstream: Some("http://payments.internal".to_owned()),
        store: Some("memory".to_owned().into()),
        ..Overrides::default()
    };
    let outside = Outside { env: &|_| None, purpose: Purpose::Check };
    let config = load_with(&overrides, outside).unwrap();
    let store = Arc::new(MemoryStore::default());
    let ledger = Arc::new(Ledger::new(store, semel::app::secrets(&config), Arc::new(OsEntropy)));
    ledger.enrol(config.key_rules_digest(), true).await.unwrap();
    let (tasks, metrics) = (Tasks::default(), Arc::new(Metrics::new().unwrap()));
    let (flights, wishes) = Flights::new();
    // Nobody looks anything up here; what is wished for is dropped.
    drop(wishes);
    let attempts = Attempts::new(ledger, flights, tasks.clone(), Arc::clone(&metrics));
    let prompt: Arc<dyn Upstream> = Arc::new(Prompt);
    let upstreams = config.upstreams.iter().map(|one| (one.name.clone(), Arc::clone(&prompt)));
    let proxy = Proxy::new(
        config.routes.clone(),
        upstreams.collect(),
        attempts,
        tasks,
        metrics,
        WellKnown::Served,
        || 1_800_000_000,
    );
    stack(Arc::new(proxy.unwrap()))
}

/// One request, as a connection would bring it, and its answer to the end. How it was answered.
async fn ask(service: impl ProxyService, mut request: Request<Body>) -> String {
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    request.extensions_mut().insert(Caller::new(peer, Instant::now()));
    let mut response = service.oneshot(request).await.unwrap_or_else(|never| match never {});
    let receipt = Receipt::take(&mut response);
    let (head, body) = response.into_parts();
    body.collect().await.unwrap();
    if let Some(receipt) = receipt {
        receipt.tell(Delivered::Whole);
    }
    assert!(head.status.is_success(), "{head:?}");
    let how = head.headers.get("semel-answer").map(|how| how.to_str().unwrap().to_owned());
    how.unwrap_or_default()
}

/// A body has a timer, which wants a runtime.
fn body(runtime: &Runtime, bytes: &'static [u8]) -> Body {
    let _entered = runtime.enter();
    Body::whole(Bytes::from_static(bytes))
}

fn pay(runtime: &Runtime, key: &str) -> Request<Body> {
    let request = Request::post("/v1/payments")
        .header("host", "payments.internal")
        .header("authorization", "Bearer 0123456789abcdef")
        .header("content-type", "application/json")
        .header("content-length", BODY.len())
        .header("idempotency-key", key);
    request.body(body(runtime, BODY)).unwrap()
}

fn look(runtime: &Runtime) -> Request<Body> {
    let request = Request::get("/v1/payments/payment_1")
        .header("host", "payments.internal")
        .header("authorization", "Bearer 0123456789abcdef");
    request.body(body(runtime, b"")).unwrap()
}
