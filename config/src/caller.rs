//! Says what the process that reads a configuration may do for its workers, so that what it may not is refused in time.
//!
//! Looked up anew for each reading; a process can lose rights, and gains none by itself.

use std::fs;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{getegid, geteuid};

use crate::checked::Limit;

/// The process that reads.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The rights that it lacks.
    pub(crate) lacks: Vec<Right>,
    /// The least niceness that it may give.
    pub(crate) nice_min: i32,
    /// How far it may raise a limit; asked only of who lacks [`Right::Limits`].
    pub(crate) hard_limit: fn(Option<Limit>) -> u64,
}

/// What takes a privileged process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// To signal processes of other users.
    Kill,
    /// To choose groups.
    Groups,
    /// To choose users.
    User,
    /// To raise hard limits.
    Limits,
    /// To raise priorities.
    Nice,
}

impl Caller {
    /// The process that this runs in.
    pub(crate) fn of_this_process() -> Caller {
        let capabilities = effective_capabilities();
        let mut lacks: Vec<Right> = Right::ALL.into_iter().filter(|right| capabilities & right.bit() == 0).collect();
        // Who made a user namespace without privilege may not drop groups in it (user_namespaces(7)).
        let denied = fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny");
        if denied && !lacks.contains(&Right::Groups) {
            lacks.push(Right::Groups);
        }
        let nice_min = if lacks.contains(&Right::Nice) { nice_min_of_anybody() } else { NICE_LEAST };
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        Caller { uid, gid, lacks, nice_min, hard_limit }
    }

    /// The names of those of `rights` that it lacks; empty when it has them all.
    pub(crate) fn missing(&self, rights: &[Right]) -> Vec<&'static str> {
        rights.iter().filter(|right| self.lacks.contains(right)).map(|right| right.name()).collect()
    }

    /// The highest value that it may give a limit (`None`: that of descriptors).
    pub(crate) fn limit_max(&self, limit: Option<Limit>) -> u64 {
        if self.lacks.contains(&Right::Limits) { (self.hard_limit)(limit) } else { u64::MAX }
    }
}

impl Right {
    const ALL: [Right; 5] = [Right::Kill, Right::Groups, Right::User, Right::Limits, Right::Nice];

    /// As in capabilities(7).
    fn name(self) -> &'static str {
        match self {
            Right::Kill => "CAP_KILL",
            Right::Groups => "CAP_SETGID",
            Right::User => "CAP_SETUID",
            Right::Limits => "CAP_SYS_RESOURCE",
            Right::Nice => "CAP_SYS_NICE",
        }
    }

    /// Its place in the masks of /proc/PID/status (linux/capability.h).
    fn bit(self) -> u64 {
        1 << match self {
            Right::Kill => 5,
            Right::Groups => 6,
            Right::User => 7,
            Right::Nice => 23,
            Right::Limits => 24,
        }
    }
}

/// Without /proc, root is taken to have them all and others none: what is wrong about that shows when a worker starts.
fn effective_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(if geteuid().is_root() {
        u64::MAX
    } else {
        0
    })
}

/// Its own niceness, or what RLIMIT_NICE allows below it (getrlimit(2)).
fn nice_min_of_anybody() -> i32 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold anything; niceness is the 17th field behind it (proc_pid_stat(5)).
    let own = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(16)?.parse().ok()).unwrap_or(0);
    let allowed = getrlimit(Resource::RLIMIT_NICE).map_or(0, |(soft, _)| soft.min(40));
    own.min(20 - i32::try_from(allowed).unwrap_or(0)).max(NICE_LEAST)
}

fn hard_limit(limit: Option<Limit>) -> u64 {
    // An unknown limit is left to setrlimit(2) to refuse.
    getrlimit(limit.map_or(Resource::RLIMIT_NOFILE, Limit::resource)).map_or(u64::MAX, |(_, hard)| hard)
}

/// The highest priority that there is.
const NICE_LEAST: i32 = -20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known_to_itself() {
        let caller = Caller::of_this_process();
        assert_eq!(caller.uid, geteuid().as_raw());
        assert!((NICE_LEAST..=19).contains(&caller.nice_min), "{caller:?}");
        let may_raise = caller.missing(&[Right::Limits]).is_empty();
        assert_eq!(
            caller.limit_max(Some(Limit::Core)) == u64::MAX,
            may_raise || hard_limit(Some(Limit::Core)) == u64::MAX
        );
    }

    #[test]
    fn what_is_missing_is_called_by_its_name() {
        let caller = Caller { lacks: vec![Right::Groups, Right::Kill], ..Caller::of_this_process() };
        assert_eq!(caller.missing(&[Right::User, Right::Groups, Right::Kill]), ["CAP_SETGID", "CAP_KILL"]);
        assert_eq!(caller.missing(&[Right::User]), [""; 0]);
    }

    #[test]
    fn each_limit_has_a_hard_one() {
        for limit in Limit::ALL {
            assert_eq!(getrlimit(limit.resource()).map(|(_, hard)| hard), Ok(hard_limit(Some(limit))), "{limit:?}");
        }
    }
}
