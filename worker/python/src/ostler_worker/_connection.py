"""Gives a handler one claimed connection and reports its end.

The order at the end is a promise: first the descriptor is closed, then the end is reported, so whoever reads the report finds
the connection gone.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Callable, Final, Optional, Type

from ._completions import Outcome
from ._marks import Marker
from ._station import Station
from ._ticket import Peer, Ticket

GONE: Final = (BrokenPipeError, ConnectionResetError, ConnectionAbortedError, EOFError)
"""What only says that the client has gone, which is its right. Streams of asyncio raise an `EOFError`."""


def outcome_of(problem: Optional[BaseException]) -> Outcome:
    """How a connection ended whose handler ended so."""
    return Outcome.DONE if problem is None or isinstance(problem, GONE) else Outcome.PANICKED


class Claimed:
    """What a connection is, whoever serves it."""

    def __init__(self, stream: socket.socket, ticket: Ticket, claimed_at_ns: int, station: Station) -> None:
        self._open = threading.Lock()  # whoever gets it ends the connection
        self.socket: Final = stream
        """The connection. It belongs to this object: close this one, not the socket."""
        self.ticket: Final = ticket
        """What the supervisor knows about it: id, listener, family, accept time and peer."""
        self.claimed_at_ns: Final = claimed_at_ns
        """When it was claimed, as `time.monotonic_ns` counts."""
        self._station: Final = station
        self._mark = station.marks.begin(ticket.conn) if station.marks is not None else None
        self._afterwards: Optional[Callable[[], None]] = None

    @property
    def peer(self) -> Optional[Peer]:
        """Who connected; `None` over TCP."""
        return self.ticket.peer

    @property
    def waited_s(self) -> float:
        """How long the connection waited between being accepted and being claimed, in seconds."""
        return max(self.claimed_at_ns - self.ticket.accepted_at_ns, 0) / 1e9

    @property
    def is_draining(self) -> bool:
        """Whether the worker has been asked to leave. Then a server with keep-alive should answer what was asked, say that it
        closes, and not wait for another request."""
        return self._station.is_draining()

    @property
    def pressure(self) -> int:
        """How full the pool's waiting line is, in thousandths of its limit. One read of shared memory."""
        return self._station.completions.pressure()

    def mark_by_hand(self) -> Marker:
        """From now on the connection counts as busy only while the handler says so, beginning idle. Without it the whole
        connection is one request to `watchdog.request`, from its handoff to its end."""
        return Marker(self._mark)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} c{self.ticket.conn} on {self.socket!r}>"

    def __del__(self) -> None:
        # Nobody holds it any more and nobody has closed it, or it was not even made.
        is_open = getattr(self, "_open", None)
        if is_open is not None and hasattr(self, "_mark") and is_open.acquire(blocking=False):
            # What is needed, without this object.
            self._station.leave_behind(_Ending(self, Outcome.DONE))

    def _take_end(self) -> bool:
        """Whether the caller is the one who ends it."""
        return self._open.acquire(blocking=False)


class _Ending:
    """Closes a connection and reports its end."""

    def __init__(self, claimed: Claimed, outcome: Outcome) -> None:
        self._stream = claimed.socket
        self._conn = claimed.ticket.conn
        self._claimed_at_ns = claimed.claimed_at_ns
        self._station = claimed._station
        self._mark = claimed._mark
        self._afterwards = claimed._afterwards
        self._outcome = outcome

    def __call__(self) -> None:
        station = self._station
        fd = self._stream.detach()
        if fd != -1:
            station.reserve.close(fd)
        else:
            # Closed by somebody who knows nothing of the reserve.
            station.reserve.refill()
            station.reserve.ring()
        if self._mark is not None:
            self._mark.end()  # its place is free before another connection can need it
        station.report_end(self._conn, self._claimed_at_ns, self._outcome)
        if self._afterwards is not None:
            self._afterwards()


class Connection(Claimed):
    """A connection that this worker claimed. Closing it, or leaving its `with` block, frees the worker's place.

    Leaving the block by an exception is the outcome "panicked", unless that only says that the client has gone; the exception
    goes on. A connection that is never closed holds its place until nobody refers to it any more.
    """

    def close(self, outcome: Outcome = Outcome.DONE) -> None:
        """Closes the socket, then reports the end. Again it does nothing."""
        if self._take_end():
            _Ending(self, outcome)()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        _kind: Optional[Type[BaseException]],
        problem: Optional[BaseException],
        _trace: Optional[TracebackType],
    ) -> None:
        self.close(outcome_of(problem))
