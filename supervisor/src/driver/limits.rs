//! Makes sure that the descriptors suffice before the first connection comes.

use std::io;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ostler_config::Config;
use ostler_config::checked::{Farewell, Handoff, Overflow, Pool, Template};

use super::farewells::LINGERING_MAX;
use super::owners::OWNERS_MAX;

/// Descriptors that the supervisor needs for itself: streams, epoll, signals, control socket and its clients,
/// the configuration being read, the log, hooks, and one accept batch in flight.
const OWN: u64 = 224;
/// Per worker: mailbox (2), control, what it notifies, doorbell, pidfd, two log pipes, exec pipe.
const PER_WORKER: u64 = 9;

/// Templates of a pool that live at a time: of the old generation, of the new one, and one that is on its way out.
const TEMPLATES: u64 = 3;

/// How many workers of a pool are provided for beside those that serve. If more have to leave at a time, spawns wait until
/// descriptors are free.
const BESIDE_MAX: u64 = 64;

/// The limits that the supervisor was started with; workers get them back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inherited {
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// A configuration that this process has not enough descriptors for.
#[derive(Debug, thiserror::Error)]
#[error(
    "this configuration needs up to {need} descriptors ({detail}), and the hard limit is {hard}: \
     lower queue.limit or workers, or start ostler with a higher limit (ulimit -Hn, LimitNOFILE=)"
)]
pub(crate) struct TooFew {
    need: u64,
    hard: u64,
    detail: String,
}

/// The kernel does not let this process use the limit that it was started with.
#[derive(Debug, thiserror::Error)]
#[error(
    "the limit of descriptors cannot be raised from {soft} to the hard one, {hard}: {error} \
     (where fs.nr_open is lower than that, start ostler with a lower hard limit: ulimit -Hn, LimitNOFILE=)"
)]
struct NotRaised {
    soft: u64,
    hard: u64,
    error: Errno,
}

/// Raises the soft limit to the hard one.
///
/// # Errors
/// As setrlimit(2), in words: it refuses a hard limit above fs.nr_open even to who has it already.
pub(crate) fn raise() -> io::Result<Inherited> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    raised.map_err(|error| io::Error::other(NotRaised { soft, hard, error }))?;
    Ok(Inherited { soft, hard })
}

/// The limit of descriptors as it is now.
pub(crate) fn in_force() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft)
}

/// Refuses a configuration that could run out of descriptors.
pub(crate) fn check(config: &Config, hard: u64) -> Result<(), TooFew> {
    let (mut lines, mut workers, mut listeners) = (0, 0, 0);
    for pool in &config.pools {
        lines += u64::from(pool.queue.limit);
        // Successors, and those that are on their way out.
        let most = u64::from(pool.workers.most());
        workers += most + most.min(BESIDE_MAX);
        workers += match pool.reload.template {
            Template::Unused => 0,
            Template::Used => TEMPLATES,
        };
        listeners += pool.listen.len() as u64 * 2; // a Unix path has its lock
    }
    let is_unmodified = |pool: &Pool| match pool.handoff {
        Handoff::Accept => true,
        Handoff::Pass | Handoff::Listen | Handoff::Stdio => false,
    };
    let owners = if config.pools.iter().any(is_unmodified) { OWNERS_MAX as u64 } else { 0 };
    let lingering = if config.pools.iter().any(has_last_words) { LINGERING_MAX as u64 } else { 0 };
    let need = OWN + lines + workers * PER_WORKER + listeners + lingering + owners;
    if need > hard {
        let others = OWN + listeners + lingering + owners;
        let detail = format!("{lines} in waiting lines, {} for workers, {others} others", workers * PER_WORKER);
        return Err(TooFew { need, hard, detail });
    }
    Ok(())
}

/// Who may get a reply keeps its descriptor a little longer.
fn has_last_words(pool: &Pool) -> bool {
    let overflow = match &pool.queue.overflow {
        Overflow::Wait => &Farewell::Close,
        Overflow::Shed(farewell) => farewell,
    };
    [overflow, &pool.queue.on_timeout].into_iter().any(|farewell| matches!(farewell, Farewell::Reply(_)))
}
