//! `semel lookup try`: performs a route's look-up once and tells question, answer and verdict.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::args::duration;
use super::{CONFIG, IO_ERROR, USAGE, complain, print, refuse};
use crate::app::trial::{self, Seen, Trial, TrialError, Tried};
use crate::config;
use crate::protocol::outcome::Finding;

/// How much of a body is shown, in characters.
const SHOWN_MAX: usize = 20_000;

/// `semel lookup`.
#[derive(Debug, Args)]
pub struct LookupArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: LookupCommand,
}

/// What to do with look-ups.
#[derive(Debug, Subcommand)]
pub enum LookupCommand {
    /// Performs a route's look-up once and shows question, answer and verdict. Changes nothing
    #[command(after_long_help = EXIT_CODES)]
    Try(TryArgs),
}

const EXIT_CODES: &str = "Exits with 0 if the operation was found, over or still worked on; with 1 \
                          if it is absent, unclear, or nobody answered; with 64 or 78 if the \
                          arguments or the config are wrong.";

/// What to look up.
#[derive(Args)]
pub struct TryArgs {
    /// The config file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Whose look-up
    #[arg(long, value_name = "NAME")]
    pub route: String,
    /// The reference of an operation that the provider knows
    #[arg(long, value_name = "REFERENCE")]
    pub reference: Option<String>,
    /// Another value that the look-up names, like path/id=pay_7, body/order=4711 or key=k-1
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub value: Vec<(String, String)>,
    /// How long ago the operation was sent; what is older than that does not match
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    pub sent: Duration,
    /// Shows bodies too; they may hold personal data
    #[arg(long)]
    pub show_body: bool,
}

impl std::fmt::Debug for TryArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be keys.
        let Self { file, route, .. } = self;
        f.debug_struct("TryArgs").field("file", file).field("route", route).finish_non_exhaustive()
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Tries it, and says what came of it.
pub fn run(args: &LookupArgs) -> ExitCode {
    let LookupCommand::Try(args) = &args.command;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("no runtime: {error}"));
            return ExitCode::from(IO_ERROR);
        }
    };
    let config = match config::check(&args.file) {
        Ok(config) => config,
        Err(problems) => return refuse(&problems),
    };
    let tried = runtime.block_on(async {
        let (route, lookup) = trial::look_up_of(&config, &args.route)?;
        let inputs = inputs(args, &lookup.input_names())?;
        let trial = Trial { inputs, claimed: args.sent };
        trial::try_out(&config, route, lookup, trial).await
    });
    match tried {
        Ok(tried) => {
            let said = print(&told(&tried, args.show_body));
            match tried.finding {
                Finding::Final(_) | Finding::Accepted => said,
                Finding::Absent | Finding::Unclear(_) | Finding::Failed(_) => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(match error {
                TrialError::NoRoute(..) | TrialError::NoLookUp(_) | TrialError::Values(_) => USAGE,
                TrialError::Upstream(_) => CONFIG,
            })
        }
    }
}

/// Gives every value that the look-up names, and nothing else.
fn inputs(
    args: &TryArgs,
    names: &BTreeSet<String>,
) -> Result<std::collections::BTreeMap<String, String>, TrialError> {
    let reference = args.reference.iter().map(|value| ("reference", value));
    let values = args.value.iter().map(|(name, value)| (name.as_str(), value));
    let mut inputs = std::collections::BTreeMap::new();
    for (given, value) in reference.chain(values) {
        // As it stands in templates, too: body.a.b for body/a/b.
        let name = names.get(given).cloned().unwrap_or_else(|| given.replace('.', "/"));
        if !names.contains(&name) {
            let names = listed(names);
            let why = format!("the look-up does not use {given}; it uses {names}");
            return Err(TrialError::Values(why));
        }
        inputs.insert(name, value.clone());
    }
    let missing: BTreeSet<_> =
        names.iter().filter(|name| !inputs.contains_key(*name)).cloned().collect();
    if missing.is_empty() {
        return Ok(inputs);
    }
    let give: Vec<_> = missing
        .iter()
        .map(|name| match name.as_str() {
            "reference" => "--reference …".to_owned(),
            name => format!("--value {name}=…"),
        })
        .collect();
    let why = format!("the look-up needs {}; give {}", listed(&missing), give.join(" "));
    Err(TrialError::Values(why))
}

fn listed(names: &BTreeSet<String>) -> String {
    match names.is_empty() {
        true => "no values".to_owned(),
        false => names.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
    }
}

/// Question, answer, verdict, and what semel would do.
fn told(tried: &Tried, show_body: bool) -> String {
    let mut text = String::new();
    for (exchange, seen) in &tried.exchanges {
        line(&mut text, "asked", &exchange.asked);
        let names: Vec<_> = seen.headers.iter().map(http::HeaderName::as_str).collect();
        line(&mut text, "headers", &names.join(", "));
        if show_body && !seen.sent.is_empty() {
            line(&mut text, "sent", &shown(&seen.sent));
        }
        let answered = match exchange.status {
            Some(status) => format!("{status}, {} bytes", exchange.bytes),
            None => "no whole answer".to_owned(),
        };
        line(&mut text, "answered", &answered);
        if let Some(matched) = exchange.matched {
            line(&mut text, "matched", &matched.to_string());
        }
        line(&mut text, "taken for", &exchange.verdict);
        body(&mut text, seen, show_body);
        text.push('\n');
    }
    line(&mut text, "verdict", &verdict(&tried.finding));
    line(&mut text, "semel", would(&tried.finding));
    text
}

fn body(text: &mut String, seen: &Seen, show_body: bool) {
    if show_body && !seen.body.is_empty() {
        line(text, "body", &shown(&seen.body));
    }
}

fn line(text: &mut String, name: &str, what: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{name:<10} {what}");
}

/// A body without signs that a terminal would obey, and not more of it than can be read.
fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let plain = |sign: char| match sign {
        '\n' | '\t' => sign,
        sign if sign.is_control() => '\u{fffd}',
        sign => sign,
    };
    let mut shown: String = text.chars().take(SHOWN_MAX).map(plain).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

fn verdict(finding: &Finding) -> String {
    match finding {
        Finding::Final(reply) => {
            format!("found, and over: recorded as {} ({} bytes)", reply.status, reply.body.len())
        }
        Finding::Accepted => "found, and still worked on".to_owned(),
        Finding::Absent => "absent".to_owned(),
        Finding::Unclear(why) => format!("unclear: {why}"),
        Finding::Failed(why) => format!("failed: {why}"),
    }
}

const fn would(finding: &Finding) -> &'static str {
    match finding {
        Finding::Final(_) => "would settle the operation with that answer; all its callers get it",
        Finding::Accepted => "would hold it as accepted, and ask again until it is over",
        Finding::Absent => {
            "would keep it in doubt and ask again: that it is not there proves nothing, until what \
             lookup.absent says has come true"
        }
        Finding::Unclear(_) | Finding::Failed(_) => "would keep it in doubt, and ask again",
    }
}
