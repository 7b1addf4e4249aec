//! Requests that may be sent again, in memory only: never stored, never logged.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::time::Instant;

use super::compact::compact;
use crate::protocol::id::OperationId;

/// How many requests are kept, and how many bytes of them; at the bound the oldest go.
pub const SPARES_MAX: usize = 1024;
/// See [`SPARES_MAX`].
pub const SPARE_BYTES_MAX: usize = 16 << 20;

/// The spare requests of one process, by operation. Shows none.
#[derive(Default)]
pub struct Spares(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    requests: HashMap<OperationId, Spare>,
    /// Oldest first; some may be gone already.
    order: VecDeque<OperationId>,
    bytes: usize,
}

struct Spare {
    request: Request<Bytes>,
    bytes: usize,
    until: Instant,
}

impl fmt::Debug for Spares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spares").field("kept", &self.kept().requests.len()).finish()
    }
}

impl Spares {
    /// Keeps a request for as long as it may be of use. The first one of an operation stays.
    pub fn keep(&self, operation: OperationId, request: &Request<Bytes>, within: Duration) {
        let bytes = weight(request);
        if bytes > SPARE_BYTES_MAX {
            return;
        }
        let now = Instant::now();
        let mut kept = self.kept();
        if kept.requests.contains_key(&operation) {
            return;
        }
        kept.bytes += bytes;
        kept.order.push_back(operation);
        let mut request = request.clone();
        compact(&mut request);
        let spare = Spare { request, bytes, until: now + within };
        kept.requests.insert(operation, spare);
        kept.make_room(now);
    }

    /// The request of an operation, if it is here.
    pub fn get(&self, operation: OperationId) -> Option<Request<Bytes>> {
        let now = Instant::now();
        let kept = self.kept();
        let spare = kept.requests.get(&operation).filter(|spare| now < spare.until)?;
        Some(spare.request.clone())
    }

    /// Lets one go that is not needed any more.
    pub fn discard(&self, operation: OperationId) {
        self.kept().remove(operation);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn remove(&mut self, operation: OperationId) {
        if let Some(spare) = self.requests.remove(&operation) {
            self.bytes -= spare.bytes;
        }
    }

    /// Lets go what is of no use, then the oldest.
    fn make_room(&mut self, now: Instant) {
        while let Some(&oldest) = self.order.front() {
            let over = self.order.len() > SPARES_MAX || self.bytes > SPARE_BYTES_MAX;
            let stays = self.requests.get(&oldest).is_some_and(|spare| now < spare.until);
            if stays && !over {
                return;
            }
            self.order.pop_front();
            self.remove(oldest);
        }
    }
}

/// About how much memory it takes.
fn weight(request: &Request<Bytes>) -> usize {
    let headers = request.headers().iter();
    let heads: usize = headers.map(|(name, value)| name.as_str().len() + value.len()).sum();
    request.body().len() + heads + request.uri().to_string().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::id::{AttemptId, RecordKey};

    const HOUR: Duration = Duration::from_secs(3600);

    fn operation(number: usize) -> OperationId {
        let mut attempt = [0; 16];
        attempt[..8].copy_from_slice(&number.to_be_bytes());
        OperationId { key: RecordKey::new([1; 16]), attempt: AttemptId::new(attempt) }
    }

    fn request(bytes: usize) -> Request<Bytes> {
        let body = Bytes::from(vec![b'x'; bytes]);
        Request::post("/v1/payments").header("authorization", "canary").body(body).expect("one")
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded_in_number_and_the_oldest_go_first() {
        let spares = Spares::default();
        for number in 0..=SPARES_MAX {
            spares.keep(operation(number), &request(1), HOUR);
        }

        assert!(spares.get(operation(0)).is_none());
        assert!(spares.get(operation(1)).is_some());
        assert!(spares.get(operation(SPARES_MAX)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded_in_bytes() {
        let spares = Spares::default();
        for number in 0..4 {
            spares.keep(operation(number), &request(SPARE_BYTES_MAX / 3), HOUR);
        }
        spares.keep(operation(9), &request(SPARE_BYTES_MAX + 1), HOUR);

        let kept = |number| spares.get(operation(number)).is_some();
        assert_eq!(
            [kept(0), kept(1), kept(2), kept(3), kept(9)],
            [false, false, true, true, false]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_or_too_old_is_not_given_out() {
        let spares = Spares::default();
        spares.keep(operation(1), &request(1), HOUR);
        spares.keep(operation(2), &request(1), HOUR);

        spares.discard(operation(1));
        assert!(spares.get(operation(1)).is_none());
        tokio::time::advance(HOUR).await;
        assert!(spares.get(operation(2)).is_none());
    }

    #[test]
    fn a_spare_shows_nothing_of_its_request() {
        let spares = Spares::default();
        assert_eq!(format!("{spares:?}"), "Spares { kept: 0 }");
    }
}
