//! Hosts the built-in admin server: metrics, the state as JSON, readiness and a page, in a worker process of its own.
//!
//! It reads what the supervisor publishes, from a copy in memory whose descriptor it was given, and talks to nobody else: not to
//! the control socket, not to other workers. So it answers when all of them are stuck, and can change nothing.
//!
//! | question | file |
//! |---|---|
//! | who is let in, and for how long | `admin/server.rs`, `admin/crowd.rs` |
//! | what a path answers | `admin/routes.rs` |
//! | what Prometheus reads | `admin/metrics.rs`, written by `admin/exposition.rs` |
//! | whether everything is well | `admin/readiness.rs` |
//! | what the page shows | `admin/live.rs`, `admin/history.rs`, `admin/page.*` |
//! | where all of it comes from | `admin/source.rs` |

mod crowd;
mod exposition;
mod history;
mod live;
mod metrics;
mod readiness;
mod routes;
mod server;
mod source;

use std::process::ExitCode;
use std::sync::Arc;

use ostler_worker::{ServeError, Worker};

use crate::commands::say::complain_at_length;
use server::Server;
use source::{NoBoard, Source};

/// The hidden subcommand that makes this binary an admin server.
pub(crate) const ADMIN_COMMAND: &str = "admin-worker";

/// Why this process serves nothing.
#[derive(Debug, thiserror::Error)]
enum AdminError {
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    NoBoard(#[from] NoBoard),
}

/// The hidden subcommand: serves until the supervisor drains this process.
pub(crate) fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain_at_length(&format!("ostler admin server: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), AdminError> {
    let worker = Worker::connect().map_err(ServeError::from)?;
    let server = Arc::new(Server::new(Source::inherited()?));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::EventLoop)?;
    runtime.block_on(async {
        server.await_first_state().await;
        let _remembers = tokio::spawn(Arc::clone(&server).remember());
        let serving = Arc::clone(&server);
        Ok(worker.serve_async(move |connection| server::serve(connection, Arc::clone(&serving))).await?)
    })
}
