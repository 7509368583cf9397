//! Plays several processes and the supervisor at one table of claims while somebody scribbles over the processes' memory.
//!
//! The bytes are a script: the capacity, then steps. As long as nobody lies, each connection that was claimed ends once and none ends
//! that was not. From the first lie on only this holds: no panic, no access outside, and no more completions in a look than the
//! table has entries, nor more than there were generations.
#![no_main]

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::atomic::Ordering;

use libfuzzer_sys::fuzz_target;
use ostler_shared::ConnId;
use ostler_shared::claims::{Claim, Claimant, Holder, Table, gauges_words, region_words};
use ostler_shared::completion::{Completion, Outcome};
use ostler_shared::ring::Capacity;
use ostler_shared::sys::memory::{OwnMemory, on_the_heap};

/// Largest table in these scripts, as a power of two.
const CAPACITY_BITS_MAX: u8 = 4;
/// So many processes take part.
const PROCESSES: u8 = 4;

fuzz_target!(|bytes: &[u8]| {
    let mut script = bytes.iter().copied();
    let Some(bits) = script.next() else { return };
    let capacity = Capacity::at_least(1 << (bits % (CAPACITY_BITS_MAX + 1))).expect("a small one");
    let mut play = Play::of(capacity);
    while let Some(step) = script.next() {
        play.step(step, &mut script);
    }
});

#[derive(Clone, Copy, PartialEq, Eq)]
enum Honesty {
    Kept,
    Lost,
}

struct Play {
    region: OwnMemory,
    table: Table,
    claimant: Claimant,
    capacity: usize,
    next_conn: u64,
    /// What is held, by whom, while everybody is honest; and afterwards what may still be tried.
    held: BTreeMap<u64, (Claim, Vec<Holder>)>,
    honesty: Honesty,
}

fn process(number: u8) -> Holder {
    Holder::new(i32::from(number % PROCESSES) + 1, 7).expect("a small number")
}

impl Play {
    fn of(capacity: Capacity) -> Play {
        let (gauges, gauges_seen) = on_the_heap(gauges_words(capacity));
        let (region, region_seen) = on_the_heap(region_words(capacity));
        let table = Table::new(gauges, region_seen, capacity);
        let claimant = Claimant::new(gauges_seen, region.clone()).expect("both were made for each other");
        let capacity = capacity.records() as usize;
        Play { region, table, claimant, capacity, next_conn: 0, held: BTreeMap::new(), honesty: Honesty::Kept }
    }

    fn step(&mut self, step: u8, script: &mut impl Iterator<Item = u8>) {
        let mut byte = || script.next().unwrap_or(0);
        match step % 8 {
            0 => {
                let at = usize::from(u16::from_le_bytes([byte(), byte()])) % self.region.words();
                let word = u64::from_le_bytes(std::array::from_fn(|_| byte()));
                self.region.store(at, word, Ordering::Relaxed);
                self.honesty = Honesty::Lost;
            }
            1 | 2 => self.claim(process(byte())),
            3 => self.join(byte(), process(byte())),
            4 => self.release(byte(), byte()),
            5 => self.look(),
            6 => self.die(process(byte())),
            _ => self.chat(byte()),
        }
    }

    fn claim(&mut self, who: Holder) {
        let conn = self.next_conn;
        let Some(claim) = self.claimant.reserve(ConnId(conn), who, 1) else { return };
        self.next_conn += 1;
        self.claimant.hold(claim, ConnId(conn));
        self.held.insert(conn, (claim, vec![who]));
    }

    fn nth(&self, which: u8) -> Option<u64> {
        self.held.keys().nth(usize::from(which) % self.held.len().max(1)).copied()
    }

    fn join(&mut self, which: u8, who: Holder) {
        let Some((claim, holders)) = self.nth(which).and_then(|conn| self.held.get_mut(&conn)) else { return };
        self.claimant.join(*claim, who);
        if !holders.contains(&who) {
            holders.push(who);
        }
    }

    fn release(&mut self, which: u8, whose: u8) {
        let Some(conn) = self.nth(which) else { return };
        let (claim, holders) = self.held.get_mut(&conn).expect("just found");
        let who = holders.remove(usize::from(whose) % holders.len());
        let _bell = self.claimant.release(*claim, who, 2, Outcome::Done);
        let is_over = holders.is_empty();
        if is_over {
            self.held.remove(&conn);
            self.expect(&[conn], |table, completions| table.take(completions).is_ok());
        }
    }

    fn look(&mut self) {
        self.expect(&[], |table, completions| table.take(completions).is_ok());
    }

    /// A process is gone. Its number is not used again in a script: it comes back under the same name, as one that is alive, only
    /// where nothing names it any more.
    fn die(&mut self, who: Holder) {
        if self.held.values().any(|(_, holders)| holders.contains(&who) && holders.len() > 1) {
            return;
        }
        let over: Vec<u64> =
            self.held.iter().filter(|(_, (_, holders))| *holders == [who]).map(|(conn, _)| *conn).collect();
        over.iter().for_each(|conn| drop(self.held.remove(conn)));
        self.expect(&over, |table, completions| table.bury(who, Outcome::Dropped, 3, completions).is_ok());
    }

    fn chat(&mut self, nonce: u8) {
        let question = NonZeroU64::MIN.saturating_add(u64::from(nonce));
        self.table.ask(question);
        let _bell = self.claimant.beat(5);
        let _bell = self.claimant.introduce();
        let _seen = (self.table.newcomers().len(), self.table.escapes().count(), self.table.has_news());
        if self.honesty == Honesty::Kept {
            assert_eq!(self.table.answered(), Some(question));
        }
    }

    /// What comes out is exactly this, while everybody is honest.
    fn expect(&mut self, conns: &[u64], look: impl FnOnce(&mut Table, &mut Vec<Completion>) -> bool) {
        let mut completions = Vec::new();
        let is_sound = look(&mut self.table, &mut completions);
        assert!(completions.len() <= self.capacity, "{} from {} entries", completions.len(), self.capacity);
        if self.honesty == Honesty::Kept {
            let mut found: Vec<u64> = completions.iter().map(|completion| completion.conn.0).collect();
            found.sort_unstable();
            assert!(is_sound && found == conns, "{found:?} for {conns:?}");
        }
    }
}
