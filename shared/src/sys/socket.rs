//! Asks sockets for what no crate wraps.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// Classic BPF over a TCP header: drop SYN without ACK, keep everything else (bpf(4), socket(7)).
///
/// ```text
/// ldb [13]          the flags
/// and #0x12         SYN | ACK
/// jeq #0x02, drop
/// ret #-1           keep
/// drop: ret #0
/// ```
const REFUSE_SYN: [libc::sock_filter; 5] = [
    libc::sock_filter { code: 0x30, jt: 0, jf: 0, k: 13 },
    libc::sock_filter { code: 0x54, jt: 0, jf: 0, k: 0x12 },
    libc::sock_filter { code: 0x15, jt: 1, jf: 0, k: 0x02 },
    libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: u32::MAX },
    libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 },
];

/// Lets nobody new connect to a TCP listener, and keeps what its queue holds and what is shaking hands.
///
/// # Errors
/// As setsockopt(SO_ATTACH_FILTER): `ENOMEM` when the filter is larger than the memory allowed for options.
pub fn refuse_new_tcp(listener: BorrowedFd<'_>) -> io::Result<()> {
    let mut filter = REFUSE_SYN;
    let program = libc::sock_fprog { len: 5, filter: filter.as_mut_ptr() };
    // SAFETY: `program` and the filter that it points to outlive the call, which copies both.
    let answer = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes one connection out of a listener's queue: close-on-exec, and blocking whatever the listener is.
///
/// # Errors
/// As accept4(2).
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: null pointers ask for no address.
    let fd = unsafe { libc::accept4(listener.as_raw_fd(), ptr::null_mut(), ptr::null_mut(), libc::SOCK_CLOEXEC) };
    if fd == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this number for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets nobody attach a filter to a socket any more, by whatever descriptor (SO_LOCK_FILTER, socket(7)).
///
/// # Errors
/// As setsockopt(2); on an open socket, nothing.
pub fn lock_filter(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_int(socket, libc::SO_LOCK_FILTER, 1)
}

/// Puts those options of a Unix socket back that change what a receiver gets: a worker shares the socket that its
/// mailbox is read back through, and may have set them.
///
/// Options that this kernel does not know are left out; what could not be set shows when the mailbox is read.
pub fn reset_receive_options(socket: BorrowedFd<'_>) {
    // linux/socket.h; libc does not name them yet.
    const SO_PASSPIDFD: libc::c_int = 76;
    for (option, value) in [(libc::SO_PEEK_OFF, -1), (libc::SO_PASSCRED, 0), (libc::SO_PASSSEC, 0), (SO_PASSPIDFD, 0)] {
        let _unknown_here = set_int(socket, option, value);
    }
}

fn set_int(socket: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the option is an int, and the pointer is to one that outlives the call.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The kernel's number for a socket, never reused while the machine is up (SO_COOKIE; sock_diag(7) shows the same).
///
/// # Errors
/// As getsockopt(2); on an open socket, nothing.
pub fn cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: SO_COOKIE writes eight bytes to the pointer, and `len` says that there is room for eight.
    let answer = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_COOKIE, (&raw mut cookie).cast(), &raw mut len)
    };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}

/// Where a socket is bound: a `struct sockaddr` as the kernel writes it, family first.
///
/// # Errors
/// As getsockname(2); on an open socket, nothing.
pub fn local_address(socket: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0u8; size_of::<libc::sockaddr_storage>()];
    let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, which there are.
    let answer = unsafe { libc::getsockname(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), &raw mut len) };
    if answer == -1 {
        return Err(io::Error::last_os_error());
    }
    bytes.truncate(len as usize);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::Duration;

    #[test]
    fn a_filtered_listener_keeps_its_queue_and_takes_nobody_new() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _queued = TcpStream::connect(address).unwrap();
        refuse_new_tcp(listener.as_fd()).unwrap();
        assert!(TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_err());
        let (_accepted, _) = listener.accept().unwrap();
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn an_address_is_as_long_as_the_kernel_says() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = local_address(listener.as_fd()).unwrap();
        let port = listener.local_addr().unwrap().port().to_be_bytes();
        assert_eq!((address.len(), &address[2..8]), (16, &[port[0], port[1], 127, 0, 0, 1][..]));
    }

    #[test]
    fn every_socket_has_its_own_cookie() {
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_ne!(cookie(one.as_fd()).unwrap(), cookie(other.as_fd()).unwrap());
        assert_eq!(cookie(one.as_fd()).unwrap(), cookie(one.as_fd()).unwrap());
    }
}
