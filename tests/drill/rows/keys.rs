//! What a key stands for, and what it does not.

use crate::caller::Said;
use crate::config::{OBSERVED, STRICT};
use crate::row::{BOTH, Row};
use crate::world::World;

pub(super) const ROWS: &[Row] = &[
    Row {
        situation: "another body with the same key; the first is untouched",
        stores: BOTH,
        charges: 1,
        told: &["201 fresh", "422 refused key-reused", "201 replayed"],
        play: |world| Box::pin(other_body(world)),
    },
    Row {
        situation: "the same body written another way, with the same key",
        stores: BOTH,
        charges: 1,
        told: &["201 fresh", "201 replayed"],
        play: |world| Box::pin(same_body(world)),
    },
    Row {
        situation: "another path with the same key",
        stores: BOTH,
        charges: 2,
        told: &["201 fresh", "201 fresh", "201 replayed"],
        play: |world| Box::pin(other_path(world)),
    },
    Row {
        situation: "another caller with the same key",
        stores: BOTH,
        charges: 2,
        told: &["201 fresh", "201 fresh", "201 replayed"],
        play: |world| Box::pin(other_caller(world)),
    },
    Row {
        situation: "the key quoted, then bare",
        stores: BOTH,
        charges: 1,
        told: &["201 fresh", "201 replayed"],
        play: |world| Box::pin(quoted(world)),
    },
    Row {
        situation: "key needed: missing, empty, too long, with a control character",
        stores: BOTH,
        charges: 0,
        told: &["400 refused key-missing", "3 × 400 refused key-invalid"],
        play: |world| Box::pin(no_key(world)),
    },
    Row {
        situation: "a route that only observes: two requests, both sent, one counted",
        stores: BOTH,
        charges: 2,
        told: &["201 fresh", "201 unguarded", "counted"],
        play: |world| Box::pin(observed(world)),
    },
    Row {
        situation: "safe methods pass; health, metrics and contract answer",
        stores: BOTH,
        charges: 0,
        told: &["5 × 200 passed"],
        play: |world| Box::pin(safe(world)),
    },
];

async fn other_body(world: &World) -> Vec<Said> {
    let first = world.pay("k").send().await;
    let other = world.pay("k").body(r#"{"amount":9900,"currency":"eur"}"#).send().await;
    vec![first, other, world.pay("k").send().await]
}

async fn same_body(world: &World) -> Vec<Said> {
    let first = world.pay("k").send().await;
    let spaced = r#"{ "reference": "k", "currency": "eur", "amount": 1900 }"#;
    vec![first, world.pay("k").body(spaced).send().await]
}

async fn other_path(world: &World) -> Vec<Said> {
    let first = world.pay("k").send().await;
    let other = world.pay("k").at("/v1/refunds").send().await;
    vec![first, other, world.pay("k").at("/v1/refunds").send().await]
}

async fn other_caller(world: &World) -> Vec<Said> {
    let first = world.pay("k").send().await;
    let other = world.pay("k").by("Bearer bakery").send().await;
    vec![first, other, world.pay("k").by("Bearer bakery").send().await]
}

async fn quoted(world: &World) -> Vec<Said> {
    let first = world.pay("k").key("\"a-1\"").send().await;
    vec![first, world.pay("k").key("a-1").send().await]
}

async fn no_key(world: &World) -> Vec<Said> {
    let missing = world.pay_keyless().at(STRICT).send().await;
    let mut said = vec![missing];
    for key in ["", &"k".repeat(256), "a\tb"] {
        said.push(world.pay(key).at(STRICT).send().await);
    }
    said
}

async fn observed(world: &World) -> Vec<Said> {
    let first = world.pay("k").at(OBSERVED).send().await;
    let second = world.pay("k").at(OBSERVED).send().await;
    let metrics = world.metrics().await;
    let prevented = "semel_duplicates_prevented_total{by=\"record\",route=\"observed\"} 1";
    vec![first, second, Said::fact("counted", metrics.lines().any(|line| line == prevented))]
}

async fn safe(world: &World) -> Vec<Said> {
    vec![
        world.get("/v1/payments").send().await,
        world.get("/.well-known/semel/contract").send().await,
        world.admin("/healthz").send().await,
        world.admin("/readyz").send().await,
        world.admin("/metrics").send().await,
    ]
}
