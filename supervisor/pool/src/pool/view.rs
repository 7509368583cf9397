//! Shows a pool to whoever asks, without changing it.

use super::by_itself::Told;
use super::pausing::Activity;
use super::{Key, Pool};
use crate::Moment;
use crate::lifecycle::State;
use crate::reason::Shed;
use crate::snapshot::{PoolSnapshot, PoolState, ShedCounts, Tells, Timer, Totals, WorkerSnapshot, WorkerState};
use crate::worker::{Telling, Worker};

impl Pool {
    /// `&mut` only because the quantiles forget what is too old when they are asked.
    pub(crate) fn snapshot(&mut self, now: Moment) -> PoolSnapshot {
        let totals = self.totals();
        PoolSnapshot {
            no: self.no,
            name: self.name.clone(),
            state: self.state(),
            generation: self.settings.generation,
            handoff: self.config().handoff,
            target: self.target,
            accepted: totals.accepted,
            done: totals.done,
            failed: totals.failed,
            lost: totals.lost,
            shed: totals.shed,
            handed: totals.handed,
            recalled: totals.recalled,
            redelivered: totals.redelivered,
            in_line: totals.in_line,
            outstanding: totals.outstanding,
            tells: match self.told {
                Told::Everything => Tells::Everything,
                Told::Partly => Tells::Nothing,
            },
            stuck: self.all_workers().filter(|worker| worker.is_stuck()).count(),
            queue_limit: self.config().queue.limit,
            queue_delay: self.queue_delay.tell(now),
            service: self.service.tell(now),
            waits: self.waits,
            services: self.services,
            first_in_line: self.line.oldest().map(|waiting| waiting.accepted_at),
            tally: self.tally,
            reload: self.reload.clone(),
            workers: self.worker_rows(now),
            templates: self.template_rows(now),
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut shed = ShedCounts::default();
        for (why, count) in self.books.shed_by_reason() {
            match why {
                Shed::QueueFull => shed.queue_full = count,
                Shed::QueueTimeout => shed.queue_timeout = count,
                Shed::ClientGone => shed.client_gone = count,
                Shed::PerUid => shed.per_uid = count,
                Shed::Stopping => shed.stopping = count,
            }
        }
        Totals {
            accepted: self.books.accepted,
            done: self.books.done,
            failed: self.books.failed,
            lost: self.books.lost,
            shed,
            handed: self.books.handed,
            recalled: self.books.recalled,
            redelivered: self.books.redelivered,
            in_line: self.line.len() as u64,
            outstanding: self.outstanding,
        }
    }

    pub(crate) fn state(&self) -> PoolState {
        if self.is_gone() {
            PoolState::Stopped
        } else if self.is_stopping() {
            PoolState::Draining
        } else if self.is_paused() {
            PoolState::Paused
        } else if self.is_failed() {
            PoolState::Failed
        } else if !self.was_complete || self.activity() == Activity::Resuming {
            PoolState::Starting
        } else if self.is_degraded() {
            PoolState::Degraded
        } else {
            PoolState::Ready
        }
    }

    /// What is due without an event, the next first.
    pub(crate) fn timer_rows(&self) -> Vec<Timer> {
        let line =
            self.line_deadline().map(|at| Timer { at, what: "the first in the line has waited too long".into() });
        let overdue = self.overdue_deadline().map(|at| Timer { at, what: "a mailbox is looked into".into() });
        let mut rows: Vec<Timer> =
            self.timers.iter().map(|(at, key)| Timer { at, what: self.falls_due(key) }).collect();
        rows.extend(line.into_iter().chain(overdue));
        rows.sort_by_key(|timer| timer.at);
        rows
    }

    fn falls_due(&self, key: Key) -> String {
        let name = |seat| &self.worker(seat).name;
        match key {
            Key::Life(seat) => format!("{} has been {} for too long", name(seat), word(self.worker(seat).state)),
            Key::Rest(seat) => format!("{} is handed connections again", name(seat)),
            Key::Recovery(seat) => format!("{} is trusted again", name(seat)),
            Key::Pulse(seat) => format!("{} should have beaten", name(seat)),
            Key::Marks(seat) => format!("the requests of {} are looked at", name(seat)),
            Key::Vacancy(slot) => format!("slot {slot} gets its next worker"),
            Key::Move => "the next move".to_owned(),
            Key::Probation => "the end of the probation".to_owned(),
            Key::Age(seat) => format!("{} has served for long enough", name(seat)),
            Key::Measure => "the memory of workers is looked at".to_owned(),
            Key::TemplateLife(id) => format!("{} is in its state for too long", self.template_name(id)),
            Key::Template(generation) => format!("generation {generation} gets its next template"),
            Key::Fork(seat) => format!("{} should have been forked", name(seat)),
            Key::Starved => "accepting is tried again".to_owned(),
            Key::Resumed => "all workers should be back from a pause".to_owned(),
            Key::LastCall => "the last call of the stop".to_owned(),
            Key::ShedNote => "what was shed is told".to_owned(),
        }
    }

    /// Who is handed his connections need not say anything.
    fn tells(&self, worker: &Worker) -> Tells {
        match worker.own.telling {
            Telling::Nothing if self.accepts_by_itself() => Tells::Nothing,
            Telling::Nothing | Telling::Everything => Tells::Everything,
        }
    }

    fn worker_rows(&self, now: Moment) -> Vec<WorkerSnapshot> {
        let mut rows = Vec::new();
        for (no, slot) in &self.slots {
            let row = |worker: Option<&Worker>| WorkerSnapshot {
                slot: *no,
                generation: worker.map_or(slot.settings.generation, |worker| worker.settings.generation),
                id: worker.map(|worker| worker.id),
                state: worker.map_or(WorkerState::BackOff, |worker| shown(worker.state)),
                since: worker.map_or(slot.last_exit.map(|(_, at)| at), |worker| Some(worker.state_since())),
                outstanding: worker.map_or(0, |worker| u64::from(worker.load())),
                oldest_handed: worker.and_then(Worker::oldest_handed),
                tells: worker.map_or(Tells::Everything, |worker| self.tells(worker)),
                done: worker.map_or(0, |worker| worker.done),
                capacity: worker.map_or(0, Worker::concurrency),
                age: worker.map_or_else(Default::default, |worker| now.since(worker.spawned_at)),
                restarts: slot.restarts,
                last_exit: slot.last_exit,
            };
            let seats = slot.leaving.iter().copied().chain(slot.incumbent).chain(slot.successor);
            rows.extend(seats.map(|seat| row(Some(self.worker(seat)))));
            if slot.incumbent.is_none() && slot.successor.is_none() && slot.leaving.is_empty() {
                rows.push(row(None));
            }
        }
        rows
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Starting => "starting",
        State::Ready => "ready",
        State::Draining => "draining",
        State::Terminating | State::TerminatingFast => "terminating",
        State::Aborting => "aborting",
        State::Killing => "being killed",
    }
}

pub(super) fn shown(state: State) -> WorkerState {
    match state {
        State::Starting => WorkerState::Starting,
        State::Ready => WorkerState::Ready,
        State::Draining => WorkerState::Draining,
        State::Terminating | State::TerminatingFast | State::Aborting | State::Killing => WorkerState::Leaving,
    }
}
