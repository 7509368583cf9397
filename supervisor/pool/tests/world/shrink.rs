//! Makes a history that breaks an invariant as short as it gets, and writes it so that it can be replayed.

use std::fmt;
use std::str::FromStr;

/// The happenings of a history that are kept, ascending. Written `3,5,9-20`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keep(pub(crate) Vec<usize>);

/// Replays that one shrinking may take.
const REPLAYS_MAX: usize = 4_000;

impl Keep {
    pub(crate) fn first(count: usize) -> Keep {
        Keep((0..count).collect())
    }

    /// Leaves out whatever can be left out while `breaks` still says so: large pieces first, single happenings last.
    pub(crate) fn shrink(self, mut breaks: impl FnMut(&Keep) -> bool) -> Keep {
        let mut kept = self.0;
        let mut piece = kept.len().div_ceil(2).max(1);
        let mut replays = 0;
        loop {
            let before = kept.len();
            let mut at = 0;
            while at < kept.len() && replays < REPLAYS_MAX {
                let end = (at + piece).min(kept.len());
                let shorter = Keep([&kept[..at], &kept[end..]].concat());
                replays += 1;
                // What follows has moved into the place of what was left out.
                if breaks(&shorter) { kept = shorter.0 } else { at = end }
            }
            match (piece, kept.len() < before) {
                // Leaving out one may have made another one needless.
                (1, true) if replays < REPLAYS_MAX => {}
                (1, _) => return Keep(kept),
                (_, _) => piece /= 2,
            }
        }
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs: Vec<String> = self
            .0
            .chunk_by(|one, next| one + 1 == *next)
            .map(|run| match run {
                [only] => only.to_string(),
                [first, .., last] => format!("{first}-{last}"),
                [] => unreachable!("chunks are not empty"),
            })
            .collect();
        f.write_str(&runs.join(","))
    }
}

impl FromStr for Keep {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Keep, Self::Err> {
        let mut kept = Vec::new();
        for run in text.split(',').filter(|run| !run.is_empty()) {
            let (first, last) = run.split_once('-').unwrap_or((run, run));
            kept.extend(first.parse::<usize>()?..=last.parse()?);
        }
        Ok(Keep(kept))
    }
}
