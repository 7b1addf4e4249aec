//! The payment APIs.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use super::{address, count, some_span, under};
use crate::config::problems::Problems;
use crate::config::raw;
use crate::upstream::settings::{
    Connections, Forwarding, Identity, PassTimeouts, Roots, Settings, TlsSettings, UpstreamUrl,
};

/// A payment API.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Its name in routes, scopes and metrics.
    pub name: String,
    /// What is known of it, by name.
    pub preset: Option<String>,
    /// A data port of its own.
    pub listen: Option<SocketAddr>,
    /// How it is reached.
    pub settings: Settings,
}

/// Checks all of them.
pub(super) fn check(raw: &raw::Upstreams, problems: &mut Problems) -> Option<Vec<Upstream>> {
    if raw.0.is_empty() {
        problems.fault("upstreams", "there is none; name one here, or give --upstream URL");
    }
    let upstreams: Vec<_> = raw.0.iter().map(|(name, raw)| upstream(name, raw, problems)).collect();
    upstreams.into_iter().collect()
}

fn upstream(name: &str, raw: &raw::Upstream, problems: &mut Problems) -> Option<Upstream> {
    let at = under("upstreams", name);
    // Names stand in metrics and logs, and are typed by people.
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(fine) {
        problems.fault(&at, "a name has 1 to 64 letters, digits, hyphens, dots and underscores");
    }
    let listen = match &raw.listen {
        Some(listen) => address(&under(&at, "listen"), listen, problems).map(Some),
        None => Some(None),
    };
    let settings = settings(&at, raw, problems);
    let preset = raw.preset.clone();
    Some(Upstream { name: name.to_owned(), preset, listen: listen?, settings: settings? })
}

fn settings(at: &str, raw: &raw::Upstream, problems: &mut Problems) -> Option<Settings> {
    let url = problems.note(&under(at, "url"), raw.url.parse::<UpstreamUrl>());
    let connect_timeout = some_span(&under(at, "connect_timeout"), &raw.connect_timeout, problems);
    let connections_max = count(&under(at, "connections_max"), raw.connections_max, problems);
    let connections = connections(at, raw, problems);
    let tls = tls(&under(at, "tls"), &raw.tls, problems);
    let head_max = problems.note(&under(at, "header_bytes"), raw.header_bytes.parse());
    if head_max.is_some_and(|bytes| bytes < Settings::HEAD_MIN) {
        problems.fault(&under(at, "header_bytes"), "must be 8KiB at least");
    }
    let pass = under(at, "pass");
    let head = some_span(&under(&pass, "header_timeout"), &raw.pass.header_timeout, problems);
    let idle = some_span(&under(&pass, "idle_timeout"), &raw.pass.idle_timeout, problems);
    Some(Settings {
        url: url?,
        connect_timeout: connect_timeout?,
        connections: connections?,
        connections_max: NonZeroUsize::new(connections_max?)?,
        tls: tls?,
        head_max: head_max?,
        pass: PassTimeouts { head: head?, idle: idle? },
        forwarding: match raw.forwarded {
            raw::Forwarded::Strip => Forwarding::Strip,
            raw::Forwarded::Trust => Forwarding::Trust,
        },
    })
}

fn connections(at: &str, raw: &raw::Upstream, problems: &mut Problems) -> Option<Connections> {
    let idle_max = some_span(&under(at, "idle_timeout"), &raw.idle_timeout, problems);
    let size_max = count(&under(at, "idle_max"), raw.idle_max, problems);
    let spares = usize::try_from(raw.spares).ok();
    Some(match raw.connections {
        raw::Connections::Pooled => {
            Connections::Pooled { idle_max: idle_max?, size_max: size_max? }
        }
        raw::Connections::SingleUse => Connections::SingleUse { spares: spares? },
    })
}

fn tls(at: &str, raw: &raw::Tls, problems: &mut Problems) -> Option<TlsSettings> {
    let identity = match (&raw.certificate, &raw.key) {
        (Some(certificate), Some(key)) => {
            Some(Identity { certificate: certificate.into(), key: key.into() })
        }
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            problems.fault(at, "`certificate` and `key` belong together; one is missing");
            return None;
        }
    };
    Some(TlsSettings {
        roots: raw.ca.as_ref().map_or(Roots::System, |path| Roots::File(path.into())),
        identity,
        server_name: raw.server_name.clone(),
    })
}
