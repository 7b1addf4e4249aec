//! The front door: refuses what two parsers could read in two ways, and what no proxy should pass.
//!
//! Pure over a request's head and, where the parser hides things, what the server saw of its bytes
//! ([`Framing`]). What hyper refuses by itself (ill-formed lines, control characters, folded
//! headers, wrong lengths) never gets here; `tests/integration/front_door.rs` has both.

use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, StatusCode, Version};

use crate::proxy::problem::{Problem, Slug};
use crate::server::Framing;

const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Why a request does not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refused {
    /// The answer's status.
    pub status: StatusCode,
    /// Which problem.
    pub slug: Slug,
    /// What is wrong, for whoever sent it.
    pub detail: &'static str,
}

impl Refused {
    const fn malformed(detail: &'static str) -> Self {
        Self::with(StatusCode::BAD_REQUEST, detail)
    }

    const fn with(status: StatusCode, detail: &'static str) -> Self {
        Self { status, slug: Slug::MalformedRequest, detail }
    }

    /// As an answer; its connection ends with it, as nobody knows what follows.
    pub fn problem(&self) -> Problem {
        Problem {
            status: self.status,
            detail: self.detail.into(),
            close: true,
            ..Problem::new(self.slug)
        }
    }
}

/// Lets a request in, or says why not.
///
/// # Errors
/// [`Refused`], with the answer to give. Nothing of the request may be used then.
pub fn admit(head: &Parts, guarded: bool) -> Result<(), Refused> {
    let framing = head.extensions.get::<Framing>();
    method(&head.method)?;
    lengths(&head.headers, framing)?;
    encoding(head.version, &head.headers)?;
    target(head, framing)?;
    host(head)?;
    expectation(&head.headers)?;
    if guarded {
        upgrade(&head.headers)?;
    }
    Ok(())
}

/// Method names are case-sensitive, and a new one may have effects that nobody thought of.
fn method(method: &Method) -> Result<(), Refused> {
    match *method {
        Method::GET
        | Method::HEAD
        | Method::OPTIONS
        | Method::POST
        | Method::PUT
        | Method::PATCH
        | Method::DELETE => Ok(()),
        Method::CONNECT | Method::TRACE => Err(Refused::with(
            StatusCode::METHOD_NOT_ALLOWED,
            "CONNECT and TRACE are not let through",
        )),
        _ => Err(Refused::with(
            StatusCode::NOT_IMPLEMENTED,
            "an unknown method; names of methods are upper case",
        )),
    }
}

fn lengths(headers: &HeaderMap, framing: Option<&Framing>) -> Result<(), Refused> {
    let seen = |name| u32::try_from(headers.get_all(name).iter().count()).unwrap_or(u32::MAX);
    let (mut lengths, mut encodings) =
        (seen(header::CONTENT_LENGTH), seen(header::TRANSFER_ENCODING));
    if let Some(framing) = framing {
        if framing.bare_line_feed {
            return Err(Refused::malformed("lines end with a carriage return and a line feed"));
        }
        lengths = lengths.max(framing.lengths);
        encodings = encodings.max(framing.encodings);
    }
    match (lengths, encodings) {
        (0 | 1, 0) | (0, 1) => Ok(()),
        (2.., _) => Err(Refused::malformed("there is more than one Content-Length")),
        (_, 2..) => Err(Refused::malformed("there is more than one Transfer-Encoding")),
        (1, 1) => {
            Err(Refused::malformed("Content-Length and Transfer-Encoding contradict each other"))
        }
    }
}

fn encoding(version: Version, headers: &HeaderMap) -> Result<(), Refused> {
    let Some(encoding) = headers.get(header::TRANSFER_ENCODING) else { return Ok(()) };
    if version != Version::HTTP_11 {
        return Err(Refused::malformed("Transfer-Encoding is for HTTP/1.1"));
    }
    if !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Refused::malformed("the only Transfer-Encoding is chunked"));
    }
    Ok(())
}

fn target(head: &Parts, framing: Option<&Framing>) -> Result<(), Refused> {
    if framing.is_some_and(|framing| framing.fragment) {
        return Err(Refused::malformed("a request's target has no fragment"));
    }
    let uri = &head.uri;
    match (uri.scheme_str(), uri.authority()) {
        (None, None) => {}
        (Some("http" | "https"), Some(_)) => {}
        (Some(_), _) => return Err(Refused::malformed("not the URL of an HTTP resource")),
        (None, Some(_)) => {
            return Err(Refused::malformed("a target without a path is for CONNECT"));
        }
    }
    let path = uri.path();
    if !path.starts_with('/') {
        return Err(Refused::malformed("a path starts with /"));
    }
    // Some servers take what follows for a host.
    if path.starts_with("//") {
        return Err(Refused::malformed("a path starts with one / only"));
    }
    Ok(())
}

/// Exactly one `Host`; a target in absolute form must agree with it.
fn host(head: &Parts) -> Result<(), Refused> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Refused::malformed("there must be one Host"));
    };
    let host = Authority::try_from(host.as_bytes())
        .ok()
        .filter(|host| !host.as_str().contains('@') && !host.host().is_empty())
        .ok_or(Refused::malformed("Host is a name or an address, and a port at most"))?;
    match head.uri.authority() {
        Some(authority) if !authority.as_str().eq_ignore_ascii_case(host.as_str()) => {
            Err(Refused::malformed("the target's host is not the one that Host names"))
        }
        Some(_) | None => Ok(()),
    }
}

fn expectation(headers: &HeaderMap) -> Result<(), Refused> {
    let all_known = headers
        .get_all(header::EXPECT)
        .iter()
        .all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if all_known {
        Ok(())
    } else {
        Err(Refused::with(
            StatusCode::EXPECTATION_FAILED,
            "the only expectation that is met is 100-continue",
        ))
    }
}

/// After a change of protocol nobody could say what was sent.
fn upgrade(headers: &HeaderMap) -> Result<(), Refused> {
    let names_upgrade = headers.get_all(header::CONNECTION).iter().any(|value| {
        let options = value.as_bytes().split(|&byte| byte == b',');
        options.map(<[u8]>::trim_ascii).any(|option| option.eq_ignore_ascii_case(b"upgrade"))
    });
    if names_upgrade
        || headers.contains_key(header::UPGRADE)
        || headers.contains_key(HTTP2_SETTINGS)
    {
        return Err(Refused::malformed("a guarded request cannot change the protocol"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(change: impl FnOnce(&mut Parts)) -> Parts {
        let request = Request::post("/v1/payments").header("host", "semel").body(()).unwrap();
        let mut head = request.into_parts().0;
        change(&mut head);
        head
    }

    fn status(change: impl FnOnce(&mut Parts)) -> Option<u16> {
        admit(&head(change), true).err().map(|refused| refused.status.as_u16())
    }

    #[test]
    fn what_the_parser_has_hidden_is_refused_all_the_same() {
        let seen = Framing {
            lengths: 0,
            encodings: 0,
            bare_line_feed: false,
            fragment: false,
            reusable: true,
        };
        for (framing, expected) in [
            (seen, None),
            (Framing { lengths: 1, ..seen }, None),
            (Framing { lengths: 2, ..seen }, Some(400)),
            (Framing { lengths: 1, encodings: 1, ..seen }, Some(400)),
            (Framing { encodings: 2, ..seen }, Some(400)),
            (Framing { bare_line_feed: true, ..seen }, Some(400)),
            (Framing { fragment: true, ..seen }, Some(400)),
        ] {
            let answer = status(|head| {
                head.extensions.insert(framing);
            });

            assert_eq!(answer, expected, "{framing:?}");
        }
    }

    #[test]
    fn only_safe_requests_may_ask_for_another_protocol() {
        let upgrading =
            |head: &mut Parts| drop(head.headers.insert("upgrade", "h2c".parse().unwrap()));

        assert!(admit(&head(upgrading), true).is_err());
        assert!(admit(&head(upgrading), false).is_ok());
    }

    #[test]
    fn a_target_in_absolute_form_agrees_with_host() {
        assert_eq!(status(|head| head.uri = "http://SEMEL/v1".parse().unwrap()), None);
        assert_eq!(status(|head| head.uri = "http://other/v1".parse().unwrap()), Some(400));
        assert_eq!(status(|head| head.uri = "http://u@semel/v1".parse().unwrap()), Some(400));
        assert_eq!(status(|head| head.uri = "ftp://semel/v1".parse().unwrap()), Some(400));
    }
}
