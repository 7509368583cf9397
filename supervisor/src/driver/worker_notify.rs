//! Hears what a worker says of itself in the words of sd_notify(3): ready, about to leave, alive, and a line for people.
//!
//! Each worker that is not on the library has a datagram socket of its own, at an abstract address which the kernel chooses
//! (unix(7), "autobind"). So what comes is about this worker, whichever of its processes sent it and whether that still lives;
//! one that floods its socket fills its own queue and nobody else's; users of any kind reach it; and nothing stays behind.
//!
//! What it does not trust: the address can be read in `/proc/net/unix`, so that a message counts only where the kernel says
//! that its sender could signal the worker as well, by its user, or is in the worker's process group. Whoever else sends is
//! noted once. Each message is bounded, so is how many are read per turn, and descriptors that come along are closed by the
//! kernel. Words that we don't know are left out, as sd_notify(3) wants it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixDatagram;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, setsockopt, socket, sockopt};
use nix::unistd::{Pid, geteuid, getpgid};
use ostler_config::checked::{Handoff, Ready};
use ostler_pool::{Event, HangUp};
use ostler_shared::WorkerId;
use ostler_shared::sys::clock::monotonic_ns;
use ostler_shared::sys::msg::{Sender, recv_signed};

use super::Driver;
use super::link::{Link, Manners};
use super::output::FLOOD_PAUSE;
use super::sources::Source;

/// The variable that tells a program where to speak.
pub(crate) const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
/// Most bytes of a message; the service manager of systemd takes as many.
const MESSAGE_MAX: usize = 4096;
/// Most messages that one worker is heard with before the loop looks at the others; who has more to say waits for
/// [`FLOOD_PAUSE`].
const MESSAGES_MAX: usize = 16;
/// Most characters of a `STATUS=` that are kept; the rest is left out.
const STATUS_MAX: usize = 256;

/// Where a worker speaks, and what it has said.
#[derive(Debug)]
pub(crate) struct Notices {
    socket: UnixDatagram,
    address: OsString,
    /// Its last `STATUS=`.
    status: Option<String>,
    /// Its first `READY=1`, by the kernel's clock.
    ready_at_ns: Option<u64>,
    /// Its last `WATCHDOG=1`, by the kernel's clock.
    alive_at_ns: Option<u64>,
    /// Whether somebody else has spoken in its name.
    strangers: Strangers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strangers {
    None,
    Noted,
}

/// One thing that a worker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// `READY=1`: it can serve.
    Ready,
    /// `STOPPING=1`: it finishes what it holds and leaves.
    Stopping,
    /// `WATCHDOG=1`: a sign of life.
    Alive,
    /// `STATUS=…`, in one line without control characters.
    Status(String),
}

impl Notices {
    /// A socket at an address that nobody else has.
    ///
    /// # Errors
    /// As socket(2) and bind(2): no descriptors, no memory.
    pub(crate) fn open() -> io::Result<Notices> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = UnixDatagram::from(socket(AddressFamily::Unix, SockType::Datagram, flags, None)?);
        setsockopt(&socket, sockopt::PassCred, &true)?;
        bind(socket.as_raw_fd(), &UnixAddr::new_unnamed())?;
        let bound = socket.local_addr()?;
        let name = bound.as_abstract_name().ok_or_else(|| io::Error::other("the kernel chose no name for a socket"))?;
        let address = OsString::from_vec([b"@", name].concat());
        Ok(Notices { socket, address, status: None, ready_at_ns: None, alive_at_ns: None, strangers: Strangers::None })
    }

    /// What `NOTIFY_SOCKET` is to be.
    pub(crate) fn address(&self) -> &OsStr {
        &self.address
    }

    /// What it last said of itself, for people.
    pub(crate) fn status(&self) -> Option<&str> {
        self.status.as_deref()
    }

    /// When it first said `READY=1`, in nanoseconds of `CLOCK_MONOTONIC`.
    pub(crate) fn ready_at_ns(&self) -> Option<u64> {
        self.ready_at_ns
    }

    /// When it last gave a sign of life by `WATCHDOG=1`, in nanoseconds of `CLOCK_MONOTONIC`.
    pub(crate) fn alive_at_ns(&self) -> Option<u64> {
        self.alive_at_ns
    }

    /// The next message, if there is one.
    fn receive(&self, buffer: &mut [u8; MESSAGE_MAX]) -> Option<(Vec<Notice>, Option<Sender>)> {
        let message = recv_signed(self.socket.as_fd(), buffer).ok()?;
        // One that was cut is not understood in part.
        let said = if message.truncated { Vec::new() } else { understand(&buffer[..message.len]) };
        Some((said, message.sender))
    }
}

impl AsFd for Notices {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What a message says that we know; assignments, one per line.
fn understand(message: &[u8]) -> Vec<Notice> {
    let line = |line: &[u8]| match line {
        b"READY=1" => Some(Notice::Ready),
        b"STOPPING=1" => Some(Notice::Stopping),
        b"WATCHDOG=1" => Some(Notice::Alive),
        _ => line.strip_prefix(b"STATUS=").map(|text| Notice::Status(plain(text))),
    };
    message.split(|byte| *byte == b'\n').filter_map(line).collect()
}

/// Somebody else's words, as they may stand on a terminal.
fn plain(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().filter(|letter| !letter.is_control()).take(STATUS_MAX).collect()
}

/// Whether a sender may speak for a worker: it could signal it, or is in its group.
fn is_entitled(sender: Sender, worker: Pid, worker_uid: u32) -> bool {
    const ROOT: u32 = 0;
    [ROOT, geteuid().as_raw(), worker_uid].contains(&sender.uid)
        || (sender.pid > 0 && getpgid(Some(Pid::from_raw(sender.pid))) == Ok(worker))
}

fn worker_uid(link: &Link) -> u32 {
    let user = link.settings.pool.process.user.as_ref();
    user.map_or_else(|| geteuid().as_raw(), |account| account.uid)
}

impl Driver {
    /// Hears what a worker has said, up to a number of messages.
    pub(super) fn read_notices(&mut self, worker: WorkerId) {
        let source = Source::Notices(worker);
        if self.paused.iter().any(|(_, paused)| *paused == source) {
            return;
        }
        let mut buffer = [0; MESSAGE_MAX];
        for _ in 0..MESSAGES_MAX {
            let Some(link) = self.workers.get_mut(&worker) else { return };
            let uid = worker_uid(link);
            let (pid, Some(notices)) = (link.pid, &mut link.notices) else { return };
            let Some((said, sender)) = notices.receive(&mut buffer) else { return };
            if sender.is_some_and(|sender| is_entitled(sender, pid, uid)) {
                said.into_iter().for_each(|notice| self.hear_notice(worker, notice));
            } else if notices.strangers == Strangers::None {
                notices.strangers = Strangers::Noted;
                let (pid, uid) = sender.map_or((0, 0), |sender| (sender.pid, sender.uid));
                tracing::warn!(
                    worker = %link.name,
                    "somebody else (pid {pid}, uid {uid}) spoke in its name on its NOTIFY_SOCKET, and was not heard"
                );
            }
        }
        let until = self.now() + FLOOD_PAUSE;
        let Some(notices) = self.workers.get(&worker).and_then(|link| link.notices.as_ref()) else { return };
        self.sources.remove(notices);
        self.paused.push_back((until, source));
    }

    fn hear_notice(&mut self, worker: WorkerId, notice: Notice) {
        let Some(link) = self.workers.get_mut(&worker) else { return };
        let (manners, handoff, ready) = (link.manners, link.settings.pool.handoff, link.settings.pool.start.ready);
        let Some(notices) = &mut link.notices else { return };
        match notice {
            Notice::Status(text) => {
                notices.status = Some(text).filter(|text| !text.is_empty());
                self.publish_soon();
            }
            Notice::Alive => notices.alive_at_ns = Some(monotonic_ns()),
            Notice::Ready => {
                notices.ready_at_ns.get_or_insert_with(monotonic_ns);
                match (handoff, ready) {
                    (Handoff::Accept, _) => self.look_at_unmodified(worker),
                    (Handoff::Listen, Ready::Notify) if manners == Manners::Stranger => self.ready(worker),
                    // Without being asked some say it too early, before anybody waits for connections.
                    (Handoff::Listen | Handoff::Pass | Handoff::Stdio, _) => {}
                }
            }
            // Who is not ready yet, or was told to leave, is known to be on its way already.
            Notice::Stopping => match manners {
                Manners::Serving => self.step(Event::HungUp { worker, how: HangUp::Leaves }),
                Manners::Stranger | Manners::Introduced | Manners::Ignored => {}
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::SocketAddr;

    use ostler_shared::sys::msg::send_with_fd;

    use super::*;

    fn client(notices: &Notices) -> UnixDatagram {
        let socket = UnixDatagram::unbound().unwrap();
        let name = notices.address().as_bytes().strip_prefix(b"@").unwrap();
        socket.connect_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
        socket
    }

    fn received(notices: &Notices) -> Option<(Vec<Notice>, Option<Sender>)> {
        notices.receive(&mut [0; MESSAGE_MAX])
    }

    #[test]
    fn what_is_known_is_understood_and_the_rest_left_out() {
        let said = understand(b"READY=1\nMAINPID=4\nSTATUS=up\x1b[1m \xff\nWATCHDOG=1\nSTOPPING=1\nREADY=2\n\n=");
        let status = Notice::Status("up[1m \u{fffd}".to_owned());
        assert_eq!(said, [Notice::Ready, status, Notice::Alive, Notice::Stopping]);
        assert_eq!(understand(b""), []);
        let long = [b"STATUS=".as_slice(), &[b'x'; 1000]].concat();
        assert_eq!(understand(&long), [Notice::Status("x".repeat(STATUS_MAX))]);
    }

    #[test]
    fn a_message_comes_with_its_sender_and_without_its_descriptors() {
        let notices = Notices::open().unwrap();
        let client = client(&notices);
        // Of this one pipe: other tests open what they like.
        let (reader, _) = std::io::pipe().unwrap();
        let link = |fd: &std::path::Path| std::fs::read_link(fd).ok();
        let its = link(format!("/proc/self/fd/{}", reader.as_fd().as_raw_fd()).as_ref());
        let open = || {
            let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            all.filter(|entry| link(&entry.path()) == its).count()
        };
        client.send(b"READY=1").unwrap();
        let me = Sender { pid: std::process::id().cast_signed(), uid: geteuid().as_raw() };
        assert_eq!(received(&notices), Some((vec![Notice::Ready], Some(me))));
        assert_eq!(open(), 1);
        send_with_fd(client.as_fd(), b"FDSTORE=1\nREADY=1", reader.as_fd()).unwrap();
        assert_eq!(received(&notices), Some((vec![Notice::Ready], Some(me))));
        assert_eq!(open(), 1);
        assert_eq!(received(&notices), None);
    }

    #[test]
    fn a_message_that_is_too_long_says_nothing() {
        let notices = Notices::open().unwrap();
        let client = client(&notices);
        let long = [b"READY=1\nSTATUS=".as_slice(), &[b'x'; MESSAGE_MAX]].concat();
        client.send(&long).unwrap();
        assert_eq!(received(&notices).unwrap().0, []);
    }

    #[test]
    fn who_may_signal_a_worker_may_speak_for_it_and_so_may_its_group() {
        let (group, me) = (nix::unistd::getpgrp(), std::process::id().cast_signed());
        let other = 4_000_000_001;
        assert!(is_entitled(Sender { pid: 0, uid: other }, group, other));
        assert!(is_entitled(Sender { pid: 0, uid: geteuid().as_raw() }, group, other));
        assert!(is_entitled(Sender { pid: me, uid: other }, group, 7));
        assert!(!is_entitled(Sender { pid: 0, uid: other }, group, 7));
        assert!(!is_entitled(Sender { pid: me, uid: other }, Pid::from_raw(1 << 22), 7));
    }
}
