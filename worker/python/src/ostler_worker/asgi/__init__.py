"""Serves an ASGI application over HTTP/1.1, with keep-alive and WebSockets, as a worker of ostler.

    ostler run --listen tcp:127.0.0.1:8080 --workers 4 --concurrency 256 -- python3 -m ostler_worker.asgi module:app

or, for a program that has reasons to begin by itself, `serve(app)`. What speaks HTTP and runs the application are the protocol
classes of uvicorn; what feeds them connections, marks requests and leaves in order is here. Needs the extra `asgi`:
`pip install ostler-worker[asgi]`, and `websockets` or `wsproto` beside it for WebSockets.
"""

from __future__ import annotations

import asyncio
from typing import Any, Callable

from .._worker import Worker, connect
from ._failed import StartupFailed
from ._limits import Limits

__all__ = ["Limits", "StartupFailed", "serve"]


def serve(application: Callable[..., Any], limits: Limits = Limits(), access_log: bool = False) -> None:
    """Connects, and serves until the supervisor drains this worker. Raises a `ConnectError`, a `NextError`, or
    `StartupFailed` when the application's lifespan says so."""
    serve_as(connect(), application, limits, access_log)


def serve_as(worker: Worker, application: Callable[..., Any], limits: Limits = Limits(), access_log: bool = False) -> None:
    """As `serve`, for a process that has connected already."""
    from ._server import Server  # here, so that whoever lacks the extra can be told so

    asyncio.run(Server(worker, application, limits, access_log).run())
