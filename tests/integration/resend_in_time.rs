//! Until when a request may be sent again: on a store that takes its time, by a clock that stands.
#![expect(clippy::expect_used, reason = "set-up of tests")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use semel::attempt::{Flights, Resend};
use semel::entropy::SeededEntropy;
use semel::ledger::{Ask, Change, Concluded, Ledger, Secrets, Verdict};
use semel::metrics::Metrics;
use semel::protocol::fingerprint::Fingerprints;
use semel::protocol::id::RecordKey;
use semel::protocol::key::Secret;
use semel::protocol::outcome::{NotSent, OutcomeTable};
use semel::protocol::record::{Doubt, Identity, Terms};
use semel::protocol::seal::Seals;
use semel::reconcile::Reconciler;
use semel::store::faulty::{Fault, FaultyStore, Odds};
use semel::store::memory::MemoryStore;
use semel::task::Tasks;
use semel::upstream::{AnswerBody, AskError, Forwarded, PassError, StreamingBody, Upstream, Wire};
use tokio::time::Instant;

const KEY: RecordKey = RecordKey::new([7; 16]);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const TERMS: Terms = Terms {
    lease: Duration::from_secs(15),
    upstream_timeout: Duration::from_secs(90),
    retention: DAY,
    remember: DAY,
    window: Duration::ZERO,
    bound: Duration::ZERO,
};

/// Sends nothing, and notes until when it might have.
#[derive(Debug, Default)]
struct Until(Mutex<Option<Instant>>);

#[async_trait]
impl Upstream for Until {
    async fn forward(&self, _: Request<Bytes>, wire: &Arc<Wire>) -> Forwarded {
        *self.0.lock().expect("no panic") = Some(wire.until());
        Forwarded::NotSent(NotSent::NotConnected)
    }

    async fn pass(&self, _: Request<StreamingBody>) -> Result<Response<AnswerBody>, PassError> {
        Err(PassError::NotSent)
    }

    async fn ask(
        &self,
        _: Request<Bytes>,
        _: Duration,
        _: usize,
    ) -> Result<Response<Bytes>, AskError> {
        Err(AskError(String::new()))
    }

    fn within(&self, _: &[u8]) -> Result<String, String> {
        Err(String::new())
    }
}

/// Until how long after it is taken up, 10 min after its claim, a request may be sent again; the store
/// takes 10 s to reserve it, and 10 s more to note that it is sent.
async fn until(within: Duration, timeout: Duration) -> Option<Duration> {
    let memory = Arc::new(MemoryStore::default());
    let store = Arc::new(FaultyStore::new(memory, 1, Odds::NONE));
    let secret = Secret::new([1; 32]);
    let (index, fingerprints) = (secret.clone(), vec![secret.clone()]);
    let secrets = Secrets { index, fingerprints, seals: Seals::new(secret, vec![]) };
    let entropy = Arc::new(SeededEntropy::new(1));
    let ledger = Arc::new(Ledger::new(Arc::<FaultyStore>::clone(&store), secrets, entropy));
    ledger.enrol([0; 32], true).await.expect("enrolled");
    let fingerprints = &Fingerprints::new(&ledger.secrets().fingerprints, &[1; 32]);
    let ask = Ask {
        key: KEY,
        identity: Identity::Key,
        key_tag: None,
        business: None,
        content: None,
        fingerprints,
        route: "default",
        terms: TERMS,
        inputs: None,
    };
    let claimed = ledger.claim(&ask).await.expect("claimed");
    assert!(matches!(claimed, Verdict::Claimed(_)));
    tokio::time::advance(300 * SECOND).await;
    let held = ledger.read(KEY).await.expect("read").expect("there");
    let operation = held.operation();
    let silent = Change::Doubt { why: Doubt::OwnerSilent, closed: false };
    assert!(matches!(ledger.conclude(held, silent).await, Concluded::Recorded(_)));
    tokio::time::advance(300 * SECOND).await;

    let (flights, _wishes) = Flights::new();
    let request = Request::post("/v1/payments").body(Bytes::new()).expect("a request");
    flights.spares().keep(operation, &request, DAY);
    let upstream = Arc::new(Until::default());
    let again = Resend {
        upstream: Arc::<Until>::clone(&upstream),
        upstream_name: "payments".to_owned(),
        within,
        conclusive: vec![],
        outcomes: OutcomeTable::default(),
        timeout,
        response_max: 1024,
    };
    let (tasks, metrics) = (Tasks::new(None), Arc::new(Metrics::new().expect("metrics")));
    let reconciler = Reconciler::new(ledger, flights, HashMap::new(), metrics, tasks.clone());
    let resends = HashMap::from([("default".to_owned(), Arc::new(again))]);
    let mut reconciler = reconciler.with_resends(resends);
    let slow = Fault::Hang(10 * SECOND);
    // The agenda is read at once.
    store.script([Fault::None, slow, Fault::None, slow]);
    let before = Instant::now();
    assert_eq!(reconciler.pass().await, 1);
    tasks.drain(DAY, DAY).await;
    let until = *upstream.0.lock().expect("no panic");
    until.map(|until| until - before)
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_again_goes_out_within_the_time_that_everybody_reckons_with() {
    let far = 1000 * SECOND;
    for (within, timeout, expected) in [
        (DAY, far, Some(10 * SECOND + TERMS.upstream_timeout)),
        (DAY, 60 * SECOND, Some(70 * SECOND)),
        (650 * SECOND, far, Some(50 * SECOND)),
        (605 * SECOND, far, None),
    ] {
        assert_eq!(Box::pin(until(within, timeout)).await, expected, "{within:?} {timeout:?}");
    }
}
