//! Turns what an operator typed into what it means, or into all the mistakes at once.
//!
//! ```text
//! text ──toml──► raw (what was typed, where) ──► check (what it means) ──► checked::Config
//! flags ─────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Reading looks at this machine: it resolves host names, users, groups and programs. It may therefore wait
//! for a name server; whoever must not wait (I5) calls it on another thread.

pub mod checked;
pub mod limits;

mod access;
mod address;
mod asked;
mod caller;
mod check;
mod clash;
mod combine;
mod duration;
mod effective;
mod flags;
mod keys;
mod load;
mod mistakes;
mod nearest;
mod owner;
mod plan;
mod preload;
mod program;
mod raw;
mod size;
mod syntax;
mod value;
mod words;

#[cfg(test)]
mod tests;

pub use address::{Lookup, STORED_PREFIX};
pub use checked::Config;
pub use duration::{format_duration, read_duration};
pub use flags::{Flags, UsageError, from_flags, override_with};
pub use load::{LoadError, Programs, control_path, load, parse, parse_with};
pub use mistakes::{Colour, Mistake, Mistakes, Span};
pub use plan::{Plan, plan};
pub use program::find_program;

/// What `ostler init` writes: every key with its default, its unit and why one would change it.
pub const COMMENTED_EXAMPLE: &str = include_str!("../examples/ostler.toml");
