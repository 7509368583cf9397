//! What the command line means, with and without a file.

use std::path::{Path, PathBuf};

use super::parse;
use crate::checked::{Address, Program};
use crate::{Config, Flags, UsageError, from_flags, override_with};

fn listening(address: &str) -> Flags {
    Flags { listen: vec![address.to_owned()], ..Flags::default() }
}

fn alone(flags: &Flags) -> Result<Config, UsageError> {
    from_flags(flags, Path::new("/srv"))
}

fn over(file: &str, flags: &Flags) -> Result<Config, UsageError> {
    override_with(parse(file).unwrap(), flags, Path::new("/srv"))
}

#[test]
fn nothing_at_all_hosts_the_hello_server() {
    let config = alone(&Flags::default()).unwrap();
    let [pool] = config.pools.as_slice() else { panic!("one pool") };
    assert_eq!((pool.name.as_str(), pool.concurrency, &pool.program), ("hello", 64, &Program::Hello));
    let path = PathBuf::from("/srv/ostler-hello.sock");
    assert_eq!(pool.listen, [Address::UnixPath { path, shown: "ostler-hello.sock".to_owned() }]);
}

#[test]
fn flags_make_the_pool_main() {
    let config = alone(&Flags { workers: Some(3), ..listening("unix:@a") }).unwrap();
    let pool = &config.pools[0];
    assert_eq!((pool.name.as_str(), pool.workers.initial(), pool.concurrency), ("main", 3, 64));
    let config = alone(&Flags { command: vec!["sh".into(), "-c".into()], ..listening("unix:@a") }).unwrap();
    let pool = &config.pools[0];
    assert_eq!((pool.name.as_str(), pool.concurrency), ("main", 1));
    assert_eq!(pool.program, Program::Command(vec!["sh".into(), "-c".into()]));
}

fn unmodified(listen: &[&str]) -> Flags {
    let listen = listen.iter().map(|address| (*address).to_owned()).collect();
    Flags { listen, command: vec!["sh".into()], handoff: Some("accept".to_owned()), ..Flags::default() }
}

#[test]
fn an_unmodified_program_takes_more_connections_unless_somebody_says_how_many() {
    let asked = |flags: &Flags| alone(flags).unwrap().pools[0].concurrency;
    let flags = unmodified(&["tcp:127.0.0.1:80", "tcp:0.0.0.0:81"]);
    assert_eq!((asked(&flags), asked(&Flags { concurrency: Some(7), ..flags.clone() })), (256, 7));
    let pool = "[pool.web]\ncommand = [\"sh\"]\nlisten = [\"unix:@a\"]\nhandoff = \"accept\"\n";
    let over = |lines: &str| over(&format!("{pool}{lines}"), &Flags::default()).unwrap().pools[0].concurrency;
    assert_eq!((over(""), over("concurrency = 1")), (256, 1));
}

#[test]
fn a_template_of_the_file_goes_with_pass_alone() {
    let file = "[pool.web]\ncommand = [\"sh\"]\nlisten = [\"unix:@a\"]\nreload.template = true\n";
    assert!(over(file, &Flags::default()).is_ok());
    for handoff in ["accept", "listen", "stdio"] {
        let flags = Flags { handoff: Some(handoff.to_owned()), ..Flags::default() };
        let error = over(file, &flags).unwrap_err().to_string();
        assert!(error.contains("--handoff: reload.template of the file: a program that"), "{error}");
    }
}

#[test]
fn a_command_is_started_once_or_for_each_connection_as_the_handoff_says() {
    let stdio = |command: &[&str]| {
        let command = command.iter().map(Into::into).collect();
        Flags { command, handoff: Some("stdio".to_owned()), ..listening("unix:@a") }
    };
    let pool = &alone(&stdio(&["cat"])).unwrap().pools[0];
    assert_eq!((&pool.program, pool.concurrency), (&Program::Pipeline(vec![vec!["cat".into()]]), 1));
    assert!(alone(&stdio(&[])).unwrap_err().to_string().contains("add a command"));
    let pass = Flags { handoff: Some("pass".to_owned()), ..Flags::default() };
    let file = |command: &str| format!("[pool.a]\nlisten = [\"unix:a\"]\nhandoff = \"stdio\"\ncommand = {command}\n");
    let pool = &over(&file("[\"cat\"]"), &pass).unwrap().pools[0];
    assert_eq!(pool.program, Program::Command(vec!["cat".into()]));
    let error = over(&file("[[\"cat\"], [\"cat\"]]"), &pass).unwrap_err();
    assert!(error.to_string().contains("a list of commands is a pipeline"), "{error}");
    let many = Flags { concurrency: Some(100), ..Flags::default() };
    let error = over(&format!("{}process.nofile = 100\n", file("[\"cat\"]")), &many).unwrap_err();
    assert!(error.to_string().contains("too few"), "{error}");
}

#[test]
fn only_pool_flags_touch_a_pool() {
    assert!(!Flags { control: Some("/run/c.sock".into()), ..Flags::default() }.touches_pool());
    assert!(Flags { concurrency: Some(1), ..Flags::default() }.touches_pool());
    assert!(listening("unix:@a").touches_pool());
}

#[test]
fn a_wrong_flag_is_named_with_its_remedy_in_one_line() {
    for (flags, parts) in [
        (Flags { command: vec!["sh".into()], ..Flags::default() }, ["nowhere", "add --listen"]),
        (listening("8080"), ["--listen", "tcp:HOST:PORT"]),
        (listening("fd:"), ["--listen", "fd:web"]),
        (Flags { workers: Some(0), ..Flags::default() }, ["--workers", "1 to 4096"]),
        (Flags { concurrency: Some(99_999), ..Flags::default() }, ["--concurrency", "1 to 65536"]),
        (Flags { handoff: Some("message".to_owned()), ..Flags::default() }, ["--handoff", "not yet supported"]),
        (Flags { handoff: Some("accept".to_owned()), ..Flags::default() }, ["--handoff", "add a command"]),
        (unmodified(&["unix:@a", "tcp:127.0.0.1:80"]), ["--handoff", "a pool of its own for each address family"]),
        (Flags { handoff: Some("push".to_owned()), ..Flags::default() }, ["--handoff", "pass"]),
        (Flags { control: Some("/".into()), ..Flags::default() }, ["--control", "directory"]),
        (Flags { control: Some("ostler-hello.sock".into()), ..Flags::default() }, ["--control", "another path"]),
        (Flags { command: vec!["".into()], ..listening("unix:@a") }, ["behind --", "PROGRAM"]),
        (Flags { listen: vec!["unix:@a".to_owned(); 2], ..Flags::default() }, ["--listen", "remove one"]),
        (Flags { listen: vec!["unix:@a".to_owned(); 33], ..Flags::default() }, ["--listen", "limit is 32"]),
    ] {
        let error = alone(&flags).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn pool_flags_override_a_file_of_one_pool() {
    let file = "[pool.web]\nlisten = [\"unix:@a\"]\nworkers = 5\nconcurrency = 3";
    let config = over(file, &Flags { workers: Some(8), ..listening("unix:@b") }).unwrap();
    let pool = &config.pools[0];
    assert_eq!((pool.name.as_str(), pool.workers.initial(), pool.concurrency), ("web", 8, 3));
    assert_eq!(pool.listen, [Address::UnixAbstract("b".to_owned())]);
}

#[test]
fn pool_flags_cannot_choose_among_pools_but_control_overrides_any_file() {
    let file = "[pool.a]\nlisten = [\"unix:@a\"]\n[pool.b]\nlisten = [\"unix:@b\"]";
    let error = over(file, &Flags { workers: Some(8), ..Flags::default() }).unwrap_err().to_string();
    assert!(error.contains("--workers") && error.contains("a, b"), "{error}");
    let config = over(file, &Flags { control: Some("c.sock".into()), ..Flags::default() }).unwrap();
    assert_eq!(config.supervisor.control, Some("/srv/c.sock".into()));
}

#[test]
fn a_flag_must_fit_the_rest_of_the_file() {
    let file = "supervisor.control = \"/srv/c.sock\"\n[pool.a]\nlisten = [\"unix:/srv/a\"]\nsocket.mode = \"0660\"\nprocess.nofile = 20";
    for (flags, parts) in [
        (listening("unix:@b"), ["--listen", "unix:PATH"]),
        (listening("unix:c.sock"), ["--listen", "control socket"]),
        (Flags { concurrency: Some(13), ..Flags::default() }, ["--concurrency", "nofile"]),
        (Flags { control: Some("a".into()), ..Flags::default() }, ["--control", "unix:/srv/a"]),
    ] {
        let error = over(file, &flags).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn a_share_per_user_needs_a_listener_whose_clients_have_one() {
    let file = "[pool.a]\nlisten = [\"unix:@a\"]\nqueue.per_uid = 9";
    let error = over(file, &listening("tcp:127.0.0.1:1")).unwrap_err().to_string();
    assert!(error.contains("--listen") && error.contains("queue.per_uid"), "{error}");
    assert!(over(file, &listening("unix:@b")).is_ok());
}
