//! Frames messages on a byte stream, whatever way the stream cuts them.
//!
//! A frame is a little-endian u32 length and that many bytes. [`FrameReader`] and [`FrameWriter`] keep what is
//! unfinished, so they serve blocking and non-blocking streams alike: short reads, short writes and EINTR are
//! their business, and a length beyond the limit is refused before a byte of it is allocated.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

/// Bytes of the length prefix.
pub const PREFIX_LEN: usize = 4;
/// How much is read from a stream at a time, in bytes.
const READ_CHUNK: usize = 16 * 1024;

/// What a stream had to say.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// One whole frame.
    Frame(Vec<u8>),
    /// Nothing more for now (a non-blocking stream would block).
    Later,
    /// The stream ended between two frames.
    End,
}

/// Why a stream can't be read any further.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// A frame announces more bytes than the reader's limit.
    #[error("a frame of {len} bytes is over the limit of {max}")]
    TooLong {
        /// What the prefix said.
        len: usize,
        /// The reader's limit.
        max: usize,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended in the middle of a frame")]
    Cut,
    /// The stream itself failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Collects frames from a byte stream.
#[derive(Debug)]
pub struct FrameReader {
    /// Bytes that were read and belong to no delivered frame; never more than one frame and one chunk.
    pending: Vec<u8>,
    frame_max: usize,
}

impl FrameReader {
    /// A reader that refuses frames of more than `frame_max` bytes.
    #[must_use]
    pub fn new(frame_max: usize) -> FrameReader {
        FrameReader { pending: Vec::new(), frame_max }
    }

    /// Reads until there is a frame, or nothing more to read for now.
    ///
    /// # Errors
    /// [`StreamError`]; the stream is of no use afterwards.
    pub fn next(&mut self, stream: &mut impl Read) -> Result<Next, StreamError> {
        let mut chunk = [0; READ_CHUNK];
        loop {
            if let Some(frame) = self.complete()? {
                return Ok(Next::Frame(frame));
            }
            match stream.read(&mut chunk) {
                Ok(0) if self.pending.is_empty() => return Ok(Next::End),
                Ok(0) => return Err(StreamError::Cut),
                Ok(count) => self.pending.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Next::Later),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn complete(&mut self) -> Result<Option<Vec<u8>>, StreamError> {
        let Some(prefix) = self.pending.first_chunk::<PREFIX_LEN>() else { return Ok(None) };
        let len = u32::from_le_bytes(*prefix) as usize;
        if len > self.frame_max {
            return Err(StreamError::TooLong { len, max: self.frame_max });
        }
        if self.pending.len() < PREFIX_LEN + len {
            return Ok(None);
        }
        let rest = self.pending.split_off(PREFIX_LEN + len);
        let mut frame = std::mem::replace(&mut self.pending, rest);
        frame.drain(..PREFIX_LEN);
        Ok(Some(frame))
    }
}

/// Whether everything has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing is left to write.
    All,
    /// The stream takes no more for now.
    Blocked,
}

/// Keeps frames until a byte stream has taken them.
#[derive(Debug, Default)]
pub struct FrameWriter {
    pending: VecDeque<u8>,
}

impl FrameWriter {
    /// Queues one frame behind the ones before it.
    ///
    /// # Panics
    /// When the frame has more than 4 GiB: our own frames are bounded far below.
    pub fn push(&mut self, frame: &[u8]) {
        let len = u32::try_from(frame.len()).expect("a frame is bounded by its sender");
        self.pending.extend(len.to_le_bytes());
        self.pending.extend(frame);
    }

    /// Bytes that the stream has not taken yet.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.pending.len()
    }

    /// Writes as much as the stream takes.
    ///
    /// # Errors
    /// Whatever the stream answers other than `EINTR` and "would block"; `WriteZero` when it takes nothing.
    pub fn flush(&mut self, stream: &mut impl Write) -> io::Result<Flushed> {
        while !self.pending.is_empty() {
            let (front, _) = self.pending.as_slices();
            match stream.write(front) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.pending.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Flushed::Blocked),
                Err(error) => return Err(error),
            }
        }
        Ok(Flushed::All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How an adversarial stream treats one call.
    #[derive(Debug, Clone, Copy)]
    enum Whim {
        Interrupt,
        Block,
        AtMost(usize),
    }

    /// A pipe in memory that cuts reads and writes wherever its whims say.
    struct Adversary {
        bytes: VecDeque<u8>,
        whims: std::iter::Cycle<std::vec::IntoIter<Whim>>,
        ended: bool,
    }

    impl Adversary {
        fn turn(&mut self, wanted: usize) -> io::Result<usize> {
            match self.whims.next().unwrap_or(Whim::AtMost(usize::MAX)) {
                Whim::Interrupt => Err(io::ErrorKind::Interrupted.into()),
                Whim::Block => Err(io::ErrorKind::WouldBlock.into()),
                Whim::AtMost(most) => Ok(wanted.min(most)),
            }
        }
    }

    impl Read for Adversary {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.bytes.is_empty() {
                return if self.ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
            }
            let count = self.turn(buffer.len().min(self.bytes.len()))?;
            for (slot, byte) in buffer.iter_mut().zip(self.bytes.drain(..count)) {
                *slot = byte;
            }
            Ok(count)
        }
    }

    impl Write for Adversary {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.turn(bytes.len())?;
            self.bytes.extend(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn whims() -> impl Strategy<Value = Vec<Whim>> {
        let whim = prop_oneof![Just(Whim::Interrupt), Just(Whim::Block), (1usize..9).prop_map(Whim::AtMost)];
        // One whim that moves on, or an adversary of nothing but refusals would never let a byte through.
        proptest::collection::vec(whim, 0..8).prop_map(|mut whims| {
            whims.push(Whim::AtMost(3));
            whims
        })
    }

    proptest! {
        #[test]
        fn frames_survive_a_stream_that_cuts_anywhere(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..12),
            whims in whims(),
        ) {
            let mut stream = Adversary { bytes: VecDeque::new(), whims: whims.into_iter().cycle(), ended: false };
            let mut writer = FrameWriter::default();
            for frame in &frames {
                writer.push(frame);
            }
            while writer.flush(&mut stream).unwrap() == Flushed::Blocked {}
            prop_assert_eq!(writer.backlog(), 0);
            stream.ended = true;
            let mut reader = FrameReader::new(200);
            let mut received = Vec::new();
            loop {
                match reader.next(&mut stream).unwrap() {
                    Next::Frame(frame) => received.push(frame),
                    Next::Later => {}
                    Next::End => break,
                }
            }
            prop_assert_eq!(received, frames);
        }

        #[test]
        fn no_bytes_make_the_reader_panic_or_allocate_beyond_its_limit(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut reader = FrameReader::new(64);
            let mut stream = io::Cursor::new(bytes);
            while let Ok(Next::Frame(frame)) = reader.next(&mut stream) {
                prop_assert!(frame.len() <= 64);
            }
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_prefix_alone() {
        let mut reader = FrameReader::new(10);
        let refused = reader.next(&mut io::Cursor::new(11u32.to_le_bytes()));
        assert!(matches!(refused, Err(StreamError::TooLong { len: 11, max: 10 })));
    }

    #[test]
    fn an_end_inside_a_frame_is_not_an_orderly_end() {
        let mut reader = FrameReader::new(10);
        assert!(matches!(reader.next(&mut io::Cursor::new([3, 0, 0, 0, 1])), Err(StreamError::Cut)));
    }
}
