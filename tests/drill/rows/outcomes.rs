//! Answers that mean something else than their status says, as their route knows.

use crate::asked::RULED;
use crate::caller::Said;
use crate::row::{BOTH, Row};
use crate::world::World;

pub(super) const ROWS: &[Row] = &[
    Row {
        situation: "409: its key is in progress; unknown, and found by look-up in the end",
        stores: BOTH,
        charges: 1,
        told: &["201 looked-up", "201 replayed", "sent once"],
        play: |world| Box::pin(in_progress(world)),
    },
    Row {
        situation: "422 with `transient-error: true` after a charge: found; without: final",
        stores: BOTH,
        charges: 1,
        told: &["201 looked-up", "201 replayed", "422 fresh", "422 replayed"],
        play: |world| Box::pin(transient(world)),
    },
    Row {
        situation: "a declined card's answer lost, found: 402 as the route words it",
        stores: BOTH,
        charges: 0,
        told: &["402 looked-up", "402 replayed", "in the route's words"],
        play: |world| Box::pin(declined(world)),
    },
];

async fn in_progress(world: &World) -> Vec<Said> {
    let first = world.pay("k").at(RULED).wrong("409-in-progress").press();
    world.until_looked("absent", 1).await;
    // What was in progress comes to its end: it had gone past semel.
    let other = world.pay_directly("k").at(RULED).send().await;
    assert_eq!(other.answer().status, 201);
    let first = first.told().await;
    let retry = world.pay("k").at(RULED).send().await;
    vec![first, retry, Said::fact("sent once", world.sent("k") == 1)]
}

async fn transient(world: &World) -> Vec<Said> {
    let charged = "status-after=422, header=transient-error:true";
    let first = world.pay("k").at(RULED).wrong(charged).send().await;
    let retry = world.pay("k").at(RULED).send().await;
    let refused = world.pay("no").at(RULED).wrong("status=422").send().await;
    vec![first, retry, refused, world.pay("no").at(RULED).send().await]
}

async fn declined(world: &World) -> Vec<Said> {
    let order = world.pay("k").at(RULED).declined("k");
    let first = order.clone().wrong("drop-after").send().await;
    let retry = order.send().await;
    let error = first.answer().json()["error"].clone();
    let worded = error["code"] == "card_declined" && error["payment"]["status"] == "failed";
    let marked = first.answer().header("x-looked-up") == Some("1");
    vec![first, retry, Said::fact("in the route's words", worded && marked)]
}
