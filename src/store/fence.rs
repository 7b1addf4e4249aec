//! What ties a process to one store: identity, generation, rules, and the swap count last seen.
//!
//! Every store keeps one of these and checks it inside the same transaction as the swap. It notices
//! a store that was flushed, exchanged or restored, before that costs a second charge.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::{Charter, Purpose, Refusal};

/// How far `amend` raises the swap count: beyond anything a process can have seen.
pub const COUNT_LEAP: u64 = 1 << 40;

/// What this process believes about its store.
#[derive(Debug, Default)]
pub struct Fence {
    charter: RwLock<Option<Charter>>,
    seen: AtomicU64,
    turns: Arc<AtomicU64>,
}

impl Fence {
    /// Binds every later swap to this charter.
    pub fn bind(&self, charter: Charter) {
        *self.charter.write().unwrap_or_else(PoisonError::into_inner) = Some(charter);
        self.turn();
    }

    /// The same fence as it is now, to hold an answer against what was known when its question was
    /// asked. What it refuses is a turn of this one.
    pub fn as_of_now(&self) -> Self {
        let charter = RwLock::new(self.charter());
        Self { charter, seen: AtomicU64::new(self.seen()), turns: Arc::clone(&self.turns) }
    }

    /// How often it was bound, has refused, or has seen that somebody amended the store: while this
    /// stays, the store was the one that it was.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }

    /// Notes that another one, which stands for this, has refused.
    pub fn turn(&self) {
        self.turns.fetch_add(1, Ordering::AcqRel);
    }

    /// The charter that swaps carry, if bound.
    pub fn charter(&self) -> Option<Charter> {
        *self.charter.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The highest swap count that any answer carried.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }

    /// Notes a count that an answer carried; it never goes down.
    pub fn saw(&self, count: u64) {
        let before = self.seen.fetch_max(count, Ordering::SeqCst);
        if is_leap(before, count) {
            self.turn();
        }
    }

    /// Decides whether a store in the state (`theirs`, `count`) may be asked for `purpose`.
    ///
    /// # Errors
    /// The [`Refusal`] that says what does not fit.
    pub fn admit(
        &self,
        purpose: Option<Purpose>,
        theirs: Option<&Charter>,
        count: u64,
    ) -> Result<(), Refusal> {
        let admitted = self.hold_against(purpose, theirs, count);
        // Not seen by that: a transaction may ask this of what it has not committed.
        if admitted.is_err() || is_leap(self.seen(), count) {
            self.turn();
        }
        admitted
    }

    fn hold_against(
        &self,
        purpose: Option<Purpose>,
        theirs: Option<&Charter>,
        count: u64,
    ) -> Result<(), Refusal> {
        let ours = self.charter().ok_or(Refusal::NotFounded)?;
        let theirs = theirs.ok_or(Refusal::NotFounded)?;
        if theirs.identity != ours.identity {
            return Err(Refusal::OtherIdentity);
        }
        let seen = self.seen();
        if count < seen {
            return Err(Refusal::Rewound { seen, found: count });
        }
        if purpose != Some(Purpose::Claim) {
            return Ok(());
        }
        if theirs.generation != ours.generation {
            return Err(Refusal::OtherGeneration {
                ours: ours.generation,
                found: theirs.generation,
            });
        }
        if theirs.rules != ours.rules {
            return Err(Refusal::OtherRules);
        }
        Ok(())
    }
}

/// Whether somebody amended the store in between: another generation, perhaps with other records, even
/// if nothing was refused for it.
const fn is_leap(seen: u64, count: u64) -> bool {
    // Half of it, because a store that was restored leaps from an earlier count.
    count.saturating_sub(seen) >= COUNT_LEAP / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::id::StoreId;

    const CHARTER: Charter = Charter {
        identity: StoreId::new([1; 16]),
        generation: 1,
        rules: [2; 32],
        secret_check: [3; 16],
    };

    fn bound() -> Fence {
        let fence = Fence::default();
        fence.bind(CHARTER);
        fence.saw(10);
        fence
    }

    #[test]
    fn the_store_that_was_bound_is_admitted() {
        assert_eq!(bound().admit(Some(Purpose::Claim), Some(&CHARTER), 10), Ok(()));
    }

    #[test]
    fn what_lost_writes_is_refused_even_to_record() {
        assert_eq!(
            bound().admit(Some(Purpose::Record), Some(&CHARTER), 9),
            Err(Refusal::Rewound { seen: 10, found: 9 })
        );
        assert_eq!(bound().admit(Some(Purpose::Record), None, 10), Err(Refusal::NotFounded));
    }

    #[test]
    fn a_raised_generation_stops_claims_but_not_settlements() {
        let raised = Charter { generation: 2, ..CHARTER };

        assert_eq!(bound().admit(Some(Purpose::Record), Some(&raised), 10), Ok(()));
        assert!(bound().admit(Some(Purpose::Claim), Some(&raised), 10).is_err());
    }

    #[test]
    fn it_turns_when_it_is_bound_or_refuses_or_the_store_was_amended_and_at_nothing_else() {
        let fence = bound();
        let before = fence.turns();

        assert!(fence.admit(None, Some(&CHARTER), 11).is_ok());
        assert_eq!(fence.turns(), before);

        assert!(fence.as_of_now().admit(None, Some(&CHARTER), 9).is_err());
        assert_eq!(fence.turns(), before + 1);

        fence.bind(Charter { generation: 2, ..CHARTER });
        assert_eq!(fence.turns(), before + 2);

        fence.saw(11);
        assert_eq!(fence.turns(), before + 2);
        fence.saw(5 + COUNT_LEAP);
        assert_eq!(fence.turns(), before + 3);
    }
}
