//! What must hold when it has become calm: everything is settled, listed or free.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::RngExt as _;
use semel::ledger::Found;
use semel::protocol::id::ProcessId;
use semel::protocol::record::{Entry, Identity, State};
use semel::proxy::route::Duplicates;
use semel::task::Drained;
use tokio::time::sleep;

use crate::book::short;
use crate::callers::Purchase;
use crate::process::SKEW;
use crate::world::World;

/// A look-up is never put off for longer.
const LOOK_UP_PAUSE_MAX: Duration = Duration::from_secs(310);

pub(crate) async fn end(world: &Arc<World>, purchases: &[Purchase]) {
    world.all_at_rest().await;
    let waits = world.rng().random_bool(0.04);
    if waits {
        // Nobody asks: what can be looked up is settled all the same.
        sleep(LOOK_UP_PAUSE_MAX).await;
        settled(world, true);
    }
    world.ask_once_more(purchases).await;
    world.all_at_rest().await;
    let grace = world.terms.upstream_timeout + world.terms.lease + Duration::from_secs(5);
    sleep(grace).await;
    settled(world, waits);
    readable(world);
    if world.rng().random_bool(0.5) {
        // Late retries: to an answer that is gone, and to a tombstone that is gone too.
        world.sleep_through(world.terms.retention + Duration::from_secs(30)).await;
        world.ask_once_more(purchases).await;
        world.sleep_through(world.terms.remember * 2).await;
        sleep(Duration::from_secs(2)).await;
        world.ask_once_more(purchases).await;
        world.all_at_rest().await;
        readable(world);
    }
    for process in world.processes() {
        if process.has_recalled() {
            world.book.sometimes("told what was recalled");
        }
        let drained = process.tasks.drain(grace * 2, Duration::from_secs(3)).await;
        let shifted = world.stepped_back.load(Ordering::Relaxed);
        world
            .book
            .check(shifted || drained == Drained::Clean, || format!("at the end: {drained:?}"));
    }
    nothing_in_flight(world, None);
}

/// Nothing stays in flight whose owner has gone, or has drained.
pub(crate) fn nothing_in_flight(world: &World, process: Option<ProcessId>) {
    if process.is_none() && world.stepped_back.load(Ordering::Relaxed) {
        // Leases last longer by as much as the clock went back.
        return;
    }
    for (key, stored) in world.depot.store.snapshot().entries() {
        let Ok(Entry::Record(record)) = Entry::read(&stored.bytes, stored.age) else { continue };
        let flies = matches!(record.state, State::InFlight);
        if flies && process.is_none_or(|process| record.process == process) {
            world.book.violation(format!("{} stays in flight", short(key)));
        }
    }
}

/// What the provider knows the store knows, where there is a look-up (of operations that somebody
/// has just asked for, or of all of them).
fn settled(world: &World, all: bool) {
    nothing_in_flight(world, None);
    let content = world.depot.store.snapshot();
    let (sends, claims, lost, fallen, forward) = {
        let pages = world.book.pages();
        let (sends, claims) = (pages.sends.clone(), pages.claims.clone());
        (sends, claims, pages.lost.clone(), pages.fallen.clone(), pages.stepped)
    };
    for (key, stored) in content.entries() {
        let Ok(Entry::Record(record)) = Entry::read(&stored.bytes, stored.age) else { continue };
        let waits = matches!(record.state, State::InDoubt { .. } | State::Accepted { .. });
        let can_be_asked = record.route == "payments" && record.inputs.is_some();
        if matches!(record.state, State::InDoubt { .. })
            && !lost.contains(&key)
            && let Some(claim) = claims.get(&record.attempt)
        {
            // An owner that lives knows that it sent nothing.
            // Clocks that stepped let a released record go before a late claim comes.
            let shifted = world.stepped_back.load(Ordering::Relaxed) || !forward.is_zero();
            world.book.check(shifted || claim.send.is_some() || fallen.contains(&claim.by), || {
                format!("{} stays in doubt, though {} never sent it", short(key), claim.by)
            });
        }
        // A store's clock that went back makes payments look older than their claims; one that went
        // far forward disagrees with the wall clock of the claim, and dates prove nothing any more.
        let shifted = world.stepped_back.load(Ordering::Relaxed) || forward > SKEW;
        // Who waits has an operation looked up at once; all else has time.
        let waited = world.terms.duplicates == Duplicates::Wait;
        let asked = all || (waited && record.identity == Identity::Key);
        if !waits || !asked || !can_be_asked || shifted || lost.contains(&key) {
            continue;
        }
        let send = claims.get(&record.attempt).and_then(|claim| claim.send);
        let payment = send.and_then(|send| sends[send].payment);
        world.book.check(payment.is_none(), || {
            let state = record.state.name();
            format!("{} stays {state}, though payment {payment:?} is there", short(key))
        });
    }
}

/// Every record can be read by those who run now.
fn readable(world: &World) {
    let processes = world.processes();
    let Some(process) = processes.first() else { return };
    for (key, stored) in world.depot.store.snapshot().entries() {
        let view = match process.ledger.hold(key, &stored, process.ledger.now()) {
            Ok(Found::Record(held)) => process.ledger.view(&held).map(drop),
            Ok(Found::Pointer(..)) => Ok(()),
            Err(error) => Err(error),
        };
        world.book.check(view.is_ok(), || format!("{} is unreadable: {view:?}", short(key)));
    }
}
