//! What a process does with a claim before it may send: makes the names that its caller used lead
//! to the record. The claim comes first, so that whoever finds a pointer finds its record taken.

use crate::machine::{Machine, Trip};
use crate::owner::{enter, own};
use crate::rules::Names;
use crate::store::{self, Told};
use crate::vocabulary::business_is_free;
use crate::world::{AttemptIx, Cell, Doing, Entry, Name, POINTER, Phase, Slot, World};

/// What comes after a confirmed claim, or after its own pointer was written anew.
pub(crate) fn begin(machine: &Machine, world: &World, attempt: AttemptIx) -> Doing {
    let name = match machine.bounds.names {
        Names::Business => Name::Point { expected: None },
        Names::Orphans => match world.cells[POINTER] {
            Some(Cell { token, entry: Entry::Pointer { to }, .. })
                if to != world.attempts[usize::from(attempt)].slot =>
            {
                Name::Look { to, token }
            }
            Some(_) | None => return Doing::Holding { attempt },
        },
        Names::Key | Names::TwoSecrets | Names::Content => return Doing::Holding { attempt },
    };
    Doing::Naming { attempt, name }
}

/// Writes the shared pointer.
pub(crate) fn point(machine: &Machine, world: &mut World, process: usize, trip: Trip) -> bool {
    let Doing::Naming { attempt, name: Name::Point { expected } } = world.processes[process].doing
    else {
        return false;
    };
    let slot = world.attempts[usize::from(attempt)].slot;
    let now = world.cells[POINTER].map(|cell| cell.token);
    let compared = if machine.rules.read_first { expected } else { expected.and(now) };
    let swap = store::swap(machine, world, POINTER, compared, Some(Entry::Pointer { to: slot }));
    let doing = match store::send(machine, world, swap, Some(process), trip) {
        Told::Done => Doing::Holding { attempt },
        Told::Nothing if machine.rules.pointer_confirmed => Doing::TakingBack { attempt },
        Told::Nothing => Doing::Holding { attempt },
        Told::Lost => match world.cells[POINTER] {
            Some(Cell { token, entry: Entry::Pointer { to }, .. }) if to == slot => {
                if machine.rules.rewritten {
                    Doing::Naming { attempt, name: Name::Point { expected: Some(token) } }
                } else {
                    Doing::Holding { attempt }
                }
            }
            Some(Cell { token, entry: Entry::Pointer { to }, .. }) => {
                Doing::Naming { attempt, name: Name::Look { to, token } }
            }
            Some(_) | None => Doing::Naming { attempt, name: Name::Point { expected: None } },
        },
    };
    enter(world, process, doing)
}

/// Writes the pointer under its own key anew, by which it came to the record that it has claimed.
pub(crate) fn retrace(machine: &Machine, world: &mut World, process: usize, trip: Trip) -> bool {
    let Doing::Naming { attempt, name: Name::Way { token } } = world.processes[process].doing
    else {
        return false;
    };
    let to = world.attempts[usize::from(attempt)].slot;
    let swap = store::swap(machine, world, 1 + process, Some(token), Some(Entry::Pointer { to }));
    let doing = match store::send(machine, world, swap, Some(process), trip) {
        Told::Done => begin(machine, world, attempt),
        Told::Lost | Told::Nothing => Doing::TakingBack { attempt },
    };
    enter(world, process, doing)
}

/// Reads the record that the shared pointer led to.
pub(crate) fn look(machine: &Machine, world: &mut World, process: usize) -> bool {
    let Doing::Naming { attempt, name: Name::Look { to, token } } = world.processes[process].doing
    else {
        return false;
    };
    store::saw(world, Some(process));
    let own = world.attempts[usize::from(attempt)].slot;
    let free = Doing::Naming { attempt, name: Name::Point { expected: Some(token) } };
    let doing = match (world.cells[to].map(|cell| cell.entry), machine.bounds.names) {
        (Some(Entry::Pointer { to: next }), _) if next != own => {
            Doing::Naming { attempt, name: Name::Look { to: next, token } }
        }
        (Some(Entry::Record { attempt: theirs, phase }), Names::Orphans) => {
            let left = world.attempts.get(usize::from(theirs)).is_some_and(|theirs| theirs.left);
            let unanswered = match phase {
                Phase::Released | Phase::Settled { delivered: true, .. } => false,
                Phase::InFlight
                | Phase::Accepted
                | Phase::InDoubt { .. }
                | Phase::Settled { delivered: false, .. } => left,
            };
            if unanswered {
                Doing::Naming { attempt, name: Name::Turn { to } }
            } else {
                Doing::Holding { attempt }
            }
        }
        (Some(Entry::Record { phase, .. }), _) if !business_is_free(phase) => {
            if machine.rules.lost_is_retaken {
                Doing::Naming { attempt, name: Name::Turn { to } }
            } else {
                Doing::Idle
            }
        }
        (Some(Entry::Pointer { .. }) | None, Names::Orphans) => Doing::Holding { attempt },
        (Some(Entry::Pointer { .. } | Entry::Record { .. }) | None, _) => free,
    };
    enter(world, process, doing)
}

/// Makes a pointer of the claim. Whatever happens, it is not sent.
pub(crate) fn turn(machine: &Machine, world: &mut World, process: usize, trip: Trip) -> bool {
    let Doing::Naming { attempt, name: Name::Turn { to } } = world.processes[process].doing else {
        return false;
    };
    let Some((token, Phase::InFlight)) = own(world, attempt) else {
        return enter(world, process, Doing::TakingBack { attempt });
    };
    let slot: Slot = world.attempts[usize::from(attempt)].slot;
    let swap = store::swap(machine, world, slot, Some(token), Some(Entry::Pointer { to }));
    let doing = match store::send(machine, world, swap, Some(process), trip) {
        Told::Done => Doing::Idle,
        Told::Lost | Told::Nothing => Doing::TakingBack { attempt },
    };
    enter(world, process, doing)
}
