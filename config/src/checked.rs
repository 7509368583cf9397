//! Says what a configuration means, with nothing left to interpret.
//!
//! Every value here is in its final form: durations are durations, users are numbers, paths are absolute,
//! defaults are filled in. Past this crate nobody sees an `Option` that stands for "take the default".

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ostler_shared::PoolName;

mod process;
mod workers;

pub use process::{Account, Bound, Entry, Inherit, Limit, NewPrivileges, Process, Unit};
pub use workers::{Range, Workers};

/// A whole configuration: what `ostler run` hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What concerns the supervisor itself.
    pub supervisor: Supervisor,
    /// The pools, in the order of the file, that of `[admin]` at the end; at least one other, names distinct.
    pub pools: Vec<Pool>,
}

/// `[supervisor]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervisor {
    /// Where the control socket is to be; `None`: `PID.sock` in the default directory of this user.
    pub control: Option<PathBuf>,
    /// Where the pid is written while the supervisor runs, absolute; `None`: nowhere.
    pub pid_file: Option<PathBuf>,
    /// How long a graceful stop may take, all of it.
    pub stop_timeout: Duration,
    /// How long a graceful stop goes on accepting and serving before it refuses new clients; with the `drain.kill_after` of any
    /// pool it fits into `stop_timeout`.
    pub shutdown_delay: Duration,
    /// What follows when a pool is given up.
    pub on_pool_failed: OnPoolFailed,
    /// What is logged, and how.
    pub log: Log,
}

/// What follows when a pool is given up that has served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPoolFailed {
    /// Whoever survives serves on.
    Keep,
    /// Everything stops, and whoever started us decides.
    Exit,
}

/// `supervisor.log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The least severe level that is written.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
    /// Where it goes, absolute; `None`: to standard error.
    pub file: Option<PathBuf>,
    /// Where each connection gets a line; `None`: nowhere.
    pub access: Option<AccessTo>,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// And what an operator should look at.
    Warn,
    /// And an operator's diary.
    Info,
    /// And our own diary.
    Debug,
    /// Everything.
    Trace,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Colours on a terminal, plain text elsewhere.
    Auto,
    /// Text for people.
    Pretty,
    /// One JSON object per line.
    Json,
    /// `key=value` pairs, quoted where need be.
    Logfmt,
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessTo {
    /// Standard output of the supervisor.
    Output,
    /// This file, absolute.
    File(PathBuf),
}

/// `[pool.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// What its workers run.
    pub program: Program,
    /// Where it listens; at least one address, all distinct.
    pub listen: Vec<Address>,
    /// How connections reach the workers.
    pub handoff: Handoff,
    /// Where an unmodified program believes to listen.
    pub accept: Accept,
    /// How many workers.
    pub workers: Workers,
    /// Connections that one worker holds at a time, at least 1.
    pub concurrency: u32,
    /// Connections beyond that which may lie ready in its mailbox, at most 64.
    pub prefetch: u32,
    /// What a worker has not claimed after this time goes to another that has room; 1 ms to 60 s.
    pub recall_after: Duration,
    /// Which worker gets the next connection.
    pub dispatch: Dispatch,
    /// How Unix paths and listeners are made.
    pub socket: Socket,
    /// The waiting line.
    pub queue: Queue,
    /// Starting and restarting.
    pub start: Start,
    /// Changing to a new generation.
    pub reload: Reload,
    /// Leaving.
    pub drain: Drain,
    /// Watching those that serve.
    pub watchdog: Watchdog,
    /// Replacing those that have served enough.
    pub recycle: Recycle,
    /// The process itself.
    pub process: Process,
    /// Where a worker's stdout and stderr go.
    pub output: Output,
    /// What is run when something happens.
    pub hooks: Hooks,
}

/// What a worker runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// The built-in hello server.
    Hello,
    /// A command: the program and its arguments, never empty. A program with a slash was made absolute
    /// (relative to the file that names it); one without is looked up in `PATH` at each spawn.
    Command(Vec<OsString>),
    /// With `stdio`: for each connection a process of this command, or of each of these commands in a row. None is empty, and
    /// each is as in `Command`. The worker that starts them is ostler itself.
    Pipeline(Vec<Vec<OsString>>),
    /// The built-in admin server: what `[admin]` makes, and no key of a pool does.
    Admin,
}

impl Pool {
    /// Whose it is.
    #[must_use]
    pub fn owner(&self) -> Owner {
        match self.program {
            Program::Admin => Owner::Ostler,
            Program::Hello | Program::Command(_) | Program::Pipeline(_) => Owner::User,
        }
    }
}

/// Whose a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// It is one of the file's, which everything here is for.
    User,
    /// It is ostler's own, from which others are watched. What becomes of it says nothing about the others.
    Ostler,
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// `unix:PATH`, absolute, at most 107 bytes; `shown` is what the user typed.
    UnixPath {
        /// The absolute path.
        path: PathBuf,
        /// As it was typed, behind `unix:`; this is what status and logs show.
        shown: String,
    },
    /// `unix:@NAME`: abstract; at most 107 bytes.
    UnixAbstract(String),
    /// `tcp:HOST:PORT` or `tcp:[v6]:PORT`; host names are resolved when the configuration is read.
    Tcp(SocketAddr),
    /// `fd:NAME`: the sockets that a service manager passes down under this name, one or several.
    Given(String),
}

/// How connections reach a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handoff {
    /// A worker built on our library receives connections on descriptor 3.
    Pass,
    /// An unmodified program believes that a descriptor is a listening socket; a preloaded library makes its accept a claim.
    Accept,
    /// A worker gets the listeners themselves and accepts; we manage the processes.
    Listen,
    /// A process per connection, or a pipeline of them, with the connection as standard input and output.
    Stdio,
}

/// `accept = { … }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    /// Which descriptor the program believes to be a listening socket.
    pub at: AcceptAt,
}

/// The descriptor that poses as a listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptAt {
    /// 3, as service managers have it.
    Three,
    /// Standard input; 3 is closed then.
    Stdin,
}

impl AcceptAt {
    /// Its number.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            AcceptAt::Three => 3,
            AcceptAt::Stdin => 0,
        }
    }
}

/// Which worker gets the next connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dispatch {
    /// The one with the fewest connections; equals in turn.
    LeastLoaded,
    /// Each in turn, skipping those that have no room.
    RoundRobin,
}

/// `socket = { … }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// Permission bits of a Unix path; `None`: what the umask leaves.
    pub mode: Option<u32>,
    /// Owner of a Unix path; `None`: the supervisor's user.
    pub owner: Option<u32>,
    /// Group of a Unix path; `None`: the supervisor's group.
    pub group: Option<u32>,
    /// Length of the kernel's queue of a listener.
    pub backlog: u32,
}

/// `queue = { … }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Most connections that wait in the line, at least 1.
    pub limit: u32,
    /// Longest wait in the line; zero: no deadline.
    pub timeout: Duration,
    /// What a connection gets that waited too long.
    pub on_timeout: Farewell,
    /// What happens when the line is full.
    pub overflow: Overflow,
    /// Most connections of one user in the line; zero: as many as there is room for. Over TCP nobody is counted.
    pub per_uid: u32,
}

/// How a connection is let go that no worker will serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Farewell {
    /// It is closed.
    Close,
    /// It gets these bytes, then it is closed.
    Reply(String),
}

/// What happens to a connection when the line is full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overflow {
    /// Stop accepting until there is room again.
    Wait,
    /// Accept it and let it go.
    Shed(Farewell),
}

/// `start = { … }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// How a worker says that it is READY.
    pub ready: Ready,
    /// How long a worker may take from spawn to READY.
    pub ready_timeout: Duration,
    /// A worker that dies this soon after READY, without one completed connection, has failed.
    pub settle: Duration,
    /// Wait before a restart after the first failure in a row.
    pub backoff_min: Duration,
    /// The wait doubles with each failure up to this.
    pub backoff_max: Duration,
    /// So many failures of a pool …
    pub failures: u32,
    /// … within this time, and it is given up.
    pub period: Duration,
}

/// How a worker says that it is READY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// As it goes with the handoff.
    Auto,
    /// By the library's Hello and Ready.
    Hello,
    /// By waiting for connections.
    Accept,
    /// By `READY=1` (sd_notify(3)), and by waiting for connections.
    Notify,
}

/// `reload = { … }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reload {
    /// How many slots change their worker at a time.
    pub surge: Surge,
    /// Whether one new worker goes ahead of the others.
    pub canary: Canary,
    /// A new worker whose life ends this soon after READY undoes the reload.
    pub probation: Duration,
    /// How the workers of a generation come into being.
    pub template: Template,
}

/// How many slots of a pool change their worker at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surge {
    /// So many, at least 1.
    Workers(u32),
    /// So many of a hundred, 1 to 100.
    Percent(u32),
}

impl Surge {
    /// How many of so many workers: at least one, so that a reload gets on.
    #[must_use]
    pub fn of(self, workers: u32) -> u32 {
        match self {
            Surge::Workers(count) => count,
            // Rounded up; the product of the limits of both fits.
            Surge::Percent(percent) => (workers * percent).div_ceil(100),
        }
        .clamp(1, workers.max(1))
    }
}

/// How the workers of a generation come into being.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// One process executes the command, loads everything, and forks them.
    Used,
    /// Each executes the command itself.
    Unused,
}

/// Whether one new worker goes ahead of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canary {
    /// It does, and the others start when it has passed its probation.
    Sent,
    /// All start as `surge` allows.
    Spared,
}

/// `drain = { … }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// What asks an unmodified program to finish and leave. Workers on the library are told by a message.
    pub signal: DrainSignal,
    /// How long a draining worker may finish what it holds before it gets TERM.
    pub timeout: Duration,
    /// From TERM to KILL; ABRT comes in the middle.
    pub kill_after: Duration,
}

/// A signal that asks a program to finish and leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of signal(7)")]
pub enum DrainSignal {
    Term,
    Int,
    Quit,
    Hup,
    Usr1,
    Usr2,
    Winch,
}

/// `watchdog = { … }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watchdog {
    /// A worker that has promised to beat and is silent for so long is replaced; zero: nobody looks.
    pub heartbeat: Duration,
    /// A worker that is at one request for so long is replaced; zero: it may take its time.
    pub request: Duration,
    /// A request that takes so long is noted, below `request` where that is not zero; zero: none is.
    pub slow: Duration,
}

/// `recycle = { … }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recycle {
    /// A worker that has served about so many connections is replaced; zero: it is not.
    pub requests: u32,
    /// How much of `requests` and `age` is left to chance.
    pub jitter: Jitter,
    /// A worker that has been READY for about so long is replaced; zero: it is not.
    pub age: Duration,
    /// A worker that occupies so many bytes of memory is replaced; zero: it is not.
    pub rss: u64,
}

/// A share of a limit by which it is larger or smaller for one or the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jitter(u32);

impl Jitter {
    /// So many thousandths, up and down.
    #[must_use]
    pub const fn from_thousandths(thousandths: u32) -> Jitter {
        Jitter(thousandths)
    }

    /// By what a limit is multiplied for one whose luck, from -1 to 1, is this.
    #[must_use]
    pub fn factor(self, luck: f64) -> f64 {
        1.0 + luck.clamp(-1.0, 1.0) * f64::from(self.0) / 1000.0
    }
}

impl std::fmt::Display for Jitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1000.0)
    }
}

/// `hooks = { … }`: commands, each a program and its arguments, never empty; the program as in [`Program::Command`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    /// When a worker is READY.
    pub ready: Option<Vec<OsString>>,
    /// When a worker has died.
    pub exit: Option<Vec<OsString>>,
    /// When a reload is over, whatever its verdict.
    pub reload: Option<Vec<OsString>>,
    /// When the pool is given up.
    pub failed: Option<Vec<OsString>>,
}

/// Where a worker's stdout and stderr go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Line by line into the supervisor's log.
    Capture,
    /// To the supervisor's own stdout and stderr.
    Inherit,
    /// Nowhere.
    Discard,
}
