//! Did the answer reach its caller? The best that one end of a TCP connection can say.
//!
//! A service takes [`Caller`] from the request's extensions and, with the answer, hands in a
//! callback ([`Caller::deliver`]), or asks for the [`Receipt`] early and attaches it later. The
//! callback is told once, whatever happens:
//!
//! - [`Delivered::Whole`]: head and whole body were written to the connection, and when the last
//!   part was, the caller had neither closed its side nor sent more than this request;
//! - [`Delivered::Left`]: everything else. The caller closed or half-closed while it waited (the
//!   service's future is dropped then, and the receipt in it), the body failed or was cut, the
//!   answer was not taken in time, the receipt was dropped.
//!
//! `Whole` does not say that the caller *read* it: the last hop is the caller's own kernel.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::{Method, Response, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivered {
    /// It was written whole to a caller that was still there.
    Whole,
    /// Nobody was there to take all of it.
    Left,
}

/// Who asked, and since when. Found in every request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    peer: SocketAddr,
    arrived: Instant,
}

impl Caller {
    /// Somebody who has just asked. The server says so itself; whoever stands in for it must.
    pub const fn new(peer: SocketAddr, arrived: Instant) -> Self {
        Self { peer, arrived }
    }

    /// When the request's head was complete.
    pub const fn arrived(&self) -> Instant {
        self.arrived
    }

    /// Where it came from.
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Makes a receipt before there is an answer.
    ///
    /// The callback runs on the connection's task (or wherever the receipt is dropped) and must not
    /// block.
    pub fn receipt(self, tell: impl FnOnce(Delivered) + Send + 'static) -> Receipt {
        Receipt { tell: Some(Box::new(tell)) }
    }

    /// Hands in the callback together with the answer.
    pub fn deliver<B>(
        self,
        response: Response<B>,
        tell: impl FnOnce(Delivered) + Send + 'static,
    ) -> Response<B> {
        self.receipt(tell).attach(response)
    }
}

/// The promise to tell one callback, once. Dropped, it tells [`Delivered::Left`].
#[must_use = "a dropped receipt says that the caller has left"]
pub struct Receipt {
    tell: Option<Box<dyn FnOnce(Delivered) + Send>>,
}

impl Receipt {
    /// Ties it to an answer. An answer has one receipt; an earlier one is told `Left`.
    pub fn attach<B>(self, mut response: Response<B>) -> Response<B> {
        response.extensions_mut().insert(Attached(Arc::new(Mutex::new(Some(self)))));
        response
    }

    /// Takes it off an answer, to tell it: the server's part, or of whoever stands in for it.
    pub fn take<B>(response: &mut Response<B>) -> Option<Self> {
        let attached = response.extensions_mut().remove::<Attached>()?;
        lock(&attached.0).take()
    }

    /// Tells what became of the answer.
    pub fn tell(mut self, delivered: Delivered) {
        if let Some(tell) = self.tell.take() {
            tell(delivered);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(tell) = self.tell.take() {
            tell(Delivered::Left);
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").finish_non_exhaustive()
    }
}

/// A receipt in an answer's extensions, which want everything to be `Clone`.
#[derive(Debug, Clone)]
struct Attached(Arc<Mutex<Option<Receipt>>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How far the answer to the present request is. Shared by a connection's service, body and socket.
#[derive(Debug, Default)]
pub(super) enum Answer {
    /// No request is under way.
    #[default]
    None,
    /// A request is with the service, or its answer is on its way to the connection.
    Underway {
        /// The answer is here, and somebody wants to know what becomes of it.
        wants_receipt: bool,
    },
    /// The connection has taken all of it; it need only be written.
    Taken(Option<Receipt>),
}

/// Where a connection's [`Answer`] stands.
#[derive(Debug, Clone, Default)]
pub(super) struct Delivery(Arc<Mutex<Answer>>);

impl Delivery {
    pub(super) fn begin(&self) {
        let before =
            std::mem::replace(&mut *lock(&self.0), Answer::Underway { wants_receipt: false });
        // Out of the lock: a receipt may be in it, and is told now.
        drop(before);
    }

    pub(super) fn is_underway(&self) -> bool {
        !matches!(*lock(&self.0), Answer::None)
    }

    /// Whether somebody wants to know about the present answer.
    pub(super) fn wants_receipt(&self) -> bool {
        match &*lock(&self.0) {
            Answer::None | Answer::Underway { wants_receipt: false } => false,
            Answer::Underway { wants_receipt: true } => true,
            Answer::Taken(receipt) => receipt.is_some(),
        }
    }

    /// Everything that was taken is written now: if that was the whole answer, its request is over,
    /// and its receipt is to be told.
    pub(super) fn written(&self) -> Option<Option<Receipt>> {
        let mut answer = lock(&self.0);
        match std::mem::take(&mut *answer) {
            Answer::None => None,
            underway @ Answer::Underway { .. } => {
                *answer = underway;
                None
            }
            Answer::Taken(receipt) => Some(receipt),
        }
    }

    /// Watches an answer on its way out.
    pub(super) fn watch<B: http_body::Body>(
        &self,
        method: &Method,
        response: Response<B>,
    ) -> Response<Watched<B>> {
        let (mut parts, body) = response.into_parts();
        let receipt =
            parts.extensions.remove::<Attached>().and_then(|attached| lock(&attached.0).take());
        *lock(&self.0) = Answer::Underway { wants_receipt: receipt.is_some() };
        let mut watched = Watched {
            left: content_length(&parts.headers).or_else(|| body.size_hint().exact()),
            body,
            delivery: self.clone(),
            receipt,
            taken: false,
        };
        // The connection never asks for a body that cannot be, or is empty.
        let is_empty = watched.left == Some(0) || watched.body.is_end_stream();
        if is_empty || is_bodiless(method, parts.status) {
            watched.taken();
        }
        Response::from_parts(parts, watched)
    }
}

fn content_length(headers: &http::HeaderMap) -> Option<u64> {
    headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_bodiless(method: &Method, status: StatusCode) -> bool {
    method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// An answer's body that notes when the connection has taken all of it.
#[derive(Debug)]
pub(super) struct Watched<B> {
    body: B,
    /// How many bytes are still to be taken, if that was said. The connection may stop asking then.
    left: Option<u64>,
    delivery: Delivery,
    receipt: Option<Receipt>,
    taken: bool,
}

impl<B> Watched<B> {
    fn taken(&mut self) {
        if !self.taken {
            self.taken = true;
            *lock(&self.delivery.0) = Answer::Taken(self.receipt.take());
        }
    }
}

impl<B> http_body::Body for Watched<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let next = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &next {
            Some(Ok(frame)) => {
                if let (Some(left), Some(data)) = (&mut self.left, frame.data_ref()) {
                    *left = left.saturating_sub(data.remaining() as u64);
                }
                if self.left == Some(0) || self.body.is_end_stream() || frame.is_trailers() {
                    self.taken();
                }
            }
            // Fewer bytes than were announced: the connection will break off.
            None if self.left.is_some_and(|left| left > 0) => drop(self.receipt.take()),
            None => self.taken(),
            Some(Err(_)) => drop(self.receipt.take()),
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
