//! Finds the program that a command names, when the configuration is read and at each spawn.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use crate::access::Visitor;
use crate::checked::Process;
use crate::mistakes::Fault;

/// Where the program of a command is: itself when it has a slash, else the first hit in `PATH`.
///
/// Executable means: by the user that workers run as.
///
/// `PATH` is the one of `process.env` if it says one, else the supervisor's. Entries of it that are not
/// absolute are skipped: what they mean would change with `process.cwd`.
#[must_use]
pub fn find_program(program: &OsStr, process: &Process) -> Option<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        let path = PathBuf::from(program);
        return is_executable(&path, process).then_some(path);
    }
    let search = match process.env.get("PATH") {
        Some(own) => OsString::from(own),
        None => std::env::var_os("PATH")?,
    };
    std::env::split_paths(&search)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(program))
        .find(|path| is_executable(path, process))
}

/// Makes a program with a slash absolute, relative to `dir`.
pub(crate) fn absolute_program(program: &OsStr, dir: &Path) -> OsString {
    if program.as_bytes().contains(&b'/') {
        // Not by components: `./app` becomes `dir/app`, but `..` may lead through a link and stays.
        dir.join(program).components().collect::<PathBuf>().into_os_string()
    } else {
        program.to_owned()
    }
}

/// Why a command cannot be run, if it cannot; its program was made absolute.
pub(crate) fn cannot_run(command: &[OsString], process: &Process) -> Option<Fault> {
    let program = command.first()?;
    if find_program(program, process).is_some() {
        return None;
    }
    let path = Path::new(program);
    let name = path.display();
    Some(if !program.as_bytes().contains(&b'/') {
        let remedy = format!("install it, or write its path: \"./{name}\"");
        Fault::new(format!("there is no program {name:?} in PATH"), "not found in PATH", remedy)
    } else if path.is_dir() {
        Fault::new(format!("{name} is a directory"), "a directory", "name the program in it")
    } else if let Some(barrier) = barrier(path, process) {
        closed(format!("{name} cannot be executed"), &barrier, process)
    } else if path.exists() {
        let remedy = format!("make it executable: chmod +x {name}");
        Fault::new(format!("{name} is not executable"), "not executable", remedy)
    } else {
        let remedy = "check the path; a relative one is relative to the directory of the file";
        Fault::new(format!("there is no program {name}"), "not found", remedy)
    })
}

/// Why a worker could not enter its directory, if it could not.
pub(crate) fn cannot_enter(directory: &Path, process: &Process) -> Option<Fault> {
    let barrier = barrier(directory, process)?;
    Some(closed(format!("{} cannot be entered", directory.display()), &barrier, process))
}

/// Why `what`, which is this very program, cannot be run. The directories above it don't matter: it is executed through
/// /proc/self/exe, which leads straight to the file.
pub(crate) fn cannot_run_own(what: &str, process: &Process) -> Option<Fault> {
    let own = std::fs::canonicalize("/proc/self/exe").ok()?;
    let visitor = Visitor::of(process)?;
    (!visitor.may_pass(&own)).then(|| closed(format!("{what} cannot be executed"), &own, process))
}

fn barrier(path: &Path, process: &Process) -> Option<PathBuf> {
    Visitor::of(process)?.barrier(path)
}

fn closed(what: String, barrier: &Path, process: &Process) -> Fault {
    let (who, barrier) = (process.shown_user(), barrier.display());
    let remedy = format!("open it: chmod o+x {barrier}, or give it to a group of that user; or choose another place");
    Fault::new(format!("{what} by user {who}: {barrier} is closed to it"), format!("closed to {who}"), remedy)
}

fn is_executable(path: &Path, process: &Process) -> bool {
    path.is_file()
        && match Visitor::of(process) {
            Some(visitor) => visitor.barrier(path).is_none(),
            None => access(path, AccessFlags::X_OK).is_ok(),
        }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::checked::Account;

    fn process(path: Option<&str>) -> Process {
        let env = path.map(|path| ("PATH".to_owned(), path.to_owned())).into_iter().collect();
        Process { env, ..Process::inherited() }
    }

    #[test]
    fn a_program_with_a_slash_is_itself() {
        assert_eq!(find_program(OsStr::new("/bin/sh"), &process(None)), Some("/bin/sh".into()));
        assert_eq!(find_program(OsStr::new("/bin/no-such-program"), &process(None)), None);
        assert_eq!(find_program(OsStr::new("/bin"), &process(None)), None);
    }

    #[test]
    fn the_path_of_the_pool_comes_before_that_of_the_supervisor() {
        assert!(find_program(OsStr::new("sh"), &process(None)).is_some());
        assert_eq!(find_program(OsStr::new("sh"), &process(Some("/nowhere"))), None);
        assert_eq!(find_program(OsStr::new("sh"), &process(Some("/nowhere:/bin"))), Some("/bin/sh".into()));
    }

    #[test]
    fn relative_entries_of_path_do_not_count() {
        let here = std::env::current_dir().unwrap();
        let up = "../".repeat(here.components().count()) + "bin";
        assert_eq!(find_program(OsStr::new("sh"), &process(Some(&up))), None);
    }

    #[test]
    fn each_way_of_not_running_has_its_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        let remedy = |program: &OsStr| cannot_run(&[program.to_owned()], &process(None)).unwrap().remedy;
        assert!(remedy(OsStr::new("no-such-program")).contains("install"));
        assert!(remedy(dir.path().as_os_str()).contains("name the program"));
        assert!(remedy(plain.as_os_str()).contains("chmod +x"));
        assert!(remedy(dir.path().join("absent").as_os_str()).contains("check the path"));
        assert_eq!(cannot_run(&["sh".into()], &process(None)), None);
    }

    /// Who is neither the owner of anything here nor in a group.
    fn stranger() -> Process {
        let account = Account { uid: 54_321, entry: None };
        Process { user: Some(account), group: Some(54_321), groups: Some(Vec::new()), ..Process::inherited() }
    }

    #[test]
    fn a_program_that_only_we_may_execute_is_not_found_for_a_stranger() {
        let dir = tempfile::tempdir().unwrap();
        let open = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        open(dir.path(), 0o755);
        let app = dir.path().join("app");
        std::fs::write(&app, "").unwrap();
        open(&app, 0o700);
        assert_eq!(find_program(app.as_os_str(), &process(None)), Some(app.clone()));
        assert_eq!(find_program(app.as_os_str(), &stranger()), None);
        let fault = cannot_run(&[app.clone().into()], &stranger()).unwrap();
        assert!(fault.message.contains("by user 54321") && fault.remedy.contains("chmod o+x"), "{fault:?}");
        open(&app, 0o711);
        assert_eq!(find_program(app.as_os_str(), &stranger()), Some(app.clone()));
        open(dir.path(), 0o700);
        let fault = cannot_run(&[app.into()], &stranger()).unwrap();
        assert!(fault.remedy.contains(&format!("chmod o+x {}", dir.path().display())), "{fault:?}");
    }

    #[test]
    fn a_directory_that_a_stranger_may_not_enter_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(cannot_enter(dir.path(), &process(None)), None, "the supervisor's own rights show at the start");
        assert!(cannot_enter(dir.path(), &stranger()).unwrap().message.contains("is closed to it"));
        assert_eq!(cannot_enter(Path::new("/"), &stranger()), None);
    }
}
