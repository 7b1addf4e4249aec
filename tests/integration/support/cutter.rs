//! A TCP proxy that breaks things at a byte of one's choice. Knows nothing of what it carries.
#![expect(clippy::unwrap_used, reason = "a test whose proxy cannot listen has failed")]

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Bytes carried at a time.
const CHUNK: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What goes wrong. Bytes are counted from when it was ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Carries so many more bytes in one direction, then closes the connection. Once.
    Cut { way: Way, after: usize },
    /// Says the next thing the server says twice, the second time in front of the thing after it,
    /// so that every later answer is late by one. Once.
    Stutter,
    /// Carries nothing any more and leaves connections open. Those stay lost.
    BlackHole,
    /// Closes new connections at once.
    Refuse,
}

/// Ends when it is dropped, with all its connections.
#[derive(Debug)]
pub(crate) struct Cutter {
    port: u16,
    plan: Arc<Mutex<Plan>>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Plan {
    fault: Option<Fault>,
    carried: Carried,
    again: Vec<u8>,
}

/// Bytes carried since the last order.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Carried {
    pub(crate) up: usize,
    pub(crate) down: usize,
}

/// What becomes of a piece of what is carried.
enum Fate {
    Carry(Vec<u8>),
    CarryAndCut(Vec<u8>),
    Swallow,
}

impl Cutter {
    /// Stands in front of a port of this machine.
    pub(crate) async fn before(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let plan = Arc::default();
        let mut tasks = JoinSet::new();
        let own_port = listener.local_addr().unwrap().port();
        tasks.spawn(accept(listener, port, Arc::clone(&plan)));
        Self { port: own_port, plan, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Orders a fault and starts to count.
    pub(crate) fn order(&self, fault: Fault) {
        *lock(&self.plan) = Plan { fault: Some(fault), ..Plan::default() };
    }

    /// Carries everything from now on, and starts to count.
    pub(crate) fn heal(&self) {
        *lock(&self.plan) = Plan::default();
    }

    /// Whether what was ordered has happened, for faults that happen once.
    pub(crate) fn struck(&self) -> bool {
        lock(&self.plan).fault.is_none()
    }

    /// What was carried since the last order.
    pub(crate) fn carried(&self) -> Carried {
        lock(&self.plan).carried
    }
}

fn lock(plan: &Mutex<Plan>) -> MutexGuard<'_, Plan> {
    plan.lock().unwrap()
}

impl Plan {
    fn decide(&mut self, way: Way, mut bytes: Vec<u8>) -> Fate {
        let carried = match way {
            Way::Up => &mut self.carried.up,
            Way::Down => &mut self.carried.down,
        };
        let before = *carried;
        *carried += bytes.len();
        if way == Way::Down && !self.again.is_empty() {
            let mut late = std::mem::take(&mut self.again);
            late.append(&mut bytes);
            return Fate::Carry(late);
        }
        match self.fault {
            Some(Fault::Cut { way: cut, after }) if cut == way && before + bytes.len() >= after => {
                self.fault = None;
                bytes.truncate(after.saturating_sub(before));
                Fate::CarryAndCut(bytes)
            }
            Some(Fault::Stutter) if way == Way::Down => {
                self.fault = None;
                self.again.clone_from(&bytes);
                Fate::Carry(bytes)
            }
            Some(Fault::BlackHole) => Fate::Swallow,
            Some(Fault::Cut { .. } | Fault::Stutter | Fault::Refuse) | None => Fate::Carry(bytes),
        }
    }
}

async fn accept(listener: TcpListener, port: u16, plan: Arc<Mutex<Plan>>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if lock(&plan).fault == Some(Fault::Refuse) {
            continue;
        }
        connections.spawn(carry(client, port, Arc::clone(&plan)));
    }
}

/// Carries both ways until either ends; both sockets are closed then.
async fn carry(client: TcpStream, port: u16, plan: Arc<Mutex<Plan>>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::select! {
        _ = pump(Way::Up, client_read, server_write, &plan) => {}
        _ = pump(Way::Down, server_read, client_write, &plan) => {}
    }
}

async fn pump(
    way: Way,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    plan: &Mutex<Plan>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = from.read(&mut chunk).await?;
        if length == 0 {
            return Ok(());
        }
        let fate = lock(plan).decide(way, chunk[..length].to_vec());
        match fate {
            Fate::Carry(bytes) => to.write_all(&bytes).await?,
            Fate::CarryAndCut(bytes) => return to.write_all(&bytes).await,
            Fate::Swallow => std::future::pending().await,
        }
    }
}
