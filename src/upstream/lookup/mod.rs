//! Look-ups: how a provider is asked what became of an operation, and how its answers are read.
//!
//! [`spec`] is what may be said about a look-up, `compile` how it is checked; `template` renders
//! texts, each encoded for the place where it stands; `names` takes the values that they name from
//! the request; `asking` makes questions, `read` reads answers, `pages`, `time` and [`location`]
//! are what their names say. [`interview`] leads through all of it, question by question. Nothing
//! here does I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::time::Duration;

use self::asking::{Asking, Credentials};
pub use self::interview::{Interview, Step};
use self::names::Name;
use self::pages::Next;
use self::read::{ItemPath, Reading};
use self::template::{Template, Values};
use self::time::Created;
use crate::protocol::key::{IdempotencyKey, RequestView};
use crate::protocol::outcome::AbsentPolicy;

mod asking;
mod compile;
mod interview;
pub mod location;
mod names;
mod pages;
mod read;
pub mod spec;
mod template;
mod time;

/// How long a whole look-up may take, however many questions it has, unless one may take longer.
const PATIENCE_MAX: Duration = Duration::from_secs(60);

/// The values that a route's templates name, by name: taken from the request at the claim.
pub type Inputs = BTreeMap<String, String>;

/// What the inputs say in place of a reference that is drawn from the record's key: its length. No
/// template can have this name.
const DRAWN: &str = "reference drawn";

/// What the inputs say of when the operation was claimed, by the wall clock, in seconds since 1970. No
/// template can have this name.
const CLAIMED: &str = "claimed at";

/// Leaves the reference, if the inputs have one, to be drawn from the record's key: while they are
/// taken nobody knows it yet.
pub fn draw_reference_later(inputs: &mut Inputs, length: usize) {
    if inputs.remove(&Name::Reference.to_string()).is_some() {
        inputs.insert(DRAWN.to_owned(), length.to_string());
    }
}

/// Draws the reference that was left to be drawn.
pub fn draw_reference(inputs: &mut Inputs, draw: impl FnOnce(usize) -> String) {
    if let Some(length) = inputs.remove(DRAWN).and_then(|length| length.parse().ok()) {
        inputs.insert(Name::Reference.to_string(), draw(length));
    }
}

/// What is known of an operation when a look-up is rendered. Shows no values.
#[derive(Clone)]
pub struct Subject {
    /// The sealed values, opened.
    pub inputs: Inputs,
    /// How long ago the operation was claimed.
    pub claimed: Duration,
    /// The wall clock, in seconds since 1970.
    pub now_unix: u64,
    /// What it showed at the claim, if that was noted.
    noted_unix: Option<u64>,
    place: Place,
}

/// What is known of a request beside what it says itself. Shows no values.
#[derive(Clone, Default)]
pub struct Known<'a> {
    /// Its idempotency key.
    pub key: Option<&'a IdempotencyKey>,
    /// The reference that the provider echoes.
    pub reference: Option<&'a str>,
    /// What its path has in the places that the route's pattern names, percent-encoded as it came.
    pub captures: Vec<(&'a str, &'a str)>,
}

/// Where an operation was said to be when it was accepted.
#[derive(Clone, PartialEq, Eq)]
enum Place {
    /// It was not accepted, or without a place.
    Unsaid,
    /// At this path and query of the upstream.
    At(String),
    /// At a place that is not followed, for this reason.
    Refused(String),
}

/// A route's look-up, checked: templates compiled, paths parsed, every name resolvable.
#[derive(Debug)]
pub struct LookUp {
    /// What "absent" leads to.
    pub absent: AbsentPolicy,
    /// How long one question may take.
    pub timeout: Duration,
    /// How large its answer may be, in bytes.
    pub body_max: usize,
    /// `None`: only what was accepted with a `Location` can be asked about.
    asking: Option<Asking>,
    credentials: Credentials,
    /// Statuses that say "not there".
    absent_statuses: Vec<u16>,
    errors: Option<serde_json_path::JsonPath>,
    item: ItemPath,
    next: Option<Next>,
    then: Option<Then>,
    location: Option<ItemPath>,
    created: Option<Created>,
    reading: Reading,
    /// Whether dates decide what is found.
    is_dated: bool,
}

/// The second question, about what the first one found.
#[derive(Debug)]
struct Then {
    asking: Asking,
    item: ItemPath,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("inputs", &self.inputs.keys())
            .field("claimed", &self.claimed)
            .field("now_unix", &self.now_unix)
            .finish()
    }
}

impl fmt::Debug for Known<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").finish_non_exhaustive()
    }
}

impl Subject {
    /// An operation that was claimed this long ago, asked about at this time.
    pub fn new(mut inputs: Inputs, claimed: Duration, now_unix: u64) -> Self {
        let noted_unix = inputs.remove(CLAIMED).and_then(|noted| noted.parse().ok());
        Self { inputs, claimed, now_unix, noted_unix, place: Place::Unsaid }
    }

    /// The same, accepted with a place of its own: path and query, or why that is not followed.
    #[must_use]
    pub fn accepted_at(self, place: Result<String, String>) -> Self {
        Self { place: place.map_or_else(Place::Refused, Place::At), ..self }
    }

    /// When the operation was claimed, in seconds since 1970 by the clock of who asks.
    const fn sent_at_unix(&self) -> u64 {
        self.now_unix.saturating_sub(self.claimed.as_secs())
    }

    /// How long ago it was claimed, at least.
    fn age(&self) -> Duration {
        let by_wall = |noted| Duration::from_secs(self.now_unix.saturating_sub(noted));
        self.noted_unix.map_or(self.claimed, |noted| self.claimed.min(by_wall(noted)))
    }

    /// Whether the age of its record and the wall clock tell the same, as far as can be known.
    fn has_one_age(&self, skew: Duration) -> bool {
        let apart = |noted: u64| noted.abs_diff(self.sent_at_unix()) > skew.as_secs();
        !self.noted_unix.is_some_and(apart)
    }

    const fn values(&self) -> Values<'_> {
        Values { inputs: &self.inputs, sent_at_unix: self.sent_at_unix(), item: None }
    }

    const fn values_with<'a>(&'a self, item: &'a serde_json::Value) -> Values<'a> {
        Values { item: Some(item), ..self.values() }
    }
}

impl LookUp {
    /// Takes from a request what the templates will need, and nothing else.
    ///
    /// # Errors
    /// The name of the first value that the request does not have, or has more than once, or that
    /// is too long.
    pub fn inputs(&self, request: &RequestView<'_>, known: &Known<'_>) -> Result<Inputs, String> {
        let mut inputs = Inputs::new();
        for name in self.names() {
            let value = name.value(request, known).ok_or_else(|| name.to_string())?;
            inputs.insert(name.to_string(), value);
        }
        Ok(inputs)
    }

    /// Notes when the operation is claimed, if time decides what is found: ages come from the store's
    /// clock, which may stand still or be put back, and dates from walls.
    pub fn note_claim(&self, inputs: &mut Inputs, now_unix: u64) {
        if self.is_dated || self.reading.is_provisional() {
            inputs.insert(CLAIMED.to_owned(), now_unix.to_string());
        }
    }

    /// The names of the values that it needs of a request, as they stand in [`Inputs`]: `key`,
    /// `reference`, `body/a/b`, `path/id`.
    pub fn input_names(&self) -> BTreeSet<String> {
        self.names().map(Name::to_string).collect()
    }

    /// Begins to ask what became of an operation.
    pub fn interview<'l>(&'l self, subject: &'l Subject) -> Step<'l> {
        Step::first(self, subject)
    }

    /// Whether it can ask about what was not accepted with a `Location`.
    pub const fn has_question(&self) -> bool {
        self.asking.is_some()
    }

    /// Whether what was accepted with a `Location` is asked for there.
    pub const fn follows_location(&self) -> bool {
        self.location.is_some()
    }

    /// How long a whole look-up may take.
    pub fn patience(&self) -> Duration {
        let pages = self.next.as_ref().map_or(1, |next| next.pages);
        let questions = pages.saturating_add(u32::from(self.then.is_some()));
        self.timeout.saturating_mul(questions).min(PATIENCE_MAX).max(self.timeout)
    }

    /// What it asks, in words, with the templates as they were written.
    pub fn words(&self) -> String {
        let mut words = String::new();
        // Writing to a string cannot fail.
        if let Some(asking) = &self.asking {
            let _ = write!(words, "{} {}", asking.method(), asking.path.source());
        }
        if let Some(next) = &self.next {
            let _ = write!(words, ", up to {} pages", next.pages);
        }
        if let Some(then) = &self.then {
            let asking = &then.asking;
            let _ = write!(words, ", then {} {}", asking.method(), asking.path.source());
        }
        match (&self.location, &self.asking) {
            (None, _) => {}
            (Some(_), None) => words.push_str("only what was accepted, at its Location"),
            (Some(_), Some(_)) => words.push_str("; what was accepted, at its Location"),
        }
        words
    }

    /// By how much the clocks may differ.
    fn skew(&self) -> Duration {
        self.created.as_ref().map_or(spec::SKEW, |created| created.skew)
    }

    /// Whether time decides what is found of an operation that was accepted there, or not at all. At
    /// its own place it is the one, whatever its date.
    fn goes_by_time(&self, place: &Place) -> bool {
        let is_located = self.follows_location() && *place != Place::Unsaid;
        (self.is_dated && !is_located) || self.reading.is_provisional()
    }

    /// Whether a template names the reference that the provider echoes.
    pub fn names_the_reference(&self) -> bool {
        self.names().any(|name| *name == Name::Reference)
    }

    fn names(&self) -> impl Iterator<Item = &Name> {
        self.templates().flat_map(Template::names)
    }

    fn templates(&self) -> impl Iterator<Item = &Template> {
        let then = self.then.as_ref();
        let asked = self.asking.iter().chain(then.map(|then| &then.asking));
        let items = [Some(&self.item), then.map(|then| &then.item), self.location.as_ref()];
        asked
            .flat_map(Asking::templates)
            .chain(items.into_iter().flatten().filter_map(ItemPath::template))
            .chain(self.reading.templates())
    }
}

#[cfg(test)]
mod tests;
