//! Writes the scoreboard, on a thread of its own: a disk can block (I5), and the helper thread may be waiting for another one.
//!
//! The loop hands over whole states and waits for nothing. When one is still being written, the next has to wait for the
//! loop's next try, and is newer then. What the disk refuses is tried again after [`RETRIED_AFTER`], so that the last change is
//! published even where nothing follows it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fchmod};
use ostler_config::format_duration;
use ostler_shared::scoreboard::banks::{NotPublished, Publisher};
use ostler_shared::scoreboard::file::Posted;
use ostler_shared::sys::memory::read_only;

use super::without_signals;

/// How long the end waits for the file to be unlinked.
const END_WITHIN: Duration = Duration::from_secs(1);
/// How long a state that could not be written waits for the next try, unless a newer one comes.
const RETRIED_AFTER: Duration = Duration::from_secs(1);
/// It formats a line of the log now and then, and keeps states on the heap.
const STACK_BYTES: usize = 256 * 1024;

/// The thread is at the state before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StillWriting;

/// The thread that writes. Dropped, it unlinks the file and ends.
#[derive(Debug)]
pub(super) struct BoardWriter {
    states: Option<Sender<Vec<u8>>>,
    ended: Receiver<()>,
    /// The same in memory.
    copy: File,
}

impl BoardWriter {
    /// Starts the thread. The file appears with the first state; what somebody who was killed left there is never taken for ours.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn start(path: PathBuf) -> io::Result<BoardWriter> {
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // The thread will not get any further, and says so.
            Err(error) => tracing::debug!("cannot remove {}: {error}", path.display()),
        }
        let copy = File::from(readable()?);
        let publisher = Publisher::new(copy.try_clone()?);
        let (states, taken) = bounded(1);
        let (end, ended) = bounded(0);
        let thread = std::thread::Builder::new().name("board".into()).stack_size(STACK_BYTES);
        without_signals(|| {
            thread.spawn(move || {
                let _ends_with_us: Sender<()> = end;
                write_all(&path, publisher, &taken);
            })
        })?;
        Ok(BoardWriter { states: Some(states), ended, copy })
    }

    /// A descriptor from which what is published can be read, by whoever has it: of a copy in memory, which no disk, no
    /// directory and nobody who tidies up comes between. Nothing is in it before the first state.
    ///
    /// # Errors
    /// No descriptors, no `/proc`.
    pub(super) fn reader(&self) -> io::Result<OwnedFd> {
        read_only(self.copy.as_fd())
    }

    /// Takes a state to be written.
    pub(super) fn write(&self, state: Vec<u8>) -> Result<(), StillWriting> {
        let states = self.states.as_ref().expect("it is there until the drop");
        // The thread ends after us only.
        states.try_send(state).map_err(|_| StillWriting)
    }
}

impl Drop for BoardWriter {
    fn drop(&mut self) {
        drop(self.states.take());
        // An error is what it waits for: the thread has ended, and its sender with it.
        let _ended = self.ended.recv_timeout(END_WITHIN);
    }
}

/// Memory that its readers, of whatever user, can open for reading and only we for writing.
fn readable() -> io::Result<OwnedFd> {
    let memory = memfd_create(c"ostler-board", MFdFlags::MFD_CLOEXEC)?;
    fchmod(&memory, Mode::from_bits_truncate(0o444))?;
    Ok(memory)
}

/// Whether the operator knows that there is no scoreboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    Told,
}

fn write_all(path: &Path, mut copy: Publisher<File>, states: &Receiver<Vec<u8>>) {
    let (mut posted, mut trouble, mut unwritten) = (None, Trouble::None, None);
    while let Some(state) = next_state(states, unwritten.take()) {
        // It fails where there is no memory, or where the file fails as well and says so: the state before stays, with its age.
        let _published = copy.publish(&state);
        let written = write(path, &mut posted, &state);
        trouble = tell(path, trouble, &written);
        unwritten = match written {
            Err(NotPublished::Io(_)) => Some(state),
            // One that is too long is so the next time.
            Ok(()) | Err(NotPublished::TooLong(_)) => None,
        };
    }
}

/// What is to be written next: what the loop has handed over, or else what could not be written; `None` at the end.
fn next_state(states: &Receiver<Vec<u8>>, unwritten: Option<Vec<u8>>) -> Option<Vec<u8>> {
    let Some(unwritten) = unwritten else { return states.recv().ok() };
    match states.recv_timeout(RETRIED_AFTER) {
        Ok(newer) => Some(newer),
        Err(RecvTimeoutError::Timeout) => Some(unwritten),
        Err(RecvTimeoutError::Disconnected) => None,
    }
}

/// Says once that there is no scoreboard, and once that there is one again.
fn tell(path: &Path, told: Trouble, written: &Result<(), NotPublished>) -> Trouble {
    let path = path.display();
    match (written, told) {
        (Ok(()), Trouble::None) => Trouble::None,
        (Ok(()), Trouble::Told) => {
            tracing::info!("the scoreboard {path} is written again");
            Trouble::None
        }
        (Err(_), Trouble::Told) => Trouble::Told,
        (Err(error), Trouble::None) => {
            let after = format_duration(RETRIED_AFTER);
            tracing::warn!(
                "cannot write the scoreboard {path}: {error}; it is tried again after {after} and with every change, and `ostler status` asks the supervisor meanwhile"
            );
            Trouble::Told
        }
    }
}

/// Writes one state; where the file is not at its path any more, a new one takes its place.
fn write(path: &Path, posted: &mut Option<Posted>, state: &[u8]) -> Result<(), NotPublished> {
    match posted.as_mut().filter(|posted| posted.is_in_place()) {
        Some(posted) => posted.publish(state),
        None => {
            *posted = Some(Posted::post(path, state)?);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use ostler_shared::scoreboard::banks::read;

    use super::*;

    fn wait_for(path: &Path, state: &[u8]) {
        let begun = std::time::Instant::now();
        loop {
            let found = std::fs::File::open(path).ok().and_then(|file| read(&file).ok());
            if found.as_deref() == Some(state) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{found:?}");
            std::thread::yield_now();
        }
    }

    fn write_soon(writer: &BoardWriter, state: &[u8]) {
        while writer.write(state.to_vec()) == Err(StillWriting) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_is_written_is_read_and_what_was_removed_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock.board");
        let writer = BoardWriter::start(path.clone()).unwrap();
        write_soon(&writer, b"one");
        wait_for(&path, b"one");
        std::fs::remove_file(&path).unwrap();
        write_soon(&writer, b"two");
        wait_for(&path, b"two");
        drop(writer);
        assert!(!path.exists());
    }

    #[test]
    fn the_copy_in_memory_has_what_the_file_has_not_and_its_reader_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nowhere/x.sock.board");
        let writer = BoardWriter::start(path).unwrap();
        let reader = File::from(writer.reader().unwrap());
        assert!(read(&reader).is_err(), "nothing was published");
        write_soon(&writer, b"one");
        let begun = std::time::Instant::now();
        while read(&reader).ok().as_deref() != Some(b"one") {
            assert!(begun.elapsed() < Duration::from_secs(20));
            std::thread::yield_now();
        }
        use std::os::unix::fs::FileExt;
        assert!(reader.write_at(b"x", 0).is_err());
    }

    #[test]
    fn a_state_that_could_not_be_written_is_written_later_though_nothing_follows_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("later/x.sock.board");
        let writer = BoardWriter::start(path.clone()).unwrap();
        // Whoever is taken comes after the one before was tried.
        for state in [b"one".as_slice(), b"two", b"three"] {
            write_soon(&writer, state);
        }
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        wait_for(&path, b"three");
    }

    #[test]
    fn a_newer_state_takes_the_place_of_one_that_waits_for_its_next_try() {
        let (states, taken) = bounded(1);
        assert_eq!(next_state(&taken, Some(b"one".to_vec())), Some(b"one".to_vec()));
        states.send(b"two".to_vec()).unwrap();
        assert_eq!(next_state(&taken, Some(b"one".to_vec())), Some(b"two".to_vec()));
        drop(states);
        assert_eq!(next_state(&taken, Some(b"one".to_vec())), None);
    }
}
