//! Asks the kernel which sockets listen on a Unix path (sock_diag(7), UNIX_DIAG).
//!
//! One dump over netlink, read under a bound. Any trouble on the way means "none found", which makes the caller
//! refuse the path instead of taking it.

use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST_DUMP: u16 = 0x1 | 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// 1 << TCP_LISTEN.
const LISTENING: u32 = 1 << 10;
const UDIAG_SHOW_NAME: u32 = 1;
const UNIX_DIAG_NAME: u16 = 0;
const HEADER_LEN: usize = 16;
/// Family, type, state, pad, inode, cookie.
const MESSAGE_LEN: usize = 16;
/// Parts of a dump that are read before we give up, 32 KiB each.
const PARTS_MAX: usize = 4096;

/// The cookies of all Unix sockets that listen on `path`, as it was given to bind.
pub(crate) fn listener_cookies(path: &Path) -> Vec<u64> {
    dump(path.as_os_str().as_bytes()).unwrap_or_default()
}

fn dump(path: &[u8]) -> Option<Vec<u64>> {
    let netlink =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag).ok()?;
    send(netlink.as_raw_fd(), &request(), MsgFlags::empty()).ok()?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 32 * 1024];
    for _ in 0..PARTS_MAX {
        let len = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty()).ok()?;
        let mut rest = &buffer[..len];
        while let Some((kind, body, next)) = split_message(rest) {
            match kind {
                NLMSG_DONE => return Some(found),
                NLMSG_ERROR => return None,
                _ => found.extend(cookie_if_named(body, path)),
            }
            rest = next;
        }
    }
    None
}

/// nlmsghdr and unix_diag_req (linux/netlink.h, linux/unix_diag.h).
fn request() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40);
    bytes.extend(40u32.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    bytes.extend([0; 8]); // sequence, port
    bytes.extend([libc::AF_UNIX as u8, 0, 0, 0]); // family, protocol, pad
    bytes.extend(LISTENING.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes()); // any inode
    bytes.extend(UDIAG_SHOW_NAME.to_ne_bytes());
    bytes.extend([0xff; 8]); // any cookie
    bytes
}

/// Type and body of the first message, and what follows it; lengths are checked, never trusted.
fn split_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(HEADER_LEN..len)?;
    Some((kind, body, bytes.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

fn cookie_if_named(body: &[u8], path: &[u8]) -> Option<u64> {
    let low = u32::from_ne_bytes(*body.get(8..)?.first_chunk()?);
    let high = u32::from_ne_bytes(*body.get(12..)?.first_chunk()?);
    let mut attributes = body.get(MESSAGE_LEN..)?;
    while let Some(len) = attributes.first_chunk().map(|len| usize::from(u16::from_ne_bytes(*len))) {
        let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?);
        let value = attributes.get(4..len)?;
        let name = value.strip_suffix(&[0]).unwrap_or(value);
        if kind == UNIX_DIAG_NAME && name == path {
            return Some(u64::from(low) | u64::from(high) << 32);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_listener_on_a_path_is_found_by_its_cookie() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        assert!(listener_cookies(&path).is_empty());
        let listener = UnixListener::bind(&path).unwrap();
        let cookie = ostler_shared::sys::socket::cookie(listener.as_fd()).unwrap();
        assert_eq!(listener_cookies(&path), [cookie]);
        assert!(listener_cookies(&dir.path().join("other.sock")).is_empty());
    }
}
