//! The real proxy, ledger, attempts and reconciler against a seeded world, thousands of times, with
//! the promises as oracles.
//!
//! One seed is one [`world`]: one thread, one runtime with a clock of its own, everything random
//! from the seed. `SEMEL_SIM_SEED=17` plays that world alone and prints its history;
//! `SEMEL_SIM_WORLDS` says how many are played.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![expect(clippy::print_stdout, reason = "histories are printed")]
#![expect(clippy::disallowed_methods, reason = "the world's own tasks belong to no process")]

mod absence;
mod book;
mod callers;
mod claims;
mod ending;
mod entries;
mod judge;
mod life;
mod link;
mod names;
mod operator;
mod oracles;
mod process;
mod provider;
mod weather;
mod world;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};

use tokio::task::JoinHandle;

use world::Outcome;

/// How many worlds are played if nothing is said.
const WORLDS: u64 = 2000;
/// Rare states: if a round of worlds never gets there, it proves less than it seems to.
const REACHED: [&str; 57] = [
    "a business key was free again after its window",
    "a business pointer was replaced",
    "a claim became a name of another operation",
    "a failure freed its business key",
    "another card was tried",
    "told: business key reused",
    "a later caller had left when an earlier one was answered",
    "a caller left",
    "a caller lost its process",
    "a claim was taken back",
    "a content pointer was purged",
    "a content pointer was replaced",
    "a doubt was released by proof",
    "a drain cut attempts short",
    "a drain gave attempts up",
    "a first byte went out after its claim had come to be in doubt",
    "a flushed store was refused",
    "a late swap was done all the same",
    "a look-up settled a doubt",
    "a look-up settled an open call",
    "a look-up settled what was accepted",
    "a process drained by itself",
    "a raised generation was adopted and claims went on",
    "a record was claimed through another process's pointer",
    "a released key was claimed again",
    "a request took effect after its connection was closed",
    "a restored store was refused",
    "a store had to be accepted twice",
    "a tombstone was purged",
    "an answer was buried",
    "an operator settled",
    "an operator's order was refused",
    "an owner marked its connection closed in a doubt",
    "an owner put back what the store had lost",
    "an unrecorded answer was recorded later",
    "another generation was refused",
    "content was free again after retention",
    "in doubt: by an answer's header",
    "in doubt: drained",
    "its own late answer settled a doubt",
    "looked up before its connection was known to be closed",
    "released: an operator",
    "released: not applied",
    "released: not sent",
    "reopened by absence",
    "settled as never applied by absence",
    "settled: without that header",
    "the permit was unspent when the upstream timeout had passed",
    "the same content was bought again",
    "told: accepted",
    "told: followed",
    "told: key reused",
    "told: looked up",
    "told: overloaded",
    "told: reply not kept",
    "told: unrecorded",
    "told what was recalled",
];

/// How many violated worlds are reported.
const REPORTED_MAX: usize = 5;

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(vec![]) };
}

/// Spawns what belongs to the world and to no process: networks, callers, operators.
fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(future)
}

fn number(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap())
}

/// A panic in a task would only end that task.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
            before(panic);
        }));
    });
}

fn play(seed: u64, print: bool) -> Outcome {
    watch_panics();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let mut outcome = runtime.unwrap().block_on(world::play(seed, print));
    let panics = PANICS.with_borrow_mut(std::mem::take);
    outcome.violations.extend(panics.into_iter().map(|panic| format!("a panic: {panic}")));
    outcome
}

#[derive(Default)]
struct Tally {
    seen: BTreeMap<&'static str, u64>,
    violated: Vec<(u64, Vec<String>)>,
}

fn play_all(worlds: u64) -> Tally {
    let (next, tally) = (AtomicU64::new(0), Mutex::new(Tally::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= worlds {
                        return;
                    }
                    let outcome = play(seed, false);
                    let mut tally = tally.lock().unwrap();
                    for (what, count) in outcome.seen {
                        *tally.seen.entry(what).or_default() += count;
                    }
                    if !outcome.violations.is_empty() {
                        tally.violated.push((seed, outcome.violations));
                    }
                }
            });
        }
    });
    tally.into_inner().unwrap()
}

#[test]
fn what_is_promised_holds_in_every_world() {
    if let Some(seed) = number("SEMEL_SIM_SEED") {
        // What semel says of it itself goes to stderr.
        tracing_subscriber::fmt().without_time().with_writer(std::io::stderr).init();
        let outcome = play(seed, true);
        for line in &outcome.lines {
            println!("{line}");
        }
        assert!(outcome.violations.is_empty(), "seed {seed}: {:#?}", outcome.violations);
        return;
    }
    let worlds = number("SEMEL_SIM_WORLDS").unwrap_or(WORLDS);
    let began = std::time::Instant::now();
    let mut tally = play_all(worlds);
    println!("{worlds} worlds in {:?}", began.elapsed());
    for (what, count) in &tally.seen {
        println!("{count:>9} {what}");
    }
    tally.violated.sort_unstable();
    for (seed, violations) in tally.violated.iter().take(REPORTED_MAX) {
        println!("SEMEL_SIM_SEED={seed}: {violations:#?}");
    }
    assert!(tally.violated.is_empty(), "{} worlds violated", tally.violated.len());
    let missed: Vec<_> = REACHED.iter().filter(|what| !tally.seen.contains_key(**what)).collect();
    // Fewer worlds are for looking around.
    assert!(worlds < WORLDS || missed.is_empty(), "no world got there: {missed:#?}");
}

#[test]
fn a_seed_always_plays_the_same_world() {
    for seed in 0..number("SEMEL_SIM_TWICE").unwrap_or(20) {
        let (once, again) = (play(seed, true).lines, play(seed, true).lines);
        let at = once.iter().zip(&again).find(|(once, again)| once != again);
        assert!(at.is_none() && once.len() == again.len(), "seed {seed}: {at:?}");
    }
}
