//! How records read on the admin port. Nothing of requests or answers is in there, and no key.

use serde_json::{Value, json};

use crate::ledger::MaySend;
use crate::protocol::attempt::Held;
use crate::protocol::outcome::UnknownReason;
use crate::protocol::record::{Doubt, Event, Happening, Identity, Release, SettledBy, State};

/// A line of a list.
pub(super) fn summary(held: &Held) -> Value {
    let record = &held.record;
    json!({
        "operation": held.operation().to_string(),
        "state": record.state.name(),
        "route": record.route,
        "claimed_seconds_ago": record.claimed.age().as_secs_f64(),
        "in_this_state_for_seconds": record.entered.age().as_secs_f64(),
        "detail": detail(&record.state),
    })
}

/// All that is known, with how it came to be so.
pub(super) fn details(held: &Held, not_yet: Option<MaySend>) -> Value {
    let record = &held.record;
    let mut details = summary(held);
    details["identified_by"] = json!(match record.identity {
        Identity::Key => "key",
        Identity::Content(_) => "content",
        Identity::Further(_) => "a further key",
    });
    details["has_business_key"] = json!(record.business.is_some());
    details["process"] = json!(record.process.to_string());
    details["lease_renewed_seconds_ago"] = json!(record.renewed.age().as_secs_f64());
    details["timeline"] = record.timeline.iter().map(event).collect();
    if let Some(not_yet) = not_yet {
        details["not_yet_changeable"] = json!(not_yet.to_string());
    }
    if let Some(completed) = record.delivery.completed {
        details["answer_delivered_seconds_ago"] = json!(completed.age().as_secs_f64());
    }
    if record.delivery.left.is_some() {
        details["a_caller_left_unanswered"] = json!(true);
    }
    details
}

fn detail(state: &State) -> Value {
    match state {
        State::InFlight => json!({}),
        State::Accepted { looked, .. } => json!({ "look_ups": looked }),
        State::InDoubt { why, closed, looked, absent } => json!({
            "why": doubt_name(*why),
            "owners_connection_closed": closed.is_some(),
            "look_ups": looked,
            "absent_in_a_row": absent,
        }),
        State::Settled(settlement) => json!({
            "by": settled_by_name(settlement.by),
            "status": settlement.status,
            "answer_kept": settlement.reply.is_some(),
        }),
        State::Released { why, .. } => json!({ "why": release_name(*why) }),
    }
}

fn event(event: &Event) -> Value {
    let mut value = json!({ "seconds_ago": event.at.age().as_secs_f64() });
    match &event.what {
        Happening::Claimed => value["event"] = json!("claimed"),
        Happening::FirstByte => value["event"] = json!("first byte offered to the connection"),
        Happening::Answered { status, request_id } => {
            value["event"] = json!("upstream answered");
            value["status"] = json!(status);
            value["upstream_request_id"] = json!(request_id);
        }
        Happening::Accepted => value["event"] = json!("accepted by the provider"),
        Happening::Doubted(why) => {
            value["event"] = json!("in doubt");
            value["why"] = json!(doubt_name(*why));
        }
        Happening::LookedUp(finding) => {
            value["event"] = json!("looked up");
            value["finding"] = json!(finding.name());
        }
        Happening::Resent => value["event"] = json!("sent again under the same key"),
        Happening::Settled(by) => {
            value["event"] = json!("settled");
            value["by"] = json!(settled_by_name(*by));
        }
        Happening::Released(why) => {
            value["event"] = json!("released");
            value["why"] = json!(release_name(*why));
        }
        Happening::Joined(by) => {
            value["event"] = json!("recognised under another key");
            value["by"] = json!(by.name());
        }
        Happening::Operator { action, reason } => {
            value["event"] = json!("operator");
            value["action"] = json!(action);
            value["reason"] = json!(reason);
        }
        Happening::Elided(count) => {
            value["event"] = json!("more events, not kept");
            value["count"] = json!(count);
        }
    }
    value
}

fn doubt_name(why: Doubt) -> String {
    match why {
        Doubt::Unknown(UnknownReason::Status(status)) => {
            format!("status {status} proves nothing")
        }
        Doubt::Unknown(UnknownReason::TimedOut) => "no answer within the upstream timeout".into(),
        Doubt::Unknown(UnknownReason::ConnectionLost) => "the connection was lost".into(),
        Doubt::Unknown(UnknownReason::Truncated) => "the answer was cut short".into(),
        Doubt::Unknown(UnknownReason::IllFramed) => "the answer's framing cannot be trusted".into(),
        Doubt::Unknown(UnknownReason::UnexpectedUpgrade) => {
            "the upstream switched protocols".into()
        }
        Doubt::Unknown(UnknownReason::Aborted) => "the attempt was aborted".into(),
        Doubt::OwnerSilent => "its owner has not renewed its lease".into(),
        Doubt::Drained => "its owner's process ended before an answer came".into(),
        Doubt::TrackLost => "look-ups lost its track".into(),
    }
}

const fn settled_by_name(by: SettledBy) -> &'static str {
    match by {
        SettledBy::Answer => "the upstream's answer",
        SettledBy::LookUp => "a look-up",
        SettledBy::Operator => "an operator",
    }
}

const fn release_name(why: Release) -> &'static str {
    match why {
        Release::NotSent => "nothing was sent",
        Release::TakenBack => "the claim was taken back unused",
        Release::NotApplied => "the upstream said that it did nothing",
        Release::Operator => "an operator reopened it",
        Release::Absent => "looked up and not there, for long and often enough",
    }
}
