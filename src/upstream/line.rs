//! One connection seen from above TLS: who may write on it, and whether anything came unasked.
//!
//! A [`Line`] is lent to one [`Wire`] at a time; [`Watched`] asks it before every write. Whoever
//! takes the line back (by dropping what holds it) ends the right to write under the same lock, so
//! that "no write was tried" can be read from the wire afterwards and stays true. Knows no HTTP.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::Wire;

/// What a connection is good for at the moment.
#[derive(Debug)]
enum State {
    /// Nobody uses it; nothing may be written, nothing may come.
    Resting { since: Instant },
    /// One request may be written, and its answer may come.
    Lent(Arc<Wire>),
    /// It is closed, or about to be.
    Over,
}

/// The right to write on one connection, and the duty to close it.
#[derive(Debug)]
pub(super) struct Line {
    state: Mutex<State>,
    cut: Notify,
    rest_max: Duration,
}

impl Line {
    /// A connection that nobody uses yet. It is closed when it has rested for `rest_max`.
    pub(super) fn new(rest_max: Duration) -> Self {
        let state = Mutex::new(State::Resting { since: Instant::now() });
        Self { state, cut: Notify::new(), rest_max }
    }

    /// Gives the connection to a request, unless it is over or has rested too long.
    pub(super) fn lend(&self, wire: &Arc<Wire>) -> bool {
        let mut state = self.state();
        match *state {
            State::Resting { since } if since.elapsed() < self.rest_max => {
                *state = State::Lent(Arc::clone(wire));
                true
            }
            State::Resting { .. } | State::Lent(_) | State::Over => false,
        }
    }

    /// Takes it back from a request that is over, for the next one.
    pub(super) fn rest(&self) -> bool {
        let mut state = self.state();
        match *state {
            State::Lent(_) => {
                *state = State::Resting { since: Instant::now() };
                true
            }
            State::Resting { .. } | State::Over => false,
        }
    }

    /// Ends it: nothing is written from now on, and the connection closes.
    pub(super) fn cut(&self) {
        *self.state() = State::Over;
        self.cut.notify_one();
    }

    /// Ends when the connection must be closed: it was cut, or has rested too long.
    pub(super) async fn must_close(&self) {
        loop {
            let Some(then) = self.look_again() else { return };
            tokio::select! {
                () = self.cut.notified() => return,
                () = tokio::time::sleep_until(then) => {}
            }
        }
    }

    /// When it could next have rested too long; `None` if it is over now.
    fn look_again(&self) -> Option<Instant> {
        let mut state = self.state();
        match *state {
            State::Resting { since } if since.elapsed() < self.rest_max => {
                Some(since + self.rest_max)
            }
            State::Lent(_) => Some(Instant::now() + self.rest_max),
            State::Resting { .. } | State::Over => {
                *state = State::Over;
                None
            }
        }
    }

    /// Whether the next write would be a request's first.
    fn is_first_write(&self) -> io::Result<bool> {
        match &*self.state() {
            State::Lent(wire) => Ok(wire.begun().is_none()),
            State::Resting { .. } | State::Over => Err(refused("no request may be written")),
        }
    }

    /// Marks the request as begun, if it may still begin.
    fn begin(&self) -> io::Result<()> {
        match &*self.state() {
            State::Lent(wire) => wire.begin().map_err(|_| refused("too late to begin")),
            State::Resting { .. } | State::Over => Err(refused("no request may be written")),
        }
    }

    /// Notes that something came. If nobody asked, the connection is over.
    fn heard(&self) {
        let mut state = self.state();
        match *state {
            State::Lent(_) | State::Over => {}
            State::Resting { .. } => {
                *state = State::Over;
                self.cut.notify_one();
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves no half-made state behind: every change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, why)
}

/// A connection, plain or encrypted.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether the kernel already holds something for us: bytes, or the end. Asked of the socket
    /// itself, because the runtime learns of it only when it next polls.
    fn is_waiting(&self) -> bool {
        let tcp = match self {
            Self::Plain(tcp) => tcp,
            Self::Encrypted(tls) => tls.get_ref().0,
        };
        let mut byte = [MaybeUninit::uninit()];
        match SockRef::from(tcp).peek(&mut byte) {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

/// A connection whose every write is asked of its [`Line`] first.
#[derive(Debug)]
pub(super) struct Watched {
    stream: Stream,
    line: Arc<Line>,
    reused: bool,
}

impl Watched {
    pub(super) const fn new(stream: Stream, line: Arc<Line>) -> Self {
        Self { stream, line, reused: false }
    }

    fn permit(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.line.is_first_write()? {
            self.must_be_silent(cx)?;
            self.line.begin()?;
            self.reused = true;
        }
        Ok(())
    }

    /// Before a first write nothing may have come, not even the end: an extra answer would be taken
    /// for this request's, and a closed connection would leave it in doubt for nothing.
    fn must_be_silent(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut byte = [0];
        if Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(&mut byte)).is_ready() {
            return Err(refused("something came before the request"));
        }
        // A new TLS connection has session tickets coming, which are no stray bytes.
        let may_wait = !self.reused && matches!(self.stream, Stream::Encrypted(_));
        if !may_wait && self.stream.is_waiting() {
            return Err(refused("something came before the request"));
        }
        Ok(())
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            self.line.heard();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.permit(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.permit(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Does the same to whichever stream it is.
macro_rules! either {
    ($stream:expr, $inner:ident => $does:expr) => {
        match $stream {
            Stream::Plain($inner) => $does,
            Stream::Encrypted($inner) => $does,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    async fn pair() -> (Watched, Arc<Line>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        let line = Arc::new(Line::new(LONG));
        (Watched::new(Stream::Plain(ours), Arc::clone(&line)), line, theirs)
    }

    fn wire(patience: Duration) -> Arc<Wire> {
        Arc::new(Wire::new(Instant::now() + patience))
    }

    /// Whether a write was refused, and nothing arrived.
    async fn is_refused(mut watched: Watched, mut theirs: TcpStream) -> bool {
        let refused = watched.write_all(b"request").await.is_err();
        drop(watched);
        let mut arrived = Vec::new();
        // A reset instead of an end is fine: unread bytes were in our buffer.
        let _ = theirs.read_to_end(&mut arrived).await;
        refused && arrived.is_empty()
    }

    #[tokio::test]
    async fn the_wire_has_begun_before_the_first_byte_is_out() {
        let (mut watched, line, mut theirs) = pair().await;
        let wire = wire(LONG);
        assert!(line.lend(&wire));
        assert_eq!(wire.begun(), None);

        watched.write_all(b"request").await.unwrap();

        assert!(wire.begun().is_some());
        assert_eq!(theirs.read_u8().await.unwrap(), b'r');
    }

    #[tokio::test]
    async fn nothing_is_written_without_a_request() {
        let (watched, _line, theirs) = pair().await;

        assert!(is_refused(watched, theirs).await);
    }

    #[tokio::test]
    async fn nothing_is_begun_after_the_upstream_timeout() {
        let (watched, line, theirs) = pair().await;
        let late = wire(Duration::ZERO);
        assert!(line.lend(&late));

        assert!(is_refused(watched, theirs).await);

        assert_eq!(late.begun(), None);
    }

    #[tokio::test]
    async fn nothing_is_written_on_a_line_that_was_cut() {
        let (watched, line, theirs) = pair().await;
        let wire = wire(LONG);
        assert!(line.lend(&wire));
        line.cut();

        assert!(is_refused(watched, theirs).await);

        assert_eq!(wire.begun(), None);
        assert!(!line.rest() && !line.lend(&wire), "a cut line stays cut");
    }

    #[tokio::test]
    async fn nothing_is_written_where_something_came_unasked() {
        let (watched, line, mut theirs) = pair().await;
        let wire = wire(LONG);
        assert!(line.lend(&wire));
        theirs.write_all(b"HTTP/1.1 200 OK").await.unwrap();

        assert!(is_refused(watched, theirs).await);

        assert_eq!(wire.begun(), None);
    }

    #[tokio::test]
    async fn nothing_is_written_where_the_other_side_has_closed() {
        let (mut watched, line, theirs) = pair().await;
        let wire = wire(LONG);
        assert!(line.lend(&wire));
        drop(theirs);

        assert!(watched.write_all(b"request").await.is_err());

        assert_eq!(wire.begun(), None);
    }

    #[tokio::test]
    async fn a_line_that_heard_something_while_resting_is_over() {
        let (mut watched, line, mut theirs) = pair().await;
        theirs.write_all(b"?").await.unwrap();

        assert_eq!(watched.read_u8().await.unwrap(), b'?');

        assert!(!line.lend(&wire(LONG)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_rested_too_long_is_not_lent() {
        let line = Line::new(LONG);

        tokio::time::advance(LONG).await;

        assert!(!line.lend(&wire(LONG)));
        line.must_close().await;
    }
}
