"""Two ASGI applications of nothing but the interface, which start quickly: `app`, and one whose startup fails.

`/` and `/sleep/MS` are answered as the hello server does, `/loaded` with the process that has loaded this, and a WebSocket gets
back what it sends.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, Awaitable, Callable

LOADED_BY = os.getpid()

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def who_am_i() -> str:
    return f"hello from worker={os.environ['OSTLER_POOL']}/{os.environ['OSTLER_WORKER']} pid={os.getpid()}\n"


async def echo(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await echo(receive, send)
        return
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])  # which says that it has no lifespan
    words = scope["path"].strip("/").split("/")
    if words[0] == "sleep":
        await asyncio.sleep(int(words[1]) / 1000)
    body = f"{LOADED_BY}\n".encode() if words[0] == "loaded" else who_am_i().encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def never_starts(scope: Message, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "there is no database"})
