//! Starts the other process: this program once more, which gets its descriptors over its standard input.
//!
//! The standard input is a SEQPACKET pair. First the descriptors travel on it, one message each, then the other process
//! says that it is at work, and at the end what arrived.

use std::error::Error;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use ostler_shared::sys::msg;

use crate::record::Arrived;

/// What the other process says when it has everything.
const AT_WORK: &[u8] = b"!";
/// Two words.
const REPORT_LEN: usize = 16;

/// The other process, as this one sees it. Dropping it ends it.
pub(crate) struct Other {
    child: Child,
    line: std::fs::File,
}

impl Other {
    /// Starts it in a role, with these descriptors, and waits until it is at work.
    pub(crate) fn start(role: &str, way: &str, fds: &[BorrowedFd<'_>]) -> io::Result<Other> {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        for fd in fds {
            msg::send_with_fd(ours.as_fd(), b"fd", *fd)?;
        }
        let mut command = Command::new(std::env::current_exe()?);
        let child = command.args([role, way]).stdin(Stdio::from(theirs)).spawn()?;
        drop(command); // it holds their end, and its end would never come
        let mut other = Other { child, line: ours.into() };
        let mut word = [0; 1];
        other.line.read_exact(&mut word)?;
        Ok(other)
    }

    /// Waits for its report, and its end.
    pub(crate) fn report(mut self) -> io::Result<Arrived> {
        let mut report = [0; REPORT_LEN];
        self.line.read_exact(&mut report)?;
        let word = |at: usize| u64::from_ne_bytes(report[at..at + 8].try_into().expect("eight bytes"));
        Ok(Arrived { count: word(0), wrong: word(8) })
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // After its report it ends by itself; killing one that has ended changes nothing.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// This process, when it is the other one.
pub(crate) struct Line {
    line: OwnedFd,
}

impl Line {
    /// Takes the line from the standard input.
    pub(crate) fn take() -> io::Result<Line> {
        Ok(Line { line: io::stdin().as_fd().try_clone_to_owned()? })
    }

    /// The next descriptor.
    pub(crate) fn descriptor(&self) -> Result<OwnedFd, Box<dyn Error>> {
        let mut word = [0; 8];
        let message = msg::recv(self.line.as_fd(), &mut word, 0)?;
        Ok(message.fds.into_iter().next().ok_or("a descriptor was to come, and none did")?)
    }

    /// Says that everything is there.
    pub(crate) fn at_work(&self) -> io::Result<()> {
        self.send(AT_WORK)
    }

    /// Says what arrived.
    pub(crate) fn report(&self, arrived: Arrived) -> io::Result<()> {
        let mut report = [0; REPORT_LEN];
        report[..8].copy_from_slice(&arrived.count.to_ne_bytes());
        report[8..].copy_from_slice(&arrived.wrong.to_ne_bytes());
        self.send(&report)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        std::fs::File::from(self.line.try_clone()?).write_all(bytes)
    }
}
