//! Asking the provider what became of an operation: the loop that carries a look-up out.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use crate::ledger::{Ledger, View};
use crate::protocol::attempt::Held;
use crate::protocol::outcome::{AbsentPolicy, Finding};
use crate::protocol::record::State;
use crate::protocol::reference::drawn;
use crate::upstream::Upstream;
use crate::upstream::lookup::{Inputs, LookUp, Step, Subject, draw_reference};

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

    /// Asks once, and tells every question and answer too. Changes nothing. Time runs out for all
    /// questions together.
    pub async fn try_out(&self, subject: &Subject) -> (Vec<Exchange>, Finding) {
        let mut exchanges = vec![];
        let until = Instant::now() + self.lookup.patience();
        let mut step = self.lookup.interview(subject);
        // It has an end: each answer is a page, of which there are so many, or the last but one.
        loop {
            let interview = match step {
                Step::Ask(interview) => interview,
                Step::Found(finding) => return (exchanges, finding),
            };
            let question = interview.question();
            let asked = format!("{} {}", question.method(), question.uri());
            let time = interview.timeout().min(until.saturating_duration_since(Instant::now()));
            let answer = self.upstream.ask(question.clone(), time, interview.body_max()).await;
            let (status, bytes) = match &answer {
                Ok(answer) => (Some(answer.status().as_u16()), answer.body().len()),
                Err(_) => (None, 0),
            };
            let answer = answer.map_err(|error| error.to_string());
            let (matched, next) = interview.answer(answer, (self.wall)());
            exchanges.push(Exchange { asked, status, bytes, matched, verdict: next.words() });
            step = next;
        }
    }

    /// The values of an operation that is claimed now, as they are sealed.
    pub fn sealable(&self, inputs: &Inputs) -> Option<Vec<u8>> {
        let mut inputs = inputs.clone();
        self.lookup.note_claim(&mut inputs, (self.wall)());
        serde_json::to_vec(&inputs).ok()
    }

    /// What "absent" leads to.
    pub fn absent(&self) -> &AbsentPolicy {
        &self.lookup.absent
    }

    fn subject(&self, ledger: &Ledger, held: &Held) -> Result<Subject, String> {
        let sealed = ledger.inputs(held).map_err(|error| error.to_string())?;
        let place = self.place(ledger, held)?;
        let mut inputs: Inputs = match (sealed, &place) {
            (Some(text), _) => {
                serde_json::from_slice(&text).map_err(|_| "damaged look-up values".to_owned())?
            }
            // Its place is all that need be known.
            (None, Some(_)) => Inputs::new(),
            (None, None) => {
                return Err("claimed without the values that the look-up names".to_owned());
            }
        };
        let index = &ledger.secrets().index;
        draw_reference(&mut inputs, |length| drawn(index, held.key, length));
        let subject = Subject::new(inputs, held.record.claimed.age(), (self.wall)());
        Ok(match place {
            Some(place) => subject.accepted_at(place),
            None => subject,
        })
    }

    /// Where an accepted operation was said to be, if that is to be followed.
    fn place(
        &self,
        ledger: &Ledger,
        held: &Held,
    ) -> Result<Option<Result<String, String>>, String> {
        if !self.lookup.follows_location() || !matches!(held.record.state, State::Accepted { .. }) {
            return Ok(None);
        }
        let view = ledger.view(held).map_err(|error| error.to_string())?;
        let View::Accepted(accepted) = view else { return Ok(None) };
        let Some(reply) = accepted.reply() else { return Ok(None) };
        let is_location = |(name, _): &&(String, Vec<u8>)| name.eq_ignore_ascii_case("location");
        let mut locations = reply.headers.iter().filter(is_location);
        Ok(match (locations.next(), locations.next()) {
            (None, _) => None,
            (Some((_, location)), None) => Some(self.upstream.within(location)),
            (Some(_), Some(_)) => Some(Err("it was accepted with two Locations".to_owned())),
        })
    }
}
