//! `semel check`: every problem of a config file, each with its line.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::{complain, print, refuse};
use crate::config;

/// Which file to check.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The config file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Checks the file. Nothing is made, asked or changed.
pub fn run(args: &CheckArgs) -> ExitCode {
    match config::check(&args.file) {
        Ok(config) => {
            for warning in &config.warnings {
                complain(&format!("warning: {warning}"));
            }
            print(&format!("{}: no problems\n", args.file.display()))
        }
        Err(problems) => refuse(&problems),
    }
}
