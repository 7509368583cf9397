//! Becomes a program that finds descriptors from number 3 on, as a service manager starts one.
//!
//! `activate ABSTRACT_NAME NAME[:NAME]... COMMAND...`: the descriptors come over the abstract Unix socket, one by one
//! until its end, and get these names. The process stays the same, and so `LISTEN_PID` is right.

use std::error::Error;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use ostler_shared::sys::{fd, msg};
use ostler_tests::programs::edge;

/// The first number of those that are passed.
const FIRST: i32 = 3;
/// Out of the way of those numbers.
const ASIDE: i32 = 64;

fn main() -> ExitCode {
    edge(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or_else(|| format!("activate: {what} is missing"));
    let (name, names, program) = (next("the socket's name")?, next("the names")?, next("the command")?);
    let held = receive(&name)?;
    for (number, fd) in (FIRST..).zip(&held) {
        let placed = fd::duplicate(fd.as_fd(), FIRST)?;
        if placed.as_raw_fd() != number {
            return Err(format!("activate: descriptor {number} is taken").into());
        }
        fcntl(&placed, FcntlArg::F_SETFD(FdFlag::empty()))?;
        // It is the next program's.
        std::mem::forget(placed);
    }
    let mut command = Command::new(program);
    command.args(arguments).env("LISTEN_PID", std::process::id().to_string());
    command.env("LISTEN_FDS", held.len().to_string()).env("LISTEN_FDNAMES", names);
    Err(command.exec().into())
}

fn receive(name: &str) -> Result<Vec<OwnedFd>, Box<dyn Error>> {
    let stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?;
    let mut held = Vec::new();
    loop {
        let message = msg::recv(stream.as_fd(), &mut [0], 0)?;
        if message.len == 0 {
            return Ok(held);
        }
        for fd in message.fds {
            held.push(fd::duplicate(fd.as_fd(), ASIDE)?);
        }
    }
}
