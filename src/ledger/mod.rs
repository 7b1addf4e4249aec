//! The protocol performed on a store: claim, renew, conclude, and what people and reconcilers do.
//!
//! Decisions are `protocol`'s; this module carries them out by compare-and-swap. It alone makes
//! [`Settled`], [`Released`], [`Accepted`] and [`InDoubt`], and only those can be answered: nobody
//! can tell a caller an outcome that was not put on record first (or marked as not yet recorded).
//!
//! Read `claim`, then `names` (how a request finds its record, whatever it calls it; `content` if it
//! has no key), then `conclude`; `views` is what others get to see, `watch` how long an owner that
//! is not heard of may still send.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::entropy::{self, Entropy};
use crate::protocol::attempt::Held;
use crate::protocol::id::{AttemptId, ProcessId, RecordKey, Token};
use crate::protocol::invariants;
use crate::protocol::key::Secret;
use crate::protocol::record::{Entry, Event, Happening, Pointer, Record, State, Unreadable};
use crate::protocol::resend::last_resend;
use crate::protocol::seal::{Binding, Seals};
use crate::store::{Purpose, SharedStore, StoreError, Stored, Swap, Swapped, Tag, Write};

mod claim;
mod conclude;
mod content;
mod enrol;
mod names;
#[cfg(test)]
mod names_tests;
mod recall;
#[cfg(test)]
mod tests;
mod views;
mod watch;

pub use claim::{Ask, ClaimError, Unproven, Verdict};
pub use conclude::{Change, Concluded, Pending};
pub use enrol::EnrolError;
pub use names::Traced;
use recall::Recall;
pub use recall::Recollection;
pub use views::{Accepted, InDoubt, InFlight, Released, Settled, View};
pub use watch::MaySend;
use watch::Watch;

/// How long a released record is kept for those who wait for it.
pub const RELEASED_KEPT: Duration = Duration::from_secs(600);
/// How often a swap that was not confirmed is repeated before that is reported.
const CONFIRM_ROUNDS_MAX: u32 = 3;
/// How often a swap that lost against another is decided anew.
const SWAP_ROUNDS_MAX: u32 = 8;
/// How much later than its lease an owner is looked for.
const LEASE_GRACE: Duration = Duration::from_millis(100);
/// How many bytes of answers may wait for the store; claims stop there.
pub const PENDING_BYTES_MAX: usize = 64 << 20;
/// First and longest pause between look-ups of one operation.
const LOOK_UP_PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(300));

/// Tag of operations in doubt.
pub const TAG_IN_DOUBT: Tag = Tag(1);
/// Tag of accepted operations.
pub const TAG_ACCEPTED: Tag = Tag(2);

/// The secrets that the ledger needs.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// Makes record keys. Never rotates while the store has records.
    pub index: Secret,
    /// Make fingerprints, newest first.
    pub fingerprints: Vec<Secret>,
    /// Seal what is stored.
    pub seals: Seals,
}

/// The protocol on a store.
#[derive(Debug)]
pub struct Ledger {
    store: SharedStore,
    secrets: Secrets,
    entropy: Arc<dyn Entropy>,
    process: ProcessId,
    epoch: Instant,
    pending_bytes: AtomicUsize,
    watch: Watch,
    recall: Recall,
    /// Why nothing may be claimed, by the last examination of the store.
    unfit: Mutex<Option<String>>,
}

/// Why a record could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The store did not answer, or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It answered with something that cannot be read. Never the same as "absent".
    #[error("unreadable: {0}")]
    Unreadable(String),
}

impl From<Unreadable> for ReadError {
    fn from(error: Unreadable) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl Ledger {
    /// Keeps its records in this store. Enrol before anything else.
    pub fn new(store: SharedStore, secrets: Secrets, entropy: Arc<dyn Entropy>) -> Self {
        let process = ProcessId::new(entropy::draw(&*entropy));
        let epoch = Instant::now();
        let (pending_bytes, unfit) = (AtomicUsize::new(0), Mutex::new(None));
        let (watch, recall) = (Watch::default(), Recall::new(0));
        Self { store, secrets, entropy, process, epoch, pending_bytes, watch, recall, unfit }
    }

    /// The same, which recalls settled records within so many bytes.
    #[must_use]
    pub fn recalling(self, bytes: usize) -> Self {
        Self { recall: Recall::new(bytes), ..self }
    }

    /// The store below, for examinations and the agenda.
    pub const fn store(&self) -> &SharedStore {
        &self.store
    }

    /// The secrets, for whoever identifies requests.
    pub const fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// This process, as records name it.
    pub const fn process(&self) -> ProcessId {
        self.process
    }

    /// A monotonic clock of this process; only differences mean anything.
    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Notes what an examination of the store found: claims stop while there is a reason.
    pub fn set_unfit(&self, why: Option<String>) {
        *self.unfit.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Why nothing may be claimed now, if so.
    pub fn unfit(&self) -> Option<String> {
        self.unfit.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn draw_attempt(&self) -> AttemptId {
        AttemptId::new(entropy::draw(&*self.entropy))
    }

    /// Reads a record into a hand that is not its owner's. `None`: provably absent.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read(&self, key: RecordKey) -> Result<Option<Held>, ReadError> {
        let asked = self.now();
        match self.store.load(key).await? {
            None => Ok(None),
            Some(stored) => match self.hold(key, &stored, asked)? {
                Found::Record(held) => Ok(Some(held)),
                Found::Pointer(..) => Ok(None),
            },
        }
    }

    /// Takes what a store returned into a hand that is not its owner's.
    ///
    /// # Errors
    /// [`ReadError::Unreadable`].
    pub fn hold(
        &self,
        key: RecordKey,
        stored: &Stored,
        asked: Duration,
    ) -> Result<Found, ReadError> {
        match Entry::read(&stored.bytes, stored.age)? {
            Entry::Pointer(pointer) => Ok(Found::Pointer(stored.token, pointer)),
            Entry::Record(record) => {
                if watch::needs_watching(&record) {
                    let resend = last_resend(&record);
                    self.watch.saw(record.operation(key), resend, self.now());
                }
                Ok(Found::Record(Held {
                    key,
                    token: stored.token,
                    writer: self.draw_attempt(),
                    tries: 0,
                    as_of: asked,
                    record,
                }))
            }
        }
    }

    /// Writes a record; repeats the very same swap while it is not confirmed, which is harmless.
    async fn write(
        &self,
        key: RecordKey,
        expected: Option<Token>,
        token: Token,
        record: &Record,
        purpose: Purpose,
    ) -> Result<Swapped, StoreError> {
        let write = put(record);
        self.swap(&Swap { key, expected, token, write, purpose }).await
    }

    async fn swap(&self, swap: &Swap) -> Result<Swapped, StoreError> {
        self.swap_and_load(swap, None).await.map(|(swapped, _)| swapped)
    }

    /// Swaps, and reads what is beside the swap once it is done.
    async fn swap_and_load(
        &self,
        swap: &Swap,
        beside: Option<RecordKey>,
    ) -> Result<(Swapped, Option<Stored>), StoreError> {
        let ask = async || match beside {
            Some(beside) => self.store.swap_and_load(swap, beside).await,
            None => self.store.swap(swap).await.map(|swapped| (swapped, None)),
        };
        let mut last = ask().await;
        for _ in 1..CONFIRM_ROUNDS_MAX {
            let Err(StoreError::Unconfirmed(why)) = last else { break };
            last = match ask().await {
                // It cannot be asked now, which does not tell what became of the first time.
                Err(StoreError::Unreachable(_)) => return Err(StoreError::Unconfirmed(why)),
                Err(StoreError::Refused(_)) => return Err(StoreError::Unconfirmed(why)),
                other => other,
            };
        }
        last
    }

    /// Renews an owner's lease.
    ///
    /// # Errors
    /// Any [`StoreError`]: the lease then runs on, and the next renewal may succeed.
    pub async fn renew(&self, held: &mut Held) -> Result<Renewed, ReadError> {
        if !matches!(held.record.state, State::InFlight) {
            return Ok(Renewed::NotNeeded);
        }
        held.catch_up(self.now());
        held.record.renewed = crate::protocol::record::Ago::NOW;
        let token = held.next_token();
        let asked = self.now();
        let swapped =
            self.write(held.key, Some(held.token), token, &held.record, Purpose::Record).await?;
        match swapped {
            Swapped::Done => {
                held.token = token;
                Ok(Renewed::Yes)
            }
            Swapped::Lost(None) => Ok(Renewed::Vanished),
            Swapped::Lost(Some(stored)) => match self.hold(held.key, &stored, asked)? {
                Found::Record(current) if current.record.attempt == held.record.attempt => {
                    held.token = current.token;
                    held.record = current.record;
                    held.as_of = current.as_of;
                    Ok(Renewed::Changed)
                }
                Found::Record(_) | Found::Pointer(..) => Ok(Renewed::Vanished),
            },
        }
    }

    /// Puts off when a record comes up again, and so keeps other processes from doing the same
    /// work meanwhile. `Lost` if somebody else was first.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn put_off(&self, held: &mut Held, due: Duration) -> Result<Swapped, StoreError> {
        held.catch_up(self.now());
        let token = held.next_token();
        let (_, tag) = agenda(&held.record);
        let write = Write::Put { bytes: held.record.encode(), due: Some(due), tag };
        let swap = Swap {
            key: held.key,
            expected: Some(held.token),
            token,
            write,
            purpose: Purpose::Record,
        };
        let swapped = self.swap(&swap).await?;
        if swapped == Swapped::Done {
            held.token = token;
        }
        Ok(swapped)
    }

    /// Notes that this process is about to send the request again. Right before it, and never
    /// without it: `Lost` means that the record is another one by now, and nothing may be sent. From
    /// here on nobody's connection is known to be closed.
    ///
    /// # Errors
    /// Any [`StoreError`]; nothing may be sent either.
    pub async fn note_resend(&self, held: &mut Held) -> Result<Swapped, StoreError> {
        held.catch_up(self.now());
        let State::InDoubt { closed, absent, .. } = &mut held.record.state else {
            return Ok(Swapped::Lost(None));
        };
        (*closed, *absent) = (None, 0);
        held.record.process = self.process;
        held.record.note(Happening::Resent);
        let due = held.record.terms.upstream_timeout + LEASE_GRACE;
        self.put_off(held, due).await
    }

    /// Puts off an entry that this version cannot read, byte for byte, and lists it with what is in
    /// doubt, where people look. Its ages stand still meanwhile, which only delays.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn put_off_unread(
        &self,
        key: RecordKey,
        stored: &Stored,
        due: Duration,
    ) -> Result<Swapped, StoreError> {
        let bytes = stored.bytes.clone();
        let write = Write::Put { bytes, due: Some(due), tag: TAG_IN_DOUBT };
        let (expected, token) = (Some(stored.token), Token::first(self.draw_attempt()));
        self.swap(&Swap { key, expected, token, write, purpose: Purpose::Record }).await
    }

    /// Drops the answer of a settled record whose retention is over; the tombstone stays.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn bury(&self, mut held: Held) -> Result<Swapped, StoreError> {
        held.catch_up(self.now());
        let token = held.next_token();
        let State::Settled(settlement) = &mut held.record.state else {
            return Ok(Swapped::Lost(None));
        };
        settlement.reply = None;
        held.record.inputs = None;
        self.write(held.key, Some(held.token), token, &held.record, Purpose::Record).await
    }

    /// Removes a record that nothing needs any more.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn purge(&self, mut held: Held) -> Result<Swapped, StoreError> {
        held.catch_up(self.now());
        assert!(
            invariants::may_purge(&held.record, RELEASED_KEPT),
            "only what is over and past its time is purged"
        );
        let token = held.next_token();
        self.swap(&Swap {
            key: held.key,
            expected: Some(held.token),
            token,
            write: Write::Purge,
            purpose: Purpose::Record,
        })
        .await
    }

    fn binding<'a>(key: RecordKey, record: &'a Record, part: &'static str) -> Binding<'a> {
        Binding { key, attempt: record.attempt, fingerprint: &record.fingerprint, part }
    }

    /// Opens the values that an operation's look-up needs.
    ///
    /// # Errors
    /// [`ReadError::Unreadable`].
    pub fn inputs(&self, held: &Held) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(sealed) = &held.record.inputs else { return Ok(None) };
        let binding = Self::binding(held.key, &held.record, PART_INPUTS);
        let opened = self.secrets.seals.open(binding, sealed);
        opened.map(Some).map_err(|error| ReadError::Unreadable(error.to_string()))
    }
}

const PART_INPUTS: &str = "inputs";
const PART_REPLY: &str = "reply";

/// What was under a key.
#[derive(Debug)]
pub enum Found {
    /// A record.
    Record(Held),
    /// A pointer, under this token.
    Pointer(Token, Pointer),
}

/// How a renewal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// The lease runs anew.
    Yes,
    /// The state has no lease.
    NotNeeded,
    /// Somebody has written into the record; the hand now has what they wrote.
    Changed,
    /// The store no longer has our record.
    Vanished,
}

/// What a swap leaves of a record.
fn put(record: &Record) -> Write {
    let (due, tag) = agenda(record);
    Write::Put { bytes: record.encode(), due, tag }
}

/// When a record is to come up again, and under which tag it is listed.
fn agenda(record: &Record) -> (Option<Duration>, Tag) {
    match &record.state {
        State::InFlight => {
            let left = record.terms.lease.saturating_sub(record.renewed.age());
            (Some(left + LEASE_GRACE), Tag::NONE)
        }
        State::InDoubt { looked, .. } => (Some(next_look_up(record, *looked)), TAG_IN_DOUBT),
        // The provider said when it wants to be asked first.
        State::Accepted { looked: 0, after: Some(after), .. } => {
            (Some(after.saturating_sub(record.entered.age())), TAG_ACCEPTED)
        }
        State::Accepted { looked, .. } => (Some(next_look_up(record, *looked)), TAG_ACCEPTED),
        State::Settled(settlement) => {
            let keep = match settlement.reply {
                Some(_) => record.terms.retention,
                None => record.terms.retention + record.terms.remember,
            };
            (Some(keep.saturating_sub(record.entered.age()) + LEASE_GRACE), Tag::NONE)
        }
        State::Released { .. } => (Some(RELEASED_KEPT + LEASE_GRACE), Tag::NONE),
    }
}

/// In how long the next look-up is due. What else is noted meanwhile does not put it off.
fn next_look_up(record: &Record, looked: u32) -> Duration {
    let look_up = |event: &&Event| matches!(event.what, Happening::LookedUp(_));
    let last = record.timeline.iter().rev().find(look_up);
    let since = last.map_or(record.entered, |event| event.at.min(record.entered));
    look_up_pause(looked).saturating_sub(since.age())
}

/// How long after the n-th look-up the next one is due: doubling, bounded.
pub fn look_up_pause(looked: u32) -> Duration {
    let (first, longest) = LOOK_UP_PAUSES;
    first.saturating_mul(1 << looked.min(16)).min(longest)
}
