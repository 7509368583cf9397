//! Leaves children behind that hold a worker's descriptors.

use std::io;
use std::os::fd::AsFd;
use std::process::{Command, exit};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::unistd::{Pid, getsid, setsid};
use ostler_tests::deadline::{SOON, wait_until};

use super::{Raw, park};

/// Modes of the children.
pub(super) const STAYS: &str = "child";
pub(super) const MOVES_OUT: &str = "child_in_a_session";

/// How often a child rings for a parent that is gone.
const RINGS: usize = 10_000;

/// Where a child lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// In the worker's process group.
    Group,
    /// In a session of its own, out of reach of signals to the group.
    Session,
}

impl Raw {
    /// Dies while a connection waits in its mailbox, and a child has all that it had.
    pub(super) fn die_of_childbirth(&self, home: Home) {
        self.peek();
        self.bequeath().expect("flags of our own descriptors");
        let mode = match home {
            Home::Group => STAYS,
            Home::Session => MOVES_OUT,
        };
        let program = std::env::current_exe().expect("a running program has a path");
        let child = Command::new(program).arg(mode).arg(&self.peace.0).spawn().expect("a process");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        match home {
            Home::Group => self.did_it(),
            Home::Session => wait_until(SOON, "the child moves out", || getsid(Some(pid)) == Ok(pid)),
        }
        exit(9);
    }

    fn bequeath(&self) -> io::Result<()> {
        for fd in [self.region_fd.as_fd(), self.gauges_fd.as_fd(), self.doorbell.as_fd()] {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(())
    }

    /// Goes on claiming in its parent's name as long as it can, then rings, and publishes what is not true.
    pub(super) fn outlive_the_parent(&self) -> ! {
        self.peace.leave_a_sign(&format!("child-{}", std::process::id()));
        setsid().expect("no leader of a group");
        let mut hoard = Vec::new();
        while let Some(claimed) = self.take() {
            hoard.push(claimed);
        }
        for count in 0..RINGS {
            self.claim_to_have_published(count as u64);
        }
        self.did_it();
        park()
    }
}
