//! Which settled records are recalled, and until when.

use super::*;
use crate::protocol::claim::RECALLED_MAX;

impl World {
    /// One that recalls what it has room for.
    async fn recalling(bytes: usize) -> Self {
        let Self { memory, faults, ledger } = Self::new().await;
        Self { memory, faults, ledger: ledger.recalling(bytes) }
    }

    /// The same with one settled operation, not read since.
    async fn settled() -> Self {
        let world = Self::recalling(1 << 20).await;
        let held = sent(world.claimed().await);
        world.ledger.conclude(held, paid()).await;
        world
    }

    fn recalls(&self, content: u8) -> bool {
        self.ledger.recall(KEY, &self.fingerprints(content)).is_some()
    }

    async fn settles(&self, key: u8, terms: Terms, reply: Reply) {
        let fingerprints = self.fingerprints(1);
        let key = RecordKey::new([key; 16]);
        let ask = Ask { terms, ..ask(key, Identity::Key, &fingerprints) };
        let Ok(Verdict::Claimed(claimed)) = self.ledger.claim(&ask).await else { panic!("taken") };
        let (status, delivery) = (reply.status, Delivery::default());
        let reply = Some(Arc::new(reply));
        let settle = Change::Settle { by: SettledBy::Answer, status, reply, delivery };
        self.ledger.conclude(sent(claimed), settle).await;
        assert!(matches!(self.ledger.claim(&ask).await, Ok(Verdict::Settled(_))));
    }
}

const fn reply(body: bytes::Bytes) -> Reply {
    Reply { status: 201, headers: vec![], body }
}

#[tokio::test(start_paused = true)]
async fn what_was_read_settled_is_recalled_for_that_very_request() {
    let world = World::settled().await;
    assert!(!world.recalls(1), "only written, and not read");
    tokio::time::advance(Duration::from_secs(5)).await;
    let Verdict::Settled(read) = world.claim().await else { panic!("not settled") };
    tokio::time::advance(Duration::from_secs(5)).await;

    let recalled = world.ledger.recall(KEY, &world.fingerprints(1)).unwrap().settled;

    assert_eq!((recalled.operation(), recalled.status()), (read.operation(), 201));
    assert_eq!((recalled.reply(), recalled.by()), (read.reply(), SettledBy::Answer));
    assert!(recalled.recorded() && recalled.since() == Duration::from_secs(10));
    assert!(!world.recalls(2), "another request's fingerprint");
    assert!(world.recalls(1), "which changes nothing");
}

#[tokio::test(start_paused = true)]
async fn it_is_read_again_after_ten_minutes_and_long_before_its_retention_ends() {
    let world = World::settled().await;
    world.claim().await;
    tokio::time::advance(RECALLED_MAX - Duration::from_secs(1)).await;
    assert!(world.recalls(1));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!world.recalls(1));

    // 86,000 s later 400 s are left, of which it recalls half.
    tokio::time::advance(Duration::from_secs(86_000) - RECALLED_MAX).await;
    world.claim().await;
    tokio::time::advance(Duration::from_secs(199)).await;
    assert!(world.recalls(1));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!world.recalls(1));

    tokio::time::advance(Duration::from_secs(201)).await;
    let Verdict::Settled(settled) = world.claim().await else { panic!("not settled") };
    assert!(settled.reply().is_none() && !world.recalls(1), "its answer is not kept any more");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_recalled_of_a_store_that_is_another_or_has_lost_writes() {
    let world = World::settled().await;
    let before = world.memory.snapshot();
    // Something more, which the snapshot lacks.
    world.settles(1, TERMS, reply(bytes::Bytes::new())).await;
    world.claim().await;
    assert!(world.recalls(1));
    world.memory.restore(before);

    // What the agenda asks does not find the loss any later than a claim would.
    assert!(world.ledger.store().due(1).await.is_err());
    assert!(!world.recalls(1));

    world.ledger.accept([0; 32]).await.unwrap();
    assert!(!world.recalls(1), "not before it was read in the accepted store");
    // The first answer shows that the store was amended, which its question did not know.
    world.claim().await;
    assert!(matches!(world.claim().await, Verdict::Settled(_)) && world.recalls(1));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_recalled_of_an_earlier_generation() {
    let world = World::settled().await;
    world.claim().await;
    assert!(world.recalls(1));
    let charter = world.ledger.store().charter().await.unwrap().unwrap();
    let raised = crate::store::Charter { generation: charter.generation + 1, ..charter };
    world.faults.amend(Some(&charter), &raised).await.unwrap();

    // What the agenda asks is not refused, and sees that somebody amended it.
    world.ledger.store().due(1).await.unwrap();
    assert!(!world.recalls(1));

    // Nor is it if the store was restored before that, while nobody asked.
    world.settles(1, TERMS, reply(bytes::Bytes::new())).await;
    world.claim().await;
    assert!(world.recalls(1));
    let before = world.memory.snapshot();
    world.settles(2, TERMS, reply(bytes::Bytes::new())).await;
    world.memory.restore(before);
    let raised_again = crate::store::Charter { generation: raised.generation + 1, ..raised };
    world.faults.amend(Some(&raised), &raised_again).await.unwrap();
    world.ledger.store().due(1).await.unwrap();
    assert!(!world.recalls(1));

    // A claim on another key adopts it.
    world.settles(3, TERMS, reply(bytes::Bytes::new())).await;
    world.claim().await;
    assert!(world.recalls(1), "it was read in this generation");
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_a_caller_left_is_read_each_time() {
    let world = World::settled().await;
    let Verdict::Settled(settled) = world.claim().await else { panic!("not settled") };
    assert!(world.recalls(1));

    let left = Delivery { left: Some(Ago::NOW), ..Delivery::default() };
    world.ledger.note_delivery(settled.operation(), left).await.unwrap();

    assert!(!world.recalls(1));
    world.claim().await;
    assert!(!world.recalls(1), "its record says so");
}

#[tokio::test(start_paused = true)]
async fn what_is_known_by_content_alone_is_never_recalled() {
    let world = World::recalling(1 << 20).await;
    let Verdict::Claimed(first) = world.by_content().await else { panic!("not claimed") };
    let operation = first.held().operation();
    world.ledger.conclude(sent(first), paid()).await;
    assert!(matches!(world.by_content().await, Verdict::Settled(_)));

    for key in [POINTER, operation.key] {
        assert!(world.ledger.recall(key, &world.fingerprints(1)).is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_recalled_has_bounds_and_what_is_asked_for_often_stays() {
    const BYTES: usize = 64 << 10;
    let world = World::recalling(BYTES).await;
    let (same, recalled) = (world.fingerprints(1), |key: u8| RecordKey::new([key; 16]));
    let recalled = |key| world.ledger.recall(recalled(key), &same).is_some();
    world.settles(1, TERMS, reply(vec![0; BYTES].into())).await;
    assert!(!recalled(1), "larger than all there is room for");

    for key in 2..200 {
        world.settles(key, TERMS, reply(vec![0; 2000].into())).await;
        let _asked_for_often = recalled(2);
    }

    let kept = (2..200).filter(|&key| recalled(key)).count();
    assert!((10..=BYTES / 2000).contains(&kept), "{kept}");
    assert!(recalled(2));
    let none = World::recalling(0).await;
    none.settles(1, TERMS, reply(bytes::Bytes::new())).await;
    assert!(none.ledger.recall(RecordKey::new([1; 16]), &same).is_none());
}
