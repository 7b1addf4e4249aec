//! What is to go wrong next, and what was asked of the provider so far.
//!
//! Must not know sockets or the ledger. Asked by `api` for every payment and look-up.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::modes::{ModeError, Modes, Target, Wrongs};

/// How many orders for wrongs may wait at a time, per kind of request.
const QUEUE_MAX: usize = 1000;
/// How long a spell may last.
const SPELL_MAX: Duration = Duration::from_secs(24 * 3600);
/// How many paths, references and keys are counted one by one.
const PATHS_MAX: usize = 1000;
const NAMES_MAX: usize = 1_000_000;

/// Why a wrong was not noted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PracticeError {
    /// The modes make no sense.
    #[error(transparent)]
    Mode(#[from] ModeError),
    /// Too many wait already, or the spell is too long.
    #[error("at most {QUEUE_MAX} orders wait, and a spell lasts at most 24 h")]
    TooMuch,
}

/// Wrongs that were asked for, and counts of what came.
#[derive(Default)]
pub struct Practice {
    wanted: Mutex<[Wanted; 2]>,
    seen: Mutex<Seen>,
    turns: AtomicU64,
    connections: AtomicU64,
    idempotent: AtomicBool,
}

/// What was asked for, for payments or for look-ups.
#[derive(Default)]
struct Wanted {
    next: VecDeque<(Modes, u64)>,
    spell: Option<(Modes, Instant)>,
}

/// The requests that came, whatever became of them.
#[derive(Default)]
struct Seen {
    paths: BTreeMap<String, u64>,
    references: HashMap<String, u64>,
    keys: HashMap<String, u64>,
}

impl Practice {
    /// Lets the next `count` payments, or look-ups for modes with `lookup-`, go wrong.
    ///
    /// # Errors
    /// If there are no such modes, or too many orders wait.
    pub fn next(&self, modes: &str, count: u64) -> Result<(), PracticeError> {
        let mut modes = Modes::parse(modes)?;
        if self.becomes_idempotent(&mut modes) {
            return Ok(());
        }
        let next = &mut self.wanted()[modes.target as usize].next;
        if next.len() == QUEUE_MAX {
            return Err(PracticeError::TooMuch);
        }
        if count > 0 {
            next.push_back((modes, count));
        }
        Ok(())
    }

    /// Lets all payments, or look-ups for modes with `lookup-`, go wrong for a while; replaces the
    /// last such spell.
    ///
    /// # Errors
    /// If there are no such modes, or it would last too long.
    pub fn spell(&self, modes: &str, duration: Duration) -> Result<(), PracticeError> {
        let mut modes = Modes::parse(modes)?;
        if self.becomes_idempotent(&mut modes) {
            return Ok(());
        }
        if duration > SPELL_MAX {
            return Err(PracticeError::TooMuch);
        }
        let target = modes.target as usize;
        self.wanted()[target].spell = Some((modes, Instant::now() + duration));
        Ok(())
    }

    /// Forgets all wrongs and counts. The ledger stays: it is never shortened.
    pub fn reset(&self) {
        *self.wanted() = Default::default();
        *self.seen() = Seen::default();
        self.connections.store(0, Ordering::Relaxed);
        self.idempotent.store(false, Ordering::Relaxed);
    }

    /// Whether a key that came before gets its first answer.
    pub fn is_idempotent(&self) -> bool {
        self.idempotent.load(Ordering::Relaxed)
    }

    /// Takes `idempotent`, which lasts until a reset, out of the modes; says whether that was all.
    pub(super) fn becomes_idempotent(&self, modes: &mut Modes) -> bool {
        let idempotent = modes.take_idempotent();
        if idempotent {
            self.idempotent.store(true, Ordering::Relaxed);
        }
        idempotent && modes.is_empty()
    }

    /// How many requests came that were meant to commit something under that idempotency key.
    pub fn requests_with_key(&self, key: &str) -> u64 {
        self.seen().keys.get(key).copied().unwrap_or(0)
    }

    /// How many requests came that were meant to commit something under that reference.
    pub fn requests_with_reference(&self, reference: &str) -> u64 {
        self.seen().references.get(reference).copied().unwrap_or(0)
    }

    /// How many requests came, by `METHOD path`; ids and references in paths are left out.
    pub fn requests(&self) -> BTreeMap<String, u64> {
        self.seen().paths.clone()
    }

    /// How many connections were opened.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn count_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_request(&self, path: &str) {
        count(&mut self.seen().paths, path);
    }

    pub(super) fn count_names(&self, reference: Option<&str>, key: Option<&str>) {
        let Seen { references, keys, .. } = &mut *self.seen();
        for (counts, name) in [(references, reference), (keys, key)] {
            let Some(name) = name else { continue };
            if let Some(count) = counts.get_mut(name) {
                *count += 1;
            } else if counts.len() < NAMES_MAX {
                counts.insert(name.to_owned(), 1);
            }
        }
    }

    /// What goes wrong with this request: what it asks for itself, else what waits for the next
    /// one, else what the spell says.
    pub(super) fn wrongs(&self, target: Target, own: Option<&Modes>) -> Wrongs {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        if let Some(own) = own {
            return own.wrongs(turn);
        }
        let Wanted { next, spell } = &mut self.wanted()[target as usize];
        if let Some((modes, left)) = next.front_mut() {
            let wrongs = modes.wrongs(turn);
            *left -= 1;
            if *left == 0 {
                next.pop_front();
            }
            return wrongs;
        }
        match spell {
            Some((modes, until)) if Instant::now() < *until => modes.wrongs(turn),
            Some(_) | None => Wrongs::default(),
        }
    }

    // Nothing that is done under these locks can panic half-way.
    fn wanted(&self) -> MutexGuard<'_, [Wanted; 2]> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Practice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Practice").finish_non_exhaustive()
    }
}

fn count(paths: &mut BTreeMap<String, u64>, path: &str) {
    const OTHERS: &str = "others";
    let path = if paths.contains_key(path) || paths.len() < PATHS_MAX { path } else { OTHERS };
    if let Some(count) = paths.get_mut(path) {
        *count += 1;
    } else {
        paths.insert(path.to_owned(), 1);
    }
}
