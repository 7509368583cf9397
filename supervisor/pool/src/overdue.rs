//! Remembers which connections were handed out when, until they are completed or known to be claimed.
//!
//! A worker does not say what it has claimed. What is still out after `recall_after` is therefore doubtful, once: a
//! look into the worker's mailbox (a recall) settles everything that it was handed before.
//!
//! ```text
//! handed ──▶ queue, oldest first ──recall_after──▶ waiting: for somebody's room, or its own deadline ──▶ recall
//! ```

use std::collections::{BTreeSet, VecDeque};

use ostler_shared::{ConnId, WorkerId};

use crate::Moment;
use crate::worker::{HandoffNo, Seat};

/// What of a worker is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched {
    /// This connection.
    Conn(ConnId),
    /// Whatever it holds: something of it may be unclaimed.
    Everything,
}

/// A doubt that will be due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) at: Moment,
    pub(crate) seat: Seat,
    pub(crate) worker: WorkerId,
    pub(crate) handoff: HandoffNo,
    pub(crate) watched: Watched,
}

/// The doubts of a pool.
#[derive(Debug, Default)]
pub(crate) struct Overdue {
    queue: VecDeque<Entry>,
    /// Workers whose mailbox has to be looked into, by when that is done even if nobody else has room.
    waiting: BTreeSet<(Moment, Seat)>,
    /// Counts handoffs and looks.
    count: u64,
}

impl Overdue {
    /// The next number in the order of handoffs and looks.
    pub(crate) fn next_no(&mut self) -> HandoffNo {
        self.count += 1;
        HandoffNo(self.count)
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        self.queue.push_back(entry);
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn oldest(&self) -> Option<&Entry> {
        self.queue.front()
    }

    pub(crate) fn pop_oldest(&mut self) -> Option<Entry> {
        self.queue.pop_front()
    }

    pub(crate) fn retain(&mut self, is_open: impl FnMut(&Entry) -> bool) {
        self.queue.retain(is_open);
    }

    pub(crate) fn wait(&mut self, at: Moment, seat: Seat) {
        self.waiting.insert((at, seat));
    }

    pub(crate) fn forget(&mut self, at: Moment, seat: Seat) {
        self.waiting.remove(&(at, seat));
    }

    /// The workers that wait, the most urgent first.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (Moment, Seat)> + '_ {
        self.waiting.iter().copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.waiting.is_empty()
    }
}
