"""Runs a handler for every connection: one after the other, or on as many threads as the pool allows.

The threads take turns at the mailbox, instead of being fed by one that claims (docs/decisions/0001-threads-take-turns.md).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Callable, Optional

from ._connection import GONE, Connection
from ._report import say_failed
from ._stage import Stage

if TYPE_CHECKING:
    from ._worker import Worker


def serve(worker: Worker, handler: Callable[[Connection], object], threads: Optional[int] = None) -> None:
    """As `ostler_worker.serve`."""
    count = worker.concurrency if threads is None else threads
    if count < 1:
        raise ValueError(f"serve needs at least one thread, not {count}")
    if count == 1:
        _serve_in_turn(worker, handler)
    else:
        _serve_on_threads(worker, handler, count)


def _serve_in_turn(worker: Worker, handler: Callable[[Connection], object]) -> None:
    try:
        for connection in worker.connections():
            _serve_one(handler, connection)
    except BaseException:
        # The other threads stop as well: a worker with fewer threads than places would sit on connections.
        worker._station.leave(Stage.LEAVING)
        raise


def _serve_one(handler: Callable[[Connection], object], connection: Connection) -> None:
    try:
        with connection:
            handler(connection)
    except GONE:
        pass
    except Exception as problem:
        say_failed(connection.ticket.conn, problem)


def _serve_on_threads(worker: Worker, handler: Callable[[Connection], object], count: int) -> None:
    ends: list[BaseException] = []

    def run() -> None:
        try:
            _serve_in_turn(worker, handler)
        except BaseException as end:
            ends.append(end)

    running: list[threading.Thread] = []
    for number in range(count):
        thread = threading.Thread(target=run, name=f"ostler-serve-{number}", daemon=True)
        try:
            thread.start()
        except RuntimeError as problem:
            # Those that run may hold connections already: they finish, the supervisor takes the rest.
            worker._station.leave(Stage.LEAVING)
            ends.append(RuntimeError(f"cannot start {count} threads for `concurrency`: {problem}"))
            break
        running.append(thread)
    for thread in running:
        thread.join()
    if ends:
        raise ends[0]
