//! How a question is put: a template of a request, filled in so that no value leaves its place.
//!
//! Where the provider is comes from the upstream's settings and from nowhere else: what is made
//! here is a path and a query.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use percent_encoding::{percent_decode_str, utf8_percent_encode};

use super::template::{Template, UNRESERVED, Values};
use crate::protocol::json;

/// A question as its author wrote it.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) path: Template,
    pub(super) query: Vec<(String, Template)>,
    pub(super) headers: Vec<(HeaderName, Template)>,
    /// With one it is a POST, a search; without one a GET.
    pub(super) body: Option<Template>,
}

/// Headers with secrets, the same for every question of a look-up.
pub(super) type Credentials = Vec<(HeaderName, HeaderValue)>;

/// A query parameter that stands for what the question says itself: the place of the next page.
pub(super) struct Parameter<'a> {
    pub(super) name: &'a str,
    pub(super) value: &'a str,
}

impl Asking {
    pub(super) fn templates(&self) -> impl Iterator<Item = &Template> {
        let query = self.query.iter().map(|(_, template)| template);
        let headers = self.headers.iter().map(|(_, template)| template);
        std::iter::once(&self.path).chain(query).chain(headers).chain(&self.body)
    }

    pub(super) const fn method(&self) -> Method {
        if self.body.is_some() { Method::POST } else { Method::GET }
    }

    /// Fills it in.
    ///
    /// # Errors
    /// Why it cannot be asked; never with a value in it.
    pub(super) fn question(
        &self,
        values: &Values<'_>,
        credentials: &Credentials,
        page: Option<&Parameter<'_>>,
    ) -> Result<Request<Bytes>, String> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let body = match &self.body {
            None => Bytes::new(),
            Some(template) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                document(template, values)?
            }
        };
        for (name, template) in &self.headers {
            let value = template.render(values).map_err(|why| format!("{name}: {why}"))?;
            let value = HeaderValue::from_str(&value)
                .map_err(|_| format!("header {name}: it has characters no header may have"))?;
            headers.insert(name, value);
        }
        request(self.method(), &self.target(values, page)?, headers, credentials, body)
    }

    fn target(&self, values: &Values<'_>, page: Option<&Parameter<'_>>) -> Result<String, String> {
        let mut target = self.path.render(values).map_err(|why| format!("path: {why}"))?;
        check_path(&target)?;
        let mut separator = '?';
        let mut push = |name: &str, value: &str| {
            target.push(separator);
            target.extend(utf8_percent_encode(name, UNRESERVED));
            target.push('=');
            target.extend(utf8_percent_encode(value, UNRESERVED));
            separator = '&';
        };
        for (name, template) in &self.query {
            if page.is_some_and(|page| page.name == name) {
                continue;
            }
            let value = template.render(values).map_err(|why| format!("query {name}: {why}"))?;
            push(name, &value);
        }
        if let Some(page) = page {
            push(page.name, page.value);
        }
        Ok(target)
    }
}

/// The question for what is at this path and query of the provider.
pub(super) fn located(target: &str, credentials: &Credentials) -> Result<Request<Bytes>, String> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    request(Method::GET, target, headers, credentials, Bytes::new())
}

fn request(
    method: Method,
    target: &str,
    mut headers: HeaderMap,
    credentials: &Credentials,
    body: Bytes,
) -> Result<Request<Bytes>, String> {
    for (name, value) in credentials {
        headers.insert(name, value.clone());
    }
    let request = Request::builder().method(method).uri(target).body(body);
    let mut request = request.map_err(|_| "the path and query make no URI".to_owned())?;
    *request.headers_mut() = headers;
    Ok(request)
}

fn document(template: &Template, values: &Values<'_>) -> Result<Bytes, String> {
    let text = template.render(values).map_err(|why| format!("body: {why}"))?;
    json::parse(text.as_bytes()).map_err(|why| format!("body: {why}"))?;
    Ok(text.into())
}

/// Whether a rendered path stays where its author meant it to.
pub(super) fn check_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') || path.starts_with("//") || path.contains(['?', '#', '\\']) {
        return Err("path: expected /a/b without ?, # and \\".to_owned());
    }
    let leads_away = |segment: &str| {
        let decoded = percent_decode_str(segment).decode_utf8_lossy();
        decoded == "." || decoded == ".."
    };
    if path.split('/').any(leads_away) {
        return Err("path: a segment is . or ..".to_owned());
    }
    Ok(())
}
