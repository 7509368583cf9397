"""Finds out from the environment which place this process has, and takes over the descriptors that belong to it."""

from __future__ import annotations

import os
import re
import shlex
import socket
import sys
from typing import Final, Mapping, NamedTuple, Optional

from ._errors import BadEnvironment, NotOurs, NotStarted, OtherProtocol
from ._wire import PROTOCOL

MAILBOX_FD: Final = 3
TEMPLATE: Final = "OSTLER_TEMPLATE"
"""Present in the environment where this process is to be a template."""

_POOL: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_SLOT_AND_GENERATION: Final = re.compile(r"(\d+)\.(\d+)", re.ASCII)


class WorkerName(NamedTuple):
    """What a worker is called in every log: `pool/slot.generation`."""

    pool: str
    slot: int
    generation: int

    def __str__(self) -> str:
        return f"{self.pool}/{self.slot}.{self.generation}"


class Place(NamedTuple):
    """What the environment says."""

    name: WorkerName
    control: int
    region: int
    gauges: int
    doorbell: int
    mailbox: int = MAILBOX_FD
    listeners: int = 0
    """How many it has, from `MAILBOX_FD` on; none where connections come in the mailbox."""


def read_place(environment: Mapping[str, str]) -> Place:
    """Reads the environment, or raises the `ConnectError` that names what is wrong with it."""
    protocol = environment.get("OSTLER_PROTOCOL")
    if protocol is None:
        raise NotStarted(shlex.join(sys.orig_argv))
    if protocol != str(PROTOCOL):
        raise OtherProtocol(
            f"started by an ostler of protocol {protocol!r}, this worker speaks {PROTOCOL}: "
            "install both from the same release"
        )
    pool = environment.get("OSTLER_POOL", "")
    if not _POOL.fullmatch(pool):
        raise BadEnvironment("OSTLER_POOL", pool)
    worker = environment.get("OSTLER_WORKER", "")
    numbers = _SLOT_AND_GENERATION.fullmatch(worker)
    if numbers is None:
        raise BadEnvironment("OSTLER_WORKER", worker)
    fds = environment.get("OSTLER_FDS", "")

    def descriptor(name: str) -> int:
        fd = fd_named(fds, name)
        if fd is None:
            raise BadEnvironment("OSTLER_FDS", fds)
        return fd

    beside = fd_named(fds, "mailbox")
    return Place(
        name=WorkerName(pool, int(numbers[1]), int(numbers[2])),
        control=descriptor("control"),
        region=descriptor("region"),
        gauges=descriptor("gauges"),
        doorbell=descriptor("doorbell"),
        # Only beside listeners is it anywhere but in their place.
        mailbox=MAILBOX_FD if beside is None else beside,
        listeners=0 if beside is None else _listener_count(environment.get("LISTEN_FDS", ""), beside),
    )


def _listener_count(value: str, mailbox: int) -> int:
    count = int(value) if value.isascii() and value.isdecimal() else 0
    if not 1 <= count <= mailbox - MAILBOX_FD:
        raise BadEnvironment("LISTEN_FDS", value)
    return count


def fd_named(fds: str, name: str) -> Optional[int]:
    """The descriptor of this name in the value of `OSTLER_FDS`; names that nobody knows are passed over."""
    for pair in fds.split(","):
        key, _, number = pair.partition(":")
        if key == name:
            return int(number) if number.isascii() and number.isdecimal() and int(number) > MAILBOX_FD else None
    return None


def take_channel(fd: int, what: str) -> socket.socket:
    """Takes over an inherited SEQPACKET socket. What turns out to be something else stays open: it is somebody else's."""
    channel = _adopt(fd, what)
    if channel.type != socket.SOCK_SEQPACKET:
        channel.detach()
        raise NotOurs(fd, what, "it is a socket of another type")
    os.set_inheritable(fd, False)
    return channel


def take_listener(fd: int) -> socket.socket:
    """Takes over an inherited listener. What turns out to be something else stays open."""
    listener = _adopt(fd, "listener")
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.detach()
        raise NotOurs(fd, "listener", "it is a socket that does not listen")
    os.set_inheritable(fd, False)
    return listener


def _adopt(fd: int, what: str) -> socket.socket:
    """It stays blocking, whatever the program has set as default: the flag belongs to the description, which the supervisor
    shares."""
    default = socket.getdefaulttimeout()
    socket.setdefaulttimeout(None)
    try:
        return socket.socket(fileno=fd)
    except OSError as problem:
        raise NotOurs(fd, what, problem) from None
    finally:
        socket.setdefaulttimeout(default)


def take_descriptor(fd: int, what: str) -> int:
    """Takes over an inherited descriptor that has nothing by which to know it."""
    try:
        os.set_inheritable(fd, False)
    except OSError as problem:
        raise NotOurs(fd, what, problem) from None
    return fd
