//! Types that mirror the config file, field by field, and nothing else: what is written, not what
//! it means. The JSON Schema (`semel schema`) is generated from them, so that their doc comments
//! are its descriptions and their defaults its defaults. `super::checked` gives them meaning.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::presets::Additions;
use super::text::{SecretText, SizeText, SpanText};

mod absent;
mod lookup;
mod route;

pub use absent::*;
pub use lookup::*;
pub use route::*;

/// The config file of semel, an idempotency proxy.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// Address of the data port, where the backend sends its requests.
    pub listen: String,
    /// The admin port: health, metrics, records.
    pub admin: Admin,
    /// Where records are kept.
    pub store: Store,
    /// The secrets that record keys, fingerprints and stored answers depend on. Without any they
    /// are made once in the data folder.
    pub secret: Secrets,
    /// The payment APIs, by name.
    #[schemars(with = "BTreeMap<String, Upstream>")]
    pub upstreams: Upstreams,
    /// The upstream of requests that no route matches. Default: the first one.
    pub default_upstream: Option<String>,
    /// What is done with which requests; the first match wins. Unsafe requests that no route
    /// matches are guarded with the defaults.
    pub routes: Vec<Route>,
    /// Bounds of the data port.
    pub server: Server,
    /// Whether callers may ask under `/.well-known/semel/`.
    pub well_known: bool,
    /// How long a stop waits for attempts. Default: the longest `upstream_timeout` and the longest
    /// `max_wait`, and 5 s.
    pub drain: Option<SpanText>,
    /// Form of the logs on stderr.
    pub log: Log,
    /// What presets add; it stands in no file.
    #[serde(skip)]
    pub presets: Additions,
}

impl Default for File {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7411".to_owned(),
            admin: Admin::default(),
            store: Store::default(),
            secret: Secrets::default(),
            upstreams: Upstreams::default(),
            default_upstream: None,
            routes: Vec::new(),
            server: Server::default(),
            well_known: true,
            drain: None,
            log: Log::Json,
            presets: Additions::default(),
        }
    }
}

/// Form of the logs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Log {
    /// One JSON object per line.
    Json,
    /// Lines for people.
    Text,
}

/// The admin port.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Its address.
    pub listen: String,
    /// The bearer token for changes, and off loopback for everything but health and metrics.
    /// Without one it is made once in the data folder.
    pub token: Option<SecretSource>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: "127.0.0.1:7412".to_owned(), token: None }
    }
}

/// Where records are kept.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Which store.
    pub kind: StoreKind,
    /// `embedded`: its folder. Default: ./semel-data.
    pub path: Option<String>,
    /// `redis`: its address, like redis://127.0.0.1:6379 or rediss://user@redis.example:6380/2.
    pub url: Option<SecretText>,
    /// `redis`: its password, rather than in the address.
    pub password: Option<SecretSource>,
    /// Whether an empty store is taken into use at start. Turn it off in production, and run
    /// `semel store init` once.
    pub create: bool,
    /// Whether a store that may lose records on a restart is refused rather than warned about.
    pub strict: bool,
    /// How much memory may hold settled answers that were replayed from the store, so that the next
    /// replay here need not ask it; for ten minutes at the longest. `0B`: the store is always asked.
    pub recall: SizeText,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            kind: StoreKind::Embedded,
            path: None,
            url: None,
            password: None,
            create: true,
            strict: false,
            recall: SizeText::new("16MiB"),
        }
    }
}

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// A database in a folder, for one process.
    Embedded,
    /// Redis or Valkey, for many processes.
    Redis,
    /// Forgotten when the process ends. For tests and demos.
    Memory,
}

/// The secrets that record keys, fingerprints and stored answers depend on.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Secrets {
    /// One file with one secret, from which all three are derived; made if it is missing.
    pub file: Option<String>,
    /// Record keys are made with it. It never changes while the store has records.
    pub index: Option<SecretSource>,
    /// Fingerprints are made with the first; the others still match.
    pub fingerprint: Vec<SecretSource>,
    /// Stored answers are sealed with the first; the others still open.
    pub seal: Vec<SecretSource>,
}

/// A secret: written here, in an environment variable, or in a file.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "one of { value: … }, { env: NAME }, { file: PATH }")]
pub struct SecretSource {
    /// The secret itself. For tests only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<SecretText>,
    /// Name of an environment variable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// Path of a file; white space around the secret is not part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// The upstreams in the order of the file.
#[derive(Debug, Clone, Default)]
pub struct Upstreams(pub Vec<(String, Upstream)>);

impl<'de> Deserialize<'de> for Upstreams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Upstreams;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("upstreams by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Upstreams, A::Error> {
                let mut upstreams = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    upstreams.push(entry);
                }
                Ok(Upstreams(upstreams))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

impl Serialize for Upstreams {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, upstream) in &self.0 {
            map.serialize_entry(name, upstream)?;
        }
        map.end()
    }
}

/// A payment API.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["url"]))]
pub struct Upstream {
    /// Where it is, like `https://api.example.com`: scheme, host, and port if need be.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// What is known of this payment API: adyen, checkout, mollie, paypal, razorpay, square, stripe.
    /// What the routes say goes before it.
    pub preset: Option<String>,
    /// Headers with secrets for every look-up, like authorization. A route's own
    /// `lookup.credentials` go before them.
    pub lookup_credentials: BTreeMap<String, SecretSource>,
    /// A data port of its own, where everything goes to this upstream.
    pub listen: Option<String>,
    /// How long connecting may take, TLS included.
    pub connect_timeout: SpanText,
    /// Whether guarded requests share connections.
    pub connections: Connections,
    /// How many guarded requests may be under way at the same time, and how many unguarded ones.
    pub connections_max: u32,
    /// `connections: pooled`: how many may rest at the same time.
    pub idle_max: u32,
    /// `connections: pooled`: how long one may rest. Servers commonly close after 5 s: stay below.
    pub idle_timeout: SpanText,
    /// `connections: single_use`: how many unused ones are kept ready while there is traffic.
    pub spares: u32,
    /// Whom to trust and who to be, for https.
    pub tls: Tls,
    /// How large the head of an answer may be; 8KiB at least.
    pub header_bytes: SizeText,
    /// How long unguarded requests may take.
    pub pass: Pass,
    /// What becomes of Forwarded and X-Forwarded-* headers.
    pub forwarded: Forwarded,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            url: String::new(),
            preset: None,
            lookup_credentials: BTreeMap::new(),
            listen: None,
            connect_timeout: SpanText::new("2s"),
            connections: Connections::Pooled,
            connections_max: 512,
            idle_max: 128,
            idle_timeout: SpanText::new("4s"),
            spares: 2,
            tls: Tls::default(),
            header_bytes: SizeText::new("64KiB"),
            pass: Pass::default(),
            forwarded: Forwarded::Strip,
        }
    }
}

/// Whom to trust and who to be, for https.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM file with the only certificates that count. Default: those that the system trusts.
    pub ca: Option<String>,
    /// PEM file with a client certificate, and those that lead from it to a root.
    pub certificate: Option<String>,
    /// PEM file with the client certificate's key.
    pub key: Option<String>,
    /// The name that the upstream's certificate must have. Default: the host of its URL.
    pub server_name: Option<String>,
}

/// How long unguarded requests may take.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pass {
    /// From the request to the head of its answer.
    pub header_timeout: SpanText,
    /// Between two pieces of the answer's body.
    pub idle_timeout: SpanText,
}

impl Default for Pass {
    fn default() -> Self {
        Self { header_timeout: SpanText::new("2m"), idle_timeout: SpanText::new("5m") }
    }
}

/// What becomes of Forwarded and X-Forwarded-* headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Forwarded {
    /// They are removed: whoever sent them may have made them up.
    Strip,
    /// They go on: a trusted proxy in front of semel set them.
    Trust,
}

/// Whether guarded requests share connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Connections {
    /// A connection is used again. An upstream that sends two answers to one request breaks the
    /// promise.
    Pooled,
    /// Each guarded request has a connection of its own; spare ones are kept warm.
    SingleUse,
}

/// Bounds of the data port.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// How many connections are served at the same time.
    pub connections_max: u32,
    /// How many header fields a request may have.
    pub header_fields: u16,
    /// How large the head of a request may be.
    pub header_bytes: SizeText,
    /// How long the head of a request may take, from its first byte.
    pub header_timeout: SpanText,
    /// How long a connection may stay open without a request.
    pub idle_timeout: SpanText,
    /// How long the next part of a request's body may take.
    pub body_timeout: SpanText,
    /// How long a whole body may take.
    pub whole_body_timeout: SpanText,
    /// How long a caller may take nothing of its answer.
    pub write_timeout: SpanText,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            header_fields: 100,
            header_bytes: SizeText::new("32KiB"),
            header_timeout: SpanText::new("5s"),
            idle_timeout: SpanText::new("60s"),
            body_timeout: SpanText::new("30s"),
            whole_body_timeout: SpanText::new("5m"),
            write_timeout: SpanText::new("30s"),
        }
    }
}
