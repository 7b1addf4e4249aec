//! Texts with a form of their own in the config file: durations, sizes, secrets.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

/// The longest duration that may be configured: ten years.
const SPAN_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// The largest size that may be configured: one GiB.
const SIZE_MAX: usize = 1 << 30;

/// A duration as it is written: `25s`, `500ms`, `7d`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct SpanText(String);

/// A size in bytes as it is written: `1MiB`, `512KiB`, `100B`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct SizeText(String);

/// A secret as it is written. It never shows itself, and is wiped when it goes.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct SecretText(Zeroizing<String>);

/// Why a text is not what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextInvalid {
    /// Not a duration.
    #[error("expected a duration like 25s, 500ms, 10m, 24h or 7d")]
    Span,
    /// Longer than ten years.
    #[error("a duration of at most ten years is expected")]
    SpanTooLong,
    /// Not a size.
    #[error("expected a size like 1MiB, 512KiB or 100B")]
    Size,
    /// Zero, or over one GiB.
    #[error("a size from 1B to 1GiB is expected")]
    SizeOut,
}

impl SpanText {
    /// Takes a text as it is.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The duration.
    ///
    /// # Errors
    /// [`TextInvalid`] if it is none.
    pub fn parse(&self) -> Result<Duration, TextInvalid> {
        let (number, unit) = number_and_unit(&self.0).ok_or(TextInvalid::Span)?;
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(TextInvalid::Span),
        };
        let millis = number.checked_mul(millis).ok_or(TextInvalid::SpanTooLong)?;
        Some(Duration::from_millis(millis))
            .filter(|span| *span <= SPAN_MAX)
            .ok_or(TextInvalid::SpanTooLong)
    }
}

impl SizeText {
    /// Takes a text as it is.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The size in bytes.
    ///
    /// # Errors
    /// [`TextInvalid`] if it is none.
    pub fn parse(&self) -> Result<usize, TextInvalid> {
        let (number, unit) = number_and_unit(&self.0).ok_or(TextInvalid::Size)?;
        let bytes: u64 = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(TextInvalid::Size),
        };
        number
            .checked_mul(bytes)
            .and_then(|bytes| usize::try_from(bytes).ok())
            .filter(|bytes| (1..=SIZE_MAX).contains(bytes))
            .ok_or(TextInvalid::SizeOut)
    }

    /// The size in bytes, of something that may be left out: `0B` is none of it.
    ///
    /// # Errors
    /// [`TextInvalid`] if it is no size.
    pub fn parse_or_none(&self) -> Result<usize, TextInvalid> {
        if self.0 == "0B" { Ok(0) } else { self.parse() }
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    Some((number.parse().ok()?, unit))
}

impl SecretText {
    /// Takes a text.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

// Raw types are serialised for the defaults in the schema only, and no secret has one.
impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("…")
    }
}

macro_rules! text_schema {
    ($name:ident, $title:literal, $pattern:literal) => {
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "title": $title, "type": "string", "pattern": $pattern })
            }
        }
    };
}

text_schema!(SpanText, "a duration like 25s, 500ms, 10m, 24h or 7d", "^[0-9]+(ms|s|m|h|d)$");
text_schema!(SizeText, "a size like 1MiB, 512KiB or 100B", "^[0-9]+(B|KiB|MiB|GiB)$");

impl JsonSchema for SecretText {
    fn schema_name() -> Cow<'static, str> {
        "SecretText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "title": "a text; put it in quotes", "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for (text, millis) in
            [("500ms", 500), ("25s", 25_000), ("10m", 600_000), ("7d", 604_800_000)]
        {
            assert_eq!(SpanText::new(text).parse(), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "25", "s", "2 s", "-1s", "1.5s", "25S", "1h30m"] {
            assert_eq!(SpanText::new(text).parse(), Err(TextInvalid::Span), "{text}");
        }
        assert_eq!(SpanText::new("4000d").parse(), Err(TextInvalid::SpanTooLong));
        assert_eq!(SpanText::new("18446744073709551615d").parse(), Err(TextInvalid::SpanTooLong));
    }

    #[test]
    fn sizes_have_a_number_and_a_unit() {
        assert_eq!(SizeText::new("1MiB").parse(), Ok(1 << 20));
        assert_eq!(SizeText::new("100B").parse(), Ok(100));
        assert_eq!(SizeText::new("1MB").parse(), Err(TextInvalid::Size));
        assert_eq!(SizeText::new("0B").parse(), Err(TextInvalid::SizeOut));
        assert_eq!(SizeText::new("2GiB").parse(), Err(TextInvalid::SizeOut));
        assert_eq!(SizeText::new("0B").parse_or_none(), Ok(0));
        assert_eq!(SizeText::new("16MiB").parse_or_none(), Ok(16 << 20));
    }

    #[test]
    fn a_secret_shows_itself_nowhere() {
        let secret = SecretText::new("canary".to_owned());
        assert!(!format!("{secret:?}").contains("canary"));
        assert!(!serde_json::to_string(&secret).unwrap().contains("canary"));
    }
}
