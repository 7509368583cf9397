//! Measures the way to another process and back, when each side sleeps until the other has something to say.
//!
//! The ring waits as the supervisor's loop does: arm, look for the last time, epoll_wait on an edge-triggered eventfd whose
//! counter is never read, disarm.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use ostler_shared::ring::{Bell, Consumer, Producer, before_waiting};
use ostler_shared::sys::memory::{OwnMemory, PeerMemory};

use crate::memory::{self, Pair};
use crate::other::{Line, Other};
use crate::record::{self, Arrived, LEN, More, Record, WORDS};

/// How the two talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Two pipes and read(2).
    Pipe,
    /// Two pipes, with epoll_wait(2) before each read, as in a loop.
    PipeInLoop,
    SeqPacket,
    /// Two rings, each with its doorbell.
    Ring,
}

pub(crate) const ROWS: [Way; 6] = [Way::Pipe, Way::Ring, Way::PipeInLoop, Way::SeqPacket, Way::Pipe, Way::Ring];
/// What the others are compared with.
pub(crate) const REFERENCE: usize = 0;

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Way::Pipe => "pipe",
            Way::PipeInLoop => "pipe behind epoll",
            Way::SeqPacket => "SEQPACKET socketpair",
            Way::Ring => "ring, doorbell behind epoll",
        })
    }
}

/// What one window brought.
pub(crate) struct Measured {
    /// Median of there and back.
    pub(crate) trip_ns: f64,
    /// Median of the asker's call that wakes the other side.
    pub(crate) say_ns: f64,
    /// Calls that had to wake somebody, of all.
    pub(crate) woken_percent: f64,
}

/// One side of the conversation.
trait Talk {
    fn say(&mut self, record: &Record) -> Bell;
    fn hear(&mut self) -> Record;
}

/// Asks and waits for the answer, again and again.
///
/// # Panics
/// When an answer is not what was asked.
pub(crate) fn measure(way: Way, window: Duration) -> Measured {
    let (mut side, other) = start(way).expect("a second process");
    let (mut trips, mut says, mut woken) = (Vec::new(), Vec::new(), 0u32);
    let end = Instant::now() + window;
    for number in 0.. {
        let asked = Instant::now();
        if asked >= end {
            break;
        }
        let bell = side.say(&record::numbered(number));
        let said = Instant::now();
        assert_eq!(side.hear(), record::numbered(number), "the answer to something else");
        trips.push(asked.elapsed());
        says.push(said - asked);
        woken += u32::from(bell == Bell::Ring);
    }
    let _woken = side.say(&record::last());
    let asked = trips.len();
    let arrived = other.report().expect("the other process reports");
    assert_eq!(usize::try_from(arrived.count), Ok(asked), "what was asked did not arrive");
    let woken_percent = f64::from(woken) * 100.0 / f64::from(u32::try_from(asked).expect("a window is short"));
    Measured { trip_ns: median_ns(trips), say_ns: median_ns(says), woken_percent }
}

fn median_ns(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1e9)
}

fn start(way: Way) -> io::Result<(Box<dyn Talk>, Other)> {
    Ok(match way {
        Way::Pipe | Way::PipeInLoop => {
            let (their_input, output) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
            let (input, their_output) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
            let (word, waits) = match way {
                Way::PipeInLoop => ("bytes-in-loop", Waits::InLoop),
                Way::Pipe | Way::SeqPacket | Way::Ring => ("bytes", Waits::InRead),
            };
            let other = Other::start("echo", word, &[their_input.as_fd(), their_output.as_fd()])?;
            (Box::new(Bytes::new(input, output, waits)?), other)
        }
        Way::SeqPacket => {
            let flags = SockFlag::SOCK_CLOEXEC;
            let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
            let other = Other::start("echo", "bytes", &[theirs.as_fd(), theirs.as_fd()])?;
            (Box::new(Bytes::new(ours.try_clone()?, ours, Waits::InRead)?), other)
        }
        Way::Ring => {
            let pair = Pair::create()?;
            let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
            let (ours, theirs) = (EventFd::from_flags(flags)?, EventFd::from_flags(flags)?);
            let fds = [pair.ours_to_read.as_fd(), pair.theirs.as_fd(), theirs.as_fd(), ours.as_fd()];
            let other = Other::start("echo", "ring", &fds)?;
            let theirs = theirs.as_fd().try_clone_to_owned()?;
            (Box::new(Rings::new(&pair.own, &pair.peer, ours.as_fd().try_clone_to_owned()?, theirs)?), other)
        }
    })
}

/// Answers everything with itself, to the end, and reports how much it was.
pub(crate) fn echo(way: &str) -> Result<(), Box<dyn Error>> {
    let line = Line::take()?;
    let mut side: Box<dyn Talk> = match way {
        "ring" => {
            let (peer, own) = (PeerMemory::map(line.descriptor()?)?, OwnMemory::map(line.descriptor()?)?);
            let (bell, their_bell) = (line.descriptor()?, line.descriptor()?);
            Box::new(Rings::new(&own, &peer, bell, their_bell)?)
        }
        "bytes-in-loop" => Box::new(Bytes::new(line.descriptor()?, line.descriptor()?, Waits::InLoop)?),
        _ => Box::new(Bytes::new(line.descriptor()?, line.descriptor()?, Waits::InRead)?),
    };
    line.at_work()?;
    let mut arrived = Arrived::default();
    loop {
        let record = side.hear();
        if arrived.note(&record) == More::Ended {
            return Ok(line.report(arrived)?);
        }
        let _woken = side.say(&record);
    }
}

// ── bytes ──────────────────────────────────────────────────────────────────────────────────────────────────────

/// Where a side of bytes sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    InRead,
    InLoop,
}

struct Bytes {
    input: File,
    output: File,
    epoll: Option<Epoll>,
}

impl Bytes {
    fn new(input: OwnedFd, output: OwnedFd, waits: Waits) -> io::Result<Bytes> {
        let epoll = match waits {
            Waits::InRead => None,
            Waits::InLoop => Some(epoll_on(&input, EpollFlags::EPOLLIN)?),
        };
        Ok(Bytes { input: input.into(), output: output.into(), epoll })
    }
}

impl Talk for Bytes {
    fn say(&mut self, record: &Record) -> Bell {
        self.output.write_all(&record::to_bytes(record)).expect("the other process reads");
        Bell::Ring
    }

    fn hear(&mut self) -> Record {
        if let Some(epoll) = &self.epoll {
            wait(epoll);
        }
        let mut bytes = [0; LEN];
        self.input.read_exact(&mut bytes).expect("the other process writes");
        record::of_bytes(&bytes)
    }
}

// ── rings ──────────────────────────────────────────────────────────────────────────────────────────────────────

struct Rings {
    out: Producer<WORDS>,
    into: Consumer<WORDS>,
    epoll: Epoll,
    /// Kept open: the loop waits for it.
    _bell: OwnedFd,
    their_bell: OwnedFd,
}

impl Rings {
    fn new(own: &OwnMemory, peer: &PeerMemory, bell: OwnedFd, their_bell: OwnedFd) -> io::Result<Rings> {
        let epoll = epoll_on(&bell, EpollFlags::EPOLLIN | EpollFlags::EPOLLET)?;
        let (out, into) = (memory::producer(own, peer), memory::consumer(own, peer));
        Ok(Rings { out, into, epoll, _bell: bell, their_bell })
    }
}

impl Talk for Rings {
    fn say(&mut self, record: &Record) -> Bell {
        self.out.push(record).expect("one record at a time fits");
        let bell = self.out.publish();
        if bell == Bell::Ring {
            nix::unistd::write(&self.their_bell, &1u64.to_ne_bytes()).expect("a counter far from its end");
        }
        bell
    }

    fn hear(&mut self) -> Record {
        loop {
            self.into.look().expect("an honest producer");
            if let Some(record) = self.into.take() {
                self.into.release();
                return record;
            }
            self.into.arm();
            before_waiting();
            if !self.into.has_news() {
                wait(&self.epoll);
            }
            self.into.disarm();
        }
    }
}

fn epoll_on(fd: &OwnedFd, flags: EpollFlags) -> io::Result<Epoll> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(fd, EpollEvent::new(flags, 0))?;
    Ok(epoll)
}

fn wait(epoll: &Epoll) {
    let mut events = [EpollEvent::empty(); 1];
    match epoll.wait(&mut events, EpollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => panic!("epoll_wait: {error}"),
    }
}
