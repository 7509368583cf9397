//! Keeps the last lines in memory, and hands them to who reads along.
//!
//! The supervisor's own lines are kept apart from what workers print, and each slot's apart from the others', so that
//! a worker that floods drives out nobody's lines but its own. Who reads along has a bounded queue; what does not fit is
//! counted, and the reader is told how many lines it lost.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ostler_shared::{PoolName, SlotNo};

use super::queue::size;
use crate::control::protocol::{Follow, Line, Value};

/// Lines of a strand …
pub(crate) const STRAND_LINES_MAX: usize = 1000;
/// … and their bytes; the oldest go first.
pub(crate) const STRAND_BYTES_MAX: usize = 256 * 1024;
/// Bytes of all strands together. Beyond that the longest one gives half of its lines.
pub(crate) const TAIL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Lines that one reader may be behind …
const BEHIND_LINES_MAX: usize = 4096;
/// … and their bytes. It is told how many more there were.
const BEHIND_BYTES_MAX: usize = 1024 * 1024;
/// About so many bytes of lines are given at a time.
const PORTION_BYTES: usize = 32 * 1024;

/// Lines that are kept together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Strand {
    Supervisor,
    Slot(PoolName, SlotNo),
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<(u64, Arc<Line>)>,
    bytes: usize,
}

/// What somebody wants to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Topic {
    /// Everything.
    All,
    /// What a pool's workers print, and what is said about it and them.
    Pool(PoolName),
    /// The same of one slot.
    Slot(PoolName, SlotNo),
    /// None of them: lines that are offered to this reader alone.
    Offered,
}

impl Topic {
    fn covers(&self, line: &Line) -> bool {
        let about = |field: &str, wanted: &dyn Fn(&str) -> bool| {
            line.fields.iter().any(|(name, value)| name == field && matches!(value, Value::Text(text) if wanted(text)))
        };
        match self {
            Topic::All => true,
            Topic::Offered => false,
            Topic::Pool(pool) => {
                let of_it = |text: &str| text.strip_prefix(pool.as_str()).is_some_and(|rest| rest.starts_with('/'));
                about("worker", &of_it) || about("pool", &|text| text == pool.as_str())
            }
            Topic::Slot(pool, slot) => {
                let name = format!("{pool}/{slot}.");
                about("worker", &|text| text.starts_with(&name))
            }
        }
    }
}

/// Who reads.
#[derive(Debug)]
struct Reader {
    topic: Topic,
    follow: Follow,
    lines: VecDeque<Arc<Line>>,
    bytes: usize,
    /// Lines that did not fit, behind those in the queue.
    missed: u64,
}

/// What a reader gets next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Portion {
    /// These lines.
    Lines(Vec<Line>),
    /// The news that so many lines are missing here.
    Missed(u64),
    /// Nothing for now.
    Nothing,
    /// Nothing more.
    End,
}

/// The last lines, and who reads them.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    strands: BTreeMap<Strand, Kept>,
    bytes: usize,
    next: u64,
    readers: BTreeMap<u64, Reader>,
}

impl Tail {
    /// Keeps a line, of a worker in this slot or our own.
    pub(super) fn add(&mut self, line: &Arc<Line>, slot: Option<(&PoolName, SlotNo)>) {
        self.next += 1;
        let strand = slot.map_or(Strand::Supervisor, |(pool, slot)| Strand::Slot(pool.clone(), slot));
        let kept = self.strands.entry(strand).or_default();
        let before = kept.bytes;
        kept.lines.push_back((self.next, Arc::clone(line)));
        kept.bytes += size(line);
        while kept.lines.len() > STRAND_LINES_MAX || (kept.bytes > STRAND_BYTES_MAX && kept.lines.len() > 1) {
            kept.drop_oldest();
        }
        self.bytes = self.bytes + kept.bytes - before;
        if self.bytes > TAIL_BYTES_MAX {
            self.shorten_the_longest();
        }
        for reader in self.readers.values_mut().filter(|reader| reader.topic.covers(line)) {
            reader.add(line);
        }
    }

    fn shorten_the_longest(&mut self) {
        let Some(longest) = self.strands.values_mut().max_by_key(|kept| kept.bytes) else { return };
        let before = longest.bytes;
        while longest.bytes > before / 2 {
            longest.drop_oldest();
        }
        self.bytes -= before - longest.bytes;
    }

    /// Lets go of what the workers of a pool that is no more have printed.
    pub(crate) fn forget(&mut self, pool: &PoolName) {
        self.strands.retain(|strand, _| !matches!(strand, Strand::Slot(of, _) if of == pool));
        self.bytes = self.strands.values().map(|kept| kept.bytes).sum();
    }

    /// Begins to read with the last `count` lines.
    pub(crate) fn begin(&mut self, number: u64, topic: Topic, count: usize, follow: Follow) {
        let kept = self.strands.iter().filter(|(strand, _)| match (strand, &topic) {
            (_, Topic::Offered) => false,
            (Strand::Supervisor, _) | (_, Topic::All) => true,
            (Strand::Slot(of, _), Topic::Pool(pool)) => of == pool,
            (Strand::Slot(of, at), Topic::Slot(pool, slot)) => of == pool && at == slot,
        });
        let mut found: Vec<(u64, Arc<Line>)> = Vec::new();
        for (_, kept) in kept {
            // The last ones of all are among the last ones of each.
            let wanted = kept.lines.iter().rev().filter(|(_, line)| topic.covers(line)).take(count);
            found.extend(wanted.map(|(number, line)| (*number, Arc::clone(line))));
        }
        found.sort_unstable_by_key(|(number, _)| *number);
        let lines = found.into_iter().rev().take(count).rev().map(|(_, line)| line).collect();
        self.readers.insert(number, Reader::new(topic, lines, follow));
    }

    /// Begins to read these, and what is offered.
    pub(crate) fn begin_with(&mut self, number: u64, lines: Vec<Arc<Line>>, follow: Follow) {
        self.readers.insert(number, Reader::new(Topic::Offered, lines.into(), follow));
    }

    /// Gives a line to a reader.
    pub(crate) fn offer(&mut self, number: u64, line: &Arc<Line>) {
        self.readers.get_mut(&number).into_iter().for_each(|reader| reader.add(line));
    }

    /// Says to a reader that so many lines were not offered to it.
    pub(crate) fn skip(&mut self, number: u64, count: u64) {
        self.readers.get_mut(&number).into_iter().for_each(|reader| reader.missed += count);
    }

    /// What a reader gets next, and whether it follows.
    pub(crate) fn portion(&mut self, number: u64) -> (Portion, Follow) {
        let reader = self.readers.get_mut(&number);
        reader.map_or((Portion::End, Follow::No), |reader| (reader.portion(), reader.follow))
    }

    /// Whoever has something to read, or is at the end.
    pub(crate) fn eager(&self) -> Vec<u64> {
        self.readers.iter().filter(|(_, reader)| reader.is_eager()).map(|(number, _)| *number).collect()
    }

    /// Everybody who reads.
    pub(crate) fn readers(&self) -> Vec<u64> {
        self.readers.keys().copied().collect()
    }

    /// Somebody reads no more.
    pub(crate) fn leave(&mut self, number: u64) {
        self.readers.remove(&number);
    }
}

impl Kept {
    fn drop_oldest(&mut self) {
        if let Some((_, line)) = self.lines.pop_front() {
            self.bytes -= size(&line);
        }
    }
}

impl Reader {
    fn new(topic: Topic, lines: VecDeque<Arc<Line>>, follow: Follow) -> Reader {
        let bytes = lines.iter().map(|line| size(line)).sum();
        Reader { topic, follow, lines, bytes, missed: 0 }
    }

    fn add(&mut self, line: &Arc<Line>) {
        match self.follow {
            Follow::No => return,
            Follow::On => {}
        }
        // After a gap nothing is queued before the gap was told: lines stay in their order.
        let full = self.lines.len() >= BEHIND_LINES_MAX || self.bytes + size(line) > BEHIND_BYTES_MAX;
        if self.missed > 0 || (full && !self.lines.is_empty()) {
            self.missed += 1;
            return;
        }
        self.lines.push_back(Arc::clone(line));
        self.bytes += size(line);
    }

    fn is_eager(&self) -> bool {
        !self.lines.is_empty() || self.missed > 0 || self.follow == Follow::No
    }

    fn portion(&mut self) -> Portion {
        let (mut lines, mut bytes) = (Vec::new(), 0);
        while bytes < PORTION_BYTES
            && let Some(line) = self.lines.pop_front()
        {
            bytes += size(&line);
            lines.push(Arc::unwrap_or_clone(line));
        }
        self.bytes -= bytes;
        match (lines.is_empty(), self.missed, self.follow) {
            (false, _, _) => Portion::Lines(lines),
            (true, 1.., _) => Portion::Missed(std::mem::take(&mut self.missed)),
            (true, 0, Follow::On) => Portion::Nothing,
            (true, 0, Follow::No) => Portion::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::control::protocol::{Origin, Severity, Stream};

    fn pool(name: &str) -> PoolName {
        name.parse().unwrap()
    }

    fn say(tail: &mut Tail, text: &str, field: Option<(&'static str, &str)>) {
        let fields = field.map(|(name, value)| (Cow::Borrowed(name), Value::Text(value.to_owned())));
        let (level, origin) = (Severity::Info, Origin::Supervisor);
        let fields = fields.into_iter().collect();
        tail.add(&Arc::new(Line { at_us: 0, level, origin, text: text.as_bytes().to_vec(), fields }), None);
    }

    fn print(tail: &mut Tail, of: &str, slot: u32, text: &str) {
        let fields = vec![(Cow::Borrowed("worker"), Value::Text(format!("{of}/{slot}.1")))];
        let (level, origin) = (Severity::Info, Origin::Worker(Stream::Output));
        let line = Line { at_us: 0, level, origin, text: text.as_bytes().to_vec(), fields };
        tail.add(&Arc::new(line), Some((&pool(of), SlotNo(slot))));
    }

    fn read(tail: &mut Tail, topic: Topic, count: usize) -> Vec<String> {
        tail.begin(99, topic, count, Follow::No);
        let mut texts = Vec::new();
        while let Portion::Lines(lines) = tail.portion(99).0 {
            texts.extend(lines.into_iter().map(|line| String::from_utf8(line.text).unwrap()));
        }
        assert_eq!(tail.portion(99).0, Portion::End);
        tail.leave(99);
        texts
    }

    fn of(topic: &str) -> Topic {
        match topic.split_once('/') {
            Some((name, slot)) => Topic::Slot(pool(name), SlotNo(slot.parse().unwrap())),
            None => Topic::Pool(pool(topic)),
        }
    }

    #[test]
    fn a_pool_or_a_slot_shows_what_it_says_and_what_is_said_about_it_in_order() {
        let mut tail = Tail::default();
        say(&mut tail, "start", None);
        print(&mut tail, "web", 0, "a");
        say(&mut tail, "about the pool", Some(("pool", "web")));
        print(&mut tail, "web", 10, "b");
        say(&mut tail, "about a worker", Some(("worker", "web/1.7")));
        print(&mut tail, "web-2", 1, "c");
        print(&mut tail, "web", 1, "d");
        assert_eq!(read(&mut tail, of("web"), 9), ["a", "about the pool", "b", "about a worker", "d"]);
        assert_eq!(read(&mut tail, of("web/1"), 9), ["about a worker", "d"]);
        assert_eq!(read(&mut tail, of("web/10"), 9), ["b"]);
        assert_eq!(read(&mut tail, Topic::All, 3), ["about a worker", "c", "d"]);
        assert_eq!(read(&mut tail, Topic::All, 99).len(), 7);
        tail.forget(&pool("web"));
        assert_eq!(read(&mut tail, of("web"), 9), ["about the pool", "about a worker"]);
    }

    #[test]
    fn a_flood_drives_out_nobody_elses_lines() {
        let mut tail = Tail::default();
        print(&mut tail, "web", 1, "quiet");
        say(&mut tail, "ours", None);
        for number in 0..STRAND_LINES_MAX * 3 {
            print(&mut tail, "web", 0, &number.to_string());
        }
        let lines = read(&mut tail, Topic::All, usize::MAX);
        assert_eq!(lines.len(), STRAND_LINES_MAX + 2);
        assert_eq!((lines[0].as_str(), lines[1].as_str()), ("quiet", "ours"));
    }

    #[test]
    fn memory_is_bounded_per_strand_and_altogether() {
        let mut tail = Tail::default();
        print(&mut tail, "small", 0, "one line");
        let long = "x".repeat(8 * 1024);
        for slot in 0..100 {
            for _ in 0..100 {
                print(&mut tail, "web", slot, &long);
            }
        }
        assert!(tail.bytes <= TAIL_BYTES_MAX);
        assert_eq!(tail.bytes, tail.strands.values().map(|kept| kept.bytes).sum::<usize>());
        assert!(tail.strands.values().all(|kept| kept.bytes <= STRAND_BYTES_MAX));
        assert_eq!(read(&mut tail, of("small"), 9), ["one line"], "the longest ones give first");
    }

    #[test]
    fn who_does_not_keep_up_is_told_how_much_it_missed() {
        let mut tail = Tail::default();
        print(&mut tail, "web", 0, "before");
        tail.begin(1, Topic::All, 10, Follow::On);
        for number in 0..BEHIND_LINES_MAX + 6 {
            print(&mut tail, "web", 0, &number.to_string());
        }
        let (mut got, mut last) = (0, String::new());
        loop {
            match tail.portion(1).0 {
                Portion::Lines(lines) => {
                    got += lines.len();
                    last = String::from_utf8(lines.last().unwrap().text.clone()).unwrap();
                }
                Portion::Missed(count) => {
                    assert_eq!((got, count), (BEHIND_LINES_MAX, 7), "the first of all came before");
                    assert_eq!(last, (BEHIND_LINES_MAX - 2).to_string());
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((tail.portion(1).0, tail.eager()), (Portion::Nothing, vec![]));
        print(&mut tail, "web", 0, "again");
        assert_eq!(tail.eager(), [1]);
        assert!(matches!(tail.portion(1).0, Portion::Lines(lines) if lines.len() == 1));
        tail.leave(1);
        assert_eq!(tail.portion(1).0, Portion::End);
    }
}
