//! Does what the pools decide: waits, translates, performs, and reports failure back as an event.
//!
//! It has no opinions: an `if` about policy in here is a bug report against the pool. It never waits for anything
//! but the kernel's next word (I5).

mod accepting;
mod board;
pub(crate) mod child;
mod clients;
mod clock;
mod doors;
mod dumping;
mod entrances;
mod failure;
mod farewells;
mod following;
mod hooks;
mod insisting;
mod jobs;
mod limits;
mod link;
pub(crate) mod listeners;
mod listening;
mod log_keeping;
mod measuring;
mod notify;
mod noting;
mod oom;
mod output;
mod owners;
mod parking;
mod path_lock;
mod performing;
mod pid_file;
pub(crate) mod portrait;
mod publishing;
mod ready;
mod rings;
mod scene;
mod signals;
mod slowness;
mod sources;
mod spawn;
mod standing_by;
mod start;
mod store;
mod sweep;
mod templates;
mod trace;
mod unix_diag;
mod unmodified;
mod visits;
mod watchdog;
mod worker_notify;
mod workers;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Pid;
use ostler_config::Config;
use ostler_pool::{Action, Ended, Event, Moment, PoolNo, Pools, RequestId};
use ostler_shared::WorkerId;
use ostler_shared::completion::Completion;
use ostler_shared::sys::clock::monotonic_ns;

use crate::control::server::Server;
use crate::deaths::Deaths;
use crate::logging::{Aside, Logging};
use crate::report;
use clock::Clock;
use doors::Doors;
use entrances::Entrances;
use farewells::Farewells;
use hooks::{HookNo, Hooks};
use jobs::Jobs;
use limits::Inherited;
use link::Link;
use log_keeping::Reopening;
use noting::Remains;
use oom::KillCounter;
use owners::Owners;
use parking::Parking;
use pid_file::PidFile;
use publishing::{Kind, Publishing};
use ready::Readiness;
use rings::{News, RingNo, Rings};
use signals::Signals;
use sources::{Source, Sources};
use templates::Nursery;
use visits::Visits;

pub(crate) use child::{Core, Usage};
pub(crate) use failure::not_executed as why_not_started;
pub(crate) use hooks::{CallEnded, How, Title};
pub(crate) use oom::OutOfMemory;
pub(crate) use output::LINES_PER_SECOND;
pub(crate) use publishing::unix_ms;
pub(crate) use signals::without_signals;
pub(crate) use signals::{Arrived, Sender};
pub(crate) use spawn::HELLO_COMMAND;
pub(crate) use start::{Setup, StartError};

/// How long a dead worker's mailbox that lacks a free descriptor, or a question or a message that lacks room, waits for the
/// next try.
const STARVED_RETRY: Duration = Duration::from_millis(100);

/// The supervisor at work.
pub(crate) struct Driver {
    pools: Pools,
    config: Arc<Config>,
    clock: Clock,
    sources: Sources,
    signals: Signals,
    jobs: Jobs,
    server: Server,
    readiness: Readiness,
    log: Logging,
    /// What a reload that is not complete has opened for the log.
    log_aside: Option<Aside>,
    reopenings: VecDeque<Reopening>,
    visits: Visits,
    pid_file: Option<PidFile>,
    limits: Inherited,
    /// What is preloaded into unmodified programs.
    shim: Option<PathBuf>,
    parking: Parking,
    farewells: Farewells,
    next_conn: u64,
    doors: Doors,
    /// What the service manager gave us and no pool listens on.
    entrances: Entrances,
    workers: BTreeMap<WorkerId, Link>,
    rings: Rings,
    /// How full the line of each pool is, as its workers were told; nothing was said of a pool that is calm.
    pressures: BTreeMap<PoolNo, u16>,
    pids: HashMap<Pid, WorkerId>,
    /// Workers that templates were asked for, and have not answered.
    nursery: Nursery,
    /// Workers that are to be asked for a sign of life and had no room for the question.
    unasked: Vec<WorkerId>,
    /// What the next question is known by.
    next_nonce: NonZeroU64,
    /// Workers that are to be aborted when it is known what they do, and when that has taken long enough.
    sittings: VecDeque<(Moment, WorkerId)>,
    /// Unmodified programs that drain, and when their farewell goes on.
    goodbyes: BTreeSet<(Moment, WorkerId)>,
    /// Processes of unmodified programs that hold connections.
    owners: Owners,
    /// Workers that accept for themselves and have reported something: when their rings are read again.
    unheard: BTreeSet<(Moment, WorkerId)>,
    /// Programs that may begin to wait for connections: when they are looked at.
    looks: BTreeSet<(Moment, WorkerId)>,
    /// Dead workers whose mailbox could not be emptied for want of descriptors.
    starved: Vec<WorkerId>,
    /// What is left alone until then: log pipes that flood, the control socket when descriptors ran out.
    paused: VecDeque<(Moment, Source)>,
    /// Workers of whom lines were dropped, and when that is said.
    floods: VecDeque<(Moment, WorkerId)>,
    /// Which client waits for which answer.
    requests: BTreeMap<RequestId, u64>,
    next_request: u64,
    /// Clients that asked for the stop and want to know how it ends.
    awaiting_end: Vec<u64>,
    /// Reads the configuration as it is on disk; runs on the helper thread.
    reread: Arc<dyn Fn() -> Result<Config, String> + Send + Sync>,
    started_at: Moment,
    /// The terminal that we started on, to tell a hang-up from a request to reload.
    terminal: Option<PathBuf>,
    /// Dead workers about which the pools have not said a word yet.
    remains: BTreeMap<WorkerId, Remains>,
    deaths: Deaths,
    publishing: Publishing,
    oom: KillCounter,
    hooks: Hooks,
    /// Last lines of workers that failed, for whoever asked.
    epitaphs: BTreeMap<WorkerId, Vec<String>>,
    events: VecDeque<Event>,
    /// Empty between two steps; kept so that a connection costs no allocation here.
    actions: Vec<Action>,
    /// Likewise.
    completions: Vec<Completion>,
    rings_with_news: Vec<(RingNo, WorkerId)>,
    ended: Option<Ended>,
}

impl Driver {
    /// The loop: wait, take in what happened, let the pools decide, perform.
    pub(crate) fn run(mut self) -> (Ended, Driver) {
        loop {
            let turn_ended = self.account(Some(Duration::ZERO));
            self.publishing.turn_ends(turn_ended);
            let timeout = match self.rings.before_waiting() {
                News::Some => Some(Duration::ZERO),
                News::None => self.next_timeout(),
            };
            let sources = self.sources.wait(timeout);
            let turn_began = self.account(timeout);
            self.publishing.turn_begins(turn_began);
            self.rings.after_waiting();
            self.read_rings();
            for source in sources {
                self.attend(source);
            }
            self.attend_to_time();
            if self.hooks.are_over(self.now())
                && let Some(ended) = self.ended.take()
            {
                return (ended, self);
            }
        }
    }

    fn attend(&mut self, source: Source) {
        match source {
            Source::Signals => self.take_signals(),
            Source::Jobs => self.take_job_outcomes(),
            Source::Log => self.take_log_reports(),
            Source::ControlListener => self.admit_clients(),
            Source::Client(client) => self.attend_client(client),
            Source::Listener(number) => self.accept(number),
            Source::Control(worker) => self.read_control(worker),
            Source::Doorbell(worker) => self.answer_doorbell(worker),
            Source::Process(_) => self.sweep(),
            Source::Output(worker) => self.read_output(worker, source),
            Source::Errors(worker) => self.read_output(worker, source),
            Source::Exec(worker) => self.read_exec_report(worker),
            Source::Notices(worker) => self.read_notices(worker),
            Source::Owner(no) => self.attend_owner(no),
            Source::Hook(_) => self.sweep(),
            Source::HookOutput(no) => self.read_hook_output(HookNo(no)),
            Source::Waiting(conn) => self.look_after(conn),
            Source::Lingering(conn) => self.farewells.attend(conn, &self.sources),
        }
    }

    fn attend_to_time(&mut self) {
        let now = self.now();
        self.resume_paused(now);
        self.tell_of_floods(now);
        self.tell_what_was_left_out(now);
        self.end_reopenings();
        self.drop_overdue_clients(now);
        self.farewells.close_overdue(now, &self.sources);
        self.accept_last_ones(now);
        self.retry_starved_mailboxes();
        self.ask_the_unasked();
        self.tell_the_manager();
        self.end_long_sittings(now);
        self.say_goodbyes(now);
        self.look_for_owners(now);
        self.watch_the_patient();
        self.hear_the_unheard(now);
        self.look_at_strangers(now);
        if self.pools.next_deadline().is_some_and(|at| at <= now) {
            self.step(Event::Tick);
        }
        self.attend_to_hooks(now);
        self.publish_if_due(now);
        // Last: whatever this turn has logged goes out with it.
        self.feed_readers();
    }

    /// Once per turn, which is what makes a sign of life one of the loop's.
    fn tell_the_manager(&mut self) {
        self.readiness.catch_up();
        self.readiness.give_sign_of_life();
        if self.readiness.asks_for_health() {
            let now = self.now();
            let health = report::health(&self.pools.snapshot(now));
            self.readiness.health(health);
        }
    }

    /// The longest that starting or replacing one worker may take, which is the longest that nothing can be seen of either.
    fn patience(&self) -> Duration {
        let step = |pool: &ostler_config::checked::Pool| {
            let parts = [pool.start.ready_timeout, pool.reload.probation, pool.drain.timeout, pool.drain.kill_after];
            parts.into_iter().fold(Duration::ZERO, Duration::saturating_add)
        };
        self.config.pools.iter().map(step).max().unwrap_or_default()
    }

    fn next_timeout(&mut self) -> Option<Duration> {
        let now = self.now();
        let has_to_retry = !self.starved.is_empty() || !self.unasked.is_empty() || self.readiness.has_unsent();
        let starved = has_to_retry.then(|| now + STARVED_RETRY);
        let paused = self.paused.front().map(|(until, _)| *until);
        let sitting = self.sittings.front().map(|(until, _)| *until);
        let deadlines = [
            self.pools.next_deadline(),
            self.server.next_deadline(),
            self.last_ones_deadline(now),
            self.farewells.next_deadline(),
            starved,
            paused,
            sitting,
            self.floods.front().map(|(at, _)| *at),
            self.left_out_deadline(),
            self.reopening_deadline(),
            self.goodbyes.first().map(|(at, _)| *at),
            self.owners.next_deadline(),
            self.unheard.first().map(|(at, _)| *at),
            self.looks.first().map(|(at, _)| *at),
            self.hooks.next_deadline(now),
            self.publishing.next_deadline(),
            self.readiness.next_sign_of_life().map(|left| now + left),
        ];
        let next = deadlines.into_iter().flatten().min().map(|at| at.since(now));
        [next, self.parking.next_look(monotonic_ns())].into_iter().flatten().min()
    }

    /// Lets the pools decide about one event, and about those that performing brings, one at a time.
    fn step(&mut self, event: Event) {
        self.events.push_back(event);
        while let Some(event) = self.events.pop_front() {
            let mut actions = std::mem::take(&mut self.actions);
            let now = self.account(Some(Duration::ZERO));
            let kind = Kind::of(&event);
            self.pools.step(now, event, &mut actions);
            self.publishing.after_step(now, kind, &actions);
            for action in actions.drain(..) {
                self.perform(action);
            }
            self.actions = actions;
        }
    }

    fn now(&self) -> Moment {
        self.clock.now()
    }

    /// The time, after something that may have taken as long as `expected` (`None`: any time).
    fn account(&mut self, expected: Option<Duration>) -> Moment {
        let (now, absence) = self.clock.account(expected);
        if let Some(absence) = absence {
            report::absence(absence);
        }
        now
    }
}
