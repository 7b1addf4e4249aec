//! Which headers go on: towards the upstream, back from it, and onto the record. Pure functions,
//! harmless if applied twice.
//!
//! Everything else goes through as it came: the idempotency key, `Accept-Encoding`, `Prefer`,
//! tracing headers.

use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};

use super::settings::Forwarding;

/// What semel calls itself in `Via`.
const VIA: &str = "1.1 semel";

/// Instructions to a neighbouring mesh proxy (such as "send it again"), and our own names.
const NEVER_UP: [&str; 3] = ["x-envoy-", "l5d-", "semel-"];

/// Makes a caller's headers fit for the upstream. `Host` and framing are added later.
pub fn toward_upstream(headers: &mut HeaderMap, forwarding: Forwarding) {
    strip_connection(headers);
    strip_where(headers, |name| {
        is_hop_by_hop(name)
            || matches!(name, "content-length" | "host")
            || name.starts_with("proxy-")
            || NEVER_UP.iter().any(|prefix| name.starts_with(prefix))
            || (forwarding == Forwarding::Strip && claims_a_path(name))
    });
    add_via(headers);
}

/// Makes the upstream's headers fit for a caller. `Content-Length` stays, and `Proxy-Status` too:
/// it tells what proxies before us saw.
pub fn toward_caller(headers: &mut HeaderMap) {
    strip_connection(headers);
    strip_where(headers, |name| {
        is_hop_by_hop(name)
            || name.starts_with("semel-")
            || (name.starts_with("proxy-") && name != "proxy-status")
    });
}

/// Makes an answer's headers fit for the record: what belongs to one caller or one connection is
/// not replayed to another. `Date` stays: it says when the answer was given.
pub fn for_record(headers: &mut HeaderMap) {
    toward_caller(headers);
    headers.remove(header::SET_COOKIE);
    headers.remove("set-cookie2");
}

/// Headers by which a caller claims to have come from somewhere.
fn claims_a_path(name: &str) -> bool {
    name == "forwarded" || name == "x-real-ip" || name.starts_with("x-forwarded-")
}

/// Hop-by-hop by definition, whatever `Connection` says. `Expect` belongs here because the body is
/// in hand before anything is sent.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "keep-alive" | "te" | "trailer" | "transfer-encoding" | "upgrade" | "expect" | "connection"
    )
}

/// Removes `Connection`, and the headers that it names.
fn strip_connection(headers: &mut HeaderMap) {
    if !headers.contains_key(header::CONNECTION) {
        return;
    }
    let nominated: Vec<_> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        // Goes anyway, and is what nearly every `Connection` says.
        .filter(|token| !token.eq_ignore_ascii_case(b"keep-alive"))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .collect();
    headers.remove(header::CONNECTION);
    for name in nominated {
        headers.remove(name);
    }
}

fn strip_where(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let names: Vec<_> = headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn add_via(headers: &mut HeaderMap) {
    let ours = HeaderValue::from_static(VIA);
    if headers.get_all(header::VIA).iter().all(|hop| hop != ours) {
        headers.append(header::VIA, ours);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn nothing_hop_by_hop_reaches_the_upstream() {
        let mut request = headers(&[
            ("connection", "close, X-Private"),
            ("connection", "x-other"),
            ("x-private", "1"),
            ("x-other", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic x"),
            ("proxy-connection", "close"),
            ("te", "trailers"),
            ("trailer", "x-sum"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("content-length", "7"),
            ("host", "evil.example"),
            ("idempotency-key", "k"),
        ]);

        toward_upstream(&mut request, Forwarding::Strip);

        assert_eq!(names(&request), ["idempotency-key", "via"]);
    }

    #[test]
    fn no_caller_can_tell_a_neighbour_to_send_again() {
        let mut request = headers(&[
            ("x-envoy-retry-on", "5xx"),
            ("x-envoy-max-retries", "3"),
            ("l5d-retry-http", "5xx"),
            ("semel-operation", "x"),
            ("prefer", "respond-async"),
            ("accept-encoding", "gzip"),
            ("traceparent", "00-1-2-01"),
        ]);

        toward_upstream(&mut request, Forwarding::Trust);

        assert_eq!(names(&request), ["accept-encoding", "prefer", "traceparent", "via"]);
    }

    #[test]
    fn forwarding_headers_go_on_only_if_trusted() {
        let lines = [("forwarded", "for=1.2.3.4"), ("x-forwarded-for", "1.2.3.4")];
        let (mut trusted, mut not) = (headers(&lines), headers(&lines));

        toward_upstream(&mut trusted, Forwarding::Trust);
        toward_upstream(&mut not, Forwarding::Strip);

        assert_eq!(names(&trusted), ["forwarded", "via", "x-forwarded-for"]);
        assert_eq!(names(&not), ["via"]);
    }

    #[test]
    fn via_is_added_once_after_those_before_us() {
        let mut request = headers(&[("via", "1.1 edge")]);

        toward_upstream(&mut request, Forwarding::Strip);
        toward_upstream(&mut request, Forwarding::Strip);

        let hops: Vec<_> = request.get_all("via").iter().collect();
        assert_eq!(hops, ["1.1 edge", VIA]);
    }

    #[test]
    fn an_upstream_cannot_speak_for_semel() {
        let mut answer = headers(&[
            ("semel-answer", "replayed"),
            ("proxy-status", "edge; error=x"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "2"),
            ("set-cookie", "a=b"),
            ("date", "now"),
        ]);

        toward_caller(&mut answer);

        assert_eq!(names(&answer), ["content-length", "date", "proxy-status", "set-cookie"]);
    }

    #[test]
    fn a_record_keeps_the_date_and_no_cookie() {
        let mut answer = headers(&[("set-cookie", "a=b"), ("date", "then"), ("connection", "x")]);

        for_record(&mut answer);

        assert_eq!(names(&answer), ["date"]);
    }
}
