//! What is said over the connection: scripts, how they are called, and how their answers are read.
//!
//! Every call has a name of its own that its answer brings back. The protocol has no such thing,
//! and an answer that slipped by one place would be another operation's.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use redis::{Cmd, Value};

use super::connection::{Call, Connection};
use crate::protocol::id::{RecordKey, StoreId, Token};
use crate::store::{Charter, Refusal, StoreError, Stored};

macro_rules! script {
    ($name:ident, $file:literal, $flags:literal) => {
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new($flags, include_str!($file)));
    };
}

// Reading scripts are not declared read-only: a replica then refuses them, and what it would have
// said may be out of date. Only a claim needs room.
script!(CLAIM, "swap.lua", "");
script!(RECORD, "swap.lua", "flags=allow-oom");
script!(LOAD, "load.lua", "flags=allow-oom");
script!(DUE, "due.lua", "flags=allow-oom");
script!(LIST, "list.lua", "flags=allow-oom");
script!(CHARTER, "charter.lua", "flags=allow-oom");
script!(FOUND, "found.lua", "");
script!(AMEND, "amend.lua", "flags=allow-oom");

/// A script with the name that Redis has for it.
#[derive(Debug)]
pub(super) struct Script {
    text: String,
    digest: String,
}

impl Script {
    fn new(flags: &str, body: &str) -> Self {
        let shebang = format!("#!lua {flags}");
        let text = format!("{}\n{}{body}", shebang.trim_end(), include_str!("head.lua"));
        let digest = redis::Script::new(&text).get_hash().to_owned();
        Self { text, digest }
    }

    fn command(&self, verb: &str, script: &str, ask: &Ask<'_>, call: &CallName) -> Cmd {
        let mut command = redis::cmd(verb);
        command.arg(script).arg(ask.keys.len()).arg(ask.keys).arg(call.as_slice());
        for argument in ask.arguments {
            command.arg(*argument);
        }
        command
    }
}

/// What a script is called with, beside the call's name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) keys: &'a [&'a str],
    pub(super) arguments: &'a [&'a [u8]],
}

type CallName = [u8; 16];

/// Draws names for calls: one number per process and store, one per call.
#[derive(Debug)]
pub(super) struct CallNames {
    store: u64,
    next: AtomicU64,
}

impl CallNames {
    pub(super) fn new() -> Self {
        Self { store: rand::random(), next: AtomicU64::new(0) }
    }

    fn draw(&self) -> CallName {
        let call = self.next.fetch_add(1, Ordering::Relaxed);
        let mut name = [0; 16];
        name[..8].copy_from_slice(&self.store.to_be_bytes());
        name[8..].copy_from_slice(&call.to_be_bytes());
        name
    }
}

/// What a script answered, after its answer was found to be ours.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) verdict: Verdict,
    pub(super) charter: Option<Charter>,
    pub(super) count: u64,
    pub(super) rest: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It did what it was asked.
    Done,
    /// Another write was there.
    Lost,
    /// The charter or the count did not fit.
    Fenced,
    /// There is a charter, or are records, already.
    InUse,
    /// The charter is not the one that was to be replaced.
    Other,
    /// What is under the key was not left by a swap.
    Damaged,
}

impl Verdict {
    fn read(value: &Value) -> Option<Self> {
        Some(match text(value)? {
            b"done" => Self::Done,
            b"lost" => Self::Lost,
            b"fenced" => Self::Fenced,
            b"in use" => Self::InUse,
            b"other" => Self::Other,
            b"damaged" => Self::Damaged,
            _ => return None,
        })
    }
}

/// Runs a script and checks that the answer is the answer to this call.
///
/// # Errors
/// Any [`StoreError`]; `Refused(Unfit)` for a record that is there and unreadable.
pub(super) async fn run(
    connection: &Connection,
    names: &CallNames,
    script: &Script,
    ask: Ask<'_>,
) -> Result<Answer, StoreError> {
    let call = connection.begin().await?;
    let name = names.draw();
    let value = send(&call, script, &ask, &name).await?;
    let Some(answer) = Answer::read(value, &name) else {
        call.distrust();
        let why = "the answer belongs to another question".to_owned();
        return Err(StoreError::Unconfirmed(why));
    };
    if answer.verdict == Verdict::Damaged {
        let why = "something that semel did not write is under one of its keys".to_owned();
        return Err(Refusal::Unfit(why).into());
    }
    Ok(answer)
}

async fn send(
    call: &Call<'_>,
    script: &Script,
    ask: &Ask<'_>,
    name: &CallName,
) -> Result<Value, StoreError> {
    match call.ask(&script.command("EVALSHA", &script.digest, ask, name)).await {
        Ok(value) => Ok(value),
        // Redis forgets scripts when it restarts. It ran nothing, so asking again is safe.
        Err(failure) if failure.no_script => {
            let command = script.command("EVAL", &script.text, ask, name);
            call.ask(&command).await.map_err(|failure| failure.error)
        }
        Err(failure) => Err(failure.error),
    }
}

impl Answer {
    fn read(value: Value, name: &CallName) -> Option<Self> {
        let [echo, verdict, identity, generation, rules, secret_check, count, rest] =
            array::<8>(value)?;
        if text(&echo)? != name {
            return None;
        }
        let count = number(&count);
        let charter = charter(&identity, &generation, &rules, &secret_check);
        Some(Self {
            verdict: Verdict::read(&verdict)?,
            // Without a count there is no telling whether writes were lost.
            charter: charter.filter(|_| count.is_some()),
            count: count.unwrap_or_default(),
            rest,
        })
    }
}

fn charter(identity: &Value, generation: &Value, rules: &Value, check: &Value) -> Option<Charter> {
    Some(Charter {
        identity: StoreId::new(text(identity)?.try_into().ok()?),
        generation: str::from_utf8(text(generation)?).ok()?.parse().ok()?,
        rules: text(rules)?.try_into().ok()?,
        secret_check: text(check)?.try_into().ok()?,
    })
}

/// Reads what the scripts show of a record. `None`: not in that form.
pub(super) fn stored(value: Value) -> Option<Stored> {
    let [token, bytes, age] = array::<3>(value)?;
    let Value::BulkString(bytes) = bytes else { return None };
    Some(Stored {
        token: Token::from_bytes(text(&token)?)?,
        bytes: Bytes::from(bytes),
        age: std::time::Duration::from_millis(number(&age)?),
    })
}

/// Reads a list of keys and records.
pub(super) fn entries(value: Value) -> Option<Vec<(RecordKey, Stored)>> {
    let Value::Array(values) = value else { return None };
    values.into_iter().map(entry).collect()
}

fn entry(value: Value) -> Option<(RecordKey, Stored)> {
    let [key, record] = array::<2>(value)?;
    Some((RecordKey::from_hex(str::from_utf8(text(&key)?).ok()?)?, stored(record)?))
}

pub(super) fn array<const N: usize>(value: Value) -> Option<[Value; N]> {
    let Value::Array(values) = value else { return None };
    values.try_into().ok()
}

pub(super) fn text(value: &Value) -> Option<&[u8]> {
    if let Value::BulkString(bytes) = value { Some(bytes) } else { None }
}

pub(super) fn number(value: &Value) -> Option<u64> {
    if let Value::Int(number) = value { u64::try_from(*number).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(name: &[u8]) -> Value {
        let mut values =
            vec![Value::BulkString(name.to_vec()), Value::BulkString(b"done".to_vec())];
        values.resize(8, Value::Nil);
        Value::Array(values)
    }

    #[test]
    fn an_answer_to_another_call_is_not_read() {
        let names = CallNames::new();
        let (one, two) = (names.draw(), names.draw());

        assert!(Answer::read(answer(&one), &one).is_some());
        assert!(Answer::read(answer(&one), &two).is_none());
        assert!(Answer::read(Value::Okay, &one).is_none());
    }

    #[test]
    fn a_charter_without_a_count_is_none() {
        let name = CallNames::new().draw();
        let mut values = vec![
            Value::BulkString(name.to_vec()),
            Value::BulkString(b"done".to_vec()),
            Value::BulkString(vec![1; 16]),
            Value::BulkString(b"1".to_vec()),
            Value::BulkString(vec![2; 32]),
            Value::BulkString(vec![3; 16]),
            Value::Int(7),
            Value::Nil,
        ];
        assert!(Answer::read(Value::Array(values.clone()), &name).unwrap().charter.is_some());

        values[6] = Value::Nil;

        assert!(Answer::read(Value::Array(values), &name).unwrap().charter.is_none());
    }
}
