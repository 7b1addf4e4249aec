//! A request that waits long lets go of the memory that it came in.

use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Uri};

/// Gives a request's head memory of its own, as large as it is.
///
/// A head as the parser makes it is slices of its connection's read buffer: for a few hundred bytes it
/// holds 8 KiB, and the connection needs another buffer meanwhile.
pub(super) fn compact(request: &mut Request<Bytes>) {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let values: usize = request.headers().values().map(HeaderValue::len).sum();
    let mut memory = BytesMut::with_capacity(values + target);
    let mut own = |bytes: &[u8]| {
        memory.extend_from_slice(bytes);
        memory.split().freeze()
    };
    for value in request.headers_mut().values_mut() {
        // What is a value already is one in other memory, too.
        let Ok(mut copy) = HeaderValue::from_maybe_shared(own(value.as_bytes())) else { continue };
        copy.set_sensitive(value.is_sensitive());
        *value = copy;
    }
    // A target with more than a path is rare, and stays as it is.
    if let (None, Some(target)) = (request.uri().authority(), request.uri().path_and_query())
        && let Ok(copy) = PathAndQuery::from_maybe_shared(own(target.as_str().as_bytes()))
    {
        *request.uri_mut() = Uri::from(copy);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn a_compact_request_says_the_same_and_holds_nothing_of_the_buffer_it_came_in() {
        let mut buffer = BytesMut::with_capacity(8192);
        buffer.extend_from_slice(b"/v1/pay%20now?key=1&b onetwothree\xff");
        let buffer = buffer.freeze();
        let value = |range| HeaderValue::from_maybe_shared(buffer.slice(range)).unwrap();
        let mut headers = HeaderMap::new();
        headers.append("accept", value(22..25));
        headers.append("x-other", value(28..34));
        headers.append("accept", value(25..28));
        headers.get_mut("x-other").unwrap().set_sensitive(true);
        let mut request = Request::new(Bytes::from_static(b"body"));
        *request.uri_mut() = Uri::from_maybe_shared(buffer.slice(..21)).unwrap();
        *request.headers_mut() = headers.clone();

        compact(&mut request);

        assert_eq!(*request.headers(), headers);
        assert!(request.headers()["x-other"].is_sensitive());
        assert_eq!(request.uri(), "/v1/pay%20now?key=1&b");
        drop(headers);
        assert!(buffer.is_unique());
    }
}
