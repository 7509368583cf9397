//! Prepares a worker: its mailbox, its channels, its environment; then forks.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::resource::Resource;
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::Pid;
use ostler_config::checked::{AcceptAt, Bound, Handoff, Inherit, Output, Pool, Process, Program};
use ostler_pool::{OWN_RECORDS_MIN, PoolNo, Settings};
use ostler_shared::claims::SharedTable;
use ostler_shared::region::Shared;
use ostler_shared::ring::Capacity;
use ostler_shared::wire::{self, FORK_DESCRIPTORS, Fork, Marks, PROTOCOL, ToWorker, Welcome};
use ostler_shared::{WorkerId, WorkerName, env, packet};

use super::child::{self, Identity, Limit, ListenPid, Prepared};
use super::limits::Inherited;
use super::link::{Link, Manners, Role};
use super::listening::Entrance;
use super::output::{Allowance, LastWords, Pipe};
use super::rings::{RingNo, Rings, Side};
use super::unmodified::{Goodbye, drain_signal};
use super::worker_notify::{NOTIFY_SOCKET, Notices};
use crate::admin::ADMIN_COMMAND;
use crate::stdio::Orders;

/// The hidden subcommand that makes this binary a hello server.
pub(crate) const HELLO_COMMAND: &str = "hello-worker";
/// Variables that speak of the supervisor and would mislead a worker.
const NOT_INHERITED: [&str; 8] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDNAMES",
    "FDSTORE",
];

/// Variables that speak of a user, in the order of [`user_variables`].
const USER_VARIABLES: [&str; 3] = ["HOME", "LOGNAME", "USER"];

/// The worker, or the template, that is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order<'a> {
    pub(crate) worker: WorkerId,
    pub(crate) pool: PoolNo,
    pub(crate) name: &'a WorkerName,
    pub(crate) settings: &'a Arc<Settings>,
    pub(crate) role: Role,
}

/// Makes a worker process; `board` is for one that reads what is published.
///
/// # Errors
/// Whatever a system call on the way answered, as a text for the log; nothing is left behind.
pub(crate) fn spawn(
    order: &Order<'_>,
    entrance: &Entrance,
    board: Option<OwnedFd>,
    limits: Inherited,
    rings: &mut Rings,
) -> io::Result<Link> {
    let settings = order.settings;
    let config = &settings.pool;
    let (unmodified, listeners) = (entrance.unmodified(), entrance.listeners());
    let own = Belongings::make(order)?;
    let (exec, error_pipe) = io::pipe()?;
    let null = std::fs::File::open("/dev/null")?;
    let ours = [own.region.as_fd(), own.gauges.as_fd(), own.doorbell.as_fd()];
    let (control, control_worker) = match unmodified {
        None => packet::pair().map(|(ours, theirs)| (Some(ours), Some(theirs)))?,
        Some(_) => (None, None),
    };
    let (first, third) = match unmodified.map(|_| config.accept.at) {
        None | Some(AcceptAt::Three) => (null.as_fd(), Some(own.mailbox_reader.as_fd())),
        Some(AcceptAt::Stdin) => (own.mailbox_reader.as_fd(), None),
    };
    let (threes, last) = match listeners {
        Some(listeners) => (listeners.fds().map(Some).collect(), Some(own.mailbox_reader.as_fd())),
        None => (vec![third], None),
    };
    let laid_out: Vec<_> = [Some(first), Some(own.output.1.as_fd()), Some(own.errors.1.as_fd())]
        .into_iter()
        .chain(threes)
        .chain(control_worker.iter().map(|control| Some(control.as_fd())))
        .chain(ours.map(Some))
        .chain(last.map(Some))
        .chain(board.iter().map(|board| Some(board.as_fd())))
        .collect();
    let beyond = |fd| child::source_beyond(fd, laid_out.len());
    let descriptors = laid_out.iter().map(|fd| fd.map(beyond).transpose()).collect::<io::Result<Vec<_>>>()?;
    let notices = match entrance {
        Entrance::Mailbox => None,
        Entrance::Imitation(_) | Entrance::Listeners(_) => Some(Notices::open()?),
    };
    let board = board.as_ref().map(AsFd::as_fd);
    let environment = environment_of(order, entrance, notices.as_ref(), own.mailbox_reader.as_fd(), board)?;
    let prepared = Prepared {
        program: program_path(config)?,
        arguments: arguments(config)?,
        environment,
        limits: limits_of(&config.process, limits),
        nice: config.process.nice,
        umask: config.process.umask,
        identity: identity(&config.process),
        directory: directory(&config.process)?,
        new_privileges: config.process.new_privileges,
        descriptors,
        listen_pid: match (entrance, config.accept.at) {
            (Entrance::Imitation(_), AcceptAt::Three) | (Entrance::Listeners(_), _) => ListenPid::Told,
            (Entrance::Imitation(_), AcceptAt::Stdin) | (Entrance::Mailbox, _) => ListenPid::Untold,
        },
        parent_death: match entrance {
            Entrance::Mailbox => None,
            Entrance::Imitation(_) | Entrance::Listeners(_) => Some(drain_signal(config.drain.signal)),
        },
        parent: nix::unistd::getpid(),
        error_pipe: child::source_beyond(error_pipe.as_fd(), laid_out.len())?,
    };
    set_nonblocking(&exec)?;
    let (pid, pidfd) = child::fork_exec(&prepared)?;
    Ok(own.link(order, rings, Channels { control, exec: Some(exec), notices }).born(pid, pidfd))
}

/// Asks a template for a worker, over its control channel.
///
/// # Errors
/// Whatever a system call on the way answered, as a text for the log; nothing is left behind.
pub(crate) fn conceive(order: &Order<'_>, template: BorrowedFd<'_>, rings: &mut Rings) -> io::Result<Unborn> {
    let own = Belongings::make(order)?;
    let (control, control_worker) = packet::pair()?;
    let fork = ToWorker::Fork(Fork { request: order.worker.0, slot: order.name.slot });
    let frame = wire::encode(&fork).expect("a request for a worker is short");
    let descriptors: [BorrowedFd<'_>; FORK_DESCRIPTORS] = [
        own.mailbox_reader.as_fd(),
        control_worker.as_fd(),
        own.region.as_fd(),
        own.gauges.as_fd(),
        own.doorbell.as_fd(),
        own.output.1.as_fd(),
        own.errors.1.as_fd(),
    ];
    packet::send_frame_with(template, &frame, &descriptors)?;
    Ok(own.link(order, rings, Channels { control: Some(control), exec: None, notices: None }))
}

/// All of a worker but its process.
pub(crate) struct Unborn {
    pub(crate) name: WorkerName,
    pub(crate) ring: RingNo,
    birth: Box<dyn FnOnce(Pid, OwnedFd) -> Link>,
}

impl Unborn {
    /// It is this process.
    pub(crate) fn born(self, pid: Pid, pidfd: OwnedFd) -> Link {
        (self.birth)(pid, pidfd)
    }
}

/// How a worker is spoken with: on its control channel, or what it notifies. One that was not forked by a template reports its exec.
struct Channels {
    control: Option<OwnedFd>,
    exec: Option<io::PipeReader>,
    notices: Option<Notices>,
}

/// What a worker has for itself: our ends, and its ends until it has them.
struct Belongings {
    mailbox: OwnedFd,
    mailbox_reader: OwnedFd,
    side: Side,
    region: OwnedFd,
    gauges: OwnedFd,
    doorbell: EventFd,
    output: (Option<io::PipeReader>, OwnedFd),
    errors: (Option<io::PipeReader>, OwnedFd),
}

impl Belongings {
    fn make(order: &Order<'_>) -> io::Result<Belongings> {
        let config = &order.settings.pool;
        let (mailbox, mailbox_reader) = packet::pair()?;
        // The worker can't write to us through its mailbox, nor filter what we read back from it.
        shutdown(mailbox.as_raw_fd(), Shutdown::Read)?;
        ostler_shared::sys::socket::lock_filter(mailbox_reader.as_fd())?;
        let Memory { side, region, gauges } = Memory::create(config)?;
        Ok(Belongings {
            mailbox,
            mailbox_reader,
            side,
            region,
            gauges,
            doorbell: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            output: stream(config, io::stdout().as_fd())?,
            errors: stream(config, io::stderr().as_fd())?,
        })
    }

    /// What we keep of the worker, once its process is known. Its own ends are closed here.
    fn link(self, order: &Order<'_>, rings: &mut Rings, channels: Channels) -> Unborn {
        let Order { worker, pool, name, settings, role } = *order;
        let Belongings { mailbox, mailbox_reader, side, doorbell, output, errors, .. } = self;
        let Channels { control, exec, notices } = channels;
        let ring = rings.open(worker, side);
        let (name, settings, welcome) = (name.clone(), Arc::clone(settings), welcome(&settings.pool));
        let (output, errors) = (output.0.map(Pipe::new), errors.0.map(Pipe::new));
        let called = name.clone();
        let birth = Box::new(move |pid, pidfd| Link {
            name: called,
            pool,
            settings,
            role,
            pid,
            pidfd,
            mailbox,
            mailbox_reader,
            control,
            ring,
            doorbell,
            notices,
            asked: None,
            exec,
            output,
            errors,
            last_words: LastWords::default(),
            allowance: Allowance::default(),
            manners: Manners::Stranger,
            look: super::standing_by::Look::default(),
            welcome,
            sent: None,
            has_left: false,
            goodbye: Goodbye::None,
            portrait: Vec::new(),
            is_looked_at: false,
            ended: None,
        });
        Unborn { name, ring, birth }
    }
}

fn welcome(config: &Pool) -> Welcome {
    Welcome {
        protocol: PROTOCOL,
        concurrency: config.concurrency,
        drain_timeout_ms: milliseconds(config.drain.timeout),
        heartbeat_ms: milliseconds(config.watchdog.heartbeat),
        marks: marks(config),
    }
}

/// A process learns from its environment that it is to be a template.
fn of_role(role: Role) -> impl Iterator<Item = (OsString, OsString)> {
    let template = match role {
        Role::Worker => None,
        Role::Template => Some((OsString::from(env::TEMPLATE), OsString::from("1"))),
    };
    template.into_iter()
}

/// What a program finds that is executed for us.
fn environment_of(
    order: &Order<'_>,
    entrance: &Entrance,
    notices: Option<&Notices>,
    mailbox: BorrowedFd<'_>,
    board: Option<BorrowedFd<'_>>,
) -> io::Result<Vec<CString>> {
    let (name, config) = (order.name, &order.settings.pool);
    let spoken_at = notices.map(|notices| (NOTIFY_SOCKET.into(), notices.address().to_owned()));
    match entrance {
        Entrance::Mailbox => environment(&config.process, of_protocol(name, env::fds()).chain(of_role(order.role))),
        Entrance::Listeners(listeners) => {
            let first = listeners.first_behind();
            let fds = board.map_or_else(|| env::fds_behind_listeners(first), |_| env::fds_with_board(first));
            let facts = of_protocol(name, fds).chain(spoken_at);
            environment(&config.process, facts.chain(listeners.variables()).chain(watched_for(config)))
        }
        Entrance::Imitation(unmodified) => {
            let facts = of_protocol(name, env::fds_of_unmodified(env::MAILBOX_FD + 1)).chain(spoken_at);
            let facts = facts.chain(unmodified.variables(name, config, mailbox)?);
            unmodified.preloaded(environment(&config.process, facts)?)
        }
    }
}

/// What sd_watchdog_enabled(3) reads. Without WATCHDOG_PID it is for whichever process looks.
fn watched_for(config: &Pool) -> Option<(OsString, OsString)> {
    let heartbeat = config.watchdog.heartbeat;
    (!heartbeat.is_zero()).then(|| ("WATCHDOG_USEC".into(), heartbeat.as_micros().to_string().into()))
}

/// Marks cost the worker something per request.
fn marks(config: &Pool) -> Marks {
    let watchdog = &config.watchdog;
    if watchdog.request.is_zero() && watchdog.slow.is_zero() { Marks::Unread } else { Marks::Read }
}

fn milliseconds(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// The memories of one worker.
struct Memory {
    side: Side,
    region: OwnedFd,
    gauges: OwnedFd,
}

impl Memory {
    fn create(config: &Pool) -> io::Result<Memory> {
        let capacity = ring_capacity(config);
        Ok(match config.handoff {
            Handoff::Pass | Handoff::Listen | Handoff::Stdio => {
                let Shared { side, region, gauges } = Shared::create(capacity)?;
                Memory { side: Side::Library(side), region, gauges }
            }
            Handoff::Accept => {
                let SharedTable { table, region, gauges } = SharedTable::create(capacity)?;
                Memory { side: Side::Unmodified(table), region, gauges }
            }
        })
    }
}

/// A record for every connection that the worker may be handed: credit returns only with a record.
fn ring_capacity(config: &Pool) -> Capacity {
    let credit = match config.handoff {
        Handoff::Pass | Handoff::Accept | Handoff::Stdio => config.concurrency.saturating_add(config.prefetch),
        // Who accepts by himself does not wait until we have read.
        Handoff::Listen => config.concurrency.max(OWN_RECORDS_MIN),
    };
    Capacity::at_least(credit).expect("the configuration bounds concurrency and prefetch")
}

fn program_path(config: &Pool) -> io::Result<CString> {
    match &config.program {
        // Always this very binary, even when the file was replaced meanwhile.
        Program::Hello | Program::Admin | Program::Pipeline(_) => c_string(OsStr::new("/proc/self/exe")),
        Program::Command(words) => found(&words[0], &config.process),
    }
}

/// Looked up each time: what PATH finds may have been replaced. When it finds nothing, execve says so.
pub(super) fn found(program: &OsStr, process: &Process) -> io::Result<CString> {
    let found = ostler_config::find_program(program, process);
    c_string(found.as_deref().map_or(program, |path| path.as_os_str()))
}

pub(super) fn directory(process: &Process) -> io::Result<Option<CString>> {
    process.cwd.as_ref().map(|dir| c_string(dir.as_os_str())).transpose()
}

fn arguments(config: &Pool) -> io::Result<Vec<CString>> {
    match &config.program {
        Program::Hello => own_words(HELLO_COMMAND),
        Program::Admin => own_words(ADMIN_COMMAND),
        Program::Command(words) => words.iter().map(|word| c_string(word)).collect(),
        Program::Pipeline(stages) => {
            let orders = Orders {
                drain_signal: drain_signal(config.drain.signal) as i32,
                drain_timeout: config.drain.timeout,
                kill_after: config.drain.kill_after,
                stages: stages.clone(),
            };
            [OsString::from("ostler")].into_iter().chain(orders.written()).map(|word| c_string(&word)).collect()
        }
    }
}

fn own_words(subcommand: &str) -> io::Result<Vec<CString>> {
    ["ostler", subcommand].iter().map(|word| c_string(OsStr::new(word))).collect()
}

fn of_protocol(name: &WorkerName, fds: String) -> impl Iterator<Item = (OsString, OsString)> {
    let protocol = [
        (env::PROTOCOL, PROTOCOL.to_string()),
        (env::POOL, name.pool.to_string()),
        (env::WORKER, format!("{}.{}", name.slot, name.generation)),
        (env::FDS, fds),
    ];
    protocol.into_iter().map(|(key, value)| (OsString::from(key), OsString::from(value)))
}

/// What a child of ours finds in its environment: what we have ourselves, what the file says, and what is `from_us`.
pub(super) fn environment(
    process: &Process,
    from_us: impl Iterator<Item = (OsString, OsString)>,
) -> io::Result<Vec<CString>> {
    let inherited = std::env::vars_os().filter(|(key, _)| is_inherited(key, process));
    let user = user_variables(process).filter(|(key, _)| !process.env.contains_key(*key));
    let user = user.map(|(key, value)| (OsString::from(key), value));
    let own = process.env.iter().map(|(key, value)| (OsString::from(key), OsString::from(value)));
    inherited
        .chain(user)
        .chain(own)
        .chain(from_us)
        .map(|(key, value)| c_string(&OsString::from_vec([key.as_bytes(), b"=", value.as_bytes()].concat())))
        .collect()
}

fn is_inherited(key: &OsStr, process: &Process) -> bool {
    let kept = match &process.env_keep {
        Inherit::Everything => true,
        Inherit::Only(names) => key.to_str().is_some_and(|key| names.contains(key)),
    };
    let of_another_user = process.user.is_some() && USER_VARIABLES.iter().any(|name| key == *name);
    kept && !of_another_user
        && !key.as_bytes().starts_with(b"OSTLER_")
        && !NOT_INHERITED.iter().any(|name| key == *name)
        && !process.env.contains_key(&*key.to_string_lossy())
}

/// What a login would say of the user, where one is configured: with those of root, many programs would look for their
/// files where they may not.
fn user_variables(process: &Process) -> impl Iterator<Item = (&'static str, OsString)> {
    let entry = process.user.as_ref().and_then(|account| account.entry.as_ref());
    let values = entry.map(|entry| [entry.home.clone().into_os_string(), (&entry.name).into(), (&entry.name).into()]);
    values.into_iter().flat_map(|values| USER_VARIABLES.into_iter().zip(values))
}

pub(super) fn identity(process: &Process) -> Identity {
    let Process { user, group, groups, .. } = process;
    Identity { uid: user.as_ref().map(|account| account.uid), gid: *group, groups: groups.clone() }
}

/// That of descriptors, then those of `process.limits` in their order: [`super::failure`] finds them by their place.
/// One above the hard limit is for those who may raise it; setrlimit says so.
pub(super) fn limits_of(process: &Process, inherited: Inherited) -> Vec<Limit> {
    let (soft, hard) = process.nofile.map_or((inherited.soft, inherited.hard), |nofile| (nofile, nofile));
    let descriptors = Limit { resource: Resource::RLIMIT_NOFILE, soft, hard };
    let others = process.limits.iter().map(|(limit, bound)| {
        let value = match bound {
            Bound::At(value) => *value,
            Bound::Unlimited => libc::RLIM_INFINITY,
        };
        Limit { resource: limit.resource(), soft: value, hard: value }
    });
    [descriptors].into_iter().chain(others).collect()
}

/// The supervisor's and the worker's end of a log stream.
fn stream(config: &Pool, inherited: std::os::fd::BorrowedFd<'_>) -> io::Result<(Option<io::PipeReader>, OwnedFd)> {
    match config.output {
        Output::Capture => {
            let (reader, writer) = io::pipe()?;
            set_nonblocking(&reader)?;
            if let Some(account) = &config.process.user {
                // Its own, or it could not open /dev/stderr. Who may not give it away loses only that.
                let _given = std::os::unix::fs::fchown(&writer, Some(account.uid), None);
            }
            Ok((Some(reader), writer.into()))
        }
        Output::Inherit => Ok((None, inherited.try_clone_to_owned()?)),
        Output::Discard => Ok((None, std::fs::File::options().write(true).open("/dev/null")?.into())),
    }
}

pub(super) fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

pub(super) fn c_string(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}
