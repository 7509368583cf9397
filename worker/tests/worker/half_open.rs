//! Half-open connections: ends in either direction, shutdowns, clients that vanish or read slowly.
//!
//! Every test runs with blocking and with async handlers, over Unix sockets and TCP.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use nix::poll::PollFlags;
use nix::sys::signal::kill;
use nix::sys::socket;
use nix::unistd::Pid;
use ostler_shared::completion::Outcome;
use ostler_shared::ticket::Family;

use ostler_worker::{Connection, Stream, tokio as worker_tokio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::async_programs::{Handler, every_kind};
use crate::fake::{Fake, Setup, wait_for};

/// More than the buffers of any socket hold.
const LONG: usize = 8 * 1024 * 1024;

/// Children that outlive their handlers. They end with this process, whose pipe is their input.
static CHILDREN: Mutex<Vec<Child>> = Mutex::new(Vec::new());

pub(crate) fn blocking_handler(name: &str) -> Option<fn(Connection) -> io::Result<()>> {
    Some(match name {
        "answer-after-end" => answer_after_end,
        "end-then-listen" => end_then_listen,
        "deaf" => deaf,
        "shut-by-a-copy" => shut_by_a_copy,
        "flood" => flood,
        "greet-and-listen" => greet_and_listen,
        "leave-a-child" => leave_a_child,
        _ => return None,
    })
}

pub(crate) fn async_handler(name: &str) -> Option<Handler> {
    Some(match name {
        "answer-after-end" => |connection| Box::pin(answer_after_end_async(connection)),
        "end-then-listen" => |connection| Box::pin(end_then_listen_async(connection)),
        "deaf" => |connection| Box::pin(deaf_async(connection)),
        "shut-by-a-copy" => |connection| Box::pin(shut_by_a_copy_async(connection)),
        "flood" => |connection| Box::pin(flood_async(connection)),
        "greet-and-listen" => |connection| Box::pin(greet_and_listen_async(connection)),
        "leave-a-child" => |connection| Box::pin(leave_a_child_async(connection)),
        _ => return None,
    })
}

/// Hears everything before it says anything.
fn answer_after_end(mut connection: Connection) -> io::Result<()> {
    let mut heard = Vec::new();
    connection.read_to_end(&mut heard)?;
    connection.write_all(&heard.repeat(LONG / heard.len()))
}

async fn answer_after_end_async(mut connection: worker_tokio::Connection) -> io::Result<()> {
    let mut heard = Vec::new();
    connection.read_to_end(&mut heard).await?;
    connection.write_all(&heard.repeat(LONG / heard.len())).await
}

/// Says everything before it hears anything, and then says on standard error what it heard.
fn end_then_listen(mut connection: Connection) -> io::Result<()> {
    connection.write_all(b"bye")?;
    connection.stream().shutdown(Shutdown::Write)?;
    let mut heard = String::new();
    connection.read_to_string(&mut heard)?;
    Err(io::Error::other(format!("heard {heard}")))
}

async fn end_then_listen_async(mut connection: worker_tokio::Connection) -> io::Result<()> {
    connection.write_all(b"bye").await?;
    connection.shutdown().await?;
    let mut heard = String::new();
    connection.read_to_string(&mut heard).await?;
    Err(io::Error::other(format!("heard {heard}")))
}

/// Hears nothing, and speaks all the same.
fn deaf(mut connection: Connection) -> io::Result<()> {
    connection.stream().shutdown(Shutdown::Read)?;
    assert_eq!(connection.read(&mut [0; 1])?, 0);
    connection.write_all(b"what?")
}

async fn deaf_async(mut connection: worker_tokio::Connection) -> io::Result<()> {
    connection.stream().shut(Shutdown::Read)?;
    assert_eq!(connection.read(&mut [0; 1]).await?, 0);
    connection.write_all(b"what?").await
}

/// Ends the conversation through a copy, and keeps both descriptors open for ever.
fn shut_by_a_copy(connection: Connection) -> io::Result<()> {
    let (mut stream, completion) = connection.into_parts();
    let copy = stream.try_clone()?;
    copy.shutdown(Shutdown::Both)?;
    assert_eq!(stream.read(&mut [0; 1])?, 0);
    assert_eq!(stream.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    std::mem::forget((stream, copy));
    drop(completion);
    Ok(())
}

async fn shut_by_a_copy_async(connection: worker_tokio::Connection) -> io::Result<()> {
    let (mut stream, completion) = connection.into_parts();
    let copy = stream.as_fd().try_clone_to_owned()?;
    socket::shutdown(copy.as_raw_fd(), socket::Shutdown::Both)?;
    assert_eq!(stream.read(&mut [0; 1]).await?, 0);
    assert_eq!(stream.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    std::mem::forget((stream, copy));
    drop(completion);
    Ok(())
}

fn flood(mut connection: Connection) -> io::Result<()> {
    connection.write_all(&vec![b'o'; LONG])
}

async fn flood_async(mut connection: worker_tokio::Connection) -> io::Result<()> {
    connection.write_all(&vec![b'o'; LONG]).await
}

fn greet_and_listen(mut connection: Connection) -> io::Result<()> {
    connection.write_all(b"hi")?;
    connection.read_exact(&mut [0; 1])
}

async fn greet_and_listen_async(mut connection: worker_tokio::Connection) -> io::Result<()> {
    connection.write_all(b"hi").await?;
    connection.read_u8().await.map(|_heard| ())
}

/// Tells the pid of a child that lives on.
fn leave_a_child(mut connection: Connection) -> io::Result<()> {
    write!(connection, "{}", child()?)
}

async fn leave_a_child_async(mut connection: worker_tokio::Connection) -> io::Result<()> {
    connection.write_all(child()?.to_string().as_bytes()).await
}

fn child() -> io::Result<u32> {
    let child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let pid = child.id();
    CHILDREN.lock().unwrap().push(child);
    Ok(pid)
}

/// A worker of every kind and a client of every family. `check` gets the program's name for its messages.
fn with_every_kind(name: &str, mut check: impl FnMut(&mut Fake, Family)) {
    for program in every_kind(name) {
        for family in [Family::Unix, Family::V4] {
            println!("{program} {family:?}");
            let mut fake = Fake::start(&program, &Setup { concurrency: 2, ..Setup::default() });
            check(&mut fake, family);
        }
    }
}

fn read_all(mut client: &Stream) -> Vec<u8> {
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).unwrap();
    heard
}

fn expect_drain(mut fake: Fake) -> String {
    fake.drain();
    assert!(fake.process.exit().success());
    fake.process.last_words()
}

#[test]
fn a_client_that_has_said_all_gets_the_whole_answer() {
    with_every_kind("answer-after-end", |fake, family| {
        let mut client = fake.connect_over(family);
        client.write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let answer = read_all(&client);
        assert_eq!(answer.len(), LONG);
        assert!(answer.chunks(8).all(|word| word == b"question"));
        assert_eq!(fake.hear_completion(), (0, Outcome::Done));
    });
}

#[test]
fn a_worker_that_has_said_all_hears_the_client_to_its_end() {
    for program in every_kind("end-then-listen") {
        for family in [Family::Unix, Family::V4] {
            let mut fake = Fake::start(&program, &Setup { concurrency: 2, ..Setup::default() });
            let mut client = fake.connect_over(family);
            assert_eq!(read_all(&client), b"bye");
            assert_eq!(fake.completion_now(), None, "half of the connection is still there");
            client.write_all(b"and good night").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(fake.hear_completion(), (0, Outcome::Done));
            let words = expect_drain(fake);
            assert!(words.contains("cannot finish conn=c0: heard and good night"), "{program}: {words}");
        }
    }
}

#[test]
fn a_worker_may_stop_hearing_and_still_speak() {
    with_every_kind("deaf", |fake, family| {
        let client = fake.connect_over(family);
        assert_eq!(read_all(&client), b"what?");
        assert_eq!(fake.hear_completion(), (0, Outcome::Done));
    });
}

#[test]
fn a_shutdown_through_a_copy_ends_it_for_all() {
    with_every_kind("shut-by-a-copy", |fake, family| {
        let client = fake.connect_over(family);
        assert_eq!(read_all(&client), b"");
        assert_eq!(fake.hear_completion(), (0, Outcome::Done));
    });
}

#[test]
fn a_dropped_connection_has_ended_although_a_child_lives_on() {
    with_every_kind("leave-a-child", |fake, family| {
        let client = fake.connect_over(family);
        let pid = String::from_utf8(read_all(&client)).unwrap();
        assert_eq!(kill(Pid::from_raw(pid.parse().unwrap()), None), Ok(()), "the child had ended");
        assert_eq!(fake.hear_completion(), (0, Outcome::Done));
    });
}

#[test]
fn a_slow_reader_keeps_nobody_waiting_and_gets_everything() {
    with_every_kind("flood", |fake, family| {
        let slow = fake.connect_over(family);
        wait_for(slow.as_fd(), PollFlags::POLLIN);
        let quick = fake.connect_over(family);
        assert_eq!(read_all(&quick).len(), LONG);
        assert_eq!(fake.hear_completion(), (1, Outcome::Done));
        assert_eq!(fake.completion_now(), None, "buffers hold less than {LONG} bytes");
        assert_eq!(read_all(&slow).len(), LONG);
        assert_eq!(fake.hear_completion(), (0, Outcome::Done));
    });
}

#[test]
fn a_client_that_vanishes_is_no_failure() {
    // With bytes unread its end is a reset: in a read, in the middle of a write, before the first claim.
    for (name, reads) in [("greet-and-listen", Look::First), ("flood", Look::First), ("flood", Look::Never)] {
        for program in every_kind(name) {
            for family in [Family::Unix, Family::V4] {
                let mut fake = Fake::start(&program, &Setup { concurrency: 2, ..Setup::default() });
                let client = fake.connect_over(family);
                match reads {
                    Look::First => wait_for(client.as_fd(), PollFlags::POLLIN),
                    Look::Never => {}
                }
                drop(client);
                assert_eq!(fake.hear_completion(), (0, Outcome::Done));
                let words = expect_drain(fake);
                assert!(!words.contains("cannot finish"), "{program} {family:?}: {words}");
            }
        }
    }
}

/// Whether a client sees that the worker speaks before it goes.
enum Look {
    First,
    Never,
}
