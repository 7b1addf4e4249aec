//! `semel explain`: what would be done with a request, in words. Shows no key, no credential and
//! no body.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::cli::args::BodyArg;
use crate::cli::{print, refuse};
use crate::config::checked::Upstream;
use crate::config::{self, Config};
use crate::protocol::fingerprint::Ignore;
use crate::protocol::key::{
    BusinessField, BusinessKey, KeySource, RequestView, ScopeRule, find_key,
};
use crate::protocol::outcome::{AbsentPolicy, Enough};
use crate::protocol::reference::{Place, ReferenceRule, Slot};
use crate::proxy::route::{
    Business, Duplicates, Missing, Mode, OnStoreFailure, Orphans, Policy, Route, Routed,
};
use crate::upstream::lookup::Known;

/// Which request, under which config.
#[derive(clap::Args)]
pub struct ExplainArgs {
    /// The config file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Method of the request, like POST
    #[arg(value_name = "METHOD")]
    pub method: Method,
    /// Its URL; host and port do not matter
    #[arg(value_name = "URL")]
    pub url: Uri,
    /// A header of it, like 'Idempotency-Key: 7'
    #[arg(long, short = 'H', value_name = "HEADER", value_parser = header)]
    pub header: Vec<Header>,
    /// Its body: @FILE, or the text itself
    #[arg(long, value_name = "BODY")]
    pub body: Option<BodyArg>,
}

impl std::fmt::Debug for ExplainArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The query may hold a key.
        let Self { file, method, url, header, body } = self;
        f.debug_struct("ExplainArgs")
            .field("file", file)
            .field("method", method)
            .field("path", &url.path())
            .field("header", header)
            .field("body", body)
            .finish()
    }
}

/// A header from the command line. Its value does not show itself.
#[derive(Clone)]
pub struct Header(HeaderName, HeaderValue);

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Header({}: …)", self.0)
    }
}

fn header(text: &str) -> Result<Header, String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME: VALUE")?;
    let name = name.trim().parse().map_err(|_| "expected the name of a header")?;
    let value = value.trim().parse().map_err(|_| "a header's value has no such characters")?;
    Ok(Header(name, value))
}

/// Explains the request.
pub fn run(args: &ExplainArgs) -> ExitCode {
    match config::check(&args.file) {
        Ok(config) => print(&explain(&config, args)),
        Err(problems) => refuse(&problems),
    }
}

/// What would be done with the request.
pub fn explain(config: &Config, args: &ExplainArgs) -> String {
    let (method, path) = (&args.method, args.url.path());
    let mut text = format!("{method} {path}\n");
    match config.routes.route(method, path) {
        Routed::Pass { upstream } => {
            line(&mut text, "route", "none that guards it");
            line(&mut text, "upstream", &upstream);
            line(&mut text, "guarded", "no: it is streamed through");
        }
        Routed::Guarded(route) => {
            let mut headers = HeaderMap::new();
            for Header(name, value) in &args.header {
                headers.append(name, value.clone());
            }
            let body = args.body.clone().map(BodyArg::into_bytes).unwrap_or_default();
            let request = RequestView {
                method,
                path,
                query: args.url.query(),
                headers: &headers,
                body: &Bytes::from(body),
            };
            guarded(&mut text, &route, &request);
            if let Some(Upstream { preset: Some(preset), .. }) = config.upstream(&route.upstream) {
                line(&mut text, "preset", &format!("{preset}, below what the file says"));
            }
        }
    }
    text
}

fn line(text: &mut String, name: &str, what: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "  {name:<12} {what}");
}

fn guarded(text: &mut String, route: &Route, request: &RequestView<'_>) {
    let policy = &route.policy;
    line(text, "route", &route.name);
    line(text, "upstream", &route.upstream);
    line(text, "guarded", mode(route.mode));
    line(text, "key", &key(policy, request));
    line(text, "scope", &scope(&policy.scope, &route.upstream, request));
    line(text, "fingerprint", &fingerprint(policy));
    line(text, "business key", &business(route, request));
    line(text, "other keys", orphans(policy));
    line(text, "duplicates", &duplicates(policy));
    if let (Some(rule), Some(slot)) = (&policy.reference, route.slot(request)) {
        line(text, "reference", &reference(rule, &slot));
    }
    line(text, "look-up", &look_up(route, request));
    if let Some(lookup) = &policy.lookup {
        absent(text, &lookup.absent);
    }
    if let Some((within, _)) = policy.resend {
        line(text, "resend", &resend(within, has_key(policy, request)));
    }
    line(text, "kept", &kept(policy));
    if !policy.errors.is_plain() {
        line(text, "errors", &errors(policy));
    }
    if policy.on_store_failure == OnStoreFailure::Pass {
        line(text, "no store", "it goes through unguarded");
    }
}

fn errors(policy: &Policy) -> String {
    let statuses: Vec<_> =
        policy.errors.statuses().map(|(slug, status)| format!("{slug} as {status}")).collect();
    let statuses = statuses.join(", ");
    if statuses.is_empty() {
        "in the form that is configured".to_owned()
    } else {
        format!("in the form that is configured; {statuses}")
    }
}

const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "yes",
        Mode::Observe => "watched only: what would wait or be refused is forwarded and counted",
        Mode::Off => "no",
    }
}

fn key(policy: &Policy, request: &RequestView<'_>) -> String {
    for source in &policy.sources {
        let place = place(source);
        match find_key(std::slice::from_ref(source), request) {
            Ok(None) => {}
            Ok(Some((key, _))) => return format!("{} bytes, from {place}", key.as_bytes().len()),
            Err(error) => return format!("refused with 400: that from {place}, {error}"),
        }
    }
    let places: Vec<_> = policy.sources.iter().map(place).collect();
    let looked = if places.is_empty() {
        "no place is named".to_owned()
    } else {
        format!("none in {}", places.join(", "))
    };
    let then = match policy.missing {
        Missing::Fingerprint { window } if window.is_zero() => {
            "its content identifies it".to_owned()
        }
        Missing::Fingerprint { window } => {
            format!(
                "its content identifies it, for {} after delivery too",
                humantime::format_duration(window)
            )
        }
        Missing::Reject => "refused with 400".to_owned(),
        Missing::Pass => "it goes through unguarded".to_owned(),
    };
    format!("{looked}; {then}")
}

fn place(source: &KeySource) -> String {
    match source {
        KeySource::Header(name) => format!("header {name}"),
        KeySource::Json(pointer) => format!("{pointer} of the JSON body"),
        KeySource::Form(name) => format!("form field {name}"),
        KeySource::Query(name) => format!("query parameter {name}"),
    }
}

fn scope(rule: &ScopeRule, upstream: &str, request: &RequestView<'_>) -> String {
    let shared = format!("upstream {upstream}, method, path");
    match rule {
        ScopeRule::Fixed(name) => format!("{shared}, and the fixed name {name}"),
        ScopeRule::Credentials(names) if names.is_empty() => {
            format!("{shared}; all callers share it")
        }
        ScopeRule::Credentials(names) => {
            let given = |name: &HeaderName| {
                let given = if request.headers.contains_key(name) { "given" } else { "not given" };
                format!("{name} ({given})")
            };
            let names: Vec<_> = names.iter().map(given).collect();
            format!("{shared}, and the values of {}", names.join(", "))
        }
    }
}

fn fingerprint(policy: &Policy) -> String {
    let rules = &policy.fingerprint;
    let headers = rules.headers.iter().map(|name| format!(", {name}"));
    let ignored: Vec<_> = rules
        .ignore
        .iter()
        .map(|ignore| match ignore {
            Ignore::Json(pointer) => pointer.as_str(),
            Ignore::Form(name) => name.as_str(),
        })
        .collect();
    let mut text: String = "method, path, query, content-type".to_owned();
    text.extend(headers);
    text += ", body";
    if !ignored.is_empty() {
        text += " without ";
        text += &ignored.join(", ");
    }
    text + "; not the places of the key"
}

fn business(route: &Route, request: &RequestView<'_>) -> String {
    let Some(Business { fields, window }) = &route.policy.business else {
        return "none: another key is another operation".to_owned();
    };
    let captures: Vec<_> = route.path.captures(request.path).collect();
    // Its content is always there, whatever it is.
    match BusinessKey::of(fields, request, &captures, &[0; 32]) {
        Err(lacking) => format!("none: this request lacks {}", part(lacking)),
        Ok(_) => {
            let parts: Vec<_> = fields.iter().map(part).collect();
            let window = humantime::format_duration(*window);
            format!("of {}; bound until it fails, or {window} after success", parts.join(", "))
        }
    }
}

fn part(field: &BusinessField) -> String {
    match field {
        BusinessField::Header(name) => format!("header {name}"),
        BusinessField::Json(pointer) => format!("{pointer} of the JSON body"),
        BusinessField::Form(name) => format!("form field {name}"),
        BusinessField::Query(name) => format!("query parameter {name}"),
        BusinessField::Path(name) => format!("{name} of the path"),
        BusinessField::Content => "content".to_owned(),
    }
}

const fn orphans(policy: &Policy) -> &'static str {
    match policy.orphans {
        Orphans::Match => {
            "the same content is the same operation once a caller was left unanswered"
        }
        Orphans::Ignore => "the same content is another operation",
    }
}

fn duplicates(policy: &Policy) -> String {
    match policy.duplicates {
        Duplicates::Conflict => "409 while the first is in flight".to_owned(),
        Duplicates::Wait => {
            format!(
                "wait up to {} for the first one's answer",
                humantime::format_duration(policy.max_wait)
            )
        }
    }
}

fn reference(rule: &ReferenceRule, slot: &Slot) -> String {
    let place = match &rule.into {
        Place::Form(name) => place(&KeySource::Form(name.clone())),
        Place::Json(pointer) => place(&KeySource::Json(pointer.to_string())),
    };
    match slot {
        Slot::Open(gap) => format!("{} characters, put into {place}", gap.length()),
        Slot::Given(text) => format!("the caller's own, {} bytes, from {place}", text.len()),
        Slot::Closed(why) => format!("none in {place}: the request is left alone, since {why}"),
    }
}

fn look_up(route: &Route, request: &RequestView<'_>) -> String {
    let policy = &route.policy;
    let Some(lookup) = &policy.lookup else {
        return match policy.resend.is_some() && has_key(policy, request) {
            true => "none".to_owned(),
            false => "none: an unknown outcome waits for an operator".to_owned(),
        };
    };
    let key = find_key(&policy.sources, request).ok().flatten().map(|(key, _)| key);
    let captures = route.path.captures(request.path).collect();
    let slot = route.slot(request);
    let reference = match &slot {
        Some(Slot::Given(text)) => Some(text.as_str()),
        // Drawn at the claim.
        Some(Slot::Open(_)) => Some(""),
        Some(Slot::Closed(_)) | None => None,
    };
    let known = Known { key: key.as_ref(), reference, captures };
    let asked = lookup.words();
    match lookup.inputs(request, &known) {
        Err(missing) => format!(
            "{asked}; but this request has no {missing}, so an unknown outcome waits for an operator"
        ),
        Ok(_) => format!(
            "{asked}; after {} without an answer, and after every unknown outcome",
            humantime::format_duration(policy.lookup_after)
        ),
    }
}

/// Whether it is known by a key, as only what is sent again is.
fn has_key(policy: &Policy, request: &RequestView<'_>) -> bool {
    find_key(&policy.sources, request).is_ok_and(|found| found.is_some())
}

fn resend(within: Duration, has_key: bool) -> String {
    match has_key {
        true => format!(
            "the same request, under the same key, up to {} after the claim",
            humantime::format_duration(within)
        ),
        false => "never: this request has no key".to_owned(),
    }
}

fn absent(text: &mut String, policy: &AbsentPolicy) {
    let (then, enough) = match policy {
        AbsentPolicy::Hold => return,
        AbsentPolicy::Fail(enough, _) => ("settled as never applied", enough),
        AbsentPolicy::Reopen(enough) => ("the key is freed", enough),
    };
    let Enough { after, times } = enough;
    let after = humantime::format_duration(*after);
    line(
        text,
        "absent",
        &format!("{then}, if {times} times in a row and {after} after the connection was closed"),
    );
}

fn kept(policy: &Policy) -> String {
    format!(
        "the answer {} from settlement; that there was one, {} more",
        humantime::format_duration(policy.retention),
        humantime::format_duration(policy.remember)
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Explain {
        #[command(flatten)]
        args: ExplainArgs,
    }

    fn explained(routes: &str, request: &[&str]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!("upstreams: {{ pay: {{ url: 'http://a' }} }}\nroutes: [{routes}]\n");
        fs::write(file.path(), text).unwrap();
        let config = config::check(file.path()).unwrap();
        let args = ["explain", "FILE"].iter().chain(request);
        let args = Explain::try_parse_from(args).unwrap().args;
        assert!(!format!("{args:?}").contains("canary"), "{args:?}");
        explain(&config, &args)
    }

    #[test]
    fn a_guarded_request_is_told_in_words_and_without_its_secrets() {
        let text = explained(
            "{ name: create, match: { path: /v1/payments }, fingerprint: { ignore: [{ json: /at }] } }",
            &[
                "POST",
                "https://semel/v1/payments?a=canary",
                "-H",
                "Idempotency-Key: canary-7",
                "-H",
                "Authorization: Bearer canary",
                "--body",
                "{\"at\": \"canary\"}",
            ],
        );

        assert!(!text.contains("canary"), "{text}");
        for part in [
            "POST /v1/payments\n",
            "route        create\n",
            "upstream     pay\n",
            "key          8 bytes, from header idempotency-key\n",
            "authorization (given), x-api-key (not given)\n",
            "content-type, body without /at",
            "business key none: another key is another operation\n",
            "look-up      none: an unknown outcome waits for an operator\n",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn a_request_without_a_key_is_told_what_becomes_of_it() {
        let key = |missing: &str| {
            explained(
                &format!("{{ match: {{ path: /** }}, key: {{ missing: {missing} }} }}"),
                &["POST", "/x"],
            )
        };
        assert!(key("reject").contains("none in header idempotency-key; refused with 400"));
        assert!(key("pass").contains("goes through unguarded"));
        assert!(key("fingerprint").contains("its content identifies it\n"));
    }

    #[test]
    fn it_is_told_where_a_reference_goes_or_why_not() {
        let of = |mode: &str, body: &str| {
            let rule = "match: { path: /** }, reference: { into: { json: /m/r } }";
            explained(
                &format!("{{ {rule}, mode: {mode} }}"),
                &["POST", "/x", "-H", "Content-Type: application/json", "--body", body],
            )
        };
        let reference = |body: &str| of("enforce", body);
        assert!(reference("{}").contains("40 characters, put into /m/r of the JSON body\n"));
        let own = reference("{\"m\":{\"r\":\"canary\"}}");
        assert!(own.contains("the caller's own, 6 bytes, from /m/r") && !own.contains("canary"));
        assert!(reference("{\"m\":[]}").contains(
            "none in /m/r of the JSON body: the request is left alone, since something else stands"
        ));
        assert!(of("observe", "{}").contains("is left alone, since the route only watches\n"));
    }

    #[test]
    fn the_look_up_that_a_request_would_get_is_told() {
        let look_up = |request: &str, body: &str| {
            let route = format!("{{ match: {{ path: /v1 }}, lookup: {{ request: {request} }} }}");
            explained(&route, &["POST", "/v1", "--body", body])
        };
        let by_order = "{ path: '/orders/{{ body.order }}' }";

        let text = look_up(by_order, r#"{"order": "canary"}"#);
        let told = "GET /orders/{{ body.order }}; after 10s without an answer, and after every";
        assert!(text.contains(told) && !text.contains("canary"), "{text}");
        let text = look_up(by_order, "{}");
        assert!(text.contains("but this request has no body/order, so"), "{text}");
        let text = look_up("{ method: POST, path: /search, body: '{}' }", "{}");
        assert!(text.contains("POST /search; after 10s"), "{text}");
    }

    #[test]
    fn what_resend_and_absence_do_is_told() {
        let told = |lookup: &str, key: &[&str]| {
            let route = format!("{{ match: {{ path: /v1 }}, lookup: {{ {lookup} }} }}");
            explained(&route, &[&["POST", "/v1"], key].concat())
        };
        let (key, resend) = (&["-H", "Idempotency-Key: 7"][..], "resend: { within: 6d }");
        let by_itself = told(resend, key);
        let again =
            "resend       the same request, under the same key, up to 6days after the claim\n";
        assert!(by_itself.contains(again) && !by_itself.contains("operator"), "{by_itself}");
        let keyless = told(resend, &[]);
        assert!(keyless.contains("resend       never: this request has no key\n"), "{keyless}");
        assert!(keyless.contains("waits for an operator"), "{keyless}");

        let absent = |then: &str| {
            let more = format!(
                "request: {{ path: /a }}, absent: {{ then: {then}, after: 60s, times: 3 }}"
            );
            told(&more, key)
        };
        let enough = ", if 3 times in a row and 1m after the connection was closed\n";
        let fail = format!("absent       settled as never applied{enough}");
        let reopen = format!("absent       the key is freed{enough}");
        for (then, told) in [("fail", fail), ("reopen", reopen)] {
            let text = absent(then);
            assert!(text.contains(&told), "{told} is not in\n{text}");
        }
    }

    #[test]
    fn a_business_key_is_told_or_what_it_lacks() {
        let business = |body: &str| {
            explained(
                "{ match: { path: /** }, business_key: { fields: [{ json: /order }, content] } }",
                &["POST", "/x", "--body", body],
            )
        };
        assert!(business("{\"order\": 7}").contains("of /order of the JSON body, content; bound"));
        assert!(business("{}").contains("none: this request lacks /order of the JSON body"));
    }

    #[test]
    fn a_safe_request_is_streamed_through() {
        let text = explained("", &["GET", "/v1/payments/7"]);
        assert!(text.contains("no: it is streamed through"), "{text}");
    }
}
