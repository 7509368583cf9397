//! A server for HTTP/1.1 of a hundred lines, for worker programs that the suites write themselves.
//!
//! Between two requests on one connection it asks whether it is to go on; a server that is draining answers what
//! was asked, says that it closes, and reads to the client's end, so that no reset overtakes the answer.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use ostler_worker::{Connection, Stream};

/// How long an idle connection is read before the server looks whether it is to leave.
pub const GLANCE: Duration = Duration::from_millis(50);
/// How long a closing server waits for the client to close as well.
const LINGER: Duration = Duration::from_millis(500);
const HEAD_MAX: usize = 8 * 1024;

/// Serves requests until the client leaves or the worker drains; `respond` gets the path and answers the body.
///
/// # Errors
/// When the connection fails in the middle of something.
pub fn serve(connection: Connection, respond: impl Fn(&str) -> String) -> io::Result<()> {
    connection.stream().set_read_timeout(Some(GLANCE))?;
    let mut stream = &connection;
    let mut pending = Vec::new();
    let mut served = 0_u64;
    // The first request of a connection is waited for even by a server that leaves: the client could not know.
    while let Some(head) = next_head(&mut stream, &mut pending, || served > 0 && connection.is_draining())? {
        let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
        let body = respond(&path);
        let asked_to_close = head.to_ascii_lowercase().contains("connection: close");
        let closes = asked_to_close || connection.is_draining();
        stream.write_all(&answer(&body, closes))?;
        served += 1;
        if closes {
            break;
        }
    }
    linger(&connection)
}

/// Ends our side and reads the client's to its end, for a while: closing a socket that holds an unread request
/// would reset the connection and could overtake the answer (tcp(7), unix(7)).
fn linger(connection: &Connection) -> io::Result<()> {
    let ended = match connection.stream() {
        Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
    };
    if ended.is_err() {
        return Ok(()); // the client has gone already
    }
    connection.stream().set_read_timeout(Some(LINGER))?;
    let mut reader = connection;
    while reader.read(&mut [0; 512]).is_ok_and(|count| count > 0) {}
    Ok(())
}

/// The answer as it travels.
#[must_use]
pub fn answer(body: &str, closes: bool) -> Vec<u8> {
    let connection = if closes { "Connection: close\r\n" } else { "" };
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{connection}\r\n{body}", body.len()).into_bytes()
}

/// The next request's head; `None` when the client closed between two requests, or `is_leaving` says so then.
fn next_head(
    stream: &mut impl Read,
    pending: &mut Vec<u8>,
    is_leaving: impl Fn() -> bool,
) -> io::Result<Option<String>> {
    let mut chunk = [0; 1024];
    loop {
        if let Some(end) = pending.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = pending.split_off(end + 4);
            let head = std::mem::replace(pending, rest);
            return Ok(Some(String::from_utf8_lossy(&head).into_owned()));
        }
        if pending.len() > HEAD_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an endless head"));
        }
        match stream.read(&mut chunk) {
            Ok(0) if pending.is_empty() => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => pending.extend_from_slice(&chunk[..count]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if pending.is_empty() && is_leaving() {
                    return Ok(None);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What every test program answers to `/`: the line that the hello server answers too.
#[must_use]
pub fn who_am_i(worker: &str) -> String {
    format!("hello from worker={worker} pid={}\n", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_requests_in_one_piece_are_two_heads() {
        let mut bytes: &[u8] = b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut pending = Vec::new();
        assert!(next_head(&mut bytes, &mut pending, || false).unwrap().unwrap().starts_with("GET /a "));
        assert!(next_head(&mut bytes, &mut pending, || false).unwrap().unwrap().starts_with("GET /b "));
        assert_eq!(next_head(&mut bytes, &mut pending, || false).unwrap(), None);
    }
}
