//! The table of decisions and the diagram of states, row by row and edge by edge.

use std::time::Duration;

use super::claim::{Decision, content_is_free, decide};
use super::fingerprint::Fingerprints;
use super::id::{AttemptId, ProcessId, RecordKey};
use super::invariants::{edge, may_purge};
use super::key::Secret;
use super::record::{
    Ago, Delivery, Doubt, Happening, Identity, Looked, Record, Release, SettledBy, Settlement,
    State, TIMELINE_MAX, Terms,
};
use super::resend::last_resend;
use super::seal::{Binding, Sealed, Seals};

const LEASE: Duration = Duration::from_secs(15);
const RETENTION: Duration = Duration::from_secs(86_400);
const REMEMBER: Duration = Duration::from_secs(604_800);
const KEPT: Duration = Duration::from_secs(600);

fn fingerprints(secret: u8, content: u8) -> Fingerprints {
    Fingerprints::new(&[Secret::new([secret; 32])], &[content; 32])
}

fn ours() -> Fingerprints {
    fingerprints(1, 1)
}

fn answer() -> Option<Sealed> {
    let fingerprint = ours().newest();
    let (key, attempt) = (RecordKey::new([1; 16]), AttemptId::new([2; 16]));
    let binding = Binding { key, attempt, fingerprint: &fingerprint, part: "reply" };
    Some(Seals::new(Secret::new([3; 32]), vec![]).seal([4; 24], binding, b"answer"))
}

fn record(attempt: u8, state: State) -> Record {
    Record {
        attempt: AttemptId::new([attempt; 16]),
        process: ProcessId::new([1; ProcessId::LEN]),
        route: "payments".to_owned(),
        fingerprint: ours().newest(),
        identity: Identity::Key,
        key_tag: None,
        business: None,
        terms: Terms {
            lease: LEASE,
            upstream_timeout: Duration::from_secs(90),
            retention: RETENTION,
            remember: REMEMBER,
            window: Duration::ZERO,
            bound: Duration::ZERO,
        },
        inputs: None,
        first_claimed: Ago::NOW,
        claimed: Ago::NOW,
        renewed: Ago::NOW,
        entered: Ago::NOW,
        state,
        delivery: Delivery::default(),
        timeline: Vec::new(),
    }
}

fn later(mut record: Record, by: Duration) -> Record {
    record.advance(by);
    record
}

fn accepted() -> State {
    State::Accepted { reply: None, looked: 0, absent: 0, after: None }
}

fn in_doubt() -> State {
    State::InDoubt { why: Doubt::OwnerSilent, closed: None, looked: 0, absent: 0 }
}

fn settled() -> State {
    State::Settled(Settlement { by: SettledBy::Answer, status: 201, reply: answer() })
}

fn released() -> State {
    State::Released { why: Release::NotSent, reply: None }
}

#[test]
fn only_an_unknown_or_a_released_key_may_be_claimed() {
    let moment = Duration::from_millis(1);
    let table = [
        (released(), Duration::ZERO, Decision::Claim),
        (State::InFlight, LEASE, Decision::Follow),
        (State::InFlight, LEASE + moment, Decision::Overdue),
        (accepted(), RETENTION * 100, Decision::Accepted),
        (in_doubt(), RETENTION * 100, Decision::Doubt),
        (settled(), RETENTION, Decision::Replay),
        (settled(), RETENTION + moment, Decision::NotKept),
        (settled(), RETENTION + REMEMBER * 100, Decision::NotKept),
    ];

    assert_eq!(decide(None, &ours()), Decision::Claim);
    for (state, age, decision) in table {
        let record = later(record(1, state), age);
        assert_eq!(decide(Some(&record), &ours()), decision, "{} {age:?}", record.state.name());
    }
}

#[test]
fn other_content_under_a_known_key_is_a_mismatch_whatever_its_state() {
    for state in [State::InFlight, accepted(), in_doubt(), settled()] {
        let record = later(record(1, state), LEASE * 2);
        assert_eq!(decide(Some(&record), &fingerprints(1, 2)), Decision::Mismatch);
        // A secret that is not configured here cannot tell the same from other content.
        assert_eq!(decide(Some(&record), &fingerprints(2, 1)), Decision::Unverifiable);
    }
    let free = record(1, released());
    assert_eq!(decide(Some(&free), &fingerprints(1, 2)), Decision::Claim);
}

#[test]
fn the_diagram_has_these_edges_and_no_others() {
    let states = [State::InFlight, accepted(), in_doubt(), settled(), released()];
    let names: Vec<&str> = states.iter().map(State::name).collect();
    let same_attempt = |from: &State, to: &State| {
        edge(Some(&record(1, from.clone())), &record(1, to.clone())).is_ok()
    };
    let other_attempt = |from: &State, to: &State| {
        edge(Some(&record(1, from.clone())), &record(2, to.clone())).is_ok()
    };
    let edges = |is: &dyn Fn(&State, &State) -> bool| -> Vec<String> {
        let pairs = states.iter().flat_map(|from| states.iter().map(move |to| (from, to)));
        pairs
            .filter(|(from, to)| is(from, to))
            .map(|(from, to)| format!("{} → {}", from.name(), to.name()))
            .collect()
    };

    let every = |from: &str, to: &[&str]| -> Vec<String> {
        to.iter().map(|to| format!("{from} → {to}")).collect()
    };
    let expected = [
        every("in-flight", &names),
        every("accepted", &names[1..]),
        every("in-doubt", &names[1..]),
        every("settled", &["settled"]),
        every("released", &["released"]),
    ];
    assert_eq!(edges(&same_attempt), expected.concat());
    assert_eq!(edges(&other_attempt), ["released → in-flight"]);
}

#[test]
fn a_settled_outcome_loses_its_answer_at_the_most() {
    let before = record(1, settled());
    let changed = |by, status, reply| {
        let state = State::Settled(Settlement { by, status, reply });
        edge(Some(&before), &record(1, state)).is_ok()
    };

    assert!(changed(SettledBy::Answer, 201, answer()));
    assert!(changed(SettledBy::Answer, 201, None));
    assert!(!changed(SettledBy::Answer, 402, answer()));
    assert!(!changed(SettledBy::Operator, 201, answer()));
}

#[test]
fn what_is_unsettled_is_never_purged() {
    let age = (RETENTION + REMEMBER) * 1000;

    for state in [State::InFlight, accepted(), in_doubt()] {
        assert!(!may_purge(&later(record(1, state), age), KEPT));
    }
    assert!(!may_purge(&later(record(1, settled()), RETENTION + REMEMBER), KEPT));
    assert!(may_purge(&later(record(1, settled()), age), KEPT));
    assert!(!may_purge(&later(record(1, released()), KEPT), KEPT));
    assert!(may_purge(&later(record(1, released()), age), KEPT));
}

#[test]
fn content_is_free_once_its_answer_was_delivered() {
    let mut delivered = record(1, settled());
    delivered.delivery.answered = Some(Ago::NOW);
    delivered.delivery.completed = Some(Ago::NOW);

    assert!(content_is_free(&delivered));
    assert!(!content_is_free(&record(1, settled())), "nobody has got its answer");
    for state in [State::InFlight, accepted(), in_doubt()] {
        assert!(!content_is_free(&record(1, state)));
    }
}

#[test]
fn each_time_that_it_is_sent_again_has_another_number() {
    let mut record = record(1, State::InFlight);
    record.note(Happening::Claimed);
    let mut numbers = vec![last_resend(&record)];
    for _ in 0..3 * TIMELINE_MAX {
        record.note(Happening::Resent);
        numbers.push(last_resend(&record));
        record.note(Happening::LookedUp(Looked::Absent));
        assert_eq!(numbers.last(), Some(&last_resend(&record)), "nothing else changes it");
    }

    assert_eq!(numbers[0], 0);
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
}
