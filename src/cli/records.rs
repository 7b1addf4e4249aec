//! `semel records`: the operator's hand, through the admin port of a running proxy.
//!
//! Asks and prints; what may be done is decided there. How answers read is in `records/telling`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::args::{AdminArgs, BodyArg, RecordsArgs, RecordsCommand, WhichArgs};
use super::healthcheck::reachable;
use super::{DATA_ERROR, IO_ERROR, NO_PERMISSION, UNAVAILABLE, USAGE, complain, print, refuse};
use crate::config::{self, Access, Overrides};

mod several;
mod telling;

use several::Several;

/// How long a question and its answer may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// How many records a page has.
const PAGE: usize = 1000;
/// Where a list's idempotency key stands.
const SEMEL_KEY: &str = "semel-key";
/// How many pages are asked for.
const PAGES_MAX: usize = 100;

/// Why there is nothing on stdout: what to say, and the exit code.
struct Failed(u8, String);

/// Asks, and prints what was answered.
pub fn run(args: &RecordsArgs) -> ExitCode {
    let access = match access(&args.admin, &args.command) {
        Ok(access) => access,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("no runtime: {error}"));
            return ExitCode::from(IO_ERROR);
        }
    };
    match runtime.block_on(carry_out(&access, &args.command)) {
        Ok(Done::Asked(answer)) if args.json => print(&format!("{answer:#}\n")),
        Ok(Done::Asked(answer)) => print(&match &args.command {
            RecordsCommand::List { .. } => telling::list(&answer),
            RecordsCommand::Lookup { .. } => telling::finding(&answer),
            RecordsCommand::Show { .. }
            | RecordsCommand::Settle { .. }
            | RecordsCommand::Reopen { .. } => telling::operation(&answer),
        }),
        Ok(Done::Several(several)) => several.tell(args.json),
        Err(Failed(code, message)) => {
            complain(&message);
            ExitCode::from(code)
        }
    }
}

/// Whom to ask, and with which token.
fn access(args: &AdminArgs, command: &RecordsCommand) -> Result<Access, ExitCode> {
    let overrides = Overrides {
        config: args.config.clone(),
        admin: args.admin.clone(),
        store: args.store.clone(),
        ..Overrides::default()
    };
    // What was given goes before what would be found, so that need not be there.
    let found = match &args.token {
        Some(token) => config::admin_address(&overrides)
            .map(|address| Access { address, token: Some(token.clone()) }),
        None => config::admin_access(&overrides),
    };
    let access = found.map_err(|problems| refuse(&problems))?;
    let address = reachable(access.address);
    if address.port() == 0 {
        complain("the admin port is a free one; say which with --admin");
        return Err(ExitCode::from(USAGE));
    }
    let changes = match command {
        RecordsCommand::List { .. } | RecordsCommand::Show { .. } => false,
        RecordsCommand::Lookup { .. }
        | RecordsCommand::Settle { .. }
        | RecordsCommand::Reopen { .. } => true,
    };
    if changes && access.token.is_none() {
        complain(
            "a change needs the admin token: give --token, set SEMEL_ADMIN_TOKEN, or name the \
             proxy's config or store (--config, --store), in whose data folder the file \
             admin-token is",
        );
        return Err(ExitCode::from(NO_PERMISSION));
    }
    Ok(Access { address, token: access.token })
}

/// What was done.
enum Done {
    /// One thing was asked for.
    Asked(Value),
    /// Several operations were gone through.
    Several(Several),
}

async fn carry_out(access: &Access, command: &RecordsCommand) -> Result<Done, Failed> {
    let (path, order) = match command {
        RecordsCommand::List { which, key } => {
            let key = key.as_ref().map(key_header).transpose()?;
            return list(access, which, key).await.map(Done::Asked);
        }
        RecordsCommand::Show { id } => {
            let path = format!("/api/v1/records/{id}");
            return ask(access, Method::GET, &path, None).await.map(Done::Asked);
        }
        RecordsCommand::Lookup { id: Some(id), .. } => (format!("{id}/lookup"), json!({})),
        RecordsCommand::Lookup { id: None, which, several } => {
            return several::look_up(access, which, *several).await.map(Done::Several);
        }
        RecordsCommand::Settle {
            id,
            which,
            several,
            yes,
            how,
            status,
            body,
            content_type,
            reason,
        } => {
            let mut order = json!({ "as": how.name(), "status": status, "reason": reason });
            if let Some(body) = body {
                order["body_base64"] = json!(STANDARD.encode(body.as_bytes()));
            }
            if let Some(kind) = content_type {
                order["content_type"] = json!(kind);
            }
            let Some(id) = id else {
                let confirmed = several::Confirmed(*yes);
                let settled = several::settle(access, which, *several, confirmed, order);
                return settled.await.map(Done::Several);
            };
            (format!("{id}/settle"), order)
        }
        RecordsCommand::Reopen { id, allow_resend, reason } => {
            let order = json!({ "allow_resend": allow_resend, "reason": reason });
            (format!("{id}/reopen"), order)
        }
    };
    let path = format!("/api/v1/records/{path}");
    ask(access, Method::POST, &path, Some(&order)).await.map(Done::Asked)
}

/// A key as a header: as a structured-field string if it can be one, so that no blank gets lost.
fn key_header(key: &BodyArg) -> Result<HeaderValue, Failed> {
    let key = key.as_bytes().trim_ascii_end();
    let mut value = Vec::with_capacity(key.len() + 2);
    if key.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        value.push(b'"');
        for &byte in key {
            if matches!(byte, b'"' | b'\\') {
                value.push(b'\\');
            }
            value.push(byte);
        }
        value.push(b'"');
    } else {
        value.extend_from_slice(key);
    }
    let header = HeaderValue::from_bytes(&value);
    let mut header =
        header.map_err(|_| Failed(USAGE, "the key has signs that no key has".to_owned()))?;
    header.set_sensitive(true);
    Ok(header)
}

fn query(which: &WhichArgs) -> String {
    let mut query = form_urlencoded::Serializer::new(format!("limit={PAGE}&"));
    if let Some(state) = which.state {
        query.append_pair("state", state.name());
    }
    if let Some(age) = which.older_than {
        query.append_pair("older_than", &format!("{}ms", age.as_millis()));
    }
    if let Some(route) = &which.route {
        query.append_pair("route", route);
    }
    query.finish()
}

/// Asks for page after page.
async fn list(
    access: &Access,
    which: &WhichArgs,
    key: Option<HeaderValue>,
) -> Result<Value, Failed> {
    let query = query(which);
    let mut records = Vec::new();
    let mut next = None;
    for _ in 0..PAGES_MAX {
        let after = next.map(|next| format!("&after={next}")).unwrap_or_default();
        let path = format!("/api/v1/records?{query}{after}");
        let mut request = request(access, Method::GET, &path, None)?;
        if let Some(key) = &key {
            request.headers_mut().insert(SEMEL_KEY, key.clone());
        }
        let mut page = send(access.address, request).await?;
        if let Some(page) = page["records"].as_array_mut() {
            records.append(page);
        }
        next = page["next"].as_str().map(str::to_owned);
        if next.is_none() {
            break;
        }
    }
    Ok(json!({ "records": records, "next": next }))
}

async fn ask(
    access: &Access,
    method: Method,
    path: &str,
    order: Option<&Value>,
) -> Result<Value, Failed> {
    send(access.address, request(access, method, path, order)?).await
}

async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Value, Failed> {
    let unavailable = |why: String| {
        Failed(
            UNAVAILABLE,
            format!(
                "{address}: {why}; is semel running there, and is it the admin port (--admin)?"
            ),
        )
    };
    let (status, body) = tokio::time::timeout(PATIENCE, exchange(address, request))
        .await
        .map_err(|_| unavailable(format!("no answer within {} s", PATIENCE.as_secs())))?
        .map_err(|error| unavailable(error.to_string()))?;
    let answer: Value = serde_json::from_slice(&body)
        .map_err(|_| unavailable(format!("{status}, and not what an admin port says")))?;
    if status.is_success() {
        return Ok(answer);
    }
    let why = answer["error"].as_str().unwrap_or("no reason given");
    Err(Failed(exit_code(status), format!("{status}: {why}")))
}

fn request(
    access: &Access,
    method: Method,
    path: &str,
    order: Option<&Value>,
) -> Result<Request<Full<Bytes>>, Failed> {
    let body = order.map_or_else(Bytes::new, |order| Bytes::from(order.to_string()));
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, access.address.to_string())
        .header(CONNECTION, "close")
        .header(CONTENT_TYPE, "application/json");
    if let Some(token) = &access.token {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| Failed(USAGE, "the token has signs that no header can have".to_owned()))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    request.body(Full::new(body)).map_err(|error| Failed(USAGE, error.to_string()))
}

/// Sends one request over a connection of its own.
async fn exchange(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let answer = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
        Ok((head.status, body))
    };
    // The connection does the work, and ends when the sender is gone.
    let (answer, _) = tokio::join!(answer, connection);
    answer
}

fn exit_code(status: StatusCode) -> u8 {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => NO_PERMISSION,
        status if status.is_server_error() => UNAVAILABLE,
        _ => DATA_ERROR,
    }
}
