//! A client for HTTP/1.1 that says exactly how an attempt failed.
//!
//! It knows what the suites need: GET, `Content-Length`, keep-alive. Every wait has a limit.

use std::fmt;
use std::io::{self, Read, Write};
use std::time::Duration;

use crate::target::{Stream, Target};

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
    /// The server closes the connection behind it.
    pub closes: bool,
}

/// A worker as the hello server's answer names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerTag {
    /// `POOL/SLOT.GENERATION`.
    pub name: String,
    /// Its process.
    pub pid: i32,
}

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// Nobody listens: `ECONNREFUSED` or `ENOENT`.
    Refused,
    /// The queue of a Unix listener stayed full: `EAGAIN`.
    Busy,
    /// connect(2) answered something else.
    Connect,
    /// A fresh connection ended, in order or not, before any byte of an answer.
    CutFresh,
    /// A connection that had served before ended in order, before any byte of this answer.
    ClosedReused,
    /// The same by a reset: the close crossed our request on its way.
    ResetReused,
    /// The connection ended in the middle of an answer.
    CutPartial,
    /// No answer in time.
    TimedOut,
    /// An answer that is no HTTP, or not status 200.
    Wrong,
}

impl Failure {
    /// Whether this is how a server may close a keep-alive connection: before any byte of an answer, on a
    /// connection that had served before. Clients repeat such a request on a fresh connection.
    #[must_use]
    pub fn is_orderly_close(self) -> bool {
        matches!(self, Failure::ClosedReused | Failure::ResetReused)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a client says about the connection's future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// `Connection: close`.
    Once,
    /// Nothing, which in HTTP/1.1 means that it stays open.
    Alive,
}

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    served: u32,
}

/// Longest head of an answer, in bytes.
const HEAD_MAX: usize = 16 * 1024;

impl Connection {
    /// Connects; connecting, each read and each write take at most `timeout`.
    ///
    /// # Errors
    /// [`Failure::Refused`], [`Failure::Busy`], [`Failure::TimedOut`] or [`Failure::Connect`].
    pub fn open(target: &Target, timeout: Duration) -> Result<Connection, Failure> {
        match target.connect(timeout) {
            Ok(stream) => Ok(Connection { stream, served: 0 }),
            Err(error) => Err(failure_of_connect(&error)),
        }
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// How it failed.
    pub fn get(&mut self, path: &str, keep: Keep) -> Result<Answer, Failure> {
        self.ask(path, keep)?;
        self.answer()
    }

    /// Sends a request.
    ///
    /// # Errors
    /// [`Failure::TimedOut`] only: that the other side has gone shows when the answer is read.
    pub fn ask(&mut self, path: &str, keep: Keep) -> Result<(), Failure> {
        let close = if keep == Keep::Once { "Connection: close\r\n" } else { "" };
        let request = format!("GET {path} HTTP/1.1\r\nHost: ostler\r\n{close}\r\n");
        match self.stream.write_all(request.as_bytes()) {
            Err(error) if is_timeout(&error) => Err(Failure::TimedOut),
            // An answer may lie there although the other side reads no more.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Reads one answer.
    ///
    /// # Errors
    /// How it failed.
    pub fn answer(&mut self) -> Result<Answer, Failure> {
        let mut bytes = Vec::new();
        let head = loop {
            if let Some(end) = find(&bytes, b"\r\n\r\n") {
                break end + 4;
            }
            if bytes.len() > HEAD_MAX {
                return Err(Failure::Wrong);
            }
            self.more(&mut bytes)?;
        };
        let (status, length, closes) = parse_head(&bytes[..head]).ok_or(Failure::Wrong)?;
        while bytes.len() < head + length {
            self.more(&mut bytes)?;
        }
        self.served += 1;
        let body = bytes.split_off(head);
        if body.len() > length { Err(Failure::Wrong) } else { Ok(Answer { status, body, closes }) }
    }

    /// Waits until the server closes the connection; whether it did so in order, without another byte.
    pub fn closed_in_order(&mut self) -> bool {
        matches!(self.stream.read(&mut [0; 1]), Ok(0))
    }

    fn more(&mut self, bytes: &mut Vec<u8>) -> Result<(), Failure> {
        let mut chunk = [0; 4096];
        let ended = match self.stream.read(&mut chunk) {
            Ok(0) => Failure::ClosedReused,
            Ok(count) => {
                bytes.extend_from_slice(&chunk[..count]);
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) if is_timeout(&error) => return Err(Failure::TimedOut),
            Err(_) => Failure::ResetReused,
        };
        Err(match (bytes.is_empty(), self.served) {
            (false, _) => Failure::CutPartial,
            (true, 0) => Failure::CutFresh,
            (true, _) => ended,
        })
    }
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Who answered, where the body says so.
    #[must_use]
    pub fn worker(&self) -> Option<WorkerTag> {
        let text = self.text();
        let field = |key: &str| text.split_whitespace().find_map(|word| word.strip_prefix(key).map(str::to_owned));
        Some(WorkerTag { name: field("worker=")?, pid: field("pid=")?.parse().ok()? })
    }
}

impl WorkerTag {
    /// The generation in the name.
    #[must_use]
    pub fn generation(&self) -> Option<u32> {
        self.name.rsplit_once('.')?.1.parse().ok()
    }

    /// The slot in the name.
    #[must_use]
    pub fn slot(&self) -> Option<u32> {
        self.name.rsplit_once('/')?.1.split_once('.')?.0.parse().ok()
    }
}

/// One request on a connection of its own.
///
/// # Errors
/// How it failed; [`Failure::Wrong`] for any status but 200.
pub fn get_once(target: &Target, path: &str, timeout: Duration) -> Result<Answer, Failure> {
    let answer = Connection::open(target, timeout)?.get(path, Keep::Once)?;
    if answer.status == 200 { Ok(answer) } else { Err(Failure::Wrong) }
}

/// How a connect failed.
pub(crate) fn failure_of_connect(error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED | libc::ENOENT) => Failure::Refused,
        Some(libc::EAGAIN) => Failure::Busy,
        Some(libc::EINPROGRESS | libc::ETIMEDOUT) => Failure::TimedOut,
        _ => Failure::Connect,
    }
}

pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Status, length of the body, and whether the server closes.
fn parse_head(head: &[u8]) -> Option<(u16, usize, bool)> {
    let text = std::str::from_utf8(head).ok()?;
    let mut lines = text.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let (mut length, mut closes) = (None, false);
    for (key, value) in lines.filter_map(|line| line.split_once(':')) {
        if key.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok();
        } else if key.eq_ignore_ascii_case("connection") {
            closes = value.trim().eq_ignore_ascii_case("close");
        }
    }
    Some((status, length?, closes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_gives_status_length_and_close() {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\nConnection: Close\r\n\r\n";
        assert_eq!(parse_head(head), Some((200, 12, true)));
        assert_eq!(parse_head(b"HTTP/1.1 503 No\r\nContent-Length:0\r\n\r\n"), Some((503, 0, false)));
        assert_eq!(parse_head(b"hello\r\n\r\n"), None);
    }

    #[test]
    fn an_answer_names_its_worker() {
        let answer = Answer { status: 200, body: b"hello worker=web/3.7 pid=42\n".to_vec(), closes: false };
        let worker = answer.worker().unwrap();
        assert_eq!((worker.name.as_str(), worker.pid), ("web/3.7", 42));
        assert_eq!((worker.slot(), worker.generation()), (Some(3), Some(7)));
    }
}
