//! Answers HTTP/1.1 requests with one line, with keep-alive, on hyper and tokio: thousands of connections per worker.
//!
//! ```text
//! cargo build --release --examples
//! ostler run --listen unix:hello.sock --concurrency 1000 -- target/release/examples/http_hello
//! curl --unix-socket hello.sock http://localhost/
//! ```
//! It shows what a server with idle connections owes a drain: it closes those that wait for another request at once, and
//! the busy ones with their answer, which says so (`Connection: close`). And it shows what it owes to slow clients: none
//! holds a place for longer than [`PATIENCE`] without having asked something.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use ostler_worker::tokio::Connection;
use ostler_worker::{ServeError, Worker};
use tokio::time::sleep;

/// How long a client may take to send the head of its next request, the silence before it included.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a connection that has asked nothing yet may still do so when the worker is leaving.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);

/// Speaks HTTP until the client goes, or the worker leaves. A client's errors are its own affair: hyper answers them.
async fn serve_http(connection: Connection, line: Bytes) -> io::Result<()> {
    let drain = connection.drain_watch();
    let asked = AtomicBool::new(false);
    // A client that takes its time to ask is hyper's business (PATIENCE), not that of the supervisor's watchdog.
    let marker = connection.mark_by_hand();
    let answer = service_fn(async |_request: Request<Incoming>| {
        let _busy = marker.busy();
        asked.store(true, Ordering::Relaxed);
        let mut answer = Response::new(Full::new(line.clone()));
        if drain.is_draining() {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok::<_, Infallible>(answer)
    });
    let mut http = http1::Builder::new();
    // A client that has sent everything may say so, and still wants its answer.
    http.half_close(true).timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let mut exchange = pin!(http.serve_connection(TokioIo::new(connection), answer));
    tokio::select! {
        _ended = exchange.as_mut() => return Ok(()),
        () = drain.draining() => {}
    }
    if !asked.load(Ordering::Relaxed) {
        // It was handed over a moment ago, and its request may be on the way.
        tokio::select! {
            _ended = exchange.as_mut() => return Ok(()),
            () = sleep(FIRST_REQUEST_GRACE) => {}
        }
    }
    exchange.as_mut().graceful_shutdown();
    let _ended = exchange.await;
    Ok(())
}

async fn serve() -> Result<(), ServeError> {
    let worker = Worker::connect()?;
    let line = Bytes::from(format!("hello from worker={} pid={}\n", worker.name(), process::id()));
    worker.serve_async(move |connection| serve_http(connection, line.clone())).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("http_hello: {error}");
            ExitCode::FAILURE
        }
    }
}
