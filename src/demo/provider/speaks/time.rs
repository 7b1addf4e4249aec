//! Times as APIs write them. Pure.

use std::time::{Duration, UNIX_EPOCH};

/// As RFC 3339 writes it, in UTC.
pub(super) fn rfc3339(ms: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}

/// As RFC 3339 writes it, in UTC, with an offset and whole seconds.
pub(super) fn rfc3339_with_offset(ms: u64) -> String {
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(ms));
    text.to_string().replace('Z', "+00:00")
}

/// Milliseconds since 1970 of a time in UTC.
pub(super) fn from_rfc3339(text: &str) -> Option<u64> {
    // In a query that was not escaped, the plus sign is a space.
    let utc = text.replace("+00:00", "Z").replace(" 00:00", "Z");
    let since = humantime::parse_rfc3339_weak(&utc).ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        let ms = 1_700_000_000_123;

        assert_eq!(rfc3339(ms), "2023-11-14T22:13:20.123Z");
        assert_eq!(from_rfc3339(&rfc3339(ms)), Some(ms));
        assert_eq!(from_rfc3339(&rfc3339_with_offset(ms)), Some(ms / 1000 * 1000));
        assert_eq!(from_rfc3339("yesterday"), None);
    }
}
