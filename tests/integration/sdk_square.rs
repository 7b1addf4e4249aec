//! What Square's own SDKs make of semel: one charge, and something that their user can act on.
//!
//! Their key is in the body. They send again by themselves on 5xx, the one for Python on 409 too.

use semel::demo::provider::Speaks;
use serde_json::{Value, json};

use crate::support::sdk::{Api, Closed, Counter, order_with};

const SQUARE: Api = Api {
    speaks: Speaks::Square,
    preset: "square",
    path: "/v2/payments",
    authorization: "Bearer practice",
};

/// The drivers, and what their class of errors is called.
const WAYS: [(&str, &str); 2] =
    [("square_python.py", "ApiError"), ("square_node.js", "SquareError")];

fn order(reference: &str) -> Value {
    order_with(reference, &[("key", json!(format!("key-of-{reference}")))])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_made_once_and_a_second_call_gets_the_same() {
    let counter = Counter::open(SQUARE, "");
    let mut ids = vec![];

    for (driver, _) in WAYS {
        let said = counter.buy(driver, order("order-1")).await;
        assert_eq!(said.text("status"), "COMPLETED", "{said:?}");
        ids.push(said.bought("order-1"));
    }

    assert_eq!(ids[0], ids[1]);
    assert_eq!((counter.charges(), counter.reached(), counter.sent()), (1, 1, 2));
    counter.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_lost_comes_back_as_the_payment_that_was_made() {
    for wrong in ["drop-after", "500-after"] {
        for (driver, _) in WAYS {
            let counter = Counter::open(SQUARE, "");
            counter.next(wrong, 1);

            let said = counter.buy(driver, order("order-1")).await;

            said.bought("order-1");
            assert_eq!(said.text("status"), "COMPLETED", "{said:?}");
            assert_eq!((counter.charges(), counter.reached(), counter.sent()), (1, 1, 1));
            counter.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_found_out_is_an_error_to_ask_again_with_the_same_key() {
    for (driver, class) in WAYS {
        let counter = Counter::open(SQUARE, "    max_wait: 1s\n");
        counter.next("drop-after", 1);
        counter.next("lookup-500", 1000);

        let said = counter.buy(driver, order("order-1")).await;

        assert!(said.raised(class).whole().contains("OUTCOME_UNKNOWN"), "{said:?}");
        assert!(said.whole().contains("same key"), "{said:?}");
        assert_eq!((counter.charges(), counter.reached()), (1, 1));

        counter.provider.practice().reset();
        counter.buy(driver, order("order-1")).await.bought("order-1");

        assert_eq!((counter.charges(), counter.reached()), (1, 0));
        counter.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_card_is_an_error_and_no_payment() {
    for wrong in ["declined", "declined, drop-after"] {
        for (driver, class) in WAYS {
            let counter = Counter::open(SQUARE, "");
            counter.next(wrong, 1);

            let said = counter.buy(driver, order("order-1")).await;

            assert!(said.raised(class).whole().contains("DECLINE"), "{wrong}: {said:?}");
            assert_eq!((counter.charges(), counter.reached()), (0, 1), "{wrong}");
            counter.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_is_down_is_an_error_that_says_that_nothing_was_sent() {
    for (driver, class) in WAYS {
        let closed = Closed::open(SQUARE);

        let said = closed.buy(driver, order("order-1")).await;

        assert!(said.raised(class).whole().contains("UPSTREAM_UNREACHABLE"), "{said:?}");
        assert!(said.whole().contains("othing was sent"), "{said:?}");
        closed.semel.stop();
    }
}
