//! The control socket: how `ostler status`, `reload`, `stop` and the others reach a running supervisor.

pub(crate) mod client;
pub(crate) mod others;
pub(crate) mod place;
pub(crate) mod protocol;
pub(crate) mod server;
