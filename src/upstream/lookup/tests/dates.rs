//! Claims about dates: what is older than the claim, and whose clock is believed.

use super::*;

#[test]
fn what_is_older_than_the_claim_never_matches() {
    let created = |unit| {
        let skew = Duration::from_secs(120);
        let created = CreatedSpec { path: "$.made".to_owned(), unit, skew };
        Spec { created: Some(created), item: Some("$[*]".to_owned()), ..Spec::new("/p") }
    };
    let earliest = NOW - 100 - 120;
    let young = format!("{{\"made\":{earliest}}}");
    let old = format!("{{\"made\":{}}}", earliest - 1);
    let unix = |items: &str| read(created(TimeUnit::Unix), 200, &format!("[{items}]"));

    assert_eq!(unix(&young), reply(200, &young));
    assert_eq!(unix(&old), Finding::Absent);
    // An older namesake does not make the match ambiguous.
    assert_eq!(unix(&format!("{old},{young}")), reply(200, &young));
    assert_eq!(unix(r#"{"made":"soon"}"#), unclear("the time of creation cannot be read"));
    assert_eq!(unix("{}"), unclear("the time of creation cannot be read"));

    let written = |text: &str| {
        let body = format!("[{{\"made\":\"{text}\"}}]");
        read(created(TimeUnit::Rfc3339), 200, &body)
    };
    // `earliest` is 2027-01-15T07:56:20Z.
    for text in ["2027-01-15T07:56:20Z", "2027-01-15T09:56:20+02:00", "2027-01-15T02:26:20.5-05:30"]
    {
        assert!(matches!(written(text), Finding::Final(_)), "{text}");
    }
    for text in ["2027-01-15T07:56:19Z", "2027-01-15T09:56:19.999+02:00"] {
        assert_eq!(written(text), Finding::Absent, "{text}");
    }
    for text in ["2027-01-15", "2027-01-15T07:56:20", "", "é2:00", "2027-01-15T07:56:20+02"] {
        assert_eq!(written(text), unclear("the time of creation cannot be read"), "{text}");
    }
}

/// Finds by its date, with a skew of two minutes.
fn dated() -> Spec {
    let skew = Duration::from_secs(120);
    let created = CreatedSpec { path: "$.made".to_owned(), unit: TimeUnit::Unix, skew };
    Spec { created: Some(created), item: Some("$[*]".to_owned()), ..Spec::new("/p") }
}

/// The same by a filter in the query, without a word on the skew.
fn filtered() -> Spec {
    let query = vec![("since".to_owned(), "{{ (sent_at_unix - 60) | rfc3339 }}".to_owned())];
    let request = Some(AskSpec { query, ..AskSpec::get("/p") });
    Spec { request, item: Some("$[*]".to_owned()), ..Spec::default() }
}

/// What is found when the answer shows this time.
fn shown(spec: Spec, body: &str, date: Option<http::HeaderValue>) -> Finding {
    let mut answer = answer(200, body);
    answer.headers_mut().remove(DATE);
    if let Some(date) = date {
        answer.headers_mut().insert(DATE, date);
    }
    heard(&compile(spec), &subject(&[]), answer)
}

#[test]
fn absent_by_date_counts_only_if_the_clocks_agree() {
    let unsaid = unclear("not found by its date, and the answer has no Date to compare clocks by");
    let differs = unclear("the provider's clock and ours differ by more than the skew");
    for spec in [dated, filtered] {
        for (shows, finding) in [
            (Some(date(NOW)), Finding::Absent),
            (Some(date(NOW - 120)), Finding::Absent),
            (Some(date(NOW + 120)), Finding::Absent),
            (Some(date(NOW - 121)), differs.clone()),
            (Some(date(NOW + 121)), differs.clone()),
            (Some("yesterday".parse().unwrap()), unsaid.clone()),
            (None, unsaid.clone()),
        ] {
            assert_eq!(shown(spec(), "[]", shows.clone()), finding, "{shows:?}");
        }
    }
    // Where no date decides, no clock matters.
    let dateless = Spec { item: Some("$[*]".to_owned()), ..Spec::new("/p") };
    assert_eq!(shown(dateless, "[]", None), Finding::Absent);
}

#[test]
fn a_missing_status_is_no_better_than_an_empty_list() {
    let mut gone = answer(404, "");
    gone.headers_mut().remove(DATE);

    let finding = heard(&compile(dated()), &subject(&[]), gone);

    assert!(matches!(finding, Finding::Unclear(_)), "{finding:?}");
}

#[test]
fn an_age_that_is_told_by_a_wrong_clock_makes_no_match() {
    let made = format!("[{{\"made\":{NOW}}}]");

    let differs = unclear("the provider's clock and ours differ by more than the skew");
    assert_eq!(shown(dated(), &made, Some(date(NOW + 3600))), differs);
    assert!(matches!(shown(dated(), &made, None), Finding::Final(_)));
    assert!(matches!(shown(dated(), &made, Some(date(NOW))), Finding::Final(_)));
}

#[test]
fn times_are_written_as_providers_want_them() {
    for (template, text) in [
        ("{{ sent_at_unix }}", "1799999900"),
        ("{{ sent_at_unix | rfc3339 }}", "2027-01-15T07%3A58%3A20Z"),
        ("{{ (sent_at_unix - 120) | rfc3339 }}", "2027-01-15T07%3A56%3A20Z"),
        ("{{ 0 | rfc3339 }}", "1970-01-01T00%3A00%3A00Z"),
    ] {
        assert_eq!(asked(Spec::new(format!("/{template}")), &[]), Ok(format!("/{text}")));
    }
    for template in
        ["{{ (0 - 1) | rfc3339 }}", "{{ 253402300800 | rfc3339 }}", "{{ 'x' | rfc3339 }}"]
    {
        assert_eq!(problems(Spec::new(format!("/{template}"))).len(), 1, "{template}");
    }
}

/// What is found of an operation whose record is 100 seconds old, if the wall clock showed this at
/// its claim.
fn claimed_at(spec: Spec, noted: u64, body: &str) -> Finding {
    let look_up = compile(spec);
    let mut inputs = Inputs::new();
    look_up.note_claim(&mut inputs, noted);
    let subject = Subject::new(inputs, Duration::from_secs(100), NOW);
    match look_up.interview(&subject) {
        Step::Ask(interview) => match interview.answer(Ok(answer(200, body)), NOW).1 {
            Step::Ask(_) => panic!("one question is enough"),
            Step::Found(finding) => finding,
        },
        Step::Found(finding) => finding,
    }
}

#[test]
fn where_dates_decide_a_record_must_be_as_old_as_the_wall_clock_says() {
    let disagree = unclear("the clocks disagree about when it was claimed");
    let claimed = NOW - 100;
    let own = |noted: u64| format!("[{{\"made\":{noted}}}]");
    for spec in [dated, filtered] {
        for noted in [claimed - 120, claimed, claimed + 120] {
            assert_eq!(claimed_at(spec(), noted, "[]"), Finding::Absent, "{noted}");
        }
        // The store's clock was put back, or stood still: what it made is older than its record.
        let noted = claimed - 121;
        assert_eq!(claimed_at(spec(), noted, &own(noted)), disagree);
        // Or put forward: an earlier one with the same reference is younger than the record.
        let noted = claimed + 121;
        assert_eq!(claimed_at(spec(), noted, &own(noted - 121)), disagree);
    }
    let undated = || Spec { item: Some("$[*]".to_owned()), ..Spec::new("/p") };
    assert_eq!(claimed_at(undated(), 0, "[]"), Finding::Absent);
    let look_up = compile(undated());
    let mut inputs = Inputs::new();
    look_up.note_claim(&mut inputs, NOW);
    assert!(inputs.is_empty(), "nothing is kept that nothing needs");
}

#[test]
fn a_provisional_state_settles_nothing_before_its_time_is_over() {
    let spec = |seconds| {
        let time = Duration::from_secs(seconds);
        let provisional = ProvisionalSpec { values: strings(["requires_confirmation"]), time };
        let state = StateSpec { provisional: Some(provisional), ..state() };
        Spec { state: Some(state), ..Spec::new("/p") }
    };
    let body = r#"{"status":"requires_confirmation"}"#;
    let may_change = unclear("its state may still change");
    // Claimed 100 seconds ago.
    assert_eq!(read(spec(101), 200, body), may_change);
    assert_eq!(read(spec(100), 200, body), reply(200, body));
    let over = r#"{"status":"succeeded"}"#;
    assert_eq!(read(spec(101), 200, over), reply(200, over));
    // The record is as old, but not by the wall.
    assert_eq!(claimed_at(spec(100), NOW - 99, body), may_change);
    let disagree = unclear("the clocks disagree about when it was claimed");
    assert_eq!(claimed_at(spec(100), NOW - 100 - 121, body), disagree);

    let found = |values: &[&str], time| {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        let provisional = Some(ProvisionalSpec { values, time });
        problems(Spec { state: Some(StateSpec { provisional, ..state() }), ..Spec::new("/p") })
    };
    let at = |at: &str, message: &str| vec![(at.to_owned(), message.to_owned())];
    let minute = Duration::from_secs(60);
    assert_eq!(found(&["succeeded"], minute), at("state", "\"succeeded\" stands twice"));
    let none = "expected the values that may change";
    assert_eq!(found(&[], minute), at("state.provisional.values", none));
    let nothing = "expected more than nothing";
    assert_eq!(found(&["new"], Duration::ZERO), at("state.provisional.for", nothing));
}
