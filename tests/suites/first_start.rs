//! Is the first thing that anybody tries answered, and does it end without a trace?

use std::time::Duration;

use nix::sys::signal::Signal;
use ostler_tests::bounded;
use ostler_tests::builder::Control;
use ostler_tests::deadline::{SOON, wait_for, wait_until};
use ostler_tests::http::{self, Connection, Keep};
use ostler_tests::load::Load;
use ostler_tests::notify::Manager;
use ostler_tests::{Ostler, Scratch};

const HELLO: &str = "ostler-hello.sock";
const PATIENCE: Duration = Duration::from_secs(20);

fn curl(ostler: &Ostler, urls: &[&str]) -> bounded::Output {
    let mut command = std::process::Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "20", "--write-out", "connects=%{num_connects}\\n"]);
    command.args(["--unix-socket", HELLO]).args(urls).current_dir(ostler.scratch().dir());
    bounded::run(&mut command, PATIENCE * 2)
}

#[test]
fn run_without_anything_answers_curl() {
    let mut ostler = Ostler::builder().start();
    let output = curl(&ostler, &["http://localhost/"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.contains("worker=hello/"), "{output:?}");
    assert!(output.stdout.contains("pid="), "{output:?}");
    ostler.wait_log(&["curl --unix-socket ostler-hello.sock"]);
    ostler.stop_clean();
}

#[test]
fn ten_requests_of_curl_share_one_connection() {
    let mut ostler = Ostler::builder().start();
    let output = curl(&ostler, &["http://localhost/?n=[1-10]"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(output.stdout.matches("worker=hello/").count(), 10, "{output:?}");
    assert_eq!(output.stdout.matches("connects=1").count(), 1, "{output:?}");
    assert_eq!(output.stdout.matches("connects=0").count(), 9, "{output:?}");
    ostler.wait_status("the one connection is done", |status| (status.only().done == 1).then_some(()));
    assert_eq!(ostler.status().only().accepted, 1);
    ostler.stop_clean();
}

#[test]
fn term_ends_with_0_and_leaves_neither_path_nor_lock_nor_process() {
    for signal in [Signal::SIGTERM, Signal::SIGQUIT] {
        let mut ostler = Ostler::builder().start();
        let path = ostler.scratch().path(HELLO);
        let lock = ostler.scratch().path("ostler-hello.sock.lock");
        assert!(path.exists());
        assert!(lock.exists());
        let workers = ostler.status().only().pids();
        assert!(workers.len() >= 2, "at least 2 workers by default");
        assert!(workers.iter().all(|worker| ostler.owns(*worker)), "the harness would not see a leak");
        ostler.signal(signal);
        assert_eq!(ostler.wait(SOON).code, 0, "{}", ostler.log());
        assert!(!path.exists());
        assert!(!lock.exists());
        assert!(!ostler.control().expect("given").exists());
        ostler.assert_no_process_left();
    }
}

#[test]
fn a_free_choice_of_listeners_is_answered_on_each() {
    let scratch = Scratch::new();
    let unix = ostler_tests::Target::Unix(scratch.path("web.sock"));
    let name = ostler_tests::Target::Abstract(format!("ostler-first-{}", std::process::id()));
    let tcp = ostler_tests::Target::free_tcp();
    let targets = [unix, name, tcp];
    let listen = targets.iter().flat_map(|target| ["--listen".to_owned(), target.listen()]);
    let mut ostler = ostler_tests::Builder::new(&scratch).args(listen).start();
    for target in &targets {
        let answer = http::get_once(target, "/", PATIENCE).unwrap_or_else(|failure| panic!("{target:?}: {failure}"));
        assert!(answer.worker().expect("a hello").name.starts_with("main/"), "{answer:?}");
    }
    let status = ostler.status();
    let shown: Vec<String> = targets.iter().map(ostler_tests::Target::listen).collect();
    assert_eq!(status.only().listeners, shown);
    assert_eq!(status.only().accepted, 3);
    ostler.stop_clean();
}

#[test]
fn the_service_manager_hears_ready_reloading_and_stopping() {
    let scratch = Scratch::new();
    let mut manager = Manager::at(scratch.path("notify"));
    let socket = manager.path().display().to_string();
    let mut ostler = ostler_tests::Builder::new(&scratch).env("NOTIFY_SOCKET", socket).start();
    manager.wait_for("READY=1", SOON);
    manager.wait_for("STATUS=", SOON);
    assert_eq!(ostler.command(&["reload"]).code, 0);
    manager.wait_for("RELOADING=1", SOON);
    manager.wait_for("MONOTONIC_USEC=", SOON);
    wait_until(SOON, "READY=1 after the reload", || {
        manager.said().iter().filter(|line| *line == "READY=1").count() == 2
    });
    ostler.stop_clean();
    manager.wait_for("STOPPING=1", SOON);
}

#[test]
fn four_clients_are_spread_evenly_over_sixteen_idle_workers() {
    let mut ostler =
        Ostler::builder().args(["--listen", "unix:web.sock", "--workers", "16", "--concurrency", "1"]).start();
    let tally = Load::on(&ostler.unix("web.sock")).clients(4).path("/sleep/1").requests_each(400).run();
    tally.assert_no_failure();
    assert_eq!(tally.workers.len(), 16, "{:?}", tally.workers);
    assert!(tally.unfairness() < 1.5, "{:?}", tally.workers);
    ostler.stop_clean();
}

#[test]
fn every_route_of_the_hello_server_does_what_it_says() {
    let mut ostler = Ostler::builder().start();
    let target = ostler.unix(HELLO);
    for path in ["/", "/sleep/1", "/spin/10"] {
        assert!(http::get_once(&target, path, PATIENCE).expect(path).worker().is_some(), "{path}");
    }
    assert_eq!(http::get_once(&target, "/bytes/70000", PATIENCE).expect("bytes").body.len(), 70_000);
    let who = http::get_once(&target, "/who", PATIENCE).expect("who").text();
    assert!(who.contains(&format!("uid={}", nix::unistd::getuid())), "{who}");
    assert!(who.contains(&format!("pid={}", std::process::id())), "{who}");
    let mut connection = Connection::open(&target, PATIENCE).expect("open");
    assert_eq!(connection.get("/nowhere", Keep::Alive).expect("an answer").status, 404);
    assert_eq!(connection.get("/", Keep::Alive).expect("the connection goes on").status, 200);
    ostler.stop_clean();
}

#[test]
fn a_worker_that_exits_or_aborts_by_its_route_is_replaced() {
    let mut ostler = Ostler::builder().args(["--listen", "unix:web.sock", "--workers", "2"]).start();
    let target = ostler.unix("web.sock");
    for (path, code, signal) in [("/exit/3", Some(3), None), ("/abort", None, Some(Signal::SIGABRT as i32))] {
        let _ = http::get_once(&target, path, PATIENCE);
        ostler.wait_status(&format!("{path} shows, and both workers are ready again"), |status| {
            let exits: Vec<_> = status.only().workers.iter().filter_map(|worker| worker.last_exit.clone()).collect();
            let shows = exits.iter().any(|exit| exit.code == code && exit.signal == signal);
            (shows && status.only().ready().len() == 2).then_some(())
        });
    }
    http::get_once(&target, "/", PATIENCE).expect("served as before");
    let status = ostler.status();
    assert_eq!(status.check_books(), Ok(()));
    assert_eq!(status.only().lost, 2);
    ostler.stop_clean();
}

#[test]
fn a_status_has_every_key_of_the_contract() {
    let mut ostler = Ostler::builder().start();
    let output = ostler.command(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
    let has = |value: &serde_json::Value, keys: &str| {
        for key in keys.split(' ') {
            assert!(value.get(key).is_some(), "{key} is missing in {value}");
        }
    };
    has(&status, "version pid uptime_s state pools");
    let pool = &status["pools"][0];
    has(pool, "name state generation handoff listeners target accepted done lost shed waiting claimed");
    has(pool, "handed recalled redelivered stuck queue service_ms reload workers");
    has(&pool["queue"], "length limit delay_ms");
    has(&pool["queue"]["delay_ms"], "p50 p99");
    has(&pool["service_ms"], "p50 p99");
    has(&pool["reload"], "last reason generation");
    let worker = &pool["workers"][0];
    has(
        worker,
        "slot generation id pid state claimed waiting done capacity age_s connection_s request_s rss_bytes restarts last_exit says \
         estimated",
    );
    assert_eq!(pool["service_ms"]["p50"], serde_json::Value::Null, "nothing was measured");
    assert_eq!(pool["reload"]["last"], "none");
    assert_eq!(status["pid"], ostler.pid());
    ostler.stop_clean();
}

#[test]
fn a_worker_inherits_its_own_descriptors_and_its_own_group_only() {
    let mut ostler = Ostler::builder()
        .prologue("exec 9</etc/passwd;")
        .args(["--listen", "unix:web.sock", "--workers", "1"])
        .worker(["sleep", "600"])
        .start_unready();
    let pid = ostler.wait_status("a worker process", |status| status.only().pids().first().copied());
    let command = || std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    wait_until(SOON, "the worker's program runs", || command().starts_with(b"sleep"));
    // While it starts it reads files of its own.
    let open = wait_for(SOON, "no descriptor but these", || {
        Some(ostler_tests::procs::descriptors(pid)).filter(|open| open.len() == 8)
    });
    assert!(open[0].starts_with("0 -> /dev/null"), "{open:#?}");
    assert!(open[1].starts_with("1 -> pipe:") && open[2].starts_with("2 -> pipe:"), "{open:#?}");
    assert!(open[3].starts_with("3 -> socket:") && open[4].starts_with("4 -> socket:"), "{open:#?}");
    assert!(open[5].starts_with("5 -> /memfd:ostler-region"), "{open:#?}");
    assert!(open[6].starts_with("6 -> /memfd:ostler-gauges"), "{open:#?}");
    assert!(open[7].starts_with("7 -> anon_inode:[eventfd]"), "{open:#?}");
    let stat = ostler_tests::procs::stat(pid).expect("it runs");
    assert_eq!((stat.group, stat.parent), (pid, ostler.pid()));
    let environment = std::fs::read(format!("/proc/{pid}/environ")).expect("ours");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    let fds = "control:4,region:5,gauges:6,doorbell:7";
    let has = |pair: &str| environment.split('\0').any(|found| found == pair);
    for pair in ["OSTLER_PROTOCOL=1", "OSTLER_POOL=main", "OSTLER_WORKER=0.1", &format!("OSTLER_FDS={fds}")] {
        assert!(has(pair), "{pair} is missing in {environment}");
    }
    ostler.signal(Signal::SIGINT);
    ostler.wait(SOON);
}

#[test]
fn the_default_control_socket_is_private_and_found_by_itself() {
    use std::os::unix::fs::PermissionsExt;
    let mut ostler = Ostler::builder().control(Control::Default).start();
    let dir = ostler.scratch().path("runtime/ostler");
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join(format!("{}.sock", ostler.pid()))), 0o600);
    assert_eq!(ostler.status().pid, ostler.pid());
    ostler.stop_clean();
}
