//! What the payment API can do to an answer, where nobody can ask it afterwards.

use crate::caller::Said;
use crate::config::SMALL;
use crate::row::{BOTH, Row};
use crate::world::World;

pub(super) const ROWS: &[Row] = &[
    Row {
        situation: "answered, then a retry",
        stores: BOTH,
        charges: 1,
        told: &["201 fresh", "201 replayed"],
        play: |world| Box::pin(twice(world, "slow=0")),
    },
    Row {
        situation: "time-out after the charge, then a retry",
        stores: BOTH,
        charges: 1,
        told: DOUBT,
        play: |world| Box::pin(twice(world, "slow=5000")),
    },
    Row {
        situation: "time-out before the charge, which comes later, then a retry",
        stores: BOTH,
        charges: 1,
        told: &[DOUBT[0], DOUBT[1], "charged late"],
        play: |world| Box::pin(charged_late(world)),
    },
    Row {
        situation: "answer dropped after the charge, then a retry",
        stores: BOTH,
        charges: 1,
        told: DOUBT,
        play: |world| Box::pin(twice(world, "drop-after")),
    },
    Row {
        situation: "answer reset after the charge, then a retry",
        stores: BOTH,
        charges: 1,
        told: DOUBT,
        play: |world| Box::pin(twice(world, "reset-after")),
    },
    Row {
        situation: "connection dropped before the charge, then a retry",
        stores: BOTH,
        charges: 0,
        told: DOUBT,
        play: |world| Box::pin(twice(world, "drop-before")),
    },
    Row {
        situation: "answer truncated, then a retry",
        stores: BOTH,
        charges: 1,
        told: DOUBT,
        play: |world| Box::pin(twice(world, "truncate")),
    },
    Row {
        situation: "answer truncated in its chunks, then a retry",
        stores: BOTH,
        charges: 1,
        told: DOUBT,
        play: |world| Box::pin(twice(world, "truncate-chunked")),
    },
    Row {
        situation: "answer with Content-Length and Transfer-Encoding, then a retry",
        stores: BOTH,
        charges: 1,
        told: DOUBT,
        play: |world| Box::pin(twice(world, "both-lengths")),
    },
    Row {
        situation: "answer that ends with its connection, then a retry",
        stores: BOTH,
        charges: 1,
        told: DOUBT,
        play: |world| Box::pin(twice(world, "close-delimited")),
    },
    Row {
        situation: "101 Switching Protocols, unasked, then a retry",
        stores: BOTH,
        charges: 1,
        told: DOUBT,
        play: |world| Box::pin(twice(world, "upgrade")),
    },
    Row {
        situation: "500 after the charge, then a retry",
        stores: BOTH,
        charges: 1,
        told: &["500 unknown", "504 unknown outcome-unknown"],
        play: |world| Box::pin(twice(world, "500-after")),
    },
    Row {
        situation: "503 after the charge, then a retry",
        stores: BOTH,
        charges: 1,
        told: &["503 unknown", "504 unknown outcome-unknown"],
        play: |world| Box::pin(twice(world, "503-after")),
    },
    Row {
        situation: "503 without a charge, which nobody can know, then a retry",
        stores: BOTH,
        charges: 0,
        told: &["503 unknown", "504 unknown outcome-unknown"],
        play: |world| Box::pin(twice(world, "503")),
    },
    Row {
        situation: "429, then two retries",
        stores: BOTH,
        charges: 1,
        told: &["429 released", "201 fresh", "201 replayed"],
        play: |world| Box::pin(thrice(world, "429")),
    },
    Row {
        situation: "401, then two retries",
        stores: BOTH,
        charges: 1,
        told: &["401 released", "201 fresh", "201 replayed"],
        play: |world| Box::pin(thrice(world, "401")),
    },
    Row {
        situation: "card declined (402), then a retry",
        stores: BOTH,
        charges: 0,
        told: &["402 fresh", "402 replayed"],
        play: |world| Box::pin(twice(world, "402")),
    },
    Row {
        situation: "redirected (302): not followed; then a retry",
        stores: BOTH,
        charges: 0,
        told: &["302 fresh", "302 replayed"],
        play: |world| Box::pin(twice(world, "status=302")),
    },
    Row {
        situation: "202 where nobody can look up: final; then a retry",
        stores: BOTH,
        charges: 1,
        told: &["202 fresh", "202 replayed"],
        play: |world| Box::pin(twice(world, "202=60000")),
    },
    Row {
        situation: "answer over the limit: streamed, not kept; then a retry",
        stores: BOTH,
        charges: 1,
        told: &["201 unrecorded", "all of it came", "409 refused reply-not-kept"],
        play: |world| Box::pin(too_large(world)),
    },
    Row {
        situation: "answer over the limit that breaks off, then a retry",
        stores: BOTH,
        charges: 1,
        told: &["201 unrecorded cut", "504 unknown outcome-unknown"],
        play: |world| Box::pin(too_large_and_cut(world)),
    },
    Row {
        situation: "a second answer, unasked, before somebody else's payment",
        stores: BOTH,
        charges: 2,
        told: &["201 fresh", "201 fresh", "each got its own"],
        play: |world| Box::pin(two_answers(world)),
    },
    Row {
        situation: "payment API not there, then there, then a retry",
        stores: BOTH,
        charges: 1,
        told: &["502 released upstream-unreachable", "201 fresh", "201 replayed"],
        play: |world| Box::pin(not_there(world)),
    },
];

/// Nobody knows, and nothing is sent again.
const DOUBT: &[&str] = &["504 unknown outcome-unknown", "504 unknown outcome-unknown"];

async fn twice(world: &World, wrong: &str) -> Vec<Said> {
    let first = world.pay("k").wrong(wrong).send().await;
    // Were it sent, nothing would go wrong with the retry: there would be one more charge.
    let retry = world.pay("k").send().await;
    vec![first, retry]
}

async fn thrice(world: &World, wrong: &str) -> Vec<Said> {
    let mut said = twice(world, wrong).await;
    said.push(world.pay("k").send().await);
    said
}

async fn charged_late(world: &World) -> Vec<Said> {
    let mut said = twice(world, "stall=4500").await;
    let not_yet = world.charges() == 0;
    world.until_charged("k").await;
    said.push(Said::fact("charged late", not_yet));
    said
}

async fn too_large(world: &World) -> Vec<Said> {
    let first = world.pay("k").at(SMALL).wrong("large=200000").send().await;
    let whole = first.answer().body.len() >= 200_000 && first.answer().json().is_object();
    let retry = world.pay("k").at(SMALL).send().await;
    vec![first, Said::fact("all of it came", whole), retry]
}

async fn too_large_and_cut(world: &World) -> Vec<Said> {
    let first = world.pay("k").at(SMALL).wrong("large=200000, truncate").send().await;
    let retry = world.pay("k").at(SMALL).send().await;
    vec![first, retry]
}

async fn two_answers(world: &World) -> Vec<Said> {
    let first = world.pay("k1").wrong("extra").send().await;
    let other = world.pay("k2").send().await;
    let reference = |said: &Said| said.answer().json()["reference"].clone();
    let own = reference(&first) == "k1" && reference(&other) == "k2";
    vec![first, other, Said::fact("each got its own", own)]
}

async fn not_there(world: &mut World) -> Vec<Said> {
    world.stop_provider().await;
    let first = world.pay("k").send().await;
    world.start_provider();
    let second = world.pay("k").send().await;
    let third = world.pay("k").send().await;
    vec![first, second, third]
}
