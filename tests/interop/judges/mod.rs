//! Puts a real proxy in front of ostler and asks it what it saw while workers are reloaded and recycled.
//!
//! Behind it are a pool in `pass` and one in `accept`. Each is asked with a connection for every request, and with connections
//! that the proxy keeps.

mod front;
mod haproxy;
mod nginx;

use ostler_tests::load::Load;
use ostler_tests::{Ostler, Scratch, Target, place, programs};

use crate::page::{self, JUDGES, Line};
use crate::scenario::{PATIENCE, reloads};
use front::Front;

/// The pools behind a proxy, by their handoff.
pub(crate) const POOLS: [&str; 2] = ["pass", "accept"];
/// How a proxy connects to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// For each request: one attempt, and whatever goes wrong with it counts.
    Once,
    /// It keeps connections, as it does by default. A worker that leaves may close one at the moment when a request is sent on it,
    /// which HTTP can't avoid. nginx then repeats the request; HAProxy closes the client's connection, on which it has answered
    /// before, so that the client does. What counts is what they answer.
    Kept,
}

impl Way {
    const ALL: [Way; 2] = [Way::Once, Way::Kept];

    fn name(self) -> &'static str {
        match self {
            Way::Once => "once",
            Way::Kept => "kept",
        }
    }
}

/// A worker that has served so many requests is replaced.
const RECYCLE_REQUESTS: u32 = 300;
const CLIENTS: usize = 4;

/// A proxy.
pub(crate) struct Judge {
    pub(crate) name: &'static str,
    version: fn() -> Option<String>,
    start: fn(&Scratch) -> Front,
    /// What it holds against a pool that was connected to in one way: 0 where all went well.
    errors: fn(&Front, pool: &str, way: Way, served: u64) -> u64,
}

/// Makes a test of each judge, so that none is forgotten.
macro_rules! judges {
    ($($test:ident: $judge:expr;)*) => {
        /// Every judge, in the order of the table.
        pub(crate) const ALL: &[&Judge] = &[$(&$judge),*];
        $(
            #[test]
            fn $test() {
                judge(&$judge);
            }
        )*
    };
}

judges! {
    nginx_sees_no_error_while_workers_are_replaced: nginx::JUDGE;
    haproxy_sees_no_error_while_workers_are_replaced: haproxy::JUDGE;
}

fn start(scratch: &Scratch) -> Ostler {
    let app = place::unmodified("app.py");
    let dir = app.parent().expect("it lies in a directory").display().to_string();
    let uvicorn = place::unmodified_python("uvicorn").display().to_string();
    let command = [&uvicorn, "app:app", "--app-dir", &dir, "--fd", "3", "--no-access-log"].map(str::to_owned);
    let config = format!(
        "[pool.pass]\nlisten = [\"unix:pass.sock\"]\nworkers = 2\nconcurrency = 64\nrecycle = {{ requests = {RECYCLE_REQUESTS} }}\n\
         [pool.accept]\nlisten = [\"unix:accept.sock\"]\nworkers = 2\nhandoff = \"accept\"\ncommand = {}\n\
         recycle = {{ requests = {RECYCLE_REQUESTS} }}\n",
        programs::toml(&command),
    );
    ostler_tests::Builder::new(scratch).config(config).ready_within(PATIENCE).start()
}

fn judge(judge: &Judge) {
    let scratch = Scratch::new();
    let mut ostler = start(&scratch);
    let front = (judge.start)(&scratch);
    let target = Target::Unix(scratch.path(front::FRONT));
    let pairs = || POOLS.iter().flat_map(|pool| Way::ALL.map(move |way| (*pool, way)));
    let loads: Vec<_> = pairs()
        .map(|(pool, way)| {
            // What the client keeps is its own connection to the proxy.
            let load = Load::on(&target).path(&format!("/{pool}/{}/sleep/1", way.name())).clients(CLIENTS);
            (pool, way, load.per_connection(100).start())
        })
        .collect();
    for _ in 0..reloads() {
        let output = ostler.command(&["reload"]);
        assert_eq!(output.code, 0, "{}\n{}", output.text(), ostler.log());
        loads.iter().for_each(|(_, _, load)| load.wait_for_more(100));
    }
    for pool in POOLS {
        ostler.wait_log(&["it has served enough connections", &format!("worker={pool}/")]);
    }
    let tallies: Vec<_> = loads.into_iter().map(|(pool, way, load)| (pool, way, load.stop())).collect();
    for pool in POOLS {
        let cells = Way::ALL.map(|way| {
            let (_, _, tally) = tallies.iter().find(|(its, how, _)| *its == pool && *how == way).expect("there is one");
            println!("{}, {pool}, {}: {tally}", judge.name, way.name());
            page::errors((judge.errors)(&front, pool, way, tally.served) + tally.failed())
        });
        let good = cells.iter().all(|cell| *cell == page::NO_ERRORS);
        let cells = cells.into_iter().collect();
        page::compare(&JUDGES, &Line { program: judge.name, version: (judge.version)(), handoff: pool, cells, good });
    }
    drop(front);
    for pool in &ostler.status().pools {
        assert_eq!((pool.lost, pool.shed_total()), (0, 0), "{pool:?}");
    }
    ostler.stop_clean();
}
