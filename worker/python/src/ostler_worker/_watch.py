"""Listens to the supervisor and to TERM while the other threads serve.

One thread. It answers pings, notes a drain, turns TERM into leaving, ends what was left behind, and notices when the supervisor
is gone. From then on it keeps the drain deadline, at which the process ends whatever the handlers do.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from typing import Final, Optional

from ._control import Silence
from ._stage import Stage
from ._station import Station
from ._wire import Drain, Ping, pong

EXIT_UNFINISHED: Final = 75
"""The exit code of a worker that outlived its supervisor and had not finished at the drain deadline: EX_TEMPFAIL."""
WAIT_MAX_S: Final = 86_400.0
"""Longest single wait for a deadline."""

_SOMETHING_LEFT_BEHIND: Final = b"\0"


def start(station: Station, told: int, tell: int) -> None:
    """Starts the thread, which lives as long as the process. It listens to one end of a pipe and `tell` is the other."""

    def poke() -> None:
        with contextlib.suppress(OSError):  # full: it is on its way to look
            os.write(tell, _SOMETHING_LEFT_BEHIND)

    station.poke = poke
    threading.Thread(target=_Watch(station, told).run, name="ostler-watch", daemon=True).start()


class _Watch:
    def __init__(self, station: Station, told: int) -> None:
        self._station = station
        self._told = told
        self._deadline: Optional[float] = None
        self._unanswered: Optional[int] = None
        """The nonce of the last ping, while the channel has no room for its answer."""

    def run(self) -> None:
        while True:
            self._wait()
            self._look_at_what_was_told()
            if self._deadline is None:
                self._listen()
            elif time.monotonic() >= self._deadline:
                # Not sys.exit: what it waits for is what the hung threads hold.
                os._exit(EXIT_UNFINISHED)

    def _wait(self) -> None:
        events = select.poll()
        events.register(self._told, select.POLLIN)
        wait_ms: Optional[float] = None
        if self._deadline is None:
            answering = select.POLLOUT if self._unanswered is not None else 0
            events.register(self._station.control, select.POLLIN | answering)
        else:
            # Rounded up, so that the deadline has passed when poll returns.
            wait_ms = min(max(self._deadline - time.monotonic(), 0.0), WAIT_MAX_S) * 1000 + 1
        events.poll(wait_ms)

    def _look_at_what_was_told(self) -> None:
        words = b""
        with contextlib.suppress(BlockingIOError):
            words = os.read(self._told, 4096)
        if signal.SIGTERM in words:
            self._station.leave(Stage.LEAVING)
        self._station.end_what_was_left_behind()

    def _listen(self) -> None:
        self._answer()
        heard = self._station.control.hear()
        if isinstance(heard, Ping):
            self._unanswered = heard.nonce
            self._answer()
        elif isinstance(heard, Drain):
            self._station.advance(Stage.DRAINING)
        elif heard is Silence.GONE:
            self._orphan()

    def _answer(self) -> None:
        """A supervisor that asks more often than it listens gets an answer to its last question only."""
        if self._unanswered is not None and self._station.control.try_send(pong(self._unanswered)):
            self._unanswered = None

    def _orphan(self) -> None:
        self._station.reserve.silence_output()  # first, since a print into a broken pipe fails
        self._station.advance(Stage.ORPHANED)
        self._deadline = time.monotonic() + self._station.drain_timeout_s
