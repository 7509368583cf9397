//! Holds what the rest of ostler believes about mailboxes, on real sockets.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{ControlMessage, Shutdown, sendmsg, shutdown};

use super::*;
use crate::ids::ConnId;
use crate::sys::fd::unread_records;
use crate::ticket::Family;

fn ticket(number: u64) -> Ticket {
    Ticket { conn: ConnId(number), listener: 0, family: Family::Unix, accepted_at_ns: number, peer: None }
}

/// A mailbox as the supervisor makes it: our end, the worker's end.
fn mailbox() -> (OwnedFd, OwnedFd) {
    let (ours, theirs) = pair().unwrap();
    shutdown(ours.as_raw_fd(), Shutdown::Read).unwrap();
    (ours, theirs)
}

fn fill(ours: &OwnedFd, count: u64) -> Vec<UnixStream> {
    (0..count)
        .map(|number| {
            let (client, served) = UnixStream::pair().unwrap();
            hand_off(ours.as_fd(), served.as_fd(), &ticket(number)).unwrap();
            client
        })
        .collect()
}

fn claimed(claim: Claim) -> (UnixStream, u64) {
    match claim {
        Claim::Connection(fd, ticket) => (UnixStream::from(fd), ticket.conn.0),
        other => panic!("expected a connection, got {other:?}"),
    }
}

#[test]
fn a_connection_arrives_with_its_ticket_and_works() {
    let (ours, theirs) = mailbox();
    let mut clients = fill(&ours, 1);
    let (mut stream, number) = claimed(claim(theirs.as_fd(), Wait::Block, Take::Message).unwrap());
    assert_eq!(number, 0);
    stream.write_all(b"hi").unwrap();
    drop(stream); // the only copy: ours was closed after the handoff
    let mut text = String::new();
    clients[0].read_to_string(&mut text).unwrap();
    assert_eq!(text, "hi");
}

#[test]
fn the_depth_of_a_mailbox_is_exact() {
    let (ours, theirs) = mailbox();
    let _clients = fill(&ours, 5);
    assert_eq!(unread_records(theirs.as_fd(), TICKET_LEN).unwrap(), 5);
    claim(theirs.as_fd(), Wait::Not, Take::Message).unwrap();
    assert_eq!(unread_records(theirs.as_fd(), TICKET_LEN).unwrap(), 4);
}

#[test]
fn a_mailbox_outlives_its_reader_while_the_supervisor_keeps_an_end() {
    let (ours, theirs) = mailbox();
    let kept = theirs.try_clone().unwrap();
    let _clients = fill(&ours, 3);
    claim(theirs.as_fd(), Wait::Not, Take::Message).unwrap();
    drop(theirs); // the worker dies
    let recalled: Vec<u64> =
        (0..2).map(|_| claimed(claim(kept.as_fd(), Wait::Not, Take::Message).unwrap()).1).collect();
    assert_eq!(recalled, [1, 2]);
    assert!(matches!(claim(kept.as_fd(), Wait::Not, Take::Message).unwrap(), Claim::Empty));
}

#[test]
fn after_the_senders_shutdown_the_queue_is_read_and_then_the_end() {
    let (ours, theirs) = mailbox();
    let _clients = fill(&ours, 2);
    shutdown(ours.as_raw_fd(), Shutdown::Write).unwrap();
    for number in 0..2 {
        assert_eq!(claimed(claim(theirs.as_fd(), Wait::Block, Take::Message).unwrap()).1, number);
    }
    assert!(matches!(claim(theirs.as_fd(), Wait::Block, Take::Message).unwrap(), Claim::End));
}

#[test]
fn after_the_readers_shutdown_the_queue_can_still_be_recalled() {
    let (ours, theirs) = mailbox();
    let kept = theirs.try_clone().unwrap();
    let _clients = fill(&ours, 2);
    shutdown(theirs.as_raw_fd(), Shutdown::Read).unwrap();
    for number in 0..2 {
        assert_eq!(claimed(claim(kept.as_fd(), Wait::Not, Take::Message).unwrap()).1, number);
    }
    assert!(matches!(claim(kept.as_fd(), Wait::Not, Take::Message).unwrap(), Claim::End));
    let (_client, served) = UnixStream::pair().unwrap();
    let refused = hand_off(ours.as_fd(), served.as_fd(), &ticket(9)).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EPIPE));
}

#[test]
fn a_worker_cannot_write_into_its_mailbox() {
    let (_ours, theirs) = mailbox();
    let refused = send_frame(theirs.as_fd(), b"x").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EPIPE));
}

#[test]
fn a_full_mailbox_refuses_and_keeps_what_it_has() {
    let (ours, theirs) = mailbox();
    let (_client, served) = UnixStream::pair().unwrap();
    let mut sent = 0;
    let refused = loop {
        match hand_off(ours.as_fd(), served.as_fd(), &ticket(sent)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused.raw_os_error(), Some(libc::EAGAIN | libc::ETOOMANYREFS)), "{refused}");
    assert_eq!(unread_records(theirs.as_fd(), TICKET_LEN).unwrap() as u64, sent);
}

#[test]
fn surplus_descriptors_are_closed_and_a_foreign_message_is_refused() {
    let (ours, theirs) = pair().unwrap();
    let (mut client, served) = UnixStream::pair().unwrap();
    let (mut other_client, other) = UnixStream::pair().unwrap();
    let fds = [served.as_raw_fd(), other.as_raw_fd()];
    let iov = [io::IoSlice::new(&ticket(4).to_bytes())].map(|slice| slice.to_vec());
    let iov = [io::IoSlice::new(&iov[0])];
    sendmsg::<()>(ours.as_raw_fd(), &iov, &[ControlMessage::ScmRights(&fds)], MsgFlags::empty(), None).unwrap();
    drop((served, other));
    let (stream, number) = claimed(claim(theirs.as_fd(), Wait::Not, Take::Message).unwrap());
    assert_eq!(number, 4);
    assert_eq!(other_client.read(&mut [0; 8]).unwrap(), 0, "the surplus descriptor is still open somewhere");
    drop(stream);
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);

    send_frame(ours.as_fd(), b"not a ticket").unwrap();
    assert!(matches!(claim(theirs.as_fd(), Wait::Not, Take::Message), Err(ClaimError::Ticket(BadTicket::Length(12)))));
}

/// At the limit the kernel delivers the ticket without its connection. Peeking first loses nothing.
#[test]
fn at_the_descriptor_limit_a_peek_is_truncated_but_the_connection_waits() {
    let child = fork_for_limit_test(|| {
        let (ours, theirs) = mailbox();
        let mut clients = fill(&ours, 2);
        let spare = theirs.try_clone().unwrap();
        let highest = crate::sys::fd::open_descriptors().unwrap().into_iter().max().unwrap();
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        // Room for one filler at least, however many holes the inherited descriptors left.
        setrlimit(Resource::RLIMIT_NOFILE, u64::from(highest.unsigned_abs()) + 2, hard).unwrap();
        let mut fillers = Vec::new();
        while let Ok(filler) = theirs.try_clone() {
            fillers.push(filler);
        }
        assert!(matches!(claim(theirs.as_fd(), Wait::Not, Take::Peek).unwrap(), Claim::Truncated(t) if t.conn.0 == 0));
        assert!(
            matches!(claim(theirs.as_fd(), Wait::Not, Take::Message).unwrap(), Claim::Truncated(t) if t.conn.0 == 0)
        );
        assert_eq!(clients[0].read(&mut [0; 1]).unwrap(), 0, "a truncated message is gone");
        drop(fillers.pop());
        assert_eq!(claimed(claim(theirs.as_fd(), Wait::Not, Take::Peek).unwrap()).1, 1);
        drop(spare);
        assert_eq!(claimed(claim(theirs.as_fd(), Wait::Not, Take::Message).unwrap()).1, 1);
    });
    assert!(child.success(), "{child}");
}

/// Lowering a limit concerns the whole process, so such a test runs in a copy of the test program.
fn fork_for_limit_test(body: impl FnOnce()) -> std::process::ExitStatus {
    const MARK: &str = "OSTLER_LIMIT_TEST";
    if std::env::var_os(MARK).is_some() {
        body();
        std::process::exit(0);
    }
    let name = std::thread::current().name().expect("a test thread has its test's name").to_owned();
    std::process::Command::new(std::env::current_exe().unwrap())
        .args([&name, "--exact", "--test-threads=1", "--nocapture"])
        .env(MARK, "1")
        .status()
        .unwrap()
}
