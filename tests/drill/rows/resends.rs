//! What is lost, and heard by sending it again under its key, where the payment API knows the key.

use semel::demo::provider::Speaks;

use crate::asked::{CODED, RESENT};
use crate::caller::Said;
use crate::row::{BOTH, Row};
use crate::world::World;

pub(super) const ROWS: &[Row] = &[
    Row {
        situation: "answer lost, heard by sending again to a provider that dedupes",
        stores: BOTH,
        charges: 1,
        told: &["201 looked-up", "201 replayed", "sent twice"],
        play: |world| Box::pin(heard(world, "drop-after")),
    },
    Row {
        situation: "a payment that never arrived, sent again to a provider that dedupes",
        stores: BOTH,
        charges: 1,
        told: &["201 looked-up", "201 replayed", "sent twice"],
        play: |world| Box::pin(heard(world, "drop-before")),
    },
    Row {
        situation: "killed before the answer, only to be sent again: held until a retry",
        stores: BOTH,
        charges: 1,
        told: &["no answer", "sent once so far", "201 looked-up", "201 replayed", "sent twice"],
        play: |world| Box::pin(killed(world)),
    },
    Row {
        situation: "Adyen's 422 with 704, its key in progress: unknown, and sent again",
        stores: BOTH,
        charges: 1,
        told: &["200 looked-up", "200 replayed", "sent twice"],
        play: |world| Box::pin(in_progress(world)),
    },
];

/// The provider answers a key that it knows as it did before; the next payment goes wrong so.
fn practise(world: &World, wrong: &str) {
    for modes in ["idempotent", wrong] {
        assert_eq!(world.provider().practice().next(modes, 1), Ok(()), "{modes}");
    }
}

fn sent(world: &World, times: u64, words: &str) -> Said {
    Said::fact(words, world.sent("k") == times)
}

async fn heard(world: &World, wrong: &str) -> Vec<Said> {
    practise(world, wrong);
    let first = world.pay("k").at(RESENT).send().await;
    let retry = world.pay("k").at(RESENT).send().await;
    vec![first, retry, sent(world, 2, "sent twice")]
}

async fn killed(world: &mut World) -> Vec<Said> {
    practise(world, "slow=20000");
    let first = world.pay("k").at(RESENT).press();
    world.until_charged("k").await;
    world.process(0).kill();
    world.process(0).restart().await;
    world.until_only("in-doubt").await;
    let so_far = sent(world, 1, "sent once so far");
    let retry = world.pay("k").at(RESENT).send().await;
    let again = world.pay("k").at(RESENT).send().await;
    vec![first.told().await, so_far, retry, again, sent(world, 2, "sent twice")]
}

async fn in_progress(world: &mut World) -> Vec<Said> {
    world.stop_provider().await;
    world.start_provider_as(Speaks::Adyen);
    practise(world, "409-in-progress");
    let body = r#"{"amount":{"currency":"EUR","value":1900},"reference":"k"}"#;
    let order = world.pay("k").at(CODED).body(body);
    let first = order.clone().send().await;
    let retry = order.send().await;
    vec![first, retry, sent(world, 2, "sent twice")]
}
