//! Arguments of the commands that ask a running proxy or the store.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::config::Overrides;
use crate::config::text::{SecretText, SpanText};
use crate::protocol::id::OperationId;

/// `semel records`.
#[derive(Debug, Args)]
pub struct RecordsArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Prints what the admin port says, as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: RecordsCommand,
}

/// Where the admin port is and how to be let in.
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// Config file of the running proxy
    #[arg(long, global = true, value_name = "FILE", env = "SEMEL_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Address of its admin port [default: 127.0.0.1:7412]
    #[arg(long, global = true, value_name = "ADDR", env = "SEMEL_ADMIN", hide_env_values = true)]
    pub admin: Option<String>,
    /// Its store, in whose folder its token is if nothing else is configured
    #[arg(long, global = true, value_name = "SPEC", env = "SEMEL_STORE", hide_env_values = true)]
    pub store: Option<SecretText>,
    /// Bearer token [default: the one that the config or the data folder has]
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "SEMEL_ADMIN_TOKEN",
        hide_env_values = true
    )]
    pub token: Option<SecretText>,
}

/// What to do with records.
#[derive(Debug, Subcommand)]
pub enum RecordsCommand {
    /// Lists operations
    List {
        /// Which.
        #[command(flatten)]
        which: WhichArgs,
        /// Only those that a caller sent this idempotency key with: @FILE, or the key itself
        #[arg(long, value_name = "KEY")]
        key: Option<BodyArg>,
    },
    /// Shows an operation and how it came to be as it is
    Show {
        /// Its id
        #[arg(value_name = "ID")]
        id: OperationId,
    },
    /// Asks the provider about an operation now, or about all that are listed, and says what it found
    Lookup {
        /// Its id
        #[arg(value_name = "ID", required_unless_present = "state", conflicts_with_all = ["state", "older_than", "route", "dry_run", "limit"])]
        id: Option<OperationId>,
        /// Which, if several.
        #[command(flatten)]
        which: WhichArgs,
        /// How many.
        #[command(flatten)]
        several: SeveralArgs,
    },
    /// Puts on record how an operation in doubt ended, or all that are listed
    Settle {
        /// Its id
        #[arg(value_name = "ID", required_unless_present = "state", conflicts_with_all = ["state", "older_than", "route", "dry_run", "limit", "yes"])]
        id: Option<OperationId>,
        /// Which, if several.
        #[command(flatten)]
        which: WhichArgs,
        /// How many.
        #[command(flatten)]
        several: SeveralArgs,
        /// Confirms that all that are listed are settled
        #[arg(long)]
        yes: bool,
        /// Whether it took effect
        #[arg(long = "as", value_name = "HOW")]
        how: SettleAs,
        /// Status of the answer that its callers get
        #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(200..=499))]
        status: u16,
        /// Body of that answer: @FILE, or the text itself
        #[arg(long, value_name = "BODY")]
        body: Option<BodyArg>,
        /// What that body is [default: JSON, text or bytes, by its look]
        #[arg(long, value_name = "TYPE")]
        content_type: Option<String>,
        /// Why; kept in the record's timeline where there is one, and logged as `semel::audit`
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Frees the key of an operation, so that it may be sent again
    Reopen {
        /// Its id
        #[arg(value_name = "ID")]
        id: OperationId,
        /// Confirms that the next request with this key is sent: a second charge, if the first took effect
        #[arg(long, required = true)]
        allow_resend: bool,
        /// Why; kept in the record's timeline where there is one, and logged as `semel::audit`
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// Which operations are meant.
#[derive(Debug, Clone, Default, Args)]
pub struct WhichArgs {
    /// Only those in this state
    #[arg(long, value_name = "STATE")]
    pub state: Option<StateArg>,
    /// Only those that have been in their state for longer than this, like 10m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub older_than: Option<Duration>,
    /// Only those of this route
    #[arg(long, value_name = "NAME")]
    pub route: Option<String>,
}

/// How many operations are worked on, if not one by its id.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct SeveralArgs {
    /// Only says which they would be
    #[arg(long)]
    pub dry_run: bool,
    /// At most so many, those first that have been in their state for longest
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// States of an operation, as they are typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StateArg {
    /// Its owner is at work.
    InFlight,
    /// The provider is at work.
    Accepted,
    /// Nobody knows.
    InDoubt,
    /// It is over.
    Settled,
    /// It was certainly not applied.
    Released,
}

impl StateArg {
    /// As the admin port spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InFlight => "in-flight",
            Self::Accepted => "accepted",
            Self::InDoubt => "in-doubt",
            Self::Settled => "settled",
            Self::Released => "released",
        }
    }
}

/// Whether an operation took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SettleAs {
    /// It did.
    Applied,
    /// It did not.
    NotApplied,
}

impl SettleAs {
    /// As the admin port spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::NotApplied => "not-applied",
        }
    }
}

/// `semel store`.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: StoreCommand,
}

/// What to do with a store.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Takes an empty store into use
    Init {
        /// Which store.
        #[command(flatten)]
        overrides: Overrides,
    },
    /// Accepts a store, or rules that derive keys, that have changed
    Accept {
        /// Which store.
        #[command(flatten)]
        overrides: Overrides,
        /// Why; kept in the record's timeline where there is one, and logged as `semel::audit`
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// A body from the command line. Does not show itself.
#[derive(Clone)]
pub struct BodyArg(Vec<u8>);

impl BodyArg {
    /// Its bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for BodyArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BodyArg({} bytes)", self.0.len())
    }
}

impl std::str::FromStr for BodyArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix('@') {
            None => Ok(Self(text.as_bytes().to_vec())),
            Some(path) => {
                std::fs::read(path).map(Self).map_err(|error| format!("cannot read it: {error}"))
            }
        }
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    SpanText::new(text).parse().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;
    use crate::protocol::id::{AttemptId, RecordKey};

    #[derive(Debug, Parser)]
    enum Asking {
        Records(RecordsArgs),
        Store(StoreArgs),
    }

    fn fits(text: &str) -> bool {
        Asking::try_parse_from(std::iter::once("semel").chain(text.split(' '))).is_ok()
    }

    #[test]
    fn commands_that_change_something_need_a_reason() {
        let (key, attempt) = (RecordKey::new([7; 16]), AttemptId::new([9; 16]));
        let id = OperationId { key, attempt };
        Asking::command().debug_assert();
        assert!(fits("store init"));
        assert!(fits("store accept --reason x --store memory"));
        assert!(!fits("store accept"));
        assert!(fits("records list --state in-doubt --older-than 10m --admin 127.0.0.1:1"));
        assert!(!fits("records list --older-than 10"));
        assert!(!fits(&format!("records settle {id} --as applied")));
        assert!(fits(&format!("records settle {id} --as applied --status 200 --reason x")));
        assert!(fits(&format!("records reopen {id} --allow-resend --reason x")));
        assert!(!fits(&format!("records reopen {id} --reason x")));
        assert!(fits(&format!("records lookup {id}")));
        assert!(fits("records lookup --state in-doubt --older-than 10m --route r --limit 5"));
        assert!(!fits("records lookup"));
        assert!(!fits(&format!("records lookup {id} --state in-doubt")));
        let several = "records settle --state in-doubt --as applied --status 200 --reason x";
        assert!(fits(&format!("{several} --yes")));
        assert!(fits(&format!("{several} --dry-run")));
        assert!(!fits(&format!("records settle {id} --yes --as applied --status 200 --reason x")));
    }
}
