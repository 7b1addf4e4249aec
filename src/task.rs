//! The only place that spawns what outlives its caller; drain waits for it. Elsewhere a `JoinSet` ends
//! its tasks with their owner.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A task as a spawner takes it.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

/// Wraps each task on its way to the runtime; a simulation pauses and kills processes with it.
pub trait Harness: Debug + Send + Sync + 'static {
    /// Returns the work to be spawned in place of `work`.
    fn wrap(&self, work: Work) -> Work;
}

/// The tasks of one process.
///
/// Two kinds: *attempts* and what belongs to them, which drain waits for; and *services* (loops,
/// connections), which end by themselves when [`Tasks::stopping`] is cancelled or are left behind.
#[derive(Debug, Clone)]
pub struct Tasks {
    attempts: TaskTracker,
    services: TaskTracker,
    stopping: CancellationToken,
    cut: CancellationToken,
    harness: Option<Arc<dyn Harness>>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Tasks {
    /// None yet.
    pub fn new(harness: Option<Arc<dyn Harness>>) -> Self {
        Self {
            attempts: TaskTracker::new(),
            services: TaskTracker::new(),
            stopping: CancellationToken::new(),
            cut: CancellationToken::new(),
            harness,
        }
    }

    /// Spawns a loop, a listener or a connection.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.services.spawn(self.wrapped(future));
    }

    /// Spawns work that a caller's departure must not end and a drain waits for.
    pub fn detach(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.attempts.spawn(self.wrapped(future));
    }

    fn wrapped(&self, future: impl Future<Output = ()> + Send + 'static) -> Work {
        let work: Work = Box::pin(future);
        match &self.harness {
            Some(harness) => harness.wrap(work),
            None => work,
        }
    }

    /// Ends when everything that was spawned here has ended, services included.
    pub async fn ended(&self) {
        self.attempts.close();
        self.services.close();
        self.attempts.wait().await;
        self.services.wait().await;
    }

    /// Cancelled when the process is to stop taking work.
    pub const fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Cancelled when the grace of a drain is over: attempts put themselves on record and end.
    pub const fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// How many attempts are under way.
    pub fn attempts(&self) -> usize {
        self.attempts.len()
    }

    /// Stops taking work, gives attempts `grace` to end, then cuts them short and gives them
    /// `last` to put that on record. Says whether all of them ended.
    pub async fn drain(&self, grace: Duration, last: Duration) -> Drained {
        self.stopping.cancel();
        self.attempts.close();
        if tokio::time::timeout(grace, self.attempts.wait()).await.is_ok() {
            return Drained::Clean;
        }
        let left = self.attempts.len();
        self.cut.cancel();
        match tokio::time::timeout(last, self.attempts.wait()).await {
            Ok(()) => Drained::Cut(left),
            Err(_) => Drained::Abandoned(self.attempts.len()),
        }
    }
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every attempt came to its own end.
    Clean,
    /// So many were cut short; all of them are on record as in doubt.
    Cut(usize),
    /// So many could not even be put on record in time; their leases will end.
    Abandoned(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_attempts_and_then_cuts_them() {
        let tasks = Tasks::default();
        tasks.detach(tokio::time::sleep(Duration::from_secs(1)));
        let cut = tasks.cut().clone();
        tasks.detach(async move { cut.cancelled().await });

        let drained = tasks.drain(Duration::from_secs(5), Duration::from_secs(5)).await;

        assert_eq!(drained, Drained::Cut(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_does_not_wait_for_services() {
        let tasks = Tasks::default();
        tasks.spawn(std::future::pending());

        assert_eq!(tasks.drain(Duration::ZERO, Duration::ZERO).await, Drained::Clean);
    }
}
