//! A payment API to practise on: it keeps a durable ledger, knows no idempotency, and does wrong
//! on request.
//!
//! `request` reads and `answer` writes, `api` does what was asked in the words of `speaks`, `ledger`
//! keeps what took effect, `practice` and `modes` say what goes wrong. For tests, benches and
//! drills; must not know anything of semel.

use std::fmt::{self, Write};
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::charge::{Charge, Order};
pub use self::ledger::{Ledger, Sought};
pub use self::modes::ModeError;
pub use self::practice::{Practice, PracticeError};
pub use self::speaks::Speaks;

use self::answer::Next;
use self::api::Api;
use self::request::{ReadError, Reader};

mod answer;
mod api;
mod asked;
mod charge;
mod control;
mod disk;
mod ledger;
mod modes;
mod practice;
mod request;
mod speaks;

/// How many connections are served at a time; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 4096;
/// How many connections wait to be accepted.
const BACKLOG: i32 = 1024;

/// Where the provider listens, and what it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The file of the ledger; without one it is kept in memory.
    pub ledger: Option<PathBuf>,
    /// Whose API it speaks.
    pub speaks: Speaks,
}

impl Default for Settings {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 9000));
        Self { listen, ledger: None, speaks: Speaks::default() }
    }
}

/// What `semel demo provider --help` says about the API and its wrongs.
pub fn help() -> String {
    let mut help = String::from(HELP);
    for (name, meaning) in modes::MODES {
        // Writing into a string cannot fail.
        let _ = if name.len() < NAME_WIDTH {
            writeln!(help, "  {name:<NAME_WIDTH$}{meaning}")
        } else {
            writeln!(help, "  {name}\n  {:NAME_WIDTH$}{meaning}", "")
        };
    }
    help
}

const NAME_WIDTH: usize = 26;
const HELP: &str = "\
A payment API to practise on. It keeps a ledger (--ledger FILE: on disk, synced before every
answer), knows no idempotency, and does wrong on request. Not for production.

API (JSON or form; metadata[a]=b nests):
  POST /v1/payments                              201, and one more charge, whatever the key
  GET  /v1/payments/{id}                         200 or 404
  GET  /v1/payments?reference=R&created_gte=&limit=&starting_after=
                                                 newest first; also ?idempotency_key=K, created[gte]
  GET  /v1/payments/by-reference/{reference}     200 (the newest) or 404
  POST /v1/payments/search {\"reference\": R}      the list, by POST; or {\"query\": \"reference:'R'\"}
  POST /v1/payments/{id}/captures                any operation on a payment; the payment shows it
  POST /v1/orders {\"receipt\": R}                 GET /v1/orders?receipt=R finds its id,
  POST /v1/orders/{id}/payments                  and GET /v1/orders/{id}/payments what was paid
  POST /graphql {\"query\", \"variables\"}           payments by orderId; a mutation makes one
  Any other unsafe request commits an operation of its own kind: POST /v1/refunds, ...
  The Idempotency-Key header is kept as metadata.idempotency_key, to be looked up by only.
  {\"source\": \"declined\"} is declined: 402, kept as failed. A 202 has Location and Retry-After.

With --as it speaks as much of a real API as its SDK needs to pay, capture, refund and look up; what
declines: stripe payment_method pm_card_chargeDeclined, adyen paymentMethod.holderName DECLINED,
paypal PayPal-Mock-Response with INSTRUMENT_DECLINED, square source_id cnon:card-nonce-declined,
checkout source.token tok_declined, mollie cardToken tkn_declined, razorpay method declined.

Wrong on request:
  X-Practice: MODE[, MODE...], or ?practice=     this request
  POST /practice/next  {\"mode\": \"drop-after\", \"count\": 3}     the next payments
  POST /practice/spell {\"mode\": \"busy=80\", \"seconds\": 30}     all payments for a while
  POST /practice/reset                           no more wrongs, counts at 0; the ledger stays
  What a request asks for itself counts before what is next, and that before the spell.
  Modes with the prefix lookup- (lookup-500, lookup-absent, lookup-slow=900) are for look-ups.

What became of it, whatever it speaks:
  GET /practice/ledger                           {\"charges\": [...], \"count\": n, \"failed\": n}
  GET /practice/charges?reference=R (or ?key=K)  {\"count\": n}: charges that were made
  GET /practice/requests?reference=R (or ?key=K) {\"count\": n}: requests that came, committed or not;
                                                 without a name by path, and connections

Modes:
";

/// A provider that runs until it is stopped or dropped; after [`Provider::stop`] its ledger can be
/// opened again at once.
pub struct Provider {
    addr: SocketAddr,
    api: Arc<Api>,
    accepting: JoinSet<()>,
    stop: DropGuard,
}

impl Provider {
    /// Opens the ledger and the port, and serves. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// If the ledger is no ledger or in use, or the port cannot be had.
    pub fn start(settings: &Settings) -> io::Result<Self> {
        let ledger = Ledger::open(settings.ledger.as_deref())?;
        let api = Arc::new(Api::new(ledger, settings.speaks.language()));
        let listener = listen(settings.listen)?;
        let addr = listener.local_addr()?;
        let stop = CancellationToken::new();
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&api), stop.clone()));
        Ok(Self { addr, api, accepting, stop: stop.drop_guard() })
    }

    /// Where it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The charges that were made.
    pub fn ledger(&self) -> &Ledger {
        &self.api.ledger
    }

    /// What is to go wrong, and what came.
    pub fn practice(&self) -> &Practice {
        &self.api.practice
    }

    /// Serves until `until` is ready, then stops.
    pub async fn run(self, until: impl Future<Output = ()>) {
        until.await;
        self.stop().await;
    }

    /// Stops: closes the port and all connections, answered or not, and the ledger's file.
    pub async fn stop(self) {
        let Self { api, mut accepting, stop, .. } = self;
        drop(stop);
        while accepting.join_next().await.is_some() {}
        drop(api);
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("addr", &self.addr).finish_non_exhaustive()
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(addr),
        socket2::Type::STREAM.nonblocking(),
        None,
    )?;
    // A provider that was restarted gets its port back at once.
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until stopped; owns the connections, which end with it.
async fn accept(listener: TcpListener, api: Arc<Api>, stop: CancellationToken) {
    /// What gives a process that is out of file descriptors the time to get some back.
    const BREATH: Duration = Duration::from_millis(50);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = connections.join_next(), if connections.len() >= CONNECTIONS_MAX => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    api.practice.count_connection();
                    connections.spawn(serve(stream, Arc::clone(&api)));
                }
                Err(_) => sleep(BREATH).await,
            },
        }
        while connections.try_join_next().is_some() {}
    }
    connections.shutdown().await;
}

/// One connection's life: a request, its answer, and so on.
async fn serve(mut stream: TcpStream, api: Arc<Api>) {
    // Answers are small and written whole; an error here costs time only.
    let _ = stream.set_nodelay(true);
    let mut reader = Reader::default();
    let next = loop {
        let request = match reader.next(&mut stream).await {
            Ok(request) => request,
            Err(ReadError::Ended) => break Next::Close,
            Err(ReadError::Refused(status)) => {
                let _ = answer::refuse(&mut stream, status).await;
                break Next::Close;
            }
        };
        let (said, wrongs) = api.answer(&request).await;
        match answer::write(&mut stream, said, &request, &wrongs).await {
            Ok(Next::KeepAlive) => {}
            Ok(next @ (Next::Close | Next::Reset)) => break next,
            // The client left; what it asked for is done.
            Err(_) => break Next::Close,
        }
    };
    if next == Next::Reset {
        let _ = stream.set_zero_linger();
    }
}
