//! What the model consists of: a store, processes, attempts at the provider, writes in the air.
//!
//! Tokens and attempts are numbers that only ever get compared, so [`World::canonical`] renames
//! them in the order in which they appear and forgets those that nobody can meet again. That keeps
//! the number of worlds finite although claims, look-ups and renewals are not bounded.

use crate::rules::Faults;

/// Where something is stored: slot 0 is the pointer that callers share, the others are records (or
/// pointers, where a record's key is one more name of another operation).
pub(crate) type Slot = usize;
/// Names one write.
pub(crate) type Token = u8;
/// Names one claim.
pub(crate) type AttemptIx = u8;

pub(crate) const POINTER: Slot = 0;
pub(crate) const SLOTS: usize = 4;
/// How many records that a pointer leads to may exist at once.
const FRESH_MAX: usize = 2;
/// The attempt of a released record that nobody tends any more.
pub(crate) const NOBODY: AttemptIx = AttemptIx::MAX;

/// What the store holds.
pub(crate) type Cells = [Option<Cell>; SLOTS];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) token: Token,
    pub(crate) entry: Entry,
    /// Written longer than `remember` ago.
    pub(crate) old: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Entry {
    Record { attempt: AttemptIx, phase: Phase },
    Pointer { to: Slot },
}

/// The states of `semel::protocol::record::State`, without what the protocol does not branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Phase {
    InFlight,
    Accepted,
    InDoubt { closed: bool },
    Settled { applied: bool, by: By, delivered: bool },
    Released,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum By {
    Answer,
    LookUp,
}

/// One compare-and-swap, under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Swap {
    pub(crate) slot: Slot,
    pub(crate) expected: Option<Token>,
    pub(crate) token: Token,
    /// What to leave; `None`: nothing.
    pub(crate) leave: Option<Entry>,
    pub(crate) fenced: bool,
    /// How many writes beyond the replica's its process had seen.
    pub(crate) beyond: u8,
}

/// One process and the request that it works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) doing: Doing,
    /// How many writes beyond the replica's it has seen.
    pub(crate) beyond: u8,
}

/// How far a request has come. A process may stay in any of these for as long as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Doing {
    Idle,
    /// Read a pointer; has not read the record yet.
    Found {
        to: Slot,
        pointer: Token,
        old: bool,
        late: bool,
    },
    /// Is about to write a pointer.
    Pointing {
        to: Slot,
        expected: Option<Token>,
        late: bool,
    },
    /// Read the slot and may claim it.
    Approaching {
        slot: Slot,
        expected: Option<Token>,
        late: bool,
        /// The pointer under its own key by which it came here.
        way: Option<Token>,
    },
    /// Asked for a claim and does not know whether it has it.
    Unconfirmed {
        attempt: AttemptIx,
        late: bool,
        way: Option<Token>,
    },
    /// Has a claim, which permits nothing before its names lead to it.
    Naming {
        attempt: AttemptIx,
        name: Name,
    },
    /// Has the right to send, unspent.
    Holding {
        attempt: AttemptIx,
    },
    /// Does not send, and says so on the record until that is confirmed.
    TakingBack {
        attempt: AttemptIx,
    },
    /// Has sent and waits for the answer.
    Sent {
        attempt: AttemptIx,
    },
    /// Records what it saw until that is confirmed.
    Recording {
        attempt: AttemptIx,
        seen: Seen,
    },
}

/// What a claim that was made first, and named afterwards, does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    /// Writes the pointer under its own key anew, by which it came to this record.
    Way { token: Token },
    /// Writes the shared pointer.
    Point { expected: Option<Token> },
    /// Reads the record that the shared pointer led to.
    Look { to: Slot, token: Token },
    /// Becomes a pointer to that record, and is none any more.
    Turn { to: Slot },
}

impl Doing {
    pub(crate) const fn attempt(self) -> Option<AttemptIx> {
        match self {
            Self::Idle | Self::Found { .. } | Self::Pointing { .. } | Self::Approaching { .. } => {
                None
            }
            Self::Unconfirmed { attempt, .. }
            | Self::Naming { attempt, .. }
            | Self::Holding { attempt }
            | Self::TakingBack { attempt }
            | Self::Sent { attempt }
            | Self::Recording { attempt, .. } => Some(attempt),
        }
    }

    fn attempt_mut(&mut self) -> Option<&mut AttemptIx> {
        match self {
            Self::Idle | Self::Found { .. } | Self::Pointing { .. } | Self::Approaching { .. } => {
                None
            }
            Self::Unconfirmed { attempt, .. }
            | Self::Naming { attempt, .. }
            | Self::Holding { attempt }
            | Self::TakingBack { attempt }
            | Self::Sent { attempt }
            | Self::Recording { attempt, .. } => Some(attempt),
        }
    }

    fn tokens_mut(&mut self) -> impl Iterator<Item = &mut Token> {
        let (one, other) = match self {
            Self::Found { pointer, .. } => (Some(pointer), None),
            Self::Pointing { expected, .. } => (expected.as_mut(), None),
            Self::Approaching { expected, way, .. } => (expected.as_mut(), way.as_mut()),
            Self::Naming { name, .. } => (name.token_mut(), None),
            Self::Unconfirmed { way, .. } => (way.as_mut(), None),
            Self::Idle
            | Self::Holding { .. }
            | Self::TakingBack { .. }
            | Self::Sent { .. }
            | Self::Recording { .. } => (None, None),
        };
        one.into_iter().chain(other)
    }

    /// The record that it is on its way to.
    const fn target(self) -> Option<Slot> {
        match self {
            Self::Found { to, .. } | Self::Pointing { to, .. } => Some(to),
            Self::Approaching { slot, .. } => Some(slot),
            Self::Idle
            | Self::Unconfirmed { .. }
            | Self::Naming { .. }
            | Self::Holding { .. }
            | Self::TakingBack { .. }
            | Self::Sent { .. }
            | Self::Recording { .. } => None,
        }
    }
}

impl Name {
    fn token_mut(&mut self) -> Option<&mut Token> {
        match self {
            Self::Way { token } | Self::Look { token, .. } => Some(token),
            Self::Point { expected } => expected.as_mut(),
            Self::Turn { .. } => None,
        }
    }
}

/// What an owner saw of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Seen {
    Final,
    /// Final, and nothing was charged: the payment was declined.
    Declined,
    NotApplied,
    Accepted,
    /// Nothing that proves anything; its connection is closed.
    Nothing,
}

/// One claim, and what became of its request in the world outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    pub(crate) slot: Slot,
    pub(crate) wire: Wire,
    /// It was made on a released key.
    pub(crate) second: bool,
    /// It took no effect, and that was proven.
    pub(crate) proven: bool,
    /// Its outcome reached its caller, so that the same content may mean something new.
    pub(crate) delivered: bool,
    /// Its settled record is past `remember`.
    pub(crate) forgotten: bool,
    /// Its claim may come into force without anybody tending it: its process ended, or the key was
    /// purged since.
    pub(crate) excused: bool,
    /// Which other keys have become names of it, as bits.
    pub(crate) names: u8,
    /// Its caller was told nothing that ends the operation, and that was noted on its record.
    pub(crate) left: bool,
}

impl Attempt {
    pub(crate) const fn sent(&self) -> bool {
        !matches!(self.wire, Wire::Unsent)
    }

    /// It was sent, and nothing proves that it took no effect.
    pub(crate) const fn open(&self) -> bool {
        self.sent() && !self.proven && !self.forgotten
    }

    /// All keys that lead to it, as bits.
    pub(crate) const fn all_names(&self) -> u8 {
        self.names | 1 << self.slot
    }
}

/// Where a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Wire {
    Unsent,
    /// On its way: a look-up may overtake it.
    InAir,
    /// Never arrived, and never will.
    Lost,
    /// Arrived, and the provider did nothing.
    Refused,
    /// Arrived; the provider works on it.
    Working,
    /// Arrived, and over.
    Done,
    /// Arrived, and over: the payment was declined.
    Declined,
}

/// What must never happen in one step. A set, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Breaches(u8);

#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(crate) enum Breach {
    /// A dispatch without a confirmed claim.
    Unconfirmed = 1,
    /// A step that is not in the state diagram.
    Edge = 2,
    /// A record that vanished before its outcome was known.
    Vanished = 4,
    /// A settled outcome that changed.
    Changed = 8,
    /// A claim that came into force after its owner had written it off.
    Resurrected = 16,
    /// Two writes under one token.
    SharedToken = 32,
    /// Pointers that lead in a circle.
    Circle = 64,
}

impl Breaches {
    pub(crate) const fn note(&mut self, breach: Breach) {
        self.0 |= breach as u8;
    }

    pub(crate) const fn has(self, breach: Breach) -> bool {
        self.0 & breach as u8 != 0
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) cells: Cells,
    /// Swaps that may still be applied.
    pub(crate) air: Vec<Swap>,
    pub(crate) processes: Vec<Process>,
    pub(crate) attempts: Vec<Attempt>,
    /// What a fail-over would put in the store's place.
    pub(crate) replica: Option<Cells>,
    /// Writes that the replica does not have; after a fail-over, writes since.
    pub(crate) count: u8,
    pub(crate) failed_over: bool,
    pub(crate) left: Faults,
    pub(crate) breaches: Breaches,
    /// A late or doubled write has just changed the store.
    pub(crate) late_write: bool,
}

impl World {
    /// An unused token.
    pub(crate) fn fresh_token(&self) -> Token {
        let held = self.cells.iter().chain(self.replica.iter().flatten()).flatten();
        let swaps = self.air.iter().flat_map(|swap| [Some(swap.token), swap.expected]).flatten();
        let known = self.processes.iter().flat_map(|process| {
            let mut doing = process.doing;
            doing.tokens_mut().map(|token| *token).collect::<Vec<_>>()
        });
        held.map(|cell| cell.token).chain(swaps).chain(known).max().map_or(0, |token| token + 1)
    }

    /// A record slot that nothing leads to: as good as a key drawn at random.
    pub(crate) fn fresh_slot(&self) -> Option<Slot> {
        (1..=FRESH_MAX).find(|&slot| {
            let leads_here = |entry: &Entry| *entry == Entry::Pointer { to: slot };
            self.cells[slot].is_none()
                && !self.cells.iter().flatten().any(|cell| leads_here(&cell.entry))
                && !self
                    .air
                    .iter()
                    .any(|swap| swap.slot == slot || swap.leave.as_ref().is_some_and(leads_here))
                && !self.processes.iter().any(|process| process.doing.target() == Some(slot))
                && !self.attempts.iter().any(|attempt| attempt.slot == slot)
        })
    }

    /// The same world with tokens and attempts renamed, and without what can never matter again.
    pub(crate) fn canonical(mut self, prune: bool) -> Self {
        if prune {
            self.drop_dead_swaps();
        }
        self.rename_attempts();
        self.air.sort_unstable();
        if prune {
            self.rename_tokens();
            self.air.sort_unstable();
        }
        self
    }

    /// A swap is dead when the write that it expects is gone and nothing can bring it back.
    fn drop_dead_swaps(&mut self) {
        loop {
            let dead = self.air.iter().position(|swap| {
                let Some(expected) = swap.expected else { return false };
                let held = |cells: &Cells| cells[swap.slot].is_some_and(|c| c.token == expected);
                !held(&self.cells)
                    && !self.replica.as_ref().is_some_and(held)
                    && !self.air.iter().any(|other| other.token == expected)
            });
            match dead {
                Some(index) => drop(self.air.remove(index)),
                None => return,
            }
        }
    }

    fn rename_attempts(&mut self) {
        let tended = self.processes.iter().filter_map(|process| process.doing.attempt());
        let mut alive: Vec<_> = tended.collect();
        let cells = self.cells.iter().chain(self.replica.iter().flatten()).flatten();
        let left = self.air.iter().filter_map(|swap| swap.leave);
        alive.extend(cells.map(|cell| cell.entry).chain(left).filter_map(|entry| match entry {
            Entry::Record { phase: Phase::Released, .. } | Entry::Pointer { .. } => None,
            Entry::Record { attempt, .. } => Some(attempt),
        }));
        let held = self.cells.iter_mut().chain(self.replica.iter_mut().flatten()).flatten();
        let left = self.air.iter_mut().filter_map(|swap| swap.leave.as_mut());
        for entry in held.map(|cell| &mut cell.entry).chain(left) {
            if let Entry::Record { attempt, phase: Phase::Released } = entry
                && !alive.contains(attempt)
            {
                *attempt = NOBODY;
            }
        }
        let mut order = Vec::new();
        self.each_attempt(|attempt| {
            if *attempt != NOBODY && !order.contains(attempt) {
                order.push(*attempt);
            }
        });
        for (index, attempt) in self.attempts.iter().enumerate() {
            let index = index as AttemptIx;
            if attempt.open() && !order.contains(&index) {
                order.push(index);
            }
        }
        self.each_attempt(|attempt| {
            if let Some(position) = order.iter().position(|old| old == attempt) {
                *attempt = position as AttemptIx;
            }
        });
        self.attempts = order.iter().map(|&old| self.attempts[usize::from(old)]).collect();
    }

    fn each_attempt(&mut self, mut visit: impl FnMut(&mut AttemptIx)) {
        for process in &mut self.processes {
            process.doing.attempt_mut().into_iter().for_each(&mut visit);
        }
        let held = self.cells.iter_mut().chain(self.replica.iter_mut().flatten()).flatten();
        let entries = held.map(|cell| &mut cell.entry);
        for entry in entries.chain(self.air.iter_mut().filter_map(|swap| swap.leave.as_mut())) {
            if let Entry::Record { attempt, .. } = entry {
                visit(attempt);
            }
        }
    }

    fn rename_tokens(&mut self) {
        let mut order = Vec::new();
        self.each_token(|token| {
            if !order.contains(token) {
                order.push(*token);
            }
        });
        self.each_token(|token| {
            let position = order.iter().position(|old| old == token);
            *token = position.map_or(*token, |position| position as Token);
        });
    }

    fn each_token(&mut self, mut visit: impl FnMut(&mut Token)) {
        for cell in self.cells.iter_mut().chain(self.replica.iter_mut().flatten()).flatten() {
            visit(&mut cell.token);
        }
        for process in &mut self.processes {
            process.doing.tokens_mut().for_each(&mut visit);
        }
        for swap in &mut self.air {
            swap.expected.iter_mut().for_each(&mut visit);
            visit(&mut swap.token);
        }
    }
}
