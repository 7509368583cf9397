//! Sends and receives messages with descriptors over sendmsg(2), recvmsg(2) and recvmmsg(2).
//!
//! nix's wrapper is not used for receiving: where the kernel truncated the control data it answers with an error,
//! and the descriptors that did arrive would leak. Here every descriptor is owned before anything is judged.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// Most descriptors that one message of ours carries.
pub const SEND_FDS_MAX: usize = 7;
/// Room for the control data that we send (unix(7), cmsg(3)), aligned as cmsghdr wants.
const SEND_WORDS: usize = 6;
/// Room for the control data that we receive. One descriptor is what a sender may send, but options of the socket,
/// which its other holders may set, can add credentials, a pidfd and a security label. What does not fit is closed by the
/// kernel and flagged.
const RECEIVE_WORDS: usize = 32;

const _: () = {
    assert!(size_of::<BorrowedFd<'_>>() == size_of::<libc::c_int>());
    // SAFETY: CMSG_SPACE only computes.
    let most = unsafe { libc::CMSG_SPACE((SEND_FDS_MAX * size_of::<libc::c_int>()) as u32) } as usize;
    assert!(most <= SEND_WORDS * size_of::<u64>());
};

/// A pidfd of the sender, added when SO_PASSPIDFD is set (linux/socket.h; libc does not name it yet).
const SCM_PIDFD: libc::c_int = 4;

/// What recvmsg(2) delivered, before anybody judged it.
#[derive(Debug)]
pub struct RawMessage {
    /// Bytes that were written to the buffer.
    pub len: usize,
    /// Every descriptor that arrived, in order.
    pub fds: Vec<OwnedFd>,
    /// The message was longer than the buffer (MSG_TRUNC).
    pub bytes_truncated: bool,
    /// At least one descriptor did not fit or could not be installed (MSG_CTRUNC).
    pub fds_truncated: bool,
}

/// Sends one message with one descriptor; never blocks, never raises SIGPIPE.
///
/// # Errors
/// As sendmsg(2): `EAGAIN` when the receiver's queue is full, `ETOOMANYREFS` when this user has too many
/// descriptors in flight, `EPIPE` when the other side does not read any more.
pub fn send_with_fd(socket: BorrowedFd<'_>, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
    send_with_fds(socket, bytes, &[fd])
}

/// Sends one message with 1 to [`SEND_FDS_MAX`] descriptors; never blocks, never raises SIGPIPE.
///
/// # Errors
/// As [`send_with_fd`].
///
/// # Panics
/// With none or more descriptors, which is a mistake of the caller.
pub fn send_with_fds(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    assert!((1..=SEND_FDS_MAX).contains(&fds.len()), "a message of ours carries 1 to {SEND_FDS_MAX} descriptors");
    let data_len = size_of_val(fds) as u32; // a borrowed descriptor is an int
    let mut control = [0u64; SEND_WORDS];
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: msghdr is plain data for which all zeroes are valid.
    let mut msg: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    msg.msg_iov = &raw mut iov;
    msg.msg_iovlen = 1;
    msg.msg_control = control.as_mut_ptr().cast();
    // SAFETY: `control` is aligned for cmsghdr and large enough for SEND_FDS_MAX ints (asserted above); the header that
    // CMSG_FIRSTHDR returns lies inside it, and so do the ints from where CMSG_DATA points to.
    let sent = unsafe {
        msg.msg_controllen = libc::CMSG_SPACE(data_len) as usize;
        let header = libc::CMSG_FIRSTHDR(&raw const msg);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(data_len) as usize;
        let data = libc::CMSG_DATA(header).cast::<libc::c_int>();
        for (place, fd) in fds.iter().enumerate() {
            ptr::write_unaligned(data.add(place), fd.as_raw_fd());
        }
        libc::sendmsg(socket.as_raw_fd(), &raw const msg, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    };
    // A SEQPACKET message goes whole or not at all, so a short count can't happen.
    if sent == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives one message and everything that came with it. `flags` is passed on, with `MSG_CMSG_CLOEXEC` added.
///
/// # Errors
/// As recvmsg(2); `EINTR` is not retried here, since a caller may want to look at what interrupted it.
pub fn recv(socket: BorrowedFd<'_>, buffer: &mut [u8], flags: libc::c_int) -> io::Result<RawMessage> {
    let mut control = [0u64; RECEIVE_WORDS];
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: msghdr is plain data for which all zeroes are valid.
    let mut msg: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    msg.msg_iov = &raw mut iov;
    msg.msg_iovlen = 1;
    msg.msg_control = control.as_mut_ptr().cast();
    msg.msg_controllen = size_of_val(&control);
    // SAFETY: iov and control describe memory that outlives the call and that nothing else refers to.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut msg, flags | libc::MSG_CMSG_CLOEXEC) };
    if len == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel filled in `msg`, whose control data is the local array above.
    let fds = unsafe { own_descriptors(&msg) };
    Ok(RawMessage {
        len: len.unsigned_abs(),
        fds,
        bytes_truncated: msg.msg_flags & libc::MSG_TRUNC != 0,
        fds_truncated: msg.msg_flags & libc::MSG_CTRUNC != 0,
    })
}

/// Makes an owner for each descriptor in the control data of a received message.
///
/// # Safety
/// `msg` must be as recvmsg left it, its control buffer alive, and this must be called once per message.
unsafe fn own_descriptors(msg: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: (caller) the headers that CMSG_FIRSTHDR and CMSG_NXTHDR return lie inside the control buffer.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(msg) };
    while !header.is_null() {
        // SAFETY: not null, so a whole header lies inside the buffer.
        let (level, kind, len) = unsafe { ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len) };
        if level == libc::SOL_SOCKET && (kind == libc::SCM_RIGHTS || kind == SCM_PIDFD) {
            // SAFETY: CMSG_LEN only computes.
            let bytes = len.saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
            for index in 0..bytes / size_of::<libc::c_int>() {
                // SAFETY: cmsg_len says that this int is there; the kernel installed it for this process and
                // nobody else knows its number, so this is its only owner.
                let fd = unsafe {
                    let fd = ptr::read_unaligned(libc::CMSG_DATA(header).cast::<libc::c_int>().add(index));
                    OwnedFd::from_raw_fd(fd)
                };
                // A pidfd is nobody's business here: owned, and closed at once.
                if kind == libc::SCM_RIGHTS {
                    fds.push(fd);
                }
            }
        }
        // SAFETY: as for the first header.
        header = unsafe { libc::CMSG_NXTHDR(msg, header) };
    }
    fds
}

/// Room for the credentials of a sender and for nothing else: descriptors that come with them don't fit, and the kernel closes
/// what does not fit (unix(7)).
const SENDER_WORDS: usize = 4;

const _: () = {
    // SAFETY: CMSG_SPACE only computes.
    let room = unsafe { libc::CMSG_SPACE(size_of::<libc::ucred>() as u32) } as usize;
    assert!(room == SENDER_WORDS * size_of::<u64>());
};

/// Who sent a message, by the kernel's word. The process may be gone by now, and its number somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// Its process; 0 where we can't see it.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
}

/// A message, and who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// Bytes that were written to the buffer.
    pub len: usize,
    /// The message was longer than the buffer.
    pub truncated: bool,
    /// `None` when the socket does not ask for it (SO_PASSCRED).
    pub sender: Option<Sender>,
}

/// Receives one message without waiting, and who sent it. Descriptors are not accepted.
///
/// # Errors
/// As recvmsg(2).
pub fn recv_signed(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Signed> {
    let mut control = [0u64; SENDER_WORDS];
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: msghdr is plain data for which all zeroes are valid.
    let mut msg: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    msg.msg_iov = &raw mut iov;
    msg.msg_iovlen = 1;
    msg.msg_control = control.as_mut_ptr().cast();
    msg.msg_controllen = size_of_val(&control);
    // SAFETY: iov and control describe memory that outlives the call and that nothing else refers to.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut msg, libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC) };
    if len == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel filled in `msg`, whose control data is the local array above.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const msg) };
    // SAFETY: not null, so a whole header lies inside the buffer; credentials are as long as a ucred, which has room there.
    let sender = (!header.is_null()).then(|| unsafe {
        let is_credentials = (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_CREDENTIALS;
        is_credentials.then(|| ptr::read_unaligned(libc::CMSG_DATA(header).cast::<libc::ucred>()))
    });
    Ok(Signed {
        len: len.unsigned_abs(),
        truncated: msg.msg_flags & libc::MSG_TRUNC != 0,
        sender: sender.flatten().map(|sender| Sender { pid: sender.pid, uid: sender.uid }),
    })
}

/// One message of a batch, as [`recv_batch`] left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchItem {
    /// Bytes that were written to the item's buffer.
    pub len: usize,
    /// The message was longer than its buffer, or carried a descriptor (which the kernel closed).
    pub truncated: bool,
}

/// Receives up to `N` messages in one system call, without waiting and without accepting descriptors.
///
/// Returns how many of `items` are filled; 0 when nothing is there. A zero-length item is the end of the
/// stream (or an empty message, which for us is the same).
///
/// # Errors
/// As recvmmsg(2), except `EAGAIN`, which is the answer 0.
pub fn recv_batch<const N: usize, const LEN: usize>(
    socket: BorrowedFd<'_>,
    buffers: &mut [[u8; LEN]; N],
    items: &mut [BatchItem; N],
) -> io::Result<usize> {
    // SAFETY: mmsghdr and iovec are plain data for which all zeroes are valid.
    let (mut headers, mut iovs): ([libc::mmsghdr; N], [libc::iovec; N]) =
        unsafe { (MaybeUninit::zeroed().assume_init(), MaybeUninit::zeroed().assume_init()) };
    for ((header, iov), buffer) in headers.iter_mut().zip(&mut iovs).zip(buffers.iter_mut()) {
        *iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: LEN };
        header.msg_hdr.msg_iov = iov;
        header.msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: every header points to an iovec that points to a buffer; all of them outlive the call.
    let count = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            u32::try_from(N).unwrap_or(u32::MAX),
            libc::MSG_DONTWAIT,
            ptr::null_mut(),
        )
    };
    if count == -1 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) };
    }
    let count = usize::try_from(count).unwrap_or(0);
    for (item, header) in items.iter_mut().zip(&headers[..count]) {
        *item = BatchItem {
            len: header.msg_len as usize,
            truncated: header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
        };
    }
    Ok(count)
}
