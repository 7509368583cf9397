"""Reads the ticket that travels with every connection through a mailbox (docs/protocol.md, shared/src/ticket.rs)."""

from __future__ import annotations

import enum
import socket
import struct
from typing import Final, NamedTuple, Optional

TICKET_LEN: Final = 40
TICKET_VERSION: Final = 1

_LAYOUT: Final = struct.Struct("<HBBIQQIIII")
_FLAG_CREDENTIALS: Final = 1


class Family(enum.Enum):
    """The address family of the listener that took a connection."""

    UNIX = 1
    V4 = 4
    V6 = 6

    @property
    def of_socket(self) -> socket.AddressFamily:
        """The same as the socket module calls it."""
        return _FAMILIES[self._value_]


# By number, for each connection: the lookups of enum take a part of the time that the ticket's system call does.
_FAMILIES: Final = {1: socket.AF_UNIX, 4: socket.AF_INET, 6: socket.AF_INET6}
_LISTENERS: Final[dict[int, Family]] = {family.value: family for family in Family}


def family_of(listener: socket.socket) -> Family:
    """The address family of a listener; `OSError` when it is of none that ostler listens on."""
    for number, family in _FAMILIES.items():
        if listener.family == family:
            return _LISTENERS[number]
    raise OSError(f"a listener of the address family {listener.family!s}")


class Peer(NamedTuple):
    """Who connected, as the kernel recorded it at connect time (Unix sockets only, `SO_PEERCRED`)."""

    uid: int
    gid: int
    pid: int
    """0 when it is in another pid namespace."""


class Ticket(NamedTuple):
    """What a worker is told about a connection."""

    conn: int
    """The connection's identity in logs and books, where it is written `c812`."""
    listener: int
    """Which of the pool's listeners took it, in the order of the configuration, from 0."""
    family: Family
    accepted_at_ns: int
    """When the supervisor accepted it, as `time.monotonic_ns` counts."""
    peer: Optional[Peer]
    """`None` over TCP."""


class BadTicket(ValueError):
    """Bytes that are not a ticket of this layout."""


def read_ticket(message: bytes) -> Ticket:
    """Reads a ticket that came out of a mailbox, or raises `BadTicket`."""
    if len(message) != TICKET_LEN:
        raise BadTicket(f"a ticket has {TICKET_LEN} bytes, this has {len(message)}")
    version, family, flags, listener, conn, accepted_at_ns, uid, gid, pid, _zero = _LAYOUT.unpack(message)
    if version != TICKET_VERSION:
        raise BadTicket(f"a ticket of layout {version} is not understood (this library reads {TICKET_VERSION})")
    of_listener = _LISTENERS.get(family)
    if of_listener is None:
        raise BadTicket(f"a ticket names the unknown address family {family}")
    peer = Peer(uid, gid, pid) if flags & _FLAG_CREDENTIALS else None
    return Ticket(conn, listener, of_listener, accepted_at_ns, peer)
