//! A look-up as a conversation: what to ask next, until there is a finding. Pure: whoever holds an
//! [`Interview`] carries its question out and hands the answer in.
//!
//! The stages: all pages of a list (one, if nothing is said of pages), then the second question if
//! there is one; or, for an operation that was accepted with a `Location`, that place alone.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};

use super::asking::{Parameter, located};
use super::pages::{Match, Pages};
use super::read::{Document, Item, ItemPath, says_something};
use super::time::{Clock, unreadable};
use super::{LookUp, Place, Subject};
use crate::protocol::outcome::Finding;

/// How large all answers of one look-up may be together, in bytes.
pub(super) const BYTES_MAX: usize = 8 << 20;

/// What to do now.
#[derive(Debug)]
pub enum Step<'l> {
    /// Put this question.
    Ask(Box<Interview<'l>>),
    /// Nothing more: this is what was found.
    Found(Finding),
}

/// A look-up that waits for an answer.
#[derive(Debug)]
pub struct Interview<'l> {
    lookup: &'l LookUp,
    subject: &'l Subject,
    question: Request<Bytes>,
    stage: Stage,
    clock: Clock,
    bytes_left: usize,
}

/// What the answer will be about.
#[derive(Debug)]
enum Stage {
    /// A page of the first question's answer.
    Page(Pages),
    /// What the first question found.
    Then(Match),
    /// What was accepted, at its own place.
    Located,
}

impl<'l> Step<'l> {
    /// Where a look-up begins.
    pub(super) fn first(lookup: &'l LookUp, subject: &'l Subject) -> Self {
        if lookup.goes_by_time(&subject.place) && !subject.has_one_age(lookup.skew()) {
            let why = "the clocks disagree about when it was claimed";
            return Self::Found(Finding::Unclear(why.to_owned()));
        }
        let (question, stage) = match (&subject.place, &lookup.asking) {
            (Place::At(target), _) if lookup.location.is_some() => {
                (located(target, &lookup.credentials), Stage::Located)
            }
            (Place::Refused(why), _) if lookup.location.is_some() => {
                return Self::Found(Finding::Unclear(why.clone()));
            }
            (Place::Unsaid | Place::At(_) | Place::Refused(_), Some(asking)) => {
                let question = asking.question(&subject.values(), &lookup.credentials, None);
                (question, Stage::Page(Pages::default()))
            }
            (Place::Unsaid | Place::At(_) | Place::Refused(_), None) => {
                let why = "only what was accepted with a Location can be asked about";
                return Self::Found(Finding::Failed(why.to_owned()));
            }
        };
        match question {
            Err(why) => Self::Found(Finding::Failed(why)),
            Ok(question) => Self::Ask(Box::new(Interview {
                lookup,
                subject,
                question,
                stage,
                clock: Clock::Agrees,
                bytes_left: BYTES_MAX,
            })),
        }
    }

    /// In words, for whoever tries a look-up.
    pub fn words(&self) -> String {
        match self {
            Self::Ask(interview) => match &interview.stage {
                Stage::Page(pages) => format!("no end yet: page {} is next", pages.read + 1),
                Stage::Then(_) => "one match: the second question is next".to_owned(),
                Stage::Located => "its Location is next".to_owned(),
            },
            Self::Found(finding) => match finding {
                Finding::Final(reply) => format!("final: recorded as {}", reply.status),
                Finding::Accepted => "accepted: still working".to_owned(),
                Finding::Absent => "absent".to_owned(),
                Finding::Unclear(why) => format!("unclear: {why}"),
                Finding::Failed(why) => format!("failed: {why}"),
            },
        }
    }
}

impl<'l> Interview<'l> {
    /// What to ask.
    pub const fn question(&self) -> &Request<Bytes> {
        &self.question
    }

    /// How long that may take.
    pub const fn timeout(&self) -> Duration {
        self.lookup.timeout
    }

    /// How large the answer may be, in bytes.
    pub fn body_max(&self) -> usize {
        self.lookup.body_max.min(self.bytes_left)
    }

    /// Takes the answer, or why there is none, and what time it is now. Says also how many
    /// operations matched, if it was read that far.
    pub fn answer(
        mut self,
        answer: Result<Response<Bytes>, String>,
        now_unix: u64,
    ) -> (Option<usize>, Step<'l>) {
        let mut matched = None;
        let body = match self.body(answer, now_unix) {
            Ok(body) => body,
            Err(finding) => return (matched, Step::Found(self.unread(finding))),
        };
        let step = match Document::parse(&body) {
            Ok(document) => self.read(&document, &mut matched),
            Err(why) => Ok(Step::Found(self.unread(Finding::Unclear(why)))),
        };
        (matched, step.unwrap_or_else(|why| Step::Found(Finding::Unclear(why))))
    }

    /// The body of an answer that answers.
    fn body(
        &mut self,
        answer: Result<Response<Bytes>, String>,
        now_unix: u64,
    ) -> Result<Bytes, Finding> {
        let answer = answer.map_err(Finding::Failed)?;
        self.clock = self.clock.and(answer.headers(), now_unix, self.lookup.skew());
        self.bytes_left = self.bytes_left.saturating_sub(answer.body().len());
        let status = answer.status();
        if self.lookup.absent_statuses.contains(&status.as_u16()) {
            return Err(self.absent());
        }
        if !status.is_success() {
            return Err(Finding::Failed(format!("status {}", status.as_u16())));
        }
        Ok(answer.into_body())
    }

    fn read(mut self, document: &Document<'_>, matched: &mut Option<usize>) -> Read<'l> {
        let has_errors = |errors| says_something(errors, &document.value);
        if self.lookup.errors.as_ref().is_some_and(has_errors) {
            let finding = Finding::Failed("the answer tells of errors".to_owned());
            return Ok(Step::Found(self.unread(finding)));
        }
        match std::mem::replace(&mut self.stage, Stage::Located) {
            Stage::Page(pages) => self.page(pages, document, matched),
            Stage::Then(first) => self.second(&first, document, matched),
            Stage::Located => self.located(document, matched),
        }
    }

    fn page(
        mut self,
        mut pages: Pages,
        document: &Document<'_>,
        matched: &mut Option<usize>,
    ) -> Read<'l> {
        let items = self.lookup.item.items(&self.subject.values(), document)?;
        let matches = self.since_claim(items)?;
        *matched = Some(matches.len());
        pages.take(matches)?;
        if let Some(next) = &self.lookup.next {
            let created = self.lookup.created.as_ref();
            let since =
                created.map(|created| (created, created.since(self.subject.sent_at_unix())));
            let unread = |why| format!("an unread page: {why}");
            let cursor = pages.next(next, &document.value, since).map_err(unread)?;
            if let Some(cursor) = cursor {
                if self.bytes_left == 0 {
                    return Err(unread(format!("all of them are longer than {BYTES_MAX} bytes")));
                }
                let page = Parameter { name: &next.query, value: &cursor };
                self.question = self.first_question(Some(&page)).map_err(unread)?;
                self.stage = Stage::Page(pages);
                return Ok(Step::Ask(Box::new(self)));
            }
        }
        match (pages.found, &self.lookup.then) {
            (None, _) => Ok(Step::Found(self.absent())),
            (Some(found), None) if found.judged => self.conclude(&found.item),
            (Some(_), None) => Err(unreadable()),
            (Some(found), Some(then)) => {
                let values = self.subject.values_with(&found.item.value);
                let question = then.asking.question(&values, &self.lookup.credentials, None);
                self.question = question.map_err(|why| format!("the second question: {why}"))?;
                self.stage = Stage::Then(found);
                Ok(Step::Ask(Box::new(self)))
            }
        }
    }

    fn first_question(&self, page: Option<&Parameter<'_>>) -> Result<Request<Bytes>, String> {
        let asking = self.lookup.asking.as_ref().ok_or("there is no first question")?;
        asking.question(&self.subject.values(), &self.lookup.credentials, page)
    }

    fn second(
        self,
        first: &Match,
        document: &Document<'_>,
        matched: &mut Option<usize>,
    ) -> Read<'l> {
        let path = self.lookup.then.as_ref().map_or(&ItemPath::Whole, |then| &then.item);
        let values = self.subject.values_with(&first.item.value);
        let item = only(path.items(&values, document)?, matched)?;
        if first.judged {
            return self.conclude(&item);
        }
        match self.since_claim(vec![item])?.pop() {
            Some(found) if found.judged => self.conclude(&found.item),
            Some(_) => Err(unreadable()),
            None => {
                *matched = Some(0);
                Ok(Step::Found(self.absent()))
            }
        }
    }

    /// What the provider itself said is the operation's place needs no proof of its age.
    fn located(self, document: &Document<'_>, matched: &mut Option<usize>) -> Read<'l> {
        let path = self.lookup.location.as_ref().unwrap_or(&ItemPath::Whole);
        let item = only(path.items(&self.subject.values(), document)?, matched)?;
        self.conclude(&item)
    }

    fn conclude(&self, item: &Item) -> Read<'l> {
        let (values, age) = (self.subject.values(), self.subject.age());
        self.lookup.reading.conclude(&values, item, age).map(Step::Found)
    }

    /// Leaves out what is older than the claim. What does not say is judged later.
    fn since_claim(&self, items: Vec<Item>) -> Result<Vec<Match>, String> {
        let Some(created) = &self.lookup.created else {
            return Ok(items.into_iter().map(|item| Match { item, judged: true }).collect());
        };
        let since = created.since(self.subject.sent_at_unix());
        let mut matches = vec![];
        for item in items {
            match created.of(&item.value)? {
                Some(_) if self.clock == Clock::Differs => return Err(differs()),
                Some(made) if made < since => {}
                Some(_) => matches.push(Match { item, judged: true }),
                None => matches.push(Match { item, judged: false }),
            }
        }
        Ok(matches)
    }

    /// Not found. Where dates decide what is found, that counts only if the clocks agree.
    fn absent(&self) -> Finding {
        match self.clock {
            Clock::Unsaid if self.lookup.is_dated => {
                let why = "not found by its date, and the answer has no Date to compare clocks by";
                Finding::Unclear(why.to_owned())
            }
            Clock::Differs if self.lookup.is_dated => Finding::Unclear(differs()),
            Clock::Agrees | Clock::Unsaid | Clock::Differs => Finding::Absent,
        }
    }

    /// What a question without an answer amounts to, by how much was known before.
    fn unread(&self, finding: Finding) -> Finding {
        let why = match &finding {
            Finding::Failed(why) | Finding::Unclear(why) => why.as_str(),
            Finding::Absent => "it is not there",
            Finding::Final(_) | Finding::Accepted => return finding,
        };
        match (&self.stage, &finding) {
            (Stage::Page(pages), _) if pages.read > 0 => {
                Finding::Unclear(format!("an unread page: {why}"))
            }
            (Stage::Then(_), Finding::Absent) => {
                Finding::Unclear("found, but not by the second question".to_owned())
            }
            (Stage::Located, Finding::Absent) => {
                Finding::Unclear("accepted, but not at its Location".to_owned())
            }
            (Stage::Page(_) | Stage::Then(_) | Stage::Located, _) => finding,
        }
    }
}

/// What reading comes to; or why it is unclear.
type Read<'l> = Result<Step<'l>, String>;

fn differs() -> String {
    "the provider's clock and ours differ by more than the skew".to_owned()
}

/// The one operation that must be there, because it is known to exist.
fn only(items: Vec<Item>, matched: &mut Option<usize>) -> Result<Item, String> {
    *matched = Some(items.len());
    match <[Item; 1]>::try_from(items) {
        Ok([item]) => Ok(item),
        Err(items) if items.is_empty() => {
            Err("it exists, but not where it is looked for".to_owned())
        }
        Err(_) => Err("two matches".to_owned()),
    }
}
