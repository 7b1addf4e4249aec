//! What names the business operation of a route's requests.

use super::routes::{field, pointer};
use super::{each, header, span, under};
use crate::config::problems::Problems;
use crate::config::raw;
use crate::protocol::key::BusinessField;
use crate::proxy::route::{Business, PathPattern};

/// Checks a route's business key, if it has one. `path` says which segments it may name.
pub(super) fn check(
    at: &str,
    raw: &raw::Route,
    path: Option<&PathPattern>,
    problems: &mut Problems,
) -> Option<Option<Business>> {
    let Some(raw) = &raw.business_key else { return Some(None) };
    let place = under(at, "fields");
    if raw.fields.is_empty() {
        problems.fault(&place, "without fields all requests would be one operation; name some");
    }
    let fields = each(&place, &raw.fields, problems, |at, raw, problems| match raw {
        raw::BusinessField::Whole(text) if text == "content" => Some(BusinessField::Content),
        raw::BusinessField::Whole(_) => {
            problems.fault(at, "expected `content`, or a place like { json: /order }");
            None
        }
        raw::BusinessField::Place(raw) => place_of(at, raw, path, problems),
    });
    let window = span(&under(at, "window"), &raw.window, problems);
    Some(Some(Business { fields: fields?, window: window? }))
}

fn place_of(
    at: &str,
    raw: &raw::BusinessPlace,
    path: Option<&PathPattern>,
    problems: &mut Problems,
) -> Option<BusinessField> {
    match (&raw.header, &raw.json, &raw.form, &raw.query, &raw.path) {
        (Some(name), None, None, None, None) => {
            header(&under(at, "header"), name, problems).map(BusinessField::Header)
        }
        (None, Some(text), None, None, None) => {
            pointer(&under(at, "json"), text, problems).map(BusinessField::Json)
        }
        (None, None, Some(name), None, None) => {
            field(&under(at, "form"), name, problems).map(BusinessField::Form)
        }
        (None, None, None, Some(name), None) => {
            field(&under(at, "query"), name, problems).map(BusinessField::Query)
        }
        (None, None, None, None, Some(name)) => {
            let known = path.is_none_or(|path| path.names().any(|known| known == name));
            let expected = "the route's path has no segment of that name";
            let name = known.then(|| name.clone()).ok_or(expected);
            problems.note(&under(at, "path"), name).map(BusinessField::Path)
        }
        (_, _, _, _, _) => {
            problems.fault(at, "expected exactly one of header, json, form, query and path");
            None
        }
    }
}
