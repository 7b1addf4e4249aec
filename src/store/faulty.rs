//! A store that lies, loses answers and dawdles, by a seed or a script. For simulation and tests.
//!
//! It stands before an honest store and knows nothing of what is stored. It reads no wall clock
//! and spawns nothing: a swap that is to come late is done at the start of a later call.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use super::{
    Agenda, Charter, Examination, Fence, Listing, Page, SharedStore, Store, StoreError, Stored,
    Swap, Swapped,
};
use crate::protocol::id::RecordKey;

/// How many swaps may be on their way at once; beyond, the oldest arrives early.
const LATE_MAX: usize = 256;

/// What befalls one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The store is not reached: `Unreachable`, and nothing was done.
    NotApplied,
    /// It is done, and the answer is lost: `Unconfirmed`.
    Applied,
    /// `Unconfirmed` now; the swap arrives with the first call after so long a time.
    Late(Duration),
    /// It is done twice; the second answer is returned.
    Twice,
    /// No answer for so long, then `Unconfirmed`; nothing was done.
    Hang(Duration),
}

/// How likely each fault is, from 0 to 1. What is left of 1 goes well.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Odds {
    /// Of [`Fault::NotApplied`].
    pub not_applied: f64,
    /// Of [`Fault::Applied`].
    pub applied: f64,
    /// Of [`Fault::Late`].
    pub late: f64,
    /// Of [`Fault::Twice`].
    pub twice: f64,
    /// Of [`Fault::Hang`].
    pub hang: f64,
    /// The longest that something comes late or hangs.
    pub longest: Duration,
}

impl Odds {
    /// Everything goes well.
    pub const NONE: Self = Self {
        not_applied: 0.0,
        applied: 0.0,
        late: 0.0,
        twice: 0.0,
        hang: 0.0,
        longest: Duration::ZERO,
    };

    fn draw(&self, rng: &mut StdRng) -> Fault {
        let span = rng.random_range(Duration::ZERO..=self.longest);
        let mut at = rng.random::<f64>();
        let faults = [
            (self.not_applied, Fault::NotApplied),
            (self.applied, Fault::Applied),
            (self.late, Fault::Late(span)),
            (self.twice, Fault::Twice),
            (self.hang, Fault::Hang(span)),
        ];
        for (odds, fault) in faults {
            if at < odds {
                return fault;
            }
            at -= odds;
        }
        Fault::None
    }
}

/// A store with faults before it.
///
/// [`Store::found`] and [`Store::amend`] are what an operator does and watches; they go through
/// untouched.
#[derive(Debug)]
pub struct FaultyStore {
    inner: SharedStore,
    plan: Mutex<Plan>,
}

#[derive(Debug)]
struct Plan {
    rng: StdRng,
    odds: Odds,
    on: bool,
    script: VecDeque<Fault>,
    late: Vec<(Instant, Swap)>,
    dealt: u64,
}

impl FaultyStore {
    /// Puts faults before `inner`, drawn from `seed`. It is switched on.
    pub fn new(inner: SharedStore, seed: u64, odds: Odds) -> Self {
        let plan = Plan {
            rng: StdRng::seed_from_u64(seed),
            odds,
            on: true,
            script: VecDeque::new(),
            late: Vec::new(),
            dealt: 0,
        };
        Self { inner, plan: Mutex::new(plan) }
    }

    /// Adds faults for the next calls, one each; when they are used up, `odds` decide again.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.plan().script.extend(faults);
    }

    /// Changes the odds from the next call on.
    pub fn set_odds(&self, odds: Odds) {
        self.plan().odds = odds;
    }

    /// Switches all faults on or off. What is on its way still arrives.
    pub fn switch(&self, on: bool) {
        self.plan().on = on;
    }

    /// How many faults there were.
    pub fn dealt(&self) -> u64 {
        self.plan().dealt
    }

    /// Has everything that is on its way arrive now.
    pub async fn arrive(&self) {
        let late: Vec<_> = self.plan().late.drain(..).collect();
        self.deliver(late).await;
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What befalls the call that begins now, after what is due has arrived.
    async fn begin(&self) -> Fault {
        let late = self.plan().arrived(Instant::now());
        self.deliver(late).await;
        self.plan().next()
    }

    async fn deliver(&self, late: Vec<(Instant, Swap)>) {
        for (_, swap) in late {
            // Nobody waits for the answer any more.
            drop(self.inner.swap(&swap).await);
        }
    }

    /// A swap, by whichever call, with what befalls it.
    async fn write<T, F>(&self, swap: &Swap, call: impl Fn() -> F + Send) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        match self.begin().await {
            Fault::Late(span) => {
                self.plan().postpone(swap.clone(), span);
                Err(unconfirmed())
            }
            Fault::None => call().await,
            Fault::NotApplied => Err(unreachable()),
            Fault::Applied => {
                call().await?;
                Err(unconfirmed())
            }
            Fault::Twice => {
                call().await?;
                call().await
            }
            Fault::Hang(span) => {
                tokio::time::sleep(span).await;
                Err(unconfirmed())
            }
        }
    }

    /// A call that changes nothing, with what befalls it.
    async fn read<T, F>(&self, call: impl Fn() -> F + Send) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        match self.begin().await {
            Fault::None => call().await,
            Fault::NotApplied => Err(unreachable()),
            Fault::Applied | Fault::Late(_) => {
                call().await?;
                Err(unconfirmed())
            }
            Fault::Twice => {
                call().await?;
                call().await
            }
            Fault::Hang(span) => {
                tokio::time::sleep(span).await;
                Err(unconfirmed())
            }
        }
    }
}

impl Plan {
    fn next(&mut self) -> Fault {
        if !self.on {
            return Fault::None;
        }
        let fault = match self.script.pop_front() {
            Some(fault) => fault,
            None => self.odds.draw(&mut self.rng),
        };
        self.dealt += u64::from(fault != Fault::None);
        fault
    }

    fn postpone(&mut self, swap: Swap, span: Duration) {
        self.late.push((Instant::now() + span, swap));
    }

    fn arrived(&mut self, now: Instant) -> Vec<(Instant, Swap)> {
        let early = self.late.len().saturating_sub(LATE_MAX);
        let mut arrived: Vec<_> = self.late.drain(..early).collect();
        arrived.extend(self.late.extract_if(.., |(at, _)| *at <= now));
        arrived.sort_by_key(|(at, _)| *at);
        arrived
    }
}

fn unreachable() -> StoreError {
    StoreError::Unreachable("a fault on purpose".to_owned())
}

fn unconfirmed() -> StoreError {
    StoreError::Unconfirmed("a fault on purpose".to_owned())
}

#[async_trait]
impl Store for FaultyStore {
    async fn swap(&self, swap: &Swap) -> Result<Swapped, StoreError> {
        self.write(swap, || self.inner.swap(swap)).await
    }

    async fn swap_and_load(
        &self,
        swap: &Swap,
        beside: RecordKey,
    ) -> Result<(Swapped, Option<Stored>), StoreError> {
        self.write(swap, || self.inner.swap_and_load(swap, beside)).await
    }

    async fn load(&self, key: RecordKey) -> Result<Option<Stored>, StoreError> {
        self.read(|| self.inner.load(key)).await
    }

    async fn due(&self, limit: usize) -> Result<Agenda, StoreError> {
        self.read(|| self.inner.due(limit)).await
    }

    async fn list(&self, listing: &Listing) -> Result<Page, StoreError> {
        self.read(|| self.inner.list(listing)).await
    }

    async fn charter(&self) -> Result<Option<Charter>, StoreError> {
        self.read(|| self.inner.charter()).await
    }

    async fn found(&self, charter: &Charter) -> Result<(), StoreError> {
        self.inner.found(charter).await
    }

    async fn amend(&self, from: Option<&Charter>, to: &Charter) -> Result<(), StoreError> {
        self.inner.amend(from, to).await
    }

    fn is_exclusive(&self) -> bool {
        self.inner.is_exclusive()
    }

    fn fence(&self) -> &Fence {
        self.inner.fence()
    }

    async fn examine(&self) -> Result<Examination, StoreError> {
        self.read(|| self.inner.examine()).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::protocol::id::{AttemptId, Token};
    use crate::store::conformance::{self, Bench, CHARTER, claim, follow};
    use crate::store::memory::MemoryStore;

    const SPAN: Duration = Duration::from_secs(3);

    fn first() -> Swap {
        claim(RecordKey::new([1; 16]), Token::first(AttemptId::new([1; 16])), b"one")
    }

    async fn faulty(script: &[Fault]) -> FaultyStore {
        let store = FaultyStore::new(Arc::new(MemoryStore::default()), 0, Odds::NONE);
        store.found(&CHARTER).await.unwrap();
        store.fence().bind(CHARTER);
        store.script(script.iter().copied());
        store
    }

    /// Does the swap under a fault, and says what came of it and whether it is in place.
    async fn under(fault: Fault) -> (Result<Swapped, StoreError>, bool) {
        let store = faulty(&[fault]).await;
        let swapped = store.swap(&first()).await;
        (swapped, store.load(first().key).await.unwrap().is_some())
    }

    #[tokio::test(start_paused = true)]
    async fn each_fault_does_and_says_what_its_name_says() {
        assert_eq!(under(Fault::None).await, (Ok(Swapped::Done), true));
        assert_eq!(under(Fault::Twice).await, (Ok(Swapped::Done), true));
        assert_eq!(under(Fault::NotApplied).await, (Err(unreachable()), false));
        assert_eq!(under(Fault::Applied).await, (Err(unconfirmed()), true));
        assert_eq!(under(Fault::Late(SPAN)).await, (Err(unconfirmed()), false));
        assert_eq!(under(Fault::Late(Duration::ZERO)).await, (Err(unconfirmed()), true));

        let began = Instant::now();
        assert_eq!(under(Fault::Hang(SPAN)).await, (Err(unconfirmed()), false));
        assert_eq!(began.elapsed(), SPAN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_swap_arrives_with_a_later_call_and_changes_nothing() {
        let store = faulty(&[Fault::None, Fault::Late(SPAN)]).await;
        store.swap(&first()).await.unwrap();
        let second = follow(&first(), b"late");
        store.swap(&second).await.unwrap_err();

        let rival = Swap { token: Token::first(AttemptId::new([2; 16])), ..second };
        assert_eq!(store.swap(&rival).await, Ok(Swapped::Done));
        tokio::time::advance(SPAN).await;

        assert_eq!(store.load(rival.key).await.unwrap().unwrap().token, rival.token);
        assert_eq!(store.dealt(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_seed_always_deals_the_same_faults() {
        let odds = Odds { not_applied: 0.2, applied: 0.2, late: 0.2, longest: SPAN, ..Odds::NONE };
        let deal = |seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            (0..100).map(|_| odds.draw(&mut rng)).collect::<Vec<_>>()
        };

        assert_eq!(deal(7), deal(7));
        assert_ne!(deal(7), deal(8));
        assert!(deal(7).contains(&Fault::None) && deal(7).contains(&Fault::Applied));
    }

    struct SwitchedOff;

    #[async_trait]
    impl Bench for SwitchedOff {
        async fn open(&self) -> SharedStore {
            let odds = Odds { not_applied: 1.0, ..Odds::NONE };
            let store = FaultyStore::new(Arc::new(MemoryStore::default()), 0, odds);
            store.switch(false);
            Arc::new(store)
        }

        async fn advance(&self, by: Duration) {
            tokio::time::advance(by).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn switched_off_it_keeps_every_promise() {
        conformance::suite(&SwitchedOff, rand::random()).await;
    }
}
