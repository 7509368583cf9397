"""Accepts connections where the pool's listeners are given to its workers (`handoff = "listen"`).

    place free, gate open? ── no ──► rest, look again                      (at least every 250 ms, both)
        │ yes
        ▼
    wait ── the mailbox has ended, or somebody may be there ──► accept ── count it ──► a connection
                                                                  └── nobody ──► drained, if it had ended before

The supervisor closes the gate before it ends the mailbox. One that has ended behind an open gate is a dead supervisor's.
How many it may hold nobody else knows here, so that is looked at too: what was accepted and is not over has a place.
"""

from __future__ import annotations

import os
import time
from typing import Final, Optional, Union

from ._claim import BLOCK, Claims, Look, Received, Word
from ._listeners import GATE_EVERY_S, Accepted, Listeners, Refusal
from ._stage import Stage
from ._station import Station
from ._ticket import Ticket

GIVE_WAY_AFTER_NS: Final = 500_000
"""How long a worker runs until it lets others run between two connections. Less than a time slice of the kernel, at whose end it
would be stopped in the middle of one."""


class Accepts(Claims):
    """Who accepts for a worker."""

    look_every_s: Optional[float] = GATE_EVERY_S

    def __init__(self, station: Station, listeners: Listeners) -> None:
        super().__init__(station)
        self._listeners = listeners
        self._completions = station.completions
        self._wait_s = min(station.beat_every_s or GATE_EVERY_S, GATE_EVERY_S)
        self._running_since_ns = 0
        self._has_run_long = False
        station.stage.when_left_serving(listeners.stir)

    def fileno(self) -> int:
        return self._listeners.fileno()

    def _claim_once(self, wait: int) -> Look:
        look = super()._claim_once(wait)
        if look is Word.END:
            self._listeners.close()
        return look

    def _look(self, wait: int) -> Look:
        stage = self._station.stage.get()
        is_open = stage is Stage.ORPHANED or self._completions.may_accept()
        if not is_open:
            # Who waits in the kernel's queue is everybody's.
            return Word.END if self._station.is_draining() else self._rest(wait)
        unfinished = self._completions.unfinished()
        if unfinished >= self._station.concurrency:
            return self._rest(wait)
        if self._has_run_long and unfinished == 0:
            self._give_way()
        if wait == BLOCK and stage is Stage.SERVING:
            self._listeners.wait(self._wait_s)
            if self._station.stage.get() is not stage or not self._completions.may_accept():
                return Word.CLOSED  # while it waited: another look tells what that means
        accepted = self._accept()
        if isinstance(accepted, Accepted):
            return self._counted(accepted)
        if accepted is Refusal.NO_DESCRIPTOR:
            return Word.STARVED
        if stage is not Stage.SERVING:
            return Word.END
        # The mailbox's end comes before the word that says the same, and what waits at it is not woken again.
        if not self._station.is_draining():
            return Word.NOTHING
        # Behind an open gate the supervisor is gone, and whoever came since accept(2) said that nobody waits has nobody else.
        leaves = self._station.stage.get() not in (Stage.DRAINING, Stage.ORPHANED)
        return Word.END if leaves else self._look(wait)

    def _give_way(self) -> None:
        """Lets others run, now that nobody waits for what this worker holds. Otherwise the scheduler picks the moment."""
        os.sched_yield()
        self._running_since_ns = time.monotonic_ns()
        self._has_run_long = False

    def _rest(self, wait: int) -> Word:
        if wait == BLOCK:
            self._listeners.rest(self._wait_s)
        return Word.CLOSED

    def _accept(self) -> Union[Accepted, Refusal]:
        first = self._listeners.accept()
        if first is not Refusal.NO_DESCRIPTOR:
            return first
        self._station.reserve.lend()
        try:
            return self._listeners.accept()
        finally:
            self._station.reserve.take_back()

    def _counted(self, accepted: Accepted) -> Received:
        """Counts before anybody can say that it is over. Who is killed in between has lost one that nobody counts."""
        conn = self._completions.note_accept()
        self._has_run_long = accepted.at_ns - self._running_since_ns > GIVE_WAY_AFTER_NS
        return Received(
            accepted.fd, Ticket(conn, accepted.listener, accepted.family, accepted.at_ns, accepted.peer)
        )
