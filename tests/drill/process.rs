//! One `semel run`: the binary itself, on free ports, with its log in a file. Knows no row.
#![expect(clippy::unwrap_used, reason = "a drill that cannot start a process has failed")]

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

/// How long a process may take to be ready, or to end once it was told to.
const PROCESS_MAX: Duration = Duration::from_secs(20);
/// How often a process is asked whether it is there yet, or still.
const PAUSE: Duration = Duration::from_millis(10);
/// How many lines of a log are shown when a row is wrong.
const TAIL: usize = 30;

/// A process that ended instead of serving.
#[derive(Debug)]
#[expect(dead_code, reason = "said by a row that panics over it")]
pub(crate) struct NotServing {
    status: ExitStatus,
    log: String,
}

/// A proxy. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    config: PathBuf,
    log: PathBuf,
    data: SocketAddr,
    admin: SocketAddr,
}

impl Process {
    /// Starts `semel run` with this config and waits until it serves.
    pub(crate) async fn start(config: &Path, log: PathBuf) -> Result<Self, NotServing> {
        let mut child = spawn(config, &log);
        let until = Instant::now() + PROCESS_MAX;
        loop {
            if let Some((data, admin)) = ports(&log) {
                return Ok(Self { child, config: config.to_owned(), log, data, admin });
            }
            if let Some(status) = child.try_wait().unwrap() {
                return Err(NotServing { status, log: tail(&log) });
            }
            if Instant::now() >= until {
                let _ = (child.kill(), child.wait());
                panic!("semel is not ready after {PROCESS_MAX:?}:\n{}", tail(&log));
            }
            sleep(PAUSE).await;
        }
    }

    /// Starts it again with the same config, after it has ended; on other ports, as they are free.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        let log = self.log.with_extension("again.log");
        *self = Self::start(&self.config.clone(), log).await.unwrap();
    }

    pub(crate) const fn data(&self) -> SocketAddr {
        self.data
    }

    pub(crate) const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Ends it without a chance to do anything more.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Tells it to end.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Stops it in the middle of whatever it does.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on as if nothing had been.
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let until = Instant::now() + PROCESS_MAX;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "semel does not end:\n{}", tail(&self.log));
            sleep(PAUSE).await;
        }
    }

    /// The end of its log.
    pub(crate) fn log(&self) -> String {
        tail(&self.log)
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

fn spawn(config: &Path, log: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_semel"))
        .args(["run", "--config"])
        .arg(config)
        // What the environment says would go before the file.
        .env_clear()
        .current_dir(config.parent().unwrap())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(log).unwrap())
        .spawn()
        .unwrap()
}

/// The data port and the admin port, once the log says that both serve.
fn ports(log: &Path) -> Option<(SocketAddr, SocketAddr)> {
    let text = fs::read_to_string(log).unwrap();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let (mut data, mut admin) = (None, None);
    for line in lines {
        let addr = || line["addr"].as_str()?.parse().ok();
        match line["message"].as_str() {
            Some("data port") => data = addr(),
            Some("admin port; ready") => admin = addr(),
            Some(_) | None => {}
        }
    }
    Some((data?, admin?))
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    // What every process says at its start helps nobody here.
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.contains("without a look-up")).collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}
