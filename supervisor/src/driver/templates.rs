//! Asks templates for workers, and makes sure that what they answer is true.
//!
//! A worker that a template was asked for is *unborn* until the template names its process: all of it is there, its mailbox, its
//! channels, its memory, but nobody is listened to. The name is a claim (I6): it is taken for true when that process is a child
//! of ours, is in the template's process group, and is nobody else. From then on the worker is one like any other.
//!
//! A worker may end before its name is read. So that this is not lost, the ends of strangers are kept while somebody is unborn.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::{Pid, getpgid};
use ostler_pool::{Event, NotForked, Step};
use ostler_shared::WorkerId;
use ostler_shared::wire::NoFork;

use super::child::{self, Ended, NotTaken, Which};
use super::link::{Manners, Role};
use super::listeners::errno_of;
use super::performing::spawn_remedy;
use super::spawn::{self, Order, Unborn};
use super::sweep::{Body, reap};
use super::{Driver, Link};

/// Most ends of strangers that are kept; of more, the names are not believed any more.
const EARLY_ENDS_MAX: usize = 256;

/// Workers that templates were asked for, and what may concern them.
#[derive(Default)]
pub(super) struct Nursery {
    expected: BTreeMap<WorkerId, Expected>,
    early_ends: BTreeMap<Pid, EarlyEnd>,
}

/// A worker that a template was asked for.
struct Expected {
    template: WorkerId,
    unborn: Unborn,
    /// The last signal that it would have got.
    step: Option<Step>,
}

/// A child that ended before anybody said who it was.
struct EarlyEnd {
    ended: Ended,
    group: Option<Pid>,
    pidfd: OwnedFd,
}

impl Nursery {
    fn templates(&self) -> Vec<WorkerId> {
        let mut templates: Vec<WorkerId> = self.expected.values().map(|expected| expected.template).collect();
        templates.sort_unstable();
        templates.dedup();
        templates
    }

    fn forget_early_ends(&mut self) {
        if self.expected.is_empty() {
            self.early_ends.clear();
        }
    }
}

impl Driver {
    /// A template in a language that can't make a child of its parent forks twice, and leaves us an orphan.
    pub(super) fn adopt_orphans(&self) {
        if let Err(error) = child::adopt_orphans() {
            tracing::warn!("cannot adopt orphans, so that no template can fork a worker: {error}");
        }
    }

    /// Asks a template for a worker.
    pub(super) fn ask_for_a_worker(&mut self, order: &Order<'_>, template: WorkerId) {
        let link = self.workers.get(&template).filter(|link| link.manners == Manners::Serving && link.ended.is_none());
        let Some(control) = link.and_then(|link| link.control.as_ref()) else {
            return self.not_forked(order.worker, NotForked::TemplateEnded);
        };
        match spawn::conceive(order, control.as_fd(), &mut self.rings) {
            Ok(unborn) => {
                let expected = Expected { template, unborn, step: None };
                self.nursery.expected.insert(order.worker, expected);
            }
            Err(error) if matches!(errno_of(&error), Errno::EPIPE | Errno::ECONNRESET) => {
                self.not_forked(order.worker, NotForked::TemplateEnded);
            }
            Err(error) if errno_of(&error) == Errno::EAGAIN => {
                let why = "cannot ask the template for a process: it does not read what it is asked".to_owned();
                self.not_forked(order.worker, NotForked::Shortage(why));
            }
            Err(error) => {
                let why = format!("cannot ask the template for a process: {error}{}", spawn_remedy(&error));
                self.not_forked(order.worker, NotForked::Shortage(why));
            }
        }
    }

    fn not_forked(&mut self, worker: WorkerId, why: NotForked) {
        self.events.push_back(Event::NotForked { worker, why });
    }

    /// Whether a worker is unborn; then it gets this signal at its birth.
    pub(super) fn signal_at_birth(&mut self, worker: WorkerId, step: Step) -> bool {
        let expected = self.nursery.expected.get_mut(&worker);
        expected.map(|expected| expected.step = Some(step)).is_some()
    }

    // ── answers ────────────────────────────────────────────────────────────────────────────────────────────

    /// A template says which process the worker is that it was asked for.
    pub(super) fn hear_of_birth(&mut self, template: WorkerId, request: u64, pid: u32) {
        let worker = WorkerId(request);
        let Some(expected) = self.take_expected(worker, template) else {
            return self.misbehaved(template, "announced a worker that nobody had asked for".to_owned());
        };
        let Expected { unborn, step, .. } = expected;
        let ring = unborn.ring;
        let (link, early) = match self.identify(template, pid) {
            Ok((pid, pidfd, early)) => (unborn.born(pid, pidfd), early),
            Err(NotTaken::Shortage(error)) => {
                self.rings.close(ring);
                self.nursery.forget_early_ends();
                let why = format!("cannot get hold of a forked process: {error}{}", spawn_remedy(&error));
                return self.step(Event::NotForked { worker, why: NotForked::Shortage(why) });
            }
            Err(NotTaken::Impostor) => {
                self.rings.close(ring);
                self.step(Event::NotForked { worker, why: NotForked::TemplateEnded });
                let how = format!("announced process {pid} as a worker, which is no child that it has forked for us");
                return self.misbehaved(template, how);
            }
        };
        self.nursery.forget_early_ends();
        tracing::debug!(worker = %link.name, pid = link.pid.as_raw(), "forked");
        let pid = match self.take_on(worker, link) {
            Ok(pid) => pid,
            Err(error) => {
                let why = format!("cannot listen to a forked process: {error}{}", spawn_remedy(&error));
                return self.step(Event::NotForked { worker, why: NotForked::Shortage(why) });
            }
        };
        self.step(Event::Forked { worker });
        match (early, step) {
            (Some(ended), _) => {
                self.pids.remove(&pid);
                self.bury(worker, pid, Body::Reaped(ended));
            }
            (None, Some(step)) => self.signal(worker, step),
            (None, None) => {}
        }
    }

    /// A template says that it has not forked a worker.
    pub(super) fn hear_of_no_birth(&mut self, template: WorkerId, request: u64, why: NoFork, text: &str) {
        let worker = WorkerId(request);
        let Some(expected) = self.take_expected(worker, template) else {
            return self.misbehaved(template, "refused a worker that nobody had asked for".to_owned());
        };
        self.rings.close(expected.unborn.ring);
        self.nursery.forget_early_ends();
        let text = text.escape_debug().to_string();
        let why = match why {
            NoFork::Shortage => NotForked::Shortage(format!("cannot be forked: {text}")),
            NoFork::Unfit => NotForked::Unfit(text),
        };
        self.step(Event::NotForked { worker, why });
    }

    fn take_expected(&mut self, worker: WorkerId, template: WorkerId) -> Option<Expected> {
        let asked = self.nursery.expected.get(&worker).is_some_and(|expected| expected.template == template);
        if asked { self.nursery.expected.remove(&worker) } else { None }
    }

    /// Finds the process that a template has named; one that has ended already with its end.
    fn identify(&mut self, template: WorkerId, pid: u32) -> Result<(Pid, OwnedFd, Option<Ended>), NotTaken> {
        let pid = Pid::from_raw(i32::try_from(pid).map_err(|_| NotTaken::Impostor)?);
        let group = self.workers.get(&template).ok_or(NotTaken::Impostor)?.pid;
        if pid.as_raw() <= 0 || self.pids.contains_key(&pid) || self.hooks.numbered(pid).is_some() {
            return Err(NotTaken::Impostor);
        }
        match self.nursery.early_ends.remove(&pid) {
            Some(EarlyEnd { ended, group: of, pidfd }) if of == Some(group) => Ok((pid, pidfd, Some(ended))),
            Some(_) => Err(NotTaken::Impostor),
            None => child::take_forked(pid, group).map(|pidfd| (pid, pidfd, None)),
        }
    }

    /// How many workers a template was asked for and has not answered.
    pub(super) fn unborn_of(&self, template: WorkerId) -> usize {
        self.nursery.expected.values().filter(|expected| expected.template == template).count()
    }

    // ── ends ───────────────────────────────────────────────────────────────────────────────────────────────

    /// A child has ended that nobody knows. It may be a worker whose template has not said so yet.
    pub(super) fn bury_stranger(&mut self, pid: Pid) {
        for template in self.nursery.templates() {
            self.read_control(template);
        }
        if let Some(worker) = self.pids.remove(&pid) {
            return self.bury(worker, pid, Body::Unreaped);
        }
        let group = getpgid(Some(pid)).ok();
        let pidfd = child::pidfd_open(pid.as_raw());
        let ended = reap(Which::Pid(pid));
        match pidfd {
            Ok(pidfd) if !self.nursery.expected.is_empty() && self.nursery.early_ends.len() < EARLY_ENDS_MAX => {
                self.nursery.early_ends.insert(pid, EarlyEnd { ended, group, pidfd });
            }
            Ok(_) | Err(_) => tracing::debug!(pid = pid.as_raw(), "reaped an orphan"),
        }
    }

    /// A template is dead, and everything that it had said is heard: who is unborn stays so.
    pub(super) fn lose_unborn(&mut self, template: WorkerId) {
        let of_it = |(worker, expected): (&WorkerId, &Expected)| (expected.template == template).then_some(*worker);
        let lost: Vec<WorkerId> = self.nursery.expected.iter().filter_map(of_it).collect();
        for worker in lost {
            if let Some(expected) = self.nursery.expected.remove(&worker) {
                self.rings.close(expected.unborn.ring);
                tracing::debug!(worker = %expected.unborn.name, "is not forked: its template has ended");
            }
            self.step(Event::NotForked { worker, why: NotForked::TemplateEnded });
        }
        self.nursery.forget_early_ends();
    }
}

/// What a program says that does not know what it was started as.
pub(super) const NO_TEMPLATE: &str = "is no template: its program calls neither `Template::run` (Rust) nor \
     `ostler_worker.template` (Python); have it do so, or remove reload.template";

/// Whether a process was started to fork workers.
pub(super) fn is_template(link: &Link) -> bool {
    link.role == Role::Template
}
