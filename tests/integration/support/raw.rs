//! A client that sends bytes and reads bytes.
#![expect(clippy::unwrap_used, reason = "a helper of tests")]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No answer takes longer than this, unless something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What came back for some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Back {
    /// The statuses of all answers, interim ones too.
    Statuses(Vec<u16>),
    /// The connection ended without one.
    Closed,
    /// Neither.
    Nothing,
}

/// What a client does once it has sent its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It waits for what comes back.
    Wait,
    /// It says that nothing more will come.
    HalfClose,
}

/// Sends bytes and reads until the connection ends.
pub(crate) async fn exchange(addr: SocketAddr, bytes: &[u8], then: Then) -> (Back, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // The other side may have answered and closed before it has read everything.
    let _ = stream.write_all(bytes).await;
    if then == Then::HalfClose {
        let _ = stream.shutdown().await;
    }
    let mut read = Vec::new();
    let ended = timeout(PATIENCE, read_until(&mut stream, &mut read, "")).await;
    let text = String::from_utf8_lossy(&read).into_owned();
    let back = match (statuses(&text), ended) {
        (statuses, _) if !statuses.is_empty() => Back::Statuses(statuses),
        (_, Ok(())) => Back::Closed,
        (_, Err(_)) => Back::Nothing,
    };
    (back, text)
}

/// Reads until the end, an error, or the text.
pub(crate) async fn read_until(stream: &mut TcpStream, read: &mut Vec<u8>, until: &str) {
    let until = until.as_bytes();
    let has_come =
        |read: &[u8]| !until.is_empty() && read.windows(until.len()).any(|window| window == until);
    while !has_come(read) {
        match stream.read_buf(read).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// The statuses of the answers in a text.
pub(crate) fn statuses(text: &str) -> Vec<u16> {
    text.match_indices("HTTP/1.")
        .filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok())
        .collect()
}
