//! Lays a ring out in each direction between two processes, each of which writes one memory.
//!
//! ```text
//! line 0  published   line 1  consumed, waiting   line 2…  records
//! ```
//! Both memories look like this, so that the same places serve both directions. Lines are as in the region.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use ostler_shared::ring::{Capacity, Consumer, Place, Producer};
use ostler_shared::sys::memory::{OwnMemory, PeerMemory, read_only, sealed};

use crate::record::WORDS;

/// Records of a ring: as many as fit into a pipe of 64 KiB.
pub(crate) const CAPACITY: u32 = 1024;

/// Words of two cache lines: the prefetcher of x86 fetches lines in pairs.
const LINE: usize = 16;

/// The memory that this process writes, and how the other one gets at both.
pub(crate) struct Pair {
    pub(crate) own: OwnMemory,
    pub(crate) peer: PeerMemory,
    /// Ours, for the other process to read.
    pub(crate) ours_to_read: OwnedFd,
    /// The other process's own.
    pub(crate) theirs: OwnedFd,
}

impl Pair {
    pub(crate) fn create() -> io::Result<Pair> {
        let (ours, theirs) = (sealed(c"bench-ring", words())?, sealed(c"bench-ring", words())?);
        let ours_to_read = read_only(ours.as_fd())?;
        Ok(Pair { own: OwnMemory::map(&ours)?, peer: PeerMemory::map(&theirs)?, ours_to_read, theirs })
    }
}

/// The ring out of our memory.
pub(crate) fn producer(own: &OwnMemory, peer: &PeerMemory) -> Producer<WORDS> {
    Producer::new(own.clone(), peer.clone(), place())
}

/// The ring into our memory.
pub(crate) fn consumer(own: &OwnMemory, peer: &PeerMemory) -> Consumer<WORDS> {
    Consumer::new(own.clone(), peer.clone(), place())
}

fn place() -> Place {
    let capacity = Capacity::at_least(CAPACITY).expect("below the largest");
    Place { published: 0, consumed: LINE, waiting: LINE + 1, records: 2 * LINE, capacity }
}

fn words() -> usize {
    let capacity = usize::try_from(place().capacity.records()).expect("a ring fits in memory");
    2 * LINE + capacity * WORDS
}
