//! The shape of semel's own answers on a route: status, headers and body as an SDK can read them.
//!
//! What an answer *says* stays: `Proxy-Status`, `Semel-*`, `Retry-After` and `Location` are not to be
//! shaped, and a template can only name what the problem holds.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use minijinja::value::{Serde, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, UndefinedBehavior, filters};

use super::problem::{Problem, Slug};

/// How much work one rendering may be, in units of the template engine.
const FUEL_MAX: u64 = 10_000;

const TEMPLATE: &str = "template";

/// Headers that say whose answer it is, what is known, and how the message is framed.
const RESERVED: [&str; 12] = [
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "idempotent-replayed",
    "link",
    "location",
    "preference-applied",
    "proxy-status",
    "retry-after",
    "trailer",
    "transfer-encoding",
];

/// What is said about the shape, in plain words.
#[derive(Debug, Clone, Default)]
pub struct ShapeSpec {
    /// Other statuses, by slug.
    pub statuses: Vec<(String, u16)>,
    /// Further headers; their values are templates.
    pub headers: Vec<(String, String)>,
    /// The body's type. Default: JSON where the body is other, else problem details.
    pub content_type: Option<String>,
    /// Template of a JSON document, in which each value becomes JSON.
    pub body: Option<String>,
}

/// A fault of a [`ShapeSpec`]: where, and what.
pub type ShapeProblem = (String, String);

/// The shape of semel's own answers on a route, checked.
#[derive(Debug, Default)]
pub struct Shape {
    statuses: Vec<(Slug, StatusCode)>,
    headers: Vec<(HeaderName, Template)>,
    content_type: Option<HeaderValue>,
    body: Option<Template>,
}

/// Where a rendered text will stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Header,
    Json,
}

struct Template(Environment<'static>);

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Template")
    }
}

impl Shape {
    /// Checks a specification, by filling every template in for every problem.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(spec: &ShapeSpec) -> Result<Self, Vec<ShapeProblem>> {
        let mut found = vec![];
        let mut note = |at: String, message: String| found.push((at, message));
        let mut shape = Self::default();
        for (slug, status) in &spec.statuses {
            match known_status(slug, *status) {
                Ok(status) => shape.statuses.push(status),
                Err(why) => note(format!("statuses.{slug}"), why),
            }
        }
        for (name, text) in &spec.headers {
            match header(name, text) {
                Ok(header) => shape.headers.push(header),
                Err(why) => note(format!("headers.{name}"), why),
            }
        }
        if let Some(text) = &spec.content_type {
            match HeaderValue::from_str(text) {
                Ok(value) if text.contains('/') => shape.content_type = Some(value),
                Ok(_) | Err(_) => {
                    note("content_type".to_owned(), "expected a type like application/json".into());
                }
            }
        }
        if let Some(text) = &spec.body {
            match Template::compile(text, Position::Json).and_then(|body| body.makes_json(&shape)) {
                Ok(body) => shape.body = Some(body),
                Err(why) => note("body".to_owned(), why),
            }
        }
        if found.is_empty() { Ok(shape) } else { Err(found) }
    }

    /// The statuses that are other than the problems' own.
    pub fn statuses(&self) -> impl Iterator<Item = (&'static str, u16)> {
        self.statuses.iter().map(|(slug, status)| (slug.as_str(), status.as_u16()))
    }

    /// Whether there is nothing about it.
    pub const fn is_plain(&self) -> bool {
        self.statuses.is_empty()
            && self.headers.is_empty()
            && self.content_type.is_none()
            && self.body.is_none()
    }

    /// Gives a problem's answer this shape. What cannot be filled in stays as it is: every template
    /// was tried out with every problem.
    pub fn give<B>(
        &self,
        problem: &Problem,
        response: Response<B>,
        full: impl FnOnce(Bytes) -> B,
    ) -> Response<B> {
        let problem = Problem { status: self.status(problem), ..problem.clone() };
        let body = match &self.body {
            Some(template) => template.render(&problem).ok().map(Bytes::from),
            None => Some(problem.body()),
        };
        let Some(body) = body else { return response };
        let mut response = response.map(|_| full(body));
        *response.status_mut() = problem.status;
        let headers = response.headers_mut();
        if let Some(value) = self.content_type() {
            headers.insert(CONTENT_TYPE, value);
        }
        for (name, template) in &self.headers {
            let value = template.render(&problem).ok();
            if let Some(value) = value.and_then(|text| HeaderValue::try_from(text).ok()) {
                headers.insert(name, value);
            }
        }
        response
    }

    /// Only where the problem has its own status: what a caller asked for by `Prefer` stays.
    fn status(&self, problem: &Problem) -> StatusCode {
        let plain = Problem::new(problem.slug).status;
        let other = self.statuses.iter().find(|(slug, _)| *slug == problem.slug);
        match other {
            Some((_, status)) if problem.status == plain => *status,
            Some(_) | None => problem.status,
        }
    }

    fn content_type(&self) -> Option<HeaderValue> {
        let json = self.body.as_ref().map(|_| HeaderValue::from_static("application/json"));
        self.content_type.clone().or(json)
    }
}

fn known_status(slug: &str, status: u16) -> Result<(Slug, StatusCode), String> {
    let Some(known) = Slug::ALL.into_iter().find(|known| known.as_str() == slug) else {
        let all: Vec<_> = Slug::ALL.into_iter().map(Slug::as_str).collect();
        return Err(format!("there is no such answer; there are {}", all.join(", ")));
    };
    if known == Slug::NeverApplied {
        let why = "this answer is recorded before it is told; its form is `lookup.absent.reply`";
        return Err(why.to_owned());
    }
    let status = StatusCode::from_u16(status).ok().filter(|_| (400..=599).contains(&status));
    Ok((known, status.ok_or("expected a status from 400 to 599")?))
}

fn header(name: &str, text: &str) -> Result<(HeaderName, Template), String> {
    let name: HeaderName = name.parse().map_err(|_| "expected the name of a header")?;
    if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("semel-") {
        return Err("this header is semel's own and stays as it is".to_owned());
    }
    let template = Template::compile(text, Position::Header)?;
    for problem in every_problem() {
        HeaderValue::try_from(template.render(&problem)?)
            .map_err(|_| "it has characters that no header may have")?;
    }
    Ok((name, template))
}

/// Every problem, with all that it may hold and with the least.
fn every_problem() -> impl Iterator<Item = Problem> {
    Slug::ALL.into_iter().flat_map(|slug| {
        let plain = Problem::new(slug);
        let full = Problem {
            operation: Some("op_1".to_owned()),
            state: Some("in-doubt"),
            upstream_status: Some(500),
            ..plain.clone()
        };
        [plain, full]
    })
}

impl Template {
    fn compile(text: &str, position: Position) -> Result<Self, String> {
        if text.contains("{%") || text.contains("{#") {
            return Err("only {{ … }} may stand in it, no {% … %} and no {# … #}".to_owned());
        }
        let mut engine = Environment::empty();
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        engine.set_fuel(Some(FUEL_MAX));
        engine.add_filter("lower", filters::lower);
        engine.add_filter("replace", filters::replace);
        engine.add_filter("upper", filters::upper);
        engine.set_formatter(move |out, _, value| write(position, out, value));
        engine.add_template_owned(TEMPLATE, text.to_owned()).map_err(|error| describe(&error))?;
        Ok(Self(engine))
    }

    fn makes_json(self, shape: &Shape) -> Result<Self, String> {
        for problem in every_problem() {
            let problem = Problem { status: shape.status(&problem), ..problem };
            let text = self.render(&problem)?;
            let json: Result<serde::de::IgnoredAny, _> = serde_json::from_str(&text);
            let slug = problem.slug.as_str();
            json.map_err(|error| format!("what it makes for {slug} is not JSON: {error}"))?;
        }
        Ok(self)
    }

    fn render(&self, problem: &Problem) -> Result<String, String> {
        let template = self.0.get_template(TEMPLATE).map_err(|error| describe(&error))?;
        template.render(Value::from(Serde(values(problem)))).map_err(|error| describe(&error))
    }
}

/// What templates may name; what a problem does not hold is null.
fn values(problem: &Problem) -> BTreeMap<&'static str, serde_json::Value> {
    BTreeMap::from([
        ("slug", problem.slug.as_str().into()),
        ("type", problem.type_uri().into()),
        ("title", problem.title.into()),
        ("status", problem.status.as_u16().into()),
        ("detail", problem.detail.as_ref().into()),
        ("operation", problem.operation.clone().into()),
        ("state", problem.state.into()),
        ("sent", serde_json::to_value(problem.sent).unwrap_or_default()),
        ("retry", serde_json::to_value(problem.retry).unwrap_or_default()),
        ("upstream_status", problem.upstream_status.into()),
    ])
}

fn write(position: Position, out: &mut Output<'_>, value: &Value) -> Result<(), Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let text = match position {
        Position::Header if value.kind() == ValueKind::None => String::new(),
        // As JSON spells it; the engine would say True.
        Position::Header if value.kind() == ValueKind::Bool => value.is_true().to_string(),
        Position::Header => value.to_string(),
        Position::Json => serde_json::to_string(value)
            .map_err(|_| Error::new(ErrorKind::WriteFailure, "a value has no JSON form"))?,
    };
    out.write_str(&text).map_err(|_| Error::new(ErrorKind::WriteFailure, "it cannot be written"))
}

/// A problem holds no secrets, so what the engine says may be told.
fn describe(error: &Error) -> String {
    match (error.kind(), error.detail()) {
        (ErrorKind::UndefinedError, _) => "it names a value that is not there; there are slug, \
             type, title, status, detail, operation, state, sent, retry, upstream_status"
            .to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(body: &str) -> ShapeSpec {
        ShapeSpec { body: Some(body.to_owned()), ..ShapeSpec::default() }
    }

    fn given(spec: &ShapeSpec, problem: &Problem) -> Response<Bytes> {
        Shape::compile(spec).unwrap().give(problem, problem.response(), |body| body)
    }

    #[test]
    fn a_shaped_answer_says_the_same_in_another_form() {
        let spec = ShapeSpec {
            statuses: vec![("outcome-unknown".to_owned(), 409)],
            headers: vec![("X-Should-Retry".to_owned(), "{{ retry == \"same-key\" }}".to_owned())],
            ..spec(
                r#"{"error":{"code":{{ slug | replace("-", "_") }},"message":{{ detail }},
                    "status":{{ status }},"upstream":{{ upstream_status }}}}"#,
            )
        };
        let problem = Problem {
            detail: "a \"quoted\" {{ word }}".into(),
            operation: Some("op_7".to_owned()),
            retry_after: Some(std::time::Duration::from_secs(5)),
            ..Problem::new(Slug::OutcomeUnknown)
        };

        let answer = given(&spec, &problem);

        assert_eq!(answer.status(), 409);
        for (name, value) in [
            ("content-type", "application/json"),
            ("proxy-status", "semel; error=http_response_timeout"),
            ("semel-answer", "unknown"),
            ("semel-operation", "op_7"),
            ("retry-after", "5"),
            ("x-should-retry", "true"),
        ] {
            assert_eq!(answer.headers()[name], value, "{name}");
        }
        let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
        let error = serde_json::json!({
            "code": "outcome_unknown", "message": "a \"quoted\" {{ word }}", "status": 409,
            "upstream": null,
        });
        assert_eq!(body, serde_json::json!({ "error": error }));
    }

    #[test]
    fn a_status_alone_leaves_problem_details_that_agree_with_it() {
        let spec =
            ShapeSpec { statuses: vec![("key-reused".to_owned(), 400)], ..ShapeSpec::default() };

        let answer = given(&spec, &Problem::new(Slug::KeyReused));

        assert_eq!(answer.status(), 400);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(body["status"], 400);
    }

    #[test]
    fn the_status_that_a_caller_asked_for_stays() {
        let spec = ShapeSpec {
            statuses: vec![("outcome-unknown".to_owned(), 409)],
            ..ShapeSpec::default()
        };
        let asked = Problem { status: StatusCode::ACCEPTED, ..Problem::new(Slug::OutcomeUnknown) };

        assert_eq!(given(&spec, &asked).status(), 202);
    }

    #[test]
    fn every_fault_of_a_shape_is_told_at_once() {
        let spec = ShapeSpec {
            statuses: vec![
                ("outcome-unknwon".to_owned(), 409),
                ("draining".to_owned(), 200),
                ("never-applied".to_owned(), 409),
            ],
            headers: vec![
                ("Retry-After".to_owned(), "1".to_owned()),
                ("Semel-Answer".to_owned(), "fresh".to_owned()),
                ("x".to_owned(), "{{ body }}".to_owned()),
            ],
            content_type: Some("json".to_owned()),
            body: Some("{ \"a\": {{ slug }}".to_owned()),
        };

        let found = Shape::compile(&spec).unwrap_err();

        let places: Vec<_> = found.iter().map(|(at, _)| at.as_str()).collect();
        let expected = [
            "statuses.outcome-unknwon",
            "statuses.draining",
            "statuses.never-applied",
            "headers.Retry-After",
            "headers.Semel-Answer",
            "headers.x",
            "content_type",
            "body",
        ];
        assert_eq!(places, expected, "{found:#?}");
        assert!(found[2].1.contains("`lookup.absent.reply`"), "{found:#?}");
    }

    #[test]
    fn a_template_must_make_json_of_every_problem() {
        for body in
            ["{{ slug }", "{{ slug", "{% if 1 %}{% endif %}", "\"{{ slug }}\"", "{{ nope }}"]
        {
            let found = Shape::compile(&spec(body));
            assert_eq!(found.unwrap_err()[0].0, "body", "{body}");
        }
    }
}
