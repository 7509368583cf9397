"""Tells the supervisor which connections are busy, if anybody reads it (`watchdog.request`, `watchdog.slow`).

What a program does with a socket is not seen from here, so a connection is not marked, which makes all of it one request,
until its handler marks it by hand: from then on it is busy while the handler says so, and idle otherwise.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import ContextManager, Final, Optional

from ._completions import Completions

_FREE: Final = 0
_IDLE: Final = 1
_NOT_MARKED: Final = 2
"""A time as small as these would mean something else; the clock does not show such a time when a worker runs."""


class MarkBook:
    """The places in which a worker marks its connections."""

    def __init__(self, completions: Completions) -> None:
        completions.keep_marks()
        self._completions = completions
        self._lock = threading.Lock()
        self._again: list[int] = []
        self._fresh = 0

    def begin(self, conn: int) -> Optional[Mark]:
        """A claimed connection's mark. `None` when there are more connections than places, which no supervisor hands out."""
        with self._lock:
            if self._again:
                place = self._again.pop()
            elif self._fresh < self._completions.places:
                place = self._fresh
                self._fresh += 1
            else:
                return None
        self._completions.occupy(place, conn, _NOT_MARKED)
        return Mark(self, place)

    def _say(self, place: int, sign: int) -> None:
        self._completions.mark(place, sign)

    def _give_back(self, place: int) -> None:
        self._completions.mark(place, _FREE)
        with self._lock:
            self._again.append(place)


class Mark:
    """One connection's mark."""

    def __init__(self, book: MarkBook, place: int) -> None:
        self._book = book
        self._place = place
        self._lock = threading.Lock()  # one thread at a time writes an entry
        self._requests = 0
        self._is_over = False

    def hand_to_handler(self) -> None:
        with self._lock:
            if not self._is_over and self._requests == 0:
                self._book._say(self._place, _IDLE)

    def begin_request(self) -> None:
        with self._lock:
            self._requests += 1
            if self._requests == 1 and not self._is_over:
                self._book._say(self._place, time.monotonic_ns())

    def end_request(self) -> None:
        """Those that remain get their time anew: which of them is the oldest is not kept."""
        with self._lock:
            self._requests -= 1
            if not self._is_over:
                self._book._say(self._place, time.monotonic_ns() if self._requests else _IDLE)

    def end(self) -> None:
        """Gives the place back, before the connection's end is reported."""
        with self._lock:
            self._is_over = True
            self._book._give_back(self._place)


class Marker:
    """Marks a connection's requests where only the handler knows when one begins and ends."""

    def __init__(self, mark: Optional[Mark]) -> None:
        self._mark = mark
        if mark is not None:
            mark.hand_to_handler()

    def busy(self) -> ContextManager[None]:
        """A request begins with the block and ends with it. Of several at a time each end gives the others their time anew."""
        return _UNMARKED if self._mark is None else _Busy(self._mark)


class _Busy:
    """A request. (A generator would do as well, in several times the time.)"""

    def __init__(self, mark: Mark) -> None:
        self._mark = mark

    def __enter__(self) -> None:
        self._mark.begin_request()

    def __exit__(self, *_end: object) -> None:
        self._mark.end_request()


_UNMARKED: Final = contextlib.nullcontext()
