//! Asks store and upstreams whether what the config says of them is so. Reads only: nothing is
//! founded, written or taken; an embedded store that a process runs on is left alone.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::DATE;
use http::{Method, Request};
use tokio::net::lookup_host;
use tokio::time::{Instant, sleep};

use super::trial::{self, Trial, Tried};
use super::{open_store, secrets};
use crate::config::Config;
use crate::config::checked::{Place, Upstream as UpstreamConfig};
use crate::entropy::{self, Entropy, OsEntropy};
use crate::ledger::{EnrolError, Ledger};
use crate::protocol::outcome::Finding;
use crate::proxy::route::{Mode, Route};
use crate::store::embedded::probe::{Probe, probe};
use crate::store::{Charter, Examination, SharedStore};
use crate::task::Tasks;
use crate::upstream::lookup::LookUp;
use crate::upstream::{HttpUpstream, Upstream};

/// How long the pace of the store's clock is watched, and by how much it may differ from ours.
const PACE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(250));
/// How long an upstream's answer may take, and how long it may be, in bytes.
const ANSWER_MAX: (Duration, usize) = (Duration::from_secs(10), 1 << 20);
/// By how much a provider's clock may differ from ours: look-ups that filter by date allow as much.
const SKEW_MAX: Duration = Duration::from_secs(60);
/// How little room a store may have left.
const HEADROOM_MIN: f64 = 0.2;

/// How much something matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// As it should be.
    Fine,
    /// Legal, but that somebody should know.
    Warning,
    /// It would not work.
    Fault,
}

/// What asking showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The place in the config that it is about.
    pub place: String,
    /// How much it matters.
    pub weight: Weight,
    /// What it is, and what to do.
    pub message: String,
}

#[derive(Default)]
struct Found(Vec<News>);

impl Found {
    fn add(&mut self, weight: Weight, place: &str, message: impl Into<String>) {
        self.0.push(News { place: place.to_owned(), weight, message: message.into() });
    }

    fn fine(&mut self, place: &str, message: impl Into<String>) {
        self.add(Weight::Fine, place, message);
    }

    fn warn(&mut self, place: &str, message: impl Into<String>) {
        self.add(Weight::Warning, place, message);
    }

    fn fault(&mut self, place: &str, message: impl Into<String>) {
        self.add(Weight::Fault, place, message);
    }
}

/// Asks everything.
pub async fn ask(config: &Config) -> Vec<News> {
    let mut found = Found::default();
    store(config, &mut found).await;
    let tasks = Tasks::default();
    for upstream in &config.upstreams {
        let Some(http) = reached(upstream, &tasks, &mut found).await else { continue };
        let routes = config.placed_routes();
        for (place, route) in routes.filter(|(_, route)| route.upstream == upstream.name) {
            if let (Some(lookup), false) = (&route.policy.lookup, route.mode == Mode::Off) {
                let at = format!("{place}.lookup");
                look_up(&at, route, lookup, Arc::clone(&http), &mut found).await;
            }
        }
    }
    found.0
}

async fn store(config: &Config, found: &mut Found) {
    match &config.store.place {
        Place::Memory => found.warn("store", "it is in memory: a restart forgets every payment"),
        Place::Embedded { path } => embedded(config, path, found),
        Place::Redis { .. } => match open_store(config, false) {
            Ok((store, _)) => redis(config, store, found).await,
            Err(error) => found.fault("store.url", error.to_string()),
        },
    }
}

fn embedded(config: &Config, path: &Path, found: &mut Found) {
    let at = "store.path";
    let probed = match probe(path) {
        Ok(probed) => probed,
        Err(error) => return found.fault(at, error.to_string()),
    };
    for warning in probed.warnings {
        weigh(config, at, warning, found);
    }
    match probed.state {
        Probe::Missing if config.store.create => {
            found.warn(at, "there is none yet; it will be made at start");
        }
        Probe::Missing => found.fault(at, "there is none; run `semel store init`"),
        Probe::InUse => found.fine(
            at,
            "in use by a running semel, which was left alone; ask it: readyz?store=1 on its admin \
             port",
        ),
        Probe::Idle(charter) => charter_fits(config, at, charter, found),
    }
}

async fn redis(config: &Config, store: SharedStore, found: &mut Found) {
    let began = Instant::now();
    let charter = match store.charter().await {
        Ok(charter) => charter,
        Err(error) => return found.fault("store.url", error.to_string()),
    };
    let took = began.elapsed();
    charter_fits(config, "store", charter, found);
    match store.examine().await {
        Ok(examined) => examination(config, &examined, took, found),
        Err(error) => found.fault("store", format!("it cannot be examined: {error}")),
    }
    // Binds to the charter, if it fits, so that records may be read; never founds.
    let ledger = Ledger::new(Arc::clone(&store), secrets(config), Arc::new(OsEntropy));
    if ledger.enrol(config.key_rules_digest(), false).await.is_ok() {
        clock(&store, found).await;
    }
}

fn charter_fits(config: &Config, at: &str, charter: Option<Charter>, found: &mut Found) {
    let Some(charter) = charter else {
        return match config.store.create {
            true => found.warn(at, "it is empty; it will be taken into use at start"),
            false => found.fault(at, EnrolError::NotFounded.to_string()),
        };
    };
    if charter.secret_check != config.secrets.index.check() {
        return found.fault("secret", EnrolError::OtherSecret.to_string());
    }
    if charter.rules != config.key_rules_digest() {
        return found.fault("routes", EnrolError::OtherRules.to_string());
    }
    let (identity, generation) = (charter.identity, charter.generation);
    found.fine(at, format!("identity {identity}, generation {generation}; secret and rules fit"));
}

fn examination(config: &Config, examined: &Examination, took: Duration, found: &mut Found) {
    let entries = examined.entries.map_or_else(String::new, |n| format!(", {n} entries"));
    let took = took.as_secs_f64() * 1000.0;
    found.fine(
        "store",
        format!("{}{entries}; answers in {took:.1} ms (asked by reading only)", examined.what),
    );
    for refusal in &examined.refusals {
        found.fault("store", refusal);
    }
    for warning in &examined.warnings {
        weigh(config, "store", warning.clone(), found);
    }
    if let Some(headroom) = examined.headroom.filter(|headroom| *headroom < HEADROOM_MIN) {
        let percent = headroom * 100.0;
        found.warn("store", format!("only {percent:.0} % of it are free; full, it refuses claims"));
    }
}

/// A warning, or a fault where the config is strict.
fn weigh(config: &Config, at: &str, warning: String, found: &mut Found) {
    match config.store.strict {
        true => found.fault(at, format!("{warning} (refused because store.strict is on)")),
        false => found.warn(at, warning),
    }
}

/// Whether the store's clock keeps pace with ours.
async fn clock(store: &SharedStore, found: &mut Found) {
    let began = Instant::now();
    let first = store.due(1).await;
    sleep(PACE.0).await;
    let second = store.due(1).await;
    let (ours, (Ok(first), Ok(second))) = (began.elapsed(), (first, second)) else {
        return found.fault("store", "its clock cannot be read");
    };
    let theirs = second.clock.saturating_sub(first.clock);
    match theirs.abs_diff(ours) > PACE.1 {
        true => found.warn(
            "store",
            format!("its clock went {theirs:.1?} in {ours:.1?}; ages are told by it"),
        ),
        false => found.fine("store", "its clock keeps pace"),
    }
}

/// Name, address, TLS, and an answer of any kind.
async fn reached(
    upstream: &UpstreamConfig,
    tasks: &Tasks,
    found: &mut Found,
) -> Option<Arc<dyn Upstream>> {
    let at = format!("upstreams.{}.url", upstream.name);
    let http = match HttpUpstream::new(&upstream.settings, tasks) {
        Ok(http) => http,
        Err(error) => {
            found.fault(&at, error.to_string());
            return None;
        }
    };
    let url = &upstream.settings.url;
    if let Err(error) = lookup_host((url.host(), url.port())).await {
        found.fault(&at, format!("the name {} does not resolve: {error}", url.host()));
        return None;
    }
    if let Err(error) = http.reach().await {
        found.fault(&at, unreachable(&error, upstream.settings.connect_timeout));
        return None;
    }
    let http: Arc<dyn Upstream> = Arc::new(http);
    let request = Request::builder().method(Method::HEAD).uri("/").body(Bytes::new());
    let Ok(request) = request else { return Some(http) };
    let began = Instant::now();
    match http.ask(request, ANSWER_MAX.0, ANSWER_MAX.1).await {
        Ok(answer) => {
            let (status, took) = (answer.status().as_u16(), began.elapsed());
            found.fine(&at, format!("answers in {} ms ({status} to HEAD /)", took.as_millis()));
            let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
            skew(&at, date, found);
        }
        Err(error) => found.warn(&at, format!("it can be connected to, but: {error}")),
    }
    Some(http)
}

fn unreachable(error: &io::Error, connect_timeout: Duration) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(tls) = tls {
        return format!("its TLS is not accepted: {tls}");
    }
    if error.kind() == io::ErrorKind::TimedOut {
        return format!("no connection within connect_timeout ({connect_timeout:?})");
    }
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return "nobody listens there (connection refused)".to_owned();
    }
    format!("it cannot be connected to: {error}")
}

#[expect(clippy::disallowed_methods, reason = "compared with the provider's wall clock")]
fn skew(at: &str, date: Option<&str>, found: &mut Found) {
    let Some(theirs) = date.and_then(|date| httpdate::parse_http_date(date).ok()) else { return };
    let ours = SystemTime::now();
    let apart = ours.duration_since(theirs).or_else(|_| theirs.duration_since(ours));
    if let Some(apart) = apart.ok().filter(|apart| *apart > SKEW_MAX) {
        let apart = apart.as_secs();
        found.warn(at, format!("its clock and this machine's differ by {apart} s"));
    }
}

/// Looks up what cannot exist: only the credential, and what the answer is taken for, can matter.
async fn look_up(
    at: &str,
    route: &Route,
    lookup: &Arc<LookUp>,
    upstream: Arc<dyn Upstream>,
    found: &mut Found,
) {
    let drawn: [u8; 12] = entropy::draw(&OsEntropy as &dyn Entropy);
    let nonsense: String = drawn.iter().map(|byte| format!("{byte:02x}")).collect();
    let nonsense = format!("semel-check-{nonsense}");
    let inputs = lookup.input_names().into_iter().map(|name| (name, nonsense.clone())).collect();
    let trial = Trial { inputs, claimed: Duration::ZERO };
    let tried = trial::ask(upstream, &route.upstream, lookup, trial).await;
    judge(at, &route.name, &tried, found);
}

fn judge(at: &str, route: &str, tried: &Tried, found: &mut Found) {
    let status = tried.exchanges.last().and_then(|(exchange, _)| exchange.status);
    let said = status.map_or_else(|| "no answer".to_owned(), |status| format!("status {status}"));
    let credentials = format!("{at}.credentials");
    match (&tried.finding, status) {
        (_, Some(401 | 403)) => found.fault(
            &credentials,
            format!("wrong look-up credential: {said}; nothing on route {route} can be looked up"),
        ),
        (Finding::Absent, _) => {
            found.fine(at, format!("what does not exist is absent ({said}), as it must be"));
        }
        (Finding::Final(_) | Finding::Accepted, _) => found.fault(
            at,
            format!(
                "it finds an operation for values that cannot exist ({said}): its item matches \
                 what is not asked for, and would settle payments by others' outcomes"
            ),
        ),
        (Finding::Unclear(why) | Finding::Failed(why), _) => found.warn(
            at,
            format!(
                "for values that cannot exist it comes to: {why}; whether it is right, \
                 `semel lookup try` shows with a real one"
            ),
        ),
    }
}
