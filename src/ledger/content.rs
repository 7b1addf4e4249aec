//! Requests without a key: a pointer leads from their content to a record.
//!
//! The pointer is written first, then the record is claimed; the record alone is the permit. Who
//! finds a pointer to an absent record writes that pointer anew, then claims that very record, so
//! two callers who meet half-way meet at the same record. (Written anew always: a pointer that was
//! only found could be purged, and another one written, before its finder's claim arrives. The
//! model has the counterexample.)

use std::time::Duration;

use super::claim::BY_POINTER_MAX;
use super::{Ask, ClaimError, Found, Ledger, ReadError, SWAP_ROUNDS_MAX, Verdict};
use crate::entropy;
use crate::protocol::claim::content_is_free;
use crate::protocol::id::{RecordKey, Token};
use crate::protocol::record::{Ago, Entry, Pointer, Release, State, Terms};
use crate::store::{Purpose, Stored, Swap, Swapped, Tag, Write};

impl Ledger {
    /// Claims the operation that a request without a key stands for, or says what is known of it.
    /// `ask.key` is the pointer's; the record's is found here.
    ///
    /// # Errors
    /// As [`Ledger::claim`].
    pub async fn claim_by_content(&self, ask: &Ask<'_>) -> Result<Verdict, ClaimError> {
        for _ in 0..SWAP_ROUNDS_MAX {
            let started = self.now();
            let (key, pointer) = self.content_target(ask.key, &ask.terms).await?;
            let verdict = self.claim(&Ask { key, ..*ask }).await?;
            let Verdict::Claimed(claimed) = verdict else { return Ok(verdict) };
            let in_time = self.now().saturating_sub(started) <= BY_POINTER_MAX;
            if in_time && pointer == Leads::Written {
                return Ok(Verdict::Claimed(claimed));
            }
            // The pointer may have been purged and another written by now: this claim must not send.
            self.take_back(claimed.forgo(), Release::TakenBack).await;
        }
        Err(ClaimError::Contended)
    }

    /// The record that a content pointer leads to. Writes the pointer if there is none, if the one
    /// that is there has done its duty, or if its record may be claimed.
    async fn content_target(
        &self,
        at: RecordKey,
        terms: &Terms,
    ) -> Result<(RecordKey, Leads), ClaimError> {
        let mut expected: Option<Token> = None;
        let mut to = RecordKey::new(entropy::draw(&*self.entropy));
        for _ in 0..SWAP_ROUNDS_MAX {
            let asked = self.now();
            let current = match self.point(at, expected, to, terms).await? {
                Swapped::Done => return Ok((to, Leads::Written)),
                Swapped::Lost(None) => {
                    expected = None;
                    continue;
                }
                Swapped::Lost(Some(current)) => current,
            };
            let (token, pointer) = self.pointer(at, &current, asked)?;
            expected = Some(token);
            to = match self.read(pointer.to).await? {
                Some(held) if content_is_free(&held.record) => {
                    RecordKey::new(entropy::draw(&*self.entropy))
                }
                // Its writer has not claimed yet, or never will, or has given up: that very record.
                None => pointer.to,
                Some(held) if matches!(held.record.state, State::Released { .. }) => pointer.to,
                Some(_) => return Ok((pointer.to, Leads::Found)),
            };
        }
        Err(ClaimError::Contended)
    }

    async fn point(
        &self,
        at: RecordKey,
        expected: Option<Token>,
        to: RecordKey,
        terms: &Terms,
    ) -> Result<Swapped, ClaimError> {
        let pointer = Pointer { to, written: Ago::NOW, remember: terms.remember };
        let swap = Swap {
            key: at,
            expected,
            token: Token::first(self.draw_attempt()),
            write: put(&pointer, terms.retention + terms.remember),
            purpose: Purpose::Claim,
        };
        // An unconfirmed pointer permits nothing and leads nowhere yet: an error like any other.
        match self.swap(&swap).await {
            Err(crate::store::StoreError::Refused(crate::store::Refusal::OtherGeneration {
                ..
            })) if self.readopt().await => Ok(self.swap(&swap).await?),
            other => Ok(other?),
        }
    }

    fn pointer(
        &self,
        at: RecordKey,
        stored: &Stored,
        asked: Duration,
    ) -> Result<(Token, Pointer), ReadError> {
        match self.hold(at, stored, asked)? {
            Found::Pointer(token, pointer) => Ok((token, pointer)),
            Found::Record(_) => {
                Err(ReadError::Unreadable("a record where a pointer belongs".to_owned()))
            }
        }
    }

    /// Purges a pointer whose record is gone for good, or puts it off.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn review_pointer(
        &self,
        at: RecordKey,
        token: Token,
        pointer: Pointer,
    ) -> Result<(), ReadError> {
        let gone = self.read(pointer.to).await?.is_none();
        let old = pointer.written.age() > pointer.remember.max(BY_POINTER_MAX * 2);
        if !(gone && old) {
            return self.put_off_pointer(at, token, pointer).await;
        }
        self.rewrite_pointer(at, token, Write::Purge).await
    }

    /// Puts off when a pointer comes up again.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn put_off_pointer(
        &self,
        at: RecordKey,
        token: Token,
        pointer: Pointer,
    ) -> Result<(), ReadError> {
        let write = put(&pointer, pointer.remember.max(BY_POINTER_MAX));
        self.rewrite_pointer(at, token, write).await
    }

    async fn rewrite_pointer(
        &self,
        at: RecordKey,
        token: Token,
        write: Write,
    ) -> Result<(), ReadError> {
        let token_of_write = Token::first(self.draw_attempt());
        let swap = Swap {
            key: at,
            expected: Some(token),
            token: token_of_write,
            write,
            purpose: Purpose::Record,
        };
        self.swap(&swap).await?;
        Ok(())
    }
}

/// How a pointer came to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leads {
    /// It was written just now, for this claim.
    Written,
    /// It was there, and its record is not to be claimed.
    Found,
}

fn put(pointer: &Pointer, due: Duration) -> Write {
    Write::Put { bytes: Entry::Pointer(*pointer).encode(), due: Some(due), tag: Tag::NONE }
}
