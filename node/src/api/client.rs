//! The command line's end of the API: one request, one connection, one document.

use std::fmt::Write as _;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use super::problem::{Code, Problem};

/// Largest answer that is read, in bytes: a plan of a few million items.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// Speaks to the daemon behind one socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    /// How a person starts that daemon.
    start: String,
}

impl Client {
    /// A client of the daemon behind `socket`, which `start` would start.
    pub fn new(socket: &Path, start: String) -> Self {
        Self { socket: socket.to_owned(), start }
    }

    /// Gets a document below `/api/v1`.
    pub async fn get(&self, path: &str) -> Result<Value, Problem> {
        self.request(Method::GET, path, &json!({})).await
    }

    /// Posts a body below `/api/v1`.
    pub async fn post<B: Serialize + Sync>(&self, path: &str, body: &B) -> Result<Value, Problem> {
        self.request(Method::POST, path, body).await
    }

    /// Sends any request below `/api/v1`.
    pub async fn request<B: Serialize + Sync>(&self, method: Method, path: &str, body: &B) -> Result<Value, Problem> {
        let (status, bytes) = self.raw(method, &format!("/api/v1{path}"), body).await?;
        let document: Value = serde_json::from_slice(&bytes).map_err(|error| broken(&error.to_string()))?;
        if (200..300).contains(&status) {
            return Ok(document);
        }
        Err(Problem::from_http(&document).unwrap_or_else(|| broken(&format!("status {status} without a reason"))))
    }

    /// Whether the node serves; `Err` says why not.
    pub async fn ready(&self) -> Result<(), Problem> {
        let (status, bytes) = self.raw(Method::GET, "/readyz", &json!({})).await?;
        if status == 200 {
            return Ok(());
        }
        Err(Problem::new(
            Code::Unhealthy,
            "the daemon runs, but does not serve",
            String::from_utf8_lossy(&bytes).trim(),
        ))
    }

    /// Listens to a stream of lines below `/api/v1`, until it ends or `each` breaks.
    pub async fn lines(&self, path: &str, mut each: impl FnMut(&str) -> ControlFlow<()>) -> Result<(), Problem> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| lost(&e.to_string()))?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .uri(format!("/api/v1{path}"))
            .header("host", "tidegate")
            .body(Full::new(Bytes::new()))
            .map_err(|error| Problem::new(Code::Usage, "nothing was done", error.to_string()))?;
        let response = sender.send_request(request).await.map_err(|e| lost(&e.to_string()))?;
        let status = response.status();
        let mut body = response.into_body();
        let mut text = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| lost(&error.to_string()))?;
            text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            if !status.is_success() {
                continue;
            }
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                if each(String::from_utf8_lossy(&line).trim_end()).is_break() {
                    connection.abort();
                    return Ok(());
                }
            }
        }
        connection.abort();
        if status.is_success() {
            return Ok(());
        }
        let document = serde_json::from_slice(&text).map_err(|error| broken(&error.to_string()))?;
        Err(Problem::from_http(&document).unwrap_or_else(|| broken(&format!("status {status} without a reason"))))
    }

    async fn raw<B: Serialize + Sync>(&self, method: Method, path: &str, body: &B) -> Result<(u16, Bytes), Problem> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| lost(&e.to_string()))?;
        let connection = tokio::spawn(connection);
        let body = serde_json::to_vec(body).expect("requests are plain data");
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "tidegate")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            // A name beyond what an address can hold.
            .map_err(|error| Problem::new(Code::Usage, "nothing was done", error.to_string()))?;
        let response = sender.send_request(request).await.map_err(|e| lost(&e.to_string()))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let bytes = body.map_err(|error| lost(&error.to_string()))?.to_bytes();
        connection.abort();
        Ok((status, bytes))
    }

    fn unreachable(&self, error: &io::Error) -> Problem {
        let what = "the daemon is not running; nothing was changed";
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                let why = format!("nobody listens at {}", self.socket.display());
                Problem::new(Code::NotRunning, what, why).next(self.start.clone())
            }
            io::ErrorKind::PermissionDenied => {
                let why = format!("{} belongs to another user", self.socket.display());
                Problem::new(Code::Refused, "the daemon was not reached; nothing was changed", why)
            }
            _ => Problem::new(Code::NotRunning, what, format!("{}: {error}", self.socket.display())),
        }
    }
}

/// One segment of a path, with everything escaped that could end it.
pub fn segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') {
            escaped.push(byte as char);
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

fn lost(why: &str) -> Problem {
    Problem::new(Code::NotRunning, "the daemon ended the connection; what it had begun may be done", why.to_owned())
        .next("tidegate health")
}

fn broken(why: &str) -> Problem {
    Problem::new(Code::Internal, "the daemon's answer was not understood", why.to_owned())
        .next("tidegate version, here and of the daemon: tidegate status")
}
