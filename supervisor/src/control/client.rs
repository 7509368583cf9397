//! Asks a running supervisor, and finds it first.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, getsockopt, sockopt};
use nix::unistd::{Uid, User};
use ostler_shared::scoreboard::file::{Board, beside};
use ostler_shared::stream::{Flushed, FrameReader, FrameWriter, Next, StreamError};

use super::others::{self, PROC, Running};
use super::place;
use super::protocol::{BadMessage, RESPONSE_MAX, Request, Response, decode, encode};
use crate::presence;

/// How long a supervisor may take to answer a question that needs no waiting.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why a supervisor was not asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Nobody is there.
    #[error("no supervisor {place}{}", remedy(.elsewhere))]
    Nobody {
        /// Where, and how that is known.
        place: String,
        /// Supervisors that run all the same.
        elsewhere: Vec<Running>,
    },
    /// There are several.
    #[error("several supervisors are running; name one with --control:{}", choice(.0))]
    Several(Vec<PathBuf>),
    /// It belongs to another user.
    #[error("the supervisor at {} belongs to {owner}: run this as {}", path.display(), one_of_its_users(owner))]
    NotYours {
        /// Its control socket.
        path: PathBuf,
        /// Its user.
        owner: String,
    },
    /// The configuration that would tell where it is can't be read.
    #[error("cannot read {path}: {1}; name the control socket with --control PATH", path = .0.display())]
    Config(PathBuf, #[source] io::Error),
    /// It does not speak as we do.
    #[error("cannot understand the supervisor at {path}: {1}", path = .0.display())]
    Message(PathBuf, #[source] BadMessage),
    /// The connection failed.
    #[error("lost the supervisor at {path}: {1}", path = .0.display())]
    Broken(PathBuf, #[source] StreamError),
    /// It does not answer in time.
    #[error("the supervisor at {} did not answer within {ANSWER_WITHIN:?}: is it stopped, or the machine overloaded?", .0.display())]
    Late(PathBuf),
    /// It went away without an answer.
    #[error("the supervisor at {} went away without an answer", .0.display())]
    NoAnswer(PathBuf),
}

fn remedy(elsewhere: &[Running]) -> String {
    if elsewhere.is_empty() {
        return ": start one with `ostler run`, or name its control socket with --control PATH".to_owned();
    }
    format!(
        "; is it running as another user, or with a control socket elsewhere?{}\n\
         name its control socket with --control PATH, or start one with `ostler run`",
        others::list(elsewhere)
    )
}

/// The sockets, each with the process that it is named after.
fn choice(paths: &[PathBuf]) -> String {
    let owner = |path: &PathBuf| others::supervisor(Path::new(PROC), path.file_stem()?.to_str()?.parse().ok()?);
    let line = |path: &PathBuf| match owner(path) {
        Some(running) => format!("\n  {}  {running}", path.display()),
        None => format!("\n  {}", path.display()),
    };
    paths.iter().map(line).collect()
}

/// Where to look, in the order of the contract.
#[derive(Debug, Clone, Default)]
pub(crate) struct Whereabouts {
    /// `--control` or `OSTLER_CONTROL`.
    pub(crate) control: Option<PathBuf>,
    /// `-c FILE`.
    pub(crate) config: Option<PathBuf>,
}

impl Whereabouts {
    /// The control socket, whether or not somebody listens there.
    pub(crate) fn find(&self) -> Result<PathBuf, AskError> {
        if let Some(path) = &self.control {
            return Ok(path.clone());
        }
        let file = self.config.clone().or_else(|| Some(PathBuf::from("ostler.toml")).filter(|path| path.exists()));
        if let Some(file) = file {
            // Only where it is counts here: a file with mistakes still says that, and `reload` gives the verdict.
            match ostler_config::control_path(&file) {
                Ok(Some(control)) => return Ok(control),
                Ok(None) => {}
                Err(error) if self.config.is_some() => return Err(AskError::Config(file, error)),
                Err(_) => {}
            }
        }
        let dir = place::default_directory();
        let mut alive: Vec<PathBuf> = place::sockets_in_default_directory();
        alive.retain(|path| !matches!(connect(path), Err(error) if is_nobody(&error)));
        match alive.as_slice() {
            [] => Err(nobody(format!("in {}", dir.display()))),
            [one] => Ok(one.clone()),
            _ => Err(AskError::Several(alive)),
        }
    }

    /// Finds the supervisor and puts a request to it.
    pub(crate) fn ask(&self, request: &Request) -> Result<Answers, AskError> {
        ask_at(self.find()?, request)
    }
}

/// Puts a request to the supervisor with this control socket.
pub(crate) fn ask_at(path: PathBuf, request: &Request) -> Result<Answers, AskError> {
    let stream = connect(&path).map_err(|error| explain(&path, &error))?;
    let mut answers = Answers { stream, reader: FrameReader::new(RESPONSE_MAX), path };
    let mut writer = FrameWriter::default();
    writer.push(&encode(request));
    match writer.flush(&mut answers.stream) {
        Ok(Flushed::All | Flushed::Blocked) => Ok(answers),
        // It may have refused us already, and said why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(answers),
        Err(error) => Err(AskError::Broken(answers.path, error.into())),
    }
}

/// Connects without waiting: a supervisor that is stopped takes nobody in, and when as many as it lets wait do so, a plain
/// connect(2) would wait for it to go on.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Whether a supervisor takes clients in here, or would if it were not stopped. It is asked nothing.
pub(crate) fn somebody_listens(path: &Path) -> bool {
    !matches!(connect(path), Err(error) if is_nobody(&error))
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

fn explain(path: &Path, error: &io::Error) -> AskError {
    if error.kind() == io::ErrorKind::PermissionDenied {
        let owner = std::fs::metadata(path).or_else(|_| std::fs::metadata(path.parent().unwrap_or(path)));
        let owner = owner.map_or_else(|_| "another user".to_owned(), |found| user_name(found.uid()));
        return AskError::NotYours { path: path.to_owned(), owner };
    }
    if error.kind() == io::ErrorKind::WouldBlock {
        return AskError::Late(path.to_owned());
    }
    // One that stops takes it away.
    match Board::open(beside(path)).and_then(|board| board.read()) {
        Ok(left) => nobody(format!(
            "at {} any more (that of pid {} is gone without having stopped)",
            path.display(),
            left.supervisor.pid
        )),
        Err(_) => nobody(format!("at {} ({error})", path.display())),
    }
}

/// Who may ask the supervisor of `owner`.
fn one_of_its_users(owner: &str) -> String {
    if owner == "root" { owner.to_owned() } else { format!("{owner} or as root") }
}

/// Nobody is at a place; who runs elsewhere is told with it.
pub(crate) fn nobody(place: String) -> AskError {
    AskError::Nobody { place, elsewhere: others::running(Path::new(PROC)) }
}

/// A user as people know it.
pub(crate) fn user_name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => format!("uid {uid}"),
    }
}

/// What the supervisor says to one request.
pub(crate) struct Answers {
    stream: UnixStream,
    reader: FrameReader,
    path: PathBuf,
}

impl Answers {
    /// The supervisor's process, if it is stopped: then there will be no answer for a while. It is who listens at the other end.
    pub(crate) fn stopped(&self) -> Option<i32> {
        let pid = getsockopt(&self.stream, sockopt::PeerCredentials).ok()?.pid();
        presence::is_stopped(u32::try_from(pid).ok()?).then_some(pid)
    }

    /// The next response, if there is one within so long; without a limit it waits as long as the supervisor takes.
    pub(crate) fn next_within(&mut self, patience: Option<Duration>) -> Result<Option<Response>, AskError> {
        let set = self.stream.set_read_timeout(patience);
        set.map_err(|error| AskError::Broken(self.path.clone(), error.into()))?;
        match self.reader.next(&mut self.stream) {
            Ok(Next::Frame(frame)) => {
                decode(&frame).map(Some).map_err(|error| AskError::Message(self.path.clone(), error))
            }
            Ok(Next::Later) => Ok(None),
            Ok(Next::End) => Err(AskError::NoAnswer(self.path.clone())),
            Err(error) => Err(AskError::Broken(self.path.clone(), error)),
        }
    }

    /// The next response; waits as long as the supervisor takes.
    pub(crate) fn next(&mut self) -> Result<Response, AskError> {
        self.next_within(None)?.ok_or_else(|| AskError::Late(self.path.clone()))
    }

    /// Another handle to the connection, by which another thread can end it.
    pub(crate) fn handle(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// The next response, for questions that are answered at once.
    pub(crate) fn next_soon(&mut self) -> Result<Response, AskError> {
        self.next_within(Some(ANSWER_WITHIN))?.ok_or_else(|| AskError::Late(self.path.clone()))
    }
}
