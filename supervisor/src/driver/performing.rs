//! Performs actions, one after the other; what goes wrong comes back as an event.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use ostler_config::checked::{Handoff, Program};
use ostler_pool::{Action, Event, Marks, NoConfig, Origin, PoolNo, Pulse, Refusal, Sign};
use ostler_shared::marks;
use ostler_shared::region::{Beats, Gate};
use ostler_shared::sys::clock::monotonic_ns;
use ostler_shared::{ConnId, PoolName, WorkerId, packet};

use super::accepting::Watch;
use super::jobs::{Fresh, Job};
use super::link::{Emptied, Link, Role};
use super::listeners::errno_of;
use super::parking::Parked;
use super::sources::Source;
use super::visits::From;
use super::worker_notify::Notices;
use super::{Driver, child, limits, spawn};
use crate::{logging, report};

impl Driver {
    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::HandOff { worker, conn } => self.hand_off(worker, conn),
            Action::ResumeAccept { pool } => self.watch_doors(pool, Watch::On),
            Action::PauseAccept { pool } => self.watch_doors(pool, Watch::Off),
            Action::RefuseNew { pool } => self.refuse_new(pool),
            Action::Spawn { worker, pool, name, settings, origin } => {
                let order = spawn::Order { worker, pool, name: &name, settings: &settings, role: Role::Worker };
                match origin {
                    Origin::Exec => self.spawn(&order),
                    Origin::Template(template) => self.ask_for_a_worker(&order, template),
                }
            }
            Action::StartTemplate { template, pool, name, settings } => {
                self.adopt_orphans();
                let role = Role::Template;
                self.spawn(&spawn::Order { worker: template, pool, name: &name, settings: &settings, role });
            }
            Action::Recall { worker } => self.recall(worker),
            Action::Probe { worker } => self.ask_for_a_sign_of_life(worker),
            Action::TakePulse { worker } => self.take_pulse(worker),
            Action::ReadMarks { worker } => self.read_marks(worker),
            Action::Measure { pool, workers } => self.measure(pool, &workers),
            Action::Drain { worker } => self.drain(worker),
            Action::Signal { worker, step } => self.signal(worker, step),
            Action::Shed { conn, why, farewell } => {
                self.visit_shed(conn, why);
                self.let_go(conn, &farewell);
            }
            Action::TellPressure { pool, thousandths } => self.tell_pressure(pool, thousandths),
            Action::ReadConfig { pools } => self.read_config(pools),
            Action::OpenListeners => self.open_listeners(),
            Action::CloseAside => self.close_aside(),
            Action::Adopt { config, pools } => self.adopt(config, &pools),
            Action::Forget { pool } => self.forget(pool),
            Action::AllReady => self.readiness.all_ready(),
            Action::Answer { request, answer } => {
                self.write_epitaph(report::failure_answered(&answer));
                self.answer(request, &answer);
            }
            Action::Progress { request, news } => self.tell_progress(request, &news),
            Action::Note(note) => self.note(&note),
            Action::Finished { ended } => {
                self.hooks.finish(self.clock.now());
                self.ended = Some(ended);
            }
        }
    }

    fn hand_off(&mut self, worker: WorkerId, conn: ConnId) {
        let Parked { connection, ticket, pool } = self.parking.take(conn, &self.sources);
        let link = &self.workers[&worker];
        let error = match packet::hand_off(link.mailbox.as_fd(), connection.as_fd(), &ticket) {
            Ok(()) => {
                self.rings.handed(link.ring);
                return self.visit_handed(conn, worker); // our copy is closed here
            }
            Err(error) => error,
        };
        self.parking.park(Parked { connection, ticket, pool }, monotonic_ns());
        let why = match errno_of(&error) {
            // EPERM: it refuses descriptors (SO_PASSRIGHTS).
            Errno::EPIPE | Errno::ECONNRESET | Errno::EPERM => Refusal::Closed,
            // EAGAIN, ETOOMANYREFS, ENOBUFS, ENOMEM; whatever else there may be, waiting loses nothing.
            _ => Refusal::Busy,
        };
        tracing::debug!(worker = %link.name, %conn, "cannot hand over: {error} (will try again)");
        self.events.push_back(Event::HandOffRefused { worker, conn, why });
    }

    fn spawn(&mut self, order: &spawn::Order<'_>) {
        let (worker, name) = (order.worker, order.name);
        let board = match order.settings.pool.program {
            Program::Admin => self.publishing.board(),
            Program::Hello | Program::Command(_) | Program::Pipeline(_) => Ok(None),
        };
        let spawned = board.and_then(|board| {
            let entrance = self.entrance_for(order)?;
            spawn::spawn(order, &entrance, board, self.limits, &mut self.rings)
        });
        match spawned.and_then(|link| self.take_on(worker, link)) {
            Ok(pid) => tracing::debug!(worker = %name, pid = pid.as_raw(), "started"),
            Err(error) => {
                let why = format!("cannot start a process: {error}{}", spawn_remedy(&error));
                self.events.push_back(Event::SpawnFailed { worker, why });
            }
        }
    }

    /// A process is there: from now on it is listened to.
    pub(super) fn take_on(&mut self, worker: WorkerId, link: Link) -> io::Result<Pid> {
        if let Err(error) = self.watch(worker, &link) {
            // Unwatched it would be nobody's. The sweep reaps it as a stranger.
            let _killed = child::signal_group(link.pid, Signal::SIGKILL as i32);
            self.rings.close(link.ring);
            return Err(error);
        }
        if let Some(thousandths) = self.pressures.get(&link.pool) {
            self.rings.set_pressure(link.ring, *thousandths);
        }
        let pid = link.pid;
        self.pids.insert(pid, worker);
        self.begin_to_look(worker, &link);
        self.workers.insert(worker, link);
        Ok(pid)
    }

    fn watch(&self, worker: WorkerId, link: &Link) -> io::Result<()> {
        self.sources.add(&link.pidfd, Source::Process(worker))?;
        link.control.iter().try_for_each(|control| self.sources.add(control, Source::Control(worker)))?;
        self.sources.add_doorbell(&link.doorbell, Source::Doorbell(worker))?;
        link.notices.iter().try_for_each(|notices| self.sources.add(notices, Source::Notices(worker)))?;
        let pipes = [(&link.output, Source::Output(worker)), (&link.errors, Source::Errors(worker))];
        for (pipe, source) in pipes.into_iter().filter_map(|(pipe, source)| Some((pipe.as_ref()?, source))) {
            self.sources.add(pipe, source)?;
        }
        link.exec.iter().try_for_each(|exec| self.sources.add(exec, Source::Exec(worker)))
    }

    fn recall(&mut self, worker: WorkerId) {
        let Some(link) = self.workers.get(&worker) else { return };
        let mut conns = Vec::new();
        let emptied = link.recall(&mut self.parking, &mut conns);
        self.rings.returned(link.ring, conns.len());
        self.visits_return(&conns, From::TheLiving);
        self.knock_again(worker);
        let Some(link) = self.workers.get(&worker) else { return };
        if emptied == Emptied::Starved {
            // First, so that the pool knows of the answer that it is not the whole one.
            self.events.push_back(Event::AcceptStarved { pool: link.pool });
        }
        self.events.push_back(Event::Recalled { worker, conns });
        match emptied {
            // What starvation leaves in the mailbox stays the worker's to claim, or ours when it dies.
            Emptied::Wholly | Emptied::Starved => {}
            Emptied::WithLosses => {
                let how = "changed what can be read back from its mailbox".to_owned();
                self.events.push_back(Event::Misbehaved { worker, how });
            }
        }
    }

    /// When a worker last beat, in the time of the pools.
    fn take_pulse(&mut self, worker: WorkerId) {
        self.count_own(worker);
        let Some(link) = self.workers.get(&worker) else { return };
        let hints = self.rings.hints(link.ring);
        // Whoever has once given a sign by WATCHDOG=1 has promised to go on, as to a service manager.
        let said = link.notices.as_ref().and_then(Notices::alive_at_ns).filter(|_| link.notifies_its_life());
        let (beats, heard_ns) = match said {
            Some(at) => (Beats::Always, Some(at)),
            None => (hints.beats, hints.heartbeat_ns),
        };
        let pulse = Pulse { beats, heard_at: heard_ns.map(|at| self.clock.lived_at(at)) };
        self.events.push_back(Event::Pulse { worker, pulse });
    }

    /// Which connections of a worker are busy since when, in the time of the pools.
    fn read_marks(&mut self, worker: WorkerId) {
        let Some(link) = self.workers.get(&worker) else { return };
        let signs = self.rings.marks(link.ring).map(|(conn, sign)| {
            let sign = match sign {
                marks::Sign::Idle => Sign::Idle,
                marks::Sign::Unmarked => Sign::Unmarked,
                marks::Sign::Busy { since_ns } => Sign::Busy { since: self.clock.lived_at(since_ns) },
            };
            (conn, sign)
        });
        let marks = Marks { signs: signs.collect(), keeping: self.rings.keeping(link.ring) };
        self.events.push_back(Event::Marks { worker, marks });
    }

    fn tell_pressure(&mut self, pool: PoolNo, thousandths: u16) {
        self.pressures.insert(pool, thousandths);
        for link in self.workers.values().filter(|link| link.pool == pool) {
            self.rings.set_pressure(link.ring, thousandths);
        }
    }

    fn drain(&mut self, worker: WorkerId) {
        let Some(link) = self.workers.get(&worker) else { return };
        match link.settings.pool.handoff {
            Handoff::Pass | Handoff::Stdio => {
                self.rings.set_gate(link.ring, Gate::Closed);
                link.drain();
            }
            Handoff::Accept => self.prepare_goodbye(worker),
            Handoff::Listen => {
                let has_spoken = link.has_spoken();
                self.rings.set_gate(link.ring, Gate::Closed);
                link.drain();
                // Who has not said Hello hears nothing of that.
                if !has_spoken {
                    self.ask_to_leave(worker);
                }
            }
        }
    }

    fn read_config(&mut self, only: Vec<PoolName>) {
        let patience = self.patience();
        self.readiness.reloading(patience);
        let (reread, current, hard) = (Arc::clone(&self.reread), Arc::clone(&self.config), self.limits.hard);
        let job = Job::ReadConfig(Box::new(move || {
            let file = reread()?;
            let plan = ostler_config::plan(&current, &file, &only).map_err(|reasons| reasons.join("\n"))?;
            // Pools that go live beside those that come until they are empty.
            let mut both = plan.config.clone();
            both.pools.extend(current.pools.iter().filter(|pool| plan.removed.contains(&pool.name)).cloned());
            limits::check(&both, hard).map_err(|too_few| too_few.to_string())?;
            let log = logging::prepare(&current.supervisor.log, &plan.config.supervisor.log);
            let log = log.map_err(|error| error.to_string())?;
            Ok(Fresh { config: Arc::new(plan.config), log })
        }));
        if self.jobs.ask(job).is_err() {
            let config = Err(NoConfig::Unusable("the helper thread is busy: try again".to_owned()));
            self.events.push_back(Event::ConfigRead { config });
        }
    }
}

pub(super) fn spawn_remedy(error: &io::Error) -> &'static str {
    match errno_of(error) {
        Errno::EAGAIN => " (this user or this group of processes may have no more: raise `ulimit -u` or pids.max)",
        Errno::ENOMEM => " (no memory)",
        Errno::EMFILE | Errno::ENFILE => " (no descriptors: raise the limit)",
        _ => "",
    }
}
