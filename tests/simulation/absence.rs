//! Whether it is right to act on "absent": only under the owner's mark, found so often since then,
//! and never so that the request takes effect afterwards.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt as _;
use rand::rngs::StdRng;
use semel::protocol::id::AttemptId;
use semel::protocol::outcome::{AbsentPolicy, Enough};
use semel::protocol::record::{Record, Reply, State};
use tokio::time::Instant;

use crate::book::Pages;
use crate::entries::{Mark, SendId};

/// The status of the answer with which absence settles.
pub(crate) const NEVER: u16 = 424;
/// How long after its first byte a request takes effect and is shown at the latest, by a provider
/// whose absence is acted upon.
pub(crate) const PROMPT: Duration = Duration::from_secs(4);

/// Draws what "absent" leads to in a world.
pub(crate) fn draw(rng: &mut StdRng) -> AbsentPolicy {
    let after = PROMPT + Duration::from_millis(rng.random_range(1..4000));
    let enough = Enough { after, times: rng.random_range(1..=4) };
    match rng.random_range(0..10) {
        0..5 => AbsentPolicy::Hold,
        5..7 => {
            let body = Bytes::from_static(br#"{"error":"never applied"}"#);
            AbsentPolicy::Fail(enough, Arc::new(Reply { status: NEVER, headers: vec![], body }))
        }
        _ => AbsentPolicy::Reopen(enough),
    }
}

impl Pages {
    /// Notes when the owner's mark came to be on record.
    pub(crate) fn marked(&mut self, after: &Record) {
        let State::InDoubt { closed: Some(_), .. } = after.state else { return };
        let mark = Mark { at: Instant::now(), stepped: self.stepped };
        let Some(claim) = self.claims.get_mut(&after.attempt) else { return };
        if claim.mark.is_some() {
            return;
        }
        claim.mark = Some(mark);
        let (claimed, send) = (claim.claimed, claim.send);
        let early = send.is_some_and(|send| self.look_ups_since(send, claimed) > 0);
        if early && self.absent != AbsentPolicy::Hold {
            self.saw("looked up before its connection was known to be closed");
        }
    }

    /// Somebody acts on absence. `Err`: that was not right.
    ///
    /// Not promised: of a claim under whose mark the store's clock was put forward, by which `after`
    /// is measured, that its request takes no effect later.
    pub(crate) fn absent(&mut self, attempt: AttemptId) -> Result<(), String> {
        let Some(claim) = self.claims.get_mut(&attempt) else { return Ok(()) };
        let Some(send) = claim.send else { return Err("nothing was sent".to_owned()) };
        let Some(mark) = claim.mark else { return Err("it bears no mark".to_owned()) };
        if self.stepped > mark.stepped {
            claim.is_waived = true;
        } else if let Some(payment) = self.sends[send].payment {
            return Err(format!("payment {payment} is there"));
        }
        let needed = match &self.absent {
            AbsentPolicy::Fail(enough, _) | AbsentPolicy::Reopen(enough) => enough.times as usize,
            AbsentPolicy::Hold => return Err("nothing follows from absence here".to_owned()),
        };
        let found = self.look_ups_since(send, mark.at);
        if found < needed {
            return Err(format!("looked up {found} of {needed} times since its mark"));
        }
        Ok(())
    }

    /// How often the provider has answered a question about this order that was put since then.
    fn look_ups_since(&self, send: SendId, since: Instant) -> usize {
        let order = self.tries.iter().find(|by| by.send == Some(send)).map(|by| &by.order);
        self.look_ups.iter().filter(|(of, at)| Some(of) == order && *at >= since).count()
    }
}
