"""Leads one connection through its requests.

    idle ── a byte ──► head ──► application ──► answer ── kept alive ──► idle
      │ drain, keep_alive_s                        └── closes ──► linger ──► closed
      └──────────────────────────────────────────────────────────────► closed

A connection is busy to `watchdog.request` from a whole head to the end of its answer, so that a client which takes its time to
ask is not taken for an application that takes its time to answer.
"""

from __future__ import annotations

import contextlib
import io
import json
import select
import socket
import sys
import time
import traceback
from typing import IO, Any, Callable, Final, Iterable, Optional

from .._connection import Connection
from .._report import say
from .._ticket import Family
from ._answer import Answer, BadAnswer, refusal, send
from ._environ import Body, Server, environ_of
from ._limits import FRESH_S, LINGER_S, UNREAD_BYTES_MAX, Limits
from ._requests import ClientGone, Head, Refused, Requests

Application = Callable[..., Iterable[bytes]]

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Talk:
    """A connection and the application that it is led to. `drained` is readable when the worker shall leave."""

    def __init__(
        self,
        connection: Connection,
        application: Application,
        limits: Limits,
        drained: int,
        has_threads: bool,
        logs: bool,
    ) -> None:
        self._connection = connection
        self._stream = connection.socket
        self._application = application
        self._limits = limits
        self._drained = drained
        self._has_threads = has_threads
        self._logs = logs
        self._is_answering = False
        """Whether the client has seen some of an answer, so that another one would not be understood."""

    def run(self) -> None:
        """Serves the connection to its end, but for closing it."""
        try:
            if self._connection.ticket.family is not Family.UNIX:
                self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._server = Server.of(self._connection)
        except OSError as problem:
            raise ClientGone(f"the client has gone: {problem}") from None  # ENOTCONN: a reset came first
        marker = self._connection.mark_by_hand()
        requests = Requests(self._stream, self._limits)
        served = 0
        try:
            while self._comes_another(requests, served):
                head = requests.head(time.monotonic() + self._limits.head_s)
                if head is None:
                    return  # the client left between two requests
                served += 1
                with marker.busy():
                    goes_on = self._exchange(requests, head)
                if not goes_on:
                    if not head.keeps_alive and not requests.has_begun:
                        return  # its client said that it sends nothing more, and has kept to it
                    break
        except Refused as refused:
            say(f"refused conn=c{self._connection.ticket.conn}: {refused}")
            if not self._is_answering:
                send(self._stream, refusal(refused.status), self._limits.io_s)
        finally:
            requests.end()
        _linger(self._stream)

    def _comes_another(self, requests: Requests, served: int) -> bool:
        """Waits for the first byte of a request; whether one comes."""
        if requests.has_begun:
            return True
        if served == 0:
            # Most have asked before they were handed over.
            if requests.look():
                return True
            # A client that has just connected could not know that this worker leaves.
            longest_s = min(self._limits.head_s, FRESH_S) if self._connection.is_draining else self._limits.head_s
            return self._waits(longest_s, None)
        return self._waits(self._limits.keep_alive_s, self._drained)

    def _waits(self, longest_s: float, drained: Optional[int]) -> bool:
        news = select.poll()
        news.register(self._stream, select.POLLIN)
        if drained is not None:
            news.register(drained, select.POLLIN)
        ready = [fd for fd, _events in news.poll(longest_s * 1000)]
        # Who asked in the same moment is answered.
        return self._stream.fileno() in ready

    def _exchange(self, requests: Requests, head: Head) -> bool:
        """One request and its answer; whether the connection is kept."""
        began = time.monotonic()

        def is_last() -> bool:
            # What the client has sent already is answered, one after the other.
            return self._connection.is_draining and not requests.has_another

        answer = Answer(self._stream, head, self._limits, is_last)
        asks = head.expects_continue

        def more() -> bytes:
            nonlocal asks
            if asks and not requests.body_is_here() and not answer.is_begun:
                send(self._stream, _CONTINUE, self._limits.io_s)
            asks = False
            return requests.body()

        body = None if requests.skip_empty_body() else Body(more)
        file: IO[bytes] = io.BytesIO() if body is None else io.BufferedReader(body)
        environ = environ_of(head, self._server, self._connection, file, self._has_threads)
        try:
            self._answer(answer, environ)
            if body is not None and not body.is_at_end and not _throw_away(body, asks):
                answer.keeps_alive = False
            self._is_answering = False
        finally:
            if self._logs:
                self._log(head, answer, time.monotonic() - began)
        return answer.keeps_alive

    def _answer(self, answer: Answer, environ: dict[str, Any]) -> None:
        try:
            try:
                pieces = self._application(environ, answer.start)
                try:
                    answer.send_all(pieces)
                    answer.finish()
                finally:
                    close = getattr(pieces, "close", None)
                    if close is not None:
                        close()
            finally:
                self._is_answering = answer.is_begun
        except (Refused, ClientGone):
            raise
        except Exception as problem:
            # What was begun ends here, without its end: the client sees that something is missing.
            answer.keeps_alive = False
            trace = "".join(traceback.format_exception(type(problem), problem, problem.__traceback__)).rstrip()
            what = str(problem) if isinstance(problem, BadAnswer) else f"it raised {type(problem).__name__}\n{trace}"
            say(f"the application failed conn=c{self._connection.ticket.conn}: {what}")
            if not answer.is_begun:
                answer.is_begun, answer.status = True, "500 Internal Server Error"
                send(self._stream, refusal(answer.status), self._limits.io_s)

    def _log(self, head: Head, answer: Answer, took_s: float) -> None:
        ticket = self._connection.ticket
        who = self._server.address or (f"uid:{ticket.peer.uid}" if ticket.peer is not None else "-")
        target = json.dumps(head.target.decode("latin-1"))
        line = f"access conn=c{ticket.conn} peer={who} method={head.method} target={target}"
        status = answer.status[:3] if answer.is_begun else "-"
        with contextlib.suppress(OSError, ValueError):
            # In one piece, since other threads write too.
            sys.stdout.write(f"{line} status={status} bytes={answer.sent_bytes} took={took_s * 1000:.1f}ms\n")
            sys.stdout.flush()


def _throw_away(body: Body, asks: bool) -> bool:
    """Reads what the application left unread; whether that was all, and not too much. Who waits to be asked sends nothing."""
    if asks:
        return False
    left = UNREAD_BYTES_MAX
    while left > 0:
        piece = body.read(left)
        if not piece:
            return True
        left -= len(piece)
    return False


def _linger(stream: socket.socket) -> None:
    """Ends our side and reads the client's to its end, for a while: closing a socket that holds an unread request would reset
    the connection and could overtake the answer (tcp(7), unix(7))."""
    deadline = time.monotonic() + LINGER_S
    with contextlib.suppress(OSError):
        stream.shutdown(socket.SHUT_WR)
        stream.settimeout(LINGER_S)
        while time.monotonic() < deadline and stream.recv(UNREAD_BYTES_MAX):
            pass
