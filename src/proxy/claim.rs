//! From an identified request to a standing: owner, follower, or told what is known.
//!
//! The claim runs in a task of its own: a caller that leaves in the middle must not leave a claim
//! behind that nobody knows of.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::identify::Identified;
use super::problem::Slug;
use super::route::{Missing, Mode, OnStoreFailure, Policy};
use super::witness::Witness;
use super::{Lane, Proxy};
use crate::attempt::{Flight, Plan, Seat, Stage};
use crate::ledger::{Ask, ClaimError, ReadError, Verdict, View};
use crate::protocol::attempt::Claimed;
use crate::protocol::fingerprint::Matched;
use crate::protocol::id::{OperationId, RecordKey};
use crate::protocol::key::KeyTag;
use crate::protocol::record::{Identity, Recognised, Release, Terms};
use crate::protocol::reference::drawn;
use crate::store::{Refusal, StoreError};

/// How a request stands to its operation.
#[derive(Debug)]
pub enum Standing {
    /// It is the one; its attempt is under way.
    Owner(Seat),
    /// Another one is under way.
    Follower(Arc<Flight>),
    /// Nobody knows the outcome; it may be looked up.
    Doubt(Arc<Flight>),
    /// This is known.
    Known(View),
    /// The key stands for another request.
    Mismatch(OperationId),
    /// The business key is bound to another request.
    Bound(OperationId),
    /// Nothing was claimed, nothing is sent.
    Refused(Slug, Option<String>),
    /// Nothing could be claimed, and the route says to send all the same.
    Unguarded(Box<Request<Bytes>>),
}

impl Standing {
    /// By what a second request was prevented, for metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Owner(_) => "owner",
            Self::Follower(_) => "in-flight",
            Self::Doubt(_) => "in-doubt",
            Self::Known(_) => "record",
            Self::Mismatch(_) => "mismatch",
            Self::Bound(_) => "bound",
            Self::Refused(..) => "refused",
            Self::Unguarded(_) => "unguarded",
        }
    }

    /// Whether a second request was prevented, because its operation is known.
    pub const fn is_known(&self) -> bool {
        match self {
            Self::Follower(_)
            | Self::Doubt(_)
            | Self::Known(_)
            | Self::Mismatch(_)
            | Self::Bound(_) => true,
            Self::Owner(_) | Self::Refused(..) | Self::Unguarded(_) => false,
        }
    }
}

/// A standing, and by what the request was recognised if not by its own key or content.
#[derive(Debug)]
pub struct Stood {
    /// How it stands.
    pub standing: Standing,
    /// By what.
    pub by: Option<Recognised>,
}

impl Stood {
    /// By what a second request was prevented, for metrics.
    pub fn name(&self) -> &'static str {
        self.by.map_or_else(|| self.standing.name(), Recognised::name)
    }
}

impl From<Standing> for Stood {
    fn from(standing: Standing) -> Self {
        Self { standing, by: None }
    }
}

impl Proxy {
    /// Claims, and starts the attempt if the claim is won.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the caller; claim and attempt go on.
    pub(super) async fn claim(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        identified: Identified,
        request: Request<Bytes>,
        witness: &Witness,
    ) -> Stood {
        if let Some(flight) = self.at_work_here(lane, &identified) {
            self.metrics.claimed(&lane.route.name, "in-flight");
            witness.belongs_to(flight.operation(), true, self);
            return Standing::Follower(flight).into();
        }
        let (tell, told) = oneshot::channel();
        let (this, lane, witness) = (Arc::clone(self), Arc::clone(lane), witness.clone());
        self.tasks.detach(async move {
            // Who left just now, and comes again under another name, must find that noted.
            if let Some(content) = identified.by_content(this.index()) {
                this.attempts.flights().leavings().ended(content).await;
            }
            let stood = this.claim_now(&lane, &identified, request).await;
            match &stood.standing {
                Standing::Owner(seat) => {
                    witness.belongs_to(seat.flight().operation(), false, &this);
                }
                Standing::Follower(flight) | Standing::Doubt(flight) => {
                    witness.belongs_to(flight.operation(), true, &this);
                }
                Standing::Known(view) => {
                    if this.recalled(&lane, &identified).is_some() {
                        witness.recalls();
                    }
                    witness.belongs_to(view.operation(), true, &this);
                }
                Standing::Mismatch(_)
                | Standing::Bound(_)
                | Standing::Refused(..)
                | Standing::Unguarded(_) => {}
            }
            // Nobody listens any more if the caller has left.
            let _ = tell.send(stood);
        });
        told.await.unwrap_or_else(|_| Standing::Refused(Slug::Internal, None).into())
    }

    async fn claim_now(
        &self,
        lane: &Lane,
        identified: &Identified,
        request: Request<Bytes>,
    ) -> Stood {
        // Asked here, in a task that the drain waits for: what is claimed from here on can still be
        // sent, or taken back.
        if self.tasks.stopping().is_cancelled() {
            return Standing::Refused(Slug::Draining, None).into();
        }
        let policy = &*lane.route.policy;
        let until = Instant::now() + policy.upstream_timeout;
        let inquiry = lane.course.inquiry.as_ref();
        let inputs = inquiry.zip(identified.inputs.as_ref());
        let inputs = inputs.and_then(|(inquiry, inputs)| inquiry.sealable(inputs));
        let ask = Ask {
            key: identified.key,
            identity: identified.identity,
            key_tag: identified.named.as_ref().map(|key| KeyTag::of(self.index(), key)),
            business: identified.business,
            content: identified.orphan_at(self.index()),
            fingerprints: &identified.fingerprints,
            route: &lane.route.name,
            terms: terms(policy),
            inputs: inputs.as_deref(),
        };
        let verdict = self.ledger().claim(&ask).await;
        let name = verdict.as_ref().map_or_else(ClaimError::name, Verdict::name);
        self.metrics.claimed(&lane.route.name, name);
        let verdict = match verdict {
            Ok(verdict) => verdict,
            Err(error) => return self.unclaimed(lane, error, request, until, identified).into(),
        };
        let (by, verdict) = match verdict {
            Verdict::Recognised(by, verdict) => (Some(by), *verdict),
            verdict @ (Verdict::Claimed(_)
            | Verdict::Follow(_)
            | Verdict::Doubt(_)
            | Verdict::Accepted(_)
            | Verdict::Settled(_)
            | Verdict::Mismatch(_)
            | Verdict::Bound(_)) => (None, verdict),
        };
        let flights = self.attempts.flights();
        let standing = match verdict {
            Verdict::Claimed(claimed) => self.begin(lane, claimed, request, until, identified),
            Verdict::Follow(view) => Standing::Follower(flights.join(view.operation())),
            Verdict::Doubt(view) => {
                self.keep_spare(lane, identified, view.operation(), request);
                let flight = flights.join(view.operation());
                flight.publish(View::InDoubt(view));
                Standing::Doubt(flight)
            }
            Verdict::Accepted(view) => Standing::Known(View::Accepted(view)),
            Verdict::Settled(view) => Standing::Known(View::Settled(view)),
            Verdict::Mismatch(view) => Standing::Mismatch(view.operation()),
            Verdict::Bound(view) => Standing::Bound(view.operation()),
            // Recognised once; there is nothing to recognise behind that.
            Verdict::Recognised(..) => Standing::Refused(Slug::Internal, None),
        };
        Stood { standing, by }
    }

    fn begin(
        &self,
        lane: &Lane,
        claimed: Claimed,
        request: Request<Bytes>,
        until: Instant,
        identified: &Identified,
    ) -> Standing {
        if self.tasks.stopping().is_cancelled() {
            // Claimed while the process was told to stop: nothing was sent, nothing will be.
            self.attempts.take_back(claimed.forgo(), Release::TakenBack);
            return Standing::Refused(Slug::Draining, None);
        }
        // Only here, where it is sent for certain: everything else that is done with a request goes
        // by the bytes that its caller sent.
        let request = self.with_reference(identified, claimed.held().key, request);
        let plan = Plan { course: Arc::clone(&lane.course), until, asked: identified.key };
        Standing::Owner(Seat::take(self.attempts.begin(claimed, plan, request)))
    }

    /// The request as it is sent for this record: with a reference, if it is to get one. The same
    /// for every request of the operation.
    fn with_reference(
        &self,
        identified: &Identified,
        key: RecordKey,
        request: Request<Bytes>,
    ) -> Request<Bytes> {
        let Some(gap) = &identified.gap else { return request };
        let reference = drawn(self.index(), key, gap.length());
        request.map(|body| gap.fill(&body, &reference))
    }

    /// Keeps a duplicate's request, to be sent again if its operation stays in doubt. Its fingerprint
    /// is the first one's; its key must be as well, since the provider goes by nothing else.
    fn keep_spare(
        &self,
        lane: &Lane,
        identified: &Identified,
        operation: OperationId,
        request: Request<Bytes>,
    ) {
        let Some(resend) = &lane.course.resend else { return };
        if identified.identity != Identity::Key || operation.key != identified.key {
            return;
        }
        let request = self.with_reference(identified, operation.key, request);
        self.attempts.flights().spares().keep(operation, &request, resend.within);
    }

    /// The attempt of this process that a request duplicates, if it is at work: its caller waits for
    /// that, and the store need not say so.
    fn at_work_here(&self, lane: &Lane, identified: &Identified) -> Option<Arc<Flight>> {
        // A pointer's meaning changes with time; and whoever only watches counts what the store says.
        if lane.route.mode != Mode::Enforce || identified.identity != Identity::Key {
            return None;
        }
        // Everything else that is known here is the store's to say, as long as it can.
        let Some(Standing::Follower(flight)) = self.known_here(identified) else { return None };
        let is_at_work = flight.is_owned() && matches!(flight.stage(), Stage::Flying);
        is_at_work.then_some(flight)
    }

    /// What is known without the store: an attempt of this process, at work or with an answer that
    /// is not on record yet.
    fn known_here(&self, identified: &Identified) -> Option<Standing> {
        let flight = self.attempts.flights().asked(identified.key)?;
        // Its key is free again: that is for the store to say.
        if matches!(flight.stage(), Stage::Known { view: View::Released(_), .. }) {
            return None;
        }
        match identified.fingerprints.matches(&flight.asked()?.fingerprint) {
            Matched::Same => Some(Standing::Follower(flight)),
            Matched::Other => Some(Standing::Mismatch(flight.operation())),
            Matched::UnknownSecret => None,
        }
    }

    /// No verdict: nothing is sent, unless the route was told otherwise.
    fn unclaimed(
        &self,
        lane: &Lane,
        error: ClaimError,
        request: Request<Bytes>,
        until: Instant,
        identified: &Identified,
    ) -> Standing {
        let pass = lane.route.policy.on_store_failure == OnStoreFailure::Pass;
        tracing::warn!(route = lane.route.name, %error, "not claimed");
        let known = self.known_here(identified);
        match (error, known) {
            (ClaimError::Unconfirmed(_, unproven), None) if pass => {
                self.begin(lane, unproven.assume(), request, until, identified)
            }
            (ClaimError::Unconfirmed(_, unproven), known) => {
                self.attempts.take_back(unproven.forgo(), Release::TakenBack);
                known.unwrap_or(Standing::Refused(Slug::StoreUnavailable, None))
            }
            (ClaimError::Forbidden(_, unspent), known) => {
                self.attempts.take_back(*unspent, Release::TakenBack);
                known.unwrap_or(Standing::Refused(Slug::StoreUnavailable, None))
            }
            (error, None) => Self::untouched(error, request, pass),
            (_, Some(known)) => known,
        }
    }

    /// Nothing was claimed for certain, and nothing is known here.
    fn untouched(error: ClaimError, request: Request<Bytes>, pass: bool) -> Standing {
        match error {
            ClaimError::Read(ReadError::Store(StoreError::Unreachable(_))) if pass => {
                Standing::Unguarded(Box::new(request))
            }
            ClaimError::Read(ReadError::Store(StoreError::Refused(Refusal::Busy)))
            | ClaimError::Contended => Standing::Refused(Slug::Overloaded, None),
            ClaimError::Read(error) => Standing::Refused(Slug::StoreUnavailable, public(&error)),
            ClaimError::Saturated | ClaimError::Unconfirmed(..) | ClaimError::Forbidden(..) => {
                Standing::Refused(Slug::StoreUnavailable, None)
            }
        }
    }
}

/// What a caller may know of a store's trouble: the kind, not the place.
fn public(error: &ReadError) -> Option<String> {
    let why = match error {
        ReadError::Store(StoreError::Refused(refusal)) => match refusal {
            Refusal::Full => "the store is full",
            Refusal::ReadOnly(_) => "the store takes no writes",
            Refusal::NotFounded | Refusal::OtherIdentity | Refusal::Rewound { .. } => {
                "the store has lost records or is another one; an operator must accept it"
            }
            Refusal::OtherGeneration { .. } | Refusal::OtherRules | Refusal::OtherSecret => {
                "the store is used with other key rules than this process has"
            }
            Refusal::Unfit(_) => "the store might lose records",
            Refusal::Busy | Refusal::AlreadyFounded => return None,
        },
        ReadError::Store(
            StoreError::Unreachable(_) | StoreError::Unconfirmed(_) | StoreError::Broken(_),
        ) => return None,
        ReadError::Unreadable(_) => "the record of this key cannot be read here",
    };
    Some(format!("{why}; without a record nothing is sent, and this request was not"))
}

/// What is agreed with an operation that is claimed now.
pub fn terms(policy: &Policy) -> Terms {
    let window = match policy.missing {
        Missing::Fingerprint { window } => window,
        Missing::Reject | Missing::Pass => Duration::ZERO,
    };
    Terms {
        lease: policy.lease,
        upstream_timeout: policy.upstream_timeout,
        retention: policy.retention,
        remember: policy.remember,
        window,
        bound: policy.business.as_ref().map_or(Duration::ZERO, |business| business.window),
    }
}
