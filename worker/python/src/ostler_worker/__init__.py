"""Serves connections that an ostler supervisor accepted.

A program built on this package is a *worker*: `ostler run` starts several of them behind one socket, hands each accepted
connection to the least loaded one, and replaces them without losing a connection.

    import ostler_worker

    for connection in ostler_worker.connections():
        with connection:
            word = connection.socket.recv(64)
            connection.socket.sendall(word.upper())

Try it: `ostler run --listen unix:shout.sock -- python3 shout.py`. See README.md for threads, asyncio, and what the package
takes of its process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, AsyncIterator, Awaitable, Callable, Iterator, Optional

from ._completions import Outcome
from ._connection import Connection
from ._errors import (
    STARVED_MAX_S,
    BadEnvironment,
    BadMessage,
    BadTemplate,
    ConnectedAlready,
    ConnectError,
    GreetingError,
    IsTemplate,
    MailboxFailed,
    NextError,
    NoReserve,
    NotMainThread,
    NotOurs,
    NotStarted,
    OtherProtocol,
    Starved,
)
from ._marks import Marker
from ._place import WorkerName
from ._report import program
from ._template import Loaded
from ._template import template as _template
from ._ticket import Family, Peer, Ticket
from ._version import VERSION as __version__
from ._watch import EXIT_UNFINISHED
from ._worker import Worker, connect

if TYPE_CHECKING:
    from ._aio import AsyncConnection

__all__ = [
    "EXIT_UNFINISHED",
    "STARVED_MAX_S",
    "AsyncConnection",
    "BadEnvironment",
    "BadMessage",
    "BadTemplate",
    "ConnectError",
    "ConnectedAlready",
    "Connection",
    "Family",
    "GreetingError",
    "IsTemplate",
    "MailboxFailed",
    "Marker",
    "NextError",
    "NoReserve",
    "NotMainThread",
    "NotOurs",
    "NotStarted",
    "OtherProtocol",
    "Outcome",
    "Peer",
    "Starved",
    "Ticket",
    "Worker",
    "WorkerName",
    "__version__",
    "aconnections",
    "aserve",
    "connect",
    "connections",
    "serve",
    "template",
]


def __getattr__(name: str) -> object:
    """Half of the time that this package takes to load would be asyncio, which most workers do without."""
    if name == "AsyncConnection":
        from ._aio import AsyncConnection

        return AsyncConnection
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def connections() -> Iterator[Connection]:
    """Connects, and gives each connection in turn until the supervisor drains this worker: then leave with exit code 0.

    Close each one, best by `with`: it is what frees its place. Meant for `concurrency` 1; above that hand them to threads.
    A process that ostler did not start ends here with exit code 1, and says on standard error what to type; `connect` raises
    instead.
    """
    return _at_the_edge().connections()


def serve(handler: Callable[[Connection], object], threads: Optional[int] = None) -> None:
    """Connects, and calls `handler` for every connection until the supervisor drains this worker.

    On the calling thread where the pool's `concurrency` is 1, else on as many threads as it says. `threads` says another
    number: with fewer than `concurrency` connections wait in the mailbox until the supervisor gives them to others.

    Each connection is closed when its handler ends. An exception is an outcome of its connection and a few lines in the log,
    nothing at all when it only says that the client has gone, and the worker goes on. A handler that raises `SystemExit` ends
    the worker, as soon as the others are done.
    """
    _at_the_edge().serve(handler, threads)


def aconnections() -> AsyncIterator[AsyncConnection]:
    """As `connections`, in an event loop: at most `concurrency` at a time, each to be served in a task of its own.

    Connecting waits for the supervisor's answer, so do it before the loop has other work.
    """
    return _at_the_edge().aconnections()


async def aserve(handler: Callable[[AsyncConnection], Awaitable[object]]) -> None:
    """As `serve`, in an event loop: each handler is a task, and when the worker is drained all of them have ended."""
    await _at_the_edge().aserve(handler)


def template(load: Callable[[], Loaded]) -> Loaded:
    """Gives what `load` gives, loaded once for all workers where the pool has `reload.template = true`.

    There, `load` is called in one process, which forks the workers; in each of them this returns. Elsewhere each worker calls
    `load` for itself. Call it first, in the main thread, and then serve:

        model = ostler_worker.template(load_model)
        for connection in ostler_worker.connections():
            ...

    `load` must leave no thread behind, and should leave no connection or file open that is not for all workers at once.
    """
    try:
        return _template(load)
    except ConnectError as problem:
        raise SystemExit(f"{program()}: {problem}") from problem


def _at_the_edge() -> Worker:
    """Where nobody expects an error, it is said in words, not in Python."""
    try:
        return connect()
    except ConnectError as problem:
        raise SystemExit(f"{program()}: {problem}") from problem
