//! The design decisions under test, and the bounds within which they are tried.
//!
//! [`Rules::GOOD`] is the protocol as it is built. Every known-bad variant flips one field.

use std::fmt;

/// The decisions that make the protocol safe. Each field names one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// What a swap compares.
    pub(crate) tokens: Tokens,
    /// Writes of an owner name the write that they replace; else they overwrite whatever is there.
    pub(crate) fenced: bool,
    /// A record whose lease is over stays taken; else anybody claims it.
    pub(crate) never_stolen: bool,
    /// A dispatch needs a confirmed claim; else an unconfirmed one will do.
    pub(crate) confirmed_only: bool,
    /// Who begins to take a claim back gives up the permit; else it may still be used.
    pub(crate) take_back_spends: bool,
    /// A key is freed by writing RELEASED; else by deleting the record.
    pub(crate) released_is_written: bool,
    /// "Absent" acts only under the owner's mark that its connection is closed.
    pub(crate) mark_needed: bool,
    /// A swap carries the count last seen and is refused by a store that has counted less.
    pub(crate) counted: bool,
    /// A claim that a re-read finds in place counts as confirmed only once replicas have it.
    pub(crate) reread_replicated: bool,
    /// A store refuses claims of a process with another index secret.
    pub(crate) secret_checked: bool,
    /// A pointer to an absent record is purged no sooner than `remember` after it was written.
    pub(crate) purge_waits: bool,
    /// An owner that came by a pointer sends only if its claim was confirmed within the hour.
    pub(crate) hour: bool,
    /// When who finds a pointer to a claimable record writes it anew before it claims.
    pub(crate) refreshed: Refreshed,
    /// A pointer is replaced only when its record is settled and delivered; else once settled.
    pub(crate) delivered_first: bool,
    /// A key that is one more name of another operation stays so as long as that is remembered;
    /// else its pointer may be deleted at any time.
    pub(crate) names_kept: bool,
    /// Only the record permits; else who wrote the pointer sends, its claim confirmed or not.
    pub(crate) record_permits: bool,
    /// A business pointer is replaced by naming the write that was read before its record; else
    /// by naming whatever write is there by then.
    pub(crate) read_first: bool,
    /// A claim that finds its business key bound is taken back, or becomes a pointer; else left.
    pub(crate) lost_is_retaken: bool,
    /// Who claims a record again writes its business pointer anew; else it is found good enough.
    pub(crate) rewritten: bool,
    /// A pointer whose write was not confirmed permits nothing.
    pub(crate) pointer_confirmed: bool,
    /// That a caller left unanswered is noted before it hears so.
    pub(crate) noted_first: bool,
}

impl Rules {
    /// The protocol as it is built.
    pub(crate) const GOOD: Self = Self {
        tokens: Tokens::Unique,
        fenced: true,
        never_stolen: true,
        confirmed_only: true,
        take_back_spends: true,
        released_is_written: true,
        mark_needed: true,
        counted: true,
        reread_replicated: true,
        secret_checked: true,
        purge_waits: true,
        hour: true,
        refreshed: Refreshed::Always,
        delivered_first: true,
        names_kept: true,
        record_permits: true,
        read_first: true,
        lost_is_retaken: true,
        rewritten: true,
        pointer_confirmed: true,
        noted_first: true,
    };
}

/// How a swap names the write that it replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tokens {
    /// By a token that no other write ever has.
    Unique,
    /// By how many writes the key has had since it last was absent.
    CountPerKey,
    /// By the record's attempt and a count that everybody who writes raises by one.
    SharedCounter,
}

/// When a pointer that was found is written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refreshed {
    Always,
    /// When it was written longer than an hour ago.
    WhenOld,
    Never,
}

/// What a look-up that finds nothing leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// Nothing.
    Hold,
    /// Settled as never applied.
    Fail,
    /// The key is freed.
    Reopen,
}

/// How callers name the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// By one idempotency key.
    Key,
    /// By one key, with processes that do not share the index secret.
    TwoSecrets,
    /// By content alone: a pointer leads to a record under a key drawn at random.
    Content,
    /// By a business key: a pointer leads to the record of whichever caller's own key came first.
    Business,
    /// By keys that change with every try, because nobody was answered: the content pointer of the
    /// first try leads the others to it.
    Orphans,
}

/// What a fail-over of the store may lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failover {
    /// Nothing: there is none.
    Never,
    /// Any writes since the replica last caught up.
    Forgets,
    /// The same, at a moment when every process has seen the newest count.
    ForgetsWhatAllSaw,
    /// Only writes that no confirmed claim has waited for.
    KeepsClaims,
}

/// How often each fault may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Faults {
    /// A process ends and starts again, remembering nothing.
    pub(crate) crashes: u8,
    /// A write is reported unconfirmed and applied later, at any time or never.
    pub(crate) late: u8,
    /// A write is applied and reported unconfirmed.
    pub(crate) lost: u8,
    /// A write is applied, confirmed, and applied again later, at any time or never.
    pub(crate) doubled: u8,
    /// So much time passes that everything written before is past `remember`.
    pub(crate) weeks: u8,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { crashes, late, lost, doubled, weeks } = self;
        write!(f, "crash {crashes} late {late} lost {lost} doubled {doubled} weeks {weeks}")
    }
}

/// Within what a variant is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) processes: usize,
    pub(crate) names: Names,
    pub(crate) faults: Faults,
    pub(crate) failover: Failover,
    pub(crate) absent: Absent,
}
