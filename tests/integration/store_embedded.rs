//! The embedded store keeps what it acknowledged: over kills, failed syncs and full disks.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![expect(clippy::disallowed_methods, reason = "the child mode is chosen by the environment")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use rand::RngExt as _;
use semel::protocol::id::{AttemptId, RecordKey, StoreId, Token};
use semel::store::conformance::{self, Bench, CHARTER, claim, follow, purge};
use semel::store::embedded::{EmbeddedStore, OpenError, Settings};
use semel::store::{
    Charter, Purpose, Refusal, SharedStore, Store, StoreError, Stored, Swap, Swapped, Tag, Write,
};
use tempfile::TempDir;

/// Set in a child: the folder of the store that it is to write to until it is killed.
const CHILD_FOLDER: &str = "SEMEL_TEST_CHILD_FOLDER";
/// Set in a child: how many operations each writer does.
const CHILD_ROUNDS: &str = "SEMEL_TEST_CHILD_ROUNDS";
/// Set in a child: how many write at the same time.
const CHILD_WRITERS: &str = "SEMEL_TEST_CHILD_WRITERS";
/// How many times the child is killed; `make soak` asks for more.
const ROUNDS: &str = "SEMEL_SOAK_ROUNDS";
const ROUNDS_DEFAULT: u32 = 10;
/// What the tests set aside for settlements.
const RESERVE: u64 = 1024 * 1024;

fn settings(folder: &Path) -> Settings {
    Settings { reserve: RESERVE, ..Settings::at(folder) }
}

fn open(folder: &Path) -> EmbeddedStore {
    EmbeddedStore::open(&settings(folder)).unwrap()
}

/// Opens a store that was founded before.
async fn reopen(folder: &Path) -> EmbeddedStore {
    let store = open(folder);
    let charter = store.charter().await.unwrap().expect("it was founded");
    store.fence().bind(charter);
    store
}

async fn found(folder: &Path) -> EmbeddedStore {
    let store = open(folder);
    store.found(&CHARTER).await.unwrap();
    store.fence().bind(CHARTER);
    store
}

fn numbered(number: u64) -> Swap {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    claim(RecordKey::new(id), Token::first(AttemptId::new(id)), b"claimed")
}

struct Folders(Mutex<Vec<TempDir>>);

#[async_trait]
impl Bench for Folders {
    async fn open(&self) -> SharedStore {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(open(folder.path()));
        self.0.lock().unwrap().push(folder);
        store
    }

    async fn advance(&self, by: Duration) {
        // The store's clock is the machine's, which nothing but time moves.
        tokio::time::sleep(by).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_store_keeps_every_promise() {
    conformance::suite(&Folders(Mutex::default()), rand::random()).await;
}

/// Passes a test by, if nobody is deceived by that: in CI a skipped test has failed.
fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "CI is set, and {why}");
    eprintln!("SKIPPED: {why}");
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = found(folder.path()).await;
    let first = numbered(1);
    store.swap(&first).await.unwrap();
    let seen = store.fence().seen();

    drop(store);
    let store = reopen(folder.path()).await;

    let stored = store.load(first.key).await.unwrap().unwrap();
    assert_eq!((stored.token, &stored.bytes[..]), (first.token, &b"claimed"[..]));
    store.swap(&follow(&first, b"settled")).await.unwrap();
    assert!(store.fence().seen() > seen, "the count goes on");
    assert_eq!(store.examine().await.unwrap().entries, Some(1));
}

#[tokio::test]
async fn another_program_cannot_open_the_database_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let store = found(folder.path()).await;
    // In a process of its own: within one, SQLite lets connections in.
    let script = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('VACUUM')";
    let database = folder.path().join("semel.db");
    let Ok(tried) = Command::new("python3").args(["-c", script]).arg(database).output() else {
        return skip("python3 is missing");
    };

    let said = String::from_utf8_lossy(&tried.stderr).into_owned();
    assert!(said.contains("locked"), "{said}");
    assert_eq!(store.swap(&numbered(1)).await, Ok(Swapped::Done));
}

#[tokio::test]
async fn a_second_process_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let _store = found(folder.path()).await;

    let refused = EmbeddedStore::open(&settings(folder.path())).unwrap_err();

    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    assert!(refused.to_string().contains(&folder.path().display().to_string()), "{refused}");
}

/// A folder whose store was founded, written to and closed, then damaged.
async fn damaged(damage: impl FnOnce(&Path)) -> (TempDir, OpenError) {
    let folder = tempfile::tempdir().unwrap();
    let store = found(folder.path()).await;
    store.swap(&numbered(1)).await.unwrap();
    drop(store);
    damage(folder.path());
    let refused = EmbeddedStore::open(&settings(folder.path())).unwrap_err();
    // Asking twice does not help.
    EmbeddedStore::open(&settings(folder.path())).unwrap_err();
    (folder, refused)
}

#[tokio::test]
async fn a_folder_that_was_in_use_and_lost_its_database_refuses_to_start() {
    let gone = |folder: &Path| std::fs::remove_file(folder.join("semel.db")).unwrap();
    let (folder, refused) = damaged(gone).await;
    assert!(matches!(refused, OpenError::Lost { .. }), "{refused}");

    let empty = |folder: &Path| std::fs::write(folder.join("semel.db"), "").unwrap();
    assert!(matches!(damaged(empty).await.1, OpenError::Lost { .. }));

    let other = |folder: &Path| {
        let foreign = tempfile::tempdir().unwrap();
        drop(open(foreign.path()));
        std::fs::copy(foreign.path().join("semel.db"), folder.join("semel.db")).unwrap();
    };
    assert!(matches!(damaged(other).await.1, OpenError::Lost { .. }));

    let accepted = Settings { accept: true, ..settings(folder.path()) };
    let store = EmbeddedStore::open(&accepted).unwrap();
    let anew = Charter { identity: StoreId::new([8; 16]), ..CHARTER };
    assert_eq!(store.amend(None, &anew).await, Ok(()));
    drop(store);
    assert_eq!(open(folder.path()).charter().await, Ok(Some(anew)), "accepting helps");
}

#[tokio::test]
async fn a_damaged_or_foreign_database_refuses_to_start() {
    let garbage = |folder: &Path| std::fs::write(folder.join("semel.db"), [7; 8192]).unwrap();
    assert!(matches!(damaged(garbage).await.1, OpenError::Database { .. }));

    let folder = tempfile::tempdir().unwrap();
    let foreign = rusqlite::Connection::open(folder.path().join("semel.db")).unwrap();
    foreign.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(foreign);
    let refused = EmbeddedStore::open(&settings(folder.path())).unwrap_err();
    assert!(matches!(refused, OpenError::Database { .. }), "{refused}");
}

#[tokio::test]
async fn a_founding_that_was_cut_short_is_taken_up_again() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let store = open(folder.path());
    assert_eq!(store.charter().await, Ok(None), "opened, killed, opened again");
    store.found(&CHARTER).await.unwrap();
    drop(store);

    // Killed between the charter and the marker.
    std::fs::remove_file(folder.path().join("semel.store")).unwrap();
    assert_eq!(open(folder.path()).charter().await, Ok(Some(CHARTER)));

    assert!(folder.path().join("semel.store").exists(), "the marker is written after all");
}

#[tokio::test]
async fn a_database_that_is_taken_away_in_use_breaks_the_store_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let store = found(folder.path()).await;
    let broken = store.broken();
    assert!(!broken.is_cancelled());

    std::fs::rename(folder.path().join("semel.db"), folder.path().join("taken")).unwrap();

    assert!(matches!(store.swap(&numbered(1)).await, Err(StoreError::Broken(_))));
    assert!(broken.is_cancelled(), "said before the answer");
    std::fs::rename(folder.path().join("taken"), folder.path().join("semel.db")).unwrap();
    assert!(matches!(store.load(numbered(1).key).await, Err(StoreError::Broken(_))));
    drop(store);
    assert_eq!(reopen(folder.path()).await.load(numbered(1).key).await, Ok(None));
}

#[tokio::test]
async fn a_full_store_refuses_claims_and_still_takes_what_became_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let size_max = Some(4 * RESERVE);
    let store = EmbeddedStore::open(&Settings { size_max, ..settings(folder.path()) }).unwrap();
    store.found(&CHARTER).await.unwrap();
    store.fence().bind(CHARTER);
    let big = Bytes::from(vec![7; 64 * 1024]);
    let put = Write::Put { bytes: big, due: None, tag: Tag::NONE };
    let filling = |number| Swap { write: put.clone(), ..numbered(number) };
    let full = Err(StoreError::Refused(Refusal::Full));

    let mut taken = 0;
    while store.swap(&filling(taken)).await == Ok(Swapped::Done) {
        taken += 1;
    }

    assert!(taken > 10, "there was room for {taken}");
    assert_eq!(store.swap(&filling(taken)).await, full);
    assert_eq!(store.examine().await.unwrap().headroom, Some(0.0));
    for number in 0..taken.min(10) {
        let settled = Swap { write: put.clone(), ..follow(&filling(number), b"") };
        assert_eq!(store.swap(&settled).await, Ok(Swapped::Done), "a settlement");
    }
    let lost = store.swap(&Swap { token: numbered(99).token, ..filling(11) }).await;
    assert!(matches!(lost, Ok(Swapped::Lost(Some(_)))), "duplicates still learn of the first");

    // Records fill the reserve too, in the end; then one refusal does not take its neighbours down.
    let records: Vec<_> = (1_000..1_100)
        .map(|number| Swap { purpose: Purpose::Record, ..filling(number) })
        .chain((10..taken).map(|number| purge(&filling(number))))
        .collect();
    let swapped =
        futures_util::future::join_all(records.iter().map(|record| store.swap(record))).await;
    assert!(swapped[..100].contains(&full), "what does not fit is refused");
    assert!(swapped[100..].iter().all(|swapped| *swapped == Ok(Swapped::Done)), "{swapped:?}");
    assert!(!store.broken().is_cancelled(), "a full store is not a broken one");
}

// What follows runs a child: this very test binary, in the mode below.

/// Not a test, unless it is the child of one: claims, settles and purges until it is killed, and
/// prints a line for each write once it is acknowledged.
#[tokio::test]
async fn child_that_writes_until_it_is_killed() {
    let Ok(folder) = std::env::var(CHILD_FOLDER) else { return };
    let number = |name| std::env::var(name).ok().map(|number| number.parse::<u64>().unwrap());
    let store = reopen(Path::new(&folder)).await;
    let rounds = number(CHILD_ROUNDS).unwrap_or(u64::MAX);
    let writers = (0..number(CHILD_WRITERS).unwrap_or(8)).map(|_| write_on(&store, rounds));
    futures_util::future::join_all(writers).await;
}

async fn write_on(store: &EmbeddedStore, rounds: u64) {
    for _ in 0..rounds {
        let claimed = numbered(rand::random());
        let settled = follow(&claimed, b"settled");
        let purged = Swap { token: settled.token.next(), ..purge(&settled) };
        for (swap, what) in [(&claimed, "claimed"), (&settled, "settled"), (&purged, "purged")] {
            match store.swap(swap).await {
                Ok(Swapped::Done) => acknowledge(what, swap.key),
                Err(StoreError::Broken(_)) => {
                    acknowledge("broken", swap.key);
                    return;
                }
                Err(StoreError::Refused(Refusal::Full)) if what == "claimed" => {
                    acknowledge("refused", swap.key);
                    return;
                }
                other => panic!("{what}: {other:?}"),
            }
            if what != "purged" && rand::random_bool(0.3) {
                break;
            }
        }
    }
}

/// One line, in one write, so that whoever traces sees it whole.
fn acknowledge(what: &str, key: RecordKey) {
    let line = format!("ack {what} {key}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// The command that runs this binary as such a child.
fn child(prefix: &[&str], folder: &Path) -> Command {
    let binary = std::env::current_exe().unwrap();
    let mut words: Vec<_> = prefix.iter().map(PathBuf::from).collect();
    words.push(binary);
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .args(["--exact", "store_embedded::child_that_writes_until_it_is_killed", "--nocapture"])
        .env(CHILD_FOLDER, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// What a child acknowledged, by key: the newest word on it.
type Acknowledged = BTreeMap<RecordKey, String>;

fn note(acknowledged: &mut Acknowledged, line: &str) -> bool {
    let mut words = line.split_whitespace();
    let (Some("ack"), Some(what), Some(key)) = (words.next(), words.next(), words.next()) else {
        return false;
    };
    let Some(key) = RecordKey::from_hex(key) else { return false };
    if !["broken", "refused"].contains(&what) {
        acknowledged.insert(key, what.to_owned());
    }
    true
}

/// Reads acknowledgements until `enough`, then kills the child, and reads what it still said.
fn kill_after(mut child: Child, enough: usize, acknowledged: &mut Acknowledged) {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut heard = 0;
    while heard < enough {
        let line = lines.next().expect("the child writes until it is killed").unwrap();
        heard += usize::from(note(acknowledged, &line));
    }
    child.kill().unwrap();
    for line in lines.map_while(Result::ok) {
        note(acknowledged, &line);
    }
    child.wait().unwrap();
}

/// Every acknowledged write is there, or one that came after it.
async fn verify(folder: &Path, acknowledged: &Acknowledged) {
    let store = reopen(folder).await;
    for (key, what) in acknowledged {
        let found = store.load(*key).await.unwrap();
        let found = found.as_ref().map(|stored: &Stored| &stored.bytes[..]);
        let kept = match what.as_str() {
            // The next write of the same key may have been done and not yet acknowledged.
            "claimed" => found == Some(b"claimed") || found == Some(b"settled"),
            "settled" => found == Some(b"settled") || found.is_none(),
            "purged" => found.is_none(),
            other => panic!("{other}"),
        };
        assert!(kept, "{key} was acknowledged as {what}, and now is {found:?}");
    }
}

#[tokio::test]
async fn every_acknowledged_write_survives_a_kill_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    drop(found(folder.path()).await);
    let rounds = std::env::var(ROUNDS).map_or(ROUNDS_DEFAULT, |rounds| rounds.parse().unwrap());
    let mut acknowledged = Acknowledged::new();

    for round in 0..rounds {
        let enough = rand::rng().random_range(1..2_000);
        eprintln!("round {round}: killed after {enough} acknowledgements");
        kill_after(child(&[], folder.path()).spawn().unwrap(), enough, &mut acknowledged);
        verify(folder.path(), &acknowledged).await;
    }
}

#[tokio::test]
async fn a_log_that_went_missing_after_a_kill_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    drop(found(folder.path()).await);
    kill_after(child(&[], folder.path()).spawn().unwrap(), 10, &mut Acknowledged::new());

    std::fs::remove_file(folder.path().join("semel.db-wal")).unwrap();

    for _ in 0..2 {
        let refused = EmbeddedStore::open(&settings(folder.path())).unwrap_err();
        assert!(matches!(refused, OpenError::Lost { .. }), "{refused}");
    }
}

/// Runs the child to its end under strace, with these further options. `None`: it cannot be run
/// here.
fn traced(folder: &Path, writers: u32, rounds: u32, options: &[&str]) -> Option<Traced> {
    let allowed = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    if !allowed.is_ok_and(|probe| probe.status.success()) {
        skip("strace is missing, or tracing is not allowed here");
        return None;
    }
    let trace = folder.join("trace");
    let mut strace = vec!["strace", "-f", "-o", trace.to_str().unwrap()];
    strace.extend(options);
    let ended = child(&strace, folder)
        .env(CHILD_WRITERS, writers.to_string())
        .env(CHILD_ROUNDS, rounds.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{said}");
    let mut acknowledged = Acknowledged::new();
    for line in said.lines() {
        note(&mut acknowledged, line);
    }
    Some(Traced { acknowledged, said, calls: std::fs::read_to_string(trace).unwrap() })
}

struct Traced {
    acknowledged: Acknowledged,
    said: String,
    calls: String,
}

/// How strace writes these bytes, told to use hexadecimal.
fn traced_bytes(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

/// The line on which a call of `process` that began on line `began` had returned 0.
fn returned(calls: &[&str], process: &str, began: usize) -> Option<usize> {
    if !calls[began].contains("<unfinished") {
        return calls[began].ends_with("= 0").then_some(began);
    }
    let resumed = |line: &&str| line.starts_with(process) && line.contains("resumed");
    let end = began + calls[began..].iter().position(resumed)?;
    calls[end].ends_with("= 0").then_some(end)
}

/// The line on which the file, that `process` first wrote these bytes to, was on the disk.
fn synced(calls: &[&str], bytes: &[u8]) -> Option<usize> {
    let bytes = traced_bytes(bytes);
    let written =
        calls.iter().position(|line| line.contains("pwrite64(") && line.contains(&bytes))?;
    let (process, rest) = calls[written].split_once(' ')?;
    let file = rest.split_once("pwrite64(")?.1.split(',').next()?;
    let syncs = [format!("fsync({file}"), format!("fdatasync({file}")];
    calls.iter().enumerate().skip(written).find_map(|(at, line)| {
        let sync = line.starts_with(process) && syncs.iter().any(|sync| line.contains(sync));
        if sync { returned(calls, process, at) } else { None }
    })
}

#[tokio::test]
async fn no_write_is_acknowledged_before_it_is_synced() {
    let folder = tempfile::tempdir().unwrap();
    drop(found(folder.path()).await);
    let options = ["-xx", "-s", "5000", "-e", "trace=fsync,fdatasync,write,pwrite64"];
    let Some(traced) = traced(folder.path(), 8, 8, &options) else { return };
    let calls: Vec<_> = traced.calls.lines().collect();

    let mut checked = 0;
    for line in traced.said.lines() {
        let Some(key) = line.rsplit(' ').next().and_then(RecordKey::from_hex) else { continue };
        // A purge leaves no bytes to look for; it is committed like the rest.
        let Some(write) = ["ack claimed", "ack settled"].iter().position(|a| line.starts_with(a))
        else {
            continue;
        };
        let attempt = AttemptId::new(*key.as_bytes());
        let token = Token { attempt, write: u32::try_from(write).unwrap() };

        let synced = synced(&calls, &token.to_bytes()).expect("it was written and synced");
        let said = traced_bytes(line.as_bytes());
        let acknowledged = calls
            .iter()
            .position(|call| call.contains(" write(") && call.contains(&said))
            .expect("it was acknowledged");
        assert!(synced < acknowledged, "{line}: on line {acknowledged}, synced on {synced}");
        checked += 1;
    }
    assert!(checked >= 64, "only {checked} acknowledgements were seen");
}

#[tokio::test]
async fn after_a_sync_that_failed_nothing_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    drop(found(folder.path()).await);
    let fail = ["-e", "inject=fsync,fdatasync:error=EIO:when=40"];
    // One writer: then every acknowledgement after the failure is of something that came later.
    let Some(traced) = traced(folder.path(), 1, 1_000, &fail) else { return };

    let (before, after) = traced.calls.split_once("EIO").expect("a sync failed");
    assert!(before.contains("\"ack claimed"), "it went well until then");
    let said: Vec<_> = after.lines().filter(|line| line.contains("\"ack ")).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("\"ack broken"), "{said:?}");
    verify(folder.path(), &traced.acknowledged).await;
}

#[tokio::test]
async fn a_log_that_cannot_be_copied_into_the_database_breaks_the_store() {
    let folder = tempfile::tempdir().unwrap();
    drop(found(folder.path()).await);
    let database = folder.path().join("semel.db");
    // The database is written to by two: by who opens it, once, which survives this by trying again,
    // and by copying. (That syncs it only where no commit came meanwhile.) Each thread's first write
    // fails, and the trace says which thread's.
    let write = "inject=pwrite64:error=EIO:when=1";
    let fail = ["-P", database.to_str().unwrap(), "-e", write, "--decode-pids=comm"];
    // Too few rounds for the writer to copy anything itself.
    let Some(traced) = traced(folder.path(), 4, 500, &fail) else { return };

    let failed: Vec<_> = traced.calls.lines().filter(|call| call.contains("EIO")).collect();
    assert!(failed.iter().any(|call| call.contains("<semel-copier>")), "a copying: {failed:?}");
    assert!(!failed.iter().any(|call| call.contains("<semel-store>")), "only that: {failed:?}");
    assert!(traced.said.contains("ack broken"), "nothing is acknowledged after it");
    verify(folder.path(), &traced.acknowledged).await;
}

#[tokio::test]
async fn the_log_begins_anew_while_writes_never_stop() {
    let folder = tempfile::tempdir().unwrap();
    let store = found(folder.path()).await;
    let put = |swap: Swap| {
        // Others each time: SQLite does not write a page as it was.
        let bytes = Bytes::from(vec![swap.token.write as u8; 16 * 1024]);
        Swap { write: Write::Put { bytes, due: None, tag: Tag::NONE }, ..swap }
    };
    // Several, so that the copier is never the one to copy the last of the log.
    let writers = (0..8).map(async |number| {
        let mut swap = put(numbered(number));
        for _ in 0..1_200 {
            assert_eq!(store.swap(&swap).await, Ok(Swapped::Done));
            swap = put(follow(&swap, b""));
        }
    });

    futures_util::future::join_all(writers).await;

    let log = std::fs::metadata(folder.path().join("semel.db-wal")).unwrap().len();
    assert!(log < 128 * 1024 * 1024, "150 MiB were written, and the log has {log} bytes");
}

#[tokio::test]
async fn what_was_written_while_the_log_was_copied_is_copied_when_writes_stop() {
    let folder = tempfile::tempdir().unwrap();
    let store = found(folder.path()).await;
    let reader = rusqlite::Connection::open(folder.path().join("semel.db")).unwrap();
    let left = || {
        let count = |row: &rusqlite::Row<'_>| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?);
        reader.query_row("PRAGMA wal_checkpoint(NOOP)", [], count).unwrap()
    };
    for round in 0..10 {
        let large = (0..16).map(async |number| {
            let mut swap = numbered(round * 20 + number);
            let bytes = Bytes::from(vec![number as u8; 1 << 20]);
            swap.write = Write::Put { bytes, due: None, tag: Tag::NONE };
            assert_eq!(store.swap(&swap).await, Ok(Swapped::Done));
        });
        futures_util::future::join_all(large).await;
        // They are being copied now.
        for number in 16..20 {
            assert_eq!(store.swap(&numbered(round * 20 + number)).await, Ok(Swapped::Done));
        }

        let began = Instant::now();
        while left() > 0 {
            assert!(began.elapsed() < Duration::from_secs(20), "{} pages are left", left());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn on_a_full_disk_claims_stop_and_what_became_of_them_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    drop(found(folder.path()).await);
    let fail = ["-e", "inject=pwrite64:error=ENOSPC:when=200"];
    let Some(traced) = traced(folder.path(), 8, 1_000, &fail) else { return };

    assert!(traced.said.contains("ack refused"), "claims are refused");
    assert!(!traced.said.contains("ack broken"), "a full disk is not a broken one");
    verify(folder.path(), &traced.acknowledged).await;
}
