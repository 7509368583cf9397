"""Keeps where a worker stands between serving and gone.

    SERVING ──told to drain──► DRAINING ──TERM──► LEAVING
       │                          │                  │
       └── TERM ► LEAVING, no descriptor ► STARVED ──┴── supervisor gone ► ORPHANED (from anywhere)

Stages only advance, so a reader that sees an old one is late by a moment and never wrong for long.
"""

from __future__ import annotations

import enum
import threading
from typing import Callable


class Stage(enum.Enum):
    """How a worker treats its mailbox."""

    SERVING = "claim"
    DRAINING = "claim to the mailbox's end: the supervisor sends nothing more"
    LEAVING = "claim nothing more; the supervisor takes back what waits"
    STARVED = "as LEAVING, because this process has no descriptor left to receive with"
    ORPHANED = "claim to the mailbox's end: nobody is there to take anything back"


_FROM = {
    Stage.SERVING: frozenset[Stage](),
    Stage.DRAINING: frozenset({Stage.SERVING}),
    Stage.LEAVING: frozenset({Stage.SERVING, Stage.DRAINING}),
    Stage.STARVED: frozenset({Stage.SERVING, Stage.DRAINING}),
    Stage.ORPHANED: frozenset(Stage) - {Stage.ORPHANED},
}


class StageCell:
    """The current stage, shared by all threads."""

    def __init__(self) -> None:
        self._stage = Stage.SERVING
        self._lock = threading.Lock()
        self._left_serving: list[Callable[[], None]] = []

    def get(self) -> Stage:
        return self._stage

    def advance(self, to: Stage) -> bool:
        """Whether it changed the stage: then the caller carries out what follows."""
        with self._lock:
            if self._stage not in _FROM[to]:
                return False
            self._stage = to
            told, self._left_serving = self._left_serving, []
        for tell in told:
            tell()
        return True

    def when_left_serving(self, tell: Callable[[], None]) -> None:
        """Calls `tell` once, in whichever thread, when the worker does not just serve any more; at once if it is so."""
        with self._lock:
            if self._stage is Stage.SERVING:
                self._left_serving.append(tell)
                return
        tell()
