//! A worker that takes its time before it is ready, and then answers as the hello server does.
//!
//! `slow_start [MS]`: milliseconds before it says READY. Routes: `/` and `/sleep/MS`.

use std::error::Error;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use ostler_tests::programs::edge;
use ostler_tests::tiny_http;
use ostler_worker::Worker;

fn main() -> ExitCode {
    edge(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let loading_ms = std::env::args().nth(1).map_or(Ok(0), |text| text.parse())?;
    let worker = Worker::connect()?;
    thread::sleep(Duration::from_millis(loading_ms));
    let name = worker.name().to_string();
    worker.serve(|connection| {
        tiny_http::serve(connection, |path| {
            if let Some(ms) = path.strip_prefix("/sleep/").and_then(|text| text.parse().ok()) {
                thread::sleep(Duration::from_millis(ms));
            }
            tiny_http::who_am_i(&name)
        })
    })?;
    Ok(())
}
