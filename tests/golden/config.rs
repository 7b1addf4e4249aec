//! The config's schema, examples and problems.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;

use semel::config::problems::Problems;
use semel::config::{self, schema, tree};
use serde_json::Value;

use crate::support::{assert_golden, repository};

const EXAMPLE: &str = "config/example.yaml";

fn tree_of(text: &str) -> Value {
    let mut problems = Problems::new(Some(EXAMPLE));
    let tree = tree::read(text, &mut problems);
    assert!(problems.is_empty(), "{problems}");
    tree.unwrap()
}

fn example() -> String {
    fs::read_to_string(repository(EXAMPLE)).unwrap()
}

/// The example with its alternatives in use.
fn everything() -> String {
    example().replace("#| ", "").replace("#|", "")
}

/// Calls `visit` with each property that the schema has at each place, and what the tree has there.
fn walk(
    schema: &Value,
    part: &Value,
    here: &Value,
    at: &str,
    visit: &mut impl FnMut(&str, &Value, Option<&Value>),
) {
    let target = part["$ref"].as_str().and_then(|target| schema.pointer(&target[1..]));
    let part = target.unwrap_or(part);
    for name in ["anyOf", "oneOf"] {
        for branch in part[name].as_array().into_iter().flatten() {
            walk(schema, branch, here, at, visit);
        }
    }
    for item in here.as_array().into_iter().flatten() {
        walk(schema, &part["items"], item, &format!("{at}[]"), visit);
    }
    let Some(object) = here.as_object() else { return };
    for (name, property) in part["properties"].as_object().into_iter().flatten() {
        let (place, value) = (format!("{at}.{name}"), object.get(name));
        visit(&place, property, value);
        walk(schema, property, value.unwrap_or(&Value::Null), &place, visit);
    }
    if part["additionalProperties"].is_object() {
        for value in object.values() {
            walk(schema, &part["additionalProperties"], value, &format!("{at}.*"), visit);
        }
    }
}

#[test]
fn the_schema_is_the_published_one() {
    assert_golden("config/schema.json", &semel::cli::schema::text());
}

#[test]
fn the_examples_load() {
    for name in [EXAMPLE, "config/minimal.yaml"] {
        let config = config::check(&repository(name));
        assert!(config.is_ok(), "{}", config.unwrap_err());
    }
}

#[test]
fn the_example_names_every_key() {
    let (schema, tree) = (schema::schema(), tree_of(&everything()));
    let mut seen = std::collections::BTreeMap::new();
    walk(&schema, &schema, &tree, "", &mut |place, _, value| {
        *seen.entry(place.to_owned()).or_insert(false) |= value.is_some();
    });

    // Secrets and the two places of a body are shown once each, not everywhere.
    let shown = |leaf: &str| everything().contains(&format!("{leaf}: "));
    let missing: Vec<_> = seen
        .iter()
        .filter(|(_, seen)| !**seen)
        .filter(|(place, _)| {
            let leaf = place.rsplit('.').next().unwrap();
            let alternative = ["value", "env", "file", "json", "form", "query", "header"];
            !(alternative.contains(&leaf) && shown(leaf))
        })
        .collect();
    assert!(missing.is_empty(), "not in {EXAMPLE}: {missing:?}");
    assert!(seen.len() > 80, "the walk ended early");
}

#[test]
fn the_example_is_right_about_every_default() {
    let (schema, tree) = (schema::schema(), tree_of(&example()));
    let mut compared = 0;
    walk(&schema, &schema, &tree, "", &mut |place, property, value| {
        let default = &property["default"];
        let (Some(value), false) = (value, default.is_null()) else { return };
        if default.is_object() || default.as_array().is_some_and(|_| place == ".routes") {
            return;
        }
        assert_eq!(value, default, "{place}");
        compared += 1;
    });
    assert!(compared > 40, "{compared}");
}

#[test]
fn the_example_with_its_alternatives_fits_the_schema() {
    let mut problems = Problems::new(Some(EXAMPLE));
    schema::validate(&tree_of(&everything()), &mut problems);
    assert!(problems.is_empty(), "{problems}");
}

#[test]
fn problems_come_all_at_once_with_their_lines() {
    for name in ["shape", "meaning", "both"] {
        let path = format!("tests/golden/faults/{name}.yaml");
        let text = fs::read_to_string(repository(&path)).unwrap();
        let faults = text.matches("# fault").count();

        let problems = config::check(&repository(&path)).unwrap_err();

        let printed = problems.to_string();
        let root = format!("{}/", env!("CARGO_MANIFEST_DIR"));
        let printed = printed.replace(&root, "");
        assert_eq!(printed.lines().count(), faults, "{printed}");
        for (i, _) in text.lines().enumerate().filter(|(_, line)| line.contains("# fault")) {
            assert!(printed.contains(&format!("{path}:{}: ", i + 1)), "line {}: {printed}", i + 1);
        }
        assert_golden(&format!("tests/golden/faults/{name}.txt"), &format!("{printed}\n"));
    }
}
