//! `semel run`: the proxy itself.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::{CONFIG, IO_ERROR, UNAVAILABLE, complain, refuse};
use crate::app::{App, Ended, StartError};
use crate::config::raw::Log;
use crate::config::{self, Config, Overrides};
use crate::task::Drained;
use crate::telemetry::{self, Format};

/// What to run, and where.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// What stands before the config file.
    #[command(flatten)]
    pub overrides: Overrides,
    /// What to log, as in `info` or `semel=debug,warn`
    #[arg(long, value_name = "FILTER", env = "SEMEL_LOG_FILTER", hide_env_values = true)]
    pub log_filter: Option<String>,
}

/// Runs until it is told to stop.
pub fn run(args: &RunArgs) -> ExitCode {
    let config = match config::load(&args.overrides) {
        Ok(config) => config,
        Err(problems) => return refuse(&problems),
    };
    if let Err(code) = log(&config, args.log_filter.as_deref()) {
        return code;
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("no runtime: {error}"));
            return ExitCode::from(IO_ERROR);
        }
    };
    let code = runtime.block_on(serve(config));
    // What still runs has had its time; its records say how far it came.
    runtime.shutdown_background();
    code
}

/// One thread per core; on a single core without what threads need to share work.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match std::thread::available_parallelism() {
        Ok(cores) if cores.get() == 1 => tokio::runtime::Builder::new_current_thread(),
        Ok(_) | Err(_) => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build()
}

/// Logs as configured from now on.
pub(super) fn log(config: &Config, filter: Option<&str>) -> Result<(), ExitCode> {
    let format = match config.log {
        Log::Json => Format::Json,
        Log::Text => Format::Text,
    };
    telemetry::init(format, filter).map_err(|error| {
        complain(&error.to_string());
        ExitCode::from(CONFIG)
    })
}

async fn serve(config: Config) -> ExitCode {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    for news in &config.news {
        tracing::info!("{news}");
    }
    let (mut term, mut int) =
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(term), Ok(int)) => (term, int),
            (Err(error), _) | (_, Err(error)) => {
                complain(&format!("signals cannot be heard: {error}"));
                return ExitCode::from(IO_ERROR);
            }
        };
    let app = match App::start(config).await {
        Ok(app) => app,
        Err(error) => {
            complain(&format!("semel does not start: {error}"));
            return ExitCode::from(exit_code(&error));
        }
    };
    for addr in app.addrs() {
        tracing::info!(%addr, "data port");
    }
    tracing::info!(addr = %app.admin_addr(), "admin port; ready");
    let shutdown = async {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    };
    match app.run(shutdown).await {
        Ended::Stopped(Drained::Clean) => ExitCode::SUCCESS,
        Ended::Stopped(Drained::Cut(attempts)) => {
            tracing::warn!(attempts, "attempts were cut short; they are on record as in doubt");
            ExitCode::SUCCESS
        }
        Ended::Stopped(Drained::Abandoned(attempts)) => {
            tracing::error!(attempts, "attempts could not be put on record; their leases will end");
            ExitCode::from(UNAVAILABLE)
        }
        Ended::StoreBroken => ExitCode::from(IO_ERROR),
    }
}

pub(super) const fn exit_code(error: &StartError) -> u8 {
    match error {
        StartError::Redis(_)
        | StartError::Enrol(_)
        | StartError::Unfit(_)
        | StartError::Upstream(..)
        | StartError::UnknownUpstream(_)
        | StartError::Metrics(_) => CONFIG,
        StartError::Store(_) => UNAVAILABLE,
        StartError::Embedded(_) | StartError::Listen(..) => IO_ERROR,
    }
}
