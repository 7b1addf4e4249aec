//! The protocol on a store that fails in every way a store can fail.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::entropy::SeededEntropy;
use crate::protocol::attempt::Claimed;
use crate::protocol::fingerprint::Fingerprints;
use crate::protocol::id::OperationId;
use crate::protocol::key::Secret;
use crate::protocol::outcome::UnknownReason;
use crate::protocol::record::{Ago, Delivery, Doubt, Identity, Release, Reply, SettledBy, Terms};
use crate::store::Store as _;
use crate::store::faulty::{Fault, FaultyStore, Odds};
use crate::store::memory::MemoryStore;

mod recall;
mod resent;

const KEY: RecordKey = RecordKey::new([7; 16]);
const POINTER: RecordKey = RecordKey::new([8; 16]);
const LEASE: Duration = Duration::from_secs(15);
const TERMS: Terms = Terms {
    lease: LEASE,
    upstream_timeout: Duration::from_secs(90),
    retention: Duration::from_secs(86_400),
    remember: Duration::from_secs(7 * 86_400),
    window: Duration::ZERO,
    bound: Duration::ZERO,
};

struct World {
    memory: Arc<MemoryStore>,
    faults: Arc<FaultyStore>,
    ledger: Ledger,
}

impl World {
    async fn new() -> Self {
        let memory = Arc::new(MemoryStore::default());
        let faults = Arc::new(FaultyStore::new(Arc::<MemoryStore>::clone(&memory), 1, Odds::NONE));
        let secret = Secret::new([1; 32]);
        let secrets = Secrets {
            index: secret.clone(),
            fingerprints: vec![secret.clone()],
            seals: Seals::new(secret, vec![]),
        };
        let entropy = Arc::new(SeededEntropy::new(1));
        let ledger = Ledger::new(Arc::<FaultyStore>::clone(&faults), secrets, entropy);
        ledger.enrol([0; 32], true).await.unwrap();
        Self { memory, faults, ledger }
    }

    fn fingerprints(&self, content: u8) -> Fingerprints {
        Fingerprints::new(&self.ledger.secrets().fingerprints, &[content; 32])
    }

    async fn try_claim(&self, content: u8) -> Result<Verdict, ClaimError> {
        let fingerprints = self.fingerprints(content);
        self.ledger.claim(&ask(KEY, Identity::Key, &fingerprints)).await
    }

    async fn claim(&self) -> Verdict {
        self.try_claim(1).await.unwrap()
    }

    async fn claimed(&self) -> Claimed {
        let verdict = self.claim().await;
        let Verdict::Claimed(claimed) = verdict else { panic!("not claimed: {verdict:?}") };
        claimed
    }

    async fn by_content(&self) -> Verdict {
        let fingerprints = self.fingerprints(1);
        let ask = ask(POINTER, Identity::Content(POINTER), &fingerprints);
        self.ledger.claim(&ask).await.unwrap()
    }

    async fn found(&self, name: RecordKey) -> Option<OperationId> {
        self.ledger.find(name).await.unwrap().map(|held| held.operation())
    }

    async fn state(&self) -> &'static str {
        match self.ledger.read(KEY).await.unwrap() {
            Some(held) => held.record.state.name(),
            None => "absent",
        }
    }
}

const fn ask<'a>(key: RecordKey, identity: Identity, fingerprints: &'a Fingerprints) -> Ask<'a> {
    Ask {
        key,
        identity,
        key_tag: None,
        business: None,
        content: None,
        fingerprints,
        route: "default",
        terms: TERMS,
        inputs: None,
    }
}

fn paid() -> Change {
    let reply = Reply { status: 201, headers: vec![], body: bytes::Bytes::from_static(b"paid") };
    let (status, reply) = (201, Some(Arc::new(reply)));
    Change::Settle { by: SettledBy::Answer, status, reply, delivery: Delivery::default() }
}

const fn doubt() -> Change {
    Change::Doubt { why: Doubt::Unknown(UnknownReason::TimedOut), closed: true }
}

/// The owner's hand, its right to send spent.
fn sent(claimed: Claimed) -> Held {
    claimed
        .send()
        .seen(crate::protocol::outcome::Observation::TooLarge { status: 200, headers: vec![] })
        .held
}

#[tokio::test(start_paused = true)]
async fn the_second_of_two_claims_follows_the_first() {
    let world = World::new().await;
    let _owner = world.claimed().await;

    assert!(matches!(world.claim().await, Verdict::Follow(_)));
    assert!(matches!(world.try_claim(2).await, Ok(Verdict::Mismatch(_))));
}

#[tokio::test(start_paused = true)]
async fn an_expired_lease_is_a_doubt_and_never_a_free_key() {
    let world = World::new().await;
    let owner = world.claimed().await;

    tokio::time::advance(LEASE + Duration::from_millis(1)).await;

    assert!(matches!(world.claim().await, Verdict::Doubt(_)));
    // Its owner was only paused: its late answer settles the doubt.
    let concluded = world.ledger.conclude(sent(owner), paid()).await;
    assert!(matches!(concluded, Concluded::Recorded(View::Settled(_))));
    assert!(matches!(world.claim().await, Verdict::Settled(settled) if settled.status() == 201));
}

#[tokio::test(start_paused = true)]
async fn a_renewed_lease_holds() {
    let world = World::new().await;
    let mut held = sent(world.claimed().await);

    tokio::time::advance(LEASE / 2).await;
    assert_eq!(world.ledger.renew(&mut held).await, Ok(Renewed::Yes));
    tokio::time::advance(LEASE * 3 / 4).await;

    assert!(matches!(world.claim().await, Verdict::Follow(_)));
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_was_applied_but_not_confirmed_is_confirmed_by_asking_again() {
    let world = World::new().await;
    world.faults.script([Fault::Applied]);

    let claimed = world.claimed().await;

    assert_eq!(claimed.held().record.attempt, claimed.held().writer);
    assert_eq!(world.state().await, "in-flight");
    drop(claimed);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_stays_unconfirmed_is_taken_back_even_if_it_arrives_late() {
    let world = World::new().await;
    let late = Duration::from_secs(1);
    world.faults.script([Fault::Late(late), Fault::Late(late), Fault::Late(late)]);

    let Err(ClaimError::Unconfirmed(_, unproven)) = world.try_claim(1).await else {
        panic!("nothing was confirmed")
    };
    let taken_back = world.ledger.take_back(unproven.forgo(), Release::TakenBack).await;
    tokio::time::advance(late * 2).await;
    world.faults.arrive().await;

    assert!(matches!(taken_back, Concluded::Recorded(View::Released(_))));
    assert_eq!(world.state().await, "released");
}

#[tokio::test(start_paused = true)]
async fn an_unconfirmed_claim_on_a_released_key_cannot_arrive_after_it_was_taken_back() {
    let world = World::new().await;
    let first = world.claimed().await;
    world.ledger.take_back(first.forgo(), Release::TakenBack).await;
    let late = Duration::from_secs(1);
    // The first swap finds the released record; those that are to replace it are late.
    world.faults.script([Fault::None, Fault::Late(late), Fault::Late(late), Fault::Late(late)]);

    let Err(ClaimError::Unconfirmed(_, unproven)) = world.try_claim(1).await else {
        panic!("nothing was confirmed")
    };
    world.ledger.take_back(unproven.forgo(), Release::TakenBack).await;
    tokio::time::advance(late * 2).await;
    world.faults.arrive().await;

    assert_eq!(world.state().await, "released");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_store_cannot_take_is_told_as_unrecorded_and_recorded_later() {
    let world = World::new().await;
    let held = sent(world.claimed().await);
    world.faults.script([Fault::NotApplied]);

    let Concluded::NotYet(View::Settled(told), pending) = world.ledger.conclude(held, paid()).await
    else {
        panic!("the store failed")
    };
    assert!(!told.recorded());
    assert_eq!(world.state().await, "in-flight");

    let Concluded::Recorded(View::Settled(told)) = world.ledger.retry(pending).await else {
        panic!("the store is back")
    };
    assert!(told.recorded());
    assert_eq!(world.state().await, "settled");
}

#[tokio::test(start_paused = true)]
async fn a_settled_outcome_never_changes() {
    let world = World::new().await;
    let held = sent(world.claimed().await);
    let operator = world.ledger.read(KEY).await.unwrap().unwrap();
    world.ledger.conclude(held, paid()).await;

    let overtaken = world.ledger.conclude(operator, doubt()).await;

    assert!(matches!(overtaken, Concluded::Overtaken(View::Settled(_))));
    assert_eq!(world.state().await, "settled");
}

#[tokio::test(start_paused = true)]
async fn only_a_released_key_is_claimed_anew() {
    let world = World::new().await;
    let held = sent(world.claimed().await);
    world.ledger.conclude(held, doubt()).await;
    assert!(matches!(world.claim().await, Verdict::Doubt(_)));

    let operator = world.ledger.read(KEY).await.unwrap().unwrap();
    let reopen = Change::Release { why: Release::Operator, reply: None };
    world.ledger.conclude(operator, reopen).await;

    assert!(matches!(world.claim().await, Verdict::Claimed(_)));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_restored_is_refused_until_it_is_accepted() {
    let world = World::new().await;
    let before = world.memory.snapshot();
    let _owner = world.claimed().await;
    world.memory.restore(before);

    assert!(world.try_claim(1).await.is_err());

    world.ledger.accept([0; 32]).await.unwrap();
    assert!(matches!(world.claim().await, Verdict::Claimed(_)));
}

#[tokio::test(start_paused = true)]
async fn an_owner_puts_back_a_record_that_the_store_has_lost() {
    let world = World::new().await;
    let before = world.memory.snapshot();
    let held = sent(world.claimed().await);
    world.memory.restore(before);
    world.ledger.accept([0; 32]).await.unwrap();

    let concluded = world.ledger.conclude(held, paid()).await;

    assert!(matches!(concluded, Concluded::Recorded(View::Settled(_))));
    assert!(matches!(world.claim().await, Verdict::Settled(_)));
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_record_is_an_error_and_never_absent() {
    let world = World::new().await;
    let token = Token::first(AttemptId::new([3; 16]));
    let write = Write::Put { bytes: vec![99, 1, 2].into(), due: None, tag: Tag::NONE };
    let swap = Swap { key: KEY, expected: None, token, write, purpose: Purpose::Record };
    world.faults.swap(&swap).await.unwrap();

    let claimed = world.try_claim(1).await;

    assert!(matches!(claimed, Err(ClaimError::Read(ReadError::Unreadable(_)))));
}

#[tokio::test(start_paused = true)]
async fn identical_content_is_one_operation_until_its_answer_was_delivered() {
    let world = World::new().await;
    let Verdict::Claimed(first) = world.by_content().await else { panic!("not claimed") };
    assert!(matches!(world.by_content().await, Verdict::Follow(_)));
    let operation = first.held().operation();
    world.ledger.conclude(sent(first), paid()).await;
    assert!(matches!(world.by_content().await, Verdict::Settled(_)));

    let now = Some(Ago::NOW);
    let whole = Delivery { left: None, answered: now, completed: now };
    world.ledger.note_delivery(operation, whole).await.unwrap();

    let Verdict::Claimed(second) = world.by_content().await else { panic!("not a new one") };
    assert_ne!(second.held().key, operation.key);
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_came_later_and_left_keeps_identical_content_one_operation() {
    let world = World::new().await;
    let Verdict::Claimed(first) = world.by_content().await else { panic!("not claimed") };
    let operation = first.held().operation();
    world.ledger.conclude(sent(first), paid()).await;
    let ago = |seconds| Some(Ago::new(Duration::from_secs(seconds)));
    let earlier = Delivery { left: None, answered: ago(10), completed: Some(Ago::NOW) };
    let later = Delivery { left: ago(5), answered: None, completed: None };

    world.ledger.note_delivery(operation, later).await.unwrap();
    world.ledger.note_delivery(operation, earlier).await.unwrap();

    assert!(matches!(world.by_content().await, Verdict::Settled(_)));
}

#[tokio::test(start_paused = true)]
async fn a_pointer_to_an_absent_record_leads_to_that_very_record() {
    let world = World::new().await;
    // The pointer is written, and the claim behind it fails.
    world.faults.script([Fault::None, Fault::NotApplied]);
    let fingerprints = world.fingerprints(1);
    let ask = ask(POINTER, Identity::Content(POINTER), &fingerprints);
    assert!(world.ledger.claim(&ask).await.is_err());
    let stored = world.faults.load(POINTER).await.unwrap().unwrap();
    let Found::Pointer(_, pointer) = world.ledger.hold(POINTER, &stored, Duration::ZERO).unwrap()
    else {
        panic!("a pointer was written")
    };

    let (one, two) = (world.by_content().await, world.by_content().await);

    let Verdict::Claimed(one) = one else { panic!("not claimed: {one:?}") };
    assert_eq!(one.held().key, pointer.to);
    assert!(matches!(two, Verdict::Follow(two) if two.operation() == one.held().operation()));
}

#[tokio::test(start_paused = true)]
async fn who_finds_a_pointer_to_a_record_that_may_be_claimed_writes_it_anew() {
    let world = World::new().await;
    let Verdict::Claimed(first) = world.by_content().await else { panic!("not claimed") };
    let key = first.held().key;
    world.ledger.take_back(first.forgo(), Release::NotSent).await;
    let before = world.faults.load(POINTER).await.unwrap().unwrap().token;

    let Verdict::Claimed(second) = world.by_content().await else { panic!("not claimed") };

    assert_eq!(second.held().key, key);
    assert_ne!(world.faults.load(POINTER).await.unwrap().unwrap().token, before);
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn a_name_leads_to_its_record_over_a_pointer_or_to_nothing() {
    let world = World::new().await;
    assert_eq!(world.found(POINTER).await, None);
    let Verdict::Claimed(by_content) = world.by_content().await else { panic!("not claimed") };
    let by_key = world.claimed().await;

    assert_eq!(world.found(POINTER).await, Some(by_content.held().operation()));
    assert_eq!(world.found(KEY).await, Some(by_key.held().operation()));
}

#[tokio::test(start_paused = true)]
async fn a_store_clock_that_steps_forward_ends_nobodys_right_to_send() {
    let world = World::new().await;
    let _owner = world.claimed().await;
    tokio::time::advance(Duration::from_secs(1)).await;
    world.memory.put_clock_forward(Duration::from_secs(3000));
    let held = world.ledger.read(KEY).await.unwrap().unwrap();
    assert!(held.record.claimed.age() > TERMS.upstream_timeout);

    let early = world.ledger.is_spent(&held);
    tokio::time::advance(TERMS.upstream_timeout - LEASE).await;
    let held = world.ledger.read(KEY).await.unwrap().unwrap();
    let still = world.ledger.is_spent(&held);
    tokio::time::advance(LEASE + Duration::from_secs(1)).await;
    let held = world.ledger.read(KEY).await.unwrap().unwrap();

    let of = TERMS.upstream_timeout;
    assert_eq!(early, Err(MaySend::For { left: of, watched: Duration::ZERO, of }));
    assert_eq!(still, Err(MaySend::For { left: LEASE, watched: of - LEASE, of }));
    assert_eq!(world.ledger.is_spent(&held), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn absences_count_from_the_mark_on_and_any_other_finding_starts_anew() {
    use crate::protocol::record::Looked;
    let world = World::new().await;
    let _owner = sent(world.claimed().await);
    tokio::time::advance(LEASE * 2).await;
    let _ = world.claim().await;
    let look = async |finding| {
        let held = world.ledger.read(KEY).await.unwrap().unwrap();
        let concluded = world.ledger.conclude(held, Change::Looked(finding)).await;
        assert!(matches!(concluded, Concluded::Recorded(_)));
        let held = world.ledger.read(KEY).await.unwrap().unwrap();
        let State::InDoubt { absent, .. } = held.record.state else { panic!("not in doubt") };
        absent
    };
    assert_eq!([look(Looked::Absent).await, look(Looked::Absent).await], [0, 0]);

    let mut marked = world.ledger.read(KEY).await.unwrap().unwrap();
    let State::InDoubt { closed, .. } = &mut marked.record.state else { panic!("not in doubt") };
    *closed = Some(Ago::NOW);
    let _ = world.ledger.conclude(marked, Change::Looked(Looked::Failed)).await;

    let mut counts = vec![];
    for finding in [Looked::Absent, Looked::Absent, Looked::Failed, Looked::Absent] {
        counts.push(look(finding).await);
    }
    assert_eq!(counts, [1, 2, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn what_a_look_up_found_accepted_its_owner_does_not_doubt_again() {
    let world = World::new().await;
    let owner = sent(world.claimed().await);
    tokio::time::advance(LEASE * 2).await;
    let _ = world.claim().await;
    let found = world.ledger.read(KEY).await.unwrap().unwrap();
    let _ = world.ledger.conclude(found, Change::Accept { reply: None }).await;

    let told = world.ledger.conclude(owner, doubt()).await;
    assert!(matches!(told, Concluded::Recorded(View::Accepted(_))), "{told:?}");

    let held = world.ledger.read(KEY).await.unwrap().unwrap();
    let lost = Change::Doubt { why: Doubt::TrackLost, closed: false };
    let told = world.ledger.conclude(held, lost).await;
    assert!(matches!(told, Concluded::Recorded(View::InDoubt(_))), "{told:?}");
    let held = world.ledger.read(KEY).await.unwrap().unwrap();
    assert!(matches!(held.record.state, State::InDoubt { closed: None, absent: 0, .. }));
}

#[tokio::test(start_paused = true)]
async fn what_was_accepted_is_due_when_the_provider_said() {
    let world = World::new().await;
    let owner = sent(world.claimed().await);
    let headers = vec![("retry-after".to_owned(), b"40".to_vec())];
    let reply = Reply { status: 202, headers, body: bytes::Bytes::new() };
    let _ = world.ledger.conclude(owner, Change::Accept { reply: Some(Arc::new(reply)) }).await;

    tokio::time::advance(Duration::from_secs(39)).await;
    assert!(world.ledger.store().due(9).await.unwrap().due.is_empty());
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(world.ledger.store().due(9).await.unwrap().due.len(), 1);
}

#[tokio::test]
async fn on_a_store_that_one_process_has_its_successor_sets_the_mark() {
    use crate::protocol::record::Looked;
    use crate::store::embedded::{EmbeddedStore, Settings};
    let folder = tempfile::tempdir().unwrap();
    let store: SharedStore = Arc::new(EmbeddedStore::open(&Settings::at(folder.path())).unwrap());
    let ledger = async |seed| {
        let secret = Secret::new([1; 32]);
        let (index, fingerprints) = (secret.clone(), vec![secret.clone()]);
        let secrets = Secrets { index, fingerprints, seals: Seals::new(secret, vec![]) };
        let ledger = Ledger::new(Arc::clone(&store), secrets, Arc::new(SeededEntropy::new(seed)));
        ledger.enrol([0; 32], true).await.unwrap();
        ledger
    };
    let (earlier, later) = (ledger(1).await, ledger(2).await);
    let fingerprints = Fingerprints::new(&earlier.secrets().fingerprints, &[1; 32]);
    let _owner = earlier.claim(&ask(KEY, Identity::Key, &fingerprints)).await.unwrap();
    let mark = async |by: &Ledger, change| {
        let held = by.read(KEY).await.unwrap().unwrap();
        assert!(matches!(by.conclude(held, change).await, Concluded::Recorded(_)));
        let held = by.read(KEY).await.unwrap().unwrap();
        let State::InDoubt { closed, absent, .. } = held.record.state else { panic!("no doubt") };
        (closed.is_some(), absent)
    };

    let silent = Change::Doubt { why: Doubt::OwnerSilent, closed: false };
    assert_eq!(mark(&earlier, silent).await, (false, 0));
    assert_eq!(mark(&earlier, Change::Looked(Looked::Absent)).await, (false, 0));
    assert_eq!(mark(&later, Change::Looked(Looked::Absent)).await, (true, 0));
    assert_eq!(mark(&later, Change::Looked(Looked::Absent)).await, (true, 1));
}
