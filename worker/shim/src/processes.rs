//! Follows the program's processes: who is forked holds what its parent held, who ends in order has closed everything.
//!
//! ```text
//! fork ── before it, in the parent: each connection that it holds gets an unborn holder
//!      ── in the child: the unborn holder becomes the child    ── where there is no child: it is taken back
//! exec ── what is closed by it is let go before               exit, _exit ── everything is let go
//!      ── one that we did not see is found by the program that it began
//! ```
//! An exec that fails has let go all the same; whoever serves on after that is not counted any more.
//! The unborn holder keeps the parent, which may close its copy before the child has run, from ending the connection. What a process
//! held that was killed is let go, and counted as lost, by the parent that reaps it.

use libc::{c_char, c_int};
use ostler_shared::claims::{Escape, Holder};
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
        post.forks();
        aside(|| descriptors::held(|claim| post.claimant.join(claim, me.unborn())));
    }
    // SAFETY: (caller) as for fork(2).
    let pid = unsafe { originals::fork() };
    match (pid, parent) {
        (0, Some((post, parent))) => aside(|| be_born(post, parent.unborn())),
        // The child may be killed before it has said who it is.
        (1.., Some((post, me))) => aside(|| {
            descriptors::held_first(
                || post::process(pid),
                |claim, child| {
                    post.claimant.rename(claim, me.unborn(), child);
                },
            );
        }),
        (-1, Some((post, me))) => aside(|| descriptors::held(|claim| post.claimant.leave(claim, me.unborn()))),
        (_, _) => {}
    }
    pid
}

fn be_born(post: &'static Post, unborn: Holder) {
    let me = post::me();
    post.be(me);
    let Some(me) = me else { return };
    let mut holds = false;
    descriptors::held(|claim| {
        holds = true;
        post.claimant.replace(claim, unborn, me);
    });
    if holds {
        post.introduce();
    }
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

/// A child was reaped. What it held and had not let go was closed by its end: in order, where it was one.
fn reaped(pid: libc::pid_t, outcome: Outcome) {
    if pid > 0
        && let Some(post) = post()
        && post.me().is_some()
    {
        aside(|| post.claimant.bury(pid, outcome, post::now_ns(), |bell| post.ring_if(bell)));
    }
}

/// Waits, and takes note of a child that has ended. `wait` gets room for a status even where the program gave none.
///
/// # Safety
/// `status` must be null or lead to an int, and `wait` write one there where it answers with a child.
unsafe fn waited(status: *mut c_int, wait: impl FnOnce(*mut c_int) -> libc::pid_t) -> libc::pid_t {
    let mut own = 0;
    let status = if status.is_null() { &raw mut own } else { status };
    let child = wait(status);
    if child > 0 {
        // SAFETY: (caller) it was written.
        let status = unsafe { *status };
        if libc::WIFEXITED(status) {
            reaped(child, Outcome::Done);
        } else if libc::WIFSIGNALED(status) {
            reaped(child, Outcome::Dropped);
        }
    }
    child
}

/// waitpid(2).
///
/// # Safety
/// As for waitpid(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn waitpid(pid: libc::pid_t, status: *mut c_int, options: c_int) -> libc::pid_t {
    // SAFETY: (caller) as for waitpid(2).
    unsafe { waited(status, |status| originals::waitpid(pid, status, options)) }
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
    unsafe { waited(status, |status| originals::wait4(pid, status, options, usage)) }
}

/// wait3(2).
///
/// # Safety
/// As for wait3(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wait3(status: *mut c_int, options: c_int, usage: *mut libc::rusage) -> libc::pid_t {
    // SAFETY: (caller) as for wait3(2).
    unsafe { waited(status, |status| originals::wait3(status, options, usage)) }
}

/// wait(2).
///
/// # Safety
/// As for wait(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wait(status: *mut c_int) -> libc::pid_t {
    // SAFETY: (caller) as for wait(2).
    unsafe { waited(status, |status| originals::wait(status)) }
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
        if answer == 0 && !info.is_null() {
            match (*info).si_code {
                libc::CLD_EXITED => reaped((*info).si_pid(), Outcome::Done),
                libc::CLD_KILLED | libc::CLD_DUMPED => reaped((*info).si_pid(), Outcome::Dropped),
                _ => {} // stopped, continued, or nobody
            }
        }
        answer
    }
}

/// What exec closes is let go before.
fn executing(execute: impl FnOnce() -> c_int) -> c_int {
    let Some(post) = post() else { return execute() };
    let Some(me) = post.me() else {
        // By vfork: the numbers are this child's own, what we know of them is its parent's.
        aside(|| descriptors::held_after_exec(|_| post.claimant.note_escape(Escape::Cloned)));
        return execute();
    };
    aside(|| {
        descriptors::held_after_exec(|_| post.claimant.note_escape(Escape::Executed));
        descriptors::held_until_exec(|claim| {
            post.claimant.leave(claim, me);
            post.ring_if(post.claimant.end_if_unheld(claim, post::now_ns(), Outcome::Done));
        });
    });
    execute()
}

/// What the beginning program finds open that it knows nothing of.
enum Found {
    /// A connection of the pool.
    Connection,
    Nothing,
    /// It can't look.
    Unknown,
}

/// Called where a program begins. Somebody may have executed it whom we did not see do so: execl, system and popen call inside of the
/// C library what we stand in front of. What it holds by the table, and what it has, tells.
pub(crate) fn arrive() {
    let Some((post, me)) = post().and_then(|post| Some((post, post.me()?))) else { return };
    aside(|| {
        // Asked first: what was kept for a child becomes the child's in one step.
        let is_expected = is_expected(post);
        match (post.claimant.holds(me), found(post)) {
            // By fork and exec.
            (true, Found::Connection | Found::Unknown) => post.claimant.note_escape(Escape::Executed),
            (true, Found::Nothing) => post.claimant.release_all(me, post::now_ns(), |bell| post.ring_if(bell)),
            (false, Found::Connection) if !is_expected => post.claimant.note_escape(Escape::Cloned),
            (false, Found::Connection | Found::Nothing | Found::Unknown) => {}
        }
    });
}

fn found(post: &Post) -> Found {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return Found::Unknown };
    let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    if numbers.into_iter().any(|fd| post.is_accepted(fd)) { Found::Connection } else { Found::Nothing }
}

/// Whether the parent has something for a child that it has not named yet (`spawning`).
fn is_expected(post: &Post) -> bool {
    // SAFETY: it only answers.
    let parent = post::process(unsafe { libc::getppid() });
    parent.is_some_and(|parent| post.claimant.holds(parent.unborn()))
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

/// posix_spawn(3) and posix_spawnp(3), which fork by themselves: the child has what exec does not close.
fn spawning(spawn: impl FnOnce() -> c_int, child: impl FnOnce() -> libc::pid_t) -> c_int {
    let Some((post, me)) = post().and_then(|post| Some((post, post.me()?))) else { return spawn() };
    let mut shares = false;
    aside(|| {
        descriptors::held_after_exec(|claim| {
            shares = true;
            post.claimant.note_escape(Escape::Executed);
            post.claimant.join(claim, me.unborn());
        });
    });
    let answer = spawn();
    if shares {
        aside(|| {
            let child = if answer == 0 { post::process(child()) } else { None };
            descriptors::held_after_exec(|claim| match child {
                Some(child) => post.claimant.rename(claim, me.unborn(), child),
                None => post.claimant.leave(claim, me.unborn()),
            });
            post.ring_if(post.claimant.introduce());
        });
    }
    answer
}

/// posix_spawn(3).
///
/// # Safety
/// As for posix_spawn(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_spawn(
    pid: *mut libc::pid_t,
    path: *const c_char,
    actions: *const libc::posix_spawn_file_actions_t,
    attributes: *const libc::posix_spawnattr_t,
    arguments: *const *mut c_char,
    variables: *const *mut c_char,
) -> c_int {
    let mut own = 0;
    let pid = if pid.is_null() { &raw mut own } else { pid };
    // SAFETY: (caller) as for posix_spawn(3), which writes the number where it answers 0.
    unsafe { spawning(|| originals::posix_spawn(pid, path, actions, attributes, arguments, variables), || *pid) }
}

/// posix_spawnp(3).
///
/// # Safety
/// As for posix_spawnp(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_spawnp(
    pid: *mut libc::pid_t,
    file: *const c_char,
    actions: *const libc::posix_spawn_file_actions_t,
    attributes: *const libc::posix_spawnattr_t,
    arguments: *const *mut c_char,
    variables: *const *mut c_char,
) -> c_int {
    let mut own = 0;
    let pid = if pid.is_null() { &raw mut own } else { pid };
    // SAFETY: (caller) as for posix_spawnp(3), which writes the number where it answers 0.
    unsafe { spawning(|| originals::posix_spawnp(pid, file, actions, attributes, arguments, variables), || *pid) }
}

/// posix_spawn_file_actions_adddup2(3): a connection that becomes another number of a child is one that we lose sight of.
///
/// # Safety
/// As for posix_spawn_file_actions_adddup2(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_spawn_file_actions_adddup2(
    actions: *mut libc::posix_spawn_file_actions_t,
    from: c_int,
    to: c_int,
) -> c_int {
    descriptors::escape(from, Escape::Cloned);
    // SAFETY: (caller) as for posix_spawn_file_actions_adddup2(3).
    unsafe { originals::adddup2(actions, from, to) }
}

/// clone(2), whose last three arguments are optional and passed on whether they are there or not.
///
/// # Safety
/// As for clone(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clone(
    run: *mut libc::c_void,
    stack: *mut libc::c_void,
    flags: c_int,
    argument: *mut libc::c_void,
    parent: *mut libc::c_void,
    tls: *mut libc::c_void,
    child: *mut libc::c_void,
) -> c_int {
    if flags & libc::CLONE_FILES == 0 {
        aside(|| descriptors::escape_all(Escape::Cloned));
    }
    // SAFETY: (caller) as for clone(2).
    unsafe { originals::clone(run, stack, flags, argument, parent, tls, child) }
}
