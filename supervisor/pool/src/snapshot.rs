//! Shows the pools as they are at one instant, for status.

use std::time::Duration;

use ostler_config::checked::Handoff;
use ostler_shared::scoreboard::Histogram;
use ostler_shared::scoreboard::content::Tally;
use ostler_shared::{Generation, PoolName, SlotNo, WorkerId};

use crate::Moment;
use crate::event::{Exit, PoolNo};
use crate::reason::Setback;

/// The two quantiles that status tells, over the last minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantile {
    /// The median.
    pub p50: Duration,
    /// The 99th percentile.
    pub p99: Duration,
}

/// How a pool fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolState {
    /// It has never had all its workers.
    Starting,
    /// Every slot has a READY worker.
    Ready,
    /// Some slot has none.
    Degraded,
    /// It spent its intensity; survivors serve.
    Failed,
    /// Its workers were sent away; clients wait.
    Paused,
    /// It is being stopped.
    Draining,
    /// It has stopped.
    Stopped,
}

/// How a worker fares, as status names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// Spawned, not READY.
    Starting,
    /// Takes connections.
    Ready,
    /// Finishes what it holds.
    Draining,
    /// Got a signal.
    Leaving,
    /// No process: the slot waits before the next try.
    BackOff,
}

/// How the last reload of a pool ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// There was none.
    None,
    /// Every slot moved.
    Ok,
    /// It was undone.
    Undone(Setback),
}

/// Connections let go without being served, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShedCounts {
    /// The line was full.
    pub queue_full: u64,
    /// They waited too long.
    pub queue_timeout: u64,
    /// Their clients hung up while they waited.
    pub client_gone: u64,
    /// Their user had as many in the line as one may have.
    pub per_uid: u64,
    /// The supervisor stopped.
    pub stopping: u64,
}

/// Whether connections are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tells {
    /// Each is known.
    Everything,
    /// They are accepted by a program that does not report them: the numbers say nothing.
    Nothing,
}

/// Where the connections of a pool are, at the price of a few additions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Connections accepted; always the sum of those that are done, lost, shed, in the line and outstanding (I1).
    pub accepted: u64,
    /// Ended after a worker had served them.
    pub done: u64,
    /// Of those that are done, how many did not go well: their handler panicked, or a program that served them failed.
    pub failed: u64,
    /// Died with a worker.
    pub lost: u64,
    /// Let go.
    pub shed: ShedCounts,
    /// Sends into mailboxes, repeats included.
    pub handed: u64,
    /// Taken back from a living worker.
    pub recalled: u64,
    /// Unclaimed when their worker died, handed to another.
    pub redelivered: u64,
    /// In the line.
    pub in_line: u64,
    /// In mailboxes or claimed.
    pub outstanding: u64,
}

/// One pool.
#[derive(Debug, Clone)]
pub struct PoolSnapshot {
    /// Its number.
    pub no: PoolNo,
    /// Its name.
    pub name: PoolName,
    /// How it fares.
    pub state: PoolState,
    /// The generation that the last complete reload brought.
    pub generation: Generation,
    /// How connections reach its workers.
    pub handoff: Handoff,
    /// How many workers it is to have.
    pub target: u32,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that ended after a worker had served them.
    pub done: u64,
    /// Of these, how many did not go well.
    pub failed: u64,
    /// Connections that died with a worker.
    pub lost: u64,
    /// Connections let go.
    pub shed: ShedCounts,
    /// Sends into mailboxes, repeats included.
    pub handed: u64,
    /// Taken back from a living worker.
    pub recalled: u64,
    /// Unclaimed when their worker died, handed to another.
    pub redelivered: u64,
    /// In the line.
    pub in_line: u64,
    /// In mailboxes or claimed; the driver tells the two apart by the mailboxes' depths.
    pub outstanding: u64,
    /// Whether anybody knows the five numbers of the balance: accepted, done, lost, outstanding, and what of it is shed.
    pub tells: Tells,
    /// Workers that were found stuck and are handed nothing for the time being.
    pub stuck: usize,
    /// Most that may wait in the line.
    pub queue_limit: u32,
    /// How long connections waited in the line.
    pub queue_delay: Option<Quantile>,
    /// How long workers held connections.
    pub service: Option<Quantile>,
    /// How long connections waited in the line before each handoff, since the start.
    pub waits: Histogram,
    /// How long workers held connections, since the start.
    pub services: Histogram,
    /// Since when the first in the line waits.
    pub first_in_line: Option<Moment>,
    /// What happened to its workers since the start.
    pub tally: Tally,
    /// The last reload.
    pub reload: ReloadOutcome,
    /// Workers by slot, an incumbent before its successor; slots that wait for one included.
    pub workers: Vec<WorkerSnapshot>,
    /// Templates, the oldest first.
    pub templates: Vec<TemplateSnapshot>,
}

/// One template.
#[derive(Debug, Clone)]
pub struct TemplateSnapshot {
    /// Its identity.
    pub id: WorkerId,
    /// The generation that it forks workers of.
    pub generation: Generation,
    /// How it fares; READY is who has loaded everything.
    pub state: WorkerState,
    /// How long ago it was started.
    pub age: Duration,
    /// Workers that it has forked.
    pub forked: u64,
}

/// One worker, or a slot that waits for one.
#[derive(Debug, Clone)]
pub struct WorkerSnapshot {
    /// Its slot.
    pub slot: SlotNo,
    /// Its generation, or that of the next one.
    pub generation: Generation,
    /// Its identity; `None` while the slot waits.
    pub id: Option<WorkerId>,
    /// How it fares.
    pub state: WorkerState,
    /// Since when; for a slot that waits, since its last worker ended.
    pub since: Option<Moment>,
    /// Connections in its mailbox or hands.
    pub outstanding: u64,
    /// When the oldest of them was handed to it.
    pub oldest_handed: Option<Moment>,
    /// Connections it has served.
    pub done: u64,
    /// Whether anybody knows what it holds and has served.
    pub tells: Tells,
    /// Connections it may hold.
    pub capacity: u32,
    /// How long ago it was spawned.
    pub age: Duration,
    /// How often the slot had to start another worker because one died unasked.
    pub restarts: u32,
    /// How and when the slot's last worker ended.
    pub last_exit: Option<(Exit, Moment)>,
}

/// Something that is due without an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// When.
    pub at: Moment,
    /// What, for people.
    pub what: String,
}
