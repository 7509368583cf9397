//! Keeps the connections that no worker has room for.
//!
//! Ordered by identity, which is the order of arrival: what is recalled comes back to the place that it would have
//! kept, the front always has the earliest deadline, and whoever hangs up is found wherever he stands.

use std::collections::BTreeMap;

use ostler_shared::ConnId;

use crate::Moment;
use crate::event::Uid;

/// A connection that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) conn: ConnId,
    pub(crate) accepted_at: Moment,
    /// Whose it is, where the kernel knows.
    pub(crate) uid: Option<Uid>,
}

/// The waiting line of a pool. Its limits are kept by whoever accepts: what comes back is never refused.
#[derive(Debug, Default)]
pub(crate) struct Line {
    waiting: BTreeMap<ConnId, Waiting>,
    /// How many of them each user has; nobody has none.
    shares: BTreeMap<Uid, usize>,
}

impl Line {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many of those who wait are this user's.
    pub(crate) fn share_of(&self, uid: Uid) -> usize {
        self.shares.get(&uid).copied().unwrap_or(0)
    }

    /// Puts a connection where its age belongs: new ones at the back, recalled ones near the front.
    ///
    /// # Panics
    /// When it waits already (I1).
    pub(crate) fn insert(&mut self, waiting: Waiting) {
        let doubled = self.waiting.insert(waiting.conn, waiting);
        assert!(doubled.is_none(), "I1: {} waits twice", waiting.conn);
        if let Some(uid) = waiting.uid {
            *self.shares.entry(uid).or_default() += 1;
        }
    }

    pub(crate) fn pop_oldest(&mut self) -> Option<Waiting> {
        let (_, waiting) = self.waiting.pop_first()?;
        self.give_up_share(waiting.uid);
        Some(waiting)
    }

    /// Takes one out of the middle; `None` when it does not wait here.
    pub(crate) fn remove(&mut self, conn: ConnId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&conn)?;
        self.give_up_share(waiting.uid);
        Some(waiting)
    }

    pub(crate) fn oldest(&self) -> Option<&Waiting> {
        self.waiting.first_key_value().map(|(_, waiting)| waiting)
    }

    fn give_up_share(&mut self, uid: Option<Uid>) {
        let Some(uid) = uid else { return };
        let share = self.shares.get_mut(&uid).expect("whoever waits has a share");
        *share -= 1;
        if *share == 0 {
            // Else a line that has seen every user of a machine would remember them all.
            self.shares.remove(&uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(number: u64, uid: Option<u32>) -> Waiting {
        Waiting { conn: ConnId(number), accepted_at: Moment::from_ns(number), uid: uid.map(Uid) }
    }

    #[test]
    fn what_is_recalled_comes_back_to_the_place_it_would_have_kept() {
        let mut line = Line::default();
        for number in [5, 9, 3, 4, 7] {
            line.insert(waiting(number, None));
        }
        let order: Vec<u64> = std::iter::from_fn(|| line.pop_oldest()).map(|w| w.conn.0).collect();
        assert_eq!(order, [3, 4, 5, 7, 9]);
    }

    #[test]
    fn whoever_leaves_the_middle_is_missed_by_nobody() {
        let mut line = Line::default();
        (1..=4).for_each(|number| line.insert(waiting(number, None)));
        assert_eq!(line.remove(ConnId(3)), Some(waiting(3, None)));
        assert_eq!(line.remove(ConnId(3)), None);
        let order: Vec<u64> = std::iter::from_fn(|| line.pop_oldest()).map(|w| w.conn.0).collect();
        assert_eq!(order, [1, 2, 4]);
    }

    #[test]
    fn a_share_is_what_waits_now_and_is_forgotten_with_the_last_of_it() {
        let mut line = Line::default();
        for (number, uid) in [(1, Some(7)), (2, None), (3, Some(7)), (4, Some(8))] {
            line.insert(waiting(number, uid));
        }
        assert_eq!((line.share_of(Uid(7)), line.share_of(Uid(8)), line.share_of(Uid(9))), (2, 1, 0));
        line.pop_oldest();
        line.remove(ConnId(3));
        assert_eq!((line.share_of(Uid(7)), line.shares.len()), (0, 1));
    }
}
