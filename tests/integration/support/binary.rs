//! The real binary: running, and asked by its command line; and a client that speaks to it.
#![expect(clippy::unwrap_used, reason = "a test that cannot start the binary has failed")]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Nothing takes longer, unless something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The binary, without what the environment of the test would tell it.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_semel"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SEMEL_") {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command to its end.
pub(crate) fn semel(args: &[&str]) -> Said {
    let output = command(args).output().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The lines that a process has logged so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    pub(crate) fn text(&self) -> String {
        self.0.0.lock().unwrap().lines.join("\n")
    }

    /// Waits for a line for which `pick` has something.
    pub(crate) fn wait<T>(&self, what: &str, pick: impl Fn(&Value) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        let (lines, news) = &*self.0;
        let mut lines = lines.lock().unwrap();
        loop {
            let parsed = lines.lines.iter().filter_map(|line| serde_json::from_str(line).ok());
            if let Some(found) = parsed.into_iter().find_map(|line: Value| pick(&line)) {
                return found;
            }
            let left = until.saturating_duration_since(Instant::now());
            let text = || lines.lines.join("\n");
            assert!(!left.is_zero() && !lines.ended, "no {what} in the log:\n{}", text());
            lines = news.wait_timeout(lines, left).unwrap().0;
        }
    }

    fn follow(&self, from: impl std::io::Read + Send + 'static) {
        let log = self.clone();
        thread::spawn(move || {
            let (lines, news) = &*log.0;
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                lines.lock().unwrap().lines.push(line);
                news.notify_all();
            }
            lines.lock().unwrap().ended = true;
            news.notify_all();
        });
    }
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Semel {
    child: Child,
    pub(crate) log: Log,
    pub(crate) data: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Semel {
    /// Starts it by a config file, with more arguments, and waits until it is ready.
    pub(crate) fn start(config: &Path, args: &[&str]) -> Self {
        let config = config.to_str().unwrap();
        let mut child = command(&["run", "--config", config]).args(args).spawn().unwrap();
        let log = Log::default();
        log.follow(child.stderr.take().unwrap());
        let addr = |name: &'static str| {
            log.wait(name, |line| {
                let says = line["message"].as_str()?.starts_with(name);
                says.then(|| line["addr"].as_str().unwrap().parse().unwrap())
            })
        };
        let (data, admin) = (addr("data port"), addr("admin port"));
        Self { child, log, data, admin }
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success(), "{}", self.log.text());
    }

    /// Ends it without a word.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Semel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(its, value)| its.eq_ignore_ascii_case(name).then_some(value))
    }

    pub(crate) fn operation(&self) -> String {
        self.header("semel-operation").unwrap_or_else(|| panic!("no operation: {self:?}")).into()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// Sends a request on a connection of its own and reads the answer. `lines` are header lines, each
/// with its end; `Host` and the length are added unless they are there.
pub(crate) async fn http(addr: SocketAddr, line: &str, lines: &str, body: &[u8]) -> Answer {
    let host = if lines.contains("Host: ") { String::new() } else { format!("Host: {addr}\r\n") };
    let head = format!(
        "{line} HTTP/1.1\r\n{host}Connection: close\r\n{lines}Content-Length: {}\r\n\r\n",
        body.len()
    );
    let exchange = async {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // It may be refused before all of it was read.
        let _ = stream.write_all(body).await;
        let mut read = Vec::new();
        let _ = stream.read_to_end(&mut read).await;
        read
    };
    let read = tokio::time::timeout(PATIENCE, exchange).await.unwrap();
    let end = read.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("{line}: {:?}", String::from_utf8_lossy(&read)));
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: read[end + 4..].to_vec() }
}

/// Asks again and again until `pick` has something in the answer.
pub(crate) async fn until<T, F: Future<Output = Answer>>(
    ask: impl Fn() -> F,
    pick: impl Fn(&Answer) -> Option<T>,
) -> T {
    let patience = Instant::now() + PATIENCE;
    loop {
        let answer = ask().await;
        if let Some(found) = pick(&answer) {
            return found;
        }
        assert!(Instant::now() < patience, "still: {answer:?} {}", answer.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
