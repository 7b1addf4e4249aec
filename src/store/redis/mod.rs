//! A store in Redis 7.0 or later, or Valkey, for many processes.
//!
//! Every operation is one script, so it happens at one instant. Nothing has a TTL. All keys share
//! one hash tag, hence one slot:
//!
//! | Key | Holds |
//! |---|---|
//! | `{semel}:meta` | the charter, and the count of swaps |
//! | `{semel}:r:<key>` | a record: token, bytes, when it was written, tag |
//! | `{semel}:agenda` | keys by due time, in milliseconds of Redis' clock |
//! | `{semel}:index` | `<tag><key>` in lexicographical order, for lists |
//!
//! Read on in [`connection`] (deadlines, reconnects, what an error proves), [`script`] (calls and
//! answers), `*.lua` (what happens in Redis), [`examine`] (is this Redis fit for the job?).

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::Value;

use super::{
    Agenda, Charter, Examination, Fence, Listing, Page, Purpose, Refusal, Store, StoreError,
    Stored, Swap, Swapped, Tag, Write, fence,
};
use crate::protocol::id::{RecordKey, Token};

mod connection;
mod examine;
mod script;

use connection::Connection;
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
        format!("{}{key}", self.records)
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

    /// What the fence says now. Calls overtake each other, so an answer is held against what was
    /// known when its question was asked, not against what is known by the time it is read.
    fn asked(&self) -> Fence {
        self.fence.as_of_now()
    }

    /// Runs a script that reads, and lets its answer through the fence.
    async fn read(
        &self,
        script: &Script,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Value, StoreError> {
        let asked = self.asked();
        let answer = self.run(script, keys, arguments).await?;
        asked.admit(None, answer.charter.as_ref(), answer.count)?;
        self.fence.saw(answer.count);
        Ok(answer.rest)
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
        let asked = self.asked();
        let charter = asked.charter().ok_or(Refusal::NotFounded)?;
        let request = SwapRequest::new(swap, &charter, asked.seen());
        let record = self.names.record(swap.key);
        let beside = beside.map(|key| self.names.record(key));
        let mut keys = vec![
            self.names.meta.as_str(),
            self.names.agenda.as_str(),
            self.names.index.as_str(),
            record.as_str(),
        ];
        keys.extend(beside.as_deref());
        let script = match swap.purpose {
            Purpose::Claim => &script::CLAIM,
            Purpose::Record => &script::RECORD,
        };
        let answer = self.run(script, &keys, &request.arguments(swap, &charter)).await?;
        asked.admit(Some(swap.purpose), answer.charter.as_ref(), answer.count)?;
        let shown = match answer.rest {
            Value::Nil => None,
            rest => Some(script::stored(rest).ok_or_else(unreadable)?),
        };
        let swapped = match answer.verdict {
            Verdict::Done => (Swapped::Done, shown),
            Verdict::Lost => (Swapped::Lost(shown), None),
            Verdict::Fenced | Verdict::InUse | Verdict::Other | Verdict::Damaged => {
                return Err(unreadable());
            }
        };
        self.fence.saw(answer.count);
        Ok(swapped)
    }
}

/// The arguments of a swap in the form in which they are sent.
struct SwapRequest {
    seen: String,
    generation: String,
    key: String,
    expected: Option<[u8; Token::LEN]>,
    token: [u8; Token::LEN],
    due: String,
    tag: String,
}

impl SwapRequest {
    fn new(swap: &Swap, charter: &Charter, seen: u64) -> Self {
        let (due, tag) = match &swap.write {
            Write::Put { due, tag, .. } => (*due, *tag),
            Write::Purge => (None, Tag::NONE),
        };
        Self {
            seen: seen.to_string(),
            generation: charter.generation.to_string(),
            key: swap.key.to_string(),
            expected: swap.expected.map(Token::to_bytes),
            token: swap.token.to_bytes(),
            due: due.map(|due| due.as_millis().to_string()).unwrap_or_default(),
            tag: tag_text(tag),
        }
    }

    fn arguments<'a>(&'a self, swap: &'a Swap, charter: &'a Charter) -> [&'a [u8]; 12] {
        let (verb, bytes): (&str, &[u8]) = match &swap.write {
            Write::Put { bytes, .. } => ("put", bytes),
            Write::Purge => ("purge", &[]),
        };
        let purpose = match swap.purpose {
            Purpose::Claim => "claim",
            Purpose::Record => "record",
        };
        [
            charter.identity.as_bytes(),
            self.seen.as_bytes(),
            purpose.as_bytes(),
            self.generation.as_bytes(),
            &charter.rules,
            self.key.as_bytes(),
            self.expected.as_ref().map_or(&[], |token| token.as_slice()),
            &self.token,
            verb.as_bytes(),
            self.due.as_bytes(),
            self.tag.as_bytes(),
            bytes,
        ]
    }
}

/// An answer that no script of ours gives: nothing can be concluded from it.
fn unreadable() -> StoreError {
    StoreError::Unconfirmed("the answer cannot be read".to_owned())
}

/// What failed after the swap was found done.
fn unconfirmed(error: StoreError) -> StoreError {
    StoreError::Unconfirmed(error.to_string())
}

fn tag_text(tag: Tag) -> String {
    format!("{:02x}", tag.0)
}

fn within_page(limit: usize) -> String {
    limit.min(PAGE_MAX).to_string()
}

/// The part of the index that a listing wants, as ZRANGEBYLEX takes it.
fn range(listing: &Listing) -> (String, String) {
    let tag = listing.tag.map(tag_text).unwrap_or_default();
    // Members are hexadecimal, and 'g' is what comes after that.
    let to = format!("({tag}g");
    let from = match &listing.after {
        Some(after) => format!("({after}"),
        None => format!("[{tag}"),
    };
    (from, to)
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
        let record = self.names.record(key);
        let rest = self.read(&script::LOAD, &[&self.names.meta, &record], &[]).await?;
        if rest == Value::Nil {
            return Ok(None);
        }
        script::stored(rest).map(Some).ok_or_else(unreadable)
    }

    async fn due(&self, limit: usize) -> Result<Agenda, StoreError> {
        let (limit, bytes) = (within_page(limit), PAGE_BYTES_MAX.to_string());
        let arguments = [self.names.records.as_bytes(), limit.as_bytes(), bytes.as_bytes()];
        let rest =
            self.read(&script::DUE, &[&self.names.meta, &self.names.agenda], &arguments).await?;
        let [clock, due] = script::array::<2>(rest).ok_or_else(unreadable)?;
        Ok(Agenda {
            clock: script::number(&clock).map(Duration::from_millis).ok_or_else(unreadable)?,
            due: script::entries(due).ok_or_else(unreadable)?,
        })
    }

    async fn list(&self, listing: &Listing) -> Result<Page, StoreError> {
        let (limit, bytes) = (within_page(listing.limit), PAGE_BYTES_MAX.to_string());
        let (from, to) = range(listing);
        let arguments = [
            self.names.records.as_bytes(),
            limit.as_bytes(),
            bytes.as_bytes(),
            from.as_bytes(),
            to.as_bytes(),
        ];
        let rest =
            self.read(&script::LIST, &[&self.names.meta, &self.names.index], &arguments).await?;
        let [entries, next] = script::array::<2>(rest).ok_or_else(unreadable)?;
        let next = script::text(&next).map(|next| String::from_utf8_lossy(next).into_owned());
        Ok(Page { entries: script::entries(entries).ok_or_else(unreadable)?, next })
    }

    async fn charter(&self) -> Result<Option<Charter>, StoreError> {
        Ok(self.run(&script::CHARTER, &[&self.names.meta], &[]).await?.charter)
    }

    async fn found(&self, charter: &Charter) -> Result<(), StoreError> {
        let generation = charter.generation.to_string();
        let arguments = charter_arguments(charter, &generation);
        let keys = [self.names.meta.as_str(), self.names.index.as_str()];
        match self.run(&script::FOUND, &keys, &arguments).await?.verdict {
            Verdict::Done => Ok(()),
            Verdict::InUse => Err(Refusal::AlreadyFounded.into()),
            Verdict::Lost | Verdict::Fenced | Verdict::Other | Verdict::Damaged => {
                Err(unreadable())
            }
        }
    }

    async fn amend(&self, from: Option<&Charter>, to: &Charter) -> Result<(), StoreError> {
        let leap = fence::COUNT_LEAP.to_string();
        let known: &[u8] = if from.is_some() { b"1" } else { b"0" };
        let from = from.unwrap_or(to);
        let (from_generation, to_generation) =
            (from.generation.to_string(), to.generation.to_string());
        let mut arguments = vec![leap.as_bytes(), known];
        arguments.extend(charter_arguments(from, &from_generation));
        arguments.extend(charter_arguments(to, &to_generation));
        match self.run(&script::AMEND, &[&self.names.meta], &arguments).await?.verdict {
            Verdict::Done => Ok(()),
            Verdict::Other => Err(Refusal::OtherIdentity.into()),
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
        let findings = examine::ask(&self.connection, &self.names.index).await?;
        Ok(examine::judge(&findings, &self.evictions, generation, &self.connection.peer()))
    }
}

fn charter_arguments<'a>(charter: &'a Charter, generation: &'a str) -> [&'a [u8]; 4] {
    [charter.identity.as_bytes(), generation.as_bytes(), &charter.rules, &charter.secret_check]
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
    fn nothing_shows_the_password() {
        let settings = Settings::new("redis://semel:hunter2@127.0.0.1");
        let store = RedisStore::connect(&settings).unwrap();

        assert!(!format!("{settings:?} {store:?}").contains("hunter2"));
    }
}
