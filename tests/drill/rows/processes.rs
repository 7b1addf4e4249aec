//! What happens to processes: killed, told to end, paused, restarted, two at a time.

use std::fs;
use std::time::Duration;

use tokio::time::Instant;

use crate::caller::{Said, all};
use crate::config::{LOOKED, SLOW};
use crate::row::{BOTH, EMBEDDED, REDIS, Row};
use crate::world::World;

/// How long after the owner's caller a duplicate in another process may hear.
const FOLLOW_MAX: Duration = Duration::from_millis(100);

pub(super) const ROWS: &[Row] = &[
    Row {
        situation: "restarted, then a retry",
        stores: BOTH,
        charges: 1,
        told: &["201 fresh", "201 replayed"],
        play: |world| Box::pin(restarted(world)),
    },
    Row {
        situation: "kill -9 in flight, restarted, then retries",
        stores: BOTH,
        charges: 1,
        told: &["no answer", "504 unknown outcome-unknown", "504 unknown outcome-unknown"],
        play: |world| Box::pin(killed(world)),
    },
    Row {
        situation: "kill -9 in flight, restarted, found by look-up",
        stores: BOTH,
        charges: 1,
        told: &["no answer", "201 looked-up", "201 replayed"],
        play: |world| Box::pin(killed_and_found(world)),
    },
    Row {
        situation: "kill -9 after the answer, restarted, then a retry",
        stores: BOTH,
        charges: 1,
        told: &["201 fresh", "201 replayed"],
        play: |world| Box::pin(killed_after_answer(world)),
    },
    Row {
        situation: "SIGTERM in flight: answered, ended; restarted, then a retry",
        stores: BOTH,
        charges: 1,
        told: &["201 fresh", "ended well", "201 replayed"],
        play: |world| Box::pin(drained(world)),
    },
    Row {
        situation: "SIGTERM in flight, and no answer within the drain; then a retry",
        stores: BOTH,
        charges: 1,
        told: &["504 unknown outcome-unknown", "ended well", "504 unknown outcome-unknown"],
        play: |world| Box::pin(cut_by_drain(world)),
    },
    Row {
        situation: "kill -9, and the database is gone: does not start",
        stores: EMBEDDED,
        charges: 1,
        told: &["201 fresh", "refuses to start"],
        play: |world| Box::pin(database_gone(world)),
    },
    Row {
        situation: "a second process on the same folder: does not start",
        stores: EMBEDDED,
        charges: 1,
        told: &["refuses to start", "201 fresh"],
        play: |world| Box::pin(folder_in_use(world)),
    },
    Row {
        situation: "two processes, ten keys, each pressed at both at the same moment",
        stores: REDIS,
        charges: 10,
        told: &["10 × 201 followed", "10 × 201 fresh"],
        play: |world| Box::pin(raced(world)),
    },
    Row {
        situation: "two processes: kill -9 of the owner's, then a retry at the other",
        stores: REDIS,
        charges: 1,
        told: &["no answer", "201 looked-up", "201 replayed"],
        play: |world| Box::pin(owner_killed(world)),
    },
    Row {
        situation: "paused for longer than its lease, then going on",
        stores: REDIS,
        charges: 1,
        told: &["504 unknown outcome-unknown", "201 fresh", "201 replayed"],
        play: |world| Box::pin(paused(world)),
    },
];

/// What measures time.
pub(super) const TIMED: &[Row] = &[Row {
    situation: "two processes: duplicates of the other's payment",
    stores: REDIS,
    charges: 5,
    told: &["5 × 201 fresh", "5 × 201 followed", "within 100 ms (median)"],
    play: |world| Box::pin(followed_elsewhere(world)),
}];

async fn restarted(world: &mut World) -> Vec<Said> {
    let first = world.pay("k").send().await;
    world.process(0).terminate();
    world.process(0).ended().await;
    world.process(0).restart().await;
    vec![first, world.pay("k").send().await]
}

async fn killed(world: &mut World) -> Vec<Said> {
    let first = world.pay("k").wrong("slow=1500").press();
    world.reached(1).await;
    world.process(0).kill();
    world.process(0).restart().await;
    let retry = world.pay("k").send().await;
    vec![first.told().await, retry, world.pay("k").send().await]
}

async fn killed_and_found(world: &mut World) -> Vec<Said> {
    let first = world.pay("k").at(LOOKED).wrong("slow=1500").press();
    world.reached(1).await;
    world.process(0).kill();
    world.process(0).restart().await;
    let retry = world.pay("k").at(LOOKED).send().await;
    vec![first.told().await, retry, world.pay("k").at(LOOKED).send().await]
}

async fn killed_after_answer(world: &mut World) -> Vec<Said> {
    let first = world.pay("k").send().await;
    world.process(0).kill();
    world.process(0).restart().await;
    vec![first, world.pay("k").send().await]
}

async fn drained(world: &mut World) -> Vec<Said> {
    let first = world.pay("k").wrong("slow=1000").press();
    world.reached(1).await;
    world.process(0).terminate();
    let first = first.told().await;
    let status = world.process(0).ended().await;
    world.process(0).restart().await;
    vec![first, Said::fact("ended well", status.success()), world.pay("k").send().await]
}

async fn cut_by_drain(world: &mut World) -> Vec<Said> {
    let first = world.pay("k").at(SLOW).wrong("slow=20000").press();
    world.reached(1).await;
    world.process(0).terminate();
    let first = first.told().await;
    let status = world.process(0).ended().await;
    world.process(0).restart().await;
    let retry = world.pay("k").at(SLOW).send().await;
    vec![first, Said::fact("ended well", status.success()), retry]
}

async fn database_gone(world: &mut World) -> Vec<Said> {
    let first = world.pay("k").send().await;
    world.process(0).kill();
    remove_databases(world);
    vec![first, world.refuses_to_start().await]
}

fn remove_databases(world: &World) {
    for entry in fs::read_dir(world.store_folder()).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().contains(".db") {
            assert!(fs::remove_file(entry.path()).is_ok());
        }
    }
}

async fn folder_in_use(world: &World) -> Vec<Said> {
    vec![world.refuses_to_start().await, world.pay("k").send().await]
}

async fn followed_elsewhere(world: &mut World) -> Vec<Said> {
    world.add_process().await;
    let (mut owners, mut followers, mut late) = (vec![], vec![], vec![]);
    for (n, key) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        let owner = world.pay_by(0, key).wrong("slow=500").press();
        world.reached(n as u64 + 1).await;
        let follower = world.pay_by(1, key).press();
        let (owner, follower) = (owner.told().await, follower.told().await);
        let at = |said: &Said| -> Instant { said.answer().at };
        late.push(at(&follower).saturating_duration_since(at(&owner)));
        owners.push(owner);
        followers.push(follower);
    }
    late.sort();
    owners.append(&mut followers);
    owners.push(Said::fact("within 100 ms (median)", late[late.len() / 2] <= FOLLOW_MAX));
    owners
}

async fn raced(world: &mut World) -> Vec<Said> {
    world.add_process().await;
    let keys = (0..10).map(|n| format!("k{n}"));
    let both = keys.flat_map(|key| [0, 1].map(|n| world.pay_by(n, &key).wrong("slow=700")));
    all(both.map(crate::caller::Order::press).collect()).await
}

async fn owner_killed(world: &mut World) -> Vec<Said> {
    world.add_process().await;
    let first = world.pay_by(1, "k").at(LOOKED).wrong("slow=1500").press();
    world.reached(1).await;
    world.process(1).kill();
    let retry = world.pay("k").at(LOOKED).send().await;
    vec![first.told().await, retry, world.pay("k").at(LOOKED).send().await]
}

async fn paused(world: &mut World) -> Vec<Said> {
    world.add_process().await;
    let first = world.pay_by(1, "k").wrong("slow=500").press();
    world.reached(1).await;
    world.process(1).freeze();
    let retry = world.pay("k").send().await;
    world.process(1).thaw();
    vec![retry, first.told().await, world.pay("k").send().await]
}
