//! Runs real `ostler` processes, loads them, and proves that nothing of them is left behind.
//!
//! A test starts a supervisor with [`Ostler::builder`], talks to it with [`load`] and [`http`], waits for facts with
//! [`deadline`], and drops it. Dropping ends every process and fails the test when one of them, a socket or a lock
//! file outlived an orderly stop.
//!
//! No test sleeps: it waits for a fact under a deadline. No test asserts that something was fast: the only
//! times that it may hold ostler to are the ones that ostler was configured with, plus [`deadline::SLACK`].

pub mod activation;
pub mod bounded;
pub mod builder;
pub mod client;
pub mod deadline;
pub mod dice;
pub mod echo;
pub mod fastcgi;
pub mod follower;
pub mod http;
pub mod load;
pub mod namespace;
pub mod notify;
pub mod ostler;
pub mod place;
pub mod procs;
pub mod programs;
pub mod sampler;
pub mod scratch;
pub mod status;
pub mod strace;
pub mod target;
pub mod terminal;
pub mod tiny_http;
pub mod tmux;

pub use builder::Builder;
pub use ostler::{Ended, Ostler};
pub use scratch::Scratch;
pub use target::Target;
