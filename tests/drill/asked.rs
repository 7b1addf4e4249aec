//! The routes whose payment API is asked what became of an operation: one per strategy, and one per
//! policy of what its answers mean. Part of the config of every process.

/// Captures of the first payment. Asked by the id in their own path.
pub(crate) const CAPTURES: &str = "/v1/payments/payment_1/captures";
/// Asked for a list of two to a page, three pages at the most.
pub(crate) const LISTED: &str = "/v1/listed";
/// How many are on a page of that list, and how many pages of it are read.
pub(crate) const PAGE: usize = 2;
pub(crate) const PAGES: usize = 3;
/// Asked by a POST search.
pub(crate) const SEARCHED: &str = "/v1/searched";
/// Asked in GraphQL.
pub(crate) const GRAPHQL: &str = "/graphql";
/// Payments for the first order. Asked in two steps: which order, and what was paid for it.
pub(crate) const ORDERED: &str = "/v1/orders/order_1/payments";
/// Asked where the 202 says.
pub(crate) const FOLLOWED: &str = "/v1/followed";
/// Sent again under the same key, and never asked.
pub(crate) const RESENT: &str = "/v1/resent";
/// Asked; says by status and header what answers mean, and what a decline is answered with.
pub(crate) const RULED: &str = "/v1/ruled";
/// Adyen's: a field of the body says that an answer proves nothing; sent again.
pub(crate) const CODED: &str = "/payments";
/// What is absent stays in doubt.
pub(crate) const HOLDING: &str = "/v1/holding";
/// What is absent for long enough has failed.
pub(crate) const FAILING: &str = "/v1/failing";
/// What is absent for long enough may be sent again.
pub(crate) const REOPENING: &str = "/v1/reopening";

/// The routes, as they stand in the config.
pub(crate) fn routes() -> String {
    const TIMES: &str = "max_wait: 2500ms, upstream_timeout: 3s, lookup_after: 500ms, lease: 1s";
    const STATE: &str = "timeout: 400ms, reply: { status: 201, failed: { status: 402 } }, state: \
        { path: $.status, succeeded: [succeeded], accepted: [processing], failed: [failed] }";
    const MINE: &str = "[?@.reference == {{ body.reference | json }}]";
    ROUTES.replace("TIMES", TIMES).replace("STATE", STATE).replace("MINE", MINE)
}

const ROUTES: &str = r#"
  - { match: { path: "/v1/payments/{id}/captures" }, TIMES, lookup: {
      request: { path: "/v1/payments/{{ path.id }}" }, item: "$.capturesMINE", STATE } }
  - { match: { path: /v1/listed }, TIMES, lookup: {
      request: { path: /v1/listed, query: { limit: "2" } }, item: "$.dataMINE",
      next: { query: starting_after, from: "$.data[-1].id", while: $.has_more, pages: 3 },
      created: { path: $.created, skew: 5m }, STATE } }
  - { match: { path: /v1/searched }, TIMES, lookup: {
      request: { method: POST, path: /v1/searched/search,
        body: '{ "reference": {{ body.reference }} }' }, item: "$.dataMINE", STATE } }
  - { match: { path: /graphql }, TIMES, lookup: {
      request: { method: POST, path: /graphql, body: '{ "query": "query { search }",
        "variables": { "orderId": {{ body.variables.input.transaction.orderId }} } }' },
      errors: $.errors, item: "$.data.search.payments.edges[*].node", STATE } }
  - { match: { path: "/v1/orders/{id}/payments" }, TIMES, lookup: {
      request: { path: /v1/orders, query: { receipt: "{{ body.reference }}" } },
      item: "$.data[*]", then: { request: { path: "/v1/orders/{{ item.id }}/payments" },
        item: "$.dataMINE" }, STATE } }
  - { match: { path: /v1/followed }, TIMES, lookup: { location: { item: $ }, STATE } }
  - { match: { path: /v1/resent }, max_wait: 6s, upstream_timeout: 1s, lookup_after: 500ms,
      lease: 1s, lookup: { resend: { within: 1h } } }
  - { match: { path: /payments }, TIMES, lookup: { resend: { within: 1h } }, outcomes: [
      { status: 4xx, body: { json: /errorCode, values: ["704"] }, is: unknown } ] }
  - match: { path: /v1/ruled }
    max_wait: 2500ms
    upstream_timeout: 3s
    lookup_after: 500ms
    lease: 1s
    outcomes:
      - { status: 409, is: unknown }
      - { header: { name: transient-error, values: ["true"] }, is: unknown }
    lookup:
      request: { path: "/v1/ruled/by-reference/{{ body.reference }}" }
      state: { path: $.status, succeeded: [succeeded], failed: [failed] }
      reply:
        status: 201
        failed:
          status: 402
          headers: { x-looked-up: "1" }
          body: { template: '{ "error": { "code": "card_declined", "payment": {{ item }} } }' }
      timeout: 400ms
  - { match: { path: /v1/holding }, TIMES, lookup: {
      request: { path: "/v1/holding/by-reference/{{ body.reference }}" },
      absent: { then: hold }, STATE } }
  - { match: { path: /v1/failing }, TIMES, lookup: {
      request: { path: "/v1/failing/by-reference/{{ body.reference }}" },
      absent: { then: fail, after: 300ms, times: 2 }, STATE } }
  - { match: { path: /v1/reopening }, TIMES, lookup: {
      request: { path: "/v1/reopening/by-reference/{{ body.reference }}" },
      absent: { then: reopen, after: 300ms, times: 2 }, STATE } }
"#;
