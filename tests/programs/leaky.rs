//! A worker that grows with each connection, up to a size.
//!
//! `leaky EACH MOST`: bytes that a connection leaves behind, and how many there may be of them.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Mutex;

use ostler_tests::programs::edge;
use ostler_tests::tiny_http;
use ostler_worker::Worker;

fn main() -> ExitCode {
    edge(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<usize> = std::env::args().skip(1).map(|number| number.parse()).collect::<Result<_, _>>()?;
    let [each, most] = numbers[..] else { return Err("usage: leaky EACH MOST".into()) };
    let worker = Worker::connect()?;
    let name = worker.name().to_string();
    let kept: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
    worker.serve(|connection| {
        let mut kept = kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if each * kept.len() < most {
            // Written to, or it would not be resident.
            kept.push(vec![1; each]);
        }
        drop(kept);
        tiny_http::serve(connection, |_| tiny_http::who_am_i(&name))
    })?;
    Ok(())
}
