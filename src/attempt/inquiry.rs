//! Asking the provider what became of an operation.

use std::sync::Arc;

use crate::ledger::Ledger;
use crate::protocol::attempt::Held;
use crate::protocol::outcome::{AbsentPolicy, Finding};
use crate::protocol::reference::drawn;
use crate::upstream::Upstream;
use crate::upstream::lookup::{Inputs, LookUp, Subject, draw_reference};

/// Seconds since 1970 by the wall clock, for look-ups that filter by date. Nothing is decided by it.
pub type WallClock = fn() -> u64;

/// How a route's operations are looked up.
#[derive(Debug, Clone)]
pub struct Inquiry {
    /// The question, and how its answer is read.
    pub lookup: Arc<LookUp>,
    /// Whom to ask.
    pub upstream: Arc<dyn Upstream>,
    /// Its name, for metrics.
    pub upstream_name: String,
    /// What time it is, for the provider.
    pub wall: WallClock,
}

impl Inquiry {
    /// Asks once. Safe to repeat: it changes nothing. The record is free while the answer is
    /// awaited, so that its lease can be renewed.
    pub fn ask(
        &self,
        ledger: &Ledger,
        held: &Held,
    ) -> impl Future<Output = Finding> + Send + use<'_> {
        let subject = self.subject(ledger, held);
        async move {
            match subject {
                Ok(subject) => self.ask_about(subject).await,
                Err(why) => Finding::Failed(why),
            }
        }
    }

    async fn ask_about(&self, subject: Subject) -> Finding {
        let question = match self.lookup.question(&subject) {
            Ok(question) => question,
            Err(why) => return Finding::Failed(why),
        };
        let (timeout, body_max) = (self.lookup.timeout, self.lookup.body_max);
        match self.upstream.ask(question, timeout, body_max).await {
            Ok(answer) => self.lookup.read(&subject, &answer),
            Err(error) => Finding::Failed(error.to_string()),
        }
    }

    /// What "absent" leads to.
    pub fn absent(&self) -> &AbsentPolicy {
        &self.lookup.absent
    }

    fn subject(&self, ledger: &Ledger, held: &Held) -> Result<Subject, String> {
        let sealed = ledger.inputs(held).map_err(|error| error.to_string())?;
        let mut inputs: Inputs = match sealed {
            Some(text) => {
                serde_json::from_slice(&text).map_err(|_| "damaged look-up values".to_owned())?
            }
            None => return Err("claimed when the route had no look-up".to_owned()),
        };
        let index = &ledger.secrets().index;
        draw_reference(&mut inputs, |length| drawn(index, held.key, length));
        Ok(Subject { inputs, claimed: held.record.claimed.age(), now_unix: (self.wall)() })
    }
}
