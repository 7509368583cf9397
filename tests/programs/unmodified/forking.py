"""Serves each connection in a process of its own, as inetd-like servers do; /hold keeps it. The parent only accepts."""

import os
import signal
import socket
import sys

WORKER = f"{os.environ['OSTLER_POOL']}/{os.environ['OSTLER_WORKER']}"
listener = socket.socket(fileno=3)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    connection, _ = listener.accept()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        listener.close()
        connection.recv(65536)
        body = f"hello worker={WORKER} pid={os.getppid()}\n".encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        connection.sendall(head + body)
        # What it leaves open is closed by its end.
        os._exit(0)
    connection.close()
