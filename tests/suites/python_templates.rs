//! Do templates in Python, and of the WSGI server, keep what those in Rust promise?

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::builder::Builder;
use ostler_tests::deadline::alone;
use ostler_tests::http::get_once;
use ostler_tests::load::Load;
use ostler_tests::status::Pool;
use ostler_tests::{Ostler, Scratch, place, procs, programs};

const CLIENTS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(30);

fn config(command: &[String], concurrency: u32) -> String {
    format!(
        "[pool.web]\nlisten = [\"unix:web.sock\"]\ncommand = {}\nworkers = 3\nconcurrency = {concurrency}\n\
         start = {{ failures = 2, settle = \"0s\" }}\nprocess = {{ cwd = {:?}, env = {{ MEGABYTES = \"1\" }} }}\n\
         reload.template = true\n",
        programs::toml(command),
        place::workspace().join("tests/programs/python"),
    )
}

fn loads(journal: &Path) -> usize {
    std::fs::read_to_string(journal).map_or(0, |text| text.lines().count())
}

/// Kills a worker: another one is forked.
fn replace_one(ostler: &Ostler) {
    let doomed = ostler.status().only().pids()[0];
    kill(Pid::from_raw(doomed), Signal::SIGKILL).expect("it lives");
    ostler.wait_status("three others", |status| {
        let pool = status.only();
        (pool.ready().len() == 3 && !pool.pids().contains(&doomed)).then_some(())
    });
}

#[test]
fn workers_that_pull_that_have_threads_and_that_are_asynchronous_are_forked_and_load_once_per_generation() {
    let _machine = alone();
    for (mode, concurrency) in [("pull", 1), ("serve", 4), ("asyncio", 8)] {
        let scratch = Scratch::new();
        let journal = scratch.path("journal");
        let command = programs::python_templated(mode, &journal, &[]);
        let mut ostler = Builder::new(&scratch).config(config(&command, concurrency)).start();
        let before = ostler.descriptor_count();
        for worker in ostler.status().only().pids() {
            assert_eq!(procs::stat(worker).expect("it lives").parent, ostler.pid());
        }
        let load = Load::on(&ostler.unix("web.sock")).clients(CLIENTS).path("/sleep/1").start();
        load.wait_for_more(50);
        assert_eq!((ostler.command(&["reload"]).code, loads(&journal)), (0, 2), "{mode}");
        load.wait_for_more(50);
        load.stop().assert_no_failure();
        replace_one(&ostler);
        assert_eq!(loads(&journal), 2, "{mode}");
        ostler.wait_descriptor_count(before);
        ostler.stop();
        ostler.assert_no_process_left();
    }
}

#[test]
fn an_application_of_the_servers_is_loaded_in_the_template_and_nowhere_else() {
    let _machine = alone();
    is_loaded_in_the_template(&programs::python_wsgi("loaded:app", &[]));
    is_loaded_in_the_template(&programs::python_asgi("plain_asgi:app", &[]));
}

fn is_loaded_in_the_template(command: &[String]) {
    let scratch = Scratch::new();
    let mut ostler = Builder::new(&scratch).config(config(command, 4)).ready_within(PATIENCE).start();
    let loaded_by = || {
        let answer = get_once(&ostler.unix("web.sock"), "/loaded", PATIENCE).expect("it serves");
        answer.text().split_whitespace().next().and_then(|pid| pid.parse::<i32>().ok())
    };
    assert_eq!(loaded_by(), ostler.status().only().templates[0].pid);
    let load = Load::on(&ostler.unix("web.sock")).clients(CLIENTS).path("/sleep/1").start();
    load.wait_for_more(50);
    assert_eq!(ostler.command(&["reload"]).code, 0);
    load.wait_for_more(50);
    load.stop().assert_no_failure();
    let only = |pool: &Pool| (pool.templates.len() == 1).then(|| pool.templates[0].pid);
    let template = ostler.wait_status("the new template alone", |status| only(status.only()));
    assert_eq!(loaded_by(), template);
    replace_one(&ostler);
    ostler.stop();
    ostler.assert_no_process_left();
}

#[test]
fn a_template_with_threads_says_which_and_the_reload_is_undone() {
    let scratch = Scratch::new();
    let journal = scratch.path("journal");
    let good = config(&programs::python_templated("pull", &journal, &[]), 1);
    let mut ostler = Builder::new(&scratch).config(good).start();
    ostler.rewrite_config(&config(&programs::python_templated("pull", &journal, &["threads"]), 1));
    let output = ostler.command(&["reload"]);
    assert_eq!(output.code, 3, "{output:?}");
    assert!(output.stderr.contains("it has 2 threads (MainThread, left-behind)"), "{output:?}");
    replace_one(&ostler);
    ostler.stop();
}

#[test]
fn a_program_that_knows_nothing_of_templates_says_what_to_do() {
    let scratch = Scratch::new();
    let ended = Builder::new(&scratch).config(config(&programs::python_hello("pull", 0), 1)).start_failing();
    assert_eq!(ended.code, 1, "{}", ended.log);
    assert!(ended.log.contains("ostler_worker.template(load)"), "{}", ended.log);
}
