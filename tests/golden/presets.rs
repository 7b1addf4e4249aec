//! What each preset makes of answers as its provider documents them: `tests/presets/`.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Response};
use semel::config::{self, Config, presets};
use semel::protocol::key::{RequestView, find_key};
use semel::protocol::outcome::{Answered, Finding, Meaning};
use semel::protocol::record::Reply;
use semel::proxy::problem::{Problem, Slug};
use semel::proxy::route::{Route, Routed};
use semel::upstream::lookup::{Known, Step, Subject};
use serde_json::Value;

use crate::support::repository;

/// What the provider echoes, in every fixture.
const REFERENCE: &str = "3f6c1b0a9d2e4f58";

/// The time at which look-ups ask, and how long ago the operation was claimed.
const NOW: u64 = 1_800_000_000;
const CLAIMED: Duration = Duration::from_secs(100);

fn configured(preset: &str, more: &str) -> Config {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(
        file,
        "upstreams:\n  pay:\n    url: 'https://api.example.com'\n    preset: {preset}\n    \
         lookup_credentials: {{ authorization: {{ value: 'Bearer t' }} }}\n{more}"
    )
    .unwrap();
    config::check(file.path()).unwrap_or_else(|problems| panic!("{preset}: {problems}"))
}

fn route(config: &Config, method: &Method, path: &str) -> std::sync::Arc<Route> {
    let Routed::Guarded(route) = config.routes.route(method, path) else { panic!("unguarded") };
    route
}

/// The fixtures of a preset: name and content.
fn fixtures(preset: &str) -> Vec<(String, Value)> {
    let folder = repository(&format!("tests/presets/{preset}"));
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn headers(value: &Value) -> HeaderMap {
    let pairs = value.as_object().into_iter().flatten();
    let pairs = pairs.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), text(value)));
    pairs.map(|(name, value)| (name, value.parse().unwrap())).collect()
}

/// What a look-up will know of a fixture's request.
fn subject(route: &Route, request: &Value, claimed: Duration) -> Subject {
    let headers = headers(&request["headers"]);
    let body = Bytes::from(text(&request["body"]).to_owned());
    let path = text(&request["path"]);
    let view =
        RequestView { method: &Method::POST, path, query: None, headers: &headers, body: &body };
    let found = find_key(&route.policy.sources, &view).unwrap();
    let known = Known {
        key: found.as_ref().map(|(key, _)| key),
        reference: Some(REFERENCE),
        captures: route.path.captures(path).collect(),
    };
    let inputs = route.policy.lookup.as_ref().unwrap().inputs(&view, &known).unwrap();
    Subject::new(inputs, claimed, NOW)
}

/// The provider's answer: what the fixture shows, with so many items that are changed so.
fn answer(fixture: &Value, case: &Value) -> Response<Bytes> {
    let mut item = fixture["item"].clone();
    for (pointer, value) in case["change"].as_object().into_iter().flatten() {
        *item.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value.clone();
    }
    let count = case["items"].as_u64().map_or(1, |count| usize::try_from(count).unwrap());
    let items = vec![item.to_string(); count].join(",");
    let shown = case.get("answer").unwrap_or(&fixture["answer"]).to_string();
    let body = shown.replace("\"<items>\"", &items).replace("\"<item>\"", &item.to_string());
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(NOW));
    let status = case["status"].as_u64().map_or(200, |status| u16::try_from(status).unwrap());
    Response::builder().status(status).header("date", date).body(Bytes::from(body)).unwrap()
}

fn assert_reply(at: &str, reply: &Reply, expected: &Value) {
    assert_eq!(u64::from(reply.status), expected["status"].as_u64().unwrap(), "{at}");
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    for (pointer, value) in expected["body"].as_object().unwrap() {
        assert_eq!(body.pointer(pointer), Some(value), "{at}: {pointer} of {body}");
    }
}

#[test]
fn every_look_up_of_every_preset_reads_what_its_provider_says() {
    for preset in presets::names() {
        let config = configured(preset, "");
        let mut tried = BTreeSet::new();
        for (name, fixture) in fixtures(preset).into_iter().filter(|(name, _)| name != "outcomes") {
            let route = route(&config, &Method::POST, text(&fixture["request"]["path"]));
            assert_eq!(route.name, text(&fixture["route"]), "{preset}/{name}");
            let lookup = route.policy.lookup.as_ref().unwrap();
            let mut cases = BTreeSet::new();
            for case in fixture["cases"].as_array().unwrap() {
                let at = format!("{preset}/{name}: {}", text(&case["case"]));
                let claimed = case["claimed"].as_u64().map_or(CLAIMED, Duration::from_secs);
                let subject = subject(&route, &fixture["request"], claimed);
                let Step::Ask(interview) = lookup.interview(&subject) else { panic!("{at}") };
                let question = interview.question();
                let asked = format!("{} {}", question.method(), question.uri());
                assert_eq!(asked, text(case.get("asks").unwrap_or(&fixture["asks"])), "{at}");
                assert_eq!(question.headers()["authorization"], "Bearer t", "{at}");

                let (_, step) = interview.answer(Ok(answer(&fixture, case)), NOW);

                assert_eq!(step.words(), text(&case["finds"]), "{at}");
                match step {
                    Step::Found(Finding::Final(reply)) => {
                        assert_reply(&at, &reply, &case["reply"]);
                    }
                    Step::Found(_) => assert!(case["reply"].is_null(), "{at}"),
                    Step::Ask(_) => panic!("{at}: one more question"),
                }
                cases.insert(text(&case["case"]).to_owned());
            }
            let is_list = fixture["answer"].to_string().contains("<items>");
            let wanted = if is_list { &["absent", "two matches"][..] } else { &["absent"] };
            let missing = ["succeeded"].iter().chain(wanted).find(|case| !cases.contains(**case));
            assert_eq!(missing, None, "{preset}/{name}");
            tried.insert(route.name.clone());
        }
        let asks = |route: &&std::sync::Arc<Route>| route.policy.lookup.is_some();
        let names = config.routes.routes().filter(asks).map(|route| route.name.clone());
        assert_eq!(tried, names.collect(), "{preset}: look-ups without fixtures");
    }
}

#[test]
fn every_preset_knows_which_answers_prove_nothing() {
    for preset in presets::names() {
        let config = configured(preset, "");
        let (_, rows) = fixtures(preset).into_iter().find(|(name, _)| name == "outcomes").unwrap();
        let path = match fixtures(preset).iter().find(|(name, _)| name != "outcomes") {
            Some((_, fixture)) => text(&fixture["request"]["path"]).to_owned(),
            None => "/v72/payments".to_owned(),
        };
        let route = route(&config, &Method::POST, &path);
        for row in rows.as_array().unwrap() {
            let headers = headers(&row["headers"]);
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
                .collect();
            let body = row["body"].to_string();
            let status = u16::try_from(row["status"].as_u64().unwrap()).unwrap();
            let answered = Answered { status, headers: &headers, body: Some(body.as_bytes()) };

            let meaning = match route.policy.outcomes.meaning(&answered) {
                Meaning::Final => "final",
                Meaning::NotApplied => "not_applied",
                Meaning::Accepted => "accepted",
                Meaning::Unknown => "unknown",
            };

            assert_eq!(meaning, text(&row["means"]), "{preset}: {}", text(&row["says"]));
        }
    }
}

#[test]
fn getting_a_token_is_no_payment() {
    let config = configured("paypal", "");
    let token = config.routes.route(&Method::POST, "/v1/oauth2/token");
    assert!(matches!(token, Routed::Pass { upstream } if upstream == "pay"));
    let told = config.warnings.join("\n");
    assert!(told.contains("/v2/checkout/orders") && !told.contains("token"), "{told}");
}

#[test]
fn every_preset_says_what_it_knows_what_it_cannot_know_and_where_that_is_written() {
    let docs = fs::read_to_string(repository("docs/presets.md")).unwrap();
    for name in presets::names() {
        let preset = presets::named(name).unwrap().unwrap();
        for part in ["knows", "cannot", "sources"] {
            let lines = preset.about[part].as_array().unwrap();
            assert!(!lines.is_empty(), "{name}: {part}");
            for line in lines {
                let line = text(line);
                assert!(part != "sources" || line.starts_with("https://"), "{name}: {line}");
            }
        }
        assert!(docs.contains(&format!("## {name}\n")), "{name} is not explained");
    }
}

#[test]
fn semels_own_answers_are_in_each_providers_form() {
    let places = [
        ("adyen", "/message"),
        ("checkout", "/detail"),
        ("mollie", "/detail"),
        ("paypal", "/message"),
        ("razorpay", "/error/description"),
        ("square", "/errors/0/detail"),
        ("stripe", "/error/message"),
    ];
    assert!(presets::names().eq(places.map(|(name, _)| name)));
    for (preset, place) in places {
        let config = configured(preset, "");
        let route = route(&config, &Method::POST, "/anything");
        for slug in Slug::ALL {
            let problem = Problem::new(slug);
            let answer = route.policy.errors.give(&problem, problem.response(), |body| body);
            let body: Value = serde_json::from_slice(answer.body()).unwrap();
            let detail = body.pointer(place).and_then(Value::as_str);
            assert_eq!(detail, Some(&*problem.detail), "{preset}: {body}");
        }
    }
}
