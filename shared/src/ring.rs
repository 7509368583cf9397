//! Carries fixed-size records from one process to another through shared memory, in order, without a lock.
//!
//! One producer, one consumer. Each side writes its own memory only: the producer the records and how many it has
//! published, the consumer how many it has consumed. Both counts only grow; a record's slot is its number modulo the
//! capacity, a power of two.
//!
//! ```text
//!            producer's memory                          consumer's memory
//!   published ─┐                                 consumed ─┐   waiting
//!              ▼                                           ▼
//!   [ r4 | r5 | r6 | .. ]      W1 ──► R1           [ consumed, waiting ]      R2 ──► W2
//! ```
//!
//! | pair | says |
//! |---|---|
//! | W1 → R1 | `published` (release) after the records; read (acquire) before the records are copied |
//! | R2 → W2 | `consumed` (release) after the records were copied; read (acquire) before their slots are written again |
//! | F1 ⇄ F2 | a full fence on either side between *say it* and *look*: the producer publishes, then looks whether the consumer waits; the consumer says that it waits, then looks for records. At least one of them sees the other. |
//!
//! # At the limits
//! * *Full*: [`Producer::push`] answers [`Full`] and changes nothing. In ostler that can't happen between honest sides,
//!   since a ring is as large as the credit that its records give back.
//! * *A lie*: a count of published records that the ring can't hold, or that went back, is a [`Lie`]; nothing is read. Whatever the
//!   other side writes, the consumer reads inside the ring and does work bounded by its capacity.
//! * *Death in the middle*: a record counts when it is published. What a producer was writing when it died is not seen.

use std::num::NonZeroU32;

use crate::sync::{Ordering, fence};
use crate::sys::memory::{OwnMemory, PeerMemory};

/// Where a ring lies: word indices in the two memories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// In the producer's memory: how many records it has published.
    pub published: usize,
    /// In the producer's memory: the first word of the first record.
    pub records: usize,
    /// In the consumer's memory: how many records it has consumed.
    pub consumed: usize,
    /// In the consumer's memory: whether it waits for a doorbell.
    pub waiting: usize,
    /// How many records the ring holds.
    pub capacity: Capacity,
}

/// How many records a ring holds: a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity(NonZeroU32);

/// Most records of a ring.
pub const CAPACITY_MAX: u32 = 1 << 24;

impl Capacity {
    /// The smallest capacity that holds `records`; `None` above [`CAPACITY_MAX`].
    #[must_use]
    pub fn at_least(records: u32) -> Option<Capacity> {
        let records = records.max(1);
        if records > CAPACITY_MAX {
            return None;
        }
        NonZeroU32::new(records.next_power_of_two()).map(Capacity)
    }

    /// The capacity that the other side claims; `None` when it is not one.
    #[must_use]
    pub fn claimed(records: u64) -> Option<Capacity> {
        let exact = Capacity::at_least(u32::try_from(records).ok()?)?;
        (u64::from(exact.records()) == records).then_some(exact)
    }

    /// In records.
    #[must_use]
    pub fn records(self) -> u32 {
        self.0.get()
    }

    fn slot(self, number: u64) -> usize {
        // Below 2^24, so that it fits any usize.
        (number & u64::from(self.0.get() - 1)) as usize
    }
}

/// There is no free slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ring is full")]
pub struct Full;

/// The producer claims what can't be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a ring of {capacity} records of which {published} are published and {consumed} consumed")]
pub struct Lie {
    /// What the producer's memory says.
    pub published: u64,
    /// What the consumer knows.
    pub consumed: u64,
    /// How many records the ring holds.
    pub capacity: u32,
}

/// Whether the consumer has to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a consumer that waits hears of new records by its doorbell alone"]
pub enum Bell {
    /// It waits: ring.
    Ring,
    /// It will look by itself.
    Silent,
}

/// The side that writes records of `W` words.
#[derive(Debug)]
pub struct Producer<const W: usize> {
    own: OwnMemory,
    peer: PeerMemory,
    place: Place,
    /// Records written, published or not.
    written: u64,
    /// Of these, how many the consumer can see.
    published: u64,
    /// As last read: there is room for at least what this says.
    consumed: u64,
}

impl<const W: usize> Producer<W> {
    /// Begins an empty ring. Both memories must be new: all zero.
    #[must_use]
    pub fn new(own: OwnMemory, peer: PeerMemory, place: Place) -> Producer<W> {
        Producer { own, peer, place, written: 0, published: 0, consumed: 0 }
    }

    /// Writes a record that nobody sees before [`Producer::publish`]. A batch is several of these.
    ///
    /// # Errors
    /// [`Full`]: nothing was written.
    #[inline]
    pub fn push(&mut self, record: &[u64; W]) -> Result<(), Full> {
        if self.room() == 0 {
            // SYNC R2 → W2: the slots of what is consumed are ours again.
            self.consumed = self.peer.load(self.place.consumed, Ordering::Acquire);
            if self.room() == 0 {
                return Err(Full);
            }
        }
        self.own.store_row(self.place.records + self.place.capacity.slot(self.written) * W, record);
        self.written += 1;
        Ok(())
    }

    /// How many records fit as far as we know. A consumer that claims too much gives no room (it is at fault then).
    fn room(&self) -> u64 {
        let capacity = u64::from(self.place.capacity.records());
        match self.written.checked_sub(self.consumed) {
            Some(used) => capacity.saturating_sub(used),
            None => 0,
        }
    }

    /// Shows what was written, and tells whether the consumer has to be woken.
    #[inline]
    pub fn publish(&mut self) -> Bell {
        if self.published == self.written {
            return Bell::Silent;
        }
        self.publish_quietly();
        // SYNC F1 ⇄ F2: first publish, then look whether somebody waits.
        fence(Ordering::SeqCst);
        if self.peer.load(self.place.waiting, Ordering::Relaxed) == 0 { Bell::Silent } else { Bell::Ring }
    }

    /// Shows what was written to a consumer that never waits, without the fence.
    #[inline]
    pub fn publish_quietly(&mut self) {
        self.published = self.written;
        // SYNC W1 → R1: publishes the records.
        self.own.store(self.place.published, self.published, Ordering::Release);
    }
}

/// The side that reads records of `W` words.
#[derive(Debug)]
pub struct Consumer<const W: usize> {
    own: OwnMemory,
    peer: PeerMemory,
    place: Place,
    consumed: u64,
    /// As last read and believed.
    published: u64,
}

impl<const W: usize> Consumer<W> {
    /// Begins an empty ring. Both memories must be new: all zero.
    #[must_use]
    pub fn new(own: OwnMemory, peer: PeerMemory, place: Place) -> Consumer<W> {
        Consumer { own, peer, place, consumed: 0, published: 0 }
    }

    /// Reads once how many records there are. Then [`Consumer::take`] takes these and no more, which bounds the work that
    /// a producer in a hurry can cause.
    ///
    /// # Errors
    /// [`Lie`]: the ring must not be read any more.
    #[inline]
    pub fn look(&mut self) -> Result<u64, Lie> {
        // SYNC W1 → R1: the records are there.
        let published = self.peer.load(self.place.published, Ordering::Acquire);
        let capacity = self.place.capacity.records();
        match published.checked_sub(self.consumed) {
            // What was seen once can't be unsaid.
            Some(count) if count <= u64::from(capacity) && published >= self.published => {
                self.published = published;
                Ok(count)
            }
            Some(_) | None => Err(Lie { published, consumed: self.consumed, capacity }),
        }
    }

    /// Copies the next record out of what [`Consumer::look`] found.
    #[inline]
    pub fn take(&mut self) -> Option<[u64; W]> {
        if self.consumed == self.published {
            return None;
        }
        let record = self.peer.load_row(self.place.records + self.place.capacity.slot(self.consumed) * W);
        self.consumed += 1;
        Some(record)
    }

    /// Gives the slots of what was taken back to the producer.
    #[inline]
    pub fn release(&mut self) {
        // SYNC R2 → W2: the records were copied.
        self.own.store(self.place.consumed, self.consumed, Ordering::Release);
    }

    /// Says that the producer has to ring from now on. Follow it by [`before_waiting`] and [`Consumer::has_news`].
    #[inline]
    pub fn arm(&self) {
        self.own.store(self.place.waiting, 1, Ordering::Relaxed);
    }

    /// Says that we look by ourselves. A bell that rings all the same does no harm.
    #[inline]
    pub fn disarm(&self) {
        self.own.store(self.place.waiting, 0, Ordering::Relaxed);
    }

    /// Whether something was published that is not taken yet; a lie is news as well.
    #[inline]
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.peer.load(self.place.published, Ordering::Relaxed) != self.consumed
    }
}

/// Stands between arming any number of rings and looking at them for the last time before a wait.
#[inline]
pub fn before_waiting() {
    // SYNC F2 ⇄ F1: first say that we wait, then look.
    fence(Ordering::SeqCst);
}

#[cfg(all(test, not(loom)))]
#[path = "ring_tests.rs"]
mod tests;

#[cfg(all(test, loom))]
#[path = "ring_loom.rs"]
mod loom_tests;
