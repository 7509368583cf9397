//! Tells whoever started us how we are: `--ready-fd`, and the service manager in the words of sd_notify(3).
//!
//! It says what changed, when it changed, and nothing twice. `STATUS=` is one line: how the last reload ended, and how the
//! pools are.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use ostler_shared::sys::clock::monotonic_ns;

use super::notify::{Manager, Unsent};
use super::watchdog::{Due, Watchdog};

/// What a step of ours may take beyond its own deadlines before the service manager gives us up.
const MANAGER_SLACK: Duration = Duration::from_secs(5);

/// Who wants to know, and what they know.
#[derive(Debug)]
pub(crate) struct Readiness {
    ready_fd: Option<File>,
    manager: Option<Manager>,
    watchdog: Option<Watchdog>,
    phase: Phase,
    /// How the last reload ended, if there was one.
    verdict: Option<String>,
    /// How the pools are.
    health: String,
    news: News,
    said: String,
}

/// Where we are, as the service manager sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It was not told yet that we are ready.
    Starting,
    Serving,
    Reloading,
    /// Nothing follows but the end.
    Stopping,
}

/// Whether something happened that may change how the pools are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Some,
    None,
}

impl Readiness {
    pub(crate) fn new(ready_fd: Option<File>) -> Readiness {
        let manager = Manager::find().unwrap_or_else(|error| {
            tracing::warn!("cannot talk to the service manager at NOTIFY_SOCKET: {error}");
            None
        });
        let watchdog = manager.as_ref().and_then(|_| Watchdog::asked_for());
        Readiness {
            ready_fd,
            manager,
            watchdog,
            phase: Phase::Starting,
            verdict: None,
            health: String::new(),
            news: News::None,
            said: String::new(),
        }
    }

    pub(crate) fn manager(&self) -> Option<&Manager> {
        self.manager.as_ref()
    }

    /// Every pool has all its workers for the first time.
    pub(crate) fn all_ready(&mut self) {
        if let Some(mut fd) = self.ready_fd.take()
            && let Err(error) = fd.write_all(b"\n")
        {
            tracing::warn!("cannot write to --ready-fd: {error}");
        }
        if self.phase == Phase::Starting {
            self.phase = Phase::Serving;
            "all pools are ready".clone_into(&mut self.health);
            // Whoever wrapped us into another program is our parent, and not the one to send signals to.
            self.tell(&format!("READY=1\nMAINPID={}", std::process::id()));
        }
    }

    /// A reload begins, which does the next thing that can be seen within `patience`.
    pub(crate) fn reloading(&mut self, patience: Duration) {
        match self.phase {
            Phase::Serving | Phase::Reloading => {
                self.phase = Phase::Reloading;
                let begun = monotonic_ns() / 1000;
                self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={begun}\n{}", extension(patience)));
            }
            Phase::Starting | Phase::Stopping => {}
        }
    }

    /// A reload is over; `verdict` says how.
    pub(crate) fn reloaded(&mut self, verdict: &str) {
        self.verdict = Some(one_line(verdict));
        match self.phase {
            Phase::Serving | Phase::Reloading => {
                self.phase = Phase::Serving;
                self.tell("READY=1");
            }
            Phase::Starting => self.tell_status(),
            Phase::Stopping => {}
        }
    }

    /// Starting or reloading goes on: the next step comes within `patience`.
    pub(crate) fn progress(&mut self, patience: Duration) {
        match (self.phase, &self.manager) {
            (Phase::Starting | Phase::Reloading, Some(manager)) => manager.tell(&extension(patience)),
            (Phase::Starting | Phase::Reloading, None) | (Phase::Serving | Phase::Stopping, _) => {}
        }
    }

    /// We stop, within `limit`.
    pub(crate) fn stopping(&mut self, limit: Duration) {
        self.phase = Phase::Stopping;
        self.tell(&format!("STOPPING=1\n{}", extension(limit)));
    }

    /// Something happened that may change how the pools are.
    pub(crate) fn news_arrived(&mut self) {
        self.news = News::Some;
    }

    /// Whether somebody wants to know how the pools are, and it may be something else than before.
    pub(crate) fn asks_for_health(&mut self) -> bool {
        let news = std::mem::replace(&mut self.news, News::None);
        news == News::Some && self.manager.is_some()
    }

    /// How the pools are.
    pub(crate) fn health(&mut self, health: String) {
        self.health = health;
        self.tell_status();
    }

    // ── signs of life ──────────────────────────────────────────────────────────────────────────────────────

    /// Says that the loop is alive, if that is asked for and due. To be called once per turn of the loop.
    pub(crate) fn give_sign_of_life(&mut self) {
        if let (Some(manager), Some(watchdog)) = (&self.manager, &mut self.watchdog)
            && watchdog.due() == Due::Now
        {
            manager.tell_alive();
            watchdog.rest();
        }
    }

    /// How long the loop may wait until the next sign of life is due.
    pub(crate) fn next_sign_of_life(&self) -> Option<Duration> {
        match self.watchdog.as_ref()?.due() {
            Due::Now => Some(Duration::ZERO),
            Due::In(left) => Some(left),
        }
    }

    // ── what waits ─────────────────────────────────────────────────────────────────────────────────────────

    /// Sends what the service manager had no room for before.
    pub(crate) fn catch_up(&self) {
        if let Some(manager) = &self.manager {
            manager.catch_up();
        }
    }

    /// Whether the service manager has to be told something that it had no room for.
    pub(crate) fn has_unsent(&self) -> bool {
        self.manager.as_ref().is_some_and(|manager| manager.unsent() == Unsent::Some)
    }

    // ── words ──────────────────────────────────────────────────────────────────────────────────────────────

    fn tell(&mut self, assignments: &str) {
        self.said = self.status();
        if let Some(manager) = &self.manager {
            manager.tell(&format!("{assignments}\nSTATUS={}", self.said));
        }
    }

    fn tell_status(&mut self) {
        let status = self.status();
        if status != self.said {
            if let Some(manager) = &self.manager {
                manager.tell(&format!("STATUS={status}"));
            }
            self.said = status;
        }
    }

    fn status(&self) -> String {
        let phase = match self.phase {
            Phase::Starting => Some("starting"),
            Phase::Reloading => Some("reloading"),
            // What the pools look like on their way out is of no interest.
            Phase::Stopping => return "stopping".to_owned(),
            Phase::Serving => None,
        };
        // While another reload is under way, the last one is history.
        let verdict = self.verdict.as_deref().filter(|_| self.phase != Phase::Reloading);
        let parts = [phase, verdict, Some(self.health.as_str())];
        parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    }
}

fn extension(patience: Duration) -> String {
    format!("EXTEND_TIMEOUT_USEC={}", patience.saturating_add(MANAGER_SLACK).as_micros())
}

fn one_line(text: &str) -> String {
    text.replace('\n', "; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readiness(phase: Phase) -> Readiness {
        Readiness {
            ready_fd: None,
            manager: None,
            watchdog: None,
            phase,
            verdict: None,
            health: "all pools are ready".to_owned(),
            news: News::None,
            said: String::new(),
        }
    }

    #[test]
    fn the_status_says_how_the_last_reload_ended_until_the_next_begins() {
        let mut readiness = readiness(Phase::Serving);
        readiness.reloading(Duration::ZERO);
        assert_eq!(readiness.said, "reloading; all pools are ready");
        readiness.reloaded("reload undone: it is\nwrong");
        assert_eq!(readiness.said, "reload undone: it is; wrong; all pools are ready");
        readiness.health("pool web is degraded".to_owned());
        assert_eq!(readiness.said, "reload undone: it is; wrong; pool web is degraded");
        readiness.reloading(Duration::ZERO);
        assert_eq!(readiness.said, "reloading; pool web is degraded");
    }

    #[test]
    fn after_stopping_nothing_takes_it_back() {
        let mut readiness = readiness(Phase::Serving);
        readiness.stopping(Duration::ZERO);
        readiness.reloading(Duration::ZERO);
        readiness.reloaded("reload undone: the supervisor stops");
        readiness.health("pool web is degraded".to_owned());
        readiness.all_ready();
        assert_eq!((readiness.said.as_str(), readiness.phase), ("stopping", Phase::Stopping));
    }

    #[test]
    fn an_extension_is_in_microseconds_and_longer_than_what_it_is_for() {
        assert_eq!(extension(Duration::from_secs(30)), "EXTEND_TIMEOUT_USEC=35000000");
    }
}
