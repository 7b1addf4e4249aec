//! Which records are meant: what a list's query, and the header with an idempotency key, say.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method};

use crate::ledger::{TAG_ACCEPTED, TAG_IN_DOUBT};
use crate::protocol::attempt::Held;
use crate::protocol::key::{KeySource, KeyTag, RequestView, Secret, find_key};
use crate::store::Tag;

/// How many records a page has if nothing is said, and at the most.
const PAGE: (usize, usize) = (100, 1000);
/// The longest cursor of any store, in characters.
const CURSOR_MAX: usize = 64;
/// Where the caller's idempotency key stands: never in a URL, which others log.
const SEMEL_KEY: HeaderName = HeaderName::from_static("semel-key");

/// What is to be listed.
#[derive(Debug, Default)]
pub(super) struct Filter {
    state: Option<String>,
    older_than: Duration,
    route: Option<String>,
    key: Option<KeyTag>,
    limit: Option<usize>,
    after: Option<String>,
}

impl Filter {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong. The key is not repeated.
    pub(super) fn of(query: &str, headers: &HeaderMap, index: &Secret) -> Result<Self, String> {
        Ok(Self { key: key_tag(headers, index)?, ..of_query(query)? })
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE.0)
    }

    pub(super) fn after(&self) -> Option<String> {
        self.after.clone()
    }

    /// What the store can look for itself.
    pub(super) fn tag(&self) -> Option<Tag> {
        match self.state.as_deref() {
            Some("in-doubt") => Some(TAG_IN_DOUBT),
            Some("accepted") => Some(TAG_ACCEPTED),
            _ => None,
        }
    }

    pub(super) fn fits(&self, held: &Held) -> bool {
        let record = &held.record;
        self.state.as_deref().is_none_or(|state| state == record.state.name())
            && self.route.as_ref().is_none_or(|route| *route == record.route)
            && self.key.is_none_or(|key| record.key_tag == Some(key))
            && record.entered.age() >= self.older_than
    }
}

/// Written as on the data port: bare, or as a structured-field string.
fn key_tag(headers: &HeaderMap, index: &Secret) -> Result<Option<KeyTag>, String> {
    let (sources, body) = ([KeySource::Header(SEMEL_KEY)], Bytes::new());
    let view = RequestView { method: &Method::GET, path: "/", query: None, headers, body: &body };
    let found = find_key(&sources, &view).map_err(|invalid| format!("{SEMEL_KEY}: {invalid}"))?;
    Ok(found.map(|(key, _)| KeyTag::of(index, &key)))
}

fn of_query(query: &str) -> Result<Filter, String> {
    const STATES: [&str; 5] = ["in-flight", "accepted", "in-doubt", "settled", "released"];
    let mut filter = Filter::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "state" if STATES.contains(&&*value) => filter.state = Some(value.into_owned()),
            "state" => return Err(format!("state is one of {}", STATES.join(", "))),
            "older_than" => {
                filter.older_than = humantime::parse_duration(&value)
                    .map_err(|error| format!("older_than is a duration like 10m: {error}"))?;
            }
            "route" => filter.route = Some(value.into_owned()),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=PAGE.1).contains(limit));
                filter.limit = Some(limit.ok_or("limit is a number from 1 to 1000")?);
            }
            "after" => {
                // A key, and for some stores where it stands: nothing that an address would change.
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'.');
                if !value.bytes().all(plain) || value.is_empty() || value.len() > CURSOR_MAX {
                    return Err("after is what the page before said as next".to_owned());
                }
                filter.after = Some(value.into_owned());
            }
            _ => return Err("there are state, older_than, route, limit and after".to_owned()),
        }
    }
    Ok(filter)
}
