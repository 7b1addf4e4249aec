//! Who may do what on the admin port.
//!
//! Health and metrics are open. Records may be read with the token, or from this machine; they are
//! changed with the token only. A browser on this machine counts as a stranger: a page that it
//! shows must not read records through it (DNS rebinding), nor change any.

use std::net::{IpAddr, SocketAddr};

use http::header::{AUTHORIZATION, FORWARDED, HOST, HeaderMap, HeaderName, ORIGIN, VIA};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, StatusCode};
use subtle::ConstantTimeEq as _;

use crate::server::Caller;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What a resource asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing.
    Nothing,
    /// To be let in.
    ToRead,
    /// To be an operator.
    ToChange,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// No token, or another one.
    Token,
    /// A page of another origin asks, through a browser.
    CrossOrigin,
    /// Without a token, and by a name that may lead anywhere.
    ForeignHost,
}

impl Needs {
    /// The methods that go with it, as `Allow` says them.
    pub(super) const fn methods(self) -> &'static str {
        match self {
            Self::Nothing | Self::ToRead => "GET, HEAD",
            Self::ToChange => "POST",
        }
    }

    /// Whether this method is one of them.
    pub(super) fn takes(self, method: &Method) -> bool {
        match self {
            Self::Nothing | Self::ToRead => [Method::GET, Method::HEAD].contains(method),
            Self::ToChange => method == Method::POST,
        }
    }
}

impl Denied {
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::CrossOrigin | Self::ForeignHost => StatusCode::FORBIDDEN,
        }
    }

    /// What is wrong, and what to do.
    pub(super) const fn message(self) -> &'static str {
        match self {
            Self::Token => "send the admin token: Authorization: Bearer …",
            Self::CrossOrigin => "pages of other origins are not let in",
            Self::ForeignHost => {
                "without the admin token, ask for localhost or an IP address, and not through a \
                 proxy"
            }
        }
    }
}

/// Where a request came from.
pub(super) fn peer(head: &Parts) -> Option<SocketAddr> {
    head.extensions.get::<Caller>().map(|caller| caller.peer())
}

/// Decides whether a request is let in.
pub(super) fn judge(needs: Needs, head: &Parts, token: &str) -> Result<(), Denied> {
    if needs == Needs::Nothing {
        return Ok(());
    }
    if is_cross_origin(&head.headers) {
        return Err(Denied::CrossOrigin);
    }
    if knows(&head.headers, token) {
        return Ok(());
    }
    let local = peer(head).is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    if needs == Needs::ToChange || !local {
        return Err(Denied::Token);
    }
    if is_forwarded(&head.headers) || !is_fixed(head) {
        return Err(Denied::ForeignHost);
    }
    Ok(())
}

fn knows(headers: &HeaderMap, token: &str) -> bool {
    const SCHEME: usize = "Bearer ".len();
    let given =
        headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().split_at_checked(SCHEME));
    given.is_some_and(|(scheme, given)| {
        scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(given.ct_eq(token.as_bytes()))
    })
}

/// Whether a browser asks on behalf of a page that is not ours.
fn is_cross_origin(headers: &HeaderMap) -> bool {
    let site = headers.get(SEC_FETCH_SITE).map(|site| site.as_bytes());
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return true;
    }
    let host = headers.get(HOST).map_or(&b""[..], |host| host.as_bytes());
    headers.get_all(ORIGIN).iter().any(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        origin.is_none_or(|(_, origin)| !origin.as_bytes().eq_ignore_ascii_case(host))
    })
}

/// Whether the peer is a proxy, so that its address says nothing of who asks.
fn is_forwarded(headers: &HeaderMap) -> bool {
    [FORWARDED, X_FORWARDED_FOR, VIA].iter().any(|name| headers.contains_key(name))
}

/// Whether every name under which we were asked is one that no DNS server has a say in.
fn is_fixed(head: &Parts) -> bool {
    let mut hosts = head.headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    host.iter().chain(head.uri.authority()).all(names_address) && host.is_some()
}

fn names_address(authority: &Authority) -> bool {
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn head(headers: &[(&'static str, &str)]) -> Parts {
        let mut request = Request::builder().uri("/api/v1/records");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let says = |value: &str| knows(&head(&[("authorization", value)]).headers, TOKEN);

        assert!(says("Bearer 0123456789abcdef"));
        assert!(says("bearer 0123456789abcdef"));
        assert!(!says("Bearer 0123456789abcde"));
        assert!(!says("Bearer 0123456789abcdef0"));
        assert!(!says("Bearer "));
        assert!(!says("Basic 0123456789abcdef"));
        assert!(!says(TOKEN));
        assert!(!knows(&head(&[]).headers, TOKEN));
    }

    #[test]
    fn names_that_a_dns_server_could_rebind_are_not_trusted() {
        let fixed = |host: &str| is_fixed(&head(&[("host", host)]));

        for host in ["localhost", "LOCALHOST:7412", "127.0.0.1:7412", "[::1]:7412", "10.0.0.7"] {
            assert!(fixed(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:7412", ""] {
            assert!(!fixed(host), "{host}");
        }
        assert!(!is_fixed(&head(&[])));
        assert!(!is_fixed(&head(&[("host", "localhost"), ("host", "evil.example")])));
    }

    #[test]
    fn pages_of_other_origins_are_told_apart() {
        let crosses = |name: &'static str, value: &str| {
            is_cross_origin(&head(&[("host", "127.0.0.1:7412"), (name, value)]).headers)
        };

        assert!(!crosses("origin", "http://127.0.0.1:7412"));
        assert!(!crosses("sec-fetch-site", "same-origin"));
        assert!(!crosses("sec-fetch-site", "none"));
        assert!(crosses("origin", "http://127.0.0.1:8080"));
        assert!(crosses("origin", "http://evil.example"));
        assert!(crosses("origin", "null"));
        assert!(crosses("sec-fetch-site", "cross-site"));
        assert!(crosses("sec-fetch-site", "same-site"));
    }
}
