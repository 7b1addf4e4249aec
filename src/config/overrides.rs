//! What flags and the environment say, which goes before the file.

use std::path::PathBuf;

use super::problems::Problems;
use super::raw::{File, Log, Secrets, StoreKind, Upstream};
use super::text::SecretText;

/// Settings from the command line, or from the environment where they are not given there.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Overrides {
    /// Config file; without it, everything has its default
    #[arg(long, value_name = "FILE", env = "SEMEL_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// The payment API, like `https://api.example.com`
    #[arg(long, value_name = "URL", env = "SEMEL_UPSTREAM", hide_env_values = true)]
    pub upstream: Option<String>,
    /// Address of the data port [default: 127.0.0.1:7411]
    #[arg(long, value_name = "ADDR", env = "SEMEL_LISTEN", hide_env_values = true)]
    pub listen: Option<String>,
    /// Address of the admin port [default: 127.0.0.1:7412]
    #[arg(long, value_name = "ADDR", env = "SEMEL_ADMIN", hide_env_values = true)]
    pub admin: Option<String>,
    /// Where records are kept: memory, embedded:PATH or redis://… [default: embedded:./semel-data]
    #[arg(long, value_name = "SPEC", env = "SEMEL_STORE", hide_env_values = true)]
    pub store: Option<SecretText>,
    /// File with the one secret that all are derived from; made if it is missing
    #[arg(long, value_name = "FILE", env = "SEMEL_SECRET_FILE", hide_env_values = true)]
    pub secret_file: Option<String>,
    /// Form of the logs [default: json]
    #[arg(long, value_name = "FORM", env = "SEMEL_LOG", hide_env_values = true)]
    pub log: Option<Log>,
}

/// The name of the upstream that `--upstream` makes.
pub const UPSTREAM: &str = "default";

impl Overrides {
    /// Puts what was given in the place of what the file says.
    pub fn apply(&self, file: &mut File, problems: &mut Problems) {
        if let Some(listen) = &self.listen {
            problems.blame("listen", "--listen");
            file.listen.clone_from(listen);
        }
        if let Some(admin) = &self.admin {
            problems.blame("admin.listen", "--admin");
            file.admin.listen.clone_from(admin);
        }
        if let Some(secret_file) = &self.secret_file {
            problems.blame("secret.file", "--secret-file");
            file.secret = Secrets { file: Some(secret_file.clone()), ..Secrets::default() };
        }
        if let Some(log) = self.log {
            file.log = log;
        }
        self.apply_store(file, problems);
        self.apply_upstream(file, problems);
    }

    fn apply_store(&self, file: &mut File, problems: &mut Problems) {
        let Some(spec) = &self.store else { return };
        for place in ["store.path", "store.url", "store.password"] {
            problems.blame(place, "--store");
        }
        let store = &mut file.store;
        let text = spec.expose();
        (store.path, store.url) = (None, None);
        if text == "memory" {
            store.kind = StoreKind::Memory;
        } else if let Some(path) = text.strip_prefix("embedded:") {
            store.kind = StoreKind::Embedded;
            store.path = Some(path.to_owned());
        } else if text.starts_with("redis://") || text.starts_with("rediss://") {
            store.kind = StoreKind::Redis;
            store.url = Some(spec.clone());
        } else {
            problems.fault("--store", "expected memory, embedded:PATH or redis://…");
        }
        if store.kind != StoreKind::Redis {
            store.password = None;
        }
    }

    fn apply_upstream(&self, file: &mut File, problems: &mut Problems) {
        let Some(url) = &self.upstream else { return };
        match file.upstreams.0.as_mut_slice() {
            [] => {
                let upstream = Upstream { url: url.clone(), ..Upstream::default() };
                file.upstreams.0.push((UPSTREAM.to_owned(), upstream));
                problems.blame("upstreams.default.url", "--upstream");
            }
            [(_, only)] => only.url.clone_from(url),
            [_, _, ..] => problems.fault("--upstream", "the file has several; which one is meant?"),
        }
    }
}
