//! Takes a reload from its request to its verdict, over all pools that it concerns.
//!
//! ```text
//! Idle ─▶ Waiting ─▶ Reading ─▶ Rolling ─▶ Opening ─▶ committed
//!                       │          └──────────┴─▶ Undoing ─▶ undone
//!                       └─▶ undone
//! ```
//! Listeners are bound while the file is read and opened when every worker is there: until then the commit can fail, and
//! afterwards nothing is left that could. Pools that appear prove themselves like a new generation; pools that disappear
//! end after the commit. Whoever asks after the file was read waits for the next reload: its verdict would be about another
//! file.

use std::collections::BTreeSet;
use std::sync::Arc;

use ostler_config::checked::Config;
use ostler_shared::PoolName;

use super::{Pools, Touched, refuse};
use crate::Moment;
use crate::action::{Action, Answer};
use crate::event::{NoConfig, PoolNo, RequestId, Urgency};
use crate::note::Note;
use crate::pool::{Pool, Progress};
use crate::reason::{Cause, Failure, Setback, SetbackStage, What};
use crate::turn::Turn;

/// Reloads that were asked for together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    requests: Vec<RequestId>,
    /// Which pools; all when empty.
    pools: BTreeSet<PoolName>,
    all: bool,
}

/// How far a reload is.
#[derive(Debug)]
pub(super) enum Reload {
    Idle,
    /// The previous generations are not gone yet.
    Waiting(Batch),
    /// The file is being read and new listeners are bound.
    Reading(Batch),
    /// Slots move to the new generation.
    Rolling(Batch, Scope),
    /// New listeners are opened.
    Opening(Batch, Scope),
    /// Slots move back.
    Undoing(Batch, Scope, Setback),
}

/// What a reload is about.
#[derive(Debug)]
pub(super) struct Scope {
    /// Pools that stay, in a new generation.
    rolled: Vec<PoolNo>,
    /// Pools that appear.
    added: Vec<PoolNo>,
    /// Pools that end with the commit.
    removed: Vec<PoolNo>,
    /// What will be in force.
    config: Arc<Config>,
}

impl Scope {
    /// Pools that have to prove themselves.
    fn on_trial(&self) -> impl Iterator<Item = PoolNo> {
        self.rolled.iter().chain(&self.added).copied()
    }
}

impl Pools {
    pub(super) fn ask_for_reload(
        &mut self,
        request: Option<RequestId>,
        pools: Vec<PoolName>,
        out: &mut Vec<Action>,
    ) -> Touched {
        if self.stop.is_some() {
            return refuse(out, request, "the supervisor is stopping".to_owned());
        }
        let batch = match &mut self.reload {
            Reload::Idle => {
                self.reload = Reload::Waiting(Batch::default());
                let Reload::Waiting(batch) = &mut self.reload else { unreachable!("it was set on the line above") };
                batch
            }
            Reload::Waiting(batch) => batch,
            // That file may have been read before this request: its verdict would be about something else.
            Reload::Reading(_) | Reload::Rolling(..) | Reload::Opening(..) | Reload::Undoing(..) => {
                self.next_reload.get_or_insert_default()
            }
        };
        batch.requests.extend(request);
        batch.all |= pools.is_empty();
        batch.pools.extend(pools);
        Touched::None
    }

    pub(super) fn config_read(
        &mut self,
        now: Moment,
        config: Result<Arc<Config>, NoConfig>,
        out: &mut Vec<Action>,
    ) -> Touched {
        let batch = match std::mem::replace(&mut self.reload, Reload::Idle) {
            Reload::Reading(batch) => batch,
            // A stop came between.
            other => {
                self.reload = other;
                out.push(Action::CloseAside);
                return Touched::None;
            }
        };
        match config {
            Err(why) => {
                let what = match why {
                    NoConfig::Unusable(why) => What::Config(why),
                    NoConfig::CannotListen(why) => What::Listen(why),
                };
                let setback = Setback { failure: Failure { worker: None, what }, stage: SetbackStage::Reading };
                let pools = self.chosen(&batch);
                self.reload_failed(batch, &pools, setback, out);
                Touched::None
            }
            Ok(config) => {
                let scope = self.begin_rollouts(now, &batch, config, out);
                self.reload = Reload::Rolling(batch, scope);
                Touched::All
            }
        }
    }

    fn chosen(&self, batch: &Batch) -> Vec<PoolNo> {
        let chosen = |pool: &&Pool| batch.all || batch.pools.contains(&pool.name);
        self.pools.iter().filter(|pool| !pool.is_stopping()).filter(chosen).map(Pool::no).collect()
    }

    fn begin_rollouts(&mut self, now: Moment, batch: &Batch, config: Arc<Config>, out: &mut Vec<Action>) -> Scope {
        let chosen = self.chosen(batch);
        let (mut rolled, mut added) = (Vec::new(), Vec::new());
        for wanted in &config.pools {
            match self.find(&wanted.name) {
                Some(no) if chosen.contains(&no) => {
                    self.at(no, now, out, |pool, turn| pool.roll_out(turn, wanted.clone()));
                    rolled.push(no);
                }
                Some(_) => {}
                None => {
                    let no = PoolNo(self.next_pool);
                    self.next_pool += 1;
                    let mut turn = Turn { now, out, next_worker: &mut self.next_worker, rng: &mut self.rng };
                    self.pools.push(Pool::on_trial(no, wanted, &mut turn));
                    added.push(no);
                }
            }
        }
        let is_gone = |no: &PoolNo| !config.pools.iter().any(|pool| pool.name == self.pool(*no).name);
        let removed = chosen.into_iter().filter(is_gone).collect();
        Scope { rolled, added, removed, config }
    }

    /// Takes the reload under way one step further, as long as it goes.
    pub(super) fn advance_reload(&mut self, now: Moment, out: &mut Vec<Action>) -> Touched {
        match std::mem::replace(&mut self.reload, Reload::Idle) {
            Reload::Idle => {
                let Some(batch) = self.next_reload.take() else { return Touched::None };
                self.reload = Reload::Waiting(batch);
                Touched::All
            }
            Reload::Waiting(batch) if self.pools.iter().all(|pool| pool.is_settled() && !pool.is_stopping()) => {
                let pools = if batch.all { Vec::new() } else { batch.pools.iter().cloned().collect() };
                out.push(Action::ReadConfig { pools });
                self.reload = Reload::Reading(batch);
                Touched::None
            }
            Reload::Rolling(batch, scope) => self.advance_rolling(now, batch, scope, out),
            Reload::Undoing(batch, scope, setback) => {
                let is_back = |no: &PoolNo| self.pool(*no).progress() == Some(&Progress::Arrived);
                let is_gone = |no: &PoolNo| self.pools.binary_search_by_key(no, Pool::no).is_err();
                if scope.rolled.iter().all(is_back) && scope.added.iter().all(is_gone) {
                    let concerned: Vec<PoolNo> = scope.rolled.iter().chain(&scope.removed).copied().collect();
                    self.reload_failed(batch, &concerned, setback, out);
                    return Touched::All;
                }
                self.reload = Reload::Undoing(batch, scope, setback);
                Touched::None
            }
            unchanged @ (Reload::Waiting(_) | Reload::Reading(_) | Reload::Opening(..)) => {
                self.reload = unchanged;
                Touched::None
            }
        }
    }

    fn advance_rolling(&mut self, now: Moment, batch: Batch, scope: Scope, out: &mut Vec<Action>) -> Touched {
        if let Some(setback) = self.setback_of(&scope) {
            return self.turn_round(now, batch, scope, setback, out);
        }
        if self.has_arrived(&scope) {
            out.push(Action::OpenListeners);
            self.reload = Reload::Opening(batch, scope);
        } else {
            self.reload = Reload::Rolling(batch, scope);
        }
        Touched::None
    }

    fn has_arrived(&self, scope: &Scope) -> bool {
        scope.on_trial().all(|no| self.pool(no).progress() == Some(&Progress::Arrived))
    }

    fn setback_of(&self, scope: &Scope) -> Option<Setback> {
        scope.on_trial().find_map(|no| match self.pool(no).progress() {
            Some(Progress::Failed(setback)) => Some(setback.clone()),
            Some(Progress::Moving | Progress::Arrived) | None => None,
        })
    }

    /// The driver has opened the listeners, or could not. What befell a worker meanwhile counts as well.
    pub(super) fn listeners_opened(
        &mut self,
        now: Moment,
        outcome: Result<(), String>,
        out: &mut Vec<Action>,
    ) -> Touched {
        let (batch, scope) = match std::mem::replace(&mut self.reload, Reload::Idle) {
            Reload::Opening(batch, scope) => (batch, scope),
            // A stop came between.
            other => {
                self.reload = other;
                return Touched::None;
            }
        };
        let refused = outcome.err().map(|why| Setback {
            failure: Failure { worker: None, what: What::Listen(why) },
            stage: SetbackStage::Opening,
        });
        match refused.or_else(|| self.setback_of(&scope)) {
            Some(setback) => self.turn_round(now, batch, scope, setback, out),
            None if self.has_arrived(&scope) => self.commit(now, batch, &scope, out),
            // What was under way meanwhile has opened a slot: it joins the walk, and they are opened again behind it.
            None => {
                self.reload = Reload::Rolling(batch, scope);
                Touched::All
            }
        }
    }

    fn turn_round(
        &mut self,
        now: Moment,
        batch: Batch,
        scope: Scope,
        setback: Setback,
        out: &mut Vec<Action>,
    ) -> Touched {
        out.push(Action::Note(Note::UndoBegun { setback: setback.clone() }));
        // At once: going back may take long, and nobody is to wait at a listener that will not be.
        out.push(Action::CloseAside);
        for no in &scope.rolled {
            self.at(*no, now, out, Pool::undo);
        }
        let timeout = self.config.supervisor.stop_timeout;
        for no in &scope.added {
            self.at(*no, now, out, |pool, turn| pool.stop(turn, Urgency::Graceful, timeout, Cause::Undone));
        }
        self.reload = Reload::Undoing(batch, scope, setback);
        Touched::All
    }

    fn commit(&mut self, now: Moment, batch: Batch, scope: &Scope, out: &mut Vec<Action>) -> Touched {
        let mut generations = Vec::new();
        for no in scope.on_trial() {
            let mut committed = None;
            self.at(no, now, out, |pool, turn| committed = Some(pool.commit(turn)));
            generations.extend(committed.map(|generation| (self.pool(no).name.clone(), generation)));
        }
        let pools = scope.config.pools.iter().map(|pool| self.find(&pool.name).expect("each is there by now"));
        let pools = pools.collect();
        self.config = Arc::clone(&scope.config);
        out.push(Action::Adopt { config: Arc::clone(&self.config), pools });
        let removed: Vec<PoolName> = scope.removed.iter().map(|no| self.pool(*no).name.clone()).collect();
        out.push(Action::Note(Note::Committed { generations: generations.clone(), removed: removed.clone() }));
        let timeout = self.config.supervisor.stop_timeout;
        for no in &scope.removed {
            self.at(*no, now, out, |pool, turn| pool.stop(turn, Urgency::Graceful, timeout, Cause::PoolRemoved));
        }
        for request in batch.requests {
            let answer = Answer::Reloaded { generations: generations.clone(), removed: removed.clone() };
            out.push(Action::Answer { request, answer });
        }
        Touched::All
    }

    /// A reload is over and nothing has changed.
    fn reload_failed(&mut self, batch: Batch, concerned: &[PoolNo], setback: Setback, out: &mut Vec<Action>) {
        // When it was about new pools alone, those that are there have to show it. Where it never began and names none of them,
        // by mistake perhaps, only who asked for it is told.
        let has_begun = batch.all || setback.stage != SetbackStage::Reading;
        let is_concerned = |pool: &Pool| {
            !pool.is_stopping() && (concerned.contains(&pool.no()) || (concerned.is_empty() && has_begun))
        };
        for pool in self.pools.iter_mut().filter(|pool| is_concerned(pool)) {
            pool.undone(setback.clone());
        }
        let pools = self.pools.iter().filter(|pool| is_concerned(pool)).map(|pool| pool.name.clone()).collect();
        out.push(Action::CloseAside);
        out.push(Action::Note(Note::Undone { pools, setback: setback.clone() }));
        for request in batch.requests {
            out.push(Action::Answer { request, answer: Answer::Undone { setback: setback.clone() } });
        }
    }

    /// Tells those who wait for the reload under way what has just happened to it.
    pub(super) fn tell_progress(&self, out: &mut Vec<Action>, untold: &mut usize) {
        let from = std::mem::replace(untold, out.len());
        let (Reload::Rolling(batch, ..) | Reload::Opening(batch, ..) | Reload::Undoing(batch, ..)) = &self.reload
        else {
            return;
        };
        if batch.requests.is_empty() {
            return;
        }
        let news: Vec<Note> = out[from..]
            .iter()
            .filter_map(|action| match action {
                Action::Note(
                    note @ (Note::RolloutBegun { .. }
                    | Note::SlotMoves { .. }
                    | Note::SlotRolled { .. }
                    | Note::UndoBegun { .. }),
                ) => Some(note.clone()),
                _ => None,
            })
            .collect();
        for news in news {
            out.extend(batch.requests.iter().map(|request| Action::Progress { request: *request, news: news.clone() }));
        }
    }

    /// Answers everybody who waits for a reload, because there will be none.
    pub(super) fn end_reload(&mut self, failure: &Failure, out: &mut Vec<Action>) {
        let under_way = match std::mem::replace(&mut self.reload, Reload::Idle) {
            Reload::Idle => None,
            Reload::Waiting(batch)
            | Reload::Reading(batch)
            | Reload::Rolling(batch, ..)
            | Reload::Opening(batch, ..)
            | Reload::Undoing(batch, ..) => {
                out.push(Action::CloseAside);
                Some(batch)
            }
        };
        for request in under_way.into_iter().chain(self.next_reload.take()).flat_map(|batch| batch.requests) {
            let setback = Setback { failure: failure.clone(), stage: SetbackStage::CutShort };
            out.push(Action::Answer { request, answer: Answer::Undone { setback } });
        }
    }
}
