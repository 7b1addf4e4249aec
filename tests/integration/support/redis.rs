//! A real `redis-server` for one test: on a port and in a folder of its own, and gone afterwards.
#![expect(clippy::unwrap_used, reason = "a test that cannot start its server has failed")]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use redis::Value;
use tempfile::TempDir;

/// How often a starting server is asked whether it is there, and how long between two times.
const PINGS_MAX: u32 = 500;
const PING_PAUSE: Duration = Duration::from_millis(20);

/// How long a command of the test's own may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// What acknowledges only what is on disk.
const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// A port of this machine that nobody used just now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

#[derive(Debug)]
pub(crate) struct RedisServer {
    child: Option<Child>,
    folder: TempDir,
    port: u16,
    arguments: Vec<String>,
}

impl RedisServer {
    /// Starts a server that acknowledges only what is on disk.
    pub(crate) fn start() -> Self {
        Self::start_with(DURABLE)
    }

    /// Starts a server with these arguments, and without snapshots if they do not ask for any.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let port = free_port();
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let mut server = Self { child: None, folder: TempDir::new().unwrap(), port, arguments };
        server.restart();
        server
    }

    /// Starts it again, on the same port and in the same folder.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        for _ in 0..PINGS_MAX {
            if self.try_command(&["PING"]).is_ok() {
                return;
            }
            thread::sleep(PING_PAUSE);
        }
        panic!("redis-server on port {} does not answer", self.port);
    }

    /// Ends it without a chance to write anything more.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops its clock: it accepts connections, as the kernel does that, and says nothing.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Gives it a command over a connection of its own, and returns what it answers.
    pub(crate) fn command(&self, words: &[&str]) -> Value {
        self.try_command(words).unwrap()
    }

    fn try_command(&self, words: &[&str]) -> redis::RedisResult<Value> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_connection_with_timeout(COMMAND_TIMEOUT)?;
        connection.set_read_timeout(Some(COMMAND_TIMEOUT))?;
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query(&mut connection)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
