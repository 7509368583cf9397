//! Speaks HTTP/1.1 with whoever connects, within limits.
//!
//! hyper parses, and refuses what is none with 400 or 431. GET and HEAD are answered, a request with a body is not read.
//! On a drain, and at the end of its time, a connection gets the answer that it waits for, and then closes.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use ostler_config::limits::ADMIN_CONCURRENCY;
use ostler_worker::tokio::{Connection, Stream};
use tokio::time::{interval, sleep, timeout};

use super::crowd::Crowd;
use super::history::{History, SAMPLED_EVERY};
use super::routes::{self, Asked};
use super::source::Source;

/// Most connections that are kept; with one more, the oldest goes. The places beyond them are for those that are going.
const CONNECTIONS_MAX: usize = ADMIN_CONCURRENCY as usize / 2;
/// How long a client may take for the head of a request, and be idle between two.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// Largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header fields of a request.
const FIELDS_MAX: usize = 64;
/// How long a connection is kept, whatever it does.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// How long it then has to take the answer that is on its way, as on a drain.
const LAST_ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long the first state may take.
const FIRST_STATE_WITHIN: Duration = Duration::from_secs(5);
/// Memory can't be waited for.
const LOOKED_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// What all connections share.
#[derive(Debug)]
pub(super) struct Server {
    source: Source,
    history: History,
    crowd: Arc<Crowd>,
}

impl Server {
    /// One that knows what is published here.
    pub(super) fn new(source: Source) -> Server {
        Server { source, history: History::default(), crowd: Crowd::of_at_most(CONNECTIONS_MAX) }
    }

    /// Waits until there is a state to tell, which a supervisor publishes as it starts. Without one in time, whoever asks hears why.
    pub(super) async fn await_first_state(&self) {
        let published = async {
            while self.source.read().is_err() {
                sleep(LOOKED_AGAIN_AFTER).await;
            }
        };
        let _published = timeout(FIRST_STATE_WITHIN, published).await;
    }

    /// Remembers the last minutes for the charts, for ever.
    pub(super) async fn remember(self: Arc<Server>) {
        let mut next = interval(SAMPLED_EVERY);
        loop {
            next.tick().await;
            if let Ok(content) = self.source.read() {
                self.history.sample(&content);
            }
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let asked = Asked {
            method: request.method(),
            path: request.uri().path(),
            query: request.uri().query(),
            has_body: !request.body().is_end_stream(),
        };
        routes::answer(asked, &self.source, &self.history)
    }
}

/// Serves one client until it goes or has to. A client's errors are its own affair.
pub(super) async fn serve(connection: Connection, server: Arc<Server>) -> io::Result<()> {
    if let Stream::Tcp(stream) = connection.stream() {
        stream.set_nodelay(true)?;
    }
    let guest = server.crowd.enter();
    let drain = connection.drain_watch();
    let answer = service_fn(async |request: Request<Incoming>| {
        let mut answer = server.answer(&request);
        if drain.is_draining() {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok::<_, Infallible>(answer)
    });
    let mut exchange = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_headers(FIELDS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(connection), answer)
    );
    tokio::select! {
        _ended = exchange.as_mut() => return Ok(()),
        () = guest.asked_to_go() => return Ok(()),
        () = sleep(KEPT_FOR) => {}
        () = drain.draining() => {}
    }
    exchange.as_mut().graceful_shutdown();
    tokio::select! {
        _ended = timeout(LAST_ANSWER_WITHIN, exchange) => {}
        () = guest.asked_to_go() => {}
    }
    Ok(())
}
