//! A worker with async handlers on a runtime of two threads, for the suites that kill, reload and stop.
//!
//! `tokio_worker [MS]`: milliseconds before it says READY. Routes: `/` and `/sleep/MS`, as slow_start has them.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use ostler_tests::programs::edge;
use ostler_tests::tiny_http;
use ostler_worker::Worker;
use ostler_worker::tokio::Connection;
use tokio::time::sleep;

/// Tasks that claim, serve and end connections at the same time need more than one.
const THREADS: usize = 2;

fn main() -> ExitCode {
    edge(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let loading_ms = std::env::args().nth(1).map_or(Ok(0), |text| text.parse())?;
    let worker = Worker::connect()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    let name: Arc<str> = worker.name().to_string().into();
    runtime.block_on(async {
        sleep(Duration::from_millis(loading_ms)).await;
        worker.serve_async(move |connection| serve(connection, Arc::clone(&name))).await
    })?;
    Ok(())
}

/// The first request of a connection is waited for even by a server that leaves: the client could not know.
async fn serve(connection: Connection, name: Arc<str>) -> io::Result<()> {
    let drain = connection.drain_watch();
    let asked = AtomicBool::new(false);
    let answer = service_fn(async |request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        if let Some(ms) = request.uri().path().strip_prefix("/sleep/").and_then(|text| text.parse().ok()) {
            sleep(Duration::from_millis(ms)).await;
        }
        let mut answer = Response::new(Full::new(Bytes::from(tiny_http::who_am_i(&name))));
        if drain.is_draining() {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok::<_, Infallible>(answer)
    });
    let mut exchange = pin!(http1::Builder::new().serve_connection(TokioIo::new(connection), answer));
    tokio::select! {
        _ended = exchange.as_mut() => return Ok(()),
        () = drain.draining() => {}
    }
    if asked.load(Ordering::Relaxed) {
        exchange.as_mut().graceful_shutdown();
    }
    let _ended = exchange.await;
    Ok(())
}
