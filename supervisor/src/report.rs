//! Words everything that operators read: the log, and the answers to their commands.
//!
//! Decisions are logged once, here. Info is an operator's diary; a warning says what to do next. A worker is always
//! written `worker=pool/slot.generation`, a connection `conn=c812`.

pub(crate) mod hooks;
pub(crate) mod log;

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;
use ostler_config::checked::{Handoff, Ready};
use ostler_config::format_duration;
use ostler_pool::{
    Answer, Cause, Ended, Exit, FORK_TIMEOUT, Failure, Note, PoolSnapshot, PoolState, Rescaled, Setback, SetbackStage,
    Shed, Step, StopCount, Urgency, Wear, What, WorkerState,
};
use ostler_shared::{ConnId, Generation, PoolName, WorkerId, WorkerName};
use tracing::{debug, error, info, warn};

use crate::control::protocol::Progress;
use crate::deaths::{Death, ProgramsEnded};
use crate::driver::{Arrived, Core, LINES_PER_SECOND, OutOfMemory, Sender};
use crate::exit::ExitCode;
use crate::status;

/// The last lines of workers that are gone.
pub(crate) type Epitaphs = BTreeMap<WorkerId, Vec<String>>;

/// Logs what the pools noted.
pub(crate) fn note(note: &Note, epitaphs: &Epitaphs) {
    match note {
        Note::Ready { worker, took, .. } => info!(%worker, took = %format_duration(round(*took)), "ready"),
        Note::TemplateReady { template, took } => {
            info!(worker = %template, took = %format_duration(round(*took)), "has loaded, and forks workers");
        }
        Note::Leaves { worker, cause } => leaves(worker, *cause),
        Note::Escalated { worker, step } => escalated(worker, *step),
        // Said by `died`, with what the driver knows.
        Note::Died { .. } => {}
        Note::BackOff { failure, wait } => {
            warn!("{}; next try in {}", sentence(failure, epitaphs), format_duration(round(*wait)));
        }
        Note::Misbehaved { worker, how } => warn!(%worker, "broke the protocol: it {how}; it is replaced"),
        Note::Truncated { worker, conn } => warn!(
            %worker, %conn,
            "lost a connection: the worker had no free descriptor to receive it; raise process.nofile"
        ),
        Note::Dropped { worker, conn } => {
            warn!(%worker, %conn, "lost a connection: the process of this worker that held it has died; the worker goes on");
        }
        Note::Stuck { worker, recalled } => stuck(worker, *recalled, None, Experience::Some),
        Note::Silent { worker, silence } => warn!(
            %worker,
            "does not move, not heard of for {}; gets ABRT, and another takes its place (see watchdog.heartbeat)",
            format_duration(round(*silence))
        ),
        Note::Overdue { worker, conn, age } => warn!(
            %worker, %conn,
            "is at one request for {}; gets ABRT, and another takes its place (see watchdog.request)",
            format_duration(round(*age))
        ),
        Note::Slow { worker, conn, age } => {
            warn!(%worker, %conn, "slow: a request takes {} and is not answered yet", format_duration(round(*age)));
        }
        Note::Unstuck { worker } => info!(%worker, "is handed connections again"),
        Note::Panicked { worker, conn } => warn!(%worker, %conn, "the handler panicked; the worker goes on"),
        Note::AcceptPaused { pool, why } => info!(%pool, "accepting pauses: {why}"),
        Note::AcceptResumed { pool } => debug!(%pool, "accepting"),
        Note::Shed { pool, why, count } => shed(pool, *why, *count),
        Note::Scaled { pool, from, to, why } => info!(%pool, "scaled from {from} to {to} workers{}", rescaled(*why)),
        Note::PauseRefused { why } => warn!("not paused: {why}"),
        Note::PauseBegun { pool } => info!(%pool, "pausing: its workers drain, its clients wait"),
        Note::Paused { pool, waiting } => info!(%pool, waiting, "paused: its workers are gone"),
        Note::ResumeBegun { pool, waiting } => info!(%pool, waiting, "resuming"),
        Note::Resumed { pool, workers } => info!(%pool, workers, "resumed"),
        Note::Worn { worker, wear: why, .. } => {
            debug!(%worker, "{}; it serves on until its successor is ready", wear(*why));
        }
        Note::RecycleFutile { worker, rss, limit, wait } => warn!(
            %worker,
            "occupies {} when it is looked at for the first time, and may {}: another would too. Raise recycle.rss. \
             Nobody is recycled for {}",
            mebibytes(*rss), mebibytes(*limit), format_duration(round(*wait))
        ),
        Note::RecycleFailed { pool, failure, wait } => warn!(
            %pool,
            "cannot recycle: {}; the old worker serves on, next try in {}",
            sentence(failure, epitaphs), format_duration(round(*wait))
        ),
        Note::StopBegun { urgency: Urgency::Graceful } => info!("stopping: serving what waits"),
        Note::StopDelayed { length } => {
            info!("accepting for {} more (supervisor.shutdown_delay)", format_duration(round(*length)));
        }
        Note::StopBegun { urgency: Urgency::Now } => info!("stopping at once"),
        Note::PoolReady { pool, workers } => info!(%pool, workers, "all workers are ready"),
        Note::PoolFailed { pool, failure, survivors: 0 } => {
            error!(%pool, "given up, nobody serves: {}", sentence(failure, epitaphs));
        }
        Note::PoolFailed { pool, failure, survivors } => error!(
            %pool,
            "given up: {}; {survivors} workers serve on. Mend it, then `ostler restart {pool}` or `ostler reload`",
            sentence(failure, epitaphs)
        ),
        Note::PoolStopped { pool, done, lost, shed } => {
            let reasons: Vec<String> = shed.iter().map(|(why, count)| format!("{} {count}", why.as_str())).collect();
            let total: u64 = shed.iter().map(|(_, count)| count).sum();
            info!(%pool, done, lost, shed = total, "stopped{}", in_brackets(&reasons.join(", ")));
        }
        Note::RolloutBegun { .. }
        | Note::SlotMoves { .. }
        | Note::SlotRolled { .. }
        | Note::Committed { .. }
        | Note::UndoBegun { .. }
        | Note::Undone { .. }
        | Note::UndoStuck { .. }
        | Note::RestartFailed { .. } => reload_note(note, epitaphs),
    }
}

/// How the programs of a connection ended.
pub(crate) fn programs(ended: &ProgramsEnded) {
    let (worker, conn, words) = (&ended.worker, &ended.conn, ended.words());
    if ended.is_well() {
        debug!(%worker, %conn, "its programs ended: {words}");
    } else {
        warn!(%worker, %conn, "its programs did not all end well: {words}");
    }
}

fn reload_note(note: &Note, epitaphs: &Epitaphs) {
    match note {
        Note::RolloutBegun { pool, generation, .. } => info!(%pool, %generation, "reload begins"),
        Note::SlotMoves { worker } => debug!(%worker, "starts in its slot"),
        Note::SlotRolled { worker, moved, of } => debug!(%worker, moved, of, "serves in its slot"),
        Note::Committed { generations, removed } => info!("reload complete: {}", list(generations, removed)),
        Note::UndoBegun { setback } => {
            warn!("reload fails{}: {}; going back", stage(setback), sentence(&setback.failure, epitaphs));
        }
        Note::Undone { setback, .. } => {
            warn!("reload undone{}: {}", stage(setback), sentence(&setback.failure, epitaphs));
        }
        Note::UndoStuck { pool, slot, failure } => error!(
            %pool, %slot,
            "the previous generation does not start any more: {}; the slot keeps what it has",
            sentence(failure, epitaphs)
        ),
        Note::RestartFailed { pool, failure } => {
            warn!(%pool, "restart fails: {}; the old workers serve on", sentence(failure, epitaphs));
        }
        _ => {}
    }
}

/// The failure that a note is about.
pub(crate) fn failure_noted(note: &Note) -> Option<&Failure> {
    match note {
        Note::BackOff { failure, .. }
        | Note::PoolFailed { failure, .. }
        | Note::UndoBegun { setback: Setback { failure, .. } }
        | Note::Undone { setback: Setback { failure, .. }, .. }
        | Note::UndoStuck { failure, .. }
        | Note::RestartFailed { failure, .. }
        | Note::RecycleFailed { failure, .. } => Some(failure),
        _ => None,
    }
}

/// The failure that an answer is about.
pub(crate) fn failure_answered(answer: &Answer) -> Option<&Failure> {
    match answer {
        Answer::Undone { setback: Setback { failure, .. } }
        | Answer::NotRestarted { failure }
        | Answer::NotResumed { failure, .. }
        | Answer::NotRecycled { failure } => Some(failure),
        Answer::Reloaded { .. }
        | Answer::Restarted
        | Answer::Recycled
        | Answer::Scaled { .. }
        | Answer::Paused { .. }
        | Answer::Resumed { .. }
        | Answer::ResumesSlowly { .. }
        | Answer::Refused { .. } => None,
    }
}

/// Why a pool has another number of workers now, where nobody asked for it.
fn rescaled(why: Rescaled) -> &'static str {
    match why {
        Rescaled::Asked => "",
        Rescaled::Configured => ": the configuration changed",
        Rescaled::Reload => ": one shows whether the new program works",
        Rescaled::FirstConnection => ": a client came",
        Rescaled::LineStands => ": clients wait longer than workers.target_delay",
        Rescaled::Idle => ": the others were idle",
    }
}

/// How a reload ended, for the service manager.
pub(crate) fn reload_verdict(note: &Note) -> Option<String> {
    match note {
        Note::Committed { generations, removed } => Some(format!("reloaded: {}", list(generations, removed))),
        Note::Undone { setback, .. } => Some(undone(setback)),
        _ => None,
    }
}

/// Whether a note may mean that a pool fares otherwise than before.
pub(crate) fn is_about_workers(note: &Note) -> bool {
    matches!(
        note,
        Note::Ready { .. }
            | Note::Leaves { .. }
            | Note::Died { .. }
            | Note::BackOff { .. }
            | Note::Scaled { .. }
            | Note::PoolReady { .. }
            | Note::PoolFailed { .. }
            | Note::PauseBegun { .. }
            | Note::ResumeBegun { .. }
            | Note::Resumed { .. }
    )
}

/// How the pools are, in one line for the service manager.
pub(crate) fn health(pools: &[PoolSnapshot]) -> String {
    let troubles: Vec<String> = pools.iter().filter(|pool| pool.state != PoolState::Ready).map(trouble).collect();
    if troubles.is_empty() { "all pools are ready".to_owned() } else { troubles.join("; ") }
}

fn trouble(pool: &PoolSnapshot) -> String {
    let ready = pool.workers.iter().filter(|worker| worker.state == WorkerState::Ready).count();
    format!("pool {} is {}, {ready} of {} workers ready", pool.name, status::pool_state(pool.state), pool.target)
}

/// Says that a worker does not claim. `last_sign` is how long ago one of its serving threads was last heard of.
pub(crate) fn stuck(worker: &WorkerName, recalled: u64, last_sign: Option<Duration>, experience: Experience) {
    let heard =
        last_sign.map_or_else(String::new, |ago| format!("; last heard of {} ago", format_duration(round(ago))));
    warn!(
        %worker, recalled,
        "does not claim though it has places{heard}; others serve what it was handed, and it gets nothing until it answers{}",
        match experience {
            Experience::Some => "",
            Experience::None => NEVER_CLAIMED,
        }
    );
}

/// Whether a worker that does not claim has ever done so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Experience {
    /// Never: perhaps it can't.
    None,
    /// It has, or nobody knows.
    Some,
}

const NEVER_CLAIMED: &str = " (it has never claimed any: if it is no slow starter, it accepts by system calls of its own, and needs handoff = \
     \"listen\")";

/// What a worker was doing before it is aborted, in one piece.
pub(crate) fn portrait(worker: &WorkerName, portrait: &[String]) {
    warn!(%worker, "what it is doing, before ABRT:\n  | {}", portrait.join("\n  | "));
}

/// What a worker is doing that is slow, in one piece.
pub(crate) fn slow(worker: &WorkerName, conn: ConnId, portrait: &[String]) {
    warn!(%worker, %conn, "slow: what the worker is doing:\n  | {}", portrait.join("\n  | "));
}

fn leaves(worker: &WorkerName, cause: Cause) {
    match cause {
        Cause::Replaced => info!(%worker, "drains: its successor is ready"),
        Cause::ScaledDown => info!(%worker, "drains: the pool has fewer workers now"),
        Cause::Paused => info!(%worker, "drains: the pool is paused"),
        Cause::Stopping => debug!(%worker, "drains: the supervisor stops"),
        Cause::PoolRemoved => info!(%worker, "drains: its pool is not in the configuration any more"),
        Cause::Undone => info!(%worker, "stops: its reload is undone"),
        Cause::Recycled { why } => info!(%worker, "drains: {}, and its successor is ready", wear(why)),
        Cause::NotNeeded => info!(%worker, "stops: what it was to replace stays for now"),
        Cause::NeverReady => warn!(%worker, "was not ready in time; see start.ready_timeout"),
        Cause::NoAnswer => warn!(
            %worker, "was asked for a worker and does not answer within {}; it is killed, and another takes its place",
            format_duration(FORK_TIMEOUT)
        ),
        Cause::Unfit => warn!(%worker, "can't fork workers any more; another takes its place"),
        Cause::Misbehaved | Cause::Silent | Cause::Overdue => {}
        Cause::Leaves => info!(%worker, "leaves by itself"),
        // Its end follows, and says more.
        Cause::HungUp => debug!(%worker, "closed its control channel"),
    }
}

fn wear(wear: Wear) -> &'static str {
    match wear {
        Wear::Requests => "it has served enough connections",
        Wear::Age => "it is old enough",
        Wear::Memory => "it occupies too much memory",
        Wear::Asked => "it is to be recycled",
    }
}

fn escalated(worker: &WorkerName, step: Step) {
    match step {
        Step::Term => debug!(%worker, "gets TERM"),
        Step::Abort => warn!(%worker, "did not leave after TERM; gets ABRT (see drain.kill_after)"),
        Step::Kill => warn!(%worker, "did not leave; gets KILL"),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}M", bytes as f64 / 1024.0 / 1024.0)
}

/// A worker is gone.
pub(crate) fn died(death: &Death) {
    let (worker, age) = (&death.worker, format_duration(round(death.age)));
    let rss_max = mebibytes(death.usage.rss_max_bytes);
    if death.is_routine() {
        return info!(%worker, %age, %rss_max, "gone");
    }
    let by_the_kernel = match death.out_of_memory {
        OutOfMemory::Yes => " by the kernel, out of memory",
        OutOfMemory::No | OutOfMemory::Unknown => "",
    };
    let core = match death.core {
        Core::Dumped => " (core dumped)",
        Core::None => "",
    };
    let said = death.last_words.last().map_or_else(String::new, |line| format!("; it said: {line}"));
    let took = match (death.lost, death.redelivered) {
        (0, 0) => String::new(),
        (lost, redelivered) => format!("; {lost} connections lost with it, {redelivered} handed to others"),
    };
    warn!(%worker, %age, %rss_max, "ended with {}{core}{by_the_kernel}{took}{said}", exit_words(death.exit));
}

fn shed(pool: &PoolName, why: Shed, count: u64) {
    let remedy = match why {
        Shed::QueueFull => "the waiting line is full (queue.limit)",
        Shed::QueueTimeout => "they waited too long for a free worker (queue.timeout)",
        Shed::ClientGone => return info!(%pool, count, "clients hung up while they waited"),
        Shed::PerUid => "their user has as many in the line as one may have (queue.per_uid)",
        Shed::Stopping => "the supervisor stops",
    };
    warn!(%pool, reason = why.as_str(), count, "connections shed: {remedy}");
}

/// A worker printed more than is told.
pub(crate) fn dropped_prints(worker: &WorkerName, lines: u64) {
    if lines > 0 {
        warn!(%worker, lines, "printed too much: these lines were dropped, only {LINES_PER_SECOND} per second are told");
    }
}

/// A signal arrived.
pub(crate) fn signal(arrived: Arrived) {
    let signal = arrived.signal;
    match arrived.sender {
        // A terminal was resized, or written to from the background: nothing follows.
        Sender::Kernel if matches!(signal, Signal::SIGWINCH | Signal::SIGTTOU | Signal::SIGTTIN) => {
            debug!(%signal, "signal from the kernel, ignored");
        }
        Sender::Kernel => info!(%signal, "signal from the kernel"),
        Sender::Process(pid) => info!(%signal, sender = pid, "signal"),
        Sender::Unknown => info!(%signal, "signal from an unknown sender"),
    }
}

/// The supervisor was not there for a while. Short absences are those of a busy machine.
pub(crate) fn absence(length: std::time::Duration) {
    let took = format_duration(round(length));
    match length.as_secs() {
        0 => debug!(took = %took, "away; all deadlines move by as much"),
        1.. => warn!(took = %took, "away: this process was stopped, or the machine was; all deadlines move by as much"),
    }
}

/// The state of everything, in several lines that belong together. Whoever asked for it gets it at any level of the log.
pub(crate) fn dump(state: &str) {
    if tracing::enabled!(tracing::Level::INFO) {
        info!("{state}");
    } else if tracing::enabled!(tracing::Level::WARN) {
        warn!("{state}");
    } else {
        error!("{state}");
    }
}

/// Something of the contract that this release does not do.
pub(crate) fn not_yet(what: &str, instead: &str) {
    warn!("{what} is not yet supported: {instead}");
}

// ── answers ────────────────────────────────────────────────────────────────────────────────────────────────

/// What a waiting client reads, and how it ends.
pub(crate) fn answer(answer: &Answer, epitaphs: &Epitaphs) -> (String, ExitCode) {
    match answer {
        Answer::Reloaded { generations, removed } => {
            (format!("reloaded: {}", list(generations, removed)), ExitCode::Done)
        }
        Answer::Undone { setback: setback @ Setback { stage: SetbackStage::CutShort, .. } } => {
            (undone(setback), ExitCode::Undone)
        }
        Answer::Undone { setback } => {
            let words = quoted_last_words(&setback.failure, epitaphs);
            (format!("{}{words}\nthe previous generation serves on", undone(setback)), ExitCode::Undone)
        }
        Answer::Restarted => ("restarted".to_owned(), ExitCode::Done),
        Answer::NotRestarted { failure } => {
            let text = format!("not restarted: {}\nthe old workers serve on", full(failure, epitaphs));
            (text, ExitCode::Failed)
        }
        Answer::Recycled => ("recycled".to_owned(), ExitCode::Done),
        Answer::NotRecycled { failure } => {
            let text = format!("not recycled: {}\nwhoever is not replaced yet serves on", full(failure, epitaphs));
            (text, ExitCode::Failed)
        }
        Answer::Scaled { pool, target } => (format!("pool {pool} is to have {target} workers"), ExitCode::Done),
        Answer::Paused { pools } => (paused(pools), ExitCode::Done),
        Answer::Resumed { pools } => (resumed(pools), ExitCode::Done),
        Answer::NotResumed { pool, failure } => {
            let text = format!(
                "pool {pool} has not come back, it is given up: {}\nmend it, then `ostler restart {pool}`",
                full(failure, epitaphs)
            );
            (text, ExitCode::Failed)
        }
        Answer::ResumesSlowly { pool, ready, target } => {
            let text = format!(
                "pool {pool} is not back yet: {ready} of {target} workers are ready; it goes on trying, see `ostler status`"
            );
            (text, ExitCode::Incomplete)
        }
        Answer::Refused { why } => (why.clone(), ExitCode::Failed),
    }
}

/// What a client that waits for a reload learns meanwhile.
pub(crate) fn progress(news: &Note) -> Option<Progress> {
    match news {
        Note::RolloutBegun { pool, generation, slots } => {
            Some(Progress::Begins { pool: pool.to_string(), generation: generation.0, slots: *slots })
        }
        Note::SlotMoves { worker } => Some(Progress::Starts {
            pool: worker.pool.to_string(),
            slot: worker.slot.0,
            generation: worker.generation.0,
        }),
        Note::SlotRolled { worker, moved, of } => Some(Progress::Serves {
            pool: worker.pool.to_string(),
            slot: worker.slot.0,
            generation: worker.generation.0,
            moved: *moved,
            of: *of,
        }),
        Note::UndoBegun { setback } => {
            let why = format!("it fails{}: {}", stage(setback), plain(&setback.failure));
            Some(Progress::GoesBack { why })
        }
        _ => None,
    }
}

fn paused(pools: &[(PoolName, u64)]) -> String {
    let each: Vec<String> = pools.iter().map(|(pool, waiting)| format!("{pool} ({waiting} wait)")).collect();
    format!("paused: {}", each.join(", "))
}

fn resumed(pools: &[(PoolName, u32)]) -> String {
    let each: Vec<String> = pools.iter().map(|(pool, workers)| format!("{pool} ({workers} workers)")).collect();
    format!("resumed: {}", each.join(", "))
}

/// How `run` and `stop` end.
pub(crate) fn ended(ended: &Ended, epitaphs: &Epitaphs) -> (String, ExitCode) {
    match ended {
        Ended::Stopped(StopCount { shed: 0, lost: 0, killed: 0 }) => ("stopped".to_owned(), ExitCode::Done),
        Ended::Stopped(StopCount { shed, lost, killed }) => {
            let text =
                format!("stopped, but not cleanly: {shed} connections shed, {lost} lost, {killed} workers killed");
            (text, ExitCode::Incomplete)
        }
        Ended::PoolFailed { pool, failure, count } => {
            let failure = full(failure, epitaphs);
            let StopCount { shed, lost, killed } = count;
            let cost = match count {
                StopCount { shed: 0, lost: 0, killed: 0 } => String::new(),
                _ => format!("; {shed} connections shed, {lost} lost, {killed} workers killed by the stop"),
            };
            (
                format!("stopped because pool {pool} was given up (on_pool_failed = \"exit\"){cost}: {failure}"),
                ExitCode::Failed,
            )
        }
        Ended::StartFailed { pool, failure } => {
            (format!("cannot start pool {pool}: {}", full(failure, epitaphs)), ExitCode::Failed)
        }
    }
}

fn in_brackets(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

fn list(generations: &[(PoolName, Generation)], removed: &[PoolName]) -> String {
    let stay = generations.iter().map(|(pool, generation)| format!("{pool} generation {generation}"));
    let each: Vec<String> = stay.chain(removed.iter().map(|pool| format!("{pool} removed"))).collect();
    each.join(", ")
}

/// Why a reload was undone, without last words.
pub(crate) fn undone(setback: &Setback) -> String {
    format!("reload undone{}: {}", stage(setback), plain(&setback.failure))
}

/// The same as status tells it.
pub(crate) fn reason(setback: &Setback) -> String {
    format!("{}{}", plain(&setback.failure), in_brackets(stage(setback).trim_start()))
}

/// How far a reload was when it failed. One that could not even be read says so itself.
fn stage(setback: &Setback) -> String {
    match setback.stage {
        SetbackStage::Reading | SetbackStage::CutShort => String::new(),
        SetbackStage::Canary => " at its first worker".to_owned(),
        SetbackStage::CanaryOnProbation => " on probation of its first worker".to_owned(),
        SetbackStage::Appearing { ready, of } => format!(" with {ready} of {of} workers of a new pool ready"),
        SetbackStage::Opening => " with its listeners about to open".to_owned(),
        SetbackStage::Moving { moved, of } => format!(" with {moved} of {of} workers replaced"),
    }
}

/// A failure without its last words.
pub(crate) fn plain(failure: &Failure) -> String {
    let who = failure.worker.as_ref().map_or_else(String::new, |(_, name)| format!("worker {name} "));
    match &failure.what {
        What::DiedStarting(exit) => {
            format!("{who}ended with {} before it was ready{}", exit_words(*exit), where_to_stay(*exit))
        }
        What::DiedEarly(exit) => format!(
            "{who}ended with {} soon after it was ready, without serving anybody{}",
            exit_words(*exit),
            where_to_stay(*exit)
        ),
        What::DiedSoon(exit) => {
            format!("{who}ended with {} soon after it was ready{}", exit_words(*exit), where_to_stay(*exit))
        }
        What::DiedOnProbation(exit, probation) => {
            format!("{who}ended with {} within its probation of {}", exit_words(*exit), format_duration(*probation))
        }
        What::NeverReady(timeout, handoff, ready) => {
            let remedy = match (handoff, ready) {
                (Handoff::Pass, _) => NEVER_READY,
                (Handoff::Accept, Ready::Auto | Ready::Hello | Ready::Accept) => NEVER_ACCEPTED,
                (Handoff::Accept, Ready::Notify) => NEVER_NOTIFIED,
                (Handoff::Listen, Ready::Auto | Ready::Hello | Ready::Accept) => NEVER_WAITED,
                (Handoff::Listen, Ready::Notify) => NEVER_SAID,
                (Handoff::Stdio, _) => SLOW_MACHINE,
            };
            format!("{who}was not ready within {}{remedy}", format_duration(*timeout))
        }
        What::Exec(why) | What::Spawn(why) => format!("{who}{why}"),
        What::Misbehaved(how) => format!("{who}broke the protocol: it {how}"),
        What::HungUp => format!("{who}closed its control channel before it was ready"),
        What::NeverLoaded(timeout) => format!(
            "{who}had not loaded everything within {} (slow to load? raise start.ready_timeout; \
             not built to be a template? remove reload.template)",
            format_duration(*timeout)
        ),
        What::NoAnswer(timeout) => {
            format!("{who}did not answer for {} when it was asked for a worker", format_duration(*timeout))
        }
        What::Unfit(why) => format!("{who}can't fork workers: {why}"),
        What::Silent(silence) => format!("{who}did not move for {}", format_duration(round(*silence))),
        What::Overdue(conn, age) => {
            format!("{who}was at one request for {} (conn={conn})", format_duration(round(*age)))
        }
        What::Config(why) | What::Listen(why) => why.trim_end().to_owned(),
        What::Stopping => "the supervisor stops".to_owned(),
        What::Paused => "the pool was paused".to_owned(),
        What::PoolRemoved => "a reload removed the pool".to_owned(),
        What::ScaledAway => format!("{who}was in a slot that the pool lost meanwhile"),
    }
}

/// The remedy for a program that does not speak the protocol at all.
const NEVER_READY: &str =
    " (not built on ostler's library? try `--handoff accept` or `listen`; slow to load? raise start.ready_timeout)";

/// The remedy for an unmodified program that does not take connections where it should.
const NEVER_ACCEPTED: &str = " (it never waited for connections: tell it to listen on descriptor 3, or see accept.fd; or does it \
     accept by system calls of its own? then handoff = \"listen\"; slow to load? raise start.ready_timeout)";

/// The remedy for an unmodified program that has to say that it is ready.
const NEVER_NOTIFIED: &str = " (with start.ready = \"notify\" it has to say READY=1 where NOTIFY_SOCKET leads, and to wait for connections on \
     descriptor 3; one that does not know sd_notify(3) needs start.ready = \"accept\", and one that accepts by system calls of its own handoff = \"listen\"; slow to load? raise start.ready_timeout)";

/// Nothing but ostler itself had to start.
const SLOW_MACHINE: &str = " (this machine is busy? raise start.ready_timeout)";

/// The remedy for a program that goes into the background, which looks like an end.
fn where_to_stay(exit: Exit) -> &'static str {
    if exit == Exit::Code(0) { " (a worker has to stay in the foreground)" } else { "" }
}

/// The remedy for one that has to say that it is ready, and nothing else.
const NEVER_SAID: &str = " (with start.ready = \"notify\" it has to say READY=1 where NOTIFY_SOCKET leads; one that does not know \
     sd_notify(3) needs start.ready = \"auto\"; slow to load? raise start.ready_timeout)";

/// The remedy for a program that does not wait at its listeners, as far as can be seen.
const NEVER_WAITED: &str = " (it never waited for connections at the listeners that it got as descriptors 3 and above: tell it to use \
     LISTEN_FDS; slow to load? raise start.ready_timeout)";

/// So many of a worker's last lines stand in a message; `ostler deaths` has more.
const QUOTED_LINES: usize = 5;

/// A failure in one line of a log.
fn sentence(failure: &Failure, epitaphs: &Epitaphs) -> String {
    let said = last_words(failure, epitaphs).and_then(|lines| lines.last());
    said.map_or_else(|| plain(failure), |line| format!("{}; it said: {line}", plain(failure)))
}

/// A failure with everything that the worker said at last.
fn full(failure: &Failure, epitaphs: &Epitaphs) -> String {
    plain(failure) + &quoted_last_words(failure, epitaphs)
}

fn quoted_last_words(failure: &Failure, epitaphs: &Epitaphs) -> String {
    let lines = last_words(failure, epitaphs).map_or(&[][..], Vec::as_slice);
    let last = &lines[lines.len().saturating_sub(QUOTED_LINES)..];
    last.iter().map(|line| format!("\n  | {line}")).collect()
}

fn last_words<'a>(failure: &Failure, epitaphs: &'a Epitaphs) -> Option<&'a Vec<String>> {
    let (worker, _) = failure.worker.as_ref()?;
    epitaphs.get(worker)
}

fn exit_words(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(number) => match Signal::try_from(number) {
            Ok(signal) => format!("signal {}", signal.as_str()),
            Err(_) => format!("signal {number}"),
        },
    }
}

/// To whole milliseconds: nobody reads the rest.
fn round(length: std::time::Duration) -> std::time::Duration {
    std::time::Duration::from_millis(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
}
