//! What Mollie's own SDKs make of semel: one charge, and something that their user can act on.
//!
//! There are three, and they differ: mollie-api-py, generated, sends again on 429 and 5xx with a *new*
//! key each time; mollie-api-typescript, generated too, with the same one; mollie-api-python, written
//! by hand, never does. The generated ones take a payment only as 201 with `application/hal+json`.

use semel::demo::provider::Speaks;
use serde_json::json;

use crate::support::sdk::{Api, Closed, Counter, order, order_with};

const MOLLIE: Api = Api {
    speaks: Speaks::Mollie,
    preset: "mollie",
    path: "/v2/payments",
    authorization: "Bearer test_practice",
};

const CHANGES_ITS_KEY: &str = "mollie_api_py.py";
const BY_HAND: &str = "mollie_api_python.py";
const NODE: &str = "mollie_api_typescript.js";

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_made_once_and_comes_back_as_it_was_made() {
    for driver in [CHANGES_ITS_KEY, BY_HAND, NODE] {
        let counter = Counter::open(MOLLIE, "");

        let said = counter.buy(driver, order("order-1")).await;

        assert!(said.bought("order-1").starts_with("tr_"), "{said:?}");
        assert_eq!((counter.charges(), counter.reached(), counter.sent()), (1, 1, 1));
        counter.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_lost_comes_back_as_the_payment_that_was_made() {
    for wrong in ["drop-after", "500-after"] {
        for driver in [CHANGES_ITS_KEY, BY_HAND, NODE] {
            let counter = Counter::open(MOLLIE, "");
            counter.next(wrong, 1);

            let said = counter.buy(driver, order("order-1")).await;

            assert!(said.bought("order-1").starts_with("tr_"), "{wrong}: {said:?}");
            assert_eq!((counter.charges(), counter.reached(), counter.sent()), (1, 1, 1));
            counter.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_found_out_is_an_error_to_ask_again_with_the_same_key() {
    for (driver, class) in
        [(CHANGES_ITS_KEY, "APIError"), (BY_HAND, "ConflictError"), (NODE, "ClientDefaultError")]
    {
        let counter = Counter::open(MOLLIE, "    max_wait: 1s\n");
        let order = order_with("order-1", &[("key", json!("key-of-order-1"))]);
        counter.next("drop-after", 1);
        counter.next("lookup-500", 1000);

        let said = counter.buy(driver, order.clone()).await;

        // 409, and not 504: the generated ones would send again for 7 s.
        assert_eq!(said.raised(class).status(), 409, "{said:?}");
        assert!(said.whole().contains("same key"), "{said:?}");
        assert_eq!(counter.sent(), 1);

        counter.provider.practice().reset();
        counter.buy(driver, order).await.bought("order-1");

        assert_eq!((counter.charges(), counter.reached()), (1, 0));
        counter.close().await;
    }
}

/// The provider says 500, having made the payment, and cannot be asked. The SDK gets that 500 and
/// sends the same body again and again, each time with a new key.
#[tokio::test(flavor = "multi_thread")]
async fn new_keys_on_every_retry_make_one_payment() {
    let counter = Counter::open(MOLLIE, "    max_wait: 500ms\n");
    counter.next("500-after", 5);
    counter.next("lookup-500", 1000);

    let said = counter.buy(CHANGES_ITS_KEY, order("order-1")).await;

    assert_eq!(said.text("result"), "error", "{said:?}");
    assert!(counter.sent() > 1, "it did not send again: {said:?}");
    assert_eq!((counter.charges(), counter.reached()), (1, 1), "{said:?}");
    counter.close().await;
}

/// The provider is slow, semel waits for it, and the SDK does not: after 5 s it sends the same again
/// with a new key.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_after_a_give_up_gets_the_first_answer() {
    let counter = Counter::open(MOLLIE, "    lookup_after: 60s\n");
    counter.next("slow=7000", 5);

    let said = counter.buy(CHANGES_ITS_KEY, order("order-1")).await;

    assert!(said.bought("order-1").starts_with("tr_"), "{said:?}");
    assert_eq!((counter.charges(), counter.reached()), (1, 1), "{said:?}");
    counter.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_is_down_is_an_error_that_says_that_nothing_was_sent() {
    for driver in [CHANGES_ITS_KEY, BY_HAND, NODE] {
        let closed = Closed::open(MOLLIE);

        let said = closed.buy(driver, order("order-1")).await;

        assert_eq!(said.text("result"), "error", "{said:?}");
        assert!(said.whole().contains("othing was sent"), "{said:?}");
        closed.semel.stop();
    }
}
