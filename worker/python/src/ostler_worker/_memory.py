"""Maps the shared memory, and orders what is stored into it.

Python has no fences. What stands in their place, and why it is enough on x86-64 and aarch64, is argued in
docs/decisions/0012-python-fences-with-a-lock.md. In short: an item of a memoryview of format `Q` is one aligned load or store
of eight bytes, and a lock that is given back and taken again is a full fence.
"""

from __future__ import annotations

import mmap
import sys
import threading
from typing import Final

WORD_BYTES: Final = 8

Words = memoryview
"""Shared memory as words of the machine's byte order. An index is in words."""


def map_region(fd: int) -> Words:
    """Maps the memory that this worker writes."""
    return _words(_mapped(fd, mmap.ACCESS_WRITE))


def map_gauges(fd: int) -> Words:
    """Maps the memory that the supervisor writes, for reading."""
    return _words(_mapped(fd, mmap.ACCESS_READ))


def _mapped(fd: int, access: int) -> mmap.mmap:
    if sys.version_info >= (3, 13):
        # Before that the mapping keeps a duplicate of the descriptor, which nobody needs.
        return mmap.mmap(fd, 0, access=access, trackfd=False)
    return mmap.mmap(fd, 0, access=access)


def _words(memory: mmap.mmap) -> Words:
    return memoryview(memory).cast("Q")


class Fence:
    """Orders all loads and stores of a thread before a call with all behind it. Usable from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self) -> None:
        # Twice, so that a release stands before an acquire: a lock alone lets what is outside move in.
        with self._lock:
            pass
        with self._lock:
            pass
