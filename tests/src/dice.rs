//! Throws dice for tests that want a random victim.
//!
//! The seed is printed, and `OSTLER_TEST_SEED` repeats it.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A splitmix64 generator.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice with a fresh seed, or with the one of `OSTLER_TEST_SEED`.
    #[must_use]
    pub fn new() -> Dice {
        let given = std::env::var("OSTLER_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        eprintln!("dice: OSTLER_TEST_SEED={seed}");
        Dice(seed)
    }

    /// A number below `sides`.
    ///
    /// # Panics
    /// When `sides` is 0.
    pub fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let sides = u64::try_from(sides).expect("a usize fits in 64 bits here");
        usize::try_from((mixed ^ (mixed >> 31)) % sides).expect("smaller than a usize")
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        if among.is_empty() { None } else { among.get(self.below(among.len())) }
    }
}

impl Default for Dice {
    fn default() -> Self {
        Dice::new()
    }
}
