//! How messages are delimited: what is added to a request, which answers can be trusted. Pure
//! functions on top of what hyper lets through.
//!
//! hyper's client refuses differing lengths and chunked in HTTP/1.0, and skips interim answers. It
//! accepts length beside chunked, any transfer coding (read until the connection closes), answers
//! that end with the connection, and an unasked switch of protocols: refusing those is done here.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};

use crate::protocol::outcome::UnknownReason;

/// Whether an answer may end when the connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndByClosing {
    /// It may: nobody records it.
    Accept,
    /// It may not: nobody could tell a whole answer from a cut one.
    Refuse,
}

/// Checks that the end of an answer's body can be told for certain.
pub(super) fn check(
    method: &Method,
    status: StatusCode,
    headers: &HeaderMap,
    end_by_closing: EndByClosing,
) -> Result<(), UnknownReason> {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(UnknownReason::UnexpectedUpgrade);
    }
    let coded = headers.contains_key(header::TRANSFER_ENCODING);
    let sized = headers.contains_key(header::CONTENT_LENGTH);
    let delimited = match (coded, sized) {
        (true, true) => return Err(UnknownReason::IllFramed),
        (true, false) if !is_chunked(headers) => return Err(UnknownReason::IllFramed),
        (true, false) | (false, true) => true,
        (false, false) => !may_have_body(method, status),
    };
    match end_by_closing {
        EndByClosing::Refuse if !delimited => Err(UnknownReason::IllFramed),
        EndByClosing::Refuse | EndByClosing::Accept => Ok(()),
    }
}

/// Exactly one coding, and it is `chunked`.
fn is_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let first = codings.next().map(HeaderValue::as_bytes).unwrap_or_default();
    first.trim_ascii().eq_ignore_ascii_case(b"chunked") && codings.next().is_none()
}

fn may_have_body(method: &Method, status: StatusCode) -> bool {
    *method != Method::HEAD
        && status != StatusCode::NO_CONTENT
        && status != StatusCode::NOT_MODIFIED
        && !status.is_informational()
}

/// Leaves one of several equal lengths, so that the next hop has nothing to wonder about.
pub(super) fn one_length(headers: &mut HeaderMap) {
    if headers.get_all(header::CONTENT_LENGTH).iter().nth(1).is_some()
        && let Some(first) = headers.get(header::CONTENT_LENGTH).cloned()
    {
        headers.insert(header::CONTENT_LENGTH, first);
    }
}

/// Says how long a request's body is; `None`: nobody knows before it ends.
pub(super) fn frame_request(method: &Method, headers: &mut HeaderMap, length: Option<u64>) {
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
    match length {
        Some(0) if !expects_body(method) => {}
        Some(length) => {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        // hyper would drop the body of a GET whose length is not known; so it is told.
        None => {
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

/// Methods for which some servers answer 411 if an empty body is not spelt out.
fn expects_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: StatusCode = StatusCode::OK;

    fn verdict(status: StatusCode, lines: &[(&'static str, &'static str)]) -> [bool; 2] {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        [EndByClosing::Refuse, EndByClosing::Accept]
            .map(|end| check(&Method::POST, status, &headers, end).is_ok())
    }

    #[test]
    fn only_a_certain_end_is_accepted() {
        assert_eq!(verdict(OK, &[("content-length", "2")]), [true, true]);
        assert_eq!(verdict(OK, &[("transfer-encoding", "Chunked")]), [true, true]);
        assert_eq!(verdict(OK, &[]), [false, true]);
        assert_eq!(verdict(StatusCode::NO_CONTENT, &[]), [true, true]);
        let both = [("content-length", "2"), ("transfer-encoding", "chunked")];
        assert_eq!(verdict(OK, &both), [false, false]);
        assert_eq!(verdict(OK, &[("transfer-encoding", "gzip, chunked")]), [false, false]);
        assert_eq!(verdict(OK, &[("transfer-encoding", "identity")]), [false, false]);
        let twice = [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
        assert_eq!(verdict(OK, &twice), [false, false]);
        assert_eq!(verdict(StatusCode::SWITCHING_PROTOCOLS, &[]), [false, false]);
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let answer = check(&Method::HEAD, OK, &HeaderMap::new(), EndByClosing::Refuse);

        assert_eq!(answer, Ok(()));
    }

    #[test]
    fn a_request_says_its_length_if_it_is_known() {
        let framed = |method, length| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("99"));
            frame_request(&method, &mut headers, length);
            let (length, coding) = (header::CONTENT_LENGTH, header::TRANSFER_ENCODING);
            (headers.get(length).cloned(), headers.contains_key(coding))
        };

        assert_eq!(framed(Method::POST, Some(7)), (Some(7.into()), false));
        assert_eq!(framed(Method::POST, Some(0)), (Some(0.into()), false));
        assert_eq!(framed(Method::GET, Some(0)), (None, false));
        assert_eq!(framed(Method::GET, None), (None, true));
    }
}
