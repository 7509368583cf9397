//! Checks `[pool.NAME]`.

use std::time::Duration;

use ostler_shared::PoolName;

use super::Site;
use super::listen::Listeners;
use super::process::{command, octal, own_may_run, process, program};
use super::queue::{default_queue, queue};
use super::recycle::{default_recycle, recycle};
use super::supervisor::{RawSupervisor, SHUTDOWN_DELAY, STOP_TIMEOUT};
use super::watchdog::{default_watchdog, watchdog};
use super::workers::{default_workers, workers};
use crate::asked::Typed;
use crate::checked::{
    Accept, AcceptAt, Address, Canary, Dispatch, Drain, DrainSignal, Handoff, Hooks, Output, Pool, Process, Program,
    Ready, Reload, Socket, Start, Surge, Template,
};
use crate::combine;
use crate::limits::{BACKLOG_MAX, CONCURRENCY_MAX, FAILURES_MAX, PREFETCH_MAX, WORKERS_MAX};
use crate::mistakes::{Fault, Mistake};
use crate::owner;
use crate::raw::{RawTable, Shape};
use crate::value::{CountOrPercent, YesOrNo};
use crate::words::{DISPATCHES, DRAIN_SIGNALS, HANDOFFS, OUTPUTS, READY};

/// One pool. `None` when its name or its listeners are wrong; other mistakes leave defaults behind, which
/// nobody will see, since a configuration with mistakes is not handed out.
pub(super) fn pool(
    name: &Typed<&str>,
    table: &RawTable<'_>,
    site: &Site<'_>,
    supervisor: &RawSupervisor,
    listeners: &mut Listeners,
    mistakes: &mut Vec<Mistake>,
) -> Option<Pool> {
    let parsed = match name.value.parse::<PoolName>() {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            let remedy = "write a name like [pool.web]";
            mistakes.push(name.refuse(Fault::new(error.to_string(), "not a pool name", remedy)));
            None
        }
    };
    let concurrency = table.whole("concurrency", 1..=CONCURRENCY_MAX, mistakes);
    let process_table = table.table("process", mistakes);
    let asked_handoff = table.word("handoff", HANDOFFS, mistakes);
    let handoff = asked_handoff.in_force(Handoff::Pass).unwrap_or(Handoff::Pass);
    let in_force = concurrency.in_force(concurrency_of(handoff));
    let process = process(&process_table, in_force, site, mistakes);
    let program = program(table, handoff, &process, site, mistakes);
    match &program {
        Program::Hello => own_may_run("the built-in hello server", &process_table, &process, site, mistakes),
        Program::Pipeline(stages) => {
            own_may_run("ostler, which starts the commands,", &process_table, &process, site, mistakes);
            let needs = in_force.zip(process.nofile);
            let few = needs.and_then(|(count, nofile)| combine::stages_have_descriptors(nofile, count, stages.len()));
            mistakes.extend(few.and_then(|fault| process_table.refuse("nofile", fault)));
        }
        Program::Command(_) | Program::Admin => {}
    }
    let listen = listeners.of_pool(table, site, mistakes);
    // A command that was typed wrongly is reported, and not missing.
    let is_wrong = program == Program::Hello && table.shape("command") != Shape::Absent;
    if let (Some(typed), false) = (asked_handoff.typed(), is_wrong)
        && let Some(fault) = combine::unmodified(handoff, &program, &process, listen.as_deref().unwrap_or_default())
    {
        mistakes.push(typed.refuse(fault));
    }
    for (name, why) in combine::without_line(handoff) {
        mistakes.extend(table.refuse(name, why));
    }
    let accept = accept(&table.table("accept", mistakes), handoff, mistakes);
    let prefetch = table.whole("prefetch", 0..=PREFETCH_MAX, mistakes).value().unwrap_or(PREFETCH);
    let recall_after = table
        .duration("recall_after", LEAST, mistakes)
        .understand(mistakes, |asked| combine::recall_in_time(asked).map_or(Ok(asked), Err));
    let dispatch = table.word("dispatch", DISPATCHES, mistakes).value().unwrap_or(Dispatch::LeastLoaded);
    let output = table.word("output", OUTPUTS, mistakes).value().unwrap_or(Output::Capture);
    let socket = socket(&table.table("socket", mistakes), listen.as_deref(), mistakes);
    let queue = queue(&table.table("queue", mistakes), listen.as_deref(), mistakes);
    let workers = workers(table, queue.timeout, mistakes);
    if let Some(fault) = combine::range_has_line(handoff, workers) {
        mistakes.extend(table.refuse("workers", fault));
    }
    let start = start(&table.table("start", mistakes), handoff, mistakes);
    let reload = reload(&table.table("reload", mistakes), handoff, &program, mistakes);
    let drain = drain(&table.table("drain", mistakes), handoff, supervisor, mistakes);
    let watchdog = watchdog(&table.table("watchdog", mistakes), handoff, mistakes);
    let recycle = recycle(&table.table("recycle", mistakes), mistakes);
    let hooks = hooks(&table.table("hooks", mistakes), &process, site, mistakes);
    Some(Pool {
        name: parsed?,
        program,
        listen: listen?,
        handoff,
        accept,
        workers,
        concurrency: in_force.unwrap_or(CONCURRENCY),
        prefetch,
        recall_after: recall_after.value().unwrap_or(recall_after_of(handoff)),
        dispatch,
        socket,
        queue,
        start,
        reload,
        drain,
        watchdog,
        recycle,
        process,
        output,
        hooks,
    })
}

/// A pool that only its name, program and listeners are said of.
pub(crate) fn default_pool(name: PoolName, program: Program, listen: Vec<Address>) -> Pool {
    Pool {
        name,
        program,
        listen,
        handoff: Handoff::Pass,
        accept: Accept { at: AcceptAt::Three },
        workers: default_workers(),
        concurrency: CONCURRENCY,
        prefetch: PREFETCH,
        recall_after: RECALL_AFTER,
        dispatch: Dispatch::LeastLoaded,
        socket: Socket { mode: None, owner: None, group: None, backlog: BACKLOG },
        queue: default_queue(),
        start: Start {
            ready: Ready::Auto,
            ready_timeout: READY_TIMEOUT,
            settle: SETTLE,
            backoff_min: BACKOFF.0,
            backoff_max: BACKOFF.1,
            failures: FAILURES,
            period: PERIOD,
        },
        reload: Reload { surge: SURGE, canary: Canary::Sent, probation: Duration::ZERO, template: Template::Unused },
        drain: Drain { signal: DrainSignal::Term, timeout: DRAIN_TIMEOUT, kill_after: KILL_AFTER },
        watchdog: default_watchdog(),
        recycle: default_recycle(),
        process: Process::inherited(),
        output: Output::Capture,
        hooks: Hooks::default(),
    }
}

fn socket(table: &RawTable<'_>, listen: Option<&[Address]>, mistakes: &mut Vec<Mistake>) -> Socket {
    let mode = table.text("mode", mistakes).understand(mistakes, mode_bits);
    let owner = table.text_or_number("owner", mistakes).understand(mistakes, |typed| owner::user(&typed));
    let group = table.text_or_number("group", mistakes).understand(mistakes, |typed| owner::group(&typed));
    let backlog = table.whole("backlog", 1..=BACKLOG_MAX, mistakes);
    for asked in [&mode, &owner, &group] {
        if let (Some(typed), Some(fault)) = (asked.typed(), listen.and_then(combine::has_unix_path)) {
            mistakes.push(typed.refuse(fault));
        }
    }
    Socket {
        mode: mode.value(),
        owner: owner.value(),
        group: group.value(),
        backlog: backlog.value().unwrap_or(BACKLOG),
    }
}

fn mode_bits(typed: &str) -> Result<u32, Fault> {
    octal(typed).ok_or_else(|| {
        let remedy = "write permission bits in octal: \"0660\" lets user and group connect";
        Fault::new(format!("{typed:?} is not from \"0000\" to \"0777\""), "expected octal digits", remedy)
    })
}

/// Connections that one worker holds at a time, where nobody says how many.
pub(crate) fn concurrency_of(handoff: Handoff) -> u32 {
    match handoff {
        Handoff::Pass | Handoff::Stdio => CONCURRENCY,
        Handoff::Accept | Handoff::Listen => CONCURRENCY_UNMODIFIED,
    }
}

/// What a worker has not claimed after this time is taken back, where nobody says how long it may lie.
pub(crate) fn recall_after_of(handoff: Handoff) -> Duration {
    match handoff {
        // In `listen` nothing is handed out that could be taken back.
        Handoff::Pass | Handoff::Listen | Handoff::Stdio => RECALL_AFTER,
        Handoff::Accept => RECALL_AFTER_UNMODIFIED,
    }
}

fn accept(table: &RawTable<'_>, handoff: Handoff, mistakes: &mut Vec<Mistake>) -> Accept {
    let at = table.whole("fd", 0..=3, mistakes).understand(mistakes, |number| match number {
        0 => Ok(AcceptAt::Stdin),
        3 => Ok(AcceptAt::Three),
        _ => {
            let remedy = "write 3, or 0 for a program that accepts on its standard input";
            Err(Fault::new(format!("descriptor {number} belongs to the log"), "neither 0 nor 3", remedy))
        }
    });
    let at = at.understand(mistakes, |at| combine::place_of_listener(handoff, at).map_or(Ok(at), Err));
    Accept { at: at.value().unwrap_or(AcceptAt::Three) }
}

fn start(table: &RawTable<'_>, handoff: Handoff, mistakes: &mut Vec<Mistake>) -> Start {
    let ready = table
        .word("ready", READY, mistakes)
        .understand(mistakes, |ready| combine::ready_by(handoff, ready).map_or(Ok(ready), Err));
    let ready_timeout = table.duration("ready_timeout", LEAST, mistakes).value();
    let settle = table.duration("settle", Duration::ZERO, mistakes).value();
    let backoff = table
        .two_durations("backoff", LEAST, mistakes)
        .understand(mistakes, |(min, max)| combine::backoff_order(min, max).map_or(Ok((min, max)), Err));
    let (backoff_min, backoff_max) = backoff.value().unwrap_or(BACKOFF);
    Start {
        ready: ready.value().unwrap_or(Ready::Auto),
        ready_timeout: ready_timeout.unwrap_or(READY_TIMEOUT),
        settle: settle.unwrap_or(SETTLE),
        backoff_min,
        backoff_max,
        failures: table.whole("failures", 1..=FAILURES_MAX, mistakes).value().unwrap_or(FAILURES),
        period: table.duration("period", LEAST, mistakes).value().unwrap_or(PERIOD),
    }
}

fn reload(table: &RawTable<'_>, handoff: Handoff, program: &Program, mistakes: &mut Vec<Mistake>) -> Reload {
    let surge = table.count_or_percent("surge", 1..=WORKERS_MAX, mistakes).value().map(|asked| match asked {
        CountOrPercent::Count(count) => Surge::Workers(count),
        CountOrPercent::Percent(percent) => Surge::Percent(percent),
    });
    let canary = table.yes_or_no("canary", mistakes).value().map(|asked| match asked {
        YesOrNo::Yes => Canary::Sent,
        YesOrNo::No => Canary::Spared,
    });
    let probation = table.duration("probation", Duration::ZERO, mistakes).value();
    let template = table.yes_or_no("template", mistakes).understand(mistakes, |asked| match asked {
        YesOrNo::Yes => combine::loads_in_a_template(handoff, program).map_or(Ok(Template::Used), Err),
        YesOrNo::No => Ok(Template::Unused),
    });
    Reload {
        surge: surge.unwrap_or(SURGE),
        canary: canary.unwrap_or(Canary::Sent),
        probation: probation.unwrap_or(Duration::ZERO),
        template: template.value().unwrap_or(Template::Unused),
    }
}

fn drain(table: &RawTable<'_>, handoff: Handoff, supervisor: &RawSupervisor, mistakes: &mut Vec<Mistake>) -> Drain {
    let signal = table
        .word("signal", DRAIN_SIGNALS, mistakes)
        .understand(mistakes, |signal| combine::drained_by(handoff, signal).map_or(Ok(signal), Err));
    let timeout = table.duration("timeout", Duration::ZERO, mistakes).value().unwrap_or(DRAIN_TIMEOUT);
    let kill_after = table.duration("kill_after", Duration::ZERO, mistakes);
    if let (Some(kill), Some(stop)) = (kill_after.in_force(KILL_AFTER), supervisor.stop_timeout.in_force(STOP_TIMEOUT))
        && let Some(fault) = combine::kill_within_stop(kill, stop)
    {
        // If nobody typed the one, somebody typed the other: the defaults fit each other.
        let place =
            kill_after.typed().map(|typed| typed.with(())).or(supervisor.stop_timeout.typed().map(|t| t.with(())));
        let path = table.path_of("kill_after");
        mistakes.extend(place.map(|place| Typed { path, ..place }.refuse(fault)));
    }
    if let (Some(delay), Some(kill), Some(stop)) = (
        supervisor.shutdown_delay.in_force(SHUTDOWN_DELAY),
        kill_after.in_force(KILL_AFTER),
        supervisor.stop_timeout.in_force(STOP_TIMEOUT),
    ) && let Some(fault) = combine::delay_within_stop(delay, kill, stop)
    {
        mistakes.extend(supervisor.shutdown_delay.typed().map(|typed| typed.with(()).refuse(fault)));
    }
    let signal = signal.value().unwrap_or(DrainSignal::Term);
    Drain { signal, timeout, kill_after: kill_after.value().unwrap_or(KILL_AFTER) }
}

fn hooks(table: &RawTable<'_>, process: &Process, site: &Site<'_>, mistakes: &mut Vec<Mistake>) -> Hooks {
    let mut hook = |name: &str| command(table, name, "run nothing", process, site, mistakes);
    Hooks { ready: hook("ready"), exit: hook("exit"), reload: hook("reload"), failed: hook("failed") }
}

const CONCURRENCY: u32 = 1;
/// Event loops take what there is. Who forks for each connection wants less.
const CONCURRENCY_UNMODIFIED: u32 = 256;
const PREFETCH: u32 = 0;
const RECALL_AFTER: Duration = Duration::from_millis(5);
/// An event loop claims between two requests, so that a request of usual length must not look like standing still.
const RECALL_AFTER_UNMODIFIED: Duration = Duration::from_millis(100);
const BACKLOG: u32 = 4096;
const READY_TIMEOUT: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_secs(1);
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
const FAILURES: u32 = 5;
const PERIOD: Duration = Duration::from_secs(60);
const SURGE: Surge = Surge::Workers(1);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
const KILL_AFTER: Duration = Duration::from_secs(5);

/// Where zero would mean "never" or "at once" and neither can be wanted.
pub(super) const LEAST: Duration = Duration::from_millis(1);
