//! One line and one count for each guarded request, also for those whose caller did not wait.

use std::sync::Arc;

use http::{HeaderValue, Method, Response};
use tokio::time::Instant;

use super::respond::{self, Body};
use super::route::{Mode, Route};
use crate::metrics::Metrics;

/// What a request is called in metrics and logs whose caller left before there was an answer.
const LEFT: &str = "left";

/// An open account of one request. Dropped without an answer, its caller has left.
#[derive(Debug)]
pub(super) struct Account {
    route: Arc<Route>,
    metrics: Arc<Metrics>,
    method: Method,
    traceparent: Option<HeaderValue>,
    arrived: Instant,
    closed: bool,
}

impl Account {
    /// Opens one.
    pub(super) fn open(
        route: Arc<Route>,
        metrics: Arc<Metrics>,
        method: Method,
        traceparent: Option<HeaderValue>,
        arrived: Instant,
    ) -> Self {
        Self { route, metrics, method, traceparent, arrived, closed: false }
    }

    /// Closes it with the answer.
    pub(super) fn close(mut self, response: &Response<Body>) {
        self.closed = true;
        let operation = respond::operation_of(response);
        self.enter(respond::answer_of(response), operation, response.status().as_u16());
    }

    fn enter(&self, answer: &str, operation: &str, status: u16) {
        let route = self.route.name.as_str();
        let mode = if self.route.mode == Mode::Observe { "observe" } else { "enforce" };
        let took = self.arrived.elapsed();
        self.metrics.requests.with_label_values(&[route, mode, answer]).inc();
        let duration = self.metrics.request_duration.with_label_values(&[route, answer]);
        duration.observe(took.as_secs_f64());
        tracing::info!(
            route,
            method = self.method.as_str(),
            operation,
            answer,
            status,
            duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            traceparent = self.traceparent.as_ref().and_then(|value| value.to_str().ok()),
            "guarded request"
        );
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if !self.closed {
            // What became of its operation is on record; nobody was there to be told. 499 is what
            // proxies use to log this; it is never sent.
            self.enter(LEFT, "-", 499);
        }
    }
}
