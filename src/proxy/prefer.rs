//! What a caller prefers (RFC 7240): not to wait, or not for long.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

/// No route waits longer, so whoever would is not cut short.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// How a caller wants to hear that nothing is known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wishes {
    /// As 202, which it knows to follow, rather than as 504.
    pub respond_async: bool,
    /// After so long at the latest.
    pub wait: Option<Duration>,
}

/// When a caller came, and with what wishes.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// When.
    pub at: Instant,
    /// With what.
    pub wishes: Wishes,
}

impl Wishes {
    /// Reads `Prefer`. What is malformed or not known is passed over, and of a preference that is
    /// stated twice the first counts.
    pub fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        let stated: Vec<_> =
            values.flat_map(|value| split(value, ',')).filter_map(preference).collect();
        let first = |name: &str| {
            let mut named = stated.iter().filter(|(its, _)| its.eq_ignore_ascii_case(name));
            named.next().map(|(_, value)| value.as_str())
        };
        Self {
            respond_async: first("respond-async") == Some(""),
            wait: first("wait").and_then(seconds),
        }
    }
}

impl Arrival {
    /// When this caller wants an answer, whatever is known by then.
    pub fn cut(&self) -> Option<Instant> {
        self.wishes.wait.map(|wait| self.at + wait)
    }

    /// Which of its wishes apply to an answer that says now that nothing is known, as
    /// `Preference-Applied` puts it.
    pub fn applied(&self) -> Vec<String> {
        let is_async = self.wishes.respond_async.then(|| "respond-async".to_owned());
        let waited = self.wishes.wait.filter(|wait| self.at.elapsed() >= *wait);
        is_async.into_iter().chain(waited.map(|wait| format!("wait={}", wait.as_secs()))).collect()
    }
}

/// The parts between separators that no quotes enclose.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(|character: char| {
        let parts = character == separator && !quoted;
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        parts
    })
    .collect()
}

/// Name and value of a preference, without its parameters; no value is the same as an empty one.
fn preference(text: &str) -> Option<(&str, String)> {
    let stated = split(text, ';').into_iter().next()?;
    let (name, value) = match stated.split_once('=') {
        Some((name, value)) => (name.trim(), word(value.trim())?),
        None => (stated.trim(), String::new()),
    };
    is_token(name).then_some((name, value))
}

/// A token, or what a quoted string says.
fn word(text: &str) -> Option<String> {
    let Some(quoted) = text.strip_prefix('"') else {
        return (text.is_empty() || is_token(text)).then(|| text.to_owned());
    };
    let mut content = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return characters.as_str().is_empty().then_some(content),
            '\\' => content.push(characters.next()?),
            character => content.push(character),
        }
    }
}

fn is_token(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
}

fn seconds(text: &str) -> Option<Duration> {
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than fit is longer than any route waits.
    fits.then(|| text.parse().map_or(WAIT_MAX, Duration::from_secs).min(WAIT_MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn wishes(lines: &[&str]) -> (bool, Option<u64>) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("prefer", HeaderValue::from_str(line).unwrap());
        }
        let Wishes { respond_async, wait } = Wishes::of(&headers);
        (respond_async, wait.map(|wait| wait.as_secs()))
    }

    #[test]
    fn preferences_are_read_as_the_rfc_writes_them() {
        for (lines, read) in [
            (&[][..], (false, None)),
            (&["respond-async"], (true, None)),
            (&["respond-async, wait=10"], (true, Some(10))),
            (&["wait=10", "Respond-Async"], (true, Some(10))),
            (&["return=minimal; foo=\"a, respond-async\", WAIT = \"7\" ;x=1"], (false, Some(7))),
            (&["respond-async=\"\"; wait=3"], (true, None)),
            (&["wait=0,respond-async;a;b=c"], (true, Some(0))),
            (&["wait=5, wait=9"], (false, Some(5))),
            (&["wait=99999999999999999999999"], (false, Some(24 * 3600))),
            (&["wait=\"\\7\""], (false, Some(7))),
        ] {
            assert_eq!(wishes(lines), read, "{lines:?}");
        }
    }

    #[test]
    fn what_is_malformed_is_passed_over() {
        for line in [
            "",
            ",",
            ";",
            "=",
            "wait",
            "wait=",
            "wait=-1",
            "wait=1.5",
            "wait=a",
            "wait=1 2",
            "wait=\"1",
            "wait=\"1\"2",
            "x y=1",
            "respond-async=yes",
            "respond async",
            "\"respond-async\"",
            "a=\"respond-async, wait=1",
            "wait=a, wait=1",
        ] {
            assert_eq!(wishes(&[line]), (false, None), "{line}");
        }
        assert_eq!(wishes(&["@@, ;;=, respond-async"]), (true, None));
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(line in "[ -~]{0,40}") {
            let _ = wishes(&[&line]);
        }
    }
}
