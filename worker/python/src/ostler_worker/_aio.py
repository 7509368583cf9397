"""Claims connections in an event loop of asyncio, and serves each in a task.

The mailbox's description is the supervisor's too, so it stays blocking: the loop watches it and claims say for themselves that
they don't wait. At its end it is readable for ever, so it is watched only while nothing else is to be done. A worker that accepts
for itself has the epoll of its listeners watched instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import TracebackType
from typing import TYPE_CHECKING, AsyncIterator, Awaitable, Callable, Optional, Type

from ._claim import STARVED_RETRY_S, Received, Word
from ._completions import Beats, Outcome
from ._connection import GONE, Claimed, _Ending, outcome_of
from ._listeners import GATE_EVERY_S
from ._report import say_failed
from ._stage import Stage
from ._station import Station

if TYPE_CHECKING:
    from ._worker import Worker


class AsyncConnection(Claimed):
    """A connection that this worker claimed, for an event loop: its socket does not block.

    Use it by `loop.sock_recv` and its siblings, or by `streams`, or give the socket to a protocol, and leave its
    `async with` block, or await `close`, when it is over. Leaving the block by an exception is the outcome "panicked", unless
    that only says that the client has gone.
    """

    _drained: asyncio.Event
    _writer: Optional[asyncio.StreamWriter] = None

    async def streams(self, limit: int = 1 << 16) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The connection as streams of asyncio, once. `limit` bounds what `readline` and `readuntil` take."""
        if self._writer is not None:
            raise RuntimeError("a connection has its streams once")
        if self.socket.family.name == "AF_UNIX":
            reader, self._writer = await asyncio.open_unix_connection(sock=self.socket, limit=limit)
        else:
            reader, self._writer = await asyncio.open_connection(sock=self.socket, limit=limit)
        return reader, self._writer

    async def draining(self) -> None:
        """Waits until the worker has been asked to leave; not at all when it was before."""
        if not self.is_draining:
            await self._drained.wait()

    async def close(self, outcome: Outcome = Outcome.DONE) -> None:
        """Sends what the streams hold, closes, then reports the end. Again it does nothing."""
        if not self._take_end():
            return
        writer = self._writer
        try:
            if writer is not None:
                if outcome is Outcome.PANICKED:
                    writer.transport.abort()
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
        finally:
            if writer is not None:
                writer.transport.abort()  # cancelled: what is not sent by now is not sent
            _Ending(self, outcome)()

    async def __aenter__(self) -> AsyncConnection:
        return self

    async def __aexit__(
        self,
        _kind: Optional[Type[BaseException]],
        problem: Optional[BaseException],
        _trace: Optional[TracebackType],
    ) -> None:
        await self.close(outcome_of(problem))


async def aconnections(worker: Worker) -> AsyncIterator[AsyncConnection]:
    """As `ostler_worker.aconnections`."""
    post = _Post(worker)
    with _Pulse(worker._station):
        while True:
            await post.places.acquire()
            connection = await post.next()
            if connection is None:
                return
            yield connection


async def aserve(worker: Worker, handler: Callable[[AsyncConnection], Awaitable[object]]) -> None:
    """As `ostler_worker.aserve`."""
    tasks: set[asyncio.Task[None]] = set()
    try:
        async for connection in aconnections(worker):
            task = asyncio.create_task(_serve_one(handler, connection))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    except BaseException:
        # Nobody claims any more, so what waits shall go to others.
        worker._station.leave(Stage.LEAVING)
        raise
    finally:
        # Those that were begun are served, also when this is cancelled: who wants less cancels them too.
        while tasks:
            await asyncio.wait(tasks)


async def _serve_one(handler: Callable[[AsyncConnection], Awaitable[object]], connection: AsyncConnection) -> None:
    try:
        async with connection:
            await handler(connection)
    except GONE:
        pass
    except Exception as problem:
        say_failed(connection.ticket.conn, problem)


class _Post:
    """A worker in an event loop."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._station = worker._station
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._drained = asyncio.Event()
        self.places = asyncio.Semaphore(worker.concurrency)
        """What is handed ahead (`prefetch`) waits in the mailbox, where it can be recalled."""
        self._station.stage.when_left_serving(lambda: self._call(self._drained.set))

    async def next(self) -> Optional[AsyncConnection]:
        while True:
            look = self._worker._try_claim()
            if isinstance(look, Received):
                connection = AsyncConnection(*self._worker._opened(look))
                connection.socket.setblocking(False)
                connection._drained = self._drained
                connection._afterwards = self._free_place
                return connection
            if look is Word.END:
                return None
            if look is Word.STARVED:
                await asyncio.sleep(STARVED_RETRY_S)
            elif look is Word.CLOSED:
                await self._rested()
            else:
                await self._stirred()

    async def _stirred(self) -> None:
        """Waits until a look may bring something. At the mailbox's end that is always."""
        stirred = asyncio.Event()
        claims = self._worker._claims
        watched = claims.fileno()
        every_s = claims.look_every_s
        look = None if every_s is None else self._loop.call_later(every_s, stirred.set)
        self._loop.add_reader(watched, stirred.set)
        try:
            await stirred.wait()
        finally:
            self._loop.remove_reader(watched)
            if look is not None:
                look.cancel()

    async def _rested(self) -> None:
        """Waits until a worker that accepts for itself may accept again, or shall leave."""
        if self._drained.is_set():
            await asyncio.sleep(STARVED_RETRY_S)
            return
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._drained.wait(), GATE_EVERY_S)

    def _free_place(self) -> None:
        self._call(self.places.release)

    def _call(self, act: Callable[[], object]) -> None:
        """In the loop, from whichever thread."""
        if threading.get_ident() == self._thread:
            act()
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits in it
            self._loop.call_soon_threadsafe(act)


class _Pulse:
    """Beats in the loop, so that one that stands still falls silent. Afterwards nobody expects it."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._next: Optional[asyncio.TimerHandle] = None

    def __enter__(self) -> None:
        if self._station.beat_every_s is not None:
            self._station.completions.promise(Beats.ALWAYS)
            self._beat(self._station.beat_every_s)

    def _beat(self, every_s: float) -> None:
        self._station.completions.beat()
        self._next = asyncio.get_running_loop().call_later(every_s, self._beat, every_s)

    def __exit__(self, *_end: object) -> None:
        if self._next is not None:
            self._next.cancel()
            self._station.completions.promise(Beats.NEVER)
