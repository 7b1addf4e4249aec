//! The digest of the rules by which a config names requests.

use http::Method;
use sha2::{Digest as _, Sha256};

use crate::config::raw;
use crate::protocol::fingerprint::{FingerprintRules, Ignore};
use crate::protocol::key::{BusinessField, KeySource, ScopeRule};
use crate::proxy::route::{Business, Missing, Mode, Orphans, PathPattern, Route};

/// Digests, in a canonical form, what a request's record key depends on beside the secret: which
/// route it takes, and by which rules that one names it.
pub(super) fn digest<'a>(routes: impl Iterator<Item = (&'a raw::Route, &'a Route)>) -> [u8; 32] {
    let mut digest = Sha256::new();
    let mut part = |text: &str| {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text);
    };
    part("semel key rules 2");
    for (raw, route) in routes.filter(|(_, route)| route.mode != Mode::Off) {
        part("route");
        let mut methods: Vec<_> = route.methods.iter().map(Method::as_str).collect();
        methods.sort_unstable();
        methods.dedup();
        part(&methods.join(" "));
        part(&canonical_path(&raw.matches.path));
        part(&route.upstream);
        route.policy.sources.iter().for_each(|source| part(&source_text(source)));
        match &route.policy.scope {
            ScopeRule::Credentials(names) => {
                part("credentials");
                names.iter().for_each(|name| part(name.as_str()));
            }
            ScopeRule::Fixed(name) => {
                part("fixed");
                part(name);
            }
        }
        match route.policy.missing {
            Missing::Reject => part("reject"),
            Missing::Pass => part("pass"),
            // Content is then a name, and these rules say which content is the same.
            Missing::Fingerprint { window: _ } => {
                part("fingerprint");
                fingerprint_texts(&route.policy.fingerprint).iter().for_each(|text| part(text));
            }
        }
        match route.policy.orphans {
            Orphans::Ignore => part("orphans are ignored"),
            // Content is then a name too.
            Orphans::Match => {
                part("orphans match");
                fingerprint_texts(&route.policy.fingerprint).iter().for_each(|text| part(text));
            }
        }
        if let Some(business) = &route.policy.business {
            part("business key");
            let texts = business_texts(business, &route.path);
            texts.iter().for_each(|text| part(text));
            if business.fields.contains(&BusinessField::Content) {
                fingerprint_texts(&route.policy.fingerprint).iter().for_each(|text| part(text));
            }
        }
    }
    digest.finalize().into()
}

/// What a named segment is called changes no key.
fn canonical_path(path: &str) -> String {
    let segments = path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
    segments.collect::<Vec<_>>().join("/")
}

/// The parts of a business key that its pointers depend on. A segment goes by its place.
fn business_texts(business: &Business, path: &PathPattern) -> Vec<String> {
    let text = |field: &BusinessField| match field {
        BusinessField::Header(name) => format!("header {name}"),
        BusinessField::Json(pointer) => format!("json {pointer}"),
        BusinessField::Form(name) => format!("form {name}"),
        BusinessField::Query(name) => format!("query {name}"),
        BusinessField::Path(name) => {
            let place = path.names().take_while(|known| known != name).count();
            format!("path {place}")
        }
        BusinessField::Content => "content".to_owned(),
    };
    business.fields.iter().map(text).collect()
}

fn source_text(source: &KeySource) -> String {
    match source {
        KeySource::Header(name) => format!("header {name}"),
        KeySource::Json(pointer) => format!("json {pointer}"),
        KeySource::Form(name) => format!("form {name}"),
        KeySource::Query(name) => format!("query {name}"),
    }
}

fn fingerprint_texts(rules: &FingerprintRules) -> Vec<String> {
    let headers = rules.headers.iter().map(|name| format!("header {name}"));
    let ignore = rules.ignore.iter().map(|ignore| match ignore {
        Ignore::Json(pointer) => format!("ignore json {pointer}"),
        Ignore::Form(name) => format!("ignore form {name}"),
    });
    let mut texts: Vec<_> = headers.chain(ignore).collect();
    texts.sort_unstable();
    texts.dedup();
    texts
}
