//! The practice payment API speaks the APIs of others: what their SDKs send is understood, and what
//! their look-ups ask for is found.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use semel::demo::provider::{Provider, Settings, Sought, Speaks};
use serde_json::{Value, json};

use crate::practice::{Seen, get, post, request, send};

fn speaks(speaks: Speaks) -> Provider {
    let listen = "127.0.0.1:0".parse().unwrap();
    Provider::start(&Settings { listen, speaks, ..Settings::default() }).unwrap()
}

async fn form(provider: &Provider, path: &str, body: &str) -> Seen {
    let headers = "Content-Type: application/x-www-form-urlencoded\r\nIdempotency-Key: k\r\n\
                   Connection: close\r\n";
    send(provider, &request(&format!("POST {path}"), headers, body)).await
}

async fn next(provider: &Provider, mode: &str) {
    let noted = post(provider, "/practice/next", &json!({"mode": mode})).await;
    assert_eq!(noted.status(), Some(200), "{mode}");
}

fn at<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = value.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {value}"));
    found.as_str().unwrap_or_else(|| panic!("{pointer} is no text in {value}"))
}

#[tokio::test]
async fn stripe_intents_are_paid_by_form_and_found_by_list_search_and_id() {
    let stripe = speaks(Speaks::Stripe);
    let body = "amount=700&currency=eur&confirm=true&payment_method=pm_card_visa&customer=cus_1\
                &metadata[reference]=o-1&payment_method_types[]=card";

    let paid = form(&stripe, "/v1/payment_intents", body).await;

    assert_eq!(paid.status(), Some(200));
    let intent = paid.json();
    assert_eq!((at(&intent, "/object"), at(&intent, "/status")), ("payment_intent", "succeeded"));
    assert_eq!((&intent["amount"], &intent["amount_received"]), (&json!(700), &json!(700)));
    assert_eq!(intent["metadata"], json!({"reference": "o-1"}));
    let created = intent["created"].as_u64().unwrap();
    for path in [
        format!("/v1/payment_intents?created[gte]={}&limit=100", created - 120),
        "/v1/payment_intents?customer=cus_1".to_owned(),
        "/v1/payment_intents/search?query=metadata%5B%27reference%27%5D%3A%27o-1%27".to_owned(),
    ] {
        let list = get(&stripe, &path).await.json();
        assert_eq!((&list["data"], &list["has_more"]), (&json!([intent]), &json!(false)), "{path}");
    }
    let path = format!("/v1/payment_intents/{}", at(&intent, "/id"));
    assert_eq!(get(&stripe, &path).await.json(), intent);
    let ledger = get(&stripe, "/practice/ledger").await.json();
    assert_eq!((&ledger["count"], &ledger["charges"][0]["id"]), (&json!(1), &intent["id"]));
    assert_eq!(stripe.ledger().count(Sought::Reference("o-1")), 1);
    for path in
        ["/v1/payment_intents?customer=cus_2", "/v1/payment_intents?created[gte]=99999999999"]
    {
        assert_eq!(get(&stripe, path).await.json()["data"], json!([]), "{path}");
    }
}

#[tokio::test]
async fn a_stripe_card_that_is_declined_is_a_402_and_its_intent_is_found_unpaid() {
    let stripe = speaks(Speaks::Stripe);
    let body = "amount=700&currency=eur&confirm=true&payment_method=pm_card_chargeDeclined";

    let declined = form(&stripe, "/v1/payment_intents", body).await;

    assert_eq!(declined.status(), Some(402));
    let error = &declined.json()["error"];
    assert_eq!((at(error, "/type"), at(error, "/code")), ("card_error", "card_declined"));
    let path = format!("/v1/payment_intents/{}", at(error, "/payment_intent/id"));
    let intent = get(&stripe, &path).await.json();
    assert_eq!(at(&intent, "/status"), "requires_payment_method");
    assert_eq!(at(&intent, "/last_payment_error/code"), "card_declined");
    assert_eq!(stripe.ledger().count(Sought::All), 0);
}

#[tokio::test]
async fn a_stripe_intent_is_confirmed_captured_and_refunded() {
    let stripe = speaks(Speaks::Stripe);
    let body = "amount=700&currency=eur&capture_method=manual&payment_method=pm_card_visa";
    let made = form(&stripe, "/v1/payment_intents", body).await.json();
    let id = at(&made, "/id");

    let confirmed = form(&stripe, &format!("/v1/payment_intents/{id}/confirm"), "").await.json();
    let captured = form(&stripe, &format!("/v1/payment_intents/{id}/capture"), "").await.json();
    let refund =
        form(&stripe, "/v1/refunds", &format!("payment_intent={id}&amount=7")).await.json();

    assert_eq!(at(&made, "/status"), "requires_confirmation");
    assert_eq!(at(&confirmed, "/status"), "requires_capture");
    assert_eq!((at(&captured, "/status"), at(&captured, "/id")), ("succeeded", id));
    assert_eq!((at(&refund, "/object"), at(&refund, "/payment_intent")), ("refund", id));
    let refunds = get(&stripe, &format!("/v1/refunds?payment_intent={id}")).await.json();
    assert_eq!(refunds["data"], json!([refund]));
    let unknown = form(&stripe, "/v1/payment_intents/pi_9/capture", "").await;
    assert_eq!(
        (unknown.status(), at(&unknown.json(), "/error/code")),
        (Some(404), "resource_missing")
    );
}

#[tokio::test]
async fn wrongs_are_said_as_that_api_would_say_them() {
    for (speaks_as, path, mode, status, pointer, text) in [
        (Speaks::Stripe, "/v1/payment_intents", "402", 402, "/error/type", "card_error"),
        (Speaks::Stripe, "/v1/payment_intents", "500-after", 500, "/error/type", "api_error"),
        (Speaks::Stripe, "/v1/payment_intents", "429", 429, "/error/code", "rate_limit"),
        (Speaks::Square, "/v2/payments", "402", 402, "/errors/0/code", "GENERIC_DECLINE"),
        (Speaks::Square, "/v2/payments", "503", 503, "/errors/0/category", "API_ERROR"),
        (Speaks::Mollie, "/v2/payments", "409-in-progress", 409, "/title", "Conflict"),
        (Speaks::Razorpay, "/v1/orders", "500-before", 500, "/error/code", "SERVER_ERROR"),
        (Speaks::Adyen, "/v72/payments", "409-in-progress", 422, "/errorCode", "704"),
        (Speaks::Adyen, "/v72/payments", "401", 401, "/errorType", "security"),
        (Speaks::Paypal, "/v2/checkout/orders", "429", 429, "/name", "RATE_LIMIT_REACHED"),
        (Speaks::Checkout, "/payments", "503-after", 503, "/error_type", "processing_error"),
    ] {
        let provider = speaks(speaks_as);
        next(&provider, mode).await;

        let seen = post(&provider, path, &json!({})).await;

        assert_eq!(seen.status(), Some(status), "{speaks_as:?} {mode}");
        assert_eq!(at(&seen.json(), pointer), text, "{speaks_as:?} {mode}");
        let charges = usize::from(mode.ends_with("after"));
        assert_eq!(provider.ledger().count(Sought::All), charges, "{speaks_as:?} {mode}");
    }
}

#[tokio::test]
async fn a_lost_answer_leaves_a_charge_that_the_look_up_finds_and_a_retry_is_a_second_one() {
    let mollie_body = json!({"amount": {"value": "7.00", "currency": "EUR"}, "description": "o-1"});
    let square_body = json!({
        "idempotency_key": "k", "source_id": "cnon:card-nonce-ok", "reference_id": "o-1",
        "amount_money": {"amount": 7, "currency": "EUR"},
    });
    let order = json!({"amount": 7, "currency": "INR", "receipt": "o-1"});
    let checkout_body = json!({"amount": 7, "currency": "EUR", "reference": "o-1"});
    for (speaks_as, path, body, look_up, list) in [
        (Speaks::Square, "/v2/payments", &square_body, "/v2/payments?limit=5", "/payments"),
        (Speaks::Mollie, "/v2/payments", &mollie_body, "/v2/payments", "/_embedded/payments"),
        (Speaks::Razorpay, "/v1/orders", &order, "/v1/orders?receipt=o-1", "/items"),
        (Speaks::Checkout, "/payments", &checkout_body, "/payments?reference=o-1", "/data"),
    ] {
        let provider = speaks(speaks_as);
        let found = async || {
            let list = get(&provider, look_up).await.json().pointer(list).cloned();
            list.unwrap_or_default().as_array().map_or(0, Vec::len)
        };
        assert_eq!(found().await, 0, "{speaks_as:?}");
        next(&provider, "drop-after").await;

        assert_eq!(post(&provider, path, body).await.bytes(), "", "{speaks_as:?}");
        assert_eq!(found().await, 1, "{speaks_as:?}");
        assert!(post(&provider, path, body).await.status().is_some_and(|status| status < 300));

        assert_eq!(found().await, 2, "{speaks_as:?}");
        assert_eq!(provider.ledger().count(Sought::Reference("o-1")), 2, "{speaks_as:?}");
    }
}

#[tokio::test]
async fn square_payments_are_listed_by_time_in_either_order_and_page_by_cursor() {
    let square = speaks(Speaks::Square);
    next(&square, "old=3600").await;
    for n in 0..4 {
        let body = json!({"idempotency_key": n.to_string(), "reference_id": n.to_string()});
        post(&square, "/v2/payments", &body).await;
    }
    let references = |page: &Value| -> Vec<String> {
        let payments = page["payments"].as_array().cloned().unwrap_or_default();
        payments.iter().map(|payment| at(payment, "/reference_id").to_owned()).collect()
    };
    let all = get(&square, "/v2/payments?sort_order=ASC").await.json();
    let since = at(&all, "/payments/1/created_at").to_owned();

    let path = format!("/v2/payments?begin_time={since}&sort_order=DESC&limit=2");
    let first = get(&square, &path).await.json();
    let second = get(&square, &format!("{path}&cursor={}", at(&first, "/cursor"))).await.json();

    assert_eq!(references(&all), ["0", "1", "2", "3"]);
    assert_eq!((references(&first), references(&second)), (names(&["3", "2"]), names(&["1"])));
    assert_eq!(second.get("cursor"), None);
    assert_eq!(get(&square, "/v2/payments?location_id=L").await.json(), json!({}));
}

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn square_payments_are_completed_refunded_and_declined() {
    let square = speaks(Speaks::Square);
    let money = json!({"amount": 7, "currency": "EUR"});
    let body = json!({"idempotency_key": "k", "autocomplete": false, "amount_money": money});

    let approved = post(&square, "/v2/payments", &body).await.json();
    let id = at(&approved, "/payment/id");
    let completed = post(&square, &format!("/v2/payments/{id}/complete"), &json!({})).await.json();
    let body = json!({"idempotency_key": "r", "payment_id": id, "amount_money": money});
    let refund = post(&square, "/v2/refunds", &body).await.json();
    let body = json!({"idempotency_key": "d", "source_id": "cnon:card-nonce-declined"});
    let declined = post(&square, "/v2/payments", &body).await;

    assert_eq!(at(&approved, "/payment/status"), "APPROVED");
    assert_eq!(at(&completed, "/payment/status"), "COMPLETED");
    assert_eq!(at(&refund, "/refund/payment_id"), id);
    let payment = get(&square, &format!("/v2/payments/{id}")).await.json();
    assert_eq!(payment["payment"]["refunded_money"], money);
    assert_eq!(declined.status(), Some(402));
    assert_eq!(at(&declined.json(), "/errors/0/code"), "GENERIC_DECLINE");
    assert_eq!(at(&declined.json(), "/payment/status"), "FAILED");
}

#[tokio::test]
async fn mollie_payments_page_from_an_id_that_is_part_of_the_page() {
    let mollie = speaks(Speaks::Mollie);
    for n in 0..5 {
        let body = json!({"amount": {"value": "1.00", "currency": "EUR"}, "metadata": {"n": n}});
        let made = post(&mollie, "/v2/payments", &body).await;
        assert!(made.head().contains("content-type: application/hal+json"));
        assert_eq!((made.status(), at(&made.json(), "/status")), (Some(201), "open"));
    }

    let first = get(&mollie, "/v2/payments?limit=3").await.json();
    let next = at(&first, "/_links/next/href").to_owned();
    let second = get(&mollie, next.split_once("example").unwrap().1).await.json();

    let numbers = |page: &Value| -> Vec<u64> {
        let payments = page["_embedded"]["payments"].as_array().cloned().unwrap_or_default();
        payments.iter().filter_map(|payment| payment["metadata"]["n"].as_u64()).collect()
    };
    assert_eq!((numbers(&first), numbers(&second)), (vec![4, 3, 2], vec![1, 0]));
    assert_eq!((&first["count"], &second["_links"]["next"]), (&json!(3), &Value::Null));
    let from = at(&first, "/_embedded/payments/2/id");
    let again = get(&mollie, &format!("/v2/payments?from={from}")).await.json();
    assert_eq!(numbers(&again), [2, 1, 0]);
}

#[tokio::test]
async fn mollie_payments_are_authorised_captured_refunded_and_cancelled() {
    let mollie = speaks(Speaks::Mollie);
    let amount = json!({"value": "7.00", "currency": "EUR"});
    let body = json!({"amount": amount, "sequenceType": "recurring", "captureMode": "manual"});
    let made = post(&mollie, "/v2/payments", &body).await.json();
    let path = format!("/v2/payments/{}", at(&made, "/id"));

    let capture =
        post(&mollie, &format!("{path}/captures"), &json!({"amount": amount})).await.json();
    let paid = get(&mollie, &path).await.json();
    let refund = post(&mollie, &format!("{path}/refunds"), &json!({"amount": amount})).await.json();
    let cancel = request(&format!("DELETE {path}"), "Connection: close\r\n", "");
    let cancelled = send(&mollie, &cancel).await.json();

    assert_eq!((at(&made, "/status"), at(&paid, "/status")), ("authorized", "paid"));
    assert_eq!((at(&capture, "/resource"), at(&capture, "/status")), ("capture", "succeeded"));
    assert_eq!(at(&refund, "/paymentId"), at(&made, "/id"));
    let one = get(&mollie, &format!("{path}/refunds/{}", at(&refund, "/id"))).await.json();
    assert_eq!(one, refund);
    post(&mollie, &format!("{path}/refunds"), &json!({"amount": amount})).await;
    let first = get(&mollie, &format!("{path}/refunds?limit=1")).await.json();
    let next = at(&first, "/_links/next/href").split_once("example").unwrap().1;
    assert_eq!(get(&mollie, next).await.json()["_embedded"]["refunds"], json!([refund]));
    let list = get(&mollie, &format!("{path}/captures")).await.json();
    assert_eq!(list["_embedded"]["captures"], json!([capture]));
    assert_eq!(at(&cancelled, "/status"), "canceled");
}

#[tokio::test]
async fn razorpay_orders_lead_to_their_payments_captures_and_refunds() {
    let razorpay = speaks(Speaks::Razorpay);
    let body = json!({"amount": 700, "currency": "INR", "receipt": "r-1", "notes": {"a": "b"}});
    let order = post(&razorpay, "/v1/orders", &body).await.json();
    let id = at(&order, "/id").to_owned();
    let status =
        async || get(&razorpay, &format!("/v1/orders/{id}")).await.json()["status"].clone();
    assert_eq!((at(&order, "/status"), &order["notes"]), ("created", &json!({"a": "b"})));

    let body = json!({"amount": 700, "currency": "INR", "order_id": id, "method": "card"});
    let paid = post(&razorpay, "/v1/payments/create/json", &body).await.json();
    let payment = at(&paid, "/razorpay_payment_id");
    assert_eq!(status().await, "attempted");
    let body = json!({"amount": 700, "currency": "INR"});
    let captured = post(&razorpay, &format!("/v1/payments/{payment}/capture"), &body).await.json();
    let path = format!("/v1/payments/{payment}/refund");
    let refund = post(&razorpay, &path, &json!({"amount": 7})).await.json();

    assert_eq!((at(&captured, "/status"), at(&captured, "/id")), ("captured", payment));
    assert_eq!(status().await, "paid");
    let payments = get(&razorpay, &format!("/v1/orders/{id}/payments")).await.json();
    assert_eq!((&payments["count"], at(&payments, "/items/0/status")), (&json!(1), "captured"));
    let found = get(&razorpay, "/v1/orders?receipt=r-1&expand[]=payments").await.json();
    assert_eq!(at(&found, "/items/0/payments/items/0/id"), payment);
    assert_eq!(at(&refund, "/payment_id"), payment);
    let refunded = get(&razorpay, &format!("/v1/payments/{payment}")).await.json();
    assert_eq!(refunded["amount_refunded"], 7);
}

#[tokio::test]
async fn adyen_payments_are_authorised_refused_and_captured_and_cannot_be_looked_up() {
    let adyen = speaks(Speaks::Adyen);
    let pay = async |path: &str, holder: &str| {
        let card = json!({"type": "scheme", "holderName": holder});
        let amount = json!({"currency": "EUR", "value": 700});
        let body = json!({"amount": amount, "reference": "o-1", "paymentMethod": card,
            "merchantAccount": "M"});
        post(&adyen, path, &body).await
    };

    let paid = pay("/v72/payments", "S. Hopper").await;
    let refused = pay("/checkout/v71/payments", "DECLINED").await;

    assert_eq!((paid.status(), refused.status()), (Some(200), Some(200)));
    let (paid, refused) = (paid.json(), refused.json());
    assert_eq!((at(&paid, "/resultCode"), at(&paid, "/merchantReference")), ("Authorised", "o-1"));
    assert_eq!(at(&paid, "/pspReference").len(), 16);
    assert_eq!((at(&refused, "/resultCode"), at(&refused, "/refusalReasonCode")), ("Refused", "2"));
    let path = format!("/v72/payments/{}/captures", at(&paid, "/pspReference"));
    let capture = post(&adyen, &path, &json!({"merchantAccount": "M"})).await;
    assert_eq!((capture.status(), at(&capture.json(), "/status")), (Some(201), "received"));
    assert_eq!(capture.json()["paymentPspReference"], paid["pspReference"]);
    assert_eq!(get(&adyen, "/v72/payments").await.status(), Some(404));
    assert_eq!(adyen.ledger().count(Sought::All), 2);
}

#[tokio::test]
async fn an_idempotent_adyen_answers_a_resend_with_the_first_answer() {
    let adyen = speaks(Speaks::Adyen);
    let headers = "Content-Type: application/json\r\nIdempotency-Key: k\r\nConnection: close\r\n";
    let body = json!({"reference": "o-1"}).to_string();
    next(&adyen, "idempotent").await;
    next(&adyen, "drop-after").await;

    send(&adyen, &request("POST /v72/payments", headers, &body)).await;
    let again = send(&adyen, &request("POST /v72/payments", headers, &body)).await;

    assert_eq!(at(&again.json(), "/resultCode"), "Authorised");
    assert!(again.head().contains("idempotency-key: k"));
    assert_eq!(adyen.ledger().count(Sought::Key("k")), 1);
}

#[tokio::test]
async fn paypal_orders_are_captured_declined_and_refunded_and_found_by_id() {
    let paypal = speaks(Speaks::Paypal);
    let token = post(&paypal, "/v1/oauth2/token", &json!({})).await.json();
    assert_eq!(at(&token, "/token_type"), "Bearer");
    let amount = json!({"currency_code": "EUR", "value": "7.00"});
    let unit = json!({"custom_id": "o-1", "amount": amount});
    let body = json!({"intent": "CAPTURE", "purchase_units": [unit]});
    let order = post(&paypal, "/v2/checkout/orders", &body).await;
    assert_eq!((order.status(), at(&order.json(), "/status")), (Some(201), "CREATED"));
    let path = format!("/v2/checkout/orders/{}", at(&order.json(), "/id"));

    let headers = "Content-Type: application/json\r\nConnection: close\r\n\
                   PayPal-Mock-Response: {\"mock_application_codes\": \"INSTRUMENT_DECLINED\"}\r\n";
    let declined = send(&paypal, &request(&format!("POST {path}/capture"), headers, "{}")).await;
    next(&paypal, "drop-after").await;
    let lost = post(&paypal, &format!("{path}/capture"), &json!({})).await;

    assert_eq!((declined.status(), lost.status()), (Some(422), None));
    assert_eq!(at(&declined.json(), "/details/0/issue"), "INSTRUMENT_DECLINED");
    let found = get(&paypal, &path).await.json();
    assert_eq!(at(&found, "/status"), "COMPLETED");
    let captures = "/purchase_units/0/payments/captures";
    assert_eq!(at(&found, &format!("{captures}/0/status")), "DECLINED");
    assert_eq!(at(&found, &format!("{captures}/1/status")), "COMPLETED");
    let capture = at(&found, &format!("{captures}/1/id"));
    let path = format!("/v2/payments/captures/{capture}");
    assert_eq!(get(&paypal, &path).await.json()["amount"], amount);
    let refund = post(&paypal, &format!("{path}/refund"), &json!({})).await;
    assert_eq!((refund.status(), refund.json()["amount"].clone()), (Some(201), amount));
    assert_eq!(at(&get(&paypal, &path).await.json(), "/status"), "REFUNDED");
    let path = format!("/v2/payments/refunds/{}", at(&refund.json(), "/id"));
    assert_eq!(at(&get(&paypal, &path).await.json(), "/status"), "COMPLETED");
    assert_eq!(paypal.ledger().count(Sought::All), 3, "an order, a capture, a refund");
}

#[tokio::test]
async fn an_idempotent_paypal_answers_201_first_and_200_again() {
    let paypal = speaks(Speaks::Paypal);
    let headers = "Content-Type: application/json\r\nPayPal-Request-Id: k\r\nConnection: close\r\n";
    next(&paypal, "idempotent").await;
    let create = async || send(&paypal, &request("POST /v2/checkout/orders", headers, "{}")).await;

    let (first, again) = (create().await, create().await);

    assert_eq!((first.status(), again.status()), (Some(201), Some(200)));
    assert_eq!(first.json(), again.json());
}

#[tokio::test]
async fn a_paypal_authorization_is_captured_or_voided() {
    let paypal = speaks(Speaks::Paypal);
    let body = json!({"intent": "AUTHORIZE", "purchase_units": [{"custom_id": "o-1"}]});
    let order = post(&paypal, "/v2/checkout/orders", &body).await.json();
    let path = format!("/v2/checkout/orders/{}/authorize", at(&order, "/id"));
    let authorized = post(&paypal, &path, &json!({})).await.json();
    let id = at(&authorized, "/purchase_units/0/payments/authorizations/0/id");
    let path = format!("/v2/payments/authorizations/{id}");

    let captured = post(&paypal, &format!("{path}/capture"), &json!({})).await;
    assert_eq!((captured.status(), at(&captured.json(), "/status")), (Some(201), "COMPLETED"));
    assert_eq!(at(&get(&paypal, &path).await.json(), "/status"), "CAPTURED");
    assert_eq!(post(&paypal, &format!("{path}/void"), &json!({})).await.status(), Some(204));
    assert_eq!(at(&get(&paypal, &path).await.json(), "/status"), "VOIDED");
}

#[tokio::test]
async fn checkout_payments_are_found_by_reference_search_id_and_actions() {
    let checkout = speaks(Speaks::Checkout);
    let pay = async |token: &str, reference: &str| {
        let source = json!({"type": "token", "token": token});
        let body =
            json!({"source": source, "amount": 7, "currency": "EUR", "reference": reference});
        post(&checkout, "/payments", &body).await
    };
    let paid = pay("tok_1", "o-1").await;
    let declined = pay("tok_declined", "o-2").await;
    next(&checkout, "202").await;
    let pending = pay("tok_1", "o-3").await;

    assert_eq!((paid.status(), at(&paid.json(), "/status")), (Some(201), "Authorized"));
    assert_eq!((declined.status(), at(&declined.json(), "/status")), (Some(201), "Declined"));
    assert_eq!(declined.json()["approved"], false);
    assert_eq!((pending.status(), at(&pending.json(), "/status")), (Some(202), "Pending"));
    let id = at(&paid.json(), "/id").to_owned();
    let list = get(&checkout, "/payments?reference=o-1&limit=10&skip=0").await.json();
    assert_eq!((&list["total_count"], at(&list, "/data/0/id")), (&json!(1), id.as_str()));
    let query = json!({"query": "reference:'o-1'"});
    let found = post(&checkout, "/payments/search", &query).await.json();
    assert_eq!(found["data"], list["data"]);
    let path = format!("/payments/{id}");
    assert_eq!(at(&get(&checkout, &path).await.json(), "/status"), "Captured");
    let refund = post(&checkout, &format!("{path}/refunds"), &json!({"reference": "r-1"})).await;
    assert_eq!((refund.status(), at(&refund.json(), "/reference")), (Some(202), "r-1"));
    let actions = get(&checkout, &format!("{path}/actions")).await.json();
    assert_eq!((at(&actions, "/0/type"), at(&actions, "/1/type")), ("Refund", "Authorization"));
    assert_eq!(actions[0]["id"], refund.json()["action_id"]);
    assert_eq!(get(&checkout, "/payments").await.status(), Some(422), "a reference is required");
    assert_eq!(checkout.ledger().count(Sought::All), 3);
}
