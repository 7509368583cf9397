"""Words what a worker says on its standard error, which the supervisor records under the worker's name."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback


def say(text: object) -> None:
    """One line, or a few. A reader that is gone is nobody's concern."""
    # A broken pipe, a stream that the program has closed or replaced by something else, or none at all.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def say_failed(conn: int, problem: BaseException) -> None:
    """What a handler's exception looks like in the log."""
    trace = "".join(traceback.format_exception(type(problem), problem, problem.__traceback__))
    say(f"cannot finish conn=c{conn}: the handler raised {type(problem).__name__}\n{trace.rstrip()}")


def program() -> str:
    """How this program is called, for messages at its edge."""
    return os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] not in ("", "-c") else "ostler-worker"
