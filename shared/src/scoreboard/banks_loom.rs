//! Lets loom try the orders in which a state is published and read: `tests/run loom`.

use loom::thread;

use super::*;
use crate::sys::memory::{OwnMemory, PeerMemory, on_the_heap};

/// Without a bound the histories are too many to try.
const PREEMPTIONS: usize = 3;
/// Banks of the model: a head and one word.
const MODEL_BANK_WORDS: usize = HEAD_WORDS + 1;

/// The places of the model, where banks are small and of the header the count alone is shared: what never changes would only
/// multiply the histories.
fn squeezed(at: usize) -> Option<usize> {
    match at {
        COUNT => Some(0),
        _ if at < HEADER_WORDS => None,
        _ if at < HEADER_WORDS + BANK_WORDS => Some(1 + at - HEADER_WORDS),
        _ => Some(1 + MODEL_BANK_WORDS + at - HEADER_WORDS - BANK_WORDS),
    }
}

impl Store for OwnMemory {
    fn store(&self, at: usize, words: &[u64]) -> io::Result<()> {
        for (offset, word) in words.iter().enumerate() {
            if let Some(place) = squeezed(at + offset) {
                OwnMemory::store(self, place, *word, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

impl Load for PeerMemory {
    fn load(&self, at: usize, words: &mut [u64]) -> io::Result<()> {
        for (offset, word) in words.iter_mut().enumerate() {
            *word = match squeezed(at + offset) {
                Some(place) => PeerMemory::load(self, place, Ordering::Relaxed),
                None => [MAGIC, VERSION][at + offset],
            };
        }
        Ok(())
    }
}

/// B1 → B2 and B3 → B4: what is read is one whole state, no older than what was there when reading began. That the reader
/// is overtaken is no error; a checksum that does not fit would be.
#[test]
fn loom_no_state_is_torn() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    builder.check(|| {
        let (own, peer) = on_the_heap(1 + 2 * MODEL_BANK_WORDS);
        let mut publisher = Publisher::new(own);
        publisher.publish(&[1; WORD]).unwrap();
        let publishing = thread::spawn(move || {
            // The second of these goes into the bank that the reader may be at.
            publisher.publish(&[2; WORD]).unwrap();
            publisher.publish(&[3; WORD]).unwrap();
        });
        match read_within(&peer, 1) {
            Ok(state) => assert!((1..=3).any(|number| state == [number; WORD]), "torn: {state:?}"),
            Err(Unreadable::Restless) => {}
            Err(other) => panic!("{other}"),
        }
        publishing.join().unwrap();
        assert_eq!(read_within(&peer, 1).unwrap(), [3; WORD]);
    });
}
