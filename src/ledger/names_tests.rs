//! Several names of one operation, in both orders and interleaved at every step.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::*;
use crate::entropy::SeededEntropy;
use crate::protocol::attempt::Claimed;
use crate::protocol::fingerprint::Fingerprints;
use crate::protocol::id::OperationId;
use crate::protocol::outcome::Observation;
use crate::protocol::record::{
    Delivery, Doubt, Identity, Recognised, Release, Reply, SettledBy, Terms,
};
use crate::store::faulty::{Fault, FaultyStore, Odds};
use crate::store::memory::MemoryStore;
use crate::store::{Agenda, Charter, Examination, Fence, Listing, Page, Store};

const BUSINESS: RecordKey = RecordKey::new([9; 16]);
const CONTENT: RecordKey = RecordKey::new([8; 16]);
const MINUTE: Duration = Duration::from_secs(60);
const TERMS: Terms = Terms {
    lease: Duration::from_secs(15),
    upstream_timeout: Duration::from_secs(90),
    retention: Duration::from_secs(86_400),
    remember: Duration::from_secs(86_400),
    window: Duration::ZERO,
    bound: MINUTE,
};

const fn key(number: u8) -> RecordKey {
    RecordKey::new([number; 16])
}

/// A store that does one call for every step that it is given.
#[derive(Debug)]
struct Stepped {
    store: Arc<FaultyStore>,
    steps: Semaphore,
}

impl Stepped {
    async fn step(&self) {
        self.steps.acquire().await.unwrap().forget();
    }
}

#[async_trait::async_trait]
impl Store for Stepped {
    async fn swap(&self, swap: &Swap) -> Result<Swapped, StoreError> {
        self.step().await;
        self.store.swap(swap).await
    }

    async fn swap_and_load(
        &self,
        swap: &Swap,
        beside: RecordKey,
    ) -> Result<(Swapped, Option<Stored>), StoreError> {
        self.step().await;
        self.store.swap_and_load(swap, beside).await
    }

    async fn load(&self, key: RecordKey) -> Result<Option<Stored>, StoreError> {
        self.step().await;
        self.store.load(key).await
    }

    async fn due(&self, limit: usize) -> Result<Agenda, StoreError> {
        self.store.due(limit).await
    }

    async fn list(&self, listing: &Listing) -> Result<Page, StoreError> {
        self.store.list(listing).await
    }

    async fn charter(&self) -> Result<Option<Charter>, StoreError> {
        self.store.charter().await
    }

    async fn found(&self, charter: &Charter) -> Result<(), StoreError> {
        self.store.found(charter).await
    }

    async fn amend(&self, from: Option<&Charter>, to: &Charter) -> Result<(), StoreError> {
        self.store.amend(from, to).await
    }

    fn fence(&self) -> &Fence {
        self.store.fence()
    }

    async fn examine(&self) -> Result<Examination, StoreError> {
        self.store.examine().await
    }
}

/// One process on a store that others use too.
struct Process {
    ledger: Ledger,
    steps: Arc<Stepped>,
}

impl Process {
    async fn on(memory: &MemoryStore, seed: u64) -> Self {
        let faults = FaultyStore::new(Arc::new(MemoryStore::sharing(memory)), seed, Odds::NONE);
        let steps = Semaphore::new(Semaphore::MAX_PERMITS);
        let steps = Arc::new(Stepped { store: Arc::new(faults), steps });
        let secret = Secret::new([1; 32]);
        let secrets = Secrets {
            index: secret.clone(),
            fingerprints: vec![secret.clone()],
            seals: Seals::new(secret, vec![]),
        };
        let entropy = Arc::new(SeededEntropy::new(seed));
        let ledger = Ledger::new(Arc::<Stepped>::clone(&steps), secrets, entropy);
        ledger.enrol([0; 32], true).await.unwrap();
        Self { ledger, steps }
    }

    async fn try_claim(&self, name: Name) -> Result<Verdict, ClaimError> {
        let fingerprints =
            Fingerprints::new(&self.ledger.secrets().fingerprints, &[name.content; 32]);
        let (key, identity) = match name.key {
            Some(number) => (key(number), Identity::Key),
            None => (CONTENT, Identity::Content(CONTENT)),
        };
        let ask = Ask {
            key,
            identity,
            key_tag: None,
            business: name.business.then_some(BUSINESS),
            content: name.key.map(|_| CONTENT),
            fingerprints: &fingerprints,
            route: "default",
            terms: TERMS,
            inputs: None,
        };
        self.ledger.claim(&ask).await
    }

    async fn claim(&self, name: Name) -> Verdict {
        self.try_claim(name).await.unwrap()
    }

    async fn claimed(&self, name: Name) -> Claimed {
        let verdict = self.claim(name).await;
        let Verdict::Claimed(claimed) = verdict else { panic!("not claimed: {verdict:?}") };
        claimed
    }

    async fn settle(&self, claimed: Claimed, status: u16) {
        let held = claimed.send().seen(Observation::TooLarge { status, headers: vec![] }).held;
        self.ledger.conclude(held, settled(status)).await;
    }

    /// What that number's key is: a state, or the number of the key that it leads to.
    async fn at(&self, number: u8) -> String {
        let Some(stored) = self.steps.store.load(key(number)).await.unwrap() else {
            return "absent".to_owned();
        };
        match self.ledger.hold(key(number), &stored, self.ledger.now()).unwrap() {
            Found::Record(held) => held.record.state.name().to_owned(),
            Found::Pointer(_, pointer) => format!("leads to {}", pointer.to.as_bytes()[0]),
        }
    }
}

/// What a request calls its operation.
#[derive(Debug, Clone, Copy)]
struct Name {
    key: Option<u8>,
    content: u8,
    business: bool,
}

const fn order(number: u8) -> Name {
    Name { key: Some(number), content: 1, business: true }
}

const fn keyed(number: u8) -> Name {
    Name { key: Some(number), content: 1, business: false }
}

fn settled(status: u16) -> Change {
    let reply = Reply { status, headers: vec![], body: bytes::Bytes::from_static(b"answer") };
    let reply = Some(Arc::new(reply));
    Change::Settle { by: SettledBy::Answer, status, reply, delivery: Delivery::default() }
}

const fn doubt() -> Change {
    Change::Doubt { why: Doubt::Drained, closed: true }
}

fn is_recognised(verdict: &Verdict, by: Recognised, into: RecordKey) -> bool {
    let Verdict::Recognised(found, verdict) = verdict else { return false };
    let operation = match &**verdict {
        Verdict::Follow(view) => view.operation(),
        Verdict::Doubt(view) => view.operation(),
        Verdict::Settled(view) => view.operation(),
        Verdict::Accepted(view) => view.operation(),
        Verdict::Claimed(_)
        | Verdict::Mismatch(_)
        | Verdict::Bound(_)
        | Verdict::Recognised(..) => return false,
    };
    *found == by && operation.key == into
}

async fn one() -> Process {
    Process::on(&MemoryStore::default(), 1).await
}

#[tokio::test]
async fn a_request_with_a_key_asks_the_store_once_before_it_is_sent() {
    let process = one().await;
    let before = process.steps.steps.available_permits();

    let claimed = process.claimed(keyed(1)).await;

    assert_eq!(before - process.steps.steps.available_permits(), 1);
    process.settle(claimed, 201).await;
    assert_eq!(before - process.steps.steps.available_permits(), 2, "and once before it is told");
}

async fn two() -> (Process, Process) {
    let memory = MemoryStore::default();
    (Process::on(&memory, 1).await, Process::on(&memory, 2).await)
}

/// Lets two claims take turns at the store: `first` bits of `order`, lowest first, say whose it is.
async fn interleave(
    (one, other): (&Process, &Process),
    (first, second): (Name, Name),
    order: u32,
) -> [Result<Verdict, ClaimError>; 2] {
    for process in [one, other] {
        process.steps.steps.forget_permits(Semaphore::MAX_PERMITS);
    }
    let mut claims = [Box::pin(one.try_claim(first)), Box::pin(other.try_claim(second))];
    let mut verdicts = [None, None];
    for turn in 0.. {
        assert!(turn < 400, "order {order:b} never ends");
        // Each turn may do as much as a task of its own.
        tokio::task::yield_now().await;
        let whose = if turn < 32 { usize::from(order >> turn & 1 == 1) } else { turn % 2 };
        if verdicts[whose].is_none() {
            [one, other][whose].steps.steps.add_permits(1);
            for _ in 0..3 {
                let polled = std::future::poll_fn(|context| {
                    Poll::Ready(claims[whose].as_mut().poll(context))
                });
                if let Poll::Ready(verdict) = polled.await {
                    verdicts[whose] = Some(verdict);
                    break;
                }
            }
        }
        if let [Some(_), Some(_)] = verdicts {
            break;
        }
    }
    drop(claims);
    for process in [one, other] {
        process.steps.steps.add_permits(Semaphore::MAX_PERMITS / 2);
    }
    verdicts.map(|verdict| verdict.unwrap())
}

#[tokio::test(start_paused = true)]
async fn two_keys_of_one_order_are_one_operation_in_every_order_of_their_steps() {
    for order_of_steps in 0..1 << 10 {
        let (one, other) = two().await;
        let verdicts = interleave((&one, &other), (order(1), order(2)), order_of_steps).await;

        let claimed =
            |verdict: &&Result<Verdict, ClaimError>| matches!(verdict, Ok(Verdict::Claimed(_)));
        let won = verdicts.iter().filter(claimed).count();
        let names = (one.at(1).await, one.at(2).await);
        assert_eq!(won, 1, "{order_of_steps:b}: {verdicts:?}, {names:?}");
        let led = names.0 == "leads to 2" || names.1 == "leads to 1";
        assert!(led, "{order_of_steps:b}: {verdicts:?}, {names:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_claimed_again_and_another_one_are_one_operation_in_every_order() {
    for order_of_steps in 0..1 << 10 {
        let (one, other) = two().await;
        let before = one.claimed(order(1)).await;
        one.ledger.take_back(before.forgo(), Release::NotApplied).await;
        let verdicts = interleave((&one, &other), (order(1), order(2)), order_of_steps).await;

        let claimed =
            |verdict: &&Result<Verdict, ClaimError>| matches!(verdict, Ok(Verdict::Claimed(_)));
        assert_eq!(verdicts.iter().filter(claimed).count(), 1, "{order_of_steps:b}: {verdicts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn retries_of_an_orphan_under_two_keys_never_lead_in_a_circle() {
    for order_of_steps in 0..1 << 10 {
        let (one, other) = two().await;
        let first = one.claimed(keyed(3)).await;
        leave(&one, &first).await;
        let verdicts = interleave((&one, &other), (keyed(1), keyed(2)), order_of_steps).await;

        for verdict in &verdicts {
            let verdict = verdict.as_ref().unwrap();
            assert!(is_recognised(verdict, Recognised::Orphan, key(3)), "{verdict:?}");
        }
        assert_eq!((one.at(1).await, one.at(2).await), ("leads to 3".into(), "leads to 3".into()));
        drop(first);
    }
}

/// Notes that its caller has left unanswered.
async fn leave(process: &Process, claimed: &Claimed) {
    let now = Some(crate::protocol::record::Ago::NOW);
    let left = Delivery { left: now, answered: None, completed: None };
    let operation = claimed.held().operation();
    process.ledger.note_delivery(operation, left).await.unwrap();
    process.ledger.note_orphan(CONTENT, operation).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_bound_business_key_leads_another_key_to_its_operation_for_good() {
    let process = one().await;
    let first = process.claimed(order(1)).await;

    let followed = process.claim(order(2)).await;
    assert!(is_recognised(&followed, Recognised::BusinessKey, key(1)), "{followed:?}");
    process.settle(first, 201).await;
    // However long ago it was bound: the key was told of this operation.
    tokio::time::advance(MINUTE * 2).await;

    assert!(matches!(process.claim(order(2)).await, Verdict::Settled(_)));
    let other = Name { content: 2, ..order(2) };
    assert!(matches!(process.claim(other).await, Verdict::Mismatch(_)));
    assert!(matches!(process.claim(order(3)).await, Verdict::Claimed(_)));
}

#[tokio::test(start_paused = true)]
async fn other_content_under_a_bound_business_key_is_refused_and_changes_nothing() {
    let process = one().await;
    let first = process.claimed(order(1)).await;
    let before = process.steps.store.load(key(1)).await.unwrap().unwrap().token;
    let pointer = process.steps.store.load(BUSINESS).await.unwrap().unwrap().token;

    let other = Name { content: 2, ..order(2) };
    assert!(matches!(process.claim(other).await, Verdict::Bound(_)));

    assert_eq!(process.at(2).await, "released");
    assert_eq!(process.steps.store.load(key(1)).await.unwrap().unwrap().token, before);
    assert_eq!(process.steps.store.load(BUSINESS).await.unwrap().unwrap().token, pointer);
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn a_declined_payment_frees_its_business_key_and_a_doubt_never_does() {
    let process = one().await;
    let declined = process.claimed(order(1)).await;
    process.settle(declined, 402).await;
    let other_card = Name { content: 2, ..order(2) };
    let second = process.claimed(other_card).await;
    let held = second.send().seen(Observation::TooLarge { status: 200, headers: vec![] }).held;
    process.ledger.conclude(held, doubt()).await;

    tokio::time::advance(TERMS.retention * 10).await;

    assert!(matches!(process.claim(order(3)).await, Verdict::Bound(_)));
    let same = process.claim(Name { content: 2, ..order(4) }).await;
    assert!(is_recognised(&same, Recognised::BusinessKey, key(2)), "{same:?}");
}

#[tokio::test(start_paused = true)]
async fn what_succeeded_is_bound_for_its_window_and_then_bought_again() {
    let process = one().await;
    let first = process.claimed(order(1)).await;
    process.settle(first, 201).await;
    tokio::time::advance(MINUTE - Duration::from_secs(1)).await;
    assert!(matches!(process.claim(Name { content: 2, ..order(2) }).await, Verdict::Bound(_)));

    tokio::time::advance(Duration::from_secs(2)).await;

    assert!(matches!(process.claim(order(3)).await, Verdict::Claimed(_)));
    assert!(matches!(process.claim(order(1)).await, Verdict::Settled(_)));
}

#[tokio::test(start_paused = true)]
async fn a_further_key_claims_the_record_that_it_leads_to_and_binds_it_anew() {
    let process = one().await;
    let first = process.claimed(order(1)).await;
    assert!(is_recognised(&process.claim(order(2)).await, Recognised::BusinessKey, key(1)));
    process.ledger.take_back(first.forgo(), Release::NotApplied).await;
    let before = process.steps.store.load(key(2)).await.unwrap().unwrap().token;
    let pointer = process.steps.store.load(BUSINESS).await.unwrap().unwrap().token;

    let again = process.claimed(order(2)).await;

    assert_eq!(again.held().key, key(1));
    assert_ne!(process.steps.store.load(key(2)).await.unwrap().unwrap().token, before);
    assert_ne!(process.steps.store.load(BUSINESS).await.unwrap().unwrap().token, pointer);
    assert!(matches!(process.claim(order(1)).await, Verdict::Follow(_)));
    drop(again);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_key_finds_what_its_business_key_is_bound_to() {
    let process = one().await;
    let first = process.claimed(order(1)).await;
    let keyless = Name { key: None, ..order(0) };

    let followed = process.claim(keyless).await;
    assert!(is_recognised(&followed, Recognised::BusinessKey, key(1)), "{followed:?}");
    process.settle(first, 201).await;

    // Content leads to its record, and that one leads to this one.
    assert!(matches!(process.claim(keyless).await, Verdict::Settled(_)));
}

#[tokio::test(start_paused = true)]
async fn an_orphans_content_is_recognised_under_another_key_until_somebody_was_answered() {
    let process = one().await;
    let first = process.claimed(keyed(1)).await;
    let operation = first.held().operation();
    leave(&process, &first).await;
    process.settle(first, 201).await;

    for number in 2..6 {
        let verdict = process.claim(keyed(number)).await;
        assert!(is_recognised(&verdict, Recognised::Orphan, key(1)), "{verdict:?}");
    }
    let other = Name { content: 2, ..keyed(6) };
    assert!(matches!(process.claim(other).await, Verdict::Claimed(_)));
    let keyless = Name { key: None, ..keyed(0) };
    assert!(matches!(process.claim(keyless).await, Verdict::Settled(_)));
    tokio::time::advance(Duration::from_secs(1)).await;
    let now = Some(crate::protocol::record::Ago::NOW);
    let whole = Delivery { left: None, answered: now, completed: now };
    process.ledger.note_answered(operation, whole).await.unwrap();

    assert!(matches!(process.claim(keyed(7)).await, Verdict::Claimed(_)));
    assert!(matches!(process.claim(keyed(2)).await, Verdict::Settled(_)));
}

#[tokio::test(start_paused = true)]
async fn an_orphan_is_not_looked_for_for_ever_and_not_once_it_was_released() {
    let process = one().await;
    let first = process.claimed(keyed(1)).await;
    leave(&process, &first).await;
    let held = first.send().seen(Observation::TooLarge { status: 200, headers: vec![] }).held;
    process.ledger.conclude(held, doubt()).await;
    tokio::time::advance(Duration::from_secs(601)).await;
    let second = process.claimed(keyed(2)).await;

    leave(&process, &second).await;
    process.ledger.take_back(second.forgo(), Release::NotSent).await;

    assert!(matches!(process.claim(keyed(3)).await, Verdict::Claimed(_)));
}

#[tokio::test(start_paused = true)]
async fn a_payment_that_goes_well_costs_no_write_for_its_content() {
    let process = one().await;
    let first = process.claimed(keyed(1)).await;
    let operation = first.held().operation();
    process.settle(first, 201).await;
    let before = process.steps.store.load(key(1)).await.unwrap().unwrap().token;

    let now = Some(crate::protocol::record::Ago::NOW);
    let whole = Delivery { left: None, answered: now, completed: now };
    process.ledger.note_answered(operation, whole).await.unwrap();

    assert_eq!(process.steps.store.load(key(1)).await.unwrap().unwrap().token, before);
    assert!(process.steps.store.load(CONTENT).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_business_key_is_not_confirmed_permits_nothing() {
    for faults in [&[Fault::NotApplied][..], &[Fault::Applied; 3]] {
        let process = one().await;
        // The claim goes well; then comes the business key.
        process.steps.store.script([Fault::None].iter().chain(faults).copied());

        let Err(ClaimError::Unconfirmed(_, unproven)) = process.try_claim(order(1)).await else {
            panic!("nothing was confirmed")
        };
        process.ledger.take_back(unproven.forgo(), Release::TakenBack).await;

        assert!(matches!(process.claim(order(2)).await, Verdict::Claimed(_)));
        assert!(is_recognised(&process.claim(order(1)).await, Recognised::BusinessKey, key(2)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_became_a_pointer_unconfirmed_is_not_taken_back_for_ever() {
    let process = one().await;
    let _first = process.claimed(order(1)).await;
    let lost = Fault::Applied;
    // Claim, business pointer, its record, joined; then the turn, whose answers are lost.
    let well = [Fault::None; 4];
    process.steps.store.script(well.into_iter().chain([lost, lost, lost]));

    let claimed = process.try_claim(order(2)).await;
    let Err(ClaimError::Forbidden(_, unspent)) = claimed else {
        panic!("another operation, which no route may send: {claimed:?}")
    };
    let concluded = process.ledger.take_back(*unspent, Release::TakenBack).await;

    assert!(matches!(concluded, Concluded::Overtaken(_)), "{concluded:?}");
    assert_eq!(process.at(2).await, "leads to 1");
}

#[tokio::test(start_paused = true)]
async fn what_is_recognised_as_another_operation_may_not_be_sent_on_trust() {
    // Claim, business pointer, its record: then the store fails, over what comes of it.
    for other in [order(2), Name { content: 2, ..order(2) }] {
        let process = one().await;
        let _first = process.claimed(order(1)).await;
        let gone = [Fault::NotApplied; 8];
        process.steps.store.script([Fault::None; 3].into_iter().chain(gone));

        let claimed = process.try_claim(other).await;

        assert!(matches!(claimed, Err(ClaimError::Forbidden(..))), "{other:?}: {claimed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_claim_is_never_told_what_its_key_came_to_stand_for() {
    let process = one().await;
    let other = process.claimed(order(1)).await;
    let taken_back = process.claimed(Name { content: 2, ..keyed(2) }).await;
    let waited_for = taken_back.held().operation();
    process.ledger.take_back(taken_back.forgo(), Release::TakenBack).await;
    // Its key comes with the content of the first.
    assert!(is_recognised(&process.claim(order(2)).await, Recognised::BusinessKey, key(1)));
    assert_eq!(process.at(2).await, "leads to 1");

    let told = process.ledger.look(waited_for).await.unwrap();

    assert!(matches!(told, Some(View::Released(_))), "{told:?}");
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_claim_is_told_what_it_was_recognised_as() {
    let process = one().await;
    let first = process.claimed(order(1)).await.held().operation();
    process.claim(order(2)).await;
    // The claim that is a pointer now wrote that itself.
    let stored = process.steps.store.load(key(2)).await.unwrap().unwrap();
    let waited_for = OperationId { key: key(2), attempt: stored.token.attempt };

    let told = process.ledger.look(waited_for).await.unwrap();

    assert!(matches!(told, Some(View::InFlight(view)) if view.operation() == first));
}

#[tokio::test(start_paused = true)]
async fn a_further_key_is_kept_as_long_as_its_record() {
    let process = one().await;
    let first = process.claimed(order(1)).await;
    process.claim(order(2)).await;
    process.settle(first, 201).await;
    let review = async |process: &Process| {
        let stored = process.steps.store.load(key(2)).await.unwrap().unwrap();
        let found = process.ledger.hold(key(2), &stored, process.ledger.now()).unwrap();
        let Found::Pointer(token, pointer) = found else { panic!("a record") };
        process.ledger.review_pointer(key(2), token, pointer).await.unwrap();
    };
    tokio::time::advance(TERMS.retention + TERMS.remember + MINUTE).await;

    review(&process).await;
    assert_eq!(process.at(2).await, "leads to 1");
    let held = process.ledger.read(key(1)).await.unwrap().unwrap();
    process.ledger.purge(held).await.unwrap();
    review(&process).await;

    assert_eq!(process.at(2).await, "absent");
}
