//! Config → [`App`] → [`App::run`]: the only wiring.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::attempt::{Attempts, Flights, WallClock};
use crate::config::Config;
use crate::config::checked::Place;
use crate::entropy::{Entropy, OsEntropy};
use crate::ledger::{EnrolError, Ledger, Secrets};
use crate::metrics::Metrics;
use crate::protocol::id::OperationId;
use crate::protocol::seal::Seals;
use crate::proxy::problem::{Problem, Slug};
use crate::proxy::{Proxy, UnknownUpstream, WellKnown, stack};
use crate::reconcile::Reconciler;
use crate::server::{Server, Settings};
use crate::store::embedded::{self, EmbeddedStore, OpenError};
use crate::store::memory::MemoryStore;
use crate::store::metered::MeteredStore;
use crate::store::redis::{self, RedisStore, SettingsError};
use crate::store::{Charter, SharedStore, StoreError};
use crate::task::{Drained, Tasks};
use crate::upstream::HttpUpstream;
use crate::upstream::Upstream;
use crate::upstream::settings::SettingsInvalid;

pub mod live;
pub mod trial;

/// How often the store's condition is examined.
const EXAMINE_EVERY: Duration = Duration::from_secs(15);
/// How long attempts have, when the grace of a drain is over, to put themselves on record.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How long what is in hand is delivered after the store's medium has failed.
const BROKEN_GRACE: Duration = Duration::from_secs(5);

/// Why the process did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The embedded store could not be opened.
    #[error(transparent)]
    Embedded(#[from] OpenError),
    /// The Redis settings are unusable.
    #[error(transparent)]
    Redis(#[from] SettingsError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store may not be worked on.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The store might lose records.
    #[error("the store is not fit to hold claims: {0}")]
    Unfit(String),
    /// An upstream's settings are unusable.
    #[error("upstream {0}: {1}")]
    Upstream(String, SettingsInvalid),
    /// A route names an upstream that is not there.
    #[error(transparent)]
    UnknownUpstream(#[from] UnknownUpstream),
    /// An address cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// Our own mistake.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl StartError {
    /// Whether another process has the store, and it takes only one.
    pub const fn is_in_use(&self) -> bool {
        matches!(self, Self::Embedded(OpenError::InUse { .. }))
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop, and did.
    Stopped(Drained),
    /// The store's medium failed.
    StoreBroken,
}

/// One process, ready to run.
#[derive(Debug)]
pub struct App {
    tasks: Tasks,
    ledger: Arc<Ledger>,
    ports: Vec<(Server, Arc<Proxy>)>,
    admin: (Server, Arc<Admin>),
    reconciler: Reconciler,
    wishes: mpsc::Receiver<OperationId>,
    drain: Duration,
    broken: CancellationToken,
}

/// A store that was opened, and what is cancelled when its medium fails.
pub type Opened = (SharedStore, CancellationToken);

/// Opens the configured store. `accept`: also one whose folder shows that it lost its database.
///
/// # Errors
/// [`StartError`], which says what to do.
pub fn open_store(config: &Config, accept: bool) -> Result<Opened, StartError> {
    Ok(match &config.store.place {
        Place::Memory => {
            tracing::warn!("the store is in memory: a restart forgets every payment");
            (Arc::new(MemoryStore::default()), CancellationToken::new())
        }
        Place::Embedded { path } => {
            let settings = embedded::Settings { accept, ..embedded::Settings::at(path) };
            let store = EmbeddedStore::open(&settings)?;
            let broken = store.broken();
            (Arc::new(store), broken)
        }
        Place::Redis { url, password } => {
            let settings = redis::Settings::new(with_password(url.expose(), password.as_ref()));
            (Arc::new(RedisStore::connect(&settings)?), CancellationToken::new())
        }
    })
}

/// Puts a password that was configured apart into the address.
fn with_password(url: &str, password: Option<&crate::config::text::SecretText>) -> String {
    let Some(password) = password else { return url.to_owned() };
    let encoded = percent_encoding::utf8_percent_encode(
        password.expose(),
        percent_encoding::NON_ALPHANUMERIC,
    );
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.split_once('@') {
        Some((user, host)) => format!("{scheme}://{user}:{encoded}@{host}"),
        None => format!("{scheme}://:{encoded}@{rest}"),
    }
}

/// The ledger's secrets, as configured.
pub fn secrets(config: &Config) -> Secrets {
    let mut seals = config.secrets.seal.iter().cloned();
    // There is always one: it is made if none is configured.
    let newest = seals.next().unwrap_or_else(|| config.secrets.index.clone());
    Secrets {
        index: config.secrets.index.clone(),
        fingerprints: config.secrets.fingerprint.clone(),
        seals: Seals::new(newest, seals.collect()),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one wall clock, for look-ups that filter by date"
)]
fn wall_clock() -> u64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl App {
    /// Opens the store, binds the ports, and puts everything together. Nothing is served yet.
    ///
    /// # Errors
    /// [`StartError`], which says what to do.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let opened = open_store(&config, false)?;
        Self::start_on(config, opened).await
    }

    /// The same on a store that was opened elsewhere: shared with another process of a test, or with
    /// faults before it.
    ///
    /// # Errors
    /// [`StartError`], which says what to do.
    pub async fn start_on(config: Config, opened: Opened) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new()?);
        let tasks = Tasks::default();
        let (store, broken) = opened;
        let store: SharedStore = Arc::new(MeteredStore::new(store, Arc::clone(&metrics)));
        examine(&store, config.store.strict).await?;
        let entropy: Arc<dyn Entropy> = Arc::new(OsEntropy);
        let ledger = Ledger::new(store, secrets(&config), entropy).recalling(config.store.recall);
        let ledger = Arc::new(ledger);
        let charter = ledger.enrol(config.key_rules_digest(), config.store.create).await?;
        tracing::info!(store = %charter.identity, generation = charter.generation, "store ready");

        let upstreams = upstreams(&config, &tasks)?;
        let (flights, wishes) = Flights::new();
        let attempts = Attempts::new(
            Arc::clone(&ledger),
            Arc::clone(&flights),
            tasks.clone(),
            Arc::clone(&metrics),
        );
        let (ports, inquiries, resends) =
            bind_ports(&config, &upstreams, &attempts, &tasks, &metrics).await?;
        let reconciler = Reconciler::new(
            Arc::clone(&ledger),
            Arc::clone(&flights),
            inquiries,
            Arc::clone(&metrics),
            tasks.clone(),
        )
        .with_resends(resends);
        let admin = Admin::new(
            Arc::clone(&ledger),
            flights,
            reconciler.look_ups(),
            metrics,
            tasks.clone(),
            config.admin.token.expose().to_owned(),
        );
        let admin_port = bind(Settings::new(config.admin.listen)).await?;
        let admin = (admin_port, Arc::new(admin));
        Ok(Self { tasks, ledger, ports, admin, reconciler, wishes, drain: config.drain, broken })
    }

    /// The data ports: the main one, then those of single upstreams.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.ports.iter().map(|(server, _)| server.addr()).collect()
    }

    /// The admin port.
    pub const fn admin_addr(&self) -> SocketAddr {
        self.admin.0.addr()
    }

    /// Serves until `shutdown` is over, then drains.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Ended {
        let tasks = self.tasks;
        // The data ports refuse new work as soon as the process stops; the admin port stays, so
        // that the drain can be watched.
        let admin_until = CancellationToken::new();
        // Ends when the last data port has let its last caller go.
        let (serves, mut served) = mpsc::channel::<()>(1);
        for (server, proxy) in self.ports {
            let (serving, stopping) = (tasks.clone(), tasks.stopping().clone());
            let (service, serves) = (stack::stack(proxy), serves.clone());
            tasks.spawn(async move {
                server.serve(service, &serving, stopping).await;
                drop(serves);
            });
        }
        drop(serves);
        let (server, admin) = self.admin;
        let (serving, until) = (tasks.clone(), admin_until.clone());
        let service = admin.service();
        tasks.spawn(async move { server.serve(service, &serving, until).await });
        tasks.spawn(self.reconciler.run(self.wishes));
        tasks.spawn(watch_store(Arc::clone(&self.ledger), tasks.stopping().clone()));

        let ended = tokio::select! {
            biased;
            () = self.broken.cancelled() => {
                tracing::error!("the store's medium failed; delivering what is in hand, then ending");
                tasks.drain(BROKEN_GRACE, Duration::ZERO).await;
                Ended::StoreBroken
            }
            () = shutdown => {
                tracing::info!(attempts = tasks.attempts(), "draining");
                let over = Instant::now() + self.drain + LAST_WORDS;
                let drained = tasks.drain(self.drain, LAST_WORDS).await;
                // What is on record must still be told to those who wait for it.
                let _ = tokio::time::timeout_at(over, served.recv()).await;
                // That somebody left unanswered is noted when its connection ends.
                tasks.drain(LAST_WORDS, Duration::ZERO).await;
                Ended::Stopped(drained)
            }
        };
        admin_until.cancel();
        ended
    }
}

fn upstreams(
    config: &Config,
    tasks: &Tasks,
) -> Result<HashMap<String, Arc<dyn Upstream>>, StartError> {
    let mut upstreams: HashMap<String, Arc<dyn Upstream>> = HashMap::new();
    for upstream in &config.upstreams {
        let http = HttpUpstream::new(&upstream.settings, tasks)
            .map_err(|error| StartError::Upstream(upstream.name.clone(), error))?;
        upstreams.insert(upstream.name.clone(), Arc::new(http));
    }
    Ok(upstreams)
}

type Ports = Vec<(Server, Arc<Proxy>)>;
type Inquiries = HashMap<String, crate::attempt::Inquiry>;
type Resends = HashMap<String, Arc<crate::attempt::Resend>>;

/// The main data port, and one for each upstream that has its own.
async fn bind_ports(
    config: &Config,
    upstreams: &HashMap<String, Arc<dyn Upstream>>,
    attempts: &Attempts,
    tasks: &Tasks,
    metrics: &Arc<Metrics>,
) -> Result<(Ports, Inquiries, Resends), StartError> {
    let well_known = if config.well_known { WellKnown::Served } else { WellKnown::Forwarded };
    let own = config
        .upstreams
        .iter()
        .filter_map(|upstream| Some((upstream.listen?, config.routes.only(&upstream.name))));
    let tables = std::iter::once((config.listen, config.routes.clone())).chain(own);
    let (mut ports, mut inquiries, mut resends) = <(Ports, Inquiries, Resends)>::default();
    for (listen, table) in tables {
        let proxy = Proxy::new(
            table,
            upstreams.clone(),
            attempts.clone(),
            tasks.clone(),
            Arc::clone(metrics),
            well_known,
            wall_clock as WallClock,
        )?;
        inquiries.extend(proxy.inquiries());
        resends.extend(proxy.resends());
        let server = bind(server_settings(config, listen)).await?;
        ports.push((server, Arc::new(proxy)));
    }
    Ok((ports, inquiries, resends))
}

fn server_settings(config: &Config, listen: SocketAddr) -> Settings {
    let bounds = &config.server;
    Settings {
        connections_max: bounds.connections_max,
        headers_max: bounds.headers_max,
        header_bytes_max: bounds.header_bytes_max,
        header_timeout: bounds.header_timeout,
        idle_timeout: bounds.idle_timeout,
        body_timeout: bounds.body_timeout,
        whole_body_timeout: bounds.whole_body_timeout,
        write_timeout: bounds.write_timeout,
        // Whoever waits when the drain begins is answered as long as the drain lasts, and told what
        // is in doubt at its end.
        grace: config.drain + LAST_WORDS,
        overloaded: Problem::new(Slug::Overloaded).canned(),
        too_slow: Problem::new(Slug::RequestTimeout).canned(),
        ..Settings::new(listen)
    }
}

async fn bind(settings: Settings) -> Result<Server, StartError> {
    let listen = settings.listen;
    Server::bind(settings).await.map_err(|error| StartError::Listen(listen, error))
}

/// Examines a store before it is used.
///
/// # Errors
/// If it might lose records, or, where `strict`, if a restart of it might.
pub async fn examine(store: &SharedStore, strict: bool) -> Result<(), StartError> {
    let examined = store.examine().await?;
    if !examined.refusals.is_empty() {
        return Err(StartError::Unfit(examined.refusals.join("; ")));
    }
    if strict && !examined.warnings.is_empty() {
        let warnings = examined.warnings.join("; ");
        return Err(StartError::Unfit(format!("{warnings} (refused because store.strict is on)")));
    }
    for warning in &examined.warnings {
        tracing::warn!(store = examined.what, "{warning}");
    }
    tracing::info!(store = examined.what, entries = examined.entries, "store examined");
    Ok(())
}

/// What `semel store` did to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chartered {
    /// An empty store has an identity now.
    Founded(Charter),
    /// It was in use already, by these secrets and rules. Nothing was changed.
    InUse(Charter),
    /// It had the first charter (or none), and now has the second.
    Accepted(Option<Charter>, Charter),
}

/// Gives an empty store its identity.
///
/// # Errors
/// [`StartError`], which says what to do; also if it is in use by other secrets or rules.
pub async fn init_store(config: &Config) -> Result<Chartered, StartError> {
    let ledger = open_ledger(config, false).await?;
    let empty = ledger.store().charter().await?.is_none();
    // Compares secrets and rules if somebody was first.
    let charter = ledger.enrol(config.key_rules_digest(), true).await?;
    Ok(if empty { Chartered::Founded(charter) } else { Chartered::InUse(charter) })
}

/// Takes a store over as it is, and these key rules with it.
///
/// # Errors
/// [`StartError`], which says what to do.
pub async fn accept_store(config: &Config, reason: &str) -> Result<Chartered, StartError> {
    let ledger = open_ledger(config, true).await?;
    let before = ledger.store().charter().await?;
    let after = ledger.accept(config.key_rules_digest()).await?;
    tracing::warn!(
        target: "semel::audit",
        action = "store accept",
        reason,
        store = %after.identity,
        before = before.map_or(0, |before| before.generation),
        after = after.generation,
        "an operator accepted a store"
    );
    Ok(Chartered::Accepted(before, after))
}

async fn open_ledger(config: &Config, accept: bool) -> Result<Ledger, StartError> {
    let (store, _) = open_store(config, accept)?;
    examine(&store, config.store.strict).await?;
    Ok(Ledger::new(store, secrets(config), Arc::new(OsEntropy)))
}

/// Examines the store from time to time; claims stop while it might lose records.
async fn watch_store(ledger: Arc<Ledger>, stopping: CancellationToken) {
    // What was warned of at start is not news.
    let mut warned = ledger.store().examine().await.map_or_else(|_| Vec::new(), |e| e.warnings);
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(EXAMINE_EVERY) => {}
        }
        match ledger.store().examine().await {
            Ok(examined) => {
                let unfit = (!examined.refusals.is_empty()).then(|| examined.refusals.join("; "));
                if let Some(why) = &unfit {
                    tracing::error!(why, "the store is not fit to hold claims; claims stop");
                }
                ledger.set_unfit(unfit);
                for warning in examined.warnings.iter().filter(|news| !warned.contains(news)) {
                    tracing::warn!(store = examined.what, "{warning}");
                }
                warned = examined.warnings;
            }
            // Not answering is noticed by every claim; it is no reason of its own.
            Err(error) => tracing::warn!(%error, "the store could not be examined"),
        }
    }
}
