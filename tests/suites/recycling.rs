//! Are workers that have served enough replaced without anybody noticing?

use ostler_tests::builder::Builder;
use ostler_tests::deadline::{SOON, alone, long_run, try_for};
use ostler_tests::http::get_once;
use ostler_tests::load::Load;
use ostler_tests::sampler::Sampler;
use ostler_tests::{Ostler, Scratch, programs};
use serde_json::Value;

const WORKERS: usize = 16;
const SURGE: usize = 2;

/// What the contract asks for, or so few that an ordinary run sees every worker replaced soon.
fn requests() -> u32 {
    if long_run() { 1000 } else { 60 }
}

fn pool(workers: usize, more: &str) -> String {
    format!("[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = {workers}\n{more}\n")
}

fn ids(ostler: &Ostler) -> Vec<u64> {
    ostler.status().only().workers.iter().filter_map(|worker| worker.id).collect()
}

/// Waits until nobody is left of these, and everybody who should serve does.
fn wait_replaced(ostler: &Ostler, old: &[u64], workers: usize) {
    ostler.wait_status("every worker was replaced", |status| {
        let pool = status.only();
        let old_ones = pool.workers.iter().filter(|worker| worker.id.is_some_and(|id| old.contains(&id))).count();
        (old_ones == 0 && pool.ready().len() >= workers).then_some(())
    });
}

/// Why those left of whom there is a record.
fn causes(ostler: &Ostler) -> Vec<String> {
    let output = ostler.command(&["deaths", "--json"]);
    assert_eq!(output.code, 0, "{output:?}");
    let answer: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let deaths = answer["deaths"].as_array().expect("a list").clone();
    deaths.iter().map(|death| death["cause"].as_str().unwrap_or("none").to_owned()).collect()
}

#[test]
fn workers_that_wear_out_together_change_a_few_at_a_time_and_fail_no_request() {
    let _machine = alone();
    let recycle = format!("recycle.requests = {}\nreload.surge = {SURGE}", requests());
    let mut ostler = Ostler::builder().config(pool(WORKERS, &recycle)).start();
    let before = ostler.descriptor_count();
    let first = ids(&ostler);
    let sampler = Sampler::start(ostler.client());
    let load = Load::on(&ostler.unix("web.sock")).clients(32).path("/sleep/1").start();
    // Two rounds: those who replaced the first ones wear out as well.
    load.wait_for_more(u64::from(requests()) * WORKERS as u64);
    wait_replaced(&ostler, &first, WORKERS - SURGE);
    let second = ids(&ostler);
    wait_replaced(&ostler, &second, WORKERS - SURGE);
    let tally = load.stop();
    let seen = sampler.finish();
    println!(
        "{} snapshots, {} workers, at most {} slots on the move, at least {:?} workers ready; {tally}",
        seen.snapshots,
        seen.workers.len(),
        seen.slots_moving_at_once,
        seen.fewest_ready
    );
    tally.assert_no_failure();
    seen.assert_balanced();
    assert!(seen.slots_moving_at_once <= SURGE, "{} slots on the move", seen.slots_moving_at_once);
    assert!(seen.fewest_ready >= Some(WORKERS - SURGE), "{:?} workers ready", seen.fewest_ready);
    assert!(seen.workers.len() >= 3 * WORKERS - SURGE, "{} workers", seen.workers.len());
    assert_eq!((seen.restarts, seen.generations.len()), (0, 1), "recycling is neither a restart nor a reload");
    let pool = ostler.wait_status("idle and settled", |status| {
        let pool = status.only();
        (pool.is_idle() && pool.workers.len() == WORKERS && pool.ready().len() == WORKERS).then(|| pool.clone())
    });
    assert_eq!((pool.lost, pool.shed_total(), pool.accepted), (0, 0, tally.connects), "{pool:?}");
    assert!(causes(&ostler).iter().all(|cause| cause == "recycled_requests"), "{:?}", causes(&ostler));
    ostler.wait_descriptor_count(before);
    ostler.stop_clean();
}

#[test]
fn a_worker_that_leaks_is_replaced_when_it_has_grown_too_large() {
    const EACH: u64 = 8 << 20;
    let command = programs::toml(&programs::leaky(EACH, 96 << 20));
    let mut ostler =
        Ostler::builder().config(pool(1, &format!("command = {command}\nrecycle.rss = \"64MiB\""))).start();
    let small = ids(&ostler);
    for _ in 0..9 {
        get_once(&ostler.unix("web.sock"), "/", SOON).expect("served");
    }
    wait_replaced(&ostler, &small, 1);
    let died = try_for(SOON, || Some(causes(&ostler)).filter(|causes| !causes.is_empty()));
    assert_eq!(died.expect("it leaves"), ["recycled_memory"]);
    ostler.wait_log(&["it occupies too much memory"]);
    assert_eq!(ostler.status().only().workers[0].restarts, 0);
    ostler.stop_clean();
}

#[test]
fn workers_that_are_old_enough_are_replaced_under_load_without_a_failure() {
    let _machine = alone();
    let mut ostler = Ostler::builder().config(pool(3, "recycle = { age = \"1s\", jitter = 0 }")).start();
    let old = ids(&ostler);
    let load = Load::on(&ostler.unix("web.sock")).clients(8).path("/sleep/1").start();
    wait_replaced(&ostler, &old, 2);
    load.wait_for_more(100);
    load.stop().assert_no_failure();
    assert!(causes(&ostler).iter().all(|cause| cause == "recycled_age"), "{:?}", causes(&ostler));
    ostler.stop_clean();
}

#[test]
fn the_command_replaces_a_pool_or_one_slot_and_answers_when_that_is_done() {
    let _machine = alone();
    let mut ostler = Ostler::builder().config(pool(3, "")).start();
    let load = Load::on(&ostler.unix("web.sock")).clients(8).path("/sleep/1").start();
    load.wait_for_more(50);
    let first = ids(&ostler);
    let output = ostler.command(&["recycle", "web/1"]);
    assert_eq!((output.code, output.stdout.trim()), (0, "recycled"), "{output:?}");
    let second = ids(&ostler);
    assert_eq!((second[0], second[2], second[1] == first[1]), (first[0], first[2], false), "{first:?} → {second:?}");
    assert_eq!(ostler.command(&["recycle", "web"]).code, 0);
    let third = ids(&ostler);
    assert!(third.len() == 3 && third.iter().all(|id| !second.contains(id)), "{second:?} → {third:?}");
    load.wait_for_more(50);
    load.stop().assert_no_failure();
    for (nonsense, why) in [("nowhere", "nowhere"), ("web/77", "0 to 2")] {
        let output = ostler.command(&["recycle", nonsense]);
        assert_eq!(output.code, 1, "{nonsense}: {output:?}");
        assert!(output.stderr.contains(why), "{output:?}");
    }
    assert_eq!(causes(&ostler), ["recycled_asked"; 4]);
    ostler.stop_clean();
}

#[test]
fn where_a_fresh_worker_does_not_start_the_old_one_serves_on_and_the_command_says_why() {
    let scratch = Scratch::new();
    let trap = scratch.path("broken");
    let good = programs::slow_start(0);
    let script = format!("[ ! -e '{}' ] || {{ echo no database >&2; exit 3; }}; exec \"$@\"", trap.display());
    let sh = ["/bin/sh", "-c", &script, "sh"].map(str::to_owned);
    let command: Vec<String> = sh.into_iter().chain(good).collect();
    let limits = "recycle.requests = 5\nrecycle.jitter = 0";
    let config = pool(1, &format!("command = {}\n{limits}", programs::toml(&command)));
    let mut ostler = Builder::new(&scratch).config(config).start();
    let old = ids(&ostler);
    std::fs::write(&trap, "").expect("the directory is ours");
    let output = ostler.command(&["recycle", "web"]);
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("exit code 3") && output.stderr.contains("no database"), "{output:?}");
    // Worn as well, it is tried again and again, and nothing comes of it.
    for _ in 0..10 {
        get_once(&ostler.unix("web.sock"), "/", SOON).expect("served");
    }
    ostler.wait_log(&["cannot recycle", "next try in"]);
    let pool = ostler.status().only().clone();
    assert_eq!((pool.ready()[0].id, pool.ready()[0].restarts), (Some(old[0]), 0), "{pool:?}");
    std::fs::remove_file(&trap).expect("it is there");
    wait_replaced(&ostler, &old, 1);
    ostler.stop_clean();
}
