//! What a swap does to the store, and which of its effects must never be seen.

use crate::machine::{Machine, Trip};
use crate::rules::{Failover, Tokens};
use crate::world::{AttemptIx, Breach, Cell, Entry, POINTER, Phase, Slot, Swap, Token, World};

/// Counts of writes are told apart up to here. Beyond, a fence opens too early rather than too
/// late, so that a fence that holds here holds with true counts.
const COUNT_MAX: u8 = 3;

/// What its writer learns from a swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Done,
    Lost,
    Nothing,
}

/// Builds a swap of what is there now.
pub(crate) fn swap(
    machine: &Machine,
    world: &World,
    slot: Slot,
    expected: Option<Token>,
    leave: Option<Entry>,
) -> Swap {
    let token = match (machine.rules.tokens, expected) {
        (Tokens::Unique, _) => world.fresh_token(),
        (Tokens::CountPerKey, expected) => expected.map_or(1, |count| count + 1),
        (Tokens::SharedCounter, Some(token)) => token + 1,
        // Room for the writes that follow under the same attempt.
        (Tokens::SharedCounter, None) => world.fresh_token().next_multiple_of(16),
    };
    Swap { slot, expected, token, leave, fenced: true, beyond: 0 }
}

/// Sends a swap by `process`, or by nobody in particular, on its way.
pub(crate) fn send(
    machine: &Machine,
    world: &mut World,
    mut swap: Swap,
    process: Option<usize>,
    trip: Trip,
) -> Told {
    swap.beyond = beyond(world, process);
    match trip {
        Trip::Told => {}
        Trip::Late => {
            world.left.late -= 1;
            world.air.push(swap);
            return Told::Nothing;
        }
        Trip::ReplyLost => world.left.lost -= 1,
        Trip::Doubled => {
            world.left.doubled -= 1;
            world.air.push(swap);
        }
    }
    let done = apply(machine, world, swap);
    if trip == Trip::ReplyLost {
        return Told::Nothing;
    }
    saw(world, process);
    if done { Told::Done } else { Told::Lost }
}

/// Whether the store answers this process at all.
pub(crate) fn answers(machine: &Machine, world: &World, process: Option<usize>) -> bool {
    admits(machine, world, beyond(world, process))
}

/// Notes the count that an answer carried.
pub(crate) fn saw(world: &mut World, process: Option<usize>) {
    if let Some(process) = process {
        let seen = &mut world.processes[process].beyond;
        *seen = (*seen).max(world.count);
    }
}

/// What a swap carries. For a write of nobody in particular: of the process that has seen least.
fn beyond(world: &World, process: Option<usize>) -> u8 {
    let least = world.processes.iter().map(|process| process.beyond).min().unwrap_or(0);
    process.map_or(least, |process| world.processes[process].beyond)
}

fn admits(machine: &Machine, world: &World, beyond: u8) -> bool {
    !machine.rules.counted || !world.failed_over || beyond <= world.count
}

/// Applies a swap at this instant. Whether it is in place now.
pub(crate) fn apply(machine: &Machine, world: &mut World, swap: Swap) -> bool {
    if !admits(machine, world, swap.beyond) {
        return false;
    }
    let current = world.cells[swap.slot];
    let token = current.map(|cell| cell.token);
    if machine.rules.tokens != Tokens::CountPerKey && token == Some(swap.token) {
        if current.map(|cell| cell.entry) != swap.leave {
            world.breaches.note(Breach::SharedToken);
        }
        return true;
    }
    if swap.fenced && token != swap.expected {
        return false;
    }
    judge(world, swap.slot, current, swap.leave);
    let new = |entry| Cell { token: swap.token, entry, old: false };
    world.cells[swap.slot] = swap.leave.map(new);
    if world.replica.is_some() || world.failed_over {
        world.count = (world.count + 1).min(COUNT_MAX);
    }
    true
}

/// A claim was confirmed: where the store waits for replicas, they have it now.
pub(crate) fn confirm(machine: &Machine, world: &mut World) {
    if machine.bounds.failover == Failover::KeepsClaims && !world.failed_over {
        replicate(world);
    }
}

/// The replica catches up with everything.
pub(crate) fn replicate(world: &mut World) {
    world.replica = Some(world.cells);
    world.count = 0;
    for process in &mut world.processes {
        process.beyond = 0;
    }
    for swap in &mut world.air {
        swap.beyond = 0;
    }
}

/// Judges a change by the state diagram.
fn judge(world: &mut World, slot: Slot, from: Option<Cell>, to: Option<Entry>) {
    let old = from.is_some_and(|cell| cell.old);
    match (from.map(|cell| cell.entry), to) {
        (Some(Entry::Record { attempt, phase }), None) => purged(world, slot, attempt, phase, old),
        (None, Some(Entry::Record { attempt, phase })) => match phase {
            Phase::InFlight => begun(world, attempt),
            // An owner closes the door behind a claim that never came.
            Phase::Released => {}
            Phase::Accepted | Phase::InDoubt { .. } | Phase::Settled { .. } => {
                world.breaches.note(Breach::Edge);
            }
        },
        (
            Some(Entry::Record { attempt, phase }),
            Some(Entry::Record { attempt: next, phase: into }),
        ) => moved(world, (attempt, phase), (next, into)),
        (Some(Entry::Record { attempt, phase: Phase::InFlight }), Some(Entry::Pointer { to })) => {
            turned(world, slot, attempt, to);
        }
        // Under a key of its own, a pointer leads where it led.
        (Some(Entry::Pointer { to: from }), Some(Entry::Pointer { to })) => {
            if slot != POINTER && from != to {
                world.breaches.note(Breach::Edge);
            }
        }
        (Some(Entry::Pointer { .. }) | None, None) | (None, Some(Entry::Pointer { .. })) => {}
        (Some(Entry::Record { .. }), Some(Entry::Pointer { .. }))
        | (Some(Entry::Pointer { .. }), Some(Entry::Record { .. })) => {
            world.breaches.note(Breach::Edge);
        }
    }
}

/// A claim becomes one more name of another operation: only if it was not sent, and never will be.
fn turned(world: &mut World, slot: Slot, attempt: AttemptIx, to: Slot) {
    if world.attempts.get(usize::from(attempt)).is_none_or(|attempt| attempt.sent()) {
        world.breaches.note(Breach::Edge);
    }
    match world.cells[to].map(|cell| cell.entry) {
        Some(Entry::Record { attempt: theirs, .. }) => {
            if let Some(theirs) = world.attempts.get_mut(usize::from(theirs)) {
                theirs.names |= 1 << slot;
            }
        }
        Some(Entry::Pointer { to: back }) if back == slot => world.breaches.note(Breach::Circle),
        Some(Entry::Pointer { .. }) | None => {}
    }
}

fn moved(world: &mut World, (attempt, from): (AttemptIx, Phase), (next, into): (AttemptIx, Phase)) {
    let same = attempt == next;
    let legal = match (from, into) {
        (Phase::Released, Phase::InFlight) => {
            begun(world, next);
            !same
        }
        (Phase::Released, Phase::Released) => true,
        (Phase::InFlight, _) => same,
        (Phase::Accepted, Phase::Accepted | Phase::InDoubt { .. } | Phase::Settled { .. }) => same,
        (
            Phase::InDoubt { .. },
            Phase::InDoubt { .. } | Phase::Accepted | Phase::Settled { .. } | Phase::Released,
        ) => same,
        (Phase::Settled { applied, .. }, Phase::Settled { applied: now, .. }) => {
            same && applied == now
        }
        (Phase::Released | Phase::Accepted | Phase::InDoubt { .. } | Phase::Settled { .. }, _) => {
            false
        }
    };
    if !legal {
        world.breaches.note(Breach::Edge);
        if matches!(from, Phase::Settled { .. }) {
            world.breaches.note(Breach::Changed);
        }
    }
}

/// A claim comes into force. If nobody tends it, its key is blocked for nothing.
fn begun(world: &mut World, attempt: AttemptIx) {
    let tended = world.processes.iter().any(|process| process.doing.attempt() == Some(attempt));
    let known = world.attempts.get(usize::from(attempt));
    if !tended && known.is_some_and(|attempt| !attempt.excused) {
        world.breaches.note(Breach::Resurrected);
    }
}

fn purged(world: &mut World, slot: Slot, attempt: AttemptIx, phase: Phase, old: bool) {
    match phase {
        Phase::Released => {}
        Phase::Settled { .. } if old => {
            // An attempt that has not sent yet is not part of what is forgotten.
            let here = world.attempts.iter_mut().filter(|attempt| attempt.slot == slot);
            here.filter(|attempt| attempt.sent()).for_each(|attempt| attempt.forgotten = true);
        }
        Phase::Settled { .. } => world.breaches.note(Breach::Changed),
        Phase::InFlight | Phase::Accepted | Phase::InDoubt { .. } => {
            world.breaches.note(Breach::Edge);
            if world.attempts.get(usize::from(attempt)).is_some_and(|attempt| attempt.open()) {
                world.breaches.note(Breach::Vanished);
            }
            return;
        }
    }
    for attempt in world.attempts.iter_mut().filter(|attempt| attempt.slot == slot) {
        attempt.excused = true;
    }
}
