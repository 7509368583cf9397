//! Reads what a worker prints, line by line, and remembers its last words.
//!
//! A pipe per stream, so that workers never mix, read without waiting. A worker that floods is read more slowly
//! and waits at its own print; the others and the loop don't notice.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Longest line in bytes; a longer one is cut and goes on as the next.
pub(crate) const LINE_MAX: usize = 8 * 1024;
/// How many lines of one pipe are told before the loop looks at the others.
const TURN_LINES: usize = 128;
/// How much is read from a pipe at a time, in bytes.
const CHUNK: usize = 16 * 1024;
/// How long a worker that filled its turn is left alone: a flood is read at some 2,500 lines per second.
pub(crate) const FLOOD_PAUSE: Duration = Duration::from_millis(50);
/// How many lines of a dead worker are told; what it printed beyond is counted.
const REMAINDER_LINES: usize = 1024;
/// How much is read from the pipe of a dead worker, in bytes: a pipe holds 64 KiB unless its owner enlarged it.
const REMAINDER_MAX: usize = 1024 * 1024;
/// How many lines are kept for whoever asks why it died.
const LAST_WORDS: usize = 5;
/// Longest remembered line, in bytes.
const LAST_WORD_MAX: usize = 400;

/// What reading a pipe led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Wait for more.
    WaitOn,
    /// It floods: come back after [`FLOOD_PAUSE`].
    Pause,
    /// Nobody can write any more.
    Ended,
}

/// One stream of a worker.
#[derive(Debug)]
pub(crate) struct Pipe {
    pipe: io::PipeReader,
    /// Read and not told yet.
    unread: Vec<u8>,
}

/// Whether a pipe has more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filled {
    Some,
    Empty,
    Ended,
}

impl Pipe {
    /// `pipe` is non-blocking.
    pub(crate) fn new(pipe: io::PipeReader) -> Pipe {
        Pipe { pipe, unread: Vec::new() }
    }

    /// Reads one turn's worth and gives each whole line to `tell`.
    pub(crate) fn read(&mut self, tell: &mut impl FnMut(&str)) -> After {
        let mut room = TURN_LINES;
        loop {
            room -= self.tell_lines(room, tell);
            if room == 0 {
                return After::Pause;
            }
            match self.fill() {
                Filled::Some => {}
                Filled::Empty => return After::WaitOn,
                Filled::Ended => return After::Ended,
            }
        }
    }

    /// Reads what a dead worker left, and its last line even without a line end.
    pub(crate) fn read_remainder(&mut self, tell: &mut impl FnMut(&str)) {
        while self.unread.len() < REMAINDER_MAX && self.fill() == Filled::Some {}
        let told = self.tell_lines(REMAINDER_LINES, tell);
        if told < REMAINDER_LINES && !self.unread.is_empty() {
            let last = std::mem::take(&mut self.unread);
            tell(&String::from_utf8_lossy(&last));
        } else if !self.unread.is_empty() {
            tell(&format!("(and {} bytes more that nobody had read)", self.unread.len()));
        }
    }

    fn fill(&mut self) -> Filled {
        let mut chunk = [0; CHUNK];
        loop {
            match self.pipe.read(&mut chunk) {
                Ok(0) => return Filled::Ended,
                Ok(count) => {
                    self.unread.extend_from_slice(&chunk[..count]);
                    return Filled::Some;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Filled::Empty,
                // A pipe of ours has no other errors; ending it is the safe reading of one.
                Err(_) => return Filled::Ended,
            }
        }
    }

    /// Tells up to `most` whole lines of what was read; says how many.
    fn tell_lines(&mut self, most: usize, tell: &mut impl FnMut(&str)) -> usize {
        let (mut told, mut start) = (0, 0);
        while told < most {
            let rest = &self.unread[start..];
            let within = &rest[..rest.len().min(LINE_MAX + 1)];
            let (line, next) = match within.iter().position(|byte| *byte == b'\n') {
                Some(end) => (&rest[..end], end + 1),
                None if rest.len() > LINE_MAX => (&rest[..LINE_MAX], LINE_MAX),
                None => break,
            };
            tell(&String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)));
            start += next;
            told += 1;
        }
        self.unread.drain(..start);
        told
    }
}

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// The last lines of a worker, both streams together.
#[derive(Debug, Default)]
pub(crate) struct LastWords {
    lines: VecDeque<String>,
}

impl LastWords {
    pub(crate) fn add(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        if self.lines.len() == LAST_WORDS {
            self.lines.pop_front();
        }
        let end = (0..=LAST_WORD_MAX.min(line.len())).rev().find(|end| line.is_char_boundary(*end));
        self.lines.push_back(line[..end.unwrap_or(0)].to_owned());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn told(writes: &[&[u8]]) -> Vec<String> {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut pipe = Pipe::new(reader);
        let mut lines = Vec::new();
        for bytes in writes {
            writer.write_all(bytes).unwrap();
        }
        drop(writer);
        pipe.read_remainder(&mut |line| lines.push(line.to_owned()));
        lines
    }

    #[test]
    fn lines_are_told_whole_however_they_were_written() {
        assert_eq!(told(&[b"one\ntw", b"o\r\n\nthree"]), ["one", "two", "", "three"]);
    }

    #[test]
    fn a_line_over_the_limit_is_cut_and_nothing_of_it_is_lost() {
        let long = "x".repeat(LINE_MAX * 2 + 5);
        let lines = told(&[long.as_bytes(), b"yz\nend\n"]);
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [LINE_MAX, LINE_MAX, 7, 3]);
        assert_eq!(lines[..3].concat(), format!("{long}yz"));
    }

    #[test]
    fn a_flood_of_lines_is_told_in_turns_and_its_end_is_counted() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut pipe = Pipe::new(reader);
        writer.write_all(&b"\n".repeat(5000)).unwrap();
        let mut lines = 0;
        assert_eq!(pipe.read(&mut |_| lines += 1), After::Pause);
        assert_eq!(lines, TURN_LINES);
        drop(writer);
        let mut last = String::new();
        pipe.read_remainder(&mut |line| {
            lines += 1;
            line.clone_into(&mut last);
        });
        assert_eq!(lines, TURN_LINES + REMAINDER_LINES + 1);
        assert_eq!(last, format!("(and {} bytes more that nobody had read)", 5000 - TURN_LINES - REMAINDER_LINES));
    }

    #[test]
    fn the_last_words_are_the_last_lines_that_say_something() {
        let mut words = LastWords::default();
        for number in 0..9 {
            words.add(&format!("line {number}"));
            words.add("  ");
        }
        words.add(&"ä".repeat(500));
        let lines = words.lines();
        assert_eq!(lines.len(), LAST_WORDS);
        assert_eq!(lines[0], "line 5");
        assert!(lines[4].len() <= LAST_WORD_MAX);
    }
}
