//! Asking for the state of an operation by its key or id, waiting for another one, and callers who
//! would rather not wait. Whoever asks sends nothing and changes nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use semel::store::SharedStore;
use semel::store::memory::MemoryStore;

use crate::support::client::{Answer, Ask};
use crate::support::raw::{Then, exchange};
use crate::support::scripted::{Scripted, with_length};
use crate::support::sidecar::{Sidecar, config, config_of};

const OPERATIONS: &str = "/.well-known/semel/operations";

/// A question with the credentials that [`pay`] has.
fn question(query: &str) -> Ask {
    Ask::new("GET", &format!("{OPERATIONS}{query}")).header("Authorization", "Bearer a")
}

fn pay() -> Ask {
    Ask::post("/pay").header("Authorization", "Bearer a")
}

async fn gated(route: &str) -> (Scripted, Sidecar) {
    let upstream = Scripted::gated(with_length("201 Created", b"paid")).await;
    let sidecar = Sidecar::start(config(upstream.addr(), route)).await;
    (upstream, sidecar)
}

fn state(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["state"].as_str().unwrap_or("none").to_owned()
}

#[tokio::test]
async fn an_operation_is_asked_for_by_its_key_and_credentials() {
    let (upstream, sidecar) = gated("").await;
    let ask = question("?path=/pay").key("\"k\"");
    ask.ask(sidecar.addr).await.problem(404, "not-found");
    assert_eq!(sidecar.records().await["records"], serde_json::json!([]));
    assert_eq!(upstream.executions(), 0);

    let caller = pay().key("k").send(sidecar.addr).await;
    upstream.until_executions(1).await;
    let flying = ask.ask(sidecar.addr).await;
    upstream.let_go(9);
    let told = caller.answer().await;
    let settled = ask.ask(sidecar.addr).await;

    assert_eq!((&*state(&flying), &*state(&settled)), ("in-flight", "settled"));
    let mut by_id = sidecar.operation(told.operation()).await.json();
    let mut by_key = settled.json();
    for answer in [&mut by_id, &mut by_key] {
        // What goes on between two questions.
        answer["claimed_seconds_ago"].take();
        answer["in_this_state_for_seconds"].take();
    }
    assert_eq!(by_id, by_key);
    assert_eq!(settled.header("cache-control"), Some("no-store"));
    for other in [
        question("?path=/pay").key("other"),
        question("?path=/pay/other").key("k"),
        question("?path=/pay&method=PUT").key("k"),
        Ask::new("GET", &format!("{OPERATIONS}?path=/pay")).key("k"),
    ] {
        other.ask(sidecar.addr).await.problem(404, "not-found");
    }
    assert_eq!(upstream.executions(), 1);
    let target = format!("HEAD {OPERATIONS}?path=/pay&method=POST HTTP/1.1\r\nHost: a\r\n");
    let headers = "Authorization: Bearer a\r\nIdempotency-Key: k\r\nConnection: close\r\n\r\n";
    let (_, head) = exchange(sidecar.addr, (target + headers).as_bytes(), Then::Wait).await;
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn a_key_from_body_or_query_is_asked_for_as_a_parameter() {
    let upstream = Scripted::answering(with_length("201 Created", b"")).await;
    let rest = "routes:\n\
        - { match: { path: /json }, key: { sources: [{ json: /id }, { header: X-Key }] } }\n\
        - { match: { path: /query }, key: { sources: [{ query: id }] } }\n\
        - { match: { path: /off }, mode: off }\n";
    let sidecar = Sidecar::start(config_of(upstream.addr(), rest)).await;
    let ask = |query: &str| Ask::new("GET", &format!("{OPERATIONS}{query}"));
    let json = Ask::post("/json").body("{\"id\":\"a b\"}").ask(sidecar.addr).await;
    let query = Ask::post("/query?id=q%26").ask(sidecar.addr).await;
    let header = Ask::post("/json").header("X-Key", "h").ask(sidecar.addr).await;

    for (question, told) in [
        (ask("?path=/json&key=a+b"), &json),
        (ask("?path=/json").header("X-Key", "h"), &header),
        // The place that comes first counts.
        (ask("?path=/json&key=a%20b").header("X-Key", "h"), &json),
        (ask("?path=%2Fquery&key=q%26"), &query),
    ] {
        let found = question.ask(sidecar.addr).await;
        assert_eq!(found.json()["operation"], told.operation(), "{question:?}");
    }
    ask("?path=/off").key("k").ask(sidecar.addr).await.problem(404, "not-found");
}

#[tokio::test]
async fn a_question_that_cannot_be_answered_says_why() {
    let (_upstream, sidecar) = gated("").await;
    let id = "/op_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for (query, key, status, slug) in [
        ("", Some("k"), 400, "malformed-request"),
        ("?path=pay", Some("k"), 400, "malformed-request"),
        ("?path=/pay%3Fa", Some("k"), 400, "malformed-request"),
        ("?path=/a&path=/b", Some("k"), 400, "malformed-request"),
        ("?path=/%ff", Some("k"), 400, "malformed-request"),
        ("?path=/pay&method=P%20T", Some("k"), 400, "malformed-request"),
        ("?path=/pay&wait=soon", Some("k"), 400, "malformed-request"),
        ("?path=/pay&wait=-1", Some("k"), 400, "malformed-request"),
        ("?path=/pay&method=GET", Some("k"), 404, "not-found"),
        ("?path=/pay", None, 400, "key-missing"),
        // The key of this route belongs into its header, where no log keeps it.
        ("?path=/pay&key=k", None, 400, "key-missing"),
        ("?path=/pay", Some("\"k"), 400, "key-invalid"),
        ("/op_short", None, 404, "not-found"),
        (id, None, 404, "not-found"),
        (&format!("{id}?wait=x"), None, 400, "malformed-request"),
    ] {
        let ask = key.iter().fold(question(query), |ask, key| ask.key(key));
        let problem = ask.ask(sidecar.addr).await.problem(status, slug);
        assert_eq!(problem["retry"], "no", "{query}");
    }
    let posted = Ask::post(&format!("{OPERATIONS}?path=/pay")).key("k").ask(sidecar.addr).await;
    assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")));
}

#[tokio::test]
async fn who_waits_hears_of_the_change_and_counts_as_no_caller() {
    let store: SharedStore = Arc::new(MemoryStore::default());
    let upstream = Scripted::gated(with_length("201 Created", b"paid")).await;
    let owner = Sidecar::start_on(Arc::clone(&store), config(upstream.addr(), "")).await;
    let other = Sidecar::start_on(store, config(upstream.addr(), "")).await;
    let caller = pay().key("k").send(owner.addr).await;
    upstream.until_executions(1).await;
    let by_key = question("?path=/pay&wait=30").key("k");
    let id = question("?path=/pay").key("k").ask(other.addr).await.json();
    let by_id = question(&format!("/{}?wait=30", id["operation"].as_str().unwrap_or_default()));

    let mut waiting = vec![];
    for sidecar in [&owner, &other] {
        for ask in [&by_key, &by_id] {
            let mut call = ask.send(sidecar.addr).await;
            assert!(call.is_silent().await);
            waiting.push(call);
        }
    }
    assert_eq!(owner.metric("semel_waiters", "").await, 0.0);
    let began = Instant::now();
    upstream.let_go(9);

    for call in waiting {
        assert_eq!(state(&call.answer().await), "settled");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(caller.answer().await.kind(), "fresh");
    // What is over is told at once.
    assert_eq!(state(&by_key.ask(other.addr).await), "settled");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(upstream.executions(), 1);
}

#[tokio::test]
async fn a_wait_without_a_change_ends_in_time_with_the_state_as_it_is() {
    let (upstream, sidecar) = gated("").await;
    let _caller = pay().key("k").send(sidecar.addr).await;
    upstream.until_executions(1).await;
    let began = Instant::now();

    let answer = question("?path=/pay&wait=1").key("k").ask(sidecar.addr).await;

    assert_eq!(state(&answer), "in-flight");
    assert!((1000..3000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn those_who_wait_for_a_state_are_bounded_and_take_no_place_of_duplicates() {
    let (upstream, sidecar) = gated("limits: { waiters: 1 }").await;
    let caller = pay().key("k").send(sidecar.addr).await;
    upstream.until_executions(1).await;
    let ask = question("?path=/pay&wait=30").key("k");
    let mut first = ask.send(sidecar.addr).await;
    assert!(first.is_silent().await);

    ask.ask(sidecar.addr).await.problem(503, "overloaded");
    assert_eq!(state(&question("?path=/pay").key("k").ask(sidecar.addr).await), "in-flight");
    let mut duplicate = pay().key("k").send(sidecar.addr).await;
    assert!(duplicate.is_silent().await);
    upstream.let_go(9);

    assert_eq!(state(&first.answer().await), "settled");
    assert_eq!(duplicate.answer().await.kind(), "followed");
    assert_eq!(caller.answer().await.kind(), "fresh");
}

#[tokio::test]
async fn who_prefers_not_to_wait_is_told_where_to_ask_and_the_operation_goes_on() {
    for seconds in [0, 1] {
        let (upstream, sidecar) = gated("").await;
        let prefer = format!("return=minimal, Respond-Async; a=\"b,c\", wait={seconds}");
        let ask = pay().key("k").header("Prefer", &prefer);
        let began = Instant::now();

        let (owner, follower) = tokio::join!(ask.ask(sidecar.addr), ask.ask(sidecar.addr));

        let took = began.elapsed();
        assert!(took >= Duration::from_secs(seconds) && took < Duration::from_secs(seconds + 2));
        for answer in [&owner, &follower] {
            answer.problem(202, "outcome-unknown");
            let applied = format!("respond-async, wait={seconds}");
            assert_eq!(answer.header("preference-applied"), Some(&*applied));
            assert!(answer.header("location").is_some_and(|to| to.ends_with(owner.operation())));
        }
        upstream.until_executions(1).await;
        upstream.let_go(9);
        let location = format!("{}?wait=30", owner.header("location").unwrap_or_default());
        let asked = Ask::new("GET", &location).ask(sidecar.addr).await;
        assert_eq!(state(&asked), "settled");
        let answer = ask.ask(sidecar.addr).await;
        assert_eq!((answer.status, answer.kind()), (201, "replayed"));
        assert_eq!(answer.header("preference-applied"), None);
        assert_eq!(upstream.executions(), 1);
    }
}

#[tokio::test]
async fn a_shorter_wait_ends_as_waits_do_and_a_longer_one_changes_nothing() {
    let (upstream, sidecar) = gated("max_wait: 1s").await;
    let owner = pay().key("k").header("Prefer", "wait=0").ask(sidecar.addr).await;
    owner.problem(504, "outcome-unknown");
    assert_eq!(owner.header("preference-applied"), Some("wait=0"));
    upstream.until_executions(1).await;
    let began = Instant::now();

    let longer = pay().key("k").header("Prefer", "wait=500, respond-async").ask(sidecar.addr).await;

    longer.problem(202, "outcome-unknown");
    assert_eq!(longer.header("preference-applied"), Some("respond-async"));
    assert!((900..3000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    // In time, nothing was preferred over anything.
    upstream.let_go(9);
    let in_time = pay().key("other").body("another").header("Prefer", "wait=20, respond-async");
    let in_time = in_time.ask(sidecar.addr).await;
    assert_eq!((in_time.kind(), in_time.header("preference-applied")), ("fresh", None));
}

#[tokio::test]
async fn who_was_told_to_ask_later_was_left_unanswered() {
    let (upstream, sidecar) = gated("").await;
    let keyless = pay().body("coffee");
    let told = keyless.clone().header("Prefer", "respond-async, wait=0").ask(sidecar.addr).await;
    told.problem(202, "outcome-unknown");
    upstream.until_executions(1).await;
    upstream.let_go(9);
    sidecar.until_state(told.operation(), "settled").await;

    let again = keyless.ask(sidecar.addr).await;

    assert_eq!((again.kind(), again.operation()), ("replayed", told.operation()));
    assert_eq!(upstream.executions(), 1);
}
