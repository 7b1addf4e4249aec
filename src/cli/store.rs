//! `semel store`: takes a store into use, or a changed one over.
//!
//! Asks `app` to open the configured store, not a running proxy. A Redis may be in use meanwhile; an embedded store may not.

use std::process::ExitCode;

use super::args::{StoreArgs, StoreCommand};
use super::run::{exit_code, log};
use super::{IO_ERROR, UNAVAILABLE, USAGE, complain, print, refuse};
use crate::app::{self, Chartered};
use crate::config;
use crate::config::checked::Place;

/// The longest reason, in characters.
const REASON_MAX: usize = 200;

/// Opens the store, does what is asked, and says so.
pub fn run(args: &StoreArgs) -> ExitCode {
    let overrides = match &args.command {
        StoreCommand::Init { overrides } | StoreCommand::Accept { overrides, .. } => overrides,
    };
    let config = match config::load(overrides) {
        Ok(config) => config,
        Err(problems) => return refuse(&problems),
    };
    if let Err(code) = log(&config, None) {
        return code;
    }
    if matches!(config.store.place, Place::Memory) {
        complain("a store in memory begins anew with every process; there is nothing to be done");
        return ExitCode::from(USAGE);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("no runtime: {error}"));
            return ExitCode::from(IO_ERROR);
        }
    };
    let done = match &args.command {
        StoreCommand::Init { .. } => runtime.block_on(app::init_store(&config)),
        StoreCommand::Accept { reason, .. } => {
            let reason = reason.trim();
            if reason.is_empty() || reason.chars().count() > REASON_MAX {
                complain("--reason takes 1 to 200 characters");
                return ExitCode::from(USAGE);
            }
            runtime.block_on(app::accept_store(&config, reason))
        }
    };
    match done {
        Ok(done) => print(&told(&done)),
        Err(error) if error.is_in_use() => {
            complain(&format!("{error}; stop semel first, then do this, then start it again"));
            ExitCode::from(UNAVAILABLE)
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(exit_code(&error))
        }
    }
}

fn told(done: &Chartered) -> String {
    match done {
        Chartered::Founded(charter) => format!(
            "the store is ready: identity {}, generation {}\n",
            charter.identity, charter.generation
        ),
        Chartered::InUse(charter) => format!(
            "the store was in use already, with these secrets and key rules: identity {}, \
             generation {}; nothing was changed\n",
            charter.identity, charter.generation
        ),
        Chartered::Accepted(None, charter) => format!(
            "the store is taken over as a new one: identity {}, generation {}\n\
             it remembers nothing of what was sent before; processes that run claim nothing until \
             they are restarted\n",
            charter.identity, charter.generation
        ),
        Chartered::Accepted(Some(before), charter) if before.rules == charter.rules => format!(
            "the store is taken over as it is: identity {}, generation {}\n\
             processes that run go on by themselves\n",
            charter.identity, charter.generation
        ),
        Chartered::Accepted(Some(_), charter) => format!(
            "the key rules are taken over: identity {}, generation {}\n\
             processes with other rules still settle but claim nothing until they are restarted \
             with these\n",
            charter.identity, charter.generation
        ),
    }
}
