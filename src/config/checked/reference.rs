//! What is put into requests.

use super::{each, header, under};
use crate::config::problems::Problems;
use crate::config::raw;
use crate::protocol::key::KeySource;
use crate::protocol::reference::{LENGTH_MAX, LENGTH_MIN, Place, ReferenceRule, STEPS_MAX};
use crate::upstream::lookup::LookUp;

/// Checks a route's reference. Where its keys stand, no reference can.
pub(super) fn check(
    at: &str,
    raw: &raw::Reference,
    sources: &[KeySource],
    problems: &mut Problems,
) -> Option<ReferenceRule> {
    let into = place(&under(at, "into"), &raw.into, sources, problems);
    let fits = (LENGTH_MIN..=LENGTH_MAX).contains(&raw.max);
    let expected =
        format!("must be {LENGTH_MIN} to {LENGTH_MAX}, and no more than the provider takes");
    let length = problems.note(&under(at, "max"), fits.then_some(raw.max).ok_or(expected));
    let unless = each(&under(at, "unless"), &raw.unless, problems, |at, name, problems| {
        header(at, name, problems)
    });
    Some(ReferenceRule { into: into?, length: length?, unless: unless? })
}

fn place(
    at: &str,
    raw: &raw::ReferencePlace,
    sources: &[KeySource],
    problems: &mut Problems,
) -> Option<Place> {
    let (place, source) = match (&raw.json, &raw.form) {
        (Some(text), None) => {
            let text = super::routes::pointer(&under(at, "json"), text, problems)?;
            let pointer: crate::protocol::json::Pointer = text.parse().ok()?;
            if pointer.tokens().len() > STEPS_MAX {
                problems.fault(&under(at, "json"), format!("has more than {STEPS_MAX} steps"));
            }
            (Place::Json(pointer), KeySource::Json(text))
        }
        (None, Some(name)) => {
            let name = super::routes::field(&under(at, "form"), name, problems)?;
            (Place::Form(name.clone()), KeySource::Form(name))
        }
        (Some(_), Some(_)) | (None, None) => {
            problems.fault(at, "expected exactly one of json and form");
            return None;
        }
    };
    if sources.contains(&source) {
        problems.fault(at, "`key.sources` names the same place: give the reference another");
    }
    Some(place)
}

/// Whether a look-up's templates name what its route does not have.
pub(super) fn named_in_vain(
    at: &str,
    lookup: Option<&LookUp>,
    given: bool,
    problems: &mut Problems,
) {
    if !given && lookup.is_some_and(LookUp::names_the_reference) {
        let message = "names `reference`, which this route does not have; add `reference: { into: … }`, \
                       or name the value in the request, like {{ body.reference }}";
        problems.fault(at, message);
    }
}
