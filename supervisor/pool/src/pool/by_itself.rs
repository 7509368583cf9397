//! Counts what workers accept for themselves, where connections never come into our hands.
//!
//! A worker on the library counts what it accepts in a word of its memory, and reports each end as everywhere. So
//! `accepted = done + lost + claimed` holds whenever somebody looks, and nobody has to be told of an accept when it happens. Of
//! a program without the library nothing is known; and once such a one has served, nothing is known of the pool's totals.

use ostler_config::checked::Handoff;
use ostler_shared::WorkerId;

use super::{Pool, Standing};
use crate::turn::Turn;
use crate::worker::{Seat, Telling};

/// A worker holds at most one connection per place, and its ring as many ends that we have not read as it has records, which
/// are less than so many times its places, or this many.
const UNREAD_PER_PLACE_MAX: u64 = 2;

/// No worker lives long enough to accept more.
const ACCEPTED_MAX: u64 = 1 << 48;

/// Whether a pool's totals are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Every worker that ever served told what it accepted.
    Everything,
    /// One did not.
    Partly,
}

impl Pool {
    /// Its workers get the listeners and accept; a reload can't change that.
    pub(super) fn accepts_by_itself(&self) -> bool {
        match self.config().handoff {
            Handoff::Pass | Handoff::Accept | Handoff::Stdio => false,
            Handoff::Listen => true,
        }
    }

    /// Somebody may be left in the kernel's queue when its workers are gone. Before its reload is complete it has none.
    pub(super) fn leaves_queue(&self) -> bool {
        self.accepts_by_itself() && self.standing == Standing::InForce
    }

    /// A worker has said Hello.
    pub(crate) fn introduced(&mut self, worker: WorkerId) {
        if let Some(seat) = self.seat_of(worker).filter(|_| self.accepts_by_itself()) {
            self.worker_mut(seat).own.telling = Telling::Everything;
        }
    }

    /// A worker begins to serve: from now on it accepts.
    pub(super) fn note_telling(&mut self, seat: Seat) {
        match self.worker(seat).own.telling {
            Telling::Nothing if self.accepts_by_itself() => self.told = Told::Partly,
            Telling::Nothing | Telling::Everything => {}
        }
    }

    /// What a worker says that it has accepted, ever, and how much of that is over without a record. A claim (I6).
    pub(crate) fn taken(&mut self, turn: &mut Turn<'_>, worker: WorkerId, total: u64, unrecorded: u64) {
        let Some(seat) = self.seat_of(worker).filter(|_| self.accepts_by_itself()) else { return };
        let most = self.held_max(seat);
        let own = &mut self.worker_mut(seat).own;
        if total > ACCEPTED_MAX {
            return self.misbehaved(turn, worker, format!("says that it has accepted {total} connections"));
        }
        let news = total.checked_sub(own.total).zip(unrecorded.checked_sub(own.unrecorded));
        let Some((more, over)) = news else {
            return self.misbehaved(turn, worker, "counted backwards what it has accepted".to_owned());
        };
        let held = own.held.saturating_add(more).checked_sub(over).filter(|held| *held <= most);
        let Some(held) = held else {
            let how =
                format!("says that it has accepted {total} connections, {unrecorded} of them over without a record");
            return self.misbehaved(turn, worker, how);
        };
        (own.total, own.unrecorded, own.held) = (total, unrecorded, held);
        self.books.accepted += more;
        self.books.taken += more;
        self.outstanding = self.outstanding + more - over;
        self.served(turn, seat, over);
    }

    /// More than this no worker can hold that we have not heard the end of.
    fn held_max(&self, seat: Seat) -> u64 {
        let places = u64::from(self.worker(seat).concurrency());
        places + (UNREAD_PER_PLACE_MAX * places).max(crate::OWN_RECORDS_MIN.into())
    }
}
