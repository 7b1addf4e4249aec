//! What operators see of the store: founding it, accepting what became of it, readiness, metrics.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::time::Duration;

use redis::Value;

use crate::support::binary::{Answer, Said, Semel, command, http, semel, until};
use crate::support::redis::RedisServer;
use crate::support::world::{World, get, pay, redis_store};

/// `semel store …` with a config.
fn store(args: &[&str], config: &Path) -> Said {
    semel(&[&["store"], args, &["--config", config.to_str().unwrap()]].concat())
}

/// Starts it where it must not start.
fn refuses_to_run(config: &Path) -> Said {
    let output = command(&["run", "--config", config.to_str().unwrap()]).output().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::new(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn not_created(store: &str) -> String {
    store.replace(" }", ", create: false }")
}

/// Where semel keeps the store's charter in a Redis.
fn charter(redis: &RedisServer) -> String {
    let Value::Array(keys) = redis.command(&["KEYS", "*"]) else { panic!("no keys") };
    let mut names = keys.into_iter().filter_map(|key| {
        let Value::BulkString(name) = key else { return None };
        String::from_utf8(name).ok()
    });
    names
        .find(|name| {
            let hash = redis.command(&["TYPE", name]) == Value::SimpleString("hash".to_owned());
            hash && redis.command(&["HEXISTS", name, "charter"]) == Value::Int(1)
        })
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_is_taken_into_use_when_told_to() {
    let world = World::new();
    let redis = RedisServer::start();
    for place in [world.embedded(), redis_store(&redis)] {
        let config = world.config("config", &not_created(&place), "");

        let empty = refuses_to_run(&config);
        let founded = store(&["init"], &config);
        let again = store(&["init"], &config);

        assert_eq!(empty.code, 78, "{empty:?}");
        assert!(empty.err.contains("semel store init"), "{empty:?}");
        assert_eq!(founded.code, 0, "{founded:?}");
        assert!(founded.out.starts_with("the store is ready: identity "), "{founded:?}");
        assert_eq!(again.code, 0, "{again:?}");
        assert!(again.out.contains("nothing was changed"), "{again:?}");
        let proxy = Semel::start(&config, &[]);
        assert_eq!(pay(proxy.data, "k-1", "").await.status, 201);
        proxy.stop();
        world.provider.practice().reset();
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_store_in_use_asks_for_semel_to_be_stopped() {
    let world = World::new();
    let config = world.config("config", &world.embedded(), "");
    let proxy = Semel::start(&config, &[]);

    let busy = store(&["accept", "--reason", "x"], &config);

    assert_eq!(busy.code, 69, "{busy:?}");
    assert!(busy.err.contains("stop semel first"), "{busy:?}");
    proxy.stop();
    let accepted = store(&["accept", "--reason", "after a restore"], &config);
    assert_eq!(accepted.code, 0, "{accepted:?}");
    assert!(accepted.out.contains("generation 2"), "{accepted:?}");
    assert!(accepted.err.contains("\"reason\":\"after a restore\""), "{accepted:?}");
    let proxy = Semel::start(&config, &[]);
    assert_eq!(pay(proxy.data, "k-1", "").await.status, 201);
    proxy.stop();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_embedded_database_is_accepted_with_a_reason_only() {
    let world = World::new();
    let config = world.config("config", &world.embedded(), "");
    let proxy = Semel::start(&config, &[]);
    assert_eq!(pay(proxy.data, "k-1", "").await.status, 201);
    proxy.stop();
    for name in ["semel.db", "semel.db-wal"] {
        let _ = std::fs::remove_file(world.path("data").join(name));
    }

    let lost = refuses_to_run(&config);
    let unfounded = store(&["init"], &config);
    let accepted = store(&["accept", "--reason", "the disk was replaced"], &config);

    assert_eq!(lost.code, 74, "{lost:?}");
    assert!(lost.err.contains("semel store accept"), "{lost:?}");
    assert_ne!(unfounded.code, 0, "{unfounded:?}");
    assert_eq!(accepted.code, 0, "{accepted:?}");
    assert!(accepted.out.contains("remembers nothing"), "{accepted:?}");
    let proxy = Semel::start(&config, &[]);
    assert_eq!(pay(proxy.data, "k-2", "").await.status, 201);
    proxy.stop();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_redis_stops_claims_until_it_is_accepted() {
    let world = World::new();
    let redis = RedisServer::start();
    let config = world.config("config", &not_created(&redis_store(&redis)), "");
    assert_eq!(store(&["init"], &config).code, 0);
    let proxy = Semel::start(&config, &[]);
    assert_eq!(pay(proxy.data, "k-1", "").await.status, 201);
    assert_eq!(get(proxy.admin, "/readyz?store=1").await.status, 200);

    redis.command(&["FLUSHALL"]);

    let refused = pay(proxy.data, "k-1", "").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    let ready = get(proxy.admin, "/readyz?store=1").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("semel store accept"), "{}", ready.text());
    assert_eq!(get(proxy.admin, "/readyz").await.status, 200);
    let accepted = store(&["accept", "--reason", "flushed by mistake"], &config);
    assert_eq!(accepted.code, 0, "{accepted:?}");
    assert!(accepted.out.contains("until they are restarted"), "{accepted:?}");
    assert_eq!(pay(proxy.data, "k-1", "").await.status, 503, "the old process claims nothing");
    assert_eq!(world.charges("k-1"), 1);
    proxy.stop();
    let proxy = Semel::start(&config, &[]);
    assert_eq!(pay(proxy.data, "k-2", "").await.status, 201);
    proxy.stop();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewound_redis_is_accepted_while_the_proxy_runs_on() {
    let world = World::new();
    let redis = RedisServer::start();
    let config = world.config("config", &redis_store(&redis), "");
    let proxy = Semel::start(&config, &[]);
    assert_eq!(pay(proxy.data, "k-1", "").await.status, 201);

    // As after a restore: the count is one that was seen long ago.
    redis.command(&["HSET", &charter(&redis), "count", "0"]);

    let refused = pay(proxy.data, "k-2", "").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(get(proxy.admin, "/readyz?store=1").await.status, 503);
    let accepted = store(&["accept", "--reason", "restored; compared with the provider"], &config);
    assert_eq!(accepted.code, 0, "{accepted:?}");
    assert!(accepted.out.contains("go on by themselves"), "{accepted:?}");
    assert_eq!(pay(proxy.data, "k-2", "").await.status, 201);
    assert_eq!(pay(proxy.data, "k-1", "").await.header("idempotent-replayed"), Some("true"));
    assert_eq!(get(proxy.admin, "/readyz?store=1").await.status, 200);
    assert_eq!((world.charges("k-1"), world.charges("k-2")), (1, 1));
    proxy.stop();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_key_rules_let_the_old_process_settle_but_claim_no_more() {
    let world = World::new();
    let redis = RedisServer::start();
    let old = world.config("old", &redis_store(&redis), "");
    let new = world.config("new", &redis_store(&redis), "    scope: [x-api-key]\n");
    let proxy = Semel::start(&old, &[]);
    let refused = refuses_to_run(&new);
    assert_eq!(refused.code, 78, "{refused:?}");
    assert!(refused.err.contains("other key rules"), "{refused:?}");

    let (paid, accepted) = tokio::join!(pay(proxy.data, "k-1", "slow=1500"), async {
        until(
            || get(proxy.admin, "/api/v1/records?state=in-flight"),
            |answer| answer.json()["records"][0].is_object().then_some(()),
        )
        .await;
        store(&["accept", "--reason", "scopes were widened"], &new)
    });

    assert_eq!(accepted.code, 0, "{accepted:?}");
    assert!(accepted.out.contains("the key rules are taken over"), "{accepted:?}");
    assert_eq!((paid.status, paid.header("semel-answer")), (201, Some("fresh")));
    let claimless = pay(proxy.data, "k-2", "").await;
    assert_eq!(claimless.status, 503, "{}", claimless.text());
    assert_eq!(get(proxy.admin, "/readyz?store=1").await.status, 503);
    let successor = Semel::start(&new, &[]);
    assert_eq!(pay(successor.data, "k-2", "").await.status, 201);
    assert_eq!(world.charges("k-2"), 1);
    successor.stop();
    proxy.stop();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_life_and_readiness_includes_the_store_if_asked() {
    let world = World::new();
    let mut redis = RedisServer::start();
    let config = world.config("config", &redis_store(&redis), "");
    let proxy = Semel::start(&config, &[]);
    let healthcheck = |admin: &str| semel(&["healthcheck", "--admin", admin]);
    let admin = proxy.admin.to_string();
    assert_eq!(healthcheck(&admin).code, 0);
    assert_eq!(get(proxy.admin, "/readyz?store=1").await.status, 200);

    redis.kill();

    assert_eq!(get(proxy.admin, "/readyz?store=1").await.status, 503);
    assert_eq!(get(proxy.admin, "/readyz").await.status, 200);
    assert_eq!(healthcheck(&admin).code, 0);
    redis.restart();
    until(|| get(proxy.admin, "/readyz?store=1"), |answer| (answer.status == 200).then_some(()))
        .await;
    proxy.stop();
    let gone = healthcheck(&admin);
    assert_eq!(gone.code, 1, "{gone:?}");
    world.stop().await;
}

/// Every sample, by its name and labels.
fn samples(answer: &Answer) -> std::collections::BTreeMap<String, f64> {
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("semel_"), "{line}");
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_happened() {
    let world = World::new();
    let config = world.config("config", &world.embedded(), "");
    let proxy = Semel::start(&config, &[]);
    assert_eq!(pay(proxy.data, "k-1", "").await.status, 201);
    assert_eq!(pay(proxy.data, "k-1", "").await.status, 201);
    let mismatch = "Idempotency-Key: k-1\r\n";
    assert_eq!(http(proxy.data, "POST /v1/payments", mismatch, b"other").await.status, 422);
    assert_eq!(pay(proxy.data, "k-2", "drop-after").await.status, 504);

    let counted = samples(&get(proxy.admin, "/metrics").await);

    for (name, value) in [
        ("semel_requests_total{answer=\"fresh\",mode=\"enforce\",route=\"payments\"}", 1.0),
        ("semel_requests_total{answer=\"replayed\",mode=\"enforce\",route=\"payments\"}", 1.0),
        ("semel_requests_total{answer=\"refused\",mode=\"enforce\",route=\"payments\"}", 1.0),
        ("semel_requests_total{answer=\"unknown\",mode=\"enforce\",route=\"payments\"}", 1.0),
        ("semel_claims_total{route=\"payments\",verdict=\"claimed\"}", 2.0),
        ("semel_claims_total{route=\"payments\",verdict=\"settled\"}", 1.0),
        ("semel_claims_total{route=\"payments\",verdict=\"mismatch\"}", 1.0),
        ("semel_attempts_total{outcome=\"final\",upstream=\"pay\"}", 1.0),
        ("semel_attempts_total{outcome=\"unknown\",upstream=\"pay\"}", 1.0),
        ("semel_attempt_duration_seconds_count{upstream=\"pay\"}", 2.0),
        ("semel_duplicates_prevented_total{by=\"record\",route=\"payments\"}", 1.0),
        ("semel_duplicates_prevented_total{by=\"mismatch\",route=\"payments\"}", 1.0),
        ("semel_in_flight{route=\"payments\"}", 0.0),
        ("semel_waiters", 0.0),
        (concat!("semel_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ] {
        assert_eq!(counted.get(name), Some(&value), "{name} in {counted:#?}");
    }
    until(
        || get(proxy.admin, "/metrics"),
        |answer| {
            let counted = samples(answer);
            (counted.get("semel_in_doubt{route=\"payments\"}") == Some(&1.0)
                && counted["semel_in_doubt_oldest_age_seconds"] > 0.0)
                .then_some(())
        },
    )
    .await;
    proxy.stop();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_while_waiting_is_not_counted_as_waiting() {
    let world = World::new();
    let config = world.config("config", &world.embedded(), "");
    let proxy = Semel::start(&config, &[]);
    let gauge = |name: &'static str, value: f64| {
        until(
            || get(proxy.admin, "/metrics"),
            move |answer| (samples(answer).get(name) == Some(&value)).then_some(()),
        )
    };
    let in_flight = "semel_in_flight{route=\"payments\"}";

    let (_, left, ()) = tokio::join!(
        pay(proxy.data, "k-1", "slow=3000"),
        async {
            gauge(in_flight, 1.0).await;
            tokio::time::timeout(Duration::from_secs(1), pay(proxy.data, "k-1", "")).await
        },
        async {
            gauge("semel_waiters", 1.0).await;
            gauge("semel_waiters", 0.0).await;
            let counted = samples(&get(proxy.admin, "/metrics").await);
            assert_eq!(counted[in_flight], 1.0, "it left before there was an answer");
        }
    );

    assert!(left.is_err());
    proxy.stop();
    world.stop().await;
}
