//! Checks the process: `command` and `process = { … }`.

use std::ffi::OsString;
use std::path::PathBuf;

use super::Site;
use super::environment::{env, env_keep};
use super::identity::{Identity, identity};
use super::rlimits::{limits, nice_within_reach, within_reach};
use crate::asked::{Asked, Typed};
use crate::checked::{Handoff, NewPrivileges, Process, Program};
use crate::combine;
use crate::limits::{
    COMMAND_WORDS_MAX, MODE_MAX, NICE_MAX, NICE_MIN, NOFILE_MAX, NOFILE_MIN, STAGES_MAX, WORD_BYTES_MAX,
};
use crate::load::Programs;
use crate::mistakes::{Fault, Mistake};
use crate::program::{self, absolute_program, cannot_run};
use crate::raw::RawTable;
use crate::value::YesOrNo;

pub(super) fn program(
    table: &RawTable<'_>,
    handoff: Handoff,
    process: &Process,
    site: &Site<'_>,
    mistakes: &mut Vec<Mistake>,
) -> Program {
    const WITHOUT: &str = "host the built-in hello server";
    if table.is_list_of_lists("command") {
        if let Some(fault) = combine::joined_by(handoff) {
            mistakes.extend(table.refuse("command", fault));
            return Program::Hello;
        }
        return pipeline(table, process, site, mistakes).map_or(Program::Hello, Program::Pipeline);
    }
    let Some(command) = command(table, "command", WITHOUT, process, site, mistakes) else { return Program::Hello };
    match handoff {
        Handoff::Pass | Handoff::Accept | Handoff::Listen => Program::Command(command),
        Handoff::Stdio => Program::Pipeline(vec![command]),
    }
}

/// A list of commands.
fn pipeline(
    table: &RawTable<'_>,
    process: &Process,
    site: &Site<'_>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Vec<Vec<OsString>>> {
    let Asked::For(lists) = table.lists_of_texts("command", mistakes) else { return None };
    let count = lists.value.len();
    if count > STAGES_MAX {
        let message = format!("{count} commands, the limit is {STAGES_MAX}");
        let remedy = "let one of them be a script that joins some";
        mistakes.push(lists.refuse(Fault::new(message, "too many commands", remedy)));
        return None;
    }
    let stages = lists.value.iter().map(|list| words(list, "leave this command out", process, site, mistakes));
    let stages: Vec<_> = stages.collect();
    stages.into_iter().collect()
}

/// A program and its arguments; `None` when nobody says it, or it is wrong. `without` is what happens without the key.
pub(super) fn command(
    table: &RawTable<'_>,
    name: &str,
    without: &str,
    process: &Process,
    site: &Site<'_>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Vec<OsString>> {
    let Asked::For(list) = table.texts(name, mistakes) else { return None };
    words(&list, &format!("remove the key to {without}"), process, site, mistakes)
}

/// The words of a command; `instead` is what else the user may have meant by none.
fn words(
    list: &Typed<Vec<Typed<&str>>>,
    instead: &str,
    process: &Process,
    site: &Site<'_>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Vec<OsString>> {
    let count = list.value.len();
    if count == 0 || count > COMMAND_WORDS_MAX {
        let message = format!("{count} words, the limits are 1 and {COMMAND_WORDS_MAX}");
        let remedy = format!("write [\"PROGRAM\", \"ARGUMENT\", …], or {instead}");
        mistakes.push(list.refuse(Fault::new(message, "wrong number of words", remedy)));
        return None;
    }
    let mut command: Vec<OsString> = Vec::new();
    for word in &list.value {
        match fit_for_exec(word.value) {
            Ok(()) => command.push(word.value.into()),
            Err(fault) => mistakes.push(word.refuse(fault)),
        }
    }
    if command.len() == count {
        command[0] = absolute_program(&command[0], site.dir);
        let first = &list.value[0];
        if first.value.is_empty() {
            let remedy = "write the name of a program";
            mistakes.push(first.refuse(Fault::new("the program has no name", "empty", remedy)));
        } else if site.programs == Programs::MustExist
            && let Some(fault) = cannot_run(&command, process)
        {
            mistakes.push(first.refuse(fault));
        }
    }
    Some(command)
}

/// Where ostler's own file is executed, the user that workers run as has to be able to.
pub(super) fn own_may_run(
    what: &str,
    table: &RawTable<'_>,
    process: &Process,
    site: &Site<'_>,
    mistakes: &mut Vec<Mistake>,
) {
    if site.programs == Programs::MustExist
        && let Some(fault) = program::cannot_run_own(what, process)
    {
        mistakes.extend(table.refuse("user", fault));
    }
}

pub(super) fn process(
    table: &RawTable<'_>,
    concurrency: Option<u32>,
    site: &Site<'_>,
    mistakes: &mut Vec<Mistake>,
) -> Process {
    let Identity { user, group, groups } = identity(table, site, mistakes);
    let mut process = Process { user, group, groups, ..Process::inherited() };
    process.new_privileges = new_privileges(table, &process, mistakes);
    process.cwd = table
        .text("cwd", mistakes)
        .understand(mistakes, |typed| directory(typed, site))
        .understand(mistakes, |full| program::cannot_enter(&full, &process).map_or(Ok(full), Err))
        .value();
    process.umask = table.text("umask", mistakes).understand(mistakes, umask_bits).value();
    process.env = env(table, mistakes);
    process.env_keep = env_keep(table, mistakes);
    process.nofile = nofile(table, concurrency, site, mistakes);
    process.limits = limits(table, site, mistakes);
    process.nice = table
        .signed("nice", NICE_MIN..=NICE_MAX, mistakes)
        .understand(mistakes, |nice| nice_within_reach(nice, site.caller).map_or(Ok(nice), Err))
        .value();
    process
}

fn nofile(table: &RawTable<'_>, concurrency: Option<u32>, site: &Site<'_>, mistakes: &mut Vec<Mistake>) -> Option<u64> {
    let nofile = table.whole("nofile", NOFILE_MIN..=NOFILE_MAX, mistakes);
    if let (Some(typed), Some(concurrency)) = (nofile.typed(), concurrency)
        && let Some(fault) = combine::descriptors_suffice(u64::from(typed.value), concurrency)
    {
        mistakes.push(typed.refuse(fault));
    }
    nofile
        .understand(mistakes, |most| within_reach(None, u64::from(most), site.caller).map_or(Ok(u64::from(most)), Err))
        .value()
}

/// Whoever gives up root mostly means that nobody shall get it back.
fn new_privileges(table: &RawTable<'_>, process: &Process, mistakes: &mut Vec<Mistake>) -> NewPrivileges {
    match table.yes_or_no("no_new_privs", mistakes).value() {
        Some(YesOrNo::Yes) => NewPrivileges::Never,
        Some(YesOrNo::No) => NewPrivileges::AsInherited,
        None if process.user.is_some() => NewPrivileges::Never,
        None => NewPrivileges::AsInherited,
    }
}

fn umask_bits(typed: &str) -> Result<u32, Fault> {
    octal(typed).ok_or_else(|| {
        let remedy =
            "write in octal what others shall not get: \"027\" keeps writing from the group and all from others";
        Fault::new(format!("{typed:?} is not from \"000\" to \"777\""), "expected octal digits", remedy)
    })
}

/// Permission bits as people write them.
pub(super) fn octal(typed: &str) -> Option<u32> {
    let digits = !typed.is_empty() && typed.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let bits = if digits { u32::from_str_radix(typed, 8).ok() } else { None };
    bits.filter(|&bits| bits <= MODE_MAX)
}

fn directory(typed: &str, site: &Site<'_>) -> Result<PathBuf, Fault> {
    if typed.is_empty() || typed.contains('\0') {
        return Err(Fault::new(format!("{typed:?} is not a path"), "expected a path", "write a path, such as \".\""));
    }
    let full: PathBuf = site.dir.join(typed).components().collect();
    if full.is_dir() {
        Ok(full)
    } else if full.exists() {
        Err(Fault::new(format!("{} is not a directory", full.display()), "not a directory", "name a directory"))
    } else {
        let remedy = format!("create it (mkdir -p {}), or remove the key", full.display());
        Err(Fault::new(format!("there is no directory {}", full.display()), "not found", remedy))
    }
}

pub(super) fn fit_for_exec(word: &str) -> Result<(), Fault> {
    let bytes = word.len();
    if word.contains('\0') {
        return Err(Fault::new("it contains NUL, which no process can be given", "contains NUL", "remove the \\u0000"));
    }
    if bytes > WORD_BYTES_MAX {
        let message = format!("it has {bytes} bytes, the kernel takes at most {WORD_BYTES_MAX}");
        return Err(Fault::new(message, "too long", "put it into a file and name that"));
    }
    Ok(())
}
