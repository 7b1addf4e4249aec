//! What one row is played in: a provider, a store, one or more processes of semel, all its own.
#![expect(clippy::unwrap_used, reason = "a drill whose world does not stand has failed")]

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use semel::demo::provider::{Charge, Provider, Settings, Sought, Speaks};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::caller::{Order, Said};
use crate::config::{self, TOKEN};
use crate::process::Process;
use crate::redis::RedisServer;

/// How long a state may take to come about.
const STATE_MAX: Duration = Duration::from_secs(15);
/// How often it is asked for.
const PAUSE: Duration = Duration::from_millis(10);

/// Where semel keeps its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Embedded,
    Redis,
}

impl Store {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Redis => "redis",
        }
    }
}

#[derive(Debug)]
pub(crate) struct World {
    // Dropped in this order: processes before what they use.
    processes: Vec<Process>,
    provider: Option<Provider>,
    provider_addr: SocketAddr,
    redis: Option<RedisServer>,
    folder: TempDir,
    /// Keeps the port of a server that is away from the servers of other rows.
    held: Option<Socket>,
    /// What was charged by a provider that was stopped since.
    charged: usize,
}

impl World {
    /// With one process.
    pub(crate) async fn start(store: Store) -> Self {
        let folder = TempDir::new().unwrap();
        let redis = (store == Store::Redis).then(RedisServer::start);
        let provider = provider("127.0.0.1:0".parse().unwrap(), Speaks::Practice);
        let place = match &redis {
            Some(redis) => format!("kind: redis, url: {}", redis.url()),
            None => format!("kind: embedded, path: {}", folder.path().join("store").display()),
        };
        let yaml = config::yaml(provider.addr(), &place, &folder.path().join("secret"));
        fs::write(folder.path().join("semel.yaml"), yaml).unwrap();
        let provider_addr = provider.addr();
        let provider = Some(provider);
        let processes = vec![];
        let (held, charged) = (None, 0);
        let mut world = Self { processes, provider, provider_addr, redis, folder, held, charged };
        world.add_process().await;
        world
    }

    /// Adds a process on the same store.
    pub(crate) async fn add_process(&mut self) {
        let log = self.folder.path().join(format!("semel-{}.log", self.processes.len()));
        self.processes.push(Process::start(&self.config(), log).await.unwrap());
    }

    /// Whether a further process refuses to start.
    pub(crate) async fn refuses_to_start(&self) -> Said {
        let log = self.folder.path().join("semel-try.log");
        let started = Process::start(&self.config(), log).await;
        Said::fact("refuses to start", started.is_err())
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("semel.yaml")
    }

    /// Where the embedded store is.
    pub(crate) fn store_folder(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// A payment with a key, by the first process; its reference is the key.
    pub(crate) fn pay(&self, key: &str) -> Order {
        self.pay_by(0, key)
    }

    /// A payment with a key, by this process.
    pub(crate) fn pay_by(&self, process: usize, key: &str) -> Order {
        Order::new(self.processes[process].data(), key).key(key)
    }

    /// A payment without a key.
    pub(crate) fn pay_keyless(&self) -> Order {
        Order::new(self.processes[0].data(), "coffee")
    }

    /// A payment that goes past semel, to the provider itself.
    pub(crate) fn pay_directly(&self, reference: &str) -> Order {
        Order::new(self.provider_addr, reference)
    }

    /// A question to the data port.
    pub(crate) fn get(&self, path: &str) -> Order {
        Order::get(self.processes[0].data(), path)
    }

    /// A question to the admin port, by the operator.
    pub(crate) fn admin(&self, path: &str) -> Order {
        Order::get(self.processes[0].admin(), path).by(&format!("Bearer {TOKEN}"))
    }

    pub(crate) fn process(&mut self, number: usize) -> &mut Process {
        &mut self.processes[number]
    }

    pub(crate) fn redis(&mut self) -> &mut RedisServer {
        self.redis.as_mut().unwrap()
    }

    pub(crate) fn provider(&self) -> &Provider {
        self.provider.as_ref().unwrap()
    }

    /// Nobody listens where the provider was.
    pub(crate) async fn stop_provider(&mut self) {
        let provider = self.provider.take().unwrap();
        self.charged += provider.ledger().count(Sought::All);
        provider.stop().await;
        self.held = Some(hold(self.provider_addr));
    }

    /// It is there again.
    pub(crate) fn start_provider(&mut self) {
        self.start_provider_as(Speaks::Practice);
    }

    /// It is there again, with another API.
    pub(crate) fn start_provider_as(&mut self, speaks: Speaks) {
        self.provider = Some(provider(self.provider_addr, speaks));
        self.held = None;
    }

    /// Ends Redis without a chance to write anything more.
    pub(crate) fn kill_redis(&mut self) {
        let redis = self.redis.as_mut().unwrap();
        redis.kill();
        self.held = Some(hold(SocketAddr::from(([127, 0, 0, 1], redis.port()))));
    }

    /// Redis is there again, with what it has on disk.
    pub(crate) fn restart_redis(&mut self) {
        self.redis.as_mut().unwrap().restart();
        self.held = None;
    }

    /// How many charges were made.
    pub(crate) fn charges(&self) -> usize {
        let count = |provider: &Provider| provider.ledger().count(Sought::All);
        self.charged + self.provider.as_ref().map_or(0, count)
    }

    /// What the provider's ledger shows, for when a row is wrong.
    pub(crate) fn ledger(&self) -> String {
        let charges = self.provider.as_ref().map(|provider| provider.ledger().charges(Sought::All));
        let key = |charge: &Charge| charge.order.key.clone().unwrap_or_default();
        let lines = charges.into_iter().flatten();
        let lines = lines.map(|charge| format!("{} {:?}", charge.order.path, key(&charge)));
        format!("--- ledger\n{}", lines.collect::<Vec<_>>().join(", "))
    }

    /// Waits until a charge was made under a key.
    pub(crate) async fn until_charged(&self, key: &str) {
        until("charged", || async { self.charges_of(key) > 0 }).await;
    }

    /// How many charges were made under a key.
    pub(crate) fn charges_of(&self, key: &str) -> usize {
        self.provider().ledger().count(Sought::Key(key))
    }

    /// Waits until so many payments have reached the provider, answered or not.
    pub(crate) async fn reached(&self, payments: u64) {
        until("payments reach the provider", || async { self.reached_so_far() >= payments }).await;
    }

    /// How many payments have reached the provider, answered or not.
    pub(crate) fn reached_so_far(&self) -> u64 {
        let requests = self.provider().practice().requests();
        let posts = requests.iter().filter(|(path, _)| path.starts_with("POST "));
        posts.map(|(_, count)| count).sum()
    }

    /// Waits until so many requests to pay came under a key, whatever became of them.
    pub(crate) async fn until_sent(&self, key: &str, requests: u64) {
        until("sent", || async { self.sent(key) >= requests }).await;
    }

    /// How many requests to pay came under a key, whatever became of them.
    pub(crate) fn sent(&self, key: &str) -> u64 {
        self.provider().practice().requests_with_key(key)
    }

    /// Waits until the first process has looked up so often with this finding.
    pub(crate) async fn until_looked(&self, finding: &str, times: u64) {
        until(finding, || async { self.looked(finding).await >= times }).await;
    }

    /// How often the first process has looked up with this finding.
    pub(crate) async fn looked(&self, finding: &str) -> u64 {
        let start = format!("semel_lookups_total{{finding=\"{finding}\"");
        let metrics = self.metrics().await;
        let mut lines = metrics.lines().filter(|line| line.starts_with(&start));
        let count = lines.next().and_then(|line| line.rsplit(' ').next()?.parse().ok());
        count.unwrap_or_default()
    }

    /// Waits until the first process has seen so many callers go.
    pub(crate) async fn until_gone(&self, callers: u64) {
        let is_count = |line: &str| {
            line.starts_with("semel_requests_total{answer=\"left\"")
                && line.ends_with(&format!(" {callers}"))
        };
        until("gone", || async { self.metrics().await.lines().any(is_count) }).await;
    }

    /// Waits until so many duplicates wait in the first process.
    pub(crate) async fn waiting(&self, duplicates: usize) {
        let line = format!("semel_waiters {duplicates}");
        until(&line, || async { self.metrics().await.lines().any(|seen| seen == line) }).await;
    }

    /// The metrics of the first process.
    pub(crate) async fn metrics(&self) -> String {
        let said = self.admin("/metrics").send().await;
        String::from_utf8_lossy(&said.answer().body).into_owned()
    }

    /// What the operator sees of the operation that somebody was told about.
    pub(crate) async fn record(&self, said: &Said) -> Value {
        let operation = said.answer().operation().unwrap();
        let shown = self.admin(&format!("/api/v1/records/{operation}")).send().await;
        shown.answer().json()
    }

    /// Waits until the operator sees the operation in this state.
    pub(crate) async fn until_state(&self, said: &Said, state: &str) {
        until(state, || async { self.record(said).await["state"] == state }).await;
    }

    /// Waits until it is on record that a caller of the operation left unanswered.
    pub(crate) async fn until_left(&self, operation: &str) {
        let path = format!("/api/v1/records/{operation}");
        until("left", || async {
            let shown = self.admin(&path).send().await;
            shown.answer().json()["a_caller_left_unanswered"] == true
        })
        .await;
    }

    /// Waits until the operation has been in its state for longer than that.
    pub(crate) async fn until_older(&self, said: &Said, seconds: f64) {
        let age = |record: Value| record["in_this_state_for_seconds"].as_f64().unwrap_or_default();
        until("older", || async { age(self.record(said).await) > seconds }).await;
    }

    /// Waits until it is on record that the answer was delivered.
    pub(crate) async fn until_delivered(&self, said: &Said) {
        let noted = |record: Value| record["answer_delivered_seconds_ago"].is_number();
        until("delivered", || async { noted(self.record(said).await) }).await;
    }

    /// Waits until the store answers again, and no claim is left that may have been made meanwhile.
    pub(crate) async fn until_ready(&self) {
        until("ready", || async {
            let ready = self.admin("/readyz?store=1").send().await;
            let flying = self.admin("/api/v1/records?state=in-flight").send().await;
            ready.words().starts_with("200") && flying.answer().json()["records"] == json!([])
        })
        .await;
    }

    /// Waits until semel has noticed that the store does not answer.
    pub(crate) async fn until_store_is_away(&self) {
        let ready = || async { self.admin("/readyz?store=1").send().await.words() };
        until("the store is away", || async { ready().await.starts_with("503") }).await;
    }

    /// Waits until the store answers again, be it to refuse.
    pub(crate) async fn until_reachable(&self) {
        until("the store answers", || async {
            let ready = self.admin("/readyz?store=1").send().await;
            let body = String::from_utf8_lossy(&ready.answer().body).into_owned();
            ready.words().starts_with("200") || body.contains("has lost writes")
        })
        .await;
    }

    /// Waits until the only operation there is has reached this state, and says which one it is.
    pub(crate) async fn until_only(&self, state: &str) -> String {
        let path = format!("/api/v1/records?state={state}");
        let found = || async {
            let listed = self.admin(&path).send().await;
            Some(listed.answer().json()["records"].get(0)?["operation"].as_str()?.to_owned())
        };
        until(state, || async { found().await.is_some() }).await;
        found().await.unwrap()
    }

    /// The operator's order about the operation that somebody was told about.
    pub(crate) async fn operator(&self, said: &Said, action: &str, order: &Value) -> Said {
        self.operator_on(said.answer().operation().unwrap(), action, order).await
    }

    /// The operator's order about an operation.
    pub(crate) async fn operator_on(&self, operation: &str, action: &str, order: &Value) -> Said {
        let path = format!("/api/v1/records/{operation}/{action}");
        let order = Order::new(self.processes[0].admin(), "").at(&path).body(order.to_string());
        let said = order.by(&format!("Bearer {TOKEN}")).send().await;
        let status = said.answer().status;
        Said::fact(format!("operator: {status}"), true)
    }

    /// Runs `semel` once, with the config of the processes, and says whether it was content.
    pub(crate) fn semel(&self, words: &[&str]) -> bool {
        self.run(words).status.success()
    }

    /// What `semel records` says about the records of the first process; nothing if it fails.
    pub(crate) fn records(&self, words: &[&str]) -> String {
        let admin = self.processes[0].admin().to_string();
        let output = self.run(&[&["records", "--admin", &admin], words].concat());
        if output.status.success() {
            String::from_utf8(output.stdout).unwrap()
        } else {
            String::new()
        }
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_semel"));
        command.args(words).arg("--config").arg(self.config());
        command.env_clear().current_dir(self.folder.path()).output().unwrap()
    }

    /// The ends of the logs, for when a row is wrong.
    pub(crate) fn logs(&self) -> String {
        let logs = self.processes.iter().enumerate();
        logs.map(|(n, process)| format!("--- semel {n}\n{}\n", process.log())).collect()
    }
}

fn provider(listen: SocketAddr, speaks: Speaks) -> Provider {
    Provider::start(&Settings { listen, speaks, ..Settings::default() }).unwrap()
}

/// Takes a port without listening: connections are refused, and nobody else gets it. Servers that
/// say `SO_REUSEADDR` get it all the same.
fn hold(addr: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    let end = Instant::now() + STATE_MAX;
    // A process that another row is starting has all our sockets for a moment: from fork to exec.
    while let Err(error) = socket.bind(&addr.into()) {
        assert!(Instant::now() < end, "{addr} cannot be held: {error}");
        thread::sleep(PAUSE);
    }
    socket
}

/// Waits until something is so.
async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let end = Instant::now() + STATE_MAX;
    while !is_so().await {
        assert!(Instant::now() < end, "not within {STATE_MAX:?}: {what}");
        sleep(PAUSE).await;
    }
}
