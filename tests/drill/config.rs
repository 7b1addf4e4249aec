//! The config that every process of the drill has: one route per policy, all times short.

use std::net::SocketAddr;
use std::path::Path;

use crate::{asked, named};

/// Guarded with nothing but times: what is unknown stays so until an operator acts.
pub(crate) const PLAIN: &str = "/v1/payments";
/// As [`PLAIN`], with a look-up.
pub(crate) const LOOKED: &str = "/v1/looked";
/// Duplicates wait for less time than the upstream may take.
pub(crate) const HASTY: &str = "/v1/hasty";
/// A key is needed, and duplicates in flight are refused.
pub(crate) const STRICT: &str = "/v1/strict";
/// Small bodies, small answers, one waiter.
pub(crate) const SMALL: &str = "/v1/small";
/// Counts what it would have refused.
pub(crate) const OBSERVED: &str = "/v1/observed";
/// Sends without a store if need be.
pub(crate) const PASSING: &str = "/v1/passing";

/// The upstream may take long.
pub(crate) const SLOW: &str = "/v1/slow";

/// Answers are soon forgotten, keys are not.
pub(crate) const FORGETFUL: &str = "/v1/forgetful";

/// The token of the operator.
pub(crate) const TOKEN: &str = "the-operator-of-the-drill";

/// The config as YAML. `store` is what stands under that name.
pub(crate) fn yaml(provider: SocketAddr, store: &str, secret: &Path) -> String {
    let secret = secret.display();
    let times = "upstream_timeout: 3s, lookup_after: 500ms, lease: 1s";
    let own = format!(
        r#"listen: 127.0.0.1:0
admin: {{ listen: 127.0.0.1:0, token: {{ value: {TOKEN} }} }}
store: {{ {store} }}
secret: {{ file: {secret} }}
upstreams:
  practice: {{ url: "http://{provider}" }}
  stripe: {{ url: "http://{provider}", preset: stripe,
    lookup_credentials: {{ authorization: {{ value: Bearer shop }} }} }}
drain: 4s
routes:
  - {{ match: {{ path: {PLAIN} }}, max_wait: 6s, {times} }}
  - {{ match: {{ path: {HASTY} }}, max_wait: 200ms, {times} }}
  - {{ match: {{ path: {STRICT} }}, max_wait: 6s, {times},
      key: {{ missing: reject }}, duplicates: conflict }}
  - {{ match: {{ path: {SMALL} }}, max_wait: 6s, {times},
      limits: {{ request_body: 1KiB, response_body: 1KiB, waiters: 1 }} }}
  - {{ match: {{ path: {OBSERVED} }}, name: observed, max_wait: 6s, {times}, mode: observe }}
  - {{ match: {{ path: {PASSING} }}, max_wait: 6s, {times}, on_store_failure: pass }}
  - {{ match: {{ path: {FORGETFUL} }}, max_wait: 6s, {times}, retention: 1s, remember: 1h }}
  - {{ match: {{ path: {SLOW} }}, max_wait: 60s, upstream_timeout: 60s, lease: 1s }}
  - match: {{ path: {LOOKED} }}
    max_wait: 2500ms
    upstream_timeout: 3s
    lookup_after: 500ms
    lease: 1s
    lookup:
      request: {{ path: {LOOKED}, query: {{ reference: "{{{{ body.reference }}}}" }} }}
      item: "$.data[0]"
      state: {{ path: "$.status", succeeded: [succeeded], accepted: [processing] }}
      reply: {{ status: 201 }}
      timeout: 400ms
"#
    );
    own + asked::routes().trim_start_matches('\n') + named::routes().trim_start_matches('\n')
}
