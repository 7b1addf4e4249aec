//! Requests without a key: a pointer leads from their content to a record.
//!
//! The pointer is written first, then the record is claimed; the record alone is the permit. Who
//! finds a pointer to an absent record writes that pointer anew, then claims that very record, so
//! two callers who meet half-way meet at the same record. (Written anew always: a pointer that was
//! only found could be purged, and another one written, before its finder's claim arrives. The
//! model has the counterexample.)

use std::time::Duration;

use super::names::pointer_to;
use super::{ClaimError, Ledger, SWAP_ROUNDS_MAX};
use crate::entropy;
use crate::protocol::claim::content_is_free;
use crate::protocol::id::{RecordKey, Token};
use crate::protocol::record::{Entry, Pointer, PointerKind, State, Terms};
use crate::store::{Swapped, Tag, Write};

impl Ledger {
    /// The key that a content pointer leads to, and whether the pointer was written just now, for
    /// this claim. It is, if there is none, if the one that is there has done its duty, or if its
    /// record may be claimed; else that record is not to be claimed.
    pub(super) async fn content_target(
        &self,
        at: RecordKey,
        terms: &Terms,
    ) -> Result<(RecordKey, bool), ClaimError> {
        let mut expected: Option<Token> = None;
        let mut to = RecordKey::new(entropy::draw(&*self.entropy));
        for _ in 0..SWAP_ROUNDS_MAX {
            let asked = self.now();
            let pointer = pointer_to(to, terms, PointerKind::Content);
            let current = match self.point(at, expected, pointer, terms).await? {
                Swapped::Done => return Ok((to, true)),
                Swapped::Lost(None) => {
                    expected = None;
                    continue;
                }
                Swapped::Lost(Some(current)) => current,
            };
            let (token, pointer) = self.pointer(at, &current, asked)?;
            expected = Some(token);
            to = match self.find(pointer.to).await? {
                Some(held) if content_is_free(&held.record) => {
                    RecordKey::new(entropy::draw(&*self.entropy))
                }
                // Its writer has not claimed yet, or never will, or has given up: that very record.
                None => pointer.to,
                Some(held) if matches!(held.record.state, State::Released { .. }) => pointer.to,
                Some(_) => return Ok((pointer.to, false)),
            };
        }
        Err(ClaimError::Contended)
    }
}

/// What leaves a pointer in a store, and brings it up again after so long.
pub(super) fn put(pointer: &Pointer, due: Duration) -> Write {
    Write::Put { bytes: Entry::Pointer(*pointer).encode(), due: Some(due), tag: Tag::NONE }
}
