//! When a provider that has accepted an operation wants to be asked about it.

use std::time::Duration;

use crate::protocol::record::Reply;

/// The shortest and the longest wait that a provider may ask for.
const RETRY_AFTER_MAX: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// How long the answer asks to wait (`Retry-After`), within bounds. A date counts from the answer's
/// own `Date`: the provider's clock is compared with no other.
pub fn retry_after(reply: &Reply) -> Option<Duration> {
    let text = header(reply, "retry-after")?;
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = httpdate::parse_http_date(text).ok()?;
            let from = httpdate::parse_http_date(header(reply, "date")?).ok()?;
            until.duration_since(from).unwrap_or_default()
        }
    };
    Some(wait.clamp(RETRY_AFTER_MAX.0, RETRY_AFTER_MAX.1))
}

/// A header that stands there once.
fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    let mut named = reply.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
    let (_, value) = named.next()?;
    if named.next().is_some() {
        return None;
    }
    std::str::from_utf8(value).ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const DATE: (&str, &str) = ("Date", "Sun, 06 Nov 1994 08:49:37 GMT");

    fn asked(headers: &[(&str, &str)]) -> Option<u64> {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect();
        let reply = Reply { status: 202, headers, body: Bytes::new() };
        retry_after(&reply).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_are_taken_as_they_are_within_bounds() {
        assert_eq!(asked(&[("retry-after", "30")]), Some(30));
        assert_eq!(asked(&[("Retry-After", " 30 ")]), Some(30));
        assert_eq!(asked(&[("retry-after", "0")]), Some(1));
        assert_eq!(asked(&[("retry-after", "86400")]), Some(3600));
    }

    #[test]
    fn a_date_counts_from_the_answers_own_date() {
        let later = ("Retry-After", "Sun, 06 Nov 1994 08:50:07 GMT");
        assert_eq!(asked(&[DATE, later]), Some(30));
        assert_eq!(asked(&[later]), None);
        assert_eq!(asked(&[("date", "soon"), later]), None);
        let earlier = ("retry-after", "Sun, 06 Nov 1994 08:49:07 GMT");
        assert_eq!(asked(&[DATE, earlier]), Some(1));
    }

    #[test]
    fn what_cannot_be_read_asks_for_nothing() {
        for text in ["", "soon", "-1", "1.5", "1 minute", "99999999999999999999999"] {
            assert_eq!(asked(&[DATE, ("retry-after", text)]), None, "{text}");
        }
        assert_eq!(asked(&[("retry-after", "1"), ("retry-after", "2")]), None);
        assert_eq!(asked(&[]), None);
    }
}
