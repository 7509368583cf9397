"""Loses its connections in the way that its argument says: children that nobody reaps, orphans, strangers that get them."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time

mode = sys.argv[1]
if mode == "daemonise":
    if os.fork() != 0:
        sys.exit(0)
    time.sleep(3600)
if mode == "ignore":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
listener = socket.socket(fileno=3)
kept = []
libc = ctypes.CDLL(None)
ANSWER = b"read line; printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n'"


def answer(connection):
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


while True:
    connection, _ = listener.accept()
    if mode in ("ignore", "zombie"):
        if os.fork() == 0:
            time.sleep(3600)
    elif mode == "orphan":
        if os.fork() == 0:
            if os.fork() == 0:
                time.sleep(3600)
            os._exit(0)
        os.wait()
    elif mode == "pass":
        kept.append(socket.socketpair())
        socket.send_fds(kept[-1][0], [b"x"], [connection.fileno()])
        answer(connection)
    elif mode == "exec":
        if os.fork() == 0:
            os.dup2(connection.fileno(), 0)
            os.dup2(connection.fileno(), 1)
            os.execvp(b"sh", [b"sh", b"-c", ANSWER])
        connection.close()
        os.wait()
    elif mode == "execl":
        if os.fork() == 0:
            os.dup2(connection.fileno(), 0)
            os.dup2(connection.fileno(), 1)
            libc.execl(b"/bin/sh", b"sh", b"-c", ANSWER, None)
        connection.close()
        os.wait()
    elif mode == "execl_without":
        # What accept gives in Python is closed by exec.
        if os.fork() == 0:
            libc.execlp(b"sleep", b"sleep", b"3600", None)
        answer(connection)
    elif mode == "system":
        connection.set_inheritable(True)
        libc.system(b"true")
        answer(connection)
    elif mode in ("posix_spawn", "posix_spawnp"):
        os.dup2(connection.fileno(), 9)
        connection.close()
        # It answers, and holds the connection until the client has closed it.
        script = ANSWER + b" >&9; read line"
        spawn = getattr(os, mode)
        spawn("/bin/sh" if mode == "posix_spawn" else "sh", [b"sh", b"-c", b"exec <&9; " + script], os.environ)
        os.close(9)
        continue
    elif mode == "spawn":
        subprocess.run(["true"], stdin=connection.fileno(), check=True)
        answer(connection)
    connection.close()
