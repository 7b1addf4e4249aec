//! How records read for people. Takes the admin API's JSON; what is not in it is left out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

/// What stands between two columns.
const GAP: &str = "  ";

/// A table of operations.
pub(super) fn list(answer: &Value) -> String {
    let records = answer["records"].as_array().map(Vec::as_slice).unwrap_or_default();
    if records.is_empty() {
        return "no such operations\n".to_owned();
    }
    let mut rows = vec![["OPERATION", "STATE", "SINCE", "ROUTE", "WHY"].map(str::to_owned)];
    rows.extend(records.iter().map(row));
    let mut text = table(&rows);
    if !answer["next"].is_null() {
        text.push_str("there are more; narrow the list with --state and --older-than\n");
    }
    text
}

fn row(record: &Value) -> [String; 5] {
    if let Some(error) = record["error"].as_str() {
        // A record that cannot be read has no operation id to name it by.
        let key = text(&record["record"]);
        return [
            format!("record {key}"),
            "unreadable".into(),
            "-".into(),
            "-".into(),
            error.into(),
        ];
    }
    [
        text(&record["operation"]),
        text(&record["state"]),
        ago(&record["in_this_state_for_seconds"]),
        text(&record["route"]),
        why(&record["detail"]),
    ]
}

/// Why it is in its state, in a few words.
fn why(detail: &Value) -> String {
    match (&detail["why"], &detail["by"], &detail["status"]) {
        (Value::String(why), _, _) => why.clone(),
        (_, Value::String(by), Value::Number(status)) => format!("{status}, by {by}"),
        _ => String::new(),
    }
}

/// All about one operation.
pub(super) fn operation(answer: &Value) -> String {
    let mut rows = vec![
        ["operation".to_owned(), text(&answer["operation"])],
        [
            "state".to_owned(),
            format!("{} ({})", text(&answer["state"]), {
                ago(&answer["in_this_state_for_seconds"])
            }),
        ],
    ];
    let mut add = |name: &str, value: String| {
        if !value.is_empty() {
            rows.push([name.to_owned(), value]);
        }
    };
    let detail = &answer["detail"];
    add("why", why(detail));
    add("route", text(&answer["route"]));
    add("known by", known_by(answer));
    add("claimed", ago(&answer["claimed_seconds_ago"]));
    add("owner", owner(answer));
    add("look-ups", detail["look_ups"].as_u64().map(|n| n.to_string()).unwrap_or_default());
    add("answer", kept(detail).to_owned());
    add("not yet", text(&answer["not_yet_changeable"]));
    let mut told = table(&rows);
    told.push_str("\ntimeline\n");
    let events = answer["timeline"].as_array().map(Vec::as_slice).unwrap_or_default();
    let events: Vec<_> = events
        .iter()
        .map(|event| [format!("{GAP}{}", ago(&event["seconds_ago"])), happening(event)])
        .collect();
    told.push_str(&table(&events));
    told.push_str(&advice(answer));
    told
}

/// What a look-up came to.
pub(super) fn finding(answer: &Value) -> String {
    let why = answer["why"].as_str().map(|why| format!(" ({})", plain(why))).unwrap_or_default();
    let (finding, state) = (text(&answer["finding"]), text(&answer["state"]));
    format!("{}: looked up: {finding}{why}; it is {state} now\n", text(&answer["operation"]))
}

/// What became of each of several, and how many there are of each kind.
pub(super) fn results(results: &[Value]) -> String {
    if results.is_empty() {
        return "no such operations\n".to_owned();
    }
    let mut rows = vec![["OPERATION", "RESULT", "STATE", "WHY"].map(str::to_owned)];
    let mut counts = BTreeMap::<String, usize>::new();
    for result in results {
        let word = match (&result["error"], &result["finding"]) {
            (Value::Null, Value::Null) => "done".to_owned(),
            (Value::Null, finding) => text(finding),
            _ => "refused".to_owned(),
        };
        let why = [&result["error"], &result["why"]].map(text).concat();
        rows.push([text(&result["operation"]), word.clone(), text(&result["state"]), why]);
        *counts.entry(word).or_default() += 1;
    }
    let counts: Vec<_> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    format!("{}{} in all: {}\n", table(&rows), results.len(), counts.join(", "))
}

fn known_by(answer: &Value) -> String {
    let by = text(&answer["identified_by"]);
    let business = answer["has_business_key"].as_bool() == Some(true);
    if business { format!("{by}, and a business key") } else { by }
}

fn owner(answer: &Value) -> String {
    let process = text(&answer["process"]);
    match answer["detail"]["owners_connection_closed"].as_bool() {
        Some(true) => format!("process {process}, which has closed its connection"),
        Some(false) => format!("process {process}, last heard of {}", {
            ago(&answer["lease_renewed_seconds_ago"])
        }),
        None => format!("process {process}"),
    }
}

fn kept(detail: &Value) -> &'static str {
    match detail["answer_kept"].as_bool() {
        Some(true) => "kept; retries get it",
        Some(false) => "not kept; retries are refused",
        None => "",
    }
}

fn happening(event: &Value) -> String {
    let mut told = text(&event["event"]);
    for (name, before) in
        [("status", " "), ("count", ": "), ("finding", ": "), ("by", " by "), ("why", ": ")]
    {
        if !event[name].is_null() {
            // Writing into a string cannot fail.
            let _ = write!(told, "{before}{}", text(&event[name]));
        }
    }
    if let Some(id) = event["upstream_request_id"].as_str() {
        let _ = write!(told, " (its request id: {})", plain(id));
    }
    if let (Some(action), Some(reason)) = (event["action"].as_str(), event["reason"].as_str()) {
        let _ = write!(told, ": {action}, because: {}", plain(reason));
    }
    told
}

/// What can be done about it.
fn advice(answer: &Value) -> String {
    let id = text(&answer["operation"]);
    match answer["state"].as_str() {
        Some("in-doubt" | "accepted") => format!(
            "\nwhen you know from the provider what became of it:\n\
             {GAP}semel records settle {id} --as applied --status 200 --body @FILE --reason …\n\
             {GAP}semel records settle {id} --as not-applied --status 402 --body @FILE --reason …\n\
             to have the provider asked once more:\n\
             {GAP}semel records lookup {id}\n\
             or, to have its next request sent once more:\n\
             {GAP}semel records reopen {id} --allow-resend --reason …\n"
        ),
        _ => String::new(),
    }
}

/// Lines with aligned columns; the last is not padded.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:<width$}{GAP}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => plain(text),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            other.to_string()
        }
    }
}

/// Without signs that a terminal would obey.
fn plain(text: &str) -> String {
    text.chars().map(|sign| if sign.is_control() { '\u{fffd}' } else { sign }).collect()
}

/// How long ago, in one number and a unit.
fn ago(seconds: &Value) -> String {
    let Some(seconds) = seconds.as_f64() else { return String::new() };
    const UNITS: [(f64, &str); 4] = [(86_400.0, "d"), (3_600.0, "h"), (60.0, "m"), (1.0, "s")];
    // Two days in hours say more than "2 d".
    let unit = UNITS.iter().find(|(length, _)| seconds >= 2.0 * length);
    match unit {
        Some((length, name)) => format!("{:.0} {name} ago", (seconds / length).floor()),
        None if seconds >= 1.0 => "1 s ago".to_owned(),
        None => "now".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ages_have_one_number_and_a_unit() {
        let told = |seconds: f64| ago(&json!(seconds));
        assert_eq!(told(0.4), "now");
        assert_eq!(told(1.9), "1 s ago");
        assert_eq!(told(119.0), "119 s ago");
        assert_eq!(told(180.0), "3 m ago");
        assert_eq!(told(7200.0), "2 h ago");
        assert_eq!(told(200_000.0), "2 d ago");
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let answer = json!({ "next": null, "records": [
            { "operation": "op_a", "state": "in-doubt", "in_this_state_for_seconds": 200.0,
              "route": "POST /v1/payments", "detail": { "why": "status 500 proves nothing" } },
            { "operation": "op_bcd", "state": "settled", "in_this_state_for_seconds": 2.0,
              "route": "r", "detail": { "by": "an operator", "status": 200, "answer_kept": true } },
            { "record": "ab12", "error": "a record that is damaged" },
        ] });

        assert_eq!(
            list(&answer),
            "OPERATION    STATE       SINCE    ROUTE              WHY\n\
             op_a         in-doubt    3 m ago  POST /v1/payments  status 500 proves nothing\n\
             op_bcd       settled     2 s ago  r                  200, by an operator\n\
             record ab12  unreadable  -        -                  a record that is damaged\n"
        );
        assert_eq!(list(&json!({ "records": [], "next": null })), "no such operations\n");
    }

    #[test]
    fn a_terminal_is_told_nothing_that_it_would_obey() {
        let event = json!({ "event": "operator", "action": "settle", "reason": "a\u{1b}[2Jb" });
        assert!(!happening(&event).contains('\u{1b}'));
    }
}
