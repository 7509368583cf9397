"""A Flask application that has loaded MEGABYTES of data, as many small objects, before it serves."""

import os

from flask import Flask

RECORD_BYTES = 1000
DATA = [bytes([number % 251]) * RECORD_BYTES for number in range(int(os.environ.get("MEGABYTES", "0")) * 1000)]
LOADED_BY = os.getpid()

app = Flask(__name__)


@app.route("/")
def index() -> str:
    last = DATA[-1][0] if DATA else 0
    return f"worker={os.environ['OSTLER_POOL']}/{os.environ['OSTLER_WORKER']} pid={os.getpid()} last={last}\n"


@app.route("/loaded")
def loaded() -> str:
    return f"{LOADED_BY} {len(DATA)}\n"


@app.route("/sleep/<int:ms>")
def sleep(ms: int) -> str:
    import time

    time.sleep(ms / 1000)
    return index()
