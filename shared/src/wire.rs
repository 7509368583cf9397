//! Says what travels on a worker's control channel.
//!
//! One frame is one SEQPACKET message: a version byte, then a postcard-encoded [`ToWorker`] or
//! [`ToSupervisor`]. Postcard writes the *position* of a variant and the fields in their order, so both are the
//! format: append, never reorder; the golden bytes below hold it.
//!
//! A frame from the other side is a claim. [`decode`] bounds it, and what it refuses becomes `Misbehaved`.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The protocol between supervisor and worker; the value of `OSTLER_PROTOCOL`.
pub const PROTOCOL: u16 = 1;
/// First byte of every frame: the version of the encoding.
pub const FRAME_VERSION: u8 = 1;
/// Longest frame on a control channel, in bytes. A longer one is refused whole.
pub const FRAME_MAX: usize = 512;
/// Longest text inside a frame, in bytes.
pub const TEXT_MAX: usize = 256;

/// Most programs that serve one connection.
pub const PROGRAMS_MAX: usize = 16;

/// What the supervisor tells a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    /// The answer to Hello.
    Welcome(Welcome),
    /// Claim what is in the mailbox to its end, finish it, then leave.
    Drain,
    /// Answer with [`ToSupervisor::Pong`].
    Ping {
        /// Comes back in the answer.
        nonce: u64,
    },
}

/// What a worker learns about its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The supervisor's [`PROTOCOL`].
    pub protocol: u16,
    /// Connections that the worker may hold at a time, at least 1.
    pub concurrency: u32,
    /// How long it may go on after a drain began, or after the supervisor died, in milliseconds.
    pub drain_timeout_ms: u64,
    /// A worker that promises to beat and is silent for so long is taken for wedged, in milliseconds; 0: nobody looks.
    pub heartbeat_ms: u64,
    /// Whether anybody reads marks.
    pub marks: Marks,
}

/// Whether the supervisor reads which of a worker's connections are busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Marks {
    /// Nobody asks for them.
    Unread,
    /// A worker that can should keep them.
    Read,
}

/// What a worker tells the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSupervisor {
    /// First frame: this process speaks the protocol.
    Hello(Hello),
    /// Everything is loaded; connections may come.
    Ready,
    /// The worker has begun to leave by itself (it got TERM): hand it nothing more.
    Draining,
    /// The answer to Ping.
    Pong {
        /// The question's nonce.
        nonce: u64,
    },
    /// The programs that served a connection have ended; sent before its completion.
    Programs(Programs),
}

/// How the programs ended that served a connection, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Programs {
    /// The connection's id.
    pub conn: u64,
    /// At most [`PROGRAMS_MAX`].
    pub ends: Vec<ProgramEnd>,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramEnd {
    /// Its process id; 0 when there was no process.
    pub pid: u32,
    /// Its end.
    pub end: End,
}

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// It exited with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// It could not be started: errno.
    NotStarted(i32),
}

impl ProgramEnd {
    /// Whether nothing went wrong. Somebody to whom nobody listens any more is ended by PIPE, as it should be.
    #[must_use]
    pub fn is_well(&self) -> bool {
        match self.end {
            End::Code(code) => code == 0,
            End::Signal(signal) => signal == SIGPIPE,
            End::NotStarted(_) => false,
        }
    }
}

/// signal(7), the same on every architecture that this is built for.
const SIGPIPE: i32 = 13;

/// How a worker introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The worker's [`PROTOCOL`].
    pub protocol: u16,
    /// The library and its version, for the log; at most [`TEXT_MAX`] bytes.
    pub library: String,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// Longer than [`FRAME_MAX`].
    #[error("a frame has at most {FRAME_MAX} bytes, this has {0}")]
    TooLong(usize),
    /// No version byte.
    #[error("an empty frame")]
    Empty,
    /// A version that this build does not read.
    #[error("a frame of version {0} is not understood (this build reads {FRAME_VERSION})")]
    Version(u8),
    /// Not what the type expects, or bytes left over.
    #[error("a frame that does not decode")]
    Garbage,
    /// A text longer than [`TEXT_MAX`].
    #[error("a frame with a text of {0} bytes (at most {TEXT_MAX})")]
    TextTooLong(usize),
    /// More programs than serve a connection.
    #[error("a frame with the ends of {0} programs (at most {PROGRAMS_MAX})")]
    TooManyPrograms(usize),
}

/// Encodes one frame.
///
/// # Errors
/// [`BadFrame::TooLong`] when it would not fit; nothing is sent in part.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, BadFrame> {
    let frame = postcard::to_extend(message, vec![FRAME_VERSION]).map_err(|_| BadFrame::Garbage)?;
    if frame.len() > FRAME_MAX { Err(BadFrame::TooLong(frame.len())) } else { Ok(frame) }
}

/// Decodes one frame that came from the other side.
///
/// # Errors
/// When it is anything but one whole frame of this version.
pub fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, BadFrame> {
    if frame.len() > FRAME_MAX {
        return Err(BadFrame::TooLong(frame.len()));
    }
    let (&version, payload) = frame.split_first().ok_or(BadFrame::Empty)?;
    if version != FRAME_VERSION {
        return Err(BadFrame::Version(version));
    }
    match postcard::take_from_bytes(payload) {
        Ok((message, [])) => Ok(message),
        Ok(_) | Err(_) => Err(BadFrame::Garbage),
    }
}

impl Hello {
    /// Refuses an introduction that breaks a limit.
    ///
    /// # Errors
    /// [`BadFrame::TextTooLong`].
    pub fn checked(self) -> Result<Hello, BadFrame> {
        if self.library.len() > TEXT_MAX { Err(BadFrame::TextTooLong(self.library.len())) } else { Ok(self) }
    }
}

impl Programs {
    /// Refuses what breaks a limit.
    ///
    /// # Errors
    /// [`BadFrame::TooManyPrograms`].
    pub fn checked(self) -> Result<Programs, BadFrame> {
        if self.ends.len() > PROGRAMS_MAX { Err(BadFrame::TooManyPrograms(self.ends.len())) } else { Ok(self) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The format: a change here breaks every worker that was built before.
    #[test]
    fn the_frames_are_these_bytes() {
        let ends = [(70, End::Code(0)), (71, End::Signal(9)), (0, End::NotStarted(2))];
        let ends = ends.map(|(pid, end)| ProgramEnd { pid, end }).to_vec();
        let golden_to_supervisor: [(ToSupervisor, &[u8]); 5] = [
            (ToSupervisor::Hello(Hello { protocol: 1, library: "py".into() }), &[1, 0, 1, 2, b'p', b'y']),
            (ToSupervisor::Ready, &[1, 1]),
            (ToSupervisor::Draining, &[1, 2]),
            (ToSupervisor::Pong { nonce: 7 }, &[1, 3, 7]),
            (ToSupervisor::Programs(Programs { conn: 5, ends }), &[1, 4, 5, 3, 70, 0, 0, 71, 1, 18, 0, 2, 4]),
        ];
        for (message, bytes) in golden_to_supervisor {
            assert_eq!(encode(&message).unwrap(), bytes, "{message:?}");
            assert_eq!(decode::<ToSupervisor>(bytes), Ok(message));
        }
        let welcome =
            Welcome { protocol: 1, concurrency: 4, drain_timeout_ms: 30_000, heartbeat_ms: 30_000, marks: Marks::Read };
        let golden_to_worker: [(ToWorker, &[u8]); 3] = [
            (ToWorker::Welcome(welcome), &[1, 0, 1, 4, 0xb0, 0xea, 1, 0xb0, 0xea, 1, 1]),
            (ToWorker::Drain, &[1, 1]),
            (ToWorker::Ping { nonce: 7 }, &[1, 2, 7]),
        ];
        for (message, bytes) in golden_to_worker {
            assert_eq!(encode(&message).unwrap(), bytes, "{message:?}");
            assert_eq!(decode::<ToWorker>(bytes), Ok(message));
        }
    }

    #[test]
    fn what_is_not_one_whole_frame_is_refused() {
        assert_eq!(decode::<ToSupervisor>(&[]), Err(BadFrame::Empty));
        assert_eq!(decode::<ToSupervisor>(&[9, 1]), Err(BadFrame::Version(9)));
        assert_eq!(decode::<ToSupervisor>(&[1, 99]), Err(BadFrame::Garbage));
        assert_eq!(decode::<ToSupervisor>(&[1, 1, 0]), Err(BadFrame::Garbage), "bytes left over");
        assert_eq!(decode::<ToSupervisor>(&[1; FRAME_MAX + 1]), Err(BadFrame::TooLong(FRAME_MAX + 1)));
    }

    #[test]
    fn the_most_programs_fit_into_a_frame_and_more_are_refused() {
        let end = ProgramEnd { pid: u32::MAX, end: End::Code(i32::MIN) };
        let most = Programs { conn: u64::MAX, ends: vec![end; PROGRAMS_MAX] };
        let frame = encode(&ToSupervisor::Programs(most.clone())).unwrap();
        assert_eq!(decode(&frame), Ok(ToSupervisor::Programs(most.clone())));
        assert_eq!(most.clone().checked(), Ok(most));
        let more = Programs { conn: 1, ends: vec![end; PROGRAMS_MAX + 1] };
        assert_eq!(more.checked(), Err(BadFrame::TooManyPrograms(PROGRAMS_MAX + 1)));
    }

    #[test]
    fn a_text_over_its_limit_is_refused() {
        let hello = Hello { protocol: 1, library: "x".repeat(TEXT_MAX + 1) };
        assert_eq!(hello.checked(), Err(BadFrame::TextTooLong(TEXT_MAX + 1)));
        let enormous = ToSupervisor::Hello(Hello { protocol: 1, library: "x".repeat(FRAME_MAX) });
        assert!(matches!(encode(&enormous), Err(BadFrame::TooLong(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = decode::<ToSupervisor>(&bytes);
            let _ = decode::<ToWorker>(&bytes);
        }
    }
}
