//! Does a process per connection, or a pipeline of them, serve it to the end, and is none of them left behind?

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::deadline::{SOON, every, long_run, wait_until};
use ostler_tests::dice::Dice;
use ostler_tests::sampler::Sampler;
use ostler_tests::status::Pool;
use ostler_tests::target::{Stream, Target};
use ostler_tests::{Ostler, Scratch, bounded};

fn start(command: &str, more: &str) -> Ostler {
    Ostler::builder().config(pool(command, more)).start()
}

/// As [`start`], where whoever does not end by himself is asked in a minute: longer than anybody here waits.
fn start_patient(command: &str, more: &str) -> Ostler {
    let more = format!("{more}\ndrain = {{ kill_after = \"2m\" }}");
    let config = format!("supervisor.stop_timeout = \"3m\"\n{}", pool(command, &more));
    Ostler::builder().config(config).start()
}

fn pool(command: &str, more: &str) -> String {
    format!("[pool.main]\nlisten = [\"unix:main.sock\"]\nhandoff = \"stdio\"\ncommand = {command}\n{more}\n")
}

fn target(ostler: &Ostler) -> Target {
    ostler.unix("main.sock")
}

fn connect(target: &Target) -> Stream {
    let stream = target.connect(SOON).expect("connected");
    stream.set_read_timeout(SOON).expect("above zero");
    stream
}

fn end_writing(stream: &Stream) {
    match stream {
        Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
    }
    .expect("its other side is there");
}

/// Sends a text, ends its side, and reads all that comes back.
fn exchange(target: &Target, text: &str) -> io::Result<String> {
    let mut stream = target.connect(SOON)?;
    stream.set_read_timeout(SOON)?;
    stream.write_all(text.as_bytes())?;
    end_writing(&stream);
    let mut back = String::new();
    stream.read_to_string(&mut back)?;
    Ok(back)
}

fn wait_idle(ostler: &Ostler) -> Pool {
    let pool = ostler.wait_status("idle, and all workers are ready", |status| {
        let pool = status.only();
        let whole = pool.ready().len() == pool.target as usize && pool.workers.len() == pool.target as usize;
        (pool.is_idle() && whole).then(|| pool.clone())
    });
    assert_eq!(pool.check_books(), Ok(()));
    pool
}

/// The processes that were started for connections, by their stage.
fn stages(ostler: &Ostler) -> BTreeMap<i32, String> {
    let stage = |pid| {
        // It may end meanwhile.
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let mut variables = environment.split(|byte| *byte == 0);
        let stage = variables.find_map(|variable| variable.strip_prefix(b"OSTLER_STAGE="))?;
        Some((pid, String::from_utf8_lossy(stage).into_owned()))
    };
    ostler.processes().into_iter().filter_map(stage).collect()
}

/// Stops the clients of a test, also where it fails.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn deaths(ostler: &Ostler) -> serde_json::Value {
    let output = ostler.command(&["deaths", "--json"]);
    serde_json::from_str(&output.stdout).expect("JSON")
}

// ── real programs ──────────────────────────────────────────────────────────────────────────────────────────────

fn git(dir: &Path, words: &[&str]) {
    let mut command = Command::new("git");
    command.current_dir(dir).args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]);
    let output = bounded::run(command.args(words), SOON);
    assert_eq!(output.code, 0, "git {words:?}: {output:?}");
}

#[test]
fn git_clones_over_its_daemon_while_the_pool_is_reloaded() {
    let scratch = Scratch::new();
    let source = scratch.path("source");
    fs::create_dir(&source).expect("fresh");
    git(&source, &["init", "-q"]);
    let big: String = (0..20_000).map(|number| format!("{number}\n")).collect();
    fs::write(source.join("big"), &big).expect("written");
    git(&source, &["add", "big"]);
    git(&source, &["commit", "-q", "-m", "all of it"]);

    let served = Target::free_tcp();
    let base = format!("--base-path={}", scratch.dir().display());
    // The user of the test need not be the owner of the scratch directory.
    let config = format!(
        "[pool.git]\nlisten = [{:?}]\nhandoff = \"stdio\"\nworkers = 2\nconcurrency = 2\n\
         command = [\"git\", \"-c\", \"safe.directory=*\", \"daemon\", \"--inetd\", \"--export-all\", {base:?}]\n",
        served.listen()
    );
    let mut ostler = Ostler::builder().config(config).start();
    let Target::Tcp(address) = served else { panic!("it is TCP") };
    let url = format!("git://{address}/source");
    let stop = AtomicBool::new(false);
    let clones: usize = thread::scope(|scope| {
        let stopping = Stopping(&stop);
        let clients: Vec<_> = (0..3)
            .map(|client| {
                let (scratch, url, stop, big) = (&scratch, &url, &stop, &big);
                scope.spawn(move || {
                    let mut clones = 0;
                    while clones == 0 || !stop.load(Ordering::Relaxed) {
                        let into = scratch.path(&format!("clone-{client}-{clones}"));
                        git(scratch.dir(), &["clone", "-q", url, into.to_str().expect("a text")]);
                        assert_eq!(fs::read_to_string(into.join("big")).expect("cloned"), *big);
                        clones += 1;
                    }
                    clones
                })
            })
            .collect();
        for _ in 0..3 {
            let output = ostler.command(&["reload"]);
            assert_eq!(output.code, 0, "{output:?}");
        }
        drop(stopping);
        clients.into_iter().map(|client| client.join().expect("each clone is whole")).sum()
    });
    let pool = wait_idle(&ostler);
    assert_eq!((pool.done, pool.failed, pool.lost), (clones as u64, 0, 0), "{pool:?}\n{}", ostler.log());
    ostler.stop_clean();
}

#[test]
fn busybox_serves_files_over_http() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("files")).expect("fresh");
    scratch.write("files/hello.txt", "hello from a file\n");
    let command = format!("[\"busybox\", \"httpd\", \"-i\", \"-h\", \"{}\"]", scratch.path("files").display());
    let mut ostler = ostler_tests::Builder::new(&scratch).config(pool(&command, "")).start();
    for (path, status, body) in [("/hello.txt", "200 OK", "hello from a file"), ("/absent", "404 Not Found", "404")] {
        let answer = exchange(&target(&ostler), &format!("GET {path} HTTP/1.0\r\n\r\n")).expect("answered");
        assert!(answer.contains(status) && answer.contains(body), "{answer}");
    }
    assert_eq!(wait_idle(&ostler).done, 2);
    ostler.stop_clean();
}

// ── pipelines ──────────────────────────────────────────────────────────────────────────────────────────────────

/// Counts a to b, b to c and c to d: each stage does a third of the work.
const THREE: &str = r#"[["sed", "-u", "s/^a/ab/"], ["tr", "b", "c"], ["awk", "{ print $0 \"d\" }"]]"#;

fn through_three(target: &Target) -> io::Result<bool> {
    let text: String = (0..200).map(|number| format!("a{number}\n")).collect();
    let wanted: String = (0..200).map(|number| format!("ac{number}d\n")).collect();
    Ok(exchange(target, &text)? == wanted)
}

/// Keeps its stages until one of them is killed, or the test is over. Others are over before they have been found.
fn hold_three(target: &Target, stop: &AtomicBool) {
    let mut stream = connect(target);
    stream.set_read_timeout(Duration::from_millis(50)).expect("above zero");
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _cut => return,
        }
    }
}

#[test]
fn three_stages_serve_under_load_and_reloads_lose_nothing() {
    let mut ostler = start(THREE, "workers = 2\nconcurrency = 3");
    let before = ostler.descriptor_count();
    let (stop, target) = (AtomicBool::new(false), target(&ostler));
    let sampler = Sampler::start(ostler.client());
    let served: u64 = thread::scope(|scope| {
        let stopping = Stopping(&stop);
        let client = || {
            let mut served = 0;
            while served < 5 || !stop.load(Ordering::Relaxed) {
                assert!(through_three(&target).expect("served"), "something else came back");
                served += 1;
            }
            served
        };
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(client)).collect();
        for _ in 0..if long_run() { 20 } else { 3 } {
            let output = ostler.command(&["reload"]);
            assert_eq!(output.code, 0, "{output:?}\n{}", ostler.log());
        }
        drop(stopping);
        clients.into_iter().map(|client| client.join().expect("no client fails")).sum()
    });
    sampler.finish().assert_balanced();
    let pool = wait_idle(&ostler);
    assert_eq!((pool.done, pool.failed, pool.lost), (served, 0, 0), "{pool:?}\n{}", ostler.log());
    ostler.wait_descriptor_count(before);
    assert!(stages(&ostler).is_empty(), "{:?}", stages(&ostler));
    ostler.stop_clean();
}

#[test]
fn whichever_stage_is_killed_the_others_end_and_the_place_is_free_again() {
    let mut ostler = start_patient(THREE, "workers = 1\nconcurrency = 2");
    for stage in ["1", "2", "3"] {
        let mut client = connect(&target(&ostler));
        client.write_all(b"a1\n").expect("somebody reads");
        let of_stage = |stage: &str| stages(&ostler).into_iter().find(|(_, its)| its == stage).map(|(pid, _)| pid);
        wait_until(SOON, "all are there", || ["1", "2", "3"].into_iter().all(|stage| of_stage(stage).is_some()));
        kill(Pid::from_raw(of_stage(stage).expect("there")), Signal::SIGKILL).expect("it lives");
        let mut rest = Vec::new();
        // Reset, or the end: what was not read can't be answered any more.
        let _ended = client.read_to_end(&mut rest);
        wait_until(SOON, "the others end by themselves", || stages(&ostler).is_empty());
        drop(client);
    }
    let pool = wait_idle(&ostler);
    assert_eq!((pool.done, pool.failed, pool.lost), (3, 3, 0), "{pool:?}");
    let deaths = deaths(&ostler);
    for (place, kept) in deaths["programs"].as_array().expect("a list").iter().enumerate() {
        let ends = kept["ends"].as_array().expect("a list");
        assert_eq!(ends.len(), 3, "{kept}");
        assert_eq!(ends[place]["signal_name"], "SIGKILL", "{kept}");
    }
    let shown = ostler.command(&["deaths"]).stdout;
    assert!(shown.contains("tr SIGKILL"), "{shown}");
    ostler.wait_log(&["did not all end well", "sed SIGKILL"]);
    ostler.stop_clean();
}

#[test]
fn kills_of_stages_and_workers_under_load_leave_balanced_books_and_no_process() {
    let mut dice = Dice::new();
    let more = "workers = 2\nconcurrency = 2\nstart = { failures = 10000, backoff = [\"10ms\", \"100ms\"] }";
    let mut ostler = start(THREE, more);
    let (stop, target) = (AtomicBool::new(false), target(&ostler));
    let sampler = Sampler::start(ostler.client());
    let (mut of_stages, mut of_workers) = (0, 0);
    thread::scope(|scope| {
        let _stopping = Stopping(&stop);
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // A kill cuts an answer; that a whole one is another's is what must not be.
                    let _cut = through_three(&target);
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    hold_three(&target, &stop);
                }
            });
        }
        every(Duration::from_millis(100), Duration::from_secs(if long_run() { 30 } else { 3 }), || {
            let running: Vec<i32> = stages(&ostler).into_keys().collect();
            let workers: Vec<i32> = ostler.status().only().ready().iter().filter_map(|worker| worker.pid).collect();
            let Some(pid) = dice.pick(&running) else { return };
            of_stages += u64::from(kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok());
            if let Some(pid) = dice.pick(&workers).filter(|_| of_stages % 4 == 1) {
                of_workers += u64::from(kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok());
            }
        });
    });
    sampler.finish().assert_balanced();
    println!("{of_stages} stages and {of_workers} workers were killed");
    let pool = wait_idle(&ostler);
    assert!(of_stages >= 1 && of_workers >= 1, "{of_stages}, {of_workers}");
    assert!(pool.lost <= of_workers * 2 && pool.failed <= of_stages, "{of_stages}, {of_workers}: {pool:?}");
    // Those of a killed worker die with it, and that is a moment behind it.
    wait_until(SOON, "nobody is left", || stages(&ostler).is_empty());
    assert!(through_three(&target).expect("served"));
    ostler.stop_clean();
}

#[test]
fn when_the_last_stage_has_ended_the_client_has_the_end_and_the_first_stage_too() {
    let mut ostler = start_patient(r#"[["cat"], ["head", "-n", "1"]]"#, "");
    let mut client = connect(&target(&ostler));
    client.write_all(b"one\n").expect("somebody reads");
    assert_eq!(line(&mut client), "one");
    assert_eq!(client.read(&mut [0; 1]).expect("the end, though this side is open"), 0);
    let pool = wait_idle(&ostler);
    assert_eq!((pool.done, pool.failed), (1, 0), "{pool:?}\n{}", ostler.log());
    ostler.stop_clean();
}

#[test]
fn a_stage_that_outlives_the_last_one_is_asked_and_then_killed() {
    for (first, signal) in
        [(r#"["sleep", "600"]"#, "SIGTERM"), (r#"["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]"#, "SIGKILL")]
    {
        let mut ostler = start(&format!("[{first}, [\"true\"]]"), "workers = 1\ndrain = { kill_after = \"1s\" }");
        let mut client = connect(&target(&ostler));
        assert_eq!(client.read(&mut [0; 1]).expect("the end"), 0);
        let pool = ostler.wait_status("it is over", |status| (status.only().done == 1).then(|| status.only().clone()));
        assert_eq!((pool.failed, pool.lost), (1, 0), "{pool:?}");
        assert_eq!(deaths(&ostler)["programs"][0]["ends"][0]["signal_name"], signal);
        ostler.stop_clean();
    }
}

// ── one connection ─────────────────────────────────────────────────────────────────────────────────────────────

const SHOW: &str = r#"["sh", "-c", "env; echo FDS $(ls /proc/self/fd)"]"#;

fn shown(target: &Target) -> BTreeMap<String, String> {
    let answer = exchange(target, "").expect("answered");
    let pairs = answer.lines().filter_map(|line| line.split_once(['=', ' ']));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_environment_tells_who_is_there_and_nothing_of_ostlers_own() {
    let tcp = Target::free_tcp();
    let config = format!(
        "[pool.main]\nlisten = [\"unix:main.sock\", {:?}]\nhandoff = \"stdio\"\ncommand = {SHOW}\n\
         process = {{ env = {{ A = \"b\", TCPREMOTEIP = \"192.0.2.1\" }} }}\n",
        tcp.listen()
    );
    let mut ostler = Ostler::builder().config(config).start();
    let by_unix = shown(&target(&ostler));
    let is = |name: &str, value: &str| assert_eq!(by_unix.get(name).map(String::as_str), Some(value), "{by_unix:?}");
    is("PROTO", "UNIX");
    is("UNIXREMOTEPID", &std::process::id().to_string());
    is("UNIXREMOTEEUID", &nix::unistd::getuid().to_string());
    is("OSTLER_POOL", "main");
    is("OSTLER_STAGE", "1");
    is("OSTLER_STAGES", "1");
    is("A", "b");
    // The one above 2 is what lists them.
    is("FDS", "0 1 2 3");
    assert!(by_unix["UNIXLOCALPATH"].ends_with("/main.sock"), "{by_unix:?}");
    assert!(by_unix.contains_key("OSTLER_CONNECTION") && by_unix.contains_key("OSTLER_WORKER"), "{by_unix:?}");
    for absent in ["OSTLER_FDS", "OSTLER_PROTOCOL", "NOTIFY_SOCKET", "REMOTE_ADDR", "TCPREMOTEIP", "LISTEN_FDS"] {
        assert!(!by_unix.contains_key(absent), "{absent}: {by_unix:?}");
    }
    let by_tcp = shown(&tcp);
    let Target::Tcp(address) = tcp else { panic!("it is TCP") };
    let is = |name: &str, value: &str| assert_eq!(by_tcp.get(name).map(String::as_str), Some(value), "{by_tcp:?}");
    is("PROTO", "TCP");
    is("REMOTE_ADDR", "127.0.0.1");
    is("TCPREMOTEIP", "127.0.0.1");
    is("TCPLOCALPORT", &address.port().to_string());
    is("REMOTE_PORT", &by_tcp["TCPREMOTEPORT"]);
    is("OSTLER_LISTENER", "1");
    ostler.stop_clean();
}

#[test]
fn programs_have_what_the_process_table_says() {
    let scratch = Scratch::new();
    let command = r#"["sh", "-c", "umask; ulimit -n; pwd; nice"]"#;
    let more =
        format!("process = {{ umask = \"027\", nofile = 321, cwd = \"{}\", nice = 3 }}", scratch.dir().display());
    let mut ostler = ostler_tests::Builder::new(&scratch).config(pool(command, &more)).start();
    let answer = exchange(&target(&ostler), "").expect("answered");
    let dir = fs::canonicalize(scratch.dir()).expect("there");
    assert_eq!(answer.lines().collect::<Vec<_>>(), ["0027", "321", dir.to_str().expect("a text"), "3"]);
    ostler.stop_clean();
}

#[test]
fn a_client_that_goes_ends_its_program_and_nothing_is_lost() {
    let mut ostler = start(r#"["yes"]"#, "workers = 1");
    let reads_no_more = || {
        let mut client = connect(&target(&ostler));
        client.read_exact(&mut [0; 100]).expect("it writes for ever");
        let Stream::Unix(unix) = &client else { panic!("not as configured") };
        unix.shutdown(Shutdown::Read).expect("it is open");
        client
    };
    // SIGPIPE ends it, or EPIPE of which it complains: the kernel spares a writer that sleeps the signal.
    let clients = [reads_no_more(), reads_no_more(), reads_no_more()];
    let pool = wait_idle(&ostler);
    drop(clients);
    assert_eq!((pool.done, pool.lost), (3, 0), "{pool:?}\n{}", ostler.log());
    assert!(stages(&ostler).is_empty());
    ostler.stop_clean();
}

#[test]
fn what_a_program_says_on_standard_error_is_in_the_log_and_its_exit_code_is_kept() {
    let mut ostler = start(r#"["sh", "-c", "echo something is missing >&2; exit 3"]"#, "");
    assert_eq!(exchange(&target(&ostler), "").expect("the end"), "");
    ostler.wait_log(&["something is missing"]);
    ostler.wait_log(&["did not all end well: sh exit 3"]);
    assert_eq!(deaths(&ostler)["programs"][0]["ends"][0]["code"], 3);
    assert_eq!(wait_idle(&ostler).failed, 1);
    ostler.stop_clean();
}

// ── starting ───────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_program_that_is_not_there_fails_the_start_and_undoes_a_reload() {
    let by_flags = Ostler::builder().args(["--listen", "unix:x.sock", "--handoff", "stdio"]).worker(["./absent"]);
    let ended = by_flags.start_failing();
    assert_eq!(ended.code, 1, "{}", ended.log);
    assert!(ended.log.contains("cannot execute") && ended.log.contains("check the path"), "{}", ended.log);

    let mut ostler = start(r#"["cat"]"#, "");
    ostler.rewrite_config(&pool(r#"[["cat"], ["./absent"]]"#, ""));
    let output = ostler.command(&["reload"]);
    assert_eq!(output.code, 3, "{output:?}");
    assert!(output.stderr.contains("absent"), "{output:?}");
    assert_eq!(exchange(&target(&ostler), "still here\n").expect("served"), "still here\n");
    ostler.stop_clean();
}

#[test]
fn what_can_not_be_executed_any_more_closes_the_connection_and_says_why() {
    let scratch = Scratch::new();
    let script = |name: &str, text: &str| {
        let path = scratch.write(name, text);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
        path.display().to_string()
    };
    let (good, odd) = (script("good", "#!/bin/sh\ncat\n"), script("odd", "#!/no/such/interpreter\n"));
    let command = format!("[[\"cat\"], [{good:?}], [{odd:?}]]");
    let mut ostler = ostler_tests::Builder::new(&scratch).config(pool(&command, "workers = 1")).start();
    assert_eq!(exchange(&target(&ostler), "").expect("the end"), "");
    ostler.wait_log(&["cannot start stage 3 of 3", "its interpreter"]);
    fs::remove_file(&good).expect("there");
    assert_eq!(exchange(&target(&ostler), "").expect("the end"), "");
    ostler.wait_log(&["cannot start stage 2 of 3"]);
    let pool = wait_idle(&ostler);
    assert_eq!((pool.done, pool.failed), (2, 2), "{pool:?}");
    assert_eq!(deaths(&ostler)["programs"][1]["ends"][1]["errno"], libc::ENOENT);
    assert!(stages(&ostler).is_empty());
    ostler.stop_clean();
}

// ── leaving ────────────────────────────────────────────────────────────────────────────────────────────────────

/// Echoes, and says so when it is asked to leave.
const ASKED: &str =
    r#"["sh", "-c", "trap 'echo asked; exit 0' INT; echo begun; while read line; do echo $line; done"]"#;

fn line(client: &mut Stream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while client.read_exact(&mut byte).is_ok() && byte != *b"\n" {
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("a text")
}

#[test]
fn a_reload_lets_what_runs_go_on_until_the_drain_timeout_and_then_asks_it() {
    let more = "workers = 1\ndrain = { timeout = \"2s\", signal = \"INT\", kill_after = \"5s\" }";
    let mut ostler = start(ASKED, more);
    let mut held = connect(&target(&ostler));
    assert_eq!(line(&mut held), "begun");
    let before = ostler.status().only().pids();
    let output = ostler.command(&["reload"]);
    assert_eq!(output.code, 0, "{output:?}");
    held.write_all(b"still\n").expect("it lives");
    assert_eq!(line(&mut held), "still");
    let mut fresh = connect(&target(&ostler));
    assert_eq!(line(&mut fresh), "begun");
    assert_ne!(ostler.status().only().ready()[0].pid, before.first().copied());
    assert_eq!(line(&mut held), "asked");
    assert_eq!(line(&mut held), "");
    before.into_iter().for_each(|pid| ostler.wait_gone(pid));
    end_writing(&fresh);
    assert_eq!(line(&mut fresh), "");
    let pool = wait_idle(&ostler);
    assert_eq!((pool.done, pool.lost), (2, 0), "{pool:?}");
    ostler.stop_clean();
}

#[test]
fn a_stop_serves_what_runs_and_waits_for_its_end() {
    let mut ostler = start(ASKED, "workers = 1\nconcurrency = 2");
    let mut clients: Vec<Stream> = (0..2).map(|_| connect(&target(&ostler))).collect();
    clients.iter_mut().for_each(|client| assert_eq!(line(client), "begun"));
    ostler.signal(Signal::SIGTERM);
    ostler.wait_log(&["stopping"]);
    for client in &mut clients {
        client.write_all(b"still\n").expect("it lives");
        assert_eq!(line(client), "still");
        end_writing(client);
        assert_eq!(line(client), "");
    }
    assert_eq!(ostler.wait(SOON).code, 0);
    ostler.assert_no_process_left();
}

/// It starts a process of its own, and neither ends by itself.
const STUBBORN: &str = r#"["sh", "-c", "trap '' TERM INT; sleep 600 & echo begun; wait; wait"]"#;

#[test]
fn whatever_ends_the_worker_ends_all_that_was_started_for_its_connections() {
    let mut ostler = start(STUBBORN, "workers = 1\ndrain = { timeout = \"500ms\", kill_after = \"500ms\" }");
    let mut client = connect(&target(&ostler));
    assert_eq!(line(&mut client), "begun");
    let worker = ostler.status().only().pids()[0];
    let family: Vec<i32> = stages(&ostler).into_keys().collect();
    assert_eq!(family.len(), 2, "{family:?}");
    kill(Pid::from_raw(worker), Signal::SIGKILL).expect("it lives");
    family.iter().for_each(|pid| ostler.wait_gone(*pid));
    assert_eq!(line(&mut client), "");
    ostler.wait_status("it is lost", |status| (status.only().lost == 1).then_some(()));

    // A reload asks, and then kills.
    let mut client = connect(&target(&ostler));
    assert_eq!(line(&mut client), "begun");
    let family: Vec<i32> = stages(&ostler).into_keys().collect();
    assert_eq!(ostler.command(&["reload"]).code, 0);
    family.iter().for_each(|pid| ostler.wait_gone(*pid));
    ostler.stop();
    ostler.assert_no_process_left();
}

#[test]
fn without_a_supervisor_programs_go_on_to_the_deadline_and_no_further() {
    let mut ostler = start(STUBBORN, "workers = 1\nconcurrency = 2\ndrain = { timeout = \"2s\", kill_after = \"1s\" }");
    let mut client = connect(&target(&ostler));
    assert_eq!(line(&mut client), "begun");
    ostler.signal(Signal::SIGKILL);
    ostler.wait(SOON);
    ostler.assert_no_process_left();
    assert_eq!(line(&mut client), "");
}

#[test]
fn one_that_is_at_a_connection_for_too_long_is_ended() {
    let more = "workers = 1\nwatchdog = { request = \"1s\", heartbeat = \"1s\" }\ndrain = { kill_after = \"1s\" }";
    let mut ostler = start(STUBBORN, more);
    let mut client = connect(&target(&ostler));
    assert_eq!(line(&mut client), "begun");
    ostler.wait_log(&["is at one request"]);
    assert_eq!(line(&mut client), "");
    ostler.wait_status("it is lost, and the next one is ready", |status| {
        let pool = status.only();
        (pool.lost == 1 && pool.ready().len() == 1).then_some(())
    });
    assert!(stages(&ostler).is_empty());
    ostler.stop_clean();
}
