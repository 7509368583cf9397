"""Reports the ends of connections and what else the supervisor reads: ring, gauges, doorbell (shared/src/region.rs, ring.rs).

    gauges (supervisor writes)              region (this worker writes)
    0   layout, capacity of the ring        0   heartbeat, capacity, held, beats, keeping
    16  consumed, waiting                   5   accepted, unrecorded, stacks
    32  gate, pressure                      16  published
                                            32… completion records, then marks

The gauges are the supervisor's word and are checked once. Never waits.
"""

from __future__ import annotations

import enum
import os
import sys
import threading
import time
from typing import Final

from ._memory import Fence, Words

LAYOUT: Final = 0x6F73_746C_6572_0001
"""Says "ostler" and the version of the layout."""
CAPACITY_MAX: Final = 1 << 24
"""Most records of a ring."""
RECORD_WORDS: Final = 4
MARK_WORDS: Final = 2
GAUGES_WORDS: Final = 48

# In the gauges.
_LAYOUT: Final = 0
_RECORDS_CAPACITY: Final = 1
_CONSUMED: Final = 16
_WAITING: Final = 17
_GATE: Final = 32
_PRESSURE: Final = 33

# In the region.
_HEARTBEAT: Final = 0
_OFFERED: Final = 1
_HELD: Final = 2
_BEATS: Final = 3
_KEEPING: Final = 4
_ACCEPTED: Final = 5
_UNRECORDED: Final = 6
_STACKS: Final = 7
_PUBLISHED: Final = 16
_RECORDS: Final = 32

_ONE_RING: Final = (1).to_bytes(8, sys.byteorder)


class Outcome(enum.IntEnum):
    """How a claimed connection ended."""

    DONE = 0
    PANICKED = 1
    """The handler raised an exception."""
    TRUNCATED = 2
    """The ticket arrived, its descriptor did not."""


class Beats(enum.IntEnum):
    """When a worker promises to beat."""

    NEVER = 0
    WHILE_IDLE = 1
    ALWAYS = 2


class BadRegion(ValueError):
    """Two memories that are not what a supervisor hands out."""


class RingFull(Exception):
    """More ends than connections were handed out, which no supervisor does."""


class WhenFull(enum.Enum):
    """What becomes of an end for which the ring has no room."""

    IMPOSSIBLE = "the supervisor hands out no more than it has room for"
    COUNTED = "who accepts for himself counts it, and does not wait until the supervisor has read"


class Completions:
    """A worker's end of its shared memory. Usable from several threads."""

    def __init__(
        self, region: Words, gauges: Words, doorbell: int, when_full: WhenFull = WhenFull.IMPOSSIBLE
    ) -> None:
        if len(gauges) < GAUGES_WORDS:
            raise BadRegion(f"{len(gauges)} words, which is too short")
        if gauges[_LAYOUT] != LAYOUT:
            raise BadRegion(f"layout {gauges[_LAYOUT]:#x}, this library reads {LAYOUT:#x}")
        capacity = gauges[_RECORDS_CAPACITY]
        fits = _RECORDS + capacity * (RECORD_WORDS + MARK_WORDS) <= len(region)
        if not 1 <= capacity <= CAPACITY_MAX or capacity & (capacity - 1) or not fits:
            raise BadRegion(f"a ring of {capacity} records, which is no capacity or does not fit")
        self.places: Final = capacity
        """How many connections can be marked."""
        self._region = region
        self._gauges = gauges
        self._doorbell = doorbell
        self._when_full = when_full
        self._fence = Fence()
        self._lock = threading.Lock()  # one thread at a time reports
        self._promised = Beats.NEVER
        self._written = 0
        self._held = 0
        self._accepted = 0
        self._unrecorded = 0

    def offer(self, connections: int) -> None:
        """Says how many connections this worker would hold."""
        self._region[_OFFERED] = connections
        self.beat()

    def beat(self) -> None:
        """Says that a serving thread is alive."""
        self._region[_HEARTBEAT] = time.monotonic_ns()

    def promise(self, beats: Beats) -> None:
        """Says when this worker beats, beginning now."""
        self.beat()
        if beats is not self._promised:
            self._fence()  # who reads the promise reads a beat that is no older
            self._region[_BEATS] = self._promised = beats

    def pressure(self) -> int:
        """How full the waiting line is, in thousandths of its limit."""
        return self._gauges[_PRESSURE]

    def may_accept(self) -> bool:
        """Whether the gate of a worker that accepts for itself is open."""
        return self._gauges[_GATE] != 0

    def note_accept(self) -> int:
        """Counts a connection that this worker accepted; how many those are, ever. One thread at a time, before its claim."""
        self._accepted += 1
        self._region[_ACCEPTED] = self._accepted
        return self._accepted

    def unfinished(self) -> int:
        """How many of the accepted connections are not over: no fewer, and for a moment more."""
        return self._accepted - self._written - self._unrecorded

    def note_claim(self, now_ns: int) -> None:
        """Notes that a connection was claimed."""
        with self._lock:
            self._held += 1
            self._region[_HELD] = self._held
        self._region[_HEARTBEAT] = now_ns

    def report(self, conn: int, claimed_at_ns: int, outcome: Outcome) -> None:
        """Gives a claimed connection's credit back to the supervisor, or raises `RingFull`."""
        region, done_at_ns = self._region, time.monotonic_ns()
        with self._lock:
            self._held = max(self._held - 1, 0)
            region[_HELD] = self._held
            region[_HEARTBEAT] = done_at_ns
            if self._written - self._gauges[_CONSUMED] >= self.places:
                self._count_unrecorded()
                return
            at = _RECORDS + RECORD_WORDS * (self._written & self.places - 1)
            region[at] = conn
            region[at + 1] = claimed_at_ns
            region[at + 2] = done_at_ns
            region[at + 3] = outcome
            self._written += 1
            self._fence()  # who reads the count reads the record
            region[_PUBLISHED] = self._written
            self._fence()  # a supervisor that begins to wait sees the count, or is seen to wait
        if self._gauges[_WAITING] == 0:
            return
        # A bell that is full of rings has been heard or will be.
        try:
            os.write(self._doorbell, _ONE_RING)
        except OSError:
            pass

    def _count_unrecorded(self) -> None:
        """Instead of a record. Nobody is rung for it: a ring that is full has rung."""
        if self._when_full is WhenFull.IMPOSSIBLE:
            raise RingFull("the ring is full")
        self._unrecorded += 1
        self._fence()  # who reads this count reads that of what was accepted
        self._region[_UNRECORDED] = self._unrecorded

    def print_stacks_at(self, signal: int) -> None:
        """Says at which signal this worker prints what it is doing."""
        self._region[_STACKS] = signal

    def keep_marks(self) -> None:
        """Says that this worker keeps marks. Before the first one."""
        self._region[_KEEPING] = 1

    def occupy(self, place: int, conn: int, sign: int) -> None:
        """Gives a place to a connection. One thread at a time for each place, here and below."""
        self._fence()  # who reads this id sees that the one before has left
        self._region[self._mark_at(place)] = conn
        self.mark(place, sign)

    def mark(self, place: int, sign: int) -> None:
        """Says what the connection in a place does."""
        self._fence()  # who reads this sign finds its connection's id behind it
        self._region[self._mark_at(place) + 1] = sign

    def _mark_at(self, place: int) -> int:
        assert 0 <= place < self.places, f"place {place} of {self.places}"
        return _RECORDS + RECORD_WORDS * self.places + MARK_WORDS * place
