//! Hosts the built-in hello server: HTTP/1.1 with keep-alive, in a worker process of its own.
//!
//! It is what `ostler run` serves when nothing else is given, and what the examples of the guide are tried on. One
//! thread and an event loop; it holds at most `concurrency` connections, and on a drain closes idle ones at once
//! and the busy ones with their next answer. What the paths do is in `hello/routes.rs`.
//!
//! It never claims what it could not serve, and panics on nothing that a client sends.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ostler_worker::tokio::{Connection, Stream};
use ostler_worker::{ServeError, Worker};
use tokio::time::sleep;

use crate::commands::say::complain_at_length;

mod routes;

/// How long a connection that has asked nothing yet may still do so after a drain began.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);

/// The hidden subcommand: serves until the supervisor drains this process.
pub(crate) fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain_at_length(&format!("ostler hello server: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), ServeError> {
    let worker = Worker::connect()?;
    let about = Arc::new(routes::About::of(&worker));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::EventLoop)?;
    runtime.block_on(worker.serve_async(move |connection| serve(connection, Arc::clone(&about))))
}

/// Speaks HTTP until the client goes, or the worker leaves. A client's errors are its own affair.
async fn serve(connection: Connection, about: Arc<routes::About>) -> io::Result<()> {
    if let Stream::Tcp(stream) = connection.stream() {
        stream.set_nodelay(true)?;
    }
    let (caller, drain) = (connection.peer(), connection.drain_watch());
    let asked = AtomicBool::new(false);
    let marker = connection.mark_by_hand();
    let answer = service_fn(async |request| {
        let _busy = marker.busy();
        asked.store(true, Ordering::Relaxed);
        let mut answer = routes::answer(&request, &about, caller).await;
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
    if !asked.load(Ordering::Relaxed) {
        // hyper would close it like an idle one, and its first request may be on the way.
        tokio::select! {
            _ended = exchange.as_mut() => return Ok(()),
            () = sleep(FIRST_REQUEST_GRACE) => {}
        }
    }
    if asked.load(Ordering::Relaxed) {
        exchange.as_mut().graceful_shutdown();
        let _ended = exchange.await;
    }
    Ok(())
}
