//! Hosts the commands of a `stdio` pool: for each connection a process, or a pipeline of them, with the connection at its ends.
//!
//! This is the worker of such a pool, in a process of its own. To the supervisor it is one like any other, built on our library:
//! it claims at most `concurrency` connections at a time, starts the commands for each, waits for their end, and gives the place
//! back. What it starts belongs to its process group, which the supervisor ends with it (docs/decisions/0016).
//!
//! ```text
//!             ┌──────── the client ◄─────────────────────┐
//!             ▼ 0                                      1 │
//!          stage 1 ──1── pipe ──0──► stage 2 ── … ──► stage n
//! ```
//! It never reads or writes a connection itself, and starts nothing but what its pool says.

mod ending;
mod environment;
mod group;
mod orders;
mod starting;

use std::io;
use std::process::ExitCode;

use ostler_worker::{Completion, Connection, ProgramEnd, ServeError, Worker};

use crate::commands::say::complain_at_length;
use ending::Last;
pub(crate) use orders::{Orders, STDIO_COMMAND, Written};
use starting::Programs;

/// Why this process hosts nothing.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Orders(String),
    #[error("cannot follow signals and the supervisor: {0}")]
    Group(#[source] io::Error),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// The hidden subcommand: serves until the supervisor drains this process.
pub(crate) fn main(written: Written) -> ExitCode {
    match written.read().map_err(Refusal::Orders).and_then(|orders| run(&orders)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            complain_at_length(&format!("ostler stdio worker: {refusal}\n"));
            ExitCode::FAILURE
        }
    }
}

fn run(orders: &Orders) -> Result<(), Refusal> {
    // Before it is ready: a command that can't be executed is a worker that can't start.
    let programs = Programs::find(orders).map_err(Refusal::Orders)?;
    let worker = Worker::connect().map_err(ServeError::Connect)?;
    group::lead(orders).map_err(Refusal::Group)?;
    worker.serve(move |connection| serve(connection, &programs, orders))?;
    Ok(())
}

/// One connection, from its claim to the end of the last process that was started for it.
fn serve(connection: Connection, programs: &Programs, orders: &Orders) -> io::Result<()> {
    let variables = environment::of(&connection);
    let (stream, completion) = connection.into_parts();
    let started = programs.start(&stream, &variables);
    // From here on the client sees the end when the processes are gone. Only who is to cut a pipeline keeps a copy.
    let last = Last { kept: orders.is_pipeline().then_some(stream) };
    let ends = match started {
        Ok(running) => ending::wait(running, last, orders),
        Err(cut) => {
            drop(last);
            complain_at_length(&format!("conn={}: {cut}\n", completion.ticket().conn));
            ending::abandon(cut)
        }
    };
    tell(completion, &ends);
    Ok(())
}

fn tell(completion: Completion, ends: &[ProgramEnd]) {
    completion.tell_programs(ends);
    if ends.iter().all(ProgramEnd::is_well) {
        drop(completion);
    } else {
        completion.fail();
    }
}
