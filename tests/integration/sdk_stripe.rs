//! What Stripe's own SDKs make of semel: one charge, and something that their user can act on.

use semel::demo::provider::Speaks;
use serde_json::{Value, json};

use crate::support::sdk::{Api, Closed, Counter, Said, order_with};

const STRIPE: Api = Api {
    speaks: Speaks::Stripe,
    preset: "stripe",
    path: "/v1/payment_intents",
    authorization: "Bearer sk_test_practice",
};

/// A way to call Stripe.
struct Way {
    driver: &'static str,
    /// What its order says beside the rest.
    style: (&'static str, Value),
    /// How often the SDK sends by itself what it is told to send again.
    sends: usize,
    /// What its classes of errors begin with.
    prefix: &'static str,
}

impl Way {
    fn class(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn order(&self, reference: &str, more: &[(&str, Value)]) -> Value {
        order_with(reference, &[std::slice::from_ref(&self.style), more].concat())
    }
}

fn ways() -> [Way; 3] {
    let python = |style, sends| Way {
        driver: "stripe_python.py",
        style: ("style", json!(style)),
        sends,
        prefix: "",
    };
    let node = Way {
        driver: "stripe_node.js",
        style: ("style", json!("client")),
        sends: 3,
        prefix: "Stripe",
    };
    [python("module", 3), python("client", 1), node]
}

fn answer(said: &Said) -> Option<&str> {
    said.header("semel-answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_made_once_and_comes_back_as_it_was_made() {
    for way in ways() {
        let counter = Counter::open(STRIPE, "");

        let said = counter.buy(way.driver, way.order("order-1", &[])).await;

        assert!(said.bought("order-1").starts_with("pi_"), "{said:?}");
        assert_eq!((said.text("status"), answer(&said)), ("succeeded", Some("fresh")), "{said:?}");
        assert_eq!((counter.charges(), counter.reached(), counter.sent()), (1, 1, 1));
        counter.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_lost_comes_back_as_the_payment_that_was_made() {
    for wrong in ["drop-after", "500-after"] {
        for way in ways() {
            let counter = Counter::open(STRIPE, "");
            counter.next(wrong, 1);

            let said = counter.buy(way.driver, way.order("order-1", &[])).await;

            assert!(said.bought("order-1").starts_with("pi_"), "{wrong}: {said:?}");
            assert_eq!(said.text("status"), "succeeded");
            assert_eq!(answer(&said), Some("looked-up"), "{wrong}: {said:?}");
            assert_eq!((counter.charges(), counter.reached(), counter.sent()), (1, 1, 1));
            counter.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_found_out_is_an_error_to_ask_again_with_the_same_key() {
    for way in ways() {
        let counter = Counter::open(STRIPE, "    max_wait: 1s\n");
        let order = way.order("order-1", &[("key", json!("key-of-order-1"))]);
        counter.next("drop-after", 1);
        counter.next("lookup-500", 1000);

        let said = counter.buy(way.driver, order.clone()).await;

        assert_eq!(said.raised(&way.class("APIError")).text("code"), "outcome_unknown", "{said:?}");
        assert!(said.text("message").contains("same key"), "{said:?}");
        assert!(said.header("semel-operation").is_some(), "{said:?}");
        // The SDK asks again by itself, with the same key.
        assert_eq!((counter.charges(), counter.reached(), counter.sent()), (1, 1, way.sends));

        counter.provider.practice().reset();
        let said = counter.buy(way.driver, order).await;

        assert!(said.bought("order-1").starts_with("pi_"), "{said:?}");
        assert_eq!((counter.charges(), counter.reached()), (1, 0));
        counter.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_card_is_a_card_error_also_if_the_answer_was_lost() {
    for wrong in ["declined", "declined, drop-after"] {
        for way in ways() {
            let counter = Counter::open(STRIPE, "");
            counter.next(wrong, 1);

            let said = counter.buy(way.driver, way.order("order-1", &[])).await;

            said.raised(&way.class("CardError"));
            assert_eq!((said.status(), said.text("code")), (402, "card_declined"), "{said:?}");
            assert_eq!((counter.charges(), counter.reached()), (0, 1), "{wrong}");
            counter.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_is_down_is_an_error_that_says_that_nothing_was_sent() {
    for way in ways() {
        let closed = Closed::open(STRIPE);

        let said = closed.buy(way.driver, way.order("order-1", &[])).await;

        assert_eq!(
            said.raised(&way.class("APIError")).text("code"),
            "upstream_unreachable",
            "{said:?}"
        );
        assert!(said.text("message").contains("othing was sent"), "{said:?}");
        closed.semel.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_call_with_the_same_key_gets_the_first_answer_whatever_sdk_makes_it() {
    let counter = Counter::open(STRIPE, "");
    let key = ("key", json!("key-of-order-1"));
    let style = ("style", json!("module"));

    let first = counter.buy("stripe_python.py", order_with("order-1", &[style, key.clone()])).await;
    let second = counter.buy("stripe_node.js", order_with("order-1", &[key])).await;

    assert_eq!(first.bought("order-1"), second.bought("order-1"));
    assert_eq!(second.header("idempotent-replayed"), Some("true"), "{second:?}");
    assert_eq!((counter.charges(), counter.reached()), (1, 1));
    counter.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_used_again_for_something_else_is_an_idempotency_error() {
    let counter = Counter::open(STRIPE, "");
    let key = ("key", json!("key-of-order-1"));
    counter.buy("stripe_node.js", order_with("order-1", std::slice::from_ref(&key))).await;

    let other = ("amount", json!(9900));
    let python = [("style", json!("module")), key.clone(), other.clone()];
    let said = counter.buy("stripe_python.py", order_with("order-1", &python)).await;
    said.raised("IdempotencyError");
    let said = counter.buy("stripe_node.js", order_with("order-1", &[key, other])).await;
    said.raised("StripeIdempotencyError");

    assert_eq!((counter.charges(), counter.reached()), (1, 1));
    counter.close().await;
}
