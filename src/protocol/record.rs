//! What is remembered of an operation, and the form it has in a store.
//!
//! A record holds *ages*, never dates: how long ago things were, at the moment it was written.
//! [`Entry::read`] adds the age that the store reports, so that everything above sees ages as of
//! now and no two machines' clocks are ever compared.

use std::time::Duration;

use bytes::Bytes;
use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize, Serializer};

use super::fingerprint::Fingerprint;
use super::id::{AttemptId, OperationId, ProcessId, RecordKey};
use super::key::KeyTag;
use super::outcome::UnknownReason;
use super::seal::Sealed;

/// Version of the wire form. A process refuses any other: unreadable is an error, never "absent".
const WIRE_VERSION: u8 = 2;

/// Room for most entries: a record in flight has about 250 bytes.
const ENTRY_BYTES_USUAL: usize = 512;

/// How many timeline entries a record keeps; the first and the newest stay.
pub const TIMELINE_MAX: usize = 32;

/// How long ago something was: at the time of writing in a store, as of now once read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Ago(u64);

impl Ago {
    /// Just now.
    pub const NOW: Self = Self(0);

    /// So long ago. Kept in whole milliseconds, rounded down.
    pub fn new(age: Duration) -> Self {
        Self(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
    }

    /// The age.
    pub const fn age(self) -> Duration {
        Duration::from_millis(self.0)
    }

    fn advance(&mut self, by: Duration) {
        self.0 = self.0.saturating_add(Self::new(by).0);
    }
}

/// What a store may hold under a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// An operation: the permit, and later its outcome.
    Record(Box<Record>),
    /// Another name of an operation, which leads to its record.
    Pointer(Pointer),
}

/// A name that leads to a record. It permits nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// The record it leads to.
    pub to: RecordKey,
    /// How long ago it was written.
    pub written: Ago,
    /// How long the record it leads to is remembered; purging the pointer waits as long.
    pub remember: Duration,
    /// What it is a name for.
    pub kind: PointerKind,
}

/// What leads to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PointerKind {
    /// The content of requests.
    Content,
    /// A business key.
    Business,
    /// A further idempotency key of an operation that was recognised under another name.
    Key,
}

/// By what a request was recognised as one that came before under another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Recognised {
    /// Its business key is bound to that operation.
    BusinessKey,
    /// Its content is that of an operation whose caller left unanswered.
    Orphan,
}

impl Recognised {
    /// As metrics, the API and the documentation spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BusinessKey => "business-key",
            Self::Orphan => "orphan",
        }
    }
}

/// How an operation was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// By a key that the caller sent.
    Key,
    /// By content alone: the pointer at this key leads to the record.
    Content(RecordKey),
    /// By a key that is a further name of it: the pointer at this key leads to the record. What was
    /// sent carries that key, not the record's own.
    Further(RecordKey),
}

/// What was agreed when the operation was claimed. Every process keeps to it, whatever its own
/// configuration says by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// How long the owner may be silent before the operation is in doubt.
    pub lease: Duration,
    /// How long the owner's upstream call may last.
    pub upstream_timeout: Duration,
    /// How long a settled answer is kept, from settlement.
    pub retention: Duration,
    /// How long its tombstone stays after that.
    pub remember: Duration,
    /// How long identical content still finds a settled, delivered operation.
    pub window: Duration,
    /// How long its business key is bound to it after it succeeded.
    pub bound: Duration,
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The claim that this record belongs to.
    pub attempt: AttemptId,
    /// The process that made it, or last sent its request again.
    pub process: ProcessId,
    /// The route's name, by which look-ups and metrics find their settings.
    pub route: String,
    /// What a duplicate must match.
    pub fingerprint: Fingerprint,
    /// How it was recognised.
    pub identity: Identity,
    /// What the caller's key, if it had one, is found by.
    pub key_tag: Option<KeyTag>,
    /// Where the pointer of its business key is, if it has one.
    pub business: Option<RecordKey>,
    /// What was agreed.
    pub terms: Terms,
    /// The values that the route's look-up templates name, and nothing else of the request.
    pub inputs: Option<Sealed>,
    /// When it was claimed.
    pub claimed: Ago,
    /// When its key was first claimed, as far as that is remembered: earlier, if an earlier claim was
    /// released. The provider may have known the key since then.
    pub first_claimed: Ago,
    /// When the owner last gave a sign of life.
    pub renewed: Ago,
    /// When the present state began.
    pub entered: Ago,
    /// What is known.
    pub state: State,
    /// Who was told, for operations that are known by content alone.
    pub delivery: Delivery,
    /// What happened, oldest first.
    pub timeline: Vec<Event>,
}

/// What is known of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Claimed; may have been sent.
    InFlight,
    /// The provider has it and is still working.
    Accepted {
        /// The provider's answer that said so; `None`: a look-up said so.
        reply: Option<Sealed>,
        /// Look-ups so far.
        looked: u32,
        /// How many of the last ones in a row did not find it.
        absent: u32,
        /// How long the provider asked to be left alone first.
        after: Option<Duration>,
    },
    /// May have been sent, and nobody knows whether it took effect.
    InDoubt {
        /// Why.
        why: Doubt,
        /// The owner's own mark that its connection is closed: it can send nothing any more. (On a
        /// store that only one process has, its successor's.)
        closed: Option<Ago>,
        /// Look-ups so far.
        looked: u32,
        /// How many of the last ones in a row, since that mark, did not find it.
        absent: u32,
    },
    /// The outcome is on record for good.
    Settled(Settlement),
    /// Certainly not applied; the key may be claimed again.
    Released {
        /// On what ground.
        why: Release,
        /// The upstream's answer, for those who were waiting.
        reply: Option<Sealed>,
    },
}

/// The final outcome of an operation. Never changes, but for what is kept of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// Who settled it.
    pub by: SettledBy,
    /// The answer's status.
    pub status: u16,
    /// The answer; `None` if it was too large, or retention is over.
    pub reply: Option<Sealed>,
}

/// Who was told the outcome, for operations that are known by content alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Delivery {
    /// When the caller had arrived who, of all that left unanswered, arrived last.
    pub left: Option<Ago>,
    /// When the caller had arrived who, of all that got the whole answer, arrived last.
    pub answered: Option<Ago>,
    /// When that answer was complete.
    pub completed: Option<Ago>,
}

impl Delivery {
    /// Whether the answer was written whole to a caller that had come after the last one that left
    /// without one. The age of that delivery, if so.
    pub fn done(&self) -> Option<Duration> {
        let answered = self.answered?;
        let later = self.left.is_none_or(|left| answered < left);
        if later { self.completed.map(Ago::age) } else { None }
    }

    /// Adds what another process, or a later moment, knows.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let newest = |a: Option<Ago>, b: Option<Ago>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self {
            left: newest(self.left, other.left),
            answered: newest(self.answered, other.answered),
            completed: newest(self.completed, other.completed),
        }
    }

    /// Lets time pass: every age grows by `by`.
    pub fn advance(&mut self, by: Duration) {
        for ago in [&mut self.left, &mut self.answered, &mut self.completed].into_iter().flatten() {
            ago.advance(by);
        }
    }
}

/// Who settled an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SettledBy {
    /// Its owner, by the upstream's own answer.
    Answer,
    /// A look-up.
    LookUp,
    /// A person.
    Operator,
}

/// Why an operation is in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Doubt {
    /// Its owner saw something that proves nothing.
    Unknown(UnknownReason),
    /// Its owner has not renewed its lease.
    OwnerSilent,
    /// Its owner's process ended before an answer came.
    Drained,
    /// A look-up of an accepted operation lost its track.
    TrackLost,
}

/// Why a key was freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Release {
    /// Its owner never sent: the upstream was not reached.
    NotSent,
    /// Its owner took the claim back unused (shutdown, store trouble, overload).
    TakenBack,
    /// The upstream's answer says that it did nothing.
    NotApplied,
    /// A person decided.
    Operator,
    /// It was looked up and not there, for long and often enough.
    Absent,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Ago,
    /// What.
    pub what: Happening,
}

/// The kinds of things that happen to an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Happening {
    /// A caller's request became its owner.
    Claimed,
    /// The first byte was offered to the connection.
    FirstByte,
    /// The upstream answered.
    Answered {
        /// Its status.
        status: u16,
        /// Its own name for the request (`request-id` and the like), shortened.
        request_id: Option<String>,
    },
    /// The provider said that it is working on it.
    Accepted,
    /// It came to be in doubt.
    Doubted(Doubt),
    /// The provider was asked.
    LookedUp(Looked),
    /// The same request was sent again under the same key, to hear its answer.
    Resent,
    /// Its outcome was recorded.
    Settled(SettledBy),
    /// Its key was freed.
    Released(Release),
    /// A request under another key was recognised as this operation; that key leads here now.
    Joined(Recognised),
    /// A person did something, and said why.
    Operator {
        /// What, in a word.
        action: String,
        /// The reason given.
        reason: String,
    },
    /// So many events in between were dropped.
    Elided(u32),
}

/// What a look-up came to, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Looked {
    /// Found, and final.
    Final,
    /// Found, still working.
    Accepted,
    /// Not found. Proves nothing.
    Absent,
    /// An answer that no rule explains.
    Unclear,
    /// No answer.
    Failed,
}

impl Looked {
    /// As metrics, the API and the documentation spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::Accepted => "accepted",
            Self::Absent => "absent",
            Self::Unclear => "unclear",
            Self::Failed => "failed",
        }
    }
}

/// An answer as it is stored and replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// End-to-end headers, in order.
    #[serde(serialize_with = "whole_values")]
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Bytes,
}

/// Writes headers as they would be anyway, with values in one piece instead of byte by byte.
fn whole_values<S: Serializer>(
    headers: &[(String, Vec<u8>)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    struct Whole<'a>(&'a [u8]);
    impl Serialize for Whole<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }
    serializer.collect_seq(headers.iter().map(|(name, value)| (name, Whole(value))))
}

/// Bytes in a store that are not an entry that this version understands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Written by a later (or much earlier) version.
    #[error("a record of wire version {0}, which this version of semel does not read")]
    Version(u8),
    /// Damaged.
    #[error("a record that is damaged")]
    Damaged,
}

/// An entry with a record that stays where it is.
#[derive(Serialize)]
enum EntryOf<'a> {
    // In the same place as in `Entry`, so that it encodes alike.
    Record(&'a Record),
}

/// A vector that has begun already. (Postcard's own are empty at first, or slow for single bytes, of
/// which names and digests are written.)
struct Grown(Vec<u8>);

impl Flavor for Grown {
    type Output = Vec<u8>;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Self::Output> {
        Ok(self.0)
    }
}

fn encoded(entry: &impl Serialize) -> Bytes {
    let mut bytes = Vec::with_capacity(ENTRY_BYTES_USUAL);
    bytes.push(WIRE_VERSION);
    // Serialising plain data into memory has no way to fail.
    let mut bytes = postcard::serialize_with_flavor(entry, Grown(bytes)).unwrap_or_default();
    assert!(bytes.len() > 1, "an entry encodes to something");
    // Stores and caches may keep it for long.
    bytes.shrink_to_fit();
    bytes.into()
}

impl Entry {
    /// The form that a store keeps.
    pub fn encode(&self) -> Bytes {
        encoded(self)
    }

    /// Reads what a store kept, and brings its ages up to now.
    ///
    /// # Errors
    /// [`Unreadable`], which must never be taken for "absent".
    pub fn read(bytes: &[u8], age: Duration) -> Result<Self, Unreadable> {
        let (&version, rest) = bytes.split_first().ok_or(Unreadable::Damaged)?;
        if version != WIRE_VERSION {
            return Err(Unreadable::Version(version));
        }
        let (mut entry, rest): (Self, _) =
            postcard::take_from_bytes(rest).map_err(|_| Unreadable::Damaged)?;
        if !rest.is_empty() {
            return Err(Unreadable::Damaged);
        }
        match &mut entry {
            Self::Record(record) => record.advance(age),
            Self::Pointer(pointer) => pointer.written.advance(age),
        }
        Ok(entry)
    }
}

impl Record {
    /// The form that a store keeps of it: the same as of an [`Entry`] with this record.
    pub fn encode(&self) -> Bytes {
        encoded(&EntryOf::Record(self))
    }

    /// Its public name.
    pub fn operation(&self, key: RecordKey) -> OperationId {
        OperationId { key, attempt: self.attempt }
    }

    /// Adds to the timeline; in a full one the second oldest entries give way to their count.
    pub fn note(&mut self, what: Happening) {
        self.note_ago(what, Ago::NOW);
    }

    /// Adds something that happened a while ago.
    pub fn note_ago(&mut self, what: Happening, at: Ago) {
        if self.timeline.len() >= TIMELINE_MAX {
            // The claim stays first; what followed it is counted and dropped. The count needs a place
            // itself, so that the first time two give way.
            self.timeline.remove(2);
            let second = &mut self.timeline[1].what;
            let elided = if let Happening::Elided(count) = second { *count } else { 1 };
            *second = Happening::Elided(elided.saturating_add(1));
        }
        self.timeline.push(Event { at, what });
    }

    /// Puts the record into another state, as of now.
    pub fn enter(&mut self, state: State) {
        self.state = state;
        self.entered = Ago::NOW;
    }

    /// Lets time pass: every age grows by `by`.
    pub fn advance(&mut self, by: Duration) {
        self.claimed.advance(by);
        self.first_claimed.advance(by);
        self.renewed.advance(by);
        self.entered.advance(by);
        self.delivery.advance(by);
        for event in &mut self.timeline {
            event.at.advance(by);
        }
        match &mut self.state {
            State::InDoubt { closed: Some(closed), .. } => closed.advance(by),
            State::InFlight
            | State::Accepted { .. }
            | State::InDoubt { closed: None, .. }
            | State::Settled(_)
            | State::Released { .. } => {}
        }
    }
}

impl State {
    /// Its name, as metrics, the API and the documentation spell it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::InFlight => "in-flight",
            Self::Accepted { .. } => "accepted",
            Self::InDoubt { .. } => "in-doubt",
            Self::Settled(_) => "settled",
            Self::Released { .. } => "released",
        }
    }
}

#[cfg(test)]
mod tests;
