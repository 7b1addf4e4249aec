//! The Redis store keeps what it acknowledged, and says what it does not know, whatever happens to
//! Redis. What happens to the connection, byte by byte, is in `store_redis_cut`.
#![expect(clippy::unwrap_used, reason = "a bench that cannot open a store has failed")]

use std::future::{Future as _, poll_fn};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use semel::protocol::id::StoreId;
use semel::store::conformance::{self, Bench};
use semel::store::fence::COUNT_LEAP;
use semel::store::redis::{RedisStore, Settings};
use semel::store::{
    Agenda, Charter, Listing, Refusal, SharedStore, Store, StoreError, Swapped, Tag, Write,
};
use tokio::sync::Semaphore;

use crate::support::redis::RedisServer;
use crate::support::swaps::{
    CHARTER, bound, claim, founded, hasty, key, once_reachable, patient, purge, record,
    swap_through, token, unfounded,
};

/// The deadline of a call, and what a loaded machine may add to it.
const DEADLINE: Duration = Duration::from_millis(500);
const SLACK: Duration = Duration::from_millis(500);

/// Stores in one Redis, kept apart by their prefixes.
struct Stores {
    server: RedisServer,
    opened: AtomicU32,
}

#[async_trait]
impl Bench for Stores {
    async fn open(&self) -> SharedStore {
        let prefix = format!("store-{}", self.opened.fetch_add(1, Ordering::Relaxed));
        let settings = Settings { prefix, ..patient(self.server.url()) };
        Arc::new(RedisStore::connect(&settings).unwrap())
    }

    async fn advance(&self, by: Duration) {
        // Redis has a clock of its own, which nobody can move.
        tokio::time::sleep(by).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_every_promise_of_a_store() {
    let stores = Stores {
        server: RedisServer::start_with(&["--appendonly", "no"]),
        opened: AtomicU32::new(0),
    };
    let seed = rand::random();
    eprintln!("seed {seed}");

    conformance::suite(&stores, seed).await;
}

fn read_only(result: Result<Swapped, StoreError>) -> bool {
    matches!(result, Err(StoreError::Refused(Refusal::ReadOnly(_))))
}

#[tokio::test]
async fn a_record_lives_from_claim_to_purge() {
    let server = RedisServer::start();
    let store = founded(&server.url()).await;

    assert_eq!(store.swap(&claim(1)).await, Ok(Swapped::Done));
    assert_eq!(store.swap(&claim(1)).await, Ok(Swapped::Done), "done twice");
    let due = store.due(10).await.unwrap().due;
    assert_eq!(due.iter().map(|(due, _)| *due).collect::<Vec<_>>(), [key(1)]);

    assert_eq!(store.swap(&record(1)).await, Ok(Swapped::Done));
    let late = store.swap(&claim(1)).await.unwrap();
    let Swapped::Lost(Some(current)) = late else { panic!("{late:?}") };
    assert_eq!((current.token, &current.bytes[..]), (token(1).next(), &b"settled 1"[..]));
    assert_eq!(store.due(10).await.unwrap().due, []);

    assert_eq!(store.swap(&purge(1)).await, Ok(Swapped::Done));
    assert_eq!(store.swap(&purge(1)).await, Ok(Swapped::Lost(None)), "purged twice");
    assert_eq!(store.load(key(1)).await, Ok(None));
    assert_eq!(store.fence().seen(), 3);
}

#[tokio::test]
async fn a_claim_is_won_by_one_of_many() {
    let server = RedisServer::start();
    let one = founded(&server.url()).await;
    let other = bound(&server.url());

    let claims = (0..100_u32).map(|n| {
        let store: &RedisStore = if n % 2 == 0 { &one } else { &other };
        let mut swap = claim(0);
        swap.token = token(n);
        async move { store.swap(&swap).await.unwrap() }
    });
    let swapped = futures_util::future::join_all(claims).await;

    assert_eq!(swapped.iter().filter(|swapped| **swapped == Swapped::Done).count(), 1);
}

#[tokio::test]
async fn a_list_goes_page_by_page_and_by_tag() {
    let server = RedisServer::start();
    let store = founded(&server.url()).await;
    for n in 0..7 {
        store.swap(&claim(n)).await.unwrap();
    }
    store.swap(&record(3)).await.unwrap();

    let (mut listing, mut seen) = (Listing { tag: None, after: None, limit: 3 }, vec![]);
    loop {
        let page = store.list(&listing).await.unwrap();
        assert!(page.entries.len() <= 3);
        seen.extend(page.entries.iter().map(|(key, _)| *key));
        listing.after = page.next;
        if listing.after.is_none() {
            break;
        }
    }
    let tagged = Listing { tag: Some(Tag(2)), after: None, limit: 3 };
    let tagged = store.list(&tagged).await.unwrap();

    seen.sort();
    assert_eq!(seen, (0..7).map(key).collect::<Vec<_>>());
    assert_eq!(tagged.entries.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key(3)]);
    assert_eq!(tagged.next, None);
    assert_eq!(store.examine().await.unwrap().entries, Some(7));
}

#[tokio::test]
async fn what_is_due_waits_for_its_time_and_comes_oldest_first() {
    let server = RedisServer::start();
    let store = founded(&server.url()).await;
    let due_in = |n, due| {
        let mut swap = claim(n);
        let bytes = bytes::Bytes::from_static(b"due");
        swap.write = Write::Put { bytes, due, tag: Tag::NONE };
        swap
    };

    store.swap(&due_in(1, Some(Duration::from_hours(1)))).await.unwrap();
    store.swap(&due_in(2, None)).await.unwrap();
    store.swap(&due_in(4, Some(Duration::ZERO))).await.unwrap();
    store.swap(&due_in(3, Some(Duration::from_millis(1)))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;

    let keys = |agenda: &Agenda| agenda.due.iter().map(|(key, _)| *key).collect::<Vec<_>>();
    let agenda = store.due(10).await.unwrap();
    assert_eq!(keys(&agenda), [key(4), key(3)]);
    assert!(store.due(10).await.unwrap().clock >= agenda.clock);
    assert_eq!(keys(&store.due(1).await.unwrap()), [key(4)]);
}

#[tokio::test]
async fn a_record_deleted_by_hand_does_not_block_the_agenda() {
    let server = RedisServer::start();
    let store = founded(&server.url()).await;
    store.swap(&claim(1)).await.unwrap();
    store.swap(&claim(2)).await.unwrap();

    server.command(&["DEL", &format!("{{semel}}:r:{}", key(1))]);
    store.due(1).await.unwrap();

    assert_eq!(store.due(1).await.unwrap().due[0].0, key(2));
}

#[tokio::test]
async fn a_swap_that_cannot_be_completed_changes_nothing() {
    let server = RedisServer::start();
    let store = founded(&server.url()).await;

    server.command(&["SET", "{semel}:agenda", "not an agenda"]);
    let failed = store.swap(&claim(1)).await;

    assert!(matches!(failed, Err(StoreError::Unconfirmed(_))), "{failed:?}");
    assert_eq!(store.load(key(1)).await, Ok(None));
    server.command(&["DEL", "{semel}:agenda"]);
    assert_eq!(store.swap(&claim(1)).await, Ok(Swapped::Done));
    assert_eq!(store.fence().seen(), 1);
}

#[tokio::test]
async fn a_charter_is_written_once_and_amended_knowingly() {
    let server = RedisServer::start();
    let store = unfounded(&server.url());
    assert_eq!(store.charter().await, Ok(None));
    assert_eq!(store.load(key(1)).await, Err(Refusal::NotFounded.into()));

    store.found(&CHARTER).await.unwrap();
    assert_eq!(store.charter().await, Ok(Some(CHARTER)));
    assert_eq!(store.found(&CHARTER).await, Err(Refusal::AlreadyFounded.into()));

    let raised = Charter { generation: u64::MAX, rules: [9; 32], ..CHARTER };
    assert_eq!(store.amend(Some(&raised), &raised).await, Err(Refusal::OtherIdentity.into()));
    assert_eq!(store.amend(None, &raised).await, Err(Refusal::OtherIdentity.into()));
    store.amend(Some(&CHARTER), &raised).await.unwrap();
    assert_eq!(store.charter().await, Ok(Some(raised)));
    store.fence().bind(raised);
    store.swap(&claim(1)).await.unwrap();
    assert_eq!(store.fence().seen(), COUNT_LEAP + 1);
}

#[tokio::test]
async fn the_fence_holds_inside_the_swap() {
    let server = RedisServer::start();
    let store = founded(&server.url()).await;
    store.swap(&claim(1)).await.unwrap();
    let with = |charter| {
        let store = unfounded(&server.url());
        store.fence().bind(charter);
        store
    };

    let stranger = with(Charter { identity: StoreId::new([9; 16]), ..CHARTER });
    assert_eq!(stranger.swap(&record(1)).await, Err(Refusal::OtherIdentity.into()));
    assert_eq!(stranger.load(key(1)).await, Err(Refusal::OtherIdentity.into()));
    let elder = with(Charter { generation: 0, ..CHARTER });
    let refused = Refusal::OtherGeneration { ours: 0, found: 1 };
    assert_eq!(elder.swap(&claim(2)).await, Err(refused.into()));
    let deviant = with(Charter { rules: [9; 32], ..CHARTER });
    assert_eq!(deviant.swap(&claim(2)).await, Err(Refusal::OtherRules.into()));
    assert_eq!(store.load(key(2)).await, Ok(None));

    assert_eq!(elder.swap(&record(1)).await, Ok(Swapped::Done), "settlements still flow");
}

#[tokio::test]
async fn a_refusal_overtaken_by_a_later_answer_is_no_rewind() {
    let server = RedisServer::start();
    founded(&server.url()).await.swap(&claim(1)).await.unwrap();
    let elder = unfounded(&server.url());
    elder.fence().bind(Charter { generation: 0, ..CHARTER });
    // It is connected, so that questions go out in the order in which they are asked.
    elder.load(key(1)).await.unwrap();

    let refused = claim(2);
    let mut early = pin!(elder.swap(&refused));
    let sent = poll_fn(|cx| Poll::Ready(early.as_mut().poll(cx).is_pending())).await;
    assert!(sent, "its question is on its way");
    assert_eq!(elder.swap(&record(1)).await, Ok(Swapped::Done));
    assert_eq!(elder.fence().seen(), 2);

    // Its answer carries the count from before, held against what was known when it was asked.
    let refusal = Refusal::OtherGeneration { ours: 0, found: 1 };
    assert_eq!(early.await, Err(refusal.into()));
}

#[tokio::test]
async fn a_flushed_store_is_refused_until_a_person_accepts_it() {
    let server = RedisServer::start();
    let store = founded(&server.url()).await;
    store.swap(&claim(1)).await.unwrap();

    server.command(&["FLUSHALL"]);

    assert_eq!(store.swap(&record(1)).await, Err(Refusal::NotFounded.into()));
    assert_eq!(store.load(key(1)).await, Err(Refusal::NotFounded.into()));

    store.amend(None, &Charter { generation: 2, ..CHARTER }).await.unwrap();
    assert_eq!(store.swap(&record(1)).await, Ok(Swapped::Lost(None)));
}

#[tokio::test]
async fn a_restored_snapshot_is_noticed() {
    let mut server = RedisServer::start_with(&["--appendonly", "no"]);
    let store = founded(&server.url()).await;
    store.swap(&claim(1)).await.unwrap();
    server.command(&["SAVE"]);
    store.swap(&claim(2)).await.unwrap();

    server.restart();

    let rewound = StoreError::Refused(Refusal::Rewound { seen: 2, found: 1 });
    assert_eq!(once_reachable(&store, key(2)).await, Err(rewound.clone()));
    assert_eq!(store.swap(&claim(2)).await, Err(rewound));
}

/// Claims one key after the other until that fails. Returns those acknowledged and the one not.
async fn claim_on(store: &RedisStore, keys: Range<u32>, total: &Semaphore) -> (Vec<u32>, u32) {
    let mut acknowledged = vec![];
    for n in keys {
        match store.swap(&claim(n)).await {
            Ok(swapped) => assert_eq!(swapped, Swapped::Done),
            Err(StoreError::Unconfirmed(_) | StoreError::Unreachable(_)) => {
                return (acknowledged, n);
            }
            Err(error @ (StoreError::Refused(_) | StoreError::Broken(_))) => panic!("{error}"),
        }
        acknowledged.push(n);
        total.add_permits(1);
    }
    panic!("nobody killed Redis");
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let mut server = RedisServer::start();
    let store = founded(&server.url()).await;

    for round in 0..3 {
        let total = Semaphore::new(0);
        let writers = (round * 8..(round + 1) * 8)
            .map(|writer| claim_on(&store, writer * 10_000..(writer + 1) * 10_000, &total));
        let written = async {
            let written = futures_util::future::join_all(writers).await;
            total.close();
            written
        };
        let killed = async {
            let enough = total.acquire_many(100).await;
            assert!(enough.is_ok(), "all writers gave up before Redis was killed");
            server.kill();
        };
        let (written, ()) = tokio::join!(written, killed);
        server.restart();
        once_reachable(&store, key(0)).await.unwrap();

        for (acknowledged, unknown) in written {
            for n in acknowledged {
                let held = store.load(key(n)).await.unwrap();
                assert_eq!(held.map(|stored| stored.token), Some(token(n)));
            }
            assert_eq!(swap_through(&store, &claim(unknown)).await, Swapped::Done);
        }
    }
}

#[tokio::test]
async fn a_frozen_redis_holds_nobody_up_and_is_found_again() {
    let server = RedisServer::start();
    let store = hasty(&server.url());
    store.found(&CHARTER).await.unwrap();

    server.freeze();
    for _ in 0..4 {
        let asked = Instant::now();
        let swapped = store.swap(&claim(1)).await;
        assert!(asked.elapsed() < DEADLINE + SLACK, "{:?}", asked.elapsed());
        assert!(
            matches!(swapped, Err(StoreError::Unreachable(_) | StoreError::Unconfirmed(_))),
            "{swapped:?}"
        );
    }
    server.thaw();

    assert_eq!(swap_through(&store, &claim(1)).await, Swapped::Done);
}

#[tokio::test]
async fn calls_beyond_the_bound_are_refused_unsent() {
    let server = RedisServer::start();
    let one_at_a_time = Settings { calls_max: NonZeroUsize::MIN, ..Settings::new(server.url()) };
    let store = RedisStore::connect(&one_at_a_time).unwrap();
    store.found(&CHARTER).await.unwrap();
    store.fence().bind(CHARTER);

    server.freeze();
    let (first, second) = (claim(1), claim(2));
    let (first, second) = tokio::join!(store.swap(&first), store.swap(&second));
    server.thaw();

    assert!(matches!(first, Err(StoreError::Unconfirmed(_))), "{first:?}");
    // Which of the two depends on whether its turn comes just before its deadline or not.
    let unsent =
        matches!(second, Err(StoreError::Refused(Refusal::Busy) | StoreError::Unreachable(_)));
    assert!(unsent, "{second:?}");
    assert_eq!(once_reachable(&store, key(2)).await, Ok(None));
}

#[tokio::test]
async fn an_absent_redis_is_reported_at_once_and_found_when_it_comes() {
    let mut server = RedisServer::start();
    let store = hasty(&server.url());
    store.found(&CHARTER).await.unwrap();
    server.kill();

    let _may_be_unconfirmed = store.load(key(1)).await;
    let asked = Instant::now();
    for _ in 0..20 {
        assert!(matches!(store.load(key(1)).await, Err(StoreError::Unreachable(_))));
    }
    assert!(asked.elapsed() < DEADLINE, "{:?}", asked.elapsed());

    server.restart();
    assert_eq!(once_reachable(&store, key(1)).await, Ok(None));
}

#[tokio::test]
async fn a_full_redis_refuses_claims_and_takes_settlements() {
    let server = RedisServer::start();
    let store = founded(&server.url()).await;
    store.swap(&claim(1)).await.unwrap();

    server.command(&["CONFIG", "SET", "maxmemory", "1"]);

    assert_eq!(store.swap(&claim(2)).await, Err(Refusal::Full.into()));
    assert_eq!(store.load(key(2)).await, Ok(None));
    assert_eq!(store.swap(&record(1)).await, Ok(Swapped::Done));
    let held = store.swap(&claim(1)).await.unwrap();
    assert!(matches!(held, Swapped::Lost(Some(_))), "a duplicate still learns the outcome");
    assert_eq!(store.examine().await.unwrap().headroom, Some(0.0));
    assert_eq!(store.swap(&purge(1)).await, Ok(Swapped::Done));
}

#[tokio::test]
async fn a_replica_takes_nothing_and_tells_nothing() {
    let server = RedisServer::start();
    let store = founded(&server.url()).await;
    store.swap(&claim(1)).await.unwrap();

    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    assert!(read_only(store.swap(&record(1)).await));
    let read = store.load(key(1)).await;
    assert!(matches!(read, Err(StoreError::Refused(Refusal::ReadOnly(_)))), "{read:?}");
    assert_eq!(store.examine().await.unwrap().refusals, ["it is a replica"]);

    server.command(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(store.swap(&record(1)).await, Ok(Swapped::Done));
}

#[tokio::test]
async fn a_primary_short_of_replicas_takes_nothing() {
    let server = RedisServer::start();
    let store = founded(&server.url()).await;

    server.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    assert!(read_only(store.swap(&claim(1)).await));

    server.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    assert_eq!(store.swap(&claim(1)).await, Ok(Swapped::Done));
}

#[tokio::test]
async fn a_redis_that_evicts_is_refused() {
    let server = RedisServer::start();
    let store = founded(&server.url()).await;
    let fit = store.examine().await.unwrap();
    assert_eq!((fit.warnings, fit.refusals), (vec![], vec![]));
    assert!(fit.what.starts_with("Redis 7."), "{}", fit.what);

    server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    assert_eq!(store.examine().await.unwrap().refusals.len(), 1);

    store.swap(&claim(1)).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    let refusals = store.examine().await.unwrap().refusals;
    assert!(refusals.len() == 1 && refusals[0].contains("evicted"), "{refusals:?}");
    assert_eq!(store.swap(&record(1)).await, Err(Refusal::NotFounded.into()));
}

#[tokio::test]
async fn a_connection_that_redis_closed_is_replaced() {
    let server = RedisServer::start();
    let store = founded(&server.url()).await;

    for n in 0..20 {
        server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
        let first = store.swap(&claim(n)).await;
        assert!(matches!(first, Ok(Swapped::Done) | Err(StoreError::Unconfirmed(_))), "{first:?}");
        assert_eq!(swap_through(&store, &claim(n)).await, Swapped::Done);
    }
    assert_eq!(store.fence().seen(), 20);
}

#[tokio::test]
async fn scripts_that_redis_forgot_are_brought_again() {
    let server = RedisServer::start();
    let store = founded(&server.url()).await;
    store.swap(&claim(1)).await.unwrap();

    server.command(&["SCRIPT", "FLUSH"]);

    assert_eq!(store.swap(&record(1)).await, Ok(Swapped::Done));
}

#[tokio::test]
async fn a_user_with_few_rights_is_enough() {
    let server = RedisServer::start();
    let rights = "on >hunter2 ~{semel}:* +@hash +@sortedset +get +set +del +exists +eval \
                  +evalsha +time +info";
    let mut words = vec!["ACL", "SETUSER", "semel"];
    words.extend(rights.split_whitespace());
    server.command(&words);
    let url = format!("redis://semel:hunter2@127.0.0.1:{}", server.port());

    let store = founded(&url).await;
    store.swap(&claim(1)).await.unwrap();
    let examination = store.examine().await.unwrap();

    assert_eq!(examination.refusals, Vec::<String>::new());
    assert_eq!(examination.warnings.len(), 1, "{:?}", examination.warnings);
    let wrong = RedisStore::connect(&patient(url.replace("hunter2", "hunter3"))).unwrap();
    let refused = wrong.charter().await.unwrap_err();
    assert!(matches!(refused, StoreError::Unreachable(_)), "{refused:?}");
    assert!(!refused.to_string().contains("hunter"), "{refused}");
}
