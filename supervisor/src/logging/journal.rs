//! Speaks the native protocol of systemd's journal, in which a line keeps its fields and its bytes.
//!
//! One datagram per line: `NAME=value` and a line end for each field, or, where the value has line ends or is no text, `NAME`, a line
//! end, the length as a little-endian u64, the value, a line end. See <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>. A line
//! of ours is far shorter than a datagram may be, so that the protocol's way by memfd is not needed.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use crate::control::protocol::{Line, Origin, Severity, Stream, Value};

/// Where the journal takes datagrams.
const SOCKET: &str = "/run/systemd/journal/socket";
/// Says which stream leads to the journal: device and inode, so that a program whose standard error was led elsewhere
/// notices (systemd.exec(5)).
const STREAM_VARIABLE: &str = "JOURNAL_STREAM";
/// What these lines are filed under.
const IDENTIFIER: &str = "ostler";

/// The way to the journal. Not connected: the journal may restart.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
}

impl Journal {
    /// The journal, where our standard error leads to it and it listens.
    pub(super) fn of_standard_error() -> Option<Journal> {
        let named = std::env::var(STREAM_VARIABLE).ok()?;
        let stderr = nix::sys::stat::fstat(io::stderr().as_fd()).ok()?;
        if named != format!("{}:{}", stderr.st_dev, stderr.st_ino) || !std::path::Path::new(SOCKET).exists() {
            return None;
        }
        Some(Journal { socket: UnixDatagram::unbound().ok()? })
    }

    /// Sends one line. Waits while the journal does not read.
    pub(super) fn send(&self, line: &Line) -> io::Result<()> {
        let datagram = datagram(line);
        loop {
            match self.socket.send_to(&datagram, SOCKET) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn datagram(line: &Line) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.text.len() + 256);
    field(&mut out, "MESSAGE", &line.text);
    field(&mut out, "PRIORITY", priority(line.level));
    field(&mut out, "SYSLOG_IDENTIFIER", IDENTIFIER.as_bytes());
    match line.origin {
        Origin::Worker(Stream::Output) => field(&mut out, "OSTLER_STREAM", b"stdout"),
        Origin::Worker(Stream::Errors) => field(&mut out, "OSTLER_STREAM", b"stderr"),
        Origin::Supervisor | Origin::Access => {}
    }
    for (name, value) in &line.fields {
        let text = match value {
            Value::Text(text) => text.clone(),
            Value::Count(number) => number.to_string(),
            Value::Number(number) => number.to_string(),
        };
        let name = format!("OSTLER_{}", name.to_ascii_uppercase());
        field(&mut out, &name, text.as_bytes());
        // Whoever looks for a pool wants what its workers say, too.
        if name == "OSTLER_WORKER"
            && let Some((pool, _)) = text.split_once('/')
        {
            field(&mut out, "OSTLER_POOL", pool.as_bytes());
        }
    }
    out
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend(name.bytes());
    if value.contains(&b'\n') || std::str::from_utf8(value).is_err() {
        out.push(b'\n');
        out.extend((value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend(value);
    out.push(b'\n');
}

/// As syslog(3) counts.
fn priority(level: Severity) -> &'static [u8] {
    match level {
        Severity::Error => b"3",
        Severity::Warn => b"4",
        Severity::Info => b"6",
        Severity::Debug | Severity::Trace => b"7",
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[test]
    fn a_line_becomes_fields_and_keeps_its_bytes() {
        let fields =
            vec![(Cow::Borrowed("worker"), Value::Text("web/3.7".into())), (Cow::Borrowed("lost"), Value::Count(2))];
        let (level, origin) = (Severity::Warn, Origin::Worker(Stream::Errors));
        let line = Line { at_us: 1, level, origin, text: b"a\xff\nb".to_vec(), fields };
        let expected =
            b"MESSAGE\n\x04\0\0\0\0\0\0\0a\xff\nb\nPRIORITY=4\nSYSLOG_IDENTIFIER=ostler\nOSTLER_STREAM=stderr\n\
            OSTLER_WORKER=web/3.7\nOSTLER_POOL=web\nOSTLER_LOST=2\n";
        assert_eq!(datagram(&line), expected);
    }
}
