//! Says of a connection that has ended how that went: with which outcome, and where its time was spent.

use std::borrow::Cow;
use std::time::Duration;

use ostler_pool::Shed;
use ostler_shared::completion::{Completion, Outcome};
use ostler_shared::{ConnId, WorkerName};

use super::Visit;
use crate::control::protocol::{Line, Origin, Severity, Value};
use crate::logging::now_us;

/// How a connection ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// A worker says so.
    Completed(Completion),
    /// Its worker died with it.
    Lost,
    /// No worker had it.
    Shed(Shed),
}

impl End {
    /// The outcome as the books count it, and what else there is to say of it.
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
}

/// Where the time of a connection was spent, as far as that is known. What a worker says of times is a claim (I6): it is
/// fitted in between those that we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    accepted_at_ns: u64,
    /// When it was put into a mailbox for the last time.
    handed_at_ns: Option<u64>,
    /// When its worker took it; of what it took with it, the dead one alone knew.
    claimed_at_ns: Option<u64>,
    ended_at_ns: u64,
}

impl Times {
    fn of(accepted_at_ns: u64, handed_at_ns: Option<u64>, end: End, now_ns: u64) -> Times {
        let (claimed_at_ns, ended_at_ns) = match end {
            End::Completed(Completion { claimed_at_ns, done_at_ns, .. }) => {
                let claimed = claimed_at_ns.clamp(handed_at_ns.unwrap_or(accepted_at_ns), now_ns);
                (Some(claimed), done_at_ns.clamp(claimed, now_ns))
            }
            End::Lost | End::Shed(_) => (None, now_ns),
        };
        Times { accepted_at_ns, handed_at_ns, claimed_at_ns, ended_at_ns }
    }

    fn took_us(self) -> u64 {
        micros(self.accepted_at_ns, self.ended_at_ns)
    }

    /// In the line, the last time in it included.
    fn queued_us(self, end: End) -> Option<u64> {
        let until = match end {
            End::Completed(_) | End::Lost => self.handed_at_ns?,
            End::Shed(_) => self.ended_at_ns,
        };
        Some(micros(self.accepted_at_ns, until))
    }

    fn claimed_us(self) -> Option<u64> {
        Some(micros(self.handed_at_ns?, self.claimed_at_ns?))
    }

    fn served_us(self) -> Option<u64> {
        Some(micros(self.claimed_at_ns?, self.ended_at_ns))
    }

    /// From the accept until a worker took it, or until it was let go.
    fn waited_us(self, end: End) -> Option<u64> {
        match end {
            End::Completed(_) => Some(micros(self.accepted_at_ns, self.claimed_at_ns?)),
            End::Lost => None,
            End::Shed(_) => Some(micros(self.accepted_at_ns, self.ended_at_ns)),
        }
    }
}

fn micros(from_ns: u64, to_ns: u64) -> u64 {
    to_ns.saturating_sub(from_ns) / 1000
}

/// A connection that has ended.
#[derive(Debug)]
pub(in crate::driver) struct Ended {
    conn: ConnId,
    visit: Visit,
    worker: Option<WorkerName>,
    end: End,
    times: Times,
    /// When it ended, as lines carry it.
    at_us: u64,
}

impl Ended {
    pub(super) fn new(conn: ConnId, visit: Visit, worker: Option<WorkerName>, end: End, now_ns: u64) -> Ended {
        let times = Times::of(visit.accepted_at_ns, visit.handed.map(|(_, at_ns)| at_ns), end, now_ns);
        Ended { conn, visit, worker, end, times, at_us: now_us() }
    }

    pub(super) fn took(&self) -> Duration {
        Duration::from_micros(self.times.took_us())
    }

    /// Whether it ended otherwise than it should.
    pub(super) fn went_wrong(&self) -> bool {
        self.end.words().1.is_some()
    }

    pub(super) fn came_back(&self) -> bool {
        self.visit.recalled > 0 || self.visit.redelivered > 0
    }

    /// Whose connection it was.
    pub(super) fn pool(&self) -> Option<&str> {
        let accepted = self.visit.place.as_ref().map(|place| place.pool.as_str());
        accepted.or_else(|| self.worker.as_ref().map(|name| name.pool.as_str()))
    }

    /// What the access log says of it.
    pub(super) fn access_line(&self) -> Line {
        let times = self.times;
        let middle = [("waited_us", times.waited_us(self.end)), ("served_us", times.served_us())];
        self.line(middle.into_iter())
    }

    /// What `ostler trace` says of it.
    pub(in crate::driver) fn trace_line(&self) -> Line {
        let times = self.times;
        let middle = [
            ("took_us", Some(times.took_us())),
            ("queued_us", times.queued_us(self.end)),
            ("claimed_us", times.claimed_us()),
            ("served_us", times.served_us()),
            ("recalled", Some(u64::from(self.visit.recalled))),
            ("redelivered", Some(u64::from(self.visit.redelivered))),
        ];
        self.line(middle.into_iter())
    }

    fn line(&self, counts: impl Iterator<Item = (&'static str, Option<u64>)>) -> Line {
        let text = |name, value: Option<String>| Some((Cow::Borrowed(name), Value::Text(value?)));
        let (outcome, reason) = self.end.words();
        let before = [
            text("conn", Some(self.conn.to_string())),
            text("pool", self.pool().map(str::to_owned)),
            text("listener", self.visit.place.as_ref().map(|place| place.listener.clone())),
            text("peer", self.visit.caller.shown()),
        ];
        let counts = counts.map(|(name, value)| Some((Cow::Borrowed(name), Value::Count(value?))));
        let after = [
            text("worker", self.worker.as_ref().map(WorkerName::to_string)),
            text("outcome", Some(outcome.to_owned())),
            text("reason", reason.map(str::to_owned)),
        ];
        let fields = before.into_iter().chain(counts).chain(after).flatten().collect();
        Line { at_us: self.at_us, level: Severity::Info, origin: Origin::Access, text: Vec::new(), fields }
    }
}

#[cfg(test)]
impl Ended {
    /// One that was turned away.
    pub(in crate::driver) fn shed_for_a_test(conn: ConnId) -> Ended {
        let visit = Visit {
            place: None,
            caller: crate::driver::listeners::Caller::Unknown,
            accepted_at_ns: 1000,
            handed: None,
            recalled: 0,
            redelivered: 0,
        };
        Ended::new(conn, visit, None, End::Shed(Shed::QueueFull), 2000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_claims_about_times_stays_within_what_we_know() {
        let seen = |claimed_at_ns, done_at_ns| {
            let end = End::Completed(Completion { conn: ConnId(1), outcome: Outcome::Done, claimed_at_ns, done_at_ns });
            let times = Times::of(2000, Some(4000), end, 10_000);
            (times.waited_us(end), times.queued_us(end), times.claimed_us(), times.served_us(), times.took_us())
        };
        assert_eq!(seen(5000, 9000), (Some(3), Some(2), Some(1), Some(4), 7));
        assert_eq!(seen(0, 0), (Some(2), Some(2), Some(0), Some(0), 2));
        assert_eq!(seen(u64::MAX, 3000), (Some(8), Some(2), Some(6), Some(0), 8));
    }

    #[test]
    fn of_what_no_worker_ended_only_the_line_is_known() {
        let shed = End::Shed(Shed::QueueFull);
        let times = Times::of(2000, None, shed, 10_000);
        assert_eq!((times.waited_us(shed), times.queued_us(shed), times.served_us()), (Some(8), Some(8), None));
        let times = Times::of(2000, Some(5000), End::Lost, 10_000);
        assert_eq!((times.waited_us(End::Lost), times.queued_us(End::Lost), times.claimed_us()), (None, Some(3), None));
    }
}
