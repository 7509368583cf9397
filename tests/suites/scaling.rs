//! Does a pool with a range of workers follow its load: up in a burst, down when idle, and from nobody to nobody?

use std::time::Duration;

use nix::sys::signal::Signal;
use ostler_tests::Ostler;
use ostler_tests::deadline::alone;
use ostler_tests::http::{Connection, Keep, get_once};
use ostler_tests::load::Load;
use ostler_tests::status::PoolState;

const PATIENCE: Duration = Duration::from_secs(20);

fn config(min: u32, max: u32) -> String {
    format!(
        "[pool.web]\nlisten = [\"unix:web.sock\"]\n\
         workers = {{ min = {min}, max = {max}, idle = \"1s\", target_delay = \"5ms\" }}\n"
    )
}

/// So many workers are READY, and there is no other.
fn wait_workers(ostler: &Ostler, count: usize) {
    ostler.wait_status(&format!("{count} ready workers and no other"), |status| {
        let pool = status.only();
        (pool.ready().len() == count && pool.workers.len() == count).then_some(())
    });
}

#[test]
fn a_burst_takes_a_pool_from_2_to_16_workers_and_idleness_takes_it_back_without_a_failure() {
    let _machine = alone();
    let mut ostler = Ostler::builder().config(config(2, 16)).start();
    let before = ostler.descriptor_count();
    let load = Load::on(&ostler.unix("web.sock")).clients(40).path("/sleep/20").start();
    wait_workers(&ostler, 16);
    load.wait_for_more(200);
    load.stop().assert_no_failure();
    wait_workers(&ostler, 2);
    let pool = ostler.status().only().clone();
    assert_eq!((pool.target, pool.lost, pool.state), (2, 0, PoolState::Ready), "{pool:?}");
    assert!(pool.workers.iter().all(|worker| worker.restarts == 0), "{pool:?}");
    ostler.wait_log(&["scaled from 2 to ", "clients wait longer than workers.target_delay"]);
    ostler.wait_log(&["to 2 workers: the others were idle"]);
    ostler.wait_descriptor_count(before);
    ostler.stop_clean();
}

#[test]
fn a_load_that_the_workers_can_take_starts_nobody() {
    let _machine = alone();
    let mut ostler = Ostler::builder().config(config(2, 16)).start();
    let load = Load::on(&ostler.unix("web.sock")).clients(2).path("/sleep/5").start();
    load.wait_for_more(200);
    load.stop().assert_no_failure();
    let pool = ostler.status().only().clone();
    assert_eq!((pool.target, pool.workers.len()), (2, 2), "{pool:?}");
    ostler.stop_clean();
}

#[test]
fn the_first_connection_to_a_pool_of_none_is_served_and_idleness_ends_its_worker() {
    let mut ostler = Ostler::builder().config(config(0, 2)).start();
    for _ in 0..2 {
        let pool = ostler.status().only().clone();
        assert_eq!((pool.target, pool.workers.len(), pool.state), (0, 0, PoolState::Ready), "{pool:?}");
        let answer = get_once(&ostler.unix("web.sock"), "/", PATIENCE).expect("served");
        assert_eq!(answer.status, 200);
        ostler.wait_status("nobody is left", |status| {
            let pool = status.only();
            (pool.target == 0 && pool.workers.is_empty()).then_some(())
        });
    }
    let pool = ostler.status().only().clone();
    assert_eq!((pool.accepted, pool.done, pool.lost), (2, 2, 0));
    ostler.stop_clean();
}

#[test]
fn a_pool_of_none_whose_program_is_broken_fails_at_the_first_client_and_lets_it_go_in_time() {
    let text = format!(
        "{}command = [\"sh\", \"-c\", \"exit 3\"]\nqueue.timeout = \"2s\"\n\
         start = {{ failures = 2, backoff = [\"50ms\", \"100ms\"] }}\n",
        config(0, 2)
    );
    let mut ostler = Ostler::builder().config(text).start();
    let mut client = Connection::open(&ostler.unix("web.sock"), PATIENCE).expect("it accepts");
    client.ask("/", Keep::Once).expect("asked");
    ostler.wait_status("given up", |status| (status.only().state == PoolState::Failed).then_some(()));
    ostler.wait_status("let go", |status| (status.only().shed_for("queue_timeout") == 1).then_some(()));
    assert!(client.answer().is_err(), "nobody could answer");
    assert!(ostler.log().contains("scaled from 0 to 1 workers: a client came"));
    ostler.stop();
}

#[test]
fn operators_scale_within_the_range_by_signal_and_by_command() {
    let mut ostler = Ostler::builder().config(config(2, 4)).start();
    let scaled_to = |ostler: &Ostler, target: u32| {
        ostler.wait_status(&format!("a target of {target}"), |status| (status.only().target == target).then_some(()));
    };
    ostler.signal(Signal::SIGTTIN);
    scaled_to(&ostler, 3);
    assert_eq!(ostler.command(&["scale", "web", "+9"]).code, 0);
    scaled_to(&ostler, 4);
    wait_workers(&ostler, 4);
    ostler.signal(Signal::SIGTTOU);
    scaled_to(&ostler, 3);
    for beyond in ["1", "5"] {
        let output = ostler.command(&["scale", "web", beyond]);
        assert_eq!(output.code, 1, "{output:?}");
        assert!(output.stderr.contains("2 to 4 workers"), "{output:?}");
    }
    // Nobody needs them: idleness has the last word.
    wait_workers(&ostler, 2);
    ostler.stop_clean();
}
