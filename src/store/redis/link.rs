//! One established connection to Redis, which many calls share.
//!
//! Calls put their commands into one outbox; one task carries it out, reads the answers, which come
//! in the order of the questions, and watches the deadlines of all. So calls that are made at about
//! the same time share one write, and no call has a timer of its own.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, Sleep, sleep_until};

use super::resp::{self, Reply};

/// How much is asked of the connection at once.
const READ_BYTES: usize = 16 << 10;

/// One established connection. Dropping the last reference closes it.
#[derive(Debug)]
pub(super) struct Link {
    shared: Arc<Shared>,
    driver: AbortHandle,
    /// Owns the task behind `driver`. It belongs to the connection and ends with it: there is
    /// nothing in it that a drain would have to wait for.
    _drivers: JoinSet<()>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Lost {
    /// None within the deadline.
    #[error("no answer within the deadline")]
    Late,
    /// The connection broke.
    #[error("{0}")]
    Broken(String),
}

#[derive(Debug, Default)]
struct Shared {
    outbox: Mutex<Outbox>,
    /// Something came over it, or did not come, that makes it useless.
    distrusted: AtomicBool,
}

/// What the task has not taken yet.
#[derive(Debug, Default)]
struct Outbox {
    bytes: BytesMut,
    calls: Vec<Waiting>,
    /// Wakes the task, if it waits.
    driver: Option<Waker>,
    /// Why the connection is no more.
    closed: Option<String>,
}

#[derive(Debug)]
struct Waiting {
    deadline: Instant,
    /// `None`: its deadline has passed. Its answer may come yet, and is nobody else's.
    answer: Option<oneshot::Sender<Result<Reply, Lost>>>,
}

impl Shared {
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// Starts to carry calls over a connection.
    pub(super) fn new<S>(stream: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shared = Arc::new(Shared::default());
        let mut driver = Driver {
            shared: Arc::clone(&shared),
            stream,
            outgoing: BytesMut::new(),
            flush_is_owed: false,
            incoming: BytesMut::new(),
            waiting: VecDeque::new(),
            earliest: None,
            timer: Box::pin(sleep_until(Instant::now())),
            gave_way: false,
        };
        let mut drivers = JoinSet::new();
        let driver = drivers.spawn(async move {
            let why = poll_fn(|cx| driver.poll(cx)).await;
            driver.shared.outbox().closed = Some(why.to_string());
        });
        Self { shared, driver, _drivers: drivers }
    }

    pub(super) fn is_usable(&self) -> bool {
        !self.driver.is_finished() && !self.shared.distrusted.load(Ordering::Relaxed)
    }

    /// Gives up the connection. Those that wait on it still get what is theirs.
    pub(super) fn distrust(&self) {
        self.shared.distrusted.store(true, Ordering::Relaxed);
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// [`Lost`]: it may have been carried out or not.
    ///
    /// # Cancel safety
    /// Dropping the future does not take the command back.
    pub(super) async fn ask(&self, command: &[&[u8]], deadline: Instant) -> Result<Reply, Lost> {
        let (answer, answered) = oneshot::channel();
        let driver = {
            let mut outbox = self.shared.outbox();
            if let Some(why) = &outbox.closed {
                return Err(Lost::Broken(why.clone()));
            }
            resp::write(command, &mut outbox.bytes);
            outbox.calls.push(Waiting { deadline, answer: Some(answer) });
            outbox.driver.take()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
        match answered.await {
            Ok(answer) => answer,
            Err(_) => {
                let why = self.shared.outbox().closed.clone();
                Err(Lost::Broken(why.unwrap_or_else(|| "the connection was closed".to_owned())))
            }
        }
    }
}

/// Carries one connection.
struct Driver<S> {
    shared: Arc<Shared>,
    stream: S,
    outgoing: BytesMut,
    /// Whether the stream may hold back some of what it took, as TLS does if its socket is full.
    flush_is_owed: bool,
    incoming: BytesMut,
    /// Those whose answers have not come, in the order of their questions.
    waiting: VecDeque<Waiting>,
    /// When the timer is to go off: not after the first deadline of those that wait.
    earliest: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    /// Whether others were let go first, so that their questions go into the same write.
    gave_way: bool,
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        // Whoever asks from now on, or still waits in the outbox, is told.
        let mut outbox = self.shared.outbox();
        outbox.closed.get_or_insert_with(|| "the connection was closed".to_owned());
        outbox.calls.clear();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    /// Ready when the connection is of no more use.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Err(error) = self.poll_answers(cx) {
            return Poll::Ready(error);
        }
        self.poll_deadlines(cx);
        if let Poll::Ready(Err(error)) = self.poll_questions(cx) {
            return Poll::Ready(error);
        }
        Poll::Pending
    }

    /// Hands out all answers that have come.
    fn poll_answers(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            self.incoming.reserve(READ_BYTES);
            let stream = Pin::new(&mut self.stream);
            match tokio_util::io::poll_read_buf(stream, cx, &mut self.incoming) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(error),
            }
            while let Some(reply) = resp::take(&mut self.incoming).map_err(|_| malformed())? {
                let waiting = self.waiting.pop_front().ok_or_else(malformed)?;
                if let Some(answer) = waiting.answer {
                    // Nobody may wait for it any more.
                    let _ = answer.send(Ok(reply));
                }
            }
        }
    }

    /// Tells those whose deadline has passed.
    fn poll_deadlines(&mut self, cx: &mut Context<'_>) {
        while self.earliest.is_some() && self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            self.earliest = None;
            for waiting in &mut self.waiting {
                if waiting.deadline > now {
                    let first =
                        self.earliest.map_or(waiting.deadline, |at| at.min(waiting.deadline));
                    self.earliest = Some(first);
                } else if let Some(answer) = waiting.answer.take() {
                    self.shared.distrusted.store(true, Ordering::Relaxed);
                    let _ = answer.send(Err(Lost::Late));
                }
            }
            if let Some(earliest) = self.earliest {
                self.timer.as_mut().reset(earliest);
            }
        }
    }

    /// Sends what is in the outbox.
    fn poll_questions(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if !self.collect(cx) && self.outgoing.is_empty() && !self.flush_is_owed {
                self.gave_way = false;
                return Poll::Pending;
            }
            if !self.gave_way {
                self.gave_way = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            while !self.outgoing.is_empty() {
                match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outgoing))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => self.outgoing.advance(written),
                }
                self.flush_is_owed = true;
            }
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.flush_is_owed = false;
        }
    }

    /// Takes over what is in the outbox, even while nothing can be written: it has deadlines.
    fn collect(&mut self, cx: &mut Context<'_>) -> bool {
        let mut outbox = self.shared.outbox();
        if !outbox.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
            outbox.driver = Some(cx.waker().clone());
        }
        if outbox.calls.is_empty() {
            return false;
        }
        if self.outgoing.is_empty() {
            std::mem::swap(&mut self.outgoing, &mut outbox.bytes);
        } else {
            self.outgoing.extend_from_slice(&outbox.bytes);
        }
        outbox.bytes.clear();
        let calls = outbox.calls.drain(..);
        for waiting in calls {
            if self.earliest.is_none_or(|earliest| waiting.deadline < earliest) {
                self.earliest = Some(waiting.deadline);
                self.timer.as_mut().reset(waiting.deadline);
                // Only a timer that was asked wakes anybody.
                cx.waker().wake_by_ref();
            }
            self.waiting.push_back(waiting);
        }
        true
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "an answer cannot be read")
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use futures_util::future::join_all;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufWriter, DuplexStream, duplex};

    use super::*;

    const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

    fn linked() -> (Link, DuplexStream) {
        let (ours, theirs) = duplex(1 << 16);
        (Link::new(ours), theirs)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    fn number(number: i64) -> Result<Reply, Lost> {
        Ok(Reply::Number(number))
    }

    #[tokio::test]
    async fn calls_made_at_once_share_a_write_and_get_their_own_answers() {
        let (link, mut redis) = linked();
        let calls = join_all((0..9).map(|_| link.ask(&[b"PING"], soon())));
        let redis = async {
            let mut read = vec![0; 1 << 10];
            let length = redis.read(&mut read).await.unwrap();
            assert_eq!(&read[..length], PING.repeat(9));
            redis
                .write_all(b":0\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n:6\r\n:7\r\n:8\r\n")
                .await
                .unwrap();
            redis
        };

        let (answers, _redis) = tokio::join!(calls, redis);

        assert_eq!(answers, (0..9).map(number).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_goes_to_nobody_else() {
        let (link, mut redis) = linked();
        let (early, late) = (soon(), soon() + Duration::from_secs(9));

        let redis = async {
            sleep_until(early + Duration::from_secs(1)).await;
            redis.write_all(b":1\r\n:2\r\n:3\r\n").await.unwrap();
        };
        let calls = (link.ask(&[b"PING"], late), link.ask(&[b"PING"], early));
        let last = link.ask(&[b"PING"], late);
        let (first, second, last, ()) = tokio::join!(calls.0, calls.1, last, redis);

        assert_eq!((first, second, last), (number(1), Err(Lost::Late), number(3)));
        assert!(!link.is_usable());
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_holds_while_nothing_can_be_written() {
        let (ours, _theirs) = duplex(4);
        let link = Link::new(ours);

        let calls = (0..3).map(|n| link.ask(&[b"PING"], soon() + Duration::from_millis(n)));

        assert_eq!(join_all(calls).await, vec![Err(Lost::Late); 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_stream_took_and_holds_back_follows_when_it_can() {
        // It takes a question at once and passes it on four bytes at a time, as TLS does.
        let (ours, mut redis) = duplex(4);
        let link = Link::new(BufWriter::new(ours));
        let redis = async {
            redis.read_exact(&mut [0; PING.len()]).await.unwrap();
            redis.write_all(b":1\r\n").await.unwrap();
            pending().await
        };

        let answer = tokio::select! {
            answer = link.ask(&[b"PING"], soon()) => answer,
            () = redis => unreachable!("it waits for ever"),
        };

        assert_eq!(answer, number(1));
    }

    #[tokio::test]
    async fn an_end_and_an_answer_to_nothing_end_the_connection() {
        for sent in [&b""[..], b":1\r\n:2\r\n", b"HTTP/1.1 400 Bad Request\r\n"] {
            let (link, mut redis) = linked();
            let ended = async move {
                let mut asked = vec![0; PING.len()];
                redis.read_exact(&mut asked).await.unwrap();
                redis.write_all(sent).await.unwrap();
                drop(redis);
            };
            let (_answer, ()) = tokio::join!(link.ask(&[b"PING"], soon()), ended);

            let after = link.ask(&[b"PING"], soon()).await;
            assert!(matches!(after, Err(Lost::Broken(_))), "{after:?}");
        }
    }
}
