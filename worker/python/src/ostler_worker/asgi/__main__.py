"""The command line of the ASGI server: `python -m ostler_worker.asgi module:app`."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import NoReturn

from .. import ConnectError, NextError
from .._application import NoApplication, start
from . import Limits, StartupFailed, serve_as

PROGRAM = "ostler_worker.asgi"


def main() -> None:
    """Connects, loads the application, serves."""
    try:
        importlib.import_module("._server", __package__)
    except ModuleNotFoundError as problem:
        _end(f"{problem}: pip install 'ostler-worker[asgi]'")
    options = _options(Limits())
    try:
        worker, application = start(options.application)
        serve_as(worker, application, Limits(options.head_s, options.keep_alive_s), options.access_log)
    except (ConnectError, NoApplication, NextError, StartupFailed) as problem:
        _end(problem)


def _options(default: tuple[float, int]) -> argparse.Namespace:
    head_s, keep_alive_s = default
    parser = argparse.ArgumentParser(prog=f"python -m {PROGRAM}", description="Serves an ASGI application under ostler.")
    parser.add_argument("application", metavar="MODULE:NAME", help="what to import; NAME may have dots")
    parser.add_argument("--access-log", action="store_true", help="a line for each request")
    helps = {
        "--head-s": (head_s, "seconds that a client may take to send its first head"),
        "--keep-alive-s": (keep_alive_s, "seconds that a connection is kept for another request"),
    }
    for option, (value, text) in helps.items():
        parser.add_argument(option, type=type(value), default=value, metavar="N", help=f"{text} (%(default)s)")
    options = parser.parse_args()
    if options.head_s <= 0 or options.keep_alive_s <= 0:
        parser.error("--head-s and --keep-alive-s have to be more than 0")
    return options


def _end(why: object) -> NoReturn:
    sys.exit(f"{PROGRAM}: {why}")


if __name__ == "__main__":
    main()
