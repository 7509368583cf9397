//! Measures what publishing a record costs its publisher, with and without somebody to ring for.
//!
//! Nobody reads while the clock runs, so that no cache line moves: what is left is the code, the fence and the system call.
//! What ringing costs when it wakes a sleeper is in the table of the way there and back.

use std::fmt;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use ostler_shared::ring::{Bell, Consumer, Producer};
use ostler_shared::sys::memory::{OwnMemory, PeerMemory};

use crate::memory::{self, CAPACITY, Pair};
use crate::record::{self, WORDS};

/// What is done for each record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Published without a fence.
    Quietly,
    /// Published, with a look whether somebody waits. Nobody does.
    Checked,
    /// The same, and the flag says that somebody waits: rung, though nobody sleeps.
    Rung,
}

pub(crate) const ROWS: [Way; 4] = [Way::Quietly, Way::Checked, Way::Rung, Way::Quietly];
/// What the others are compared with.
pub(crate) const REFERENCE: usize = 0;

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Way::Quietly => "without fence",
            Way::Checked => "with the doorbell check, silent",
            Way::Rung => "with the doorbell rung, nobody asleep",
        })
    }
}

struct Bench {
    producer: Producer<WORDS>,
    consumer: Consumer<WORDS>,
    bell: EventFd,
    /// The doorbell is in a loop's set, as the supervisor's is.
    _epoll: Epoll,
    way: Way,
}

/// Nanoseconds per record.
pub(crate) fn measure(way: Way, window: Duration) -> f64 {
    let mut bench = Bench::new(way);
    let (mut spent, mut published) = (Duration::ZERO, 0);
    let end = Instant::now() + window;
    while Instant::now() < end {
        let begun = Instant::now();
        for number in 0..u64::from(CAPACITY) {
            bench.publish(number);
        }
        spent += begun.elapsed();
        published += CAPACITY;
        bench.empty();
    }
    spent.as_secs_f64() * 1e9 / f64::from(published)
}

impl Bench {
    fn new(way: Way) -> Bench {
        // Both ends in one process: each maps what the other writes.
        let pair = Pair::create().expect("memory for a ring");
        let theirs = OwnMemory::map(&pair.theirs).expect("a mapping");
        let ours_read = PeerMemory::map(&pair.ours_to_read).expect("a mapping");
        let consumer = memory::consumer(&theirs, &ours_read);
        match way {
            Way::Quietly | Way::Checked => consumer.disarm(),
            Way::Rung => consumer.arm(),
        }
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).expect("an eventfd");
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("an epoll");
        epoll.add(&bell, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0)).expect("a watch");
        let producer = memory::producer(&pair.own, &pair.peer);
        Bench { producer, consumer, bell, _epoll: epoll, way }
    }

    #[inline]
    fn publish(&mut self, number: u64) {
        self.producer.push(&record::numbered(number)).expect("the ring was emptied");
        match self.way {
            Way::Quietly => self.producer.publish_quietly(),
            Way::Checked => assert_eq!(self.producer.publish(), Bell::Silent),
            Way::Rung => {
                assert_eq!(self.producer.publish(), Bell::Ring);
                nix::unistd::write(&self.bell, &1u64.to_ne_bytes()).expect("a counter far from its end");
            }
        }
    }

    fn empty(&mut self) {
        let found = self.consumer.look().expect("an honest producer");
        assert_eq!(found, u64::from(CAPACITY), "everything that was published is there");
        while self.consumer.take().is_some() {}
        self.consumer.release();
    }
}
