//! Starts one server with the application that all of them have, and reloads it in its own way.

use std::fmt;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::deadline::wait_until;
use ostler_tests::http::get_once;
use ostler_tests::{Builder, Ostler, Scratch, Target, place, procs, programs};

use crate::{Plan, Wire, prepare};

/// How long a server may take to start, or to replace its workers.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Our WSGI server, one connection per worker.
    Ostler,
    /// The same, each worker with one more in its mailbox.
    OstlerPrefetch,
    /// The same, accepting for themselves.
    OstlerListen,
    /// The same as the first, with threads.
    OstlerThreads,
    GunicornSync,
    GunicornThreads,
    Uwsgi,
    /// uWSGI as its documentation advises for reloads: each worker loads for itself, and they are replaced one by one.
    UwsgiChain,
    /// Node's http, unmodified, under ostler.
    NodeAccept,
    /// The same, accepting for itself.
    NodeListen,
    /// Node's cluster, whose primary passes connections.
    NodePassing,
    /// Node's cluster, whose workers share the listener.
    NodeShared,
}

impl Side {
    /// The side of ostler that it is measured against.
    pub(crate) fn reference(self) -> Side {
        match self {
            Side::Ostler | Side::OstlerPrefetch | Side::OstlerListen | Side::GunicornSync => Side::Ostler,
            Side::OstlerThreads | Side::GunicornThreads | Side::Uwsgi | Side::UwsgiChain => Side::OstlerThreads,
            Side::NodeAccept | Side::NodeListen | Side::NodePassing | Side::NodeShared => Side::NodeAccept,
        }
    }

    /// Whether it has room for as many kept connections as there are clients.
    pub(crate) fn keeps_connections(self) -> bool {
        !matches!(self, Side::Ostler | Side::OstlerPrefetch | Side::OstlerListen | Side::GunicornSync)
    }

    /// Whether it is another side under load than one that is loaded already.
    pub(crate) fn is_loaded(self) -> bool {
        self != Side::UwsgiChain
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Side::Ostler => "ostler",
            Side::OstlerPrefetch => "ostler, prefetch 1",
            Side::OstlerListen => "ostler, listen",
            Side::OstlerThreads => "ostler, threads",
            Side::GunicornSync => "gunicorn sync",
            Side::GunicornThreads => "gunicorn gthread",
            Side::Uwsgi => "uWSGI, threads",
            Side::UwsgiChain => "uWSGI, chain reload",
            Side::NodeAccept => "ostler, Node in accept",
            Side::NodeListen => "ostler, Node in listen",
            Side::NodePassing => "Node cluster, passing",
            Side::NodeShared => "Node cluster, shared",
        })
    }
}

/// What uWSGI logs at the end of a chain reload.
const CHAIN_ENDED: &str = "chain reloading complete";

/// A running side; dropping it ends it.
pub(crate) struct Running {
    side: Side,
    workers: usize,
    scratch: Scratch,
    pub(crate) target: Target,
    server: Server,
}

enum Server {
    Ostler(Box<Ostler>),
    Peer { root: Child, mark: String },
}

impl Running {
    /// Starts it and waits until all of its workers are there and one answers.
    ///
    /// # Panics
    /// When it does not start.
    pub(crate) fn start(side: Side, plan: Plan) -> Running {
        let scratch = Scratch::new();
        let target = match plan.wire {
            Wire::Unix => Target::Unix(scratch.path("peer.sock")),
            Wire::Tcp => Target::free_tcp(),
        };
        let server = match ostler_pool(side, plan) {
            Some(pool) => {
                let config = format!("[pool.main]\nlisten = [{:?}]\n{pool}", target.listen());
                Server::Ostler(Box::new(Builder::new(&scratch).config(config).ready_within(PATIENCE).start()))
            }
            None => start_peer(side, plan, &scratch, &target),
        };
        let workers = usize::try_from(plan.workers).expect("a few");
        let running = Running { side, workers, scratch, target, server };
        wait_until(PATIENCE, &format!("{side} serves"), || {
            running.workers().len() == workers && get_once(&running.target, "/", ANSWER_WITHIN).is_ok()
        });
        running
    }

    /// Everybody whose CPU time the side costs.
    pub(crate) fn processes(&self) -> Vec<i32> {
        match &self.server {
            Server::Ostler(ostler) => ostler.processes(),
            Server::Peer { mark, .. } => procs::marked(mark),
        }
    }

    /// All but the process that was started: who serves.
    pub(crate) fn workers(&self) -> Vec<i32> {
        let root = self.root();
        self.processes().into_iter().filter(|pid| *pid != root).collect()
    }

    /// Replaces all workers, and waits until no old one is left.
    pub(crate) fn reload(&self) {
        let before = self.workers();
        match &self.server {
            Server::Ostler(ostler) => {
                let output = ostler.command(&["reload"]);
                assert_eq!(output.code, 0, "{output:?}");
            }
            Server::Peer { .. } if self.side == Side::UwsgiChain => {
                // Its last worker is there before the chain has ended, and it takes no order until then.
                let ended = || {
                    fs::read_to_string(self.scratch.path("peer.log")).map_or(0, |log| log.matches(CHAIN_ENDED).count())
                };
                let ended_before = ended();
                fs::write(self.scratch.path("fifo"), "c").expect("uWSGI listens to its fifo");
                wait_until(PATIENCE, "uWSGI has reloaded", || ended() > ended_before);
            }
            Server::Peer { .. } => kill(Pid::from_raw(self.root()), Signal::SIGHUP).expect("it runs"),
        }
        self.wait_for_workers(&before);
    }

    /// Kills one worker, and waits until another one has taken its place.
    pub(crate) fn kill_a_worker(&self) {
        let victim = self.workers()[0];
        kill(Pid::from_raw(victim), Signal::SIGKILL).expect("a worker");
        self.wait_for_workers(&[victim]);
    }

    fn wait_for_workers(&self, gone: &[i32]) {
        wait_until(PATIENCE, &format!("{} has its workers again", self.side), || {
            let workers = self.workers();
            workers.len() == self.workers && workers.iter().all(|pid| !gone.contains(pid))
        });
    }

    fn root(&self) -> i32 {
        match &self.server {
            Server::Ostler(ostler) => ostler.pid(),
            Server::Peer { root, .. } => i32::try_from(root.id()).expect("a pid"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        match &mut self.server {
            Server::Ostler(ostler) => {
                ostler.stop();
            }
            Server::Peer { root, mark } => {
                procs::kill_marked(mark);
                let _ = root.wait();
            }
        }
        if let Target::Unix(path) = &self.target {
            let _ = fs::remove_file(path); // the peer's
        }
    }
}

fn directory() -> PathBuf {
    place::workspace().join("tests/programs/peers")
}

/// What the configuration says of ostler's sides.
fn ostler_pool(side: Side, plan: Plan) -> Option<String> {
    let words = |words: &[&str]| programs::toml(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    let python = prepare::program("python");
    let wsgi = words(&[&python, "-m", "ostler_worker.wsgi", "app:app"]);
    let (command, more) = match side {
        Side::Ostler => (wsgi, "concurrency = 1".to_owned()),
        Side::OstlerPrefetch => (wsgi, "concurrency = 1\nprefetch = 1".to_owned()),
        Side::OstlerListen => (wsgi, "concurrency = 1\nhandoff = \"listen\"".to_owned()),
        Side::OstlerThreads => (wsgi, format!("concurrency = {}", plan.threads)),
        Side::NodeAccept => (words(&["node", "app.js"]), "handoff = \"accept\"".to_owned()),
        Side::NodeListen => (words(&["node", "app.js"]), "handoff = \"listen\"".to_owned()),
        Side::GunicornSync
        | Side::GunicornThreads
        | Side::Uwsgi
        | Side::UwsgiChain
        | Side::NodePassing
        | Side::NodeShared => return None,
    };
    let workers = plan.workers;
    let directory = directory();
    // The default queue.timeout would turn a long wait into a failure that the peers don't know.
    let queue =
        if matches!(side, Side::OstlerListen | Side::NodeListen) { "" } else { "queue = { timeout = \"60s\" }" };
    Some(format!("command = {command}\nworkers = {workers}\n{more}\n{queue}\nprocess = {{ cwd = {directory:?} }}\n"))
}

fn start_peer(side: Side, plan: Plan, scratch: &Scratch, target: &Target) -> Server {
    let mark = format!("peer-{}-{}", std::process::id(), scratch.dir().display());
    let (workers, threads) = (plan.workers.to_string(), plan.threads.to_string());
    // As gunicorn writes it, and as the others do.
    let address = target.listen().replace("tcp:", "");
    let plain = address.replace("unix:", "");
    let mut command = match side {
        Side::GunicornSync | Side::GunicornThreads => {
            let mut command = Command::new(prepare::program("gunicorn"));
            command.args(["app:app", "--bind", &address, "--workers", &workers, "--log-level", "error"]);
            if side == Side::GunicornThreads {
                command.args(["--worker-class", "gthread", "--threads", &threads]);
            }
            command
        }
        Side::Uwsgi | Side::UwsgiChain => {
            let mut command = Command::new(prepare::program("uwsgi"));
            command.args(["--http11-socket", &plain, "--master", "--need-app", "--die-on-term", "--disable-logging"]);
            command.args(["--wsgi-file", "app.py", "--callable", "app", "--workers", &workers, "--threads", &threads]);
            command.args(["--listen", "1024", "--thunder-lock"]);
            if side == Side::UwsgiChain {
                command.arg("--lazy-apps").arg("--master-fifo").arg(scratch.path("fifo"));
            }
            command
        }
        Side::NodePassing | Side::NodeShared => {
            let mut command = Command::new("node");
            let policy = if side == Side::NodePassing { "rr" } else { "none" };
            command.args(["cluster.js", &workers]).env("NODE_CLUSTER_SCHED_POLICY", policy).env("PEER_LISTEN", plain);
            command
        }
        Side::Ostler
        | Side::OstlerPrefetch
        | Side::OstlerListen
        | Side::OstlerThreads
        | Side::NodeAccept
        | Side::NodeListen => {
            unreachable!("ostler's own")
        }
    };
    let log = fs::File::create(scratch.path("peer.log")).expect("the directory is ours");
    command.current_dir(directory()).env(procs::MARK, &mark).process_group(0).stdin(Stdio::null());
    command.stdout(log.try_clone().expect("a descriptor")).stderr(log);
    Server::Peer { root: command.spawn().unwrap_or_else(|error| panic!("cannot start {side}: {error}")), mark }
}
