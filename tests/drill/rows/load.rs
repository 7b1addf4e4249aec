//! What needs the machine for itself: time that is measured, and load.
#![expect(clippy::unwrap_used, reason = "a drill whose shops panic has failed")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::caller::{Order, Said, all};
use crate::config::SLOW;
use crate::row::{BOTH, REDIS, Row};
use crate::world::World;

/// Duplicates of the slow key, and how often there are that many.
const STORM: usize = 30;
const ROUNDS: usize = 5;
/// Payments under other keys per measurement, and how many of them at a time.
const OTHERS: usize = 120;
const OTHERS_AT_A_TIME: usize = 4;
/// By how much the storm may slow the others; and by how much at any rate, which is noise.
const SLOWER_MAX: f64 = 1.5;
const NOISE: Duration = Duration::from_millis(10);

/// Shops that pay during a rolling restart, payments of each, and how often one payment is tried.
const SHOPS: usize = 4;
const PAYMENTS: usize = 60;
const TRIES_MAX: usize = 50;
const TRY_PAUSE: Duration = Duration::from_millis(100);

pub(super) const ROWS: &[Row] = &[
    Row {
        situation: "30 duplicates of a slow key while other keys flow, five times",
        stores: BOTH,
        charges: ROUNDS * (1 + 2 * OTHERS),
        told: &["150 × 201 followed", "5 × 201 fresh", "others fresh, p90 ≤ 1.5 × (median)"],
        play: |world| Box::pin(storms(world)),
    },
    Row {
        situation: "rolling restart of two processes under load",
        stores: REDIS,
        charges: SHOPS * PAYMENTS,
        told: &["every payment answered 201", "every key charged once", "load to the end"],
        play: |world| Box::pin(rolling_restart(world)),
    },
];

async fn storms(world: &World) -> Vec<Said> {
    let (mut said, mut slower) = (vec![], vec![]);
    for round in 0..ROUNDS {
        let began = Instant::now();
        let calm = others(world, &format!("{round}-calm")).await;
        // Long enough for the others to be through before it.
        let slow = format!("slow={}", (began.elapsed() * 3).as_millis() + 1000);
        let reached = world.reached_so_far();
        let key = format!("{round}-slow");
        let press = || world.pay(&key).at(SLOW).wrong(&slow).press();
        let mut storm = vec![press()];
        world.reached(reached + 1).await;
        storm.extend((0..STORM).map(|_| press()));
        world.waiting(STORM).await;
        let stormy = others(world, &format!("{round}-stormy")).await;
        // Else it was measured in a calm.
        assert!(!storm[0].is_told(), "the slow payment was over too soon");
        said.append(&mut all(storm).await);
        slower.push(stormy.saturating_sub(NOISE).as_secs_f64() / calm.as_secs_f64());
    }
    said.sort_by_key(Said::words);
    slower.sort_by(f64::total_cmp);
    let median = slower[ROUNDS / 2];
    let fact = format!("others fresh, p90 ≤ {SLOWER_MAX} × (median)");
    let fact = if median <= SLOWER_MAX { fact } else { format!("{fact}, was {slower:.2?}") };
    said.push(Said::fact(fact, median <= SLOWER_MAX));
    said
}

/// Pays under many keys, a few at a time, and says how long the slowest in ten took. (The slowest in
/// a hundred is one payment, or two: a single sync that is slow by chance. That the storm holds up
/// nobody until its end is asserted of all of them.)
async fn others(world: &World, name: &str) -> Duration {
    let mut paying = JoinSet::new();
    for lane in 0..OTHERS_AT_A_TIME {
        let keys = (0..OTHERS / OTHERS_AT_A_TIME).map(|n| format!("{name}-{lane}-{n}"));
        let orders: Vec<Order> =
            keys.map(|key| world.pay(&key).at(SLOW).wrong("slow=20")).collect();
        paying.spawn(async move {
            let mut took = Vec::new();
            for order in orders {
                let said = order.send().await;
                assert_eq!(said.words(), "201 fresh");
                took.push(said.answer().took);
            }
            took
        });
    }
    let mut took = paying.join_all().await.concat();
    took.sort();
    took[took.len() * 90 / 100]
}

async fn rolling_restart(world: &mut World) -> Vec<Said> {
    world.add_process().await;
    let addrs = Arc::new(Mutex::new([0, 1].map(|n| world.process(n).data())));
    let restarted = Arc::new(AtomicBool::new(false));
    let mut shops = JoinSet::new();
    for shop in 0..SHOPS {
        shops.spawn(pay_through(Arc::clone(&addrs), shop, Arc::clone(&restarted)));
    }
    for n in [0, 1] {
        world.reached(((n + 1) * SHOPS * 3) as u64).await;
        world.process(n).terminate();
        world.process(n).ended().await;
        world.process(n).restart().await;
        addrs.lock().unwrap()[n] = world.process(n).data();
    }
    let loaded = shops.try_join_next().is_none();
    restarted.store(true, Ordering::Relaxed);
    let answered = shops.join_all().await.into_iter().all(|all_answered| all_answered);
    let mut keys = (0..SHOPS).flat_map(|shop| (0..PAYMENTS).map(move |n| key(shop, n)));
    let once = keys.all(|key| world.charges_of(&key) == 1);
    vec![
        Said::fact("every payment answered 201", answered),
        Said::fact("every key charged once", once),
        Said::fact("load to the end", loaded),
    ]
}

fn key(shop: usize, n: usize) -> String {
    format!("shop{shop}-{n}")
}

/// Makes a shop's payments one after the other; tries each at this process and that until it is
/// answered. Says whether all were. What is left when both have restarted goes fast.
async fn pay_through(
    addrs: Arc<Mutex<[SocketAddr; 2]>>,
    shop: usize,
    restarted: Arc<AtomicBool>,
) -> bool {
    for n in 0..PAYMENTS {
        let slow = if restarted.load(Ordering::Relaxed) { "slow=0" } else { "slow=400" };
        let mut answered = false;
        for attempt in 0..TRIES_MAX {
            let addr = addrs.lock().unwrap()[(shop + n + attempt) % 2];
            let key = key(shop, n);
            let said = Order::new(addr, &key).key(&key).wrong(slow).send().await;
            answered = said.words().starts_with("201");
            if answered {
                break;
            }
            sleep(TRY_PAUSE).await;
        }
        if !answered {
            return false;
        }
    }
    true
}
