//! What is configured for an upstream: its address, its TLS, its bounds. Made by the configuration,
//! checked here; knows no request.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use http::uri::{PathAndQuery, Scheme, Uri};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

/// Everything about one upstream.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it is.
    pub url: UpstreamUrl,
    /// How long name, connection and TLS handshake may take together.
    pub connect_timeout: Duration,
    /// How guarded requests use connections.
    pub connections: Connections,
    /// How many guarded requests may be under way at the same time, and how many unguarded ones.
    pub connections_max: NonZeroUsize,
    /// Whom to trust and who to be, for `https`.
    pub tls: TlsSettings,
    /// Largest head of an answer, in bytes; at least [`Settings::HEAD_MIN`].
    pub head_max: usize,
    /// How long unguarded requests may take.
    pub pass: PassTimeouts,
    /// What becomes of `Forwarded` and `X-Forwarded-*`.
    pub forwarding: Forwarding,
}

impl Settings {
    /// The defaults for this address.
    pub fn new(url: UpstreamUrl) -> Self {
        Self {
            url,
            connect_timeout: Duration::from_secs(5),
            connections: Connections::default(),
            connections_max: NonZeroUsize::new(512).unwrap_or(NonZeroUsize::MIN),
            tls: TlsSettings::default(),
            head_max: 64 * 1024,
            pass: PassTimeouts::default(),
            forwarding: Forwarding::Strip,
        }
    }

    /// No bound on an answer's head is taken below this.
    pub const HEAD_MIN: usize = 8 * 1024;

    /// No connection could be used that may rest for less than this.
    pub const IDLE_MIN: Duration = Duration::from_millis(10);

    /// Finds bounds that are too small to work with.
    pub(super) fn check_bounds(&self) -> Result<(), SettingsInvalid> {
        if self.head_max < Self::HEAD_MIN {
            return Err(SettingsInvalid::Bound("the head of an answer needs at least 8 KiB"));
        }
        match self.connections {
            Connections::Pooled { idle_max, .. } if idle_max < Self::IDLE_MIN => {
                Err(SettingsInvalid::Bound("a pooled connection must rest for at least 10 ms"))
            }
            Connections::Pooled { .. } | Connections::SingleUse { .. } => Ok(()),
        }
    }
}

/// How guarded requests use connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// One after the other on the same connection.
    Pooled {
        /// How long a connection may rest. Servers commonly close after 5 s: stay below.
        idle_max: Duration,
        /// How many may rest at the same time.
        size_max: usize,
    },
    /// One connection each, so that no answer can ever meet another's request.
    SingleUse {
        /// How many unused connections are kept ready while there is traffic.
        spares: usize,
    },
}

impl Default for Connections {
    fn default() -> Self {
        Self::Pooled { idle_max: Duration::from_secs(4), size_max: 128 }
    }
}

/// How long unguarded requests may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassTimeouts {
    /// From the request to the head of its answer.
    pub head: Duration,
    /// Between two pieces of the answer's body.
    pub idle: Duration,
}

impl Default for PassTimeouts {
    fn default() -> Self {
        Self { head: Duration::from_secs(120), idle: Duration::from_secs(300) }
    }
}

/// What becomes of `Forwarded` and `X-Forwarded-*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Forwarding {
    /// They are removed: whoever sent them may have made them up.
    #[default]
    Strip,
    /// They go on: a trusted proxy in front of us set them.
    Trust,
}

/// `http://host[:port][/base]` or `https://…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamUrl {
    authority: HeaderValue,
    host: String,
    port: u16,
    base: String,
    encrypted: bool,
}

/// Why a text is not an upstream's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlInvalid {
    /// No URL at all.
    #[error("an upstream is a URL such as https://api.example.com")]
    NotAUrl,
    /// Neither `http` nor `https`.
    #[error("an upstream's URL starts with http:// or https://")]
    Scheme,
    /// Credentials belong into headers.
    #[error("an upstream's URL has no user or password")]
    UserInfo,
    /// A query or fragment would belong to every request.
    #[error("an upstream's URL has no ? and no #")]
    Query,
}

impl FromStr for UpstreamUrl {
    type Err = UrlInvalid;

    fn from_str(text: &str) -> Result<Self, UrlInvalid> {
        if text.contains(['?', '#']) {
            return Err(UrlInvalid::Query);
        }
        let uri: Uri = text.parse().map_err(|_| UrlInvalid::NotAUrl)?;
        let encrypted = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(_) | None => return Err(UrlInvalid::Scheme),
        };
        let authority = uri.authority().ok_or(UrlInvalid::NotAUrl)?;
        if authority.as_str().contains('@') {
            return Err(UrlInvalid::UserInfo);
        }
        let has_port = authority.as_str().len() > authority.host().len();
        let port = match authority.port_u16() {
            Some(port) => port,
            None if has_port => return Err(UrlInvalid::NotAUrl),
            None if encrypted => 443,
            None => 80,
        };
        Ok(Self {
            authority: authority.as_str().parse().map_err(|_| UrlInvalid::NotAUrl)?,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port,
            base: uri.path().trim_end_matches('/').to_owned(),
            encrypted,
        })
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.encrypted { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority.to_str().unwrap_or_default(), self.base)
    }
}

impl UpstreamUrl {
    /// What `Host` says.
    pub const fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// Name or address to connect to.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port to connect to.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether TLS is spoken.
    pub const fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// What stands before every path: empty, or `/base`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The request target: base, then path and query exactly as they came. `None` if they do not
    /// start with a slash (`OPTIONS *`).
    pub fn target(&self, request: &Uri) -> Option<Uri> {
        let rest = request.path_and_query()?;
        if !rest.as_str().starts_with('/') {
            return None;
        }
        let target = if self.base.is_empty() {
            rest.clone()
        } else {
            PathAndQuery::try_from(format!("{}{rest}", self.base)).ok()?
        };
        Some(Uri::from(target))
    }
}

/// Whom to trust and who to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsSettings {
    /// Whose certificates count.
    pub roots: Roots,
    /// What is shown to an upstream that asks.
    pub identity: Option<Identity>,
    /// The name that the certificate must have, if it is not the URL's host.
    pub server_name: Option<String>,
}

/// Whose certificates count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Roots {
    /// Those that the system trusts.
    #[default]
    System,
    /// Those in this PEM file, and no others.
    File(PathBuf),
}

/// A client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// PEM file with the certificate, and those that lead from it to a root.
    pub certificate: PathBuf,
    /// PEM file with its key.
    pub key: PathBuf,
}

/// Why an upstream's settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsInvalid {
    /// A PEM file cannot be read, or has nothing that is needed.
    #[error("{path}: {why}", path = path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The system has no certificates (an image without a CA bundle, perhaps).
    #[error("the system has no CA certificates; configure a CA file")]
    NoSystemRoots,
    /// Not a name that a certificate can have.
    #[error("{0:?} is not a name for a certificate")]
    ServerName(String),
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("the client certificate cannot be used: {0}")]
    Identity(String),
    /// The TLS library cannot do what we ask of it.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// A bound that is too small to work with.
    #[error("{0}")]
    Bound(&'static str),
}

/// TLS towards one upstream, ready for use.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) client: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

impl TlsSettings {
    /// Reads the files and makes a client of them: TLS 1.2 and 1.3, HTTP/1.1, sessions resumed, no
    /// early data (it can be replayed).
    pub(super) fn load(&self, host: &str) -> Result<Tls, SettingsInvalid> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| SettingsInvalid::ServerName(name.to_owned()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| SettingsInvalid::Tls(error.to_string()))?
            .with_root_certificates(self.roots.load()?);
        let mut client = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.load()?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| SettingsInvalid::Identity(error.to_string()))?
            }
        };
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        client.enable_early_data = false;
        Ok(Tls { client: Arc::new(client), name })
    }
}

impl Roots {
    fn load(&self) -> Result<RootCertStore, SettingsInvalid> {
        let mut store = RootCertStore::empty();
        match self {
            Self::System => {
                store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if store.is_empty() {
                    return Err(SettingsInvalid::NoSystemRoots);
                }
            }
            Self::File(path) => {
                for certificate in certificates(path)? {
                    store.add(certificate).map_err(|error| unusable(path, error))?;
                }
            }
        }
        Ok(store)
    }
}

impl Identity {
    fn load(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), SettingsInvalid> {
        let chain = certificates(&self.certificate)?;
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|error| unusable(&self.key, error))?;
        Ok((chain, key))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SettingsInvalid> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(path, error))?;
    if found.is_empty() {
        return Err(unusable(path, "there is no certificate in it"));
    }
    Ok(found)
}

fn unusable(path: &Path, why: impl ToString) -> SettingsInvalid {
    SettingsInvalid::File { path: path.to_owned(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> UpstreamUrl {
        text.parse().unwrap()
    }

    fn target(base: &str, request: &'static str) -> Option<String> {
        url(base).target(&Uri::from_static(request)).map(|uri| uri.to_string())
    }

    #[test]
    fn an_address_has_a_host_a_port_and_perhaps_a_base() {
        let plain = url("http://[::1]:8080/base/");
        assert_eq!((plain.host(), plain.port(), plain.is_encrypted()), ("::1", 8080, false));
        assert_eq!(plain.authority(), "[::1]:8080");
        assert_eq!(plain.to_string(), "http://[::1]:8080/base");

        let encrypted = url("https://api.example.com");
        assert_eq!((encrypted.port(), encrypted.is_encrypted()), (443, true));
        assert_eq!(encrypted.authority(), "api.example.com");
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (text, why) in [
            ("api.example.com", UrlInvalid::Scheme),
            ("ftp://api.example.com", UrlInvalid::Scheme),
            ("http://", UrlInvalid::NotAUrl),
            ("http://host:port", UrlInvalid::NotAUrl),
            ("http://host:", UrlInvalid::NotAUrl),
            ("http://me:secret@host", UrlInvalid::UserInfo),
            ("http://host/?a=b", UrlInvalid::Query),
            ("http://host/#a", UrlInvalid::Query),
        ] {
            assert_eq!(text.parse::<UpstreamUrl>(), Err(why), "{text}");
        }
    }

    #[test]
    fn a_target_is_the_base_and_what_came() {
        let same = |base, request, expected: &str| {
            assert_eq!(target(base, request).as_deref(), Some(expected));
        };
        same("http://h", "/a//b/../c%2f?q=%20&q", "/a//b/../c%2f?q=%20&q");
        same("http://h/base/", "/v1?x", "/base/v1?x");
        same("http://h", "//evil.example/x", "//evil.example/x");
        same("http://h", "http://evil.example/x?y", "/x?y");
        assert_eq!(target("http://h", "*"), None);
    }

    #[test]
    fn bounds_that_nothing_could_meet_are_refused() {
        let settings = Settings::new(url("http://h"));
        assert_eq!(settings.check_bounds(), Ok(()));

        let short = Settings { head_max: 100, ..settings.clone() };
        let connections = Connections::Pooled { idle_max: Duration::ZERO, size_max: 1 };
        let restless = Settings { connections, ..settings };

        assert!(short.check_bounds().is_err() && restless.check_bounds().is_err());
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let tls = TlsSettings { roots: Roots::File(file.path().into()), ..Default::default() };

        let error = tls.load("localhost").err().unwrap();

        assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
        assert!(error.to_string().contains("no certificate"), "{error}");
    }
}
