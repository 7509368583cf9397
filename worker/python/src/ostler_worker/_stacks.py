"""Prints what each thread is doing, in Python: when the supervisor finds a request slow, and when the process is aborted.

By faulthandler, whose handlers run in the signal itself. So they also tell of a thread that is deep in a compiled module, or waits for
a lock for ever, and nothing has to be awake for it.
"""

from __future__ import annotations

import faulthandler
import signal
from typing import Final, Optional

STANDARD_ERROR: Final = 2
"""Where the supervisor reads what a worker prints, whatever the program has made of `sys.stderr`."""


def install() -> Optional[int]:
    """The signal at which the stacks are printed; `None` when the program uses all of those that mean nothing by themselves."""
    if not faulthandler.is_enabled():
        faulthandler.enable(STANDARD_ERROR)
    # From the end, since those who count up from the beginning are more.
    for number in range(signal.SIGRTMAX, signal.SIGRTMIN - 1, -1):
        if signal.getsignal(number) is signal.SIG_DFL:
            faulthandler.register(number, STANDARD_ERROR)
            return number
    return None
