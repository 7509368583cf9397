"""Says what travels on a worker's control channel (docs/protocol.md, shared/src/wire.rs).

One frame is one message: a version byte, then a postcard value, which is the number of a variant and its fields, all of them
varints. A frame from the other side is a claim: what is not one whole frame of this version is a `BadFrame`.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple, Union

PROTOCOL: Final = 1
FRAME_VERSION: Final = 1
FRAME_MAX: Final = 512
"""Longest frame, in bytes."""
TEXT_MAX: Final = 256
"""Longest text inside a frame, in bytes."""
FORK_DESCRIPTORS: Final = 7
"""What comes along with Fork: mailbox, control channel, region, gauges, doorbell, standard output, standard error."""


class Welcome(NamedTuple):
    """The answer to Hello."""

    protocol: int
    concurrency: int
    drain_timeout_ms: int
    heartbeat_ms: int
    """After how long a silent worker is taken for wedged; 0: nobody looks."""
    marks_are_read: bool


class Drain(NamedTuple):
    """Claim what is in the mailbox to its end, finish it, then leave."""


class Ping(NamedTuple):
    """Answer with a Pong."""

    nonce: int


class Fork(NamedTuple):
    """To a template: fork a worker. The descriptors of its place come along."""

    request: int
    slot: int


ToWorker = Union[Welcome, Drain, Ping, Fork]


class NoFork(enum.Enum):
    """Why a template forks no worker."""

    SHORTAGE = 0
    UNFIT = 1


class BadFrame(ValueError):
    """Bytes that are not a frame to a worker of this protocol."""


READY: Final = bytes([FRAME_VERSION, 1])
DRAINING: Final = bytes([FRAME_VERSION, 2])
LOADED: Final = bytes([FRAME_VERSION, 6])


def hello(library: str) -> bytes:
    """The first frame: who speaks."""
    return bytes([FRAME_VERSION, 0]) + _introduction(library)


def hello_of_template(library: str) -> bytes:
    """The first frame of a template."""
    return bytes([FRAME_VERSION, 5]) + _introduction(library)


def _introduction(library: str) -> bytes:
    text = library.encode()
    if len(text) > TEXT_MAX:
        raise BadFrame(f"a frame with a text of {len(text)} bytes (at most {TEXT_MAX})")
    return varint(PROTOCOL) + varint(len(text)) + text


def forked(request: int, pid: int) -> bytes:
    """A template's answer to Fork: this is the worker."""
    return bytes([FRAME_VERSION, 7]) + varint(request) + varint(pid)


def not_forked(request: int, why: NoFork, text: str) -> bytes:
    """A template's answer to Fork: there is none. A long text is cut."""
    words = text.encode()[:TEXT_MAX].decode(errors="ignore").encode()
    return bytes([FRAME_VERSION, 8]) + varint(request) + varint(why.value) + varint(len(words)) + words


def pong(nonce: int) -> bytes:
    """The answer to a Ping."""
    return bytes([FRAME_VERSION, 3]) + varint(nonce)


def decode(frame: bytes) -> ToWorker:
    """Reads a frame that came from the supervisor, or raises `BadFrame`."""
    if len(frame) > FRAME_MAX:
        raise BadFrame(f"a frame has at most {FRAME_MAX} bytes, this has {len(frame)}")
    if not frame:
        raise BadFrame("an empty frame")
    if frame[0] != FRAME_VERSION:
        raise BadFrame(f"a frame of version {frame[0]} is not understood (this library reads {FRAME_VERSION})")
    reader = _Reader(frame)
    message = _read(reader)
    reader.expect_end()
    return message


def varint(number: int) -> bytes:
    """Seven bits per byte, the lowest first, the high bit set on all but the last."""
    assert 0 <= number < 1 << 64, number
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read(reader: _Reader) -> ToWorker:
    variant = reader.varint(32)
    if variant == 0:
        return Welcome(
            protocol=reader.varint(16),
            concurrency=reader.varint(32),
            drain_timeout_ms=reader.varint(64),
            heartbeat_ms=reader.varint(64),
            marks_are_read=reader.choice(2) == 1,
        )
    if variant == 1:
        return Drain()
    if variant == 2:
        return Ping(reader.varint(64))
    if variant == 3:
        return Fork(request=reader.varint(64), slot=reader.varint(32))
    raise BadFrame(f"a frame of the unknown kind {variant}")


class _Reader:
    """Takes varints off a frame, and never more than there is."""

    def __init__(self, frame: bytes) -> None:
        self._frame = frame
        self._at = 1

    def varint(self, bits: int) -> int:
        number = shift = 0
        while shift < bits:
            if self._at == len(self._frame):
                raise BadFrame("a frame that ends in the middle of a number")
            byte = self._frame[self._at]
            self._at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                if number >> bits:
                    break
                return number
        raise BadFrame(f"a frame with a number of more than {bits} bits")

    def choice(self, count: int) -> int:
        """The number of a variant that has no fields, of so many."""
        variant = self.varint(32)
        if variant >= count:
            raise BadFrame(f"a frame with choice {variant} of {count}")
        return variant

    def expect_end(self) -> None:
        if self._at != len(self._frame):
            raise BadFrame(f"a frame with {len(self._frame) - self._at} bytes left over")
