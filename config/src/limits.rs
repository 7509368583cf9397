//! Names the largest and smallest of everything that a configuration may ask for.
//!
//! Each of them appears by its number in the message of whoever exceeds it, and in `docs/configuration.md`.

use std::time::Duration;

/// Largest configuration file, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// Most pools of one supervisor.
pub const POOLS_MAX: usize = 64;
/// Connections that the admin server holds at a time. Beyond half of them it lets the oldest go.
pub const ADMIN_CONCURRENCY: u32 = 256;

/// Most addresses that one pool listens on.
pub const LISTEN_MAX: usize = 32;

/// Most workers of one pool.
pub const WORKERS_MAX: u32 = 4096;

/// Fewest workers that a pool gets when nobody says how many: one would make every crash an outage.
pub const WORKERS_DEFAULT_MIN: u32 = 2;

/// Shortest `idle` of a range of workers: whoever is started has to be of use for longer than starting takes.
pub const SCALE_IDLE_MIN: Duration = Duration::from_secs(1);

/// Most connections that one worker holds at a time.
pub const CONCURRENCY_MAX: u32 = 65_536;

/// Most connections beyond its concurrency that may lie ready in a worker's mailbox.
pub const PREFETCH_MAX: u32 = 64;

/// Longest time that such a connection may be asked to wait before it is taken back, if another worker has room.
pub const RECALL_AFTER_MAX: Duration = Duration::from_secs(60);

/// Concurrency of the hello server that `ostler run` makes by itself.
pub const HELLO_CONCURRENCY: u32 = 64;

/// Longest queue that a listener may ask the kernel for; the kernel cuts it to `net.core.somaxconn`.
pub const BACKLOG_MAX: u32 = 65_535;

/// Most connections that wait in the line of one pool.
pub const QUEUE_LIMIT_MAX: u32 = 1 << 20;

/// Longest text of `reply`, in bytes: it must fit into an empty socket buffer, since nobody waits to finish it.
pub const REPLY_BYTES_MAX: usize = 4096;

/// Most failures that `start.failures` may tolerate.
pub const FAILURES_MAX: u32 = 10_000;

/// Shortest of the times after which a watchdog bites.
pub const WATCHDOG_MIN: Duration = Duration::from_secs(1);

/// Shortest time after which a request may be called slow.
pub const SLOW_MIN: Duration = Duration::from_millis(100);

/// Most connections that `recycle.requests` may wait for.
pub const RECYCLE_REQUESTS_MAX: u32 = 1_000_000_000;

/// Most of a limit that `recycle.jitter` may leave to chance, in thousandths.
pub const RECYCLE_JITTER_MAX: u32 = 500;

/// Shortest age at which a worker is replaced.
pub const RECYCLE_AGE_MIN: Duration = Duration::from_secs(1);

/// Least memory, in bytes, for which a worker is replaced.
pub const RECYCLE_RSS_MIN: u64 = 1 << 20;

/// Longest duration, everywhere: 365 days.
pub const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Most words of a command.
pub const COMMAND_WORDS_MAX: usize = 1024;

/// Most commands of a pipeline.
pub const STAGES_MAX: usize = 16;

/// Longest word of a command, and longest `NAME=value` of the environment, in bytes: execve(2) takes no more.
pub const WORD_BYTES_MAX: usize = 131_071;

/// Most variables in `process.env`, and most names in `process.env_keep`.
pub const ENV_MAX: usize = 256;

/// Most groups of a process, and most in `process.groups`: setgroups(2) takes no more (NGROUPS_MAX).
pub const GROUPS_MAX: usize = 65_536;

/// Highest number that `process.limits` takes; whoever means more means "unlimited".
pub const LIMIT_MAX: u64 = 1 << 60;

/// Least niceness, which is the highest priority.
pub const NICE_MIN: i32 = -20;

/// Most niceness.
pub const NICE_MAX: i32 = 19;

/// Descriptors that a worker needs beside its connections: 0 to 3, control, the two memories until they are mapped, doorbell,
/// a pair for signals, `/dev/null`, and one in reserve.
pub const WORKER_DESCRIPTORS: u32 = 12;

/// Descriptors that a worker with `stdio` needs for a connection while it starts the commands, beside one for each of them: the
/// connection twice, two pipes, what the next process is given, and how it reports.
pub const STDIO_DESCRIPTORS: u32 = 12;

/// Smallest `process.nofile`: a worker's own descriptors and one connection.
pub const NOFILE_MIN: u32 = WORKER_DESCRIPTORS + 1;

/// Largest `process.nofile`; the kernel's `fs.nr_open` is mostly smaller.
pub const NOFILE_MAX: u32 = 1 << 30;

/// Longest Unix socket path or abstract name, in bytes: `sun_path` has 108, one is taken.
pub const UNIX_BYTES_MAX: usize = 107;

/// Longest name of a descriptor that a service manager passes down, in bytes (sd_listen_fds(3)).
pub const FD_NAME_BYTES_MAX: usize = 255;

/// Largest permission bits of a socket, and of `process.umask`.
pub const MODE_MAX: u32 = 0o777;

/// Most mistakes that are printed; more of them are only counted.
pub const MISTAKES_SHOWN_MAX: usize = 50;
