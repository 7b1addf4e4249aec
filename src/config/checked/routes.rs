//! The route table.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::{
    Outside, absent, business, count, each, header, key_rules, lookup, reference, some_span, span,
    under,
};
use crate::config::presets::Placed;
use crate::config::problems::{Problems, meant};
use crate::config::raw;
use crate::protocol::fingerprint::{FingerprintRules, Ignore};
use crate::protocol::key::{KeySource, ScopeRule};
use crate::protocol::outcome::{BodyMatch, HeaderMatch, Meaning, OutcomeTable, Rule, StatusMatch};
use crate::proxy::route::{
    Business, Duplicates, Limits, Missing, Mode, OnStoreFailure, Orphans, PathPattern, Policy,
    Route, Table, is_safe,
};
use crate::proxy::shape::{Shape, ShapeSpec};

/// The name of the route for requests that no other matches.
const FALLBACK: &str = "default";

/// The shortest lease: it must outlast a few round trips to the store.
const LEASE_MIN: Duration = Duration::from_secs(1);

/// Methods of which a server may have more, but no payment API has.
const UNSAFE_METHODS: [Method; 4] = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// Where problems with the route for all other requests are to be found.
const NO_MATCH: &str = "routes (no match)";

/// The route table and what belongs to it.
pub(super) struct Routes {
    pub(super) table: Table,
    /// Where each route of the table stands.
    pub(super) places: Vec<String>,
    pub(super) key_rules: [u8; 32],
}

/// Checks all routes.
pub(super) fn check(
    file: &raw::File,
    outside: Outside<'_>,
    problems: &mut Problems,
) -> Option<Routes> {
    let default = default_upstream(file, problems);
    let names: Vec<_> = file.upstreams.0.iter().map(|(name, _)| name.as_str()).collect();
    let placed = file.presets.among(&file.routes);
    let checked = placed.iter().map(|placed| {
        let upstream = upstream(placed, default, &names, problems);
        route(placed, upstream, file, outside, problems)
    });
    let routes: Option<Vec<_>> = checked.collect::<Vec<_>>().into_iter().collect();
    let others = file.upstreams.0.iter().map(|(name, _)| name.as_str());
    // Without presets, one is for all.
    let differs =
        |name: &&str| has_preset(file, name) || default.is_some_and(|d| has_preset(file, d));
    let others = others.filter(|name| Some(*name) != default).filter(differs);
    let upstreams: Vec<_> = std::iter::once(default).chain(others.map(Some)).collect();
    let raw_fallbacks: Vec<_> =
        upstreams.iter().map(|upstream| fallback(file, *upstream, *upstream == default)).collect();
    let fallbacks = raw_fallbacks.iter().zip(&upstreams).map(|(raw, upstream)| {
        let placed = Placed { place: NO_MATCH.to_owned(), route: raw, written: true };
        route(&placed, *upstream, file, outside, problems)
    });
    let fallbacks: Option<Vec<_>> = fallbacks.collect::<Vec<_>>().into_iter().collect();
    let (routes, fallbacks) = (routes?, fallbacks?);

    unique_names(&placed, &routes, problems);
    reachable(&placed, &routes, problems);
    let raws = placed.iter().map(|placed| placed.route).chain(&raw_fallbacks);
    let key_rules = key_rules::digest(raws.zip(routes.iter().chain(&fallbacks)));
    let routes = routes.into_iter().map(Arc::new).collect();
    let mut fallbacks = fallbacks.into_iter().map(Arc::new);
    let places = placed.into_iter().map(|placed| placed.place).chain([NO_MATCH.to_owned()]);
    let places = places.collect();
    let table = Table::new(routes, fallbacks.next()?).with_fallbacks(fallbacks.collect());
    Some(Routes { table, places, key_rules })
}

fn has_preset(file: &raw::File, upstream: &str) -> bool {
    file.presets.fallback(upstream).is_some()
}

/// What is done with unsafe requests that no route matches.
fn fallback(file: &raw::File, upstream: Option<&str>, is_default: bool) -> raw::Route {
    let known = upstream.and_then(|upstream| file.presets.fallback(upstream)).cloned();
    let name = match upstream {
        Some(upstream) if !is_default => format!("{FALLBACK}:{upstream}"),
        Some(_) | None => FALLBACK.to_owned(),
    };
    raw::Route {
        name: Some(name),
        matches: raw::Match { methods: vec![], path: "/**".to_owned() },
        ..known.unwrap_or_default()
    }
}

fn default_upstream<'a>(file: &'a raw::File, problems: &mut Problems) -> Option<&'a str> {
    let first = file.upstreams.0.first().map(|(name, _)| name.as_str());
    let Some(named) = &file.default_upstream else { return first };
    if !file.upstreams.0.iter().any(|(name, _)| name == named) {
        problems.fault("default_upstream", format!("there is no upstream `{named}`"));
    }
    Some(named)
}

fn upstream<'a>(
    Placed { place: at, route: raw, .. }: &Placed<'a>,
    default: Option<&'a str>,
    names: &[&'a str],
    problems: &mut Problems,
) -> Option<&'a str> {
    let Some(named) = raw.upstream.as_deref() else { return default };
    if names.contains(&named) {
        return Some(named);
    }
    let hint = meant(named, names.iter().copied())
        .map(|meant| format!("; did you mean `{meant}`?"))
        .unwrap_or_default();
    problems.fault(&under(at, "upstream"), format!("there is no upstream `{named}`{hint}"));
    None
}

fn route(
    placed: &Placed<'_>,
    upstream: Option<&str>,
    file: &raw::File,
    outside: Outside<'_>,
    problems: &mut Problems,
) -> Option<Route> {
    let Placed { place: at, route: raw, written } = placed;
    let matches = under(at, "match");
    let path = problems.note(&under(&matches, "path"), raw.matches.path.parse::<PathPattern>());
    let methods =
        each(&under(&matches, "methods"), &raw.matches.methods, problems, |at, text, problems| {
            let upper = text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
            let method = text.parse::<Method>().ok().filter(|_| upper);
            problems.note(at, method.ok_or("expected a method like POST"))
        });
    let shared = upstream.and_then(|name| lookup::Shared::of(&file.upstreams, name));
    let policy = policy(at, raw, path.as_ref(), shared.as_ref(), outside, problems);
    let mode = match raw.mode {
        raw::Mode::Enforce => Mode::Enforce,
        raw::Mode::Observe => Mode::Observe,
        raw::Mode::Off => Mode::Off,
    };
    // What a preset leaves without one is told of it as a whole.
    if mode != Mode::Off && raw.lookup.is_none() && *written {
        problems.warn(at, "guarded without a look-up: unknown outcomes wait for an operator");
    }
    Some(Route {
        name: name(at, raw, problems)?,
        methods: methods?,
        path: path?,
        upstream: upstream?.to_owned(),
        mode,
        policy: Arc::new(policy?),
    })
}

fn name(at: &str, raw: &raw::Route, problems: &mut Problems) -> Option<String> {
    let Some(name) = &raw.name else {
        let (methods, path) = (raw.matches.methods.join(","), &raw.matches.path);
        return Some(if methods.is_empty() { path.clone() } else { format!("{methods} {path}") });
    };
    let fine = !name.is_empty() && name.len() <= 128 && !name.chars().any(char::is_control);
    problems.note(&under(at, "name"), fine.then(|| name.clone()).ok_or("expected a short name"))
}

fn policy(
    at: &str,
    raw: &raw::Route,
    path: Option<&PathPattern>,
    shared: Option<&lookup::Shared<'_>>,
    outside: Outside<'_>,
    problems: &mut Problems,
) -> Option<Policy> {
    let sources = sources(at, &raw.key, problems);
    let missing = missing(at, raw, problems);
    let scope = scope(&under(at, "scope"), &raw.scope, problems);
    let fingerprint = fingerprint(&under(at, "fingerprint"), &raw.fingerprint, problems);
    let business = business::check(&under(at, "business_key"), raw, path, problems);
    let max_wait = some_span(&under(at, "max_wait"), &raw.max_wait, problems);
    let lookup_after = some_span(&under(at, "lookup_after"), &raw.lookup_after, problems);
    let upstream_timeout =
        some_span(&under(at, "upstream_timeout"), &raw.upstream_timeout, problems);
    let lease = span(&under(at, "lease"), &raw.lease, problems);
    let retention = some_span(&under(at, "retention"), &raw.retention, problems);
    let remember = span(&under(at, "remember"), &raw.remember, problems);
    let limits = limits(&under(at, "limits"), &raw.limits, problems);
    let lookup = match &raw.lookup {
        Some(raw) if raw.asks() || raw.resend.is_none() => {
            let at = under(at, "lookup");
            lookup::check(&at, raw, path, shared, outside, problems).map(Some)
        }
        Some(_) | None => Some(None),
    };
    let resend = absent::resend(at, raw, problems);
    let outcomes = outcomes(at, raw, problems);
    let reference = raw.reference.as_ref().map(|raw| {
        let sources = sources.as_deref().unwrap_or_default();
        reference::check(&under(at, "reference"), raw, sources, problems)
    });
    let asked = lookup.as_ref().and_then(Option::as_deref);
    reference::named_in_vain(&under(at, "lookup"), asked, reference.is_some(), problems);
    let errors = errors(&under(at, "errors"), &raw.errors, problems);
    compare(at, lease, lookup_after.zip(upstream_timeout), problems);
    let kept = retention.zip(remember).map(|(retention, remember)| retention + remember);
    windows(at, business.as_ref().and_then(Option::as_ref), missing, kept, problems);
    Some(Policy {
        sources: sources?,
        missing: missing?,
        scope: scope?,
        fingerprint: fingerprint?,
        business: business?,
        orphans: match raw.orphans {
            raw::Orphans::Match => Orphans::Match,
            raw::Orphans::Ignore => Orphans::Ignore,
        },
        duplicates: match raw.duplicates {
            raw::Duplicates::Wait => Duplicates::Wait,
            raw::Duplicates::Conflict => Duplicates::Conflict,
        },
        max_wait: max_wait?,
        lookup_after: lookup_after?,
        upstream_timeout: upstream_timeout?,
        lease: lease?,
        retention: retention?,
        remember: remember?,
        limits: limits?,
        outcomes: outcomes?,
        reference: match reference {
            Some(reference) => Some(reference?),
            None => None,
        },
        lookup: lookup?,
        resend: resend?,
        on_store_failure: match raw.on_store_failure {
            raw::OnStoreFailure::Reject => OnStoreFailure::Reject,
            raw::OnStoreFailure::Pass => OnStoreFailure::Pass,
        },
        errors: errors?,
    })
}

/// Holds a route's times against their bound and one another.
fn compare(
    at: &str,
    lease: Option<Duration>,
    lookup_after_and_timeout: Option<(Duration, Duration)>,
    problems: &mut Problems,
) {
    if lease.is_some_and(|lease| lease < LEASE_MIN) {
        problems.fault(&under(at, "lease"), "must be 1s at least");
    }
    if lookup_after_and_timeout.is_some_and(|(after, timeout)| after >= timeout) {
        problems.fault(&under(at, "lookup_after"), "must be shorter than `upstream_timeout`");
    }
}

/// A name leads nowhere once its record is gone: a longer window would end silently.
fn windows(
    at: &str,
    business: Option<&Business>,
    missing: Option<Missing>,
    kept: Option<Duration>,
    problems: &mut Problems,
) {
    let Some(kept) = kept else { return };
    if let Some(business) = business {
        outlives(&under(at, "business_key.window"), business.window, kept, problems);
    }
    if let Some(Missing::Fingerprint { window }) = missing {
        outlives(&under(at, "key.window"), window, kept, problems);
    }
}

fn outlives(at: &str, window: Duration, kept: Duration, problems: &mut Problems) {
    if window > kept {
        let kept = humantime::format_duration(kept);
        let why = format!(
            "records are kept for {kept} (`retention` and `remember`), and a window ends with them: \
             shorten it, or lengthen `remember`"
        );
        problems.fault(at, why);
    }
}

fn sources(at: &str, raw: &raw::Key, problems: &mut Problems) -> Option<Vec<KeySource>> {
    let place = under(at, "key.sources");
    if raw.sources.is_empty() && raw.missing == raw::Missing::Reject {
        problems.fault(&place, "without a place for keys every request is refused");
    }
    each(&place, &raw.sources, problems, source)
}

fn source(at: &str, raw: &raw::KeySource, problems: &mut Problems) -> Option<KeySource> {
    match (&raw.header, &raw.json, &raw.form, &raw.query) {
        (Some(name), None, None, None) => {
            header(&under(at, "header"), name, problems).map(KeySource::Header)
        }
        (None, Some(text), None, None) => {
            pointer(&under(at, "json"), text, problems).map(KeySource::Json)
        }
        (None, None, Some(name), None) => {
            field(&under(at, "form"), name, problems).map(KeySource::Form)
        }
        (None, None, None, Some(name)) => {
            field(&under(at, "query"), name, problems).map(KeySource::Query)
        }
        (_, _, _, _) => {
            problems.fault(at, "expected exactly one of header, json, form and query");
            None
        }
    }
}

/// An RFC 6901 pointer to something in a body, not to the whole of it.
pub(super) fn pointer(place: &str, text: &str, problems: &mut Problems) -> Option<String> {
    let escapes_fine = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    let fine = text.starts_with('/') && escapes_fine;
    let expected = "expected a JSON pointer like /order/id";
    problems.note(place, fine.then(|| text.to_owned()).ok_or(expected))
}

pub(super) fn field(place: &str, name: &str, problems: &mut Problems) -> Option<String> {
    problems.note(place, (!name.is_empty()).then(|| name.to_owned()).ok_or("expected a name"))
}

fn missing(at: &str, raw: &raw::Route, problems: &mut Problems) -> Option<Missing> {
    let window = span(&under(at, "key.window"), &raw.key.window, problems)?;
    let missing = match raw.key.missing {
        raw::Missing::Fingerprint => return Some(Missing::Fingerprint { window }),
        raw::Missing::Reject => Missing::Reject,
        raw::Missing::Pass => Missing::Pass,
    };
    if !window.is_zero() {
        problems.fault(&under(at, "key.window"), "is for `missing: fingerprint` only");
    }
    Some(missing)
}

fn scope(at: &str, raw: &raw::Scope, problems: &mut Problems) -> Option<ScopeRule> {
    match raw {
        raw::Scope::Fixed(raw::FixedScope { fixed }) => {
            field(&under(at, "fixed"), fixed, problems).map(ScopeRule::Fixed)
        }
        raw::Scope::Headers(names) => {
            if names.is_empty() {
                problems.warn(at, "without headers all callers share one key space");
            }
            let mut names =
                each(at, names, problems, |at, name, problems| header(at, name, problems))?;
            // Their order has no meaning, and must not make two key spaces of one.
            names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
            names.dedup();
            Some(ScopeRule::Credentials(names))
        }
    }
}

fn fingerprint(
    at: &str,
    raw: &raw::Fingerprint,
    problems: &mut Problems,
) -> Option<FingerprintRules> {
    let headers = each(&under(at, "headers"), &raw.headers, problems, |at, name, problems| {
        header(at, name, problems)
    });
    let ignore = each(&under(at, "ignore"), &raw.ignore, problems, |at, raw, problems| {
        match (&raw.json, &raw.form) {
            (Some(text), None) => pointer(&under(at, "json"), text, problems).map(Ignore::Json),
            (None, Some(name)) => field(&under(at, "form"), name, problems).map(Ignore::Form),
            (Some(_), Some(_)) | (None, None) => {
                problems.fault(at, "expected exactly one of json and form");
                None
            }
        }
    });
    Some(FingerprintRules { headers: headers?, ignore: ignore? })
}

fn limits(at: &str, raw: &raw::Limits, problems: &mut Problems) -> Option<Limits> {
    let request_body = problems.note(&under(at, "request_body"), raw.request_body.parse());
    let response_body = problems.note(&under(at, "response_body"), raw.response_body.parse());
    let waiters = count(&under(at, "waiters"), raw.waiters, problems);
    Some(Limits {
        request_body: request_body?,
        response_body: response_body?,
        waiters: NonZeroUsize::new(waiters?)?,
    })
}

fn errors(at: &str, raw: &raw::Errors, problems: &mut Problems) -> Option<Shape> {
    let spec = ShapeSpec {
        statuses: raw.statuses.iter().map(|(slug, status)| (slug.clone(), *status)).collect(),
        headers: lookup::pairs(&raw.headers),
        content_type: raw.content_type.clone(),
        body: raw.body.clone(),
    };
    let found = match Shape::compile(&spec) {
        Ok(shape) => return Some(shape),
        Err(found) => found,
    };
    for (place, message) in found {
        problems.fault(&under(at, &place), message);
    }
    None
}

fn outcomes(at: &str, raw: &raw::Route, problems: &mut Problems) -> Option<OutcomeTable> {
    let follows = raw.lookup.as_ref().is_some_and(raw::LookUp::asks);
    let rules = each(&under(at, "outcomes"), &raw.outcomes, problems, |at, raw, problems| {
        let is = match raw.is {
            raw::Meaning::Final => Meaning::Final,
            raw::Meaning::NotApplied => Meaning::NotApplied,
            raw::Meaning::Accepted => Meaning::Accepted,
            raw::Meaning::Unknown => Meaning::Unknown,
        };
        if is == Meaning::Accepted && !follows {
            problems.warn(at, "without a look-up, what was accepted waits for an operator");
        }
        if raw.status.is_none() && raw.header.is_none() && raw.body.is_none() {
            problems.fault(at, "says nothing of the answer; give status, header or body");
        }
        let expected = "expected a status like 429, or a class like 5xx";
        let status = optional(raw.status.as_ref(), |raw| {
            problems.note(&under(at, "status"), statuses(raw).ok_or(expected))
        });
        let header = optional(raw.header.as_ref(), |raw| {
            let at = under(at, "header");
            let name = header(&under(&at, "name"), &raw.name, problems);
            let values = values(&at, &raw.values, problems);
            Some(HeaderMatch { name: name?.as_str().to_owned(), values: values? })
        });
        let body = optional(raw.body.as_ref(), |raw| {
            let at = under(at, "body");
            let json = pointer(&under(&at, "json"), &raw.json, problems);
            let values = values(&at, &raw.values, problems);
            Some(BodyMatch { json: json?.parse().ok()?, values: values? })
        });
        Some(Rule { status: status?, header: header?, body: body?, is })
    });
    Some(OutcomeTable::new(rules?, follows))
}

/// Checks what need not be there.
fn optional<R, T>(raw: Option<R>, check: impl FnOnce(R) -> Option<T>) -> Option<Option<T>> {
    raw.map_or(Some(None), |raw| check(raw).map(Some))
}

/// The values that a condition is about.
fn values(at: &str, raw: &[String], problems: &mut Problems) -> Option<Vec<String>> {
    let expected = "no value is named: nothing could ever fit";
    problems.note(&under(at, "values"), (!raw.is_empty()).then(|| raw.to_vec()).ok_or(expected))
}

fn statuses(raw: &raw::Statuses) -> Option<StatusMatch> {
    match raw {
        raw::Statuses::One(status) => {
            Some(StatusMatch::Exactly(*status)).filter(|_| (200..=599).contains(status))
        }
        raw::Statuses::Class(text) => {
            let class = text.strip_suffix("xx")?.parse().ok()?;
            Some(StatusMatch::Class(class)).filter(|_| (2..=5).contains(&class))
        }
    }
}

fn unique_names(placed: &[Placed<'_>], routes: &[Route], problems: &mut Problems) {
    let mut taken = BTreeMap::from([(FALLBACK, None)]);
    for (placed, route) in placed.iter().zip(routes) {
        let place = under(&placed.place, "name");
        match taken.get(route.name.as_str()) {
            None => {
                taken.insert(&route.name, Some(&placed.place));
            }
            Some(None) => {
                problems.fault(&place, "`default` is the name of the route for all other requests");
            }
            Some(Some(first)) => {
                problems.fault(&place, format!("{first} has the same; give it another"));
            }
        }
    }
}

/// Warns of routes that no request can reach, because an earlier one takes them all.
fn reachable(placed: &[Placed<'_>], routes: &[Route], problems: &mut Problems) {
    let all: Vec<_> = placed.iter().zip(routes).collect();
    for (i, (later, route)) in all.iter().enumerate() {
        let taker = all[..i].iter().find(|(placed, earlier)| {
            covers_methods(earlier, route)
                && covers_path(&placed.route.matches.path, &later.route.matches.path)
        });
        if let Some((taker, _)) = taker {
            let message = format!("no request gets here: {} takes them all", taker.place);
            problems.warn(&under(&later.place, "match"), message);
        }
    }
}

fn covers_methods(earlier: &Route, later: &Route) -> bool {
    match (earlier.methods.as_slice(), later.methods.as_slice()) {
        ([], _) if earlier.mode == Mode::Off => true,
        ([], []) => later.mode != Mode::Off,
        ([], methods) => !methods.iter().any(is_safe),
        (earlier, []) => {
            later.mode != Mode::Off && UNSAFE_METHODS.iter().all(|method| earlier.contains(method))
        }
        (earlier, methods) => methods.iter().all(|method| earlier.contains(method)),
    }
}

fn covers_path(earlier: &str, later: &str) -> bool {
    let (mut earlier, mut later) = (earlier.split('/').skip(1), later.split('/').skip(1));
    loop {
        match (earlier.next(), later.next()) {
            (Some("**"), _) | (None, None) => return true,
            (Some(_), Some("**") | None) | (None, Some(_)) => return false,
            (Some(earlier), Some(later)) => {
                let named = earlier.starts_with('{');
                if !(named && !later.is_empty() || earlier == later) {
                    return false;
                }
            }
        }
    }
}
