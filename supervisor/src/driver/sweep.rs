//! Reaps children, in the order that loses nothing: what it said, what it reported, what it printed, what it had not claimed, its end.

use std::os::fd::{AsFd, AsRawFd};

use nix::sys::signal::Signal;
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::Pid;
use ostler_pool::{Event, Failure};
use ostler_shared::WorkerId;

use super::Driver;
use super::child::{self, Ended, Reap, Which};
use super::link::{Emptied, Link};
use super::sources::Source;
use super::templates::is_template;
use crate::control::protocol::Stream;
use crate::report;

/// How many epitaphs are kept for whoever asks for a reason.
const EPITAPHS_MAX: usize = 64;

/// What is left of a child that has ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body {
    /// A zombie, whose pid is its own.
    Unreaped,
    /// This.
    Reaped(Ended),
}

impl Driver {
    /// Takes in every child that has ended. Known ones are workers and hooks; unknown ones are orphans that we adopted as PID 1
    /// or as a subreaper: reaped and otherwise ignored (I8).
    pub(super) fn sweep(&mut self) {
        loop {
            // Left a zombie, so that its pid is still its own while we signal its group.
            let pid = match child::ended_child(Which::Any, Reap::No) {
                Ok(Some(ended)) => ended.pid,
                Ok(None) => return self.oom.forget(),
                Err(error) => panic!("I8: cannot look for ended children: {error}"),
            };
            match self.pids.remove(&pid) {
                Some(worker) => self.bury(worker, pid, Body::Unreaped),
                None => match self.hooks.numbered(pid) {
                    Some(hook) => self.bury_hook(hook),
                    None => self.bury_stranger(pid),
                },
            }
        }
    }

    pub(super) fn bury(&mut self, worker: WorkerId, pid: Pid, body: Body) {
        // Workers that a template has named are not its any more when the rest of its group goes.
        while self.workers.get(&worker).is_some_and(|link| is_template(link) && has_more_to_say(link)) {
            self.read_control(worker);
        }
        if matches!(body, Body::Unreaped) {
            // Whatever it left behind in its group would go on claiming in its name.
            let _signalled = child::signal_group(pid, Signal::SIGKILL as i32);
        }
        self.read_exec_report(worker);
        self.read_notices(worker);
        // Its last frames. What a descendant of its still sends is not
        // waited for: after the shutdown only what is queued can be read.
        if let Some(control) = self.workers.get(&worker).and_then(|link| link.control.as_ref()) {
            let _shut = shutdown(control.as_raw_fd(), Shutdown::Read);
        }
        while self.workers.get(&worker).is_some_and(has_more_to_say) {
            self.read_control(worker);
        }
        self.read_ring(worker);
        self.forget_owners(worker);
        let Some(link) = self.workers.get_mut(&worker) else { return };
        let ended = match body {
            Body::Unreaped => reap(Which::Pidfd(link.pidfd.as_fd())),
            Body::Reaped(ended) => ended,
        };
        link.ended = Some((ended, Vec::new()));
        self.sources.remove(&link.pidfd);
        link.control.iter().for_each(|control| self.sources.remove(control));
        self.sources.remove(&link.doorbell);
        link.notices.iter().for_each(|notices| self.sources.remove(notices));
        report::dropped_prints(&link.name, link.allowance.take_dropped());
        for (pipe, stream) in [(&mut link.output, Stream::Output), (&mut link.errors, Stream::Errors)] {
            let Some(mut pipe) = pipe.take() else { continue };
            self.sources.remove(&pipe);
            let (name, words) = (&link.name, &mut link.last_words);
            let log = &self.log;
            pipe.read_remainder(&mut |print| {
                words.add(print.text);
                log.printed(name, stream, print.text, print.piece);
            });
        }
        self.empty_mailbox(worker);
    }

    /// Takes back what a dead worker had not claimed, then lets the pools know of its death.
    fn empty_mailbox(&mut self, worker: WorkerId) {
        let Some(link) = self.workers.get_mut(&worker) else { return };
        let Some((ended, mut unclaimed)) = link.ended.take() else { return };
        let emptied = link.recall(&mut self.parking, &mut unclaimed);
        if emptied == Emptied::Starved {
            link.ended = Some((ended, unclaimed));
            self.starved.push(worker);
            return;
        }
        if emptied == Emptied::WithLosses {
            tracing::warn!(worker = %link.name, "had changed what can be read back from its mailbox");
        }
        self.lose_unborn(worker);
        let link = self.workers.remove(&worker).expect("it was there a moment ago");
        self.keep_remains(worker, &link, ended);
        self.rings.close(link.ring);
        self.keep_epitaph(worker, link.last_words.lines());
        self.visits_lost_with(worker, &link, &unclaimed);
        self.step(Event::Died { worker, exit: ended.exit, unclaimed });
    }

    pub(super) fn retry_starved_mailboxes(&mut self) {
        for worker in std::mem::take(&mut self.starved) {
            self.empty_mailbox(worker);
        }
    }

    /// Remembers what a worker said that failed and is not dead yet: somebody is about to read about it.
    pub(super) fn write_epitaph(&mut self, failure: Option<&Failure>) {
        let Some((worker, _)) = failure.and_then(|failure| failure.worker.clone()) else { return };
        for source in [Source::Output(worker), Source::Errors(worker)] {
            self.read_output(worker, source);
        }
        if let Some(lines) = self.workers.get(&worker).map(|link| link.last_words.lines()) {
            self.keep_epitaph(worker, lines);
        }
    }

    fn keep_epitaph(&mut self, worker: WorkerId, lines: Vec<String>) {
        self.epitaphs.insert(worker, lines);
        while self.epitaphs.len() > EPITAPHS_MAX {
            self.epitaphs.pop_first();
        }
    }
}

fn has_more_to_say(link: &Link) -> bool {
    link.manners != super::link::Manners::Ignored
        && link
            .control
            .as_ref()
            .is_some_and(|control| ostler_shared::sys::fd::unread_bytes(control.as_fd()).is_ok_and(|bytes| bytes > 0))
}

pub(super) fn reap(which: Which<'_>) -> Ended {
    match child::ended_child(which, Reap::Yes) {
        Ok(Some(ended)) => ended,
        Ok(None) => panic!("I8: somebody else has reaped a child of ours"),
        Err(error) => panic!("I8: a child that had ended cannot be reaped: {error}"),
    }
}
