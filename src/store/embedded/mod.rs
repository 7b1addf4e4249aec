//! A durable store for one process, on one disk: SQLite, one writer, group commit.
//!
//! [`EmbeddedStore`] only hands questions to a thread of its own. Read on in `opening` (what is
//! checked before the first question), `writer` (the thread:
//! groups, commits, what is fatal), `copier` (checkpoints), `table` (the SQL), `folder` (lock, marker,
//! reserve) and `clock`.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::table::{Group, Trouble};
use self::writer::{Ask, Asked, Writer};
use super::{
    Agenda, Charter, Examination, Fence, Listing, Page, Purpose, Refusal, Store, StoreError,
    Stored, Swap, Swapped,
};
use crate::protocol::id::RecordKey;

mod clock;
mod copier;
mod folder;
mod opening;
pub mod probe;
mod table;
mod writer;

/// How many questions may wait for the writer. Claims beyond are refused, all else waits.
const QUEUE_MAX: usize = 1024;

/// How long a call waits for the disk.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How much disk is set aside for settlements by default.
const RESERVE_DEFAULT: u64 = 16 * 1024 * 1024;

/// Where and how large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The folder.
    pub path: PathBuf,
    /// How large the database may become, in bytes; `None`: as large as the disk.
    pub size_max: Option<u64>,
    /// How many bytes of disk are set aside, so that what was claimed can be recorded on a full disk.
    pub reserve: u64,
    /// Opens a store that has lost writes or its identity, for `semel store accept` alone.
    pub accept: bool,
}

impl Settings {
    /// The defaults, in this folder.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), size_max: None, reserve: RESERVE_DEFAULT, accept: false }
    }
}

/// Why a folder cannot be used as a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system said no.
    #[error("the store folder {} cannot be used: {error}", folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A second process.
    #[error(
        "the store in {} is in use by another process; an embedded store serves one process, use redis for several",
        folder.display()
    )]
    InUse {
        /// Which.
        folder: PathBuf,
    },
    /// Locks and syncs cannot be relied on there.
    #[error(
        "the store folder {} is on a network file system ({kind}); put it on a local disk, or use redis",
        folder.display()
    )]
    Network {
        /// Which.
        folder: PathBuf,
        /// What kind.
        kind: &'static str,
    },
    /// The marker says nothing that makes sense.
    #[error(
        "the marker {name} in {} cannot be read; the folder was in use, check it before `semel store accept`",
        folder.display()
    )]
    Marker {
        /// Which.
        folder: PathBuf,
        /// The marker's file name.
        name: &'static str,
    },
    /// The folder was in use, and what it held is not there.
    #[error(
        "the store in {} was in use, and {what}; put it back, or check what was charged and run `semel store accept`",
        folder.display()
    )]
    Lost {
        /// Which.
        folder: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The database is no database of ours, or a damaged one.
    #[error("the database in {} cannot be used: {what}", folder.display())]
    Database {
        /// Which.
        folder: PathBuf,
        /// What SQLite says.
        what: String,
    },
    /// The linked SQLite has a known way to corrupt databases.
    #[error("SQLite {0} is too old: 3.51.3 or newer is needed")]
    TooOld(&'static str),
}

/// A store in a folder.
///
/// Dropping it waits until everything that was asked is done and the database is closed.
pub struct EmbeddedStore {
    // `None` only while it is being dropped.
    questions: Option<mpsc::Sender<Box<dyn Asked>>>,
    writer: Option<JoinHandle<()>>,
    fence: Arc<Fence>,
    health: Arc<Health>,
}

/// Whether the medium can still be relied on. Once it cannot, it never can again.
#[derive(Debug, Default)]
struct Health {
    reason: OnceLock<String>,
    broken: CancellationToken,
}

impl Health {
    fn fail(&self, reason: String) {
        if self.reason.set(reason).is_ok() {
            self.broken.cancel();
        }
    }

    fn error(&self) -> StoreError {
        let reason = self.reason.get().map_or("its writer has ended", String::as_str);
        StoreError::Broken(reason.to_owned())
    }
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore")
            .field("fence", &self.fence)
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}

impl EmbeddedStore {
    /// Opens the store in a folder, and creates both if the folder was never in use. Blocks while
    /// the database is recovered and, after an unclean end, checked.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong with the folder.
    pub fn open(settings: &Settings) -> Result<Self, OpenError> {
        let fence = Arc::new(Fence::default());
        let health = Arc::new(Health::default());
        let writer = Writer::open(settings, Arc::clone(&fence), Arc::clone(&health))?;
        let (questions, asked) = mpsc::channel(QUEUE_MAX);
        let writer = std::thread::Builder::new()
            .name("semel-store".to_owned())
            .spawn(move || writer.run(asked))
            .map_err(|error| OpenError::Folder { folder: settings.path.clone(), error })?;
        Ok(Self { questions: Some(questions), writer: Some(writer), fence, health })
    }

    /// Is cancelled when the medium has failed. The process should then deliver the answers it has
    /// in hand, and end: nothing is recorded any more.
    pub fn broken(&self) -> CancellationToken {
        self.health.broken.clone()
    }

    /// Has `work` done by the writer, and waits for the commit.
    async fn ask<T: Send + 'static>(
        &self,
        purpose: Purpose,
        work: impl FnMut(&mut Group<'_>) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let ask: Box<dyn Asked> = Box::new(Ask::new(work, reply));
        let questions = self.questions.as_ref().ok_or_else(|| self.health.error())?;
        match purpose {
            // One more payment can wait; what became of an earlier one cannot.
            Purpose::Claim => match questions.try_send(ask) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => return Err(Refusal::Busy.into()),
                Err(TrySendError::Closed(_)) => return Err(self.health.error()),
            },
            Purpose::Record => {
                questions.send(ask).await.map_err(|_| self.health.error())?;
            }
        }
        match tokio::time::timeout(ANSWER_MAX, answer).await {
            Ok(Ok(answer)) => answer,
            // The writer is gone.
            Ok(Err(_)) => Err(self.health.error()),
            Err(_) => {
                let seconds = ANSWER_MAX.as_secs();
                Err(StoreError::Unconfirmed(format!("the disk did not answer within {seconds} s")))
            }
        }
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        drop(self.questions.take());
        if let Some(writer) = self.writer.take() {
            // A panic in there has been noted in `health` already.
            drop(writer.join());
        }
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn swap(&self, swap: &Swap) -> Result<Swapped, StoreError> {
        let swap = swap.clone();
        self.ask(swap.purpose, move |group| group.swap(&swap)).await
    }

    async fn swap_and_load(
        &self,
        swap: &Swap,
        beside: RecordKey,
    ) -> Result<(Swapped, Option<Stored>), StoreError> {
        let swap = swap.clone();
        self.ask(swap.purpose, move |group| group.swap_and_load(&swap, beside)).await
    }

    async fn load(&self, key: RecordKey) -> Result<Option<Stored>, StoreError> {
        self.ask(Purpose::Record, move |group| group.load(key)).await
    }

    async fn due(&self, limit: usize) -> Result<Agenda, StoreError> {
        self.ask(Purpose::Record, move |group| group.due(limit)).await
    }

    async fn list(&self, listing: &Listing) -> Result<Page, StoreError> {
        let listing = listing.clone();
        self.ask(Purpose::Record, move |group| group.list(&listing)).await
    }

    async fn charter(&self) -> Result<Option<Charter>, StoreError> {
        self.ask(Purpose::Record, |group| Ok(group.meta.charter)).await
    }

    async fn found(&self, charter: &Charter) -> Result<(), StoreError> {
        let charter = *charter;
        self.ask(Purpose::Record, move |group| group.found(&charter)).await
    }

    async fn amend(&self, from: Option<&Charter>, to: &Charter) -> Result<(), StoreError> {
        let (from, to) = (from.copied(), *to);
        self.ask(Purpose::Record, move |group| group.amend(from.as_ref(), &to)).await
    }

    fn is_exclusive(&self) -> bool {
        // The folder's lock sees to it.
        true
    }

    fn fence(&self) -> &Fence {
        &self.fence
    }

    async fn examine(&self) -> Result<Examination, StoreError> {
        self.ask(Purpose::Record, |group| Ok(group.examine())).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::id::{AttemptId, Token};
    use crate::store::conformance::{CHARTER, claim};

    async fn store() -> (tempfile::TempDir, EmbeddedStore) {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { reserve: 0, ..Settings::at(folder.path()) };
        let store = EmbeddedStore::open(&settings).unwrap();
        store.found(&CHARTER).await.unwrap();
        store.fence().bind(CHARTER);
        (folder, store)
    }

    #[tokio::test]
    async fn a_writer_that_panics_breaks_the_store_for_good() {
        let (_folder, store) = store().await;

        let panicked = store.ask::<()>(Purpose::Record, |_| panic!("on purpose")).await;

        assert!(matches!(panicked, Err(StoreError::Broken(_))), "{panicked:?}");
        store.broken().cancelled().await;
        assert!(matches!(store.charter().await, Err(StoreError::Broken(_))));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_claims_and_lets_the_rest_wait() {
        let (_folder, store) = store().await;
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (began, begun) = oneshot::channel();
        let mut began = Some(began);
        let busy = store.ask(Purpose::Record, move |_| {
            began.take().map(|began| began.send(()));
            let _ = wait.recv();
            Ok(())
        });
        let mut busy = Box::pin(busy);
        tokio::select! {
            _ = &mut busy => panic!("it waits for us"),
            begun = begun => begun.unwrap(),
        }
        let queue = store.questions.as_ref().unwrap();
        while queue.capacity() > 0 {
            let (reply, _) = oneshot::channel();
            queue.try_send(Box::new(Ask::new(|_: &mut Group<'_>| Ok(()), reply))).ok().unwrap();
        }

        let key = RecordKey::new([1; 16]);
        let refused = store.swap(&claim(key, Token::first(AttemptId::new([1; 16])), b"")).await;
        assert_eq!(refused, Err(StoreError::Refused(Refusal::Busy)));
        let load = store.load(key);
        go.send(()).unwrap();
        assert_eq!(load.await, Ok(None), "a read waits its turn");
    }
}
