//! The provider's own API: every way in which payment APIs can be asked, over one kind of object.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{Call, Language, Made, Page, Refusal, Said, first_text, object_list};
use crate::demo::provider::asked::Asked;
use crate::demo::provider::charge::{Charge, Order, Seen, Status, number_in};
use crate::demo::provider::ledger::{Find, Sought};

const PAYMENTS: &str = "/v1/payments";
const BY_REFERENCE: &str = "/by-reference/";
const GRAPHQL: &str = "/graphql";
/// Where payments go that are made by GraphQL.
const TRANSACTIONS: &str = "/v1/transactions";
/// The `source` whose payments are declined.
const DECLINED: &str = "declined";
/// How many objects a list shows if not told, and at most.
const PAGE: usize = 10;
const PAGE_MAX: u64 = 100;
/// When to ask again what became of something that was only accepted.
const RETRY_AFTER: &str = "1";

pub(super) struct Own;

impl Language for Own {
    fn call<'a>(&self, asked: &'a Asked<'_>) -> Result<Call<'a>, Refusal> {
        match asked.method() {
            "POST" if asked.path() == GRAPHQL => Ok(graphql(asked)),
            "GET" => look_up(asked),
            "POST" if asked.path().ends_with("/search") => look_up(asked),
            "POST" | "PUT" | "PATCH" | "DELETE" => Ok(Call::Commit(order(asked))),
            _ => Err(Refusal::Status(StatusCode::METHOD_NOT_ALLOWED)),
        }
    }

    fn made(&self, made: &Made) -> Said {
        let (charge, object) = (&made.seen.charge, self.one(&made.seen));
        let said = match made.seen.status {
            Status::Processing => Said::new(StatusCode::ACCEPTED, &object)
                .with("Location", format!("{}/{}", charge.order.path, charge.id))
                .with("Retry-After", RETRY_AFTER),
            Status::Failed => {
                let error =
                    json!({"code": "card_declined", "message": "declined", "payment": object});
                Said::new(StatusCode::PAYMENT_REQUIRED, &json!({"error": error}))
            }
            Status::Succeeded if charge.order.path == TRANSACTIONS => {
                let node = json!({"transaction": node(object)});
                Said::ok(&json!({"data": {"chargePaymentMethod": node}}))
            }
            Status::Succeeded => Said::new(StatusCode::CREATED, &object),
        };
        said.replayed_if(made.replayed)
    }

    fn one(&self, seen: &Seen) -> Value {
        let Seen { charge: Charge { id, object, created_ms, order }, status, operations } = seen;
        let mut shown = Map::new();
        shown.insert("id".to_owned(), json!(id));
        shown.insert("object".to_owned(), json!(object));
        shown.insert("status".to_owned(), json!(status));
        shown.insert("amount".to_owned(), order.amount.clone());
        shown.insert("currency".to_owned(), order.currency.clone());
        shown.insert("reference".to_owned(), json!(order.reference));
        shown.insert("metadata".to_owned(), json!(order.metadata));
        shown.insert("created".to_owned(), json!(created_ms / 1000));
        shown.extend(order.fields.clone());
        for operation in operations {
            let kind = last_segment(&operation.charge.order.path);
            let all = shown.entry(kind).or_insert_with(|| json!([]));
            if let Value::Array(all) = all {
                all.push(self.one(operation));
            }
        }
        Value::Object(shown)
    }

    fn list(&self, page: &Page<'_>) -> Value {
        let items = page.items(self);
        if page.asked.path() == GRAPHQL {
            let edges: Vec<Value> =
                items.into_iter().map(|item| json!({"node": node(item)})).collect();
            let more = json!({"hasNextPage": page.found.more});
            let payments = json!({"edges": edges, "pageInfo": more});
            return json!({"data": {"search": {"payments": payments}}});
        }
        object_list(&items, page.found.more)
    }

    fn refused(&self, why: &Refusal) -> Said {
        match why {
            Refusal::Status(status) => {
                error(*status, status.canonical_reason().unwrap_or("refused"))
            }
            Refusal::NotFound => error(StatusCode::NOT_FOUND, "no such object"),
            Refusal::NoEndpoint => error(StatusCode::NOT_FOUND, "no such endpoint"),
            Refusal::Malformed(why) => error(StatusCode::BAD_REQUEST, why),
            Refusal::InProgress => error(StatusCode::CONFLICT, "this key is in progress"),
            Refusal::KeyReused => {
                error(StatusCode::BAD_REQUEST, "this key came before with another request")
            }
        }
    }

    fn id(&self, charge: &Charge) -> String {
        charge.id.clone()
    }
}

/// Reads what is to be committed from a JSON or form body; any other body says nothing.
fn order(asked: &Asked<'_>) -> Order {
    let mut metadata = asked.object("/metadata");
    if let Some(key) = asked.header("idempotency-key") {
        metadata.insert("idempotency_key".to_owned(), Value::from(key));
    }
    let names = ["/reference", "/receipt", "/metadata/reference"];
    Order {
        path: asked.path().to_owned(),
        amount: asked.number("/amount"),
        currency: asked.value("/currency"),
        reference: first_text(&asked.body, &names),
        metadata,
        key: asked.header("idempotency-key").map(str::to_owned),
        on: parent(&asked.segments()),
        fields: asked.fields(&["receipt"]),
        fails: asked.in_body("/source") == Some(DECLINED),
        ..Order::default()
    }
}

/// The number of `payment_1` in `/v1/payments/payment_1/captures`.
fn parent(segments: &[&str]) -> Option<usize> {
    let [.., collection, id, _] = segments else { return None };
    let kind = id.rsplit_once('_')?.0;
    collection.starts_with(kind).then(|| number_in(id))?
}

fn look_up<'a>(asked: &'a Asked<'_>) -> Result<Call<'a>, Refusal> {
    let path = asked.path();
    if let Some((collection, _)) = path.split_once(BY_REFERENCE) {
        let reference = asked.last_segment();
        return Ok(Call::One(Find::one(Sought::Reference(reference), Some(collection))));
    }
    if names_one(path) {
        return Ok(Call::One(Find::one(Sought::Id(asked.last_segment()), None)));
    }
    let text = |name: &str| asked.in_query(name).or_else(|| asked.in_body(name));
    let reference = text("/reference").or_else(|| text("/receipt")).or_else(|| query(asked));
    let sought = match (reference, text("/idempotency_key")) {
        (Some(reference), _) => Sought::Reference(reference),
        (None, Some(key)) => Sought::Key(key),
        (None, None) => Sought::All,
    };
    let number = |name: &str| {
        asked.body.pointer(name).and_then(Value::as_u64).or_else(|| text(name)?.parse().ok())
    };
    let limit = match (number("/limit"), text("/limit")) {
        (Some(limit @ 1..=PAGE_MAX), _) => usize::try_from(limit).unwrap_or(PAGE),
        (None, None) => PAGE,
        (Some(_), _) | (None, Some(_)) => return Err(Refusal::Malformed("limit is 1 to 100")),
    };
    let since = number("/created_gte").or_else(|| number("/created/gte")).unwrap_or_default();
    let collection = path.strip_suffix("/search").unwrap_or(path);
    Ok(Call::List(Find {
        limit,
        since_ms: since.saturating_mul(1000),
        after: text("/starting_after").map(|id| number_in(id).unwrap_or_default()),
        ..Find::all(sought, Some(collection))
    }))
}

/// The reference in `{"query": "reference:'o-1'"}`.
fn query<'a>(asked: &'a Asked<'_>) -> Option<&'a str> {
    let query = asked.in_body("/query")?;
    Some(query.split('\'').nth(1).unwrap_or(query))
}

/// A query asks for payments of an order; a mutation makes one.
fn graphql<'a>(asked: &'a Asked<'_>) -> Call<'a> {
    let query = asked.in_body("/query").unwrap_or_default();
    let order_id = named(&asked.body, "orderId", 0).or_else(|| quoted_after(query, "orderId"));
    if query.trim_start().starts_with("mutation") {
        return Call::Commit(Order {
            path: TRANSACTIONS.to_owned(),
            amount: asked.value("/variables/input/transaction/amount"),
            reference: order_id.map(str::to_owned),
            key: asked.header("idempotency-key").map(str::to_owned),
            ..Order::default()
        });
    }
    // Without an order id nothing is sought, and nothing found.
    Call::List(Find::all(Sought::Reference(order_id.unwrap_or_default()), None))
}

/// The text of that name anywhere in the variables, be it `"o-1"` or `{"is": "o-1"}`.
fn named<'a>(value: &'a Value, name: &str, depth: usize) -> Option<&'a str> {
    const DEPTH_MAX: usize = 8;
    let fields = value.as_object().filter(|_| depth < DEPTH_MAX)?;
    match fields.get(name) {
        Some(Value::String(text)) => Some(text),
        Some(operator) => operator.get("is")?.as_str(),
        None => fields.values().find_map(|inner| named(inner, name, depth + 1)),
    }
}

fn quoted_after<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split_once(name)?.1.split('"').nth(1)
}

/// A payment as the GraphQL endpoint shows it.
fn node(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        let reference = fields.get("reference").cloned().unwrap_or_default();
        fields.insert("orderId".to_owned(), reference);
    }
    object
}

fn last_segment(path: &str) -> &str {
    path.rsplit('/').find(|segment| !segment.is_empty()).unwrap_or_default()
}

/// Whether the last segment of a path names one object.
fn names_one(path: &str) -> bool {
    let Some((collection, last)) = path.rsplit_once('/') else { return false };
    number_in(last).is_some() || (collection == PAYMENTS && last != "search")
}

pub(super) fn error(status: StatusCode, message: &str) -> Said {
    let code = match status {
        StatusCode::PAYMENT_REQUIRED => "card_declined",
        StatusCode::TOO_MANY_REQUESTS => "rate_limited",
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::CONFLICT => "in_progress",
        status if status.is_server_error() => "provider_error",
        _ => "refused",
    };
    Said::new(status, &json!({"error": {"code": code, "message": message}}))
}
