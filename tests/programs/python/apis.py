"""An ASGI application of FastAPI for the suites.

It answers `/` and `/sleep/MS` as the hello server does and `/length` with how much was sent to it, `/raise` fails, and `/ws` sends
back what it gets over a WebSocket. It says in the log when it starts and when it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import AsyncIterator

import fastapi
from fastapi.responses import PlainTextResponse

from plain_asgi import who_am_i


@contextlib.asynccontextmanager
async def lifespan(_app: fastapi.FastAPI) -> AsyncIterator[None]:
    print("the application starts", flush=True)
    yield
    print("the application ends", flush=True)


fastapi_app = fastapi.FastAPI(lifespan=lifespan, default_response_class=PlainTextResponse)


@fastapi_app.get("/")
async def root() -> str:
    return who_am_i()


@fastapi_app.get("/sleep/{ms}")
async def sleep(ms: int) -> str:
    await asyncio.sleep(ms / 1000)
    return who_am_i()


@fastapi_app.post("/length")
async def length(request: fastapi.Request) -> str:
    total = 0
    async for piece in request.stream():
        total += len(piece)
    return f"{total}\n"


@fastapi_app.get("/raise")
async def fail() -> str:
    raise RuntimeError("it was asked to")


@fastapi_app.websocket("/ws")
async def echo(socket: fastapi.WebSocket) -> None:
    await socket.accept()
    with contextlib.suppress(fastapi.WebSocketDisconnect):
        while True:
            await socket.send_text(await socket.receive_text())
