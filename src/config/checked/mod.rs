//! What the config means, in the types of the modules that use it: a [`Config`] cannot be wrong.
//!
//! Every part notes what is wrong with it and goes on, so that all of it is known at once. Read
//! next: [`routes`], then `upstreams` and `lookup`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::problems::{Problems, member};
use super::raw::{self, Log};
use super::secrets::{self, Keep, Outside, Secrets};
use super::text::{SecretText, SpanText};
use crate::proxy::route::{Route, Table};

mod absent;
mod business;
mod key_rules;
mod lookup;
mod reference;
mod routes;
mod upstreams;

pub use upstreams::Upstream;

/// The data folder where none is configured.
const DATA_FOLDER: &str = "./semel-data";

/// What is added to the longest attempt and wait, to end in good order.
const DRAIN_MARGIN: Duration = Duration::from_secs(5);

/// Everything that is configured, checked.
#[derive(Debug)]
pub struct Config {
    /// The data port.
    pub listen: SocketAddr,
    /// The admin port.
    pub admin: Admin,
    /// Where records are kept.
    pub store: Store,
    /// What records depend on.
    pub secrets: Secrets,
    /// The payment APIs, in the order of the file; at least one.
    pub upstreams: Vec<Upstream>,
    /// The routes of the data port.
    pub routes: Table,
    /// Bounds of the data ports.
    pub server: Server,
    /// Whether callers may ask under `/.well-known/semel/`.
    pub well_known: bool,
    /// How long a stop waits for attempts.
    pub drain: Duration,
    /// Form of the logs.
    pub log: Log,
    /// What is legal, but to be said at start.
    pub warnings: Vec<String>,
    /// What was made meanwhile, to be said at start.
    pub news: Vec<String>,
    places: Vec<String>,
    key_rules: [u8; 32],
}

/// The admin port.
#[derive(Debug)]
pub struct Admin {
    /// Its address.
    pub listen: SocketAddr,
    /// Its bearer token.
    pub token: SecretText,
}

/// Where records are kept.
#[derive(Debug)]
pub struct Store {
    /// Which store.
    pub place: Place,
    /// Whether an empty one is taken into use.
    pub create: bool,
    /// Whether one that may lose records is refused.
    pub strict: bool,
    /// How many bytes of settled records may be recalled.
    pub recall: usize,
}

/// Which store.
#[derive(Debug)]
pub enum Place {
    /// In memory.
    Memory,
    /// A database in a folder.
    Embedded {
        /// The folder.
        path: PathBuf,
    },
    /// Redis or Valkey.
    Redis {
        /// Its address, perhaps with a password.
        url: SecretText,
        /// Its password, if it is not in the address.
        password: Option<SecretText>,
    },
}

/// Bounds of the data ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    /// How many connections are served at the same time.
    pub connections_max: usize,
    /// How many header fields a request may have.
    pub headers_max: usize,
    /// How large the head of a request may be, in bytes.
    pub header_bytes_max: usize,
    /// How long the head of a request may take.
    pub header_timeout: Duration,
    /// How long a connection may stay open without a request.
    pub idle_timeout: Duration,
    /// How long the next part of a body may take.
    pub body_timeout: Duration,
    /// How long a whole body may take.
    pub whole_body_timeout: Duration,
    /// How long a caller may take nothing of its answer.
    pub write_timeout: Duration,
}

impl Config {
    /// Digest of the rules by which requests are named: the same for two configs exactly if they
    /// derive the same record keys from the same requests, under the same secret.
    pub const fn key_rules_digest(&self) -> [u8; 32] {
        self.key_rules
    }

    /// All routes, the fallback last, each with its place in the file.
    pub fn placed_routes(&self) -> impl Iterator<Item = (&str, &Arc<Route>)> {
        self.places.iter().map(String::as_str).zip(self.routes.routes())
    }

    /// The upstream of that name.
    pub fn upstream(&self, name: &str) -> Option<&Upstream> {
        self.upstreams.iter().find(|upstream| upstream.name == name)
    }
}

/// Gives the file its meaning; `None`: there are problems.
pub fn check(file: &raw::File, outside: Outside<'_>, problems: &mut Problems) -> Option<Config> {
    let listen = address("listen", &file.listen, problems);
    let admin_listen = address("admin.listen", &file.admin.listen, problems);
    let store = store(&file.store, outside, problems);
    let server = server(&file.server, problems);
    let upstreams = upstreams::check(&file.upstreams, problems);
    let routes = routes::check(file, outside, problems);
    let drain = file.drain.as_ref().map(|drain| span("drain", drain, problems));
    distinct(file, listen, admin_listen, problems);

    let folder = folder(&file.store);
    let keep = keep(&file.store);
    let token = secrets::token(file.admin.token.as_ref(), &folder, outside, problems);
    let secrets = secrets::obtain(&file.secret, &keep, outside, problems);

    let routes = routes?;
    let drain = match drain {
        Some(drain) => drain?,
        None => default_drain(&routes.table),
    };
    if !problems.is_empty() {
        return None;
    }
    Some(Config {
        listen: listen?,
        admin: Admin { listen: admin_listen?, token: token? },
        store: store?,
        secrets: secrets?,
        upstreams: upstreams?,
        routes: routes.table,
        server: server?,
        well_known: file.well_known,
        drain,
        log: file.log,
        warnings: problems.warnings(),
        news: problems.news().to_vec(),
        places: routes.places,
        key_rules: routes.key_rules,
    })
}

/// An address with a port.
pub(super) fn address(place: &str, text: &str, problems: &mut Problems) -> Option<SocketAddr> {
    let expected = "expected an address and a port, like 127.0.0.1:7411 or [::1]:7411";
    problems.note(place, text.parse().map_err(|_| expected))
}

/// No two ports listen at the same place. Port 0 is a free one, and so never the same.
fn distinct(
    file: &raw::File,
    listen: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    problems: &mut Problems,
) {
    let mut taken = BTreeMap::new();
    let upstreams = file.upstreams.0.iter().filter_map(|(name, upstream)| {
        let listen = upstream.listen.as_ref()?.parse().ok();
        Some((format!("upstreams.{name}.listen"), listen))
    });
    let ports = [("listen".to_owned(), listen), ("admin.listen".to_owned(), admin)];
    for (place, listen) in ports.into_iter().chain(upstreams) {
        let Some(listen) = listen.filter(|listen| listen.port() != 0) else { continue };
        if let Some(first) = taken.get(&listen) {
            problems.fault(&place, format!("the same address as `{first}`"));
        } else {
            taken.insert(listen, place);
        }
    }
}

fn store(raw: &raw::Store, outside: Outside<'_>, problems: &mut Problems) -> Option<Store> {
    let only_for = |place: &str, kind: &str, given: bool, problems: &mut Problems| {
        if given {
            problems.fault(place, format!("is for `kind: {kind}` only"));
        }
    };
    if raw.kind != raw::StoreKind::Embedded {
        only_for("store.path", "embedded", raw.path.is_some(), problems);
    }
    if raw.kind != raw::StoreKind::Redis {
        only_for("store.url", "redis", raw.url.is_some(), problems);
        only_for("store.password", "redis", raw.password.is_some(), problems);
    }
    let place = match raw.kind {
        raw::StoreKind::Memory => Place::Memory,
        raw::StoreKind::Embedded => {
            let path = folder(raw);
            if path == Path::new("") {
                problems.fault("store.path", "expected a folder");
            }
            Place::Embedded { path }
        }
        raw::StoreKind::Redis => {
            let url = redis_url(raw, problems);
            let password = raw.password.as_ref();
            let password =
                password.map(|source| secrets::text(source, "store.password", outside, problems));
            let password = match password {
                Some(password) => Some(password?),
                None => None,
            };
            Place::Redis { url: url?, password }
        }
    };
    let recall = problems.note("store.recall", raw.recall.parse_or_none())?;
    Some(Store { place, create: raw.create, strict: raw.strict, recall })
}

fn redis_url(raw: &raw::Store, problems: &mut Problems) -> Option<SecretText> {
    let Some(url) = &raw.url else {
        problems.fault("store.url", "is missing; `kind: redis` needs it");
        return None;
    };
    // What exactly it may say is the store's to know; its error might show the password.
    let host =
        ["redis://", "rediss://"].iter().find_map(|scheme| url.expose().strip_prefix(scheme));
    if host.is_none_or(str::is_empty) {
        problems.fault("store.url", "expected an address like redis://127.0.0.1:6379");
        return None;
    }
    Some(url.clone())
}

/// The data folder: the embedded store's, or the default one.
pub(super) fn folder(raw: &raw::Store) -> PathBuf {
    PathBuf::from(raw.path.as_deref().unwrap_or(DATA_FOLDER))
}

fn keep(raw: &raw::Store) -> Keep {
    match raw.kind {
        raw::StoreKind::Embedded => Keep::Beside(folder(raw)),
        raw::StoreKind::Redis => Keep::Shared(folder(raw).join("secret")),
        raw::StoreKind::Memory => Keep::Nowhere,
    }
}

fn server(raw: &raw::Server, problems: &mut Problems) -> Option<Server> {
    let connections_max = count("server.connections_max", raw.connections_max, problems);
    let headers_max = count("server.header_fields", raw.header_fields.into(), problems);
    let header_bytes_max = problems.note("server.header_bytes", raw.header_bytes.parse());
    let header_timeout = some_span("server.header_timeout", &raw.header_timeout, problems);
    let idle_timeout = some_span("server.idle_timeout", &raw.idle_timeout, problems);
    let body_timeout = some_span("server.body_timeout", &raw.body_timeout, problems);
    let whole = some_span("server.whole_body_timeout", &raw.whole_body_timeout, problems);
    let write_timeout = some_span("server.write_timeout", &raw.write_timeout, problems);
    Some(Server {
        connections_max: connections_max?,
        headers_max: headers_max?,
        header_bytes_max: header_bytes_max?,
        header_timeout: header_timeout?,
        idle_timeout: idle_timeout?,
        body_timeout: body_timeout?,
        whole_body_timeout: whole?,
        write_timeout: write_timeout?,
    })
}

/// Time for every attempt to end and every duplicate to hear of it.
fn default_drain(table: &Table) -> Duration {
    let policies = || table.routes().map(|route| &route.policy);
    let attempt = policies().map(|policy| policy.upstream_timeout).max().unwrap_or_default();
    let wait = policies().map(|policy| policy.max_wait).max().unwrap_or_default();
    attempt + wait + DRAIN_MARGIN
}

fn span(place: &str, text: &SpanText, problems: &mut Problems) -> Option<Duration> {
    problems.note(place, text.parse())
}

/// A duration that is more than none.
fn some_span(place: &str, text: &SpanText, problems: &mut Problems) -> Option<Duration> {
    let span = span(place, text, problems)?;
    problems.note(place, Some(span).filter(|span| !span.is_zero()).ok_or("must be more than 0"))
}

/// A number that is more than none.
fn count(place: &str, number: u32, problems: &mut Problems) -> Option<usize> {
    let number = usize::try_from(number).ok().filter(|number| *number > 0);
    problems.note(place, number.ok_or("must be more than 0"))
}

/// A header's name.
fn header(place: &str, text: &str, problems: &mut Problems) -> Option<http::HeaderName> {
    problems.note(place, text.parse().map_err(|_| "expected the name of a header"))
}

/// Everything in a list, checked, or `None` if one thing in it is wrong. All are looked at.
fn each<T, U>(
    at: &str,
    list: &[T],
    problems: &mut Problems,
    check: impl Fn(&str, &T, &mut Problems) -> Option<U>,
) -> Option<Vec<U>> {
    let list = list.iter().enumerate();
    let checked: Vec<_> =
        list.map(|(i, item)| check(&format!("{at}[{i}]"), item, problems)).collect();
    checked.into_iter().collect()
}

/// The place of something in a thing.
fn under(at: &str, name: &str) -> String {
    member(at, name)
}
