//! Is every line there, is nobody stopped by a log, and does each connection have its line?

#[path = "logs/access.rs"]
mod access;
#[path = "logs/flood.rs"]
mod flood;
#[path = "logs/follow.rs"]
mod follow;
#[path = "logs/house.rs"]
mod house;
#[path = "logs/sinks.rs"]
mod sinks;
