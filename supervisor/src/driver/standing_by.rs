//! Sees that a program which accepts for itself waits for connections, where it can't say so.
//!
//! A connection to try it would be answered by any worker that holds the listener, and be a request that nobody made. So the
//! process is looked at: a program is READY when a thread of it, or of a child, waits in accept(2) for one of its
//! listeners, has put one into a set that is waited on (epoll, poll, select), or holds a connection that came there: one that
//! is never without a client never waits. Nobody tells when that comes about, so it is
//! looked for at intervals that grow, on the helper thread, since /proc can block (I5). It takes the right to look into the
//! process; a program that runs as somebody else than we, or forbids it (prctl(PR_SET_DUMPABLE)), says READY by
//! other means.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;

use nix::unistd::Pid;
use ostler_config::checked::{Handoff, Ready};
use ostler_pool::Moment;
use ostler_shared::WorkerId;
use ostler_shared::region::Own;

use super::Driver;
use super::jobs::Job;
use super::link::{Link, Manners};

/// The first look, and the longest time between two.
const LOOK_FIRST: Duration = Duration::from_millis(20);
const LOOK_EVERY_MAX: Duration = Duration::from_millis(250);
/// Processes of one worker, threads of one process and descriptors of one set that are looked at. Who has more is seen
/// by the first of them, or not.
const PROCESSES_MAX: usize = 64;
const THREADS_MAX: usize = 256;
const SET_MAX: usize = 1024;

/// How far a worker is known that accepts for itself.
#[derive(Debug, Default)]
pub(crate) struct Look {
    every: Option<Duration>,
    /// It has said Hello at some time.
    pub(super) was_introduced: bool,
    /// What the pool was told last of what it accepts.
    pub(super) told: Own,
}

impl Driver {
    /// A worker has started that may not be able to say when it is ready.
    pub(super) fn begin_to_look(&mut self, worker: WorkerId, link: &Link) {
        let config = &link.settings.pool;
        match (config.handoff, config.start.ready) {
            (Handoff::Listen, Ready::Auto) => {
                self.looks.insert((self.now() + LOOK_FIRST, worker));
            }
            (Handoff::Listen, Ready::Hello | Ready::Accept | Ready::Notify)
            | (Handoff::Pass | Handoff::Accept | Handoff::Stdio, _) => {}
        }
    }

    /// Looks at those who may be waiting by now.
    pub(super) fn look_at_strangers(&mut self, now: Moment) {
        while let Some((at, worker)) = self.looks.first().copied().filter(|(at, _)| *at <= now) {
            self.looks.remove(&(at, worker));
            let Some(link) = self.workers.get_mut(&worker) else { continue };
            if link.manners != Manners::Stranger || link.ended.is_some() {
                continue;
            }
            let every = link.look.every.map_or(LOOK_FIRST, |every| (every * 2).min(LOOK_EVERY_MAX));
            link.look.every = Some(every);
            let listeners = self.doors.of(link.pool).map(|(_, door)| &door.listener);
            let listeners = listeners.chain(self.doors.coming_for(&link.name.pool));
            let listeners = listeners.filter_map(|listener| inode_of(listener).ok()).collect();
            let job = Job::LookAt { worker, pid: link.pid, listeners };
            if self.jobs.ask(job).is_err() {
                self.looks.insert((now + every, worker));
            }
        }
    }

    /// What was seen of one.
    pub(super) fn was_seen(&mut self, worker: WorkerId, seen: Seen) {
        let now = self.now();
        let Some(link) = self.workers.get(&worker).filter(|link| link.manners == Manners::Stranger) else { return };
        match seen {
            Seen::Waits => self.ready(worker),
            Seen::Nothing => {
                self.looks.insert((now + link.look.every.unwrap_or(LOOK_FIRST), worker));
            }
        }
    }
}

fn inode_of(socket: impl std::os::fd::AsFd) -> io::Result<u64> {
    Ok(fs::File::from(socket.as_fd().try_clone_to_owned()?).metadata()?.ino())
}

/// Whether a program waits for connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Waits,
    Nothing,
}

/// Looks at a process and its children. `listeners` are the inodes of the sockets.
pub(crate) fn look(pid: Pid, listeners: &BTreeSet<u64>) -> Seen {
    let (mut todo, mut seen) = (vec![pid.as_raw()], 0);
    while let Some(pid) = todo.pop().filter(|_| seen < PROCESSES_MAX) {
        seen += 1;
        if Process(pid).waits_for(listeners) {
            return Seen::Waits;
        }
        todo.extend(Process(pid).children());
    }
    Seen::Nothing
}

/// A process in /proc (proc(5)). Whatever can't be read is not there.
#[derive(Debug, Clone, Copy)]
struct Process(libc::pid_t);

impl Process {
    fn waits_for(self, listeners: &BTreeSet<u64>) -> bool {
        let (own, others): (Vec<_>, Vec<_>) =
            self.sockets().into_iter().partition(|(_, inode)| listeners.contains(inode));
        let numbers: BTreeSet<RawFd> = own.into_iter().map(|(number, _)| number).collect();
        let others: BTreeSet<u64> = others.into_iter().map(|(_, inode)| inode).collect();
        !numbers.is_empty()
            && (self.watches(listeners)
                || self.threads().any(|thread| self.sleeps_at(&thread, &numbers))
                || self.serves(listeners, &others))
    }

    /// One of its sockets is a connection at the address of a listener.
    fn serves(self, listeners: &BTreeSet<u64>, sockets: &BTreeSet<u64>) -> bool {
        let table = |name: &str| fs::read_to_string(format!("/proc/{}/net/{name}", self.0)).unwrap_or_default();
        !sockets.is_empty()
            && (["tcp", "tcp6"].iter().any(|name| has_met(&table(name), tcp_row, listeners, sockets))
                || has_met(&table("unix"), unix_row, listeners, sockets))
    }

    fn threads(self) -> impl Iterator<Item = String> {
        entries(format!("/proc/{}/task", self.0)).take(THREADS_MAX)
    }

    fn children(self) -> Vec<libc::pid_t> {
        let of = |thread| fs::read_to_string(format!("/proc/{}/task/{thread}/children", self.0)).unwrap_or_default();
        let texts: Vec<String> = self.threads().map(of).collect();
        texts.iter().flat_map(|text| text.split_ascii_whitespace()).filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Its sockets: number and inode.
    fn sockets(self) -> Vec<(RawFd, u64)> {
        let socket = |number: &String| {
            let target = fs::read_link(format!("/proc/{}/fd/{number}", self.0)).ok()?;
            let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
            Some((number.parse().ok()?, inode))
        };
        entries(format!("/proc/{}/fd", self.0)).filter_map(|number| socket(&number)).collect()
    }

    /// A listener is in an epoll of its: the lines `tfd:` of its fdinfo tell the inode.
    fn watches(self, listeners: &BTreeSet<u64>) -> bool {
        entries(format!("/proc/{}/fdinfo", self.0)).any(|number| {
            let info = fs::read_to_string(format!("/proc/{}/fdinfo/{number}", self.0)).unwrap_or_default();
            info.lines().filter_map(inode_in).any(|inode| listeners.contains(&inode))
        })
    }

    /// A thread is in a system call that ends when a client comes.
    fn sleeps_at(self, thread: &str, numbers: &BTreeSet<RawFd>) -> bool {
        let text = fs::read_to_string(format!("/proc/{}/task/{thread}/syscall", self.0)).unwrap_or_default();
        let Some([call, first, second]) = call_in(&text) else { return false };
        let named = |number: u64| RawFd::try_from(number).is_ok_and(|number| numbers.contains(&number));
        match i64::try_from(call).unwrap_or(-1) {
            libc::SYS_accept | libc::SYS_accept4 => named(first),
            call if POLLS.contains(&call) => self.polled(first, second).into_iter().any(named),
            call if SELECTS.contains(&call) => {
                let set = self.memory(second, SET_MAX / 8);
                let has =
                    |number: &RawFd| set.get(*number as usize / 8).is_some_and(|byte| byte >> (number % 8) & 1 == 1);
                numbers.iter().any(has)
            }
            _ => false,
        }
    }

    /// The descriptors of an array of `struct pollfd`.
    fn polled(self, at: u64, count: u64) -> Vec<u64> {
        const ENTRY: usize = 8;
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(SET_MAX);
        let bytes = self.memory(at, count * ENTRY);
        let fd = |entry: &[u8]| u64::from(u32::from_ne_bytes([entry[0], entry[1], entry[2], entry[3]]));
        bytes.chunks_exact(ENTRY).map(fd).collect()
    }

    /// As much of its memory as there is.
    fn memory(self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let read = fs::File::open(format!("/proc/{}/mem", self.0)).and_then(|memory| memory.read_at(&mut bytes, at));
        bytes.truncate(read.unwrap_or(0));
        bytes
    }
}

#[cfg(target_arch = "x86_64")]
const POLLS: [i64; 2] = [libc::SYS_poll, libc::SYS_ppoll];
#[cfg(target_arch = "x86_64")]
const SELECTS: [i64; 2] = [libc::SYS_select, libc::SYS_pselect6];
#[cfg(target_arch = "aarch64")]
const POLLS: [i64; 1] = [libc::SYS_ppoll];
#[cfg(target_arch = "aarch64")]
const SELECTS: [i64; 1] = [libc::SYS_pselect6];

fn entries(directory: String) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// Whether one of `sockets` is a connection at the place of one of `listeners`, by a table of /proc/net.
fn has_met(
    table: &str,
    row: impl Fn(&str) -> Option<(&str, u64)>,
    listeners: &BTreeSet<u64>,
    sockets: &BTreeSet<u64>,
) -> bool {
    let places = |of: &BTreeSet<u64>| {
        let rows = table.lines().filter_map(&row).filter(|(_, inode)| of.contains(inode));
        rows.map(|(place, _)| place.to_owned()).collect::<BTreeSet<String>>()
    };
    !places(listeners).is_disjoint(&places(sockets))
}

/// The port of a row of /proc/net/tcp, and the inode: `0: 0100007F:1F90 00000000:0000 0A … inode …`.
fn tcp_row(line: &str) -> Option<(&str, u64)> {
    let mut words = line.split_ascii_whitespace();
    let (_, port) = words.nth(1)?.rsplit_once(':')?;
    Some((port, words.nth(7)?.parse().ok()?))
}

/// The path of a row of /proc/net/unix, and the inode; whoever connected has none.
fn unix_row(line: &str) -> Option<(&str, u64)> {
    let mut words = line.split_ascii_whitespace();
    let inode = words.nth(6)?.parse().ok()?;
    Some((words.next()?, inode))
}

/// `tfd: 3 events: 19 data: 3  pos:0 ino:d2f5 sdev:8`, in hexadecimal.
fn inode_in(line: &str) -> Option<u64> {
    let words = line.strip_prefix("tfd:")?.split_ascii_whitespace();
    let inode = words.filter_map(|word| word.strip_prefix("ino:")).next()?;
    u64::from_str_radix(inode, 16).ok()
}

/// `43 0x3 0x0 …`; a thread that runs says `running`.
fn call_in(text: &str) -> Option<[u64; 3]> {
    let mut words = text.split_ascii_whitespace();
    let call = words.next()?.parse().ok()?;
    let mut argument = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    Some([call, argument()?, argument()?])
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

    use super::*;

    fn until_it_waits(listener: &TcpListener) {
        let listeners = BTreeSet::from([inode_of(listener).unwrap()]);
        while look(Pid::this(), &listeners) != Seen::Waits {
            thread::yield_now();
        }
    }

    #[test]
    fn who_only_holds_a_listener_does_not_wait_for_clients() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = inode_of(&listener).unwrap();
        assert_eq!(look(Pid::this(), &BTreeSet::from([inode])), Seen::Nothing);
        assert_eq!(look(Pid::from_raw(i32::MAX), &BTreeSet::from([inode])), Seen::Nothing);
    }

    #[test]
    fn a_thread_that_accepts_or_polls_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| listener.accept().unwrap());
            until_it_waits(&listener);
            TcpStream::connect(address).unwrap();
        });
        thread::scope(|scope| {
            scope.spawn(|| {
                poll(&mut [PollFd::new(std::os::fd::AsFd::as_fd(&listener), PollFlags::POLLIN)], PollTimeout::NONE)
            });
            until_it_waits(&listener);
            TcpStream::connect(address).unwrap();
        });
    }

    #[test]
    fn a_listener_in_an_epoll_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let set = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        set.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, 7)).unwrap();
        until_it_waits(&listener);
    }

    #[test]
    fn who_holds_a_connection_of_a_listener_serves() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners = BTreeSet::from([inode_of(&listener).unwrap()]);
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        let me = Process(Pid::this().as_raw());
        assert!(me.serves(&listeners, &BTreeSet::from([inode_of(&server).unwrap()])));
        assert!(!me.serves(&listeners, &BTreeSet::from([inode_of(&client).unwrap()])));
        let dir = tempfile::tempdir().unwrap();
        let listener = std::os::unix::net::UnixListener::bind(dir.path().join("l.sock")).unwrap();
        let listeners = BTreeSet::from([inode_of(&listener).unwrap()]);
        let client = std::os::unix::net::UnixStream::connect(dir.path().join("l.sock")).unwrap();
        let server = listener.accept().unwrap().0;
        assert!(me.serves(&listeners, &BTreeSet::from([inode_of(&server).unwrap()])));
        assert!(!me.serves(&listeners, &BTreeSet::from([inode_of(&client).unwrap()])));
    }

    #[test]
    fn what_the_kernel_writes_is_read() {
        assert_eq!(inode_in("tfd:        3 events:       19 data:   3  pos:0 ino:d2f5 sdev:8"), Some(0xd2f5));
        assert_eq!(inode_in("pos:\t0"), None);
        assert_eq!(call_in("288 0x3 0x0 0x0 0x80000 0x0 0x0 0x7ffe 0x7f"), Some([288, 3, 0]));
        assert_eq!(call_in("running\n"), None);
        assert_eq!(call_in("-1 0x7ffe 0x7f"), None);
    }
}
