//! What is lost, and found in the way that its payment API can be asked; or not found.

use crate::asked::{CAPTURES, FOLLOWED, GRAPHQL, LISTED, ORDERED, PAGE, PAGES, SEARCHED};
use crate::caller::{Order, Said};
use crate::row::{BOTH, Row};
use crate::rows::lookups::look_ups;
use crate::world::World;

const FOUND: &[&str] = &["201 looked-up", "201 replayed", "sent once"];
const NOT_FOUND: &[&str] = &["504 unknown outcome-unknown", "absent", "in-doubt", "sent once"];
const UNCLEAR: &[&str] = &["504 unknown outcome-unknown", "unclear", "in-doubt", "sent once"];

pub(super) const ROWS: &[Row] = &[
    Row {
        situation: "a capture's answer lost, found by the payment's id in its path",
        stores: BOTH,
        charges: 2,
        told: FOUND,
        play: |world| Box::pin(captured(world, "drop-after")),
    },
    Row {
        situation: "a capture that never arrived, not found by the payment's id: held",
        stores: BOTH,
        charges: 1,
        told: NOT_FOUND,
        play: |world| Box::pin(captured(world, "drop-before")),
    },
    Row {
        situation: "answer lost, found on the last page of a list that may be read",
        stores: BOTH,
        charges: 1,
        told: FOUND,
        play: |world| Box::pin(on_last_page(world)),
    },
    Row {
        situation: "a payment that never arrived, on no page of a list: held",
        stores: BOTH,
        charges: 0,
        told: NOT_FOUND,
        play: |world| Box::pin(on_no_page(world)),
    },
    Row {
        situation: "answer lost, and a list with more pages than are read: unknown",
        stores: BOTH,
        charges: 1,
        told: UNCLEAR,
        play: |world| Box::pin(behind_too_many(world)),
    },
    Row {
        situation: "answer lost, and two of that reference in the list: unknown",
        stores: BOTH,
        charges: 1,
        told: UNCLEAR,
        play: |world| Box::pin(shown_twice(world)),
    },
    Row {
        situation: "answer lost, and an old payment has its reference: the new one is found",
        stores: BOTH,
        charges: 2,
        told: &["201 looked-up", "201 replayed", "sent once", "the new one"],
        play: |world| Box::pin(newer_than_another(world)),
    },
    Row {
        situation: "a payment that never arrived, and an old one has its reference: held",
        stores: BOTH,
        charges: 1,
        told: NOT_FOUND,
        play: |world| Box::pin(older_does_not_count(world)),
    },
    Row {
        situation: "answer lost, found by a POST search",
        stores: BOTH,
        charges: 1,
        told: FOUND,
        play: |world| Box::pin(found(world, order(world, SEARCHED).wrong("drop-after"))),
    },
    Row {
        situation: "a payment that never arrived, not found by a POST search: held",
        stores: BOTH,
        charges: 0,
        told: NOT_FOUND,
        play: |world| Box::pin(nothing(world, order(world, SEARCHED), "drop-before", "absent")),
    },
    Row {
        situation: "answer lost, GraphQL has errors at 200; then it finds the payment",
        stores: BOTH,
        charges: 1,
        told: &["201 looked-up", "201 replayed", "sent once", "the errors were no answer"],
        play: |world| Box::pin(errors_at_first(world)),
    },
    Row {
        situation: "answer lost, found in two steps: its order, then what was paid for it",
        stores: BOTH,
        charges: 2,
        told: FOUND,
        play: |world| Box::pin(in_two_steps(world)),
    },
    Row {
        situation: "a payment that never arrived, and the first of two steps finds nothing",
        stores: BOTH,
        charges: 0,
        told: NOT_FOUND,
        play: |world| Box::pin(nothing(world, order(world, ORDERED), "drop-before", "absent")),
    },
    Row {
        situation: "202 with Location and Retry-After, followed to its success",
        stores: BOTH,
        charges: 1,
        told: &["202 accepted", "201 replayed", "asked at its Location, when it said"],
        play: |world| Box::pin(at_location(world, "202=300")),
    },
    Row {
        situation: "202 with Location and Retry-After, followed to its failure",
        stores: BOTH,
        charges: 0,
        told: &["202 accepted", "402 replayed", "asked at its Location, when it said"],
        play: |world| Box::pin(at_location(world, "202-fails=300")),
    },
];

/// An order of the drill's one key.
fn order(world: &World, path: &str) -> Order {
    world.pay("k").at(path)
}

/// What is said to it, to a retry, and how often it was sent.
async fn found(world: &World, order: Order) -> Vec<Said> {
    let first = order.clone().send().await;
    let retry = order.send().await;
    vec![first, retry, sent_once(world)]
}

/// What is said to it, with what the look-ups found and where that leaves the operation.
async fn nothing(world: &World, order: Order, wrong: &str, finding: &str) -> Vec<Said> {
    let first = order.wrong(wrong).send().await;
    left_open(world, first, finding).await
}

async fn left_open(world: &World, first: Said, finding: &str) -> Vec<Said> {
    let looked = world.looked(finding).await > 0;
    let state = world.record(&first).await["state"].clone();
    let in_doubt = Said::fact("in-doubt", state == "in-doubt");
    vec![first, Said::fact(finding, looked), in_doubt, sent_once(world)]
}

fn sent_once(world: &World) -> Said {
    Said::fact("sent once", world.sent("k") == 1)
}

async fn captured(world: &World, wrong: &str) -> Vec<Said> {
    let paid = world.pay("paid").send().await;
    assert!(CAPTURES.contains(&id(&paid)), "{paid:?}");
    let order = order(world, CAPTURES);
    if wrong == "drop-after" {
        found(world, order.wrong(wrong)).await
    } else {
        nothing(world, order, wrong, "absent").await
    }
}

/// Others that come after it; they are declined, so that they are no charges.
async fn others(world: &World, count: usize) {
    for n in 0..count {
        let other = world.pay_directly("").at(LISTED).declined(&format!("other-{n}"));
        assert_eq!(other.send().await.answer().status, 402);
    }
}

/// It is lost, and so many others stand before it in the list.
async fn behind(world: &World, count: usize) -> Said {
    // Not to be found before the others are there.
    look_ups(world, "lookup-500");
    let first = order(world, LISTED).wrong("drop-after").press();
    world.until_charged("k").await;
    others(world, count).await;
    look_ups(world, "lookup-slow=0");
    first.told().await
}

async fn on_last_page(world: &World) -> Vec<Said> {
    let first = behind(world, PAGE * (PAGES - 1)).await;
    vec![first, order(world, LISTED).send().await, sent_once(world)]
}

async fn on_no_page(world: &World) -> Vec<Said> {
    others(world, PAGE * PAGES).await;
    nothing(world, order(world, LISTED), "drop-before", "absent").await
}

async fn behind_too_many(world: &World) -> Vec<Said> {
    let first = behind(world, PAGE * PAGES).await;
    left_open(world, first, "unclear").await
}

async fn shown_twice(world: &World) -> Vec<Said> {
    look_ups(world, "lookup-duplicate");
    nothing(world, order(world, LISTED), "drop-after", "unclear").await
}

async fn newer_than_another(world: &World) -> Vec<Said> {
    let old = world.pay_directly("k").at(LISTED).wrong("old=600").send().await;
    let mut said = found(world, order(world, LISTED).wrong("drop-after")).await;
    let is_new = id(&said[0]) != id(&old);
    said.push(Said::fact("the new one", is_new));
    said
}

async fn older_does_not_count(world: &World) -> Vec<Said> {
    let old = world.pay_directly("k").at(LISTED).wrong("old=600").send().await;
    assert_eq!(old.answer().status, 201);
    nothing(world, order(world, LISTED), "drop-before", "absent").await
}

async fn errors_at_first(world: &World) -> Vec<Said> {
    assert_eq!(world.provider().practice().next("lookup-errors", 1), Ok(()));
    let body = r#"{"query":"mutation { chargePaymentMethod }","variables":
        {"input":{"transaction":{"amount":"19.00","orderId":"k"}}}}"#;
    let order = order(world, GRAPHQL).body(body).wrong("drop-after");
    let mut said = found(world, order).await;
    let not_answered = world.looked("failed").await == 1;
    said.push(Said::fact("the errors were no answer", not_answered));
    said
}

async fn in_two_steps(world: &World) -> Vec<Said> {
    let shops = world.pay_directly("").at("/v1/orders").body(r#"{"receipt":"k"}"#).send().await;
    assert!(ORDERED.contains(&id(&shops)), "{shops:?}");
    found(world, order(world, ORDERED).wrong("drop-after")).await
}

async fn at_location(world: &World, wrong: &str) -> Vec<Said> {
    let first = order(world, FOLLOWED).wrong(wrong).send().await;
    world.until_state(&first, "settled").await;
    // Asked before Retry-After it would have been seen at work.
    let asked = world.looked("final").await == 1 && world.looked("accepted").await == 0;
    let second = order(world, FOLLOWED).send().await;
    vec![first, second, Said::fact("asked at its Location, when it said", asked)]
}

fn id(said: &Said) -> String {
    said.answer().json()["id"].as_str().unwrap_or_default().to_owned()
}
