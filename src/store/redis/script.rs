//! What is said over the connection: scripts, how they are called, and how their answers are read.
//!
//! Every call has a name of its own that its answer brings back. The protocol has no such thing,
//! and an answer that slipped by one place would be another operation's.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf as _, Bytes};

use super::connection::{Call, Connection, Failure};
use super::resp::Reply;
use crate::protocol::id::{RecordKey, StoreId, Token};
use crate::store::{Charter, Refusal, StoreError, Stored};

macro_rules! script {
    ($name:ident, $flags:literal, $($part:expr),+) => {
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new($flags, &[include_str!("head.lua"), $($part),+]));
    };
}

const CLAIMS: &str = "local CLAIM = true\n";
const NO_CLAIM: &str = "local CLAIM = false\n";
const FENCE: &str = include_str!("fence.lua");

// Reading scripts are not declared read-only: a replica then refuses them, and what it would have
// said may be out of date. Only a claim needs room.
script!(CLAIM, "", CLAIMS, FENCE, include_str!("swap.lua"));
script!(RECORD, "flags=allow-oom", NO_CLAIM, FENCE, include_str!("swap.lua"));
script!(LOAD, "flags=allow-oom", NO_CLAIM, FENCE, include_str!("load.lua"));
script!(DUE, "flags=allow-oom", NO_CLAIM, FENCE, include_str!("due.lua"));
script!(LIST, "flags=allow-oom", NO_CLAIM, FENCE, include_str!("list.lua"));
script!(CHARTER, "flags=allow-oom", include_str!("charter.lua"));
script!(FOUND, "", include_str!("found.lua"));
script!(AMEND, "flags=allow-oom", include_str!("amend.lua"));

/// A script with the name that Redis has for it.
#[derive(Debug)]
pub(super) struct Script {
    text: String,
    digest: String,
}

impl Script {
    fn new(flags: &str, parts: &[&str]) -> Self {
        let shebang = format!("#!lua {flags}");
        let text = format!("{}\n{}", shebang.trim_end(), parts.concat());
        let digest = redis::Script::new(&text).get_hash().to_owned();
        Self { text, digest }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// What a script is called with, beside the call's name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) keys: &'a [&'a str],
    pub(super) arguments: &'a [&'a [u8]],
}

impl Ask<'_> {
    async fn send(
        &self,
        call: &Call<'_>,
        verb: &str,
        script: &str,
        name: &CallName,
    ) -> Result<Reply, Failure> {
        let keys_count = self.keys.len().to_string();
        let mut words: Vec<&[u8]> = Vec::with_capacity(4 + self.keys.len() + self.arguments.len());
        words.extend([verb.as_bytes(), script.as_bytes(), keys_count.as_bytes()]);
        words.extend(self.keys.iter().map(|key| key.as_bytes()));
        words.push(name);
        words.extend(self.arguments);
        call.ask(&words).await
    }
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
    pub(super) count: u64,
    /// Redis' clock in milliseconds, if records are shown.
    pub(super) clock: u64,
    /// What was asked for.
    pub(super) rest: Bytes,
    /// And what was asked for if it is several things.
    pub(super) items: Vec<Reply>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It did what it was asked.
    Done,
    /// Another write was there.
    Lost,
    /// The charter or the count did not fit; the rest is the charter.
    Fenced,
    /// There is a charter, or are records, already.
    InUse,
    /// The charter is not the one that was to be replaced.
    Other,
    /// What is under the key was not left by a swap.
    Damaged,
    /// Another version of semel has laid out what is there.
    Layout,
}

impl Verdict {
    const fn read(letter: u8) -> Option<Self> {
        Some(match letter {
            b'd' => Self::Done,
            b'l' => Self::Lost,
            b'f' => Self::Fenced,
            b'u' => Self::InUse,
            b'o' => Self::Other,
            b'x' => Self::Damaged,
            b'y' => Self::Layout,
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
    let reply = match ask.send(&call, "EVALSHA", &script.digest, &name).await {
        // Redis forgets scripts when it restarts. It ran nothing, so asking again is safe.
        Err(failure) if failure.no_script => ask.send(&call, "EVAL", &script.text, &name).await,
        other => other,
    };
    let Some(answer) = Answer::read(reply.map_err(|failure| failure.error)?, &name) else {
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

/// What is there cannot be read, and must not be taken for absent.
pub(super) fn other_layout() -> StoreError {
    let why = "another version of semel has laid out its records; use that version, or a store \
               of its own for this one";
    Refusal::Unfit(why.to_owned()).into()
}

impl Answer {
    fn read(reply: Reply, name: &CallName) -> Option<Self> {
        let (head, items) = match reply {
            Reply::Text(head) => (head, Vec::new()),
            Reply::List(mut items) if !items.is_empty() => {
                let Reply::Text(head) = items.remove(0) else { return None };
                (head, items)
            }
            Reply::List(_) | Reply::Number(_) | Reply::Nothing | Reply::Refused(_) => return None,
        };
        let mut rest = Bytes::from(head);
        if !rest.starts_with(name) || rest.len() < name.len() + 17 {
            return None;
        }
        rest.advance(name.len());
        let verdict = Verdict::read(rest.get_u8())?;
        let (count, clock) = (rest.get_u64(), rest.get_u64());
        Some(Self { verdict, count, clock, rest, items })
    }

    /// The charter that was asked for, or did not fit. `None`: there is none.
    ///
    /// # Errors
    /// `Refused(Unfit)` for a layout that this version does not know.
    pub(super) fn charter(&self) -> Result<Option<Charter>, StoreError> {
        if self.verdict == Verdict::Layout {
            return Err(other_layout());
        }
        let Some((layout, rest)) = self.rest.split_first() else { return Ok(None) };
        match charter(rest) {
            Some(charter) if *layout == LAYOUT => Ok(Some(charter)),
            Some(_) | None => Err(other_layout()),
        }
    }
}

/// How records and charter are laid out. 1 had a hash for each record; its charter is told by a
/// field that later ones do not have.
const LAYOUT: u8 = 2;

const CHARTER_BYTES: usize = 1 + StoreId::LEN + 8 + 32 + 16;

/// The form in which a charter is kept and compared: the layout, then identity, generation, rules,
/// secret check.
pub(super) fn charter_bytes(charter: &Charter) -> [u8; CHARTER_BYTES] {
    let mut bytes = [LAYOUT; CHARTER_BYTES];
    bytes[1..17].copy_from_slice(charter.identity.as_bytes());
    bytes[17..25].copy_from_slice(&charter.generation.to_be_bytes());
    bytes[25..57].copy_from_slice(&charter.rules);
    bytes[57..].copy_from_slice(&charter.secret_check);
    bytes
}

fn charter(bytes: &[u8]) -> Option<Charter> {
    let (identity, rest) = bytes.split_first_chunk()?;
    let (generation, rest) = rest.split_first_chunk()?;
    let (rules, rest) = rest.split_first_chunk()?;
    Some(Charter {
        identity: StoreId::new(*identity),
        generation: u64::from_be_bytes(*generation),
        rules: *rules,
        secret_check: rest.try_into().ok()?,
    })
}

/// What a record has in front of its content: when it was written, token, tag.
const WRITTEN_BYTES: usize = 6;
const HEAD_BYTES: usize = WRITTEN_BYTES + Token::LEN + 1;

/// Reads a record. `None`: not in that form.
pub(super) fn stored(record: &Bytes, clock: u64) -> Option<Stored> {
    let (head, _) = record.split_first_chunk::<HEAD_BYTES>()?;
    let (written, rest) = head.split_at(WRITTEN_BYTES);
    let written = written.iter().fold(0, |written, byte| written << 8 | u64::from(*byte));
    Some(Stored {
        token: Token::from_bytes(&rest[..Token::LEN])?,
        bytes: record.slice(HEAD_BYTES..),
        // A clock that went backwards makes it no younger than new.
        age: Duration::from_millis(clock.saturating_sub(written)),
    })
}

/// Reads a list of keys and records, one after the other.
pub(super) fn entries(items: Vec<Reply>, clock: u64) -> Option<Vec<(RecordKey, Stored)>> {
    let mut items = items.into_iter();
    let mut entries = Vec::with_capacity(items.len() / 2);
    while let Some(key) = items.next() {
        let (Reply::Text(key), Reply::Text(record)) = (key, items.next()?) else { return None };
        let key = RecordKey::from_hex(str::from_utf8(&key).ok()?)?;
        entries.push((key, stored(&record.into(), clock)?));
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHARTER: Charter = Charter {
        identity: StoreId::new([1; 16]),
        generation: 258,
        rules: [2; 32],
        secret_check: [3; 16],
    };

    fn reply(name: &[u8], rest: &[u8]) -> Reply {
        Reply::Text([name, b"d", &7_u64.to_be_bytes(), &9_u64.to_be_bytes(), rest].concat())
    }

    #[test]
    fn an_answer_to_another_call_is_not_read() {
        let names = CallNames::new();
        let (one, two) = (names.draw(), names.draw());

        assert_eq!(Answer::read(reply(&one, b""), &one).unwrap().count, 7);
        assert!(Answer::read(reply(&one, b""), &two).is_none());
        assert!(Answer::read(Reply::List(vec![reply(&one, b"")]), &one).is_some());
        assert!(Answer::read(Reply::List(vec![reply(&one, b"")]), &two).is_none());
        assert!(Answer::read(Reply::Text(one.to_vec()), &one).is_none());
        assert!(Answer::read(Reply::List(vec![]), &one).is_none());
    }

    #[test]
    fn a_charter_of_another_layout_is_refused_and_not_read() {
        let name = CallNames::new().draw();
        let answer = |bytes: &[u8]| Answer::read(reply(&name, bytes), &name).unwrap().charter();
        let bytes = charter_bytes(&CHARTER);
        let mut later = bytes;
        later[0] = LAYOUT + 1;

        assert_eq!(answer(&bytes), Ok(Some(CHARTER)));
        assert_eq!(answer(b""), Ok(None));
        for unknown in [&later[..], &bytes[1..], &[&bytes[..], b"x"].concat()] {
            assert!(matches!(answer(unknown), Err(StoreError::Refused(Refusal::Unfit(_)))));
        }
    }

    #[test]
    fn a_record_is_read_in_full_or_not_at_all() {
        let token = Token::from_bytes(&[9; Token::LEN]).unwrap();
        let record = [&[0, 0, 0, 0, 1, 2][..], &token.to_bytes(), &[4], b"content"].concat();
        let read = |bytes: &[u8], clock| stored(&Bytes::copy_from_slice(bytes), clock);

        let stored = read(&record, 260).unwrap();
        assert_eq!((stored.token, &stored.bytes[..]), (token, &b"content"[..]));
        assert_eq!(stored.age, Duration::from_millis(2));
        assert_eq!(read(&record, 257).unwrap().age, Duration::ZERO, "the clock went backwards");
        assert!(read(&record[..HEAD_BYTES - 1], 260).is_none());
    }
}
