//! What callers do: leave, come back, press twice, give up.

use serde_json::json;

use crate::caller::{Said, all};
use crate::config::{FORGETFUL, HASTY, SMALL, STRICT};
use crate::row::{BOTH, Row};
use crate::world::World;

pub(super) const ROWS: &[Row] = &[
    Row {
        situation: "caller gone, then a retry with its key while in flight",
        stores: BOTH,
        charges: 1,
        told: &["left", "201 followed"],
        play: |world| Box::pin(gone(world)),
    },
    Row {
        situation: "caller gone, then a retry with its key when it is over",
        stores: BOTH,
        charges: 1,
        told: &["left", "201 replayed"],
        play: |world| Box::pin(gone_for_long(world)),
    },
    Row {
        situation: "caller without a key gone, then a retry while in flight",
        stores: BOTH,
        charges: 1,
        told: &["left", "201 followed"],
        play: |world| Box::pin(keyless_gone(world)),
    },
    Row {
        situation: "caller without a key gone, then a retry when it is over",
        stores: BOTH,
        charges: 1,
        told: &["left", "201 replayed"],
        play: |world| Box::pin(keyless_gone_for_long(world)),
    },
    Row {
        situation: "caller gone before a time-out, then a retry",
        stores: BOTH,
        charges: 1,
        told: &["left", "504 unknown outcome-unknown"],
        play: |world| Box::pin(gone_before_time_out(world)),
    },
    Row {
        situation: "the button pressed twice at the same moment, with a key",
        stores: BOTH,
        charges: 1,
        told: &["201 followed", "201 fresh"],
        play: |world| Box::pin(pressed_twice(world)),
    },
    Row {
        situation: "the button pressed twice at the same moment, without a key",
        stores: BOTH,
        charges: 1,
        told: &["201 followed", "201 fresh"],
        play: |world| Box::pin(pressed_twice_keyless(world)),
    },
    Row {
        situation: "the same coffee again after the first was answered",
        stores: BOTH,
        charges: 2,
        told: &["201 fresh", "201 fresh"],
        play: |world| Box::pin(same_coffee_again(world)),
    },
    Row {
        situation: "the same coffee twice, each with a key",
        stores: BOTH,
        charges: 2,
        told: &["201 fresh", "201 fresh"],
        play: |world| Box::pin(two_keys(world)),
    },
    Row {
        situation: "answered after its duplicate gave up, then a retry",
        stores: BOTH,
        charges: 1,
        told: &["504 unknown outcome-unknown", "201 fresh", "201 replayed"],
        play: |world| Box::pin(gave_up(world)),
    },
    Row {
        situation: "duplicate in flight where duplicates are refused",
        stores: BOTH,
        charges: 1,
        told: &["409 refused operation-in-flight", "201 fresh", "201 replayed"],
        play: |world| Box::pin(refused_in_flight(world)),
    },
    Row {
        situation: "more duplicates than may wait",
        stores: BOTH,
        charges: 1,
        told: &["503 refused overloaded", "201 followed", "201 fresh"],
        play: |world| Box::pin(too_many_wait(world)),
    },
    Row {
        situation: "body over the limit, then within it with the same key",
        stores: BOTH,
        charges: 1,
        told: &["413 refused body-too-large", "201 fresh"],
        play: |world| Box::pin(body_too_large(world)),
    },
    Row {
        situation: "caller gone in the middle of its body, then a retry",
        stores: BOTH,
        charges: 1,
        told: &["left", "201 fresh", "201 replayed"],
        play: |world| Box::pin(gone_halfway(world)),
    },
    Row {
        situation: "in doubt, for a caller that prefers not to wait; where it can look",
        stores: BOTH,
        charges: 1,
        told: &[
            "504 unknown outcome-unknown",
            "202 unknown outcome-unknown",
            "in-doubt",
            "settled",
        ],
        play: |world| Box::pin(asks_elsewhere(world)),
    },
    Row {
        situation: "a retry after the answer was forgotten: refused, not charged",
        stores: BOTH,
        charges: 1,
        told: &["201 fresh", "409 refused reply-not-kept"],
        play: |world| Box::pin(forgotten(world)),
    },
    Row {
        situation: "429 while duplicates wait: they get it too, and are not sent",
        stores: BOTH,
        charges: 0,
        told: &["5 × 429 released", "reached the payment API once"],
        play: |world| Box::pin(refused_together(world)),
    },
];

async fn gone(world: &World) -> Vec<Said> {
    let first = world.pay("k").wrong("slow=700").press();
    world.reached(1).await;
    let first = first.leaves().await;
    vec![first, world.pay("k").send().await]
}

async fn gone_for_long(world: &World) -> Vec<Said> {
    let first = world.pay("k").wrong("slow=300").press();
    world.reached(1).await;
    let first = first.leaves().await;
    world.until_only("settled").await;
    vec![first, world.pay("k").send().await]
}

async fn keyless_gone(world: &World) -> Vec<Said> {
    let first = world.pay_keyless().wrong("slow=700").press();
    world.reached(1).await;
    let first = first.leaves().await;
    vec![first, world.pay_keyless().send().await]
}

async fn keyless_gone_for_long(world: &World) -> Vec<Said> {
    let first = world.pay_keyless().wrong("slow=300").press();
    world.reached(1).await;
    let first = first.leaves().await;
    world.until_only("settled").await;
    vec![first, world.pay_keyless().send().await]
}

async fn gone_before_time_out(world: &World) -> Vec<Said> {
    let first = world.pay("k").wrong("slow=5000").press();
    world.reached(1).await;
    let first = first.leaves().await;
    vec![first, world.pay("k").send().await]
}

async fn pressed_twice(world: &World) -> Vec<Said> {
    all((0..2).map(|_| world.pay("k").wrong("slow=700").press()).collect()).await
}

async fn pressed_twice_keyless(world: &World) -> Vec<Said> {
    all((0..2).map(|_| world.pay_keyless().wrong("slow=700").press()).collect()).await
}

async fn same_coffee_again(world: &World) -> Vec<Said> {
    let first = world.pay_keyless().send().await;
    world.until_delivered(&first).await;
    vec![first, world.pay_keyless().send().await]
}

async fn two_keys(world: &World) -> Vec<Said> {
    let coffee = r#"{"amount":290,"currency":"eur","reference":"coffee"}"#;
    let first = world.pay("k1").body(coffee).send().await;
    vec![first, world.pay("k2").body(coffee).send().await]
}

async fn gave_up(world: &World) -> Vec<Said> {
    let first = world.pay("k").at(HASTY).wrong("slow=1500").press();
    world.reached(1).await;
    let duplicate = world.pay("k").at(HASTY).send().await;
    let first = first.told().await;
    vec![duplicate, first, world.pay("k").at(HASTY).send().await]
}

async fn refused_in_flight(world: &World) -> Vec<Said> {
    let first = world.pay("k").at(STRICT).wrong("slow=700").press();
    world.reached(1).await;
    let duplicate = world.pay("k").at(STRICT).send().await;
    let first = first.told().await;
    vec![duplicate, first, world.pay("k").at(STRICT).send().await]
}

async fn too_many_wait(world: &World) -> Vec<Said> {
    let first = world.pay("k").at(SMALL).wrong("slow=1000").press();
    world.reached(1).await;
    let waits = world.pay("k").at(SMALL).press();
    world.waiting(1).await;
    let refused = world.pay("k").at(SMALL).send().await;
    vec![refused, waits.told().await, first.told().await]
}

async fn body_too_large(world: &World) -> Vec<Said> {
    let large = format!(r#"{{"amount":1900,"note":"{}"}}"#, "x".repeat(1024));
    let first = world.pay("k").at(SMALL).body(large).send().await;
    vec![first, world.pay("k").at(SMALL).send().await]
}

async fn refused_together(world: &World) -> Vec<Said> {
    let first = world.pay("k").wrong("429, slow=700").press();
    world.reached(1).await;
    let mut waiting: Vec<_> = (0..4).map(|_| world.pay("k").press()).collect();
    world.waiting(4).await;
    waiting.push(first);
    let mut said = all(waiting).await;
    let once = world.provider().practice().requests_with_key("k") == 1;
    said.push(Said::fact("reached the payment API once", once));
    said
}

async fn gone_halfway(world: &World) -> Vec<Said> {
    let first = world.pay("k").leave_halfway().await;
    vec![first, world.pay("k").send().await, world.pay("k").send().await]
}

async fn asks_elsewhere(world: &World) -> Vec<Said> {
    let first = world.pay("k").wrong("drop-after").send().await;
    let retry = world.pay("k").header("prefer", "respond-async").send().await;
    let location = retry.answer().header("location").unwrap_or_default().to_owned();
    let state = async || {
        let asked = world.get(&location).send().await;
        let state = asked.answer().json()["state"].as_str().unwrap_or_default().to_owned();
        Said::fact(state, true)
    };
    let before = state().await;
    let order = json!({ "as": "applied", "status": 201, "reason": "seen in the ledger" });
    world.operator(&first, "settle", &order).await;
    let after = state().await;
    vec![first, retry, before, after]
}

async fn forgotten(world: &World) -> Vec<Said> {
    let first = world.pay("k").at(FORGETFUL).send().await;
    world.until_older(&first, 1.0).await;
    vec![first, world.pay("k").at(FORGETFUL).send().await]
}
