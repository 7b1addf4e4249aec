//! The state machine: which steps are possible, and what each does to the world.
//!
//! Read [`Step`] first: it is the list of everything that can happen. `store.rs` says what a swap
//! does, `owner.rs` what a request's process does, `others.rs` what everybody else may do.

use stateright::{Model, Property};

use crate::invariants;
use crate::others;
use crate::owner;
use crate::rules::{Bounds, Failover, Rules};
use crate::world::{AttemptIx, Breaches, Doing, Process, Slot, World};

/// One design within bounds, and the properties that are asked of it.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) rules: Rules,
    pub(crate) bounds: Bounds,
    pub(crate) asked: Vec<&'static str>,
}

/// How a write fares on its way to the store and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trip {
    /// Applied (or lost against another), and its writer is told.
    Told,
    /// Its writer hears nothing; it may be applied at any later time.
    Late,
    /// Applied (or lost); its writer hears nothing.
    ReplyLost,
    /// Applied, its writer is told; it may be applied again at any later time.
    Doubled,
}

/// Everything that can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A request comes, and its process reads the record, or the pointer.
    Arrive(usize),
    /// Reads the record that a pointer led to.
    Inspect(usize),
    Point(usize, Trip),
    /// Writes the pointer under its own key anew.
    Retrace(usize, Trip),
    /// Makes a pointer of an unsent claim.
    Turn(usize, Trip),
    Claim(usize, Trip),
    /// An owner without confirmation reads again.
    Reread(usize),
    /// An owner decides not to send.
    GiveUp(usize),
    TakeBack(usize, Trip),
    Renew(usize, Trip),
    /// The first byte is offered to the connection.
    Dispatch(usize),
    /// The provider's answer, or the end of all hope for one.
    Hear(usize, crate::world::Seen),
    Record(usize, Trip),
    Crash(usize),
    /// A request reaches the provider, which takes it up, refuses it, or never gets it.
    Reach(AttemptIx, crate::world::Wire),
    /// A silent owner's operation is put in doubt.
    Doubt(Slot, Trip),
    /// A look-up, told the truth as of now.
    LookUp(Slot, Trip),
    /// A look-up of an accepted operation that finds nothing it understands.
    LoseTrack(Slot, Trip),
    /// A settled answer was written whole to its caller.
    Deliver(Slot),
    Purge(Slot),
    /// The purge of a pointer to an absent record is decided; it happens later.
    PurgePointer(Slot),
    /// The caller of the first try is told nothing that ends its operation.
    Leave,
    /// A write that was on its way is applied.
    Apply(usize),
    /// The replica catches up.
    Replicate,
    /// The replica takes the store's place.
    FailOver,
    /// A time longer than `remember` passes.
    WeeksPass,
}

impl Model for Machine {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let process = Process { doing: Doing::Idle, beyond: 0 };
        vec![World {
            cells: Default::default(),
            air: Vec::new(),
            processes: vec![process; self.bounds.processes],
            attempts: Vec::new(),
            replica: (self.bounds.failover != Failover::Never).then(Default::default),
            count: 0,
            failed_over: false,
            left: self.bounds.faults,
            breaches: Breaches::default(),
            late_write: false,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        for process in 0..world.processes.len() {
            owner::steps(self, world, process, steps);
        }
        others::steps(self, world, steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        next.late_write = false;
        let changed = owner::take(self, &mut next, step) || others::take(self, &mut next, step);
        changed.then(|| next.canonical(self.prunes()))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let all = invariants::all();
        all.into_iter().filter(|property| self.asked.contains(&property.name)).collect()
    }
}

impl Machine {
    /// Whether tokens are unique, so that they may be renamed and dead swaps forgotten.
    fn prunes(&self) -> bool {
        self.rules.tokens == crate::rules::Tokens::Unique && self.rules.fenced
    }
}

impl Trip {
    /// The trips that are still possible, for a writer that waits for an answer or for one that
    /// does not.
    pub(crate) fn possible(world: &World, waits: bool) -> impl Iterator<Item = Self> + use<> {
        let left = world.left;
        [
            (Self::Told, true),
            (Self::Late, left.late > 0),
            (Self::ReplyLost, waits && left.lost > 0),
            (Self::Doubled, left.doubled > 0),
        ]
        .into_iter()
        .filter_map(|(trip, possible)| possible.then_some(trip))
    }
}
