//! Finds the functions that this library stands in front of.

use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{c_char, c_int, c_long, c_uint, c_void, size_t};

/// Looked up once; nobody takes them away again.
#[derive(Debug)]
struct Original {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl Original {
    const fn new(name: &'static CStr) -> Original {
        Original { name, found: AtomicPtr::new(ptr::null_mut()) }
    }

    fn find(&self) -> *mut c_void {
        let found = self.found.load(Ordering::Relaxed);
        if !found.is_null() {
            return found;
        }
        // SAFETY: the name ends in NUL. The constructor has done this, unless another library's constructor calls first.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        self.found.store(found, Ordering::Relaxed);
        found
    }
}

macro_rules! originals {
    ($($name:ident = $symbol:literal ($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(
            /// The function of this name behind us; -1 with ENOSYS where the C library has none.
            ///
            /// # Safety
            /// As for that function.
            pub(crate) unsafe fn $name($($arg: $type),*) -> $answer {
                let found = slots::$name.find();
                if found.is_null() {
                    set_errno(libc::ENOSYS);
                    return -1;
                }
                // SAFETY: the symbol of this name has this type in every glibc.
                let original = unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($type),*) -> $answer>(found) };
                // SAFETY: (caller) the arguments are what the function takes.
                unsafe { original($($arg),*) }
            }
        )*

        #[expect(non_upper_case_globals, reason = "named as the functions are")]
        mod slots {
            use super::Original;
            $(pub(super) static $name: Original = Original::new($symbol);)*
        }

        /// Looks up all of them.
        pub(crate) fn find_all() {
            $(slots::$name.find();)*
        }
    };
}

originals! {
    accept = c"accept"(fd: c_int, addr: *mut libc::sockaddr, len: *mut libc::socklen_t) -> c_int;
    accept4 = c"accept4"(fd: c_int, addr: *mut libc::sockaddr, len: *mut libc::socklen_t, flags: c_int) -> c_int;
    listen = c"listen"(fd: c_int, backlog: c_int) -> c_int;
    bind = c"bind"(fd: c_int, addr: *const libc::sockaddr, len: libc::socklen_t) -> c_int;
    getsockname = c"getsockname"(fd: c_int, addr: *mut libc::sockaddr, len: *mut libc::socklen_t) -> c_int;
    getpeername = c"getpeername"(fd: c_int, addr: *mut libc::sockaddr, len: *mut libc::socklen_t) -> c_int;
    getsockopt = c"getsockopt"(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut libc::socklen_t) -> c_int;
    setsockopt = c"setsockopt"(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: libc::socklen_t) -> c_int;
    shutdown = c"shutdown"(fd: c_int, how: c_int) -> c_int;
    close = c"close"(fd: c_int) -> c_int;
    close_range = c"close_range"(first: c_uint, last: c_uint, flags: c_int) -> c_int;
    dup = c"dup"(fd: c_int) -> c_int;
    dup2 = c"dup2"(from: c_int, to: c_int) -> c_int;
    dup3 = c"dup3"(from: c_int, to: c_int, flags: c_int) -> c_int;
    fcntl = c"fcntl"(fd: c_int, command: c_int, argument: c_long) -> c_int;
    fcntl64 = c"fcntl64"(fd: c_int, command: c_int, argument: c_long) -> c_int;
    syscall = c"syscall"(number: c_long, a: c_long, b: c_long, c: c_long, d: c_long, e: c_long, f: c_long) -> c_long;
    poll = c"poll"(fds: *mut libc::pollfd, count: libc::nfds_t, timeout: c_int) -> c_int;
    ppoll = c"ppoll"(fds: *mut libc::pollfd, count: libc::nfds_t, timeout: *const libc::timespec, mask: *const libc::sigset_t) -> c_int;
    poll_chk = c"__poll_chk"(fds: *mut libc::pollfd, count: libc::nfds_t, timeout: c_int, size: size_t) -> c_int;
    ppoll_chk = c"__ppoll_chk"(fds: *mut libc::pollfd, count: libc::nfds_t, timeout: *const libc::timespec, mask: *const libc::sigset_t, size: size_t) -> c_int;
    select = c"select"(count: c_int, read: *mut libc::fd_set, write: *mut libc::fd_set, except: *mut libc::fd_set, timeout: *mut libc::timeval) -> c_int;
    pselect = c"pselect"(count: c_int, read: *mut libc::fd_set, write: *mut libc::fd_set, except: *mut libc::fd_set, timeout: *const libc::timespec, mask: *const libc::sigset_t) -> c_int;
    epoll_ctl = c"epoll_ctl"(epoll: c_int, operation: c_int, fd: c_int, event: *mut libc::epoll_event) -> c_int;
    epoll_wait = c"epoll_wait"(epoll: c_int, events: *mut libc::epoll_event, most: c_int, timeout: c_int) -> c_int;
    epoll_pwait = c"epoll_pwait"(epoll: c_int, events: *mut libc::epoll_event, most: c_int, timeout: c_int, mask: *const libc::sigset_t) -> c_int;
    epoll_pwait2 = c"epoll_pwait2"(epoll: c_int, events: *mut libc::epoll_event, most: c_int, timeout: *const libc::timespec, mask: *const libc::sigset_t) -> c_int;
    fork = c"fork"() -> libc::pid_t;
    waitpid = c"waitpid"(pid: libc::pid_t, status: *mut c_int, options: c_int) -> libc::pid_t;
    wait4 = c"wait4"(pid: libc::pid_t, status: *mut c_int, options: c_int, usage: *mut libc::rusage) -> libc::pid_t;
    wait3 = c"wait3"(status: *mut c_int, options: c_int, usage: *mut libc::rusage) -> libc::pid_t;
    wait = c"wait"(status: *mut c_int) -> libc::pid_t;
    waitid = c"waitid"(kind: libc::idtype_t, id: libc::id_t, info: *mut libc::siginfo_t, options: c_int) -> c_int;
    execve = c"execve"(path: *const c_char, arguments: *const *const c_char, variables: *const *const c_char) -> c_int;
    execv = c"execv"(path: *const c_char, arguments: *const *const c_char) -> c_int;
    execvp = c"execvp"(path: *const c_char, arguments: *const *const c_char) -> c_int;
    execvpe = c"execvpe"(path: *const c_char, arguments: *const *const c_char, variables: *const *const c_char) -> c_int;
    posix_spawn = c"posix_spawn"(pid: *mut libc::pid_t, path: *const c_char, actions: *const libc::posix_spawn_file_actions_t, attributes: *const libc::posix_spawnattr_t, arguments: *const *mut c_char, variables: *const *mut c_char) -> c_int;
    posix_spawnp = c"posix_spawnp"(pid: *mut libc::pid_t, file: *const c_char, actions: *const libc::posix_spawn_file_actions_t, attributes: *const libc::posix_spawnattr_t, arguments: *const *mut c_char, variables: *const *mut c_char) -> c_int;
    adddup2 = c"posix_spawn_file_actions_adddup2"(actions: *mut libc::posix_spawn_file_actions_t, from: c_int, to: c_int) -> c_int;
    clone = c"clone"(run: *mut c_void, stack: *mut c_void, flags: c_int, argument: *mut c_void, parent: *mut c_void, tls: *mut c_void, child: *mut c_void) -> c_int;
    sendmsg = c"sendmsg"(fd: c_int, message: *const libc::msghdr, flags: c_int) -> libc::ssize_t;
    unlink = c"unlink"(path: *const c_char) -> c_int;
    unlinkat = c"unlinkat"(dir: c_int, path: *const c_char, flags: c_int) -> c_int;
    remove = c"remove"(path: *const c_char) -> c_int;
    rename = c"rename"(from: *const c_char, to: *const c_char) -> c_int;
    renameat = c"renameat"(from_dir: c_int, from: *const c_char, to_dir: c_int, to: *const c_char) -> c_int;
    renameat2 = c"renameat2"(from_dir: c_int, from: *const c_char, to_dir: c_int, to: *const c_char, flags: c_uint) -> c_int;
}

/// Sets what the caller will find.
pub(crate) fn set_errno(errno: c_int) {
    // SAFETY: the address of this thread's own errno.
    unsafe { *libc::__errno_location() = errno }
}

/// What the last call of this thread left.
pub(crate) fn errno() -> c_int {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() }
}

/// Does something that nobody asked for, and leaves errno as it was.
pub(crate) fn aside<T>(what: impl FnOnce() -> T) -> T {
    let before = errno();
    let result = what();
    set_errno(before);
    result
}
