//! Answers those who asked for a pause, or for its end, when every pool that it concerns has got there.
//!
//! A reload and a pause exclude each other, whichever comes first: a generation cannot prove itself in a pool without
//! workers, and a rollout that its own operator takes the workers from could only be undone. So a pause is refused while
//! a reload is under way, and so is a reload or a restart while a pool is paused; HUP then only resumes.

use ostler_config::checked::Owner;
use ostler_shared::PoolName;

use super::{Pools, Touched, refuse};
use crate::Moment;
use crate::action::{Action, Answer};
use crate::event::{PoolNo, RequestId};
use crate::note::Note;
use crate::pool::{Activity, Pool};
use crate::turn::Turn;

/// Somebody who waits.
#[derive(Debug)]
pub(super) struct Waiter {
    request: RequestId,
    wish: Wish,
    pools: Vec<PoolNo>,
}

/// For what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Pause,
    Resume,
}

impl Pools {
    pub(super) fn pause_or_resume(
        &mut self,
        wish: Wish,
        request: Option<RequestId>,
        name: Option<&PoolName>,
        now: Moment,
        out: &mut Vec<Action>,
    ) -> Touched {
        let chosen = match self.choose(wish, name) {
            Ok(chosen) => chosen,
            Err(why) => {
                if request.is_none() {
                    out.push(Action::Note(Note::PauseRefused { why: why.clone() }));
                }
                return refuse(out, request, why);
            }
        };
        for no in &chosen {
            self.at(*no, now, out, |pool, turn| wish.of(pool, turn));
        }
        self.waiters.extend(request.map(|request| Waiter { request, wish, pools: chosen }));
        Touched::All
    }

    fn choose(&self, wish: Wish, name: Option<&PoolName>) -> Result<Vec<PoolNo>, String> {
        if self.is_stopping() {
            return Err("the supervisor is stopping".to_owned());
        }
        if wish == Wish::Pause && self.is_reloading() {
            return Err("a reload is under way: wait for its verdict, then pause".to_owned());
        }
        match name {
            // What a pause is watched from goes on.
            None => Ok(self.pools.iter().filter(|pool| is_users(pool) && !pool.is_stopping()).map(Pool::no).collect()),
            Some(name) => self.find(name).map(|no| vec![no]).ok_or_else(|| self.no_such_pool(Some(name))),
        }
    }

    /// Why pools with these names (all when there is none) can't have other workers now.
    pub(super) fn paused_among(&self, names: &[PoolName]) -> Option<String> {
        let concerned = |pool: &&Pool| names.is_empty() || names.contains(&pool.name);
        let paused = self.pools.iter().filter(concerned).find(|pool| pool.is_paused())?;
        Some(format!("pool {0} is paused: `ostler resume {0}` first", paused.name))
    }

    /// Answers whoever has got what he asked for, or will not get it.
    pub(super) fn answer_waiters(&mut self, out: &mut Vec<Action>) {
        let pools = &self.pools;
        self.waiters.retain(|waiter| {
            // A reload may remove a pool that is on its way back.
            let is_concerned = |pool: &&Pool| waiter.pools.contains(&pool.no()) && !pool.is_stopping();
            let concerned: Vec<&Pool> = pools.iter().filter(is_concerned).collect();
            let answer = if concerned.len() == waiter.pools.len() {
                waiter.wish.answer(&concerned)
            } else {
                Some(Answer::Refused { why: "a reload has removed a pool that it was about".to_owned() })
            };
            let waits = answer.is_none();
            out.extend(answer.map(|answer| Action::Answer { request: waiter.request, answer }));
            waits
        });
    }

    /// Answers everybody who waits for a pause or its end, because a stop ends both.
    pub(super) fn end_pauses(&mut self, out: &mut Vec<Action>) {
        for waiter in self.waiters.drain(..) {
            let answer = Answer::Refused { why: "the supervisor stops".to_owned() };
            out.push(Action::Answer { request: waiter.request, answer });
        }
    }
}

fn is_users(pool: &Pool) -> bool {
    pool.owner() == Owner::User
}

impl Wish {
    fn of(self, pool: &mut Pool, turn: &mut Turn<'_>) {
        match self {
            Wish::Pause => pool.pause(turn),
            Wish::Resume => pool.resume(turn),
        }
    }

    /// What there is to say; nothing while it is on its way.
    fn answer(self, pools: &[&Pool]) -> Option<Answer> {
        match self {
            Wish::Pause => paused(pools),
            Wish::Resume => resumed(pools),
        }
    }
}

fn paused(pools: &[&Pool]) -> Option<Answer> {
    if let Some(pool) = pools.iter().find(|pool| !pool.is_paused()) {
        let why = format!("pool {} was resumed before all of its workers had left", pool.name);
        return Some(Answer::Refused { why });
    }
    let are_gone = pools.iter().all(|pool| pool.activity() == Activity::Paused);
    let pools = pools.iter().map(|pool| (pool.name.clone(), pool.totals().in_line));
    are_gone.then(|| Answer::Paused { pools: pools.collect() })
}

fn resumed(pools: &[&Pool]) -> Option<Answer> {
    if let Some(pool) = pools.iter().find(|pool| pool.is_paused()) {
        return Some(Answer::Refused { why: format!("pool {} was paused again", pool.name) });
    }
    if let Some((pool, failure)) = pools.iter().find_map(|pool| Some((pool, pool.last_failure()?))) {
        return Some(Answer::NotResumed { pool: pool.name.clone(), failure });
    }
    if let Some(pool) = pools.iter().find(|pool| pool.activity() == Activity::Late) {
        let (ready, target) = pool.strength();
        return Some(Answer::ResumesSlowly { pool: pool.name.clone(), ready, target });
    }
    let are_back = pools.iter().all(|pool| pool.activity() == Activity::Active);
    let pools = pools.iter().map(|pool| (pool.name.clone(), pool.strength().0));
    are_back.then(|| Answer::Resumed { pools: pools.collect() })
}
