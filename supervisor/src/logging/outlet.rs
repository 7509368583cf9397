//! Knows where lines go: a stream that we were given, a file, or the journal.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ostler_config::checked::{AccessTo, Log, LogFormat};

use super::format::{Look, render};
use super::journal::Journal;
use crate::control::protocol::Line;

/// Permissions of a new file: its user writes, its group reads. Logs name users and what they asked for.
const FILE_MODE: u32 = 0o640;
/// How often a write that was interrupted, or that waited for room, is tried again before its lines are given up.
const TRIES_MAX: u32 = 8;

/// A log that can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open {key} {path}: {error}{remedy}", path = .path.display(), remedy = remedy(.error))]
pub(crate) struct OpenError {
    /// The key of the configuration that asks for it.
    key: &'static str,
    path: PathBuf,
    #[source]
    error: io::Error,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => " (make its directory)",
        io::ErrorKind::PermissionDenied => " (let the user that ostler runs as write it)",
        io::ErrorKind::IsADirectory => " (name a file in it)",
        _ if error.raw_os_error() == Some(Errno::ENXIO as i32) => " (nobody reads this pipe: start its reader first)",
        _ => "",
    }
}

/// Where lines go.
#[derive(Debug)]
pub(crate) struct Outlet {
    to: To,
    look: Look,
}

#[derive(Debug)]
enum To {
    Paper(Paper),
    Journal(Journal, Paper),
}

/// What became of a batch.
#[derive(Debug)]
pub(super) struct Failed {
    /// Lines that were not written.
    pub(super) lost: u64,
    /// Why.
    pub(super) error: io::Error,
}

impl Outlet {
    /// Where the log goes: its file, else the journal where standard error is its, else standard error.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(crate) fn of_log(log: &Log) -> Result<Outlet, OpenError> {
        if let Some(path) = &log.file {
            return Outlet::file("supervisor.log.file", path, log.format);
        }
        let unopened = |error| OpenError { key: "standard error", path: "/dev/stderr".into(), error };
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned().map_err(unopened)?);
        let look = look(log.format, &stderr);
        let journal = match log.format {
            LogFormat::Auto => Journal::of_standard_error(),
            LogFormat::Pretty | LogFormat::Json | LogFormat::Logfmt => None,
        };
        let paper = Paper::new(stderr, None);
        let to = match journal {
            Some(journal) => To::Journal(journal, paper),
            None => To::Paper(paper),
        };
        Ok(Outlet { to, look })
    }

    /// Where the access log goes.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(crate) fn of_access(to: &AccessTo, format: LogFormat) -> Result<Outlet, OpenError> {
        match to {
            AccessTo::File(path) => Outlet::file("supervisor.log.access", path, format),
            AccessTo::Output => {
                let unopened = |error| OpenError { key: "standard output", path: "/dev/stdout".into(), error };
                let stdout = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(unopened)?);
                let look = look(format, &stdout);
                Ok(Outlet { to: To::Paper(Paper::new(stdout, None)), look })
            }
        }
    }

    fn file(key: &'static str, path: &Path, format: LogFormat) -> Result<Outlet, OpenError> {
        let file = open(path).map_err(|error| OpenError { key, path: path.to_owned(), error })?;
        let look = look(format, &file);
        Ok(Outlet { to: To::Paper(Paper::new(file, Some((key, path.to_owned())))), look })
    }

    /// Opens its file anew, which may be another one by now. On failure it keeps the one that it has.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(super) fn reopen(&mut self) -> Result<(), OpenError> {
        let To::Paper(paper) = &mut self.to else { return Ok(()) };
        let Some((key, path)) = &paper.path else { return Ok(()) };
        let file = open(path).map_err(|error| OpenError { key, path: path.clone(), error })?;
        *paper = Paper::new(file, paper.path.clone());
        Ok(())
    }

    /// Writes lines. Waits for whoever reads them.
    pub(super) fn write(&mut self, lines: &[Arc<Line>]) -> Result<(), Failed> {
        match &mut self.to {
            To::Paper(paper) => paper.write(lines, self.look),
            To::Journal(journal, stderr) => {
                let refused = lines.iter().find_map(|line| journal.send(line).err().map(|_| line));
                // Standard error leads there as well, without the fields: better than nothing while it restarts.
                let Some(from) = refused.and_then(|line| lines.iter().position(|other| Arc::ptr_eq(line, other)))
                else {
                    return Ok(());
                };
                stderr.write(&lines[from..], Look::Plain)
            }
        }
    }
}

fn look(format: LogFormat, to: &File) -> Look {
    match format {
        LogFormat::Json => Look::Json,
        LogFormat::Logfmt => Look::Logfmt,
        LogFormat::Auto | LogFormat::Pretty if to.is_terminal() && std::env::var_os("NO_COLOR").is_none() => {
            Look::Coloured
        }
        LogFormat::Auto | LogFormat::Pretty => Look::Plain,
    }
}

/// Opens a file to append to. A pipe that nobody reads is refused instead of waited for; a regular file does not mind.
fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    OpenOptions::new().append(true).create(true).mode(FILE_MODE).custom_flags(flags).open(path)
}

/// A descriptor that takes bytes.
#[derive(Debug)]
struct Paper {
    file: File,
    /// Where it was opened, and which key asks for that.
    path: Option<(&'static str, PathBuf)>,
    /// Whether what was written last ended in the middle of a line.
    torn: Torn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Torn {
    No,
    Yes,
}

impl Paper {
    fn new(file: File, path: Option<(&'static str, PathBuf)>) -> Paper {
        Paper { file, path, torn: Torn::No }
    }

    fn write(&mut self, lines: &[Arc<Line>], look: Look) -> Result<(), Failed> {
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(lines.len()));
        if self.torn == Torn::Yes {
            bytes.push(b'\n');
        }
        for line in lines {
            render(line, look, &mut bytes);
            ends.push(bytes.len());
        }
        let (written, ended) = write_all(&mut self.file, &bytes);
        if written > 0 {
            self.torn = if bytes[written - 1] == b'\n' { Torn::No } else { Torn::Yes };
        }
        ended.map_err(|error| Failed { lost: ends.iter().filter(|end| **end > written).count() as u64, error })
    }
}

/// Writes as much as can be; says how much that was.
fn write_all(file: &mut File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let (mut written, mut tries) = (0, 0);
    while written < bytes.len() {
        let error = match file.write(&bytes[written..]) {
            Ok(0) => io::ErrorKind::WriteZero.into(),
            Ok(count) => {
                (written, tries) = (written + count, 0);
                continue;
            }
            Err(error) => error,
        };
        tries += 1;
        match error.kind() {
            io::ErrorKind::Interrupted if tries < TRIES_MAX => {}
            // Somebody made it non-blocking, for all who share it: waiting is this thread's business.
            io::ErrorKind::WouldBlock if tries < TRIES_MAX => {
                let _ready = poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE);
            }
            _ => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::control::protocol::{Origin, Severity};

    fn line(text: &str) -> Arc<Line> {
        let (level, origin) = (Severity::Info, Origin::Supervisor);
        Arc::new(Line { at_us: 0, level, origin, text: text.as_bytes().to_vec(), fields: Vec::new() })
    }

    fn log(file: &Path) -> Log {
        let level = ostler_config::checked::LogLevel::Info;
        Log { level, format: LogFormat::Pretty, file: Some(file.to_owned()), access: None }
    }

    #[test]
    fn a_file_is_appended_to_and_opened_anew_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("log"), dir.path().join("log.1"));
        std::fs::write(&path, "before\n").unwrap();
        let mut outlet = Outlet::of_log(&log(&path)).unwrap();
        outlet.write(&[line("one"), line("two")]).unwrap();
        std::fs::rename(&path, &moved).unwrap();
        outlet.write(&[line("three")]).unwrap();
        outlet.reopen().unwrap();
        outlet.write(&[line("four")]).unwrap();
        let said = |path| {
            let text = std::fs::read_to_string(path).unwrap();
            text.lines().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            (said(&moved), said(&path)),
            (vec!["before".into(), "one".into(), "two".into(), "three".into()], vec!["four".into()])
        );
    }

    #[test]
    fn a_file_that_cannot_be_opened_anew_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (inner, moved) = (dir.path().join("logs"), dir.path().join("gone"));
        std::fs::create_dir(&inner).unwrap();
        let mut outlet = Outlet::of_log(&log(&inner.join("log"))).unwrap();
        std::fs::rename(&inner, &moved).unwrap();
        let refused = outlet.reopen().unwrap_err().to_string();
        assert!(refused.contains("supervisor.log.file") && refused.contains("make its directory"), "{refused}");
        outlet.write(&[line("still here")]).unwrap();
        assert!(std::fs::read_to_string(moved.join("log")).unwrap().contains("still here"));
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let refused = Outlet::of_log(&log(&fifo)).unwrap_err().to_string();
        assert!(refused.contains("start its reader first"), "{refused}");
    }

    #[test]
    fn a_full_device_loses_lines_and_counts_them() {
        let mut outlet = Outlet::of_log(&log(Path::new("/dev/full"))).unwrap();
        let failed = outlet.write(&[line("one"), line("two")]).unwrap_err();
        assert_eq!((failed.lost, failed.error.kind()), (2, io::ErrorKind::StorageFull));
    }

    #[test]
    fn a_line_that_was_cut_is_ended_before_the_next_one() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut paper = Paper::new(File::from(std::os::fd::OwnedFd::from(writer)), None);
        paper.torn = Torn::Yes;
        paper.write(&[line("one")], Look::Plain).unwrap();
        drop(paper);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(text.starts_with('\n') && text.ends_with("one\n"), "{text:?}");
    }
}
