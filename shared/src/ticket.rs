//! Lays out the ticket that travels with every connection through a mailbox.
//!
//! Fixed size and little-endian, so that any language can read it with one `struct.unpack`, and so that the
//! depth of a mailbox is the number of its unread bytes ÷ [`TICKET_LEN`], exactly.
//!
//! ```text
//!  0  u16  layout version (1)          16  u64  accepted at, ns of CLOCK_MONOTONIC
//!  2  u8   family: 1 unix 4 v4 6 v6    24  u32  peer's uid  ┐
//!  3  u8   flags: 1 credentials        28  u32  peer's gid  ├ when flag 1 is set
//!  4  u32  listener, index in pool     32  u32  peer's pid  ┘
//!  8  u64  connection id               36  u32  zero
//! ```

use crate::ids::ConnId;

/// Bytes of a ticket on the wire.
pub const TICKET_LEN: usize = 40;
/// The layout that this build writes and reads.
pub const TICKET_VERSION: u16 = 1;

const FLAG_CREDENTIALS: u8 = 1;

/// The address family of the listener that took a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// A Unix socket, by path or abstract.
    Unix,
    /// TCP over IPv4.
    V4,
    /// TCP over IPv6.
    V6,
}

/// Who connected, as the kernel recorded it at connect time (Unix sockets only, `SO_PEERCRED`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The user that called connect.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its process id; 0 when it is in another pid namespace.
    pub pid: u32,
}

/// What a worker is told about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The connection's identity in logs and books.
    pub conn: ConnId,
    /// Which of the pool's listeners took it, in the order of the configuration, from 0.
    pub listener: u32,
    /// The family of that listener.
    pub family: Family,
    /// When the supervisor accepted it, in nanoseconds of `CLOCK_MONOTONIC`.
    pub accepted_at_ns: u64,
    /// Who connected; `None` over TCP.
    pub peer: Option<Peer>,
}

/// Bytes that are not a ticket of this layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTicket {
    /// The message has another length.
    #[error("a ticket has {TICKET_LEN} bytes, this has {0}")]
    Length(usize),
    /// The layout version is unknown.
    #[error("a ticket of layout {0} is not understood (this build reads {TICKET_VERSION})")]
    Version(u16),
    /// The family byte is unknown.
    #[error("a ticket names the unknown address family {0}")]
    Family(u8),
}

impl Ticket {
    /// The ticket as it travels.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; TICKET_LEN] {
        let mut bytes = [0; TICKET_LEN];
        let family: u8 = match self.family {
            Family::Unix => 1,
            Family::V4 => 4,
            Family::V6 => 6,
        };
        bytes[0..2].copy_from_slice(&TICKET_VERSION.to_le_bytes());
        bytes[2] = family;
        bytes[4..8].copy_from_slice(&self.listener.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.conn.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.accepted_at_ns.to_le_bytes());
        if let Some(peer) = self.peer {
            bytes[3] = FLAG_CREDENTIALS;
            bytes[24..28].copy_from_slice(&peer.uid.to_le_bytes());
            bytes[28..32].copy_from_slice(&peer.gid.to_le_bytes());
            bytes[32..36].copy_from_slice(&peer.pid.to_le_bytes());
        }
        bytes
    }

    /// Reads a ticket that came out of a mailbox.
    ///
    /// # Errors
    /// When the bytes are not a ticket of this layout.
    pub fn from_bytes(bytes: &[u8]) -> Result<Ticket, BadTicket> {
        let bytes: &[u8; TICKET_LEN] = bytes.try_into().map_err(|_| BadTicket::Length(bytes.len()))?;
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let version = u16::from_le_bytes([bytes[0], bytes[1]]);
        if version != TICKET_VERSION {
            return Err(BadTicket::Version(version));
        }
        let family = match bytes[2] {
            1 => Family::Unix,
            4 => Family::V4,
            6 => Family::V6,
            other => return Err(BadTicket::Family(other)),
        };
        let peer =
            (bytes[3] & FLAG_CREDENTIALS != 0).then(|| Peer { uid: u32_at(24), gid: u32_at(28), pid: u32_at(32) });
        Ok(Ticket { conn: ConnId(u64_at(8)), listener: u32_at(4), family, accepted_at_ns: u64_at(16), peer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Ticket {
        Ticket {
            conn: ConnId(0x0102_0304_0506_0708),
            listener: 3,
            family: Family::Unix,
            accepted_at_ns: 0x1112_1314_1516_1718,
            peer: Some(Peer { uid: 1000, gid: 100, pid: 4242 }),
        }
    }

    #[test]
    fn the_layout_of_a_ticket_is_these_bytes() {
        let golden: [u8; TICKET_LEN] = [
            1, 0, 1, 1, 3, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 0xe8, 3, 0,
            0, 100, 0, 0, 0, 0x92, 0x10, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(sample().to_bytes(), golden);
        assert_eq!(Ticket::from_bytes(&golden), Ok(sample()));
    }

    #[test]
    fn what_is_not_a_ticket_is_refused() {
        let good = sample().to_bytes();
        assert_eq!(Ticket::from_bytes(&good[..39]), Err(BadTicket::Length(39)));
        let mut other_version = good;
        other_version[0] = 2;
        assert_eq!(Ticket::from_bytes(&other_version), Err(BadTicket::Version(2)));
        let mut other_family = good;
        other_family[2] = 9;
        assert_eq!(Ticket::from_bytes(&other_family), Err(BadTicket::Family(9)));
    }

    proptest! {
        #[test]
        fn every_ticket_comes_back_as_it_was(conn: u64, listener: u32, at: u64, creds: Option<(u32, u32, u32)>, fam in 0..3) {
            let family = [Family::Unix, Family::V4, Family::V6][fam as usize];
            let peer = creds.map(|(uid, gid, pid)| Peer { uid, gid, pid });
            let ticket = Ticket { conn: ConnId(conn), listener, family, accepted_at_ns: at, peer };
            prop_assert_eq!(Ticket::from_bytes(&ticket.to_bytes()), Ok(ticket));
        }
    }
}
