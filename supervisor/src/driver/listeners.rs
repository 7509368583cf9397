//! Makes listening sockets, and ends them without losing what waits in them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, bind, connect,
    getsockname, getsockopt, listen, setsockopt, shutdown, socket, sockopt,
};
use nix::sys::stat::{Mode, fchmodat};
use nix::unistd::{Gid, Uid, fchownat, getegid, geteuid};
use ostler_config::checked::{self, Address};
use ostler_shared::ticket::{Family, Peer};
use rustix::net::{SocketFlags, acceptfrom_with};

use super::path_lock::{FileIdentity, LockError, PathLock, Record};
use super::unix_diag;

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// The path belongs to somebody else.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Something answers there although nobody holds the lock.
    #[error(
        "{0} is in use: something accepts connections there that is not this supervisor's; stop it, or listen elsewhere"
    )]
    Answers(String),
    /// There is something else than a socket.
    #[error("{} exists and is not a socket: remove it, or listen elsewhere", .0.display())]
    NotASocket(PathBuf),
    /// No socket was given for an address, or not one to listen on.
    #[error("cannot listen on {address}: {why}")]
    Given {
        /// What the user asked for.
        address: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The kernel refuses.
    #[error("cannot listen on {address}: {step}: {error}{}", remedy(*.error))]
    Refused {
        /// What the user asked for.
        address: String,
        /// Which call.
        step: &'static str,
        /// What it answered.
        error: Errno,
    },
}

fn remedy(error: Errno) -> &'static str {
    match error {
        Errno::EADDRINUSE => " (another program listens there: stop it, or choose another address)",
        Errno::EACCES | Errno::EPERM => " (this user may not: choose another address, or start ostler as one who may)",
        Errno::ENOENT => " (create its directory first)",
        Errno::EADDRNOTAVAIL => " (no interface of this machine has that address)",
        Errno::EAFNOSUPPORT => " (this kernel knows no such addresses: choose another)",
        Errno::EROFS => " (nothing can be written there: choose another directory)",
        Errno::ENOSPC | Errno::EDQUOT => " (no room is left there: make some, or choose another directory)",
        Errno::EMFILE | Errno::ENFILE => " (no descriptors: raise the limit, ulimit -n or fs.file-max)",
        Errno::ENOMEM | Errno::ENOBUFS => " (no memory)",
        _ => "",
    }
}

/// A path that this process made, and the right to remove it.
#[derive(Debug)]
struct Owned {
    path: PathBuf,
    /// Not reused while our socket is bound to it.
    identity: FileIdentity,
    /// Held until the path is gone.
    lock: PathLock,
}

impl Owned {
    /// Owns a path again that was ours, if `listener` is still what it leads to.
    fn again(path: &Path, listener: &OwnedFd) -> Result<Option<Owned>, LockError> {
        let mut lock = PathLock::take(path)?;
        let cookie = ostler_shared::sys::socket::cookie(listener.as_fd()).ok();
        let found = cookie.zip(identity_of(path).ok()).map(|(cookie, file)| Record { cookie, file });
        match found.filter(|found| lock.recorded() == Some(*found)) {
            Some(Record { file, .. }) => Ok(Some(Owned { path: path.to_owned(), identity: file, lock })),
            None => {
                tracing::warn!(
                    "{} is not the path of the listener that was left for this start any more: it is opened anew \
                     (where systemd removed it: RuntimeDirectoryPreserve=restart)",
                    path.display()
                );
                // Whoever opens the path anew may have to know what was recorded.
                lock.outlive();
                Ok(None)
            }
        }
    }
}

fn identity_of(path: &Path) -> io::Result<FileIdentity> {
    std::fs::symlink_metadata(path).map(|found| FileIdentity { device: found.dev(), inode: found.ino() })
}

/// Who holds a listener, which decides what may be done to it: its socket is one, whoever has a descriptor of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tenure {
    /// We alone: it ends with us.
    Ours,
    /// Somebody else too, such as a service manager. It is never shut down, filtered or unlinked: what waits in its
    /// queue is left to the next holder.
    Shared,
}

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    pub(crate) tenure: Tenure,
    /// As status and logs show it; with the port that the kernel chose for port 0.
    pub(crate) shown: String,
    pub(crate) family: Family,
    owned: Option<Owned>,
}

/// Whether accept(2) waits for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    Yes,
    No,
}

/// What accept4 said.
#[derive(Debug)]
pub(crate) enum Accept {
    /// A connection, and whose it is.
    Connection(OwnedFd, Caller),
    /// This one failed before we saw it; there may be others.
    TryNext,
    /// Nobody waits.
    Empty,
    /// Nobody waits and nobody will: the listener was shut down.
    Ended,
    /// Descriptors or memory ran out; they wait in the kernel.
    Starved(Errno),
}

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A process of this machine, over Unix.
    Local(Peer),
    /// Somebody at an address, over TCP.
    Remote(SocketAddr),
    /// The kernel did not say.
    Unknown,
}

impl Caller {
    /// Over Unix, the process.
    pub(crate) fn peer(self) -> Option<Peer> {
        match self {
            Caller::Local(peer) => Some(peer),
            Caller::Remote(_) | Caller::Unknown => None,
        }
    }

    /// For people.
    pub(crate) fn shown(self) -> Option<String> {
        match self {
            Caller::Local(peer) => Some(format!("uid:{},pid:{}", peer.uid, peer.pid)),
            Caller::Remote(address) => Some(address.to_string()),
            Caller::Unknown => None,
        }
    }
}

impl Listener {
    /// Listens on `address`.
    ///
    /// # Errors
    /// [`ListenError`]; nothing is left behind.
    pub(crate) fn open(address: &Address, options: &checked::Socket) -> Result<Listener, ListenError> {
        let mut listener = Listener::bind(address, options)?;
        listener.begin(address, options)?;
        Ok(listener)
    }

    /// Takes `address` without listening. Permissions stand before the first client can connect: until listen(2) they
    /// are refused.
    ///
    /// # Errors
    /// [`ListenError`]; nothing is left behind.
    pub(crate) fn bind(address: &Address, options: &checked::Socket) -> Result<Listener, ListenError> {
        match address {
            Address::UnixPath { path, .. } => Listener::bind_path(address, path, options),
            Address::UnixAbstract(name) => {
                let refused = refused(address);
                let unix = UnixAddr::new_abstract(name.as_bytes()).map_err(|e| refused("name", e))?;
                Listener::bind_socket(address, Family::Unix, &unix)
            }
            Address::Tcp(tcp) => {
                let family = if tcp.is_ipv4() { Family::V4 } else { Family::V6 };
                Listener::bind_socket(address, family, &SockaddrStorage::from(*tcp))
            }
            Address::Given(_) => unreachable!("{address} is given, not opened: see entrances.rs"),
        }
    }

    /// A listener that somebody else made and holds as well.
    pub(super) fn of_given(socket: OwnedFd, shown: String, family: Family) -> Listener {
        Listener { socket, tenure: Tenure::Shared, shown, family, owned: None }
    }

    /// A listener that our last process left with somebody who kept it. `None` when its path leads elsewhere now.
    ///
    /// # Errors
    /// [`ListenError`], as for one that is opened: the path has to be ours.
    pub(super) fn resume(
        socket: OwnedFd,
        address: &Address,
        shown: String,
        family: Family,
        options: &checked::Socket,
    ) -> Result<Option<Listener>, ListenError> {
        let refused = refused(address);
        let owned = match address {
            Address::UnixPath { path, .. } => match Owned::again(path, &socket)? {
                Some(owned) => Some(owned),
                None => return Ok(None),
            },
            Address::UnixAbstract(_) | Address::Tcp(_) | Address::Given(_) => None,
        };
        if let Some(owned) = &owned {
            set_permissions(&owned.path, options).map_err(|(step, e)| refused(step, e))?;
        }
        let shown = if owned.is_some() { address.to_string() } else { shown };
        let listener = Listener { socket, tenure: Tenure::Shared, shown, family, owned };
        // Again, for the length of its queue.
        listen(&listener.socket, backlog(options)).map_err(|e| refused("listen", e))?;
        Ok(Some(listener))
    }

    fn bind_socket(address: &Address, family: Family, storage: &dyn SockaddrLike) -> Result<Listener, ListenError> {
        let refused = refused(address);
        let fd = new_socket(family).map_err(|e| refused("socket", e))?;
        if family != Family::Unix {
            setsockopt(&fd, sockopt::ReuseAddr, &true).map_err(|e| refused("SO_REUSEADDR", e))?;
        }
        if family == Family::V6 {
            // `tcp:[::]:80` beside `tcp:0.0.0.0:80` means what it says.
            setsockopt(&fd, sockopt::Ipv6V6Only, &true).map_err(|e| refused("IPV6_V6ONLY", e))?;
        }
        bind(fd.as_raw_fd(), storage).map_err(|e| refused("bind", e))?;
        let shown = match address {
            Address::Tcp(_) => {
                let bound: SockaddrStorage = getsockname(fd.as_raw_fd()).map_err(|e| refused("getsockname", e))?;
                format!("tcp:{bound}")
            }
            Address::UnixPath { .. } | Address::UnixAbstract(_) | Address::Given(_) => address.to_string(),
        };
        Ok(Listener { socket: fd, tenure: Tenure::Ours, shown, family, owned: None })
    }

    fn bind_path(address: &Address, path: &Path, options: &checked::Socket) -> Result<Listener, ListenError> {
        let refused = refused(address);
        let lock = PathLock::take(path)?;
        clear_the_way(address, path, &lock)?;
        let fd = new_socket(Family::Unix).map_err(|e| refused("socket", e))?;
        let unix = UnixAddr::new(path).map_err(|e| refused("path", e))?;
        bind(fd.as_raw_fd(), &unix).map_err(|e| refused("bind", e))?;
        let identity = identity_of(path).map_err(|e| {
            // Bound a moment ago and under the lock, so it is ours; and nobody could recognise it later.
            let _unlinked = std::fs::remove_file(path);
            refused("stat", errno_of(&e))
        })?;
        let listener = Listener {
            socket: fd,
            tenure: Tenure::Ours,
            shown: address.to_string(),
            family: Family::Unix,
            owned: Some(Owned { path: path.to_owned(), identity, lock }),
        };
        set_permissions(path, options).map_err(|(step, e)| refused(step, e))?;
        Ok(listener)
    }

    /// Lets clients connect to what was bound. What somebody else gave us listens already.
    ///
    /// # Errors
    /// As listen(2): somebody else may have begun to listen on the same TCP address since it was bound.
    pub(crate) fn begin(&mut self, address: &Address, options: &checked::Socket) -> Result<(), ListenError> {
        if self.tenure == Tenure::Shared {
            return Ok(());
        }
        let refused = refused(address);
        listen(&self.socket, backlog(options)).map_err(|e| refused("listen", e))?;
        if let Some(owned) = &self.owned {
            let recorded = owned.lock.record(&self.socket, owned.identity);
            recorded.map_err(|e| refused("write the lock file", errno_of(&e)))?;
        }
        Ok(())
    }

    /// Gives a listener other options while clients come: permissions of its path, length of its queue. What `options`
    /// does not say is what it would have been from the start.
    ///
    /// # Errors
    /// As chown(2), chmod(2) and listen(2); some of it may be done.
    pub(crate) fn adjust(&self, address: &Address, options: &checked::Socket) -> Result<(), ListenError> {
        let refused = refused(address);
        if let Some(owned) = &self.owned {
            let mode = match options.mode {
                Some(mode) => mode,
                None => 0o777 & !umask().map_err(|e| refused("read the umask", errno_of(&e)))?,
            };
            let whole = checked::Socket {
                mode: Some(mode),
                owner: options.owner.or_else(|| Some(geteuid().as_raw())),
                group: options.group.or_else(|| Some(getegid().as_raw())),
                ..options.clone()
            };
            set_permissions(&owned.path, &whole).map_err(|(step, e)| refused(step, e))?;
        }
        match address {
            Address::Given(_) => Ok(()),
            Address::UnixPath { .. } | Address::UnixAbstract(_) | Address::Tcp(_) => {
                listen(&self.socket, backlog(options)).map_err(|e| refused("listen", e))
            }
        }
    }

    /// Takes one connection out of the kernel's queue; it is close-on-exec and blocking, as workers expect.
    pub(crate) fn accept(&self) -> Accept {
        let accepted = acceptfrom_with(&self.socket, SocketFlags::CLOEXEC);
        match accepted.map_err(|error| Errno::from_raw(error.raw_os_error())) {
            Ok((connection, address)) => {
                let address = address.and_then(|address| SocketAddr::try_from(address).ok());
                let local = match self.family {
                    Family::Unix => peer_of(&connection).map(Caller::Local),
                    Family::V4 | Family::V6 => None,
                };
                Accept::Connection(connection, local.or(address.map(Caller::Remote)).unwrap_or(Caller::Unknown))
            }
            Err(Errno::EAGAIN) => Accept::Empty,
            // A Unix listener that was shut down and whose queue is empty (unix(7) says nothing; af_unix.c does).
            Err(Errno::EINVAL) => Accept::Ended,
            Err(error @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)) => Accept::Starved(error),
            // accept(2): these belong to the one connection that was to be accepted.
            Err(
                Errno::ECONNABORTED
                | Errno::EINTR
                | Errno::EPROTO
                | Errno::ENETDOWN
                | Errno::ENOPROTOOPT
                | Errno::EHOSTDOWN
                | Errno::ENONET
                | Errno::EHOSTUNREACH
                | Errno::EOPNOTSUPP
                | Errno::ENETUNREACH
                | Errno::EPERM,
            ) => Accept::TryNext,
            // Whatever else it is, pausing does not spin on it, and the log says so.
            Err(other) => Accept::Starved(other),
        }
    }

    /// Whether accept(2) would find somebody. Of a Unix listener that was shut down this says nothing.
    pub(crate) fn somebody_waits(&self) -> bool {
        let mut here = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        // Without memory for the question, the next one has an answer.
        poll(&mut here, PollTimeout::ZERO).map_or(true, |ready| ready > 0)
    }

    /// Makes accept(2) wait, for everybody who holds the listener, or not: the flag is one of the open file description, which
    /// all of them share (fcntl(2)).
    ///
    /// # Errors
    /// As fcntl(2); on an open socket, nothing.
    pub(crate) fn set_waiting(&self, waiting: Waiting) -> io::Result<()> {
        let flags = match waiting {
            Waiting::Yes => OFlag::empty(),
            Waiting::No => OFlag::O_NONBLOCK,
        };
        fcntl(&self.socket, FcntlArg::F_SETFL(flags))?;
        Ok(())
    }

    /// Lets nobody new connect, as far as that can be done without anybody noticing who waits at the listener: shut down, it
    /// would be readable for ever, and accept(2) fail where no program expects it to. Who knows the name of an abstract
    /// address still comes in.
    ///
    /// # Errors
    /// As unlink(2) and setsockopt(2).
    pub(crate) fn hide(&self) -> io::Result<()> {
        match (self.family, &self.owned) {
            (Family::V4 | Family::V6, _) => ostler_shared::sys::socket::refuse_new_tcp(self.socket.as_fd()),
            (Family::Unix, Some(owned)) if identity_of(&owned.path).is_ok_and(|found| found == owned.identity) => {
                std::fs::remove_file(&owned.path)
            }
            (Family::Unix, _) => Ok(()),
        }
    }

    /// Lets nobody new connect; who waits in the kernel's queue can be accepted to the end. Only for one that is ours.
    pub(crate) fn refuse_new(&self) -> io::Result<()> {
        match self.family {
            Family::Unix => Ok(shutdown(self.socket.as_raw_fd(), Shutdown::Read)?),
            Family::V4 | Family::V6 => ostler_shared::sys::socket::refuse_new_tcp(self.socket.as_fd()),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    /// Unlinks the path while the socket is still bound to it, and only if it is still ours and nobody else's.
    fn drop(&mut self) {
        let Some(owned) = &mut self.owned else { return };
        if self.tenure == Tenure::Shared {
            owned.lock.outlive();
            return;
        }
        let found = identity_of(&owned.path);
        if found.is_ok_and(|found| found == owned.identity)
            && let Err(error) = std::fs::remove_file(&owned.path)
        {
            tracing::warn!("cannot unlink {}: {error}; remove it by hand", owned.path.display());
        }
    }
}

fn refused(address: &Address) -> impl Fn(&'static str, Errno) -> ListenError + '_ {
    |step, error| ListenError::Refused { address: address.to_string(), step, error }
}

fn new_socket(family: Family) -> nix::Result<OwnedFd> {
    let family = match family {
        Family::Unix => AddressFamily::Unix,
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
}

fn backlog(options: &checked::Socket) -> Backlog {
    Backlog::new(i32::try_from(options.backlog).unwrap_or(i32::MAX)).unwrap_or(Backlog::MAXCONN)
}

/// What the kernel takes away from the permissions of what this process makes (proc(5)); umask(2) can only be asked by
/// changing it, for all threads.
fn umask() -> io::Result<u32> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    // Kernels before 4.7 do not say; it is what nearly everybody has.
    Ok(line.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).unwrap_or(0o022))
}

fn peer_of(connection: &OwnedFd) -> Option<Peer> {
    let found = getsockopt(connection, sockopt::PeerCredentials).ok()?;
    Some(Peer { uid: found.uid(), gid: found.gid(), pid: found.pid().unsigned_abs() })
}

fn set_permissions(path: &Path, options: &checked::Socket) -> Result<(), (&'static str, Errno)> {
    // The directory is trusted as the operator's; links are not followed.
    let here = nix::fcntl::AT_FDCWD;
    if options.owner.is_some() || options.group.is_some() {
        let (owner, group) = (options.owner.map(Uid::from_raw), options.group.map(Gid::from_raw));
        fchownat(here, path, owner, group, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|e| ("chown", e))?;
    }
    if let Some(mode) = options.mode {
        let mode = Mode::from_bits_truncate(mode);
        fchmodat(here, path, mode, nix::sys::stat::FchmodatFlags::FollowSymlink).map_err(|e| ("chmod", e))?;
    }
    Ok(())
}

/// Under the lock: removes what a dead owner left, and refuses to take what somebody uses.
fn clear_the_way(address: &Address, path: &Path, lock: &PathLock) -> Result<(), ListenError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused(address)("stat", errno_of(&error))),
        Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    if somebody_answers(path) && !is_our_own_leftover(path, lock) {
        return Err(ListenError::Answers(address.to_string()));
    }
    std::fs::remove_file(path).map_err(|error| refused(address)("unlink the stale path", errno_of(&error)))
}

fn somebody_answers(path: &Path) -> bool {
    let Ok(fd) = new_socket(Family::Unix) else { return true };
    let Ok(unix) = UnixAddr::new(path) else { return true };
    match connect(fd.as_raw_fd(), &unix) {
        // Nobody holds it any more. Any other error, such as a full queue, a socket of another type or of another user,
        // means that somebody does.
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => false,
        Ok(()) | Err(_) => true,
    }
}

/// The listener at `path` is the one that the last owner of the lock recorded: some process of its outlived it.
fn is_our_own_leftover(path: &Path, lock: &PathLock) -> bool {
    // The file too: somebody may have bound another socket to the path while that listener lives on without one.
    lock.recorded().is_some_and(|recorded| {
        identity_of(path).is_ok_and(|file| file == recorded.file)
            && unix_diag::listener_cookies(path).contains(&recorded.cookie)
    })
}

pub(crate) fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}
