//! Keeps the end of the mailbox from the program: a listener has no end.
//!
//! When the supervisor is gone, its end of the mailbox closes, and whoever waits for the mailbox is told for ever that there is
//! something to read. Event loops then spin. The first claim that finds the end puts a socket in the mailbox's place on which
//! nothing ever comes, moves what the program had registered with epoll, and asks the program to leave.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};

use libc::c_int;

use crate::originals::{self, aside};
use crate::post::{Identity, Post};

/// Most registrations of the mailbox with epoll that are known. One per event loop is usual.
const REGISTRATIONS: usize = 64;
/// Numbers below this are looked at for copies of the mailbox.
const NUMBERS: RawFd = 1 << 16;

struct Registration {
    epoll: AtomicI32,
    fd: AtomicI32,
    events: AtomicU32,
    data: AtomicU64,
}

const NONE: c_int = -1;

static KNOWN: [Registration; REGISTRATIONS] = [const {
    Registration {
        epoll: AtomicI32::new(NONE),
        fd: AtomicI32::new(NONE),
        events: AtomicU32::new(0),
        data: AtomicU64::new(0),
    }
}; REGISTRATIONS];

/// The program waits for the mailbox by this epoll instance.
pub(crate) fn registered(epoll: RawFd, fd: RawFd, event: libc::epoll_event) {
    let same = KNOWN.iter().find(|known| known.is(epoll, fd));
    let free = || {
        KNOWN
            .iter()
            .find(|known| known.epoll.compare_exchange(NONE, epoll, Ordering::AcqRel, Ordering::Relaxed).is_ok())
    };
    if let Some(known) = same.or_else(free) {
        known.events.store(event.events, Ordering::Relaxed);
        known.data.store(event.u64, Ordering::Relaxed);
        known.fd.store(fd, Ordering::Release);
    }
}

/// It does not any more.
pub(crate) fn unregistered(epoll: RawFd, fd: RawFd) {
    if let Some(known) = KNOWN.iter().find(|known| known.is(epoll, fd)) {
        known.fd.store(NONE, Ordering::Relaxed);
        known.epoll.store(NONE, Ordering::Release);
    }
}

impl Registration {
    fn is(&self, epoll: RawFd, fd: RawFd) -> bool {
        self.epoll.load(Ordering::Acquire) == epoll && self.fd.load(Ordering::Acquire) == fd
    }
}

const STILL_HEARD: u8 = 0;
const FALLING: u8 = 1;
const FALLEN: u8 = 2;
static STAGE: AtomicU8 = AtomicU8::new(STILL_HEARD);

/// Puts silence in the mailbox's place, once in each process; whoever comes second waits for it.
pub(crate) fn fall(post: &Post) {
    match STAGE.compare_exchange(STILL_HEARD, FALLING, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            aside(|| replace(post));
            STAGE.store(FALLEN, Ordering::Release);
            // SAFETY: ints only; to this process, so that the program's own handler does what it was made for.
            unsafe { libc::kill(libc::getpid(), post.drain_signal) };
        }
        // SAFETY: it gives the rest of a time slice away.
        Err(_) => drop(unsafe { libc::sched_yield() }),
    }
}

fn replace(post: &Post) {
    let mut pair = [NONE; 2];
    // SAFETY: socketpair writes two ints.
    let made =
        unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, pair.as_mut_ptr()) };
    // Without a descriptor we try again at the next end: the program spins until one is free.
    let (0, [silent, _kept_open]) = (made, pair) else { return STAGE.store(STILL_HEARD, Ordering::Release) };
    let Some(identity) = Identity::of(silent) else { return };
    post.silent.store(identity.inode(), Ordering::Release);
    let mut is_first = true;
    for fd in numbers().filter(|fd| *fd != silent) {
        if post.is_true_mailbox(fd) {
            if std::mem::take(&mut is_first) {
                copy_nonblocking(fd, silent);
            }
            put(silent, fd);
        }
    }
}

/// Numbers that descriptors may have, as far as they are looked at.
pub(crate) fn numbers() -> std::ops::Range<RawFd> {
    0..NUMBERS.min(limit())
}

fn limit() -> RawFd {
    // SAFETY: it only answers.
    RawFd::try_from(unsafe { libc::sysconf(libc::_SC_OPEN_MAX) }).unwrap_or(NUMBERS)
}

/// Puts the silent socket under the mailbox's number, and moves registrations: they belong to the file behind a number, so that
/// those of the mailbox would live on as long as any copy of it is open.
fn put(silent: RawFd, fd: RawFd) {
    let registrations = || KNOWN.iter().filter(|known| known.fd.load(Ordering::Acquire) == fd);
    for known in registrations() {
        // SAFETY: the event is not looked at.
        unsafe {
            originals::epoll_ctl(known.epoll.load(Ordering::Acquire), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut())
        };
    }
    // SAFETY: ints only.
    unsafe {
        let flags = originals::fcntl(fd, libc::F_GETFD, 0);
        let close_on_exec = if flags & libc::FD_CLOEXEC == 0 { 0 } else { libc::O_CLOEXEC };
        originals::dup3(silent, fd, close_on_exec);
    }
    for known in registrations() {
        let (events, u64) = (known.events.load(Ordering::Relaxed), known.data.load(Ordering::Relaxed));
        let mut event = libc::epoll_event { events, u64 };
        // SAFETY: the event outlives the call.
        unsafe { originals::epoll_ctl(known.epoll.load(Ordering::Acquire), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
    }
}

fn copy_nonblocking(from: RawFd, to: RawFd) {
    // SAFETY: ints only.
    unsafe {
        let flags = originals::fcntl(from, libc::F_GETFL, 0);
        if flags != -1 && flags & libc::O_NONBLOCK != 0 {
            originals::fcntl(to, libc::F_SETFL, libc::O_NONBLOCK.into());
        }
    }
}
