//! Shows clients the connections that end: the last ones, and those that end from now on.
//!
//! They get lines as readers of the log do, and with the same patience: nobody is waited for (`following.rs`).

use std::sync::Arc;

use super::Driver;
use super::visits::Filter;
use crate::control::protocol::Follow;
use crate::exit::ExitCode;
use crate::logging::tail::Topic;

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
                self.visits.tracers.insert(client, filter);
            }
            Follow::No => {}
        }
        self.feed(client);
    }

    /// A connection has ended, and somebody looks.
    pub(super) fn show(&mut self, ended: &super::visits::Ended) {
        let wanted = self.visits.tracers.iter().filter(|(_, filter)| filter.passes(ended));
        let clients: Vec<u64> = wanted.map(|(client, _)| *client).collect();
        if clients.is_empty() {
            return;
        }
        let line = Arc::new(ended.trace_line());
        let mut tail = self.log.tail();
        clients.into_iter().for_each(|client| tail.offer(client, &line));
    }
}
