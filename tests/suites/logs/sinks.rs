//! Files that are renamed, gone, full or changed by a reload; and the journal.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;

use nix::sys::signal::Signal;
use ostler_tests::deadline::{SOON, wait_for, wait_until};
use ostler_tests::http::get_once;
use ostler_tests::{Builder, Ostler, Scratch};

use crate::house::{lines, wait_text};

fn config(supervisor: &str) -> String {
    format!("[supervisor]\n{supervisor}\n[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = 1\n")
}

#[test]
fn a_renamed_file_is_opened_anew_by_signal_and_by_command() {
    let mut ostler = Ostler::builder()
        .config(config(r#"log = { file = "logs/a.log", access = "logs/b.log" }"#))
        .prologue("mkdir logs;")
        .start();
    let [log, access] = ["logs/a.log", "logs/b.log"].map(|name| ostler.scratch().path(name));
    wait_text(&log, "all workers are ready");
    assert_eq!(fs::metadata(&log).expect("it is there").permissions().mode() & 0o777, 0o640);
    fs::rename(&log, ostler.scratch().path("logs/a.1")).expect("ours");
    ostler.signal(Signal::SIGUSR1);
    wait_text(&log, "log files opened anew: 2");
    fs::rename(&log, ostler.scratch().path("logs/a.2")).expect("ours");
    fs::rename(&access, ostler.scratch().path("logs/b.1")).expect("ours");
    let answer = ostler.command(&["reopen-logs"]);
    assert_eq!((answer.code, answer.stdout.trim()), (0, "log files opened anew: 2"), "{answer:?}");
    assert!(log.exists() && access.exists(), "they are there when it has answered");
    get_once(&ostler.unix("web.sock"), "/", SOON).expect("served");
    wait_text(&access, "outcome=done");
    ostler.stop_clean();
    assert!(wait_text(&log, "stopped pool=web").ends_with("stopped\n"), "its last line is there");
}

#[test]
fn a_file_that_cannot_be_opened_anew_is_said_and_the_old_one_goes_on() {
    let mut ostler =
        Ostler::builder().config(config(r#"log = { file = "logs/a.log" }"#)).prologue("mkdir logs;").start();
    let [dir, moved] = ["logs", "moved"].map(|name| ostler.scratch().path(name));
    fs::rename(&dir, &moved).expect("ours");
    let answer = ostler.command(&["reopen-logs"]);
    assert_eq!(answer.code, 1, "{answer:?}");
    for text in ["supervisor.log.file", "make its directory", "lines go on to the old file"] {
        assert!(answer.stderr.contains(text), "{answer:?}");
    }
    wait_text(&moved.join("a.log"), "lines go on to the old file");
    assert_eq!(ostler.command(&["scale", "web", "2"]).code, 0);
    wait_text(&moved.join("a.log"), "scaled from 1 to 2");
    ostler.stop_clean();
}

#[test]
fn without_files_nothing_is_opened_and_it_says_so() {
    let mut ostler = Ostler::builder().config(config("")).start();
    let answer = ostler.command(&["reopen-logs"]);
    assert!(answer.code == 0 && answer.stdout.contains("no log files to open again: the log goes to /"), "{answer:?}");
    ostler.signal(Signal::SIGUSR1);
    ostler.wait_log(&["no log files to open again"]);
    ostler.stop_clean();
}

#[test]
fn a_log_that_cannot_be_opened_ends_the_start() {
    let ended = Ostler::builder().config(config(r#"log = { file = "no/such/directory/log" }"#)).start_failing();
    assert_eq!(ended.code, 1, "{}", ended.log);
    assert!(ended.log.contains("supervisor.log.file") && ended.log.contains("make its directory"), "{}", ended.log);
}

#[test]
fn a_reload_changes_the_log_and_one_that_is_undone_does_not() {
    let mut ostler = Ostler::builder().config(config(r#"log = { file = "a.log" }"#)).start();
    let [first, second, access] = ["a.log", "b.log", "c.log"].map(|name| ostler.scratch().path(name));
    wait_text(&first, "all workers are ready");
    let before = ostler.descriptor_count();
    // It can't be opened: undone before anything began.
    ostler.rewrite_config(&config(r#"log = { file = "no/such/directory/log" }"#));
    let undone = ostler.command(&["reload"]);
    assert!(undone.code == 3 && undone.stderr.contains("supervisor.log.file"), "{undone:?}");
    // It can, but the new program does not start: undone later.
    let broken = config(r#"log = { file = "b.log", format = "json", level = "debug", access = "c.log" }"#);
    ostler.rewrite_config(&format!("{broken}command = [\"false\"]\n"));
    let undone = ostler.command(&["reload"]);
    assert_eq!(undone.code, 3, "{undone:?}");
    wait_text(&first, "reload undone");
    get_once(&ostler.unix("web.sock"), "/", SOON).expect("served");
    ostler.wait_descriptor_count(before);
    assert_eq!(
        (fs::metadata(&second).map(|file| file.size()).ok(), fs::metadata(&access).map(|file| file.size()).ok()),
        (Some(0), Some(0))
    );
    assert!(!fs::read_to_string(&first).expect("it is there").contains("DEBUG"));
    // And now it works.
    ostler.rewrite_config(&broken);
    assert_eq!(ostler.command(&["reload"]).code, 0);
    get_once(&ostler.unix("web.sock"), "/", SOON).expect("served");
    wait_text(&access, "\"outcome\":\"done\"");
    wait_text(&second, "reload complete");
    assert!(!fs::read_to_string(&first).expect("it is there").contains("reload complete"), "not there any more");
    assert_eq!(ostler.command(&["restart", "web"]).code, 0);
    let said = lines(&wait_text(&second, "\"level\":\"DEBUG\""));
    assert!(said.iter().all(|line| line["level"].is_string()), "{said:?}");
    // Off again, and back to where it was.
    ostler.rewrite_config(&config(r#"log = { file = "a.log" }"#));
    assert_eq!(ostler.command(&["reload"]).code, 0);
    wait_text(&first, "reload complete");
    let dumped = ostler.command(&["dump"]);
    assert!(dumped.code == 0 && dumped.stdout.trim().ends_with("a.log"), "{dumped:?}");
    wait_text(&first, "state of ostler");
    ostler.wait_descriptor_count(before);
    ostler.stop_clean();
}

#[test]
fn a_full_disk_loses_lines_which_are_counted_when_there_is_room() {
    let scratch = Scratch::new();
    let disk = scratch.path("disk");
    fs::create_dir(&disk).expect("ours");
    let in_a_small_world = format!(
        r#"set -- unshare --mount --map-root-user -- sh -c '
            mount -t tmpfs -o size=64k none {disk} || exit 99
            cat /dev/zero > {disk}/filler 2> /dev/null
            exec "$@"' sh "$@";"#,
        disk = disk.display()
    );
    let config = config(&format!("log = {{ file = {:?} }}", disk.join("log")));
    let mut ostler = Builder::new(&scratch).config(config).prologue(&in_a_small_world).start();
    let seen_by_it = format!("/proc/{}/root{}", ostler.pid(), disk.display());
    assert_eq!(ostler.command(&["reload"]).code, 0);
    let said = ostler.command(&["logs"]).stdout;
    assert!(said.contains("cannot write the log: No space left on device"), "in memory it is said: {said}");
    fs::remove_file(format!("{seen_by_it}/filler")).expect("it is there");
    assert_eq!(ostler.command(&["reload"]).code, 0);
    let log = format!("{seen_by_it}/log");
    let said = wait_for(SOON, "the count", || {
        fs::read_to_string(&log).ok().filter(|said| said.contains("these lines of it were lost"))
    });
    let count = said.split("lost=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a count");
    assert!(count.parse::<u64>().expect("a number") > 5, "{said}");
    ostler.stop_clean();
}

#[test]
fn the_journal_gets_each_line_with_its_fields() {
    let scratch = Scratch::new();
    let run = scratch.path("run");
    fs::create_dir(&run).expect("ours");
    let journal = UnixDatagram::bind(run.join("socket")).expect("ours");
    journal.set_nonblocking(true).expect("a socket");
    // Only the supervisor sees this one at the journal's place; the variable says that standard error is the journal's.
    let with_a_journal = format!(
        r#"set -- unshare --mount --map-root-user -- sh -c '
            mount -t tmpfs none /run && mkdir -p /run/systemd/journal && mount --bind {run} /run/systemd/journal || exit 99
            JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$@"' sh "$@";"#,
        run = run.display()
    );
    let mut ostler = Builder::new(&scratch).config(config("")).prologue(&with_a_journal).start();
    let mut heard = String::new();
    wait_until(SOON, "a line of a worker", || {
        let mut datagram = [0; 16 * 1024];
        while let Ok(length) = journal.recv(&mut datagram) {
            heard.push_str(&String::from_utf8_lossy(&datagram[..length]));
            heard.push('\n');
        }
        heard.contains("MESSAGE=ready\n")
    });
    for field in ["PRIORITY=6\n", "SYSLOG_IDENTIFIER=ostler\n", "OSTLER_WORKER=web/0.1\nOSTLER_POOL=web\n"] {
        assert!(heard.contains(field), "{field:?} in {heard}");
    }
    assert_eq!(ostler.log(), "", "nothing twice");
    // It restarts: what it does not take goes to standard error.
    drop(journal);
    fs::remove_file(run.join("socket")).expect("ours");
    assert_eq!(ostler.command(&["scale", "web", "2"]).code, 0);
    ostler.wait_log(&["scaled from 1 to 2 workers pool=web"]);
    ostler.stop_clean();
}

#[test]
fn the_pid_file_is_there_while_it_runs_and_one_of_another_stays() {
    let mut ostler = Ostler::builder().config(config(r#"pid_file = "ostler.pid""#)).start();
    let path = ostler.scratch().path("ostler.pid");
    assert_eq!(fs::read_to_string(&path).expect("it is there"), format!("{}\n", ostler.pid()));
    ostler.stop_clean();
    assert!(!path.exists());
    let scratch = Scratch::new();
    let mut ostler = Builder::new(&scratch).config(config(r#"pid_file = "ostler.pid""#)).start();
    let path = scratch.path("ostler.pid");
    fs::remove_file(&path).expect("it is there");
    fs::write(&path, "1\n").expect("ours");
    ostler.stop_clean();
    assert_eq!(fs::read_to_string(&path).expect("another's"), "1\n");
    let ended = Ostler::builder().config(config(r#"pid_file = "no/such/pid""#)).start_failing();
    assert!(ended.code == 1 && ended.log.contains("supervisor.pid_file"), "{}", ended.log);
}
