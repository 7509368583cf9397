//! Copies this process for the supervisor: the unsafe door of templates.
//!
//! ```text
//! template ──fork──▶ go-between ──fork──▶ worker
//!    │ reads the worker's pid ◀── writes it, ends     └─ an orphan, adopted by the supervisor
//! ```
//! fork(2) of the C library twice, not clone3(2) with CLONE_PARENT once: only fork runs what libraries have registered by
//! pthread_atfork(3), and a generator of random numbers that is not told of the copy gives all workers the same ones
//! (docs/decisions/0017-a-template-forks-twice.md).
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use ostler_shared::packet::retry_interrupted;

/// Who one is after a fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copy {
    /// The process that was there before; the worker's pid.
    Template(u32),
    /// The new one.
    Worker,
}

/// Forks a worker that is nobody's child but the supervisor's once this returns in the template.
///
/// # Errors
/// As fork(2) and pipe(2), of either fork.
///
/// # Safety
/// This process has one thread: the worker goes on in a copy of its memory, in which nobody would ever release what another
/// thread had locked.
pub(crate) unsafe fn fork_for_the_supervisor() -> io::Result<Copy> {
    let (mut told, mut tell) = io::pipe()?;
    // SAFETY: (caller) one thread, so the copy is whole.
    let between = unsafe { libc::fork() };
    match between {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: as above; the go-between has one thread too.
            let worker = unsafe { libc::fork() };
            if worker == 0 {
                return Ok(Copy::Worker);
            }
            let answer =
                if worker == -1 { -io::Error::last_os_error().raw_os_error().unwrap_or(libc::EAGAIN) } else { worker };
            let _read_or_gone = tell.write_all(&answer.to_le_bytes());
            // SAFETY: it never returns; what this copy has opened is the kernel's to close, and no handler of exit(3) runs.
            unsafe { libc::_exit(0) }
        }
        between => {
            drop(tell);
            let mut answer = [0; 4];
            let read = told.read_exact(&mut answer);
            // The worker is the supervisor's from the moment that the go-between has ended.
            let _somebody_else_reaps = retry_interrupted(|| {
                // SAFETY: an int and a null pointer, which waitpid takes for "not interested".
                match unsafe { libc::waitpid(between, std::ptr::null_mut(), 0) } {
                    -1 => Err(io::Error::last_os_error()),
                    _ => Ok(()),
                }
            });
            read?;
            match i32::from_le_bytes(answer) {
                refused @ ..0 => Err(io::Error::from_raw_os_error(-refused)),
                pid => Ok(Copy::Template(pid.unsigned_abs())),
            }
        }
    }
}

/// Puts a descriptor where another one is, which is closed, and which nobody owns.
///
/// # Errors
/// As dup2(2).
///
/// # Safety
/// Nobody in this process owns `place`, or uses it.
pub(crate) unsafe fn put(fd: OwnedFd, place: RawFd) -> io::Result<()> {
    retry_interrupted(|| {
        // SAFETY: ints; (caller) what is at `place` is nobody's.
        match unsafe { libc::dup2(fd.as_raw_fd(), place) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    })
}

/// Sets a variable of the environment; `None` takes it away.
///
/// # Safety
/// This process has one thread: others may read the environment without a lock.
pub(crate) unsafe fn set_variable(name: &str, value: Option<&OsStr>) {
    // SAFETY: (caller) one thread.
    unsafe {
        match value {
            Some(value) => std::env::set_var(name, value),
            None => std::env::remove_var(name),
        }
    }
}
