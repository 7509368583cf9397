//! Echoes what a client sends, until it sends no more.
//!
//! ```text
//! cargo build --release --examples
//! ostler run --listen unix:echo.sock -- target/release/examples/echo
//! echo hello | socat - UNIX-CONNECT:echo.sock      # or: echo hello | nc -NU echo.sock
//! ```

use std::io;
use std::process::ExitCode;

use ostler_worker::Connection;

fn echo(connection: Connection) -> io::Result<()> {
    io::copy(&mut &connection, &mut &connection)?;
    Ok(())
}

fn main() -> ExitCode {
    match ostler_worker::serve(echo) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}
