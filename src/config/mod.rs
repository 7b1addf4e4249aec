//! The config: what the file says (`raw`), and what that means (`checked`).
//!
//! Knows the settings types of the other modules; they know nothing of it. The only part of semel
//! that reads the environment. A file is read in four steps, each of which finds everything that
//! is wrong before the next one is taken: text → [`tree`] (values and their lines) → [`presets`]
//! (what is known of a provider, below them) → [`schema`] (names and types) → [`raw`] → [`checked`]
//! (meaning).

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;

pub mod checked;
pub mod overrides;
pub mod presets;
pub mod problems;
pub mod raw;
pub mod schema;
pub mod secrets;
pub mod text;
pub mod tree;

pub use checked::Config;
pub use overrides::Overrides;
pub use problems::Problems;
use secrets::{Outside, Purpose};
use text::SecretText;

/// Loads what flags, environment and file say, to run by it: secrets and token that are not
/// configured are made where the records are.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(overrides: &Overrides) -> Result<Config, Box<Problems>> {
    load_with(overrides, Outside { env: &environment, purpose: Purpose::Run })
}

/// Loads a file to look at it. Nothing is made.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check(file: &Path) -> Result<Config, Box<Problems>> {
    check_further(file).map(|(config, _)| config)
}

/// The same, for who goes on to find problems: those get their lines from the file, too.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check_further(file: &Path) -> Result<(Config, Box<Problems>), Box<Problems>> {
    let overrides = Overrides { config: Some(file.to_owned()), ..Overrides::default() };
    load_further(&overrides, Outside { env: &environment, purpose: Purpose::Check })
}

/// How a running proxy is asked.
#[derive(Debug)]
pub struct Access {
    /// The address of its admin port.
    pub address: SocketAddr,
    /// Its bearer token; `None` if it is neither configured nor in the data folder.
    pub token: Option<SecretText>,
}

/// The address of the admin port. No secrets are needed for that.
///
/// # Errors
/// What keeps the address from being known.
pub fn admin_address(overrides: &Overrides) -> Result<SocketAddr, Box<Problems>> {
    let (mut problems, text) = open(overrides)?;
    let address = raw_file(&text, &mut problems).and_then(|mut file| {
        overrides.apply(&mut file, &mut problems);
        checked::address("admin.listen", &file.admin.listen, &mut problems)
    });
    address.ok_or(problems)
}

/// The address of the admin port, and the token that a running proxy made or was given.
///
/// # Errors
/// What keeps them from being known.
pub fn admin_access(overrides: &Overrides) -> Result<Access, Box<Problems>> {
    let outside = Outside { env: &environment, purpose: Purpose::Check };
    let (mut problems, text) = open(overrides)?;
    let access = raw_file(&text, &mut problems).and_then(|mut file| {
        overrides.apply(&mut file, &mut problems);
        let address = checked::address("admin.listen", &file.admin.listen, &mut problems);
        let folder = checked::folder(&file.store);
        let source = file.admin.token.as_ref();
        let token = secrets::known_token(source, &folder, outside, &mut problems);
        Some(Access { address: address?, token })
    });
    match access {
        Some(access) if problems.is_empty() => Ok(access),
        Some(_) | None => Err(problems),
    }
}

#[expect(clippy::disallowed_methods, reason = "only config reads the environment, and here")]
fn environment(name: &str) -> Option<OsString> {
    std::env::var(name).ok().map(OsString::from)
}

/// Loads with an environment of the caller's.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_with(overrides: &Overrides, outside: Outside<'_>) -> Result<Config, Box<Problems>> {
    load_further(overrides, outside).map(|(config, _)| config)
}

fn load_further(
    overrides: &Overrides,
    outside: Outside<'_>,
) -> Result<(Config, Box<Problems>), Box<Problems>> {
    let (mut problems, text) = open(overrides)?;
    let config = rough_file(&text, &mut problems).and_then(|mut file| {
        overrides.apply(&mut file, &mut problems);
        checked::check(&file, outside, &mut problems)
    });
    match config {
        Some(config) if problems.is_empty() => Ok((config, problems)),
        Some(_) | None => Err(problems),
    }
}

/// Reads YAML as what it says, before anybody asks what that means.
pub fn raw_file(text: &str, problems: &mut Problems) -> Option<raw::File> {
    let mut tree = tree::read(text, problems)?;
    let presets = presets::merge(&mut tree, problems);
    schema::validate(&tree, problems);
    if !problems.is_empty() {
        return None;
    }
    // The error might show a value. The schema has found everything that can be explained.
    let file = serde_json::from_value(tree).map(|file| raw::File { presets, ..file });
    problems.note("", file.map_err(|_| "the values do not fit the schema (see `semel schema`)"))
}

/// Reads YAML as far as it can be read: what has not the right form is noted and left out, so that
/// what the rest means can be judged in the same go.
fn rough_file(text: &str, problems: &mut Problems) -> Option<raw::File> {
    let mut tree = tree::read(text, problems)?;
    let presets = presets::merge(&mut tree, problems);
    schema::validate(&tree, problems);
    if !problems.is_empty() {
        schema::prune(&mut tree);
        problems.judge_the_rest();
    }
    let file = serde_json::from_value(tree).map(|file| raw::File { presets, ..file }).ok();
    if file.is_none() && problems.is_empty() {
        problems.fault("", "the values do not fit the schema (see `semel schema`)");
    }
    file
}

fn open(overrides: &Overrides) -> Result<(Box<Problems>, String), Box<Problems>> {
    let Some(path) = &overrides.config else {
        return Ok((Box::new(Problems::new(None)), String::new()));
    };
    let mut problems = Box::new(Problems::new(Some(&path.display().to_string())));
    match problems.note("", read(path)) {
        Some(text) => Ok((problems, text)),
        None => Err(problems),
    }
}

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    file.take(tree::FILE_BYTES_MAX as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() > tree::FILE_BYTES_MAX {
        return Err("is larger than 1 MiB".to_owned());
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
