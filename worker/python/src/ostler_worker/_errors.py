"""Says why a process is no worker, or can claim nothing more.

Each class is one reason; its text is for whoever reads the log, and says what to do next.
"""

from __future__ import annotations

STARVED_MAX_S = 1.0
"""How long a worker lets connections wait because it has no descriptor to receive them with, in seconds."""

REMEDY = "raise `process.nofile` of the pool, or close files in the handler"


class ConnectError(Exception):
    """Why this process is not a worker."""


class NotStarted(ConnectError):
    """It was started by hand."""

    def __init__(self, command: str) -> None:
        super().__init__(f"not started by ostler: try `ostler run --listen unix:app.sock -- {command}`")


class OtherProtocol(ConnectError):
    """The supervisor speaks another protocol."""


class IsTemplate(ConnectError):
    """It was started to fork workers, and would be one."""

    def __init__(self) -> None:
        super().__init__(
            "this pool has reload.template = true: have this program load everything in `ostler_worker.template(load)` "
            "before it connects, or remove reload.template"
        )


class BadTemplate(ConnectError):
    """It can't be a template: it has more than one thread."""

    def __init__(self, count: int, names: str) -> None:
        super().__init__(
            f"cannot be a template: it has {count} threads ({names}), and a forked worker would have one of them only: "
            "start threads after `template`, not in what it loads, or set reload.template = false"
        )


class BadEnvironment(ConnectError):
    """A variable that the supervisor sets is missing or makes no sense."""

    def __init__(self, name: str, value: str) -> None:
        super().__init__(f"the environment has {name}={value!r}, which ostler does not write")


class NotOurs(ConnectError):
    """A descriptor is not what the environment says."""

    def __init__(self, fd: int, what: str, problem: object) -> None:
        super().__init__(
            f"file descriptor {fd} is not ostler's {what} ({problem}): was this started by a worker, not by ostler, "
            "or in a `handoff` mode for other programs?"
        )


class ConnectedAlready(ConnectError):
    """This process has connected before. A worker has one place."""

    def __init__(self) -> None:
        super().__init__("connected already: a process is one worker")


class NotMainThread(ConnectError):
    """Python installs signal handlers in its main thread only."""

    def __init__(self) -> None:
        super().__init__("cannot listen to signals here: connect in the main thread, and serve in any")


class NoReserve(ConnectError):
    """There are not enough descriptors for the library itself."""

    def __init__(self, problem: OSError) -> None:
        super().__init__(
            f"cannot keep a file descriptor in reserve: {problem} (raise `process.nofile` of the pool)"
        )


class GreetingError(ConnectError):
    """The supervisor did not answer as it should."""

    def __init__(self, problem: object) -> None:
        super().__init__(f"cannot agree with the supervisor: {problem}")


class NextError(Exception):
    """Why no further connection can be claimed: finish what is claimed, and leave."""


class Starved(NextError):
    """This process had no free descriptor for `STARVED_MAX_S`, and has told the supervisor that it leaves."""

    def __init__(self) -> None:
        super().__init__(f"cannot claim connections: no free file descriptor for {STARVED_MAX_S:g}s ({REMEDY})")


class BadMessage(NextError):
    """The supervisor put something into the mailbox that is no connection."""

    def __init__(self, problem: object) -> None:
        super().__init__(f"cannot claim a connection: {problem}")


class MailboxFailed(NextError):
    """The kernel refused."""

    def __init__(self, problem: OSError) -> None:
        super().__init__(f"cannot receive a connection: {problem}")
