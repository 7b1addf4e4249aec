//! Whether a process runs, is paused or is dead: it lays hands on every task of its own.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use semel::task::{Harness, Work};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    /// Its tasks are not polled, while the world's clocks go on.
    Paused,
    /// Its tasks are never polled again.
    Dead,
}

/// The life of one process.
#[derive(Debug)]
pub(crate) struct Life {
    state: Mutex<State>,
    died: CancellationToken,
    waiting: Mutex<Vec<Waker>>,
}

impl Life {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::Running),
            died: CancellationToken::new(),
            waiting: Mutex::default(),
        })
    }

    pub(crate) fn state(&self) -> State {
        *self.state.lock().unwrap()
    }

    pub(crate) fn pause(&self) {
        self.enter(State::Paused);
    }

    pub(crate) fn resume(&self) {
        self.enter(State::Running);
    }

    pub(crate) fn kill(&self) {
        self.enter(State::Dead);
    }

    /// Ends when the process has died: what its peers see of it is a closed connection.
    pub(crate) async fn died(&self) {
        self.died.cancelled().await;
    }

    fn enter(&self, next: State) {
        if self.state() == State::Dead {
            return;
        }
        *self.state.lock().unwrap() = next;
        if next == State::Dead {
            self.died.cancel();
        }
        let waiting: Vec<_> = self.waiting().drain(..).collect();
        for waker in waiting {
            waker.wake();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.waiting.lock().unwrap()
    }
}

/// Holds a process's tasks to its life.
#[derive(Debug)]
pub(crate) struct Leash(pub(crate) Arc<Life>);

impl Harness for Leash {
    fn wrap(&self, work: Work) -> Work {
        let life = Arc::clone(&self.0);
        let mut work = Some(work);
        Box::pin(poll_fn(move |cx| match life.state() {
            State::Dead => {
                // What it held is dropped; nothing that does can reach the world any more.
                work = None;
                Poll::Ready(())
            }
            State::Paused => {
                life.waiting().push(cx.waker().clone());
                Poll::Pending
            }
            State::Running => match &mut work {
                Some(running) => running.as_mut().poll(cx),
                None => Poll::Ready(()),
            },
        }))
    }
}
