//! Who was told what became of its operation, and who left without: witnessed per caller, noted on
//! the record, so that whoever asks again under another name is recognised.
//!
//! Knows nothing of how a request is claimed; [`claim`](super::claim) says which operation it is.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::Response;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Proxy;
use super::identify::Identified;
use super::respond::{Answer, Over, answer_of};
use crate::ledger::{Ledger, ReadError};
use crate::protocol::id::{OperationId, RecordKey};
use crate::protocol::key::ContentName;
use crate::protocol::record::{Delivery, Identity};
use crate::server::{Caller, Delivered, Receipt};

/// How long an answer that ends nothing waits for the note that its caller was left unanswered.
const NOTED_FIRST_MAX: Duration = Duration::from_millis(800);

/// How often it is tried to record who was told, and the first pause between tries, which doubles.
const NOTE_TRIES_MAX: u32 = 10;
const NOTE_PAUSE: Duration = Duration::from_millis(100);

/// The answers that end an operation for their caller.
const ENDS: [Answer; 5] =
    [Answer::Fresh, Answer::Replayed, Answer::Followed, Answer::LookedUp, Answer::Unrecorded];

/// Remembers whether a caller was still there, for operations that its content may be recognised by.
#[derive(Debug, Clone)]
pub(super) struct Witness(Option<Arc<Seen>>);

/// What is remembered of one caller.
#[derive(Debug)]
pub(super) struct Seen {
    arrived: Instant,
    operation: OnceLock<OperationId>,
    left: OnceLock<()>,
    /// Its request was sent without a guard, or was not applied for certain, or it was told that its
    /// operation is over, if not how: whether it was answered says nothing.
    passed: OnceLock<()>,
    /// For a request with a key: where its content is to lead to the operation if it is left
    /// unanswered.
    content: Option<Arc<ContentName>>,
    /// It came for an operation that another request had begun.
    late: OnceLock<()>,
    /// Its operation is settled, and nobody had left it unanswered when that was read.
    recalled: OnceLock<()>,
}

impl Witness {
    /// Watches callers without a key, and those whose retries may come under another one; for all
    /// others there is nothing to remember.
    pub(super) fn new(identified: &Identified, arrived: Instant) -> Self {
        let content = identified.content.clone();
        let watched = match identified.identity {
            Identity::Content(_) => true,
            Identity::Key | Identity::Further(_) => content.is_some(),
        };
        Self(watched.then(|| {
            let (operation, left, passed, late, recalled) = Default::default();
            Arc::new(Seen { arrived, operation, left, passed, content, late, recalled })
        }))
    }

    /// Asks the server to say what became of the answer.
    pub(super) fn receipt(
        &self,
        caller: Option<Caller>,
        proxy: &Arc<Proxy>,
    ) -> Option<(Arc<Seen>, Receipt)> {
        let seen = Arc::clone(self.0.as_ref()?);
        let (told, proxy) = (Arc::clone(&seen), Arc::clone(proxy));
        let receipt = caller?.receipt(move |delivered| match delivered {
            Delivered::Whole => drop(proxy.note_delivery(&told, Delivered::Whole)),
            Delivered::Left => {
                // Noted even if its operation is not known yet: the claim will look here.
                if told.left.set(()).is_ok() {
                    drop(proxy.note_delivery(&told, Delivered::Left));
                }
            }
        });
        Some((seen, receipt))
    }

    /// Its operation is recalled: that it was told is noted later, together with others.
    pub(super) fn recalls(&self) {
        if let Some(seen) = &self.0 {
            let _ = seen.recalled.set(());
        }
    }

    /// Its request stands for this operation; `late`: another one had begun it.
    pub(super) fn belongs_to(&self, operation: OperationId, late: bool, proxy: &Proxy) {
        let Some(seen) = &self.0 else { return };
        if late {
            let _ = seen.late.set(());
        }
        let _ = seen.operation.set(operation);
        if seen.left.get().is_some() {
            drop(proxy.note_delivery(seen, Delivered::Left));
        }
    }
}

/// Ties the receipt to the answer, if the answer is one that ends the operation for its caller.
///
/// Whoever was told anything else was left unanswered: it will ask again, and must find the same
/// operation, even if another caller got the answer meanwhile.
pub(super) async fn attach<B>(
    proxy: &Proxy,
    receipt: Option<(Arc<Seen>, Receipt)>,
    response: Response<B>,
) -> Response<B> {
    let Some((seen, receipt)) = receipt else { return response };
    let told = answer_of(&response);
    let is = |answer: &Answer| answer.as_str() == told;
    if ENDS.iter().any(is) {
        return receipt.attach(response);
    }
    let by_key = seen.content.is_some();
    let over = is(&Answer::Released) || response.extensions().get::<Over>().is_some();
    if is(&Answer::Unguarded) || (by_key && over) {
        let _ = seen.passed.set(());
    }
    if by_key && seen.left.set(()).is_ok() {
        // A client that asks again at once under a new key must find this noted.
        let noted = proxy.note_delivery(&seen, Delivered::Left);
        let _ = tokio::time::timeout(NOTED_FIRST_MAX, noted).await;
    }
    drop(receipt);
    response
}

impl Proxy {
    /// Puts on record whether a caller got its answer. What is returned ends when that is done, or
    /// is not to be done; dropping it changes nothing.
    fn note_delivery(
        &self,
        seen: &Seen,
        delivered: Delivered,
    ) -> impl Future<Output = ()> + Send + use<> {
        let ended = self.begin_note(seen, delivered);
        async move {
            if let Some(ended) = ended {
                drop(ended.await);
            }
        }
    }

    /// `None`: there is nothing to note.
    fn begin_note(&self, seen: &Seen, delivered: Delivered) -> Option<oneshot::Receiver<()>> {
        let &operation = seen.operation.get()?;
        if seen.passed.get().is_some() {
            return None;
        }
        if delivered == Delivered::Whole && seen.recalled.get().is_some() {
            self.note_told_later(operation, seen.arrived);
            return None;
        }
        let flights = self.attempts.flights();
        // Of the first request of a key, answered, there is nothing to note unless somebody left:
        // nobody will look for it by its content. Who left here left a note on the flight, which is
        // held until that is on record.
        let first = seen.content.is_some() && seen.late.get().is_none();
        let flight = match (first, delivered) {
            (true, Delivered::Whole) => flights.here(operation)?,
            (_, Delivered::Whole | Delivered::Left) => flights.join(operation),
        };
        match delivered {
            Delivered::Whole => flight.answered(seen.arrived),
            Delivered::Left => flight.left(seen.arrived),
        }
        let someone_left = flight.delivery().0.left.is_some();
        if first && !someone_left {
            return None;
        }
        let (done, ended) = oneshot::channel::<()>();
        let content = seen.content.as_ref().map(|content| content.key(self.index()));
        let leaving = content.filter(|_| someone_left);
        let leaving = leaving.map(|content| self.attempts.flights().leavings().begin(content));
        let (ledger, cut) = (Arc::clone(self.ledger()), self.tasks.cut().clone());
        self.tasks.detach(async move {
            // Dropped at the end, whatever that is.
            let _ended = (done, leaving);
            // One writes what all have noted by then, and the others find it done.
            let mut noted = flight.noted.lock().await;
            let mut pause = NOTE_PAUSE;
            for _ in 0..NOTE_TRIES_MAX {
                let (delivery, changes) = flight.delivery();
                if *noted == changes {
                    return;
                }
                match note(&ledger, operation, delivery, content).await {
                    Ok(()) => *noted = changes,
                    Err(error) => {
                        tracing::warn!(%error, %operation, "delivery not recorded yet");
                        tokio::select! {
                            biased;
                            () = cut.cancelled() => return,
                            () = tokio::time::sleep(pause) => {}
                        }
                        pause *= 2;
                    }
                }
            }
        });
        Some(ended)
    }
}

/// Notes on an operation's record who was told, or left; and if somebody left who had a key, where
/// its retry under another one will look.
async fn note(
    ledger: &Ledger,
    operation: OperationId,
    delivery: Delivery,
    content: Option<RecordKey>,
) -> Result<(), ReadError> {
    let Some(content) = content else { return ledger.note_delivery(operation, delivery).await };
    if delivery.left.is_none() {
        // Nobody left here; elsewhere somebody may have.
        return ledger.note_answered(operation, delivery).await;
    }
    ledger.note_delivery(operation, delivery).await?;
    ledger.note_orphan(content, operation).await
}
