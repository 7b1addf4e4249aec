//! The records API: list and show. Who changes records is in `change`, who has them looked up in
//! `asking`, which of them are meant in `filter`.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Map, Value, json};

use super::filter::Filter;
use super::telling::{details, summary};
use super::{as_json, fault};
use crate::attempt::Flights;
use crate::ledger::{Found, Ledger, MaySend};
use crate::protocol::attempt::Held;
use crate::protocol::id::OperationId;
use crate::protocol::record::State;
use crate::reconcile::LookUps;
use crate::store::Listing;

/// How many pages of the store are looked through for one page of records that fit.
const PAGES_MAX: usize = 1000;

/// The operator's desk, with somebody at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Desk<'a> {
    pub(super) ledger: &'a Arc<Ledger>,
    pub(super) flights: &'a Arc<Flights>,
    pub(super) look_ups: &'a LookUps,
    pub(super) peer: Option<SocketAddr>,
}

/// Why something is not done.
#[derive(Debug)]
pub(super) struct Refused(pub(super) StatusCode, pub(super) String);

impl Refused {
    pub(super) fn order(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, message.into())
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self(StatusCode::CONFLICT, message.into())
    }

    pub(super) fn store(message: impl Into<String>) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, message.into())
    }

    pub(super) fn response(&self) -> Response<Full<Bytes>> {
        fault(self.0, &self.1)
    }
}

impl Desk<'_> {
    pub(super) async fn list(
        &self,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Response<Full<Bytes>> {
        let index = &self.ledger.secrets().index;
        let filter = match Filter::of(query.unwrap_or_default(), headers, index) {
            Ok(filter) => filter,
            Err(message) => return fault(StatusCode::BAD_REQUEST, &message),
        };
        match self.gather(&filter).await {
            Ok((records, next)) => {
                as_json(StatusCode::OK, &json!({ "records": records, "next": next }))
            }
            Err(error) => fault(StatusCode::SERVICE_UNAVAILABLE, &error),
        }
    }

    async fn gather(&self, filter: &Filter) -> Result<(Vec<Value>, Option<String>), String> {
        let wanted = filter.limit();
        let mut after = filter.after();
        let mut records = Vec::new();
        for _ in 0..PAGES_MAX {
            // Never more than there is still room for: a cursor stands behind a whole page.
            let limit = wanted - records.len();
            let listing = Listing { tag: filter.tag(), after, limit };
            let asked = self.ledger.now();
            let page =
                self.ledger.store().list(&listing).await.map_err(|error| error.to_string())?;
            for (key, stored) in &page.entries {
                match self.ledger.hold(*key, stored, asked) {
                    Ok(Found::Record(held)) if filter.fits(&held) => records.push(summary(&held)),
                    Ok(Found::Record(_) | Found::Pointer(..)) => {}
                    Err(error) => {
                        let record = key.to_string();
                        records.push(json!({ "record": record, "error": error.to_string() }));
                    }
                }
            }
            after = page.next;
            if after.is_none() || records.len() >= wanted {
                break;
            }
        }
        Ok((records, after))
    }

    pub(super) async fn show(&self, id: &str) -> Response<Full<Bytes>> {
        match self.find(id).await {
            Ok(held) => as_json(StatusCode::OK, &details(&held, self.not_yet(&held))),
            Err(refused) => refused.response(),
        }
    }

    /// Why nobody may settle a doubt yet.
    fn not_yet(&self, held: &Held) -> Option<MaySend> {
        match held.record.state {
            State::InDoubt { .. } => self.ledger.is_spent(held).err(),
            State::InFlight
            | State::Accepted { .. }
            | State::Settled(_)
            | State::Released { .. } => None,
        }
    }

    pub(super) async fn find(&self, id: &str) -> Result<Held, Refused> {
        let operation: OperationId =
            id.parse().map_err(|error| Refused::order(format!("{error}")))?;
        let gone = |message: &str| Refused(StatusCode::NOT_FOUND, message.to_owned());
        match self.ledger.read(operation.key).await {
            Ok(Some(held)) if held.operation() == operation => Ok(held),
            Ok(Some(_)) => {
                Err(gone("that claim was released; its key has been claimed anew since"))
            }
            Ok(None) => Err(gone("no such operation is remembered")),
            Err(error) => Err(Refused::store(error.to_string())),
        }
    }
}

/// Reads which operations an order is about, and leaves the rest of it.
pub(super) fn operations(
    order: &[u8],
    max: usize,
) -> Result<(Vec<String>, Map<String, Value>), Refused> {
    let order = serde_json::from_slice::<Map<String, Value>>(order);
    let mut order = order.map_err(|_| Refused::order("the order is not a JSON object"))?;
    let named = order.remove("operations").and_then(|named| {
        named
            .as_array()?
            .iter()
            .map(|id| id.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
    });
    let expected = || Refused::order(format!("operations is a list of 1 to {max} operation ids"));
    let named = named.filter(|named| (1..=max).contains(&named.len())).ok_or_else(expected)?;
    Ok((named, order))
}
