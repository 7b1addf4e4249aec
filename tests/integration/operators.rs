//! What operators use: the admin port, `semel records`, `semel store`, health and metrics, with the
//! real binary.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::binary::{Answer, Said, Semel, http, semel, until};
use crate::support::redis::RedisServer;
use crate::support::world::{TOKEN, World, get, pay, redis_store};

/// An order of somebody who has the token.
async fn order(admin: SocketAddr, id: &str, action: &str, order: &Value) -> Answer {
    let lines = format!("Authorization: Bearer {TOKEN}\r\n");
    let line = format!("POST /api/v1/records/{id}/{action}");
    http(admin, &line, &lines, order.to_string().as_bytes()).await
}

fn applied() -> Value {
    json!({ "as": "applied", "status": 201, "body": "{}", "reason": "seen at the provider" })
}

/// `semel records …` with the config that the proxy runs by.
fn records(semel_: &Semel, config: &std::path::Path, args: &[&str]) -> Said {
    let (admin, config) = (semel_.admin.to_string(), config.to_str().unwrap());
    let common = ["records", "--admin", &admin, "--config", config];
    semel(&[&common[..], args].concat())
}

fn audited(semel: &Semel, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
    semel
        .log
        .wait(what, |line| (line["target"] == "semel::audit" && fits(line)).then(|| line.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_in_doubt_is_settled_by_hand_and_then_replayed() {
    let world = World::new();
    let config = world.config("config", &world.embedded(), "");
    let proxy = Semel::start(&config, &[]);
    let lost = pay(proxy.data, "k-1", "drop-after").await;
    assert_eq!(lost.status, 504, "{}", lost.text());
    let id = lost.operation();

    let listed = records(&proxy, &config, &["list", "--state", "in-doubt"]);
    assert_eq!(listed.code, 0, "{listed:?}");
    let line = listed.out.lines().nth(1).unwrap();
    assert!(line.starts_with(&id) && line.contains("in-doubt  "), "{}", listed.out);
    let body = world.path("body");
    fs::write(&body, r#"{"id": "pay_by_hand"}"#).unwrap();
    let body = format!("@{}", body.display());
    let settle = ["settle", &id, "--as", "applied", "--status", "201", "--body", &body];
    let settle = [&settle[..], &["--reason", "found as pay_1 in the dashboard"]].concat();
    let settled = records(&proxy, &config, &settle);
    assert_eq!(settled.code, 0, "{settled:?}");

    let again = pay(proxy.data, "k-1", "").await;
    assert_eq!((again.status, again.text().as_str()), (201, r#"{"id": "pay_by_hand"}"#));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.header("content-type"), Some("application/json"));
    assert_eq!(world.charges("k-1"), 1);
    let line = audited(&proxy, "audit line", |line| line["after"] == "settled");
    assert_eq!(line["operation"], id.as_str());
    assert_eq!(line["action"], "settle as applied");
    assert_eq!(line["reason"], "found as pay_1 in the dashboard");
    assert_eq!(line["before"], "in-doubt");
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    let too_late = records(&proxy, &config, &settle);
    assert_eq!(too_late.code, 65, "{too_late:?}");
    assert!(too_late.err.contains("an outcome never changes"), "{too_late:?}");
    proxy.stop();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_found_in_the_data_folder_and_missed_in_words() {
    let world = World::new();
    let config = world.config("config", &world.embedded(), "");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace(&format!(", token: {{ value: {TOKEN} }}"), "")).unwrap();
    let proxy = Semel::start(&config, &[]);
    let id = pay(proxy.data, "k-1", "drop-after").await.operation();
    let admin = proxy.admin.to_string();
    let reopen = ["reopen", &id, "--allow-resend", "--reason", "x"];
    let nowhere = format!("embedded:{}", world.path("elsewhere").display());
    let without = ["records", "--admin", &admin, "--store", &nowhere];
    let wrong = ["records", "--admin", &admin, "--token", "not-the-token-at-all"];

    let without = semel(&[&without[..], &reopen].concat());
    let wrong = semel(&[&wrong[..], &reopen].concat());
    let found = records(&proxy, &config, &reopen);

    assert_eq!(without.code, 77, "{without:?}");
    assert!(without.err.contains("SEMEL_ADMIN_TOKEN"), "{without:?}");
    assert_eq!(wrong.code, 77, "{wrong:?}");
    assert_eq!(found.code, 0, "{found:?}");
    proxy.stop();
    let gone = records_at(&admin, &config);
    assert_eq!(gone.code, 69, "{gone:?}");
    assert!(gone.err.contains("is semel running there"), "{gone:?}");
    world.stop().await;
}

fn records_at(admin: &str, config: &std::path::Path) -> Said {
    semel(&["records", "--admin", admin, "--config", config.to_str().unwrap(), "list"])
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_settles_what_an_owner_may_still_conclude() {
    let world = World::new();
    let route = "    lease: 1s\n    upstream_timeout: 4s\n    lookup_after: 500ms\n";
    let redis = RedisServer::start();
    let config = world.config("config", &redis_store(&redis), route);
    let proxy = Semel::start(&config, &[]);
    let stalled = tokio::time::timeout(
        std::time::Duration::from_millis(700),
        pay(proxy.data, "k-1", "stall=60000"),
    );
    let (_, seen) = tokio::join!(stalled, async {
        let id = in_flight(proxy.admin).await;
        let refused = order(proxy.admin, &id, "settle", &applied()).await;
        (id, refused)
    });
    let (id, refused) = seen;
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("its owner is alive"), "{}", refused.text());
    audited(&proxy, "refusal", |line| {
        line["operation"] == id.as_str() && line["before"] == "in-flight"
    });

    proxy.kill();
    let proxy = Semel::start(&config, &[]);
    let path = format!("/api/v1/records/{id}");
    until(
        || get(proxy.admin, &path),
        |answer| (answer.json()["state"] == "in-doubt").then_some(()),
    )
    .await;
    let reopen = json!({ "allow_resend": true, "reason": "x" });
    let early = order(proxy.admin, &id, "reopen", &reopen).await;
    assert_eq!(early.status, 409, "{}", early.text());
    assert!(early.text().contains("may still be heard upstream"), "{}", early.text());
    assert!(early.text().contains("this process has watched it for"), "{}", early.text());
    let shown = records(&proxy, &config, &["show", &id]);
    assert!(shown.out.contains("not yet"), "{}", shown.out);
    let settled = until(
        || async { order(proxy.admin, &id, "settle", &applied()).await },
        |answer| (answer.status == 200).then(|| answer.json()),
    )
    .await;
    assert_eq!(settled["state"], "settled");
    proxy.stop();
    world.stop().await;
}

/// The operation that is under way, as soon as there is one.
async fn in_flight(admin: SocketAddr) -> String {
    until(
        || get(admin, "/api/v1/records?state=in-flight"),
        |answer| answer.json()["records"][0]["operation"].as_str().map(str::to_owned),
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_operators_who_act_at_once_one_is_told_that_it_did() {
    const OPERATIONS: usize = 12;
    let world = World::new();
    let config = world.config("config", &world.embedded(), "");
    let proxy = Semel::start(&config, &[]);
    for number in 0..OPERATIONS {
        let id = pay(proxy.data, &format!("k-{number}"), "drop-after").await.operation();
        let reopen = json!({ "allow_resend": true, "reason": "one of several" });
        let settle = applied();
        let (action, what) = match number % 2 {
            0 => ("settle", &settle),
            _ => ("reopen", &reopen),
        };

        let answers =
            futures_util::future::join_all((0..6).map(|_| order(proxy.admin, &id, action, what)))
                .await;

        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 5, "{statuses:?}");
    }
    proxy.stop();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reopened_payment_is_sent_once_more_and_no_more() {
    let world = World::new();
    let config = world.config("config", &world.embedded(), "");
    let proxy = Semel::start(&config, &[]);
    let id = pay(proxy.data, "k-1", "drop-before").await.operation();
    assert_eq!(pay(proxy.data, "k-1", "").await.status, 504);
    let unsaid = order(proxy.admin, &id, "reopen", &json!({ "reason": "x" })).await;
    assert_eq!(unsaid.status, 400, "{}", unsaid.text());

    let args = ["reopen", &id, "--allow-resend", "--reason", "not in their list", "--json"];
    let reopened = records(&proxy, &config, &args);
    assert_eq!(reopened.code, 0, "{reopened:?}");
    let shown: Value = serde_json::from_str(&reopened.out).unwrap();
    assert_eq!(shown["state"], "released");
    let answers =
        futures_util::future::join_all((0..5).map(|_| pay(proxy.data, "k-1", "slow=100"))).await;

    assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
    assert_eq!(world.charges("k-1"), 1);
    assert_eq!(world.provider.practice().requests_with_key("k-1"), 2);
    let gone = records(&proxy, &config, &["show", &id]);
    assert_eq!(gone.code, 65, "{gone:?}");
    assert!(gone.err.contains("claimed anew"), "{gone:?}");
    proxy.stop();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_want_the_token_and_pages_of_others_get_nothing() {
    let world = World::new();
    let config = world.config("config", &world.embedded(), "");
    let proxy = Semel::start(&config, &[]);
    let admin = proxy.admin;
    let id = pay(proxy.data, "k-1", "drop-after").await.operation();
    let settle = format!("POST /api/v1/records/{id}/settle");
    let list = "GET /api/v1/records";
    let body = applied().to_string();
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    let with = |lines: &str| format!("{token}{lines}");
    let cases = [
        ("no token", settle.as_str(), String::new(), 401),
        (
            "wrong token",
            &settle,
            "Authorization: Bearer operators-token-012345678X\r\n".into(),
            401,
        ),
        ("another origin", &settle, with("Origin: http://evil.example\r\n"), 403),
        ("a page across sites", &settle, with("Sec-Fetch-Site: cross-site\r\n"), 403),
        ("read without token", list, String::new(), 200),
        ("rebound name", list, "Host: evil.example\r\n".into(), 403),
        ("rebound name, token", list, with("Host: evil.example\r\n"), 200),
        ("through a proxy", list, "X-Forwarded-For: 192.0.2.1\r\n".into(), 403),
        ("read by a page", list, "Origin: http://evil.example\r\n".into(), 403),
        ("HEAD", "HEAD /api/v1/records", String::new(), 200),
        ("wrong method", "DELETE /api/v1/records", with(""), 405),
        ("settle by GET", &settle.replace("POST", "GET"), with(""), 405),
        ("preflight", "OPTIONS /api/v1/records", "Origin: http://evil.example\r\n".into(), 405),
        ("no such thing", "GET /api/v1/upstream", String::new(), 404),
        ("no such action", &settle.replace("settle", "delete"), with(""), 404),
        ("no operation id", "GET /api/v1/records/op_x", String::new(), 400),
        ("metrics by POST", "POST /metrics", String::new(), 405),
    ];
    for (name, line, lines, status) in cases {
        let answer = http(admin, line, &lines, body.as_bytes()).await;
        assert_eq!(answer.status, status, "{name}: {answer:?} {}", answer.text());
        assert!(answer.header("access-control-allow-origin").is_none(), "{name}");
        if line.starts_with("HEAD") {
            assert!(answer.body.is_empty());
        }
    }
    let large = vec![b' '; (2 << 20) + 1];
    assert_eq!(http(admin, &settle, &token, &large).await.status, 413);
    let broken = http(admin, &settle, &token, br#"{"as": "applied", "canary-in-order": 1}"#).await;
    assert_eq!(broken.status, 400);
    assert!(!broken.text().contains("canary"), "{}", broken.text());

    assert_eq!(get(admin, &format!("/api/v1/records/{id}")).await.json()["state"], "in-doubt");
    let denials = proxy.log.text().matches("a change was refused").count();
    assert_eq!(denials, 5, "{}", proxy.log.text());
    proxy.stop();
    world.stop().await;
}

async fn lists(store: &str, world: &World) {
    let config = world.config("config", store, "");
    let proxy = Semel::start(&config, &[]);
    let mut doubts = Vec::new();
    for number in 0..5 {
        assert_eq!(pay(proxy.data, &format!("fine-{number}"), "").await.status, 201);
        let lost = pay(proxy.data, &format!("lost-{number}"), "drop-after").await;
        doubts.push(lost.operation());
    }
    let ids = |answer: &Answer| -> Vec<String> {
        let answer = answer.json();
        let records = answer["records"].as_array().unwrap().iter();
        records.map(|record| record["operation"].as_str().unwrap().to_owned()).collect()
    };

    let mut listed = ids(&get(proxy.admin, "/api/v1/records?state=in-doubt").await);
    listed.sort();
    doubts.sort();
    assert_eq!(listed, doubts);
    assert_eq!(ids(&get(proxy.admin, "/api/v1/records?state=settled").await).len(), 5);
    assert!(ids(&get(proxy.admin, "/api/v1/records?older_than=1h").await).is_empty());
    let young = get(proxy.admin, "/api/v1/records?state=in-doubt&older_than=1ms").await;
    assert_eq!(ids(&young).len(), 5);
    for query in ["limit=3", "limit=3&state=settled", "limit=2&state=in-doubt"] {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let page = get(proxy.admin, &format!("/api/v1/records?{query}{after}")).await;
            let found = ids(&page);
            assert!(found.len() <= 3, "{query}: {found:?}");
            all.extend(found);
            let Some(next) = page.json()["next"].as_str().map(str::to_owned) else { break };
            after = format!("&after={next}");
        }
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count, "{query}: something came twice");
        assert_eq!(count, if query == "limit=3" { 10 } else { 5 }, "{query}");
    }
    for query in ["state=lost", "older_than=x", "limit=0", "limit=1001", "after=%00", "x=y"] {
        let refused = get(proxy.admin, &format!("/api/v1/records?{query}")).await;
        assert_eq!(refused.status, 400, "{query}");
    }
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_and_come_in_pages() {
    let world = World::new();
    lists(&world.embedded(), &world).await;
    let redis = RedisServer::start();
    lists(&redis_store(&redis), &world).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_shows_how_it_came_to_be_as_it_is() {
    let world = World::new();
    let route = "    lookup:\n      request: { path: /v1/payments, query: { idempotency_key: \
                 '{{ key }}' } }\n      item: '$.data[0]'\n      reply: { status: 201, body: item }\n";
    let config = world.config("config", &world.embedded(), route);
    let proxy = Semel::start(&config, &[]);
    let found = pay(proxy.data, "k-1", "500-after").await;
    assert_eq!(found.status, 201, "{} {}", found.head, found.text());

    let shown = records(&proxy, &config, &["show", &found.operation()]);

    assert_eq!(shown.code, 0, "{shown:?}");
    let timeline = shown.out.split_once("timeline\n").unwrap().1;
    let mut from = 0;
    for event in [
        "claimed",
        "first byte offered",
        "upstream answered 500",
        "in doubt: status 500 proves nothing",
        "looked up: final",
        "settled by a look-up",
    ] {
        let at = timeline[from..].find(event);
        from += at.unwrap_or_else(|| panic!("no {event} after {from} in\n{}", shown.out));
    }
    proxy.stop();
    world.stop().await;
}
