//! Names the things that supervisor and workers talk about.
//!
//! Every identity is a type of its own, so that a slot can't be passed where a generation is meant. A pid is
//! deliberately absent: it is an address, reused by the kernel, and stays in the driver.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest name of a pool, in bytes.
pub const POOL_NAME_MAX: usize = 32;

/// One accepted connection, never reused in the life of a supervisor. Logs write it as `c812`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnId(pub u64);

/// One worker process, never reused in the life of a supervisor. Logs write the worker's name instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerId(pub u64);

/// A numbered place in a pool, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotNo(pub u32);

/// Grows by one with every reload of a pool, from 1; the number of an undone reload is not reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation(pub u32);

impl Generation {
    /// The generation that a pool starts with.
    pub const FIRST: Generation = Generation(1);

    /// The one that follows.
    ///
    /// # Panics
    /// After 4,294,967,295 reloads of one pool.
    #[must_use]
    pub fn next(self) -> Generation {
        Generation(self.0.checked_add(1).expect("generations are exhausted"))
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}", self.0)
    }
}

impl SlotNo {
    /// Where a name has a template's in place of a slot: a template is in none. No pool has so many.
    pub const TEMPLATE: SlotNo = SlotNo(u32::MAX);
}

impl fmt::Display for SlotNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == SlotNo::TEMPLATE { f.write_str("template") } else { write!(f, "{}", self.0) }
    }
}

impl FromStr for SlotNo {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        if text == "template" { Ok(SlotNo::TEMPLATE) } else { text.parse().map(SlotNo) }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The name of a pool: `[a-z0-9][a-z0-9_-]{0,31}`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolName(Arc<str>);

/// A text that is not the name of a pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a pool name: use 1 to 32 of a-z, 0-9, '_' and '-', beginning with a letter or digit")]
pub struct NotAPoolName(pub String);

impl PoolName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PoolName {
    type Err = NotAPoolName;

    fn from_str(text: &str) -> Result<Self, NotAPoolName> {
        let first_is_plain = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let rest_is_plain =
            text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
        if first_is_plain && rest_is_plain && text.len() <= POOL_NAME_MAX {
            Ok(PoolName(text.into()))
        } else {
            Err(NotAPoolName(text.to_owned()))
        }
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a worker is called in every log: `pool/slot.generation`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerName {
    /// The pool it serves.
    pub pool: PoolName,
    /// Its place in the pool.
    pub slot: SlotNo,
    /// The generation of the pool's program and configuration that it runs.
    pub generation: Generation,
}

impl fmt::Display for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.{}", self.pool, self.slot, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_name_has_1_to_32_plain_bytes() {
        for good in ["a", "0", "web", "web-2_b", &"x".repeat(32)] {
            assert_eq!(good.parse::<PoolName>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "_a", "Web", "a b", "a/b", "ä", &"x".repeat(33)] {
            assert!(bad.parse::<PoolName>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_worker_is_called_pool_slot_generation() {
        let name = WorkerName { pool: "web".parse().unwrap(), slot: SlotNo(3), generation: Generation(7) };
        assert_eq!(name.to_string(), "web/3.7");
    }

    #[test]
    fn a_template_has_a_word_in_place_of_a_slot() {
        let name = WorkerName { pool: "web".parse().unwrap(), slot: SlotNo::TEMPLATE, generation: Generation(7) };
        assert_eq!(name.to_string(), "web/template.7");
        for slot in [SlotNo::TEMPLATE, SlotNo(3)] {
            assert_eq!(slot.to_string().parse(), Ok(slot));
        }
    }
}
