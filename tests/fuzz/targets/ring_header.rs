//! Plays both ends of a region while somebody scribbles over it.
//!
//! The bytes are a script: the capacity, then steps. As long as no step was a lie, a plain queue says what has to come
//! out. From the first lie on only this holds: no panic, no access outside (the heap's guard tells), and between two looks
//! no more work than the ring has records.
#![no_main]

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use libfuzzer_sys::fuzz_target;
use ostler_shared::completion::{COMPLETION_WORDS, Completion};
use ostler_shared::region::{GAUGES_WORDS, Gate, SupervisorSide, WorkerSide, region_words};
use ostler_shared::ring::{Bell, Capacity, Full, before_waiting};
use ostler_shared::sys::memory::{OwnMemory, PeerMemory, on_the_heap};

/// Largest ring in these scripts, as a power of two: small ones wrap soon.
const CAPACITY_BITS_MAX: u8 = 5;

fuzz_target!(|bytes: &[u8]| {
    let mut script = Script(bytes);
    let Some(bits) = script.byte() else { return };
    let capacity = Capacity::at_least(1 << (bits % (CAPACITY_BITS_MAX + 1))).expect("a small one");
    let mut table = Table::lay(capacity);
    while let Some(step) = script.byte() {
        table.play(step, &mut script);
    }
});

/// What is left of the script.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A word of eight bytes, or of what is left.
    fn word(&mut self) -> u64 {
        (0..8).fold(0, |word, shift| word | u64::from(self.byte().unwrap_or(0)) << (8 * shift))
    }
}

type Record = [u64; COMPLETION_WORDS];

/// What has to come out, while everybody is honest.
struct Oracle {
    queue: VecDeque<Record>,
    /// Of the queue, how many were published.
    published: usize,
    /// Of the published, how many the consumer has looked at.
    seen: usize,
    /// Slots that the producer may not write yet.
    used: usize,
    /// Of these, how many the next release gives back.
    taken: usize,
    waiting: bool,
}

struct Table {
    capacity: usize,
    /// The memories as a scribbler has them, who keeps to no side.
    gauges: OwnMemory,
    gauges_seen: PeerMemory,
    region: OwnMemory,
    supervisor: SupervisorSide,
    worker: WorkerSide,
    /// `None` after the first lie.
    oracle: Option<Oracle>,
    /// How much may be taken before the next look.
    allowance: usize,
}

impl Table {
    fn lay(capacity: Capacity) -> Table {
        let (gauges, gauges_seen) = on_the_heap(GAUGES_WORDS);
        let (region, region_seen) = on_the_heap(region_words(capacity));
        let supervisor = SupervisorSide::new(gauges.clone(), region_seen, capacity);
        let worker = WorkerSide::new(gauges_seen.clone(), region.clone()).expect("both were made for each other");
        // A new supervisor waits.
        let oracle = Oracle { queue: VecDeque::new(), published: 0, seen: 0, used: 0, taken: 0, waiting: true };
        let capacity = capacity.records() as usize;
        Table { capacity, gauges, gauges_seen, region, supervisor, worker, oracle: Some(oracle), allowance: 0 }
    }

    fn play(&mut self, step: u8, script: &mut Script<'_>) {
        match step % 10 {
            0 => self.scribble(&self.region.clone(), script),
            1 => self.scribble(&self.gauges.clone(), script),
            2 => self.look(),
            3 => self.take(),
            4 => self.release(),
            5 | 6 => self.push([script.word(), u64::from(step), 0, u64::from(step % 4)]),
            7 => self.publish(),
            8 => self.wait(),
            _ => self.chat(script),
        }
    }

    fn scribble(&mut self, memory: &OwnMemory, script: &mut Script<'_>) {
        let at = usize::from(script.byte().unwrap_or(0)) % memory.words();
        memory.store(at, script.word(), Ordering::Relaxed);
        self.oracle = None;
    }

    fn look(&mut self) {
        let found = self.supervisor.completions.look();
        if let Some(oracle) = &mut self.oracle {
            oracle.seen = oracle.published;
            assert_eq!(found, Ok(oracle.published as u64));
        }
        if let Ok(count) = found {
            self.allowance = usize::try_from(count).expect("bounded by the capacity");
            assert!(self.allowance <= self.capacity, "{count} records in a ring of {}", self.capacity);
        }
    }

    fn take(&mut self) {
        let record = self.supervisor.completions.take();
        if let Some(oracle) = &mut self.oracle {
            assert_eq!(record, if oracle.seen > 0 { oracle.queue.pop_front() } else { None });
            let count = usize::from(record.is_some());
            oracle.seen -= count;
            oracle.published -= count;
            oracle.taken += count;
        }
        if let Some(record) = record {
            self.allowance = self.allowance.checked_sub(1).expect("no more than the last look found");
            if let Ok(completion) = Completion::from_words(record) {
                assert_eq!(completion.to_words(), record);
            }
        }
    }

    fn release(&mut self) {
        self.supervisor.completions.release();
        if let Some(oracle) = &mut self.oracle {
            oracle.used -= std::mem::take(&mut oracle.taken);
        }
    }

    fn push(&mut self, record: Record) {
        let pushed = self.worker.completions.push(&record);
        if let Some(oracle) = &mut self.oracle {
            assert_eq!(pushed, if oracle.used < self.capacity { Ok(()) } else { Err(Full) });
            if pushed.is_ok() {
                oracle.queue.push_back(record);
                oracle.used += 1;
            }
        }
    }

    fn publish(&mut self) {
        let bell = self.worker.completions.publish();
        if let Some(oracle) = &mut self.oracle {
            let news = oracle.queue.len() > oracle.published;
            assert_eq!(bell, if news && oracle.waiting { Bell::Ring } else { Bell::Silent });
            oracle.published = oracle.queue.len();
        }
    }

    /// As the supervisor's loop does around its wait.
    fn wait(&mut self) {
        self.supervisor.completions.arm();
        before_waiting();
        let news = self.supervisor.completions.has_news();
        if let Some(oracle) = &mut self.oracle {
            assert_eq!(news, oracle.published > 0, "it would sleep beside a record, or never sleep");
            oracle.waiting = !news;
        }
        if news {
            self.supervisor.completions.disarm();
        }
    }

    /// The gauges: whatever they hold can be read.
    fn chat(&mut self, script: &mut Script<'_>) {
        let said = script.word();
        self.worker.dials.beat(said);
        self.worker.dials.set_held(said);
        let hints = self.supervisor.hints();
        assert_eq!((hints.heartbeat_ns, hints.held), (Some(said).filter(|at| *at != 0), said));
        self.supervisor.set_gate(Gate::Open);
        self.supervisor.set_pressure(1000);
        assert_eq!((self.worker.dials.gate(), self.worker.dials.pressure()), (Gate::Open, 1000));
        self.join_late();
    }

    /// A worker that meets these memories as they are now refuses them, or stays inside.
    fn join_late(&self) {
        let (region, _) = on_the_heap(self.region.words());
        let Ok(mut worker) = WorkerSide::new(self.gauges_seen.clone(), region) else { return };
        for _ in 0..=self.capacity {
            let _full_or_not = worker.completions.push(&[0; COMPLETION_WORDS]);
        }
    }
}
