//! Measures how fast records get from one process to another.
//!
//! The consumer of a ring looks again and again (it never waits), and the other ways read one record per system call, as
//! they are written. Nobody counts: the stream has a last record, and the time ends when the consumer has read it.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use ostler_shared::ring::{Bell, Consumer, Full, Producer};
use ostler_shared::sys::memory::{OwnMemory, PeerMemory};

use crate::memory::{self, Pair};
use crate::other::{Line, Other};
use crate::record::{self, Arrived, LEN, More, Record, WORDS};

/// How records travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Ring(Publish),
    Pipe,
    SeqPacket,
    Stream,
}

/// How a ring's producer shows its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publish {
    /// Each, without looking whether the consumer waits.
    EachQuietly,
    /// Each, with the fence and a look at the consumer's flag.
    EachChecked,
    /// The same once for several.
    Batches,
}

pub(crate) const ROWS: [Way; 8] = [
    Way::SeqPacket,
    Way::Ring(Publish::EachQuietly),
    Way::Ring(Publish::EachChecked),
    Way::Ring(Publish::Batches),
    Way::Pipe,
    Way::Stream,
    Way::SeqPacket,
    Way::Ring(Publish::EachChecked),
];
/// What the others are compared with.
pub(crate) const REFERENCE: usize = 0;

/// Records of a batch.
const BATCH: u32 = 16;
/// Records between two looks at the clock.
const BETWEEN_LOOKS: u32 = 1024;
/// Looks before a side that has to wait lets others run; on a machine with a CPU for each it never comes to that.
const LOOKS_BEFORE_YIELD: u32 = 1000;

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Way::Ring(Publish::EachQuietly) => "ring, each published without fence",
            Way::Ring(Publish::EachChecked) => "ring, each with the doorbell check",
            Way::Ring(Publish::Batches) => "ring, 16 at a time with the doorbell check",
            Way::Pipe => "pipe",
            Way::SeqPacket => "SEQPACKET socketpair",
            Way::Stream => "STREAM socketpair",
        })
    }
}

/// Nanoseconds per record.
///
/// # Panics
/// When a record got lost, or something rang for a consumer that never waits.
pub(crate) fn measure(way: Way, window: Duration) -> f64 {
    match way {
        Way::Ring(publish) => {
            let pair = Pair::create().expect("memory for a ring");
            let other = Other::start("drain", "ring", &[pair.ours_to_read.as_fd(), pair.theirs.as_fd()]);
            let ring = Ring { producer: memory::producer(&pair.own, &pair.peer), publish, pending: 0 };
            pump(ring, other.expect("a second process"), window)
        }
        Way::Pipe => {
            let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).expect("a pipe");
            pump_bytes(reader, writer, window)
        }
        Way::SeqPacket => pump_pair(SockType::SeqPacket, window),
        Way::Stream => pump_pair(SockType::Stream, window),
    }
}

fn pump_pair(kind: SockType, window: Duration) -> f64 {
    let (ours, theirs) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).expect("a pair");
    pump_bytes(theirs, ours, window)
}

fn pump_bytes(reader: OwnedFd, writer: OwnedFd, window: Duration) -> f64 {
    let other = Other::start("drain", "bytes", &[reader.as_fd()]).expect("a second process");
    drop(reader);
    pump(File::from(writer), other, window)
}

/// What takes records.
trait Sink {
    fn send(&mut self, record: &Record);
    /// Shows what it has kept back.
    fn flush(&mut self);
}

fn pump(mut sink: impl Sink, other: Other, window: Duration) -> f64 {
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < window {
        for _ in 0..BETWEEN_LOOKS {
            sink.send(&record::numbered(sent));
            sent += 1;
        }
    }
    sink.send(&record::last());
    sink.flush();
    let arrived = other.report().expect("the other process reports");
    let took = begun.elapsed();
    assert_eq!(arrived, Arrived { count: sent, wrong: 0 }, "what was sent did not arrive");
    ns_each(took, sent)
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn ns_each(took: Duration, count: u64) -> f64 {
    took.as_secs_f64() * 1e9 / count as f64
}

impl Sink for File {
    fn send(&mut self, record: &Record) {
        self.write_all(&record::to_bytes(record)).expect("the other process reads");
    }

    fn flush(&mut self) {}
}

struct Ring {
    producer: Producer<WORDS>,
    publish: Publish,
    pending: u32,
}

impl Sink for Ring {
    #[inline]
    fn send(&mut self, record: &Record) {
        let mut looks = 0;
        while let Err(Full) = self.producer.push(record) {
            self.flush(); // a batch that does not fit is shown as far as it goes
            relax(&mut looks);
        }
        self.pending += 1;
        match self.publish {
            Publish::EachQuietly => self.producer.publish_quietly(),
            Publish::EachChecked => self.flush(),
            Publish::Batches if self.pending == BATCH => self.flush(),
            Publish::Batches => {}
        }
    }

    #[inline]
    fn flush(&mut self) {
        self.pending = 0;
        assert_eq!(self.producer.publish(), Bell::Silent, "the consumer never waits");
    }
}

fn relax(looks: &mut u32) {
    *looks += 1;
    if looks.is_multiple_of(LOOKS_BEFORE_YIELD) { thread::yield_now() } else { std::hint::spin_loop() }
}

// ── the other process ──────────────────────────────────────────────────────────────────────────────────────────

/// Reads to the end of the stream and reports what arrived.
pub(crate) fn drain(way: &str) -> Result<(), Box<dyn Error>> {
    let line = Line::take()?;
    let arrived = match way {
        "ring" => {
            let (peer, own) = (PeerMemory::map(line.descriptor()?)?, OwnMemory::map(line.descriptor()?)?);
            line.at_work()?;
            drain_ring(memory::consumer(&own, &peer))?
        }
        _ => {
            let from = File::from(line.descriptor()?);
            line.at_work()?;
            drain_bytes(from)?
        }
    };
    Ok(line.report(arrived)?)
}

fn drain_ring(mut ring: Consumer<WORDS>) -> Result<Arrived, Box<dyn Error>> {
    let (mut arrived, mut looks) = (Arrived::default(), 0);
    loop {
        if ring.look()? == 0 {
            relax(&mut looks);
            continue;
        }
        looks = 0;
        while let Some(record) = ring.take() {
            if arrived.note(&record) == More::Ended {
                return Ok(arrived);
            }
        }
        ring.release();
    }
}

fn drain_bytes(mut from: File) -> Result<Arrived, Box<dyn Error>> {
    let mut arrived = Arrived::default();
    let mut bytes = [0; LEN];
    loop {
        from.read_exact(&mut bytes)?;
        if arrived.note(&record::of_bytes(&bytes)) == More::Ended {
            return Ok(arrived);
        }
    }
}
