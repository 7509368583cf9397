//! Workers that accept for themselves: when they begin to wait at their listeners, and what they leave.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::sys::socket::{Shutdown, shutdown};
use nix::sys::stat::fstat;

use crate::async_programs::every_kind;
use crate::fake::{DEADLINE, Fake, Setup, expect, until};

/// A listener at a path, and its other end.
fn at_a_path() -> (OwnedFd, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("sock")).unwrap();
    (listener.into(), dir)
}

fn visit(dir: &tempfile::TempDir) -> UnixStream {
    let client = UnixStream::connect(dir.path().join("sock")).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client
}

fn with(listeners: &[&OwnedFd]) -> Setup {
    let listeners = listeners.iter().map(|listener| listener.try_clone().unwrap()).collect();
    Setup { listeners, ..Setup::default() }
}

/// Whether an epoll of this process waits at a socket (proc_pid_fdinfo(5)).
fn waits_at(pid: i32, socket: BorrowedFd<'_>) -> bool {
    let inode = format!("ino:{:x}", fstat(socket).unwrap().st_ino);
    let infos = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    // A descriptor may be closed while we look.
    let texts = infos.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    texts.into_iter().any(|text| text.lines().any(|line| line.split_whitespace().any(|word| word == inode)))
}

#[test]
fn nobody_waits_at_a_listener_before_the_greeting_is_over() {
    for program in every_kind("greet") {
        let (listener, dir) = at_a_path();
        let setup = with(&[&listener]);
        let mut fake = Fake::spawn_named(&program, &setup);
        fake.hear_hello();
        // It waits for the answer now, and does nothing else meanwhile.
        assert!(!waits_at(fake.process.pid(), listener.as_fd()), "{program}");
        fake.answer_hello(&setup);
        until("it waits at its listener", || waits_at(fake.process.pid(), listener.as_fd()));
        expect(&visit(&dir), "hi");
        fake.drain();
        assert!(fake.process.exit().success());
    }
}

/// What is shut down is readable for ever: whoever goes on waiting for it turns in a circle.
fn is_left(program: &str, ended: &OwnedFd) {
    let (other, dir) = at_a_path();
    let mut fake = Fake::start(program, &with(&[ended, &other]));
    until("it waits at both", || [ended, &other].iter().all(|socket| waits_at(fake.process.pid(), socket.as_fd())));
    shutdown(ended.as_raw_fd(), Shutdown::Read).unwrap();
    until("it waits no more at what is shut down", || !waits_at(fake.process.pid(), ended.as_fd()));
    expect(&visit(&dir), "hi");
    assert!(waits_at(fake.process.pid(), other.as_fd()), "{program}");
    fake.drain();
    assert!(fake.process.exit().success());
}

#[test]
fn a_path_that_somebody_has_shut_down_is_left_and_the_others_are_served() {
    for program in every_kind("greet") {
        let (ended, _dir) = at_a_path();
        is_left(&program, &ended);
    }
}

#[test]
fn a_tcp_listener_that_somebody_has_shut_down_is_left_and_the_others_are_served() {
    for program in every_kind("greet") {
        let ended = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().into();
        is_left(&program, &ended);
    }
}

#[test]
fn who_waits_at_a_path_that_is_shut_down_is_served_first() {
    for program in every_kind("greet") {
        let (ended, dir) = at_a_path();
        let waiting = visit(&dir);
        shutdown(ended.as_raw_fd(), Shutdown::Read).unwrap();
        let mut fake = Fake::start(&program, &with(&[&ended]));
        expect(&waiting, "hi");
        until("it waits no more at what is shut down", || !waits_at(fake.process.pid(), ended.as_fd()));
        fake.drain();
        assert!(fake.process.exit().success());
    }
}
