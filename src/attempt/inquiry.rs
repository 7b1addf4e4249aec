//! Asking the provider what became of an operation: the loop that carries a look-up out.

use std::fmt;
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

/// One question of a look-up and what came of it, for an operator who tries it. It has the
/// request's values in it, so it does not show itself in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Method, path and query.
    pub asked: String,
    /// The status of the answer, if one came.
    pub status: Option<u16>,
    /// How long its body was, in bytes.
    pub bytes: usize,
    /// How many operations in it matched; nothing if it was not read that far.
    pub matched: Option<usize>,
    /// What it was taken for, in words.
    pub verdict: String,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("status", &self.status)
            .field("bytes", &self.bytes)
            .field("matched", &self.matched)
            .finish_non_exhaustive()
    }
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
                Ok(subject) => self.try_out(&subject).await.1,
                Err(why) => Finding::Failed(why),
            }
        }
    }

    /// Asks once, and tells every question and answer too. Changes nothing.
    pub async fn try_out(&self, subject: &Subject) -> (Vec<Exchange>, Finding) {
        let question = match self.lookup.question(subject) {
            Ok(question) => question,
            Err(why) => return (vec![], Finding::Failed(why)),
        };
        let asked = format!("{} {}", question.method(), question.uri());
        let (timeout, body_max) = (self.lookup.timeout, self.lookup.body_max);
        let answer = self.upstream.ask(question, timeout, body_max).await;
        let (status, bytes) = match &answer {
            Ok(answer) => (Some(answer.status().as_u16()), answer.body().len()),
            Err(_) => (None, 0),
        };
        let finding = match answer {
            Ok(answer) => self.lookup.read(subject, &answer),
            Err(error) => Finding::Failed(error.to_string()),
        };
        let matched = match &finding {
            Finding::Final(_) | Finding::Accepted => Some(1),
            Finding::Absent => Some(0),
            Finding::Unclear(_) | Finding::Failed(_) => None,
        };
        let verdict = match &finding {
            Finding::Final(reply) => format!("final: recorded as {}", reply.status),
            Finding::Accepted => "accepted: still working".to_owned(),
            Finding::Absent => "absent".to_owned(),
            Finding::Unclear(why) => format!("unclear: {why}"),
            Finding::Failed(why) => format!("failed: {why}"),
        };
        (vec![Exchange { asked, status, bytes, matched, verdict }], finding)
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
        Ok(Subject::new(inputs, held.record.claimed.age(), (self.wall)()))
    }
}
