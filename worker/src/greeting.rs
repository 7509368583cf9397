//! Introduces the worker to its supervisor and learns its place.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ostler_shared::packet::retry_interrupted;
use ostler_shared::wire::{Hello, PROTOCOL, ToSupervisor, ToWorker, Welcome};

use crate::control::{Control, Heard};

/// How long a worker waits for the supervisor's answer to its Hello.
pub const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);

const LIBRARY: &str = concat!("ostler-worker ", env!("CARGO_PKG_VERSION"), " (Rust)");

/// Why supervisor and worker did not come together.
#[derive(Debug, thiserror::Error)]
pub enum GreetingError {
    /// No answer came.
    #[error("the supervisor did not answer within {WELCOME_TIMEOUT:?}")]
    NoAnswer,
    /// The supervisor ended, or refused this worker.
    #[error("the supervisor closed the control channel (its log may say why)")]
    Closed,
    /// The supervisor speaks another protocol.
    #[error("the supervisor speaks protocol {theirs}, this worker {PROTOCOL}: build both from the same release")]
    Protocol {
        /// What the supervisor said.
        theirs: u16,
    },
    /// The answer makes no sense.
    #[error("the supervisor's answer makes no sense: {0}")]
    Nonsense(&'static str),
    /// The channel failed.
    #[error("the control channel failed: {0}")]
    Channel(#[from] io::Error),
}

/// Says Hello and waits for the Welcome, at most `longest`.
pub(crate) fn greet(control: &Control, longest: Duration) -> Result<Welcome, GreetingError> {
    introduce(control, &ToSupervisor::Hello(hello()), longest)
}

/// As [`greet`], for a template.
pub(crate) fn introduce_template(control: &Control, longest: Duration) -> Result<Welcome, GreetingError> {
    introduce(control, &ToSupervisor::Template(hello()), longest)
}

fn hello() -> Hello {
    Hello { protocol: PROTOCOL, library: LIBRARY.to_owned() }
}

fn introduce(control: &Control, hello: &ToSupervisor, longest: Duration) -> Result<Welcome, GreetingError> {
    let deadline = Instant::now() + longest;
    control.send(hello);
    loop {
        match control.hear() {
            Heard::Frame(ToWorker::Welcome(welcome)) => return checked(welcome),
            Heard::Frame(ToWorker::Ping { nonce }) => control.send(&ToSupervisor::Pong { nonce }),
            // The mailbox says the same, and for longer. And a template is asked for workers when it has loaded.
            Heard::Frame(ToWorker::Drain | ToWorker::Fork(_)) => {}
            Heard::Unknown => return Err(GreetingError::Nonsense("it is not a frame of this protocol")),
            Heard::Gone => return Err(GreetingError::Closed),
            Heard::Nothing => wait_until(control, deadline)?,
        }
    }
}

fn checked(welcome: Welcome) -> Result<Welcome, GreetingError> {
    match welcome {
        Welcome { protocol, .. } if protocol != PROTOCOL => Err(GreetingError::Protocol { theirs: protocol }),
        Welcome { concurrency: 0, .. } => Err(GreetingError::Nonsense("a concurrency of 0")),
        welcome => Ok(welcome),
    }
}

fn wait_until(control: &Control, deadline: Instant) -> Result<(), GreetingError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(GreetingError::NoAnswer);
    }
    // Rounded up, so that the wait is not a spin at its end.
    let left = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
    retry_interrupted(|| {
        let mut channel = [PollFd::new(control.as_fd(), PollFlags::POLLIN)];
        poll(&mut channel, left).map_err(io::Error::from)
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use ostler_shared::packet::{self, send_frame};
    use ostler_shared::wire::{self, Marks};

    use super::*;

    fn answered(answers: &[ToWorker]) -> Result<Welcome, GreetingError> {
        let (ours, theirs) = packet::pair().unwrap();
        for answer in answers {
            send_frame(ours.as_fd(), &wire::encode(answer).unwrap()).unwrap();
        }
        greet(&Control::new(theirs), Duration::from_millis(10))
    }

    fn welcome(protocol: u16, concurrency: u32) -> ToWorker {
        ToWorker::Welcome(Welcome { protocol, concurrency, drain_timeout_ms: 1, heartbeat_ms: 0, marks: Marks::Unread })
    }

    #[test]
    fn a_welcome_is_found_behind_a_ping_and_a_drain() {
        let welcome = answered(&[ToWorker::Ping { nonce: 1 }, ToWorker::Drain, welcome(PROTOCOL, 3)]).unwrap();
        assert_eq!(welcome.concurrency, 3);
    }

    #[test]
    fn another_protocol_is_named() {
        let error = answered(&[welcome(PROTOCOL + 1, 1)]).unwrap_err();
        assert!(error.to_string().contains("speaks protocol 2, this worker 1"), "{error}");
    }

    #[test]
    fn silence_a_closed_channel_and_nonsense_are_told_apart() {
        assert!(matches!(answered(&[]), Err(GreetingError::NoAnswer)));
        assert!(matches!(answered(&[welcome(PROTOCOL, 0)]), Err(GreetingError::Nonsense(_))));
        let (ours, theirs) = packet::pair().unwrap();
        drop(ours);
        assert!(matches!(greet(&Control::new(theirs), WELCOME_TIMEOUT), Err(GreetingError::Closed)));
    }
}
