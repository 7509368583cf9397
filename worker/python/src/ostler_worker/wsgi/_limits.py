"""Names what a client may take of a WSGI server, in size and in time."""

from __future__ import annotations

from typing import Final, NamedTuple

READ_BYTES: Final = 64 * 1024
"""Most that is read from a client at a time."""
UNREAD_BYTES_MAX: Final = 64 * 1024
"""How much of a body that the application left unread is thrown away to keep the connection."""
CHUNK_OVERHEAD: Final = 16
"""How many bytes of framing a byte of a chunked body may have, beyond `head_bytes` for the whole body."""
FRESH_S: Final = 1.0
"""How long a worker that leaves waits for the first request of a connection that it was handed a moment ago."""
NAMES_KEPT: Final = 256
"""How many names of headers are remembered in the form in which they are needed."""
LINGER_S: Final = 0.5
"""How long a closing server waits for the client to close as well."""


class Limits(NamedTuple):
    """What the operator decides."""

    head_bytes: int = 32 * 1024
    """Longest head of a request: 431 beyond."""
    headers: int = 100
    """Most header lines of a request: 431 beyond."""
    body_bytes: int = 100 * 1024 * 1024
    """Longest body of a request: 413 beyond."""
    head_s: float = 10.0
    """How long a client may take to send a head, from its first byte or from the beginning of the connection: then 408."""
    keep_alive_s: float = 5.0
    """How long a connection is kept for another request; 0: one request per connection."""
    io_s: float = 30.0
    """How long a client may take to send more of a body, or to take more of an answer: then the connection is closed."""
