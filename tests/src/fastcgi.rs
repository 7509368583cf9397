//! A client for FastCGI, as a web server in front of PHP is one: one request on a connection, and how it failed.
//!
//! It knows what the suites need: GET without a body, one request at a time, the connection closed behind the answer. The
//! records are those of the specification, version 1.0, sections 3.3 and 5. Every wait has a limit.

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use crate::http::{Answer, Failure, failure_of_connect, is_timeout};
use crate::target::{Stream, Target};

const VERSION: u8 = 1;
const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;
/// The only request of a connection.
const REQUEST: u8 = 1;
const RESPONDER: u8 = 1;
/// The application closes the connection behind its answer.
const CLOSE_BEHIND: u8 = 0;
const REQUEST_COMPLETE: u8 = 0;
const HEADER_LEN: usize = 8;
/// Longest answer, in bytes.
const ANSWER_MAX: usize = 1024 * 1024;

/// A connection to a FastCGI server, for one request.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
}

impl Connection {
    /// Connects; connecting, each read and each write take at most `timeout`.
    ///
    /// # Errors
    /// As [`crate::http::Connection::open`].
    pub fn open(target: &Target, timeout: Duration) -> Result<Connection, Failure> {
        let stream = target.connect(timeout).map_err(|error| failure_of_connect(&error))?;
        Ok(Connection { stream })
    }

    /// Asks for what `script` makes of `path`, and waits for the answer.
    ///
    /// # Errors
    /// How it failed; [`Failure::Wrong`] for an answer that is no FastCGI.
    pub fn get(mut self, script: &Path, path: &str) -> Result<Answer, Failure> {
        match self.stream.write_all(&request(script, path)) {
            Err(error) if is_timeout(&error) => return Err(Failure::TimedOut),
            // An answer may lie there although the other side reads no more.
            Ok(()) | Err(_) => {}
        }
        let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            match parse(&bytes) {
                Parsed::Whole(said) => return answer(&said).ok_or(Failure::Wrong),
                Parsed::Wrong => return Err(Failure::Wrong),
                Parsed::Part if bytes.len() > ANSWER_MAX => return Err(Failure::Wrong),
                Parsed::Part => {}
            }
            match self.stream.read(&mut chunk) {
                Ok(count) if count > 0 => bytes.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => return Err(Failure::TimedOut),
                Ok(_) | Err(_) => return Err(if bytes.is_empty() { Failure::CutFresh } else { Failure::CutPartial }),
            }
        }
    }
}

fn request(script: &Path, path: &str) -> Vec<u8> {
    let script = script.display().to_string();
    let variables = [
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REQUEST_METHOD", "GET"),
        ("REQUEST_URI", path),
        ("SCRIPT_FILENAME", &script),
        ("SCRIPT_NAME", path),
        ("QUERY_STRING", ""),
        // A PHP that is not asked by a web server refuses to run a script.
        ("REDIRECT_STATUS", "200"),
    ];
    let mut text = Vec::new();
    for (name, value) in variables {
        push_length(&mut text, name.len());
        push_length(&mut text, value.len());
        text.extend(name.as_bytes());
        text.extend(value.as_bytes());
    }
    let mut bytes = Vec::new();
    push_record(&mut bytes, BEGIN_REQUEST, &[0, RESPONDER, CLOSE_BEHIND, 0, 0, 0, 0, 0]);
    push_record(&mut bytes, PARAMS, &text);
    push_record(&mut bytes, PARAMS, &[]);
    push_record(&mut bytes, STDIN, &[]);
    bytes
}

/// One byte below 128, else four with the highest bit set.
fn push_length(bytes: &mut Vec<u8>, len: usize) {
    match u8::try_from(len) {
        Ok(short @ ..=127) => bytes.push(short),
        Ok(_) | Err(_) => {
            let long = u32::try_from(len).expect("a variable is short") | 1 << 31;
            bytes.extend(long.to_be_bytes());
        }
    }
}

fn push_record(bytes: &mut Vec<u8>, kind: u8, content: &[u8]) {
    let [high, low] = u16::try_from(content.len()).expect("what we say fits in one record").to_be_bytes();
    bytes.extend([VERSION, kind, 0, REQUEST, high, low, 0, 0]);
    bytes.extend(content);
}

enum Parsed {
    /// What the script wrote, and the request is complete.
    Whole(Vec<u8>),
    Part,
    Wrong,
}

fn parse(mut bytes: &[u8]) -> Parsed {
    let mut said = Vec::new();
    while let Some((&[version, kind, _, request, high, low, padding, _], rest)) =
        bytes.split_first_chunk::<HEADER_LEN>()
    {
        let len = usize::from(u16::from_be_bytes([high, low]));
        if version != VERSION || request != REQUEST {
            return Parsed::Wrong;
        }
        let (Some(content), Some(behind)) = (rest.get(..len), rest.get(len + usize::from(padding)..)) else {
            return Parsed::Part;
        };
        match (kind, content) {
            (STDOUT, _) => said.extend(content),
            (STDERR, _) => {}
            // Four bytes of the script's own, then how the request ended.
            (END_REQUEST, [_, _, _, _, REQUEST_COMPLETE, ..]) => return Parsed::Whole(said),
            (_, _) => return Parsed::Wrong,
        }
        bytes = behind;
    }
    Parsed::Part
}

/// What a script wrote: header lines, an empty line, the body (RFC 3875, section 6).
fn answer(said: &[u8]) -> Option<Answer> {
    let end = said.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&said[..end]).ok()?;
    let status = head.split("\r\n").find_map(|line| line.strip_prefix("Status:"));
    let status = status.map_or(Some(200), |text| text.trim().get(..3)?.parse().ok())?;
    Some(Answer { status, body: said[end + 4..].to_vec(), closes: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        push_record(&mut bytes, kind, content);
        bytes
    }

    #[test]
    fn an_answer_is_read_from_records_however_it_is_cut() {
        let padded = [&[VERSION, STDOUT, 0, REQUEST, 0, 3, 5, 0][..], b"llo", &[0; 5]].concat();
        let head = record(STDOUT, b"Status: 404 Not Found\r\nX: y\r\n\r\nhe");
        let whole = [head, record(STDERR, b"a notice"), padded, record(END_REQUEST, &[0; 8])].concat();
        for cut in 0..whole.len() {
            assert!(matches!(parse(&whole[..cut]), Parsed::Part), "cut at {cut}");
        }
        let Parsed::Whole(said) = parse(&whole) else { panic!("not whole") };
        let answer = answer(&said).unwrap();
        assert_eq!((answer.status, answer.text()), (404, "hello".to_owned()));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        assert!(matches!(parse(b"HTTP/1.1 200 OK\r\n"), Parsed::Wrong));
        let overloaded = record(END_REQUEST, &[0, 0, 0, 0, 2, 0, 0, 0]);
        assert!(matches!(parse(&overloaded), Parsed::Wrong));
        assert_eq!(answer(b"hello"), None);
    }

    #[test]
    fn a_long_variable_has_its_length_in_four_bytes() {
        let mut bytes = Vec::new();
        push_length(&mut bytes, 127);
        push_length(&mut bytes, 128);
        assert_eq!(bytes, [127, 0x80, 0, 0, 128]);
    }
}
