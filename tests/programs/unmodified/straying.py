"""Loses its connections in the way that its argument says: children that nobody reaps, orphans, strangers that get them."""

import array
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
            os.execvp("sh", ["sh", "-c", "read line; printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n'"])
        connection.close()
        os.wait()
    elif mode == "spawn":
        subprocess.run(["true"], stdin=connection.fileno(), check=True)
        answer(connection)
    connection.close()
