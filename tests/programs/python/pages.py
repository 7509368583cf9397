"""Two WSGI applications for the suites: one of Flask, and one that is watched by wsgiref.validate.

Both answer `/` and `/sleep/MS` as the hello server does; Flask's also `/length` with how much was sent to it, and `/raise` fails.
"""

from __future__ import annotations

import os
import time
from typing import Any, Callable, Iterable
from wsgiref.validate import validator

import flask

flask_app = flask.Flask(__name__)


def who_am_i() -> str:
    return f"hello from worker={os.environ['OSTLER_POOL']}/{os.environ['OSTLER_WORKER']} pid={os.getpid()}\n"


@flask_app.get("/")
def root() -> str:
    return who_am_i()


@flask_app.get("/sleep/<int:ms>")
def sleep(ms: int) -> str:
    time.sleep(ms / 1000)
    return who_am_i()


@flask_app.route("/length", methods=["POST", "PUT"])
def length() -> str:
    total = 0
    while piece := flask.request.stream.read(16 * 1024):
        total += len(piece)
    return f"{total}\n"


@flask_app.get("/raise")
def fail() -> str:
    raise RuntimeError("it was asked to")


def _valid(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    words = environ["PATH_INFO"].strip("/").split("/")
    if words[0] == "sleep":
        time.sleep(int(words[1]) / 1000)
    body = who_am_i().encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


valid_app = validator(_valid)
