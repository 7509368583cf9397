//! Serves one connection at a time: spins or sleeps as the request says, and answers.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::thread;

use nix::time::{ClockId, clock_gettime};
use ostler_shared::sys::clock::monotonic_ns;
use ostler_worker::Worker;

use crate::arrivals::{Kind, SLEEP, SPIN};

/// Bytes of a request; the first says which kind it is.
pub(crate) const REQUEST_LEN: usize = 100;
/// Bytes of an answer: see [`Stamp`].
pub(crate) const ANSWER_LEN: usize = 200;

/// What an answer tells: who claimed the connection, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    /// The worker's process.
    pub(crate) pid: u32,
    /// On `CLOCK_MONOTONIC`, which is the same for all processes.
    pub(crate) claimed_ns: u64,
}

impl Stamp {
    fn now() -> Stamp {
        Stamp { pid: std::process::id(), claimed_ns: monotonic_ns() }
    }

    fn to_answer(self) -> [u8; ANSWER_LEN] {
        let mut answer = [b'a'; ANSWER_LEN];
        answer[..4].copy_from_slice(&self.pid.to_le_bytes());
        answer[4..12].copy_from_slice(&self.claimed_ns.to_le_bytes());
        answer
    }

    pub(crate) fn of_answer(answer: &[u8; ANSWER_LEN]) -> Stamp {
        let pid = u32::from_le_bytes(answer[..4].try_into().expect("four bytes"));
        let claimed_ns = u64::from_le_bytes(answer[4..12].try_into().expect("eight bytes"));
        Stamp { pid, claimed_ns }
    }
}

/// The request for this kind.
pub(crate) fn request(kind: Kind) -> [u8; REQUEST_LEN] {
    let mut request = [b'r'; REQUEST_LEN];
    request[0] = match kind {
        Kind::Fast => b'F',
        Kind::Slow => b'S',
    };
    request
}

/// A worker of ostler's.
pub(crate) fn with_ostler() -> Result<(), Box<dyn Error>> {
    let worker = Worker::connect()?;
    while let Some(connection) = worker.next()? {
        serve(&connection, Stamp::now());
    }
    Ok(())
}

/// One that accepts for itself, from the listener on its standard input.
pub(crate) fn bare() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    loop {
        let (stream, _) = listener.accept()?;
        serve(stream, Stamp::now());
    }
}

fn serve(mut stream: impl Read + Write, stamp: Stamp) {
    let mut request = [0; REQUEST_LEN];
    if stream.read_exact(&mut request).is_err() {
        return; // the client counts it
    }
    match request[0] {
        b'F' => spin(),
        _ => thread::sleep(SLEEP),
    }
    // As above: what is not written is missed at the other end.
    let _written = stream.write_all(&stamp.to_answer());
}

/// Uses up CPU time: less of it gets done where the CPU is shared, as with real work.
fn spin() {
    let used = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every thread has one");
    let begun = std::time::Duration::from(used());
    while std::time::Duration::from(used()).saturating_sub(begun) < SPIN {
        std::hint::spin_loop();
    }
}
