"""`hello.py`, loaded in a template where there is one.

`templated.py MODE JOURNAL [threads]`: each time that it loads, it adds a line to the file JOURNAL. `threads`: one is left behind.
"""

from __future__ import annotations

import os
import sys
import threading

import hello
import ostler_worker


def load() -> list[bytes]:
    with open(sys.argv[2], "a") as journal:
        journal.write(f"{os.getpid()}\n")
    if sys.argv[3:] == ["threads"]:
        threading.Thread(target=threading.Event().wait, name="left-behind", daemon=True).start()
    gone = threading.Thread(target=print, args=("a thread that ends",))
    gone.start()
    gone.join()
    return [bytes(1000)] * 1000


if __name__ == "__main__":
    loaded = ostler_worker.template(load)
    assert len(loaded) == 1000
    del sys.argv[2:]
    hello.main()
