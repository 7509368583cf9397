//! Starts one side of the comparison: bare prefork, or ostler with a prefetch.

use std::fmt;
use std::net::{SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use nix::sys::socket::{Backlog, listen};
use ostler_tests::{Builder, Ostler, Scratch, Target, place, programs};

/// With a supervisor, and which, or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Workers that share a listener: the kernel's queue is the line.
    Bare,
    /// ostler.
    Ostler { prefetch: u32, recall_after: &'static str },
}

/// Without prefetch there is nothing to recall from a worker that claims.
pub(crate) const PREFETCH_0: Side = Side::Ostler { prefetch: 0, recall_after: "5ms" };
/// With both defaults but the prefetch.
pub(crate) const PREFETCH_1: Side = Side::Ostler { prefetch: 1, recall_after: "5ms" };

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Side::Bare => f.pad("bare prefork"),
            Side::Ostler { prefetch: 0, .. } => f.pad("prefetch 0"),
            Side::Ostler { prefetch, recall_after } => f.pad(&format!("prefetch {prefetch}, recall {recall_after}")),
        }
    }
}

/// A running side.
pub(crate) struct Running {
    pub(crate) address: SocketAddrV4,
    processes: Processes,
}

enum Processes {
    Bare(Vec<Child>),
    Ostler(Box<Ostler>),
}

impl Running {
    /// Starts it with so many workers, each for one connection at a time.
    pub(crate) fn start(side: Side, workers: u32) -> Running {
        let Target::Tcp(SocketAddr::V4(address)) = Target::free_tcp() else {
            unreachable!("a free TCP address is of IPv4");
        };
        let processes = match side {
            Side::Bare => Processes::Bare(start_bare(address, workers)),
            Side::Ostler { prefetch, recall_after } => {
                Processes::Ostler(Box::new(start_ostler(address, workers, prefetch, recall_after)))
            }
        };
        Running { address, processes }
    }

    /// The supervisor, where there is one.
    pub(crate) fn ostler(&self) -> Option<&Ostler> {
        match &self.processes {
            Processes::Bare(_) => None,
            Processes::Ostler(ostler) => Some(ostler),
        }
    }

    pub(crate) fn end(self) {
        match self.processes {
            Processes::Bare(children) => {
                for mut child in children {
                    child.kill().expect("our own child");
                    child.wait().expect("our own child");
                }
            }
            Processes::Ostler(mut ostler) => {
                ostler.stop();
            }
        }
    }
}

fn start_bare(address: SocketAddrV4, workers: u32) -> Vec<Child> {
    let listener: OwnedFd = TcpListener::bind(address).expect("a free port").into();
    listen(&listener, Backlog::new(4096).expect("a backlog")).expect("it is bound");
    (0..workers)
        .map(|_| {
            let mut command = Command::new(place::program("bench_tail"));
            let input = listener.try_clone().expect("a descriptor");
            command.args(["worker", "bare"]).stdin(Stdio::from(input)).spawn().expect("a worker starts")
        })
        .collect()
}

fn start_ostler(address: SocketAddrV4, workers: u32, prefetch: u32, recall_after: &str) -> Ostler {
    let words = [place::program("bench_tail").display().to_string(), "worker".to_owned(), "ostler".to_owned()];
    let config = format!(
        "[pool.bench]\nlisten = [\"tcp:{address}\"]\ncommand = {}\nworkers = {workers}\nconcurrency = 1\n\
         prefetch = {prefetch}\nrecall_after = \"{recall_after}\"\n",
        programs::toml(&words)
    );
    Builder::new(&Scratch::new()).config(config).start()
}
