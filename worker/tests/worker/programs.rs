//! The programs that the tests run as workers.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{self, Command};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ostler_shared::packet::retry_interrupted;
use ostler_worker::{Completion, Connection, ServeError, TryNext, Worker, serve};

use crate::{async_programs, half_open};

/// Names the program that `a_worker_program` shall become.
pub(crate) const PROGRAM: &str = "OSTLER_TEST_PROGRAM";

/// Runs the program that the environment names and leaves with its exit code. Returns when it names none.
pub(crate) fn become_the_named_one() {
    let Ok(program) = std::env::var(PROGRAM) else { return };
    let end = async_programs::run_named(&program).unwrap_or_else(|| run_blocking(&program));
    if let Err(error) = &end {
        eprintln!("{program}: {error}");
    }
    process::exit(i32::from(end.is_err()));
}

fn run_blocking(program: &str) -> Result<(), ServeError> {
    match program {
        "repeat" => serve(repeat),
        "chat" => serve(chat),
        "greet" => serve(|mut connection| connection.write_all(b"hi")),
        "panic" => serve(panic_when_told),
        "ponder" => serve(ponder),
        "part" => serve(part),
        "children" => serve(children),
        "hog" => serve(hog),
        "hog-and-stay" => serve(hog_and_stay),
        "leak" => serve(leak),
        "hang" => serve(|_connection| {
            loop {
                thread::park();
            }
        }),
        "mismatch" => serve(mismatch),
        "poll" => poll_loop(),
        other => match half_open::blocking_handler(other) {
            Some(handler) => serve(handler),
            None => panic!("no program is called {other}"),
        },
    }
}

/// Repeats every byte.
fn repeat(mut connection: Connection) -> io::Result<()> {
    let mut byte = [0; 1];
    while connection.read(&mut byte)? == 1 {
        connection.write_all(&byte)?;
    }
    Ok(())
}

/// Repeats every byte and talks about it.
fn chat(mut connection: Connection) -> io::Result<()> {
    let mut byte = [0; 1];
    while connection.read(&mut byte)? == 1 {
        println!("got {byte:?}");
        eprintln!("got {byte:?}");
        connection.write_all(&byte)?;
    }
    Ok(())
}

/// Reads a byte and never gets anywhere with it.
fn ponder(mut connection: Connection) -> io::Result<()> {
    connection.read_exact(&mut [0; 1])?;
    loop {
        thread::park();
    }
}

fn panic_when_told(mut connection: Connection) -> io::Result<()> {
    let mut byte = [0; 1];
    connection.read_exact(&mut byte)?;
    assert_ne!(&byte, b"p", "told to panic");
    connection.write_all(&byte)
}

/// The first connection's completion waits for the second connection.
fn part(connection: Connection) -> io::Result<()> {
    static PARKED: Mutex<Option<Completion>> = Mutex::new(None);
    let (mut stream, completion) = connection.into_unix().expect("a Unix connection");
    stream.write_all(b"hi")?;
    drop(stream);
    let mut parked = PARKED.lock().unwrap();
    match parked.take() {
        None => *parked = Some(completion),
        Some(earlier) => {
            drop(earlier);
            drop(completion);
        }
    }
    Ok(())
}

/// Tells what a child inherits: its descriptors, and whether USR1 kills it as it should.
fn children(mut connection: Connection) -> io::Result<()> {
    let descriptors = Command::new("ls").args(["-l", "/proc/self/fd"]).output()?.stdout;
    connection.write_all(&descriptors)?;
    let signalled = Command::new("sh").args(["-c", "kill -USR1 $$"]).status()?;
    writeln!(connection, "{signalled}")
}

/// Holds every free descriptor of the process until the client lets go.
fn hog(mut connection: Connection) -> io::Result<()> {
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    connection.write_all(b"h")?;
    connection.read_exact(&mut [0; 1])
}

/// As hog, and takes what becomes free as well.
fn hog_and_stay(mut connection: Connection) -> io::Result<()> {
    connection.write_all(b"h")?;
    connection.stream().set_read_timeout(Some(Duration::from_millis(1)))?;
    let mut hoard = Vec::new();
    loop {
        while let Ok(file) = File::open("/dev/null") {
            hoard.push(file);
        }
        match connection.read(&mut [0; 1]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ended => return Ok(()),
        }
    }
}

/// Keeps every descriptor it can get for ever.
fn leak(mut connection: Connection) -> io::Result<()> {
    while let Ok(file) = File::open("/dev/null") {
        std::mem::forget(file);
    }
    connection.write_all(b"h")?;
    connection.read_exact(&mut [0; 1])
}

fn mismatch(connection: Connection) -> io::Result<()> {
    let mut same = connection.into_tcp().expect_err("a Unix connection is not a TCP one");
    same.write_all(b"still yours")
}

/// An event loop: greets, never blocks in a claim.
fn poll_loop() -> Result<(), ServeError> {
    let worker = Worker::connect()?;
    assert!(matches!(Worker::connect(), Err(ostler_worker::ConnectError::Again)));
    loop {
        match worker.try_next()? {
            TryNext::Connection(mut connection) => connection.write_all(b"hi").unwrap(),
            TryNext::Drained => return Ok(()),
            TryNext::Nothing | TryNext::Starved => {
                let mut mailbox = [PollFd::new(worker.as_fd(), PollFlags::POLLIN)];
                // TERM interrupts it, and wakes the mailbox a moment later.
                retry_interrupted(|| Ok(poll(&mut mailbox, PollTimeout::NONE)?)).unwrap();
            }
        }
    }
}
