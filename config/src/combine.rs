//! Decides which settings, each fine by itself, cannot stand together.
//!
//! Pure rules, but for one that looks into the program: `check` points them at a place in the file, `flags` at a flag.

use std::path::Path;
use std::time::Duration;

use crate::check::default_queue;
use crate::checked::{
    AcceptAt, Address, Dispatch, DrainSignal, Farewell, Handoff, Pool, Process, Program, Ready, Workers,
};
use crate::clash::{Apart, clash};
use crate::duration::format_duration;
use crate::limits::{RECALL_AFTER_MAX, STDIO_DESCRIPTORS, WORKER_DESCRIPTORS};
use crate::mistakes::Fault;
use crate::preload::cannot_preload;

/// The wait after a failure grows, so it cannot begin above its end.
pub(crate) fn backoff_order(min: Duration, max: Duration) -> Option<Fault> {
    (min > max).then(|| {
        let (min, max) = (format_duration(min), format_duration(max));
        Fault::new(
            format!("the wait begins at {min}, above its end of {max}"),
            "the first must not exceed the second",
            format!("swap them: [\"{max}\", \"{min}\"]"),
        )
    })
}

/// A range has its ends in order.
pub(crate) fn range_order(min: u32, max: u32) -> Option<Fault> {
    (min > max).then(|| {
        Fault::new(
            format!("{max} is less than min, {min}"),
            "max must not be below min",
            format!("write max = {min} or more, or lower min"),
        )
    })
}

/// More workers must be asked for while those who wait are still there.
pub(crate) fn scaled_in_time(target_delay: Duration, timeout: Duration) -> Option<Fault> {
    (!timeout.is_zero() && target_delay >= timeout).then(|| {
        let (delay, timeout) = (format_duration(target_delay), format_duration(timeout));
        Fault::new(
            format!("a target_delay of {delay} is never exceeded: queue.timeout, {timeout}, ends every wait before"),
            "no wait is this long",
            format!("write a target_delay below {timeout}, or raise queue.timeout"),
        )
    })
}

/// A program can only be asked to fork workers by what it is spoken with, and only if it has something to load.
pub(crate) fn loads_in_a_template(handoff: Handoff, program: &Program) -> Option<Fault> {
    match (handoff, program) {
        (Handoff::Accept, _) => Some(Fault::new(
            "a program that knows nothing of ostler cannot be a template",
            "with `accept` nobody could ask it to fork",
            "remove it, or write handoff = \"pass\" for a program that is built on ostler's library",
        )),
        (Handoff::Listen, _) => Some(Fault::new(
            "a program that accepts for itself cannot be a template",
            "with `listen` its workers begin with the listeners that they have at their start",
            "remove it, or write handoff = \"pass\" for a program that is built on ostler's library",
        )),
        (Handoff::Stdio, _) => Some(Fault::new(
            "a program that knows nothing of ostler cannot be a template",
            "with `stdio` there is a process for each connection, and nothing that stays loaded",
            "remove it, or write handoff = \"pass\" for a program that is built on ostler's library",
        )),
        (Handoff::Pass, Program::Hello) => Some(Fault::new(
            "the built-in hello server cannot be a template",
            "it loads nothing",
            "remove it, or add a command whose program calls `Template::run` (Rust) or `ostler_worker.template` (Python)",
        )),
        // That a pipeline is nothing for `pass` is said of the command.
        (Handoff::Pass, Program::Command(_) | Program::Pipeline(_) | Program::Admin) => None,
    }
}

/// A worker that ignores TERM must be killed before the whole stop is over.
pub(crate) fn kill_within_stop(kill_after: Duration, stop_timeout: Duration) -> Option<Fault> {
    (kill_after > stop_timeout).then(|| {
        let (kill_after, stop_timeout) = (format_duration(kill_after), format_duration(stop_timeout));
        Fault::new(
            format!("{kill_after} is longer than supervisor.stop_timeout, {stop_timeout}"),
            "no stop can be this patient",
            format!("write drain.kill_after = \"{stop_timeout}\" or less, or raise supervisor.stop_timeout"),
        )
    })
}

/// Who waits before refusing new clients must still have the time to end his workers.
pub(crate) fn delay_within_stop(delay: Duration, kill_after: Duration, stop_timeout: Duration) -> Option<Fault> {
    // A kill_after that is too long by itself is a mistake of its own.
    let most = stop_timeout.checked_sub(kill_after)?;
    (delay > most).then(|| {
        let [delay, kill_after, stop_timeout, most] = [delay, kill_after, stop_timeout, most].map(format_duration);
        Fault::new(
            format!(
                "{delay} and drain.kill_after, {kill_after}, do not fit into supervisor.stop_timeout, {stop_timeout}"
            ),
            "too long",
            format!("write at most \"{most}\", or raise supervisor.stop_timeout"),
        )
    })
}

/// A connection that lies with a worker must be taken back while its client still waits.
pub(crate) fn recall_in_time(recall_after: Duration) -> Option<Fault> {
    (recall_after > RECALL_AFTER_MAX).then(|| {
        let (recall_after, most) = (format_duration(recall_after), format_duration(RECALL_AFTER_MAX));
        let message = format!("{recall_after} is too long, the limit is {most}");
        Fault::new(message, "too long", format!("write at most \"{most}\""))
    })
}

/// Each connection of a worker is a descriptor.
pub(crate) fn descriptors_suffice(nofile: u64, concurrency: u32) -> Option<Fault> {
    let needed = u64::from(concurrency) + u64::from(WORKER_DESCRIPTORS);
    (nofile < needed).then(|| {
        Fault::new(
            format!("{nofile} descriptors are too few for {concurrency} connections at a time"),
            "too few",
            format!("write at least {needed} ({WORKER_DESCRIPTORS} of its own, one for each connection)"),
        )
    })
}

/// A request that is overdue ends with its worker, so it must be slow before.
pub(crate) fn slow_before_overdue(slow: Duration, request: Duration) -> Option<Fault> {
    (!request.is_zero() && slow >= request).then(|| {
        let (slow, request) = (format_duration(slow), format_duration(request));
        Fault::new(
            format!("{slow} is not below watchdog.request, {request}"),
            "nothing lives to be this slow",
            format!("write less than \"{request}\", or \"0s\" to note nothing"),
        )
    })
}

/// An unmodified program is somebody's program, and its listener has one address family.
pub(crate) fn unmodified(handoff: Handoff, program: &Program, process: &Process, listen: &[Address]) -> Option<Fault> {
    match handoff {
        // Who accepts by himself may be any program.
        Handoff::Pass | Handoff::Listen => return None,
        Handoff::Stdio => return speaks_by_stdio(program),
        Handoff::Accept => {}
    }
    let Program::Command(command) = program else {
        let message = "the built-in hello server is built on ostler's library, and takes its connections by `pass`";
        return Some(Fault::new(message, "needs a command", "add a command, or remove the key"));
    };
    if let Some(fault) = cannot_preload(command, process) {
        return Some(fault);
    }
    let mut families = listen.iter().filter_map(family);
    let (first, first_family) = families.next()?;
    families.find(|(_, family)| *family != first_family).map(|(other, family)| {
        Fault::new(
            format!("the program believes in one listener, and {first} is {first_family} while {other} is {family}"),
            "several address families",
            "make a pool of its own for each address family",
        )
    })
}

fn speaks_by_stdio(program: &Program) -> Option<Fault> {
    match program {
        Program::Pipeline(_) => None,
        Program::Hello | Program::Admin | Program::Command(_) => {
            let message = "the built-in hello server serves many connections, and not one on its standard input";
            Some(Fault::new(message, "needs a command", "add a command, or remove the key"))
        }
    }
}

/// A list of commands is a pipeline, which has a connection at its ends.
pub(crate) fn joined_by(handoff: Handoff) -> Option<Fault> {
    match handoff {
        Handoff::Stdio => None,
        Handoff::Pass | Handoff::Accept | Handoff::Listen => Some(Fault::new(
            "a list of commands is a pipeline, which works on standard input and output",
            "only with `stdio`",
            "write handoff = \"stdio\", or one command: [\"PROGRAM\", \"ARGUMENT\", …]",
        )),
    }
}

/// While connections begin, each of them takes several descriptors.
pub(crate) fn stages_have_descriptors(nofile: u64, concurrency: u32, stages: usize) -> Option<Fault> {
    let each = u64::from(STDIO_DESCRIPTORS) + stages as u64;
    let needed = u64::from(WORKER_DESCRIPTORS) + u64::from(concurrency) * each;
    (nofile < needed).then(|| {
        Fault::new(
            format!(
                "{nofile} descriptors are too few to start {stages} commands for {concurrency} connections at a time"
            ),
            "too few",
            format!("write at least {needed} ({WORKER_DESCRIPTORS} of the worker's own, {each} for each connection)"),
        )
    })
}

/// `None` for what a service manager gives: that shows at the start.
fn family(address: &Address) -> Option<(&Address, &'static str)> {
    let family = match address {
        Address::UnixPath { .. } | Address::UnixAbstract(_) => "Unix",
        Address::Tcp(address) if address.is_ipv4() => "IPv4",
        Address::Tcp(_) => "IPv6",
        Address::Given(_) => return None,
    };
    Some((address, family))
}

/// Workers on the library know where their mailbox is, and real listeners begin at 3 (sd_listen_fds(3)).
pub(crate) fn place_of_listener(handoff: Handoff, at: AcceptAt) -> Option<Fault> {
    let message = match handoff {
        Handoff::Accept => return None,
        Handoff::Pass => "no effect: with `pass` connections come on descriptor 3",
        Handoff::Listen => "no effect: with `listen` the listeners are descriptors 3 and above",
        Handoff::Stdio => "no effect: with `stdio` a connection is standard input and output",
    };
    (at != AcceptAt::Three)
        .then(|| Fault::new(message, "only with `accept`", "remove it, or write handoff = \"accept\""))
}

/// Keys that speak of connections in the supervisor's hands, of which there are none where workers accept by themselves.
pub(crate) fn without_line(handoff: Handoff) -> impl Iterator<Item = (&'static str, Fault)> {
    let names: &[&str] = match handoff {
        Handoff::Pass | Handoff::Accept | Handoff::Stdio => &[],
        Handoff::Listen => &["prefetch", "recall_after", "dispatch", "queue"],
    };
    names.iter().map(|name| (*name, no_line()))
}

fn no_line() -> Fault {
    Fault::new(
        "no effect: with `listen` workers accept by themselves, and clients wait in the kernel's queue",
        "not with `listen`",
        "remove it (socket.backlog is the length of that queue), or write handoff = \"pass\" or \"accept\"",
    )
}

/// Who counts workers by how long clients wait must see them wait.
pub(crate) fn range_has_line(handoff: Handoff, workers: Workers) -> Option<Fault> {
    match (handoff, workers) {
        (Handoff::Pass | Handoff::Accept | Handoff::Stdio, _) | (Handoff::Listen, Workers::Fixed(_)) => None,
        (Handoff::Listen, Workers::Between(range)) => Some(Fault::new(
            "no range: with `listen` clients wait in the kernel's queue, and nobody knows for how long",
            "not with `listen`",
            format!("write a number, such as workers = {}, and change it by `ostler scale`", range.max),
        )),
    }
}

/// Requests are timed from the moment in which we hand a connection out.
pub(crate) fn requests_are_seen(handoff: Handoff) -> Option<Fault> {
    match handoff {
        Handoff::Pass | Handoff::Accept | Handoff::Stdio => None,
        Handoff::Listen => Some(Fault::new(
            "no effect: with `listen` workers accept by themselves, and nobody else knows since when a request runs",
            "not with `listen`",
            "remove it, or write handoff = \"pass\" or \"accept\"; watchdog.heartbeat works with `listen`",
        )),
    }
}

/// What a file may say and the flag `--handoff` would make pointless.
pub(crate) fn fits_handoff(pool: &Pool, recall_after: Duration) -> Option<(&'static str, Fault)> {
    let said = |name: &str| match name {
        "prefetch" => pool.prefetch != 0,
        "recall_after" => pool.recall_after != recall_after,
        "dispatch" => pool.dispatch != Dispatch::LeastLoaded,
        _ => pool.queue != default_queue(),
    };
    let watched = !pool.watchdog.request.is_zero() || !pool.watchdog.slow.is_zero();
    without_line(pool.handoff)
        .find(|(name, _)| said(name))
        .or_else(|| range_has_line(pool.handoff, pool.workers).map(|fault| ("workers", fault)))
        .or_else(|| requests_are_seen(pool.handoff).filter(|_| watched).map(|fault| ("watchdog", fault)))
        .or_else(|| place_of_listener(pool.handoff, pool.accept.at).map(|fault| ("accept.fd", fault)))
        .or_else(|| ready_by(pool.handoff, pool.start.ready).map(|fault| ("start.ready", fault)))
        .or_else(|| drained_by(pool.handoff, pool.drain.signal).map(|fault| ("drain.signal", fault)))
}

/// Who is built on the library says Hello, and nobody else does.
pub(crate) fn ready_by(handoff: Handoff, ready: Ready) -> Option<Fault> {
    match (handoff, ready) {
        (Handoff::Pass | Handoff::Stdio, Ready::Auto | Ready::Hello)
        | (Handoff::Accept, Ready::Auto | Ready::Accept | Ready::Notify)
        | (Handoff::Listen, Ready::Auto | Ready::Hello | Ready::Notify) => None,
        (Handoff::Pass, Ready::Accept | Ready::Notify) => Some(Fault::new(
            "a worker on ostler's library says Hello",
            "only with handoff = \"accept\"",
            "write \"auto\" or \"hello\"",
        )),
        (Handoff::Stdio, Ready::Accept | Ready::Notify) => Some(Fault::new(
            "with `stdio` no program waits for connections: the worker that starts them says Hello",
            "only with handoff = \"accept\"",
            "write \"auto\"",
        )),
        (Handoff::Listen, Ready::Accept) => Some(Fault::new(
            "nothing is preloaded with `listen` that would notice the first accept",
            "only with handoff = \"accept\"",
            "write \"auto\", \"notify\", or \"hello\" for a program on ostler's library",
        )),
        (Handoff::Accept, Ready::Hello) => Some(Fault::new(
            "an unmodified program does not say Hello",
            "not with handoff = \"accept\"",
            "write \"auto\", \"accept\" or \"notify\"",
        )),
    }
}

/// Workers on the library are told by a message.
pub(crate) fn drained_by(handoff: Handoff, signal: DrainSignal) -> Option<Fault> {
    match handoff {
        Handoff::Accept | Handoff::Listen | Handoff::Stdio => None,
        Handoff::Pass => (signal != DrainSignal::Term).then(|| {
            let message = "no effect: with `pass` workers are asked to leave by a message";
            let remedy = "remove it, or write handoff = \"accept\" or \"listen\"";
            Fault::new(message, "only with `accept`, `listen` and `stdio`", remedy)
        }),
    }
}

/// A reply that is never sent was a mistake.
pub(crate) fn reply_has_deadline(timeout: Duration, on_timeout: &Farewell) -> Option<Fault> {
    match on_timeout {
        Farewell::Reply(_) if timeout.is_zero() => Some(Fault::new(
            "the reply would never be sent: with a timeout of 0s nobody waits too long",
            "never sent",
            "remove it, or write a timeout, such as \"10s\"",
        )),
        Farewell::Reply(_) | Farewell::Close => None,
    }
}

/// A share that is larger than the whole bounds nothing.
pub(crate) fn share_of_line(per_uid: u32, limit: u32) -> Option<Fault> {
    (per_uid > limit).then(|| {
        Fault::new(
            format!("no effect: one user may have {per_uid} connections in a line of {limit}"),
            "more than queue.limit",
            format!("write less than {limit}, 0 for no limit per user, or raise queue.limit"),
        )
    })
}

/// The kernel tells who connects over a Unix socket, and nobody who does over TCP.
pub(crate) fn has_users(per_uid: u32, listen: &[Address]) -> Option<Fault> {
    let over_tcp = |address: &Address| match address {
        Address::Tcp(_) => true,
        // What a service manager gives may be either.
        Address::UnixPath { .. } | Address::UnixAbstract(_) | Address::Given(_) => false,
    };
    (per_uid > 0 && listen.iter().all(over_tcp)).then(|| {
        Fault::new(
            "no effect: this pool listens on TCP alone, where nobody knows the user of a client",
            "only Unix clients have a user",
            "remove it, or listen on unix:PATH or unix:@NAME",
        )
    })
}

/// Only a path has an owner, a group and permissions.
pub(crate) fn has_unix_path(listen: &[Address]) -> Option<Fault> {
    let is_path = |address: &Address| matches!(address, Address::UnixPath { .. });
    (!listen.iter().any(is_path)).then(|| {
        Fault::new(
            "no effect: this pool listens on no unix:PATH",
            "only a unix:PATH has this",
            "remove it, or listen on a unix:PATH",
        )
    })
}

/// The control socket needs a path of its own.
pub(crate) fn control_is_free<'a>(control: &Path, mut listen: impl Iterator<Item = &'a Address>) -> Option<Fault> {
    let shown = control.display().to_string();
    let control = Address::UnixPath { path: control.to_owned(), shown };
    let (taken, why) =
        listen.find_map(|address| clash(&control, address, Apart::OtherPool).map(|why| (address, why)))?;
    let message = format!("the control socket clashes with the listener {taken}: {why}");
    Some(Fault::new(message, "taken by a pool", "choose another path for one of them"))
}
