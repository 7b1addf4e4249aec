//! Every strategy of a look-up over real sockets: what was lost is found, and what is not there is
//! not found.
#![expect(clippy::unwrap_used, reason = "a test's server may panic")]
#![expect(clippy::disallowed_methods, reason = "a provider has a clock of its own")]

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::client::{Answer, Ask};
use crate::support::rawserver::{RawRequest, RawServer};
use crate::support::sidecar::{Sidecar, config};

/// What a provider answers to one question; nothing: it never answers.
type Reply = Option<(u16, String)>;

/// A provider that takes each payment and loses its answer, and answers questions by a script.
struct Provider {
    server: RawServer,
    questions: Arc<Mutex<Vec<RawRequest>>>,
}

/// What becomes of the payment's own answer.
#[derive(Clone)]
enum Told {
    /// The connection ends.
    Nothing,
    /// This, whole.
    Bytes(String),
}

impl Provider {
    async fn start(told: Told, script: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let questions = Arc::new(Mutex::new(vec![]));
        let (script, noted) = (Arc::new(script), Arc::clone(&questions));
        let server = RawServer::start(move |mut peer| {
            let (script, noted, told) = (Arc::clone(&script), Arc::clone(&noted), told.clone());
            async move {
                while let Some(request) = peer.request().await? {
                    let line = request.head.lines().next().unwrap().to_owned();
                    if line.starts_with("post /v1/payments") {
                        match &told {
                            Told::Nothing => return Ok(()),
                            Told::Bytes(bytes) => peer.write_bytes(bytes.as_bytes()).await?,
                        }
                        continue;
                    }
                    noted.lock().unwrap().push(request);
                    let target = line.split(' ').nth(1).unwrap();
                    match script(target) {
                        Some((status, body)) => {
                            peer.write_bytes(http(status, &body).as_bytes()).await?;
                        }
                        None => std::future::pending().await,
                    }
                }
                Ok(())
            }
        })
        .await;
        Self { server, questions }
    }

    /// What was asked, in order, in lower case: method and target.
    fn asked(&self) -> Vec<String> {
        let questions = self.questions.lock().unwrap();
        let line = |question: &RawRequest| {
            let line = question.head.lines().next().unwrap();
            line.strip_suffix(" http/1.1").unwrap().to_owned()
        };
        questions.iter().map(line).collect()
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn http(status: u16, body: &str) -> String {
    let date = httpdate::fmt_http_date(SystemTime::now());
    // A redirect leads to where the payment is.
    let location = if status / 100 == 3 { "location: /moved\r\n" } else { "" };
    format!(
        "HTTP/1.1 {status} X\r\n{location}date: {date}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn ok(body: impl Into<String>) -> Reply {
    Some((200, body.into()))
}

/// One payment with the reference `mine`, lost on its way back, under this look-up.
async fn pay(provider: &Provider, lookup: &str) -> (Sidecar, Answer) {
    let lines: String = lookup.lines().map(|line| format!("  {line}\n")).collect();
    let route = format!("max_wait: 1s\nlookup:\n  timeout: 500ms\n{lines}");
    let sidecar = Sidecar::start(config(provider.server.address, &route)).await;
    let answer = Ask::pay("mine").key("k").ask(sidecar.addr).await;
    (sidecar, answer)
}

/// The look-ups, by what they are called.
fn strategies() -> Vec<(&'static str, &'static str)> {
    vec![
        ("reference", "request: { path: \"/ref/{{ body.reference }}\" }"),
        (
            "list",
            "request: { path: /list, query: { limit: \"1\" } }\n\
             item: \"$.data[?@.ref == {{ body.reference | json }}]\"\n\
             next: { query: after, from: \"$.data[-1].id\", while: \"$.more\" }",
        ),
        (
            "search",
            "request: { method: POST, path: /search, body: '{ \"ref\": {{ body.reference }} }' }\n\
             errors: \"$.errors\"\n\
             item: \"$.data[?@.ref == {{ body.reference | json }}]\"",
        ),
        (
            "chained",
            "request: { path: /orders, query: { receipt: \"{{ body.reference }}\" } }\n\
             item: \"$.items[*]\"\n\
             then: { request: { path: \"/orders/{{ item.id }}/payment\" }, item: \"$.payment\" }",
        ),
        (
            "dated",
            "request: { path: /since, query: { from: \"{{ (sent_at_unix - 60) | rfc3339 }}\" } }\n\
             item: \"$[?@.ref == {{ body.reference | json }}]\"\n\
             created: { path: \"$.made\", skew: 60s }",
        ),
    ]
}

const STATE: &str = "\nstate: { path: \"$.status\", succeeded: [paid], accepted: [open], failed: [declined] }\n\
     reply: { status: 201 }";

/// A provider's pages of a list: the third has the payment, if there is one.
fn list(target: &str, mine: Option<&str>) -> Reply {
    let (item, more) = match target {
        "/list?limit=1" => (r#"{"id":"a1","ref":"x"}"#, true),
        "/list?limit=1&after=a1" => (r#"{"id":"a2","ref":"y"}"#, true),
        "/list?limit=1&after=a2" => (mine.unwrap_or(r#"{"id":"a3","ref":"z"}"#), false),
        _ => return Some((400, String::new())),
    };
    ok(format!(r#"{{"data":[{item}],"more":{more}}}"#))
}

/// A provider that speaks all strategies and has this payment.
fn provider_with(mine: Option<String>) -> impl Fn(&str) -> Reply + Send + Sync + 'static {
    move |target| {
        let mine = mine.as_deref();
        let listed = mine.unwrap_or_default();
        let path = target.split('?').next().unwrap();
        match (path, mine) {
            ("/ref/mine", Some(mine)) => ok(mine),
            ("/list", _) => list(target, mine),
            ("/search", _) => ok(format!(r#"{{"data":[{listed}]}}"#)),
            ("/orders", Some(_)) => ok(r#"{"items":[{"id":"o 1"}]}"#),
            ("/orders", None) => ok(r#"{"items":[]}"#),
            ("/orders/o%201/payment", Some(mine)) => ok(format!(r#"{{"payment":{mine}}}"#)),
            ("/since", _) => ok(format!("[{listed}]")),
            _ => Some((404, String::new())),
        }
    }
}

fn payment(status: &str) -> String {
    format!(r#"{{"id":"p","ref":"mine","made":{},"status":"{status}"}}"#, now())
}

#[tokio::test]
async fn a_lost_answer_is_found_by_every_strategy() {
    for (name, lookup) in strategies() {
        let paid = payment("paid");
        let provider = Provider::start(Told::Nothing, provider_with(Some(paid.clone()))).await;

        let (sidecar, first) = pay(&provider, &format!("{lookup}{STATE}")).await;
        let second = Ask::pay("mine").key("k").ask(sidecar.addr).await;

        let asked = provider.asked();
        assert_eq!((first.status, first.kind()), (201, "looked-up"), "{name}: {asked:?}");
        assert_eq!(first.text(), paid, "{name}");
        assert_eq!((second.status, second.kind()), (201, "replayed"), "{name}");
        assert_eq!(provider.server.executions(), asked.len() + 1, "{name}: {asked:?}");
    }
}

#[tokio::test]
async fn nothing_is_found_when_there_is_nothing() {
    for (name, lookup) in strategies() {
        let provider = Provider::start(Told::Nothing, provider_with(None)).await;

        let (sidecar, first) = pay(&provider, &format!("{lookup}{STATE}")).await;

        first.problem(504, "outcome-unknown");
        assert_eq!(sidecar.state(first.operation()).await, "in-doubt", "{name}");
        let absent = sidecar.metric("semel_lookups_total", "absent").await;
        assert!(absent >= 1.0, "{name}: {:?}", provider.asked());
        // The one payment, and beside it only questions.
        assert_eq!(provider.server.executions(), provider.asked().len() + 1, "{name}");
    }
}

/// What was found, in all look-ups, and what the caller was told.
async fn finding(
    lookup: &str,
    script: impl Fn(&str) -> Reply + Send + Sync + 'static,
) -> (String, Answer) {
    let provider = Provider::start(Told::Nothing, script).await;
    let (sidecar, first) = pay(&provider, &format!("{lookup}{STATE}")).await;
    (findings(&sidecar).await, first)
}

async fn findings(sidecar: &Sidecar) -> String {
    let mut found = vec![];
    for finding in ["final", "accepted", "absent", "unclear", "failed"] {
        if sidecar.metric("semel_lookups_total", &format!("\"{finding}\"")).await > 0.0 {
            found.push(finding);
        }
    }
    found.join(" ")
}

fn strategy(name: &str) -> &'static str {
    strategies().into_iter().find(|(its, _)| *its == name).unwrap().1
}

#[tokio::test]
async fn two_matches_settle_nothing_on_one_page_or_on_two() {
    let paid = payment("paid");
    let twice = format!(r#"{{"data":[{paid},{paid}]}}"#);
    let (found, told) = finding(strategy("search"), move |_| ok(twice.clone())).await;
    assert_eq!(found, "unclear");
    told.problem(504, "outcome-unknown");

    let page = |more: bool| format!(r#"{{"data":[{}],"more":{more}}}"#, payment("paid"));
    let (first, second) = (page(true), page(false));
    let (found, told) = finding(strategy("list"), move |target| {
        ok(if target.contains("after") { second.clone() } else { first.clone() })
    })
    .await;
    assert_eq!(found, "unclear");
    told.problem(504, "outcome-unknown");
}

#[tokio::test]
async fn an_older_object_with_the_same_reference_is_another_one() {
    let old = format!(r#"[{{"ref":"mine","made":{},"status":"paid"}}]"#, now() - 3600);

    let (found, told) = finding(strategy("dated"), move |_| ok(old.clone())).await;

    assert_eq!(found, "absent");
    told.problem(504, "outcome-unknown");
}

#[tokio::test]
async fn a_look_up_that_goes_wrong_settles_nothing() {
    for (name, reply, found) in [
        ("slow", None, "failed"),
        ("401", Some((401, "{}".to_owned())), "failed"),
        ("500", Some((500, payment("paid"))), "failed"),
        ("302", Some((302, payment("paid"))), "failed"),
        ("malformed", ok("{\"data\":[{\"ref\":\"mine\""), "unclear"),
    ] {
        let answer = reply.clone();
        let (finding, told) = finding(strategy("reference"), move |_| answer.clone()).await;
        assert_eq!(finding, found, "{name}");
        told.problem(504, "outcome-unknown");

        // After a first page, whatever it had, it is a page that was not read.
        let (finding, told) = finding_after_first_page(reply).await;
        assert_eq!(finding, "unclear", "{name}");
        told.problem(504, "outcome-unknown");
    }
}

#[tokio::test]
async fn a_state_that_no_rule_names_settles_nothing() {
    let (found, told) = finding(strategy("reference"), |_| ok(payment("reversed"))).await;

    assert_eq!(found, "unclear");
    told.problem(504, "outcome-unknown");
}

async fn finding_after_first_page(reply: Reply) -> (String, Answer) {
    let first = format!(r#"{{"data":[{}],"more":true}}"#, payment("paid"));
    let script = move |target: &str| {
        if target.contains("after") { reply.clone() } else { ok(first.clone()) }
    };
    finding(strategy("list"), script).await
}

#[tokio::test]
async fn only_configured_credentials_are_shown_and_no_redirect_is_followed() {
    let provider = Provider::start(Told::Nothing, |_| Some((302, String::new()))).await;
    let lookup = "credentials: { authorization: { value: Bearer of-the-look-up } }\n";
    let lookup = format!("{lookup}{}{STATE}", strategy("reference"));
    let lines: String = lookup.lines().map(|line| format!("  {line}\n")).collect();
    let sidecar =
        Sidecar::start(config(provider.server.address, &format!("max_wait: 1s\nlookup:\n{lines}")))
            .await;
    let ask = Ask::pay("mine").key("k").header("Authorization", "Bearer of-the-caller");

    ask.ask(sidecar.addr).await.problem(504, "outcome-unknown");

    let questions = provider.questions.lock().unwrap().clone();
    assert!(!questions.is_empty());
    for question in questions {
        assert!(question.head.starts_with("get /ref/mine "), "{}", question.head);
        assert!(question.head.contains("\r\nauthorization: bearer of-the-look-up\r\n"));
        assert!(!question.head.contains("of-the-caller"), "{}", question.head);
    }
}

/// A payment that is accepted with this `Location`.
fn accepted_at(location: &str) -> Told {
    let body = r#"{"status":"open"}"#;
    Told::Bytes(format!(
        "HTTP/1.1 202 X\r\nlocation: {location}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

#[tokio::test]
async fn what_was_accepted_is_followed_to_where_it_was_said_to_be() {
    for (status, code) in [("paid", 201), ("declined", 402)] {
        let state = payment(status);
        let provider = Provider::start(accepted_at("/jobs/7?full=1"), move |target| match target {
            "/jobs/7?full=1" => ok(format!(r#"{{"job":{state}}}"#)),
            _ => Some((404, String::new())),
        })
        .await;
        let state = STATE.replace("status: 201", "status: 201, failed: { status: 402 }");
        let (sidecar, first) = pay(&provider, &format!("location: {{ item: $.job }}{state}")).await;

        assert_eq!((first.status, first.kind()), (202, "accepted"));
        sidecar.until_state(first.operation(), "settled").await;
        let second = Ask::pay("mine").key("k").ask(sidecar.addr).await;
        assert_eq!((second.status, second.kind()), (code, "replayed"));
        assert_eq!(second.json()["status"], status);
        assert!(provider.asked().iter().all(|asked| asked == "get /jobs/7?full=1"));
    }
}

#[tokio::test]
async fn a_location_elsewhere_is_not_followed() {
    let elsewhere = Provider::start(Told::Nothing, |_| ok(payment("paid"))).await;
    let location = format!("http://{}/jobs/7", elsewhere.server.address);
    let provider = Provider::start(accepted_at(&location), |_| ok(payment("paid"))).await;
    let (sidecar, first) = pay(&provider, &format!("location: {{}}{STATE}")).await;

    assert_eq!((first.status, first.kind()), (202, "accepted"));
    let began = std::time::Instant::now();
    while findings(&sidecar).await.is_empty() {
        assert!(began.elapsed() < crate::support::raw::PATIENCE, "never looked up");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(findings(&sidecar).await, "unclear");
    assert_eq!(sidecar.state(first.operation()).await, "accepted");
    assert_eq!((elsewhere.server.connections(), provider.asked().len()), (0, 0));
}

#[tokio::test]
async fn what_was_lost_has_no_location_and_waits_for_an_operator() {
    let provider = Provider::start(Told::Nothing, |_| ok(payment("paid"))).await;

    let (sidecar, first) = pay(&provider, &format!("location: {{}}{STATE}")).await;

    first.problem(504, "outcome-unknown");
    assert_eq!((&*findings(&sidecar).await, provider.asked().len()), ("failed", 0));
}
