//! What stands around the real binary in a test: a payment API, a folder, configs.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use semel::demo::provider::{Provider, Settings, Sought};
use tempfile::TempDir;

use super::binary::{Answer, http};
use super::redis::RedisServer;

/// The admin token in every config.
pub(crate) const TOKEN: &str = "operators-token-0123456789";

/// A payment API, and a folder for the configs and the store.
pub(crate) struct World {
    pub(crate) provider: Provider,
    folder: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let listen = "127.0.0.1:0".parse().unwrap();
        let provider = Provider::start(&Settings { listen, ..Settings::default() }).unwrap();
        Self { provider, folder: TempDir::new().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn embedded(&self) -> String {
        format!("{{ kind: embedded, path: {} }}", self.path("data").display())
    }

    /// Writes a config with this store and these lines for its one route.
    pub(crate) fn config(&self, name: &str, store: &str, route: &str) -> PathBuf {
        let text = format!(
            "listen: 127.0.0.1:0\n\
             admin: {{ listen: 127.0.0.1:0, token: {{ value: {TOKEN} }} }}\n\
             store: {store}\n\
             secret: {{ file: {} }}\n\
             upstreams: {{ pay: {{ url: 'http://{}' }} }}\n\
             routes:\n  - match: {{ path: /v1/payments }}\n    name: payments\n{route}",
            self.path("secret").display(),
            self.provider.addr(),
        );
        let file = self.path(name);
        fs::write(&file, text).unwrap();
        file
    }

    pub(crate) fn charges(&self, key: &str) -> usize {
        self.provider.ledger().count(Sought::Key(key))
    }

    pub(crate) async fn stop(self) {
        self.provider.stop().await;
    }
}

pub(crate) fn redis_store(redis: &RedisServer) -> String {
    format!("{{ kind: redis, url: '{}' }}", redis.url())
}

pub(crate) async fn pay(data: SocketAddr, key: &str, practice: &str) -> Answer {
    let practice = match practice {
        "" => String::new(),
        modes => format!("X-Practice: {modes}\r\n"),
    };
    let lines = format!("Idempotency-Key: {key}\r\nContent-Type: application/json\r\n{practice}");
    // What is told apart by its key is told apart by its content too, so that nobody is taken for
    // the retry of somebody else who was left unanswered.
    let body = format!(r#"{{"amount": 700, "currency": "eur", "reference": "{key}"}}"#);
    http(data, "POST /v1/payments", &lines, body.as_bytes()).await
}

pub(crate) async fn get(addr: SocketAddr, path: &str) -> Answer {
    http(addr, &format!("GET {path}"), "", b"").await
}
