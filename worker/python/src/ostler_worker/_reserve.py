"""Keeps descriptors in reserve, so that a worker at its limit can still receive a connection (worker/src/reserve.rs).

A process without a free descriptor receives a connection's ticket and the kernel drops the connection. So the library keeps two
places of the descriptor table for itself: one to look at a message, one to take it (see _claim.py). A connection that ends
gives its place back in one step (dup3 closes it and keeps the number), so that a handler which opens files until nothing is left
can't get it in between.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import resource
import threading
from typing import Final

RESERVE: Final = 2
"""How many descriptors are kept: one to look, one to take."""
LOW_LIMIT: Final = 1024
"""Below this soft limit descriptors count as scarce from the start. The usual one of a shell."""
_ABOVE_STANDARD: Final = 3


class Room(enum.Enum):
    """Whether there is a place for one more descriptor."""

    PLENTY = "the process is not known to be near its limit"
    LENT = "one place, free for the moment"
    NONE = "not one"


class Reserve:
    """Places in the descriptor table that belong to the library."""

    def __init__(self) -> None:
        """Opens the reserve; `OSError` when not a single descriptor can be kept."""
        self._null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._places = [self._duplicate()]
        self._is_lent = False
        self._is_scarce = resource.getrlimit(resource.RLIMIT_NOFILE)[0] < LOW_LIMIT
        self._bell = threading.Event()
        self._is_awaited = False
        """Whether anybody has ever waited for the bell. One that is missed for the sake of the first costs him his whole wait."""
        self.refill()

    def lend(self) -> None:
        """Frees every place for a claim that follows at once. `take_back` ends the loan."""
        with self._lock:
            self._empty()

    def lend_another(self) -> Room:
        """Lends a place for one more descriptor, if descriptors may be scarce."""
        if not self._is_scarce:
            return Room.PLENTY
        with self._lock:
            self._fill()
            room = Room.LENT if self._places else Room.NONE
            self._empty()
        return room

    def take_back(self) -> None:
        """Ends a loan, and fills the reserve as far as there are free descriptors."""
        with self._lock:
            self._is_lent = False
            self._fill()

    def refill(self) -> None:
        """Fills the reserve as far as there are free descriptors, unless they are free for a claim."""
        with self._lock:
            if not self._is_lent:
                self._fill()

    def close(self, connection: int) -> None:
        """Closes a connection that has ended; its place goes to the reserve if that lacks one."""
        self.put_back(connection)
        self.ring()

    def put_back(self, connection: int) -> None:
        """Closes what a claim had in its hands and can't keep. Nobody is woken: nothing is free that was not before."""
        with self._lock:
            if len(self._places) < RESERVE:
                with contextlib.suppress(OSError):
                    self._places.append(os.dup2(self._null, connection, inheritable=False))
                    return
        os.close(connection)

    def ring(self) -> None:
        """Says that a descriptor may have become free."""
        if self._is_awaited:
            self._bell.set()

    def wait(self, longest_s: float) -> None:
        """Waits until a descriptor may have become free."""
        self._is_awaited = True
        self._bell.wait(longest_s)
        self._bell.clear()

    def silence_output(self) -> None:
        """Leads standard output and error to nowhere, so that printing can't fail."""
        for fd in (1, 2):
            with contextlib.suppress(OSError):
                os.dup2(self._null, fd)

    def _empty(self) -> None:
        self._is_lent = True
        for place in self._places:
            os.close(place)
        self._places.clear()

    def _fill(self) -> None:
        while len(self._places) < RESERVE:
            try:
                self._places.append(self._duplicate())
            except OSError:
                self._is_scarce = True
                return

    def _duplicate(self) -> int:
        return fcntl.fcntl(self._null, fcntl.F_DUPFD_CLOEXEC, _ABOVE_STANDARD)
