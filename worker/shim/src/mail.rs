//! Receives one message of the mailbox, without a heap.

use std::os::fd::RawFd;
use std::ptr;

use libc::c_int;
use ostler_shared::Ticket;
use ostler_shared::ticket::TICKET_LEN;

use crate::originals::errno;

/// What came.
#[derive(Debug)]
pub(crate) enum Mail {
    /// A connection's ticket, with its descriptor where this process had room for it.
    Connection(Ticket, Option<RawFd>),
    /// The supervisor knocks: it wants a sign of life. Or it is nothing that we know.
    Knock,
    /// Nothing will come any more.
    End,
}

/// Aligned as a cmsghdr, with room for one descriptor and for what the options of the socket may add.
const CONTROL_WORDS: usize = 16;

/// One message; on failure errno. `flags` are those of recvmsg(2).
pub(crate) fn receive(fd: RawFd, flags: c_int) -> Result<Mail, c_int> {
    let mut bytes = [0u8; TICKET_LEN + 1];
    let mut control = [0u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: msghdr is plain data for which all zeroes are valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: both buffers outlive the call and have the lengths that are said.
    let len = unsafe { libc::recvmsg(fd, &raw mut message, flags) };
    let Ok(len) = usize::try_from(len) else { return Err(errno()) };
    // SAFETY: the kernel filled the message in.
    let descriptor = unsafe { first_descriptor(&message) };
    if len == 0 && descriptor.is_none() {
        return Ok(Mail::End);
    }
    match Ticket::from_bytes(bytes.get(..len).unwrap_or_default()) {
        Ok(ticket) => Ok(Mail::Connection(ticket, descriptor)),
        Err(_) => {
            close(descriptor);
            Ok(Mail::Knock)
        }
    }
}

/// The descriptor that came along; others, which no supervisor sends, are closed.
///
/// # Safety
/// `message` must be as recvmsg left it, its control buffer alive.
unsafe fn first_descriptor(message: &libc::msghdr) -> Option<RawFd> {
    let mut first = None;
    // SAFETY: the headers that these macros return lie inside the control buffer, and so do as many ints as they say.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
                for index in 0..bytes / size_of::<c_int>() {
                    let fd = ptr::read_unaligned(libc::CMSG_DATA(header).cast::<c_int>().add(index));
                    match first {
                        None => first = Some(fd),
                        Some(_) => close(Some(fd)),
                    }
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    first
}

/// Closes a descriptor that nobody has seen.
pub(crate) fn close(fd: Option<RawFd>) {
    if let Some(fd) = fd {
        // SAFETY: the kernel gave it to us, and we gave it to nobody.
        unsafe { crate::originals::close(fd) };
    }
}
