//! The command line: what can be asked, and one file per command.
//!
//! Exit codes follow sysexits. Only commands write to stdout, and only what was asked for.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::config::Problems;

pub mod args;
pub mod check;
pub mod demo;
pub mod explain;
pub mod healthcheck;
pub mod lookup;
pub mod records;
pub mod run;
pub mod schema;
pub mod store;

/// The command line was wrong (`EX_USAGE`).
pub const USAGE: u8 = 64;

/// What was asked for is refused as things are (`EX_DATAERR`).
pub const DATA_ERROR: u8 = 65;

/// The token is missing or not the right one (`EX_NOPERM`).
pub const NO_PERMISSION: u8 = 77;

/// Something that was needed could not be read or written (`EX_IOERR`).
pub const IO_ERROR: u8 = 74;

/// Something that is needed is not there now (`EX_UNAVAILABLE`).
pub const UNAVAILABLE: u8 = 69;

/// The config is wrong (`EX_CONFIG`).
pub const CONFIG: u8 = 78;

/// An idempotency proxy: lets each payment through to the payment API at most once.
#[derive(Debug, Parser)]
#[command(name = "semel", version, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the proxy
    Run(run::RunArgs),
    /// Loads a config file and prints every problem with its line
    Check(check::CheckArgs),
    /// Prints the JSON Schema of the config file
    Schema,
    /// Says in words what would be done with a request
    Explain(explain::ExplainArgs),
    /// Tries a route's look-up
    Lookup(lookup::LookupArgs),
    /// Lists, shows, looks up, settles and reopens operations, through the admin port of a running proxy
    Records(args::RecordsArgs),
    /// Takes an empty store into use, or accepts one that has changed
    Store(args::StoreArgs),
    /// Asks the admin port of a running proxy whether it lives
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Runs what semel is shown and practised on
    Demo(demo::DemoArgs),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

/// Runs the command that these arguments name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap, and none to us.
            let code = if error.use_stderr() { USAGE } else { 0 };
            return match error.print() {
                Ok(()) => ExitCode::from(code),
                Err(_) => ExitCode::from(IO_ERROR),
            };
        }
    };
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Schema => schema::run(),
        Command::Explain(args) => explain::run(&args),
        Command::Lookup(args) => lookup::run(&args),
        Command::Records(args) => records::run(&args),
        Command::Store(args) => store::run(&args),
        Command::Healthcheck(args) => healthcheck::run(&args),
        Command::Demo(args) => demo::run(&args),
    }
}

/// Writes what was asked for to stdout.
pub(crate) fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(IO_ERROR),
    }
}

/// Writes to stderr why there is nothing on stdout.
pub(crate) fn complain(text: &str) {
    // If stderr is gone too, there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes every problem to stderr, and what is strange besides.
pub(crate) fn refuse(problems: &Problems) -> ExitCode {
    for warning in problems.warnings() {
        complain(&format!("warning: {warning}"));
    }
    complain(&problems.to_string());
    ExitCode::from(CONFIG)
}

/// The help of every command and what is below it, in the order in which they are listed.
pub fn help() -> String {
    let mut root = Cli::command();
    root.build();
    let mut helps = Vec::new();
    add_help(&mut root, &mut helps);
    helps.join("\n---\n\n")
}

fn add_help(command: &mut clap::Command, helps: &mut Vec<String>) {
    helps.push(command.render_long_help().to_string());
    for below in command.get_subcommands_mut() {
        add_help(below, helps);
    }
}
