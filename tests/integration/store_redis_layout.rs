//! What lies in Redis and was not left there by this version is refused, and what moves is not missed.

use std::time::Duration;

use semel::store::{Listing, Refusal, Store as _, StoreError, Tag, Write};

use crate::support::redis::RedisServer;
use crate::support::swaps::{CHARTER, bound, claim, founded, key, record, token};

#[tokio::test]
async fn a_damaged_record_is_an_error_and_never_absent() {
    let server = RedisServer::start();
    let store = founded(&server.url()).await;
    store.swap(&claim(1)).await.unwrap();

    let name = format!("{{semel}}:r:{}", key(1));
    for left in ["", "nothing of semel's"] {
        server.command(&["SET", &name, left]);

        let damaged = |error| matches!(error, StoreError::Refused(Refusal::Unfit(_)));
        assert!(damaged(store.load(key(1)).await.unwrap_err()));
        assert!(damaged(store.swap(&claim(1)).await.unwrap_err()));
        assert!(damaged(store.swap(&record(1)).await.unwrap_err()));
    }
    server.command(&["DEL", &name]);
    server.command(&["HSET", &name, "something", "else"]);
    assert!(matches!(store.load(key(1)).await, Err(StoreError::Unconfirmed(_))));
    assert!(matches!(store.swap(&claim(1)).await, Err(StoreError::Unconfirmed(_))));
}

#[tokio::test]
async fn a_store_of_another_layout_is_refused_and_left_alone() {
    let server = RedisServer::start();
    let store = bound(&server.url());
    let refused = |error| matches!(error, StoreError::Refused(Refusal::Unfit(_)));

    // The first layout's, then that of one to come.
    server.command(&["HSET", "{semel}:meta", "identity", "1234567890123456", "count", "7"]);
    for _ in 0..2 {
        assert!(refused(store.charter().await.unwrap_err()));
        assert!(refused(store.swap(&claim(1)).await.unwrap_err()));
        assert!(refused(store.load(key(1)).await.unwrap_err()));
        assert!(store.found(&CHARTER).await.is_err());
        assert!(store.amend(None, &CHARTER).await.is_err());
        server.command(&["HSET", "{semel}:meta", "charter", "\u{3}and more"]);
    }

    server.command(&["FLUSHALL"]);
    assert_eq!(store.charter().await, Ok(None));
}

#[tokio::test]
async fn a_list_goes_on_where_it_was_when_records_move() {
    let server = RedisServer::start();
    let store = founded(&server.url()).await;
    let due = |n: u32, write: u32, due| {
        let mut swap = claim(n);
        swap.expected = (write > 0).then(|| token(n));
        swap.token.write = write;
        let bytes = bytes::Bytes::from_static(b"due");
        swap.write = Write::Put { bytes, due: Some(Duration::from_secs(due)), tag: Tag::NONE };
        swap
    };
    for n in 0..9 {
        store.swap(&due(n, 0, 100 + u64::from(n))).await.unwrap();
    }

    let (mut listing, mut seen) = (Listing { tag: None, after: None, limit: 3 }, vec![]);
    for round in 0.. {
        let page = store.list(&listing).await.unwrap();
        seen.extend(page.entries.iter().map(|(key, _)| *key));
        listing.after = page.next;
        if round == 0 {
            // The last one seen goes to the end: whoever stays must not be passed over with it.
            store.swap(&due(2, 1, 1000)).await.unwrap();
        }
        if listing.after.is_none() {
            break;
        }
    }

    for n in 0..9 {
        assert!(seen.contains(&key(n)), "{n} is missing");
    }
}
