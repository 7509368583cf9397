//! Do reloads change listeners and pools without losing a client, and put everything back when they fail?

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ostler_tests::deadline::{SOON, alone};
use ostler_tests::http::{Connection, Failure, Keep, get_once};
use ostler_tests::load::Load;
use ostler_tests::status::SupervisorState;
use ostler_tests::target::Target;
use ostler_tests::{Ostler, programs};

/// One pool of the built-in server; `listen` is the list as TOML has it.
fn pool(name: &str, listen: &str, more: &str) -> String {
    format!("[pool.{name}]\nlisten = [{listen}]\nworkers = 2\nconcurrency = 4\n{more}\n")
}

fn reload(ostler: &Ostler, config: &str) {
    ostler.rewrite_config(config);
    let output = ostler.command(&["reload"]);
    assert_eq!(output.code, 0, "{output:?}\n{}", ostler.log());
}

/// Which pool answers there.
fn pool_at(target: &Target) -> String {
    let answer = get_once(target, "/", SOON).unwrap_or_else(|failure| panic!("{target:?}: {failure:?}"));
    answer.worker().expect("it says who it is").name.split('/').next().expect("a pool").to_owned()
}

fn is_refused(target: &Target) -> bool {
    matches!(get_once(target, "/", SOON), Err(Failure::Refused))
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("a path that is listened on").permissions().mode() & 0o777
}

#[test]
fn a_listener_comes_and_goes_under_load() {
    let _machine = alone();
    let tcp = Target::free_tcp();
    let only = pool("web", r#""unix:web.sock""#, "");
    let both = pool("web", &format!(r#""unix:web.sock", "{}""#, tcp.listen()), "");
    let mut ostler = Ostler::builder().config(only.clone()).start();
    let before = ostler.descriptor_count();
    let load = Load::on(&ostler.unix("web.sock")).clients(32).path("/sleep/1").start();
    load.wait_for_more(50);
    assert!(is_refused(&tcp));
    reload(&ostler, &both);
    assert_eq!(pool_at(&tcp), "web");
    assert_eq!(ostler.status().only().listeners.len(), 2);
    let guests = Load::on(&tcp).clients(8).start();
    guests.wait_for_more(50);
    guests.stop().assert_no_failure();
    reload(&ostler, &only);
    ostler.wait_log(&["no longer listening on", &tcp.listen()]);
    assert!(is_refused(&tcp));
    load.wait_for_more(50);
    load.stop().assert_no_failure();
    let status = ostler.status();
    assert_eq!((status.only().lost, status.only().shed_total()), (0, 0));
    ostler.wait_descriptor_count(before);
    ostler.stop_clean();
}

#[test]
fn whoever_waits_at_a_listener_that_goes_is_served() {
    let mut ostler = Ostler::builder()
        .config("[pool.web]\nlisten = [\"unix:a.sock\", \"unix:b.sock\"]\nworkers = 1\nqueue = { limit = 1 }\n")
        .start();
    // One is served, one waits in the line, the others in the kernel's queue.
    let going = ostler.unix("b.sock");
    let mut clients: Vec<Connection> = (0..6)
        .map(|_| {
            let mut client = Connection::open(&going, SOON).expect("there is room in the queue");
            client.ask("/sleep/50", Keep::Once).expect("a request is short");
            client
        })
        .collect();
    reload(&ostler, "[pool.web]\nlisten = [\"unix:a.sock\"]\nworkers = 1\nqueue = { limit = 1 }\n");
    assert!(is_refused(&going));
    for client in &mut clients {
        assert_eq!(client.answer().expect("served").status, 200);
    }
    ostler.wait_log(&["no longer listening on unix:b.sock"]);
    assert!(!ostler.scratch().path("b.sock").exists() && !ostler.scratch().path("b.sock.lock").exists());
    ostler.stop_clean();
}

#[test]
fn nobody_can_connect_to_a_new_listener_before_the_commit() {
    let command = programs::toml(&programs::slow_start(500));
    let old = pool("web", r#""unix:a.sock""#, &format!("command = {command}"));
    let new = pool("web", r#""unix:a.sock", "unix:b.sock""#, &format!("command = {command}"));
    let mut ostler = Ostler::builder().config(old).start();
    ostler.rewrite_config(&new);
    assert_eq!(ostler.command(&["reload", "--no-wait"]).code, 0);
    let coming = ostler.unix("b.sock");
    ostler.wait_status("the reload is under way", |status| {
        (status.state == SupervisorState::Reloading && status.only().workers.len() > 2).then_some(())
    });
    assert!(is_refused(&coming), "bound, and not listened on");
    ostler.wait_status("the reload is complete", |status| (status.only().generation == 2).then_some(()));
    assert_eq!(pool_at(&coming), "web");
    ostler.stop_clean();
}

#[test]
fn an_occupied_port_undoes_the_reload_before_a_worker_has_started() {
    let _machine = alone();
    let occupied = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = occupied.local_addr().expect("bound").port();
    let old = pool("web", r#""unix:web.sock""#, "");
    let new = pool("web", &format!(r#""unix:web.sock", "unix:other.sock", "tcp:127.0.0.1:{port}""#), "");
    let mut ostler = Ostler::builder().config(old).start();
    let before = ostler.descriptor_count();
    let serving: Vec<Option<u64>> = ostler.status().only().workers.iter().map(|worker| worker.id).collect();
    let load = Load::on(&ostler.unix("web.sock")).clients(32).path("/sleep/1").start();
    load.wait_for_more(50);
    ostler.rewrite_config(&new);
    let output = ostler.command(&["reload"]);
    assert_eq!(output.code, 3, "{output:?}");
    assert!(output.stderr.contains("another program listens there"), "{output:?}");
    load.wait_for_more(50);
    load.stop().assert_no_failure();
    let status = ostler.status();
    assert_eq!(status.only().workers.iter().map(|worker| worker.id).collect::<Vec<_>>(), serving);
    assert_eq!((status.only().generation, status.only().listeners.len()), (1, 1));
    assert!(!ostler.scratch().path("other.sock").exists(), "what was bound is gone again");
    ostler.wait_descriptor_count(before);
    // The port is free now, and the same file works.
    drop(occupied);
    reload(&ostler, &new);
    assert_eq!(pool_at(&ostler.unix("other.sock")), "web");
    ostler.stop_clean();
}

#[test]
fn pools_appear_and_disappear_under_load() {
    let _machine = alone();
    let (web, api) = (pool("web", r#""unix:web.sock""#, ""), pool("api", r#""unix:api.sock""#, ""));
    let mut ostler = Ostler::builder().config(web.clone()).start();
    let before = ostler.descriptor_count();
    let load = Load::on(&ostler.unix("web.sock")).clients(32).path("/sleep/1").start();
    load.wait_for_more(50);
    let appearing = ostler.unix("api.sock");
    for _ in 0..3 {
        reload(&ostler, &format!("{api}{web}"));
        assert_eq!(pool_at(&appearing), "api");
        let guests = Load::on(&appearing).clients(8).path("/sleep/1").start();
        guests.wait_for_more(50);
        guests.stop().assert_no_failure();
        // The last client of a pool that goes is served to the end.
        let mut last = Connection::open(&appearing, SOON).expect("it listens");
        last.ask("/sleep/300", Keep::Once).expect("a request is short");
        ostler.wait_status("it is held", |status| (status.pool("api").claimed == 1).then_some(()));
        let output = {
            ostler.rewrite_config(&web);
            ostler.command(&["reload"])
        };
        assert!(output.code == 0 && output.stdout.contains("api removed"), "{output:?}");
        assert!(is_refused(&appearing));
        assert_eq!(last.answer().expect("served").status, 200);
        ostler.wait_status("it is gone", |status| (status.pools.len() == 1).then_some(()));
    }
    load.wait_for_more(50);
    load.stop().assert_no_failure();
    ostler.wait_descriptor_count(before);
    ostler.stop_clean();
}

#[test]
fn a_pool_that_cannot_start_leaves_no_trace() {
    let _machine = alone();
    let web = pool("web", r#""unix:web.sock""#, "");
    let broken = pool("api", r#""unix:api.sock""#, r#"command = ["/bin/sh", "-c", "echo no key >&2; exit 7"]"#);
    let mut ostler = Ostler::builder().config(web.clone()).start();
    let before = ostler.descriptor_count();
    let load = Load::on(&ostler.unix("web.sock")).clients(32).path("/sleep/1").start();
    load.wait_for_more(50);
    ostler.rewrite_config(&format!("{web}{broken}"));
    let output = ostler.command(&["reload"]);
    assert_eq!(output.code, 3, "{output:?}");
    assert!(output.stderr.contains("exit code 7") && output.stderr.contains("no key"), "{output:?}");
    load.wait_for_more(50);
    load.stop().assert_no_failure();
    let status = ostler.wait_status("only the old pool", |status| (status.pools.len() == 1).then(|| status.clone()));
    assert_eq!(status.only().reload.last, "undone");
    assert!(!ostler.scratch().path("api.sock").exists());
    ostler.wait_descriptor_count(before);
    ostler.stop_clean();
}

#[test]
fn pools_can_trade_their_addresses() {
    let config = |a: &str, b: &str| {
        format!("{}{}", pool("one", &format!("\"unix:{a}\""), ""), pool("two", &format!("\"unix:{b}\""), ""))
    };
    let mut ostler = Ostler::builder().config(config("a.sock", "b.sock")).start();
    let (a, b) = (ostler.unix("a.sock"), ostler.unix("b.sock"));
    assert_eq!((pool_at(&a), pool_at(&b)), ("one".to_owned(), "two".to_owned()));
    let load = Load::on(&a).clients(8).path("/sleep/1").start();
    load.wait_for_more(50);
    reload(&ostler, &config("b.sock", "a.sock"));
    assert_eq!((pool_at(&a), pool_at(&b)), ("two".to_owned(), "one".to_owned()));
    load.wait_for_more(50);
    load.stop().assert_no_failure();
    let output = {
        ostler.rewrite_config(&config("a.sock", "b.sock"));
        ostler.command(&["reload", "one"])
    };
    assert_eq!(output.code, 3, "{output:?}");
    assert!(output.stderr.contains("reload two as well"), "{output:?}");
    ostler.stop_clean();
}

#[test]
fn only_the_pools_that_are_named_change() {
    let mut ostler = Ostler::builder()
        .config(format!("{}{}", pool("a", r#""unix:a.sock""#, ""), pool("b", r#""unix:b.sock""#, "")))
        .start();
    ostler.rewrite_config(&format!("{}{}", pool("a", r#""unix:a2.sock""#, ""), pool("c", r#""unix:c.sock""#, "")));
    assert_eq!(ostler.command(&["reload", "a"]).code, 0);
    assert_eq!(pool_at(&ostler.unix("a2.sock")), "a");
    assert_eq!(pool_at(&ostler.unix("b.sock")), "b");
    assert!(!ostler.scratch().path("c.sock").exists());
    let output = ostler.command(&["reload", "d"]);
    assert!(output.code == 3 && output.stderr.contains("no pool d"), "{output:?}");
    ostler.stop_clean();
}

#[test]
fn permissions_follow_a_reload_and_come_back_with_its_undo() {
    let with = |socket: &str, command: &str| pool("web", r#""unix:web.sock""#, &format!("{socket}\n{command}"));
    let mut ostler = Ostler::builder().config(with("", "")).start();
    let path = ostler.scratch().path("web.sock");
    let first = mode(&path);
    reload(&ostler, &with("socket = { mode = \"0600\", backlog = 7 }", ""));
    assert_eq!(mode(&path), 0o600);
    ostler.rewrite_config(&with("socket = { mode = \"0666\" }", r#"command = ["/bin/false"]"#));
    assert_eq!(ostler.command(&["reload"]).code, 3);
    assert_eq!(mode(&path), 0o600);
    reload(&ostler, &with("", ""));
    assert_eq!(mode(&path), first, "as if nothing had ever been said");
    ostler.stop_clean();
}

#[test]
fn a_stop_during_a_reload_that_adds_a_pool_leaves_nothing_behind() {
    let web = pool("web", r#""unix:web.sock""#, "");
    let slow = pool("api", r#""unix:api.sock""#, r#"command = ["/bin/sleep", "600"]"#);
    let mut ostler = Ostler::builder().config(web.clone()).start();
    ostler.rewrite_config(&format!("{web}{slow}"));
    assert_eq!(ostler.command(&["reload", "--no-wait"]).code, 0);
    ostler.wait_status("the new pool starts", |status| (status.pools.len() == 2).then_some(()));
    ostler.stop_clean();
    assert!(!ostler.scratch().path("api.sock").exists() && !ostler.scratch().path("api.sock.lock").exists());
}
