//! Loads a server with many clients and sorts what becomes of every request.
//!
//! One thread per client, blocking sockets, every wait bounded. Not made to be fast (see `bench/` for that), but
//! to miss nothing.

mod client;
mod tally;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use tally::Tally;

use crate::deadline::{SOON, wait_until};
use crate::target::Target;

/// What clients do.
#[derive(Debug, Clone)]
pub struct Load {
    target: Target,
    clients: usize,
    path: String,
    speech: Speech,
    per_connection: u32,
    requests_each: u64,
    timeout: Duration,
    at_most: Duration,
}

/// What clients speak.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Speech {
    Http,
    /// One request on a connection, for this script.
    FastCgi(PathBuf),
}

/// Clients at work.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Tally>>,
}

/// What clients and the test share.
#[derive(Debug)]
pub(crate) struct Shared {
    stop: AtomicBool,
    served: AtomicU64,
    failed: AtomicU64,
    end: Instant,
}

impl Load {
    /// One client that asks for `/`, one connection per request, until it is stopped.
    #[must_use]
    pub fn on(target: &Target) -> Load {
        Load {
            target: target.clone(),
            clients: 1,
            path: "/".to_owned(),
            speech: Speech::Http,
            per_connection: 1,
            requests_each: u64::MAX,
            timeout: Duration::from_secs(30),
            at_most: Duration::from_secs(600),
        }
    }

    /// How many clients.
    #[must_use]
    pub fn clients(mut self, count: usize) -> Load {
        self.clients = count;
        self
    }

    /// What they ask for.
    #[must_use]
    pub fn path(mut self, path: &str) -> Load {
        path.clone_into(&mut self.path);
        self
    }

    /// They ask a FastCGI server for this script instead, one request on a connection.
    #[must_use]
    pub fn fastcgi(mut self, script: &Path) -> Load {
        self.speech = Speech::FastCgi(script.to_owned());
        self
    }

    /// Keep-alive: so many requests on one connection.
    #[must_use]
    pub fn per_connection(mut self, count: u32) -> Load {
        self.per_connection = count;
        self
    }

    /// Each client leaves after so many requests, served or not.
    #[must_use]
    pub fn requests_each(mut self, count: u64) -> Load {
        self.requests_each = count;
        self
    }

    /// How long a connect, a write or a read may take.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Load {
        self.timeout = limit;
        self
    }

    /// Begins.
    ///
    /// # Panics
    /// When the machine has no threads for it.
    #[must_use]
    pub fn start(self) -> Running {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            served: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            end: Instant::now() + self.at_most,
        });
        let threads = (0..self.clients)
            .map(|_| {
                let (load, shared) = (self.clone(), Arc::clone(&shared));
                let thread = thread::Builder::new().stack_size(256 * 1024);
                thread.spawn(move || client::run(&load, &shared)).expect("a thread for a client")
            })
            .collect();
        Running { shared, threads }
    }

    /// Begins, and waits until every client has made its requests.
    ///
    /// # Panics
    /// When no number of requests was given: it would not end.
    #[must_use]
    pub fn run(self) -> Tally {
        assert_ne!(self.requests_each, u64::MAX, "say how many requests");
        self.start().join()
    }
}

impl Running {
    /// Requests served so far.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// Requests that failed so far.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Waits until so many more requests were served: the load goes through.
    ///
    /// # Panics
    /// When they are not in time.
    pub fn wait_for_more(&self, count: u64) {
        let wanted = self.served() + count;
        wait_until(SOON, &format!("{count} more requests served"), || self.served() >= wanted);
    }

    /// Lets every client finish the request that it is at.
    #[must_use]
    pub fn stop(self) -> Tally {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    fn join(mut self) -> Tally {
        let mut total = Tally::default();
        for thread in self.threads.drain(..) {
            total.add(&thread.join().expect("a client panicked"));
        }
        total
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed) && Instant::now() < self.end
    }
}

#[cfg(test)]
mod tests;
