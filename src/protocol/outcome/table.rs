//! The outcome table: what a complete answer means, by its status, a header and a body field.

use std::fmt;

use crate::protocol::json::{self, Found, NotJson, Pointer, Value};
use crate::protocol::record::Reply;

/// What an answer says of the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Meaning {
    /// It is over, well or badly.
    Final,
    /// Nothing was done.
    NotApplied,
    /// The provider has it and is still working.
    Accepted,
    /// It proves nothing.
    Unknown,
}

/// Which statuses a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatusMatch {
    /// This one.
    Exactly(u16),
    /// All with this first digit: `Class(5)` is 500 to 599.
    Class(u16),
}

impl StatusMatch {
    /// Whether the status is meant.
    pub const fn matches(self, status: u16) -> bool {
        match self {
            Self::Exactly(exactly) => status == exactly,
            Self::Class(class) => status / 100 == class,
        }
    }
}

/// A header that must be there with one of these values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderMatch {
    /// Its name, in any case.
    pub name: String,
    /// The values that are meant, to the letter.
    pub values: Vec<String>,
}

/// A field of a JSON body that must have one of these values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyMatch {
    /// Where it is.
    pub json: Pointer,
    /// The values that are meant: strings by their content, numbers as they are written.
    pub values: Vec<String>,
}

/// One row of an outcome table: under all conditions that it has, an answer has this meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which statuses.
    pub status: Option<StatusMatch>,
    /// Which header.
    pub header: Option<HeaderMatch>,
    /// Which field of the body.
    pub body: Option<BodyMatch>,
    /// What the answer means.
    pub is: Meaning,
}

/// A complete answer, as far as it can be judged. Shows its status only.
#[derive(Clone, Copy)]
pub struct Answered<'a> {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: &'a [(String, Vec<u8>)],
    /// Its body; `None` if it was too large to keep.
    pub body: Option<&'a [u8]>,
}

impl fmt::Debug for Answered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answered").field("status", &self.status).finish_non_exhaustive()
    }
}

impl<'a> Answered<'a> {
    /// An answer that was kept whole.
    pub fn of(reply: &'a Reply) -> Self {
        Self { status: reply.status, headers: &reply.headers, body: Some(&reply.body) }
    }
}

/// What answers mean: a route's own rules first, then the defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutcomeTable {
    rules: Vec<Rule>,
    accepts: bool,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fits {
    Yes,
    No,
    /// It is about something that cannot be read here.
    Unreadable,
}

impl OutcomeTable {
    /// Puts a route's own rules before the defaults. `accepts`: a 202 means accepted, because a
    /// look-up exists that can follow it to its end; else it is final.
    pub const fn new(rules: Vec<Rule>, accepts: bool) -> Self {
        Self { rules, accepts }
    }

    /// What a complete answer means. One that a rule might be about, if only it could be read,
    /// proves nothing.
    pub fn meaning(&self, answer: &Answered<'_>) -> Meaning {
        for rule in &self.rules {
            match rule.fits(answer) {
                Fits::Yes => return rule.is,
                Fits::No => {}
                Fits::Unreadable => return Meaning::Unknown,
            }
        }
        self.default_meaning(answer.status)
    }

    /// Whether any rule looks into the body, so that it must not be compressed.
    pub fn reads_bodies(&self) -> bool {
        self.rules.iter().any(|rule| rule.body.is_some())
    }

    const fn default_meaning(&self, status: u16) -> Meaning {
        match status {
            202 if self.accepts => Meaning::Accepted,
            // Refused before anything was done: not authorised, too early, too many.
            401 | 403 | 407 | 425 | 429 => Meaning::NotApplied,
            408 => Meaning::Unknown,
            200..=499 => Meaning::Final,
            // 5xx, and what is no final status at all.
            _ => Meaning::Unknown,
        }
    }
}

impl Rule {
    /// Whether all its conditions hold; the body, which may be unreadable, is asked last.
    fn fits(&self, answer: &Answered<'_>) -> Fits {
        let status = self.status.is_none_or(|status| status.matches(answer.status));
        let header = self.header.as_ref().is_none_or(|header| header.matches(answer.headers));
        if !(status && header) {
            return Fits::No;
        }
        self.body.as_ref().map_or(Fits::Yes, |body| body.fits(answer))
    }
}

impl HeaderMatch {
    fn matches(&self, headers: &[(String, Vec<u8>)]) -> bool {
        let named = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(&self.name));
        let mut values = named.map(|(_, value)| value.trim_ascii());
        values.any(|value| self.values.iter().any(|wanted| wanted.as_bytes() == value))
    }
}

impl BodyMatch {
    fn fits(&self, answer: &Answered<'_>) -> Fits {
        let Some(body) = answer.body.filter(|_| !is_encoded(answer.headers)) else {
            return Fits::Unreadable;
        };
        let root = match json::parse(body) {
            Ok(root) => root,
            Err(NotJson::Invalid) if !body.is_empty() && is_json(answer.headers) => {
                return Fits::Unreadable;
            }
            // Another kind of answer altogether: an error page, or nothing.
            Err(NotJson::Invalid) => return Fits::No,
            Err(NotJson::TooMuch) => return Fits::Unreadable,
        };
        let text = match self.json.find(&root) {
            Found::Nothing => return Fits::No,
            Found::Many => return Fits::Unreadable,
            Found::One(node) => match &node.value {
                Value::Null => b"null".as_slice(),
                Value::Bool(true) => b"true",
                Value::Bool(false) => b"false",
                Value::Number(number) => number.as_bytes(),
                Value::String(text) => text.as_bytes(),
                Value::Array(_) | Value::Object(_) => return Fits::No,
            },
        };
        let is_meant = self.values.iter().any(|wanted| wanted.as_bytes() == text);
        if is_meant { Fits::Yes } else { Fits::No }
    }
}

/// Whether the body says that it is JSON.
fn is_json(headers: &[(String, Vec<u8>)]) -> bool {
    headers.iter().any(|(name, value)| {
        name.eq_ignore_ascii_case("content-type")
            && String::from_utf8_lossy(value).to_ascii_lowercase().contains("json")
    })
}

/// Whether the body is not as it was written: compressed, most of all.
fn is_encoded(headers: &[(String, Vec<u8>)]) -> bool {
    headers.iter().any(|(name, value)| {
        name.eq_ignore_ascii_case("content-encoding")
            && !value.trim_ascii().eq_ignore_ascii_case(b"identity")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16) -> Answered<'static> {
        Answered { status, headers: &[], body: Some(b"{}") }
    }

    fn by_status(status: StatusMatch, is: Meaning) -> Rule {
        Rule { status: Some(status), header: None, body: None, is }
    }

    fn by_body(status: Option<StatusMatch>, json: &str, value: &str, is: Meaning) -> Rule {
        let json = json.parse().expect("a pointer");
        let body = Some(BodyMatch { json, values: vec!["other".to_owned(), value.to_owned()] });
        Rule { status, header: None, body, is }
    }

    #[test]
    fn the_default_table_is_the_published_one() {
        let table = OutcomeTable::new(vec![], true);
        for (statuses, meaning) in [
            (&[200, 201, 204, 400, 402, 404, 409, 422, 301, 303][..], Meaning::Final),
            (&[202], Meaning::Accepted),
            (&[401, 403, 407, 425, 429], Meaning::NotApplied),
            (&[408, 500, 502, 503, 504, 599, 199, 600, 999], Meaning::Unknown),
        ] {
            for &status in statuses {
                assert_eq!(table.meaning(&of(status)), meaning, "{status}");
            }
        }
        assert_eq!(OutcomeTable::new(vec![], false).meaning(&of(202)), Meaning::Final);
    }

    #[test]
    fn a_routes_own_rules_come_first_in_their_order() {
        let table = OutcomeTable::new(
            vec![
                by_status(StatusMatch::Exactly(503), Meaning::NotApplied),
                by_status(StatusMatch::Class(5), Meaning::Final),
            ],
            false,
        );

        assert_eq!(table.meaning(&of(503)), Meaning::NotApplied);
        assert_eq!(table.meaning(&of(500)), Meaning::Final);
        assert_eq!(table.meaning(&of(429)), Meaning::NotApplied);
    }

    #[test]
    fn a_header_counts_whatever_the_case_of_its_name_and_with_the_same_value_only() {
        let header =
            HeaderMatch { name: "Transient-Error".to_owned(), values: vec!["true".to_owned()] };
        let rule = Rule { status: None, header: Some(header), body: None, is: Meaning::Unknown };
        let table = OutcomeTable::new(vec![rule], false);
        let meaning = |headers: &[(&str, &str)]| {
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
                .collect();
            table.meaning(&Answered { status: 422, headers: &headers, body: Some(b"") })
        };

        assert_eq!(meaning(&[("transient-error", "true")]), Meaning::Unknown);
        assert_eq!(meaning(&[("TRANSIENT-ERROR", "no"), ("transient-error", " true ")]), {
            Meaning::Unknown
        });
        assert_eq!(meaning(&[("transient-error", "TRUE")]), Meaning::Final);
        assert_eq!(meaning(&[("transient-error", "true, true")]), Meaning::Final);
        assert_eq!(meaning(&[]), Meaning::Final);
    }

    #[test]
    fn a_body_field_counts_by_its_text_and_numbers_as_they_are_written() {
        let cases: &[(&str, &str, &str, bool)] = &[
            (r#"{"errorCode":"704"}"#, "/errorCode", "704", true),
            (r#"{"errorCode":704}"#, "/errorCode", "704", true),
            (r#"{"errorCode":704.0}"#, "/errorCode", "704", false),
            (r#"{"errorCode":"\u0037\u0030\u0034"}"#, "/errorCode", "704", true),
            (r#"{"error":{"retry":true}}"#, "/error/retry", "true", true),
            (r#"{"error":null}"#, "/error", "null", true),
            (r#"{"error":["704"]}"#, "/error", "704", false),
            (r#"{"error":["704"]}"#, "/error/0", "704", true),
            (r"{}", "/errorCode", "704", false),
            ("<html>704</html>", "/errorCode", "704", false),
            ("", "/errorCode", "704", false),
        ];
        for (body, json, value, fits) in cases {
            let rule = by_body(None, json, value, Meaning::NotApplied);
            let table = OutcomeTable::new(vec![rule], false);
            let answer = Answered { status: 200, headers: &[], body: Some(body.as_bytes()) };
            let expected = if *fits { Meaning::NotApplied } else { Meaning::Final };
            assert_eq!(table.meaning(&answer), expected, "{body}");
        }
    }

    #[test]
    fn all_conditions_of_a_rule_must_hold() {
        let mut rule = by_body(Some(StatusMatch::Class(4)), "/code", "busy", Meaning::NotApplied);
        rule.header = Some(HeaderMatch { name: "retry".to_owned(), values: vec!["1".to_owned()] });
        let table = OutcomeTable::new(vec![rule], false);
        let retry = [("retry".to_owned(), b"1".to_vec())];
        let busy = br#"{"code":"busy"}"#.as_slice();

        for (status, headers, body, expected) in [
            (409, &retry[..], busy, Meaning::NotApplied),
            (200, &retry[..], busy, Meaning::Final),
            (409, &[][..], busy, Meaning::Final),
            (409, &retry[..], b"{}", Meaning::Final),
        ] {
            let answer = Answered { status, headers, body: Some(body) };
            assert_eq!(table.meaning(&answer), expected, "{status} {headers:?}");
        }
    }

    #[test]
    fn a_body_that_cannot_be_judged_proves_nothing_if_a_rule_might_be_about_it() {
        let rule = by_body(Some(StatusMatch::Exactly(422)), "/code", "704", Meaning::Final);
        let table = OutcomeTable::new(vec![rule], false);
        let gzip = [("Content-Encoding".to_owned(), b"gzip".to_vec())];
        let plain = [("content-encoding".to_owned(), b"identity".to_vec())];
        let json = [("content-type".to_owned(), b"application/problem+JSON".to_vec())];
        let body = br#"{"code":"x"}"#.as_slice();
        let deep = [b"[".repeat(2 * json::DEPTH_MAX), b"]".repeat(2 * json::DEPTH_MAX)].concat();
        let twice = br#"{"code":"704","code":"1"}"#.as_slice();

        for (status, headers, body, expected) in [
            (422, &[][..], None, Meaning::Unknown),
            (201, &[][..], None, Meaning::Final),
            (422, &gzip[..], Some(body), Meaning::Unknown),
            (422, &plain[..], Some(body), Meaning::Final),
            (422, &[][..], Some(&*deep), Meaning::Unknown),
            (422, &[][..], Some(twice), Meaning::Unknown),
            (422, &json[..], Some(b"\xef\xbb\xbf{}"), Meaning::Unknown),
            (422, &json[..], Some(b""), Meaning::Final),
        ] {
            let answer = Answered { status, headers, body };
            assert_eq!(table.meaning(&answer), expected, "{status} {headers:?}");
        }
    }
}
