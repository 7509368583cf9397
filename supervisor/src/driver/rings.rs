//! Reads what workers report in shared memory, and sees to it that a doorbell rings only while the loop waits.
//!
//! A ring whose worker holds connections is *watched*: while the loop is awake the doorbell is silent, and the loop looks at
//! the ring by itself, once a turn. Before it waits it arms all watched rings and looks at them for the last time. A ring
//! whose worker holds nothing, or for which there is no room among the watched, stays armed: then every completion rings.
//!
//! Whatever a worker writes, a look costs at most a ringful, and reads inside the ring (I6).

use std::thread;

use ostler_shared::claims::Table;
use ostler_shared::completion::{BadOutcome, Completion};
use ostler_shared::marks::Sign;
use ostler_shared::region::{Beats, Gate, Hints, Keeping, Own, SupervisorSide};
use ostler_shared::ring::{Lie, before_waiting};
use ostler_shared::{ConnId, WorkerId};

/// Most rings that the loop looks at by itself, each turn. A look costs a few nanoseconds.
const WATCHED_MAX: usize = 128;
/// How many more times than it has reported something a worker may ring. A bell and the turn's own look can cross, so
/// that one bell per record is found empty; these are for bells that rang before the worker broke off.
const IDLE_BELLS_MAX: u64 = 64;

/// How often an unmodified program may say for nothing that something has changed. It is many processes, each of which does
/// what it must when it forks; a look costs microseconds.
const IDLE_CHANGES_MAX: u64 = 65_536;
/// And so many times more for each connection that has ended.
const CHANGES_PER_RECORD: u64 = 64;

/// A ring's place in the table; reused after its worker's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RingNo(usize);

/// Whether there is something to read before the loop may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    Some,
    None,
}

/// Whether what a worker reports is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    Given,
    /// It broke the protocol.
    Gone,
}

/// What a worker did to its ring.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lied {
    #[error("claims {0}")]
    Header(#[from] Lie),
    #[error("reported {0}")]
    Outcome(#[from] BadOutcome),
    #[error("rang its doorbell {IDLE_BELLS_MAX} times for nothing")]
    Bell,
    #[error("changed its table {IDLE_CHANGES_MAX} times for nothing")]
    Table,
}

/// What a worker reports in.
#[derive(Debug)]
pub(crate) enum Side {
    /// One on the library, in a ring.
    Library(SupervisorSide),
    /// An unmodified program, in a table: whoever can't keep an order is not read in one.
    Unmodified(Table),
}

impl From<SupervisorSide> for Side {
    fn from(side: SupervisorSide) -> Side {
        Side::Library(side)
    }
}

impl Side {
    fn arm(&self) {
        match self {
            Side::Library(side) => side.completions.arm(),
            Side::Unmodified(table) => table.arm(),
        }
    }

    fn disarm(&self) {
        match self {
            Side::Library(side) => side.completions.disarm(),
            Side::Unmodified(table) => table.disarm(),
        }
    }

    fn has_news(&self) -> bool {
        match self {
            Side::Library(side) => side.completions.has_news(),
            Side::Unmodified(table) => table.has_news(),
        }
    }

    fn take(&mut self, completions: &mut Vec<Completion>) -> Result<(), Lied> {
        match self {
            Side::Library(side) => {
                side.completions.look()?;
                while let Some(record) = side.completions.take() {
                    completions.push(Completion::from_words(record)?);
                }
                side.completions.release();
            }
            Side::Unmodified(table) => table.take(completions)?,
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Ring {
    worker: WorkerId,
    side: Side,
    trust: Trust,
    /// Connections that the worker was handed and has neither completed nor given back.
    outstanding: usize,
    /// Its place among the watched.
    watched_at: Option<usize>,
    bells: u64,
    records: u64,
    /// Looks at a table that found nothing.
    idle_looks: u64,
}

impl Ring {
    /// How often a worker may want to be looked at.
    fn patience(&self) -> u64 {
        match self.side {
            Side::Library(_) => self.records + IDLE_BELLS_MAX,
            Side::Unmodified(_) => self.records.saturating_mul(CHANGES_PER_RECORD) + IDLE_CHANGES_MAX,
        }
    }
}

/// The rings of all workers.
#[derive(Debug, Default)]
pub(crate) struct Rings {
    rings: Vec<Option<Ring>>,
    free: Vec<RingNo>,
    watched: Vec<RingNo>,
}

impl Rings {
    /// Takes a new worker's ring.
    pub(crate) fn open(&mut self, worker: WorkerId, side: impl Into<Side>) -> RingNo {
        let ring = Ring {
            worker,
            side: side.into(),
            trust: Trust::Given,
            outstanding: 0,
            watched_at: None,
            bells: 0,
            records: 0,
            idle_looks: 0,
        };
        let no = self.free.pop().unwrap_or(RingNo(self.rings.len()));
        if no.0 == self.rings.len() {
            self.rings.push(None);
        }
        self.rings[no.0] = Some(ring);
        no
    }

    /// Nothing more is read from this ring. Watched, what lies in it would be news for ever, and the loop would never wait.
    pub(crate) fn distrust(&mut self, no: RingNo) {
        self.unwatch(no);
        self.ring_mut(no).trust = Trust::Gone;
    }

    /// Lets a ring and its memory go.
    pub(crate) fn close(&mut self, no: RingNo) {
        self.unwatch(no);
        self.rings[no.0] = None;
        self.free.push(no);
    }

    pub(crate) fn set_gate(&self, no: RingNo, gate: Gate) {
        match &self.ring(no).side {
            Side::Library(side) => side.set_gate(gate),
            Side::Unmodified(_) => {}
        }
    }

    pub(crate) fn set_pressure(&self, no: RingNo, thousandths: u16) {
        match &self.ring(no).side {
            Side::Library(side) => side.set_pressure(thousandths),
            Side::Unmodified(table) => table.set_pressure(thousandths),
        }
    }

    pub(crate) fn hints(&self, no: RingNo) -> Hints {
        match &self.ring(no).side {
            Side::Library(side) => side.hints(),
            // It promises nothing: nobody can expect a program to wait for connections.
            Side::Unmodified(table) => {
                Hints { heartbeat_ns: table.heartbeat_ns(), beats: Beats::Never, capacity: 0, held: 0 }
            }
        }
    }

    /// What a worker that accepts for itself says of that.
    pub(crate) fn own(&self, no: RingNo) -> Own {
        let ring = self.ring(no);
        match &ring.side {
            Side::Library(side) if ring.trust == Trust::Given => side.own(),
            Side::Library(_) | Side::Unmodified(_) => Own::default(),
        }
    }

    /// Nobody rings here until [`Rings::listen`].
    pub(crate) fn hush(&self, no: RingNo) {
        self.ring(no).side.disarm();
    }

    /// A doorbell rings here again; what was said meanwhile is news.
    pub(crate) fn listen(&self, no: RingNo) -> News {
        let side = &self.ring(no).side;
        side.arm();
        before_waiting();
        if side.has_news() { News::Some } else { News::None }
    }

    /// The table of an unmodified program.
    pub(crate) fn table(&self, no: RingNo) -> Option<&Table> {
        match &self.ring(no).side {
            Side::Library(_) => None,
            Side::Unmodified(table) => Some(table),
        }
    }

    /// The same, to settle something in it; `None` as well when its program is not believed any more.
    pub(crate) fn believed_table(&mut self, no: RingNo) -> Option<&mut Table> {
        let ring = self.ring_mut(no);
        match (&mut ring.side, ring.trust) {
            (Side::Unmodified(table), Trust::Given) => Some(table),
            (Side::Unmodified(_), Trust::Gone) | (Side::Library(_), _) => None,
        }
    }

    pub(crate) fn marks(&self, no: RingNo) -> impl Iterator<Item = (ConnId, Sign)> {
        let side = match &self.ring(no).side {
            Side::Library(side) => Some(side),
            Side::Unmodified(_) => None,
        };
        side.into_iter().flat_map(SupervisorSide::marks)
    }

    /// The signal at which a worker prints its stacks.
    pub(crate) fn stacks(&self, no: RingNo) -> Option<i32> {
        let ring = self.ring(no);
        match (&ring.side, ring.trust) {
            (Side::Library(side), Trust::Given) => side.stacks(),
            (Side::Library(_), Trust::Gone) | (Side::Unmodified(_), _) => None,
        }
    }

    pub(crate) fn keeping(&self, no: RingNo) -> Keeping {
        match &self.ring(no).side {
            Side::Library(side) => side.keeping(),
            Side::Unmodified(_) => Keeping::Nothing,
        }
    }

    /// A worker was handed a connection: its completion is expected.
    pub(crate) fn handed(&mut self, no: RingNo) {
        let room = self.watched.len() < WATCHED_MAX;
        let place = self.watched.len();
        let ring = self.ring_mut(no);
        ring.outstanding += 1;
        if ring.watched_at.is_none() && ring.trust == Trust::Given && room {
            ring.watched_at = Some(place);
            ring.side.disarm();
            self.watched.push(no);
        }
    }

    /// A worker gave back `count` connections, completed or not.
    pub(crate) fn returned(&mut self, no: RingNo, count: usize) {
        let ring = self.ring_mut(no);
        // A worker that reports more than it has is a liar, and the pool says so; here it is only done.
        ring.outstanding = ring.outstanding.saturating_sub(count);
        if ring.outstanding == 0 {
            self.unwatch(no);
        }
    }

    fn unwatch(&mut self, no: RingNo) {
        let ring = self.ring_mut(no);
        let Some(place) = ring.watched_at.take() else { return };
        ring.side.arm();
        self.watched.swap_remove(place);
        if let Some(moved) = self.watched.get(place).copied() {
            self.ring_mut(moved).watched_at = Some(place);
        }
    }

    fn have_news(&self) -> bool {
        self.watched.iter().any(|no| self.ring(*no).side.has_news())
    }

    /// Lets workers run that hold something, then arms their rings; what is there by then must be read before the loop may wait.
    pub(crate) fn before_waiting(&self) -> News {
        if self.watched.is_empty() {
            return News::None;
        }
        if self.have_news() {
            return News::Some;
        }
        // What they report meanwhile needs no bell and no wake-up (docs/decisions/0018-the-loop-gives-way.md).
        thread::yield_now();
        for no in &self.watched {
            self.ring(*no).side.arm();
        }
        before_waiting();
        if self.have_news() { News::Some } else { News::None }
    }

    /// The loop looks by itself from here on.
    pub(crate) fn after_waiting(&self) {
        for no in &self.watched {
            self.ring(*no).side.disarm();
        }
    }

    /// Collects the watched rings that have something to say.
    pub(crate) fn with_news(&self, found: &mut Vec<(RingNo, WorkerId)>) {
        let watched = self.watched.iter().map(|no| (*no, self.ring(*no)));
        found.extend(watched.filter(|(_, ring)| ring.side.has_news()).map(|(no, ring)| (no, ring.worker)));
    }

    /// Takes what is in a ring now, if its worker is believed. On a lie, what came before it is in `completions` and holds.
    pub(crate) fn take(&mut self, no: RingNo, completions: &mut Vec<Completion>) -> Result<(), Lied> {
        let ring = self.ring_mut(no);
        if ring.trust == Trust::Gone {
            return Ok(());
        }
        let before = completions.len();
        ring.side.take(completions)?;
        let taken = (completions.len() - before) as u64;
        ring.records += taken;
        if taken > 0 || matches!(ring.side, Side::Library(_)) {
            return Ok(());
        }
        ring.idle_looks += 1;
        if ring.idle_looks > ring.patience() { Err(Lied::Table) } else { Ok(()) }
    }

    /// Notes that a doorbell rang.
    pub(crate) fn rung(&mut self, no: RingNo) -> Result<(), Lied> {
        let ring = self.ring_mut(no);
        ring.bells += 1;
        if ring.bells > ring.patience() { Err(Lied::Bell) } else { Ok(()) }
    }

    fn ring(&self, no: RingNo) -> &Ring {
        self.rings[no.0].as_ref().expect("a ring stays while its worker is known")
    }

    fn ring_mut(&mut self, no: RingNo) -> &mut Ring {
        self.rings[no.0].as_mut().expect("a ring stays while its worker is known")
    }
}

#[cfg(test)]
mod tests {
    use ostler_shared::completion::Outcome;
    use ostler_shared::region::{GAUGES_WORDS, WorkerSide, region_words};
    use ostler_shared::ring::{Bell, Capacity};
    use ostler_shared::sys::memory::{OwnMemory, on_the_heap};

    use super::*;

    const CAPACITY: u32 = 2;

    fn open(rings: &mut Rings, worker: u64) -> (RingNo, WorkerSide, OwnMemory) {
        let capacity = Capacity::at_least(CAPACITY).unwrap();
        let (gauges, gauges_seen) = on_the_heap(GAUGES_WORDS);
        let (region, region_seen) = on_the_heap(region_words(capacity));
        let no = rings.open(WorkerId(worker), SupervisorSide::new(gauges, region_seen, capacity));
        (no, WorkerSide::new(gauges_seen, region.clone()).unwrap(), region)
    }

    fn done(conn: u64) -> Completion {
        Completion { conn: ConnId(conn), outcome: Outcome::Done, claimed_at_ns: 1, done_at_ns: 2 }
    }

    fn found(rings: &Rings) -> Vec<WorkerId> {
        let mut found = Vec::new();
        rings.with_news(&mut found);
        found.into_iter().map(|(_, worker)| worker).collect()
    }

    #[test]
    fn a_doorbell_is_silent_while_the_loop_is_awake_and_rings_while_it_waits() {
        let mut rings = Rings::default();
        let (no, mut worker, _) = open(&mut rings, 1);
        rings.handed(no);
        rings.handed(no);
        assert!(!rings.have_news());
        assert_eq!(worker.completions.report(&done(1)), Ok(Bell::Silent));
        assert!(rings.have_news(), "there is something to read");
        assert_eq!((rings.before_waiting(), found(&rings)), (News::Some, vec![WorkerId(1)]));
        rings.after_waiting();
        let mut completions = Vec::new();
        rings.take(no, &mut completions).unwrap();
        assert_eq!((completions, found(&rings)), (vec![done(1)], vec![]));
        rings.returned(no, 1);
        assert!(!rings.have_news(), "there is one more, and it is not over");
        assert_eq!(rings.before_waiting(), News::None);
        assert_eq!(worker.completions.report(&done(2)), Ok(Bell::Ring));
    }

    #[test]
    fn a_ring_that_is_not_watched_stays_armed() {
        let mut rings = Rings::default();
        let mut workers: Vec<_> = (0..=WATCHED_MAX as u64).map(|worker| open(&mut rings, worker)).collect();
        for (no, ..) in &workers {
            rings.handed(*no);
        }
        let bells: Vec<Bell> =
            workers.iter_mut().map(|(_, worker, _)| worker.completions.report(&done(1)).unwrap()).collect();
        assert_eq!(bells.iter().filter(|bell| **bell == Bell::Ring).count(), 1, "the last one found no room");
        assert_eq!(found(&rings).len(), WATCHED_MAX);
        for (no, ..) in &workers {
            rings.returned(*no, 1);
        }
        assert!(found(&rings).is_empty());
        for (_, worker, _) in &mut workers {
            assert_eq!(worker.completions.report(&done(2)), Ok(Bell::Ring), "holding nothing, it has to ring");
        }
    }

    #[test]
    fn a_place_in_the_table_is_used_again_by_a_ring_that_knows_nothing_of_the_last() {
        let mut rings = Rings::default();
        let (first, ..) = open(&mut rings, 1);
        let (second, ..) = open(&mut rings, 2);
        rings.handed(first);
        rings.handed(second);
        rings.close(first);
        let (third, mut worker, _) = open(&mut rings, 3);
        assert_eq!(third, first);
        assert_eq!(worker.completions.report(&done(1)), Ok(Bell::Ring));
        rings.returned(second, 1);
        rings.close(second);
        assert!(found(&rings).is_empty());
    }

    #[test]
    fn a_lie_keeps_what_was_true_before_it() {
        let mut rings = Rings::default();
        let (no, mut worker, region) = open(&mut rings, 1);
        let _ = worker.completions.report(&done(1)).unwrap();
        let mut nonsense = done(2).to_words();
        nonsense[3] = 77;
        worker.completions.push(&nonsense).unwrap();
        let _ = worker.completions.publish();
        let mut completions = Vec::new();
        assert!(matches!(rings.take(no, &mut completions), Err(Lied::Outcome(BadOutcome(77)))));
        assert_eq!(completions, [done(1)]);

        let header = (0..region.words()).find(|at| *at % 16 == 0 && *at > 0).unwrap();
        region.store(header, 1 << 40, std::sync::atomic::Ordering::Relaxed);
        assert!(matches!(rings.take(no, &mut completions), Err(Lied::Header(_))));
    }

    #[test]
    fn a_ring_that_is_not_believed_any_more_is_neither_read_nor_news() {
        let mut rings = Rings::default();
        let (no, mut worker, _) = open(&mut rings, 1);
        rings.handed(no);
        rings.distrust(no);
        rings.handed(no);
        let _ = worker.completions.report(&done(1)).unwrap();
        assert_eq!((rings.before_waiting(), found(&rings)), (News::None, vec![]));
        let mut completions = Vec::new();
        rings.take(no, &mut completions).unwrap();
        assert_eq!(completions, []);
        rings.close(no);
    }

    #[test]
    fn bells_that_announce_nothing_are_counted() {
        let mut rings = Rings::default();
        let (no, mut worker, _) = open(&mut rings, 1);
        let _ = worker.completions.report(&done(1)).unwrap();
        rings.take(no, &mut Vec::new()).unwrap();
        let heard = (0..=IDLE_BELLS_MAX).take_while(|_| rings.rung(no).is_ok()).count() as u64;
        assert_eq!(heard, IDLE_BELLS_MAX + 1);
        assert!(matches!(rings.rung(no), Err(Lied::Bell)));
    }
}
