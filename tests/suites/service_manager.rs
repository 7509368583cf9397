//! Does it work with a service manager: sockets that are given, listeners that are kept, and word of how it is?

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::socket::{SockaddrStorage, getsockname};
use nix::time::{ClockId, clock_gettime};
use ostler_tests::activation::passing;
use ostler_tests::deadline::{SOON, wait_for, wait_until};
use ostler_tests::http::{Connection, Failure, Keep, get_once};
use ostler_tests::load::Load;
use ostler_tests::notify::Manager;
use ostler_tests::{Builder, Ostler, Scratch, Target, procs};

const PATIENCE: Duration = Duration::from_secs(20);

/// A listener of the service manager's, at a path that is the manager's too.
struct Held {
    socket: UnixListener,
    target: Target,
    path: std::path::PathBuf,
}

impl Held {
    fn at(path: std::path::PathBuf) -> Held {
        let socket = UnixListener::bind(&path).expect("a path of our own");
        Held { socket, target: Target::Unix(path.clone()), path }
    }

    fn copy(&self) -> OwnedFd {
        self.socket.try_clone().expect("descriptors to spare").into()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn listening_on(address: &str) -> String {
    format!(
        "[pool.web]\nlisten = [\"{address}\"]\nworkers = 2\nstart = {{ failures = 2, backoff = [\"10ms\", \"10ms\"] }}\n"
    )
}

fn given(scratch: &Scratch, config: &str, descriptors: Vec<(&str, OwnedFd)>) -> Builder {
    let descriptors = descriptors.into_iter().map(|(name, fd)| (name.to_owned(), fd)).collect();
    Builder::new(scratch).config(config).prologue(&passing(descriptors))
}

// ── sockets that are given ─────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn all_sockets_of_one_name_are_served_whatever_their_family() {
    let scratch = Scratch::new();
    let unix = Held::at(scratch.path("given.sock"));
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = tcp.local_addr().expect("bound");
    let both = vec![("web", unix.copy()), ("web", tcp.try_clone().expect("descriptors to spare").into())];
    let mut ostler = given(&scratch, &listening_on("fd:web"), both).start();
    for target in [&unix.target, &Target::Tcp(address)] {
        get_once(target, "/", PATIENCE).unwrap_or_else(|failure| panic!("{target:?}: {failure}"));
    }
    let shown = [format!("fd:web(unix:{})", unix.path.display()), format!("fd:web(tcp:{address})")];
    assert_eq!(ostler.status().only().listeners, shown);
    ostler.stop_clean();
}

#[test]
fn a_given_socket_outlives_a_stop_and_its_queue_is_the_next_ones() {
    let scratch = Scratch::new();
    let held = Held::at(scratch.path("given.sock"));
    let config = listening_on("fd:web");
    let mut first = given(&scratch, &config, vec![("web", held.copy())]).start();
    get_once(&held.target, "/", PATIENCE).expect("served");
    first.stop_clean();
    assert!(held.path.exists(), "it is not ours to unlink");
    let mut waiting = Connection::open(&held.target, PATIENCE).expect("it is not refused");
    waiting.ask("/", Keep::Once).expect("ask");
    let mut second = given(&scratch, &config, vec![("web", held.copy())]).start();
    assert_eq!(waiting.answer().expect("the next one serves it").status, 200);
    second.stop_clean();
}

#[test]
fn a_restart_on_given_sockets_fails_no_request() {
    let scratch = Scratch::new();
    let unix = Held::at(scratch.path("given.sock"));
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = Target::Tcp(tcp.local_addr().expect("bound"));
    let copies = || vec![("web", unix.copy()), ("web", tcp.try_clone().expect("descriptors to spare").into())];
    let config = listening_on("fd:web");
    let loads = [&unix.target, &address].map(|target| Load::on(target).clients(8).path("/sleep/1").start());
    for _ in 0..3 {
        let mut ostler = given(&scratch, &config, copies()).start();
        loads.iter().for_each(|load| load.wait_for_more(20));
        ostler.stop_clean();
    }
    let mut last = given(&scratch, &config, copies()).start();
    for load in loads {
        load.stop().assert_no_failure();
    }
    last.stop_clean();
}

#[test]
fn a_name_that_was_not_given_is_refused_with_those_that_were() {
    let scratch = Scratch::new();
    let held = Held::at(scratch.path("given.sock"));
    let refused = given(&scratch, &listening_on("fd:wbe"), vec![("web", held.copy())]).start_failing();
    assert_eq!(refused.code, 1, "{}", refused.log);
    assert!(refused.log.contains("fd:wbe") && refused.log.contains("there is web"), "{}", refused.log);
    let nothing = Builder::new(&scratch).config(listening_on("fd:web")).start_failing();
    assert!(nothing.code == 1 && nothing.log.contains("none were passed"), "{}", nothing.log);
}

#[test]
fn sockets_that_are_meant_for_another_process_are_not_taken() {
    let scratch = Scratch::new();
    let builder = Builder::new(&scratch).config(listening_on("fd:web"));
    let refused = builder.env("LISTEN_FDS", "1").env("LISTEN_PID", "1").env("LISTEN_FDNAMES", "web").start_failing();
    assert!(refused.code == 1 && refused.log.contains("LISTEN_PID is 1"), "{}", refused.log);
}

#[test]
fn what_cannot_be_listened_on_is_refused_with_a_remedy() {
    let scratch = Scratch::new();
    let datagrams = UnixDatagram::unbound().expect("a socket");
    let (stream, _other) = std::os::unix::net::UnixStream::pair().expect("a pair");
    for (wrong, word) in [(OwnedFd::from(datagrams), "not a stream socket"), (stream.into(), "does not listen")] {
        let refused = given(&scratch, &listening_on("fd:web"), vec![("web", wrong)]).start_failing();
        assert_eq!(refused.code, 1, "{}", refused.log);
        assert!(refused.log.contains(word) && refused.log.contains("ListenStream="), "{}", refused.log);
    }
}

#[test]
fn check_takes_a_name_without_its_sockets() {
    let scratch = Scratch::new();
    scratch.write("ostler.toml", &listening_on("fd:web"));
    let client = ostler_tests::client::Client::new(None, scratch);
    let output = client.command(&["check"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.contains("fd:web"), "{output:?}");
}

#[test]
fn a_worker_gets_none_of_what_a_service_manager_gave() {
    let scratch = Scratch::new();
    let held = Held::at(scratch.path("given.sock"));
    let mut manager = Manager::at(scratch.path("notify"));
    let config = format!("{}command = [\"sleep\", \"600\"]\n", listening_on("fd:web"));
    let mut ostler = given(&scratch, &config, vec![("web", held.copy()), ("other", held.copy())])
        .env("NOTIFY_SOCKET", manager.path().display().to_string())
        .env("WATCHDOG_USEC", "60000000")
        .env("FDSTORE", "8")
        .start_unready();
    ostler.wait_log(&["fd:other"]);
    let pid = ostler.wait_status("a worker process", |status| status.only().pids().first().copied());
    let command = || std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    wait_until(SOON, "the worker's program runs", || command().starts_with(b"sleep"));
    let open = procs::descriptors(pid);
    assert_eq!(open.len(), 8, "{open:#?}");
    let environment = std::fs::read(format!("/proc/{pid}/environ")).expect("ours");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "FDSTORE"] {
        assert!(!environment.split('\0').any(|pair| pair.starts_with(&format!("{name}="))), "{environment}");
    }
    ostler.signal(Signal::SIGINT);
    ostler.wait(SOON);
    assert!(manager.stored_names().is_empty(), "what was given has a keeper already");
}

// ── word of how it is ──────────────────────────────────────────────────────────────────────────────────────────────

fn managed(scratch: &Scratch, manager: &Manager) -> Builder {
    Builder::new(scratch).env("NOTIFY_SOCKET", manager.path().display().to_string())
}

#[test]
fn ready_names_the_process_and_reloading_the_time() {
    let scratch = Scratch::new();
    let mut manager = Manager::at(scratch.path("notify"));
    let mut ostler = managed(&scratch, &manager).config(listening_on("unix:web.sock")).start();
    assert_eq!(manager.wait_for("MAINPID=", SOON), format!("MAINPID={}", ostler.pid()));
    let monotonic_us = || {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
        now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000
    };
    let before = monotonic_us();
    assert_eq!(ostler.command(&["reload"]).code, 0);
    let after = monotonic_us();
    let message = manager.messages().iter().find(|lines| lines.contains(&"RELOADING=1".to_owned())).cloned();
    let message = message.expect("it said RELOADING");
    let said = message.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).expect("in the same message");
    let said: i64 = said.parse().expect("decimal");
    assert!((before..=after).contains(&said), "{before} {said} {after}");
    manager.wait_for("STATUS=reloaded: web generation 2", SOON);
    ostler.stop_clean();
}

#[test]
fn a_stop_asks_for_the_time_that_it_may_take() {
    let scratch = Scratch::new();
    let mut manager = Manager::at(scratch.path("notify"));
    let config = format!("[supervisor]\nstop_timeout = \"77s\"\n{}", listening_on("unix:web.sock"));
    let mut ostler = managed(&scratch, &manager).config(config).start();
    ostler.stop_clean();
    let stopping = manager.messages().iter().find(|lines| lines.contains(&"STOPPING=1".to_owned())).cloned();
    let stopping = stopping.expect("it said STOPPING");
    assert!(stopping.contains(&"EXTEND_TIMEOUT_USEC=82000000".to_owned()), "{stopping:?}");
    assert!(stopping.contains(&"STATUS=stopping".to_owned()), "{stopping:?}");
}

#[test]
fn a_delayed_stop_is_told_at_once_while_clients_are_still_served() {
    let scratch = Scratch::new();
    let mut manager = Manager::at(scratch.path("notify"));
    let config = format!("[supervisor]\nshutdown_delay = \"4s\"\n{}", listening_on("unix:web.sock"));
    let mut ostler = managed(&scratch, &manager).config(config).start();
    ostler.signal(Signal::SIGTERM);
    manager.wait_for("STOPPING=1", SOON);
    assert_eq!(get_once(&ostler.unix("web.sock"), "/", SOON).expect("served as before").status, 200);
    assert_eq!(ostler.wait(SOON).code, 0, "{}", ostler.log());
    let told = manager.said().iter().filter(|line| *line == "STOPPING=1").count();
    assert_eq!(told, 1);
}

#[test]
fn an_undone_reload_stays_in_the_status_with_its_reason() {
    let scratch = Scratch::new();
    let mut manager = Manager::at(scratch.path("notify"));
    let config = listening_on("unix:web.sock");
    let mut ostler = managed(&scratch, &manager).config(&config).start();
    ostler.rewrite_config(&format!("{config}command = [\"sh\", \"-c\", \"exit 7\"]\n"));
    assert_eq!(ostler.command(&["reload"]).code, 3);
    let status = manager.wait_for("STATUS=reload undone", SOON);
    assert!(status.contains("exit code 7"), "{status}");
    assert!(!manager.said().iter().any(|line| line.starts_with("STATUS=reloaded")));
    ostler.stop_clean();
}

#[test]
fn a_pool_that_is_degraded_or_given_up_is_in_the_status() {
    let scratch = Scratch::new();
    let mut manager = Manager::at(scratch.path("notify"));
    // The workers of the second life do not start.
    let script = format!("[ ! -e broken ] || exit 7; exec {} hello-worker", ostler_tests::place::ostler().display());
    let command = ostler_tests::programs::toml(&["/bin/sh".to_owned(), "-c".to_owned(), script]);
    let config = format!("{}command = {command}\n", listening_on("unix:web.sock"));
    let mut ostler = managed(&scratch, &manager).config(config).start();
    manager.wait_for("STATUS=all pools are ready", SOON);
    scratch.write("broken", "");
    let _ = get_once(&ostler.unix("web.sock"), "/exit/1", PATIENCE);
    manager.wait_for("STATUS=pool web is degraded, 1 of 2 workers ready", SOON);
    manager.wait_for("STATUS=pool web is failed, 1 of 2 workers ready", SOON);
    std::fs::remove_file(scratch.path("broken")).expect("ours");
    assert_eq!(ostler.command(&["restart", "web"]).code, 0);
    wait_until(SOON, "all is well again", || {
        manager.said().iter().rfind(|line| line.starts_with("STATUS=")).is_some_and(|line| line.ends_with("are ready"))
    });
    ostler.stop();
}

fn signs_of_life(manager: &mut Manager) -> usize {
    manager.said().iter().filter(|line| *line == "WATCHDOG=1").count()
}

#[test]
fn the_watchdog_is_fed_as_long_as_the_loop_turns() {
    let scratch = Scratch::new();
    let mut manager = Manager::at(scratch.path("notify"));
    let mut ostler =
        managed(&scratch, &manager).env("WATCHDOG_USEC", "20000").config(listening_on("unix:web.sock")).start();
    wait_until(SOON, "signs of life", || signs_of_life(&mut manager) >= 5);
    ostler.signal(Signal::SIGSTOP);
    wait_until(SOON, "it is stopped", || procs::stat(ostler.pid()).is_some_and(|stat| stat.state == 'T'));
    let before = signs_of_life(&mut manager);
    // Another one lives through ten of its periods meanwhile.
    let other_scratch = Scratch::new();
    let mut other_manager = Manager::at(other_scratch.path("notify"));
    let mut other = managed(&other_scratch, &other_manager)
        .env("WATCHDOG_USEC", "20000")
        .config(listening_on("unix:web.sock"))
        .start();
    wait_until(SOON, "ten periods", || signs_of_life(&mut other_manager) >= 10);
    assert_eq!(signs_of_life(&mut manager), before, "a loop that does not turn is not alive");
    ostler.signal(Signal::SIGCONT);
    wait_until(SOON, "signs of life again", || signs_of_life(&mut manager) > before + 2);
    ostler.stop_clean();
    other.stop_clean();
}

#[test]
fn a_watchdog_of_another_process_is_not_fed() {
    let scratch = Scratch::new();
    let mut manager = Manager::at(scratch.path("notify"));
    let mut ostler = managed(&scratch, &manager)
        .env("WATCHDOG_USEC", "20000")
        .env("WATCHDOG_PID", "1")
        .config(listening_on("unix:web.sock"))
        .start();
    get_once(&ostler.unix("web.sock"), "/sleep/200", PATIENCE).expect("it serves");
    ostler.stop_clean();
    assert_eq!(signs_of_life(&mut manager), 0);
}

// ── units ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// The first release of systemd that knows `Type=notify-reload`.
const KNOWS_NOTIFY_RELOAD: u32 = 253;

fn systemd_analyze(arguments: &[&std::ffi::OsStr]) -> ostler_tests::bounded::Output {
    ostler_tests::bounded::run(std::process::Command::new("systemd-analyze").args(arguments), PATIENCE)
}

#[test]
fn systemd_takes_every_line_of_the_units() {
    let version = systemd_analyze(&["--version".as_ref()]).stdout;
    let version: u32 = version.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a version");
    let scratch = Scratch::new();
    let ours = ostler_tests::place::workspace().join("docs/systemd");
    for name in ["ostler.service", "ostler.socket"] {
        let unit = std::fs::read_to_string(ours.join(name)).expect("it is in the repository");
        let mut unit = unit.replace("/usr/local/bin/ostler", &ostler_tests::place::ostler().display().to_string());
        if version < KNOWS_NOTIFY_RELOAD {
            // As the guide says for such a systemd.
            unit = unit.replace("Type=notify-reload", "Type=notify").replace("ReloadSignal=SIGUSR1\n", "");
        }
        scratch.write(name, &unit);
    }
    let (service, socket) = (scratch.path("ostler.service"), scratch.path("ostler.socket"));
    let output = systemd_analyze(&["verify".as_ref(), "--man=no".as_ref(), service.as_os_str(), socket.as_os_str()]);
    assert_eq!((output.code, output.text().as_str()), (0, ""));
}

// ── listeners that are kept ────────────────────────────────────────────────────────────────────────────────────────

fn kept(scratch: &Scratch, manager: &mut Manager, config: &str) -> Builder {
    let builder = managed(scratch, manager).env("FDSTORE", "8").config(config);
    let stored = manager.stored();
    if stored.is_empty() { builder } else { builder.prologue(&passing(stored)) }
}

fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).expect("it is there").ino()
}

/// Unix path, abstract name and TCP.
fn three_targets(scratch: &Scratch, mark: &str) -> ([Target; 3], String) {
    let name = Target::Abstract(format!("ostler-kept-{mark}-{}", std::process::id()));
    let targets = [Target::Unix(scratch.path("web.sock")), name, Target::free_tcp()];
    let listen: Vec<String> = targets.iter().map(Target::listen).collect();
    let config = format!("[pool.web]\nlisten = {listen:?}\nworkers = 2\nconcurrency = 16\n");
    (targets, config)
}

#[test]
fn a_restart_with_a_store_fails_no_request_and_keeps_the_path() {
    let scratch = Scratch::new();
    scratch.expect_disorder();
    let mut manager = Manager::at(scratch.path("notify"));
    let (targets, config) = three_targets(&scratch, "restart");
    let mut ostler = kept(&scratch, &mut manager, &config).start();
    wait_until(SOON, "three listeners are kept", || manager.stored_names().len() == 3);
    let path = scratch.path("web.sock");
    let first_inode = inode(&path);
    let loads: Vec<_> = targets.iter().map(|target| Load::on(target).clients(4).path("/sleep/1").start()).collect();
    for _ in 0..3 {
        loads.iter().for_each(|load| load.wait_for_more(20));
        ostler.stop_clean();
        ostler = kept(&scratch, &mut manager, &config).start();
    }
    loads.iter().for_each(|load| load.wait_for_more(20));
    for load in loads {
        load.stop().assert_no_failure();
    }
    assert_eq!(manager.stored_names().len(), 3, "no more than before: {:?}", manager.stored_names());
    assert_eq!(inode(&path), first_inode);
    let shown: Vec<String> = targets.iter().map(Target::listen).collect();
    assert_eq!(ostler.status().only().listeners, shown);
    ostler.stop_clean();
}

#[test]
fn after_a_kill_the_next_one_serves_who_came_meanwhile() {
    let scratch = Scratch::new();
    let mut manager = Manager::at(scratch.path("notify"));
    let (targets, config) = three_targets(&scratch, "kill");
    let mut first = kept(&scratch, &mut manager, &config).start();
    wait_until(SOON, "three listeners are kept", || manager.stored_names().len() == 3);
    first.signal(Signal::SIGKILL);
    first.wait(SOON);
    let mut waiting: Vec<Connection> = targets
        .iter()
        .map(|target| {
            let mut connection = Connection::open(target, PATIENCE).unwrap_or_else(|e| panic!("{target:?}: {e}"));
            connection.ask("/", Keep::Once).expect("ask");
            connection
        })
        .collect();
    let mut second = kept(&scratch, &mut manager, &config).start();
    for connection in &mut waiting {
        assert_eq!(connection.answer().expect("served by the second").status, 200);
    }
    second.stop_clean();
}

#[test]
fn what_no_pool_listens_on_any_more_is_given_back() {
    let scratch = Scratch::new();
    scratch.expect_disorder();
    let mut manager = Manager::at(scratch.path("notify"));
    let (targets, config) = three_targets(&scratch, "stale");
    let mut first = kept(&scratch, &mut manager, &config).start();
    wait_until(SOON, "three listeners are kept", || manager.stored_names().len() == 3);
    first.stop_clean();
    let mut second = kept(&scratch, &mut manager, &listening_on(&targets[0].listen())).start();
    wait_until(SOON, "one is left", || manager.stored_names().len() == 1);
    assert!(manager.stored_names()[0].ends_with("web.sock"), "{:?}", manager.stored_names());
    get_once(&targets[0], "/", PATIENCE).expect("served");
    for gone in &targets[1..] {
        wait_until(SOON, "nobody listens there", || get_once(gone, "/", PATIENCE) == Err(Failure::Refused));
    }
    second.stop_clean();
}

/// What is kept, ascending: the name, what the socket is bound to, and its inode, which no other socket has.
fn what_is_kept(manager: &mut Manager) -> Vec<(String, String, u64)> {
    let inode = |fd: &OwnedFd| nix::sys::stat::fstat(fd).expect("an open descriptor").st_ino;
    let stored = manager.stored();
    let mut kept: Vec<_> = stored.iter().map(|(name, fd)| (name.clone(), bound_to(fd).listen(), inode(fd))).collect();
    kept.sort();
    kept
}

fn bound_to(socket: &OwnedFd) -> Target {
    let bound: SockaddrStorage = getsockname(socket.as_raw_fd()).expect("a socket");
    if let Some(v4) = bound.as_sockaddr_in() {
        return Target::Tcp(SocketAddr::V4((*v4).into()));
    }
    let unix = bound.as_unix_addr().expect("Unix or TCP over IPv4");
    match (unix.path(), unix.as_abstract()) {
        (Some(path), _) => Target::Unix(path.to_owned()),
        (None, name) => Target::Abstract(String::from_utf8_lossy(name.expect("bound")).into_owned()),
    }
}

/// Exactly these are kept, each as the socket that the supervisor itself listens on.
fn wait_kept(ostler: &Ostler, manager: &mut Manager, wanted: &[&Target]) -> Vec<(String, String, u64)> {
    let mut wanted: Vec<String> = wanted.iter().map(|target| target.listen()).collect();
    wanted.sort();
    wait_for(SOON, &format!("{wanted:?} are kept and nothing else"), || {
        let kept = what_is_kept(manager);
        let mut bound: Vec<String> = kept.iter().map(|(_, bound, _)| bound.clone()).collect();
        bound.sort();
        let open = procs::descriptors(ostler.pid());
        let is_open = |inode: u64| open.iter().any(|open| open.ends_with(&format!("-> socket:[{inode}]")));
        (bound == wanted && kept.iter().all(|(_, _, inode)| is_open(*inode))).then_some(kept)
    })
}

/// What was said about the store, in order.
fn about_the_store(manager: &mut Manager) -> Vec<Vec<String>> {
    let messages = manager.messages().iter();
    messages.filter(|lines| lines.iter().any(|line| line.starts_with("FDSTORE"))).cloned().collect()
}

fn pool_at(name: &str, targets: &[&Target], more: &str) -> String {
    let listen: Vec<String> = targets.iter().map(|target| target.listen()).collect();
    format!("[pool.{name}]\nlisten = {listen:?}\nworkers = 1\nconcurrency = 16\n{more}\n")
}

#[test]
fn after_a_reload_exactly_the_listeners_that_are_left_and_new_are_kept() {
    let scratch = Scratch::new();
    scratch.expect_disorder();
    let mut manager = Manager::at(scratch.path("notify"));
    let ([stays, old_name, old_tcp], _) = three_targets(&scratch, "before");
    let [parts, new, appears] = ["parts.sock", "new.sock", "appears.sock"].map(|name| Target::Unix(scratch.path(name)));
    let (new_name, new_tcp) = (Target::Abstract(format!("ostler-after-{}", std::process::id())), Target::free_tcp());
    let before = format!("{}{}", pool_at("web", &[&stays, &old_name, &old_tcp], ""), pool_at("parts", &[&parts], ""));
    let after =
        format!("{}{}", pool_at("web", &[&stays, &new, &new_name, &new_tcp], ""), pool_at("appears", &[&appears], ""));
    let mut ostler = kept(&scratch, &mut manager, &before).start();
    let at_first = wait_kept(&ostler, &mut manager, &[&stays, &old_name, &old_tcp, &parts]);
    ostler.rewrite_config(&after);
    assert_eq!(ostler.command(&["reload"]).code, 0, "{}", ostler.log());
    let current = [&stays, &new, &new_name, &new_tcp, &appears];
    let at_last = wait_kept(&ostler, &mut manager, &current);
    let same: Vec<&String> = at_last.iter().filter(|kept| at_first.contains(kept)).map(|(_, bound, _)| bound).collect();
    assert_eq!(same, [&stays.listen()], "what stays is the same socket");
    let removals =
        about_the_store(&mut manager).iter().filter(|lines| lines.contains(&"FDSTOREREMOVE=1".to_owned())).count();
    assert_eq!(removals, 3, "one for each that is gone");
    for gone in [&old_name, &old_tcp, &parts] {
        wait_until(SOON, "nobody listens there", || get_once(gone, "/", PATIENCE) == Err(Failure::Refused));
    }
    wait_until(SOON, "its path is gone", || !scratch.path("parts.sock").exists());
    // They are kept for this: the next start refuses nobody.
    ostler.stop_clean();
    let mut waiting = current.map(|target| Connection::open(target, PATIENCE).expect("it is not refused"));
    waiting.iter_mut().for_each(|connection| connection.ask("/", Keep::Once).expect("room for a request"));
    let mut next = kept(&scratch, &mut manager, &after).start();
    for connection in &mut waiting {
        assert_eq!(connection.answer().expect("served by the next one").status, 200);
    }
    assert_eq!(wait_kept(&next, &mut manager, &current), at_last);
    next.stop_clean();
}

#[test]
fn listeners_with_addresses_that_look_alike_are_kept_apart() {
    let scratch = Scratch::new();
    scratch.expect_disorder();
    let mut manager = Manager::at(scratch.path("notify"));
    let alike = ["a b.sock", "a_b.sock", "a:b.sock"].map(|name| Target::Unix(scratch.path(name)));
    let all = pool_at("web", &alike.each_ref(), "");
    let mut first = kept(&scratch, &mut manager, &all).start();
    let before = wait_kept(&first, &mut manager, &alike.each_ref());
    first.stop_clean();
    // Asked for in another order, each is found again.
    let [one, two, three] = &alike;
    let mut second = kept(&scratch, &mut manager, &pool_at("web", &[three, two, one], "")).start();
    assert_eq!(wait_kept(&second, &mut manager, &alike.each_ref()), before);
    second.rewrite_config(&pool_at("web", &[two], ""));
    assert_eq!(second.command(&["reload"]).code, 0, "{}", second.log());
    let after = wait_kept(&second, &mut manager, &[two]);
    assert!(before.contains(&after[0]), "{before:?} {after:?}");
    second.stop_clean();
}

#[test]
fn an_undone_reload_leaves_what_is_kept_as_it_was() {
    let scratch = Scratch::new();
    scratch.expect_disorder();
    let mut manager = Manager::at(scratch.path("notify"));
    let (targets, config) = three_targets(&scratch, "undone");
    let stays = &targets[0];
    let new = Target::Unix(scratch.path("new.sock"));
    let somebody = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let occupied = Target::Tcp(somebody.local_addr().expect("bound"));
    let mut ostler = kept(&scratch, &mut manager, &config).start();
    let before = wait_kept(&ostler, &mut manager, &targets.each_ref());
    let said_before = about_the_store(&mut manager);
    let fails = r#"command = ["sh", "-c", "exit 7"]"#;
    let undone = [
        // Two listeners go and one comes; the workers of the pool fail, of another one, or it cannot be listened on.
        pool_at("web", &[stays, &new], fails),
        format!("{}{}", pool_at("web", &[stays], ""), pool_at("new", &[&new], fails)),
        pool_at("web", &[stays, &new, &occupied], ""),
    ];
    for bad in &undone {
        ostler.rewrite_config(bad);
        let said = ostler.command(&["reload"]);
        assert_eq!(said.code, 3, "{bad}: {said:?}");
        assert_eq!(wait_kept(&ostler, &mut manager, &targets.each_ref()), before, "{bad}");
        assert_eq!(about_the_store(&mut manager), said_before, "{bad}: not even for a moment");
        assert!(!scratch.path("new.sock").exists() && !scratch.path("new.sock.lock").exists(), "{bad}");
    }
    ostler.rewrite_config(&pool_at("web", &[stays, &new], ""));
    assert_eq!(ostler.command(&["reload"]).code, 0, "it can be had");
    wait_kept(&ostler, &mut manager, &[stays, &new]);
    ostler.stop_clean();
}

#[test]
fn a_path_that_somebody_took_meanwhile_is_left_to_him() {
    let scratch = Scratch::new();
    scratch.expect_disorder();
    let mut manager = Manager::at(scratch.path("notify"));
    let config = listening_on("unix:web.sock");
    let mut first = kept(&scratch, &mut manager, &config).start();
    wait_until(SOON, "it is kept", || manager.stored_names().len() == 1);
    first.stop_clean();
    std::fs::remove_file(scratch.path("web.sock")).expect("it stayed");
    let thief = Held::at(scratch.path("web.sock"));
    let refused = kept(&scratch, &mut manager, &config).start_failing();
    assert_eq!(refused.code, 1, "{}", refused.log);
    assert!(refused.log.contains("in use"), "{}", refused.log);
    drop(thief.target.connect(PATIENCE).expect("he listens on"));
}

#[test]
fn a_path_that_is_gone_is_made_anew() {
    let scratch = Scratch::new();
    scratch.expect_disorder();
    let mut manager = Manager::at(scratch.path("notify"));
    let config = listening_on("unix:web.sock");
    let mut first = kept(&scratch, &mut manager, &config).start();
    wait_until(SOON, "it is kept", || manager.stored_names().len() == 1);
    first.stop_clean();
    let old = manager.stored();
    std::fs::remove_file(scratch.path("web.sock")).expect("it stayed");
    let mut second = kept(&scratch, &mut manager, &config).start();
    second.wait_log(&["RuntimeDirectoryPreserve=restart"]);
    get_once(&second.unix("web.sock"), "/", PATIENCE).expect("served");
    let cookie = |fd: &OwnedFd| ostler_shared::sys::socket::cookie(std::os::fd::AsFd::as_fd(fd)).expect("a socket");
    wait_until(SOON, "the new one is kept, the old one is not", || {
        let stored = manager.stored();
        stored.len() == 1 && cookie(&stored[0].1) != cookie(&old[0].1)
    });
    assert!(old[0].1.as_raw_fd() > 2);
    second.stop_clean();
}

#[test]
fn more_listeners_than_the_store_has_room_for_are_our_own() {
    let scratch = Scratch::new();
    scratch.expect_disorder();
    let mut manager = Manager::at(scratch.path("notify"));
    let config = "[pool.web]\nlisten = [\"unix:one.sock\", \"unix:two.sock\"]\nworkers = 1\n";
    let mut ostler = managed(&scratch, &manager).env("FDSTORE", "1").config(config).start();
    ostler.wait_log(&["two.sock", "FileDescriptorStoreMax=1"]);
    wait_until(SOON, "one is kept", || manager.stored_names().len() == 1);
    ostler.stop_clean();
    assert!(scratch.path("one.sock").exists(), "it is the next one's");
    assert!(!scratch.path("two.sock").exists());
}

#[test]
fn without_a_store_nothing_is_left_behind() {
    let scratch = Scratch::new();
    let mut manager = Manager::at(scratch.path("notify"));
    let mut ostler: Ostler = managed(&scratch, &manager).config(listening_on("unix:web.sock")).start();
    ostler.stop_clean();
    assert!(manager.stored_names().is_empty());
    assert!(!scratch.path("web.sock").exists());
}
