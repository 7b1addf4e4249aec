//! The suite that every store passes. What it does not ask, nobody may rely on.
//!
//! It panics with what was promised and not kept. It knows a store only by its trait, and lets
//! time pass only through [`Bench::advance`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::{
    Charter, Listing, Purpose, Refusal, SharedStore, StoreError, Stored, Swap, Swapped, Tag, Write,
};
use crate::protocol::id::{AttemptId, RecordKey, StoreId, Token};

/// How many claims of one key run at once.
const CLAIMS: usize = 64;
/// How many random operations are compared with the model.
const STEPS: usize = 400;
/// How many pages a listing may take before it is taken for endless.
const PAGES_MAX: usize = 1_000;
/// How much time passes where time matters: more than any store's clock is coarse.
const WHILE: Duration = Duration::from_millis(60);
/// Longer than two writes take on a slow disk: what is due so much later is due later, though it
/// was written earlier.
const LATER: Duration = Duration::from_secs(2);
/// How coarse a store's clock may be.
const COARSE: Duration = Duration::from_millis(5);
/// Longer than any run of this suite.
const LONG: Duration = Duration::from_secs(3_600);

/// Where stores to be examined come from.
#[async_trait]
pub trait Bench: Sync {
    /// A new, empty store that was never founded.
    async fn open(&self) -> SharedStore;

    /// Lets time pass by the stores' clock.
    async fn advance(&self, by: Duration);
}

/// Puts the stores of a bench to every question.
///
/// # Panics
/// If a store does not keep a promise of [`super::Store`]'s. `seed` replays the random part.
pub async fn suite(bench: &dyn Bench, seed: u64) {
    founding(bench).await;
    fence(bench).await;
    swaps(bench).await;
    beside(bench).await;
    purges(bench).await;
    agenda(bench).await;
    ages(bench).await;
    listing(bench).await;
    race(bench).await;
    big_values(bench).await;
    amendment(bench).await;
    random(bench, seed).await;
}

/// A charter to found stores with.
pub const CHARTER: Charter = Charter {
    identity: StoreId::new([1; StoreId::LEN]),
    generation: 1,
    rules: [2; 32],
    secret_check: [3; 16],
};

/// A store that was founded and is bound to this process.
pub async fn founded(bench: &dyn Bench) -> SharedStore {
    let store = bench.open().await;
    store.found(&CHARTER).await.expect("an empty store can be founded");
    store.fence().bind(CHARTER);
    store
}

/// A swap that claims an absent key.
pub fn claim(key: RecordKey, token: Token, bytes: &[u8]) -> Swap {
    let bytes = Bytes::copy_from_slice(bytes);
    let write = Write::Put { bytes, due: None, tag: Tag::NONE };
    Swap { key, expected: None, token, write, purpose: Purpose::Claim }
}

/// The swap that records something after `earlier`.
pub fn follow(earlier: &Swap, bytes: &[u8]) -> Swap {
    Swap {
        expected: Some(earlier.token),
        token: earlier.token.next(),
        purpose: Purpose::Record,
        ..claim(earlier.key, earlier.token, bytes)
    }
}

/// The swap that purges what `earlier` wrote.
pub fn purge(earlier: &Swap) -> Swap {
    Swap { write: Write::Purge, ..follow(earlier, b"") }
}

fn key(number: u8) -> RecordKey {
    RecordKey::new([number; RecordKey::LEN])
}

fn token(number: u8) -> Token {
    Token::first(AttemptId::new([number; AttemptId::LEN]))
}

fn with(swap: Swap, due: Option<Duration>, tag: Tag) -> Swap {
    let write = match swap.write {
        Write::Put { bytes, .. } => Write::Put { bytes, due, tag },
        Write::Purge => Write::Purge,
    };
    Swap { write, ..swap }
}

async fn done(store: &SharedStore, swap: &Swap) {
    assert_eq!(store.swap(swap).await, Ok(Swapped::Done), "must be done: {swap:?}");
}

async fn read(store: &SharedStore, key: RecordKey) -> Option<(Token, Bytes)> {
    let stored = store.load(key).await.expect("a bound store can be read");
    stored.map(|stored| (stored.token, stored.bytes))
}

fn written(swap: &Swap) -> Option<(Token, Bytes)> {
    match &swap.write {
        Write::Put { bytes, .. } => Some((swap.token, bytes.clone())),
        Write::Purge => None,
    }
}

fn lost(swapped: Result<Swapped, StoreError>) -> Option<(Token, Bytes)> {
    match swapped {
        Ok(Swapped::Lost(current)) => current.map(|stored| (stored.token, stored.bytes)),
        Ok(Swapped::Done) | Err(_) => panic!("must be lost: {swapped:?}"),
    }
}

async fn founding(bench: &dyn Bench) {
    let store = bench.open().await;
    let first = claim(key(1), token(1), b"one");

    assert_eq!(store.charter().await, Ok(None), "an empty store has no charter");
    let unfounded = Err(StoreError::Refused(Refusal::NotFounded));
    assert_eq!(store.swap(&first).await, unfounded, "unbound and unfounded");
    store.fence().bind(CHARTER);
    assert_eq!(store.swap(&first).await, unfounded, "bound and unfounded");
    assert_eq!(
        store.load(first.key).await,
        Err(StoreError::Refused(Refusal::NotFounded)),
        "nothing can be known of an unfounded store, not even absence"
    );
    assert!(store.due(1).await.is_err(), "an unfounded store has no agenda");

    assert_eq!(store.found(&CHARTER).await, Ok(()));
    let other = Charter { identity: StoreId::new([9; StoreId::LEN]), ..CHARTER };
    let twice = Err(StoreError::Refused(Refusal::AlreadyFounded));
    assert_eq!(store.found(&other).await, twice, "a store is founded once");
    assert_eq!(store.found(&CHARTER).await, twice, "a store is founded once, by anybody");
    assert_eq!(store.charter().await, Ok(Some(CHARTER)));
    done(&store, &first).await;
}

async fn fence(bench: &dyn Bench) {
    let store = founded(bench).await;
    let held = claim(key(1), token(1), b"one");
    done(&store, &held).await;
    let (another, record) = (claim(key(2), token(2), b"two"), follow(&held, b"more"));

    store.fence().bind(Charter { identity: StoreId::new([9; StoreId::LEN]), ..CHARTER });
    for swap in [&another, &record] {
        let swapped = store.swap(swap).await;
        assert_eq!(swapped, Err(StoreError::Refused(Refusal::OtherIdentity)));
    }
    assert!(store.load(held.key).await.is_err(), "another store's answer is no answer");

    store.fence().bind(Charter { rules: [7; 32], ..CHARTER });
    let swapped = store.swap(&another).await;
    assert_eq!(swapped, Err(StoreError::Refused(Refusal::OtherRules)));
    done(&store, &record).await;

    store.fence().bind(Charter { generation: 2, ..CHARTER });
    let swapped = store.swap(&another).await;
    let found = Refusal::OtherGeneration { ours: 2, found: 1 };
    assert_eq!(swapped, Err(StoreError::Refused(found)));
    done(&store, &follow(&record, b"still recorded")).await;

    store.fence().bind(CHARTER);
    assert!(store.fence().seen() >= 3, "every swap is counted, and answers carry the count");
    let seen = store.fence().seen();
    store.fence().saw(seen + 1);
    for swap in [&another, &follow(&record, b"lost")] {
        match store.swap(swap).await {
            Err(StoreError::Refused(Refusal::Rewound { seen: s, found: f })) => {
                assert_eq!((s, f), (seen + 1, seen));
            }
            other => panic!("a store that lost writes takes none: {other:?}"),
        }
    }
    assert!(store.load(held.key).await.is_err(), "nor does it say what it holds");
}

async fn swaps(bench: &dyn Bench) {
    let store = founded(bench).await;
    let first = claim(key(1), token(1), b"one");
    assert_eq!(read(&store, first.key).await, None);
    done(&store, &first).await;
    assert_eq!(read(&store, first.key).await, written(&first));

    let rival = claim(key(1), token(2), b"rival");
    assert_eq!(lost(store.swap(&rival).await), written(&first), "a loser learns who won");
    assert_eq!(read(&store, first.key).await, written(&first), "and changes nothing");

    done(&store, &first).await;
    let second = follow(&first, b"two");
    done(&store, &second).await;
    done(&store, &second).await;
    assert_eq!(read(&store, first.key).await, written(&second));

    let late = [first.clone(), rival, Swap { token: token(3), ..second.clone() }];
    for swap in &late {
        assert_eq!(lost(store.swap(swap).await), written(&second), "late: {swap:?}");
    }
    assert_eq!(read(&store, first.key).await, written(&second), "late swaps change nothing");

    let nothing_there = Swap { key: key(9), ..second };
    assert_eq!(lost(store.swap(&nothing_there).await), None, "expects what was never there");
    assert_eq!(read(&store, key(9)).await, None);
}

async fn beside(bench: &dyn Bench) {
    let store = founded(bench).await;
    let (first, other) = (claim(key(1), token(1), b"one"), claim(key(2), token(2), b"two"));
    let read = |stored: Option<Stored>| stored.map(|stored| (stored.token, stored.bytes));

    let nothing = store.swap_and_load(&first, other.key).await;
    assert_eq!(nothing, Ok((Swapped::Done, None)), "done, and nothing beside it");
    done(&store, &other).await;
    let (swapped, stored) = store.swap_and_load(&first, other.key).await.expect("done again");
    assert_eq!(swapped, Swapped::Done, "a swap may be done twice");
    assert_eq!(read(stored), written(&other), "and is told what is there by then");

    let rival = claim(key(1), token(3), b"rival");
    let (swapped, stored) = store.swap_and_load(&rival, other.key).await.expect("answered");
    assert_eq!(lost(Ok(swapped)), written(&first), "a loser learns who won");
    assert_eq!(read(stored), None, "and nothing beside");
}

async fn purges(bench: &dyn Bench) {
    let store = founded(bench).await;
    let first = with(claim(key(1), token(1), b"one"), Some(Duration::ZERO), Tag(4));
    done(&store, &first).await;
    let early = Swap { expected: Some(token(8)), ..purge(&first) };
    assert_eq!(lost(store.swap(&early).await), written(&first), "purges only what was read");

    done(&store, &purge(&first)).await;
    assert_eq!(read(&store, first.key).await, None);
    assert_eq!(lost(store.swap(&purge(&first)).await), None, "a second purge finds nothing");
    assert!(store.due(10).await.expect("readable").due.is_empty(), "nor does the agenda");
    assert!(all(&store, Some(Tag(4)), 10).await.is_empty(), "nor does the listing");

    assert_eq!(lost(store.swap(&follow(&first, b"late")).await), None, "a late record");
    assert_eq!(read(&store, first.key).await, None, "brings nothing back");
    done(&store, &claim(key(1), token(2), b"anew")).await;
}

async fn due_keys(store: &SharedStore, limit: usize) -> Vec<RecordKey> {
    let agenda = store.due(limit).await.expect("a bound store has an agenda");
    agenda.due.into_iter().map(|(key, _)| key).collect()
}

async fn agenda(bench: &dyn Bench) {
    let store = founded(bench).await;
    let soon = |number: u8, due| with(claim(key(number), token(number), b"x"), due, Tag::NONE);
    done(&store, &soon(1, Some(LATER))).await;
    done(&store, &soon(2, Some(Duration::ZERO))).await;
    done(&store, &soon(3, None)).await;
    done(&store, &soon(4, Some(LONG))).await;
    let before = store.due(10).await.expect("readable");
    assert!(!before.due.iter().any(|(due, _)| *due == key(4)), "due in an hour is not due");

    bench.advance(LATER).await;
    assert_eq!(due_keys(&store, 10).await, [key(2), key(1)], "most overdue first");
    assert_eq!(due_keys(&store, 10).await, [key(2), key(1)], "they stay until swapped");
    assert_eq!(due_keys(&store, 1).await, [key(2)], "the limit keeps the most overdue");
    let after = store.due(10).await.expect("readable");
    assert!(after.clock >= before.clock + LATER - COARSE, "the agenda tells the store's clock");
    assert_eq!(after.due[0].1.token, token(2), "an entry says which write it is");
    assert_eq!(after.due[0].1.bytes, "x", "and what it holds");

    done(&store, &with(follow(&soon(2, None), b"y"), Some(LONG), Tag::NONE)).await;
    done(&store, &with(follow(&soon(4, None), b"y"), Some(Duration::ZERO), Tag::NONE)).await;
    bench.advance(COARSE).await;
    assert_eq!(due_keys(&store, 10).await, [key(1), key(4)], "a swap moves its entry");
    done(&store, &with(follow(&soon(1, None), b"y"), None, Tag::NONE)).await;
    assert_eq!(due_keys(&store, 10).await, [key(4)], "or removes it");
}

async fn ages(bench: &dyn Bench) {
    let store = founded(bench).await;
    let first = claim(key(1), token(1), b"one");
    done(&store, &first).await;
    bench.advance(WHILE).await;

    let age = |stored: Option<Stored>| stored.expect("it was written").age;
    let loaded = age(store.load(first.key).await.expect("readable"));
    assert!(loaded >= WHILE - COARSE, "an age grows with the store's clock: {loaded:?}");
    assert!(loaded < LONG, "and no faster: {loaded:?}");
    match store.swap(&claim(key(1), token(2), b"rival")).await {
        Ok(Swapped::Lost(stored)) => assert!(age(stored) >= loaded, "a loser learns the age"),
        other => panic!("must be lost: {other:?}"),
    }
    done(&store, &first).await;
    let again = age(store.load(first.key).await.expect("readable"));
    assert!(again >= loaded, "a swap done twice does not make it younger");

    bench.advance(WHILE).await;
    // By the store's clock, however long the write and its sync take.
    let clock = async || store.due(1).await.expect("readable").clock;
    let before = clock().await;
    done(&store, &follow(&first, b"two")).await;
    let anew = age(store.load(first.key).await.expect("readable"));
    let since = clock().await - before + COARSE;
    assert!(anew <= since, "an age counts from the newest write: {anew:?}, written {since:?} ago");
}

/// Follows the cursors to the end.
async fn all(store: &SharedStore, tag: Option<Tag>, limit: usize) -> BTreeMap<RecordKey, Token> {
    let mut found = BTreeMap::new();
    let mut listing = Listing { tag, after: None, limit };
    for _ in 0..PAGES_MAX {
        let page = store.list(&listing).await.expect("a bound store can be listed");
        found.extend(page.entries.into_iter().map(|(key, stored)| (key, stored.token)));
        if page.next.is_none() {
            return found;
        }
        listing.after = page.next;
    }
    panic!("a listing ends");
}

async fn listing(bench: &dyn Bench) {
    let store = founded(bench).await;
    for number in 0..30 {
        let tag = Tag(number % 3);
        done(&store, &with(claim(key(number), token(number), b"x"), None, tag)).await;
    }
    let expected = |tag: u8| -> BTreeMap<_, _> {
        (0..30).filter(|n| n % 3 == tag).map(|n| (key(n), token(n))).collect()
    };

    for limit in [1, 3, 10, 1_000] {
        assert_eq!(all(&store, None, limit).await.len(), 30, "everything, {limit} at a time");
        assert_eq!(all(&store, Some(Tag(1)), limit).await, expected(1), "one tag, by {limit}");
        assert_eq!(all(&store, Some(Tag(2)), limit).await, expected(2), "one tag, by {limit}");
        assert!(all(&store, Some(Tag(7)), limit).await.is_empty(), "a tag nobody has");
    }
    let moved = with(claim(key(1), token(1), b"x"), None, Tag(1));
    let moved = with(follow(&moved, b"y"), None, Tag(2));
    done(&store, &moved).await;
    assert!(!all(&store, Some(Tag(1)), 10).await.contains_key(&key(1)), "a swap moves its tag");
    assert_eq!(all(&store, Some(Tag(2)), 10).await.get(&key(1)), Some(&moved.token));
}

async fn race(bench: &dyn Bench) {
    let store = founded(bench).await;
    for round in 0..4 {
        let claims: Vec<_> = (0..CLAIMS)
            .map(|n| {
                let mut attempt = [round; AttemptId::LEN];
                attempt[0] = u8::try_from(n).unwrap_or(u8::MAX);
                claim(key(round), Token::first(AttemptId::new(attempt)), b"mine")
            })
            .collect();
        let swapped = join_all(claims.iter().map(|claim| store.swap(claim))).await;

        let winners: Vec<_> = claims
            .iter()
            .zip(&swapped)
            .filter(|(_, swapped)| **swapped == Ok(Swapped::Done))
            .map(|(claim, _)| written(claim))
            .collect();
        assert_eq!(winners.len(), 1, "of {CLAIMS} claims at once, one is granted");
        for swapped in swapped.into_iter().filter(|swapped| *swapped != Ok(Swapped::Done)) {
            assert_eq!(lost(swapped), winners[0], "every loser learns of the winner");
        }
        assert_eq!(read(&store, key(round)).await, winners[0]);
    }
}

async fn big_values(bench: &dyn Bench) {
    let store = founded(bench).await;
    let big: Vec<u8> = (0..1024 * 1024_u32).map(|n| (n % 251) as u8).collect();
    let first = claim(key(1), token(1), &big);
    done(&store, &first).await;
    assert_eq!(read(&store, first.key).await, written(&first), "1 MiB comes back as it was");
    let empty = follow(&first, b"");
    done(&store, &empty).await;
    assert_eq!(read(&store, first.key).await, written(&empty), "nothing is something, too");
    let zeros = follow(&empty, &[0, b'\r', b'\n', 0xff, 0]);
    done(&store, &zeros).await;
    assert_eq!(read(&store, first.key).await, written(&zeros), "bytes are bytes");
}

async fn amendment(bench: &dyn Bench) {
    let store = founded(bench).await;
    let held = claim(key(1), token(1), b"one");
    done(&store, &held).await;
    let lost_writes = store.fence().seen() + 1_000;
    store.fence().saw(lost_writes);
    assert!(store.swap(&follow(&held, b"two")).await.is_err(), "a store that lost writes");

    let to = Charter { generation: 2, ..CHARTER };
    let stale = store.amend(Some(&to), &to).await;
    assert_eq!(stale, Err(StoreError::Refused(Refusal::OtherIdentity)), "from another charter");
    assert_eq!(store.amend(None, &to).await, stale, "from none, though there is one");
    assert_eq!(store.amend(Some(&CHARTER), &to).await, Ok(()));

    assert_eq!(store.charter().await, Ok(Some(to)));
    done(&store, &follow(&held, b"two")).await;
    assert!(store.fence().seen() > lost_writes, "an amendment leaps over what anybody saw");
    let swapped = store.swap(&claim(key(2), token(2), b"old generation")).await;
    let found = Refusal::OtherGeneration { ours: 1, found: 2 };
    assert_eq!(swapped, Err(StoreError::Refused(found)));
    store.fence().bind(to);
    done(&store, &claim(key(2), token(2), b"new generation")).await;

    let empty = bench.open().await;
    assert_eq!(empty.amend(None, &to).await, Ok(()), "an empty store can be accepted");
    assert_eq!(empty.charter().await, Ok(Some(to)));
}

/// What a store should do, in the simplest words.
#[derive(Debug, Default)]
struct Model(BTreeMap<RecordKey, Swap>);

impl Model {
    fn swap(&mut self, swap: &Swap) -> Result<(), Option<(Token, Bytes)>> {
        let current = self.0.get(&swap.key);
        let token = current.map(|current| current.token);
        if token == Some(swap.token) {
            return Ok(());
        }
        if token != swap.expected {
            return Err(current.and_then(written));
        }
        match swap.write {
            Write::Put { .. } => self.0.insert(swap.key, swap.clone()),
            Write::Purge => self.0.remove(&swap.key),
        };
        Ok(())
    }

    fn tokens(&self, chosen: impl Fn(Option<Duration>, Tag) -> bool) -> BTreeMap<RecordKey, Token> {
        let chosen = |swap: &Swap| match swap.write {
            Write::Put { due, tag, .. } => chosen(due, tag),
            Write::Purge => false,
        };
        self.0.values().filter(|s| chosen(s)).map(|s| (s.key, s.token)).collect()
    }
}

/// Draws a swap: usually one that fits, sometimes one that does not.
fn draw(rng: &mut StdRng, model: &Model, history: &[Swap]) -> Swap {
    if !history.is_empty() && rng.random_bool(0.3) {
        // Doubled, or late: any swap that was ever asked for.
        return history[rng.random_range(0..history.len())].clone();
    }
    let key = key(rng.random_range(0..6));
    let expected = match model.0.get(&key) {
        _ if rng.random_bool(0.15) => Some(token(rng.random())),
        _ if rng.random_bool(0.15) => None,
        current => current.map(|current| current.token),
    };
    let attempt = Token::first(AttemptId::new(rng.random()));
    let write = if rng.random_bool(0.2) {
        Write::Purge
    } else {
        let due = [None, Some(Duration::ZERO), Some(LONG)][rng.random_range(0..3)];
        let bytes = Bytes::from(vec![rng.random(); rng.random_range(0..200)]);
        Write::Put { bytes, due, tag: Tag(rng.random_range(0..3)) }
    };
    let purpose = if rng.random_bool(0.5) { Purpose::Claim } else { Purpose::Record };
    Swap { key, expected, token: attempt, write, purpose }
}

async fn random(bench: &dyn Bench, seed: u64) {
    let store = founded(bench).await;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut model = Model::default();
    let mut history = Vec::new();
    for step in 0..STEPS {
        let swap = draw(&mut rng, &model, &history);
        let expected = model.swap(&swap);
        match store.swap(&swap).await {
            Ok(Swapped::Done) => assert_eq!(expected, Ok(()), "seed {seed}, step {step}: {swap:?}"),
            other => assert_eq!(Err(lost(other)), expected, "seed {seed}, step {step}: {swap:?}"),
        }
        let current = model.0.get(&swap.key).and_then(written);
        assert_eq!(read(&store, swap.key).await, current, "seed {seed}, step {step}: {swap:?}");
        history.push(swap);
    }
    bench.advance(COARSE).await;
    let due: BTreeSet<_> = due_keys(&store, STEPS).await.into_iter().collect();
    let expected = model.tokens(|due, _| due == Some(Duration::ZERO));
    assert_eq!(due, expected.into_keys().collect(), "seed {seed}: the agenda");
    assert_eq!(all(&store, None, 2).await, model.tokens(|_, _| true), "seed {seed}: the listing");
    for tag in [Tag(1), Tag(2)] {
        let expected = model.tokens(|_, of| of == tag);
        assert_eq!(all(&store, Some(tag), 2).await, expected, "seed {seed}: {tag:?}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::memory::MemoryStore;

    struct Memory;

    #[async_trait]
    impl Bench for Memory {
        async fn open(&self) -> SharedStore {
            Arc::new(MemoryStore::default())
        }

        async fn advance(&self, by: Duration) {
            tokio::time::advance(by).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_store_in_memory_keeps_every_promise() {
        suite(&Memory, rand::random()).await;
    }
}
