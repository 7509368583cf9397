//! Looks at the status again and again while something else goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crate::client::Client;
use crate::deadline::pause;
use crate::status::{Pool, Status};

/// What was seen in all snapshots together.
#[derive(Debug, Default)]
pub struct Seen {
    /// How many snapshots were taken.
    pub snapshots: u64,
    /// Snapshots whose books did not balance, in words; the first few.
    pub unbalanced: Vec<String>,
    /// Most generations of one pool that ran at a time.
    pub generations_at_once: usize,
    /// Most slots of one pool that had two workers or more at a time.
    pub slots_moving_at_once: usize,
    /// Fewest READY workers of one pool.
    pub fewest_ready: Option<usize>,
    /// Most restarts of one slot.
    pub restarts: u64,
    /// Every generation that was ever seen.
    pub generations: BTreeSet<u32>,
    /// Every worker id that was ever seen.
    pub workers: BTreeSet<u64>,
}

/// A thread that takes snapshots.
#[derive(Debug)]
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Seen>>,
}

impl Sampler {
    /// Begins; a snapshot that can't be had (the supervisor stops) ends it.
    #[must_use]
    pub fn start(client: Client) -> Sampler {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut seen = Seen::default();
            while !told.load(Ordering::Relaxed) {
                let Ok(status) = client.try_status() else { break };
                seen.note(&status);
                pause();
            }
            seen
        });
        Sampler { stop, thread: Some(thread) }
    }

    /// Ends it.
    ///
    /// # Panics
    /// When the thread did, or when it never got a snapshot.
    #[must_use]
    pub fn finish(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.take().expect("finished once").join().expect("the sampler panicked");
        assert!(seen.snapshots > 0, "not one snapshot was taken");
        seen
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn crowded_slots(pool: &Pool) -> usize {
    let mut workers: BTreeMap<u32, u32> = BTreeMap::new();
    pool.workers.iter().for_each(|worker| *workers.entry(worker.slot).or_default() += 1);
    workers.values().filter(|count| **count > 1).count()
}

impl Seen {
    fn note(&mut self, status: &Status) {
        self.snapshots += 1;
        if let Err(why) = status.check_books()
            && self.unbalanced.len() < 5
        {
            self.unbalanced.push(why);
        }
        for pool in &status.pools {
            let generations = pool.generations();
            self.generations_at_once = self.generations_at_once.max(generations.len());
            self.generations.extend(generations);
            self.slots_moving_at_once = self.slots_moving_at_once.max(crowded_slots(pool));
            let ready = pool.ready().len();
            self.fewest_ready = Some(self.fewest_ready.map_or(ready, |fewest| fewest.min(ready)));
            let restarts = pool.workers.iter().map(|worker| worker.restarts);
            self.restarts = self.restarts.max(restarts.max().unwrap_or(0));
            self.workers.extend(pool.workers.iter().filter_map(|worker| worker.id));
        }
    }

    /// Refuses a series in which the books did not balance once.
    ///
    /// # Panics
    /// With the numbers.
    pub fn assert_balanced(&self) {
        assert!(self.unbalanced.is_empty(), "of {} snapshots: {:#?}", self.snapshots, self.unbalanced);
    }
}
