//! Reads the flags of a benchmark: `--name VALUE`, and words that take none.
//!
//! A flag that does not exist, or whose value is no number where one is wanted, ends the program with 2 and the usage.

use std::collections::BTreeMap;

/// What was given.
pub(crate) struct Flags {
    usage: &'static str,
    given: BTreeMap<String, String>,
}

impl Flags {
    /// Reads the program's arguments. `switches` are the flags without a value.
    pub(crate) fn read(usage: &'static str, names: &[&str], switches: &[&str]) -> Flags {
        let mut flags = Flags { usage, given: BTreeMap::new() };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            let value = if switches.contains(&name.as_str()) {
                String::new()
            } else if names.contains(&name.as_str()) {
                args.next().unwrap_or_else(|| flags.refuse(&format!("{name} needs a value")))
            } else {
                flags.refuse(&format!("no flag {name}"))
            };
            flags.given.insert(name, value);
        }
        flags
    }

    /// A word; `None` when the flag was not given.
    pub(crate) fn word(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    /// A number of at least 1.
    pub(crate) fn number(&self, name: &str, default: u32) -> u32 {
        let Some(value) = self.word(name) else { return default };
        match value.parse() {
            Ok(number @ 1..) => number,
            Ok(0) => self.refuse(&format!("{name} 0: at least 1, please")),
            Err(error) => self.refuse(&format!("{name} {value}: {error}")),
        }
    }

    fn refuse(&self, why: &str) -> ! {
        eprintln!("{why}\nusage: {}", self.usage);
        std::process::exit(2)
    }
}
