//! Having operations looked up: one, or several at a time. Asks the provider and puts on record what
//! it says, as the reconciler would.

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::as_json;
use super::records::{Desk, Refused, operations};
use crate::protocol::id::OperationId;
use crate::reconcile::NotAsked;

/// How many operations one order may have looked up.
const OPERATIONS_MAX: usize = 32;
/// How many of them are looked up at the same time.
const AT_ONCE_MAX: usize = 8;

impl Desk<'_> {
    /// Has one operation looked up, and says what was found.
    pub(super) async fn look_up(&self, id: &str) -> Response<Full<Bytes>> {
        match self.ask(id).await {
            Ok(asked) => as_json(StatusCode::OK, &asked),
            Err(refused) => refused.response(),
        }
    }

    /// Has several looked up. What was found, or why it was not asked for, stands beside each.
    pub(super) async fn look_up_many(&self, order: &[u8]) -> Response<Full<Bytes>> {
        let ids = match operations(order, OPERATIONS_MAX) {
            Ok((ids, rest)) if rest.is_empty() => ids,
            Ok(_) => {
                return Refused::order("a look-up takes operations and nothing else").response();
            }
            Err(refused) => return refused.response(),
        };
        let mut results = Vec::with_capacity(ids.len());
        for some in ids.chunks(AT_ONCE_MAX) {
            results.extend(join_all(some.iter().map(|id| self.asked(id))).await);
        }
        as_json(StatusCode::OK, &json!({ "results": results }))
    }

    async fn asked(&self, id: &str) -> Value {
        self.ask(id).await.unwrap_or_else(|refused| json!({ "operation": id, "error": refused.1 }))
    }

    async fn ask(&self, id: &str) -> Result<Value, Refused> {
        let operation: OperationId =
            id.parse().map_err(|error| Refused::order(format!("{error}")))?;
        let asked = self.look_ups.ask(operation).await.map_err(|why| refused(&why))?;
        Ok(json!({
            "operation": id,
            "finding": asked.finding.name(),
            "why": asked.why,
            "state": asked.state,
        }))
    }
}

fn refused(why: &NotAsked) -> Refused {
    let status = match why {
        NotAsked::Gone => StatusCode::NOT_FOUND,
        NotAsked::NotNeeded(_) | NotAsked::NoLookUp(_) | NotAsked::Changed => StatusCode::CONFLICT,
        NotAsked::Busy | NotAsked::Read(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    Refused(status, why.to_string())
}
