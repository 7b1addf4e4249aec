//! Keeps bytes per key by compare-and-swap, with an agenda. Knows no protocol.
//!
//! Everything that makes semel safe is decided above, in `protocol`; a store only has to be an
//! honest register: what it acknowledged it keeps, and a swap happens at one instant or not at all.
//! The suite in [`conformance`] says what that means, and every store passes it.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::protocol::id::{RecordKey, StoreId, Token};

pub mod conformance;
pub mod embedded;
pub mod faulty;
pub mod fence;
pub mod memory;
pub mod metered;
pub mod redis;

pub use fence::Fence;

/// A store that processes may share.
pub type SharedStore = Arc<dyn Store>;

/// What a swap is for; a store that runs out of room refuses the one and still takes the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Starts something new: refused when the store is full, or when generation or rules differ.
    Claim,
    /// Records what became of something that was claimed: taken as long as there is any room.
    Record,
}

/// A small label that a store indexes without knowing what it means, so that a few records among
/// millions can be listed. `Tag::NONE` is not indexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag(pub u8);

impl Tag {
    /// Not listed under any label.
    pub const NONE: Self = Self(0);
}

/// What a swap leaves behind under the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// These bytes.
    Put {
        /// The new content.
        bytes: Bytes,
        /// When the agenda is to bring the key up again, counted from now; `None`: never.
        due: Option<Duration>,
        /// Label to list it under.
        tag: Tag,
    },
    /// Nothing: the key, its agenda entry and its tag go.
    Purge,
}

/// One compare-and-swap.
///
/// It is harmless if done twice: the second time the current token is already `token`, and the
/// store answers [`Swapped::Done`] again (a purge finds nothing and is [`Swapped::Lost`] with
/// `None`, which its caller wanted). It is harmless if late: `expected` is then gone for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    /// Which key.
    pub key: RecordKey,
    /// The write that must be the current one; `None`: the key must be absent.
    pub expected: Option<Token>,
    /// The name of this write.
    pub token: Token,
    /// What to leave.
    pub write: Write,
    /// What it is for.
    pub purpose: Purpose,
}

/// What a store holds under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The write that put it there.
    pub token: Token,
    /// The content.
    pub bytes: Bytes,
    /// How long ago, by the store's own clock; zero if that clock went backwards.
    pub age: Duration,
}

/// How a swap ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swapped {
    /// The write is in place and durable as far as this store promises.
    Done,
    /// Another write was there (or none); nothing was changed.
    Lost(Option<Stored>),
}

/// Entries whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agenda {
    /// The store's clock when it answered, since an epoch of its own. Only differences mean
    /// anything; they tell whether that clock keeps pace with ours.
    pub clock: Duration,
    /// Overdue entries, most overdue first. They stay on the agenda until swapped.
    pub due: Vec<(RecordKey, Stored)>,
}

/// Where to go on listing: the last key seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Only entries with this tag; `None`: all.
    pub tag: Option<Tag>,
    /// A cursor from the page before; `None`: from the start.
    pub after: Option<String>,
    /// At most about so many.
    pub limit: usize,
}

/// One page of a listing. Entries that change meanwhile may be missed or appear twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The entries.
    pub entries: Vec<(RecordKey, Stored)>,
    /// Cursor of the next page; `None`: this was the last.
    pub next: Option<String>,
}

/// What is written into a store when it is founded: who it is and by which rules its keys are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charter {
    /// Drawn at random when the store was founded.
    pub identity: StoreId,
    /// Raised by every `semel store accept`; claims carry it.
    pub generation: u64,
    /// Digest of the configured rules that derive keys; claims carry it.
    pub rules: [u8; 32],
    /// Check of the index secret, so that a process with another one is refused at start.
    pub secret_check: [u8; 16],
}

/// What a store says of itself when examined.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Examination {
    /// What it is, for people: `Redis 7.0.15 at 127.0.0.1:6379`, `SQLite 3.54.1 in ./semel-data`.
    pub what: String,
    /// How many records and pointers it holds, where that is cheap to know.
    pub entries: Option<u64>,
    /// Share of its capacity that is free, from 0 to 1, where it has a limit.
    pub headroom: Option<f64>,
    /// What a restart or a fail-over of it may cost; refused instead under `store.strict`.
    pub warnings: Vec<String>,
    /// Why no claim may be made on it (evicting policy, a replica, too old a version).
    pub refusals: Vec<String>,
}

/// Why a store did not do what it was asked, by what its caller may conclude.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing was asked: no connection. For certain not applied.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// It was asked and no usable answer came. Applied or not: read again, never assume.
    #[error("the store did not confirm: {0}")]
    Unconfirmed(String),
    /// It answered that it will not. For certain not applied.
    #[error("the store refuses: {0}")]
    Refused(#[from] Refusal),
    /// Its medium failed. Nothing it says from now on can be relied on; the process must end.
    #[error("the store has failed for good: {0}")]
    Broken(String),
}

/// Why a store refuses a swap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No charter: new, flushed, or another database.
    #[error(
        "it has no charter (new, or flushed); run `semel store init`, or `semel store accept` if it was in use"
    )]
    NotFounded,
    /// It has a charter already.
    #[error("it is in use already")]
    AlreadyFounded,
    /// Another store answers under this address.
    #[error("it is not the store this process started with; restart, or run `semel store accept`")]
    OtherIdentity,
    /// Its swap count is below what this process has seen: it was restored or lost writes.
    #[error(
        "it has lost writes (count {found}, seen {seen}); check what was charged, then run `semel store accept`"
    )]
    Rewound {
        /// The highest count this process has seen.
        seen: u64,
        /// What the store says now.
        found: u64,
    },
    /// The generation was raised by `semel store accept`.
    #[error("its generation is {found}, this process has {ours}")]
    OtherGeneration {
        /// What this process has.
        ours: u64,
        /// What the store says.
        found: u64,
    },
    /// The rules that derive keys differ from those the store was used with.
    #[error(
        "its key rules are not this process's; run `semel store accept` to take over changed rules"
    )]
    OtherRules,
    /// The index secret differs.
    #[error("its index secret is not this process's; give every process the same secret")]
    OtherSecret,
    /// No room for claims.
    #[error("it is full; free memory or disk space")]
    Full,
    /// It takes no writes: a replica, or too few replicas, or a failed snapshot.
    #[error("it takes no writes: {0}")]
    ReadOnly(String),
    /// An examination found that it may drop records.
    #[error("it is not fit to hold claims: {0}")]
    Unfit(String),
    /// It has more to do than it accepts.
    #[error("it is too busy")]
    Busy,
}

/// A compare-and-swap register with an agenda.
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// Replaces `swap.expected` by `swap.write`, or says what is there instead.
    ///
    /// # Errors
    /// Any [`StoreError`]; only `Unconfirmed` and `Broken` leave open whether it was applied.
    ///
    /// # Cancel safety
    /// Dropping the future says nothing about whether the swap happens.
    async fn swap(&self, swap: &Swap) -> Result<Swapped, StoreError>;

    /// Does a swap and, if it is done, reads what is under another key as well: at the same instant
    /// or later, never earlier. Two questions for one round trip. A lost swap reads nothing beside.
    ///
    /// # Errors
    /// As for [`Self::swap`]. What was swapped while the reading failed is `Unconfirmed`: asked
    /// again, the swap is done again, and the reading made up for.
    ///
    /// # Cancel safety
    /// As for [`Self::swap`].
    async fn swap_and_load(
        &self,
        swap: &Swap,
        beside: RecordKey,
    ) -> Result<(Swapped, Option<Stored>), StoreError>;

    /// Reads what is under a key. `None` means provably absent, never unreadable.
    ///
    /// # Errors
    /// Any [`StoreError`], also the fence's refusals: an answer from another store is no answer.
    async fn load(&self, key: RecordKey) -> Result<Option<Stored>, StoreError>;

    /// Returns up to `limit` entries whose due time has passed by the store's clock.
    ///
    /// # Errors
    /// As for [`Self::load`].
    async fn due(&self, limit: usize) -> Result<Agenda, StoreError>;

    /// Lists entries, in no particular order.
    ///
    /// # Errors
    /// As for [`Self::load`].
    async fn list(&self, listing: &Listing) -> Result<Page, StoreError>;

    /// Reads the charter; `None`: the store was never founded, or was flushed.
    ///
    /// # Errors
    /// `Unreachable`, `Unconfirmed` or `Broken`.
    async fn charter(&self) -> Result<Option<Charter>, StoreError>;

    /// Writes the first charter of an empty store.
    ///
    /// # Errors
    /// `Refused(AlreadyFounded)` if there is one.
    async fn found(&self, charter: &Charter) -> Result<(), StoreError>;

    /// Replaces the charter `from` by `to`, whatever `to` says, and raises the swap count above
    /// anything a process can have seen, so that settlements flow again after a loss.
    ///
    /// # Errors
    /// `Refused(OtherIdentity)` if `from` is not the current one.
    async fn amend(&self, from: Option<&Charter>, to: &Charter) -> Result<(), StoreError>;

    /// Whether only one process at a time can have this store, so that whoever wrote into it under
    /// another process's name is gone for good.
    fn is_exclusive(&self) -> bool {
        false
    }

    /// What every swap carries from now on. Before the first call every swap is refused.
    fn fence(&self) -> &Fence;

    /// Looks at the store's own condition.
    ///
    /// # Errors
    /// `Unreachable`, `Unconfirmed` or `Broken`.
    async fn examine(&self) -> Result<Examination, StoreError>;
}
