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

/// How many ports are tried, as others take ports as well.
const PORTS_MAX: u32 = 10;

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
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let folder = TempDir::new().unwrap();
        let mut server = Self { child: None, folder, port: 0, arguments };
        for _ in 0..PORTS_MAX {
            server.port = free_port();
            if server.came_up() {
                return server;
            }
        }
        panic!("redis-server ends on every port");
    }

    /// Starts it again, on the same port and in the same folder.
    pub(crate) fn restart(&mut self) {
        assert!(self.came_up(), "redis-server ends on port {}", self.port);
    }

    /// Starts it and waits for it. It ends at once if another server has taken its port.
    fn came_up(&mut self) -> bool {
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
            if self.answers() {
                return true;
            }
            if self.child.as_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            thread::sleep(PING_PAUSE);
        }
        panic!("redis-server on port {} does not answer", self.port);
    }

    /// Whether it answers and has its data, and not another server that has its port.
    fn answers(&self) -> bool {
        let Ok(info) = self.try_command(&["INFO"]) else { return false };
        let info: String = redis::from_redis_value(info).unwrap();
        let itself = format!("process_id:{}\r\n", self.child.as_ref().unwrap().id());
        info.contains(&itself) && info.contains("\nloading:0\r\n")
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
