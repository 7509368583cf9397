"""Keeps the listeners of a worker that accepts for itself (`handoff = "listen"`, worker/src/listeners.rs).

All workers of the pool wait at the same sockets. They wait in an epoll of their own, exclusively, so that a client wakes one of
them, and beside the mailbox, in which nothing comes but its end. The listeners don't block: which of them has a client, and
whether another worker was faster, shows when accept(2) is called. That is a flag that all holders of a listener share.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import select
import socket
import struct
import threading
import time
from typing import Final, NamedTuple, Optional, Sequence, Union

from ._ticket import Family, Peer, family_of

GATE_EVERY_S: Final = 0.25
"""The gate is read at least so often."""

_CREDENTIALS: Final = struct.Struct("@iII")
_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_OUR_FAULT: Final = frozenset({errno.EBADF, errno.ENOTSOCK, errno.EFAULT})


class Accepted(NamedTuple):
    """A connection, and where and when it came."""

    fd: int
    listener: int
    """Its number in the order of the configuration, from 0."""
    family: Family
    at_ns: int
    peer: Optional[Peer]


class Refusal(enum.Enum):
    """What accept(2) says where it does not give a connection."""

    NOBODY = "nobody waits, or another worker was faster, or it is the one connection that failed"
    NO_DESCRIPTOR = "somebody may wait, and there is no descriptor or memory for him"


class Listeners:
    """The listeners of a worker. One thread at a time waits and accepts."""

    def __init__(self, sockets: Sequence[socket.socket], mailbox: socket.socket) -> None:
        """Begins to wait at `sockets` and at the end of `mailbox`; `OSError` when the kernel has no room."""
        self._sockets = sockets
        self._families: Final = [family_of(listener) for listener in sockets]
        self._set: Final = select.epoll()  # close-on-exec, as all that Python opens
        self._ends: Final = select.poll()
        self._set.register(mailbox, select.EPOLLIN | select.EPOLLRDHUP)
        for listener in sockets:
            listener.setblocking(False)
            self._set.register(listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)
            self._ends.register(listener, select.POLLRDHUP)
        self._first = 0
        self._stirred: Final = threading.Event()

    def close(self) -> None:
        """Lets go of the listeners. Of a worker without a supervisor that still serves somebody, others would wait at them in vain,
        and the next supervisor could not have the address."""
        sockets, self._sockets = self._sockets, ()
        for listener in sockets:
            with contextlib.suppress(KeyError, OSError):  # forgotten before
                self._ends.unregister(listener)
                self._set.unregister(listener)  # other workers have it too, so it would stay there
            listener.close()

    def fileno(self) -> int:
        """Readable when there may be something to accept, or the mailbox has ended."""
        return self._set.fileno()

    def wait(self, longest_s: float) -> None:
        """Waits for a client, or for the mailbox's end. Accept behind it in any case: who was woken for a client alone may have
        died before he took it."""
        self._set.poll(longest_s, 1)

    def rest(self, longest_s: float) -> None:
        """Waits until a place may have become free, or the worker's stage may be another one."""
        self._stirred.wait(longest_s)
        self._stirred.clear()

    def stir(self) -> None:
        """Ends the rest of whoever rests, or else the next one. From any thread."""
        if not self._stirred.is_set():
            self._stirred.set()

    def accept(self) -> Union[Accepted, Refusal]:
        """Accepts one connection if somebody waits. Raises an `OSError` where that can't be hoped for any more."""
        count = len(self._sockets)
        for turn in range(count):
            # Each of them is the first in its turn.
            number = (self._first + turn) % count
            accepted = self._accept_at(number)
            if isinstance(accepted, Accepted):
                self._first = number + 1
                return accepted
            if accepted is Refusal.NO_DESCRIPTOR:
                return accepted
        self._forget_those_shut_down()
        return Refusal.NOBODY

    def _accept_at(self, number: int) -> Union[Accepted, Refusal]:
        listener = self._sockets[number]
        try:
            stream, _address = listener.accept()
        except BlockingIOError:
            return Refusal.NOBODY
        except OSError as problem:
            if problem.errno in _OUR_FAULT:
                raise
            return Refusal.NO_DESCRIPTOR if problem.errno in _SHORTAGES else Refusal.NOBODY
        at_ns = time.monotonic_ns()
        family = self._families[number]
        peer = _peer(stream) if family is Family.UNIX else None
        return Accepted(stream.detach(), number, family, at_ns, peer)

    def _forget_those_shut_down(self) -> None:
        """What somebody has shut down is readable for ever, while accept(2) says EINVAL at TCP and at a path that nobody waits."""
        for fd, _events in self._ends.poll(0):
            self._ends.unregister(fd)
            self._set.unregister(fd)


def _peer(stream: socket.socket) -> Optional[Peer]:
    """Who connected, as the kernel recorded it."""
    try:
        pid, uid, gid = _CREDENTIALS.unpack(
            stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
    except OSError:
        return None
    return Peer(uid, gid, pid)
