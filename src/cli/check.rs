//! `semel check`: every problem of a config file, each with its line; with `--live` also those of the
//! store and the upstreams that it names.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::app::live::{self, News, Weight};
use crate::cli::{IO_ERROR, complain, print, refuse};
use crate::config::{self, Config, Problems};

/// Which file to check.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The config file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Also asks store and upstreams: identity, durability, clock, TLS, look-up credentials. Reads
    /// only; changes nothing
    #[arg(long)]
    pub live: bool,
}

/// Checks the file, and what it speaks of if that was asked for. Nothing is made or changed.
pub fn run(args: &CheckArgs) -> ExitCode {
    let (config, problems) = match config::check_further(&args.file) {
        Ok(checked) => checked,
        Err(problems) => return refuse(&problems),
    };
    if args.live {
        return live(args, &config, *problems);
    }
    for warning in &config.warnings {
        complain(&format!("warning: {warning}"));
    }
    let news: String = config.news.iter().map(|news| format!("{news}\n")).collect();
    print(&format!("{news}{}: no problems\n", args.file.display()))
}

/// Asks, and tells what came of it: what is fine on stdout, all else on stderr, with its line.
fn live(args: &CheckArgs, config: &Config, mut problems: Problems) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("no runtime: {error}"));
            return ExitCode::from(IO_ERROR);
        }
    };
    let mut fine = String::new();
    for News { place, weight, message } in runtime.block_on(live::ask(config)) {
        match weight {
            // Writing to a string does not fail.
            Weight::Fine => drop(writeln!(fine, "{place}: {message}")),
            Weight::Warning => problems.warn(&place, message),
            Weight::Fault => problems.fault(&place, message),
        }
    }
    let said = print(&fine);
    if !problems.is_empty() {
        return refuse(&problems);
    }
    for warning in problems.warnings() {
        complain(&format!("warning: {warning}"));
    }
    match said == ExitCode::SUCCESS {
        true => print(&format!("{}: no problems\n", args.file.display())),
        false => said,
    }
}
