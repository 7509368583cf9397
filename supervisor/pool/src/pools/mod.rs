//! Holds all pools together: one step for every event, and the stop of everything.

mod ending;
mod pausing;
mod reload;

use std::collections::BTreeMap;
use std::sync::Arc;

use ostler_config::checked::Config;
use ostler_shared::{PoolName, WorkerId};

use crate::Moment;
use crate::action::{Action, Answer};
use crate::event::{Change, Event, PoolNo, RequestId, Urgency};
use crate::lifecycle::Visits;
use crate::pool::Pool;
use crate::reason::Failure;
use crate::snapshot::{PoolSnapshot, Timer, Totals};
use crate::turn::Turn;
use ending::Delay;
use pausing::{Waiter, Wish};
use reload::{Batch, Reload};

/// Everything that ostler decides, for all pools.
#[derive(Debug)]
pub struct Pools {
    /// By number, ascending.
    pools: Vec<Pool>,
    next_pool: usize,
    /// Which pool a living worker belongs to.
    owners: BTreeMap<WorkerId, PoolNo>,
    next_worker: u64,
    rng: fastrand::Rng,
    /// What is in force.
    config: Arc<Config>,
    stop: Option<Urgency>,
    /// A stop has begun that refuses nobody yet.
    delay: Option<Delay>,
    /// Why everything ends, when nobody asked for it.
    start_failed: Option<(PoolName, Failure)>,
    /// As well.
    brought_down: Option<(PoolName, Failure)>,
    reload: Reload,
    /// Asked for while one is under way that has read its file.
    next_reload: Option<Batch>,
    /// Who waits for a pause, or for its end.
    waiters: Vec<Waiter>,
    said_ready: bool,
    finished: bool,
}

impl Pools {
    /// Pools as configured, and the first actions. `seed` feeds every choice that is left to chance (I10).
    #[must_use]
    pub fn new(seed: u64, config: &Arc<Config>, now: Moment) -> (Pools, Vec<Action>) {
        let pools = config.pools.iter().enumerate().map(|(no, pool)| Pool::new(PoolNo(no), pool)).collect();
        let mut new = Pools {
            next_pool: config.pools.len(),
            pools,
            owners: BTreeMap::new(),
            next_worker: 0,
            rng: fastrand::Rng::with_seed(seed),
            config: Arc::clone(config),
            stop: None,
            delay: None,
            start_failed: None,
            brought_down: None,
            reload: Reload::Idle,
            next_reload: None,
            waiters: Vec::new(),
            said_ready: false,
            finished: false,
        };
        let mut actions = Vec::new();
        new.step(now, Event::Tick, &mut actions);
        (new, actions)
    }

    /// Takes in one event and appends what is to be done. Deadlines that have passed count as passed first.
    ///
    /// # Panics
    /// When our own books contradict each other (I1), or the driver reports what can't be (a worker dead twice).
    pub fn step(&mut self, now: Moment, event: Event, out: &mut Vec<Action>) {
        let before = out.len();
        let mut touched = Touched::None;
        let mut turn = Turn { now, out, next_worker: &mut self.next_worker, rng: &mut self.rng };
        for pool in &mut self.pools {
            if pool.next_deadline().is_some_and(|at| at <= now) {
                pool.tick(&mut turn);
                touched = touched.and(pool.no());
            }
        }
        touched = touched.and_all(self.end_delay(now, out)).and_all(self.take_in(now, event, out));
        self.conclude(now, touched, out, before);
        self.keep_owners(&out[before..]);
    }

    /// When [`step`](Self::step) has to be called with [`Event::Tick`] at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        let delay = self.delay.as_ref().map(|delay| delay.until);
        self.pools.iter().filter_map(Pool::next_deadline).chain(delay).min()
    }

    /// The pools as they are now. Mutable only because quantiles forget what is too old when they are asked.
    pub fn snapshot(&mut self, now: Moment) -> Vec<PoolSnapshot> {
        self.pools.iter_mut().map(|pool| pool.snapshot(now)).collect()
    }

    /// Where the connections of a pool are. Cheap, unlike [`snapshot`](Self::snapshot).
    ///
    /// # Panics
    /// When there is no such pool.
    #[must_use]
    pub fn totals(&self, pool: PoolNo) -> Totals {
        self.pool(pool).totals()
    }

    /// What is due in a pool without an event, the next first.
    ///
    /// # Panics
    /// When there is no such pool.
    #[must_use]
    pub fn timers(&self, pool: PoolNo) -> Vec<Timer> {
        self.pool(pool).timer_rows()
    }

    /// How often each cell of the [table](crate::table) of a worker's life was passed, for tests that prove that they
    /// reach all of them.
    #[must_use]
    pub fn visits(&self) -> Visits {
        let mut visits = Visits::default();
        self.pools.iter().for_each(|pool| visits.add(pool.visits()));
        visits
    }

    /// A reload or its undo is under way.
    #[must_use]
    pub fn is_reloading(&self) -> bool {
        !matches!(self.reload, Reload::Idle)
    }

    /// Everything is being ended.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.is_some()
    }

    // ── events ─────────────────────────────────────────────────────────────────────────────────────────────

    fn take_in(&mut self, now: Moment, event: Event, out: &mut Vec<Action>) -> Touched {
        match event {
            Event::Tick => Touched::None,
            Event::Accepted { pool, conn, uid } => self.at(pool, now, out, |pool, turn| pool.accepted(turn, conn, uid)),
            Event::ClientGone { pool, conn } => self.at(pool, now, out, |pool, turn| pool.client_gone(turn, conn)),
            Event::AcceptStarved { pool } => self.at(pool, now, out, Pool::accept_starved),
            Event::KernelQueueEmpty { pool } => self.at(pool, now, out, |pool, _| pool.kernel_queue_empty()),
            Event::Recalled { worker, conns } => {
                self.of(worker, now, out, |pool, turn| pool.recalled(turn, worker, &conns))
            }
            Event::HandOffRefused { worker, conn, why } => {
                self.of(worker, now, out, |pool, turn| pool.hand_off_refused(turn, worker, conn, why))
            }
            Event::Ready { worker } => self.of(worker, now, out, |pool, turn| pool.ready(turn, worker)),
            Event::Pulse { worker, pulse } => {
                self.of(worker, now, out, |pool, turn| pool.pulse_taken(turn, worker, pulse))
            }
            Event::Marks { worker, marks } => {
                self.of(worker, now, out, |pool, turn| pool.marks_read(turn, worker, &marks))
            }
            Event::Alive { worker } => self.of(worker, now, out, |pool, turn| pool.alive(turn, worker)),
            // The pool may have ended while its workers were looked at.
            Event::Measured { pool, .. } if !self.pools.iter().any(|known| known.no() == pool) => Touched::None,
            Event::Measured { pool, sizes } => self.at(pool, now, out, |pool, turn| pool.measured(turn, &sizes)),
            Event::Completed { worker, completion } => {
                self.of(worker, now, out, |pool, turn| pool.completed(turn, worker, completion))
            }
            Event::Introduced { worker } => self.of(worker, now, out, |pool, _| pool.introduced(worker)),
            Event::Taken { worker, total, unrecorded } => {
                self.of(worker, now, out, |pool, turn| pool.taken(turn, worker, total, unrecorded))
            }
            Event::HungUp { worker, how } => self.of(worker, now, out, |pool, turn| pool.hung_up(turn, worker, how)),
            Event::Misbehaved { worker, how } => {
                self.of(worker, now, out, |pool, turn| pool.misbehaved(turn, worker, how))
            }
            Event::ExecFailed { worker, why } => self.of(worker, now, out, |pool, _| pool.exec_failed(worker, why)),
            Event::SpawnFailed { worker, why } => {
                let touched = self.of(worker, now, out, |pool, turn| pool.spawn_failed(turn, worker, why));
                self.owners.remove(&worker);
                touched
            }
            Event::Forked { worker } => self.of(worker, now, out, |pool, _| pool.forked(worker)),
            Event::NotForked { worker, why } => {
                let touched = self.of(worker, now, out, |pool, turn| pool.not_forked(turn, worker, why));
                self.owners.remove(&worker);
                touched
            }
            Event::Died { worker, exit, unclaimed } => {
                let touched = self.of(worker, now, out, |pool, turn| pool.died(turn, worker, exit, &unclaimed));
                self.owners.remove(&worker);
                touched
            }
            Event::Reload { request, pools } => match self.paused_among(&pools) {
                Some(why) => refuse(out, request, why),
                None => self.ask_for_reload(request, pools, out),
            },
            Event::Pause { request, pool } => self.pause_or_resume(Wish::Pause, request, pool.as_ref(), now, out),
            Event::Resume { request, pool } => self.pause_or_resume(Wish::Resume, request, pool.as_ref(), now, out),
            Event::ResumeOrReload if self.paused_among(&[]).is_some() => {
                self.pause_or_resume(Wish::Resume, None, None, now, out)
            }
            Event::ResumeOrReload => self.ask_for_reload(None, Vec::new(), out),
            Event::ConfigRead { config } => self.config_read(now, config, out),
            Event::ListenersOpened { outcome } => self.listeners_opened(now, outcome, out),
            Event::Restart { request, pool, slot } => {
                if let Some(why) = self.paused_among(std::slice::from_ref(&pool)) {
                    return refuse(out, request, why);
                }
                self.command(request, Some(&pool), now, out, |pool, turn| pool.renew(turn, slot, request))
            }
            Event::Recycle { request, pool, slot } => {
                if let Some(why) = self.paused_among(std::slice::from_ref(&pool)) {
                    return refuse(out, request, why);
                }
                self.command(request, Some(&pool), now, out, |pool, turn| pool.recycle(turn, slot, request))
            }
            Event::Scale { request, pool, change } => {
                self.command(request, pool.as_ref(), now, out, |pool, turn| scale(pool, turn, request, change))
            }
            Event::Stop { urgency } => self.stop(now, urgency, out),
        }
    }

    fn at(
        &mut self,
        pool: PoolNo,
        now: Moment,
        out: &mut Vec<Action>,
        act: impl FnOnce(&mut Pool, &mut Turn<'_>),
    ) -> Touched {
        let mut turn = Turn { now, out, next_worker: &mut self.next_worker, rng: &mut self.rng };
        let place = self.pools.binary_search_by_key(&pool, Pool::no).expect("a pool is forgotten before its number is");
        act(&mut self.pools[place], &mut turn);
        Touched::One(pool)
    }

    /// A worker that is dead and buried may still be named by an event that was under way.
    fn of(
        &mut self,
        worker: WorkerId,
        now: Moment,
        out: &mut Vec<Action>,
        act: impl FnOnce(&mut Pool, &mut Turn<'_>),
    ) -> Touched {
        match self.owners.get(&worker) {
            Some(pool) => self.at(*pool, now, out, act),
            None => Touched::None,
        }
    }

    fn command(
        &mut self,
        request: Option<RequestId>,
        name: Option<&PoolName>,
        now: Moment,
        out: &mut Vec<Action>,
        act: impl FnOnce(&mut Pool, &mut Turn<'_>),
    ) -> Touched {
        if self.stop.is_some() {
            return refuse(out, request, "the supervisor is stopping".to_owned());
        }
        let first = &self.config.pools[0].name;
        match self.find(name.unwrap_or(first)) {
            Some(pool) => self.at(pool, now, out, act),
            None => refuse(out, request, self.no_such_pool(name)),
        }
    }

    /// # Panics
    /// When there is no such pool.
    fn pool(&self, no: PoolNo) -> &Pool {
        let place = self.pools.binary_search_by_key(&no, Pool::no);
        &self.pools[place.unwrap_or_else(|_| panic!("there is no pool {no:?}"))]
    }

    /// The pool of this name that is in force or on trial.
    fn find(&self, name: &PoolName) -> Option<PoolNo> {
        self.pools.iter().find(|pool| pool.name == *name && !pool.is_stopping()).map(Pool::no)
    }

    /// What to say to who asked for a pool that is not there.
    #[must_use]
    pub fn no_such_pool(&self, name: Option<&PoolName>) -> String {
        let there = self.pools.iter().filter(|pool| !pool.is_stopping());
        let names: Vec<&str> = there.map(|pool| pool.name.as_str()).collect();
        let name = name.map_or("", PoolName::as_str);
        format!("there is no pool {name:?}; the pools are: {}", names.join(", "))
    }

    // ── conclusions ────────────────────────────────────────────────────────────────────────────────────────

    /// `begun`: where the actions of this step begin, which may be news to who waits for a reload.
    fn conclude(&mut self, now: Moment, touched: Touched, out: &mut Vec<Action>, begun: usize) {
        let mut untold = begun;
        self.conclude_pools(now, touched, out);
        self.tell_progress(out, &mut untold);
        if self.stop.is_none() {
            loop {
                self.forget_parted(out);
                let touched = self.advance_reload(now, out);
                if touched == Touched::None {
                    break;
                }
                self.conclude_pools(now, touched, out);
                self.tell_progress(out, &mut untold);
            }
            self.check_first_start(now, out);
            self.check_pools_failed(now, out, begun);
            self.check_all_ready(out);
        }
        self.answer_waiters(out);
        self.check_finished(out);
    }

    /// Pools that a reload is about to add are not waited for, nor are those that it has removed.
    fn check_all_ready(&mut self, out: &mut Vec<Action>) {
        let is_ready = |pool: &Pool| pool.was_complete() || !pool.is_in_force();
        if self.stop.is_none() && !self.said_ready && self.pools.iter().all(is_ready) {
            self.said_ready = true;
            out.push(Action::AllReady);
        }
    }

    /// Forgets pools that ended because of a reload. Once everything stops their totals are waited for.
    fn forget_parted(&mut self, out: &mut Vec<Action>) {
        self.pools.retain(|pool| {
            let gone = pool.is_gone();
            if gone {
                out.push(Action::Forget { pool: pool.no() });
            }
            !gone
        });
    }

    fn conclude_pools(&mut self, now: Moment, touched: Touched, out: &mut Vec<Action>) {
        // What was started in `Pools::new` or on a tick without an event concerns everybody.
        let mut turn = Turn { now, out, next_worker: &mut self.next_worker, rng: &mut self.rng };
        match touched {
            Touched::One(no) => {
                let place = self.pools.binary_search_by_key(&no, Pool::no).expect("it was touched a moment ago");
                self.pools[place].conclude(&mut turn);
            }
            Touched::None if self.said_ready => {}
            Touched::None | Touched::All => {
                for pool in &mut self.pools {
                    pool.conclude(&mut turn);
                }
            }
        }
    }

    fn keep_owners(&mut self, actions: &[Action]) {
        for action in actions {
            if let Action::Spawn { worker, pool, .. } | Action::StartTemplate { template: worker, pool, .. } = action {
                self.owners.insert(*worker, *pool);
            }
        }
    }
}

/// Which pools a step concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Touched {
    None,
    One(PoolNo),
    All,
}

impl Touched {
    fn and(self, pool: PoolNo) -> Touched {
        self.and_all(Touched::One(pool))
    }

    fn and_all(self, other: Touched) -> Touched {
        match (self, other) {
            (Touched::None, other) => other,
            (same, Touched::None) => same,
            (Touched::One(a), Touched::One(b)) if a == b => self,
            (Touched::One(_) | Touched::All, Touched::One(_) | Touched::All) => Touched::All,
        }
    }
}

fn scale(pool: &mut Pool, turn: &mut Turn<'_>, request: Option<RequestId>, change: Change) {
    let (least, most) = pool.bounds();
    match change {
        Change::To(count) if !(least..=most).contains(&count) => {
            let why = format!("pool {} can have {least} to {most} workers, not {count}", pool.name);
            return answer_refused(turn.out, request, why);
        }
        Change::To(_) | Change::More(_) | Change::Fewer(_) => {}
    }
    let target = pool.scale(turn, change);
    turn.answer(request, Answer::Scaled { pool: pool.name.clone(), target });
}

fn refuse(out: &mut Vec<Action>, request: Option<RequestId>, why: String) -> Touched {
    answer_refused(out, request, why);
    Touched::None
}

fn answer_refused(out: &mut Vec<Action>, request: Option<RequestId>, why: String) {
    if let Some(request) = request {
        out.push(Action::Answer { request, answer: Answer::Refused { why } });
    }
}
