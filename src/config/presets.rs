//! Presets: what is known of payment APIs, as data, laid below what the file says.
//!
//! They are merged as trees of values, before anybody asks what these mean: built-in default, the
//! preset's defaults, its route with the same path, the file's route. Mappings merge, everything else
//! is replaced, and `null` takes away. Routes of a preset that the file does not have come after the
//! file's routes to that upstream.

use serde_json::Value;

use super::problems::{Problems, meant};
use super::{raw, tree};

/// All there are, by name.
const ALL: [(&str, &str); 7] = [
    ("adyen", include_str!("../../config/presets/adyen.yaml")),
    ("checkout", include_str!("../../config/presets/checkout.yaml")),
    ("mollie", include_str!("../../config/presets/mollie.yaml")),
    ("paypal", include_str!("../../config/presets/paypal.yaml")),
    ("razorpay", include_str!("../../config/presets/razorpay.yaml")),
    ("square", include_str!("../../config/presets/square.yaml")),
    ("stripe", include_str!("../../config/presets/stripe.yaml")),
];

/// Mappings that are replaced, not merged: those of which one entry excludes the others, and which
/// requests a route is about.
const CHOICES: [&str; 4] = ["match", "into", "body", "scope"];

/// What makes a look-up ask, and so needs credentials.
const QUESTIONS: [&str; 4] = ["request", "next", "then", "location"];

/// What is known of a payment API.
#[derive(Debug)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// What it knows, what it cannot know, and where that is written.
    pub about: Value,
    /// Headers without which the provider answers no look-up.
    credentials: Vec<String>,
    defaults: Value,
    routes: Vec<Value>,
}

/// What presets add to a file.
#[derive(Debug, Clone, Default)]
pub struct Additions {
    routes: Vec<Added>,
    /// What is done with unsafe requests that no route matches, by upstream.
    pub fallbacks: Vec<(String, raw::Route)>,
}

/// A preset's route.
#[derive(Debug, Clone)]
struct Added {
    /// How many of the file's routes come before it.
    after: usize,
    place: String,
    route: raw::Route,
}

/// A route, and where problems with it are to be found.
#[derive(Debug)]
pub struct Placed<'a> {
    /// Like `routes[0]`, or `upstreams.payments.preset[POST /v1/refunds]`.
    pub place: String,
    /// The route.
    pub route: &'a raw::Route,
    /// Whether the file has it.
    pub written: bool,
}

impl Additions {
    /// The file's routes and the presets', in the order in which they are tried.
    pub fn among<'a>(&'a self, routes: &'a [raw::Route]) -> Vec<Placed<'a>> {
        let mut all = vec![];
        for count in 0..=routes.len() {
            if let Some(index) = count.checked_sub(1) {
                let place = format!("routes[{index}]");
                all.push(Placed { place, route: &routes[index], written: true });
            }
            let here = self.routes.iter().filter(|added| added.after == count);
            all.extend(here.map(|added| Placed {
                place: added.place.clone(),
                route: &added.route,
                written: false,
            }));
        }
        all
    }

    /// What is done with unsafe requests to this upstream that no route matches.
    pub fn fallback(&self, upstream: &str) -> Option<&raw::Route> {
        self.fallbacks.iter().find(|(name, _)| name == upstream).map(|(_, route)| route)
    }
}

/// The names of all presets.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, _)| *name)
}

/// The preset of that name.
///
/// # Errors
/// What is wrong with its data; a test reads all of them.
pub fn named(name: &str) -> Option<Result<Preset, String>> {
    let (name, text) = ALL.iter().find(|(known, _)| *known == name)?;
    Some(parse(name, text))
}

fn parse(name: &'static str, text: &str) -> Result<Preset, String> {
    let mut problems = Problems::new(Some(name));
    let Some(Value::Object(mut data)) = tree::read(text, &mut problems) else {
        return Err(problems.to_string());
    };
    let mut part = |name| data.remove(name);
    let text = |value: Value| value.as_str().map(str::to_owned).ok_or("credentials: not a text");
    let list = |value: Option<Value>| match value {
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err("not a list"),
        None => Ok(vec![]),
    };
    let about = part("about").ok_or("about: is missing")?;
    let credentials = list(part("credentials"))?.into_iter().map(text).collect::<Result<_, _>>()?;
    let defaults = part("defaults").ok_or("defaults: is missing")?;
    let routes = list(part("routes"))?;
    match data.keys().next() {
        Some(other) => Err(format!("{other}: unknown")),
        None => Ok(Preset { name, about, credentials, defaults, routes }),
    }
}

/// Lays presets below the routes of a file's tree. The result is what they add to it.
pub fn merge(tree: &mut Value, problems: &mut Problems) -> Additions {
    let mut additions = Additions::default();
    let Some(upstreams) = tree["upstreams"].as_object().cloned() else { return additions };
    let first = upstreams.keys().next().map(String::as_str);
    let default = tree["default_upstream"].as_str().or(first).unwrap_or_default().to_owned();
    for (name, upstream) in &upstreams {
        let Some(preset) = upstream["preset"].as_str() else { continue };
        let place = format!("upstreams.{name}.preset");
        let Some(preset) = known(preset, &place, problems) else { continue };
        let has_credentials = !is_empty(&upstream["lookup_credentials"]);
        let laying = Laying { preset, upstream: name, place, default: &default, has_credentials };
        laying.lay(tree, &mut additions, problems);
    }
    additions
}

fn known(name: &str, place: &str, problems: &mut Problems) -> Option<Preset> {
    let Some(preset) = named(name) else {
        let all = names().collect::<Vec<_>>().join(", ");
        let hint = meant(name, names()).map(|meant| format!("; did you mean `{meant}`?"));
        let hint = hint.unwrap_or_default();
        problems.fault(place, format!("there is no preset `{name}`; there are {all}{hint}"));
        return None;
    };
    problems.note(place, preset)
}

/// One preset, on its way below the routes of one upstream.
struct Laying<'a> {
    preset: Preset,
    upstream: &'a str,
    place: String,
    default: &'a str,
    has_credentials: bool,
}

/// What is to be said about the routes that a preset is below.
#[derive(Default)]
struct Said {
    given: Vec<String>,
    below: Vec<String>,
    unasked: Vec<String>,
    unknowable: Vec<String>,
}

impl Laying<'_> {
    fn lay(&self, tree: &mut Value, additions: &mut Additions, problems: &mut Problems) {
        let mut said = Said::default();
        let mut rest = self.preset.routes.clone();
        let mut after = None;
        let mut none = vec![];
        let written = tree.get_mut("routes").and_then(Value::as_array_mut).unwrap_or(&mut none);
        for (i, route) in written.iter_mut().enumerate() {
            let is_ours = route["upstream"].as_str().unwrap_or(self.default) == self.upstream;
            if !is_ours || !route.is_object() {
                continue;
            }
            after = Some(i + 1);
            let mut below = self.preset.defaults.clone();
            if let Some(known) = self.preset.routes.iter().find(|known| overlap(known, route)) {
                over(&mut below, known.clone());
                said.below.push(name_of(known));
            }
            rest.iter_mut().for_each(|known| take_methods(known, route));
            let asks_itself = !is_empty(&route["lookup"]["request"]);
            over(&mut below, route.take());
            if !asks_itself && self.silence(&mut below) {
                said.unasked.push(format!("routes[{i}]"));
            }
            *route = below;
        }
        let after = after.unwrap_or(written.len());
        for known in rest.into_iter().filter(|known| !is_empty(&known["match"]["methods"])) {
            self.add(known, after, additions, &mut said, problems);
        }
        if let Some(fallback) = self.raw(self.preset.defaults.clone(), &self.place, problems) {
            additions.fallbacks.push((self.upstream.to_owned(), fallback));
        }
        self.say(&said, problems);
    }

    /// Adds a route that the file does not have.
    fn add(
        &self,
        known: Value,
        after: usize,
        additions: &mut Additions,
        said: &mut Said,
        problems: &mut Problems,
    ) {
        let name = name_of(&known);
        let place = format!("{}[{name}]", self.place);
        let mut whole = self.preset.defaults.clone();
        over(&mut whole, known);
        if self.silence(&mut whole) {
            said.unasked.push(name.clone());
        } else if is_empty(&whole["lookup"]) && whole["mode"] != "off" {
            said.unknowable.push(name.clone());
        }
        let Some(mut route) = self.raw(whole, &place, problems) else { return };
        route.upstream = Some(self.upstream.to_owned());
        if self.upstream != self.default {
            // Two upstreams may have the same preset.
            route.name = Some(format!("{}: {name}", self.upstream));
        }
        said.given.push(name);
        additions.routes.push(Added { after, place, route });
    }

    /// Takes a question away that the provider would not answer. Whether it did.
    fn silence(&self, route: &mut Value) -> bool {
        let lookup = &mut route["lookup"];
        let asks = QUESTIONS.iter().any(|part| !is_empty(&lookup[part]));
        let can_ask = self.preset.credentials.is_empty()
            || self.has_credentials
            || !is_empty(&lookup["credentials"]);
        if can_ask || !asks {
            return false;
        }
        if is_empty(&lookup["resend"]) {
            lookup.take();
        } else if let Some(lookup) = lookup.as_object_mut() {
            lookup.retain(|part, _| !QUESTIONS.contains(&part.as_str()));
        }
        true
    }

    fn raw(&self, whole: Value, place: &str, problems: &mut Problems) -> Option<raw::Route> {
        let wrong = |why| format!("the preset {} does not fit: {why}", self.preset.name);
        problems.note(place, serde_json::from_value(whole).map_err(wrong))
    }

    fn say(&self, said: &Said, problems: &mut Problems) {
        let list = |names: &[String]| names.join(", ");
        let preset = self.preset.name;
        let mut news = format!("{}: {preset} gives {}", self.place, list(&said.given));
        if !said.below.is_empty() {
            news += &format!("; the file's own settings go before it for {}", list(&said.below));
        }
        problems.say(news);
        if !said.unasked.is_empty() {
            let headers = self.preset.credentials.join(", ");
            problems.warn(
                &self.place,
                format!(
                    "unknown outcomes of {} cannot be looked up: {preset} wants {headers}; set \
                     `lookup_credentials` of this upstream",
                    list(&said.unasked)
                ),
            );
        }
        if !said.unknowable.is_empty() {
            let of = list(&said.unknowable);
            problems.warn(
                &self.place,
                format!(
                    "{preset} has no look-up for {of}: their unknown outcomes wait for an operator"
                ),
            );
        }
    }
}

/// Lays values over others: mappings merge, choices and everything else are replaced, and `null`
/// takes away what is there.
fn over(below: &mut Value, above: Value) {
    let (Value::Object(below), Value::Object(above)) = (&mut *below, &above) else {
        *below = above;
        return;
    };
    for (name, value) in above.clone() {
        match below.get_mut(&name) {
            Some(_) if value.is_null() => drop(below.shift_remove(&name)),
            Some(known) if !CHOICES.contains(&name.as_str()) => over(known, value),
            Some(_) | None => drop(below.insert(name, value)),
        }
    }
}

/// Whether a preset's route and one of the file's are about some of the same requests: the same
/// path, to the letter, and a method of both.
fn overlap(known: &Value, route: &Value) -> bool {
    let methods = methods(route);
    known["match"]["path"] == route["match"]["path"]
        && (methods.is_empty() || self::methods(known).iter().any(|one| methods.contains(one)))
}

/// Leaves a preset's route those methods that the file's route does not have.
fn take_methods(known: &mut Value, route: &Value) {
    if !overlap(known, route) {
        return;
    }
    let taken = methods(route);
    if let Some(methods) = known["match"]["methods"].as_array_mut() {
        methods.retain(|method| !taken.is_empty() && !taken.contains(method));
    }
}

fn methods(route: &Value) -> Vec<Value> {
    route["match"]["methods"].as_array().cloned().unwrap_or_default()
}

fn name_of(known: &Value) -> String {
    let methods: Vec<_> =
        methods(known).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    format!("{} {}", methods.join(","), known["match"]["path"].as_str().unwrap_or_default())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests;
