//! `semel healthcheck`: asks the local admin port, for images without curl.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::{USAGE, complain, refuse};
use crate::config::{self, Overrides};

/// How long each step of the question may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// As much of the answer as is read: its first line.
const ANSWER_BYTES_MAX: usize = 12;

/// Whom to ask.
#[derive(Debug, clap::Args)]
pub struct HealthcheckArgs {
    /// Config file of the running proxy
    #[arg(long, value_name = "FILE", env = "SEMEL_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Address of its admin port [default: 127.0.0.1:7412]
    #[arg(long, value_name = "ADDR", env = "SEMEL_ADMIN", hide_env_values = true)]
    pub admin: Option<String>,
}

/// Exits with 0 if it lives and with 1 if not.
pub fn run(args: &HealthcheckArgs) -> ExitCode {
    let overrides = Overrides {
        config: args.config.clone(),
        admin: args.admin.clone(),
        ..Overrides::default()
    };
    let address = match config::admin_address(&overrides) {
        Ok(address) => reachable(address),
        Err(problems) => return refuse(&problems),
    };
    if address.port() == 0 {
        complain("the admin port is a free one; say which with --admin");
        return ExitCode::from(USAGE);
    }
    match ask(address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{address}: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Who listens everywhere also listens here.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn ask(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(question(address).as_bytes())?;
    let mut answer = [0; ANSWER_BYTES_MAX];
    stream.read_exact(&mut answer)?;
    match &answer {
        b"HTTP/1.1 200" => Ok(()),
        _ => Err(io::Error::other("not healthy")),
    }
}

fn question(address: SocketAddr) -> String {
    format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn asked(answer: &'static [u8]) -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let server = thread::spawn(move || -> io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            let mut request = vec![0; question(address).len()];
            stream.read_exact(&mut request)?;
            stream.write_all(answer)
        });
        let result = ask(address);
        assert!(server.join().is_ok());
        result
    }

    #[test]
    fn only_200_is_healthy() {
        assert!(asked(b"HTTP/1.1 200 OK\r\n\r\n").is_ok());
        assert!(asked(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").is_err());
        assert!(asked(b"").is_err());
    }

    #[test]
    fn who_listens_everywhere_is_asked_here() {
        let of = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(of("0.0.0.0:7412"), "127.0.0.1:7412");
        assert_eq!(of("[::]:7412"), "[::1]:7412");
        assert_eq!(of("10.0.0.7:7412"), "10.0.0.7:7412");
    }
}
