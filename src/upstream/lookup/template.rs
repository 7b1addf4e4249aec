//! Templates whose values are encoded for the place where they stand, so that no value can say
//! anything but itself.
//!
//! A template is text with `{{ … }}` and no other blocks. It knows a handful of filters, has
//! bounded fuel, and treats what is undefined as an error.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use minijinja::value::{Object, Serde, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, UndefinedBehavior, filters};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Inputs;
use super::names::{Name, Space};

/// How much work one rendering may be, in units of the template engine.
const FUEL_MAX: u64 = 100_000;

/// Integers beyond this are not told apart by JSONPath, which compares them as floating point.
const EXACT_INTEGER_MAX: i128 = (1 << 53) - 1;

/// Everything but RFC 3986's unreserved characters.
pub(super) const UNRESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What stands for every value when a template is tried out.
const PLACEHOLDER: &str = "1";

const TEMPLATE: &str = "template";

/// The name of what was found.
const ITEM: &str = "item";

/// The name of the time at which the operation was claimed.
const SENT_AT: &str = "sent_at_unix";

/// What stands for it when a template is tried out: some time from which something can be taken.
const SENT_AT_TRIED: u64 = 1_800_000_000;

/// The last second of the year 9999, beyond which no time is written.
const UNIX_MAX: u64 = 253_402_300_799;

/// Where a rendered text will stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// In a path: each value is percent-encoded and not empty.
    Path,
    /// In a query or a header: the whole text is encoded or checked by who puts it there.
    Text,
    /// In a JSONPath: each value is a JSON literal that can be compared exactly.
    JsonPath,
    /// In a JSON document: each value is JSON.
    Json,
}

/// Whether a text may use `item`, the operation that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    Known,
    NotYet,
}

/// What a rendering may use.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    pub(super) inputs: &'a Inputs,
    pub(super) sent_at_unix: u64,
    pub(super) item: Option<&'a serde_json::Value>,
}

/// A template, checked.
#[derive(Debug)]
pub(super) struct Template {
    engine: Environment<'static>,
    names: BTreeSet<Name>,
    source: String,
    uses: BTreeSet<String>,
}

impl Template {
    /// Compiles a text and finds the names that it uses.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn compile(source: &str, position: Position, item: Item) -> Result<Self, String> {
        if source.contains("{%") || source.contains("{#") {
            return Err("only {{ … }} may stand in it, no {% … %} and no {# … #}".to_owned());
        }
        let mut engine = engine(position);
        engine
            .add_template_owned(TEMPLATE, source.to_owned())
            .map_err(|error| describe(&error, true))?;
        let names = find_names(&engine, item)?;
        let template = engine.get_template(TEMPLATE).map_err(|error| describe(&error, true))?;
        let uses = template.undeclared_variables(false).into_iter().collect();
        Ok(Self { engine, names, source: source.to_owned(), uses })
    }

    /// The text that it was made of.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Whether it depends on when the operation was sent.
    pub(super) fn uses_time(&self) -> bool {
        self.uses.contains(SENT_AT)
    }

    /// The names that it uses.
    pub(super) const fn names(&self) -> &BTreeSet<Name> {
        &self.names
    }

    /// Fills it in.
    ///
    /// # Errors
    /// Why it cannot be; never with a value in it.
    pub(super) fn render(&self, values: &Values<'_>) -> Result<String, String> {
        let mut root = spaces(&self.names, |name| values.inputs.get(&name.to_string()).cloned());
        root.insert(SENT_AT.to_owned(), values.sent_at_unix.into());
        if let Some(item) = values.item {
            root.insert(ITEM.to_owned(), Value::from(Serde(item)));
        }
        render(&self.engine, root)
    }

    /// Fills it in with something, to see what comes out. `None`: what becomes of an item shows
    /// only when there is one.
    ///
    /// # Errors
    /// What can never be filled in.
    pub(super) fn try_out(&self) -> Result<Option<String>, String> {
        let mut root = spaces(&self.names, |_| Some(PLACEHOLDER.to_owned()));
        root.insert(SENT_AT.to_owned(), SENT_AT_TRIED.into());
        if !self.uses.contains(ITEM) {
            return render(&self.engine, root).map(Some);
        }
        root.insert(ITEM.to_owned(), Value::from_object(Anything));
        Ok(render(&self.engine, root).ok())
    }
}

fn render(engine: &Environment<'_>, root: BTreeMap<String, Value>) -> Result<String, String> {
    let template = engine.get_template(TEMPLATE).map_err(|error| describe(&error, false))?;
    template.render(Value::from(root)).map_err(|error| describe(&error, false))
}

/// Says what went wrong. The engine's details may quote values, so they are told only of templates
/// that have none yet, and else only where we wrote them.
fn describe(error: &Error, compiling: bool) -> String {
    let ours = error.kind() == ErrorKind::WriteFailure;
    match error.detail() {
        Some(detail) if compiling => format!("{}: {detail}", error.kind()),
        Some(detail) if ours => detail.to_owned(),
        Some(_) | None => error.kind().to_string(),
    }
}

fn engine(position: Position) -> Environment<'static> {
    let mut engine = Environment::empty();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_fuel(Some(FUEL_MAX));
    engine.add_filter("int", filters::int);
    engine.add_filter("lower", filters::lower);
    engine.add_filter("replace", filters::replace);
    engine.add_filter("rfc3339", rfc3339);
    engine.add_filter("trim", filters::trim);
    engine.add_filter("upper", filters::upper);
    engine.add_filter("json", move |value: &Value| {
        json(position, value).map(Value::from_safe_string)
    });
    engine.set_formatter(move |out, _, value| write(position, out, value));
    engine
}

/// Seconds since 1970 as `2026-01-31T12:00:00Z`.
fn rfc3339(seconds: &Value) -> Result<String, Error> {
    let whole = u64::try_from(seconds.clone()).ok().filter(|&seconds| seconds <= UNIX_MAX);
    let whole = whole.ok_or_else(|| refusal("a value is no number of seconds since 1970"))?;
    let time = UNIX_EPOCH + Duration::from_secs(whole);
    Ok(humantime::format_rfc3339_seconds(time).to_string())
}

fn write(position: Position, out: &mut Output<'_>, value: &Value) -> Result<(), Error> {
    let text = match position {
        // What the `json` filter made is JSON already.
        Position::JsonPath | Position::Json if value.is_safe() => value.to_string(),
        Position::JsonPath | Position::Json => json(position, value)?,
        Position::Text => plain(value)?,
        Position::Path => match plain(value)? {
            text if text.is_empty() => return Err(refusal("a value is empty")),
            text => utf8_percent_encode(&text, UNRESERVED).to_string(),
        },
    };
    out.write_str(&text).map_err(|_| refusal("it cannot be written"))
}

fn plain(value: &Value) -> Result<String, Error> {
    if value.downcast_object_ref::<Anything>().is_some() {
        return Ok(PLACEHOLDER.to_owned());
    }
    let kind = value.kind();
    if kind == ValueKind::Bool {
        // As JSON spells it; the engine would say True.
        return Ok(value.is_true().to_string());
    }
    if matches!(kind, ValueKind::String | ValueKind::Number) {
        return Ok(value.to_string());
    }
    if kind == ValueKind::Undefined {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    Err(refusal("a value is not a text, a number, true or false"))
}

fn json(position: Position, value: &Value) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    if value.downcast_object_ref::<Anything>().is_some() {
        return Ok(PLACEHOLDER.to_owned());
    }
    if position == Position::JsonPath {
        plain(value)?;
        let inexact =
            || i128::try_from(value.clone()).map_or(true, |n| n.abs() > EXACT_INTEGER_MAX);
        if value.kind() == ValueKind::Number && inexact() {
            return Err(refusal("a number cannot be compared exactly; compare it as text"));
        }
    }
    serde_json::to_string(value).map_err(|_| refusal("a value has no JSON form"))
}

fn refusal(why: &'static str) -> Error {
    Error::new(ErrorKind::WriteFailure, why)
}

/// The names that a template uses: those that can be read off it, and those in brackets, which show
/// when it is tried out.
fn find_names(engine: &Environment<'static>, item: Item) -> Result<BTreeSet<Name>, String> {
    let template = engine.get_template(TEMPLATE).map_err(|error| describe(&error, true))?;
    let mut names = BTreeSet::new();
    for name in template.undeclared_variables(true) {
        names.extend(declared(&name, item)?);
    }
    let seen = Arc::default();
    let mut root = spaces(&names, |_| Some(PLACEHOLDER.to_owned()));
    root.insert(SENT_AT.to_owned(), SENT_AT_TRIED.into());
    root.insert(ITEM.to_owned(), Value::from_object(Anything));
    for space in Space::ALL {
        let known = root.remove(space.name()).unwrap_or_default();
        let recorder = Recorder { space, known, seen: Arc::clone(&seen) };
        root.insert(space.name().to_owned(), Value::from_object(recorder));
    }
    match item {
        Item::NotYet => {
            render(engine, root)?;
        }
        // What an item looks like is not known before there is one.
        Item::Known => {
            let mut lenient = engine.clone();
            lenient.set_undefined_behavior(UndefinedBehavior::Chainable);
            lenient.set_formatter(|_, _, _| Ok(()));
            let _ = render(&lenient, root);
        }
    }
    names.append(&mut seen.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(names)
}

/// What a dotted name means; nothing if it needs nothing of the request, or shows only later.
fn declared(name: &str, item: Item) -> Result<Option<Name>, String> {
    let (first, rest) = name.split_once('.').map_or((name, None), |(a, b)| (a, Some(b)));
    match (first, Space::named(first), rest) {
        ("key", _, None) => Ok(Some(Name::Key)),
        ("reference", _, None) => Ok(Some(Name::Reference)),
        (SENT_AT, _, None) => Ok(None),
        (ITEM, _, _) if item == Item::Known => Ok(None),
        (_, Some(_), None) => Ok(None),
        (_, Some(space @ Space::Body), Some(rest)) => {
            Ok(Some(Name::In(space, format!("/{}", rest.replace('.', "/")))))
        }
        (_, Some(space), Some(rest)) if !rest.contains('.') => Ok(space.item(rest)),
        _ => Err(format!(
            "{name} is not a name that is known here: key, reference, sent_at_unix, body.…, \
             form.…, query.…, path.…, header.…"
        )),
    }
}

/// The names' values as templates see them: nested for `body.a.b`, and flat for `body["/a/b"]`.
fn spaces(
    names: &BTreeSet<Name>,
    value: impl Fn(&Name) -> Option<String>,
) -> BTreeMap<String, Value> {
    let mut root = serde_json::Map::new();
    for name in names {
        let Some(value) = value(name) else { continue };
        match name {
            Name::Key | Name::Reference => {
                root.insert(name.to_string(), value.into());
            }
            Name::In(space, key) => {
                let space_values = member(&mut root, space.name());
                if *space == Space::Body {
                    nest(space_values, key, &value);
                }
                space_values.insert(key.clone(), value.into());
            }
        }
    }
    root.into_iter().map(|(name, value)| (name, Value::from(Serde(value)))).collect()
}

type Members = serde_json::Map<String, serde_json::Value>;

fn member<'m>(members: &'m mut Members, name: &str) -> &'m mut Members {
    let member = members.entry(name).or_insert_with(|| Members::new().into());
    // A name that is both a value and has values below it cannot be filled in; the second wins.
    if !member.is_object() {
        *member = Members::new().into();
    }
    let serde_json::Value::Object(member) = member else {
        unreachable!("it was just made an object")
    };
    member
}

fn nest(members: &mut Members, pointer: &str, value: &str) {
    let mut members = members;
    let mut steps = pointer.split('/').skip(1).peekable();
    while let Some(step) = steps.next() {
        if steps.peek().is_none() {
            members.insert(step.to_owned(), value.into());
            return;
        }
        members = member(members, step);
    }
}

/// Stands for an operation, and for everything in it, before there is one.
#[derive(Debug)]
struct Anything;

impl Object for Anything {
    fn get_value(self: &Arc<Self>, _: &Value) -> Option<Value> {
        Some(Value::from_object(Self))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PLACEHOLDER)
    }
}

/// Stands for a space while a template is tried out, and notes which names in it are asked for.
struct Recorder {
    space: Space,
    known: Value,
    seen: Arc<Mutex<BTreeSet<Name>>>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.space.name())
    }
}

impl Object for Recorder {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        if let Some(known) = self.known.get_item(key).ok().filter(|known| !known.is_undefined()) {
            return Some(known);
        }
        let name = self.space.item(key.as_str()?)?;
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
        Some(PLACEHOLDER.into())
    }
}
