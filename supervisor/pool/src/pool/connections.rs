//! Decides where each connection goes: to a worker, into the line, or away.
//!
//! # Fairness between users
//! Who comes first is served first, whoever he is. What one user may do to the others is bounded by his share of the
//! line (`queue.per_uid`): the next one behind a flood waits for at most that many of its connections. Taking turns
//! between users was considered and left out: it would bound the same wait by one connection instead of
//! `per_uid`, at the price of a line that is not ordered by age any more, so that its front would no longer have the
//! earliest deadline; it has no place for TCP clients, of whom nobody knows whose they are; and it pays those who
//! have several users. A small share comes close to turns.

use std::time::Duration;

use ostler_config::checked::{Farewell, Overflow};
use ostler_shared::completion::{Completion, Outcome};
use ostler_shared::{ConnId, WorkerId};

use super::{Key, Pool};
use crate::action::Action;
use crate::event::{HangUp, Refusal, Uid};
use crate::line::Waiting;
use crate::note::Note;
use crate::overdue::Watched;
use crate::reason::Shed;
use crate::turn::Turn;
use crate::worker::{Room, Seat, Ticket};
use crate::{LOST_MAX, Moment, REFUSED_PAUSE, STARVED_PAUSE};

impl Pool {
    pub(crate) fn accepted(&mut self, turn: &mut Turn<'_>, conn: ConnId, uid: Option<Uid>) {
        self.books.accepted += 1;
        let waiting = Waiting { conn, accepted_at: turn.now, uid };
        // Where workers accept for themselves, what comes to us was left at a listener that ends, and nobody takes it from us.
        if self.is_shedding() || self.accepts_by_itself() {
            return self.shed(turn, conn, Shed::Stopping, Farewell::Close);
        }
        if self.line.is_empty()
            && let Some(seat) = self.next_to_serve()
        {
            return self.hand_off(turn, seat, waiting);
        }
        match self.refusal(uid) {
            Some((why, farewell)) => self.shed(turn, conn, why, farewell),
            None => {
                self.line.insert(waiting);
                // A stop finds a paused pool without workers, and starts them for whoever comes out of the kernel's queue.
                self.roster_changed |= self.is_stopping() && self.seats.is_empty();
            }
        }
    }

    /// Why a fresh connection may not join the line, and what it gets.
    fn refusal(&self, uid: Option<Uid>) -> Option<(Shed, Farewell)> {
        let queue = &self.config().queue;
        // Root and our own user are no exceptions: a runaway job of theirs starves the others as well as any.
        let share = uid.map_or(0, |uid| self.line.share_of(uid));
        let has_his_share = queue.per_uid > 0 && share >= queue.per_uid as usize;
        let is_full = self.line.len() >= queue.limit as usize;
        match &queue.overflow {
            // His next ones stand in the kernel's queue before everybody else's: to wait would punish them all.
            Overflow::Wait if has_his_share => Some((Shed::PerUid, Farewell::Close)),
            Overflow::Shed(farewell) if has_his_share => Some((Shed::PerUid, farewell.clone())),
            Overflow::Shed(farewell) if is_full => Some((Shed::QueueFull, farewell.clone())),
            // With `wait` the gate closes behind this one.
            Overflow::Shed(_) | Overflow::Wait => None,
        }
    }

    /// A client hung up. Only while its connection waits is that ours to act upon: in a mailbox it is the worker's.
    pub(crate) fn client_gone(&mut self, turn: &mut Turn<'_>, conn: ConnId) {
        if self.line.remove(conn).is_some() {
            self.shed(turn, conn, Shed::ClientGone, Farewell::Close);
        }
    }

    /// Hands out what waits, oldest first, as long as somebody has room.
    pub(super) fn dispatch(&mut self, turn: &mut Turn<'_>) {
        while !self.line.is_empty()
            && let Some(seat) = self.next_to_serve()
            && let Some(waiting) = self.line.pop_oldest()
        {
            self.hand_off(turn, seat, waiting);
        }
    }

    /// Whoever has a free place and least to do; a place in a mailbox only when nobody has one.
    fn next_to_serve(&mut self) -> Option<Seat> {
        match self.recalling {
            Some(_) => None,
            None => self.free.least().or_else(|| self.ahead.least()),
        }
    }

    fn hand_off(&mut self, turn: &mut Turn<'_>, seat: Seat, waiting: Waiting) {
        let waited = turn.now.since(waiting.accepted_at);
        self.queue_delay.record(turn.now, waited);
        self.waits.record(waited);
        if self.worker(seat).room() == Room::Free {
            self.note_wait(turn.now, waiting.accepted_at);
        }
        self.books.handed += 1;
        self.outstanding += 1;
        let handoff = self.watch(turn.now, seat, Watched::Conn(waiting.conn));
        self.expect_answers(turn.now, seat);
        let Waiting { accepted_at, uid, .. } = waiting;
        let ticket = Ticket { accepted_at, uid, handed_at: turn.now, slow_told_at: None, handoff };
        let worker = self.worker_mut(seat);
        let doubled = worker.tickets.insert(waiting.conn, ticket);
        assert!(doubled.is_none(), "I1: {} was handed to {} twice", waiting.conn, worker.name);
        let worker_id = worker.id;
        self.place(seat);
        turn.act(Action::HandOff { worker: worker_id, conn: waiting.conn });
    }

    /// Puts a worker where dispatch finds it, or takes it out when it has no room.
    pub(super) fn place(&mut self, seat: Seat) {
        let (room, load) = (self.worker(seat).room(), self.worker(seat).load());
        self.free.withdraw(seat);
        self.ahead.withdraw(seat);
        match room {
            Room::Free => self.free.place(seat, load),
            Room::Ahead => self.ahead.place(seat, load),
            Room::None => {}
        }
    }

    pub(crate) fn hand_off_refused(&mut self, turn: &mut Turn<'_>, worker: WorkerId, conn: ConnId, why: Refusal) {
        let seat = self.seat_of(worker).expect("a refused handoff comes back before the worker's death");
        let ticket = self.worker_mut(seat).tickets.remove(&conn);
        let Ticket { accepted_at, uid, .. } = ticket.expect("I1: only what was handed can be refused");
        self.outstanding -= 1;
        self.books.handed -= 1;
        self.take_back(turn, Waiting { conn, accepted_at, uid });
        match why {
            Refusal::Busy => {
                self.worker_mut(seat).resting = true;
                self.timers.set(Key::Rest(seat), turn.now + REFUSED_PAUSE);
                self.place(seat);
            }
            Refusal::Closed => self.hung_up(turn, worker, HangUp::Leaves),
        }
    }

    pub(super) fn end_rest(&mut self, seat: Seat) {
        self.timers.clear(Key::Rest(seat));
        self.worker_mut(seat).resting = false;
        self.place(seat);
    }

    pub(crate) fn accept_starved(&mut self, turn: &mut Turn<'_>) {
        self.starved = true;
        self.timers.set(Key::Starved, turn.now + STARVED_PAUSE);
    }

    pub(crate) fn completed(&mut self, turn: &mut Turn<'_>, worker: WorkerId, completion: Completion) {
        let Some(seat) = self.seat_of(worker) else { return };
        let Completion { conn, outcome, claimed_at_ns, done_at_ns } = completion;
        let now = turn.now;
        let Some(accepted_at) = self.give_up(seat, conn) else {
            return self.misbehaved(turn, worker, format!("completed {conn}, which it does not hold"));
        };
        self.outstanding -= 1;
        let worker = self.worker_mut(seat);
        if outcome == Outcome::Panicked {
            turn.note(Note::Panicked { worker: worker.name.clone(), conn });
        }
        match outcome {
            Outcome::Done | Outcome::Panicked | Outcome::Failed => {
                self.books.failed += u64::from(outcome != Outcome::Done);
                // The worker's clock readings are a claim (I6): never longer than we know the connection.
                let told = Duration::from_nanos(done_at_ns.saturating_sub(claimed_at_ns));
                self.served(turn, seat, 1);
                let held = told.min(now.since(accepted_at));
                self.service.record(now, held);
                self.services.record(held);
            }
            Outcome::Truncated | Outcome::Dropped => {
                let (id, count, name) = (worker.id, worker.lost.len(), worker.name.clone());
                worker.lost.insert(conn);
                turn.note(match outcome {
                    Outcome::Truncated => Note::Truncated { worker: name, conn },
                    Outcome::Dropped | Outcome::Done | Outcome::Panicked | Outcome::Failed => {
                        Note::Dropped { worker: name, conn }
                    }
                });
                self.books.lost += 1;
                if count >= LOST_MAX {
                    self.misbehaved(turn, id, format!("lost {count} connections while it lived"));
                }
            }
        }
        self.shows_life(turn, seat);
        if self.worker(seat).resting {
            self.end_rest(seat);
        } else {
            self.place(seat);
        }
    }

    /// A worker has served so many more connections.
    pub(super) fn served(&mut self, turn: &mut Turn<'_>, seat: Seat, count: u64) {
        let worker = self.worker_mut(seat);
        let (slot, before) = (worker.slot, worker.done);
        worker.done += count;
        self.books.done += count;
        if before == 0 && count > 0 {
            self.slot_mut(slot).back_off.forgive();
        }
        self.count_towards_wear(turn, seat);
    }

    /// Takes a connection out of a worker's hands, which it says is over: since when it was there at the earliest.
    fn give_up(&mut self, seat: Seat, conn: ConnId) -> Option<Moment> {
        let by_itself = self.accepts_by_itself();
        let worker = self.worker_mut(seat);
        if by_itself {
            // Which one it is we never knew.
            worker.own.held = worker.own.held.checked_sub(1)?;
            return Some(worker.spawned_at);
        }
        worker.tickets.remove(&conn).map(|ticket| ticket.accepted_at)
    }

    /// A living worker's mailbox was emptied.
    pub(crate) fn recalled(&mut self, turn: &mut Turn<'_>, worker: WorkerId, conns: &[ConnId]) {
        let Some(seat) = self.seat_of(worker) else {
            assert!(conns.is_empty(), "I1: {conns:?} came back from {worker}, which is dead and buried");
            return;
        };
        for conn in conns {
            self.books.recalled += 1;
            if !self.retake(turn, seat, *conn) {
                self.misbehaved(turn, worker, format!("completed {conn}, which it never claimed"));
            }
        }
        self.judge_claiming(turn, seat, conns.len() as u64);
        self.place(seat);
    }

    /// Takes one ticket back from a worker. `false` when the worker had lied about it: it said that the connection
    /// was over, and there it is. The books follow the connection, not the lie.
    pub(super) fn retake(&mut self, turn: &mut Turn<'_>, seat: Seat, conn: ConnId) -> bool {
        let worker = self.worker_mut(seat);
        if let Some(Ticket { accepted_at, uid, .. }) = worker.tickets.remove(&conn) {
            self.outstanding -= 1;
            self.take_back(turn, Waiting { conn, accepted_at, uid });
            return true;
        }
        if worker.lost.remove(&conn) {
            self.books.lost -= 1;
        } else {
            worker.done -= 1;
            self.books.done -= 1;
        }
        // Whose it is was forgotten with its ticket.
        self.take_back(turn, Waiting { conn, accepted_at: turn.now, uid: None });
        false
    }

    fn take_back(&mut self, turn: &mut Turn<'_>, waiting: Waiting) {
        if self.is_shedding() {
            self.shed(turn, waiting.conn, Shed::Stopping, Farewell::Close);
        } else {
            self.line.insert(waiting);
        }
    }

    pub(super) fn shed(&mut self, turn: &mut Turn<'_>, conn: ConnId, why: Shed, farewell: Farewell) {
        self.books.shed(why);
        *self.shed_untold.entry(why).or_default() += 1;
        turn.act(Action::Shed { conn, why, farewell });
    }

    pub(super) fn line_deadline(&self) -> Option<Moment> {
        let timeout = self.config().queue.timeout;
        let oldest = self.line.oldest().filter(|_| !timeout.is_zero())?;
        Some(oldest.accepted_at + timeout)
    }

    pub(super) fn shed_overdue(&mut self, turn: &mut Turn<'_>) {
        while self.line_deadline().is_some_and(|at| at <= turn.now) {
            let farewell = self.config().queue.on_timeout.clone();
            let overdue = self.line.pop_oldest().expect("a line with a deadline has somebody in it");
            self.shed(turn, overdue.conn, Shed::QueueTimeout, farewell);
        }
    }

    pub(super) fn shed_line(&mut self, turn: &mut Turn<'_>) {
        while let Some(waiting) = self.line.pop_oldest() {
            self.shed(turn, waiting.conn, Shed::Stopping, Farewell::Close);
        }
    }
}
