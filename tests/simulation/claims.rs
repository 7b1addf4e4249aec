//! Claims that the store does not confirm, one by one: what worlds reach only now and then.

use std::sync::Arc;
use std::time::Duration;

use semel::entropy::SeededEntropy;
use semel::ledger::{Ask, ClaimError, Concluded, Ledger, Verdict};
use semel::protocol::fingerprint::Fingerprints;
use semel::protocol::id::RecordKey;
use semel::protocol::record::{Identity, Release, State, Terms};
use semel::store::faulty::{Fault, FaultyStore, Odds};
use semel::store::memory::MemoryStore;
use tokio::time::sleep;

use crate::process::Setup;

const SETUP: Setup = Setup { rules: 1, rotation: 0 };
const KEY: RecordKey = RecordKey::new([7; 16]);
const LEASE: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

async fn ledger(store: &MemoryStore, seed: u64, faults: &[Fault]) -> (Ledger, Arc<FaultyStore>) {
    let faulty = FaultyStore::new(Arc::new(MemoryStore::sharing(store)), seed, Odds::NONE);
    let faulty = Arc::new(faulty);
    let entropy = Arc::new(SeededEntropy::new(seed));
    let ledger = Ledger::new(Arc::clone(&faulty) as _, SETUP.secrets(), entropy);
    ledger.enrol(SETUP.rules(), true).await.unwrap();
    faulty.script(faults.iter().copied());
    (ledger, faulty)
}

async fn claim(ledger: &Ledger) -> Result<Verdict, ClaimError> {
    let terms = Terms {
        lease: LEASE,
        upstream_timeout: LEASE * 30,
        retention: DAY,
        remember: DAY,
        window: Duration::ZERO,
        bound: Duration::ZERO,
    };
    let fingerprints = Fingerprints::new(&ledger.secrets().fingerprints, &[1; 32]);
    let ask = Ask {
        key: KEY,
        identity: Identity::Key,
        key_tag: None,
        business: None,
        content: None,
        fingerprints: &fingerprints,
        route: "payments",
        terms,
        inputs: None,
    };
    ledger.claim(&ask).await
}

/// Takes an unconfirmed claim back, and says whether that is on record.
async fn take_back(ledger: &Ledger, claimed: Result<Verdict, ClaimError>) -> Concluded {
    let unspent = match claimed {
        Err(ClaimError::Unconfirmed(_, unproven)) => unproven.forgo(),
        Err(ClaimError::Forbidden(_, unspent)) => *unspent,
        claimed @ (Ok(_)
        | Err(ClaimError::Read(_) | ClaimError::Contended | ClaimError::Saturated)) => {
            panic!("expected an unconfirmed claim: {claimed:?}")
        }
    };
    ledger.take_back(unspent, Release::TakenBack).await
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_others_doubted_before_it_was_confirmed_is_taken_back() {
    let store = MemoryStore::default();
    let (first, _) = ledger(&store, 1, &[Fault::Applied, Fault::Hang(LEASE * 3)]).await;
    let (second, _) = ledger(&store, 2, &[]).await;

    let (claimed, doubted) = tokio::join!(claim(&first), async {
        sleep(LEASE * 2).await;
        claim(&second).await
    });
    assert!(matches!(doubted, Ok(Verdict::Doubt(_))), "{doubted:?}");
    let concluded = take_back(&first, claimed).await;

    assert!(matches!(concluded, Concluded::Recorded(_)), "{concluded:?}");
    assert!(matches!(claim(&second).await, Ok(Verdict::Claimed(_))));
}

#[tokio::test(start_paused = true)]
async fn a_claim_on_a_released_key_does_not_arrive_after_it_was_taken_back() {
    let store = MemoryStore::default();
    let (first, _) = ledger(&store, 1, &[]).await;
    let Ok(Verdict::Claimed(claimed)) = claim(&first).await else { panic!("not claimed") };
    let _ = first.take_back(claimed.forgo(), Release::TakenBack).await;
    let late = [Fault::None, Fault::Late(DAY), Fault::NotApplied];
    let (second, network) = ledger(&store, 2, &late).await;

    let claimed = claim(&second).await;
    let _ = take_back(&second, claimed).await;
    sleep(DAY).await;
    network.arrive().await;

    let held = first.read(KEY).await.unwrap().unwrap();
    assert!(matches!(held.record.state, State::Released { .. }), "{:?}", held.record.state);
}
