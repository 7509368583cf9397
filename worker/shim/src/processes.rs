//! Follows the program's processes: who is forked holds what its parent held, who ends in order has closed everything.
//!
//! ```text
//! fork ── before it, in the parent: each connection that it holds gets an unborn holder
//!      ── in the child: the unborn holder becomes the child    ── where there is no child: it is taken back
//! exec ── what is closed by it is let go before               exit, _exit ── everything is let go
//! ```
//! An exec that fails has let go all the same; whoever serves on after that is not counted any more.
//! The unborn holder keeps the parent, which may close its copy before the child has run, from ending the connection. What a process
//! held that was killed is let go, and counted as lost, by the parent that reaps it.

use libc::{c_char, c_int};
use ostler_shared::claims::Holder;
use ostler_shared::completion::Outcome;

use crate::descriptors;
use crate::originals::{self, aside};
use crate::post::{self, Post, post};

/// fork(2).
///
/// # Safety
/// As for fork(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fork() -> libc::pid_t {
    let parent = post().and_then(|post| Some((post, post.me()?)));
    if let Some((post, me)) = parent {
        aside(|| descriptors::held(|claim| post.claimant.join(claim, me.unborn())));
    }
    // SAFETY: (caller) as for fork(2).
    let pid = unsafe { originals::fork() };
    match (pid, parent) {
        (0, Some((post, parent))) => aside(|| be_born(post, parent.unborn())),
        (-1, Some((post, me))) => aside(|| descriptors::held(|claim| post.claimant.leave(claim, me.unborn()))),
        (_, _) => {}
    }
    pid
}

fn be_born(post: &'static Post, unborn: Holder) {
    let me = post::me();
    post.set_me(me);
    let Some(me) = me else { return };
    descriptors::held(|claim| post.claimant.replace(claim, unborn, me));
}

/// Lets go of what this process holds: it closes everything by ending.
fn end() {
    if let Some(post) = post()
        && let Some(me) = post.me()
    {
        aside(|| {
            post.claimant.release_all(me, post::now_ns(), |bell| post.ring_if(bell));
        });
    }
}

/// At exit(3), after the program's own handlers.
#[used]
#[unsafe(link_section = ".fini_array")]
static AT_END: extern "C" fn() = at_end;

extern "C" fn at_end() {
    end();
}

/// _exit(2).
///
/// # Safety
/// As for _exit(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _exit(code: c_int) -> ! {
    end();
    loop {
        // SAFETY: ints only.
        unsafe { originals::syscall(libc::SYS_exit_group, code.into(), 0, 0, 0, 0, 0) };
    }
}

/// _Exit(3).
///
/// # Safety
/// As for _Exit(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _Exit(code: c_int) -> ! {
    // SAFETY: (caller) as for _exit(2).
    unsafe { _exit(code) }
}

/// A child was reaped. What it held and had not let go was closed by its death.
fn reaped(pid: libc::pid_t) {
    if pid > 0
        && let Some(post) = post()
        && post.me().is_some()
    {
        aside(|| post.claimant.bury(pid, post::now_ns(), |bell| post.ring_if(bell)));
    }
}

/// Whether a status is that of a child that has ended; without one it may be of any other kind.
///
/// # Safety
/// `status` must be null or what a wait has written.
unsafe fn has_ended(pid: libc::pid_t, status: *const c_int) -> bool {
    // SAFETY: (caller) it was written.
    pid > 0 && (status.is_null() || unsafe { !libc::WIFSTOPPED(*status) && !libc::WIFCONTINUED(*status) })
}

/// waitpid(2).
///
/// # Safety
/// As for waitpid(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn waitpid(pid: libc::pid_t, status: *mut c_int, options: c_int) -> libc::pid_t {
    // SAFETY: (caller) as for waitpid(2).
    unsafe {
        let child = originals::waitpid(pid, status, options);
        if has_ended(child, status) {
            reaped(child);
        }
        child
    }
}

/// wait4(2).
///
/// # Safety
/// As for wait4(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wait4(
    pid: libc::pid_t,
    status: *mut c_int,
    options: c_int,
    usage: *mut libc::rusage,
) -> libc::pid_t {
    // SAFETY: (caller) as for wait4(2).
    unsafe {
        let child = originals::wait4(pid, status, options, usage);
        if has_ended(child, status) {
            reaped(child);
        }
        child
    }
}

/// wait3(2).
///
/// # Safety
/// As for wait3(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wait3(status: *mut c_int, options: c_int, usage: *mut libc::rusage) -> libc::pid_t {
    // SAFETY: (caller) as for wait3(2).
    unsafe {
        let child = originals::wait3(status, options, usage);
        if has_ended(child, status) {
            reaped(child);
        }
        child
    }
}

/// wait(2).
///
/// # Safety
/// As for wait(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wait(status: *mut c_int) -> libc::pid_t {
    // SAFETY: (caller) as for wait(2).
    unsafe {
        let child = originals::wait(status);
        reaped(child); // it waits for nothing but an end
        child
    }
}

/// waitid(2).
///
/// # Safety
/// As for waitid(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn waitid(
    kind: libc::idtype_t,
    id: libc::id_t,
    info: *mut libc::siginfo_t,
    options: c_int,
) -> c_int {
    // SAFETY: (caller) as for waitid(2); where it answers 0 the info was written, with no number where nobody has ended.
    unsafe {
        let answer = originals::waitid(kind, id, info, options);
        if answer == 0
            && !info.is_null()
            && matches!((*info).si_code, libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED)
        {
            reaped((*info).si_pid());
        }
        answer
    }
}

/// What exec closes is let go before.
fn executing(execute: impl FnOnce() -> c_int) -> c_int {
    let Some((post, me)) = post().and_then(|post| Some((post, post.me()?))) else { return execute() };
    aside(|| {
        descriptors::held_until_exec(|claim| {
            post.claimant.leave(claim, me);
            post.ring_if(post.claimant.end_if_unheld(claim, post::now_ns(), Outcome::Done));
        });
    });
    execute()
}

/// execve(2).
///
/// # Safety
/// As for execve(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execve(
    path: *const c_char,
    arguments: *const *const c_char,
    variables: *const *const c_char,
) -> c_int {
    // SAFETY: (caller) as for execve(2).
    executing(|| unsafe { originals::execve(path, arguments, variables) })
}

/// execv(3).
///
/// # Safety
/// As for execv(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execv(path: *const c_char, arguments: *const *const c_char) -> c_int {
    // SAFETY: (caller) as for execv(3).
    executing(|| unsafe { originals::execv(path, arguments) })
}

/// execvp(3).
///
/// # Safety
/// As for execvp(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execvp(path: *const c_char, arguments: *const *const c_char) -> c_int {
    // SAFETY: (caller) as for execvp(3).
    executing(|| unsafe { originals::execvp(path, arguments) })
}

/// execvpe(3).
///
/// # Safety
/// As for execvpe(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execvpe(
    path: *const c_char,
    arguments: *const *const c_char,
    variables: *const *const c_char,
) -> c_int {
    // SAFETY: (caller) as for execvpe(3).
    executing(|| unsafe { originals::execvpe(path, arguments, variables) })
}
