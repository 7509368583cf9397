//! Does a reload that fails leave everything as it was, and say why?

use ostler_tests::bounded::Output;
use ostler_tests::builder::Builder;
use ostler_tests::deadline::alone;
use ostler_tests::load::Load;
use ostler_tests::programs;
use ostler_tests::{Ostler, Scratch};

const CLIENTS: usize = 32;

fn config(command: &str) -> String {
    format!(
        r#"
        [pool.web]
        listen = ["unix:web.sock"]
        command = {command}
        workers = 3
        start = {{ ready_timeout = "1s" }}
        drain = {{ timeout = "5s", kill_after = "500ms" }}
        reload = {{ probation = "1s" }}
        "#
    )
}

fn good() -> String {
    config(&programs::toml(&programs::slow_start(0)))
}

/// Whose place no new worker had taken before the reload failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Untouched {
    All,
    AllButTheFirst,
}

/// Reloads with a configuration that can't work, under load; answers with what the command said.
fn undone_by(bad: &str) -> Output {
    undone(bad, Untouched::All)
}

fn undone(bad: &str, untouched: Untouched) -> Output {
    let _machine = alone();
    let mut ostler = Ostler::builder().config(good()).start();
    let before = ostler.descriptor_count();
    let serving: Vec<u64> = ids(&ostler);
    let load = Load::on(&ostler.unix("web.sock")).clients(CLIENTS).path("/sleep/1").start();
    load.wait_for_more(50);
    ostler.rewrite_config(bad);
    let output = ostler.command(&["reload"]);
    load.wait_for_more(50);
    load.stop().assert_no_failure();
    assert_eq!(output.code, 3, "{output:?}\n{}", ostler.log());
    let pool = ostler.wait_status("idle, with three workers", |status| {
        let pool = status.only();
        (pool.is_idle() && pool.workers.len() == 3 && pool.ready().len() == 3).then(|| pool.clone())
    });
    assert_eq!((pool.generation, pool.generations()), (1, vec![1]), "{pool:?}");
    assert_eq!(pool.reload.last, "undone");
    assert!(pool.reload.reason.as_ref().is_some_and(|reason| !reason.is_empty()));
    assert_eq!((pool.lost, pool.shed_total()), (0, 0));
    let first = match untouched {
        Untouched::All => 0,
        Untouched::AllButTheFirst => 1,
    };
    assert_eq!(ids(&ostler)[first..], serving[first..], "the old workers serve on");
    ostler.wait_descriptor_count(before);
    ostler.wait_log(&["undone"]);

    // It is only undone, not broken: with a good file the next one succeeds, under a number that was not used.
    ostler.rewrite_config(&good());
    assert_eq!(ostler.command(&["reload"]).code, 0);
    let generation = ostler.status().only().generation;
    assert!(generation >= 2, "generation {generation}");
    ostler.wait_descriptor_count(before);
    ostler.stop_clean();
    output
}

fn ids(ostler: &Ostler) -> Vec<u64> {
    ostler.status().only().workers.iter().filter_map(|worker| worker.id).collect()
}

#[test]
fn by_a_program_that_does_not_exist() {
    let output = undone_by(&config(r#"["/nonexistent/app"]"#));
    assert!(output.stderr.contains("/nonexistent/app"), "{output:?}");
}

#[test]
fn by_a_program_that_exits_at_once() {
    let output = undone_by(&config(r#"["/bin/sh", "-c", "echo no license >&2; exit 3"]"#));
    assert!(output.stderr.contains("exit code 3"), "{output:?}");
    assert!(output.stderr.contains("no license"), "{output:?}");
}

#[test]
fn by_a_program_that_dies_on_probation() {
    let output = undone(&config(&programs::toml(&programs::short_lived("idle", 200))), Untouched::AllButTheFirst);
    assert!(output.stderr.contains("exit code 3 within its probation of 1s"), "{output:?}");
    assert!(output.stderr.contains("on probation of its first worker"), "{output:?}");
    assert!(output.stderr.contains("could not reach the database"), "its last words: {output:?}");
}

#[test]
fn by_a_program_that_dies_while_it_serves_on_probation_which_costs_what_it_held_at_most() {
    let _machine = alone();
    let mut ostler = Ostler::builder().config(good()).start();
    let load = Load::on(&ostler.unix("web.sock")).clients(CLIENTS).path("/sleep/1").start();
    load.wait_for_more(50);
    ostler.rewrite_config(&config(&programs::toml(&programs::short_lived("serving", 200))));
    let output = ostler.command(&["reload"]);
    assert_eq!(output.code, 3, "{output:?}");
    load.wait_for_more(50);
    let tally = load.stop();
    let pool = ostler.wait_status("three workers", |status| {
        let pool = status.only();
        (pool.is_idle() && pool.workers.len() == 3 && pool.ready().len() == 3).then(|| pool.clone())
    });
    assert_eq!((pool.generation, pool.generations()), (1, vec![1]), "{pool:?}");
    assert!(pool.lost <= 1, "one canary that holds one connection at a time: {pool:?}");
    assert!(tally.failed() <= pool.lost, "{tally}");
    ostler.stop();
}

#[test]
fn by_a_program_that_was_replaced_under_the_same_name_by_one_that_does_not_parse() {
    let _machine = alone();
    let scratch = Scratch::new();
    let good = format!("exec {} 0\n", programs::slow_start(0)[0]);
    let script = scratch.write("app.sh", &good);
    let command = programs::toml(&["/bin/sh".to_owned(), script.display().to_string()]);
    let mut ostler = Builder::new(&scratch).config(config(&command)).start();
    let load = Load::on(&ostler.unix("web.sock")).clients(CLIENTS).path("/sleep/1").start();
    load.wait_for_more(50);
    scratch.write("app.sh", "if then fi (\n");
    let output = ostler.command(&["reload"]);
    assert_eq!(output.code, 3, "{output:?}");
    assert!(output.stderr.contains("at its first worker") && output.stderr.contains("app.sh"), "{output:?}");
    load.wait_for_more(50);
    load.stop().assert_no_failure();
    assert_eq!(ostler.status().only().generations(), [1]);
    scratch.write("app.sh", &good);
    assert_eq!(ostler.command(&["reload"]).code, 0);
    ostler.stop_clean();
}

#[test]
fn by_a_program_that_is_never_ready() {
    let output = undone_by(&config(r#"["/bin/sleep", "600"]"#));
    assert!(output.stderr.contains("not ready"), "{output:?}");
}

#[test]
fn by_a_file_with_a_mistake() {
    let output = undone_by("[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = \"many\"\n");
    assert!(output.stderr.contains("workers"), "{output:?}");
    assert!(output.stderr.contains('3'), "it names the line: {output:?}");
}

#[test]
fn by_a_user_that_does_not_exist() {
    let output = undone_by(&format!("{}\nprocess = {{ user = \"no-such-user\" }}", good()));
    assert!(output.stderr.contains("there is no user \"no-such-user\""), "{output:?}");
    assert!(output.stderr.contains("getent passwd"), "{output:?}");
}

#[test]
fn by_a_group_that_does_not_exist() {
    let output = undone_by(&format!("{}\nprocess = {{ group = \"no-such-group\" }}", good()));
    assert!(output.stderr.contains("there is no group \"no-such-group\""), "{output:?}");
}

#[test]
fn by_a_directory_that_does_not_exist() {
    let output = undone_by(&format!("{}\nprocess = {{ cwd = \"no/such/dir\" }}", good()));
    assert!(output.stderr.contains("there is no directory"), "{output:?}");
}

#[test]
fn by_a_file_that_is_gone() {
    let mut ostler = Ostler::builder().config(good()).start();
    std::fs::remove_file(ostler.scratch().path("ostler-0.toml")).expect("it was there");
    let output = ostler.command(&["reload"]);
    assert_eq!(output.code, 3, "{output:?}");
    assert_eq!(ostler.status().only().generations(), [1]);
    ostler.stop_clean();
}

#[test]
fn by_workers_that_fail_after_the_first_slot_moved() {
    // The first start of the new program succeeds, every later one fails: the slot that moved has to go back.
    let _machine = alone();
    let mut ostler = Ostler::builder().config(good()).start();
    let slow = programs::slow_start(0);
    let once = ostler.scratch().path("once").display().to_string();
    let script = format!("mkdir {once} || exit 4; exec {} 0", slow[0]);
    let load = Load::on(&ostler.unix("web.sock")).clients(CLIENTS).path("/sleep/1").start();
    load.wait_for_more(50);
    ostler.rewrite_config(&config(&programs::toml(&["/bin/sh".to_owned(), "-c".to_owned(), script])));
    let output = ostler.command(&["reload"]);
    assert_eq!(output.code, 3, "{output:?}");
    assert!(
        output.stderr.contains("with 1 of 3 workers replaced") && output.stderr.contains("exit code 4"),
        "{output:?}"
    );
    // Each step was shown while it waited.
    assert!(output.stderr.contains("web: generation 2 begins\n"), "{output:?}");
    assert!(output.stderr.contains("web/0.2 serves (1 of 3)\n"), "{output:?}");
    assert!(output.stderr.contains("web/0.1 serves (3 of 3)\n"), "{output:?}");
    load.wait_for_more(50);
    load.stop().assert_no_failure();
    let pool = ostler.wait_status("three workers", |status| {
        let pool = status.only();
        (pool.workers.len() == 3 && pool.ready().len() == 3).then(|| pool.clone())
    });
    assert_eq!((pool.generation, pool.generations()), (1, vec![1]), "{pool:?}");
    assert_eq!((pool.lost, pool.shed_total()), (0, 0));
    ostler.stop_clean();
}
