//! Whether what is sent under one name was sent under another: business keys and orphans.

use std::time::Duration;

use semel::protocol::id::AttemptId;
use tokio::time::Instant;

use crate::book::Pages;
use crate::entries::TryId;

/// How long a business key is bound to what succeeded, in every world that has any.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

impl Pages {
    /// While a business operation is unsettled, or has succeeded just now, nothing else is sent
    /// under its business key.
    pub(crate) fn business_once(&mut self, began: Instant, this_try: TryId, attempt: AttemptId) {
        let Some(at) = self.tries[this_try].business else { return };
        let Some(before) = self.open_business.insert(at, attempt) else { return };
        if before == attempt {
            return;
        }
        let claim = self.claims[&before].clone();
        if self.lost.contains(&claim.key) || self.lost.contains(&at) {
            return;
        }
        let free = match claim.settled {
            Some((_, status, _)) if status >= 400 => {
                self.saw("a failure freed its business key");
                true
            }
            Some((_, _, settled)) if settled.elapsed() + self.stepped > BOUND => {
                self.saw("a business key was free again after its window");
                true
            }
            Some(_) | None => false,
        };
        if !free {
            let text = format!("try {this_try}: its business key is bound, and it is sent");
            self.violation(began, text);
        }
    }

    /// Who asks again under another key after it was told nothing that ends its operation is not
    /// sent a second time, unless somebody got the answer meanwhile.
    ///
    /// Not promised: to a caller whose process fell or was paused, while the store is in trouble (what
    /// was to be noted may not be on record), and where a request without a key means the same.
    pub(crate) fn orphans_once(&mut self, began: Instant, this_try: TryId, attempt: AttemptId) {
        let again = self.tries[this_try].clone();
        let Some(content) = again.content else { return };
        let same = |index: &usize| {
            let other = &self.tries[*index];
            *index != this_try && (other.content == Some(content) || other.key == content)
        };
        let others: Vec<_> = (0..self.tries.len()).filter(same).collect();
        // What it was about that this caller, or one like it, was told last.
        let last = others.iter().rev().map(|&index| &self.tries[index]).find(|other| {
            other.unanswered && other.arrived < again.arrived && other.key != again.key
        });
        let Some(last) = last.cloned() else { return };
        let exempt = others.iter().any(|&index| self.tries[index].by_content)
            || self.is_foul
            || self.foul_until.is_some_and(|until| until >= last.arrived)
            || self.fallen.contains(&last.process)
            || !self.lost.is_empty()
            || self.paused
            || !self.stepped.is_zero();
        if exempt {
            return;
        }
        // Somebody got an answer: another key is another payment. And what was released, or was
        // left longer ago than it is remembered, is not looked for.
        let answered = others.iter().any(|&index| self.tries[index].answered.is_some());
        let open = self.claims.iter().any(|(other, claim)| {
            let Some(send) = claim.send else { return false };
            let by = self.tries.iter().find(|by| by.send == Some(send));
            let alike = by.is_some_and(|by| by.key == last.key);
            *other != attempt && alike && claim.not_applied.is_none()
        });
        let remembered = last.arrived.elapsed() < Duration::from_secs(500);
        if open && !answered && remembered {
            let text = format!("try {this_try}: its orphan is sent again under another key");
            self.violation(began, text);
        }
    }
}
