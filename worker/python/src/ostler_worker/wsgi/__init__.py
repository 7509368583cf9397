"""Serves a WSGI application (PEP 3333) over HTTP/1.1, with keep-alive, as a worker of ostler.

    ostler run --listen tcp:127.0.0.1:8080 --workers 4 --concurrency 8 -- python3 -m ostler_worker.wsgi module:app

or, for a program that has reasons to begin by itself, `serve(app)`. Needs the extra `http`: `pip install ostler-worker[http]`.
A connection holds a place of the pool's `concurrency`, and a thread, as long as it is kept alive.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from .._connection import Connection
from .._worker import Worker, connect
from ._limits import Limits

if TYPE_CHECKING:
    from ._talk import Application

__all__ = ["Limits", "serve"]


def serve(application: Application, limits: Limits = Limits(), access_log: bool = False) -> None:
    """Connects, and serves until the supervisor drains this worker. Raises a `ConnectError` or a `NextError`."""
    serve_as(connect(), application, limits, access_log)


def serve_as(worker: Worker, application: Application, limits: Limits = Limits(), access_log: bool = False) -> None:
    """As `serve`, for a process that has connected already."""
    from ._talk import Talk  # here, so that whoever lacks the extra can be told so

    drained = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def tell() -> None:
        with contextlib.suppress(OSError):
            os.eventfd_write(drained, 1)  # and nobody reads it, so that it tells everybody

    worker._station.stage.when_left_serving(tell)
    has_threads = worker.concurrency > 1

    def talk(connection: Connection) -> None:
        Talk(connection, application, limits, drained, has_threads, access_log).run()

    worker.serve(talk)
