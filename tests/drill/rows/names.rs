//! One payment under several names: business keys, retries under another key or none.

use crate::caller::{Order, Said, all};
use crate::named::{IGNORING, ORDERED_BRIEFLY, ORDERED_LOOKED, ORDERED_ONCE};
use crate::row::{BOTH, REDIS, Row};
use crate::world::World;

const UNKNOWN: &str = "504 unknown outcome-unknown";

pub(super) const ROWS: &[Row] = &[
    Row {
        situation: "an order's button pressed twice at the same moment, with two keys",
        stores: BOTH,
        charges: 1,
        told: &["201 followed", "201 fresh", "201 replayed", "201 replayed"],
        play: |world| Box::pin(pressed_twice(world)),
    },
    Row {
        situation: "two processes: an order pressed at both at the same moment, with two keys",
        stores: REDIS,
        charges: 1,
        told: &["201 followed", "201 fresh", "201 replayed", "201 replayed"],
        play: |world| Box::pin(pressed_at_both(world)),
    },
    Row {
        situation: "an order's card declined, then another card with another key",
        stores: BOTH,
        charges: 1,
        told: &["402 fresh", "201 fresh", "402 replayed", "201 replayed"],
        play: |world| Box::pin(another_card(world)),
    },
    Row {
        situation: "another amount for an order that is paid, with another key: refused",
        stores: BOTH,
        charges: 1,
        told: &["201 fresh", "422 refused business-key-reused", "201 replayed", "one sent"],
        play: |world| Box::pin(another_amount(world)),
    },
    Row {
        situation: "another amount for an order in doubt, with another key: refused",
        stores: BOTH,
        charges: 1,
        told: &[UNKNOWN, "422 refused business-key-reused", "one sent"],
        play: |world| Box::pin(another_amount_in_doubt(world)),
    },
    Row {
        situation: "an order again with another key, after its window: a new payment",
        stores: BOTH,
        charges: 2,
        told: &["201 fresh", "201 fresh", "201 replayed"],
        play: |world| Box::pin(window_over(world)),
    },
    Row {
        situation: "an order's owner killed in flight, then another key: follows the doubt",
        stores: BOTH,
        charges: 1,
        told: &["no answer", UNKNOWN, UNKNOWN, "one sent"],
        play: |world| Box::pin(owner_killed(world)),
    },
    Row {
        situation: "an order's owner killed in flight, then another key: found by look-up",
        stores: BOTH,
        charges: 1,
        told: &["no answer", "201 looked-up", "201 replayed", "one sent"],
        play: |world| Box::pin(owner_killed_and_found(world)),
    },
    Row {
        situation: "five tries with five keys at an API that says 500 without a charge",
        stores: BOTH,
        charges: 0,
        told: &["500 unknown", "4 × 504 unknown outcome-unknown", "one sent"],
        play: |world| Box::pin(new_key_each_time(world, "500-before")),
    },
    Row {
        situation: "five tries with five keys at an API that says 500 after a charge",
        stores: BOTH,
        charges: 1,
        told: &["500 unknown", "4 × 504 unknown outcome-unknown", "one sent"],
        play: |world| Box::pin(new_key_each_time(world, "500-after")),
    },
    Row {
        situation: "given up in flight, then a retry under another key",
        stores: BOTH,
        charges: 1,
        told: &[UNKNOWN, "201 followed", "201 fresh", "one sent"],
        play: |world| Box::pin(given_up(world, Some("other"))),
    },
    Row {
        situation: "caller gone, and at once a retry under another key, five times",
        stores: BOTH,
        charges: 5,
        told: &["5 × 201 followed"],
        play: |world| Box::pin(at_once(world)),
    },
    Row {
        situation: "caller gone, then a retry under another key when it is over",
        stores: BOTH,
        charges: 1,
        told: &["left", "201 replayed", "one sent"],
        play: |world| Box::pin(gone(world, Some("other"))),
    },
    Row {
        situation: "two processes: given up at one, then another key at the other",
        stores: REDIS,
        charges: 1,
        told: &[UNKNOWN, "201 followed", "201 fresh", "one sent"],
        play: |world| Box::pin(given_up_elsewhere(world)),
    },
    Row {
        situation: "given up in flight, then a retry without a key",
        stores: BOTH,
        charges: 1,
        told: &[UNKNOWN, "201 followed", "201 fresh", "one sent"],
        play: |world| Box::pin(given_up(world, None)),
    },
    Row {
        situation: "caller with a key gone, then a retry without one when it is over",
        stores: BOTH,
        charges: 1,
        told: &["left", "201 replayed", "one sent"],
        play: |world| Box::pin(gone(world, None)),
    },
    Row {
        situation: "lost, restarted, then a retry under another key",
        stores: BOTH,
        charges: 1,
        told: &[UNKNOWN, UNKNOWN, "one sent"],
        play: |world| Box::pin(restarted(world)),
    },
    Row {
        // Nobody was left to note that its caller was. A business key is what recognises it.
        situation: "killed in flight, then another key, no business key: a new payment",
        stores: BOTH,
        charges: 2,
        told: &["no answer", "201 fresh", UNKNOWN],
        play: |world| Box::pin(killed_without_order(world)),
    },
    Row {
        situation: "a retry under another key is answered; then a new key is a new payment",
        stores: BOTH,
        charges: 2,
        told: &["left", "201 replayed", "201 fresh", "201 replayed"],
        play: |world| Box::pin(answered_then_new(world)),
    },
    Row {
        situation: "lost, then a retry under another key, where `orphans` are ignored",
        stores: BOTH,
        charges: 2,
        told: &[UNKNOWN, "201 fresh", UNKNOWN],
        play: |world| Box::pin(ignored(world)),
    },
];

/// A payment for the one order there is.
fn order(world: &World, process: usize, key: &str) -> Order {
    let body = r#"{"amount":1900,"currency":"eur","reference":"shoes","order":7}"#;
    world.pay_by(process, key).at(ORDERED_ONCE).body(body)
}

/// The same for another amount.
fn dearer(order: Order) -> Order {
    order.body(r#"{"amount":9900,"currency":"eur","reference":"shoes","order":7}"#)
}

/// The same coffee, whatever the key.
fn coffee(world: &World, key: Option<&str>) -> Order {
    match key {
        Some(key) => world.pay(key).reference("coffee"),
        None => world.pay_keyless(),
    }
}

fn one_sent(world: &World) -> Said {
    Said::fact("one sent", world.reached_so_far() == 1)
}

async fn pressed_twice(world: &World) -> Vec<Said> {
    let both = ["a", "b"].map(|key| order(world, 0, key).wrong("slow=500").press());
    let mut said = all(both.into()).await;
    for key in ["b", "c"] {
        said.push(order(world, 0, key).send().await);
    }
    said
}

async fn pressed_at_both(world: &mut World) -> Vec<Said> {
    world.add_process().await;
    let both = [(0, "a"), (1, "b")];
    let both = both.map(|(process, key)| order(world, process, key).wrong("slow=500").press());
    let mut said = all(both.into()).await;
    for (process, key) in [(0, "b"), (1, "a")] {
        said.push(order(world, process, key).send().await);
    }
    said
}

async fn another_card(world: &World) -> Vec<Said> {
    let red = r#"{"amount":1900,"reference":"shoes","order":7,"source":"declined"}"#;
    let (declined, paid) = (order(world, 0, "a").body(red), order(world, 0, "b"));
    let mut said = vec![];
    for order in [&declined, &paid, &declined, &paid] {
        said.push(order.clone().send().await);
    }
    said
}

async fn another_amount(world: &World) -> Vec<Said> {
    let first = order(world, 0, "a").send().await;
    let other = dearer(order(world, 0, "b")).send().await;
    vec![first, other, order(world, 0, "a").send().await, one_sent(world)]
}

async fn another_amount_in_doubt(world: &World) -> Vec<Said> {
    let first = order(world, 0, "a").wrong("drop-after").send().await;
    vec![first, dearer(order(world, 0, "b")).send().await, one_sent(world)]
}

async fn window_over(world: &World) -> Vec<Said> {
    let order = |key| order(world, 0, key).at(ORDERED_BRIEFLY);
    let first = order("a").send().await;
    world.until_older(&first, 1.0).await;
    vec![first, order("b").send().await, order("a").send().await]
}

/// Its owner is killed in flight and started again; says what its caller was told.
async fn killed(world: &mut World, order: Order) -> Said {
    let first = order.wrong("slow=20000").press();
    world.until_charged("a").await;
    world.process(0).kill();
    world.process(0).restart().await;
    first.told().await
}

async fn owner_killed(world: &mut World) -> Vec<Said> {
    let paid = order(world, 0, "a");
    let first = killed(world, paid).await;
    let other = order(world, 0, "b").send().await;
    vec![first, other, order(world, 0, "a").send().await, one_sent(world)]
}

async fn owner_killed_and_found(world: &mut World) -> Vec<Said> {
    let paid = order(world, 0, "a").at(ORDERED_LOOKED);
    let first = killed(world, paid).await;
    let other = order(world, 0, "b").at(ORDERED_LOOKED).send().await;
    vec![first, other, order(world, 0, "a").at(ORDERED_LOOKED).send().await, one_sent(world)]
}

async fn new_key_each_time(world: &World, wrong: &str) -> Vec<Said> {
    let mut said = vec![];
    for key in ["a", "b", "c", "d", "e"] {
        said.push(coffee(world, Some(key)).wrong(wrong).send().await);
    }
    said.push(one_sent(world));
    said
}

async fn given_up(world: &World, key: Option<&str>) -> Vec<Said> {
    let first = coffee(world, Some("k")).wrong("slow=700").press();
    world.reached(1).await;
    // Who was told to ask later may do so under another name at once.
    let impatient = coffee(world, Some("k")).header("prefer", "wait=0").send().await;
    let retry = coffee(world, key).send().await;
    vec![impatient, retry, first.told().await, one_sent(world)]
}

async fn given_up_elsewhere(world: &mut World) -> Vec<Said> {
    world.add_process().await;
    let first = coffee(world, Some("k")).wrong("slow=700").press();
    world.reached(1).await;
    let impatient = coffee(world, Some("k")).header("prefer", "wait=0").send().await;
    let retry = world.pay_by(1, "other").reference("coffee").send().await;
    vec![impatient, retry, first.told().await, one_sent(world)]
}

/// It is paid, and its caller has not heard of it.
async fn unheard(world: &World) -> Said {
    let first = coffee(world, Some("k")).wrong("slow=500").press();
    world.reached(1).await;
    let operation = world.until_only("in-flight").await;
    let first = first.leaves().await;
    world.until_left(&operation).await;
    world.until_only("settled").await;
    first
}

async fn gone(world: &World, key: Option<&str>) -> Vec<Said> {
    let first = unheard(world).await;
    vec![first, coffee(world, key).send().await, one_sent(world)]
}

async fn at_once(world: &World) -> Vec<Said> {
    let mut said = vec![];
    for n in 0..5 {
        let name = format!("coffee {n}");
        let first = world.pay(&name).reference(&name).wrong("slow=200").press();
        world.until_charged(&name).await;
        first.leaves().await;
        world.until_gone(n + 1).await;
        said.push(world.pay(&format!("other {n}")).reference(&name).send().await);
    }
    said
}

async fn restarted(world: &mut World) -> Vec<Said> {
    let first = coffee(world, Some("k")).wrong("drop-after").send().await;
    world.process(0).kill();
    world.process(0).restart().await;
    vec![first, coffee(world, Some("other")).send().await, one_sent(world)]
}

async fn killed_without_order(world: &mut World) -> Vec<Said> {
    let paid = coffee(world, Some("a"));
    let first = killed(world, paid).await;
    let other = coffee(world, Some("other")).send().await;
    vec![first, other, coffee(world, Some("a")).send().await]
}

async fn answered_then_new(world: &World) -> Vec<Said> {
    let first = unheard(world).await;
    let retry = coffee(world, Some("other")).send().await;
    world.until_delivered(&retry).await;
    let new = coffee(world, Some("new")).send().await;
    vec![first, retry, new, coffee(world, Some("other")).send().await]
}

async fn ignored(world: &World) -> Vec<Said> {
    let order = |key| coffee(world, Some(key)).at(IGNORING);
    let first = order("k").wrong("drop-after").send().await;
    let other = order("other").send().await;
    vec![first, other, order("k").send().await]
}
