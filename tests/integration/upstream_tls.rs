//! The upstream over TLS: whom it trusts, who it is, and that a failed handshake sent nothing.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use semel::protocol::outcome::NotSent;
use semel::task::Tasks;
use semel::upstream::HttpUpstream;
use semel::upstream::settings::{Connections, Identity, Roots, Settings, TlsSettings};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use crate::support::rawserver::RawServer;
use crate::upstream::{LONG, Seen, answer, echo, forward, pooled, post, settings, wire};

/// A certificate authority with its files in a folder of its own.
pub(crate) struct Authority {
    pub(crate) folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    fn roots(&self) -> Roots {
        Roots::File(self.folder.path().join("ca.pem"))
    }

    /// Issues a certificate for a name: its file, and its key's.
    fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |kind| self.folder.path().join(format!("{name}-{kind}.pem"));
        std::fs::write(path("cert"), certificate.pem()).unwrap();
        std::fs::write(path("key"), key.serialize_pem()).unwrap();
        (path("cert"), path("key"))
    }

    /// A server's side for a name; it asks for client certificates of this authority if told to.
    pub(crate) fn acceptor(&self, name: &str, asks: bool) -> TlsAcceptor {
        let (certificate, key) = self.issue(name);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match asks {
            true => builder.with_client_cert_verifier(verifier.build().unwrap()),
            false => builder.with_no_client_auth(),
        };
        let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()))
    }
}

fn upstream(server: &RawServer, tls: TlsSettings, connections: Connections) -> HttpUpstream {
    let settings = settings(&format!("https://localhost:{}", server.address.port()));
    HttpUpstream::new(&Settings { tls, connections, ..settings }, &Tasks::default()).unwrap()
}

#[tokio::test]
async fn an_upstream_of_the_configured_authority_is_trusted() {
    let authority = Authority::new();
    let server = RawServer::start_with(Some(authority.acceptor("localhost", false)), echo).await;
    let tls = TlsSettings { roots: authority.roots(), ..TlsSettings::default() };

    for connections in [pooled(), Connections::SingleUse { spares: 1 }] {
        let upstream = upstream(&server, tls.clone(), connections);
        upstream.reach().await.unwrap();
        for _ in 0..10 {
            assert_eq!(forward(&upstream, post("x"), &wire(LONG)).await, answer("x"));
        }
    }
}

#[tokio::test]
async fn a_failed_handshake_proves_that_nothing_was_sent() {
    let (ours, other) = (Authority::new(), Authority::new());
    let localhost = RawServer::start_with(Some(ours.acceptor("localhost", false)), echo).await;
    let elsewhere = RawServer::start_with(Some(ours.acceptor("elsewhere", false)), echo).await;
    let plain = RawServer::start(echo).await;
    let trust = |authority: &Authority| TlsSettings { roots: authority.roots(), ..<_>::default() };

    for (server, tls) in
        [(&localhost, trust(&other)), (&elsewhere, trust(&ours)), (&plain, trust(&ours))]
    {
        let upstream = upstream(server, tls, pooled());
        let seen = forward(&upstream, post("x"), &wire(LONG)).await;
        assert_eq!(seen, Seen::NotSent(NotSent::NotConnected));
        assert_eq!(server.executions(), 0);
    }
}

#[tokio::test]
async fn the_name_on_the_certificate_can_be_configured() {
    let authority = Authority::new();
    let server = RawServer::start_with(Some(authority.acceptor("elsewhere", false)), echo).await;
    let server_name = Some("elsewhere".to_owned());
    let tls = TlsSettings { roots: authority.roots(), server_name, ..TlsSettings::default() };

    let upstream = upstream(&server, tls, pooled());

    assert_eq!(forward(&upstream, post("x"), &wire(LONG)).await, answer("x"));
}

#[tokio::test]
async fn an_upstream_that_asks_gets_the_client_certificate() {
    let authority = Authority::new();
    let server = RawServer::start_with(Some(authority.acceptor("localhost", true)), echo).await;
    let (certificate, key) = authority.issue("semel");
    let identity = Some(Identity { certificate, key });
    let shown = TlsSettings { roots: authority.roots(), identity, ..TlsSettings::default() };
    let hidden = TlsSettings { identity: None, ..shown.clone() };

    let with = forward(&upstream(&server, shown, pooled()), post("x"), &wire(LONG)).await;
    let without = forward(&upstream(&server, hidden, pooled()), post("x"), &wire(LONG)).await;

    assert_eq!(with, answer("x"));
    // TLS 1.3 refuses after the client's side is done: whether a byte went out is on the wire.
    assert!(matches!(without, Seen::NotSent(_) | Seen::Broken(_)), "{without:?}");
    assert_eq!(server.executions(), 1);
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_with_a_reason() {
    let authority = Authority::new();
    let (certificate, _) = authority.issue("one");
    let (_, key) = authority.issue("two");
    let identity = Some(Identity { certificate, key });
    let mixed = TlsSettings { roots: authority.roots(), identity, ..TlsSettings::default() };
    let missing = TlsSettings { roots: Roots::File("/nowhere.pem".into()), ..<_>::default() };
    let unnamed = TlsSettings {
        roots: authority.roots(),
        server_name: Some("not a name".to_owned()),
        ..TlsSettings::default()
    };

    for (tls, words) in [(mixed, "certificate"), (missing, "/nowhere.pem"), (unnamed, "not a name")]
    {
        let settings = Settings { tls, ..settings("https://localhost") };
        let error = HttpUpstream::new(&settings, &Tasks::default()).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}
