//! Takes connections out of the kernel's queues, and at a stop takes the last ones.

use std::sync::Arc;
use std::time::Duration;

use ostler_pool::{Event, Moment, PoolNo, Uid};
use ostler_shared::sys::clock::monotonic_ns;
use ostler_shared::ticket::Family;
use ostler_shared::{ConnId, Ticket};

use super::Driver;
use super::doors::{Door, Fate, Taker};
use super::listeners::{Accept, Tenure, Waiting};
use super::parking::Parked;
use super::sources::Source;

/// Most connections that one listener gives before the loop looks at the rest.
const ACCEPT_BATCH_MAX: usize = 64;
/// After a TCP listener refuses new connections, those that were shaking hands arrive within this time.
const LAST_HANDSHAKES: Duration = Duration::from_millis(100);

/// How often a queue is looked at that workers are to empty.
const EMPTYING_LOOK: Duration = Duration::from_millis(5);

/// Whether the loop waits for connections at a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    On,
    Off,
}

/// Whether new clients may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Yes.
    Open,
    /// No; who waits is still accepted, until this moment at the earliest.
    Refusing { until: Moment },
    /// No; who waits is taken by workers, for so long at the least.
    Emptying { until: Moment },
    /// Yes, but not to us: accepting ends at the next turn, and who waits is the next holder's.
    Left,
    /// No, and nobody waits any more, or waits for us.
    Empty,
}

/// How a batch of accepts ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Batch {
    /// Nobody waits.
    Empty,
    /// Somebody may wait.
    More,
}

impl Driver {
    /// Accepts what waits at a listener, at most one batch, as long as the pool wants more.
    pub(super) fn accept(&mut self, number: u64) {
        self.accept_batch(number);
    }

    fn accept_batch(&mut self, number: u64) -> Batch {
        for _ in 0..ACCEPT_BATCH_MAX {
            // What a connection brings about may change the doors.
            let Some(door) = self.doors.get(number).filter(|door| door.watch == Watch::On) else { return Batch::More };
            let pool = door.pool;
            match door.listener.accept() {
                Accept::Connection(connection, caller) => {
                    let place = Arc::clone(&door.place);
                    self.next_conn += 1;
                    let peer = caller.peer();
                    let ticket = Ticket {
                        conn: ConnId(self.next_conn),
                        listener: door.index,
                        family: door.listener.family,
                        // The kernel's time, absences included: the worker compares it with its own clock.
                        accepted_at_ns: monotonic_ns(),
                        peer,
                    };
                    let uid = peer.map(|peer| Uid(peer.uid));
                    self.visit_begins(place, &ticket, caller);
                    self.parking.park(Parked { connection, ticket, pool }, ticket.accepted_at_ns);
                    self.step(Event::Accepted { pool, conn: ticket.conn, uid });
                }
                Accept::TryNext => {}
                Accept::Empty => return Batch::Empty,
                Accept::Ended => {
                    self.door_is_empty(number);
                    return Batch::Empty;
                }
                Accept::Starved(error) => {
                    tracing::warn!(
                        pool = %self.doors.name_of(pool),
                        "cannot accept: {error}; those who wait stay in the kernel's queue (will try again; \
                         if this goes on, raise the limit of descriptors)"
                    );
                    self.step(Event::AcceptStarved { pool });
                    return Batch::More;
                }
            }
        }
        Batch::More
    }

    /// Starts or stops waiting for connections of a pool.
    pub(super) fn watch_doors(&mut self, pool: PoolNo, watch: Watch) {
        self.doors.want(pool, watch);
        if watch == Watch::On {
            self.sweep_doors(pool);
        }
        for number in self.doors.numbers_of(pool) {
            self.watch_door(number, watch);
        }
    }

    pub(super) fn watch_door(&mut self, number: u64, watch: Watch) {
        let Some(door) = self.doors.get_mut(number) else { return };
        if door.watch == watch || door.stage == Stage::Empty {
            return;
        }
        match watch {
            Watch::On => match self.sources.add(&door.listener, Source::Listener(number)) {
                Ok(()) => door.watch = Watch::On,
                Err(error) => {
                    tracing::warn!("cannot wait for connections at {}: {error} (will try again)", door.listener.shown);
                    self.events.push_back(Event::AcceptStarved { pool: door.pool });
                }
            },
            Watch::Off => {
                door.watch = Watch::Off;
                self.sources.remove(&door.listener);
            }
        }
    }

    /// Lets nobody new connect to a pool.
    pub(super) fn refuse_new(&mut self, pool: PoolNo) {
        self.doors.refusing.insert(pool);
        for number in self.doors.numbers_of(pool) {
            self.close_for_new(number);
        }
        if self.has_just_emptied(pool) {
            self.events.push_back(Event::KernelQueueEmpty { pool });
        }
    }

    /// Lets nobody new in at a door. A listener that somebody else holds too stays as it is.
    pub(super) fn close_for_new(&mut self, number: u64) {
        let now = self.now();
        let Some(door) = self.doors.get_mut(number).filter(|door| door.stage == Stage::Open) else { return };
        if door.listener.tenure == Tenure::Shared {
            door.stage = Stage::Left;
            return;
        }
        let done = match door.taker {
            Taker::Supervisor => door.listener.refuse_new(),
            Taker::Workers => door.listener.hide(),
        };
        if let Err(error) = done {
            tracing::warn!(
                "cannot close {} for new clients: {error}; those who come now are reset at the end",
                door.listener.shown
            );
        }
        let grace = match door.listener.family {
            Family::Unix => Duration::ZERO,
            Family::V4 | Family::V6 => LAST_HANDSHAKES,
        };
        let until = now + grace;
        match (door.taker, door.fate) {
            (Taker::Supervisor, _) => door.stage = Stage::Refusing { until },
            (Taker::Workers, Fate::Stays) => door.stage = Stage::Emptying { until },
            // The workers from now on don't have it.
            (Taker::Workers, Fate::Closes) => self.take_over(number, until),
        }
    }

    /// Accepts to the end where workers did before: they are gone, or on their way.
    pub(super) fn take_over(&mut self, number: u64, until: Moment) {
        let Some(door) = self.doors.get_mut(number) else { return };
        door.stage = Stage::Refusing { until };
        if let Err(error) = door.listener.set_waiting(Waiting::No) {
            // To accept could mean to wait, which is worse than to close on whoever waits.
            tracing::warn!("cannot accept at {}: {error}; who waits there is reset", door.listener.shown);
            return self.door_is_empty(number);
        }
        self.watch_door(number, Watch::On);
    }

    /// Where nobody new comes: accepts to the end, which an empty queue does not announce by itself.
    pub(super) fn accept_last_ones(&mut self, now: Moment) {
        let ends = |door: &Door| matches!(door.stage, Stage::Refusing { .. } | Stage::Emptying { .. } | Stage::Left);
        if !self.doors.iter().any(|(_, door)| ends(door)) {
            return; // nearly always
        }
        let ending: Vec<u64> = self.doors.iter().filter(|(_, door)| ends(door)).map(|(number, _)| number).collect();
        for number in ending {
            let Some(door) = self.doors.get(number) else { continue };
            match door.stage {
                Stage::Left => self.door_is_empty(number),
                Stage::Refusing { until } if door.watch == Watch::On => {
                    if self.accept_batch(number) == Batch::Empty && now >= until {
                        self.door_is_empty(number);
                    }
                }
                Stage::Emptying { until } if now >= until && !door.listener.somebody_waits() => {
                    self.door_is_empty(number);
                }
                Stage::Refusing { .. } | Stage::Emptying { .. } | Stage::Open | Stage::Empty => {}
            }
        }
    }

    /// When `accept_last_ones` has to look again.
    pub(super) fn last_ones_deadline(&self, now: Moment) -> Option<Moment> {
        let waiting = |door: &Door| match door.stage {
            Stage::Refusing { until } if door.watch == Watch::On => Some(until.max(now)),
            // Nobody tells when workers have taken the last one.
            Stage::Emptying { until } => Some(until.max(now + EMPTYING_LOOK)),
            Stage::Left => Some(now),
            Stage::Refusing { .. } | Stage::Open | Stage::Empty => None,
        };
        self.doors.iter().filter_map(|(_, door)| waiting(door)).min()
    }

    fn door_is_empty(&mut self, number: u64) {
        self.watch_door(number, Watch::Off);
        let Some(door) = self.doors.get_mut(number).filter(|door| door.stage != Stage::Empty) else { return };
        door.stage = Stage::Empty;
        let (pool, fate) = (door.pool, door.fate);
        if fate == Fate::Closes {
            self.drop_door(number);
        }
        if self.has_just_emptied(pool) {
            self.step(Event::KernelQueueEmpty { pool });
        }
    }

    /// Whether a pool that lets nobody new in has to hear now that nobody is left.
    pub(super) fn has_just_emptied(&mut self, pool: PoolNo) -> bool {
        self.doors.of(pool).all(|(_, door)| door.stage == Stage::Empty) && self.doors.refusing.remove(&pool)
    }
}
