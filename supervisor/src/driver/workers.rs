//! Listens to workers: their frames, their completions, their prints, and whether their program could be executed.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd};

use ostler_config::checked::Handoff;
use ostler_pool::{Event, HangUp, Moment};
use ostler_shared::region::Gate;
use ostler_shared::sys::msg::{BatchItem, recv_batch};
use ostler_shared::wire::{BadFrame, FRAME_MAX, Hello, PROTOCOL, Programs, ToSupervisor, ToWorker, decode, encode};
use ostler_shared::{WorkerId, packet};

use super::Driver;
use super::hooks::HookNo;
use super::link::{Manners, Role};
use super::output::{After, DROPPED_SAID_AFTER, FLOOD_PAUSE, Fate};
use super::sources::Source;
use super::templates::NO_TEMPLATE;
use crate::control::protocol::Stream;
use crate::deaths::ProgramsEnded;
use crate::report;

/// Most frames that one worker is heard with before the loop looks at the others.
const FRAMES_MAX: usize = 16;
/// One byte more than the longest frame, so that a longer one shows itself.
const FRAME_ROOM: usize = FRAME_MAX + 1;

impl Driver {
    pub(super) fn read_control(&mut self, worker: WorkerId) {
        let Some(link) = self.workers.get(&worker).filter(|link| link.manners != Manners::Ignored) else { return };
        let mut buffers = [[0; FRAME_ROOM]; FRAMES_MAX];
        let mut items = [BatchItem { len: 0, truncated: false }; FRAMES_MAX];
        let Some(control) = &link.control else { return };
        let mut received = recv_batch(control.as_fd(), &mut buffers, &mut items);
        // It closed the channel with a frame of ours unread, as one does that ends just then. The kernel says that once,
        // before what it had sent, which can be read after all.
        if received.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset) {
            received = recv_batch(control.as_fd(), &mut buffers, &mut items);
        }
        let count = match received {
            Ok(count) => count,
            Err(error) => return self.misbehaved(worker, format!("failed to read its control channel: {error}")),
        };
        for (buffer, item) in buffers.iter().zip(&items[..count]) {
            if item.len == 0 {
                return self.channel_closed(worker);
            }
            let frame = match item.truncated {
                true => Err(BadFrame::TooLong(item.len)),
                false => decode(&buffer[..item.len]).and_then(ToSupervisor::checked),
            };
            match frame {
                Ok(frame) => self.hear(worker, frame),
                Err(bad) => return self.misbehaved(worker, format!("sent {bad}")),
            }
        }
    }

    fn hear(&mut self, worker: WorkerId, frame: ToSupervisor) {
        let Some(link) = self.workers.get(&worker) else { return };
        let role = link.role;
        match (link.manners, frame) {
            (Manners::Ignored, _) => {}
            (Manners::Stranger, ToSupervisor::Hello(_)) if role == Role::Template => {
                self.misbehaved(worker, NO_TEMPLATE.to_owned());
            }
            (Manners::Stranger, ToSupervisor::Hello(hello)) => self.welcome(worker, hello),
            (Manners::Stranger, ToSupervisor::Template(hello)) if role == Role::Template => self.welcome(worker, hello),
            (Manners::Stranger, _) => self.misbehaved(worker, "spoke before it said Hello".to_owned()),
            (Manners::Introduced | Manners::Serving, ToSupervisor::Hello(_) | ToSupervisor::Template(_)) => {
                self.misbehaved(worker, "said Hello twice".to_owned());
            }
            (Manners::Introduced, ToSupervisor::Ready) if role == Role::Worker => self.ready(worker),
            (Manners::Introduced, ToSupervisor::Loaded) if role == Role::Template => self.ready(worker),
            (Manners::Serving, ToSupervisor::Forked { request, pid }) if role == Role::Template => {
                self.hear_of_birth(worker, request, pid);
            }
            (Manners::Serving, ToSupervisor::NotForked { request, why, text }) if role == Role::Template => {
                self.hear_of_no_birth(worker, request, why, &text);
            }
            (Manners::Serving, ToSupervisor::Ready | ToSupervisor::Loaded) => {
                self.misbehaved(worker, "said Ready twice".to_owned());
            }
            (Manners::Introduced | Manners::Serving, ToSupervisor::Draining) => {
                self.step(Event::HungUp { worker, how: HangUp::Leaves });
            }
            (Manners::Introduced | Manners::Serving, ToSupervisor::Pong { nonce }) => self.heard_from(worker, nonce),
            (Manners::Serving, ToSupervisor::Programs(programs)) if role == Role::Worker => {
                self.hear_of_programs(worker, programs);
            }
            (Manners::Introduced, ToSupervisor::Ready | ToSupervisor::Loaded)
            | (
                Manners::Introduced | Manners::Serving,
                ToSupervisor::Programs(_) | ToSupervisor::Forked { .. } | ToSupervisor::NotForked { .. },
            ) => self.misbehaved(worker, "said what is not for it to say".to_owned()),
        }
    }

    /// How the programs of a connection ended. It changes nothing: what becomes of the connection, its completion says.
    fn hear_of_programs(&mut self, worker: WorkerId, programs: Programs) {
        let Some(link) = self.workers.get(&worker) else { return };
        let ended = ProgramsEnded::of(&link.name, &link.settings.pool.program, &programs);
        report::programs(&ended);
        self.deaths.record_programs(ended);
    }

    pub(super) fn ready(&mut self, worker: WorkerId) {
        if let Some(link) = self.workers.get_mut(&worker) {
            link.manners = Manners::Serving;
            self.rings.set_gate(link.ring, Gate::Open);
        }
        self.step(Event::Ready { worker });
    }

    // ── signs of life ──────────────────────────────────────────────────────────────────────────────────────

    /// Pings a worker. One whose channel has no room just now is asked a little later.
    pub(super) fn ask_for_a_sign_of_life(&mut self, worker: WorkerId) {
        let Some(link) = self.workers.get_mut(&worker).filter(|link| link.manners == Manners::Serving) else { return };
        let nonce = self.next_nonce;
        let Some(control) = &link.control else { return self.knock(worker) };
        let ping = encode(&ToWorker::Ping { nonce: nonce.get() }).expect("a ping is short");
        match packet::send_frame(control.as_fd(), &ping) {
            Ok(()) => {
                self.next_nonce = nonce.saturating_add(1);
                link.asked = Some(nonce);
            }
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {} // its end says the rest
            Err(_) => self.unasked.push(worker),
        }
    }

    pub(super) fn ask_the_unasked(&mut self) {
        for worker in std::mem::take(&mut self.unasked) {
            self.ask_for_a_sign_of_life(worker);
        }
    }

    fn heard_from(&mut self, worker: WorkerId, nonce: u64) {
        let Some(link) = self.workers.get_mut(&worker) else { return };
        if link.asked.map(NonZeroU64::get) != Some(nonce) {
            return self.misbehaved(worker, "sent a Pong that nobody asked for".to_owned());
        }
        link.asked = None;
        self.step(Event::Alive { worker });
    }

    // ── completions ────────────────────────────────────────────────────────────────────────────────────────

    /// Reads every ring that the loop looks at by itself.
    pub(super) fn read_rings(&mut self) {
        let mut found = std::mem::take(&mut self.rings_with_news);
        self.rings.with_news(&mut found);
        for (ring, worker) in found.drain(..) {
            // A worker that was buried meanwhile took its ring with it.
            if self.workers.get(&worker).is_some_and(|link| link.ring == ring) {
                self.read_ring(worker);
            }
        }
        self.rings_with_news = found;
    }

    pub(super) fn answer_doorbell(&mut self, worker: WorkerId) {
        self.read_ring(worker);
        self.let_it_be(worker);
        let Some(link) = self.workers.get(&worker) else { return };
        if let Err(lied) = self.rings.rung(link.ring) {
            self.misbehaved(worker, lied.to_string());
        }
    }

    /// Takes the completions that are in a worker's ring now. One that only closed its control channel, as every worker
    /// does that ends, is still believed: what it has completed is done.
    pub(super) fn read_ring(&mut self, worker: WorkerId) {
        let Some(link) = self.workers.get(&worker) else { return };
        let ring = link.ring;
        let mut completions = std::mem::take(&mut self.completions);
        let honest = self.rings.take(ring, &mut completions);
        self.rings.returned(ring, completions.len());
        self.count_own(worker);
        for completion in completions.drain(..) {
            self.visit_completed(worker, &completion);
            self.step(Event::Completed { worker, completion });
        }
        self.completions = completions;
        if let Err(lied) = honest {
            self.misbehaved(worker, lied.to_string());
        }
        self.welcome_newcomers(worker);
        self.look_at_unmodified(worker);
    }

    // ── the channel ────────────────────────────────────────────────────────────────────────────────────────

    fn welcome(&mut self, worker: WorkerId, hello: Hello) {
        let Some(link) = self.workers.get_mut(&worker) else { return };
        if hello.protocol != PROTOCOL {
            let how = format!(
                "speaks protocol {}, this supervisor speaks {PROTOCOL}: build it with the library of this release",
                hello.protocol
            );
            return self.misbehaved(worker, how);
        }
        tracing::debug!(worker = %link.name, library = hello.library, "said Hello");
        link.manners = Manners::Introduced;
        if link.settings.pool.handoff == Handoff::Listen {
            // It accepts when it is ready, without waiting for our word on that.
            self.rings.set_gate(link.ring, Gate::Open);
            link.look.was_introduced = true;
            self.events.push_back(Event::Introduced { worker });
        }
        let welcome = encode(&ToWorker::Welcome(link.welcome.clone())).expect("a welcome is short");
        let Some(control) = &link.control else { return };
        if let Err(error) = packet::send_frame(control.as_fd(), &welcome) {
            self.misbehaved(worker, format!("cannot be welcomed: {error}"));
        }
    }

    fn channel_closed(&mut self, worker: WorkerId) {
        if let Some(link) = self.workers.get(&worker)
            && link.settings.pool.handoff == Handoff::Listen
            && !link.has_spoken()
        {
            // It never knew of the channel: what it closes says nothing.
            return link.control.iter().for_each(|control| self.sources.remove(control));
        }
        self.ignore_control(worker);
        self.step(Event::HungUp { worker, how: HangUp::ChannelClosed });
    }

    pub(super) fn misbehaved(&mut self, worker: WorkerId, how: String) {
        self.ignore_control(worker);
        if let Some(link) = self.workers.get(&worker) {
            self.sources.remove(&link.doorbell);
            self.rings.distrust(link.ring);
        }
        self.step(Event::Misbehaved { worker, how });
    }

    fn ignore_control(&mut self, worker: WorkerId) {
        if let Some(link) = self.workers.get_mut(&worker) {
            link.manners = Manners::Ignored;
            link.control.iter().for_each(|control| self.sources.remove(control));
        }
    }

    // ── output ─────────────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn read_output(&mut self, worker: WorkerId, source: Source) {
        let now = self.now();
        if self.paused.iter().any(|(_, paused)| *paused == source) {
            return;
        }
        let Some(link) = self.workers.get_mut(&worker) else { return };
        let pipe = match source {
            Source::Output(_) => &mut link.output,
            _ => &mut link.errors,
        };
        let stream = stream_of(source);
        let (name, words, allowance) = (&link.name, &mut link.last_words, &mut link.allowance);
        let Some(open) = pipe else { return };
        let (log, floods) = (&self.log, &mut self.floods);
        let after = open.read(&mut |print| {
            words.add(print.text);
            match allowance.spend(now) {
                Fate::Told => log.printed(name, stream, print.text, print.piece),
                Fate::Dropped => {}
                Fate::DroppedFirst => floods.push_back((now + DROPPED_SAID_AFTER, worker)),
            }
        });
        match after {
            After::WaitOn => {}
            After::Pause => {
                self.sources.remove(&*open);
                self.paused.push_back((now + FLOOD_PAUSE, source));
            }
            After::Ended => {
                self.sources.remove(&*open);
                open.read_remainder(&mut |print| {
                    words.add(print.text);
                    log.printed(name, stream, print.text, print.piece);
                });
                *pipe = None;
            }
        }
    }

    /// Says how many lines of workers were dropped, some time after the first of them.
    pub(super) fn tell_of_floods(&mut self, now: Moment) {
        while self.floods.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, worker)) = self.floods.pop_front() else { return };
            if let Some(link) = self.workers.get_mut(&worker) {
                report::dropped_prints(&link.name, link.allowance.take_dropped());
            }
        }
    }

    pub(super) fn resume_paused(&mut self, now: Moment) {
        while self.paused.front().is_some_and(|(until, _)| *until <= now) {
            let Some((_, source)) = self.paused.pop_front() else { return };
            let watched = match (source, self.paused_fd(source)) {
                (Source::ControlListener, _) => self.sources.add(self.server.readable(), source),
                (_, Some(fd)) => self.sources.add(fd, source),
                (_, None) => continue,
            };
            match watched {
                // What it had read and not told yet announces itself to nobody.
                Ok(()) => self.attend(source),
                // No memory just now; the worker waits at its print until there is.
                Err(_) => self.paused.push_back((now + FLOOD_PAUSE, source)),
            }
        }
    }

    /// What is waited for again after a pause, if it is still there.
    fn paused_fd(&self, source: Source) -> Option<BorrowedFd<'_>> {
        match source {
            Source::Output(worker) => self.workers.get(&worker)?.output.as_ref().map(AsFd::as_fd),
            Source::Errors(worker) => self.workers.get(&worker)?.errors.as_ref().map(AsFd::as_fd),
            Source::Notices(worker) => {
                let link = self.workers.get(&worker).filter(|link| link.ended.is_none())?;
                link.notices.as_ref().map(AsFd::as_fd)
            }
            Source::HookOutput(no) => self.hooks.pipe(HookNo(no)).map(AsFd::as_fd),
            _ => None,
        }
    }

    // ── exec ───────────────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn read_exec_report(&mut self, worker: WorkerId) {
        let Some(link) = self.workers.get_mut(&worker) else { return };
        // Taken and closed, unless it has nothing to say yet; closing ends the wait for it.
        if let Some((stage, error)) = link.exec_report() {
            let pool = &link.settings.pool;
            let why = super::failure::words(&pool.process, &pool.program, stage, &error);
            self.step(Event::ExecFailed { worker, why });
        }
    }
}

fn stream_of(source: Source) -> Stream {
    match source {
        Source::Errors(_) => Stream::Errors,
        _ => Stream::Output,
    }
}
