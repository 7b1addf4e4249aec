//! The variants: the protocol as it is, within several bounds, and the designs that must fail.

use crate::invariants::*;
use crate::rules::{Absent, Bounds, Failover, Faults, Names, Refreshed, Rules, Tokens};

/// What the checker must find.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expected {
    /// Everything that must hold does, and all of these are reached.
    Holds(&'static [&'static str]),
    /// Each of these is broken.
    Breaks(&'static [&'static str]),
}

/// One design within bounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    pub(crate) rules: Rules,
    pub(crate) bounds: Bounds,
    pub(crate) expected: Expected,
}

const NONE: Faults = Faults { crashes: 0, late: 0, lost: 0, doubled: 0, weeks: 0 };
const EACH: Faults = Faults { crashes: 1, late: 1, lost: 1, doubled: 1, weeks: 0 };
const LATE: Faults = Faults { late: 1, ..NONE };
const KEY: Bounds = Bounds {
    processes: 2,
    names: Names::Key,
    faults: NONE,
    failover: Failover::Never,
    absent: Absent::Hold,
};
const CONTENT: Bounds = Bounds { names: Names::Content, ..KEY };
const BUSINESS: Bounds = Bounds { names: Names::Business, ..KEY };
const ORPHANS: Bounds = Bounds { names: Names::Orphans, ..KEY };

const fn holds(name: &'static str, bounds: Bounds, reached: &'static [&'static str]) -> Variant {
    let rules = Rules::GOOD;
    Variant { name, rules, bounds, expected: Expected::Holds(reached) }
}

const fn breaks(
    name: &'static str,
    rules: Rules,
    bounds: Bounds,
    broken: &'static [&'static str],
) -> Variant {
    Variant { name, rules, bounds, expected: Expected::Breaks(broken) }
}

const fn faults(faults: Faults) -> Bounds {
    Bounds { faults, ..KEY }
}

const fn weeks(bounds: Bounds) -> Bounds {
    Bounds { faults: Faults { weeks: 1, ..bounds.faults }, ..bounds }
}

/// The protocol as it is built, with one key and every fault: holds.
pub(crate) fn good_with_every_fault() -> Vec<Variant> {
    let reached = &[DOUBTED, LOOKED_UP, RECLAIMED, LATE_WRITE, ORPHANED, RACED, TAKEN_BACK];
    vec![holds("as built: every fault", faults(EACH), reached)]
}

/// The protocol as it is built, with one key: holds.
pub(crate) fn good() -> Vec<Variant> {
    vec![
        holds(
            "as built: crash, weeks pass",
            Bounds { faults: Faults { crashes: 1, weeks: 1, ..NONE }, ..KEY },
            &[DOUBTED, LOOKED_UP, ORPHANED],
        ),
        holds(
            "as built: three processes, late write, crash",
            Bounds { processes: 3, faults: Faults { crashes: 1, ..LATE }, ..KEY },
            &[DOUBTED, LOOKED_UP, RECLAIMED, LATE_WRITE, ORPHANED, RACED],
        ),
        holds(
            "absent reopens, under the owner's mark",
            Bounds {
                absent: Absent::Reopen,
                faults: Faults { late: 1, crashes: 1, ..NONE },
                ..KEY
            },
            &[DOUBTED, RECLAIMED, LATE_WRITE],
        ),
        holds(
            "absent fails, under the owner's mark",
            Bounds { absent: Absent::Fail, faults: Faults { late: 1, crashes: 1, ..NONE }, ..KEY },
            &[DOUBTED, LOOKED_UP, LATE_WRITE],
        ),
    ]
}

/// The protocol as it is built, on a store that fails over: holds.
pub(crate) fn good_failovers() -> Vec<Variant> {
    vec![
        holds(
            "fail-over, claims wait for replicas",
            Bounds { failover: Failover::KeepsClaims, faults: Faults { lost: 1, ..NONE }, ..KEY },
            &[RECLAIMED],
        ),
        holds(
            "fail-over that forgets what all have seen",
            Bounds { failover: Failover::ForgetsWhatAllSaw, ..KEY },
            &[RECLAIMED],
        ),
    ]
}

/// The protocol as it is built, with several names for one operation: holds.
pub(crate) fn good_names() -> Vec<Variant> {
    vec![
        holds(
            "two index secrets, one refused",
            Bounds { names: Names::TwoSecrets, faults: Faults { late: 1, ..NONE }, ..KEY },
            &[DOUBTED, RECLAIMED],
        ),
        holds("content pointer, weeks pass", weeks(CONTENT), &[POINTED, SUCCEEDED, RACED]),
        holds("business key, weeks pass", weeks(BUSINESS), &[SUCCEEDED, TURNED, FURTHER, FREED]),
        holds("orphans, weeks pass", weeks(ORPHANS), &[TURNED, FURTHER]),
    ]
}

/// Larger worlds, for `SEMEL_SOAK=1`: minutes, not seconds.
pub(crate) fn soak() -> Vec<Variant> {
    const REACHED: &[&str] = &[RACED, LATE_WRITE];
    let holds = |name, bounds| holds(name, bounds, REACHED);
    vec![
        holds("as built: every fault, weeks pass", weeks(faults(EACH))),
        holds(
            "as built: every fault, absent reopens",
            Bounds { faults: EACH, absent: Absent::Reopen, ..KEY },
        ),
        Variant {
            name: "fail-over that forgets what all have seen, lost reply",
            rules: Rules::GOOD,
            bounds: Bounds {
                failover: Failover::ForgetsWhatAllSaw,
                faults: Faults { lost: 1, ..NONE },
                ..KEY
            },
            expected: Expected::Holds(&[RECLAIMED]),
        },
        holds("as built: two late writes", Bounds { faults: Faults { late: 2, ..NONE }, ..KEY }),
        holds(
            "as built: three processes, doubled write, lost reply",
            Bounds { processes: 3, faults: Faults { doubled: 1, lost: 1, ..NONE }, ..KEY },
        ),
        holds(
            "as built: three processes, every fault",
            Bounds { processes: 3, faults: EACH, ..KEY },
        ),
        holds("content pointer, late write", weeks(Bounds { faults: LATE, ..CONTENT })),
        holds("business key, late write, weeks pass", weeks(Bounds { faults: LATE, ..BUSINESS })),
        Variant {
            name: "a pointer that is found is written anew only when old: doubled",
            rules: Rules { refreshed: Refreshed::WhenOld, ..Rules::GOOD },
            bounds: weeks(Bounds { faults: Faults { doubled: 1, ..NONE }, ..CONTENT }),
            expected: Expected::Breaks(&[ONE_PERMIT]),
        },
        holds(
            "content pointer, doubled write",
            weeks(Bounds { faults: Faults { doubled: 1, ..NONE }, ..CONTENT }),
        ),
    ]
}

/// Ways to claim, write and send that are known to be bad.
pub(crate) fn bad() -> Vec<Variant> {
    let rules = Rules::GOOD;
    vec![
        breaks(
            "a lease that ends is stolen",
            Rules { never_stolen: false, ..rules },
            KEY,
            &[ONE_DISPATCH, EDGES],
        ),
        breaks(
            "an owner's writes overwrite what is there",
            Rules { fenced: false, ..rules },
            faults(LATE),
            &[ONE_DISPATCH, EDGES],
        ),
        breaks(
            "a swap expects a count per key",
            Rules { tokens: Tokens::CountPerKey, ..rules },
            faults(LATE),
            &[ONE_DISPATCH, EDGES],
        ),
        breaks(
            "all writers share one counter",
            Rules { tokens: Tokens::SharedCounter, ..rules },
            faults(LATE),
            &[ONE_TOKEN],
        ),
        breaks(
            "an unconfirmed claim is enough to send",
            Rules { confirmed_only: false, ..rules },
            faults(LATE),
            &[ONE_DISPATCH, CONFIRMED],
        ),
        breaks(
            "who began to take back sends after all",
            Rules { take_back_spends: false, ..rules },
            faults(LATE),
            &[ONE_DISPATCH],
        ),
        breaks(
            "a key is freed by deletion",
            Rules { released_is_written: false, ..rules },
            faults(LATE),
            &[HARMLESS, EDGES],
        ),
    ]
}

/// Ways to reopen, and stores, that are known to be bad.
pub(crate) fn bad_trust() -> Vec<Variant> {
    let rules = Rules::GOOD;
    vec![
        breaks(
            "a truthful absent reopens without the owner's mark",
            Rules { mark_needed: false, ..rules },
            Bounds { absent: Absent::Reopen, ..KEY },
            &[ONE_DISPATCH],
        ),
        breaks(
            "a truthful absent fails without the owner's mark",
            Rules { mark_needed: false, ..rules },
            Bounds { absent: Absent::Fail, ..KEY },
            &[TRUE],
        ),
        breaks(
            "a fail-over forgets what not all have seen",
            rules,
            Bounds { failover: Failover::Forgets, ..KEY },
            &[ONE_DISPATCH],
        ),
        breaks(
            "a fail-over forgets, and nobody counts",
            Rules { counted: false, ..rules },
            Bounds { failover: Failover::ForgetsWhatAllSaw, ..KEY },
            &[ONE_DISPATCH],
        ),
        breaks(
            "a fail-over forgets, and a late write makes up the count",
            rules,
            Bounds { failover: Failover::ForgetsWhatAllSaw, ..faults(LATE) },
            &[ONE_DISPATCH],
        ),
        breaks(
            "a re-read claim is believed before replicas have it",
            Rules { reread_replicated: false, ..rules },
            Bounds { failover: Failover::KeepsClaims, ..faults(Faults { lost: 1, ..NONE }) },
            &[ONE_DISPATCH],
        ),
    ]
}

/// Ways to give an operation a further name that are known to be bad.
pub(crate) fn bad_further_names() -> Vec<Variant> {
    let rules = Rules::GOOD;
    vec![
        breaks(
            "a further key's pointer is deleted, not kept",
            Rules { names_kept: false, ..rules },
            BUSINESS,
            &[ONE_PER_NAME],
        ),
        breaks(
            "the pointer is the permit",
            Rules { record_permits: false, ..rules },
            Bounds { faults: LATE, ..BUSINESS },
            &[ONE_PERMIT],
        ),
        breaks(
            "a business pointer is replaced whatever it says by then",
            Rules { read_first: false, ..rules },
            BUSINESS,
            &[ONE_PERMIT],
        ),
        breaks(
            "a claim whose business key is bound is left where it is",
            Rules { lost_is_retaken: false, ..rules },
            BUSINESS,
            &[NOT_LEFT],
        ),
        breaks(
            "who claims again does not write the business pointer anew",
            Rules { rewritten: false, ..rules },
            BUSINESS,
            &[ONE_PERMIT],
        ),
        breaks(
            "an unconfirmed business pointer is taken for written",
            Rules { pointer_confirmed: false, ..rules },
            Bounds { faults: LATE, ..BUSINESS },
            &[ONE_PERMIT],
        ),
        breaks(
            "that a caller was left unanswered is noted after it heard so",
            Rules { noted_first: false, ..rules },
            ORPHANS,
            &[ONE_PERMIT],
        ),
    ]
}

/// Ways to name an operation that are known to be bad.
pub(crate) fn bad_names() -> Vec<Variant> {
    let rules = Rules::GOOD;
    vec![
        breaks(
            "two index secrets",
            Rules { secret_checked: false, ..rules },
            Bounds { names: Names::TwoSecrets, ..KEY },
            &[ONE_PERMIT],
        ),
        breaks(
            "a content pointer is purged too early",
            Rules { purge_waits: false, ..rules },
            CONTENT,
            &[ONE_PERMIT],
        ),
        breaks(
            "a late owner behind a pointer sends",
            Rules { hour: false, ..rules },
            weeks(CONTENT),
            &[ONE_PERMIT],
        ),
        breaks(
            "a pointer that is found is not written anew",
            Rules { refreshed: Refreshed::Never, ..rules },
            weeks(CONTENT),
            &[ONE_PERMIT],
        ),
        breaks(
            "a pointer is replaced before its answer was delivered",
            Rules { delivered_first: false, ..rules },
            CONTENT,
            &[ONE_PERMIT],
        ),
    ]
}
