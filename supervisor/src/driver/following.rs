//! Lets clients read the log: the last lines, and those that come.
//!
//! Nobody is waited for. A client gets the next portion when it has taken the one before; what it was too slow for is
//! counted, and it is told.

use nix::sys::epoll::EpollFlags;

use super::Driver;
use super::sources::Source;
use crate::control::protocol::{Follow, Response};
use crate::control::server::Fed;
use crate::exit::ExitCode;
use crate::logging::tail::{Portion, Topic};

/// Most clients that read the log or a trace at a time, so that the others find a place.
const READERS_MAX: usize = 16;

impl Driver {
    /// A client wants to read.
    pub(super) fn begin_to_read(&mut self, client: u64, topic: Topic, count: usize, follow: Follow) {
        if let Some(full) = self.no_room_for_readers() {
            return self.done(client, full, ExitCode::Failed);
        }
        if let Some(unknown) = self.unknown_topic(&topic) {
            return self.done(client, unknown, ExitCode::Failed);
        }
        self.log.tail().begin(client, topic, count, follow);
        self.feed(client);
    }

    pub(super) fn no_room_for_readers(&self) -> Option<String> {
        let is_full = self.log.tail().readers().len() >= READERS_MAX;
        is_full.then(|| {
            format!("{READERS_MAX} clients read the log or a trace already: end one of them, or try again in a moment")
        })
    }

    pub(super) fn unknown_topic(&mut self, topic: &Topic) -> Option<String> {
        let (name, slot) = match topic {
            Topic::All | Topic::Offered => return None,
            Topic::Pool(name) => (name, None),
            Topic::Slot(name, slot) => (name, Some(slot)),
        };
        let now = self.now();
        let pools = self.pools.snapshot(now);
        let Some(pool) = pools.iter().find(|pool| pool.name == *name) else {
            return Some(self.pools.no_such_pool(Some(name)));
        };
        let slot = slot.filter(|slot| !pool.workers.iter().any(|worker| worker.slot == **slot))?;
        Some(format!("pool {name} has no slot {slot}: see `ostler status`"))
    }

    /// Gives every reader what there is for it.
    pub(super) fn feed_readers(&mut self) {
        let eager = self.log.tail().eager();
        for client in eager {
            // The others say themselves when they have room.
            if self.server.takes_more(client) {
                self.feed(client);
            }
        }
    }

    pub(super) fn feed(&mut self, client: u64) {
        let now = self.now();
        while self.server.takes_more(client) {
            let (portion, follow) = self.log.tail().portion(client);
            let response = match portion {
                Portion::Lines(lines) => Response::Lines(lines),
                Portion::Missed(count) => Response::Missed(count),
                Portion::Nothing => break,
                Portion::End => {
                    self.log.tail().leave(client);
                    return self.done(client, "", ExitCode::Done);
                }
            };
            match self.server.feed(client, now, &response, follow) {
                Fed::All => {}
                Fed::Blocked => break,
                Fed::Gone => return self.drop_client(client),
            }
        }
        self.wait_for_reader(client);
    }

    /// Waits until a client has room again, or, where it has, for its end alone.
    fn wait_for_reader(&mut self, client: u64) {
        let Some(fd) = self.server.client_fd(client) else { return };
        let flags = if self.server.takes_more(client) {
            EpollFlags::EPOLLIN
        } else {
            EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT
        };
        if self.sources.change(fd, Source::Client(client), flags).is_err() {
            self.drop_client(client);
        }
    }
}
