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

/// Connections after which a worker is worn, give or take a tenth.
const REQUESTS: u64 = 1000;
const LEAST: u64 = REQUESTS - REQUESTS / 10;

/// How often every slot is seen to get another worker.
fn rounds() -> usize {
    if long_run() { 8 } else { 2 }
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

/// One of those who left.
struct Gone {
    slot: u32,
    cause: String,
    done: u64,
}

/// Those of whom there is a record, the first first.
fn gone(ostler: &Ostler) -> Vec<Gone> {
    let output = ostler.command(&["deaths", "--json"]);
    assert_eq!(output.code, 0, "{output:?}");
    let answer: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let deaths = answer["deaths"].as_array().expect("a list").iter();
    let read = deaths.map(|death| Gone {
        slot: slot_of(death["worker"].as_str().expect("a name")),
        cause: death["cause"].as_str().unwrap_or("none").to_owned(),
        done: death["done"].as_u64().expect("a count"),
    });
    read.collect()
}

/// The slot in `POOL/SLOT.GENERATION`.
fn slot_of(worker: &str) -> u32 {
    let slot = worker.split_once('/').and_then(|(_, rest)| rest.split_once('.'));
    slot.and_then(|(slot, _)| slot.parse().ok()).unwrap_or_else(|| panic!("{worker} is no worker's name"))
}

/// Why those left of whom there is a record.
fn causes(ostler: &Ostler) -> Vec<String> {
    gone(ostler).into_iter().map(|gone| gone.cause).collect()
}

#[test]
fn sixteen_workers_that_wear_out_together_change_a_few_at_a_time_while_sixteen_serve_and_no_request_fails() {
    let _machine = alone();
    // Workers that take a while to load, so that nobody can miss a slot that is on the move or empty.
    let command = programs::toml(&programs::slow_start(50));
    let recycle = format!("command = {command}\nrecycle = {{ requests = {REQUESTS}, jitter = 0.1 }}");
    let config = pool(WORKERS, &format!("{recycle}\nreload.surge = {SURGE}"));
    let mut ostler = Ostler::builder().config(config).start();
    let before = ostler.descriptor_count();
    let sampler = Sampler::start(ostler.client());
    let load = Load::on(&ostler.unix("web.sock")).clients(32).start();
    for _ in 0..rounds() {
        let old = ids(&ostler);
        // In portions, each of which has its own deadline.
        (0..WORKERS).for_each(|_| load.wait_for_more(REQUESTS));
        wait_replaced(&ostler, &old, WORKERS);
    }
    let tally = load.stop();
    let seen = sampler.finish();
    println!(
        "{} snapshots, at most {} slots on the move, at least {:?} workers ready; {tally}",
        seen.snapshots, seen.slots_moving_at_once, seen.fewest_ready
    );
    tally.assert_no_failure();
    seen.assert_balanced();
    assert!((1..=SURGE).contains(&seen.slots_moving_at_once), "{} slots on the move", seen.slots_moving_at_once);
    // More than the contract asks for, which is WORKERS − SURGE: whoever leaves has his successor READY (I3).
    assert_eq!(seen.fewest_ready, Some(WORKERS));
    assert_eq!((seen.restarts, seen.generations.len()), (0, 1), "recycling is neither a restart nor a reload");
    let pool = ostler.wait_status("idle and settled", |status| {
        let pool = status.only();
        (pool.is_idle() && pool.workers.len() == WORKERS && pool.ready().len() == WORKERS).then(|| pool.clone())
    });
    assert_eq!((pool.lost, pool.shed_total(), pool.accepted), (0, 0, tally.connects), "{pool:?}");
    assert_each_was_worn(&gone(&ostler));
    ostler.wait_descriptor_count(before);
    ostler.stop_clean();
}

/// Every slot was recycled in each round, and nobody left who had not served enough.
fn assert_each_was_worn(gone: &[Gone]) {
    for Gone { slot, cause, done } in gone {
        assert_eq!(cause, "recycled_requests", "slot {slot}");
        assert!(*done >= LEAST, "who left slot {slot} had served {done}");
    }
    for slot in 0..WORKERS {
        let times = gone.iter().filter(|gone| usize::try_from(gone.slot) == Ok(slot)).count();
        assert!(times >= rounds(), "slot {slot} was recycled {times} times");
    }
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
