//! Arranges what the scenes of the pages need.

use nix::sys::signal::Signal;
use ostler_tests::deadline::{SOON, wait_for};
use ostler_tests::status::PoolState;
use ostler_tests::tmux::Terminal;

use crate::inn::{Inn, Look};

/// A situation by its name in the pages.
pub(crate) fn open(name: &str, config: &str) -> Inn {
    match name {
        "busy" => busy(config),
        "stopped supervisor" => stopped(config),
        "dead supervisor" => dead(config),
        "a worker at one request" => stuck(config),
        "new version" | "bad version" => served(config),
        "bad file" => bad_file(config),
        "killed worker" => killed(config),
        "crashing workers" => crashing(config),
        "full line" => full(config),
        _ => panic!("nobody arranges {name:?}"),
    }
}

const TABLES: &[&str] = &["web/0.1", "web/2.1"];

/// All have served, and one serves.
fn busy(config: &str) -> Inn {
    let mut inn = Inn::open(config, &[Look { keys: &[], shows: TABLES }]);
    inn.serve(&[]);
    inn.serve(&[]);
    inn.serve(&[2]);
    inn
}

/// The same of a supervisor that does not run on.
fn stopped(config: &str) -> Inn {
    let inn = published(config);
    inn.ostler.signal(Signal::SIGSTOP);
    wait_for(SOON, "it is seen", || inn.ostler.client().any_status().ok().filter(|status| status.age_s > 2.0));
    inn
}

/// And of one that was killed.
fn dead(config: &str) -> Inn {
    let mut inn = published(config);
    inn.ostler.signal(Signal::SIGKILL);
    inn.ostler.wait(SOON);
    inn
}

/// A busy one that has said so on its scoreboard, where the commands look when it does not answer.
fn published(config: &str) -> Inn {
    let inn = busy(config);
    let control = inn.ostler.control().expect("given").to_str().expect("UTF-8").to_owned();
    let top = Terminal::start(&["top", "--control", &control], 100, 24);
    top.wait_line(&["web ", "ready", "3/3", "1/3"]);
    inn
}

/// One does not come back from a request, and the others serve on.
fn stuck(config: &str) -> Inn {
    let look = |keys, shows| Look { keys, shows };
    let worker = &["worker web/1.1", "waits in"];
    let mut inn = Inn::open(config, &[look(&[], TABLES), look(&["/", "1", ".", "1", "Enter", "Enter"], worker)]);
    inn.serve(&[1]);
    inn.ostler.wait_log(&["slow: what the worker is doing"]);
    inn.serve(&[]);
    inn
}

fn served(config: &str) -> Inn {
    let mut inn = Inn::open(config, &[]);
    inn.serve(&[]);
    inn
}

fn bad_file(config: &str) -> Inn {
    let inn = served(config);
    inn.ostler.rewrite_config(&config.replace("workers = 3", "workers = \"many\"\nworker = 4"));
    inn
}

/// Somebody kills one in the middle of a request.
fn killed(config: &str) -> Inn {
    let mut inn = Inn::open(config, &[]);
    inn.serve(&[1]);
    inn.kill(1);
    inn.wait_web("it is replaced", |pool| pool.lost == 1 && pool.ready().len() == 3);
    inn
}

/// What replaces a dead one does not start, until ostler gives up.
fn crashing(config: &str) -> Inn {
    let mut inn = served(config);
    inn.run_quietly("ln -sfn app-2 app");
    inn.kill(1);
    inn.wait_web("it is given up", |pool| pool.state == PoolState::Failed);
    inn
}

/// Nobody is free, the line is full, and more come.
fn full(config: &str) -> Inn {
    let mut inn = Inn::open(config, &[Look { keys: &[], shows: TABLES }]);
    inn.serve(&[0, 1, 2]);
    inn.crowd(6);
    inn.wait_web("two are let go", |pool| pool.queue.length == 4 && pool.shed_total() == 2);
    inn
}
