//! The drill: situations that cost money, played against the real thing, and a table of what each
//! cost and what every caller was told.
//!
//! Everything is real: the binary in processes of its own, Redis, sockets, signals. A row is a line
//! in a table ([`row`]) and a few lines of script, in a world of its own ([`world`]); the rows are
//! in `rows/`, one file per theme. `DRILL=words` plays only the rows whose situation has the words.
#![expect(clippy::unwrap_used, reason = "without a place for its table the drill has failed")]

use std::io::{self, Write as _};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

mod asked;
mod caller;
mod config;
mod named;
mod process;
#[path = "../integration/support/redis.rs"]
mod redis;
mod row;
mod rows;
mod world;

use row::{Outcome, Row};
use world::Store;

/// How many rows are played at the same time. They mostly wait.
const ROWS_AT_A_TIME: usize = 6;
/// How many rows there are at the least.
const ROWS_MIN: usize = 30;

/// A row on a store, and what came of it.
type Played = (&'static str, Store, Outcome);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_situation_costs_and_tells_what_is_promised() {
    let filter = filter();
    let rows: Vec<&Row> = rows::together().filter(|row| row.situation.contains(&filter)).collect();
    let alone: Vec<&Row> = rows::alone().filter(|row| row.situation.contains(&filter)).collect();

    let mut played = play(&rows, ROWS_AT_A_TIME).await;
    // Whoever measures time wants the machine for itself.
    played.append(&mut play(&alone, 1).await);

    let rows = [rows, alone].concat();
    let wrong = print(&rows, &played);
    assert_eq!(wrong, 0, "wrong rows");
    assert!(rows.len() >= ROWS_MIN || !filter.is_empty(), "only {} rows", rows.len());
}

#[expect(clippy::disallowed_methods, reason = "for whoever works on one row")]
fn filter() -> String {
    std::env::var("DRILL").unwrap_or_default()
}

async fn play(rows: &[&'static Row], at_a_time: usize) -> Vec<Played> {
    let places = Arc::new(Semaphore::new(at_a_time));
    let mut playing = JoinSet::new();
    for row in rows.iter().copied() {
        for store in row.stores.iter().copied() {
            let places = Arc::clone(&places);
            playing.spawn(async move {
                let _place = places.acquire().await;
                (row.situation, store, row::play(row, store).await)
            });
        }
    }
    playing.join_all().await
}

/// Prints the table, then what is wrong. Says how many rows are.
///
/// Not by `println!`, which a test's runner keeps to itself: the table is what the drill is for.
fn print(rows: &[&Row], played: &[Played]) -> usize {
    let mut out = io::stdout().lock();
    writeln!(out, "\n{:<74} {:<14} charges · what each caller was told", "situation", "store")
        .unwrap();
    let mut wrong = 0;
    for row in rows {
        let mut its: Vec<&Played> =
            played.iter().filter(|(name, ..)| *name == row.situation).collect();
        its.sort_by_key(|(_, store, _)| store.name());
        let right = its.iter().filter(|(.., outcome)| outcome.wrong.is_empty());
        let stores: Vec<&str> = right.map(|(_, store, _)| store.name()).collect();
        if !stores.is_empty() {
            let (stores, told) = (stores.join(" "), row.told.join(" · "));
            writeln!(out, "{:<74} {stores:<14} {} · {told}", row.situation, row.charges).unwrap();
        }
        for (situation, store, outcome) in its {
            if !outcome.wrong.is_empty() {
                wrong += 1;
                let (store, told) = (store.name(), outcome.told.join(" · "));
                writeln!(out, "{situation:<74} {store:<14} {} · {told}   WRONG", outcome.charges)
                    .unwrap();
            }
        }
    }
    for (situation, store, outcome) in played {
        if !outcome.wrong.is_empty() {
            writeln!(out, "\nWRONG: {situation} ({})\n{}", store.name(), outcome.wrong.join("\n"))
                .unwrap();
        }
    }
    let counted = played.len();
    writeln!(out, "\n{} situations, {counted} times played, {wrong} wrong", rows.len()).unwrap();
    wrong
}
