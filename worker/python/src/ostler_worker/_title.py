"""Names this process after its worker, so that ps and top show which one is which and what it is about to do.

The name is that of the first thread, written a few times in a worker's life and never for a connection.
"""

from __future__ import annotations

import contextlib
import enum
from typing import Final

from ._place import WorkerName

TITLE_BYTES_MAX: Final = 15
"""TASK_COMM_LEN without its NUL. The kernel would cut the end off, which is the state."""


class Doing(enum.Enum):
    """What a worker is about to do."""

    STARTING = "start"
    READY = "ready"
    DRAINING = "drain"


def show(name: WorkerName, doing: Doing) -> None:
    """Shows it. A system that does not let it be shown loses nothing else."""
    _write(title(name, doing))


def show_template(pool: str, generation: str, doing: Doing) -> None:
    """The same for a template, which is in no slot."""
    place = f"/template.{generation} {doing.value[0]}"
    _write((pool[: max(TITLE_BYTES_MAX - len(place), 0)] + place)[:TITLE_BYTES_MAX])


def _write(text: str) -> None:
    with contextlib.suppress(OSError), open("/proc/self/comm", "wb") as comm:
        comm.write(text.encode())


def title(name: WorkerName, doing: Doing) -> str:
    """`web/3.7 ready`. Where that is too long, first the state becomes a letter, then the pool's name is cut."""
    whole = f"{name} {doing.value}"
    if len(whole) <= TITLE_BYTES_MAX:
        return whole
    place = f"/{name.slot}.{name.generation} {doing.value[0]}"
    return (name.pool[: max(TITLE_BYTES_MAX - len(place), 0)] + place)[:TITLE_BYTES_MAX]
