//! Sends arbitrary bytes to the control socket's reader, cut anywhere, as the supervisor and as a client read them.
//!
//! Holds: no panic; a frame is never longer than its limit, which no prefix makes anybody allocate; where the stream is
//! cut changes nothing; a message that is understood reads back as the same.
#![no_main]

use std::fmt::Debug;
use std::io::{self, Read};

use libfuzzer_sys::fuzz_target;
use ostler_shared::stream::{FrameReader, FrameWriter, Next};
use serde::Serialize;
use serde::de::DeserializeOwned;

// The supervisor is a program and not a library: its protocol is compiled from its own file.
#[path = "../../../supervisor/src/control/protocol.rs"]
#[allow(dead_code, reason = "the command line's part of it is not ours")]
mod protocol;

use protocol::{REQUEST_MAX, RESPONSE_MAX, Request, Response, decode, encode};

fuzz_target!(|bytes: &[u8]| {
    // The first byte says how the stream is cut, and a limit that short streams reach; the rest is the stream.
    let Some((&piece, stream)) = bytes.split_first() else { return };
    let requests = read_all(stream, REQUEST_MAX, usize::MAX);
    assert_eq!(requests, read_all(stream, REQUEST_MAX, usize::from(piece) + 1), "cut into pieces of {piece} + 1");
    let _frames_within = read_all(stream, usize::from(piece), usize::from(piece) + 1);
    for frame in requests.iter().chain(&read_all(stream, RESPONSE_MAX, usize::MAX)) {
        survives::<Request>(frame);
        survives::<Response>(frame);
    }
});

/// Every whole frame until the stream ends or is refused.
fn read_all(stream: &[u8], frame_max: usize, piece: usize) -> Vec<Vec<u8>> {
    let mut reader = FrameReader::new(frame_max);
    let mut stream = Pieces { left: stream, piece };
    let mut frames = Vec::new();
    while let Ok(Next::Frame(frame)) = reader.next(&mut stream) {
        assert!(frame.len() <= frame_max);
        frames.push(frame);
    }
    frames
}

fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(frame: &[u8]) {
    let Ok(message) = decode::<T>(frame) else { return };
    let again = encode(&message);
    assert!(again.len() <= frame.len(), "{message:?} grew to {again:?}");
    assert_eq!(decode::<T>(&again).as_ref(), Ok(&message));
    let mut sent = Vec::new();
    let mut writer = FrameWriter::default();
    writer.push(&again);
    writer.flush(&mut sent).expect("memory takes everything");
    assert_eq!(read_all(&sent, RESPONSE_MAX, 1), [again]);
}

/// A stream that gives so many bytes at a time.
struct Pieces<'a> {
    left: &'a [u8],
    piece: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(self.piece);
        self.left.read(&mut buffer[..count])
    }
}
