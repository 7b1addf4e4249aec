//! Secrets: configured, or made once where the records are. None is ever shown.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::RngExt as _;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::problems::{Problems, member};
use super::raw;
use super::text::SecretText;
use crate::protocol::key::Secret;

/// The least that a secret has, in bytes.
const SECRET_BYTES_MIN: usize = 32;

/// The least that a bearer token has, in characters.
const TOKEN_CHARS_MIN: usize = 16;

/// The bearer token's file in the data folder.
const TOKEN_FILE: &str = "admin-token";

/// The largest secret file that is read, in bytes.
const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;

/// What records depend on.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// Record keys are made with it.
    pub index: Secret,
    /// Fingerprints are made with them, newest first.
    pub fingerprint: Vec<Secret>,
    /// Answers are sealed with them, newest first.
    pub seal: Vec<Secret>,
}

/// Why a config is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To run by it: what is missing is made and kept.
    Run,
    /// To look at it: nothing is written; what would be made is drawn and dropped.
    Check,
}

/// What a config reads beside its file.
#[derive(Clone, Copy)]
pub struct Outside<'a> {
    /// The environment.
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
    /// What for.
    pub purpose: Purpose,
}

/// Where made secrets belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keep {
    /// Beside the records, in this folder.
    Beside(PathBuf),
    /// In one file, which every process must have.
    Shared(PathBuf),
    /// Nowhere: they go with the process, as its records do.
    Nowhere,
}

impl std::fmt::Debug for Outside<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside").field("purpose", &self.purpose).finish_non_exhaustive()
    }
}

/// Finds or makes the three secrets.
pub fn obtain(
    raw: &raw::Secrets,
    keep: &Keep,
    outside: Outside<'_>,
    problems: &mut Problems,
) -> Option<Secrets> {
    let configured = raw.index.is_some() || !raw.fingerprint.is_empty() || !raw.seal.is_empty();
    match (&raw.file, configured) {
        (Some(_), true) => {
            problems.fault("secret.file", "give either this, or index, fingerprint and seal");
            None
        }
        (Some(file), false) => {
            let master = read_or_make(Path::new(file), "secret.file", outside, problems)?;
            Some(derived(&master))
        }
        (None, true) => given(raw, outside, problems),
        (None, false) => made(keep, outside, problems),
    }
}

/// All three from one, each with a domain of its own.
fn derived(master: &Secret) -> Secrets {
    let derive = |domain| Secret::new(master.digest(domain, &[]));
    Secrets {
        index: derive("semel index secret"),
        fingerprint: vec![derive("semel fingerprint secret")],
        seal: vec![derive("semel seal secret")],
    }
}

fn given(raw: &raw::Secrets, outside: Outside<'_>, problems: &mut Problems) -> Option<Secrets> {
    let missing = "is missing; configure index, fingerprint and seal, or none of them";
    let index = match &raw.index {
        Some(source) => one(source, "secret.index", outside, problems),
        None => {
            problems.fault("secret.index", missing);
            None
        }
    };
    let mut list = |place: &str, sources: &[raw::SecretSource]| {
        if sources.is_empty() {
            problems.fault(place, missing);
        }
        let secrets = sources.iter().enumerate();
        let secrets: Vec<_> = secrets
            .map(|(i, source)| one(source, &format!("{place}[{i}]"), outside, problems))
            .collect();
        secrets.into_iter().collect::<Option<Vec<_>>>()
    };
    let fingerprint = list("secret.fingerprint", &raw.fingerprint);
    let seal = list("secret.seal", &raw.seal);
    let (index, fingerprint, seal) = (index?, fingerprint?, seal?);
    (!fingerprint.is_empty() && !seal.is_empty()).then_some(Secrets { index, fingerprint, seal })
}

fn one(
    source: &raw::SecretSource,
    place: &str,
    outside: Outside<'_>,
    problems: &mut Problems,
) -> Option<Secret> {
    let text = text(source, place, outside, problems)?;
    problems.note(place, secret(text.expose()))
}

fn made(keep: &Keep, outside: Outside<'_>, problems: &mut Problems) -> Option<Secrets> {
    match keep {
        Keep::Nowhere => Some(derived(&Secret::new(rand::rng().random()))),
        Keep::Shared(file) => {
            problems.warn(
                "secret",
                format!(
                    "no secrets are configured; {} is used, and every process on this store needs \
                     the same one (see --secret-file)",
                    file.display()
                ),
            );
            Some(derived(&read_or_make(file, "secret", outside, problems)?))
        }
        Keep::Beside(folder) => {
            let folder = folder.join("secrets");
            let [index, fingerprint, seal] =
                ["index", "fingerprint", "seal"].map(|name| folder.join(name));
            // The index secret is made last. Where it is, records may depend on the others too.
            if index.exists() && !(fingerprint.exists() && seal.exists()) {
                let message = format!("{} is incomplete; restore it", folder.display());
                problems.fault("secret", message);
                return None;
            }
            let seal = read_or_make(&seal, "secret", outside, problems);
            let fingerprint = read_or_make(&fingerprint, "secret", outside, problems);
            let index = read_or_make(&index, "secret", outside, problems);
            Some(Secrets { index: index?, fingerprint: vec![fingerprint?], seal: vec![seal?] })
        }
    }
}

/// Finds or makes the bearer token of the admin port.
pub fn token(
    source: Option<&raw::SecretSource>,
    folder: &Path,
    outside: Outside<'_>,
    problems: &mut Problems,
) -> Option<SecretText> {
    let place = "admin.token";
    let token = match source {
        Some(source) => text(source, place, outside, problems)?,
        None => {
            let file = folder.join(TOKEN_FILE);
            problems
                .note(place, found_or_made(&file, outside.purpose))?
                .kept(&file, place, problems)
        }
    };
    let text = token.expose();
    if text.len() < TOKEN_CHARS_MIN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = "expected a token of at least 16 letters, digits and signs, without spaces";
        problems.fault(place, message);
        return None;
    }
    Some(token)
}

/// Finds the bearer token that a running proxy has, if it can be found.
pub fn known_token(
    source: Option<&raw::SecretSource>,
    folder: &Path,
    outside: Outside<'_>,
    problems: &mut Problems,
) -> Option<SecretText> {
    match source {
        Some(source) => text(source, "admin.token", outside, problems),
        None => read(&folder.join(TOKEN_FILE)).ok(),
    }
}

/// Reads a secret from where the config says it is.
pub fn text(
    source: &raw::SecretSource,
    place: &str,
    outside: Outside<'_>,
    problems: &mut Problems,
) -> Option<SecretText> {
    match (&source.value, &source.env, &source.file) {
        (Some(value), None, None) => Some(value.clone()),
        (None, Some(name), None) => {
            let value = (outside.env)(name).and_then(|value| value.into_string().ok());
            if value.is_none() {
                let message = format!("the environment has no text `{name}`");
                problems.fault(&member(place, "env"), message);
            }
            value.map(SecretText::new)
        }
        (None, None, Some(path)) => {
            let (path, place) = (Path::new(path), member(place, "file"));
            let found = read(path).map_err(|error| unreadable(path, &error));
            let text = problems.note(&place, found)?;
            warn_if_open(path, &place, problems);
            Some(text)
        }
        (_, _, _) => {
            problems.fault(place, "expected exactly one of value, env and file");
            None
        }
    }
}

/// A text that is too short to be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret has at least 32 bytes, better from `openssl rand -hex 32`")]
struct TooShort;

/// 32 bytes as hexadecimal or base64; or any longer text, hashed down.
fn secret(text: &str) -> Result<Secret, TooShort> {
    if let Some(bytes) = hex(text) {
        return Ok(Secret::new(bytes));
    }
    if let Ok(bytes) = STANDARD.decode(text)
        && let Ok(bytes) = <[u8; 32]>::try_from(bytes)
    {
        return Ok(Secret::new(bytes));
    }
    if text.len() < SECRET_BYTES_MIN {
        return Err(TooShort);
    }
    Ok(Secret::new(Sha256::digest(text.as_bytes()).into()))
}

fn hex(text: &str) -> Option<[u8; 32]> {
    let text = text.as_bytes();
    if text.len() != 64 || !text.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let digit = |at: usize| (text[at] as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut bytes = [0; 32];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = digit(2 * i)? * 16 + digit(2 * i + 1)?;
    }
    Some(bytes)
}

fn read_or_make(
    path: &Path,
    place: &str,
    outside: Outside<'_>,
    problems: &mut Problems,
) -> Option<Secret> {
    let text =
        problems.note(place, found_or_made(path, outside.purpose))?.kept(path, place, problems);
    let secret = secret(text.expose()).map_err(|error| format!("{}: {error}", path.display()));
    problems.note(place, secret)
}

/// A secret text, and whether its file was there.
enum Text {
    Found(SecretText),
    Made(SecretText),
    Drawn(SecretText),
}

impl Text {
    fn kept(self, path: &Path, place: &str, problems: &mut Problems) -> SecretText {
        match self {
            Self::Found(text) => {
                warn_if_open(path, place, problems);
                text
            }
            Self::Made(text) => {
                problems.say(format!("made {}", path.display()));
                text
            }
            Self::Drawn(text) => text,
        }
    }
}

fn found_or_made(path: &Path, purpose: Purpose) -> Result<Text, String> {
    match read(path) {
        Ok(text) => return Ok(Text::Found(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(unreadable(path, &error)),
    }
    let bytes = Zeroizing::new(rand::rng().random::<[u8; 32]>());
    let text = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = SecretText::new(text);
    match purpose {
        Purpose::Check => Ok(Text::Drawn(text)),
        Purpose::Run => match write(path, &text) {
            Ok(()) => Ok(Text::Made(text)),
            // Another process was faster: its secret is the one.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                read(path).map(Text::Found).map_err(|error| unreadable(path, &error))
            }
            Err(error) => Err(format!("cannot make {}: {error}", path.display())),
        },
    }
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    format!("cannot read {}: {error}", path.display())
}

fn read(path: &Path) -> io::Result<SecretText> {
    let mut text = Zeroizing::new(String::new());
    File::open(path)?.take(SECRET_FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(SecretText::new(text.trim().to_owned()))
}

/// Writes a new file, whole or not at all, for its owner only.
fn write(path: &Path, text: &SecretText) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) | None => Path::new("."),
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let draft = path.with_extension(format!("{:08x}.new", rand::rng().random::<u32>()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = file
        .write_all(text.expose().as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        // A link, unlike a rename, never takes the place of another process's secret.
        .and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    written?;
    File::open(folder)?.sync_all()
}

fn warn_if_open(path: &Path, place: &str, problems: &mut Problems) {
    let readable_by_others = 0o004;
    if let Ok(metadata) = fs::metadata(path)
        && metadata.permissions().mode() & readable_by_others != 0
    {
        problems.warn(place, format!("{} can be read by everybody", path.display()));
    }
}
