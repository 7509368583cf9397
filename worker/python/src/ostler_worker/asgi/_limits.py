"""Names what a client may take of an ASGI server in time. In size it is uvicorn that limits, and the application."""

from __future__ import annotations

from typing import Final, NamedTuple

FRESH_S: Final = 1.0
"""How long a worker that leaves waits for the first request of a connection that it was handed a moment ago."""


class Limits(NamedTuple):
    """What the operator decides."""

    head_s: float = 10.0
    """How long a client may take for its first request, from the beginning of the connection to the end of the head."""
    keep_alive_s: int = 5
    """How long a connection is kept for another request, in whole seconds."""
