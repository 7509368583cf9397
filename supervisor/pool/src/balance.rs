//! Finds the least loaded worker, exactly and at once.
//!
//! Workers with room stand in one list per load: front is next, whoever was chosen or got room goes to the back, so
//! that equals take turns. Choosing, and moving by one connection, is O(1); a worker that is full stands in no list.
//!
//! ```text
//! load 0:  w3 ⇄ w7          ◀ lowest: w3 is next
//! load 1:  w1 ⇄ w2 ⇄ w9
//! load 2:  w4
//! ```

use ostler_config::checked::Dispatch;

use crate::worker::Seat;

const NOWHERE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Node {
    before: u32,
    after: u32,
    /// The list it stands in, or `NOWHERE`.
    level: u32,
}

#[derive(Debug, Clone, Copy)]
struct List {
    front: u32,
    back: u32,
}

const EMPTY: List = List { front: NOWHERE, back: NOWHERE };

/// Workers that have room, by load.
#[derive(Debug)]
pub(crate) struct Balance {
    dispatch: Dispatch,
    levels: Vec<List>,
    nodes: Vec<Node>,
    /// No list below this one has a worker.
    lowest: usize,
    /// How many workers stand in a list.
    standing: usize,
}

impl Balance {
    pub(crate) fn new(dispatch: Dispatch) -> Balance {
        Balance { dispatch, levels: Vec::new(), nodes: Vec::new(), lowest: 0, standing: 0 }
    }

    /// Changes the rule for workers that are placed from now on.
    pub(crate) fn set_dispatch(&mut self, dispatch: Dispatch) {
        self.dispatch = dispatch;
    }

    /// Puts a worker with room at the back of the list of its load, wherever it stood before.
    pub(crate) fn place(&mut self, seat: Seat, load: u32) {
        self.withdraw(seat);
        let level = match self.dispatch {
            Dispatch::LeastLoaded => load,
            // One list for all: each in turn, whatever it holds.
            Dispatch::RoundRobin => 0,
        };
        let at = level as usize;
        if self.levels.len() <= at {
            self.levels.resize(at + 1, EMPTY);
        }
        let back = self.levels[at].back;
        *self.node(seat) = Node { before: back, after: NOWHERE, level };
        match back {
            NOWHERE => self.levels[at].front = seat.0,
            last => self.nodes[last as usize].after = seat.0,
        }
        self.levels[at].back = seat.0;
        self.lowest = self.lowest.min(at);
        self.standing += 1;
    }

    /// Takes a worker out: it is full, or takes no more.
    pub(crate) fn withdraw(&mut self, seat: Seat) {
        let Node { before, after, level } = *self.node(seat);
        if level == NOWHERE {
            return;
        }
        let list = &mut self.levels[level as usize];
        match before {
            NOWHERE => list.front = after,
            node => self.nodes[node as usize].after = after,
        }
        match after {
            NOWHERE => list.back = before,
            node => self.nodes[node as usize].before = before,
        }
        self.node(seat).level = NOWHERE;
        self.standing -= 1;
    }

    /// Whether somebody beside this worker has room.
    pub(crate) fn has_other_than(&self, seat: Seat) -> bool {
        let stands = self.nodes.get(seat.0 as usize).is_some_and(|node| node.level != NOWHERE);
        self.standing > usize::from(stands)
    }

    /// The least loaded worker with room; the one that waited longest among equals.
    pub(crate) fn least(&mut self) -> Option<Seat> {
        // A list is left behind only when its last worker left it, so this walk is paid for by those moves.
        while let Some(list) = self.levels.get(self.lowest) {
            if list.front != NOWHERE {
                return Some(Seat(list.front));
            }
            self.lowest += 1;
        }
        self.lowest = self.levels.len();
        None
    }

    fn node(&mut self, seat: Seat) -> &mut Node {
        let at = seat.0 as usize;
        if self.nodes.len() <= at {
            self.nodes.resize(at + 1, Node { before: NOWHERE, after: NOWHERE, level: NOWHERE });
        }
        &mut self.nodes[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equals_take_turns() {
        let mut balance = Balance::new(Dispatch::LeastLoaded);
        (0..3).for_each(|seat| balance.place(Seat(seat), 0));
        let turns: Vec<u32> = (0..6)
            .map(|_| {
                let seat = balance.least().unwrap();
                balance.place(seat, 1);
                balance.place(seat, 0); // served at once
                seat.0
            })
            .collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn round_robin_does_not_look_at_the_load() {
        let mut balance = Balance::new(Dispatch::RoundRobin);
        balance.place(Seat(0), 7);
        balance.place(Seat(1), 0);
        assert_eq!(balance.least(), Some(Seat(0)));
        balance.place(Seat(0), 8);
        assert_eq!(balance.least(), Some(Seat(1)));
    }

    proptest! {
        /// Oracle: a plain list of (load, time of placing), searched from end to end.
        #[test]
        fn the_choice_is_always_the_least_loaded_and_longest_waiting(
            moves in proptest::collection::vec((0u32..12, proptest::option::of(0u32..5)), 1..200),
        ) {
            let mut balance = Balance::new(Dispatch::LeastLoaded);
            let mut oracle: Vec<(u32, usize, u32)> = Vec::new();
            for (time, (seat, load)) in moves.into_iter().enumerate() {
                oracle.retain(|(_, _, s)| *s != seat);
                match load {
                    Some(load) => {
                        balance.place(Seat(seat), load);
                        oracle.push((load, time, seat));
                    }
                    None => balance.withdraw(Seat(seat)),
                }
                prop_assert_eq!(balance.least().map(|s| s.0), oracle.iter().min().map(|(_, _, s)| *s));
                let others = oracle.iter().any(|(_, _, s)| *s != seat);
                prop_assert_eq!(balance.has_other_than(Seat(seat)), others);
            }
        }
    }
}
