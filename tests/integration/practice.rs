//! The practice payment API does the wrong that it was asked for, and its ledger tells the truth.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io;
use std::time::{Duration, Instant};

use semel::demo::provider::{Provider, Settings, Sought, help};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Long enough for anything that ought to come.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn provider() -> Provider {
    let listen = "127.0.0.1:0".parse().unwrap();
    Provider::start(&Settings { listen, ..Settings::default() }).unwrap()
}

/// What came of one request on a connection of its own, to the end of that connection.
pub(crate) struct Seen {
    bytes: String,
    end: io::Result<()>,
}

impl Seen {
    pub(crate) fn bytes(&self) -> &str {
        &self.bytes
    }

    pub(crate) fn status(&self) -> Option<u16> {
        self.bytes.split(' ').nth(1)?.parse().ok()
    }

    pub(crate) fn head(&self) -> String {
        self.bytes.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase()
    }

    pub(crate) fn body(&self) -> &str {
        self.bytes.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.body()).unwrap_or_else(|_| panic!("no JSON in {}", self.bytes))
    }

    fn promised(&self) -> Option<usize> {
        self.head().lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok())
    }
}

pub(crate) fn request(line: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("{line} HTTP/1.1\r\nHost: p\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
}

pub(crate) async fn send(provider: &Provider, raw: &str) -> Seen {
    let mut stream = TcpStream::connect(provider.addr()).await.unwrap();
    stream.write_all(raw.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let end = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap().map(drop);
    Seen { bytes: String::from_utf8(bytes).unwrap(), end }
}

pub(crate) async fn get(provider: &Provider, path: &str) -> Seen {
    send(provider, &request(&format!("GET {path}"), "Connection: close\r\n", "")).await
}

pub(crate) async fn post(provider: &Provider, path: &str, body: &Value) -> Seen {
    let headers = "Content-Type: application/json\r\nConnection: close\r\n";
    send(provider, &request(&format!("POST {path}"), headers, &body.to_string())).await
}

/// Pays under reference `o-1`; the modes come as a header.
async fn pay(provider: &Provider, modes: &str) -> Seen {
    let headers =
        format!("Content-Type: application/json\r\nX-Practice: {modes}\r\nConnection: close\r\n");
    let body = json!({"amount": 700, "currency": "eur", "reference": "o-1"}).to_string();
    let headers = if modes.is_empty() { headers.replace("X-Practice: \r\n", "") } else { headers };
    send(provider, &request("POST /v1/payments", &headers, &body)).await
}

/// Reads one answer with a known length off a connection that stays open.
async fn answer_on(stream: &mut TcpStream) -> Seen {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    let mut seen = Seen { bytes: String::from_utf8(bytes).unwrap(), end: Ok(()) };
    let mut body = vec![0; seen.promised().unwrap()];
    timeout(PATIENCE, stream.read_exact(&mut body)).await.unwrap().unwrap();
    seen.bytes.push_str(&String::from_utf8(body).unwrap());
    seen
}

#[tokio::test]
async fn a_payment_is_charged_and_can_be_asked_for_in_every_way() {
    let provider = provider();
    let body = json!({"amount": 700, "currency": "eur", "reference": "o/1", "metadata": {"n": 1}});
    let headers = "Content-Type: application/json\r\nIdempotency-Key: k 1\r\nConnection: close\r\n";

    let paid = send(&provider, &request("POST /v1/payments", headers, &body.to_string())).await;

    assert_eq!(paid.status(), Some(201));
    assert!(paid.head().contains("request-id: req_") && paid.head().contains("date: "));
    let object = paid.json();
    assert_eq!((&object["id"], &object["object"]), (&json!("payment_1"), &json!("payment")));
    assert_eq!((&object["amount"], &object["status"]), (&json!(700), &json!("succeeded")));
    assert_eq!(object["metadata"], json!({"n": 1, "idempotency_key": "k 1"}));
    assert!(object["created"].as_u64().unwrap() > 1_700_000_000);
    for path in ["/v1/payments/payment_1", "/v1/payments/by-reference/o%2F1"] {
        assert_eq!(get(&provider, path).await.json(), object, "{path}");
    }
    let lists =
        ["/v1/payments", "/v1/payments?reference=o%2F1", "/v1/payments?idempotency_key=k+1"];
    for path in lists {
        assert_eq!(get(&provider, path).await.json()["data"], json!([object]), "{path}");
    }
    let found = post(&provider, "/v1/payments/search", &json!({"reference": "o/1"})).await;
    assert_eq!(found.json()["data"], json!([object]));
    assert_eq!(provider.ledger().count(Sought::All), 1, "a look-up charged");
}

#[tokio::test]
async fn what_was_never_charged_is_absent_in_every_way() {
    let provider = provider();

    for path in ["/v1/payments/payment_1", "/v1/payments/x", "/v1/payments/by-reference/o-1"] {
        assert_eq!(get(&provider, path).await.status(), Some(404), "{path}");
    }
    for path in ["/v1/payments?reference=o-1", "/v1/refunds"] {
        let list = json!({"object": "list", "data": [], "has_more": false});
        assert_eq!(get(&provider, path).await.json(), list, "{path}");
    }
}

#[tokio::test]
async fn the_same_key_twice_is_two_charges() {
    let provider = provider();
    let raw = request("POST /v1/payments", "Idempotency-Key: k\r\nConnection: close\r\n", "");

    for _ in 0..2 {
        assert_eq!(send(&provider, &raw).await.status(), Some(201));
    }

    assert_eq!(provider.ledger().count(Sought::Key("k")), 2);
    assert_eq!(get(&provider, "/practice/charges?key=k").await.json(), json!({"count": 2}));
    assert_eq!(get(&provider, "/practice/requests?key=k").await.json(), json!({"count": 2}));
}

#[tokio::test]
async fn forms_chunks_and_other_operations_are_understood() {
    let provider = provider();
    let form = "Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n";
    let body = "amount=700&reference=o-1&metadata[order]=7";
    let chunked = "POST /v1/refunds HTTP/1.1\r\nHost: p\r\nContent-Type: application/json\r\n\
                   Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
                   8\r\n{\"refere\r\n7;x=y\r\nnce\":1}\r\n0\r\n\r\n";

    let paid = send(&provider, &request("POST /v1/payments", form, body)).await.json();
    let refunded = send(&provider, chunked).await.json();

    assert_eq!((&paid["amount"], &paid["reference"]), (&json!(700), &json!("o-1")));
    assert_eq!(paid["metadata"], json!({"order": "7"}));
    assert_eq!((&refunded["id"], &refunded["reference"]), (&json!("refund_2"), &json!("1")));
    let refunds = get(&provider, "/v1/refunds").await.json();
    assert_eq!(refunds["data"], json!([refunded]), "a list shows other operations");
}

#[tokio::test]
async fn a_list_can_be_paged_newest_first() {
    let provider = provider();
    for _ in 0..5 {
        pay(&provider, "").await;
    }

    let first = get(&provider, "/v1/payments?limit=3").await.json();
    let second = get(&provider, "/v1/payments?limit=3&starting_after=payment_3").await.json();

    let ids = |page: &Value| -> Vec<String> {
        let data = page["data"].as_array().unwrap().iter();
        data.map(|charge| charge["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&first), ["payment_5", "payment_4", "payment_3"]);
    assert_eq!(ids(&second), ["payment_2", "payment_1"]);
    assert_eq!((&first["has_more"], &second["has_more"]), (&json!(true), &json!(false)));
}

#[tokio::test]
async fn answers_that_are_wrong_say_nothing_of_whether_it_was_charged() {
    for (mode, status, charges) in [
        ("500-before", 500, 0),
        ("500-after", 500, 1),
        ("503", 503, 0),
        ("503-after", 503, 1),
        ("429", 429, 0),
        ("402", 402, 0),
        ("401", 401, 0),
        ("status=409", 409, 0),
        ("status-after=302", 302, 1),
        ("status-after=204", 204, 1),
        ("busy=100", 503, 0),
    ] {
        let provider = provider();

        let seen = pay(&provider, mode).await;

        assert_eq!(seen.status(), Some(status), "{mode}");
        assert_eq!(provider.ledger().count(Sought::Reference("o-1")), charges, "{mode}");
        assert_eq!(provider.practice().requests_with_reference("o-1"), 1, "{mode}");
        let asks_to_wait = seen.head().contains("retry-after: 1");
        assert_eq!(asks_to_wait, matches!(status, 429 | 503), "{mode}");
    }
}

#[tokio::test]
async fn a_connection_ends_unanswered_before_or_after_the_charge() {
    for (mode, charges, reset) in [
        ("drop-before", 0, false),
        ("drop-after", 1, false),
        ("reset-before", 0, true),
        ("reset-after", 1, true),
    ] {
        let provider = provider();

        let seen = pay(&provider, mode).await;

        assert_eq!(seen.bytes, "", "{mode}");
        let was_reset = seen.end.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset);
        assert_eq!(was_reset, reset, "{mode}");
        assert_eq!(provider.ledger().count(Sought::All), charges, "{mode}");
    }
}

#[tokio::test]
async fn malformed_answers_are_malformed_as_promised() {
    let provider = provider();

    let truncated = pay(&provider, "truncate").await;
    assert!(truncated.promised().unwrap() > truncated.body().len() && truncated.body().len() > 9);

    let cut = pay(&provider, "truncate-chunked").await;
    assert!(cut.head().contains("transfer-encoding: chunked"));
    assert!(cut.body().len() > 9 && !cut.body().ends_with("0\r\n\r\n"));

    let unbounded = pay(&provider, "close-delimited").await;
    assert_eq!(
        (unbounded.promised(), unbounded.json()["status"].clone()),
        (None, json!("succeeded"))
    );
    assert!(!unbounded.head().contains("transfer-encoding"));

    let both = pay(&provider, "both-lengths").await;
    assert!(both.promised().is_some() && both.head().contains("transfer-encoding: chunked"));
    assert!(both.body().ends_with("}\r\n0\r\n\r\n"));

    let upgrade = pay(&provider, "upgrade").await;
    assert_eq!(upgrade.status(), Some(101));

    let large = pay(&provider, "large=300000").await;
    assert!(large.body().len() >= 300_000 && large.json()["status"] == "succeeded");

    assert_eq!(provider.ledger().count(Sought::All), 6, "each of them charges");
}

#[tokio::test]
async fn an_unasked_answer_follows_the_first_and_the_connection_stays() {
    for extra in ["extra", "extra=20"] {
        let provider = provider();
        let mut stream = TcpStream::connect(provider.addr()).await.unwrap();
        let ask = |modes: &str| request("POST /v1/payments", modes, "");

        stream.write_all(ask(&format!("X-Practice: {extra}\r\n")).as_bytes()).await.unwrap();
        stream.write_all(ask("").as_bytes()).await.unwrap();

        assert_eq!(answer_on(&mut stream).await.json()["id"], "payment_1");
        assert_eq!(answer_on(&mut stream).await.json()["status"], "unasked");
        assert_eq!(answer_on(&mut stream).await.json()["id"], "payment_2");
        assert_eq!(provider.practice().connections(), 1);
    }
}

#[tokio::test]
async fn a_trickled_answer_comes_whole_and_late() {
    let provider = provider();
    let begun = Instant::now();

    let seen = pay(&provider, "trickle=1").await;

    assert_eq!(seen.json()["status"], "succeeded");
    assert!(begun.elapsed() >= Duration::from_millis(seen.bytes.len() as u64));
}

#[tokio::test]
async fn slow_charges_first_and_stall_charges_last() {
    for (mode, charges) in [("slow=600000", 1), ("stall=600000", 0)] {
        let provider = provider();
        let mut stream = TcpStream::connect(provider.addr()).await.unwrap();
        let modes = format!("X-Practice: {mode}\r\nIdempotency-Key: k\r\n");
        stream.write_all(request("POST /v1/payments", &modes, "").as_bytes()).await.unwrap();

        // The request is counted before it waits; a charge comes in the same breath.
        timeout(PATIENCE, async {
            while provider.practice().requests_with_key("k") == 0
                || provider.ledger().count(Sought::All) < charges
            {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();

        assert_eq!(provider.ledger().count(Sought::All), charges, "{mode}");
        let silent = timeout(Duration::from_millis(50), stream.read_u8()).await.is_err();
        assert!(silent, "{mode}");
        timeout(PATIENCE, provider.stop()).await.expect("a stop waits for nobody");
    }
}

#[tokio::test]
async fn a_caller_that_leaves_is_charged_all_the_same() {
    let provider = provider();
    let mut stream = TcpStream::connect(provider.addr()).await.unwrap();
    let raw = request("POST /v1/payments", "X-Practice: stall=50\r\n", "");
    stream.write_all(raw.as_bytes()).await.unwrap();

    drop(stream);

    timeout(PATIENCE, async {
        while provider.ledger().count(Sought::All) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_accepted_payment_succeeds_in_its_own_time() {
    let provider = provider();
    let status = async |path: &str| get(&provider, path).await.json()["status"].clone();

    let accepted = pay(&provider, "202-gets=1").await;
    assert_eq!((accepted.status(), &accepted.json()["status"]), (Some(202), &json!("processing")));
    assert_eq!(status("/v1/payments/payment_1").await, "processing");
    assert_eq!(status("/v1/payments/payment_1").await, "succeeded");

    assert_eq!(pay(&provider, "202=0").await.json()["status"], "processing");
    assert_eq!(status("/v1/payments/payment_2").await, "succeeded");

    assert_eq!(pay(&provider, "202=600000").await.status(), Some(202));
    assert_eq!(status("/v1/payments/by-reference/o-1").await, "processing");
}

#[tokio::test]
async fn an_absent_charge_is_there_but_not_for_the_first_look_ups() {
    let provider = provider();
    let by_reference = "/v1/payments/by-reference/o-1";

    assert_eq!(pay(&provider, "absent=2").await.status(), Some(201));

    assert_eq!(provider.ledger().count(Sought::All), 1);
    assert_eq!(get(&provider, by_reference).await.status(), Some(404));
    assert_eq!(get(&provider, "/v1/payments?reference=o-1").await.json()["data"], json!([]));
    assert_eq!(get(&provider, by_reference).await.status(), Some(200));
}

#[tokio::test]
async fn look_ups_go_wrong_apart_from_payments() {
    let provider = provider();
    let next = async |mode: &str| {
        let noted = post(&provider, "/practice/next", &json!({"mode": mode})).await;
        assert_eq!(noted.status(), Some(200), "{}", noted.bytes);
    };
    for mode in ["lookup-500", "lookup-absent", "lookup-drop", "lookup-slow=1, lookup-truncate"] {
        next(mode).await;
    }

    assert_eq!(pay(&provider, "").await.status(), Some(201));

    let path = "/v1/payments/by-reference/o-1";
    assert_eq!(get(&provider, path).await.status(), Some(500));
    assert_eq!(get(&provider, path).await.status(), Some(404));
    assert_eq!(get(&provider, path).await.bytes, "");
    let cut = get(&provider, path).await;
    assert!(cut.promised().unwrap() > cut.body().len());
    assert_eq!(get(&provider, path).await.status(), Some(200));
    assert_eq!(get(&provider, &format!("{path}?practice=lookup-503")).await.status(), Some(503));
}

#[tokio::test]
async fn the_next_payments_go_wrong_as_often_as_asked_and_a_reset_forgets() {
    let provider = provider();
    let asked = json!({"mode": "drop-after", "count": 2});
    assert_eq!(post(&provider, "/practice/next", &asked).await.status(), Some(200));

    let statuses = [
        pay(&provider, "").await.status(),
        pay(&provider, "402").await.status(), // Asks for itself; leaves the queue alone.
        pay(&provider, "").await.status(),
        pay(&provider, "").await.status(),
    ];
    assert_eq!(statuses, [None, Some(402), None, Some(201)]);

    let spell = json!({"mode": "busy=100", "seconds": 600});
    assert_eq!(post(&provider, "/practice/spell", &spell).await.status(), Some(200));
    assert_eq!(pay(&provider, "").await.status(), Some(503));
    assert_eq!(post(&provider, "/practice/reset", &json!({})).await.status(), Some(200));
    assert_eq!(pay(&provider, "").await.status(), Some(201));

    let spell = json!({"mode": "503", "seconds": 0});
    assert_eq!(post(&provider, "/practice/spell", &spell).await.status(), Some(200));
    assert_eq!(pay(&provider, "").await.status(), Some(201), "the spell is over");

    let requests = get(&provider, "/practice/requests").await.json();
    assert_eq!(requests["paths"], json!({"POST /v1/payments": 2}), "counts begin anew");
    let ledger = get(&provider, "/practice/ledger").await.json();
    assert_eq!((&ledger["count"], ledger["charges"].as_array().unwrap().len()), (&json!(5), 5));
}

#[tokio::test]
async fn an_unknown_mode_is_refused_with_the_list_of_those_that_exist() {
    let provider = provider();

    let refusals = [
        pay(&provider, "explode").await,
        pay(&provider, "drop-after, lookup-500").await,
        pay(&provider, "lookup-500").await,
        post(&provider, "/practice/next", &json!({"mode": "slow=soon"})).await,
        post(&provider, "/practice/next", &json!({"mode": "503", "times": 3})).await,
        post(&provider, "/practice/spell", &json!({"mode": "503", "seconds": -1})).await,
        post(&provider, "/v1/payments?practice=explode", &json!({})).await,
    ];

    for seen in refusals {
        assert_eq!(seen.status(), Some(400), "{}", seen.bytes);
        let modes = &seen.json()["error"]["modes"];
        assert!(modes["drop-before, drop-after"].is_string(), "{}", seen.bytes);
    }
    assert_eq!(provider.ledger().count(Sought::All), 0);
}

#[tokio::test]
async fn a_request_that_can_be_read_in_two_ways_is_refused_and_charges_nothing() {
    let provider = provider();
    let line = "POST /v1/payments HTTP/1.1\r\nHost: p\r\n";

    for (headers, status) in [
        ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Content-Length: 0\r\nContent-Length: 0\r\n", 400),
        ("Content-Length: +0\r\n", 400),
        ("Transfer-Encoding: gzip, chunked\r\n", 400),
        ("Content-Length: 9999999999\r\n", 413),
        (&format!("X: {}\r\n", "x".repeat(20_000)), 431),
    ] {
        let seen = send(&provider, &format!("{line}{headers}\r\n0\r\n\r\n")).await;
        assert_eq!(seen.status(), Some(status), "{headers:.60}");
    }

    assert_eq!(provider.ledger().count(Sought::All), 0);
}

#[tokio::test]
async fn the_ledger_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        ledger: Some(folder.path().join("ledger.jsonl")),
        ..Settings::default()
    };
    let first = Provider::start(&settings).unwrap();
    pay(&first, "drop-after").await;
    let paid = pay(&first, "").await.json();
    first.stop().await;

    let second = Provider::start(&settings).unwrap();

    assert_eq!(get(&second, "/v1/payments/payment_2").await.json(), paid);
    assert_eq!(second.ledger().count(Sought::Reference("o-1")), 2);
    assert_eq!(pay(&second, "").await.json()["id"], "payment_3");
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_payments_over_fifty_connections_are_two_thousand_charges() {
    let folder = tempfile::tempdir().unwrap();
    for ledger in [None, Some(folder.path().join("ledger.jsonl"))] {
        let listen = "127.0.0.1:0".parse().unwrap();
        let provider =
            Provider::start(&Settings { listen, ledger, ..Settings::default() }).unwrap();
        let addr = provider.addr();

        let mut clients = JoinSet::new();
        for client in 0..50 {
            clients.spawn(async move {
                let mut stream = TcpStream::connect(addr).await.unwrap();
                for n in 0..40 {
                    let headers = format!("Idempotency-Key: {client}-{n}\r\n");
                    let raw = request("POST /v1/payments", &headers, "");
                    stream.write_all(raw.as_bytes()).await.unwrap();
                    assert_eq!(answer_on(&mut stream).await.status(), Some(201));
                }
            });
        }
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }

        let charges = provider.ledger().charges(Sought::All);
        let ids: std::collections::HashSet<_> = charges.iter().map(|charge| &charge.id).collect();
        assert_eq!((charges.len(), ids.len()), (2000, 2000));
        assert_eq!(provider.practice().connections(), 50);
        for key in ["0-0", "49-39"] {
            assert_eq!(provider.ledger().count(Sought::Key(key)), 1);
        }
        provider.stop().await;
    }
}

#[tokio::test]
async fn a_provider_that_is_dropped_stops() {
    let provider = provider();
    let mut stream = TcpStream::connect(provider.addr()).await.unwrap();
    stream.write_all(request("GET /v1/payments", "", "").as_bytes()).await.unwrap();
    answer_on(&mut stream).await;

    drop(provider);

    assert_eq!(timeout(PATIENCE, stream.read(&mut [0])).await.unwrap().unwrap_or(0), 0);
}

#[test]
fn the_help_fits_a_terminal_and_names_every_endpoint() {
    let help = help();

    for line in help.lines() {
        assert!(line.len() <= 100, "{line}");
    }
    for path in ["/practice/next", "/practice/spell", "/practice/reset", "/practice/ledger"] {
        assert!(help.contains(path), "{path}");
    }
    assert!(help.contains("truncate-chunked"));
}
