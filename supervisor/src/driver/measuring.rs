//! Reads how much memory workers occupy, on the helper thread: /proc can block on a machine that is short of it (I5).

use nix::unistd::{Pid, SysconfVar, sysconf};
use ostler_pool::{Event, PoolNo};
use ostler_shared::WorkerId;

use super::Driver;
use super::jobs::Job;

/// Whose memory is to be read.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) pool: PoolNo,
    pub(crate) processes: Vec<(WorkerId, Pid)>,
}

/// Resident bytes of each process that is there. One that ended meanwhile has an answer that nobody heeds: its death is known
/// before its pid can be another's, and to the pool before this.
pub(crate) fn measure(order: &Order) -> Vec<(WorkerId, u64)> {
    let Some(page) = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|bytes| u64::try_from(bytes).ok()) else {
        return Vec::new(); // never seen: the kernel knows its pages
    };
    let size = |pid: &Pid| resident_pages(&std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?);
    order.processes.iter().filter_map(|(worker, pid)| Some((*worker, size(pid)?.saturating_mul(page)))).collect()
}

/// The second field of proc_pid_statm(5).
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_whitespace().nth(1)?.parse().ok()
}

impl Driver {
    pub(super) fn measure(&mut self, pool: PoolNo, workers: &[WorkerId]) {
        let living = workers.iter().filter_map(|worker| Some((*worker, self.workers.get(worker)?)));
        let processes = living.filter(|(_, link)| link.ended.is_none()).map(|(worker, link)| (worker, link.pid));
        let order = Order { pool, processes: processes.collect() };
        if self.jobs.ask(Job::Measure(order)).is_err() {
            // The helper thread is busy. The pool asks again in its own time.
            self.events.push_back(Event::Measured { pool, sizes: Vec::new() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_one_that_is_not_there_is_left_out() {
        let nobody = Pid::from_raw(i32::MAX);
        let processes = vec![(WorkerId(1), Pid::this()), (WorkerId(2), nobody)];
        let sizes = measure(&Order { pool: PoolNo(0), processes });
        assert_eq!(sizes.len(), 1, "{sizes:?}");
        assert_eq!(sizes[0].0, WorkerId(1));
        assert!((1 << 16..1 << 40).contains(&sizes[0].1), "{sizes:?}");
    }

    #[test]
    fn only_resident_pages_count() {
        assert_eq!(resident_pages("90000 1234 500 1 0 600 0\n"), Some(1234));
        assert_eq!(resident_pages("0 0 0 0 0 0 0\n"), Some(0), "what is left of a dead process");
        assert_eq!(resident_pages("90000"), None);
        assert_eq!(resident_pages("90000 many"), None);
    }
}
