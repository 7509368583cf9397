//! Follows each connection from its accept to its end, for the access log and for `ostler trace`.
//!
//! The pool's books decide how a connection ends; here is known who held it, since when, and how often it came back, so that the two
//! agree: what a worker had claimed when it died is lost, and what it completes must be its own.
//!
//! This is done for every connection, whether somebody looks or not, so that who looks for the first time finds the last ones:
//! nothing here asks the kernel for anything but the time, and no text is made before somebody reads it.

mod ended;
mod recorder;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ostler_config::checked::Handoff;
use ostler_pool::Shed;
use ostler_shared::completion::Completion;
use ostler_shared::sys::clock::monotonic_ns;
use ostler_shared::{ConnId, Ticket, WorkerId, WorkerName};

use super::Driver;
use super::doors::Place;
use super::link::Link;
use super::listeners::Caller;
use super::trace::Tracer;
use crate::control::protocol::Line;
use ended::End;
pub(super) use ended::Ended;
pub(super) use recorder::Filter;
use recorder::Recorder;

/// A connection that has not ended.
#[derive(Debug)]
struct Visit {
    /// Where it came in; a worker that accepts for itself does not say.
    place: Option<Arc<Place>>,
    caller: Caller,
    accepted_at_ns: u64,
    /// Into whose mailbox it was put last, and when. Whoever claims it may have it no more when it ends.
    handed: Option<(WorkerId, u64)>,
    /// How often it was taken back from a worker that lives …
    recalled: u32,
    /// … and how often from one that was dead.
    redelivered: u32,
}

/// From whom connections come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    TheLiving,
    TheDead,
}

/// Connections that have not ended, and the last ones that have.
#[derive(Debug, Default)]
pub(super) struct Visits {
    open: HashMap<ConnId, Visit>,
    ended: Recorder,
    /// Clients that want to hear of those that end, and of which.
    pub(super) tracers: BTreeMap<u64, Tracer>,
}

impl Visits {
    /// The last ones that pass a filter, at most `count`, oldest first.
    pub(super) fn last(&self, filter: &Filter, count: usize) -> Vec<Arc<Line>> {
        self.ended.last(filter, count).map(|ended| Arc::new(ended.trace_line())).collect()
    }
}

impl Driver {
    /// A connection was accepted at a door.
    pub(super) fn visit_begins(&mut self, place: Arc<Place>, ticket: &Ticket, caller: Caller) {
        let visit = Visit {
            place: Some(place),
            caller,
            accepted_at_ns: ticket.accepted_at_ns,
            handed: None,
            recalled: 0,
            redelivered: 0,
        };
        self.visits.open.insert(ticket.conn, visit);
    }

    /// It is in a worker's mailbox.
    pub(super) fn visit_handed(&mut self, conn: ConnId, worker: WorkerId) {
        if let Some(visit) = self.visits.open.get_mut(&conn) {
            visit.handed = Some((worker, monotonic_ns()));
        }
    }

    /// They came back unclaimed.
    pub(super) fn visits_return(&mut self, conns: &[ConnId], from: From) {
        for conn in conns {
            if let Some(visit) = self.visits.open.get_mut(conn) {
                visit.handed = None;
                match from {
                    From::TheLiving => visit.recalled += 1,
                    From::TheDead => visit.redelivered += 1,
                }
            }
        }
    }

    /// A worker says that it is over. One that it does not hold, it has made up.
    pub(super) fn visit_completed(&mut self, worker: WorkerId, completion: &Completion) {
        let Some(link) = self.workers.get(&worker) else { return };
        let name = link.name.clone();
        let visit = match link.settings.pool.handoff {
            Handoff::Pass | Handoff::Accept | Handoff::Stdio => match self.visits.open.entry(completion.conn) {
                Entry::Occupied(open) if open.get().handed.is_some_and(|(holder, _)| holder == worker) => open.remove(),
                Entry::Occupied(_) | Entry::Vacant(_) => return,
            },
            // It had it from the kernel.
            Handoff::Listen => Visit {
                place: None,
                caller: Caller::Unknown,
                accepted_at_ns: completion.claimed_at_ns.min(monotonic_ns()),
                handed: None,
                recalled: 0,
                redelivered: 0,
            },
        };
        self.visit_ends(completion.conn, visit, Some(name), End::Completed(*completion));
    }

    /// A worker is dead, and these came back: what else it held is lost.
    pub(super) fn visits_lost_with(&mut self, worker: WorkerId, link: &Link, unclaimed: &[ConnId]) {
        self.visits_return(unclaimed, From::TheDead);
        let has_it = |visit: &mut Visit| visit.handed.is_some_and(|(holder, _)| holder == worker);
        let mut lost: Vec<(ConnId, Visit)> = self.visits.open.extract_if(|_, visit| has_it(visit)).collect();
        lost.sort_unstable_by_key(|(conn, _)| *conn);
        for (conn, visit) in lost {
            self.visit_ends(conn, visit, Some(link.name.clone()), End::Lost);
        }
    }

    /// It was let go without a worker.
    pub(super) fn visit_shed(&mut self, conn: ConnId, why: Shed) {
        let Some(visit) = self.visits.open.remove(&conn) else { return };
        self.visit_ends(conn, visit, None, End::Shed(why));
    }

    fn visit_ends(&mut self, conn: ConnId, visit: Visit, worker: Option<WorkerName>, end: End) {
        let ended = Ended::new(conn, visit, worker, end, monotonic_ns());
        if self.log.keeps_access() {
            self.log.access(ended.access_line());
        }
        if !self.visits.tracers.is_empty() {
            self.show(&ended);
        }
        self.visits.ended.keep(ended);
    }
}
