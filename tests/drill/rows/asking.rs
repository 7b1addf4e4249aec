//! How an operation is asked for: by its callers, by operators, and by a reference of semel's own.

use semel::demo::provider::{Sought, Speaks};

use crate::caller::{Order, Said};
use crate::named::{REFERRED, STRIPE};
use crate::row::{BOTH, Row};
use crate::world::World;

const UNKNOWN: &str = "504 unknown outcome-unknown";

pub(super) const ROWS: &[Row] = &[
    Row {
        situation: "a caller that prefers not to wait: 202, then asks by its key and waits",
        stores: BOTH,
        charges: 1,
        told: &["202 unknown outcome-unknown", "200 passed", "settled", "201 replayed"],
        play: |world| Box::pin(not_waiting(world)),
    },
    Row {
        situation: "asked for by its key and credentials; by others' there is nothing",
        stores: BOTH,
        charges: 1,
        told: &[
            "404 refused not-found",
            "201 fresh",
            "settled",
            "404 refused not-found",
            "nothing sent or kept by asking",
        ],
        play: |world| Box::pin(by_key(world)),
    },
    Row {
        situation: "asked for by another key that was recognised: the same operation",
        stores: BOTH,
        charges: 1,
        told: &[UNKNOWN, UNKNOWN, "in-doubt", "in-doubt", "the same one"],
        play: |world| Box::pin(by_other_key(world)),
    },
    Row {
        situation: "answer lost, found by a reference that was put into the request",
        stores: BOTH,
        charges: 1,
        told: &["201 looked-up", "201 replayed", "one charge has it"],
        play: |world| Box::pin(referred(world)),
    },
    Row {
        situation: "answer lost, without a key, found by a reference that was put into it",
        stores: BOTH,
        charges: 1,
        told: &["201 looked-up", "one charge has it"],
        play: |world| Box::pin(referred_keyless(world)),
    },
    Row {
        situation: "killed in flight, restarted, found by the reference of the first request",
        stores: BOTH,
        charges: 1,
        told: &["no answer", "201 looked-up", "one charge has it"],
        play: |world| Box::pin(referred_by_killed(world)),
    },
    Row {
        situation: "answer lost, found by the caller's own reference, which stays",
        stores: BOTH,
        charges: 1,
        told: &["201 looked-up", "201 replayed", "the caller's own"],
        play: |world| Box::pin(own_reference(world)),
    },
    Row {
        situation: "Stripe's preset: answer lost, found, and told as Stripe tells it",
        stores: BOTH,
        charges: 1,
        told: &["200 looked-up", "200 replayed", "a payment intent"],
        play: |world| Box::pin(stripe(world, "drop-after")),
    },
    Row {
        situation: "Stripe's preset: declined, answer lost, found, and told as Stripe tells it",
        stores: BOTH,
        charges: 0,
        told: &["402 looked-up", "402 replayed", "a card error"],
        play: |world| Box::pin(stripe(world, "declined, drop-after")),
    },
    Row {
        situation: "an operator finds it by its key, and settles all doubts at once",
        stores: BOTH,
        charges: 2,
        told: &[UNKNOWN, UNKNOWN, "found by its key", "2 done", "201 replayed", "201 replayed"],
        play: |world| Box::pin(operator(world)),
    },
];

/// A question for the operation of a key on the plain route.
fn ask(world: &World, key: &str, more: &str) -> Order {
    let path = format!("/.well-known/semel/operations?path=/v1/payments{more}");
    world.get(&path).key(key).by("Bearer shop")
}

/// The state that an answer to a question names.
fn state(said: &Said) -> Said {
    Said::fact(said.answer().json()["state"].as_str().unwrap_or("no state"), true)
}

async fn not_waiting(world: &World) -> Vec<Said> {
    let prefer = "respond-async, wait=0";
    let first = world.pay("k").wrong("slow=700").header("prefer", prefer).send().await;
    let asked = ask(world, "k", "&wait=30").send().await;
    let state = state(&asked);
    vec![first, asked, state, world.pay("k").send().await]
}

async fn by_key(world: &World) -> Vec<Said> {
    let before = ask(world, "k", "").send().await;
    let first = world.pay("k").send().await;
    let asked = ask(world, "k", "").send().await;
    let other = ask(world, "k", "").by("Bearer bakery").send().await;
    let listed = world.admin("/api/v1/records").send().await.answer().json();
    let one = listed["records"].as_array().is_some_and(|records| records.len() == 1);
    let nothing = Said::fact("nothing sent or kept by asking", one && world.reached_so_far() == 1);
    vec![before, first, state(&asked), other, nothing]
}

async fn by_other_key(world: &World) -> Vec<Said> {
    let first = world.pay("k").wrong("drop-after").send().await;
    let retry = world.pay("other").reference("k").send().await;
    let asked = ask(world, "k", "").send().await;
    let other = ask(world, "other", "").send().await;
    let operation = |said: &Said| said.answer().json()["operation"].clone();
    let same = operation(&asked).is_string() && operation(&asked) == operation(&other);
    let states = [state(&asked), state(&other)];
    let mut said = vec![first, retry];
    said.extend(states);
    said.push(Said::fact("the same one", same));
    said
}

/// A payment without a reference of the caller's.
fn unreferred(order: Order) -> Order {
    order.at(REFERRED).body(r#"{"amount":1900,"currency":"eur"}"#)
}

/// Whether the provider's ledger has one charge with the reference that an answer names.
fn one_charge(world: &World, said: &Said, fits: impl Fn(&str) -> bool, words: &str) -> Said {
    let shown = said.answer().json()["reference"].clone();
    let reference = shown.as_str().unwrap_or_default();
    let count = world.provider().ledger().count(Sought::Reference(reference));
    Said::fact(words, count == 1 && fits(reference))
}

/// What semel makes up unless it is told otherwise.
fn is_made_up(reference: &str) -> bool {
    reference.len() == 40
}

async fn referred(world: &World) -> Vec<Said> {
    let order = unreferred(world.pay("k"));
    let first = order.clone().wrong("drop-after").send().await;
    let retry = order.send().await;
    let found = one_charge(world, &first, is_made_up, "one charge has it");
    vec![first, retry, found]
}

async fn referred_keyless(world: &World) -> Vec<Said> {
    let first = unreferred(world.pay_keyless()).wrong("drop-after").send().await;
    let found = one_charge(world, &first, is_made_up, "one charge has it");
    vec![first, found]
}

async fn referred_by_killed(world: &mut World) -> Vec<Said> {
    let first = unreferred(world.pay("k")).wrong("slow=20000").press();
    world.until_charged("k").await;
    world.process(0).kill();
    world.process(0).restart().await;
    let retry = unreferred(world.pay("k")).send().await;
    let found = one_charge(world, &retry, is_made_up, "one charge has it");
    vec![first.told().await, retry, found]
}

async fn own_reference(world: &World) -> Vec<Said> {
    let first = world.pay("k").at(REFERRED).wrong("drop-after").send().await;
    let retry = world.pay("k").at(REFERRED).send().await;
    let found = one_charge(world, &first, |reference| reference == "k", "the caller's own");
    vec![first, retry, found]
}

async fn stripe(world: &mut World, wrong: &str) -> Vec<Said> {
    world.stop_provider().await;
    world.start_provider_as(Speaks::Stripe);
    let body = "amount=1900&currency=eur&confirm=true&payment_method=pm_card_visa";
    let order = world.pay("k").at(STRIPE).body(body);
    let order = order.header("content-type", "application/x-www-form-urlencoded");
    let first = order.clone().wrong(wrong).send().await;
    let retry = order.send().await;
    let shown = first.answer().json();
    let intent = |value: &serde_json::Value| {
        let known = value["id"].as_str().is_some_and(|id| id.starts_with("pi_"));
        known && value["object"] == "payment_intent"
    };
    let fact = if first.answer().status == 200 {
        Said::fact("a payment intent", intent(&shown) && shown["status"] == "succeeded")
    } else {
        let error = &shown["error"];
        let is_declined = error["type"] == "card_error" && error["code"] == "card_declined";
        Said::fact("a card error", is_declined && intent(&error["payment_intent"]))
    };
    vec![first, retry, fact]
}

async fn operator(world: &World) -> Vec<Said> {
    let mut said = vec![];
    for key in ["order 1", "order 2"] {
        said.push(world.pay(key).wrong("drop-after").send().await);
    }
    let listed = world.records(&["list", "--key", "order 1"]);
    let has = |said: &Said| listed.contains(said.answer().operation().unwrap_or("none"));
    said.push(Said::fact("found by its key", has(&said[0]) && !has(&said[1])));
    let how = ["--as", "applied", "--status", "201", "--reason", "outage 7", "--yes"];
    let settled = world.records(&[&["settle", "--state", "in-doubt"], &how[..]].concat());
    said.push(Said::fact("2 done", settled.ends_with("2 in all: 2 done\n")));
    for key in ["order 1", "order 2"] {
        said.push(world.pay(key).send().await);
    }
    said
}
