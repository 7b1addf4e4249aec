//! Look-ups and settlements of several operations: first the list of them, then an order for so many
//! at a time, by their ids. What is not on the list that was shown is not touched.

use std::process::ExitCode;

use http::Method;
use serde_json::{Map, Value, json};

use super::super::args::{SeveralArgs, StateArg, WhichArgs};
use super::super::{DATA_ERROR, USAGE, complain, print};
use super::{Failed, ask, list, telling};
use crate::config::Access;

/// How many operations one order is about.
const LOOKED_UP_AT_ONCE: usize = 8;
const SETTLED_AT_ONCE: usize = 50;

/// Whether it was said that all of them are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Confirmed(pub(super) bool);

/// Operations that were gone through.
pub(super) enum Several {
    /// They would be.
    Listed(Value),
    /// They were, with what came of each; and why it was broken off, if it was.
    Done(Vec<Value>, Option<Failed>),
}

impl Several {
    /// Says what came of each. Fails if one failed.
    pub(super) fn tell(self, as_json: bool) -> ExitCode {
        let (results, broken) = match self {
            Self::Listed(list) if as_json => return print(&format!("{list:#}\n")),
            Self::Listed(list) => {
                let count = list["records"].as_array().map_or(0, Vec::len);
                let list = telling::list(&list);
                return print(&format!("{list}{count} would be touched; nothing was done\n"));
            }
            Self::Done(results, broken) => (results, broken),
        };
        let failed = results.iter().any(|result| !result["error"].is_null());
        let said = match as_json {
            true => print(&format!("{:#}\n", json!({ "results": results }))),
            false => print(&telling::results(&results)),
        };
        match broken {
            Some(Failed(code, why)) => {
                complain(&format!("broken off: {why}"));
                ExitCode::from(code)
            }
            None if failed => ExitCode::from(DATA_ERROR),
            None => said,
        }
    }
}

/// Has all that are listed looked up.
pub(super) async fn look_up(
    access: &Access,
    which: &WhichArgs,
    several: SeveralArgs,
) -> Result<Several, Failed> {
    let listed = listed(access, which, several).await?;
    if several.dry_run {
        return Ok(Several::Listed(listed));
    }
    Ok(each(access, "lookup", &listed, LOOKED_UP_AT_ONCE, &Map::new()).await)
}

/// Settles all that are listed, the same way.
pub(super) async fn settle(
    access: &Access,
    which: &WhichArgs,
    several: SeveralArgs,
    confirmed: Confirmed,
    order: Value,
) -> Result<Several, Failed> {
    if !several.dry_run && several.limit.is_none() && confirmed == Confirmed(false) {
        let why = "settling several needs --yes for all of them or --limit N for some; --dry-run \
                   says which they are";
        return Err(Failed(USAGE, why.to_owned()));
    }
    let listed = listed(access, which, several).await?;
    if several.dry_run {
        return Ok(Several::Listed(listed));
    }
    let mut order = match order {
        Value::Object(order) => order,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    };
    // What has moved on since it was listed is left alone.
    order.insert("state".to_owned(), json!(which.state.map(StateArg::name)));
    Ok(each(access, "settle", &listed, SETTLED_AT_ONCE, &order).await)
}

/// Those that are meant, the oldest first.
async fn listed(access: &Access, which: &WhichArgs, several: SeveralArgs) -> Result<Value, Failed> {
    match which.state {
        Some(StateArg::InDoubt | StateArg::Accepted) => {}
        Some(StateArg::InFlight | StateArg::Settled | StateArg::Released) | None => {
            return Err(Failed(USAGE, "--state is in-doubt or accepted here".to_owned()));
        }
    }
    let mut list = list(access, which, None).await?;
    if !list["next"].is_null() && several.limit.is_none() {
        let why = "there are more than can be listed at once; narrow them with --older-than, \
                   --route or --limit";
        return Err(Failed(DATA_ERROR, why.to_owned()));
    }
    if let Some(records) = list["records"].as_array_mut() {
        // What cannot be read has no id to name it by.
        records.retain(|record| record["operation"].is_string());
        let age = |record: &Value| record["in_this_state_for_seconds"].as_f64().unwrap_or_default();
        records.sort_by(|a, b| age(b).total_cmp(&age(a)));
        records.truncate(several.limit.unwrap_or(usize::MAX));
    }
    list["next"] = Value::Null;
    Ok(list)
}

async fn each(
    access: &Access,
    action: &str,
    listed: &Value,
    at_once: usize,
    order: &Map<String, Value>,
) -> Several {
    let records = listed["records"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ids: Vec<&Value> = records.iter().map(|record| &record["operation"]).collect();
    let path = format!("/api/v1/records/{action}");
    let mut results = Vec::with_capacity(ids.len());
    for some in ids.chunks(at_once) {
        let mut order = order.clone();
        order.insert("operations".to_owned(), json!(some));
        match ask(access, Method::POST, &path, Some(&Value::Object(order))).await {
            Ok(mut answer) => {
                if let Some(some) = answer["results"].as_array_mut() {
                    results.append(some);
                }
            }
            Err(failed) => return Several::Done(results, Some(failed)),
        }
    }
    Several::Done(results, None)
}
