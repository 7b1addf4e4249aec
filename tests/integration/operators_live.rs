//! What `semel check --live` and `semel lookup try` tell of a config, with the real binary.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

use redis::Value;
use semel::demo::provider::Sought;

use crate::support::binary::{Said, Semel, semel};
use crate::support::rawserver::RawServer;
use crate::support::redis::{RedisServer, free_port};
use crate::support::scripted::with_length;
use crate::support::world::{World, pay, redis_store};
use crate::upstream::echo;
use crate::upstream_tls::Authority;

fn check_live(config: &Path) -> Said {
    semel(&["check", config.to_str().unwrap(), "--live"])
}

fn try_out(config: &Path, args: &[&str]) -> Said {
    let config = config.to_str().unwrap();
    semel(&[&["lookup", "try", config, "--route", "payments"], args].concat())
}

/// A look-up by reference.
const BY_REFERENCE: &str = "    lookup:\n      request: { path: '/v1/payments/by-reference/{{ body.reference }}' }\n      \
                            credentials: { Authorization: { value: 'Bearer canary-credential' } }\n      \
                            state: { path: '$.status', succeeded: [succeeded], accepted: [processing] }\n      \
                            reply: { status: 201, body: item }\n";

/// A provider that answers by what is asked.
async fn provider(answer: fn(&str) -> Vec<u8>) -> RawServer {
    RawServer::start(move |mut peer| async move {
        while let Some(request) = peer.request().await? {
            peer.write_bytes(&answer(&request.head)).await?;
        }
        Ok(())
    })
    .await
}

/// The config of a world, with its upstream at another address.
fn with_upstream(world: &World, route: &str, upstream: &str) -> PathBuf {
    let config = world.config("config", "{ kind: memory }", route);
    let text = std::fs::read_to_string(&config).unwrap();
    let before = format!("url: 'http://{}'", world.provider.addr());
    assert!(text.contains(&before));
    std::fs::write(&config, text.replace(&before, upstream)).unwrap();
    config
}

/// Everything in a Redis, as it is.
fn dump(redis: &RedisServer) -> Vec<(String, Value)> {
    let Value::Array(keys) = redis.command(&["KEYS", "*"]) else { panic!("no keys") };
    let mut all: Vec<_> = keys
        .into_iter()
        .map(|key| {
            let Value::BulkString(name) = key else { panic!("no name") };
            let name = String::from_utf8(name).unwrap();
            let content = redis.command(&["DUMP", &name]);
            (name, content)
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_world_in_order_is_found_in_order_and_left_as_it_was() {
    let world = World::new();
    let redis = RedisServer::start();
    let config = world.config("config", &redis_store(&redis), BY_REFERENCE);
    let empty = check_live(&config);
    assert_eq!(empty.code, 0, "{empty:?}");
    assert!(empty.err.contains("it will be taken into use at start"), "{empty:?}");
    assert_eq!(dump(&redis), [], "nothing is founded");
    let proxy = Semel::start(&config, &[]);
    assert_eq!(pay(proxy.data, "k-1", "").await.status, 201);
    proxy.stop();
    let before = dump(&redis);

    let checked = check_live(&config);

    assert_eq!(checked.code, 0, "{checked:?}");
    for fine in [
        "secret and rules fit",
        "its clock keeps pace",
        "upstreams.pay.url: answers in ",
        "routes[0].lookup: what does not exist is absent (status 404)",
        "no problems",
    ] {
        assert!(checked.out.contains(fine), "no {fine} in {}", checked.out);
    }
    assert!(dump(&redis) == before, "something was changed");
    assert_eq!(world.provider.ledger().count(Sought::All), 1);
    assert!(!format!("{checked:?}").contains("canary"), "{checked:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_look_up_credential_is_found_with_its_line() {
    let world = World::new();
    let strict = provider(|head| match head.to_lowercase().contains("bearer right") {
        true => with_length("404 Not Found", b"{}"),
        false => with_length("401 Unauthorized", b""),
    })
    .await;
    let url = format!("url: 'http://{}'", strict.address);
    let config = with_upstream(&world, BY_REFERENCE, &url);

    let wrong = check_live(&config);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("Bearer canary-credential", "Bearer right")).unwrap();
    let right = check_live(&config);

    assert_eq!(wrong.code, 78, "{wrong:?}");
    let line = text.lines().position(|line| line.contains("credentials:")).unwrap() + 1;
    let expected = format!("config:{line}: routes[0].lookup.credentials: wrong look-up credential");
    assert!(wrong.err.contains(&expected), "no {expected} in {}", wrong.err);
    assert!(!wrong.err.contains("canary"), "{}", wrong.err);
    assert_eq!(right.code, 0, "{right:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_of_a_preset_is_told_by_its_own_name() {
    let world = World::new();
    let refusing = provider(|_| with_length("401 Unauthorized", b"")).await;
    let url = format!(
        "url: 'http://{}', preset: mollie, lookup_credentials: {{ authorization: {{ value: t }} }}",
        refusing.address
    );
    let config = with_upstream(&world, BY_REFERENCE, &url);

    let checked = check_live(&config);

    assert_eq!(checked.code, 78, "{checked:?}");
    for place in ["routes[0]", "upstreams.pay.preset[POST /v2/payments]"] {
        let told = format!("{place}.lookup.credentials: wrong look-up credential");
        assert!(checked.err.contains(&told), "no {told} in {}", checked.err);
    }
    assert!(!checked.err.contains("routes[1]"), "{}", checked.err);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_that_finds_what_was_not_asked_for_is_a_fault() {
    let world = World::new();
    let careless = provider(|_| with_length("200 OK", br#"{"status": "succeeded"}"#)).await;
    let config =
        with_upstream(&world, BY_REFERENCE, &format!("url: 'http://{}'", careless.address));

    let checked = check_live(&config);

    assert_eq!(checked.code, 78, "{checked:?}");
    assert!(checked.err.contains("values that cannot exist"), "{checked:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicting_redis_and_a_wrong_secret_are_found() {
    let world = World::new();
    let evicting =
        RedisServer::start_with(&["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]);
    let found = check_live(&world.config("config", &redis_store(&evicting), ""));
    assert_eq!(found.code, 78, "{found:?}");
    assert!(found.err.contains("maxmemory-policy allkeys-lru"), "{found:?}");
    assert!(found.err.contains("append-only file is off"), "warned of, too: {found:?}");

    let redis = RedisServer::start();
    for store in [redis_store(&redis), world.embedded()] {
        let config = world.config("config", &store, "");
        Semel::start(&config, &[]).stop();
        assert_eq!(check_live(&config).code, 0);
        let secret = std::fs::read(world.path("secret")).unwrap();
        let other: Vec<u8> = secret.iter().rev().copied().collect();
        std::fs::write(world.path("secret"), other).unwrap();
        let wrong = check_live(&config);
        std::fs::write(world.path("secret"), secret).unwrap();
        assert_eq!(wrong.code, 78, "{wrong:?}");
        assert!(wrong.err.contains("another index secret"), "{wrong:?}");
        let renamed = std::fs::read_to_string(&config).unwrap().replace("pay: {", "pay2: {");
        std::fs::write(&config, renamed).unwrap();
        let rules = check_live(&config);
        assert_eq!(rules.code, 78, "{rules:?}");
        assert!(rules.err.contains("other key rules"), "{rules:?}");
    }
    let nobody = format!("{{ kind: redis, url: 'redis://127.0.0.1:{}' }}", free_port());
    let away = check_live(&world.config("config", &nobody, ""));
    assert_eq!(away.code, 78, "{away:?}");
    assert!(away.err.contains("cannot be reached"), "{away:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_store_is_neither_made_nor_taken() {
    let world = World::new();
    let config = world.config("config", &world.embedded(), "");
    let none = check_live(&config);
    assert_eq!(none.code, 0, "{none:?}");
    assert!(!world.path("data").exists(), "it was made");

    let proxy = Semel::start(&config, &[]);
    let in_use = check_live(&config);
    assert_eq!(in_use.code, 0, "{in_use:?}");
    assert!(in_use.out.contains("in use by a running semel"), "{in_use:?}");
    assert_eq!(pay(proxy.data, "k-1", "").await.status, 201);
    proxy.stop();
    let names = || {
        let entries = std::fs::read_dir(world.path("data")).unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name(), std::fs::read(entry.path()).unwrap_or_default())
        });
        let mut entries: Vec<_> = entries.collect();
        entries.sort();
        entries
    };
    let before = names();
    let idle = check_live(&config);
    assert_eq!(idle.code, 0, "{idle:?}");
    assert!(idle.out.contains("secret and rules fit"), "{idle:?}");
    assert!(names() == before, "something was changed");

    let proxy = Semel::start(&config, &[]);
    assert_eq!(pay(proxy.data, "k-2", "").await.status, 201);
    proxy.kill();
    let before = names();
    let killed = check_live(&config);
    assert_eq!(killed.code, 0, "{killed:?}");
    assert!(killed.out.contains("secret and rules fit"), "{killed:?}");
    assert!(names() == before, "something was changed after a kill");

    std::fs::remove_file(world.path("data").join("semel.db")).unwrap();
    let lost = check_live(&config);
    assert_eq!(lost.code, 78, "{lost:?}");
    assert!(lost.err.contains("missing or empty"), "{lost:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_an_upstream_from_being_reached_is_told_apart() {
    let world = World::new();
    let authority = Authority::new();
    let elsewhere = RawServer::start_with(Some(authority.acceptor("elsewhere", false)), echo).await;
    let port = elsewhere.address.port();
    let ca = authority.folder.path().join("ca.pem");
    let cases = [
        (format!("url: 'http://127.0.0.1:{}'", free_port()), "nobody listens there"),
        ("url: 'http://no-such-name.invalid'".to_owned(), "does not resolve"),
        (format!("url: 'https://localhost:{port}'"), "its TLS is not accepted"),
        (
            format!("url: 'https://localhost:{port}', tls: {{ ca: '{}' }}", ca.display()),
            "not valid for name \"localhost\"",
        ),
    ];
    for (upstream, why) in cases {
        let config = with_upstream(&world, BY_REFERENCE, &upstream);
        let checked = check_live(&config);
        assert_eq!(checked.code, 78, "{upstream}: {checked:?}");
        assert!(checked.err.contains("config:5: upstreams.pay.url: "), "{checked:?}");
        assert!(checked.err.contains(why), "{upstream}: no {why} in {}", checked.err);
        assert!(!checked.err.contains("lookup:"), "what only follows is not told: {checked:?}");
    }
    assert_eq!(elsewhere.executions(), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_is_tried_and_told_and_changes_nothing() {
    let world = World::new();
    let config = world.config("config", "{ kind: memory }", BY_REFERENCE);
    let proxy = Semel::start(&config, &[]);
    let body = br#"{"amount": 700, "currency": "eur", "reference": "r-7"}"#;
    let lines = "Idempotency-Key: k\r\nContent-Type: application/json\r\n";
    let paid = crate::support::binary::http(proxy.data, "POST /v1/payments", lines, body).await;
    assert_eq!(paid.status, 201, "{}", paid.text());
    proxy.stop();

    let found = try_out(&config, &["--value", "body/reference=r-7"]);
    let shown = try_out(&config, &["--value", "body.reference=r-7", "--show-body"]);
    let absent = try_out(&config, &["--value", "body/reference=r-8"]);
    let unnamed = try_out(&config, &[]);
    let unused = try_out(&config, &["--reference", "r-7", "--value", "body/reference=r-7"]);
    let elsewhere = semel(&["lookup", "try", config.to_str().unwrap(), "--route", "nowhere"]);

    assert_eq!(found.code, 0, "{found:?}");
    for told in [
        "asked      GET /v1/payments/by-reference/r-7\n",
        "authorization",
        "answered   200, ",
        "matched    1\n",
        "verdict    found, and over: recorded as 201",
        "semel      would settle",
    ] {
        assert!(found.out.contains(told), "no {told} in {}", found.out);
    }
    assert!(!found.out.contains("\"amount\"") && shown.out.contains("\"amount\""), "{}", shown.out);
    assert!(!format!("{found:?}{shown:?}").contains("canary"), "the credential is shown");
    assert_eq!(absent.code, 1, "{absent:?}");
    assert!(absent.out.contains("verdict    absent\n"), "{}", absent.out);
    assert_eq!(unnamed.code, 64, "{unnamed:?}");
    assert!(unnamed.err.contains("give --value body/reference=…"), "{unnamed:?}");
    assert_eq!(unused.code, 64, "{unused:?}");
    assert!(unused.err.contains("does not use reference"), "{unused:?}");
    assert_eq!(elsewhere.code, 64, "{elsewhere:?}");
    assert!(elsewhere.err.contains("there are: payments"), "{elsewhere:?}");
    assert_eq!(world.provider.ledger().count(Sought::All), 1);
    world.stop().await;
}
