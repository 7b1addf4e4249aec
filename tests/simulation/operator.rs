//! The person who settles and reopens what nobody else can, after asking the provider.

use std::sync::Arc;

use rand::RngExt as _;
use semel::protocol::id::OperationId;
use semel::protocol::record::{Entry, Record, State};
use serde_json::json;

use crate::book::short;
use crate::world::World;

/// Acts on one operation in doubt, if there is one of which the provider can tell the truth.
pub(crate) async fn act(world: &Arc<World>) {
    let Some((operation, record)) = pick(world) else { return };
    let processes = world.processes();
    let Some(process) = processes.first() else { return };
    // Whoever asks while a request is under way cannot know; a good operator waits.
    if !world.book.is_quiet(record.attempt) {
        return;
    }
    let payment = {
        let pages = world.book.pages();
        let sends = pages.sends.iter().filter(|send| send.attempt == Some(record.attempt));
        sends.filter_map(|send| send.payment).next_back()
    };
    let known = payment.and_then(|index| Some((index, world.provider.payment(index)?)));
    let (action, order) = match known {
        Some((index, payment)) if payment.status != "processing" => {
            let applied = payment.status == "succeeded";
            let (what, status) = if applied { ("applied", 201) } else { ("not-applied", 402) };
            let body = payment.json(index).to_string();
            ("settle", json!({ "as": what, "status": status, "body": body, "reason": "asked" }))
        }
        Some(_) => return,
        None if world.rng().random() => {
            let order = json!({ "as": "not-applied", "status": 402, "reason": "not there" });
            ("settle", order)
        }
        None => ("reopen", json!({ "allow_resend": true, "reason": "not there" })),
    };
    let key = short(operation.key);
    let path = format!("/api/v1/records/{operation}/{action}");
    world.book.line(format!("the operator orders {action} of {key} at {}", process.name));
    // The answer is not waited for: the process may be paused or die.
    let (world, process, order) = (Arc::clone(world), Arc::clone(process), order.to_string());
    crate::spawn(async move {
        let status = process.order(&path, order).await;
        world.book.line(format!("the operator is told {status} about {key}"));
        world.book.sometimes(match status {
            200 => "an operator's order was carried out",
            409 => "an operator's order was refused",
            _ => "an operator's order failed",
        });
    });
}

/// Something unsettled.
fn pick(world: &World) -> Option<(OperationId, Record)> {
    let open: Vec<_> = world
        .depot
        .store
        .snapshot()
        .entries()
        .filter_map(|(key, stored)| match Entry::read(&stored.bytes, stored.age) {
            Ok(Entry::Record(record)) => match record.state {
                State::InFlight | State::InDoubt { .. } | State::Accepted { .. } => {
                    Some((record.operation(key), *record))
                }
                State::Settled(_) | State::Released { .. } => None,
            },
            Ok(Entry::Pointer(_)) | Err(_) => None,
        })
        .collect();
    let index = (!open.is_empty()).then(|| world.rng().random_range(0..open.len()))?;
    open.into_iter().nth(index)
}
