//! The owner's work: forward once, read, classify, put on record. Detached from the caller.
//!
//! [`Attempts::begin`] returns at once with the [`Flight`] on which everybody waits. From then on
//! nothing that a caller does changes what happens.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, HeaderName, HeaderValue};
use http::{Request, Response, response};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::ledger::{Change, Concluded, Ledger, Pending, Renewed, View};
use crate::metrics::{During, Metrics};
use crate::protocol::attempt::{Claimed, Held, Seen, Sent};
use crate::protocol::id::RecordKey;
use crate::protocol::outcome::{
    Answered, Finding, NotApplied, NotSent, Observation, Outcome, OutcomeTable, UnknownReason,
    classify,
};
use crate::protocol::record::{Ago, Doubt, Happening, Identity, Release, Reply, SettledBy, State};
use crate::task::Tasks;
use crate::upstream::{AnswerBody, Forwarded, Upstream, Wire};

mod compact;
pub mod flight;
pub mod inquiry;
pub mod leaving;
pub mod resend;
pub mod spare;

use compact::compact;
pub use flight::{Asked, Chunk, Flight, Flights, Seat, Stage, Streamed};
pub use inquiry::{Exchange, Inquiry, WallClock};
pub use resend::Resend;

/// How often a lease is renewed within its term.
const RENEWALS_PER_LEASE: u32 = 3;
/// How many chunks of a streamed answer wait for its caller.
const STREAM_CHUNKS_MAX: usize = 16;
/// How long a caller may hold up the answer that is streamed to it.
const STREAM_STALL_MAX: Duration = Duration::from_secs(10);
/// First and longest pause between tries to record what the store could not take.
const RECORD_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Pauses between look-ups while the call is still open: doubling, bounded.
const OPEN_LOOK_UP_PAUSE: Duration = Duration::from_secs(1);
const OPEN_LOOK_UP_PAUSE_MAX: Duration = Duration::from_secs(30);

/// How a route's requests are sent and judged.
#[derive(Debug)]
pub struct Course {
    /// Where to send.
    pub upstream: Arc<dyn Upstream>,
    /// Its name, for metrics.
    pub upstream_name: String,
    /// What answers mean.
    pub outcomes: OutcomeTable,
    /// How to ask what became of it.
    pub inquiry: Option<Inquiry>,
    /// How to send again what has no known outcome, if it has a key.
    pub resend: Option<Arc<Resend>>,
    /// Silence after which to ask while the call is open.
    pub lookup_after: Duration,
    /// Largest answer to keep, in bytes.
    pub response_max: usize,
}

/// What one attempt needs to know.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its route's way.
    pub course: Arc<Course>,
    /// When the upstream call ends, at the latest.
    pub until: Instant,
    /// The key, or the pointer's, by which it was asked for.
    pub asked: RecordKey,
}

/// Starts attempts.
#[derive(Debug, Clone)]
pub struct Attempts {
    ledger: Arc<Ledger>,
    flights: Arc<Flights>,
    tasks: Tasks,
    metrics: Arc<Metrics>,
}

/// The call as those see it who look after it.
struct OpenCall {
    wire: Arc<Wire>,
    /// The head of an answer has come.
    heard: AtomicBool,
}

impl OpenCall {
    /// Whether what a look-up finds can be this operation, and is wanted: not before a byte of it
    /// was offered, and not when its own answer is coming in.
    fn may_be_found(&self) -> bool {
        self.wire.begun().is_some() && !self.heard.load(Ordering::Acquire)
    }
}

/// How the upstream call ended.
enum Ended {
    /// With this.
    Seen(Observation, Option<String>),
    /// A look-up brought the outcome first.
    Found(Reply),
    /// Somebody else settled it meanwhile.
    Elsewhere(View),
    /// The process must end.
    Cut,
}

impl Attempts {
    /// Starts none yet.
    pub const fn new(
        ledger: Arc<Ledger>,
        flights: Arc<Flights>,
        tasks: Tasks,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { ledger, flights, tasks, metrics }
    }

    /// The flights of this process.
    pub const fn flights(&self) -> &Arc<Flights> {
        &self.flights
    }

    /// The ledger.
    pub const fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Sends a claimed request, once, and sees to it that its outcome is put on record.
    ///
    /// # Cancel safety
    /// Nothing to cancel: the work is detached before this returns.
    pub fn begin(&self, claimed: Claimed, plan: Plan, request: Request<Bytes>) -> Arc<Flight> {
        let held = claimed.held();
        let asked = Asked { key: plan.asked, fingerprint: held.record.fingerprint };
        let flight = self.flights.lead(held.operation(), asked);
        let lead = Lead(Arc::clone(&flight));
        self.tasks.detach(self.clone().drive(claimed, plan, request, lead));
        flight
    }

    /// Takes back a claim that will not be sent, until that is confirmed.
    pub fn take_back(&self, unspent: crate::protocol::attempt::Unspent, why: Release) {
        let this = self.clone();
        self.tasks.detach(async move {
            let concluded = this.ledger.take_back(unspent, why).await;
            this.finish(concluded, None, None).await;
        });
    }

    /// Written as a block, not as an `async fn`, whose task would hold every argument twice.
    fn drive(
        self,
        claimed: Claimed,
        plan: Plan,
        mut request: Request<Bytes>,
        lead: Lead,
    ) -> impl Future<Output = ()> + Send {
        compact(&mut request);
        if plan.course.outcomes.reads_bodies() {
            readable(&mut request);
        }
        let spare = plan.course.resend.as_ref();
        let spare = spare.map(|resend| Box::new((request.clone(), resend.within)));
        let mut sent = claimed.send();
        async move {
            let plan = &plan;
            let began = Instant::now();
            let under_way = self.metrics.in_flight.with_label_values(&[&sent.held().record.route]);
            let _under_way = During::begin(&under_way);
            let wire = Arc::new(Wire::new(plan.until));
            let open = OpenCall { wire: Arc::clone(&wire), heard: AtomicBool::new(false) };
            let call = self.call(plan, request, &open, &lead.0);
            let ended = tokio::select! {
                biased;
                () = self.tasks.cut().cancelled() => Ended::Cut,
                (observation, request_id) = call => Ended::Seen(observation, request_id),
                ended = self.tend(&mut sent, plan, &open) => ended,
            };
            // Whatever still holds the request can send no first byte from here on.
            let first_byte = wire.abandon();
            self.metrics.attempt_ended(&plan.course.upstream_name, began.elapsed());
            // Large, and nothing to hold room for while the call is open: in a box.
            Box::pin(self.record(sent, ended, first_byte, plan, spare, &lead)).await;
        }
    }

    /// Puts on record how the call ended, and tells those who wait.
    async fn record(
        &self,
        mut sent: Sent,
        ended: Ended,
        first_byte: Option<Instant>,
        plan: &Plan,
        spare: Option<Box<(Request<Bytes>, Duration)>>,
        lead: &Lead,
    ) {
        if let Some(at) = first_byte {
            let held = sent.held_mut();
            held.catch_up(self.ledger.now());
            let ago = Ago::new(at.elapsed());
            held.record.note_ago(Happening::FirstByte, ago);
        }
        let (held, change, unproven) = match ended {
            Ended::Seen(observation, request_id) => {
                let seen = sent.seen(observation);
                self.weigh(seen, plan, request_id, &lead.0)
            }
            Ended::Cut => {
                let (held, change) = cut_short(sent, first_byte.is_some());
                (held, change, None)
            }
            Ended::Found(reply) => {
                let seen = sent.seen(Observation::Answer(reply.clone()));
                (seen.held, settle(SettledBy::LookUp, reply, &lead.0), None)
            }
            Ended::Elsewhere(view) => {
                lead.0.conclude(view, None, false);
                return;
            }
        };
        if let (Change::Doubt { .. }, Identity::Key, Some(spare)) =
            (&change, held.record.identity, spare)
        {
            let (request, within) = *spare;
            self.flights.spares().keep(held.operation(), &request, within);
        }
        let concluded = self.ledger.conclude(held, change).await;
        self.finish(concluded, unproven, Some(&lead.0)).await;
    }

    /// Forwards, and reads the answer whole.
    async fn call(
        &self,
        plan: &Plan,
        request: Request<Bytes>,
        open: &OpenCall,
        flight: &Flight,
    ) -> (Observation, Option<String>) {
        match plan.course.upstream.forward(request, &open.wire).await {
            Forwarded::NotSent(proof) => (Observation::NotSent(proof), None),
            Forwarded::Broken(why) => (Observation::Broken(why), None),
            Forwarded::Answered(answer) => {
                open.heard.store(true, Ordering::Release);
                let request_id = request_id(&answer);
                (self.read(plan, answer, flight).await, request_id)
            }
        }
    }

    async fn read(
        &self,
        plan: &Plan,
        answer: Response<AnswerBody>,
        flight: &Flight,
    ) -> Observation {
        let (head, mut body) = answer.into_parts();
        let mut kept = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let data = match frame {
                Ok(frame) => frame.into_data().unwrap_or_default(),
                Err(why) => return Observation::Broken(why),
            };
            if kept.len() + data.len() > plan.course.response_max {
                let begin = [kept.freeze(), data];
                return Box::pin(hand_through(head, &plan.course.outcomes, begin, body, flight))
                    .await;
            }
            kept.extend_from_slice(&data);
        }
        Observation::Answer(reply(&head, kept.freeze()))
    }

    /// Looks after the record while the call is open: renews the lease, asks the provider after a
    /// silence. Ends only if there is nothing left to wait for.
    async fn tend(&self, sent: &mut Sent, plan: &Plan, open: &OpenCall) -> Ended {
        let term = sent.held().record.terms.lease / RENEWALS_PER_LEASE;
        let mut renew = pin!(tokio::time::sleep(term));
        let mut pause = OPEN_LOOK_UP_PAUSE;
        let mut finding = pin!(self.ask(sent.held(), plan, plan.course.lookup_after));
        loop {
            tokio::select! {
                biased;
                () = renew.as_mut() => {
                    renew.as_mut().reset(Instant::now() + term);
                    // Rare, and large: in a box, so that every attempt is the smaller.
                    if let Some(view) = Box::pin(self.renew(sent.held_mut())).await {
                        return Ended::Elsewhere(view);
                    }
                }
                found = &mut finding => {
                    self.metrics.looked_up(&plan.course.upstream_name, found.looked().name());
                    sent.held_mut().record.note(Happening::LookedUp(found.looked()));
                    if let Finding::Final(reply) = found
                        && open.may_be_found()
                    {
                        return Ended::Found(reply);
                    }
                    // Anything else proves nothing while the call is open: it may still arrive.
                    sent.held_mut().catch_up(self.ledger.now());
                    finding.set(self.ask(sent.held(), plan, pause));
                    pause = (pause * 2).min(OPEN_LOOK_UP_PAUSE_MAX);
                }
            }
        }
    }

    /// Asks the provider after a while; for ever silent on a route without a look-up.
    fn ask<'a>(
        &self,
        held: &Held,
        plan: &'a Plan,
        after: Duration,
    ) -> impl Future<Output = Finding> + Send + use<'a> {
        let at = Instant::now() + after;
        let asked = plan.course.inquiry.as_ref();
        let asked = asked.map(|inquiry| Box::pin(inquiry.ask(&self.ledger, held)));
        async move {
            match asked {
                Some(asked) => {
                    tokio::time::sleep_until(at).await;
                    asked.await
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Renews, and says if somebody has concluded the operation meanwhile.
    async fn renew(&self, held: &mut Held) -> Option<View> {
        match self.ledger.renew(held).await {
            Ok(Renewed::Yes | Renewed::NotNeeded) => None,
            Ok(Renewed::Vanished) => {
                tracing::error!(operation = %held.operation(), "the store has lost this record");
                None
            }
            Ok(Renewed::Changed) => match held.record.state {
                State::Settled(_) | State::Released { .. } => self.ledger.view(held).ok(),
                State::InFlight | State::InDoubt { .. } | State::Accepted { .. } => None,
            },
            Err(error) => {
                tracing::warn!(%error, operation = %held.operation(), "lease not renewed");
                None
            }
        }
    }

    /// What was seen becomes what is to be recorded.
    fn weigh(
        &self,
        seen: Seen,
        plan: &Plan,
        request_id: Option<String>,
        flight: &Flight,
    ) -> (Held, Change, Option<Arc<Reply>>) {
        let Seen { mut held, observation } = seen;
        if let Some(status) = observed_status(&observation) {
            held.record.note(Happening::Answered { status, request_id });
        }
        let outcome = classify(&plan.course.outcomes, observation);
        self.metrics.attempt_outcome(&plan.course.upstream_name, outcome.name());
        let (change, unproven) = match outcome {
            Outcome::Final { status, reply } => {
                let reply = reply.map(Arc::new);
                let delivery = flight.delivery().0;
                (Change::Settle { by: SettledBy::Answer, status, reply, delivery }, None)
            }
            Outcome::NotApplied(NotApplied::NotSent(_)) => {
                (Change::Release { why: Release::NotSent, reply: None }, None)
            }
            Outcome::NotApplied(NotApplied::Said(reply)) => {
                let reply = Some(Arc::new(reply));
                (Change::Release { why: Release::NotApplied, reply }, None)
            }
            Outcome::Accepted(reply) => (Change::Accept { reply: Some(Arc::new(reply)) }, None),
            Outcome::Unknown { why, reply } => {
                (Change::Doubt { why: Doubt::Unknown(why), closed: true }, reply.map(Arc::new))
            }
        };
        (held, change, unproven)
    }

    /// Tells those who wait, and goes on recording for as long as the store cannot take it.
    async fn finish(
        &self,
        concluded: Concluded,
        unproven: Option<Arc<Reply>>,
        flight: Option<&Arc<Flight>>,
    ) {
        if let Some(pending) = tell(concluded, unproven.as_ref(), flight) {
            // Rare, and large: in a box, so that every attempt is the smaller.
            Box::pin(self.insist(pending, unproven, flight)).await;
        }
    }

    /// Goes on recording what the store could not take.
    async fn insist(
        &self,
        pending: Pending,
        unproven: Option<Arc<Reply>>,
        flight: Option<&Arc<Flight>>,
    ) {
        self.ledger.reserve_pending(&pending);
        let (mut pending, mut pause) = (pending, RECORD_PAUSES.0);
        loop {
            let bytes = pending.bytes();
            let Some(mut waited) = self.pause(pending, &mut pause).await else {
                self.ledger.free_pending(bytes);
                return;
            };
            if let Some(flight) = flight {
                self.ledger.note_told(&mut waited, flight.delivery().0);
            }
            let concluded = self.ledger.retry(waited).await;
            if !matches!(concluded, Concluded::NotYet(..)) {
                self.ledger.free_pending(bytes);
            }
            let Some(still) = tell(concluded, unproven.as_ref(), flight) else { return };
            pending = still;
        }
    }

    /// Waits for the next try to record; after a cut there is one try more.
    async fn pause(&self, pending: Pending, pause: &mut Duration) -> Option<Pending> {
        if self.tasks.cut().is_cancelled() {
            tracing::error!("ended before an outcome could be recorded; it will be in doubt");
            return None;
        }
        tokio::select! {
            biased;
            () = self.tasks.cut().cancelled() => {}
            () = tokio::time::sleep(*pause) => {}
        }
        *pause = (*pause * 2).min(RECORD_PAUSES.1);
        Some(pending)
    }
}

/// The owner's end of a flight. If its task ends without a conclusion (a panic), those who wait are
/// not left waiting: they ask the store, where the lease will end.
#[derive(Debug)]
struct Lead(Arc<Flight>);

impl Drop for Lead {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Tells those who wait. Returns what is not on record yet.
fn tell(
    concluded: Concluded,
    unproven: Option<&Arc<Reply>>,
    flight: Option<&Arc<Flight>>,
) -> Option<Pending> {
    let (view, pending) = match concluded {
        Concluded::Recorded(view) | Concluded::Overtaken(view) => (view, None),
        Concluded::NotYet(view, pending) => (view, Some(pending)),
    };
    let unsettled = matches!(view, View::InDoubt(_) | View::Accepted(_));
    if let Some(flight) = flight {
        // What is unsettled others may find out first: those who wait ask the store as well.
        flight.conclude(view, unproven.cloned(), !unsettled && pending.is_some());
    }
    pending
}

/// The process ends before an answer came.
fn cut_short(sent: Sent, begun: bool) -> (Held, Change) {
    if begun {
        let seen = sent.seen(Observation::Broken(UnknownReason::Aborted));
        return (seen.held, Change::Doubt { why: Doubt::Drained, closed: true });
    }
    let seen = sent.seen(Observation::NotSent(NotSent::NeverWritten));
    (seen.held, Change::Release { why: Release::NotSent, reply: None })
}

fn settle(by: SettledBy, reply: Reply, flight: &Flight) -> Change {
    let delivery = flight.delivery().0;
    Change::Settle { by, status: reply.status, reply: Some(Arc::new(reply)), delivery }
}

fn observed_status(observation: &Observation) -> Option<u16> {
    match observation {
        Observation::Answer(reply) => Some(reply.status),
        Observation::TooLarge { status, .. } => Some(*status),
        Observation::NotSent(_) | Observation::Broken(_) => None,
    }
}

/// The provider's own name for the request, for support cases.
fn request_id(answer: &Response<AnswerBody>) -> Option<String> {
    static NAMES: [HeaderName; 5] = [
        HeaderName::from_static("request-id"),
        HeaderName::from_static("x-request-id"),
        HeaderName::from_static("paypal-debug-id"),
        HeaderName::from_static("cko-request-id"),
        HeaderName::from_static("pspreference"),
    ];
    const LENGTH_MAX: usize = 64;
    let value = NAMES.iter().find_map(|name| answer.headers().get(name))?;
    // Visible ASCII, so that it may be cut anywhere.
    let text = value.to_str().ok()?;
    Some(text[..text.len().min(LENGTH_MAX)].to_owned())
}

/// Asks for an answer that a rule about its body can be held against.
fn readable(request: &mut Request<Bytes>) {
    request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

/// An answer as it is kept.
pub fn reply(head: &response::Parts, body: Bytes) -> Reply {
    let headers = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    Reply { status: head.status.as_u16(), headers, body }
}

/// Hands an answer that is too large to keep to the first caller while it comes in. A caller that
/// leaves, or stalls, does not keep it from being read to its end.
async fn hand_through(
    head: response::Parts,
    outcomes: &OutcomeTable,
    begin: [Bytes; 2],
    mut body: AnswerBody,
    flight: &Flight,
) -> Observation {
    let Reply { status, headers, .. } = reply(&head, Bytes::new());
    let meaning = outcomes.meaning(&Answered { status, headers: &headers, body: None });
    let (chunks, receiver) = mpsc::channel(STREAM_CHUNKS_MAX);
    flight.stream(Streamed { head, meaning, body: receiver });
    let mut chunks = Some(chunks);
    for data in begin {
        pass_on(&mut chunks, Chunk::Data(data)).await;
    }
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                let data = frame.into_data().unwrap_or_default();
                pass_on(&mut chunks, Chunk::Data(data)).await;
            }
            Err(why) => {
                pass_on(&mut chunks, Chunk::Broken(why)).await;
                return Observation::Broken(why);
            }
        }
    }
    pass_on(&mut chunks, Chunk::End).await;
    Observation::TooLarge { status, headers }
}

async fn pass_on(chunks: &mut Option<mpsc::Sender<Chunk>>, chunk: Chunk) {
    let Some(sender) = chunks else { return };
    let sent = tokio::time::timeout(STREAM_STALL_MAX, sender.send(chunk)).await;
    if !matches!(sent, Ok(Ok(()))) {
        *chunks = None;
    }
}
