//! Shows clients the connections that end: the last ones, and those that end from now on.
//!
//! They get lines as readers of the log do, and with the same patience: nobody is waited for (`following.rs`). A line costs as much as
//! a part of what a connection does, so that only so many per second are shown, and who looks at a busy pool does not slow it down.

use std::sync::Arc;
use std::time::Duration;

use ostler_pool::Moment;

use super::Driver;
use super::visits::{Ended, Filter};
use crate::control::protocol::{Follow, TRACED_PER_SECOND};
use crate::exit::ExitCode;
use crate::logging::tail::Topic;

const SECOND: Duration = Duration::from_secs(1);

/// A client that hears of connections that end.
#[derive(Debug)]
pub(super) struct Tracer {
    filter: Filter,
    /// When its second began …
    since: Moment,
    /// … and what became of those that ended in it.
    shown: u64,
    left_out: u64,
}

impl Tracer {
    /// Begins another second, where the last one is over; how many were left out in that.
    fn catch_up(&mut self, now: Moment) -> u64 {
        if now.since(self.since) < SECOND {
            return 0;
        }
        (self.since, self.shown) = (now, 0);
        std::mem::take(&mut self.left_out)
    }

    /// Takes one in, if it is to be shown.
    fn takes(&mut self, ended: &Ended) -> bool {
        if !self.filter.passes(ended) {
            return false;
        }
        let has_room = self.shown < TRACED_PER_SECOND;
        if has_room {
            self.shown += 1;
        } else {
            self.left_out += 1;
        }
        has_room
    }
}

impl Driver {
    /// A client wants to see connections end.
    pub(super) fn begin_to_trace(&mut self, client: u64, filter: Filter, count: usize, follow: Follow) {
        if let Some(full) = self.no_room_for_readers() {
            return self.done(client, full, ExitCode::Failed);
        }
        if let Some(name) = &filter.pool
            && let Some(unknown) = self.unknown_topic(&Topic::Pool(name.clone()))
        {
            return self.done(client, unknown, ExitCode::Failed);
        }
        let lines = self.visits.last(&filter, count);
        self.log.tail().begin_with(client, lines, follow);
        match follow {
            Follow::On => {
                let tracer = Tracer { filter, since: self.now(), shown: 0, left_out: 0 };
                self.visits.tracers.insert(client, tracer);
            }
            Follow::No => {}
        }
        self.feed(client);
    }

    /// A connection has ended, and somebody looks.
    pub(super) fn show(&mut self, ended: &Ended) {
        self.tell_what_was_left_out(self.now());
        let takers =
            self.visits.tracers.iter_mut().filter_map(|(client, tracer)| tracer.takes(ended).then_some(*client));
        let takers: Vec<u64> = takers.collect();
        if takers.is_empty() {
            return;
        }
        let line = Arc::new(ended.trace_line());
        let mut tail = self.log.tail();
        takers.into_iter().for_each(|client| tail.offer(client, &line));
    }

    /// Tells each how many were left out in its last second.
    pub(super) fn tell_what_was_left_out(&mut self, now: Moment) {
        for (client, tracer) in &mut self.visits.tracers {
            let left_out = tracer.catch_up(now);
            if left_out > 0 {
                self.log.tail().skip(*client, left_out);
            }
        }
    }

    /// When somebody has to be told.
    pub(super) fn left_out_deadline(&self) -> Option<Moment> {
        let untold = self.visits.tracers.values().filter(|tracer| tracer.left_out > 0);
        untold.map(|tracer| tracer.since + SECOND).min()
    }
}

#[cfg(test)]
mod tests {
    use ostler_shared::ConnId;

    use super::*;
    use crate::control::protocol::Which;

    #[test]
    fn so_many_are_shown_in_each_second_and_the_others_are_counted() {
        let begin = Moment::from_ns(77_000_000_000);
        let filter = Filter { pool: None, slow: Duration::ZERO, which: Which::All };
        let mut tracer = Tracer { filter, since: begin, shown: 0, left_out: 0 };
        let ended = Ended::shed_for_a_test(ConnId(1));
        let shown = |tracer: &mut Tracer, count: u64| (0..count).filter(|_| tracer.takes(&ended)).count() as u64;
        assert_eq!(shown(&mut tracer, TRACED_PER_SECOND + 7), TRACED_PER_SECOND);
        assert_eq!(tracer.catch_up(begin + Duration::from_millis(999)), 0);
        assert_eq!(tracer.catch_up(begin + SECOND), 7);
        assert_eq!((shown(&mut tracer, 3), tracer.catch_up(begin + SECOND + SECOND)), (3, 0));
    }
}
