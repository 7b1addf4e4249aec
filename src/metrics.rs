//! What is counted. Labels come from enums and configuration only, so their number is bounded.

use std::time::Duration;

use prometheus::{
    Encoder as _, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Upper bounds of the duration histograms, in seconds.
const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 25.0, 90.0];

/// All metrics of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests by route, mode and kind of answer.
    pub requests: IntCounterVec,
    /// Seconds from a request's arrival to its answer.
    pub request_duration: HistogramVec,
    /// Claims by route and verdict.
    pub claims: IntCounterVec,
    /// Upstream calls by upstream and outcome.
    pub attempts: IntCounterVec,
    /// Seconds that upstream calls lasted.
    pub attempt_duration: HistogramVec,
    /// Look-ups by upstream and finding.
    pub lookups: IntCounterVec,
    /// Attempts under way here, by route.
    pub in_flight: IntGaugeVec,
    /// Operations in doubt in the store, by route.
    pub in_doubt: IntGaugeVec,
    /// Age of the oldest operation in doubt, in seconds; 0 if there is none.
    pub in_doubt_oldest: Gauge,
    /// Requests that were not sent because their operation was known, by route and by what.
    pub prevented: IntCounterVec,
    /// Seconds that store calls lasted, by operation.
    pub store_duration: HistogramVec,
    /// Store calls that failed, by kind.
    pub store_errors: IntCounterVec,
    /// Share of the store that is free, from 0 to 1. Without a label, so that it is there only if
    /// the store has a limit: 0 would be an alarm.
    pub store_headroom: GaugeVec,
    /// Duplicates that wait here.
    pub waiters: IntGauge,
    /// What the reconciler did, by result.
    pub reconciled: IntCounterVec,
}

/// Counts one for as long as it lives, however that ends.
#[derive(Debug)]
pub struct During(IntGauge);

impl During {
    /// Begins.
    pub fn begin(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for During {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Registers them all.
    ///
    /// # Errors
    /// Only if a name is registered twice, which is our own mistake.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let build = GaugeVec::new(
            Opts::new("semel_build_info", "1, with the version as a label"),
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        registry.register(Box::new(build))?;
        let make = Maker(&registry);
        Ok(Self {
            requests: make.counter(REQUESTS)?,
            request_duration: make.histogram(REQUEST_DURATION)?,
            claims: make.counter(CLAIMS)?,
            attempts: make.counter(ATTEMPTS)?,
            attempt_duration: make.histogram(ATTEMPT_DURATION)?,
            lookups: make.counter(LOOKUPS)?,
            in_flight: make.gauge(IN_FLIGHT)?,
            in_doubt: make.gauge(IN_DOUBT)?,
            in_doubt_oldest: make.single(IN_DOUBT_OLDEST)?,
            prevented: make.counter(PREVENTED)?,
            store_duration: make.histogram(STORE_DURATION)?,
            store_errors: make.counter(STORE_ERRORS)?,
            store_headroom: make.perhaps(STORE_HEADROOM)?,
            waiters: {
                let gauge = IntGauge::new("semel_waiters", "Duplicates that wait here")?;
                registry.register(Box::new(gauge.clone()))?;
                gauge
            },
            reconciled: make.counter(RECONCILED)?,
            registry,
        })
    }

    /// The registry's content in Prometheus' text format.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Writing into memory does not fail; a metric that does not encode is left out.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }

    /// An upstream call ended.
    pub fn attempt_ended(&self, upstream: &str, lasted: Duration) {
        self.attempt_duration.with_label_values(&[upstream]).observe(lasted.as_secs_f64());
    }

    /// What it came to, in a word.
    pub fn attempt_outcome(&self, upstream: &str, outcome: &'static str) {
        self.attempts.with_label_values(&[upstream, outcome]).inc();
    }

    /// A claim ended, with this verdict.
    pub fn claimed(&self, route: &str, verdict: &'static str) {
        self.claims.with_label_values(&[route, verdict]).inc();
    }

    /// A look-up ended, with this finding.
    pub fn looked_up(&self, upstream: &str, finding: &'static str) {
        self.lookups.with_label_values(&[upstream, finding]).inc();
    }
}

/// A metric's name, help and labels.
type Spec = (&'static str, &'static str, &'static [&'static str]);

const REQUESTS: Spec = (
    "semel_requests_total",
    "Requests by route, mode and kind of answer",
    &["route", "mode", "answer"],
);
const REQUEST_DURATION: Spec = (
    "semel_request_duration_seconds",
    "Seconds from a request's arrival to its answer",
    &["route", "answer"],
);
const CLAIMS: Spec = ("semel_claims_total", "Claims by route and verdict", &["route", "verdict"]);
const ATTEMPTS: Spec =
    ("semel_attempts_total", "Upstream calls by upstream and outcome", &["upstream", "outcome"]);
const ATTEMPT_DURATION: Spec =
    ("semel_attempt_duration_seconds", "Seconds that upstream calls lasted", &["upstream"]);
const LOOKUPS: Spec =
    ("semel_lookups_total", "Look-ups by upstream and finding", &["upstream", "finding"]);
const IN_FLIGHT: Spec = ("semel_in_flight", "Upstream calls under way here", &["route"]);
const IN_DOUBT: Spec = ("semel_in_doubt", "Operations in doubt in the store", &["route"]);
const IN_DOUBT_OLDEST: Spec = (
    "semel_in_doubt_oldest_age_seconds",
    "Age of the oldest operation in doubt, 0 if there is none",
    &[],
);
const PREVENTED: Spec = (
    "semel_duplicates_prevented_total",
    "Requests that were not sent because their operation was known",
    &["route", "by"],
);
const STORE_DURATION: Spec =
    ("semel_store_duration_seconds", "Seconds that store calls lasted", &["operation"]);
const STORE_ERRORS: Spec = ("semel_store_errors_total", "Store calls that failed", &["kind"]);
const STORE_HEADROOM: Spec = (
    "semel_store_headroom_ratio",
    "Share of the store that is free, from 0 to 1, where it has a limit",
    &[],
);
const RECONCILED: Spec = ("semel_reconciled_total", "What the reconciler did", &["result"]);

struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn counter(&self, (name, help, labels): Spec) -> Result<IntCounterVec, prometheus::Error> {
        let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn perhaps(&self, (name, help, labels): Spec) -> Result<GaugeVec, prometheus::Error> {
        let metric = GaugeVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauge(&self, (name, help, labels): Spec) -> Result<IntGaugeVec, prometheus::Error> {
        let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn single(&self, (name, help, _): Spec) -> Result<Gauge, prometheus::Error> {
        let metric = Gauge::new(name, help)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn histogram(&self, (name, help, labels): Spec) -> Result<HistogramVec, prometheus::Error> {
        let options = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        let metric = HistogramVec::new(options, labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}
