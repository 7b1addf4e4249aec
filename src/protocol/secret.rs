//! Secrets, and the keyed digests made with them.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

/// 32 secret bytes that never show themselves.
#[derive(Clone)]
pub struct Secret {
    bytes: Zeroizing<[u8; 32]>,
    // The state that every digest with these bytes begins with, made once; wiped like them.
    mac: Hmac<Sha256>,
    id: SecretId,
}

/// Names a secret without telling it: the start of a keyed digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SecretId([u8; 4]);

impl SecretId {
    /// Takes bytes as they are.
    pub const fn new(bytes: [u8; 4]) -> Self {
        Self(bytes)
    }
}

impl Secret {
    /// Takes the bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        // HMAC takes a key of any length; the error is for other MACs.
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(&bytes) else {
            unreachable!("HMAC takes a key of any length")
        };
        let mut secret = Self { bytes: Zeroizing::new(bytes), mac, id: SecretId([0; 4]) };
        let digest = secret.digest("semel secret id", &[]);
        secret.id = SecretId([digest[0], digest[1], digest[2], digest[3]]);
        secret
    }

    /// The bytes, for ciphers.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Its name.
    pub const fn id(&self) -> SecretId {
        self.id
    }

    /// A check that two processes have the same secret, safe to store beside what it protects.
    pub fn check(&self) -> [u8; 16] {
        let digest = self.digest("semel secret check", &[]);
        let mut check = [0; 16];
        check.copy_from_slice(&digest[..16]);
        check
    }

    /// HMAC-SHA-256 over a domain and parts, each with its length in front, so that no two lists
    /// of parts run into each other.
    pub fn digest(&self, domain: &str, parts: &[&[u8]]) -> [u8; 32] {
        self.digest_after(domain, &Framed::default(), parts.iter().copied())
    }

    /// The same, with some parts framed before.
    pub(super) fn digest_after<'a>(
        &self,
        domain: &str,
        first: &Framed,
        last: impl IntoIterator<Item = &'a [u8]>,
    ) -> [u8; 32] {
        let mut mac = self.mac.clone();
        mac.update(&length(domain.as_bytes()));
        mac.update(domain.as_bytes());
        mac.update(&first.0);
        for part in last {
            mac.update(&length(part));
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        // The rest is made of them.
        self.bytes == other.bytes
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Parts with their lengths in front, as digests take them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Framed(Vec<u8>);

impl Framed {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    pub(super) fn part(&mut self, part: &[u8]) {
        self.0.extend_from_slice(&length(part));
        self.0.extend_from_slice(part);
    }
}

/// What stands in front of a part.
const fn length(part: &[u8]) -> [u8; 8] {
    (part.len() as u64).to_be_bytes()
}
