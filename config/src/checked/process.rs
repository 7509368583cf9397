//! Says what a worker process is given: its user, its directory, its environment, its limits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use nix::sys::resource::Resource;

/// `process = { … }`. What is `None` is as the supervisor has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Whom workers run as.
    pub user: Option<Account>,
    /// Their group.
    pub group: Option<u32>,
    /// Their other groups, ascending.
    pub groups: Option<Vec<u32>>,
    /// Working directory, absolute.
    pub cwd: Option<PathBuf>,
    /// Permissions that files of a worker don't get.
    pub umask: Option<u32>,
    /// Environment variables to set, beside what is inherited.
    pub env: BTreeMap<String, String>,
    /// Environment variables to inherit.
    pub env_keep: Inherit,
    /// Limit of open descriptors; `None`: what the supervisor was started with.
    pub nofile: Option<u64>,
    /// Other limits, soft and hard ones in one.
    pub limits: BTreeMap<Limit, Bound>,
    /// Niceness, from -20 to 19.
    pub nice: Option<i32>,
    /// Whether a program can give them more rights than they have.
    pub new_privileges: NewPrivileges,
}

impl Process {
    /// A process that is as the supervisor is.
    #[must_use]
    pub fn inherited() -> Process {
        Process {
            user: None,
            group: None,
            groups: None,
            cwd: None,
            umask: None,
            env: BTreeMap::new(),
            env_keep: Inherit::Everything,
            nofile: None,
            limits: BTreeMap::new(),
            nice: None,
            new_privileges: NewPrivileges::AsInherited,
        }
    }

    /// The user that workers run as, as people write it; for messages.
    #[must_use]
    pub fn shown_user(&self) -> String {
        self.user.as_ref().map_or_else(|| "of ostler itself".to_owned(), Account::shown)
    }
}

/// A user, looked up when the configuration was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The number.
    pub uid: u32,
    /// What the user database says of it; a number need not be there.
    pub entry: Option<Entry>,
}

impl Account {
    /// The name, else the number.
    #[must_use]
    pub fn shown(&self) -> String {
        self.entry.as_ref().map_or_else(|| self.uid.to_string(), |entry| entry.name.clone())
    }
}

/// What the user database says of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its home directory.
    pub home: PathBuf,
    /// Its primary group.
    pub group: u32,
}

/// Which variables of the supervisor's environment workers get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inherit {
    /// All but those that speak of the supervisor itself.
    Everything,
    /// Of those, the ones with these names.
    Only(BTreeSet<String>),
}

/// Whether a program that a worker executes can give it more rights (no_new_privs of prctl(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewPrivileges {
    /// As it is for the supervisor: mostly, set-user-ID programs work.
    AsInherited,
    /// Never: no set-user-ID or set-group-ID bit and no file capability counts any more.
    Never,
}

/// A resource with a limit (getrlimit(2)), beside the descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// Address space.
    AddressSpace,
    /// Size of a core dump.
    Core,
    /// CPU time.
    Cpu,
    /// Heap and data.
    Data,
    /// Size of a file that is written.
    FileSize,
    /// Memory that is locked.
    Locked,
    /// Memory in message queues.
    MessageQueues,
    /// Processes and threads of the user.
    Processes,
    /// Realtime priority.
    RealtimePriority,
    /// Signals that are queued.
    QueuedSignals,
    /// Stack of the first thread.
    Stack,
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Things.
    Count,
}

/// How far a resource may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Up to here, in the limit's unit.
    At(u64),
    /// As far as there is any.
    Unlimited,
}

impl Limit {
    /// Each of them, in the order of their names.
    pub const ALL: [Limit; 11] = [
        Limit::AddressSpace,
        Limit::Core,
        Limit::Cpu,
        Limit::Data,
        Limit::FileSize,
        Limit::Locked,
        Limit::MessageQueues,
        Limit::Processes,
        Limit::RealtimePriority,
        Limit::QueuedSignals,
        Limit::Stack,
    ];

    /// Its key in `process.limits`: the one of limits.conf(5) and of the shell's manual.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Limit::AddressSpace => "as",
            Limit::Core => "core",
            Limit::Cpu => "cpu",
            Limit::Data => "data",
            Limit::FileSize => "fsize",
            Limit::Locked => "memlock",
            Limit::MessageQueues => "msgqueue",
            Limit::Processes => "nproc",
            Limit::RealtimePriority => "rtprio",
            Limit::QueuedSignals => "sigpending",
            Limit::Stack => "stack",
        }
    }

    /// Its name in the kernel.
    #[must_use]
    pub fn resource(self) -> Resource {
        match self {
            Limit::AddressSpace => Resource::RLIMIT_AS,
            Limit::Core => Resource::RLIMIT_CORE,
            Limit::Cpu => Resource::RLIMIT_CPU,
            Limit::Data => Resource::RLIMIT_DATA,
            Limit::FileSize => Resource::RLIMIT_FSIZE,
            Limit::Locked => Resource::RLIMIT_MEMLOCK,
            Limit::MessageQueues => Resource::RLIMIT_MSGQUEUE,
            Limit::Processes => Resource::RLIMIT_NPROC,
            Limit::RealtimePriority => Resource::RLIMIT_RTPRIO,
            Limit::QueuedSignals => Resource::RLIMIT_SIGPENDING,
            Limit::Stack => Resource::RLIMIT_STACK,
        }
    }

    /// What it counts.
    #[must_use]
    pub fn unit(self) -> Unit {
        match self {
            Limit::AddressSpace
            | Limit::Core
            | Limit::Data
            | Limit::FileSize
            | Limit::Locked
            | Limit::MessageQueues
            | Limit::Stack => Unit::Bytes,
            Limit::Cpu => Unit::Seconds,
            Limit::Processes | Limit::RealtimePriority | Limit::QueuedSignals => Unit::Count,
        }
    }
}
