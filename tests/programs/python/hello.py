"""A worker in Python that answers as the hello server does, for the suites.

`hello.py MODE [MS]`: MODE is `pull` (one connection after the other), `serve` (threads above concurrency 1) or `asyncio`; MS are
milliseconds before it is ready. Routes: `/` and `/sleep/MS`; `/spin/MS` computes, also in an event loop; `/who` tells what is known
about the connection; `/raise` fails on purpose; `/glut` opens all descriptors that there are; `/fork` forks a process that says it
has ended the connection, and gets TERM.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time

import ostler_worker

HEAD_MAX = 8 * 1024
LINGER_S = 0.5
"""How long a closing server waits for the client to close as well."""


class OnPurpose(Exception):
    """What `/raise` raises."""


def main() -> None:
    mode = sys.argv[1]
    loading_s = int(sys.argv[2]) / 1000 if len(sys.argv) > 2 else 0.0
    try:
        worker = ostler_worker.connect()
    except ostler_worker.ConnectError as problem:
        sys.exit(f"hello.py: {problem}")
    time.sleep(loading_s)
    print(f"{worker.name} has loaded", flush=True)
    if mode == "pull":
        for connection in worker.connections():
            try:
                with connection:
                    serve(worker, connection)
            except OnPurpose as problem:
                print(f"raised {problem}", flush=True)
    elif mode == "serve":
        worker.serve(lambda connection: serve(worker, connection))
    elif mode == "asyncio":
        asyncio.run(worker.aserve(lambda connection: serve_async(worker, connection)))
    else:
        sys.exit(f"no mode {mode}")


def serve(worker: ostler_worker.Worker, connection: ostler_worker.Connection) -> None:
    marker = connection.mark_by_hand()
    head = b""
    while b"\r\n\r\n" not in head:
        more = connection.socket.recv(4096)
        if not more or len(head) > HEAD_MAX:
            return
        head += more
    words = head.split()[1].decode().strip("/").split("/")
    with marker.busy():
        if words[0] == "sleep":
            time.sleep(int(words[1]) / 1000)
        connection.socket.sendall(answer(worker, connection, words))
    linger(connection.socket)


async def serve_async(worker: ostler_worker.Worker, connection: ostler_worker.AsyncConnection) -> None:
    marker = connection.mark_by_hand()
    reader, writer = await connection.streams(limit=HEAD_MAX)
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return
    words = head.split()[1].decode().strip("/").split("/")
    with marker.busy():
        if words[0] == "sleep":
            await asyncio.sleep(int(words[1]) / 1000)
        writer.write(answer(worker, connection, words))
        await writer.drain()


def answer(
    worker: ostler_worker.Worker,
    connection: ostler_worker.Connection | ostler_worker.AsyncConnection,
    words: list[str],
) -> bytes:
    route = words[0]
    if route == "raise":
        raise OnPurpose("it was asked to")
    body = f"hello from worker={worker.name} pid={os.getpid()}"
    if route == "who":
        body += f" peer={connection.peer} conn=c{connection.ticket.conn} listener={connection.ticket.listener}"
        body += f" waited={connection.waited_s:.6f} pressure={connection.pressure}"
    elif route == "spin":
        end = time.monotonic() + int(words[1]) / 1000
        while time.monotonic() < end:
            pass
    elif route == "glut":
        body += f" files={glut()}"
    elif route == "fork":
        body += f" child={forked(connection)}"
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body) + 1}\r\nConnection: close\r\n\r\n"
    return f"{head}{body}\n".encode()


def glut() -> int:
    """Opens files until there is no descriptor left, and keeps them for a moment; how many."""
    files: list[int] = []
    try:
        while True:
            files.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        time.sleep(0.005)  # long enough for another thread to find nothing left
        return len(files)
    finally:
        for file in files:
            os.close(file)


def forked(connection: ostler_worker.Connection | ostler_worker.AsyncConnection) -> str:
    """What becomes of a child that thinks itself a worker."""
    child = os.fork()
    if child == 0:
        if isinstance(connection, ostler_worker.Connection):
            connection.close()
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(9)  # not reached where TERM has its default action back
    return signal.Signals(os.WTERMSIG(os.waitpid(child, 0)[1])).name


def linger(stream: socket.socket) -> None:
    """Ends our side and reads the client's to its end: closing with unread bytes would reset what was answered."""
    try:
        stream.shutdown(socket.SHUT_WR)
        stream.settimeout(LINGER_S)
        while stream.recv(512):
            pass
    except OSError:
        pass  # the client has gone, or takes its time


if __name__ == "__main__":
    main()
