//! Finds the supervisor: reads the environment, takes the descriptors, says Hello.
//!
//! The unsafe door of this crate is here: inherited descriptors become owned ones, once in the life of a process.

use std::env;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::socket::{SockType, getsockopt, sockopt};
use ostler_shared::env::{CONTROL_FD, FDS, LISTEN_FDS, MAILBOX_FD, POOL, PROTOCOL, WORKER, fd_named};
use ostler_shared::sys::fd::adopt;
use ostler_shared::sys::memory::{OwnMemory, PeerMemory};
use ostler_shared::{Generation, SlotNo, WorkerName, wire};

use crate::completions::{Completions, WhenFull};
use crate::control::Control;
use crate::greeting::{GreetingError, WELCOME_TIMEOUT, greet};
use crate::listeners::Listeners;
use crate::reserve::Reserve;
use crate::station::Station;
use crate::title::{self, Doing};
use crate::worker::Worker;
use crate::{signals, watch};

/// Why this process is not a worker.
#[derive(thiserror::Error)]
pub enum ConnectError {
    /// It was started by hand.
    #[error("not started by ostler: try `ostler run --listen unix:app.sock -- {command}`")]
    NotStarted {
        /// How this process was called.
        command: String,
    },
    /// The supervisor speaks another protocol.
    #[error("started by an ostler of protocol {theirs:?}, this worker speaks {ours}: build both from the same release", ours = wire::PROTOCOL)]
    Protocol {
        /// What the environment says.
        theirs: String,
    },
    /// A variable that the supervisor sets is missing or makes no sense.
    #[error("the environment has {name}={value:?}, which ostler does not write")]
    Environment {
        /// The variable.
        name: &'static str,
        /// What it says; empty when it is missing.
        value: String,
    },
    /// A descriptor is not what the environment says.
    #[error(
        "file descriptor {fd} is not ostler's {what} ({source}): was this started by a worker, not by ostler, or in a `handoff` mode for other programs?"
    )]
    Descriptor {
        /// Its number.
        fd: RawFd,
        /// What it should be.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// This process has connected before. A worker has one place.
    #[error("connected already: a process is one worker")]
    Again,
    /// There are not enough descriptors for the library itself.
    #[error("cannot keep a file descriptor in reserve: {0} (raise `process.nofile` of the pool)")]
    Reserve(#[source] io::Error),
    /// Signal handlers, or the thread that listens to the supervisor, could not be had.
    #[error("cannot listen to signals and to the supervisor: {0}")]
    Watch(#[source] io::Error),
    /// The supervisor did not answer as it should.
    #[error("cannot agree with the supervisor: {0}")]
    Greeting(#[from] GreetingError),
}

impl std::fmt::Debug for ConnectError {
    /// The words for people: `main` shows an error that it returns in this way.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

static CONNECTED: AtomicBool = AtomicBool::new(false);

impl Worker {
    /// Takes this process's place in its pool. Call it early: until then, children inherit ostler's descriptors
    /// and TERM kills. The supervisor waits for the first [`Worker::next`] before it sends connections, so load
    /// what must be loaded in between. Where workers accept for themselves, call it in the first thread: in another one it can't
    /// take back the signal of the supervisor's death, and clients who wait then may be left to nobody.
    ///
    /// # Errors
    /// When this process was not started by ostler (the error says what to type), when both sides don't
    /// understand each other, or on the second call.
    pub fn connect() -> Result<Worker, ConnectError> {
        let place = Place::read(|name| env::var(name).ok())?;
        if CONNECTED.swap(true, Ordering::SeqCst) {
            return Err(ConnectError::Again);
        }
        title::show(&place.name, Doing::Starting);
        let mailbox = inherit(place.mailbox, "mailbox", is_seqpacket)?.0;
        let sockets = take_listeners(&place)?;
        let control = Control::new(inherit(place.control, "control channel", is_seqpacket)?.0);
        let completions = share_memory(&place)?;
        let term = signals::install().map_err(ConnectError::Watch)?;
        if place.listeners > 0 {
            signals::survive_the_supervisor().map_err(ConnectError::Watch)?;
        }
        let reserve = Reserve::open().map_err(ConnectError::Reserve)?;
        let welcome = greet(&control, WELCOME_TIMEOUT)?;
        // Behind the greeting: whoever is seen to wait at a listener before that passes for a program without the library.
        let listeners = wait_at(sockets, mailbox.as_fd())?;
        let station = Arc::new(Station::new(place.name, mailbox, listeners, control, completions, reserve, &welcome));
        if station.listeners.is_none() {
            station.wake_to_beat().map_err(ConnectError::Watch)?;
        }
        watch::start(Arc::clone(&station), term).map_err(ConnectError::Watch)?;
        Ok(Worker { station })
    }
}

/// What a template was given, on the numbers on which a worker has the same.
#[derive(Debug)]
pub(crate) struct TemplatePost {
    pub(crate) name: WorkerName,
    control: OwnedFd,
    /// For nothing but to keep the numbers from others.
    placeholders: Vec<OwnedFd>,
}

impl TemplatePost {
    /// Takes what this process was started with. From now on children that it executes don't get it.
    pub(crate) fn inherit() -> Result<TemplatePost, ConnectError> {
        let place = Place::read(|name| env::var(name).ok())?;
        if CONNECTED.load(Ordering::SeqCst) {
            return Err(ConnectError::Again);
        }
        let control = inherit(place.control, "control channel", is_seqpacket)?.0;
        let others =
            [(MAILBOX_FD, "mailbox"), (place.region, "region"), (place.gauges, "gauges"), (place.doorbell, "doorbell")];
        let others = others.into_iter().map(|(fd, what)| inherit(fd, what, |_| Ok(())).map(|(fd, ())| fd));
        Ok(TemplatePost { name: place.name, control, placeholders: others.collect::<Result<_, _>>()? })
    }

    pub(crate) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// Leaves the descriptors open and owned by nobody: in a worker that is forked, others take their numbers.
    pub(crate) fn leave_in_place(self) {
        for fd in self.placeholders.into_iter().chain([self.control]) {
            let _left_open = fd.into_raw_fd();
        }
    }
}

/// What the environment says.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    name: WorkerName,
    mailbox: RawFd,
    /// How many listeners it has, from [`MAILBOX_FD`] on; none where connections come in the mailbox.
    listeners: RawFd,
    control: RawFd,
    region: RawFd,
    gauges: RawFd,
    doorbell: RawFd,
}

impl Place {
    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Place, ConnectError> {
        let protocol = variable(PROTOCOL).ok_or_else(|| ConnectError::NotStarted { command: command_line() })?;
        if protocol != wire::PROTOCOL.to_string() {
            return Err(ConnectError::Protocol { theirs: protocol });
        }
        let pool = known(POOL, &variable, |pool| pool.parse().ok())?;
        let (slot, generation) = known(WORKER, &variable, |place| {
            let (slot, generation) = place.split_once('.')?;
            Some((slot.parse::<SlotNo>().ok()?, Generation(generation.parse().ok()?)))
        })?;
        let descriptor = |name: &str| known(FDS, &variable, |fds| fd_named(fds, name).filter(|fd| *fd >= CONTROL_FD));
        // Only beside listeners is it anywhere but in their place.
        let mailbox = fd_named(&variable(FDS).unwrap_or_default(), "mailbox");
        let listeners = match mailbox {
            None => 0,
            Some(mailbox) => known(LISTEN_FDS, &variable, |count| {
                count.parse().ok().filter(|count| (1..=mailbox - MAILBOX_FD).contains(count))
            })?,
        };
        Ok(Place {
            name: WorkerName { pool, slot, generation },
            mailbox: mailbox.unwrap_or(MAILBOX_FD),
            listeners,
            control: descriptor("control")?,
            region: descriptor("region")?,
            gauges: descriptor("gauges")?,
            doorbell: descriptor("doorbell")?,
        })
    }
}

fn known<T>(
    name: &'static str,
    variable: impl Fn(&str) -> Option<String>,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, ConnectError> {
    let value = variable(name).unwrap_or_default();
    parse(&value).ok_or(ConnectError::Environment { name, value })
}

/// Takes an inherited descriptor, and what `check` makes of it. What turns out to be something else stays open: it is
/// somebody else's.
fn inherit<T>(
    fd: RawFd,
    what: &'static str,
    check: impl FnOnce(&OwnedFd) -> io::Result<T>,
) -> Result<(OwnedFd, T), ConnectError> {
    // SAFETY: the supervisor opened this number for this process alone and says so in the environment, and
    // CONNECTED lets only one caller of this process come here, with a different number for each.
    #[allow(unsafe_code)]
    let adopted = unsafe { adopt(fd) };
    let refused = |source| ConnectError::Descriptor { fd, what, source };
    let owned = adopted.map_err(refused)?;
    match check(&owned) {
        Ok(made) => Ok((owned, made)),
        Err(problem) => {
            let _left_open = owned.into_raw_fd();
            Err(refused(problem))
        }
    }
}

fn take_listeners(place: &Place) -> Result<Vec<OwnedFd>, ConnectError> {
    let numbers = MAILBOX_FD..MAILBOX_FD + place.listeners;
    numbers.map(|fd| Ok(inherit(fd, "listener", is_listener)?.0)).collect()
}

/// None where connections come in the mailbox.
fn wait_at(sockets: Vec<OwnedFd>, mailbox: BorrowedFd<'_>) -> Result<Option<Listeners>, ConnectError> {
    if sockets.is_empty() {
        return Ok(None);
    }
    let refused = |source| ConnectError::Descriptor { fd: MAILBOX_FD, what: "listener", source };
    Listeners::new(sockets, mailbox).map(Some).map_err(refused)
}

fn is_listener(fd: &OwnedFd) -> io::Result<()> {
    if getsockopt(fd, sockopt::AcceptConn)? { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

fn is_seqpacket(fd: &OwnedFd) -> io::Result<()> {
    match getsockopt(fd, sockopt::SockType)? {
        SockType::SeqPacket => Ok(()),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Maps the shared memory; its descriptors are not needed after that. The doorbell has nothing by which to know it, but
/// who has all the others has that.
fn share_memory(place: &Place) -> Result<Completions, ConnectError> {
    let (_, gauges) = inherit(place.gauges, "gauges", |fd| PeerMemory::map(fd))?;
    let (_, region) = inherit(place.region, "region", |fd| OwnMemory::map(fd))?;
    let (doorbell, ()) = inherit(place.doorbell, "doorbell", |_| Ok(()))?;
    let when_full = if place.listeners == 0 { WhenFull::Impossible } else { WhenFull::Counted };
    Completions::new(gauges, region, doorbell, when_full).map_err(|source| ConnectError::Descriptor {
        fd: place.gauges,
        what: "gauges",
        source,
    })
}

/// How this process was called, as one would type it into a shell.
fn command_line() -> String {
    env::args_os().map(|argument| quoted(&argument.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

fn quoted(argument: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
    if !argument.is_empty() && argument.chars().all(is_plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(variables: &[(&str, &str)]) -> Result<Place, ConnectError> {
        Place::read(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn a_place_is_read_from_the_environment() {
        let place = place(&[
            (PROTOCOL, "1"),
            (POOL, "web"),
            (WORKER, "3.7"),
            (FDS, "later:9,doorbell:7,control:4,gauges:6,region:5"),
        ])
        .unwrap();
        assert_eq!(place.name.to_string(), "web/3.7");
        assert_eq!((place.control, place.region, place.gauges, place.doorbell), (4, 5, 6, 7));
    }

    #[test]
    fn beside_listeners_the_mailbox_has_a_number_of_its_own() {
        let of = |count: &str| {
            let fds = "control:5,region:6,gauges:7,doorbell:8,mailbox:9";
            place(&[(PROTOCOL, "1"), (POOL, "web"), (WORKER, "3.7"), (LISTEN_FDS, count), (FDS, fds)])
        };
        let found = of("2").unwrap();
        assert_eq!((found.mailbox, found.listeners, found.control), (9, 2, 5));
        for wrong in ["", "0", "7", "-1", "x"] {
            assert!(matches!(of(wrong), Err(ConnectError::Environment { name: LISTEN_FDS, .. })), "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_with_the_environment_is_named() {
        let good = [(PROTOCOL, "1"), (POOL, "web"), (WORKER, "3.7"), (FDS, "control:4,region:5,gauges:6,doorbell:7")];
        for (name, bad) in [
            (POOL, "Web!"),
            (WORKER, "3"),
            (WORKER, "x.1"),
            (FDS, "control:3,region:5,gauges:6,doorbell:7"),
            (FDS, "control:4"),
            (FDS, ""),
        ] {
            let variables: Vec<_> =
                good.into_iter().map(|(key, value)| (key, if key == name { bad } else { value })).collect();
            let error = place(&variables).unwrap_err();
            assert!(error.to_string().contains(&format!("{name}={bad:?}")), "{error}");
        }
        assert!(matches!(place(&[(PROTOCOL, "2")]), Err(ConnectError::Protocol { .. })));
        assert!(matches!(place(&[]), Err(ConnectError::NotStarted { .. })));
    }

    #[test]
    fn an_argument_is_quoted_as_a_shell_wants_it() {
        assert_eq!(quoted("./target/release/echo"), "./target/release/echo");
        assert_eq!(quoted("it's me"), r"'it'\''s me'");
        assert_eq!(quoted(""), "''");
    }
}
