//! Runs a handler for every connection: one after the other, or on as many threads as the pool allows.
//!
//! The threads take turns at the mailbox instead of being fed by one that claims: a hand-over inside the process
//! would cost every connection a second wake-up (measured with 16 threads and as many clients: 4.6 µs of CPU per
//! connection by a claiming thread and a channel, 2.8 µs by turns).

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::thread;

use crate::claim::NextError;
use crate::connect::ConnectError;
use crate::connection::Connection;
use crate::report::say;
use crate::stage::Stage;
use crate::worker::Worker;

/// Why serving ended otherwise than by a drain.
#[derive(thiserror::Error)]
pub enum ServeError {
    /// There is no supervisor to serve for.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No further connection can be claimed.
    #[error(transparent)]
    Next(#[from] NextError),
    /// A serving thread could not be started.
    #[error("cannot start {wanted} threads for `concurrency`: {source}")]
    Thread {
        /// The pool's `concurrency`.
        wanted: usize,
        /// What the system said.
        source: io::Error,
    },
    /// There is no event loop to be had, or it has no room for the mailbox.
    #[error("cannot start an event loop: {0}")]
    EventLoop(#[source] io::Error),
}

impl std::fmt::Debug for ServeError {
    /// The words for people: `main` shows an error that it returns in this way.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Connects to the supervisor and serves until it drains this worker. See [`Worker::serve`].
///
/// # Errors
/// When this process was not started by ostler, or serving ends otherwise than by a drain.
pub fn serve<H>(handler: H) -> Result<(), ServeError>
where
    H: Fn(Connection) -> io::Result<()> + Sync,
{
    Worker::connect()?.serve(handler)
}

impl Worker {
    /// Calls `handler` for every connection until the supervisor drains this worker; then leave with exit code 0.
    ///
    /// At `concurrency` 1 it is called on this thread, above that on as many threads as `concurrency` says, all
    /// started at once. An error that the handler returns is one line on standard error, unless it only says that
    /// the client has gone; a panic is an outcome of its connection.
    ///
    /// # Errors
    /// [`ServeError::Next`] when connections can't be claimed any more; [`ServeError::Thread`] when there are fewer
    /// threads to be had than `concurrency` says.
    pub fn serve<H>(self, handler: H) -> Result<(), ServeError>
    where
        H: Fn(Connection) -> io::Result<()> + Sync,
    {
        let concurrency = self.concurrency();
        if concurrency == 1 { Ok(self.serve_in_turn(&handler)?) } else { self.serve_on_threads(concurrency, &handler) }
    }

    fn serve_in_turn<H>(&self, handler: &H) -> Result<(), NextError>
    where
        H: Fn(Connection) -> io::Result<()>,
    {
        loop {
            match self.next() {
                Ok(Some(connection)) => serve_one(handler, connection),
                Ok(None) => return Ok(()),
                Err(error) => {
                    // The other threads stop as well: a worker with fewer threads than places would sit on connections.
                    self.station.leave(Stage::Leaving);
                    return Err(error);
                }
            }
        }
    }

    fn serve_on_threads<H>(&self, count: usize, handler: &H) -> Result<(), ServeError>
    where
        H: Fn(Connection) -> io::Result<()> + Sync,
    {
        thread::scope(|scope| {
            let mut threads = Vec::with_capacity(count);
            for number in 0..count {
                let thread = thread::Builder::new().name(format!("ostler-serve-{number}"));
                match thread.spawn_scoped(scope, || self.serve_in_turn(handler)) {
                    Ok(thread) => threads.push(thread),
                    Err(source) => {
                        // Those that run may hold connections already: they finish, the supervisor takes the rest.
                        self.station.leave(Stage::Leaving);
                        return Err(ServeError::Thread { wanted: count, source });
                    }
                }
            }
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(end) => Ok(end?),
                Err(panic) => panic::resume_unwind(panic),
            })
        })
    }
}

/// A panic ends the connection, which is dropped while the handler unwinds, and nothing else. The panic hook has
/// said what there is to say.
fn serve_one<H>(handler: &H, connection: Connection)
where
    H: Fn(Connection) -> io::Result<()>,
{
    let conn = connection.ticket().conn;
    if let Ok(Err(error)) = panic::catch_unwind(AssertUnwindSafe(|| handler(connection)))
        && !client_has_gone(&error)
    {
        say(format_args!("cannot finish conn={conn}: {error}"));
    }
}

/// Whether an error only says that the client has gone, which is its right.
pub(crate) fn client_has_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}
