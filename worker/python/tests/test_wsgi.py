"""Does the WSGI server speak HTTP/1.1 and PEP 3333, and within its limits?"""

import contextlib
import http.client
import io
import itertools
import os
import socket
import sys
import threading
import unittest
import wsgiref.validate
from typing import Any, Callable, Iterable, Iterator

from fake import Fake
from ostler_worker._connection import GONE
from ostler_worker._stage import Stage
from ostler_worker.wsgi import Limits
from ostler_worker.wsgi._talk import Application, Talk

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], object]]

TEXT = [("Content-Type", "text/plain")]


def echo(environ: Environ, start: Start) -> Iterable[bytes]:
    """Answers with what it was sent."""
    body = environ["wsgi.input"].read(-1 if environ.get("CONTENT_LENGTH") is None else int(environ["CONTENT_LENGTH"]))
    start("200 OK", TEXT)
    return [f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} {environ['QUERY_STRING']} {body!r}".encode()]


class Served(unittest.TestCase):
    """A server on one end of a connection."""

    def setUp(self) -> None:
        self.fake = Fake()
        self.addCleanup(self.fake.close)
        self.drained = os.eventfd(0)
        self.addCleanup(os.close, self.drained)
        self.said = io.StringIO()
        self.threads: list[threading.Thread] = []

    def serve(self, application: Application, limits: Limits = Limits(), logs: bool = False) -> socket.socket:
        client = self.fake.hand()
        connection = self.fake.worker.next()
        assert connection is not None

        def run() -> None:
            with contextlib.suppress(*GONE), connection:
                Talk(connection, application, limits, self.drained, False, logs).run()

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()
        return client

    def tearDown(self) -> None:
        for client in self.fake.clients:
            client.close()
        for thread in self.threads:
            thread.join(20)
            self.assertFalse(thread.is_alive(), "the connection is over and its server is not")

    def answer(self, application: Application, request: str | bytes, limits: Limits = Limits()) -> str:
        """Everything that comes back for one request, after which the client shuts its side down."""
        client = self.serve(application, limits)
        client.sendall(request.encode("latin-1") if isinstance(request, str) else request)
        client.shutdown(socket.SHUT_WR)
        return everything(client)


def everything(client: socket.socket) -> str:
    return b"".join(iter(lambda: client.recv(65536), b"")).decode("latin-1")


def until(client: socket.socket, end: str) -> str:
    """What comes until this does."""
    got = b""
    while not got.endswith(end.encode()):
        piece = client.recv(1)
        assert piece, f"{got!r} and no {end!r}"
        got += piece
    return got.decode("latin-1")


def understood(answer: str) -> tuple[int, bytes]:
    """Status and body, as a client reads them."""

    class Received:
        def makefile(self, _mode: str) -> io.BytesIO:
            return io.BytesIO(answer.encode("latin-1"))

    response = http.client.HTTPResponse(Received())  # type: ignore[arg-type]
    response.begin()
    return response.status, response.read()


def get(path: str = "/", more: str = "", version: str = "1.1") -> str:
    return f"GET {path} HTTP/{version}\r\nHost: x\r\n{more}\r\n"


def post(body: str, more: str = "") -> str:
    return f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{more}\r\n{body}"


class Requests(Served):
    def test_a_connection_is_kept_until_the_client_has_enough(self) -> None:
        client = self.serve(echo)
        for path in ("/a?b=c", "/d%20e"):
            client.sendall(get(path).encode())
            answer = until(client, "b''")
            self.assertIn("HTTP/1.1 200 OK\r\n", answer)
            self.assertNotIn("Connection", answer)
        client.sendall(get("/", "Connection: close\r\n").encode())
        self.assertIn("Connection: close", everything(client))

    def test_a_client_that_said_that_it_asks_no_more_is_not_waited_for(self) -> None:
        for request in (get("/", "Connection: close\r\n"), get("/", version="1.0"), post("a", "Connection: close\r\n")):
            client = self.serve(echo)
            client.sendall(request.encode())
            everything(client)
            with self.assertRaises(BrokenPipeError, msg=request):
                client.send(b"x")

    def test_requests_in_one_piece_are_answered_in_their_order(self) -> None:
        answers = self.answer(echo, get("/1") + post("body") + get("/2"))
        order = [answers.index(text) for text in ("GET /1  b''", "POST /  b'body'", "GET /2  b''")]
        self.assertEqual(order, sorted(order))

    def test_a_chunked_body_is_read_to_its_end(self) -> None:
        chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nX-After: 1\r\n\r\n"
        self.assertIn("b'abcde'", self.answer(echo, chunked))

    def test_a_body_is_a_file(self) -> None:
        def lines(environ: Environ, start: Start) -> Iterable[bytes]:
            start("200 OK", TEXT)
            body = environ["wsgi.input"]
            return [repr([body.readline(), body.read(2), list(body), body.read(1)]).encode()]

        self.assertIn("[b'ab\\n', b'cd', [b'\\n', b'ef'], b'']", self.answer(lines, post("ab\ncd\nef")))

    def test_a_client_that_waits_to_be_asked_is_asked_when_the_body_is_read(self) -> None:
        client = self.serve(echo)
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        self.assertEqual(until(client, "\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n")
        client.sendall(b"ab")
        until(client, "b'ab'")
        client.sendall(post("cd", "Expect: 100-continue\r\n").encode())
        self.assertTrue(until(client, "b'cd'").startswith("HTTP/1.1 200 OK"), "it has sent it unasked")

    def test_a_client_that_is_not_asked_is_told_that_the_connection_ends(self) -> None:
        def refuses(environ: Environ, start: Start) -> Iterable[bytes]:
            start("403 Forbidden", TEXT)
            return [b"no"]

        client = self.serve(refuses)
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        answer = everything(client)
        self.assertTrue(answer.startswith("HTTP/1.1 403 Forbidden\r\n"), answer)
        self.assertNotIn("100 Continue", answer)

    def test_a_body_that_nobody_read_is_not_taken_for_the_next_request(self) -> None:
        def deaf(environ: Environ, start: Start) -> Iterable[bytes]:
            start("200 OK", TEXT)
            return [environ["PATH_INFO"].encode()]

        answers = self.answer(deaf, post("GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n") + get("/next"))
        self.assertEqual(answers.count("HTTP/1.1 200"), 2)
        self.assertNotIn("smuggled", answers)
        answers = self.answer(deaf, post("x" * 200_000) + get("/next"))
        self.assertEqual(answers.count("HTTP/1.1 200"), 1, "too much to throw away")

    def test_an_upgrade_is_answered_by_what_we_speak(self) -> None:
        more = "Connection: Upgrade\r\nUpgrade: h2c\r\n"
        self.assertIn("GET /up  b''", self.answer(echo, get("/up", more)))

    def test_headers_come_as_pep_3333_says_and_none_passes_for_another(self) -> None:
        seen: Environ = {}

        def look(environ: Environ, start: Start) -> Iterable[bytes]:
            seen.update(environ)
            start("200 OK", TEXT)
            return []

        more = "X-A: 1\r\nX-A: 2\r\nCookie: a=1\r\ncookie: b=2\r\nX_Forwarded_For: evil\r\nContent-Type: t/p\r\n"
        self.answer(look, get("/%C3%A4", more))
        self.assertEqual(seen["HTTP_X_A"], "1,2")
        self.assertEqual(seen["HTTP_COOKIE"], "a=1; b=2")
        self.assertEqual(seen["CONTENT_TYPE"], "t/p")
        self.assertEqual(seen["PATH_INFO"].encode("latin-1").decode(), "/ä")
        self.assertNotIn("HTTP_X_FORWARDED_FOR", seen)
        self.answer(look, "GET http://h:1/p/q?r HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual((seen["PATH_INFO"], seen["QUERY_STRING"]), ("/p/q", "r"))

    def test_what_is_no_request_for_us_is_refused(self) -> None:
        bad = {
            "garbage\r\n\r\n": "400",
            "GET / HTTP/1.1\r\n\r\n": "400",
            "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n": "400",
            "GET nowhere HTTP/1.1\r\nHost: x\r\n\r\n": "400",
            "GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n": "400",
            "GET / HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n": "400",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": "400",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd": "400",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n": "400",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n": "400",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n": "400",
            post("x", "Connection: Upgrade\r\nUpgrade: h2c\r\n"): "400",
            "CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n": "501",
        }
        with contextlib.redirect_stderr(self.said):
            for request, status in bad.items():
                with self.subTest(request):
                    answer = self.answer(echo, request)
                    self.assertTrue(answer.startswith(f"HTTP/1.1 {status} "), answer)
                    self.assertIn("Connection: close", answer)

    def test_what_stands_before_a_bad_request_is_answered(self) -> None:
        with contextlib.redirect_stderr(self.said):
            answers = self.answer(echo, get("/good") + "bad\r\n\r\n")
            self.assertEqual([answers.count(f"HTTP/1.1 {status} ") for status in (200, 400)], [1, 1])
            cut = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nx\r\n"
            self.assertTrue(self.answer(echo, cut).startswith("HTTP/1.1 400 "))

    def test_an_application_that_swallows_a_refusal_has_the_last_word(self) -> None:
        def stubborn(environ: Environ, start: Start) -> Iterable[bytes]:
            try:
                environ["wsgi.input"].read()
            except Exception:
                start("200 OK", TEXT)
                return [b"swallowed"]
            raise AssertionError("a body over the limit was read")

        chunks = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n"
        with contextlib.redirect_stderr(self.said):
            answer = self.answer(stubborn, chunks + get(), Limits(body_bytes=3))
        self.assertEqual(answer.count("HTTP/1.1 "), 1, answer)

    def test_every_limit_has_its_answer(self) -> None:
        small = Limits(head_bytes=200, headers=5, body_bytes=10)
        chunks = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + "2\r\nab\r\n" * 6 + "0\r\n\r\n"
        over = {
            get("/" + "x" * 300): "431",
            get("/", "A: " + "x" * 300 + "\r\n"): "431",
            get("/", "A: b\r\n" * 5): "431",
            "GET / HTTP/1.1\r\nHost: x\r\nA: " + "x" * 500_000: "431",
            post("x" * 11): "413",
            chunks: "413",
            chunks.replace("2\r\nab", "1;" + "e" * 100_000 + "\r\na"): "400",
        }
        with contextlib.redirect_stderr(self.said):
            for request, status in over.items():
                with self.subTest(request[:60]):
                    client = self.serve(echo, small)
                    with contextlib.suppress(ConnectionError):
                        client.sendall(request.encode())
                    got = until(client, "\r\n")
                    self.assertTrue(got.startswith(f"HTTP/1.1 {status} "), got)
                    client.close()
            self.assertTrue(self.answer(echo, post("x" * 10), small).startswith("HTTP/1.1 200 "))

    def test_a_client_that_does_not_go_on_is_left(self) -> None:
        soon = Limits(head_s=0.05, keep_alive_s=0.05, io_s=0.05)
        with contextlib.redirect_stderr(self.said):
            silent, slow = self.serve(echo, soon), self.serve(echo, soon)
            slow.sendall(b"GET / HT")
            self.assertEqual(everything(silent), "")
            self.assertTrue(everything(slow).startswith("HTTP/1.1 408 "))
            kept, half = self.serve(echo, soon), self.serve(echo, soon)
            kept.sendall(get().encode())
            self.assertTrue(everything(kept).endswith("b''"), "closed without a word")
            half.sendall(post("abc")[:-1].encode())
            self.assertEqual(everything(half), "")


class Answers(Served):
    def test_an_application_and_the_server_keep_pep_3333(self) -> None:
        # Its complaints are exceptions, which would be an answer with 500.
        valid = wsgiref.validate.validator(lambda environ, start: _valid(environ, start))
        for request in (get("/"), get("/a%20b?c"), get("/", version="1.0"), "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", post("ab")):
            answer = self.answer(valid, request)
            self.assertIn("200 OK", answer, self.said.getvalue())

    def test_every_way_to_read_and_to_answer_keeps_pep_3333(self) -> None:
        reads: dict[str, Callable[[Any], bytes]] = {
            "read": lambda body: bytes(body.read(3)) + bytes(body.read(100)),
            "readline": lambda body: b"".join(iter(body.readline, b"")),
            "readlines": lambda body: b"".join(body.readlines()),
            "iterate": lambda body: b"".join(body),
            "nothing": lambda _body: b"ab\ncd\n",
        }

        def write(start: Start, body: bytes) -> Iterable[bytes]:
            start("200 OK", TEXT)(body)
            return []

        def generate(start: Start, body: bytes) -> Iterator[bytes]:
            start("200 OK", TEXT)
            for byte in body:
                yield bytes([byte])

        def mend(start: Start, body: bytes) -> Iterable[bytes]:
            start("500 Not Yet", TEXT)
            try:
                raise KeyError("early")
            except KeyError:
                start("200 OK", TEXT, sys.exc_info())
            return [body]

        answers = {"write": write, "generate": generate, "mend": mend}
        chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab\n\r\n3\r\ncd\n\r\n0\r\n\r\n"
        asking = post("ab\ncd\n", "Expect: 100-continue\r\n")
        for (how, read), (by, reply), request in itertools.product(
            reads.items(), answers.items(), (post("ab\ncd\n"), chunked, asking, post("ab\ncd\n").replace("1.1", "1.0"))
        ):
            with self.subTest(f"{how}, {by}, {request!r}"):
                app = wsgiref.validate.validator(lambda environ, start: reply(start, read(environ["wsgi.input"])))
                answer = self.answer(app, request)
                self.assertEqual(understood(answer), (200, b"ab\ncd\n"), answer + self.said.getvalue())

    def test_an_answer_without_a_body_keeps_pep_3333(self) -> None:
        @wsgiref.validate.validator
        def empty(environ: Environ, start: Start) -> Iterable[bytes]:
            start(f"{environ['PATH_INFO'][1:]} x", [] if environ["PATH_INFO"] != "/200" else TEXT)
            return []

        for status, method in itertools.product(("200", "204", "304"), ("GET", "HEAD", "OPTIONS")):
            with self.subTest(f"{method} {status}"):
                answer = self.answer(empty, f"{method} /{status} HTTP/1.1\r\nHost: x\r\n\r\n")
                self.assertTrue(answer.startswith(f"HTTP/1.1 {status} x"), answer + self.said.getvalue())

    def test_a_body_has_the_framing_that_its_length_asks_for(self) -> None:
        def app(pieces: Iterable[bytes], headers: list[tuple[str, str]] = []) -> Application:
            def application(environ: Environ, start: Start) -> Iterable[bytes]:
                start("200 OK", TEXT + headers)
                return pieces

            return application

        self.assertRegex(self.answer(app([b"ab"]), get()), r"Content-Length: 2\r\n(.|\n)*\r\n\r\nab$")
        self.assertRegex(self.answer(app(iter([b"ab", b"", b"c"])), get()), r"chunked(.|\n)*\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n$")
        self.assertRegex(self.answer(app([]), get()), r"Transfer-Encoding: chunked|Content-Length: 0")
        old = self.answer(app(iter([b"ab", b"c"])), get(version="1.0", more="Connection: keep-alive\r\n"))
        self.assertRegex(old, r"Connection: close(.|\n)*\r\n\r\nabc$")
        kept = self.answer(app([b"ab"]), get(version="1.0", more="Connection: keep-alive\r\n"))
        self.assertIn("Connection: keep-alive", kept)
        head = self.answer(app([b"ab"], [("Content-Length", "2")]), "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertTrue(head.endswith("\r\n\r\n") and "Content-Length: 2" in head, head)

    def test_an_answer_that_has_no_body_gets_none(self) -> None:
        def application(environ: Environ, start: Start) -> Iterable[bytes]:
            start(environ["PATH_INFO"][1:] + " x", [])
            return [b"surplus"]

        for status in ("204", "304"):
            answers = self.answer(application, get(f"/{status}") * 2)
            self.assertEqual(answers.count(f"HTTP/1.1 {status} x"), 2, answers)
            self.assertNotIn("surplus", answers)
            self.assertNotIn("chunked", answers)

    def test_write_sends_and_what_is_returned_is_closed(self) -> None:
        closed: list[bool] = []

        class Pieces:
            def __iter__(self) -> Iterator[bytes]:
                return iter([b"c"])

            def close(self) -> None:
                closed.append(True)

        def application(environ: Environ, start: Start) -> Iterable[bytes]:
            write = start("200 OK", TEXT)
            write(b"ab")
            return Pieces()

        self.assertIn("2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", self.answer(application, get()))
        self.assertEqual(closed, [True])

    def test_what_fails_before_its_first_byte_is_an_answer_and_later_an_end(self) -> None:
        def early(environ: Environ, start: Start) -> Iterable[bytes]:
            start("200 OK", TEXT)
            raise KeyError("early")

        def late(environ: Environ, start: Start) -> Iterator[bytes]:
            start("200 OK", TEXT)
            yield b"ab"
            raise KeyError("late")

        def mended(environ: Environ, start: Start) -> Iterable[bytes]:
            start("200 OK", TEXT)
            try:
                raise KeyError
            except KeyError:
                start("503 Sorry", TEXT, sys.exc_info())
            return [b"mended"]

        with contextlib.redirect_stderr(self.said):
            self.assertTrue(self.answer(early, get()).startswith("HTTP/1.1 500 "))
            cut = self.answer(late, get())
            self.assertTrue(cut.endswith("2\r\nab\r\n"), cut)
            self.assertTrue(self.answer(mended, get()).startswith("HTTP/1.1 503 Sorry"))
            broken = self.answer(_raises(BrokenPipeError("of a database")), get())
            self.assertTrue(broken.startswith("HTTP/1.1 500 "), "it is not the client who has gone")
        self.assertIn("KeyError: 'early'", self.said.getvalue())
        self.assertIn("KeyError: 'late'", self.said.getvalue())

    def test_what_is_no_answer_is_said_in_the_log(self) -> None:
        def app(status: str, headers: list[tuple[str, str]], piece: object = b"x") -> Application:
            def application(environ: Environ, start: Start) -> Any:
                start(status, headers)
                return [piece]

            return application

        with contextlib.redirect_stderr(self.said):
            for application in (
                app("200", []),
                app("200 OK", [("A", "b\r\nC: d")]),
                app("200 OK", [("A b", "c")]),
                app("200 OK", [("Transfer-Encoding", "chunked")]),
                app("200 OK", [("Content-Length", "x")]),
                app("200 OK", TEXT, "text"),
                lambda environ, start: [b"x"],
            ):
                self.assertTrue(self.answer(application, get()).startswith("HTTP/1.1 500 "))
            short = self.answer(app("200 OK", [("Content-Length", "2")]), get() * 2)
            long = self.answer(app("200 OK", [("Content-Length", "0")]), get() * 2)
        self.assertEqual((short.count("200 OK"), long.count("200 OK")), (1, 1), "their framing is spoilt")
        self.assertFalse(long.endswith("x"))
        for words in ("a status of '200'", "which is the server's", "1 bytes fewer", "1 bytes more", "str, not bytes"):
            self.assertIn(words, self.said.getvalue())

    def test_each_request_has_a_line_in_the_access_log(self) -> None:
        log = io.StringIO()
        with contextlib.redirect_stdout(log):
            client = self.serve(echo, logs=True)
            client.sendall(get('/a"b', "Connection: close\r\n").encode())
            everything(client)
            self.threads[-1].join()
        line = f'access conn=c0 peer=uid:{os.getuid()} method=GET target="/a\\"b" status=200 bytes='
        self.assertIn(line, log.getvalue())


class Draining(Served):
    def drain(self) -> None:
        self.fake.station.advance(Stage.DRAINING)
        os.eventfd_write(self.drained, 1)

    def test_an_idle_connection_is_closed_and_a_request_is_answered_with_a_farewell(self) -> None:
        idle, busy = self.serve(echo), None
        idle.sendall(get().encode())
        until(idle, "b''")
        begun, goes_on = threading.Event(), threading.Event()

        def slow(environ: Environ, start: Start) -> Iterable[bytes]:
            begun.set()
            goes_on.wait(20)
            start("200 OK", TEXT)
            return [b"done"]

        busy = self.serve(slow)
        busy.sendall((get() * 2).encode())
        begun.wait(20)
        self.drain()
        self.assertEqual(everything(idle), "")
        goes_on.set()
        self.assertTrue(until(busy, "done").startswith("HTTP/1.1 200 OK"))
        self.assertIn("Connection: close", everything(busy), "of two requests that were sent both are answered")

    def test_the_first_request_of_a_connection_is_waited_for_and_the_last(self) -> None:
        self.drain()
        client = self.serve(echo)
        client.sendall(get().encode())
        self.assertIn("Connection: close", everything(client))


class Marking(unittest.TestCase):
    def test_a_connection_is_busy_from_a_whole_head_to_the_end_of_its_answer(self) -> None:
        fake = Fake(marks_are_read=True)
        self.addCleanup(fake.close)
        client = fake.hand()
        connection = fake.worker.next()
        assert connection is not None
        signs: list[int] = []

        def look(environ: Environ, start: Start) -> Iterable[bytes]:
            signs.append(fake.region[65])
            start("200 OK", TEXT)
            return [b"x"]

        client.sendall(get().encode())
        client.shutdown(socket.SHUT_WR)
        with connection:
            Talk(connection, look, Limits(), fake.mailbox.fileno(), False, False).run()
            signs.append(fake.region[65])
        self.assertGreater(signs[0], 2)
        self.assertEqual(signs[1:] + [fake.region[65]], [1, 0])


def _raises(problem: Exception) -> Application:
    def application(environ: Environ, start: Start) -> Iterable[bytes]:
        raise problem

    return application


def _valid(environ: Environ, start: Start) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


if __name__ == "__main__":
    unittest.main()
