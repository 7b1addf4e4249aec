//! The Redis store never answers wrongly, wherever its connection breaks: cut after any byte of
//! any question or answer, silent, late by one answer, or refused.
//!
//! A sample of all places is cut; every one if `SEMEL_SOAK` is set.
#![expect(clippy::unwrap_used, reason = "a world that cannot be made or asked has failed")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use semel::store::redis::RedisStore;
use semel::store::{Charter, Listing, Store, StoreError, Swap, Swapped, Tag, Write};

use crate::support::cutter::{Carried, Cutter, Fault, Way};
use crate::support::redis::RedisServer;
use crate::support::swaps::{
    CHARTER, bound, claim, founded, hasty, key, once_reachable, purge, record, swap_through, token,
};

/// How many places are cut in one direction, when not all are.
const PLACES: usize = 24;

/// The deadline of a call, and what a loaded machine may add to it.
const DEADLINE: Duration = Duration::from_millis(500);
const SLACK: Duration = Duration::from_millis(500);

/// Where counts and keys begin, so that they have the same length all the time.
const COUNT: u64 = 100_000;
const KEYS: u32 = 1000;

const META: &str = "{semel}:meta";

/// A Redis, a cutter before it, and a store that goes through it.
struct World {
    server: RedisServer,
    cutter: Cutter,
    store: RedisStore,
    next: u32,
}

impl World {
    async fn new() -> Self {
        let server = RedisServer::start_with(&["--appendonly", "no"]);
        let cutter = Cutter::before(server.port()).await;
        let store = founded(&cutter.url()).await;
        server.command(&["HSET", META, "count", &COUNT.to_string()]);
        Self { server, cutter, store, next: KEYS }
    }

    /// A key that nothing was done with.
    fn fresh(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// Cuts an operation at one place after the other. `ready` makes what it needs; `tried` is
    /// given what the cut operation returned and checks what is left of it.
    async fn cut<T, R, O, C>(&mut self, ready: R, operation: O, tried: C)
    where
        R: AsyncFn(&RedisStore, u32),
        O: AsyncFn(&RedisStore, u32) -> Result<T, StoreError>,
        C: AsyncFn(&RedisStore, u32, Option<T>),
    {
        // Once to bring the script, once to see how long it is.
        let mut carried = Carried::default();
        for _ in 0..2 {
            let n = self.fresh();
            ready(&self.store, n).await;
            self.cutter.heal();
            let whole = operation(&self.store, n).await.unwrap();
            carried = self.cutter.carried();
            tried(&self.store, n, Some(whole)).await;
        }

        for (way, length) in [(Way::Up, carried.up), (Way::Down, carried.down)] {
            for after in places(length) {
                let n = self.fresh();
                ready(&self.store, n).await;
                self.cutter.order(Fault::Cut { way, after });
                let result = operation(&self.store, n).await;
                assert!(self.cutter.struck(), "{way:?} after {after}: not cut");
                let whole = way == Way::Down && self.cutter.carried().down <= after;
                let result = match result {
                    Ok(result) => Some(result),
                    Err(StoreError::Unconfirmed(_) | StoreError::Unreachable(_)) => None,
                    Err(error @ (StoreError::Refused(_) | StoreError::Broken(_))) => {
                        panic!("{way:?} after {after}: {error}")
                    }
                };
                assert!(
                    whole || result.is_none(),
                    "{way:?} after {after}: half an answer was read"
                );
                once_reachable(&self.store, key(n)).await.unwrap();
                tried(&self.store, n, result).await;
            }
        }
    }

    /// Cuts a swap. Cut or not, it is then done again, and has happened once.
    async fn cut_swap(&mut self, ready: &[fn(u32) -> Swap], swap: fn(u32) -> Swap) {
        let leaves = |swap: Swap| match swap.write {
            Write::Put { .. } => Some(swap.token),
            Write::Purge => None,
        };
        self.cut(
            async |store, n| {
                for swap in ready {
                    assert_eq!(swap_through(store, &swap(n)).await, Swapped::Done);
                }
            },
            async |store, n| store.swap(&swap(n)).await,
            async |store, n, result| {
                assert!(matches!(result, None | Some(Swapped::Done)), "{result:?}");
                let held = store.load(key(n)).await.unwrap().map(|stored| stored.token);
                let before = swap(n).expected;
                let after = leaves(swap(n));
                assert!(held == before || held == after, "{held:?}");
                assert!(result.is_none() || held == after, "confirmed and not done");

                let again = swap_through(store, &swap(n)).await;
                assert!(matches!(again, Swapped::Done | Swapped::Lost(None)), "{again:?}");
                let held = store.load(key(n)).await.unwrap().map(|stored| stored.token);
                assert_eq!(held, after);
            },
        )
        .await;
    }

    /// How many swaps were done, and on how many keys.
    fn done(&self) -> (u64, u64) {
        let count = self.server.command(&["HGET", META, "count"]);
        let count: String = redis::from_redis_value(count).unwrap();
        (count.parse::<u64>().unwrap() - COUNT, u64::from(self.next - KEYS))
    }
}

/// Where to cut something of this length: both edges, and between them all or a sample.
fn places(length: usize) -> BTreeSet<usize> {
    let step = if soak() { 1 } else { (length / PLACES).max(1) };
    (0..=length).step_by(step).chain([1, length - 1, length]).collect()
}

#[expect(clippy::disallowed_methods, reason = "how long to test is not a setting of semel's")]
fn soak() -> bool {
    std::env::var("SEMEL_SOAK").is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_cut_anywhere_happened_once_or_not_at_all() {
    let mut world = World::new().await;

    world.cut_swap(&[], claim).await;

    let (swaps, keys) = world.done();
    assert_eq!(swaps, keys);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_cut_anywhere_happened_once_or_not_at_all() {
    let mut world = World::new().await;

    world.cut_swap(&[claim], record).await;

    let (swaps, keys) = world.done();
    assert_eq!(swaps, 2 * keys);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_cut_anywhere_happened_once_or_not_at_all() {
    let mut world = World::new().await;

    world.cut_swap(&[claim, record], purge).await;

    let (swaps, keys) = world.done();
    assert_eq!(swaps, 3 * keys);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_has_to_be_brought_first_may_be_cut_anywhere() {
    let mut world = World::new().await;
    let url = world.server.url();

    world
        .cut(
            async |_, _| {
                let client = redis::Client::open(url.as_str()).unwrap();
                let mut connection = client.get_connection().unwrap();
                redis::cmd("SCRIPT").arg("FLUSH").exec(&mut connection).unwrap();
            },
            async |store, n| store.swap(&claim(n)).await,
            async |store, n, _| {
                assert_eq!(swap_through(store, &claim(n)).await, Swapped::Done);
            },
        )
        .await;

    let (swaps, keys) = world.done();
    assert_eq!(swaps, keys);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_cut_anywhere_is_right_or_is_none() {
    let mut world = World::new().await;
    let claimed = async |store: &RedisStore, n| {
        assert_eq!(swap_through(store, &claim(n)).await, Swapped::Done);
    };
    let listing = Listing { tag: Some(Tag(1)), after: None, limit: 3 };

    let load = async |store: &RedisStore, n| store.load(key(n)).await;
    world
        .cut(claimed, load, async |_, n, loaded| {
            let Some(loaded) = loaded else { return };
            assert_eq!(loaded.map(|stored| stored.token), Some(token(n)));
        })
        .await;
    let due = async |store: &RedisStore, _| store.due(3).await;
    world
        .cut(claimed, due, async |_, _, agenda| {
            assert!(agenda.is_none_or(|agenda| agenda.due.len() == 3));
        })
        .await;
    let list = async |store: &RedisStore, _| store.list(&listing).await;
    world
        .cut(claimed, list, async |_, _, page| {
            assert!(page.is_none_or(|page| page.entries.len() == 3 && page.next.is_some()));
        })
        .await;
    let charter = async |store: &RedisStore, _| store.charter().await;
    world
        .cut(claimed, charter, async |_, _, charter| {
            assert!(charter.is_none_or(|charter| charter == Some(CHARTER)));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foundation_cut_anywhere_is_there_or_not() {
    let server = RedisServer::start_with(&["--appendonly", "no"]);
    let cutter = Cutter::before(server.port()).await;
    let store = bound(&cutter.url());

    for way in [Way::Up, Way::Down] {
        // More than either is long; what comes after the end is not cut.
        for after in places(400) {
            server.command(&["FLUSHALL"]);
            let _connected = store.charter().await;
            cutter.order(Fault::Cut { way, after });
            let result = store.found(&CHARTER).await;
            cutter.heal();

            let there = charter_through(&store).await;
            assert!(there.is_none_or(|there| there == CHARTER));
            assert!(result.is_err() || there.is_some(), "{way:?} after {after}");
            if there.is_none() {
                store.found(&CHARTER).await.unwrap();
            }
        }
    }
}

async fn charter_through(store: &RedisStore) -> Option<Charter> {
    for _ in 0..200 {
        if let Ok(charter) = store.charter().await {
            return charter;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the store did not come back");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_another_question_is_noticed() {
    let world = World::new().await;
    let store = &world.store;
    store.swap(&claim(1)).await.unwrap();
    assert_eq!(store.load(key(2)).await, Ok(None));

    world.cutter.order(Fault::Stutter);
    // Its answer, "nothing there", comes again in front of the answer to the next question.
    assert_eq!(store.load(key(1)).await.unwrap().map(|stored| stored.token), Some(token(1)));
    let claimed = store.swap(&claim(2)).await;

    assert!(matches!(claimed, Err(StoreError::Unconfirmed(_))), "{claimed:?}");
    assert_eq!(once_reachable(store, key(2)).await.unwrap().unwrap().token, token(2));
    assert_eq!(store.load(key(1)).await.unwrap().unwrap().token, token(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn even_the_same_question_does_not_take_an_old_answer() {
    let world = World::new().await;
    let store = &world.store;
    let other = bound(&world.server.url());
    store.load(key(1)).await.unwrap();

    world.cutter.order(Fault::Stutter);
    assert_eq!(store.load(key(1)).await, Ok(None));
    other.swap(&claim(1)).await.unwrap();
    let loaded = store.load(key(1)).await;

    assert!(matches!(loaded, Err(StoreError::Unconfirmed(_))), "{loaded:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_given_up_at_the_deadline() {
    let world = World::new().await;
    let store = &hasty(&world.cutter.url());
    store.load(key(1)).await.unwrap();

    world.cutter.order(Fault::BlackHole);
    let calls = (1..=50).map(|n| async move {
        let asked = Instant::now();
        let swapped = store.swap(&claim(n)).await;
        assert!(matches!(swapped, Err(StoreError::Unconfirmed(_))), "{swapped:?}");
        asked.elapsed()
    });
    for took in futures_util::future::join_all(calls).await {
        assert!(took < DEADLINE + SLACK, "{took:?}");
    }

    world.cutter.heal();
    assert_eq!(once_reachable(store, key(1)).await, Ok(None));
    assert_eq!(store.swap(&claim(1)).await, Ok(Swapped::Done), "over a connection of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_is_unreachable_and_costs_nobody_time() {
    let world = World::new().await;

    world.cutter.order(Fault::Refuse);
    let store = hasty(&world.cutter.url());
    let asked = Instant::now();
    let calls = (1..=50).map(|n| {
        let store = &store;
        async move { store.swap(&claim(n)).await }
    });
    for swapped in futures_util::future::join_all(calls).await {
        assert!(matches!(swapped, Err(StoreError::Unreachable(_))), "{swapped:?}");
    }
    assert!(asked.elapsed() < DEADLINE, "{:?}", asked.elapsed());

    world.cutter.heal();
    assert_eq!(once_reachable(&store, key(1)).await, Ok(None));
    assert_eq!(world.done(), (0, 0));
}
