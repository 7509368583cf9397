//! Takes over the descriptors that this program was started with, before it opens any of its own.
//!
//! `--ready-fd` names one; `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES` speak of those of a service manager
//! (sd_listen_fds(3)). All of them are close-on-exec from here on, so no worker ever sees one.
#![allow(unsafe_code)]

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{OwnedFd, RawFd};

/// The first descriptor of a service manager.
const FIRST_GIVEN: RawFd = 3;
/// Most descriptors that a service manager may pass down.
pub(crate) const GIVEN_MAX: u32 = 1024;
/// What a descriptor is called that has no name.
const NAMELESS: &str = "unknown";

/// What we were started with.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// `--ready-fd`.
    pub(crate) ready: Option<File>,
    /// The service manager's.
    pub(crate) given: Given,
}

/// Why it cannot be taken over.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotOurs {
    /// It would take our output away.
    #[error("--ready-fd {0} is a standard stream: pass a descriptor above 2")]
    Stream(RawFd),
    /// Two owners would close it twice.
    #[error("--ready-fd {0} is one of the {1} descriptors of LISTEN_FDS: pass one above them")]
    Twice(RawFd, u32),
    /// Nobody passed it.
    #[error("--ready-fd {0} is not open: {1}")]
    Closed(RawFd, String),
    /// `LISTEN_FDS` counts one that is not there.
    #[error("LISTEN_FDS is {count}, but descriptor {number} is not open: {why} (it is for the service manager to set)")]
    Missing { count: u32, number: RawFd, why: String },
    /// `LISTEN_FDS` is no number of descriptors.
    #[error("LISTEN_FDS is {0:?}: it has to be a number up to {GIVEN_MAX} (it is for the service manager to set)")]
    NoCount(String),
}

impl Inherited {
    /// Takes everything over. To be called once, before anything is opened.
    ///
    /// # Errors
    /// [`NotOurs`].
    pub(crate) fn take_over(ready_fd: Option<RawFd>) -> Result<Inherited, NotOurs> {
        let announced = Announced::read(&|name| std::env::var_os(name), std::process::id())?;
        if let Some(number) = ready_fd {
            check_ready_fd(number, announced.names.len())?;
        }
        let count = announced.names.len() as u32;
        let mut sockets = Vec::new();
        for (number, name) in (FIRST_GIVEN..).zip(announced.names) {
            let fd = adopt(number).map_err(|e| NotOurs::Missing { count, number, why: e.to_string() })?;
            sockets.push(Descriptor { name, fd });
        }
        let ready = ready_fd
            .map(|number| adopt(number).map(File::from).map_err(|error| NotOurs::Closed(number, error.to_string())));
        Ok(Inherited {
            ready: ready.transpose()?,
            given: Given { descriptors: sockets, not_for_us: announced.not_for_us },
        })
    }
}

fn check_ready_fd(number: RawFd, given: usize) -> Result<(), NotOurs> {
    if number < FIRST_GIVEN {
        return Err(NotOurs::Stream(number));
    }
    let given = u32::try_from(given).unwrap_or(GIVEN_MAX);
    if i64::from(number) < i64::from(FIRST_GIVEN) + i64::from(given) {
        return Err(NotOurs::Twice(number, given));
    }
    Ok(())
}

fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: this is the first thing that the program does: it has opened nothing yet, so the number is what our
    // parent passed down for this very purpose, or not open; and each number is adopted once (`check_ready_fd`).
    unsafe { ostler_shared::sys::fd::adopt(number) }
}

// ── what the environment says ──────────────────────────────────────────────────────────────────────────────

/// The names of the descriptors from [`FIRST_GIVEN`] on.
#[derive(Debug, Default, PartialEq, Eq)]
struct Announced {
    names: Vec<String>,
    not_for_us: Option<String>,
}

impl Announced {
    fn read(variable: &dyn Fn(&str) -> Option<OsString>, own_pid: u32) -> Result<Announced, NotOurs> {
        let text = |name| variable(name).map(|value| value.to_string_lossy().into_owned());
        let (Some(count), Some(pid)) = (text("LISTEN_FDS"), text("LISTEN_PID")) else {
            return Ok(Announced::default());
        };
        // Meant for a parent of ours that did not clean up behind itself; what is open under those numbers is not ours.
        if pid.parse() != Ok(own_pid) {
            return Ok(Announced { names: Vec::new(), not_for_us: Some(pid) });
        }
        let Some(count) = count.parse().ok().filter(|count| *count <= GIVEN_MAX) else {
            return Err(NotOurs::NoCount(count));
        };
        let named = text("LISTEN_FDNAMES").unwrap_or_default();
        let mut named = named.split(':');
        let mut next_name = || named.next().filter(|name| !name.is_empty()).unwrap_or(NAMELESS).to_owned();
        let names = (0..count).map(|_| next_name()).collect();
        Ok(Announced { names, not_for_us: None })
    }
}

// ── what was given ─────────────────────────────────────────────────────────────────────────────────────────

/// A descriptor of the service manager.
#[derive(Debug)]
struct Descriptor {
    name: String,
    fd: OwnedFd,
}

/// What the service manager passed down and nobody has taken yet.
#[derive(Debug, Default)]
pub(crate) struct Given {
    descriptors: Vec<Descriptor>,
    /// The `LISTEN_PID` of somebody else.
    not_for_us: Option<String>,
}

impl Given {
    /// Those of this name, in their order; they are the caller's now.
    pub(crate) fn take(&mut self, name: &str) -> Vec<OwnedFd> {
        self.descriptors.extract_if(.., |descriptor| descriptor.name == name).map(|descriptor| descriptor.fd).collect()
    }

    /// Takes back what was taken under a name.
    pub(crate) fn put_back(&mut self, name: &str, sockets: Vec<OwnedFd>) {
        self.descriptors.extend(sockets.into_iter().map(|fd| Descriptor { name: name.to_owned(), fd }));
    }

    /// For tests: these.
    #[cfg(test)]
    pub(crate) fn of(descriptors: Vec<(String, OwnedFd)>) -> Given {
        let descriptors = descriptors.into_iter().map(|(name, fd)| Descriptor { name, fd });
        Given { descriptors: descriptors.collect(), not_for_us: None }
    }

    /// What is left, by its names.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.descriptors.iter().map(|descriptor| descriptor.name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// For an error: what there is instead of a name that is not there, and what to do.
    pub(crate) fn instead(&self) -> String {
        let names = self.names();
        match &self.not_for_us {
            Some(pid) => format!(
                "LISTEN_PID is {pid}, so LISTEN_FDS is not meant for this process: start ostler itself by the socket unit"
            ),
            None if names.is_empty() => {
                "none were passed: start ostler by a socket unit, or by `systemd-socket-activate --fdname=NAME`"
                    .to_owned()
            }
            None => {
                format!("there is {}: correct the name, or FileDescriptorName= of the socket unit", names.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(fds: &str, pid: &str, names: Option<&str>) -> Result<Announced, NotOurs> {
        let value = |name: &str| match name {
            "LISTEN_FDS" => Some(fds.into()),
            "LISTEN_PID" => Some(pid.into()),
            "LISTEN_FDNAMES" => names.map(Into::into),
            _ => None,
        };
        Announced::read(&value, 7)
    }

    #[test]
    fn descriptors_have_the_names_that_were_given_to_them() {
        assert_eq!(announced("3", "7", Some("web:web:admin")).unwrap().names, ["web", "web", "admin"]);
        assert_eq!(announced("2", "7", None).unwrap().names, ["unknown", "unknown"]);
        assert_eq!(announced("2", "7", Some("web")).unwrap().names, ["web", "unknown"]);
        assert_eq!(announced("3", "7", Some("a::b")).unwrap().names, ["a", "unknown", "b"]);
        assert_eq!(announced("0", "7", Some("")).unwrap(), Announced::default());
    }

    #[test]
    fn descriptors_of_another_process_are_not_touched() {
        let found = announced("3", "8", Some("web:web:admin")).unwrap();
        assert_eq!(found, Announced { names: Vec::new(), not_for_us: Some("8".to_owned()) });
        let nothing = Announced::read(&|name| (name == "LISTEN_FDS").then(|| "3".into()), 7);
        assert_eq!(nothing, Ok(Announced::default()));
    }

    #[test]
    fn a_number_that_is_none_is_refused() {
        for wrong in ["", "x", "-1", "1025", "99999999999"] {
            assert_eq!(announced(wrong, "7", None), Err(NotOurs::NoCount(wrong.to_owned())));
        }
    }

    #[test]
    fn a_descriptor_has_one_purpose() {
        assert_eq!(check_ready_fd(2, 0), Err(NotOurs::Stream(2)));
        assert_eq!(check_ready_fd(4, 2), Err(NotOurs::Twice(4, 2)));
        assert_eq!(check_ready_fd(5, 2), Ok(()));
    }

    #[test]
    fn what_is_taken_is_gone_and_the_rest_is_named() {
        let descriptor = |name: &str| (name.to_owned(), io::pipe().unwrap().0.into());
        let mut given = Given::of(["a", "b", "a"].map(descriptor).into());
        assert_eq!(given.take("a").len(), 2);
        assert_eq!(given.take("a").len(), 0);
        assert!(given.instead().contains("there is b"));
        assert_eq!(given.take("b").len(), 1);
        assert!(given.instead().contains("socket unit"));
    }
}
