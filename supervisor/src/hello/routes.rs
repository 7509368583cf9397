//! Answers the hello server's paths.
//!
//! ```text
//! /            one line with worker=POOL/SLOT.GENERATION pid=PID
//! /sleep/MS    the same after a wait          /spin/US     the same after burning CPU
//! /bytes/N     N bytes                        /who         the caller's credentials
//! /exit/CODE   ends the worker                /abort       ends it by SIGABRT
//! ```
//! Numbers have limits, named below; what is beyond them is answered with 400.

use std::convert::Infallible;
use std::pin::Pin;
use std::process;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use ostler_worker::{Peer, Worker};
use tokio::time::sleep;

/// Longest `/sleep`, in milliseconds: an hour.
const SLEEP_MAX_MS: u64 = 3_600_000;
/// Longest `/spin`, in microseconds: ten seconds, in which this worker does nothing else.
const SPIN_MAX_US: u64 = 10_000_000;
/// Longest `/bytes`: 1 GiB.
const BYTES_MAX: u64 = 1 << 30;

static CHUNK: [u8; 16 * 1024] = [b'o'; 16 * 1024];

type Answer = Response<Either<Full<Bytes>, Filler>>;

/// What the answers say about this process.
pub(super) struct About {
    line: String,
}

impl About {
    pub(super) fn of(worker: &Worker) -> About {
        About { line: format!("hello from ostler: worker={} pid={}\n", worker.name(), process::id()) }
    }
}

/// Why a request gets no answer of its own.
enum Refusal {
    NotFound,
    BadNumber { max: u64 },
    BadMethod,
}

pub(super) async fn answer(request: &Request<Incoming>, about: &About, caller: Option<Peer>) -> Answer {
    match route(request, about, caller).await {
        Ok(answer) => answer,
        Err(Refusal::NotFound) => text(StatusCode::NOT_FOUND, PATHS),
        Err(Refusal::BadNumber { max }) => text(StatusCode::BAD_REQUEST, format!("a number from 0 to {max}, please\n")),
        Err(Refusal::BadMethod) => {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD, please\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            answer
        }
    }
}

const PATHS: &str = "try / /sleep/MS /spin/US /bytes/N /exit/CODE /abort /who\n";

async fn route(request: &Request<Incoming>, about: &About, caller: Option<Peer>) -> Result<Answer, Refusal> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Refusal::BadMethod);
    }
    let path = request.uri().path();
    let (verb, argument) = match path[1.min(path.len())..].split_once('/') {
        Some((verb, argument)) => (verb, Some(argument)),
        None => (path.trim_start_matches('/'), None),
    };
    match (verb, argument) {
        ("", None) => {}
        ("sleep", Some(ms)) => sleep(Duration::from_millis(number(ms, SLEEP_MAX_MS)?)).await,
        ("spin", Some(us)) => spin(Duration::from_micros(number(us, SPIN_MAX_US)?)),
        ("bytes", Some(count)) => return Ok(bytes(number(count, BYTES_MAX)?)),
        ("exit", Some(code)) => process::exit(i32::try_from(number(code, 255)?).unwrap_or(1)),
        ("abort", None) => process::abort(),
        ("who", None) => return Ok(text(StatusCode::OK, who(caller))),
        _ => return Err(Refusal::NotFound),
    }
    Ok(text(StatusCode::OK, about.line.clone()))
}

fn number(text: &str, max: u64) -> Result<u64, Refusal> {
    // Digits alone: parse would take a sign.
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| plain && *number <= max).ok_or(Refusal::BadNumber { max })
}

fn spin(length: Duration) {
    let start = Instant::now();
    while start.elapsed() < length {
        std::hint::spin_loop();
    }
}

fn who(caller: Option<Peer>) -> String {
    match caller {
        Some(peer) => format!("uid={} gid={} pid={}\n", peer.uid, peer.gid, peer.pid),
        None => "unknown: credentials travel over Unix sockets only\n".to_owned(),
    }
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(text.into())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

fn bytes(count: u64) -> Answer {
    let mut answer = Response::new(Either::Right(Filler { left: count }));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    answer
}

/// A body of so many bytes that are nowhere in memory.
#[derive(Debug)]
pub(super) struct Filler {
    left: u64,
}

impl Body for Filler {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(CHUNK.len());
        self.left -= len as u64;
        Poll::Ready((len > 0).then(|| Ok(Frame::data(Bytes::from_static(&CHUNK[..len])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_digits_up_to_its_limit() {
        assert!(matches!(number("255", 255), Ok(255)));
        for bad in ["", "256", "-1", "+1", " 1", "1x", "99999999999999999999999"] {
            assert!(matches!(number(bad, 255), Err(Refusal::BadNumber { max: 255 })), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_filler_gives_exactly_what_it_announces() {
        let mut filler = Filler { left: 40_000 };
        assert_eq!(filler.size_hint().exact(), Some(40_000));
        let mut total = 0;
        let mut context = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut filler).poll_frame(&mut context) {
            total += frame.into_data().unwrap().len();
        }
        assert_eq!((total, filler.is_end_stream()), (40_000, true));
    }
}
