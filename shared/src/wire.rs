//! Says what travels on a worker's control channel.
//!
//! One frame is one SEQPACKET message: a version byte, then a postcard-encoded [`ToWorker`] or
//! [`ToSupervisor`]. Postcard writes the *position* of a variant and the fields in their order, so both are the
//! format: append, never reorder; the golden bytes below hold it.
//!
//! A frame from the other side is a claim. [`decode`] bounds it, and what it refuses becomes `Misbehaved`.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::SlotNo;

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
    /// To a template: fork a worker. The descriptors of its place travel with the frame, as [`FORK_DESCRIPTORS`] lists them.
    Fork(Fork),
}

/// What travels with [`ToWorker::Fork`], in this order: mailbox, control channel, region, gauges, doorbell, standard output,
/// standard error.
pub const FORK_DESCRIPTORS: usize = 7;

/// A worker that a template is to fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// Comes back in the answer.
    pub request: u64,
    /// The slot that the worker is for; its generation is the template's.
    pub slot: SlotNo,
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
    /// Instead of Hello, from a process that was started as a template (`OSTLER_TEMPLATE`).
    Template(Hello),
    /// From a template: everything is loaded; workers can be forked.
    Loaded,
    /// From a template: a worker was forked, and is the supervisor's child by now.
    Forked {
        /// That of [`Fork`].
        request: u64,
        /// The worker's process, as the supervisor sees it.
        pid: u32,
    },
    /// From a template: no worker was forked.
    NotForked {
        /// That of [`Fork`].
        request: u64,
        /// Whose fault that is.
        why: NoFork,
        /// What went wrong, for the log; at most [`TEXT_MAX`] bytes.
        text: String,
    },
}

/// Why a template forks no worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoFork {
    /// The system gives no process or descriptor; later it may.
    Shortage,
    /// This process can't be copied, and will not be able to: it has started threads.
    Unfit,
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

impl ToSupervisor {
    /// Refuses a frame in which something breaks its limit.
    ///
    /// # Errors
    /// [`BadFrame::TextTooLong`], [`BadFrame::TooManyPrograms`].
    pub fn checked(self) -> Result<ToSupervisor, BadFrame> {
        match self {
            ToSupervisor::NotForked { text, .. } if text.len() > TEXT_MAX => Err(BadFrame::TextTooLong(text.len())),
            ToSupervisor::Hello(hello) => hello.checked().map(ToSupervisor::Hello),
            ToSupervisor::Template(hello) => hello.checked().map(ToSupervisor::Template),
            ToSupervisor::Programs(programs) => programs.checked().map(ToSupervisor::Programs),
            ToSupervisor::Ready
            | ToSupervisor::Draining
            | ToSupervisor::Pong { .. }
            | ToSupervisor::Loaded
            | ToSupervisor::Forked { .. }
            | ToSupervisor::NotForked { .. } => Ok(self),
        }
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
        let golden_to_supervisor: [(ToSupervisor, &[u8]); 9] = [
            (ToSupervisor::Hello(Hello { protocol: 1, library: "py".into() }), &[1, 0, 1, 2, b'p', b'y']),
            (ToSupervisor::Ready, &[1, 1]),
            (ToSupervisor::Draining, &[1, 2]),
            (ToSupervisor::Pong { nonce: 7 }, &[1, 3, 7]),
            (ToSupervisor::Programs(Programs { conn: 5, ends }), &[1, 4, 5, 3, 70, 0, 0, 71, 1, 18, 0, 2, 4]),
            (ToSupervisor::Template(Hello { protocol: 1, library: "py".into() }), &[1, 5, 1, 2, b'p', b'y']),
            (ToSupervisor::Loaded, &[1, 6]),
            (ToSupervisor::Forked { request: 300, pid: 200 }, &[1, 7, 0xac, 2, 0xc8, 1]),
            (
                ToSupervisor::NotForked { request: 7, why: NoFork::Unfit, text: "no".into() },
                &[1, 8, 7, 1, 2, b'n', b'o'],
            ),
        ];
        for (message, bytes) in golden_to_supervisor {
            assert_eq!(encode(&message).unwrap(), bytes, "{message:?}");
            assert_eq!(decode::<ToSupervisor>(bytes), Ok(message));
        }
        let welcome =
            Welcome { protocol: 1, concurrency: 4, drain_timeout_ms: 30_000, heartbeat_ms: 30_000, marks: Marks::Read };
        let golden_to_worker: [(ToWorker, &[u8]); 4] = [
            (ToWorker::Welcome(welcome), &[1, 0, 1, 4, 0xb0, 0xea, 1, 0xb0, 0xea, 1, 1]),
            (ToWorker::Drain, &[1, 1]),
            (ToWorker::Ping { nonce: 7 }, &[1, 2, 7]),
            (ToWorker::Fork(Fork { request: 300, slot: SlotNo(3) }), &[1, 3, 0xac, 2, 3]),
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
        let excuse = ToSupervisor::NotForked { request: 1, why: NoFork::Shortage, text: "x".repeat(TEXT_MAX + 1) };
        assert_eq!(excuse.checked(), Err(BadFrame::TextTooLong(TEXT_MAX + 1)));
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
