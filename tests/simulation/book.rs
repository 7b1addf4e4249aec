//! What really happened, and whether it may: the oracles.
//!
//! The book sees every swap that changes the store, every first byte, every effect and every answer
//! that a caller got. What it holds against them are the promises of the product, not the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use semel::protocol::id::{AttemptId, RecordKey};
use semel::protocol::outcome::AbsentPolicy;
use semel::protocol::record::{Entry, PointerKind};
use semel::store::Stored;
use semel::store::memory::{Content, MemoryStore};
use tokio::time::Instant;

pub(crate) use crate::entries::{Claim, Fate, Send, SendId, Try, TryId};
use crate::oracles::{name, pointee};

#[derive(Debug)]
pub(crate) struct Book {
    began: Instant,
    print: bool,
    store: MemoryStore,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
pub(crate) struct Pages {
    /// Whether the history is kept, to be printed.
    pub(crate) is_kept: bool,
    pub(crate) lines: Vec<String>,
    pub(crate) violations: Vec<String>,
    pub(crate) seen: BTreeMap<&'static str, u64>,
    pub(crate) tries: Vec<Try>,
    pub(crate) sends: Vec<Send>,
    pub(crate) claims: BTreeMap<AttemptId, Claim>,
    /// Claims that were sent and for which nothing has freed the key.
    pub(crate) open: BTreeMap<RecordKey, AttemptId>,
    /// The same for content: by pointer.
    pub(crate) open_content: BTreeMap<RecordKey, AttemptId>,
    /// The same for business keys: by pointer.
    pub(crate) open_business: BTreeMap<RecordKey, AttemptId>,
    /// Keys of which the store has lost something: the promise does not cover them.
    pub(crate) lost: BTreeSet<RecordKey>,
    /// What follows from absence in this world.
    pub(crate) absent: AbsentPolicy,
    /// Look-ups that the provider answered: about which order, and when they were asked.
    pub(crate) look_ups: Vec<(String, Instant)>,
    /// Who wrote the pointer to a record.
    pub(crate) pointed: BTreeMap<RecordKey, String>,
    /// Processes that died, or had to leave something behind.
    pub(crate) fallen: BTreeSet<String>,
    /// Whether calls to the store fail, and until when they last did.
    pub(crate) is_foul: bool,
    pub(crate) foul_until: Option<Instant>,
    /// Whether a process was ever paused: what it was to note may have come late.
    pub(crate) paused: bool,
    /// How far the store's clock was put forward, at most.
    pub(crate) stepped: Duration,
}

impl Book {
    pub(crate) fn new(store: MemoryStore, absent: AbsentPolicy, print: bool) -> Arc<Self> {
        let pages = Mutex::new(Pages { is_kept: print, absent, ..Pages::default() });
        Arc::new(Self { began: Instant::now(), print, store, pages })
    }

    pub(crate) fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap()
    }

    pub(crate) fn line(&self, text: String) {
        self.pages().line(self.began, text);
    }

    pub(crate) fn violation(&self, text: String) {
        self.pages().violation(self.began, text);
    }

    pub(crate) fn check(&self, holds: bool, text: impl FnOnce() -> String) {
        if !holds {
            self.violation(text());
        }
    }

    pub(crate) fn sometimes(&self, what: &'static str) {
        *self.pages().seen.entry(what).or_default() += 1;
        if self.print {
            self.line(format!("-- {what}"));
        }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        std::mem::take(&mut self.pages().lines)
    }

    /// The store has lost something: what it held and no longer does is not promised any more.
    pub(crate) fn store_lost(&self, before: &Content, after: &Content) {
        let tokens = |content: &Content| -> BTreeMap<_, _> {
            content.entries().map(|(key, stored)| (key, (stored.token, pointee(&stored)))).collect()
        };
        let (before, after) = (tokens(before), tokens(after));
        let mut pages = self.pages();
        for (key, (token, to)) in before.iter().chain(&after) {
            let stays =
                [&before, &after].iter().all(|side| side.get(key).is_some_and(|(t, _)| t == token));
            if !stays {
                pages.lost.insert(*key);
                pages.lost.extend(*to);
            }
        }
        // What was purged before the snapshot or claimed but never stored is not there to compare.
        let known: Vec<_> = pages.claims.values().map(|claim| claim.key).collect();
        for key in known {
            if !before.contains_key(&key) || !after.contains_key(&key) {
                pages.lost.insert(key);
            }
        }
    }

    /// Looks at one swap that has changed the store.
    pub(crate) fn stored(
        &self,
        key: RecordKey,
        before: Option<&Stored>,
        after: Option<&Stored>,
        process: &str,
    ) {
        let read = |stored: &Stored| Entry::read(&stored.bytes, stored.age);
        let (before, after) = (before.map(read).transpose(), after.map(read).transpose());
        let (Ok(before), Ok(after)) = (before, after) else {
            return self.violation(format!("{} is unreadable", short(key)));
        };
        let mut pages = self.pages();
        if self.print {
            let text = format!("{process}: {} {} → {}", short(key), name(&before), name(&after));
            pages.line(self.began, text);
        }
        let lost = pages.lost.contains(&key);
        match (before, after) {
            (Some(Entry::Record(before)), Some(Entry::Record(after))) => {
                pages.record(self.began, key, Some(&before), &after, lost, process);
            }
            (None, Some(Entry::Record(after))) => {
                pages.record(self.began, key, None, &after, lost, process);
            }
            (Some(Entry::Record(before)), None) => pages.purged(self.began, key, &before, lost),
            (before @ (None | Some(Entry::Pointer(_))), Some(Entry::Pointer(after))) => {
                pages.pointer(self.began, key, before, after, process);
            }
            (Some(Entry::Pointer(before)), None) => {
                if self.store.peek(before.to).is_some() && !lost {
                    pages.violation(self.began, "a pointer to a record was purged".to_owned());
                }
                pages.saw(match before.kind {
                    PointerKind::Content => "a content pointer was purged",
                    PointerKind::Business => "a business pointer was purged",
                    PointerKind::Key => "a further key was purged",
                });
                pages.open_content.remove(&key);
            }
            (None, None) => {}
            (Some(Entry::Record(before)), Some(Entry::Pointer(after))) => {
                pages.turned(self.began, key, &before, after, lost);
            }
            (Some(Entry::Pointer(_)), Some(Entry::Record(_))) => {
                pages.violation(self.began, "a pointer became a record".to_owned());
            }
        }
    }

    /// A try has arrived at a process.
    pub(crate) fn tried(&self, this_try: Try) -> TryId {
        let mut pages = self.pages();
        let id = pages.tries.len();
        let text = format!(
            "try {id} ({} for {}{}) comes to {} as {}",
            this_try.order,
            this_try.amount,
            if this_try.by_content { ", no key" } else { "" },
            this_try.process,
            short(this_try.key)
        );
        pages.line(self.began, text);
        pages.tries.push(this_try);
        id
    }

    /// The first byte of a try's request is offered to the connection: may it be?
    pub(crate) fn begun(&self, this_try: TryId, process: &str, fate: Fate) -> SendId {
        let mut pages = self.pages();
        let id = pages.sends.len();
        pages.line(self.began, format!("send {id}: {process} sends try {this_try} ({fate:?})"));
        let attempt = pages.permit(&self.store, self.began, this_try);
        pages.sends.push(Send { attempt, fate, payment: None, answered: None, at_rest: false });
        if pages.tries[this_try].send.replace(id).is_some() {
            pages.violation(self.began, format!("try {this_try} was sent twice"));
        }
        if pages.tries[this_try].told_unsent {
            pages.violation(self.began, format!("try {this_try} was told that it was not sent"));
        }
        if let Some(attempt) = attempt {
            let lost =
                pages.claims.get(&attempt).is_some_and(|claim| pages.lost.contains(&claim.key));
            if !lost {
                pages.sent(self.began, attempt, id);
            }
        }
        id
    }

    /// A request has reached the provider, with or without effect.
    pub(crate) fn arrived(&self, send: SendId, payment: Option<usize>) {
        let mut pages = self.pages();
        pages.sends[send].payment = payment;
        pages.line(self.began, format!("send {send} arrives: payment {payment:?}"));
        let claim = pages.sends[send].attempt.and_then(|attempt| pages.claims.get(&attempt));
        if payment.is_some() && claim.is_some_and(|claim| claim.mark.is_some()) {
            pages.saw("a request took effect after its connection was closed");
        }
        if payment.is_some()
            && let Some(why) = pages.promised_unapplied(send)
        {
            pages.violation(self.began, format!("send {send} takes effect, but {why}"));
        }
    }

    pub(crate) fn answered(&self, send: SendId, status: u16) {
        self.pages().sends[send].answered = Some(status);
    }

    /// Calls to the store fail from now on, or no longer.
    pub(crate) fn weather(&self, is_foul: bool) {
        let mut pages = self.pages();
        if pages.is_foul {
            pages.foul_until = Some(Instant::now());
        }
        pages.is_foul = is_foul;
    }

    /// Whether the store has been well since then.
    pub(crate) fn was_fair(&self, since: Instant) -> bool {
        let pages = self.pages();
        !pages.is_foul && pages.foul_until.is_none_or(|until| until < since)
    }

    pub(crate) fn at_rest(&self, send: SendId) {
        self.pages().sends[send].at_rest = true;
    }

    /// Whether nothing of any request for this claim is under way.
    pub(crate) fn is_quiet(&self, attempt: AttemptId) -> bool {
        let pages = self.pages();
        pages.sends.iter().filter(|send| send.attempt == Some(attempt)).all(|send| send.at_rest)
    }
}

pub(crate) fn short(key: RecordKey) -> String {
    format!("[{}]", brief(key.as_bytes()))
}

pub(crate) fn brief(bytes: &[u8]) -> String {
    bytes.iter().take(3).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
