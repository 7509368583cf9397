//! Does it end in order when commands clash: at the same moment, in a storm, against a stop, and with every kind of wrong file?

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use ostler_tests::bounded::Output;
use ostler_tests::deadline::{SLACK, SOON, alone};
use ostler_tests::http::{Connection, Keep};
use ostler_tests::load::{Load, Running};
use ostler_tests::sampler::Sampler;
use ostler_tests::{Ostler, procs, programs};

const ROUNDS: usize = 8;
const HANG_UPS: usize = 200;

fn start() -> Ostler {
    let command = programs::toml(&programs::slow_start(20));
    Ostler::builder()
        .config(format!("[pool.web]\nlisten = [\"unix:web.sock\"]\ncommand = {command}\nworkers = 3\n"))
        .start()
}

fn light_load(ostler: &Ostler) -> Running {
    let load = Load::on(&ostler.unix("web.sock")).clients(2).path("/sleep/1").start();
    load.wait_for_more(10);
    load
}

/// Gives all of these commands at once, and answers with what each said.
fn all_at_once(ostler: &Ostler, commands: &[&[&str]]) -> Vec<Output> {
    let start = Barrier::new(commands.len());
    thread::scope(|scope| {
        let mut given = Vec::new();
        for args in commands.iter().copied() {
            let (client, start) = (ostler.client(), &start);
            given.push(scope.spawn(move || {
                start.wait();
                client.command(args)
            }));
        }
        given.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

/// Idle and whole, with so many workers, all of one generation.
fn wait_settled(ostler: &Ostler, workers: usize) {
    ostler.wait_status("idle and whole", |status| {
        let pool = status.only();
        let whole = pool.workers.len() == workers && pool.ready().len() == workers;
        (pool.is_idle() && whole && pool.generations() == [pool.generation]).then_some(())
    });
}

#[test]
fn reloads_in_the_same_millisecond_all_succeed_and_share_rollouts() {
    let _machine = alone();
    let mut ostler = start();
    let before = ostler.descriptor_count();
    let sampler = Sampler::start(ostler.client());
    let load = light_load(&ostler);
    for _ in 0..ROUNDS {
        let generation = ostler.status().only().generation;
        for said in all_at_once(&ostler, &[&["reload"], &["reload"]]) {
            assert_eq!(said.code, 0, "{said:?}\n{}", ostler.log());
        }
        let grown = ostler.status().only().generation - generation;
        assert!((1..=2).contains(&grown), "{grown} generations for two reloads");
    }
    load.stop().assert_no_failure();
    wait_settled(&ostler, 3);
    let seen = sampler.finish();
    seen.assert_balanced();
    assert!(seen.generations_at_once <= 2, "{} generations at a time", seen.generations_at_once);
    ostler.wait_descriptor_count(before);
    ostler.stop_clean();
}

#[test]
fn a_storm_of_hang_ups_is_a_few_reloads_that_nobody_notices() {
    let _machine = alone();
    let mut ostler = start();
    let before = ostler.descriptor_count();
    let sampler = Sampler::start(ostler.client());
    let load = light_load(&ostler);
    for _ in 0..HANG_UPS {
        ostler.signal(Signal::SIGHUP);
    }
    // Its verdict is that of a rollout that began after all of them.
    assert_eq!(ostler.command(&["reload"]).code, 0, "{}", ostler.log());
    load.stop().assert_no_failure();
    wait_settled(&ostler, 3);
    let seen = sampler.finish();
    println!("{HANG_UPS} hang-ups and a reload: {} generations", seen.generations.len());
    seen.assert_balanced();
    assert!(seen.generations_at_once <= 2, "{} generations at a time", seen.generations_at_once);
    ostler.wait_descriptor_count(before);
    ostler.stop_clean();
}

#[test]
fn a_reload_during_a_stop_is_refused_and_the_stop_goes_on() {
    let mut ostler = start();
    let mut slow = Connection::open(&ostler.unix("web.sock"), SOON).expect("open");
    slow.ask("/sleep/2000", Keep::Once).expect("ask");
    ostler.wait_status("it is being served", |status| (status.only().claimed == 1).then_some(()));
    ostler.signal(Signal::SIGTERM);
    ostler.wait_log(&["stopping: "]);
    for command in [&["reload"][..], &["restart", "web"], &["scale", "web", "9"]] {
        let refused = ostler.command(command);
        assert!(refused.code == 1 && refused.stderr.contains("stopping"), "{command:?}: {refused:?}");
    }
    ostler.signal(Signal::SIGHUP);
    assert_eq!(slow.answer().expect("served all the same").status, 200);
    let ended = ostler.wait(Duration::from_secs(30) + SLACK);
    assert_eq!(ended.code, 0, "{}", ended.log);
    ostler.assert_no_process_left();
}

#[test]
fn a_stop_and_a_reload_at_once_end_in_a_stop() {
    let _machine = alone();
    for _ in 0..ROUNDS {
        let mut ostler = start();
        let said = all_at_once(&ostler, &[&["stop"], &["reload"]]);
        assert_eq!(said[0].code, 0, "{:?}\n{}", said[0], ostler.log());
        // Done before, cut short, refused, or there was nobody any more to ask.
        assert!([0, 1, 3, 5].contains(&said[1].code), "{:?}\n{}", said[1], ostler.log());
        assert_eq!(ostler.wait(SOON).code, 0, "{}", ostler.log());
        ostler.assert_no_process_left();
    }
}

#[test]
fn all_commands_at_once_leave_a_whole_pool() {
    let _machine = alone();
    let mut ostler = start();
    let before = ostler.descriptor_count();
    let sampler = Sampler::start(ostler.client());
    let load = light_load(&ostler);
    for _ in 0..ROUNDS {
        ostler.signal(Signal::SIGHUP);
        let commands: [&[&str]; 6] = [
            &["reload"],
            &["restart", "web"],
            &["scale", "web", "+1"],
            &["scale", "web", "-1"],
            &["reload", "web"],
            &["dump"],
        ];
        for (said, command) in all_at_once(&ostler, &commands).iter().zip(commands) {
            // A restart that a reload overtakes, and the reverse, is refused or cut short; nothing else can happen here.
            assert!([0, 1, 3].contains(&said.code), "{command:?}: {said:?}\n{}", ostler.log());
        }
    }
    load.stop().assert_no_failure();
    sampler.finish().assert_balanced();
    assert_eq!(ostler.command(&["reload"]).code, 0, "{}", ostler.log());
    wait_settled(&ostler, 3);
    ostler.wait_descriptor_count(before);
    ostler.stop_clean();
}

/// A file in force, each line of which can go wrong in each way of [`SLIPS`].
const LINES: [&str; 8] = [
    "workers = 2",
    "concurrency = 4",
    "queue.limit = 100",
    "queue.timeout = \"9s\"",
    "start.backoff = [\"10ms\", \"1s\"]",
    "drain.kill_after = \"2s\"",
    "watchdog.heartbeat = \"20s\"",
    "socket.backlog = 64",
];

const SLIPS: [fn(&str, &str) -> String; 5] = [
    |key, _| format!("{key} ="),
    |key, _| format!("{key} = true"),
    |key, _| format!("{key} = \"1 parsec\""),
    |key, value| format!("{key}x = {value}"),
    |key, value| format!("{key} = {value}\u{0}"),
];

#[test]
fn a_file_that_is_wrong_in_one_way_leaves_everything_as_it_was() {
    let _machine = alone();
    let file = |lines: &[String]| format!("[pool.web]\nlisten = [\"unix:web.sock\"]\n{}\n", lines.join("\n"));
    let good: Vec<String> = LINES.iter().map(|line| (*line).to_owned()).collect();
    let mut ostler = Ostler::builder().config(file(&good)).start();
    let ids = || ostler.status().only().workers.iter().map(|worker| worker.id).collect::<Vec<_>>();
    let (before, open) = (ids(), procs::descriptors(ostler.pid()));
    let load = light_load(&ostler);
    for (number, line) in LINES.iter().enumerate() {
        let (key, value) = line.split_once(" = ").expect("a key and its value");
        for slip in SLIPS {
            let mut lines = good.clone();
            lines[number] = slip(key, value);
            ostler.rewrite_config(&file(&lines));
            let said = ostler.command(&["reload"]);
            assert_eq!(said.code, 3, "{:?}: {said:?}", lines[number]);
            let has_all = [format!(".toml:{}:", number + 3), "^".to_owned(), "help: ".to_owned()];
            assert!(has_all.iter().all(|text| said.stderr.contains(text)), "{:?}: {said:?}", lines[number]);
        }
        let pool = ostler.status().only().clone();
        assert_eq!((pool.generation, pool.reload.last.as_str()), (1, "undone"), "{pool:?}");
        load.wait_for_more(1);
    }
    load.stop().assert_no_failure();
    wait_settled(&ostler, 2);
    assert_eq!(ids(), before, "the same workers");
    ostler.wait_descriptor_count(open.len());
    assert_eq!(procs::descriptors(ostler.pid()), open, "the same descriptors");
    ostler.rewrite_config(&file(&good));
    assert_eq!(ostler.command(&["reload"]).code, 0, "it was never broken");
    ostler.stop_clean();
}
