//! Clients that leave at every stage of a connection's life, in every way.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;
use ostler_tests::http::get_once;
use ostler_tests::status::Status;
use ostler_tests::target::Stream;
use ostler_tests::{Ostler, Target};

const PATIENCE: Duration = Duration::from_secs(20);
const CLIENTS: u64 = 20;
const WORKERS: usize = 2;
/// What the kernel's queue gives away before the pool stops accepting: mailboxes and line.
const LINE: u64 = 4;

/// How a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It closes.
    Close,
    /// It closes its own direction first, and the rest when the server has.
    HalfClose,
    /// It resets the connection (TCP).
    Reset,
}

/// Where its connection is when it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Anywhere: nobody has looked.
    Connected,
    /// In the kernel's queue, in the line and in mailboxes: workers are stopped and the line is full.
    Queued,
    /// In a mailbox: workers are stopped.
    Mailed,
    /// In a worker's hands, before its first byte.
    Claimed,
    /// In the middle of its request.
    Asking,
    /// While its answer is being made.
    Asked,
    /// In the middle of an answer that it does not read.
    Answered,
    /// After the first answer, on a kept connection.
    Kept,
}

const STAGES: [Stage; 8] = [
    Stage::Connected,
    Stage::Queued,
    Stage::Mailed,
    Stage::Claimed,
    Stage::Asking,
    Stage::Asked,
    Stage::Answered,
    Stage::Kept,
];

fn send(pids: &[i32], signal: Signal) {
    for pid in pids {
        kill(Pid::from_raw(*pid), signal).expect("a worker of ours");
    }
}

fn leave(mut stream: Stream, way: Way) {
    match (way, &stream) {
        (Way::Close, _) => {}
        (Way::HalfClose, Stream::Unix(unix)) => half_close(unix.shutdown(Shutdown::Write), &mut stream),
        (Way::HalfClose, Stream::Tcp(tcp)) => half_close(tcp.shutdown(Shutdown::Write), &mut stream),
        (Way::Reset, Stream::Tcp(tcp)) => {
            let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
            setsockopt(tcp, sockopt::Linger, &at_once).expect("an open socket");
        }
        (Way::Reset, Stream::Unix(_)) => unreachable!("Unix sockets are reset by a close with unread bytes"),
    }
}

fn half_close(ended: std::io::Result<()>, stream: &mut Stream) {
    ended.expect("our own direction");
    let mut bytes = [0; 16 * 1024];
    while stream.read(&mut bytes).is_ok_and(|count| count > 0) {}
}

/// Brings connections to a stage; stopped workers are continued by the caller once the clients have left.
fn bring(ostler: &Ostler, target: &Target, stage: Stage) -> Vec<Stream> {
    let (count, request): (u64, &[u8]) = match stage {
        Stage::Connected | Stage::Queued | Stage::Claimed => (CLIENTS, b""),
        Stage::Mailed => (WORKERS as u64 * LINE, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        Stage::Asking => (CLIENTS, b"GET / HTTP/1.1\r\nHos"),
        Stage::Asked => (CLIENTS, b"GET /sleep/50 HTTP/1.1\r\nHost: x\r\n\r\n"),
        Stage::Answered => (CLIENTS, b"GET /bytes/5000000 HTTP/1.1\r\nHost: x\r\n\r\n"),
        Stage::Kept => (CLIENTS, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    };
    let mut streams: Vec<Stream> = (0..count).map(|_| target.connect(PATIENCE).expect("a place in a queue")).collect();
    for stream in &mut streams {
        stream.write_all(request).expect("room for a request");
    }
    match stage {
        Stage::Connected => {}
        Stage::Queued => {
            ostler.wait_status("the line is full", |status| (status.only().queue.length == LINE).then_some(()));
        }
        Stage::Mailed => {
            ostler.wait_status("all are in mailboxes", |status| (mailed(status) == count).then_some(()));
        }
        Stage::Claimed | Stage::Asking => {
            ostler.wait_status("some are claimed", |status| (status.only().claimed > 0).then_some(()));
        }
        Stage::Asked => {
            ostler.wait_status("some are served", |status| (status.only().claimed > 0).then_some(()));
        }
        Stage::Answered | Stage::Kept => {
            // The first of the pool's places are taken in order, so these are answered without the others' leaving.
            for stream in streams.iter_mut().take(WORKERS) {
                let read = stream.read(&mut [0; 64]).expect("an answer begins");
                assert!(read > 0);
            }
        }
    }
    streams
}

fn mailed(status: &Status) -> u64 {
    status.only().workers.iter().map(|worker| worker.waiting).sum()
}

/// All stages on one supervisor.
fn vanish(target: Option<Target>, way: Way) {
    let listen = target.as_ref().map_or_else(|| "unix:web.sock".to_owned(), Target::listen);
    let config = format!(
        "[pool.web]\nlisten = [\"{listen}\"]\nworkers = {WORKERS}\nconcurrency = {LINE}\n\
         recall_after = \"60s\"\n\
         queue = {{ limit = {LINE}, overflow = \"wait\" }}\n"
    );
    let mut ostler = Ostler::builder().config(config).start();
    let before = ostler.descriptor_count();
    let target = target.unwrap_or_else(|| ostler.unix("web.sock"));
    let workers = ostler.status().only().pids();
    for stage in STAGES {
        eprintln!("{stage:?}, {way:?}");
        let stopped = matches!(stage, Stage::Queued | Stage::Mailed);
        if stopped {
            send(&workers, Signal::SIGSTOP);
        }
        let streams = bring(&ostler, &target, stage);
        // Half-closing waits for the server, so it may not be stopped then.
        if stopped && way == Way::HalfClose {
            send(&workers, Signal::SIGCONT);
        }
        streams.into_iter().for_each(|stream| leave(stream, way));
        if stopped && way != Way::HalfClose {
            send(&workers, Signal::SIGCONT);
        }
        get_once(&target, "/", PATIENCE).expect("others are served");
        let pool = ostler.wait_status("idle", |status| {
            assert_eq!(status.check_books(), Ok(()));
            status.only().is_idle().then(|| status.only().clone())
        });
        // Whoever leaves while it waits in the line is let go there, if a worker does not take it before that is noticed.
        let gone = pool.shed_for("client_gone");
        assert_eq!((pool.lost, pool.shed_total(), pool.pids()), (0, gone, workers.clone()), "{stage:?}: {pool:?}");
        assert_eq!(pool.done + gone, pool.accepted, "{stage:?}: {pool:?}");
        ostler.wait_descriptor_count(before);
    }
    ostler.stop_clean();
}

#[test]
fn unix_clients_that_close_at_any_stage_leave_nothing_behind() {
    vanish(None, Way::Close);
}

#[test]
fn unix_clients_that_half_close_at_any_stage_leave_nothing_behind() {
    vanish(None, Way::HalfClose);
}

#[test]
fn tcp_clients_that_close_at_any_stage_leave_nothing_behind() {
    vanish(Some(Target::free_tcp()), Way::Close);
}

#[test]
fn tcp_clients_that_half_close_at_any_stage_leave_nothing_behind() {
    vanish(Some(Target::free_tcp()), Way::HalfClose);
}

#[test]
fn tcp_clients_that_reset_at_any_stage_leave_nothing_behind() {
    vanish(Some(Target::free_tcp()), Way::Reset);
}
