"""An ASGI application that says which worker answers; /sleep/MS waits first."""

import asyncio
import os

WORKER = f"{os.environ['OSTLER_POOL']}/{os.environ['OSTLER_WORKER']}"


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        message = {"type": None}
        while message["type"] != "lifespan.shutdown":
            message = await receive()
            await send({"type": message["type"] + ".complete"})
        return
    path = scope["path"].split("/")
    if path[1] == "sleep":
        await asyncio.sleep(int(path[2]) / 1000)
    body = f"hello worker={WORKER} pid={os.getpid()}\n".encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
