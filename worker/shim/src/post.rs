//! Holds what this process knows of its post: the mailbox, the table, whom to wake.
//!
//! Found once, from the environment, and checked: the descriptors have to be what it says. It survives an exec, since the
//! descriptors and the environment do, and is passed on to forked children with the memory.

use std::ffi::{CStr, CString};
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU64, Ordering};

use libc::c_int;
use ostler_shared::claims::{Claimant, Holder};
use ostler_shared::env;
use ostler_shared::ring::Bell;
use ostler_shared::sys::memory::{OwnMemory, PeerMemory};

use crate::descriptors;
use crate::originals::{self, aside};
use crate::silence;

/// A file, by which its copies are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// `None` when nothing is open under that number.
    pub(crate) fn of(fd: RawFd) -> Option<Identity> {
        let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
        // SAFETY: fstat writes a whole stat where it answers 0.
        unsafe {
            let answer = libc::fstat(fd, stat.as_mut_ptr());
            if answer != 0 {
                return None;
            }
            let stat = stat.assume_init();
            Some(Identity { device: stat.st_dev, inode: stat.st_ino })
        }
    }

    /// As ostler writes it: `device:inode`.
    fn parse(text: &str) -> Option<Identity> {
        let (device, inode) = text.split_once(':')?;
        Some(Identity { device: device.parse().ok()?, inode: inode.parse().ok()? })
    }

    /// Never 0 for a socket.
    pub(crate) fn inode(self) -> u64 {
        self.inode
    }
}

/// The address of one of the pool's listeners, as the kernel gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address(Vec<u8>);

/// Bytes of the family in front of every address.
const FAMILY_BYTES: usize = size_of::<libc::sa_family_t>();
/// The port is behind the family, in both families of TCP.
const PORT_END: usize = FAMILY_BYTES + size_of::<libc::in_port_t>();

impl Address {
    fn parse(hex: &str) -> Option<Address> {
        let digits = hex.as_bytes();
        let pairs = digits.chunks_exact(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        let bytes = pairs.collect::<Option<Vec<u8>>>()?;
        let fits = (FAMILY_BYTES..=size_of::<libc::sockaddr_storage>()).contains(&bytes.len());
        (digits.len().is_multiple_of(2) && fits).then_some(Address(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn family(&self) -> c_int {
        c_int::from(libc::sa_family_t::from_ne_bytes([self.0[0], self.0[1]]))
    }

    /// Whether a socket with this address belongs to this listener, as connections do that it accepted. Over TCP the port tells: a
    /// listener may be at every address of the machine.
    fn is_of(&self, own: &[u8]) -> bool {
        match self.family() {
            libc::AF_INET | libc::AF_INET6 => self.0.get(..PORT_END) == own.get(..PORT_END),
            _ => self.0 == own,
        }
    }

    /// The path, where it is that of a Unix socket which has one.
    fn path(&self) -> Option<CString> {
        let name = self.0.get(FAMILY_BYTES..).filter(|_| self.family() == libc::AF_UNIX)?;
        let path = name.split(|byte| *byte == 0).next().filter(|path| !path.is_empty())?;
        CString::new(path).ok()
    }
}

/// The post of this process.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) claimant: Claimant,
    mailbox: Identity,
    /// The inode of what took the mailbox's place when the supervisor was gone; 0 before.
    pub(crate) silent: AtomicU64,
    pub(crate) listeners: Vec<Address>,
    pub(crate) paths: Vec<CString>,
    pub(crate) drain_signal: c_int,
    /// Ostler's own descriptors: region, gauges, doorbell. -1 where the program has put something else in their place.
    own: [AtomicI32; 3],
    anonymous: Identity,
    /// This process, as the table knows it; 0 in a child that nobody has told.
    me: AtomicU64,
    /// Whether the supervisor has been told that this process holds something. Of the first it knows.
    is_introduced: AtomicBool,
    /// Whether it has children, which may take connections when it takes none any more.
    has_forked: AtomicBool,
}

/// The place of the doorbell among ostler's own descriptors.
const DOORBELL: usize = 2;
/// Programs choose low numbers by themselves.
const OUT_OF_THE_WAY: libc::c_long = 100;

const UNKNOWN: u8 = 0;
const SEARCHING: u8 = 1;
const SETTLED: u8 = 2;

static STAGE: AtomicU8 = AtomicU8::new(UNKNOWN);
static POST: AtomicPtr<Post> = AtomicPtr::new(ptr::null_mut());

/// The post of this process; `None` when it has none.
pub(crate) fn post() -> Option<&'static Post> {
    if STAGE.load(Ordering::Acquire) == UNKNOWN {
        find(); // before our constructor ran
    }
    // SAFETY: null, or a box that was leaked.
    unsafe { POST.load(Ordering::Acquire).as_ref() }
}

/// Looks for it, once. Whoever calls meanwhile, and that is this very function through the C library, finds none.
pub(crate) fn find() {
    if STAGE.compare_exchange(UNKNOWN, SEARCHING, Ordering::AcqRel, Ordering::Acquire).is_ok() {
        if let Some(post) = aside(look) {
            POST.store(Box::into_raw(Box::new(post)), Ordering::Release);
        }
        STAGE.store(SETTLED, Ordering::Release);
    }
}

fn look() -> Option<Post> {
    let fds = variable(env::FDS)?;
    let mailbox = Identity::parse(&variable(env::MAILBOX)?)?;
    let listeners: Vec<Address> = variable(env::LISTENERS)?.split(',').map(Address::parse).collect::<Option<_>>()?;
    listeners.first()?;
    let drain_signal = variable(env::DRAIN_SIGNAL)?.parse().ok()?;
    let [region, gauges, doorbell] = ["region", "gauges", "doorbell"].map(|name| env::fd_named(&fds, name));
    let (region, gauges, doorbell) = (region?, gauges?, doorbell?);
    Identity::of(region)?;
    Identity::of(gauges)?;
    // SAFETY: both were open a moment ago, and this process has no other thread yet that could close them.
    let (region_fd, gauges_fd) = unsafe { (BorrowedFd::borrow_raw(region), BorrowedFd::borrow_raw(gauges)) };
    let memories = (PeerMemory::map(gauges_fd).ok()?, OwnMemory::map(region_fd).ok()?);
    let claimant = Claimant::new(memories.0, memories.1).ok()?;
    let paths = listeners.iter().filter_map(Address::path).collect();
    Some(Post {
        claimant,
        mailbox,
        silent: AtomicU64::new(0),
        listeners,
        paths,
        drain_signal,
        own: [region, gauges, doorbell].map(AtomicI32::new),
        anonymous: Identity::of(doorbell)?,
        me: AtomicU64::new(me().map_or(0, Holder::word)),
        is_introduced: AtomicBool::new(false),
        has_forked: AtomicBool::new(false),
    })
}

/// By the C library, which needs no lock that a constructor could not take.
fn variable(name: &str) -> Option<String> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name ends in NUL; what comes back does too, and is copied at once.
    let value = unsafe {
        let value = libc::getenv(name.as_ptr());
        if value.is_null() { None } else { Some(CStr::from_ptr(value)) }
    };
    value?.to_str().ok().map(str::to_owned)
}

/// This process: its number, and when it started by `/proc/self/stat`. Makes system calls only.
pub(crate) fn me() -> Option<Holder> {
    // SAFETY: it only answers.
    named(unsafe { libc::getpid() }, c"/proc/self/stat")
}

/// A child that nobody has reaped yet.
pub(crate) fn process(pid: libc::pid_t) -> Option<Holder> {
    let mut path = [0u8; 32];
    // SAFETY: snprintf ends the text in NUL and writes no more than there is room for, which is enough for any int.
    unsafe { libc::snprintf(path.as_mut_ptr().cast(), path.len(), c"/proc/%d/stat".as_ptr(), pid) };
    named(pid, CStr::from_bytes_until_nul(&path).ok()?)
}

fn named(pid: libc::pid_t, path: &CStr) -> Option<Holder> {
    let mut text = [0u8; 512];
    // SAFETY: the path ends in NUL, the buffer has the length that is said, and the descriptor is ours from open to close.
    let len = unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        let len = if fd < 0 { 0 } else { libc::read(fd, text.as_mut_ptr().cast(), text.len()) };
        if fd >= 0 {
            originals::close(fd);
        }
        usize::try_from(len).unwrap_or(0)
    };
    Holder::new(pid, started(text.get(..len)?).unwrap_or(0))
}

/// Field 22, counted behind the name, which may hold anything.
fn started(stat: &[u8]) -> Option<u64> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let field = stat.get(name_end + 2..)?.split(|byte| *byte == b' ').nth(19)?;
    field.iter().try_fold(0u64, |sum, digit| {
        let digit = digit.wrapping_sub(b'0');
        (digit < 10).then_some(())?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

impl Post {
    /// Whether a descriptor leads to the mailbox, or to what took its place.
    pub(crate) fn is_mailbox(&self, fd: RawFd) -> bool {
        // A connection is none; most calls are about connections, which saves them a system call.
        if descriptors::is_connection(fd) {
            return false;
        }
        let found = aside(|| Identity::of(fd));
        found.is_some_and(|found| found == self.mailbox || self.is_silent(found))
    }

    /// Whether a descriptor that we know nothing of is a connection of the pool.
    pub(crate) fn is_accepted(&self, fd: RawFd) -> bool {
        let mut bytes = [0u8; size_of::<libc::sockaddr_storage>()];
        let mut len = bytes.len() as libc::socklen_t;
        // SAFETY: the kernel writes no more than the length says, and how long the address is.
        let answer = unsafe { originals::getsockname(fd, bytes.as_mut_ptr().cast(), &raw mut len) };
        let own = bytes.get(..len as usize).filter(|_| answer == 0);
        own.is_some_and(|own| self.listeners.iter().any(|listener| listener.is_of(own)))
    }

    pub(crate) fn is_true_mailbox(&self, fd: RawFd) -> bool {
        Identity::of(fd) == Some(self.mailbox)
    }

    fn is_silent(&self, found: Identity) -> bool {
        let silent = self.silent.load(Ordering::Acquire);
        silent != 0 && found == (Identity { inode: silent, ..self.mailbox })
    }

    /// Who holds what this process claims. `None` in a child that came to be without our noticing, by vfork or by a system
    /// call: in the first, this memory is its parent's.
    pub(crate) fn me(&self) -> Option<Holder> {
        let me = Holder::of_word(self.me.load(Ordering::Relaxed))?;
        // SAFETY: it only answers.
        (me.pid() == unsafe { libc::getpid() }).then_some(me)
    }

    /// A forked child is somebody else.
    pub(crate) fn be(&self, me: Option<Holder>) {
        self.me.store(me.map_or(0, Holder::word), Ordering::Relaxed);
        self.is_introduced.store(false, Ordering::Relaxed);
    }

    /// Says once that this process holds something, so that the supervisor sees it end.
    pub(crate) fn introduce(&self) {
        if !self.is_introduced.load(Ordering::Relaxed) && !self.is_introduced.swap(true, Ordering::Relaxed) {
            self.ring_if(self.claimant.introduce());
        }
    }

    /// Says that the program takes connections.
    pub(crate) fn announce(&self) {
        if !self.claimant.is_ready() {
            self.ring_if(self.claimant.be_ready());
        }
    }

    /// Its children have what it has.
    pub(crate) fn forks(&self) {
        self.has_forked.store(true, Ordering::Relaxed);
    }

    /// Whether this process takes connections, and nobody else of the program can.
    pub(crate) fn takes_alone(&self) -> bool {
        self.claimant.is_ready() && !self.has_forked.load(Ordering::Relaxed) && self.me().is_some()
    }

    /// A descriptor of the mailbox was closed. Without another one this process takes no more connections.
    pub(crate) fn closed_mailbox(&self) {
        if !silence::numbers().any(|fd| self.is_true_mailbox(fd)) {
            // SAFETY: it only answers.
            self.ring_if(self.claimant.stop_taking(unsafe { libc::getpid() }));
        }
    }

    /// Says that somebody is alive.
    pub(crate) fn beat(&self) {
        let now_ns = now_ns();
        self.ring_if(self.claimant.beat(now_ns));
        descriptors::tend(self, now_ns);
    }

    pub(crate) fn ring_if(&self, bell: Bell) {
        match bell {
            Bell::Silent => {}
            Bell::Ring => aside(|| self.ring()),
        }
    }

    /// The number may be somebody else's by now: what is no anonymous inode is no eventfd, and is not written to. Another
    /// eventfd would be woken for nothing.
    fn ring(&self) {
        let doorbell = self.own[DOORBELL].load(Ordering::Relaxed);
        if Identity::of(doorbell) == Some(self.anonymous) {
            let one = 1u64.to_ne_bytes();
            // SAFETY: eight bytes that outlive the call.
            let _full_or_gone = unsafe { libc::write(doorbell, one.as_ptr().cast(), one.len()) };
        }
    }

    /// Whether a number is one of ostler's own descriptors, which the program does not know.
    pub(crate) fn is_own(&self, fd: RawFd) -> bool {
        fd >= 0 && self.own.iter().any(|own| own.load(Ordering::Relaxed) == fd)
    }

    pub(crate) fn own(&self) -> [RawFd; 3] {
        self.own.each_ref().map(|own| own.load(Ordering::Relaxed))
    }

    /// The program is about to put something else in the place of one of ostler's own. The memories are mapped; the doorbell
    /// moves.
    pub(crate) fn make_way(&self, fd: RawFd) {
        for (index, own) in self.own.iter().enumerate() {
            if own.load(Ordering::Relaxed) == fd {
                // SAFETY: ints only.
                let elsewhere = |least| unsafe { originals::fcntl(fd, libc::F_DUPFD_CLOEXEC, least) };
                own.store(if index == DOORBELL { elsewhere(OUT_OF_THE_WAY) } else { -1 }, Ordering::Relaxed);
            }
        }
    }
}

/// The clock of tickets and completions.
pub(crate) fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.unsigned_abs().wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_the_kernel_wrote_it() {
        let unix = Address::parse("01002f72756e2f612e736f636b00").unwrap();
        assert_eq!((unix.family(), unix.path()), (libc::AF_UNIX, Some(c"/run/a.sock".to_owned())));
        let hidden = Address::parse("01000061").unwrap();
        assert_eq!(hidden.path(), None, "an abstract name is no path");
        let v4 = Address::parse("02001f907f0000010000000000000000").unwrap();
        assert_eq!((v4.family(), v4.path(), v4.bytes().len()), (libc::AF_INET, None, 16));
        for bad in ["", "0", "01", "010", "zz00", &"00".repeat(129)] {
            assert_eq!(Address::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_connection_has_the_path_or_the_port_of_its_listener() {
        let unix = Address::parse("01002f72756e2f612e736f636b00").unwrap();
        assert!(unix.is_of(unix.bytes()) && !unix.is_of(&unix.bytes()[..2]) && !unix.is_of(b""));
        let everywhere = Address::parse("02001f90000000000000000000000000").unwrap();
        let parsed = |hex| Address::parse(hex).unwrap().bytes().to_vec();
        assert!(everywhere.is_of(&parsed("02001f907f0000010000000000000000")));
        assert!(!everywhere.is_of(&parsed("02001f917f0000010000000000000000")), "another port");
        assert!(!everywhere.is_of(&parsed("0a001f907f0000010000000000000000")), "another family");
        assert!(!everywhere.is_of(b""));
    }

    #[test]
    fn the_start_of_a_process_is_field_22_whatever_it_is_called() {
        let stat = b"7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        assert_eq!(started(stat), Some(4711));
        assert_eq!(started(b"7 (a) S 1 2"), None);
        assert_eq!(me().unwrap().pid(), i32::try_from(std::process::id()).unwrap());
    }

    #[test]
    fn a_process_that_was_not_started_by_ostler_has_no_post() {
        assert!(post().is_none());
    }
}
