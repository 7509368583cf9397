"""Decides what a worker does with signals: TERM drains, the supervisor's other ones do nothing.

They do nothing by handlers, not by SIG_IGN: handlers end at exec(2), so the programs that a handler starts get the defaults
back. A handler that the program had installed before stays, and that for TERM still runs.

TERM reaches the watching thread in two ways, since a handler in Python waits until the main thread is between two steps, which
may be long: by the wake-up descriptor, which the interpreter writes to from the signal itself, and by the handler, for programs
whose event loop takes that descriptor over.
"""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType
from typing import Callable, Final, Optional, Union

_DONE_NOTHING_ABOUT: Final = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGPWR,
)
"""WINCH is not among them: it is ignored by default."""

_BLOCKED: Final = frozenset({signal.SIGTTIN, signal.SIGTTOU})
"""A handler for these makes a write to a terminal restart for ever, while the kernel lets a thread that blocks them through."""

_PR_SET_PDEATHSIG: Final = 1

_UNSET: Final = (signal.SIG_DFL, signal.default_int_handler)

Handler = Callable[[int, Optional[FrameType]], object]


def survive_the_supervisor() -> None:
    """Takes back that the kernel sends TERM when the supervisor dies, which is meant for programs that would not notice it.

    A worker sees it by its channels. TERM may come before they end, and would be taken for an order to leave at once to others
    who waits. In the main thread: the kernel keeps this for each (PR_SET_PDEATHSIG(2const)).
    """
    with contextlib.suppress(ImportError):  # an interpreter that was built without it
        import ctypes  # late: it takes milliseconds

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 0)


def install(told: int) -> None:
    """Installs all handlers, in the main thread. TERM writes its number to this descriptor, which does not block."""
    before: dict[signal.Signals, Union[Handler, int, None]] = {}
    for number in _DONE_NOTHING_ABOUT:
        if signal.getsignal(number) in _UNSET:
            before[number] = signal.signal(number, _do_nothing)
    signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    handled = signal.getsignal(signal.SIGTERM)
    before[signal.SIGTERM] = signal.signal(signal.SIGTERM, _Teller(told, handled if callable(handled) else None))
    woken = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    if woken != -1:
        signal.set_wakeup_fd(woken)  # somebody else's
    os.register_at_fork(after_in_child=lambda: _undo(before, told))


def _undo(before: dict[signal.Signals, Union[Handler, int, None]], told: int) -> None:
    """In a process that this one forks: it is no worker, and what it is told must not reach the worker through its pipe."""
    for number, handler in before.items():
        installed = signal.getsignal(number)
        if installed is _do_nothing or isinstance(installed, _Teller):
            signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)
    woken = signal.set_wakeup_fd(-1)
    if woken not in (-1, told):
        signal.set_wakeup_fd(woken)


def _do_nothing(_number: int, _frame: Optional[FrameType]) -> None:
    pass


class _Teller:
    """Handles TERM. Takes no lock: the main thread may hold any."""

    def __init__(self, told: int, before: Optional[Handler]) -> None:
        self._told = told
        self._before = before

    def __call__(self, number: int, frame: Optional[FrameType]) -> None:
        with contextlib.suppress(BlockingIOError):  # full of words that say the same
            os.write(self._told, bytes([number]))
        if self._before is not None:
            self._before(number, frame)
