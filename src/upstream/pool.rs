//! Which connection a request gets: one that rested, or a new one. Knows no request, and sends
//! nothing again.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::connect::{Connection, Connector};
use super::settings::Connections;
use super::{StreamingBody, Wire};
use crate::task::Tasks;

/// How old a spare connection may get.
const SPARE_AGE_MAX: Duration = Duration::from_secs(2);

/// How long a connection whose answer is complete may take to be ready for the next request.
const READY_MAX: Duration = Duration::from_secs(1);

/// The connections for one kind of traffic.
pub(super) struct Pool {
    connector: Arc<Connector>,
    tasks: Tasks,
    connections: Connections,
    exchanges: Arc<Semaphore>,
    /// The last one rests least long.
    resting: Mutex<VecDeque<Connection>>,
    spares_coming: AtomicUsize,
    last_taken: Mutex<Option<Instant>>,
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// One that rested, if there is one; it may have been closed at this moment.
    Any,
    /// A new one.
    New,
}

/// A connection in the hands of one exchange. Dropping it closes the connection, and ends the right
/// to write before it returns.
pub(super) struct Held {
    connection: Option<Connection>,
    pool: Arc<Pool>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Pool {
    pub(super) fn new(
        connector: Arc<Connector>,
        tasks: Tasks,
        connections: Connections,
        exchanges_max: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            connector,
            tasks,
            connections,
            exchanges: Arc::new(Semaphore::new(exchanges_max)),
            resting: Mutex::new(VecDeque::new()),
            spares_coming: AtomicUsize::new(0),
            last_taken: Mutex::new(None),
        })
    }

    /// Waits for a turn, and then for a connection on which `wire`'s request may be written. The
    /// caller bounds the wait.
    ///
    /// # Errors
    /// Why no connection could be opened. Nothing was sent.
    pub(super) async fn hold(self: &Arc<Self>, wire: &Arc<Wire>, from: Source) -> io::Result<Held> {
        let permit = Arc::clone(&self.exchanges).acquire_owned().await.ok();
        let rested = match from {
            Source::Any => self.rested(wire),
            Source::New => None,
        };
        let connection = match rested {
            Some(connection) => connection,
            // In a box: few requests need it, and it is larger than the rest of the way.
            None => Box::pin(self.open(wire)).await?,
        };
        self.replace_spares();
        Ok(Held { connection: Some(connection), pool: Arc::clone(self), permit })
    }

    /// The one that rested least long: the least likely to be closed at this moment.
    fn rested(&self, wire: &Arc<Wire>) -> Option<Connection> {
        let mut resting = lock(&self.resting);
        while let Some(connection) = resting.pop_back() {
            if !connection.sender.is_closed() && connection.line.lend(wire) {
                return Some(connection);
            }
        }
        None
    }

    async fn open(&self, wire: &Arc<Wire>) -> io::Result<Connection> {
        let connection = self.connector.connect(self.rest_max()).await?;
        if connection.line.lend(wire) {
            Ok(connection)
        } else {
            Err(io::Error::new(io::ErrorKind::ConnectionReset, "closed before it was used"))
        }
    }

    const fn rest_max(&self) -> Duration {
        match self.connections {
            Connections::Pooled { idle_max, .. } => idle_max,
            Connections::SingleUse { .. } => SPARE_AGE_MAX,
        }
    }

    fn put(&self, connection: Connection) {
        let room = match self.connections {
            Connections::Pooled { size_max, .. } => size_max,
            Connections::SingleUse { spares } => spares,
        };
        let mut resting = lock(&self.resting);
        // Mostly those close that rested longest; all are looked at only for want of room.
        while resting.front().is_some_and(|connection| connection.sender.is_closed()) {
            resting.pop_front();
        }
        if resting.len() >= room {
            resting.retain(|connection| !connection.sender.is_closed());
        }
        if resting.len() < room {
            resting.push_back(connection);
        } else {
            connection.line.cut();
        }
    }

    /// Opens as many spares as are missing, while there is enough traffic to use them up.
    fn replace_spares(self: &Arc<Self>) {
        let Connections::SingleUse { spares } = self.connections else { return };
        let last = lock(&self.last_taken).replace(Instant::now());
        if last.is_none_or(|last| last.elapsed() > SPARE_AGE_MAX) {
            return;
        }
        lock(&self.resting).retain(|connection| !connection.sender.is_closed());
        let ready = lock(&self.resting).len();
        let claim = |coming: usize| (ready + coming < spares).then_some(coming + 1);
        while self.spares_coming.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim).is_ok() {
            let pool = Arc::clone(self);
            self.tasks.spawn(async move {
                let opened = pool.connector.connect(SPARE_AGE_MAX).await;
                pool.spares_coming.fetch_sub(1, Ordering::Relaxed);
                if let Ok(spare) = opened {
                    pool.put(spare);
                }
            });
        }
    }
}

impl Held {
    /// Writes the request and waits for the head of its answer. On an error the connection is
    /// closed before this returns, and the wire says whether a write was tried.
    pub(super) fn send(
        mut self,
        request: Request<StreamingBody>,
    ) -> impl Future<Output = Result<(Response<Incoming>, Self), hyper::Error>> + Send {
        // Not in the block: it would hold the request as well.
        let answer = match &mut self.connection {
            Some(connection) => connection.sender.try_send_request(request),
            None => unreachable!("a connection is held until it is released"),
        };
        async move {
            // Either way `self` goes along: with the answer, or into its drop.
            match answer.await {
                Ok(answer) => Ok((answer, self)),
                Err(refused) => Err(refused.into_error()),
            }
        }
    }

    /// Gives the connection back after a complete answer.
    pub(super) fn release(mut self) {
        let keep = match self.pool.connections {
            Connections::Pooled { size_max, .. } => size_max > 0,
            Connections::SingleUse { .. } => false,
        };
        if !keep {
            return;
        }
        let Some(mut connection) = self.connection.take() else { return };
        let ready = connection.sender.poll_ready(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(ready) = ready {
            self.give_back(connection, ready.is_ok());
            return;
        }
        let tasks = self.pool.tasks.clone();
        tasks.spawn(async move {
            // The answer can be complete before the request is, or before the connection noticed.
            let ready = timeout(READY_MAX, connection.sender.ready()).await;
            self.give_back(connection, matches!(ready, Ok(Ok(()))));
        });
    }

    fn give_back(&mut self, connection: Connection, ready: bool) {
        if ready && connection.line.rest() {
            self.pool.put(connection);
        } else {
            connection.line.cut();
        }
        drop(self.permit.take());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.line.cut();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::upstream::settings::Settings;

    const LONG: Duration = Duration::from_secs(60);

    async fn pool(connections: Connections) -> (Arc<Pool>, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let tasks = Tasks::default();
        let connector = Connector::new(&Settings::new(url.parse().unwrap()), tasks.clone());
        (Pool::new(Arc::new(connector.unwrap()), tasks, connections, 1), listener)
    }

    fn wire() -> Arc<Wire> {
        Arc::new(Wire::new(Instant::now() + LONG))
    }

    #[tokio::test]
    async fn dropping_what_is_held_ends_the_right_to_write_at_once() {
        let (pool, _listener) = pool(Connections::default()).await;
        let held = pool.hold(&wire(), Source::Any).await.unwrap();
        let line = Arc::clone(&held.connection.as_ref().unwrap().line);

        drop(held);

        assert!(!line.rest() && !line.lend(&wire()), "the line is over");
    }

    #[tokio::test]
    async fn a_place_is_free_again_when_what_was_held_is_dropped() {
        let (pool, _listener) = pool(Connections::SingleUse { spares: 0 }).await;
        let held = pool.hold(&wire(), Source::Any).await.unwrap();
        assert_eq!(pool.exchanges.available_permits(), 0);

        drop(held);

        assert_eq!(pool.exchanges.available_permits(), 1);
    }
}
