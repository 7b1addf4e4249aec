//! A store in Redis 7.0 or later, or Valkey, for many processes.
//!
//! Every operation is one script, so it happens at one instant. Nothing has a TTL. All keys share
//! one hash tag, hence one slot:
//!
//! | Key | Holds |
//! |---|---|
//! | `{semel}:meta` | the charter, and the count of swaps |
//! | `{semel}:r:<key>` | a record: when it was written, token, tag, content |
//! | `{semel}:agenda` | every key by its due time, in milliseconds of Redis' clock |
//! | `{semel}:index` | `<tag><key>` of what has a tag, in lexicographical order |
//!
//! Read on in [`connection`] (deadlines, reconnects, what an error proves), [`link`] (how calls share
//! a connection), [`script`] (calls and answers), `*.lua` (what happens in Redis), [`resp`] (what it
//! looks like on the wire), [`examine`] (is this Redis fit for the job?).

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{
    Agenda, Charter, Examination, Fence, Listing, Page, Purpose, Refusal, Store, StoreError,
    Stored, Swap, Swapped, Tag, Write, fence,
};
use crate::protocol::id::{RecordKey, Token};

mod connection;
mod examine;
mod link;
mod resp;
mod script;

use connection::Connection;
use resp::Reply;
use script::{Answer, Ask, CallNames, Script, Verdict};

/// How many entries one answer holds at most.
const PAGE_MAX: usize = 1000;

/// How many bytes of records one answer holds at most, so that it arrives within the deadline.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// How to reach Redis.
#[derive(Clone)]
pub struct Settings {
    /// `redis://user:password@host:port/db`, or `rediss://…` for TLS.
    pub url: String,
    /// What the names of all keys begin with, in braces.
    pub prefix: String,
    /// How long a call may last, reconnecting included.
    pub deadline: Duration,
    /// How long establishing a connection may last; less than `deadline`.
    pub connect_timeout: Duration,
    /// How many calls may be under way.
    pub calls_max: NonZeroUsize,
    /// How TLS is done; `None`: trusting the system's certificate authorities.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

impl Settings {
    /// The default settings for a Redis at this address.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "semel".to_owned(),
            deadline: Duration::from_millis(500),
            connect_timeout: Duration::from_millis(300),
            calls_max: NonZeroUsize::new(1024).unwrap_or(NonZeroUsize::MIN),
            tls: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("Settings").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// What is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The URL.
    #[error("the URL of the Redis store: {0}")]
    Url(&'static str),
    /// The URL turns the check of certificates off.
    #[error(
        "the URL of the Redis store turns certificate checks off; give it an authority instead"
    )]
    Insecure,
    /// There is nothing to check certificates with.
    #[error("no certificate authorities to check the Redis store's certificate with")]
    NoRoots,
    /// The prefix.
    #[error("the key prefix of the Redis store must be 1 to 64 of A-Z a-z 0-9 . _ -")]
    Prefix,
    /// The connect timeout is not below the deadline.
    #[error("the connect timeout of the Redis store must be shorter than its deadline")]
    ConnectTimeout,
}

/// The longest prefix of key names.
const PREFIX_BYTES_MAX: usize = 64;

/// The names of keys.
#[derive(Debug)]
struct Names {
    meta: String,
    agenda: String,
    index: String,
    records: String,
}

impl Names {
    fn new(prefix: &str) -> Result<Self, SettingsError> {
        let fits = (1..=PREFIX_BYTES_MAX).contains(&prefix.len())
            && prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !fits {
            return Err(SettingsError::Prefix);
        }
        let name = |last: &str| format!("{{{prefix}}}:{last}");
        Ok(Self {
            meta: name("meta"),
            agenda: name("agenda"),
            index: name("index"),
            records: name("r:"),
        })
    }

    fn record(&self, key: RecordKey) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut name = String::with_capacity(self.records.len() + 2 * RecordKey::LEN);
        name.push_str(&self.records);
        for byte in key.as_bytes() {
            for digit in [byte >> 4, byte & 15] {
                name.push(char::from(DIGITS[usize::from(digit)]));
            }
        }
        name
    }
}

/// A store in Redis.
pub struct RedisStore {
    fence: Fence,
    names: Names,
    calls: CallNames,
    connection: Connection,
    evictions: examine::Evictions,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("peer", &self.connection.peer()).finish_non_exhaustive()
    }
}

impl RedisStore {
    /// Takes the settings. The connection is established by the first call that needs it.
    ///
    /// # Errors
    /// [`SettingsError`], which says what is wrong with the settings.
    pub fn connect(settings: &Settings) -> Result<Self, SettingsError> {
        Ok(Self {
            fence: Fence::default(),
            names: Names::new(settings.prefix.trim_end_matches(':'))?,
            calls: CallNames::new(),
            connection: Connection::new(settings)?,
            evictions: examine::Evictions::default(),
        })
    }

    async fn run(
        &self,
        script: &Script,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Answer, StoreError> {
        script::run(&self.connection, &self.calls, script, Ask { keys, arguments }).await
    }

    /// Runs a script that looks at the fence first. Calls overtake each other, so the answer is held
    /// against what was known when it was asked, not against what is known by the time it is read.
    async fn fenced(
        &self,
        purpose: Option<Purpose>,
        script: &Script,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Answer, StoreError> {
        let asked = self.fence.as_of_now();
        let charter = asked.charter().ok_or(Refusal::NotFounded)?;
        let (charter, seen) = (script::charter_bytes(&charter), asked.seen().to_string());
        let mut words: Vec<&[u8]> = Vec::with_capacity(2 + arguments.len());
        words.extend([&charter, seen.as_bytes()]);
        words.extend(arguments);
        let answer = self.run(script, keys, &words).await?;
        if let Verdict::Fenced | Verdict::Layout = answer.verdict {
            let theirs = answer.charter();
            let known = theirs.as_ref().ok().and_then(Option::as_ref);
            // Whatever it is, it is not what this process was bound to: the fence hears of it.
            let admitted = asked.admit(purpose, known, answer.count);
            theirs?;
            admitted?;
            return Err(unreadable());
        }
        self.fence.saw(answer.count);
        Ok(answer)
    }

    /// A full Redis does not even look at a claim. Whoever holds the key already is told all the
    /// same, so that settled answers are still replayed.
    async fn look_instead(&self, swap: &Swap) -> Result<Swapped, StoreError> {
        match self.load(swap.key).await? {
            Some(stored) if stored.token == swap.token => Ok(Swapped::Done),
            Some(stored) if Some(stored.token) != swap.expected => Ok(Swapped::Lost(Some(stored))),
            None if swap.expected.is_some() => Ok(Swapped::Lost(None)),
            Some(_) | None => Err(Refusal::Full.into()),
        }
    }

    async fn ask_swap(
        &self,
        swap: &Swap,
        beside: Option<RecordKey>,
    ) -> Result<(Swapped, Option<Stored>), StoreError> {
        let record = self.names.record(swap.key);
        let beside = beside.map(|key| self.names.record(key));
        let mut keys = Vec::with_capacity(5);
        keys.extend([&self.names.meta, &self.names.agenda, &self.names.index].map(String::as_str));
        keys.push(&record);
        keys.extend(beside.as_deref());
        let expected = swap.expected.map(Token::to_bytes);
        let token = swap.token.to_bytes();
        let (due, put) = match &swap.write {
            Write::Put { bytes, due, tag } => (*due, [&token, &[tag.0][..], bytes].concat()),
            Write::Purge => (None, token.to_vec()),
        };
        let due = due.map(|due| due.as_millis().to_string()).unwrap_or_default();
        let expected = expected.as_ref().map_or(&[][..], |token| token);
        let script = match swap.purpose {
            Purpose::Claim => &script::CLAIM,
            Purpose::Record => &script::RECORD,
        };
        let arguments = [expected, due.as_bytes(), &put];
        let answer = self.fenced(Some(swap.purpose), script, &keys, &arguments).await?;
        match answer.verdict {
            Verdict::Done => Ok((Swapped::Done, shown(&answer)?)),
            Verdict::Lost => Ok((Swapped::Lost(shown(&answer)?), None)),
            Verdict::Fenced
            | Verdict::InUse
            | Verdict::Other
            | Verdict::Damaged
            | Verdict::Layout => Err(unreadable()),
        }
    }
}

/// What a script shows of a record, if there is one.
fn shown(answer: &Answer) -> Result<Option<Stored>, StoreError> {
    if answer.rest.is_empty() {
        return Ok(None);
    }
    script::stored(&answer.rest, answer.clock).map(Some).ok_or_else(unreadable)
}

/// An answer that no script of ours gives: nothing can be concluded from it.
fn unreadable() -> StoreError {
    StoreError::Unconfirmed("the answer cannot be read".to_owned())
}

/// What failed after the swap was found done.
fn unconfirmed(error: StoreError) -> StoreError {
    StoreError::Unconfirmed(error.to_string())
}

fn within_page(limit: usize) -> String {
    limit.clamp(1, PAGE_MAX).to_string()
}

#[async_trait]
impl Store for RedisStore {
    async fn swap(&self, swap: &Swap) -> Result<Swapped, StoreError> {
        match self.ask_swap(swap, None).await {
            Err(StoreError::Refused(Refusal::Full)) if swap.purpose == Purpose::Claim => {
                self.look_instead(swap).await
            }
            answer => answer.map(|(swapped, _)| swapped),
        }
    }

    async fn swap_and_load(
        &self,
        swap: &Swap,
        beside: RecordKey,
    ) -> Result<(Swapped, Option<Stored>), StoreError> {
        match self.ask_swap(swap, Some(beside)).await {
            Err(StoreError::Refused(Refusal::Full)) if swap.purpose == Purpose::Claim => {
                let swapped = self.look_instead(swap).await?;
                let stored = match swapped {
                    Swapped::Done => self.load(beside).await.map_err(unconfirmed)?,
                    Swapped::Lost(_) => None,
                };
                Ok((swapped, stored))
            }
            answer => answer,
        }
    }

    async fn load(&self, key: RecordKey) -> Result<Option<Stored>, StoreError> {
        let keys = [self.names.meta.as_str(), &self.names.record(key)];
        let answer = self.fenced(None, &script::LOAD, &keys, &[]).await?;
        shown(&answer)
    }

    async fn due(&self, limit: usize) -> Result<Agenda, StoreError> {
        let (limit, bytes) = (within_page(limit), PAGE_BYTES_MAX.to_string());
        let keys = [self.names.meta.as_str(), &self.names.agenda];
        let arguments = [self.names.records.as_bytes(), limit.as_bytes(), bytes.as_bytes()];
        let answer = self.fenced(None, &script::DUE, &keys, &arguments).await?;
        Ok(Agenda {
            clock: Duration::from_millis(answer.clock),
            due: script::entries(answer.items, answer.clock).ok_or_else(unreadable)?,
        })
    }

    async fn list(&self, listing: &Listing) -> Result<Page, StoreError> {
        let (limit, bytes) = (within_page(listing.limit), PAGE_BYTES_MAX.to_string());
        let tag = listing.tag.map(|Tag(tag)| format!("{tag:02x}")).unwrap_or_default();
        let after = listing.after.as_deref().unwrap_or_default();
        let keys = [self.names.meta.as_str(), &self.names.agenda, &self.names.index];
        let arguments = [
            self.names.records.as_bytes(),
            limit.as_bytes(),
            bytes.as_bytes(),
            tag.as_bytes(),
            after.as_bytes(),
        ];
        let mut answer = self.fenced(None, &script::LIST, &keys, &arguments).await?;
        if answer.items.is_empty() {
            return Err(unreadable());
        }
        let Reply::Text(next) = answer.items.remove(0) else { return Err(unreadable()) };
        let next = Some(String::from_utf8_lossy(&next).into_owned());
        let entries = script::entries(answer.items, answer.clock).ok_or_else(unreadable)?;
        Ok(Page { entries, next: next.filter(|next| !next.is_empty()) })
    }

    async fn charter(&self) -> Result<Option<Charter>, StoreError> {
        self.run(&script::CHARTER, &[&self.names.meta], &[]).await?.charter()
    }

    async fn found(&self, charter: &Charter) -> Result<(), StoreError> {
        let keys = [self.names.meta.as_str(), self.names.agenda.as_str()];
        let charter = script::charter_bytes(charter);
        match self.run(&script::FOUND, &keys, &[&charter]).await?.verdict {
            Verdict::Done => Ok(()),
            Verdict::InUse => Err(Refusal::AlreadyFounded.into()),
            Verdict::Layout => Err(script::other_layout()),
            Verdict::Lost | Verdict::Fenced | Verdict::Other | Verdict::Damaged => {
                Err(unreadable())
            }
        }
    }

    async fn amend(&self, from: Option<&Charter>, to: &Charter) -> Result<(), StoreError> {
        let (leap, to) = (fence::COUNT_LEAP.to_string(), script::charter_bytes(to));
        let from = from.map(script::charter_bytes);
        let from = from.as_ref().map_or(&[][..], |from| from);
        let arguments = [&to[..], leap.as_bytes(), from];
        match self.run(&script::AMEND, &[&self.names.meta], &arguments).await?.verdict {
            Verdict::Done => Ok(()),
            Verdict::Other => Err(Refusal::OtherIdentity.into()),
            Verdict::Layout => Err(script::other_layout()),
            Verdict::Lost | Verdict::Fenced | Verdict::InUse | Verdict::Damaged => {
                Err(unreadable())
            }
        }
    }

    fn fence(&self) -> &Fence {
        &self.fence
    }

    async fn examine(&self) -> Result<Examination, StoreError> {
        let generation = self.fence.charter().map(|charter| charter.generation);
        let findings = examine::ask(&self.connection, &self.names.agenda).await?;
        Ok(examine::judge(&findings, &self.evictions, generation, &self.connection.peer()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let settings = |url: &str, prefix: &str| {
            let settings = Settings { prefix: prefix.to_owned(), ..Settings::new(url) };
            RedisStore::connect(&settings).map(|_| ())
        };

        assert_eq!(settings("redis://127.0.0.1", "semel:"), Ok(()));
        assert_eq!(settings("redis://127.0.0.1", "{a}"), Err(SettingsError::Prefix));
        assert_eq!(settings("redis://127.0.0.1", ""), Err(SettingsError::Prefix));
        assert!(matches!(settings("http://127.0.0.1", "semel"), Err(SettingsError::Url(_))));
        let slow = Settings {
            connect_timeout: Duration::from_secs(1),
            ..Settings::new("redis://127.0.0.1")
        };
        assert_eq!(RedisStore::connect(&slow).map(|_| ()), Err(SettingsError::ConnectTimeout));
    }

    #[test]
    fn a_record_is_named_by_its_key() {
        let key = RecordKey::new([0x0f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xf0]);

        let name = Names::new("a").unwrap().record(key);

        assert_eq!(name, format!("{{a}}:r:{key}"));
    }

    #[test]
    fn nothing_shows_the_password() {
        let settings = Settings::new("redis://semel:hunter2@127.0.0.1");
        let store = RedisStore::connect(&settings).unwrap();

        assert!(!format!("{settings:?} {store:?}").contains("hunter2"));
    }
}
