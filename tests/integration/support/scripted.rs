//! An upstream that gives every request the same bytes for an answer, when the test lets it.
#![expect(clippy::unwrap_used, reason = "a helper of tests")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;

use super::rawserver::{RawRequest, RawServer};

#[derive(Debug)]
pub(crate) struct Scripted {
    server: RawServer,
    gate: Arc<Semaphore>,
    seen: Arc<Mutex<Vec<RawRequest>>>,
}

/// An answer with a length.
pub(crate) fn with_length(head: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

impl Scripted {
    /// Answers at once.
    pub(crate) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let scripted = Self::gated(answer).await;
        scripted.let_go(Semaphore::MAX_PERMITS >> 1);
        scripted
    }

    /// Answers as many requests as are let go.
    pub(crate) async fn gated(answer: impl Into<Vec<u8>>) -> Self {
        let (gate, seen) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(vec![])));
        let (guard, notes, answer) =
            (Arc::clone(&gate), Arc::clone(&seen), Arc::new(answer.into()));
        let server = RawServer::start(move |mut peer| {
            let (guard, notes) = (Arc::clone(&guard), Arc::clone(&notes));
            let answer = Arc::clone(&answer);
            async move {
                while let Some(request) = peer.request().await? {
                    notes.lock().unwrap().push(request);
                    guard.acquire().await.unwrap().forget();
                    peer.write_bytes(&answer).await?;
                }
                Ok(())
            }
        })
        .await;
        Self { server, gate, seen }
    }

    pub(crate) fn let_go(&self, answers: usize) {
        self.gate.add_permits(answers);
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.server.address
    }

    /// How many requests were read whole.
    pub(crate) fn executions(&self) -> usize {
        self.server.executions()
    }

    pub(crate) async fn until_executions(&self, count: usize) {
        super::sidecar::until("so many executions", || self.executions() >= count).await;
        assert_eq!(self.executions(), count);
    }

    pub(crate) fn requests(&self) -> Vec<RawRequest> {
        self.seen.lock().unwrap().clone()
    }
}
