//! What operators do with several operations, and how they find one: `semel records lookup`,
//! `settle` and `list --key`, with the real binary.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::binary::{Answer, Said, Semel, http, semel};
use crate::support::redis::RedisServer;
use crate::support::world::{TOKEN, World, get, pay, redis_store};

/// Looks payments up by their key.
const LOOKUP: &str = "    lookup:\n      request: { path: /v1/payments, query: { idempotency_key: \
                      '{{ key }}' } }\n      item: '$.data[0]'\n      reply: { status: 201, body: \
                      item }\n";
/// The first caller does not wait for the look-up, and the reconciler is slow about it.
const IMPATIENT: &str = "    max_wait: 1ms\n";

fn records(proxy: &Semel, config: &Path, args: &[&str]) -> Said {
    let (admin, config) = (proxy.admin.to_string(), config.to_str().unwrap());
    semel(&[&["records", "--admin", &admin, "--config", config], args].concat())
}

async fn order(proxy: &Semel, path: &str, order: &Value) -> Answer {
    let lines = format!("Authorization: Bearer {TOKEN}\r\n");
    let line = format!("POST /api/v1/records/{path}");
    http(proxy.admin, &line, &lines, order.to_string().as_bytes()).await
}

async fn state(proxy: &Semel, id: &str) -> String {
    let shown = get(proxy.admin, &format!("/api/v1/records/{id}")).await.json();
    shown["state"].as_str().unwrap_or("none").to_owned()
}

/// Operations whose answers were lost.
async fn doubts(proxy: &Semel, name: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..count {
        ids.push(pay(proxy.data, &format!("{name}-{number}"), "drop-after").await.operation());
    }
    ids
}

const SETTLE: [&str; 9] =
    ["settle", "--state", "in-doubt", "--as", "applied", "--status", "201", "--reason", "outage 7"];

#[tokio::test(flavor = "multi_thread")]
async fn several_doubts_are_settled_each_for_itself_and_only_when_that_is_meant() {
    let world = World::new();
    let config = world.config("config", &world.embedded(), "");
    let proxy = Semel::start(&config, &[]);
    let ids = doubts(&proxy, "k", 5).await;
    assert_eq!(pay(proxy.data, "fine", "").await.status, 201);

    let unmeant = records(&proxy, &config, &SETTLE);
    let dry = records(&proxy, &config, &[&SETTLE[..], &["--dry-run"]].concat());
    let young = records(&proxy, &config, &[&SETTLE[..], &["--older-than", "1h", "--yes"]].concat());
    let elsewhere = records(&proxy, &config, &[&SETTLE[..], &["--route", "x", "--yes"]].concat());

    assert_eq!(unmeant.code, 64, "{unmeant:?}");
    assert!(unmeant.err.contains("--dry-run"), "{unmeant:?}");
    assert_eq!(dry.code, 0, "{dry:?}");
    assert!(dry.out.ends_with("5 would be touched; nothing was done\n"), "{}", dry.out);
    assert!(ids.iter().all(|id| dry.out.contains(id)), "{}", dry.out);
    for none in [young, elsewhere] {
        assert_eq!((none.code, none.out.as_str()), (0, "no such operations\n"), "{}", none.err);
    }
    for id in &ids {
        assert_eq!(state(&proxy, id).await, "in-doubt");
    }

    let some = records(&proxy, &config, &[&SETTLE[..], &["--limit", "2"]].concat());
    assert_eq!(some.code, 0, "{some:?}");
    assert!(some.out.ends_with("2 in all: 2 done\n"), "{}", some.out);
    assert!(ids[..2].iter().all(|id| some.out.contains(id)), "the oldest first: {}", some.out);
    let rest = records(&proxy, &config, &[&SETTLE[..], &["--yes"]].concat());
    assert!(rest.out.ends_with("3 in all: 3 done\n"), "{}", rest.out);
    let audited = proxy.log.text().matches("an operator changed a record").count();
    assert_eq!(audited, 5, "one line each");
    assert_eq!(pay(proxy.data, "k-0", "").await.status, 201);
    proxy.stop();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_those_that_cannot_be_settled_are_told_apart() {
    let world = World::new();
    let config = world.config("config", &world.embedded(), "");
    let proxy = Semel::start(&config, &[]);
    let ids = doubts(&proxy, "k", 2).await;
    let fine = pay(proxy.data, "fine", "").await.operation();
    let named = [&ids[0], &fine, &"op_nonsense".to_owned(), &ids[1]];
    let settle = json!({ "operations": named, "state": "in-doubt", "as": "applied",
                         "status": 201, "reason": "outage 7" });

    let answer = order(&proxy, "settle", &settle).await;

    assert_eq!(answer.status, 200, "{}", answer.text());
    let results = answer.json()["results"].clone();
    assert_eq!(results[0], json!({ "operation": ids[0], "state": "settled" }));
    assert!(results[1]["error"].as_str().unwrap().contains("never changes"), "{results}");
    assert!(results[2]["error"].is_string(), "{results}");
    assert_eq!(results[3]["state"], "settled");
    for bad in [
        json!({ "as": "applied", "status": 201, "reason": "x" }),
        json!({ "operations": [], "as": "applied", "status": 201, "reason": "x" }),
        json!({ "operations": ids, "as": "applied", "status": 402, "reason": "x" }),
        json!({ "operations": ids, "as": "applied", "status": 201, "reason": "" }),
        json!({ "operations": vec![&ids[0]; 101], "as": "applied", "status": 201, "reason": "x" }),
        json!({ "operations": ids, "state": "settled", "as": "applied", "status": 201, "reason": "x" }),
    ] {
        assert_eq!(order(&proxy, "settle", &bad).await.status, 400, "{bad}");
    }
    let stranger = http(proxy.admin, "POST /api/v1/records/settle", "", b"{}").await;
    assert_eq!(stranger.status, 401);
    proxy.stop();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_by_hand_waits_for_the_finding_and_shows_it() {
    let world = World::new();
    let redis = RedisServer::start();
    let config = world.config("config", &redis_store(&redis), &format!("{LOOKUP}{IMPATIENT}"));
    let proxy = Semel::start(&config, &[]);
    let mut lost = Vec::new();
    for number in 0..3 {
        lost.push(pay(proxy.data, &format!("gone-{number}"), "drop-before").await.operation());
    }
    let id = lost[0].clone();

    let found = records(&proxy, &config, &["lookup", &id]);
    assert_eq!(found.code, 0, "{found:?}");
    assert!(found.out.contains("looked up: absent; it is in-doubt now"), "{}", found.out);
    let several = records(&proxy, &config, &["lookup", "--state", "in-doubt", "--json"]);
    assert_eq!(several.code, 0, "{several:?}");
    let several: Value = serde_json::from_str(&several.out).unwrap();
    let results = several["results"].as_array().unwrap();
    let asked: BTreeSet<_> = results.iter().map(|r| r["operation"].as_str().unwrap()).collect();
    assert_eq!(asked, lost.iter().map(String::as_str).collect());
    assert!(results.iter().all(|result| result["finding"] == "absent"), "{results:?}");

    let settle = ["settle", &id, "--as", "not-applied", "--status", "402", "--reason", "x"];
    assert_eq!(records(&proxy, &config, &settle).code, 0);
    let settled = records(&proxy, &config, &["lookup", &id]);
    assert_eq!(settled.code, 65, "{settled:?}");
    assert!(settled.err.contains("it is settled"), "{settled:?}");
    proxy.stop();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_is_found_by_its_key_whatever_its_scope_and_the_key_is_nowhere() {
    let world = World::new();
    let config = world.config("config", &world.embedded(), "");
    let proxy = Semel::start(&config, &[]);
    let key = "order 4711/canary-key";
    let lines = |who: &str| format!("Idempotency-Key: \"{key}\"\r\nAuthorization: {who}\r\n");
    let body = br#"{"amount": 700, "currency": "eur"}"#;
    let mut ids = Vec::new();
    for who in ["Basic YTph", "Basic Yjpi"] {
        ids.push(http(proxy.data, "POST /v1/payments", &lines(who), body).await.operation());
    }
    assert_eq!(pay(proxy.data, "another", "").await.status, 201);

    let listed = records(&proxy, &config, &["list", "--key", key]);
    let none = records(&proxy, &config, &["list", "--key", "order 4711"]);
    let bad = records(&proxy, &config, &["list", "--key", ""]);

    assert_eq!(listed.code, 0, "{listed:?}");
    assert!(ids.iter().all(|id| listed.out.contains(id)), "{}", listed.out);
    assert_eq!(listed.out.lines().count(), 3, "{}", listed.out);
    assert_eq!(none.out, "no such operations\n");
    assert_eq!(bad.code, 65, "{bad:?}");
    assert!(!proxy.log.text().contains("canary-key"));
    proxy.stop();
    let data = std::fs::read(world.path("data").join("semel.db")).unwrap();
    assert!(!data.windows(10).any(|window| window == b"canary-key"));
    world.stop().await;
}
