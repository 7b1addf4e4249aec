//! What Razorpay's own SDK makes of semel: one order, and something that its user can act on.
//!
//! Orders have no idempotency key; `receipt` names them. Of an error the SDK keeps a class and a
//! description.

use semel::demo::provider::Speaks;
use serde_json::json;

use crate::support::sdk::{Api, Closed, Counter, order, order_with};

const RAZORPAY: Api = Api {
    speaks: Speaks::Razorpay,
    preset: "razorpay",
    path: "/v1/orders",
    authorization: "Basic cnpwX3Rlc3RfcHJhY3RpY2U6c2VjcmV0",
};

const DRIVER: &str = "razorpay_python.py";

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_made_once_and_comes_back_as_it_was_made() {
    let counter = Counter::open(RAZORPAY, "");

    let said = counter.buy(DRIVER, order("order-1")).await;

    assert!(said.bought("order-1").starts_with("order_"), "{said:?}");
    assert_eq!((counter.charges(), counter.reached(), counter.sent()), (1, 1, 1));
    counter.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_lost_comes_back_as_the_order_that_was_made() {
    for wrong in ["drop-after", "500-after"] {
        let counter = Counter::open(RAZORPAY, "");
        counter.next(wrong, 1);

        let said = counter.buy(DRIVER, order("order-1")).await;

        assert!(said.bought("order-1").starts_with("order_"), "{wrong}: {said:?}");
        assert_eq!((counter.charges(), counter.reached(), counter.sent()), (1, 1, 1));
        counter.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_found_out_is_an_error_and_the_same_receipt_asks_again() {
    let counter = Counter::open(RAZORPAY, "    max_wait: 1s\n");
    counter.next("drop-after", 1);
    counter.next("lookup-500", 1000);

    let said = counter.buy(DRIVER, order("order-1")).await;

    // BadRequestError would mean: not made.
    assert!(said.raised("ServerError").text("message").contains("not a failure"), "{said:?}");

    counter.provider.practice().reset();
    let said = counter.buy(DRIVER, order("order-1")).await;

    assert!(said.bought("order-1").starts_with("order_"), "{said:?}");
    assert_eq!((counter.charges(), counter.reached()), (1, 0));
    counter.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sdk_that_may_send_again_makes_one_order() {
    let counter = Counter::open(RAZORPAY, "");
    counter.next("drop-after", 5);

    let said = counter.buy(DRIVER, order_with("order-1", &[("retries", json!(true))])).await;

    assert!(said.bought("order-1").starts_with("order_"), "{said:?}");
    assert_eq!((counter.charges(), counter.reached()), (1, 1));
    counter.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_is_down_is_an_error_that_says_that_nothing_was_sent() {
    let closed = Closed::open(RAZORPAY);

    let said = closed.buy(DRIVER, order("order-1")).await;

    assert_eq!(said.text("result"), "error", "{said:?}");
    assert!(said.text("message").contains("othing was sent"), "{said:?}");
    closed.semel.stop();
}
