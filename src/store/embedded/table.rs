//! The tables, and every operation as SQL inside a transaction that is already open.
//!
//! Knows nothing of groups, threads or disks. See [`super::writer`] for who opens and commits.

use std::time::Duration;

use bytes::Bytes;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::protocol::id::{RecordKey, StoreId, Token};
use crate::store::{
    Agenda, Charter, Examination, Fence, Listing, Page, Purpose, Refusal, Stored, Swap, Swapped,
    Tag, Write, fence,
};

/// `PRAGMA application_id`: says that a database is ours.
pub(super) const APPLICATION: u32 = u32::from_be_bytes(*b"Smel");
/// `PRAGMA user_version`: the form of the tables.
pub(super) const FORM: u32 = 1;

// With row ids: without them, values move with every split of the tree, and 64 writers at once were
// slower by a quarter.
const TABLES: &str = "
    CREATE TABLE records (
        key BLOB NOT NULL PRIMARY KEY,
        token BLOB NOT NULL,
        bytes BLOB NOT NULL,
        written INTEGER NOT NULL,
        due INTEGER,
        tag INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX records_due ON records (due) WHERE due IS NOT NULL;
    CREATE INDEX records_tag ON records (tag, key) WHERE tag <> 0;
    CREATE TABLE meta (
        id INTEGER NOT NULL PRIMARY KEY CHECK (id = 0),
        count INTEGER NOT NULL DEFAULT 0,
        clock INTEGER NOT NULL DEFAULT 0,
        entries INTEGER NOT NULL DEFAULT 0,
        closed INTEGER NOT NULL DEFAULT 1,
        identity BLOB,
        generation INTEGER,
        rules BLOB,
        secret_check BLOB
    ) STRICT;
    INSERT INTO meta (id) VALUES (0);
";

/// Creates everything, in one transaction.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", FORM)?;
    transaction.commit()
}

/// The one row of `meta`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    /// How many swaps were done.
    pub(super) count: u64,
    /// The store's clock at the newest write.
    pub(super) clock: u64,
    /// How many records there are.
    pub(super) entries: u64,
    /// Whether the last run ended in an orderly way.
    pub(super) closed: bool,
    /// The charter, if founded.
    pub(super) charter: Option<Charter>,
}

impl Meta {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        connection
            .prepare_cached(
                "SELECT count, clock, entries, closed, identity, generation, rules, secret_check
                 FROM meta WHERE id = 0",
            )?
            .query_row([], |row| {
                let charter = row
                    .get::<_, Option<[u8; StoreId::LEN]>>(4)?
                    .map(|identity| {
                        Ok::<_, rusqlite::Error>(Charter {
                            identity: StoreId::new(identity),
                            generation: row.get::<_, i64>(5)?.cast_unsigned(),
                            rules: row.get(6)?,
                            secret_check: row.get(7)?,
                        })
                    })
                    .transpose()?;
                Ok(Self {
                    count: row.get::<_, i64>(0)?.cast_unsigned(),
                    clock: row.get::<_, i64>(1)?.cast_unsigned(),
                    entries: row.get::<_, i64>(2)?.cast_unsigned(),
                    closed: row.get(3)?,
                    charter,
                })
            })
    }

    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let charter = self.charter.as_ref();
        let changed = connection
            .prepare_cached(
                "UPDATE meta SET count = ?1, clock = ?2, entries = ?3, closed = ?4, identity = ?5,
                 generation = ?6, rules = ?7, secret_check = ?8 WHERE id = 0",
            )?
            .execute(params![
                self.count.cast_signed(),
                self.clock.cast_signed(),
                self.entries.cast_signed(),
                self.closed,
                charter.map(|charter| *charter.identity.as_bytes()),
                charter.map(|charter| charter.generation.cast_signed()),
                charter.map(|charter| charter.rules),
                charter.map(|charter| charter.secret_check),
            ])?;
        if changed == 1 { Ok(()) } else { Err(rusqlite::Error::QueryReturnedNoRows) }
    }
}

/// Why an operation was not done.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may not be.
    Refused(Refusal),
    /// The database could not.
    Database(rusqlite::Error),
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// Whether there is room to start something new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// For everything.
    Ample,
    /// Only to record what became of earlier claims.
    Reserve,
}

/// Operations that are committed together.
pub(super) struct Group<'a> {
    /// With a transaction open.
    pub(super) connection: &'a Connection,
    /// As read in this transaction, and to be written back before the commit.
    pub(super) meta: Meta,
    /// What this process believes.
    pub(super) fence: &'a Fence,
    /// The store's clock.
    pub(super) now: u64,
    /// Whether claims are taken.
    pub(super) room: Room,
    /// Looks at the condition of folder and disk, which are not the table's affair.
    pub(super) examine: &'a dyn Fn(&Meta) -> Examination,
}

impl Group<'_> {
    fn admit(&self, purpose: Option<Purpose>) -> Result<(), Refusal> {
        self.fence.admit(purpose, self.meta.charter.as_ref(), self.meta.count)
    }

    pub(super) fn swap(&mut self, swap: &Swap) -> Result<Swapped, Trouble> {
        self.admit(Some(swap.purpose))?;
        let refused = swap.purpose == Purpose::Claim && self.room == Room::Reserve;
        if refused || !self.write(swap)? {
            let current = self.stored(swap.key)?;
            let token = current.as_ref().map(|stored| stored.token);
            return match token {
                Some(token) if token == swap.token => Ok(Swapped::Done),
                _ if token != swap.expected => Ok(Swapped::Lost(current)),
                _ => Err(Refusal::Full.into()),
            };
        }
        let before = u64::from(swap.expected.is_some());
        let after = u64::from(swap.write != Write::Purge);
        self.meta.entries = (self.meta.entries + after).saturating_sub(before);
        self.meta.count += 1;
        self.meta.clock = self.now;
        Ok(Swapped::Done)
    }

    pub(super) fn swap_and_load(
        &mut self,
        swap: &Swap,
        beside: RecordKey,
    ) -> Result<(Swapped, Option<Stored>), Trouble> {
        let swapped = self.swap(swap)?;
        let stored = if swapped == Swapped::Done { self.stored(beside)? } else { None };
        Ok((swapped, stored))
    }

    /// Writes if what is there is what was expected, in one statement. Returns whether it did.
    fn write(&self, swap: &Swap) -> rusqlite::Result<bool> {
        let (key, token) = (swap.key.as_bytes(), swap.token.to_bytes());
        let expected = swap.expected.map(Token::to_bytes);
        let changed = match (&swap.write, expected) {
            (Write::Put { bytes, due, tag }, None) => self
                .connection
                .prepare_cached(
                    "INSERT INTO records (key, token, bytes, written, due, tag)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (key) DO NOTHING",
                )?
                .execute(params![key, token, &bytes[..], self.written(), self.at(*due), tag.0])?,
            (Write::Put { bytes, due, tag }, Some(expected)) => self
                .connection
                .prepare_cached(
                    "UPDATE records SET token = ?2, bytes = ?3, written = ?4, due = ?5, tag = ?6
                     WHERE key = ?1 AND token = ?7",
                )?
                .execute(params![
                    key,
                    token,
                    &bytes[..],
                    self.written(),
                    self.at(*due),
                    tag.0,
                    expected
                ])?,
            (Write::Purge, Some(expected)) => self
                .connection
                .prepare_cached("DELETE FROM records WHERE key = ?1 AND token = ?2")?
                .execute(params![key, expected])?,
            (Write::Purge, None) => usize::from(self.stored(swap.key)?.is_none()),
        };
        Ok(changed == 1)
    }

    fn written(&self) -> i64 {
        self.now.cast_signed()
    }

    /// When something is due, by the store's clock.
    fn at(&self, due: Option<Duration>) -> Option<i64> {
        due.map(|due| self.written().saturating_add(millis_up(due)))
    }

    fn stored(&self, key: RecordKey) -> rusqlite::Result<Option<Stored>> {
        self.connection
            .prepare_cached("SELECT key, token, bytes, written FROM records WHERE key = ?1")?
            .query_row([key.as_bytes()], |row| self.entry(row))
            .optional()
            .map(|entry| entry.map(|(_, stored)| stored))
    }

    pub(super) fn load(&self, key: RecordKey) -> Result<Option<Stored>, Trouble> {
        self.admit(None)?;
        Ok(self.stored(key)?)
    }

    pub(super) fn due(&self, limit: usize) -> Result<Agenda, Trouble> {
        self.admit(None)?;
        let mut query = self.connection.prepare_cached(
            "SELECT key, token, bytes, written FROM records WHERE due <= ?1 ORDER BY due LIMIT ?2",
        )?;
        let due = query
            .query_map(params![self.written(), rows(limit)], |row| self.entry(row))?
            .collect::<Result<_, _>>()?;
        Ok(Agenda { clock: Duration::from_millis(self.now), due })
    }

    pub(super) fn list(&self, listing: &Listing) -> Result<Page, Trouble> {
        self.admit(None)?;
        let after = listing.after.as_deref().and_then(RecordKey::from_hex);
        // No key is below the empty blob, so that it stands for "from the start".
        let after = after.as_ref().map_or(&[][..], |after| after.as_bytes());
        // Said twice, `tag <> 0` lets SQLite see that the partial index covers the question.
        let (condition, tag) = match listing.tag {
            None => ("?1 = 0", 0),
            Some(Tag::NONE) => ("tag = ?1", 0),
            Some(Tag(tag)) => ("tag = ?1 AND tag <> 0", tag),
        };
        let mut query = self.connection.prepare_cached(&format!(
            "SELECT key, token, bytes, written FROM records
             WHERE {condition} AND key > ?2 ORDER BY key LIMIT ?3"
        ))?;
        let limit = listing.limit.saturating_add(1);
        let mut entries = query
            .query_map(params![tag, after, rows(limit)], |row| self.entry(row))?
            .collect::<Result<Vec<_>, _>>()?;
        let more = entries.len() > listing.limit;
        entries.truncate(listing.limit);
        let next = entries.last().filter(|_| more).map(|(key, _)| key.to_string());
        Ok(Page { entries, next })
    }

    pub(super) fn found(&mut self, charter: &Charter) -> Result<(), Trouble> {
        if self.meta.charter.is_some() {
            return Err(Refusal::AlreadyFounded.into());
        }
        self.meta.charter = Some(*charter);
        Ok(())
    }

    pub(super) fn amend(&mut self, from: Option<&Charter>, to: &Charter) -> Result<(), Trouble> {
        if self.meta.charter.as_ref() != from {
            return Err(Refusal::OtherIdentity.into());
        }
        self.meta.charter = Some(*to);
        self.meta.count += fence::COUNT_LEAP;
        Ok(())
    }

    pub(super) fn examine(&self) -> Examination {
        (self.examine)(&self.meta)
    }

    fn entry(&self, row: &Row<'_>) -> rusqlite::Result<(RecordKey, Stored)> {
        let written = row.get::<_, i64>(3)?.cast_unsigned();
        let stored = Stored {
            token: token(row, 1)?,
            bytes: Bytes::from(row.get::<_, Vec<u8>>(2)?),
            age: Duration::from_millis(self.now.saturating_sub(written)),
        };
        Ok((RecordKey::new(row.get(0)?), stored))
    }
}

fn token(row: &Row<'_>, column: usize) -> rusqlite::Result<Token> {
    let bytes: [u8; Token::LEN] = row.get(column)?;
    let damaged = || rusqlite::Error::InvalidColumnType(column, "token".to_owned(), Type::Blob);
    Token::from_bytes(&bytes).ok_or_else(damaged)
}

/// Whole milliseconds, rounded up, so that nothing is due early.
fn millis_up(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
