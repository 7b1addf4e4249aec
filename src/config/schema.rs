//! The JSON Schema of the config file, generated from the raw types, and what it finds wrong, in
//! words for people.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use serde_json::Value;

use super::problems::{Problems, meant, member};
use super::raw::File;

/// The schema of the config file.
pub fn schema() -> Value {
    schemars::schema_for!(File).to_value()
}

/// Notes everything in the tree that the schema forbids.
pub fn validate(tree: &Value, problems: &mut Problems) {
    let schema = schema();
    let Ok(validator) = jsonschema::validator_for(&schema) else {
        unreachable!("the generated schema is a schema; a test compiles it")
    };
    for error in validator.iter_errors(tree) {
        note(&schema, tree, &error, problems);
    }
}

/// How often a tree is pruned: a choice may only show its next fault when the first is gone.
const PRUNINGS_MAX: usize = 8;

/// Takes out what the schema forbids, so far as the rest can stand without it.
pub fn prune(tree: &mut Value) {
    let schema = schema();
    let Ok(validator) = jsonschema::validator_for(&schema) else {
        unreachable!("the generated schema is a schema; a test compiles it")
    };
    for _ in 0..PRUNINGS_MAX {
        let places: Vec<_> = validator.iter_errors(tree).flat_map(|error| faulty(&error)).collect();
        if places.is_empty() {
            return;
        }
        for place in places {
            remove(tree, &place);
        }
    }
}

/// Pointers to what is wrong. What is missing has none.
#[expect(clippy::wildcard_enum_match_arm, reason = "a library's enum with thirty kinds")]
fn faulty(error: &ValidationError<'_>) -> Vec<String> {
    let pointer = error.instance_path().as_str();
    match error.kind() {
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            let escaped = |key: &String| key.replace('~', "~0").replace('/', "~1");
            unexpected.iter().map(|key| format!("{pointer}/{}", escaped(key))).collect()
        }
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
            match meant_branch(pointer, context) {
                Some(errors) => errors.iter().flat_map(faulty).collect(),
                None => vec![pointer.to_owned()],
            }
        }
        _ => vec![pointer.to_owned()],
    }
}

/// Removes a member. Elements of lists stay, so that places keep their numbers.
fn remove(tree: &mut Value, pointer: &str) {
    let Some((parent, last)) = pointer.rsplit_once('/') else { return };
    let last = last.replace("~1", "/").replace("~0", "~");
    if let Some(parent) = tree.pointer_mut(parent).and_then(Value::as_object_mut) {
        parent.remove(&last);
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a library's enum with thirty kinds")]
fn note(schema: &Value, tree: &Value, error: &ValidationError<'_>, problems: &mut Problems) {
    let pointer = error.instance_path().as_str();
    let place = dotted(tree, pointer);
    match error.kind() {
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            let parent = parent_schema(schema, error);
            for key in unexpected {
                problems.fault(&member(&place, key), unknown_key(schema, parent, key));
            }
        }
        Kind::Required { property } => {
            let property = property.as_str().unwrap_or_default();
            problems.fault(&place, format!("`{property}` is missing"));
        }
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
            match meant_branch(pointer, context) {
                Some(errors) => {
                    errors.iter().for_each(|error| note(schema, tree, error, problems));
                }
                None => problems.fault(&place, mismatch(schema, tree, error)),
            }
        }
        // What else the schema of a config can demand: a type, a pattern, a range, a choice.
        _ => problems.fault(&place, mismatch(schema, tree, error)),
    }
}

fn unknown_key(schema: &Value, parent: &Value, key: &str) -> String {
    let known = properties(schema, parent);
    match meant(key, known.iter().copied()) {
        Some(meant) => format!("unknown key `{key}`; did you mean `{meant}`?"),
        None => format!("unknown key `{key}`; known are {}", known.join(", ")),
    }
}

fn properties<'a>(schema: &'a Value, parent: &'a Value) -> Vec<&'a str> {
    match resolve(schema, parent)["properties"].as_object() {
        Some(properties) => properties.keys().map(String::as_str).collect(),
        None => vec![],
    }
}

/// The one branch of a choice whose type fits: its errors are the ones that help.
fn meant_branch<'a>(
    pointer: &str,
    context: &'a [Vec<ValidationError<'static>>],
) -> Option<&'a [ValidationError<'static>]> {
    let other = |error: &ValidationError<'_>| {
        error.instance_path().as_str() == pointer
            && matches!(error.kind(), Kind::Type { .. } | Kind::Constant { .. } | Kind::Enum { .. })
    };
    let mut branches = context.iter().filter(|errors| !errors.iter().any(other));
    match (branches.next(), branches.next()) {
        (Some(only), None) => Some(only),
        (_, _) => None,
    }
}

/// "expected …", from what the schema says at that place. The value itself is not shown: it may
/// be a secret.
fn mismatch(schema: &Value, tree: &Value, error: &ValidationError<'_>) -> String {
    let parent = parent_schema(schema, error);
    let choices = choices(schema, parent);
    let said = tree.pointer(error.instance_path().as_str()).and_then(Value::as_str);
    match said.and_then(|said| meant(said, choices.iter().copied())) {
        Some(meant) => format!("expected one of {}; did you mean `{meant}`?", choices.join(", ")),
        None => format!("expected {}", expected(schema, parent)),
    }
}

fn expected(schema: &Value, part: &Value) -> String {
    let part = resolve(schema, part);
    let choices = choices(schema, part);
    if let [only] = choices.as_slice() {
        return format!("`{only}`");
    }
    if !choices.is_empty() {
        return format!("one of {}", choices.join(", "));
    }
    // The file's own title is no kind of value.
    if let Some(title) = part["title"].as_str().filter(|title| *title != "File") {
        return title.to_owned();
    }
    if let Some(branches) = branches(part) {
        let branches: Vec<_> = branches
            .iter()
            .filter(|branch| branch["type"] != "null")
            .map(|branch| expected(schema, branch))
            .collect();
        return branches.join(" or ");
    }
    // A list of types is that of something that may be left empty: null is the last of them.
    let kind = part["type"].as_array().and_then(|kinds| kinds.first()).unwrap_or(&part["type"]);
    let kind = kind.as_str();
    match kind {
        Some("object") => "a mapping".to_owned(),
        Some("array") => "a list".to_owned(),
        Some("string") => "a text".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("integer") => match (part["minimum"].as_u64(), part["maximum"].as_u64()) {
            (Some(least), Some(most)) => format!("a whole number from {least} to {most}"),
            (_, _) => "a whole number".to_owned(),
        },
        _ => "something else".to_owned(),
    }
}

/// The words of a choice: an enumeration, with or without a description for each.
fn choices<'a>(schema: &'a Value, part: &'a Value) -> Vec<&'a str> {
    let part = resolve(schema, part);
    if let Some(only) = part["const"].as_str() {
        return vec![only];
    }
    if let Some(options) = part["enum"].as_array() {
        return options.iter().filter_map(Value::as_str).collect();
    }
    let branches = branches(part).unwrap_or_default();
    branches.iter().flat_map(|branch| choices(schema, branch)).collect()
}

fn branches(part: &Value) -> Option<&[Value]> {
    part["oneOf"].as_array().or_else(|| part["anyOf"].as_array()).map(Vec::as_slice)
}

fn resolve<'a>(schema: &'a Value, part: &'a Value) -> &'a Value {
    let target = part["$ref"].as_str().and_then(|target| target.strip_prefix('#'));
    target.and_then(|target| schema.pointer(target)).unwrap_or(part)
}

/// The part of the schema whose keyword failed.
fn parent_schema<'a>(schema: &'a Value, error: &ValidationError<'_>) -> &'a Value {
    let path = error.schema_path().as_str();
    let parent = path.rfind('/').map_or("", |slash| &path[..slash]);
    schema.pointer(parent).unwrap_or(&Value::Null)
}

/// A JSON pointer in the form in which problems name places: `routes[0].lease`.
fn dotted(tree: &Value, pointer: &str) -> String {
    let mut place = String::new();
    let mut here = tree;
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        match here {
            Value::Array(items) => {
                place += &format!("[{part}]");
                here = part.parse().ok().and_then(|i: usize| items.get(i)).unwrap_or(&Value::Null);
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Object(_) => {
                place = member(&place, &part);
                here = &here[&part];
            }
        }
    }
    place
}
