//! One world: processes, a store, a provider and callers, and what befalls them, all from one seed.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use semel::entropy::SeededEntropy;
use semel::ledger::Ledger;
use semel::protocol::outcome::AbsentPolicy;
use semel::proxy::route::{Duplicates, Orphans};
use semel::store::memory::{Content, MemoryStore};
use semel::task::Drained;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::book::Book;
use crate::callers::{self, Patience, Purchase};
use crate::life::State;
use crate::link::{Depot, Link};
use crate::names::BOUND;
use crate::process::{Process, Setup, Terms, look_up};
use crate::provider::{Provider, SLOW_MAX};
use crate::weather::{ProviderWeather, StoreWeather};
use crate::{absence, ending, operator};

/// What the walls' clocks show when a world begins.
const EPOCH: u64 = 1_800_000_000;
/// What a store that hangs may add to anybody's wait.
const STORE_TROUBLE_MAX: Duration = Duration::from_secs(60);

/// How often requests are lost where absence is acted upon.
const LOST: f64 = 0.9;

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// What time it is on the walls of the present world.
pub(crate) fn wall() -> u64 {
    EPOCH + BEGAN.get().map_or(0, |began| began.elapsed().as_secs())
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) book: Arc<Book>,
    pub(crate) depot: Arc<Depot>,
    pub(crate) provider: Arc<Provider>,
    pub(crate) terms: Terms,
    seats: Mutex<Vec<Option<Arc<Process>>>>,
    setup: Mutex<Setup>,
    rng: Mutex<StdRng>,
    snapshot: Mutex<Option<Content>>,
    chaos: Duration,
    incarnations: AtomicUsize,
    pauses: AtomicUsize,
    paused: AtomicUsize,
    /// The store has lost something, and nobody has accepted that yet.
    is_lossy: AtomicBool,
    has_lost: AtomicBool,
    pub(crate) stepped_back: AtomicBool,
    is_foul: AtomicBool,
    /// Payments that are told apart by their age only would be mixed up.
    may_step: AtomicBool,
}

/// What may happen to a world.
#[derive(Debug, Clone, Copy)]
enum Event {
    StoreWeather,
    ProviderWeather,
    Crash,
    Pause,
    Snapshot,
    Flush,
    Restore,
    Step,
    Roll,
    ChangeRules,
    RotateSecrets,
    Operator,
}

/// What came of a world.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) violations: Vec<String>,
    pub(crate) lines: Vec<String>,
    pub(crate) seen: Vec<(&'static str, u64)>,
}

/// Plays the world of this seed to its end.
pub(crate) async fn play(seed: u64, print: bool) -> Outcome {
    BEGAN.set(Some(Instant::now()));
    let world = World::new(seed, print);
    world.begin().await;
    let purchases: Vec<_> = {
        let mut rng = world.rng();
        let absence = world.provider.is_honest;
        let count = rng.random_range(2..=6);
        (0..count).map(|number| Purchase::draw(&mut rng, number, absence)).collect()
    };
    let may_step = !purchases.iter().any(Purchase::is_ambiguous);
    world.may_step.store(may_step, Ordering::Relaxed);
    let buyers: Vec<JoinHandle<()>> = purchases
        .iter()
        .map(|purchase| {
            let seed = world.rng().random();
            crate::spawn(callers::buy(Arc::clone(&world), purchase.clone(), seed))
        })
        .collect();
    world.chaos().await;
    world.calm().await;
    for buyer in buyers {
        let _ = buyer.await;
    }
    ending::end(&world, &purchases).await;
    let lines = world.book.lines();
    let mut pages = world.book.pages();
    let seen = std::mem::take(&mut pages.seen).into_iter().collect();
    Outcome { violations: std::mem::take(&mut pages.violations), lines, seen }
}

impl World {
    fn new(seed: u64, print: bool) -> Arc<Self> {
        let mut rng = StdRng::seed_from_u64(seed);
        let store = MemoryStore::default();
        let absent = absence::draw(&mut rng);
        let is_honest = absent != AbsentPolicy::Hold;
        let book = Book::new(MemoryStore::sharing(&store), absent.clone(), print);
        let depot = Depot::new(&book, store);
        let provider = Provider::new(&book, rng.random(), is_honest);
        let millis = |rng: &mut StdRng, from, to| Duration::from_millis(rng.random_range(from..to));
        let terms = Terms {
            lease: millis(&mut rng, 900, 5000),
            upstream_timeout: millis(&mut rng, 6000, 20_000),
            max_wait: millis(&mut rng, 1000, 8000),
            lookup_after: millis(&mut rng, 1000, 8000),
            retention: Duration::from_secs(120),
            remember: Duration::from_secs(3 * 3600),
            window: Duration::from_secs(if rng.random() { 0 } else { 4 }),
            duplicates: if rng.random_bool(0.8) { Duplicates::Wait } else { Duplicates::Conflict },
            business: rng.random_bool(0.7).then_some(BOUND),
            orphans: if rng.random_bool(0.7) { Orphans::Match } else { Orphans::Ignore },
            waiters: if rng.random_bool(0.2) { 1 } else { 100 },
            look_up: look_up(absent),
        };
        let chaos = Duration::from_secs(rng.random_range(8..32));
        let size = rng.random_range(1..=3);
        Arc::new(Self {
            book,
            depot,
            provider,
            terms,
            seats: Mutex::new(vec![None; size]),
            setup: Mutex::new(Setup { rules: 1, rotation: 0 }),
            rng: Mutex::new(rng),
            snapshot: Mutex::new(None),
            chaos,
            incarnations: AtomicUsize::new(0),
            pauses: AtomicUsize::new(0),
            paused: AtomicUsize::new(0),
            is_lossy: AtomicBool::new(false),
            has_lost: AtomicBool::new(false),
            stepped_back: AtomicBool::new(false),
            is_foul: AtomicBool::new(false),
            may_step: AtomicBool::new(true),
        })
    }

    pub(crate) fn rng(&self) -> MutexGuard<'_, StdRng> {
        self.rng.lock().unwrap()
    }

    fn draw<T>(&self, from: impl FnOnce(&mut StdRng) -> T) -> T {
        from(&mut self.rng())
    }

    fn seats(&self) -> MutexGuard<'_, Vec<Option<Arc<Process>>>> {
        self.seats.lock().unwrap()
    }

    pub(crate) fn size(&self) -> usize {
        self.seats().len()
    }

    /// The process in a seat, if it can be connected to.
    pub(crate) fn process(&self, index: usize) -> Option<Arc<Process>> {
        self.seats()[index].clone().filter(|process| process.life.state() != State::Dead)
    }

    pub(crate) fn processes(&self) -> Vec<Arc<Process>> {
        (0..self.size()).filter_map(|index| self.process(index)).collect()
    }

    pub(crate) fn chaos_millis(&self) -> u64 {
        u64::try_from(self.chaos.as_millis()).unwrap()
    }

    pub(crate) fn pauses(&self) -> usize {
        self.pauses.load(Ordering::Relaxed)
    }

    pub(crate) fn has_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed) > 0
    }

    /// How long a caller that stays may wait at the most.
    pub(crate) fn longest_wait(&self) -> Duration {
        self.terms.upstream_timeout + self.terms.max_wait + STORE_TROUBLE_MAX
    }

    /// Founds the store and starts the processes.
    async fn begin(self: &Arc<Self>) {
        let setup = *self.setup.lock().unwrap();
        let operator = self.operator();
        operator.enrol(setup.rules(), true).await.unwrap();
        if self.provider.is_honest {
            self.change_provider();
        }
        for index in 0..self.size() {
            self.start(index).await;
        }
    }

    fn operator(&self) -> Ledger {
        let seed = self.draw(|rng| rng.random());
        let entropy = Arc::new(SeededEntropy::new(seed));
        let setup = *self.setup.lock().unwrap();
        Ledger::new(Link::clean(&self.depot), setup.secrets(), entropy)
    }

    /// Starts a process in an empty seat, as soon as the store lets it.
    async fn start(self: &Arc<Self>, index: usize) {
        // Somebody else may have started one there meanwhile.
        while self.process(index).is_none() {
            // A process that starts on a restored store has no memory to notice it by.
            if !self.is_lossy.load(Ordering::Relaxed) {
                let number = self.incarnations.fetch_add(1, Ordering::Relaxed);
                let name = format!("P{index}.{number}");
                let seed = self.draw(|rng| rng.random());
                let setup = *self.setup.lock().unwrap();
                let started =
                    Process::start(name, seed, &self.depot, &self.provider, setup, &self.terms);
                match started.await {
                    Ok(process)
                        if !self.is_lossy.load(Ordering::Relaxed)
                            && self.process(index).is_none() =>
                    {
                        let id = crate::book::brief(process.ledger.process().as_bytes());
                        self.book.line(format!("{} starts as {id} with {setup:?}", process.name));
                        self.seats()[index] = Some(process);
                        return;
                    }
                    Ok(process) => process.life.kill(),
                    Err(error) => self.book.line(format!("P{index} does not start: {error}")),
                }
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    fn restart_later(self: &Arc<Self>, index: usize) {
        let after = self.draw(|rng| rng.random_range(100..8000));
        let this = Arc::clone(self);
        crate::spawn(async move {
            sleep(Duration::from_millis(after)).await;
            this.start(index).await;
        });
    }

    fn crash(self: &Arc<Self>, index: usize) {
        let Some(process) = self.process(index) else { return };
        self.book.line(format!("{} crashes", process.name));
        self.book.pages().fallen.insert(process.name.clone());
        process.life.kill();
        self.restart_later(index);
    }

    fn pause(self: &Arc<Self>, index: usize) {
        let Some(process) = self.process(index) else { return };
        if process.life.state() == State::Paused {
            return;
        }
        let longest = self.terms.upstream_timeout * 2;
        let span = self.draw(|rng| rng.random_range(Duration::from_millis(50)..longest));
        self.book.line(format!("{} pauses for {span:?}", process.name));
        self.book.pages().paused = true;
        self.pauses.fetch_add(1, Ordering::Relaxed);
        self.paused.fetch_add(1, Ordering::Relaxed);
        process.life.pause();
        let this = Arc::clone(self);
        crate::spawn(async move {
            sleep(span).await;
            this.book.line(format!("{} goes on", process.name));
            process.life.resume();
            this.paused.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Drains a process and starts another one in its place.
    async fn roll(self: &Arc<Self>, index: usize) {
        let Some(process) = self.process(index).filter(|process| process.is_serving()) else {
            return;
        };
        let grace = self.draw(|rng| rng.random_range(0..15_000));
        self.book.line(format!("{} drains for {grace} ms", process.name));
        let was_fair = !self.is_foul.load(Ordering::Relaxed);
        let drained =
            process.tasks.drain(Duration::from_millis(grace), Duration::from_secs(3)).await;
        let is_fair = was_fair && !self.is_foul.load(Ordering::Relaxed);
        self.book.line(format!("{} has drained: {drained:?}", process.name));
        if drained != Drained::Clean {
            self.book.pages().fallen.insert(process.name.clone());
        }
        match drained {
            Drained::Clean => self.book.sometimes("a process drained by itself"),
            Drained::Cut(_) => self.book.sometimes("a drain cut attempts short"),
            Drained::Abandoned(_) => self.book.sometimes("a drain gave attempts up"),
        }
        let is_alive = process.life.state() != State::Dead;
        if is_fair
            && is_alive
            && !self.has_lost.load(Ordering::Relaxed)
            && !matches!(drained, Drained::Abandoned(_))
        {
            ending::nothing_in_flight(self, Some(process.ledger.process()));
        }
        process.life.kill();
        self.start(index).await;
    }

    fn roll_all(self: &Arc<Self>) {
        let this = Arc::clone(self);
        crate::spawn(async move {
            for index in 0..this.size() {
                this.roll(index).await;
            }
        });
    }

    async fn accept(self: &Arc<Self>) {
        let rules = self.setup.lock().unwrap().rules();
        let accepted = self.operator().accept(rules).await;
        self.book.line(format!("the operator accepts the store: {accepted:?}"));
        // A snapshot from before an earlier accept: the count is raised as far as it was then.
        while self.processes().iter().any(|process| {
            process.ledger.store().fence().seen() > self.depot.store.snapshot().count()
        }) {
            self.book.sometimes("a store had to be accepted twice");
            let _ = self.operator().accept(rules).await;
        }
        self.is_lossy.store(false, Ordering::Relaxed);
    }

    /// The store loses all, or what came after a snapshot; after a while an operator accepts that.
    fn lose(self: &Arc<Self>, snapshot: Option<Content>) {
        if self.has_lost.swap(true, Ordering::Relaxed) {
            return;
        }
        let store = &self.depot.store;
        let before = store.snapshot();
        self.is_lossy.store(true, Ordering::Relaxed);
        let flushed = snapshot.is_none();
        match snapshot {
            Some(content) => store.restore(content),
            None => store.flush(),
        }
        self.book.line(format!("the store loses {}", if flushed { "all" } else { "what is new" }));
        self.book.store_lost(&before, &store.snapshot());
        let after = self.draw(|rng| rng.random_range(500..12_000));
        let this = Arc::clone(self);
        crate::spawn(async move {
            sleep(Duration::from_millis(after)).await;
            this.accept().await;
            if flushed {
                // It has another identity now: processes that knew the old one must start anew.
                for index in 0..this.size() {
                    this.crash(index);
                }
            }
        });
    }

    fn set_weather(&self, store: StoreWeather) {
        let is_foul = store.longest > Duration::ZERO;
        self.is_foul.store(is_foul, Ordering::Relaxed);
        self.book.weather(is_foul);
        self.book.line(format!("store: {store:?}"));
        self.depot.set_weather(store);
    }

    async fn chaos(self: &Arc<Self>) {
        let until = Instant::now() + self.chaos;
        let eventful = self.draw(|rng| rng.random_range(300..4000));
        while Instant::now() < until {
            let event = self.draw(draw_event);
            self.happens(event).await;
            let pause = self.draw(|rng| rng.random_range(10..eventful));
            sleep(Duration::from_millis(pause)).await;
        }
    }

    fn change_provider(&self) {
        let mut weather = self.draw(ProviderWeather::draw);
        if self.provider.is_honest {
            weather.lost = LOST;
        }
        self.book.line(format!("provider: {weather:?}"));
        self.provider.set_weather(weather);
    }

    async fn happens(self: &Arc<Self>, event: Event) {
        let index = self.draw(|rng| rng.random_range(0..self.size()));
        match event {
            Event::StoreWeather => self.set_weather(self.draw(StoreWeather::draw)),
            Event::ProviderWeather => self.change_provider(),
            // A paused owner comes back with its mark, a dead one never does.
            Event::Crash if self.provider.is_honest && self.draw(|rng| rng.random_bool(0.8)) => {
                self.pause(index);
            }
            Event::Crash => self.crash(index),
            Event::Pause => self.pause(index),
            Event::Snapshot => {
                *self.snapshot.lock().unwrap() = Some(self.depot.store.snapshot());
            }
            Event::Flush => self.lose(None),
            Event::Restore => {
                let snapshot = self.snapshot.lock().unwrap().take();
                if let Some(snapshot) = snapshot {
                    self.lose(Some(snapshot));
                }
            }
            Event::Step if self.may_step.load(Ordering::Relaxed) => self.step(),
            Event::Step => {}
            Event::Roll => {
                let this = Arc::clone(self);
                crate::spawn(async move { this.roll(index).await });
            }
            Event::ChangeRules => {
                if !self.is_lossy.load(Ordering::Relaxed) {
                    self.setup.lock().unwrap().rules += 1;
                    self.accept().await;
                    self.roll_all();
                }
            }
            Event::RotateSecrets => {
                self.setup.lock().unwrap().rotation += 1;
                self.roll_all();
            }
            Event::Operator => operator::act(self).await,
        }
    }

    fn step(&self) {
        let by = self.draw(|rng| Duration::from_secs(rng.random_range(1..3000)));
        if self.draw(|rng| rng.random_bool(0.7)) {
            self.book.line(format!("the store's clock goes forward by {by:?}"));
            self.depot.store.put_clock_forward(by);
            self.book.pages().stepped += by;
        } else {
            self.book.line(format!("the store's clock goes back by {by:?}"));
            self.depot.store.put_clock_back(by);
            self.stepped_back.store(true, Ordering::Relaxed);
        }
    }

    /// The faults stop; what they have done stays.
    async fn calm(self: &Arc<Self>) {
        self.book.line("it is calm".to_owned());
        self.set_weather(StoreWeather::CLEAR);
        self.provider.set_weather(ProviderWeather::CLEAR);
        // Whoever was paused goes on, and whoever crashed is started again, by then.
        let longest = self.terms.upstream_timeout * 2 + Duration::from_secs(40);
        let all = async {
            while self.processes().len() < self.size() || self.has_paused() {
                sleep(Duration::from_millis(500)).await;
            }
        };
        let ready = timeout(longest, all).await.is_ok();
        self.book.check(ready, || "not all processes came back".to_owned());
        // A deployment that was under way comes to its end.
        let setup = *self.setup.lock().unwrap();
        for index in 0..self.size() {
            if self.process(index).is_some_and(|process| process.setup != setup) {
                self.roll(index).await;
            }
        }
    }

    /// Lets days pass; nobody works meanwhile.
    pub(crate) async fn sleep_through(&self, span: Duration) {
        self.book.line(format!("{span:?} pass"));
        self.pauses.fetch_add(1, Ordering::Relaxed);
        for process in self.processes() {
            process.life.pause();
        }
        sleep(span).await;
        for process in self.processes() {
            process.life.resume();
        }
    }

    /// Waits until no request is under way anywhere.
    pub(crate) async fn all_at_rest(&self) {
        let longest = SLOW_MAX * 8;
        let rest = async {
            while !self.book.pages().sends.iter().all(|send| send.at_rest) {
                sleep(Duration::from_secs(1)).await;
            }
        };
        let rested = timeout(longest, rest).await.is_ok();
        self.book.check(rested, || "a request stays under way".to_owned());
    }

    /// Each purchase is tried once more, by somebody who stays.
    pub(crate) async fn ask_once_more(self: &Arc<Self>, purchases: &[Purchase]) {
        for (number, purchase) in purchases.iter().enumerate() {
            if purchase.is_ambiguous() {
                continue;
            }
            let index = number % self.size();
            callers::attempt(self, purchase, index, Patience::Stays).await;
        }
    }
}

fn draw_event(rng: &mut StdRng) -> Event {
    match rng.random_range(0..100) {
        0..22 => Event::StoreWeather,
        22..44 => Event::ProviderWeather,
        44..56 => Event::Crash,
        56..70 => Event::Pause,
        70..74 => Event::Snapshot,
        74 => Event::Flush,
        75..77 => Event::Restore,
        77..80 => Event::Step,
        80..86 => Event::Roll,
        86..88 => Event::ChangeRules,
        88..90 => Event::RotateSecrets,
        _ => Event::Operator,
    }
}
