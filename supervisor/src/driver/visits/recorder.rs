//! Remembers the last connections that have ended, and for longer those that somebody will ask about.

use std::collections::VecDeque;
use std::time::Duration;

use ostler_shared::PoolName;

use super::ended::Ended;
use crate::control::protocol::Which;

/// How many of the last connections are remembered.
const LAST_MAX: usize = 1024;
/// How many are besides, of those that went wrong, came back, or took as long as this.
const REMARKABLE_MAX: usize = 1024;
/// What is remarkably long: less would be drowned in what is usual, and who asks for less finds the last ones.
const REMARKABLY_LONG: Duration = Duration::from_millis(100);

/// Which connections somebody wants to hear of.
#[derive(Debug)]
pub(in crate::driver) struct Filter {
    /// Of which pool; `None`: of all.
    pub(in crate::driver) pool: Option<PoolName>,
    /// Those that took so long, from the accept to the end.
    pub(in crate::driver) slow: Duration,
    /// How they ended.
    pub(in crate::driver) which: Which,
}

impl Filter {
    pub(in crate::driver) fn passes(&self, ended: &Ended) -> bool {
        let wanted = match self.which {
            Which::All => true,
            Which::Errors => ended.went_wrong(),
        };
        let of_pool = self.pool.as_ref().is_none_or(|pool| ended.pool() == Some(pool.as_str()));
        wanted && of_pool && ended.took() >= self.slow
    }
}

/// The last ones, oldest first.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    last: VecDeque<Ended>,
    /// Those that are not among the last any more.
    remarkable: VecDeque<Ended>,
}

impl Recorder {
    pub(super) fn keep(&mut self, ended: Ended) {
        if self.last.len() == LAST_MAX
            && let Some(old) = self.last.pop_front()
            && (old.went_wrong() || old.came_back() || old.took() >= REMARKABLY_LONG)
        {
            if self.remarkable.len() == REMARKABLE_MAX {
                self.remarkable.pop_front();
            }
            self.remarkable.push_back(old);
        }
        self.last.push_back(ended);
    }

    /// The last `count` that pass, oldest first.
    pub(super) fn last(&self, filter: &Filter, count: usize) -> impl Iterator<Item = &Ended> {
        let newest_first = self.last.iter().rev().chain(self.remarkable.iter().rev());
        let mut wanted: Vec<&Ended> = newest_first.filter(|ended| filter.passes(ended)).take(count).collect();
        wanted.reverse();
        wanted.into_iter()
    }
}
