//! Words why a child could not become a worker, or a hook: the key that asked for it, what the system said, and what to do.

use std::io;

use nix::errno::Errno;
use ostler_config::checked::{Process, Program};

use super::child::Stage;
use super::listeners::errno_of;

/// Words for a child's failure report, as they follow its name.
pub(crate) fn words(process: &Process, program: &Program, stage: Stage, error: &io::Error) -> String {
    let user = process.shown_user();
    match stage {
        Stage::Limit(place) => format!("cannot set its {}: {error}{}", limit(process, place), raise_hint(error)),
        Stage::Nice => {
            let nice = process.nice.unwrap_or_default();
            format!("cannot set its process.nice {nice}: {error} (only root may raise a priority)")
        }
        Stage::Groups => {
            let groups = process.groups.as_deref().unwrap_or_default();
            format!("cannot take its process.groups {groups:?}: {error}{}", identity_hint(error))
        }
        Stage::Group => {
            let group = process.group.unwrap_or_default();
            format!("cannot take its process.group {group}: {error}{}", identity_hint(error))
        }
        Stage::User => format!("cannot become its process.user {user}: {error}{}", identity_hint(error)),
        Stage::Capabilities => {
            format!("cannot give up its capabilities as process.user {user}: {error}{}", identity_hint(error))
        }
        Stage::Regained => format!(
            "could have become root again as process.user {user}, and was not executed (something here keeps privileges \
             across a change of user: remove process.user, and start ostler as that user)"
        ),
        Stage::NewPrivileges => format!("cannot set its process.no_new_privs: {error} (Linux has it since 3.5)"),
        Stage::Directory => {
            let dir = process.cwd.as_ref().map_or_else(String::new, |dir| dir.display().to_string());
            format!("cannot change to its directory {dir}: {error}{}", directory_hint(process, error))
        }
        Stage::Descriptors => format!("cannot lay out its descriptors: {error} (raise process.nofile)"),
        Stage::Exec => {
            format!("cannot execute {}: {error}{}", shown_program(program), exec_hint(process, program, error))
        }
    }
}

/// Words for the report of a child that inherits all it has from us, and only had to be executed.
pub(crate) fn not_executed(process: &Process, program: &str, stage: Stage, error: &io::Error) -> String {
    words(process, &Program::Command(vec![program.into()]), stage, error)
}

/// The limit at a place of what the child was given: descriptors first.
fn limit(process: &Process, place: u8) -> String {
    let other = usize::from(place).checked_sub(1).and_then(|place| process.limits.iter().nth(place));
    match (other, process.nofile) {
        (Some((limit, _)), _) => format!("process.limits.{}", limit.name()),
        (None, Some(nofile)) => format!("process.nofile {nofile}"),
        (None, None) => "process.nofile to what ostler was started with".to_owned(),
    }
}

fn raise_hint(error: &io::Error) -> &'static str {
    match errno_of(error) {
        Errno::EPERM => " (lower it, or start ostler with a higher limit or as root; nofile: see also fs.nr_open)",
        _ => "",
    }
}

fn identity_hint(error: &io::Error) -> &'static str {
    match errno_of(error) {
        Errno::EPERM => " (only root may, and not where a container or user namespace forbids it)",
        Errno::EINVAL => " (this user namespace does not have that number: see /proc/self/uid_map and gid_map)",
        Errno::EAGAIN => " (that user has as many processes as it may have: raise `ulimit -u`, process.limits.nproc)",
        _ => "",
    }
}

fn directory_hint(process: &Process, error: &io::Error) -> String {
    match (errno_of(error), &process.user) {
        (Errno::EACCES, Some(account)) => {
            format!(" (user {} has to be able to enter it and every directory above it: chmod o+x)", account.shown())
        }
        (_, _) => String::new(),
    }
}

/// execve(2) says "no such file" of a script's interpreter and of a binary's loader as well.
fn exec_hint(process: &Process, program: &Program, error: &io::Error) -> String {
    match (errno_of(error), program) {
        (Errno::ENOENT, Program::Command(words)) => match ostler_config::find_program(&words[0], process) {
            Some(_) => " (it is there: its interpreter, named in its first line, is not)",
            None => " (check the path)",
        }
        .to_owned(),
        (Errno::EACCES, program) => access_hint(program, process),
        (Errno::EAGAIN, _) => {
            format!(
                " (user {} has as many processes as it may have: raise `ulimit -u`, process.limits.nproc)",
                process.shown_user()
            )
        }
        (_, _) => String::new(),
    }
}

fn access_hint(program: &Program, process: &Process) -> String {
    match (program, &process.user) {
        (Program::Command(_), None) => " (make it executable: chmod +x)".to_owned(),
        (Program::Command(_), Some(account)) => {
            format!(" (user {} has to be able to execute it and to enter the directories above it)", account.shown())
        }
        // By way of /proc/self/exe the directories above it don't matter.
        (Program::Hello | Program::Admin | Program::Pipeline(_), _) => {
            let own = std::env::current_exe().map_or_else(|_| "its file".to_owned(), |path| path.display().to_string());
            format!(" (user {} has to be able to execute {own}: chmod o+x)", process.shown_user())
        }
    }
}

fn shown_program(program: &Program) -> String {
    match program {
        Program::Hello => "the built-in hello server".to_owned(),
        Program::Admin => "the built-in admin server".to_owned(),
        Program::Command(words) => words[0].display().to_string(),
        Program::Pipeline(_) => "ostler itself, which starts the commands".to_owned(),
    }
}
