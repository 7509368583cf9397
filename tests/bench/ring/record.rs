//! Says what a record is, and checks that it arrives as it was sent.

/// Words of a record.
pub(crate) const WORDS: usize = 8;
/// Bytes of a record.
pub(crate) const LEN: usize = WORDS * size_of::<u64>();

/// A record.
pub(crate) type Record = [u64; WORDS];

/// No record is behind this one.
const LAST: u64 = u64::MAX;

/// The record with this number.
#[inline]
pub(crate) fn numbered(number: u64) -> Record {
    [number; WORDS]
}

/// The one that ends a stream.
pub(crate) fn last() -> Record {
    numbered(LAST)
}

/// A record as bytes, for those that carry bytes.
#[inline]
pub(crate) fn to_bytes(record: &Record) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    for (place, word) in bytes.chunks_exact_mut(size_of::<u64>()).zip(record) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// The record in these bytes.
#[inline]
pub(crate) fn of_bytes(bytes: &[u8; LEN]) -> Record {
    let mut record = [0; WORDS];
    for (word, place) in record.iter_mut().zip(bytes.chunks_exact(size_of::<u64>())) {
        *word = u64::from_ne_bytes(place.try_into().expect("a chunk is a word"));
    }
    record
}

/// What arrived.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// Records in their order and whole.
    pub(crate) count: u64,
    /// Records that were not.
    pub(crate) wrong: u64,
}

/// Whether more is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum More {
    Comes,
    Ended,
}

impl Arrived {
    /// Takes a record in.
    #[inline]
    pub(crate) fn note(&mut self, record: &Record) -> More {
        if record[0] == LAST {
            return More::Ended;
        }
        let expected = self.count + self.wrong;
        match record.iter().all(|word| *word == expected) {
            true => self.count += 1,
            false => self.wrong += 1,
        }
        More::Comes
    }
}
