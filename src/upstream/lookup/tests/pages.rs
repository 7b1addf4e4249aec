//! Claims about lists that go on over pages.

use super::super::spec::NextSpec;
use super::*;

fn next() -> NextSpec {
    NextSpec {
        query: "after".to_owned(),
        from: "$.data[-1].id".to_owned(),
        more: Some("$.more".to_owned()),
        pages: 3,
        newest_first: false,
    }
}

/// Finds by reference in a list of pages.
fn listed(next: NextSpec) -> Spec {
    let query = vec![("limit".to_owned(), "2".to_owned())];
    Spec {
        request: Some(AskSpec { query, ..AskSpec::get("/list") }),
        item: Some("$.data[?@.r == {{ key }}]".to_owned()),
        next: Some(next),
        ..Spec::default()
    }
}

const OTHERS: &str = r#"{"data":[{"id":"a","r":"x"},{"id":"b","r":"y"}],"more":true}"#;
const MINE: &str = r#"{"data":[{"id":"m","r":"k-1"}],"more":true}"#;
const LAST: &str = r#"{"data":[{"id":"z","r":"z"}],"more":false}"#;
const EMPTY: &str = r#"{"data":[],"more":false}"#;

#[test]
fn all_pages_are_read_before_anything_is_believed() {
    let (asked, finding) = play(listed(next()), &[(200, MINE), (200, OTHERS), (200, LAST)]);
    assert_eq!(asked, ["/list?limit=2", "/list?limit=2&after=m", "/list?limit=2&after=b"]);
    assert_eq!(finding, reply(200, r#"{"id":"m","r":"k-1"}"#));

    let (asked, finding) = play(listed(next()), &[(200, OTHERS), (200, EMPTY)]);
    assert_eq!((asked.len(), finding), (2, Finding::Absent));

    let (_, finding) = play(listed(next()), &[(200, OTHERS), (200, MINE), (200, EMPTY)]);
    assert_eq!(finding, reply(200, r#"{"id":"m","r":"k-1"}"#));
}

#[test]
fn two_matches_over_two_pages_are_unclear() {
    let again = r#"{"data":[{"id":"n","r":"k-1"}],"more":false}"#;

    let (asked, finding) = play(listed(next()), &[(200, MINE), (200, again)]);

    assert_eq!((asked.len(), finding), (2, unclear("two matches")));
}

#[test]
fn a_page_that_cannot_be_read_is_never_absent_and_never_a_match() {
    for first in [MINE, OTHERS] {
        for (status, body, why) in [
            (500, "", "status 500"),
            (302, "", "status 302"),
            (404, "", "it is not there"),
            (200, "<html>", "it is not JSON"),
            (
                0,
                "no whole answer within the look-up's timeout",
                "no whole answer within the look-up's timeout",
            ),
        ] {
            let (_, finding) = play(listed(next()), &[(200, first), (status, body)]);
            assert_eq!(finding, unclear(&format!("an unread page: {why}")), "{status}");
        }
    }
    // Of the first page nothing was known.
    assert_eq!(play(listed(next()), &[(404, "")]).1, Finding::Absent);
    assert_eq!(play(listed(next()), &[(500, "")]).1, Finding::Failed("status 500".to_owned()));
}

#[test]
fn a_list_that_is_longer_than_what_is_read_settles_nothing() {
    let page = |id: u8| format!(r#"{{"data":[{{"id":{id},"r":"x"}}],"more":true}}"#);
    let (a, b, c) = (page(1), page(2), page(3));

    let (asked, finding) = play(listed(next()), &[(200, &a), (200, &b), (200, &c)]);

    assert_eq!(asked.len(), 3);
    assert_eq!(finding, unclear("an unread page: the list goes on after 3 pages"));
    let (_, finding) = play(listed(next()), &[(200, MINE), (200, &b), (200, &c)]);
    assert_eq!(finding, unclear("an unread page: the list goes on after 3 pages"));
}

#[test]
fn the_same_page_is_not_read_twice() {
    let (asked, finding) = play(listed(next()), &[(200, OTHERS), (200, OTHERS)]);

    assert_eq!(asked.len(), 2);
    let why = "an unread page: a page names as the next one a page that was read";
    assert_eq!(finding, unclear(why));
}

#[test]
fn where_the_next_page_is_must_be_said_plainly() {
    let cursor = |value: &str, more: bool| {
        let next = NextSpec { from: "$.next".to_owned(), ..next() };
        let first = format!(r#"{{"data":[],"more":{more},"next":{value}}}"#);
        play(listed(next), &[(200, &first), (200, EMPTY)])
    };
    for (value, asked) in [
        ("\"c\"", "c"),
        ("7", "7"),
        ("\"a&admin=1#x\"", "a%26admin%3D1%23x"),
        ("\"//evil/?q\"", "%2F%2Fevil%2F%3Fq"),
        ("\"{{ key }}\"", "%7B%7B%20key%20%7D%7D"),
        ("\"a\\r\\nHost: b\"", "a%0D%0AHost%3A%20b"),
        ("\"https://evil.example/x?after=c%26d&other=1#f\"", "c%26d"),
    ] {
        let (uris, finding) = cursor(value, true);
        assert_eq!(uris[1], format!("/list?limit=2&after={asked}"), "{value}");
        assert_eq!(finding, Finding::Absent);
        assert_eq!(cursor(value, false).0.len(), 1);
    }
    let long = format!("\"{}\"", "x".repeat(1025));
    for value in [
        "true",
        "[]",
        "{}",
        "null",
        "\"\"",
        &long,
        "\"https://evil.example/\"",
        "\"http://h/?after=a&after=b\"",
    ] {
        let (asked, finding) = cursor(value, true);
        assert_eq!(asked.len(), 1, "{value}");
        let Finding::Unclear(why) = finding else { panic!("{value}: {finding:?}") };
        assert!(why.starts_with("an unread page: "), "{why}");
    }
}

#[test]
fn without_a_word_on_more_the_list_ends_where_no_page_is_named() {
    let next = || NextSpec { more: None, from: "$.next".to_owned(), ..next() };
    let page = |next: &str| format!(r#"{{"data":[]{next}}}"#);

    for end in ["", ",\"next\":null", ",\"next\":\"\""] {
        let pages = [page(",\"next\":1"), page(end)];
        let (asked, finding) = play(listed(next()), &[(200, &pages[0]), (200, &pages[1])]);
        assert_eq!((asked.len(), finding), (2, Finding::Absent), "{end}");
    }
}

#[test]
fn a_parameter_that_names_pages_already_is_replaced() {
    let spec = Spec {
        request: Some(AskSpec {
            query: vec![("after".to_owned(), "start".to_owned()), ("n".to_owned(), "2".to_owned())],
            ..AskSpec::get("/list")
        }),
        ..listed(next())
    };

    let (asked, _) = play(spec, &[(200, OTHERS), (200, EMPTY)]);

    assert_eq!(asked, ["/list?after=start&n=2", "/list?n=2&after=b"]);
}

#[test]
fn newest_first_ends_at_what_is_older_than_the_claim() {
    let earliest = NOW - 100 - 120;
    let spec = || {
        let skew = Duration::from_secs(120);
        let created = CreatedSpec { path: "$.t".to_owned(), unit: TimeUnit::Unix, skew };
        let next = NextSpec { newest_first: true, ..next() };
        Spec { created: Some(created), ..listed(next) }
    };
    let page = |times: &[u64]| {
        let items = times.iter().map(|t| format!(r#"{{"id":"{t}","r":"x","t":{t}}}"#));
        format!(r#"{{"data":[{}],"more":true}}"#, items.collect::<Vec<_>>().join(","))
    };
    let played = |pages: &[String]| {
        let pages: Vec<_> = pages.iter().map(|page| (200, page.as_str())).collect();
        let (asked, finding) = play(spec(), &pages);
        (asked.len(), finding)
    };

    let young = page(&[NOW, earliest]);
    assert_eq!(played(&[young, page(&[NOW - 1, earliest - 1])]), (2, Finding::Absent));
    assert_eq!(played(&[page(&[earliest - 1])]), (1, Finding::Absent));
    // A list that is in another order is read to its end.
    let mixed = page(&[earliest - 1, NOW, earliest - 2]);
    assert_eq!(played(&[mixed, EMPTY.to_owned()]), (2, Finding::Absent));
    let mine = format!(r#"{{"data":[{{"id":"m","r":"k-1","t":{NOW}}}],"more":true}}"#);
    let (asked, finding) = played(&[mine, page(&[earliest - 1])]);
    assert!(asked == 2 && matches!(finding, Finding::Final(_)), "{finding:?}");
}

#[test]
fn all_answers_together_have_a_bound() {
    let look_up = compile(Spec { body_max: 5 << 20, ..listed(NextSpec { pages: 9, ..next() }) });
    let subject = subject(&[("key", "k-1")]);
    let padding = "x".repeat(5 << 20);
    let page = |id| format!(r#"{{"data":[{{"id":{id}}}],"more":true,"p":"{padding}"}}"#);

    let Step::Ask(first) = look_up.interview(&subject) else { panic!("no question") };
    assert_eq!(first.body_max(), 5 << 20);
    let Step::Ask(second) = first.answer(Ok(answer(200, &page(1))), NOW).1 else {
        panic!("no second page")
    };
    assert_eq!(second.body_max(), (8 << 20) - page(1).len());
    let Step::Found(finding) = second.answer(Ok(answer(200, &page(2))), NOW).1 else {
        panic!("a third page")
    };

    assert_eq!(finding, unclear("an unread page: all of them are longer than 8388608 bytes"));
}
