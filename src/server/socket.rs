//! A caller's socket, watched: what comes in is scanned, what has gone out is told to the receipt.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::head::HeadScan;
use super::receipt::{Delivered, Delivery};

/// What a connection waits for, as far as the caller is to blame. Equal values are one wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// For the next request (after so many).
    Request(u64),
    /// For the rest of this head.
    RestOfHead(u64),
    /// For the caller to take more of an answer (after so many writes).
    Reader(u64),
    /// For ourselves.
    No,
}

/// What socket and service of one connection share.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) scan: HeadScan,
    pub(super) delivery: Delivery,
    writes: u64,
    is_write_blocked: bool,
    /// The present answer's caller has closed.
    has_caller_left: bool,
}

pub(super) type SharedTalk = Arc<Mutex<Talk>>;

impl Talk {
    pub(super) fn shared() -> SharedTalk {
        Arc::new(Mutex::new(Self {
            scan: HeadScan::new(),
            delivery: Delivery::default(),
            writes: 0,
            is_write_blocked: false,
            has_caller_left: false,
        }))
    }

    pub(super) fn waiting(&self) -> Waiting {
        if self.is_write_blocked {
            Waiting::Reader(self.writes)
        } else if self.delivery.is_underway() {
            Waiting::No
        } else if self.scan.within_head() {
            Waiting::RestOfHead(self.scan.heads())
        } else {
            Waiting::Request(self.scan.heads())
        }
    }
}

pub(super) fn lock(talk: &SharedTalk) -> MutexGuard<'_, Talk> {
    talk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Up to so many bytes are copied together before they are written: that takes less than the system
/// call for many pieces does.
const PIECE_MAX: usize = 2048;

/// All slices as one, if there is room for them.
fn gathered<'a>(slices: &[IoSlice<'_>], into: &'a mut [u8; PIECE_MAX]) -> Option<&'a [u8]> {
    let mut end = 0;
    for slice in slices {
        let start = end;
        end += slice.len();
        into.get_mut(start..end)?.copy_from_slice(slice);
    }
    Some(&into[..end])
}

/// The socket as the HTTP connection sees it.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    talk: SharedTalk,
}

impl Socket {
    pub(super) const fn new(stream: TcpStream, talk: SharedTalk) -> Self {
        Self { stream, talk }
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Notes, before an answer's bytes go out, whether its caller has closed.
    ///
    /// Before, not after: who reads fast may have the whole answer and be gone while we look.
    fn look_for_caller(&self) {
        let mut talk = lock(&self.talk);
        if talk.has_caller_left || !talk.delivery.wants_receipt() {
            return;
        }
        // A system call, not tokio's readiness: that is only as fresh as the last turn of its
        // event loop, and a close that has arrived must not be overlooked.
        let peeked = SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit(); 1]);
        // Bytes count as having left, too: behind those of a further request no close can be seen.
        talk.has_caller_left =
            peeked.map_or_else(|error| error.kind() != io::ErrorKind::WouldBlock, |_| true);
    }

    fn note_write(&self, written: &Poll<io::Result<usize>>) {
        let mut talk = lock(&self.talk);
        talk.is_write_blocked = written.is_pending();
        talk.writes += u64::from(written.is_ready());
    }

    /// Tells the receipt of an answer of which nothing is left to write.
    fn tell_receipt(&self) {
        let mut talk = lock(&self.talk);
        let Some(receipt) = talk.delivery.written() else { return };
        let had_left = std::mem::take(&mut talk.has_caller_left) || talk.scan.is_ahead();
        drop(talk);
        let Some(receipt) = receipt else { return };
        // Bytes that meet a closed socket come back as a reset, on loopback at once.
        let was_reset = SockRef::from(&self.stream).take_error().is_ok_and(|error| error.is_some());
        receipt.tell(if had_left || was_reset { Delivered::Left } else { Delivered::Whole });
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        lock(&self.talk).scan.push(&into.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.look_for_caller();
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note_write(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.look_for_caller();
        let mut piece = [0; PIECE_MAX];
        let written = match gathered(bytes, &mut piece) {
            Some(piece) => Pin::new(&mut self.stream).poll_write(cx, piece),
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, bytes),
        };
        self.note_write(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// The connection flushes once it has no bytes left to write, so this is when an answer that it
    /// has taken whole is written whole.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.tell_receipt();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
