//! Is a worker the user, and in the place and the bounds, that its pool says; and is what can't be refused in time?
//!
//! Only root can start workers as somebody else. Run by an ordinary user, the tests about that hold ostler to its refusal
//! instead, which is the other half of the fact.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::{User, geteuid};
use ostler_tests::deadline::{SOON, wait_until};
use ostler_tests::http::{Connection, Keep, get_once};
use ostler_tests::procs::{self, MARK};
use ostler_tests::{Builder, Ostler, Scratch, bounded, place, programs};

const PATIENCE: Duration = Duration::from_secs(20);

/// The other user. Every system has it.
fn nobody() -> User {
    User::from_name("nobody").expect("a user database").expect("nobody")
}

/// A pool of the hello server with this in `process`.
fn config(process: &str) -> String {
    format!(
        r#"
        [pool.web]
        listen = ["unix:web.sock"]
        workers = 2
        start = {{ ready_timeout = "5s", failures = 2, backoff = ["10ms", "50ms"] }}
        drain = {{ timeout = "5s", kill_after = "500ms" }}
        process = {{ {process} }}
        "#
    )
}

/// Starts a supervisor whose workers are somebody else. `None` for who may not: that it is refused has been seen then.
fn start_as_root(builder: Builder, config: &str) -> Option<Ostler> {
    if geteuid().is_root() {
        return Some(builder.config(config).start());
    }
    let ended = builder.config(config).start_failing();
    assert_eq!(ended.code, 2, "{}", ended.log);
    assert!(ended.log.contains("only root may"), "{}", ended.log);
    None
}

/// A copy of a program of ours that everybody can reach, whatever the directory that it was built in.
fn copied(scratch: &Scratch, program: &Path, name: &str, mode: u32) -> PathBuf {
    let copy = scratch.path(name);
    fs::copy(program, &copy).expect("room for a copy");
    set_mode(&copy, mode);
    copy
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
}

/// Lets the harness start this copy of ostler, by these words in front of it.
fn started_by(builder: Builder, words: &str, ostler: &Path) -> Builder {
    builder.prologue(&format!(r#"shift; set -- {words} '{}' "$@";"#, ostler.display()))
}

#[test]
fn a_worker_runs_as_its_user_and_is_served_logged_and_counted_all_the_same() {
    let scratch = Scratch::new();
    let app = copied(&scratch, Path::new(&programs::slow_start(0)[0]), "app", 0o755);
    let script = format!("echo I am $(id -u) > /dev/stderr; exec {} 0", app.display());
    let command = programs::toml(&["/bin/sh".to_owned(), "-c".to_owned(), script]);
    let pool =
        config("user = \"nobody\", groups = [1, 7]").replace("workers", &format!("command = {command}\nworkers"));
    let Some(mut ostler) = start_as_root(Builder::new(&scratch), &pool) else { return };
    let nobody = nobody();
    let (uid, gid) = (nobody.uid.as_raw(), nobody.gid.as_raw());
    for pid in ostler.status().only().pids() {
        assert_eq!(procs::status_field(pid, "Uid"), [uid; 4].map(|id| id.to_string()).join("\t"));
        assert_eq!(procs::status_field(pid, "Gid"), [gid; 4].map(|id| id.to_string()).join("\t"));
        assert_eq!(procs::status_field(pid, "Groups").trim(), "1 7");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(procs::status_field(pid, set), "0000000000000000", "{set}");
        }
        assert_eq!(procs::status_field(pid, "NoNewPrivs"), "1", "the default with a user");
        let env = procs::environment(pid);
        assert_eq!(env.get("USER").map(String::as_str), Some("nobody"));
        assert_eq!(env.get("LOGNAME").map(String::as_str), Some("nobody"));
        assert_eq!(env.get("HOME").map(String::as_str), nobody.dir.to_str());
    }
    ostler.wait_log(&[&format!("I am {uid}"), "web/0.1"]);
    for _ in 0..8 {
        get_once(&ostler.unix("web.sock"), "/", PATIENCE).expect("served");
    }
    ostler.wait_status("its completions arrive through shared memory", |status| {
        (status.only().done == 8 && status.only().is_idle()).then_some(())
    });
    assert_eq!(ostler.command(&["reload"]).code, 0);
    ostler.stop_clean();
}

#[test]
fn a_user_brings_the_groups_that_the_databases_list() {
    let scratch = Scratch::new();
    let Some(mut ostler) = start_as_root(Builder::new(&scratch), &config("user = \"nobody\", group = 7")) else {
        return;
    };
    let pid = ostler.status().only().pids()[0];
    assert_eq!(procs::status_field(pid, "Gid"), ["7"; 4].join("\t"));
    let groups = procs::status_field(pid, "Groups");
    assert!(
        groups.split_whitespace().any(|group| group == "7") && !groups.split_whitespace().any(|group| group == "0")
    );
    ostler.stop_clean();
}

#[test]
fn a_worker_has_the_bounds_of_its_pool_whoever_starts_it() {
    let bounds = "umask = \"027\", nice = 7, no_new_privs = true, nofile = 64, limits = { core = 0, cpu = \"1h\", stack = \"4MiB\" }";
    let mut ostler = Ostler::builder().config(config(bounds)).start();
    for pid in ostler.status().only().pids() {
        assert_eq!(procs::status_field(pid, "Umask"), "0027");
        assert_eq!(procs::status_field(pid, "NoNewPrivs"), "1");
        assert_eq!(procs::niceness(pid), Some(7));
        for (name, value) in [
            ("Max core file size", "0"),
            ("Max cpu time", "3600"),
            ("Max stack size", "4194304"),
            ("Max open files", "64"),
        ] {
            assert_eq!(procs::limit(pid, name), [value, value], "{name}");
        }
    }
    assert_eq!(procs::niceness(ostler.pid()), Some(0), "the supervisor keeps its own");
    get_once(&ostler.unix("web.sock"), "/", PATIENCE).expect("served");
    ostler.stop_clean();
}

#[test]
fn what_is_not_said_is_as_the_supervisor_has_it() {
    let mut ostler = Ostler::builder().config(config("")).start();
    let (own, pid) = (ostler.pid(), ostler.status().only().pids()[0]);
    for field in ["Uid", "Gid", "Groups", "Umask", "NoNewPrivs", "CapEff"] {
        assert_eq!(procs::status_field(pid, field), procs::status_field(own, field), "{field}");
    }
    assert_eq!(procs::niceness(pid), procs::niceness(own));
    ostler.stop_clean();
}

#[test]
fn a_worker_inherits_the_variables_that_are_kept_and_no_others() {
    let kept = format!("env_keep = [\"KEPT\", \"{MARK}\"], env = {{ SET = \"1\" }}");
    let builder = Ostler::builder().env("KEPT", "yes").env("DROPPED", "yes");
    let mut ostler = builder.config(config(&kept)).start();
    let env = procs::environment(ostler.status().only().pids()[0]);
    let names: Vec<&str> = env.keys().map(String::as_str).filter(|name| !name.starts_with("OSTLER_")).collect();
    assert_eq!(names, ["KEPT", "SET", MARK]);
    ostler.stop_clean();
}

#[test]
fn the_built_in_server_runs_from_a_directory_that_its_user_cannot_enter() {
    let scratch = Scratch::new();
    let den = scratch.path("den");
    fs::create_dir(&den).expect("ours");
    set_mode(&den, 0o700);
    let own = copied(&scratch, &place::ostler(), "den/ostler", 0o755);
    let builder = started_by(Builder::new(&scratch), "", &own);
    let Some(mut ostler) = start_as_root(builder, &config("user = \"nobody\"")) else { return };
    get_once(&ostler.unix("web.sock"), "/", PATIENCE).expect("served");
    ostler.stop_clean();
}

#[test]
fn a_program_that_its_user_cannot_execute_is_told_with_the_remedy() {
    if !geteuid().is_root() {
        return an_ordinary_user_is_told_who_may_start_workers_as_somebody_else();
    }
    let scratch = Scratch::new();
    let own = copied(&scratch, &place::ostler(), "closed", 0o700);
    let ended = started_by(Builder::new(&scratch), "", &own).config(config("user = \"nobody\"")).start_failing();
    assert_eq!(ended.code, 1, "{}", ended.log);
    assert!(ended.log.contains("cannot execute the built-in hello server: Permission denied"), "{}", ended.log);
    assert!(
        ended.log.contains(&format!("nobody has to be able to execute {}: chmod o+x", own.display())),
        "{}",
        ended.log
    );

    // Where the file is read, `check` knows it beforehand.
    scratch.write("closed.toml", &config("user = \"nobody\""));
    let output = bounded::run(Command::new(&own).args(["check", "-c", "closed.toml"]).current_dir(scratch.dir()), SOON);
    assert_eq!(output.code, 2, "{output:?}");
    assert!(output.stderr.contains("closed to nobody") && output.stderr.contains("chmod o+x"), "{output:?}");
}

#[test]
fn an_ordinary_user_is_told_who_may_start_workers_as_somebody_else() {
    let scratch = Scratch::new();
    let own = copied(&scratch, &place::ostler(), "ostler", 0o755);
    let check = |process: &str| {
        scratch.write("ostler.toml", &config(process));
        let mut command = Command::new(&own);
        command.arg("check").current_dir(scratch.dir());
        if geteuid().is_root() {
            let nobody = nobody();
            command.uid(nobody.uid.as_raw()).gid(nobody.gid.as_raw());
        }
        bounded::run(&mut command, SOON)
    };
    for (process, why) in [
        ("user = \"root\"", "only root may start workers as another user"),
        ("group = \"root\"", "only root may start workers in another group"),
        ("groups = [0]", "only root may choose the groups of workers"),
        ("nice = -5", "a higher priority than this process may give"),
        ("limits = { memlock = \"unlimited\" }", "above the hard limit of this process"),
    ] {
        let output = check(process);
        if process.starts_with("limits") && output.code == 0 {
            // This machine lets everybody lock all memory; then there is nothing above the limit.
            assert!(procs::limit(std::process::id().cast_signed(), "Max locked memory")[1] == "unlimited");
            continue;
        }
        assert_eq!(output.code, 2, "{process}: {output:?}");
        assert!(output.stderr.contains(why) && output.stderr.contains("as root"), "{process}: {output:?}");
        assert!(output.stderr.contains('^'), "{output:?}");
    }
}

#[test]
fn a_supervisor_without_root_may_say_its_own_user() {
    let scratch = Scratch::new();
    let own = copied(&scratch, &place::ostler(), "ostler", 0o755);
    let user = if geteuid().is_root() { nobody() } else { User::from_uid(geteuid()).expect("a database").expect("us") };
    let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
    let words = if geteuid().is_root() {
        chown(scratch.dir(), Some(uid), Some(gid)).expect("root may");
        format!("setpriv --reuid={uid} --regid={gid} --clear-groups")
    } else {
        String::new()
    };
    let process = format!("user = {uid}, group = {gid}, nice = 3");
    let mut ostler = started_by(Builder::new(&scratch), &words, &own).config(config(&process)).start();
    for pid in [&[ostler.pid()][..], &ostler.status().only().pids()].concat() {
        assert_eq!(procs::status_field(pid, "Uid"), [uid; 4].map(|id| id.to_string()).join("\t"));
    }
    get_once(&ostler.unix("web.sock"), "/", PATIENCE).expect("served");
    ostler.stop_clean();
}

#[test]
fn a_worker_that_starts_says_so_by_its_name() {
    // It connects at once, and would be ready in ten minutes.
    let command = programs::toml(&programs::slow_start(600_000));
    let pool =
        config("").replace("workers", &format!("command = {command}\nworkers")).replace("\"5s\", f", "\"60s\", f");
    let mut ostler = Ostler::builder().config(pool).start_unready();
    let starting = ostler.wait_status("both start", |status| {
        let pids = status.only().pids();
        (pids.len() == 2).then_some(pids)
    });
    for (slot, pid) in starting.into_iter().enumerate() {
        let title = format!("web/{slot}.1 start");
        wait_until(SOON, &title, || procs::name(pid).as_deref() == Some(title.as_str()));
    }
    // Asleep in their load they hear no TERM.
    assert_eq!(ostler.stop().code, 4);
}

#[test]
fn a_worker_shows_who_it_is_and_whether_it_serves_or_leaves() {
    let command = programs::toml(&programs::slow_start(0));
    let pool = config("").replace("workers", &format!("command = {command}\nworkers"));
    let mut ostler = Ostler::builder().config(pool).start();
    let mut busy = Connection::open(&ostler.unix("web.sock"), PATIENCE).expect("a place");
    let worker = busy.get("/", Keep::Alive).expect("served").worker().expect("it says who it is");
    assert_eq!(procs::name(worker.pid), Some(format!("{} ready", worker.name)));
    busy.ask("/sleep/1500", Keep::Once).expect("room for a request");
    assert_eq!(ostler.command(&["reload", "--no-wait"]).code, 0);
    let title = format!("{} drain", worker.name);
    wait_until(SOON, &title, || procs::name(worker.pid).as_deref() == Some(title.as_str()));
    assert_eq!(busy.answer().map(|answer| answer.status), Ok(200));
    ostler.wait_status("the new ones are ready", |status| {
        (status.only().generations() == [2] && status.only().ready().len() == 2).then_some(())
    });
    assert_eq!(procs::name(ostler.pid()).as_deref(), Some("ostler"), "by which it is found");
    ostler.stop_clean();
}

#[test]
fn the_directory_is_entered_as_the_user() {
    let scratch = Scratch::new();
    let den = scratch.path("den");
    fs::create_dir(&den).expect("ours");
    set_mode(&den, 0o700);
    if geteuid().is_root() {
        chown(&den, Some(nobody().uid.as_raw()), None).expect("root may");
    }
    let Some(mut ostler) = start_as_root(Builder::new(&scratch), &config("user = \"nobody\", cwd = \"den\"")) else {
        return;
    };
    let pid = ostler.status().only().pids()[0];
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).expect("root may look"), den);
    // It is closed while workers run: a reload finds that out before anything changes.
    chown(&den, Some(0), None).expect("root may");
    let serving = ostler.status().only().pids();
    let output = ostler.command(&["reload"]);
    assert_eq!(output.code, 3, "{output:?}");
    assert!(output.stderr.contains("cannot be entered by user nobody"), "{output:?}");
    assert_eq!(ostler.status().only().pids(), serving);
    ostler.stop_clean();
}
