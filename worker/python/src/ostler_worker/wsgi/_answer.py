"""Sends what an application answers (PEP 3333), in the framing that the client understands."""

from __future__ import annotations

import functools
import re
import select
import socket
import time
from email.utils import formatdate
from typing import Any, Callable, Final, Iterable, Optional

from ._limits import NAMES_KEPT, Limits
from ._requests import ClientGone, Head

Write = Callable[[bytes], object]

# RFC 9110: a token, and what a value may not have.
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_STATUS: Final = re.compile(r"[1-9]\d\d [^\r\n\0]*")
_NOT_IN_A_VALUE: Final = re.compile(r"[\r\n\0]")
_HOP_BY_HOP: Final = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "te", "trailer", "transfer-encoding", "upgrade")
)

_date: tuple[int, str] = (0, "")


def send(stream: socket.socket, data: bytes, longest_s: float) -> None:
    """Sends it all, or raises `ClientGone`, which no error of an application can be taken for.

    `longest_s` is how long the client may take none of it.
    """
    left: bytes | memoryview = data
    while True:
        try:
            sent = stream.send(left, socket.MSG_DONTWAIT)
        except BlockingIOError:
            _wait_for_room(stream, longest_s)
            continue
        except OSError as problem:
            raise ClientGone(f"the client left before its answer: {problem}") from None
        if sent == len(left):
            return
        left = memoryview(left)[sent:]


def _wait_for_room(stream: socket.socket, longest_s: float) -> None:
    room = select.poll()
    room.register(stream, select.POLLOUT)
    if not room.poll(longest_s * 1000 + 1):
        raise ClientGone("the client took nothing of its answer for too long")


def refusal(status: str) -> bytes:
    """The whole answer to a request that is not served."""
    text = f"{status}\n"
    head = f"HTTP/1.1 {status}\r\nDate: {_now()}\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\n"
    return f"{head}Connection: close\r\n\r\n{text}".encode("latin-1")


class BadAnswer(Exception):
    """What an application answered that is no answer."""


class Answer:
    """One answer. `keeps_alive` is what the connection's future looks like, and becomes false when that is spoilt."""

    def __init__(self, stream: socket.socket, head: Head, limits: Limits, is_last: Callable[[], bool]) -> None:
        self._stream = stream
        self._head = head
        self._io_s = limits.io_s
        self._is_last = is_last
        """Whether the server closes behind this answer whatever the client would like. Asked when it has to be said."""
        self.keeps_alive = head.keeps_alive and limits.keep_alive_s > 0
        self.status = ""
        self.is_begun = False
        """Whether the client has seen any of it."""
        self.sent_bytes = 0
        self._headers: list[tuple[str, str]] = []
        self._names: list[str] = []
        """Of the headers, in lower case."""
        self._left: Optional[int] = None
        """How much of the announced length is still to come."""
        self._has_body = False
        self._is_chunked = False

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Write:
        """What PEP 3333 calls `start_response`."""
        if exc_info is not None:
            try:
                if self.is_begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # it refers to this frame
        elif self.status:
            raise BadAnswer("start_response was called twice without exc_info")
        if not _STATUS.fullmatch(status):
            raise BadAnswer(f"a status of {status!r}")
        names = []
        for name, value in headers:
            if _NOT_IN_A_VALUE.search(value):
                raise BadAnswer(f"a header of {name!r}: {value!r}")
            names.append(_checked_name(name))
        self.status, self._headers, self._names = status, list(headers), names
        return self.write

    def write(self, data: bytes) -> None:
        """Sends a piece of the body; the first one takes the head with it."""
        if data:
            self._send(data, None)

    def send_all(self, pieces: Iterable[bytes]) -> None:
        """Sends the body."""
        alone = isinstance(pieces, (list, tuple)) and len(pieces) == 1
        for piece in pieces:
            if piece:
                self._send(piece, len(piece) if alone else None)

    def finish(self) -> None:
        """Sends what is missing at the end."""
        if not self.is_begun:
            send(self._stream, self._begin(0), self._io_s)
        elif self._is_chunked:
            send(self._stream, b"0\r\n\r\n", self._io_s)
        if self._has_body and self._left:
            self.keeps_alive = False  # the client waits for the rest until it sees the end
            raise BadAnswer(f"{self._left} bytes fewer than its Content-Length says")

    def _send(self, data: bytes, whole: Optional[int]) -> None:
        if not isinstance(data, bytes):
            raise BadAnswer(f"a piece of the body that is {type(data).__name__}, not bytes")
        head = b"" if self.is_begun else self._begin(whole)
        if not self._has_body:
            data = b""
        surplus = len(data) - self._left if self._left is not None else 0
        if surplus > 0:
            data = data[: len(data) - surplus]
        if self._left is not None:
            self._left -= len(data)
        self.sent_bytes += len(data)
        framed = b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked and data else data
        if head or framed:
            send(self._stream, head + framed, self._io_s)
        if surplus > 0 and self._has_body:
            self.keeps_alive = False
            raise BadAnswer(f"{surplus} bytes more than its Content-Length says")

    def _begin(self, whole: Optional[int]) -> bytes:
        """The head. `whole` is the body's length where the application did not say it and it is known."""
        if not self.status:
            raise BadAnswer("start_response was not called before the first piece of the body")
        lines = [f"HTTP/1.1 {self.status}", *(f"{name}: {value}" for name, value in self._headers)]
        has_none = self.status[0] == "1" or self.status[:3] in ("204", "304")
        self._has_body = not has_none and self._head.method != "HEAD"
        if "content-length" in self._names:
            length = self._headers[self._names.index("content-length")][1]
            try:
                self._left = int(length)
            except ValueError:
                raise BadAnswer(f"a Content-Length of {length!r}") from None
        elif has_none:
            pass
        elif whole is not None and self._has_body:
            self._left = whole
            lines.append(f"Content-Length: {whole}")
        elif self._head.version == "1.1":
            self._is_chunked = self._has_body
            lines.append("Transfer-Encoding: chunked")
        else:
            self.keeps_alive = False  # its end is the end of the connection
        self.is_begun = True
        self.keeps_alive = self.keeps_alive and not self._is_last()
        if "date" not in self._names:
            lines.append(f"Date: {_now()}")
        if not self.keeps_alive:
            lines.append("Connection: close")
        elif self._head.version == "1.0":
            lines.append("Connection: keep-alive")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@functools.lru_cache(maxsize=NAMES_KEPT)
def _checked_name(name: str) -> str:
    """A header's name in lower case; `BadAnswer` where an application may not set it."""
    if not _NAME.fullmatch(name):
        raise BadAnswer(f"a header that is called {name!r}")
    if name.lower() in _HOP_BY_HOP:
        raise BadAnswer(f"the header {name}, which is the server's")
    return name.lower()


def _now() -> str:
    """The date as HTTP writes it, made once a second."""
    global _date
    second = int(time.time())
    if _date[0] != second:
        _date = (second, formatdate(second, usegmt=True))
    return _date[1]
