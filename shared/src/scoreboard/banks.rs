//! Publishes states one after the other, so that whoever reads gets a whole one or is told to try again.
//!
//! One writer, any number of readers, two banks. The writer never touches the bank that was published last. A reader copies
//! that one out and then makes sure that nothing was published meanwhile: otherwise the bank may have been on its way to the
//! state after the next.
//!
//! | pair | says |
//! |---|---|
//! | B1 → B2 | the count (after a release fence) says that its bank is whole; read before the bank (acquire fence) |
//! | B3 → B4 | whoever sees a word of a newer state in a bank sees, afterwards, the count that made the bank free |
//!
//! The checksum is for what no order can promise: a file that somebody scribbled over, or that a full disk holds half of.

use std::io;

use super::{CONTENT_BYTES_MAX, VERSION};
use crate::sync::{Ordering, fence};
use crate::sys::memory::WORD;

/// The bytes `ostlrbrd`, as the first word.
const MAGIC: u64 = u64::from_le_bytes(*b"ostlrbrd");
const COUNT: usize = 2;
/// Words before the banks.
pub const HEADER_WORDS: usize = 8;
/// Words of a bank before its content: count, length, checksum.
const HEAD_WORDS: usize = 3;
/// Words of a bank.
pub const BANK_WORDS: usize = HEAD_WORDS + CONTENT_BYTES_MAX / WORD;
/// How often a reader begins anew. The writer publishes a few times per second, so that once is rare.
const TRIES_MAX: u32 = 16;

/// Where words are stored.
pub trait Store {
    /// Stores neighbouring words from `at` on, in order or not.
    ///
    /// # Errors
    /// When not all of them are stored.
    fn store(&self, at: usize, words: &[u64]) -> io::Result<()>;
}

/// Where words are copied from.
pub trait Load {
    /// Copies neighbouring words from `at` on.
    ///
    /// # Errors
    /// `UnexpectedEof` when they are not all there; whatever else the medium says.
    fn load(&self, at: usize, words: &mut [u64]) -> io::Result<()>;
}

/// Why a state was not published. What was published before is still there.
#[derive(Debug, thiserror::Error)]
pub enum NotPublished {
    /// There is no room for it.
    #[error("a state of {0} bytes, and {CONTENT_BYTES_MAX} is the limit")]
    TooLong(usize),
    /// It can't be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why there is no state to be had.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It does not begin like a scoreboard.
    #[error("it is no scoreboard of ostler's")]
    Alien,
    /// Another build made it.
    #[error("it has version {theirs} of the scoreboard, this ostler reads {VERSION}: use the same ostler for both")]
    Version {
        /// What it has.
        theirs: u64,
    },
    /// It ends too early.
    #[error("it is cut short: somebody truncated it, and its supervisor has published nothing since")]
    Short,
    /// What is in it is not what was written.
    #[error("it is damaged ({0}): somebody wrote to it, and its supervisor has published nothing since")]
    Damaged(&'static str),
    /// Each time something new was published.
    #[error("it changed {TRIES_MAX} times while it was read: try again")]
    Restless,
    /// It can't be read.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Unreadable {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Unreadable::Short,
            _ => Unreadable::Io(error),
        }
    }
}

/// The side that writes. There must be one only.
#[derive(Debug)]
pub struct Publisher<S> {
    store: S,
    count: u64,
}

impl<S: Store> Publisher<S> {
    /// Begins with a store in which nothing was published.
    pub fn new(store: S) -> Publisher<S> {
        Publisher { store, count: 0 }
    }

    /// Where it publishes.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Publishes a state. The header is written each time: it comes back if somebody has cut it off.
    ///
    /// # Errors
    /// [`NotPublished`].
    pub fn publish(&mut self, content: &[u8]) -> Result<(), NotPublished> {
        if content.len() > CONTENT_BYTES_MAX {
            return Err(NotPublished::TooLong(content.len()));
        }
        let count = self.count + 1;
        let mut bank = Vec::with_capacity(HEAD_WORDS + content.len().div_ceil(WORD));
        bank.extend([count, content.len() as u64, 0]);
        bank.extend(content.chunks(WORD).map(word));
        bank[2] = checksum(&bank);
        // SYNC B3 → B4: whoever sees what follows has to see the count that made this bank free.
        fence(Ordering::Release);
        self.store.store(bank_at(count), &bank)?;
        // SYNC B1 → B2: the bank is whole.
        fence(Ordering::Release);
        self.store.store(0, &[MAGIC, VERSION, count])?;
        self.count = count;
        Ok(())
    }
}

/// Copies out what was published last.
///
/// # Errors
/// [`Unreadable`].
pub fn read(store: &impl Load) -> Result<Vec<u8>, Unreadable> {
    read_within(store, TRIES_MAX)
}

fn read_within(store: &impl Load, tries: u32) -> Result<Vec<u8>, Unreadable> {
    for _ in 0..tries {
        let count = published(store)?;
        // SYNC B2 ← B1.
        fence(Ordering::Acquire);
        let bank = copy(store, count);
        // SYNC B4 ← B3.
        fence(Ordering::Acquire);
        if published(store)? == count {
            return bank;
        }
    }
    Err(Unreadable::Restless)
}

/// How often something was published.
fn published(store: &impl Load) -> Result<u64, Unreadable> {
    let mut header = [0; COUNT + 1];
    store.load(0, &mut header)?;
    match header {
        [MAGIC, VERSION, 0] => Err(Unreadable::Damaged("nothing was published")),
        [MAGIC, VERSION, count] => Ok(count),
        [MAGIC, theirs, _] => Err(Unreadable::Version { theirs }),
        [_, _, _] => Err(Unreadable::Alien),
    }
}

/// What is in a bank just now. An error is one only if nothing was published meanwhile.
fn copy(store: &impl Load, count: u64) -> Result<Vec<u8>, Unreadable> {
    let mut head = [0; HEAD_WORDS];
    store.load(bank_at(count), &mut head)?;
    let length = usize::try_from(head[1]).ok().filter(|length| *length <= CONTENT_BYTES_MAX);
    let length = length.ok_or(Unreadable::Damaged("a length beyond its limit"))?;
    let mut bank = vec![0; HEAD_WORDS + length.div_ceil(WORD)];
    store.load(bank_at(count) + HEAD_WORDS, &mut bank[HEAD_WORDS..])?;
    bank[..2].copy_from_slice(&head[..2]);
    if head[0] != count || head[2] != checksum(&bank) {
        return Err(Unreadable::Damaged("a checksum that does not fit"));
    }
    let mut content: Vec<u8> = bank[HEAD_WORDS..].iter().flat_map(|word| word.to_le_bytes()).collect();
    content.truncate(length);
    Ok(content)
}

fn bank_at(count: u64) -> usize {
    if count & 1 == 0 { HEADER_WORDS } else { HEADER_WORDS + BANK_WORDS }
}

fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; WORD];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// FNV-1a over words, with a rotation, so that the upper bits of a word reach the lower ones of the sum.
fn checksum(words: &[u64]) -> u64 {
    words
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, word| (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29))
}

/// Bytes in memory, for tests and for what somebody else has read.
impl Load for &[u8] {
    fn load(&self, at: usize, words: &mut [u64]) -> io::Result<()> {
        let bytes = at.checked_mul(WORD).and_then(|begin| self.get(begin..)?.get(..words.len() * WORD));
        let bytes = bytes.ok_or(io::ErrorKind::UnexpectedEof)?;
        for (into, from) in words.iter_mut().zip(bytes.chunks_exact(WORD)) {
            *into = word(from);
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
#[path = "banks_tests.rs"]
mod tests;

#[cfg(all(test, loom))]
#[path = "banks_loom.rs"]
mod loom_tests;
