"""Plays the supervisor inside of the test's own process: makes the channels and the memory, hands connections out, takes them back."""

from __future__ import annotations

import array
import mmap
import os
import socket
import struct
import time
from typing import NamedTuple, Sequence

from ostler_worker._completions import LAYOUT, Completions, WhenFull
from ostler_worker._control import Control
from ostler_worker._listeners import Listeners
from ostler_worker._memory import Words
from ostler_worker._place import WorkerName
from ostler_worker._reserve import Reserve
from ostler_worker._station import Station
from ostler_worker._wire import Welcome
from ostler_worker._worker import Worker

RECORDS = 8
SLOT_WORDS = 4
FIRST_RECORD = 32
FIRST_MARK = FIRST_RECORD + RECORDS * SLOT_WORDS


def words(count: int) -> Words:
    """New memory, all zero."""
    return memoryview(mmap.mmap(-1, count * 8)).cast("Q")


def memories() -> tuple[Words, Words]:
    """A region and its gauges, as a supervisor begins them."""
    region, gauges = words(FIRST_MARK + 2 * RECORDS), words(48)
    gauges[0], gauges[1] = LAYOUT, RECORDS
    return region, gauges


class Ended(NamedTuple):
    """A record of the ring."""

    conn: int
    claimed_at_ns: int
    done_at_ns: int
    outcome: int


class Fake:
    """A supervisor of one worker, which has no signals and no watching thread. With `listeners` it accepts for itself."""

    def __init__(
        self,
        concurrency: int = 1,
        heartbeat_ms: int = 0,
        marks_are_read: bool = False,
        listeners: Sequence[socket.socket] = (),
    ) -> None:
        self.mailbox, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.kept = theirs.dup()
        """The duplicate of the worker's end, for recalls."""
        self.control, their_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.region, self.gauges = memories()
        self.doorbell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        welcome = Welcome(1, concurrency, 30_000, heartbeat_ms, marks_are_read)
        when_full = WhenFull.COUNTED if listeners else WhenFull.IMPOSSIBLE
        completions = Completions(self.region, self.gauges, self.doorbell, when_full)
        name = WorkerName("web", 3, 7)
        shared = Listeners(listeners, theirs) if listeners else None
        self.station = Station(name, theirs, Control(their_control), completions, Reserve(), welcome, shared)
        self.worker = Worker(self.station)
        self.handed = 0
        self.clients: list[socket.socket] = []

    def hand(self) -> socket.socket:
        """Hands out one more connection; the answer is the client's end."""
        client, served = socket.socketpair()
        client.settimeout(20)
        self.clients.append(client)
        ticket = struct.pack(
            "<HBBIQQIIII", 1, 1, 1, 0, self.handed, time.monotonic_ns(), os.getuid(), os.getgid(), os.getpid(), 0
        )
        self.handed += 1
        self.gauges[16] = self.region[16]  # what is reported by now is read
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [served.fileno()]))]
        self.mailbox.sendmsg([ticket], rights)
        served.close()
        return client

    def recall(self) -> int:
        """Takes the next connection back; its id."""
        ticket, rights, _flags, _address = self.kept.recvmsg(41, socket.CMSG_LEN(4), socket.MSG_DONTWAIT)
        for _level, _kind, data in rights:
            os.close(struct.unpack("i", data)[0])
        return int(struct.unpack_from("<Q", ticket, 8)[0])

    def open_gate(self) -> None:
        """Lets a worker that accepts for itself do so."""
        self.gauges[32] = 1

    def close_gate(self) -> None:
        """The opposite."""
        self.gauges[32] = 0

    def counts(self) -> tuple[int, int]:
        """What such a worker has accepted, and how much of that is over without a record."""
        return self.region[5], self.region[6]

    def consume(self) -> None:
        """Reads the records that are there."""
        self.gauges[16] = self.region[16]

    def ended(self) -> list[Ended]:
        """What the ring says, from its beginning."""
        at = [FIRST_RECORD + SLOT_WORDS * (n % RECORDS) for n in range(self.region[16])]
        return [Ended(*self.region[slot : slot + SLOT_WORDS]) for slot in at]

    def begin_to_wait(self) -> None:
        """From now on it wants to be rung for."""
        self.gauges[17] = 1

    def rings(self) -> int:
        """How often the bell was rung since the last look."""
        try:
            return os.eventfd_read(self.doorbell)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Closes everything, also what a worker keeps until its process ends."""
        channels = (self.mailbox, self.kept, self.control, self.station.mailbox, self.station.control._channel)
        for channel in (*channels, *self.clients):
            channel.close()
        self.station.reserve.lend()
        for fd in (self.doorbell, self.station.reserve._null):
            os.close(fd)
