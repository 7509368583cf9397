"""Gives this process its place in a pool, and hands out the connections that it claims."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING, AsyncIterator, Awaitable, Callable, Iterator, Optional, Union

from . import _control, _signals, _stacks, _watch
from ._accept import Accepts
from ._claim import Claims, Received, Word
from ._completions import BadRegion, Completions, WhenFull
from ._connection import Connection
from ._errors import ConnectedAlready, IsTemplate, NoReserve, NotMainThread, NotOurs
from ._listeners import Listeners
from ._memory import map_gauges, map_region
from ._place import (
    MAILBOX_FD,
    TEMPLATE,
    Place,
    WorkerName,
    read_place,
    take_channel,
    take_descriptor,
    take_listener,
)
from ._reserve import Reserve
from ._station import Station
from ._ticket import Ticket
from ._title import Doing, show

if TYPE_CHECKING:
    from ._aio import AsyncConnection

_connected = threading.Lock()


def connect() -> Worker:
    """Takes this process's place in its pool. Call it early, in the main thread: until then TERM kills.

    The supervisor waits for the first `next` before it sends connections, so load what must be loaded in between. Raises a
    `ConnectError` when this process was not started by ostler (it says what to type), when both sides don't understand each
    other, or on the second call.
    """
    if TEMPLATE in os.environ:
        raise IsTemplate
    place = read_place(os.environ)
    if threading.current_thread() is not threading.main_thread():
        raise NotMainThread
    if not _connected.acquire(blocking=False):
        raise ConnectedAlready
    show(place.name, Doing.STARTING)
    mailbox = take_channel(place.mailbox, "mailbox")
    sockets = [take_listener(fd) for fd in range(MAILBOX_FD, MAILBOX_FD + place.listeners)]
    control = _control.Control(take_channel(place.control, "control channel"))
    completions = _share_memory(place)
    stacks = _stacks.install()
    if stacks is not None:
        completions.print_stacks_at(stacks)
    told, tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    _signals.install(tell)
    if sockets:
        _signals.survive_the_supervisor()
    try:
        reserve = Reserve()
    except OSError as problem:
        raise NoReserve(problem) from None
    welcome = _control.greet(control, _control.WELCOME_TIMEOUT_S)
    # Behind the greeting: whoever is seen to wait at a listener before that passes for a program without the library.
    listeners = _wait_at(sockets, mailbox)
    station = Station(place.name, mailbox, control, completions, reserve, welcome, listeners)
    if listeners is None:
        station.wake_to_beat()
    _watch.start(station, told, tell)
    return Worker(station)


class Worker:
    """This process's place in a pool. Usable from several threads at once."""

    def __init__(self, station: Station) -> None:
        self._station = station
        listeners = station.listeners
        self._claims: Claims = Claims(station) if listeners is None else Accepts(station, listeners)

    @property
    def name(self) -> WorkerName:
        """What this worker is called: `pool/slot.generation`."""
        return self._station.name

    @property
    def concurrency(self) -> int:
        """How many connections the supervisor lets this worker hold at a time, at least 1."""
        return self._station.concurrency

    @property
    def pressure(self) -> int:
        """How full the pool's waiting line is, in thousandths of its limit, in steps of 50. One read of shared memory."""
        return self._station.completions.pressure()

    @property
    def is_draining(self) -> bool:
        """Whether this worker has been asked to leave. Connections may still come out of the mailbox."""
        return self._station.is_draining()

    def next(self) -> Optional[Connection]:
        """Waits for the next connection. The first call tells the supervisor that this worker is ready.

        `None` when no more connections will come: finish what is claimed, and leave. Raises a `NextError` when none can be
        claimed any more: finish, and leave with a nonzero exit code.
        """
        self._station.tell_ready()
        claimed = self._claims.claim()
        return None if claimed is None else Connection(*self._opened(claimed))

    def connections(self) -> Iterator[Connection]:
        """Each connection in turn, until the supervisor drains this worker."""
        while (connection := self.next()) is not None:
            yield connection

    def serve(self, handler: Callable[[Connection], object], threads: Optional[int] = None) -> None:
        """As `ostler_worker.serve`."""
        from ._serve import serve

        serve(self, handler, threads)

    def aconnections(self) -> AsyncIterator[AsyncConnection]:
        """As `ostler_worker.aconnections`."""
        from ._aio import aconnections

        return aconnections(self)

    async def aserve(self, handler: Callable[[AsyncConnection], Awaitable[object]]) -> None:
        """As `ostler_worker.aserve`."""
        from ._aio import aserve

        await aserve(self, handler)

    def _try_claim(self) -> Union[Received, Word]:
        self._station.tell_ready()
        return self._claims.try_claim()

    def _opened(self, claimed: Received) -> tuple[socket.socket, Ticket, int, Station]:
        """What a connection is made of."""
        claimed_at_ns = time.monotonic_ns()
        self._station.completions.note_claim(claimed_at_ns)
        family = claimed.ticket.family.of_socket
        stream = socket.socket(family, socket.SOCK_STREAM, 0, fileno=claimed.fd)
        return stream, claimed.ticket, claimed_at_ns, self._station


def _wait_at(sockets: list[socket.socket], mailbox: socket.socket) -> Optional[Listeners]:
    """None where connections come in the mailbox."""
    if not sockets:
        return None
    try:
        return Listeners(sockets, mailbox)
    except OSError as problem:
        raise NotOurs(MAILBOX_FD, "listener", problem) from None


def _share_memory(place: Place) -> Completions:
    """Maps the shared memory; its descriptors are not needed after that."""
    maps = []
    for fd, what, mapped in ((place.region, "region", map_region), (place.gauges, "gauges", map_gauges)):
        try:
            maps.append(mapped(take_descriptor(fd, what)))
        except (OSError, ValueError, TypeError) as problem:
            raise NotOurs(fd, what, problem) from None
        os.close(fd)
    try:
        when_full = WhenFull.COUNTED if place.listeners else WhenFull.IMPOSSIBLE
        return Completions(maps[0], maps[1], take_descriptor(place.doorbell, "doorbell"), when_full)
    except BadRegion as problem:
        raise NotOurs(place.gauges, "gauges", problem) from None
