//! Lets things happen: clients, workers, operators, the clock, and the driver that finds out about it late.

use std::sync::Arc;

use ostler_config::checked::{self, Handoff};
use ostler_pool::{Change, Event, Exit, HangUp, Moment, NoConfig, PoolNo, RequestId, Uid, Urgency};
use ostler_shared::completion::{Completion, Outcome};
use ostler_shared::{ConnId, PoolName, SlotNo, WorkerId};

use super::fake::{Fake, Probe, Process, Record};
use super::plan::{POOLS_MAX, Places, draw_reload, draw_workers};
use super::{Burial, Conn, Place, World, by_itself, doors, oracle, recycling, templates};

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    ClientsCome,
    ClientHangsUp,
    WorkerClaims,
    WorkerFinishes,
    RingIsRead,
    WorkerGetsReady,
    WorkerDies,
    WorkerTurnsAway,
    WorkerLies,
    WorkersStop,
    WorkerContinues,
    WorkerAnswers,
    RequestComesOrGoes,
    LoopStandsStill,
    LoopTurnsAgain,
    NobodyIsThere,
    StaleNewsArrive,
    DeathIsNoticed,
    ConfigIsRead,
    QueueRunsEmpty,
    TimePasses,
    OperatorActs,
    TemplateActs,
}

/// Every kind, and how often it comes up.
pub(crate) const KINDS: [(Kind, u32); 23] = [
    (Kind::ClientsCome, 24),
    (Kind::ClientHangsUp, 2),
    (Kind::WorkerClaims, 18),
    (Kind::WorkerFinishes, 14),
    (Kind::RingIsRead, 4),
    (Kind::WorkerGetsReady, 16),
    (Kind::WorkerDies, 3),
    (Kind::WorkerTurnsAway, 2),
    (Kind::WorkerLies, 2),
    (Kind::WorkersStop, 2),
    (Kind::WorkerContinues, 3),
    (Kind::WorkerAnswers, 4),
    (Kind::RequestComesOrGoes, 6),
    (Kind::LoopStandsStill, 2),
    (Kind::LoopTurnsAgain, 1),
    (Kind::NobodyIsThere, 1),
    (Kind::StaleNewsArrive, 2),
    (Kind::DeathIsNoticed, 2),
    (Kind::ConfigIsRead, 4),
    (Kind::QueueRunsEmpty, 4),
    (Kind::TimePasses, 14),
    (Kind::OperatorActs, 3),
    (Kind::TemplateActs, 8),
];

/// A driver is so late at most, in nanoseconds.
pub(super) const LONGEST_LEAP: u64 = 400_000_000;

impl World {
    /// One random happening.
    pub(super) fn something_happens(&mut self) {
        let mut at = self.dice.u32(0..self.plan.weights.iter().sum());
        let chosen = KINDS.iter().zip(self.plan.weights).find(|(_, weight)| {
            let here = at < *weight;
            at = at.wrapping_sub(*weight);
            here
        });
        match chosen.expect("the draw is below the sum").0.0 {
            Kind::ClientsCome => self.clients_come(),
            Kind::ClientHangsUp => self.a_client_hangs_up(),
            Kind::WorkerClaims => self.a_worker_claims(),
            Kind::WorkerFinishes => self.a_worker_finishes(),
            Kind::RingIsRead => self.a_ring_is_read(),
            Kind::WorkerGetsReady => self.a_worker_gets_ready(),
            Kind::WorkerDies => self.a_worker_dies(),
            Kind::WorkerTurnsAway => self.a_worker_turns_away(),
            Kind::WorkerLies => self.a_worker_lies(),
            Kind::WorkersStop => self.workers_stop(),
            Kind::WorkerContinues => self.a_worker_continues(),
            Kind::WorkerAnswers => self.a_worker_answers(),
            Kind::RequestComesOrGoes => self.a_request_comes_or_goes(),
            Kind::LoopStandsStill => self.a_loop_stands_still(),
            Kind::LoopTurnsAgain => self.a_loop_turns_again(),
            Kind::NobodyIsThere => self.nobody_is_there(),
            Kind::StaleNewsArrive => self.stale_news_arrive(),
            Kind::DeathIsNoticed => self.deaths_are_noticed(),
            Kind::ConfigIsRead => self.the_config_is_read(),
            Kind::QueueRunsEmpty => self.a_queue_runs_empty(),
            Kind::TimePasses => self.time_passes(),
            Kind::OperatorActs => self.an_operator_acts(),
            Kind::TemplateActs => templates::happen(self),
        }
    }

    /// A turn of the stop: everybody does what keeps it going.
    pub(super) fn the_stop_goes_on(&mut self) {
        self.deaths_are_noticed();
        if self.refuses_from.is_some_and(|from| self.now < from) {
            self.clients_come();
            if self.strikes(20) {
                self.stopping = Some(Urgency::Now);
                self.step(Event::Stop { urgency: Urgency::Now });
            }
        }
        for number in self.living_pools().into_iter().filter(|number| self.refusing[*number]).collect::<Vec<_>>() {
            self.kernel_queue_is_empty(number);
            self.go_on();
        }
        for _ in 0..4 {
            self.a_worker_claims();
            self.a_worker_finishes();
            self.a_ring_is_read();
            self.a_worker_answers();
            self.a_drained_worker_ends();
            templates::happen(self);
        }
        self.a_worker_continues();
        self.time_passes();
    }

    // ── clients ────────────────────────────────────────────────────────────────────────────────────────────

    fn clients_come(&mut self) {
        let Some(pool) = self.any_pool() else { return };
        for _ in 0..self.dice.u32(1..4) {
            if !self.accepting[pool] || self.emptied[pool] {
                return;
            }
            if self.strikes(self.plan.faults.starved) {
                self.marks.accept_starved += 1;
                return self.step(Event::AcceptStarved { pool: PoolNo(pool) });
            }
            self.a_client_comes(pool);
        }
    }

    fn living_pools(&self) -> Vec<usize> {
        (0..self.oracle.pools.len()).filter(|number| !self.oracle.pools[*number].gone).collect()
    }

    fn any_pool(&mut self) -> Option<usize> {
        let living = self.living_pools();
        (!living.is_empty()).then(|| living[self.dice.usize(0..living.len())])
    }

    /// The last ones who had connected to a pool that ends are accepted.
    fn a_queue_runs_empty(&mut self) {
        let Some(pool) = self.any_pool().filter(|pool| self.refusing[*pool] && !self.emptied[*pool]) else { return };
        self.kernel_queue_is_empty(pool);
        self.go_on();
    }

    fn a_client_comes(&mut self, pool: usize) {
        // Half of them come over TCP, where nobody knows whose they are.
        let uid = self.dice.bool().then(|| Uid(self.dice.u32(0..3)));
        self.marks.came_during_a_delay += u64::from(self.refuses_from.is_some() && !self.refusing[pool]);
        let fresh = Conn { pool, uid, place: Place::Driver, accepted_at: self.now, handed_at: 0, gone: false };
        self.conns.push(fresh);
        self.oracle.accepted(pool);
        let conn = ConnId(self.conns.len() as u64);
        let back = |world: &World| world.marks.recalled + world.marks.refused_busy + world.marks.refused_closed;
        let (before, came_back) = (self.pools.totals(PoolNo(pool)).in_line, back(self));
        self.step(Event::Accepted { pool: PoolNo(pool), conn, uid });
        if back(self) == came_back {
            oracle::check_limit(self, pool, before);
        }
    }

    fn a_client_hangs_up(&mut self) {
        let waits = |conn: &&Conn| conn.place == Place::Driver && !conn.gone;
        let waiting = self.conns.iter().filter(waits).count();
        if waiting > 0 && self.dice.bool() {
            let chosen = self.dice.usize(0..waiting);
            let conn = self.conns.iter().enumerate().filter(|(_, conn)| waits(conn)).nth(chosen).map(|(at, _)| at);
            return self.one_in_the_line_hangs_up(conn.expect("counted a moment ago"));
        }
        self.one_with_a_worker_hangs_up();
    }

    /// The driver sees it, and the pool lets the connection go at once.
    fn one_in_the_line_hangs_up(&mut self, at: usize) {
        self.conns[at].gone = true;
        let pool = PoolNo(self.conns[at].pool);
        self.step(Event::ClientGone { pool, conn: ConnId(at as u64 + 1) });
        assert_eq!(self.conns[at].place, Place::Shed, "a client has gone and keeps its place in the line");
    }

    fn one_with_a_worker_hangs_up(&mut self) {
        let Some(worker) = self.any_worker(|fake| !fake.mailbox.is_empty() || !fake.hands.is_empty()) else { return };
        let fake = &self.workers[&worker];
        let held: Vec<ConnId> = fake.mailbox.iter().chain(&fake.hands).copied().collect();
        let conn = held[self.dice.usize(0..held.len())];
        self.marks.client_hung_up += 1;
        self.conns[conn.0 as usize - 1].gone = true;
        // The driver may have seen it in the very turn in which the connection was handed out.
        self.step(Event::ClientGone { pool: PoolNo(self.workers[&worker].pool), conn });
        let Some(fake) = self.workers.get(&worker) else { return };
        if !fake.mailbox.contains(&conn) && !fake.hands.contains(&conn) {
            return;
        }
        let fake = self.workers.get_mut(&worker).expect("chosen a moment ago");
        if fake.turns() && fake.hands.contains(&conn) {
            self.finish(worker, conn);
        }
    }

    // ── workers ────────────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn any_worker(&mut self, fits: impl Fn(&Fake) -> bool) -> Option<WorkerId> {
        let fitting = self.workers.values().filter(|fake| fits(fake)).count();
        let chosen = (fitting > 0).then(|| self.dice.usize(0..fitting))?;
        self.workers.iter().filter(|(_, fake)| fits(fake)).nth(chosen).map(|(id, _)| *id)
    }

    fn a_worker_claims(&mut self) {
        if self.plan.handoff == Handoff::Listen {
            return by_itself::a_worker_accepts(self);
        }
        let Some(worker) = self.any_worker(Fake::may_claim) else { return };
        let now = self.now;
        let fake = self.workers.get_mut(&worker).expect("chosen a moment ago");
        let conn = fake.mailbox.pop_front().expect("it may claim");
        if fake.hands.is_empty() {
            fake.busy_since = now;
        }
        fake.hands.push(conn);
        self.write(|_| format!("  {worker} claims {conn}"));
        self.move_conn(conn, Place::Mailbox, Place::Hands);
        if self.conns[conn.0 as usize - 1].gone {
            self.finish(worker, conn);
        }
    }

    fn a_worker_finishes(&mut self) {
        let Some(worker) = self.any_worker(|fake| fake.turns() && !fake.hands.is_empty()) else { return };
        if self.plan.handoff == Handoff::Listen && self.dice.u32(0..4) == 0 {
            return by_itself::a_worker_finds_no_room(self, worker);
        }
        let hands = &self.workers[&worker].hands;
        let conn = hands[self.dice.usize(0..hands.len())];
        self.finish(worker, conn);
    }

    /// It is done with a connection, writes that down, publishes it now or later, and rings or does not.
    fn finish(&mut self, worker: WorkerId, conn: ConnId) {
        let outcome = match self.dice.u32(0..20) {
            0 => [Outcome::Truncated, Outcome::Dropped][usize::from(conn.0.is_multiple_of(2))],
            1 => [Outcome::Panicked, Outcome::Failed][usize::from(conn.0.is_multiple_of(2))],
            _ => Outcome::Done,
        };
        let (batches, silent) = (self.plan.faults.batches, self.plan.faults.silent);
        let at = self.now;
        let fake = self.workers.get_mut(&worker).expect("chosen a moment ago");
        fake.hands.retain(|held| *held != conn);
        fake.busy.remove(&conn);
        fake.unpublished.push(Record { conn, outcome, at });
        self.write(|_| format!("  {worker} finishes {conn}"));
        if self.strikes(batches) {
            return;
        }
        self.publish(worker);
        if self.strikes(silent) {
            self.marks.lost_doorbell += 1;
            return;
        }
        self.ring_is_read(worker);
    }

    fn publish(&mut self, worker: WorkerId) {
        let fake = self.workers.get_mut(&worker).expect("who publishes is there");
        self.marks.batch_published += u64::from(fake.unpublished.len() > 1);
        let records = std::mem::take(&mut fake.unpublished);
        fake.ring.extend(records);
    }

    /// The driver looks into a ring, with or without a reason.
    fn a_ring_is_read(&mut self) {
        let Some(worker) = self.any_worker(|_| true) else { return };
        if self.workers[&worker].turns() {
            self.publish(worker);
        }
        if self.workers[&worker].ring.is_empty() {
            self.marks.early_doorbell += 1;
            return self.step(Event::Tick);
        }
        self.ring_is_read(worker);
    }

    fn ring_is_read(&mut self, worker: WorkerId) {
        self.read_ring(worker);
        self.go_on();
    }

    fn a_worker_gets_ready(&mut self) {
        let Some(worker) = self.any_worker(|fake| fake.turns() && !fake.traits.mute) else { return };
        if self.plan.handoff == Handoff::Listen && self.dice.u32(0..4) > 0 {
            by_itself::introduce(self, worker);
        }
        self.step(Event::Ready { worker });
    }

    fn a_worker_answers(&mut self) {
        let Some(worker) = self.any_worker(|fake| fake.runs() && fake.known.probe == Probe::Asked) else { return };
        self.marks.idle_worker_answered_a_probe += u64::from(self.workers[&worker].traits.idle);
        self.step(Event::Alive { worker });
    }

    /// Several are stopped; they are continued one by one, in whatever order chance has it.
    fn workers_stop(&mut self) {
        let count = self.dice.u32(1..4);
        self.marks.several_stopped += u64::from(count > 1);
        for _ in 0..count {
            let Some(worker) = self.any_worker(Fake::runs) else { return };
            self.write(|_| format!("  {worker} is stopped"));
            self.marks.stopped += 1;
            let now = self.now;
            let fake = self.workers.get_mut(&worker).expect("chosen a moment ago");
            fake.process = Process::Stopped;
            fake.stands_still.get_or_insert(now);
        }
    }

    /// On a connection that a worker holds: it comes, or is answered.
    fn a_request_comes_or_goes(&mut self) {
        let Some(worker) = self.any_worker(|fake| fake.turns() && !fake.hands.is_empty()) else { return };
        let hands = &self.workers[&worker].hands;
        let conn = hands[self.dice.usize(0..hands.len())];
        let now = self.now;
        let fake = self.workers.get_mut(&worker).expect("chosen a moment ago");
        let comes = fake.busy.remove(&conn).is_none();
        if comes {
            fake.busy.insert(conn, now);
        }
        self.write(|_| format!("  a request on {conn} of {worker} {}", if comes { "comes" } else { "is answered" }));
    }

    /// Its loop stands still; it answers probes all the same, from another thread.
    fn a_loop_stands_still(&mut self) {
        let Some(worker) = self.any_worker(Fake::turns) else { return };
        let now = self.now;
        self.write(|_| format!("  the loop of {worker} stands still"));
        self.marks.stood_still += 1;
        self.workers.get_mut(&worker).expect("chosen a moment ago").stands_still = Some(now);
    }

    fn a_loop_turns_again(&mut self) {
        let Some(worker) = self.any_worker(|fake| fake.runs() && !fake.turns()) else { return };
        self.write(|_| format!("  the loop of {worker} turns again"));
        self.marks.turned_again += 1;
        self.workers.get_mut(&worker).expect("chosen a moment ago").stands_still = None;
    }

    /// The machine stands still. The driver takes that time out of the pool's, and blames nobody for it.
    fn nobody_is_there(&mut self) {
        self.marks.absent += 1;
        self.back_at = self.now;
        self.step(Event::Tick);
    }

    fn a_worker_continues(&mut self) {
        let Some(worker) = self.any_worker(Fake::is_stopped) else { return };
        self.write(|_| format!("  {worker} is continued"));
        self.marks.continued += 1;
        let fake = self.workers.get_mut(&worker).expect("chosen a moment ago");
        let has_term = fake.process == Process::StoppedWithTerm;
        fake.process = Process::Runs;
        fake.stands_still = None;
        if has_term {
            self.die(worker, Exit::Signal(15), Burial::AtOnce);
            self.step(Event::Tick);
        }
    }

    fn a_worker_dies(&mut self) {
        let Some(worker) = self.any_worker(|fake| !fake.is_dead()) else { return };
        let exit = if self.dice.bool() { Exit::Code(3) } else { Exit::Signal(9) };
        let burial = self.draw_burial();
        self.marks.late_burial += u64::from(burial == Burial::Later);
        self.write(|_| format!("  {worker} dies, noticed {burial:?}"));
        if self.strikes(self.plan.faults.eof_first) {
            self.marks.eof_before_death += 1;
            self.step(Event::HungUp { worker, how: HangUp::ChannelClosed });
        }
        self.die(worker, exit, burial);
        self.step(Event::Tick);
    }

    fn a_drained_worker_ends(&mut self) {
        let Some(worker) = self.any_worker(|fake| fake.turns() && fake.known.drained && fake.holds_nothing()) else {
            return;
        };
        self.publish(worker);
        self.die(worker, Exit::Code(0), Burial::AtOnce);
        self.step(Event::Tick);
    }

    fn deaths_are_noticed(&mut self) {
        if self.dying.is_empty() {
            return;
        }
        self.dying.iter_mut().for_each(|(.., burial)| *burial = Burial::AtOnce);
        self.step(Event::Tick);
    }

    fn a_worker_turns_away(&mut self) {
        let Some(worker) = self.any_worker(|fake| !fake.is_dead()) else { return };
        let how = if self.dice.bool() { HangUp::Leaves } else { HangUp::ChannelClosed };
        self.step(Event::HungUp { worker, how });
    }

    fn a_worker_lies(&mut self) {
        let Some(worker) = self.any_worker(|fake| !fake.is_dead()) else { return };
        let fake = &self.workers[&worker];
        let lie = |conn| Completion { conn, outcome: Outcome::Done, claimed_at_ns: 0, done_at_ns: u64::MAX };
        let (serves, front) = (fake.known.serving, fake.mailbox.front().copied());
        match self.dice.u32(0..3) {
            0 => self.step(Event::Misbehaved { worker, how: "garbage".into() }),
            // The meanest: it says that a connection is over which still lies in its mailbox. Told by one that serves
            // and is caught at the same moment, so that the recall that follows shows the truth at once.
            1 if serves => {
                let Some(conn) = front.filter(|conn| self.workers[&worker].known.tickets.contains(conn)) else {
                    return;
                };
                self.marks.lied += 1;
                // With its ticket the pool forgets whose it is.
                self.conns[conn.0 as usize - 1].uid = None;
                self.workers.get_mut(&worker).expect("chosen a moment ago").known.liar = true;
                self.pending.push_back(Event::Misbehaved { worker, how: "lied".into() });
                self.step(Event::Completed { worker, completion: lie(conn) });
            }
            // Whichever it names, it is one of its own.
            _ if self.plan.handoff == Handoff::Listen => by_itself::a_worker_miscounts(self, worker),
            _ => {
                let conn = ConnId(self.dice.u64(1..self.conns.len() as u64 + 9));
                if self.workers[&worker].known.tickets.contains(&conn) {
                    return;
                }
                let known = self.conns.get(conn.0 as usize - 1);
                let in_line = known.is_some_and(|known| known.place == Place::Driver && known.handed_at > 0);
                self.marks.completed_what_was_recalled += u64::from(in_line);
                self.step(Event::Completed { worker, completion: lie(conn) });
            }
        }
    }

    /// What was under way when a worker died is read when it is dead, or even buried.
    fn stale_news_arrive(&mut self) {
        let dying = self.dying.front().map(|(worker, ..)| *worker);
        let Some(worker) = dying.or(self.graves.front().copied()) else { return };
        self.marks.stale_news += 1;
        let completion = Completion { conn: ConnId(1), outcome: Outcome::Done, claimed_at_ns: 0, done_at_ns: 1 };
        let event = match self.dice.u32(0..5) {
            0 => Event::Ready { worker },
            1 => Event::Alive { worker },
            2 => Event::HungUp { worker, how: HangUp::Leaves },
            3 if dying.is_none() => Event::Completed { worker, completion },
            _ => Event::Misbehaved { worker, how: "late".into() },
        };
        self.step(event);
    }

    // ── the clock and the operator ─────────────────────────────────────────────────────────────────────────

    fn time_passes(&mut self) {
        let deadline = self.pools.next_deadline().map(Moment::as_ns);
        match (self.dice.u32(0..4), deadline) {
            (0 | 1, Some(at)) => self.now = self.now.max(at),
            (2, _) => self.now += self.dice.u64(1..8_000_000),
            (_, _) => self.now += self.dice.u64(1..LONGEST_LEAP),
        }
        self.step(Event::Tick);
    }

    fn an_operator_acts(&mut self) {
        let pool = format!("p{}", self.dice.usize(0..POOLS_MAX)).parse().unwrap();
        let kind = self.dice.u32(0..16);
        if kind == 13 {
            if self.strikes(20) {
                let urgency = if self.dice.bool() { Urgency::Graceful } else { Urgency::Now };
                self.stopping = self.stopping.max(Some(urgency));
                self.step(Event::Stop { urgency });
            }
            return;
        }
        if kind == 12 {
            self.marks.hup_while_paused += u64::from(self.oracle.anything_is_paused());
            return self.step(Event::ResumeOrReload);
        }
        self.next_request += 1;
        let request = Some(RequestId(self.next_request));
        self.open_requests.extend(request);
        match kind {
            0..4 => {
                let pools = if self.dice.bool() { vec![] } else { vec![pool] };
                self.step(Event::Reload { request, pools });
            }
            4..6 => {
                let slot = self.dice.bool().then(|| SlotNo(self.dice.u32(0..5)));
                self.step(Event::Restart { request, pool, slot });
            }
            6 | 7 => {
                let pool = self.dice.bool().then_some(pool);
                self.step(Event::Pause { request, pool });
            }
            8 | 9 => {
                let pool = self.dice.bool().then_some(pool);
                self.step(Event::Resume { request, pool });
            }
            14.. => {
                let slot = self.dice.bool().then(|| SlotNo(self.dice.u32(0..5)));
                self.oracle.recycling_asked = true;
                self.step(Event::Recycle { request, pool, slot });
            }
            _ => {
                let change = match self.dice.u32(0..3) {
                    0 => Change::To(self.dice.u32(0..6)),
                    1 => Change::More(1),
                    _ => Change::Fewer(1),
                };
                self.marks.scaled += 1;
                self.step(Event::Scale { request, pool: Some(pool), change });
            }
        }
    }

    fn the_config_is_read(&mut self) {
        let Some(only) = self.config_wanted.take() else { return };
        let file = match self.dice.u32(0..6) {
            0 => return self.no_config(NoConfig::Unusable("line 3: a mistake".to_owned())),
            1 => (*self.config).clone(),
            _ => self.another_config(),
        };
        match ostler_config::plan(&self.config, &file, &only) {
            Ok(plan) => {
                self.marks.pools_added += plan.added.len() as u64;
                let config = Arc::new(plan.config);
                let bound = doors::bind(self, &config).map_err(NoConfig::CannotListen);
                self.step(Event::ConfigRead { config: bound.map(|()| config) });
            }
            Err(refused) => self.no_config(NoConfig::Unusable(refused.join("\n"))),
        }
    }

    fn no_config(&mut self, why: NoConfig) {
        self.step(Event::ConfigRead { config: Err(why) });
    }

    fn another_config(&mut self) -> checked::Config {
        let mut config = (*self.config).clone();
        for pool in &mut config.pools {
            let places = Places::draw(&mut self.dice);
            pool.workers = self.plan.workers_of(draw_workers(&mut self.dice));
            (pool.concurrency, pool.prefetch) = (places.concurrency, places.prefetch);
            pool.recall_after = places.recall_after;
            pool.reload = draw_reload(&mut self.dice);
            pool.recycle = recycling::draw(&mut self.dice);
            if self.dice.bool() {
                pool.listen = doors::draw(&mut self.dice, &pool.name);
            }
        }
        let name: PoolName = format!("p{}", self.dice.usize(0..POOLS_MAX)).parse().unwrap();
        match (self.dice.u32(0..4), config.pools.iter().position(|pool| pool.name == name)) {
            (0, Some(place)) if config.pools.len() > 1 => drop(config.pools.remove(place)),
            (0 | 1, None) => {
                let mut more = config.pools[0].clone();
                more.listen = doors::draw(&mut self.dice, &name);
                more.name = name;
                config.pools.push(more);
            }
            (_, _) => {}
        }
        config
    }
}
