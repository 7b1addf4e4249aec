//! Swaps to try a store with, and a Redis store to try. Knows no promise.
#![expect(clippy::unwrap_used, reason = "a test that cannot found its store has failed")]

use std::time::Duration;

use bytes::Bytes;
use semel::protocol::id::{AttemptId, RecordKey, StoreId, Token};
use semel::store::redis::{RedisStore, Settings};
use semel::store::{Charter, Purpose, Store, StoreError, Stored, Swap, Swapped, Tag, Write};

pub(crate) const CHARTER: Charter = Charter {
    identity: StoreId::new([1; 16]),
    generation: 1,
    rules: [2; 32],
    secret_check: [3; 16],
};

/// How often a store that was disturbed is asked again, and how long between two times.
const ASKED_MAX: u32 = 100;
const ASK_PAUSE: Duration = Duration::from_millis(25);

/// How long a call may last where it does not matter.
const PATIENCE: Duration = Duration::from_secs(10);

/// The n-th key, and the first write of the n-th attempt.
pub(crate) fn key(n: u32) -> RecordKey {
    let mut bytes = [7; 16];
    bytes[12..].copy_from_slice(&n.to_be_bytes());
    RecordKey::new(bytes)
}

pub(crate) fn token(n: u32) -> Token {
    Token::first(AttemptId::new(*key(n).as_bytes()))
}

/// Claims the n-th key as the n-th attempt.
pub(crate) fn claim(n: u32) -> Swap {
    Swap {
        key: key(n),
        expected: None,
        token: token(n),
        write: Write::Put {
            bytes: Bytes::from(format!("claimed {n}")),
            due: Some(Duration::ZERO),
            tag: Tag(1),
        },
        purpose: Purpose::Claim,
    }
}

/// Records something after [`claim`].
pub(crate) fn record(n: u32) -> Swap {
    Swap {
        key: key(n),
        expected: Some(token(n)),
        token: token(n).next(),
        write: Write::Put { bytes: Bytes::from(format!("settled {n}")), due: None, tag: Tag(2) },
        purpose: Purpose::Record,
    }
}

/// Purges what [`record`] left.
pub(crate) fn purge(n: u32) -> Swap {
    Swap {
        key: key(n),
        expected: Some(token(n).next()),
        token: token(n).next().next(),
        write: Write::Purge,
        purpose: Purpose::Record,
    }
}

/// Settings with which a disk that stalls for a while fails no test.
pub(crate) fn patient(url: impl Into<String>) -> Settings {
    Settings { deadline: PATIENCE, connect_timeout: PATIENCE / 2, ..Settings::new(url) }
}

/// A store that another process has founded, with the deadlines that are the default.
pub(crate) fn hasty(url: &str) -> RedisStore {
    let store = RedisStore::connect(&Settings::new(url)).unwrap();
    store.fence().bind(CHARTER);
    store
}

/// A store that is not founded yet.
pub(crate) fn unfounded(url: &str) -> RedisStore {
    RedisStore::connect(&patient(url)).unwrap()
}

/// A store that another process has founded.
pub(crate) fn bound(url: &str) -> RedisStore {
    let store = unfounded(url);
    store.fence().bind(CHARTER);
    store
}

/// A store that is founded and bound.
pub(crate) async fn founded(url: &str) -> RedisStore {
    let store = bound(url);
    store.found(&CHARTER).await.unwrap();
    store
}

/// Asks until the store can be reached again, and returns what it then says.
pub(crate) async fn once_reachable(
    store: &dyn Store,
    key: RecordKey,
) -> Result<Option<Stored>, StoreError> {
    for _ in 0..ASKED_MAX {
        match store.load(key).await {
            Err(StoreError::Unreachable(_) | StoreError::Unconfirmed(_)) => {}
            answer @ (Ok(_) | Err(StoreError::Refused(_) | StoreError::Broken(_))) => {
                return answer;
            }
        }
        tokio::time::sleep(ASK_PAUSE).await;
    }
    panic!("the store did not come back");
}

/// Swaps until there is an answer, as one may: a swap is harmless if it is done twice.
pub(crate) async fn swap_through(store: &dyn Store, swap: &Swap) -> Swapped {
    for _ in 0..ASKED_MAX {
        match store.swap(swap).await {
            Ok(swapped) => return swapped,
            Err(StoreError::Unreachable(_) | StoreError::Unconfirmed(_)) => {}
            Err(error @ (StoreError::Refused(_) | StoreError::Broken(_))) => panic!("{error}"),
        }
        tokio::time::sleep(ASK_PAUSE).await;
    }
    panic!("the store did not come back");
}
