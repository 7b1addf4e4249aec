//! A payment provider's own SDK, its provider to practise on, and the real semel between them.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use semel::demo::provider::{Provider, Settings, Sought, Speaks};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpSocket;

use super::binary::Semel;
use super::world::TOKEN;

/// A payment API: how it is spoken, what is known of it, and where its payments are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Api {
    pub(crate) speaks: Speaks,
    pub(crate) preset: &'static str,
    pub(crate) path: &'static str,
    /// What its SDKs send as `Authorization`, in the drivers.
    pub(crate) authorization: &'static str,
}

/// The real binary, with an API's preset, before an API to practise on.
pub(crate) struct Counter {
    pub(crate) provider: Provider,
    pub(crate) semel: Semel,
    api: Api,
    _folder: TempDir,
}

impl Counter {
    /// Starts both. `route` is what the config says of the API's payments beside the preset.
    pub(crate) fn open(api: Api, route: &str) -> Self {
        let listen = "127.0.0.1:0".parse().unwrap();
        let settings = Settings { listen, ledger: None, speaks: api.speaks };
        let provider = Provider::start(&settings).unwrap();
        let folder = TempDir::new().unwrap();
        let config = config(folder.path(), provider.addr(), api, route);
        Self { semel: Semel::start(&config, &[]), provider, api, _folder: folder }
    }

    /// Lets the next payments, or look-ups, go wrong.
    pub(crate) fn next(&self, modes: &str, count: u64) {
        self.provider.practice().next(modes, count).unwrap();
    }

    /// Has an SDK do its one call, and says what its user has in hand.
    pub(crate) async fn buy(&self, driver: &'static str, order: Value) -> Said {
        drive(driver, self.semel.data, order).await
    }

    /// How many charges the provider has in its ledger.
    pub(crate) fn charges(&self) -> usize {
        self.provider.ledger().count(Sought::All)
    }

    /// How many payments reached the provider, whatever became of them.
    pub(crate) fn reached(&self) -> u64 {
        let asked = self.provider.practice().requests();
        asked.get(&format!("POST {}", self.api.path)).copied().unwrap_or(0)
    }

    /// How many requests the SDK has sent to semel for payments, as semel's log says.
    pub(crate) fn sent(&self) -> usize {
        let log = self.semel.log.text();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["message"] == "guarded request").count()
    }

    /// Ends both, semel in good order.
    pub(crate) async fn close(self) {
        self.provider.stop().await;
        self.semel.stop();
    }
}

/// The real binary before an API that is down.
pub(crate) struct Closed {
    pub(crate) semel: Semel,
    /// Bound and not listening: it refuses connections, and nobody else gets its port.
    _port: TcpSocket,
    _folder: TempDir,
}

impl Closed {
    pub(crate) fn open(api: Api) -> Self {
        let port = TcpSocket::new_v4().unwrap();
        port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let folder = TempDir::new().unwrap();
        let config = config(folder.path(), port.local_addr().unwrap(), api, "");
        Self { semel: Semel::start(&config, &[]), _port: port, _folder: folder }
    }

    /// Has an SDK do its one call, and says what its user has in hand.
    pub(crate) async fn buy(&self, driver: &'static str, order: Value) -> Said {
        drive(driver, self.semel.data, order).await
    }
}

fn config(folder: &Path, provider: SocketAddr, api: Api, route: &str) -> PathBuf {
    let text = format!(
        "listen: 127.0.0.1:0\n\
         admin: {{ listen: 127.0.0.1:0, token: {{ value: {TOKEN} }} }}\n\
         store: {{ kind: embedded, path: {} }}\n\
         secret: {{ file: {} }}\n\
         upstreams:\n  \
           pay:\n    \
             url: 'http://{provider}'\n    \
             preset: {}\n    \
             lookup_credentials: {{ authorization: {{ value: '{}' }} }}\n\
         routes:\n  - match: {{ methods: [POST], path: {} }}\n{route}",
        folder.join("data").display(),
        folder.join("secret").display(),
        api.preset,
        api.authorization,
        api.path,
    );
    let file = folder.join("semel.yaml");
    fs::write(&file, text).unwrap();
    file
}

/// What the user of an SDK has in hand: a value or an exception.
#[derive(Debug)]
pub(crate) struct Said(Value);

impl Said {
    /// A text or number that the driver told.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }

    pub(crate) fn status(&self) -> u64 {
        self.0["status"].as_u64().unwrap_or_default()
    }

    /// A header, if the SDK lets its user see them.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let headers = self.0["headers"].as_object()?;
        let found = headers.iter().find(|(its, _)| its.eq_ignore_ascii_case(name))?;
        found.1.as_str()
    }

    /// The object that was made; its reference is the one that was sent.
    #[track_caller]
    pub(crate) fn bought(&self, reference: &str) -> String {
        assert_eq!((self.text("result"), self.text("reference")), ("ok", reference), "{self:?}");
        self.text("id").to_owned()
    }

    /// The exception, by the name of its class.
    #[track_caller]
    pub(crate) fn raised(&self, class: &str) -> &Self {
        assert_eq!((self.text("result"), self.text("type")), ("error", class), "{self:?}");
        self
    }

    /// All that was told, to find something in that has no place of its own.
    pub(crate) fn whole(&self) -> String {
        self.0.to_string()
    }
}

/// What is bought in all tests, under this reference.
pub(crate) fn order(reference: &str) -> Value {
    json!({ "reference": reference, "amount": 4200 })
}

/// The same with more, or other, fields.
pub(crate) fn order_with(reference: &str, more: &[(&str, Value)]) -> Value {
    let mut order = order(reference);
    for (name, value) in more {
        order[*name] = value.clone();
    }
    order
}

/// Runs a driver of `tests/sdks` against an address.
async fn drive(driver: &'static str, base: SocketAddr, order: Value) -> Said {
    tokio::task::spawn_blocking(move || run(driver, base, &order)).await.unwrap()
}

fn run(driver: &str, base: SocketAddr, order: &Value) -> Said {
    let home = installed();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = if driver.ends_with(".py") { "python" } else { "node" };
    let output = Command::new(home.join("venv/bin").join(program))
        .arg(root.join("tests/sdks").join(driver))
        .args([format!("http://{base}"), order.to_string()])
        .envs(surroundings(home, driver))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let said = serde_json::from_str(told.trim()).unwrap_or_else(|_| panic!("{driver}: {output:?}"));
    Said(said)
}

/// What a driver finds in its environment: where its SDK is.
fn surroundings(home: &Path, driver: &str) -> BTreeMap<&'static str, PathBuf> {
    let mut all = BTreeMap::from([
        ("NODE_PATH", home.join("node/node_modules")),
        // Nothing is written beside the drivers.
        ("PYTHONDONTWRITEBYTECODE", "1".into()),
        // Loopback is reached directly, whatever this machine's proxies are.
        ("NO_PROXY", "*".into()),
    ]);
    if driver == "mollie_api_python.py" {
        all.insert("PYTHONPATH", home.join("mollie-api-python"));
    }
    all
}

/// Where the SDKs are; they are installed if they are not there.
fn installed() -> &'static Path {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    HOME.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let setup = Command::new(root.join("scripts/setup-sdks.sh")).output().unwrap();
        let why = String::from_utf8_lossy(&setup.stderr);
        assert!(
            setup.status.success(),
            "the payment providers' SDKs cannot be installed; scripts/setup-sdks.sh says:\n{why}"
        );
        root.join("target/sdks")
    })
}
