//! Claims about `Location`: only places of the upstream's own are followed.

use super::super::spec::LocationSpec;
use super::location::within;
use super::*;

fn followed(upstream: &str, location: &str) -> Result<String, String> {
    within(&upstream.parse().unwrap(), location.as_bytes())
}

#[test]
fn a_location_of_the_same_origin_is_followed() {
    for (upstream, location, target) in [
        ("https://api.example.com", "/v1/jobs/7", "/v1/jobs/7"),
        ("https://api.example.com", "/v1/jobs?id=7&x=%2F", "/v1/jobs?id=7&x=%2F"),
        ("https://api.example.com", "https://api.example.com/v1/jobs/7", "/v1/jobs/7"),
        ("https://api.example.com", "https://API.example.COM:443/v1/jobs/7", "/v1/jobs/7"),
        ("https://api.example.com:443", "https://api.example.com/v1/jobs/7", "/v1/jobs/7"),
        ("http://[::1]:9000", "http://[::1]:9000/a", "/a"),
        ("https://api.example.com", "/a#part", "/a"),
        ("https://api.example.com/base", "/base/v1/jobs/7", "/v1/jobs/7"),
        ("https://api.example.com/base/", "https://api.example.com/base/a", "/a"),
    ] {
        assert_eq!(followed(upstream, location).as_deref(), Ok(target), "{location}");
    }
}

#[test]
fn any_other_location_is_not() {
    let long = format!("/{}", "x".repeat(2048));
    for location in [
        "https://evil.example/v1/jobs/7",
        "https://api.example.com.evil.example/a",
        "https://api.example.com@evil.example/a",
        "https://evil.example@api.example.com/a",
        "https://api.example.com:444/a",
        "https://api.example.com:/a",
        "http://api.example.com/a",
        "ftp://api.example.com/a",
        "file:///etc/passwd",
        "//evil.example/a",
        "//api.example.com/a",
        "///evil.example/a",
        "https:///a",
        "api.example.com/a",
        "jobs/7",
        "../7",
        "?id=7",
        "",
        "/a/../b",
        "/a/./b",
        "/a/%2e%2e/b",
        "/a/%2E%2e%2fb",
        "/a/..%5cb",
        "/\\evil.example/a",
        "/a b",
        "/a\r\nHost: evil",
        "/a\tb",
        "/\u{e9}",
        "https://api.example.com\\@evil.example/",
        &long,
    ] {
        let refused = followed("https://api.example.com", location);
        assert!(refused.is_err(), "{location:?}: {refused:?}");
        let why = refused.unwrap_err();
        assert!(!why.contains("evil"), "{why}");
    }
    for location in ["/v1/a", "/basement/a", "/base", "/base/../a"] {
        assert!(followed("https://h/base", location).is_err(), "{location}");
    }
}

fn located() -> Spec {
    Spec {
        location: Some(LocationSpec { item: Some("$.job".to_owned()) }),
        state: Some(state()),
        ..Spec::default()
    }
}

fn accepted(place: Result<&str, &str>) -> Subject {
    subject(&[]).accepted_at(place.map(str::to_owned).map_err(str::to_owned))
}

#[test]
fn what_was_accepted_is_asked_for_at_its_own_place() {
    let subject = accepted(Ok("/jobs/7?x=1"));
    let look_up = compile(Spec { request: Some(AskSpec::get("/other")), ..located() });

    assert_eq!(question(&look_up, &subject).unwrap().uri(), "/jobs/7?x=1");
    for (status, body, finding) in [
        (200, r#"{"job":{"status":"processing"}}"#, Finding::Accepted),
        (200, r#"{"job":{"status":"succeeded"}}"#, reply(200, r#"{"status":"succeeded"}"#)),
        (404, "", unclear("accepted, but not at its Location")),
        (200, "{}", unclear("it exists, but not where it is looked for")),
        (303, "", Finding::Failed("status 303".to_owned())),
        (500, "", Finding::Failed("status 500".to_owned())),
    ] {
        assert_eq!(heard(&look_up, &subject, answer(status, body)), finding, "{status} {body}");
    }
}

#[test]
fn a_place_that_is_not_followed_is_unclear_and_nothing_is_asked() {
    let subject = accepted(Err("its Location is not followed: it leads to another origin"));
    let look_up = compile(Spec { request: Some(AskSpec::get("/other")), ..located() });

    let Step::Found(finding) = look_up.interview(&subject) else { panic!("a question") };

    assert_eq!(finding, unclear("its Location is not followed: it leads to another origin"));
}

#[test]
fn without_a_place_the_question_is_asked_or_nothing_is() {
    let look_up = compile(Spec { request: Some(AskSpec::get("/other")), ..located() });
    assert_eq!(question(&look_up, &subject(&[])).unwrap().uri(), "/other");

    let why = "only what was accepted with a Location can be asked about".to_owned();
    assert_eq!(question(&compile(located()), &subject(&[])).err(), Some(why));
    // A look-up that follows no Location does not care.
    let careless = compile(Spec::new("/other"));
    assert_eq!(question(&careless, &accepted(Err("x"))).unwrap().uri(), "/other");
}
