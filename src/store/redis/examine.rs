//! Whether a Redis is fit to hold claims, by what it says of itself in `INFO`.
//!
//! What may drop records is a refusal; what a restart or a fail-over may cost is a warning. What it
//! does not tell (managed services keep `CONFIG` to themselves) is unknown, never fine.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::connection::Connection;
use super::resp::Reply;
use crate::store::{Examination, StoreError};

/// The first version whose scripts can say that they need no memory.
const VERSION_MIN: (u32, u32) = (7, 0);

/// What Redis answered.
#[derive(Debug, Default)]
pub(super) struct Findings {
    info: HashMap<String, String>,
    /// `None`: it does not tell.
    config: Option<HashMap<String, String>>,
    entries: Option<u64>,
}

/// How many keys were evicted while this process watched, until a new generation says that a person
/// has looked.
#[derive(Debug, Default)]
pub(super) struct Evictions(Mutex<Option<Tally>>);

#[derive(Debug)]
struct Tally {
    run: String,
    generation: Option<u64>,
    counter: u64,
    evicted: u64,
}

/// Asks for everything that is judged.
pub(super) async fn ask(connection: &Connection, agenda: &str) -> Result<Findings, StoreError> {
    let call = connection.begin().await?;
    let info = call.ask(&[b"INFO"]).await.map_err(|failure| failure.error)?;
    let info = text(info).map(|text| fields(&text));
    let Some(info) = info.filter(|info| info.contains_key("redis_version")) else {
        call.distrust();
        return Err(StoreError::Unconfirmed("the answer to INFO cannot be read".to_owned()));
    };
    let config = [&b"CONFIG"[..], b"GET", b"appendfsync", b"no-appendfsync-on-rewrite"];
    let config = match call.ask(&config).await {
        Ok(reply) => pairs(reply),
        // Whatever the reason, it is not known; if Redis has gone, the next call finds out.
        Err(_) => None,
    };
    let entries = match call.ask(&[b"ZCARD", agenda.as_bytes()]).await {
        Ok(Reply::Number(entries)) => u64::try_from(entries).ok(),
        Ok(_) | Err(_) => None,
    };
    Ok(Findings { info, config, entries })
}

fn text(reply: Reply) -> Option<String> {
    let Reply::Text(text) = reply else { return None };
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn fields(info: &str) -> HashMap<String, String> {
    info.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

fn pairs(reply: Reply) -> Option<HashMap<String, String>> {
    let Reply::List(words) = reply else { return None };
    let words: Vec<_> = words.into_iter().map(text).collect::<Option<_>>()?;
    let (pairs, []) = words.as_chunks::<2>() else { return None };
    Some(pairs.iter().cloned().map(|[name, value]| (name, value)).collect())
}

/// Judges what was found.
pub(super) fn judge(
    findings: &Findings,
    evictions: &Evictions,
    generation: Option<u64>,
    peer: &str,
) -> Examination {
    let mut examination = Examination {
        what: format!("{} at {peer}", findings.name()),
        entries: findings.entries,
        headroom: findings.headroom(),
        ..Examination::default()
    };
    judge_kind(findings, &mut examination);
    judge_eviction(findings, evictions, generation, &mut examination);
    judge_persistence(findings, &mut examination);
    judge_replication(findings, &mut examination);
    examination
}

fn judge_kind(findings: &Findings, examination: &mut Examination) {
    if findings.version().is_none_or(|version| version < VERSION_MIN) {
        examination.refusals.push("it is older than Redis 7.0".to_owned());
    }
    if findings.is("cluster_enabled", "1") {
        examination.refusals.push("it is a node of a Redis Cluster".to_owned());
    }
    if !findings.is("role", "master") {
        examination.refusals.push("it is a replica".to_owned());
    }
}

fn judge_eviction(
    findings: &Findings,
    evictions: &Evictions,
    generation: Option<u64>,
    examination: &mut Examination,
) {
    let policy = findings.text("maxmemory_policy");
    if policy != "noeviction" && !policy.starts_with("volatile-") {
        examination.refusals.push(format!(
            "it may evict records when memory is short (maxmemory-policy {policy}); set noeviction"
        ));
    }
    let since = evictions.since(findings, generation);
    if since > 0 && policy.starts_with("volatile-") {
        // Records have no TTL, so it was others' keys that had to go.
        examination.warnings.push(format!("it evicted {since} keys that had a TTL, to make room"));
    } else if since > 0 {
        examination.refusals.push(format!(
            "it has evicted {since} keys, and claims may be among them; check what was charged, \
             then run `semel store accept`"
        ));
    }
}

fn judge_persistence(findings: &Findings, examination: &mut Examination) {
    let warnings = &mut examination.warnings;
    if !findings.is("aof_enabled", "1") {
        warnings.push(
            "its append-only file is off: a restart forgets every claim since the last snapshot"
                .to_owned(),
        );
        return;
    }
    if !findings.is("aof_last_write_status", "ok") {
        warnings.push("its append-only file cannot be written".to_owned());
    }
    match findings.config("appendfsync") {
        Some("always") => {}
        Some(other) => warnings.push(format!(
            "appendfsync is {other}, not always: a power failure forgets the latest claims"
        )),
        None => warnings.push(
            "it does not tell its appendfsync: a power failure may forget acknowledged claims"
                .to_owned(),
        ),
    }
    if findings.config("no-appendfsync-on-rewrite") == Some("yes") {
        warnings.push(
            "no-appendfsync-on-rewrite is on: a power failure during a rewrite forgets claims"
                .to_owned(),
        );
    }
}

fn judge_replication(findings: &Findings, examination: &mut Examination) {
    if findings.number("connected_slaves").is_some_and(|replicas| replicas > 0) {
        examination.warnings.push(
            "it has replicas, which lag: a fail-over to one may forget acknowledged claims"
                .to_owned(),
        );
    }
}

impl Findings {
    fn text(&self, name: &str) -> &str {
        self.info.get(name).map_or("unknown", String::as_str)
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.info.get(name).is_some_and(|found| found == value)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.info.get(name)?.parse().ok()
    }

    fn config(&self, name: &str) -> Option<&str> {
        self.config.as_ref()?.get(name).map(String::as_str)
    }

    fn name(&self) -> String {
        match self.info.get("valkey_version") {
            Some(version) => format!("Valkey {version}"),
            None => format!("Redis {}", self.text("redis_version")),
        }
    }

    /// Valkey says here which Redis it is compatible with.
    fn version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.info.get("redis_version")?.split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }

    #[expect(clippy::cast_precision_loss, reason = "a share of memory needs no more precision")]
    fn headroom(&self) -> Option<f64> {
        let limit = self.number("maxmemory").filter(|limit| *limit > 0)?;
        let used = self.number("used_memory")?;
        Some(limit.saturating_sub(used) as f64 / limit as f64)
    }
}

impl Evictions {
    /// How many keys were evicted since this process first looked.
    fn since(&self, findings: &Findings, generation: Option<u64>) -> u64 {
        let now = findings.number("evicted_keys").unwrap_or_default();
        let run = findings.text("run_id");
        let mut tally = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tally.take().filter(|known| known.generation == generation);
        let evicted = match &known {
            Some(known) if known.run == run => known.evicted + now.saturating_sub(known.counter),
            // It was restarted, and has counted from zero since.
            Some(known) => known.evicted + now,
            None => 0,
        };
        *tally = Some(Tally { run: run.to_owned(), generation, counter: now, evicted });
        evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(change: &[(&str, &str)]) -> Findings {
        let info = "redis_version:7.0.15\r\nrun_id:a\r\nrole:master\r\ncluster_enabled:0\r\n\
                    maxmemory:100\r\nused_memory:25\r\nmaxmemory_policy:noeviction\r\n\
                    aof_enabled:1\r\naof_last_write_status:ok\r\nconnected_slaves:0\r\n\
                    evicted_keys:0\r\n";
        let config = "appendfsync:always\nno-appendfsync-on-rewrite:no";
        let mut findings =
            Findings { info: fields(info), config: Some(fields(config)), entries: Some(3) };
        for (name, value) in change {
            findings.info.insert((*name).to_owned(), (*value).to_owned());
        }
        findings
    }

    fn judged(findings: &Findings) -> Examination {
        judge(findings, &Evictions::default(), Some(1), "here")
    }

    #[test]
    fn a_redis_that_keeps_what_it_acknowledged_passes() {
        let examination = judged(&findings(&[]));

        assert_eq!(examination.what, "Redis 7.0.15 at here");
        assert_eq!(examination.headroom, Some(0.75));
        assert_eq!((examination.warnings, examination.refusals), (vec![], vec![]));
    }

    #[test]
    fn what_may_drop_records_is_refused() {
        for change in [
            ("maxmemory_policy", "allkeys-lru"),
            ("role", "slave"),
            ("redis_version", "6.2.1"),
            ("cluster_enabled", "1"),
        ] {
            assert_eq!(judged(&findings(&[change])).refusals.len(), 1, "{change:?}");
        }
        let volatile = judged(&findings(&[("maxmemory_policy", "volatile-lru")]));
        assert_eq!((volatile.warnings, volatile.refusals), (vec![], vec![]));
    }

    #[test]
    fn weak_persistence_is_warned_of() {
        let mut secretive = findings(&[]);
        secretive.config = None;
        let mut everysec = findings(&[]);
        everysec.config = Some(fields("appendfsync:everysec\nno-appendfsync-on-rewrite:yes"));

        assert_eq!(judged(&findings(&[("aof_enabled", "0")])).warnings.len(), 1);
        assert_eq!(judged(&findings(&[("connected_slaves", "1")])).warnings.len(), 1);
        assert_eq!(judged(&secretive).warnings.len(), 1);
        assert_eq!(judged(&everysec).warnings.len(), 2);
    }

    #[test]
    fn evictions_stop_claims_until_a_person_has_looked() {
        let evictions = Evictions::default();
        let evicted = |run, keys, generation| {
            let findings = findings(&[("run_id", run), ("evicted_keys", keys)]);
            judge(&findings, &evictions, Some(generation), "here").refusals.len()
        };

        assert_eq!(evicted("a", "5", 1), 0, "before this process came");
        assert_eq!(evicted("a", "6", 1), 1);
        assert_eq!(evicted("a", "6", 1), 1, "still nobody has looked");
        assert_eq!(evicted("b", "0", 1), 1, "a restart brings nothing back");
        assert_eq!(evicted("b", "0", 2), 0);
        assert_eq!(evicted("c", "1", 2), 1, "evicted after a restart");
    }
}
