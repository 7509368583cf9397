//! Defines the command line: names, flags and their help, in one place.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use ostler_shared::PoolName;

use crate::control::place::CONTROL_VARIABLE;
use crate::control::protocol::{ScaleTo, Target};
use crate::exit;

/// Hosts prefork servers: accepts connections, hands each to the least loaded worker, reloads without losing one.
#[derive(Debug, Parser)]
#[command(name = "ostler", version, max_term_width = 100, after_help = exit::in_a_sentence())]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How many lines `ostler logs` begins with where nobody says it.
const LOG_LINES: u32 = 100;

/// How many connections `ostler trace` begins with where nobody says it.
const TRACE_LINES: u32 = 20;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Host the pools of a configuration, or one pool from flags; stays in the foreground
    ///
    /// Without a configuration, a command or a listener it hosts the built-in hello server on
    /// unix:ostler-hello.sock.
    Run(Run),
    /// Validate a configuration and print what it means
    Check(Check),
    /// Write a commented ostler.toml
    Init,
    /// Show the state of a running supervisor
    Status {
        /// Print JSON instead of text
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Watch a supervisor, and steer it: pools and workers as they go on, on the whole terminal
    ///
    /// Press ? for its keys. It goes on while the supervisor is stopped or gone, and when it is back.
    Top {
        #[command(flatten)]
        place: Place,
    },
    /// Show the last deaths of workers, and what is known about them
    Deaths {
        /// Print JSON instead of text
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Show the last lines of the log: what the supervisor says, and what workers print
    ///
    /// They are read from the supervisor's memory, wherever its log goes.
    Logs {
        /// A pool, or one slot of it: what it prints, and what is said about it
        #[arg(value_name = "POOL[/SLOT]")]
        target: Option<Target>,
        /// Go on with the lines that come, until Ctrl-C
        #[arg(short, long)]
        follow: bool,
        /// How many lines to begin with
        #[arg(short = 'n', long, value_name = "N", default_value_t = LOG_LINES)]
        lines: u32,
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Show the last connections, and those to come, as they end: how long each waited and was served, by whom, and how it ended
    ///
    /// LINE is the time from the accept to the last handoff, CLAIMED from there until its worker took it, SERVED from there to
    /// its end. They are read from the supervisor's memory, which has the last 1024, and besides as many of those before them that
    /// went wrong, came back from a worker, or took 100 ms or more.
    Trace {
        /// Those of one pool
        pool: Option<PoolName>,
        /// Only those that took so long from the accept to the end, such as 100ms
        #[arg(long, value_name = "DURATION", value_parser = ostler_config::read_duration)]
        slow: Option<Duration>,
        /// Only those that were shed or lost, and those whose handler failed
        #[arg(long)]
        errors: bool,
        /// How many to begin with
        #[arg(short = 'n', long, value_name = "N", default_value_t = TRACE_LINES)]
        lines: u32,
        /// Do not wait for those to come
        #[arg(long)]
        no_wait: bool,
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Open the files of the log and of the access log anew, after they were renamed
    #[command(name = "reopen-logs")]
    ReopenLogs {
        #[command(flatten)]
        place: Place,
    },
    /// Write the state of everything into the supervisor's log
    Dump {
        #[command(flatten)]
        place: Place,
    },
    /// Replace all workers by a new generation; undone, with exit code 3, when it does not prove itself
    Reload {
        /// Which pools; all when none is named
        pools: Vec<String>,
        /// Do not wait for the verdict
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Replace workers by fresh ones of the same generation, and begin with a clean slate
    ///
    /// Failures of the past are forgiven: a pool that was given up starts again, and slots that wait for their next try
    /// don't wait. `ostler recycle` only replaces workers that serve.
    Restart {
        /// A pool, or one slot of it
        #[arg(value_name = "POOL[/SLOT]")]
        target: Target,
        #[command(flatten)]
        place: Place,
    },
    /// Replace workers that serve, as if they had served enough
    ///
    /// Each serves until its replacement is ready, at most reload.surge of the pool change at a time, and a reload goes
    /// first. Unlike `ostler restart` it forgives no failures: it starts nothing where nobody serves. When a
    /// replacement does not get ready, the old worker serves on and the exit code is 1.
    Recycle {
        /// A pool, or one slot of it
        #[arg(value_name = "POOL[/SLOT]")]
        target: Target,
        #[command(flatten)]
        place: Place,
    },
    /// Change the number of workers
    #[command(allow_negative_numbers = true)]
    Scale {
        /// Which pool
        pool: String,
        /// The number, or +N or -N
        #[arg(value_name = "N|+N|-N", value_parser = scale_to)]
        workers: ScaleTo,
        #[command(flatten)]
        place: Place,
    },
    /// Drain all workers and let clients wait, until `ostler resume`
    ///
    /// Answers when the last worker has left. The waiting line keeps its limit and its deadline: see queue.limit and
    /// queue.timeout.
    Pause {
        /// Which pool; all when none is named
        pool: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Start the workers of a paused pool again
    ///
    /// Answers when all of them are ready; with exit code 1 when the pool is given up, with 4 when it takes too long.
    Resume {
        /// Which pool; all when none is named
        pool: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Stop the supervisor, wait for its end, and end with its exit code
    Stop {
        /// Do not serve what waits: TERM, two seconds, KILL
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Print a script that makes a shell complete ostler's commands and options
    Completions {
        /// Of which shell
        shell: clap_complete::Shell,
    },
    /// Print a man page, or write all of them into a directory
    ///
    /// To read one: `ostler man reload | man -l -`.
    Man {
        /// Of which command; of the whole program when none is named
        command: Option<String>,
        /// Write one file for each command and one for the program, such as ostler-reload.1
        #[arg(long, value_name = "DIR", conflicts_with = "command")]
        dir: Option<PathBuf>,
    },
    /// The built-in hello server, as ostler starts it for a pool without a command
    #[command(name = crate::driver::HELLO_COMMAND, hide = true)]
    HelloWorker,
    /// The built-in admin server, as ostler starts it where there is `[admin]`
    #[command(name = crate::admin::ADMIN_COMMAND, hide = true)]
    AdminWorker,
    /// Starts the commands of a `stdio` pool for each connection, as ostler starts it
    #[command(name = crate::stdio::STDIO_COMMAND, hide = true)]
    StdioWorker(crate::stdio::Written),
}

/// How to find the supervisor.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The control socket of the supervisor
    #[arg(long, value_name = "PATH", env = CONTROL_VARIABLE)]
    pub(crate) control: Option<PathBuf>,
    /// The configuration that it runs
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// `ostler run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The configuration; without it ./ostler.toml, if there is one and no --listen or command is given
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where to listen
    #[arg(
        long,
        value_name = "ADDR",
        help = "Where to listen: unix:PATH, unix:@NAME, tcp:HOST:PORT, tcp:[V6]:PORT or fd:NAME; may be repeated"
    )]
    pub(crate) listen: Vec<String>,
    /// How many workers
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<u32>,
    /// Connections that one worker holds at a time
    #[arg(long, value_name = "N")]
    pub(crate) concurrency: Option<u32>,
    /// How connections reach the workers: pass, accept, listen or stdio
    #[arg(long, value_name = "MODE")]
    pub(crate) handoff: Option<String>,
    /// The library that makes an unmodified program a worker, for accept; without it, libostler_shim.so beside ostler
    #[arg(long, value_name = "PATH")]
    pub(crate) shim: Option<PathBuf>,
    /// Where to put the control socket
    #[arg(long, value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,
    /// Write a newline to this descriptor once all pools are ready, and close it
    #[arg(long, value_name = "N")]
    pub(crate) ready_fd: Option<i32>,
    /// What a worker runs
    #[arg(last = true)]
    pub(crate) command: Vec<OsString>,
}

/// `ostler check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The configuration; without it ./ostler.toml
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

fn scale_to(text: &str) -> Result<ScaleTo, String> {
    let number = |digits: &str| digits.parse::<u32>().map_err(|_| format!("{text:?} is not N, +N or -N"));
    match text.as_bytes().first() {
        Some(b'+') => number(&text[1..]).map(ScaleTo::More),
        Some(b'-') => number(&text[1..]).map(ScaleTo::Fewer),
        Some(_) | None => number(text).map(ScaleTo::Exactly),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn scale_takes_a_number_or_a_change() {
        let scaled = |change: &str| match Cli::parse_from(["ostler", "scale", "web", change]).command {
            Command::Scale { workers, .. } => workers,
            other => panic!("{other:?}"),
        };
        assert_eq!(scaled("4"), ScaleTo::Exactly(4));
        assert_eq!(scaled("+2"), ScaleTo::More(2));
        assert_eq!(scaled("-1"), ScaleTo::Fewer(1));
        assert!(Cli::try_parse_from(["ostler", "scale", "web", "many"]).is_err());
    }
}
