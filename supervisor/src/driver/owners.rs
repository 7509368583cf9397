//! Sees the processes of unmodified programs end that hold connections: those that we did not start ourselves.
//!
//! The shim tells of an orderly end, and of children whose parent reaps them. A process that is killed while its parent does not
//! look, ignores SIGCHLD or is gone itself says nothing. So each process that the table names is watched by a pidfd from its
//! first claim on; when it has ended, a zombie included, what no living process holds is over (`Table::bury`).
//!
//! A number is a process only together with the time of its start: whoever has the number now and started at another time is
//! a stranger, and the owner gone. (`/proc` is read after the pidfd is open: the same start means the same process.)
//!
//! At most [`OWNERS_MAX`] are watched at a time. The others are looked for once per [`LOOK_EVERY`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use ostler_pool::{Event, Moment};
use ostler_shared::WorkerId;
use ostler_shared::claims::Holder;
use ostler_shared::completion::Outcome;
use ostler_shared::sys::clock::monotonic_ns;

use super::sources::Source;
use super::{Driver, child};

/// Most processes that are watched at a time, over all pools; `limits.rs` provides for their descriptors.
pub(crate) const OWNERS_MAX: usize = 256;
/// How often the table of a worker is looked at that has more of them.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The processes that are watched.
#[derive(Debug, Default)]
pub(super) struct Owners {
    watched: BTreeMap<u64, Owner>,
    next_no: u64,
    /// Workers some of whose processes could not be watched.
    crowded: BTreeSet<WorkerId>,
    look_at: Option<Moment>,
}

#[derive(Debug)]
struct Owner {
    worker: WorkerId,
    holder: Holder,
    pidfd: OwnedFd,
}

impl Owners {
    /// When somebody has to be looked for.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.look_at
    }

    fn knows(&self, worker: WorkerId, holder: Holder) -> bool {
        self.watched.values().any(|owner| owner.worker == worker && owner.holder == holder)
    }
}

/// How a process is that the table names.
enum Found {
    Alive(OwnedFd),
    /// As far as can be told still, with this outcome of what it held.
    Gone(Outcome),
    /// We can't look: no descriptor, no memory.
    Unknown,
}

fn find(holder: Holder) -> Found {
    let pid = holder.pid();
    let pidfd = match child::pidfd_open(pid) {
        Ok(pidfd) => pidfd,
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Found::Gone(Outcome::Dropped),
        // Some kernels answer EINVAL of a number that is a thread's.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Found::Gone(Outcome::Dropped),
        Err(_) => return Found::Unknown,
    };
    let Ok(stat) = Stat::of(pid) else { return Found::Unknown };
    match stat {
        Some(stat) if holder.has_started_at(stat.started) && stat.is_alive() => Found::Alive(pidfd),
        Some(stat) if holder.has_started_at(stat.started) => Found::Gone(stat.outcome()),
        Some(_) | None => Found::Gone(Outcome::Dropped),
    }
}

/// What `/proc/PID/stat` says of a process (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: u8,
    started: u64,
    /// As waitpid(2) has it; 0 for who may not know.
    exit_code: i32,
}

impl Stat {
    /// # Errors
    /// When it can't be read although it may be there: that says nothing of the process.
    fn of(pid: i32) -> io::Result<Option<Stat>> {
        match std::fs::read(format!("/proc/{pid}/stat")) {
            Ok(text) => Ok(Stat::parse(&text)),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fields are counted from behind the name, which may hold anything.
    fn parse(text: &[u8]) -> Option<Stat> {
        let name_end = text.iter().rposition(|byte| *byte == b')')?;
        let fields: Vec<&str> = std::str::from_utf8(text.get(name_end + 2..)?).ok()?.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3);
        Some(Stat {
            state: *number(3)?.as_bytes().first()?,
            started: number(22)?.parse().ok()?,
            exit_code: number(52).and_then(|code| code.parse().ok()).unwrap_or(0),
        })
    }

    fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// One that was killed has cut what it held; one that left has closed it.
    fn outcome(&self) -> Outcome {
        if libc::WIFEXITED(self.exit_code) { Outcome::Done } else { Outcome::Dropped }
    }
}

impl Driver {
    /// Watches who has come to the processes of a worker that hold something.
    pub(super) fn welcome_newcomers(&mut self, worker: WorkerId) {
        let Some(ring) = self.workers.get(&worker).filter(|link| link.ended.is_none()).map(|link| link.ring) else {
            return;
        };
        let Some(table) = self.rings.believed_table(ring) else { return };
        let newcomers = table.newcomers();
        self.watch_owners(worker, newcomers);
    }

    fn watch_owners(&mut self, worker: WorkerId, holders: BTreeSet<Holder>) {
        for holder in holders {
            // Of the process that we started we know the end, and it is the end of all.
            let is_first = self.workers.get(&worker).is_none_or(|link| link.pid.as_raw() == holder.pid());
            if is_first || self.owners.knows(worker, holder) {
                continue;
            }
            let no = self.owners.next_no;
            match find(holder) {
                Found::Gone(outcome) => self.bury_owner(worker, holder, outcome),
                Found::Alive(pidfd)
                    if self.owners.watched.len() < OWNERS_MAX
                        && self.sources.add(&pidfd, Source::Owner(no)).is_ok() =>
                {
                    self.owners.next_no += 1;
                    self.owners.watched.insert(no, Owner { worker, holder, pidfd });
                }
                Found::Alive(_) | Found::Unknown => self.look_later(worker),
            }
        }
    }

    fn look_later(&mut self, worker: WorkerId) {
        self.owners.crowded.insert(worker);
        let at = self.now() + LOOK_EVERY;
        self.owners.look_at.get_or_insert(at);
    }

    /// A watched process has ended.
    pub(super) fn attend_owner(&mut self, no: u64) {
        let Some(Owner { worker, holder, pidfd }) = self.owners.watched.remove(&no) else { return };
        self.sources.remove(&pidfd);
        // A zombie tells how it ended; who was reaped by somebody else doesn't, and then the worst is assumed.
        let Ok(stat) = Stat::of(holder.pid()) else { return self.look_later(worker) };
        let outcome = stat.filter(|stat| holder.has_started_at(stat.started));
        // What it said before it ended comes first.
        self.read_ring(worker);
        self.bury_owner(worker, holder, outcome.map_or(Outcome::Dropped, |stat| stat.outcome()));
    }

    fn bury_owner(&mut self, worker: WorkerId, holder: Holder, outcome: Outcome) {
        let Some(link) = self.workers.get(&worker).filter(|link| link.ended.is_none()) else { return };
        let ring = link.ring;
        let Some(table) = self.rings.believed_table(ring) else { return };
        let mut completions = Vec::new();
        let honest = table.bury(holder, outcome, monotonic_ns(), &mut completions);
        self.rings.returned(ring, completions.len());
        for completion in completions {
            self.visit_completed(worker, &completion);
            self.step(Event::Completed { worker, completion });
        }
        if let Err(lied) = honest {
            self.misbehaved(worker, format!("reported {lied}"));
        }
    }

    /// Looks for those who could not be watched.
    pub(super) fn look_for_owners(&mut self, now: Moment) {
        if self.owners.look_at.is_none_or(|at| at > now) {
            return;
        }
        self.owners.look_at = None;
        for worker in std::mem::take(&mut self.owners.crowded) {
            let ring = self.workers.get(&worker).filter(|link| link.ended.is_none()).map(|link| link.ring);
            let holders = ring.and_then(|ring| self.rings.believed_table(ring)).map(|table| table.holders());
            self.watch_owners(worker, holders.unwrap_or_default());
        }
    }

    /// A worker has ended, and with it all that was held in its name.
    pub(super) fn forget_owners(&mut self, worker: WorkerId) {
        let gone: Vec<u64> =
            self.owners.watched.iter().filter(|(_, owner)| owner.worker == worker).map(|(no, _)| *no).collect();
        for owner in gone.into_iter().filter_map(|no| self.owners.watched.remove(&no)) {
            self.sources.remove(&owner.pidfd);
        }
        self.owners.crowded.remove(&worker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_process_is_read_whatever_it_is_called() {
        let zeroes = |count| " 0".repeat(count);
        let line = format!("7 (a) Z 1)) Z 1 2{} 4711{} 9\n", zeroes(16), zeroes(29));
        let stat = Stat::parse(line.as_bytes()).unwrap();
        assert_eq!(stat, Stat { state: b'Z', started: 4711, exit_code: 9 });
        assert_eq!((stat.is_alive(), stat.outcome()), (false, Outcome::Dropped));
        assert_eq!(Stat::parse(b"7 (a) S 1 2"), None);
    }

    #[test]
    fn an_owner_is_found_by_its_number_and_its_start_together() {
        let pid = std::process::id().cast_signed();
        let started = Stat::of(pid).unwrap().unwrap().started;
        assert!(matches!(find(Holder::new(pid, started).unwrap()), Found::Alive(_)));
        let before = Holder::new(pid, started - 1).unwrap();
        assert!(matches!(find(before), Found::Gone(Outcome::Dropped)), "somebody else has its number now");
        let never = Holder::new((1 << 22) - 1, 1).unwrap();
        assert!(matches!(find(never), Found::Gone(Outcome::Dropped)));
    }
}
