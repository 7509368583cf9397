"""Speaks with the supervisor over the control channel.

A frame is never lost because the supervisor is slow: `send` waits until there is room. When the supervisor is gone there is
nobody to tell, and frames are dropped. Sends of several threads don't mix, since a message is written whole.
"""

from __future__ import annotations

import enum
import errno
import select
import socket
import time
from typing import Final, Union

from ._errors import GreetingError
from ._version import VERSION
from ._wire import FRAME_MAX, PROTOCOL, BadFrame, Drain, Fork, Ping, ToWorker, Welcome, decode, hello, pong

WELCOME_TIMEOUT_S: Final = 10.0
"""How long a worker waits for the supervisor's answer to its Hello."""
_RETRY_MS: Final = 1000
"""Longest wait for room in the channel before a frame is tried again."""
_SHORTAGES: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})


LIBRARY: Final = f"ostler-worker {VERSION} (Python)"


class Silence(enum.Enum):
    """What is heard where there is no frame that is understood."""

    UNKNOWN = "something that this library does not understand; a newer supervisor may say such things"
    NOTHING = "nothing for now"
    GONE = "the supervisor is gone"


Heard = Union[ToWorker, Silence]


class Control:
    """A worker's end of its control channel."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def fileno(self) -> int:
        return self._channel.fileno()

    def send(self, frame: bytes) -> None:
        """Sends one frame and waits for room if need be."""
        while not self.try_send(frame):
            room = select.poll()
            room.register(self._channel, select.POLLOUT)
            room.poll(_RETRY_MS)

    def try_send(self, frame: bytes) -> bool:
        """Whether it is settled: the frame is in the channel, or nobody is there to read it."""
        try:
            self._channel.send(frame, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError as problem:
            return problem.errno not in _SHORTAGES
        return True

    def hear(self) -> Heard:
        """Receives one frame without waiting."""
        try:
            frame = self._channel.recv(FRAME_MAX + 1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return Silence.NOTHING
        except OSError:
            return Silence.GONE  # ECONNRESET: it went without reading all that we had sent (unix(7))
        if not frame:
            return Silence.GONE
        try:
            return decode(frame)
        except BadFrame:
            return Silence.UNKNOWN


def greet(control: Control, longest_s: float) -> Welcome:
    """Says Hello and waits for the Welcome, or raises `GreetingError`."""
    return introduce(control, hello(LIBRARY), longest_s)


def introduce(control: Control, frame: bytes, longest_s: float) -> Welcome:
    """As `greet`, with this frame."""
    deadline = time.monotonic() + longest_s
    control.send(frame)
    while True:
        heard = control.hear()
        if isinstance(heard, Welcome):
            return _checked(heard)
        if isinstance(heard, Ping):
            control.send(pong(heard.nonce))
        elif isinstance(heard, (Drain, Fork)):
            pass  # the mailbox says the same, and for longer
        elif heard is Silence.UNKNOWN:
            raise GreetingError("the supervisor's answer makes no sense: it is not a frame of this protocol")
        elif heard is Silence.GONE:
            raise GreetingError("the supervisor closed the control channel (its log may say why)")
        else:
            _wait_until(control, deadline, longest_s)


def _checked(welcome: Welcome) -> Welcome:
    if welcome.protocol != PROTOCOL:
        raise GreetingError(
            f"the supervisor speaks protocol {welcome.protocol}, this worker {PROTOCOL}: "
            "install both from the same release"
        )
    if welcome.concurrency == 0:
        raise GreetingError("the supervisor's answer makes no sense: a concurrency of 0")
    return welcome


def _wait_until(control: Control, deadline: float, longest_s: float) -> None:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise GreetingError(f"the supervisor did not answer within {longest_s:g}s")
    answer = select.poll()
    answer.register(control, select.POLLIN)
    answer.poll(left_s * 1000 + 1)  # rounded up, so that the wait is not a spin at its end
