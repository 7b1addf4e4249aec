//! Comparing with a golden file, and rewriting it.
#![expect(clippy::unwrap_used, reason = "a helper of tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// A path in the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Compares a text with a file of the repository; rewrites the file if `SEMEL_GOLDEN=write`.
pub(crate) fn assert_golden(path: &str, text: &str) {
    let file = repository(path);
    if std::env::var_os("SEMEL_GOLDEN").is_some_and(|wish| wish == "write") {
        fs::write(&file, text).unwrap();
    }
    let golden = fs::read_to_string(&file).unwrap_or_default();
    assert!(golden == text, "{path} is not up to date; `make golden` rewrites it:\n{text}");
}
