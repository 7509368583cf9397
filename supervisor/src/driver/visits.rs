//! Keeps what the access log says about a connection, from its accept to its end.
//!
//! Nothing is kept and nothing costs while there is no access log. The pool's books decide how a connection ends; here is
//! known who held it, so that the two agree: what a worker had claimed when it died is lost, and what it completes must be its own.

use std::borrow::Cow;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{SockaddrStorage, getpeername};
use ostler_pool::Shed;
use ostler_shared::completion::{Completion, Outcome};
use ostler_shared::sys::clock::monotonic_ns;
use ostler_shared::{ConnId, Ticket, WorkerId, WorkerName};

use super::Driver;
use super::link::Link;
use crate::control::protocol::Value;

/// A connection that has not ended.
#[derive(Debug)]
struct Visit {
    pool: String,
    listener: String,
    peer: String,
    accepted_at_ns: u64,
    /// Whose mailbox it was put into, or who holds it.
    worker: Option<WorkerId>,
}

/// Connections that have not ended, of those accepted since there is an access log.
#[derive(Debug, Default)]
pub(super) struct Visits {
    open: HashMap<ConnId, Visit>,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy)]
enum End {
    /// A worker says so.
    Completed(Completion),
    /// Its worker died with it.
    Lost,
    /// No worker had it.
    Shed(Shed),
}

impl End {
    fn words(self) -> (&'static str, Option<&'static str>) {
        match self {
            End::Completed(Completion { outcome: Outcome::Done, .. }) => ("done", None),
            End::Completed(Completion { outcome: Outcome::Panicked, .. }) => ("done", Some("panicked")),
            End::Completed(Completion { outcome: Outcome::Failed, .. }) => ("done", Some("failed")),
            End::Completed(Completion { outcome: Outcome::Truncated, .. }) => ("lost", Some("truncated")),
            End::Completed(Completion { outcome: Outcome::Dropped, .. }) => ("lost", Some("process_died")),
            End::Lost => ("lost", Some("worker_died")),
            End::Shed(why) => ("shed", Some(why.as_str())),
        }
    }

    /// How long it waited and how long it was served, in microseconds, as far as that is known.
    fn times(self, accepted_at_ns: u64, now_ns: u64) -> (Option<u64>, Option<u64>) {
        let micros = |from: u64, to: u64| Some(to.saturating_sub(from) / 1000);
        match self {
            // The worker's readings are claims (I6): between the accept and now, in this order.
            End::Completed(Completion { claimed_at_ns, done_at_ns, .. }) => {
                let claimed = claimed_at_ns.clamp(accepted_at_ns, now_ns);
                (micros(accepted_at_ns, claimed), micros(claimed, done_at_ns.clamp(claimed, now_ns)))
            }
            // When it was claimed, the dead worker alone knew.
            End::Lost => (None, None),
            End::Shed(_) => (micros(accepted_at_ns, now_ns), None),
        }
    }
}

impl Driver {
    /// Begins or ends to keep visits, as the configuration in force says.
    pub(super) fn keep_visits(&mut self) {
        match (self.log.keeps_access(), &self.visits) {
            (true, None) => self.visits = Some(Visits::default()),
            (false, Some(_)) => self.visits = None,
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// A connection was accepted at a door.
    pub(super) fn visit_begins(&mut self, number: u64, ticket: &Ticket, connection: &OwnedFd) {
        let Some(visits) = &mut self.visits else { return };
        let Some(door) = self.doors.get(number) else { return };
        let peer = match ticket.peer {
            Some(peer) => format!("uid:{},pid:{}", peer.uid, peer.pid),
            None => getpeername::<SockaddrStorage>(connection.as_raw_fd())
                .map_or_else(|_| "gone".to_owned(), |address| address.to_string()),
        };
        let visit = Visit {
            pool: self.doors.name_of(door.pool).to_owned(),
            listener: door.listener.shown.clone(),
            peer,
            accepted_at_ns: ticket.accepted_at_ns,
            worker: None,
        };
        visits.open.insert(ticket.conn, visit);
    }

    /// It is in a worker's mailbox.
    pub(super) fn visit_handed(&mut self, conn: ConnId, worker: WorkerId) {
        if let Some(visit) = self.visits.as_mut().and_then(|visits| visits.open.get_mut(&conn)) {
            visit.worker = Some(worker);
        }
    }

    /// They came back unclaimed.
    pub(super) fn visits_return(&mut self, conns: &[ConnId]) {
        let Some(visits) = &mut self.visits else { return };
        for conn in conns {
            if let Some(visit) = visits.open.get_mut(conn) {
                visit.worker = None;
            }
        }
    }

    /// A worker says that it is over. One that it does not hold, it has made up.
    pub(super) fn visit_completed(&mut self, worker: WorkerId, completion: &Completion) {
        let Some(visits) = &mut self.visits else { return };
        if visits.open.get(&completion.conn).is_none_or(|visit| visit.worker != Some(worker)) {
            return;
        }
        let Some(visit) = visits.open.remove(&completion.conn) else { return };
        let name = self.workers.get(&worker).map(|link| &link.name);
        self.visit_ends(completion.conn, visit, name, End::Completed(*completion));
    }

    /// A worker is dead, and these came back: what else it held is lost.
    pub(super) fn visits_lost_with(&mut self, worker: WorkerId, link: &Link, unclaimed: &[ConnId]) {
        self.visits_return(unclaimed);
        let Some(visits) = &mut self.visits else { return };
        let mut lost: Vec<(ConnId, Visit)> = visits.open.extract_if(|_, visit| visit.worker == Some(worker)).collect();
        lost.sort_unstable_by_key(|(conn, _)| *conn);
        for (conn, visit) in lost {
            self.visit_ends(conn, visit, Some(&link.name), End::Lost);
        }
    }

    /// It was let go without a worker.
    pub(super) fn visit_shed(&mut self, conn: ConnId, why: Shed) {
        let Some(visit) = self.visits.as_mut().and_then(|visits| visits.open.remove(&conn)) else { return };
        self.visit_ends(conn, visit, None, End::Shed(why));
    }

    fn visit_ends(&self, conn: ConnId, visit: Visit, worker: Option<&WorkerName>, end: End) {
        let Visit { pool, listener, peer, accepted_at_ns, worker: _ } = visit;
        let (waited, served) = end.times(accepted_at_ns, monotonic_ns());
        let (outcome, reason) = end.words();
        let said = [
            ("conn", Some(Value::Text(conn.to_string()))),
            ("pool", Some(Value::Text(pool))),
            ("listener", Some(Value::Text(listener))),
            ("peer", Some(Value::Text(peer))),
            ("waited_us", waited.map(Value::Count)),
            ("served_us", served.map(Value::Count)),
            ("worker", worker.map(|name| Value::Text(name.to_string()))),
            ("outcome", Some(Value::Text(outcome.to_owned()))),
            ("reason", reason.map(|why| Value::Text(why.to_owned()))),
        ];
        let fields = said.into_iter().filter_map(|(name, value)| Some((Cow::Borrowed(name), value?)));
        self.log.access(fields.collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_claims_about_times_stays_within_what_we_know() {
        let completed = |claimed_at_ns, done_at_ns| {
            End::Completed(Completion { conn: ConnId(1), outcome: Outcome::Done, claimed_at_ns, done_at_ns })
        };
        assert_eq!(completed(5000, 9000).times(2000, 10_000), (Some(3), Some(4)));
        assert_eq!(completed(0, 0).times(2000, 10_000), (Some(0), Some(0)));
        assert_eq!(completed(u64::MAX, 3000).times(2000, 10_000), (Some(8), Some(0)));
        assert_eq!(End::Shed(Shed::QueueFull).times(2000, 10_000), (Some(8), None));
    }
}
