//! What presets add to a file, and what goes before them.

use http::Method;
use serde_json::json;

use super::*;
use crate::config::secrets::{Outside, Purpose};
use crate::config::{Config, checked, raw_file};
use crate::protocol::key::{KeySource, ScopeRule};
use crate::proxy::route::{Route, Routed};

const CHECK: Outside<'_> = Outside { env: &|_| None, purpose: Purpose::Check };

fn checked(text: &str) -> Result<Config, String> {
    let mut problems = Problems::new(Some("semel.yaml"));
    let config =
        raw_file(text, &mut problems).and_then(|file| checked::check(&file, CHECK, &mut problems));
    config.ok_or_else(|| problems.to_string())
}

const STRIPE: &str = "pay: { url: 'https://a', preset: stripe, \
                      lookup_credentials: { authorization: { value: 'Bearer t' } } }";

fn stripe(routes: &str) -> Config {
    checked(&format!("upstreams: {{ {STRIPE} }}\nroutes: [{routes}]")).unwrap()
}

fn route(config: &Config, method: &Method, path: &str) -> std::sync::Arc<Route> {
    let Routed::Guarded(route) = config.routes.route(method, path) else { panic!("unguarded") };
    route
}

#[test]
fn values_lie_over_values() {
    for (below, above, result) in [
        (
            json!({"a": {"b": 1, "c": [1]}}),
            json!({"a": {"c": [2]}}),
            json!({"a": {"b": 1, "c": [2]}}),
        ),
        (json!({"a": 1}), json!({"b": {"c": 1}}), json!({"a": 1, "b": {"c": 1}})),
        (json!({"a": {"b": 1}}), json!({"a": [1]}), json!({"a": [1]})),
        (json!({"a": [1]}), json!({"a": {"b": 1}}), json!({"a": {"b": 1}})),
        (json!({"a": 1, "b": 2}), json!({"a": null}), json!({"b": 2})),
        (json!({}), json!({"a": null}), json!({"a": null})),
        (
            json!({"into": {"form": "x"}}),
            json!({"into": {"json": "/x"}}),
            json!({"into": {"json": "/x"}}),
        ),
    ] {
        let mut lying = below.clone();
        over(&mut lying, above.clone());
        assert_eq!(lying, result, "{above} over {below}");
    }
}

#[test]
fn a_preset_alone_guards_and_looks_up() {
    let config = stripe("");

    let create = route(&config, &Method::POST, "/v1/payment_intents");
    assert_eq!(create.name, "POST /v1/payment_intents");
    assert!(create.policy.lookup.is_some());
    let other = route(&config, &Method::POST, "/v1/anything");
    assert_eq!(other.name, "default");
    assert!(other.policy.lookup.is_none());
    for route in [create, other] {
        assert!(!route.policy.errors.is_plain());
        let ScopeRule::Credentials(names) = &route.policy.scope else { panic!() };
        let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
        assert_eq!(names, ["authorization", "stripe-account", "stripe-context"]);
    }
    assert!(
        config.news[0].contains("stripe gives POST /v1/payment_intents, "),
        "{:?}",
        config.news
    );
}

#[test]
fn what_the_file_says_goes_before_the_preset() {
    let config = stripe(
        "{ match: { methods: [POST], path: /v1/payment_intents }, name: intents, max_wait: 3s, \
         lookup: { timeout: 2s } }, \
         { match: { path: /v1/refunds }, lookup: null }",
    );

    let intents = route(&config, &Method::POST, "/v1/payment_intents");
    assert_eq!(intents.name, "intents");
    assert_eq!(intents.policy.max_wait.as_secs(), 3);
    let lookup = intents.policy.lookup.as_ref().unwrap();
    assert_eq!(lookup.timeout.as_secs(), 2);
    let ScopeRule::Credentials(names) = &intents.policy.scope else { panic!() };
    assert_eq!(names.len(), 3);
    let refunds = route(&config, &Method::POST, "/v1/refunds");
    assert_eq!(refunds.name, "/v1/refunds");
    assert!(refunds.policy.lookup.is_none());
    let confirm = route(&config, &Method::POST, "/v1/payment_intents/pi_1/confirm");
    assert!(confirm.policy.lookup.is_some());
    let names = config.routes.routes().filter(|route| route.path.matches("/v1/payment_intents"));
    assert_eq!(names.count(), 2, "the file's route and the fallback");
}

#[test]
fn a_presets_routes_come_after_the_files_routes_to_that_upstream() {
    let config = checked(&format!(
        "upstreams: {{ bank: {{ url: 'https://b' }}, {STRIPE} }}\n\
         routes:\n\
         - {{ match: {{ path: /v1/own }}, upstream: pay }}\n\
         - {{ match: {{ path: /** }}, upstream: bank }}"
    ));
    let config = config.unwrap();

    assert_eq!(route(&config, &Method::POST, "/v1/own").upstream, "pay");
    let refunds = route(&config, &Method::POST, "/v1/refunds");
    assert_eq!(
        (refunds.upstream.as_str(), refunds.name.as_str()),
        ("pay", "pay: POST /v1/refunds")
    );
    assert_eq!(route(&config, &Method::POST, "/v1/anything").upstream, "bank");
}

#[test]
fn each_upstream_has_the_defaults_of_its_own_preset() {
    let config = checked(
        "upstreams:\n\
         \u{20} bank: { url: 'https://b', listen: 127.0.0.1:1 }\n\
         \u{20} adyen: { url: 'https://c', listen: 127.0.0.1:2, preset: adyen }\n\
         \u{20} square: { url: 'https://d', listen: 127.0.0.1:3, preset: square }\n\
         default_upstream: adyen",
    );
    let config = config.unwrap();

    for (upstream, name, source) in [
        ("bank", "default:bank", "header idempotency-key"),
        ("adyen", "default", "header idempotency-key"),
        ("square", "default:square", "json /idempotency_key"),
    ] {
        let table = config.routes.only(upstream);
        let Routed::Guarded(route) = table.route(&Method::POST, "/x") else { panic!("unguarded") };
        assert_eq!((route.name.as_str(), route.upstream.as_str()), (name, upstream));
        let found = match &route.policy.sources[0] {
            KeySource::Header(name) => format!("header {name}"),
            KeySource::Json(pointer) => format!("json {pointer}"),
            KeySource::Form(_) | KeySource::Query(_) => panic!("another place"),
        };
        assert_eq!(found, source);
        assert_eq!(route.policy.errors.is_plain(), upstream == "bank");
    }
}

#[test]
fn a_look_up_without_credentials_is_not_asked_and_that_is_said() {
    let config = checked("upstreams: { pay: { url: 'https://a', preset: stripe } }").unwrap();

    assert!(config.routes.routes().all(|route| route.policy.lookup.is_none()));
    let warned =
        "semel.yaml:1: upstreams.pay.preset: unknown outcomes of POST /v1/payment_intents, ";
    assert!(
        config.warnings.iter().any(|warning| warning.starts_with(warned)),
        "{:?}",
        config.warnings
    );

    let own = checked(
        "upstreams: { pay: { url: 'https://a', preset: stripe } }\n\
         routes: [{ match: { methods: [POST], path: /v1/refunds }, \
         lookup: { credentials: { authorization: { value: 'Bearer t' } } } }]",
    );
    assert!(route(&own.unwrap(), &Method::POST, "/v1/refunds").policy.lookup.is_some());
}

#[test]
fn the_key_rules_are_those_of_the_merged_routes() {
    let plain = checked("upstreams: { pay: { url: 'https://a' } }").unwrap().key_rules_digest();
    let preset = stripe("").key_rules_digest();
    let credentials = checked("upstreams: { pay: { url: 'https://a', preset: stripe } }").unwrap();

    assert_ne!(plain, preset);
    assert_eq!(credentials.key_rules_digest(), preset, "look-ups name nothing");
    let scope = "{ match: { methods: [POST], path: /v1/refunds }, scope: [authorization] }";
    assert_ne!(stripe(scope).key_rules_digest(), preset);
    let same = "{ match: { methods: [POST], path: /v1/payment_intents }, max_wait: 3s }";
    assert_eq!(stripe(same).key_rules_digest(), preset);
}

#[test]
fn an_unknown_preset_is_told_with_those_there_are() {
    let told = checked("upstreams:\n  pay: { url: 'https://a', preset: strype }").unwrap_err();

    let expected = "semel.yaml:2: upstreams.pay.preset: there is no preset `strype`; there are \
                    adyen, checkout, mollie, paypal, razorpay, square, stripe; did you mean `stripe`?";
    assert_eq!(told, expected);
}

#[test]
fn problems_in_merged_routes_have_the_lines_of_the_file() {
    let told = checked(
        "upstreams:\n  pay: { url: 'https://a', preset: stripe, lookup_credentials: { a: {} } }\n\
         routes:\n- match: { methods: [POST], path: /v1/refunds }\n  max_wait: soon\n  lookup: { tiem: 1s }\n",
    );
    let told = told.unwrap_err();
    assert!(told.contains("semel.yaml:6: routes[0].lookup.tiem: unknown key"), "{told}");

    let told = checked(
        "upstreams:\n  pay:\n    url: 'https://a'\n    preset: stripe\n    lookup_credentials: { a: {} }\n\
         routes:\n- match: { methods: [POST], path: /v1/refunds }\n  max_wait: 0s\n",
    );
    let told = told.unwrap_err();
    let places: Vec<_> = told.lines().collect();
    assert_eq!(places.len(), 2, "{told}");
    assert!(places[0].starts_with("semel.yaml:5: upstreams.pay.lookup_credentials.a: "), "{told}");
    assert!(places[1].starts_with("semel.yaml:8: routes[0].max_wait: "), "{told}");
}

#[test]
fn a_file_of_any_form_is_merged_without_a_panic() {
    for text in [
        "upstreams: 5",
        "upstreams: [{ preset: stripe }]",
        "upstreams: { pay: stripe }",
        "upstreams: { pay: { preset: 5 } }",
        "upstreams: { pay: { url: 'https://a', preset: stripe } }\nroutes: 5",
        "upstreams: { pay: { url: 'https://a', preset: stripe } }\nroutes: [5, { match: 5 }, { lookup: 5 }]",
        "upstreams: { pay: { url: 'https://a', preset: stripe, lookup_credentials: 5 } }\nroutes: { a: 1 }",
        "- upstreams",
    ] {
        assert!(checked(text).is_err(), "{text}");
    }
}
