//! The routes whose operations have other names than their keys: business keys, content, references.
//! Part of the config of every process.

/// An order is paid once.
pub(crate) const ORDERED_ONCE: &str = "/v1/ordered-once";
/// As [`ORDERED_ONCE`], for a second.
pub(crate) const ORDERED_BRIEFLY: &str = "/v1/ordered-briefly";
/// As [`ORDERED_ONCE`], with a look-up.
pub(crate) const ORDERED_LOOKED: &str = "/v1/ordered-looked";
/// Another key is another payment, whatever became of the first.
pub(crate) const IGNORING: &str = "/v1/ignoring";
/// Has a reference put into it, and is asked for by that.
pub(crate) const REFERRED: &str = "/v1/referred";
/// Stripe's, by its preset.
pub(crate) const STRIPE: &str = "/v1/payment_intents";

/// The routes, as they stand in the config.
pub(crate) fn routes() -> String {
    const TIMES: &str = "upstream_timeout: 3s, lookup_after: 500ms, lease: 1s";
    ROUTES.replace("TIMES", TIMES)
}

const ROUTES: &str = r#"
  - { match: { path: /v1/ordered-once }, max_wait: 6s, TIMES,
      business_key: { fields: [{ json: /order }] } }
  - { match: { path: /v1/ordered-briefly }, max_wait: 6s, TIMES,
      business_key: { fields: [{ json: /order }], window: 1s } }
  - { match: { path: /v1/ordered-looked }, max_wait: 2500ms, TIMES,
      business_key: { fields: [{ json: /order }] }, lookup: {
        request: { path: "/v1/ordered-looked/by-reference/{{ body.reference }}" },
        timeout: 400ms, reply: { status: 201 } } }
  - { match: { path: /v1/ignoring }, max_wait: 6s, TIMES, orphans: ignore }
  - { match: { path: /v1/referred }, max_wait: 2500ms, TIMES,
      reference: { into: { json: /reference } }, lookup: {
        request: { path: "/v1/referred/by-reference/{{ reference }}" },
        timeout: 400ms, reply: { status: 201 } } }
"#;
