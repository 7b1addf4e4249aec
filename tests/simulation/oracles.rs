//! The oracles: what each thing that happens must agree with. They hold the promises of the product
//! against what really happened, and know nothing of how the code comes to it.

use std::fmt::Write as _;
use std::time::Duration;

use semel::ledger::RELEASED_KEPT;
use semel::protocol::id::{AttemptId, RecordKey};
use semel::protocol::invariants;
use semel::protocol::outcome::UnknownReason;
use semel::protocol::record::{
    Doubt, Entry, Pointer, PointerKind, Record, Release, SettledBy, State,
};
use semel::store::Stored;
use semel::store::memory::MemoryStore;
use tokio::time::Instant;

use crate::absence::NEVER;
use crate::book::{Pages, brief, short};
use crate::entries::{Claim, SendId, Try, TryId};

/// How long after the store's last trouble all that was to be noted is noted.
const NOTED_AFTER: Duration = Duration::from_secs(20);

impl Pages {
    pub(crate) fn line(&mut self, began: Instant, text: String) {
        if !self.is_kept {
            return;
        }
        self.lines.push(format!("{:>10.3} {text}", began.elapsed().as_secs_f64()));
    }

    pub(crate) fn violation(&mut self, began: Instant, text: String) {
        self.line(began, format!("!!! {text}"));
        self.violations.push(text);
    }

    pub(crate) fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Finds the claim on whose strength a try is sent, and whether it permits that.
    pub(crate) fn permit(
        &mut self,
        store: &MemoryStore,
        began: Instant,
        this_try: TryId,
    ) -> Option<AttemptId> {
        let Try { key: named, by_content, .. } = self.tries[this_try].clone();
        let read = |key| {
            let stored: Stored = store.peek(key)?;
            Entry::read(&stored.bytes, stored.age).ok()
        };
        let mut key = named;
        let mut lost = self.lost.contains(&named);
        for _ in 0..5 {
            let Some(Entry::Pointer(pointer)) = read(key) else { break };
            key = pointer.to;
            lost |= self.lost.contains(&key);
        }
        lost |= self.tries[this_try].business.is_some_and(|at| self.lost.contains(&at));
        let record = read(key);
        if lost {
            let Some(Entry::Record(record)) = record else { return None };
            self.lost.insert(key);
            return self.claims.contains_key(&record.attempt).then_some(record.attempt);
        }
        let Some(Entry::Record(record)) = record else {
            self.violation(began, format!("try {this_try} was sent without a record"));
            return None;
        };
        let fine = matches!(
            record.state,
            State::InFlight | State::InDoubt { why: Doubt::OwnerSilent, .. }
        );
        if !fine {
            let state = record.state.name();
            self.violation(began, format!("try {this_try} was sent while its record was {state}"));
        }
        if matches!(record.state, State::InDoubt { .. }) {
            self.saw("a first byte went out after its claim had come to be in doubt");
        }
        if let Some(open) = self.open.insert(key, record.attempt)
            && open != record.attempt
        {
            let text = format!("try {this_try}: {} is sent a second time", short(key));
            self.violation(began, text);
        }
        if by_content
            && let Some(open) = self.open_content.insert(named, record.attempt)
            && open != record.attempt
        {
            self.content_again(began, this_try, open);
        }
        self.business_once(began, this_try, record.attempt);
        self.orphans_once(began, this_try, record.attempt);
        Some(record.attempt)
    }

    /// Content that was sent before is sent again: whoever asked for it must have been answered.
    pub(crate) fn content_again(&mut self, began: Instant, this_try: TryId, before: AttemptId) {
        let claim = self.claims[&before].clone();
        if self.lost.contains(&claim.key) {
            return;
        }
        let again = &self.tries[this_try];
        let same = || self.tries.iter().filter(|other| other.key == again.key);
        let answered = same().filter_map(|other| {
            // Where there is no look-up a 202 is final.
            let handed = other.handed.filter(|_| claim.settled.is_some());
            let (operation, at) = other.answered.or(handed)?;
            (operation.attempt == before).then_some((other.arrived, at))
        });
        let answered: Option<(Instant, Instant)> = answered.max();
        // What is over, or in doubt, for longer than retention, stops matching by content alone.
        if claim.entered.elapsed() + self.stepped >= claim.retention {
            return self.saw("content was free again after retention");
        }
        let Some((arrived, at)) = answered else {
            let text = format!("try {this_try}: content is sent again before anybody was answered");
            return self.violation(began, text);
        };
        // Who left while the store was in trouble may not be on record, or not yet.
        let is_noted = self.foul_until.is_none_or(|until| until.elapsed() > NOTED_AFTER);
        let unanswered = !self.is_foul
            && is_noted
            && same().any(|other| {
                let left = other.left.is_some_and(|left| left < again.arrived);
                // What a process knew that died may not have been on record yet.
                let known = !other.orphaned && !self.fallen.contains(&other.process);
                left && known && other.arrived > arrived && other.arrived < at
            });
        if unanswered {
            let text =
                format!("try {this_try}: content is sent again though a later caller had left");
            self.violation(began, text);
        }
        self.saw("the same content was bought again");
    }

    pub(crate) fn sent(&mut self, began: Instant, attempt: AttemptId, send: SendId) {
        let Some(claim) = self.claims.get_mut(&attempt) else {
            return self.violation(began, format!("send {send} by a claim that nobody saw"));
        };
        let twice = claim.send.replace(send);
        if let Some(twice) = twice {
            self.violation(began, format!("one claim began sends {twice} and {send}"));
        }
        if let Some(why) = self.promised_unapplied(send) {
            self.violation(began, format!("send {send} begins, but {why}"));
        }
    }

    /// Whether somebody was told that this request does not take effect.
    pub(crate) fn promised_unapplied(&self, send: SendId) -> Option<&'static str> {
        let attempt = self.sends.get(send)?.attempt?;
        let claim = self.claims.get(&attempt)?;
        if claim.is_waived || self.lost.contains(&claim.key) { None } else { claim.not_applied }
    }

    pub(crate) fn record(
        &mut self,
        began: Instant,
        key: RecordKey,
        before: Option<&Record>,
        after: &Record,
        lost: bool,
        process: &str,
    ) {
        if !lost && let Err(error) = invariants::edge(before, after) {
            self.violation(began, format!("{}: {error}", short(key)));
        }
        // A claim that the store did not confirm is taken back even if it never came there.
        let begins = match after.state {
            State::InFlight | State::Released { why: Release::TakenBack, .. } => true,
            State::Accepted { .. }
            | State::InDoubt { .. }
            | State::Settled(_)
            | State::Released { .. } => false,
        };
        if !lost && before.is_none() && !begins {
            self.violation(began, format!("{} begins as {}", short(key), after.state.name()));
        }
        let is_new = before.is_none_or(|before| before.attempt != after.attempt);
        if is_new && matches!(after.state, State::InFlight) {
            self.claimed(key, before, after, process);
        }
        self.marked(after);
        if !is_new && before.is_some_and(|before| before.state == after.state) {
            return;
        }
        let from = before.map_or("none", |before| before.state.name());
        if let Some(claim) = self.claims.get_mut(&after.attempt)
            && from != after.state.name()
        {
            claim.entered = Instant::now();
        }
        match &after.state {
            State::InFlight => {}
            State::Accepted { .. } => self.saw("accepted"),
            State::InDoubt { why, .. } => self.doubted(from, *why),
            State::Settled(settlement) if from != "settled" => {
                let outcome = (settlement.by, settlement.status);
                self.settled(began, key, after.attempt, outcome, from, lost);
            }
            State::Settled(settlement) => {
                if settlement.reply.is_none() {
                    self.saw("an answer was buried");
                }
            }
            State::Released { why, .. } => self.released(began, after.attempt, *why, from, lost),
        }
    }

    pub(crate) fn claimed(
        &mut self,
        key: RecordKey,
        before: Option<&Record>,
        after: &Record,
        process: &str,
    ) {
        if before.is_some() {
            self.saw("a released key was claimed again");
        }
        if self.pointed.get(&key).is_some_and(|writer| writer != process) {
            self.saw("a record was claimed through another process's pointer");
        }
        let claim = Claim {
            key,
            send: None,
            not_applied: None,
            is_waived: false,
            mark: None,
            told: None,
            told_unrecorded: false,
            settled: None,
            entered: Instant::now(),
            retention: after.terms.retention,
            claimed: Instant::now(),
            by: process.to_owned(),
        };
        self.claims.entry(after.attempt).or_insert(claim);
    }

    pub(crate) fn doubted(&mut self, from: &str, why: Doubt) {
        self.saw(match why {
            Doubt::Unknown(UnknownReason::Status(409)) => "in doubt: by an answer's header",
            Doubt::Unknown(_) => "in doubt: the attempt proved nothing",
            Doubt::OwnerSilent => "in doubt: a silent owner",
            Doubt::Drained => "in doubt: drained",
            Doubt::TrackLost => "in doubt: lost track",
        });
        if from == "in-doubt" {
            self.saw("an owner marked its connection closed in a doubt");
        }
    }

    pub(crate) fn settled(
        &mut self,
        began: Instant,
        key: RecordKey,
        attempt: AttemptId,
        (by, status): (SettledBy, u16),
        from: &str,
        lost: bool,
    ) {
        let never = by == SettledBy::LookUp && status == NEVER;
        match (by, from) {
            _ if never => self.saw("settled as never applied by absence"),
            (SettledBy::Answer, _) if status == 409 => self.saw("settled: without that header"),
            (SettledBy::Answer, "in-doubt") => self.saw("its own late answer settled a doubt"),
            (SettledBy::LookUp, "in-doubt") => self.saw("a look-up settled a doubt"),
            (SettledBy::LookUp, "in-flight") => self.saw("a look-up settled an open call"),
            (SettledBy::LookUp, "accepted") => self.saw("a look-up settled what was accepted"),
            (SettledBy::Operator, _) => self.saw("an operator settled"),
            (_, "none") => self.saw("an owner put back what the store had lost"),
            (SettledBy::Answer | SettledBy::LookUp, _) => self.saw("settled"),
        }
        let Some(claim) = self.claims.get_mut(&attempt) else { return };
        claim.settled = Some((by, status, Instant::now()));
        let unrecorded = claim.told_unrecorded;
        let send = claim.send.map(|send| self.sends[send].clone());
        if unrecorded {
            self.saw("an unrecorded answer was recorded later");
        }
        if lost {
            return;
        }
        if never {
            return self.never_applied(began, key, attempt);
        }
        let Some(send) = send else {
            if by != SettledBy::Operator {
                self.violation(began, format!("{} settled, but nothing was sent", short(key)));
            }
            return;
        };
        let true_answer = match by {
            SettledBy::Answer => send.answered == Some(status) && send.fate.may_settle(),
            SettledBy::LookUp => send.payment.is_some(),
            SettledBy::Operator => true,
        };
        if !true_answer {
            self.violation(
                began,
                format!("{} settled by {by:?} as {status}: {send:?}", short(key)),
            );
        }
    }

    /// Absence has settled it: that is its outcome, for good.
    fn never_applied(&mut self, began: Instant, key: RecordKey, attempt: AttemptId) {
        if let Err(why) = self.absent(attempt) {
            self.violation(began, format!("{} settled as never applied, but {why}", short(key)));
        }
        if let Some(claim) = self.claims.get_mut(&attempt) {
            claim.not_applied = Some("it was settled as never applied");
        }
    }

    pub(crate) fn released(
        &mut self,
        began: Instant,
        attempt: AttemptId,
        why: Release,
        from: &str,
        lost: bool,
    ) {
        if from == "in-doubt" {
            self.saw("a doubt was released by proof");
        }
        let absent = if why == Release::Absent { self.absent(attempt) } else { Ok(()) };
        let Some(claim) = self.claims.get_mut(&attempt) else { return };
        let key = claim.key;
        let send = claim.send.map(|send| self.sends[send].clone());
        let (what, promise, fine) = match why {
            Release::NotSent => {
                ("released: not sent", "its record says that nothing was sent", send.is_none())
            }
            Release::TakenBack => {
                ("a claim was taken back", "its claim was taken back", send.is_none())
            }
            Release::NotApplied => {
                let fine = send.as_ref().is_some_and(|send| send.answered == Some(429));
                ("released: not applied", "the provider said no", fine)
            }
            Release::Operator => ("released: an operator", "an operator reopened it", true),
            Release::Absent => {
                ("reopened by absence", "it was absent for long and often enough", absent.is_ok())
            }
        };
        claim.not_applied = Some(promise);
        claim.is_waived |= why == Release::Operator;
        self.saw(what);
        if !fine && !lost {
            let text = format!("{} released as {why:?}, but: {send:?} {absent:?}", short(key));
            self.violation(began, text);
        }
        self.free(key, attempt);
    }

    pub(crate) fn free(&mut self, key: RecordKey, attempt: AttemptId) {
        if self.open.get(&key) == Some(&attempt) {
            self.open.remove(&key);
        }
        self.open_content.retain(|_, open| *open != attempt);
        self.open_business.retain(|_, open| *open != attempt);
    }

    /// A claim becomes a name of another operation: only one that was never sent.
    pub(crate) fn turned(
        &mut self,
        began: Instant,
        key: RecordKey,
        before: &Record,
        after: Pointer,
        lost: bool,
    ) {
        let sent = self.claims.get(&before.attempt).is_some_and(|claim| claim.send.is_some());
        let unsent = matches!(before.state, State::InFlight) && !sent;
        if !(lost || unsent && after.kind == PointerKind::Key) {
            let state = before.state.name();
            self.violation(began, format!("{} became a pointer while {state}", short(key)));
        }
        if let Some(claim) = self.claims.get_mut(&before.attempt) {
            claim.not_applied = Some("its key became a name of another operation");
        }
        self.free(key, before.attempt);
        self.saw("a claim became a name of another operation");
    }

    pub(crate) fn purged(&mut self, began: Instant, key: RecordKey, before: &Record, lost: bool) {
        if !invariants::may_purge(before, RELEASED_KEPT) {
            self.violation(began, format!("{} was purged {}", short(key), before.state.name()));
        }
        let settled = self.claims.get(&before.attempt).and_then(|claim| claim.settled);
        if let (Some((_, _, at)), false) = (settled, lost) {
            let kept = at.elapsed() + self.stepped;
            if kept < before.terms.retention + before.terms.remember {
                self.violation(began, format!("{} was purged after {kept:?}", short(key)));
            }
            self.saw("a tombstone was purged");
        }
        self.saw("a record was purged");
        self.free(key, before.attempt);
    }

    pub(crate) fn pointer(
        &mut self,
        began: Instant,
        key: RecordKey,
        before: Option<Entry>,
        after: Pointer,
        process: &str,
    ) {
        match before {
            Some(Entry::Pointer(before)) if before.to != after.to => match after.kind {
                PointerKind::Content => self.saw("a content pointer was replaced"),
                PointerKind::Business => self.saw("a business pointer was replaced"),
                PointerKind::Key => {
                    let text = format!("{}: a further key leads elsewhere", short(key));
                    self.violation(began, text);
                }
            },
            Some(Entry::Pointer(_)) => return,
            Some(Entry::Record(_)) | None => {}
        }
        self.pointed.insert(after.to, process.to_owned());
    }
}

pub(crate) fn pointee(stored: &Stored) -> Option<RecordKey> {
    match Entry::read(&stored.bytes, stored.age) {
        Ok(Entry::Pointer(pointer)) => Some(pointer.to),
        Ok(Entry::Record(_)) | Err(_) => None,
    }
}

pub(crate) fn name(entry: &Option<Entry>) -> String {
    match entry {
        None => "none".to_owned(),
        Some(Entry::Pointer(pointer)) => format!("pointer to {}", short(pointer.to)),
        Some(Entry::Record(record)) => {
            let mut text =
                format!("{} by {}", record.state.name(), brief(record.attempt.as_bytes()));
            match &record.state {
                State::Settled(settlement) => {
                    let _ = write!(text, " ({:?}, {})", settlement.by, settlement.status);
                }
                State::Released { why, .. } => {
                    let _ = write!(text, " ({why:?})");
                }
                State::InDoubt { why, closed, .. } => {
                    let _ = write!(text, " ({why:?}, closed {})", closed.is_some());
                }
                State::InFlight | State::Accepted { .. } => {}
            }
            text
        }
    }
}
