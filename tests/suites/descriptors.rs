//! What becomes of connections when a worker has no descriptor left to receive them?

use ostler_tests::Ostler;
use ostler_tests::load::Load;
use ostler_tests::programs;
use ostler_tests::status::Pool;

const CLIENTS: usize = 16;

fn config(how: &str, concurrency: u32, nofile: u32) -> String {
    let command = programs::toml(&programs::fd_glutton(how));
    format!(
        r#"
        [pool.web]
        listen = ["unix:web.sock"]
        command = {command}
        workers = 2
        concurrency = {concurrency}
        process = {{ nofile = {nofile} }}
        start = {{ failures = 1000, backoff = ["10ms", "50ms"] }}
        queue = {{ timeout = "60s" }}
        drain = {{ timeout = "2s", kill_after = "1s" }}
        "#
    )
}

/// Lets handlers eat all descriptors while others wait; answers with the books afterwards.
fn glut(concurrency: u32, nofile: u32) -> Pool {
    let mut ostler = Ostler::builder().config(config("return", concurrency, nofile)).start();
    let tally = Load::on(&ostler.unix("web.sock")).clients(CLIENTS).requests_each(40).run();
    println!("concurrency {concurrency}: {tally}");
    let pool = ostler.wait_status("idle", |status| status.only().is_idle().then(|| status.only().clone()));
    assert_eq!(pool.check_books(), Ok(()));
    assert_eq!(pool.accepted, tally.connects);
    // Whatever a client missed is in the books and in the log.
    assert!(tally.failed() <= pool.lost, "{tally}; {pool:?}");
    if pool.lost > 0 {
        ostler.wait_log(&["no free descriptor", "process.nofile"]);
    }
    ostler.stop();
    ostler.assert_no_process_left();
    pool
}

#[test]
fn a_handler_that_opens_everything_costs_nobody_a_connection_at_concurrency_1() {
    let pool = glut(1, 32);
    assert_eq!(pool.lost, 0, "{pool:?}");
}

#[test]
fn handlers_that_open_everything_cost_nobody_a_connection_at_concurrency_8() {
    let pool = glut(8, 48);
    assert_eq!(pool.lost, 0, "{pool:?}");
}

#[test]
fn the_glutton_did_run_into_the_limit() {
    let mut ostler = Ostler::builder().config(config("return", 1, 32)).start();
    let answer = ostler_tests::http::get_once(&ostler.unix("web.sock"), "/", ostler_tests::deadline::SOON);
    let text = answer.expect("answered").text();
    assert!(text.contains(&format!("ended={}", libc::EMFILE)), "{text}");
    ostler.stop_clean();
}

#[test]
fn workers_that_leak_every_descriptor_are_replaced_and_what_they_could_not_claim_is_served() {
    let mut ostler = Ostler::builder().config(config("leak", 1, 32)).start();
    let before = ostler.descriptor_count();
    let tally = Load::on(&ostler.unix("web.sock")).clients(4).requests_each(5).run();
    println!("{tally}");
    let pool = ostler.wait_status("idle, both ready", |status| {
        (status.only().is_idle() && status.only().ready().len() == 2).then(|| status.only().clone())
    });
    assert_eq!(pool.check_books(), Ok(()));
    assert!(tally.failed() <= pool.lost, "{tally}; {pool:?}");
    assert_eq!(pool.accepted, tally.connects);
    ostler.wait_descriptor_count(before);
    ostler.stop();
    ostler.assert_no_process_left();
}

#[test]
fn a_configuration_that_cannot_fit_its_descriptors_is_refused_at_the_start() {
    let config = "[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = 64\nqueue = { limit = 4096 }\n";
    let ended = Ostler::builder().prologue("ulimit -n 64;").config(config).start_failing();
    assert_eq!(ended.code, 2, "{}", ended.log);
    assert!(ended.log.contains("descriptors"), "{}", ended.log);
}

#[test]
fn the_soft_limit_is_raised_to_the_hard_one() {
    let mut ostler = Ostler::builder().prologue("ulimit -S -n 64;").args(["--listen", "unix:web.sock"]).start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", ostler.pid())).expect("ours");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("always there").to_owned();
    let fields: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(fields[3], fields[4], "{line}");
    let worker = ostler.status().only().pids()[0];
    let limits = std::fs::read_to_string(format!("/proc/{worker}/limits")).expect("ours");
    let inherited =
        limits.lines().any(|line| line.starts_with("Max open files") && line.split_whitespace().nth(3) == Some("64"));
    assert!(inherited, "workers get what the supervisor was started with:\n{limits}");
    ostler.stop_clean();
}
