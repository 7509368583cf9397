//! Says where a child failed on its way to exec, in six bytes that it can write without a heap.

use std::io;

/// Where a child failed on its way to exec, in the order of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// setrlimit(2) of the limit at this place.
    Limit(u8),
    /// setpriority(2).
    Nice,
    /// setgroups(2).
    Groups,
    /// setresgid(2).
    Group,
    /// setresuid(2).
    User,
    /// capset(2).
    Capabilities,
    /// It is not who it became, or could become root again.
    Regained,
    /// prctl(PR_SET_NO_NEW_PRIVS).
    NewPrivileges,
    /// chdir(2) to the working directory.
    Directory,
    /// dup2(2) or close_range(2).
    Descriptors,
    /// execve(2).
    Exec,
}

/// Length of a failure report: a stage, a place, an errno.
pub(crate) const REPORT_LEN: usize = 6;

/// Reads what a child reported.
pub(crate) fn read_report(bytes: [u8; REPORT_LEN]) -> (Stage, io::Error) {
    let [stage, place, errno @ ..] = bytes;
    let stage = match stage {
        1 => Stage::Limit(place),
        2 => Stage::Nice,
        3 => Stage::Groups,
        4 => Stage::Group,
        5 => Stage::User,
        6 => Stage::Capabilities,
        7 => Stage::Regained,
        8 => Stage::NewPrivileges,
        9 => Stage::Directory,
        10 => Stage::Descriptors,
        _ => Stage::Exec,
    };
    (stage, io::Error::from_raw_os_error(i32::from_le_bytes(errno)))
}

impl Stage {
    /// What [`read_report`] reads.
    pub(super) fn written(self) -> [u8; 2] {
        match self {
            Stage::Limit(place) => [1, place],
            Stage::Nice => [2, 0],
            Stage::Groups => [3, 0],
            Stage::Group => [4, 0],
            Stage::User => [5, 0],
            Stage::Capabilities => [6, 0],
            Stage::Regained => [7, 0],
            Stage::NewPrivileges => [8, 0],
            Stage::Directory => [9, 0],
            Stage::Descriptors => [10, 0],
            Stage::Exec => [11, 0],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_is_read_as_it_was_written() {
        for stage in [
            Stage::Limit(0),
            Stage::Limit(7),
            Stage::Nice,
            Stage::Groups,
            Stage::Group,
            Stage::User,
            Stage::Capabilities,
            Stage::Regained,
            Stage::NewPrivileges,
            Stage::Directory,
            Stage::Descriptors,
            Stage::Exec,
        ] {
            let [number, place] = stage.written();
            let (read, error) = read_report([number, place, 13, 0, 0, 0]);
            assert_eq!((read, error.raw_os_error()), (stage, Some(13)));
        }
    }
}
