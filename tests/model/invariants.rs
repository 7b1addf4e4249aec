//! What must always hold, and what must be reachable so that the former means something.

use stateright::Property;

use crate::machine::Machine;
use crate::owner::records;
use crate::world::{Breach, By, Doing, Entry, Phase, Wire, World};

pub(crate) const ONE_DISPATCH: &str = "I1 at most one dispatch per record and proof";
pub(crate) const CONFIRMED: &str = "I2 a dispatch follows a confirmed claim";
pub(crate) const EDGES: &str = "I4 only the edges of the state diagram occur";
pub(crate) const KEPT: &str = "I5 nothing unresolved vanishes";
pub(crate) const HARMLESS: &str = "I7 a late swap is harmless";
pub(crate) const ONE_TOKEN: &str = "I7 a token names one write";
pub(crate) const UNCHANGED: &str = "I8 a settled outcome never changes";
pub(crate) const TRUE: &str = "I8 a settled outcome is what happened";
pub(crate) const ONE_PERMIT: &str = "I17 two names never lead to two permits";
pub(crate) const ONE_PER_NAME: &str = "I17 a key that became a name leads to nothing else";
pub(crate) const NO_CIRCLE: &str = "I17 pointers never lead in a circle";
pub(crate) const NOT_LEFT: &str = "a claim that is not sent does not stay";

/// All that must hold.
pub(crate) const ALWAYS: [&str; 12] = [
    ONE_DISPATCH,
    CONFIRMED,
    EDGES,
    KEPT,
    HARMLESS,
    ONE_TOKEN,
    UNCHANGED,
    TRUE,
    ONE_PERMIT,
    ONE_PER_NAME,
    NO_CIRCLE,
    NOT_LEFT,
];

pub(crate) const DOUBTED: &str = "an operation is in doubt";
pub(crate) const LOOKED_UP: &str = "a look-up settles";
pub(crate) const RECLAIMED: &str = "a released key is claimed again and sent";
pub(crate) const LATE_WRITE: &str = "a late write takes effect";
pub(crate) const ORPHANED: &str = "a process ends while its request is under way";
pub(crate) const RACED: &str = "two claimants race";
pub(crate) const TAKEN_BACK: &str = "an unconfirmed claim is taken back";
pub(crate) const POINTED: &str = "a pointer leads to an absent record";
pub(crate) const TURNED: &str = "a claim becomes a pointer";
pub(crate) const FURTHER: &str = "a record is claimed again by a further key";
pub(crate) const FREED: &str = "a declined payment frees its business key";
pub(crate) const SUCCEEDED: &str = "a new operation follows a delivered one";

pub(crate) fn all() -> Vec<Property<Machine>> {
    let mut all = safe();
    all.extend(reachable());
    all
}

/// What must hold in every state.
fn safe() -> Vec<Property<Machine>> {
    vec![
        Property::always(ONE_DISPATCH, |_, world: &World| {
            (0..world.attempts.len()).all(|one| {
                (0..one).all(|other| {
                    let (one, other) = (world.attempts[one], world.attempts[other]);
                    one.slot != other.slot || !one.open() || !other.open()
                })
            })
        }),
        Property::always(CONFIRMED, |_, world: &World| !world.breaches.has(Breach::Unconfirmed)),
        Property::always(EDGES, |_, world: &World| !world.breaches.has(Breach::Edge)),
        Property::always(KEPT, |_, world: &World| !world.breaches.has(Breach::Vanished)),
        Property::always(HARMLESS, |_, world: &World| !world.breaches.has(Breach::Resurrected)),
        Property::always(ONE_TOKEN, |_, world: &World| !world.breaches.has(Breach::SharedToken)),
        Property::always(UNCHANGED, |_, world: &World| !world.breaches.has(Breach::Changed)),
        Property::always(TRUE, |_, world: &World| {
            records(world).all(|(_, cell)| is_true(world, cell.entry))
        }),
        Property::always(ONE_PERMIT, |_, world: &World| {
            let unfinished =
                |attempt: &&crate::world::Attempt| attempt.open() && !attempt.delivered;
            world.attempts.iter().filter(unfinished).count() <= 1
        }),
        Property::always(ONE_PER_NAME, |_, world: &World| {
            (0..world.attempts.len()).all(|one| {
                (0..one).all(|other| {
                    let (one, other) = (world.attempts[one], world.attempts[other]);
                    one.all_names() & other.all_names() == 0 || !one.open() || !other.open()
                })
            })
        }),
        Property::always(NO_CIRCLE, |_, world: &World| !world.breaches.has(Breach::Circle)),
        Property::always(NOT_LEFT, |_, world: &World| {
            records(world).all(|(_, cell)| {
                let Entry::Record { attempt, phase: Phase::InFlight } = cell.entry else {
                    return true;
                };
                let owner = world.attempts[usize::from(attempt)];
                let tends =
                    |process: &crate::world::Process| process.doing.attempt() == Some(attempt);
                owner.sent() || owner.excused || world.processes.iter().any(tends)
            })
        }),
    ]
}

/// What some state must show.
fn reachable() -> Vec<Property<Machine>> {
    vec![
        Property::sometimes(DOUBTED, |_, world: &World| {
            phase(world, |phase| matches!(phase, Phase::InDoubt { .. }))
        }),
        Property::sometimes(LOOKED_UP, |_, world: &World| {
            phase(world, |phase| matches!(phase, Phase::Settled { by: By::LookUp, .. }))
        }),
        Property::sometimes(RECLAIMED, |_, world: &World| {
            world.attempts.iter().any(|attempt| attempt.second && attempt.sent())
        }),
        Property::sometimes(LATE_WRITE, |_, world: &World| world.late_write),
        Property::sometimes(ORPHANED, |_, world: &World| {
            world.attempts.iter().any(|attempt| attempt.excused && attempt.wire == Wire::InAir)
                && phase(world, |phase| phase == Phase::InFlight)
        }),
        Property::sometimes(RACED, |_, world: &World| {
            let target = |process: &crate::world::Process| {
                let Doing::Approaching { slot, expected, .. } = process.doing else { return None };
                Some((slot, expected))
            };
            let targets: Vec<_> = world.processes.iter().filter_map(target).collect();
            (1..targets.len()).any(|one| targets[..one].contains(&targets[one]))
        }),
        Property::sometimes(TAKEN_BACK, |_, world: &World| {
            let lost = world.left.lost == 0;
            lost && phase(world, |phase| phase == Phase::Released)
                && world.attempts.iter().all(|attempt| !attempt.sent())
        }),
        Property::sometimes(POINTED, |_, world: &World| {
            world.processes.iter().any(|process| {
                matches!(process.doing, Doing::Found { to, .. } if world.cells[to].is_none())
            })
        }),
        Property::sometimes(TURNED, |_, world: &World| {
            records_and_names(world).any(|cell| matches!(cell.entry, Entry::Pointer { .. }))
        }),
        Property::sometimes(FURTHER, |_, world: &World| {
            world.processes.iter().any(|process| {
                matches!(process.doing, Doing::Naming { name: crate::world::Name::Way { .. }, .. })
            })
        }),
        Property::sometimes(FREED, |_, world: &World| {
            let declined = |attempt: &crate::world::Attempt| attempt.wire == Wire::Declined;
            world.attempts.iter().any(declined)
                && world.attempts.iter().any(|attempt| attempt.wire == Wire::Done)
        }),
        Property::sometimes(SUCCEEDED, |_, world: &World| {
            let sent = world.attempts.iter().filter(|attempt| attempt.open());
            sent.count() > 1
        }),
    ]
}

fn phase(world: &World, is: impl Fn(Phase) -> bool) -> bool {
    records(world).any(|(_, cell)| match cell.entry {
        Entry::Record { phase, .. } => is(phase),
        Entry::Pointer { .. } => false,
    })
}

/// What is stored under callers' own keys.
fn records_and_names(world: &World) -> impl Iterator<Item = crate::world::Cell> {
    world.cells.iter().skip(1).flatten().copied()
}

/// What a settled record says is what became of its attempt, and stays so.
fn is_true(world: &World, entry: Entry) -> bool {
    let Entry::Record { attempt, phase: Phase::Settled { applied, .. } } = entry else {
        return true;
    };
    match world.attempts[usize::from(attempt)].wire {
        Wire::Done => applied,
        Wire::InAir | Wire::Working => false,
        Wire::Unsent | Wire::Lost | Wire::Refused | Wire::Declined => !applied,
    }
}
