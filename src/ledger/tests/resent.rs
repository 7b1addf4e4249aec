//! What is sent again or found out by hands that are not the owner's.

use super::*;

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_again_on_a_record_that_has_changed_and_the_mark_goes_first() {
    let world = World::new().await;
    let owner = sent(world.claimed().await);
    let _ = world.ledger.conclude(owner, doubt()).await;
    let mut first = world.ledger.read(KEY).await.unwrap().unwrap();
    let mut second = world.ledger.read(KEY).await.unwrap().unwrap();

    assert_eq!(world.ledger.note_resend(&mut first).await, Ok(Swapped::Done));
    assert!(matches!(world.ledger.note_resend(&mut second).await, Ok(Swapped::Lost(Some(_)))));

    let held = world.ledger.read(KEY).await.unwrap().unwrap();
    assert!(matches!(held.record.state, State::InDoubt { closed: None, .. }));
    let reopen = Change::Release { why: Release::Operator, reply: None };
    let _ = world.ledger.conclude(held, reopen).await;
    let over = Change::Resent { looked: crate::protocol::record::Looked::Failed, closed: true };
    assert!(matches!(world.ledger.conclude(first, over).await, Concluded::Overtaken(_)));
    assert_eq!(world.state().await, "released");
}

/// The owner's change waits for the store while somebody else doubts, and sends again.
async fn resent_meanwhile(world: &World, change: Change) -> (Pending, Held) {
    let owner = sent(world.claimed().await);
    world.faults.script([Fault::NotApplied]);
    let Concluded::NotYet(_, pending) = world.ledger.conclude(owner, change).await else {
        panic!("the store failed")
    };
    tokio::time::advance(LEASE * 2).await;
    assert!(matches!(world.claim().await, Verdict::Doubt(_)));
    tokio::time::advance(TERMS.upstream_timeout).await;
    let mut other = world.ledger.read(KEY).await.unwrap().unwrap();
    assert_eq!(world.ledger.note_resend(&mut other).await, Ok(Swapped::Done));
    (pending, other)
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_not_heard_frees_no_key_that_was_sent_again_meanwhile() {
    let world = World::new().await;
    for accepted in [false, true] {
        let refused = Change::Release { why: Release::NotApplied, reply: None };
        let (pending, other) = Box::pin(resent_meanwhile(&world, refused)).await;
        let expected = if accepted {
            let _ = world.ledger.conclude(other, Change::Accept { reply: None }).await;
            "accepted"
        } else {
            "in-doubt"
        };

        let Concluded::Recorded(told) = world.ledger.retry(pending).await else {
            panic!("the store is back")
        };

        assert_eq!((told.state(), world.state().await), (expected, expected));
        let held = world.ledger.read(KEY).await.unwrap().unwrap();
        assert!(!matches!(held.record.state, State::InDoubt { closed: Some(_), .. }));
        let reopen = Change::Release { why: Release::Operator, reply: None };
        let _ = world.ledger.conclude(held, reopen).await;
        assert_eq!(world.state().await, "released", "people may free it");
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_does_not_say_that_the_connection_of_a_later_resend_is_closed() {
    let world = World::new().await;
    let (pending, _other) = Box::pin(resent_meanwhile(&world, doubt())).await;

    let told = world.ledger.retry(pending).await;

    assert!(matches!(told, Concluded::Recorded(View::InDoubt(_))), "{told:?}");
    let held = world.ledger.read(KEY).await.unwrap().unwrap();
    assert!(matches!(held.record.state, State::InDoubt { closed: None, .. }));
}

#[tokio::test(start_paused = true)]
async fn what_was_found_out_is_recorded_over_marks_and_names_but_over_nothing_else() {
    use crate::protocol::record::{Looked, Recognised};
    let found = || Change::Settle {
        by: SettledBy::LookUp,
        status: 201,
        reply: None,
        delivery: Delivery::default(),
    };
    let note = Some(Happening::LookedUp(Looked::Final));
    for (meanwhile, expected) in
        [("told", "settled"), ("joined", "settled"), ("resent", "in-doubt"), ("looked", "in-doubt")]
    {
        let world = World::new().await;
        let owner = sent(world.claimed().await);
        let _ = world.ledger.conclude(owner, doubt()).await;
        let held = world.ledger.read(KEY).await.unwrap().unwrap();
        let mut other = world.ledger.read(KEY).await.unwrap().unwrap();
        tokio::time::advance(LEASE).await;
        let left = Delivery { left: Some(Ago::NOW), answered: None, completed: None };
        match meanwhile {
            "told" => world.ledger.note_delivery(held.operation(), left).await.unwrap(),
            "joined" => {
                other.record.note(Happening::Joined(Recognised::Orphan));
                assert_eq!(world.ledger.put_off(&mut other, LEASE).await, Ok(Swapped::Done));
            }
            "resent" => assert_eq!(world.ledger.note_resend(&mut other).await, Ok(Swapped::Done)),
            _ => {
                let _ = world.ledger.conclude(other, Change::Looked(Looked::Absent)).await;
            }
        }

        let told = world.ledger.conclude_noting(held, note.clone(), found()).await;

        assert_eq!(world.state().await, expected, "{meanwhile}: {told:?}");
        let record = world.ledger.read(KEY).await.unwrap().unwrap().record;
        let has = |what: &Happening| record.timeline.iter().any(|event| event.what == *what);
        if expected == "settled" {
            assert!(matches!(told, Concluded::Recorded(View::Settled(_))), "{told:?}");
            assert!(has(note.as_ref().unwrap()), "what led to it is noted");
            assert_eq!(record.delivery.left.is_some(), meanwhile == "told");
            assert_eq!(has(&Happening::Joined(Recognised::Orphan)), meanwhile == "joined");
        } else {
            assert!(matches!(told, Concluded::Overtaken(View::InDoubt(_))), "{told:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_on_a_released_key_keeps_in_mind_when_the_key_was_first_claimed() {
    let world = World::new().await;
    let hour = Duration::from_secs(3600);
    for age in 0..3 {
        let claimed = world.claimed().await;
        let record = &claimed.held().record;
        assert_eq!(
            (record.claimed.age(), record.first_claimed.age()),
            (Duration::ZERO, hour * age)
        );
        tokio::time::advance(hour).await;
        world.ledger.take_back(claimed.forgo(), Release::NotSent).await;
        let kept = world.ledger.read(KEY).await.unwrap().unwrap().record.first_claimed;
        assert_eq!(kept.age(), hour * (age + 1));
    }
}
