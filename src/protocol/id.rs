//! The names of things: record keys, attempts, tokens, operations, processes.
//!
//! All are opaque bytes. Where randomness is needed the caller brings it; where a secret is needed
//! see [`super::key`].

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

const HEX: &[u8; 16] = b"0123456789abcdef";

macro_rules! opaque {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name([u8; $len]);

        impl $name {
            /// How many bytes it has.
            pub const LEN: usize = $len;

            /// Takes bytes as they are.
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Reads lower or upper case hexadecimal of exactly the right length.
            pub fn from_hex(text: &str) -> Option<Self> {
                let text = text.as_bytes();
                if text.len() != $len * 2 {
                    return None;
                }
                let mut bytes = [0; $len];
                for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
                    let high = (pair[0] as char).to_digit(16)?;
                    let low = (pair[1] as char).to_digit(16)?;
                    *byte = u8::try_from(high * 16 + low).ok()?;
                }
                Some(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = String::with_capacity($len * 2);
                for byte in self.0 {
                    text.push(char::from(HEX[usize::from(byte >> 4)]));
                    text.push(char::from(HEX[usize::from(byte & 15)]));
                }
                f.write_str(&text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

opaque!(
    /// Where a record or a pointer is stored: a keyed digest, never the caller's own key.
    RecordKey, 16
);
opaque!(
    /// One owner's forwarding of one claim. Drawn at random, never reused.
    AttemptId, 16
);
opaque!(
    /// One running semel process. Drawn at random when it starts.
    ProcessId, 8
);
opaque!(
    /// One store, for as long as it loses nothing it acknowledged.
    StoreId, 16
);

/// Names one write: the attempt that made it and how many it had made before.
///
/// A swap names the write that it replaces, so a swap that arrives twice or late finds another
/// token and changes nothing. A count per key would not do: after a loss it comes round again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Token {
    /// Who wrote.
    pub attempt: AttemptId,
    /// Which of its writes, from 0.
    pub write: u32,
}

impl Token {
    /// How many bytes [`Self::to_bytes`] yields.
    pub const LEN: usize = AttemptId::LEN + 4;

    /// The first write of an attempt.
    pub const fn first(attempt: AttemptId) -> Self {
        Self { attempt, write: 0 }
    }

    /// The write after this one by the same attempt.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { attempt: self.attempt, write: self.write + 1 }
    }

    /// The form that stores compare: attempt, then the count in big-endian order.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..AttemptId::LEN].copy_from_slice(self.attempt.as_bytes());
        bytes[AttemptId::LEN..].copy_from_slice(&self.write.to_be_bytes());
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (attempt, write) = bytes.split_at_checked(AttemptId::LEN)?;
        Some(Self {
            attempt: AttemptId::new(attempt.try_into().ok()?),
            write: u32::from_be_bytes(write.try_into().ok()?),
        })
    }
}

/// The public name of an operation: unguessable, and belonging to one claim.
///
/// It carries the record key and the attempt, so that a state can be asked for in one round trip.
/// Both are useless without the store: the first is a keyed digest, the second random.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OperationId {
    /// Where its record is.
    pub key: RecordKey,
    /// Which claim on that record it means.
    pub attempt: AttemptId,
}

const OPERATION_PREFIX: &str = "op_";

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; RecordKey::LEN + AttemptId::LEN];
        bytes[..RecordKey::LEN].copy_from_slice(self.key.as_bytes());
        bytes[RecordKey::LEN..].copy_from_slice(self.attempt.as_bytes());
        write!(f, "{OPERATION_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl std::str::FromStr for OperationId {
    type Err = NotAnOperationId;

    fn from_str(text: &str) -> Result<Self, NotAnOperationId> {
        let text = text.strip_prefix(OPERATION_PREFIX).ok_or(NotAnOperationId)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NotAnOperationId)?;
        let (key, attempt) = bytes.split_at_checked(RecordKey::LEN).ok_or(NotAnOperationId)?;
        Ok(Self {
            key: RecordKey::new(key.try_into().map_err(|_| NotAnOperationId)?),
            attempt: AttemptId::new(attempt.try_into().map_err(|_| NotAnOperationId)?),
        })
    }
}

/// The text is not an operation id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an operation id: expected op_ and 43 characters of base64url")]
pub struct NotAnOperationId;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_id_survives_its_text() {
        let id = OperationId { key: RecordKey::new([7; 16]), attempt: AttemptId::new([9; 16]) };

        let text = id.to_string();

        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.len(), 3 + 43);
        assert_eq!("op_short".parse::<OperationId>(), Err(NotAnOperationId));
    }

    #[test]
    fn a_token_survives_its_bytes() {
        let token = Token { attempt: AttemptId::new([3; 16]), write: 0x0102_0304 };

        assert_eq!(Token::from_bytes(&token.to_bytes()), Some(token));
        assert_eq!(Token::from_bytes(&token.to_bytes()[1..]), None);
    }

    #[test]
    fn hexadecimal_is_read_back_and_nothing_else() {
        let key = RecordKey::new([0xab; 16]);

        assert_eq!(RecordKey::from_hex(&key.to_string()), Some(key));
        assert_eq!(RecordKey::from_hex("ab"), None);
        assert_eq!(RecordKey::from_hex(&"zz".repeat(16)), None);
    }
}
