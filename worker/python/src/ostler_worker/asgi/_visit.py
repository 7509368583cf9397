"""Follows one connection through uvicorn's protocols: what it asks, when it ends, and how it is asked to leave.

    HTTP ──► another request … ──► closed
      └── upgrade ──► WebSocket ──► closed

uvicorn's class for the one makes an object of its class for the other and gives it the transport. Both are made followers of the
same visit, which is found by the transport. To `watchdog.request` a connection is busy while the application is at one of its
requests; a WebSocket is idle.
"""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Optional, cast
from weakref import WeakKeyDictionary

from .._aio import AsyncConnection
from ._limits import FRESH_S, Limits

if TYPE_CHECKING:
    from uvicorn.server import ServerState

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_CLOSE = (b"connection", b"close")


class Visit:
    """A connection, and what it is about."""

    def __init__(self, connection: AsyncConnection, limits: Limits) -> None:
        self._loop = asyncio.get_running_loop()
        self._marker = connection.mark_by_hand()
        self._protocol: Optional[Follower] = None
        self._has_asked = False
        self._is_draining = False
        self._patience = self._loop.call_later(limits.head_s, self._give_up)
        self.over: asyncio.Future[None] = self._loop.create_future()
        """Done when the transport has ended. It closes the socket before anybody who waits for this goes on."""

    def drain(self) -> None:
        """Answers what was asked and lets go what is idle. Who has just connected gets a moment to ask."""
        if self._is_draining:
            return
        self._is_draining = True
        if self._protocol is None or not self._has_asked:
            self._patience.cancel()
            self._patience = self._loop.call_later(FRESH_S, self._give_up)
        else:
            self._protocol.shutdown()

    def follow(self, protocol: Follower) -> None:
        """This protocol has the transport now."""
        self._protocol = protocol
        protocol.app = self._following(protocol.app)

    def end(self) -> None:
        """The transport has ended."""
        self._patience.cancel()
        if not self.over.done():
            self.over.set_result(None)

    def _give_up(self) -> None:
        if self._protocol is not None and not self._has_asked:
            self._protocol.transport.close()

    def _following(self, application: Application) -> Application:
        async def followed(scope: Message, receive: Receive, send: Send) -> None:
            self._has_asked = True
            self._patience.cancel()
            if scope["type"] == "http":
                with self._marker.busy():
                    await application(scope, receive, self._saying_farewell(send))
            else:
                await application(scope, receive, send)

        return followed

    def _saying_farewell(self, send: Send) -> Send:
        async def saying(message: Message) -> None:
            if self._is_draining and message["type"] == "http.response.start":
                headers = [pair for pair in message.get("headers", ()) if bytes(pair[0]).lower() != b"connection"]
                message = {**message, "headers": [*headers, _CLOSE]}
            await send(message)

        return saying


class Follower(asyncio.Protocol):
    """What is put before a protocol class of uvicorn by `following`."""

    app: Application
    transport: asyncio.Transport
    visits: WeakKeyDictionary[asyncio.BaseTransport, Visit]
    date: Date

    def __init__(self, visit: Optional[Visit] = None, **parts: Any) -> None:
        super().__init__(**parts)
        self.visit = visit
        """None where uvicorn makes it, for a connection that it upgrades."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.visit is None:
            self.visit = self.visits[transport]
        self.visits[transport] = self.visit
        super().connection_made(transport)
        self.visit.follow(self)

    def data_received(self, data: bytes) -> None:
        self.date.refresh()
        super().data_received(data)

    def connection_lost(self, exc: Optional[Exception]) -> None:
        super().connection_lost(exc)
        assert self.visit is not None, "nothing is lost before it was made"
        self.visit.end()

    def shutdown(self) -> None:
        """Closes what is idle, and the rest behind its answer."""
        shutdown: Callable[[], None] = getattr(super(), "shutdown")
        shutdown()


class Date:
    """Keeps the header that stands in every answer. It is made anew when a second has passed and somebody asks."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._second = 0

    def refresh(self) -> None:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._state.default_headers = [(b"date", formatdate(second, usegmt=True).encode())]


def following(protocol_class: type[asyncio.Protocol], date: Date) -> type[Follower]:
    """The class with a follower before it."""
    shared = {"visits": WeakKeyDictionary[asyncio.BaseTransport, Visit](), "date": date}
    return cast("type[Follower]", type(f"Followed{protocol_class.__name__}", (Follower, protocol_class), shared))
