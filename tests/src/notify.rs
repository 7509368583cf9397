//! Poses as the service manager that `NOTIFY_SOCKET` leads to.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ostler_shared::sys::msg;

use crate::deadline::wait_for;

/// A datagram socket that collects notifications, and keeps descriptors as a service manager's store does.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    messages: Vec<Vec<String>>,
    said: Vec<String>,
    store: Vec<(String, OwnedFd)>,
}

impl Manager {
    /// Listens at `path`.
    ///
    /// # Panics
    /// When that is not possible.
    #[must_use]
    pub fn at(path: PathBuf) -> Manager {
        let socket = UnixDatagram::bind(&path).expect("cannot bind the manager's socket");
        Manager { socket, path, messages: Vec::new(), said: Vec::new(), store: Vec::new() }
    }

    /// The value for `NOTIFY_SOCKET`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every line received so far, in order.
    pub fn said(&mut self) -> &[String] {
        self.read();
        &self.said
    }

    /// Every message received so far, in order, each as its lines.
    pub fn messages(&mut self) -> &[Vec<String>] {
        self.read();
        &self.messages
    }

    /// What it was given to keep, with the names.
    ///
    /// # Panics
    /// When this process has no descriptors left.
    pub fn stored(&mut self) -> Vec<(String, OwnedFd)> {
        self.read();
        let copy = |(name, fd): &(String, OwnedFd)| (name.clone(), fd.try_clone().expect("descriptors to spare"));
        self.store.iter().map(copy).collect()
    }

    /// The names of what it keeps.
    pub fn stored_names(&mut self) -> Vec<String> {
        self.read();
        self.store.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Waits for a line that begins so.
    ///
    /// # Panics
    /// When none comes within `limit`.
    pub fn wait_for(&mut self, start: &str, limit: Duration) -> String {
        wait_for(limit, &format!("notification {start}"), || {
            self.said().iter().find(|line| line.starts_with(start)).cloned()
        })
    }

    fn read(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match msg::recv(self.socket.as_fd(), &mut buffer, libc::MSG_DONTWAIT) {
                Ok(message) => {
                    let text = String::from_utf8_lossy(&buffer[..message.len]).into_owned();
                    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
                    self.keep_or_forget(&lines, message.fds);
                    self.said.extend(lines.iter().cloned());
                    self.messages.push(lines);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => panic!("cannot read notifications: {error}"),
            }
        }
    }

    /// As sd_notify(3) tells: what came without `FDSTORE=1` is closed.
    fn keep_or_forget(&mut self, lines: &[String], fds: Vec<OwnedFd>) {
        let has = |line: &str| lines.iter().any(|found| found == line);
        let name = lines.iter().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored");
        if has("FDSTOREREMOVE=1") {
            self.store.retain(|(stored, _)| stored != name);
        } else if has("FDSTORE=1") {
            for fd in fds {
                if !self.store.iter().any(|(_, stored)| is_same(stored, &fd)) {
                    self.store.push((name.to_owned(), fd));
                }
            }
        }
    }
}

fn is_same(one: &OwnedFd, other: &OwnedFd) -> bool {
    let cookie = |fd: &OwnedFd| ostler_shared::sys::socket::cookie(fd.as_fd()).ok();
    cookie(one).is_some() && cookie(one) == cookie(other)
}

impl Drop for Manager {
    fn drop(&mut self) {
        // It is ours, not a leftover of ostler.
        let _ = std::fs::remove_file(&self.path);
    }
}
