//! Says what the command line of `ostler run` means, with and without a file.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ostler_shared::PoolName;

use crate::address::{Lookup, parse_address, resolve_socket_path, system_lookup};
use crate::check::{concurrency_of, default_pool, default_supervisor, recall_after_of};
use crate::checked::{Address, Config, Handoff, Owner, Pool, Program, Template, Workers};
use crate::clash::{Apart, clash};
use crate::combine;
use crate::keys;
use crate::limits::{CONCURRENCY_MAX, HELLO_CONCURRENCY, LISTEN_MAX, WORKERS_MAX};
use crate::mistakes::Fault;
use crate::program::absolute_program;
use crate::value::choose;
use crate::words::HANDOFFS;

/// What the command line of `ostler run` says about pools.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--listen ADDR`, each of them.
    pub listen: Vec<String>,
    /// `--workers N`.
    pub workers: Option<u32>,
    /// `--concurrency N`.
    pub concurrency: Option<u32>,
    /// `--handoff MODE`.
    pub handoff: Option<String>,
    /// `--control PATH`.
    pub control: Option<PathBuf>,
    /// What stands behind `--`; empty when nothing does.
    pub command: Vec<OsString>,
}

/// What is wrong with the flags, and the remedy, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(String);

impl Flags {
    /// Whether anything here says something about a pool.
    #[must_use]
    pub fn touches_pool(&self) -> bool {
        let Flags { listen, workers, concurrency, handoff, control: _, command } = self;
        !listen.is_empty() || workers.is_some() || concurrency.is_some() || handoff.is_some() || !command.is_empty()
    }
}

/// The configuration that flags make without a file; relative paths are those of `dir`.
///
/// # Errors
/// When a flag is wrong, or there is a command and nowhere to listen.
pub fn from_flags(flags: &Flags, dir: &Path) -> Result<Config, UsageError> {
    if flags.listen.is_empty() && !flags.command.is_empty() {
        let remedy = "add --listen ADDR, such as --listen tcp:127.0.0.1:8080 or --listen unix:web.sock";
        return Err(UsageError(format!("the command has nowhere to get connections from; {remedy}")));
    }
    let (name, listen) = if flags.listen.is_empty() {
        ("hello", vec![HELLO_ADDRESS.to_owned()])
    } else {
        ("main", flags.listen.clone())
    };
    let name: PoolName = name.parse().expect("the names of pools that flags make are pool names");
    let flags = Flags { listen, ..flags.clone() };
    let mut pool = default_pool(name, Program::Hello, Vec::new());
    if flags.command.is_empty() {
        pool.concurrency = HELLO_CONCURRENCY;
    }
    apply(Config { supervisor: default_supervisor(), pools: vec![pool] }, &flags, dir, system_lookup)
}

/// Lets flags override a file: pool flags a file of exactly one pool, `--control` any file.
///
/// # Errors
/// When there are pool flags and several pools, or when a flag is wrong or does not fit the file.
pub fn override_with(config: Config, flags: &Flags, dir: &Path) -> Result<Config, UsageError> {
    let names: Vec<&str> = config.pools.iter().filter(|pool| is_users(pool)).map(|pool| pool.name.as_str()).collect();
    if flags.touches_pool() && names.len() != 1 {
        return Err(UsageError(format!(
            "{} would have to choose among the pools {} of the file; write it into the file instead",
            first_pool_flag(flags),
            names.join(", ")
        )));
    }
    apply(config, flags, dir, system_lookup)
}

fn is_users(pool: &Pool) -> bool {
    pool.owner() == Owner::User
}

fn apply(mut config: Config, flags: &Flags, dir: &Path, lookup: Lookup) -> Result<Config, UsageError> {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    if flags.touches_pool() {
        let pool = config.pools.first_mut().expect("pool flags were refused unless there is exactly one pool");
        apply_to_pool(pool, flags, &dir, lookup)?;
    }
    if let Some(control) = &flags.control {
        let typed = control.to_str().ok_or_else(|| UsageError("--control: the path must be UTF-8 text".to_owned()))?;
        let path = resolve_socket_path(typed, &dir).map_err(|fault| said_of("--control", fault))?;
        config.supervisor.control = Some(path);
    }
    let listen = config.pools.iter().flat_map(|pool| &pool.listen);
    let taken = config.supervisor.control.as_deref().and_then(|control| combine::control_is_free(control, listen));
    match taken {
        // A --listen can as well run into the control path that the file says.
        Some(fault) if flags.control.is_none() => Err(said_of("--listen", fault)),
        Some(fault) => Err(said_of("--control", fault)),
        None => Ok(config),
    }
}

fn apply_to_pool(pool: &mut Pool, flags: &Flags, dir: &Path, lookup: Lookup) -> Result<(), UsageError> {
    if let Some(workers) = flags.workers {
        pool.workers = Workers::Fixed(within("--workers", workers, WORKERS_MAX)?);
    }
    if let Some(handoff) = &flags.handoff {
        let later = keys::known("pool.NAME.handoff").later;
        let before = (concurrency_of(pool.handoff), recall_after_of(pool.handoff));
        pool.handoff = choose(handoff, HANDOFFS, later).map_err(|fault| said_of("--handoff", fault))?;
        if pool.concurrency == before.0 {
            pool.concurrency = concurrency_of(pool.handoff);
        }
        if pool.recall_after == before.1 {
            pool.recall_after = recall_after_of(pool.handoff);
        }
        if let Some((name, fault)) = combine::fits_handoff(pool, recall_after_of(pool.handoff)) {
            let message = format!("{name} of the file: {}", fault.message);
            return Err(said_of("--handoff", Fault { message, ..fault }));
        }
    }
    if let Some(concurrency) = flags.concurrency {
        pool.concurrency = within("--concurrency", concurrency, CONCURRENCY_MAX)?;
        let fault = pool.process.nofile.and_then(|nofile| combine::descriptors_suffice(nofile, concurrency));
        if let Some(fault) = fault {
            return Err(said_of(
                "--concurrency",
                Fault { message: format!("process.nofile: {}", fault.message), ..fault },
            ));
        }
    }
    if !flags.listen.is_empty() {
        pool.listen = listeners(&flags.listen, dir, lookup)?;
        let socket = &pool.socket;
        let of_path = socket.mode.is_some() || socket.owner.is_some() || socket.group.is_some();
        if let Some(fault) = combine::has_unix_path(&pool.listen).filter(|_| of_path) {
            let message = format!("mode, owner or group of the file's socket: {}", fault.message);
            return Err(said_of("--listen", Fault { message, ..fault }));
        }
        if let Some(fault) = combine::has_users(pool.queue.per_uid, &pool.listen) {
            return Err(said_of("--listen", Fault { message: format!("queue.per_uid: {}", fault.message), ..fault }));
        }
    }
    if let Some(program) = flags.command.first() {
        if program.is_empty() || flags.command.iter().any(|word| word.as_bytes().contains(&b'\0')) {
            return Err(UsageError("the command behind -- has no program; write -- PROGRAM ARGUMENT...".to_owned()));
        }
        let mut command = flags.command.clone();
        command[0] = absolute_program(program, dir);
        pool.program = Program::Command(command);
    }
    fit_program(pool)?;
    if let Some(fault) = combine::unmodified(pool.handoff, &pool.program, &pool.process, &pool.listen) {
        return Err(said_of("--handoff", fault));
    }
    if let (Template::Used, Some(fault)) =
        (pool.reload.template, combine::loads_in_a_template(pool.handoff, &pool.program))
    {
        let message = format!("reload.template of the file: {}", fault.message);
        return Err(said_of("--handoff", Fault { message, ..fault }));
    }
    Ok(())
}

/// What is started once with other handoffs is started for each connection with `stdio`.
fn fit_program(pool: &mut Pool) -> Result<(), UsageError> {
    match (pool.handoff, &mut pool.program) {
        (Handoff::Stdio, Program::Command(words)) => pool.program = Program::Pipeline(vec![std::mem::take(words)]),
        (Handoff::Pass | Handoff::Accept | Handoff::Listen, Program::Pipeline(stages)) => match stages.as_mut_slice() {
            [only] => pool.program = Program::Command(std::mem::take(only)),
            _ => {
                let pipeline = combine::joined_by(pool.handoff);
                return Err(
                    pipeline.map_or_else(|| unreachable!("of two at least"), |fault| said_of("--handoff", fault))
                );
            }
        },
        (Handoff::Stdio, Program::Hello | Program::Admin | Program::Pipeline(_)) => {}
        (Handoff::Pass | Handoff::Accept | Handoff::Listen, Program::Hello | Program::Admin | Program::Command(_)) => {}
    }
    if let (Program::Pipeline(stages), Some(nofile)) = (&pool.program, pool.process.nofile)
        && let Some(fault) = combine::stages_have_descriptors(nofile, pool.concurrency, stages.len())
    {
        return Err(UsageError(format!("process.nofile of the file: {}; {}", fault.message, fault.remedy)));
    }
    Ok(())
}

fn listeners(typed: &[String], dir: &Path, lookup: Lookup) -> Result<Vec<Address>, UsageError> {
    if typed.len() > LISTEN_MAX {
        return Err(UsageError(format!("--listen: {} addresses, the limit is {LISTEN_MAX}; remove some", typed.len())));
    }
    let mut found: Vec<Address> = Vec::new();
    for text in typed {
        let address = parse_address(text, dir, lookup).map_err(|fault| said_of("--listen", fault))?;
        if let Some(why) = found.iter().find_map(|old| clash(old, &address, Apart::SamePool)) {
            return Err(UsageError(format!("--listen {text} clashes with an earlier --listen: {why}; remove one")));
        }
        found.push(address);
    }
    Ok(found)
}

fn within(flag: &str, number: u32, most: u32) -> Result<u32, UsageError> {
    if (1..=most).contains(&number) {
        Ok(number)
    } else {
        Err(UsageError(format!("{flag}: {number} is outside its limits; write a number from 1 to {most}")))
    }
}

fn first_pool_flag(flags: &Flags) -> &'static str {
    let Flags { listen, workers, concurrency, handoff, control: _, command: _ } = flags;
    if !listen.is_empty() {
        "--listen"
    } else if workers.is_some() {
        "--workers"
    } else if concurrency.is_some() {
        "--concurrency"
    } else if handoff.is_some() {
        "--handoff"
    } else {
        "the command behind --"
    }
}

fn said_of(flag: &str, fault: Fault) -> UsageError {
    UsageError(format!("{flag}: {}; {}", fault.message, fault.remedy))
}

/// Where the hello server listens that `ostler run` makes by itself.
const HELLO_ADDRESS: &str = "unix:ostler-hello.sock";
