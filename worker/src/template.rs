//! Loads everything once and forks workers on request, so that a worker starts in about a millisecond and shares memory.

use std::env;
use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use ostler_shared::SlotNo;
use ostler_shared::env::{CONTROL_FD, DOORBELL_FD, GAUGES_FD, MAILBOX_FD, REGION_FD, TEMPLATE, WORKER};
use ostler_shared::packet::{Arrived, Wait, recv_frame_with};
use ostler_shared::sys::fd::duplicate;
use ostler_shared::wire::{self, FORK_DESCRIPTORS, FRAME_MAX, Fork, NoFork, TEXT_MAX, ToSupervisor, ToWorker};

use crate::connect::{ConnectError, TemplatePost};
use crate::control::Control;
use crate::fork::{Copy, fork_for_the_supervisor, put, set_variable};
use crate::greeting::{WELCOME_TIMEOUT, introduce_template};
use crate::serve::ServeError;
use crate::title::{self, Doing};
use crate::worker::Worker;

/// A program that loads everything before it becomes a worker, in one process for all workers where the pool has
/// `reload.template = true`, and in each worker where it has not.
///
/// ```no_run
/// use std::io::{self, Write};
///
/// use ostler_worker::{Template, TemplateError};
///
/// fn main() -> Result<(), TemplateError> {
///     let load = || std::fs::read_to_string("words.txt");
///     Template::run(load, |worker, words| {
///         worker.serve(|mut connection| connection.write_all(words.as_bytes()))
///     })
/// }
/// ```
#[derive(Debug)]
pub enum Template {}

/// Why a template, or a worker that came of it, ended otherwise than by a drain.
#[derive(thiserror::Error)]
pub enum TemplateError {
    /// There is no supervisor.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// What was to be loaded could not be.
    #[error("cannot load: {0}")]
    Load(#[source] Box<dyn Error + Send + Sync>),
    /// A copy of this process would have one of its threads only.
    #[error("cannot be a template: {0}")]
    Threads(#[from] Threads),
    /// The control channel failed.
    #[error("cannot hear the supervisor: {0}")]
    Channel(#[source] io::Error),
    /// A worker could not go on serving.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl std::fmt::Debug for TemplateError {
    /// The words for people: `main` shows an error that it returns in this way.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// A process with more than one thread, which can't be copied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it has {count} threads ({names}), and a forked worker would have one of them only: start threads in what serves, not in \
     what loads, or set reload.template = false"
)]
pub struct Threads {
    /// How many there are.
    pub count: usize,
    /// What they are called, the first [`THREADS_NAMED_MAX`] of them.
    pub names: String,
}

/// Most threads that are named.
pub const THREADS_NAMED_MAX: usize = 4;

/// How long a thread that was joined may take until the kernel does not show it any more.
const THREADS_GONE_TIMEOUT: Duration = Duration::from_millis(100);
/// How often that is looked at.
const THREADS_LOOK_EVERY: Duration = Duration::from_millis(1);

impl Template {
    /// Calls `load`, and `serve` with what that gave, in each worker.
    ///
    /// In a template, `load` is called once, and this returns when the template is not needed any more. In each worker that
    /// it forks, and in an ordinary worker, this returns with what `serve` returns. So leave after it.
    ///
    /// `load` must leave one thread behind, the one that calls this: a forked process has no other, and what another one had
    /// locked would stay locked. Descriptors that `load` opens are open in all workers and have one position in a file, one
    /// connection to a database: open such things in `serve`. What `load` has left in a buffer of its own, every worker
    /// writes; this flushes standard output. What it has drawn from a generator of random numbers that does not notice forks
    /// is the start of the same row of numbers in each: seed those in `serve`.
    ///
    /// Until it is a worker the process has its signals as they were: TERM ends a template.
    ///
    /// # Errors
    /// When `load` fails, when there is no supervisor, when this process has more than one thread, or as `serve`.
    pub fn run<D, E, L, S>(load: L, serve: S) -> Result<(), TemplateError>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
        L: FnOnce() -> Result<D, E>,
        S: FnOnce(Worker, D) -> Result<(), ServeError>,
    {
        if env::var_os(TEMPLATE).is_none() {
            let worker = Worker::connect()?;
            let loaded = load().map_err(|problem| TemplateError::Load(problem.into()))?;
            return Ok(serve(worker, loaded)?);
        }
        let control = take_post()?;
        let loaded = load().map_err(|problem| TemplateError::Load(problem.into()))?;
        match fork_on_request(control)? {
            Role::Done => Ok(()),
            Role::Worker => Ok(serve(Worker::connect()?, loaded)?),
        }
    }
}

/// What this process has become.
enum Role {
    /// A template that is not needed any more.
    Done,
    /// A worker, and everything is where a worker looks for it.
    Worker,
}

/// Introduces this process. The numbers from 3 on which a worker has its descriptors stay taken, by those that this process
/// was given: a file that is opened while everything is loaded shall not get one of them.
fn take_post() -> Result<Control, TemplateError> {
    let post = TemplatePost::inherit()?;
    title::show(&post.name, Doing::Starting);
    let control = duplicate(post.control(), DOORBELL_FD + 1).map(Control::new).map_err(TemplateError::Channel)?;
    post.leave_in_place();
    introduce_template(&control, WELCOME_TIMEOUT).map_err(ConnectError::from)?;
    Ok(control)
}

/// Forks as often as it is asked to.
fn fork_on_request(control: Control) -> Result<Role, TemplateError> {
    sole_thread()?;
    control.send(&ToSupervisor::Loaded);
    loop {
        let mut buffer = [0; FRAME_MAX + 1];
        let frame = recv_frame_with(control.as_fd(), &mut buffer, Wait::Block).map_err(TemplateError::Channel)?;
        if frame.len == 0 && frame.fds.is_empty() {
            return Ok(Role::Done); // the supervisor is gone
        }
        match wire::decode(&buffer[..frame.len]) {
            Ok(ToWorker::Fork(fork)) => match fork_one(fork, frame.fds, frame.arrived) {
                Ok(Copy::Worker) => {
                    drop(control);
                    return Ok(Role::Worker);
                }
                Ok(Copy::Template(pid)) => control.send(&ToSupervisor::Forked { request: fork.request, pid }),
                Err((why, text)) => control.send(&refusal(fork.request, why, text)),
            },
            Ok(ToWorker::Drain) => return Ok(Role::Done),
            Ok(ToWorker::Ping { nonce }) => control.send(&ToSupervisor::Pong { nonce }),
            // A newer supervisor may say what this build does not understand.
            Ok(ToWorker::Welcome(_)) | Err(_) => {}
        }
    }
}

fn refusal(request: u64, why: NoFork, mut text: String) -> ToSupervisor {
    text.truncate(text.floor_char_boundary(TEXT_MAX));
    ToSupervisor::NotForked { request, why, text }
}

/// Forks one worker; in that everything is where a worker looks for it when this returns.
fn fork_one(fork: Fork, fds: Vec<OwnedFd>, arrived: Arrived) -> Result<Copy, (NoFork, String)> {
    let shortage = |problem: io::Error| (NoFork::Shortage, problem.to_string());
    let whole: Result<[OwnedFd; FORK_DESCRIPTORS], _> = fds.try_into();
    let (Ok(fds), Arrived::All) = (whole, arrived) else {
        return Err((NoFork::Shortage, "the template has no free descriptors: raise process.nofile".to_owned()));
    };
    sole_thread().map_err(|threads| (NoFork::Unfit, threads.to_string()))?;
    // What stands in the buffer, every worker would write again.
    let _nobody_reads = io::stdout().flush();
    // SAFETY: this is the only thread, as was looked up just now, and nobody else can have started one.
    #[allow(unsafe_code)]
    let copy = unsafe { fork_for_the_supervisor() }.map_err(shortage)?;
    if copy == Copy::Worker
        && let Err(problem) = settle(fork.slot, fds)
    {
        // The template knows this process for a worker: it ends as one that failed.
        crate::report::say(format_args!("cannot take a worker's place: {problem}"));
        std::process::exit(1);
    }
    Ok(copy)
}

/// Puts what a worker has been given where an executed worker finds it.
fn settle(slot: SlotNo, fds: [OwnedFd; FORK_DESCRIPTORS]) -> io::Result<()> {
    let places = [MAILBOX_FD, CONTROL_FD, REGION_FD, GAUGES_FD, DOORBELL_FD, libc::STDOUT_FILENO, libc::STDERR_FILENO];
    for (fd, place) in fds.into_iter().zip(places) {
        // SAFETY: the first five numbers were left in place, owned by nobody, for this moment; those of the standard streams
        // are nobody's, and whoever prints finds them open before and after.
        #[allow(unsafe_code)]
        unsafe {
            put(fd, place)?;
        }
    }
    let name = env::var(WORKER).unwrap_or_default();
    let generation = name.rsplit('.').next().unwrap_or_default();
    // SAFETY: a forked process has one thread.
    #[allow(unsafe_code)]
    unsafe {
        set_variable(WORKER, Some(format!("{slot}.{generation}").as_ref()));
        set_variable(TEMPLATE, None);
    }
    Ok(())
}

/// Makes sure that this process has one thread.
fn sole_thread() -> Result<(), Threads> {
    let deadline = Instant::now() + THREADS_GONE_TIMEOUT;
    loop {
        let names = thread_names();
        if names.len() <= 1 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let count = names.len();
            let names = names.into_iter().take(THREADS_NAMED_MAX).collect::<Vec<_>>().join(", ");
            return Err(Threads { count, names });
        }
        std::thread::sleep(THREADS_LOOK_EVERY);
    }
}

/// What the threads of this process are called (proc_pid_task(5)).
fn thread_names() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .collect()
}
