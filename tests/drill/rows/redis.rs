//! What happens to Redis: killed, paused, restarted, flushed, restored, full, read-only.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::caller::Said;
use crate::config::{PASSING, SLOW};
use crate::row::{REDIS, Row};
use crate::world::World;

/// Nothing can be claimed.
const NO_STORE: &str = "503 refused store-unavailable";

pub(super) const ROWS: &[Row] = &[
    Row {
        situation: "Redis killed: retries and new payments; restarted, then retries",
        stores: REDIS,
        charges: 2,
        told: &["201 fresh", NO_STORE, NO_STORE, "201 replayed", "201 fresh"],
        play: |world| Box::pin(killed(world)),
    },
    Row {
        situation: "Redis killed in flight; restarted, then a retry",
        stores: REDIS,
        charges: 1,
        told: &["3 × 201 unrecorded", "201 replayed"],
        play: |world| Box::pin(killed_in_flight(world)),
    },
    Row {
        situation: "Redis restarted in flight (appendfsync always), then a retry",
        stores: REDIS,
        charges: 1,
        told: &["201 fresh", "201 replayed"],
        play: |world| Box::pin(restarted_in_flight(world)),
    },
    Row {
        situation: "Redis paused while a payment is claimed; going on, then retries",
        stores: REDIS,
        charges: 1,
        told: &[NO_STORE, "nothing sent", "201 fresh", "201 replayed"],
        play: |world| Box::pin(paused(world)),
    },
    Row {
        situation: "Redis paused in flight; going on, then a retry",
        stores: REDIS,
        charges: 1,
        told: &["201 unrecorded", "201 replayed"],
        play: |world| Box::pin(paused_in_flight(world)),
    },
    Row {
        situation: "Redis flushed in flight; then a retry, and new payments",
        stores: REDIS,
        charges: 1,
        told: &["201 unrecorded", "201 unrecorded", NO_STORE],
        play: |world| Box::pin(flushed_in_flight(world)),
    },
    Row {
        situation: "Redis flushed: retries and new payments",
        stores: REDIS,
        charges: 1,
        told: &["201 fresh", NO_STORE, NO_STORE],
        play: |world| Box::pin(flushed(world)),
    },
    Row {
        situation: "Redis restored from an old snapshot: nothing until an operator accepts it",
        stores: REDIS,
        charges: 2,
        told: &[
            "201 fresh",
            "201 fresh",
            "3 × 503 refused store-unavailable",
            "accepted",
            "201 replayed",
        ],
        play: |world| Box::pin(restored(world)),
    },
    Row {
        situation: "Redis full in flight: recorded all the same; new payments; not full",
        stores: REDIS,
        charges: 2,
        told: &["201 fresh", NO_STORE, "201 replayed", "201 fresh"],
        play: |world| Box::pin(full(world)),
    },
    Row {
        situation: "Redis read-only (a replica), then a primary again",
        stores: REDIS,
        charges: 2,
        told: &["201 fresh", NO_STORE, "201 replayed", "201 fresh"],
        play: |world| Box::pin(read_only(world)),
    },
    Row {
        situation: "Redis evicts (allkeys-lru): claims stop before anything can be lost",
        stores: REDIS,
        charges: 0,
        told: &["refuses to start"],
        play: |world| Box::pin(evicts(world)),
    },
    Row {
        situation: "Redis killed, on a route that sends all the same, and says so",
        stores: REDIS,
        charges: 2,
        told: &["201 unguarded", "201 unguarded"],
        play: |world| Box::pin(passed(world)),
    },
];

async fn killed(world: &mut World) -> Vec<Said> {
    let first = world.pay("k1").send().await;
    world.kill_redis();
    let retry = world.pay("k1").send().await;
    let other = world.pay("k2").send().await;
    world.restart_redis();
    world.until_ready().await;
    vec![first, retry, other, world.pay("k1").send().await, world.pay("k2").send().await]
}

async fn killed_in_flight(world: &mut World) -> Vec<Said> {
    let first = world.pay("k").wrong("slow=700").press();
    world.reached(1).await;
    let duplicate = world.pay("k").press();
    world.waiting(1).await;
    world.kill_redis();
    let (first, duplicate) = (first.told().await, duplicate.told().await);
    let late = world.pay("k").send().await;
    world.restart_redis();
    world.until_ready().await;
    world.until_state(&first, "settled").await;
    vec![first, duplicate, late, world.pay("k").send().await]
}

async fn restarted_in_flight(world: &mut World) -> Vec<Said> {
    let first = world.pay("k").at(SLOW).wrong("slow=2500").press();
    world.reached(1).await;
    world.restart_redis();
    world.until_reachable().await;
    let first = first.told().await;
    world.until_state(&first, "settled").await;
    vec![first, world.pay("k").at(SLOW).send().await]
}

async fn paused(world: &mut World) -> Vec<Said> {
    world.redis().freeze();
    let first = world.pay("k").send().await;
    world.redis().thaw();
    world.until_ready().await;
    let nothing = Said::fact("nothing sent", world.charges() == 0);
    vec![first, nothing, world.pay("k").send().await, world.pay("k").send().await]
}

async fn paused_in_flight(world: &mut World) -> Vec<Said> {
    let first = world.pay("k").wrong("slow=500").press();
    world.reached(1).await;
    world.redis().freeze();
    let first = first.told().await;
    world.redis().thaw();
    world.until_ready().await;
    world.until_state(&first, "settled").await;
    vec![first, world.pay("k").send().await]
}

async fn flushed_in_flight(world: &mut World) -> Vec<Said> {
    let first = world.pay("k1").wrong("slow=500").press();
    world.reached(1).await;
    world.redis().command(&["FLUSHALL"]);
    let first = first.told().await;
    vec![first, world.pay("k1").send().await, world.pay("k2").send().await]
}

async fn flushed(world: &mut World) -> Vec<Said> {
    let first = world.pay("k1").send().await;
    world.redis().command(&["FLUSHALL"]);
    vec![first, world.pay("k1").send().await, world.pay("k2").send().await]
}

async fn restored(world: &mut World) -> Vec<Said> {
    let before = world.pay("k1").send().await;
    let data = data_folder(world);
    let snapshot = data.with_extension("snapshot");
    copy(&data, &snapshot);
    let after = world.pay("k2").send().await;
    world.kill_redis();
    copy(&snapshot, &data);
    world.restart_redis();
    world.until_reachable().await;
    let mut said = vec![before, after];
    for key in ["k1", "k2", "k3"] {
        said.push(world.pay(key).send().await);
    }
    let accepted = world.semel(&["store", "accept", "--reason", "the drill restored a snapshot"]);
    said.push(Said::fact("accepted", accepted));
    world.until_ready().await;
    said.push(world.pay("k1").send().await);
    said
}

async fn full(world: &mut World) -> Vec<Said> {
    let first = world.pay("k1").wrong("slow=500").press();
    world.reached(1).await;
    world.redis().command(&["CONFIG", "SET", "maxmemory", "1"]);
    let first = first.told().await;
    let other = world.pay("k2").send().await;
    let retry = world.pay("k1").send().await;
    world.redis().command(&["CONFIG", "SET", "maxmemory", "0"]);
    vec![first, other, retry, world.pay("k2").send().await]
}

async fn read_only(world: &mut World) -> Vec<Said> {
    let first = world.pay("k1").send().await;
    world.redis().command(&["REPLICAOF", "127.0.0.1", "1"]);
    let other = world.pay("k2").send().await;
    world.redis().command(&["REPLICAOF", "NO", "ONE"]);
    world.until_ready().await;
    vec![first, other, world.pay("k1").send().await, world.pay("k2").send().await]
}

async fn evicts(world: &mut World) -> Vec<Said> {
    world.redis().command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    world.redis().command(&["CONFIG", "SET", "maxmemory", "100mb"]);
    vec![world.refuses_to_start().await]
}

async fn passed(world: &mut World) -> Vec<Said> {
    world.kill_redis();
    // Before, a claim may be on its way: its owner goes on, and duplicates find it.
    world.until_store_is_away().await;
    let first = world.pay("k").at(PASSING).send().await;
    vec![first, world.pay("k").at(PASSING).send().await]
}

/// Where Redis has what it acknowledged.
fn data_folder(world: &mut World) -> PathBuf {
    world.redis().folder().join("appendonlydir")
}

/// Puts a copy of a folder in the place of another.
fn copy(from: &Path, to: &Path) {
    let run = |program: &str, arguments: &[&Path]| {
        let status = Command::new(program).arg("-r").args(arguments).status();
        assert!(status.is_ok_and(|status| status.success()), "{program}");
    };
    if to.exists() {
        run("rm", &[to]);
    }
    run("cp", &[from, to]);
}
