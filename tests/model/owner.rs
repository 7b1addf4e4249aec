//! What a process does with its request: find the record, claim it, send, record what came of it.

use semel::protocol::claim::Decision;

use crate::machine::{Machine, Step, Trip};
use crate::names;
use crate::rules::{Names, Refreshed};
use crate::store::{self, Told};
use crate::vocabulary::{content_is_free, decide};
use crate::world::{
    Attempt, AttemptIx, Breach, By, Cell, Doing, Entry, Name, POINTER, Phase, Seen, Slot, Wire,
    World,
};

/// Lists what this process may do next. Doing nothing, for as long as it likes, is always possible.
pub(crate) fn steps(machine: &Machine, world: &World, process: usize, steps: &mut Vec<Step>) {
    let doing = world.processes[process].doing;
    if doing != Doing::Idle && world.left.crashes > 0 {
        steps.push(Step::Crash(process));
    }
    let trips = |step: fn(usize, Trip) -> Step, waits| {
        Trip::possible(world, waits).map(move |trip| step(process, trip))
    };
    match doing {
        Doing::Sent { attempt } => {
            hearable(world.attempts[usize::from(attempt)].wire)
                .for_each(|seen| steps.push(Step::Hear(process, seen)));
        }
        Doing::Holding { .. } => steps.extend([Step::Dispatch(process), Step::GiveUp(process)]),
        Doing::Unconfirmed { .. } if !machine.rules.confirmed_only => {
            steps.push(Step::Dispatch(process));
        }
        Doing::TakingBack { attempt } if !machine.rules.take_back_spends => {
            if own(world, attempt).is_some_and(|(_, phase)| phase == Phase::InFlight) {
                steps.push(Step::Dispatch(process));
            }
        }
        Doing::Idle
        | Doing::Found { .. }
        | Doing::Pointing { .. }
        | Doing::Approaching { .. }
        | Doing::Naming { .. }
        | Doing::Unconfirmed { .. }
        | Doing::TakingBack { .. }
        | Doing::Recording { .. } => {}
    }
    if !store::answers(machine, world, Some(process)) {
        return;
    }
    match doing {
        Doing::Idle => steps.push(Step::Arrive(process)),
        Doing::Found { .. } => steps.push(Step::Inspect(process)),
        Doing::Pointing { .. } => steps.extend(trips(Step::Point, true)),
        Doing::Approaching { .. } => steps.extend(trips(Step::Claim, true)),
        Doing::Unconfirmed { .. } => steps.extend([Step::Reread(process), Step::GiveUp(process)]),
        Doing::Naming { name, .. } => match name {
            Name::Way { .. } => steps.extend(trips(Step::Retrace, true)),
            Name::Point { .. } => steps.extend(trips(Step::Point, true)),
            Name::Look { .. } => steps.push(Step::Inspect(process)),
            Name::Turn { .. } => steps.extend(trips(Step::Turn, true)),
        },
        Doing::TakingBack { .. } => steps.extend(trips(Step::TakeBack, true)),
        Doing::Holding { .. } | Doing::Sent { .. } => steps.extend(trips(Step::Renew, false)),
        Doing::Recording { .. } => steps.extend(trips(Step::Record, true)),
    }
}

/// What an owner may see of a request that is here. Silence is always possible.
fn hearable(wire: Wire) -> impl Iterator<Item = Seen> {
    let proof = match wire {
        Wire::Done => Some(Seen::Final),
        Wire::Working => Some(Seen::Accepted),
        Wire::Declined => Some(Seen::Declined),
        Wire::Refused => Some(Seen::NotApplied),
        Wire::Unsent | Wire::InAir | Wire::Lost => None,
    };
    proof.into_iter().chain([Seen::Nothing])
}

/// Performs a step of an owner. `false`: it is none, or changes nothing.
pub(crate) fn take(machine: &Machine, world: &mut World, step: Step) -> bool {
    match step {
        Step::Arrive(process) => arrive(machine, world, process),
        Step::Inspect(process) => {
            inspect(machine, world, process) || names::look(machine, world, process)
        }
        Step::Point(process, trip) => {
            point(machine, world, process, trip) || names::point(machine, world, process, trip)
        }
        Step::Retrace(process, trip) => names::retrace(machine, world, process, trip),
        Step::Turn(process, trip) => names::turn(machine, world, process, trip),
        Step::Claim(process, trip) => claim(machine, world, process, trip),
        Step::Reread(process) => reread(machine, world, process),
        Step::GiveUp(process) => give_up(world, process),
        Step::TakeBack(process, trip) => take_back(machine, world, process, trip),
        Step::Renew(process, trip) => renew(machine, world, process, trip),
        Step::Dispatch(process) => dispatch(world, process),
        Step::Hear(process, seen) => hear(world, process, seen),
        Step::Record(process, trip) => record(machine, world, process, trip),
        Step::Crash(process) => crash(world, process),
        Step::Reach(..)
        | Step::Doubt(..)
        | Step::LookUp(..)
        | Step::LoseTrack(..)
        | Step::Deliver(..)
        | Step::Purge(..)
        | Step::PurgePointer(..)
        | Step::Leave
        | Step::Apply(..)
        | Step::Replicate
        | Step::FailOver
        | Step::WeeksPass => false,
    }
}

fn arrive(machine: &Machine, world: &mut World, process: usize) -> bool {
    let own = match machine.bounds.names {
        Names::Key => 1,
        Names::TwoSecrets if process > 0 && machine.rules.secret_checked => return false,
        Names::TwoSecrets | Names::Business => 1 + process,
        // A try under another key comes when the one before has heard nothing that ends it; nobody
        // goes back to the first key.
        Names::Orphans if process == 0 && !untouched(world) => return false,
        Names::Orphans if process > 0 && !heard_nothing(machine, world) => return false,
        Names::Orphans => 1 + process,
        Names::Content => POINTER,
    };
    store::saw(world, Some(process));
    let doing = match machine.bounds.names {
        Names::Key | Names::TwoSecrets => match claimable(machine, world.cells[own]) {
            Some(expected) => Doing::Approaching { slot: own, expected, late: false, way: None },
            None => Doing::Idle,
        },
        Names::Business | Names::Orphans => match world.cells[own] {
            // One more name of another operation.
            Some(Cell { token, entry: Entry::Pointer { to }, old }) => {
                Doing::Found { to, pointer: token, old, late: false }
            }
            cell => match claimable(machine, cell) {
                Some(expected) => {
                    Doing::Approaching { slot: own, expected, late: false, way: None }
                }
                None => Doing::Idle,
            },
        },
        Names::Content => match world.cells[POINTER] {
            Some(Cell { token, entry: Entry::Pointer { to }, old }) => {
                Doing::Found { to, pointer: token, old, late: false }
            }
            _ => pointing(world, None),
        },
    };
    enter(world, process, doing)
}

fn untouched(world: &World) -> bool {
    let idle = |process: &crate::world::Process| process.doing == Doing::Idle;
    world.attempts.is_empty()
        && world.cells.iter().all(Option::is_none)
        && world.processes.iter().all(idle)
}

/// Whether the first try's caller was told nothing that ends its operation.
fn heard_nothing(machine: &Machine, world: &World) -> bool {
    let told = |attempt: &Attempt| {
        attempt.left || (!machine.rules.noted_first && attempt.sent() && attempt.slot == 1)
    };
    world.attempts.iter().any(told)
}

/// Starts a new operation behind the pointer, if there is room in the model.
fn pointing(world: &World, expected: Option<u8>) -> Doing {
    world.fresh_slot().map_or(Doing::Idle, |to| Doing::Pointing { to, expected, late: false })
}

/// The write that a claim would replace; `None`: it must not be claimed.
fn claimable(machine: &Machine, cell: Option<Cell>) -> Option<Option<u8>> {
    let Some(Cell { token, entry: Entry::Record { phase, .. }, .. }) = cell else {
        return Some(None);
    };
    let free = match decide(phase, true) {
        Decision::Claim => true,
        Decision::Overdue => !machine.rules.never_stolen,
        Decision::Follow
        | Decision::Doubt
        | Decision::Accepted
        | Decision::Replay
        | Decision::NotKept
        | Decision::Mismatch
        | Decision::Unverifiable => false,
    };
    free.then_some(Some(token))
}

fn inspect(machine: &Machine, world: &mut World, process: usize) -> bool {
    let Doing::Found { to, pointer, old, late } = world.processes[process].doing else {
        return false;
    };
    store::saw(world, Some(process));
    let content = machine.bounds.names == Names::Content;
    let doing = match (claimable(machine, world.cells[to]), world.cells[to]) {
        (_, Some(Cell { entry: Entry::Pointer { to }, .. })) => {
            Doing::Found { to, pointer, old, late }
        }
        (Some(expected), _) if !content => {
            Doing::Approaching { slot: to, expected, late, way: Some(pointer) }
        }
        (Some(_), _) if refreshes(machine, old || late) => {
            Doing::Pointing { to, expected: Some(pointer), late: false }
        }
        (Some(expected), _) => Doing::Approaching { slot: to, expected, late, way: None },
        (None, Some(Cell { entry: Entry::Record { phase, .. }, .. }))
            if content && replaceable(machine, phase) =>
        {
            pointing(world, Some(pointer))
        }
        (None, _) => Doing::Idle,
    };
    enter(world, process, doing)
}

fn refreshes(machine: &Machine, old: bool) -> bool {
    match machine.rules.refreshed {
        Refreshed::Always => true,
        Refreshed::WhenOld => old,
        Refreshed::Never => false,
    }
}

fn replaceable(machine: &Machine, phase: Phase) -> bool {
    let settled = matches!(phase, Phase::Settled { .. });
    content_is_free(phase) || (settled && !machine.rules.delivered_first)
}

fn point(machine: &Machine, world: &mut World, process: usize, trip: Trip) -> bool {
    let Doing::Pointing { to, expected, late } = world.processes[process].doing else {
        return false;
    };
    let swap = store::swap(machine, world, POINTER, expected, Some(Entry::Pointer { to }));
    let doing = match store::send(machine, world, swap, Some(process), trip) {
        Told::Done => Doing::Approaching { slot: to, expected: None, late, way: None },
        // A pointer permits nothing, so it is simply looked for again.
        Told::Lost | Told::Nothing => Doing::Idle,
    };
    enter(world, process, doing)
}

fn claim(machine: &Machine, world: &mut World, process: usize, trip: Trip) -> bool {
    let Doing::Approaching { slot, expected, late, way } = world.processes[process].doing else {
        return false;
    };
    let attempt = world.attempts.len() as AttemptIx;
    world.attempts.push(Attempt {
        slot,
        wire: Wire::Unsent,
        second: expected.is_some(),
        proven: false,
        delivered: false,
        forgotten: false,
        excused: false,
        names: 0,
        left: false,
    });
    enter(world, process, Doing::Unconfirmed { attempt, late, way });
    let entry = Entry::Record { attempt, phase: Phase::InFlight };
    let swap = store::swap(machine, world, slot, expected, Some(entry));
    match store::send(machine, world, swap, Some(process), trip) {
        Told::Done => {
            store::confirm(machine, world);
            confirmed(machine, world, process, (attempt, late, way))
        }
        // The swap that lost has fetched what is there.
        Told::Lost => {
            let doing = match claimable(machine, world.cells[slot]) {
                _ if matches!(entry_of(world, slot), Some(Entry::Pointer { .. })) => Doing::Idle,
                Some(expected) => Doing::Approaching { slot, expected, late, way },
                None => Doing::Idle,
            };
            enter(world, process, doing)
        }
        Told::Nothing if !machine.rules.record_permits => {
            let doing = names::begin(machine, world, attempt);
            enter(world, process, doing)
        }
        Told::Nothing => true,
    }
}

fn entry_of(world: &World, slot: Slot) -> Option<Entry> {
    world.cells[slot].map(|cell| cell.entry)
}

fn confirmed(
    machine: &Machine,
    world: &mut World,
    process: usize,
    (attempt, late, way): (AttemptIx, bool, Option<u8>),
) -> bool {
    let too_late = late && machine.bounds.names == Names::Content && machine.rules.hour;
    let doing = match way {
        _ if too_late => Doing::TakingBack { attempt },
        Some(token) => Doing::Naming { attempt, name: Name::Way { token } },
        None => names::begin(machine, world, attempt),
    };
    enter(world, process, doing)
}

fn reread(machine: &Machine, world: &mut World, process: usize) -> bool {
    let Doing::Unconfirmed { attempt, late, way } = world.processes[process].doing else {
        return false;
    };
    store::saw(world, Some(process));
    if own(world, attempt).is_none() {
        return enter(world, process, Doing::TakingBack { attempt });
    }
    if machine.rules.reread_replicated {
        store::confirm(machine, world);
    }
    confirmed(machine, world, process, (attempt, late, way))
}

fn give_up(world: &mut World, process: usize) -> bool {
    match world.processes[process].doing {
        Doing::Unconfirmed { attempt, .. } | Doing::Holding { attempt } => {
            enter(world, process, Doing::TakingBack { attempt })
        }
        Doing::Idle
        | Doing::Found { .. }
        | Doing::Pointing { .. }
        | Doing::Approaching { .. }
        | Doing::Naming { .. }
        | Doing::TakingBack { .. }
        | Doing::Sent { .. }
        | Doing::Recording { .. } => false,
    }
}

/// The owner's record, if it is in place: its token and phase.
pub(crate) fn own(world: &World, attempt: AttemptIx) -> Option<(u8, Phase)> {
    let slot = world.attempts[usize::from(attempt)].slot;
    match world.cells[slot] {
        Some(Cell { token, entry: Entry::Record { attempt: theirs, phase }, .. })
            if theirs == attempt =>
        {
            Some((token, phase))
        }
        Some(_) | None => None,
    }
}

fn take_back(machine: &Machine, world: &mut World, process: usize, trip: Trip) -> bool {
    let Doing::TakingBack { attempt } = world.processes[process].doing else { return false };
    let slot = world.attempts[usize::from(attempt)].slot;
    let expected = match own(world, attempt) {
        Some((token, Phase::InFlight | Phase::InDoubt { .. })) => Some(token),
        Some((_, Phase::Released | Phase::Accepted | Phase::Settled { .. })) => {
            return enter(world, process, Doing::Idle);
        }
        // With deletion, "nothing there" is what was wanted.
        None if !machine.rules.released_is_written => return enter(world, process, Doing::Idle),
        None => match world.cells[slot] {
            // The claim may still come: the door is closed before it.
            None => None,
            Some(Cell { token, entry: Entry::Record { phase: Phase::Released, .. }, .. }) => {
                Some(token)
            }
            // Another claim is there: ours has lost.
            Some(_) => return enter(world, process, Doing::Idle),
        },
    };
    free(machine, world, process, attempt, expected, trip)
}

/// Frees the key, and is done once told so.
fn free(
    machine: &Machine,
    world: &mut World,
    process: usize,
    attempt: AttemptIx,
    expected: Option<u8>,
    trip: Trip,
) -> bool {
    let released = Entry::Record { attempt, phase: Phase::Released };
    let leave = machine.rules.released_is_written.then_some(released);
    write(machine, world, process, attempt, expected, leave, trip)
}

/// Writes what an owner has to say, and is done once told so.
fn write(
    machine: &Machine,
    world: &mut World,
    process: usize,
    attempt: AttemptIx,
    expected: Option<u8>,
    leave: Option<Entry>,
    trip: Trip,
) -> bool {
    let slot = world.attempts[usize::from(attempt)].slot;
    let mut swap = store::swap(machine, world, slot, expected, leave);
    swap.fenced = machine.rules.fenced;
    match store::send(machine, world, swap, Some(process), trip) {
        Told::Done => enter(world, process, Doing::Idle),
        Told::Lost | Told::Nothing => true,
    }
}

fn renew(machine: &Machine, world: &mut World, process: usize, trip: Trip) -> bool {
    let Some(attempt) = world.processes[process].doing.attempt() else { return false };
    let Some((token, Phase::InFlight)) = own(world, attempt) else { return false };
    let slot = world.attempts[usize::from(attempt)].slot;
    let entry = Entry::Record { attempt, phase: Phase::InFlight };
    let mut swap = store::swap(machine, world, slot, Some(token), Some(entry));
    swap.fenced = machine.rules.fenced;
    store::send(machine, world, swap, Some(process), trip);
    true
}

fn dispatch(world: &mut World, process: usize) -> bool {
    let doing = world.processes[process].doing;
    let Some(attempt) = doing.attempt() else { return false };
    if matches!(doing, Doing::Unconfirmed { .. }) {
        world.breaches.note(Breach::Unconfirmed);
    }
    world.attempts[usize::from(attempt)].wire = Wire::InAir;
    enter(world, process, Doing::Sent { attempt })
}

fn hear(world: &mut World, process: usize, seen: Seen) -> bool {
    let Some(attempt) = world.processes[process].doing.attempt() else { return false };
    if matches!(seen, Seen::NotApplied | Seen::Declined) {
        world.attempts[usize::from(attempt)].proven = true;
    }
    enter(world, process, Doing::Recording { attempt, seen })
}

fn record(machine: &Machine, world: &mut World, process: usize, trip: Trip) -> bool {
    let Doing::Recording { attempt, seen } = world.processes[process].doing else { return false };
    let Some((token, phase)) = own(world, attempt) else {
        return enter(world, process, Doing::Idle);
    };
    let unknown = matches!(phase, Phase::InFlight | Phase::InDoubt { .. });
    let into = match seen {
        Seen::Final if unknown || phase == Phase::Accepted => {
            Phase::Settled { applied: true, by: By::Answer, delivered: false }
        }
        Seen::Declined if unknown || phase == Phase::Accepted => {
            Phase::Settled { applied: false, by: By::Answer, delivered: false }
        }
        Seen::NotApplied if unknown => {
            return free(machine, world, process, attempt, Some(token), trip);
        }
        Seen::Accepted if unknown => Phase::Accepted,
        Seen::Nothing if unknown && phase != (Phase::InDoubt { closed: true }) => {
            Phase::InDoubt { closed: true }
        }
        // It is on record already, or something that says more.
        Seen::Final | Seen::Declined | Seen::NotApplied | Seen::Accepted | Seen::Nothing => {
            return enter(world, process, Doing::Idle);
        }
    };
    let leave = Some(Entry::Record { attempt, phase: into });
    write(machine, world, process, attempt, Some(token), leave, trip)
}

/// The process ends, with whatever permit it had, and starts again.
fn crash(world: &mut World, process: usize) -> bool {
    world.left.crashes -= 1;
    if let Some(attempt) = world.processes[process].doing.attempt() {
        world.attempts[usize::from(attempt)].excused = true;
    }
    world.processes[process].beyond = 0;
    enter(world, process, Doing::Idle)
}

pub(crate) fn enter(world: &mut World, process: usize, doing: Doing) -> bool {
    world.processes[process].doing = doing;
    true
}

/// The slots in use beside the shared pointer's.
pub(crate) fn records(world: &World) -> impl Iterator<Item = (Slot, Cell)> {
    let cells = world.cells.iter().enumerate();
    cells.filter_map(|(slot, cell)| Some((slot, (*cell)?))).filter(|&(slot, _)| slot != POINTER)
}
