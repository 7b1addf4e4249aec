//! Finding out by sending again, where the route allows it and the provider's own look-up found
//! nothing or there is none.

use std::sync::Arc;

use tokio::time::Instant;

use crate::attempt::Flights;
use crate::attempt::resend::{Heard, Resend};
use crate::ledger::{Change, Concluded, Ledger, View, look_up_pause};
use crate::metrics::Metrics;
use crate::protocol::attempt::Held;
use crate::protocol::record::{Happening, SettledBy, State};
use crate::protocol::resend::{last_resent, resend_window};
use crate::store::Swapped;

/// How it went.
#[derive(Debug)]
pub(super) enum Resent {
    /// It was sent, or somebody else was at work; this is known now.
    Told(Option<View>),
    /// It was not, and need not be now.
    NotNow(Held),
}

/// Whether there is something to send now, at the pace of look-ups.
pub(super) fn is_due(flights: &Flights, resend: &Resend, held: &Held) -> bool {
    let State::InDoubt { looked, .. } = held.record.state else { return false };
    let paused = last_resent(&held.record).is_none_or(|ago| ago >= look_up_pause(looked));
    paused
        && resend_window(&held.record, resend.within).is_some()
        && flights.spares().get(held.operation()).is_some()
}

/// Sends the request again, and puts on record what that says.
///
/// The record is swapped right before: if the operation was settled or released meanwhile, the swap
/// fails and nothing is sent. What is left is the time between that swap and the first byte. In it the
/// owner, if it lives and has not closed its connection (then its upstream timeout has passed, and
/// it is about to conclude), may release the key, and a new claim may send under it too. Both carry
/// the same key, which is what the provider must know for a route to be sent again at all. An
/// absence policy cannot act then, since the swap takes the mark away, nor can an operator, who
/// waits for the upstream timeout.
pub(super) async fn resend(
    ledger: &Ledger,
    flights: &Flights,
    metrics: &Metrics,
    resend: &Resend,
    mut held: Held,
) -> Resent {
    let operation = held.operation();
    // It may have been read a while ago: before a look-up.
    let now = Instant::now();
    held.catch_up(ledger.now());
    let window = resend_window(&held.record, resend.within);
    let (Some(window), Some(request)) = (window, flights.spares().get(operation)) else {
        return Resent::NotNow(held);
    };
    let marked = matches!(held.record.state, State::InDoubt { closed: Some(_), .. });
    // For everybody else the time runs from the swap below, so for us from before it, and by the terms
    // that they all know.
    let until = now + window.min(held.record.terms.upstream_timeout).min(resend.timeout);
    match ledger.note_resend(&mut held).await {
        Ok(Swapped::Done) => {}
        Ok(Swapped::Lost(_)) | Err(_) => return Resent::Told(None),
    }
    tracing::warn!(%operation, "sending again under the same key, to hear its answer");
    let heard = resend.send(request, until).await;
    let looked = heard.looked();
    metrics.looked_up(&resend.upstream_name, looked.name());
    tracing::info!(%operation, finding = looked.name(), "sent again");
    let found = Some(Happening::LookedUp(looked));
    let (note, change) = match heard {
        Heard::Final(reply) => {
            let settle = Change::Settle {
                by: SettledBy::LookUp,
                status: reply.status,
                reply: Some(Arc::new(reply)),
                delivery: crate::protocol::record::Delivery::default(),
            };
            (found, settle)
        }
        Heard::Accepted(reply) => (found, Change::Accept { reply: Some(Arc::new(reply)) }),
        // The connections are closed again, if they were before.
        Heard::Nothing(looked) => (None, Change::Resent { looked, closed: marked }),
    };
    Resent::Told(match ledger.conclude_noting(held, note, change).await {
        Concluded::Recorded(view) => {
            flights.publish(view.clone());
            Some(view)
        }
        Concluded::Overtaken(view) | Concluded::NotYet(view, _) => Some(view),
    })
}
