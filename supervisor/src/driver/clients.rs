//! Translates between clients and signals on one side and the pools on the other.

use std::time::Duration;

use nix::sys::epoll::EpollFlags;
use nix::sys::signal::Signal;
use ostler_config::checked::Workers;
use ostler_pool::{Answer, Change, Event, Moment, Note, RequestId, Urgency, WORKERS_MAX};
use ostler_shared::{PoolName, SlotNo};

use super::jobs::{Occasion, Outcome};
use super::limits;
use super::signals::{Arrived, Sender};
use super::sources::Source;
use super::visits::Filter;
use super::{Driver, STARVED_RETRY};
use crate::control::protocol::{Pace, Request, Response, ScaleTo, Wait};
use crate::control::server::{Admission, Wish};
use crate::exit::ExitCode;
use crate::logging::Logging;
use crate::logging::tail::Topic;
use crate::{deaths, report, status};

impl Driver {
    // ── clients ────────────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn admit_clients(&mut self) {
        let now = self.now();
        match self.server.accept(now) {
            Admission::Client(client) => {
                let watched = self.server.client_fd(client).map(|fd| self.sources.add(fd, Source::Client(client)));
                if !matches!(watched, Some(Ok(()))) {
                    self.server.forget(client);
                }
            }
            Admission::Nobody => {}
            // Left in place the listener would wake the loop for ever.
            Admission::Later => {
                self.sources.remove(self.server.readable());
                self.paused.push_back((now + STARVED_RETRY, Source::ControlListener));
            }
        }
    }

    pub(super) fn attend_client(&mut self, client: u64) {
        let wish = self.server.attend(client);
        self.grant(client, wish);
    }

    fn grant(&mut self, client: u64, wish: Wish) {
        match wish {
            Wish::Nothing => {}
            Wish::Request(request) => self.take_request(client, request),
            Wish::WriteLater => {
                let fd = self.server.client_fd(client).expect("a client that is written to is there");
                if self.sources.change(fd, Source::Client(client), EpollFlags::EPOLLOUT).is_err() {
                    self.drop_client(client);
                }
            }
            Wish::Feed => self.feed(client),
            Wish::Drop => self.drop_client(client),
        }
    }

    pub(super) fn drop_client(&mut self, client: u64) {
        self.log.tail().leave(client);
        self.visits.tracers.remove(&client);
        if let Some(fd) = self.server.client_fd(client) {
            self.sources.remove(fd);
        }
        self.server.forget(client);
        self.requests.retain(|_, waiting| *waiting != client);
        self.awaiting_end.retain(|waiting| *waiting != client);
    }

    pub(super) fn drop_overdue_clients(&mut self, now: Moment) {
        for client in self.server.overdue(now) {
            self.drop_client(client);
        }
    }

    pub(super) fn tell_client(&mut self, client: u64, response: &Response) {
        let now = self.now();
        let wish = self.server.tell(client, now, response);
        self.grant(client, wish);
    }

    pub(super) fn done(&mut self, client: u64, text: impl Into<String>, exit: ExitCode) {
        self.tell_client(client, &Response::Done { text: text.into(), exit: exit as u8 });
    }

    // ── requests ───────────────────────────────────────────────────────────────────────────────────────────

    fn take_request(&mut self, client: u64, request: Request) {
        match request {
            Request::Status => {
                let json = self.status_json();
                self.tell_client(client, &Response::Report(json));
            }
            Request::Dump => {
                let answer = self.dump();
                self.done(client, answer, ExitCode::Done);
            }
            Request::Logs { pool, slot, lines, follow } => {
                let Some(pool) = self.chosen_pool(client, pool.as_deref()) else { return };
                let topic = match (pool, slot) {
                    (None, _) => Topic::All,
                    (Some(pool), None) => Topic::Pool(pool),
                    (Some(pool), Some(slot)) => Topic::Slot(pool, SlotNo(slot)),
                };
                self.begin_to_read(client, topic, lines as usize, follow);
            }
            Request::ReopenLogs => {
                tracing::info!("opening log files anew, as a client asks");
                self.reopen_logs(Some(client));
            }
            Request::Trace { pool, slow_us, which, lines, follow } => {
                let Some(pool) = self.chosen_pool(client, pool.as_deref()) else { return };
                let filter = Filter { pool, slow: Duration::from_micros(slow_us), which };
                self.begin_to_trace(client, filter, lines as usize, follow);
            }
            Request::Deaths => self.tell_client(client, &Response::Report(deaths::json(&self.deaths))),
            Request::Reload { pools, wait } => self.request_reload(client, &pools, wait),
            Request::Restart { pool, slot } => {
                let Some(pool) = self.pool_name(client, &pool) else { return };
                let request = Some(self.new_request(client));
                tracing::info!(%pool, "restart asked for by a client");
                self.step(Event::Restart { request, pool, slot: slot.map(SlotNo) });
            }
            Request::Recycle { pool, slot } => {
                let Some(pool) = self.pool_name(client, &pool) else { return };
                let request = Some(self.new_request(client));
                tracing::info!(%pool, "recycling asked for by a client");
                self.step(Event::Recycle { request, pool, slot: slot.map(SlotNo) });
            }
            Request::Scale { pool, change } => {
                let Some(pool) = self.pool_name(client, &pool) else { return };
                let change = match change {
                    ScaleTo::Exactly(count) => Change::To(count),
                    ScaleTo::More(count) => Change::More(count),
                    ScaleTo::Fewer(count) => Change::Fewer(count),
                };
                if let Err(too_few) = self.room_for(&pool, change) {
                    return self.done(client, too_few, ExitCode::Failed);
                }
                let request = Some(self.new_request(client));
                self.step(Event::Scale { request, pool: Some(pool), change });
            }
            Request::Pause { pool } => {
                let Some(pool) = self.chosen_pool(client, pool.as_deref()) else { return };
                let request = Some(self.new_request(client));
                tracing::info!("pause asked for by a client");
                self.step(Event::Pause { request, pool });
            }
            Request::Resume { pool } => {
                let Some(pool) = self.chosen_pool(client, pool.as_deref()) else { return };
                let request = Some(self.new_request(client));
                tracing::info!("the end of a pause asked for by a client");
                self.step(Event::Resume { request, pool });
            }
            Request::Stop { pace } => {
                self.awaiting_end.push(client);
                tracing::info!("stop asked for by a client");
                let urgency = match pace {
                    Pace::Graceful => Urgency::Graceful,
                    Pace::Now => Urgency::Now,
                };
                self.step(Event::Stop { urgency });
            }
        }
    }

    /// Refuses a number of workers that there are no descriptors for.
    fn room_for(&mut self, pool: &PoolName, change: Change) -> Result<(), String> {
        let (now, mut config) = (self.now(), (*self.config).clone());
        self.count_all_own();
        for snapshot in self.pools.snapshot(now) {
            let configured = config.pools.iter_mut().find(|configured| configured.name == snapshot.name);
            // Ranges were provided for to their end.
            if let Some(Workers::Fixed(count)) = configured.map(|configured| &mut configured.workers) {
                *count = snapshot.target;
            }
        }
        let scaled = config.pools.iter_mut().find(|configured| configured.name == *pool);
        if let Some(Workers::Fixed(target)) = scaled.map(|configured| &mut configured.workers) {
            *target = match change {
                Change::To(count) => count,
                Change::More(count) => target.saturating_add(count),
                Change::Fewer(_) => return Ok(()),
            }
            .min(WORKERS_MAX);
        }
        limits::check(&config, self.limits.hard).map_err(|too_few| too_few.to_string())
    }

    fn request_reload(&mut self, client: u64, pools: &[String], wait: Wait) {
        let mut names = Vec::new();
        for pool in pools {
            let Some(name) = self.pool_name(client, pool) else { return };
            names.push(name);
        }
        tracing::info!("reload asked for by a client");
        let request = match wait {
            Wait::ForVerdict => Some(self.new_request(client)),
            Wait::No => {
                self.done(client, "reload asked for; `ostler status` shows how it goes", ExitCode::Done);
                None
            }
        };
        self.step(Event::Reload { request, pools: names });
    }

    /// The pool that was named, if any. The outer `None` is a name that is none; the client has been told.
    fn chosen_pool(&mut self, client: u64, text: Option<&str>) -> Option<Option<PoolName>> {
        match text {
            Some(text) => self.pool_name(client, text).map(Some),
            None => Some(None),
        }
    }

    fn pool_name(&mut self, client: u64, text: &str) -> Option<PoolName> {
        match text.parse() {
            Ok(name) => Some(name),
            Err(error) => {
                self.done(client, error.to_string(), ExitCode::Failed);
                None
            }
        }
    }

    fn new_request(&mut self, client: u64) -> RequestId {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.requests.insert(request, client);
        request
    }

    pub(super) fn answer(&mut self, request: RequestId, answer: &Answer) {
        let Some(client) = self.requests.remove(&request) else { return };
        let (text, exit) = report::answer(answer, &self.epitaphs);
        self.done(client, text, exit);
    }

    pub(super) fn tell_progress(&mut self, request: RequestId, news: &Note) {
        let Some((client, progress)) = self.requests.get(&request).copied().zip(report::progress(news)) else { return };
        let wish = self.server.inform(client, &Response::Progress(progress));
        self.grant(client, wish);
    }

    /// Closes and unlinks everything, then says the last word to those who asked for the stop. What is left is the log.
    pub(crate) fn close(mut self, text: &str, exit: ExitCode) -> Logging {
        self.feed_readers();
        let Driver { doors, entrances, server, awaiting_end, pid_file, log, publishing, .. } = self;
        drop((doors, entrances, publishing, pid_file));
        let readers = log.tail().readers();
        let farewell = Response::Done { text: "the supervisor has stopped".to_owned(), exit: ExitCode::Done as u8 };
        server.close(&awaiting_end, &Response::Done { text: text.to_owned(), exit: exit as u8 }, &readers, &farewell);
        log
    }

    pub(super) fn state(&self) -> &'static str {
        if self.pools.is_stopping() {
            "stopping"
        } else if self.pools.is_reloading() {
            "reloading"
        } else {
            "running"
        }
    }

    pub(crate) fn status_json(&mut self) -> String {
        let content = self.content();
        status::Status::of(&content, status::Freshness::Fresh).to_json()
    }

    // ── signals ────────────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn take_signals(&mut self) {
        // Clear the pipe first, then act: what arrives in between rings again.
        let arrived = self.signals.take();
        if arrived.iter().any(|arrived| arrived.signal == Signal::SIGCHLD) {
            self.sweep();
        }
        for arrived in arrived.into_iter().filter(|arrived| arrived.signal != Signal::SIGCHLD) {
            self.take_signal(arrived);
        }
    }

    fn take_signal(&mut self, arrived: Arrived) {
        report::signal(arrived);
        let from_kernel = arrived.sender == Sender::Kernel;
        match arrived.signal {
            Signal::SIGTERM | Signal::SIGQUIT => self.step(Event::Stop { urgency: Urgency::Graceful }),
            Signal::SIGINT => self.step(Event::Stop { urgency: Urgency::Now }),
            Signal::SIGHUP if from_kernel || self.terminal_is_gone() => {
                tracing::info!("the terminal has closed");
                self.step(Event::Stop { urgency: Urgency::Graceful });
            }
            Signal::SIGHUP => self.step(Event::ResumeOrReload),
            Signal::SIGTTIN if !from_kernel => self.scale_first_pool(Change::More(1)),
            Signal::SIGTTOU if !from_kernel => self.scale_first_pool(Change::Fewer(1)),
            Signal::SIGUSR1 => self.reopen_logs(None),
            Signal::SIGUSR2 => report::not_yet("replacing the running supervisor", "stop and start it"),
            Signal::SIGPWR => {
                // Nobody waits for the answer.
                let _place = self.dump();
            }
            Signal::SIGWINCH if !from_kernel => self.step(Event::Pause { request: None, pool: None }),
            // A terminal that was resized, or that a background job wrote to.
            _ => {}
        }
    }

    fn scale_first_pool(&mut self, change: Change) {
        let first = self.config.pools[0].name.clone();
        if let Err(too_few) = self.room_for(&first, change) {
            return tracing::warn!("{too_few}");
        }
        self.step(Event::Scale { request: None, pool: None, change });
    }

    fn terminal_is_gone(&self) -> bool {
        let Some(terminal) = &self.terminal else { return false };
        let options = nix::fcntl::OFlag::O_RDONLY
            | nix::fcntl::OFlag::O_NOCTTY
            | nix::fcntl::OFlag::O_NONBLOCK
            | nix::fcntl::OFlag::O_CLOEXEC;
        nix::fcntl::open(terminal, options, nix::sys::stat::Mode::empty()).is_err()
    }

    // ── helper thread ──────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn take_job_outcomes(&mut self) {
        for outcome in self.jobs.take() {
            match outcome {
                Outcome::Config(fresh) => {
                    let (config, log) = match fresh {
                        Ok(fresh) => (Ok(fresh.config), Some(fresh.log)),
                        Err(why) => (Err(why), None),
                    };
                    // Before preparing, which lets go of it where that fails.
                    self.log_aside = log;
                    let config = self.prepare(config);
                    self.step(Event::ConfigRead { config });
                }
                Outcome::Look { worker, seen } => self.was_seen(worker, seen),
                Outcome::Sizes { pool, sizes } => self.step(Event::Measured { pool, sizes }),
                Outcome::Portrait { worker, occasion: Occasion::Abort, portrait } => self.portrayed(worker, portrait),
                Outcome::Portrait { worker, occasion: Occasion::Slow(conn), portrait } => {
                    self.slow_one_seen(worker, conn, &portrait);
                }
            }
        }
    }
}
