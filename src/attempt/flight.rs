//! Where callers of one operation meet its owner: what is known here and now, and who wants it.
//!
//! A flight is a convenience of one process. Whether anything may be sent is decided by the record
//! alone; a flight only spares those who wait the way to the store.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use http::response;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::leaving::Leavings;
use super::spare::Spares;
use crate::ledger::View;
use crate::protocol::fingerprint::Fingerprint;
use crate::protocol::id::{OperationId, RecordKey};
use crate::protocol::outcome::{Meaning, UnknownReason};
use crate::protocol::record::{Ago, Delivery, Reply};

/// How many operations may ask for an early look-up before further wishes are dropped.
const WISHES_MAX: usize = 1024;

/// The flights of one process.
#[derive(Debug)]
pub struct Flights {
    map: Mutex<Map>,
    spares: Spares,
    leavings: Arc<Leavings>,
    wishes: mpsc::Sender<OperationId>,
}

/// Flights by operation, and those that an attempt of this process owns by what was asked for.
#[derive(Debug, Default)]
struct Map {
    flights: HashMap<OperationId, Weak<Flight>>,
    asked: HashMap<RecordKey, Weak<Flight>>,
}

/// What an attempt of this process was asked for, by which its duplicates are known here.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Its record's key, or the pointer's.
    pub key: RecordKey,
    /// What a duplicate must match.
    pub fingerprint: Fingerprint,
}

/// What is known of a flight.
#[derive(Debug, Clone)]
pub enum Stage {
    /// The upstream call is under way (here, or in another process).
    Flying,
    /// The answer is too large to keep, and is streamed to the first caller.
    Streaming,
    /// It has ended, or someone has found out.
    Known {
        /// What can be told.
        view: View,
        /// The complete answer that proved nothing, if that is why it is in doubt.
        unproven: Option<Arc<Reply>>,
        /// Since when this is known here.
        at: Instant,
    },
}

/// An answer that is handed through while it comes in.
#[derive(Debug)]
pub struct Streamed {
    /// Its head.
    pub head: response::Parts,
    /// What answers of this status mean on this route.
    pub meaning: Meaning,
    /// Its body. Only [`Chunk::End`] says that it was whole: an attempt that ends without a word
    /// (cut, overtaken, panicked) leaves the channel closed, which must not look like an end.
    pub body: mpsc::Receiver<Chunk>,
}

/// A part of an answer that is handed through.
#[derive(Debug)]
pub enum Chunk {
    /// So much of its body.
    Data(Bytes),
    /// It was whole.
    End,
    /// It broke off.
    Broken(UnknownReason),
}

/// Where a streamed answer is.
#[derive(Debug, Default)]
enum Stream {
    /// Its caller is there; none has come so far, or it has been taken.
    #[default]
    Awaited,
    /// It waits for its caller.
    Here(Streamed),
    /// Its caller has left.
    Unwanted,
}

/// The first caller's place. Given up, nobody waits for a streamed answer any more, and the attempt
/// need not hold it for anybody.
#[derive(Debug)]
pub struct Seat(Arc<Flight>);

impl Seat {
    /// Takes the place.
    pub const fn take(flight: Arc<Flight>) -> Self {
        Self(flight)
    }

    /// What it waits for.
    pub const fn flight(&self) -> &Arc<Flight> {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let before = std::mem::replace(&mut *self.0.stream_slot(), Stream::Unwanted);
        // Out of the lock: its sender is woken.
        drop(before);
    }
}

/// One operation, as this process sees it.
#[derive(Debug)]
pub struct Flight {
    operation: OperationId,
    stage: watch::Sender<Stage>,
    /// Changed only together with `stage`, under its lock.
    owned: AtomicBool,
    asked: OnceLock<Asked>,
    /// Held by the one who polls the store on behalf of all who wait here.
    pub(crate) polling: tokio::sync::Mutex<()>,
    streamed: Mutex<Stream>,
    told: Mutex<Told>,
    /// How much of `told` is on record; held by the one who writes it there.
    pub(crate) noted: tokio::sync::Mutex<u64>,
    home: Weak<Flights>,
}

/// Who of the callers here got the whole answer, and who left without.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    left: Option<Instant>,
    answered: Option<(Instant, Instant)>,
    /// How often this has changed.
    changes: u64,
}

impl Flights {
    /// None yet. What is received is wished to be looked up soon.
    pub fn new() -> (Arc<Self>, mpsc::Receiver<OperationId>) {
        let (wishes, wished) = mpsc::channel(WISHES_MAX);
        let (map, spares, leavings) = Default::default();
        (Arc::new(Self { map, spares, leavings, wishes }), wished)
    }

    /// The flight of an operation, if somebody holds it.
    pub fn here(&self, operation: OperationId) -> Option<Arc<Flight>> {
        self.map().flights.get(&operation).and_then(Weak::upgrade)
    }

    /// The flight of an operation; there is one as long as somebody holds it.
    pub fn join(self: &Arc<Self>, operation: OperationId) -> Arc<Flight> {
        let mut map = self.map();
        if let Some(flight) = map.flights.get(&operation).and_then(Weak::upgrade) {
            return flight;
        }
        let flight = Arc::new(Flight {
            operation,
            stage: watch::Sender::new(Stage::Flying),
            owned: AtomicBool::new(false),
            asked: OnceLock::new(),
            polling: tokio::sync::Mutex::default(),
            streamed: Mutex::default(),
            told: Mutex::default(),
            noted: tokio::sync::Mutex::default(),
            home: Arc::downgrade(self),
        });
        map.flights.insert(operation, Arc::downgrade(&flight));
        flight
    }

    /// Joins as the owner, under the name by which duplicates ask for it.
    pub(super) fn lead(self: &Arc<Self>, operation: OperationId, asked: Asked) -> Arc<Flight> {
        let flight = self.join(operation);
        flight.stage.send_modify(|_| flight.owned.store(true, Ordering::Release));
        // Set once: an operation is claimed once.
        let _ = flight.asked.set(asked);
        self.map().asked.insert(asked.key, Arc::downgrade(&flight));
        flight
    }

    /// The flight that an attempt of this process owns, or owned just now, under that name.
    pub fn asked(&self, key: RecordKey) -> Option<Arc<Flight>> {
        self.map().asked.get(&key).and_then(Weak::upgrade)
    }

    /// Requests that may have to be sent again.
    pub const fn spares(&self) -> &Spares {
        &self.spares
    }

    /// Callers that have left, while that is put on record.
    pub const fn leavings(&self) -> &Arc<Leavings> {
        &self.leavings
    }

    /// Tells those who wait here, if anybody does.
    pub fn publish(&self, view: View) {
        match &view {
            View::Settled(_) | View::Released(_) | View::Accepted(_) => {
                self.spares.discard(view.operation());
            }
            View::InFlight(_) | View::InDoubt(_) => {}
        }
        if let Some(flight) = self.here(view.operation()) {
            flight.publish(view);
        }
    }

    /// Asks for an early look-up. Dropped if too many do: the agenda brings it up anyway.
    pub fn wish(&self, operation: OperationId) {
        let _ = self.wishes.try_send(operation);
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stage {
    /// Takes in what is news. What is settled or released stays so; what is settled and not yet
    /// recorded gives way to what is.
    fn learn(&mut self, view: View, unproven: Option<Arc<Reply>>) -> bool {
        let is_news = match (&*self, &view) {
            (_, View::InFlight(_)) | (Self::Known { view: View::Released(_), .. }, _) => false,
            (Self::Known { view: View::Settled(known), .. }, View::Settled(_)) => !known.recorded(),
            (Self::Known { view: View::Settled(_), .. }, _) => false,
            (Self::Known { view: View::InDoubt(_), .. }, View::InDoubt(_)) => unproven.is_some(),
            (Self::Flying | Self::Streaming | Self::Known { .. }, _) => true,
        };
        if is_news {
            *self = Self::Known { view, unproven, at: Instant::now() };
        }
        is_news
    }
}

impl Flight {
    /// Which operation.
    pub const fn operation(&self) -> OperationId {
        self.operation
    }

    /// Watches what is known.
    pub fn watch(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Whether an attempt of this process will publish, so that nobody need ask the store.
    pub fn is_owned(&self) -> bool {
        self.owned.load(Ordering::Acquire)
    }

    /// What its attempt was asked for, if that is one of this process.
    pub fn asked(&self) -> Option<&Asked> {
        self.asked.get()
    }

    /// What is known now.
    pub fn stage(&self) -> Stage {
        self.stage.borrow().clone()
    }

    /// Tells those who wait what somebody has found out. While the attempt is at work here, its own
    /// word counts: that others doubt it, because its lease was renewed late, is no news.
    pub fn publish(&self, view: View) {
        self.stage.send_if_modified(|stage| {
            let is_over = matches!(view, View::Settled(_) | View::Released(_));
            (is_over || !self.is_owned()) && stage.learn(view, None)
        });
    }

    /// The owner's word. `owned`: it goes on, and will tell more.
    pub(super) fn conclude(&self, view: View, unproven: Option<Arc<Reply>>, owned: bool) {
        self.stage.send_modify(|stage| {
            self.owned.store(owned, Ordering::Release);
            stage.learn(view, unproven);
        });
    }

    /// The owner is gone. Those who wait are woken, to ask the store from now on.
    pub(super) fn leave(&self) {
        self.stage.send_if_modified(|_| self.owned.swap(false, Ordering::AcqRel));
    }

    pub(super) fn stream(&self, streamed: Streamed) {
        {
            let mut slot = self.stream_slot();
            if matches!(*slot, Stream::Awaited) {
                *slot = Stream::Here(streamed);
            }
        }
        self.stage.send_replace(Stage::Streaming);
    }

    /// Takes the streamed answer; there is one for one caller.
    pub fn take_stream(&self) -> Option<Streamed> {
        let mut slot = self.stream_slot();
        match std::mem::take(&mut *slot) {
            Stream::Here(streamed) => Some(streamed),
            before @ (Stream::Awaited | Stream::Unwanted) => {
                *slot = before;
                None
            }
        }
    }

    fn stream_slot(&self) -> MutexGuard<'_, Stream> {
        self.streamed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the whole answer was written to a caller that had come at `arrived`.
    pub fn answered(&self, arrived: Instant) {
        let mut told = self.told();
        if told.answered.is_none_or(|(before, _)| before <= arrived) {
            told.answered = Some((arrived, Instant::now()));
        }
        told.changes += 1;
    }

    /// Notes that a caller that had come at `arrived` left without the whole answer.
    pub fn left(&self, arrived: Instant) {
        let mut told = self.told();
        told.left = told.left.max(Some(arrived));
        told.changes += 1;
    }

    /// Who was told here, as ages, and how often that has changed so far.
    pub fn delivery(&self) -> (Delivery, u64) {
        let told = *self.told();
        let now = Instant::now();
        let ago = |instant: Instant| Ago::new(now.duration_since(instant));
        let delivery = Delivery {
            left: told.left.map(ago),
            answered: told.answered.map(|(arrived, _)| ago(arrived)),
            completed: told.answered.map(|(_, done)| ago(done)),
        };
        (delivery, told.changes)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let Some(home) = self.home.upgrade() else { return };
        let mut map = home.map();
        // Another flight of the same operation may have been made since the last holder let go.
        if map.flights.get(&self.operation).is_some_and(|weak| weak.strong_count() == 0) {
            map.flights.remove(&self.operation);
        }
        let Some(asked) = self.asked.get() else { return };
        if map.asked.get(&asked.key).is_some_and(|weak| weak.strong_count() == 0) {
            map.asked.remove(&asked.key);
        }
    }
}
