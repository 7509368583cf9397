"""The command line of the WSGI server: `python -m ostler_worker.wsgi module:app`."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import NoReturn

from .. import ConnectError, NextError
from .._application import NoApplication, start
from . import Limits, serve_as

PROGRAM = "ostler_worker.wsgi"


def main() -> None:
    """Connects, loads the application, serves."""
    try:
        importlib.import_module("._talk", __package__)
    except ModuleNotFoundError as problem:
        _end(f"{problem}: pip install 'ostler-worker[http]'")
    options = _options(Limits())
    try:
        worker, application = start(options.application)
    except (ConnectError, NoApplication) as problem:
        _end(problem)
    limits = Limits(**{name: getattr(options, name) for name in Limits._fields})
    try:
        serve_as(worker, application, limits, options.access_log)
    except NextError as problem:
        _end(problem)


def _options(default: tuple[float, ...]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {PROGRAM}", description="Serves a WSGI application under ostler.")
    parser.add_argument("application", metavar="MODULE:NAME", help="what to import; NAME may have dots")
    parser.add_argument("--access-log", action="store_true", help="a line for each request")
    helps = {
        "head_bytes": "longest head of a request",
        "headers": "most header lines of a request",
        "body_bytes": "longest body of a request",
        "head_s": "seconds that a client may take to send a head",
        "keep_alive_s": "seconds that a connection is kept for another request; 0: not at all",
        "io_s": "seconds that a client may take to send more of a body or to take more of an answer",
    }
    for name, value in zip(Limits._fields, default):
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=type(value), default=value, metavar="N", help=f"{helps[name]} (%(default)s)")
    options = parser.parse_args()
    for name in Limits._fields:
        if getattr(options, name) < 0 or (getattr(options, name) == 0 and name != "keep_alive_s"):
            parser.error(f"--{name.replace('_', '-')} has to be more than 0")
    return options


def _end(why: object) -> NoReturn:
    sys.exit(f"{PROGRAM}: {why}")


if __name__ == "__main__":
    main()
