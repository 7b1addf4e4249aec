//! Trying to become the owner of one record: one swap that either claims, or fetches what beat us.
//! Which record, and under which names, is `names`' to find out.

use std::time::Duration;

use super::views::{Accepted, InDoubt, InFlight, Settled, View};
use super::{Found, Ledger, PART_INPUTS, ReadError, SWAP_ROUNDS_MAX, put};
use crate::entropy;
use crate::protocol::attempt::{Claimed, Held, Unspent};
use crate::protocol::claim::{Decision, decide};
use crate::protocol::fingerprint::Fingerprints;
use crate::protocol::id::{RecordKey, Token};
use crate::protocol::invariants;
use crate::protocol::key::KeyTag;
use crate::protocol::record::{
    Ago, Delivery, Doubt, Happening, Identity, Pointer, Recognised, Record, State, Terms,
};
use crate::store::{Purpose, Refusal, StoreError, Stored, Swap, Swapped};

/// What a caller wants to own.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Where its record is.
    pub key: RecordKey,
    /// How it was recognised.
    pub identity: Identity,
    /// What its caller's key is found by, if it had one.
    pub key_tag: Option<KeyTag>,
    /// Where the pointer of its business key is, if it has one.
    pub business: Option<RecordKey>,
    /// Where the same content is found whose caller left unanswered, if that is to be recognised.
    pub content: Option<RecordKey>,
    /// What a duplicate must match.
    pub fingerprints: &'a Fingerprints,
    /// The route it came by.
    pub route: &'a str,
    /// What is agreed.
    pub terms: Terms,
    /// The values that look-ups will need; they are sealed before they are stored.
    pub inputs: Option<&'a [u8]>,
}

/// What the claim came to.
#[derive(Debug)]
pub enum Verdict {
    /// This caller's request is the one.
    Claimed(Claimed),
    /// Another one is under way.
    Follow(InFlight),
    /// Nobody knows what became of it.
    Doubt(InDoubt),
    /// The provider is working on it.
    Accepted(Accepted),
    /// Its outcome is on record; if the answer is not, that is still all there is to tell.
    Settled(Settled),
    /// The key stands for another request.
    Mismatch(View),
    /// The business key is bound to another request.
    Bound(View),
    /// This operation, under another key: the request's own leads there from now on.
    Recognised(Recognised, Box<Self>),
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Certainly not claimed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Perhaps claimed. Nothing may be sent on the strength of it.
    #[error("the store did not confirm the claim: {0}")]
    Unconfirmed(String, Box<Unproven>),
    /// Perhaps still claimed, and never to be sent, whatever the route says: its request means
    /// another operation, or its names have moved.
    #[error("the store did not confirm that the claim was given up: {0}")]
    Forbidden(String, Box<Unspent>),
    /// Too many others at once. Certainly not claimed.
    #[error("too many processes changed the record at once")]
    Contended,
    /// Too many answers wait for the store. Certainly not claimed.
    #[error("too many answers wait to be recorded")]
    Saturated,
}

impl Verdict {
    /// In a word, for metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Claimed(_) => "claimed",
            Self::Follow(_) => "in-flight",
            Self::Doubt(_) => "in-doubt",
            Self::Accepted(_) => "accepted",
            Self::Settled(_) => "settled",
            Self::Mismatch(_) => "mismatch",
            Self::Bound(_) => "bound",
            Self::Recognised(by, _) => by.name(),
        }
    }
}

impl ClaimError {
    /// In a word, for metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unconfirmed(..) | Self::Forbidden(..) => "unconfirmed",
            Self::Read(_) | Self::Contended | Self::Saturated => "refused",
        }
    }
}

impl From<StoreError> for ClaimError {
    fn from(error: StoreError) -> Self {
        Self::Read(error.into())
    }
}

/// A claim that the store did not confirm. It permits nothing, and must be taken back.
#[derive(Debug)]
#[must_use = "an unconfirmed claim must be taken back"]
pub struct Unproven(Held);

impl Unproven {
    pub(super) const fn new(held: Held) -> Self {
        Self(held)
    }

    /// Gives it up, to be taken back.
    pub fn forgo(self) -> Unspent {
        Claimed::confirmed(self.0).forgo()
    }

    /// Takes it for a claim all the same. Only for routes that were told to send while the store
    /// is gone (`on_store_failure: pass`).
    pub fn assume(self) -> Claimed {
        Claimed::confirmed(self.0)
    }
}

impl Ledger {
    /// Claims this record, or says what is known instead, or where its key leads. A claim brings what
    /// is `beside` it.
    pub(super) async fn claim_record(
        &self,
        ask: &Ask<'_>,
        beside: Option<RecordKey>,
    ) -> Result<Landed, ClaimError> {
        self.may_claim()?;
        let mut held = self.new_hand(ask);
        let attempt = held.writer;
        let mut expected: Option<Held> = None;
        for _ in 0..SWAP_ROUNDS_MAX {
            let (asked, turns) = (self.now(), self.store.fence().turns());
            let token = held.next_token();
            if let Some(current) = &mut expected {
                // A provider that heard of the key then may forget it so much the sooner.
                current.catch_up(asked);
                held.record.first_claimed = current.record.first_claimed;
            }
            let from = expected.as_ref().map(|current| &*current.record);
            assert_eq!(invariants::edge(from, &held.record), Ok(()), "claims follow the diagram");
            let replaces = expected.as_ref().map(|current| current.token);
            let (write, purpose) = (put(&held.record), Purpose::Claim);
            let swap = Swap { key: ask.key, expected: replaces, token, write, purpose };
            let swapped = self.swap_and_load(&swap, beside).await;
            held.token = token;
            held.as_of = asked;
            let stored = match swapped {
                Ok((Swapped::Done, stored)) => {
                    let beside = stored.map(|stored| Beside { stored, asked });
                    return Ok(Landed::Claimed(Claimed::confirmed(held), beside));
                }
                Ok((Swapped::Lost(None), _)) => {
                    expected = None;
                    continue;
                }
                Ok((Swapped::Lost(Some(stored)), _)) => stored,
                Err(StoreError::Unconfirmed(why)) => {
                    return Err(ClaimError::Unconfirmed(why, Box::new(Unproven(held))));
                }
                Err(StoreError::Refused(Refusal::OtherGeneration { .. }))
                    if self.readopt().await =>
                {
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            match self.hold(ask.key, &stored, asked)? {
                Found::Pointer(token, pointer) => return Ok(Landed::Pointer(token, pointer)),
                // Our own claim, put there by a swap that was not confirmed, and changed since (its
                // lease was over). It was never sent, nobody but us can say so, and others may act on
                // it by now.
                Found::Record(current) if current.record.attempt == attempt => {
                    let why = "the claim was changed before it was confirmed".to_owned();
                    let unspent = Claimed::confirmed(held).forgo();
                    return Err(ClaimError::Forbidden(why, Box::new(unspent)));
                }
                Found::Record(current) => match self.weigh(current, ask.fingerprints, turns).await?
                {
                    Weighed::Claimable(current) => expected = Some(current),
                    Weighed::Verdict(verdict) => return Ok(Landed::Known(verdict)),
                    Weighed::Changed => expected = None,
                },
            }
        }
        Err(ClaimError::Contended)
    }

    fn may_claim(&self) -> Result<(), ClaimError> {
        if self.is_saturated() {
            return Err(ClaimError::Saturated);
        }
        match self.unfit() {
            Some(why) => Err(StoreError::Refused(Refusal::Unfit(why)).into()),
            None => Ok(()),
        }
    }

    /// The hand of whoever is about to claim.
    fn new_hand(&self, ask: &Ask<'_>) -> Held {
        let attempt = self.draw_attempt();
        Held {
            key: ask.key,
            token: Token::first(attempt),
            writer: attempt,
            tries: 0,
            as_of: self.now(),
            record: Box::new(self.new_record(ask, attempt)),
        }
    }

    fn new_record(&self, ask: &Ask<'_>, attempt: crate::protocol::id::AttemptId) -> Record {
        let mut record = Record {
            attempt,
            process: self.process,
            route: ask.route.to_owned(),
            fingerprint: ask.fingerprints.newest(),
            identity: ask.identity,
            key_tag: ask.key_tag,
            business: ask.business,
            terms: ask.terms,
            inputs: None,
            claimed: Ago::NOW,
            first_claimed: Ago::NOW,
            renewed: Ago::NOW,
            entered: Ago::NOW,
            state: State::InFlight,
            delivery: Delivery::default(),
            timeline: Vec::with_capacity(4),
        };
        record.note(Happening::Claimed);
        if let Some(inputs) = ask.inputs {
            let nonce = entropy::draw(&*self.entropy);
            let binding = Self::binding(ask.key, &record, PART_INPUTS);
            record.inputs = Some(self.secrets.seals.seal(nonce, binding, inputs));
        }
        record
    }

    /// What the record that beat us allows. `turns`: of the fence, when it was asked for.
    pub(super) async fn weigh(
        &self,
        current: Held,
        fingerprints: &Fingerprints,
        turns: u64,
    ) -> Result<Weighed, ClaimError> {
        Ok(match decide(Some(&current.record), fingerprints) {
            Decision::Claim => Weighed::Claimable(current),
            // Rare, and large: in a box, so that every other claim is the smaller.
            Decision::Overdue => Box::pin(self.doubt_silent_owner(current)).await?,
            Decision::Mismatch => Weighed::Verdict(Verdict::Mismatch(self.view(&current)?)),
            Decision::Unverifiable => {
                return Err(unverifiable().into());
            }
            Decision::Replay => {
                let view = self.view(&current)?;
                self.recall_later(&current, &view, turns);
                Weighed::Verdict(known(view))
            }
            Decision::Follow | Decision::Doubt | Decision::Accepted | Decision::NotKept => {
                Weighed::Verdict(known(self.view(&current)?))
            }
        })
    }

    /// An owner was silent for longer than its lease: in doubt, never free.
    async fn doubt_silent_owner(&self, current: Held) -> Result<Weighed, ClaimError> {
        let change = super::Change::Doubt { why: Doubt::OwnerSilent, closed: false };
        Ok(match self.conclude(current, change).await {
            super::Concluded::Recorded(view) => Weighed::Verdict(known(view)),
            // Its owner came back, or somebody else was first: look again.
            super::Concluded::Overtaken(_) => Weighed::Changed,
            // It cannot be written; it is as much in doubt as before.
            super::Concluded::NotYet(view, _) => Weighed::Verdict(known(view)),
        })
    }

    /// After `semel store accept` the generation is another. If the rules are still ours, so are
    /// the keys, and this process may go on.
    pub(super) async fn readopt(&self) -> bool {
        let Some(ours) = self.store.fence().charter() else { return false };
        match self.store.charter().await {
            Ok(Some(theirs))
                if theirs.identity == ours.identity
                    && theirs.rules == ours.rules
                    && theirs.secret_check == ours.secret_check =>
            {
                tracing::warn!(generation = theirs.generation, "adopted the store's generation");
                self.store.fence().bind(theirs);
                true
            }
            Ok(_) | Err(_) => false,
        }
    }
}

/// What was under the key that was to be claimed.
pub(super) enum Landed {
    Claimed(Claimed, Option<Beside>),
    /// Somebody else's.
    Known(Verdict),
    /// A pointer, under this token.
    Pointer(Token, Pointer),
}

/// What was read together with a claim, and when that was asked for.
pub(super) struct Beside {
    pub(super) stored: Stored,
    pub(super) asked: Duration,
}

pub(super) enum Weighed {
    Claimable(Held),
    Verdict(Verdict),
    Changed,
}

fn known(view: View) -> Verdict {
    match view {
        View::InFlight(view) => Verdict::Follow(view),
        View::InDoubt(view) => Verdict::Doubt(view),
        View::Accepted(view) => Verdict::Accepted(view),
        View::Settled(view) => Verdict::Settled(view),
        // Reached only if it was released between two rounds; to follow it is to learn that.
        View::Released(view) => Verdict::Follow(InFlight { operation: view.operation }),
    }
}

pub(super) fn unverifiable() -> ReadError {
    ReadError::Unreadable("its fingerprint secret is not configured here".to_owned())
}

/// How long after starting to write a pointer its claim may still lead to a dispatch.
pub(super) const BY_POINTER_MAX: Duration = Duration::from_secs(3600);
