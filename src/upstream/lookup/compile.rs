//! How a [`Spec`] becomes a [`LookUp`]: everything that is wrong with it is told at once.

use std::fmt;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde_json_path::JsonPath;

use super::asking::{Asking, Credentials, check_path};
use super::names::{Name, Space, is_secret_header};
use super::pages::{Next, PAGES_MAX, whole_list};
use super::read::{Answer, AnswerBody, ItemPath, Reading, States};
use super::spec::{
    AskMethod, AskSpec, BodySpec, CreatedSpec, NextSpec, ReplySpec, SecretText, Spec, SpecProblem,
    StateSpec, ThenSpec,
};
use super::template::{Item, Position, Template};
use super::time::Created;
use super::{LookUp, Then};
use crate::protocol::json;

impl LookUp {
    /// Checks a specification. `captures` are the names in the route's path pattern.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(spec: Spec, captures: &[&str]) -> Result<Self, Vec<SpecProblem>> {
        let mut problems = Problems { found: vec![], captures };
        problems.check("timeout", !spec.timeout.is_zero(), "expected more than nothing");
        problems.check("body_max", spec.body_max > 0, "expected more than nothing");
        match problems.look_up(&spec) {
            Some(lookup) if problems.found.is_empty() => Ok(lookup),
            Some(_) | None => Err(problems.found),
        }
    }
}

/// Collects what is wrong, so that all of it is told at once.
struct Problems<'a> {
    found: Vec<SpecProblem>,
    captures: &'a [&'a str],
}

impl Problems<'_> {
    fn add(&mut self, at: &str, message: impl Into<String>) {
        self.found.push(SpecProblem { at: at.to_owned(), message: message.into() });
    }

    fn check(&mut self, at: &str, holds: bool, message: &str) {
        if !holds {
            self.add(at, message);
        }
    }

    fn note<T, E: fmt::Display>(&mut self, at: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|why| self.add(at, why.to_string())).ok()
    }

    fn look_up(&mut self, spec: &Spec) -> Option<LookUp> {
        let asked = spec.request.is_some() || spec.location.is_some();
        self.check("request", asked, "expected a question: `request`, `location`, or `resend`");
        for &status in &spec.absent_statuses {
            let holds = (300..=499).contains(&status);
            self.check("absent.statuses", holds, "expected statuses from 300 to 499");
        }
        let request = spec.request.as_ref();
        let asking = request.map(|request| self.asking("request", request, Item::NotYet));
        let credentials = self.credentials(&spec.credentials);
        let errors = spec.errors.as_ref().map(|path| self.json_path("errors", path));
        let item = self.item("item", spec.item.as_deref(), Item::NotYet);
        let next = spec.next.as_ref().map(|next| self.next(next, spec));
        let then = spec.then.as_ref().map(|then| self.then(then, spec));
        let location = spec.location.as_ref();
        let location =
            location.map(|at| self.item("location.item", at.item.as_deref(), Item::NotYet));
        let created = spec.created.as_ref().map(|created| self.created(created));
        let reading = self.reading(spec);
        let mut lookup = LookUp {
            absent: spec.absent.clone(),
            timeout: spec.timeout,
            body_max: spec.body_max,
            asking: whole(asking)?,
            credentials: credentials?,
            absent_statuses: spec.absent_statuses.clone(),
            errors: whole(errors)?,
            item: item?,
            next: whole(next)?,
            then: whole(then)?,
            location: whole(location)?,
            created: whole(created)?,
            reading: reading?,
            is_dated: false,
        };
        lookup.is_dated = lookup.created.is_some() || lookup.templates().any(Template::uses_time);
        Some(lookup)
    }

    fn asking(&mut self, at: &str, spec: &AskSpec, item: Item) -> Option<Asking> {
        let path_at = format!("{at}.path");
        let path = self.template(&path_at, &spec.path, Position::Path, item);
        if let Some(text) = path.as_ref().and_then(|path| self.tried(&path_at, path)) {
            self.note(&path_at, check_path(&text));
        }
        let query = spec.query.iter().map(|(name, source)| {
            let at = format!("{at}.query.{name}");
            Some((name.clone(), self.template(&at, source, Position::Text, item)?))
        });
        let query: Vec<_> = query.collect();
        let headers = spec.headers.iter().map(|(name, source)| {
            let at = format!("{at}.headers.{name}");
            let header = self.header(&at, name);
            let template = self.template(&at, source, Position::Text, item);
            if let Some(text) = template.as_ref().and_then(|template| template.try_out().ok()?) {
                self.value(&at, &text);
            }
            Some((header?, template?))
        });
        let headers: Vec<_> = headers.collect();
        let body = self.body(&format!("{at}.body"), spec, item);
        Some(Asking {
            path: path?,
            query: query.into_iter().collect::<Option<_>>()?,
            headers: headers.into_iter().collect::<Option<_>>()?,
            body: body?,
        })
    }

    fn body(&mut self, at: &str, spec: &AskSpec, item: Item) -> Option<Option<Template>> {
        let source = match (spec.method, &spec.body) {
            (AskMethod::Get, None) => return Some(None),
            (AskMethod::Get, Some(_)) => {
                self.add(at, "a GET asks without a body; a search has `method: POST`");
                return None;
            }
            (AskMethod::Post, None) => {
                self.add(at, "a POST asks with a body: expected a template of a JSON document");
                return None;
            }
            (AskMethod::Post, Some(source)) => source,
        };
        let template = self.template(at, source, Position::Json, item)?;
        if let Some(text) = self.tried(at, &template) {
            let parsed = json::parse(text.as_bytes()).map(drop);
            self.note(at, parsed.map_err(|why| format!("no JSON document: {why}")));
        }
        Some(Some(template))
    }

    fn credentials(&mut self, spec: &[(String, SecretText)]) -> Option<Credentials> {
        let credentials = spec.iter().map(|(name, secret)| {
            let at = format!("credentials.{name}");
            let header = self.header(&at, name);
            let mut value = self.value(&at, secret.expose())?;
            value.set_sensitive(true);
            Some((header?, value))
        });
        credentials.collect::<Vec<_>>().into_iter().collect()
    }

    fn next(&mut self, next: &NextSpec, spec: &Spec) -> Option<Next> {
        self.check(
            "next",
            spec.request.is_some(),
            "it goes on with a `request`, and there is none",
        );
        self.check("next.query", !next.query.is_empty(), "expected a parameter's name");
        let holds = (1..=PAGES_MAX).contains(&next.pages);
        self.check("next.pages", holds, &format!("expected 1 to {PAGES_MAX} pages"));
        let from = self.json_path("next.from", &next.from);
        let more = next.more.as_ref().map(|path| self.json_path("next.while", path));
        let newest_first = next.newest_first.then(|| {
            let at = "next.newest_first";
            self.check(at, spec.created.is_some(), "it needs `created`, to see what is older");
            let list = spec.item.as_deref().and_then(whole_list);
            let list = list.ok_or("it needs an `item` in a list, like $.data[?…] or $.data[*]");
            let list = self.note(at, list)?;
            self.json_path(at, &list)
        });
        Some(Next {
            query: next.query.clone(),
            from: from?,
            more: whole(more)?,
            pages: next.pages,
            newest_first: whole(newest_first)?,
        })
    }

    fn then(&mut self, then: &ThenSpec, spec: &Spec) -> Option<Then> {
        self.check("then", spec.request.is_some(), "it follows a `request`, and there is none");
        let asking = self.asking("then.request", &then.request, Item::Known);
        let item = self.item("then.item", then.item.as_deref(), Item::Known);
        Some(Then { asking: asking?, item: item? })
    }

    fn created(&mut self, created: &CreatedSpec) -> Option<Created> {
        let path = self.json_path("created.path", &created.path)?;
        Some(Created { path, unit: created.unit, skew: created.skew })
    }

    fn reading(&mut self, spec: &Spec) -> Option<Reading> {
        let state = spec.state.as_ref().map(|state| self.states(state));
        let succeeded = self.answer("reply.succeeded", &spec.succeeded);
        let failed = match &spec.failed {
            Some(failed) => self.answer("reply.failed", failed),
            // What is wrong with it was told just now.
            None if succeeded.is_none() => None,
            None => self.answer("reply.failed", &spec.succeeded),
        };
        Some(Reading { state: whole(state)?, succeeded: succeeded?, failed: failed? })
    }

    fn item(&mut self, at: &str, text: Option<&str>, item: Item) -> Option<ItemPath> {
        let Some(text) = text else { return Some(ItemPath::Whole) };
        if !text.contains("{{") {
            return self.json_path(at, text).map(ItemPath::Fixed);
        }
        let template = self.template(at, text, Position::JsonPath, item)?;
        if let Some(tried) = self.tried(at, &template) {
            self.json_path(at, &tried)?;
        }
        Some(ItemPath::Rendered(Box::new(template)))
    }

    fn states(&mut self, spec: &StateSpec) -> Option<States> {
        let provisional = spec.provisional.as_ref();
        let lists = [&spec.succeeded, &spec.accepted, &spec.failed];
        let lists = lists.into_iter().chain(provisional.map(|provisional| &provisional.values));
        let mut values: Vec<_> = lists.flatten().collect();
        if let Some(provisional) = provisional {
            let at = "state.provisional.values";
            self.check(at, !provisional.values.is_empty(), "expected the values that may change");
            let at = "state.provisional.for";
            self.check(at, !provisional.time.is_zero(), "expected more than nothing");
        }
        match (&spec.path, &spec.failed_if) {
            (Some(_), _) => {
                let why = "no value is named: nothing could ever settle";
                self.check("state", !values.is_empty(), why);
            }
            (None, Some(_)) => {
                let why = "values are named, and no `path` leads to one";
                self.check("state", values.is_empty(), why);
            }
            (None, None) => self.add("state", "expected `path`, `failed_if`, or both"),
        }
        values.sort_unstable();
        for pair in values.windows(2).filter(|pair| pair[0] == pair[1]) {
            self.add("state", format!("{:?} stands twice", pair[0]));
        }
        let path = spec.path.as_ref().map(|path| self.json_path("state.path", path));
        let failed_if = spec.failed_if.as_ref();
        let failed_if = failed_if.map(|path| self.json_path("state.failed_if", path));
        Some(States {
            path: whole(path)?,
            failed_if: whole(failed_if)?,
            succeeded: spec.succeeded.clone(),
            accepted: spec.accepted.clone(),
            failed: spec.failed.clone(),
            provisional: provisional.cloned(),
        })
    }

    fn answer(&mut self, at: &str, spec: &ReplySpec) -> Option<Answer> {
        let has_body =
            (200..=599).contains(&spec.status) && !matches!(spec.status, 204 | 205 | 304);
        let status_at = format!("{at}.status");
        self.check(&status_at, has_body, "expected a status from 200 to 599 that has a body");
        let mut headers = vec![];
        for (name, value) in &spec.headers {
            let at = format!("{at}.headers.{name}");
            let (name, value) = (self.header(&at, name), self.value(&at, value));
            if let (Some(name), Some(value)) = (name, value) {
                headers.push((name.as_str().to_owned(), value.as_bytes().to_vec()));
            }
        }
        if !headers.iter().any(|(name, _)| name == CONTENT_TYPE.as_str()) {
            headers.insert(0, (CONTENT_TYPE.as_str().to_owned(), b"application/json".to_vec()));
        }
        let body = match &spec.body {
            BodySpec::Item => AnswerBody::Item,
            BodySpec::Template(source) => {
                let at = format!("{at}.body");
                let template = self.template(&at, source, Position::Json, Item::Known)?;
                AnswerBody::Rendered(Box::new(template))
            }
        };
        Some(Answer { status: spec.status, headers, body })
    }

    fn template(
        &mut self,
        at: &str,
        source: &str,
        position: Position,
        item: Item,
    ) -> Option<Template> {
        let template = self.note(at, Template::compile(source, position, item))?;
        for name in template.names() {
            match name {
                Name::In(Space::Path, name) if !self.captures.contains(&name.as_str()) => {
                    self.add(at, format!("the route's path has no {{{name}}}"));
                }
                Name::In(Space::Header, name) if is_secret_header(name) => {
                    let why = "a caller's secret is never kept; give the look-up its own under \
                               `credentials`";
                    self.add(at, format!("header {name}: {why}"));
                }
                Name::In(..) | Name::Key | Name::Reference => {}
            }
        }
        Some(template)
    }

    /// What a template makes of something, if that can be said before there is an item.
    fn tried(&mut self, at: &str, template: &Template) -> Option<String> {
        self.note(at, template.try_out())?
    }

    fn json_path(&mut self, at: &str, text: &str) -> Option<JsonPath> {
        let path = JsonPath::parse(text);
        self.note(at, path.map_err(|why| format!("not an RFC 9535 path: {why}")))
    }

    /// A header's name, unless it belongs to the connection or its framing.
    fn header(&mut self, at: &str, name: &str) -> Option<HeaderName> {
        const RESERVED: [&str; 9] = [
            "connection",
            "content-length",
            "host",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ];
        let name = self.note(at, name.parse::<HeaderName>())?;
        let free = !RESERVED.contains(&name.as_str());
        self.check(at, free, "this header is not for configuring");
        free.then_some(name)
    }

    fn value(&mut self, at: &str, value: &str) -> Option<HeaderValue> {
        // The library's error does not quote the value.
        self.note(at, HeaderValue::from_str(value))
    }
}

/// A part that may be missing, but not half there.
fn whole<T>(part: Option<Option<T>>) -> Option<Option<T>> {
    match part {
        None => Some(None),
        Some(part) => part.map(Some),
    }
}
