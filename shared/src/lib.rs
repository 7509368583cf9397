//! Holds the contract that the supervisor and its workers both compile.
//!
//! What travels between them is defined here once: identities ([`ids`]), the ticket that accompanies a
//! connection ([`ticket`]), the control frames ([`wire`]), the environment of a worker ([`mod@env`]), the packets that
//! carry descriptors ([`packet`]), and the shared memory ([`region`]) with its rings ([`ring`]) and what runs through
//! them ([`completion`]) and what lies beside them ([`marks`]), or the table of what unmodified programs hold ([`claims`]). Byte streams are framed by [`stream`].
//! What everybody of the same user may see of a supervisor is its [`scoreboard`].
//!
//! Deliberately absent: policy (that is the pool's), and anything that waits without being told for how long.
//! `unsafe` lives in [`sys`] alone.

pub mod claims;
pub mod completion;
pub mod env;
pub mod ids;
pub mod marks;
pub mod packet;
pub mod region;
pub mod ring;
pub mod scoreboard;
pub mod stream;
mod sync;
pub mod sys;
pub mod ticket;
pub mod wire;

pub use ids::{ConnId, Generation, PoolName, SlotNo, WorkerId, WorkerName};
pub use ticket::{Peer, Ticket};
