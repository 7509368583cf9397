"""Does the ASGI server count, mark and leave as it should? That HTTP is spoken well is uvicorn's."""

import asyncio
import base64
import contextlib
import io
import os
import socket
import threading
import time
import unittest
from typing import Any, Awaitable, Callable, Optional

from fake import FIRST_MARK, Fake
from ostler_worker._stage import Stage
from ostler_worker.asgi import Limits, StartupFailed
from ostler_worker.asgi._server import Server

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SOON_S = 20


class App:
    """Answers with what it was sent, and notes what happens to it."""

    def __init__(self, region: Optional[Any] = None, fails: str = "") -> None:
        self.said: list[str] = []
        self.signs: list[int] = []
        self.begun = threading.Event()
        self.goes_on = threading.Event()
        self.goes_on.set()
        self._region = region
        self._fails = fails

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await self._echo(receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        for _ in range(2):
            kind = (await receive())["type"]
            self.said.append(kind)
            await send({"type": f"{kind}.{'failed' if kind == self._fails else 'complete'}"})

    async def _echo(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        self._look()
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        self.said.append(f"websocket.disconnect {message['code']}")

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        self.begun.set()
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self._look()
        await asyncio.get_running_loop().run_in_executor(None, self.goes_on.wait, SOON_S)
        headers = [(b"content-length", str(len(body)).encode()), (b"connection", b"keep-alive")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _look(self) -> None:
        if self._region is not None:
            self.signs.append(self._region[FIRST_MARK + 1])


class Served(unittest.TestCase):
    """A server in a thread."""

    def start(self, app: Optional[App] = None, limits: Limits = Limits()) -> App:
        self.fake = Fake(concurrency=4, marks_are_read=True)
        self.addCleanup(self.fake.close)
        app = app or App(self.fake.region)
        self.ended: list[BaseException] = []
        # Made here, since it sets the logging of the process up.
        server = Server(self.fake.worker, app, limits, False)

        def run() -> None:
            try:
                asyncio.run(server.run())
            except BaseException as end:
                self.ended.append(end)

        self.thread = threading.Thread(target=run)
        self.thread.start()
        return app

    def tearDown(self) -> None:
        self.fake.mailbox.shutdown(socket.SHUT_WR)
        for client in self.fake.clients:
            client.close()
        self.thread.join(SOON_S)
        self.assertFalse(self.thread.is_alive(), "everybody has left and the server has not")

    def wait_for(self, what: str, fact: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SOON_S
        while not fact():
            self.assertLess(time.monotonic(), deadline, what)
            os.sched_yield()

    def drain(self) -> None:
        self.fake.station.advance(Stage.DRAINING)
        self.fake.mailbox.shutdown(socket.SHUT_WR)


def until(client: socket.socket, end: bytes) -> bytes:
    got = b""
    while not got.endswith(end):
        piece = client.recv(1)
        assert piece, f"{got!r} and no {end!r}"
        got += piece
    return got


def everything(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


class Serving(Served):
    def test_a_connection_is_kept_and_its_end_is_reported_once(self) -> None:
        app = self.start()
        client = self.fake.hand()
        for _ in range(2):
            client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab")
            answer = until(client, b"ab")
            self.assertIn(b"200 OK\r\n", answer)
            self.assertEqual(answer.count(b"date: "), 1)
        self.assertEqual(self.fake.region[16], 0)
        client.close()
        self.wait_for("its end", lambda: self.fake.region[16] == 1)
        self.assertEqual([(ended.conn, ended.outcome) for ended in self.fake.ended()], [(0, 0)])
        self.assertEqual(app.said, ["lifespan.startup"])

    def test_a_request_is_busy_and_a_kept_connection_is_idle(self) -> None:
        app = self.start()
        client = self.fake.hand()
        client.sendall(GET)
        until(client, b"\r\n\r\n")
        self.wait_for("idle", lambda: self.fake.region[FIRST_MARK + 1] == 1)
        self.assertGreater(app.signs[0], 2, "a time")

    def test_a_client_that_asks_for_nothing_is_left(self) -> None:
        self.start(limits=Limits(head_s=0.05))
        client = self.fake.hand()
        client.sendall(b"GET / HT")
        self.assertEqual(everything(client), b"")

    def test_a_websocket_speaks_is_idle_and_is_told_when_the_worker_leaves(self) -> None:
        app = self.start()
        client = self.fake.hand()
        key = base64.b64encode(bytes(16)).decode()
        client.sendall(
            f"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self.assertIn(b"101 Switching Protocols", until(client, b"\r\n\r\n"))
        client.sendall(b"\x81\x82\0\0\0\0hi")  # a text of two bytes, masked with nothing
        self.assertEqual(until(client, b"hi"), b"\x81\x02hi")
        self.assertEqual(app.signs, [1])
        self.drain()
        self.assertEqual(until(client, b"\x03\xf4")[:1], b"\x88", "a close frame with 1012, service restart")
        client.close()
        self.thread.join(SOON_S)
        self.assertEqual(app.said, ["lifespan.startup", "websocket.disconnect 1012", "lifespan.shutdown"])


class Leaving(Served):
    def test_what_was_asked_is_answered_with_a_farewell_and_what_is_idle_is_closed(self) -> None:
        app = self.start()
        idle, busy = self.fake.hand(), self.fake.hand()
        idle.sendall(GET)
        until(idle, b"\r\n\r\n")
        app.goes_on.clear()
        app.begun.clear()
        busy.sendall(GET)
        self.assertTrue(app.begun.wait(SOON_S))
        self.drain()
        self.assertEqual(everything(idle), b"")
        app.goes_on.set()
        answer = everything(busy)
        self.assertIn(b"200 OK", answer)
        self.assertEqual(answer.count(b"connection: close"), 1, answer)
        self.assertNotIn(b"keep-alive", answer)
        self.thread.join(SOON_S)
        self.assertEqual(app.said, ["lifespan.startup", "lifespan.shutdown"])
        self.assertEqual((self.fake.region[16], self.ended), (2, []))

    def test_who_has_just_connected_gets_a_moment_to_ask(self) -> None:
        self.start()
        before, silent = self.fake.hand(), self.fake.hand()
        self.wait_for("both are claimed", lambda: self.fake.region[2] == 2)
        late = self.fake.hand()
        self.drain()
        for client in (before, late):
            client.sendall(GET)
            self.assertIn(b"connection: close", everything(client))
        self.assertEqual(everything(silent), b"")

    def test_a_startup_that_fails_ends_the_worker_before_it_is_ready(self) -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            self.start(App(fails="lifespan.startup"))
            self.thread.join(SOON_S)
        self.assertIsInstance(self.ended[0], StartupFailed)
        with self.assertRaises(BlockingIOError):
            self.fake.control.recv(512, socket.MSG_DONTWAIT)


if __name__ == "__main__":
    unittest.main()
