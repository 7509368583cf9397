//! Keeps deadlines, at most one per holder.

use std::collections::{BTreeMap, BTreeSet};

use crate::Moment;

/// Deadlines of holders `K`; the earliest is found at once.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    order: BTreeSet<(Moment, K)>,
    of: BTreeMap<K, Moment>,
}

impl<K: Ord + Copy> Timers<K> {
    pub(crate) fn new() -> Timers<K> {
        Timers { order: BTreeSet::new(), of: BTreeMap::new() }
    }

    /// Sets the only deadline of `holder`, in place of an earlier one.
    pub(crate) fn set(&mut self, holder: K, at: Moment) {
        self.clear(holder);
        self.of.insert(holder, at);
        self.order.insert((at, holder));
    }

    pub(crate) fn clear(&mut self, holder: K) {
        if let Some(at) = self.of.remove(&holder) {
            self.order.remove(&(at, holder));
        }
    }

    pub(crate) fn of(&self, holder: K) -> Option<Moment> {
        self.of.get(&holder).copied()
    }

    /// All of them, the next first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Moment, K)> + '_ {
        self.order.iter().copied()
    }

    pub(crate) fn earliest(&self) -> Option<Moment> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes one holder whose deadline is not after `now`.
    pub(crate) fn take_due(&mut self, now: Moment) -> Option<K> {
        let (at, holder) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.clear(holder);
        Some(holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_has_its_latest_deadline_only_and_the_earliest_comes_first() {
        let at = Moment::from_ns;
        let mut timers = Timers::new();
        timers.set('a', at(5));
        timers.set('b', at(3));
        timers.set('a', at(9));
        assert_eq!(timers.earliest(), Some(at(3)));
        assert_eq!(timers.iter().collect::<Vec<_>>(), [(at(3), 'b'), (at(9), 'a')]);
        assert_eq!(timers.take_due(at(2)), None);
        assert_eq!(timers.take_due(at(9)), Some('b'));
        assert_eq!(timers.take_due(at(9)), Some('a'));
        assert_eq!(timers.earliest(), None);
    }
}
