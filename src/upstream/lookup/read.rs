//! What a provider's answer says. Whatever no rule names is unclear; nothing is guessed.

use std::borrow::Cow;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::Response;
use serde_json::Value;
use serde_json_path::JsonPath;

use super::Subject;
use super::template::{Template, Values};
use crate::protocol::json::{self, Found, Node, Pointer};
use crate::protocol::outcome::Finding;
use crate::protocol::record::Reply;

/// How much of a value that no rule names is told.
const TOLD_MAX: usize = 32;

/// How an answer is read.
#[derive(Debug)]
pub(super) struct Reading {
    /// Statuses that say "not there".
    pub(super) absent_statuses: Vec<u16>,
    pub(super) item: ItemPath,
    /// `None`: that it is there is all there is to know.
    pub(super) state: Option<States>,
    pub(super) created: Option<Created>,
    pub(super) succeeded: Answer,
    pub(super) failed: Answer,
}

/// Where the operation stands in the answer.
#[derive(Debug)]
pub(super) enum ItemPath {
    /// It is the answer.
    Whole,
    Fixed(JsonPath),
    Rendered(Box<Template>),
}

/// Which value of an item says how it is.
#[derive(Debug)]
pub(super) struct States {
    pub(super) path: JsonPath,
    pub(super) succeeded: Vec<String>,
    pub(super) accepted: Vec<String>,
    pub(super) failed: Vec<String>,
}

/// Where an item says when it was made; those made before the claim are other operations.
#[derive(Debug)]
pub(super) struct Created {
    pub(super) path: JsonPath,
    pub(super) unit: TimeUnit,
    pub(super) skew: Duration,
}

/// How a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds since 1970.
    Unix,
    /// `2026-03-01T12:00:00Z`, or with an offset.
    Rfc3339,
}

/// What is recorded as the operation's answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: AnswerBody,
}

#[derive(Debug)]
pub(super) enum AnswerBody {
    /// The item, byte for byte as the provider wrote it.
    Item,
    /// A JSON document made of the item.
    Rendered(Box<Template>),
}

/// The operation as the provider shows it.
struct Item<'d> {
    value: &'d Value,
    raw: &'d [u8],
}

enum Condition {
    Succeeded,
    Accepted,
    Failed,
}

impl Reading {
    pub(super) fn templates(&self) -> impl Iterator<Item = &Template> {
        let item = match &self.item {
            ItemPath::Rendered(template) => Some(template.as_ref()),
            ItemPath::Whole | ItemPath::Fixed(_) => None,
        };
        let bodies = [&self.succeeded, &self.failed].into_iter().filter_map(Answer::template);
        item.into_iter().chain(bodies)
    }

    pub(super) fn read(&self, subject: &Subject, answer: &Response<Bytes>) -> Finding {
        let status = answer.status().as_u16();
        if self.absent_statuses.contains(&status) {
            return Finding::Absent;
        }
        if !answer.status().is_success() {
            return Finding::Failed(format!("status {status}"));
        }
        self.found(subject, answer.body()).unwrap_or_else(Finding::Unclear)
    }

    fn found(&self, subject: &Subject, body: &[u8]) -> Result<Finding, String> {
        // Read twice: once so that paths can be followed, once so that nothing is lost.
        let exact = json::parse(body).map_err(|why| why.to_string())?;
        if exact.repeats_a_name() {
            return Err("a name is repeated in an object".to_owned());
        }
        let document: Value =
            serde_json::from_slice(body).map_err(|_| json::NotJson::Invalid.to_string())?;
        let mut items = self.items(subject, &document, &exact)?;
        if let Some(created) = &self.created {
            items = created.since_claim(subject, items)?;
        }
        let item = match items.as_slice() {
            [] => return Ok(Finding::Absent),
            [item] => item,
            [_, _, ..] => return Err("two matches".to_owned()),
        };
        let condition = match &self.state {
            None => Condition::Succeeded,
            Some(states) => states.condition(item.value)?,
        };
        match condition {
            Condition::Succeeded => Ok(Finding::Final(self.succeeded.reply(subject, item)?)),
            Condition::Accepted => Ok(Finding::Accepted),
            Condition::Failed => Ok(Finding::Final(self.failed.reply(subject, item)?)),
        }
    }

    fn items<'d>(
        &self,
        subject: &Subject,
        document: &'d Value,
        exact: &'d Node<'_>,
    ) -> Result<Vec<Item<'d>>, String> {
        let path = match &self.item {
            ItemPath::Whole => return Ok(vec![Item { value: document, raw: exact.raw }]),
            ItemPath::Fixed(path) => Cow::Borrowed(path),
            ItemPath::Rendered(template) => {
                let text = template.render(&subject.values())?;
                let path = JsonPath::parse(&text);
                Cow::Owned(path.map_err(|_| "the item's path cannot be rendered".to_owned())?)
            }
        };
        let matches = path.query_located(document).dedup();
        matches
            .iter()
            .map(|found| {
                let raw = raw_at(exact, &found.location().to_json_pointer());
                Ok(Item { value: found.node(), raw: raw.ok_or("the item has no bytes")? })
            })
            .collect()
    }
}

fn raw_at<'d>(exact: &'d Node<'_>, pointer: &str) -> Option<&'d [u8]> {
    match pointer.parse::<Pointer>().ok()?.find(exact) {
        Found::One(node) => Some(node.raw),
        Found::Nothing | Found::Many => None,
    }
}

impl States {
    fn condition(&self, item: &Value) -> Result<Condition, String> {
        let state = self.path.query(item).exactly_one();
        let state = state.map_err(|_| "the state is not one value".to_owned())?;
        let text = match state {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Null => return Err("the state is null".to_owned()),
            Value::Array(_) => return Err("the state is an array".to_owned()),
            Value::Object(_) => return Err("the state is an object".to_owned()),
        };
        let lists = [
            (&self.succeeded, Condition::Succeeded),
            (&self.accepted, Condition::Accepted),
            (&self.failed, Condition::Failed),
        ];
        let named = lists.into_iter().find(|(values, _)| values.contains(&text));
        named.map(|(_, condition)| condition).ok_or_else(|| unnamed(state))
    }
}

/// Tells a state that looks like one, and else only its type: it may be anything.
fn unnamed(state: &Value) -> String {
    let plain = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'-'))
    };
    match state.as_str() {
        Some(text) if plain(text) => {
            format!("no rule names the state {:?}", &text[..text.len().min(TOLD_MAX)])
        }
        Some(_) => "no rule names the state, a text".to_owned(),
        None => "no rule names the state, which is not a text".to_owned(),
    }
}

impl Created {
    /// Leaves out what is older than the claim.
    fn since_claim<'d>(
        &self,
        subject: &Subject,
        items: Vec<Item<'d>>,
    ) -> Result<Vec<Item<'d>>, String> {
        let since = subject.sent_at_unix().saturating_sub(self.skew.as_secs());
        let mut kept = vec![];
        for item in items {
            let created = self.path.query(item.value).exactly_one().ok();
            let created = created.and_then(|created| self.unit.seconds(created));
            if created.ok_or("the time of creation cannot be read")? >= i128::from(since) {
                kept.push(item);
            }
        }
        Ok(kept)
    }
}

impl TimeUnit {
    /// Whole seconds since 1970, rounded down.
    fn seconds(self, value: &Value) -> Option<i128> {
        match self {
            Self::Unix => {
                let text = match value {
                    Value::Number(number) => number.to_string(),
                    Value::String(text) => text.clone(),
                    Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                        return None;
                    }
                };
                let whole = text.split_once('.').map_or(text.as_str(), |(whole, _)| whole);
                whole.parse().ok()
            }
            Self::Rfc3339 => rfc3339(value.as_str()?),
        }
    }
}

fn rfc3339(text: &str) -> Option<i128> {
    let (local, offset) = match text.strip_suffix(['Z', 'z']) {
        Some(local) => (local, 0),
        None => {
            let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
            let sign = match offset.as_bytes()[0] {
                b'+' => 1,
                b'-' => -1,
                _ => return None,
            };
            let (hours, minutes) = offset[1..].split_once(':')?;
            let (hours, minutes): (u8, u8) = (hours.parse().ok()?, minutes.parse().ok()?);
            (local, sign * (i128::from(hours) * 3600 + i128::from(minutes) * 60))
        }
    };
    let time = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let seconds = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(i128::from(seconds) - offset)
}

impl Answer {
    fn template(&self) -> Option<&Template> {
        match &self.body {
            AnswerBody::Rendered(template) => Some(template),
            AnswerBody::Item => None,
        }
    }

    fn reply(&self, subject: &Subject, item: &Item<'_>) -> Result<Reply, String> {
        let body = match &self.body {
            AnswerBody::Item => Bytes::copy_from_slice(item.raw),
            AnswerBody::Rendered(template) => {
                let values = Values { item: Some(item.value), ..subject.values() };
                let text = template.render(&values).map_err(|why| format!("reply: {why}"))?;
                json::parse(text.as_bytes()).map_err(|why| format!("reply: {why}"))?;
                text.into()
            }
        };
        Ok(Reply { status: self.status, headers: self.headers.clone(), body })
    }
}
