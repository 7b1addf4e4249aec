//! The whole path on one screen: what cuts across, in its order, around [`Proxy::answer`].

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt as _;
use http::Request;
use tower::{ServiceBuilder, service_fn};

use super::problem::Slug;
use super::{Answered, Proxy, respond};
use crate::server::Body;

/// A data port's service in the form that the server takes.
pub trait ProxyService:
    tower::Service<
        Request<Body>,
        Response = http::Response<respond::Body>,
        Error = std::convert::Infallible,
        Future = Pin<Box<dyn Future<Output = Answered> + Send>>,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> ProxyService for S where
    S: tower::Service<
            Request<Body>,
            Response = http::Response<respond::Body>,
            Error = std::convert::Infallible,
            Future = Pin<Box<dyn Future<Output = Answered> + Send>>,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

/// Connection limits, head and body time-outs are below, in `server`; what is refused there never
/// comes here. Counting and logging are inside [`Proxy::answer`], because only it knows the route.
pub fn stack(proxy: Arc<Proxy>) -> impl ProxyService {
    ServiceBuilder::new()
        // Outermost: a panic must still be answered, and must not take its connection's peers along.
        // The operation is not lost with it: its record stays, and its lease ends in doubt.
        .map_future(catch_panic)
        // Refusals, routing, then the promise, in one plain function.
        .service(service_fn(move |request| Arc::clone(&proxy).answer(request).map(Ok)))
}

fn catch_panic(
    answer: impl Future<Output = Answered> + Send + 'static,
) -> Pin<Box<dyn Future<Output = Answered> + Send>> {
    let caught = AssertUnwindSafe(answer).catch_unwind();
    Box::pin(caught.map(|ended| match ended {
        Ok(answered) => answered,
        Err(_) => Ok(respond::refused(Slug::Internal, None)),
    }))
}
