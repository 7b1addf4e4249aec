//! What is not there when the payment API is asked, and what a route makes of that.

use crate::asked::{FAILING, HOLDING, REOPENING};
use crate::caller::Said;
use crate::row::{BOTH, EMBEDDED, REDIS, Row};
use crate::world::World;

pub(super) const ROWS: &[Row] = &[
    Row {
        situation: "never arrived, absent again and again, `hold`: never sent again",
        stores: BOTH,
        charges: 0,
        told: &["504 unknown outcome-unknown", "504 unknown outcome-unknown", "held, sent once"],
        play: |world| Box::pin(held(world)),
    },
    Row {
        situation: "never arrived, absent for long enough, `fail`: a new key pays",
        stores: BOTH,
        charges: 1,
        told: &["424 looked-up never-applied", "424 replayed never-applied", "201 fresh"],
        play: |world| Box::pin(failed(world)),
    },
    Row {
        situation: "never arrived, absent for long enough, `reopen`: the same key pays",
        stores: BOTH,
        charges: 1,
        told: &["409 refused operation-in-flight", "201 fresh", "201 replayed"],
        play: |world| Box::pin(reopened(world)),
    },
    Row {
        situation: "never arrived, owner killed, `reopen`: without the owner's mark held",
        stores: REDIS,
        charges: 0,
        told: &["no answer", "504 unknown outcome-unknown", "held, sent once"],
        play: |world| Box::pin(without_mark(world)),
    },
    Row {
        situation: "never arrived, owner killed, `reopen`: its disk's next owner knows",
        stores: EMBEDDED,
        charges: 1,
        told: &["no answer", "201 fresh", "201 replayed"],
        play: |world| Box::pin(marked_by_successor(world)),
    },
    Row {
        situation: "only slow, absent meanwhile, `fail`: not failed while its call is open",
        stores: BOTH,
        charges: 1,
        told: &["201 fresh", "201 followed", "absent meanwhile", "201 replayed"],
        play: |world| Box::pin(only_slow(world, FAILING)),
    },
    Row {
        situation: "only slow, absent meanwhile, `reopen`: not freed while its call is open",
        stores: BOTH,
        charges: 1,
        told: &["201 fresh", "201 followed", "absent meanwhile", "201 replayed"],
        play: |world| Box::pin(only_slow(world, REOPENING)),
    },
];

async fn held(world: &World) -> Vec<Said> {
    let first = world.pay("k").at(HOLDING).wrong("drop-before").send().await;
    let retry = world.pay("k").at(HOLDING).header("prefer", "wait=1").send().await;
    world.until_looked("absent", 3).await;
    let is_held = is_held(world, &first).await;
    vec![first, retry, is_held]
}

async fn is_held(world: &World, said: &Said) -> Said {
    let state = world.record(said).await["state"].clone();
    Said::fact("held, sent once", state == "in-doubt" && world.sent("k") == 1)
}

async fn failed(world: &World) -> Vec<Said> {
    let first = world.pay("k").at(FAILING).wrong("drop-before").send().await;
    let retry = world.pay("k").at(FAILING).send().await;
    let anew = world.pay("new").reference("k").at(FAILING).send().await;
    vec![first, retry, anew]
}

async fn reopened(world: &World) -> Vec<Said> {
    let first = world.pay("k").at(REOPENING).wrong("drop-before").send().await;
    let retry = world.pay("k").at(REOPENING).send().await;
    vec![first, retry, world.pay("k").at(REOPENING).send().await]
}

/// The request came to nothing, but its owner never heard so. Says what its caller was told.
async fn killed(world: &mut World) -> Said {
    let first = world.pay("k").at(REOPENING).wrong("500-before, slow=20000").press();
    world.until_sent("k", 1).await;
    world.process(0).kill();
    world.process(0).restart().await;
    first.told().await
}

async fn without_mark(world: &mut World) -> Vec<Said> {
    let first = killed(world).await;
    world.until_looked("absent", 2).await;
    let retry = world.pay("k").at(REOPENING).send().await;
    let is_held = is_held(world, &retry).await;
    vec![first, retry, is_held]
}

async fn marked_by_successor(world: &mut World) -> Vec<Said> {
    let first = killed(world).await;
    world.until_only("released").await;
    let retry = world.pay("k").at(REOPENING).send().await;
    vec![first, retry, world.pay("k").at(REOPENING).send().await]
}

async fn only_slow(world: &World, path: &str) -> Vec<Said> {
    let first = world.pay("k").at(path).wrong("stall=2000").press();
    world.until_sent("k", 1).await;
    let second = world.pay("k").at(path).press();
    let told = vec![first.told().await, second.told().await];
    let absent = world.looked("absent").await > 0;
    let absent = Said::fact("absent meanwhile", absent);
    let retry = world.pay("k").at(path).send().await;
    told.into_iter().chain([absent, retry]).collect()
}
