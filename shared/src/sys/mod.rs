//! The unsafe door of this crate: system calls that no crate wraps the way ostler needs them.
//!
//! Everything here is a thin, safe function over one or two system calls. A descriptor that the kernel hands
//! out becomes an `OwnedFd` on the line where it appears, close-on-exec from birth.
#![allow(unsafe_code)]

pub mod clock;
pub mod fd;
pub mod memory;
pub mod msg;
pub mod socket;
