//! `semel demo`: what semel is shown and practised on.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::{IO_ERROR, complain, print};
use crate::demo::provider::{self, Provider, Settings, Speaks};

/// What to show.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// What to run.
    #[command(subcommand)]
    pub command: DemoCommand,
}

/// What can be run.
#[derive(Debug, Subcommand)]
pub enum DemoCommand {
    /// A payment API to practise on: keeps a ledger, knows no idempotency, does wrong on request
    #[command(after_long_help = provider::help())]
    Provider {
        /// Where it listens
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
        listen: SocketAddr,
        /// File that keeps the charges; in memory if there is none
        #[arg(long, value_name = "FILE")]
        ledger: Option<PathBuf>,
        /// Whose API it speaks
        #[arg(long = "as", value_name = "API", value_enum, default_value_t)]
        speaks: Speaks,
    },
}

/// Runs it until it is interrupted.
pub fn run(args: &DemoArgs) -> ExitCode {
    let DemoCommand::Provider { listen, ledger, speaks } = &args.command;
    let settings = Settings { listen: *listen, ledger: ledger.clone(), speaks: *speaks };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("no runtime: {error}"));
            return ExitCode::from(IO_ERROR);
        }
    };
    runtime.block_on(async move {
        let provider = match Provider::start(&settings) {
            Ok(provider) => provider,
            Err(error) => {
                complain(&format!("the practice provider does not start: {error}"));
                return ExitCode::from(IO_ERROR);
            }
        };
        let said = print(&format!("practice payment API on http://{}\n", provider.addr()));
        provider
            .run(async {
                // Without signals it runs until it is killed.
                if tokio::signal::ctrl_c().await.is_err() {
                    std::future::pending::<()>().await;
                }
            })
            .await;
        said
    })
}
