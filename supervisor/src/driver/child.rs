//! Forks, executes and reaps: the unsafe door to processes.
//!
//! Everything is prepared before the fork. Between fork and exec the child is a guest in a burning house: another
//! thread may have held any lock when it was copied, so it makes async-signal-safe calls only (signal-safety(7)), allocates
//! nothing, drops nothing, and either executes the program or reports one stage and one errno through a pipe.
#![allow(unsafe_code)]

mod becoming;
mod report;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use nix::sys::resource::Resource;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::Pid;
use ostler_config::checked::NewPrivileges;
use ostler_pool::Exit;
use ostler_shared::packet::retry_interrupted;

use becoming::{PidLine, become_worker};
pub(crate) use report::{REPORT_LEN, Stage, read_report};

/// Descriptors below this number are laid out for a child, unless it gets more; what is copied from has a higher one.
pub(crate) const FIRST_SPARE_FD: RawFd = 16;

/// What a child needs to become a worker, complete before the fork.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The file to execute, absolute.
    pub(crate) program: CString,
    /// `argv`, program name first.
    pub(crate) arguments: Vec<CString>,
    /// `NAME=value`.
    pub(crate) environment: Vec<CString>,
    /// The first is that of descriptors; a report names the one that was refused by its place.
    pub(crate) limits: Vec<Limit>,
    /// Niceness.
    pub(crate) nice: Option<libc::c_int>,
    /// Permissions that new files don't get.
    pub(crate) umask: Option<libc::mode_t>,
    /// Whom to become.
    pub(crate) identity: Identity,
    /// Where to go, as that user.
    pub(crate) directory: Option<CString>,
    /// Whether exec may ever give more rights again.
    pub(crate) new_privileges: NewPrivileges,
    /// What becomes descriptor 0, 1, 2 …; each has a number beyond them ([`source_beyond`]). `None` is closed.
    pub(crate) descriptors: Vec<Option<OwnedFd>>,
    /// Whether a variable tells the program its own number.
    pub(crate) listen_pid: ListenPid,
    /// The signal that it gets when we die.
    pub(crate) parent_death: Option<Signal>,
    /// This process.
    pub(crate) parent: Pid,
    /// Close-on-exec: its end says that exec succeeded.
    pub(crate) error_pipe: OwnedFd,
}

/// Whether a child is told its own number, which nobody knows before the fork (sd_listen_fds(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListenPid {
    Told,
    Untold,
}

/// A limit to set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) resource: Resource,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// Whom a child becomes; what is `None` stays.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) uid: Option<libc::uid_t>,
    pub(crate) gid: Option<libc::gid_t>,
    pub(crate) groups: Option<Vec<libc::gid_t>>,
}

/// Makes a process of its own group that executes `prepared`. The pid is not reaped before the pidfd exists.
///
/// # Errors
/// As fork(2) and pidfd_open(2); in the latter case the child is killed again.
pub(crate) fn fork_exec(prepared: &Prepared) -> io::Result<(Pid, OwnedFd)> {
    fork_exec_in(prepared, Group::Own)
}

/// Which process group a child belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// Its own.
    Own,
    /// That of who forks.
    Shared,
}

/// As [`fork_exec`], in a group of choice.
///
/// # Errors
/// As [`fork_exec`].
pub(crate) fn fork_exec_in(prepared: &Prepared, group: Group) -> io::Result<(Pid, OwnedFd)> {
    let arguments = null_terminated(&prepared.arguments);
    let mut own_number = PidLine::new();
    let variable = match prepared.listen_pid {
        ListenPid::Told => Some(own_number.text()),
        ListenPid::Untold => None,
    };
    let environment: Vec<*const libc::c_char> =
        variable.into_iter().chain(null_terminated(&prepared.environment)).collect();
    // A signal that arrives between fork and exec must not run our handlers in the child.
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    // SAFETY: the child calls nothing but `become_worker`, which is async-signal-safe and does not return.
    let pid = unsafe { libc::fork() };
    let error = io::Error::last_os_error();
    if pid == 0 {
        become_worker(prepared, group, &mut own_number, &arguments, &environment);
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    if pid == -1 {
        return Err(error);
    }
    if group == Group::Own {
        // Both sides do it: whoever comes second finds it done (setpgid(2): EACCES after the exec).
        // SAFETY: ints only.
        unsafe { libc::setpgid(pid, pid) };
    }
    match pidfd_open(pid) {
        Ok(pidfd) => Ok((Pid::from_raw(pid), pidfd)),
        Err(error) => {
            // SAFETY: our own child, not reaped yet, so the pid is its.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, ptr::null_mut(), 0);
            }
            Err(error)
        }
    }
}

fn null_terminated(texts: &[CString]) -> Vec<*const libc::c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

/// A descriptor of the process that has this number now (pidfd_open(2)).
///
/// # Errors
/// `ESRCH` when there is none, `EINVAL` when it is the number of a thread; no descriptors, no memory.
pub(crate) fn pidfd_open(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: ints only (pidfd_open(2); close-on-exec by itself).
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd == -1 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(fd).expect("a descriptor is an int");
    // SAFETY: the kernel just made this number for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Why a process that somebody says to be a child of ours is not taken for one.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// It is none that it could be.
    Impostor,
    /// It is, but there is no getting hold of it.
    Shortage(io::Error),
}

/// Takes a process for one that the leader of `group` has forked for us, and gives it a group of its own. Nothing that is
/// said of it is believed: it is our child, and it is in that group, which nobody enters from another pool by being born.
///
/// # Errors
/// When it is not, and when there is no descriptor for it: then it is killed, and reaped as a stranger.
pub(crate) fn take_forked(pid: Pid, group: Pid) -> Result<OwnedFd, NotTaken> {
    let pidfd = pidfd_open(pid.as_raw());
    let (kind, number) = match &pidfd {
        Ok(pidfd) => (libc::P_PIDFD, pidfd.as_raw_fd()),
        Err(_) => (libc::P_PID, pid.as_raw()),
    };
    // Our children are reaped by us alone, so what is our child now was it when the pidfd was opened.
    if !is_our_child(kind, number) || nix::unistd::getpgid(Some(pid)) != Ok(group) {
        return Err(NotTaken::Impostor);
    }
    let pidfd = pidfd.map_err(|error| {
        let _killed = signal_one(pid, libc::SIGKILL);
        NotTaken::Shortage(error)
    })?;
    // It fails for one that has ended meanwhile, which is no concern.
    let _grouped = nix::unistd::setpgid(pid, pid);
    Ok(pidfd)
}

fn is_our_child(kind: libc::idtype_t, number: i32) -> bool {
    retry_interrupted(|| {
        // SAFETY: waitid writes to nothing but siginfo_t, which is plain data.
        let answer = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            libc::waitid(kind, number.unsigned_abs(), &raw mut info, options)
        };
        if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    })
    .is_ok()
}

/// From now on orphans of our descendants are our children, so that who is forked by a child of a child can be ours.
///
/// # Errors
/// As prctl(2), PR_SET_CHILD_SUBREAPER; on Linux, nothing.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    // SAFETY: ints only.
    match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Which children to look at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which<'a> {
    /// Any.
    Any,
    /// The one with this pid.
    Pid(Pid),
    /// The one behind this pidfd.
    Pidfd(BorrowedFd<'a>),
}

/// A child that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) pid: Pid,
    pub(crate) exit: Exit,
    pub(crate) core: Core,
    pub(crate) usage: Usage,
}

/// Whether a child's memory was dumped, or given to who collects dumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Core {
    Dumped,
    None,
}

/// What a child used in its life, and those of its own children that it had waited for (getrusage(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    /// The most memory that it had resident at a time. Never less than the supervisor had when it forked: the kernel
    /// carries that over the exec.
    pub(crate) rss_max_bytes: u64,
    pub(crate) minor_faults: u64,
    pub(crate) major_faults: u64,
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
}

impl Usage {
    fn of(raw: &libc::rusage) -> Usage {
        let length = |time: libc::timeval| {
            let micros = count(time.tv_usec).saturating_mul(1000);
            Duration::from_secs(count(time.tv_sec)).saturating_add(Duration::from_nanos(micros))
        };
        Usage {
            user: length(raw.ru_utime),
            system: length(raw.ru_stime),
            rss_max_bytes: count(raw.ru_maxrss).saturating_mul(1024),
            minor_faults: count(raw.ru_minflt),
            major_faults: count(raw.ru_majflt),
            voluntary_switches: count(raw.ru_nvcsw),
            involuntary_switches: count(raw.ru_nivcsw),
        }
    }
}

/// The kernel's counts are signed and never negative.
fn count(raw: i64) -> u64 {
    u64::try_from(raw).unwrap_or(0)
}

/// Whether a child that has ended is reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reap {
    Yes,
    /// It stays a zombie, so that its pid is still its own.
    No,
}

/// Looks for a child that has ended; never waits. nix's waitid is not used: it has no real-time signals. Neither is that of
/// the C library: it hides the fifth argument of the system call, the resource usage (waitid(2), "C library/kernel
/// differences").
///
/// # Errors
/// As waitid(2); that there is no child is `None`.
pub(crate) fn ended_child(which: Which<'_>, reap: Reap) -> io::Result<Option<Ended>> {
    let (kind, id) = match which {
        Which::Any => (libc::P_ALL, 0),
        Which::Pid(pid) => (libc::P_PID, pid.as_raw().unsigned_abs()),
        Which::Pidfd(fd) => (libc::P_PIDFD, fd.as_raw_fd().unsigned_abs()),
    };
    let keep = if reap == Reap::No { libc::WNOWAIT } else { 0 };
    let waited = retry_interrupted(|| {
        // SAFETY: siginfo_t and rusage are plain data, and waitid writes to these alone; all zeroes means that nobody
        // has ended.
        let (answer, info, usage) = unsafe {
            let (mut info, mut usage): (libc::siginfo_t, libc::rusage) = (std::mem::zeroed(), std::mem::zeroed());
            let options = libc::WEXITED | libc::WNOHANG | keep;
            let answer = libc::syscall(libc::SYS_waitid, kind, id, &raw mut info, options, &raw mut usage);
            (answer, info, usage)
        };
        if answer == -1 { Err(io::Error::last_os_error()) } else { Ok((info, usage)) }
    });
    let (info, usage) = match waited {
        Ok(waited) => waited,
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
        Err(error) => return Err(error),
    };
    // SAFETY: waitid filled these fields in, or left them zero.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let exit = if info.si_code == libc::CLD_EXITED { Exit::Code(status) } else { Exit::Signal(status) };
    let core = if info.si_code == libc::CLD_DUMPED { Core::Dumped } else { Core::None };
    Ok((pid != 0).then(|| Ended { pid: Pid::from_raw(pid), exit, core, usage: Usage::of(&usage) }))
}

/// Sends a signal to the process group of a child that is not reaped yet, and to the child itself where it has
/// left its group.
///
/// # Errors
/// As kill(2), when neither the group nor the process can be signalled.
pub(crate) fn signal_group(leader: Pid, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: ints only. The leader is not reaped, so neither its pid nor its group's number is reused.
    let (answer, group) = unsafe { (libc::kill(-leader.as_raw(), signal), libc::getpgid(leader.as_raw())) };
    // A second TERM means "faster" to many programs, so one that got it with its group gets no other.
    if answer == 0 && group == leader.as_raw() && signal != libc::SIGKILL {
        return Ok(());
    }
    // SAFETY: as above.
    match unsafe { libc::kill(leader.as_raw(), signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends a signal to a child that is not reaped yet, and to no other process.
///
/// # Errors
/// As kill(2).
pub(crate) fn signal_one(child: Pid, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: ints only. It is not reaped, so its pid is its own.
    match unsafe { libc::kill(child.as_raw(), signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Copies a descriptor above the numbers that a child's own ones are laid out on.
///
/// # Errors
/// As fcntl(F_DUPFD_CLOEXEC).
pub(crate) fn source(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    source_beyond(fd, 0)
}

/// The same for a child that gets `laid_out` descriptors, which may be more than usual.
///
/// # Errors
/// As fcntl(F_DUPFD_CLOEXEC).
pub(crate) fn source_beyond(fd: BorrowedFd<'_>, laid_out: usize) -> io::Result<OwnedFd> {
    let laid_out = RawFd::try_from(laid_out).unwrap_or(RawFd::MAX);
    ostler_shared::sys::fd::duplicate(fd, laid_out.max(FIRST_SPARE_FD))
}
