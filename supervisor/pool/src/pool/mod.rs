//! Holds one pool: its slots and workers, its line and its books.
//!
//! The rest of the module is split by question: what happens to a connection (`connections`), to a worker
//! (`roster`), to what a worker leaves unclaimed (`recalling`), to one that stands still (`watching`, and its `requests`), to
//! what a worker accepts for itself (`by_itself`), a slot that has to change its worker (`moving`, for `rollout`, `renewal` or
//! `recycling`), to all workers while the pool rests (`pausing`), to the processes that fork workers (`templates`), to the number
//! of slots (`scaling`), to everything at the end (`stopping`), and what workers are told about
//! the line (`pressure`).

mod by_itself;
mod connections;
mod moving;
mod pausing;
mod pressure;
mod recalling;
mod recycling;
mod renewal;
mod requests;
mod rollout;
mod roster;
mod scaling;
mod stopping;
mod templates;
mod view;
mod watching;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ostler_config::checked::{self, Overflow};
use ostler_shared::scoreboard::Histogram;
use ostler_shared::scoreboard::content::Tally;
use ostler_shared::{Generation, PoolName, SlotNo, WorkerId};

use crate::action::Action;
use crate::balance::Balance;
use crate::books::Books;
use crate::event::{Change, Exit, PoolNo, Settings};
use crate::lifecycle::Visits;
use crate::line::Line;
use crate::note::{Note, Rescaled};
use crate::overdue::Overdue;
use crate::quantiles::Quantiles;
use crate::reason::{Failure, Shed};
use crate::restart::{BackOff, Intensity};
use crate::snapshot::ReloadOutcome;
use crate::timers::Timers;
use crate::turn::Turn;
use crate::worker::{Seat, Worker};
use crate::{Moment, SHED_NOTE_EVERY, SPAWN_SPACING};

use by_itself::Told;
use moving::Move;
pub(crate) use pausing::Activity;
use recycling::Recycling;
use renewal::Renewal;
pub(crate) use rollout::Progress;
use rollout::Rollout;
use scaling::Scaling;
use stopping::Stopping;
use templates::Templates;

/// Who has a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// A worker, by the deadline of its state.
    Life(Seat),
    /// A worker that refused a handoff.
    Rest(Seat),
    /// A worker that was stuck and has shown a sign of life.
    Recovery(Seat),
    /// A worker that is expected to beat.
    Pulse(Seat),
    /// A worker whose connections may be busy for too long.
    Marks(Seat),
    /// A slot that waits for its next worker.
    Vacancy(SlotNo),
    /// The next move of a rollout or a renewal.
    Move,
    /// A worker that will have served for long enough.
    Age(Seat),
    /// The next look at the memory of workers.
    Measure,
    /// The end of the probation of a rollout's workers.
    Probation,
    /// Accepting, after descriptors or memory ran out.
    Starved,
    /// A template, by the deadline of its state.
    TemplateLife(WorkerId),
    /// A generation that waits for its next template.
    Template(Generation),
    /// A worker that a template was asked for.
    Fork(Seat),
    /// The end of a pause.
    Resumed,
    /// The line, at a stop.
    LastCall,
    /// The next note about what was shed.
    ShedNote,
}

/// A numbered place in the pool.
#[derive(Debug)]
struct Slot {
    /// The worker that serves here, or starts to.
    incumbent: Option<Seat>,
    /// The one that will take over when it is READY.
    successor: Option<Seat>,
    /// Those that have to go; each is gone at its deadlines at the latest.
    leaving: Vec<Seat>,
    /// What the next worker here runs.
    settings: Arc<Settings>,
    back_off: BackOff,
    last_spawn: Option<Moment>,
    wait_until: Option<Moment>,
    /// It has had a READY worker.
    has_served: bool,
    restarts: u32,
    last_exit: Option<(Exit, Moment)>,
}

impl Slot {
    /// Before this no worker is started here.
    fn earliest_spawn(&self) -> Option<Moment> {
        self.last_spawn.map(|at| at + SPAWN_SPACING).max(self.wait_until)
    }
}

/// Whether a pool still tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Trying,
    /// It spent its intensity; only `restart` and `reload` start workers.
    Failed,
}

/// Whether a pool is part of what is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    InForce,
    /// A reload adds it and is not complete.
    OnTrial,
}

/// Whether the driver accepts for this pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    Closed,
}

#[derive(Debug)]
pub(crate) struct Pool {
    no: PoolNo,
    pub(crate) name: PoolName,
    /// The committed generation.
    settings: Arc<Settings>,
    /// The highest number ever used.
    newest: Generation,
    target: u32,
    scaling: Scaling,
    slots: BTreeMap<SlotNo, Slot>,
    workers: Vec<Option<Worker>>,
    free_seats: Vec<u32>,
    seats: BTreeMap<WorkerId, Seat>,
    /// Workers with a free place.
    free: Balance,
    /// Workers with room in their mailbox only.
    ahead: Balance,
    overdue: Overdue,
    /// Whose mailbox is looked into for what is overdue; until the answer nothing is handed out, since it is older.
    recalling: Option<Seat>,
    line: Line,
    books: Books,
    /// Tickets in mailboxes and hands, over all workers.
    outstanding: u64,
    timers: Timers<Key>,
    intensity: Intensity,
    health: Health,
    standing: Standing,
    /// The last failure that counted.
    last_failure: Option<Failure>,
    gate: Gate,
    starved: bool,
    /// Some worker has been READY at some time.
    has_served: bool,
    /// Every slot has had a READY worker at one time.
    was_complete: bool,
    rollout: Option<Rollout>,
    /// Slots that change their worker.
    moves: BTreeMap<SlotNo, Move>,
    renewal: Option<Renewal>,
    activity: Activity,
    recycling: Recycling,
    templates: Templates,
    stopping: Option<Stopping>,
    reload: ReloadOutcome,
    /// Whether all workers that ever served told what they accept.
    told: Told,
    queue_delay: Quantiles,
    service: Quantiles,
    /// The same since the start.
    waits: Histogram,
    services: Histogram,
    tally: Tally,
    /// What workers were told of the line.
    pressure: u16,
    /// Shed and not yet told.
    shed_untold: BTreeMap<Shed, u64>,
    shed_told_at: Option<Moment>,
    visits: Visits,
    /// Something changed for slots or workers since the last look.
    roster_changed: bool,
}

impl Pool {
    pub(crate) fn new(no: PoolNo, pool: &checked::Pool) -> Pool {
        let settings = Arc::new(Settings { generation: Generation::FIRST, pool: pool.clone() });
        let mut new = Pool {
            no,
            name: pool.name.clone(),
            newest: settings.generation,
            target: 0,
            scaling: Scaling::default(),
            slots: BTreeMap::new(),
            workers: Vec::new(),
            free_seats: Vec::new(),
            seats: BTreeMap::new(),
            free: Balance::new(pool.dispatch),
            ahead: Balance::new(pool.dispatch),
            overdue: Overdue::default(),
            recalling: None,
            line: Line::default(),
            books: Books::default(),
            outstanding: 0,
            timers: Timers::new(),
            intensity: Intensity::default(),
            health: Health::Trying,
            standing: Standing::InForce,
            last_failure: None,
            gate: Gate::Closed,
            starved: false,
            has_served: false,
            was_complete: false,
            rollout: None,
            moves: BTreeMap::new(),
            renewal: None,
            activity: Activity::Active,
            recycling: Recycling::default(),
            templates: Templates::default(),
            stopping: None,
            reload: ReloadOutcome::None,
            told: Told::Everything,
            queue_delay: Quantiles::new(),
            service: Quantiles::new(),
            waits: Histogram::default(),
            services: Histogram::default(),
            tally: Tally::default(),
            pressure: pressure::CALM,
            shed_untold: BTreeMap::new(),
            shed_told_at: None,
            visits: Visits::default(),
            roster_changed: true,
            settings,
        };
        new.open_slots(pool.workers.initial());
        new
    }

    /// A pool that a reload adds: it serves nobody before the commit.
    pub(crate) fn on_trial(no: PoolNo, pool: &checked::Pool, turn: &mut Turn<'_>) -> Pool {
        let mut new = Pool::new(no, pool);
        new.standing = Standing::OnTrial;
        // Even where none is needed yet, one shows that the program works.
        new.open_slots(new.target.max(1));
        new.begin_trial(turn);
        new
    }

    /// It serves, or is to: no reload is about to add it, and none has removed it.
    pub(crate) fn is_in_force(&self) -> bool {
        self.standing == Standing::InForce && !self.is_stopping()
    }

    /// When something is due without an event.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        [self.timers.earliest(), self.line_deadline(), self.overdue_deadline(), self.scaling.next_look()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does everything that is due.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        while let Some(key) = self.timers.take_due(turn.now) {
            match key {
                Key::Life(seat) => self.deadline_passed(turn, seat),
                Key::Rest(seat) => self.end_rest(seat),
                Key::Recovery(seat) => self.trust_again(turn, seat),
                Key::Pulse(seat) => self.take_pulse(turn, seat),
                Key::Marks(seat) => self.read_marks(turn, seat),
                Key::TemplateLife(id) => self.template_deadline_passed(turn, id),
                Key::Fork(seat) => self.fork_is_overdue(turn, seat),
                Key::Vacancy(_) | Key::Template(_) | Key::Move | Key::Probation => self.roster_changed = true,
                Key::Age(seat) => self.comes_of_age(turn, seat),
                Key::Measure => self.measure(turn),
                Key::Starved => self.starved = false,
                Key::Resumed => self.resume_is_late(),
                Key::LastCall => self.last_call(turn),
                Key::ShedNote => {} // told when the step is concluded
            }
        }
        self.shed_overdue(turn);
        self.find_overdue(turn.now);
    }

    /// Draws the conclusions of whatever has just happened. Called at the end of every step.
    ///
    /// # Panics
    /// When the books don't balance (I1).
    pub(crate) fn conclude(&mut self, turn: &mut Turn<'_>) {
        self.recall_overdue(turn);
        self.dispatch(turn);
        self.follow_the_load(turn);
        while std::mem::take(&mut self.roster_changed) {
            self.close_slots();
            self.keep_templates(turn);
            self.advance_moves(turn);
            self.fill_vacancies(turn);
            self.note_completeness(turn);
            self.dispatch(turn);
        }
        self.advance_pause(turn);
        self.forget_claimed();
        self.tell_shed(turn);
        self.advance_stop(turn);
        self.work_the_gate(turn);
        self.tell_pressure(turn);
        self.books.assert_balanced(self.line.len(), self.outstanding);
    }

    /// Notes what was shed: the first at once, then at most once in a while, so that a flood does not flood the log.
    fn tell_shed(&mut self, turn: &mut Turn<'_>) {
        if self.shed_untold.is_empty() {
            return;
        }
        match self.shed_told_at.map(|at| at + SHED_NOTE_EVERY) {
            Some(next) if next > turn.now && !self.is_stopping() => self.timers.set(Key::ShedNote, next),
            Some(_) | None => {
                self.shed_told_at = Some(turn.now);
                for (why, count) in std::mem::take(&mut self.shed_untold) {
                    turn.note(Note::Shed { pool: self.name.clone(), why, count });
                }
            }
        }
    }

    /// Whether a pool that never served has given up.
    pub(crate) fn start_failure(&self) -> Option<Failure> {
        if self.health == Health::Failed && !self.has_served { self.last_failure.clone() } else { None }
    }

    pub(crate) fn no(&self) -> PoolNo {
        self.no
    }

    pub(crate) fn visits(&self) -> &Visits {
        &self.visits
    }

    pub(crate) fn was_complete(&self) -> bool {
        self.was_complete
    }

    /// Changes the number of slots. Answers the new target.
    pub(crate) fn scale(&mut self, turn: &mut Turn<'_>, change: Change) -> u32 {
        let wanted = match change {
            Change::To(count) => count,
            Change::More(count) => self.target.saturating_add(count),
            Change::Fewer(count) => self.target.saturating_sub(count),
        };
        let (least, most) = self.bounds();
        self.set_target(turn, wanted.clamp(least, most), Rescaled::Asked);
        self.scaling.begin_anew();
        self.target
    }

    /// What it can be scaled to: fewest and most.
    pub(crate) fn bounds(&self) -> (u32, u32) {
        self.config().workers.bounds()
    }

    fn open_slots(&mut self, target: u32) {
        for number in 0..target {
            let settings = &self.settings;
            self.slots.entry(SlotNo(number)).or_insert_with(|| Slot {
                incumbent: None,
                successor: None,
                leaving: Vec::new(),
                settings: Arc::clone(settings),
                back_off: BackOff::default(),
                last_spawn: None,
                wait_until: None,
                has_served: false,
                restarts: 0,
                last_exit: None,
            });
        }
        self.target = target;
        self.roster_changed = true;
        self.look_again();
    }

    /// Whose it is.
    pub(crate) fn owner(&self) -> checked::Owner {
        self.config().owner()
    }

    fn config(&self) -> &checked::Pool {
        &self.settings.pool
    }

    /// Opens or closes accepting, and says so when that changes something.
    fn work_the_gate(&mut self, turn: &mut Turn<'_>) {
        let obstacle = self.obstacle_to_accepting();
        match (self.gate, obstacle) {
            (Gate::Open, Some(why)) => {
                self.gate = Gate::Closed;
                turn.act(Action::PauseAccept { pool: self.no });
                turn.note(Note::AcceptPaused { pool: self.name.clone(), why });
            }
            (Gate::Closed, None) => {
                self.gate = Gate::Open;
                turn.act(Action::ResumeAccept { pool: self.no });
                turn.note(Note::AcceptResumed { pool: self.name.clone() });
            }
            (Gate::Open, None) | (Gate::Closed, Some(_)) => {}
        }
    }

    fn obstacle_to_accepting(&self) -> Option<&'static str> {
        let queue = &self.config().queue;
        let full = self.line.len() >= queue.limit as usize;
        if self.accepts_by_itself() && !(self.is_shedding() && self.seats.is_empty()) {
            Some("workers accept for themselves")
        } else if self.standing == Standing::OnTrial {
            Some("its reload is not complete")
        } else if self.starved {
            Some("out of descriptors or memory")
        } else if self.is_shedding() {
            None
        } else if !self.has_served && !self.is_stopping() && self.bounds().0 > 0 {
            // The kernel's queue keeps early clients better than our line does: their deadline has not begun.
            Some("no worker has been ready yet")
        } else if full && queue.overflow == Overflow::Wait {
            Some("the waiting line is full")
        } else {
            None
        }
    }

    fn seat_of(&self, worker: WorkerId) -> Option<Seat> {
        self.seats.get(&worker).copied()
    }

    fn worker(&self, seat: Seat) -> &Worker {
        self.workers[seat.0 as usize].as_ref().expect("a seat in use has a worker")
    }

    fn worker_mut(&mut self, seat: Seat) -> &mut Worker {
        self.workers[seat.0 as usize].as_mut().expect("a seat in use has a worker")
    }

    fn slot_mut(&mut self, slot: SlotNo) -> &mut Slot {
        self.slots.get_mut(&slot).expect("a slot stays while a worker is in it")
    }

    fn all_workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().flatten()
    }

    fn all_seats(&self) -> Vec<Seat> {
        self.seats.values().copied().collect()
    }
}

/// The earlier of a deadline and, where there is one, a later bound on it.
fn at_most(at: Moment, bound: Option<Moment>) -> Moment {
    bound.map_or(at, |bound| at.min(bound))
}

/// Half of a time, for the two steps between TERM and KILL.
fn half(length: Duration) -> Duration {
    length / 2
}
