//! Loads a worker that sends back what it gets, and compares.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crate::deadline::{SOON, wait_until};
use crate::target::{Stream, Target};

const CLIENTS: usize = 16;
/// Longer than a worker's buffer, so that both directions are in use at a time.
const MESSAGE_BYTES: usize = 10_000;

/// Ends the client's side.
///
/// # Errors
/// When the other side has gone.
pub fn end_writing(stream: &Stream) -> io::Result<()> {
    match stream {
        Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
    }
}

/// Sends a message while it reads, and compares.
fn exchange(target: &Target) -> io::Result<()> {
    let message: Vec<u8> = (0..MESSAGE_BYTES).map(|number| (number % 251) as u8).collect();
    let mut stream = target.connect(SOON)?;
    let mut back = vec![0; MESSAGE_BYTES];
    for (sent, got) in message.chunks(3_000).zip(back.chunks_mut(3_000)) {
        stream.write_all(sent)?;
        stream.read_exact(got)?;
    }
    end_writing(&stream)?;
    let rest = stream.read(&mut [0; 1])?;
    if back == message && rest == 0 { Ok(()) } else { Err(io::Error::other("something else came back")) }
}

/// Clients that exchange messages until they are stopped.
#[derive(Debug)]
pub struct Clients {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Clients {
    /// Begins.
    #[must_use]
    pub fn start(target: &Target) -> Clients {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |_| {
            let (target, stop, served) = (target.clone(), Arc::clone(&stop), Arc::clone(&served));
            thread::spawn(move || {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    if let Err(error) = exchange(&target) {
                        failures.push(error.to_string());
                    } else {
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                }
                failures
            })
        };
        let threads = (0..CLIENTS).map(client).collect();
        Clients { stop, served, threads }
    }

    /// Waits until so many more messages came back.
    ///
    /// # Panics
    /// When they do not in time.
    pub fn wait_for_more(&self, count: u64) {
        let wanted = self.served.load(Ordering::Relaxed) + count;
        wait_until(SOON, "more were served", || self.served.load(Ordering::Relaxed) >= wanted);
    }

    /// How many were served, and what failed.
    ///
    /// # Panics
    /// When a client did.
    #[must_use]
    pub fn stop(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
        (self.served.load(Ordering::Relaxed), failures)
    }
}
