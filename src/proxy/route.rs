//! Which route a request takes, and what was configured for it.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::shape::Shape;
use crate::protocol::fingerprint::FingerprintRules;
use crate::protocol::key::{BusinessField, KeySource, RequestView, ScopeRule};
use crate::protocol::outcome::OutcomeTable;
use crate::protocol::reference::{LeftAlone, ReferenceRule, Slot};
use crate::upstream::lookup::LookUp;

/// What is done with requests of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Guard them.
    Enforce,
    /// Claim and record, but forward what would have waited or been refused, and count it.
    Observe,
    /// Route them only.
    Off,
}

/// What becomes of a request without an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Missing {
    /// Its content identifies it.
    Fingerprint {
        /// How long after delivery identical content still finds the same operation.
        window: Duration,
    },
    /// 400 `key-missing`.
    Reject,
    /// It is forwarded unguarded, and marked so.
    Pass,
}

/// What a duplicate does while its operation is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Duplicates {
    /// Waits for the owner's answer.
    Wait,
    /// Gets 409 `operation-in-flight` at once.
    Conflict,
}

/// What becomes of a request while the store cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnStoreFailure {
    /// 503 `store-unavailable`; nothing is sent.
    Reject,
    /// It is sent unguarded if no record is known here, and marked so.
    Pass,
}

/// Whether a retry under another key is recognised whose caller was left unanswered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Orphans {
    /// By its content, for [`crate::protocol::claim::ORPHANED_FOR`].
    Match,
    /// Another key is another payment.
    Ignore,
}

/// What names the business operation of a route's requests, whatever their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Business {
    /// Where it stands; all of them together.
    pub fields: Vec<BusinessField>,
    /// How long it is bound to an operation that succeeded.
    pub window: Duration,
}

/// Bounds of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body, in bytes.
    pub request_body: usize,
    /// Largest answer that is kept, in bytes.
    pub response_body: usize,
    /// How many duplicates may wait at the same time, on this route.
    pub waiters: NonZeroUsize,
}

/// What was configured for guarded requests.
#[derive(Debug)]
pub struct Policy {
    /// Where keys may stand, in order.
    pub sources: Vec<KeySource>,
    /// What becomes of a request without one.
    pub missing: Missing,
    /// Who shares a key space.
    pub scope: ScopeRule,
    /// What a duplicate must match.
    pub fingerprint: FingerprintRules,
    /// What names the business operation, if anything does.
    pub business: Option<Business>,
    /// Whether retries under another key are recognised.
    pub orphans: Orphans,
    /// What duplicates do meanwhile.
    pub duplicates: Duplicates,
    /// How long a duplicate waits from its arrival, and the first caller from the end of the
    /// upstream call.
    pub max_wait: Duration,
    /// Silence after which the provider is asked while the call is still open.
    pub lookup_after: Duration,
    /// How long the upstream call may last.
    pub upstream_timeout: Duration,
    /// How long an owner may be silent.
    pub lease: Duration,
    /// How long a settled answer is kept.
    pub retention: Duration,
    /// How long its tombstone stays after that.
    pub remember: Duration,
    /// Bounds.
    pub limits: Limits,
    /// What answers mean.
    pub outcomes: OutcomeTable,
    /// What is put into requests, so that they are found again.
    pub reference: Option<ReferenceRule>,
    /// How the provider is asked.
    pub lookup: Option<Arc<LookUp>>,
    /// Whether what is in doubt is sent again, within how long, and which statuses beside 2xx are
    /// then its outcome.
    pub resend: Option<(Duration, Vec<u16>)>,
    /// What becomes of requests without a store.
    pub on_store_failure: OnStoreFailure,
    /// The shape of semel's own answers.
    pub errors: Shape,
}

/// One segment of a path pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Named(String),
}

/// `/v1/payments/{id}/capture`, or `/v1/**` for everything below (and `/v1` itself).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    segments: Vec<Segment>,
    rest: bool,
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(literal) => write!(f, "/{literal}")?,
                Segment::Named(name) => write!(f, "/{{{name}}}")?,
            }
        }
        if self.rest { f.write_str("/**") } else { Ok(()) }
    }
}

/// Why a text is not a path pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternInvalid {
    /// It must start with a slash.
    #[error("a path starts with /")]
    NoSlash,
    /// `**` stands only at the end.
    #[error("/** stands only at the end of a path")]
    RestInside,
    /// A segment has a brace but is not `{name}`.
    #[error("a segment with braces is {{name}} and nothing else")]
    Braces,
    /// No query and no fragment.
    #[error("a path has no ? and no #")]
    Query,
}

impl std::str::FromStr for PathPattern {
    type Err = PatternInvalid;

    fn from_str(text: &str) -> Result<Self, PatternInvalid> {
        if text.contains(['?', '#']) {
            return Err(PatternInvalid::Query);
        }
        let path = text.strip_prefix('/').ok_or(PatternInvalid::NoSlash)?;
        let (path, rest) = match path.strip_suffix("**") {
            Some("") => return Ok(Self { segments: vec![], rest: true }),
            Some(front) => (front.strip_suffix('/').ok_or(PatternInvalid::RestInside)?, true),
            None => (path, false),
        };
        let segments = path.split('/').map(segment).collect::<Result<_, _>>()?;
        Ok(Self { segments, rest })
    }
}

fn segment(text: &str) -> Result<Segment, PatternInvalid> {
    if text == "**" {
        return Err(PatternInvalid::RestInside);
    }
    if !text.contains(['{', '}']) {
        return Ok(Segment::Literal(text.to_owned()));
    }
    text.strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'))
        .filter(|name| !name.is_empty() && !name.contains(['{', '}']))
        .map(|name| Segment::Named(name.to_owned()))
        .ok_or(PatternInvalid::Braces)
}

impl PathPattern {
    /// Whether the path (percent-encoded as it came) is meant.
    pub fn matches(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else { return false };
        let mut actual = path.split('/');
        for expected in &self.segments {
            let fits = match (expected, actual.next()) {
                (Segment::Literal(literal), Some(actual)) => literal == actual,
                (Segment::Named(_), Some(actual)) => !actual.is_empty(),
                (_, None) => false,
            };
            if !fits {
                return false;
            }
        }
        self.rest || actual.next().is_none()
    }

    /// The names of its `{…}` segments.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Named(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        })
    }

    /// What a path has in the place of each name, percent-encoded as it came.
    pub fn captures<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let actual = path.strip_prefix('/').unwrap_or(path).split('/');
        self.segments.iter().zip(actual).filter_map(|(segment, actual)| match segment {
            Segment::Named(name) => Some((name.as_str(), actual)),
            Segment::Literal(_) => None,
        })
    }
}

/// One row of the route table.
#[derive(Debug)]
pub struct Route {
    /// Its name in metrics, logs and records.
    pub name: String,
    /// Which methods; empty: every unsafe method.
    pub methods: Vec<Method>,
    /// Which paths.
    pub path: PathPattern,
    /// The name of its upstream.
    pub upstream: String,
    /// What is done with its requests.
    pub mode: Mode,
    /// How.
    pub policy: Arc<Policy>,
}

/// The route table: first match wins.
#[derive(Debug, Clone)]
pub struct Table {
    routes: Vec<Arc<Route>>,
    fallback: Arc<Route>,
    /// Those of upstreams that have one of their own, for ports that serve only them.
    others: Vec<Arc<Route>>,
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub enum Routed {
    /// To be guarded (or, in observe mode, watched).
    Guarded(Arc<Route>),
    /// To be streamed through to this upstream.
    Pass {
        /// The upstream's name.
        upstream: String,
    },
}

/// Whether a method changes nothing by its definition: GET, HEAD, OPTIONS, TRACE.
pub fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

impl Table {
    /// Takes the routes in their order, and the one for unsafe requests that none of them matches.
    pub const fn new(routes: Vec<Arc<Route>>, fallback: Arc<Route>) -> Self {
        Self { routes, fallback, others: vec![] }
    }

    /// The same, with routes for unsafe requests that match none on ports of single upstreams.
    #[must_use]
    pub fn with_fallbacks(self, others: Vec<Arc<Route>>) -> Self {
        Self { others, ..self }
    }

    /// Finds the route of a request. An unsafe request always has one.
    pub fn route(&self, method: &Method, path: &str) -> Routed {
        let route = self.routes.iter().find(|route| route.meets(method, path));
        let route = match route {
            Some(route) => route,
            None if is_safe(method) => {
                return Routed::Pass { upstream: self.fallback.upstream.clone() };
            }
            None => &self.fallback,
        };
        match route.mode {
            Mode::Off => Routed::Pass { upstream: route.upstream.clone() },
            Mode::Enforce | Mode::Observe => Routed::Guarded(Arc::clone(route)),
        }
    }

    /// The table of a port that serves one upstream only.
    #[must_use]
    pub fn only(&self, upstream: &str) -> Self {
        let routes = self.routes.iter().filter(|route| route.upstream == upstream);
        let own = std::iter::once(&self.fallback).chain(&self.others);
        let own = own.into_iter().find(|fallback| fallback.upstream == upstream);
        let fallback = if let Some(own) = own {
            Arc::clone(own)
        } else {
            Arc::new(Route {
                name: format!("{}:{upstream}", self.fallback.name),
                methods: self.fallback.methods.clone(),
                path: self.fallback.path.clone(),
                upstream: upstream.to_owned(),
                mode: self.fallback.mode,
                policy: Arc::clone(&self.fallback.policy),
            })
        };
        Self { routes: routes.cloned().collect(), fallback, others: vec![] }
    }

    /// All routes, the fallback last.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter().chain(std::iter::once(&self.fallback))
    }

    /// The route for unsafe requests that no other matches.
    pub const fn fallback(&self) -> &Arc<Route> {
        &self.fallback
    }

    /// The route of that name, if it is still configured.
    pub fn named(&self, name: &str) -> Option<&Arc<Route>> {
        self.routes().find(|route| route.name == name)
    }
}

impl Route {
    /// What a request has in the place of the reference, if the route names one. Who only watches
    /// puts nothing there: a watched duplicate is forwarded as it came, and so is the first.
    pub fn slot(&self, request: &RequestView<'_>) -> Option<Slot> {
        match (self.policy.reference.as_ref()?.slot(request), self.mode) {
            (Slot::Open(_), Mode::Observe | Mode::Off) => Some(Slot::Closed(LeftAlone::Watched)),
            (slot, _) => Some(slot),
        }
    }

    fn meets(&self, method: &Method, path: &str) -> bool {
        let method_fits = match self.methods.as_slice() {
            // A route without methods is about unsafe ones; safe ones pass.
            [] => self.mode == Mode::Off || !is_safe(method),
            methods => methods.contains(method),
        };
        method_fits && self.path.matches(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        pattern.parse::<PathPattern>().unwrap().matches(path)
    }

    #[test]
    fn patterns_match_by_segment() {
        assert!(matches("/v1/payments", "/v1/payments"));
        assert!(!matches("/v1/payments", "/v1/payments/"));
        assert!(!matches("/v1/payments", "/v1/payments/7"));
        assert!(matches("/v1/payments/{id}/capture", "/v1/payments/7/capture"));
        assert!(!matches("/v1/payments/{id}/capture", "/v1/payments//capture"));
        assert!(matches("/v1/**", "/v1/a/b"));
        assert!(matches("/v1/**", "/v1"));
        assert!(!matches("/v1/**", "/v2/a"));
        assert!(matches("/**", "/"));
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        for (text, why) in [
            ("v1", PatternInvalid::NoSlash),
            ("/**/v1", PatternInvalid::RestInside),
            ("/v1**", PatternInvalid::RestInside),
            ("/{id", PatternInvalid::Braces),
            ("/a?b", PatternInvalid::Query),
        ] {
            assert_eq!(text.parse::<PathPattern>(), Err(why), "{text}");
        }
    }

    #[test]
    fn captures_are_by_name() {
        let pattern: PathPattern = "/v1/payments/{id}/capture".parse().unwrap();

        let captures: Vec<_> = pattern.captures("/v1/payments/a%2Fb/capture").collect();

        assert_eq!(captures, [("id", "a%2Fb")]);
    }
}
