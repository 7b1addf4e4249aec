//! A whole semel process, but for the process: the real library before an upstream of the test's.
#![expect(clippy::unwrap_used, reason = "a helper of tests")]
#![expect(clippy::disallowed_methods, reason = "tests spawn what they await")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use semel::app::{App, Ended};
use semel::config::secrets::{Outside, Purpose};
use semel::config::{Config, Overrides, load_with};
use semel::demo::provider::{Provider, Settings};
use semel::store::SharedStore;
use semel::store::memory::MemoryStore;
use semel::store::redis::RedisStore;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::{Answer, Ask};
use super::redis::RedisServer;
use super::swaps::patient;

/// A running proxy. It ends with the test, or in good order if it is told to.
#[derive(Debug)]
pub(crate) struct Sidecar {
    pub(crate) addr: SocketAddr,
    pub(crate) admin: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Ended>,
}

const TOKEN: &str = "a-token-for-the-tests";

/// A config with one route for everything, which says this beside the defaults.
pub(crate) fn config(upstream: SocketAddr, route: &str) -> Config {
    let route: String = route
        .lines()
        .map(|line| format!("    {line}\n"))
        .filter(|line| !line.trim().is_empty())
        .collect();
    config_of(upstream, &format!("routes:\n  - match: {{ path: /** }}\n    name: all\n{route}"))
}

/// A config with the rest of the file.
pub(crate) fn config_of(upstream: SocketAddr, rest: &str) -> Config {
    let secret = "{ value: \"0123456789abcdef0123456789abcdef\" }";
    let text = format!(
        "listen: 127.0.0.1:0\nadmin: {{ listen: 127.0.0.1:0, token: {{ value: {TOKEN} }} }}\n\
         store: {{ kind: memory }}\n\
         secret: {{ index: {secret}, fingerprint: [{secret}], seal: [{secret}] }}\n\
         upstreams: {{ pay: {{ url: \"http://{upstream}\" }} }}\n{rest}"
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("semel.yaml");
    std::fs::write(&file, &text).unwrap();
    let overrides = Overrides { config: Some(file), ..Overrides::default() };
    let outside = Outside { env: &|_| None, purpose: Purpose::Run };
    load_with(&overrides, outside).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

/// The practice payment API.
pub(crate) fn provider() -> Provider {
    let listen = "127.0.0.1:0".parse().unwrap();
    Provider::start(&Settings { listen, ..Settings::default() }).unwrap()
}

/// Waits until it is so; a test's patience is its bound.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < super::raw::PATIENCE, "not within patience: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

impl Sidecar {
    /// Starts one with a memory store of its own.
    pub(crate) async fn start(config: Config) -> Self {
        Self::start_on(Arc::new(MemoryStore::default()), config).await
    }

    /// Starts one on this store.
    pub(crate) async fn start_on(store: SharedStore, config: Config) -> Self {
        let app = App::start_on(config, (store, CancellationToken::new())).await.unwrap();
        Self::run(app)
    }

    /// Starts one on this Redis, with one route for everything.
    pub(crate) async fn on_redis(server: &RedisServer, upstream: SocketAddr, route: &str) -> Self {
        let store = RedisStore::connect(&patient(server.url())).unwrap();
        Self::start_on(Arc::new(store), config(upstream, route)).await
    }

    /// Runs an app that was started elsewhere.
    pub(crate) fn run(app: App) -> Self {
        let (addr, admin) = (app.addrs()[0], app.admin_addr());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(app.run(async {
            // A sidecar that is dropped is not told to stop.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        }));
        Self { addr, admin, stop: Some(stop), running }
    }

    /// Tells it to stop, as SIGTERM does.
    pub(crate) fn tell_to_stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(self) -> Ended {
        tokio::time::timeout(super::raw::PATIENCE, self.running).await.unwrap().unwrap()
    }

    /// What callers can see of an operation.
    pub(crate) async fn operation(&self, id: &str) -> Answer {
        Ask::new("GET", &format!("/.well-known/semel/operations/{id}")).ask(self.addr).await
    }

    /// The state of an operation.
    pub(crate) async fn state(&self, id: &str) -> String {
        self.operation(id).await.json()["state"].as_str().unwrap_or("none").to_owned()
    }

    /// Waits for an operation to come to a state.
    pub(crate) async fn until_state(&self, id: &str, state: &str) {
        let began = Instant::now();
        loop {
            let now = self.state(id).await;
            if now == state {
                return;
            }
            assert!(began.elapsed() < super::raw::PATIENCE, "{now} and not {state}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until so many duplicates wait here.
    pub(crate) async fn until_waiting(&self, count: usize) {
        let began = Instant::now();
        loop {
            let now = self.metric("semel_waiters", "").await;
            if (now - count as f64).abs() < 0.5 {
                return;
            }
            assert!(began.elapsed() < super::raw::PATIENCE, "{now} wait, and not {count}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until it is on record that a caller of the newest operation left unanswered.
    pub(crate) async fn until_left(&self) {
        let began = Instant::now();
        loop {
            let newest = self.records().await["records"][0]["operation"].clone();
            if let Some(id) = newest.as_str()
                && self.record(id).await["a_caller_left_unanswered"] == true
            {
                return;
            }
            assert!(began.elapsed() < super::raw::PATIENCE, "nobody left {newest}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// One of its metrics, the sum over all labels that contain `label`.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> f64 {
        let text = Ask::new("GET", "/metrics").ask(self.admin).await.text();
        let lines = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && line.contains(label)
        });
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// All records, as the admin API shows them.
    pub(crate) async fn records(&self) -> Value {
        self.administer("/api/v1/records").await
    }

    /// One of them, with its timeline.
    pub(crate) async fn record(&self, id: &str) -> Value {
        self.administer(&format!("/api/v1/records/{id}")).await
    }

    async fn administer(&self, target: &str) -> Value {
        let bearer = format!("Bearer {TOKEN}");
        Ask::new("GET", target).header("Authorization", &bearer).ask(self.admin).await.json()
    }
}
