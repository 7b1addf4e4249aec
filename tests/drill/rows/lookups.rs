//! What is lost, and found by asking the payment API.

use std::time::Duration;

use crate::caller::{Said, all};
use crate::config::LOOKED;
use crate::row::{BOTH, Row};
use crate::world::World;

/// Longer than any row.
const LONG: Duration = Duration::from_secs(600);

pub(super) const ROWS: &[Row] = &[
    Row {
        situation: "answer lost, found by look-up; then a retry",
        stores: BOTH,
        charges: 1,
        told: &["201 looked-up", "201 replayed"],
        play: |world| Box::pin(twice(world, "drop-after")),
    },
    Row {
        situation: "answer truncated, found by look-up; then a retry",
        stores: BOTH,
        charges: 1,
        told: &["201 looked-up", "201 replayed"],
        play: |world| Box::pin(twice(world, "truncate")),
    },
    Row {
        situation: "500 after the charge, found by look-up; then a retry",
        stores: BOTH,
        charges: 1,
        told: &["201 looked-up", "201 replayed"],
        play: |world| Box::pin(twice(world, "500-after")),
    },
    Row {
        situation: "no answer for long: asked meanwhile, and told before it comes",
        stores: BOTH,
        charges: 1,
        told: &["201 looked-up", "201 replayed"],
        play: |world| Box::pin(twice(world, "slow=10000")),
    },
    Row {
        situation: "answer lost without a key, found by look-up; then a retry",
        stores: BOTH,
        charges: 1,
        told: &["504 unknown outcome-unknown", "201 looked-up"],
        play: |world| Box::pin(keyless(world)),
    },
    Row {
        situation: "202 followed to its end",
        stores: BOTH,
        charges: 1,
        told: &["202 accepted", "202 accepted", "201 replayed"],
        play: |world| Box::pin(accepted(world)),
    },
    Row {
        situation: "answer lost while the payment API cannot find it yet; then it can",
        stores: BOTH,
        charges: 1,
        told: &["504 unknown outcome-unknown", "201 looked-up", "201 looked-up"],
        play: |world| Box::pin(found_later(world, "lookup-absent")),
    },
    Row {
        situation: "answer lost while look-ups fail (500); then they do not",
        stores: BOTH,
        charges: 1,
        told: &["504 unknown outcome-unknown", "201 looked-up", "201 looked-up"],
        play: |world| Box::pin(found_later(world, "lookup-500")),
    },
    Row {
        situation: "answer lost while look-ups are slow; then they are not",
        stores: BOTH,
        charges: 1,
        told: &["504 unknown outcome-unknown", "201 looked-up", "201 looked-up"],
        play: |world| Box::pin(found_later(world, "lookup-slow=2000")),
    },
    Row {
        situation: "answer lost while look-ups are not authorised (401); then they are",
        stores: BOTH,
        charges: 1,
        told: &["504 unknown outcome-unknown", "201 looked-up", "201 looked-up"],
        play: |world| Box::pin(found_later(world, "lookup-401")),
    },
    Row {
        situation: "answer lost while look-ups answer nonsense; then they do not",
        stores: BOTH,
        charges: 1,
        told: &["504 unknown outcome-unknown", "201 looked-up", "201 looked-up"],
        play: |world| Box::pin(found_later(world, "lookup-garbled")),
    },
    Row {
        situation: "500 without a charge, nothing found: unknown, never sent again",
        stores: BOTH,
        charges: 0,
        told: &["500 unknown", "504 unknown outcome-unknown", "still in doubt"],
        play: |world| Box::pin(never_found(world)),
    },
];

async fn twice(world: &World, wrong: &str) -> Vec<Said> {
    let first = world.pay("k").at(LOOKED).wrong(wrong).send().await;
    let retry = world.pay("k").at(LOOKED).send().await;
    vec![first, retry]
}

async fn keyless(world: &World) -> Vec<Said> {
    look_ups(world, "lookup-absent");
    let first = world.pay_keyless().at(LOOKED).wrong("drop-after").send().await;
    let retry = world.pay_keyless().at(LOOKED).press();
    world.waiting(1).await;
    look_ups(world, "lookup-slow=0");
    vec![first, retry.told().await]
}

async fn accepted(world: &World) -> Vec<Said> {
    let first = world.pay("k").at(LOOKED).wrong("202=1500").send().await;
    let second = world.pay("k").at(LOOKED).send().await;
    world.until_state(&first, "settled").await;
    let third = world.pay("k").at(LOOKED).send().await;
    vec![first, second, third]
}

async fn found_later(world: &World, wrong: &str) -> Vec<Said> {
    look_ups(world, wrong);
    let first = world.pay("k").at(LOOKED).wrong("drop-after").send().await;
    let retries = (0..2).map(|_| world.pay("k").at(LOOKED).press()).collect();
    world.waiting(2).await;
    look_ups(world, "lookup-slow=0");
    let mut said = all(retries).await;
    said.insert(0, first);
    said
}

async fn never_found(world: &World) -> Vec<Said> {
    let mut said = twice(world, "500").await;
    let state = world.record(&said[0]).await["state"].clone();
    said.push(Said::fact("still in doubt", state == "in-doubt"));
    said
}

/// From now on all look-ups go so.
pub(super) fn look_ups(world: &World, wrong: &str) {
    let spell = world.provider().practice().spell(wrong, LONG);
    assert_eq!(spell, Ok(()), "{wrong}");
}
