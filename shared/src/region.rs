//! Lays out the shared memory between the supervisor and one worker.
//!
//! Two memories, each written by one side: the *region* by the worker, the *gauges* by the supervisor, which hands the worker
//! a descriptor that can't be mapped for writing. A word has one writer, and what different threads read at different times
//! lies in different cache lines.
//!
//! ```text
//! gauges (supervisor writes)                   region (worker writes)
//! line 0  layout, capacity of the ring         line 0  heartbeat, capacity, held, beats, keeping, own
//! line 1  consumed, waiting                    line 1  published
//! line 2  gate, pressure                       line 2… completion records, then marks
//! ```
//! The layout is a number that both sides compare; what the worker writes is a claim (I6), and nothing in here makes the
//! reader panic, allocate or leave the memory.

#[cfg(not(loom))]
use std::io;
#[cfg(not(loom))]
use std::os::fd::{AsFd, OwnedFd};

use crate::completion::{COMPLETION_WORDS, Completion};
use crate::ids::ConnId;
use crate::marks::{Entries, MARK_WORDS, Sign};
use crate::ring::{Capacity, Consumer, Place, Producer};
use crate::sync::Ordering;
use crate::sys::memory::{OwnMemory, PeerMemory};
#[cfg(not(loom))]
use crate::sys::memory::{read_only, sealed};

/// Words of a cache line, times two: the prefetcher of x86 fetches lines in pairs.
const LINE: usize = 16;

/// Says "ostler" and the version of the layout.
const LAYOUT: u64 = 0x6f73_746c_6572_0001;

mod in_gauges {
    use super::LINE;
    pub(super) const LAYOUT: usize = 0;
    pub(super) const CAPACITY: usize = 1;
    pub(super) const CONSUMED: usize = LINE;
    pub(super) const WAITING: usize = LINE + 1;
    pub(super) const GATE: usize = 2 * LINE;
    pub(super) const PRESSURE: usize = 2 * LINE + 1;
    pub(super) const WORDS: usize = 3 * LINE;
}

mod in_region {
    use super::LINE;
    pub(super) const HEARTBEAT: usize = 0;
    pub(super) const CAPACITY: usize = 1;
    pub(super) const HELD: usize = 2;
    pub(super) const BEATS: usize = 3;
    pub(super) const KEEPING: usize = 4;
    pub(super) const ACCEPTED: usize = 5;
    pub(super) const UNRECORDED: usize = 6;
    pub(super) const STACKS: usize = 7;
    pub(super) const PUBLISHED: usize = LINE;
    pub(super) const RECORDS: usize = 2 * LINE;
}

// One writer per memory is the first rule; one cache line per purpose the second.
const _: () = {
    assert!(in_gauges::CAPACITY < in_gauges::CONSUMED && in_gauges::WAITING < in_gauges::GATE);
    assert!(
        in_gauges::PRESSURE < in_gauges::WORDS
            && in_gauges::CONSUMED.is_multiple_of(LINE)
            && in_gauges::GATE.is_multiple_of(LINE)
    );
    assert!(in_region::STACKS < in_region::PUBLISHED && in_region::PUBLISHED.is_multiple_of(LINE));
    assert!(in_region::PUBLISHED < in_region::RECORDS && in_region::RECORDS.is_multiple_of(LINE));
    assert!(LINE * size_of::<u64>() == 128);
    // Two records share a line at most, and none straddles two.
    assert!(LINE.is_multiple_of(COMPLETION_WORDS));
};

/// Words of the gauges.
pub const GAUGES_WORDS: usize = in_gauges::WORDS;

/// Words of a region whose ring has this capacity.
#[must_use]
pub fn region_words(capacity: Capacity) -> usize {
    in_region::RECORDS + capacity.records() as usize * (COMPLETION_WORDS + MARK_WORDS)
}

/// Behind the records, one for each.
fn marks(capacity: Capacity) -> Entries {
    let count = capacity.records() as usize;
    Entries { first: in_region::RECORDS + count * COMPLETION_WORDS, count }
}

fn ring(capacity: Capacity) -> Place {
    Place {
        published: in_region::PUBLISHED,
        records: in_region::RECORDS,
        consumed: in_gauges::CONSUMED,
        waiting: in_gauges::WAITING,
        capacity,
    }
}

/// Whether a worker that accepts for itself may do so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// No.
    Closed,
    /// Yes.
    Open,
}

/// When a worker beats, so that its silence means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beats {
    /// Nobody can expect it to: it knows nothing of this, or it does not serve.
    Never,
    /// While it holds no connection. A thread that serves one by waiting for it can't beat meanwhile.
    WhileIdle,
    /// As long as its event loop turns, whatever it holds.
    Always,
}

/// Whether a worker keeps marks of what it claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// It does not: nothing can be learnt from what is not there.
    Nothing,
    /// It does: what is not there was not claimed.
    Marks,
}

/// The supervisor's side.
#[derive(Debug)]
pub struct SupervisorSide {
    /// The completion ring's end.
    pub completions: Consumer<COMPLETION_WORDS>,
    marks: Entries,
    gauges: OwnMemory,
    region: PeerMemory,
}

/// New shared memory, and what the worker gets of it.
#[cfg(not(loom))]
#[derive(Debug)]
pub struct Shared {
    /// Ours.
    pub side: SupervisorSide,
    /// The worker's memory.
    pub region: OwnedFd,
    /// Our memory, for reading.
    pub gauges: OwnedFd,
}

#[cfg(not(loom))]
impl Shared {
    /// Makes the memory for one worker, whose ring holds a record for each connection that it may be handed.
    ///
    /// # Errors
    /// As memfd_create(2), mmap(2) and open(2): no descriptors, no memory, no `/proc`.
    pub fn create(capacity: Capacity) -> io::Result<Shared> {
        let region = sealed(c"ostler-region", region_words(capacity))?;
        let ours = sealed(c"ostler-gauges", GAUGES_WORDS)?;
        let gauges = read_only(ours.as_fd())?;
        let side = SupervisorSide::new(OwnMemory::map(&ours)?, PeerMemory::map(&region)?, capacity);
        Ok(Shared { side, region, gauges })
    }
}

/// What a worker says of itself. Claims, all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hints {
    /// When a serving thread was last heard of, in nanoseconds of `CLOCK_MONOTONIC`; `None` before the first time.
    pub heartbeat_ns: Option<u64>,
    /// When it promises to beat.
    pub beats: Beats,
    /// How many connections it would hold at a time.
    pub capacity: u64,
    /// How many it holds.
    pub held: u64,
}

impl SupervisorSide {
    /// Begins with two new memories, and writes down what the worker has to know.
    ///
    /// # Panics
    /// When they are too small: they are made for [`GAUGES_WORDS`] and [`region_words`].
    #[must_use]
    pub fn new(gauges: OwnMemory, region: PeerMemory, capacity: Capacity) -> SupervisorSide {
        assert!(gauges.words() >= GAUGES_WORDS && region.words() >= region_words(capacity));
        gauges.store(in_gauges::CAPACITY, u64::from(capacity.records()), Ordering::Relaxed);
        // SYNC W3 → R3: whoever reads the layout reads the capacity.
        gauges.store(in_gauges::LAYOUT, LAYOUT, Ordering::Release);
        let completions = Consumer::new(gauges.clone(), region.clone(), ring(capacity));
        // Until we say otherwise we wait.
        completions.arm();
        SupervisorSide { completions, marks: marks(capacity), gauges, region }
    }

    /// Opens or closes the gate.
    pub fn set_gate(&self, gate: Gate) {
        let word = match gate {
            Gate::Closed => 0,
            Gate::Open => 1,
        };
        self.gauges.store(in_gauges::GATE, word, Ordering::Relaxed);
    }

    /// Tells how full the waiting line is, in thousandths of its limit.
    pub fn set_pressure(&self, thousandths: u16) {
        self.gauges.store(in_gauges::PRESSURE, u64::from(thousandths), Ordering::Relaxed);
    }

    /// Whether the worker keeps marks. Ask after reading them: it says so before it makes the first one.
    #[must_use]
    pub fn keeping(&self) -> Keeping {
        match self.region.load(in_region::KEEPING, Ordering::Relaxed) {
            1 => Keeping::Marks,
            _ => Keeping::Nothing,
        }
    }

    /// What the worker says of its connections, in no order.
    pub fn marks(&self) -> impl Iterator<Item = (ConnId, Sign)> {
        self.marks.read_all(&self.region)
    }

    /// The signal at which the worker prints what each of its threads is doing, if it has one for that. A claim (I6), which is believed
    /// of signals that mean nothing by themselves: any other could be meant to hurt a worker's own descendants.
    #[must_use]
    pub fn stacks(&self) -> Option<i32> {
        let signal = i32::try_from(self.region.load(in_region::STACKS, Ordering::Relaxed)).ok()?;
        (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&signal).then_some(signal)
    }

    /// What a worker that accepts for itself says of that. Read it after the records: then no end comes before its beginning.
    #[must_use]
    pub fn own(&self) -> Own {
        Own {
            // SYNC R5 ← W5: whoever reads that something is over reads that it was accepted.
            unrecorded: self.region.load(in_region::UNRECORDED, Ordering::Acquire),
            accepted: self.region.load(in_region::ACCEPTED, Ordering::Relaxed),
        }
    }

    /// What the worker says of itself.
    #[must_use]
    pub fn hints(&self) -> Hints {
        // SYNC R4 ← W4: whoever reads a promise reads a beat that is no older.
        let beats = match self.region.load(in_region::BEATS, Ordering::Acquire) {
            1 => Beats::WhileIdle,
            2 => Beats::Always,
            _ => Beats::Never,
        };
        let load = |at| self.region.load(at, Ordering::Relaxed);
        Hints {
            beats,
            heartbeat_ns: Some(load(in_region::HEARTBEAT)).filter(|at| *at != 0),
            capacity: load(in_region::CAPACITY),
            held: load(in_region::HELD),
        }
    }
}

/// What a worker that accepts for itself says of that. Claims, both of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Own {
    /// How many connections it has accepted, ever.
    pub accepted: u64,
    /// How many of them are over without a record, since there was no room for one, ever.
    pub unrecorded: u64,
}

/// Why two memories are not what a supervisor hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRegion {
    /// Too short to have a header.
    #[error("{words} words, which is too short")]
    Short {
        /// How many there are.
        words: usize,
    },
    /// Another layout.
    #[error("layout {0:#x}, this build reads {LAYOUT:#x}")]
    Layout(u64),
    /// A capacity that is none, or that does not fit.
    #[error("a ring of {0} records, which is no capacity or does not fit")]
    Capacity(u64),
}

/// The worker's side.
#[derive(Debug)]
pub struct WorkerSide {
    /// The completion ring's end. One thread at a time.
    pub completions: Producer<COMPLETION_WORDS>,
    /// What the threads of the worker say and read.
    pub dials: Dials,
}

/// The gauges as the worker sees them. May be used by several threads.
#[derive(Debug, Clone)]
pub struct Dials {
    marks: Entries,
    gauges: PeerMemory,
    region: OwnMemory,
}

impl WorkerSide {
    /// Begins with what the supervisor made.
    ///
    /// # Errors
    /// [`BadRegion`] when it is not of this layout.
    pub fn new(gauges: PeerMemory, region: OwnMemory) -> Result<WorkerSide, BadRegion> {
        if gauges.words() < GAUGES_WORDS {
            return Err(BadRegion::Short { words: gauges.words() });
        }
        // SYNC R3 ← W3.
        let layout = gauges.load(in_gauges::LAYOUT, Ordering::Acquire);
        if layout != LAYOUT {
            return Err(BadRegion::Layout(layout));
        }
        let claimed = gauges.load(in_gauges::CAPACITY, Ordering::Relaxed);
        let capacity = Capacity::claimed(claimed).filter(|capacity| region.words() >= region_words(*capacity));
        let capacity = capacity.ok_or(BadRegion::Capacity(claimed))?;
        let completions = Producer::new(region.clone(), gauges.clone(), ring(capacity));
        Ok(WorkerSide { completions, dials: Dials { marks: marks(capacity), gauges, region } })
    }
}

impl Dials {
    /// Says that a serving thread is alive at this time.
    pub fn beat(&self, now_ns: u64) {
        self.region.store(in_region::HEARTBEAT, now_ns, Ordering::Relaxed);
    }

    /// Says when this worker beats. Beat first.
    pub fn promise(&self, beats: Beats) {
        let word = match beats {
            Beats::Never => 0,
            Beats::WhileIdle => 1,
            Beats::Always => 2,
        };
        // SYNC W4 → R4.
        self.region.store(in_region::BEATS, word, Ordering::Release);
    }

    /// How many connections can be marked.
    #[must_use]
    pub fn places(&self) -> usize {
        self.marks.count
    }

    /// Says that this worker keeps marks.
    pub fn keep_marks(&self) {
        self.region.store(in_region::KEEPING, 1, Ordering::Relaxed);
    }

    /// Gives a place to a connection. One thread at a time for each place, here and below.
    ///
    /// # Panics
    /// When there is no such place.
    pub fn occupy(&self, place: usize, conn: ConnId, sign: Sign) {
        self.marks.occupy(&self.region, place, conn, sign);
    }

    /// Says what the connection in a place does.
    ///
    /// # Panics
    /// When there is no such place.
    pub fn mark(&self, place: usize, sign: Sign) {
        self.marks.mark(&self.region, place, sign);
    }

    /// Says that nobody has a place any more.
    ///
    /// # Panics
    /// When there is no such place.
    pub fn vacate(&self, place: usize) {
        self.marks.vacate(&self.region, place);
    }

    /// Says how many connections this worker would hold.
    pub fn set_capacity(&self, connections: u64) {
        self.region.store(in_region::CAPACITY, connections, Ordering::Relaxed);
    }

    /// Says how many connections it holds.
    pub fn set_held(&self, connections: u64) {
        self.region.store(in_region::HELD, connections, Ordering::Relaxed);
    }

    /// Says how many connections this worker has accepted for itself, ever. One thread at a time.
    pub fn set_accepted(&self, connections: u64) {
        self.region.store(in_region::ACCEPTED, connections, Ordering::Relaxed);
    }

    /// Says how many of them are over without a record, ever. One thread at a time.
    pub fn set_unrecorded(&self, connections: u64) {
        // SYNC W5 → R5.
        self.region.store(in_region::UNRECORDED, connections, Ordering::Release);
    }

    /// Whether this worker may accept for itself.
    #[must_use]
    pub fn gate(&self) -> Gate {
        if self.gauges.load(in_gauges::GATE, Ordering::Relaxed) == 0 { Gate::Closed } else { Gate::Open }
    }

    /// How full the waiting line is, in thousandths of its limit.
    #[must_use]
    pub fn pressure(&self) -> u16 {
        u16::try_from(self.gauges.load(in_gauges::PRESSURE, Ordering::Relaxed)).unwrap_or(u16::MAX)
    }
}

/// Writes a completion and shows it.
impl Producer<COMPLETION_WORDS> {
    /// Reports one end. The answer tells whether to ring.
    ///
    /// # Errors
    /// [`Full`](crate::ring::Full): more ends than connections were handed out.
    pub fn report(&mut self, completion: &Completion) -> Result<crate::ring::Bell, crate::ring::Full> {
        self.push(&completion.to_words())?;
        Ok(self.publish())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::completion::Outcome;
    use crate::ids::ConnId;
    use crate::ring::Bell;
    use crate::sys::memory::on_the_heap;

    fn sides(records: u32) -> (SupervisorSide, WorkerSide) {
        let capacity = Capacity::at_least(records).unwrap();
        let (gauges, gauges_seen) = on_the_heap(GAUGES_WORDS);
        let (region, region_seen) = on_the_heap(region_words(capacity));
        let supervisor = SupervisorSide::new(gauges, region_seen, capacity);
        (supervisor, WorkerSide::new(gauges_seen, region).unwrap())
    }

    #[test]
    fn a_completion_travels_and_gauges_show_what_the_other_side_said() {
        let (mut supervisor, mut worker) = sides(2);
        let completion = Completion { conn: ConnId(3), outcome: Outcome::Panicked, claimed_at_ns: 10, done_at_ns: 20 };
        assert_eq!(worker.completions.report(&completion), Ok(Bell::Ring), "a new supervisor waits");
        assert_eq!(supervisor.completions.look(), Ok(1));
        assert_eq!(Completion::from_words(supervisor.completions.take().unwrap()), Ok(completion));

        assert_eq!(supervisor.hints(), Hints { heartbeat_ns: None, beats: Beats::Never, capacity: 0, held: 0 });
        worker.dials.beat(99);
        worker.dials.promise(Beats::Always);
        worker.dials.set_capacity(4);
        worker.dials.set_held(2);
        assert_eq!(supervisor.hints(), Hints { heartbeat_ns: Some(99), beats: Beats::Always, capacity: 4, held: 2 });
        worker.dials.promise(Beats::WhileIdle);
        assert_eq!(supervisor.hints().beats, Beats::WhileIdle);

        assert_eq!(supervisor.own(), Own::default());
        worker.dials.set_accepted(9);
        worker.dials.set_unrecorded(1);
        assert_eq!(supervisor.own(), Own { accepted: 9, unrecorded: 1 });

        assert_eq!((worker.dials.gate(), worker.dials.pressure()), (Gate::Closed, 0));
        supervisor.set_gate(Gate::Open);
        supervisor.set_pressure(1000);
        assert_eq!((worker.dials.gate(), worker.dials.pressure()), (Gate::Open, 1000));
    }

    #[cfg(not(miri))] // which has no memfd
    #[test]
    fn a_worker_maps_what_the_supervisor_made_and_can_not_write_the_gauges() {
        let mut shared = Shared::create(Capacity::at_least(3).unwrap()).unwrap();
        assert!(OwnMemory::map(&shared.gauges).is_err());
        let gauges = PeerMemory::map(&shared.gauges).unwrap();
        let mut worker = WorkerSide::new(gauges, OwnMemory::map(&shared.region).unwrap()).unwrap();
        let completion = Completion { conn: ConnId(1), outcome: Outcome::Done, claimed_at_ns: 2, done_at_ns: 3 };
        for _ in 0..4 {
            assert_eq!(worker.completions.report(&completion), Ok(Bell::Ring));
        }
        assert_eq!(worker.completions.report(&completion), Err(crate::ring::Full));
        assert_eq!(shared.side.completions.look(), Ok(4));
    }

    #[test]
    fn marks_travel_and_do_not_touch_the_records() {
        let (mut supervisor, mut worker) = sides(2);
        assert_eq!((supervisor.keeping(), worker.dials.places()), (Keeping::Nothing, 2));
        worker.dials.keep_marks();
        for (place, conn) in [(0, 5), (1, 6)] {
            worker.dials.occupy(place, ConnId(conn), Sign::Idle);
            let completion = Completion { conn: ConnId(conn), outcome: Outcome::Done, claimed_at_ns: 1, done_at_ns: 2 };
            let _ = worker.completions.report(&completion);
        }
        worker.dials.mark(1, Sign::Busy { since_ns: 77 });
        assert_eq!(supervisor.keeping(), Keeping::Marks);
        let marks: Vec<_> = supervisor.marks().collect();
        assert_eq!(marks, [(ConnId(5), Sign::Idle), (ConnId(6), Sign::Busy { since_ns: 77 })]);
        assert_eq!(supervisor.completions.look(), Ok(2));
        assert_eq!(supervisor.completions.take().unwrap()[0], 5);
        assert_eq!(supervisor.completions.take().unwrap()[0], 6);
        worker.dials.vacate(0);
        assert_eq!(supervisor.marks().count(), 1);
    }

    #[test]
    fn a_promise_that_does_not_exist_is_none() {
        let capacity = Capacity::at_least(1).unwrap();
        let (gauges, _) = on_the_heap(GAUGES_WORDS);
        let (region, region_seen) = on_the_heap(region_words(capacity));
        let supervisor = SupervisorSide::new(gauges, region_seen, capacity);
        region.store(in_region::BEATS, u64::MAX, Ordering::Relaxed);
        assert_eq!(supervisor.hints().beats, Beats::Never);
    }

    #[test]
    fn what_is_no_region_of_this_layout_is_refused() {
        let (gauges, seen) = on_the_heap(GAUGES_WORDS);
        let region = || on_the_heap(region_words(Capacity::at_least(4).unwrap())).0;
        let refused = |gauges: PeerMemory| WorkerSide::new(gauges, region()).unwrap_err();
        assert_eq!(refused(on_the_heap(1).1), BadRegion::Short { words: 1 });
        assert_eq!(refused(seen.clone()), BadRegion::Layout(0));
        gauges.store(in_gauges::LAYOUT, LAYOUT, Ordering::Relaxed);
        for claimed in [0, 3, 8, u64::MAX] {
            gauges.store(in_gauges::CAPACITY, claimed, Ordering::Relaxed);
            assert_eq!(refused(seen.clone()), BadRegion::Capacity(claimed));
        }
    }
}
