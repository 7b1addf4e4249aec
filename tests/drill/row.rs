//! A row of the table: what is played, what must come of it, and the verdict.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures_util::FutureExt as _;

use crate::caller::{Answer, Said};
use crate::world::{Store, World};

/// What is the case on every store.
pub(crate) const BOTH: &[Store] = &[Store::Embedded, Store::Redis];
/// What only one disk can show.
pub(crate) const EMBEDDED: &[Store] = &[Store::Embedded];
/// What needs Redis, or several processes.
pub(crate) const REDIS: &[Store] = &[Store::Redis];

/// From this many equal answers on they are written as one.
const RUN_MIN: usize = 3;

/// A row while it is played.
pub(crate) type Playing<'w> = Pin<Box<dyn Future<Output = Vec<Said>> + Send + 'w>>;

/// One situation, and what it must come to.
pub(crate) struct Row {
    pub(crate) situation: &'static str,
    pub(crate) stores: &'static [Store],
    /// How many charges the provider's ledger shows at the end.
    pub(crate) charges: usize,
    /// What each caller is told, in order; and what else must be so.
    pub(crate) told: &'static [&'static str],
    pub(crate) play: fn(&mut World) -> Playing<'_>,
}

/// What came of a row on one store.
pub(crate) struct Outcome {
    pub(crate) charges: usize,
    pub(crate) told: Vec<String>,
    /// What is wrong, and the logs; empty if the row is right.
    pub(crate) wrong: Vec<String>,
}

/// Plays a row in a world of its own. A row that panics is a wrong row, not the end of the drill.
pub(crate) async fn play(row: &'static Row, store: Store) -> Outcome {
    #[expect(clippy::disallowed_methods, reason = "so that a panic stays in the row")]
    let played = tokio::spawn(row.outcome(store)).await;
    played.unwrap_or_else(|panic| {
        let told = vec![];
        Outcome { charges: 0, told, wrong: vec![format!("the row did not end: {panic}")] }
    })
}

impl Row {
    async fn outcome(&self, store: Store) -> Outcome {
        let mut world = World::start(store).await;
        let Ok(said) = AssertUnwindSafe((self.play)(&mut world)).catch_unwind().await else {
            let wrong = vec!["the row panicked, see above".to_owned(), world.logs()];
            return Outcome { charges: world.charges(), told: vec![], wrong };
        };
        let charges = world.charges();
        let told = runs(said.iter().map(Said::words));
        let mut wrong = complaints(&said);
        if charges != self.charges {
            wrong.push(format!("{} charges expected, got {charges}", self.charges));
            wrong.push(world.ledger());
        }
        if told != self.told {
            wrong.push(format!("expected {}", self.told.join(" · ")));
            wrong.push(format!("got      {}", told.join(" · ")));
        }
        if !wrong.is_empty() {
            wrong.push(details(&said));
            wrong.push(world.logs());
        }
        Outcome { charges, told, wrong }
    }
}

/// Writes equal neighbours as one: `30 × 201 followed`.
fn runs(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut runs: Vec<(String, usize)> = Vec::new();
    for word in words {
        match runs.last_mut() {
            Some((last, count)) if *last == word => *count += 1,
            Some(_) | None => runs.push((word, 1)),
        }
    }
    let written = runs.into_iter().flat_map(|(word, count)| {
        if count < RUN_MIN { vec![word; count] } else { vec![format!("{count} × {word}")] }
    });
    written.collect()
}

/// What holds for every answer, whatever the row.
fn complaints(said: &[Said]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut outcomes: HashMap<&str, &Answer> = HashMap::new();
    for said in said {
        let Said::Answer(answer) = said else { continue };
        let kind = answer.kind();
        let replayed = matches!(kind, "replayed" | "followed");
        if replayed != (answer.header("idempotent-replayed") == Some("true")) {
            wrong.push(format!("Idempotent-Replayed is wrong on {}", said.words()));
        }
        if answer.slug().is_some() && answer.header("proxy-status").is_none() {
            wrong.push(format!("{} could be taken for the upstream's", said.words()));
        }
        let Some(operation) = answer.operation() else { continue };
        if matches!(kind, "fresh" | "replayed" | "followed" | "looked-up" | "unrecorded")
            && answer.slug().is_none()
        {
            let first = *outcomes.entry(operation).or_insert(answer);
            if first.status != answer.status || first.body != answer.body {
                wrong.push(format!("{} differs from an earlier answer", said.words()));
            }
        }
    }
    wrong
}

fn details(said: &[Said]) -> String {
    let line = |said: &Said| match said {
        Said::Answer(answer) => {
            let body = String::from_utf8_lossy(&answer.body);
            let body: String = body.chars().take(300).collect();
            format!("  {} in {:?}: {body}\n", said.words(), answer.took)
        }
        Said::Left | Said::Nothing | Said::Fact(..) => format!("  {said:?}\n"),
    };
    said.iter().map(line).collect()
}
