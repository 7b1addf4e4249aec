//! The config as a whole: from text to meaning.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use http::Method;
use proptest::prelude::*;
use tempfile::TempDir;

use super::overrides::Overrides;
use super::problems::Problems;
use super::raw::Log;
use super::secrets::{Outside, Purpose};
use super::text::SecretText;
use super::{Config, admin_access, checked, load_with, raw_file};
use crate::proxy::route::{Missing, Mode, Routed};

const CANARY: &str = "canary-canary-canary-canary-canary-canary";

fn no_env(_: &str) -> Option<OsString> {
    None
}

const CHECK: Outside<'_> = Outside { env: &no_env, purpose: Purpose::Check };
const RUN: Outside<'_> = Outside { env: &no_env, purpose: Purpose::Run };

fn check(text: &str) -> Result<Config, Box<Problems>> {
    let mut problems = Box::new(Problems::new(Some("semel.yaml")));
    let config =
        raw_file(text, &mut problems).and_then(|file| checked::check(&file, CHECK, &mut problems));
    config.ok_or(problems)
}

fn routes(text: &str) -> Config {
    check(&format!("upstreams: {{ a: {{ url: 'http://a' }}, b: {{ url: 'http://b' }} }}\n{text}"))
        .unwrap_or_else(|problems| panic!("{problems}"))
}

fn at(folder: &Path) -> Overrides {
    Overrides {
        upstream: Some("http://127.0.0.1:9000".to_owned()),
        store: Some(SecretText::new(format!("embedded:{}", folder.display()))),
        ..Overrides::default()
    }
}

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_upstream_alone_is_a_complete_config() {
    let folder = TempDir::new().unwrap();

    let config = load_with(&at(folder.path()), CHECK).unwrap();

    assert_eq!(config.listen.to_string(), "127.0.0.1:7411");
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:7412");
    assert_eq!(config.drain, Duration::from_secs(120));
    let Routed::Guarded(route) = config.routes.route(&Method::POST, "/any/where") else {
        panic!("an unsafe request went unguarded")
    };
    assert_eq!((route.name.as_str(), route.upstream.as_str()), ("default", "default"));
    assert_eq!(route.mode, Mode::Enforce);
    assert_eq!(route.policy.missing, Missing::Fingerprint { window: Duration::ZERO });
}

#[test]
fn a_flag_goes_before_the_file() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("semel.yaml");
    let text = "listen: 127.0.0.1:1\nlog: json\nstore: { kind: redis, url: 'redis://r' }\n\
                upstreams: { a: { url: 'http://a', connect_timeout: 9s } }";
    fs::write(&file, text).unwrap();
    let overrides = Overrides {
        config: Some(file),
        listen: Some("127.0.0.1:2".to_owned()),
        admin: Some("127.0.0.1:3".to_owned()),
        log: Some(Log::Text),
        ..at(folder.path())
    };

    let config = load_with(&overrides, CHECK).unwrap();

    assert_eq!(config.listen.port(), 2);
    assert_eq!(config.admin.listen.port(), 3);
    assert_eq!(config.log, Log::Text);
    assert!(matches!(config.store.place, checked::Place::Embedded { .. }));
    let upstream = config.upstream("a").unwrap();
    assert_eq!(upstream.settings.url.to_string(), "http://127.0.0.1:9000");
    assert_eq!(upstream.settings.connect_timeout, Duration::from_secs(9));
}

#[test]
fn a_wrong_flag_is_named_and_has_no_line() {
    let folder = TempDir::new().unwrap();
    let overrides = Overrides { listen: Some("7411".to_owned()), ..at(folder.path()) };

    let problems = load_with(&overrides, CHECK).unwrap_err();

    let fault = "--listen: expected an address and a port, like 127.0.0.1:7411 or [::1]:7411";
    assert_eq!(problems.faults(), [fault]);
}

#[test]
fn requests_that_no_route_matches_go_to_the_default_upstream() {
    let upstream = |text| match routes(text).routes.route(&Method::POST, "/x") {
        Routed::Guarded(route) => route.upstream.clone(),
        Routed::Pass { upstream } => panic!("unguarded, to {upstream}"),
    };
    assert_eq!(upstream(""), "a");
    assert_eq!(upstream("default_upstream: b"), "b");
    assert_eq!(upstream("routes: [{ match: { path: /** }, upstream: b }]"), "b");
}

#[test]
fn a_route_that_no_request_reaches_is_told() {
    let warned = |text: &str| {
        let config = routes(text);
        config.warnings.iter().any(|warning| warning.contains("no request gets here"))
    };
    let two = |first: &str, second: &str| {
        format!("routes: [{{ match: {first} }}, {{ name: second, match: {second} }}]")
    };
    assert!(warned(&two("{ path: /v1/** }", "{ path: /v1/payments }")));
    assert!(warned(&two("{ path: '/v1/{id}' }", "{ path: /v1/x, methods: [POST] }")));
    assert!(warned(&two("{ path: /v1 }", "{ path: /v1 }")));
    assert!(!warned(&two("{ path: /v1, methods: [POST] }", "{ path: /v1 }")));
    assert!(!warned(&two("{ path: /v1 }", "{ path: /v1, methods: [GET, POST] }")));
    assert!(!warned(&two("{ path: /v1/x }", "{ path: '/v1/{id}' }")));
    assert!(!warned(&two("{ path: '/v1/{id}' }", "{ path: /v1/** }")));
}

#[test]
fn a_guarded_route_without_a_look_up_is_told() {
    let warned = |text| {
        routes(text)
            .warnings
            .iter()
            .any(|w| w.starts_with("semel.yaml:2: routes[0]: guarded without"))
    };
    assert!(warned("routes: [{ match: { path: /a } }]"));
    assert!(!warned("routes: [{ match: { path: /a }, mode: off }]"));
    assert!(!warned("routes: [{ match: { path: /a }, lookup: { request: { path: /a } } }]"));
}

#[test]
fn two_routes_never_share_a_name() {
    let faults = |text: &str| {
        check(&format!("upstreams: {{ a: {{ url: 'http://a' }} }}\n{text}")).unwrap_err().faults()
    };
    assert_eq!(faults("routes: [{ match: { path: /a } }, { match: { path: /a } }]").len(), 1);
    assert_eq!(faults("routes: [{ name: default, match: { path: /a } }]").len(), 1);
}

#[test]
fn a_reference_has_one_place_and_a_length_that_a_provider_can_take() {
    let faults = |route: &str| {
        let text = format!("routes: [{{ match: {{ path: /a }}, {route} }}]");
        let checked = check(&format!("upstreams: {{ a: {{ url: 'http://a' }} }}\n{text}"));
        checked.err().map(|problems| problems.to_string()).unwrap_or_default()
    };
    let json = "reference: { into: { json: /m/r }, max: 16, unless: [X-Seal] }";
    let look_up = "lookup: { request: { path: '/a/{{ reference }}' } }";
    assert_eq!(faults(json), "");
    assert_eq!(faults(&format!("{json}, {look_up}")), "");
    for (route, told) in [
        ("reference: { max: 20 }", "into"),
        ("reference: { into: { json: /r, form: r } }", "exactly one of json and form"),
        ("reference: { into: { json: r } }", "a JSON pointer"),
        ("reference: { into: { form: '' } }", "expected a name"),
        ("reference: { into: { form: r }, max: 15 }", "must be 16 to 64"),
        ("reference: { into: { form: r }, max: 65 }", "must be 16 to 64"),
        ("reference: { into: { form: r }, unless: ['a b'] }", "the name of a header"),
        ("reference: { into: { form: k } }, key: { sources: [{ form: k }] }", "the same place"),
        (look_up, "names `reference`, which this route does not have"),
    ] {
        let faults = faults(route);
        assert!(faults.contains(told) && faults.lines().count() == 1, "{route}: {faults}");
    }
    let deep = format!("reference: {{ into: {{ json: {} }} }}", "/a".repeat(17));
    assert!(faults(&deep).contains("more than 16 steps"));
}

#[test]
fn a_window_that_outlives_its_record_is_a_problem() {
    let found = |route: &str| {
        let kept = "retention: 1h, remember: 1h";
        let text = format!("routes: [{{ match: {{ path: /p }}, {kept}, {route} }}]");
        let checked = check(&format!("upstreams: {{ a: {{ url: 'http://a' }} }}\n{text}"));
        checked.err().map(|problems| problems.to_string()).unwrap_or_default()
    };
    let business =
        |window: &str| format!("business_key: {{ fields: [content], window: {window} }}");
    for (route, place) in
        [(business("3h"), "business_key.window"), ("key: { window: 3h }".to_owned(), "key.window")]
    {
        let found = found(&route);
        assert!(found.contains(place), "{found}");
        assert!(found.contains("records are kept for 2h"), "{found}");
    }
    assert_eq!(found(&business("2h")), "");
}

#[test]
fn the_key_rules_change_with_what_names_a_request_and_with_nothing_else() {
    let digest = |route: &str| {
        routes(&format!("routes: [{{ match: {{ path: '/v1/{{id}}' }}{route} }}]"))
            .key_rules_digest()
    };
    let plain = digest("");
    for same in [
        ", name: other",
        ", max_wait: 3s, lease: 2s, retention: 1h",
        ", limits: { waiters: 3 }, duplicates: conflict, mode: observe",
        ", scope: [x-api-key, Authorization]",
        ", upstream: a, key: { window: 1m }",
        ", lookup: { request: { path: /a } }",
        ", reference: { into: { form: r } }",
    ] {
        assert_eq!(digest(same), plain, "{same}");
    }
    for other in [
        ", upstream: b",
        ", scope: [authorization]",
        ", scope: { fixed: x }",
        ", key: { sources: [{ header: X-Key }] }",
        ", key: { missing: reject }",
        ", fingerprint: { ignore: [{ json: /sent_at }] }",
        ", fingerprint: { headers: [accept] }",
        ", mode: off",
        ", orphans: ignore",
        ", business_key: { fields: [{ json: /order }] }",
    ] {
        assert_ne!(digest(other), plain, "{other}");
    }
    let renamed = routes("routes: [{ match: { path: '/v1/{name}' } }]").key_rules_digest();
    assert_eq!(renamed, plain);
    let methods = routes("routes: [{ match: { path: '/v1/{id}', methods: [POST] } }]");
    assert_ne!(methods.key_rules_digest(), plain);
    // Fingerprints name nothing where every request has a key, and another key is another payment.
    let keyed =
        |more: &str| digest(&format!(", orphans: ignore, key: {{ missing: reject }}{more}"));
    assert_eq!(keyed(", fingerprint: { headers: [accept] }"), keyed(""));
    let bound = |business: &str| digest(&format!(", business_key: {{ {business} }}"));
    let content = |more: &str| {
        keyed(&format!(", business_key: {{ fields: [{{ json: /order }}, content] }}{more}"))
    };
    assert_ne!(content(", fingerprint: { headers: [accept] }"), content(""));
    let by_place = |path: &str| {
        let business = "business_key: { fields: [{ path: id }] }";
        routes(&format!("routes: [{{ match: {{ path: '{path}' }}, {business} }}]"))
            .key_rules_digest()
    };
    assert_ne!(by_place("/v1/{id}/{of}"), by_place("/v1/{of}/{id}"));
    assert_eq!(by_place("/v1/{id}/{of}"), by_place("/v1/{id}/{other}"));
    let order = bound("fields: [{ json: /order }]");
    assert_eq!(bound("fields: [{ json: /order }], window: 1h"), order);
    assert_ne!(bound("fields: [{ json: /order }, content]"), order);
}

#[test]
fn a_business_key_says_what_is_wrong_with_it() {
    let checked = |business: &str| {
        check(&format!(
            "upstreams: {{ a: {{ url: 'http://a' }} }}\n\
             routes: [{{ match: {{ path: '/a/{{id}}' }}, business_key: {{ {business} }} }}]"
        ))
    };
    for wrong in [
        "fields: []",
        "fields: [everything]",
        "fields: [{ path: name }]",
        "fields: [{ json: order }]",
        "fields: [{ json: /order, header: X-Order }]",
        "fields: [content], window: soon",
    ] {
        assert_eq!(checked(wrong).unwrap_err().faults().len(), 1, "{wrong}");
    }
    assert!(checked("fields: [content, { path: id }], window: 0s").is_ok());
}

#[test]
fn secrets_are_made_once_and_for_their_owner_only() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path().join("data");

    let first = load_with(&at(&folder), RUN).unwrap();
    let second = load_with(&at(&folder), RUN).unwrap();

    assert_eq!(first.news.len(), 4, "{:?}", first.news);
    assert!(second.news.is_empty(), "{:?}", second.news);
    assert_eq!(first.secrets.index, second.secrets.index);
    assert_eq!(first.secrets.seal, second.secrets.seal);
    assert_eq!(first.secrets.fingerprint, second.secrets.fingerprint);
    assert_ne!(first.secrets.index, first.secrets.seal[0]);
    assert_eq!(first.admin.token.expose(), second.admin.token.expose());
    for file in ["secrets/index", "secrets/fingerprint", "secrets/seal", "admin-token"] {
        assert_eq!(mode_of(&folder.join(file)), 0o600, "{file}");
    }
    let files = fs::read_dir(folder.join("secrets")).unwrap().count();
    assert_eq!(files, 3, "a draft was left behind");
}

#[test]
fn the_token_that_a_proxy_made_is_found_again() {
    let folder = TempDir::new().unwrap();
    assert!(admin_access(&at(folder.path())).unwrap().token.is_none());
    let config = load_with(&at(folder.path()), RUN).unwrap();

    let access = admin_access(&at(folder.path())).unwrap();

    assert_eq!(access.address, config.admin.listen);
    assert_eq!(access.token.unwrap().expose(), config.admin.token.expose());
}

#[test]
fn a_check_writes_nothing() {
    let folder = TempDir::new().unwrap();

    load_with(&at(&folder.path().join("data")), CHECK).unwrap();

    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_lost_secret_is_not_made_anew_beside_the_others() {
    let folder = TempDir::new().unwrap();
    load_with(&at(folder.path()), RUN).unwrap();
    fs::remove_file(folder.path().join("secrets/seal")).unwrap();

    let problems = load_with(&at(folder.path()), RUN).unwrap_err();

    assert!(problems.to_string().contains("is incomplete; restore it"), "{problems}");
    assert!(!folder.path().join("secrets/seal").exists());
}

#[test]
fn one_secret_file_makes_the_same_three_everywhere() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("shared/secret");
    let load = |data: &str| {
        let secret_file = Some(file.display().to_string());
        load_with(&Overrides { secret_file, ..at(&folder.path().join(data)) }, RUN).unwrap()
    };

    let (one, other) = (load("one"), load("other"));

    assert_eq!(mode_of(&file), 0o600);
    assert_eq!(one.secrets.index, other.secrets.index);
    assert_eq!(one.secrets.seal, other.secrets.seal);
    assert_ne!(one.secrets.index, one.secrets.seal[0]);
    assert_ne!(one.secrets.fingerprint[0], one.secrets.seal[0]);
}

#[test]
fn a_secret_that_everybody_can_read_is_told() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("secret");
    fs::write(&file, CANARY).unwrap();
    let warned = |mode| {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let secret_file = Some(file.display().to_string());
        let config = load_with(&Overrides { secret_file, ..at(folder.path()) }, CHECK).unwrap();
        config.warnings.iter().any(|warning| warning.contains("can be read by everybody"))
    };
    assert!(warned(0o644));
    assert!(!warned(0o600));
}

#[test]
fn secrets_come_from_values_environment_and_files() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("seal");
    let hex = "00".repeat(31) + "01";
    fs::write(&file, format!("  {hex}\n")).unwrap();
    let env =
        |name: &str| (name == "FP").then(|| "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAI=".into());
    let text = format!(
        "upstreams: {{ a: {{ url: 'http://a' }} }}\nstore: {{ kind: memory }}\nsecret:\n  \
         index: {{ value: {CANARY} }}\n  fingerprint: [{{ env: FP }}]\n  \
         seal: [{{ file: {} }}, {{ value: short }}]\n",
        file.display()
    );
    let mut problems = Problems::new(Some("semel.yaml"));
    let outside = Outside { env: &env, purpose: Purpose::Check };
    let raw = raw_file(&text, &mut problems).unwrap();

    assert!(checked::check(&raw, outside, &mut problems).is_none());
    assert_eq!(problems.len(), 1, "{problems}");
    assert!(problems.to_string().starts_with("semel.yaml:6: secret.seal[1]: a secret has"));

    let mut raw = raw;
    raw.secret.seal.pop();
    let config = checked::check(&raw, outside, &mut Problems::new(None)).unwrap();
    let number = |last| {
        let mut bytes = [0; 32];
        bytes[31] = last;
        bytes
    };
    assert_eq!(config.secrets.seal[0].bytes(), &number(1));
    assert_eq!(config.secrets.fingerprint[0].bytes(), &number(2));
}

#[test]
fn no_secret_shows_in_a_config_or_its_problems() {
    let text = |more: &str| {
        format!(
            "upstreams: {{ a: {{ url: 'http://a' }} }}\n\
             admin: {{ token: {{ value: {CANARY} }} }}\n\
             store: {{ kind: redis, url: 'redis://me:{CANARY}@r', password: {{ value: {CANARY} }} }}\n\
             secret: {{ index: {{ value: {CANARY} }}, fingerprint: [{{ value: {CANARY} }}], seal: [{{ value: {CANARY} }}] }}\n\
             routes: [{{ match: {{ path: /a }}, lookup: {{ request: {{ path: /a }}, credentials: {{ authorization: {{ value: {CANARY} }} }} }} }}]\n{more}"
        )
    };
    let config = check(&text("")).unwrap();
    assert!(!format!("{config:?}").contains("canary"), "{config:?}");

    // Wrong in every way that a value can be wrong.
    for more in [
        format!("listen: {CANARY}"),
        format!("log: {CANARY}"),
        format!("drain: {CANARY}"),
        format!("server: {CANARY}"),
        format!("well_known: {CANARY}"),
        format!("upstreams: {{ b: {{ url: '{CANARY}' }} }}"),
        format!("x: [{CANARY}"),
        format!("x: !{CANARY} y"),
    ] {
        let problems = check(&text(&more)).unwrap_err();
        assert!(!problems.to_string().contains("canary"), "{problems}");
        assert!(!format!("{problems:?}").contains("canary"), "{problems:?}");
    }
    let wrong = text("").replace("value: c", "value: [c").replace("y }", "y] }");
    let problems = check(&wrong).unwrap_err();
    assert!(!problems.to_string().contains("canary"), "{problems}");
}

#[test]
fn what_lies_too_deep_is_refused_and_breaks_nothing() {
    for text in [
        "- ".repeat(100_000),
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "-\t".repeat(100_000),
        "? ".repeat(100_000),
        "[\n".repeat(100_000),
        (0..3000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect(),
    ] {
        assert!(check(&text).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Lines of a good config, some of them struck out, exchanged or spoilt.
    #[test]
    fn whatever_stands_in_a_file_nothing_panics(
        spoilt in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..5_u8, ".{0,12}"), 1..6)
    ) {
        let example = include_str!("../../config/example.yaml").replace("#| ", "");
        let mut lines: Vec<String> = example.lines().map(str::to_owned).collect();
        for (at, other, how, noise) in spoilt {
            let (at, other) = (at.index(lines.len()), other.index(lines.len()));
            match how {
                0 => drop(lines.remove(at)),
                1 => lines.swap(at, other),
                2 => lines[at].push_str(&noise),
                3 => lines[at].insert_str(0, &noise),
                _ => {
                    let key = lines[at].split(':').next().unwrap_or_default().to_owned();
                    lines[at] = format!("{key}: {noise}");
                }
            }
        }
        let mut problems = Problems::new(None);
        if let Some(file) = raw_file(&lines.join("\n"), &mut problems) {
            let _ = checked::check(&file, CHECK, &mut problems);
        }
        // The schema says everything that the types demand.
        prop_assert!(!problems.to_string().contains("do not fit the schema"), "{problems}");
    }

    #[test]
    fn noise_is_no_config_and_no_panic(text in "(?s).{0,200}") {
        let _ = check(&text);
    }
}
