//! Hosts programs that know nothing of ostler: what they are started with, and how they are asked for something.
//!
//! They are spoken with by their mailbox, their table and signals; there is no control channel, since a program that does not
//! know of it would pass it on to whatever it starts.

use std::ffi::{CString, OsString};
use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::fstat;
use ostler_config::checked::{AcceptAt, DrainSignal, Handoff, Pool, Ready};
use ostler_pool::{Event, HangUp, Moment};
use ostler_shared::{WorkerId, WorkerName, env};

use super::Driver;
use super::link::{KNOCK, Link, Manners};
use super::listening::Entrance;
use super::spawn::Order;

/// What an unmodified program needs beside what every worker does.
#[derive(Debug)]
pub(crate) struct Unmodified {
    shim: PathBuf,
    listeners: Vec<Vec<u8>>,
}

/// How long an unmodified program that drains is left alone before it is asked to leave. It is handed nothing new meanwhile, and
/// reads what it claimed last: most programs cut connections on which they have read nothing yet.
pub(crate) const GOODBYE_AFTER: Duration = Duration::from_millis(100);
/// Then it has to come back to where it waits so often: an event loop that claims in one turn reads in the next but two.
pub(crate) const GOODBYE_TURNS: u32 = 4;
/// If it does not do so for this long, it is asked all the same.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// How far the farewell of an unmodified program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goodbye {
    /// Nobody has told it to drain, or it was asked to leave.
    None,
    /// It serves what it claimed last.
    Soon,
    /// It has to come back to where it waits so many times.
    After { turns: u32 },
}

const PRELOAD: &str = "LD_PRELOAD=";

impl Unmodified {
    /// What the shim and the program itself read.
    ///
    /// # Errors
    /// As fstat(2).
    pub(crate) fn variables(
        &self,
        name: &WorkerName,
        config: &Pool,
        mailbox: BorrowedFd<'_>,
    ) -> io::Result<impl Iterator<Item = (OsString, OsString)>> {
        let identity = fstat(mailbox)?;
        let listeners: Vec<String> = self.listeners.iter().map(|address| hexadecimal(address)).collect();
        let mut variables = vec![
            (env::MAILBOX, format!("{}:{}", identity.st_dev, identity.st_ino)),
            (env::LISTENERS, listeners.join(",")),
            (env::DRAIN_SIGNAL, (drain_signal(config.drain.signal) as i32).to_string()),
        ];
        match config.accept.at {
            AcceptAt::Three => {
                variables.push(("LISTEN_FDS", "1".to_owned()));
                variables.push(("LISTEN_FDNAMES", name.pool.to_string()));
            }
            AcceptAt::Stdin => {}
        }
        Ok(variables.into_iter().map(|(key, value)| (OsString::from(key), OsString::from(value))))
    }

    /// The environment with the shim in front of what is preloaded already.
    ///
    /// # Errors
    /// Never: no variable has a NUL.
    pub(crate) fn preloaded(&self, environment: Vec<CString>) -> io::Result<Vec<CString>> {
        let is_preload = |variable: &CString| variable.as_bytes().starts_with(PRELOAD.as_bytes());
        let (preload, mut others): (Vec<_>, Vec<_>) = environment.into_iter().partition(is_preload);
        let mut line = [PRELOAD.as_bytes(), self.shim.as_os_str().as_encoded_bytes()].concat();
        for before in preload.iter().filter_map(|variable| variable.as_bytes().get(PRELOAD.len()..)) {
            line.push(b':');
            line.extend(before);
        }
        others.push(CString::new(line)?);
        Ok(others)
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _always = write!(text, "{byte:02x}");
        text
    })
}

pub(crate) fn drain_signal(signal: DrainSignal) -> Signal {
    match signal {
        DrainSignal::Term => Signal::SIGTERM,
        DrainSignal::Int => Signal::SIGINT,
        DrainSignal::Quit => Signal::SIGQUIT,
        DrainSignal::Hup => Signal::SIGHUP,
        DrainSignal::Usr1 => Signal::SIGUSR1,
        DrainSignal::Usr2 => Signal::SIGUSR2,
        DrainSignal::Winch => Signal::SIGWINCH,
    }
}

impl Driver {
    /// Where a worker's connections come from.
    ///
    /// # Errors
    /// When the shim or the listeners are not what such a program can use.
    pub(super) fn entrance_for(&self, order: &Order<'_>) -> io::Result<Entrance> {
        match order.settings.pool.handoff {
            Handoff::Pass | Handoff::Stdio => return Ok(Entrance::Mailbox),
            Handoff::Listen => {
                return self.doors.listeners_of(order.pool, &order.settings.pool).map(Entrance::Listeners);
            }
            Handoff::Accept => {}
        }
        let shim = self.shim.clone().ok_or_else(|| io::Error::other("there is no shim"))?;
        let listeners = self.doors.addresses_of(order.pool, &order.name.pool)?;
        let mut families = listeners.iter().map(|address| address.get(..2));
        let first = families.next();
        if families.any(|family| Some(family) != first) {
            let why = "its listeners are of several address families, and the program believes in one listener (make a \
                       pool for each)";
            return Err(io::Error::other(why));
        }
        Ok(Entrance::Imitation(Unmodified { shim, listeners }))
    }

    /// Takes in what an unmodified program says outside of its table's entries.
    pub(super) fn look_at_unmodified(&mut self, worker: WorkerId) {
        let Some(link) = self.workers.get_mut(&worker) else { return };
        let Some(table) = self.rings.table(link.ring) else { return };
        // A program that only says so, and does not wait where connections come, would leave them there.
        let has_said = match link.settings.pool.start.ready {
            Ready::Auto | Ready::Hello | Ready::Accept => true,
            Ready::Notify => link.notices.as_ref().is_some_and(|notices| notices.ready_at_ns().is_some()),
        };
        let (is_ready, answered) = (table.is_ready() && has_said, table.answered());
        let has_left = table.has_left() == Some(link.pid.as_raw());
        if link.manners == Manners::Stranger && is_ready {
            return self.ready(worker);
        }
        if link.manners == Manners::Serving && has_left && !std::mem::replace(&mut link.has_left, true) {
            return self.step(Event::HungUp { worker, how: HangUp::Leaves });
        }
        if link.manners != Manners::Serving || link.asked.is_none() || link.asked != answered {
            return;
        }
        link.asked = None;
        match link.goodbye {
            Goodbye::None | Goodbye::Soon => self.step(Event::Alive { worker }),
            Goodbye::After { turns: 0 | 1 } => self.ask_to_leave(worker),
            Goodbye::After { turns } => {
                link.goodbye = Goodbye::After { turns: turns - 1 };
                self.knock(worker);
            }
        }
    }

    /// Asks an unmodified program for a sign of life: by a word that its next call answers, and by waking it, since it may wait
    /// for a mailbox that is empty again.
    pub(super) fn knock(&mut self, worker: WorkerId) {
        let Some(link) = self.workers.get_mut(&worker) else { return };
        let Some(table) = self.rings.table(link.ring) else { return };
        let nonce = self.next_nonce;
        self.next_nonce = nonce.saturating_add(1);
        table.ask(nonce);
        link.asked = Some(nonce);
        wake(link);
    }

    /// Its mailbox was emptied, and the knock may have been in it.
    pub(super) fn knock_again(&self, worker: WorkerId) {
        let Some(link) = self.workers.get(&worker) else { return };
        if link.asked.is_some() && link.control.is_none() {
            wake(link);
        }
    }

    /// What is unclaimed was recalled. It is asked to leave when it has begun with what it claimed last.
    pub(super) fn prepare_goodbye(&mut self, worker: WorkerId) {
        let at = self.now() + GOODBYE_AFTER;
        let Some(link) = self.workers.get_mut(&worker) else { return };
        link.goodbye = Goodbye::Soon;
        self.goodbyes.insert((at, worker));
    }

    /// Goes on with those whose time has come.
    pub(super) fn say_goodbyes(&mut self, now: Moment) {
        while let Some((at, worker)) = self.goodbyes.first().copied().filter(|(at, _)| *at <= now) {
            self.goodbyes.remove(&(at, worker));
            let Some(link) = self.workers.get_mut(&worker) else { continue };
            match link.goodbye {
                Goodbye::None => {}
                Goodbye::Soon => {
                    link.goodbye = Goodbye::After { turns: GOODBYE_TURNS };
                    self.goodbyes.insert((now + GOODBYE_MAX, worker));
                    self.knock(worker);
                }
                Goodbye::After { .. } => self.ask_to_leave(worker),
            }
        }
    }

    /// The program's own signal, to the process that we started and to no other: it knows what its children have to do. What is
    /// unclaimed was recalled before. The mailbox stays open, since its end would look like a connection.
    pub(super) fn ask_to_leave(&mut self, worker: WorkerId) {
        let Some(link) = self.workers.get_mut(&worker).filter(|link| link.ended.is_none()) else { return };
        link.goodbye = Goodbye::None;
        let signal = drain_signal(link.settings.pool.drain.signal);
        if let Err(error) = super::child::signal_one(link.pid, signal as i32) {
            tracing::warn!(worker = %link.name, "cannot send {signal}: {error}");
        }
    }
}

/// Knocks at a program's mailbox. Without room for it there are connections enough to be woken by.
fn wake(link: &Link) {
    let _sent = send(link.mailbox.as_raw_fd(), &KNOCK, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_preloaded_already_stays_behind_ours() {
        let unmodified = Unmodified { shim: "/lib/shim.so".into(), listeners: Vec::new() };
        let with = |before: &[&str]| {
            let before = before.iter().map(|line| CString::new(*line).unwrap()).collect();
            let lines = unmodified.preloaded(before).unwrap();
            lines.into_iter().map(|line| line.into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(with(&["A=1"]), ["A=1", "LD_PRELOAD=/lib/shim.so"]);
        assert_eq!(with(&["LD_PRELOAD=/a.so /b.so", "A=1"]), ["A=1", "LD_PRELOAD=/lib/shim.so:/a.so /b.so"]);
    }

    #[test]
    fn an_address_is_written_as_the_shim_reads_it() {
        assert_eq!(hexadecimal(&[1, 0, b'/', 0xff]), "01002fff");
    }
}
