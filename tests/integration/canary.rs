//! No body, credential or raw key is left anywhere: not in the store's files, logs, metrics or the
//! records API, in clear or in any common disguise.
//!
//! Every secret of every request has the word [`BIRD`] in it, which is nowhere else. (What a panic
//! says is tried in `telemetry`, where the hook is.)
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use redis::Value;

use crate::support::binary::{Answer, Semel, http, semel, until};
use crate::support::raw::{Then, exchange};
use crate::support::redis::{RedisServer, free_port};
use crate::support::world::{TOKEN, World, get, redis_store};

/// What must not be found.
const BIRD: &str = "kanarienvogel";

/// Every form in which the bird might be found, in lower case.
fn disguises() -> Vec<(String, String)> {
    let bytes = BIRD.as_bytes();
    let each = |write: fn(&mut String, u8)| {
        bytes.iter().fold(String::new(), |mut all, byte| {
            write(&mut all, *byte);
            all
        })
    };
    let mut forms = vec![
        ("clear".to_owned(), BIRD.to_owned()),
        ("hex".to_owned(), each(|all, byte| write!(all, "{byte:02x}").unwrap())),
        ("percent".to_owned(), each(|all, byte| write!(all, "%{byte:02x}").unwrap())),
        ("escapes".to_owned(), each(|all, byte| write!(all, "\\x{byte:02x}").unwrap())),
        ("list".to_owned(), each(|all, byte| write!(all, "{byte}, ").unwrap())),
        ("compact list".to_owned(), each(|all, byte| write!(all, "{byte},").unwrap())),
        ("utf-16".to_owned(), each(|all, byte| write!(all, "{}\0", char::from(byte)).unwrap())),
    ];
    for shift in 0..3 {
        // What stands before it decides how it falls on base64's groups of three.
        let text = [&b"xxx"[..shift], bytes, b"xxx"].concat();
        for (name, engine) in [("base64", &STANDARD), ("base64url", &URL_SAFE)] {
            let text = engine.encode(&text);
            // The first and last group have something of the neighbours in them.
            forms.push((format!("{name} + {shift}"), text[4..text.len() - 8].to_owned()));
        }
    }
    forms.into_iter().map(|(name, form)| (name, form.to_ascii_lowercase())).collect()
}

/// Where, and in which disguise, the bird is found.
fn sightings(place: &str, hay: &[u8]) -> Vec<String> {
    // As text, because that is searched fast; all disguises are ASCII.
    let hay = hay.to_ascii_lowercase();
    let hay = String::from_utf8_lossy(&hay);
    let found = disguises().into_iter().filter_map(|(name, form)| {
        let (before, after) = hay.split_once(&form)?;
        let before: String =
            before.chars().rev().take(80).collect::<Vec<_>>().iter().rev().collect();
        let after: String = after.chars().take(40).collect();
        Some(format!("{place}: {name}: …{before}{form}{after}…"))
    });
    found.collect()
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn sightings_in_files(folder: &Path) -> Vec<String> {
    let files = files(folder);
    assert!(!files.is_empty(), "nothing in {}", folder.display());
    let look = |path: &std::path::PathBuf| {
        // Files of a running store come and go.
        let bytes = fs::read(path).unwrap_or_default();
        sightings(&path.display().to_string(), &bytes)
    };
    files.iter().flat_map(look).collect()
}

/// All the bytes that an answer of Redis is made of.
fn flatten(value: &Value, into: &mut Vec<u8>) {
    if let Value::BulkString(bytes) = value {
        into.extend_from_slice(bytes);
    } else if let Value::Array(values) = value {
        values.iter().for_each(|value| flatten(value, into));
    } else {
        // Numbers and the like: nothing of ours can be in there, but it costs nothing to look.
        into.extend_from_slice(format!("{value:?}").as_bytes());
    }
    into.push(b'\n');
}

/// Everything that a Redis has: its keys as it tells them, and its files.
fn sightings_in_redis(redis: &RedisServer) -> Vec<String> {
    let Value::Array(keys) = redis.command(&["KEYS", "*"]) else { panic!("no keys") };
    assert!(keys.len() > 5, "too few keys: {keys:?}");
    let mut all = Vec::new();
    for key in keys {
        let Value::BulkString(name) = &key else { panic!("{key:?}") };
        let name = String::from_utf8(name.clone()).unwrap();
        flatten(&key, &mut all);
        flatten(&redis.command(&["DUMP", &name]), &mut all);
        let Value::SimpleString(kind) = redis.command(&["TYPE", &name]) else { panic!("{name}") };
        let how = match kind.as_str() {
            "hash" => vec!["HGETALL", &name],
            "string" => vec!["GET", &name],
            _ => vec!["ZRANGE", &name, "0", "-1"],
        };
        flatten(&redis.command(&how), &mut all);
    }
    redis.command(&["SAVE"]);
    let mut found = sightings("redis keys", &all);
    found.extend(sightings_in_files(redis.folder()));
    found
}

fn route() -> String {
    "    max_wait: 1s\n    limits: { request_body: 64KiB }\n    lookup_after: 500ms\n    \
     upstream_timeout: 20s\n    lookup:\n      request: { path: /v1/payments, query: { \
     idempotency_key: '{{ key }}', seen: '{{ body[\"/metadata/note\"] }}' } }\n      \
     credentials: { authorization: { value: 'Bearer kanarienvogel-lookup' } }\n      item: \
     '$.data[0]'\n      reply: { status: 201, body: item }\n  - match: { path: /gone/** }\n    \
     name: gone\n    upstream: gone\n"
        .to_owned()
}

fn credentials() -> String {
    format!(
        "Authorization: Bearer {BIRD}-sk_live/1\r\nX-Api-Key: {BIRD}+api==\r\nCookie: s={BIRD}\r\n\
         User-Agent: {BIRD}\r\nContent-Type: application/json\r\n"
    )
}

fn body(note: &str) -> String {
    format!(
        "{{\"amount\": 700, \"currency\": \"eur\", \"card\": \"{BIRD} 4242\", \"metadata\": \
         {{\"note\": \"{BIRD}/{note}\"}}}}"
    )
}

async fn send(data: SocketAddr, path: &str, lines: &str, body: &str) -> Answer {
    let lines = format!("{}{lines}", credentials());
    http(data, &format!("POST {path}?card={BIRD}%2F7"), &lines, body.as_bytes()).await
}

/// Everything that can happen to a request whose every part is secret. Returns the operations.
async fn everything(proxy: &Semel) -> Vec<String> {
    let data = proxy.data;
    let key = |name: &str| format!("Idempotency-Key: {BIRD}-{name}/%2B\r\n");
    let practice = |modes: &str| format!("X-Practice: {modes}\r\n");
    let pay = |lines: String, note: &'static str| async move {
        send(data, "/v1/payments", &lines, &body(note)).await
    };
    let mut operations = Vec::new();
    let mut expect = |answer: Answer, status: u16| {
        assert_eq!(answer.status, status, "{} {}", answer.head, answer.text());
        operations.extend(answer.header("semel-operation").map(str::to_owned));
    };
    let fresh = pay(key("a"), "a").await;
    assert!(!sightings("answer", &fresh.body).is_empty(), "the answer has none: {fresh:?}");
    expect(fresh, 201);
    expect(pay(key("a"), "a").await, 201);
    expect(pay(key("a"), "mismatch").await, 422);
    expect(pay(String::new(), "by content").await, 201);
    expect(pay(key("b") + &practice("500-after"), "b").await, 201);
    expect(pay(key("c") + &practice("drop-after, absent=1000"), "c").await, 504);
    expect(pay(key("c"), "c").await, 504);
    expect(pay(key("d") + &practice("truncate, absent=1000"), "d").await, 504);
    expect(pay(key("e") + &practice("429"), "e").await, 429);
    expect(pay(key("f") + &practice("402"), "f").await, 402);
    expect(pay(key(&"g".repeat(300)), "too long a key").await, 400);
    expect(pay(key("h"), "x").await, 201);
    expect(send(data, "/v1/payments", &key("i"), &format!("{{\"{BIRD}\": ")).await, 400);
    expect(send(data, "/v1/payments", &key("j"), &BIRD.repeat(6000)).await, 413);
    expect(send(data, "/gone/x", &key("k"), &body("k")).await, 502);
    let got = http(data, &format!("GET /v1/payments?reference={BIRD}"), &credentials(), b"").await;
    expect(got, 200);
    let known = "/.well-known/semel/operations?method=POST&path=/v1/payments";
    let lines = format!("{}{}", credentials(), key("a"));
    let _ = http(data, &format!("GET {known}"), &lines, b"").await;
    for framing in ["Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "X-A: \0\r\n", "X\r\n"] {
        let head = format!("POST /{BIRD} HTTP/1.1\r\nHost: {BIRD}\r\n{}{framing}", lines);
        exchange(data, format!("{head}\r\n{BIRD}").as_bytes(), Then::HalfClose).await;
    }
    operations.sort();
    operations.dedup();
    assert!(operations.len() >= 6, "{operations:?}");
    operations
}

/// What the admin port and the command line tell, and what they log of secrets that they are told.
async fn told(proxy: &Semel, config: &Path, operations: &[String]) -> Vec<String> {
    let admin = proxy.admin;
    let mut found = Vec::new();
    let list = get(admin, "/api/v1/records").await;
    assert!(list.json()["records"].as_array().unwrap().len() >= 6, "{}", list.text());
    found.extend(sightings("list", &list.body));
    let doubts = until(
        || get(admin, "/api/v1/records?state=in-doubt"),
        |answer| Some(answer.json()["records"].clone()),
    )
    .await;
    let doubt = doubts[0]["operation"].as_str().unwrap();
    let path = format!("POST /api/v1/records/{doubt}/settle");
    let wrong = format!("Authorization: Bearer {BIRD}-wrong-token\r\n");
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    let order = format!(
        "{{\"as\": \"applied\", \"status\": 201, \"body\": \"{BIRD}\", \"reason\": \"it is there\"}}"
    );
    let broken = format!("{{\"as\": \"{BIRD}\", \"{BIRD}\": \"{BIRD}\"}}");
    for (lines, order, status) in
        [(&wrong, &order, 401), (&right, &broken, 400), (&right, &order, 200)]
    {
        let answer = http(admin, &path, lines, order.as_bytes()).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        found.extend(sightings("settle", &answer.body));
    }
    for id in operations {
        let record = get(admin, &format!("/api/v1/records/{id}")).await;
        assert_eq!(record.status, 200, "{}", record.text());
        found.extend(sightings("show", &record.body));
    }
    let (admin, config) = (admin.to_string(), config.to_str().unwrap());
    let said = semel(&["records", "--admin", &admin, "--config", config, "list"]);
    assert_eq!(said.code, 0, "{said:?}");
    found.extend(sightings("semel records", said.out.as_bytes()));
    let metrics = get(proxy.admin, "/metrics").await;
    assert!(metrics.text().contains("verdict=\"mismatch\""));
    found.extend(sightings("metrics", &metrics.body));
    found
}

fn config(world: &World, store: &str) -> std::path::PathBuf {
    let file = world.config("config", store, &route());
    let text = fs::read_to_string(&file).unwrap();
    let gone = format!("upstreams: {{ gone: {{ url: 'http://127.0.0.1:{}' }}, pay:", free_port());
    let text = text.replace("upstreams: { pay:", &gone);
    fs::write(
        &file,
        format!("default_upstream: pay\n{text}")
            .replace("name: payments\n", "name: payments\n    upstream: pay\n"),
    )
    .unwrap();
    file
}

const LOUD: [&str; 2] = ["--log-filter", "debug"];

#[test]
fn the_bird_is_seen_through_every_disguise() {
    let secret = format!("sk_live {BIRD}!");
    for hidden in [
        secret.clone(),
        secret.to_uppercase(),
        STANDARD.encode(&secret),
        STANDARD.encode(format!("u:{secret}")),
        URL_SAFE.encode(format!("us:{secret}")),
        format!("{:?}", secret.as_bytes()),
        secret.bytes().map(|byte| format!("{byte:02X}")).collect(),
        secret.bytes().map(|byte| format!("%{byte:02X}")).collect(),
    ] {
        assert!(!sightings("here", hidden.as_bytes()).is_empty(), "{hidden}");
    }
    assert!(sightings("here", b"nothing but op_AAAA and digests").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_store_and_its_proxy_keep_no_secret() {
    let world = World::new();
    let config = config(&world, &world.embedded());
    let proxy = Semel::start(&config, &LOUD);

    let operations = everything(&proxy).await;
    let mut found = told(&proxy, &config, &operations).await;

    // While the log of the database has not been merged into it, then ended without a word.
    found.extend(sightings_in_files(&world.path("data")));
    let log = proxy.log.clone();
    proxy.kill();
    found.extend(sightings_in_files(&world.path("data")));
    Semel::start(&config, &LOUD).stop();
    found.extend(sightings_in_files(&world.path("data")));
    let text = log.text();
    assert!(text.contains(&operations[0]), "the log knows the operations");
    assert!(text.contains("\"DEBUG\""), "the log is loud");
    found.extend(sightings("log", text.as_bytes()));
    assert!(found.is_empty(), "{}", found.join("\n"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_and_its_proxy_keep_no_secret() {
    let world = World::new();
    let plain = ["--appendonly", "yes", "--appendfsync", "always", "--rdbcompression", "no"];
    let mut redis = RedisServer::start_with(&plain);
    let config = config(&world, &redis_store(&redis));
    let proxy = Semel::start(&config, &LOUD);

    let operations = everything(&proxy).await;
    let mut found = told(&proxy, &config, &operations).await;

    found.extend(sightings_in_redis(&redis));
    redis.kill();
    let key = format!("Idempotency-Key: {BIRD}-without-store\r\n");
    let refused = send(proxy.data, "/v1/payments", &key, &body("without a store")).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    let text = proxy.log.text();
    assert!(text.contains(&operations[0]), "the log knows the operations");
    found.extend(sightings("log", text.as_bytes()));
    assert!(found.is_empty(), "{}", found.join("\n"));
    drop(proxy);
    world.stop().await;
}
