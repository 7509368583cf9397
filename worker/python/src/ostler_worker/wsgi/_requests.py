"""Reads requests off a connection. The parser is llhttp, by httptools; here are the limits.

Nothing is read ahead of what is asked for, but for what one read brings.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from typing import NamedTuple, Optional

import httptools

from ._limits import CHUNK_OVERHEAD, READ_BYTES, Limits


class Refused(Exception):
    """A request that is not served. The connection is closed behind the answer."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(f"{status}: {why}")
        self.status = status


class ClientGone(ConnectionAbortedError):
    """The client left, or fell silent, in the middle of a request."""


class Head(NamedTuple):
    """What stands before a request's body."""

    method: str
    target: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    """Names in lower case."""
    keeps_alive: bool
    names: list[bytes]
    """Those of `headers` alone, for a quick look whether one is there."""

    def all(self, name: bytes) -> list[bytes]:
        """The values of one header."""
        return [value for key, value in self.headers if key == name] if name in self.names else []

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits to be asked for the body."""
        return self.version == "1.1" and any(value.lower() == b"100-continue" for value in self.all(b"expect"))


class Requests:
    """The requests of one connection, one after the other: `head`, then `body` until it is empty."""

    def __init__(self, stream: socket.socket, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        # Of the requests that were parsed and not asked for yet: a head, pieces of its body, None at its end.
        self._parsed: deque[Head | bytes | None] = deque()
        self._refused: Optional[Refused] = None
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._is_in_head = False
        self._has_begun = False
        self._head_bytes = 0
        self._line_bytes = 0
        self._body_bytes = 0
        self._overhead = 0

    @property
    def has_another(self) -> bool:
        """Whether the client has begun to ask once more while it waits for an answer."""
        return self._is_in_head or any(isinstance(parsed, Head) for parsed in self._parsed)

    @property
    def has_begun(self) -> bool:
        """Whether a byte of a request is there that was not asked for."""
        return self._has_begun or bool(self._parsed) or self._refused is not None

    def look(self) -> bool:
        """Takes what the client has sent by now. Whether it has said anything, be it by leaving. Raises `ClientGone`."""
        data = self._receive()
        if data:
            self._feed(data)
        return data is not None

    def head(self, deadline: float) -> Optional[Head]:
        """The next request; `None` when the client leaves between two. Raises `Refused` or `ClientGone`."""
        while not self._parsed:
            self._raise_refusal()
            data = self._read(deadline)
            if data is None:
                if self._has_begun:
                    raise Refused("408 Request Timeout", "its head did not come in time")
                return None
            if not data:
                if self._has_begun:
                    raise ClientGone("the client left in the middle of a head")
                return None
            self._feed(data)
        head = self._parsed.popleft()
        assert isinstance(head, Head), "the body before was read to its end"
        return head

    def body(self) -> bytes:
        """More of the body of the request whose head came last; empty at its end. Raises `Refused` or `ClientGone`."""
        while not self._parsed:
            self._raise_refusal()
            data = self._read(time.monotonic() + self._limits.io_s)
            if not data:
                raise ClientGone("the client left, or fell silent, in the middle of a body")
            self._feed(data)
        piece = self._parsed.popleft()
        assert not isinstance(piece, Head), "a body ends with None"
        return b"" if piece is None else piece

    def end(self) -> None:
        """Lets the parser go, which refers back to this: so that no garbage is left to be collected."""
        del self._parser

    def skip_empty_body(self) -> bool:
        """Goes behind the body of the request whose head came last, if it is known to be empty; whether it is."""
        if self._parsed and self._parsed[0] is None:
            self._parsed.popleft()
            return True
        return False

    def body_is_here(self) -> bool:
        """Whether the whole body has come."""
        return None in self._parsed

    def _read(self, deadline: float) -> Optional[bytes]:
        """What the client sends; empty when it has left, `None` at the deadline."""
        while (data := self._receive()) is None:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            news = select.poll()
            news.register(self._stream, select.POLLIN)
            news.poll(left_s * 1000 + 1)
        return data

    def _receive(self) -> Optional[bytes]:
        """What has come; empty when the client has left, `None` when nothing is there."""
        try:
            return self._stream.recv(READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError as problem:
            raise ClientGone(f"the client has gone: {problem}") from None

    def _feed(self, data: bytes) -> None:
        was_in_head, body_before = self._is_in_head, self._body_bytes
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # its answer is that of a server which upgrades nothing
        except httptools.HttpParserError as problem:
            self._refuse("400 Bad Request", str(problem) or type(problem).__name__)
        if was_in_head and self._is_in_head:
            self._head_bytes += len(data)
            self._check_head()
        elif not was_in_head and not self._is_in_head and self._has_begun:
            self._overhead += len(data) - (self._body_bytes - body_before)
            if self._overhead > self._limits.head_bytes + CHUNK_OVERHEAD * self._body_bytes:
                self._refuse("400 Bad Request", "a body of little more than framing")

    def _refuse(self, status: str, why: str) -> None:
        """Nothing more is parsed. It is raised when what stands before it is served; the first reason counts."""
        if self._refused is None:
            self._refused = Refused(status, why)

    def _raise_refusal(self) -> None:
        if self._refused is not None:
            raise self._refused

    def _add(self, parsed: Head | bytes | None) -> None:
        if self._refused is None:
            self._parsed.append(parsed)

    def _check_head(self) -> None:
        if self._head_bytes > self._limits.head_bytes:
            self._refuse("431 Request Header Fields Too Large", f"a head of more than {self._limits.head_bytes} bytes")
        if len(self._headers) > self._limits.headers:
            self._refuse("431 Request Header Fields Too Large", f"more than {self._limits.headers} header lines")

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._target, self._headers = b"", []
        self._is_in_head = self._has_begun = True
        self._head_bytes = self._line_bytes = self._body_bytes = self._overhead = 0

    def on_url(self, piece: bytes) -> None:
        self._target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:  # those behind a body are nobody's
            value = value.rstrip(b" \t")
            self._headers.append((name.lower(), value))
            self._line_bytes += len(name) + len(value) + 4
            if len(self._headers) > self._limits.headers:
                self._check_head()

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._head_bytes = len(self._target) + self._line_bytes
        self._check_head()
        upgrades = self._parser.should_upgrade()
        names = [name for name, _value in self._headers]
        head = Head(
            method=self._parser.get_method().decode("ascii"),
            target=self._target,
            version=self._parser.get_http_version(),
            headers=self._headers,
            keeps_alive=self._parser.should_keep_alive() and not upgrades,
            names=names,
        )
        try:
            _check(head, upgrades, self._limits)
        except Refused as refused:
            self._refused = self._refused or refused
        self._add(head)

    def on_body(self, piece: bytes) -> None:
        self._body_bytes += len(piece)
        if self._body_bytes > self._limits.body_bytes:
            self._refuse("413 Content Too Large", f"a body of more than {self._limits.body_bytes} bytes")
        self._add(piece)

    def on_message_complete(self) -> None:
        self._has_begun = False
        self._add(None)


def _check(head: Head, upgrades: bool, limits: Limits) -> None:
    """What llhttp lets through and is not for us."""
    lengths = head.all(b"content-length")
    if lengths and int(lengths[0]) > limits.body_bytes:
        raise Refused("413 Content Too Large", f"a body of more than {limits.body_bytes} bytes")
    if head.version not in ("1.0", "1.1"):
        raise Refused("505 HTTP Version Not Supported", f"HTTP/{head.version}")
    hosts = head.names.count(b"host")
    if hosts > 1 or (hosts == 0 and head.version == "1.1"):
        raise Refused("400 Bad Request", "a request needs one Host")
    if head.method == "CONNECT":
        raise Refused("501 Not Implemented", "this is no proxy")
    if upgrades and (any(length.strip(b"0") for length in lengths) or head.all(b"transfer-encoding")):
        # The parser takes what follows for another protocol, so it can't be told where the body ends.
        raise Refused("400 Bad Request", "an upgrade with a body")
