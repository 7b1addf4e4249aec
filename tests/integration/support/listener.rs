//! A listener of ours on a free port, with a service given by the test.
#![expect(clippy::unwrap_used, reason = "a helper of tests")]
#![expect(clippy::disallowed_methods, reason = "tests spawn what they await")]

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;

use http::{Request, Response};
use semel::server::{Body, Server, Settings};
use semel::task::Tasks;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::service_fn;

/// A listener that runs.
pub(crate) struct Listener {
    pub(crate) addr: SocketAddr,
    pub(crate) tasks: Tasks,
    pub(crate) drain: CancellationToken,
    pub(crate) served: JoinHandle<()>,
}

/// Settings on a free port.
pub(crate) fn settings() -> Settings {
    Settings::new(([127, 0, 0, 1], 0).into())
}

impl Listener {
    /// Starts one.
    pub(crate) async fn start<F, R, B>(settings: Settings, service: F) -> Self
    where
        F: Fn(Request<Body>) -> R + Clone + Send + 'static,
        R: Future<Output = Response<B>> + Send + 'static,
        B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let server = Server::bind(settings).await.unwrap();
        let addr = server.addr();
        let (tasks, drain) = (Tasks::default(), CancellationToken::new());
        let service = service_fn(move |request| {
            let response = service(request);
            async move { Ok::<_, Infallible>(response.await) }
        });
        let served = tokio::spawn({
            let (tasks, drain) = (tasks.clone(), drain.clone());
            async move { server.serve(service, &tasks, drain).await }
        });
        Self { addr, tasks, drain, served }
    }

    /// Stops it and waits for everything that it began.
    pub(crate) async fn stop(self) {
        self.drain.cancel();
        self.served.await.unwrap();
        self.tasks.ended().await;
    }
}
