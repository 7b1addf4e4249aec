//! What operators do about doubts.

use serde_json::json;

use crate::caller::Said;
use crate::row::{BOTH, Row};
use crate::world::World;

pub(super) const ROWS: &[Row] = &[
    Row {
        situation: "answer lost, an operator settles it as applied; then a retry",
        stores: BOTH,
        charges: 1,
        told: &["504 unknown outcome-unknown", "operator: 200", "201 replayed", "as settled"],
        play: |world| Box::pin(settled(world)),
    },
    Row {
        situation: "nothing charged, an operator settles it as not applied; then a retry",
        stores: BOTH,
        charges: 0,
        told: &["504 unknown outcome-unknown", "operator: 200", "402 replayed"],
        play: |world| Box::pin(settled_as_not_applied(world)),
    },
    Row {
        situation: "nothing charged, an operator reopens it; then retries",
        stores: BOTH,
        charges: 1,
        told: &["504 unknown outcome-unknown", "operator: 200", "201 fresh", "201 replayed"],
        play: |world| Box::pin(reopened(world)),
    },
    Row {
        situation: "an operator wants to reopen what is in flight: refused",
        stores: BOTH,
        charges: 1,
        told: &["operator: 409", "201 fresh"],
        play: |world| Box::pin(too_early(world)),
    },
];

async fn settled(world: &World) -> Vec<Said> {
    let first = world.pay("k").wrong("drop-after").send().await;
    let order = json!({ "as": "applied", "status": 201, "body": "{\"id\":\"seen\"}",
        "reason": "seen in the provider's ledger" });
    let settled = world.operator(&first, "settle", &order).await;
    let retry = world.pay("k").send().await;
    let body = Said::fact("as settled", retry.answer().json() == json!({ "id": "seen" }));
    vec![first, settled, retry, body]
}

async fn settled_as_not_applied(world: &World) -> Vec<Said> {
    let first = world.pay("k").wrong("drop-before").send().await;
    let order = json!({ "as": "not-applied", "status": 402, "reason": "not in the ledger" });
    let settled = world.operator(&first, "settle", &order).await;
    vec![first, settled, world.pay("k").send().await]
}

async fn reopened(world: &World) -> Vec<Said> {
    let first = world.pay("k").wrong("drop-before").send().await;
    let order = json!({ "allow_resend": true, "reason": "not in the ledger" });
    let reopened = world.operator(&first, "reopen", &order).await;
    let second = world.pay("k").send().await;
    vec![first, reopened, second, world.pay("k").send().await]
}

async fn too_early(world: &World) -> Vec<Said> {
    let first = world.pay("k").wrong("slow=700").press();
    world.reached(1).await;
    let operation = world.until_only("in-flight").await;
    let order = json!({ "allow_resend": true, "reason": "too early" });
    let reopened = world.operator_on(&operation, "reopen", &order).await;
    vec![reopened, first.told().await]
}
