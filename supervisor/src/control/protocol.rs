//! Says what travels on the control socket.
//!
//! A byte stream of frames (`ostler_shared::stream`). Each frame begins with the protocol's version as a little-endian
//! u16, so that two builds which don't understand each other can at least say so; then comes one postcard-encoded
//! [`Request`] or [`Response`]. One request per connection; to that any number of [`Response::Progress`],
//! [`Response::Lines`] and [`Response::Missed`], and one other response, after which the supervisor closes.

use std::borrow::Cow;

use ostler_shared::{PoolName, SlotNo};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version that this build speaks.
pub(crate) const VERSION: u16 = 4;
/// Longest request, in bytes.
pub(crate) const REQUEST_MAX: usize = 4 * 1024;
/// Longest response, in bytes: the status of some ten thousand workers.
pub(crate) const RESPONSE_MAX: usize = 16 * 1024 * 1024;

/// How the refusal ends of one client more than may ask at a time; how many those are stands before it.
pub(crate) const CROWDED: &str = "clients are asking already: try again in a moment";

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The state of everything.
    Status,
    /// A new generation of some pools (all when empty).
    Reload { pools: Vec<String>, wait: Wait },
    /// Fresh workers of the same generation.
    Restart { pool: String, slot: Option<u32> },
    /// Another number of workers.
    Scale { pool: String, change: ScaleTo },
    /// The end.
    Stop { pace: Pace },
    /// The last deaths.
    Deaths,
    /// The state of everything, into the log.
    Dump,
    /// No workers for a pool (all when absent), while its clients wait.
    Pause { pool: Option<String> },
    /// Its workers again.
    Resume { pool: Option<String> },
    /// Other workers in place of those that serve.
    Recycle { pool: String, slot: Option<u32> },
    /// The last lines of the log, of everything or of a pool or a slot of it.
    Logs { pool: Option<String>, slot: Option<u32>, lines: u32, follow: Follow },
    /// Other files under the names of those that the log is written to.
    ReopenLogs,
    /// The last connections that have ended, of a pool or of all, that took so long, and those that end from now on.
    Trace { pool: Option<String>, slow_us: u64, which: Which, lines: u32, follow: Follow },
}

/// How many connections that end a client of [`Request::Trace`] hears of per second.
pub(crate) const TRACED_PER_SECOND: u64 = 1000;

/// Which connections a client wants to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Which {
    /// However they ended.
    All,
    /// Those that were shed or lost, and those whose handler failed.
    Errors,
}

/// Whether a client stays for the lines to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Follow {
    /// Until it goes.
    On,
    /// It has what there was.
    No,
}

/// Whether a client waits for the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wait {
    /// Until it is known.
    ForVerdict,
    /// Only until the request is taken.
    No,
}

/// A number of workers, as a client asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ScaleTo {
    /// Exactly.
    Exactly(u32),
    /// So many more.
    More(u32),
    /// So many fewer.
    Fewer(u32),
}

/// How a stop goes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Pace {
    /// Serve what waits.
    Graceful,
    /// TERM, two seconds, KILL.
    Now,
}

/// What the supervisor says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Response {
    /// What was asked for, as JSON.
    Report(String),
    /// How it goes meanwhile.
    Progress(Progress),
    /// It is done: a text for people, and the exit code that the client is to end with.
    Done { text: String, exit: u8 },
    /// Lines of the log, oldest first.
    Lines(Vec<Line>),
    /// So many lines are missing here, because the client did not read fast enough.
    Missed(u64),
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Microseconds since 1970.
    pub(crate) at_us: u64,
    /// How grave it is.
    pub(crate) level: Severity,
    /// Whose words these are.
    pub(crate) origin: Origin,
    /// What it says: bytes, since a worker may print anything.
    pub(crate) text: Vec<u8>,
    /// What else it says, such as whom it is about.
    pub(crate) fields: Vec<(Cow<'static, str>, Value)>,
}

/// How grave a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Severity {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Whose words a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Origin {
    /// Ours.
    Supervisor,
    /// A worker's, who printed it here.
    Worker(Stream),
    /// The access log's.
    Access,
}

/// Where a worker prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Errors,
}

/// What a field says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Value {
    Text(String),
    Count(u64),
    Number(i64),
}

/// How a reload goes, for who waits for its verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Progress {
    /// A pool is to change to this generation, in so many slots.
    Begins { pool: String, generation: u32, slots: u32 },
    /// A worker is starting that is to serve in a slot.
    Starts { pool: String, slot: u32, generation: u32 },
    /// It serves there; so many slots are by now where the reload, or its undo, wants them.
    Serves { pool: String, slot: u32, generation: u32, moved: u32, of: u32 },
    /// It fails, for a reason that is worded for people, and what has moved goes back.
    GoesBack { why: String },
}

/// Why a frame is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadMessage {
    /// The other side is another build.
    #[error(
        "it speaks version {theirs} of the control protocol, this ostler speaks {VERSION}: use the same ostler for both"
    )]
    Version {
        /// What it speaks.
        theirs: u16,
    },
    /// Not a message.
    #[error("it sent something that is no message of the control protocol")]
    Garbage,
}

/// Encodes one message.
pub(crate) fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_extend(message, VERSION.to_le_bytes().to_vec()).expect("our own messages can be encoded")
}

/// Decodes one message from the other side.
///
/// # Errors
/// [`BadMessage`].
pub(crate) fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, BadMessage> {
    let (version, payload) = frame.split_first_chunk().ok_or(BadMessage::Garbage)?;
    let theirs = u16::from_le_bytes(*version);
    if theirs != VERSION {
        return Err(BadMessage::Version { theirs });
    }
    match postcard::take_from_bytes(payload) {
        Ok((message, [])) => Ok(message),
        Ok(_) | Err(_) => Err(BadMessage::Garbage),
    }
}

/// A pool, or one slot of it, as people write it: `POOL` or `POOL/SLOT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The pool.
    pub(crate) pool: PoolName,
    /// The slot.
    pub(crate) slot: Option<SlotNo>,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let (pool, slot) = match text.split_once('/') {
            Some((pool, slot)) => {
                let slot =
                    slot.parse().map_err(|_| format!("{slot:?} is not a slot number (write POOL or POOL/SLOT)"))?;
                (pool, Some(SlotNo(slot)))
            }
            None => (text, None),
        };
        Ok(Target { pool: pool.parse().map_err(|error| format!("{error}"))?, slot })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_come_back_as_they_were() {
        for request in [
            Request::Status,
            Request::Reload { pools: vec!["web".into()], wait: Wait::No },
            Request::Restart { pool: "web".into(), slot: Some(3) },
            Request::Scale { pool: "web".into(), change: ScaleTo::Fewer(2) },
            Request::Stop { pace: Pace::Now },
            Request::Deaths,
            Request::Dump,
            Request::Pause { pool: Some("web".into()) },
            Request::Resume { pool: None },
            Request::Recycle { pool: "web".into(), slot: None },
            Request::Logs { pool: Some("web".into()), slot: Some(3), lines: 7, follow: Follow::On },
            Request::ReopenLogs,
            Request::Trace { pool: None, slow_us: 100_000, which: Which::Errors, lines: 7, follow: Follow::No },
        ] {
            assert_eq!(decode::<Request>(&encode(&request)), Ok(request));
        }
    }

    #[test]
    fn progress_comes_back_as_it_was() {
        let pool = || "web".to_owned();
        for progress in [
            Progress::Begins { pool: pool(), generation: 4, slots: 2 },
            Progress::Starts { pool: pool(), slot: 1, generation: 4 },
            Progress::Serves { pool: pool(), slot: 1, generation: 4, moved: 1, of: 2 },
            Progress::GoesBack { why: "it fails".into() },
        ] {
            let response = Response::Progress(progress);
            assert_eq!(decode::<Response>(&encode(&response)), Ok(response));
        }
    }

    #[test]
    fn another_version_is_named() {
        let refused = decode::<Request>(&[9, 0, 0]).unwrap_err();
        assert_eq!(refused, BadMessage::Version { theirs: 9 });
        let text = refused.to_string();
        assert!(text.contains("version 9") && text.contains("speaks 4"), "{text}");
    }

    #[test]
    fn a_target_is_a_pool_or_a_slot_of_it() {
        assert_eq!("web".parse::<Target>().unwrap().slot, None);
        assert_eq!("web/3".parse::<Target>().unwrap().slot, Some(SlotNo(3)));
        for bad in ["", "/3", "web/", "web/x", "Web"] {
            assert!(bad.parse::<Target>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Request>(&bytes);
            let _ = decode::<Response>(&bytes);
        }
    }
}
