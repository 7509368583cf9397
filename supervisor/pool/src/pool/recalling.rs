//! Takes back what a worker leaves unclaimed, and judges the worker by it.
//!
//! ```text
//! Claims ──something comes back, no place was free──▶ Doubtful ──completes──▶ Claims
//!   └─────something comes back, a place was free────▶ Stuck ──sign of life──▶ Recovering ──rest──▶ Doubtful
//! ```
//! A stuck worker is handed nothing and asked for a sign of life; nothing else happens to it (I7). The pool does not
//! hear of claims: what is doubtful is looked for in the mailbox once, one mailbox at a time.

use ostler_shared::WorkerId;

use super::{Key, Pool};
use crate::action::Action;
use crate::lifecycle::State;
use crate::note::Note;
use crate::overdue::{Entry, Watched};
use crate::turn::Turn;
use crate::worker::{Conduct, HandoffNo, Seat, Worker};
use crate::{Moment, STUCK_REST_MAX, UNCLAIMED_MAX};

/// At most so many doubts per connection that is out: one of its own, one of its worker, and as many settled ones.
const DOUBTS_PER_TICKET: usize = 4;

impl Pool {
    // ── doubts ─────────────────────────────────────────────────────────────────────────────────────────────

    /// Begins to doubt that something is claimed.
    pub(super) fn watch(&mut self, now: Moment, seat: Seat, watched: Watched) -> HandoffNo {
        let (worker, handoff) = (self.worker(seat).id, self.overdue.next_no());
        self.overdue.push(Entry { at: now, seat, worker, handoff, watched });
        // Whatever is pruned was settled by an event of its own, so that this walk is paid for (I11).
        if self.overdue.len() > DOUBTS_PER_TICKET * self.outstanding as usize {
            let workers = &self.workers;
            self.overdue.retain(|entry| entry.handoff == handoff || is_open(workers, entry));
        }
        handoff
    }

    /// When a doubt is due. While a look is under way nothing else can be done about any.
    pub(super) fn overdue_deadline(&self) -> Option<Moment> {
        if self.recalling.is_some() {
            return None;
        }
        let young = self.overdue.oldest().map(|entry| self.due(entry));
        let waiting = self.overdue.waiting().next().map(|(at, _)| at);
        young.into_iter().chain(waiting).min()
    }

    fn due(&self, entry: &Entry) -> Moment {
        let patience = self.config().recall_after;
        // A stop can't wait longer to know whether anybody is left to be served.
        entry.at + if self.is_stopping() { patience.min(UNCLAIMED_MAX) } else { patience }
    }

    /// Finds the workers that hold something for too long.
    pub(super) fn find_overdue(&mut self, now: Moment) {
        while let Some(entry) = self.overdue.oldest().copied()
            && let due = self.due(&entry)
            && due <= now
        {
            self.overdue.pop_oldest();
            if is_open(&self.workers, &entry) && self.worker(entry.seat).overdue.is_none() {
                // What a stuck worker holds is nobody's to claim: it need not wait for room.
                let patient = !self.worker(entry.seat).is_stuck();
                let at = if patient { due + UNCLAIMED_MAX } else { due };
                self.worker_mut(entry.seat).overdue = Some(at);
                self.overdue.wait(at, entry.seat);
            }
        }
    }

    /// Drops what was settled from the front, so that no deadline stands for it.
    pub(super) fn forget_claimed(&mut self) {
        while self.overdue.oldest().is_some_and(|entry| !is_open(&self.workers, entry)) {
            self.overdue.pop_oldest();
        }
    }

    /// Nobody can hold anything that it has not claimed, as far as looking can tell.
    pub(super) fn nothing_is_doubtful(&self) -> bool {
        self.overdue.is_empty() && self.recalling.is_none()
    }

    /// A worker leaves, and what happens to its mailbox is decided elsewhere.
    pub(super) fn stop_watching(&mut self, seat: Seat) {
        self.forget_overdue(seat);
        self.timers.clear(Key::Recovery(seat));
    }

    fn forget_overdue(&mut self, seat: Seat) {
        if let Some(at) = self.worker_mut(seat).overdue.take() {
            self.overdue.forget(at, seat);
        }
    }

    // ── looks ──────────────────────────────────────────────────────────────────────────────────────────────

    /// Looks into the mailbox of the next overdue worker, when somebody else can serve what is in it.
    pub(super) fn recall_overdue(&mut self, turn: &mut Turn<'_>) {
        if self.recalling.is_some() {
            return;
        }
        let Some(seat) = self.next_to_recall(turn.now) else { return };
        self.forget_overdue(seat);
        let looked_at = self.overdue.next_no();
        let worker = self.worker_mut(seat);
        worker.looked_at = looked_at;
        let worker = worker.id;
        self.recalling = Some(seat);
        turn.act(Action::Recall { worker });
    }

    fn next_to_recall(&self, now: Moment) -> Option<Seat> {
        let (at, first) = self.overdue.waiting().next()?;
        if at <= now || self.is_stopping() {
            return Some(first);
        }
        // Of two workers at least one is not the only one with room.
        self.overdue.waiting().take(2).map(|(_, seat)| seat).find(|seat| self.free.has_other_than(*seat))
    }

    /// The answer is there, or will never come.
    pub(super) fn end_look(&mut self, seat: Seat) {
        self.recalling.take_if(|looked_into| *looked_into == seat);
    }

    // ── verdicts ───────────────────────────────────────────────────────────────────────────────────────────

    /// What came back tells how much the worker has claimed: all that remains.
    pub(super) fn judge_claiming(&mut self, turn: &mut Turn<'_>, seat: Seat, recalled: u64) {
        self.end_look(seat);
        if self.worker(seat).state != State::Ready {
            return;
        }
        // Out of descriptors, a recall stops half-way.
        if self.starved {
            self.watch(turn.now, seat, Watched::Everything);
        }
        if recalled == 0 {
            return;
        }
        let patience = self.config().recall_after;
        let worker = self.worker_mut(seat);
        let just_got_a_place = worker.completed_at.is_some_and(|at| turn.now < at + patience);
        match worker.conduct {
            Conduct::Claims | Conduct::Doubtful if worker.load() >= worker.concurrency() => {
                worker.conduct = Conduct::Doubtful;
            }
            Conduct::Claims | Conduct::Doubtful if !just_got_a_place => self.found_stuck(turn, seat, recalled),
            Conduct::Claims | Conduct::Doubtful | Conduct::Stuck | Conduct::Recovering => {}
        }
    }

    fn found_stuck(&mut self, turn: &mut Turn<'_>, seat: Seat, recalled: u64) {
        let worker = self.worker_mut(seat);
        worker.conduct = Conduct::Stuck;
        worker.stuck_in_row = worker.stuck_in_row.saturating_add(1);
        turn.note(Note::Stuck { worker: worker.name.clone(), recalled });
        if !std::mem::replace(&mut worker.probed, true) {
            turn.act(Action::Probe { worker: worker.id });
        }
    }

    /// A worker answered a probe.
    pub(crate) fn alive(&mut self, turn: &mut Turn<'_>, worker: WorkerId) {
        let Some(seat) = self.seat_of(worker) else { return };
        let patience = self.config().recall_after;
        let worker = self.worker_mut(seat);
        worker.probed = false;
        if worker.conduct == Conduct::Stuck {
            worker.conduct = Conduct::Recovering;
            // It lives, and yet it may not claim again: the more often, the longer it is left alone.
            let rest = patience.saturating_mul(1 << worker.stuck_in_row.min(20)).min(STUCK_REST_MAX);
            self.timers.set(Key::Recovery(seat), turn.now + rest);
        }
    }

    /// It completed something.
    pub(super) fn shows_life(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        let worker = self.worker_mut(seat);
        worker.completed_at = Some(turn.now);
        worker.stuck_in_row = 0;
        match worker.conduct {
            Conduct::Claims => {}
            Conduct::Doubtful => worker.conduct = Conduct::Claims,
            Conduct::Stuck | Conduct::Recovering => {
                self.trust_again(turn, seat);
                self.worker_mut(seat).conduct = Conduct::Claims;
            }
        }
        if self.worker(seat).overdue.is_some() {
            // It has a place now; it gets the usual time to fill it.
            self.forget_overdue(seat);
            self.watch(turn.now, seat, Watched::Everything);
        }
    }

    /// A worker that was stuck may be handed connections again.
    pub(super) fn trust_again(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        self.timers.clear(Key::Recovery(seat));
        let worker = self.worker_mut(seat);
        worker.conduct = Conduct::Doubtful;
        if worker.state == State::Ready {
            turn.note(Note::Unstuck { worker: worker.name.clone() });
        }
        self.place(seat);
    }
}

/// Whether it is still not known that what the entry watches was claimed.
fn is_open(workers: &[Option<Worker>], entry: &Entry) -> bool {
    let holder = workers[entry.seat.0 as usize].as_ref().filter(|worker| worker.id == entry.worker);
    holder.is_some_and(|worker| {
        worker.state == State::Ready
            && entry.handoff > worker.looked_at
            && match entry.watched {
                Watched::Conn(conn) => worker.tickets.get(&conn).is_some_and(|ticket| ticket.handoff == entry.handoff),
                Watched::Everything => worker.load() > 0,
            }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ostler_config::checked::Pool as Settings;
    use ostler_shared::completion::{Completion, Outcome};
    use ostler_shared::{ConnId, WorkerId};

    use super::*;
    use crate::event::PoolNo;

    fn settings() -> Settings {
        let text = "[pool.p]\nlisten = [\"unix:@p\"]\nworkers = 1\nconcurrency = 2\nrecall_after = \"60s\"\n";
        let config = ostler_config::parse(text, "test.toml".as_ref(), "/".as_ref());
        config.unwrap_or_else(|mistakes| panic!("{mistakes}")).pools.remove(0)
    }

    #[test]
    fn doubts_are_bounded_by_what_is_out_however_many_connections_pass_by_a_long_one() {
        let mut pool = Pool::new(PoolNo(0), &settings());
        let (mut out, mut next_worker, mut rng) = (Vec::new(), 0, fastrand::Rng::with_seed(1));
        let now = Moment::from_ns(1) + Duration::from_secs(1);
        let mut turn = Turn { now, out: &mut out, next_worker: &mut next_worker, rng: &mut rng };
        pool.conclude(&mut turn);
        pool.ready(&mut turn, WorkerId(1));
        pool.accepted(&mut turn, ConnId(1), None);
        for number in 2..1000 {
            let conn = ConnId(number);
            pool.accepted(&mut turn, conn, None);
            let completion = Completion { conn, outcome: Outcome::Done, claimed_at_ns: 0, done_at_ns: 0 };
            let mut doubts = Vec::new();
            pool.overdue.retain(|entry| {
                doubts.push(entry.watched);
                true
            });
            assert!(doubts.len() <= DOUBTS_PER_TICKET * 2, "{doubts:?} about two connections");
            assert!(doubts.contains(&Watched::Conn(ConnId(1))), "the long one is not forgotten");
            assert_eq!(doubts.last(), Some(&Watched::Conn(conn)), "nor is the new one");
            pool.completed(&mut turn, WorkerId(1), completion);
            pool.conclude(&mut turn);
        }
        assert_eq!(pool.outstanding, 1);
    }
}
