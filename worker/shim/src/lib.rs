//! Makes an unmodified program a worker: preloaded, it turns the program's `accept` into a claim.
//!
//! The program believes that a descriptor which it inherited is a listening socket. It is the worker's mailbox. For descriptors
//! that lead to it, known by device and inode so that copies count too, the functions below behave as on a listener. Everything
//! else goes to who comes next in the order of the dynamic linker, mostly the C library.
//!
//! | file | functions | what happens |
//! |---|---|---|
//! | [`claim`] | accept, accept4 | a connection is taken out of the mailbox and noted in the table |
//! | [`sockets`] | listen, bind, getsockname, getsockopt … | answers of a listening stream socket |
//! | [`waits`] | poll, select, epoll_ctl, epoll_wait … | READY at the first of them; a sign of life at each |
//! | [`closes`] | close, dup, fcntl, close_range, syscall … | the end of a connection is noticed |
//! | [`processes`] | fork, exec, _exit | who holds which connection |
//! | [`paths`] | unlink, rename … | the pool's own sockets stay where they are |
//!
//! # What it promises
//! It never allocates after its start, takes no lock, starts no thread, and leaves `errno` as the original left it. It can be
//! called by any thread, in a forked child, in a signal handler as far as the originals can, and before any constructor ran.
//! Where it was not preloaded by ostler, or finds that something of its own is not what it was, it only passes calls on.
//!
//! # What it can't see
//! Calls that the C library makes inside itself, and system calls that go around it. A connection that is closed in such a way
//! is found closed within a second while the program is busy (`descriptors.rs`); a program that is executed in such a way is found
//! when it begins ([`processes`]); a listener that is used in such a way is none.
#![allow(unsafe_code)] // docs/decisions/0003: this crate is a door as a whole

pub mod claim;
pub mod closes;
mod descriptors;
mod mail;
mod originals;
pub mod paths;
mod post;
pub mod processes;
mod silence;
pub mod sockets;
pub mod waits;

/// Before the program's own code, and before it has threads.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = start;

extern "C" fn start() {
    originals::find_all();
    post::find();
    processes::arrive();
}
