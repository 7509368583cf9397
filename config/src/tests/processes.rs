//! What a process is given, and what an unprivileged supervisor may not give.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{ordinary, parse, parse_by, parse_in, root};
use crate::caller::{Caller, Right};
use crate::checked::{Account, Bound, Inherit, Limit, NewPrivileges, Process};

fn file(line: &str) -> String {
    format!("[pool.a]\nlisten = [\"unix:@a\"]\n{line}\n")
}

fn process(line: &str) -> Process {
    parse(&file(line)).unwrap_or_else(|mistakes| panic!("{mistakes}")).pools.remove(0).process
}

#[track_caller]
fn refused(caller: &Caller, line: &str, message: &str, remedy: &str) {
    let mistakes = parse_by(caller, &file(line), Path::new("/")).expect_err(line);
    let found = mistakes.list().iter().any(|said| said.message.contains(message) && said.remedy.contains(remedy));
    assert!(found && mistakes.list().len() == 1, "{line}\n{mistakes}");
}

fn accepted(caller: &Caller, line: &str) -> Process {
    let read = parse_by(caller, &file(line), Path::new("/"));
    read.unwrap_or_else(|mistakes| panic!("{mistakes}")).pools.remove(0).process
}

#[test]
fn nothing_said_is_everything_inherited() {
    assert_eq!(process(""), Process::inherited());
}

#[test]
fn a_user_brings_its_groups_and_no_way_back() {
    let root = process("process.user = \"root\"");
    assert_eq!(root.user.as_ref().map(Account::shown), Some("root".to_owned()));
    assert_eq!(root.group, Some(0));
    assert!(root.groups.unwrap().contains(&0));
    assert_eq!(root.new_privileges, NewPrivileges::Never);
}

#[test]
fn what_is_said_beside_a_user_counts_more() {
    let said = process("process = { user = 0, group = 7, groups = [9, \"root\", 9], no_new_privs = false }");
    assert_eq!((said.group, said.groups), (Some(7), Some(vec![0, 9])));
    assert_eq!(said.new_privileges, NewPrivileges::AsInherited);
    let number = process("process = { user = 54321, group = 54321 }");
    assert_eq!(number.user, Some(Account { uid: 54_321, entry: None }));
    assert_eq!(number.groups, Some(vec![54_321]));
}

#[test]
fn a_group_alone_leaves_the_user_and_the_other_groups() {
    let said = process("process.group = \"root\"");
    assert_eq!((said.user, said.group, said.groups), (None, Some(0), None));
    assert_eq!(said.new_privileges, NewPrivileges::AsInherited);
}

#[test]
fn limits_are_in_the_units_of_the_kernel() {
    let said = process(
        "process.limits = { as = \"2GiB\", core = 0, cpu = \"1m30s\", nproc = 100, stack = \"unlimited\", fsize = 4096 }",
    );
    let expected = [
        (Limit::AddressSpace, Bound::At(2 << 30)),
        (Limit::Core, Bound::At(0)),
        (Limit::Cpu, Bound::At(90)),
        (Limit::FileSize, Bound::At(4096)),
        (Limit::Processes, Bound::At(100)),
        (Limit::Stack, Bound::Unlimited),
    ];
    assert_eq!(said.limits, expected.into());
}

#[test]
fn the_other_settings_are_read() {
    let said =
        process("process = { umask = \"027\", nice = -5, env_keep = [\"PATH\", \"LANG\"], no_new_privs = true }");
    assert_eq!((said.umask, said.nice), (Some(0o027), Some(-5)));
    assert_eq!(said.env_keep, Inherit::Only(["LANG", "PATH"].map(str::to_owned).into()));
    assert_eq!(said.new_privileges, NewPrivileges::Never);
    assert_eq!(process("process.env_keep = []").env_keep, Inherit::Only([].into()));
}

#[test]
fn only_root_starts_workers_as_somebody_else() {
    for (line, what) in [
        ("process.user = \"root\"", "another user"),
        ("process.group = \"root\"", "another group"),
        ("process.groups = []", "choose the groups"),
    ] {
        refused(&ordinary(), line, what, "start ostler as root");
        refused(&ordinary(), line, "this is user 1", "remove it");
    }
    let cannot_kill = Caller { lacks: vec![Right::Kill], uid: 1, ..root() };
    refused(&cannot_kill, "process.user = \"root\"", "CAP_KILL", "start ostler as root");
}

#[test]
fn an_ordinary_user_may_say_who_it_is() {
    let said = accepted(&ordinary(), "process = { user = 1, group = 1 }");
    assert_eq!(said.user.map(|account| account.uid), Some(1));
    assert_eq!((said.group, said.groups), (Some(1), None), "its groups stay what they are");
}

#[test]
fn an_ordinary_user_stays_below_its_hard_limits_and_its_priority() {
    refused(&ordinary(), "process.nice = -1", "-1 is a higher priority", "write at least 0");
    refused(&ordinary(), "process.nofile = 4097", "above the hard limit of this process, 4096", "as root");
    refused(&ordinary(), "process.limits.core = 4097", "above the hard limit of this process, \"4KiB\"", "4KiB");
    refused(&ordinary(), "process.limits.core = \"unlimited\"", "CAP_SYS_RESOURCE", "as root");
    accepted(&ordinary(), "process = { nice = 0, nofile = 4096, limits = { core = \"4KiB\" } }");
    accepted(&root(), "process = { nice = -20, nofile = 65536, limits = { core = \"unlimited\" } }");
}

#[test]
fn a_directory_and_a_program_have_to_be_open_to_the_user() {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    open(dir.path(), 0o755);
    let (app, den) = (dir.path().join("app"), dir.path().join("den"));
    std::fs::write(&app, "").unwrap();
    std::fs::create_dir(&den).unwrap();
    let said = |line: &str| {
        let text = file(&format!("process = {{ user = 54321, group = 54321{line} }}\ncommand = [\"./app\"]"));
        parse_in(&text, dir.path()).map_err(|mistakes| mistakes.to_string())
    };
    open(&app, 0o700);
    let refusal = said("").unwrap_err();
    assert!(refusal.contains("closed to 54321") && refusal.contains("chmod o+x"), "{refusal}");
    open(&app, 0o755);
    said("").unwrap();
    open(&den, 0o700);
    let refusal = said(", cwd = \"den\"").unwrap_err();
    assert!(refusal.contains("process.cwd") && refusal.contains("cannot be entered"), "{refusal}");
    open(&den, 0o711);
    said(", cwd = \"den\"").unwrap();
}
