//! Does a template load once for all, fork whoever is needed, and do no harm when it fails or lies?

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid};
use ostler_tests::builder::Builder;
use ostler_tests::deadline::{SOON, alone, long_run, wait_until};
use ostler_tests::http::get_once;
use ostler_tests::load::Load;
use ostler_tests::namespace::First;
use ostler_tests::status::{Pool, WorkerState};
use ostler_tests::{Ostler, Scratch, procs, programs};

const CLIENTS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(20);

fn forks() -> u32 {
    if long_run() { 1000 } else { 100 }
}

fn config(command: &[String]) -> String {
    format!(
        r#"
        [pool.web]
        listen = ["unix:web.sock"]
        command = {}
        workers = 3
        start = {{ failures = 3, ready_timeout = "20s", settle = "0s" }}
        drain = {{ timeout = "5s", kill_after = "500ms" }}
        reload.template = true
        "#,
        programs::toml(command)
    )
}

/// A supervisor, and where its program writes down that it loads.
fn journal(scratch: &Scratch) -> PathBuf {
    scratch.path("journal")
}

fn good(scratch: &Scratch, more: &[&str]) -> String {
    config(&programs::templated(&journal(scratch), more))
}

fn start() -> Ostler {
    let scratch = Scratch::new();
    let config = good(&scratch, &[]);
    Builder::new(&scratch).config(config).start()
}

/// How often something was loaded.
fn loads(journal: &Path) -> usize {
    std::fs::read_to_string(journal).map_or(0, |text| text.lines().count())
}

fn template(pool: &Pool) -> Option<i32> {
    let ready = pool.templates.iter().find(|template| template.state == WorkerState::Ready);
    ready.and_then(|template| template.pid)
}

fn wait_for_another_template(ostler: &Ostler, than: i32) -> i32 {
    ostler.wait_status("another template", |status| template(status.only()).filter(|pid| *pid != than))
}

fn kill_now(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it lives");
}

#[test]
fn everything_is_loaded_once_and_every_worker_is_a_child_of_the_supervisor_in_a_group_of_its_own() {
    let mut ostler = start();
    let pool = ostler.status().only().clone();
    let template = template(&pool).expect("it has one");
    let answer = get_once(&ostler.unix("web.sock"), "/loaded", PATIENCE).expect("it serves");
    assert_eq!(answer.text().split(' ').next(), Some(&*template.to_string()));
    assert_eq!(loads(&journal(ostler.scratch())), 1);
    for worker in pool.pids() {
        let stat = procs::stat(worker).expect("it lives");
        assert_eq!(stat.parent, ostler.pid());
        assert_eq!(getpgid(Some(Pid::from_raw(worker))), Ok(Pid::from_raw(worker)));
        assert_ne!(procs::environment(worker).get("OSTLER_POOL"), None);
    }
    assert_eq!(pool.templates[0].forked, 3);
    ostler.stop_clean();
    ostler.assert_no_process_left();
}

#[test]
fn a_worker_that_is_killed_is_forked_again_and_nothing_is_loaded() {
    let _machine = alone();
    let mut ostler = start();
    let before = ostler.descriptor_count();
    for round in 1..=forks() {
        let doomed = ostler.status().only().pids()[0];
        kill_now(doomed);
        ostler.wait_status("three others", |status| {
            let pool = status.only();
            (pool.ready().len() == 3 && !pool.pids().contains(&doomed)).then_some(())
        });
        assert_eq!(loads(&journal(ostler.scratch())), 1, "round {round}");
    }
    assert!(ostler.status().only().templates[0].forked >= u64::from(forks()));
    ostler.wait_descriptor_count(before);
    ostler.stop();
    ostler.assert_no_process_left();
}

#[test]
fn a_template_that_is_killed_is_replaced_and_its_workers_serve_on() {
    let _machine = alone();
    let mut ostler = start();
    let load = Load::on(&ostler.unix("web.sock")).clients(CLIENTS).path("/sleep/1").start();
    load.wait_for_more(50);
    let pool = ostler.status().only().clone();
    let (workers, first) = (pool.pids(), template(&pool).expect("it has one"));
    kill_now(first);
    let second = wait_for_another_template(&ostler, first);
    load.wait_for_more(50);
    load.stop().assert_no_failure();
    assert_eq!(ostler.status().only().pids(), workers);
    assert_eq!(loads(&journal(ostler.scratch())), 2);
    let deaths = ostler.command(&["deaths"]);
    assert!(deaths.stdout.contains("web/template.1"), "{deaths:?}");
    kill_now(workers[0]);
    ostler.wait_status("forked by the second", |status| {
        let pool = status.only();
        (template(pool) == Some(second) && pool.templates[0].forked == 1 && pool.ready().len() == 3).then_some(())
    });
    ostler.stop();
    ostler.assert_no_process_left();
}

#[test]
fn reloads_under_load_load_anew_each_time_and_fail_no_request() {
    let _machine = alone();
    let mut ostler = start();
    let before = ostler.descriptor_count();
    let load = Load::on(&ostler.unix("web.sock")).clients(CLIENTS).path("/sleep/1").start();
    load.wait_for_more(50);
    for round in 1..=5 {
        assert_eq!(ostler.command(&["reload"]).code, 0);
        load.wait_for_more(20);
        assert_eq!(loads(&journal(ostler.scratch())), 1 + round);
    }
    load.stop().assert_no_failure();
    ostler.wait_status("one template, of the last generation", |status| {
        let pool = status.only();
        (pool.templates.len() == 1 && pool.templates[0].generation == 6 && pool.generations() == [6]).then_some(())
    });
    ostler.wait_descriptor_count(before);
    ostler.stop_clean();
    ostler.assert_no_process_left();
}

/// Reloads to a program that is no good as a template; answers what was said.
fn undone_by(command: &[String]) -> String {
    let _machine = alone();
    let mut ostler = start();
    let load = Load::on(&ostler.unix("web.sock")).clients(CLIENTS).path("/sleep/1").start();
    load.wait_for_more(50);
    let pool = ostler.status().only().clone();
    ostler.rewrite_config(&config(command));
    let output = ostler.command(&["reload"]);
    assert_eq!(output.code, 3, "{output:?}\n{}", ostler.log());
    load.wait_for_more(50);
    load.stop().assert_no_failure();
    let after = ostler.wait_status("only the old template", |status| {
        let pool = status.only();
        (pool.templates.len() == 1 && pool.is_idle()).then(|| pool.clone())
    });
    assert_eq!((after.pids(), template(&after)), (pool.pids(), template(&pool)), "the old ones serve on");
    let doomed = after.pids()[0];
    kill_now(doomed);
    ostler.wait_status("three others", |status| {
        let pool = status.only();
        (pool.ready().len() == 3 && !pool.pids().contains(&doomed)).then_some(())
    });
    ostler.stop();
    ostler.assert_no_process_left();
    output.stderr
}

#[test]
fn a_reload_is_undone_when_the_new_template_cannot_load() {
    let said = undone_by(&programs::templated(Path::new("other-journal"), &["0", "fails"]));
    assert!(said.contains("cannot load: the model is not there"), "{said}");
}

#[test]
fn a_reload_is_undone_when_the_new_template_has_threads() {
    let said = undone_by(&programs::templated(Path::new("other-journal"), &["0", "threads"]));
    assert!(said.contains("it has 2 threads") && said.contains("left-behind"), "{said}");
    assert!(said.contains("reload.template = false"), "the remedy: {said}");
}

#[test]
fn a_reload_is_undone_when_the_new_program_knows_nothing_of_templates() {
    let said = undone_by(&programs::slow_start(0));
    assert!(said.contains("is no template") && said.contains("Template::run"), "{said}");
}

#[test]
fn a_reload_is_undone_when_the_new_template_lies_about_its_first_worker() {
    for mode in ["liar", "own", "stranger"] {
        let said = undone_by(&programs::hostile_template(mode));
        assert!(said.contains("which is no child that it has forked for us"), "{mode}: {said}");
    }
}

#[test]
fn a_reload_is_undone_when_the_new_template_floods_or_answers_what_nobody_asked() {
    for (mode, word) in [("flood", "announced a worker"), ("stray", "refused a worker")] {
        let said = undone_by(&programs::hostile_template(mode));
        assert!(said.contains(word), "{mode}: {said}");
    }
}

#[test]
fn a_reload_is_undone_when_the_new_template_cannot_fork() {
    let said = undone_by(&programs::hostile_template("unfit"));
    assert!(said.contains("can't fork workers: it has 7 threads\\n"), "escaped: {said}");
}

#[test]
fn a_reload_is_undone_when_the_new_template_does_not_answer() {
    let said = undone_by(&programs::hostile_template("mute"));
    assert!(said.contains("did not answer for 5s when it was asked for a worker"), "{said}");
}

#[test]
fn without_templates_each_worker_loads_by_itself() {
    let scratch = Scratch::new();
    let config = good(&scratch, &[]).replace("reload.template = true", "");
    let mut ostler = Builder::new(&scratch).config(config).start();
    get_once(&ostler.unix("web.sock"), "/", PATIENCE).expect("it serves");
    assert_eq!(loads(&journal(&scratch)), 3);
    assert!(ostler.status().only().templates.is_empty());
    ostler.stop_clean();
}

#[test]
fn a_first_start_ends_when_nothing_can_be_loaded_and_says_why() {
    let scratch = Scratch::new();
    let config = good(&scratch, &["0", "fails"]);
    let ended = Builder::new(&scratch).config(config).start_failing();
    assert_eq!(ended.code, 1, "{}", ended.log);
    assert!(ended.log.contains("cannot load: the model is not there"), "{}", ended.log);
    assert_eq!(loads(&journal(&scratch)), 3, "as often as start.failures says");
}

#[test]
fn scaling_pausing_and_recycling_fork_and_load_nothing() {
    let mut ostler = start();
    for (command, workers) in [(vec!["scale", "web", "5"], 5), (vec!["recycle", "web"], 5), (vec!["pause"], 0)] {
        assert_eq!(ostler.command(&command).code, 0, "{command:?}");
        ostler.wait_status("scaled", |status| (status.only().ready().len() == workers).then_some(()));
    }
    assert_eq!(ostler.command(&["resume"]).code, 0);
    get_once(&ostler.unix("web.sock"), "/", PATIENCE).expect("it serves");
    assert_eq!(loads(&journal(ostler.scratch())), 1);
    ostler.stop_clean();
    ostler.assert_no_process_left();
}

#[test]
fn a_template_whose_supervisor_is_killed_leaves_and_so_do_its_workers() {
    let mut ostler = start();
    ostler.scratch().expect_disorder();
    let pool = ostler.status().only().clone();
    let all: Vec<i32> = pool.pids().into_iter().chain(template(&pool)).collect();
    ostler.signal(Signal::SIGKILL);
    ostler.wait(SOON);
    wait_until(SOON, "everybody is gone", || all.iter().all(|pid| !procs::alive(*pid)));
}

#[test]
fn process_1_of_a_namespace_has_templates_like_any_other() {
    let scratch = Scratch::new();
    let config = good(&scratch, &[]);
    let mut first = First::start(Builder::new(&scratch).config(config));
    let pool = first.ostler.status().only().clone();
    assert_eq!(pool.ready().len(), 3, "{pool:?}");
    let doomed = pool.pids()[0];
    let inside = first.run_inside(&format!("kill -KILL {doomed}; for n in 1 2 3 4; do ( ( exit 3 ) & ) ; done"));
    assert_eq!(inside.code, 0, "{inside:?}");
    first.ostler.wait_status("three others", |status| {
        let pool = status.only();
        (pool.ready().len() == 3 && !pool.pids().contains(&doomed)).then_some(())
    });
    assert_eq!(loads(&journal(&scratch)), 1);
    first.signal(Signal::SIGTERM);
    first.ostler.wait(SOON);
    first.ostler.assert_no_process_left();
}
