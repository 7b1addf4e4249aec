//! Putting on record what became of an operation, whatever the store is doing at the moment.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::views::{Accepted, InDoubt, Released, Settled, View};
use super::{Found, Ledger, PART_REPLY, PENDING_BYTES_MAX, ReadError, SWAP_ROUNDS_MAX};
use crate::entropy;
use crate::protocol::attempt::{Held, Unspent};
use crate::protocol::id::{OperationId, RecordKey};
use crate::protocol::invariants;
use crate::protocol::outcome::retry_after;
use crate::protocol::record::{
    Ago, Delivery, Doubt, Happening, Looked, Record, Release, Reply, SettledBy, Settlement, State,
};
use crate::protocol::resend::{last_resend, may_have_been_resent};
use crate::protocol::seal::Sealed;
use crate::store::{Purpose, Refusal, StoreError, Stored, Swapped};

/// What is to be put on record.
#[derive(Debug, Clone)]
pub enum Change {
    /// The outcome, for good.
    Settle {
        /// Who knows it.
        by: SettledBy,
        /// The answer's status.
        status: u16,
        /// The answer, unless it is too large to keep.
        reply: Option<Arc<Reply>>,
        /// Who was told already, or left.
        delivery: Delivery,
    },
    /// That it was certainly not applied.
    Release {
        /// On what ground.
        why: Release,
        /// The upstream's answer that said so.
        reply: Option<Arc<Reply>>,
    },
    /// That the provider has it and works on it.
    Accept {
        /// The upstream's answer that said so.
        reply: Option<Arc<Reply>>,
    },
    /// That nobody knows.
    Doubt {
        /// Why.
        why: Doubt,
        /// Whether the owner says that its connection is closed for good.
        closed: bool,
    },
    /// That a look-up settled nothing.
    Looked(Looked),
    /// That sending again settled nothing.
    Resent {
        /// What it came to.
        looked: Looked,
        /// Whether all connections are known to be closed for good, as they were before.
        closed: bool,
    },
}

/// How putting something on record ended.
#[derive(Debug)]
pub enum Concluded {
    /// It is on record, and this is what can be told. (If somebody else had settled the operation
    /// before its owner, it is what they settled.)
    Recorded(View),
    /// The store cannot take it now. This can be told, marked; recording must go on.
    NotYet(View, Pending),
    /// The record has gone another way: reopened and claimed anew, or changed under a hand that is
    /// not its owner's. Nothing was written.
    Overtaken(View),
}

/// Something that the store could not take yet. Its bytes count against a bound.
#[derive(Debug)]
#[must_use = "what is not on record must go on being recorded"]
pub struct Pending {
    held: Held,
    change: Change,
    /// What led to it, if that is not in the hand already.
    note: Option<Happening>,
    /// The record was lost by the store; its owner puts it back.
    vanished: bool,
}

enum Round {
    Done,
    Again,
    Over(Held),
    /// The claim has become a pointer to another operation: it was never sent.
    Led,
    Failed,
}

impl Ledger {
    /// Puts a change on record.
    ///
    /// Owners insist: a record that somebody put in doubt meanwhile, or that the store has lost, is
    /// written all the same. Anybody else gives way to whatever changed what is known of it.
    ///
    /// # Cancel safety
    /// Dropping the future leaves open whether the change is on record.
    pub fn conclude(&self, held: Held, change: Change) -> impl Future<Output = Concluded> + Send {
        self.conclude_noting(held, None, change)
    }

    /// The same, which notes first what led to it.
    ///
    /// # Cancel safety
    /// As for [`Self::conclude`].
    pub fn conclude_noting(
        &self,
        held: Held,
        note: Option<Happening>,
        change: Change,
    ) -> impl Future<Output = Concluded> + Send {
        self.retry(Pending { held, change, note, vanished: false })
    }

    /// Takes an unused claim back, and sees to it that the claim cannot arrive later.
    pub async fn take_back(&self, unspent: Unspent, why: Release) -> Concluded {
        self.conclude(unspent.into_held(), Change::Release { why, reply: None }).await
    }

    /// Tries once more to record what the store could not take.
    pub async fn retry(&self, mut pending: Pending) -> Concluded {
        for _ in 0..SWAP_ROUNDS_MAX {
            let next = self.changed(&mut pending);
            match self.round(&mut pending, next).await {
                Round::Again => {}
                Round::Failed => break,
                Round::Done => {
                    let view = self.told(&pending, true);
                    return Concluded::Recorded(view);
                }
                Round::Over(current) => return self.overtaken(&pending, &current),
                Round::Led => return self.led(&pending),
            }
        }
        Concluded::NotYet(self.told(&pending, false), pending)
    }

    async fn round(&self, pending: &mut Pending, next: Box<Record>) -> Round {
        let from = (!pending.vanished).then_some(&*pending.held.record);
        if let Err(error) = invariants::edge(from, &next) {
            // Only our own mistake can bring us here; it must not become a wrong record.
            tracing::error!(%error, operation = %pending.held.operation(), "refused to record");
            return Round::Failed;
        }
        let token = pending.held.next_token();
        let expected = (!pending.vanished).then_some(pending.held.token);
        let key = pending.held.key;
        let asked = self.now();
        match self.write(key, expected, token, &next, Purpose::Record).await {
            Ok(Swapped::Done) => {
                pending.held.token = token;
                pending.held.record = next;
                pending.held.as_of = asked;
                Round::Done
            }
            // Rare, and large: in a box, so that every other conclusion is the smaller.
            Ok(Swapped::Lost(current)) => {
                Box::pin(self.lost(pending, current.as_ref(), asked)).await
            }
            Err(error) => {
                tracing::warn!(%error, operation = %pending.held.operation(), "not recorded yet");
                Round::Failed
            }
        }
    }

    /// Decides what a lost swap means for this hand.
    async fn lost(
        &self,
        pending: &mut Pending,
        current: Option<&Stored>,
        asked: Duration,
    ) -> Round {
        let Some(current) = current else {
            // The store has lost the record of an operation that is still in its owner's hand.
            pending.vanished = true;
            return if pending.held.is_owner() { Round::Again } else { Round::Failed };
        };
        let mut current = match self.hold(pending.held.key, current, asked) {
            Ok(Found::Record(current)) => current,
            Ok(Found::Pointer(..)) => return Round::Led,
            Err(_) => return Round::Failed,
        };
        let same_claim = current.record.attempt == pending.held.record.attempt;
        let open = match current.record.state {
            State::InFlight | State::InDoubt { .. } | State::Accepted { .. } => true,
            State::Settled(_) | State::Released { .. } => false,
        };
        let may_insist = open && pending.held.is_owner();
        if same_claim && (may_insist || is_known_the_same(&pending.held.record, &current.record)) {
            pending.vanished = false;
            pending.held.token = current.token;
            pending.held.record = current.record;
            pending.held.as_of = current.as_of;
            return Round::Again;
        }
        let taken_back = matches!(pending.change, Change::Release { .. });
        if !same_claim && taken_back && matches!(current.record.state, State::Released { .. }) {
            // The claim that is taken back may still be on its way to the record it meant to replace.
            // Written anew, that record has another token, and the claim comes too late.
            return match self.put_off(&mut current, super::RELEASED_KEPT).await {
                Ok(Swapped::Done) => Round::Over(current),
                Ok(Swapped::Lost(_)) => Round::Again,
                Err(_) => Round::Failed,
            };
        }
        Round::Over(current)
    }

    /// Where the claim was there is a pointer. Its own owner put it there, by a write that was not
    /// confirmed; or the store had lost the record, and somebody else was recognised meanwhile.
    fn led(&self, pending: &Pending) -> Concluded {
        if !matches!(pending.change, Change::Release { .. }) {
            tracing::error!(
                operation = %pending.held.operation(),
                "the store lost this record, and its key leads to another; check the provider"
            );
        }
        Concluded::Overtaken(self.told(pending, false))
    }

    fn overtaken(&self, pending: &Pending, current: &Held) -> Concluded {
        let same_claim = current.record.attempt == pending.held.record.attempt;
        let view = self.view(current).unwrap_or_else(|_| self.told(pending, false));
        // Whoever is not the owner learns that it changed nothing, however alike the two are.
        let owns = same_claim && pending.held.is_owner();
        match (&current.record.state, &pending.change) {
            // Settled by somebody else first: that is what everybody is told.
            (State::Settled(_), _) if owns => Concluded::Recorded(view),
            (State::Released { .. }, Change::Release { .. }) if owns => Concluded::Recorded(view),
            (_, Change::Settle { .. }) if pending.held.is_owner() => {
                tracing::error!(
                    operation = %pending.held.operation(),
                    "an answer came for an operation that had been reopened; check the provider"
                );
                Concluded::Overtaken(self.told(pending, false))
            }
            _ => Concluded::Overtaken(view),
        }
    }

    /// The record with the change in it.
    fn changed(&self, pending: &mut Pending) -> Box<Record> {
        let now = self.now();
        let passed = now.saturating_sub(pending.held.as_of);
        pending.held.catch_up(now);
        if let Change::Settle { delivery, .. } = &mut pending.change {
            delivery.advance(passed);
        }
        let key = pending.held.key;
        let mut next = pending.held.record.clone();
        if let Some(note) = &pending.note {
            next.note(note.clone());
        }
        match &pending.change {
            Change::Settle { by, status, reply, delivery } => {
                let reply = reply.as_ref().map(|reply| self.seal_reply(key, &next, reply));
                let (by, status) = (*by, *status);
                next.delivery = next.delivery.merge(*delivery);
                next.enter(State::Settled(Settlement { by, status, reply }));
                next.note(Happening::Settled(by));
            }
            Change::Release { .. } if was_resent_by_others(&pending.held) => stay(&mut next),
            Change::Release { why, reply } => {
                let reply = reply.as_ref().map(|reply| self.seal_reply(key, &next, reply));
                next.enter(State::Released { why: *why, reply });
                next.note(Happening::Released(*why));
            }
            Change::Accept { reply } => {
                let after = reply.as_deref().and_then(retry_after);
                let reply = reply.as_ref().map(|reply| self.seal_reply(key, &next, reply));
                next.enter(State::Accepted { reply, looked: 0, absent: 0, after });
                next.note(Happening::Accepted);
            }
            Change::Doubt { why, closed } => {
                let closed = *closed || self.is_successor_of(&next);
                doubt(&mut next, *why, closed.then_some(Ago::NOW));
            }
            Change::Looked(finding) => {
                let gone = self.is_successor_of(&next);
                looked_up(&mut next, *finding, gone);
            }
            Change::Resent { looked, closed } => looked_up(&mut next, *looked, *closed),
        }
        next
    }

    /// Whether the owner's process is certainly gone: only one process at a time has this store, and
    /// now it is this one.
    pub(super) fn is_successor_of(&self, record: &Record) -> bool {
        self.store.is_exclusive() && record.process != self.process
    }

    fn seal_reply(&self, key: RecordKey, record: &Record, reply: &Reply) -> Sealed {
        // Serialising plain data into memory has no way to fail.
        let text = postcard::to_stdvec(reply).unwrap_or_default();
        let nonce = entropy::draw(&*self.entropy);
        self.secrets.seals.seal(nonce, Self::binding(key, record, PART_REPLY), &text)
    }

    /// What the change allows to be told, before or after it is on record.
    fn told(&self, pending: &Pending, recorded: bool) -> View {
        let operation = pending.held.operation();
        let route = || pending.held.record.route.clone();
        match &pending.change {
            Change::Settle { by, status, reply, .. } => View::Settled(Settled {
                operation,
                by: *by,
                status: *status,
                since: Duration::ZERO,
                reply: reply.clone(),
                recorded,
            }),
            Change::Release { .. } if was_resent_by_others(&pending.held) => {
                self.as_held(&pending.held)
            }
            Change::Release { why, reply } => {
                View::Released(Released { operation, why: *why, reply: reply.clone() })
            }
            Change::Accept { reply } => {
                View::Accepted(Accepted { operation, route: route(), reply: reply.clone() })
            }
            Change::Doubt { why, .. } if !recorded => {
                View::InDoubt(InDoubt { operation, route: route(), why: *why })
            }
            Change::Doubt { .. } | Change::Looked(_) | Change::Resent { .. } => {
                self.as_held(&pending.held)
            }
        }
    }

    /// What a record in hand that is not settled says. If its answer does not open: that it is in
    /// doubt.
    fn as_held(&self, held: &Held) -> View {
        self.view(held).unwrap_or_else(|_| {
            let (operation, route) = (held.operation(), held.record.route.clone());
            View::InDoubt(InDoubt { operation, route, why: Doubt::TrackLost })
        })
    }

    /// Adds who was told while it waited for the store.
    pub fn note_told(&self, pending: &mut Pending, told: Delivery) {
        pending.held.catch_up(self.now());
        if let Change::Settle { delivery, .. } = &mut pending.change {
            *delivery = told;
        }
    }

    /// Takes a place for an answer that waits for the store.
    ///
    /// It is never refused: at [`PENDING_BYTES_MAX`] claims stop, so beyond it come only answers to
    /// requests that were claimed before.
    pub fn reserve_pending(&self, pending: &Pending) {
        self.pending_bytes.fetch_add(pending.bytes(), Ordering::Relaxed);
    }

    /// Gives the place back.
    pub fn free_pending(&self, bytes: usize) {
        self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether so much waits for the store that nothing new may be claimed.
    pub fn is_saturated(&self) -> bool {
        self.pending_bytes.load(Ordering::Relaxed) >= PENDING_BYTES_MAX
    }

    /// Notes that somebody got the answer, if it is on record that somebody left unanswered before.
    /// Of an operation that nobody left nothing is written.
    ///
    /// # Errors
    /// [`ReadError`], as for [`Self::note_delivery`].
    pub async fn note_answered(
        &self,
        operation: OperationId,
        delivery: Delivery,
    ) -> Result<(), ReadError> {
        match self.read(operation.key).await? {
            Some(held) if held.record.delivery.left.is_some() => {
                self.note_delivery(operation, delivery).await
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Notes who was told, or left, for an operation that its content may be recognised by.
    ///
    /// # Errors
    /// [`ReadError`]. That somebody was answered may then stay unknown (identical content finds this
    /// operation for longer than it need); that somebody left must not: try again.
    pub async fn note_delivery(
        &self,
        operation: OperationId,
        delivery: Delivery,
    ) -> Result<(), ReadError> {
        let taken = self.now();
        // Whoever is told from now on is noted where that somebody left stands.
        self.recall_no_more(operation.key);
        for _ in 0..SWAP_ROUNDS_MAX {
            let Some(mut held) = self.read(operation.key).await? else { return Ok(()) };
            if held.operation() != operation {
                return Ok(());
            }
            held.catch_up(self.now());
            let mut told = delivery;
            told.advance(held.as_of.saturating_sub(taken));
            held.record.delivery = held.record.delivery.merge(told);
            let token = held.next_token();
            let record = &held.record;
            let key = operation.key;
            match self.write(key, Some(held.token), token, record, Purpose::Record).await? {
                Swapped::Done => {
                    // What a claim read before this may be recalled by now.
                    self.recall_no_more(operation.key);
                    return Ok(());
                }
                Swapped::Lost(_) => {}
            }
        }
        Err(StoreError::Refused(Refusal::Busy).into())
    }
}

impl Pending {
    /// The hand, to begin anew with.
    pub(super) fn into_held(self) -> Held {
        self.held
    }

    /// How many bytes wait.
    pub fn bytes(&self) -> usize {
        match &self.change {
            Change::Settle { reply, .. }
            | Change::Release { reply, .. }
            | Change::Accept { reply } => reply.as_ref().map_or(0, |reply| reply.body.len()),
            Change::Doubt { .. } | Change::Looked(_) | Change::Resent { .. } => 0,
        }
    }
}

/// Whether what is known of an unsettled claim, and what was sent for it, is as it was: at most who was
/// told, what else leads to it, or when it is due has changed. What was found out about it holds.
fn is_known_the_same(before: &Record, now: &Record) -> bool {
    let same_state = match (&before.state, &now.state) {
        (
            State::InDoubt { why, closed, looked, absent },
            State::InDoubt {
                why: why_now,
                closed: closed_now,
                looked: looked_now,
                absent: absent_now,
            },
        ) => {
            // Its mark is the same one, whatever age it is reckoned to have.
            let same_mark = closed.is_some() == closed_now.is_some();
            same_mark && why == why_now && looked == looked_now && absent == absent_now
        }
        (State::Accepted { .. }, State::Accepted { .. }) => before.state == now.state,
        // An owner that renews its lease is alive.
        (_, _) => false,
    };
    same_state && before.process == now.process && last_resend(before) == last_resend(now)
}

/// Whether an owner holds what somebody else may have sent again. That its own request came to nothing
/// says nothing of that one, and frees no key.
fn was_resent_by_others(held: &Held) -> bool {
    match held.record.state {
        State::InDoubt { .. } | State::Accepted { .. } => {
            held.is_owner() && may_have_been_resent(&held.record)
        }
        State::InFlight | State::Settled(_) | State::Released { .. } => false,
    }
}

/// Leaves what is known as it is.
fn stay(record: &mut Record) {
    if let State::InDoubt { why, .. } = record.state {
        record.note(Happening::Doubted(why));
    }
}

/// Puts a record in doubt, keeping what an earlier doubt knew.
fn doubt(record: &mut Record, why: Doubt, closed: Option<Ago>) {
    let resent = may_have_been_resent(record);
    match &mut record.state {
        // Whose connection is closed is not the one on which it was sent again.
        State::InDoubt { .. } if resent => {}
        State::InDoubt { closed: mark, .. } => {
            // Already in doubt (its lease was over): only the owner's mark is news.
            *mark = mark.or(closed);
        }
        // That a look-up found it is more than its owner knows.
        State::Accepted { .. } if why != Doubt::TrackLost => {}
        State::Accepted { looked, .. } => {
            let looked = *looked;
            record.enter(State::InDoubt { why, closed: None, looked, absent: 0 });
        }
        State::InFlight | State::Settled(_) | State::Released { .. } => {
            record.enter(State::InDoubt { why, closed, looked: 0, absent: 0 });
        }
    }
    record.note(Happening::Doubted(why));
}

/// Counts a look-up. `gone`: the owner's process is, so that its connection is closed; what was found
/// before that is known does not count.
fn looked_up(record: &mut Record, finding: Looked, gone: bool) {
    let more = |absent: u32| match finding {
        Looked::Absent => absent.saturating_add(1),
        Looked::Final | Looked::Accepted | Looked::Unclear | Looked::Failed => 0,
    };
    match &mut record.state {
        State::InDoubt { closed, looked, absent, .. } => {
            *looked = looked.saturating_add(1);
            *absent = if closed.is_some() { more(*absent) } else { 0 };
            *closed = closed.or(gone.then_some(Ago::NOW));
        }
        State::Accepted { looked, absent, .. } => {
            *looked = looked.saturating_add(1);
            *absent = more(*absent);
        }
        State::InFlight | State::Settled(_) | State::Released { .. } => {}
    }
    record.note(Happening::LookedUp(finding));
}
