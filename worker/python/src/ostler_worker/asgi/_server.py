"""Leads each connection that a worker claims to uvicorn's protocols, and out again when the worker is drained."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, Callable

from uvicorn.config import Config
from uvicorn.server import ServerState

from .._aio import AsyncConnection
from .._worker import Worker
from ._failed import StartupFailed
from ._limits import Limits
from ._visit import Date, Visit, following

PARSER = "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol"
"""The one of llhttp, as in the WSGI server."""


class Server:
    """A worker and its application."""

    def __init__(self, worker: Worker, application: Callable[..., Any], limits: Limits, access_log: bool) -> None:
        self._worker = worker
        self._limits = limits
        self._config = Config(
            application,
            http=PARSER,
            timeout_keep_alive=limits.keep_alive_s,
            log_level="warning",
            access_log=access_log,
            proxy_headers=False,  # forwarding headers are passed on and not believed
            server_header=False,
        )
        if access_log:
            logging.getLogger("uvicorn.access").setLevel(logging.INFO)
        self._state = ServerState()
        self._visits: set[Visit] = set()

    async def run(self) -> None:
        """Starts the application, serves until the worker is drained, and ends the application."""
        self._config.load()
        date = Date(self._state)
        self._http = following(self._config.http_protocol_class, date)
        if self._config.ws_protocol_class is not None:
            websockets = following(self._config.ws_protocol_class, date)
            websockets.visits = self._http.visits
            self._config.ws_protocol_class = websockets
        self._lifespan = self._config.lifespan_class(self._config)
        await self._lifespan.startup()
        if self._lifespan.should_exit:
            raise StartupFailed
        loop = asyncio.get_running_loop()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._drain)

        self._worker._station.stage.when_left_serving(tell)
        try:
            await self._worker.aserve(self._serve)
        finally:
            await self._finish_tasks()
            await self._lifespan.shutdown()

    def _drain(self) -> None:
        for visit in list(self._visits):
            visit.drain()

    async def _serve(self, connection: AsyncConnection) -> None:
        visit = Visit(connection, self._limits)

        def protocol() -> asyncio.Protocol:
            return self._http(visit, config=self._config, server_state=self._state, app_state=self._lifespan.state)

        self._visits.add(visit)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(protocol, connection.socket)
            if connection.is_draining:
                visit.drain()
            await visit.over
        finally:
            visit.end()
            self._visits.discard(visit)

    async def _finish_tasks(self) -> None:
        """An application may be at work for a client that has left."""
        while self._state.tasks:
            await asyncio.wait(set(self._state.tasks))
