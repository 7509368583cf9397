//! Lets anybody of the same user see how a supervisor is, without asking it.
//!
//! The supervisor publishes its state in a file beside its control socket, `PATH.board`, mode 0600. Whoever reads it waits for
//! nobody: it works while the supervisor is stopped or busy. Nothing is mapped on either side, so that nobody meets SIGBUS,
//! whatever is done to the file (docs/decisions/0019).
//!
//! ```text
//!  word 0      1        2      3            8                    8 + BANK_WORDS
//!  ┌───────┬─────────┬───────┬───────────┬─┬────────────────────┬────────────────────┐
//!  │ magic │ version │ count │ reserved  … │ bank 0             │ bank 1             │
//!  └───────┴─────────┴───────┴───────────┴─┴────────────────────┴────────────────────┘
//!                                           ┌────────┬──────────┬──────────┬─────────┐
//!                               each bank:  │ count  │ length   │ checksum │ content │
//!                                           └────────┴──────────┴──────────┴─────────┘
//! ```
//!
//! All words are 64 bits, little-endian. `count` is how often something was published; what was published last is in bank
//! `count & 1`, and the next one goes into the other ([`banks`]). So there is always one whole state to read, in particular
//! when the supervisor is stopped in the middle of publishing, and it is one of a single instant: its books balance.
//! `content` is [`Content`], as postcard writes it, `length` bytes of it, filled up with zeroes to a whole word.
//!
//! The file is sparse: of the two banks only what is used takes room.

pub mod banks;
pub mod content;
#[cfg(not(loom))]
pub mod file;
pub mod histogram;

pub use content::Content;
pub use histogram::Histogram;

/// The version of everything in here, of the content as well. Another one is refused.
pub const VERSION: u64 = 1;

/// Most bytes of one published state: some fifty thousand workers. A larger one is not published; what was published before
/// stays, and its age tells.
pub const CONTENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What is appended to the path of the control socket.
pub const SUFFIX: &str = ".board";

/// Most deaths that are published, the last ones.
pub const DEATHS_MAX: usize = 16;
/// Most reloads that are published, the last ones.
pub const RELOADS_MAX: usize = 8;
/// Longest text of any kind, in bytes; what is longer is cut.
pub const TEXT_BYTES_MAX: usize = 4096;
/// Longest text in the record of a death, in bytes.
pub const REASON_BYTES_MAX: usize = 256;
