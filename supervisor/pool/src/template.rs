//! Remembers what the pool knows of one template: a process that has loaded everything and forks workers on request.

use std::sync::Arc;
use std::time::Duration;

use ostler_shared::{Generation, WorkerId, WorkerName};

use crate::Moment;
use crate::event::{Exit, Settings};
use crate::lifecycle::State;
use crate::reason::{Cause, Failure, What};

#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) id: WorkerId,
    pub(crate) name: WorkerName,
    pub(crate) settings: Arc<Settings>,
    /// As a worker's: READY is who has loaded everything.
    pub(crate) state: State,
    pub(crate) started_at: Moment,
    pub(crate) ready_at: Option<Moment>,
    /// Workers that it has forked.
    pub(crate) forked: u64,
    /// One of those became READY: what it loaded is good for something.
    pub(crate) proven: bool,
    /// It had to be aborted or killed.
    pub(crate) forced: bool,
    /// Why it has to leave, and since when; the first reason stays.
    pub(crate) leaving: Option<(Cause, Moment)>,
    /// What it did wrong, as soon as that is known.
    pub(crate) trouble: Option<What>,
    /// Its failure has had its consequences before its death.
    pub(crate) judged: bool,
}

impl Template {
    pub(crate) fn new(id: WorkerId, name: WorkerName, settings: Arc<Settings>, now: Moment) -> Template {
        Template {
            id,
            name,
            settings,
            state: State::Starting,
            started_at: now,
            ready_at: None,
            forked: 0,
            proven: false,
            forced: false,
            leaving: None,
            trouble: None,
            judged: false,
        }
    }

    pub(crate) fn generation(&self) -> Generation {
        self.settings.generation
    }

    /// Whether it can be asked for workers.
    pub(crate) fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// Why its death counts, or `None` when it does not.
    pub(crate) fn failure(&self, now: Moment, exit: Exit) -> Option<Failure> {
        let was_asked = self.leaving.is_some_and(|(cause, _)| cause.is_ours());
        if was_asked || self.judged || (self.trouble.is_none() && self.is_settled(now)) {
            return None;
        }
        let what = match (&self.trouble, self.ready_at) {
            (Some(trouble), _) => trouble.clone(),
            (None, None) => What::DiedStarting(exit),
            (None, Some(_)) => What::DiedEarly(exit),
        };
        Some(self.failed(what))
    }

    /// It has shown that it works: that it ends says nothing about the next one.
    fn is_settled(&self, now: Moment) -> bool {
        let long_enough = |ready: Moment| now.since(ready) >= self.settings.pool.start.settle;
        self.proven || self.ready_at.is_some_and(long_enough)
    }

    pub(crate) fn failed(&self, what: What) -> Failure {
        Failure { worker: Some((self.id, self.name.clone())), what }
    }

    pub(crate) fn ready_timeout(&self) -> Duration {
        self.settings.pool.start.ready_timeout
    }
}
