//! One connection to Redis, kept up: connects when asked, gives up when its answers cannot be
//! trusted any more, and never lets a call last longer than its deadline.
//!
//! The `redis` crate reads the URL. Its connections are not used: their time limits do not cover the
//! wait for a reconnect, a call that ran out of time leaves the dead connection in place, a demoted
//! primary is kept, and a call over one costs three times what it does over a [`Link`]. See
//! [`super::script`] for what is said over the connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::ConnectionAddr;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::link::Link;
use super::resp::Reply;
use super::script::{self, Script};
use super::{Settings, SettingsError};
use crate::store::{Refusal, StoreError};

/// How long after a failed connect the next one is tried at the earliest; doubles up to the latter.
const BACK_OFF_MIN: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// A silent peer is probed after this long, this often.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const KEEP_ALIVE_PROBES_MAX: u32 = 3;

/// Bytes that are not acknowledged for so long end the connection.
const USER_TIMEOUT: Duration = Duration::from_secs(2);

/// The connection, in whatever state it is.
pub(super) struct Connection {
    address: Address,
    login: redis::RedisConnectionInfo,
    deadline: Duration,
    connect_timeout: Duration,
    calls: Semaphore,
    /// Held while connecting, so that only one caller at a time does.
    slot: Mutex<Slot>,
}

struct Address {
    host: String,
    port: u16,
    tls: Option<Tls>,
}

struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

enum Slot {
    Empty,
    Up(Arc<Link>),
    Down { until: Instant, back_off: Duration, why: String },
}

/// The right to make one call, until its deadline.
pub(super) struct Call<'a> {
    link: Arc<Link>,
    deadline: Instant,
    _permit: SemaphorePermit<'a>,
}

impl Connection {
    pub(super) fn new(settings: &Settings) -> Result<Self, SettingsError> {
        if settings.connect_timeout >= settings.deadline {
            return Err(SettingsError::ConnectTimeout);
        }
        let info = redis::IntoConnectionInfo::into_connection_info(settings.url.as_str())
            .map_err(|_| SettingsError::Url("it does not parse"))?;
        let address = Address::new(info.addr(), settings)?;
        Ok(Self {
            address,
            login: info.redis_settings().clone(),
            deadline: settings.deadline,
            connect_timeout: settings.connect_timeout,
            calls: Semaphore::new(settings.calls_max.get()),
            slot: Mutex::new(Slot::Empty),
        })
    }

    /// Where it leads, for people.
    pub(super) fn peer(&self) -> String {
        format!("{}:{}", self.address.host, self.address.port)
    }

    /// Starts a call: waits for its turn and for the connection, both within the deadline.
    ///
    /// # Errors
    /// `Unreachable` or `Refused(Busy)`: nothing was sent.
    pub(super) async fn begin(&self) -> Result<Call<'_>, StoreError> {
        let deadline = Instant::now() + self.deadline;
        // Waiting is what needs a timer, and mostly nobody waits.
        let permit = match self.calls.try_acquire() {
            Ok(permit) => permit,
            Err(_) => match timeout_at(deadline, self.calls.acquire()).await {
                Ok(Ok(permit)) => permit,
                Ok(Err(_)) | Err(_) => return Err(Refusal::Busy.into()),
            },
        };
        let link = match self.link_that_is_up() {
            Some(link) => link,
            None => timeout_at(deadline, self.link())
                .await
                .unwrap_or_else(|_| Err("no connection within the deadline".to_owned()))
                .map_err(StoreError::Unreachable)?,
        };
        Ok(Call { link, deadline, _permit: permit })
    }

    /// The link, unless somebody must, or is about to, establish it.
    fn link_that_is_up(&self) -> Option<Arc<Link>> {
        match &*self.slot.try_lock().ok()? {
            Slot::Up(link) if link.is_usable() => Some(Arc::clone(link)),
            Slot::Up(_) | Slot::Empty | Slot::Down { .. } => None,
        }
    }

    /// Returns the link, after establishing it if need be.
    ///
    /// # Cancel safety
    /// Dropping the future drops a connect under way; the next caller starts another.
    async fn link(&self) -> Result<Arc<Link>, String> {
        let mut slot = self.slot.lock().await;
        let back_off = match &*slot {
            Slot::Up(link) if link.is_usable() => return Ok(Arc::clone(link)),
            Slot::Down { until, why, .. } if Instant::now() < *until => return Err(why.clone()),
            Slot::Down { back_off, .. } => (*back_off * 2).min(BACK_OFF_MAX),
            Slot::Up(_) | Slot::Empty => BACK_OFF_MIN,
        };
        let dialled = timeout(self.connect_timeout, self.dial())
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match dialled {
            Ok(link) => {
                let link = Arc::new(link);
                *slot = Slot::Up(Arc::clone(&link));
                Ok(link)
            }
            Err(error) => {
                let why = format!("{}: {error}", self.peer());
                tracing::warn!(error = %why, "no connection to the store");
                *slot = Slot::Down { until: Instant::now() + back_off, back_off, why: why.clone() };
                Err(why)
            }
        }
    }

    async fn dial(&self) -> io::Result<Link> {
        let stream = TcpStream::connect((self.address.host.as_str(), self.address.port)).await?;
        stream.set_nodelay(true)?;
        let socket = socket2::SockRef::from(&stream);
        let keep_alive = socket2::TcpKeepalive::new()
            .with_time(KEEP_ALIVE)
            .with_interval(KEEP_ALIVE)
            .with_retries(KEEP_ALIVE_PROBES_MAX);
        socket.set_tcp_keepalive(&keep_alive)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
        match &self.address.tls {
            None => self.greet(stream).await,
            Some(tls) => {
                let stream = tls.connector.connect(tls.name.clone(), stream).await?;
                self.greet(stream).await
            }
        }
    }

    /// Logs in, chooses the database, and brings the scripts of the path.
    async fn greet<S>(&self, stream: S) -> io::Result<Link>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let link = Link::new(stream);
        let deadline = Instant::now() + self.connect_timeout;
        let say = async |command: &[&[u8]]| match link.ask(command, deadline).await {
            Ok(Reply::Refused(why)) => Err(io::Error::other(why)),
            Ok(_) => Ok(()),
            Err(lost) => Err(io::Error::other(lost)),
        };
        if let Some(password) = self.login.password() {
            let password = password.as_bytes();
            match self.login.username() {
                Some(user) => say(&[b"AUTH", user.as_bytes(), password]).await?,
                None => say(&[b"AUTH", password]).await?,
            }
        }
        if self.login.db() != 0 {
            say(&[b"SELECT", self.login.db().to_string().as_bytes()]).await?;
        }
        // Any answer shows that somebody is there. Who may not load scripts brings them with calls.
        let scripts = [&script::CLAIM, &script::RECORD, &script::LOAD];
        let load = async |script: &Script| {
            link.ask(&[b"SCRIPT", b"LOAD", script.text().as_bytes()], deadline).await
        };
        try_join_all(scripts.map(|script| load(script))).await.map_err(io::Error::other)?;
        Ok(link)
    }
}

impl Address {
    fn new(address: &ConnectionAddr, settings: &Settings) -> Result<Self, SettingsError> {
        match address {
            ConnectionAddr::Tcp(host, port) => {
                Ok(Self { host: host.clone(), port: *port, tls: None })
            }
            ConnectionAddr::TcpTls { insecure: true, .. } => Err(SettingsError::Insecure),
            ConnectionAddr::TcpTls { host, port, .. } => {
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| SettingsError::Url("its host is not a name"))?;
                let config = match &settings.tls {
                    Some(config) => Arc::clone(config),
                    None => Arc::new(system_roots()?),
                };
                let tls = Tls { connector: TlsConnector::from(config), name };
                Ok(Self { host: host.clone(), port: *port, tls: Some(tls) })
            }
            ConnectionAddr::Unix(_) | _ => {
                Err(SettingsError::Url("only redis:// and rediss:// are supported"))
            }
        }
    }
}

/// Trusts what the system trusts.
fn system_roots() -> Result<rustls::ClientConfig, SettingsError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(SettingsError::NoRoots);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| SettingsError::NoRoots)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

impl Call<'_> {
    /// Sends a command and returns its answer.
    ///
    /// # Errors
    /// [`Failure`]: what the caller may conclude, and whether the server lacks the script.
    ///
    /// # Cancel safety
    /// Dropping the future does not take the command back.
    pub(super) async fn ask(&self, command: &[&[u8]]) -> Result<Reply, Failure> {
        let failure = match self.link.ask(command, self.deadline).await {
            Ok(Reply::Refused(why)) => judge(&why),
            Ok(reply) => return Ok(reply),
            Err(lost) => Failure::gone(StoreError::Unconfirmed(lost.to_string())),
        };
        if failure.link_is_lost {
            self.distrust();
        }
        Err(failure)
    }

    /// Gives up the connection: the next call makes another.
    pub(super) fn distrust(&self) {
        self.link.distrust();
    }
}

/// Why a command was not answered as it should be.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: StoreError,
    pub(super) no_script: bool,
    link_is_lost: bool,
}

impl Failure {
    fn kept(error: StoreError) -> Self {
        Self { error, no_script: false, link_is_lost: false }
    }

    fn gone(error: StoreError) -> Self {
        Self { error, no_script: false, link_is_lost: true }
    }
}

/// Decides what an error proves. Redis refuses a script with one of the named codes before its
/// first command runs; anything else may have happened halfway.
fn judge(error: &str) -> Failure {
    let text = error.to_owned();
    match error.split(' ').next() {
        Some("NOSCRIPT") => {
            Failure { no_script: true, ..Failure::kept(StoreError::Unconfirmed(text)) }
        }
        Some("OOM") => Failure::kept(Refusal::Full.into()),
        Some("BUSY") => Failure::kept(Refusal::Busy.into()),
        Some("NOREPLICAS" | "MISCONF") => Failure::kept(Refusal::ReadOnly(text).into()),
        // No primary any more; its name may lead to another one by now.
        Some("READONLY") => Failure::gone(Refusal::ReadOnly(text).into()),
        Some("LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "MOVED" | "ASK" | "TRYAGAIN") => {
            Failure::gone(StoreError::Unreachable(text))
        }
        Some(_) | None => Failure::kept(StoreError::Unconfirmed(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(code: &str) -> Failure {
        judge(&format!("{code} said so"))
    }

    #[test]
    fn only_what_redis_refuses_beforehand_counts_as_not_applied() {
        assert_eq!(judged("OOM").error, Refusal::Full.into());
        assert_eq!(judged("BUSY").error, Refusal::Busy.into());
        assert!(matches!(judged("MISCONF").error, StoreError::Refused(Refusal::ReadOnly(_))));
        assert!(matches!(judged("LOADING").error, StoreError::Unreachable(_)));
        assert!(matches!(judged("WRONGTYPE").error, StoreError::Unconfirmed(_)));
        assert!(matches!(judged("NOPERM").error, StoreError::Unconfirmed(_)));
    }

    #[test]
    fn a_primary_that_is_none_any_more_loses_its_connection() {
        assert!(judged("READONLY").link_is_lost);
        assert!(judged("LOADING").link_is_lost);
        assert!(!judged("OOM").link_is_lost);
    }
}
