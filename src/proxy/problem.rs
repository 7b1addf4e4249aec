//! Answers of semel's own: problem details (RFC 9457), marked as semel's (RFC 9209).
//!
//! The constants below are the one table of them; `docs/problems.md` explains each. What a problem says
//! by default can be made more precise, never less true.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, LINK, RETRY_AFTER,
};
use http::{Response, StatusCode};
use serde::Serialize;

/// Where the explanations are. Part of the contract: callers compare whole URIs.
pub const TYPE_BASE: &str = "https://semel.dev/problems/";

/// Where the published idempotency contract is, on the port that answered.
const CONTRACT: &str = "/.well-known/semel/contract";

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const SEMEL_ANSWER: HeaderName = HeaderName::from_static("semel-answer");
const SEMEL_OPERATION: HeaderName = HeaderName::from_static("semel-operation");

/// Which problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slug {
    /// A key is needed, and there is none.
    KeyMissing,
    /// What stands where the key should be is none.
    KeyInvalid,
    /// The key was used for something else.
    KeyReused,
    /// The business key is bound to something else.
    BusinessKeyReused,
    /// The operation is in flight, and the route's duplicates do not wait.
    OperationInFlight,
    /// Nobody knows yet what became of the operation.
    OutcomeUnknown,
    /// The request's body is over its limit.
    BodyTooLarge,
    /// No record can be kept.
    StoreUnavailable,
    /// Nothing was sent.
    UpstreamUnreachable,
    /// Too many at once.
    Overloaded,
    /// This process is on its way out.
    Draining,
    /// The operation is over, and its answer is not kept.
    ReplyNotKept,
    /// The operation was never applied: the payment API does not know it.
    NeverApplied,
    /// The front door refuses.
    MalformedRequest,
    /// The request did not come in time.
    RequestTimeout,
    /// No such operation.
    NotFound,
    /// Our own bug.
    Internal,
}

/// Whether the payment API can have got it: the operation that the request was found to belong to,
/// or, where semel refuses before it has looked, this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sent {
    /// Certainly not.
    No,
    /// Certainly.
    Yes,
    /// It may have.
    Unknown,
}

/// What the caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retry {
    /// Ask again with the same key: never a second payment.
    SameKey,
    /// It is another operation: give it a key of its own.
    NewKey,
    /// Nothing changes by asking again.
    No,
}

/// What `Semel-Answer` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Answer {
    Refused,
    Unknown,
    Released,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
struct Entry {
    slug: &'static str,
    status: StatusCode,
    title: &'static str,
    detail: &'static str,
    sent: Sent,
    retry: Retry,
    answer: Answer,
    /// The proxy error type of RFC 9209.
    error: &'static str,
}

const KEY_MISSING: Entry = Entry {
    slug: "key-missing",
    status: StatusCode::BAD_REQUEST,
    title: "an idempotency key is needed",
    detail: "this request needs an idempotency key and has none; nothing was sent",
    sent: Sent::No,
    retry: Retry::NewKey,
    answer: Answer::Refused,
    error: "http_request_error",
};

const KEY_INVALID: Entry = Entry {
    slug: "key-invalid",
    status: StatusCode::BAD_REQUEST,
    title: "not an idempotency key",
    detail: "an idempotency key has 1 to 255 bytes, none of them a control \
             character; nothing was sent",
    sent: Sent::No,
    retry: Retry::NewKey,
    answer: Answer::Refused,
    error: "http_request_error",
};

const KEY_REUSED: Entry = Entry {
    slug: "key-reused",
    status: StatusCode::UNPROCESSABLE_ENTITY,
    title: "this key belongs to another request",
    detail: "the key was used before with other content; this request was not sent, \
             and the earlier operation is untouched",
    sent: Sent::No,
    retry: Retry::NewKey,
    answer: Answer::Refused,
    error: "http_request_denied",
};

const BUSINESS_KEY_REUSED: Entry = Entry {
    slug: "business-key-reused",
    status: StatusCode::UNPROCESSABLE_ENTITY,
    title: "this business operation is bound to another request",
    detail: "a request with other content, under another key, names the same business operation, \
             and is under way or has succeeded; this one was not sent, and that is untouched",
    sent: Sent::No,
    retry: Retry::No,
    answer: Answer::Refused,
    error: "http_request_denied",
};

const OPERATION_IN_FLIGHT: Entry = Entry {
    slug: "operation-in-flight",
    status: StatusCode::CONFLICT,
    title: "the operation is in flight",
    detail: "an earlier request with this key is under way; ask again with the same key",
    sent: Sent::Unknown,
    retry: Retry::SameKey,
    answer: Answer::Refused,
    error: "http_request_denied",
};

const OUTCOME_UNKNOWN: Entry = Entry {
    slug: "outcome-unknown",
    status: StatusCode::GATEWAY_TIMEOUT,
    title: "the outcome is not known yet",
    detail: "not a failure; ask again with the same key, or follow Location",
    sent: Sent::Unknown,
    retry: Retry::SameKey,
    answer: Answer::Unknown,
    error: "http_response_timeout",
};

const BODY_TOO_LARGE: Entry = Entry {
    slug: "body-too-large",
    status: StatusCode::PAYLOAD_TOO_LARGE,
    title: "the body is too large",
    detail: "the request's body is over this route's limit; nothing was sent",
    sent: Sent::No,
    retry: Retry::No,
    answer: Answer::Refused,
    error: "http_request_error",
};

const STORE_UNAVAILABLE: Entry = Entry {
    slug: "store-unavailable",
    status: StatusCode::SERVICE_UNAVAILABLE,
    title: "no record can be kept",
    detail: "this request was not sent; an earlier one with the same key may have \
             been, so ask again with the same key",
    sent: Sent::No,
    retry: Retry::SameKey,
    answer: Answer::Refused,
    error: "proxy_internal_error",
};

const UPSTREAM_UNREACHABLE: Entry = Entry {
    slug: "upstream-unreachable",
    status: StatusCode::BAD_GATEWAY,
    title: "the payment API was not reached",
    detail: "nothing was sent; safe to try again",
    sent: Sent::No,
    retry: Retry::SameKey,
    answer: Answer::Released,
    error: "destination_unavailable",
};

const OVERLOADED: Entry = Entry {
    slug: "overloaded",
    status: StatusCode::SERVICE_UNAVAILABLE,
    title: "too many requests at once",
    detail: "this request was not sent; ask again with the same key",
    sent: Sent::No,
    retry: Retry::SameKey,
    answer: Answer::Refused,
    error: "proxy_internal_response",
};

const DRAINING: Entry = Entry {
    slug: "draining",
    status: StatusCode::SERVICE_UNAVAILABLE,
    title: "this process is shutting down",
    detail: "this request was not sent; ask again with the same key",
    sent: Sent::No,
    retry: Retry::SameKey,
    answer: Answer::Refused,
    error: "proxy_internal_response",
};

const REPLY_NOT_KEPT: Entry = Entry {
    slug: "reply-not-kept",
    status: StatusCode::CONFLICT,
    title: "over, but the answer is not kept",
    detail: "the operation is settled; its answer was too large or is no longer kept",
    sent: Sent::Yes,
    retry: Retry::No,
    answer: Answer::Refused,
    error: "proxy_internal_response",
};

const NEVER_APPLIED: Entry = Entry {
    slug: "never-applied",
    status: StatusCode::FAILED_DEPENDENCY,
    title: "the operation was never applied",
    detail: "the answer was lost, and the payment API, asked again and again, does not know the \
             operation; it is over, and this key stays used",
    sent: Sent::Unknown,
    retry: Retry::NewKey,
    answer: Answer::Refused,
    error: "destination_not_found",
};

const MALFORMED_REQUEST: Entry = Entry {
    slug: "malformed-request",
    status: StatusCode::BAD_REQUEST,
    title: "not a request that can be forwarded safely",
    detail: "the front door refuses this request; nothing was sent",
    sent: Sent::No,
    retry: Retry::No,
    answer: Answer::Refused,
    error: "http_request_error",
};

const REQUEST_TIMEOUT: Entry = Entry {
    slug: "request-timeout",
    status: StatusCode::REQUEST_TIMEOUT,
    title: "the request did not come in time",
    detail: "the request was not complete in time; nothing was sent",
    sent: Sent::No,
    retry: Retry::SameKey,
    answer: Answer::Refused,
    error: "http_request_error",
};

const NOT_FOUND: Entry = Entry {
    slug: "not-found",
    status: StatusCode::NOT_FOUND,
    title: "no such operation",
    detail: "no operation is remembered under this name",
    sent: Sent::Unknown,
    retry: Retry::No,
    answer: Answer::Refused,
    error: "proxy_internal_response",
};

const INTERNAL: Entry = Entry {
    slug: "internal",
    status: StatusCode::INTERNAL_SERVER_ERROR,
    title: "an error inside semel",
    detail: "not a failure of the payment; ask again with the same key",
    sent: Sent::Unknown,
    retry: Retry::SameKey,
    answer: Answer::Unknown,
    error: "proxy_internal_error",
};

impl Slug {
    /// All of them, in the order of the docs.
    pub const ALL: [Self; 17] = [
        Self::KeyMissing,
        Self::KeyInvalid,
        Self::KeyReused,
        Self::BusinessKeyReused,
        Self::OperationInFlight,
        Self::OutcomeUnknown,
        Self::BodyTooLarge,
        Self::StoreUnavailable,
        Self::UpstreamUnreachable,
        Self::Overloaded,
        Self::Draining,
        Self::ReplyNotKept,
        Self::NeverApplied,
        Self::MalformedRequest,
        Self::RequestTimeout,
        Self::NotFound,
        Self::Internal,
    ];

    /// How it is written.
    pub const fn as_str(self) -> &'static str {
        self.entry().slug
    }

    const fn entry(self) -> Entry {
        match self {
            Self::KeyMissing => KEY_MISSING,
            Self::KeyInvalid => KEY_INVALID,
            Self::KeyReused => KEY_REUSED,
            Self::BusinessKeyReused => BUSINESS_KEY_REUSED,
            Self::OperationInFlight => OPERATION_IN_FLIGHT,
            Self::OutcomeUnknown => OUTCOME_UNKNOWN,
            Self::BodyTooLarge => BODY_TOO_LARGE,
            Self::StoreUnavailable => STORE_UNAVAILABLE,
            Self::UpstreamUnreachable => UPSTREAM_UNREACHABLE,
            Self::Overloaded => OVERLOADED,
            Self::Draining => DRAINING,
            Self::ReplyNotKept => REPLY_NOT_KEPT,
            Self::NeverApplied => NEVER_APPLIED,
            Self::MalformedRequest => MALFORMED_REQUEST,
            Self::RequestTimeout => REQUEST_TIMEOUT,
            Self::NotFound => NOT_FOUND,
            Self::Internal => INTERNAL,
        }
    }
}

/// An answer of semel's own, before it becomes HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which.
    pub slug: Slug,
    /// Its status: the slug's own, unless the front door knows a better one.
    pub status: StatusCode,
    /// One line for people.
    pub title: &'static str,
    /// What is the case, and what to do.
    pub detail: Cow<'static, str>,
    /// The operation's public id.
    pub operation: Option<String>,
    /// The operation's state, as the glossary has it.
    pub state: Option<&'static str>,
    /// Whether the payment API can have got it.
    pub sent: Sent,
    /// What the caller can do.
    pub retry: Retry,
    /// What the upstream answered, where that is known and its answer is not handed on.
    pub upstream_status: Option<u16>,
    /// After how long asking again makes sense.
    pub retry_after: Option<Duration>,
    /// Whether the connection ends with this answer.
    pub close: bool,
}

/// The body, in the order in which people read it.
#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a str>,
    sent: Sent,
    retry: Retry,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_status: Option<u16>,
}

impl Problem {
    /// The problem as its slug has it.
    pub fn new(slug: Slug) -> Self {
        let entry = slug.entry();
        Self {
            slug,
            status: entry.status,
            title: entry.title,
            detail: Cow::Borrowed(entry.detail),
            operation: None,
            state: None,
            sent: entry.sent,
            retry: entry.retry,
            upstream_status: None,
            retry_after: None,
            close: false,
        }
    }

    /// Its explanation's address.
    pub fn type_uri(&self) -> String {
        format!("{TYPE_BASE}{}", self.slug.as_str())
    }

    /// Its body, as `application/problem+json`.
    pub fn body(&self) -> Bytes {
        let body = Body {
            r#type: self.type_uri(),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            operation: self.operation.as_deref(),
            state: self.state,
            sent: self.sent,
            retry: self.retry,
            upstream_status: self.upstream_status,
        };
        // Strings and numbers only, so there is nothing to fail at; and an empty body is still
        // marked by its headers.
        serde_json::to_vec(&body).map(Bytes::from).unwrap_or_default()
    }

    /// The HTTP answer.
    pub fn response(&self) -> Response<Bytes> {
        let entry = self.slug.entry();
        let mut response = Response::new(self.body());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let mut set = |name, text: &str| {
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        };
        set(PROXY_STATUS, &format!("semel; error={}", entry.error));
        set(SEMEL_ANSWER, entry.answer.as_str());
        if let Some(operation) = &self.operation {
            set(SEMEL_OPERATION, operation);
        }
        if let Some(after) = self.retry_after {
            // Whole seconds, and never "at once".
            set(RETRY_AFTER, &after.as_secs_f64().ceil().max(1.0).to_string());
        }
        if self.close {
            set(CONNECTION, "close");
        }
        if self.slug == Slug::KeyMissing {
            // Where it says where keys belong.
            set(LINK, &format!("<{CONTRACT}>; rel=\"describedby\""));
        }
        response
    }

    /// The whole answer as bytes, for a connection that is not to be served, and is closed.
    pub fn canned(&self) -> Bytes {
        let response = Self { close: true, ..self.clone() }.response();
        let mut head = format!("HTTP/1.1 {}\r\n", response.status());
        for (name, value) in response.headers() {
            // All of them were made from text above.
            let value = value.to_str().unwrap_or_default();
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let _ = write!(head, "content-length: {}\r\n\r\n", response.body().len());
        let mut whole = head.into_bytes();
        whole.extend_from_slice(response.body());
        whole.into()
    }
}

impl Answer {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::Released => "released",
        }
    }
}
