//! The Redis store over TLS: whom it talks to, and records larger than what a socket takes at once.
#![expect(clippy::unwrap_used, reason = "a bench that cannot open a store has failed")]

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use semel::store::redis::{RedisStore, Settings};
use semel::store::{Store as _, StoreError, Swapped, Tag, Write};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::support::redis::{RedisServer, free_port};
use crate::support::swaps::{CHARTER, claim, key, patient};

/// How much a narrow way takes at once, and how long it then rests.
const SEGMENT_BYTES: u32 = 536;
const WINDOW_BYTES: u32 = 4 << 10;
const PIECE_BYTES: usize = 8 << 10;
const PAUSE: Duration = Duration::from_millis(1);

/// Makes a certificate for 127.0.0.1, puts it and its key into files, and returns what trusts it.
fn certify(folder: &Path) -> Arc<rustls::ClientConfig> {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), certified.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), certified.signing_key.serialize_pem()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Lets a Redis speak TLS as well. Returns on which port, and what trusts it.
fn secure(server: &RedisServer) -> (u16, Arc<rustls::ClientConfig>) {
    let folder = tempfile::tempdir().unwrap();
    let tls = certify(folder.path());
    let file = |name| folder.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key, port) = (file("cert.pem"), file("key.pem"), free_port());
    let tls_port = port.to_string();
    let mut words = vec!["CONFIG", "SET", "tls-cert-file", &certificate, "tls-key-file", &key];
    words.extend(["tls-auth-clients", "no", "tls-port", &tls_port]);
    server.command(&words);
    (port, tls)
}

#[tokio::test]
async fn a_connection_over_tls_checks_whom_it_talks_to() {
    let server = RedisServer::start();
    let (port, tls) = secure(&server);
    let url = format!("rediss://127.0.0.1:{port}");

    let trusting = Settings { tls: Some(tls), ..patient(&url) };
    let trusting = RedisStore::connect(&trusting).unwrap();
    let stranger = tempfile::tempdir().unwrap();
    let wary = Settings { tls: Some(certify(stranger.path())), ..patient(&url) };
    let wary = RedisStore::connect(&wary).unwrap();

    assert_eq!(trusting.charter().await, Ok(None));
    let refused = wary.charter().await;
    assert!(matches!(refused, Err(StoreError::Unreachable(_))), "{refused:?}");
}

/// A slow way to a port, for one connection. Who writes into it meets a full socket again and again:
/// small segments and a small window keep the kernel from enlarging the sender's.
fn narrow(port: u16, tasks: &mut JoinSet<()>) -> u16 {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(WINDOW_BYTES).unwrap();
    SockRef::from(&socket).set_tcp_mss(SEGMENT_BYTES).unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let own_port = listener.local_addr().unwrap().port();
    tasks.spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut asking, mut told) = client.split();
        let (mut telling, mut asked) = server.split();
        let slowly = async {
            let mut piece = [0; PIECE_BYTES];
            loop {
                let length = asking.read(&mut piece).await?;
                if length == 0 {
                    return Ok(());
                }
                asked.write_all(&piece[..length]).await?;
                tokio::time::sleep(PAUSE).await;
            }
        };
        let _: (io::Result<()>, _) = tokio::join!(slowly, copy(&mut telling, &mut told));
    });
    own_port
}

#[tokio::test]
async fn a_record_larger_than_the_socket_is_sent_to_its_end() {
    let server = RedisServer::start_with(&["--appendonly", "no"]);
    let (port, tls) = secure(&server);
    let mut tasks = JoinSet::new();
    let url = format!("rediss://127.0.0.1:{}", narrow(port, &mut tasks));
    let store = Settings { tls: Some(tls), ..patient(url) };
    let store = RedisStore::connect(&store).unwrap();
    store.found(&CHARTER).await.unwrap();
    store.fence().bind(CHARTER);

    // How much is left at the end for a socket that is full depends on the size.
    for n in 0..4 {
        let content = Bytes::from(vec![b'x'; (512 + 24 * n as usize) << 10]);
        let mut swap = claim(n);
        swap.write = Write::Put { bytes: content.clone(), due: None, tag: Tag::NONE };

        assert_eq!(store.swap(&swap).await, Ok(Swapped::Done), "the {n}th");
        let held = store.load(key(n)).await.unwrap().unwrap();
        assert!(held.bytes == content, "{} bytes", held.bytes.len());
    }
}
