//! Does a reload lose a request, a descriptor, or its way among the generations?

use nix::sys::signal::Signal;
use ostler_tests::deadline::{alone, long_run};
use ostler_tests::load::{Load, Tally};
use ostler_tests::programs;
use ostler_tests::sampler::Sampler;
use ostler_tests::{Ostler, Target, procs};

const CLIENTS: usize = 64;
const LOADING_MS: u64 = 500;

fn reloads() -> u32 {
    if long_run() { 100 } else { 10 }
}

fn config(listen: &str, concurrency: u32) -> String {
    let command = programs::toml(&programs::slow_start(LOADING_MS));
    format!(
        r#"
        [pool.web]
        listen = ["{listen}"]
        command = {command}
        workers = 4
        concurrency = {concurrency}
        "#
    )
}

/// Reloads again and again under `load`; nobody may notice.
fn reload_under(ostler: &mut Ostler, load: Load) {
    let before = ostler.descriptor_count();
    let sampler = Sampler::start(ostler.client());
    let running = load.start();
    running.wait_for_more(100);
    for round in 1..=reloads() {
        let output = ostler.command(&["reload"]);
        assert_eq!(output.code, 0, "reload {round}: {output:?}");
        let pool = ostler.status().only().clone();
        assert_eq!((pool.generation, pool.reload.last.as_str()), (round + 1, "ok"), "{pool:?}");
        // Whoever serves now is of the new generation.
        running.wait_for_more(1);
    }
    running.wait_for_more(100);
    let tally = running.stop();
    let seen = sampler.finish();
    println!("{} snapshots; {tally}", seen.snapshots);
    tally.assert_no_failure();
    seen.assert_balanced();
    assert!(seen.generations_at_once <= 2, "{} generations at a time", seen.generations_at_once);
    let pool = ostler.wait_status("idle, with four workers", |status| {
        let pool = status.only();
        (pool.is_idle() && pool.workers.len() == 4 && pool.ready().len() == 4).then(|| pool.clone())
    });
    assert_eq!((pool.lost, pool.shed_total()), (0, 0), "{pool:?}");
    assert_eq!(pool.accepted, tally.connects, "{tally}");
    assert_eq!(pool.generations(), [reloads() + 1]);
    ostler.wait_descriptor_count(before);
}

#[test]
fn reloads_under_load_fail_no_request() {
    let _machine = alone();
    let mut ostler = Ostler::builder().config(config("unix:web.sock", 1)).start();
    let load = Load::on(&ostler.unix("web.sock")).clients(CLIENTS).path("/sleep/1");
    reload_under(&mut ostler, load);
    ostler.stop_clean();
}

#[test]
fn reloads_under_keep_alive_over_tcp_only_close_reused_connections_in_order() {
    let _machine = alone();
    let target = Target::free_tcp();
    let mut ostler = Ostler::builder().config(config(&target.listen(), 32)).start();
    let load = Load::on(&target).clients(CLIENTS).path("/sleep/1").per_connection(u32::MAX);
    reload_under(&mut ostler, load);
    ostler.stop_clean();
}

#[test]
fn the_hello_server_closes_kept_connections_in_order_when_it_is_replaced() {
    let _machine = alone();
    let target = Target::free_tcp();
    let mut ostler =
        Ostler::builder().args(["--listen", &target.listen(), "--workers", "4", "--concurrency", "32"]).start();
    let load = Load::on(&target).clients(CLIENTS).path("/sleep/1").per_connection(u32::MAX);
    reload_under(&mut ostler, load);
    ostler.stop_clean();
}

#[test]
fn hang_ups_during_a_reload_are_one_more_reload() {
    let _machine = alone();
    let mut ostler = Ostler::builder().config(config("unix:web.sock", 1)).start();
    ostler.signal(Signal::SIGHUP);
    ostler.wait_status("the first reload has begun", |status| (status.only().generations().len() == 2).then_some(()));
    for _ in 0..20 {
        ostler.signal(Signal::SIGHUP);
    }
    // A command's verdict is that of the rollout that read the file after it: that of the twenty, or one later.
    assert_eq!(ostler.command(&["reload"]).code, 0);
    let generation = ostler.status().only().generation;
    assert!((3..=4).contains(&generation), "generation {generation} after 1 + 20 hang-ups and a reload");
    ostler.stop_clean();
}

#[test]
fn only_the_named_pool_is_reloaded() {
    let config = r#"
        [pool.one]
        listen = ["unix:one.sock"]
        workers = 1
        [pool.two]
        listen = ["unix:two.sock"]
        workers = 1
    "#;
    let mut ostler = Ostler::builder().config(config).start();
    assert_eq!(ostler.command(&["reload", "two"]).code, 0);
    let status = ostler.status();
    assert_eq!((status.pool("one").generation, status.pool("two").generation), (1, 2));
    let output = ostler.command(&["reload", "three"]);
    assert_ne!(output.code, 0, "{output:?}");
    assert!(output.stderr.contains("three"), "{output:?}");
    ostler.stop_clean();
}

#[test]
fn a_caller_that_does_not_wait_is_answered_before_the_reload_is_over() {
    let mut ostler = Ostler::builder().config(config("unix:web.sock", 1)).start();
    assert_eq!(ostler.command(&["reload", "--no-wait"]).code, 0);
    let pool = ostler.status().only().clone();
    assert!(pool.ready().iter().all(|worker| worker.generation == 1), "the new ones load for half a second: {pool:?}");
    assert_eq!(pool.reload.last, "none");
    ostler.wait_status("the reload is over", |status| {
        let pool = status.only();
        (pool.reload.last == "ok" && pool.generations() == [2]).then_some(())
    });
    ostler.stop_clean();
}

/// What a supervisor holds on to.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    descriptors: usize,
    children: usize,
    regions: usize,
    resident: u64,
}

impl Holdings {
    fn of(ostler: &Ostler) -> Holdings {
        let pid = ostler.pid();
        let is_child = |other: &i32| procs::stat(*other).is_some_and(|stat| stat.parent == pid);
        Holdings {
            descriptors: procs::descriptor_count(pid),
            children: ostler.processes().into_iter().filter(is_child).count(),
            regions: procs::shared_mappings(pid),
            resident: procs::resident_bytes(pid).expect("it runs"),
        }
    }
}

/// Twenty reloads fill what is allowed to fill: the record of deaths, the allocator's pools, the quantiles' buckets. After that
/// nothing may grow. The allocator gives back pages as it sees fit, so its resident memory is not the same to the byte: what a
/// leak of a worker's name, a line of log and an entry in some table would come to, some 300 bytes for each of two workers
/// and each reload, is the bound, and a mebibyte for chance.
const WARM_UP: u32 = 20;
const LEAK_PER_RELOAD: u64 = 600;
const CHANCE: u64 = 1 << 20;

#[test]
fn a_thousand_reloads_under_light_load_leave_descriptors_children_and_memory_as_they_were() {
    let _machine = alone();
    let rounds = if long_run() { 1000 } else { 60 };
    let command = programs::toml(&programs::slow_start(0));
    let config = format!("[pool.web]\nlisten = [\"unix:web.sock\"]\ncommand = {command}\nworkers = 2\n");
    let mut ostler = Ostler::builder().config(config).start();
    reload_under_light_load(&ostler, WARM_UP);
    let before = Holdings::of(&ostler);
    let tally = reload_under_light_load(&ostler, rounds);
    ostler.wait_descriptor_count(before.descriptors);
    let after = Holdings::of(&ostler);
    println!("{rounds} reloads: before {before:?}, after {after:?}; {tally}");
    assert_eq!(ostler.status().only().generation, WARM_UP + rounds + 1);
    assert_eq!(after.children, 2);
    assert_eq!((after.children, after.regions), (before.children, before.regions));
    let bound = CHANCE + LEAK_PER_RELOAD * u64::from(rounds);
    let grown = after.resident.saturating_sub(before.resident);
    assert!(grown <= bound, "{grown} bytes more are resident after {rounds} reloads, allowed are {bound}");
    ostler.stop_clean();
}

/// Reloads so often while two clients ask; in the end only two workers are there, and nobody asks.
fn reload_under_light_load(ostler: &Ostler, count: u32) -> Tally {
    let load = Load::on(&ostler.unix("web.sock")).clients(2).path("/sleep/5").start();
    for round in 1..=count {
        let output = ostler.command(&["reload"]);
        assert_eq!(output.code, 0, "reload {round}: {output:?}\n{}", ostler.log());
    }
    load.wait_for_more(10);
    let tally = load.stop();
    tally.assert_no_failure();
    ostler.wait_status("idle, with two workers", |status| {
        let pool = status.only();
        (pool.is_idle() && pool.workers.len() == 2 && pool.ready().len() == 2).then_some(())
    });
    tally
}
