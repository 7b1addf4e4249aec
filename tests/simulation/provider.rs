//! The payment API: takes effect at most once per request that reaches it, and knows no
//! idempotency key. What semel sends twice is charged twice.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use semel::protocol::outcome::{NotSent, UnknownReason};
use semel::upstream::{AnswerBody, AskError, Forwarded, PassError, StreamingBody, Upstream, Wire};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use crate::absence::PROMPT;
use crate::book::{Book, Fate, SendId, TryId};
use crate::weather::ProviderWeather;
use crate::world::wall;

/// The header by which the simulation follows one try of one caller.
pub(crate) const TRY: &str = "x-try";
/// The header that makes a 409 prove nothing.
pub(crate) const TRANSIENT: &str = "transient-error";
/// Answers that long are over what a route keeps.
const BIG: usize = 2000;
/// The longest that any part of a request's way takes.
pub(crate) const SLOW_MAX: Duration = Duration::from_secs(30);

const ERRORS: [Fate; 5] = [
    Fate::ErrorBefore,
    Fate::ErrorAfter,
    Fate::TransientBefore,
    Fate::TransientAfter,
    Fate::Conflict,
];

/// One payment, as the provider keeps it.
#[derive(Debug, Clone)]
pub(crate) struct Payment {
    pub(crate) order: String,
    pub(crate) amount: u64,
    pub(crate) status: &'static str,
    created: u64,
    visible: Instant,
}

#[derive(Debug)]
pub(crate) struct Provider {
    book: Arc<Book>,
    /// How long it takes at the most until a request has taken effect, and until that is shown.
    longest: (Duration, Duration),
    /// Whether it denies only what it does not show: somebody acts on that.
    pub(crate) is_honest: bool,
    desk: Mutex<Desk>,
}

#[derive(Debug)]
struct Desk {
    rng: StdRng,
    weather: ProviderWeather,
    payments: Vec<Payment>,
}

/// The provider as one process reaches it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) provider: Arc<Provider>,
    pub(crate) process: String,
}

/// What happens to a request after its first byte, drawn beforehand.
#[derive(Debug, Clone, Copy)]
struct Journey {
    fate: Fate,
    /// Until it reaches the provider.
    out: Duration,
    /// Until the provider's answer leaves.
    work: Duration,
    back: Back,
    /// How long the provider works on what it accepted.
    processing: Duration,
    well: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Back {
    Whole,
    Big,
    Truncated,
    Lost,
    Never,
}

#[derive(Debug)]
struct Delivery {
    status: u16,
    transient: bool,
    body: String,
    back: Back,
}

impl Payment {
    pub(crate) fn json(&self, index: usize) -> Value {
        json!({
            "id": format!("pay_{index}"),
            "order": self.order,
            "amount": self.amount,
            "status": self.status,
            "created": self.created,
        })
    }
}

impl Provider {
    pub(crate) fn new(book: &Arc<Book>, seed: u64, is_honest: bool) -> Arc<Self> {
        let rng = StdRng::seed_from_u64(seed);
        let desk = Desk { rng, weather: ProviderWeather::CLEAR, payments: vec![] };
        let longest =
            if is_honest { (PROMPT / 2, PROMPT / 2) } else { (SLOW_MAX, Duration::from_secs(20)) };
        let book = Arc::clone(book);
        Arc::new(Self { book, longest, is_honest, desk: Mutex::new(desk) })
    }

    pub(crate) fn set_weather(&self, weather: ProviderWeather) {
        self.desk().weather = weather;
    }

    pub(crate) fn payment(&self, index: usize) -> Option<Payment> {
        self.desk().payments.get(index).cloned()
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap()
    }

    /// A request has left its process: from here on nobody can call it back.
    async fn travel(
        self: Arc<Self>,
        send: SendId,
        order: String,
        amount: u64,
        journey: Journey,
        answer: oneshot::Sender<Delivery>,
    ) {
        sleep(journey.out).await;
        let payment = self.arrive(send, order, amount, journey);
        sleep(journey.work).await;
        let body = match payment {
            Some(index) => self.desk().payments[index].json(index).to_string(),
            None => json!({ "error": journey.fate.name() }).to_string(),
        };
        let held = match (journey.fate.status(), journey.back) {
            (None, _) | (_, Back::Never) => Some(answer),
            (Some(_), Back::Lost) => None,
            (Some(status), back) => {
                self.book.answered(send, status);
                let body =
                    if back == Back::Big { format!("{body}{}", " ".repeat(BIG)) } else { body };
                let transient = journey.fate.is_transient();
                let _ = answer.send(Delivery { status, transient, body, back });
                None
            }
        };
        if let (Fate::Accepted, Some(index)) = (journey.fate, payment) {
            sleep(journey.processing).await;
            self.desk().payments[index].status = if journey.well { "succeeded" } else { "failed" };
            self.book
                .line(format!("provider: pay_{index} is {}", self.desk().payments[index].status));
        }
        self.book.at_rest(send);
        if held.is_some() {
            // Nothing comes back, not even the end of the connection.
            sleep(SLOW_MAX).await;
        }
    }

    /// The request is at the provider: this is the moment when it takes effect, if it does.
    fn arrive(&self, send: SendId, order: String, amount: u64, journey: Journey) -> Option<usize> {
        let status = match journey.fate {
            Fate::Charged | Fate::ErrorAfter | Fate::TransientAfter => "succeeded",
            Fate::Declined => "failed",
            Fate::Accepted => "processing",
            Fate::Lost
            | Fate::Busy
            | Fate::Rejected
            | Fate::ErrorBefore
            | Fate::TransientBefore
            | Fate::Conflict => {
                self.book.arrived(send, None);
                return None;
            }
        };
        let mut desk = self.desk();
        let blind = desk.weather.blind;
        let lags = desk.rng.random_bool(blind);
        let lag = if lags {
            desk.rng.random_range(Duration::ZERO..self.longest.1)
        } else {
            Duration::ZERO
        };
        let visible = Instant::now() + lag;
        let index = desk.payments.len();
        desk.payments.push(Payment { order, amount, status, created: wall(), visible });
        drop(desk);
        self.book.arrived(send, Some(index));
        Some(index)
    }

    /// What a list of payments shows.
    fn found(&self, order: &str) -> Vec<Value> {
        let now = Instant::now();
        let desk = self.desk();
        let calm = desk.weather.blind == 0.0;
        let found = desk.payments.iter().enumerate();
        let found = found.filter(|(_, payment)| payment.order == order);
        let found = found.filter(|(_, payment)| calm || payment.visible <= now);
        found.map(|(index, payment)| payment.json(index)).collect()
    }

    fn draw(&self) -> (Option<Duration>, Journey) {
        let mut desk = self.desk();
        let Desk { rng, weather, .. } = &mut *desk;
        let span = |rng: &mut StdRng, longest| {
            if rng.random_bool(weather.slow) {
                rng.random_range(Duration::ZERO..longest)
            } else {
                rng.random_range(Duration::ZERO..Duration::from_millis(400))
            }
        };
        let connect = span(rng, SLOW_MAX);
        let (out, work) = (span(rng, self.longest.0), span(rng, SLOW_MAX));
        let processing = span(rng, SLOW_MAX);
        let mut at = rng.random::<f64>();
        let mut hit = |odds: f64| {
            at -= odds;
            at < 0.0
        };
        let scale = 0.5;
        let fate = if hit(weather.lost * scale) {
            Fate::Lost
        } else if hit(weather.busy * scale) {
            Fate::Busy
        } else if hit(weather.rejected * scale) {
            Fate::Rejected
        } else if hit(weather.declined * scale) {
            Fate::Declined
        } else if hit(weather.accepted * scale) {
            Fate::Accepted
        } else if hit(weather.error * scale) {
            ERRORS[rng.random_range(0..ERRORS.len())]
        } else {
            Fate::Charged
        };
        let back = if rng.random_bool(weather.unanswered) {
            [Back::Big, Back::Truncated, Back::Lost, Back::Never][rng.random_range(0..4)]
        } else {
            Back::Whole
        };
        let well = rng.random_bool(0.7);
        let connect = if rng.random_bool(weather.refused) { None } else { Some(connect) };
        (connect, Journey { fate, out, work, back, processing, well })
    }
}

#[async_trait]
impl Upstream for Line {
    async fn forward(&self, request: Request<Bytes>, wire: &Arc<Wire>) -> Forwarded {
        let book = &self.provider.book;
        let (connect, journey) = self.provider.draw();
        let Some(connect) = connect else {
            sleep(Duration::from_millis(5)).await;
            return Forwarded::NotSent(NotSent::NotConnected);
        };
        sleep_until(wire.until().min(Instant::now() + connect)).await;
        if wire.begin().is_err() {
            if Instant::now() >= wire.until() {
                book.sometimes("the permit was unspent when the upstream timeout had passed");
            }
            return Forwarded::NotSent(NotSent::TooLate);
        }
        let header = request.headers().get(TRY).and_then(|value| value.to_str().ok());
        let this_try: TryId = header.unwrap().parse().unwrap();
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        let (order, amount) = (body["order"].as_str().unwrap(), body["amount"].as_u64().unwrap());
        let send = book.begun(this_try, &self.process, journey.fate);
        let (tell, told) = oneshot::channel();
        let journey_there =
            Arc::clone(&self.provider).travel(send, order.to_owned(), amount, journey, tell);
        crate::spawn(journey_there);
        tokio::select! {
            biased;
            delivery = told => match delivery {
                Ok(delivery) => Forwarded::Answered(answer(delivery)),
                Err(_) => Forwarded::Broken(UnknownReason::ConnectionLost),
            },
            () = sleep_until(wire.until()) => Forwarded::Broken(UnknownReason::TimedOut),
        }
    }

    async fn pass(&self, _: Request<StreamingBody>) -> Result<Response<AnswerBody>, PassError> {
        self.provider.book.violation("a request went through unguarded".to_owned());
        Err(PassError::NotSent)
    }

    fn within(&self, _: &[u8]) -> Result<String, String> {
        Err("nothing here has a place of its own".to_owned())
    }

    async fn ask(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
        _: usize,
    ) -> Result<Response<Bytes>, AskError> {
        let (blind, span) = {
            let mut desk = self.provider.desk();
            let blind = desk.weather.blind;
            let ill = desk.rng.random_bool(blind * 0.5);
            (ill.then(|| desk.rng.random_range(0..4)), desk.rng.random_range(1..300))
        };
        let asked = Instant::now();
        sleep(Duration::from_millis(span)).await;
        let query = request.uri().query().unwrap_or_default();
        let order = query.strip_prefix("order=").unwrap().to_owned();
        let answer = |status: u16, body: String| {
            let mut answer = Response::new(Bytes::from(body));
            *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
            let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(wall()));
            answer.headers_mut().insert(http::header::DATE, date.parse().unwrap());
            answer
        };
        match blind {
            Some(0) => {
                sleep(timeout).await;
                return Err(AskError("no answer in time".to_owned()));
            }
            Some(1) => return Ok(answer(500, String::new())),
            Some(2) => return Err(AskError("no connection".to_owned())),
            Some(_) | None => {}
        }
        let data = self.provider.found(&order);
        self.provider.book.pages().look_ups.push((order, asked));
        if blind.is_some() && (data.is_empty() || !self.provider.is_honest) {
            return Ok(answer(404, String::new()));
        }
        // What comes late is what was true when it was asked.
        sleep(Duration::from_millis(span)).await;
        Ok(answer(200, json!({ "data": data }).to_string()))
    }
}

fn answer(delivery: Delivery) -> Response<AnswerBody> {
    let bytes = Bytes::from(delivery.body);
    let body = if delivery.back == Back::Truncated {
        let half = bytes.slice(..bytes.len() / 2);
        let frames = [Ok(Frame::data(half)), Err(UnknownReason::Truncated)];
        StreamBody::new(futures_util::stream::iter(frames)).boxed()
    } else {
        Full::new(bytes).map_err(|never| match never {}).boxed()
    };
    let mut response = Response::new(body);
    if delivery.transient {
        response.headers_mut().insert(TRANSIENT, http::HeaderValue::from_static("true"));
    }
    *response.status_mut() = http::StatusCode::from_u16(delivery.status).unwrap();
    response
}
