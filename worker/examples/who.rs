//! Tells the caller who it is, as the kernel recorded it, how long it waited for a worker, and how full the line is.
//!
//! ```text
//! cargo build --release --examples
//! ostler run --listen unix:who.sock --listen tcp:127.0.0.1:7000 -- target/release/examples/who
//! socat - UNIX-CONNECT:who.sock      # or: nc -U who.sock
//! ```

use std::io::{self, Write};
use std::process::ExitCode;

use ostler_worker::{Connection, Worker};

fn answer(worker: &Worker, mut connection: Connection) -> io::Result<()> {
    let caller = match connection.peer() {
        Some(peer) => format!("uid={} gid={} pid={}", peer.uid, peer.gid, peer.pid),
        None => "unknown (credentials travel over Unix sockets only)".to_owned(),
    };
    let (id, waited, pressure) = (connection.ticket().conn, connection.waited(), connection.pressure());
    let name = worker.name();
    writeln!(connection, "caller: {caller} · conn={id} waited={waited:?} pressure={pressure} · worker={name}")
}

/// The pull API: one connection after the other, whatever the pool's concurrency is.
fn serve() -> Result<(), Box<dyn std::error::Error>> {
    let worker = Worker::connect()?;
    while let Some(connection) = worker.next()? {
        if let Err(error) = answer(&worker, connection) {
            eprintln!("who: cannot answer: {error}");
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("who: {error}");
            ExitCode::FAILURE
        }
    }
}
