//! How providers are asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Outside, absent, span, under};
use crate::config::problems::Problems;
use crate::config::raw;
use crate::config::secrets;
use crate::proxy::route::PathPattern;
use crate::upstream::lookup::LookUp;
use crate::upstream::lookup::spec::{
    AskMethod, AskSpec, BODY_MAX, BodySpec, CreatedSpec, LocationSpec, NextSpec, ProvisionalSpec,
    ReplySpec, SecretText, Spec, StateSpec, ThenSpec, TimeUnit,
};

/// Headers with secrets for every look-up of an upstream, and where they stand.
pub(super) struct Shared<'a> {
    at: String,
    credentials: &'a BTreeMap<String, raw::SecretSource>,
}

impl<'a> Shared<'a> {
    /// Those of the upstream of that name.
    pub(super) fn of(upstreams: &'a raw::Upstreams, name: &str) -> Option<Self> {
        let (_, upstream) = upstreams.0.iter().find(|(known, _)| known == name)?;
        let at = format!("upstreams.{name}.lookup_credentials");
        Some(Self { at, credentials: &upstream.lookup_credentials })
    }
}

/// Checks a route's look-up. `path` says which names its templates may use.
pub(super) fn check(
    at: &str,
    raw: &raw::LookUp,
    path: Option<&PathPattern>,
    shared: Option<&Shared<'_>>,
    outside: Outside<'_>,
    problems: &mut Problems,
) -> Option<Arc<LookUp>> {
    let timeout = span(&under(at, "timeout"), &raw.timeout, problems);
    let credentials = credentials(at, raw, shared, outside, problems);
    let created = match &raw.created {
        Some(raw) => created(&under(at, "created"), raw, problems).map(Some),
        None => Some(None),
    };
    let state = match &raw.state {
        Some(raw) => state(&under(at, "state"), raw, problems).map(Some),
        None => Some(None),
    };
    let absent = absent::check(&under(at, "absent"), &raw.absent, problems);
    let spec = Spec {
        request: raw.request.as_ref().map(request),
        credentials: credentials?,
        errors: raw.errors.clone(),
        item: raw.item.clone(),
        next: raw.next.as_ref().map(next),
        then: raw.then.as_ref().map(then),
        location: raw.location.as_ref().map(|raw| LocationSpec { item: raw.item.clone() }),
        state: state?,
        created: created?,
        succeeded: succeeded(&raw.reply),
        failed: Some(failed(&raw.reply)),
        absent_statuses: raw.absent.statuses.clone(),
        absent: absent.clone().unwrap_or_default(),
        timeout: timeout?,
        body_max: BODY_MAX,
    };
    let names: Vec<_> = path?.names().collect();
    match LookUp::compile(spec, &names) {
        Ok(lookup) => absent.map(|_| Arc::new(lookup)),
        Err(found) => {
            for problem in found {
                problems.fault(&under(at, &place(&problem.at)), problem.message);
            }
            None
        }
    }
}

/// In the file, what is recorded on success is not under a name of its own.
fn place(at: &str) -> String {
    at.replacen("reply.succeeded", "reply", 1)
}

fn request(raw: &raw::LookUpRequest) -> AskSpec {
    AskSpec {
        method: match raw.method {
            raw::LookUpMethod::Get => AskMethod::Get,
            raw::LookUpMethod::Post => AskMethod::Post,
        },
        path: raw.path.clone(),
        query: pairs(&raw.query),
        headers: pairs(&raw.headers),
        body: raw.body.clone(),
    }
}

fn next(raw: &raw::NextPage) -> NextSpec {
    NextSpec {
        query: raw.query.clone(),
        from: raw.from.clone(),
        more: raw.while_.clone(),
        pages: raw.pages,
        newest_first: raw.newest_first,
    }
}

fn then(raw: &raw::ThenStep) -> ThenSpec {
    ThenSpec { request: request(&raw.request), item: raw.item.clone() }
}

/// The route's own, and those of its upstream that are other headers.
fn credentials(
    at: &str,
    raw: &raw::LookUp,
    shared: Option<&Shared<'_>>,
    outside: Outside<'_>,
    problems: &mut Problems,
) -> Option<Vec<(String, SecretText)>> {
    let at = under(at, "credentials");
    let is_own = |name: &str| raw.credentials.keys().any(|own| own.eq_ignore_ascii_case(name));
    let own = raw.credentials.iter().map(|(name, source)| (under(&at, name), name, source));
    let shared = shared.into_iter().flat_map(|shared| {
        shared.credentials.iter().map(|(name, source)| (under(&shared.at, name), name, source))
    });
    let credentials = own.chain(shared.filter(|(_, name, _)| !is_own(name)));
    let credentials = credentials.map(|(at, name, source)| {
        let text = secrets::text(source, &at, outside, problems)?;
        Some((name.clone(), SecretText::new(text.expose().to_owned())))
    });
    credentials.collect::<Vec<_>>().into_iter().collect()
}

fn created(at: &str, raw: &raw::Created, problems: &mut Problems) -> Option<CreatedSpec> {
    Some(CreatedSpec {
        path: raw.path.clone(),
        unit: match raw.unit {
            raw::TimeUnit::Unix => TimeUnit::Unix,
            raw::TimeUnit::Rfc3339 => TimeUnit::Rfc3339,
        },
        skew: span(&under(at, "skew"), &raw.skew, problems)?,
    })
}

fn state(at: &str, raw: &raw::State, problems: &mut Problems) -> Option<StateSpec> {
    let provisional = match &raw.provisional {
        Some(raw) => {
            let time = span(&under(at, "provisional.for"), &raw.for_, problems);
            Some(ProvisionalSpec { values: raw.values.clone(), time: time? })
        }
        None => None,
    };
    Some(StateSpec {
        path: raw.path.clone(),
        failed_if: raw.failed_if.clone(),
        succeeded: raw.succeeded.clone(),
        accepted: raw.accepted.clone(),
        failed: raw.failed.clone(),
        provisional,
    })
}

fn succeeded(raw: &raw::Replies) -> ReplySpec {
    ReplySpec { status: raw.status, headers: pairs(&raw.headers), body: body(&raw.body) }
}

fn failed(raw: &raw::Replies) -> ReplySpec {
    ReplySpec {
        status: raw.failed.status.unwrap_or(raw.status),
        headers: pairs(raw.failed.headers.as_ref().unwrap_or(&raw.headers)),
        body: body(raw.failed.body.as_ref().unwrap_or(&raw.body)),
    }
}

fn body(raw: &raw::ReplyBody) -> BodySpec {
    match raw {
        raw::ReplyBody::Item => BodySpec::Item,
        raw::ReplyBody::Template(text) => BodySpec::Template(text.clone()),
    }
}

pub(super) fn pairs(map: &BTreeMap<String, String>) -> Vec<(String, String)> {
    map.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}
