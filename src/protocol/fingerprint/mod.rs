//! What must match on a retry: a keyed digest of method, path, query, headers and body.

use http::HeaderName;
use serde::{Deserialize, Serialize};

use super::key::{Secret, SecretId};

mod canonical;

pub use canonical::canonical_digest;

/// A keyed digest of a request's meaning, and which secret made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The secret it was made with.
    pub secret: SecretId,
    /// HMAC-SHA-256 of the canonical digest.
    pub digest: [u8; 32],
}

/// What is left out of a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ignore {
    /// What an RFC 6901 pointer into a JSON body names; never the whole body.
    Json(String),
    /// A field of a form body.
    Form(String),
}

/// How a route's fingerprints are made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FingerprintRules {
    /// Headers that count, beside the content type.
    pub headers: Vec<HeaderName>,
    /// Parts of the body that do not.
    pub ignore: Vec<Ignore>,
}

/// A request's fingerprint under every configured secret, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprints(Vec<Fingerprint>);

/// Whether a request is the one that a record was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matched {
    /// It is.
    Same,
    /// It is not.
    Other,
    /// The record's fingerprint was made with a secret that is not configured here.
    UnknownSecret,
}

impl Fingerprints {
    /// Digests a canonical digest under every secret, newest first. At least one is needed.
    pub fn new(secrets: &[Secret], canonical: &[u8; 32]) -> Self {
        assert!(!secrets.is_empty(), "at least one fingerprint secret");
        let digest = |secret: &Secret| Fingerprint {
            secret: secret.id(),
            digest: secret.digest("semel fingerprint", &[canonical]),
        };
        Self(secrets.iter().map(digest).collect())
    }

    /// The one that new records get.
    pub fn newest(&self) -> Fingerprint {
        self.0[0]
    }

    /// Compares with a record's.
    pub fn matches(&self, record: &Fingerprint) -> Matched {
        match self.0.iter().find(|ours| ours.secret == record.secret) {
            Some(ours) if ours.digest == record.digest => Matched::Same,
            Some(_) => Matched::Other,
            None => Matched::UnknownSecret,
        }
    }
}
