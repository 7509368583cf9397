//! The worker of the benchmark: one handler, with ostler or without.
//!
//! `bench_worker ostler`: claims from its mailbox, in as many threads as the pool's concurrency says.
//! `bench_worker bare-unix THREADS NUMBER` and `bare-tcp …`: accepts from the listener on standard input, in so many
//! threads. Both answer the same 200 bytes, in which they give their number.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::thread;

use ostler_tests::programs::edge;
use ostler_worker::{Worker, WorkerName};

/// Bytes of a request; its first byte says whether another follows on the same connection.
const REQUEST_LEN: usize = 100;
/// Bytes of an answer; its first two are the worker's number, little-endian.
const ANSWER_LEN: usize = 200;
/// The first byte of a connection's last request.
const LAST: u8 = b'L';

fn main() -> ExitCode {
    edge(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["ostler"] => with_ostler(),
        ["bare-unix", threads, number] => {
            let listener = UnixListener::from(standard_input()?);
            bare(threads.parse()?, number.parse()?, || listener.accept().map(|(stream, _)| stream))
        }
        ["bare-tcp", threads, number] => {
            let listener = TcpListener::from(standard_input()?);
            bare(threads.parse()?, number.parse()?, || listener.accept().map(|(stream, _)| stream))
        }
        _ => Err("usage: bench_worker ostler | bare-unix THREADS NUMBER | bare-tcp THREADS NUMBER".into()),
    }
}

fn with_ostler() -> Result<(), Box<dyn Error>> {
    let worker = Worker::connect()?;
    let answer = answer_of(slot(worker.name()));
    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        for _ in 0..worker.concurrency() {
            scope.spawn(|| {
                while let Ok(Some(connection)) = worker.next() {
                    let _ = handle(&connection, &answer);
                }
            });
        }
        Ok(())
    })
}

fn bare<S>(threads: usize, number: u16, accept: impl Fn() -> io::Result<S> + Sync) -> Result<(), Box<dyn Error>>
where
    S: Read + Write,
{
    let answer = answer_of(number);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Ok(stream) = accept() {
                    let _ = handle(stream, &answer);
                }
            });
        }
    });
    Ok(())
}

/// The same in both modes: read a request, answer it, until the last one.
fn handle(mut stream: impl Read + Write, answer: &[u8]) -> io::Result<()> {
    let mut request = [0; REQUEST_LEN];
    loop {
        stream.read_exact(&mut request)?;
        stream.write_all(answer)?;
        if request[0] == LAST {
            return Ok(());
        }
    }
}

fn answer_of(number: u16) -> [u8; ANSWER_LEN] {
    let mut answer = [b'a'; ANSWER_LEN];
    answer[..2].copy_from_slice(&number.to_le_bytes());
    answer
}

fn slot(name: &WorkerName) -> u16 {
    u16::try_from(name.slot.0).expect("a benchmark has few workers")
}

fn standard_input() -> io::Result<OwnedFd> {
    io::stdin().as_fd().try_clone_to_owned()
}
