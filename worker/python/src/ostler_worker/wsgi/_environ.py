"""Says to an application what was asked (PEP 3333)."""

from __future__ import annotations

import functools
import io
import sys
from typing import IO, Any, Callable, Final, NamedTuple
from urllib.parse import unquote_to_bytes

import httptools

from .._connection import Connection
from .._ticket import Family
from ._limits import NAMES_KEPT
from ._requests import Head, Refused

Environ = dict[str, Any]

_PLAIN: Final = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
_JOINTS: Final = {b"cookie": "; "}


class Server(NamedTuple):
    """What all requests of one connection have in common."""

    name: str
    port: str
    address: str
    client_port: str

    @classmethod
    def of(cls, connection: Connection) -> Server:
        """Over TCP what the sockets say; a Unix socket has no names that a URL could have."""
        if connection.ticket.family is Family.UNIX:
            return cls("localhost", "80", "", "")
        here, there = connection.socket.getsockname(), connection.socket.getpeername()
        return cls(str(here[0]), str(here[1]), str(there[0]), str(there[1]))


class Body(io.RawIOBase):
    """A request's body as a file. Where the client waits to be asked for it, the first read asks."""

    def __init__(self, more: Callable[[], bytes]) -> None:
        self._more = more
        self._rest = b""
        self.is_at_end = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest and not self.is_at_end:
            self._rest = self._more()
            self.is_at_end = not self._rest
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def environ_of(head: Head, server: Server, connection: Connection, body: IO[bytes], has_threads: bool) -> Environ:
    """The environment of one request, or raises `Refused`."""
    path, query = _split(head)
    environ: Environ = {
        "REQUEST_METHOD": head.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": (unquote_to_bytes(path) if b"%" in path else path).decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
        "RAW_URI": head.target.decode("latin-1"),
        "SERVER_NAME": server.name,
        "SERVER_PORT": server.port,
        "SERVER_PROTOCOL": f"HTTP/{head.version}",
        "SERVER_SOFTWARE": "ostler-worker",
        "REMOTE_ADDR": server.address,
        "REMOTE_PORT": server.client_port,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": body,
        "wsgi.input_terminated": True,  # read to its end, whatever Content-Length says: chunked bodies have none
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": has_threads,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "ostler.connection": connection,
    }
    for name, value in head.headers:
        key = _key(name)
        if not key:
            continue
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]}{_JOINTS.get(name, ',')}{text}" if key in environ else text
    return environ


@functools.lru_cache(maxsize=NAMES_KEPT)
def _key(name: bytes) -> str:
    """What PEP 3333 calls a header; nothing for one that is left out."""
    if b"_" in name:
        return ""  # it would pass for the one with a hyphen, which a proxy in front may have removed
    return _PLAIN.get(name) or "HTTP_" + name.decode("latin-1").upper().replace("-", "_")


def _split(head: Head) -> tuple[bytes, bytes]:
    """Path and query of what was asked for, which is a path, or a whole URL from a client that takes us for a proxy."""
    if head.target.startswith(b"/"):
        path, _, query = head.target.partition(b"?")
        return path.partition(b"#")[0], query.partition(b"#")[0]
    if head.target == b"*" and head.method == "OPTIONS":
        return b"*", b""
    try:
        url = httptools.parse_url(head.target)
    except httptools.HttpParserInvalidURLError:
        raise Refused("400 Bad Request", "a target that is no URL") from None
    return url.path or b"/", url.query or b""
