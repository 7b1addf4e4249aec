//! The store as one process reaches it: over a network that loses, delays and repeats.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use semel::protocol::id::RecordKey;
use semel::store::memory::MemoryStore;
use semel::store::{
    Agenda, Charter, Examination, Fence, Listing, Page, Purpose, Refusal, Store, StoreError,
    Stored, Swap, Swapped,
};
use tokio::time::sleep;

use crate::book::Book;
use crate::weather::StoreWeather;

/// Where all processes' swaps arrive, watched by the book.
#[derive(Debug)]
pub(crate) struct Depot {
    pub(crate) book: Arc<Book>,
    pub(crate) store: MemoryStore,
    weather: Mutex<StoreWeather>,
}

#[derive(Debug)]
pub(crate) struct Link {
    depot: Arc<Depot>,
    process: String,
    fence: Fence,
    rng: Mutex<StdRng>,
    /// No faults: an operator's connection.
    clean: bool,
    last: Mutex<(u64, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    NotApplied,
    Lost,
    Applied,
    Late(Duration),
    Twice(Duration),
    Hang(Duration),
}

/// What a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Agenda,
    Other,
}

impl Depot {
    pub(crate) fn new(book: &Arc<Book>, store: MemoryStore) -> Arc<Self> {
        let weather = Mutex::new(StoreWeather::CLEAR);
        Arc::new(Self { book: Arc::clone(book), store, weather })
    }

    pub(crate) fn set_weather(&self, weather: StoreWeather) {
        *self.weather.lock().unwrap() = weather;
    }

    /// A swap arrives.
    async fn swap(
        &self,
        view: &MemoryStore,
        swap: &Swap,
        process: &str,
    ) -> Result<Swapped, StoreError> {
        let view_seen = view.fence().seen();
        let before = self.store.peek(swap.key);
        let swapped = view.swap(swap).await;
        let after = self.store.peek(swap.key);
        if before.as_ref().map(|stored| stored.token) != after.as_ref().map(|stored| stored.token) {
            // It was one less before this swap.
            if view_seen >= self.store.snapshot().count() {
                let text = format!("{process} wrote to a store that had lost what it had seen");
                self.book.violation(text);
            }
            self.book.stored(swap.key, before.as_ref(), after.as_ref(), process);
        }
        swapped
    }
}

impl Link {
    pub(crate) fn new(depot: &Arc<Depot>, process: String, seed: u64) -> Arc<Self> {
        Self::with(depot, process, seed, false)
    }

    pub(crate) fn clean(depot: &Arc<Depot>) -> Arc<Self> {
        Self::with(depot, "operator".to_owned(), 0, true)
    }

    fn with(depot: &Arc<Depot>, process: String, seed: u64, clean: bool) -> Arc<Self> {
        let rng = Mutex::new(StdRng::seed_from_u64(seed));
        let (fence, last) = (Fence::default(), Mutex::new((0, 0)));
        Arc::new(Self { depot: Arc::clone(depot), process, fence, rng, clean, last })
    }

    /// What a message carries: the fence as it is now, however late it arrives.
    fn message(&self) -> MemoryStore {
        let view = MemoryStore::sharing(&self.depot.store);
        if let Some(charter) = self.fence.charter() {
            view.fence().bind(charter);
        }
        view.fence().saw(self.fence.seen());
        view
    }

    async fn begin(&self, call: Call) -> Fault {
        if self.clean {
            return Fault::None;
        }
        let weather = *self.depot.weather.lock().unwrap();
        let (fault, latency) = {
            let mut rng = self.rng.lock().unwrap();
            let span = rng.random_range(Duration::ZERO..=weather.longest);
            // The agenda is asked all the time: its latency would only cost ours.
            let latency = if call == Call::Agenda { 0 } else { rng.random_range(0..4) };
            let mut at = rng.random::<f64>();
            let faults = [
                (weather.not_applied, Fault::NotApplied),
                (weather.lost, Fault::Lost),
                (weather.applied, Fault::Applied),
                (weather.late, Fault::Late(span)),
                (weather.twice, Fault::Twice(span)),
                (weather.hang, Fault::Hang(span)),
            ];
            let hit = faults.into_iter().find(|(odds, _)| {
                at -= odds;
                at < 0.0
            });
            (hit.map_or(Fault::None, |(_, fault)| fault), latency)
        };
        if latency > 0 {
            sleep(Duration::from_millis(latency)).await;
        }
        fault
    }

    /// The answer has come: what it carried is seen.
    fn answered<T>(
        &self,
        view: &MemoryStore,
        answer: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.fence.saw(view.fence().seen());
        if let Err(StoreError::Refused(_)) = &answer {
            self.fence.turn();
        }
        let book = &self.depot.book;
        match &answer {
            Err(StoreError::Refused(Refusal::Rewound { .. })) => {
                book.sometimes("a restored store was refused");
            }
            Err(StoreError::Refused(Refusal::NotFounded)) => {
                book.sometimes("a flushed store was refused");
            }
            Err(StoreError::Refused(Refusal::OtherIdentity)) => {
                book.sometimes("another store was refused");
            }
            Err(StoreError::Refused(Refusal::OtherGeneration { found, .. })) => {
                book.sometimes("another generation was refused");
                self.last.lock().unwrap().0 = *found;
            }
            Err(_) | Ok(_) => {}
        }
        answer
    }

    fn claim_passed(&self) {
        let generation = self.fence.charter().map_or(0, |charter| charter.generation);
        let mut last = self.last.lock().unwrap();
        if last.0 == generation && last.1 != generation && last.1 != 0 {
            self.depot.book.sometimes("a raised generation was adopted and claims went on");
        }
        last.1 = generation;
    }

    async fn write(
        &self,
        swap: &Swap,
        beside: Option<RecordKey>,
    ) -> Result<(Swapped, Option<Stored>), StoreError> {
        let view = self.message();
        match self.begin(Call::Other).await {
            Fault::None => {
                let answer = self.deliver(&view, swap, beside).await;
                let done = matches!(&answer, Ok((Swapped::Done, _)));
                if done && swap.purpose == Purpose::Claim {
                    self.claim_passed();
                }
                self.answered(&view, answer)
            }
            Fault::NotApplied => Err(unreachable()),
            Fault::Lost => Err(unconfirmed()),
            Fault::Applied => {
                drop(self.depot.swap(&view, swap, &self.process).await);
                Err(unconfirmed())
            }
            Fault::Late(span) => {
                self.arrive_later(view, swap.clone(), span);
                Err(unconfirmed())
            }
            Fault::Twice(span) => {
                self.arrive_later(self.message(), swap.clone(), span);
                let answer = self.deliver(&view, swap, beside).await;
                self.answered(&view, answer)
            }
            Fault::Hang(span) => {
                sleep(span).await;
                Err(unconfirmed())
            }
        }
    }

    /// One message: the swap, and the reading beside it once it is done.
    async fn deliver(
        &self,
        view: &MemoryStore,
        swap: &Swap,
        beside: Option<RecordKey>,
    ) -> Result<(Swapped, Option<Stored>), StoreError> {
        let swapped = self.depot.swap(view, swap, &self.process).await?;
        let stored = match beside {
            Some(beside) if swapped == Swapped::Done => view.load(beside).await?,
            Some(_) | None => None,
        };
        Ok((swapped, stored))
    }

    async fn read<T, F>(
        &self,
        kind: Call,
        call: impl Fn(MemoryStore) -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = (MemoryStore, Result<T, StoreError>)> + Send,
    {
        match self.begin(kind).await {
            Fault::None | Fault::Twice(_) => {
                let (view, answer) = call(self.message()).await;
                self.answered(&view, answer)
            }
            Fault::NotApplied => Err(unreachable()),
            Fault::Lost | Fault::Applied => Err(unconfirmed()),
            Fault::Late(span) => {
                // What was true a while ago.
                let (view, answer) = call(self.message()).await;
                sleep(span.min(Duration::from_secs(2))).await;
                self.answered(&view, answer)
            }
            Fault::Hang(span) => {
                sleep(span).await;
                Err(unconfirmed())
            }
        }
    }

    fn arrive_later(&self, view: MemoryStore, swap: Swap, span: Duration) {
        let (depot, process) = (Arc::clone(&self.depot), self.process.clone());
        crate::spawn(async move {
            sleep(span).await;
            if let Ok(Swapped::Done) = depot.swap(&view, &swap, &process).await {
                depot.book.sometimes("a late swap was done all the same");
            }
        });
    }
}

fn unreachable() -> StoreError {
    StoreError::Unreachable("the weather".to_owned())
}

fn unconfirmed() -> StoreError {
    StoreError::Unconfirmed("the weather".to_owned())
}

#[async_trait]
impl Store for Link {
    async fn swap(&self, swap: &Swap) -> Result<Swapped, StoreError> {
        self.write(swap, None).await.map(|(swapped, _)| swapped)
    }

    async fn swap_and_load(
        &self,
        swap: &Swap,
        beside: RecordKey,
    ) -> Result<(Swapped, Option<Stored>), StoreError> {
        self.write(swap, Some(beside)).await
    }

    async fn load(&self, key: RecordKey) -> Result<Option<Stored>, StoreError> {
        self.read(Call::Other, |view| async move {
            let answer = view.load(key).await;
            (view, answer)
        })
        .await
    }

    async fn due(&self, limit: usize) -> Result<Agenda, StoreError> {
        self.read(Call::Agenda, |view| async move {
            let answer = view.due(limit).await;
            (view, answer)
        })
        .await
    }

    async fn list(&self, listing: &Listing) -> Result<Page, StoreError> {
        self.read(Call::Other, |view| async move {
            let answer = view.list(listing).await;
            (view, answer)
        })
        .await
    }

    async fn charter(&self) -> Result<Option<Charter>, StoreError> {
        self.read(Call::Other, |view| async move {
            let answer = view.charter().await;
            (view, answer)
        })
        .await
    }

    async fn found(&self, charter: &Charter) -> Result<(), StoreError> {
        self.depot.store.found(charter).await
    }

    async fn amend(&self, from: Option<&Charter>, to: &Charter) -> Result<(), StoreError> {
        self.depot.store.amend(from, to).await
    }

    fn fence(&self) -> &Fence {
        &self.fence
    }

    async fn examine(&self) -> Result<Examination, StoreError> {
        Ok(Examination::default())
    }
}
