//! Those who want something paid: they try, wait, leave, try again, press twice, come back late.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use semel::protocol::record::Identity;
use semel::proxy::identify;
use semel::proxy::route::Duplicates;
use semel::server::Body;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::book::Try;
use crate::judge::{Told, judge};
use crate::process::{Process, route};
use crate::provider::TRY;
use crate::world::World;

/// How many tries one purchase gets, beside those that press twice.
const TRIES_MAX: usize = 6;

/// Something to be paid once (or, without a key, each time that it is bought).
#[derive(Debug, Clone)]
pub(crate) struct Purchase {
    pub(crate) route: &'static str,
    pub(crate) order: String,
    pub(crate) amount: u64,
    pub(crate) key: Option<String>,
    /// What names the business operation, if anything does.
    pub(crate) basket: Option<String>,
    /// Whether it takes another key for each try.
    pub(crate) is_fickle: bool,
    pub(crate) who: &'static str,
}

impl Purchase {
    pub(crate) fn draw(rng: &mut StdRng, number: usize, absence: bool) -> Self {
        let key = rng.random_bool(0.65).then(|| format!("key-{}", rng.random_range(0..4)));
        let odds = match (key.is_some(), absence) {
            // Where absence is acted upon, most can be absent.
            (true, true) => 0.9,
            (true, false) => 0.6,
            (false, true) => 0.1,
            (false, false) => 0.3,
        };
        let route = if rng.random_bool(odds) { "payments" } else { "orders" };
        // Keys that nobody else uses, so that what follows is about this purchase alone.
        let named = key.is_some() && rng.random_bool(if absence { 0.2 } else { 0.5 });
        let key = if named { Some(format!("key-of-{number}")) } else { key };
        let basket = (named && rng.random()).then(|| format!("b{number}"));
        let is_fickle = named && rng.random();
        // One order under several keys can be several payments, which no look-up can tell apart.
        let route = if basket.is_some() || is_fickle { "orders" } else { route };
        Self {
            route,
            order: format!("o{number}"),
            amount: 10 + number as u64,
            key,
            basket,
            is_fickle,
            who: if rng.random() { "alice" } else { "bob" },
        }
    }

    /// Without a key one order bought twice is two payments, which no look-up by order can tell
    /// apart: such a route needs a reference of its own.
    pub(crate) fn is_ambiguous(&self) -> bool {
        self.key.is_none() && self.route == "payments"
    }

    /// Takes another key. It stays in its family, and is not used again by chance.
    fn change_key(&mut self, salt: u64) {
        self.key = Some(format!("{}-{salt}", self.order));
    }

    fn request(&self, number: &str) -> Request<Bytes> {
        let mut body = serde_json::json!({ "order": self.order, "amount": self.amount });
        if let Some(basket) = &self.basket {
            body["basket"] = basket.as_str().into();
        }
        let body = body.to_string();
        let mut request = Request::post(format!("/{}", self.route))
            .header("host", "pay.test")
            .header("authorization", self.who)
            .header("content-type", "application/json")
            .header(TRY, number);
        if let Some(key) = &self.key {
            request = request.header("idempotency-key", key);
        }
        request.body(Bytes::from(body)).unwrap()
    }
}

/// How long one caller stays.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    Leaves(Duration),
    Stays,
}

/// A try of which nothing is known so far but who it is.
fn new_try(purchase: &Purchase, identified: &identify::Identified, process: &Process) -> Try {
    Try {
        order: purchase.order.clone(),
        amount: purchase.amount,
        key: identified.key,
        by_content: matches!(identified.identity, Identity::Content(_)),
        business: identified.business,
        content: identified.orphan_at(&process.ledger.secrets().index),
        unanswered: false,
        process: process.name.clone(),
        arrived: Instant::now(),
        left: None,
        orphaned: false,
        answered: None,
        handed: None,
        send: None,
        told_unsent: false,
    }
}

/// One try, to its end. `None`: nobody was told anything.
pub(crate) async fn attempt(
    world: &Arc<World>,
    purchase: &Purchase,
    index: usize,
    patience: Patience,
) -> Option<Told> {
    let process = world.process(index)?;
    let (head, body) = purchase.request("0").into_parts();
    let route = route(purchase.route, &world.terms);
    let identified = identify::identify(&route, process.ledger.secrets(), &head, &body).unwrap();
    let this_try = world.book.tried(new_try(purchase, &identified, &process));
    let gone = CancellationToken::new();
    let request = purchase.request(&this_try.to_string()).map(Body::whole);
    // Which of those who wait together wakes first is the runtime's whim, not the seed's; from here
    // on no two of them do anything at the same moment.
    let way_back = Duration::from_millis(1 + this_try as u64 % 32);
    let told = process.call(request, way_back, gone.clone());
    let paused = world.pauses();
    let arrived = Instant::now();
    let longest = match patience {
        Patience::Leaves(after) => after,
        Patience::Stays => Duration::from_secs(86_400 * 30),
    };
    tokio::select! {
        biased;
        () = process.life.died() => {
            let mut pages = world.book.pages();
            pages.tries[this_try].left = Some(Instant::now());
            pages.tries[this_try].orphaned = true;
            drop(pages);
            world.book.line(format!("try {this_try} loses its connection"));
            world.book.sometimes("a caller lost its process");
            None
        }
        told = timeout(longest, told) => match told {
            Ok(Ok((response, whole))) => {
                let told = Told::read(&response, whole);
                judge(&world.book, &world.provider, this_try, &told);
                world.book.pages().tries[this_try].unanswered = told.leaves_unanswered();
                let waited = arrived.elapsed();
                if world.pauses() == paused && !world.has_paused() {
                    world.book.check(waited <= world.longest_wait(), || {
                        format!("try {this_try} waited for {waited:?}")
                    });
                }
                Some(told)
            }
            Ok(Err(_)) => None,
            Err(_) => {
                gone.cancel();
                // A process that was paused may never have seen it come, and one whose store was in
                // trouble may not know what it stood for. Who is put off at once has not waited.
                let unseen = world.terms.duplicates == Duplicates::Conflict
                    || world.pauses() != paused
                    || world.has_paused()
                    || !world.book.was_fair(arrived);
                {
                    let mut pages = world.book.pages();
                    pages.tries[this_try].left = Some(Instant::now());
                    pages.tries[this_try].orphaned = unseen;
                }
                world.book.line(format!("try {this_try} leaves"));
                world.book.sometimes("a caller left");
                None
            }
        },
    }
}

/// A purchase as people make it.
pub(crate) async fn buy(world: Arc<World>, purchase: Purchase, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    sleep(Duration::from_millis(rng.random_range(0..world.chaos_millis()))).await;
    let mut purchase = purchase;
    for _ in 0..rng.random_range(1..=TRIES_MAX) {
        let mut twins = vec![];
        let is_ambiguous = purchase.is_ambiguous();
        // Without a key, pressing twice is what it is all about.
        let odds = if purchase.key.is_some() { 0.3 } else { 0.7 };
        if !is_ambiguous && rng.random_bool(odds) {
            // Pressed twice, or sent again by an impatient backend, or with another body.
            let mut twin = purchase.clone();
            if purchase.basket.is_some() && rng.random_bool(0.6) {
                twin.change_key(rng.random());
            }
            if rng.random_bool(0.25) {
                // Orders name payments at the provider, so another request is another order.
                twin.amount += 1000;
                twin.order.push('x');
            }
            let (world, index) = (Arc::clone(&world), rng.random_range(0..world.size()));
            let delay = rng.random_range(0..400);
            let patience = if purchase.key.is_none() && rng.random_bool(0.6) {
                Patience::Leaves(Duration::from_millis(rng.random_range(1..600)))
            } else {
                draw_patience(&mut rng)
            };
            twins.push(crate::spawn(async move {
                sleep(Duration::from_millis(delay)).await;
                attempt(&world, &twin, index, patience).await;
            }));
        }
        let index = rng.random_range(0..world.size());
        let told = attempt(&world, &purchase, index, draw_patience(&mut rng)).await;
        for twin in twins {
            let _ = twin.await;
        }
        let over = told.as_ref().is_some_and(Told::is_over);
        let enough = if purchase.key.is_some() { 0.6 } else { 0.3 };
        if over && (is_ambiguous || rng.random_bool(enough)) {
            return;
        }
        let declined = told.is_some_and(|told| told.is_declined());
        if declined && purchase.basket.is_some() {
            // Another card, for the same basket.
            world.book.sometimes("another card was tried");
            purchase.change_key(rng.random());
            purchase.amount += 1;
            purchase.order.push('c');
        } else if purchase.is_fickle && !over {
            purchase.change_key(rng.random());
        }
        sleep(Duration::from_millis(rng.random_range(20..4000))).await;
    }
}

fn draw_patience(rng: &mut StdRng) -> Patience {
    if rng.random_bool(0.3) {
        let longest = if rng.random() { 8000 } else { 400 };
        Patience::Leaves(Duration::from_millis(rng.random_range(1..longest)))
    } else {
        Patience::Stays
    }
}
