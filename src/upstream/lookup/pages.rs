//! Lists that go on over pages: which page comes next, and when there is none.
//!
//! A list proves something only when all of it has been read, or all of it that is not older than
//! the claim. Whatever keeps a page from being read makes the finding unclear.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_json_path::JsonPath;

use super::read::{Item, says_something};
use super::time::Created;

/// The most pages that may be read.
pub(super) const PAGES_MAX: u32 = 100;

/// The longest name of a page, in bytes.
const CURSOR_BYTES_MAX: usize = 1024;

/// How a list goes on.
#[derive(Debug)]
pub(super) struct Next {
    /// The query parameter that names the next page.
    pub(super) query: String,
    /// Where a page names it.
    pub(super) from: JsonPath,
    /// Where a page says whether there is one.
    pub(super) more: Option<JsonPath>,
    /// How many are read.
    pub(super) pages: u32,
    /// Everything in a list that has the newest first.
    pub(super) newest_first: Option<JsonPath>,
}

/// What has been read of a list.
#[derive(Debug, Default)]
pub(super) struct Pages {
    pub(super) read: u32,
    pub(super) found: Option<Match>,
    cursors: BTreeSet<String>,
}

/// An operation that was found.
#[derive(Debug)]
pub(super) struct Match {
    pub(super) item: Item,
    /// Whether its age has been judged; else what the second question brings is judged.
    pub(super) judged: bool,
}

impl Pages {
    /// Takes in what a page has.
    ///
    /// # Errors
    /// There is more than one.
    pub(super) fn take(&mut self, matches: Vec<Match>) -> Result<(), String> {
        self.read += 1;
        for found in matches {
            if self.found.replace(found).is_some() {
                return Err("two matches".to_owned());
            }
        }
        Ok(())
    }

    /// The name of the page to read now; `None` if that was the last.
    ///
    /// # Errors
    /// There is one that cannot be read.
    pub(super) fn next(
        &mut self,
        next: &Next,
        page: &Value,
        created: Option<(&Created, i128)>,
    ) -> Result<Option<String>, String> {
        if let (Some(all), Some((created, since))) = (&next.newest_first, created)
            && created.ends_before(&all.query(page).all(), since)
        {
            return Ok(None);
        }
        let Some(cursor) = next.cursor(page)? else { return Ok(None) };
        if self.read >= next.pages {
            return Err(format!("the list goes on after {} pages", self.read));
        }
        if !self.cursors.insert(cursor.clone()) {
            return Err("a page names as the next one a page that was read".to_owned());
        }
        Ok(Some(cursor))
    }
}

impl Next {
    fn cursor(&self, page: &Value) -> Result<Option<String>, String> {
        let is_said = self.more.as_ref().map(|more| says_something(more, page));
        if is_said == Some(false) {
            return Ok(None);
        }
        let found = self.from.query(page);
        let cursor = match found.all().as_slice() {
            [] | [Value::Null] => None,
            [Value::String(text)] => Some(self.name_in(text)?).filter(|text| !text.is_empty()),
            [Value::Number(number)] => Some(number.to_string()),
            [Value::Bool(_) | Value::Array(_) | Value::Object(_)] => {
                return Err("the next page's name is no text and no number".to_owned());
            }
            [_, _, ..] => return Err("the next page has several names".to_owned()),
        };
        match cursor {
            Some(cursor) if cursor.len() > CURSOR_BYTES_MAX => {
                Err("the next page's name is too long".to_owned())
            }
            None if is_said == Some(true) => {
                Err("there is said to be a next page, and it is not named".to_owned())
            }
            None | Some(_) => Ok(cursor),
        }
    }

    /// A name as it stands there; of a URL, the parameter. Where to ask is never taken from an
    /// answer.
    fn name_in(&self, text: &str) -> Result<String, String> {
        if !text.starts_with("https://") && !text.starts_with("http://") {
            return Ok(text.to_owned());
        }
        let query = text.split_once('?').map_or("", |(_, query)| query);
        let query = query.split_once('#').map_or(query, |(query, _fragment)| query);
        let mut values =
            form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| *name == self.query);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => Ok(value.into_owned()),
            (None | Some(_), _) => Err(format!("the next page's URL has not one {}", self.query)),
        }
    }
}

/// Of the path of an operation in a list, `$.data[?…]` or `$.data[*]`, the path of everything in
/// that list.
pub(super) fn whole_list(item: &str) -> Option<String> {
    let item = item.trim();
    let list = match item.find("[?") {
        Some(at) if closes_at_end(&item[at..]) => &item[..at],
        Some(_) => return None,
        None => item.strip_suffix("[*]")?,
    };
    (!list.contains("{{")).then(|| format!("{list}[*]"))
}

/// Whether the bracket that a text begins with is closed by its last byte. Brackets in quotes are
/// taken for brackets, which only says no too often.
fn closes_at_end(text: &str) -> bool {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' if depth == 1 => return at + 1 == text.len(),
            b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}
