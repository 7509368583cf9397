//! Serves connections with async handlers, thousands per worker, on tokio (feature `tokio`).
//!
//! ```no_run
//! use std::io;
//!
//! use ostler_worker::ServeError;
//! use ostler_worker::tokio::Connection;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! async fn shout(mut connection: Connection) -> io::Result<()> {
//!     let mut word = [0; 64];
//!     let len = connection.read(&mut word).await?;
//!     connection.write_all(word[..len].to_ascii_uppercase().as_slice()).await
//! }
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), ServeError> {
//!     ostler_worker::tokio::serve(shout).await
//! }
//! ```
//! The names mirror those of the crate: [`Worker`], [`Connection`], [`Stream`]. Each converts into its blocking
//! sibling and back: [`crate::Worker::into_async`], [`crate::Connection::into_async`],
//! [`Connection::into_blocking`], [`Stream::from_std`], [`Stream::into_std`].
//!
//! # Runtimes
//! Any of tokio's, with I/O and time enabled, as `#[tokio::main]` does. Connecting waits for the supervisor's
//! answer on the thread that does it, so do it before the runtime has other work. A pool has several processes
//! anyway: one thread in each (`current_thread`, as [`run`] makes it) is enough unless handlers compute for long.
//!
//! # Leaving
//! [`Worker::serve`] claims to the mailbox's end, and its future resolves when all connections have ended. A
//! connection that only waits for its client's next request would keep it waiting: such a handler waits for
//! [`Connection::draining`] as well.

mod connection;
mod drain;
mod mailbox;
mod places;
mod pulse;
mod stream;
mod worker;

use std::io;

pub use connection::Connection;
pub use drain::DrainWatch;
pub(crate) use places::Place;
pub use stream::Stream;
pub use worker::Worker;

use crate::serve::ServeError;

/// Connects to the supervisor and serves, inside of a runtime, until it drains this worker. See [`Worker::serve`].
///
/// # Errors
/// When this process was not started by ostler, or serving ends otherwise than by a drain.
///
/// # Panics
/// Outside of a tokio runtime, or in one without I/O or time.
pub async fn serve<H, F>(handler: H) -> Result<(), ServeError>
where
    H: Fn(Connection) -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    crate::Worker::connect()?.serve_async(handler).await
}

/// As [`serve`], for programs without a runtime: makes one on this thread, and waits.
///
/// # Errors
/// As [`serve`], and [`ServeError::EventLoop`] when there is no runtime to be had.
///
/// # Panics
/// Inside of a tokio runtime.
pub fn run<H, F>(handler: H) -> Result<(), ServeError>
where
    H: Fn(Connection) -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let worker = crate::Worker::connect()?;
    let runtime =
        ::tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::EventLoop)?;
    runtime.block_on(worker.serve_async(handler))
}
