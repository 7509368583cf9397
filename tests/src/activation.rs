//! Poses as a service manager that passes descriptors to what it starts.

use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use ostler_shared::sys::msg::send_with_fd;

use crate::deadline::{SOON, try_for};
use crate::place;

/// Most descriptors that can be passed: number 9 is the one for readiness.
pub const PASSED_MAX: usize = 6;

/// The prologue of a supervisor that is passed these descriptors under these names, from number 3 on.
///
/// # Panics
/// When there are too many, or the machine has no room for another socket.
#[must_use]
pub fn passing(descriptors: Vec<(String, OwnedFd)>) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    assert!(descriptors.len() <= PASSED_MAX, "{} descriptors", descriptors.len());
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("ostler-activation-{}-{number}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a short name");
    let listener = UnixListener::bind_addr(&address).expect("a name of our own");
    listener.set_nonblocking(true).expect("an open socket");
    let names: Vec<String> = descriptors.iter().map(|(name, _)| name.clone()).collect();
    // Whoever is never asked gives up; then the supervisor did not start, which the test sees.
    thread::spawn(move || {
        let Some((stream, _)) = try_for(SOON, || listener.accept().ok()) else { return };
        for (_, fd) in &descriptors {
            send_with_fd(stream.as_fd(), &[0], fd.as_fd()).expect("it waits for us");
        }
    });
    let program = place::program("activate");
    format!(r#"exec {} {name} {} "$@";"#, program.display(), names.join(":"))
}
