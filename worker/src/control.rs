//! Speaks with the supervisor over the control channel.
//!
//! A frame is never lost because the supervisor is slow: [`Control::send`] waits until there is room. When the supervisor is gone there is nobody to tell, and frames are dropped. Sends of
//! several threads don't mix, since a SEQPACKET message is written whole.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ostler_shared::packet::{Wait, recv_frame, retry_interrupted, send_frame};
use ostler_shared::wire::{self, FRAME_MAX, ToSupervisor, ToWorker};

/// How long to wait before sending again when the kernel, not the channel, lacks memory, in milliseconds.
const NO_MEMORY_RETRY_MS: u16 = 10;

/// A worker's end of its control channel.
#[derive(Debug)]
pub(crate) struct Control(OwnedFd);

/// What became of a frame that was not to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is in the channel, or nobody is there to read it.
    Settled,
    /// The channel is full: send it again when there is room.
    Full,
}

/// What the supervisor says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A frame.
    Frame(ToWorker),
    /// Something that this build does not understand; a newer supervisor may say such things.
    Unknown,
    /// Nothing for now.
    Nothing,
    /// The supervisor is gone.
    Gone,
}

impl Control {
    pub(crate) fn new(end: OwnedFd) -> Control {
        Control(end)
    }

    /// Sends one frame and waits for room if need be.
    pub(crate) fn send(&self, message: &ToSupervisor) {
        while self.try_send(message) == Sent::Full {
            self.wait_for_room();
        }
    }

    /// Sends one frame if there is room.
    ///
    /// # Panics
    /// When the frame is over the limit, which a frame of fixed size can't be.
    pub(crate) fn try_send(&self, message: &ToSupervisor) -> Sent {
        let frame = wire::encode(message).expect("the worker's frames are short");
        match send_frame(self.as_fd(), &frame) {
            Err(error) if is_shortage(&error) => Sent::Full,
            Ok(()) | Err(_) => Sent::Settled,
        }
    }

    /// Receives one frame without waiting.
    pub(crate) fn hear(&self) -> Heard {
        let mut buffer = [0; FRAME_MAX + 1];
        match recv_frame(self.as_fd(), &mut buffer, Wait::Not) {
            Ok(0) => Heard::Gone,
            Ok(len) => wire::decode(&buffer[..len]).map_or(Heard::Unknown, Heard::Frame),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Heard::Nothing,
            // ECONNRESET: it went without reading all that we had sent (unix(7)).
            Err(_) => Heard::Gone,
        }
    }

    fn wait_for_room(&self) {
        let room = retry_interrupted(|| {
            let mut channel = [PollFd::new(self.as_fd(), PollFlags::POLLOUT)];
            poll(&mut channel, PollTimeout::NONE).map_err(io::Error::from)
        });
        if room.is_err() {
            // Poll itself has no memory. Wait without it, as the next send may meet the same.
            let _elapsed = poll(&mut [], PollTimeout::from(NO_MEMORY_RETRY_MS));
        }
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use ostler_shared::packet;

    use super::*;

    fn received(end: BorrowedFd<'_>) -> ToSupervisor {
        let mut buffer = [0; FRAME_MAX + 1];
        let len = recv_frame(end, &mut buffer, Wait::Block).unwrap();
        wire::decode(&buffer[..len]).unwrap()
    }

    #[test]
    fn a_frame_for_a_supervisor_that_does_not_read_waits_and_is_not_lost() {
        let (ours, theirs) = packet::pair().unwrap();
        let control = Control::new(theirs);
        let mut queued = 0;
        while control.try_send(&ToSupervisor::Pong { nonce: queued }) == Sent::Settled {
            queued += 1;
        }
        thread::scope(|scope| {
            let late = scope.spawn(|| control.send(&ToSupervisor::Pong { nonce: queued }));
            for nonce in 0..=queued {
                assert_eq!(received(ours.as_fd()), ToSupervisor::Pong { nonce });
            }
            late.join().unwrap();
        });
    }

    #[test]
    fn a_sender_that_waits_is_released_when_the_supervisor_goes() {
        let (ours, theirs) = packet::pair().unwrap();
        let control = Control::new(theirs);
        while control.try_send(&ToSupervisor::Ready) == Sent::Settled {}
        thread::scope(|scope| {
            scope.spawn(|| control.send(&ToSupervisor::Ready));
            drop(ours);
        });
    }

    #[test]
    fn a_supervisor_that_goes_without_reading_is_gone() {
        let (ours, theirs) = packet::pair().unwrap();
        let control = Control::new(theirs);
        assert_eq!(control.hear(), Heard::Nothing);
        control.send(&ToSupervisor::Ready);
        drop(ours); // with Ready unread: the worker's next read is ECONNRESET
        assert_eq!(control.hear(), Heard::Gone);
        assert_eq!(control.hear(), Heard::Gone);
    }

    #[test]
    fn what_is_not_understood_is_unknown() {
        let (ours, theirs) = packet::pair().unwrap();
        let control = Control::new(theirs);
        send_frame(ours.as_fd(), &[1, 99]).unwrap();
        assert_eq!(control.hear(), Heard::Unknown);
        send_frame(ours.as_fd(), &wire::encode(&ToWorker::Drain).unwrap()).unwrap();
        assert_eq!(control.hear(), Heard::Frame(ToWorker::Drain));
    }
}
