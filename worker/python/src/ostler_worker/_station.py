"""Holds what the threads of one worker share: mailbox, control channel, completions, marks, reserve and stage."""

from __future__ import annotations

import os
import queue
import select
import socket
import struct
import threading
from typing import Callable, Final, Optional

from ._completions import Beats, Completions, Outcome, RingFull
from ._control import Control
from ._listeners import Listeners
from ._marks import MarkBook
from ._place import WorkerName
from ._report import say
from ._reserve import Reserve
from ._stage import Stage, StageCell
from ._title import Doing, show
from ._wire import DRAINING, READY, Welcome

BEATS_PER_HEARTBEAT: Final = 4
"""How often a worker beats in the time after which its silence is noticed: one beat may be late, and another one."""
BEAT_EVERY_MAX_S: Final = 86_400.0
"""Longest wait for a beat that the kernel is asked for."""
BEAT_EVERY_MIN_S: Final = 0.001
"""So that a beat is never a spin."""


class Station:
    """A worker's post: one per process."""

    def __init__(
        self,
        name: WorkerName,
        mailbox: socket.socket,
        control: Control,
        completions: Completions,
        reserve: Reserve,
        welcome: Welcome,
        listeners: Optional[Listeners] = None,
    ) -> None:
        self.name: Final = name
        self.concurrency: Final = welcome.concurrency
        self.drain_timeout_s: Final = welcome.drain_timeout_ms / 1000
        self.beat_every_s: Final = _beat_every_s(welcome.heartbeat_ms)
        # Its description is shared with the supervisor: it stays blocking.
        self.mailbox: Final = mailbox
        self.listeners: Final = listeners
        """Where connections come from in a pool whose workers accept for themselves: then the mailbox only ends."""
        self.control: Final = control
        self.completions: Final = completions
        self.marks: Final = MarkBook(completions) if welcome.marks_are_read else None
        self.reserve: Final = reserve
        self.stage: Final = StageCell()
        self.turn: Final = threading.Lock()
        """Whose turn it is to claim."""
        self.poke: Callable[[], None] = _nobody
        """Wakes the watching thread, for what is left to it."""
        self._left_behind: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._untold = threading.Lock()
        self._is_ours = True
        os.register_at_fork(after_in_child=self._disown)

    def tell_ready(self) -> None:
        """Tells the supervisor, once, that connections may come."""
        if not self._untold.acquire(blocking=False):
            return
        self.completions.offer(self.concurrency)
        # Before the word, so that whoever was told finds it.
        if self.stage.get() is Stage.SERVING:
            show(self.name, Doing.READY)
        self.control.send(READY)

    def wake_to_beat(self) -> None:
        """A wait at the mailbox ends at the next beat. The supervisor shares the option, but never waits there."""
        if self.beat_every_s is not None:
            seconds, rest = divmod(self.beat_every_s, 1)
            timeval = struct.pack("@ll", int(seconds), int(rest * 1_000_000))
            self.mailbox.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)

    def beat_while_idle(self) -> None:
        """Says that this worker waits for connections with a thread, and beats meanwhile."""
        if self.beat_every_s is not None:
            self.completions.promise(Beats.WHILE_IDLE)

    def advance(self, stage: Stage) -> bool:
        """Goes on to a stage on the way out, and shows that it is on that way. Whether that is news."""
        is_news = self.stage.advance(stage)
        if is_news:
            show(self.name, Doing.DRAINING)
        return is_news

    def leave(self, stage: Stage) -> bool:
        """Claims nothing more, lets the supervisor take back what waits, and wakes whoever sleeps at the mailbox."""
        is_news = self.advance(stage)
        if is_news:
            # First the word, so that a supervisor that listens is not surprised by EPIPE; but a full channel must not keep
            # the claimers from waking.
            was_told = self.control.try_send(DRAINING)
            self.mailbox.shutdown(socket.SHUT_RD)
            if not was_told:
                self.control.send(DRAINING)
        return is_news

    def is_draining(self) -> bool:
        """Whether the worker is on its way out, even if the word has not been read yet."""
        if self.stage.get() is not Stage.SERVING:
            return True
        ended = select.poll()
        ended.register(self.mailbox, select.POLLRDHUP)
        if not ended.poll(0):
            return False
        self.advance(Stage.DRAINING)
        return True

    def report_end(self, conn: int, claimed_at_ns: int, outcome: Outcome) -> None:
        """Gives a connection's credit back to the supervisor. The descriptor is closed by now."""
        if not self._is_ours:
            return  # the parent of this process reports it
        try:
            self.completions.report(conn, claimed_at_ns, outcome)
        except RingFull as problem:
            say(f"cannot report the end of conn=c{conn}: {problem}, so the supervisor has lost count; leaving")
            self.leave(Stage.LEAVING)
        if self.listeners is not None:
            self.listeners.stir()  # a place is free

    def leave_behind(self, end: Callable[[], None]) -> None:
        """Gives the end of a connection that nobody holds any more to the watching thread.

        Who calls is the collector of garbage, from anywhere, even from inside of a lock: so this takes none.
        """
        self._left_behind.put(end)
        self.poke()

    def end_what_was_left_behind(self) -> None:
        """In the watching thread."""
        while True:
            try:
                end = self._left_behind.get_nowait()
            except queue.Empty:
                return
            end()

    def _disown(self) -> None:
        """A process that this one forks is no worker: two that report are one that lies."""
        self._is_ours = False


def _beat_every_s(heartbeat_ms: int) -> Optional[float]:
    if heartbeat_ms == 0:
        return None
    return min(max(heartbeat_ms / 1000 / BEATS_PER_HEARTBEAT, BEAT_EVERY_MIN_S), BEAT_EVERY_MAX_S)


def _nobody() -> None:
    pass
