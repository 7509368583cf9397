//! Takes, duplicates and inspects descriptors.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Takes ownership of a descriptor that was inherited across exec, and makes it close-on-exec.
///
/// # Errors
/// `EBADF` when nothing is open under that number; the number is then not taken.
///
/// # Safety
/// Nothing else in this process may own `fd`, now or later: two owners would close it twice.
pub unsafe fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD takes an int and touches no memory; a bad number answers EBADF.
    let answer = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    if answer == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above showed that it is open; the caller promises that it is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Duplicates `fd` to the lowest free number that is at least `at_least`, close-on-exec.
///
/// # Errors
/// `EMFILE` at the process's limit, `EINVAL` when `at_least` is above it (fcntl(2)).
pub fn duplicate(fd: BorrowedFd<'_>, at_least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: `fd` is open for the length of the borrow; the call takes ints only.
    let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, at_least) };
    if copy == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this number for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Bytes that wait unread in a socket: for a mailbox, messages × ticket size.
///
/// # Errors
/// Whatever ioctl(FIONREAD) answers; on an open socket, nothing.
pub fn unread_bytes(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int to the pointer, which outlives the call.
    let answer = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    if answer == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// How many bytes of a socket `unread_bytes` counts ÷ `record` bytes each.
///
/// # Errors
/// As [`unread_bytes`].
pub fn unread_records(fd: BorrowedFd<'_>, record: usize) -> io::Result<usize> {
    unread_bytes(fd).map(|bytes| bytes / record)
}

/// The descriptors that this process has open, in ascending order, without the one that looks.
///
/// # Errors
/// When `/proc/self/fd` can't be read.
pub fn open_descriptors() -> io::Result<Vec<RawFd>> {
    let dir = nix::dir::Dir::open(
        "/proc/self/fd",
        nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )?;
    let own = dir.as_fd().as_raw_fd();
    let mut fds = Vec::new();
    for entry in dir {
        let name = entry?.file_name().to_string_lossy().into_owned();
        fds.extend(name.parse::<RawFd>().ok().filter(|fd| *fd != own));
    }
    fds.sort_unstable();
    Ok(fds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_is_at_least_where_it_was_asked_and_close_on_exec() {
        let (end, _other) = io::pipe().unwrap();
        let copy = duplicate(end.as_fd(), 50).unwrap();
        assert!(copy.as_raw_fd() >= 50);
        let flags = nix::fcntl::fcntl(&copy, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        assert!(open_descriptors().unwrap().contains(&copy.as_raw_fd()));
    }

    #[test]
    fn a_number_that_is_not_open_is_not_adopted() {
        // SAFETY: descriptor 999,999 is open in no process of this suite, so nobody owns it.
        let refused = unsafe { adopt(999_999) };
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
