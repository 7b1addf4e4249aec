//! Answers and look-up values at rest: encrypted, and bound to the record they belong to.
//!
//! XChaCha20-Poly1305 with a random nonce of 192 bits (so that random ones do not collide), the
//! record key, attempt and fingerprint as associated data: a sealed text that was moved to another
//! record does not open.

use bytes::Bytes;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};

use super::fingerprint::Fingerprint;
use super::id::{AttemptId, RecordKey};
use super::key::{Secret, SecretId};

/// An encrypted text with what is needed to open it but the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    secret: SecretId,
    nonce: Nonce,
    // Not a `Vec`, whose bytes serde would take and give one by one; the form is the same.
    text: Bytes,
}

/// A number used once. The caller draws it at random.
pub type Nonce = [u8; 24];

/// What a sealed text is bound to.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    /// Where the record is.
    pub key: RecordKey,
    /// Whose claim it is.
    pub attempt: AttemptId,
    /// What it is about.
    pub fingerprint: &'a Fingerprint,
    /// Which text of the record, so that two texts of one record are not exchanged.
    pub part: &'static str,
}

impl Binding<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(self.key.as_bytes());
        bytes.extend_from_slice(self.attempt.as_bytes());
        bytes.extend_from_slice(&self.fingerprint.digest);
        bytes.extend_from_slice(self.part.as_bytes());
        bytes
    }
}

/// The secrets that seal: the newest seals, all of them open.
#[derive(Debug, Clone)]
pub struct Seals {
    newest: Secret,
    older: Vec<Secret>,
}

/// A sealed text that does not open: another secret, another record, or damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsealable {
    /// The secret it was sealed with is not configured here.
    #[error("sealed with a secret that this process does not have")]
    UnknownSecret,
    /// It belongs to another record, or was changed.
    #[error("the seal is broken")]
    Broken,
}

impl Seals {
    /// Takes the secrets, newest first.
    pub fn new(newest: Secret, older: Vec<Secret>) -> Self {
        Self { newest, older }
    }

    /// Encrypts.
    pub fn seal(&self, nonce: Nonce, binding: Binding<'_>, text: &[u8]) -> Sealed {
        let aad = binding.bytes();
        let payload = Payload { msg: text, aad: &aad };
        // The cipher fails only for texts of over 256 GiB, which no limit of ours lets through.
        let text = cipher(&self.newest).encrypt(&XNonce::from(nonce), payload).unwrap_or_default();
        assert!(!text.is_empty(), "a sealed text has at least its tag");
        Sealed { secret: self.newest.id(), nonce, text: text.into() }
    }

    /// Decrypts, after checking that the text belongs here.
    ///
    /// # Errors
    /// [`Unsealable`]; the record is then unreadable, which is never "absent".
    pub fn open(&self, binding: Binding<'_>, sealed: &Sealed) -> Result<Vec<u8>, Unsealable> {
        let secret = std::iter::once(&self.newest)
            .chain(&self.older)
            .find(|secret| secret.id() == sealed.secret)
            .ok_or(Unsealable::UnknownSecret)?;
        let aad = binding.bytes();
        let payload = Payload { msg: &sealed.text, aad: &aad };
        cipher(secret).decrypt(&XNonce::from(sealed.nonce), payload).map_err(|_| Unsealable::Broken)
    }
}

fn cipher(secret: &Secret) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(*secret.bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint() -> Fingerprint {
        Fingerprint { secret: SecretId::new([1; 4]), digest: [5; 32] }
    }

    fn binding(fingerprint: &Fingerprint) -> Binding<'_> {
        Binding {
            key: RecordKey::new([1; 16]),
            attempt: AttemptId::new([2; 16]),
            fingerprint,
            part: "reply",
        }
    }

    #[test]
    fn what_was_sealed_before_a_rotation_still_opens() {
        let (old, new) = (Secret::new([1; 32]), Secret::new([2; 32]));
        let fingerprint = fingerprint();
        let before = Seals::new(old.clone(), vec![]);
        let sealed = before.seal([7; 24], binding(&fingerprint), b"paid");

        let after = Seals::new(new.clone(), vec![old]);

        assert_eq!(after.open(binding(&fingerprint), &sealed).as_deref(), Ok(&b"paid"[..]));
        assert_eq!(
            Seals::new(new, vec![]).open(binding(&fingerprint), &sealed),
            Err(Unsealable::UnknownSecret)
        );
    }

    #[test]
    fn a_text_moved_to_another_record_does_not_open() {
        let seals = Seals::new(Secret::new([1; 32]), vec![]);
        let fingerprint = fingerprint();
        let sealed = seals.seal([7; 24], binding(&fingerprint), b"paid");

        let elsewhere = Binding { key: RecordKey::new([9; 16]), ..binding(&fingerprint) };
        let other_part = Binding { part: "inputs", ..binding(&fingerprint) };

        assert_eq!(seals.open(elsewhere, &sealed), Err(Unsealable::Broken));
        assert_eq!(seals.open(other_part, &sealed), Err(Unsealable::Broken));
    }
}
