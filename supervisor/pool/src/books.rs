//! Counts every connection, so that none can disappear unnoticed.

use std::collections::BTreeMap;

use crate::reason::Shed;

/// The totals of one pool since the supervisor started.
#[derive(Debug, Default, Clone)]
pub(crate) struct Books {
    pub(crate) accepted: u64,
    pub(crate) done: u64,
    /// Those of them that did not go well.
    pub(crate) failed: u64,
    pub(crate) lost: u64,
    pub(crate) handed: u64,
    /// Accepted by workers themselves.
    pub(crate) taken: u64,
    pub(crate) recalled: u64,
    pub(crate) redelivered: u64,
    shed: BTreeMap<Shed, u64>,
}

impl Books {
    pub(crate) fn shed(&mut self, why: Shed) {
        *self.shed.entry(why).or_default() += 1;
    }

    pub(crate) fn shed_total(&self) -> u64 {
        self.shed.values().sum()
    }

    pub(crate) fn shed_by_reason(&self) -> impl Iterator<Item = (Shed, u64)> + '_ {
        self.shed.iter().map(|(why, count)| (*why, *count))
    }

    /// I1: a connection waits, is in a worker's mailbox or hands, or has ended in exactly one way; and each handoff has come
    /// back, ended, or is still out.
    ///
    /// # Panics
    /// When one was counted twice or not at all.
    pub(crate) fn assert_balanced(&self, in_line: usize, outstanding: u64) {
        let places = self.done + self.lost + self.shed_total() + in_line as u64 + outstanding;
        assert!(
            self.accepted == places,
            "I1: accepted {} ≠ {places} = done {} + lost {} + shed {} + line {in_line} + outstanding {outstanding}",
            self.accepted,
            self.done,
            self.lost,
            self.shed_total(),
        );
        let ends = self.done + self.lost + self.recalled + self.redelivered + outstanding;
        assert!(
            self.handed + self.taken == ends,
            "I1: handed {} + taken {} ≠ {ends} = done {} + lost {} + recalled {} + redelivered {} + outstanding {outstanding}",
            self.handed,
            self.taken,
            self.done,
            self.lost,
            self.recalled,
            self.redelivered,
        );
    }
}
