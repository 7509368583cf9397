//! A worker that ends with exit code 3 soon after it was READY.
//!
//! `short_lived idle|serving MS`: milliseconds from READY to its end. `serving`: it serves meanwhile, and what it holds at the
//! end is lost. `idle`: it claims nothing.

use std::error::Error;
use std::process::{ExitCode, exit};
use std::thread;
use std::time::Duration;

use ostler_tests::programs::edge;
use ostler_tests::tiny_http;
use ostler_worker::{TryNext, Worker};

fn main() -> ExitCode {
    edge(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mode = args.next().ok_or("usage: short_lived idle|serving MS")?;
    let lives = Duration::from_millis(args.next().ok_or("usage: short_lived idle|serving MS")?.parse()?);
    let worker = Worker::connect()?;
    let name = worker.name().to_string();
    match mode.as_str() {
        "serving" => {
            thread::spawn(move || end_after(lives));
            worker.serve(|connection| tiny_http::serve(connection, |_| tiny_http::who_am_i(&name)))?;
            Ok(())
        }
        "idle" => {
            // The first look says READY. Somebody quick may be handed over between the two.
            if let TryNext::Connection(connection) = worker.try_next()? {
                tiny_http::serve(connection, |_| tiny_http::who_am_i(&name))?;
            }
            end_after(lives)
        }
        _ => Err(format!("unknown mode {mode}").into()),
    }
}

fn end_after(lives: Duration) -> ! {
    thread::sleep(lives);
    eprintln!("could not reach the database");
    exit(3)
}
