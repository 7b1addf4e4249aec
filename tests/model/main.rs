//! The protocol, model-checked: every order in which two or three processes, a store, a provider
//! and a budget of faults can act, and what must hold in all of them.
//!
//! The designs that must fail stay in as tests: they show that the model can see what the rules are
//! for. Read in this order: [`rules`] (the decisions), [`machine`] (the steps), [`owner`],
//! [`names`], [`others`] and [`store`] (what the steps do), [`invariants`] (what must hold), [`variants`].
//!
//! `cargo nextest run --test model --no-capture` prints the table and each counterexample;
//! `SEMEL_SOAK=1` adds larger worlds, for which
//! `--config profile.test.package.semel.opt-level=2` is worth its compilation.
#![expect(clippy::print_stdout, reason = "the table of verdicts is what people run this for")]

mod invariants;
mod machine;
mod names;
mod others;
mod owner;
mod rules;
mod store;
mod variants;
mod vocabulary;
mod world;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use stateright::{Checker as _, Model as _};

use crate::machine::{Machine, Step};
use crate::variants::{Expected, Variant};

/// How large a world may get before its bounds are to be reconsidered.
const STATES_MAX: usize = 100_000_000;

#[test]
fn the_protocol_holds_with_every_fault() {
    check_all(&variants::good_with_every_fault());
}

#[test]
fn the_protocol_holds() {
    check_all(&variants::good());
}

#[test]
fn the_protocol_holds_when_the_store_fails_over() {
    check_all(&variants::good_failovers());
}

#[test]
fn the_protocol_holds_when_an_operation_has_two_names() {
    check_all(&variants::good_names());
}

#[test]
fn bad_ways_to_claim_and_write_are_found_out() {
    check_all(&variants::bad());
}

#[test]
fn misplaced_trust_in_absence_and_stores_is_found_out() {
    check_all(&variants::bad_trust());
}

#[test]
fn bad_ways_to_name_an_operation_are_found_out() {
    check_all(&variants::bad_names());
}

#[test]
fn bad_ways_to_give_an_operation_a_further_name_are_found_out() {
    check_all(&variants::bad_further_names());
}

#[test]
fn the_protocol_holds_in_larger_worlds() {
    #[expect(clippy::disallowed_methods, reason = "a switch for people, not configuration")]
    let soak = std::env::var("SEMEL_SOAK").is_ok();
    if soak {
        check_all(&variants::soak());
    }
}

/// Checks them all before it complains of any.
fn check_all(variants: &[Variant]) {
    println!("variant · processes · names · faults · fail-over · absent · states · verdict");
    let wrong: Vec<_> = variants.iter().flat_map(check).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Explores one variant, prints what was found, and says what is not as expected.
fn check(variant: &Variant) -> Vec<String> {
    match variant.expected {
        Expected::Holds(reached) => check_good(variant, reached),
        Expected::Breaks(broken) => {
            broken.iter().filter_map(|&property| check_bad(variant, property)).collect()
        }
    }
}

/// Explores every world there is: nothing may be broken, and all of `reached` is.
fn check_good(variant: &Variant, reached: &[&'static str]) -> Vec<String> {
    let found = explore(variant, [&invariants::ALWAYS, reached].concat(), 2);
    let broken = invariants::ALWAYS.iter().filter_map(|name| found.paths.get_key_value(*name));
    let missing = reached.iter().filter(|name| !found.paths.contains_key(*name));
    let mut wrong: Vec<_> =
        missing.map(|name| format!("{}: {name}: never", variant.name)).collect();
    if found.cut {
        wrong.push(format!("{}: not explored to its end", variant.name));
    }
    for (&name, _) in broken {
        wrong.push(format!("{}: {name}: broken", variant.name));
        check_bad(variant, name);
    }
    report(variant, &found, if wrong.is_empty() { "holds" } else { "NOT AS EXPECTED" });
    wrong
}

/// Explores by depth until the property is broken, so that the counterexample is a shortest one.
fn check_bad(variant: &Variant, property: &'static str) -> Option<String> {
    // One thread, one property: only then does the checker stop at the first that it meets.
    let found = explore(variant, vec![property], 1);
    let Some(path) = found.paths.get(property) else {
        report(variant, &found, "NOT AS EXPECTED");
        return Some(format!("{}: {property}: not broken", variant.name));
    };
    report(variant, &found, &format!("violated in {} steps", path.len()));
    println!("    {property}:{}", listed(path));
    None
}

struct Found {
    paths: HashMap<&'static str, Vec<Step>>,
    states: usize,
    cut: bool,
    took: Duration,
}

fn explore(variant: &Variant, asked: Vec<&'static str>, threads: usize) -> Found {
    let begun = Instant::now();
    let machine = Machine { rules: variant.rules, bounds: variant.bounds, asked };
    let checker = machine.checker().threads(threads).target_state_count(STATES_MAX);
    let checker = checker.spawn_bfs().join();
    let paths = checker.discoveries().into_iter();
    Found {
        paths: paths.map(|(name, path)| (name, path.into_actions())).collect(),
        states: checker.unique_state_count(),
        cut: checker.state_count() >= STATES_MAX,
        took: begun.elapsed(),
    }
}

fn report(variant: &Variant, found: &Found, verdict: &str) {
    let bounds = variant.bounds;
    println!(
        "{} · {} · {:?} · {} · {:?} · {:?} · {} in {:.1?} · {verdict}",
        variant.name,
        bounds.processes,
        bounds.names,
        bounds.faults,
        bounds.failover,
        bounds.absent,
        found.states,
        found.took,
    );
}

fn listed(path: &[Step]) -> String {
    path.iter().map(|step| format!("\n        {step:?}")).collect()
}
