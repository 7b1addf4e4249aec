//! The names of one operation: how a request finds its record, whatever it calls it.
//!
//! A record is claimed first, under whatever key the request leads to. The claim permits nothing
//! until every name that the request came by leads to it: pointers that were followed are written
//! anew, then the business key's. Only a confirmed write counts. So whoever finds a pointer finds its
//! record taken, and whoever claims a record anew puts everybody in the wrong who read its pointer
//! before. A claim that finds its business key bound to another operation, or that an orphan's retry
//! made, becomes a pointer to that operation itself, and was never sent.
//!
//! Two claims must not become pointers to one another. So who is about to follow a record writes that
//! into it first ([`Happening::Joined`]), and a claim that somebody has written into is not turned.
//! The model has the counterexamples to everything else (`tests/model/names.rs`).

use std::time::Duration;

use super::claim::{BY_POINTER_MAX, Beside, Landed, Weighed};
use super::{
    Ask, ClaimError, Concluded, Found, Ledger, ReadError, SWAP_ROUNDS_MAX, Unproven, Verdict,
};
use crate::protocol::attempt::{Claimed, Held, Unspent};
use crate::protocol::claim::{business_is_free, content_is_free, is_orphan};
use crate::protocol::fingerprint::Matched;
use crate::protocol::id::{OperationId, RecordKey, Token};
use crate::protocol::invariants;
use crate::protocol::record::{
    Ago, Happening, Identity, Pointer, PointerKind, Recognised, Release, State, Terms,
};
use crate::store::{Purpose, Refusal, StoreError, Stored, Swap, Swapped, Write};

/// How many pointers may lead to one another: content, the key behind it, and what either was
/// recognised as, before and after a purge.
const HOPS_MAX: usize = 4;

/// What became of a claim.
#[derive(Debug)]
pub enum Traced {
    /// This is its operation: its own, or the one that it was recognised as.
    There(Held),
    /// Its key was released, and has been claimed anew.
    Replaced,
    /// Nothing is in the store.
    Absent,
}

/// A pointer that was followed.
struct Step {
    at: RecordKey,
    token: Token,
    pointer: Pointer,
}

impl Ledger {
    /// Claims the operation that a request stands for, or says what is known of it.
    ///
    /// # Errors
    /// [`ClaimError`]; only `Unconfirmed` and `Forbidden` leave something behind that must be taken
    /// back.
    ///
    /// # Cancel safety
    /// None: a dropped claim may be in the store. Call it from a task that its caller cannot end.
    pub async fn claim(&self, ask: &Ask<'_>) -> Result<Verdict, ClaimError> {
        for _ in 0..SWAP_ROUNDS_MAX {
            if let Some(verdict) = self.claim_once(ask).await? {
                return Ok(verdict);
            }
        }
        Err(ClaimError::Contended)
    }

    /// `None`: its names have moved under our hands, and nothing is claimed.
    async fn claim_once(&self, ask: &Ask<'_>) -> Result<Option<Verdict>, ClaimError> {
        let started = self.now();
        let (first, is_ours) = match ask.identity {
            Identity::Key | Identity::Further(_) => (ask.key, true),
            Identity::Content(at) => Box::pin(self.content_target(at, &ask.terms)).await?,
        };
        let (claimed, beside, way) = match self.land(ask, first).await? {
            (Landed::Claimed(claimed, beside), way) => (claimed, beside, way),
            (Landed::Known(verdict), _) => return Ok(Some(verdict)),
            (Landed::Pointer(..), _) => return Err(too_far().into()),
        };
        let by_content = matches!(ask.identity, Identity::Content(_));
        let in_time = self.now().saturating_sub(started) <= BY_POINTER_MAX;
        if by_content && !(is_ours && in_time) {
            // The pointer may have been purged and another written by now: this must not be sent.
            return Box::pin(self.give_back(claimed)).await;
        }
        if beside.is_none() && way.is_empty() && ask.business.is_none() {
            return Ok(Some(Verdict::Claimed(claimed)));
        }
        // In a box, so that claims which have one name only are the smaller.
        Box::pin(self.settle_names(ask, claimed, beside, way)).await
    }

    /// Sees to it that a claim has all its names, or becomes one itself.
    async fn settle_names(
        &self,
        ask: &Ask<'_>,
        claimed: Claimed,
        beside: Option<Beside>,
        way: Vec<Step>,
    ) -> Result<Option<Verdict>, ClaimError> {
        match self.orphan(ask, beside).await {
            Ok(Some(orphan)) if orphan.key != claimed.held().key => {
                self.turn(ask, claimed, orphan, Recognised::Orphan).await
            }
            Ok(_) => self.name(ask, claimed, way).await,
            Err(error) => Err(self.abandon(claimed, error).await),
        }
    }

    /// Claims under this key, or under the one that it is a pointer to.
    async fn land(
        &self,
        ask: &Ask<'_>,
        first: RecordKey,
    ) -> Result<(Landed, Vec<Step>), ClaimError> {
        let beside = match ask.identity {
            Identity::Key => ask.content,
            Identity::Content(_) | Identity::Further(_) => None,
        };
        let (mut key, mut way) = (first, Vec::new());
        for _ in 0..=HOPS_MAX {
            let identity = match ask.identity {
                Identity::Key if key != first => Identity::Further(first),
                identity @ (Identity::Key | Identity::Content(_) | Identity::Further(_)) => {
                    identity
                }
            };
            match self.claim_record(&Ask { key, identity, ..*ask }, beside).await? {
                landed @ (Landed::Claimed(..) | Landed::Known(_)) => return Ok((landed, way)),
                Landed::Pointer(token, pointer) => {
                    way.push(Step { at: key, token, pointer });
                    key = pointer.to;
                }
            }
        }
        Err(too_far().into())
    }

    /// Reads the record that a key leads to. `None`: provably absent.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn find(&self, key: RecordKey) -> Result<Option<Held>, ReadError> {
        let mut key = key;
        for _ in 0..=HOPS_MAX {
            let asked = self.now();
            let Some(stored) = self.store().load(key).await? else { return Ok(None) };
            match self.hold(key, &stored, asked)? {
                Found::Record(held) => return Ok(Some(held)),
                Found::Pointer(_, pointer) => key = pointer.to,
            }
        }
        Err(too_far())
    }

    /// Reads what became of one claim. Only its own owner makes it a name of another operation, so the
    /// pointer says by its token which claim it was: a key may have been released meanwhile, claimed by
    /// another request, and then lead to that one's operation.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn trace(&self, claim: OperationId) -> Result<Traced, ReadError> {
        let asked = self.now();
        let Some(stored) = self.store().load(claim.key).await? else { return Ok(Traced::Absent) };
        Ok(match self.hold(claim.key, &stored, asked)? {
            Found::Record(held) if held.operation() == claim => Traced::There(held),
            Found::Pointer(token, pointer) if token.attempt == claim.attempt => {
                self.find(pointer.to).await?.map_or(Traced::Absent, Traced::There)
            }
            Found::Record(_) | Found::Pointer(..) => Traced::Replaced,
        })
    }

    /// The operation of the same content whose caller left unanswered, if there is one.
    /// The pointer to it was read together with the claim.
    async fn orphan(
        &self,
        ask: &Ask<'_>,
        beside: Option<Beside>,
    ) -> Result<Option<Held>, ReadError> {
        let (Some(content), Some(Beside { stored, asked })) = (ask.content, beside) else {
            return Ok(None);
        };
        let (_, pointer) = self.pointer(content, &stored, asked)?;
        let held = self.find(pointer.to).await?;
        Ok(held.filter(|held| recognises(ask, held, Recognised::Orphan)))
    }

    /// Makes every name that the request came by lead to its claim. Only then it may be sent.
    async fn name(
        &self,
        ask: &Ask<'_>,
        claimed: Claimed,
        way: Vec<Step>,
    ) -> Result<Option<Verdict>, ClaimError> {
        for Step { at, token, pointer } in way {
            let pointer = Pointer { written: Ago::NOW, ..pointer };
            match self.point(at, Some(token), pointer, &ask.terms).await {
                Ok(Swapped::Done) => {}
                Ok(Swapped::Lost(_)) => return self.give_back(claimed).await,
                Err(error) => return Err(self.abandon(claimed, error).await),
            }
        }
        match ask.business {
            Some(at) => self.bind(ask, claimed, at).await,
            None => Ok(Some(Verdict::Claimed(claimed))),
        }
    }

    /// Binds the business key to the claim, or gives way to the operation that it is bound to.
    async fn bind(
        &self,
        ask: &Ask<'_>,
        claimed: Claimed,
        at: RecordKey,
    ) -> Result<Option<Verdict>, ClaimError> {
        let own = claimed.held().key;
        let pointer = pointer_to(own, &ask.terms, PointerKind::Business);
        let mut expected = None;
        for _ in 0..SWAP_ROUNDS_MAX {
            let asked = self.now();
            let current = match self.point(at, expected, pointer, &ask.terms).await {
                Ok(Swapped::Done) => return Ok(Some(Verdict::Claimed(claimed))),
                Ok(Swapped::Lost(None)) => {
                    expected = None;
                    continue;
                }
                Ok(Swapped::Lost(Some(current))) => current,
                Err(error) => return Err(self.abandon(claimed, error).await),
            };
            // The token was read before its record: a claim on that record writes the pointer anew,
            // so our write loses against it.
            let bound = match self.pointer(at, &current, asked) {
                Ok((token, found)) => {
                    expected = Some(token);
                    if found.to == own { Ok(None) } else { self.find(found.to).await }
                }
                Err(error) => Err(error),
            };
            let bound = match bound {
                Ok(bound) => {
                    bound.filter(|held| held.key != own && !business_is_free(&held.record))
                }
                Err(error) => return Err(self.abandon(claimed, error).await),
            };
            if let Some(bound) = bound {
                return self.give_way(ask, claimed, bound).await;
            }
        }
        self.give_back(claimed).await
    }

    /// The business key is bound to another operation.
    async fn give_way(
        &self,
        ask: &Ask<'_>,
        claimed: Claimed,
        bound: Held,
    ) -> Result<Option<Verdict>, ClaimError> {
        match ask.fingerprints.matches(&bound.record.fingerprint) {
            Matched::Same => self.turn(ask, claimed, bound, Recognised::BusinessKey).await,
            Matched::Other => {
                self.take_back_now(claimed.forgo()).await?;
                Ok(Some(Verdict::Bound(self.view(&bound)?)))
            }
            Matched::UnknownSecret => {
                self.take_back_now(claimed.forgo()).await?;
                Err(super::claim::unverifiable().into())
            }
        }
    }

    /// Makes a pointer of the claim, which leads to that operation from now on.
    async fn turn(
        &self,
        ask: &Ask<'_>,
        claimed: Claimed,
        into: Held,
        by: Recognised,
    ) -> Result<Option<Verdict>, ClaimError> {
        let turns = self.store().fence().turns();
        let into = match self.join(ask, into, by).await {
            Ok(Some(into)) => into,
            Ok(None) => return self.give_back(claimed).await,
            Err(error) => return Err(forbid(claimed, error)),
        };
        let mut held = claimed.forgo().into_held();
        assert!(invariants::may_become_a_name(&held.record), "only what was not sent is turned");
        // Its own, so that the pointer tells which claim it was.
        let token = held.next_token();
        let terms = &into.record.terms;
        let pointer = pointer_to(into.key, terms, PointerKind::Key);
        let swap = Swap {
            key: held.key,
            expected: Some(held.token),
            token,
            write: super::content::put(&pointer, terms.retention + terms.remember),
            purpose: Purpose::Record,
        };
        match self.swap(&swap).await {
            // The right to send is given up with the record that it stood in.
            Ok(Swapped::Done) => {}
            // Somebody has written into it: doubted it, or is about to follow it.
            Ok(Swapped::Lost(_)) => return self.give_back(Claimed::confirmed(held)).await,
            Err(error) => return Err(forbid(Claimed::confirmed(held), error.into())),
        }
        Ok(match self.weigh(into, ask.fingerprints, turns).await? {
            Weighed::Verdict(verdict) => Some(Verdict::Recognised(by, Box::new(verdict))),
            Weighed::Claimable(_) | Weighed::Changed => None,
        })
    }

    /// Writes into an operation's record that another key is about to lead there. `None`: it is no
    /// longer what it was recognised for.
    async fn join(
        &self,
        ask: &Ask<'_>,
        into: Held,
        by: Recognised,
    ) -> Result<Option<Held>, ReadError> {
        let mut into = into;
        for _ in 0..SWAP_ROUNDS_MAX {
            into.catch_up(self.now());
            into.record.note(Happening::Joined(by));
            let (token, asked) = (into.next_token(), self.now());
            let replaces = Some(into.token);
            let purpose = Purpose::Record;
            match self.write(into.key, replaces, token, &into.record, purpose).await? {
                Swapped::Done => {
                    into.token = token;
                    return Ok(Some(into));
                }
                Swapped::Lost(None) => return Ok(None),
                Swapped::Lost(Some(stored)) => match self.hold(into.key, &stored, asked)? {
                    Found::Record(held) if recognises(ask, &held, by) => into = held,
                    Found::Record(_) | Found::Pointer(..) => return Ok(None),
                },
            }
        }
        Ok(None)
    }

    /// Takes a claim back that must not be sent, to look again.
    async fn give_back(&self, claimed: Claimed) -> Result<Option<Verdict>, ClaimError> {
        self.take_back_now(claimed.forgo()).await?;
        Ok(None)
    }

    async fn take_back_now(&self, unspent: Unspent) -> Result<(), ClaimError> {
        match self.take_back(unspent, Release::TakenBack).await {
            Concluded::Recorded(_) | Concluded::Overtaken(_) => Ok(()),
            Concluded::NotYet(_, pending) => {
                let why = "the claim could not be taken back yet".to_owned();
                let unspent = Unproven::new(pending.into_held()).forgo();
                Err(ClaimError::Forbidden(why, Box::new(unspent)))
            }
        }
    }

    /// The store failed over a claim's names, of which none is known to lead elsewhere: it permits
    /// nothing, and must be taken back.
    async fn abandon(&self, claimed: Claimed, error: ReadError) -> ClaimError {
        match error {
            ReadError::Store(StoreError::Unreachable(why) | StoreError::Unconfirmed(why)) => {
                let held = claimed.forgo().into_held();
                ClaimError::Unconfirmed(why, Box::new(Unproven::new(held)))
            }
            error @ (ReadError::Unreadable(_)
            | ReadError::Store(StoreError::Refused(_) | StoreError::Broken(_))) => {
                match self.take_back_now(claimed.forgo()).await {
                    Ok(()) => error.into(),
                    Err(unconfirmed) => unconfirmed,
                }
            }
        }
    }

    /// Writes a pointer.
    pub(super) async fn point(
        &self,
        at: RecordKey,
        expected: Option<Token>,
        pointer: Pointer,
        terms: &Terms,
    ) -> Result<Swapped, ReadError> {
        let swap = Swap {
            key: at,
            expected,
            token: Token::first(self.draw_attempt()),
            write: super::content::put(&pointer, terms.retention + terms.remember),
            purpose: Purpose::Claim,
        };
        // An unconfirmed pointer permits nothing and leads nowhere yet: an error like any other.
        match self.swap(&swap).await {
            Err(StoreError::Refused(Refusal::OtherGeneration { .. })) if self.readopt().await => {
                Ok(self.swap(&swap).await?)
            }
            other => Ok(other?),
        }
    }

    pub(super) fn pointer(
        &self,
        at: RecordKey,
        stored: &Stored,
        asked: Duration,
    ) -> Result<(Token, Pointer), ReadError> {
        match self.hold(at, stored, asked)? {
            Found::Pointer(token, pointer) => Ok((token, pointer)),
            Found::Record(_) => {
                Err(ReadError::Unreadable("a record where a pointer belongs".to_owned()))
            }
        }
    }

    /// Makes an operation that has a key known by its content too, because a caller of it was left
    /// unanswered: its retry may come under another key, or under none.
    ///
    /// Gives way to whatever that content means already: who is about to claim behind that pointer
    /// must find it there.
    ///
    /// # Errors
    /// [`ReadError`]: the retry may then not be recognised.
    pub async fn note_orphan(
        &self,
        content: RecordKey,
        operation: OperationId,
    ) -> Result<(), ReadError> {
        let Some(held) = self.find(operation.key).await? else { return Ok(()) };
        if held.operation() != operation || matches!(held.record.state, State::Released { .. }) {
            return Ok(());
        }
        let terms = held.record.terms;
        let pointer = pointer_to(operation.key, &terms, PointerKind::Content);
        let mut expected = None;
        for _ in 0..SWAP_ROUNDS_MAX {
            let asked = self.now();
            let current = match self.point(content, expected, pointer, &terms).await? {
                Swapped::Done => return Ok(()),
                Swapped::Lost(current) => current,
            };
            let Some(current) = current else {
                expected = None;
                continue;
            };
            let (token, found) = self.pointer(content, &current, asked)?;
            if found.to == operation.key {
                return Ok(());
            }
            let free = match self.find(found.to).await? {
                Some(held) => held.key != operation.key && content_is_free(&held.record),
                // Nobody who came by it can send any more.
                None => found.written.age() > BY_POINTER_MAX * 2,
            };
            if !free {
                return Ok(());
            }
            expected = Some(token);
        }
        Err(StoreError::Refused(Refusal::Busy).into())
    }

    /// Purges a pointer whose record is gone for good, or puts it off.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn review_pointer(
        &self,
        at: RecordKey,
        token: Token,
        pointer: Pointer,
    ) -> Result<(), ReadError> {
        let gone = self.find(pointer.to).await?.is_none();
        let old = pointer.written.age() > pointer.remember.max(BY_POINTER_MAX * 2);
        if !(gone && old) {
            return self.put_off_pointer(at, token, pointer).await;
        }
        self.rewrite_pointer(at, token, Write::Purge).await
    }

    /// Puts off when a pointer comes up again.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn put_off_pointer(
        &self,
        at: RecordKey,
        token: Token,
        pointer: Pointer,
    ) -> Result<(), ReadError> {
        let write = super::content::put(&pointer, pointer.remember.max(BY_POINTER_MAX));
        self.rewrite_pointer(at, token, write).await
    }

    async fn rewrite_pointer(
        &self,
        at: RecordKey,
        token: Token,
        write: Write,
    ) -> Result<(), ReadError> {
        let token_of_write = Token::first(self.draw_attempt());
        let swap = Swap {
            key: at,
            expected: Some(token),
            token: token_of_write,
            write,
            purpose: Purpose::Record,
        };
        self.swap(&swap).await?;
        Ok(())
    }
}

/// The store failed over a claim whose request means another operation.
fn forbid(claimed: Claimed, error: ReadError) -> ClaimError {
    ClaimError::Forbidden(error.to_string(), Box::new(claimed.forgo()))
}

/// Whether that operation is what the request means, under another key.
fn recognises(ask: &Ask<'_>, held: &Held, by: Recognised) -> bool {
    let same = ask.fingerprints.matches(&held.record.fingerprint) == Matched::Same;
    same && match by {
        Recognised::BusinessKey => !business_is_free(&held.record),
        Recognised::Orphan => is_orphan(&held.record),
    }
}

/// A pointer that is written now.
pub(super) const fn pointer_to(to: RecordKey, terms: &Terms, kind: PointerKind) -> Pointer {
    Pointer { to, written: Ago::NOW, remember: terms.remember, kind }
}

fn too_far() -> ReadError {
    ReadError::Unreadable("more pointers lead to one another than may".to_owned())
}
