"""Loads everything once and forks workers on request, so that a worker starts in about a millisecond and shares memory.

A worker is forked twice over: a go-between that ends at once makes it nobody's child but the supervisor's.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import socket
import sys
import threading
import time
from typing import Callable, Final, Mapping, NamedTuple, Optional, TypeVar

from . import _control, _wire
from ._errors import BadEnvironment, BadTemplate, NotMainThread
from ._place import MAILBOX_FD, TEMPLATE, fd_named
from ._title import Doing, show_template

THREADS_NAMED_MAX: Final = 4
"""Most threads that a refusal names."""
_THREADS_GONE_TIMEOUT_S: Final = 0.1
"""How long a thread that was joined may take until the kernel does not show it any more."""
_THREADS_LOOK_EVERY_S: Final = 0.001
_PID_BYTES: Final = 8

Loaded = TypeVar("Loaded")


def template(load: Callable[[], Loaded]) -> Loaded:
    """Gives what `load` gives; in one process for all workers where the pool has `reload.template = true`.

    There, `load` is called once per generation, in a process that forks the workers; in each of those this returns. Without
    templates it only calls `load`. Call it in the main thread, before anything that connects.

    `load` must leave no thread behind: a forked process has the one that forked it and no other. Files and connections that
    it opens are shared by all workers: open those after this. What it has made is not looked at by the collector of garbage
    any more (`gc.freeze`), so that it stays shared.
    """
    if TEMPLATE not in os.environ:
        return load()
    if threading.current_thread() is not threading.main_thread():
        raise NotMainThread
    post = _read_post(os.environ)
    show_template(os.environ.get("OSTLER_POOL", ""), post.generation, Doing.STARTING)
    channel = _take_control(post)
    control = _control.Control(channel)
    _control.introduce(control, _wire.hello_of_template(_control.LIBRARY), _control.WELCOME_TIMEOUT_S)
    loaded = load()
    gc.collect()
    gc.freeze()
    _refuse_threads()
    show_template(os.environ.get("OSTLER_POOL", ""), post.generation, Doing.READY)
    _fork_on_request(channel, control, post)
    return loaded


class _Post(NamedTuple):
    """What the environment says."""

    generation: str
    control: int
    """Its number, which stays taken, as do the others on which a worker has its descriptors."""
    others: tuple[int, ...]


def _read_post(environment: Mapping[str, str]) -> _Post:
    fds = environment.get("OSTLER_FDS", "")
    numbers = [fd_named(fds, name) for name in ("control", "region", "gauges", "doorbell")]
    found = [number for number in numbers if number is not None]
    if len(found) < len(numbers):
        raise BadEnvironment("OSTLER_FDS", fds)
    generation = environment.get("OSTLER_WORKER", "").rpartition(".")[2]
    return _Post(generation, found[0], tuple(found[1:]))


def _take_control(post: _Post) -> socket.socket:
    for number in (MAILBOX_FD, post.control, *post.others):
        os.set_inheritable(number, False)
    channel = socket.socket(fileno=os.dup(post.control))
    channel.setblocking(True)
    return channel


def _fork_on_request(channel: socket.socket, control: _control.Control, post: _Post) -> None:
    """Returns in a worker; a template ends here."""
    control.send(_wire.LOADED)
    while True:
        frame, fds, flags, _ = socket.recv_fds(
            channel, _wire.FRAME_MAX + 1, _wire.FORK_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
        if not frame and not fds:
            raise SystemExit(0)  # the supervisor is gone
        try:
            heard = _wire.decode(frame)
        except _wire.BadFrame:
            continue  # a newer supervisor may say what this library does not understand
        if isinstance(heard, _wire.Drain):
            raise SystemExit(0)
        if isinstance(heard, _wire.Ping):
            control.send(_wire.pong(heard.nonce))
        if isinstance(heard, _wire.Fork):
            is_whole = len(fds) == _wire.FORK_DESCRIPTORS and not flags & socket.MSG_CTRUNC
            answer = _answer(heard, fds, is_whole)
            if answer is None:
                _settle(heard, fds, post)
                channel.close()
                return
            control.send(answer)
        for fd in fds:
            os.close(fd)


def _answer(fork: _wire.Fork, fds: list[int], is_whole: bool) -> Optional[bytes]:
    """Forks, and says what became of it; `None` in the worker."""
    if not is_whole:
        text = "the template has no free descriptors: raise process.nofile"
        return _wire.not_forked(fork.request, _wire.NoFork.SHORTAGE, text)
    try:
        _refuse_threads()
        pid = _fork_for_the_supervisor()
    except BadTemplate as problem:
        return _wire.not_forked(fork.request, _wire.NoFork.UNFIT, str(problem))
    except OSError as problem:
        return _wire.not_forked(fork.request, _wire.NoFork.SHORTAGE, str(problem))
    return None if pid == 0 else _wire.forked(fork.request, pid)


def _fork_for_the_supervisor() -> int:
    """The worker's pid; 0 in the worker. By the time that the template has it, the worker is the supervisor's child."""
    for stream in (sys.stdout, sys.stderr):
        # What stands in a buffer, every worker would write again.
        if stream is not None:
            stream.flush()
    told, tell = os.pipe2(os.O_CLOEXEC)
    try:
        between = os.fork()
    except OSError:
        os.close(told)
        os.close(tell)
        raise
    if between == 0:
        worker = _fork_or_errno()
        if worker != 0:
            os.write(tell, worker.to_bytes(_PID_BYTES, "little", signed=True))
            os._exit(0)
        os.close(told)
        os.close(tell)
        return 0
    os.close(tell)
    said = os.read(told, _PID_BYTES)
    os.close(told)
    with contextlib.suppress(ChildProcessError):  # where SIGCHLD is ignored it is reaped as well
        os.waitpid(between, 0)
    pid = int.from_bytes(said, "little", signed=True)
    if pid <= 0:
        raise OSError(-pid or errno.EAGAIN, os.strerror(-pid or errno.EAGAIN))
    return pid


def _fork_or_errno() -> int:
    try:
        return os.fork()
    except OSError as problem:
        return -(problem.errno or errno.EAGAIN)


def _settle(fork: _wire.Fork, fds: list[int], post: _Post) -> None:
    """Puts what a worker has been given where an executed worker finds it."""
    region, gauges, doorbell = post.others
    for fd, place in zip(fds, (MAILBOX_FD, post.control, region, gauges, doorbell)):
        os.dup2(fd, place, inheritable=False)
    for fd, place in zip(fds[5:], (1, 2)):
        os.dup2(fd, place)
    for fd in fds:
        os.close(fd)
    os.environ["OSTLER_WORKER"] = f"{fork.slot}.{post.generation}"
    del os.environ[TEMPLATE]


def _refuse_threads() -> None:
    deadline = time.monotonic() + _THREADS_GONE_TIMEOUT_S
    while len(names := _thread_names()) > 1:
        if time.monotonic() >= deadline:
            raise BadTemplate(len(names), ", ".join(names[:THREADS_NAMED_MAX]))
        time.sleep(_THREADS_LOOK_EVERY_S)


def _thread_names() -> list[str]:
    """What the threads of this process are called, those of Python by the names that it knows."""
    known = {str(thread.native_id): thread.name for thread in threading.enumerate()}
    return [known.get(task, f"thread {task}") for task in sorted(os.listdir("/proc/self/task"), key=int)]
