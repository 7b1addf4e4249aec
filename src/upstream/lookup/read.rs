//! What a provider's answer says. Whatever no rule names is unclear; nothing is guessed.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use serde_json_path::JsonPath;

use super::spec::ProvisionalSpec;
use super::template::{Template, Values};
use crate::protocol::json::{self, Found, Node, Pointer};
use crate::protocol::outcome::Finding;
use crate::protocol::record::Reply;

/// How much of a value that no rule names is told.
const TOLD_MAX: usize = 32;

/// How what was found is read.
#[derive(Debug)]
pub(super) struct Reading {
    /// `None`: that it is there is all there is to know.
    pub(super) state: Option<States>,
    pub(super) succeeded: Answer,
    pub(super) failed: Answer,
}

/// An answer as JSON, read twice: once so that paths can be followed, once so that nothing is lost.
pub(super) struct Document<'b> {
    pub(super) value: Value,
    exact: Node<'b>,
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
    /// Without one, what did not fail has succeeded: it is there.
    pub(super) path: Option<JsonPath>,
    pub(super) failed_if: Option<JsonPath>,
    pub(super) succeeded: Vec<String>,
    pub(super) accepted: Vec<String>,
    pub(super) failed: Vec<String>,
    pub(super) provisional: Option<ProvisionalSpec>,
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
#[derive(Debug)]
pub(super) struct Item {
    pub(super) value: Value,
    raw: Bytes,
}

enum Condition {
    Succeeded,
    Accepted,
    Failed,
}

impl<'b> Document<'b> {
    pub(super) fn parse(body: &'b [u8]) -> Result<Self, String> {
        let exact = json::parse(body).map_err(|why| why.to_string())?;
        if exact.repeats_a_name() {
            return Err("a name is repeated in an object".to_owned());
        }
        let value = serde_json::from_slice(body).map_err(|_| json::NotJson::Invalid.to_string())?;
        Ok(Self { value, exact })
    }
}

impl ItemPath {
    pub(super) fn template(&self) -> Option<&Template> {
        match self {
            Self::Rendered(template) => Some(template),
            Self::Whole | Self::Fixed(_) => None,
        }
    }

    /// What stands there in the document.
    ///
    /// # Errors
    /// Why that cannot be said.
    pub(super) fn items(
        &self,
        values: &Values<'_>,
        document: &Document<'_>,
    ) -> Result<Vec<Item>, String> {
        let item = |value: &Value, raw: &[u8]| Item {
            value: value.clone(),
            raw: Bytes::copy_from_slice(raw),
        };
        let path = match self {
            Self::Whole => return Ok(vec![item(&document.value, document.exact.raw)]),
            Self::Fixed(path) => Cow::Borrowed(path),
            Self::Rendered(template) => {
                let text = template.render(values)?;
                let path = JsonPath::parse(&text);
                Cow::Owned(path.map_err(|_| "the item's path cannot be rendered".to_owned())?)
            }
        };
        let found = path.query_located(&document.value).dedup();
        found
            .iter()
            .map(|found| {
                let raw = raw_at(&document.exact, &found.location().to_json_pointer());
                Ok(item(found.node(), raw.ok_or("the item has no bytes")?))
            })
            .collect()
    }
}

impl Reading {
    pub(super) fn templates(&self) -> impl Iterator<Item = &Template> {
        [&self.succeeded, &self.failed].into_iter().filter_map(Answer::template)
    }

    /// Whether states mean one thing soon after the claim and another one later.
    pub(super) fn is_provisional(&self) -> bool {
        self.state.as_ref().is_some_and(|states| states.provisional.is_some())
    }

    /// What the operation's own state says, so long after its claim.
    ///
    /// # Errors
    /// Why that is unclear.
    pub(super) fn conclude(
        &self,
        values: &Values<'_>,
        item: &Item,
        age: Duration,
    ) -> Result<Finding, String> {
        let condition = match &self.state {
            None => Condition::Succeeded,
            Some(states) => states.condition(&item.value, age)?,
        };
        match condition {
            Condition::Succeeded => Ok(Finding::Final(self.succeeded.reply(values, item)?)),
            Condition::Accepted => Ok(Finding::Accepted),
            Condition::Failed => Ok(Finding::Final(self.failed.reply(values, item)?)),
        }
    }
}

/// Whether something stands at the path: not null, not false, not empty.
pub(super) fn says_something(path: &JsonPath, value: &Value) -> bool {
    path.query(value).iter().any(|found| match found {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(members) => !members.is_empty(),
    })
}

fn raw_at<'d>(exact: &'d Node<'_>, pointer: &str) -> Option<&'d [u8]> {
    match pointer.parse::<Pointer>().ok()?.find(exact) {
        Found::One(node) => Some(node.raw),
        Found::Nothing | Found::Many => None,
    }
}

impl States {
    fn condition(&self, item: &Value, age: Duration) -> Result<Condition, String> {
        if self.failed_if.as_ref().is_some_and(|path| says_something(path, item)) {
            return Ok(Condition::Failed);
        }
        let Some(path) = &self.path else { return Ok(Condition::Succeeded) };
        let state = path.query(item).exactly_one();
        let state = state.map_err(|_| "the state is not one value".to_owned())?;
        let text = match state {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Null => return Err("the state is null".to_owned()),
            Value::Array(_) => return Err("the state is an array".to_owned()),
            Value::Object(_) => return Err("the state is an object".to_owned()),
        };
        if let Some(provisional) = &self.provisional
            && provisional.values.contains(&text)
        {
            let settles = age >= provisional.time;
            let may_change = || "its state may still change".to_owned();
            return settles.then_some(Condition::Succeeded).ok_or_else(may_change);
        }
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

impl Answer {
    fn template(&self) -> Option<&Template> {
        match &self.body {
            AnswerBody::Rendered(template) => Some(template),
            AnswerBody::Item => None,
        }
    }

    fn reply(&self, values: &Values<'_>, item: &Item) -> Result<Reply, String> {
        let body = match &self.body {
            AnswerBody::Item => item.raw.clone(),
            AnswerBody::Rendered(template) => {
                let values = Values { item: Some(&item.value), ..*values };
                let text = template.render(&values).map_err(|why| format!("reply: {why}"))?;
                json::parse(text.as_bytes()).map_err(|why| format!("reply: {why}"))?;
                text.into()
            }
        };
        Ok(Reply { status: self.status, headers: self.headers.clone(), body })
    }
}
