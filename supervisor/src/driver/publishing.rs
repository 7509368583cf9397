//! Publishes how everything is, when something has changed: on the scoreboard, and to whoever asks.
//!
//! A change is published [`PUBLISHED_WITHIN`] later, with everything that changed meanwhile, so that a busy supervisor publishes
//! a few times per second and an idle one never. Where there is so much that composing it takes long, that is rarer:
//! one part in [`SHARE`] of the loop's time is for it, while no change waits longer than [`PUBLISHED_WITHIN_AT_MOST`].

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use ostler_pool::{Action, Event, Moment, Note};
use ostler_shared::scoreboard::RELOADS_MAX;
use ostler_shared::scoreboard::content::{Content, Reload, Supervisor, Turns};
use ostler_shared::sys::clock::monotonic_ns;

use super::Driver;
use super::board::BoardWriter;
use crate::{presence, report};

/// How long after a change it is to be read, at the latest, from the scoreboard of a supervisor that runs.
const PUBLISHED_WITHIN: Duration = Duration::from_millis(100);
/// Composing takes no more than one part in so many of the loop's time …
const SHARE: u32 = 200;
/// … but no change waits longer than this, however much there is to compose.
const PUBLISHED_WITHIN_AT_MOST: Duration = Duration::from_secs(1);

/// What is published beside what the pools know, and when.
#[derive(Debug)]
pub(super) struct Publishing {
    /// `None` in tests alone.
    writer: Option<BoardWriter>,
    due: Option<Moment>,
    /// From a change until it is published.
    patience: Duration,
    /// When our process was started, in the kernel's words.
    process_start: Option<u64>,
    /// When we started, on the kernel's clock: the loop's stands still while we do, and nobody else's does.
    started_ns: u64,
    turns: Turns,
    turn_began: Moment,
    reloads: VecDeque<Reload>,
    reloads_ok: u64,
    reloads_undone: u64,
}

impl Publishing {
    /// Begins with a first state that is due at once.
    pub(super) fn new(writer: Option<BoardWriter>, now: Moment) -> Publishing {
        Publishing {
            writer,
            due: Some(now),
            patience: PUBLISHED_WITHIN,
            process_start: presence::process_start(std::process::id()),
            started_ns: monotonic_ns(),
            turns: Turns::default(),
            turn_began: now,
            reloads: VecDeque::new(),
            reloads_ok: 0,
            reloads_undone: 0,
        }
    }

    /// What is published, for a process that may read it and nothing else of ours.
    pub(super) fn board(&self) -> io::Result<Option<OwnedFd>> {
        self.writer.as_ref().map(BoardWriter::reader).transpose()
    }

    /// A turn of the loop begins.
    pub(super) fn turn_begins(&mut self, now: Moment) {
        self.turn_began = now;
    }

    /// It is over.
    pub(super) fn turn_ends(&mut self, now: Moment) {
        let length = ns(now.since(self.turn_began));
        self.turns.count += 1;
        self.turns.busy_ns += length;
        self.turns.last_ns = length;
        self.turns.longest_ns = self.turns.longest_ns.max(length);
    }

    /// When something has to be published.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.due
    }

    /// Whether what a step did may be seen from outside. Called for every step, so it looks no further than it has to.
    pub(super) fn after_step(&mut self, now: Moment, event: Kind, actions: &[Action]) {
        if self.due.is_none() && (event == Kind::News || actions.iter().any(is_news)) {
            self.changed(now);
        }
    }

    /// Something changed that is to be seen from outside.
    fn changed(&mut self, now: Moment) {
        self.due.get_or_insert(now + self.patience);
    }

    fn note_reload(&mut self, note: &Note) {
        let Some(verdict) = report::reload_verdict(note) else { return };
        let (count, outcome) = if matches!(note, Note::Undone { .. }) {
            (&mut self.reloads_undone, "undone")
        } else {
            (&mut self.reloads_ok, "ok")
        };
        *count += 1;
        self.reloads.push_back(Reload { at_ns: monotonic_ns(), outcome: outcome.into(), verdict });
        if self.reloads.len() > RELOADS_MAX {
            self.reloads.pop_front();
        }
    }
}

/// What an event may mean for who looks from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It changes something.
    News,
    /// It changes something only if an action follows from it.
    Routine,
}

impl Kind {
    pub(super) fn of(event: &Event) -> Kind {
        let is_routine = matches!(
            event,
            Event::Tick | Event::Pulse { .. } | Event::Marks { .. } | Event::Measured { .. } | Event::Alive { .. }
        );
        if is_routine { Kind::Routine } else { Kind::News }
    }
}

/// Looking at a worker changes nothing about it.
fn is_news(action: &Action) -> bool {
    !matches!(
        action,
        Action::TakePulse { .. }
            | Action::ReadMarks { .. }
            | Action::Measure { .. }
            | Action::Probe { .. }
            | Action::TellPressure { .. }
    )
}

impl Driver {
    /// Publishes what has changed, if that is due.
    pub(super) fn publish_if_due(&mut self, now: Moment) {
        if self.publishing.due.is_none_or(|due| due > now) {
            return;
        }
        if self.publishing.writer.is_none() {
            self.publishing.due = None;
            return;
        }
        let begun = cpu_of_this_thread();
        let state = self.content().encode();
        // Not before: what putting it together brings to light is in it.
        self.publishing.due = None;
        self.publishing.patience = patience(cpu_of_this_thread().saturating_sub(begun));
        self.publishing.turns.longest_ns = 0;
        let written = self.publishing.writer.as_ref().map(|writer| writer.write(state));
        if matches!(written, Some(Err(_))) {
            // The disk is slow. What is due then is newer.
            self.publishing.due = Some(now + self.publishing.patience);
        }
    }

    /// Publishes a change about which the pools do not know.
    pub(super) fn publish_soon(&mut self) {
        let now = self.now();
        self.publishing.changed(now);
    }

    pub(super) fn note_for_the_board(&mut self, note: &Note) {
        self.publishing.note_reload(note);
    }

    /// Everything that is to be seen from outside, as it is now.
    pub(super) fn content(&mut self) -> Content {
        self.count_all_own();
        let now = self.now();
        let kernel_ns = monotonic_ns();
        let view = super::scene::View { now, kernel_ns };
        let snapshots = self.pools.snapshot(now);
        let mut content = Content {
            supervisor: self.supervisor(view),
            pools: snapshots.iter().map(|pool| self.pool_scene(view, pool)).collect(),
            reloads: self.publishing.reloads.iter().cloned().collect(),
            deaths: self.deaths.last_ones(),
        };
        content.cut();
        content
    }

    fn supervisor(&self, view: super::scene::View) -> Supervisor {
        let publishing = &self.publishing;
        Supervisor {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            process_start: publishing.process_start,
            state: self.state().into(),
            started_at_ns: publishing.started_ns,
            published_at_ns: view.kernel_ns,
            published_at_unix_ms: unix_ms(SystemTime::now()),
            turns: publishing.turns,
            log_lines_dropped: self.log.dropped(),
            deaths: self.deaths.total(),
            reloads_ok: publishing.reloads_ok,
            reloads_undone: publishing.reloads_undone,
        }
    }
}

/// How long a change waits when the last composing took so much of the CPU.
fn patience(composing: Duration) -> Duration {
    (composing * SHARE).clamp(PUBLISHED_WITHIN, PUBLISHED_WITHIN_AT_MOST)
}

/// Not by the clock: a process that was stopped or did not get the CPU meanwhile has not composed for so long.
fn cpu_of_this_thread() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms(at: SystemTime) -> u64 {
    let length = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn ns(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use ostler_shared::WorkerId;

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_ns(ms * 1_000_000)
    }

    #[test]
    fn much_to_compose_is_composed_less_often_and_yet_within_a_second() {
        let found = [0, 400, 2_000, 600_000].map(|micros| patience(Duration::from_micros(micros)).as_millis());
        assert_eq!(found, [100, 100, 400, 1000]);
    }

    fn quiet() -> Publishing {
        Publishing { due: None, ..Publishing::new(None, at(0)) }
    }

    #[test]
    fn a_look_at_a_worker_is_no_news_and_what_follows_from_a_tick_is() {
        let mut publishing = quiet();
        let look = Action::TakePulse { worker: WorkerId(1) };
        publishing.after_step(at(5), Kind::of(&Event::Tick), &[look]);
        assert_eq!(publishing.next_deadline(), None, "an idle supervisor is not woken up");
        publishing.after_step(at(6), Kind::of(&Event::Tick), &[Action::Drain { worker: WorkerId(1) }]);
        assert_eq!(publishing.next_deadline(), Some(at(106)));
    }

    #[test]
    fn later_changes_do_not_put_the_first_one_off() {
        let mut publishing = quiet();
        for ms in [10, 50, 90] {
            publishing.after_step(at(ms), Kind::of(&Event::Ready { worker: WorkerId(1) }), &[]);
        }
        assert_eq!(publishing.next_deadline(), Some(at(110)));
    }

    #[test]
    fn turns_are_measured() {
        let mut publishing = quiet();
        for (begin, end) in [(10, 30), (40, 45)] {
            publishing.turn_begins(at(begin));
            publishing.turn_ends(at(end));
        }
        let ms = 1_000_000;
        let expected = Turns { count: 2, busy_ns: 25 * ms, last_ns: 5 * ms, longest_ns: 20 * ms };
        assert_eq!(publishing.turns, expected);
    }
}
