//! `semel schema`: the JSON Schema of the config file.

use std::process::ExitCode;

use crate::cli::print;
use crate::config::schema::schema;

/// Prints the schema.
pub fn run() -> ExitCode {
    print(&text())
}

/// The schema as it is printed, and kept in `config/schema.json`.
pub fn text() -> String {
    format!("{:#}\n", schema())
}
