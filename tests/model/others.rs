//! What happens without an owner: the provider, look-ups, purges, late writes, fail-over, time.

use crate::machine::{Machine, Step, Trip};
use crate::owner::records;
use crate::rules::{Absent, Failover, Names};
use crate::store;
use crate::world::{
    AttemptIx, By, Cell, Doing, Entry, POINTER, Phase, SLOTS, Slot, Swap, Wire, World,
};

/// Lists what may happen next.
pub(crate) fn steps(machine: &Machine, world: &World, steps: &mut Vec<Step>) {
    for (attempt, known) in world.attempts.iter().enumerate() {
        let reached: &[Wire] = match known.wire {
            Wire::InAir if machine.bounds.names == Names::Business => {
                &[Wire::Done, Wire::Declined, Wire::Refused, Wire::Lost]
            }
            Wire::InAir if by_pointer(machine) => &[Wire::Done, Wire::Refused, Wire::Lost],
            Wire::InAir => &[Wire::Working, Wire::Refused, Wire::Lost],
            Wire::Working => &[Wire::Done],
            Wire::Unsent | Wire::Lost | Wire::Refused | Wire::Done | Wire::Declined => &[],
        };
        let reach = |wire: &Wire| Step::Reach(attempt as AttemptIx, *wire);
        steps.extend(reached.iter().map(reach));
    }
    steps.extend((0..world.air.len()).map(Step::Apply));
    if world.left.weeks > 0 {
        steps.push(Step::WeeksPass);
    }
    if world.replica.is_some() {
        steps.extend([Step::Replicate, Step::FailOver]);
    }
    if store::answers(machine, world, None) {
        for (slot, cell) in records(world) {
            record_steps(machine, world, slot, cell, steps);
        }
        steps.extend((0..SLOTS).map(Step::PurgePointer));
        if machine.bounds.names == Names::Orphans {
            steps.push(Step::Leave);
        }
    }
}

/// With pointers the provider never says "accepted", to keep the number of worlds in hand.
fn by_pointer(machine: &Machine) -> bool {
    match machine.bounds.names {
        Names::Key | Names::TwoSecrets => false,
        Names::Content | Names::Business | Names::Orphans => true,
    }
}

fn record_steps(machine: &Machine, world: &World, slot: Slot, cell: Cell, steps: &mut Vec<Step>) {
    let Entry::Record { phase, .. } = cell.entry else { return };
    let trips = |step: fn(Slot, Trip) -> Step| {
        Trip::possible(world, false).map(move |trip| step(slot, trip))
    };
    match phase {
        Phase::InFlight => {
            steps.extend(trips(Step::Doubt));
            steps.extend(trips(Step::LookUp));
        }
        Phase::InDoubt { .. } => steps.extend(trips(Step::LookUp)),
        Phase::Accepted => {
            steps.extend(trips(Step::LookUp));
            steps.extend(trips(Step::LoseTrack));
        }
        Phase::Released => steps.push(Step::Purge(slot)),
        Phase::Settled { delivered, .. } => {
            if by_pointer(machine) && !delivered {
                steps.push(Step::Deliver(slot));
            }
            if cell.old {
                steps.push(Step::Purge(slot));
            }
        }
    }
}

/// Performs a step that needs no owner. `false`: it is none, or changes nothing.
pub(crate) fn take(machine: &Machine, world: &mut World, step: Step) -> bool {
    match step {
        Step::Reach(attempt, wire) => {
            world.attempts[usize::from(attempt)].wire = wire;
            true
        }
        Step::Doubt(slot, trip) => {
            rewrite(machine, world, slot, Phase::InDoubt { closed: false }, trip)
        }
        Step::LoseTrack(slot, trip) => {
            rewrite(machine, world, slot, Phase::InDoubt { closed: false }, trip)
        }
        Step::LookUp(slot, trip) => look_up(machine, world, slot, trip),
        Step::Deliver(slot) => deliver(machine, world, slot),
        Step::Purge(slot) => purge(machine, world, slot),
        Step::PurgePointer(slot) => purge_pointer(machine, world, slot),
        Step::Leave => leave(world),
        Step::Apply(index) => {
            let swap = world.air.remove(index);
            let before = world.cells;
            store::apply(machine, world, swap);
            world.late_write = world.cells != before;
            true
        }
        Step::Replicate => {
            store::replicate(world);
            true
        }
        Step::FailOver => fail_over(machine, world),
        Step::WeeksPass => weeks_pass(world),
        Step::Arrive(..)
        | Step::Inspect(..)
        | Step::Point(..)
        | Step::Retrace(..)
        | Step::Turn(..)
        | Step::Claim(..)
        | Step::Reread(..)
        | Step::GiveUp(..)
        | Step::TakeBack(..)
        | Step::Renew(..)
        | Step::Dispatch(..)
        | Step::Hear(..)
        | Step::Record(..)
        | Step::Crash(..) => false,
    }
}

/// Puts the record that is there now into another phase.
fn rewrite(machine: &Machine, world: &mut World, slot: Slot, phase: Phase, trip: Trip) -> bool {
    let Some(Cell { token, entry: Entry::Record { attempt, .. }, .. }) = world.cells[slot] else {
        return false;
    };
    let leave = Some(Entry::Record { attempt, phase });
    let swap = store::swap(machine, world, slot, Some(token), leave);
    store::send(machine, world, swap, None, trip);
    true
}

fn look_up(machine: &Machine, world: &mut World, slot: Slot, trip: Trip) -> bool {
    let Some(Cell { entry: Entry::Record { attempt, phase }, .. }) = world.cells[slot] else {
        return false;
    };
    let asked = &mut world.attempts[usize::from(attempt)];
    let settled = |applied| Phase::Settled { applied, by: By::LookUp, delivered: false };
    let into = match (asked.wire, phase) {
        (Wire::Done, _) => settled(true),
        (Wire::Declined, _) => {
            asked.proven = true;
            settled(false)
        }
        (Wire::Working, Phase::InFlight | Phase::InDoubt { .. }) => Phase::Accepted,
        // Policies wait until what was sent has arrived or never will; so `InAir` is not here.
        (Wire::Unsent | Wire::Lost | Wire::Refused, Phase::InDoubt { closed })
            if closed || !machine.rules.mark_needed =>
        {
            match machine.bounds.absent {
                Absent::Hold => return false,
                Absent::Fail => settled(false),
                Absent::Reopen => {
                    asked.proven = asked.sent();
                    Phase::Released
                }
            }
        }
        (Wire::Working | Wire::InAir | Wire::Unsent | Wire::Lost | Wire::Refused, _) => {
            return false;
        }
    };
    rewrite(machine, world, slot, into, trip)
}

fn deliver(machine: &Machine, world: &mut World, slot: Slot) -> bool {
    let Some(Cell {
        entry: Entry::Record { attempt, phase: Phase::Settled { applied, by, .. } },
        ..
    }) = world.cells[slot]
    else {
        return false;
    };
    world.attempts[usize::from(attempt)].delivered = true;
    let told = Phase::Settled { applied, by, delivered: true };
    rewrite(machine, world, slot, told, Trip::Told)
}

fn purge(machine: &Machine, world: &mut World, slot: Slot) -> bool {
    let expected = world.cells[slot].map(|cell| cell.token);
    let swap = store::swap(machine, world, slot, expected, None);
    store::send(machine, world, swap, None, Trip::Told);
    true
}

/// Decides on what is there now; the purge itself is on its way for as long as it likes.
fn purge_pointer(machine: &Machine, world: &mut World, slot: Slot) -> bool {
    let Some(Cell { token, entry: Entry::Pointer { to }, old }) = world.cells[slot] else {
        return false;
    };
    let decided = |swap: &Swap| swap.slot == slot && swap.leave.is_none();
    let due = old || !machine.rules.purge_waits;
    let gone = world.cells[to].is_none() && due;
    let deleted = slot != POINTER && !machine.rules.names_kept;
    if !(gone || deleted) || world.air.iter().any(decided) {
        return false;
    }
    let swap = store::swap(machine, world, slot, Some(token), None);
    world.air.push(swap);
    true
}

/// Notes on the record, and under its content, that the first try's caller was left unanswered. The
/// note is made once its claim is through: before that, nobody knows of which operation.
fn leave(world: &mut World) -> bool {
    let Some(Cell { entry: Entry::Record { attempt, phase }, .. }) = world.cells[1] else {
        return false;
    };
    let claims = |process: &crate::world::Process| match process.doing {
        Doing::Unconfirmed { .. } | Doing::Naming { .. } | Doing::TakingBack { .. } => {
            process.doing.attempt() == Some(attempt)
        }
        Doing::Idle
        | Doing::Found { .. }
        | Doing::Pointing { .. }
        | Doing::Approaching { .. }
        | Doing::Holding { .. }
        | Doing::Sent { .. }
        | Doing::Recording { .. } => false,
    };
    let told = matches!(phase, Phase::Released | Phase::Settled { delivered: true, .. });
    if told || world.cells[POINTER].is_some() || world.processes.iter().any(claims) {
        return false;
    }
    let Some(left) = world.attempts.get_mut(usize::from(attempt)) else { return false };
    left.left = true;
    let token = world.fresh_token();
    world.cells[POINTER] = Some(Cell { token, entry: Entry::Pointer { to: 1 }, old: false });
    true
}

fn fail_over(machine: &Machine, world: &mut World) -> bool {
    let all_saw = world.processes.iter().all(|process| process.beyond == world.count);
    if machine.bounds.failover == Failover::ForgetsWhatAllSaw && !all_saw {
        return false;
    }
    let Some(replica) = world.replica.take() else { return false };
    world.cells = replica;
    world.count = 0;
    world.failed_over = true;
    for attempt in &mut world.attempts {
        attempt.excused = true;
    }
    true
}

fn weeks_pass(world: &mut World) -> bool {
    world.left.weeks -= 1;
    for cell in world.cells.iter_mut().chain(world.replica.iter_mut().flatten()).flatten() {
        cell.old = true;
    }
    for process in &mut world.processes {
        match &mut process.doing {
            Doing::Found { late, .. }
            | Doing::Pointing { late, .. }
            | Doing::Approaching { late, .. }
            | Doing::Unconfirmed { late, .. } => *late = true,
            Doing::Idle
            | Doing::Naming { .. }
            | Doing::Holding { .. }
            | Doing::TakingBack { .. }
            | Doing::Sent { .. }
            | Doing::Recording { .. } => {}
        }
    }
    true
}
