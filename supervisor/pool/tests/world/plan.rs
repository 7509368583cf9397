//! Draws from a seed what kind of history it will be: sizes, settings, and which faults strike how often.

use std::time::Duration;

use ostler_config::checked::{self, Handoff};

use super::recycling;

/// What kind of history it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) pools: usize,
    pub(crate) workers: checked::Workers,
    pub(crate) handoff: Handoff,
    pub(crate) queue_limit: u32,
    pub(crate) overflow_waits: bool,
    pub(crate) per_uid: u32,
    pub(crate) dispatch: checked::Dispatch,
    pub(crate) places: Places,
    pub(crate) reload: checked::Reload,
    pub(crate) recycle: checked::Recycle,
    /// Zero: nobody is expected to beat.
    pub(crate) heartbeat: Duration,
    /// Zero: a request may take its time.
    pub(crate) request: Duration,
    /// Zero: none is noted.
    pub(crate) slow: Duration,
    pub(crate) on_pool_failed: checked::OnPoolFailed,
    pub(crate) shutdown_delay: Duration,
    pub(crate) faults: Faults,
    /// How often each kind of happening comes up, in the order of [`super::happenings::KINDS`].
    pub(crate) weights: [u32; super::happenings::KINDS.len()],
}

/// What a worker may hold; a reload may change it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    pub(crate) concurrency: u32,
    pub(crate) prefetch: u32,
    pub(crate) recall_after: Duration,
}

/// Each strikes once in so many times, and never when it is zero.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    /// A handoff finds no room in the kernel (EAGAIN, ETOOMANYREFS).
    pub(crate) busy: u32,
    /// A handoff finds the mailbox closed.
    pub(crate) closed: u32,
    pub(crate) spawn_fails: u32,
    pub(crate) exec_fails: u32,
    /// A worker never becomes READY.
    pub(crate) mute: u32,
    /// A worker answers probes but never claims.
    pub(crate) idle: u32,
    /// TERM and ABRT do not impress a worker.
    pub(crate) stubborn: u32,
    /// What a worker finished is not published until it finishes something else.
    pub(crate) batches: u32,
    /// What is published rings no bell.
    pub(crate) silent: u32,
    /// accept4 finds no descriptor.
    pub(crate) starved: u32,
    /// A recall finds no descriptor half-way.
    pub(crate) half_recalls: u32,
    /// Listeners that were bound can't be opened.
    pub(crate) cannot_open: u32,
    /// Somebody else has what a file adds.
    pub(crate) cannot_bind: u32,
    /// A death is noticed late.
    pub(crate) late_burials: u32,
    /// The end of the control channel is seen before the death.
    pub(crate) eof_first: u32,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Plan {
        let mut dice = fastrand::Rng::with_seed(seed ^ 0x5eed);
        let places = Places::draw(&mut dice);
        let dispatch = if dice.u32(0..4) == 0 { checked::Dispatch::RoundRobin } else { checked::Dispatch::LeastLoaded };
        let mut weights = super::happenings::KINDS.map(|(_, weight)| weight);
        // A third of the kinds is rare in this history, so that long runs of the others come about.
        for weight in &mut weights {
            if dice.u32(0..3) == 0 {
                *weight = weight.div_ceil(4);
            }
        }
        let mut plan = Plan {
            pools: dice.usize(1..3),
            workers: draw_workers(&mut dice),
            handoff: Handoff::Pass,
            queue_limit: dice.u32(1..20),
            overflow_waits: dice.bool(),
            per_uid: dice.u32(0..5),
            dispatch,
            places,
            reload: draw_reload(&mut dice),
            recycle: recycling::draw(&mut dice),
            request: [Duration::ZERO, REQUEST][dice.usize(0..2)],
            slow: [Duration::ZERO, REQUEST / 2][dice.usize(0..2)],
            heartbeat: [Duration::ZERO, HEARTBEAT, 2 * HEARTBEAT][dice.usize(0..3)],
            on_pool_failed: match dice.u32(0..4) {
                0 => checked::OnPoolFailed::Exit,
                _ => checked::OnPoolFailed::Keep,
            },
            shutdown_delay: Duration::from_millis([0, 0, 300, 2500][dice.usize(0..4)]),
            faults: Faults::draw(&mut dice),
            weights,
        };
        plan.handoff = [Handoff::Pass, Handoff::Pass, Handoff::Accept, Handoff::Listen][dice.usize(0..4)];
        if plan.handoff == Handoff::Listen {
            // What a file of such a pool can't say.
            plan.workers = plan.workers_of(plan.workers);
            (plan.request, plan.slow) = (Duration::ZERO, Duration::ZERO);
        }
        plan
    }

    /// Where workers accept for themselves, there is no range of them.
    pub(crate) fn workers_of(&self, drawn: checked::Workers) -> checked::Workers {
        match self.handoff {
            Handoff::Pass | Handoff::Accept | Handoff::Stdio => drawn,
            Handoff::Listen => checked::Workers::Fixed(drawn.initial().max(1)),
        }
    }

    /// What is not drawn is what a file that does not say it would mean.
    pub(crate) fn config(&self) -> checked::Config {
        let ms = Duration::from_millis;
        let pools: String = (0..self.pools).map(|n| format!("[pool.p{n}]\nlisten = [\"unix:@p{n}\"]\n")).collect();
        let parsed = ostler_config::parse(&pools, "plan.toml".as_ref(), "/".as_ref());
        let mut config = parsed.unwrap_or_else(|mistakes| panic!("{mistakes}"));
        config.supervisor.stop_timeout = ms(5000);
        config.supervisor.shutdown_delay = self.shutdown_delay;
        config.supervisor.on_pool_failed = self.on_pool_failed;
        for pool in &mut config.pools {
            pool.workers = self.workers;
            pool.handoff = self.handoff;
            pool.concurrency = self.places.concurrency;
            pool.prefetch = self.places.prefetch;
            pool.recall_after = self.places.recall_after;
            pool.reload = self.reload;
            pool.recycle = self.recycle;
            pool.dispatch = self.dispatch;
            pool.queue.limit = self.queue_limit;
            pool.queue.timeout = QUEUE_TIMEOUT;
            pool.queue.per_uid = self.per_uid;
            pool.queue.on_timeout = checked::Farewell::Reply("late".into());
            pool.queue.overflow = match self.overflow_waits {
                true => checked::Overflow::Wait,
                false => checked::Overflow::Shed(checked::Farewell::Close),
            };
            pool.start.ready_timeout = READY_TIMEOUT;
            pool.start.settle = ms(500);
            (pool.start.backoff_min, pool.start.backoff_max) = (ms(100), ms(2000));
            (pool.start.failures, pool.start.period) = (5, ms(20_000));
            pool.watchdog.heartbeat = self.heartbeat;
            (pool.watchdog.request, pool.watchdog.slow) = (self.request, self.slow);
            (pool.drain.timeout, pool.drain.kill_after) = (ms(2000), KILL_AFTER);
        }
        config
    }
}

pub(crate) fn draw_workers(dice: &mut fastrand::Rng) -> checked::Workers {
    let ms = Duration::from_millis;
    let (fixed, min) = (dice.u32(1..5), [0, 0, 1, 2][dice.usize(0..4)]);
    let (idle, target_delay) = (ms([150, 600, 2500][dice.usize(0..3)]), ms([1, 5, 50][dice.usize(0..3)]));
    match dice.u32(0..2) {
        0 => checked::Workers::Fixed(fixed),
        _ => checked::Workers::Between(checked::Range { min, max: min.max(1) + fixed - 1, idle, target_delay }),
    }
}

pub(crate) fn draw_reload(dice: &mut fastrand::Rng) -> checked::Reload {
    checked::Reload {
        surge: match dice.u32(0..4) {
            0 | 1 => checked::Surge::Workers(1),
            2 => checked::Surge::Workers(dice.u32(2..5)),
            _ => checked::Surge::Percent(dice.u32(1..101)),
        },
        canary: if dice.bool() { checked::Canary::Sent } else { checked::Canary::Spared },
        probation: Duration::from_millis([0, 0, 30, 700][dice.usize(0..4)]),
        template: if dice.u32(0..3) == 0 { checked::Template::Used } else { checked::Template::Unused },
    }
}

impl Places {
    pub(crate) fn draw(dice: &mut fastrand::Rng) -> Places {
        let recall_after = [1, 5, 5, 40, 1500][dice.usize(0..5)];
        Places {
            concurrency: dice.u32(1..4),
            prefetch: dice.u32(0..3),
            recall_after: Duration::from_millis(recall_after),
        }
    }
}

impl Faults {
    fn draw(dice: &mut fastrand::Rng) -> Faults {
        let mut one_in = |often: u32, seldom: u32| match dice.u32(0..3) {
            0 => 0,
            _ => dice.u32(often..seldom),
        };
        Faults {
            busy: one_in(6, 60),
            closed: one_in(20, 100),
            spawn_fails: one_in(8, 100),
            exec_fails: one_in(20, 200),
            mute: one_in(3, 60),
            idle: one_in(2, 10),
            stubborn: one_in(1, 6),
            batches: one_in(2, 10),
            silent: one_in(1, 10),
            starved: one_in(10, 60),
            half_recalls: one_in(1, 10),
            cannot_open: one_in(2, 8),
            late_burials: one_in(1, 5),
            eof_first: one_in(1, 6),
            cannot_bind: one_in(2, 8),
        }
    }
}

/// Pools that there may be at a time.
pub(crate) const POOLS_MAX: usize = 3;
pub(crate) const QUEUE_TIMEOUT: Duration = Duration::from_millis(3000);
pub(crate) const READY_TIMEOUT: Duration = Duration::from_millis(2000);
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(700);
pub(crate) const REQUEST: Duration = Duration::from_millis(600);
pub(crate) const KILL_AFTER: Duration = Duration::from_millis(1000);
