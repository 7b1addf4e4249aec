//! One semel process: everything but its sockets, on a leash.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Request, Response};
use http_body_util::BodyExt as _;
use semel::admin::Admin;
use semel::attempt::{Attempts, Flights};
use semel::entropy::SeededEntropy;
use semel::ledger::{EnrolError, Ledger, Secrets};
use semel::metrics::Metrics;
use semel::protocol::fingerprint::FingerprintRules;
use semel::protocol::key::{BusinessField, KeySource, ScopeRule, Secret};
use semel::protocol::outcome::{
    AbsentPolicy, HeaderMatch, Meaning, OutcomeTable, Rule, StatusMatch,
};
use semel::protocol::seal::Seals;
use semel::proxy::route::{
    Business, Duplicates, Limits, Missing, Mode, OnStoreFailure, Orphans, Policy, Route, Table,
};
use semel::proxy::shape::Shape;
use semel::proxy::{Proxy, WellKnown};
use semel::reconcile::Reconciler;
use semel::server::{Body, Caller, Delivered, Receipt};
use semel::task::Tasks;
use semel::upstream::Upstream;
use semel::upstream::lookup::LookUp;
use semel::upstream::lookup::spec::{AskSpec, CreatedSpec, ReplySpec, Spec, StateSpec, TimeUnit};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::life::{Leash, Life, State};
use crate::link::{Depot, Link};
use crate::provider::{Line, Provider, TRANSIENT};
use crate::world::wall;

/// By how much the clocks of semel and of the provider may differ before dates prove nothing.
pub(crate) const SKEW: Duration = Duration::from_secs(60);

pub(crate) const ADMIN_TOKEN: &str = "operator";
/// How large an answer is kept.
const RESPONSE_MAX: usize = 1024;

/// What is configured in one world.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) lease: Duration,
    pub(crate) upstream_timeout: Duration,
    pub(crate) max_wait: Duration,
    pub(crate) lookup_after: Duration,
    pub(crate) retention: Duration,
    pub(crate) remember: Duration,
    pub(crate) window: Duration,
    pub(crate) duplicates: Duplicates,
    /// How long a business key is bound to what succeeded.
    pub(crate) business: Option<Duration>,
    pub(crate) orphans: Orphans,
    pub(crate) waiters: usize,
    pub(crate) look_up: Arc<LookUp>,
}

/// Room for a dozen settled records, so that some have to go.
const RECALL: usize = 40_000;

/// What may change from one incarnation of a process to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setup {
    /// Digest of the key rules.
    pub(crate) rules: u8,
    /// How often fingerprint and seal secrets were rotated.
    pub(crate) rotation: u8,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) setup: Setup,
    pub(crate) life: Arc<Life>,
    pub(crate) tasks: Tasks,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) metrics: Arc<Metrics>,
    proxy: Arc<Proxy>,
    admin: Arc<Admin>,
}

impl Setup {
    pub(crate) const fn rules(self) -> [u8; 32] {
        [self.rules; 32]
    }

    pub(crate) fn secrets(self) -> Secrets {
        let secret = |domain: u8, rotation: u8| Secret::new([domain + rotation; 32]);
        let newest_first = |domain| (0..=self.rotation).rev().map(move |r| secret(domain, r));
        let mut seals = newest_first(150);
        let newest = seals.next().unwrap();
        Secrets {
            index: secret(0, 0),
            fingerprints: newest_first(100).collect(),
            seals: Seals::new(newest, seals.collect()),
        }
    }
}

/// How payments are looked up: by the order that the caller sent.
pub(crate) fn look_up(absent: AbsentPolicy) -> Arc<LookUp> {
    let texts = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
    let state = StateSpec {
        path: Some("$.status".to_owned()),
        failed_if: None,
        succeeded: texts(&["succeeded"]),
        accepted: texts(&["processing"]),
        failed: texts(&["failed"]),
        provisional: None,
    };
    let created = CreatedSpec {
        path: "$.created".to_owned(),
        unit: TimeUnit::Unix,
        // A record that reaches the store late looks younger by as much.
        skew: SKEW,
    };
    let query = vec![("order".to_owned(), "{{ body.order }}".to_owned())];
    let spec = Spec {
        request: Some(AskSpec { query, ..AskSpec::get("/payments") }),
        item: Some("$.data[?@.order == {{ body.order | json }}]".to_owned()),
        state: Some(state),
        created: Some(created),
        succeeded: ReplySpec { status: 201, ..ReplySpec::default() },
        failed: Some(ReplySpec { status: 402, ..ReplySpec::default() }),
        timeout: Duration::from_secs(2),
        absent,
        ..Spec::default()
    };
    Arc::new(LookUp::compile(spec, &[]).unwrap())
}

pub(crate) fn route(name: &str, terms: &Terms) -> Arc<Route> {
    let lookup = (name == "payments").then(|| Arc::clone(&terms.look_up));
    let transient = HeaderMatch { name: TRANSIENT.to_owned(), values: vec!["true".to_owned()] };
    let rule = Rule {
        status: Some(StatusMatch::Exactly(409)),
        header: Some(transient),
        body: None,
        is: Meaning::Unknown,
    };
    let policy = Policy {
        sources: vec![KeySource::Header(HeaderName::from_static("idempotency-key"))],
        missing: Missing::Fingerprint { window: terms.window },
        scope: ScopeRule::Credentials(vec![http::header::AUTHORIZATION]),
        fingerprint: FingerprintRules::default(),
        business: terms.business.map(|window| Business {
            fields: vec![BusinessField::Json("/basket".to_owned())],
            window,
        }),
        orphans: terms.orphans,
        duplicates: terms.duplicates,
        max_wait: terms.max_wait,
        lookup_after: terms.lookup_after,
        upstream_timeout: terms.upstream_timeout,
        lease: terms.lease,
        retention: terms.retention,
        remember: terms.remember,
        limits: Limits {
            request_body: 10_000,
            response_body: RESPONSE_MAX,
            waiters: NonZeroUsize::new(terms.waiters).unwrap(),
        },
        outcomes: OutcomeTable::new(vec![rule], lookup.is_some()),
        reference: None,
        lookup,
        resend: None,
        on_store_failure: OnStoreFailure::Reject,
        errors: Shape::default(),
    };
    Arc::new(Route {
        name: name.to_owned(),
        methods: vec![],
        path: format!("/{name}").parse().unwrap(),
        upstream: "provider".to_owned(),
        mode: Mode::Enforce,
        policy: Arc::new(policy),
    })
}

impl Process {
    /// Starts one. `Err`: it may not work on this store (now).
    pub(crate) async fn start(
        name: String,
        seed: u64,
        depot: &Arc<Depot>,
        provider: &Arc<Provider>,
        setup: Setup,
        terms: &Terms,
    ) -> Result<Arc<Self>, EnrolError> {
        let life = Life::new();
        let tasks = Tasks::new(Some(Arc::new(Leash(Arc::clone(&life)))));
        let link = Link::new(depot, name.clone(), seed);
        let entropy = Arc::new(SeededEntropy::new(seed));
        let ledger = Arc::new(Ledger::new(link, setup.secrets(), entropy).recalling(RECALL));
        ledger.enrol(setup.rules(), false).await?;
        let metrics = Arc::new(Metrics::new().unwrap());
        let (flights, wishes) = Flights::new();
        let attempts = Attempts::new(
            Arc::clone(&ledger),
            Arc::clone(&flights),
            tasks.clone(),
            Arc::clone(&metrics),
        );
        let line: Arc<dyn Upstream> =
            Arc::new(Line { provider: Arc::clone(provider), process: name.clone() });
        let table = Table::new(vec![route("payments", terms)], route("orders", terms));
        let proxy = Proxy::new(
            table,
            HashMap::from([("provider".to_owned(), line)]),
            attempts,
            tasks.clone(),
            Arc::clone(&metrics),
            WellKnown::Served,
            wall,
        );
        let proxy = proxy.unwrap();
        let reconciler = Reconciler::new(
            Arc::clone(&ledger),
            Arc::clone(&flights),
            proxy.inquiries(),
            Arc::clone(&metrics),
            tasks.clone(),
        );
        let look_ups = reconciler.look_ups();
        tasks.spawn(reconciler.run(wishes));
        let admin = Admin::new(
            Arc::clone(&ledger),
            flights,
            look_ups,
            Arc::clone(&metrics),
            tasks.clone(),
            ADMIN_TOKEN.to_owned(),
        );
        let (proxy, admin) = (Arc::new(proxy), Arc::new(admin));
        Ok(Arc::new(Self { name, setup, life, tasks, ledger, metrics, proxy, admin }))
    }

    /// Whether it has told anybody what it recalled.
    pub(crate) fn has_recalled(&self) -> bool {
        let claims = &self.metrics.claims;
        ["payments", "orders"]
            .iter()
            .any(|route| claims.with_label_values(&[*route, "recalled"]).get() > 0)
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.life.state() != State::Dead && !self.tasks.stopping().is_cancelled()
    }

    /// A caller's connection: it gets the answer, `way_back` later, unless it is `gone` by then. The second value says
    /// whether the body came whole.
    pub(crate) fn call(
        &self,
        mut request: Request<Body>,
        way_back: Duration,
        gone: CancellationToken,
    ) -> oneshot::Receiver<(Response<Bytes>, bool)> {
        let (tell, told) = oneshot::channel();
        let proxy = Arc::clone(&self.proxy);
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        request.extensions_mut().insert(Caller::new(peer, Instant::now()));
        self.tasks.spawn(async move {
            let answer = async {
                let response = semel::proxy::stack::stack(proxy).oneshot(request).await;
                let mut response = response.unwrap_or_else(|never| match never {});
                let receipt = Receipt::take(&mut response);
                let (head, body) = response.into_parts();
                let collected = body.collect().await;
                let whole = collected.is_ok();
                tokio::time::sleep(way_back).await;
                let bytes = collected.map(|body| body.to_bytes()).unwrap_or_default();
                (Response::from_parts(head, bytes), whole, receipt)
            };
            tokio::select! {
                biased;
                () = gone.cancelled() => {}
                (response, whole, receipt) = answer => {
                    if let Some(receipt) = receipt {
                        receipt.tell(if whole { Delivered::Whole } else { Delivered::Left });
                    }
                    let _ = tell.send((response, whole));
                }
            }
        });
        told
    }

    /// An order of the operator's, by the admin port.
    pub(crate) async fn order(&self, path: &str, body: String) -> u16 {
        let request = Request::post(path)
            .header("authorization", format!("Bearer {ADMIN_TOKEN}"))
            .body(Body::whole(body.into()));
        let admin = Arc::clone(&self.admin);
        let (tell, told) = oneshot::channel();
        self.tasks.spawn(async move {
            let answer = admin.service().oneshot(request.unwrap()).await;
            let _ = tell.send(answer.map_or(500, |answer| answer.status().as_u16()));
        });
        told.await.unwrap_or(0)
    }
}
