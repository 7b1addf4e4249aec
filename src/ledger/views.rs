//! What can be told of an operation. Only the ledger makes these.

use std::sync::Arc;
use std::time::Duration;

use super::{Ledger, PART_REPLY, ReadError, Traced};
use crate::protocol::attempt::Held;
use crate::protocol::id::{OperationId, RecordKey};
use crate::protocol::outcome::UnknownReason;
use crate::protocol::record::{Doubt, Record, Release, Reply, SettledBy, State};
use crate::protocol::seal::Sealed;

/// An operation in flight, somewhere.
#[derive(Debug, Clone)]
pub struct InFlight {
    pub(super) operation: OperationId,
}

/// An operation whose outcome is on record (or, if not [`Settled::recorded`], soon will be).
#[derive(Debug, Clone)]
pub struct Settled {
    pub(super) operation: OperationId,
    pub(super) by: SettledBy,
    pub(super) status: u16,
    pub(super) since: Duration,
    pub(super) reply: Option<Arc<Reply>>,
    pub(super) recorded: bool,
}

/// An operation that was certainly not applied; its key is free.
#[derive(Debug, Clone)]
pub struct Released {
    pub(super) operation: OperationId,
    pub(super) why: Release,
    pub(super) reply: Option<Arc<Reply>>,
}

/// An operation that the provider is working on.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub(super) operation: OperationId,
    pub(super) route: String,
    pub(super) reply: Option<Arc<Reply>>,
}

/// An operation of which nobody knows whether it took effect.
#[derive(Debug, Clone)]
pub struct InDoubt {
    pub(super) operation: OperationId,
    pub(super) route: String,
    pub(super) why: Doubt,
}

/// Any of them.
#[derive(Debug, Clone)]
pub enum View {
    /// In flight.
    InFlight(InFlight),
    /// Settled.
    Settled(Settled),
    /// Released.
    Released(Released),
    /// Accepted.
    Accepted(Accepted),
    /// In doubt.
    InDoubt(InDoubt),
}

macro_rules! operation {
    ($($name:ident)+) => {$(
        impl $name {
            /// Its public name.
            pub const fn operation(&self) -> OperationId {
                self.operation
            }
        }
    )+};
}
operation!(InFlight Settled Released Accepted InDoubt);

impl Settled {
    /// Who settled it.
    pub const fn by(&self) -> SettledBy {
        self.by
    }

    /// The status of the answer.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// How long ago it was settled.
    pub const fn since(&self) -> Duration {
        self.since
    }

    /// The answer, if it is (still) kept.
    pub const fn reply(&self) -> Option<&Arc<Reply>> {
        self.reply.as_ref()
    }

    /// Whether it is on record. If not, recording goes on.
    pub const fn recorded(&self) -> bool {
        self.recorded
    }
}

impl Released {
    /// On what ground.
    pub const fn why(&self) -> Release {
        self.why
    }

    /// The upstream's answer that said so, if there was one.
    pub const fn reply(&self) -> Option<&Arc<Reply>> {
        self.reply.as_ref()
    }
}

impl Accepted {
    /// The route it came by.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// The upstream's answer that said so, if there was one.
    pub const fn reply(&self) -> Option<&Arc<Reply>> {
        self.reply.as_ref()
    }
}

impl InDoubt {
    /// The route it came by.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// Why.
    pub const fn why(&self) -> Doubt {
        self.why
    }

    /// The status of the complete answer that proved nothing, if that is why.
    pub const fn unproven_status(&self) -> Option<u16> {
        match self.why {
            Doubt::Unknown(UnknownReason::Status(status)) => Some(status),
            Doubt::Unknown(_) | Doubt::OwnerSilent | Doubt::Drained | Doubt::TrackLost => None,
        }
    }
}

impl View {
    /// Its state, as records name it.
    pub const fn state(&self) -> &'static str {
        match self {
            Self::InFlight(_) => "in-flight",
            Self::Settled(_) => "settled",
            Self::Released(_) => "released",
            Self::Accepted(_) => "accepted",
            Self::InDoubt(_) => "in-doubt",
        }
    }

    /// The operation's public name.
    pub const fn operation(&self) -> OperationId {
        match self {
            Self::InFlight(view) => view.operation,
            Self::Settled(view) => view.operation,
            Self::Released(view) => view.operation,
            Self::Accepted(view) => view.operation,
            Self::InDoubt(view) => view.operation,
        }
    }
}

impl Ledger {
    /// What can be told of a record in hand.
    ///
    /// # Errors
    /// [`ReadError::Unreadable`] if its answer does not open.
    pub fn view(&self, held: &Held) -> Result<View, ReadError> {
        let (key, record) = (held.key, &held.record);
        let operation = held.operation();
        Ok(match &record.state {
            State::InFlight => View::InFlight(InFlight { operation }),
            State::Accepted { reply, .. } => View::Accepted(Accepted {
                operation,
                route: record.route.clone(),
                reply: self.open_reply(key, record, reply.as_ref())?,
            }),
            State::InDoubt { why, .. } => {
                View::InDoubt(InDoubt { operation, route: record.route.clone(), why: *why })
            }
            State::Settled(settlement) => {
                let kept = record.entered.age() <= record.terms.retention;
                let reply = settlement.reply.as_ref().filter(|_| kept);
                View::Settled(Settled {
                    operation,
                    by: settlement.by,
                    status: settlement.status,
                    since: record.entered.age(),
                    reply: self.open_reply(key, record, reply)?,
                    recorded: true,
                })
            }
            State::Released { why, reply } => View::Released(Released {
                operation,
                why: *why,
                reply: self.open_reply(key, record, reply.as_ref())?,
            }),
        })
    }

    fn open_reply(
        &self,
        key: RecordKey,
        record: &Record,
        sealed: Option<&Sealed>,
    ) -> Result<Option<Arc<Reply>>, ReadError> {
        let Some(sealed) = sealed else { return Ok(None) };
        let binding = Self::binding(key, record, PART_REPLY);
        let text = self.secrets().seals.open(binding, sealed);
        let text = text.map_err(|error| ReadError::Unreadable(error.to_string()))?;
        let reply = postcard::from_bytes(&text)
            .map_err(|_| ReadError::Unreadable("a sealed answer that is damaged".to_owned()))?;
        Ok(Some(Arc::new(reply)))
    }
}

impl Ledger {
    /// What is known of one claim. `None`: it is not in the store (any more).
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn look(&self, operation: OperationId) -> Result<Option<View>, ReadError> {
        match self.trace(operation).await? {
            Traced::There(held) => return self.view(&held).map(Some),
            Traced::Absent => return Ok(None),
            Traced::Replaced => {}
        }
        // Only a released key is claimed anew, so that is what became of the earlier claim. On what
        // ground is not known any more, so the one that promises least.
        let why = Release::Operator;
        Ok(Some(View::Released(Released { operation, why, reply: None })))
    }
}
