//! A world for the pool to live in: clients, fake workers, a clock, and an oracle that believes nobody.
//!
//! Every happening draws its chance from the seed and its own number, so that happenings can be left out without
//! changing what the others are.

mod by_itself;
mod doors;
mod fake;
mod happenings;
mod marks;
mod oracle;
mod plan;
mod recycling;
pub(crate) mod shrink;
mod templates;
mod trial;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ostler_config::checked;
use ostler_pool::{
    Action, Answer, Event, Exit, HangUp, Moment, Note, Origin, PoolNo, Pools, Pulse, Refusal, RequestId, Settings,
    Shed, Sign, Step, Uid, Urgency,
};
use ostler_shared::region::{Beats, Keeping};
use ostler_shared::{ConnId, PoolName, WorkerId, WorkerName};

use fake::{Fake, Probe, Process, Traits};
pub(crate) use marks::Marks;
pub(crate) use oracle::ExtraRule;
use oracle::Oracle;
use plan::Plan;

/// Happenings of a history, before everything is stopped.
pub(crate) const HAPPENINGS: usize = 300;

/// So often a driver may have to come back at once, because something was due already when it was found.
const TICKS_AT_ONCE_MAX: usize = 2;

/// Turns of the stop until it counts as endless.
const STOP_TURNS: usize = 10_000;

/// Where a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Driver,
    Mailbox,
    /// Claimed; its end may be written, but the pool has not read it.
    Hands,
    Done,
    Lost,
    Shed,
}

#[derive(Debug)]
pub(crate) struct Conn {
    pool: usize,
    uid: Option<Uid>,
    place: Place,
    accepted_at: u64,
    handed_at: u64,
    /// The client has hung up: whoever claims it is done with it at once.
    gone: bool,
}

/// Whether the history is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Journal {
    Off,
    Kept,
    Printed,
}

pub(crate) struct World {
    pools: Pools,
    pub(crate) now: u64,
    seed: u64,
    /// The chance of the happening under way.
    dice: fastrand::Rng,
    plan: Plan,
    config: Arc<checked::Config>,
    workers: BTreeMap<WorkerId, Fake>,
    templates: templates::Templates,
    /// By number, from 1.
    conns: Vec<Conn>,
    /// What a reload under way is to bring.
    aside: Option<doors::Aside>,
    /// By the number of a pool, as are the next two.
    accepting: Vec<bool>,
    refusing: Vec<bool>,
    /// Nobody is left in the kernel's queue.
    emptied: Vec<bool>,
    next_request: u64,
    open_requests: Vec<RequestId>,
    /// For which pools a configuration is to be read.
    config_wanted: Option<Vec<PoolName>>,
    stopping: Option<Urgency>,
    /// Once a stop has begun: from when on it refuses new clients.
    refuses_from: Option<u64>,
    /// A pool was given up, and that is to end everything.
    given_up: bool,
    finished: bool,
    pub(crate) journal: Vec<String>,
    journal_mode: Journal,
    pub(crate) marks: Marks,
    pending: VecDeque<Event>,
    /// Ended, not yet reported.
    dying: VecDeque<(WorkerId, Exit, Burial)>,
    /// The last who were buried: news of them may still be under way.
    graves: VecDeque<WorkerId>,
    oracle: Oracle,
    /// When everybody was last absent: a stopped machine. The pool's clock knows nothing of such times.
    back_at: u64,
}

/// An action without the whole configuration.
fn shown(action: &Action) -> String {
    match action {
        Action::Spawn { worker, name, settings, .. } => {
            let pool = &settings.pool;
            let (places, ahead, patience) = (pool.concurrency, pool.prefetch, pool.recall_after);
            format!("Spawn {worker} as {name}: concurrency {places}, prefetch {ahead}, recall_after {patience:?}")
        }
        Action::Adopt { .. } => "Adopt".to_owned(),
        other => format!("{other:?}"),
    }
}

/// When the pool hears of a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Burial {
    AtOnce,
    Later,
}

impl World {
    pub(crate) fn new(seed: u64, journal_mode: Journal, extra: Option<ExtraRule>) -> World {
        let plan = Plan::of(seed);
        let config = Arc::new(plan.config());
        let now = 1_000_000_000;
        let (pools, actions) = Pools::new(seed, &config, Moment::from_ns(now));
        let mut world = World {
            pools,
            now,
            seed,
            dice: fastrand::Rng::with_seed(seed),
            oracle: Oracle::new(&config, extra),
            config,
            workers: BTreeMap::new(),
            templates: BTreeMap::new(),
            conns: Vec::new(),
            aside: None,
            accepting: vec![false; plan.pools],
            refusing: vec![false; plan.pools],
            emptied: vec![false; plan.pools],
            next_request: 0,
            open_requests: Vec::new(),
            config_wanted: None,
            stopping: None,
            refuses_from: None,
            given_up: false,
            finished: false,
            journal: Vec::new(),
            journal_mode,
            marks: Marks::default(),
            pending: VecDeque::new(),
            dying: VecDeque::new(),
            graves: VecDeque::new(),
            back_at: 0,
            plan,
        };
        world.perform(actions);
        world
    }

    /// The happening with this number.
    pub(crate) fn happen(&mut self, number: usize) {
        if !self.finished {
            self.cast(number);
            self.something_happens();
        }
    }

    /// TERM, then a world that cooperates with the clock until everything is over.
    pub(crate) fn stop_and_wait(&mut self) {
        self.cast(HAPPENINGS);
        self.stopping.get_or_insert(Urgency::Graceful);
        self.step(Event::Stop { urgency: Urgency::Graceful });
        for turn in 1..STOP_TURNS {
            if self.finished {
                break;
            }
            self.cast(HAPPENINGS + turn);
            self.the_stop_goes_on();
        }
        assert!(self.finished, "the stop never ended");
        self.marks.visits = self.pools.visits();
        oracle::check_the_end(self);
    }

    /// Chance from here on depends on the seed and this number alone.
    fn cast(&mut self, number: usize) {
        let mixed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number as u64).wrapping_mul(0xd1b5_4a32_d192_ed03);
        self.dice = fastrand::Rng::with_seed(mixed);
        self.write(|_| format!("— {number}"));
    }

    fn strikes(&mut self, one_in: u32) -> bool {
        one_in > 0 && self.dice.u32(0..one_in) == 0
    }

    fn write(&mut self, line: impl FnOnce(u64) -> String) {
        match self.journal_mode {
            Journal::Off => {}
            Journal::Kept => self.journal.push(line(self.now)),
            Journal::Printed => println!("{}", line(self.now)),
        }
    }

    // ── the driver's part ──────────────────────────────────────────────────────────────────────────────────

    /// Takes in one event and everything that follows from it at once.
    fn step(&mut self, event: Event) {
        self.pending.push_back(event);
        self.go_on();
    }

    /// Takes in what is pending and everything that follows from it, then lets the oracle look.
    fn go_on(&mut self) {
        oracle::begin(self);
        self.take_in_what_is_pending();
        // What came back from a mailbox may have waited too long already: a driver comes back for that at once.
        for _ in 0..TICKS_AT_ONCE_MAX {
            if !self.finished && self.is_due() {
                self.pending.push_back(Event::Tick);
                self.take_in_what_is_pending();
            }
        }
        if !self.finished {
            assert!(!self.is_due(), "a deadline has passed and nothing is done about it");
            doors::check(self);
            oracle::check(self);
        }
    }

    fn is_due(&self) -> bool {
        self.pools.next_deadline().is_some_and(|at| at.as_ns() <= self.now)
    }

    fn take_in_what_is_pending(&mut self) {
        loop {
            while let Some(event) = self.pending.pop_front() {
                if self.finished {
                    return;
                }
                self.feed(event);
            }
            // Those who died of an action are buried behind all that was said before.
            let Some(place) = self.dying.iter().position(|(.., burial)| *burial == Burial::AtOnce) else { break };
            self.bury(place);
        }
    }

    fn feed(&mut self, event: Event) {
        self.write(|now| match &event {
            Event::ConfigRead { config: Ok(_) } => format!("{now} ConfigRead"),
            event => format!("{now} {event:?}"),
        });
        oracle::take_in(self, &event);
        let mut actions = Vec::new();
        self.pools.step(Moment::from_ns(self.now), event, &mut actions);
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.write(|_| format!("  {}", shown(&action)));
            match action {
                Action::ResumeAccept { pool } => {
                    assert!(self.oracle.pools[pool.0].in_force, "accepting for a pool before its reload is complete");
                    assert!(!std::mem::replace(&mut self.accepting[pool.0], true), "accepting was resumed twice");
                    by_itself::sweeping_begins(self, pool.0);
                }
                Action::PauseAccept { pool } => {
                    self.marks.paused += 1;
                    assert!(std::mem::replace(&mut self.accepting[pool.0], false), "accepting was paused twice");
                }
                Action::RefuseNew { pool } => self.refuse_new(pool),
                Action::Spawn { worker, pool, name, settings, origin } => {
                    self.spawn(worker, pool, name, &settings, origin);
                }
                Action::StartTemplate { template, pool, name, settings } => {
                    templates::start(self, template, pool, &name, &settings);
                }
                Action::Drain { worker } if templates::drain(self, worker) => {}
                Action::Signal { worker, step } if templates::signal(self, worker, step) => {}
                Action::HandOff { worker, conn } => self.hand_off(worker, conn),
                Action::Recall { worker } => self.recall(worker),
                Action::Probe { worker } => self.probe(worker),
                Action::TakePulse { worker } => self.take_pulse(worker),
                Action::ReadMarks { worker } => self.read_marks(worker),
                Action::Measure { pool, workers } => recycling::measure(self, pool, &workers),
                Action::Drain { worker } => {
                    oracle::check_drain(self, worker);
                    recycling::drained(self, worker);
                    let known = &mut self.workers.get_mut(&worker).expect("drained while it lives").known;
                    self.marks.stuck_and_replaced += u64::from(known.stuck && self.stopping.is_none());
                    (known.drained, known.serving) = (true, false);
                }
                Action::Signal { worker, step } => self.signal(worker, step),
                Action::Shed { conn, why, .. } => self.shed(conn, why),
                Action::TellPressure { pool, thousandths } => oracle::pressure_told(self, pool.0, thousandths),
                Action::ReadConfig { pools } => self.config_wanted = Some(pools),
                Action::OpenListeners => doors::open(self),
                Action::CloseAside => doors::close_aside(self),
                Action::Adopt { config, pools } => self.adopt(config, &pools),
                Action::Forget { pool } => oracle::forget(self, pool.0),
                Action::AllReady => {}
                Action::Progress { request, .. } => {
                    assert!(self.open_requests.contains(&request), "told how it goes though nobody waits");
                }
                Action::Answer { request, answer } => self.answered(request, &answer),
                Action::Note(note) => self.noted(&note),
                Action::Finished { .. } => {
                    doors::check_nothing_aside(self);
                    self.finished = true;
                }
            }
        }
    }

    fn adopt(&mut self, config: Arc<checked::Config>, pools: &[PoolNo]) {
        doors::adopt(self, &config);
        oracle::adopt(self, &config, pools);
        self.config = config;
    }

    /// A pool that never served has no listeners, and nobody in their queues.
    fn refuse_new(&mut self, pool: PoolNo) {
        assert!(
            self.refuses_from.is_none_or(|from| self.now >= from),
            "clients are refused before shutdown_delay is over"
        );
        self.refusing[pool.0] = true;
        if !self.oracle.pools[pool.0].in_force {
            self.kernel_queue_is_empty(pool.0);
        }
    }

    fn kernel_queue_is_empty(&mut self, pool: usize) {
        self.emptied[pool] = true;
        self.pending.push_back(Event::KernelQueueEmpty { pool: PoolNo(pool) });
    }

    fn spawn(&mut self, worker: WorkerId, pool: PoolNo, name: WorkerName, settings: &Settings, origin: Origin) {
        trial::check_spawn(self, pool.0, &name, settings);
        oracle::check_spawn(self, pool.0, name.generation);
        recycling::check_spawn(self, pool.0, &name);
        let faults = self.plan.faults;
        let mut traits = Traits {
            mute: self.strikes(faults.mute),
            idle: self.strikes(faults.idle),
            stubborn: self.strikes(faults.stubborn),
            keeping: if self.dice.u32(0..4) == 0 { Keeping::Nothing } else { Keeping::Marks },
            beats: [Beats::Never, Beats::WhileIdle, Beats::Always, Beats::Always][self.dice.usize(0..4)],
        };
        let comes = match origin {
            Origin::Exec => true,
            Origin::Template(template) => templates::fork(self, template, worker, &name),
        };
        if !comes {
            return;
        }
        if origin == Origin::Exec && self.strikes(faults.spawn_fails) {
            self.marks.spawn_failed += 1;
            return self.pending.push_back(Event::SpawnFailed { worker, why: "EAGAIN".into() });
        }
        if origin == Origin::Exec && self.strikes(faults.exec_fails) {
            self.marks.exec_failed += 1;
            traits.mute = true;
            self.pending.push_back(Event::ExecFailed { worker, why: "ENOENT".into() });
        }
        let fake = Fake::new(pool.0, name, settings, traits);
        assert!(self.workers.insert(worker, fake).is_none(), "{worker} was spawned twice");
    }

    fn hand_off(&mut self, worker: WorkerId, conn: ConnId) {
        oracle::check_choice(self, worker);
        let (busy, closed) = (self.plan.faults.busy, self.plan.faults.closed);
        self.workers.get_mut(&worker).unwrap().known.tickets.insert(conn);
        if self.strikes(busy) {
            self.marks.refused_busy += 1;
            self.pending.push_back(Event::HandOffRefused { worker, conn, why: Refusal::Busy });
        } else if self.strikes(closed) {
            self.marks.refused_closed += 1;
            self.pending.push_back(Event::HandOffRefused { worker, conn, why: Refusal::Closed });
        } else {
            self.move_conn(conn, Place::Driver, Place::Mailbox);
            self.conns[conn.0 as usize - 1].handed_at = self.now;
            self.workers.get_mut(&worker).unwrap().mailbox.push_back(conn);
        }
    }

    fn recall(&mut self, worker: WorkerId) {
        let half = self.plan.faults.half_recalls;
        let Some(fake) = self.workers.get(&worker) else { return };
        let (found, honest, pool) = (fake.mailbox.len(), !fake.known.liar, fake.pool);
        let taken = if found > 0 && honest && self.strikes(half) { self.dice.usize(0..found) } else { found };
        let fake = self.workers.get_mut(&worker).unwrap();
        let conns: Vec<ConnId> = fake.mailbox.drain(..taken).collect();
        if taken < found {
            self.marks.recall_starved += 1;
            fake.known.starved_at = self.now;
            self.pending.push_back(Event::AcceptStarved { pool: PoolNo(pool) });
        }
        self.marks.recalled += taken as u64;
        self.marks.recalled_nothing += u64::from(found == 0);
        conns.iter().for_each(|conn| self.move_conn(*conn, Place::Mailbox, Place::Driver));
        self.pending.push_back(Event::Recalled { worker, conns });
    }

    fn probe(&mut self, worker: WorkerId) {
        let fake = self.workers.get_mut(&worker).expect("asked while it lives");
        assert_eq!(std::mem::replace(&mut fake.known.probe, Probe::Asked), Probe::None, "{worker} was asked twice");
        self.marks.probe_unanswered_by_a_stopped_worker += u64::from(fake.is_stopped());
    }

    /// What the driver would read in its memory, at once.
    fn take_pulse(&mut self, worker: WorkerId) {
        by_itself::tell(self, worker);
        let (now, back_at, heartbeat) = (self.now, self.back_at, self.plan.heartbeat);
        let fake = self.workers.get_mut(&worker).expect("looked at while it lives");
        let heard_at = fake.heard_at(now).max(back_at);
        let is_late = Duration::from_nanos(now - heard_at.max(fake.known.ready_at.unwrap_or(0))) >= heartbeat;
        self.marks.beat_when_doubted += u64::from(fake.known.doubted && !is_late);
        fake.known.doubted = is_late && fake.should_beat();
        let pulse = Pulse { beats: fake.traits.beats, heard_at: Some(Moment::from_ns(heard_at)) };
        self.pending.push_back(Event::Pulse { worker, pulse });
    }

    /// As well.
    fn read_marks(&mut self, worker: WorkerId) {
        let (now, back_at, request) = (self.now, self.back_at, self.plan.request);
        let fake = &self.workers[&worker];
        let sign = |conn: &ConnId| match fake.busy.get(conn) {
            Some(since) => Sign::Busy { since: Moment::from_ns(back_at.max(*since)) },
            None => Sign::Idle,
        };
        let mut signs: Vec<(ConnId, Sign)> = match fake.traits.keeping {
            Keeping::Nothing => Vec::new(),
            Keeping::Marks => fake.hands.iter().map(|conn| (*conn, sign(conn))).collect(),
        };
        let held_for = |conn: &ConnId| Duration::from_nanos(now - self.conns[conn.0 as usize - 1].handed_at);
        let idle = signs.iter().filter(|(conn, sign)| *sign == Sign::Idle && held_for(conn) > request).count();
        self.marks.idle_for_longer_than_a_request += idle as u64;
        if self.strikes(10) {
            let conn = ConnId(self.dice.u64(1..self.conns.len() as u64 + 9));
            if !self.workers[&worker].known.tickets.contains(&conn) {
                self.marks.marked_what_is_not_its += 1;
                signs.push((conn, Sign::Busy { since: Moment::from_ns(0) }));
            }
        }
        let keeping = self.workers[&worker].traits.keeping;
        self.pending.push_back(Event::Marks { worker, marks: ostler_pool::Marks { keeping, signs } });
    }

    fn signal(&mut self, worker: WorkerId, step: Step) {
        let burial = self.draw_burial();
        oracle::check_signal(self, worker, step);
        // One whose spawn failed may be given up before the pool has heard of it.
        let Some(fake) = self.workers.get_mut(&worker) else { return };
        fake.known.serving = false;
        fake.known.first_signal_at.get_or_insert(self.now);
        match (step, fake.process) {
            (Step::Kill, _) => {
                self.marks.killed += 1;
                self.die(worker, Exit::Signal(9), burial);
            }
            (Step::Term | Step::Abort, _) if fake.traits.stubborn => {}
            (Step::Term | Step::Abort, Process::Runs) => self.die(worker, Exit::Signal(15), Burial::AtOnce),
            (Step::Term | Step::Abort, Process::Stopped | Process::StoppedWithTerm) => {
                self.marks.term_while_stopped += 1;
                fake.process = Process::StoppedWithTerm;
            }
            (Step::Term | Step::Abort, Process::Dead) => {}
        }
    }

    fn shed(&mut self, conn: ConnId, why: Shed) {
        oracle::check_shed(self, conn, why);
        match why {
            Shed::QueueFull => self.marks.queue_full += 1,
            Shed::QueueTimeout => self.marks.queue_timeout += 1,
            Shed::ClientGone => self.marks.client_gone += 1,
            Shed::PerUid => self.marks.per_uid += 1,
            Shed::Stopping => self.marks.shed_stopping += 1,
        }
        self.move_conn(conn, Place::Driver, Place::Shed);
    }

    fn draw_burial(&mut self) -> Burial {
        if self.strikes(self.plan.faults.late_burials) { Burial::Later } else { Burial::AtOnce }
    }

    /// The process is gone. The supervisor learns of it later; until then the mailbox takes what it is sent.
    fn die(&mut self, worker: WorkerId, exit: Exit, burial: Burial) {
        let Some(fake) = self.workers.get_mut(&worker).filter(|fake| !fake.is_dead()) else { return };
        fake.process = Process::Dead;
        fake.stands_still.get_or_insert(self.now);
        self.dying.push_back((worker, exit, burial));
    }

    /// What it had published is read, its mailbox emptied, then the pool hears of the death.
    fn bury(&mut self, place: usize) {
        let (worker, exit, _) = self.dying.remove(place).expect("somebody died");
        self.read_ring(worker);
        while let Some(event) = self.pending.pop_front() {
            self.feed(event);
        }
        let fake = self.workers.remove(&worker).expect("who dies was alive");
        trial::buried(self, &fake);
        self.marks.record_lost_unpublished += fake.unpublished.len() as u64;
        for conn in fake.hands.into_iter().chain(fake.unpublished.iter().map(|record| record.conn)) {
            self.move_conn(conn, Place::Hands, Place::Lost);
            self.marks.lost += 1;
        }
        for conn in &fake.mailbox {
            self.move_conn(*conn, Place::Mailbox, Place::Driver);
            self.marks.redelivered += 1;
        }
        self.graves.push_back(worker);
        if self.graves.len() > 4 {
            self.graves.pop_front();
        }
        self.feed(Event::Died { worker, exit, unclaimed: fake.mailbox.into() });
        if self.strikes(3) {
            self.marks.death_before_eof += 1;
            self.pending.push_back(Event::HungUp { worker, how: HangUp::ChannelClosed });
        }
    }

    /// Turns what a worker has published into events.
    fn read_ring(&mut self, worker: WorkerId) {
        by_itself::tell(self, worker);
        let Some(fake) = self.workers.get_mut(&worker) else { return };
        self.marks.record_read_after_death += if fake.is_dead() { fake.ring.len() as u64 } else { 0 };
        for record in std::mem::take(&mut fake.ring) {
            self.pending.push_back(Event::Completed { worker, completion: record.completion() });
        }
    }

    fn move_conn(&mut self, conn: ConnId, from: Place, to: Place) {
        let known = &mut self.conns[conn.0 as usize - 1];
        assert_eq!(known.place, from, "I1: {conn} is moved to {to:?}");
        known.place = to;
        self.oracle.moved(known.pool, from, to);
    }

    fn answered(&mut self, request: RequestId, answer: &Answer) {
        let place = self.open_requests.iter().position(|open| *open == request);
        self.open_requests.swap_remove(place.unwrap_or_else(|| panic!("{request:?} was answered twice")));
        match answer {
            Answer::Reloaded { .. } => {
                doors::check_nothing_aside(self);
                self.marks.reloaded += 1;
            }
            Answer::Undone { .. } => {
                doors::check_nothing_aside(self);
                self.marks.undone += 1;
            }
            Answer::Restarted => self.marks.restarted += 1,
            Answer::NotRestarted { .. } => self.marks.not_restarted += 1,
            Answer::Paused { .. } => self.marks.pause_answered += 1,
            Answer::Resumed { .. } => self.marks.resumed += 1,
            Answer::NotResumed { .. } => self.marks.not_resumed += 1,
            Answer::ResumesSlowly { .. } => self.marks.resumed_slowly += 1,
            Answer::Recycled => self.marks.recycled_as_wished += 1,
            Answer::NotRecycled { .. } => self.marks.not_recycled += 1,
            Answer::Scaled { .. } | Answer::Refused { .. } => {}
        }
    }

    fn noted(&mut self, note: &Note) {
        recycling::note(self, note);
        oracle::note(self, note);
        match note {
            Note::UndoBegun { .. } => doors::undo_begun(self),
            Note::UndoStuck { .. } => self.marks.undo_stuck += 1,
            Note::PoolFailed { pool, .. } => {
                self.marks.pool_failed += 1;
                self.marks.pool_failed_during_a_delay += u64::from(self.refuses_from.is_some());
                self.given_up |= oracle::brings_down(self, pool.as_str());
            }
            Note::Leaves { cause: ostler_pool::Cause::NeverReady, .. } => self.marks.never_ready += 1,
            Note::StopDelayed { .. } => self.marks.stop_delayed += 1,
            Note::Stuck { .. } if self.stopping.is_some() => self.marks.stuck_at_a_stop += 1,
            _ => {}
        }
        if let Note::StopBegun { urgency } = note {
            self.stop_begun(*urgency);
            self.stopping = self.stopping.max(Some(*urgency));
        }
    }

    /// Nobody may have asked for it, but then there is a reason; and a slow one has its delay.
    fn stop_begun(&mut self, urgency: Urgency) {
        let unasked = self.stopping.is_none();
        match urgency {
            Urgency::Now => {
                self.marks.start_failed += u64::from(unasked);
                self.marks.delay_cut_short += u64::from(self.refuses_from.is_some_and(|from| self.now < from));
                self.refuses_from = Some(self.now);
            }
            Urgency::Graceful => {
                assert!(!unasked || self.given_up, "everything ends and nobody knows why");
                self.marks.brought_down += u64::from(unasked);
                assert_eq!(self.refuses_from, None, "a stop begins that is under way");
                self.refuses_from = Some(self.now + oracle::ns(self.plan.shutdown_delay));
            }
        }
    }
}
