//! The bridge to the code: the model asks the crate's own functions what to do about a record.

use std::time::Duration;

use semel::protocol::claim::{self, Decision};
use semel::protocol::fingerprint::Fingerprint;
use semel::protocol::id::{AttemptId, ProcessId};
use semel::protocol::key::SecretId;
use semel::protocol::outcome::UnknownReason;
use semel::protocol::record::{
    Ago, Delivery, Doubt, Identity, Record, Release, SettledBy, Settlement, State, Terms,
};

use crate::world::{By, Phase};

const LEASE: Duration = Duration::from_secs(15);

/// What the code does about a record in this phase, whose owner has been silent or not.
pub(crate) fn decide(phase: Phase, silent: bool) -> Decision {
    claim::decide_same(&record(phase, silent))
}

/// Whether the code lets a business key go whose record is in this phase.
pub(crate) fn business_is_free(phase: Phase) -> bool {
    claim::business_is_free(&record(phase, false))
}

/// Whether the code lets the pointer to a record in this phase lead to a new operation.
pub(crate) fn content_is_free(phase: Phase) -> bool {
    claim::content_is_free(&record(phase, false))
}

fn record(phase: Phase, silent: bool) -> Record {
    let hour = Duration::from_secs(3600);
    let delivered = matches!(phase, Phase::Settled { delivered: true, .. });
    Record {
        attempt: AttemptId::new([1; 16]),
        process: ProcessId::new([2; 8]),
        route: String::new(),
        fingerprint: Fingerprint { secret: SecretId::new([3; 4]), digest: [4; 32] },
        identity: Identity::Key,
        key_tag: None,
        business: None,
        terms: Terms {
            lease: LEASE,
            upstream_timeout: hour,
            retention: hour,
            remember: hour,
            window: Duration::ZERO,
            bound: if delivered { Duration::ZERO } else { hour },
        },
        inputs: None,
        claimed: Ago::NOW,
        first_claimed: Ago::NOW,
        renewed: if silent { Ago::new(2 * LEASE) } else { Ago::NOW },
        // What a caller was told is past its window too.
        entered: if delivered { Ago::new(Duration::from_secs(1)) } else { Ago::NOW },
        state: state(phase),
        delivery: delivery(phase),
        timeline: Vec::new(),
    }
}

fn delivery(phase: Phase) -> Delivery {
    match phase {
        Phase::Settled { delivered: true, .. } => {
            let now = Some(Ago::NOW);
            Delivery { left: None, answered: now, completed: now }
        }
        Phase::Settled { delivered: false, .. }
        | Phase::InFlight
        | Phase::Accepted
        | Phase::InDoubt { .. }
        | Phase::Released => Delivery::default(),
    }
}

fn state(phase: Phase) -> State {
    match phase {
        Phase::InFlight => State::InFlight,
        Phase::Accepted => State::Accepted { reply: None, looked: 0, absent: 0, after: None },
        Phase::InDoubt { closed } => State::InDoubt {
            why: Doubt::Unknown(UnknownReason::TimedOut),
            closed: closed.then_some(Ago::NOW),
            looked: 0,
            absent: 0,
        },
        Phase::Settled { applied, by, delivered: _ } => State::Settled(Settlement {
            by: match by {
                By::Answer => SettledBy::Answer,
                By::LookUp => SettledBy::LookUp,
            },
            status: if applied { 201 } else { 402 },
            reply: None,
        }),
        Phase::Released => State::Released { why: Release::TakenBack, reply: None },
    }
}

#[test]
fn the_models_phases_are_the_codes_states_and_lead_to_its_decisions() {
    let settled = Phase::Settled { applied: true, by: By::Answer, delivered: false };
    let table = [
        (Phase::InFlight, false, "in-flight", Decision::Follow),
        (Phase::InFlight, true, "in-flight", Decision::Overdue),
        (Phase::Accepted, true, "accepted", Decision::Accepted),
        (Phase::InDoubt { closed: false }, true, "in-doubt", Decision::Doubt),
        (Phase::InDoubt { closed: true }, true, "in-doubt", Decision::Doubt),
        (settled, true, "settled", Decision::NotKept),
        (Phase::Released, true, "released", Decision::Claim),
    ];
    for (phase, silent, name, decision) in table {
        assert_eq!(state(phase).name(), name);
        assert_eq!(decide(phase, silent), decision, "{phase:?}");
    }
}

#[test]
fn content_may_mean_something_new_only_once_it_is_settled_and_delivered() {
    let settled = |delivered| Phase::Settled { applied: true, by: By::LookUp, delivered };

    assert!(content_is_free(settled(true)));
    for phase in [
        Phase::InFlight,
        Phase::Accepted,
        Phase::InDoubt { closed: true },
        settled(false),
        Phase::Released,
    ] {
        assert!(!content_is_free(phase), "{phase:?}");
    }
}
