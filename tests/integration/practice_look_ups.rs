//! The practice payment API can be asked in every way in which payment APIs can be asked, and does
//! the wrong that it was asked for.

use semel::demo::provider::{Provider, Settings, Sought};
use serde_json::{Value, json};

use crate::practice::{Seen, get, post, provider, request, send};

async fn next(provider: &Provider, mode: &str) {
    let noted = post(provider, "/practice/next", &json!({"mode": mode})).await;
    assert_eq!(noted.status(), Some(200), "{mode}");
}

async fn pay_as(provider: &Provider, key: &str, body: &Value) -> Seen {
    let headers = format!(
        "Content-Type: application/json\r\nIdempotency-Key: {key}\r\nConnection: close\r\n"
    );
    send(provider, &request("POST /v1/payments", &headers, &body.to_string())).await
}

fn ids(list: &Value) -> Vec<&str> {
    let data = list["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    data.iter().filter_map(|one| one["id"].as_str()).collect()
}

#[tokio::test]
async fn a_list_without_a_reference_shows_what_was_created_since() {
    let provider = provider();
    next(&provider, "old=7200").await;
    for reference in ["old", "new-1", "new-2"] {
        post(&provider, "/v1/payments", &json!({"reference": reference})).await;
    }
    let newest = get(&provider, "/v1/payments/payment_3").await.json();
    let since = newest["created"].as_u64().unwrap() - 3600;

    for name in ["created_gte", "created[gte]"] {
        let page = format!("/v1/payments?{name}={since}&limit=1");
        let first = get(&provider, &page).await.json();
        let second = get(&provider, &format!("{page}&starting_after=payment_3")).await.json();

        assert_eq!((ids(&first), &first["has_more"]), (vec!["payment_3"], &json!(true)), "{name}");
        assert_eq!((ids(&second), &second["has_more"]), (vec!["payment_2"], &json!(false)));
    }
}

#[tokio::test]
async fn a_search_by_query_and_by_graphql_finds_the_payment() {
    let provider = provider();
    let paid = post(&provider, "/v1/payments", &json!({"reference": "o-1", "amount": 7})).await;

    let query = json!({"query": "reference:'o-1'"});
    let found = post(&provider, "/v1/payments/search", &query).await.json();
    assert_eq!(found["data"], json!([paid.json()]));

    let search = "query Search($input: PaymentSearchInput!) { search { payments } }";
    let input = json!({"input": {"orderId": {"is": "o-1"}}});
    for body in [
        json!({"query": search, "variables": input}),
        json!({"query": "{ search { payments(input: { orderId: { is: \"o-1\" } }) } }"}),
    ] {
        let found = post(&provider, "/graphql", &body).await.json();
        let edges = &found["data"]["search"]["payments"]["edges"];
        assert_eq!(edges[0]["node"]["orderId"], "o-1", "{found}");
        assert_eq!(edges[0]["node"]["id"], "payment_1");
    }
    let nothing = post(&provider, "/graphql", &json!({"query": "{ search }"})).await.json();
    assert_eq!(nothing["data"]["search"]["payments"]["edges"], json!([]));

    next(&provider, "lookup-errors").await;
    let failed = post(&provider, "/graphql", &json!({"query": search, "variables": input})).await;
    assert_eq!((failed.status(), failed.json()["data"].clone()), (Some(200), Value::Null));
    assert!(failed.json()["errors"][0]["message"].is_string());
    assert_eq!(provider.ledger().count(Sought::All), 1, "a search charged");
}

#[tokio::test]
async fn a_graphql_mutation_charges_and_is_found_by_its_order() {
    let provider = provider();
    let transaction = json!({"amount": "7.00", "orderId": "o-1"});
    let body = json!({
        "query": "mutation Pay($input: ChargePaymentMethodInput!) { chargePaymentMethod }",
        "variables": {"input": {"transaction": transaction}},
    });

    let paid = post(&provider, "/graphql", &body).await.json();

    let node = &paid["data"]["chargePaymentMethod"]["transaction"];
    assert_eq!((&node["orderId"], &node["amount"]), (&json!("o-1"), &json!("7.00")));
    assert_eq!(provider.ledger().count(Sought::Reference("o-1")), 1);
}

#[tokio::test]
async fn a_payment_shows_what_was_done_to_it() {
    let provider = provider();
    post(&provider, "/v1/payments", &json!({"reference": "o-1"})).await;
    let path = "/v1/payments/payment_1/captures";

    let capture = post(&provider, path, &json!({"reference": "c-1", "amount": 5})).await;

    assert_eq!(capture.status(), Some(201));
    let payment = get(&provider, "/v1/payments/payment_1").await.json();
    assert_eq!(payment["captures"], json!([capture.json()]));
    assert_eq!(get(&provider, path).await.json()["data"], json!([capture.json()]));
    let lost = post(&provider, "/v1/payments/payment_9/captures", &json!({})).await;
    assert_eq!(lost.status(), Some(404), "there is no such payment");
    assert_eq!(provider.ledger().count(Sought::All), 2);
}

#[tokio::test]
async fn the_payments_of_an_order_are_found_in_two_steps() {
    let provider = provider();
    post(&provider, "/v1/orders", &json!({"receipt": "r-1", "amount": 5})).await;
    post(&provider, "/v1/orders/order_1/payments", &json!({"amount": 5})).await;

    let orders = get(&provider, "/v1/orders?receipt=r-1").await.json();
    let path = format!("/v1/orders/{}/payments", ids(&orders)[0]);
    let payments = get(&provider, &path).await.json();

    assert_eq!(ids(&payments), ["payment_2"]);
    assert_eq!(get(&provider, "/v1/orders?receipt=r-2").await.json()["data"], json!([]));
}

#[tokio::test]
async fn an_accepted_payment_says_where_to_ask_and_may_fail_in_the_end() {
    let provider = provider();
    next(&provider, "202-gets=1, declined").await;

    let accepted = post(&provider, "/v1/payments", &json!({"reference": "o-1"})).await;

    assert_eq!(accepted.status(), Some(202));
    assert!(accepted.head().contains("location: /v1/payments/payment_1"));
    assert!(accepted.head().contains("retry-after: 1"));
    let status = async || get(&provider, "/v1/payments/payment_1").await.json()["status"].clone();
    assert_eq!(status().await, "processing");
    assert_eq!(status().await, "failed");
    next(&provider, "202-fails=0").await;
    post(&provider, "/v1/payments", &json!({"reference": "o-2"})).await;
    let second = get(&provider, "/v1/payments/payment_2").await.json();
    assert_eq!(second["status"], "failed");
    let ledger = get(&provider, "/practice/ledger").await.json();
    assert_eq!((&ledger["count"], &ledger["failed"]), (&json!(0), &json!(2)));
}

#[tokio::test]
async fn a_declined_card_is_a_402_that_look_ups_find_and_that_charges_nothing() {
    let provider = provider();
    next(&provider, "declined").await;

    let by_wrong = post(&provider, "/v1/payments", &json!({"reference": "o-1"})).await;
    let by_card = json!({"reference": "o-2", "source": "declined"});
    let by_card = post(&provider, "/v1/payments", &by_card).await;

    for (declined, path) in [(by_wrong, "payment_1"), (by_card, "payment_2")] {
        assert_eq!(declined.status(), Some(402));
        let error = &declined.json()["error"];
        assert_eq!(error["code"], "card_declined");
        assert_eq!(error["payment"]["status"], "failed");
        let found = get(&provider, &format!("/v1/payments/{path}")).await.json();
        assert_eq!(found, error["payment"]);
    }
    assert_eq!(provider.ledger().count(Sought::All), 0);
}

#[tokio::test]
async fn an_idempotent_provider_answers_a_key_twice_and_charges_once() {
    let provider = provider();
    next(&provider, "idempotent").await;
    next(&provider, "drop-after").await;
    let body = json!({"amount": 7});

    let lost = pay_as(&provider, "k", &body).await;
    let again = pay_as(&provider, "k", &body).await;
    let other = pay_as(&provider, "k", &json!({"amount": 8})).await;
    let new = pay_as(&provider, "k-2", &body).await;

    assert_eq!((lost.status(), again.status()), (None, Some(201)));
    assert!(again.head().contains("idempotent-replayed: true"));
    assert_eq!(
        (again.json()["id"].clone(), new.json()["id"].clone()),
        two("payment_1", "payment_2")
    );
    assert_eq!(other.status(), Some(400), "another request with the same key");
    assert_eq!(provider.ledger().count(Sought::Key("k")), 1);
    post(&provider, "/practice/reset", &json!({})).await;
    assert_eq!(pay_as(&provider, "k", &body).await.json()["id"], "payment_3", "as it was before");
}

fn two(first: &str, second: &str) -> (Value, Value) {
    (json!(first), json!(second))
}

#[tokio::test]
async fn a_key_in_progress_and_further_headers_are_said_on_request() {
    let provider = provider();

    next(&provider, "409-in-progress").await;
    let in_progress = pay_as(&provider, "k", &json!({})).await;
    next(&provider, "500-before, header=transient-error:true, header=Stripe-Should-Retry: false")
        .await;
    let failed = pay_as(&provider, "k", &json!({})).await;

    assert_eq!(in_progress.status(), Some(409));
    assert_eq!(failed.status(), Some(500));
    assert!(failed.head().contains("transient-error: true\r\nstripe-should-retry: false"));
    assert_eq!(provider.ledger().count(Sought::All), 0);
}

#[tokio::test]
async fn look_ups_show_too_much_too_old_too_little_and_nonsense_on_request() {
    let provider = provider();
    for _ in 0..3 {
        post(&provider, "/v1/payments", &json!({"reference": "o-1"})).await;
    }
    let path = "/v1/payments?reference=o-1&limit=2";
    let asked = async |mode: &str| {
        next(&provider, mode).await;
        get(&provider, path).await
    };

    let twice = asked("lookup-duplicate").await.json();
    assert_eq!(ids(&twice), ["payment_3", "payment_3", "payment_2", "payment_2"]);
    let page = asked("lookup-page=1").await.json();
    assert_eq!((ids(&page), &page["has_more"]), (vec!["payment_3"], &json!(true)));
    let now = get(&provider, path).await.json()["data"][0]["created"].as_u64().unwrap();
    let old = asked("lookup-old=1000").await.json()["data"][0]["created"].as_u64().unwrap();
    assert_eq!(now - old, 1000);
    let garbled = asked("lookup-garbled").await;
    assert_eq!(garbled.status(), Some(200));
    assert!(serde_json::from_str::<Value>(garbled.body()).is_err());
    assert_eq!(asked("lookup-401").await.status(), Some(401));
}

#[tokio::test]
async fn what_was_done_to_a_payment_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        ledger: Some(folder.path().join("ledger.jsonl")),
        ..Settings::default()
    };
    let first = Provider::start(&settings).unwrap();
    post(&first, "/v1/payments", &json!({"source": "declined"})).await;
    post(&first, "/v1/payments/payment_1/captures", &json!({})).await;
    let payment = get(&first, "/v1/payments/payment_1").await.json();
    first.stop().await;

    let second = Provider::start(&settings).unwrap();

    assert_eq!(get(&second, "/v1/payments/payment_1").await.json(), payment);
    assert_eq!(payment["captures"][0]["id"], "capture_2");
    assert_eq!(second.ledger().count(Sought::All), 1, "the declined one is no charge");
    second.stop().await;
}
