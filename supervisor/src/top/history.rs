//! Remembers what was seen: the last state, since when the supervisor is how it is, and enough of the past for rates.
//!
//! Pure. A supervisor to which nothing happens publishes nothing, so a state that stays the same is a fact of its own: a rate
//! is taken between two looks, never between two states.

use std::collections::{HashMap, VecDeque};

use ostler_shared::scoreboard::Content;
use ostler_shared::scoreboard::content::{Supervisor, Worker};

use super::source::{Found, Glance, Standing};

/// What a rate looks back to: long enough to be steady, short enough that a change is seen at once.
const WINDOW_NS: u64 = 5_000_000_000;
/// Most looks that are remembered.
const SAMPLES_MAX: usize = 64;

/// How the supervisor is, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mood {
    /// Nobody has been seen yet.
    #[default]
    Unseen,
    Running,
    /// It is stopped; what is shown was published at its time.
    Stopped {
        since_ns: u64,
    },
    /// It has ended.
    Gone {
        since_ns: u64,
    },
}

/// What was counted at one look.
#[derive(Debug)]
struct Sample {
    at_ns: u64,
    workers: HashMap<u64, u64>,
    pools: HashMap<String, u64>,
}

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) content: Option<Content>,
    pub(super) memory: HashMap<i32, u64>,
    pub(super) mood: Mood,
    /// When it was looked at last.
    pub(super) now_ns: u64,
    /// Why the last look showed nothing new, where the supervisor runs all the same.
    pub(super) blind: Option<String>,
    samples: VecDeque<Sample>,
}

impl History {
    /// Takes in one look.
    pub(super) fn take(&mut self, glance: Glance) {
        self.now_ns = glance.now_ns;
        match glance.found {
            Found::State { content, standing, memory } => {
                self.blind = None;
                self.meet(&content);
                self.feel(standing, Some(content.supervisor.published_at_ns));
                self.memory = memory;
                self.remember(&content);
                self.content = Some(*content);
            }
            Found::Nothing(standing) => {
                self.feel(standing, None);
                self.blind = match standing {
                    Standing::Running | Standing::Stopped => {
                        Some("there is no scoreboard; the supervisor's log says why it can't be written".to_owned())
                    }
                    Standing::Gone => None,
                };
                self.memory.clear();
            }
            Found::Unreadable(why) => self.blind = Some(why),
        }
    }

    /// Forgets what another supervisor counted.
    fn meet(&mut self, content: &Content) {
        let known = self.content.as_ref().map(|content| who(&content.supervisor));
        if known != Some(who(&content.supervisor)) {
            self.samples.clear();
            self.mood = Mood::Unseen;
        }
    }

    fn feel(&mut self, standing: Standing, published_at_ns: Option<u64>) {
        // Met like this, it is so since it published for the last time, as far as anybody can tell.
        let since_ns = match self.mood {
            Mood::Unseen => published_at_ns.unwrap_or(self.now_ns).min(self.now_ns),
            Mood::Running => self.now_ns,
            Mood::Stopped { since_ns } | Mood::Gone { since_ns } => since_ns,
        };
        self.mood = match (standing, self.mood) {
            (Standing::Running, _) => Mood::Running,
            (Standing::Stopped, _) => Mood::Stopped { since_ns },
            (Standing::Gone, Mood::Stopped { .. }) => Mood::Gone { since_ns: self.now_ns },
            (Standing::Gone, Mood::Unseen | Mood::Running | Mood::Gone { .. }) => Mood::Gone { since_ns },
        };
    }

    fn remember(&mut self, content: &Content) {
        let workers = content.pools.iter().flat_map(|pool| &pool.workers);
        self.samples.push_back(Sample {
            at_ns: self.now_ns,
            workers: workers.filter_map(|worker| Some((worker.id?, worker.done?))).collect(),
            pools: content.pools.iter().filter_map(|pool| Some((pool.name.to_string(), pool.books.done?))).collect(),
        });
        let past_ns = self.now_ns.saturating_sub(WINDOW_NS);
        // One from before the window stays, which the window's first moment lies behind.
        while self.samples.get(1).is_some_and(|second| second.at_ns <= past_ns) || self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
    }

    /// Ages are counted up to here: as long as workers live, which nobody tells of a supervisor that is gone.
    pub(super) fn instant_ns(&self) -> u64 {
        let published = self.content.as_ref().map(|content| content.supervisor.published_at_ns);
        match self.mood {
            Mood::Unseen | Mood::Running | Mood::Stopped { .. } => self.now_ns.max(published.unwrap_or(0)),
            Mood::Gone { .. } => published.unwrap_or(self.now_ns),
        }
    }

    /// How many connections per second a worker ends; `None` while there is nothing to compare with, or nobody counts.
    pub(super) fn rate_of_worker(&self, worker: &Worker) -> Option<f64> {
        let (id, done) = (worker.id?, worker.done?);
        let seen = self.samples.iter().find_map(|sample| Some((sample.at_ns, *sample.workers.get(&id)?)));
        // Younger than the first look at it: it began with nothing.
        let born = worker.spawned_at_ns.filter(|at| self.now_ns.saturating_sub(*at) < WINDOW_NS).map(|at| (at, 0));
        self.rate(born.or(seen)?, done)
    }

    /// The same of a pool.
    pub(super) fn rate_of_pool(&self, name: &str, done: Option<u64>) -> Option<f64> {
        let seen = self.samples.iter().find_map(|sample| Some((sample.at_ns, *sample.pools.get(name)?)));
        self.rate(seen?, done?)
    }

    fn rate(&self, (then_ns, before): (u64, u64), done: u64) -> Option<f64> {
        match self.mood {
            Mood::Running => {}
            // Who does not look does not count.
            Mood::Unseen | Mood::Stopped { .. } | Mood::Gone { .. } => return None,
        }
        let passed_ns = self.now_ns.saturating_sub(then_ns);
        (passed_ns > 0).then(|| done.saturating_sub(before) as f64 / (passed_ns as f64 / 1e9))
    }
}

/// A pid alone may be another's. What it says of its own age is no name: it leaves out the time that it was stopped, and so each time it
/// is reckoned anew.
fn who(supervisor: &Supervisor) -> (u32, Option<u64>) {
    (supervisor.pid, supervisor.process_start)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{S, content, glance};
    use super::*;

    fn served(at_s: u64, done: u64) -> Glance {
        let mut content = content();
        content.pools[0].workers[0].done = Some(done);
        content.pools[0].books.done = Some(done);
        glance(
            at_s * S,
            Found::State { content: Box::new(content), standing: Standing::Running, memory: HashMap::new() },
        )
    }

    fn rate(history: &History) -> Option<f64> {
        history.rate_of_worker(&history.content.as_ref()?.pools[0].workers[0])
    }

    #[test]
    fn a_supervisor_that_reckons_its_age_anew_is_the_same_one() {
        let mut history = History::default();
        for second in 0..5 {
            let mut look = served(1000 + second, 10 * second);
            if let Found::State { content, .. } = &mut look.found {
                content.supervisor.started_at_ns += second;
            }
            history.take(look);
        }
        assert_eq!(rate(&history), Some(10.0));
    }

    #[test]
    fn a_rate_is_what_was_done_in_the_last_seconds() {
        let mut history = History::default();
        history.take(served(1000, 500));
        assert_eq!(rate(&history), None, "one look tells no rate");
        history.take(served(1002, 520));
        assert_eq!((rate(&history), history.rate_of_pool("web", Some(520))), (Some(10.0), Some(10.0)));
        for second in 3..=20 {
            history.take(served(1000 + second, 520));
        }
        assert_eq!(rate(&history), Some(0.0), "what is long ago does not count");
        assert!(history.samples.len() <= 7, "{}", history.samples.len());
    }

    #[test]
    fn a_worker_that_is_younger_than_the_first_look_has_a_rate_at_once() {
        let mut young = served(1000, 8);
        if let Found::State { content, .. } = &mut young.found {
            content.pools[0].workers[0].spawned_at_ns = Some(998 * S);
        }
        let mut history = History::default();
        history.take(young);
        assert_eq!(rate(&history), Some(4.0));
    }

    #[test]
    fn it_is_known_since_when_a_supervisor_is_stopped_or_gone() {
        let state = |standing| Found::State { content: Box::new(content()), standing, memory: HashMap::new() };
        let mut history = History::default();
        // As published at 990 s.
        history.take(glance(1000 * S, state(Standing::Stopped)));
        assert_eq!(history.mood, Mood::Stopped { since_ns: 990 * S });
        history.take(glance(1001 * S, state(Standing::Running)));
        assert_eq!(history.mood, Mood::Running);
        history.take(glance(1002 * S, state(Standing::Stopped)));
        history.take(glance(1003 * S, state(Standing::Stopped)));
        assert_eq!((history.mood, rate(&history)), (Mood::Stopped { since_ns: 1002 * S }, None));
        history.take(glance(1004 * S, Found::Nothing(Standing::Gone)));
        history.take(glance(1005 * S, Found::Nothing(Standing::Gone)));
        assert_eq!(history.mood, Mood::Gone { since_ns: 1004 * S });
        assert!(history.content.is_some(), "what it left is still shown");
        assert_eq!(history.instant_ns(), 990 * S, "and grows no older");
    }

    #[test]
    fn another_supervisor_is_not_measured_by_what_the_last_one_counted() {
        let mut history = History::default();
        history.take(served(1000, 500));
        history.take(glance(1001 * S, Found::Nothing(Standing::Gone)));
        let mut other = served(1002, 3);
        if let Found::State { content, .. } = &mut other.found {
            content.supervisor.pid += 1;
        }
        history.take(other);
        assert_eq!((history.mood, rate(&history)), (Mood::Running, None));
    }

    #[test]
    fn a_board_that_can_not_be_read_is_said_and_what_was_seen_stays() {
        let mut history = History::default();
        history.take(served(1000, 500));
        history.take(glance(1001 * S, Found::Unreadable("it is damaged".to_owned())));
        assert_eq!((history.blind.as_deref(), history.content.is_some()), (Some("it is damaged"), true));
        history.take(glance(1002 * S, Found::Nothing(Standing::Running)));
        assert!(history.blind.as_deref().is_some_and(|why| why.contains("no scoreboard")));
        history.take(served(1003, 500));
        assert_eq!(history.blind, None);
    }
}
