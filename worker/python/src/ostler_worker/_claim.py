"""Claims connections out of the mailbox, and none that can't be received (worker/src/claim.rs).

At its descriptor limit a process would receive the ticket and lose the connection. So a claim first looks: a peek delivers a
*copy* of the connection's descriptor and leaves the message, and only who holds a copy takes the message. Whatever happens to
the descriptor of the second step, the copy is the connection. One thread at a time has its turn.

    look ── copy ──► room for one more? ── yes ──► take ── the same one ──► ours, by either descriptor
      │                     no │                     └──── another, or none ► the copy's one was recalled: drop it;
      │                        ▼                                              another is ours as it came
      └─ truncated ► free the reserve, look again ── truncated ► starved: wait for a descriptor, leave in the end

A recall between the two steps may make the second one deliver another connection, which is why a claim needs two free places and
the reserve has as many. One loss remains possible, and is reported as truncated: such a recall while another thread opens a file
in the moment in which the second place is free.
"""

from __future__ import annotations

import array
import enum
import functools
import os
import socket
import sys
import time
from typing import Final, NamedTuple, Optional, Union

from ._completions import Outcome
from ._errors import REMEDY, STARVED_MAX_S, BadMessage, MailboxFailed, Starved
from ._report import say
from ._reserve import Room
from ._stage import Stage
from ._station import Station
from ._ticket import TICKET_LEN, BadTicket, Ticket, read_ticket

STARVED_RETRY_S: Final = 0.02
"""How long a worker without a free descriptor waits before it looks again, unless one of its connections ends."""

# Room for one descriptor. CMSG_SPACE would be padded to room for two.
_ONE_DESCRIPTOR: Final = socket.CMSG_LEN(4)

BLOCK: Final = 0
"""A look that waits: no flag of recvmsg(2). The other kind is `_DONTWAIT`."""

# As plain numbers: what an enum makes of an `|` costs more than the system call.
_SOL_SOCKET: Final = int(socket.SOL_SOCKET)
_SCM_RIGHTS: Final = int(socket.SCM_RIGHTS)
_CLOEXEC: Final = int(socket.MSG_CMSG_CLOEXEC)
_CTRUNC: Final = int(socket.MSG_CTRUNC)
_DONTWAIT: Final = int(socket.MSG_DONTWAIT)
_PEEK: Final = int(socket.MSG_PEEK)


class Word(enum.Enum):
    """What a mailbox says where it does not give a connection."""

    NOTHING = "nothing for now"
    CLOSED = "nothing may be taken for now, whatever waits: only of a worker that accepts for itself"
    STARVED = "a connection waits, and there is no descriptor for it"
    END = "nothing waits and nothing will come any more"


class Received(NamedTuple):
    """A connection."""

    fd: int
    ticket: Ticket


class Truncated(NamedTuple):
    """A ticket without its connection: gone if it was taken, still waiting if it was only looked at."""

    ticket: Ticket


Look = Union[Received, Word]


class Claims:
    """Who claims for a worker."""

    look_every_s: Optional[float] = None
    """After how long a wait that nothing has ended is to be ended, by another look."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._mailbox = station.mailbox
        self._starving_since: Optional[float] = None

    def claim(self) -> Optional[Received]:
        """Waits for the next connection; `None` when the worker shall leave. Raises a `NextError`."""
        station = self._station
        station.beat_while_idle()
        with station.turn:
            while True:
                look = self._claim_once(BLOCK)
                if isinstance(look, Received):
                    return look
                if look is Word.END:
                    return None
                if look is Word.STARVED:
                    station.reserve.wait(STARVED_RETRY_S)
                station.completions.beat()

    def fileno(self) -> int:
        """Readable when a look may bring something, and for ever when it brings the end."""
        return self._mailbox.fileno()

    def try_claim(self) -> Look:
        """As `claim`, without waiting for a connection, a descriptor or another thread."""
        if not self._station.turn.acquire(blocking=False):
            return Word.NOTHING  # it is that thread's
        try:
            return self._claim_once(_DONTWAIT)
        finally:
            self._station.turn.release()

    def _claim_once(self, wait: int) -> Look:
        stage = self._station.stage.get()
        if stage is Stage.LEAVING:
            return Word.END
        if stage is Stage.STARVED:
            raise Starved
        try:
            look = self._look(wait)
        except BadTicket as problem:
            raise BadMessage(problem) from None
        except OSError as problem:
            raise MailboxFailed(problem) from problem
        if look is Word.STARVED:
            return self._starve()
        self._starving_since = None
        if look is Word.END:
            self._station.advance(Stage.DRAINING)
        return look

    def _starve(self) -> Word:
        """Gives up in the end, unless nobody is left to take over."""
        now = time.monotonic()
        if self._starving_since is None:
            self._starving_since = now
        if now - self._starving_since < STARVED_MAX_S or not self._station.leave(Stage.STARVED):
            return Word.STARVED
        say(Starved())
        raise Starved

    def _look(self, wait: int) -> Look:
        try:
            try:
                seen = self._receive(wait | _PEEK)
                if isinstance(seen, Truncated):
                    self._station.reserve.lend()
                    seen = self._receive(_DONTWAIT | _PEEK)
            except BadTicket as problem:
                return self._discard(problem)
            if isinstance(seen, Received):
                return self._take(seen)
            return Word.STARVED if isinstance(seen, Truncated) else seen
        finally:
            self._station.reserve.take_back()

    def _take(self, seen: Received) -> Look:
        """Takes the message that was looked at, if it is still there."""
        # What is taken may be another connection, so the copy must not sit in the last free place.
        room = self._station.reserve.lend_another()
        if room is Room.LENT and not self._is_first(seen.ticket):
            os.close(seen.fd)
            return Word.NOTHING
        # Of an orphan nobody recalls any more, so what is taken is what was looked at.
        if room is Room.NONE and self._station.stage.get() is not Stage.ORPHANED:
            self._station.reserve.put_back(seen.fd)
            return Word.STARVED
        try:
            taken = self._receive(_DONTWAIT)
        except BaseException:
            os.close(seen.fd)
            raise
        if isinstance(taken, (Received, Truncated)) and taken.ticket.conn == seen.ticket.conn:
            if isinstance(taken, Received):
                os.close(taken.fd)
            return seen
        os.close(seen.fd)
        if isinstance(taken, Truncated):
            self._report_truncated(taken.ticket)
            return Word.NOTHING
        return taken

    def _is_first(self, ticket: Ticket) -> bool:
        """Whether it still waits at the head of the mailbox. Needs no descriptor."""
        try:
            message = self._mailbox.recv(TICKET_LEN, _PEEK | _DONTWAIT)
            return read_ticket(message).conn == ticket.conn
        except (BlockingIOError, BadTicket):
            return False

    def _discard(self, problem: BadTicket) -> Look:
        """Removes a message that is no connection, so that it does not stand in the way for ever."""
        taken = self._receive(_DONTWAIT)
        if isinstance(taken, Received):
            return taken  # the supervisor had removed it, and this is the next one
        if isinstance(taken, Truncated):
            self._report_truncated(taken.ticket)
        raise problem

    def _receive(self, flags: int) -> Union[Received, Truncated, Word]:
        try:
            message, ancillary, said, _address = self._mailbox.recvmsg(
                TICKET_LEN + 1,  # a longer message shows itself
                _ONE_DESCRIPTOR,
                flags | _CLOEXEC,
            )
        except BlockingIOError:
            return Word.NOTHING
        fds = _descriptors(ancillary)
        if not message and not fds:
            return Word.END
        try:
            ticket = _read_again(message)
        except BadTicket:
            _close_all(fds)
            raise
        if len(fds) == 1 and not said & _CTRUNC:
            return Received(fds[0], ticket)
        _close_all(fds)
        return Truncated(ticket)

    def _report_truncated(self, ticket: Ticket) -> None:
        say(f"lost conn=c{ticket.conn}: its file descriptor could not be received ({REMEDY})")
        now_ns = time.monotonic_ns()
        self._station.completions.note_claim(now_ns)
        self._station.report_end(ticket.conn, now_ns, Outcome.TRUNCATED)


# Each ticket comes twice: looked at, then taken.
_read_again: Final = functools.lru_cache(maxsize=1)(read_ticket)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    if len(ancillary) == 1:
        level, kind, data = ancillary[0]
        if level == _SOL_SOCKET and kind == _SCM_RIGHTS and len(data) == 4:
            return [int.from_bytes(data, sys.byteorder)]  # as always, and quicker than below
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == _SOL_SOCKET and kind == _SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return fds.tolist()


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
