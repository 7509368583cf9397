//! Turns the copy of the supervisor that a fork made into a worker, or ends it with a report.
//!
//! Whatever is here runs between fork and exec: async-signal-safe calls, no heap, no lock, no log, no panic, no drop.

use std::os::fd::{AsRawFd, RawFd};
use std::ptr;

use ostler_config::checked::NewPrivileges;

use super::report::{REPORT_LEN, Stage};
use super::{Group, Identity, Prepared};

/// The child's side. Never returns: exec, or a report and `_exit`.
///
/// Limits and niceness come first, while it may still raise them; then it becomes its user, and whatever follows is done
/// with that user's rights.
pub(super) fn become_worker(
    prepared: &Prepared,
    group: Group,
    own_number: &mut PidLine,
    arguments: &[*const libc::c_char],
    environment: &[*const libc::c_char],
) -> ! {
    // SAFETY: only async-signal-safe calls on memory that the parent prepared and that this copy still has.
    unsafe {
        let report_to = prepared.error_pipe.as_raw_fd();
        if let Group::Own = group {
            libc::setpgid(0, 0);
        }
        restore_signals();
        take_limits(prepared, report_to);
        take_identity(&prepared.identity, report_to);
        match prepared.new_privileges {
            NewPrivileges::Never => {
                let never = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                or_give_up(never, report_to, Stage::NewPrivileges);
            }
            NewPrivileges::AsInherited => {}
        }
        if let Some(directory) = &prepared.directory {
            or_give_up(libc::chdir(directory.as_ptr()), report_to, Stage::Directory);
        }
        if let Some(signal) = prepared.parent_death {
            // After the change of user, which clears it (prctl(2)); and we may be an orphan already.
            libc::prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_int, 0, 0, 0);
            if libc::getppid() != prepared.parent.as_raw() {
                libc::raise(signal as libc::c_int);
            }
        }
        own_number.write(libc::getpid());
        for (number, fd) in prepared.descriptors.iter().enumerate() {
            match fd {
                // Sources are beyond what is laid out, so no copy lands on a source.
                Some(fd) => or_give_up(libc::dup2(fd.as_raw_fd(), number as RawFd), report_to, Stage::Descriptors),
                None => drop(libc::close(number as RawFd)),
            }
        }
        let beyond = prepared.descriptors.len() as libc::c_uint;
        // Marks what is left, ours and what we inherited ourselves, to be closed by exec; the report pipe too.
        if libc::syscall(libc::SYS_close_range, beyond, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) == -1 {
            give_up(report_to, Stage::Descriptors);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        libc::execve(prepared.program.as_ptr(), arguments.as_ptr(), environment.as_ptr());
        give_up(report_to, Stage::Exec)
    }
}

/// `LISTEN_PID=`, with room for the number that only the child knows.
#[derive(Debug)]
pub(super) struct PidLine([u8; PID_LINE_LEN]);

const PID_NAME: &[u8] = b"LISTEN_PID=";
/// The digits of the largest int, and NUL.
const PID_LINE_LEN: usize = PID_NAME.len() + 11;

impl PidLine {
    pub(super) fn new() -> PidLine {
        let mut line = [0; PID_LINE_LEN];
        line[..PID_NAME.len()].copy_from_slice(PID_NAME);
        PidLine(line)
    }

    /// For the environment; what is written later is read there.
    pub(super) fn text(&mut self) -> *const libc::c_char {
        self.0.as_mut_ptr().cast_const().cast()
    }

    fn write(&mut self, pid: libc::pid_t) {
        let (mut left, mut digits, mut count) = (pid.unsigned_abs(), [0u8; 10], 0);
        while count == 0 || left > 0 {
            digits[count] = b'0' + (left % 10) as u8;
            left /= 10;
            count += 1;
        }
        for place in 0..count {
            self.0[PID_NAME.len() + place] = digits[count - 1 - place];
        }
        self.0[PID_NAME.len() + count] = 0;
    }
}

/// Sets limits, niceness and umask.
///
/// # Safety
/// For the child between fork and exec only.
unsafe fn take_limits(prepared: &Prepared, report_to: RawFd) {
    // SAFETY: ints, and two words for a limit that live through their call; it has nowhere to write the old one.
    unsafe {
        for (place, limit) in prepared.limits.iter().enumerate() {
            let both = [limit.soft, limit.hard]; // struct rlimit64 of prlimit(2)
            let resource = limit.resource as libc::c_int;
            let unread = ptr::null_mut::<u64>();
            if libc::syscall(libc::SYS_prlimit64, 0, resource, both.as_ptr(), unread) == -1 {
                give_up(report_to, Stage::Limit(place as u8));
            }
        }
        if let Some(nice) = prepared.nice
            && libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, nice) == -1
        {
            give_up(report_to, Stage::Nice);
        }
        if let Some(umask) = prepared.umask {
            libc::umask(umask);
        }
    }
}

/// Becomes its user for good: groups, group, user, no capability, and then tries to come back.
///
/// By raw system calls: the functions of the C library make every thread of the process change as well, by a signal and
/// under a lock that a thread which is not in this copy may have held.
///
/// # Safety
/// For the child between fork and exec only.
unsafe fn take_identity(identity: &Identity, report_to: RawFd) {
    // SAFETY: ints, and memory that lives through the calls: the list of groups has the length that is said, the kernel
    // writes three ids and reads a header and two sets, which is what version 3 of capset(2) has.
    unsafe {
        if let Some(groups) = &identity.groups
            && libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) == -1
        {
            give_up(report_to, Stage::Groups);
        }
        if let Some(gid) = identity.gid
            && libc::syscall(libc::SYS_setresgid, gid, gid, gid) == -1
        {
            give_up(report_to, Stage::Group);
        }
        let Some(uid) = identity.uid else { return };
        if libc::syscall(libc::SYS_setresuid, uid, uid, uid) == -1 {
            give_up(report_to, Stage::User);
        }
        if uid == ROOT {
            return;
        }
        // The change took root's capabilities away; those that a supervisor without root was given would stay.
        let header = [LINUX_CAPABILITY_VERSION_3, 0];
        let none = [0u32; 6];
        if libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) == -1 {
            give_up(report_to, Stage::Capabilities);
        }
        let mut now = [ROOT; 3];
        let [real, effective, saved] = &mut now;
        let asked = libc::syscall(libc::SYS_getresuid, real, effective, saved);
        if asked == -1 || now != [uid; 3] || libc::syscall(libc::SYS_setresuid, ROOT, ROOT, ROOT) != -1 {
            *libc::__errno_location() = libc::EPERM;
            give_up(report_to, Stage::Regained);
        }
    }
}

/// The user that may do everything.
const ROOT: libc::uid_t = 0;
/// Two words of header, two sets of three words (linux/capability.h).
const LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;

// Where ids once had 16 bits, the calls of these names still take those.
const _: () =
    assert!(usize::BITS == 64, "write setgroups32, setresgid32, setresuid32 and getresuid32 for this machine");

/// Goes on unless a call answered -1.
///
/// # Safety
/// For the child between fork and exec only.
unsafe fn or_give_up(answer: libc::c_int, report_to: RawFd, stage: Stage) {
    if answer == -1 {
        // SAFETY: as for this function.
        unsafe { give_up(report_to, stage) }
    }
}

/// Puts every signal back to its default action: exec keeps ignored ones ignored.
///
/// # Safety
/// For the child between fork and exec only.
unsafe fn restore_signals() {
    // SAFETY: all zeroes with SIG_DFL is a valid sigaction; the numbers that can't be changed answer EINVAL.
    unsafe {
        let mut default: libc::sigaction = std::mem::zeroed();
        default.sa_sigaction = libc::SIG_DFL;
        for signal in 1..=libc::SIGRTMAX() {
            libc::sigaction(signal, &raw const default, ptr::null_mut());
        }
    }
}

/// Reports a stage and errno, and ends the child.
///
/// # Safety
/// For the child between fork and exec only.
unsafe fn give_up(report_to: RawFd, stage: Stage) -> ! {
    // SAFETY: errno is this thread's own; write and _exit are async-signal-safe.
    unsafe {
        let errno = (*libc::__errno_location()).to_le_bytes();
        let [stage, place] = stage.written();
        let report: [u8; REPORT_LEN] = [stage, place, errno[0], errno[1], errno[2], errno[3]];
        // Six bytes into an empty pipe: written whole, or nobody listens any more.
        libc::write(report_to, report.as_ptr().cast(), REPORT_LEN);
        libc::_exit(127)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_writes_its_number_behind_the_name() {
        for pid in [1, 10, 4_194_304, i32::MAX] {
            let mut line = PidLine::new();
            line.write(pid);
            let text = std::ffi::CStr::from_bytes_until_nul(&line.0).unwrap();
            assert_eq!(text.to_str().unwrap(), format!("LISTEN_PID={pid}"));
        }
    }
}
