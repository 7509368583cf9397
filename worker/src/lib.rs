//! Serves connections that an ostler supervisor accepted.
//!
//! A program built on this crate is a *worker*: `ostler run` starts several of them behind one socket, hands each
//! accepted connection to the least loaded one, and replaces them without losing a connection.
//!
//! ```no_run
//! use std::io::{self, Read, Write};
//!
//! use ostler_worker::Connection;
//!
//! fn shout(mut connection: Connection) -> io::Result<()> {
//!     let mut word = [0; 64];
//!     let len = connection.read(&mut word)?;
//!     connection.write_all(word[..len].to_ascii_uppercase().as_slice())
//! }
//!
//! fn main() -> Result<(), ostler_worker::ServeError> {
//!     ostler_worker::serve(shout)
//! }
//! ```
//! Try it: `ostler run --listen unix:shout.sock -- target/release/shout`.
//!
//! # Three ways to serve
//! [`serve()`] calls a handler for every connection: on the calling thread when the pool's `concurrency` is 1, on
//! that many threads above it. Who wants the loop for himself connects with [`Worker::connect`] and pulls, from as
//! many threads as he likes, with [`Worker::next`], or without waiting with [`Worker::try_next`] and an event loop.
//! With the feature `tokio` the handlers are async and one worker holds thousands of connections: see the module
//! `tokio`.
//!
//! # Templates
//! A program that calls [`Template::run`] loads everything before it becomes a worker. Where the pool has
//! `reload.template = true`, one process per generation does, and forks the workers.
//!
//! # The end of a connection
//! The supervisor counts a connection as served when its [`Connection`] is dropped: the descriptor is closed first,
//! then the completion is reported and the worker's place is free again. After [`Connection::into_parts`] the
//! [`Completion`] says when. A connection that is leaked (`std::mem::forget`) holds its place for ever.
//!
//! A client that has shut its side down is read to the end and gets its whole answer all the same. A handler ends
//! one side by [`Stream::shutdown`], which holds for every copy of the descriptor; dropping the connection closes the
//! library's descriptor and nothing else. Copies that a handler made, or gave to a child, keep the conversation open.
//!
//! A panic in a handler ends that connection with the outcome "panicked"; the worker goes on (unless the program
//! is built with `panic = "abort"`).
//!
//! # Under load
//! [`Worker::pressure`] and [`Connection::pressure`] tell how full the supervisor's waiting line is, at the price of one
//! read of memory: a handler can leave out what is dear, or close instead of keeping a connection alive.
//!
//! # The end of a worker
//! When the supervisor drains the worker, [`Worker::next`] hands out what is still in the mailbox and then answers
//! `None`: leave. SIGTERM asks for the same at once; what was not claimed goes to other workers. A handler that
//! keeps idle connections open asks [`Connection::is_draining`] between two requests. When the supervisor is gone,
//! standard output and error lead to `/dev/null`, what was accepted is served, and the process is ended at the
//! pool's `drain.timeout`.
//!
//! # Signs of life
//! Where the pool's `watchdog.heartbeat` is on, the supervisor replaces a worker that it does not hear of for so long, beginning
//! with SIGABRT for whoever wants to see the stack. [`Worker::next`] beats while it waits, so a worker with threads is expected
//! to be in there whenever it holds no connection; what it does while it holds one takes as long as it takes. With the
//! feature `tokio` a task beats, so a runtime whose threads are all blocked is noticed whatever it holds. Who only uses
//! [`Worker::try_next`] is not expected to beat.
//!
//! # Requests
//! Where the pool's `watchdog.request` or `slow` is on, a connection is marked in shared memory while a request is worked on: from its
//! first byte until somebody reads on after having written, which is how a server waits for the next one. So an idle keep-alive
//! connection is never overdue. Reads and writes that go past [`Connection`] are not seen, and a stream of answers that is
//! read from meanwhile looks idle; who knows better, or lets slow clients take their time to ask, says so with
//! [`Connection::mark_by_hand`]. A connection that was taken apart counts as one request, unless its completion is marked by hand.
//!
//! # What the library takes
//! * Descriptors: the mailbox (3), the control channel, a self-pipe, `/dev/null`, and two in reserve, because a
//!   process that has no free descriptor receives a connection's ticket without the connection. A worker that
//!   can't get one for [`STARVED_MAX`] says so and leaves.
//! * Signals: TERM drains. HUP, INT, QUIT, USR1, USR2, TTIN, TTOU and PWR do nothing (by handlers, so that programs
//!   which a handler starts get the defaults back), and WINCH is ignored by default. A handler that was installed
//!   before still runs. TTIN and TTOU are also blocked in the thread that connects and those it starts later, so
//!   that a terminal never stops a worker; programs started from them inherit that. So a runtime that was there
//!   before has threads without it.
//! * One thread, which listens to the supervisor.
//! * The name of the first thread, which ps and top show: `web/3.7 start`, then `ready`, then `drain`.
//!
//! Deliberately absent: policy, logging (what you print, the supervisor records), and, without the feature `tokio`,
//! an async runtime.

mod claim;
mod completions;
mod connect;
mod connection;
mod control;
mod fork;
mod greeting;
mod listeners;
mod marks;
mod report;
mod reserve;
mod serve;
mod signals;
mod stage;
mod station;
mod stream;
mod template;
mod title;
#[cfg(feature = "tokio")]
pub mod tokio;
mod watch;
mod worker;

pub use claim::{NextError, STARVED_MAX, STARVED_RETRY};
pub use connect::ConnectError;
pub use connection::{Completion, Connection};
pub use greeting::{GreetingError, WELCOME_TIMEOUT};
pub use marks::{Busy, Marker};
pub use ostler_shared::ticket::{Family, Peer, Ticket};
pub use ostler_shared::wire::{End, PROGRAMS_MAX, ProgramEnd};
pub use ostler_shared::{ConnId, Generation, PoolName, SlotNo, WorkerName};
pub use serve::{ServeError, serve};
pub use stream::Stream;
pub use template::{THREADS_NAMED_MAX, Template, TemplateError, Threads};
pub use watch::EXIT_UNFINISHED;
pub use worker::{TryNext, Worker};
