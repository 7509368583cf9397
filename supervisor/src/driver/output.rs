//! Reads what a worker prints, line by line, and remembers its last words.
//!
//! A pipe per stream, so that workers never mix, read without waiting. Of a worker that prints too much not every line is told:
//! what is above its allowance is dropped and counted. One that floods beyond that is read more slowly
//! and waits at its own print; the others and the loop don't notice.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use ostler_pool::Moment;

/// Longest line in bytes; a longer one is told in pieces of this length, which are numbered.
pub(crate) const LINE_MAX: usize = 8 * 1024;
/// How many lines of one pipe are taken before the loop looks at the others, and about so many bytes.
const TURN_LINES: usize = 512;
const TURN_BYTES: usize = 64 * 1024;
/// How much is read from a pipe at a time, in bytes.
const CHUNK: usize = 16 * 1024;
/// How long a worker that filled its turn is left alone: a flood is read at some 10,000 lines or 1.3 MB per second and stream.
pub(crate) const FLOOD_PAUSE: Duration = Duration::from_millis(50);
/// Lines of one worker, both streams together, that are told per second; what it prints above that is dropped and counted.
pub(crate) const LINES_PER_SECOND: u64 = 1000;
/// Lines that it may print at once when it was silent before.
const LINES_AT_ONCE: u64 = 2 * LINES_PER_SECOND;
/// How long dropped lines are counted before that is said.
pub(crate) const DROPPED_SAID_AFTER: Duration = Duration::from_secs(1);
/// How many lines of a dead worker are told: the first of what was not read, and the last ones. What is between is counted.
const REMAINDER_LINES: usize = 1024;
/// How much is read from the pipe of a dead worker, in bytes: a pipe holds 64 KiB unless its owner enlarged it.
const REMAINDER_MAX: usize = 1024 * 1024;
/// How many lines are kept for whoever asks why it died: a stack of Python has its beginning among them as a rule.
const LAST_WORDS: usize = 20;
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

/// A line, or a piece of a long one, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Print<'a> {
    /// Whatever bytes they are.
    pub(crate) text: &'a [u8],
    /// Which piece it is, from 1; `None` for a whole line.
    pub(crate) piece: Option<u64>,
}

/// One stream of a worker.
#[derive(Debug)]
pub(crate) struct Pipe {
    pipe: io::PipeReader,
    /// Read and not told yet.
    unread: Vec<u8>,
    /// Pieces of the line at its beginning that were told already.
    pieces: u64,
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
        Pipe { pipe, unread: Vec::new(), pieces: 0 }
    }

    /// Reads one turn's worth and gives each whole line to `tell`.
    pub(crate) fn read(&mut self, tell: &mut impl FnMut(Print<'_>)) -> After {
        let (mut room, mut bytes) = (TURN_LINES, 0);
        loop {
            room -= self.tell_lines(room, tell);
            if room == 0 || bytes >= TURN_BYTES {
                return After::Pause;
            }
            let before = self.unread.len();
            match self.fill() {
                Filled::Some => bytes += self.unread.len() - before,
                Filled::Empty => return After::WaitOn,
                Filled::Ended => return After::Ended,
            }
        }
    }

    /// Reads what a dead worker left, and its last line even without a line end.
    pub(crate) fn read_remainder(&mut self, tell: &mut impl FnMut(Print<'_>)) {
        while self.unread.len() < REMAINDER_MAX && self.fill() == Filled::Some {}
        let told = self.tell_lines(REMAINDER_LINES - LAST_WORDS, tell);
        let between = self.start_of_last_lines();
        if told == REMAINDER_LINES - LAST_WORDS && between > 0 {
            self.unread.drain(..between);
            self.pieces = 0;
            let left_out = format!("(… {between} bytes that nobody had read are left out)");
            tell(Print { text: left_out.as_bytes(), piece: None });
        }
        let told = self.tell_lines(REMAINDER_LINES, tell);
        if told < REMAINDER_LINES && !self.unread.is_empty() {
            let last = std::mem::take(&mut self.unread);
            tell(Print { text: &last, piece: (self.pieces > 0).then_some(self.pieces + 1) });
        } else if !self.unread.is_empty() {
            let rest = format!("(and {} bytes more that nobody had read)", self.unread.len());
            tell(Print { text: rest.as_bytes(), piece: None });
        }
    }

    /// Where the last lines begin, as many as are remembered.
    fn start_of_last_lines(&self) -> usize {
        let within = self.unread.strip_suffix(b"\n").unwrap_or(&self.unread);
        let ends = within.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
        ends.map(|(end, _)| end + 1).nth(LAST_WORDS - 1).unwrap_or(0)
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
    fn tell_lines(&mut self, most: usize, tell: &mut impl FnMut(Print<'_>)) -> usize {
        let (mut told, mut start) = (0, 0);
        while told < most {
            let rest = &self.unread[start..];
            let within = &rest[..rest.len().min(LINE_MAX + 1)];
            let (line, next, pieces) = match within.iter().position(|byte| *byte == b'\n') {
                Some(end) => (rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]), end + 1, 0),
                None if rest.len() > LINE_MAX => (&rest[..LINE_MAX], LINE_MAX, self.pieces + 1),
                None => break,
            };
            let is_piece = pieces > 0 || self.pieces > 0;
            tell(Print { text: line, piece: is_piece.then_some(self.pieces + 1) });
            self.pieces = pieces;
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
    pub(crate) fn add(&mut self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        // A little more than is kept: what can't be read grows.
        let line = String::from_utf8_lossy(&line[..line.len().min(LAST_WORD_MAX + 1)]);
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

/// How many lines of a worker are told.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    /// When it would have been used up, had it been used evenly, in ns: the virtual time of a leaky bucket.
    empty_at_ns: u64,
    dropped: u64,
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is told.
    Told,
    /// It is counted. `First`: after a while in which none was, so somebody has to say it later.
    Dropped,
    DroppedFirst,
}

impl Allowance {
    /// Decides about one line.
    pub(crate) fn spend(&mut self, now: Moment) -> Fate {
        const LINE_NS: u64 = 1_000_000_000 / LINES_PER_SECOND;
        let now_ns = u64::try_from(now.since(Moment::from_ns(0)).as_nanos()).unwrap_or(u64::MAX);
        let empty_at_ns = self.empty_at_ns.max(now_ns);
        if empty_at_ns - now_ns >= LINES_AT_ONCE * LINE_NS {
            self.dropped += 1;
            return if self.dropped == 1 { Fate::DroppedFirst } else { Fate::Dropped };
        }
        self.empty_at_ns = empty_at_ns + LINE_NS;
        Fate::Told
    }

    /// How many lines were dropped since this was last asked.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn told(writes: &[&[u8]]) -> Vec<(String, Option<u64>)> {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut pipe = Pipe::new(reader);
        let mut lines = Vec::new();
        for bytes in writes {
            writer.write_all(bytes).unwrap();
        }
        drop(writer);
        pipe.read_remainder(&mut |print| lines.push((String::from_utf8(print.text.to_vec()).unwrap(), print.piece)));
        lines
    }

    #[test]
    fn lines_are_told_whole_however_they_were_written() {
        let whole = ["one", "two", "", "three"].map(|text| (text.to_owned(), None));
        assert_eq!(told(&[b"one\ntw", b"o\r\n\nthree"]), whole);
    }

    #[test]
    fn a_line_over_the_limit_is_told_in_numbered_pieces_and_nothing_of_it_is_lost() {
        let long = "x".repeat(LINE_MAX * 2 + 5);
        let (lines, pieces): (Vec<_>, Vec<_>) =
            told(&[long.as_bytes(), b"yz\nend\n", long.as_bytes()]).into_iter().unzip();
        let lengths: Vec<usize> = lines.iter().map(String::len).collect();
        assert_eq!(lengths, [LINE_MAX, LINE_MAX, 7, 3, LINE_MAX, LINE_MAX, 5]);
        assert_eq!(pieces, [Some(1), Some(2), Some(3), None, Some(1), Some(2), Some(3)]);
        assert_eq!(lines[..3].concat(), format!("{long}yz"));
    }

    #[test]
    fn a_flood_of_lines_is_told_in_turns_and_what_is_between_its_end_is_counted() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut pipe = Pipe::new(reader);
        writer.write_all(&b"\n".repeat(5000)).unwrap();
        let mut lines = 0;
        assert_eq!(pipe.read(&mut |_| lines += 1), After::Pause);
        assert_eq!(lines, TURN_LINES);
        let last: Vec<String> = (1..=LAST_WORDS).map(|number| number.to_string()).collect();
        writer.write_all(last.join("\n").as_bytes()).unwrap();
        drop(writer);
        let mut told = Vec::new();
        pipe.read_remainder(&mut |print| told.push(String::from_utf8(print.text.to_vec()).unwrap()));
        assert_eq!(told.len(), REMAINDER_LINES + 1);
        let between = 5000 - TURN_LINES - (REMAINDER_LINES - LAST_WORDS);
        let left_out = format!("(… {between} bytes that nobody had read are left out)");
        assert_eq!(told[REMAINDER_LINES - LAST_WORDS], left_out);
        assert_eq!(told[REMAINDER_LINES - LAST_WORDS + 1..], last);
    }

    #[test]
    fn the_last_words_are_the_last_lines_that_say_something() {
        let mut words = LastWords::default();
        for number in 0..LAST_WORDS + 4 {
            words.add(format!("line {number}").as_bytes());
            words.add(b"  ");
        }
        words.add("ä".repeat(500).as_bytes());
        let lines = words.lines();
        assert_eq!(lines.len(), LAST_WORDS);
        assert_eq!(lines[0], "line 5");
        assert!(lines[LAST_WORDS - 1].len() <= LAST_WORD_MAX);
    }

    #[test]
    fn a_worker_may_print_much_at_once_and_then_so_much_per_second() {
        let mut allowance = Allowance::default();
        let start = Moment::from_ns(77_000_000_000);
        let mut told = |at: Moment, lines: u64| {
            let fates: Vec<Fate> = (0..lines).map(|_| allowance.spend(at)).collect();
            let told = fates.iter().filter(|fate| **fate == Fate::Told).count() as u64;
            let first = fates.iter().filter(|fate| **fate == Fate::DroppedFirst).count();
            assert_eq!((first, allowance.take_dropped()), (usize::from(told < lines), lines - told));
            told
        };
        assert_eq!(told(start, 5000), LINES_AT_ONCE);
        assert_eq!(told(start + Duration::from_millis(500), 5000), LINES_PER_SECOND / 2);
        assert_eq!(told(start + Duration::from_secs(60), 10), 10);
        assert_eq!(told(start + Duration::from_secs(600), 5000), LINES_AT_ONCE);
    }
}
